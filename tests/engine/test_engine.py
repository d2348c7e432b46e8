"""The engine as Python users call it: load, stream, detect; nothing kept and nothing left open."""

from __future__ import annotations

import faulthandler
import gc
import os
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import hoiclip
from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import EngineClosed, ModelError, SourceError, UsageError
from hoiclip.model import HOICLIP
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.backends.base import Backend
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.streaming.stream import StreamConfig
from tests.engine.untrained import CONFIG, NOTICE, untrained_model
from tests.engine.video_files import image, write_clip

FRAMES = 12


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(untrained_model(), EngineConfig(backend="torch")) as made:
        yield made


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [40 * i for i in range(FRAMES)], size_px=(96, 64))


def backends_of(engine: Engine) -> list[Backend]:
    """The compiled models of its cached sessions."""
    return [session.backend for session in engine._sessions.sessions]


def handles(path: Path) -> int:
    """Number of descriptors of a file that this process holds."""
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(link) and os.path.samefile(link, path) for link in links)


def decoders() -> int:
    return sum(thread.name == "hoiclip-decode" for thread in threading.enumerate())


def test_stream_yields_pairs_events_and_times(engine: Engine, clip: Path) -> None:
    results = list(engine.stream(clip))
    assert [result.pts_s for result in results] == pytest.approx([0.04 * i for i in range(FRAMES)], abs=1e-6)
    assert [result.index for result in results] == list(range(FRAMES))
    assert any(len(result.pairs) for result in results)
    events = [event for result in results for event in result.events]
    assert events
    for event in events:
        assert 0 <= event.verb_index < len(engine.vocabulary.verbs)
        assert -1 <= event.label_index < len(engine.vocabulary.objects)


def test_second_stream_is_independent_of_the_first(engine: Engine, clip: Path) -> None:
    def tracked() -> list[tuple[list[int], list[list[float]]]]:
        return [(r.pairs.pair.tolist(), r.pairs.human_boxes_xyxy.tolist()) for r in engine.stream(clip)]

    assert tracked() == tracked()


def test_abandoned_stream_leaves_no_thread_and_no_open_file(engine: Engine, clip: Path) -> None:
    for result in engine.stream(clip):
        if result.index == 2:
            assert (decoders(), handles(clip)) == (1, 1)
            break
    del result
    gc.collect()
    assert (decoders(), handles(clip)) == (0, 0)
    stream = engine.stream(clip)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert (decoders(), handles(clip)) == (0, 0)


