"""The guide on own datasets: what it gives to paste fits its vocabulary, and its commands do what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hoiclip.core.vocabulary import Vocabulary, load_vocabulary
from hoiclip.data.formats.coco_attributes import read_coco_attributes
from hoiclip.data.formats.hoia import read_hoia
from hoiclip.data.formats.label_studio import read_label_studio
from tests.docs.documents import blocks, shell_lines, simple_commands
from tests.engine.command_output import Cli
from tests.hoiclip.small_datasets import save_json, save_noise
from tests.hoiclip.tool_exports import region, relation, save_xml, task, verb_choice, xml_box
from website.links import ROOT

GUIDE = (ROOT / "docs/own_dataset.md").read_text(encoding="utf-8")
SETUP, CHOICES = blocks(GUIDE, "xml")
CVAT_LABELS = next(block for block in blocks(GUIDE, "json") if "input_type" in block)
COCO_PART = next(block for block in blocks(GUIDE, "json") if '"human"' in block)
SAID = next(block for block in blocks(GUIDE, "text") if block.startswith("Wrote"))


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Vocabulary:
    """The vocabulary of the guide, at its place, and two images of 640 x 480."""
    monkeypatch.chdir(tmp_path)
    words = next(
        b for b in blocks((ROOT / "docs/own_vocabulary.md").read_text(encoding="utf-8"), "text") if "push" in b
    )
    Path("depot.txt").write_text(words, encoding="utf-8")
    assert cli("vocab", "new", "depot.txt", "-o", "depot.json").code == 0
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        save_noise(Path("depot/images") / name, 640, 480, seed)
    Path("depot.json").rename("depot/vocabulary.json")
    return load_vocabulary("depot/vocabulary.json")


def values(config: str, tag: str) -> list[str]:
    return [element.attrib["value"] for element in ElementTree.fromstring(config).iter(tag)]


def run_lines(cli: Cli, *words: str) -> str:
    """Runs the guide's commands that have these words; what they print beside data."""
    said = ""
    for line in shell_lines(GUIDE):
        if all(word in line for word in words):
            (command,) = simple_commands(line)
            done = cli(*command[1:])
            assert done.code == 0, (line, done.err)
            said += done.err
    assert said, words
    return said


def depot_export() -> list[dict[str, Any]]:
    """Made with the guide's labelling setup."""
    labels, verbs = values(SETUP, "Label"), values(SETUP, "Relation")
    polygon = {"id": "x", "type": "polygonlabels", "from_name": "polygon", "value": {"points": [], "polygonlabels": []}}
    first = [region(f"r{i}", labels[i], (20 + 200 * i, 10, 220 + 220 * i, 400)) for i in range(3)]
    second = [region("p", labels[0], (5, 5, 60, 90)), region("f", labels[3], (5, 40, 300, 200)), polygon]
    return [
        task(
            1, "/data/upload/1/1b2c3d4e-a.jpg", *first, relation("r0", "r1", verbs[0]), relation("r0", "r2", verbs[1])
        ),
        task(2, "/data/upload/1/1b2c3d4f-b.jpg", *second, relation("p", "f", verbs[2])),
        task(3, "/data/upload/1/1b2c3d50-c.jpg") | {"annotations": []},
    ]


def test_label_studio_setup_has_the_words_of_the_vocabulary(depot: Vocabulary) -> None:
    assert sorted(values(SETUP, "Label")) == sorted(depot.objects)
    assert sorted(value.replace(" ", "_") for value in values(SETUP, "Relation")) == sorted(depot.verbs)


def test_label_studio_guide_leads_to_a_checked_dataset(depot: Vocabulary, cli: Cli) -> None:
    save_json(Path("depot/export.json"), depot_export())
    printed = run_lines(cli, "--from label-studio")
    assert printed == SAID
    assert "0 errors, 0 warnings" in run_lines(cli, "data check depot")
    assert sum(len(image.interactions) for image in read_hoia(Path("depot/annotations.json"), depot)) == 3


def test_label_studio_choice_lets_a_person_act_alone(tmp_path: Path) -> None:
    config = SETUP.replace("</View>", f"{CHOICES}</View>")
    (choices,) = ElementTree.fromstring(config).iter("Choices")
    assert choices.attrib["whenTagName"] in [tag.get("name") for tag in ElementTree.fromstring(config)]
    row = verb_choice("p", *values(CHOICES, "Choice")) | {"from_name": choices.attrib["name"]}
    path = save_json(tmp_path / "a.json", [task(1, "a.jpg", region("p", "person", (5, 5, 60, 90)), row)])
    vocabulary = load_vocabulary("vcoco")
    (read,) = read_label_studio(path, vocabulary).annotations
    assert read.interactions.tolist() == [[0, -1, vocabulary.verbs.index("walk")]]


def test_cvat_labels_have_words_of_the_vocabulary_and_convert(depot: Vocabulary, cli: Cli) -> None:
    labels = json.loads(CVAT_LABELS)
    assert {label["name"] for label in labels} <= set(depot.objects)
    (select,) = (row for label in labels for row in label["attributes"] if row["input_type"] == "select")
    blank, *verbs = select["values"]
    assert (blank, {verb.replace(" ", "_") for verb in verbs} <= set(depot.verbs)) == (select["default_value"], True)
    shapes = (
        xml_box("person", (5, 5, 60, 90), 1),
        xml_box("box", (50, 40, 80, 70), 1, verbs[0]),
        xml_box("box", (90, 40, 99, 70), 0, blank),
    )
    save_xml(
        Path("depot/annotations.xml"),
        f'<annotations><image id="0" name="a.jpg" width="640" height="480">{"".join(shapes)}</image></annotations>',
    )
    assert "1 images, 3 boxes, 1 pairs, 1 interactions" in run_lines(cli, "--from cvat")


def test_coco_example_is_an_interaction(depot: Vocabulary, tmp_path: Path) -> None:
    data = json.loads(COCO_PART) | {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "box"}],
    }
    (read,) = read_coco_attributes(save_json(tmp_path / "coco.json", data), depot).annotations
    assert read.interactions.tolist() == [[0, 1, depot.verbs.index("carry")]]
