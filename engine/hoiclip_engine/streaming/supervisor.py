"""Sources that come and go while a run lasts: a thread for each, which opens, streams, retries and is restarted.

A source that cannot be opened is tried again with growing delays. One that neither delivers a frame nor reports a loss
is wedged: it is stopped, and opened again; a thread that does not end is left behind, and there is a limit to those.
Nothing here knows engines, addresses of HTTP clients or files: the functions that open and write are given.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hoiclip.core.errors import HoiclipError, UsageError
from hoiclip.core.printable import one_line
from hoiclip_engine.sources.uri import SourceAddress
from hoiclip_engine.streaming.sink_writer import feed
from hoiclip_engine.streaming.stream import Stream
from hoiclip_engine.types.frame import SourceEvent, SourceState, SupervisedSource
from hoiclip_engine.types.results import Sink

MAX_SOURCES = 256
MAX_LEFT_BEHIND = 8
"""Threads that hang and were left behind; from then on nothing is started until one of them ends."""
_POLL_S = 0.2
_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig:
    """Time limits and delays of the sources of a run."""

    wedged_after_s: float = 30.0
    """Without a frame and without an event of a live source, although it is not known as lost."""
    stalled_after_s: float = 300.0
    """Without a result, although frames may be read: an output that hangs. A slow machine takes seconds for one."""
    start_limit_s: float = 900.0
    """Time to open a source; compiling a large model for its size takes minutes."""
    first_retry_s: float = 1.0
    max_retry_s: float = 60.0
    stop_s: float = 2.0
    """Time that a stopped source has to end, before its thread is left behind."""
    finish_s: float = 6.0
    """Time that outputs have besides, at the end of the run, to write the last results of their sources."""

    def __post_init__(self) -> None:
        limits_s = (self.wedged_after_s, self.stalled_after_s, self.start_limit_s)
        if min(*limits_s, self.first_retry_s, self.max_retry_s, self.stop_s, self.finish_s) <= 0:
            raise ValueError(f"times of a supervisor must be positive, got {self}")


class SourceOutputs(Protocol):
    """Where results of sources go. Called from the threads of the sources, of each source in turn."""

    def sinks_for(self, source_id: int, name: str, stream: Stream) -> list[Sink]:
        """Sinks for one pass over a source, whose stream has not begun.

        Raises:
            HoiclipError: one cannot be made.
        """
        ...

    def release(self, sinks: Sequence[Sink]) -> None:
        """Called once or twice when a pass is over, even where its thread hangs in one of these sinks."""
        ...

    def forget(self, source_id: int, name: str) -> None:
        """Called when a source is paused or removed: nothing of it is kept."""
        ...


OpenStream = Callable[[SourceAddress, int, str], Stream]
"""Opens a source, by its address, id and name; may take long."""


class Supervisor:
    """Owns the sources of a live run. All methods may be called from any thread; none waits for a source that hangs."""

    def __init__(
        self,
        open_stream: OpenStream,
        outputs: SourceOutputs,
        config: SupervisorConfig | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Args: on_change: called after every change of a state, from any thread; must not call back."""
        self.on_change = on_change
        self._open_stream, self._outputs = open_stream, outputs
        self._config = config or SupervisorConfig()
        self._rng = random.Random()
        self._entries: dict[int, _Entry] = {}
        self._next_id = 1
        self._left_behind: list[_Pass] = []
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hoiclip-supervisor", daemon=True)
        self._thread.start()

    def add(
        self, address: SourceAddress, name: str = "", *, source_id: int | None = None, state: SourceState = "starting"
    ) -> int:
        """Adds a source, which starts at once.

        Args:
            name: printable; empty for that of the address. A number is added where another source has it.
            source_id, state: of a source of an earlier run; one that was paused or had ended stays so.

        Returns:
            Its id.

        Raises:
            UsageError: there are too many sources already, or the run is ending.
        """
        with self._lock:
            if self._closed.is_set():
                raise UsageError("expected a run that goes on, found that it is ending; start it again")
            if len(self._entries) >= MAX_SOURCES:
                raise UsageError(f"expected at most {MAX_SOURCES} sources, found as many already; remove one")
            source_id = source_id or self._next_id
            self._next_id = max(self._next_id, source_id + 1)
            entry = _Entry(source_id, self._unused_name(name or address.name), address)
            entry.state = state if state in ("paused", "ended") else "starting"
            self._entries[source_id] = entry
            self._tend(entry)
        self.on_change()
        return source_id

    def pause(self, source_id: int) -> None:
        """Ends a source, and keeps it in the list; everything that it held is freed.

        Raises:
            KeyError: no source has this id.
        """
        with self._lock:
            entry = self._entries[source_id]
            current = entry.take_pass()
            entry.set_state("paused")
        self._end(entry, current)

    def resume(self, source_id: int) -> None:
        """Starts a source that was paused, has ended or has failed; others are not disturbed.

        Raises:
            KeyError: no source has this id.
        """
        with self._lock:
            entry = self._entries[source_id]
            if entry.state in ("paused", "ended", "failed"):
                entry.set_state("starting")
                entry.failures = 0
                self._tend(entry)
        self.on_change()

    def remove(self, source_id: int) -> None:
        """Ends a source and forgets it; everything that it held is freed.

        Raises:
            KeyError: no source has this id.
        """
        with self._lock:
            entry = self._entries.pop(source_id)
            current = entry.take_pass()
        self._end(entry, current)

    def sources(self) -> list[SupervisedSource]:
        """All sources, in the order of their ids."""
        with self._lock:
            return [self._entries[source_id].status() for source_id in sorted(self._entries)]

    def streams(self) -> list[tuple[int, Stream]]:
        """Sources that are streamed at the moment, by their ids."""
        with self._lock:
            current = [(source_id, entry.current) for source_id, entry in self._entries.items()]
        return [(source_id, run.stream) for source_id, run in current if run is not None and run.stream is not None]

    @property
    def num_left_behind(self) -> int:
        """Threads that hang and were left behind."""
        with self._lock:
            self._left_behind = [run for run in self._left_behind if run.is_alive]
            return len(self._left_behind)

    def close(self) -> None:
        """Ends all sources at the same time, and waits for their outputs; may be called again."""
        with self._lock:
            self._closed.set()
            entries, self._entries = list(self._entries.values()), {}
            running = [(entry, entry.take_pass()) for entry in entries]
        for _, current in running:
            if current is not None:
                current.stop()
        deadline_s = time.monotonic() + self._config.stop_s
        for entry, current in running:
            self._end(entry, current, deadline_s)
        deadline_s += self._config.finish_s
        # What they still write would find the record, the outbox and the evidence closed.
        for left_behind in list(self._left_behind):
            if left_behind.is_writing:
                left_behind.join(max(0.0, deadline_s - time.monotonic()))
        self._thread.join(self._config.stop_s)

    def _unused_name(self, name: str) -> str:
        taken, number, unused = {entry.name for entry in self._entries.values()}, 1, name
        while unused in taken:
            number += 1
            unused = f"{name} ({number})"
        return unused

    def _end(self, entry: _Entry, current: _Pass | None, deadline_s: float | None = None) -> None:
        if current is not None:
            current.stop()
            deadline_s = deadline_s or time.monotonic() + self._config.stop_s
            current.join(max(0.0, deadline_s - time.monotonic()))
            self._finish(current)
        self._outputs.forget(entry.id, entry.name)
        self.on_change()

    def _finish(self, run: _Pass) -> None:
        """Releases what a pass held; its thread is left behind where it hangs."""
        self._outputs.release(run.sinks)
        if run.is_alive:
            with self._lock:
                self._left_behind.append(run)

    def _watch(self) -> None:
        while not self._closed.wait(_POLL_S):
            with self._lock:
                entries = list(self._entries.values())
            for entry in entries:
                with self._lock:
                    is_changed = self._entries.get(entry.id) is entry and self._tend(entry)
                if is_changed:
                    self.on_change()

    def _tend(self, entry: _Entry) -> bool:
        """Does what a source needs next; never waits. Returns whether its state has changed."""
        before, current = entry.state, entry.current
        if current is None:
            if entry.state in ("starting", "waiting") and time.monotonic() >= entry.next_try_s:
                self._start(entry)
        elif current.is_over:
            self._conclude(entry, current)
        elif current.stopped_s is not None:
            if time.monotonic() - current.stopped_s > self._config.stop_s:
                self._restart(entry, current)
        elif (reason := current.wedged(self._config)) is not None:
            _log.warning("%s: %s; it is restarted", entry.name, reason)
            entry.restarts += 1
            current.stop()
        return entry.state != before or entry.current is not current

    def _start(self, entry: _Entry) -> None:
        if self.num_left_behind >= MAX_LEFT_BEHIND:
            entry.set_state("waiting", f"{MAX_LEFT_BEHIND} threads of sources hang; start the run again")
            entry.next_try_s = time.monotonic() + self._config.first_retry_s
            return
        entry.set_state("starting", entry.error)
        entry.current = _Pass(entry.id, entry.name, entry.address, self._open_stream, self._outputs, self.on_change)

    def _restart(self, entry: _Entry, current: _Pass) -> None:
        entry.take_pass()
        self._finish(current)
        entry.set_state("waiting", "it delivered nothing")
        entry.next_try_s = time.monotonic()

    def _conclude(self, entry: _Entry, current: _Pass) -> None:
        if current.stopped_s is not None:
            self._restart(entry, current)
            return
        entry.take_pass()
        self._finish(current)
        if not current.error:
            entry.set_state("ended")
        elif entry.address.kind == "file":
            entry.set_state("failed", current.error)
        else:
            self._retry_later(entry, current)
        if current.error:
            _log.warning("%s: %s", entry.name, current.error)

    def _retry_later(self, entry: _Entry, current: _Pass) -> None:
        config = self._config
        if time.monotonic() - current.begun_s > config.max_retry_s and current.frames:
            entry.failures = 0
        delay_s = min(config.max_retry_s, config.first_retry_s * 2.0 ** min(entry.failures, 30))
        entry.failures += 1
        entry.next_try_s = time.monotonic() + delay_s * self._rng.uniform(0.75, 1.0)
        entry.set_state("waiting", current.error)


