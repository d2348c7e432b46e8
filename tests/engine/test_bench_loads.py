"""What loads are made of: warm-up, films that play again, frames on demand, decoding times, looks made slower."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hoiclip_engine.backends.capacity import ONE
from hoiclip_engine.bench.pipeline_sources import OnDemand, TimedDecoding
from hoiclip_engine.bench.sample import Sample
from hoiclip_engine.bench.slowed import SlowedBackend
from hoiclip_engine.bench.warm_up import is_stable, warmed_up
from hoiclip_engine.frame import Frame
from hoiclip_engine.reader import FrameReader, Read
from hoiclip_engine.video.repeated import Repeated
from tests.engine.fake_source import FakeSource


def sample(ms: float) -> Sample:
    return Sample(done_s=time.monotonic(), latency_ms=ms, stage_ms=[{"infer": ms}], queue_ms=0.0)


def test_stable_is_three_windows_within_five_percent() -> None:
    assert is_stable([20, 10.0, 10.4, 10.2])
    assert not is_stable([10.0, 10.4])
    assert not is_stable([10.0, 10.4, 10.6])


def test_a_warm_up_ends_when_it_is_stable_or_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoiclip_engine.bench.warm_up.WINDOW_S", 0.0)
    falling: Iterator[float] = itertools.chain([50.0] * 5, [20.0] * 5, itertools.repeat(10.0))
    warm = warmed_up(lambda: sample(next(falling)), 30.0)
    assert warm.stable
    assert warm.window_ms == [50, 20, 10, 10, 10]
    assert warm.latency_ms == 10
    never = itertools.count(1)
    restless = warmed_up(lambda: sample(2.0 ** next(never)), 0.0)
    assert not restless.stable
    assert "given up" in restless.to_json()["criterion"]


def test_a_film_that_plays_again_goes_on_in_time_and_number() -> None:
    opened: list[FakeSource] = []

    def open_film() -> FakeSource:
        opened.append(FakeSource(3))
        return opened[-1]

    film = Repeated(open_film)
    frames = [item for item in itertools.islice(film, 8) if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 25 for index in range(8)])
    assert [source.closed for source in opened] == [1, 1, 0]
    film.close()
    assert opened[-1].closed == 1
    assert list(film) == []


def test_a_film_without_frames_ends_and_one_with_an_end_stops_there() -> None:
    assert list(Repeated(lambda: FakeSource(0))) == []
    assert len(list(Repeated(lambda: FakeSource(3), until_s=0.2))) == 5


def test_a_frame_comes_when_it_is_asked_for_and_not_before() -> None:
    film = FakeSource(5)
    source = OnDemand(film)
    reader = FrameReader(source, room=1, waits=False)
    time.sleep(0.05)
    assert film.made == 0
    for index in range(3):
        source.release()
        item = reader.take()
        assert isinstance(item, Read)
        assert item.frame.index == index
        assert time.monotonic() - item.frame.read_s < 1
        time.sleep(0.02)
        assert film.made == index + 1
    begun_s = time.monotonic()
    reader.close()  # while the source waits to be asked
    assert time.monotonic() - begun_s < 0.9
    assert film.closed == 1


def test_decoding_is_timed_without_the_wait_for_whoever_takes_the_frame() -> None:
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


def test_a_slowed_backend_takes_its_share_longer_and_says_the_same() -> None:
    class Sleeping:
        name, canvas_hw, capacity = "sleeping", (64, 64), ONE

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
