"""The worst mistakes of an evaluation: confident predictions that are wrong, and large pairs that were missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from hoiclip.evaluation.matching import MIN_OVERLAP, Matches, pair_overlaps
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import Evaluation
from hoiclip.evaluation.truth import TruePairs
from hoiclip.vocabulary import NO_OBJECT

T = TypeVar("T")
Kind = Literal["found twice", "loose boxes", "wrong interaction", "nothing there", "missed"]
Boxes = tuple[NDArray[np.floating], NDArray[np.floating] | None]
"""Human, and object where there is one."""

LOOSE_OVERLAP = 0.1
"""From this overlap on, a wrong prediction meant the right pair and missed its outline."""
_PER_CLASS = 2
_PER_IMAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One wrong prediction, or one true pair that nobody found."""

    image: int
    kind: Kind
    name: str
    """Of what was predicted, or missed."""
    score: float | None
    predicted: Boxes | None
    true: Boxes | None
    """The true pair that was meant, where that can be said."""
    true_name: str


def worst_mistakes(evaluation: Evaluation, predictions: Sequence[PredictedPairs], limit: int = 24) -> list[Mistake]:
    """At most `limit`, a third of them missed pairs; at most two of a class and two of a picture in each part."""
    matches = evaluation.matches
    if matches is None:
        return []
    order = np.argsort(-matches.score, kind="stable")
    wrong = [int(i) for i in order if not matches.hit[i]]
    missed = sorted(_missed(matches, evaluation.truths), key=lambda at: -_area(evaluation.truths[at[0]], at[1]))
    third = min(limit // 3, len(missed))
    chosen = _varied(wrong, lambda i: (int(matches.category[i]), int(matches.image[i])), limit - third)
    mistakes = [_wrong(evaluation, matches, predictions, i) for i in chosen]
    chosen_missed = _varied(missed, lambda at: (int(evaluation.truths[at[0]].category[at[1]]), at[0]), third)
    return mistakes + [_miss(evaluation, image, row) for image, row in chosen_missed]


def _varied(candidates: Iterable[T], keys: Callable[[T], tuple[int, int]], limit: int) -> list[T]:
    """The first ones, but few of one class and few of one picture."""
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


def _missed(matches: Matches, truths: Sequence[TruePairs]) -> list[tuple[int, int]]:
    """(picture, row) of true pairs that a model could have found and did not."""
    found = set(zip(matches.image[matches.hit].tolist(), matches.truth[matches.hit].tolist(), strict=True))
    return [
        (image, row)
        for image, true in enumerate(truths)
        for row in np.flatnonzero(true.category >= 0).tolist()
        if (image, row) not in found
    ]


def _area(true: TruePairs, row: int) -> float:
    boxes = np.stack([true.human_boxes_xyxy[row], true.object_boxes_xyxy[row]])
    return float(np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)).sum())


def _wrong(evaluation: Evaluation, matches: Matches, predictions: Sequence[PredictedPairs], i: int) -> Mistake:
    image, row = int(matches.image[i]), int(matches.row[i])
    one, true = predictions[image].rows(np.array([row])), evaluation.truths[image]
    overlaps = pair_overlaps(one, true, labels_must_agree=evaluation.metric == "vcoco")[0]
    same = np.where(true.category == one.category[0], overlaps, -1.0)
    kind: Kind = "nothing there"
    meant = -1
    if matches.truth[i] >= 0:
        kind, meant = "found twice", int(matches.truth[i])
    elif len(same) and same.max() >= LOOSE_OVERLAP:
        kind, meant = "loose boxes", int(same.argmax())
    elif len(overlaps) and overlaps.max() >= MIN_OVERLAP:
        kind, meant = "wrong interaction", int(overlaps.argmax())
    return Mistake(
        image=image,
        kind=kind,
        name=evaluation.classes[int(one.category[0])].name,
        score=float(matches.score[i]),
        predicted=_boxes(one.human_boxes_xyxy[0], one.object_boxes_xyxy[0], int(one.label[0])),
        true=None if meant < 0 else _true_boxes(true, meant),
        true_name="" if meant < 0 else _name(evaluation, int(true.category[meant])),
    )


def _miss(evaluation: Evaluation, image: int, row: int) -> Mistake:
    true = evaluation.truths[image]
    name = _name(evaluation, int(true.category[row]))
    boxes = _true_boxes(true, row)
    return Mistake(image=image, kind="missed", name=name, score=None, predicted=None, true=boxes, true_name=name)


def _name(evaluation: Evaluation, category: int) -> str:
    return evaluation.classes[category].name if category >= 0 else "something the vocabulary has no word for"


def _true_boxes(true: TruePairs, row: int) -> Boxes:
    return _boxes(true.human_boxes_xyxy[row], true.object_boxes_xyxy[row], int(true.label[row]))


def _boxes(human: NDArray[np.floating], thing: NDArray[np.floating], label: int) -> Boxes:
    return human, None if label == NO_OBJECT else thing
