"""The fate of every ground-truth interaction and the kind of every false positive, image by image.

In the spirit of Hoiem et al., Diagnosing Error in Object Detectors, ECCV 2012, and of TIDE (Bolya et al., A General
Toolbox for Identifying Object Detection Errors, ECCV 2020), carried over to triplets: a pair has two boxes that may be
loose, a label and a verb that may be wrong, and it may be the wrong pair of right things. What is a hit is decided by
the metric (hoiclip.evaluation.matching); nothing here matches again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.analysis.kinds import (
    BACKGROUND,
    DUPLICATE,
    FALSE_KINDS,
    FATES,
    FOUND,
    LOOSE,
    MERGED,
    MISSED,
    WRONG_BOTH,
    WRONG_LABEL,
    WRONG_PAIRING,
    WRONG_VERB,
    AnalysisConfig,
)
from hoiclip.evaluation.matching import Matches
from hoiclip.evaluation.overlap import pixel_iou_matrix
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.truth import TruePairs
from hoiclip.vocabulary import NO_OBJECT, Vocabulary

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """G ground-truth interactions of all images that the metric counts."""

    image: I64
    """(G,)"""
    row: I64
    """(G,) row among the image's ground truth."""
    category: I64
    verb: I64
    label: I64
    """(G,) object index, -1 where there is no object."""
    fate: I64
    """(G,) index into FATES."""
    explained_by: I64
    """(G,) row of the image's prediction that comes nearest, the best-scored one; -1 for what is missed."""
    score: F64
    """(G,) score it has, or would have if its only error were mended; NaN for what is missed."""

    def __len__(self) -> int:
        return len(self.fate)


@dataclass(frozen=True, slots=True, kw_only=True)
class FalsePositives:
    """M predictions of all images that the metric counts and that are no hits."""

    image: I64
    """(M,)"""
    row: I64
    """(M,) row among the image's predictions."""
    category: I64
    verb: I64
    label: I64
    score: F64
    kind: I64
    """(M,) index into FALSE_KINDS."""
    meant: I64
    """(M,) row of the ground truth that was meant; -1 where none can be named."""
    is_top: Bool
    """(M,) whether it is among the best-scored of its class, as many as the class has ground truth (Hoiem et al.)."""

    def __len__(self) -> int:
        return len(self.kind)


Columns = TypeVar("Columns", bound=Fates | FalsePositives)


