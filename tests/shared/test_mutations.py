"""Damaged real files: frames or one line of refusal, and never a crash of the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mutations import FILES, MUTATIONS, mutate, run


def assert_all_handled(report: dict[str, object], count: int) -> None:
    assert report["wrong"] == []
    assert isinstance(report["outcomes"], dict)
    assert sum(report["outcomes"].values()) == count
    assert report["outcomes"]["frames"] > count / 3, "damage that leaves nothing to decode tests little"


def test_damaged_files_give_frames_or_a_refusal(shared: Path) -> None:
    assert_all_handled(run(shared / "data" / "videos", 64, seed=1), 64)


@pytest.mark.slow
def test_two_thousand_damaged_files_are_handled(shared: Path) -> None:
    assert_all_handled(run(shared / "data" / "videos", 2000, seed=0), 2000)


def test_mutations_are_deterministic(shared: Path) -> None:
    wholes = [np.fromfile(shared / "data" / "videos" / name, np.uint8) for name in FILES]
    twice = [[mutate(index, wholes, seed=3) for index in range(40)] for _ in range(2)]
    assert twice[0] == twice[1]
    assert {kind for kind, _ in twice[0]} == set(MUTATIONS)
    assert all(data != wholes[index % len(FILES)].tobytes() for index, (_, data) in enumerate(twice[0]))


def test_crashed_reader_is_reported(tmp_path: Path) -> None:
    report = run(tmp_path, 1, seed=0)  # no files to damage: the process ends with a traceback
    assert isinstance(report["wrong"], list)
    assert "ended with 1" in report["wrong"][0]["outcome"]
