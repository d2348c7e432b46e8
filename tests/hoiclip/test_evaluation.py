"""The rules of HICO-DET's and V-COCO's metrics, on images small enough to count by hand and against plain loops."""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hoiclip.core.errors import UsageError
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation import (
    PredictedTriplets,
    Split,
    bundled_splits,
    choose_metric,
    evaluate,
    evaluate_hico,
    evaluate_vcoco,
)
from hoiclip.evaluation.average_precision import OFFICIAL_RECALL_LEVELS, eleven_point, envelope_area
from hoiclip.evaluation.matching import pixel_iou, pixel_iou_matrix
from hoiclip.evaluation.splits import read_splits
from hoiclip.evaluation.video.trajectories import volume_iou
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip_kernels.box_iou import box_iou
from tests.engine.extreme_numbers import extreme_64
from tests.hoiclip.annotated_images import (
    CUP,
    DOG,
    HOLD,
    HOLD_CUP,
    HOLD_DOG,
    PERSON,
    PET,
    PET_DOG,
    annotation,
    noisy_predictions,
    predicted,
    random_annotations,
    tiny_vocabulary,
)

A, B, C = (0, 0, 99, 99), (100, 0, 199, 99), (200, 0, 299, 99)
TINY = tiny_vocabulary()
VCOCO = load_vocabulary("vcoco")
RARE = Split(name="default", inside=frozenset({PET_DOG}), inside_name="rare", outside_name="non-rare")


def scene() -> ImageAnnotation:
    """A person holding and petting a dog, beside a cup."""
    return annotation([A, B, C], [PERSON, DOG, CUP], [(0, 1, HOLD), (0, 1, PET)])


def test_perfect_predictions_score_100_percent() -> None:
    found = predicted([(A, B, DOG, HOLD_DOG, 0.9), (A, B, DOG, PET_DOG, 0.8)])
    result = evaluate_hico([found], [scene()], TINY, splits=[RARE])
    assert result.summaries["default"] == {"mAP": 1, "mAP rare": 1, "mAP non-rare": 1, "mean max recall": 1}
    assert [class_result.num_gt for class_result in result.classes] == [0, 1, 1]
    assert math.isnan(result.classes[HOLD_CUP].ap)


@pytest.mark.parametrize(
    ("human", "obj", "hit"),
    [
        (A, B, True),
        ((0, 0, 99, 49), B, True),  # exactly half of the person
        ((0, 0, 99, 48), B, False),
        (A, (100, 0, 199, 48), False),
        (B, A, False),
    ],
)
def test_hit_needs_both_boxes_to_overlap_by_half(human: tuple[int, ...], obj: tuple[int, ...], hit: bool) -> None:
    found = predicted([(human, obj, DOG, PET_DOG, 0.9)])  # type: ignore[list-item]
    result = evaluate_hico([found], [scene()], TINY)
    assert result.classes[PET_DOG].num_hits == hit


def test_pair_predicted_twice_is_one_hit_and_one_error() -> None:
    found = predicted([(A, B, DOG, PET_DOG, 0.2), (A, B, DOG, PET_DOG, 0.9)])
    result = evaluate_hico([found], [scene()], TINY)
    assert result.classes[PET_DOG].hits.tolist() == [True, False]
    assert result.matches is not None
    assert result.matches.hit.tolist() == [False, True], "the better score takes the pair"


def test_prediction_has_no_second_choice_if_its_best_pair_is_taken() -> None:
    other = (3, 0, 102, 99)
    gt = annotation([A, other, B], [PERSON, PERSON, DOG], [(0, 2, PET), (1, 2, PET)])
    found = predicted([(A, B, DOG, PET_DOG, 0.9), ((1, 0, 100, 99), B, DOG, PET_DOG, 0.8)])
    assert evaluate_hico([found], [gt], TINY).classes[PET_DOG].num_hits == 1


def test_hico_ignores_object_labels_and_vcoco_does_not() -> None:
    found = predicted([(A, B, CUP, PET, 0.9)])
    as_hoi = predicted([(A, B, CUP, PET_DOG, 0.9)])
    assert evaluate_hico([as_hoi], [scene()], TINY).classes[PET_DOG].num_hits == 1
    assert evaluate_vcoco([found], [scene()], TINY).classes[PET].num_hits == 0


def test_vcoco_accepts_any_object_where_none_is_annotated() -> None:
    gt = annotation([A], [PERSON], [(0, NO_OBJECT, PET)])
    found = [predicted([(A, C, label, PET, 0.9)]) for label in (NO_OBJECT, DOG)]
    assert [evaluate_vcoco([predictions], [gt], TINY).classes[PET].num_hits for predictions in found] == [1, 1]


def test_hico_known_object_leaves_out_images_without_the_object() -> None:
    images = [scene(), annotation([A, B], [PERSON, CUP], [(0, 1, HOLD)], "2.jpg")]
    found = [predicted([(A, B, DOG, PET_DOG, 0.5)]), predicted([(A, B, DOG, PET_DOG, 0.9)])]
    default = evaluate_hico(found, images, TINY)
    known = evaluate_hico(found, images, TINY, known_object=True)
    assert default.classes[PET_DOG].hits.tolist() == [False, True]
    assert known.classes[PET_DOG].hits.tolist() == [True]


