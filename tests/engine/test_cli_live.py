"""Live runs and runs of several sources: outputs, counts and messages, and how they end."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hoiclip_engine.cli.main import main
from tests.engine.run_processes import QUICK_BACKEND, json_lines, of_type, start, times_of, wait_for_frames
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip

pytestmark = pytest.mark.thorough

STEP_MS = 40
LONG = 3000


@pytest.fixture(scope="module")
def model() -> Path:
    return untrained_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [STEP_MS * i for i in range(25)])


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", [STEP_MS * i for i in range(LONG)])


def test_file_plays_in_real_time_and_every_frame_is_counted(clip: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    argv = ["run", clip, "--jsonl", out, "--model", model, "--backend", QUICK_BACKEND, "--policy", "latest"]
    assert main([str(word) for word in argv]) == 0
    lines = json_lines(out.read_text(encoding="utf-8"))
    frames, summary = of_type(lines, "frame"), lines[-1]
    assert summary["decoded"] == 25
    assert summary["decoded"] == len(frames) + summary["dropped"]
    assert summary["wall_s"] >= 24 * STEP_MS / 1e3  # the last frame is shown when it is due
    assert [frame["pts_s"] for frame in frames] == [frame["index"] * STEP_MS / 1e3 for frame in frames]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_live_run_within_a_second(
    number: signal.Signals, long_clip: Path, model: Path, tmp_path: Path
) -> None:
    jsonl, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    process = start(long_clip, "--jsonl", jsonl, "-o", video, "--model", model, "--policy", "latest")
    wait_for_frames(process, jsonl, 5)
    begun = time.monotonic()
    process.send_signal(number)
    while not jsonl.read_text(encoding="utf-8").endswith("}\n") or '"summary"' not in jsonl.read_text(encoding="utf-8"):
        assert time.monotonic() - begun < 1.0
        time.sleep(0.01)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, err
    lines = json_lines(jsonl.read_text(encoding="utf-8"))
    assert lines[-1]["interrupted"] is True
    assert lines[-1]["decoded"] == len(of_type(lines, "frame")) + lines[-1]["dropped"]
    assert len(times_of(video)) == len(of_type(lines, "frame"))


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs pipes of a chosen size, which Linux has")
@pytest.mark.parametrize("policy", ["lossless", "latest"])
def test_second_sigint_ends_a_run_whose_output_hangs(policy: str, long_clip: Path, model: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    process = start(long_clip, "--jsonl", pipe, "--model", model, "--policy", policy)
    with pipe.open(encoding="utf-8") as reader:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        assert "header" in reader.readline()
        time.sleep(2.0)  # nothing is read: the pipe fills, then the queues
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.0)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=10)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_several_files_run_one_after_the_other_and_a_bad_one_is_reported(
    clip: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        shutil.copy(clip, tmp_path / f"{name}.mp4")
    (tmp_path / "broken.mp4").write_text("no video\n" * 99, encoding="utf-8")
    out = tmp_path / "out"
    argv = ["run", tmp_path, "--jsonl", out, "--model", model, "--backend", QUICK_BACKEND, "--max-frames", 6]
    assert main([str(word) for word in argv]) == 7
    assert sorted(path.name for path in out.iterdir()) == ["a.jsonl", "b.jsonl"]
    for path in out.iterdir():
        lines = json_lines(path.read_text(encoding="utf-8"))
        assert len(of_type(lines, "frame")) == 6
        assert lines[-1]["type"] == "summary"
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hoiclip:")]
    assert len(errors) == 1
    assert "broken.mp4" in errors[0]


@pytest.mark.parametrize("policy", ["lossless", "latest"])
def test_sources_that_run_together_give_what_each_alone_gives(
    policy: str, clip: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="several images at once need a graph of their own")
    narrow = write_clip(tmp_path / "narrow.mp4", [STEP_MS * i for i in range(10)], size_px=(96, 128))
    for name, sources in (("alone", [narrow]), ("together", [clip, narrow])):
        argv = ["run", *sources, "--jsonl", tmp_path / name, "--model", model, "--backend", QUICK_BACKEND, "--batch", 2]
        assert main([str(word) for word in [*argv, "--policy", policy]]) == 0
    alone = json_lines((tmp_path / "alone").read_text(encoding="utf-8"))
    together = json_lines((tmp_path / "together" / "narrow.jsonl").read_text(encoding="utf-8"))
    assert alone[0] == together[0]
    if policy == "lossless":  # live, other frames are skipped
        assert len(alone) == len(together)
    frames = {line["index"]: line for line in of_type(together, "frame")}
    shared = [line for line in of_type(alone, "frame") if line["index"] in frames]
    assert shared
    for line in shared:
        assert line["pts_s"] == frames[line["index"]]["pts_s"]


def test_sources_of_which_none_can_be_read_are_a_source_error(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "run",
        "nowhere.mp4",
        "neither.mp4",
        "--model",
        model,
        "--backend",
        QUICK_BACKEND,
        "--jsonl",
        tmp_path / "out",
    ]
    assert main([str(word) for word in argv]) == 3
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hoiclip:")]
    assert len(errors) == 2
