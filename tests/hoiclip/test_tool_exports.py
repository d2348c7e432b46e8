"""Exports of annotation tools become datasets, or one error that names image and box."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import DataError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.check import check
from hoiclip.data.formats.coco_attributes import read_coco_attributes
from hoiclip.data.formats.cvat import read_cvat
from hoiclip.data.formats.hoia import read_hoia, write_hoia
from hoiclip.data.formats.label_studio import read_label_studio
from hoiclip.data.formats.tool_export import Words, rotated_bounds
from hoiclip_engine.cli.main import main
from tests.hoiclip.small_datasets import FRUIT, same, save_json, save_noise
from tests.hoiclip.test_data_formats import ANYTHING, places
from tests.hoiclip.tool_exports import (
    BOXES,
    CAFE,
    EXPECTED,
    JSON_EXPORTS,
    META,
    WALKING,
    Reader,
    coco,
    cvat_xml,
    datumaro,
    label_studio,
    region,
    relation,
    save_export,
    save_xml,
    task,
    verb_choice,
    xml_box,
)


def triplets(annotation: ImageAnnotation, vocabulary: Vocabulary = CAFE) -> list[tuple[str, str, str]]:
    labels = [*annotation.labels.tolist(), -1]
    return [
        (vocabulary.verb_name(verb), vocabulary.object_name(labels[human]), vocabulary.object_name(labels[obj]))
        for human, obj, verb in annotation.interactions.tolist()
    ]


FORMS = (*JSON_EXPORTS, "cvat-xml")


@pytest.mark.parametrize("form", FORMS)
def test_export_becomes_dataset_by_command(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Converted, checked with its images, and read as training reads it; the vocabulary is found beside it."""
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        save_noise(tmp_path / "images" / name, 640, 480, seed)
    (tmp_path / "vocabulary.json").write_text(CAFE.to_json(), encoding="utf-8")
    source, target = save_export(form, tmp_path), tmp_path / "annotations.json"
    command = ["data", "convert", str(source), "-o", str(target), "--from", form.removesuffix("-xml")]
    assert main(command) == 0
    assert "2 images, 4 boxes, 3 pairs, 4 interactions" in capsys.readouterr().err
    assert main(["data", "check", str(target), "--images", str(tmp_path / "images"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [problem["kind"] for problem in report["problems"]] == ["empty-image"]
    first, second = read_hoia(target, CAFE)
    assert sorted(triplets(first)) == sorted(EXPECTED)
    assert (first.file_name, first.width_px, first.height_px, second.file_name) == ("a.jpg", 640, 480, "b.jpg")
    found = {tuple(round(side, 2) for side in box) for box in first.boxes_xyxy.tolist()}
    assert found == {*(tuple(map(float, box)) for box in BOXES.values()), tuple(map(float, WALKING))}
    assert check(target, CAFE, images_dir=tmp_path / "images").count("error") == 0


@pytest.mark.parametrize("form", FORMS)
def test_export_and_hoia_hold_the_same(form: str, tmp_path: Path) -> None:
    reader = read_cvat if form == "cvat-xml" else JSON_EXPORTS[form][1]
    export = reader(save_export(form, tmp_path), CAFE)
    write_hoia(tmp_path / "hoia.json", export.annotations, CAFE)
    back = read_hoia(tmp_path / "hoia.json", CAFE)
    assert all(same(a, b) for a, b in zip(export.annotations[:1], back[:1], strict=True))
    assert +export.notes == {}


def test_command_without_vocabulary_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_export("label-studio", tmp_path)
    command = ["data", "convert", str(source), "-o", str(tmp_path / "out.json"), "--from", "label-studio"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "vocabulary.json" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("form", JSON_EXPORTS)
def test_check_names_the_format_of_an_export(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(save_export(form, tmp_path)), "--json"]) == 3
    assert f"--from {form}" in capsys.readouterr().out


# Words


def test_word_in_other_case_or_with_spaces_is_known() -> None:
    words = Words(CAFE)
    assert [words.label(word) for word in ("Person", " coffee_cup ", "Coffee  Cup")] == [0, 1, 1]
    assert words.verbs(["Hold, drink from", "", "__undefined__", "hold"]) == (0, 1)


@pytest.mark.parametrize(
    ("word", "message"),
    [("hodl", "the verb 'hodl' is not in the vocabulary cafe; did you mean 'hold'?"), ("x" * 99, "is not in the")],
)
def test_unknown_verb_names_image_box_and_nearest_word(word: str, message: str, tmp_path: Path) -> None:
    text = cvat_xml(xml_box("person", BOXES["sitting"], 1), xml_box("bench", BOXES["bench"], 1, word))
    with pytest.raises(DataError) as caught:
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'a.xml'}: image 'a.jpg': box 2")
    assert message in said
    assert len(said) < 400


def test_unknown_label_names_the_nearest_word(tmp_path: Path) -> None:
    data = label_studio()
    data[0]["annotations"][0]["result"][2]["value"]["rectanglelabels"] = ["Benchh"]
    with pytest.raises(DataError, match=r"image 'a.jpg': region 'b1': the label 'Benchh' .* did you mean 'bench'\?"):
        read_label_studio(save_json(tmp_path / "a.json", data), CAFE)


def test_combination_that_the_vocabulary_lacks_is_one_error(tmp_path: Path) -> None:
    text = cvat_xml(xml_box("person", BOXES["sitting"], 1), xml_box("bench", BOXES["bench"], 1, "hold"))
    with pytest.raises(
        DataError, match=r"image 'a.jpg': box 2 \(bench\): 'hold bench' is no HOI of the vocabulary cafe"
    ):
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)
    with pytest.raises(DataError, match="'eat without an object' is no HOI of the vocabulary fruit"):
        read_cvat(save_xml(tmp_path / "a.xml", cvat_xml(xml_box("person", WALKING, 0, "eat"))), FRUIT)


# Groups

PERSON, OTHER = xml_box("person", BOXES["sitting"], 1), xml_box("person", WALKING, 1)
CUP = xml_box("coffee cup", BOXES["cup"], 1, "hold")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ((PERSON, OTHER, CUP), r"group '1' of box 1 \(person\) has 2 persons, of whom 2 have no verb"),
        ((CUP,), r"box 1 \(coffee cup\) has a verb, but no person is grouped with it"),
        ((xml_box("bench", BOXES["bench"], 0, "sit_on"),), r"box 1 \(bench\) has a verb, but no person"),
        (
            (PERSON, xml_box("bench", BOXES["bench"], 1)),
            r"box 2 \(bench\) is grouped with box 1 \(person\), but has no",
        ),
        ((PERSON.replace("person", "Perzon"),), "box 1: the label 'Perzon' .* did you mean 'person'"),
    ],
)
def test_group_that_is_not_clear_is_one_error(shapes: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"a\.xml: image 'a\.jpg': {message}"):
        read_cvat(save_xml(tmp_path / "a.xml", cvat_xml(*shapes)), CAFE)