def test_class_without_predictions_counts_zero_unless_official() -> None:
    found = [predicted([(A, B, DOG, HOLD_DOG, 0.9)])]
    clean = evaluate_hico(found, [scene()], TINY, splits=[RARE]).summary
    official = evaluate_hico(found, [scene()], TINY, splits=[RARE], official=True).summary
    assert (clean["mAP"], clean["mAP rare"]) == (0.5, 0.0)
    assert official["mAP"] == pytest.approx(0.5)
    assert math.isnan(official["mAP rare"])


def test_interaction_annotated_twice_counts_once_unless_official() -> None:
    gt = annotation([A, B], [PERSON, DOG], [(0, 1, PET), (0, 1, PET)])
    found = [predicted([(A, B, DOG, PET_DOG, 0.9)])]
    assert evaluate_hico(found, [gt], TINY).classes[PET_DOG].num_gt == 1
    assert evaluate_hico(found, [gt], TINY, official=True).classes[PET_DOG].max_recall == 0.5


def test_recall_of_exactly_three_tenths_reaches_its_level_unless_official() -> None:
    hits = np.ones(3, np.bool_)
    assert eleven_point(hits, 10) == pytest.approx(4 / 11)
    assert eleven_point(hits, 10, OFFICIAL_RECALL_LEVELS) == pytest.approx(3 / 11)


def test_interactions_outside_the_vocabulary_are_left_out_with_a_note() -> None:
    gt = annotation([A, B], [PERSON, CUP], [(0, 1, PET)])
    result = evaluate_hico([predicted([])], [gt], TINY)
    assert math.isnan(result.summary["mAP"])
    assert "1 interactions" in result.notes[0]


def test_empty_predictions_and_annotations_raise_no_error() -> None:
    empty = annotation([], [], [])
    for metric, words in (("hico", TINY), ("hico-ko", TINY), ("vcoco", VCOCO), ("vcoco-official", VCOCO)):
        for images in ([empty], [], [annotation([A], [PERSON], [])]):
            predictions = [predicted([]) for _ in images]
            result = evaluate(metric, predictions, images, words)  # type: ignore[arg-type]
            json.dumps(result.to_json(), allow_nan=False)


def test_metric_auto_fits_the_vocabulary() -> None:
    assert (choose_metric("auto", TINY), choose_metric("auto", VCOCO)) == ("hico", "vcoco")
    with pytest.raises(UsageError, match="does not fit"):
        choose_metric("hico", VCOCO)
    with pytest.raises(UsageError, match="unknown metric"):
        choose_metric("coco", TINY)


def test_bundled_splits_have_the_sizes_of_the_paper() -> None:
    sizes = {name: len(split.inside) for name, split in bundled_splits(load_vocabulary("hico")).items()}
    assert next(iter(sizes)) == "default"
    assert sizes["default"] == 138
    assert [sizes[name] for name in ("rare_first", "non_rare_first", "unseen_object", "unseen_verb")] == [
        120,
        120,
        100,
        84,
    ]
    assert bundled_splits(TINY) == {}


def test_bundled_splits_exist_for_the_synthetic_world() -> None:
    splits = bundled_splits(synthetic_vocabulary())
    assert splits["default"].inside_name == "rare"
    assert all(split.inside < set(range(len(synthetic_vocabulary().hois))) for split in splits.values())
    assert splits["rf_uc"].inside


@pytest.mark.parametrize("content", ["[1]", '{"a": [3]}', '{"a": [true]}', '{"a": 1}', "no JSON", '{"a": [-1]}'])
def test_split_file_of_another_form_is_one_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"splits\.json"):
        read_splits(path, TINY)
    path.write_text('{"rare": [2], "mine": [0, 1]}')
    assert read_splits(path, TINY)["rare"].inside_name == "rare"


# The same rules once more, as loops over single predictions.


def slow_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return float(width * height / (area[0] + area[1] - width * height))


