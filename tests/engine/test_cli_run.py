"""One run from file to files: what `hoiclip run` writes, and what it leaves when it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from hoiclip.core.vocabulary import vocabulary_from_words
from hoiclip_engine.cli.main import main
from hoiclip_engine.sources import open_source
from tests.engine.run_processes import QUICK_BACKEND, json_lines, of_type, start, times_of, wait_for_frames
from tests.engine.untrained import untrained_model
from tests.engine.video_files import image, write_clip

pytestmark = pytest.mark.thorough

PTS = [433, 466, 500, 533, 700, 733, 766, 800, 833, 866, 900, 1900, 1933, 1966, 2000, 2033, 2066, 2100, 2133, 2166]
"""Milliseconds: a late start, a pause of 0.17 s and one of 1 s."""
ALL_NUMBERS = (int, float)


@pytest.fixture(scope="module")
def model() -> Path:
    return untrained_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", PTS)


@pytest.fixture(scope="module")
def whole(clip: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with all outputs."""
    folder = tmp_path_factory.mktemp("whole")
    outputs = [word for kind, option in OUTPUTS.items() for word in (option, str(folder / f"out.{kind}"))]
    assert main(["run", str(clip), *outputs, "--model", str(model), "--backend", QUICK_BACKEND]) == 0
    return folder


OUTPUTS = {"mp4": "-o", "jsonl": "--jsonl", "mot": "--mot", "vtt": "--vtt"}

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Run:
    """The JSON lines of a run that must succeed."""

    def call(source: Path, *options: object, backend: str = QUICK_BACKEND) -> list[dict[str, Any]]:
        path = tmp_path / "run.jsonl"
        argv = ["run", source, "--jsonl", path, "--model", model, "--backend", backend, *options]
        assert main([str(word) for word in argv]) == 0
        return json_lines(path.read_text(encoding="utf-8"))

    return call


@pytest.fixture
def lines(whole: Path) -> list[dict[str, Any]]:
    return json_lines((whole / "out.jsonl").read_text(encoding="utf-8"))


# What a run writes.


def test_every_frame_has_one_line_at_its_own_time(lines: list[dict[str, Any]], clip: Path) -> None:
    assert lines[0]["type"] == "header"
    assert lines[0]["schema"] == "hoiclip/1"
    assert lines[0]["source"] == str(clip)
    assert lines[-1]["type"] == "summary"
    frames = of_type(lines, "frame")
    assert [frame["index"] for frame in frames] == list(range(len(PTS)))
    assert [frame["pts_s"] for frame in frames] == pytest.approx(times_of(clip), abs=1e-6)
    summary = lines[-1]
    assert (summary["decoded"], summary["detected"], summary["dropped"]) == (len(PTS), len(PTS), 0)
    assert summary["interrupted"] is False
    assert len(of_type(lines, "event")) == summary["events"]


def boxes_of(pair: dict[str, Any]) -> Iterator[list[float]]:
    yield pair["human_box_xyxy"]
    if pair["object"] is not None:
        yield pair["object_box_xyxy"]


def test_boxes_are_finite_and_scores_lie_between_0_and_1(lines: list[dict[str, Any]]) -> None:
    pairs = [pair for frame in of_type(lines, "frame") for pair in frame["pairs"]]
    assert pairs
    assert len({pair["pair"] for pair in pairs}) == lines[-1]["pairs"]
    for pair in pairs:
        assert (pair["object"] is None) == (pair["label"] is None)
        for box in boxes_of(pair):
            assert len(box) == 4
            assert all(isinstance(value, ALL_NUMBERS) for value in box)
            assert box[0] <= box[2]
            assert box[1] <= box[3]
        scores = [pair["score"], *(verb["score"] for verb in pair["verbs"])]
        assert all(isinstance(score, ALL_NUMBERS) and 0 <= score <= 1 for score in scores)


