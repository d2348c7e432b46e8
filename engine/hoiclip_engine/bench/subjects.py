"""Subjects of a measurement, under every load: the model alone, and the pipeline as `hoiclip run` runs it.

The model alone turns prepared images into scored triplets; the pipeline turns encoded bytes into tracked pairs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hoiclip.core.errors import SourceError
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import Backend
from hoiclip_engine.bench.load import WORK_STAGES, QuerySample
from hoiclip_engine.session import Session
from hoiclip_engine.sources.base import FrameSource, SourceCounters, SourceInfo
from hoiclip_engine.sources.playback import PacedSource, Pacer
from hoiclip_engine.streaming.inference_worker import Postprocess
from hoiclip_engine.streaming.stream import Stream, StreamConfig
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult

PATIENCE_S = 120.0
"""Longest wait for an answer; the largest model on the slowest machine needs seconds."""
_KEPT = 256
"""Decoding times that are kept for frames without results so far; skipped frames never have one."""
_SPUN_S = 0.0005
"""The end of a wait is spun, not slept: the system wakes sleepers late."""


class TimedInference:
    """Times one prepared image through backend and score rule. Call it from as many threads as there are requests."""

    def __init__(self, backend: Backend, postprocess: Postprocess, wait: Callable[[], object]) -> None:
        """Args: wait: waits for the device before a time is read."""
        self._backend, self._postprocess, self._wait = backend, postprocess, wait

    def __call__(self, image: ModelInput) -> dict[str, float]:
        """Milliseconds by stage."""
        self._wait()
        started = time.monotonic()
        raw = self._backend(image)
        self._wait()
        inferred = time.monotonic()
        self._postprocess(raw, image.original_hw[0])
        return {"infer": (inferred - started) * 1e3, "postprocess": (time.monotonic() - inferred) * 1e3}


class ModelQueries:
    """Closed load on the model: an image of each stream at once, and the next ones when all are done."""

    def __init__(self, infer: TimedInference, images: Sequence[ModelInput], num_requests: int) -> None:
        self._infer, self._images = infer, images
        self._pool = ThreadPoolExecutor(num_requests, "hoiclip-bench") if len(images) > 1 else None

    def ask(self) -> QuerySample:
        begun_s = time.monotonic()
        stages = (
            [self._infer(self._images[0])] if self._pool is None else list(self._pool.map(self._infer, self._images))
        )
        done_s = time.monotonic()
        latency_ms = (done_s - begun_s) * 1e3
        return QuerySample(
            done_s=done_s,
            latency_ms=latency_ms,
            stage_ms=stages,
            queue_ms=max(0.0, latency_ms - max(sum(of_frame.values()) for of_frame in stages)),
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class ModelFlow:
    """Open load on the model: images of every stream arrive at a pace and queue for it; none is ever dropped."""

    def __init__(self, infer: TimedInference, images: Sequence[ModelInput], num_requests: int, fps: float) -> None:
        self._infer, self._images, self._fps = infer, images, fps
        self._waiting: queue.SimpleQueue[tuple[ModelInput, float] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[QuerySample | BaseException] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._arriving = threading.Thread(target=self._arrive, name="hoiclip-bench-arrivals", daemon=True)
        self._workers = [
            threading.Thread(target=self._work, name=f"hoiclip-bench-{number}", daemon=True)
            for number in range(num_requests)
        ]
        for thread in (self._arriving, *self._workers):
            thread.start()

    def take(self) -> QuerySample:
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        self._stopped.set()
        self._arriving.join()
        for _ in self._workers:
            self._waiting.put(None)
        for thread in self._workers:
            thread.join()

    def _arrive(self) -> None:
        pacer, number = Pacer(), 0
        begun_s = time.monotonic()
        while pacer.wait(number / self._fps, self._stopped):
            for image in self._images:
                self._waiting.put((image, begun_s + number / self._fps))
            number += 1

    def _work(self) -> None:
        try:
            while (request := self._waiting.get()) is not None and not self._stopped.is_set():
                image, due_s = request
                begun_s = time.monotonic()
                stages = self._infer(image)
                done_s = time.monotonic()
                self._answers.put(
                    QuerySample(
                        done_s=done_s,
                        latency_ms=(done_s - due_s) * 1e3,
                        stage_ms=[stages],
                        queue_ms=(begun_s - due_s) * 1e3,
                    )
                )
        except BaseException as error:
            self._answers.put(error)


class _WrappedSource:
    """Another source, but for its frames."""

    is_live = False

    def __init__(self, source: FrameSource) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def counters(self) -> SourceCounters:
        return self._source.counters

    def stop(self) -> None:
        self._source.stop()

    def close(self) -> None:
        self._source.close()


class TimedDecoding(_WrappedSource):
    """Records how long each frame took to decode, without the time a frame waits to be taken."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self.is_live = source.is_live
        self._ms: dict[int, float] = {}

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        items = iter(self._source)
        while True:
            started = time.monotonic()
            item = next(items, None)
            if item is None:
                return
            if isinstance(item, Frame):
                self._ms[item.index] = (time.monotonic() - started) * 1e3
                self._ms.pop(item.index - _KEPT, None)
            yield item

    def take_ms(self, index: int) -> float:
        return self._ms.pop(index, 0.0)