def slow_ap(
    predictions: list[PredictedTriplets],
    annotations: list[ImageAnnotation],
    category: int,
    triplets: list[tuple[int, int, int, int]],
    labels: bool,
) -> float:
    """`triplets`: image, human row, object row, category of every ground-truth pair."""
    rows = [(-p.score[i], image, i) for image, p in enumerate(predictions) for i in range(len(p))]
    taken: set[tuple[int, int, int, int]] = set()
    hits = []
    for _, image, i in sorted(rows):
        p, boxes = predictions[image], annotations[image].boxes_xyxy.astype(np.float64)
        if p.category[i] != category:
            continue
        best, best_overlap = None, 0.0
        for triplet in triplets:
            if triplet[0] != image or triplet[3] != category:
                continue
            overlap = slow_iou(p.human_boxes_xyxy[i].astype(np.float64), boxes[triplet[1]])
            if triplet[2] >= 0:
                obj = slow_iou(p.object_boxes_xyxy[i].astype(np.float64), boxes[triplet[2]])
                same = not labels or p.label[i] == annotations[image].labels[triplet[2]]
                overlap = min(overlap, obj if same else 0.0)
            if overlap >= 0.5 and overlap > best_overlap:
                best, best_overlap = triplet, overlap
        hits.append(best is not None and best not in taken)
        if best is not None:
            taken.add(best)
    total = sum(triplet[3] == category for triplet in triplets)
    ap = 0.0
    for tenth in range(11):
        precisions = [
            sum(hits[: k + 1]) / (k + 1) for k in range(len(hits)) if 10 * sum(hits[: k + 1]) >= tenth * total
        ]
        ap += max(precisions, default=0.0) / 11
    return ap


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_metrics_agree_with_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    annotations = random_annotations(rng, images=4, verbs=2, objects=3)
    predictions = noisy_predictions(rng, annotations, categories=2, objects=3)
    triplets = sorted(
        {(i, *row[:2], row[2]) for i, annotation in enumerate(annotations) for row in annotation.interactions.tolist()}
    )
    result = evaluate_vcoco(predictions, annotations, TINY)
    for verb, class_result in enumerate(result.classes):
        if class_result.num_gt:
            assert class_result.ap == pytest.approx(slow_ap(predictions, annotations, verb, triplets, labels=True))
    hoi_of = {hoi: i for i, hoi in enumerate(TINY.hois)}
    with_hoi = []
    for image, human, obj, verb in triplets:
        key = (verb, int(annotations[image].labels[obj])) if obj >= 0 else None
        if key in hoi_of:
            with_hoi.append((image, human, obj, hoi_of[key]))
    for hoi, class_result in enumerate(evaluate_hico(predictions, annotations, TINY).classes):
        if class_result.num_gt:
            assert class_result.ap == pytest.approx(slow_ap(predictions, annotations, hoi, with_hoi, labels=False))


def test_plain_loops_find_hits_at_all() -> None:
    rng = np.random.default_rng(0)
    annotations = random_annotations(rng, images=40, verbs=2, objects=3)
    summary = evaluate_vcoco(noisy_predictions(rng, annotations, 2, 3), annotations, TINY).summary
    assert 0.1 < summary["mAP_all"] < 0.9


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_metrics_do_not_depend_on_order_of_rows_and_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    annotations = random_annotations(rng, images=5, verbs=2, objects=3)
    predictions = noisy_predictions(rng, annotations, categories=3, objects=3)
    before = evaluate_hico(predictions, annotations, TINY).summary["mAP"]
    order = rng.permutation(len(annotations))
    shuffled = [predictions[i].rows(rng.permutation(len(predictions[i]))) for i in order]
    after = evaluate_hico(shuffled, [annotations[i] for i in order], TINY).summary["mAP"]
    assert after == pytest.approx(before, nan_ok=True)


def test_nan_boxes_hit_nothing() -> None:
    nan = (math.nan,) * 4
    found = predicted([(nan, B, DOG, PET_DOG, 0.9), (A, nan, DOG, PET_DOG, 0.8), (A, B, DOG, PET_DOG, 0.7)])
    assert evaluate_hico([found], [scene()], TINY).classes[PET_DOG].hits.tolist() == [False, False, True]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(boxes=arrays(np.float64, (2, 3, 4), elements=st.one_of(st.floats(0, 300), extreme_64)))
def test_iou_of_any_boxes_is_from_zero_to_one(boxes: NDArray[np.float64]) -> None:
    frames = np.arange(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, plain = pixel_iou_matrix(*boxes), box_iou(*boxes)
        volume = volume_iou(frames, boxes[0], frames, boxes[1])
    finite = np.isfinite(boxes).all(axis=-1)
    both = finite[0][:, None] & finite[1]
    assert ((pixels[both] >= 0) & (pixels[both] <= 1)).all()
    assert not (pixels[~both] > 0).any()
    assert ((plain >= 0) & (plain <= 1)).all()
    assert 0 <= volume <= 1


def test_pixel_iou_counts_the_last_pixel() -> None:
    assert pixel_iou(np.array([0, 0, 9, 9]), np.array([5, 0, 14, 9])) == pytest.approx(50 / 150)
    assert pixel_iou(np.array([0, 0, 9, 9]), np.array([10, 0, 19, 9])) == 0


def test_envelope_area_by_hand() -> None:
    hits = np.array([True, False, True])
    assert envelope_area(hits, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)


def test_evaluation_of_sixty_images_takes_less_than_a_second() -> None:
    rng = np.random.default_rng(1)
    vocabulary: Vocabulary = load_vocabulary("hico")
    annotations = random_annotations(rng, images=60, verbs=117, objects=80)
    predictions = noisy_predictions(rng, annotations, categories=600, objects=80)
    begun = time.process_time()  # what else the machine does is not counted
    evaluate_hico(predictions, annotations, vocabulary, splits=list(bundled_splits(vocabulary).values()))
    assert time.process_time() - begun < 1
