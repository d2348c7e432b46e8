"""hoiclip eval video: on videos that are run, on finished results, and on MOT text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG, VIDEO_SEEDS
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.cli.eval_video import with_unit
from tests.engine.command_output import Cli
from tests.hoiclip.tracking_scenarios import mot_lines, scenario


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of 3 s with its ground truth."""
    folder = tmp_path_factory.mktemp("films")
    draw_videos(folder, 1, replace(VIDEO_CONFIG, fps=4, duration_s=3.0), VIDEO_SEEDS["test"])
    return folder


def test_run_and_its_results_are_measured_alike(videos: Path, cli: Cli, tmp_path: Path) -> None:
    video = next(videos.glob("*.mp4"))
    written = tmp_path / f"{video.stem}.jsonl"
    ran = cli("eval", "video", videos, "--backend", "torch", "--json", "-")
    assert ran.code == 0, ran.err
    assert cli("run", video, "--backend", "torch", "--jsonl", written).code == 0
    read = cli("eval", "video", videos, "--results", tmp_path, "--json", "-")
    assert read.code == 0, read.err
    streamed, finished = json.loads(ran.out), json.loads(read.out)
    assert (streamed["schema"], streamed["films"], streamed["film_frames"]) == ("hoiclip-eval-video/1", 1, 12)
    assert (streamed["backend"], streamed["detect_every"]) == ("torch", 1)
    for subject in ("frames", "trajectories", "entities", "pairs", "verbs"):
        # Lines hold boxes to a tenth of a pixel, scores to four digits, and no verb below 0.05.
        assert finished[subject] == pytest.approx(streamed[subject], abs=0.05), subject
    one_video = cli("eval", "video", videos, "--results", written, "--json", tmp_path / "out.json")
    assert "flicker" in one_video.out
    assert json.loads((tmp_path / "out.json").read_text())["pairs"] == finished["pairs"]


def test_larger_detection_interval_is_measured_too(videos: Path, cli: Cli) -> None:
    output = cli("eval", "video", videos, "--backend", "torch", "--detect-every", 4, "--json", "-")
    assert json.loads(output.out)["detect_every"] == 4
    assert json.loads(output.out)["film_frames"] == 12


def test_frames_dropped_by_a_live_run_count_as_empty(videos: Path, cli: Cli, tmp_path: Path) -> None:
    ground_truth = next(videos.glob("*.jsonl"))
    lines = [line for line in ground_truth.read_text().splitlines() if json.loads(line).get("index", 0) % 3 == 0]
    (tmp_path / ground_truth.name).write_text("\n".join(lines))
    output = cli("eval", "video", videos, "--results", tmp_path, "--json", "-")
    assert json.loads(output.out)["missing_frames"] == 8
    assert "8 ground-truth frames have no result" in output.err
    assert json.loads(output.out)["frames"]["frame mAP"] < 0.6


def test_mot_text_is_measured(cli: Cli, tmp_path: Path) -> None:
    for name, frames in zip(("gt.txt", "test.txt"), scenario("usual"), strict=True):
        (tmp_path / name).write_text(mot_lines(frames))
    words = ("eval", "video", "--mot", tmp_path / "gt.txt", "--results", tmp_path / "test.txt")
    numbers = json.loads(cli(*words, "--json", "-").out)
    assert (numbers["schema"], numbers["IDSW"]) == ("hoiclip-eval-mot/1", 3)
    assert numbers["HOTA"] == pytest.approx(0.605772, abs=1e-6)  # tests/golden/tracking.json
    assert "60.58 %" in cli(*words).out


def test_eval_video_without_subject_is_one_error(cli: Cli, tmp_path: Path) -> None:
    for words in (
        (),
        (tmp_path, "--mot", "gt.txt"),
        ("--mot", "gt.txt"),
        (tmp_path, "--results", tmp_path, "--backend", "torch"),
        (tmp_path, "--results", tmp_path, "--detect-every", 2),
        (tmp_path, "--detect-every", 0),
    ):
        assert cli("eval", "video", *words).is_one_error(2), words


