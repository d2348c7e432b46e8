"""Fates of ground truth and kinds of false positives: one constructed case per kind, and rules of any input."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.vocabulary import NO_OBJECT, load_vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation import PredictedTriplets, evaluate_hico, evaluate_vcoco
from hoiclip.evaluation.error_analysis import FALSE_KINDS, FATES, AnalysisConfig, ErrorAnalysis, analyse_errors
from hoiclip.evaluation.error_analysis.attributes import percentages
from hoiclip.evaluation.error_analysis.oracles import MENDED, MISSED_LEFT_OUT
from tests.hoiclip.annotated_images import (
    CUP,
    DOG,
    HOLD,
    HOLD_CUP,
    HOLD_DOG,
    PERSON,
    PET,
    PET_DOG,
    Box,
    annotation,
    noisy_predictions,
    predicted,
    random_annotations,
    tiny_vocabulary,
)

TINY = tiny_vocabulary()
VCOCO = load_vocabulary("vcoco")
ANN, REX, MUG, BEN = (0, 0, 99, 99), (100, 0, 199, 99), (200, 0, 299, 99), (300, 0, 399, 99)
NOWHERE = (0, 300, 99, 399)
LOW_ANN, LOW_REX = (0, 0, 99, 29), (100, 0, 199, 29)
"""A third of the box: IoU 0.3."""
Row = tuple[Box, Box, int, int, float]


def holds_dog() -> ImageAnnotation:
    return annotation([ANN, REX, MUG], [PERSON, DOG, CUP], [(0, 1, HOLD)])


def pets_dog() -> ImageAnnotation:
    return annotation([ANN, REX, MUG], [PERSON, DOG, CUP], [(0, 1, PET)])


def two_pairs() -> ImageAnnotation:
    """Ann holds the dog, Ben the mug."""
    return annotation([ANN, REX, MUG, BEN], [PERSON, DOG, CUP, PERSON], [(0, 1, HOLD), (3, 2, HOLD)])


def two_pet() -> ImageAnnotation:
    """Two people side by side, so close that one box covers both."""
    return annotation([ANN, (3, 0, 102, 99), REX], [PERSON, PERSON, DOG], [(0, 2, PET), (1, 2, PET)])


HIT = (ANN, REX, DOG, HOLD_DOG, 0.5)
CASES: dict[str, tuple[ImageAnnotation, list[Row], list[str], list[str], str]] = {
    "found": (holds_dog(), [HIT], ["found"], [], ""),
    "loose human": (holds_dog(), [(LOW_ANN, REX, DOG, HOLD_DOG, 0.9)], ["loose human"], ["loose human"], "boxes right"),
    "loose object": (
        holds_dog(),
        [(ANN, LOW_REX, DOG, HOLD_DOG, 0.9)],
        ["loose object"],
        ["loose object"],
        "boxes right",
    ),
    "loose both": (
        holds_dog(),
        [(LOW_ANN, LOW_REX, DOG, HOLD_DOG, 0.9)],
        ["loose both"],
        ["loose both"],
        "boxes right",
    ),
    "wrong verb": (holds_dog(), [(ANN, REX, DOG, PET_DOG, 0.9)], ["wrong verb"], ["wrong verb"], "verbs right"),
    "wrong label": (holds_dog(), [(ANN, REX, CUP, HOLD_CUP, 0.9)], ["wrong label"], ["wrong label"], "labels right"),
    "wrong label and verb": (
        pets_dog(),
        [(ANN, REX, CUP, HOLD_CUP, 0.9)],
        ["wrong label and verb"],
        ["wrong label and verb"],
        "labels and verbs right",
    ),
    "wrong pairing": (
        two_pairs(),
        [(ANN, MUG, CUP, HOLD_CUP, 0.9), (BEN, REX, DOG, HOLD_DOG, 0.8)],
        ["wrong pairing", "wrong pairing"],
        ["wrong pairing", "wrong pairing"],
        "pairing right",
    ),
    "merged": (
        two_pet(),
        [((1, 0, 100, 99), REX, DOG, PET_DOG, 0.9)],
        ["found", "merged"],
        [],
        "merged pairs apart",
    ),
    "duplicate": (holds_dog(), [HIT, HIT], ["found"], ["duplicate"], "duplicates removed"),
    "background": (
        holds_dog(),
        [(NOWHERE, NOWHERE, DOG, HOLD_DOG, 0.9), HIT],
        ["found"],
        ["background"],
        "background removed",
    ),
    "missed human": (holds_dog(), [(NOWHERE, REX, DOG, HOLD_DOG, 0.9)], ["missed human"], ["background"], ""),
    "missed object": (holds_dog(), [(ANN, NOWHERE, DOG, HOLD_DOG, 0.9)], ["missed object"], ["background"], ""),
    "missed both": (holds_dog(), [], ["missed both"], [], ""),
}


def fates(analysis: ErrorAnalysis) -> list[str]:
    return [FATES[fate] for fate in analysis.fates.fate]


def false(analysis: ErrorAnalysis) -> list[str]:
    return [FALSE_KINDS[kind] for kind in analysis.false.kind]


def mended(analysis: ErrorAnalysis) -> dict[str, float]:
    return {oracle.mended: oracle.mean_ap for oracle in analysis.oracles}


@pytest.mark.parametrize("case", CASES)
def test_error_is_of_its_kind_and_mending_it_gives_100_percent(case: str) -> None:
    gt, rows, expected_fates, expected_false, oracle = CASES[case]
    got = analyse_errors([predicted(rows)], [gt], TINY)
    assert (fates(got), false(got)) == (expected_fates, expected_false)
    if oracle:
        # A duplicate below the last hit costs no AP, as AP asks for the best precision at each recall.
        assert got.mean_ap < 1 or case == "duplicate"
        assert mended(got)[oracle] == 1
    if case.startswith("missed"):
        assert mended(got)["everything but missed"] == 0
        assert math.isnan(mended(got)[MISSED_LEFT_OUT]), "there is nothing left to find"
    else:
        assert mended(got)["everything but missed"] == 1


def test_cases_cover_every_kind_and_fate() -> None:
    assert {kind for case in CASES.values() for kind in case[2]} == set(FATES)
    assert {kind for case in CASES.values() for kind in case[3]} == set(FALSE_KINDS)
    assert {case[4] for case in CASES.values()} - {""} == set(MENDED) - {"everything but missed"}


def test_oracle_mends_one_kind_and_leaves_the_others() -> None:
    """Four images, each with another error of the same class."""
    names = ("wrong verb", "wrong label", "loose human", "missed both")
    got = analyse_errors([predicted(CASES[name][1]) for name in names], [CASES[name][0] for name in names], TINY)
    assert fates(got) == list(names)
    assert got.mean_ap == 0
    for oracle in ("verbs right", "labels right", "boxes right"):
        assert mended(got)[oracle] == pytest.approx(3 / 11), oracle  # recall 0.25 reaches three of eleven levels
    assert mended(got)["everything but missed"] == pytest.approx(8 / 11)  # recall 0.75
    assert mended(got)["duplicates removed"] == 0


def test_missed_pairs_are_left_out_of_the_ground_truth() -> None:
    got = analyse_errors([predicted([HIT]), predicted([])], [holds_dog(), holds_dog()], TINY)
    assert got.mean_ap == pytest.approx(6 / 11)  # recall 0.5
    assert mended(got)[MISSED_LEFT_OUT] == 1
    assert mended(got)["everything but missed"] == got.mean_ap


def test_hit_of_another_pair_explains_only_that_the_pair_is_found() -> None:
    """Ann pets and holds; only petting is predicted. Ben overlaps Ann a little, is missed, and not loosely found."""
    beside = (70, 0, 169, 99)
    gt = annotation([ANN, REX, beside], [PERSON, DOG, PERSON], [(0, 1, HOLD), (0, 1, PET), (2, 1, PET)])
    got = analyse_errors([predicted([(ANN, REX, DOG, PET_DOG, 0.9)])], [gt], TINY)
    assert fates(got) == ["wrong verb", "found", "missed human"]
    assert false(got) == []
    assert mended(got)["verbs right"] == pytest.approx((1 + 6 / 11) / 2)


def test_pairing_counts_annotated_boxes_that_do_nothing() -> None:
    """The mug is annotated, but no person holds it."""
    got = analyse_errors([predicted([HIT, (ANN, MUG, CUP, HOLD_CUP, 0.9)])], [holds_dog()], TINY)
    assert false(got) == ["wrong pairing"]


VERB = {name: VCOCO.verbs.index(name) for name in ("hold_obj", "walk", "run", "look_obj")}
KNIFE = VCOCO.objects.index("knife")
CHAIR = VCOCO.objects.index("chair")


@pytest.mark.parametrize(
    ("interaction", "row", "fate", "kind"),
    [
        ((0, 1, "hold_obj"), (ANN, REX, KNIFE, "hold_obj"), "found", None),
        ((0, 1, "hold_obj"), (ANN, REX, CHAIR, "hold_obj"), "wrong label", "wrong label"),
        ((0, 1, "hold_obj"), (ANN, REX, KNIFE, "look_obj"), "wrong verb", "wrong verb"),
        ((0, 1, "hold_obj"), (ANN, NOWHERE, NO_OBJECT, "hold_obj"), "missed object", "wrong label"),
        ((0, 1, "hold_obj"), (ANN, NOWHERE, NO_OBJECT, "walk"), "missed object", "wrong verb"),
        ((0, -1, "walk"), (ANN, NOWHERE, NO_OBJECT, "walk"), "found", None),
        ((0, -1, "walk"), (ANN, REX, KNIFE, "walk"), "found", None),
        ((0, -1, "walk"), (ANN, NOWHERE, NO_OBJECT, "run"), "wrong verb", "wrong verb"),
        ((0, -1, "walk"), (ANN, NOWHERE, CHAIR, "hold_obj"), "wrong verb", "background"),
        ((0, -1, "walk"), (LOW_ANN, NOWHERE, NO_OBJECT, "walk"), "loose human", "loose human"),
        ((0, -1, "walk"), (NOWHERE, NOWHERE, NO_OBJECT, "walk"), "missed human", "background"),
    ],
)
def test_people_acting_without_an_object_are_classified(
    interaction: tuple[int, int, str], row: tuple[Box, Box, int, str], fate: str, kind: str | None
) -> None:
    human, obj, verb = interaction
    gt = annotation([ANN, REX], [PERSON, KNIFE], [(human, obj, VERB[verb])])
    got = analyse_errors([predicted([(*row[:3], VERB[row[3]], 0.9)])], [gt], VCOCO)
    assert got.evaluation.metric == "vcoco"
    assert fates(got) == [fate]
    assert false(got) == ([] if kind is None else [kind])
    assert mended(got)["everything but missed"] == (0 if fate.startswith("missed") else 1)
    assert got.mean_ap == evaluate_vcoco([predicted([(*row[:3], VERB[row[3]], 0.9)])], [gt], VCOCO).summary["mAP_all"]


def as_predicted(images: Sequence[ImageAnnotation], *, by_verb: bool) -> list[PredictedTriplets]:
    """The ground truth, said by a model."""
    hois = {hoi: index for index, hoi in enumerate(TINY.hois)}
    made = []
    for gt in images:
        rows: list[Row] = []
        for human, obj, verb in sorted(set(map(tuple, gt.interactions.tolist()))):
            label = int(gt.labels[obj]) if obj >= 0 else NO_OBJECT
            category = verb if by_verb else hois.get((verb, label), -1)
            if category >= 0:
                boxes = gt.boxes_xyxy[[human, obj if obj >= 0 else human]].tolist()
                rows.append((tuple(boxes[0]), tuple(boxes[1]), label, category, 0.9))
        made.append(predicted(rows))
    return made


@pytest.mark.parametrize("by_verb", [False, True], ids=["hico", "vcoco"])
def test_ground_truth_against_itself_has_no_errors(by_verb: bool) -> None:
    images = random_annotations(np.random.default_rng(1), images=12, verbs=2, objects=3)
    vocabulary = replace(VCOCO, verbs=VCOCO.verbs) if by_verb else TINY
    got = analyse_errors(as_predicted(images, by_verb=by_verb), images, vocabulary)
    assert len(got.fates)
    assert set(fates(got)) == {"found"}
    assert false(got) == []
    assert got.mean_ap == 1
    assert {oracle.gain for oracle in got.oracles} == {0}


@pytest.mark.parametrize("count", [0, 3])
def test_empty_inputs_have_no_errors(count: int) -> None:
    got = analyse_errors([predicted([])] * count, [annotation([], [], [])] * count, TINY)
    assert (len(got.fates), len(got.false)) == (0, 0)
    numbers = json.loads(json.dumps(got.to_json(), allow_nan=False))
    assert (numbers["images"], numbers["mAP"], numbers["ground_truth"]["total"]) == (count, None, 0)
    assert not any(table["bins"] for tables in numbers["tables"].values() for table in tables)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(["hico", "hico-ko", "vcoco"]))
def test_interactions_have_one_fate_and_predictions_are_hits_or_of_one_kind(seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    images = random_annotations(rng, images=3, verbs=2, objects=3)
    found = noisy_predictions(rng, images, categories=2 if metric == "vcoco" else 3, objects=3)
    if seed % 2:  # boxes that are far too large or small, or no numbers
        found = [
            replace(predictions, human_boxes_xyxy=predictions.human_boxes_xyxy * rng.choice([0.5, 1.0, np.nan]))
            for predictions in found
        ]
    vocabulary = VCOCO if metric == "vcoco" else TINY
    got = analyse_errors(found, images, vocabulary, metric=metric)  # type: ignore[arg-type]
    matches = got.evaluation.matches
    assert matches is not None
    assert len(got.fates) == sum(result.num_gt for result in got.evaluation.classes)
    assert len({*zip(got.fates.image.tolist(), got.fates.row.tolist(), strict=True)}) == len(got.fates)
    assert fates(got).count("found") == matches.hit.sum()
    assert len(got.false) + matches.hit.sum() == len(matches) == got.num_predictions
    for oracle in got.oracles:
        nothing_left = math.isnan(got.mean_ap) or (oracle.mended == MISSED_LEFT_OUT and math.isnan(oracle.gain))
        assert oracle.gain >= 0 or nothing_left, oracle
    numbers = json.loads(json.dumps(got.to_json(), allow_nan=False))
    tables = [("ground_truth", numbers["ground_truth"]["total"]), ("false_positives_top", got.false.is_top.sum())]
    for side, total in tables:
        for table in numbers["tables"][side]:
            assert sum(row["total"] for row in table["bins"]) == total, table["name"]
            for row in table["bins"]:
                assert row["total"] == sum(row["counts"].values())
                assert sum(round(10 * value) for value in row["percent"].values()) == 1000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=12))
def test_percentages_sum_to_100(counts: list[int]) -> None:
    tenths = [round(10 * value) for value in percentages(np.array(counts))]
    assert sum(tenths) == (1000 if sum(counts) else 0)
    for tenth, count in zip(tenths, counts, strict=True):
        assert abs(tenth - 1000 * count / max(1, sum(counts))) < 1


def bins(analysis: ErrorAnalysis, name: str) -> dict[str, int]:
    table = next(table for table in analysis.fate_tables if table.name.startswith(name))
    return dict(zip(table.bins, table.counts.sum(axis=1).tolist(), strict=True))


def test_tables_sort_by_size_neighbours_border_and_crowd() -> None:
    small = (50, 50, 59, 59)
    neighbour = (20, 0, 119, 99)  # IoU 2/3 with Ann; 0.8 would be Ann, annotated twice
    crowd = annotation(
        [ANN, small, neighbour, (4, 0, 103, 99), BEN], [PERSON, CUP, PERSON, PERSON, PERSON], [(0, 1, HOLD)]
    )
    alone = annotation([(10, 10, 89, 89), REX], [PERSON, DOG], [(0, 1, HOLD)])
    images = [replace(crowd, width_px=400, height_px=400), replace(alone, width_px=200, height_px=200), alone]
    got = analyse_errors([predicted([])] * 3, images, TINY)
    assert bins(got, "size of the human") == {"64 to 128": 3}
    assert bins(got, "size of the object") == {"below 32": 1, "64 to 128": 2}
    assert bins(got, "overlap") == {"none": 2, "0.3 and more": 1}
    assert bins(got, "cut off") == {"human": 1, "object": 1, "size not known": 1}
    assert bins(got, "people") == {"1": 2, "3 to 4": 1}
    assert bins(got, "verb") == {"hold": 3}
    assert bins(got, "interaction") == {"hold dog": 2, "hold cup": 1}


def test_top_false_positives_of_a_class_are_as_many_as_its_ground_truth() -> None:
    rows = [HIT, *((NOWHERE, NOWHERE, DOG, HOLD_DOG, score) for score in (0.9, 0.8)), (ANN, REX, DOG, PET_DOG, 0.9)]
    got = analyse_errors([predicted(rows)], [holds_dog()], TINY)
    assert sorted(got.false.score[got.false.is_top].tolist()) == [0.9]
    assert got.to_json()["false_positives"]["top"]["counts"]["background"] == 1
    assert got.errors_of_image.tolist() == [1]


def test_known_object_analysis_counts_only_images_with_the_object() -> None:
    found = [predicted([(NOWHERE, NOWHERE, CUP, HOLD_CUP, 0.9), HIT])]
    assert false(analyse_errors(found, [holds_dog()], TINY)) == ["background"]
    assert false(analyse_errors(found, [holds_dog()], TINY, metric="hico-ko")) == []


def test_interactions_annotated_twice_or_unknown_have_no_fate() -> None:
    gt = annotation([ANN, REX, MUG], [PERSON, DOG, CUP], [(0, 1, HOLD), (0, 1, HOLD), (0, 2, PET)])
    got = analyse_errors([predicted([(ANN, MUG, CUP, HOLD_CUP, 0.9), HIT])], [gt], TINY)
    assert fates(got) == ["found"]
    assert false(got) == ["wrong verb"], "petting a cup is no HOI of the vocabulary, but it is a pair"
    assert got.mean_ap == evaluate_hico([predicted([HIT])], [gt], TINY).summary["mAP"]


def test_invalid_analysis_is_refused() -> None:
    with pytest.raises(ValueError, match="expected predictions for 1"):
        analyse_errors([], [holds_dog()], TINY)
    with pytest.raises(ValueError, match="use vcoco"):
        analyse_errors([], [], VCOCO, metric="vcoco-official")
    with pytest.raises(ValueError, match="loose_overlap"):
        AnalysisConfig(loose_overlap=0.5)
