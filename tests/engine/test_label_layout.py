"""Label layout: labels find room, avoid faces, and stay in place."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.sinks.labels import FORGET_AFTER_S, LabelLayout, Labelled, Rect

PERSON = Rect(100, 80, 160, 220)


def labelled(human: int = 1, box: Rect = PERSON, size_px: tuple[int, int] = (90, 16), *objects: Rect) -> Labelled:
    return Labelled(human=human, size_px=size_px, box=box, objects=objects)


def moved(rect: Rect, dx: float, dy: float) -> Rect:
    return Rect(rect.x1 + dx, rect.y1 + dy, rect.x2 + dx, rect.y2 + dy)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(-20, 320), st.integers(-20, 240), st.integers(1, 120), st.integers(1, 20)),
        min_size=1,
        max_size=12,
    )
)
def test_labels_lie_inside_and_do_not_overlap(labels: list[tuple[int, int, int, int]]) -> None:
    people = [labelled(n, Rect(x, y, x + 30, y + 40), (w, h)) for n, (x, y, w, h) in enumerate(labels)]
    placed = LabelLayout(320, 240).place(people, 0.0)
    assert all(p.x1 >= 0 and p.y1 >= 0 and p.x2 <= 320 and p.y2 <= 240 for p in placed)
    assert [(p.x2 - p.x1, p.y2 - p.y1) for p in placed] == [label[2:] for label in labels]
    # Twelve labels of at most 20 lines always fit above each other in 240.
    crowded = [(a, b) for i, a in enumerate(placed) for b in placed[:i] if a.overlaps(b)]
    assert len(crowded) <= max(0, len(placed) - 6)


def test_labels_of_equal_boxes_do_not_overlap() -> None:
    placed = LabelLayout(320, 240).place([labelled(n, Rect(50, 60, 90, 200)) for n in range(8)], 0.0)
    assert not any(a.overlaps(b) for i, a in enumerate(placed) for b in placed[:i])


def test_label_of_one_person_is_above_their_box() -> None:
    (place,) = LabelLayout(320, 240).place([labelled()], 0.0)
    assert place.x1 == PERSON.x1
    assert 0 < PERSON.y1 - place.y2 < 10


def test_label_covers_no_other_face_where_there_is_room() -> None:
    behind = Rect(100, 20, 160, 160)  # their face is where the label of the first would be
    front, _ = LabelLayout(320, 240).place([labelled(1), labelled(2, behind)], 0.0)
    face = behind._replace(y2=behind.y1 + 35)
    assert not front.overlaps(face)


def test_label_avoids_taken_areas() -> None:
    legend = Rect(0, 40, 320, 80)
    (place,) = LabelLayout(320, 240).place([labelled()], 0.0, [legend])
    assert not place.overlaps(legend)


def test_label_stays_in_place_while_boxes_tremble() -> None:
    layout, rng = LabelLayout(640, 480), np.random.default_rng(0)
    places = {
        layout.place([labelled(1, moved(PERSON, *rng.uniform(-1.5, 1.5, 2).tolist()))], n / 25)[0] for n in range(100)
    }
    assert len(places) == 1


def test_label_keeps_its_side_while_another_is_hardly_better() -> None:
    """Another person passes back and forth: the label moves once, and not back with every step."""
    layout = LabelLayout(640, 480)
    gaps = [60, 30, 20, 19, 21, 19, 21, 19, 21, 19, 21]
    sides = []
    for n, gap in enumerate(gaps * 3):
        passing = Rect(100, PERSON.y1 - gap - 100, 160, PERSON.y1 - gap)
        place = layout.place([labelled(1), labelled(2, passing)], 0.2 * n)[0]
        sides.append((place.x1, place.y1))
    assert len(set(sides[6:])) == 1


def test_label_follows_its_person_without_jumps() -> None:
    layout, tops = LabelLayout(640, 480), []
    for n in range(50):
        (place,) = layout.place([labelled(1, moved(PERSON, 4 * n, 0))], n / 25)
        tops.append(place.x1)
    steps = np.diff(tops)
    assert steps.max() <= 6, "hardly faster than the person, who goes four pixels a frame"
    assert steps.min() >= 0
    assert PERSON.x1 + 4 * 49 - tops[-1] < 16, "a label's height behind at most"


def test_label_glides_to_a_new_side() -> None:
    layout = LabelLayout(640, 480)
    (before,) = layout.place([labelled()], 0.0)
    blocked = [Rect(0, 0, 640, PERSON.y1)]
    layout.place([labelled()], 0.04, blocked)  # nothing may be covered: at once
    away = [layout.place([labelled()], 0.04 * n)[0] for n in range(2, 40)]
    assert not away[0].overlaps(blocked[0])
    assert before.overlaps(blocked[0])


def test_label_places_are_forgotten_after_a_time_jump_or_absence() -> None:
    fresh = LabelLayout(640, 480).place([labelled()], 0.0)
    trembled = [labelled(1, moved(PERSON, 2, 2))]
    for later_s in (FORGET_AFTER_S + 0.1, -0.1):
        layout = LabelLayout(640, 480)
        layout.place([labelled()], 0.0)
        assert layout.place(trembled, later_s) != fresh, "placed anew, not left"
    layout = LabelLayout(640, 480)
    for n in range(1000):
        layout.place([labelled(n)], n * 0.5)
    assert len(layout._places) <= 3, "a camera that runs for months keeps nothing of those who left"
