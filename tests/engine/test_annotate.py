"""What the annotated picture shows, and where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hoiclip_engine.frame import Frame
from hoiclip_engine.sinks.annotate import MIN_SHOWN, Annotator, label_ink, pair_color
from hoiclip_engine.sinks.label_layout import LabelLayout, Rect
from tests.engine.making_results import VOCABULARY, Row, tracked

annotator = Annotator(VOCABULARY)


def black(width_px: int = 320, height_px: int = 240) -> Frame:
    return Frame(np.zeros((height_px, width_px, 3), np.uint8), 0.0, 0)


def where(rgb: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((rgb == color).all(axis=2))


def test_the_frame_itself_stays_as_it_is() -> None:
    frame = black()
    drawn = annotator.draw(frame, tracked(Row()))
    assert drawn.any()
    assert not frame.rgb.any()
    assert drawn.shape == frame.rgb.shape
    assert drawn.dtype == np.uint8


def test_without_pairs_nothing_is_drawn() -> None:
    frame = Frame(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), 0.0, 0)
    assert np.array_equal(annotator.draw(frame, tracked()), frame.rgb)


def test_both_boxes_and_the_line_between_their_centres_are_drawn() -> None:
    row = Row(human_box_xyxy=(20, 60, 100, 200), object_box_xyxy=(180, 80, 300, 220))
    seen = where(annotator.draw(black(), tracked(row)), pair_color(1))
    for x, y in [
        (20, 130),
        (100, 130),
        (60, 200),
        (180, 150),
        (300, 150),
        (240, 220),
        (60, 130),
        (240, 150),
        (150, 140),
    ]:
        assert seen[y - 1 : y + 2, x - 1 : x + 2].any(), (x, y)


def test_a_pair_without_object_has_one_box_and_no_line() -> None:
    row = Row(human_box_xyxy=(20, 60, 100, 200), object_box_xyxy=(180, 80, 300, 220), object=-1, label=-1)
    seen = where(annotator.draw(black(), tracked(row)), pair_color(1))
    assert seen[150, 20]
    assert not seen[:, 140:].any()


def test_a_pair_that_does_nothing_is_thin_and_has_no_text() -> None:
    row = Row(human_box_xyxy=(20, 60, 100, 200), object_box_xyxy=(180, 80, 300, 220))
    quiet = Row(human_box_xyxy=row.human_box_xyxy, object_box_xyxy=row.object_box_xyxy, active=())
    busy_pixels = where(annotator.draw(black(), tracked(row)), pair_color(1)).sum()
    quiet_pixels = where(annotator.draw(black(), tracked(quiet)), pair_color(1)).sum()
    assert quiet_pixels == 2 * (80 + 140) + 2 * (120 + 140)
    assert busy_pixels > 2 * quiet_pixels


def test_a_pair_of_which_no_verb_is_believed_is_left_out() -> None:
    drawn = annotator.draw(black(), tracked(Row(verbs={0: MIN_SHOWN - 0.01}, active=())))
    assert not drawn.any()
    assert annotator.draw(black(), tracked(Row(verbs={0: MIN_SHOWN - 0.01}))).any()  # it goes on, by hysteresis


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Row(), "ride bicycle 0.88"),
        (Row(verbs={1: 0.7, 0: 0.88}, active=(0, 1)), "ride, sit on bicycle 0.88"),
        (Row(verbs={0: 0.88, 1: 0.97}, active=(0,)), "ride bicycle 0.88"),
        (Row(label=1, verbs={2: 0.5}, active=(2,)), "hold sports ball 0.50"),
        (Row(label=-1, object=-1), "ride 0.88"),
        (Row(verbs=dict(enumerate((0.9, 0.8, 0.7, 0.6, 0.5))), active=range(5)), "ride, sit on, hold +2 bicycle 0.90"),
    ],
)
def test_a_label_reads_like_a_sentence(row: Row, text: str) -> None:
    assert annotator.text(tracked(row), 0) == text


def test_a_pair_keeps_its_colour_and_neighbours_differ() -> None:
    colors = [np.array(pair_color(pair)) for pair in range(8)]
    assert pair_color(3) == pair_color(3)
    distances = [np.abs(a - b).max() for i, a in enumerate(colors) for b in colors[:i]]
    assert min(distances) > 40


@pytest.mark.parametrize("size_px", [(320, 240), (1280, 720), (3840, 2160)])
def test_text_grows_with_the_picture(size_px: tuple[int, int]) -> None:
    width_px, height_px = size_px
    box = (width_px * 0.3, height_px * 0.5, width_px * 0.6, height_px * 0.9)
    rgb = annotator.draw(black(*size_px), tracked(Row(human_box_xyxy=box, object=-1, label=-1)))
    colored = where(rgb, pair_color(1)).any(axis=1)
    above_the_box = int(box[1]) - int(np.flatnonzero(colored)[0])
    assert 0.03 < above_the_box / height_px < 0.09


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    boxes=hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32) | st.floats(-100, 100, width=32)),
    size_px=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_boxes_may_be_anything(boxes: NDArray[np.float32], size_px: tuple[int, int]) -> None:
    rows = [Row(pair=i, human_box_xyxy=box.tolist(), object_box_xyxy=box[::-1].tolist()) for i, box in enumerate(boxes)]
    assert annotator.draw(black(*size_px), tracked(*rows)).shape == (size_px[1], size_px[0], 3)


def test_what_lies_outside_is_not_drawn_and_what_lies_half_outside_is_closed() -> None:
    outside = Row(human_box_xyxy=(400, 10, 500, 90), object=-1)
    assert not annotator.draw(black(), tracked(outside)).any()
    half = Row(human_box_xyxy=(-50, 100, 60, 300), object=-1)
    seen = where(annotator.draw(black(), tracked(half)), pair_color(1))
    assert seen[150, 0]
    assert seen[150, 60]
    assert seen[239, 30]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(-20, 320), st.integers(-20, 240), st.integers(1, 120), st.integers(1, 20)),
        min_size=1,
        max_size=12,
    )
)
def test_labels_lie_inside_and_apart(labels: list[tuple[int, int, int, int]]) -> None:
    layout = LabelLayout(320, 240)
    placed = [layout.place(w, h, [Rect(x, y, x + 30, y + 40)]) for x, y, w, h in labels]
    assert all(p.x1 >= 0 and p.y1 >= 0 and p.x2 <= 320 and p.y2 <= 240 for p in placed)
    # Twelve labels of at most 20 lines always fit above each other in 240.
    crowded = [(a, b) for i, a in enumerate(placed) for b in placed[:i] if a.overlaps(b)]
    assert len(crowded) <= max(0, len(placed) - 6)


def test_equal_boxes_get_labels_apart() -> None:
    layout = LabelLayout(320, 240)
    placed = [layout.place(100, 16, [Rect(50, 60, 90, 200)]) for _ in range(8)]
    assert not any(a.overlaps(b) for i, a in enumerate(placed) for b in placed[:i])


def test_a_label_that_is_too_wide_is_made_smaller() -> None:
    row = Row(verbs=dict(enumerate((0.9, 0.8, 0.7, 0.6, 0.5))), active=range(5))
    rgb = annotator.draw(black(120, 90), tracked(row))
    assert label_ink(annotator.text(tracked(row), 0), 12).shape[1] > 120
    assert rgb.any()
