"""The worst errors of an analysis: confident false positives, large missed pairs, and the worst images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hoiclip.core.vocabulary import NO_OBJECT
from hoiclip.evaluation.error_analysis import FALSE_KINDS, FATES, ErrorAnalysis
from hoiclip.evaluation.error_analysis.attributes import sizes_px
from hoiclip.evaluation.error_analysis.classify import FOUND
from hoiclip.evaluation.triplets import BoxPair, GroundTruthTriplets, PredictedTriplets

T = TypeVar("T")

_PER_CLASS = 2
_PER_IMAGE = 2
_NAMED_ERRORS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionError:
    """A false positive, or a ground-truth pair that was not found."""

    image: int
    kind: str
    """Kind of the false positive, or fate of the ground truth."""
    name: str
    """Class of the prediction, or of the missed pair."""
    score: float | None
    predicted: BoxPair | None
    gt: BoxPair | None
    """The ground-truth pair that was meant, where one can be named."""
    gt_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstImage:
    """An image with its errors, and the boxes to draw."""

    image: int
    errors: tuple[str, ...]
    """Texts like "wrong verb: hold cup", ground truth first."""
    more: int
    """Errors beyond these."""
    predicted: tuple[BoxPair, ...]
    """Hits and top false positives."""
    gt: tuple[BoxPair, ...]


def worst_errors(
    analysis: ErrorAnalysis, predictions: Sequence[PredictedTriplets], limit: int = 24
) -> list[DetectionError]:
    """Chooses at most `limit` errors, a third of them missed pairs; at most two per class and two per image of each."""
    fates, false, ground_truth = analysis.fates, analysis.false, analysis.evaluation.ground_truth
    wrong = np.argsort(-false.score, kind="stable").tolist()
    missed = np.flatnonzero(fates.fate != FATES.index(FOUND)).tolist()
    missed.sort(key=lambda i: -_size(ground_truth[fates.image[i]], int(fates.row[i])))
    third = min(limit // 3, len(missed))
    chosen = _choose_varied(wrong, lambda i: (int(false.category[i]), int(false.image[i])), limit - third)
    chosen_lost = _choose_varied(missed, lambda i: (int(fates.category[i]), int(fates.image[i])), third)
    return [_false_positive_error(analysis, predictions, i) for i in chosen] + [
        _missed_error(analysis, i) for i in chosen_lost
    ]


def worst_images(
    analysis: ErrorAnalysis, predictions: Sequence[PredictedTriplets], groups: Sequence[int], limit: int = 12
) -> list[WorstImage]:
    """Chooses the images with most errors: ground truth that is not found, and top false positives.

    Args:
        groups: one per image; of each group only the worst is taken (frames of one second are alike).
    """
    order = np.argsort(-analysis.errors_of_image, kind="stable").tolist()
    with_errors = [image for image in order if analysis.errors_of_image[image]]
    first_of = {groups[image]: image for image in reversed(with_errors)}
    chosen = [image for image in with_errors if first_of[groups[image]] == image]
    return [_worst_image(analysis, predictions[image], image) for image in chosen[:limit]]


def _choose_varied(candidates: Iterable[T], keys: Callable[[T], tuple[int, int]], limit: int) -> list[T]:
    """The first ones, but few of one class and few of one image."""
    classes: Counter[int] = Counter()
    images: Counter[int] = Counter()
    chosen: list[T] = []
    for candidate in candidates:
        if len(chosen) == limit:
            break
        category, image = keys(candidate)
        if classes[category] < _PER_CLASS and images[image] < _PER_IMAGE:
            classes[category] += 1
            images[image] += 1
            chosen.append(candidate)
    return chosen


def _size(gt: GroundTruthTriplets, row: int) -> float:
    return float(sizes_px(gt.human_boxes_xyxy[row]) + sizes_px(gt.object_boxes_xyxy[row]))


def _false_positive_error(analysis: ErrorAnalysis, predictions: Sequence[PredictedTriplets], i: int) -> DetectionError:
    false = analysis.false
    image, meant = int(false.image[i]), int(false.meant[i])
    gt = analysis.evaluation.ground_truth[image]
    return DetectionError(
        image=image,
        kind=FALSE_KINDS[false.kind[i]],
        name=_name(analysis, int(false.category[i])),
        score=float(false.score[i]),
        predicted=_boxes(predictions[image], int(false.row[i])),
        gt=None if meant < 0 else _boxes(gt, meant),
        gt_name="" if meant < 0 else _name(analysis, int(gt.category[meant])),
    )


def _missed_error(analysis: ErrorAnalysis, i: int) -> DetectionError:
    fates = analysis.fates
    image, name = int(fates.image[i]), _name(analysis, int(fates.category[i]))
    boxes = _boxes(analysis.evaluation.ground_truth[image], int(fates.row[i]))
    kind = FATES[fates.fate[i]]
    return DetectionError(image=image, kind=kind, name=name, score=None, predicted=None, gt=boxes, gt_name=name)


def _worst_image(analysis: ErrorAnalysis, predicted: PredictedTriplets, image: int) -> WorstImage:
    fates, false, matches = analysis.fates, analysis.false, analysis.evaluation.matches
    assert matches is not None  # analyse_errors() asks for a metric that matches pairs
    own = np.flatnonzero(fates.image == image)
    missed = own[fates.fate[own] != FATES.index(FOUND)]
    wrong = np.flatnonzero((false.image == image) & false.is_top)
    errors = [f"{FATES[fates.fate[i]]}: {_name(analysis, int(fates.category[i]))}" for i in missed]
    errors += [
        f"{FALSE_KINDS[false.kind[i]]}: {_name(analysis, int(false.category[i]))} {false.score[i]:.2f}" for i in wrong
    ]
    shown = [*matches.row[(matches.image == image) & matches.hit].tolist(), *false.row[wrong].tolist()]
    gt = analysis.evaluation.ground_truth[image]
    return WorstImage(
        image=image,
        errors=tuple(errors[:_NAMED_ERRORS]),
        more=max(0, len(errors) - _NAMED_ERRORS),
        predicted=tuple(_boxes(predicted, row) for row in shown),
        gt=tuple(_boxes(gt, row) for row in fates.row[own].tolist()),
    )


def _name(analysis: ErrorAnalysis, category: int) -> str:
    if category < 0:
        return "something the vocabulary has no word for"
    return analysis.evaluation.classes[category].name


def _boxes(rows: GroundTruthTriplets | PredictedTriplets, row: int) -> BoxPair:
    return rows.human_boxes_xyxy[row], None if rows.label[row] == NO_OBJECT else rows.object_boxes_xyxy[row]
