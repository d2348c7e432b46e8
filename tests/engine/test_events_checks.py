"""What the soak and the kills call a fault is found in results that have it, and in no others."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.events_checks import (
    LOSS_S,
    Usage,
    database_faults,
    growth,
    hit_faults,
    is_flat,
    lost_s,
    match_runs,
    message_faults,
    playback_fault,
    read_hits,
    read_pass,
)
from hoiclip_engine.events.record import Recorder
from tests.engine.frame_results import header, summary
from tests.engine.recorded import hit_at, result
from tests.engine.video_files import write_clip

NAME = "door_1_2026-11-30T15-04-05.123Z.jsonl"
Line = dict[str, Any]


def frame(pts_s: float) -> Line:
    return {"type": "frame", "pts_s": pts_s}


def hit(event: str, number: int, pts_s: float, start_s: float) -> Line:
    return {"type": "rule", "event": event, "hit": number, "rule": "rides", "pts_s": pts_s, "start_s": start_s}


LINES: list[Line] = [
    {"type": "header", "source": "door"},
    frame(1.0),
    hit("start", 0, 1.0, 1.0),
    frame(2.0),
    hit("end", 0, 1.5, 1.0),
    frame(9.0),
    hit("start", 1, 9.0, 9.0),
    frame(10.0),
]
SUMMARY: Line = {"type": "summary", "decoded": 6, "dropped": 2}
ROWS: dict[int, tuple[str, float, float | None]] = {0: ("rides", 1.0, 1.5), 1: ("rides", 9.0, None)}


def written(folder: Path, lines: list[Line], end: str = "") -> Path:
    path = folder / NAME
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end, encoding="utf-8")
    return path


def test_pass_that_was_recorded_has_no_fault(tmp_path: Path) -> None:
    found = read_pass(written(tmp_path, [*LINES, SUMMARY]))
    assert hit_faults(found, ROWS, found.sure_s) == []
    assert (found.messages, found.frames, found.counts_add_up, found.broken_lines) == (3, 4, True, 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({1: ROWS[1]}, "hit 0 at 1.00 s is not recorded"),
        ({**ROWS, 2: ("rides", 3.0, None)}, "hit 2 is recorded and was not reported"),
        ({**ROWS, 0: ("rides", 1.0, None)}, "the end of hit 0"),
        ({**ROWS, 1: ("rides", 9.0, 9.5)}, "hit 1 is recorded with an end"),
        ({**ROWS, 0: ("holds", 1.0, 1.5)}, "hit 0 is recorded as"),
    ],
)
def test_difference_between_report_and_record_is_a_fault(
    rows: dict[int, tuple[str, float, float | None]], words: str, tmp_path: Path
) -> None:
    found = read_pass(written(tmp_path, LINES))
    (fault,) = hit_faults(found, rows, found.sure_s)
    assert fault.startswith(words)


def test_kill_may_lose_the_hits_of_the_last_moments_and_no_others(tmp_path: Path) -> None:
    found = read_pass(written(tmp_path, LINES))
    assert found.sure_s == 10.0 - LOSS_S
    assert hit_faults(found, {0: ROWS[0]}, found.sure_s) == []
    assert lost_s(found, {0}) == 1.0
    whole = read_pass(written(tmp_path, [*LINES, SUMMARY]))
    assert len(hit_faults(whole, {0: ROWS[0]}, whole.sure_s)) == 1


def test_frames_that_are_not_counted_and_lines_that_are_cut_are_seen(tmp_path: Path) -> None:
    found = read_pass(written(tmp_path, [*LINES, {**SUMMARY, "dropped": 1}], end='{"type":"fra'))
    assert not found.counts_add_up
    assert found.broken_lines == 1


def test_run_of_a_pass_is_that_of_its_source_which_began_just_before(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    runs = [
        ("early", "door", "2026-11-30T15:04:00.000000Z"),
        ("right", "door", "2026-11-30T15:04:05.123900Z"),  # names have milliseconds, cut off
        ("late", "door", "2026-11-30T15:04:05.500000Z"),
        ("other", "gate", "2026-11-30T15:04:05.123000Z"),
    ]
    assert match_runs({path: read_pass(path)}, runs) == {path: "right"}


@pytest.mark.parametrize(
    ("received", "is_whole", "faults", "again"),
    [
        ([0, 1, 2, 3], True, 0, 0),
        ([0, 1, 1, 2, 3], True, 0, 1),  # at least once
        ([0, 1, 2], True, 1, 0),
        ([0, 1, 2], False, 0, 0),  # a kill loses the last ones
        ([0, 2, 3], False, 1, 0),  # and no others
        ([0, 2, 1, 3], True, 1, 0),
        ([0, 1, 2, 3, 4], True, 1, 0),
    ],
)
def test_missing_and_unknown_messages_are_faults(received: list[int], is_whole: bool, faults: int, again: int) -> None:
    found, repeated = message_faults(4, received, is_whole=is_whole)
    assert (len(found), repeated) == (faults, again)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "events.sqlite"
    with closing(Recorder(path)) as recorder:
        sink = recorder.sink()
        sink.start(header())
        sink.write(result(1.0, hits=(hit_at("start", 1), hit_at("start", 2))))
        sink.finish(summary())
    return path


def test_record_without_fault_has_none(database: Path) -> None:
    assert database_faults(database) == []
    ((_, hits),) = read_hits(database).items()
    assert sorted(hits) == [1, 2]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE rule_hits SET start_s = 1, human = 1, pair = 1", "twice"),
        ("INSERT INTO evidence SELECT run_id, 7, 1, '', 0, '', NULL, NULL, 0, 0, 0, '' FROM runs", "evidence without"),
    ],
)
def test_hit_that_is_there_twice_and_evidence_of_none_are_faults(database: Path, statement: str, words: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()
    (fault,) = database_faults(database)
    assert fault.startswith(words)


def test_clip_and_snapshot_that_are_cut_off_are_not_played(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [40 * i for i in range(20)])
    assert playback_fault(clip) is None
    clip.write_bytes(clip.read_bytes()[:-2000])
    assert playback_fault(clip)
    snapshot = tmp_path / "snapshot.jpg"
    cv2.imwrite(str(snapshot), np.zeros((48, 64, 3), np.uint8))
    assert playback_fault(snapshot) is None
    snapshot.write_bytes(snapshot.read_bytes()[:-20])
    assert playback_fault(snapshot)


@pytest.mark.parametrize(
    ("usage", "flat"),
    [
        (lambda at: Usage(at_s=at, rss_mb=400 + at % 7, threads=20 + int(at) % 3, descriptors=30), True),
        (lambda at: Usage(at_s=at, rss_mb=400 + at / 2, threads=20, descriptors=30), False),
        (lambda at: Usage(at_s=at, rss_mb=400, threads=20 + int(at) // 10, descriptors=30), False),
        (lambda at: Usage(at_s=at, rss_mb=400, threads=20, descriptors=30 + int(at) // 10), False),
    ],
    ids=["flat", "memory", "threads", "descriptors"],
)
def test_growth_of_a_resource_is_seen(usage: Callable[[float], Usage], flat: bool) -> None:
    assert is_flat(growth([usage(float(at)) for at in range(120)])) is flat
