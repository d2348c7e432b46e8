"""What predictions are worth: the metrics of HICO-DET and V-COCO, and reports of them."""

from hoiclip.evaluation.hico import evaluate_hico
from hoiclip.evaluation.metrics import METRICS, MetricName, choose_metric, evaluate
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import ClassResult, Evaluation
from hoiclip.evaluation.splits import Split, bundled_splits, split_of
from hoiclip.evaluation.vcoco import evaluate_vcoco
from hoiclip.evaluation.vcoco_official import evaluate_vcoco_official

__all__ = [
    "METRICS",
    "ClassResult",
    "Evaluation",
    "MetricName",
    "PredictedPairs",
    "Split",
    "bundled_splits",
    "choose_metric",
    "evaluate",
    "evaluate_hico",
    "evaluate_vcoco",
    "evaluate_vcoco_official",
    "split_of",
]
