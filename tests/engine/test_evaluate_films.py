"""Films are measured by what the stream says of every frame, or by what a finished run has written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FILM_SEEDS, TEST_SEEDS, committed_fingerprints, film_fingerprint
from hoiclip.data.drawn.video import VideoConfig
from hoiclip.evaluation.video import read_results
from hoiclip_engine.evaluate_films import film_frame
from hoiclip_engine.frame import Frame
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from tests.engine.making_results import VOCABULARY, Row, frame_result, header, summary, tracked
from tests.engine.saying import Cli

WORDS = replace(VOCABULARY, objects=("person", "bicycle"), object_prompts=("a person", "a bicycle", "nothing"),
                hois=((0, 1), (1, 1), (2, 0)))  # fmt: skip
FRAMES = [Frame(np.zeros((48, 64, 3), np.uint8), index / 10, index) for index in range(2)]


def test_what_a_run_writes_is_what_the_stream_says(tmp_path: Path) -> None:
    path = tmp_path / "film.jsonl"
    rows = Row(label=1, verbs={0: 0.9, 1: 0.6}), Row(pair=2, human=1, object=3, label=0)
    sink = JsonlSink(path)
    sink.start(replace(header(), vocabulary=WORDS))
    sink.write(frame_result(FRAMES[0], *rows))
    sink.write(frame_result(FRAMES[1]))
    sink.finish(summary())
    streamed = film_frame(0, 0.0, tracked(*rows))
    first, second = read_results(path, WORDS)
    for name in ("pair", "human", "object", "label", "human_boxes_xyxy", "object_boxes_xyxy", "verb_active"):
        assert getattr(first, name).tolist() == getattr(streamed, name).tolist(), name
    assert first.verb_scores == pytest.approx(streamed.verb_scores, abs=1e-4)  # lines have four digits
    assert (len(second), second.pts_s) == (0, 0.1)


def test_the_test_films_are_what_they_were() -> None:
    assert film_fingerprint() == committed_fingerprints()["films"]
    assert len(set(FILM_SEEDS.values())) == len(FILM_SEEDS)


def test_films_and_pictures_are_in_one_report(cli: Cli, tmp_path: Path) -> None:
    films, data = tmp_path / "films", tmp_path / "data"
    drawn = ("--video", 1, "--set", "test", "--fps", 4, "--duration", 3)
    assert cli("data", "draw", "--out", films, *drawn).code == 0
    assert cli("data", "draw", "--out", data, "--images", 3, "--set", "test").code == 0
    pictures = ("--data", data / "annotations.json", "--images", data / "images")
    said = cli(
        "eval", *pictures, "--films", films, "--backend", "torch", "--json", "-", "--report", tmp_path / "report"
    )
    assert said.code == 0, said.err
    numbers = json.loads(said.out)
    assert (numbers["films"], numbers["film_frames"], numbers["pictures"]) == (1, 12, 3)
    assert set(numbers["summaries"]["films"]) == {"frame mAP", "entity recall"}
    assert 0 <= numbers["summaries"]["films"]["frame mAP"] <= 1
    assert "entity recall" in (tmp_path / "report" / "index.html").read_text()

    alone = cli("eval", "--films", films, "--backend", "torch", "--json", "-")
    assert alone.code == 0, alone.err
    assert json.loads(alone.out)["summaries"]["films"] == numbers["summaries"]["films"]
    assert json.loads(alone.out)["backend"] == "torch"
    shown = cli("eval", *pictures, "--films", films, "--backend", "torch", "--metric", "hico-ko").out
    assert "films, 12 frames" in shown
    assert "hico-ko, 3 pictures" in shown

    truth = next(films.glob("*.jsonl"))
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join(line for line in lines if '"index":11' not in line))
    assert cli("eval", "--films", films, "--backend", "torch").is_one_error(3)


def test_test_films_are_drawn_as_they_are_measured(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("hoiclip_engine.commands.draw.draw_films", lambda *words: asked.append(words[1:]) or 0)
    for words in (("--set", "test"), ("--set", "test", "--fps", 5), ()):
        assert cli("data", "draw", "--out", "films", "--video", 8, *words).code == 0
    assert asked == [
        *((4, FILM_CONFIG, seed) for seed in TEST_SEEDS),
        *((4, replace(FILM_CONFIG, fps=5), seed) for seed in TEST_SEEDS),
        (8, VideoConfig(fps=25), FILM_SEEDS["train"]),
    ]


FILMS = ("--films", ".")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--data", "a.json"),
        ("--images", "."),
        (*FILMS, "--export", "out"),
        (*FILMS, "--official"),
        (*FILMS, "--metric", "hico-ko"),
        (*FILMS, "--enhance", 3),
        (*FILMS, "--prior", "a.npy"),
        (*FILMS, "--max-images", 3),
    ],
)
def test_what_to_measure_on_must_be_said(words: tuple[str, ...], cli: Cli) -> None:
    assert cli("eval", *words).is_one_error(2)


def test_a_folder_without_films_is_one_error(cli: Cli, tmp_path: Path) -> None:
    assert cli("eval", "--films", tmp_path).is_one_error(3)
    assert cli("eval", "--films", tmp_path / "none").is_one_error(3)
