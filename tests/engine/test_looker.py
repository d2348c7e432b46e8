"""Looks beside each other: each frame gets its own answer, batches are full, errors reach those who asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from typing import Any, cast

import numpy as np
import pytest

from hoiclip.errors import EngineClosed
from hoiclip_engine.backends import Backend
from hoiclip_engine.backends.capacity import Capacity
from hoiclip_engine.looker import Looker
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.preprocess import ModelInput, PreprocessConfig
from hoiclip_engine.raw_output import RawOutput

SIDE = 64


class FakeBackend:
    """Tells of each picture how bright it is, in place of a logit."""

    name = "fake"
    canvas_hw = (SIDE, SIDE)

    def __init__(self, capacity: Capacity, takes_s: float = 0.0) -> None:
        self.capacity = capacity
        self.batches: list[int] = []
        self.at_once = self.most_at_once = 0
        self._takes_s = takes_s
        self._lock = threading.Lock()

    def __call__(self, model_input: ModelInput) -> RawOutput:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.batches.append(len(model_input))
        time.sleep(self._takes_s)
        with self._lock:
            self.at_once -= 1
        if (bright := model_input.detector_bchw[:, 0, 0, 0]).max() > 2.2:  # a white picture, normalised
            raise RuntimeError("too bright")
        b = len(model_input)
        return RawOutput(
            hoi_logits=np.zeros((b, 1, 1), np.float32) + bright[:, None, None],
            object_logits=np.zeros((b, 1, 2), np.float32),
            human_boxes_cxcywh=np.zeros((b, 1, 4), np.float32),
            object_boxes_cxcywh=np.zeros((b, 1, 4), np.float32),
            clip_cls=np.zeros((b, 1), np.float32),
        )

    def close(self) -> None: ...


def brightness(raw: RawOutput, original_hw: tuple[int, int]) -> Pairs:
    assert len(raw) == 1
    return cast(Pairs, (float(raw.hoi_logits[0, 0, 0]), original_hw))


def picture(level: int, height_px: int = SIDE) -> Any:
    return np.full((height_px, SIDE, 3), level, np.uint8)


def looker_of(backend: FakeBackend, *, ahead: bool = True) -> Looker:
    config = PreprocessConfig(short_side_px=SIDE, max_side_px=SIDE, clip_side_px=32, canvas_hw=(SIDE, SIDE))
    return Looker(cast(Backend, backend), config, brightness, ahead=ahead)


@pytest.mark.parametrize("capacity", [Capacity(), Capacity(lanes=3), Capacity(batch=4), Capacity(batch=3, lanes=2)])
@pytest.mark.parametrize("ahead", [False, True])
def test_each_picture_gets_the_answer_to_itself(capacity: Capacity, ahead: bool) -> None:
    backend = FakeBackend(capacity, takes_s=0.001)
    looker = looker_of(backend, ahead=ahead)
    levels = [level * 4 for level in range(50)]
    answers = [looker.look(picture(level, height_px=SIDE - level % 8)) for level in levels]
    found = [cast(Any, answer.result().pairs) for answer in answers]
    looker.close()
    assert [size for _, size in found] == [(SIDE - level % 8, SIDE) for level in levels]
    bright = [value for value, _ in found]
    assert bright == sorted(bright)
    assert len(set(bright)) == 50
    assert set(backend.batches) == {capacity.batch}
    assert backend.most_at_once <= capacity.lanes


def test_pictures_that_wait_together_are_looked_at_together() -> None:
    backend = FakeBackend(Capacity(batch=4), takes_s=0.05)
    looker = looker_of(backend, ahead=False)
    answers = [looker.look(picture(index)) for index in range(9)]
    wait(answers)
    looker.close()
    assert len(backend.batches) <= 4  # 1, then 4 and 4 of those that waited; one more where a thread was late


def test_lanes_are_used_beside_each_other() -> None:
    backend = FakeBackend(Capacity(lanes=3), takes_s=0.1)
    looker = looker_of(backend)
    wait([looker.look(picture(index)) for index in range(6)])
    looker.close()
    assert backend.most_at_once == 3


def test_an_error_is_told_to_who_asked_and_to_nobody_else() -> None:
    looker = looker_of(FakeBackend(Capacity()))
    answers = [looker.look(picture(level)) for level in (10, 255, 20)]
    wait(answers)
    with pytest.raises(RuntimeError, match="too bright"):
        answers[1].result()
    assert answers[0].result()
    assert answers[2].result()
    bad = looker.look(np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="expected an RGB picture"):
        bad.result()
    looker.close()


def test_nobody_looks_at_what_was_cancelled() -> None:
    backend = FakeBackend(Capacity(), takes_s=0.1)
    looker = looker_of(backend, ahead=False)
    first, second = looker.look(picture(1)), looker.look(picture(2))
    assert second.cancel()
    first.result()
    looker.close()
    assert len(backend.batches) == 1


def test_closing_ends_the_workers_behind_what_waits() -> None:
    before = set(threading.enumerate())
    looker = looker_of(FakeBackend(Capacity(batch=2, lanes=2), takes_s=0.01))
    answers = [looker.look(picture(index)) for index in range(7)]
    assert len(set(threading.enumerate()) - before) == looker.workers
    looker.close()
    assert all(answer.done() for answer in answers)
    assert set(threading.enumerate()) <= before


def test_a_closed_looker_refuses_instead_of_never_answering() -> None:
    looker = looker_of(FakeBackend(Capacity(batch=2, lanes=2)))
    looker.close()
    looker.close()
    with pytest.raises(EngineClosed, match="closed meanwhile"):
        looker.look(picture(1))


def test_closing_beside_looks_answers_or_refuses_each_of_them() -> None:
    """A look that comes in while the workers end must not lie behind what ends them."""
    for _ in range(20):
        looker = looker_of(FakeBackend(Capacity(lanes=2)))
        closer = threading.Thread(target=looker.close)
        answers, refused = [], 0
        for number in range(40):
            if number == 5:
                closer.start()
            try:
                answers.append(looker.look(picture(1)))
            except EngineClosed:
                refused += 1
        closer.join()
        assert len(answers) >= 5
        assert len(answers) + refused == 40
        for answer in answers:
            assert answer.result(timeout=30)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"lanes": 0}])
def test_a_capacity_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Capacity(**wrong)
