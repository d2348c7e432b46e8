"""At-least-once outbox: messages about events wait here until every target has acknowledged them.

Sinks put messages without waiting. A thread per target delivers them in order, and again with growing pauses after a
failure; when too many wait, the oldest are dropped and counted. Ids are stable, so that a receiver can drop repeats.
With a file (outbox_file.py) what was not acknowledged is delivered by the next run, also after a kill. Targets are
sinks/webhook.py and sinks/mqtt.py.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

from hoiclip.core.errors import SinkError
from hoiclip_engine.events.outbox_file import Message, OutboxFile
from hoiclip_engine.sinks.jsonl_sink import event_fields, rule_event_fields, source_event_fields
from hoiclip_engine.sources.uri import file_names
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event

_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxConfig:
    """Size and pace of an outbox."""

    capacity: int = 10_000
    """Messages that wait at most for a target; then the oldest are dropped."""
    first_pause_s: float = 0.5
    """Before a second attempt; doubled before each further one, with jitter."""
    last_pause_s: float = 30.0
    drain_s: float = 0.5
    """Seconds after the end of a run in which messages are still delivered: an interrupt ends a run within a second."""

    def __post_init__(self) -> None:
        if self.capacity < 1 or not 0 < self.first_pause_s <= self.last_pause_s:
            raise ValueError(f"expected a capacity of at least 1 and growing, positive pauses, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Outcome of one attempt to deliver."""

    acknowledged: Collection[str] = ()
    """Ids of the messages that arrived."""
    failure: str = ""
    """Why the others did not, in one line without credentials."""
    is_final: bool = False
    """Whether the others would be refused again: they are dropped."""
    retry_slowly: bool = False
    """Whether only a person can mend it, such as a wrong password."""


