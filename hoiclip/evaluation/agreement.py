"""Agreement of two models on images without annotation: triplets that both find, and the order of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from hoiclip.core.array_types import F64, I64
from hoiclip.core.detections import HOIDetections
from hoiclip.evaluation.matching import match_all
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets

_FEWEST_RANKED = 3
"""Triplets below which an order means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TripletAgreement:
    """Triplets of a model (the student) compared with those of a reference (the teacher)."""

    num_images: int
    reference_triplets: int
    triplets: int
    common: int
    """Triplets of both: same verb and object, and both boxes with an IoU of at least 0.5, each counted once."""
    rank_correlation: float | None
    """Spearman's, of both scores of the common triplets; None of too few, or where all scores are equal."""

    @property
    def recall(self) -> float | None:
        """Fraction of the reference's triplets that the model finds; None where the reference has none."""
        return self.common / self.reference_triplets if self.reference_triplets else None

    @property
    def precision(self) -> float | None:
        """Fraction of the model's triplets that the reference finds; None where the model has none."""
        return self.common / self.triplets if self.triplets else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of recall and precision; None where neither finds anything."""
        total = self.reference_triplets + self.triplets
        return 2 * self.common / total if total else None

    def to_json(self) -> dict[str, float | None]:
        """All numbers, fractions rounded to four digits."""
        fractions = {
            "recall": self.recall,
            "precision": self.precision,
            "f1": self.f1,
            "rank_correlation": self.rank_correlation,
        }
        rounded = {name: None if value is None else round(value, 4) for name, value in fractions.items()}
        counts = {
            "images": self.num_images,
            "teacher_triplets": self.reference_triplets,
            "student_triplets": self.triplets,
            "common": self.common,
        }
        return {**counts, **rounded}


def triplet_agreement(reference: Sequence[HOIDetections], found: Sequence[HOIDetections]) -> TripletAgreement:
    """Compares the triplets of two models in the same images, which count whatever their scores.

    Args:
        reference: detections of each image by the model to agree with.
        found: detections of each image by the other model.
    """
    matches = match_all(
        [_predicted(detections) for detections in found], [_as_ground_truth(detections) for detections in reference]
    )
    hits = matches.rows(matches.hit)
    pairs = zip(hits.image.tolist(), hits.gt_row.tolist(), hits.score.tolist(), strict=True)
    scores = np.array([(reference[image].score[row], score) for image, row, score in pairs]).reshape(-1, 2)
    return TripletAgreement(
        num_images=len(reference),
        reference_triplets=sum(map(len, reference)),
        triplets=len(matches),
        common=len(hits),
        rank_correlation=_rank_correlation(scores[:, 0], scores[:, 1]),
    )


def _predicted(detections: HOIDetections) -> PredictedTriplets:
    return PredictedTriplets(
        human_boxes_xyxy=detections.human_boxes_xyxy,
        object_boxes_xyxy=detections.object_boxes_xyxy,
        label=detections.label,
        category=_verb_and_object(detections),
        score=detections.score,
        query=detections.query,
    )


def _as_ground_truth(detections: HOIDetections) -> GroundTruthTriplets:
    return GroundTruthTriplets(
        human_boxes_xyxy=detections.human_boxes_xyxy,
        object_boxes_xyxy=detections.object_boxes_xyxy,
        label=detections.label,
        category=_verb_and_object(detections),
    )


def _verb_and_object(detections: HOIDetections) -> I64:
    """One number of both, also where detections have no HOI class."""
    return detections.verb * (1 << 32) + detections.label + 1


def _rank_correlation(a: F64, b: F64) -> float | None:
    if len(a) < _FEWEST_RANKED or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
