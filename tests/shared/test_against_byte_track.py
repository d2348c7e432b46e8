"""Side by side with the ByteTrack of PyPI `trackers`, measured by TrackEval; the numbers: benchmarks/tracker.py."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tracker import COUNTS, compare, time_both

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _peers():
    for name in ("trackers", "trackeval", "supervision"):
        pytest.importorskip(name, reason="needs an environment of its own with the extra `peers`")


def test_identities_are_at_least_as_good_on_every_sequence(shared):
    table = compare(shared)
    mean = table.pop("mean")
    for what in ("HOTA", "IDF1"):
        assert mean["hoiclip"][what] >= mean["ByteTrack"][what]
        behind = {name: line["ByteTrack"][what] - line["hoiclip"][what] for name, line in table.items()}
        assert max(behind.values()) <= 1, behind


@pytest.mark.parametrize("count", COUNTS)
def test_an_update_takes_less_time(count):
    times = time_both(count, rounds=3)
    assert np.median(times["hoiclip"]) < np.median(times["ByteTrack"])
