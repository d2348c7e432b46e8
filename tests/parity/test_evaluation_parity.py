"""Evaluators against numbers recorded from the official code, quirks included, to 1e-9."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hoiclip.core.postprocess import PostprocessConfig
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation import (
    Evaluation,
    PredictedTriplets,
    bundled_splits,
    evaluate_hico,
    evaluate_vcoco,
)
from hoiclip.evaluation.vcoco import ActionTable, PersonDetections, PersonGroundTruth, evaluate_people
from hoiclip_kernels.pair_decode import pair_decode
from hoiclip_kernels.pair_nms import pair_nms

Arrays = dict[str, NDArray[Any]]
TOLERANCE = 1e-9
NO_NMS = "_nonms"
NO_SPLIT_OF_ITS_OWN = ("per_class_default", "classes_without_detections", "known_object_derived_not_official")


def recorded(parity_dir: Path, name: str) -> tuple[Arrays, dict[str, Any]]:
    with np.load(parity_dir / f"eval_{name}_inputs.npz") as file:
        arrays = dict(file)
    return arrays, json.loads((parity_dir / f"eval_{name}_expected.json").read_text(encoding="utf-8"))


def annotations_of(a: Arrays) -> list[ImageAnnotation]:
    boxes, hois = a["gt_box_offsets"], a["gt_hoi_offsets"]
    return [
        ImageAnnotation(
            file_name=f"{i}.jpg",
            boxes_xyxy=a["gt_boxes"][boxes[i] : boxes[i + 1]],
            labels=a["gt_labels"][boxes[i] : boxes[i + 1]].astype(np.int64),
            interactions=a["gt_hois"][hois[i] : hois[i + 1]].astype(np.int64),
        )
        for i in range(len(boxes) - 1)
    ]


def predictions_of(a: Arrays, vocabulary: Vocabulary, *, nms: bool) -> list[PredictedTriplets]:
    """The scoring rule (docs/model.md, Scores) on recorded probabilities, by the kernels of the runtime."""
    config, queries = PostprocessConfig(), a["hoi_scores"].shape[1]
    object_of_hoi = np.array([obj for _, obj in vocabulary.hois])
    verb_scores = "correct_mat" in a
    classes = np.array([verb for verb, _ in vocabulary.hois]) if verb_scores else np.arange(len(vocabulary.hois))
    found = []
    for i, boxes in enumerate(a["pred_boxes"]):
        label_q = a["pred_labels"][i, queries:].astype(np.int64)
        weight = None
        if verb_scores:
            prior = np.concatenate([a["correct_mat"], np.ones((len(a["correct_mat"]), 1))], axis=1)
            weight = prior[:, label_q].T
        rows = pair_decode(
            a["hoi_scores"][i], a["obj_scores"][i], object_of_hoi, classes, int(classes.max()) + 1, weight, config.top_k
        )
        human, objects = boxes[rows.query_n], boxes[rows.query_n + queries]
        if nms:
            limits = config.nms_threshold, config.sub_power, config.obj_power
            kept = pair_nms(human, objects, rows.class_n, rows.score_n, *limits)
            rows, human, objects = rows.rows(kept), human[kept], objects[kept]
        label = label_q[rows.query_n]
        found.append(
            PredictedTriplets(
                human_boxes_xyxy=human,
                object_boxes_xyxy=objects,
                label=np.where(label < len(vocabulary.objects), label, NO_OBJECT),
                category=rows.class_n,
                score=rows.score_n,
                query=rows.query_n,
            )
        )
    return found


def assert_summary(found: Evaluation, split: str, expected: dict[str, float]) -> None:
    assert found.summaries[split].keys() == expected.keys()
    for name, value in expected.items():
        assert found.summaries[split][name] == pytest.approx(value, abs=TOLERANCE), (split, name)


def test_hico_default_and_every_zero_shot_split(parity_dir: Path) -> None:
    arrays, expected = recorded(parity_dir, "hico")
    vocabulary = load_vocabulary("hico")
    splits = bundled_splits(vocabulary)
    names = [name for name in expected if name not in NO_SPLIT_OF_ITS_OWN]
    assert {"default", f"default{NO_NMS}", "rare_first"} <= set(names)
    for nms in (True, False):
        predictions = predictions_of(arrays, vocabulary, nms=nms)
        found = evaluate_hico(
            predictions, annotations_of(arrays), vocabulary, splits=list(splits.values()), official=True
        )
        for name in names:
            if name.endswith(NO_NMS) != nms:
                assert_summary(found, name.removesuffix(NO_NMS), expected[name])


def test_hico_per_class(parity_dir: Path) -> None:
    arrays, expected = recorded(parity_dir, "hico")
    vocabulary = load_vocabulary("hico")
    found = evaluate_hico(
        predictions_of(arrays, vocabulary, nms=True), annotations_of(arrays), vocabulary, official=True
    )
    classes = expected["per_class_default"]
    assert sorted(map(int, classes)) == [i for i, result in enumerate(found.classes) if result.num_gt]
    for index, numbers in classes.items():
        result = found.classes[int(index)]
        assert result.ap == pytest.approx(numbers["ap"], abs=TOLERANCE), result.name
        assert (result.num_gt, result.num_predictions, result.num_hits) == tuple(
            numbers[name] for name in ("num_gt", "num_det", "num_tp")
        ), result.name
    empty = [i for i, result in enumerate(found.classes) if result.num_gt and not result.num_predictions]
    assert empty == sorted(expected["classes_without_detections"])


def test_hico_known_object(parity_dir: Path) -> None:
    arrays, expected = recorded(parity_dir, "hico")
    vocabulary = load_vocabulary("hico")
    found = evaluate_hico(
        predictions_of(arrays, vocabulary, nms=True),
        annotations_of(arrays),
        vocabulary,
        splits=[bundled_splits(vocabulary)["default"]],
        known_object=True,
        official=True,
    )
    assert_summary(found, "default", expected["known_object_derived_not_official"])


def test_vcoco(parity_dir: Path) -> None:
    arrays, expected = recorded(parity_dir, "vcoco")
    vocabulary = load_vocabulary("vcoco")
    predictions = predictions_of(arrays, vocabulary, nms=False)
    found = evaluate_vcoco(predictions, annotations_of(arrays), vocabulary, official=True)
    assert_summary(found, "all", expected)


def people_of(a: Arrays) -> tuple[list[PersonDetections], list[PersonGroundTruth]]:
    detections = [
        PersonDetections(
            person_boxes_xyxy=boxes, agent_scores=scores.astype(np.float64), roles=roles.astype(np.float64)
        )
        for boxes, scores, roles in zip(a["det_person_boxes"], a["det_agent_scores"], a["det_roles"], strict=True)
    ]
    ground_truth = []
    for start, stop in zip(a["gt_offsets"], a["gt_offsets"][1:], strict=False):
        people = np.flatnonzero(a["gt_classes"][start:stop] == 1)
        ground_truth.append(
            PersonGroundTruth(
                boxes_xyxy=a["gt_boxes"][start:stop],
                people=people,
                actions=a["gt_actions"][start:stop][people],
                role_rows=a["gt_role_id"][start:stop][people],
            )
        )
    return detections, ground_truth


def test_vcoco_official_scenarios(parity_dir: Path) -> None:
    arrays, expected = recorded(parity_dir, "vcoco_official")
    table = ActionTable.of(load_vocabulary("vcoco"))
    assert list(table.actions) == expected["actions"]
    assert [["agent", *own] for own in table.roles] == expected["roles"]
    found = evaluate_people(*people_of(arrays), table, official=True)
    by_name = {result.name: result.ap for result in found.classes}
    for action, name in enumerate(table.actions):
        assert by_name[f"{name} agent"] == pytest.approx(expected["agent_ap"][action], abs=TOLERANCE)
    for scenario in (1, 2):
        for action, role, name in table.roles_in_order():
            value = expected[f"role_ap_scenario_{scenario}"][action][role]
            value = math.nan if value is None else value
            assert by_name[f"{name} {scenario}"] == pytest.approx(value, abs=TOLERANCE, nan_ok=True), (name, scenario)


def test_vcoco_official_means(parity_dir: Path) -> None:
    arrays, expected = recorded(parity_dir, "vcoco_official")
    found = evaluate_people(*people_of(arrays), ActionTable.of(load_vocabulary("vcoco")), official=True).summary
    wanted = {
        "agent AP": expected["agent_ap_mean"],
        **{f"role AP scenario {i}": expected[f"mean_role_ap_scenario_{i}"] for i in (1, 2)},
        **{
            f"role AP scenario {i} without point": expected[f"mean_24_roles_without_point_scenario_{i}"] for i in (1, 2)
        },
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE), name
