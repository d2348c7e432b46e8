"""The pipeline as `hoiclip run` runs it, from encoded bytes to tracked pairs: the same streams, under a load."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence

from hoiclip.errors import SourceError
from hoiclip_engine.bench.pipeline_sources import OnDemand, TimedDecoding
from hoiclip_engine.bench.sample import LOOKING, Sample
from hoiclip_engine.engine import Engine
from hoiclip_engine.pipeline import Stream, StreamConfig
from hoiclip_engine.results import FrameResult
from hoiclip_engine.video.frame_source import FrameSource
from hoiclip_engine.video.paced import PacedSource

PATIENCE_S = 120.0
"""How long an answer may take; the largest model on the slowest machine needs seconds."""


class _Answers:
    """Streams iterated each in a thread of its own; results come out in the order they are ready."""

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
            SourceError: a film ended, or nothing comes any more.
            Whatever went wrong in a stream.
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
            self._queue.put(SourceError(f"{self._streams[row].header.source} has no frame; name a film with some"))
        except BaseException as error:
            self._queue.put(error)


class PipelineQueries:
    """Closed load: a frame of each stream at once, decoded on demand; the next ones when all have their results."""

    def __init__(self, engine: Engine, films: Sequence[FrameSource]) -> None:
        self._timed = [TimedDecoding(film) for film in films]
        self._sources = [OnDemand(timed) for timed in self._timed]
        self._answers = _Answers(engine.streams(self._sources, StreamConfig(max_age_s=math.inf)))

    def ask(self) -> Sample:
        begun_s = time.monotonic()
        for source in self._sources:
            source.release()
        answers = [self._answers.take() for _ in self._sources]
        done_s = max(at_s for _, _, at_s in answers)
        return Sample(
            done_s=done_s,
            latency_ms=(done_s - begun_s) * 1e3,
            stage_ms=[_stages(result, self._timed[row]) for row, result, _ in answers],
            queue_ms=max(_queued_ms(result) for _, result, _ in answers),
            dropped=sum(result.dropped_before for _, result, _ in answers),
        )

    def close(self) -> None:
        self._answers.close()


class PipelineFlow:
    """Open load: frames are due at a pace, and whoever is late finds only the newest. Offline: as fast as it goes."""

    def __init__(self, engine: Engine, films: Sequence[FrameSource], speeds: Sequence[float] | None) -> None:
        """Args: speeds: of each film, times as fast as its own times; None: offline."""
        self._timed = [TimedDecoding(film) for film in films]
        self._speeds = speeds
        self._zeros: dict[int, float] = {}
        sources: list[FrameSource] = list(self._timed)
        if speeds is not None:
            sources = [PacedSource(*one) for one in zip(sources, speeds, strict=True)]
        self._answers = _Answers(engine.streams(sources, StreamConfig()))

    def take(self) -> Sample:
        row, result, done_s = self._answers.take()
        return Sample(
            done_s=done_s,
            latency_ms=(done_s - self._due_s(row, result)) * 1e3,
            stage_ms=[_stages(result, self._timed[row])],
            queue_ms=_queued_ms(result),
            dropped=result.dropped_before,
        )

    def close(self) -> None:
        self._answers.close()

    def _due_s(self, row: int, result: FrameResult) -> float:
        """When the frame should have been there; offline, when it was."""
        if self._speeds is None:
            return result.frame.read_s
        since_s = result.pts_s / self._speeds[row]
        return self._zeros.setdefault(row, result.frame.read_s - since_s) + since_s


def _stages(result: FrameResult, timed: TimedDecoding) -> Mapping[str, float]:
    looked = {stage: result.stage_ms[stage] for stage in LOOKING if stage in result.stage_ms}
    return {"decode": timed.take_ms(result.index), **looked}


def _queued_ms(result: FrameResult) -> float:
    worked_ms = sum(result.stage_ms.get(stage, 0.0) for stage in LOOKING)
    return max(0.0, result.age_s * 1e3 - worked_ms)
