"""Other people's formats, small ones made here. The real files: tests/shared/test_real_annotations.py."""

from __future__ import annotations

import contextlib
import copy
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.formats.coco import COCO_IDS, read_instances, read_pairs
from hoiclip.data.formats.hico import read_hico_json, read_hico_mat
from hoiclip.data.formats.vcoco import read_vsrl
from tests.hoiclip.small_datasets import FRUIT, save_json

HICO = load_vocabulary("hico")
VCOCO = load_vocabulary("vcoco")


def structs(rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """A MATLAB struct array of one row."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def mat_box(x1: int, x2: int, y1: int, y2: int) -> dict[str, float]:
    return {"x1": float(x1), "x2": float(x2), "y1": float(y1), "y2": float(y2)}


def save_mat(path: Path, *, connection: object = ((1, 2), (1, 1)), first_noun: str = "airplane") -> Path:
    """One image: HOI 153 (its own object) with one human, two objects; and an invisible HOI."""
    seen = {
        "id": 153,
        "bboxhuman": structs([mat_box(1, 100, 2, 200)]),
        "bboxobject": structs([mat_box(11, 50, 12, 60), mat_box(21, 70, 22, 80)]),
        "connection": np.array(connection, float),
        "invis": 0,
    }
    nothing = np.empty((0, 0))
    unseen = {"id": 154, "bboxhuman": nothing, "bboxobject": nothing, "connection": nothing, "invis": 1}
    image = {
        "filename": "HICO_train2015_00000001.jpg",
        "size": structs([{"width": 640, "height": 480, "depth": 3}]),
        "hoi": structs([seen, unseen]),
    }
    empty = image | {"filename": "HICO_train2015_00000002.jpg", "hoi": structs([unseen])}
    actions = [{"nname": HICO.objects[obj], "vname": HICO.verbs[verb]} for verb, obj in HICO.hois]
    actions[0]["nname"] = first_noun
    test = image | {"filename": "HICO_test2015_00000001.jpg"}
    content = {"bbox_train": structs([image, empty]), "bbox_test": structs([test]), "list_action": structs(actions)}
    savemat(path, content)
    return path


def test_hico_mat_is_read(tmp_path: Path) -> None:
    path = save_mat(tmp_path / "anno_bbox.mat")
    first, empty = read_hico_mat(path, HICO, "train")
    verb, obj = HICO.hois[152]
    assert first.file_name == "HICO_train2015_00000001.jpg"
    assert (first.width_px, first.height_px) == (640, 480)
    assert not len(empty.interactions)
    found = [
        (*first.boxes_xyxy[human].tolist(), *first.boxes_xyxy[other].tolist(), int(first.labels[other]), v)
        for human, other, v in first.interactions.tolist()
    ]
    person = (0.0, 1.0, 99.0, 199.0)  # 1-based in the file
    assert found == [(*person, 20, 21, 69, 79, obj, verb), (*person, 10, 11, 49, 59, obj, verb)]
    assert [annotation.file_name for annotation in read_hico_mat(path, HICO, "test")] == ["HICO_test2015_00000001.jpg"]


def test_hico_mat_that_does_not_fit_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "anno_bbox.mat"
    with pytest.raises(DataError, match=r"HICO_train2015_00000001\.jpg: connection must be"):
        read_hico_mat(save_mat(path, connection=((1, 3),)), HICO, "train")
    with pytest.raises(DataError, match=r"list_action\(1\)"):
        read_hico_mat(save_mat(path, first_noun="zebra"), HICO, "train")
    savemat(path, {"bbox_train": 1.0})
    with pytest.raises(DataError, match="list_action"):
        read_hico_mat(path, HICO, "train")
    whole = save_mat(path).read_bytes()
    for end in (0, 50, 200, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            read_hico_mat(path, HICO, "train")
    with pytest.raises(DataError, match="cannot read"):
        read_hico_mat(tmp_path / "missing.mat", HICO, "train")


def _inflating(path: Path, size: int) -> Path:
    """A MATLAB 5 file of one compressed element."""
    element = zlib.compress(bytes(size), 9)
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<2I", 15, len(element)) + element)
    return path


def test_hico_mat_that_inflates_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip.data.formats.hico._LARGEST_INFLATED", 4 << 20)
    path = _inflating(tmp_path / "bomb.mat", 5 << 20)
    assert path.stat().st_size < 1 << 14
    with pytest.raises(DataError, match="more than 4 MiB when it is decompressed"):
        read_hico_mat(path, HICO, "train")


def hico_json() -> dict[str, Any]:
    return {
        "filenames": ["a.jpg", "b.jpg"],
        "size": [[64, 48], [32, 32]],
        "objects": ["pear", "apple"],
        "verbs": ["throw", "eat"],
        "correspondence": [[0, 1, 1], [1, 0, 1]],
        "annotation": [
            {
                "boxes_h": [[1, 1, 20, 48], [1, 1, 20, 48]],
                "boxes_o": [[5, 5, 9, 9], [15, 5, 19, 9]],
                "hoi": [0, 1],
                "object": [1, 0],
                "verb": [1, 1],
            },
            {"boxes_h": [], "boxes_o": [], "hoi": [], "object": [], "verb": []},
        ],
    }


def test_hico_json_is_read_by_name_and_becomes_zero_based(tmp_path: Path) -> None:
    first, empty = read_hico_json(save_json(tmp_path / "hico.json", hico_json()), FRUIT)
    assert first.boxes_xyxy.tolist() == [[0, 0, 19, 47], [4, 4, 8, 8], [14, 4, 18, 8]]
    assert first.labels.tolist() == [1, 0, 2]
    assert first.interactions.tolist() == [[0, 1, 0], [0, 2, 0]]
    assert (empty.file_name, len(empty.boxes_xyxy), empty.width_px) == ("b.jpg", 0, 32)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("filenames", ["a.jpg"], "equally long"),
        ("size", [[64], [32, 32]], "a.jpg: size"),
        ("objects", ["pear", "car"], r"objects 'car' is not in the vocabulary"),
        ("verbs", None, "verbs must be a list"),
        ("correspondence", [[0, 0, 0], [1, 0, 1]], "a.jpg: hoi 0"),
        ("annotation", [{}, {}], "a.jpg: boxes_h must be a list"),
    ],
)
def test_hico_json_that_contradicts_itself_is_one_error(
    field: str, value: object, message: str, tmp_path: Path
) -> None:
    path = save_json(tmp_path / "hico.json", hico_json() | {field: value})
    with pytest.raises(DataError, match=message):
        read_hico_json(path, FRUIT)


def instances() -> dict[str, Any]:
    return {
        "categories": [{"id": 1, "name": "person"}, {"id": 47, "name": "cup"}, {"id": 37, "name": "sports ball"}],
        "images": [{"id": 7, "file_name": "000000000007.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": 70, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 30], "iscrowd": 0},
            {"id": 71, "image_id": 7, "category_id": 47, "bbox": [12, 20, 4, 5], "iscrowd": 0},
            {"id": 72, "image_id": 7, "category_id": 37, "bbox": [60, 20, 8, 8], "iscrowd": 0},
            {"id": 73, "image_id": 7, "category_id": 1, "bbox": [0, 0, 99, 79], "iscrowd": 1},
        ],
    }


@pytest.mark.parametrize("rows", ["images", "annotations", "categories"])
def test_coco_id_that_occurs_twice_is_named(rows: str, tmp_path: Path) -> None:
    data = instances()
    data[rows].append({**data[rows][0], "note": "another"})
    with pytest.raises(DataError, match=rf"id {data[rows][0]['id']} is there twice"):
        read_instances(save_json(tmp_path / "coco.json", data), VCOCO)


def test_coco_annotation_repeated_verbatim_counts_once(tmp_path: Path) -> None:
    data = instances()
    data["annotations"] += data["annotations"]
    read = [read_instances(save_json(tmp_path / "coco.json", coco), VCOCO) for coco in (data, instances())]
    assert read[0] == read[1]


def test_coco_images_of_equal_number_are_named(tmp_path: Path) -> None:
    data = instances()
    data["images"].append({"id": 8, "file_name": "other_000000000007.jpg", "width": 100, "height": 80})
    coco, path = save_json(tmp_path / "coco.json", data), save_json(tmp_path / "pairs.json", pairs())
    with pytest.raises(DataError, match=r"other_000000000007\.jpg have one number"):
        read_pairs(path, VCOCO, coco)


def test_hico_json_hoi_that_occurs_twice_is_named(tmp_path: Path) -> None:
    data = hico_json()
    data["correspondence"].append(data["correspondence"][0])
    with pytest.raises(DataError, match="HOI of correspondence 0 is there twice"):
        read_hico_json(save_json(tmp_path / "hico.json", data), FRUIT)


@pytest.mark.parametrize("kind", [float, str, lambda value: f"{value}.0"])
def test_numbers_may_be_written_as_text_or_with_decimals(kind: Callable[[int], object], tmp_path: Path) -> None:
    """And "0" is no crowd."""
    data = instances()
    for row in (*data["images"], *data["annotations"], *data["categories"]):
        row.update({name: kind(value) for name, value in row.items() if isinstance(value, int)})
    assert read_instances(save_json(tmp_path / "b.json", data), VCOCO) == read_instances(
        save_json(tmp_path / "a.json", instances()), VCOCO
    )


def vsrl() -> list[dict[str, Any]]:
    def action(name: str, roles: list[str], label: int, fillers: list[int]) -> dict[str, Any]:
        agents = {"image_id": [7], "ann_id": [70], "label": [label]}
        return agents | {"action_name": name, "role_name": ["agent", *roles], "role_object_id": [70, *fillers]}

    return [
        action("hold", ["obj"], 1, [71]),
        action("walk", [], 1, []),
        action("cut", ["instr", "obj"], 1, [0, 72]),
        action("kick", ["obj"], 0, [0]),
    ]


def test_vsrl_roles_become_verbs(tmp_path: Path) -> None:
    coco = save_json(tmp_path / "coco.json", instances())
    (annotation,) = read_vsrl(save_json(tmp_path / "vsrl.json", vsrl()), coco, VCOCO)
    assert (annotation.file_name, annotation.width_px, annotation.height_px) == ("000000000007.jpg", 100, 80)
    assert annotation.boxes_xyxy.tolist() == [[10, 10, 30, 40], [12, 20, 16, 25], [60, 20, 68, 28]]
    assert [VCOCO.objects[label] for label in annotation.labels] == ["person", "cup", "sports_ball"]
    found = [(VCOCO.verbs[verb], human, obj) for human, obj, verb in annotation.interactions.tolist()]
    assert found == [("hold_obj", 0, 1), ("walk", 0, -1), ("cut_instr", 0, -1), ("cut_obj", 0, 2)]


@pytest.mark.parametrize(
    ("action", "field", "value", "message"),
    [
        (0, "action_name", "juggle", "not in the vocabulary"),
        (0, "role_object_id", [70], "role_object_id must have 2 times 1"),
        (0, "role_object_id", [70, 99], r"annotation 99 is not among the instances of 000000000007\.jpg"),
        (0, "ann_id", [73], r"annotation 73 of 000000000007\.jpg is a crowd"),
        (0, "role_object_id", [70, 73], r"annotation 73 of 000000000007\.jpg is a crowd"),
        (1, "image_id", [8], "image 8: image_id is not in"),
        (1, "label", [1, 1], "equally long"),
        (2, "image_id", ["x"], "image_id must be a whole number"),
    ],
)
def test_vsrl_that_does_not_fit_its_boxes_is_one_error(
    action: int, field: str, value: object, message: str, tmp_path: Path
) -> None:
    data = vsrl()
    data[action][field] = value
    coco = save_json(tmp_path / "coco.json", instances())
    with pytest.raises(DataError, match=message):
        read_vsrl(save_json(tmp_path / "vsrl.json", data), coco, VCOCO)


def pairs() -> dict[str, Any]:
    row = {"boxes_h": [[10, 10, 30, 40]] * 2, "boxes_o": [[12, 20, 16, 25], [0, 0, 0, 0]], "actions": [0, 1]}
    return {
        "classes": ["hold obj", "walk"],
        "objects": ["background", "person", "cup"],
        "annotations": [row | {"objects": [2, 0], "file_name": "COCO_val2014_000000000007.jpg"}],
    }


def test_coco_pairs_take_names_from_their_file_and_the_rest_from_instances(tmp_path: Path) -> None:
    path = save_json(tmp_path / "pairs.json", pairs())
    (alone,) = read_pairs(path, VCOCO)
    assert (alone.width_px, len(alone.labels)) == (0, 2)
    (annotation,) = read_pairs(path, VCOCO, save_json(tmp_path / "coco.json", instances()))
    assert annotation.file_name == "COCO_val2014_000000000007.jpg"
    assert (annotation.width_px, annotation.height_px) == (100, 80)
    assert (
        annotation.interactions.tolist()
        == alone.interactions.tolist()
        == [[0, 1, 0], [0, -1, VCOCO.verbs.index("walk")]]
    )
    assert [VCOCO.objects[label] for label in annotation.labels] == ["person", "cup", "sports_ball"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boxes_h", [[1, 2, 3, 4]], "boxes_h, boxes_o, actions, objects must be equally long, found 1, 2, 2, 2"),
        ("boxes_o", [[1, 2, 3], [1, 2, 3, 4]], "boxes_o must be four"),
        ("actions", [0, 2], "actions must be at least 0 and below 2"),
        ("objects", [2, 3], "objects must be at least 0 and below 3"),
    ],
)
def test_coco_pairs_that_are_malformed_are_one_error(field: str, value: object, message: str, tmp_path: Path) -> None:
    data = pairs()
    data["annotations"][0][field] = value
    with pytest.raises(DataError, match=f"COCO_val2014_000000000007.jpg: {message}"):
        read_pairs(save_json(tmp_path / "pairs.json", data), VCOCO)


READERS: list[tuple[Callable[[], Any], Callable[[Path, Path], object]]] = [
    (hico_json, lambda damaged, coco: read_hico_json(damaged, FRUIT)),
    (pairs, lambda damaged, coco: read_pairs(damaged, VCOCO, coco)),
    (vsrl, lambda damaged, coco: read_vsrl(damaged, coco, VCOCO)),
    (instances, lambda damaged, coco: read_instances(damaged, VCOCO)),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "file_name"]), inner),
    max_leaves=4,
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every list or object inside, with each of its keys."""
    keys = list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []
    return [(data, key) for key in keys] + [place for key in keys for place in places(data[key])]


@settings(
    deadline=None, derandomize=True, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(reader=st.sampled_from(READERS), where=st.integers(0, 10_000), value=ANYTHING)
def test_formats_read_any_value_or_raise_one_error(
    reader: tuple[Any, Any], where: int, value: object, tmp_path: Path
) -> None:
    made, read = reader
    data = made()
    inner, key = places(data)[where % len(places(data))]
    inner[key] = value
    coco = save_json(tmp_path / "coco.json", instances())
    with contextlib.suppress(DataError):
        read(save_json(tmp_path / "damaged.json", data), coco)


def test_coco_instances_are_checked(tmp_path: Path) -> None:
    for place, field, value in [
        ("images", "width", -1),
        ("annotations", "image_id", 9),
        ("categories", "name", "unicorn"),
    ]:
        data = copy.deepcopy(instances())
        data[place][0][field] = value
        with pytest.raises(DataError, match=str(value)):
            read_instances(save_json(tmp_path / "coco.json", data), VCOCO)


def test_coco_ids_have_gaps() -> None:
    assert len(COCO_IDS) == len(HICO.objects)
    named = {name: COCO_IDS[HICO.objects.index(name)] for name in ("person", "stop_sign", "dining_table", "toothbrush")}
    assert named == {"person": 1, "stop_sign": 13, "dining_table": 67, "toothbrush": 90}
