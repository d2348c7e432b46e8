"""hoiclip eval video: on films that are run, on results that are there, on MOT text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FILM_SEEDS
from hoiclip_engine.commands.draw import draw_films
from hoiclip_engine.commands.eval_video import shown
from tests.engine.saying import Cli
from tests.hoiclip.making_tracks import mot_lines, scenario


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One film of 3 s with its truth."""
    folder = tmp_path_factory.mktemp("films")
    draw_films(folder, 1, replace(FILM_CONFIG, fps=4, duration_s=3.0), FILM_SEEDS["test"])
    return folder


def test_a_run_and_its_results_are_measured_alike(films: Path, cli: Cli, tmp_path: Path) -> None:
    film = next(films.glob("*.mp4"))
    written = tmp_path / f"{film.stem}.jsonl"
    ran = cli("eval", "video", films, "--backend", "torch", "--json", "-")
    assert ran.code == 0, ran.err
    assert cli("run", film, "--backend", "torch", "--jsonl", written).code == 0
    read = cli("eval", "video", films, "--results", tmp_path, "--json", "-")
    assert read.code == 0, read.err
    streamed, finished = json.loads(ran.out), json.loads(read.out)
    assert (streamed["schema"], streamed["films"], streamed["film_frames"]) == ("hoiclip-eval-video/1", 1, 12)
    assert (streamed["backend"], streamed["detect_every"]) == ("torch", 1)
    for subject in ("frames", "trajectories", "entities", "pairs", "verbs"):
        # Lines hold boxes to a tenth of a pixel, scores to four digits, and no verb below 0.05.
        assert finished[subject] == pytest.approx(streamed[subject], abs=0.05), subject
    one_film = cli("eval", "video", films, "--results", written, "--json", tmp_path / "out.json")
    assert "flicker" in one_film.out
    assert json.loads((tmp_path / "out.json").read_text())["pairs"] == finished["pairs"]


def test_looking_less_often_is_measured_too(films: Path, cli: Cli) -> None:
    said = cli("eval", "video", films, "--backend", "torch", "--detect-every", 4, "--json", "-")
    assert json.loads(said.out)["detect_every"] == 4
    assert json.loads(said.out)["film_frames"] == 12


def test_frames_that_a_live_run_dropped_count_as_empty(films: Path, cli: Cli, tmp_path: Path) -> None:
    truth = next(films.glob("*.jsonl"))
    lines = [line for line in truth.read_text().splitlines() if json.loads(line).get("index", 0) % 3 == 0]
    (tmp_path / truth.name).write_text("\n".join(lines))
    said = cli("eval", "video", films, "--results", tmp_path, "--json", "-")
    assert json.loads(said.out)["missing_frames"] == 8
    assert "8 true frames have no result" in said.err
    assert json.loads(said.out)["frames"]["frame mAP"] < 0.6


def test_mot_text_is_measured(cli: Cli, tmp_path: Path) -> None:
    for name, frames in zip(("gt.txt", "test.txt"), scenario("usual"), strict=True):
        (tmp_path / name).write_text(mot_lines(frames))
    words = ("eval", "video", "--mot", tmp_path / "gt.txt", "--results", tmp_path / "test.txt")
    numbers = json.loads(cli(*words, "--json", "-").out)
    assert (numbers["schema"], numbers["IDSW"]) == ("hoiclip-eval-mot/1", 3)
    assert numbers["HOTA"] == pytest.approx(0.605772, abs=1e-6)  # tests/golden/tracking.json
    assert "60.58 %" in cli(*words).out


def test_what_to_measure_must_be_said(cli: Cli, tmp_path: Path) -> None:
    for words in (
        (),
        (tmp_path, "--mot", "gt.txt"),
        ("--mot", "gt.txt"),
        (tmp_path, "--results", tmp_path, "--backend", "torch"),
        (tmp_path, "--results", tmp_path, "--detect-every", 2),
        (tmp_path, "--detect-every", 0),
    ):
        assert cli("eval", "video", *words).is_one_error(2), words


