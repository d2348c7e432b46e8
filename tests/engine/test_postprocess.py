"""The rules of scoring on small vocabularies made here. Recorded official lists: tests/parity."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoiclip.core.boxes import MAX_COORDINATE_PX
from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import ModelError
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor, enhance, masked_cosine, official_boxes, sigmoid
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip_kernels.pair_decode import reference as decode_reference
from hoiclip_kernels.pair_nms import reference as nms_reference
from tests.engine.extreme_numbers import extreme_32

HW = (480, 640)


def vocabulary(*, no_object: bool) -> Vocabulary:
    """Three objects, four verbs; with `no_object` the last HOI needs none."""
    hois = ((0, 0), (1, 0), (2, 1), (0, 1), (3, 2), (3, 3 if no_object else 1))
    return Vocabulary(
        name="small",
        objects=("person", "cup", "horse"),
        verbs=("hold", "sit", "pour", "ride"),
        hois=hois,
        hoi_prompts=("x",) * len(hois),
        object_prompts=("x",) * (5 if no_object else 4),
        verb_prompts=("x",) * 4,
    )


HICO_LIKE, VCOCO_LIKE = vocabulary(no_object=False), vocabulary(no_object=True)
BOTH = pytest.mark.parametrize("words", [HICO_LIKE, VCOCO_LIKE], ids=["HICO rule", "V-COCO rule"])


def random_raw(words: Vocabulary, batch: int = 1, queries: int = 8, seed: int = 0) -> RawOutput:
    """Few different boxes, so that there are duplicates."""
    rng = np.random.default_rng(seed)

    def boxes() -> np.ndarray:
        return rng.uniform(0.3, 0.6, (3, 4))[rng.integers(0, 3, (batch, queries))].astype(np.float32)

    return RawOutput(
        hoi_logits=rng.normal(0, 2, (batch, queries, len(words.hois))).astype(np.float32),
        object_logits=rng.normal(0, 2, (batch, queries, words.num_object_classes + 1)).astype(np.float32),
        human_boxes_cxcywh=boxes(),
        object_boxes_cxcywh=boxes(),
        clip_cls=rng.normal(0, 1, (batch, 16)).astype(np.float32),
    )


def half_without_object() -> RawOutput:
    """Logits by which the first four of eight queries have no object."""
    raw = random_raw(VCOCO_LIKE)
    raw.object_logits[0, :4, 3] = 9
    raw.object_logits[0, 4:, 3] = -9
    return raw


def expected_pairs(words: Vocabulary, raw: RawOutput, config: PostprocessConfig) -> list[tuple[int, int, float]]:
    """(query, class, official score) by the slow references of both kernels."""
    hoi, obj = (1 / (1 + np.exp(-logits[0])) for logits in (raw.hoi_logits, raw.object_logits))
    verb_of_hoi, object_of_hoi = np.array(words.hois).T
    classes = verb_of_hoi if words.has_no_object_class else np.arange(len(words.hois))
    num_classes = len(words.verbs) if words.has_no_object_class else len(words.hois)
    found = decode_reference.pair_decode(hoi, obj, object_of_hoi, classes, num_classes, None, config.top_k)
    if not words.has_no_object_class:
        boxes, _ = official_boxes(raw, HW)
        q = raw.hoi_logits.shape[1]
        kept = nms_reference.pair_nms(
            boxes[:q][found.query_n], boxes[q:][found.query_n], found.class_n, found.score_n, 0.7, 1.0, 0.5
        )
        assert len(kept) < len(found.score_n), "no doubles to suppress"
        found = found.rows(kept)
    return list(zip(found.query_n.tolist(), found.class_n.tolist(), found.score_n.tolist(), strict=True))


def rows(pairs: HOIDetections) -> list[tuple[int, int]]:
    return list(zip(pairs.query.tolist(), np.where(pairs.hoi >= 0, pairs.hoi, pairs.verb).tolist(), strict=True))


@BOTH
@pytest.mark.parametrize("top_k", [15, 100])
def test_postprocess_agrees_with_the_slow_reference(words: Vocabulary, top_k: int) -> None:
    config, raw = PostprocessConfig(top_k=top_k), random_raw(words)
    pairs = Postprocessor(words, config)(raw, HW)
    expected = expected_pairs(words, raw, config)
    assert rows(pairs) == [row[:2] for row in expected]
    np.testing.assert_allclose(2 * pairs.score, [row[2] for row in expected], rtol=0, atol=1e-6)


def test_hico_rule_reports_verb_and_object_of_the_hoi() -> None:
    raw = random_raw(HICO_LIKE)
    pairs = Postprocessor(HICO_LIKE, PostprocessConfig())(raw, HW)
    assert [HICO_LIKE.hois[k] for k in pairs.hoi] == list(zip(pairs.verb, pairs.label, strict=True))
    np.testing.assert_array_equal(pairs.verb_score, sigmoid(raw.hoi_logits[0])[pairs.query, pairs.hoi])


def test_vcoco_rule_reports_the_predicted_object() -> None:
    raw = half_without_object()
    pairs = Postprocessor(VCOCO_LIKE, PostprocessConfig())(raw, HW)
    assert (pairs.hoi == -1).all()
    np.testing.assert_array_equal(pairs.label == NO_OBJECT, pairs.query < 4)
    assert set(pairs.label.tolist()) <= {NO_OBJECT, 0, 1, 2}
    assert len(rows(pairs)) == len(set(rows(pairs))) == 8 * 4


def test_verb_prior_excludes_verbs_but_not_without_an_object() -> None:
    raw = half_without_object()
    free = Postprocessor(VCOCO_LIKE, PostprocessConfig())(raw, HW)
    pairs = Postprocessor(VCOCO_LIKE, PostprocessConfig(), prior_vo=np.zeros((4, 3)))(raw, HW)
    np.testing.assert_array_equal(pairs.score > 0, pairs.query < 4)
    np.testing.assert_array_equal(np.sort(pairs.score[pairs.query < 4]), np.sort(free.score[free.query < 4]))


def test_nms_can_be_switched_on_and_off() -> None:
    for words in (HICO_LIKE, VCOCO_LIKE):
        raw = random_raw(words)
        on, off = (Postprocessor(words, PostprocessConfig(nms=nms))(raw, HW) for nms in (True, False))
        assert len(on) < len(off)
        assert (np.diff(off.score) <= 0).all()
        assert set(rows(on)) < set(rows(off))


def test_min_score_drops_low_scores() -> None:
    raw = random_raw(HICO_LIKE)
    config = PostprocessConfig(nms=False)
    everything = Postprocessor(HICO_LIKE, config)(raw, HW)
    limit = float(everything.score[10])
    assert len(Postprocessor(HICO_LIKE, replace(config, min_score=limit))(raw, HW)) == 11


@BOTH
def test_batch_gives_the_same_as_its_images_alone(words: Vocabulary) -> None:
    raw, sizes = random_raw(words, batch=3), [(480, 640), (100, 50), (32, 32)]
    postprocess = Postprocessor(words, PostprocessConfig())
    together = postprocess.batch(raw, sizes)
    assert len(together) == 3
    for i, pairs in enumerate(together):
        alone = postprocess(raw.image(i), sizes[i])
        for name in HOIDetections.__slots__:
            np.testing.assert_array_equal(getattr(pairs, name), getattr(alone, name), err_msg=name)
    with pytest.raises(ValueError, match="3 original sizes"):
        postprocess.batch(raw, sizes[:2])


def test_boxes_are_scaled_to_the_original_and_not_clipped() -> None:
    raw = random_raw(HICO_LIKE)
    raw.human_boxes_cxcywh[0, 0] = (0.5, 0.5, 0.5, 0.25)
    raw.object_boxes_cxcywh[0, 0] = (0.0, 1.0, 0.5, 0.5)
    boxes_xyxy, labels = official_boxes(raw, (100, 200))
    assert boxes_xyxy[0].tolist() == [50, 37.5, 150, 62.5]
    assert boxes_xyxy[8].tolist() == [-50, 75, 50, 125]
    assert labels.shape == (16,)
    assert not labels[:8].any()
    assert labels[8:].max() < HICO_LIKE.num_object_classes


def test_sigmoid_is_that_of_torch() -> None:
    logits = np.concatenate([np.linspace(-30, 30, 2001), [-200, 200, np.inf, -np.inf, np.nan]]).astype(np.float32)
    np.testing.assert_allclose(sigmoid(logits), torch.from_numpy(logits).sigmoid().numpy(), rtol=1e-6, atol=1e-37)


_logits = st.sampled_from([0.0, 1.5, -2.0, 300.0, -300.0, np.nan, np.inf, -np.inf])
_boxes = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), extreme_32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), no_object=st.booleans())
def test_non_finite_output_never_reaches_the_detections(data: st.DataObject, no_object: bool) -> None:
    words = VCOCO_LIKE if no_object else HICO_LIKE
    raw = RawOutput(
        hoi_logits=data.draw(hnp.arrays(np.float32, (1, 3, len(words.hois)), elements=_logits)),
        object_logits=data.draw(hnp.arrays(np.float32, (1, 3, words.num_object_classes + 1), elements=_logits)),
        human_boxes_cxcywh=data.draw(hnp.arrays(np.float32, (1, 3, 4), elements=_boxes)),
        object_boxes_cxcywh=data.draw(hnp.arrays(np.float32, (1, 3, 4), elements=_boxes)),
        clip_cls=data.draw(hnp.arrays(np.float32, (1, 2), elements=_logits)),
    )
    config = PostprocessConfig(enhance_top_k=2) if data.draw(st.booleans()) else PostprocessConfig()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = Postprocessor(words, config, np.eye(len(words.hois), 2, dtype=np.float32))(raw, HW)
    for boxes_xyxy in (pairs.human_boxes_xyxy, pairs.object_boxes_xyxy):
        assert (np.abs(boxes_xyxy) < MAX_COORDINATE_PX).all()
    for values in (pairs.human_boxes_xyxy, pairs.object_boxes_xyxy, pairs.score, pairs.verb_score):
        assert np.isfinite(values).all()


@BOTH
def test_non_finite_queries_are_dropped_and_no_others(words: Vocabulary) -> None:
    raw, config = random_raw(words), PostprocessConfig(nms=False)
    whole = Postprocessor(words, config)(raw, HW)
    raw.hoi_logits[0, 2] = np.nan
    raw.object_boxes_cxcywh[0, 5, 1] = np.nan
    rest = Postprocessor(words, config)(raw, HW)
    assert rows(rest) == [row for row in rows(whole) if row[0] not in (2, 5)]
    assert len(rest) > 0


def test_enhancement_adds_a_half_or_a_little_more() -> None:
    rows_ke = np.eye(5, dtype=np.float32)
    clip_cls = np.array([3, 0, 4, 0, 0], np.float32)
    np.testing.assert_allclose(masked_cosine(clip_cls, rows_ke, 1), [0, 0, 0.8, 0, 0], atol=1e-7)
    np.testing.assert_allclose(masked_cosine(clip_cls, rows_ke, 2), [0.6, 0, 0.8, 0, 0], atol=1e-7)
    gain = enhance(np.zeros((2, 5), np.float32), clip_cls, rows_ke, 1)
    np.testing.assert_allclose(gain, [[0.5, 0.5, 1 / (1 + np.exp(-0.8)), 0.5, 0.5]] * 2, atol=1e-6)


def test_cumulative_enhancement_keeps_the_ten_of_the_first_mask() -> None:
    rng = np.random.default_rng(0)
    rows_ke = np.abs(rng.normal(size=(40, 8))).astype(np.float32)
    clip_cls = np.abs(rng.normal(size=8)).astype(np.float32)
    fresh, cumulative = (masked_cosine(clip_cls, rows_ke, 25, cumulative=c) for c in (False, True))
    assert (np.count_nonzero(fresh), np.count_nonzero(cumulative)) == (25, 10)
    np.testing.assert_array_equal(cumulative, masked_cosine(clip_cls, rows_ke, 10))


def test_enhancement_changes_the_scores() -> None:
    raw, rows_ke = random_raw(HICO_LIKE), np.eye(6, 16, dtype=np.float32)
    plain = Postprocessor(HICO_LIKE, PostprocessConfig(nms=False))(raw, HW)
    enhanced = Postprocessor(HICO_LIKE, PostprocessConfig(nms=False, enhance_top_k=6), rows_ke)(raw, HW)
    gain = sigmoid(raw.clip_cls[0, :6] / np.linalg.norm(raw.clip_cls[0])).astype(float)
    by_row = dict(zip(rows(enhanced), 2 * enhanced.score, strict=True))
    np.testing.assert_allclose([by_row[row] for row in rows(plain)], 2 * plain.score + gain[plain.hoi], atol=1e-6)


def test_output_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match="use the vocabulary it was exported with"):
        Postprocessor(HICO_LIKE, PostprocessConfig())(random_raw(VCOCO_LIKE), HW)


@pytest.mark.parametrize(
    ("words", "config", "tables", "message"),
    [
        (HICO_LIKE, PostprocessConfig(enhance_top_k=3), {}, "text embeddings"),
        (
            HICO_LIKE,
            PostprocessConfig(),
            {"hoi_text_embeddings": np.zeros((5, 8), np.float32)},
            "6 HOI text embeddings",
        ),
        (HICO_LIKE, PostprocessConfig(), {"prior_vo": np.ones((4, 3))}, "leave it out"),
        (VCOCO_LIKE, PostprocessConfig(), {"prior_vo": np.ones((3, 4))}, "prior"),
    ],
)
def test_text_embeddings_and_priors_that_do_not_fit_are_refused(
    words: Vocabulary, config: PostprocessConfig, tables: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Postprocessor(words, config, **tables)


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"enhance_top_k": 0}, {"min_score": -1.0}, {"nms_threshold": np.nan}])
def test_config_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PostprocessConfig(**wrong)  # type: ignore[arg-type]


def test_raw_output_of_different_sizes_is_refused() -> None:
    raw = random_raw(HICO_LIKE)
    with pytest.raises(ValueError, match="same B and Q"):
        replace(raw, clip_cls=np.zeros((2, 16), np.float32))
    with pytest.raises(ValueError, match="same B and Q"):
        replace(raw, human_boxes_cxcywh=raw.human_boxes_cxcywh[:, :7])
    with pytest.raises(IndexError):
        raw.image(1)