def test_start_event_follows_the_frame_that_first_shows_the_verb_as_active(lines: list[dict[str, Any]]) -> None:
    active: set[tuple[int, str]] = set()
    fresh: set[tuple[int, str]] = set()
    now_s, starts = 0.0, 0
    for line in lines[1:-1]:
        if line["type"] == "frame":
            assert fresh == set()
            shown = {(p["pair"], verb["verb"]) for p in line["pairs"] for verb in p["verbs"] if verb["active"]}
            active, fresh, now_s = shown, shown - active, line["pts_s"]
        elif line["event"] == "start":
            fresh.remove((line["pair"], line["verb"]))
            assert PTS[0] / 1000 <= line["pts_s"] <= now_s  # when it began, which is reported once it is active
            starts += 1
    assert 0 < starts == sum(line.get("event") == "end" for line in lines)


def test_video_has_the_frames_of_the_source_at_its_times(whole: Path, clip: Path) -> None:
    assert times_of(whole / "out.mp4") == pytest.approx(times_of(clip), abs=1e-3)
    assert not list(whole.glob("*.part*"))


def test_mot_lines_hold_the_boxes_of_the_json_lines(whole: Path, lines: list[dict[str, Any]]) -> None:
    rows = [line.split(",") for line in (whole / "out.mot").read_text(encoding="utf-8").splitlines()]
    assert all(len(row) == 10 for row in rows)
    expected = {}
    for frame in of_type(lines, "frame"):
        for pair in frame["pairs"]:
            for entity, box in zip((pair["human"], pair["object"]), boxes_of(pair), strict=False):
                expected[frame["index"] + 1, entity] = box
    found = {(int(row[0]), int(row[1])): [float(value) for value in row[2:6]] for row in rows}
    assert len(found) == len(rows)
    assert found.keys() == expected.keys()
    for key, (left, top, width, height) in found.items():
        assert [left, top, left + width, top + height] == pytest.approx(expected[key], abs=0.1)


def test_there_is_one_cue_per_interaction(whole: Path, lines: list[dict[str, Any]]) -> None:
    text = (whole / "out.vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n")
    starts = [event for event in of_type(lines, "event") if event["event"] == "start"]
    assert text.count(" --> ") == len(starts) > 0
    assert text.count("\n\n") == len(starts) + 1


def test_second_run_writes_the_same_bytes_except_for_the_summary(
    whole: Path, clip: Path, run: Run, tmp_path: Path
) -> None:
    run(clip)
    first = (whole / "out.jsonl").read_bytes().splitlines()
    assert (tmp_path / "run.jsonl").read_bytes().splitlines()[:-1] == first[:-1]


def test_json_on_standard_output_is_alone_there(
    clip: Path, model: Path, whole: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(clip), "--jsonl", "-", "--model", str(model), "--backend", QUICK_BACKEND]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[:-1] == (whole / "out.jsonl").read_text(encoding="utf-8").splitlines()[:-1]
    assert json_lines(out)[-1]["type"] == "summary"
    assert "untrained" in err


def test_run_without_outputs_prints_events(
    clip: Path, model: Path, lines: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(clip), "--model", str(model), "--backend", QUICK_BACKEND]) == 0
    printed = capfd.readouterr().out.splitlines()
    events = of_type(lines, "event")
    assert len(printed) == len(events)
    for line, event in zip(printed, events, strict=True):
        assert line.split()[:3] == [f"{event['pts_s']:.3f}", "s", event["event"]]
        assert event["verb"].replace("_", " ") in line


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_compiled_backends_see_what_torch_sees(backend: str, clip: Path, run: Run, lines: list[dict[str, Any]]) -> None:
    pytest.importorskip(backend)
    compiled = run(clip, backend=backend)
    assert compiled[0]["backend"] == backend
    for ours, theirs in zip(of_type(compiled, "frame"), of_type(lines, "frame"), strict=True):
        assert [pair["label"] for pair in ours["pairs"]] == [pair["label"] for pair in theirs["pairs"]]
        for a, b in zip(ours["pairs"], theirs["pairs"], strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=2e-3)  # fp32 in another order of sums
            assert a["human_box_xyxy"] == pytest.approx(b["human_box_xyxy"], abs=0.2)  # pixels, rounded to 0.1


