"""Real files, damaged: frames or one line of refusal, and never the end of the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mutations import FILES, MUTATIONS, mutate, run


def assert_all_well(seen: dict[str, object], count: int) -> None:
    assert seen["wrong"] == []
    assert isinstance(seen["outcomes"], dict)
    assert sum(seen["outcomes"].values()) == count
    assert seen["outcomes"]["frames"] > count / 3, "damage that leaves nothing to decode tests little"


def test_damaged_files_end_in_frames_or_in_one_refusal(shared: Path) -> None:
    assert_all_well(run(shared / "data" / "videos", 64, seed=1), 64)


@pytest.mark.slow
def test_two_thousand_damaged_files(shared: Path) -> None:
    assert_all_well(run(shared / "data" / "videos", 2000, seed=0), 2000)


def test_damage_is_the_same_for_the_same_seed(shared: Path) -> None:
    wholes = [np.fromfile(shared / "data" / "videos" / name, np.uint8) for name in FILES]
    twice = [[mutate(index, wholes, seed=3) for index in range(40)] for _ in range(2)]
    assert twice[0] == twice[1]
    assert {kind for kind, _ in twice[0]} == set(MUTATIONS)
    assert all(data != wholes[index % len(FILES)].tobytes() for index, (_, data) in enumerate(twice[0]))


def test_a_reader_that_dies_is_told(tmp_path: Path) -> None:
    seen = run(tmp_path, 1, seed=0)  # no files to damage: the process ends with a traceback
    assert isinstance(seen["wrong"], list)
    assert "ended with 1" in seen["wrong"][0]["outcome"]
