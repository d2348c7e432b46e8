"""Sessions: independent of each other and of their engine, alive as long as one of their streams is."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hoiclip.core.errors import EngineClosed, SourceError, UsageError
from hoiclip_engine import Engine, EngineConfig, Session, StreamConfig
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.playback import PacedSource
from tests.engine.run_processes import QUICK_BACKEND
from tests.engine.untrained import untrained_model
from tests.engine.video_files import image, write_clip

FRAMES = 6
SIZE_PX = (96, 64)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(untrained_model(), EngineConfig(backend=QUICK_BACKEND)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [40 * i for i in range(FRAMES)], size_px=SIZE_PX)


def session_of(engine: Engine, **capacity: int) -> Session:
    return engine.compile(engine.padded_size_for(SIZE_PX[1], SIZE_PX[0]), **capacity)


def inference_threads() -> int:
    return sum(thread.name.startswith("hoiclip-infer") for thread in threading.enumerate())


def wait_for_threads(count: int) -> int:
    deadline = time.monotonic() + 30
    while inference_threads() != count and time.monotonic() < deadline:
        time.sleep(0.01)
    return inference_threads()


def test_session_detects_like_its_engine(engine: Engine, clip: Path) -> None:
    with session_of(engine) as session:
        expected = engine.detect(image(1, *SIZE_PX))
        np.testing.assert_array_equal(session.detect(image(1, *SIZE_PX)).score, expected.score)
        inference = session.infer(image(1, *SIZE_PX)).result()
        np.testing.assert_array_equal(inference.detections.score, expected.score)
        assert set(inference.stage_ms) == {"preprocess", "infer", "postprocess"}
        boxes = [result.pairs.human_boxes_xyxy.tolist() for result in session.stream(clip)]
    assert boxes == [result.pairs.human_boxes_xyxy.tolist() for result in engine.stream(clip)]


def test_events_and_interactions_of_a_stream_are_words(engine: Engine, clip: Path) -> None:
    with session_of(engine) as session:
        results = list(session.stream(clip))
    vocabulary = engine.vocabulary
    events = [event for result in results for event in result.events]
    assert events
    for event in events:
        assert event.verb == vocabulary.verbs[event.verb_index]
        assert event.label == (vocabulary.objects[event.label_index] if event.label_index >= 0 else "")
    interactions = [interaction for result in results for interaction in result.interactions()]
    assert len(interactions) == sum(int(result.pairs.verb_active.sum()) for result in results)
    assert {interaction.verb for interaction in interactions} <= set(vocabulary.verbs)


def test_sessions_are_independent_of_their_engine_and_of_each_other(clip: Path) -> None:
    engine = Engine.load(untrained_model(), EngineConfig(backend=QUICK_BACKEND))
    first, second = session_of(engine), session_of(engine)
    engine.close()
    first.close()
    assert len(list(second.stream(clip))) == FRAMES
    second.close()


def test_closed_session_refuses_inference_and_ends_its_streams(engine: Engine, clip: Path) -> None:
    session = session_of(engine)
    results = iter(session.stream(clip))
    next(results)
    session.close()
    session.close()
    for use in (session.infer, session.detect):
        with pytest.raises(EngineClosed, match="open the stream again"):
            use(image(1, *SIZE_PX))
    with pytest.raises(EngineClosed):
        list(results)


@pytest.mark.thorough
def test_dropped_session_lives_as_long_as_its_stream(clip: Path) -> None:
    before = inference_threads()
    stream = session_of(Engine.load(untrained_model(), EngineConfig(backend=QUICK_BACKEND))).stream(clip)
    gc.collect()
    assert inference_threads() > before
    assert len(list(stream)) == FRAMES
    del stream
    gc.collect()
    assert wait_for_threads(before) == before


def test_session_capacity_is_as_requested_or_less(engine: Engine) -> None:
    with session_of(engine, batch=2, num_requests=3) as session:
        assert session.config.batch == 2
        assert session.backend.capacity.num_requests in (1, 3)
        futures = [session.infer(image(1, *SIZE_PX)) for _ in range(5)]
        scores = [future.result().detections.score for future in futures]
        for score in scores[1:]:
            np.testing.assert_allclose(score, scores[0], atol=1e-5)  # the place in a batch moves the last digits


def test_stream_of_a_missing_source_is_one_error(engine: Engine, tmp_path: Path) -> None:
    with session_of(engine) as session, pytest.raises(SourceError):
        session.stream(tmp_path / "missing.mp4")


def test_lossless_stream_of_a_live_source_is_refused(engine: Engine, clip: Path) -> None:
    with session_of(engine) as session, pytest.raises(UsageError, match="does not wait"):
        session.stream(PacedSource(open_video(clip)), StreamConfig(policy="lossless"))
