"""Sizes, padding and normalising, on images made here. Recorded official numbers: tests/parity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hoiclip.core.preprocess import PreprocessConfig, padded_size_for, preprocess, stack
from hoiclip_kernels.preprocess.plan import resized_hw
from hoiclip_kernels.preprocess.reference import CLIP_MEAN, CLIP_STD, DETECTOR_MEAN, DETECTOR_STD


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def official(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Tensor and normalise, step by step in float32 as torch does in the official code."""
    image_chw = np.array(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return np.asarray(
        (image_chw - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]
    )


@pytest.mark.parametrize(
    ("hw", "expected"),
    [
        ((720, 1280), (750, 1333)),  # the long side decides: round(1333 · 720 / 1280) = round(749.8)
        ((480, 640), (800, 1066)),  # truncated, not rounded: 1066.67
        ((640, 427), (1199, 800)),
        ((800, 1000), (800, 1000)),
        ((1000, 1000), (800, 800)),
        ((100, 10000), (13, 1300)),
        ((1, 5000), (1, 1333)),  # where the official code makes an image without height
        ((5000, 1), (1333, 1)),
        ((1, 1), (800, 800)),
    ],
)
def test_official_size(hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_hw(*hw, 800, 1333) == expected


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (50, 50), (33, 32), (32, 71)])
def test_detector_and_clip_image_are_the_official_ones(size: tuple[int, int]) -> None:
    config = PreprocessConfig(short_side_px=48, max_side_px=80, clip_side_px=32)
    rgb = noise(*size)
    model_input = preprocess(rgb, config)

    height, width = resized_hw(*size, 48, 80)
    resized = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(model_input.detector_bchw[0], official(resized, DETECTOR_MEAN, DETECTOR_STD))
    assert not model_input.mask_bhw.any()

    long = int(32 * max(height, width) / min(height, width))
    small = resized.resize((32, long) if width < height else (long, 32), Image.Resampling.BICUBIC)
    left, top = round((small.width - 32) / 2), round((small.height - 32) / 2)
    crop = small.crop((left, top, left + 32, top + 32))
    np.testing.assert_array_equal(model_input.clip_bchw[0], official(crop, CLIP_MEAN, CLIP_STD))


def test_padded_size_pads_right_and_bottom_with_zeros() -> None:
    rgb = noise(48, 60)
    config = PreprocessConfig(short_side_px=48, max_side_px=80, clip_side_px=32)
    exact = preprocess(rgb, config)
    padded = preprocess(rgb, PreprocessConfig(short_side_px=48, max_side_px=80, clip_side_px=32, padded_hw=(64, 96)))
    assert padded.detector_bchw.shape == (1, 3, 64, 96)
    assert padded.image_hw == exact.image_hw == ((48, 60),)
    np.testing.assert_array_equal(padded.detector_bchw[:, :, :48, :60], exact.detector_bchw)
    np.testing.assert_array_equal(padded.clip_bchw, exact.clip_bchw)
    assert not padded.mask_bhw[0, :48, :60].any()
    assert padded.mask_bhw.sum() == 64 * 96 - 48 * 60
    assert not padded.detector_bchw.transpose(0, 2, 3, 1)[padded.mask_bhw].any()


