"""Side by side with the trackers of PyPI `trackers`, measured by TrackEval; the numbers: benchmarks/tracker.py."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tracker import COUNTS, PEERS, SCORES, compare, time_both

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _peers():
    for name in ("trackers", "trackeval", "supervision"):
        pytest.importorskip(name, reason="needs an environment of its own with the extra `peers`")


@pytest.mark.parametrize("scores", SCORES)
def test_identities_are_better_in_the_mean_than_those_of_the_best_peer_whatever_scores_are_mapped_to(shared, scores):
    mean = compare(shared, scores)["mean"]
    for what in ("HOTA", "IDF1"):
        assert mean["hoiclip"][what] >= max(mean[who][what] for who in PEERS), mean


def test_a_map_of_the_scores_changes_little(shared):
    """Until a stream has shown what its scores mean, it still matters; these are short."""
    sigmoid, linear = (compare(shared, scores)["mean"]["hoiclip"] for scores in SCORES)
    assert abs(sigmoid["HOTA"] - linear["HOTA"]) < 3
    assert abs(sigmoid["IDF1"] - linear["IDF1"]) < 3


@pytest.mark.parametrize("count", COUNTS)
def test_an_update_takes_less_time(count):
    times = time_both(count, rounds=3)
    assert np.median(times["hoiclip"]) < np.median(times["ByteTrack"])
