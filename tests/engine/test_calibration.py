"""Which pictures an engine is calibrated and checked on: seeded, told, from whatever can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hoiclip.errors import SourceError, UsageError
from hoiclip_engine import calibration
from hoiclip_engine.calibration import CalibrationConfig, CalibrationSet, calibration_set
from tests.engine.making_videos import index_of, write_clip


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", [40 * n for n in range(20)])


def frames_of(chosen: CalibrationSet) -> list[int]:
    return [round(index_of(rgb)) for rgb in (*chosen.calibrated, *chosen.checked)]


def test_frames_are_chosen_from_all_of_a_film_and_none_twice(film: Path) -> None:
    chosen = calibration_set(CalibrationConfig(source=str(film), count=6, checked=2, seed=1))
    found = frames_of(chosen)
    assert len(found) == len(set(found)) == 8
    assert max(found) >= 10
    assert (len(chosen.calibrated), len(chosen.checked)) == (6, 2)


def test_the_seed_decides_and_the_record_tells(film: Path) -> None:
    one, same, other = (
        calibration_set(CalibrationConfig(source=str(film), count=6, checked=2, seed=seed)) for seed in (1, 1, 2)
    )
    assert frames_of(one) == frames_of(same) != frames_of(other)
    assert one.about == same.about
    assert one.about["pixels_sha256"] != other.about["pixels_sha256"]
    assert one.about["source"] == "film.mp4"
    assert (one.about["seed"], one.about["count"], one.about["checked"]) == (1, 6, 2)


def test_a_short_film_gives_what_it_has(film: Path) -> None:
    chosen = calibration_set(CalibrationConfig(source=str(film), count=300, checked=4))
    assert sorted(frames_of(chosen)) == list(range(20))
    assert len(chosen.checked) == 4


def test_one_picture_is_calibrated_and_checked_on(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "one.png")
    chosen = calibration_set(CalibrationConfig(source=str(tmp_path / "one.png")))
    assert len(chosen.calibrated) == len(chosen.checked) == 1


def test_of_a_folder_what_can_be_read(tmp_path: Path, film: Path) -> None:
    for level in (50, 120):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(tmp_path / f"{level}.png")
    (tmp_path / "film.mp4").write_bytes(film.read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    chosen = calibration_set(CalibrationConfig(source=str(tmp_path), count=2, checked=1))
    assert len(chosen.calibrated) + len(chosen.checked) == 3


def test_drawn_scenes_are_not_those_of_the_test_set() -> None:
    from hoiclip_engine.measured_set import drawn_set

    chosen = calibration_set(CalibrationConfig(count=3, checked=1))
    tested = drawn_set("test").pictures
    assert not any(np.array_equal(rgb, tested.rgb(index)) for rgb in chosen.calibrated for index in range(4))
    assert chosen.about["source"] == "drawn"


def test_large_pictures_are_fewer(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_BYTES", 5 * 64 * 48 * 3)
    chosen = calibration_set(CalibrationConfig(source=str(film), count=300, checked=2))
    assert len(chosen.calibrated) + len(chosen.checked) == 5


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found none that can be read"):
        calibration_set(CalibrationConfig(source=str(tmp_path)))
    with pytest.raises(SourceError):
        calibration_set(CalibrationConfig(source=str(tmp_path / "missing.mp4")))
    with pytest.raises(UsageError):
        CalibrationConfig(count=0)


def test_a_password_in_the_source_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as told:
        calibration_set(CalibrationConfig(source="rtsp://user:secret@127.0.0.1:1/stream"))
    assert "secret" not in str(told.value)