def test_what_cannot_be_measured_is_one_error(films: Path, cli: Cli, tmp_path: Path) -> None:
    truth = next(films.glob("*.jsonl"))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n{")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for words in (
        (tmp_path / "none",),
        (tmp_path,),  # no films
        (tmp_path / "none", "--results", broken),
        (films, "--results", tmp_path),  # no results under the film's name
        (films, "--results", films),  # truth is no result
        (truth, "--results", tmp_path / "none.jsonl"),
        (broken, "--results", truth),
        ("--mot", tmp_path / "none.txt", "--results", tmp_path / "none.txt"),
        ("--mot", tmp_path / "binary.txt", "--results", tmp_path / "binary.txt"),
    ):
        assert cli("eval", "video", *words).is_one_error(3), words


def test_numbers_are_shown_with_their_units() -> None:
    assert shown("IDSW", 3) == "3"
    assert shown("HOTA", 0.5) == "50.00 %"
    assert shown("onset median s", 0.2) == "200 ms"
    assert shown("flicker", 12.34) == "12.3 per pair-minute"
    assert shown("event mAP", float("nan")) == "-"


def test_a_report_says_why_pairs_are_missed(films: Path, cli: Cli, tmp_path: Path) -> None:
    """Results are the truth of every third frame: what is left out is missed, human and object both."""
    truth, out = next(films.glob("*.jsonl")), tmp_path / "report"
    lines = [line for line in truth.read_text().splitlines() if json.loads(line).get("index", 0) % 3 == 0]
    results = tmp_path / "<b>"
    results.mkdir()
    (results / truth.name).write_text("\n".join(lines))
    said = cli("eval", "video", films, "--results", results, "--report", out, "--json", "-")
    assert said.code == 0, said.err
    analysis = json.loads((out / "analysis.json").read_text())
    assert analysis["schema"] == "hoiclip-error-analysis/1"
    assert analysis["mAP"] == json.loads(said.out)["frames"]["frame mAP"]
    counts = analysis["ground_truth"]["counts"]
    assert counts["found"] + counts["missed both"] == analysis["ground_truth"]["total"]
    assert counts["missed both"] > 0
    assert "size not known" not in str(analysis["tables"]), "the header tells the size of frames"
    page = (out / "index.html").read_text()
    assert f"/<b>/{truth.name}" not in page
    assert f"/&lt;b&gt;/{truth.name}" in page
    assert page.count("data:image/png") == len(list(out.glob("timeline_*.png"))) == 1
    assert page.count("data:image/jpeg") == len(list(out.glob("worst_*.jpg"))) > 0


def test_a_report_without_the_video_has_no_frames(films: Path, cli: Cli, tmp_path: Path) -> None:
    truth = next(films.glob("*.jsonl"))
    for folder in ("truth", "found"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / truth.name).write_text(truth.read_text())
    words = ("eval", "video", tmp_path / "truth", "--results", tmp_path / "found", "--report", tmp_path / "out")
    assert cli(*words).code == 0
    assert list((tmp_path / "out").glob("timeline_*.png"))
    assert not list((tmp_path / "out").glob("worst_*.jpg"))


def test_a_report_is_never_written_over_what_is_read(films: Path, cli: Cli, tmp_path: Path) -> None:
    """A truth of the name of an output, and one that is an output by a hard link."""
    truth = next(films.glob("*.jsonl")).read_text()
    for name, link in (("analysis.json", None), ("a.jsonl", "index.html")):
        folder, found = tmp_path / name / "truth", tmp_path / name / "found"
        folder.mkdir(parents=True)
        found.mkdir()
        for place in (folder, found):
            (place / name).write_text(truth)
        if link:
            (folder / link).hardlink_to(folder / name)
        words = ("eval", "video", folder / name, "--results", found / name, "--report", folder)
        assert cli(*words).is_one_error(2), name
        assert {path.read_text() for path in folder.iterdir()} == {truth}
    (tmp_path / "file").write_text("")
    assert cli("eval", "video", films, "--results", tmp_path, "--report", tmp_path / "file").is_one_error(2)
    mot = ("--mot", "gt.txt", "--results", "test.txt", "--report", tmp_path / "out")
    assert cli("eval", "video", *mot).is_one_error(2)
