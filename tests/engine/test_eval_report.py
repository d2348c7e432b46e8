"""Reports of metrics that match people, and of frames without their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hoiclip.core.errors import SinkError
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.evaluation import MetricName, evaluate
from hoiclip_engine.cli.eval_report import ImageReport, write_image_report
from tests.hoiclip.annotated_images import noisy_predictions, random_annotations

VCOCO = load_vocabulary("vcoco")


def report(metric: MetricName) -> ImageReport:
    rng = np.random.default_rng(0)
    annotations = random_annotations(rng, images=8, verbs=3, objects=5)
    predictions = noisy_predictions(rng, annotations, categories=3, objects=5)
    found = evaluate(metric, predictions, annotations, VCOCO)
    return ImageReport("title", found, predictions, annotations, None, {"model": "a", "notice": ""})


@pytest.mark.parametrize("metric", ["vcoco", "vcoco-official"])
def test_report_analyses_pairs_whatever_the_metric_matches(metric: MetricName, tmp_path: Path) -> None:
    write_image_report(tmp_path, report(metric), VCOCO)
    assert json.loads((tmp_path / "evaluation.json").read_text())["metric"] == metric
    analysis = json.loads((tmp_path / "analysis.json").read_text())
    pairs = report("vcoco").evaluation
    assert (analysis["metric"], analysis["mAP"], analysis["model"]) == ("vcoco", pairs.mean_ap, "a")
    assert analysis["ground_truth"]["total"] == sum(result.num_gt for result in pairs.classes)
    assert "Worst images" not in (tmp_path / "index.html").read_text(), "there are no images to show"
    assert not list(tmp_path.glob("*.jpg"))


def test_report_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        write_image_report(tmp_path / "file", report("vcoco"), VCOCO)
