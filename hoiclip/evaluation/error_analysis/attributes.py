"""Attributes that may make a pair hard (size, overlap with other people, image border, crowd), and tables by them.

All of them are derived from boxes: annotations hold no occlusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, I64
from hoiclip.core.vocabulary import NO_OBJECT
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.error_analysis.classify import AnalysisConfig, FalsePositives, Fates, people_rows
from hoiclip.evaluation.matching import pixel_iou_matrix
from hoiclip.evaluation.triplets import GroundTruthTriplets, PredictedTriplets

NO_OBJECT_BIN = "no object"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A way to sort rows into bins."""

    name: str
    bins: tuple[str, ...]
    bin_of: I64
    """(N,) index into bins."""


def gt_attributes(
    fates: Fates,
    ground_truth: Sequence[GroundTruthTriplets],
    annotations: Sequence[ImageAnnotation],
    person: int,
    config: AnalysisConfig,
) -> list[Attribute]:
    """Attributes of the ground truth: sizes, overlap with other people, the image border, people in the image."""
    human_xyxy, object_xyxy = _boxes(ground_truth, fates.image, fates.row)
    without_object = fates.label == NO_OBJECT
    overlap, people = np.zeros(len(fates)), np.zeros(len(annotations), np.int64)
    starts = np.searchsorted(fates.image, np.arange(len(annotations) + 1))
    for image, annotation in enumerate(annotations):
        rows = slice(starts[image], starts[image + 1])
        overlap[rows], people[image] = _among_people(human_xyxy[rows], annotation, person, config)
    sizes_wh = np.array(
        [(annotation.width_px, annotation.height_px) for annotation in annotations], np.float64
    ).reshape(-1, 2)
    return [
        _size("size of the human", human_xyxy, np.zeros(len(fates), np.bool_), config),
        _size("size of the object", object_xyxy, without_object, config),
        _overlap(overlap, config),
        _border(human_xyxy, object_xyxy, without_object, sizes_wh[fates.image], config),
        _people(people[fates.image], config),
    ]


def false_attributes(
    false: FalsePositives,
    predictions: Sequence[PredictedTriplets],
    annotations: Sequence[ImageAnnotation],
    person: int,
    config: AnalysisConfig,
) -> list[Attribute]:
    """Attributes of the false positives: sizes, people in the image."""
    human_xyxy, object_xyxy = _boxes(predictions, false.image, false.row)
    people = np.array([_num_people(annotation, person, config) for annotation in annotations], np.int64)
    return [
        _size("size of the human", human_xyxy, np.zeros(len(false), np.bool_), config),
        _size("size of the object", object_xyxy, false.label == NO_OBJECT, config),
        _people(people[false.image], config),
    ]


def sizes_px(boxes_xyxy: NDArray[np.floating]) -> F64:
    """(..., 4) to (...): the square root of the area, the last pixel counted; 0 of an inverted box."""
    sides = np.maximum(np.asarray(boxes_xyxy, np.float64)[..., 2:] - boxes_xyxy[..., :2] + 1, 0)
    size: F64 = np.sqrt(np.nan_to_num(sides).prod(axis=-1))
    return size


def _boxes(rows: Sequence[GroundTruthTriplets] | Sequence[PredictedTriplets], image: I64, row: I64) -> tuple[F64, F64]:
    """(N, 4) boxes of humans and of objects, by image and row."""
    starts = np.cumsum([0, *(len(triplets) for triplets in rows)])
    at = starts[image] + row
    none = np.zeros((0, 4))
    human_xyxy = np.concatenate([none, *(triplets.human_boxes_xyxy for triplets in rows)])[at]
    return human_xyxy, np.concatenate([none, *(triplets.object_boxes_xyxy for triplets in rows)])[at]


def _among_people(human_xyxy: F64, annotation: ImageAnnotation, person: int, config: AnalysisConfig) -> tuple[F64, int]:
    """(G,) largest IoU of each human with another person, and the number of people."""
    people = annotation.boxes_xyxy.reshape(-1, 4)[people_rows(annotation, person)]
    overlap = np.nan_to_num(pixel_iou_matrix(human_xyxy, people))
    overlap[overlap >= config.same_person_overlap] = 0.0
    return overlap.max(axis=1, initial=0.0), _num_people(annotation, person, config)


def _num_people(annotation: ImageAnnotation, person: int, config: AnalysisConfig) -> int:
    people = annotation.boxes_xyxy.reshape(-1, 4)[people_rows(annotation, person)]
    same = np.nan_to_num(pixel_iou_matrix(people, people)) >= config.same_person_overlap
    return int((~np.tril(same, -1).any(axis=1)).sum())


