"""Loads of a benchmark: warm-up, repeated videos, frames on demand, decoding times, a slowed backend."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hoiclip_engine.backends.base import SINGLE_IMAGE
from hoiclip_engine.bench.load import QuerySample, is_stable, warm_up_until_stable
from hoiclip_engine.bench.subjects import OnDemand, SlowedBackend, TimedDecoding
from hoiclip_engine.sources.playback import RepeatedSource
from hoiclip_engine.streaming.frame_reader import FrameReader, ReadFrame
from hoiclip_engine.types.frame import Frame
from tests.engine.fake_source import FakeSource


def sample(ms: float) -> QuerySample:
    return QuerySample(done_s=time.monotonic(), latency_ms=ms, stage_ms=[{"infer": ms}], queue_ms=0.0)


def test_warm_up_is_stable_after_three_windows_within_five_percent() -> None:
    assert is_stable([20, 10.0, 10.4, 10.2])
    assert not is_stable([10.0, 10.4])
    assert not is_stable([10.0, 10.4, 10.6])


def test_warm_up_ends_when_stable_or_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip_engine.bench.load.WINDOW_S", 0.0)
    falling: Iterator[float] = itertools.chain([50.0] * 5, [20.0] * 5, itertools.repeat(10.0))
    warm = warm_up_until_stable(lambda: sample(next(falling)), 30.0)
    assert warm.stable
    assert warm.window_ms == [50, 20, 10, 10, 10]
    assert warm.latency_ms == 10
    never = itertools.count(1)
    restless = warm_up_until_stable(lambda: sample(2.0 ** next(never)), 0.0)
    assert not restless.stable
    assert "given up" in restless.to_json()["criterion"]


def test_repeated_source_continues_times_and_indices() -> None:
    opened: list[FakeSource] = []

    def open_video() -> FakeSource:
        opened.append(FakeSource(3))
        return opened[-1]

    video = RepeatedSource(open_video)
    frames = [item for item in itertools.islice(video, 8) if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 25 for index in range(8)])
    assert [source.closed for source in opened] == [1, 1, 0]
    video.close()
    assert opened[-1].closed == 1
    assert list(video) == []


def test_repeated_source_ends_without_frames_and_at_its_limit() -> None:
    assert list(RepeatedSource(lambda: FakeSource(0))) == []
    assert len(list(RepeatedSource(lambda: FakeSource(3), until_s=0.2))) == 5


def test_on_demand_source_gives_frames_only_on_release() -> None:
    video = FakeSource(5)
    source = OnDemand(video)
    reader = FrameReader(source, room=1, waits=False)
    time.sleep(0.05)
    assert video.made == 0
    for index in range(3):
        source.release()
        item = reader.take()
        assert isinstance(item, ReadFrame)
        assert item.frame.index == index
        assert time.monotonic() - item.frame.read_s < 1
        time.sleep(0.02)
        assert video.made == index + 1
    begun_s = time.monotonic()
    reader.close()  # while the source waits to be asked
    assert time.monotonic() - begun_s < 0.9
    assert video.closed == 1


def test_timed_decoding_excludes_waiting_for_the_consumer() -> None:
    class Slow(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for index in range(3):
                time.sleep(0.02)
                yield Frame(np.zeros((4, 4, 3), np.uint8), index / 25, index)

    timed = TimedDecoding(Slow(3))
    for frame in timed:
        assert isinstance(frame, Frame)
        time.sleep(0.2)
    assert all(20 <= timed.take_ms(index) < 180 for index in range(3))
    assert timed.take_ms(0) == 0.0  # taken


def test_slowed_backend_takes_its_fraction_longer_with_the_same_output() -> None:
    class Sleeping:
        name, padded_hw, capacity = "sleeping", (64, 64), SINGLE_IMAGE

        def __call__(self, model_input: object) -> object:
            time.sleep(0.02)
            return model_input

        def close(self) -> None: ...

    slowed = SlowedBackend(Sleeping(), 0.5)  # type: ignore[arg-type]
    times = []
    for number in range(5):
        begun_s = time.monotonic()
        assert slowed(number) == number  # type: ignore[arg-type, comparison-overlap]
        times.append(time.monotonic() - begun_s)
    assert 0.03 <= min(times) < 0.04
