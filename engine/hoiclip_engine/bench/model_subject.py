"""The model alone: pictures that are prepared already, to scored triplets."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hoiclip_engine.backends import Backend
from hoiclip_engine.bench.sample import Sample
from hoiclip_engine.looker import Postprocess
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.video.paced import Pacer


class Looks:
    """One prepared picture through backend and score rule, timed. Call it from as many threads as there are lanes."""

    def __init__(self, backend: Backend, postprocess: Postprocess, wait: Callable[[], object]) -> None:
        """Args: wait: for the device, before a time is read."""
        self._backend, self._postprocess, self._wait = backend, postprocess, wait

    def __call__(self, picture: ModelInput) -> dict[str, float]:
        """Milliseconds by stage."""
        self._wait()
        started = time.monotonic()
        raw = self._backend(picture)
        self._wait()
        inferred = time.monotonic()
        self._postprocess(raw, picture.original_hw[0])
        return {"infer": (inferred - started) * 1e3, "postprocess": (time.monotonic() - inferred) * 1e3}


class ModelQueries:
    """Closed load: a picture of each stream at once, and the next ones when all are done."""

    def __init__(self, looks: Looks, pictures: Sequence[ModelInput], lanes: int) -> None:
        self._looks, self._pictures = looks, pictures
        self._pool = ThreadPoolExecutor(lanes, "hoiclip-bench") if len(pictures) > 1 else None

    def ask(self) -> Sample:
        begun_s = time.monotonic()
        stages = (
            [self._looks(self._pictures[0])]
            if self._pool is None
            else list(self._pool.map(self._looks, self._pictures))
        )
        done_s = time.monotonic()
        latency_ms = (done_s - begun_s) * 1e3
        return Sample(
            done_s=done_s,
            latency_ms=latency_ms,
            stage_ms=stages,
            queue_ms=max(0.0, latency_ms - max(sum(of_frame.values()) for of_frame in stages)),
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class ModelFlow:
    """Open load: pictures of every stream arrive at a pace and queue for the model; none is ever dropped."""

    def __init__(self, looks: Looks, pictures: Sequence[ModelInput], lanes: int, fps: float) -> None:
        self._looks, self._pictures, self._fps = looks, pictures, fps
        self._waiting: queue.SimpleQueue[tuple[ModelInput, float] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Sample | BaseException] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._arriving = threading.Thread(target=self._arrive, name="hoiclip-bench-arrivals", daemon=True)
        self._workers = [
            threading.Thread(target=self._work, name=f"hoiclip-bench-{lane}", daemon=True) for lane in range(lanes)
        ]
        for thread in (self._arriving, *self._workers):
            thread.start()

    def take(self) -> Sample:
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
            for picture in self._pictures:
                self._waiting.put((picture, begun_s + number / self._fps))
            number += 1

    def _work(self) -> None:
        try:
            while (order := self._waiting.get()) is not None and not self._stopped.is_set():
                picture, due_s = order
                begun_s = time.monotonic()
                stages = self._looks(picture)
                done_s = time.monotonic()
                self._answers.put(
                    Sample(
                        done_s=done_s,
                        latency_ms=(done_s - due_s) * 1e3,
                        stage_ms=[stages],
                        queue_ms=(begun_s - due_s) * 1e3,
                    )
                )
        except BaseException as error:
            self._answers.put(error)
