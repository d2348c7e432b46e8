"""Fates of events, timelines as images, and the report of videos."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hoiclip.evaluation.error_analysis import FATES
from hoiclip.evaluation.video import AlignedVideo, VideoFrame, analyse_videos, measure_videos, read_size
from hoiclip.evaluation.video.errors import EVENT_FATES, FOUND_EVENT_KINDS, classify_events
from hoiclip.evaluation.video.report import MAX_ROWS, WIDTH_PX, timeline_png, video_page
from tests.hoiclip.annotated_images import CUP, DOG, HOLD, PET
from tests.hoiclip.test_evaluation_report import Page
from tests.hoiclip.video_results import VOCABULARY, Pair, on, together, video

FAR = (200.0, 200.0, 240.0, 300.0)
ELSEWHERE = Pair(pair=5, human=5, object=6, human_box=FAR, object_box=FAR)
GT = on(*range(2, 8), frames=10)
"""Holds the cup from 0.2 s to 0.8 s."""


def always(pair: Pair) -> list[VideoFrame]:
    return video(*([pair] for _ in range(10)))


@pytest.mark.parametrize(
    ("found", "fate", "kinds"),
    [
        (GT, "found", ["right"]),
        (on(2, 3, 4, 5, frames=10), "found", ["right"]),  # two thirds of the time
        (on(2, 3, frames=10), "wrong times", ["wrong times"]),
        (on(2, 4, 6, frames=10), "wrong times", ["wrong times"] * 3),  # in pieces
        (always(Pair(label=DOG, active=(PET,))), "missed", ["nothing there"]),  # another label is another pair
        (always(Pair(active=(PET,))), "wrong verb", ["wrong verb"]),
        (on(0, 1, 8, 9, frames=10), "not active", ["wrong verb"] * 2),  # while the pair does not
        (always(Pair(active=())), "not active", []),
        (always(ELSEWHERE), "missed", ["nothing there"]),
        (video(*([] for _ in range(10))), "missed", []),
    ],
)
def test_events_have_their_fates_and_kinds(found: Sequence[VideoFrame], fate: str, kinds: list[str]) -> None:
    got = classify_events(together(GT, found), VOCABULARY)
    assert [EVENT_FATES[fate] for fate in got.gt_fate] == [fate]
    assert [FOUND_EVENT_KINDS[kind] for kind in got.found_kind] == kinds


def colours(png: bytes) -> dict[tuple[int, int, int], int]:
    """Pixels by colour."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert image.width == WIDTH_PX
    counted = image.getcolors(1 << 20)
    assert counted is not None
    return {colour: count for count, colour in counted if isinstance(colour, tuple)}  # type: ignore[misc]


def test_timeline_bars_are_as_long_as_events() -> None:
    """The ground-truth event lasts 0.6 s of 1 s, two thirds of it are found."""
    got = colours(timeline_png(classify_events(together(GT, on(2, 3, 4, 5, frames=10)), VOCABULARY), VOCABULARY))
    gt, right = got[(60, 157, 90)], got[(230, 150, 40)]
    assert right == pytest.approx(gt * 2 / 3, rel=0.02)
    assert gt == pytest.approx(0.6 * (WIDTH_PX - 254) * 10, rel=0.02)
    assert (140, 140, 134) not in got


@pytest.mark.parametrize("pairs", [0, 1, MAX_ROWS + 5])
def test_timeline_has_a_maximum_of_rows(pairs: int) -> None:
    many = [Pair(pair=n, human=100 + n, object=200 + n) for n in range(pairs)]
    both = together(video(many, many), video([], []))
    heights = Image.open(io.BytesIO(timeline_png(classify_events(both, VOCABULARY), VOCABULARY))).height
    assert heights <= 34 + 30 * (MAX_ROWS + 1)


def test_video_errors_of_a_perfect_result_are_none() -> None:
    got = analyse_videos([together(GT, GT)], VOCABULARY)
    numbers = json.loads(json.dumps(got.to_json(), allow_nan=False))
    assert numbers["ground_truth"]["counts"]["found"] == numbers["ground_truth"]["total"] == 6
    assert numbers["events"]["true"]["counts"]["found"] == numbers["events"]["true"]["total"] == 1
    assert numbers["events"]["found"]["percent"]["right"] == 100
    assert numbers["mAP"] == measure_videos([together(GT, GT)], VOCABULARY).frame_map == 1


def test_worst_video_comes_first_with_its_own_counts() -> None:
    half = video(*([Pair()] if number in (2, 3, 4) else [] for number in range(10)))
    lost = replace(together(GT, video(*([] for _ in range(10)))), name="lost")
    got = analyse_videos([together(GT, GT), lost, replace(together(GT, half), name="half")], VOCABULARY)
    assert [got.events[index].name for index in got.worst_first] == ["lost", "half", "film"]
    assert got.frame_counts(1)[0][FATES.index("missed both")] == 6
    assert [both["true_events"]["total"] for both in got.to_json()["videos_worst_first"]] == [1, 1, 1]
    sized = analyse_videos([together(GT, GT)], VOCABULARY, [(640, 480)])
    border = next(table for table in sized.frames.fate_tables if table.name.startswith("cut off"))
    assert border.bins == ("human",)  # its box begins at 0, 0


@pytest.mark.parametrize("videos", [0, 1])
def test_empty_videos_have_a_report(videos: int) -> None:
    empty = [together(video([], []), video([], []))] * videos
    got = analyse_videos(empty, VOCABULARY)
    json.dumps(got.to_json(), allow_nan=False)
    assert "Worst frames" in Page(page(got)).text


def page(got: object, name: str = "film") -> str:
    return video_page("t", [("model", name)], {"frames": {"mAP": "1 %"}}, got, {}, [])  # type: ignore[arg-type]


def test_video_page_escapes_names() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\u202e.mp4"
    named: AlignedVideo = replace(together(GT, GT), name=hostile)
    shown = page(analyse_videos([named], VOCABULARY), hostile)
    parsed = Page(shown)
    assert not [tag for tag, _ in parsed.tags if tag in ("script", "link", "iframe")]
    assert parsed.text.count("<script>alert(1)</script>\\u001b[31m\\u202e.mp4") == 2
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_frame_size_is_read_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for line, size in (
        ('{"type":"header","width_px":640,"height_px":480}', (640, 480)),
        ('{"type":"header","width_px":0,"height_px":480}', None),
        ('{"type":"frame"}', None),
        ("[", None),
        ("", None),
    ):
        path.write_text(line)
        assert read_size(path) == size, line
    assert read_size(tmp_path / "none") is None


def test_frames_are_analysed_like_images() -> None:
    """Every other frame finds the pair, whose verb is then right."""
    found = video(*([Pair()] if number % 2 else [] for number in range(10)))
    got = analyse_videos([together(GT, found)], VOCABULARY)
    counts = dict(zip(FATES, got.frames.fate_counts.tolist(), strict=True))
    assert (counts["found"], counts["missed both"]) == (3, 3)
    assert got.video_of_frame.tolist() == [0] * 10
    assert np.isin(got.frames.false.category, [VOCABULARY.hois.index((HOLD, CUP))]).all()