class OnDemand(_WrappedSource):
    """A live source that decodes its next frame when `release` is called, for closed loads."""

    is_live = True

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self._turns, self._stopped = threading.Semaphore(0), False

    def release(self) -> None:
        self._turns.release()

    def __iter__(self) -> Iterator[Frame | SourceEvent]:
        items = iter(self._source)
        while True:
            self._turns.acquire()
            item = next(items, None)
            if self._stopped or item is None:
                return
            yield replace(item, read_s=time.monotonic()) if isinstance(item, Frame) else item

    def stop(self) -> None:
        self._stopped = True
        self._turns.release()
        super().stop()

    def close(self) -> None:
        self._stopped = True
        self._turns.release()
        super().close()


class _StreamResults:
    """Results of streams, each iterated in a thread of its own, in the order they are ready."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._queue: queue.SimpleQueue[tuple[int, FrameResult, float] | BaseException] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(row,), name="hoiclip-stream", daemon=True)
            for row in range(len(streams))
        ]
        for thread in self._threads:
            thread.start()

    def take(self) -> tuple[int, FrameResult, float]:
        """Stream, result, and time.monotonic() of it.

        Raises:
            SourceError: a video ended, or no result comes any more.
            BaseException: the error of a stream.
        """
        try:
            answer = self._queue.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise SourceError(f"no result came in {PATIENCE_S:g} s; see whether hoiclip run gets any") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        for stream in self._streams:
            stream.stop()
        for thread in self._threads:
            thread.join()

    def _work(self, row: int) -> None:
        try:
            for result in self._streams[row]:
                self._queue.put((row, result, time.monotonic()))
            self._queue.put(SourceError(f"{self._streams[row].header.source} has no frame; name a video with some"))
        except BaseException as error:
            self._queue.put(error)


class PipelineQueries:
    """Closed load on the pipeline: a frame of each stream at once, decoded on demand; then the next ones."""

    def __init__(self, session: Session, videos: Sequence[FrameSource], config: StreamConfig) -> None:
        """Args: config: frames may be of any age."""
        self._timed = [TimedDecoding(video) for video in videos]
        self._sources = [OnDemand(timed) for timed in self._timed]
        self._results = _StreamResults([session.stream(source, config) for source in self._sources])

    def ask(self) -> QuerySample:
        begun_s = time.monotonic()
        for source in self._sources:
            source.release()
        answers = [self._results.take() for _ in self._sources]
        done_s = max(at_s for _, _, at_s in answers)
        return QuerySample(
            done_s=done_s,
            latency_ms=(done_s - begun_s) * 1e3,
            stage_ms=[_stages(result, self._timed[row]) for row, result, _ in answers],
            queue_ms=max(_queued_ms(result) for _, result, _ in answers),
            dropped=sum(result.dropped_before for _, result, _ in answers),
        )

    def close(self) -> None:
        self._results.close()


class PipelineFlow:
    """Open load on the pipeline: frames are due at a pace, and late ones are skipped. Offline: as fast as possible."""

    def __init__(
        self,
        session: Session,
        videos: Sequence[FrameSource],
        config: StreamConfig,
        speeds: Sequence[float] | None,
    ) -> None:
        """Args: speeds: of each video, as a multiple of its own pace; None: offline."""
        self._timed = [TimedDecoding(video) for video in videos]
        self._speeds = speeds
        self._zeros: dict[int, float] = {}
        sources: list[FrameSource] = list(self._timed)
        if speeds is not None:
            sources = [PacedSource(source, speed) for source, speed in zip(sources, speeds, strict=True)]
        self._results = _StreamResults([session.stream(source, config) for source in sources])

    def take(self) -> QuerySample:
        row, result, done_s = self._results.take()
        return QuerySample(
            done_s=done_s,
            latency_ms=(done_s - self._due_s(row, result)) * 1e3,
            stage_ms=[_stages(result, self._timed[row])],
            queue_ms=_queued_ms(result),
            dropped=result.dropped_before,
        )

    def close(self) -> None:
        self._results.close()

    def _due_s(self, row: int, result: FrameResult) -> float:
        """Time at which the frame was due; offline, at which it was read."""
        if self._speeds is None:
            return result.frame.read_s
        since_s = result.pts_s / self._speeds[row]
        return self._zeros.setdefault(row, result.frame.read_s - since_s) + since_s


def _stages(result: FrameResult, timed: TimedDecoding) -> Mapping[str, float]:
    worked = {stage: result.stage_ms[stage] for stage in WORK_STAGES if stage in result.stage_ms}
    return {"decode": timed.take_ms(result.index), **worked}


def _queued_ms(result: FrameResult) -> float:
    worked_ms = sum(result.stage_ms.get(stage, 0.0) for stage in WORK_STAGES)
    return max(0.0, result.age_s * 1e3 - worked_ms)


class SlowedBackend:
    """A backend that takes (1 + fraction) times as long, to check that a regression gate notices."""

    def __init__(self, backend: Backend, fraction: float) -> None:
        self.name, self.padded_hw, self.capacity = backend.name, backend.padded_hw, backend.capacity
        self._backend, self._fraction = backend, fraction

    def __call__(self, model_input: ModelInput) -> RawOutput:
        begun_s = time.perf_counter()
        raw = self._backend(model_input)
        now_s = time.perf_counter()
        due_s = now_s + self._fraction * (now_s - begun_s)
        time.sleep(max(0.0, due_s - now_s - _SPUN_S))
        while time.perf_counter() < due_s:
            pass
        return raw

    def close(self) -> None:
        self._backend.close()
