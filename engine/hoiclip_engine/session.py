"""Sessions: a compiled model with its workers, and the small cache of them behind an engine's conveniences.

A session is never closed by the cache while a lease on it is held; each open stream holds one.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from hoiclip.core.detections import HOIDetections
from hoiclip.core.preprocess import PreprocessConfig
from hoiclip_engine.backends.base import Backend
from hoiclip_engine.sources.base import FrameSource, SourceConfig
from hoiclip_engine.sources.playback import PacedSource
from hoiclip_engine.streaming.inference_worker import ClipScene, Inference, InferenceWorker, Postprocess
from hoiclip_engine.streaming.stream import Stream, StreamConfig, StreamFactory
from hoiclip_engine.types.frame import FrameImage

WARM_UP_INFERENCES = 2
MAX_IDLE_SESSIONS = 1
"""Sessions kept without a lease, the last used ones; each holds weights and buffers of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """Size and capacity of a session."""

    padded_hw: tuple[int, int]
    """Height and width that images are padded to, see Engine.padded_size_for."""
    batch: int = 1
    """Images that are inferred together, where the backend can."""
    num_requests: int = 1
    """Concurrent inference requests, where the backend can."""
    prefetch: bool = False
    """Prepares frames while others are inferred: more frames a second, each a little later."""
    keeps_clip: bool = False
    """CLIP may run less often than the rest (StreamConfig.clip_every); then images are inferred one by one."""


class Session:
    """A compiled model with its workers, independent of other sessions. May be called from any thread.

    A session that is no longer referenced lives on as long as one of its streams. `close` ends it at once.
    """

    def __init__(
        self,
        backend: Backend,
        preprocess_config: PreprocessConfig,
        postprocess: Postprocess,
        streams: StreamFactory,
        config: SessionConfig,
    ) -> None:
        """Takes the backend over and warms it up; made by Engine.compile.

        Args:
            preprocess_config: with the backend's padded size.
            config: as requested; `backend.capacity` may be less.
        """
        self.backend, self.config = backend, config
        self.leases: weakref.WeakSet[SessionLease] = weakref.WeakSet()
        """A lease that is garbage-collected, with the stream that held it, no longer counts."""
        self._streams = streams
        self._worker = InferenceWorker(backend, preprocess_config, postprocess, prefetch=config.prefetch)
        weakref.finalize(self, self._worker.end).atexit = False  # waits for nothing, as finalizers run in any thread
        self.inference_s = 0.0
        """Duration of one inference, as measured after compiling."""
        # The first inferences compile kernels and touch memory; they should not be frames of a stream.
        image = np.zeros((*config.padded_hw, 3), np.uint8)
        try:
            for _ in range(WARM_UP_INFERENCES):
                started = time.perf_counter()
                self.infer(image).result()
                self.inference_s = time.perf_counter() - started
        except BaseException:
            self.close()
            raise

    @property
    def prefetch_depth(self) -> int:
        """Frames that must be submitted ahead so that no worker idles."""
        return self._worker.prefetch_depth

    def infer(self, image: FrameImage, scene: ClipScene | None = None) -> Future[Inference]:
        """Submits an image (H, W, 3), also one on a GPU; the future holds its detections and the time of each stage.

        Args:
            scene: with keeps_clip, what other images of it have in common with this one; None: nothing.

        Raises:
            EngineClosed: the session has been closed.
        """
        return self._worker.infer(image, scene)

    def detect(self, image: FrameImage) -> HOIDetections:
        """Triplets of one image (H, W, 3), by the official rules.

        Raises:
            EngineClosed: the session has been closed.
        """
        return self.infer(image).result().detections

    def stream(
        self,
        source: str | Path | FrameSource,
        config: StreamConfig | None = None,
        source_config: SourceConfig | None = None,
    ) -> Stream:
        """The stream of a source, to be iterated in any one thread. Several share the session.

        Args:
            source: a file, a stream or a camera (docs/sources.md), or a source that is open already.
            config: a file under the policy `latest` plays in real time.

        Raises:
            SourceError: nothing can be read from the source.
            UsageError: lossless was asked of a source that does not wait; the source is closed.
        """
        config = config or StreamConfig()
        if isinstance(source, (str, Path)):
            frames = open_frames(source, source_config, device_frames=self._worker.takes_device_frames)
        else:
            frames = source
        if config.policy == "latest" and not frames.is_live:
            frames = PacedSource(frames)
        lease = SessionLease(self)
        try:
            return self._streams.open(
                frames,
                lambda image, scene=None: self._worker.infer(image, scene, client=lease),
                config,
                inference_s=self.inference_s,
                prefetch_depth=self.prefetch_depth,
                on_end=lease.release,
            )
        except BaseException:
            frames.close()
            raise

    def close(self) -> None:
        """Frees the model. Inferences in flight are finished, later ones and open streams raise EngineClosed."""
        self._worker.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_frames(source: str | Path, config: SourceConfig | None = None, *, device_frames: bool = False) -> FrameSource:
    """Opens a source by its address. Imports PyAV, which detecting in images does not need.

    Args:
        device_frames: whether the model takes frames on the GPU that decoded them.

    Raises:
        SourceError: nothing can be read from the source.
    """
    from hoiclip_engine.sources.open_source import open_source
    from hoiclip_engine.sources.uri import parse_address

    config = config or SourceConfig()
    if device_frames:
        config = replace(config, device_frames=True)
    return open_source(parse_address(str(source)), config)


class SessionLease:
    """Keeps a session in the cache until `release`, or until the lease is garbage-collected."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.leases.add(self)

    def release(self) -> None:
        """May be called again. The session is closed when the next lease is taken: a stream may be ended by Python's
        garbage collection, in any thread, which must not wait."""
        self.session.leases.discard(self)

    def __enter__(self) -> Session:
        return self.session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class SessionCache:
    """Sessions of one engine. May be called from any thread; no holder of a lease waits for a compilation."""

    def __init__(self, compile_session: Callable[[SessionConfig], Session]) -> None:
        self._compile_session = compile_session
        self._sessions: list[Session] = []  # the last used one last
        self._lock = threading.Lock()
        self._compiling = threading.Lock()

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Cached sessions, the last used one last."""
        return tuple(self._sessions)

    def lease(self, config: SessionConfig, *, any_capacity: bool = False) -> SessionLease:
        """A lease on a session of this configuration, compiled if none is cached.

        Args:
            any_capacity: takes one of the same padded size, whatever its capacity.

        Raises:
            ModelError: it cannot be compiled.
        """
        if lease := self._cached(config, any_capacity):
            self._close_idle(MAX_IDLE_SESSIONS)
            return lease
        with self._compiling:
            if lease := self._cached(config, any_capacity):  # another thread needed the same
                return lease
            self._close_idle(MAX_IDLE_SESSIONS - 1)  # before its memory is needed
            session = self._compile_session(config)
            with self._lock:
                self._sessions.append(session)
                return SessionLease(session)

    def close(self) -> None:
        """Closes all of them, also those in use."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _cached(self, config: SessionConfig, any_capacity: bool) -> SessionLease | None:
        with self._lock:
            for session in reversed(self._sessions):
                same_size = session.config.padded_hw == config.padded_hw
                if session.config == config or (any_capacity and same_size):
                    self._sessions.remove(session)
                    self._sessions.append(session)
                    return SessionLease(session)
        return None

    def _close_idle(self, limit: int) -> None:
        with self._lock:
            idle = [session for session in self._sessions if not session.leases]
            closing = idle[: max(0, len(idle) - limit)]
            self._sessions = [session for session in self._sessions if session not in closing]
        for session in closing:
            session.close()
