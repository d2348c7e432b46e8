"""Classification of every ground-truth interaction (its fate) and every false positive (its kind), image by image.

In the spirit of Hoiem et al., Diagnosing Error in Object Detectors, ECCV 2012, and of TIDE (Bolya et al., A General
Toolbox for Identifying Object Detection Errors, ECCV 2020), carried over to triplets: a pair has two boxes that may be
loose, a label and a verb that may be wrong, and it may be the wrong pair of right boxes. Hits are those of the metric
(hoiclip.evaluation.matching); nothing here matches again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.matching import TripletMatches, pixel_iou_matrix
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets

FOUND, MERGED = "found", "merged"
LOOSE = ("loose human", "loose object", "loose both")
WRONG_VERB, WRONG_LABEL, WRONG_BOTH = "wrong verb", "wrong label", "wrong label and verb"
WRONG_PAIRING = "wrong pairing"
MISSED = ("missed human", "missed object", "missed both")
DUPLICATE, BACKGROUND = "duplicate", "background"
FATES = (FOUND, MERGED, *LOOSE, WRONG_VERB, WRONG_LABEL, WRONG_BOTH, WRONG_PAIRING, *MISSED)
"""Fates of a ground-truth interaction: exactly one, the first that holds."""
FALSE_KINDS = (DUPLICATE, *LOOSE, WRONG_VERB, WRONG_LABEL, WRONG_BOTH, WRONG_PAIRING, BACKGROUND)
"""Kinds of a prediction that is not a hit: exactly one, the first that holds."""
FATE_MEANINGS = {
    FOUND: "a prediction of its class overlaps it enough: a hit of the metric",
    MERGED: "a right prediction covers it, but counts for another pair of the same class",
    LOOSE[0]: "predicted with the right class, but the human's box is too loose",
    LOOSE[1]: "predicted with the right class, but the object's box is too loose",
    LOOSE[2]: "predicted with the right class, but both boxes are too loose",
    WRONG_VERB: "the pair is found with the right object label, but only other verbs",
    WRONG_LABEL: "the pair is found with the right verb, but another object label",
    WRONG_BOTH: "the pair is found, but with another object label and other verbs",
    WRONG_PAIRING: "human and object are both found, but never as one pair",
    MISSED[0]: "the object is found, its human is not",
    MISSED[1]: "the human is found, its object is not",
    MISSED[2]: "neither human nor object is found",
}
FALSE_MEANINGS = {
    DUPLICATE: "right, but a better-scored prediction has the pair already",
    LOOSE[0]: "the right class near a ground-truth pair, the human's box too loose",
    LOOSE[1]: "the right class near a ground-truth pair, the object's box too loose",
    LOOSE[2]: "the right class near a ground-truth pair, both boxes too loose",
    WRONG_VERB: "a ground-truth pair with its object label, but a verb it does not do",
    WRONG_LABEL: "a ground-truth pair with its verb, but another object label",
    WRONG_BOTH: "a ground-truth pair, but another object label and another verb",
    WRONG_PAIRING: "an annotated human and an annotated object that do not belong together",
    BACKGROUND: "none of these: no annotated pair, human and object together, at that place",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisConfig:
    """Thresholds of the analysis; the first is that of the metrics and fixed there."""

    min_overlap: float = 0.5
    """IoU from which a box is right, humans and objects alike."""
    loose_overlap: float = 0.1
    """IoU from which a box of the right class is loose rather than elsewhere."""
    same_person_overlap: float = 0.7
    """IoU from which two annotated people are one, annotated twice; HICO-DET has a box for each interaction."""
    border_px: float = 2.0
    """A box that ends nearer to the image border than this is cut off by it."""
    size_edges_px: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0)
    """Edges of the bins of sizes; a size is the square root of a box's area."""
    overlap_edges: tuple[float, ...] = (0.1, 0.3)
    """Edges of the bins of the largest IoU with another person."""
    people_edges: tuple[int, ...] = (1, 2, 3, 5, 9)
    """Edges of the bins of the number of people in an image."""

    def __post_init__(self) -> None:
        if not 0 < self.loose_overlap < self.min_overlap <= 1:
            raise ValueError(
                f"expected 0 < loose_overlap < min_overlap <= 1, got {self.loose_overlap} and {self.min_overlap}"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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
    """(G,) row of the image's prediction that comes nearest, the best-scored one; -1 for missed pairs."""
    score: F64
    """(G,) score it has, or would have if its only error were mended; NaN for missed pairs."""

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


def concatenate_columns(kind: type[Columns], parts: Sequence[Columns]) -> Columns:
    """The columns of all images one after the other."""
    types: dict[str, type[np.generic]] = {"score": np.float64, "is_top": np.bool_}
    names: tuple[str, ...] = tuple(kind.__dataclass_fields__)
    columns = [
        np.concatenate([np.zeros(0, types.get(name, np.int64)), *(getattr(part, name) for part in parts)])
        for name in names
    ]
    return kind(**dict(zip(names, columns, strict=True)))


@dataclass(frozen=True, slots=True)
class CategoryMeaning:
    """Verb and object label of every category."""

    verb_of: I64
    """(C,)"""
    label_of: I64 | None
    """(C,) of HOIs; None where categories are verbs and predictions have labels of their own (V-COCO)."""

    @staticmethod
    def of(vocabulary: Vocabulary, *, by_verb: bool) -> CategoryMeaning:
        if by_verb:
            return CategoryMeaning(np.arange(len(vocabulary.verbs)), None)
        verb, label = np.array(vocabulary.hois, np.int64).T
        return CategoryMeaning(verb, np.where(label < len(vocabulary.objects), label, NO_OBJECT))

    def label(self, predicted: PredictedTriplets) -> I64:
        """(N,)"""
        return predicted.label if self.label_of is None else self.label_of[predicted.category]


class ImageErrors:
    """Classifies the errors of one image: N predictions against G interactions."""

    def __init__(
        self,
        image: int,
        predicted: PredictedTriplets,
        ground_truth: GroundTruthTriplets,
        gt_verb: I64,
        annotation: ImageAnnotation,
        matched: tuple[I64, Bool],
        meaning: CategoryMeaning,
        person: int,
        config: AnalysisConfig,
    ) -> None:
        """
        Args:
            matched: (N,) row of ground truth and whether it is a hit, by the metric.
        """
        self._image, self._predicted, self._ground_truth, self._gt_verb = image, predicted, ground_truth, gt_verb
        self._annotation, self._person, self._config = annotation, person, config
        self._matched, self._hit = matched
        self._verb, self._label = meaning.verb_of[predicted.category], meaning.label(predicted)
        self._human_iou = np.nan_to_num(pixel_iou_matrix(predicted.human_boxes_xyxy, ground_truth.human_boxes_xyxy))
        object_iou = np.nan_to_num(pixel_iou_matrix(predicted.object_boxes_xyxy, ground_truth.object_boxes_xyxy))
        without_object = ground_truth.label == NO_OBJECT
        object_iou[self._label == NO_OBJECT] = 0.0  # its box means nothing
        object_iou[:, without_object] = 1.0
        self._object_iou = object_iou
        self._label_ok = self._label[:, None] == ground_truth.label[None]
        if meaning.label_of is None:
            self._label_ok[:, without_object] = True  # V-COCO takes any object where none is annotated
        self._verb_ok = self._verb[:, None] == gt_verb[None]

    def fates(self) -> Fates:
        config, n = self._config, len(self._predicted)
        right = config.min_overlap
        human_iou, object_iou, label_ok, verb_ok = self._human_iou, self._object_iou, self._label_ok, self._verb_ok
        tight = np.minimum(human_iou, object_iou) >= right
        near = np.minimum(human_iou, object_iou) >= config.loose_overlap
        # A hit or a duplicate is right about another pair; of this one it shows only that the pair is found.
        astray = (self._matched < 0)[:, None]
        found = np.zeros(len(self._ground_truth), np.bool_)
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
        human_score = self._best_score(human_iou >= right)
        object_score = self._best_score((object_iou >= right) & label_ok)
        fate = np.full(len(found), FATES.index(MISSED[2]))
        fate[np.isfinite(human_score)] = FATES.index(MISSED[1])
        fate[np.isfinite(object_score)] = FATES.index(MISSED[0])
        fate[np.isfinite(human_score) & np.isfinite(object_score)] = FATES.index(WRONG_PAIRING)
        explained_by = np.full(len(found), -1)
        paired = fate == FATES.index(WRONG_PAIRING)
        score = np.where(paired, np.minimum(human_score, object_score), np.nan)
        if n:
            explained_by[paired] = self._best_row(human_iou >= right)[paired]
        for kind, explains in reversed(explanations):  # what comes first is written last and stays
            of = explains.any(axis=0)
            row = self._best_row(explains)[of] if n else explained_by[of]
            fate[of], explained_by[of], score[of] = FATES.index(kind), row, self._predicted.score[row]
        self._name_loose_box(fate, explained_by)
        counted = np.flatnonzero(self._ground_truth.category >= 0)
        return Fates(
            image=np.full(len(counted), self._image),
            row=counted,
            category=self._ground_truth.category[counted],
            verb=self._gt_verb[counted],
            label=self._ground_truth.label[counted],
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

    def _name_loose_box(self, fate: I64, explained_by: I64) -> None:
        first = FATES.index(LOOSE[0])
        of = np.flatnonzero(fate == first)
        fate[of] = first + self._loose_box(explained_by[of], of)

    def _loose_box(self, row: I64, gt_row: I64) -> I64:
        """0 the human's, 1 the object's, 2 both."""
        human_is_loose, object_is_loose = (
            overlap[row, gt_row] < self._config.min_overlap for overlap in (self._human_iou, self._object_iou)
        )
        return np.where(human_is_loose & object_is_loose, 2, np.where(object_is_loose, 1, 0))

    def false_positives(self, is_counted: Bool, is_top: Bool) -> FalsePositives:
        """
        Args:
            is_counted: (N,) whether the metric counts the prediction at all.
        """
        config = self._config
        without_object = self._label == NO_OBJECT
        gt_without_object = (self._ground_truth.label == NO_OBJECT)[None]
        # A prediction without an object has no object to be wrong about; one with an object has.
        object_iou = np.where(
            without_object[:, None], 1.0, np.where(gt_without_object & ~self._verb_ok, 0.0, self._object_iou)
        )
        label_ok = self._label_ok | (without_object[:, None] & ~self._verb_ok)
        both = np.minimum(self._human_iou, object_iou)
        tight = both >= config.min_overlap
        has_human, has_object = self._annotated()
        kind = np.full(len(self._predicted), FALSE_KINDS.index(BACKGROUND))
        meant = np.full(len(self._predicted), -1)
        kind[has_human & has_object] = FALSE_KINDS.index(WRONG_PAIRING)
        kind[has_human & without_object] = FALSE_KINDS.index(WRONG_VERB)
        same_human = np.where(self._human_iou >= config.min_overlap, self._human_iou, 0.0)
        explanations = (
            (LOOSE[0], self._label_ok & self._verb_ok & (both >= config.loose_overlap)),
            (WRONG_VERB, tight & label_ok & ~self._verb_ok),
            (WRONG_LABEL, tight & self._verb_ok),
            (WRONG_BOTH, tight),
        )
        if len(self._ground_truth):
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
        """(N,) whether the prediction covers an annotated person, and (N,) an annotated object of its label."""
        boxes = self._annotation.boxes_xyxy.reshape(-1, 4)
        is_person = people_rows(self._annotation, self._person)
        right = self._config.min_overlap
        human_iou = pixel_iou_matrix(self._predicted.human_boxes_xyxy, boxes[is_person]) >= right
        object_iou = pixel_iou_matrix(self._predicted.object_boxes_xyxy, boxes) >= right
        object_iou &= self._label[:, None] == self._annotation.labels[None]
        return np.any(human_iou, axis=1), np.any(object_iou, axis=1)


def people_rows(annotation: ImageAnnotation, person: int) -> Bool:
    """(N,) whether each annotated box is a person: by label, or because it acts."""
    is_person: Bool = annotation.labels == person
    is_person[annotation.interactions.reshape(-1, 3)[:, 0]] = True
    return is_person


def matches_by_image(
    matches: TripletMatches, is_top: Bool, counts: Sequence[int]
) -> Iterator[tuple[I64, Bool, Bool, Bool]]:
    """Yields for each image, by row of its predictions: row of ground truth, hit, whether it counts, and is top.

    Args:
        is_top: one per match.
        counts: predictions of each image; those that have no match do not count.
    """
    order = np.argsort(matches.image, kind="stable")
    ends = np.cumsum(np.bincount(matches.image, minlength=len(counts)))
    for n, start, end in zip(counts, [0, *ends], ends, strict=False):
        at = order[start:end]
        gt_row, hit, counted, top = np.full(n, -1), *np.zeros((3, n), np.bool_)
        row = matches.row[at]
        gt_row[row], hit[row], counted[row], top[row] = matches.gt_row[at], matches.hit[at], True, is_top[at]
        yield gt_row, hit, counted, top


def is_top_of_class(matches: TripletMatches, num_gt: I64) -> Bool:
    """One per match: whether it is among the best-scored of its class, as many as the class has ground truth."""
    order = np.lexsort((-matches.score, matches.category))
    category = matches.category[order]
    rank = np.arange(len(order)) - np.searchsorted(category, category)
    is_top = np.zeros(len(order), np.bool_)
    is_top[order] = rank < num_gt[category]
    return is_top


def codes(kinds: tuple[str, ...], *chosen: str) -> list[int]:
    """Positions of the chosen kinds among all."""
    return [kinds.index(kind) for kind in chosen]