@pytest.mark.parametrize(
    ("hw", "padded_hw", "expected"),
    [
        ((100, 200), (40, 80), (40, 80)),
        ((100, 200), (48, 40), (20, 40)),
        ((200, 100), (40, 80), (40, 20)),
        ((1, 5000), (32, 32), (1, 32)),
    ],
)
def test_image_too_large_for_the_padded_size_shrinks(
    hw: tuple[int, int], padded_hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    config = PreprocessConfig(short_side_px=48, max_side_px=100, clip_side_px=32, padded_hw=padded_hw)
    model_input = preprocess(noise(*hw), config)
    assert model_input.image_hw == (expected,)
    assert model_input.original_hw == (hw,)


def test_padded_size_of_a_stream_holds_its_frames_at_the_official_size() -> None:
    config = PreprocessConfig()
    assert padded_size_for(720, 1280, config, 32) == (768, 1344)
    assert padded_size_for(800, 1024, config, 32) == (800, 1024)
    assert padded_size_for(720, 1280, config, multiple=1) == resized_hw(720, 1280, 800, 1333)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.tuples(st.just(1), st.integers(1, 5000)),
        st.tuples(st.integers(1, 5000), st.just(1)),
    ),
    padded_hw=st.one_of(st.none(), st.tuples(st.integers(1, 90), st.integers(1, 90))),
)
def test_padded_size_fits_every_image(size: tuple[int, int], padded_hw: tuple[int, int] | None) -> None:
    config = PreprocessConfig(short_side_px=32, max_side_px=53, clip_side_px=16, padded_hw=padded_hw)
    model_input = preprocess(noise(*size), config)
    height, width = model_input.image_hw[0]
    assert model_input.mask_bhw.shape[1:] == (padded_hw or (height, width))
    assert np.count_nonzero(~model_input.mask_bhw) == height * width > 0
    assert model_input.clip_bchw.shape == (1, 3, 16, 16)
    assert np.isfinite(model_input.detector_bchw).all()
    assert np.isfinite(model_input.clip_bchw).all()


@pytest.mark.parametrize("size", [(10, 400), (400, 10)])
def test_clip_image_of_a_very_long_image_is_the_centre(size: tuple[int, int]) -> None:
    rgb = noise(*size)
    side = 8
    config = PreprocessConfig(short_side_px=10, max_side_px=400, clip_side_px=side)
    long = side * 40  # beyond 16 crops
    whole = Image.fromarray(rgb).resize((side, long) if size[1] == 10 else (long, side), Image.Resampling.BICUBIC)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    expected = official(whole.crop((left, top, left + side, top + side)), CLIP_MEAN, CLIP_STD)
    one_level = 1 / 255 / min(CLIP_STD)  # PIL computes the crop in float32
    np.testing.assert_allclose(preprocess(rgb, config).clip_bchw[0], expected, rtol=0, atol=one_level * 1.01)


def test_view_of_a_larger_image_gives_the_same_as_a_copy() -> None:
    config = PreprocessConfig(short_side_px=16, max_side_px=40, clip_side_px=8)
    view = noise(40, 60)[::2, ::-1]
    np.testing.assert_array_equal(preprocess(view, config).clip_bchw, preprocess(view.copy(), config).clip_bchw)


def test_stack_is_padded_to_the_largest() -> None:
    config = PreprocessConfig(short_side_px=16, max_side_px=40, clip_side_px=8)
    singles = [preprocess(noise(*size), config) for size in ((20, 30), (30, 20))]
    both = stack(singles)
    assert both.detector_bchw.shape == (2, 3, 24, 24)
    assert (both.image_hw, both.original_hw) == (((16, 24), (24, 16)), ((20, 30), (30, 20)))
    for i, single in enumerate(singles):
        height, width = single.image_hw[0]
        np.testing.assert_array_equal(both.detector_bchw[i, :, :height, :width], single.detector_bchw[0])
        np.testing.assert_array_equal(both.clip_bchw[i], single.clip_bchw[0])
        assert np.count_nonzero(~both.mask_bhw[i]) == height * width
        assert not both.detector_bchw[i][:, both.mask_bhw[i]].any()


def test_stack_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        stack([])


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.ones((4, 4, 3))],
)
def test_arrays_that_are_no_rgb_image_are_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="RGB"):
        preprocess(wrong, PreprocessConfig())


@pytest.mark.parametrize("wrong", [{"short_side_px": 0}, {"max_side_px": -1}, {"padded_hw": (0, 32)}])
def test_config_without_pixels_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 px"):
        PreprocessConfig(**wrong)  # type: ignore[arg-type]
