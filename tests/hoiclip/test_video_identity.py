"""HOTA, IDF1 and CLEAR: as TrackEval counts, and as a pencil does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.errors import DataError
from hoiclip.evaluation.overlap import iou_matrix
from hoiclip.evaluation.video import Moment, measure_identities, mot_moments
from tests.hoiclip.making_tracks import SCENARIOS, Frame, mot_lines, scenario

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tracking.json").read_text())
TOLERANCE = 1e-6  # what was promised; sums in another order differ by 1e-15


def moments(truth: list[Frame], found: list[Frame]) -> list[Moment]:
    return [
        Moment(true_ids=true_ids, found_ids=found_ids, overlap_gn=iou_matrix(true, seen))
        for (true_ids, true), (found_ids, seen) in zip(truth, found, strict=True)
    ]


def ids_only(*there: tuple[list[int], list[int]]) -> list[Moment]:
    """Who is there and who is found; equal places in the two lists overlap entirely."""
    return [
        Moment(true_ids=np.array(g, np.int64), found_ids=np.array(n, np.int64), overlap_gn=np.eye(len(g), len(n)))
        for g, n in there
    ]


def numbers(*sequences: list[Moment]) -> dict[str, float]:
    return measure_identities(sequences).summary


@pytest.mark.parametrize("name", SCENARIOS)
def test_numbers_are_those_of_trackeval(name: str) -> None:
    ours = numbers(moments(*scenario(name)))
    assert {key: ours[key] for key in GOLDEN[name]} == pytest.approx(GOLDEN[name], abs=TOLERANCE)


@pytest.mark.parametrize("name", SCENARIOS)
def test_text_files_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    for part, frames in zip(("gt.txt", "found.txt"), scenario(name), strict=True):
        (tmp_path / part).write_text(mot_lines(frames))
    ours = numbers(mot_moments(tmp_path / "gt.txt", tmp_path / "found.txt"))
    assert {key: ours[key] for key in GOLDEN[name]} == pytest.approx(GOLDEN[name], abs=TOLERANCE)


def test_identities_by_hand() -> None:
    """One person over four frames: found as 7, 7, missed, found as 8, and something invented once."""
    got = numbers(ids_only(([1], [7]), ([1], [7]), ([1], []), ([1], [8]), ([], [9])))
    # 4 true boxes, 4 found: 3 hit, 1 missed, 1 false; 7 then 8 is one switch.
    assert (got["IDSW"], got["FP"], got["FN"], got["Frag"]) == (1, 1, 1, 0)  # a frame without results breaks nothing
    assert got["MOTA"] == pytest.approx(1 - (1 + 1 + 1) / 4)
    # 7 is given to the person for the whole film: 2 of 4 moments.
    assert got["IDF1"] == pytest.approx(2 * 2 / (4 + 4))
    # DetA 3 / (3 + 1 + 1); AssA: twice 2 / (4 + 2 - 2), once 1 / (4 + 1 - 1).
    ass_a = (2 * 2 / 4 + 1 / 4) / 3
    assert (got["DetA"], got["AssA"]) == (pytest.approx(3 / 5), pytest.approx(ass_a))
    assert got["HOTA"] == pytest.approx((3 / 5 * ass_a) ** 0.5)
    assert (got["MT"], got["PT"], got["ML"]) == (0, 1, 0)


def test_a_number_is_kept_where_two_would_fit() -> None:
    """Two numbers overlap a person; the one it had goes on, though the other overlaps more."""
    both = Moment(true_ids=np.array([1]), found_ids=np.array([7, 8]), overlap_gn=np.array([[0.6, 0.9]]))
    assert numbers([*ids_only(([1], [7])), both])["IDSW"] == 0


@pytest.mark.parametrize("name", ["usual", "restless"])
def test_truth_against_itself_is_perfect(name: str) -> None:
    truth, _ = scenario(name)
    got = numbers(moments(truth, truth))
    assert all(got[key] == pytest.approx(1) for key in ("HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA"))
    assert (got["IDSW"], got["FP"], got["FN"]) == (0, 0, 0)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_what_numbers_are_called_does_not_matter(seed: int) -> None:
    truth, found = scenario("usual")
    rng = np.random.default_rng(seed)
    names = rng.permutation(10_000)
    renamed = [(names[ids], boxes) for ids, boxes in found]
    assert numbers(moments(truth, renamed)) == pytest.approx(numbers(moments(truth, found)), abs=1e-12)


def test_sequences_have_nothing_to_do_with_each_other() -> None:
    """The same number in another film is another identity, so counts add up."""
    one, other = ids_only(([1], [7]), ([1], [7])), ids_only(([1], [8]))
    together = numbers(one, other)
    assert (together["IDSW"], together["IDF1"], together["AssA"]) == (0, 1, 1)
    assert numbers(one + other)["IDSW"] == 1


def test_nothing_at_all_is_no_error() -> None:
    for sequences in ([], [[]], [ids_only(([], []))]):
        got = numbers(*sequences)
        assert (got["HOTA"], got["IDF1"], got["MOTA"], got["IDSW"]) == (0, 0, 0, 0)


def test_an_identity_is_at_one_place() -> None:
    with pytest.raises(ValueError, match="twice"):
        Moment(true_ids=np.array([1, 1]), found_ids=np.zeros(0, np.int64), overlap_gn=np.zeros((2, 0)))
    with pytest.raises(ValueError, match="shape"):
        Moment(true_ids=np.array([1]), found_ids=np.zeros(0, np.int64), overlap_gn=np.zeros((2, 0)))


def test_truth_that_does_not_count_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,0,0,10,10,1,-1,-1,-1\n1,2,50,50,10,10,0,-1,-1,-1\n\n")
    (tmp_path / "found.txt").write_text("1 4 0 0 10 10\n")  # six columns, blanks: some trackers write this
    got = numbers(mot_moments(tmp_path / "gt.txt", tmp_path / "found.txt"))
    assert (got["MOTA"], got["FN"]) == (1, 0)


def test_persons_who_are_no_pedestrians_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    """A pedestrian, a statue and a car, as MOT16 and later write them; all three are found."""
    columns = "1,1,0,0,10,20,1,1,1.0", "1,2,50,0,10,20,0,7,1.0", "1,3,90,0,40,20,0,3,1.0"
    (tmp_path / "gt.txt").write_text("\n".join(columns))
    (tmp_path / "found.txt").write_text("1,1,0,0,10,20,1,x\n1,2,50,0,10,20,1\n1,3,90,0,40,20,1")
    got = numbers(mot_moments(tmp_path / "gt.txt", tmp_path / "found.txt"))
    assert (got["FN"], got["FP"]) == (0, 1)  # the car alone is a false alarm


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_a_wrong_text_file_is_one_error(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        mot_moments(path, path)
    assert "\n" not in str(caught.value)


@given(text=st.text(alphabet="0123456789.,-e \nxn", max_size=60))
@settings(max_examples=80, deadline=None)
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mot") / "any.txt"
    path.write_text(text)
    try:
        got = mot_moments(path, path)
    except DataError:
        return
    assert all(len(moment.true_ids) <= len(moment.found_ids) for moment in got)
