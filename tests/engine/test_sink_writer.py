"""The writing thread: order, errors that are raised once, and sinks that are always finished."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from hoiclip.core.errors import SinkError
from hoiclip_engine.streaming.sink_writer import QUEUE_RESULTS, SinkWriter
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink, StageTimes
from tests.engine.frame_results import frame_result, header

IMAGE = np.zeros((48, 64, 3), np.uint8)
LOST = SourceEvent(event="source_lost", pts_s=0.0, reason="gone")
SUMMARY = RunSummary(decoded=1, detected=1, dropped=0, decode_errors=0, pts_repaired=0, pairs=0, events=0)


class Recorder(Sink):
    """Records its calls; fails where requested."""

    def __init__(self, fail_in: str = "", slow_s: float = 0.0) -> None:
        self.got: list[object] = []
        self._fail_in, self._slow_s = fail_in, slow_s

    def start(self, header: RunHeader) -> None:
        self._take("start", "start")

    def write(self, result: FrameResult) -> None:
        time.sleep(self._slow_s)
        self._take("write", result.index)

    def source_event(self, event: SourceEvent) -> None:
        self._take("event", event)

    def finish(self, summary: RunSummary) -> None:
        self._take("finish", "finish")

    def _take(self, what: str, value: object) -> None:
        self.got.append(value)
        if what == self._fail_in:
            raise SinkError(f"cannot {what}")


def result(index: int) -> FrameResult:
    return frame_result(Frame(IMAGE, index / 25, index))


def write_many(writer: SinkWriter) -> None:
    for index in range(1000):
        writer.put(result(index=index))


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hoiclip-write"]


def test_sinks_get_results_in_order_in_one_thread() -> None:
    sinks = Recorder(), Recorder(slow_s=0.002)
    times = StageTimes()
    writer = SinkWriter(sinks, times)
    writer.start(header())
    for index in range(20):
        if index == 7:
            writer.put(LOST)
        writer.put(result(index=index))
    writer.finish(SUMMARY)
    expected = ["start", *range(7), LOST, *range(7, 20), "finish"]
    assert [sink.got for sink in sinks] == [expected, expected]
    assert writers() == []
    assert set(times.percentiles()) == {"write"}


def test_slow_sink_blocks_the_caller() -> None:
    writer = SinkWriter([Recorder(slow_s=0.02)], StageTimes())
    writer.start(header())
    begun = time.monotonic()
    for index in range(QUEUE_RESULTS + 11):
        writer.put(result(index=index))
    assert time.monotonic() - begun >= 10 * 0.02
    writer.finish(SUMMARY)


def test_failure_is_raised_once_and_every_sink_is_finished() -> None:
    sinks = Recorder(fail_in="write"), Recorder()
    writer = SinkWriter(sinks, StageTimes())
    writer.start(header())
    with pytest.raises(SinkError, match="cannot write"):
        write_many(writer)
    writer.finish(SUMMARY)
    assert [sink.got[-1] for sink in sinks] == ["finish", "finish"]
    assert writers() == []


def test_failure_after_the_last_result_is_raised_by_finish() -> None:
    sinks = Recorder(fail_in="write"), Recorder()
    writer = SinkWriter(sinks, StageTimes())
    writer.start(header())
    writer.put(result(index=0))
    with pytest.raises(SinkError, match="cannot write"):
        writer.finish(SUMMARY)
    assert [sink.got[-1] for sink in sinks] == ["finish", "finish"]


def test_sinks_started_before_a_failing_start_are_finished() -> None:
    sinks = Recorder(), Recorder(fail_in="start"), Recorder()
    writer = SinkWriter(sinks, StageTimes())
    with pytest.raises(SinkError, match="cannot start"):
        writer.start(header())
    writer.finish(SUMMARY)
    assert [sink.got for sink in sinks] == [["start", "finish"], ["start"], []]


def test_sink_that_cannot_finish_leaves_others_finished() -> None:
    sinks = Recorder(fail_in="finish"), Recorder(fail_in="finish"), Recorder()
    writer = SinkWriter(sinks, StageTimes())
    writer.start(header())
    with pytest.raises(SinkError, match="cannot finish"):
        writer.finish(SUMMARY)
    assert all(sink.got == ["start", "finish"] for sink in sinks)
