"""The stream: nothing lost, nothing twice, nothing left running, and never behind where it must not be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from hoiclip.core.array_types import RGB
from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import UsageError
from hoiclip_engine.streaming.inference_worker import QUEUE_FRAMES, Infer, Inference
from hoiclip_engine.streaming.stream import Stream, StreamConfig, policy_for
from hoiclip_engine.track.pair_tracker import PairTracker
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs
from tests.engine.fake_source import FakeSource, readers
from tests.engine.frame_results import Row, header, tracked
from tests.engine.scenes import Triplet, pairs_of

LOST = SourceEvent(event="source_lost", pts_s=0.0, reason="gone")
Detect = Callable[[RGB], HOIDetections]


class FakeTracker:
    """Records its calls; the human of its one pair moves 10 px at each detection."""

    pair_count = 3
    follows_camera = True

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._detections = 0

    def update(self, pairs: HOIDetections, pts_s: float) -> TrackedPairs:
        self.calls.append(("update", len(pairs), pts_s))
        self._detections += 1
        return self._pairs()

    def predict(self, pts_s: float) -> TrackedPairs:
        self.calls.append(("predict", pts_s))
        return self._pairs()

    def _pairs(self) -> TrackedPairs:
        left = 10.0 * self._detections
        return tracked(Row(human_box_xyxy=(left, 0, left + 5, 9), verbs={0: 0.1 * self._detections}))

    def see(self, rgb: RGB) -> None:
        """A camera that does not move."""

    def take_events(self) -> tuple[Event, ...]:
        return ()

    def rescale(self, x: float, y: float) -> None:
        self.calls.append(("rescale", x, y))

    def finish(self) -> tuple[Event, ...]:
        self.calls.append(("finish",))
        return (Event(event="end", pair=1, human=1, object=2, label_index=0, verb_index=0, pts_s=1.0),)


def at_once(rgb: RGB) -> Future[Inference]:
    """An inference that takes no time."""
    future: Future[Inference] = Future()
    future.set_result(Inference(pairs_of(Triplet((0, 0, 9, 9), None)), {"infer": 1.0}))
    return future


def stream_of(
    source: FakeSource, infer: Infer = at_once, *, prefetch_depth: int = 1, **config: Any
) -> tuple[Stream, FakeTracker]:
    tracker = FakeTracker()
    run_header = replace(header(), policy="latest" if source.is_live else "lossless")
    stream = Stream(
        run_header, source, infer, cast(PairTracker, tracker), StreamConfig(**config), prefetch_depth=prefetch_depth
    )
    return stream, tracker


@pytest.mark.parametrize("prefetch_depth", [1, 3])
@pytest.mark.parametrize("count", [1, QUEUE_FRAMES, 50])
def test_stream_yields_every_frame_once_in_order(count: int, prefetch_depth: int) -> None:
    source = FakeSource(count)
    stream, _ = stream_of(source, prefetch_depth=prefetch_depth)
    assert [(result.index, result.frame.rgb[0, 0, 0]) for result in stream] == [(i, i) for i in range(count)]
    assert source.closed == 1
    assert source.closed_by not in (None, threading.main_thread())
    assert readers() == []
    summary = stream.summary
    assert (summary.decoded, summary.detected, summary.dropped, summary.interrupted) == (count, count, 0, False)
    assert (summary.decode_errors, summary.pts_repaired, summary.pairs, summary.events) == (2, 4, 3, 1)
    assert len(summary.closing_events) == 1


def test_results_keep_their_order_when_inferences_finish_in_another() -> None:
    def detect(rgb: RGB) -> HOIDetections:
        time.sleep(0.02 if rgb[0, 0, 0] % 3 == 0 else 0.001)
        return pairs_of()

    with ThreadPoolExecutor(4) as pool:
        stream, tracker = stream_of(FakeSource(24), _in(pool, detect), prefetch_depth=6)
        assert [result.index for result in stream] == list(range(24))
    assert [call[-1] for call in tracker.calls[:-1]] == [index / 25 for index in range(24)]


def _in(pool: ThreadPoolExecutor, detect: Detect) -> Infer:
    return lambda rgb: pool.submit(lambda: Inference(detect(rgb), {}))


@pytest.mark.parametrize("fail_at", [0, 1, QUEUE_FRAMES, 20])
@pytest.mark.parametrize("error", [RuntimeError("decoder broke"), MemoryError()])
@pytest.mark.parametrize(("prefetch_depth", "detect_every"), [(1, 1), (3, 1), (2, 3)])
def test_decoder_error_reaches_the_caller_behind_the_frames_before_it(
    fail_at: int, error: BaseException, prefetch_depth: int, detect_every: int
) -> None:
    source = FakeSource(30, fail_at=fail_at, error=error)
    stream, tracker = stream_of(source, prefetch_depth=prefetch_depth, detect_every=detect_every)
    seen: list[int] = []
    with pytest.raises(type(error)) as caught:
        seen.extend(result.index for result in stream)
    assert caught.value is error
    assert seen == list(range(fail_at))
    assert source.closed == 1
    assert tracker.calls[-1] == ("finish",)
    assert readers() == []


def test_detector_error_ends_the_reader_thread() -> None:
    def detect(rgb: RGB) -> HOIDetections:
        if rgb[0, 0, 0] == 2:
            raise ValueError("no inference")
        return pairs_of()

    source = FakeSource(1000)
    with ThreadPoolExecutor(1) as pool:
        stream, _ = stream_of(source, _in(pool, detect), prefetch_depth=2)
        with pytest.raises(ValueError, match="no inference"):
            list(stream)
    assert source.closed == 1
    assert readers() == []


def wait_until_made(source: FakeSource, count: int) -> None:
    deadline = time.monotonic() + 30
    while source.made < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_decoder_prefetches_only_a_few_frames() -> None:
    source = FakeSource(1000)
    results = iter(stream_of(source)[0])
    next(results)
    wait_until_made(source, QUEUE_FRAMES + 2)  # one is with the caller, one waits for room
    time.sleep(0.2)  # the decoder has nothing else to wait for
    assert source.made == QUEUE_FRAMES + 2
    results.close()
    assert source.closed == 1
    assert readers() == []


def test_decoder_reaches_the_next_inferences_while_one_is_running() -> None:
    def decoded_slowly(index: int) -> tuple[int, int]:
        time.sleep(0.005)
        return 64, 48

    source = FakeSource(64, size_px=decoded_slowly)
    made_meanwhile = []

    def detect(rgb: RGB) -> HOIDetections:
        if not made_meanwhile:
            deadline = time.monotonic() + 5
            while source.made < 24 and time.monotonic() < deadline:
                time.sleep(0.01)
            made_meanwhile.append(source.made)
        return pairs_of()

    with ThreadPoolExecutor(4) as pool:
        stream, _ = stream_of(source, _in(pool, detect), prefetch_depth=3, detect_every=8)
        assert [result.index for result in stream] == list(range(64))
    assert made_meanwhile[0] >= 24  # so that three inferences can be in flight


def test_stop_ends_the_stream_after_the_current_frame() -> None:
    stream, tracker = stream_of(FakeSource(1000))
    seen = []
    for result in stream:
        seen.append(result.index)
        if result.index == 4:
            stream.stop()
    assert seen == [0, 1, 2, 3, 4]
    assert stream.summary.interrupted
    assert stream.summary.decoded == 5
    assert tracker.calls[-1] == ("finish",)
    assert readers() == []


def test_stop_wakes_a_stream_whose_source_is_silent() -> None:
    stream, _ = stream_of(FakeSource(10, period_s=60.0))
    timer = threading.Timer(0.3, stream.stop)
    timer.start()
    begun = time.monotonic()
    assert [result.index for result in stream] == [0]
    assert time.monotonic() - begun < 10  # far less than the next frame, far more than it takes
    assert readers() == []


def test_boxes_and_scores_are_interpolated_between_two_inferences() -> None:
    stream, tracker = stream_of(FakeSource(8), detect_every=3)
    results = list(stream)
    assert [result.detected for result in results] == [True, False, False, True, False, False, True, False]
    calls = [call[0] for call in tracker.calls[:-1]]
    assert calls == ["update", "predict", "predict"] * 2 + ["update", "predict"]
    assert [call[-1] for call in tracker.calls[:-1]] == [index / 25 for index in range(8)]
    lefts = [float(result.pairs.human_boxes_xyxy[0, 0]) for result in results]
    expected = [10, 10 + 10 / 3, 10 + 20 / 3, 20, 20 + 10 / 3, 20 + 20 / 3, 30, 30]  # no inference follows the last one
    np.testing.assert_allclose(lefts, expected, rtol=1e-5)
    np.testing.assert_allclose([r.pairs.verb_scores[0, 0] for r in results], np.array(expected) / 100, rtol=1e-5)
    assert (stream.summary.decoded, stream.summary.detected) == (8, 3)


def test_frames_are_predicted_between_inferences_too_far_apart_to_wait_for() -> None:
    stream, _ = stream_of(FakeSource(70), detect_every=60)
    lefts = [float(result.pairs.human_boxes_xyxy[0, 0]) for result in stream]
    assert lefts == [10.0] * 60 + [20.0] * 10


def test_tracks_are_rescaled_only_when_the_size_changes() -> None:
    sizes = [(64, 48), (64, 48), (128, 24), (128, 24), (64, 48)]
    stream, tracker = stream_of(FakeSource(5, size_px=lambda index: sizes[index]))
    assert [(result.frame.width_px, result.frame.height_px) for result in stream] == sizes
    names = [call[0] for call in tracker.calls]
    assert names == ["update", "update", "rescale", "update", "update", "rescale", "update", "finish"]
    assert [call[1:] for call in tracker.calls if call[0] == "rescale"] == [(2.0, 0.5), (0.5, 2.0)]


def test_stream_that_is_never_iterated_can_be_closed() -> None:
    source = FakeSource(5)
    stream, _ = stream_of(source)
    stream.close()
    assert (source.made, source.closed) == (0, 1)
    assert stream.summary.decoded == 0
    assert readers() == []


@pytest.mark.parametrize("detect_every", [1, 3, "auto"])
def test_fast_camera_never_lags_and_every_frame_is_counted(detect_every: int | str) -> None:
    inference_s, period_s = 0.06, 0.02

    def detect(rgb: RGB) -> HOIDetections:
        time.sleep(inference_s)
        return pairs_of()

    source = FakeSource(60, period_s=period_s)
    with ThreadPoolExecutor(1) as pool:
        stream, _ = stream_of(source, _in(pool, detect), detect_every=detect_every)
        results = list(stream)
    summary = stream.summary
    assert summary.decoded == source.made == 60
    assert len(results) == summary.decoded - summary.dropped
    assert summary.dropped >= sum(result.dropped_before for result in results)
    indices = [result.index for result in results]
    assert indices == sorted(set(indices))
    detected = [result for result in results if result.detected]
    # Half of the ideal number, and twice the ideal age: test machines are busy.
    assert len(detected) >= 10
    assert np.median([result.age_s for result in detected]) < 2 * (inference_s + 1.5 * period_s)
    if detect_every == 1:
        assert all(result.detected for result in results)
        assert summary.dropped > 0
    else:
        assert len(results) > 1.5 * len(detected)  # the frames between are shown


def test_frame_that_waited_too_long_is_not_inferred() -> None:
    source = FakeSource(4, period_s=0.001)
    stream, _ = stream_of(source, max_age_s=0.1)
    results: list[FrameResult] = []
    for result in stream:
        results.append(result)
        time.sleep(0.3)  # a slow consumer; the source has ended meanwhile
    assert [result.index for result in results] == [0]
    assert (stream.summary.decoded, stream.summary.dropped) == (4, 3)


def test_frames_never_taken_from_a_live_stream_count_as_dropped() -> None:
    source = FakeSource(1000, period_s=0.001)
    stream, _ = stream_of(source)
    for result in stream:
        time.sleep(0.05)
        if result.index > 20:
            stream.stop()
    summary = stream.summary
    assert summary.decoded == source.made
    assert summary.dropped == summary.decoded - summary.detected


@pytest.mark.parametrize("period_s", [None, 0.001])
def test_source_events_are_reported_between_results(period_s: float | None) -> None:
    reported: list[Any] = []
    stream, _ = stream_of(FakeSource(6, period_s=period_s, events={3: LOST}), detect_every=2)
    stream.on_source_event = reported.append
    for result in stream:
        reported.append(result.index)
    assert LOST in reported
    before, after = reported[: reported.index(LOST)], reported[reported.index(LOST) + 1 :]
    assert all(index < 3 for index in before)
    assert all(index >= 3 for index in after)


def test_result_holds_the_stages_of_its_frame() -> None:
    stream, _ = stream_of(FakeSource(3), detect_every=2)
    results = list(stream)
    assert [set(result.stage_ms) for result in results] == [
        {"decode", "infer", "track"},
        {"decode", "track"},
        {"decode", "infer", "track"},
    ]
    assert set(stream.summary.stage_ms) == {"decode", "infer", "track", "age"}


def test_auto_policy_follows_the_source() -> None:
    file, camera = FakeSource(1), FakeSource(1, period_s=1.0)
    assert [policy_for(StreamConfig(), source) for source in (file, camera)] == ["lossless", "latest"]
    with pytest.raises(UsageError, match="does not wait"):
        policy_for(StreamConfig(policy="lossless"), camera)


@pytest.mark.parametrize("wrong", [{"detect_every": 0}, {"max_age_s": 0.0}, {"max_age_s": float("nan")}])
def test_invalid_stream_config_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreamConfig(**wrong)
