"""Both scoring rules against lists recorded from the official code. Exact but for float32 rounding."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hoiclip.core.detections import HOIDetections
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor, masked_cosine, official_boxes, sigmoid
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import load_vocabulary
from tests.parity.compare import assert_same_triplets

VOCABULARIES = ("hico", "vcoco")
CUMULATIVE = "_official_cumulative"


@dataclass(frozen=True)
class Recording:
    """One fixture file, of any sizes and lists."""

    name: str
    arrays: dict[str, NDArray[np.generic]]

    @property
    def raw(self) -> RawOutput:
        return RawOutput(
            hoi_logits=self.arrays["pred_hoi_logits"],
            object_logits=self.arrays["pred_obj_logits"],
            human_boxes_cxcywh=self.arrays["pred_sub_boxes"],
            object_boxes_cxcywh=self.arrays["pred_obj_boxes"],
            clip_cls=self.arrays["clip_visual_cls"],
        )

    @property
    def original_hw(self) -> list[tuple[int, int]]:
        return [(int(h), int(w)) for h, w in self.arrays["orig_sizes"]]

    @property
    def lists(self) -> list[str]:
        """Prefixes of the recorded lists: final, nonms, tfe10, ..."""
        return sorted({match[1] for key in self.arrays if (match := re.fullmatch(r"(\w+)_\d+_score", key))})

    def postprocessor(self, config: PostprocessConfig) -> Postprocessor:
        prior = self.arrays.get("correct_mat")
        return Postprocessor(load_vocabulary(self.name), config, self.arrays["hoi_cls"], prior)


@pytest.fixture(params=VOCABULARIES)
def recording(request: pytest.FixtureRequest, parity_dir: Path) -> Recording:
    with np.load(parity_dir / f"postprocess_{request.param}.npz") as file:
        return Recording(request.param, dict(file))


def config_of(prefix: str) -> PostprocessConfig:
    """Settings of the recorded list `prefix`."""
    match = re.fullmatch(rf"tfe(\d+)({CUMULATIVE})?", prefix)
    if match:
        return PostprocessConfig(enhance_top_k=int(match[1]), enhance_cumulative=match[2] is not None)
    assert prefix in ("final", "nonms"), prefix
    return replace(PostprocessConfig(), nms=False if prefix == "nonms" else None)


def test_boxes_and_labels(recording: Recording) -> None:
    for i, size in enumerate(recording.original_hw):
        boxes_xyxy, labels = official_boxes(recording.raw, size, i)
        np.testing.assert_allclose(boxes_xyxy, recording.arrays["boxes"][i], rtol=1e-6, atol=1e-4)
        np.testing.assert_array_equal(labels, recording.arrays["labels"][i])


def test_hoi_probabilities_sum_up_to_the_recorded_ones(recording: Recording) -> None:
    sums = sigmoid(recording.raw.hoi_logits).sum(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(sums, recording.arrays["hoi_scores_sum"], rtol=1e-7)


def test_every_recorded_list_of_triplets_is_found(recording: Recording) -> None:
    lists, raw = recording.lists, recording.raw
    assert {"final", "tfe10", f"tfe20{CUMULATIVE}"} <= set(lists)
    for prefix in lists:
        postprocess = recording.postprocessor(config_of(prefix))
        grouped = recording.name == "hico" and prefix != "nonms"
        for i, pairs in enumerate(postprocess.batch(raw, recording.original_hw)):
            sub, obj, cat, score = (recording.arrays[f"{prefix}_{i}_{part}"] for part in ("sub", "obj", "cat", "score"))
            assert_same_triplets(pairs, sub, obj, cat, score, num_queries=raw.hoi_logits.shape[1], grouped=grouped)


def test_masked_clip_scores(recording: Recording) -> None:
    recorded = [key for key in recording.arrays if key.endswith("_clip_scores")]
    assert recorded
    for key in recorded:
        config = config_of(key.removesuffix("_clip_scores"))
        assert config.enhance_top_k is not None
        for clip_cls, expected in zip(recording.raw.clip_cls, recording.arrays[key], strict=True):
            rows = recording.arrays["hoi_cls"]
            found = masked_cosine(clip_cls, rows, config.enhance_top_k, cumulative=config.enhance_cumulative)
            np.testing.assert_array_equal(found != 0, expected != 0)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def example_pairs(query: list[int], hoi: list[int], score: list[float]) -> HOIDetections:
    n = len(query)
    boxes, zeros = np.zeros((n, 4), np.float32), np.zeros(n, np.int64)
    return HOIDetections(
        query=np.array(query),
        human_boxes_xyxy=boxes,
        object_boxes_xyxy=boxes,
        label=zeros,
        verb=zeros,
        hoi=np.array(hoi),
        score=np.array(score) / 2,
        verb_score=np.zeros(n),
    )


@pytest.mark.parametrize(
    ("query", "hoi", "score"),
    [
        ([1, 2, 3], [5, 6, 5], [0.9, 0.8, 0.7]),  # order
        ([1, 3], [5, 5], [0.9, 0.7]),  # one missing
        ([1, 3, 2, 4], [5, 5, 6, 6], [0.9, 0.7, 0.8, 0.1]),  # one too many
        ([1, 3, 2], [5, 5, 6], [0.9, 0.7, 0.80001]),  # a score
        ([2, 1, 3], [6, 5, 5], [0.8, 0.9, 0.7]),  # classes in another order
    ],
)
def test_comparison_finds_a_difference(query: list[int], hoi: list[int], score: list[float]) -> None:
    official = np.array([1, 3, 2]), np.array([9, 11, 10]), np.array([5, 5, 6]), np.array([0.9, 0.7, 0.8])
    same = example_pairs([1, 3, 2], [5, 5, 6], [0.9, 0.7, 0.8])
    assert_same_triplets(same, *official, num_queries=8, grouped=True)
    with pytest.raises(AssertionError):
        assert_same_triplets(example_pairs(query, hoi, score), *official, num_queries=8, grouped=True)


def test_comparison_allows_swapped_ties() -> None:
    official = np.array([1, 2]), np.array([9, 10]), np.array([5, 5]), np.array([0.9, 0.8999999])
    swapped = example_pairs([2, 1], [5, 5], [0.9, 0.9])
    assert_same_triplets(swapped, *official, num_queries=8, grouped=False)
