"""Metrics of HICO-DET and V-COCO, error analysis, and reports of both; videos are evaluated in `video`."""

from hoiclip.evaluation.hico import evaluate_hico
from hoiclip.evaluation.metrics import METRICS, MetricName, choose_metric, evaluate
from hoiclip.evaluation.results import ClassResult, Evaluation
from hoiclip.evaluation.splits import Split, bundled_splits, named_split
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.vcoco import evaluate_vcoco, evaluate_vcoco_official

__all__ = [
    "METRICS",
    "ClassResult",
    "Evaluation",
    "MetricName",
    "PredictedTriplets",
    "Split",
    "bundled_splits",
    "choose_metric",
    "evaluate",
    "evaluate_hico",
    "evaluate_vcoco",
    "evaluate_vcoco_official",
    "named_split",
]
