"""HOTA, IDF1 and CLEAR: as TrackEval counts, and as a pencil does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import DataError
from hoiclip.evaluation.video import IdentityFrame, measure_identities, read_mot_frames
from hoiclip_kernels.box_iou import box_iou
from tests.hoiclip.tracking_scenarios import SCENARIOS, Frame, mot_lines, scenario

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tracking.json").read_text())
TOLERANCE = 1e-6  # what was promised; sums in another order differ by 1e-15


def identity_frames(ground_truth: list[Frame], found: list[Frame]) -> list[IdentityFrame]:
    return [
        IdentityFrame(gt_ids=gt_ids, found_ids=found_ids, overlap_gn=box_iou(gt, seen))
        for (gt_ids, gt), (found_ids, seen) in zip(ground_truth, found, strict=True)
    ]


def ids_only(*present: tuple[list[int], list[int]]) -> list[IdentityFrame]:
    """Frames of ground-truth and found identities; equal places in the two lists overlap entirely."""
    return [
        IdentityFrame(gt_ids=np.array(g, np.int64), found_ids=np.array(n, np.int64), overlap_gn=np.eye(len(g), len(n)))
        for g, n in present
    ]


def numbers(*sequences: list[IdentityFrame]) -> dict[str, float]:
    return measure_identities(sequences).summary


@pytest.mark.parametrize("name", SCENARIOS)
def test_identity_metrics_equal_those_of_trackeval(name: str) -> None:
    ours = numbers(identity_frames(*scenario(name)))
    assert {key: ours[key] for key in GOLDEN[name]} == pytest.approx(GOLDEN[name], abs=TOLERANCE)


@pytest.mark.parametrize("name", SCENARIOS)
def test_mot_text_gives_the_same_identity_metrics(name: str, tmp_path: Path) -> None:
    for file_name, frames in zip(("gt.txt", "found.txt"), scenario(name), strict=True):
        (tmp_path / file_name).write_text(mot_lines(frames))
    ours = numbers(read_mot_frames(tmp_path / "gt.txt", tmp_path / "found.txt"))
    assert {key: ours[key] for key in GOLDEN[name]} == pytest.approx(GOLDEN[name], abs=TOLERANCE)


def test_identity_metrics_of_a_case_by_hand() -> None:
    """One person over four frames: found as 7, 7, missed, found as 8, and something invented once."""
    got = numbers(ids_only(([1], [7]), ([1], [7]), ([1], []), ([1], [8]), ([], [9])))
    # 4 ground-truth boxes, 4 found: 3 hit, 1 missed, 1 false; 7 then 8 is one switch.
    assert (got["IDSW"], got["FP"], got["FN"], got["Frag"]) == (1, 1, 1, 0)  # a frame without results breaks nothing
    assert got["MOTA"] == pytest.approx(1 - (1 + 1 + 1) / 4)
    # 7 is given to the person for the whole video: 2 of 4 frames.
    assert got["IDF1"] == pytest.approx(2 * 2 / (4 + 4))
    # DetA 3 / (3 + 1 + 1); AssA: twice 2 / (4 + 2 - 2), once 1 / (4 + 1 - 1).
    ass_a = (2 * 2 / 4 + 1 / 4) / 3
    assert (got["DetA"], got["AssA"]) == (pytest.approx(3 / 5), pytest.approx(ass_a))
    assert got["HOTA"] == pytest.approx((3 / 5 * ass_a) ** 0.5)
    assert (got["MT"], got["PT"], got["ML"]) == (0, 1, 0)


def test_identity_is_kept_where_two_would_fit() -> None:
    """Two identities overlap a person; the one it had continues, though the other overlaps more."""
    both = IdentityFrame(gt_ids=np.array([1]), found_ids=np.array([7, 8]), overlap_gn=np.array([[0.6, 0.9]]))
    assert numbers([*ids_only(([1], [7])), both])["IDSW"] == 0


@pytest.mark.parametrize("name", ["usual", "restless"])
def test_ground_truth_against_itself_is_perfect(name: str) -> None:
    ground_truth, _ = scenario(name)
    got = numbers(identity_frames(ground_truth, ground_truth))
    assert all(got[key] == pytest.approx(1) for key in ("HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA"))
    assert (got["IDSW"], got["FP"], got["FN"]) == (0, 0, 0)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_identity_metrics_do_not_depend_on_the_numbers(seed: int) -> None:
    ground_truth, found = scenario("usual")
    rng = np.random.default_rng(seed)
    names = rng.permutation(10_000)
    renamed = [(names[ids], boxes) for ids, boxes in found]
    assert numbers(identity_frames(ground_truth, renamed)) == pytest.approx(
        numbers(identity_frames(ground_truth, found)), abs=1e-12
    )


def test_identity_metrics_keep_sequences_apart() -> None:
    """The same number in another video is another identity, so counts add up."""
    first, other = ids_only(([1], [7]), ([1], [7])), ids_only(([1], [8]))
    together = numbers(first, other)
    assert (together["IDSW"], together["IDF1"], together["AssA"]) == (0, 1, 1)
    assert numbers(first + other)["IDSW"] == 1


def test_empty_sequences_raise_no_error() -> None:
    for sequences in ([], [[]], [ids_only(([], []))]):
        got = numbers(*sequences)
        assert (got["HOTA"], got["IDF1"], got["MOTA"], got["IDSW"]) == (0, 0, 0, 0)


def test_identity_twice_in_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        IdentityFrame(gt_ids=np.array([1, 1]), found_ids=np.zeros(0, np.int64), overlap_gn=np.zeros((2, 0)))
    with pytest.raises(ValueError, match="shape"):
        IdentityFrame(gt_ids=np.array([1]), found_ids=np.zeros(0, np.int64), overlap_gn=np.zeros((2, 0)))


def test_mot_ground_truth_that_does_not_count_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,0,0,10,10,1,-1,-1,-1\n1,2,50,50,10,10,0,-1,-1,-1\n\n")
    (tmp_path / "found.txt").write_text("1 4 0 0 10 10\n")  # six columns, blanks: some trackers write this
    got = numbers(read_mot_frames(tmp_path / "gt.txt", tmp_path / "found.txt"))
    assert (got["MOTA"], got["FN"]) == (1, 0)


def test_mot_persons_who_are_no_pedestrians_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    """A pedestrian, a statue and a car, as MOT16 and later write them; all three are found."""
    columns = "1,1,0,0,10,20,1,1,1.0", "1,2,50,0,10,20,0,7,1.0", "1,3,90,0,40,20,0,3,1.0"
    (tmp_path / "gt.txt").write_text("\n".join(columns))
    (tmp_path / "found.txt").write_text("1,1,0,0,10,20,1,x\n1,2,50,0,10,20,1\n1,3,90,0,40,20,1")
    got = numbers(read_mot_frames(tmp_path / "gt.txt", tmp_path / "found.txt"))
    assert (got["FN"], got["FP"]) == (0, 1)  # the car alone is a false alarm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,10", "5 columns"),
        ("1,1,0,0,10,x,1", "'x' is no number"),
        ("1,1,0,0,10,10,1,1.5,1.0", "'1.5' is no whole number"),
        ("1,1,nan,0,10,10,1", "'nan' is no number"),
        ("1,1,0,0,1e300,10,1", "no number below"),
        ("1.5,1,0,0,10,10,1", "no whole number"),
        ("1,1,0,0,10,10,1\n1,1,5,5,10,10,1", "line 2: identity 1 is twice in frame 1"),
    ],
)
def test_wrong_mot_text_is_one_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_mot_frames(path, path)
    assert "\n" not in str(caught.value)


@given(text=st.text(alphabet="0123456789.,-e \nxn", max_size=60))
@settings(max_examples=80, deadline=None)
def test_mot_text_is_read_or_refused_whatever_it_holds(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mot") / "any.txt"
    path.write_text(text)
    try:
        got = read_mot_frames(path, path)
    except DataError:
        return
    assert all(len(identity_frame.gt_ids) <= len(identity_frame.found_ids) for identity_frame in got)
