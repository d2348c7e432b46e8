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
def test_identities_are_better_on_average_than_those_of_the_best_peer(shared, scores):
    mean = compare(shared, scores)["mean"]
    for metric in ("HOTA", "IDF1"):
        assert mean["hoiclip"][metric] >= max(mean[tracker][metric] for tracker in PEERS), mean


def test_map_of_the_scores_changes_little(shared):
    """It matters until levels are learned from the stream, and these are short."""
    sigmoid, linear = (compare(shared, scores)["mean"]["hoiclip"] for scores in SCORES)
    assert abs(sigmoid["HOTA"] - linear["HOTA"]) < 3
    assert abs(sigmoid["IDF1"] - linear["IDF1"]) < 3


@pytest.mark.parametrize("count", COUNTS)
def test_update_takes_less_time_than_byte_track(count):
    times = time_both(count, rounds=3)
    assert np.median(times["hoiclip"]) < np.median(times["ByteTrack"])