def test_person_acts_on_the_person_with_the_verb(tmp_path: Path) -> None:
    text = cvat_xml(PERSON, xml_box("person", WALKING, 1, "hug"), CUP)
    (first, _) = read_cvat(save_xml(tmp_path / "a.xml", text), CAFE).annotations
    assert first.interactions.tolist() == [[0, 1, 4], [0, 2, 0]]


def test_object_of_two_people_is_drawn_once_for_each(tmp_path: Path) -> None:
    """Copied in place: the copies are one box again."""
    second = [shape.replace('group_id="1"', 'group_id="2"') for shape in (OTHER, CUP)]
    export = read_cvat(save_xml(tmp_path / "a.xml", cvat_xml(PERSON, CUP, *second)), CAFE)
    assert export.annotations[0].interactions.tolist() == [[0, 1, 0], [2, 1, 0]]
    assert export.notes == {"identical boxes merged": 1}


def test_boxes_grouped_without_verb_or_person_stay_boxes(tmp_path: Path) -> None:
    text = cvat_xml(xml_box("bench", BOXES["bench"], 1), xml_box("coffee cup", BOXES["cup"], 1))
    (first, _) = read_cvat(save_xml(tmp_path / "a.xml", text), CAFE).annotations
    assert (len(first.labels), len(first.interactions)) == (2, 0)