# Which part, how often, from which score on.


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (["--max-frames", "3"], slice(0, 3)),
        (["--start", "0.4"], slice(8, None)),
        (["--duration", "0.1"], slice(0, 3)),
        (["--start", "1.45", "--duration", "0.2"], slice(11, 17)),
        (["--start", "1", "--max-frames", "2"], slice(11, 13)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_segment_of_the_clip_has_its_frames(options: list[str], frames: slice, clip: Path, run: Run) -> None:
    found = of_type(run(clip, *options), "frame")
    assert [frame["pts_s"] for frame in found] == pytest.approx(times_of(clip)[frames], abs=1e-6)
    assert [frame["index"] for frame in found] == list(range(len(found)))


def test_detecting_in_every_third_frame_is_marked_and_counted(clip: Path, run: Run) -> None:
    found = run(clip, "--detect-every", 3)
    assert [frame["detected"] for frame in of_type(found, "frame")] == [index % 3 == 0 for index in range(len(PTS))]
    assert found[-1]["decoded"] == len(PTS)
    assert found[-1]["detected"] == -(-len(PTS) // 3)
    assert any(frame["pairs"] for frame in of_type(found, "frame") if not frame["detected"])


def test_nothing_reaches_a_score_of_1(clip: Path, run: Run, tmp_path: Path) -> None:
    found = run(
        clip, "--min-score", 1, "--mot", tmp_path / "o.txt", "--vtt", tmp_path / "o.vtt", "-o", tmp_path / "o.mp4"
    )
    assert all(frame["pairs"] == [] for frame in of_type(found, "frame"))
    assert of_type(found, "event") == []
    assert found[-1]["pairs"] == 0
    assert (tmp_path / "o.txt").read_text(encoding="utf-8") == ""
    assert (tmp_path / "o.vtt").read_text(encoding="utf-8") == "WEBVTT\n\n"
    assert len(times_of(tmp_path / "o.mp4")) == len(PTS)


# Sources that are not ordinary.


def test_stream_whose_size_changes_is_followed_to_its_end(run: Run, tmp_path: Path) -> None:
    sizes = [(64, 48), (96, 64), (48, 64), (64, 48)]
    stream = tmp_path / "changing.h264"
    with stream.open("wb") as file:
        for index, size_px in enumerate(sizes):
            part = write_clip(tmp_path / f"{index}.h264", [0, 40, 80], size_px=size_px, container_format="h264")
            file.write(part.read_bytes())
    found = run(stream, "-o", tmp_path / "out.mp4")
    shown = [(frame.get("width_px", 64), frame.get("height_px", 48)) for frame in of_type(found, "frame")]
    assert shown == [size_px for size_px in sizes for _ in range(3)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        images = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert images == [(64, 48)] * 12


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_photo_is_a_stream_of_one_frame(suffix: str, run: Run, tmp_path: Path) -> None:
    photo = tmp_path / f"photo{suffix}"
    Image.fromarray(image(3, 100, 75)).save(photo)
    found = run(photo, "-o", tmp_path / "out.mp4")
    assert (found[0]["width_px"], found[0]["height_px"]) == (100, 75)
    assert len(of_type(found, "frame")) == found[-1]["decoded"] == 1
    assert len(times_of(tmp_path / "out.mp4")) == 1


# Trouble on the way.


@pytest.mark.parametrize("option", list(OUTPUTS.values()))
def test_missing_folder_is_one_line_and_exit_code_7(
    option: str, clip: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "missing" / "out.mp4"
    assert main(["run", str(clip), option, str(target), "--model", str(model), "--backend", QUICK_BACKEND]) == 7
    out, err = capsys.readouterr()
    assert out == ""
    errors = [line for line in err.splitlines() if not line.startswith("Note: this model is untrained")]
    assert len(errors) == 1
    assert errors[0].startswith(f"hoiclip: cannot write {target}")


def test_one_output_that_fails_does_not_spoil_the_others(
    clip: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hoiclip.core.errors import SinkError
    from hoiclip_engine.sinks.text_sinks import MotSink

    def fail(self: MotSink, result: Any) -> None:
        if result.index == 4:
            raise SinkError("cannot write out.mot: no space left; choose another place")

    monkeypatch.setattr(MotSink, "write", fail)
    outputs = [word for kind, option in OUTPUTS.items() for word in (option, str(tmp_path / f"out.{kind}"))]
    assert main(["run", str(clip), *outputs, "--model", str(model), "--backend", QUICK_BACKEND]) == 7
    assert (
        capsys.readouterr().err.splitlines()[-1] == "hoiclip: cannot write out.mot: no space left; choose another place"
    )
    lines = json_lines((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert len(of_type(lines, "frame")) == len(times_of(tmp_path / "out.mp4")) == 5
    assert lines[-1]["type"] == "summary"


LONG = 2000


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", [40 * i for i in range(LONG)])


def test_interrupt_while_sources_are_opened_ends_the_run(
    clip: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = open_source.open_source

    def interrupted(*arguments: Any) -> Any:
        # Not raised: in this process, a library's signal stack is too small for the registers of some processors.
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)
        handler(signal.SIGINT, None)
        return original(*arguments)

    monkeypatch.setattr(open_source, "open_source", interrupted)
    path = tmp_path / "run.jsonl"
    argv = ["run", str(clip), "--jsonl", str(path), "--model", str(model), "--backend", QUICK_BACKEND]
    assert main(argv) == 130
    lines = json_lines(path.read_text(encoding="utf-8"))
    assert lines[-1]["interrupted"] is True
    assert len(of_type(lines, "frame")) < len(PTS)


ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGXCPU]


@pytest.mark.parametrize("number", ENDS)
def test_signal_ends_the_run_with_everything_found_so_far(
    number: signal.Signals, long_clip: Path, model: Path, tmp_path: Path
) -> None:
    jsonl, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    process = start(long_clip, "--jsonl", jsonl, "-o", video, "--model", model)
    wait_for_frames(process, jsonl, 5)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    lines = json_lines(jsonl.read_text(encoding="utf-8"))
    frames = of_type(lines, "frame")
    assert lines[-1]["type"] == "summary"
    assert lines[-1]["interrupted"] is True
    assert 5 <= lines[-1]["decoded"] == len(frames) < LONG
    events = of_type(lines, "event")
    assert sum(e["event"] == "start" for e in events) == sum(e["event"] == "end" for e in events)
    assert times_of(video) == pytest.approx([frame["pts_s"] for frame in frames], abs=1e-3)


def test_reader_that_stops_reading_is_one_line_and_exit_code_7(long_clip: Path, model: Path) -> None:
    process = start(long_clip, "--jsonl", "-", "--model", model, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["type"] == "header"
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=60) == 7
    process.stderr.close()
    assert err.splitlines()[-1].startswith("hoiclip: cannot write results to standard output")
    assert "Traceback" not in err
    assert "Exception" not in err


def test_pts_of_the_clip_are_irregular() -> None:
    """Guards the tests above: with equal steps kept times could not be distinguished from made ones."""
    assert len({b - a for a, b in pairwise(PTS)}) > 3
    assert np.all(np.diff(PTS) > 0)


def test_run_with_other_words_reports_these_alone(clip: Path, model: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="a model with other words is exported anew")
    lines = json_lines((whole / "out.jsonl").read_text(encoding="utf-8"))
    pairs = [pair for line in of_type(lines, "frame") for pair in line["pairs"] if pair["verbs"]]
    few = {(verb["verb"], pair["label"]) for pair in pairs[:1] for verb in pair["verbs"]}
    words = vocabulary_from_words("few", [f"{verb} {obj}".replace("_", " ") for verb, obj in few])
    path, out = tmp_path / "few.json", tmp_path / "few.jsonl"
    path.write_text(words.to_json())
    argv = ["run", clip, "--jsonl", out, "--model", model, "--backend", QUICK_BACKEND, "--vocabulary", path]
    assert main([str(word) for word in argv]) == 0
    lines = json_lines(out.read_text(encoding="utf-8"))
    found = [pair for line in of_type(lines, "frame") for pair in line["pairs"]]
    assert found
    assert {(verb["verb"], pair["label"]) for pair in found for verb in pair["verbs"]} <= few
    assert main(["run", str(clip), "--jsonl", str(path), "--vocabulary", str(path)]) == 2  # never over an input
    assert path.read_text() == words.to_json()
