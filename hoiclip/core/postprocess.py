"""Turns raw model output into scored triplets by the official rules, on the host, in numpy and numba.

HICO rule: every HOI class is scored on its own and duplicates are suppressed. V-COCO rule (vocabularies in which a
person can act without an object): every verb takes its best HOI. Training-free enhancement raises HOIs whose prompts
are near the image embedding. Source: docs/model.md, Scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F32, F64, I64
from hoiclip.core.boxes import within_reach
from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import ModelError
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_kernels.pair_decode import Decoded, pair_decode
from hoiclip_kernels.pair_nms import pair_nms


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessConfig:
    """Thresholds and rules for the reported triplets."""

    top_k: int = 100
    """Triplets kept per image, before duplicates are suppressed."""
    min_score: float = 0.0
    """Triplets below this score (HOIDetections.score, half of the official sum) are dropped; 0 keeps all."""
    nms: bool | None = None
    """Whether duplicates of a class are suppressed; None: as officially, under the HICO rule only."""
    nms_threshold: float = 0.7
    """Overlap above which the lower scored of two pairs of a class is suppressed."""
    sub_power: float = 1.0
    """Exponent of the human IoU in the overlap."""
    obj_power: float = 0.5
    """Exponent of the object IoU in the overlap."""
    enhance_top_k: int | None = None
    """Training-free enhancement with the HOIs nearest to the whole image; None: off. Officially best: 10."""
    enhance_cumulative: bool = False
    """As upstream in a run over 10, 20, ... enhance_top_k, see masked_cosine."""

    def __post_init__(self) -> None:
        if self.top_k < 1 or (self.enhance_top_k is not None and self.enhance_top_k < 1):
            raise ValueError(f"top_k and enhance_top_k must be at least 1, got {self.top_k} and {self.enhance_top_k}")
        for name in ("min_score", "nms_threshold", "sub_power", "obj_power"):
            if not getattr(self, name) >= 0:  # NaN is not
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


class Postprocessor:
    """The rule of one vocabulary. Keeps no state between calls."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: PostprocessConfig,
        hoi_text_embeddings: NDArray[np.float32] | None = None,
        prior_vo: NDArray[np.floating] | None = None,
    ) -> None:
        """Prepares the tables of a vocabulary.

        Args:
            hoi_text_embeddings: (K, E) unit text embeddings of the HOI prompts; needed only for the enhancement.
            prior_vo: (V, O) factors on verb scores given the object; for the V-COCO rule only. No object has factor 1.

        Raises:
            ModelError: the enhancement without text embeddings; embeddings or a prior of another vocabulary's size; a
                prior where verbs are not scored.
        """
        self._vocabulary, self._config = vocabulary, config
        self._verb_of_hoi = np.array([verb for verb, _ in vocabulary.hois], np.int64)
        self._object_of_hoi = np.array([obj for _, obj in vocabulary.hois], np.int64)
        self._nms = not vocabulary.has_no_object_class if config.nms is None else config.nms
        if config.enhance_top_k is not None and hoi_text_embeddings is None:
            raise ModelError("training-free enhancement needs the model's HOI text embeddings; switch it off")
        if hoi_text_embeddings is not None and hoi_text_embeddings.shape[:1] != (len(vocabulary.hois),):
            raise ModelError(f"expected {len(vocabulary.hois)} HOI text embeddings, got {hoi_text_embeddings.shape}")
        self._hoi_text_embeddings = hoi_text_embeddings
        self._prior = self._extended_prior(prior_vo)

    def __call__(self, raw: RawOutput, original_hw: tuple[int, int], image: int = 0) -> HOIDetections:
        """The triplets of one image of the batch.

        Rows with NaN scores, or with boxes that are not finite or far beyond any image, are dropped. With enhancement
        every score is about 0.25 higher, and the best may exceed 1.

        Returns:
            Without NMS by falling score; with NMS grouped by class in order of first appearance, falling scores
            within. Equal scores: lower query first, then lower class.

        Raises:
            ModelError: the output is not of this vocabulary.
        """
        self._require_fit(raw)
        boxes_xyxy, labels = official_boxes(raw, original_hw, image)
        num_queries = raw.hoi_logits.shape[1]
        hoi_prob_qk = self._hoi_probabilities(raw, image)
        usable = within_reach(boxes_xyxy).reshape(2, num_queries).all(axis=0)
        if not usable.all():
            hoi_prob_qk[~usable] = np.nan
        label_q = labels[num_queries:]
        triplets = self._decode(hoi_prob_qk, sigmoid(raw.object_logits[image]), label_q)
        triplets = self._suppress(triplets, boxes_xyxy)
        return self._detections(triplets, hoi_prob_qk, boxes_xyxy, label_q)

    def batch(self, raw: RawOutput, original_hw: Sequence[tuple[int, int]]) -> list[HOIDetections]:
        """The triplets of every image."""
        if len(original_hw) != len(raw):
            raise ValueError(f"expected {len(raw)} original sizes, got {len(original_hw)}")
        return [self(raw, size, image) for image, size in enumerate(original_hw)]

    def _hoi_probabilities(self, raw: RawOutput, image: int) -> F32:
        hoi_prob_qk = sigmoid(raw.hoi_logits[image])
        if self._config.enhance_top_k is None or self._hoi_text_embeddings is None:
            return hoi_prob_qk
        return enhance(
            hoi_prob_qk,
            raw.clip_cls[image],
            self._hoi_text_embeddings,
            self._config.enhance_top_k,
            cumulative=self._config.enhance_cumulative,
        )

    def _decode(self, hoi_prob_qk: F32, object_prob_qo: F32, label_q: I64) -> Decoded:
        if self._vocabulary.has_no_object_class:
            classes, num_classes = self._verb_of_hoi, len(self._vocabulary.verbs)
        else:
            classes, num_classes = np.arange(len(self._vocabulary.hois)), len(self._vocabulary.hois)
        weight_qc = None if self._prior is None else self._prior[:, label_q].T
        return pair_decode(
            hoi_prob_qk, object_prob_qo, self._object_of_hoi, classes, num_classes, weight_qc, self._config.top_k
        )

    def _suppress(self, triplets: Decoded, boxes_xyxy: F32) -> Decoded:
        """Triplets without low scores, and without duplicates if the rule says so."""
        if self._config.min_score > 0:
            triplets = triplets.rows(triplets.score_n * 0.5 >= self._config.min_score)
        if not self._nms:
            return triplets
        kept = pair_nms(
            boxes_xyxy[triplets.query_n],
            boxes_xyxy[triplets.query_n + boxes_xyxy.shape[0] // 2],
            triplets.class_n,
            triplets.score_n,
            self._config.nms_threshold,
            self._config.sub_power,
            self._config.obj_power,
        )
        return triplets.rows(kept)

    def _detections(self, triplets: Decoded, hoi_prob_qk: F32, boxes_xyxy: F32, label_q: I64) -> HOIDetections:
        if self._vocabulary.has_no_object_class:
            label = label_q[triplets.query_n]
            label = np.where(label < len(self._vocabulary.objects), label, NO_OBJECT)
            hoi = np.full(len(triplets.query_n), -1, np.int64)
        else:
            label, hoi = self._object_of_hoi[triplets.hoi_n], triplets.hoi_n
        return HOIDetections(
            query=triplets.query_n,
            human_boxes_xyxy=boxes_xyxy[triplets.query_n],
            object_boxes_xyxy=boxes_xyxy[triplets.query_n + hoi_prob_qk.shape[0]],
            label=label,
            verb=self._verb_of_hoi[triplets.hoi_n],
            hoi=hoi,
            score=triplets.score_n * 0.5,
            verb_score=hoi_prob_qk[triplets.query_n, triplets.hoi_n].astype(np.float64),
        )

    def _extended_prior(self, prior_vo: NDArray[np.floating] | None) -> F64 | None:
        """(V, O + 1) with a last column of ones for no object."""
        if prior_vo is None:
            return None
        if not self._vocabulary.has_no_object_class:
            raise ModelError(
                f"vocabulary {self._vocabulary.name!r} scores HOIs, a verb prior has no place; leave it out"
            )
        expected = (len(self._vocabulary.verbs), len(self._vocabulary.objects))
        if prior_vo.shape != expected:
            raise ModelError(f"expected a prior of (verbs, objects) {expected}, got {prior_vo.shape}")
        return np.concatenate([prior_vo.astype(np.float64), np.ones((expected[0], 1))], axis=1)

    def _require_fit(self, raw: RawOutput) -> None:
        expected = (len(self._vocabulary.hois), self._vocabulary.num_object_classes + 1)
        found = (raw.hoi_logits.shape[2], raw.object_logits.shape[2])
        if found != expected:
            raise ModelError(
                f"expected {expected[0]} HOI and {expected[1]} object logits for vocabulary {self._vocabulary.name!r}, "
                f"the model returned {found[0]} and {found[1]}; use the vocabulary it was exported with"
            )


def official_boxes(raw: RawOutput, original_hw: tuple[int, int], image: int = 0) -> tuple[F32, I64]:
    """Boxes and labels of one image in the official form.

    Returns:
        (2Q, 4) xyxy in pixels of the original, not clipped: humans, then objects; and (2Q,) labels: zeros for the
        humans, then the best object class without "nothing" (for V-COCO the last of them means no object).
    """
    height, width = original_hw
    cxcywh = np.concatenate([raw.human_boxes_cxcywh[image], raw.object_boxes_cxcywh[image]])
    centre, half_size = cxcywh[:, :2], cxcywh[:, 2:] * np.float32(0.5)
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf; callers check within_reach
        boxes_xyxy = np.concatenate([centre - half_size, centre + half_size], axis=1)
        boxes_xyxy *= np.array([width, height, width, height], np.float32)
    label_q = raw.object_logits[image, :, :-1].argmax(axis=1)
    return boxes_xyxy, np.concatenate([np.zeros_like(label_q), label_q])


def sigmoid(logits: F32) -> F32:
    """1 / (1 + exp(-x)) in float32; a new array. Far negative logits give 0, NaN stays NaN."""
    out: F32 = np.negative(logits, dtype=np.float32)
    with np.errstate(over="ignore"):
        np.exp(out, out=out)
    out += np.float32(1)
    return np.reciprocal(out, out=out)


_OFFICIAL_STEP = 10
"""Upstream tries 10, 20, 30, 40, 50 nearest HOIs in this order."""


def enhance(hoi_prob_qk: F32, clip_cls: F32, hoi_text_embeddings: F32, k: int, *, cumulative: bool = False) -> F32:
    """hoi + sigmoid(masked cosine): about 0.57 more for the `k` nearest HOIs, 0.5 for the rest. A new array.

    Args:
        hoi_prob_qk: (Q, K) HOI probabilities.
        clip_cls, hoi_text_embeddings, k, cumulative: see masked_cosine.

    Source: docs/model.md, Training-free enhancement.
    """
    cosine_k = masked_cosine(clip_cls, hoi_text_embeddings, k, cumulative=cumulative)
    gain_k = np.float32(1) / (np.float32(1) + np.exp(-cosine_k))
    enhanced: F32 = hoi_prob_qk + gain_k
    return enhanced


def masked_cosine(clip_cls: F32, hoi_text_embeddings: F32, k: int, *, cumulative: bool = False) -> F32:
    """(K,) cosine of image and HOI prompt for the `k` nearest HOIs (equal ones: the first), 0 for the others.

    Args:
        clip_cls: (E,) global embedding of the image, not normalised.
        hoi_text_embeddings: (K, E) unit embeddings.
        cumulative: mask the result of masking with 10, 20, ..., as upstream does in place; then few more than 10 stay.
    """
    with np.errstate(all="ignore"):
        cosine_k: F32 = hoi_text_embeddings @ (clip_cls / np.linalg.norm(clip_cls))
    # With an embedding that is zero or not finite no HOI gains over another.
    cosine_k = np.nan_to_num(cosine_k, nan=0.0, posinf=0.0, neginf=0.0)
    for keep in (*range(_OFFICIAL_STEP, k, _OFFICIAL_STEP), k) if cumulative else (k,):
        nearest = np.argsort(-cosine_k, kind="stable")[:keep]
        masked = np.zeros_like(cosine_k)
        masked[nearest] = cosine_k[nearest]
        cosine_k = masked
    return cosine_k