def test_unreadable_input_is_one_error(videos: Path, cli: Cli, tmp_path: Path) -> None:
    ground_truth = next(videos.glob("*.jsonl"))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n{")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for words in (
        (tmp_path / "none",),
        (tmp_path,),  # no videos
        (tmp_path / "none", "--results", broken),
        (videos, "--results", tmp_path),  # no results under the video's name
        (videos, "--results", videos),  # ground truth is no result
        (ground_truth, "--results", tmp_path / "none.jsonl"),
        (broken, "--results", ground_truth),
        ("--mot", tmp_path / "none.txt", "--results", tmp_path / "none.txt"),
        ("--mot", tmp_path / "binary.txt", "--results", tmp_path / "binary.txt"),
    ):
        assert cli("eval", "video", *words).is_one_error(3), words


def test_numbers_are_printed_with_their_units() -> None:
    assert with_unit("IDSW", 3) == "3"
    assert with_unit("HOTA", 0.5) == "50.00 %"
    assert with_unit("onset median s", 0.2) == "200 ms"
    assert with_unit("flicker", 12.34) == "12.3 per pair-minute"
    assert with_unit("event mAP", float("nan")) == "-"


def test_video_report_analyses_missed_pairs(videos: Path, cli: Cli, tmp_path: Path) -> None:
    """Results are the ground truth of every third frame: what is left out is missed, human and object both."""
    ground_truth, out = next(videos.glob("*.jsonl")), tmp_path / "report"
    lines = [line for line in ground_truth.read_text().splitlines() if json.loads(line).get("index", 0) % 3 == 0]
    results = tmp_path / "<b>"
    results.mkdir()
    (results / ground_truth.name).write_text("\n".join(lines))
    output = cli("eval", "video", videos, "--results", results, "--report", out, "--json", "-")
    assert output.code == 0, output.err
    analysis = json.loads((out / "analysis.json").read_text())
    assert analysis["schema"] == "hoiclip-error-analysis/1"
    assert analysis["mAP"] == json.loads(output.out)["frames"]["frame mAP"]
    counts = analysis["ground_truth"]["counts"]
    assert counts["found"] + counts["missed both"] == analysis["ground_truth"]["total"]
    assert counts["missed both"] > 0
    assert "size not known" not in str(analysis["tables"]), "the header has the size of frames"
    page = (out / "index.html").read_text()
    assert f"/<b>/{ground_truth.name}" not in page
    assert f"/&lt;b&gt;/{ground_truth.name}" in page
    assert page.count("data:image/png") == len(list(out.glob("timeline_*.png"))) == 1
    assert page.count("data:image/jpeg") == len(list(out.glob("worst_*.jpg"))) > 0


def test_report_without_the_video_has_no_frames(videos: Path, cli: Cli, tmp_path: Path) -> None:
    ground_truth = next(videos.glob("*.jsonl"))
    for folder in ("gt", "found"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ground_truth.name).write_text(ground_truth.read_text())
    words = ("eval", "video", tmp_path / "gt", "--results", tmp_path / "found", "--report", tmp_path / "out")
    assert cli(*words).code == 0
    assert list((tmp_path / "out").glob("timeline_*.png"))
    assert not list((tmp_path / "out").glob("worst_*.jpg"))


def test_report_never_overwrites_its_inputs(videos: Path, cli: Cli, tmp_path: Path) -> None:
    """A ground truth of the name of an output, and one that is an output by a hard link."""
    ground_truth = next(videos.glob("*.jsonl")).read_text()
    for name, link in (("analysis.json", None), ("a.jsonl", "index.html")):
        folder, found = tmp_path / name / "gt", tmp_path / name / "found"
        folder.mkdir(parents=True)
        found.mkdir()
        for place in (folder, found):
            (place / name).write_text(ground_truth)
        if link:
            (folder / link).hardlink_to(folder / name)
        words = ("eval", "video", folder / name, "--results", found / name, "--report", folder)
        assert cli(*words).is_one_error(2), name
        assert {path.read_text() for path in folder.iterdir()} == {ground_truth}
    (tmp_path / "file").write_text("")
    assert cli("eval", "video", videos, "--results", tmp_path, "--report", tmp_path / "file").is_one_error(2)
    mot = ("--mot", "gt.txt", "--results", "test.txt", "--report", tmp_path / "out")
    assert cli("eval", "video", *mot).is_one_error(2)