def concatenated(kind: type[Columns], parts: Sequence[Columns]) -> Columns:
    """The columns of all images one after the other."""
    types: dict[str, type[np.generic]] = {"score": np.float64, "is_top": np.bool_}
    names: tuple[str, ...] = tuple(kind.__dataclass_fields__)
    columns = [
        np.concatenate([np.zeros(0, types.get(name, np.int64)), *(getattr(part, name) for part in parts)])
        for name in names
    ]
    return kind(**dict(zip(names, columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Meaning:
    """Verb and object label of every category."""

    verb_of: I64
    """(C,)"""
    label_of: I64 | None
    """(C,) of HOIs; None where categories are verbs and predictions say the label themselves (V-COCO)."""

    @staticmethod
    def of(vocabulary: Vocabulary, *, by_verb: bool) -> Meaning:
        if by_verb:
            return Meaning(np.arange(len(vocabulary.verbs)), None)
        verb, label = np.array(vocabulary.hois, np.int64).T
        return Meaning(verb, np.where(label < len(vocabulary.objects), label, NO_OBJECT))

    def label(self, predicted: PredictedPairs) -> I64:
        """(N,)"""
        return predicted.label if self.label_of is None else self.label_of[predicted.category]


class ImageErrors:
    """One image: N predictions against G interactions."""

    def __init__(
        self,
        image: int,
        predicted: PredictedPairs,
        truth: TruePairs,
        true_verb: I64,
        annotation: ImageAnnotation,
        matched: tuple[I64, Bool],
        meaning: Meaning,
        person: int,
        config: AnalysisConfig,
    ) -> None:
        """matched: (N,) row of ground truth and whether it is a hit, as the metric says."""
        self._image, self._predicted, self._truth, self._true_verb = image, predicted, truth, true_verb
        self._annotation, self._person, self._config = annotation, person, config
        self._matched, self._hit = matched
        self._verb, self._label = meaning.verb_of[predicted.category], meaning.label(predicted)
        self._human = np.nan_to_num(pixel_iou_matrix(predicted.human_boxes_xyxy, truth.human_boxes_xyxy))
        thing = np.nan_to_num(pixel_iou_matrix(predicted.object_boxes_xyxy, truth.object_boxes_xyxy))
        alone = truth.label == NO_OBJECT
        thing[self._label == NO_OBJECT] = 0.0  # its box means nothing
        thing[:, alone] = 1.0
        self._thing = thing
        self._label_ok = self._label[:, None] == truth.label[None]
        if meaning.label_of is None:
            self._label_ok[:, alone] = True  # V-COCO takes any object where none is annotated
        self._verb_ok = self._verb[:, None] == true_verb[None]

    def fates(self) -> Fates:
        config, n = self._config, len(self._predicted)
        right = config.min_overlap
        human, thing, label_ok, verb_ok = self._human, self._thing, self._label_ok, self._verb_ok
        tight = np.minimum(human, thing) >= right
        near = np.minimum(human, thing) >= config.loose_overlap
        # A hit or a duplicate is right about another pair, so it says nothing about this one but that the pair exists.
        astray = (self._matched < 0)[:, None]
        found = np.zeros(len(self._truth), np.bool_)
        found[self._matched[self._hit]] = True
        is_hit_of = self._hit[:, None] & (self._matched[:, None] == np.arange(len(found))[None])
        loose = label_ok & verb_ok & near & ~tight & astray
        explanations = (
            (FOUND, is_hit_of),
            (MERGED, tight & label_ok & verb_ok),
            (LOOSE[0], loose),
            (WRONG_VERB, tight & label_ok),
            (WRONG_LABEL, tight & verb_ok & astray),
            (WRONG_BOTH, tight & astray),
        )
        human_score = self._best_score(human >= right)
        thing_score = self._best_score((thing >= right) & label_ok)
        fate = np.full(len(found), FATES.index(MISSED[2]))
        fate[np.isfinite(human_score)] = FATES.index(MISSED[1])
        fate[np.isfinite(thing_score)] = FATES.index(MISSED[0])
        fate[np.isfinite(human_score) & np.isfinite(thing_score)] = FATES.index(WRONG_PAIRING)
        explained_by = np.full(len(found), -1)
        paired = fate == FATES.index(WRONG_PAIRING)
        score = np.where(paired, np.minimum(human_score, thing_score), np.nan)
        if n:
            explained_by[paired] = self._best_row(human >= right)[paired]
        for kind, explains in reversed(explanations):  # what comes first is written last and stays
            of = explains.any(axis=0)
            row = self._best_row(explains)[of] if n else explained_by[of]
            fate[of], explained_by[of], score[of] = FATES.index(kind), row, self._predicted.score[row]
        self._say_which_box(fate, explained_by)
        counted = np.flatnonzero(self._truth.category >= 0)
        return Fates(
            image=np.full(len(counted), self._image),
            row=counted,
            category=self._truth.category[counted],
            verb=self._true_verb[counted],
            label=self._truth.label[counted],
            fate=fate[counted],
            explained_by=explained_by[counted],
            score=score[counted],
        )

    def _best_score(self, explains_ng: Bool) -> F64:
        """(G,) -inf where no prediction explains."""
        best: F64 = np.where(explains_ng, self._predicted.score[:, None], -np.inf).max(axis=0, initial=-np.inf)
        return best

    def _best_row(self, explains_ng: Bool) -> I64:
        """(G,) the best-scored row; the first where no prediction explains. Needs at least one."""
        row: I64 = np.where(explains_ng, self._predicted.score[:, None], -np.inf).argmax(axis=0)
        return row

    def _say_which_box(self, fate: I64, explained_by: I64) -> None:
        first = FATES.index(LOOSE[0])
        of = np.flatnonzero(fate == first)
        fate[of] = first + self._loose_box(explained_by[of], of)

    def _loose_box(self, row: I64, truth: I64) -> I64:
        """0 the human's, 1 the object's, 2 both."""
        human_is, thing_is = (overlap[row, truth] < self._config.min_overlap for overlap in (self._human, self._thing))
        return np.where(human_is & thing_is, 2, np.where(thing_is, 1, 0))

    def false_positives(self, is_counted: Bool, is_top: Bool) -> FalsePositives:
        """
        Args:
            is_counted: (N,) whether the metric looks at the prediction at all.
        """
        config = self._config
        alone = self._label == NO_OBJECT
        true_alone = (self._truth.label == NO_OBJECT)[None]
        # A prediction without an object has no object to be wrong about; one with an object has.
        thing = np.where(alone[:, None], 1.0, np.where(true_alone & ~self._verb_ok, 0.0, self._thing))
        label_ok = self._label_ok | (alone[:, None] & ~self._verb_ok)
        both = np.minimum(self._human, thing)
        tight = both >= config.min_overlap
        human_there, thing_there = self._annotated()
        kind = np.full(len(self._predicted), FALSE_KINDS.index(BACKGROUND))
        meant = np.full(len(self._predicted), -1)
        kind[human_there & thing_there] = FALSE_KINDS.index(WRONG_PAIRING)
        kind[human_there & alone] = FALSE_KINDS.index(WRONG_VERB)
        same_human = np.where(self._human >= config.min_overlap, self._human, 0.0)
        explanations = (
            (LOOSE[0], self._label_ok & self._verb_ok & (both >= config.loose_overlap)),
            (WRONG_VERB, tight & label_ok & ~self._verb_ok),
            (WRONG_LABEL, tight & self._verb_ok),
            (WRONG_BOTH, tight),
        )
        if len(self._truth):
            of = (kind != FALSE_KINDS.index(BACKGROUND)) & same_human.any(axis=1)
            meant[of] = same_human.argmax(axis=1)[of]
            for name, explains in reversed(explanations):
                of = explains.any(axis=1)
                kind[of] = FALSE_KINDS.index(name)
                meant[of] = np.where(explains, both, -1.0).argmax(axis=1)[of]
        first = FALSE_KINDS.index(LOOSE[0])
        of = np.flatnonzero(kind == first)
        kind[of] = first + self._loose_box(of, meant[of])
        duplicate = self._matched >= 0
        kind[duplicate], meant[duplicate] = FALSE_KINDS.index(DUPLICATE), self._matched[duplicate]
        wrong = np.flatnonzero(is_counted & ~self._hit)
        return FalsePositives(
            image=np.full(len(wrong), self._image),
            row=wrong,
            category=self._predicted.category[wrong],
            verb=self._verb[wrong],
            label=self._label[wrong],
            score=self._predicted.score[wrong],
            kind=kind[wrong],
            meant=meant[wrong],
            is_top=is_top[wrong],
        )

    def _annotated(self) -> tuple[Bool, Bool]:
        """(N,) whether an annotated person, and an annotated object of the label, is where the prediction says."""
        boxes = self._annotation.boxes_xyxy.reshape(-1, 4)
        is_person = people_rows(self._annotation, self._person)
        right = self._config.min_overlap
        human = pixel_iou_matrix(self._predicted.human_boxes_xyxy, boxes[is_person]) >= right
        thing = pixel_iou_matrix(self._predicted.object_boxes_xyxy, boxes) >= right
        thing &= self._label[:, None] == self._annotation.labels[None]
        return np.any(human, axis=1), np.any(thing, axis=1)


def people_rows(annotation: ImageAnnotation, person: int) -> Bool:
    """(N,) which annotated boxes are people: by label, or because they act."""
    is_person: Bool = annotation.labels == person
    is_person[annotation.interactions.reshape(-1, 3)[:, 0]] = True
    return is_person


def by_image(matches: Matches, is_top: Bool, counts: Sequence[int]) -> Iterator[tuple[I64, Bool, Bool, Bool]]:
    """For each image, by row of its predictions: row of ground truth, hit, whether it counts, and whether at the top.

    Args:
        is_top: one per match.
        counts: predictions of each image; those that have no match do not count.
    """
    order = np.argsort(matches.image, kind="stable")
    ends = np.cumsum(np.bincount(matches.image, minlength=len(counts)))
    for n, start, end in zip(counts, [0, *ends], ends, strict=False):
        at = order[start:end]
        truth, hit, counted, top = np.full(n, -1), *np.zeros((3, n), np.bool_)
        row = matches.row[at]
        truth[row], hit[row], counted[row], top[row] = matches.truth[at], matches.hit[at], True, is_top[at]
        yield truth, hit, counted, top


def top_of_class(matches: Matches, num_gt: I64) -> Bool:
    """One per match: whether it is among the best-scored of its class, as many as the class has ground truth."""
    order = np.lexsort((-matches.score, matches.category))
    category = matches.category[order]
    rank = np.arange(len(order)) - np.searchsorted(category, category)
    is_top = np.zeros(len(order), np.bool_)
    is_top[order] = rank < num_gt[category]
    return is_top
