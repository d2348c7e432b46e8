"""Real files through the whole command: every frame in every output, or one clear refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest

from hoiclip.core.errors import SourceError
from hoiclip_engine.cli.main import main
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.file import open_video
from tests.engine.untrained import untrained_model

pytestmark = pytest.mark.thorough

OPTIONS = ["--backend", "torch", "--short-side", "64"]
MAX_FRAMES = 8
"""Frames of a quick run."""
QUICK_BYTES = 400_000


def expected_times(path: Path, max_frames: int | None) -> list[float]:
    """Times of the source alone; test_real_videos.py compares them with PyAV."""
    with open_video(path, SourceConfig(max_frames=max_frames)) as source:
        return [frame.pts_s for frame in source]


def check_run(path: Path, folder: Path, max_frames: int | None, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the file was read; any error of the run raises."""
    jsonl, video = folder / f"{path.name}.jsonl", folder / f"{path.name}.mkv"
    limits = [] if max_frames is None else ["--max-frames", str(max_frames)]
    outputs = ["--jsonl", str(jsonl), "-o", str(video)]
    code = main(["run", str(path), "--model", str(untrained_model()), *OPTIONS, *outputs, *limits])
    out, err = capsys.readouterr()
    assert out == "", path.name
    try:
        times = expected_times(path, max_frames)
    except SourceError:
        assert (code, err.count("\n")) == (3, 1), path.name
        assert not jsonl.exists(), path.name
        assert not video.exists(), path.name
        return False
    assert code == 0, err
    lines: list[dict[str, Any]] = [json.loads(line) for line in jsonl.read_text(encoding="utf-8").splitlines()]
    frames = [line for line in lines if line["type"] == "frame"]
    assert [frame["index"] for frame in frames] == list(range(len(times))), path.name
    assert [frame["pts_s"] for frame in frames] == pytest.approx(times, abs=1e-6), path.name
    assert lines[-1]["decoded"] == len(times), path.name
    assert_video(video, times)
    video.unlink()
    return True


def assert_video(video: Path, times: list[float]) -> None:
    with av.open(str(video)) as container:
        written = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert len(written) == len(times), video.name
    shift_s = max(0.0, -times[0])  # a file begins at zero at the earliest
    # Half a tick of Matroska, and a frame in the same tick as the previous one moves to the next.
    assert written == pytest.approx([pts_s + shift_s for pts_s in times], abs=2.1e-3), video.name


def test_small_real_files_run_completely_or_are_refused(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [p for p in sorted((shared / "data" / "videos").iterdir()) if p.stat().st_size < QUICK_BYTES]
    read = [check_run(path, tmp_path, MAX_FRAMES, capsys) for path in small]
    assert read.count(True) >= 5
    assert read.count(False) >= 1


def test_real_photo_run_is_one_frame(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = min((shared / "data" / "images").rglob("*.jpg"), key=lambda path: path.stat().st_size)
    assert check_run(photo, tmp_path, None, capsys)


@pytest.mark.slow
def test_every_frame_of_real_files_is_in_every_output(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = sorted((shared / "data" / "videos").iterdir())
    read = [check_run(path, tmp_path, None, capsys) for path in videos]
    assert read.count(True) > 20
    assert read.count(False) >= 3
