"""Compiled models of one engine: made once for what is needed of them, shared, and never closed under whoever uses one.

A lease says that somebody uses a model; a model without leases may go. How a model is compiled is the engine's
business, how frames get through it the looker's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from weakref import WeakSet

from hoiclip_engine.backends import Backend
from hoiclip_engine.backends.capacity import Capacity
from hoiclip_engine.looker import Looker

MOST_IDLE = 1
"""Models kept without a lease, the last used ones; each holds weights and buffers of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is needed of a compiled model; equal needs share one."""

    canvas_hw: tuple[int, int]
    capacity: Capacity
    ahead: bool
    """Whether frames are prepared while others are inferred (Looker)."""


@dataclass(slots=True, eq=False)
class CompiledModel:
    """A backend and the workers around it."""

    needs: Needs
    backend: Backend
    looker: Looker
    look_s: float
    """How long one look takes."""
    leases: WeakSet[Lease] = field(default_factory=WeakSet)
    """A lease that is forgotten, with the stream that held it, counts no longer."""

    def close(self) -> None:
        """Frees it; whoever still looks with it gets EngineClosed."""
        self.looker.close()
        self.backend.close()


class Lease:
    """The right to use a model until `release`, or until the lease is forgotten."""

    def __init__(self, model: CompiledModel) -> None:
        self.model = model
        model.leases.add(self)

    @property
    def looker(self) -> Looker:
        return self.model.looker

    def release(self) -> None:
        """May be called again. The model goes when the next lease is asked for: a stream that is forgotten is ended by
        Python's garbage collection, in any thread, where nothing may be waited for."""
        self.model.leases.discard(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class CompiledModels:
    """All of an engine. May be called from any thread; nobody who has a lease waits for a model to be compiled."""

    def __init__(self, compile_model: Callable[[Needs], CompiledModel]) -> None:
        self._compile_model = compile_model
        self._models: list[CompiledModel] = []  # the last used one last
        self._lock = threading.Lock()
        self._compiling = threading.Lock()

    def lease(self, needs: Needs, *, any_capacity: bool = False) -> Lease:
        """A model for these needs, compiled if there is none.

        Args:
            any_capacity: takes one of the same canvas, whatever else was needed of it.

        Raises:
            ModelError: it cannot be compiled.
        """
        if lease := self._leased(needs, any_capacity):
            self._close_idle(MOST_IDLE)
            return lease
        with self._compiling:
            if lease := self._leased(needs, any_capacity):  # somebody else needed the same
                return lease
            self._close_idle(MOST_IDLE - 1)  # before its memory is needed
            model = self._compile_model(needs)
            with self._lock:
                self._models.append(model)
                return Lease(model)

    def close(self) -> None:
        """Frees all of them, also those in use: looks that are under way are finished, later ones get EngineClosed."""
        with self._lock:
            models, self._models = self._models, []
        for model in models:
            model.close()

    def _leased(self, needs: Needs, any_capacity: bool) -> Lease | None:
        with self._lock:
            for model in reversed(self._models):
                if model.needs == needs or (any_capacity and model.needs.canvas_hw == needs.canvas_hw):
                    self._models.remove(model)
                    self._models.append(model)
                    return Lease(model)
        return None

    def _close_idle(self, most: int) -> None:
        with self._lock:
            idle = [model for model in self._models if not model.leases]
            going = idle[: max(0, len(idle) - most)]
            self._models = [model for model in self._models if model not in going]
        for model in going:
            model.close()