def _size(name: str, boxes_xyxy: F64, without_object: NDArray[np.bool_], config: AnalysisConfig) -> Attribute:
    edges = config.size_edges_px
    bin_of = np.digitize(sizes_px(boxes_xyxy), edges)
    return Attribute(
        f"{name} (√area, px)", (*_ranges(edges), NO_OBJECT_BIN), np.where(without_object, len(edges) + 1, bin_of)
    )


def _overlap(overlap: F64, config: AnalysisConfig) -> Attribute:
    edges = (np.nextafter(0, 1), *config.overlap_edges)
    least, *_, most = names = _ranges(config.overlap_edges)
    bins = ("none", f"above 0, {least}", *names[1:-1], most)
    return Attribute("overlap of the human with other people (IoU)", bins, np.digitize(overlap, edges))


def _border(
    human_xyxy: F64, object_xyxy: F64, without_object: NDArray[np.bool_], sizes_wh: F64, config: AnalysisConfig
) -> Attribute:
    human_touches, object_touches = (
        _touches_border(human_xyxy, sizes_wh, config),
        _touches_border(object_xyxy, sizes_wh, config) & ~without_object,
    )
    bin_of = np.where(sizes_wh.min(axis=1, initial=np.inf) > 0, human_touches + 2 * object_touches, 4)
    return Attribute("cut off by the image border", ("neither", "human", "object", "both", "size not known"), bin_of)


def _touches_border(boxes_xyxy: F64, sizes_wh: F64, config: AnalysisConfig) -> NDArray[np.bool_]:
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    touches: NDArray[np.bool_] = np.any((low < config.border_px) | (high > sizes_wh - 1 - config.border_px), axis=1)
    return touches


def _people(people: I64, config: AnalysisConfig) -> Attribute:
    edges = config.people_edges
    low, high = (0, *edges), (*edges, None)
    names = [
        f"{a} and more" if b is None else str(a) if b == a + 1 else f"{a} to {b - 1}"
        for a, b in zip(low, high, strict=True)
    ]
    return Attribute("people in the image", tuple(names), np.digitize(people, edges))


def _ranges(edges: Sequence[float]) -> list[str]:
    """Names of the bins between edges."""
    inner = [f"{a:g} to {b:g}" for a, b in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and more"]


@dataclass(frozen=True, slots=True)
class CountTable:
    """B bins of an attribute by K kinds. Empty bins are left out."""

    name: str
    bins: tuple[str, ...]
    kinds: tuple[str, ...]
    counts: I64
    """(B, K)"""

    def to_json(self) -> dict[str, Any]:
        rows = zip(self.bins, self.counts, strict=True)
        return {"name": self.name, "bins": [{"bin": name, **counts_to_json(self.kinds, row)} for name, row in rows]}


def count_table(attribute: Attribute, kinds: tuple[str, ...], kind_of: I64, *, by_count: bool = False) -> CountTable:
    """Counts the kinds of each bin.

    Args:
        kind_of: (N,) index into kinds.
        by_count: the bins with most rows first, as for classes; otherwise in their own order.
    """
    size = len(attribute.bins), len(kinds)
    counts = np.bincount(attribute.bin_of * size[1] + kind_of, minlength=size[0] * size[1]).reshape(size)
    order = np.argsort(-counts.sum(axis=1), kind="stable") if by_count else np.arange(size[0])
    order = order[counts[order].sum(axis=1) > 0]
    return CountTable(attribute.name, tuple(attribute.bins[i] for i in order), kinds, counts[order])


def counts_to_json(kinds: tuple[str, ...], counts: I64) -> dict[str, Any]:
    """Total, counts and percentages, for JSON."""
    numbers = dict(zip(kinds, counts.tolist(), strict=True))
    return {
        "total": int(counts.sum()),
        "counts": numbers,
        "percent": dict(zip(kinds, percentages(counts), strict=True)),
    }


def percentages(counts: I64) -> list[float]:
    """(K,) percentages, rounded to tenths, that sum to exactly 100; zeros where all counts are zero.

    The rest after rounding down goes to the largest remainders (Hare's method), so that no column sums to 99.9.
    """
    total = int(counts.sum())
    if not total:
        return [0.0] * len(counts)
    tenths, remainder = np.divmod(counts.astype(np.int64) * 1000, total)
    left = 1000 - int(tenths.sum())
    tenths[np.argsort(-remainder, kind="stable")[:left]] += 1
    return [tenth / 10 for tenth in tenths.tolist()]
