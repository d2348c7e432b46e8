"""Every fault a dataset may have is found under its own name, and a sound set has none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.annotations import image_annotation
from hoiclip.data.check import KINDS, check
from hoiclip.data.formats.hoia import write_hoia
from hoiclip_engine.cli.main import main
from tests.hoiclip.small_datasets import FRUIT, fruit, save_json, save_noise

Image = dict[str, Any]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Two images with their annotations and vocabulary."""
    for i, name in enumerate("ab"):
        save_noise(tmp_path / "images" / f"{name}.png", seed=i)
    write_hoia(tmp_path / "set.json", [fruit("a.png"), fruit("b.png")], FRUIT)
    (tmp_path / "vocabulary.json").write_text(FRUIT.to_json(), encoding="utf-8")
    return tmp_path / "set.json"


def kinds(path: Path, **arguments: Any) -> set[str]:
    return {problem.kind for problem in check(path, FRUIT, **arguments).problems}


def test_check_finds_nothing_in_sound_dataset(sound: Path) -> None:
    report = check(sound, FRUIT, images_dir=sound.parent / "images")
    assert report.problems == ()
    assert (report.images, report.boxes, report.interactions) == (2, 8, 8)


def _set(row: str, index: int, **values: object) -> Callable[[Image], object]:
    return lambda image: image[row][index].update(values)


FAULTS: dict[str, Callable[[Image], object]] = {
    "degenerate-box": _set("annotations", 0, bbox=[4, 5, 4, 15]),
    "box-outside": _set("annotations", 0, bbox=[4, 5, 66, 15]),
    "unknown-label": _set("annotations", 3, category_id=9),
    "wrong-index": _set("hoi_annotation", 0, object_id=4),
    "triplet-mismatch": _set("hoi_annotation", 0, hoi_category_id=3),
    "human-no-person": _set("hoi_annotation", 0, subject_id=2),
    "malformed": lambda image: image.pop("annotations"),
    "duplicate-interaction": lambda image: image["hoi_annotation"].append(image["hoi_annotation"][0]),
    "empty-image": lambda image: image["hoi_annotation"].clear(),
    "size-mismatch": lambda image: image.update(width=65),
    "missing-image": lambda image: image.update(file_name="c.png"),
    "duplicate-image": lambda image: image.update(file_name="b.png"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_check_finds_each_fault_under_its_name(kind: str, sound: Path) -> None:
    images = json.loads(sound.read_text())
    FAULTS[kind](images[0])
    save_json(sound, images)
    found = check(sound, FRUIT, images_dir=sound.parent / "images").problems
    assert kind in {problem.kind for problem in found}
    if kind != "malformed":  # without rows every index is wrong, and the image empty
        assert len(found) == 1
        assert found[0].image in ("a.png", "b.png", "c.png")


def test_check_finds_triplet_outside_the_vocabulary(sound: Path) -> None:
    images = json.loads(sound.read_text())
    del images[0]["hoi_annotation"][0]["hoi_category_id"]
    images[0]["hoi_annotation"][0].update(category_id=2, object_id=2)  # throwing pears is no HOI
    assert kinds(save_json(sound, images)) == {"unknown-triplet"}


def test_check_finds_damaged_and_equal_images(sound: Path) -> None:
    images = sound.parent / "images"
    whole = (images / "a.png").read_bytes()
    (images / "a.png").write_bytes(whole[:-300])
    assert kinds(sound, images_dir=images) == {"unreadable-image"}
    (images / "b.png").write_bytes(whole)
    (images / "a.png").write_bytes(whole)
    assert kinds(sound, images_dir=images) == {"same-picture"}


def test_check_takes_missing_size_from_the_file(sound: Path) -> None:
    write_hoia(sound, [fruit("a.png", 0, 0)], FRUIT)
    save_noise(sound.parent / "images" / "a.png", width=50)  # one box ends at 63
    assert kinds(sound) == set()
    assert kinds(sound, images_dir=sound.parent / "images") == {"box-outside"}


@pytest.mark.parametrize("sized", [True, False])
def test_check_finds_one_based_boxes(sized: bool, tmp_path: Path) -> None:
    """Boxes cut at the border, as whole pixels from 0 to size - 1; then all of them one more."""
    rng = np.random.default_rng(0)
    corners = rng.integers(-20, 84, (80, 2, 2))
    corners = np.sort(corners, axis=1).clip(0, 63)
    boxes = corners[(corners[:, 1] > corners[:, 0] + 2).all(axis=1)].reshape(-1, 4)
    assert (boxes[:, :2] == 0).sum() > 10
    size = (64, 64) if sized else (0, 0)

    def found(shift: float) -> set[str]:
        rows = [tuple((box + shift).tolist()) for box in boxes]
        annotation = image_annotation("a.png", rows, [1] * len(rows), [(0, 1, 1)], *size)
        write_hoia(tmp_path / "set.json", [annotation], FRUIT)
        return kinds(tmp_path / "set.json")

    assert found(0) == set()
    assert found(1) == {"one-based-boxes"}
    assert found(0.5) == set()  # nothing at the border proves nothing


def test_check_finds_leaks_between_splits_by_name_and_by_bytes(sound: Path) -> None:
    other, images = sound.parent / "other.json", sound.parent / "images"
    write_hoia(other, [fruit("c.png")], FRUIT)
    save_noise(images / "c.png", seed=2)
    assert kinds(sound, against=other) == kinds(sound, against=other, images_dir=images) == set()
    save_noise(images / "c.png", seed=1)  # b.png under another name
    assert kinds(sound, against=other) == set()
    assert kinds(sound, against=other, images_dir=images) == {"leaked-picture"}

    write_hoia(other, [fruit("a.png")], FRUIT)
    save_noise(sound.parent / "others" / "a.png", seed=3)
    assert kinds(sound, against=other) == {"leaked-name"}
    elsewhere = {"images_dir": images, "against_dir": sound.parent / "others"}
    assert kinds(sound, against=other, **elsewhere) == set()  # the same name, but another image

    with pytest.raises(DataError, match="lists no image"):
        check(sound, FRUIT, against=save_json(other, [{}]))


def test_check_kinds_have_a_severity_and_warnings_do_not_fail() -> None:
    assert set(FAULTS) <= set(KINDS)
    assert set(KINDS.values()) == {"error", "warning"}


def test_check_command_reports_as_text_and_json(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = str(sound.parent / "images")
    assert main(["data", "check", str(sound), "--images", images, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []

    data = json.loads(sound.read_text())
    data[0]["hoi_annotation"].clear()
    save_json(sound, data)
    assert main(["data", "check", str(sound)]) == 0  # a warning
    data[1]["annotations"][0]["bbox"] = [4, 5, 4, 15]
    save_json(sound, data)
    capsys.readouterr()
    assert main(["data", "check", str(sound), "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["errors"], report["warnings"]) == (1, 1)
    assert {row["kind"]: row["severity"] for row in report["problems"]} == {
        "empty-image": "warning",
        "degenerate-box": "error",
    }
    assert main(["data", "check", str(sound)]) == 3
    assert "degenerate-box" in capsys.readouterr().out


def test_check_command_names_unreadable_file(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(sound.parent / "missing.json")]) == 3
    assert main(["data", "check", str(sound), "--images", str(sound.parent / "missing")]) == 3
    assert main(["data", "check", str(sound), "--vocabulary", "fruits"]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("hoiclip: ") for line in lines)


def test_vocabulary_is_recognised_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.json"
    person_alone = image_annotation("v.jpg", [(0, 0, 9, 9)], [0], [(0, -1, 1)])
    write_hoia(path, [person_alone], load_vocabulary("vcoco"))
    assert main(["data", "check", str(path)]) == 0
    hico = load_vocabulary("hico")
    verb, obj = next(hoi for hoi in hico.hois if hico.verbs[hoi[0]] == "zip")
    zipping = image_annotation("h.jpg", [(0, 0, 9, 9), (1, 1, 9, 9)], [0, obj], [(0, 1, verb)])
    write_hoia(path, [zipping], hico)
    assert main(["data", "check", str(path)]) == 0
    assert main(["data", "check", str(path), "--vocabulary", "vcoco"]) == 3  # V-COCO has no 117 verbs


def test_ambiguous_vocabulary_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The HOI-A challenge's files: text numbers, a line an image, no HOI."""
    row = {
        "file_name": "trainval_000000.png",
        "annotations": [{"bbox": [0, 0, 9, 9], "category_id": "1"}, {"bbox": [1, 1, 5, 5], "category_id": "11"}],
        "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": "10"}],
    }
    path = tmp_path / "train.odgt"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "file_name": "trainval_000001.png"}) + "\n")
    assert main(["data", "check", str(path)]) == 2
    assert "HOI-A challenge" in capsys.readouterr().err
    assert main(["data", "check", str(path), "--vocabulary", "vcoco", "--json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["images"] == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"images": [], "annotations": [], "categories": []}, "COCO's instances"),
        ({"classes": [], "annotations": [{"file_name": "a.jpg", "boxes_h": []}]}, "coco-pairs"),
        ({"filenames": [], "correspondence": []}, "hico-json"),
        ([{"action_name": "hold", "role_object_id": []}], "V-COCO's actions"),
        ([{"file_name": "a.jpg", "gtboxes": [], "hoi": []}], "ODGT with gtboxes"),
    ],
)
def test_file_of_another_format_is_named(
    data: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(save_json(tmp_path / "a.json", data)), "--json"]) == 3
    assert message in capsys.readouterr().out


