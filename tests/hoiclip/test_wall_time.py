"""Wall times as text, and those of a stream's moments."""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.wall_time import read_time, utc_file_name, utc_text
from hoiclip_engine.types.frame import Frame
from hoiclip_engine.types.results import RunHeader, WallClock
from tests.engine.evidence_runs import run_header
from tests.engine.frame_results import frame_result

MOMENT = datetime(2026, 1, 31, 8, 0, 0, 123_999, timezone(timedelta(hours=1)))
RGB = np.zeros((4, 4, 3), np.uint8)


def test_text_is_utc_of_one_length() -> None:
    assert utc_text(MOMENT) == "2026-01-31T07:00:00Z"
    assert utc_text(MOMENT.replace(microsecond=0), "microseconds") == "2026-01-31T07:00:00.000000Z"
    assert utc_file_name(MOMENT) == "2026-01-31T07-00-00.123Z"
    assert abs(read_time(utc_text()) - datetime.now(timezone.utc)) < timedelta(seconds=2)


@settings(deadline=None, derandomize=True)
@given(st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)))
def test_text_is_read_again(moment: datetime) -> None:
    assert read_time(utc_text(moment, "microseconds")) == moment


def test_time_without_a_zone_is_local() -> None:
    assert read_time("2026-01-31T08:00") == datetime(2026, 1, 31, 8).astimezone()
    assert read_time("2026-01-31T08:00:00.5+01:00") == MOMENT.replace(microsecond=500_000)


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-01-31T08:00:00ZZ", "2026-01-31T08:00Z+01:00"])
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_time(text)


def clock_of(policy: str) -> tuple[WallClock, RunHeader]:
    header = run_header("clip.mp4", Frame(RGB, 0.0, 0))
    header = dataclasses.replace(header, policy=policy, started_at=MOMENT)  # type: ignore[arg-type]
    return WallClock(header), header


def test_clock_of_a_live_source_counts_from_the_arrival_of_frames() -> None:
    """A webcam's own time counts from the machine's start."""
    clock, _ = clock_of("latest")
    clock.see(frame_result(Frame(RGB, 70_000.0, 0, time.monotonic() - 1.0)))
    expected = datetime.now(timezone.utc) - timedelta(seconds=4.0)
    assert abs(clock.at(69_997.0) - expected) < timedelta(seconds=0.5)
    assert clock.first_s == 70_000.0


def test_clock_of_a_file_begins_with_its_first_frame_at_the_start_of_the_run() -> None:
    clock, header = clock_of("lossless")
    for index, pts_s in enumerate((10.0, 11.0)):
        clock.see(frame_result(Frame(RGB, pts_s, index)))
    assert clock.at(12.5) == header.started_at + timedelta(seconds=2.5)


def test_clock_gives_the_start_for_a_time_that_no_calendar_has() -> None:
    clock, header = clock_of("lossless")
    assert clock.at(1e300) == header.started_at