class Target(Protocol):
    """A receiver of messages, called from one thread."""

    key: str
    """Its name in an outbox file: one target of each kind."""
    name: str
    """Its address without credentials."""
    idle_s: float | None
    """Seconds without messages after which it is given none, to keep a connection; None: never."""

    @property
    def batch(self) -> int:
        """Messages of an attempt at most."""
        ...

    @property
    def collect_s(self) -> float:
        """Seconds over which messages are collected into a batch."""
        ...

    def deliver(self, messages: Sequence[Message]) -> Receipt:
        """Attempts to deliver messages; takes seconds at most."""
        ...

    def close(self) -> None:
        """Ends its connection; it may be used again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCounters:
    """Messages of one target; every message is delivered, dropped or waiting."""

    target: str
    delivered: int
    retried: int
    """Messages that were sent again."""
    dropped: int
    """Messages that were refused for good, given up at the end, or the oldest of too many."""
    waiting: int
    last_failure: str


class TargetQueue:
    """Messages that wait for one target, oldest first, and their counts. Any thread may call it."""

    def __init__(self, target: str, key: str, capacity: int, file: OutboxFile | None) -> None:
        """Args: target: its printable name. key: its name in the file."""
        self.changed = threading.Condition()
        """Guards everything here, and is notified of new messages."""
        self._target, self._key, self._capacity, self._file = target, key, capacity, file
        self._waiting: OrderedDict[int, Message] = OrderedDict()
        self._attempted: list[int] = []
        self._delivered = self._retried = self._dropped = 0
        self._last_failure = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, messages: Sequence[tuple[int, Message]], *, is_kept: bool = False) -> None:
        """Adds messages with their numbers, which grow; never waits. Args: is_kept: the file has them already."""
        with self.changed:
            for number, message in messages:
                self._waiting[number] = message
                if self._file is not None and not is_kept:
                    self._file.keep(self._key, number, message)
            while len(self._waiting) > self._capacity:
                self._remove(next(iter(self._waiting)))
                self._dropped += 1
            self.changed.notify_all()

    def take(self, limit: int) -> list[Message]:
        """The oldest messages; after a failure those of the last attempt. They wait until `settle` removes them."""
        with self.changed:
            self._attempted = [number for number in self._attempted if number in self._waiting]
            self._retried += len(self._attempted)
            self._attempted = self._attempted or list(islice(self._waiting, limit))
            return [self._waiting[number] for number in self._attempted]

    def settle(self, receipt: Receipt) -> None:
        """Removes what the last attempt has acknowledged, or refused for good."""
        with self.changed:
            for number in self._attempted:
                message = self._waiting.get(number)
                if message is None:
                    continue
                if message.id in receipt.acknowledged:
                    self._delivered += 1
                elif receipt.failure and receipt.is_final:
                    self._dropped += 1
                else:
                    continue
                self._remove(number)
            self._last_failure = receipt.failure or self._last_failure

    def abandon(self) -> None:
        """Drops what waits, unless a file keeps it."""
        if self._file is not None:
            return
        with self.changed:
            self._dropped += len(self._waiting)
            self._waiting.clear()

    def counters(self) -> TargetCounters:
        with self.changed:
            return TargetCounters(
                target=self._target,
                delivered=self._delivered,
                retried=self._retried,
                dropped=self._dropped,
                waiting=len(self._waiting),
                last_failure=self._last_failure,
            )

    def _remove(self, number: int) -> None:
        del self._waiting[number]
        if self._file is not None:
            self._file.forget(self._key, number)


class _Courier:
    """The thread that delivers to one target."""

    def __init__(self, target: Target, config: OutboxConfig, file: OutboxFile | None) -> None:
        self.target = target
        self.queue = TargetQueue(target.name, target.key, config.capacity, file)
        self._config = config
        self._changed = self.queue.changed
        self._deadline_s: float | None = None
        self._thread: threading.Thread | None = None
        self._warned: set[str] = set()
        self._reported_dropped = 0

    def start(self) -> None:
        """Starts the thread, or lets one that is about to end continue."""
        with self._changed:
            self._deadline_s = None
            if self._thread is None:
                name = f"hoiclip-{self.target.key}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()

    def end(self, deadline_s: float) -> None:
        """Lets the thread end once nothing waits, or at this time."""
        with self._changed:
            self._deadline_s = deadline_s
            self._changed.notify_all()

    def join(self, deadline_s: float) -> None:
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    @property
    def _ending(self) -> bool:
        return self._deadline_s is not None

    def newly_dropped(self) -> int:
        """Messages that were dropped since the last call."""
        dropped = self.queue.counters().dropped
        new, self._reported_dropped = dropped - self._reported_dropped, dropped
        return new

    def _work(self) -> None:
        while True:
            self._deliver_until_the_end()
            self.target.close()
            with self._changed:
                if self._ending:
                    self._thread = None
                    return

    def _deliver_until_the_end(self) -> None:
        failures, idle_s = 0, None if self.target.idle_s is None else 0.0  # connects at once
        while (batch := self._next_batch(idle_s)) is not None:
            idle_s = self.target.idle_s
            receipt = self._attempt(batch)
            self.queue.settle(receipt)
            self._log_outcome(receipt)
            if not receipt.failure or receipt.is_final:
                failures = 0
            elif self._paused(failures, receipt):
                failures += 1
            else:
                return

    def _next_batch(self, idle_s: float | None) -> list[Message] | None:
        """Waits for messages. Empty where the target wants to be called without; None at the end."""
        target = self.target
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.queue) or self._ending, idle_s)
            if not arrived:
                return []
            if not len(self.queue):
                return None
            self._changed.wait_for(lambda: len(self.queue) >= target.batch or self._ending, target.collect_s)
            return self.queue.take(target.batch)

    def _attempt(self, batch: list[Message]) -> Receipt:
        try:
            return self.target.deliver(batch)
        except Exception as error:  # its text may hold an address
            return Receipt(failure=f"internal error, {type(error).__name__}")

    def _paused(self, failures: int, receipt: Receipt) -> bool:
        """Waits before the next attempt; the end of the run cuts it short. Returns: whether there is time for one."""
        config = self._config
        pause_s = min(config.first_pause_s * 2 ** min(failures, 30), config.last_pause_s)
        pause_s = config.last_pause_s if receipt.retry_slowly else pause_s
        pause_s *= random.uniform(0.5, 1.0)
        with self._changed:
            if self._deadline_s is None:
                self._changed.wait_for(lambda: self._ending, pause_s)
                return True
            if time.monotonic() + pause_s > self._deadline_s:
                return False
        time.sleep(pause_s)
        return True

    def _log_outcome(self, receipt: Receipt) -> None:
        """A line for each reason of an outage, and one for its end. The end of a run reports failures itself."""
        if not receipt.failure and self._warned:
            self._warned.clear()
            _log.info("%s takes messages again", self.target.name)
        elif receipt.failure and receipt.failure not in self._warned and not self._ending:
            self._warned.add(receipt.failure)
            outcome = "the messages are dropped" if receipt.is_final else f"{len(self.queue)} messages wait"
            _log.warning("%s: %s; %s", self.target.name, receipt.failure, outcome)


class Outbox:
    """Messages of all sources of a run for all targets. `sink()` makes a sink per source.

    Its threads and its file are open from the first start of a sink to the last finish.
    """

    def __init__(self, targets: Sequence[Target], path: Path | None = None, config: OutboxConfig | None = None) -> None:
        """Opens nothing. Args: path: of a file that keeps messages until they are acknowledged; None: in memory."""
        self._config = config or OutboxConfig()
        self._file = None if path is None else OutboxFile(path)
        self._couriers = [_Courier(target, self._config, self._file) for target in targets]
        self._lock = threading.Lock()
        self._open_sinks = 0
        self._is_open = self._is_loaded = False
        self._numbers = count()

    def sink(self, name: str = "") -> Sink:
        """A sink of one source. Args: name: distinct and safe for files; empty: made of the source's name."""
        return _OutboxSink(self, name)

    def counters(self) -> tuple[TargetCounters, ...]:
        return tuple(courier.queue.counters() for courier in self._couriers)

    def put(self, messages: Sequence[Message]) -> None:
        """Queues messages for every target; never waits."""
        numbered = [(next(self._numbers), message) for message in messages]
        for courier in self._couriers:
            courier.queue.put(numbered)

    def opened(self) -> None:
        """Counts a source that begins.

        Raises:
            SinkError: the file cannot be opened, or another run uses it.
        """
        with self._lock:
            if not self._is_open:
                self._open()
            self._open_sinks += 1

    def closed(self) -> None:
        """Counts a source that has ended; the last one closes the outbox.

        Raises:
            SinkError: as in close.
        """
        with self._lock:
            self._open_sinks -= 1
            if self._open_sinks <= 0:
                self._close()

    def close(self) -> None:
        """Delivers for a moment; then what waits stays in the file, or is given up.

        Raises:
            SinkError: some messages were not delivered and are not in a file.
        """
        with self._lock:
            self._close()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def _open(self) -> None:
        if self._file is not None:
            self._file.open()
            if not self._is_loaded:
                self._load(self._file)
        self._is_loaded = self._is_open = True
        for courier in self._couriers:
            courier.start()

    def _load(self, file: OutboxFile) -> None:
        self._numbers = count(file.next_number)
        for courier in self._couriers:
            courier.queue.put(file.load(courier.target.key), is_kept=True)

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open, self._open_sinks = False, 0
        deadline_s = time.monotonic() + self._config.drain_s
        for courier in self._couriers:
            courier.end(deadline_s)
        for courier in self._couriers:
            courier.join(deadline_s)
            courier.queue.abandon()
        if self._file is not None:
            self._file.close()
        for courier in self._couriers:
            if lost := courier.newly_dropped():
                why = courier.queue.counters().last_failure or "it is too slow"
                raise SinkError(
                    f"{lost} events could not be delivered to {courier.target.name}: {why}; JSON lines have them all"
                )

    def notes(self) -> tuple[str, ...]:
        """A line per target with its counts."""
        return tuple(_note(counters) for counters in self.counters())