def test_convert_command_writes_hoia(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "classes": ["hold obj"],
        "objects": ["background", "cup"],
        "annotations": [
            {
                "file_name": "a.jpg",
                "boxes_h": [[0, 0, 9, 9]],
                "boxes_o": [[1, 1, 5, 5]],
                "actions": [0],
                "objects": [1],
            },
            {"file_name": "b.jpg", "boxes_h": [], "boxes_o": [], "actions": [], "objects": []},
        ],
    }
    source, target = save_json(tmp_path / "pairs.json", data), tmp_path / "set.json"
    command = ["data", "convert", str(source), "-o", str(target), "--from", "coco-pairs"]
    assert main(command) == 0
    assert [image["file_name"] for image in json.loads(target.read_text())] == ["a.jpg", "b.jpg"]
    assert main(["data", "check", str(target)]) == 0
    assert main([*command, "--skip-empty"]) == 0
    assert len(json.loads(target.read_text())) == 1

    before = copy.deepcopy(source.read_bytes())
    assert main(["data", "convert", str(source), "-o", str(source), "--from", "coco-pairs"]) == 2
    assert source.read_bytes() == before
    assert main(["data", "convert", str(source), "-o", str(target), "--from", "hico-mat"]) == 2
    assert main(["data", "convert", str(source), "-o", str(target), "--from", "hico-mat", "--split", "test"]) == 3
    assert main(["data", "convert", str(source), "-o", str(target), "--from", "vcoco"]) == 2
    assert main(["data", "convert", str(source), "-o", str(tmp_path / "no" / "x.json"), "--from", "coco-pairs"]) == 7
