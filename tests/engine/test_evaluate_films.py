"""Films are measured by what the stream says of every frame, against truth that is read with care."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FILM_SEEDS, committed_fingerprints, film_fingerprint
from hoiclip.data.drawn.video import VideoConfig
from hoiclip.data.rows import image_annotation
from hoiclip.errors import DataError
from hoiclip.evaluation import evaluate
from hoiclip_engine.evaluate_films import EntityCount, predicted_triplets
from hoiclip_engine.film_truth import TrueFrame, read_film_truth
from hoiclip_engine.frame import Frame
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from tests.engine.making_results import VOCABULARY, Row, frame_result, header, summary, tracked
from tests.engine.saying import Cli

WORDS = replace(VOCABULARY, objects=("person", "bicycle"), object_prompts=("a person", "a bicycle", "nothing"),
                hois=((0, 1), (1, 1), (2, 0)))  # fmt: skip
HUMAN, BICYCLE = (4.0, 4.0, 20.0, 40.0), (16.0, 20.0, 40.0, 44.0)
PERSON = 0
FRAMES = [Frame(np.zeros((48, 64, 3), np.uint8), index / 10, index) for index in range(2)]


def true_frame(*interactions: tuple[int, int, int]) -> TrueFrame:
    """Human 1 and bicycle 2."""
    return TrueFrame(
        annotation=image_annotation("frame", [HUMAN, BICYCLE], [0, 1], list(interactions)), entities=(1, 2)
    )


def test_entities_of_true_interactions_are_counted() -> None:
    count = EntityCount()
    count.add(true_frame((0, 1, 0)), tracked(Row(label=1)), PERSON)
    assert (count.true, count.found) == (2, 2)
    count.add(true_frame((0, 1, 0)), tracked(Row(label=1, object_box_xyxy=(50, 50, 60, 60))), PERSON)
    assert (count.true, count.found) == (4, 3)
    count.add(true_frame((0, 1, 0)), tracked(Row(label=0)), PERSON)  # something else where the bicycle is
    assert (count.true, count.found) == (6, 4)
    count.add(true_frame((0, 1, 0)), tracked(), PERSON)
    assert (count.true, count.found) == (8, 4)
    count.add(true_frame(), tracked(Row(label=1)), PERSON)  # nobody does anything
    assert (count.true, count.found, count.switches) == (8, 4, 0)


def test_a_new_number_for_the_same_thing_is_a_switch_but_not_in_another_film() -> None:
    count = EntityCount()
    for human in (1, 1, 7, 7, 1):
        count.add(true_frame((0, 1, 0)), tracked(Row(label=1, human=human)), PERSON)
    assert count.switches == 2
    count.add(true_frame((0, 1, 0)), tracked(), PERSON)  # lost for a moment
    count.add(true_frame((0, 1, 0)), tracked(Row(label=1, human=1)), PERSON)
    assert count.switches == 2
    count.new_film()
    count.add(true_frame((0, 1, 0)), tracked(Row(label=1, human=9)), PERSON)
    assert count.switches == 2


def test_tracked_pairs_become_triplets_of_the_vocabulary() -> None:
    pairs = tracked(Row(label=1, verbs={0: 0.8, 1: 0.3, 2: 0.9}), Row(pair=2, label=0, verbs={2: 0.5}))
    found = predicted_triplets(pairs, WORDS)  # holding a bicycle is no HOI here
    assert list(zip(found.category.tolist(), found.query.tolist(), strict=True)) == [(0, 0), (2, 1), (1, 0)]
    assert found.score.tolist() == pytest.approx([0.8, 0.5, 0.3])
    by_verb = predicted_triplets(pairs, WORDS, by_verb=True)
    assert by_verb.category.tolist() == [0, 2, 1]
    truth = [true_frame((0, 1, 0)).annotation]
    assert evaluate("hico", [found], truth, WORDS).summary["mAP"] == pytest.approx(1.0)
    assert len(predicted_triplets(tracked(), WORDS)) == 0


def test_what_a_run_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "film.jsonl"
    sink = JsonlSink(path)
    sink.start(replace(header(), vocabulary=WORDS))
    sink.write(frame_result(FRAMES[0], Row(label=1, verbs={0: 0.9, 1: 0.6}), Row(pair=2, human=1, object=3, label=0)))
    sink.write(frame_result(FRAMES[1]))
    sink.finish(summary())
    first, second = read_film_truth(path, WORDS)
    assert first.entities == (1, 2, 3)
    assert first.annotation.labels.tolist() == [0, 1, 0]
    assert first.annotation.interactions.tolist() == [[0, 1, 0], [0, 2, 0]]  # what is not active is not going on
    assert second.entities == ()


PAIR = {"human": 1, "human_box_xyxy": HUMAN, "object": 2, "object_box_xyxy": BICYCLE, "label": "bicycle", "verbs": []}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "line 1"),
        ("[1]", "an object with fields"),
        ({"type": "frame", "index": 1, "pairs": []}, "expected 0, found 1"),
        ({"type": "frame", "index": 0}, "pairs must be a list"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "label": "tank"}]}, "label 'tank'"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "human_box_xyxy": [1, 2]}]}, "four pixel"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "verbs": [{"verb": "fly", "active": True}]}]}, "verb 'fly'"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "object": 1}]}, "1 is a person and a bicycle"),
        ({"type": "header"}, "no frame lines"),
    ],
)
def test_a_wrong_truth_is_one_error(line: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "film.jsonl"
    path.write_text(line if isinstance(line, str) else json.dumps(line))
    with pytest.raises(DataError, match=said) as caught:
        read_film_truth(path, WORDS)
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["human", "verbs", "label"]), inner),
    max_leaves=6,
)


@given(st.fixed_dictionaries({"type": st.just("frame"), "index": st.just(0) | VALUES, "pairs": VALUES}))
@settings(max_examples=60, deadline=None)
def test_any_truth_is_read_or_refused(line: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.jsonl"
        path.write_text(json.dumps(line))
        try:
            frames = read_film_truth(path, WORDS)
        except DataError:
            return
        assert len(frames) == 1


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
        (8, FILM_CONFIG, FILM_SEEDS["test"]),
        (8, replace(FILM_CONFIG, fps=5), FILM_SEEDS["test"]),
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


def test_boxes_of_nobody_are_no_error() -> None:
    nobody = TrueFrame(annotation=image_annotation("frame", [], [], []), entities=())
    count = EntityCount()
    count.add(nobody, tracked(Row()), PERSON)
    assert count.true == 0
    assert np.isfinite(count.found)