def test_coco_without_tie_is_one_error(tmp_path: Path) -> None:
    data = coco()
    del data["annotations"][1]["attributes"]["human"]
    with pytest.raises(DataError, match=r"image 'a.jpg': annotation 2 \(coffee cup\) has a verb, but no person"):
        read_coco_attributes(save_json(tmp_path / "a.json", data), CAFE)


# Geometry


def test_rotated_bounds_of_quarter_turns() -> None:
    assert rotated_bounds((0, 0, 4, 2), 90, (2, 1)) == pytest.approx((1, -1, 3, 3))
    assert rotated_bounds((0, 0, 4, 2), 90, (0, 0)) == pytest.approx((-2, 0, 0, 4))  # clockwise, y leads down


def test_rotated_box_of_each_tool_is_bounded_about_its_own_centre(tmp_path: Path) -> None:
    box = (100.0, 100.0, 140.0, 120.0)
    turned = xml_box("bench", box, more=' rotation="90.00"')
    cvat = read_cvat(save_xml(tmp_path / "a.xml", cvat_xml(turned)), CAFE)
    studio = read_label_studio(save_json(tmp_path / "a.json", [task(1, "a.jpg", region("b", "bench", box, 90))]), CAFE)
    data = coco()
    data["annotations"] = data["annotations"][2:3]
    data["annotations"][0] |= {"bbox": [100, 100, 40, 20], "attributes": {"rotation": 90.0}}
    of_coco = read_coco_attributes(save_json(tmp_path / "c.json", data), CAFE)
    middle, corner = (110.0, 90.0, 130.0, 130.0), (80.0, 100.0, 100.0, 140.0)
    for export, bounds in ((cvat, middle), (of_coco, middle), (studio, corner)):
        assert export.annotations[0].boxes_xyxy[0].tolist() == pytest.approx(bounds)
        assert +export.notes == {"rotated boxes replaced by the upright rectangle around them": 1}
    data["annotations"][0]["segmentation"] = [[110, 90, 130, 90, 130, 130, 110, 130]]  # its box is upright already
    upright = read_coco_attributes(save_json(tmp_path / "c.json", data), CAFE).annotations[0]
    assert upright.boxes_xyxy[0].tolist() == [100, 100, 140, 120]


def test_boxes_are_clipped_dropped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = cvat_xml(
        xml_box("person", (-20, 10, 700, 480.3), 0),
        xml_box("bench", (10, 10, 10, 50)),
        xml_box("bench", (650, 10, 700, 50)),
        '<polygon label="bench" source="manual" occluded="0" points="1,1;2,2;3,1" z_order="0"></polygon>',
        '<skeleton label="person" z_order="0"><points label="nose" points="1,1"></points></skeleton>',
        '<polygon label="unknown" points="1,1;2,2;3,1"></polygon><tag label="night" source="manual"></tag>',
    )
    (tmp_path / "vocabulary.json").write_text(CAFE.to_json(), encoding="utf-8")
    source, target = save_xml(tmp_path / "a.xml", text), tmp_path / "out.json"
    assert main(["data", "convert", str(source), "-o", str(target), "--from", "cvat"]) == 0
    said = capsys.readouterr().err
    for line in (
        "2 images, 1 boxes, 0 pairs, 0 interactions",
        "boxes clipped to their image: 1",
        "boxes without area left out: 2",
        "ignored polygon: 2",
        "ignored skeleton: 1",
        "ignored tag: 1",
    ):
        assert line in said
    assert read_hoia(target, CAFE)[0].boxes_xyxy.tolist() == [[0, 10, 640, 480]]


def test_box_without_area_in_an_interaction_is_one_error(tmp_path: Path) -> None:
    text = cvat_xml(PERSON, xml_box("coffee cup", (700, 10, 720, 50), 1, "hold"))
    with pytest.raises(DataError, match=r"image 'a.jpg': box 2 \(coffee cup\) has no area inside the image"):
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)


def test_person_cannot_act_on_its_own_box(tmp_path: Path) -> None:
    text = cvat_xml(PERSON, xml_box("person", BOXES["sitting"], 1, "hug"))
    with pytest.raises(DataError, match=r"box 1 \(person\) and box 2 \(person\) are the same box"):
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)


