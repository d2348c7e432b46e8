"""Reports of an evaluation: worst errors, pages, curves, and exports in the official forms."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat

from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.evaluation import evaluate_hico, export
from hoiclip.evaluation.error_analysis import analyse_errors
from hoiclip.evaluation.error_analysis.sections import error_sections
from hoiclip.evaluation.error_analysis.worst_errors import worst_errors
from hoiclip.evaluation.export import export_hico, export_vcoco
from hoiclip.evaluation.report import html_report, mean_curve, precision_recall_svg
from tests.hoiclip.annotated_images import (
    CUP,
    DOG,
    HOLD,
    HOLD_CUP,
    HOLD_DOG,
    PERSON,
    PET_DOG,
    annotation,
    noisy_predictions,
    predicted,
    random_annotations,
    tiny_vocabulary,
)

A, B, C = (0, 0, 99, 99), (100, 0, 199, 99), (200, 0, 299, 99)
TINY = tiny_vocabulary()


def image(_index: int) -> NDArray[np.uint8]:
    return np.full((100, 300, 3), 128, np.uint8)


def test_worst_errors_have_their_kinds() -> None:
    gt = annotation([A, B, C], [PERSON, DOG, CUP], [(0, 1, HOLD)])
    found = [
        predicted([(A, B, DOG, HOLD_DOG, 0.99), (A, B, DOG, HOLD_DOG, 0.98)]),
        predicted([(A, (100, 0, 199, 30), DOG, HOLD_DOG, 0.97)]),
        predicted([(A, B, DOG, PET_DOG, 0.96)]),
        predicted([(C, C, CUP, HOLD_CUP, 0.95)]),
        predicted([]),
    ]
    images = [gt] * len(found)
    detection_errors = worst_errors(analyse_errors(found, images, TINY), found, limit=9)
    assert [(error.kind, error.image) for error in detection_errors if error.score is not None] == [
        ("duplicate", 0),
        ("loose object", 1),
        ("wrong verb", 2),
        ("background", 3),
    ]
    assert [(error.kind, error.image) for error in detection_errors if error.score is None] == [
        ("loose object", 1),
        ("wrong verb", 2),
    ]
    wrong = next(error for error in detection_errors if error.kind == "wrong verb")
    assert (wrong.name, wrong.gt_name) == ("pet dog", "hold dog")


def test_worst_errors_of_a_perfect_model_are_none() -> None:
    gt = annotation([A, B], [PERSON, DOG], [(0, 1, HOLD)])
    found = [predicted([(A, B, DOG, HOLD_DOG, 0.9)])]
    assert worst_errors(analyse_errors(found, [gt], TINY), found) == []


class Page(HTMLParser):
    """Counts tags and collects text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_page_is_self_contained() -> None:
    rng = np.random.default_rng(0)
    annotations = random_annotations(rng, images=10, verbs=2, objects=3)
    found = noisy_predictions(rng, annotations, categories=3, objects=3)
    result = analyse_errors(found, annotations, TINY)
    detection_errors = worst_errors(result, found)
    assert detection_errors
    hostile = ["<script>alert(1)</script>.jpg"] * len(annotations)
    facts = [("model", "<i>m</i>")]
    page = Page(
        html_report("t & <b>", result.evaluation, facts, detection_errors, image, hostile, error_sections(result))
    )
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(detection_errors)
    assert all(source is not None and source.startswith("data:image/jpeg;base64,") for source in images)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert "alert(1)" in page.text
    assert "Gains of mending each kind" in page.text
    assert "pet dog" in page.text


def test_curves_are_valid_svg_and_fall() -> None:
    rng = np.random.default_rng(0)
    images = random_annotations(rng, images=10, verbs=2, objects=3)
    result = evaluate_hico(noisy_predictions(rng, images, 3, 3), images, TINY)
    root = ElementTree.fromstring(precision_recall_svg(result))
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 1
    _, precision = mean_curve(result.classes)
    assert precision[0] > 0
    assert (np.diff(precision) <= 0).all()


def test_hico_export_has_the_form_of_the_matlab_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "HICO_TEST_IMAGES", 5)  # all 9,658 columns take a minute
    vocabulary = load_vocabulary("hico")
    hoi = 12
    own = vocabulary.hois[hoi][1]
    images = [annotation([A], [PERSON], [], f"HICO_test2015_0000000{i}.jpg") for i in (3, 1)]
    found = [predicted([(A, B, own, hoi, 0.5), (A, C, own, hoi, 0.25)]), predicted([])]
    paths = export_hico(tmp_path / "mat", found, images, vocabulary)
    assert [path.name for path in paths[:2]] == ["detections_01.mat", "detections_02.mat"]
    assert len(paths) == 80
    cells = loadmat(paths[own])["all_boxes"]
    first = min(i for i, (_, obj) in enumerate(vocabulary.hois) if obj == own)
    assert cells.shape == (sum(obj == own for _, obj in vocabulary.hois), 5)
    np.testing.assert_allclose(cells[hoi - first, 2], [[*A, *B, 500], [*A, *C, 250]])
    assert sum(cell.size > 0 for cell in cells.ravel()) == 1


def test_vcoco_export_has_every_key_of_the_official_code(tmp_path: Path) -> None:
    vocabulary = load_vocabulary("vcoco")
    hold = vocabulary.verbs.index("hold_obj")
    images = [annotation([A], [PERSON], [], "COCO_val2014_000000000294.jpg")]
    export_vcoco(tmp_path / "d.json", [predicted([(A, B, 41, hold, 0.5)])], images, vocabulary)
    (person,) = json.loads((tmp_path / "d.json").read_text())
    assert person["image_id"] == 294
    assert person["person_box"] == list(A)
    assert person["hold_obj"] == [*B, 0.5]
    assert (person["hold_agent"], person["run_agent"], person["cut_instr"]) == (0.5, None, [None] * 5)
    assert len(person) == 2 + 26 + 25
    with pytest.raises(UsageError, match="COCO"):
        export_vcoco(tmp_path / "d.json", [predicted([])], [annotation([], [], [], "cat.jpg")], vocabulary)


def test_export_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        export_vcoco(tmp_path / "file" / "d.json", [], [], load_vocabulary("vcoco"))
