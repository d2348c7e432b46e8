"""The decoding thread and the stream made with it: nothing lost, nothing twice, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from hoiclip_engine.clock import StageTimes
from hoiclip_engine.frame import Frame
from hoiclip_engine.pairs import Event, Pairs, TrackedPairs
from hoiclip_engine.pipeline import QUEUE_FRAMES, FrameReader, Stream, StreamConfig
from hoiclip_engine.track.pair_tracker import PairTracker
from hoiclip_engine.video.frame_source import SourceCounters, SourceInfo
from hoiclip_engine.video.source import VideoSource
from tests.engine.making_results import header, tracked
from tests.engine.scenes import Triplet, pairs_of


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hoiclip-decode"]


class FakeSource:
    """Frames made on demand; counts how many were asked for and whether it was closed."""

    def __init__(
        self,
        count: int,
        *,
        size_px: Callable[[int], tuple[int, int]] = lambda index: (64, 48),
        fail_at: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.made = self.closed = 0
        self._count, self._size_px, self._fail_at = count, size_px, fail_at
        self._error = error or RuntimeError("decoder broke")
        self.info = SourceInfo(
            name="fake",
            width_px=64,
            height_px=48,
            time_base=Fraction(1, 1000),
            frames_declared=count,
            duration_s=None,
            average_rate=Fraction(25),
            codec="fake",
            pixel_format="rgb24",
            is_photo=False,
            rotation_deg=0,
        )

    @property
    def counters(self) -> SourceCounters:
        return SourceCounters(decoded=self.made, decode_errors=2, pts_missing=1, pts_repaired=3)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            if index == self._fail_at:
                raise self._error
            width_px, height_px = self._size_px(index)
            self.made += 1
            yield Frame(np.full((height_px, width_px, 3), index % 250, np.uint8), index / 25, index)

    def close(self) -> None:
        assert decoders() == []  # never under the hands of the thread that reads it
        self.closed += 1

    def as_source(self) -> VideoSource:
        return cast(VideoSource, self)


class FakeTracker:
    """Records what it is asked."""

    pair_count = 3

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def update(self, pairs: Pairs, pts_s: float) -> TrackedPairs:
        self.calls.append(("update", len(pairs), pts_s))
        return tracked()

    def predict(self, pts_s: float) -> TrackedPairs:
        self.calls.append(("predict", pts_s))
        return tracked()

    def take_events(self) -> tuple[Event, ...]:
        return ()

    def rescale(self, x: float, y: float) -> None:
        self.calls.append(("rescale", x, y))

    def finish(self) -> tuple[Event, ...]:
        self.calls.append(("finish",))
        return (Event(event="end", pair=1, human=1, object=2, label=0, verb=0, pts_s=1.0),)


def stream_of(
    source: FakeSource,
    *,
    detect_every: int = 1,
    detect: Callable[[Frame, StageTimes], Pairs] = lambda frame, times: pairs_of(Triplet((0, 0, 9, 9), None)),
) -> tuple[Stream, FakeTracker]:
    tracker = FakeTracker()
    config = StreamConfig(detect_every=detect_every)
    return Stream(header(), source.as_source(), detect, cast(PairTracker, tracker), config), tracker


@pytest.mark.parametrize("count", [1, QUEUE_FRAMES, 50])
def test_every_frame_comes_exactly_once_and_in_order(count: int) -> None:
    source = FakeSource(count)
    stream, _ = stream_of(source)
    assert [(result.index, result.frame.rgb[0, 0, 0]) for result in stream] == [(i, i) for i in range(count)]
    assert source.closed == 1
    assert decoders() == []
    summary = stream.summary
    assert (summary.decoded, summary.detected, summary.dropped, summary.interrupted) == (count, count, 0, False)
    assert (summary.decode_errors, summary.pts_repaired, summary.pairs, summary.events) == (2, 4, 3, 1)
    assert len(summary.closing_events) == 1


@pytest.mark.parametrize("fail_at", [0, 1, QUEUE_FRAMES, 20])
@pytest.mark.parametrize("error", [RuntimeError("decoder broke"), MemoryError()])
def test_an_error_of_the_decoder_reaches_the_caller_behind_the_frames_before_it(
    fail_at: int, error: BaseException
) -> None:
    source = FakeSource(30, fail_at=fail_at, error=error)
    stream, tracker = stream_of(source)
    seen: list[int] = []
    with pytest.raises(type(error)) as caught:
        seen.extend(result.index for result in stream)
    assert caught.value is error
    assert seen == list(range(fail_at))
    assert source.closed == 1
    assert tracker.calls[-1] == ("finish",)
    assert decoders() == []


def test_an_error_of_the_detector_ends_the_thread() -> None:
    def broken(frame: Frame, times: StageTimes) -> Pairs:
        if frame.index == 2:
            raise ValueError("no look")
        return pairs_of()

    source = FakeSource(1000)
    stream, _ = stream_of(source, detect=broken)
    with pytest.raises(ValueError, match="no look"):
        list(stream)
    assert source.closed == 1
    assert decoders() == []


def wait_until_made(source: FakeSource, count: int) -> None:
    deadline = time.monotonic() + 30
    while source.made < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_decoding_runs_only_a_few_frames_ahead() -> None:
    source = FakeSource(1000)
    results = iter(stream_of(source)[0])
    next(results)
    wait_until_made(source, QUEUE_FRAMES + 2)  # one is with the caller, one waits for room
    time.sleep(0.2)  # the decoder has nothing else to wait for
    assert source.made == QUEUE_FRAMES + 2
    results.close()  # type: ignore[attr-defined]
    assert source.closed == 1
    assert decoders() == []


def test_stop_ends_the_stream_after_the_frame_at_hand() -> None:
    source = FakeSource(1000)
    stream, tracker = stream_of(source)
    seen = []
    for result in stream:
        seen.append(result.index)
        if result.index == 4:
            stream.stop()
    assert seen == [0, 1, 2, 3, 4]
    assert stream.summary.interrupted
    assert stream.summary.decoded == 5
    assert tracker.calls[-1] == ("finish",)
    assert decoders() == []


def test_between_two_looks_pairs_are_predicted() -> None:
    stream, tracker = stream_of(FakeSource(7), detect_every=3)
    assert [result.detected for result in stream] == [True, False, False, True, False, False, True]
    assert [call[0] for call in tracker.calls[:-1]] == ["update", "predict", "predict"] * 2 + ["update"]
    assert [call[-1] for call in tracker.calls[:-1]] == [index / 25 for index in range(7)]
    assert (stream.summary.decoded, stream.summary.detected) == (7, 3)


def test_tracks_are_rescaled_when_the_size_changes_and_only_then() -> None:
    sizes = [(64, 48), (64, 48), (128, 24), (128, 24), (64, 48)]
    stream, tracker = stream_of(FakeSource(5, size_px=lambda index: sizes[index]))
    assert [(result.frame.width_px, result.frame.height_px) for result in stream] == sizes
    names = [call[0] for call in tracker.calls]
    assert names == ["update", "update", "rescale", "update", "update", "rescale", "update", "finish"]
    assert [call[1:] for call in tracker.calls if call[0] == "rescale"] == [(2.0, 0.5), (0.5, 2.0)]


def test_a_stream_that_is_never_iterated_can_be_closed() -> None:
    source = FakeSource(5)
    stream, _ = stream_of(source)
    stream.close()
    assert (source.made, source.closed) == (0, 1)
    assert stream.summary.decoded == 0
    assert decoders() == []


def test_a_reader_can_be_closed_while_it_waits_for_room() -> None:
    source = FakeSource(100)
    reader = FrameReader(source.as_source(), StageTimes())
    wait_until_made(source, QUEUE_FRAMES + 1)
    reader.close()
    assert list(reader) == []
    assert source.made == QUEUE_FRAMES + 1
    assert source.closed == 1


def test_looking_less_often_than_at_every_frame_needs_a_whole_number() -> None:
    with pytest.raises(ValueError, match="detect_every must be at least 1"):
        StreamConfig(detect_every=0)
