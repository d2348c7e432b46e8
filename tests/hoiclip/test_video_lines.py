"""Videos are read from JSON lines with care: ground truth that is whole, results that may have gaps."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import DataError
from hoiclip.evaluation.video import read_ground_truth, read_results
from tests.hoiclip.annotated_images import CUP, HOLD, PET
from tests.hoiclip.video_results import VOCABULARY

HUMAN, OBJECT = [0, 0, 40, 100], [30, 40, 50, 60]
HOLDING = [{"verb": "hold", "score": 0.8, "active": True}, {"verb": "pet", "score": 0.3, "active": False}]
PAIR = {"human": 1, "human_box_xyxy": HUMAN, "object": 2, "object_box_xyxy": OBJECT, "label": "cup", "verbs": HOLDING}


def line(index: int, *pairs: dict[str, Any], **more: Any) -> str:
    return json.dumps({"type": "frame", "index": index, "pairs": pairs, **more}) + "\n"


def test_frame_line_gives_pairs_and_verbs(tmp_path: Path) -> None:
    path = tmp_path / "video.jsonl"
    header = json.dumps({"type": "header"}) + "\n"
    path.write_text(header + line(0, {**PAIR, "pair": 9}, pts_s=0.25) + "\n" + line(1, pts_s=0.5))
    first, second = read_ground_truth(path, VOCABULARY)
    assert (first.index, first.pts_s, len(second), second.pts_s) == (0, 0.25, 0, 0.5)
    assert [first.pair[0], first.human[0], first.object[0], first.label[0]] == [9, 1, 2, CUP]
    assert first.verb_scores[0, [HOLD, PET]].tolist() == [0.8, 0.3]
    assert first.verb_active[0, [HOLD, PET]].tolist() == [True, False]
    assert (first.human_boxes_xyxy[0].tolist(), first.object_boxes_xyxy[0].tolist()) == (HUMAN, OBJECT)


def test_hand_made_ground_truth_may_omit_pair_numbers_scores_and_times(tmp_path: Path) -> None:
    path = tmp_path / "video.jsonl"
    bare = {**PAIR, "verbs": [{"verb": "hold", "active": True}]}
    also = {**PAIR, "verbs": [{"verb": "pet", "active": True}]}  # a line of the pair for each of its verbs
    alone = {"human": 3, "human_box_xyxy": HUMAN, "verbs": [{"verb": "pet", "active": True}]}
    path.write_text(line(0, bare, also, alone) + line(1, alone, bare))
    first, second = read_ground_truth(path, VOCABULARY)
    assert first.pts_s != first.pts_s  # NaN: missing
    assert first.verb_scores[:, :2].tolist() == [[1, 1], [0, 1]]
    assert (first.object.tolist(), first.label.tolist()) == ([2, -1], [CUP, -1])
    assert first.object_boxes_xyxy[1].tolist() == HUMAN
    assert second.pair.tolist() == first.pair.tolist()[::-1]  # the same human and object are one pair in all frames


def test_results_may_have_gaps_and_an_unfinished_end(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(line(3, PAIR) + line(7) + line(8)[:20])
    assert [video_frame.index for video_frame in read_results(path, VOCABULARY)] == [3, 7]
    path.write_text(line(3, PAIR) + line(7).rstrip())
    assert [video_frame.index for video_frame in read_results(path, VOCABULARY)] == [3, 7]
    path.write_text("")
    assert read_results(path, VOCABULARY) == []
    path.write_text(line(3) + line(3))
    with pytest.raises(DataError, match="line 2: index must grow"):
        read_results(path, VOCABULARY)


@pytest.mark.parametrize(
    ("line_or_text", "match"),
    [
        ("no json", "line 1"),
        ("[1]", "an object with fields"),
        ({"type": "frame", "index": 1, "pairs": []}, "expected 0, found 1"),
        ({"type": "frame", "index": 0}, "pairs must be a list"),
        ({"type": "frame", "index": 0, "pairs": [], "pts_s": "now"}, "pts_s must be a number"),
        ({"type": "frame", "index": 0, "pairs": [], "pts_s": float("nan")}, "pts_s must be a number"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "label": "tank"}]}, "label 'tank'"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "human_box_xyxy": [1, 2]}]}, "four pixel"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "verbs": [{"verb": "fly", "active": True}]}]}, "verb 'fly'"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "verbs": [{"verb": "pet", "score": 2}]}]}, "score must be"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "object": 1}]}, "1 is a person and a cup"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "human": -4}]}, "number from 0 on"),
        ({"type": "frame", "index": 0, "pairs": [{**PAIR, "pair": 1}, {**PAIR, "pair": 1, "human": 5}]}, "two humans"),
        ({"type": "header"}, "no frame lines"),
    ],
)
def test_wrong_ground_truth_is_one_error(line_or_text: Any, match: str, tmp_path: Path) -> None:
    path = tmp_path / "video.jsonl"
    path.write_text(line_or_text if isinstance(line_or_text, str) else json.dumps(line_or_text))
    with pytest.raises(DataError, match=match) as caught:
        read_ground_truth(path, VOCABULARY)
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["human", "verbs", "label"]), inner),
    max_leaves=6,
)
ANY_PAIR = st.fixed_dictionaries(
    {},
    optional={
        "pair": st.integers(0, 2) | VALUES,
        "human": st.integers(0, 3) | VALUES,
        "human_box_xyxy": st.just(HUMAN) | VALUES,
        "object": st.none() | st.integers(0, 3) | VALUES,
        "object_box_xyxy": st.just(OBJECT) | VALUES,
        "label": st.sampled_from(["cup", "person"]) | VALUES,
        "verbs": st.just(HOLDING) | VALUES,
    },
)


@given(
    pairs=st.lists(ANY_PAIR, max_size=3) | VALUES,
    index=st.just(0) | VALUES,
    pts_s=st.floats(0, 9) | VALUES,
)
@settings(max_examples=60, deadline=None)
def test_json_line_is_read_or_refused_whatever_it_holds(pairs: Any, index: Any, pts_s: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.jsonl"
        path.write_text(json.dumps({"type": "frame", "index": index, "pts_s": pts_s, "pairs": pairs}))
        try:
            frames = read_ground_truth(path, VOCABULARY)
        except DataError:
            return
    assert len(frames) == 1
