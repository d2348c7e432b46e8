"""HOI-A JSON: what is written is read back, and nothing malformed gets through."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import DataError, SinkError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import image_annotation
from hoiclip.data.formats.hoia import UNREADABLE, parse_hoia, read_hoia, write_hoia
from tests.hoiclip.small_datasets import FRUIT, fruit, same, save_json


def test_hoia_is_read_back_as_written(tmp_path: Path) -> None:
    sets = {
        FRUIT: [fruit("a.png"), fruit("deep/b.png", 0, 0)],
        load_vocabulary("hico"): [
            image_annotation("h.jpg", [(0.1, 0.2, 160.71, 99), (1, 1, 9, 9)], [0, 4], [(0, 1, 4), (0, 1, 17)]),
            image_annotation("empty.jpg", [], [], []),
        ],
        load_vocabulary("vcoco"): [
            image_annotation("v.jpg", [(0, 0, 9, 9), (1, 1, 5, 5)], [0, 41], [(0, 1, 0), (0, -1, 1)])
        ],
    }
    for vocabulary, made in sets.items():
        write_hoia(tmp_path / "set.json", made, vocabulary)
        again = read_hoia(tmp_path / "set.json", vocabulary)
        assert len(again) == len(made)
        assert all(map(same, again, made)), vocabulary.name
    assert [path.name for path in tmp_path.iterdir()] == ["set.json"]


def test_hoia_numbers_are_those_of_the_official_files(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    hico = load_vocabulary("hico")
    stop_sign = hico.objects.index("stop_sign")
    hoi = next(i for i, (_, obj) in enumerate(hico.hois) if obj == stop_sign)
    row = image_annotation("h.jpg", [(0, 0, 9, 9), (1, 1, 5, 5)], [0, stop_sign], [(0, 1, hico.hois[hoi][0])])
    write_hoia(path, [row], hico)
    (image,) = json.loads(path.read_text())
    assert [box["category_id"] for box in image["annotations"]] == [1, 13]  # COCO leaves 12 out
    (interaction,) = image["hoi_annotation"]
    assert (interaction["category_id"], interaction["hoi_category_id"]) == (hico.hois[hoi][0] + 1, hoi + 1)

    write_hoia(path, [image_annotation("v.jpg", [(0, 0, 9, 9)], [0], [(0, -1, 28)])], load_vocabulary("vcoco"))
    (interaction,) = json.loads(path.read_text())[0]["hoi_annotation"]
    assert interaction == {"subject_id": 0, "object_id": -1, "category_id": 28}

    write_hoia(path, [fruit()], FRUIT)
    assert [row["category_id"] for row in json.loads(path.read_text())[0]["annotations"]] == [1, 2, 3, 2]


def test_hoia_numbers_written_as_text_are_read() -> None:
    image = valid()
    image["annotations"][0]["category_id"] = "1\n"
    (annotation,), problems = parse_hoia([image], FRUIT)
    assert not problems
    assert annotation.labels[0] == 0


def valid() -> dict[str, Any]:
    return {
        "file_name": "a.png",
        "annotations": [{"bbox": [1, 2, 30, 40], "category_id": 1}, {"bbox": [0, 0, 9.5, 9], "category_id": 2}],
        "hoi_annotation": [{"subject_id": 1, "object_id": 0, "category_id": 1, "hoi_category_id": 1}],
    }


FAULTS = [
    (["file_name"], 7, "malformed", "file_name"),
    (["file_name"], "/etc/passwd", "malformed", "file_name"),
    (["file_name"], "../a.png", "malformed", "file_name"),
    (["annotations"], {}, "malformed", "annotations"),
    (["annotations", 0], None, "malformed", "annotations[0]"),
    (["annotations", 0, "bbox"], [1, 2, 3], "malformed", "annotations[0].bbox"),
    (["annotations", 0, "bbox"], [1, 2, 3, float("nan")], "malformed", "annotations[0].bbox"),
    (["annotations", 0, "bbox"], [1, 2, 3, 10**400], "malformed", "annotations[0].bbox"),
    (["annotations", 0, "bbox"], [1, 2, 3, "4px"], "malformed", "annotations[0].bbox"),
    (["annotations", 0, "category_id"], 4, "unknown-label", "annotations[0].category_id"),
    (["annotations", 0, "category_id"], True, "malformed", "annotations[0].category_id"),
    (["hoi_annotation", 0, "subject_id"], 2, "wrong-index", "hoi_annotation[0].subject_id"),
    (["hoi_annotation", 0, "subject_id"], -1, "wrong-index", "hoi_annotation[0].subject_id"),
    (["hoi_annotation", 0, "object_id"], -1, "wrong-index", "hoi_annotation[0].object_id"),
    (["hoi_annotation", 0, "object_id"], 10**30, "wrong-index", "hoi_annotation[0].object_id"),
    (["hoi_annotation", 0, "category_id"], 0, "unknown-label", "hoi_annotation[0].category_id"),
    (["hoi_annotation", 0, "category_id"], 3, "unknown-label", "hoi_annotation[0].category_id"),
    (["hoi_annotation", 0, "hoi_category_id"], 2, "triplet-mismatch", "hoi_annotation[0].hoi_category_id"),
    (["hoi_annotation", 0, "hoi_category_id"], 5, "unknown-label", "hoi_annotation[0].hoi_category_id"),
    (["hoi_annotation", 0, "hoi_category_id"], None, "malformed", "hoi_annotation[0].hoi_category_id"),
    (["width"], 0, "malformed", "width"),
]


def with_fault(place: list[Any], value: object) -> dict[str, Any]:
    image = copy.deepcopy(valid())
    inner: Any = image
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return image


def test_hoia_example_has_no_other_faults() -> None:
    assert parse_hoia([valid()], FRUIT)[1] == []


@pytest.mark.parametrize(("place", "value", "kind", "field"), FAULTS, ids=lambda value: str(value)[:40])
def test_hoia_fault_is_named_with_image_and_field(
    place: list[Any], value: object, kind: str, field: str, tmp_path: Path
) -> None:
    image = with_fault(place, value)
    _, problems = parse_hoia([valid(), image], FRUIT)
    assert problems[0].kind == kind
    assert len(problems) == 1 or place == ["annotations"]  # without rows every index is wrong
    with pytest.raises(DataError) as caught:
        read_hoia(save_json(tmp_path / "set.json", [valid(), image]), FRUIT)
    message = str(caught.value)
    assert field in message
    assert ("image 1" if field == "file_name" else "a.png") in message
    assert "\n" not in message


def test_hoia_rows_keep_their_numbers_beside_an_unreadable_row() -> None:
    (annotation,), _ = parse_hoia([with_fault(["annotations", 0, "bbox"], "x")], FRUIT)
    assert annotation.labels.tolist() == [UNREADABLE, 1]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1}', "[1]", "\xff"])
def test_hoia_file_of_anything_else_is_one_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        read_hoia(path, FRUIT)
    with pytest.raises(DataError, match="cannot read"):
        read_hoia(tmp_path / "missing.json", FRUIT)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(valid())), inner, max_size=3),
    max_leaves=8,
)
PLACES = [place for place, *_ in FAULTS]


@settings(deadline=None, derandomize=True, max_examples=150)
@given(place=st.sampled_from(PLACES), value=ANYTHING)
def test_hoia_values_are_read_or_reported(place: list[Any], value: object) -> None:
    for data in ([with_fault(place, value)], value):
        annotations, problems = parse_hoia(data, FRUIT)
        for annotation in annotations:
            assert np.isfinite(annotation.boxes_xyxy).all()
            rows = len(annotation.labels)
            assert all(0 <= h < rows and 0 <= o < rows and 0 <= v < 2 for h, o, v in annotation.interactions)
        assert problems or len(annotations) == len(data)  # type: ignore[arg-type]


def test_hoia_refuses_to_write_unknown_hoi(tmp_path: Path) -> None:
    eating_a_person = image_annotation("a.png", [(0, 0, 9, 9), (1, 1, 5, 5)], [1, 1], [(0, 1, 0)])
    with pytest.raises(DataError, match=r"a\.png"):
        write_hoia(tmp_path / "set.json", [eating_a_person], FRUIT)
    with pytest.raises(SinkError):
        write_hoia(tmp_path / "missing" / "set.json", [fruit()], FRUIT)
    assert not list(tmp_path.iterdir())
