"""hoiclip eval and run on videos: results of the stream and of finished runs are measured alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip.evaluation.video import read_results
from hoiclip.synthetic.fixed_sets import (
    TEST_SEEDS,
    VIDEO_CONFIG,
    VIDEO_SEEDS,
    committed_fingerprints,
    video_fingerprint,
)
from hoiclip.synthetic.video import VideoConfig
from hoiclip_engine.evaluation.videos import video_frame
from hoiclip_engine.sinks.jsonl_sink import JsonlSink
from hoiclip_engine.types.frame import Frame
from tests.engine.command_output import Cli
from tests.engine.frame_results import VOCABULARY, Row, frame_result, header, summary, tracked

WORDS = replace(VOCABULARY, objects=("person", "bicycle"), object_prompts=("a person", "a bicycle", "nothing"),
                hois=((0, 1), (1, 1), (2, 0)))  # fmt: skip
FRAMES = [Frame(np.zeros((48, 64, 3), np.uint8), index / 10, index) for index in range(2)]


def test_results_of_a_run_equal_those_of_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "video.jsonl"
    rows = Row(label=1, verbs={0: 0.9, 1: 0.6}), Row(pair=2, human=1, object=3, label=0)
    sink = JsonlSink(path)
    sink.start(replace(header(), vocabulary=WORDS))
    sink.write(frame_result(FRAMES[0], *rows))
    sink.write(frame_result(FRAMES[1]))
    sink.finish(summary())
    streamed = video_frame(0, 0.0, tracked(*rows))
    first, second = read_results(path, WORDS)
    for name in ("pair", "human", "object", "label", "human_boxes_xyxy", "object_boxes_xyxy", "verb_active"):
        assert getattr(first, name).tolist() == getattr(streamed, name).tolist(), name
    assert first.verb_scores == pytest.approx(streamed.verb_scores, abs=1e-4)  # lines have four digits
    assert (len(second), second.pts_s) == (0, 0.1)


def test_synthetic_test_videos_are_unchanged() -> None:
    assert video_fingerprint() == committed_fingerprints()["films"]
    assert len(set(VIDEO_SEEDS.values())) == len(VIDEO_SEEDS)


def test_videos_and_images_are_in_one_report(cli: Cli, tmp_path: Path) -> None:
    videos, data = tmp_path / "films", tmp_path / "data"
    draw_options = ("--video", 1, "--set", "test", "--fps", 4, "--duration", 3)
    assert cli("data", "draw", "--out", videos, *draw_options).code == 0
    assert cli("data", "draw", "--out", data, "--images", 3, "--set", "test").code == 0
    images = ("--data", data / "annotations.json", "--images", data / "images")
    output = cli(
        "eval", *images, "--films", videos, "--backend", "torch", "--json", "-", "--report", tmp_path / "report"
    )
    assert output.code == 0, output.err
    numbers = json.loads(output.out)
    assert (numbers["films"], numbers["film_frames"], numbers["pictures"]) == (1, 12, 3)
    assert set(numbers["summaries"]["films"]) == {"frame mAP", "entity recall"}
    assert 0 <= numbers["summaries"]["films"]["frame mAP"] <= 1
    assert "entity recall" in (tmp_path / "report" / "index.html").read_text()

    videos_only = cli("eval", "--films", videos, "--backend", "torch", "--json", "-")
    assert videos_only.code == 0, videos_only.err
    assert json.loads(videos_only.out)["summaries"]["films"] == numbers["summaries"]["films"]
    assert json.loads(videos_only.out)["backend"] == "torch"
    shown = cli("eval", *images, "--films", videos, "--backend", "torch", "--metric", "hico-ko").out
    assert "videos, 12 frames" in shown
    assert "hico-ko, 3 images" in shown

    ground_truth = next(videos.glob("*.jsonl"))
    lines = ground_truth.read_text().splitlines()
    ground_truth.write_text("\n".join(line for line in lines if '"index":11' not in line))
    assert cli("eval", "--films", videos, "--backend", "torch").is_one_error(3)


def test_synthetic_test_videos_are_made_as_they_are_measured(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("hoiclip_engine.cli.draw.draw_videos", lambda *words: calls.append(words[1:]) or 0)
    for words in (("--set", "test"), ("--set", "test", "--fps", 5), ()):
        assert cli("data", "draw", "--out", "films", "--video", 8, *words).code == 0
    assert calls == [
        *((4, VIDEO_CONFIG, seed) for seed in TEST_SEEDS),
        *((4, replace(VIDEO_CONFIG, fps=5), seed) for seed in TEST_SEEDS),
        (8, VideoConfig(fps=25), VIDEO_SEEDS["train"]),
    ]


VIDEOS = ("--films", ".")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--data", "a.json"),
        ("--images", "."),
        (*VIDEOS, "--export", "out"),
        (*VIDEOS, "--official"),
        (*VIDEOS, "--metric", "hico-ko"),
        (*VIDEOS, "--enhance", 3),
        (*VIDEOS, "--prior", "a.npy"),
        (*VIDEOS, "--max-images", 3),
    ],
)
def test_eval_without_images_or_videos_is_one_error(words: tuple[str, ...], cli: Cli) -> None:
    assert cli("eval", *words).is_one_error(2)


def test_folder_without_videos_is_one_error(cli: Cli, tmp_path: Path) -> None:
    assert cli("eval", "--films", tmp_path).is_one_error(3)
    assert cli("eval", "--films", tmp_path / "none").is_one_error(3)