def test_box_thinner_than_float32_resolves_is_left_out(tmp_path: Path) -> None:
    data = datumaro()
    data["items"][0]["annotations"] = [data["items"][0]["annotations"][3] | {"bbox": [500, 1, 1e-6, 9]}]
    data["items"][0]["annotations"][0]["attributes"] = {}
    export = read_cvat(save_json(tmp_path / "a.json", data), CAFE)
    assert (len(export.annotations[0].labels), export.notes) == (0, {"boxes without area left out": 1})


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "", "a", "1e7"])
def test_coordinate_that_is_no_number_is_one_error(value: str, tmp_path: Path) -> None:
    text = cvat_xml().replace('xtl="40.00"', f'xtl="{value}"')
    with pytest.raises(DataError, match=r"image 'a.jpg': box 1: xtl, ytl, xbr, ybr must be four pixel coordinates"):
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)
    data = label_studio()
    data[0]["annotations"][0]["result"][0]["value"]["x"] = float(value) if value in ("nan", "inf") else value
    with pytest.raises(DataError, match=r"image 'a\.jpg': region 's1': x must be a number"):
        read_label_studio(save_json(tmp_path / "a.json", data), CAFE)


# XML


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_xml_in_other_encodings_is_read(encoding: str, tmp_path: Path) -> None:
    text = cvat_xml().replace('name="a.jpg"', 'name="café.jpg"')
    declared = {"utf-16-le": "utf-16le", "latin-1": "iso-8859-1"}.get(encoding, encoding.removesuffix("-sig"))
    path = tmp_path / "a.xml"
    path.write_bytes(text.replace('encoding="utf-8"', f'encoding="{declared}"').encode(encoding))
    assert read_cvat(path, CAFE).annotations[0].file_name == "café.jpg"


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 9))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE annotations [<!ENTITY a0 "ha">{LAUGHS}]>',
        '<!DOCTYPE annotations [<!ENTITY a8 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE annotations SYSTEM "http://127.0.0.1:9/a.dtd">',
        "<!DOCTYPE annotations>",
    ],
)
def test_xml_with_doctype_is_refused(doctype: str, tmp_path: Path) -> None:
    text = cvat_xml().replace("<annotations>", f"{doctype}<annotations>", 1).replace("sit_on", "&a8;")
    with pytest.raises(DataError, match="DOCTYPE"):
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no XML"),
        (cvat_xml()[:-20], "no XML"),
        ("PK\x03\x04", "out of the ZIP of CVAT"),
        ("<annotation></annotation>", "expected CVAT's element annotations, found 'annotation'"),
        (f'{META}<track id="0" label="person"></track></annotations>', "CVAT for video"),
        ('<?xml version="1.0" encoding="no-such"?><annotations/>', "a.xml"),
        (f"{META}<image>{'<a>' * 200}", "nested deeper"),
        (cvat_xml().replace('"b.jpg"', '"a.jpg"'), "image 'a.jpg': name 'a.jpg' is there twice"),
        (cvat_xml().replace('"b.jpg"', '"../b.jpg"'), "must lie below the folder of images"),
        (cvat_xml().replace('"b.jpg"', '"/etc/b.jpg"'), "must lie below the folder of images"),
        (cvat_xml().replace('width="640"', 'width="0"'), "width must be a size in pixels"),
        (cvat_xml().replace('group_id="1"', 'group_id="x"'), "box 1: group_id must be a whole number"),
    ],
)
def test_xml_that_is_not_cvats_is_one_error(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_cvat(save_xml(tmp_path / "a.xml", text), CAFE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_xml_image_with_too_many_elements_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip.data.formats.cvat._MOST_NODES", 200)
    assert read_cvat(save_xml(tmp_path / "a.xml", cvat_xml()), CAFE).annotations
    with pytest.raises(DataError, match="more than 200 elements"):
        read_cvat(save_xml(tmp_path / "a.xml", cvat_xml(*["<tag/>"] * 200)), CAFE)


# Label Studio


def test_export_drawn_in_label_studio_is_read() -> None:
    """Drawn by mouse and keys in its page; the boxes were drawn three times, with one relation."""
    depot = Vocabulary(
        name="depot",
        objects=("person", "box"),
        verbs=("carry",),
        hois=((0, 1),),
        hoi_prompts=("carrying a box",),
        object_prompts=("a person", "a box", "nothing"),
        verb_prompts=("carrying",),
    )
    export = read_label_studio(Path(__file__).parent / "label_studio_1_23_2.json", depot)
    (read,) = export.annotations
    assert (read.file_name, read.width_px, read.height_px) == ("ui.jpg", 640, 480)
    assert triplets(read, depot) == [("carry", "person", "box")]
    assert read.boxes_xyxy[:2] == pytest.approx(np.array([[64, 48, 256, 432], [320, 144, 512, 288]]), abs=1)
    assert +export.notes == {"identical boxes merged": 2}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/1b2c3d4e-a.jpg", "a.jpg"),
        ("/data/upload/3/1b2c3d4e-1b2c3d4e-a.jpg", "1b2c3d4e-a.jpg"),
        ("/label-studio/data/upload/3/1b2c3d4e-a%20b.jpg", "a b.jpg"),
        ("/data/local-files/?d=photos/day%201/a.jpg", "photos/day 1/a.jpg"),
        ("/data/local-files/?d=photos\\a.jpg", "photos/a.jpg"),
        ("s3://bucket/photos/a.jpg", "a.jpg"),
        ("https://example.com/x/a.jpg?token=1", "a.jpg"),
        ("photos/a #1.jpg", "photos/a #1.jpg"),
    ],
)
def test_label_studio_image_address_becomes_file_name(address: str, name: str, tmp_path: Path) -> None:
    (read,) = read_label_studio(save_json(tmp_path / "a.json", [task(1, address)]), CAFE).annotations
    assert read.file_name == name


