"""An engine made slower on purpose, by a known share: what a gate has to notice."""

from __future__ import annotations

import time

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip_engine.backends import Backend
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput

_SPUN_S = 0.0005
"""The last part of a wait is not slept: the system wakes sleepers late."""


class SlowedBackend:
    """Gives each answer after (1 + share) times as long as it took."""

    def __init__(self, backend: Backend, share: float) -> None:
        self.name, self.canvas_hw, self.capacity = backend.name, backend.canvas_hw, backend.capacity
        self._backend, self._share = backend, share

    def __call__(self, model_input: ModelInput) -> RawOutput:
        begun_s = time.perf_counter()
        raw = self._backend(model_input)
        now_s = time.perf_counter()
        due_s = now_s + self._share * (now_s - begun_s)
        time.sleep(max(0.0, due_s - now_s - _SPUN_S))
        while time.perf_counter() < due_s:
            pass
        return raw

    def close(self) -> None:
        self._backend.close()


class SlowedEngine(Engine):
    """Every model it compiles is slower."""

    def __init__(self, model: ModelFile, config: EngineConfig, share: float) -> None:
        super().__init__(model, config)
        self._share = share

    def compiled(self, canvas_hw: tuple[int, int], wanted: Capacity = ONE) -> Backend:
        backend = super().compiled(canvas_hw, wanted)
        return SlowedBackend(backend, self._share) if self._share else backend