def _note(counters: TargetCounters) -> str:
    why = f"; last failure: {counters.last_failure}" if counters.last_failure else ""
    return (
        f"{counters.target}: {counters.delivered} messages delivered, {counters.retried} sent again, "
        f"{counters.dropped} dropped, {counters.waiting} waiting{why}"
    )


class _OutboxSink(Sink):
    """Makes messages of the events, rule hits and losses of one source."""

    def __init__(self, outbox: Outbox, name: str) -> None:
        self._outbox, self._name = outbox, name
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Counts per target, once the last source has ended."""
        return self._notes

    def start(self, header: RunHeader) -> None:
        self._header, self._numbers = header, count()
        self._name = self._name or file_names([header.source])[0]
        self._outbox.opened()

    def write(self, result: FrameResult) -> None:
        if result.events or result.rule_hits:
            self._put(self._fields(result.events, result.rule_hits))

    def source_event(self, event: SourceEvent) -> None:
        self._put([(event.event.replace("_", "."), source_event_fields(event))])

    def finish(self, summary: RunSummary) -> None:
        self._put(self._fields(summary.closing_events, summary.closing_hits))
        try:
            self._outbox.closed()
        finally:
            if not self._outbox.is_open:
                self._notes = self._outbox.notes()

    def _fields(self, events: Sequence[Event], hits: Sequence[RuleHit]) -> list[tuple[str, dict[str, Any]]]:
        """Kind and fields of each."""
        vocabulary = self._header.vocabulary
        of_events = [(f"verb.{event.event}", event_fields(event, vocabulary)) for event in events]
        return of_events + [(f"rule.{hit.event}", rule_event_fields(hit)) for hit in hits]

    def _put(self, reports: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        if not reports:
            return
        reported_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        messages = [
            Message(
                id=f"{self._header.run_id}-{next(self._numbers)}",
                kind=kind,
                source=self._name,
                time=reported_at,
                payload={"source": self._header.source, **fields},
            )
            for kind, fields in reports
        ]
        self._outbox.put(messages)
