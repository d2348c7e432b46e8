"""Annotated images: boxes, arrows, labels, legend and notice."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip_engine.sinks.annotate import PALETTE, Annotator, person_color
from hoiclip_engine.sinks.labels import fitting_chip
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.tracked_pairs import TrackedPairs
from tests.engine.frame_results import VERBS, VOCABULARY, Row, tracked

HUMAN, OBJECT = (20, 60, 100, 200), (180, 80, 300, 220)
TWO = Row(human_box_xyxy=HUMAN, object_box_xyxy=OBJECT)


def black(width_px: int = 320, height_px: int = 240, pts_s: float = 0.0) -> Frame:
    return Frame(np.zeros((height_px, width_px, 3), np.uint8), pts_s, 0)


def drawn(*rows: Row, frame: Frame | None = None) -> NDArray[np.uint8]:
    return Annotator(VOCABULARY).draw(frame or black(), tracked(*rows))


def where(rgb: NDArray[np.uint8], human: int = 1) -> NDArray[np.bool_]:
    """Pixels of a person's colour, or nearly."""
    return np.asarray((np.abs(rgb.astype(int) - person_color(human)) < 16).all(axis=2))


def labels_in(rgb: NDArray[np.uint8]) -> int:
    """Dark chips on a black frame."""
    ground = (np.abs(rgb.astype(int) - (14, 14, 17)) < 2).all(axis=2)
    whole = cv2.morphologyEx(ground.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(whole)
    return sum(int(stats[n, cv2.CC_STAT_AREA]) > 400 for n in range(1, count))


def text_of(pairs: TrackedPairs) -> str:
    return Annotator(VOCABULARY).text(pairs, np.arange(len(pairs)))


def test_annotator_leaves_the_frame_unchanged() -> None:
    frame = black()
    rgb = drawn(Row(), frame=frame)
    assert rgb.any()
    assert not frame.rgb.any()
    assert rgb.shape == frame.rgb.shape
    assert rgb.dtype == np.uint8


def test_annotator_draws_nothing_without_pairs() -> None:
    frame = Frame(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), 0.0, 0)
    assert np.array_equal(drawn(frame=frame), frame.rgb)


def test_annotator_draws_both_boxes_and_the_arrow() -> None:
    seen = where(drawn(TWO))
    corners = [(x, y) for x in (20, 100) for y in (80, 180)]
    sides = [(180, 150), (300, 150), (240, 80), (240, 220)]
    for x, y in [*corners, *sides, (150, 128)]:
        assert seen[y - 3 : y + 4, x - 3 : x + 4].any(), (x, y)
    assert not seen[120:140, 16:25].any(), "a person has corners, no whole box"


def test_arrow_points_from_the_person_to_the_object() -> None:
    seen = where(drawn(TWO))
    heights = [int(seen[:, x].sum()) for x in (140, 175)]
    assert heights[0] < heights[1], "the head is at the object"
    assert heights[0] <= 3, "and thin on the way"


def test_pair_without_object_has_one_box_and_no_arrow() -> None:
    seen = where(drawn(Row(human_box_xyxy=HUMAN, object_box_xyxy=OBJECT, object=-1, label=-1)))
    assert seen[80, 19:22].any()
    assert not seen[90:, 140:].any()


@pytest.mark.parametrize("score", [0.0, 0.9])
def test_pair_without_active_verb_is_not_drawn(score: float) -> None:
    assert not drawn(Row(verbs={0: score}, active=())).any()
    assert drawn(Row(verbs={0: score}, active=(0,))).any(), "the verb is active, by hysteresis"


def test_no_interaction_alone_is_not_drawn() -> None:
    words = Vocabulary(
        name="idle",
        objects=VOCABULARY.objects,
        verbs=(*VERBS[:-1], NO_INTERACTION),
        hois=VOCABULARY.hois,
        hoi_prompts=VOCABULARY.hoi_prompts,
        object_prompts=VOCABULARY.object_prompts,
        verb_prompts=VOCABULARY.verb_prompts,
    )
    last = len(VERBS) - 1
    assert not Annotator(words).draw(black(), tracked(Row(active=(last,)))).any()
    both = tracked(Row(active=(0, last)))
    assert Annotator(words).text(both, np.array([0])) == "ride bicycle"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([Row()], "ride bicycle"),
        ([Row(verbs={1: 0.97, 0: 0.88}, active=(0, 1))], "ride, sit on bicycle"),
        ([Row(verbs={0: 0.88, 1: 0.97}, active=(0,))], "ride bicycle"),
        ([Row(label=1, active=(2,))], "hold sports ball"),
        ([Row(label=-1, object=-1)], "ride"),
        ([Row(active=range(5))], "ride, sit on, hold bicycle +2"),
        ([Row(pair=2, label=1, object=3, active=(2,)), Row(active=(1,))], "sit on bicycle, hold sports ball"),
        ([Row(active=(0, 1)), Row(pair=2, label=1, active=(2, 3))], "ride, sit on bicycle, hold sports ball +1"),
        ([Row(active=range(4)), Row(pair=2, label=1, active=(2,))], "ride, sit on, hold bicycle +2"),
    ],
)
def test_label_lists_all_active_verbs_of_a_person(rows: list[Row], text: str) -> None:
    assert text_of(tracked(*rows)) == text
    assert text_of(tracked(*reversed(rows))) == text


