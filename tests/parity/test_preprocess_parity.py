"""Both inputs of the model against recorded official ones: bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip_kernels.preprocess.reference import DETECTOR_MEAN, DETECTOR_STD
from tests.parity.golden import golden_photo, salt

Photo = tuple[int, NDArray[np.uint8], ModelInput]


@pytest.fixture(scope="module")
def recorded(parity_dir: Path) -> dict[str, NDArray[np.generic]]:
    with np.load(parity_dir / "preprocess.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def photos(recorded: dict[str, NDArray[np.generic]], parity_dir: Path) -> list[Photo]:
    indices = sorted(int(key.removeprefix("photo_hw_")) for key in recorded if key.startswith("photo_hw_"))
    assert indices
    made = []
    for i in indices:
        height, width = map(int, recorded[f"photo_hw_{i}"])
        photo = golden_photo(f"photo{i}", height, width, salt(parity_dir))
        np.testing.assert_array_equal(photo[::8, ::8], recorded[f"photo_u8_s8_{i}"])
        made.append((i, photo, preprocess(photo, PreprocessConfig())))
    return made


def test_resized_image(recorded: dict[str, NDArray[np.generic]], photos: list[Photo]) -> None:
    for i, photo, model_input in photos:
        assert model_input.original_hw == (photo.shape[:2],)
        assert model_input.image_hw == (tuple(recorded[f"resized_hw_{i}"]),)
        unit = model_input.detector_bchw[0].transpose(1, 2, 0) * np.array(DETECTOR_STD) + np.array(DETECTOR_MEAN)
        np.testing.assert_array_equal(np.rint(unit * 255)[::8, ::8], recorded[f"resized_u8_s8_{i}"])


def test_detector_input(recorded: dict[str, NDArray[np.generic]], photos: list[Photo]) -> None:
    for i, _, model_input in photos:
        image_chw = model_input.detector_bchw[0]
        np.testing.assert_array_equal(image_chw[:, ::16, ::16], recorded[f"det_s16_{i}"])
        wide = image_chw.astype(np.float64)
        stat = [wide.mean(), wide.std(), np.abs(wide).max(), np.linalg.norm(wide)]
        np.testing.assert_allclose(stat, recorded[f"det_stat_{i}"], rtol=1e-9)


def test_clip_input(recorded: dict[str, NDArray[np.generic]], photos: list[Photo]) -> None:
    for i, _, model_input in photos:
        expected = recorded[f"clip_input_{i}"]
        step = -(-model_input.clip_bchw.shape[3] // expected.shape[2])
        np.testing.assert_array_equal(model_input.clip_bchw[0, :, ::step, ::step], expected)
