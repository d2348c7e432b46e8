"""The worst errors of an analysis: confident false positives, large missed pairs, and the worst images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hoiclip.evaluation.analysis import FALSE_KINDS, FATES, ErrorAnalysis
from hoiclip.evaluation.analysis.attributes import sizes_px
from hoiclip.evaluation.analysis.kinds import FOUND
from hoiclip.evaluation.drawing import Boxes
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.truth import TruePairs
from hoiclip.vocabulary import NO_OBJECT

T = TypeVar("T")

_PER_CLASS = 2
_PER_IMAGE = 2
_NAMED_ERRORS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One wrong prediction, or one true pair that nobody found."""

    image: int
    kind: str
    """Kind of the false positive, or fate of the ground truth."""
    name: str
    """Of what was predicted, or missed."""
    score: float | None
    predicted: Boxes | None
    true: Boxes | None
    """The true pair that was meant, where that can be said."""
    true_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstImage:
    """One image with everything that is wrong in it."""

    image: int
    errors: tuple[str, ...]
    """As in "wrong verb: hold cup", ground truth first."""
    more: int
    """Errors beyond these."""
    predicted: tuple[Boxes, ...]
    """Hits and top false positives."""
    true: tuple[Boxes, ...]


def worst_mistakes(analysis: ErrorAnalysis, predictions: Sequence[PredictedPairs], limit: int = 24) -> list[Mistake]:
    """At most `limit`, a third of them missed pairs; at most two of a class and two of an image in each part."""
    fates, false, truths = analysis.fates, analysis.false, analysis.evaluation.truths
    wrong = np.argsort(-false.score, kind="stable").tolist()
    lost = np.flatnonzero(fates.fate != FATES.index(FOUND)).tolist()
    lost.sort(key=lambda i: -_size(truths[fates.image[i]], int(fates.row[i])))
    third = min(limit // 3, len(lost))
    chosen = _varied(wrong, lambda i: (int(false.category[i]), int(false.image[i])), limit - third)
    chosen_lost = _varied(lost, lambda i: (int(fates.category[i]), int(fates.image[i])), third)
    return [_wrong(analysis, predictions, i) for i in chosen] + [_lost(analysis, i) for i in chosen_lost]


def worst_images(
    analysis: ErrorAnalysis, predictions: Sequence[PredictedPairs], groups: Sequence[int], limit: int = 12
) -> list[WorstImage]:
    """Those with most errors: ground truth that is not found, and top false positives.

    Args:
        groups: one per image; of each group only the worst is taken (frames of one second look alike).
    """
    order = np.argsort(-analysis.errors_of_image, kind="stable").tolist()
    with_errors = [image for image in order if analysis.errors_of_image[image]]
    first_of = {groups[image]: image for image in reversed(with_errors)}
    chosen = [image for image in with_errors if first_of[groups[image]] == image]
    return [_worst_image(analysis, predictions[image], image) for image in chosen[:limit]]


def _varied(candidates: Iterable[T], keys: Callable[[T], tuple[int, int]], limit: int) -> list[T]:
    """The first ones, but few of one class and few of one image."""
    classes: Counter[int] = Counter()
    images: Counter[int] = Counter()
    chosen: list[T] = []
    for one in candidates:
        if len(chosen) == limit:
            break
        category, image = keys(one)
        if classes[category] < _PER_CLASS and images[image] < _PER_IMAGE:
            classes[category] += 1
            images[image] += 1
            chosen.append(one)
    return chosen


def _size(true: TruePairs, row: int) -> float:
    return float(sizes_px(true.human_boxes_xyxy[row]) + sizes_px(true.object_boxes_xyxy[row]))


def _wrong(analysis: ErrorAnalysis, predictions: Sequence[PredictedPairs], i: int) -> Mistake:
    false = analysis.false
    image, meant = int(false.image[i]), int(false.meant[i])
    true = analysis.evaluation.truths[image]
    return Mistake(
        image=image,
        kind=FALSE_KINDS[false.kind[i]],
        name=_name(analysis, int(false.category[i])),
        score=float(false.score[i]),
        predicted=_boxes(predictions[image], int(false.row[i])),
        true=None if meant < 0 else _boxes(true, meant),
        true_name="" if meant < 0 else _name(analysis, int(true.category[meant])),
    )


def _lost(analysis: ErrorAnalysis, i: int) -> Mistake:
    fates = analysis.fates
    image, name = int(fates.image[i]), _name(analysis, int(fates.category[i]))
    boxes = _boxes(analysis.evaluation.truths[image], int(fates.row[i]))
    kind = FATES[fates.fate[i]]
    return Mistake(image=image, kind=kind, name=name, score=None, predicted=None, true=boxes, true_name=name)


def _worst_image(analysis: ErrorAnalysis, predicted: PredictedPairs, image: int) -> WorstImage:
    fates, false, matches = analysis.fates, analysis.false, analysis.evaluation.matches
    assert matches is not None  # analyse() asks for a metric that matches pairs
    own = np.flatnonzero(fates.image == image)
    lost = own[fates.fate[own] != FATES.index(FOUND)]
    wrong = np.flatnonzero((false.image == image) & false.is_top)
    said = [f"{FATES[fates.fate[i]]}: {_name(analysis, int(fates.category[i]))}" for i in lost]
    said += [
        f"{FALSE_KINDS[false.kind[i]]}: {_name(analysis, int(false.category[i]))} {false.score[i]:.2f}" for i in wrong
    ]
    shown = [*matches.row[(matches.image == image) & matches.hit].tolist(), *false.row[wrong].tolist()]
    true = analysis.evaluation.truths[image]
    return WorstImage(
        image=image,
        errors=tuple(said[:_NAMED_ERRORS]),
        more=max(0, len(said) - _NAMED_ERRORS),
        predicted=tuple(_boxes(predicted, row) for row in shown),
        true=tuple(_boxes(true, row) for row in fates.row[own].tolist()),
    )


def _name(analysis: ErrorAnalysis, category: int) -> str:
    if category < 0:
        return "something the vocabulary has no word for"
    return analysis.evaluation.classes[category].name


def _boxes(rows: TruePairs | PredictedPairs, row: int) -> Boxes:
    return rows.human_boxes_xyxy[row], None if rows.label[row] == NO_OBJECT else rows.object_boxes_xyxy[row]