@pytest.mark.parametrize(
    "address",
    [
        "../a.jpg",
        "/etc/passwd",
        "/data/local-files/?d=../a.jpg",
        "/data/local-files/?d=/a.jpg",
        "data:image/png;base64,",
        "/data/local-files/?d=",
        "/data/local-files/?d=..%2Fa.jpg",
        "http://[",
        "s3://bucket",
    ],
)
def test_label_studio_image_outside_its_folder_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json: task 0: "):
        read_label_studio(save_json(tmp_path / "a.json", [task(1, address)]), CAFE)


def test_label_studio_arrow_says_who_acts_between_persons(tmp_path: Path) -> None:
    people = region("p", "person", BOXES["sitting"]), region("q", "person", WALKING)
    for direction, expected in (("right", [[0, 1, 4]]), ("left", [[1, 0, 4]]), ("bi", [[0, 1, 4], [1, 0, 4]])):
        data = [task(1, "a.jpg", *people, relation("p", "q", "hug", direction=direction))]
        (read,) = read_label_studio(save_json(tmp_path / "a.json", data), CAFE).annotations
        assert read.interactions.tolist() == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (relation("s1", "c1"), "has no verb"),
        ({key: value for key, value in relation("s1", "c1").items() if key != "labels"}, "has no verb"),
        (relation("b1", "c1", "hold"), "neither is a person"),
        (relation("s1", "gone", "hold"), "a relation ends at region 'gone', which is no labelled rectangle"),
        (relation("s1", "s1", "walk"), "leads back to where it starts"),
        (relation("s1", "c1", "hold", direction="up"), "direction must be"),
        (verb_choice("c1", "hold"), "only a person acts without an object"),
        (verb_choice("w1", "wolk"), "did you mean 'walk'"),
        (region("s1", "person", WALKING), "region 's1' is there twice"),
        (region("n", "person", WALKING) | {"image_rotation": 90}, "the view was turned by 90 degrees"),
        (region("n", "person", WALKING) | {"original_width": 320}, "different original sizes"),
    ],
)
def test_label_studio_result_that_is_not_clear_is_one_error(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = label_studio()
    data[0]["annotations"][0]["result"].append(row)
    with pytest.raises(DataError) as caught:
        read_label_studio(save_json(tmp_path / "a.json", data), CAFE)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'a.json'}: image 'a.jpg': ")
    assert message in said
    assert "\n" not in said


