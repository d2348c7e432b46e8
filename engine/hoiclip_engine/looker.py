"""Looks at frames for any number of streams: preprocess, infer, postprocess, several frames under way at once.

Streams hand frames in and get futures. Workers prepare one frame while another is inferred, and frames that wait at the
same time, of whichever streams, become one batch where the backend takes several. What was looked at and when is the
pipeline's business.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import EngineClosed
from hoiclip_engine.backends import Backend
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.preprocess import ModelInput, PreprocessConfig, preprocess, stack
from hoiclip_engine.raw_output import RawOutput

RGB = NDArray[np.uint8]
Postprocess = Callable[[RawOutput, tuple[int, int]], Pairs]


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in a frame, and how long each stage took."""

    pairs: Pairs
    stage_ms: dict[str, float]


@dataclass(slots=True)
class _Order:
    """A frame that is to be looked at."""

    rgb: RGB
    answer: Future[Look]


class Looker:
    """Workers around one compiled model. `look` may be called from any thread."""

    def __init__(self, backend: Backend, config: PreprocessConfig, postprocess: Postprocess, *, ahead: bool) -> None:
        """
        Args:
            config: with the backend's canvas.
            ahead: prepares frames while others are inferred, for throughput; without, each is inferred at once.
        """
        self._backend, self._config, self._postprocess = backend, config, postprocess
        self._free_lanes = threading.BoundedSemaphore(backend.capacity.lanes)
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._open = True
        self._gate = threading.Lock()  # so that no order comes in behind what ends the workers
        self.workers = backend.capacity.lanes + ahead
        self._threads = [
            threading.Thread(target=self._work, name=f"hoiclip-look-{number}", daemon=True)
            for number in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def frames_ahead(self) -> int:
        """How many frames must wait or be under way so that no worker ever idles."""
        return self.workers * self._backend.capacity.batch + 1

    def look(self, rgb: RGB) -> Future[Look]:
        """(H, W, 3); the future brings what is found, or why nothing could be.

        Raises:
            EngineClosed: nobody is there any more who would look.
        """
        order = _Order(rgb, Future())
        with self._gate:
            if not self._open:
                raise EngineClosed("expected an open engine, found that it was closed meanwhile; open the stream again")
            self._orders.put(order)
        return order.answer

    def close(self) -> None:
        """Ends the workers behind what waits; may be called again."""
        with self._gate:
            if self._open:
                self._open = False
                for _ in self._threads:
                    self._orders.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (orders := self._next_orders()) is not None:
            orders = [order for order in orders if order.answer.set_running_or_notify_cancel()]
            try:
                looks = self._looks([order.rgb for order in orders]) if orders else []
            except BaseException as error:
                for order in orders:
                    order.answer.set_exception(error)
                continue
            for order, look in zip(orders, looks, strict=True):
                order.answer.set_result(look)

    def _next_orders(self) -> list[_Order] | None:
        """One frame, and as many as wait with it and fit into a batch; None at the end."""
        first = self._orders.get()
        if first is None:
            return None
        orders = [first]
        while len(orders) < self._backend.capacity.batch:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                break
            if order is None:
                self._orders.put(None)
                break
            orders.append(order)
        return orders

    def _looks(self, pictures: list[RGB]) -> list[Look]:
        started = time.perf_counter()
        inputs = [preprocess(rgb, self._config) for rgb in pictures]
        model_input = _of_size(inputs, self._backend.capacity.batch)
        prepared = time.perf_counter()
        with self._free_lanes:
            begun = time.perf_counter()
            raw = self._backend(model_input).require_finite()
            inferred = time.perf_counter()
        count = len(pictures)
        looks: list[Look] = []
        for row, one in enumerate(inputs):
            before = time.perf_counter()
            pairs = self._postprocess(raw if len(raw) == 1 else raw.image(row), one.original_hw[0])
            stage_ms = {
                "preprocess": (prepared - started) * 1e3 / count,
                "infer": (inferred - begun) * 1e3 / count,
                "postprocess": (time.perf_counter() - before) * 1e3,
            }
            looks.append(Look(pairs, stage_ms))
        return looks


def _of_size(inputs: list[ModelInput], batch: int) -> ModelInput:
    """One batch of exactly so many pictures; the last one again where there are fewer."""
    return stack([*inputs, *[inputs[-1]] * (batch - len(inputs))])
