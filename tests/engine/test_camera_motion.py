"""Camera motion, found from two images."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from hoiclip_engine.track.camera_motion import CameraMotion, CameraMotionConfig, still

NO_BOXES = np.empty((0, 4))
HEIGHT, WIDTH = 480, 642


def world(seed: int = 0) -> np.ndarray:
    """Blotches, with corners at every scale that is compared."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)


def affine(turn_deg: float, zoom: float, shift: tuple[float, float]) -> np.ndarray:
    """About the middle of the image."""
    middle = np.array([WIDTH, HEIGHT]) / 2
    matrix = cv2.getRotationMatrix2D(tuple(middle), turn_deg, zoom)
    matrix[:, 2] += shift
    return matrix


def moved(rgb: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(rgb, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize(
    "matrix",
    [affine(0, 1, (0, 0)), affine(0, 1, (25, -14)), affine(2, 1, (8, 3)), affine(-1, 1.06, (-12, 6))],
    ids=["still", "shifted", "turned", "zoomed"],
)
def test_camera_motion_is_found_to_a_pixel(matrix):
    camera, rgb = CameraMotion(), world()
    np.testing.assert_array_equal(camera.see(rgb, NO_BOXES), still())
    found = camera.see(moved(rgb, matrix), NO_BOXES)
    corners = np.array([[100, 100], [WIDTH - 100, 100], [WIDTH / 2, HEIGHT - 100]])
    for corner in corners:  # half a pixel of the small image, which is half as large
        np.testing.assert_allclose(found[:, :2] @ corner + found[:, 2], matrix[:, :2] @ corner + matrix[:, 2], atol=1.0)


def test_tracked_boxes_do_not_count_as_background():
    """Someone who covers most of the image walks by before a camera that stands still."""
    rgb, walker = world(0), world(1)
    boxes = np.array([[60.0, 40.0, 560.0, 470.0]])
    before, after = rgb.copy(), rgb.copy()
    before[40:470, 60:560] = walker[40:470, 60:560]
    after[40:470, 70:570] = walker[40:470, 60:560]
    masked, unmasked = CameraMotion(), CameraMotion()
    masked.see(before, boxes)
    unmasked.see(before, NO_BOXES)
    np.testing.assert_allclose(masked.see(after, boxes), still(), atol=1.0)  # half a pixel of the small image
    assert abs(unmasked.see(after, NO_BOXES)[0, 2]) > 5


@pytest.mark.parametrize(
    "after", [world(9), np.zeros((HEIGHT, WIDTH, 3), np.uint8), world()[: HEIGHT // 2]], ids=["cut", "black", "smaller"]
)
def test_camera_stands_still_without_certain_motion(after):
    camera = CameraMotion()
    camera.see(world(), NO_BOXES)
    np.testing.assert_array_equal(camera.see(np.ascontiguousarray(after), NO_BOXES), still())


def test_camera_motion_is_reproducible_with_unusable_boxes():
    boxes = np.array(
        [
            [np.nan] * 4,
            [-1e308, -1e308, 1e308, 50],
            [-np.inf, -np.inf, -1e308, 0],
            [-1e9, -1e9, 1e9, 50],
            [10, 10, 5, 5],
            [700, 500, 900, 900],
        ]
    )
    matrix = affine(1, 1, (9, 9))
    found = []
    for _ in range(2):
        camera = CameraMotion()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            camera.see(world(), boxes)
            found.append(camera.see(moved(world(), matrix), boxes))
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], matrix, atol=2)  # the upper edge is covered, which leaves fewer corners


@pytest.mark.parametrize(
    "wrong", [{"long_side_px": 8}, {"min_points": 2}, {"min_inlier_fraction": 0.0}, {"max_zoom": 1.0}]
)
def test_invalid_camera_motion_config_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        CameraMotionConfig(**wrong)