def test_label_studio_leaves_out_and_counts_what_was_not_annotated(tmp_path: Path) -> None:
    data = [*label_studio(), task(3, "c.jpg", was_cancelled=True), task(4, "d.jpg"), task(5, "e.jpg")]
    data[3]["annotations"] = []
    bench = region("b", "bench", BOXES["bench"])
    data[4]["annotations"] += task(6, "e.jpg", bench, {"type": "brushlabels", "id": "x"}, ground_truth=True)[
        "annotations"
    ]
    export = read_label_studio(save_json(tmp_path / "a.json", data), CAFE)
    assert [annotation.file_name for annotation in export.annotations] == ["a.jpg", "b.jpg", "e.jpg"]
    assert len(export.annotations[2].labels) == 1
    assert +export.notes == {
        "tasks without annotation left out": 2,
        "skipped annotations left out": 1,
        "further annotations of a task left out": 1,
        "ignored brushlabels": 1,
    }
    data[4]["annotations"][1]["ground_truth"] = False
    with pytest.raises(DataError, match="task 4: it has 2 annotations; delete all but one"):
        read_label_studio(save_json(tmp_path / "a.json", data), CAFE)


def test_label_studio_min_export_is_named(tmp_path: Path) -> None:
    data = [{"id": 1, "image": "/data/upload/3/1b2c3d4e-a.jpg", "label": [], "annotator": 1}]
    with pytest.raises(DataError, match="not as JSON-MIN"):
        read_label_studio(save_json(tmp_path / "a.json", data), CAFE)


def test_datumaro_without_image_names_asks_for_images(tmp_path: Path) -> None:
    data = datumaro()
    data["items"][0]["image"]["path"] = ""
    with pytest.raises(DataError, match=r"items\[0\]: image.path is empty; export again with 'Save images'"):
        read_cvat(save_json(tmp_path / "a.json", data), CAFE)


def test_coco_crowds_are_counted(tmp_path: Path) -> None:
    data = coco()
    data["annotations"][3] |= {"iscrowd": 1, "segmentation": {"counts": [1], "size": [1, 1]}}
    export = read_coco_attributes(save_json(tmp_path / "a.json", data), CAFE)
    assert len(export.annotations[0].labels) == 3
    assert export.notes == {"ignored crowd": 1}


# Damage


@settings(
    deadline=None, derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(form=st.sampled_from(list(JSON_EXPORTS)), where=st.integers(0, 10_000), value=ANYTHING)
def test_damaged_json_is_read_or_one_error(form: str, where: int, value: object, tmp_path: Path) -> None:
    make, read = JSON_EXPORTS[form]
    data = make()
    inner, key = places(data)[where % len(places(data))]
    inner[key] = value
    read_or_refuse(read, save_json(tmp_path / "damaged.json", data), tmp_path)


def read_or_refuse(read: Reader, path: Path, folder: Path) -> None:
    """One line of error, or images that survive being written."""
    said, export = "", None
    try:
        export = read(path, CAFE)
    except DataError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 600
    if export is not None:
        write_hoia(folder / "hoia.json", export.annotations, CAFE)
        assert len(read_hoia(folder / "hoia.json", CAFE)) == len(export.annotations)


PIECES = ["<", ">", '"', "&", "&amp;", "&#0;", "&x;", "<box>", "</image>", "<!--", "]]>", "<![CDATA[", "nan", "\0", "é"]


@settings(
    deadline=None, derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.integers(0, len(cvat_xml())),
    length=st.integers(0, 40),
    piece=st.sampled_from(PIECES) | st.text(max_size=3),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_damaged_xml_is_read_or_one_error(start: int, length: int, piece: str, encoding: str, tmp_path: Path) -> None:
    text = cvat_xml()
    damaged = text[:start] + piece + text[start + length :]
    path = tmp_path / "damaged.xml"
    path.write_bytes(
        damaged.replace('encoding="utf-8"', f'encoding="{encoding[:6].rstrip("-")}"').encode(encoding, "replace")
    )
    read_or_refuse(read_cvat, path, tmp_path)


@settings(
    deadline=None, derandomize=True, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    for name, read in (("a.xml", read_cvat), *((f"{form}.json", read) for form, (_, read) in JSON_EXPORTS.items())):
        path = tmp_path / name
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            read(path, CAFE)


def test_missing_file_is_one_error(tmp_path: Path) -> None:
    for name, read in (("a.xml", read_cvat), ("a.json", read_cvat), ("a.json", read_label_studio)):
        with pytest.raises(DataError, match=f"cannot read .*{name}"):
            read(tmp_path / name, CAFE)