def test_person_with_two_objects_has_one_label() -> None:
    second = Row(pair=2, object=3, label=1, human_box_xyxy=HUMAN, object_box_xyxy=(120, 20, 150, 50), active=(2,))
    another = Row(pair=3, human=4, human_box_xyxy=(220, 60, 280, 200), object=-1)
    assert [labels_in(drawn(*rows)) for rows in ((TWO,), (TWO, second))] == [1, 1]
    assert labels_in(drawn(TWO, second, another)) > 1
    only, both = (where(drawn(*rows)).sum() for rows in ((TWO,), (TWO, second)))
    assert both > only + 60, "a second box and a second arrow"


def test_person_color_is_stable_and_differs_between_neighbours() -> None:
    colors = [np.array(person_color(human)) for human in range(40)]
    assert all(np.abs(a - b).max() > 60 for a, b in pairwise(colors))
    assert person_color(3) == person_color(3 + len(PALETTE))
    first, second = (drawn(Row(human=human, pair=pair)) for human, pair in ((1, 1), (1, 9)))
    assert np.array_equal(first, second), "the colour is the person's, not the pair's"


@pytest.mark.parametrize("cone", ["red", "green", "blue"])
def test_palette_is_distinct_for_all_kinds_of_colour_vision(cone: str) -> None:
    """Source: Viénot, Brettel and Mollon 1999 for red and green; for blue its channel is that of the green one."""
    linear = (np.array(PALETTE) / 255) ** 2.2
    seen_as = {
        "red": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "green": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        "blue": [[1, 0, 0], [0, 1, 0], [0, 1, 0]],
    }[cone]
    seen = 255 * np.clip(linear @ np.array(seen_as).T, 0, 1) ** (1 / 2.2)
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 25


@pytest.mark.parametrize("size_px", [(320, 240), (1280, 720), (3840, 2160)])
def test_label_size_grows_with_the_image(size_px: tuple[int, int]) -> None:
    width_px, height_px = size_px
    box = (width_px * 0.3, height_px * 0.5, width_px * 0.6, height_px * 0.9)
    rgb = drawn(Row(human_box_xyxy=box, object=-1, label=-1), frame=black(*size_px))
    rows = np.flatnonzero(rgb.any(axis=(1, 2)))
    assert 0.03 < (int(box[1]) - int(rows[0])) / height_px < 0.11


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    boxes=hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32) | st.floats(-100, 100, width=32)),
    size_px=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_annotator_accepts_any_boxes(boxes: NDArray[np.float32], size_px: tuple[int, int]) -> None:
    rows = [
        Row(pair=i, human=i, human_box_xyxy=box.tolist(), object_box_xyxy=box[::-1].tolist())
        for i, box in enumerate(boxes)
    ]
    annotator = Annotator(VOCABULARY, "a notice", "a model")
    assert annotator.draw(black(*size_px), tracked(*rows)).shape == (size_px[1], size_px[0], 3)


def test_boxes_outside_are_not_drawn_and_partly_outside_are_closed() -> None:
    assert not drawn(Row(human_box_xyxy=(400, 10, 500, 90), object=-1)).any()
    seen = where(drawn(Row(human_box_xyxy=(-50, 100, 60, 300), object=-1)))
    assert seen[115, 0]
    assert seen[115, 60]
    assert seen[239, 50]


def test_label_that_is_too_wide_is_made_smaller() -> None:
    full = fitting_chip("1: ride, sit on, hold bicycle +2", 12, person_color(1), (1000, 90))
    assert full.size_px[0] > 120
    fitted = fitting_chip("1: ride, sit on, hold bicycle +2", 12, person_color(1), (120, 90))
    assert fitted.size_px[0] <= 120
    assert fitted.size_px[1] < full.size_px[1]
    assert drawn(Row(active=range(5)), frame=black(120, 90)).any()


def test_labels_do_not_flicker_while_boxes_and_scores_tremble() -> None:
    """In a video of a standing person only a few pixels along the lines differ between frames."""
    annotator, rng = Annotator(VOCABULARY), np.random.default_rng(0)
    frames = []
    for n in range(20):
        human, cup = (tuple((box + rng.uniform(-0.4, 0.4, 4)).tolist()) for box in (np.array(HUMAN), np.array(OBJECT)))
        scores = dict(enumerate(rng.uniform(0.5, 0.9, 2)))
        row = Row(human_box_xyxy=human, object_box_xyxy=cup, verbs=scores, active=(0, 1))
        frames.append(annotator.draw(black(pts_s=n / 25), tracked(row)).astype(int))
    label = (slice(30, 56), slice(20, 180))
    assert frames[0][label].any()
    assert all(np.array_equal(frame[label], frames[0][label]) for frame in frames)


def test_legend_with_model_and_time_is_at_the_top_if_it_fits() -> None:
    legend = Annotator(VOCABULARY, model="drawn")
    first, later = (legend.draw(black(640, 480, pts_s), tracked()) for pts_s in (0.0, 61.2))
    assert first[:24].any()
    assert not first[24:].any()
    changed = np.flatnonzero((first != later).any(axis=(0, 2)))
    assert changed.min() > 540, "only the clock at the right changes"
    assert not legend.draw(black(160, 120), tracked()).any()
    person = Row(human_box_xyxy=(0, 12, 60, 200), object=-1, label=-1)
    with_person = legend.draw(black(640, 480), tracked(person))
    assert np.array_equal(with_person[:10, 70:300], first[:10, 70:300]), "a label goes elsewhere"


def test_notice_is_at_the_bottom() -> None:
    rgb = Annotator(VOCABULARY, "this model is untrained").draw(black(), tracked())
    assert rgb[220:].any()
    assert not rgb[:220].any()
