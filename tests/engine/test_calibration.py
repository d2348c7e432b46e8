"""The images an engine is calibrated and checked on: seeded, recorded, from any readable source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hoiclip.core.errors import SourceError, UsageError
from hoiclip_engine.quantization import calibration
from hoiclip_engine.quantization.calibration import CalibrationConfig, CalibrationSet, calibration_set
from tests.engine.video_files import index_of, write_clip


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", [40 * n for n in range(20)])


def frames_of(chosen: CalibrationSet) -> list[int]:
    return [round(index_of(rgb)) for rgb in (*chosen.calibrated, *chosen.checked)]


def test_calibration_frames_are_chosen_from_all_of_a_video_and_none_twice(video: Path) -> None:
    chosen = calibration_set(CalibrationConfig(source=str(video), count=6, checked=2, seed=1))
    found = frames_of(chosen)
    assert len(found) == len(set(found)) == 8
    assert max(found) >= 10
    assert (len(chosen.calibrated), len(chosen.checked)) == (6, 2)


def test_seed_decides_the_frames_and_is_recorded(video: Path) -> None:
    first, same, other = (
        calibration_set(CalibrationConfig(source=str(video), count=6, checked=2, seed=seed)) for seed in (1, 1, 2)
    )
    assert frames_of(first) == frames_of(same) != frames_of(other)
    assert first.about == same.about
    assert first.about["pixels_sha256"] != other.about["pixels_sha256"]
    assert first.about["source"] == "film.mp4"
    assert (first.about["seed"], first.about["count"], first.about["checked"]) == (1, 6, 2)


def test_short_video_gives_all_its_frames(video: Path) -> None:
    chosen = calibration_set(CalibrationConfig(source=str(video), count=300, checked=4))
    assert sorted(frames_of(chosen)) == list(range(20))
    assert len(chosen.checked) == 4


def test_single_image_is_calibrated_and_checked_on(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "single.png")
    chosen = calibration_set(CalibrationConfig(source=str(tmp_path / "single.png")))
    assert len(chosen.calibrated) == len(chosen.checked) == 1


def test_folder_gives_its_readable_files(tmp_path: Path, video: Path) -> None:
    for level in (50, 120):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(tmp_path / f"{level}.png")
    (tmp_path / "film.mp4").write_bytes(video.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    chosen = calibration_set(CalibrationConfig(source=str(tmp_path), count=2, checked=1))
    assert len(chosen.calibrated) + len(chosen.checked) == 3


@pytest.mark.thorough
def test_synthetic_calibration_scenes_are_not_those_of_the_test_set() -> None:
    from hoiclip.synthetic.fixed_sets import synthetic_set

    chosen = calibration_set(CalibrationConfig(count=3, checked=1))
    tested = synthetic_set("test").images
    assert not any(np.array_equal(rgb, tested.rgb(index)) for rgb in chosen.calibrated for index in range(4))
    assert chosen.about["source"] == "drawn"


def test_fewer_large_images_are_kept(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MAX_KEPT_BYTES", 5 * 64 * 48 * 3)
    chosen = calibration_set(CalibrationConfig(source=str(video), count=300, checked=2))
    assert len(chosen.calibrated) + len(chosen.checked) == 5


def test_source_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found none that can be read"):
        calibration_set(CalibrationConfig(source=str(tmp_path)))
    with pytest.raises(SourceError):
        calibration_set(CalibrationConfig(source=str(tmp_path / "missing.mp4")))
    with pytest.raises(UsageError):
        CalibrationConfig(count=0)


def test_password_in_the_source_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        calibration_set(CalibrationConfig(source="rtsp://user:secret@127.0.0.1:1/stream"))
    assert "secret" not in str(raised.value)