class _Entry:
    """A source in the list; guarded by the supervisor's lock."""

    def __init__(self, source_id: int, name: str, address: SourceAddress) -> None:
        self.id, self.name, self.address = source_id, name, address
        self.state: SourceState = "starting"
        self.error = ""
        self.current: _Pass | None = None
        self.frames = self.failures = self.restarts = 0
        self.next_try_s = 0.0

    def take_pass(self) -> _Pass | None:
        current, self.current = self.current, None
        if current is not None:
            self.frames = current.frames
        return current

    def set_state(self, state: SourceState, error: str = "") -> None:
        self.state, self.error = state, error

    def status(self) -> SupervisedSource:
        state, error, current = self.state, self.error, self.current
        if current is not None and current.frames and current.stopped_s is None:
            state, error = ("running", "") if current.lost_reason is None else ("lost", current.lost_reason)
        return SupervisedSource(
            id=self.id,
            name=self.name,
            address=self.address.name,
            kind=self.address.kind,
            state=state,
            error=error,
            frames=self.frames if current is None else current.frames,
            restarts=self.restarts,
        )


class _Pass:
    """One pass over a source, in a thread of its own: open, stream, write. Counts what `feed` reports."""

    def __init__(
        self,
        source_id: int,
        name: str,
        address: SourceAddress,
        open_stream: OpenStream,
        outputs: SourceOutputs,
        on_change: Callable[[], None],
    ) -> None:
        self._id, self._name, self._address = source_id, name, address
        self._open_stream, self._outputs, self._on_change = open_stream, outputs, on_change
        self.stream: Stream | None = None
        self.sinks: list[Sink] = []
        self.frames = 0
        self.lost_reason: str | None = None
        self.error = ""
        self.begun_s = self._result_s = self._read_s = time.monotonic()
        self._frames_read = 0
        self.stopped_s: float | None = None
        """When its end was requested, by time.monotonic()."""
        self._is_streaming = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="hoiclip-source-run", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether a thread of it still runs: its own, or the one that reads its source."""
        return self._thread.is_alive() or (self.stream is not None and self.stream.is_reading)

    @property
    def is_writing(self) -> bool:
        """Whether results of it may still be written."""
        return self._thread.is_alive() and self._is_streaming

    def stop(self) -> None:
        """Requests the end; never waits."""
        with self._lock:
            self.stopped_s = self.stopped_s or time.monotonic()
            stream = self.stream
        if stream is not None:
            stream.stop()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def wedged(self, config: SupervisorConfig) -> str | None:
        """The reason to restart it, if there is one. Called now and then."""
        now_s, stream = time.monotonic(), self.stream
        if stream is None or not self._is_streaming:
            limit_s = config.start_limit_s
            return f"not open after {limit_s:.0f} s" if now_s - self._result_s > limit_s else None
        if stream.frames_read != self._frames_read:
            self._frames_read, self._read_s = stream.frames_read, now_s
        if self.lost_reason is not None:
            return None
        if now_s - self._result_s > config.stalled_after_s:
            return f"no result for {config.stalled_after_s:.0f} s"
        # A file waits for us; of a live source frames are read even where none of them has a result.
        is_silent = now_s - max(self._read_s, self._result_s) > config.wedged_after_s
        is_live = stream.header.policy == "latest"
        return f"neither a frame nor an event for {config.wedged_after_s:.0f} s" if is_live and is_silent else None

    # Called by `feed`.

    def __call__(self) -> None:
        self.frames += 1
        self._result_s = time.monotonic()
        if self.frames == 1:
            self._on_change()

    def report(self, event: SourceEvent) -> None:
        self._result_s = time.monotonic()
        self.lost_reason = event.reason if event.event == "source_lost" else None
        words = "lost" if event.event == "source_lost" else "back"
        _log.warning("%s %s at %.2f s: %s", self._name, words, event.pts_s, event.reason)
        self._on_change()

    def _run(self) -> None:
        try:
            self._stream_to_sinks()
        except HoiclipError as error:
            self.error = one_line(str(error))
        except Exception as error:  # a bug in one source is no matter of the others
            self.error = one_line(f"internal error, {type(error).__name__}: {error}")
        finally:
            self._outputs.release(self.sinks)  # also of a thread that was left behind and ends late

    def _stream_to_sinks(self) -> None:
        stream = self._open_stream(self._address, self._id, self._name)
        with self._lock:
            self.stream = stream
            is_stopped = self.stopped_s is not None
        if is_stopped:
            stream.close()
            return
        try:
            self.sinks = self._outputs.sinks_for(self._id, self._name, stream)
        except BaseException:
            stream.close()
            raise
        self._result_s, self._is_streaming = time.monotonic(), True
        feed(stream, self.sinks, self)