def test_failing_source_leaves_no_open_file(engine: Engine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(SourceError):
        next(iter(engine.stream(broken)))
    assert (decoders(), handles(broken)) == (0, 0)


def check_pairs(pairs: HOIDetections, engine: Engine) -> None:
    assert len(pairs) > 0
    assert np.isfinite(pairs.human_boxes_xyxy).all()
    assert np.isfinite(pairs.object_boxes_xyxy).all()
    assert ((pairs.score >= 0) & (pairs.score <= 1)).all()
    assert ((pairs.verb >= 0) & (pairs.verb < len(engine.vocabulary.verbs))).all()
    for hoi, verb, label in zip(pairs.hoi, pairs.verb, pairs.label, strict=True):
        assert engine.vocabulary.hois[hoi] == (verb, label)


@pytest.mark.parametrize("size_px", [(96, 64), (64, 96), (1, 1), (301, 7), (33, 517)])
def test_engine_detects_in_images_of_any_size(engine: Engine, size_px: tuple[int, int]) -> None:
    check_pairs(engine.detect(image(3, *size_px)), engine)


def test_boxes_are_pixels_of_the_original_image(engine: Engine) -> None:
    """Twice the image gives twice the boxes: both are resized to the same size."""
    small = image(3, 320, 192)
    large = np.kron(small, np.ones((2, 2, 1), np.uint8))
    a, b = engine.detect(small), engine.detect(large)
    best = min(len(a), len(b), 5)
    assert best > 0
    np.testing.assert_array_equal(a.hoi[:best], b.hoi[:best])
    np.testing.assert_allclose(2 * a.human_boxes_xyxy[:best], b.human_boxes_xyxy[:best], atol=2)


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_wrong_array_is_a_value_error(engine: Engine, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an RGB image"):
        engine.detect(array)


def test_closed_engine_can_be_used_again(clip: Path) -> None:
    engine = Engine.load(untrained_model(), EngineConfig(backend="torch"))
    before = engine.detect(image(1))
    engine.close()
    engine.close()
    np.testing.assert_array_equal(before.score, engine.detect(image(1)).score)
    assert len(list(engine.stream(clip))) == FRAMES
    engine.close()


@pytest.fixture
def patient() -> Iterator[None]:
    """Ends the process, with the stacks of all threads, where a test waits for ever."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.usefixtures("patient")
def test_engine_detects_in_another_size_while_a_stream_is_iterated(engine: Engine, clip: Path) -> None:
    alone = [result.pairs.human_boxes_xyxy.tolist() for result in engine.stream(clip)]
    expected = engine.detect(image(1, 32, 96))
    beside = []
    for result in engine.stream(clip):
        beside.append(result.pairs.human_boxes_xyxy.tolist())
        np.testing.assert_array_equal(engine.detect(image(1, 32, 96)).score, expected.score)
    assert beside == alone
    assert len(beside) == FRAMES


@pytest.mark.usefixtures("patient")
def test_streams_of_different_sizes_run_concurrently(engine: Engine, tmp_path: Path) -> None:
    sizes = [(96, 64), (64, 96), (96, 32), (96, 64)]
    clips = [
        write_clip(tmp_path / f"{number}.mp4", [40 * i for i in range(FRAMES)], size_px=size)
        for number, size in enumerate(sizes)
    ]
    expected = [[result.pairs.human_boxes_xyxy.tolist() for result in engine.stream(path)] for path in clips]
    with ThreadPoolExecutor(len(clips)) as pool:
        found = list(pool.map(lambda path: [r.pairs.human_boxes_xyxy.tolist() for r in engine.stream(path)], clips))
    assert found == expected


@pytest.mark.usefixtures("patient")
def test_stream_continues_while_others_are_opened_and_closed(engine: Engine, clip: Path, tmp_path: Path) -> None:
    tall = write_clip(tmp_path / "tall.mp4", [0, 40, 80], size_px=(32, 96))
    stream = engine.open(clip)
    count = 0
    for _ in stream:
        count += 1
        if count == 1:
            engine.open(tall).close()
        elif count == 5:
            assert len(list(engine.open(tall))) == 3
        elif count == 8:
            for opened in engine.streams([open_video(clip), open_video(tall)], StreamConfig()):
                opened.close()
    assert count == FRAMES


@pytest.mark.usefixtures("patient")
def test_session_in_use_is_kept_and_of_the_others_the_last(clip: Path) -> None:
    with Engine.load(untrained_model(), EngineConfig(backend="torch")) as engine:
        stream = engine.open(clip)
        used = backends_of(engine)
        for size_px in ((32, 96), (64, 64), (32, 96)):
            engine.detect(image(1, *size_px))
            assert len(backends_of(engine)) == 2
            assert backends_of(engine)[0] is used[0]
        stream.close()
        engine.detect(image(1, 48, 96))
        assert len(backends_of(engine)) == 1
        forgotten = engine.open(clip)
        del forgotten
        gc.collect()
        engine.detect(image(1, 32, 96))
        assert len(backends_of(engine)) == 1


@pytest.mark.usefixtures("patient")
def test_closing_the_engine_ends_its_streams_with_an_error(clip: Path) -> None:
    engine = Engine.load(untrained_model(), EngineConfig(backend="torch"))
    results = engine.stream(clip)
    next(results)
    engine.close()
    with pytest.raises(EngineClosed, match="open the stream again"):
        list(results)
    unopened = engine.open(clip)
    begun, resume = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def iterate() -> None:
        try:
            for _ in engine.stream(clip):
                begun.set()
                resume.wait()
        except EngineClosed as error:
            raised.append(error)

    thread = threading.Thread(target=iterate)
    thread.start()
    begun.wait()
    engine.close()
    resume.set()
    thread.join()
    assert len(raised) == 1
    with pytest.raises(EngineClosed):
        list(unopened)
    gc.collect()
    assert (decoders(), handles(clip)) == (0, 0)
    assert len(list(engine.stream(clip))) == FRAMES
    engine.close()


def test_smaller_short_side_makes_a_smaller_padded_size() -> None:
    sizes = []
    for short_side_px in (None, 64):
        config = EngineConfig(backend="torch", short_side_px=short_side_px)
        with Engine.load(untrained_model(), config) as engine:
            check_pairs(engine.detect(image(1, 128, 96)), engine)
            sizes += [backend.padded_hw for backend in backends_of(engine)]
    assert sizes == [(192, 256), (64, 96)]


def test_header_holds_model_backend_and_source(engine: Engine, clip: Path) -> None:
    stream = engine.open(clip)
    header = stream.header
    stream.close()
    assert header.backend == "torch"
    assert header.notice == NOTICE
    assert header.model == untrained_model().stem
    assert (header.width_px, header.height_px) == (96, 64)
    assert header.source == str(clip)
    assert handles(clip) == 0


@pytest.mark.thorough
def test_stream_memory_stays_flat(tmp_path: Path) -> None:
    """Between frames 100 and 300: keeping the images would take 1.8 MiB more."""
    clip = write_clip(tmp_path / "long.mp4", [40 * i for i in range(300)])
    held = {}
    tracemalloc.start()
    try:
        with Engine.load(untrained_model(), EngineConfig(backend="torch", short_side_px=64)) as engine:
            for result in engine.stream(clip):
                if result.index in (100, 299):
                    gc.collect()
                    held[result.index] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held[299] - held[100] < 2**19


def test_load_model_gives_the_torch_module() -> None:
    module = hoiclip.load_model(str(untrained_model()))
    assert isinstance(module, HOICLIP)
    assert module.config == CONFIG
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    with pytest.raises(ModelError, match="there is no model file"):
        hoiclip.load_model("/nowhere/model.safetensors")


def test_untrained_model_is_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.random.get_rng_state()
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path))
    again = hoiclip.load_model(untrained_model())
    monkeypatch.undo()
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in hoiclip.load_model(untrained_model()).state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("config", [{"precision": "int3"}, {"short_side_px": 8}])
def test_invalid_engine_config_is_a_usage_error(config: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        EngineConfig(**config)  # type: ignore[arg-type]
