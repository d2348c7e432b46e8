"""Concurrent inference: each frame gets its own result, batches are full, errors reach their requests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from typing import Any, cast

import numpy as np
import pytest

from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import EngineClosed
from hoiclip.core.preprocess import ModelInput, PreprocessConfig
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import Backend, Capacity
from hoiclip_engine.streaming.inference_worker import InferenceWorker

SIDE = 64


class FakeBackend:
    """Reports the brightness of each image in place of a logit, and closes after the last inference."""

    name = "fake"
    padded_hw = (SIDE, SIDE)

    def __init__(self, capacity: Capacity, inference_s: float = 0.0) -> None:
        self.capacity = capacity
        self.batches: list[int] = []
        self.at_once = self.most_at_once = self.closed = 0
        self._takes_s = inference_s
        self._lock = threading.Lock()

    def __call__(self, model_input: ModelInput) -> RawOutput:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.batches.append(len(model_input))
        time.sleep(self._takes_s)
        with self._lock:
            self.at_once -= 1
        if (bright := model_input.detector_bchw[:, 0, 0, 0]).max() > 2.2:  # a white image, normalised
            raise RuntimeError("too bright")
        b = len(model_input)
        return RawOutput(
            hoi_logits=np.zeros((b, 1, 1), np.float32) + bright[:, None, None],
            object_logits=np.zeros((b, 1, 2), np.float32),
            human_boxes_cxcywh=np.zeros((b, 1, 4), np.float32),
            object_boxes_cxcywh=np.zeros((b, 1, 4), np.float32),
            clip_cls=np.zeros((b, 1), np.float32),
        )

    def close(self) -> None:
        self.closed += 1


def brightness(raw: RawOutput, original_hw: tuple[int, int]) -> HOIDetections:
    assert len(raw) == 1
    return cast(HOIDetections, (float(raw.hoi_logits[0, 0, 0]), original_hw))


def image(level: int, height_px: int = SIDE) -> Any:
    return np.full((height_px, SIDE, 3), level, np.uint8)


SIZE = PreprocessConfig(short_side_px=SIDE, max_side_px=SIDE, clip_side_px=32, padded_hw=(SIDE, SIDE))


def worker_of(backend: FakeBackend, *, prefetch: bool = True) -> InferenceWorker:
    return InferenceWorker(cast(Backend, backend), SIZE, brightness, prefetch=prefetch)


@pytest.mark.parametrize(
    "capacity", [Capacity(), Capacity(num_requests=3), Capacity(batch=4), Capacity(batch=3, num_requests=2)]
)
@pytest.mark.parametrize("prefetch", [False, True])
def test_each_image_gets_its_own_result(capacity: Capacity, prefetch: bool) -> None:
    backend = FakeBackend(capacity, inference_s=0.001)
    worker = worker_of(backend, prefetch=prefetch)
    levels = [level * 4 for level in range(50)]
    futures = [worker.infer(image(level, height_px=SIDE - level % 8)) for level in levels]
    found = [cast(Any, future.result().detections) for future in futures]
    worker.close()
    assert [size for _, size in found] == [(SIDE - level % 8, SIDE) for level in levels]
    bright = [value for value, _ in found]
    assert bright == sorted(bright)
    assert len(set(bright)) == 50
    assert set(backend.batches) == {capacity.batch}
    assert backend.most_at_once <= capacity.num_requests


def test_worker_infers_waiting_images_in_one_batch() -> None:
    backend = FakeBackend(Capacity(batch=4), inference_s=0.05)
    worker = worker_of(backend, prefetch=False)
    futures = [worker.infer(image(index)) for index in range(9)]
    wait(futures)
    worker.close()
    assert len(backend.batches) <= 4  # 1, then 4 and 4 of those that waited; one more where a thread was late


@pytest.mark.parametrize("batch", [1, 2])
def test_clients_take_turns_however_many_requests_of_each_wait(batch: int) -> None:
    done: list[int] = []

    def noted(raw: RawOutput, original_hw: tuple[int, int]) -> HOIDetections:
        done.append(original_hw[0])  # the client
        return brightness(raw, original_hw)

    worker = InferenceWorker(
        cast(Backend, FakeBackend(Capacity(batch=batch), inference_s=0.01)), SIZE, noted, prefetch=False
    )
    first = worker.infer(image(0, height_px=30))
    while not first.running():
        time.sleep(0.001)
    counts = {60: 8, 50: 2, 40: 4}
    futures = [worker.infer(image(0, client), client=client) for client, count in counts.items() for _ in range(count)]
    wait(futures)
    worker.close()
    assert done == [30, 60, 50, 40, 60, 50, 40, 60, 40, 60, 40, 60, 60, 60, 60]


def test_worker_uses_requests_concurrently() -> None:
    backend = FakeBackend(Capacity(num_requests=3), inference_s=0.1)
    worker = worker_of(backend)
    wait([worker.infer(image(index)) for index in range(6)])
    worker.close()
    assert backend.most_at_once == 3


def test_error_reaches_its_own_request_only() -> None:
    worker = worker_of(FakeBackend(Capacity()))
    futures = [worker.infer(image(level)) for level in (10, 255, 20)]
    wait(futures)
    with pytest.raises(RuntimeError, match="too bright"):
        futures[1].result()
    assert futures[0].result()
    assert futures[2].result()
    bad = worker.infer(np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="expected an RGB image"):
        bad.result()
    worker.close()


def test_cancelled_request_is_not_inferred() -> None:
    backend = FakeBackend(Capacity(), inference_s=0.1)
    worker = worker_of(backend, prefetch=False)
    first, second = worker.infer(image(1)), worker.infer(image(2))
    assert second.cancel()
    first.result()
    worker.close()
    assert len(backend.batches) == 1


def test_close_ends_threads_behind_waiting_requests() -> None:
    before = set(threading.enumerate())
    worker = worker_of(FakeBackend(Capacity(batch=2, num_requests=2), inference_s=0.01))
    futures = [worker.infer(image(index)) for index in range(7)]
    assert len(set(threading.enumerate()) - before) == worker.num_threads
    worker.close()
    assert all(future.done() for future in futures)
    assert set(threading.enumerate()) <= before


def test_closed_worker_refuses_requests() -> None:
    worker = worker_of(FakeBackend(Capacity(batch=2, num_requests=2)))
    worker.close()
    worker.close()
    with pytest.raises(EngineClosed, match="closed meanwhile"):
        worker.infer(image(1))


def test_close_during_requests_answers_or_refuses_each_of_them() -> None:
    """A request that comes in while the threads end must not lie behind what ends them."""
    for _ in range(20):
        worker = worker_of(FakeBackend(Capacity(num_requests=2)))
        closer = threading.Thread(target=worker.close)
        futures, refused = [], 0
        for number in range(40):
            if number == 5:
                closer.start()
            try:
                futures.append(worker.infer(image(1)))
            except EngineClosed:
                refused += 1
        closer.join()
        assert len(futures) >= 5
        assert len(futures) + refused == 40
        for future in futures:
            assert future.result(timeout=30)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"num_requests": 0}])
def test_capacity_below_one_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Capacity(**wrong)
