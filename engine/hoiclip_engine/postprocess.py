"""Turns raw model output into scored triplets by the official rules, on the host, in numpy and numba.

HICO rule: every HOI class is scored on its own and doubles are suppressed. V-COCO rule (vocabularies in which a person
can act without an object): every verb takes its best HOI. Training-free enhancement is in enhance.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import ModelError
from hoiclip.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_engine.enhance import enhance
from hoiclip_engine.pairs import Pairs, within_reach
from hoiclip_engine.raw_output import RawOutput
from hoiclip_kernels.pair_decode import Decoded, pair_decode
from hoiclip_kernels.pair_nms import pair_nms

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessConfig:
    """Which triplets are reported."""

    top_k: int = 100
    """Triplets kept per image, before doubles go."""
    min_score: float = 0.0
    """Triplets below this score (Pairs.score, half of the official sum) are dropped; 0 keeps all."""
    nms: bool | None = None
    """Whether doubles of a class go; None: as officially, under the HICO rule only."""
    nms_threshold: float = 0.7
    """Overlap above which the weaker of two pairs of a class goes."""
    sub_power: float = 1.0
    """Exponent of the human IoU in the overlap."""
    obj_power: float = 0.5
    """Exponent of the object IoU in the overlap."""
    enhance_top_k: int | None = None
    """Training-free enhancement with the HOIs nearest to the whole picture; None: off. Officially best: 10."""
    enhance_cumulative: bool = False
    """As upstream in a run over 10, 20, ... enhance_top_k, see enhance.py."""

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
        hoi_text_rows: NDArray[np.float32] | None = None,
        prior_vo: NDArray[np.floating] | None = None,
    ) -> None:
        """Prepares the tables of a vocabulary.

        Args:
            hoi_text_rows: (K, E) unit rows of CLIP's text embeddings; needed for the enhancement alone.
            prior_vo: (V, O) factors on verb scores given the object; for the V-COCO rule alone. No object counts 1.

        Raises:
            ModelError: the enhancement without text rows, rows or a prior of another vocabulary's size, or a prior
                where verbs are not scored.
        """
        self._vocabulary, self._config = vocabulary, config
        self._verb_of_hoi = np.array([verb for verb, _ in vocabulary.hois], np.int64)
        self._object_of_hoi = np.array([obj for _, obj in vocabulary.hois], np.int64)
        self._nms = not vocabulary.has_no_object_class if config.nms is None else config.nms
        if config.enhance_top_k is not None and hoi_text_rows is None:
            raise ModelError("training-free enhancement needs the model's HOI text embeddings; switch it off")
        if hoi_text_rows is not None and hoi_text_rows.shape[:1] != (len(vocabulary.hois),):
            raise ModelError(f"expected {len(vocabulary.hois)} HOI text rows, got {hoi_text_rows.shape}")
        self._hoi_text_rows = hoi_text_rows
        self._prior = self._extended_prior(prior_vo)

    def __call__(self, raw: RawOutput, original_hw: tuple[int, int], image: int = 0) -> Pairs:
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
        found = self._decode(hoi_prob_qk, sigmoid(raw.object_logits[image]), label_q)
        found = self._without_weak_and_doubles(found, boxes_xyxy)
        return self._pairs(found, hoi_prob_qk, boxes_xyxy, label_q)

    def batch(self, raw: RawOutput, original_hw: Sequence[tuple[int, int]]) -> list[Pairs]:
        """The triplets of every image."""
        if len(original_hw) != len(raw):
            raise ValueError(f"expected {len(raw)} original sizes, got {len(original_hw)}")
        return [self(raw, size, image) for image, size in enumerate(original_hw)]

    def _hoi_probabilities(self, raw: RawOutput, image: int) -> F32:
        hoi_prob_qk = sigmoid(raw.hoi_logits[image])
        if self._config.enhance_top_k is None or self._hoi_text_rows is None:
            return hoi_prob_qk
        return enhance(
            hoi_prob_qk,
            raw.clip_cls[image],
            self._hoi_text_rows,
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

    def _without_weak_and_doubles(self, found: Decoded, boxes_xyxy: F32) -> Decoded:
        if self._config.min_score > 0:
            found = found.rows(found.score_n * 0.5 >= self._config.min_score)
        if not self._nms:
            return found
        kept = pair_nms(
            boxes_xyxy[found.query_n],
            boxes_xyxy[found.query_n + boxes_xyxy.shape[0] // 2],
            found.class_n,
            found.score_n,
            self._config.nms_threshold,
            self._config.sub_power,
            self._config.obj_power,
        )
        return found.rows(kept)

    def _pairs(self, found: Decoded, hoi_prob_qk: F32, boxes_xyxy: F32, label_q: I64) -> Pairs:
        if self._vocabulary.has_no_object_class:
            label = label_q[found.query_n]
            label = np.where(label < len(self._vocabulary.objects), label, NO_OBJECT)
            hoi = np.full(len(found.query_n), -1, np.int64)
        else:
            label, hoi = self._object_of_hoi[found.hoi_n], found.hoi_n
        return Pairs(
            query=found.query_n,
            human_boxes_xyxy=boxes_xyxy[found.query_n],
            object_boxes_xyxy=boxes_xyxy[found.query_n + hoi_prob_qk.shape[0]],
            label=label,
            verb=self._verb_of_hoi[found.hoi_n],
            hoi=hoi,
            score=found.score_n * 0.5,
            verb_score=hoi_prob_qk[found.query_n, found.hoi_n].astype(np.float64),
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
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf; whoever needs boxes within reach looks
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
