"""One source on the live page: its newest result, and the images and messages made of it for viewers.

Writing swaps one reference and wakes the server. Drawing and JPEG encoding run in one thread of the server, at most
once per frame and view, only while there are viewers, and never for a frame that is no longer the newest.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hoiclip.core.jpeg import encode_jpeg
from hoiclip.core.vocabulary import NO_INTERACTION, Vocabulary
from hoiclip_engine.live.metrics import SourceMetrics
from hoiclip_engine.sinks.annotate import Annotator, letterbox
from hoiclip_engine.sinks.jsonl_sink import event_fields, pair_fields, rule_event_fields, source_event_fields
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

MAX_IMAGE_PX = 1280
"""Longest side of an image that is sent."""
MAX_IMAGES_PER_S = 15.0
JPEG_QUALITY = 80
RESEND_AFTER_S = 1.0
"""Interval of sending an unchanged image again: Chromium shows an image only when the next one begins, and viewers that
have left are detected."""
MAX_EVENTS = 200
RATE_WINDOW = 50
"""Frames."""
MAX_VERBS_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """Filter of a viewer: minimum scores and verbs. Viewers with equal settings share the rendered images."""

    min_score: float = 0.0
    """Score of the pair."""
    min_verb: float = 0.0
    """Score of a verb."""
    verbs: frozenset[int] | None = None
    """Indices; None: all."""

    @staticmethod
    def from_query(query: Mapping[str, str], vocabulary: Vocabulary) -> ViewSettings:
        """Parses scores, rounded to hundredths, and comma-separated verb names; unknown names match nothing.

        Raises:
            ValueError: an invalid score, or an excessively long list.
        """
        names = query.get("verbs", "")
        if len(names) > MAX_VERBS_CHARACTERS:
            raise ValueError(f"expected at most {MAX_VERBS_CHARACTERS} characters of verbs")
        wanted = {"_".join(name.split()).lower() for name in names.split(",")} - {""}
        verbs = frozenset(index for index, verb in enumerate(vocabulary.verbs) if verb.lower() in wanted)
        return ViewSettings(
            min_score=_score(query.get("min_score", "0")),
            min_verb=_score(query.get("min_verb", "0")),
            verbs=verbs if wanted else None,
        )

    def select(self, pairs: TrackedPairs) -> TrackedPairs:
        """Selects the pairs and verbs to draw; a pair without an active verb only if verbs are not filtered."""
        active = pairs.verb_active & (pairs.verb_scores >= self.min_verb)
        if self.verbs is not None:
            wanted = np.zeros(active.shape[1], np.bool_)
            wanted[list(self.verbs)] = True
            active &= wanted
        idle = ~pairs.verb_active.any(axis=1) & (self.verbs is None) & (self.min_verb == 0)
        selected = (pairs.score >= self.min_score) & (active.any(axis=1) | idle)
        return replace(pairs, verb_active=active).rows(selected)


class WakeupEvent:
    """Wakes coroutines of the server from the threads of a run; costs next to nothing without listeners.

    `notify` may be called from any thread, everything else from the thread of the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next: asyncio.Event | None = None
        self._is_pending = False
        self.listeners = 0

    def notify(self) -> None:
        """Notifications before the loop runs again are merged."""
        if self.listeners and not self._is_pending:
            self._is_pending = True
            self._loop.call_soon_threadsafe(self._fire)

    def next(self) -> asyncio.Event:
        """Event of the next notification. Take it before reading state, so that no change is missed."""
        if self._next is None:
            self._next = asyncio.Event()
        return self._next

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    def _fire(self) -> None:
        self._is_pending = False
        pending, self._next = self._next, None
        if pending is not None:
            pending.set()


class Channel(Sink):
    """Sink of one source. Sink methods are for the thread of the run, coroutines for the thread of the server."""

    def __init__(
        self, name: str, number: int, opened: Callable[[Channel, RunHeader], None], closed: Callable[[], None]
    ) -> None:
        """Creates a channel; `opened`, which calls `attach`, and `closed` are called when the source starts or ends.

        Args:
            number: names the source in addresses of the page.
        """
        self.name, self.number = name, number
        self._opened, self._closed = opened, closed
        self._slot: tuple[int, FrameResult | None, bool] = (0, None, False)
        self._received_s: deque[float] = deque(maxlen=RATE_WINDOW)
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MAX_EVENTS)
        self._lock = threading.Lock()
        self._event_number = 0
        self.decoded = self.dropped = self.reconnects = 0
        self.lost_reason: str | None = None
        """Reason of a lost source; None while it is connected."""
        self.is_started = False
        self._is_detached = False
        self.last_activity_s = time.monotonic()
        """Time of the latest frame or event of the source."""
        self._renderings: dict[ViewSettings, tuple[int, asyncio.Task[bytes]]] = {}
        self._message: tuple[int, str] = (-1, "")

    def attach(self, header: RunHeader, metrics: SourceMetrics, wakeup: WakeupEvent, draw_executor: Executor) -> None:
        """Connects a source that starts to the server."""
        self.header, self._metrics, self._wakeup, self._draw_executor = header, metrics, wakeup, draw_executor
        self._annotator = Annotator(header.vocabulary, header.notice)
        self.is_started = True
        wakeup.notify()

    def detach(self) -> None:
        """Ends it, also where the source's thread hangs; what still comes is ignored. May be called again."""
        self._is_detached = True
        self._slot = self._slot[0] + 1, None, True
        if self.is_started:
            self._wakeup.notify()

    # From the run's thread.

    def start(self, header: RunHeader) -> None:
        self._opened(self, header)
        self.last_activity_s = time.monotonic()

    def write(self, result: FrameResult) -> None:
        """Never waits: no drawing, no encoding, no network."""
        if self._is_detached:
            return
        self._metrics.frame(result)
        self.decoded += 1 + result.dropped_before
        self.dropped += result.dropped_before
        self.last_activity_s = time.monotonic()
        self._received_s.append(self.last_activity_s)
        self._record_events(self._fields(result.events, result.rule_hits))
        self._slot = self._slot[0] + 1, result, False
        self._wakeup.notify()

    def source_event(self, event: SourceEvent) -> None:
        if self._is_detached:
            return
        self.last_activity_s = time.monotonic()
        if event.event == "source_lost":
            self._metrics.source_lost()
            self.lost_reason = event.reason
        else:
            self._metrics.source_back()
            self.reconnects += 1
            self.lost_reason = None
        self._record_events([source_event_fields(event)])
        self._slot = self._slot[0] + 1, *self._slot[1:]
        self._wakeup.notify()

    def finish(self, summary: RunSummary) -> None:
        if self._is_detached:
            return
        self._metrics.ended(summary)
        self._record_events(self._fields(summary.closing_events, summary.closing_hits))
        self.last_activity_s = time.monotonic()
        self._slot = self._slot[0] + 1, None, True  # a thousand videos must not leave a thousand images in memory
        self._wakeup.notify()
        self._closed()

    def _fields(self, events: Iterable[Event], hits: Iterable[RuleHit]) -> list[dict[str, Any]]:
        """Updates of hits are left out: they would push the starts off the list."""
        started_or_ended = [rule_event_fields(hit) for hit in hits if hit.event != "update"]
        return [*(event_fields(event, self.header.vocabulary) for event in events), *started_or_ended]

    def _record_events(self, events: list[dict[str, Any]]) -> None:
        with self._lock:
            for event in events:
                self._event_number += 1
                self._events.append((self._event_number, event))

    # In the server's thread.

    @property
    def ended(self) -> bool:
        """Whether the source has ended; true from the very change that says so."""
        return self._slot[2]

    @property
    def sequence(self) -> int:
        """Number of the latest change."""
        return self._slot[0]

    def description(self) -> dict[str, Any]:
        """Constant fields of the source, for the first message to a viewer."""
        vocabulary = self.header.vocabulary
        return {
            "name": self.name,
            "run_id": self.header.run_id,
            "notice": self.header.notice,
            "policy": self.header.policy,
            "width_px": self.header.width_px,
            "height_px": self.header.height_px,
            "verbs": [verb for verb in vocabulary.verbs if verb != NO_INTERACTION],
            "objects": list(vocabulary.objects),
        }

    def message(self) -> str:
        """JSON of the newest result and the state of the source, encoded once for all viewers."""
        sequence, result, ended = self._slot
        if self._message[0] != sequence:
            state = "ended" if ended else "live" if self.lost_reason is None else "lost"
            fields: dict[str, Any] = {
                "state": state,
                "reason": self.lost_reason or "",
                "frames_per_s": round(self._frames_per_s(), 1),
                "decoded": self.decoded,
                "dropped": self.dropped,
                "reconnects": self.reconnects,
            }
            if result is not None:
                fields |= self._frame_fields(result)
            self._message = sequence, json.dumps(fields, allow_nan=False, separators=(",", ":"))
        return self._message[1]

    def events_after(self, number: int) -> tuple[int, list[dict[str, Any]]]:
        """Number of the latest event, and the kept events that a viewer has not received yet."""
        with self._lock:
            return self._event_number, [event for event_number, event in self._events if event_number > number]

    async def images(self, view: ViewSettings, wakeup: WakeupEvent) -> AsyncIterator[bytes]:
        """Yields JPEGs, each the newest when the viewer is ready for one."""
        seen, image = 0, b""
        while True:
            change = wakeup.next()
            sequence, result, ended = self._slot
            if result is not None and sequence != seen:
                begun_s = time.monotonic()
                image = await self._image(view, sequence, result)
                yield image
                seen = sequence
                await asyncio.sleep(max(0.0, 1 / MAX_IMAGES_PER_S - (time.monotonic() - begun_s)))
            elif ended:
                return
            else:
                try:
                    await asyncio.wait_for(change.wait(), RESEND_AFTER_S)
                except asyncio.TimeoutError:
                    if seen:
                        yield image

    async def _image(self, view: ViewSettings, sequence: int, result: FrameResult) -> bytes:
        known = self._renderings.get(view)
        if known is None or (known[0] != sequence and known[1].done()):
            self._renderings = {key: pending for key, pending in self._renderings.items() if not pending[1].done()}
            rendering = asyncio.ensure_future(self._render_in_executor(view, result))
            known = self._renderings[view] = sequence, rendering
        # A viewer that leaves must not cancel the rendering for others.
        return await asyncio.shield(known[1])

    async def _render_in_executor(self, view: ViewSettings, result: FrameResult) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._draw_executor, self._render, view, result)

    def _render(self, view: ViewSettings, result: FrameResult) -> bytes:
        frame, pairs, shapes = result.frame, view.select(result.pairs), result.rule_shapes
        longest_px = max(frame.width_px, frame.height_px)
        if longest_px > MAX_IMAGE_PX:
            scale = MAX_IMAGE_PX / longest_px
            size_px = max(1, round(frame.width_px * scale)), max(1, round(frame.height_px * scale))
            fit = letterbox(frame.width_px, frame.height_px, *size_px)
            frame, pairs, shapes = fit.frame(frame, *size_px), fit.pairs(pairs), fit.shapes(shapes)
        return encode_jpeg(self._annotator.draw(frame, pairs, shapes), JPEG_QUALITY)

    def _frame_fields(self, result: FrameResult) -> dict[str, Any]:
        pairs, vocabulary = result.pairs, self.header.vocabulary
        return {
            "index": result.index,
            "pts_s": round(result.pts_s, 3),
            "detected": result.detected,
            "age_ms": round(result.age_s * 1e3, 1),
            "stage_ms": {stage: round(took_ms, 2) for stage, took_ms in result.stage_ms.items()},
            "pairs": [pair_fields(pairs, row, vocabulary) for row in range(len(pairs))],
        }

    def _frames_per_s(self) -> float:
        received_s = list(self._received_s)
        if len(received_s) < 2 or time.monotonic() - received_s[-1] > 5:
            return 0.0
        return (len(received_s) - 1) / max(received_s[-1] - received_s[0], 1e-9)


def _score(text: str) -> float:
    value = float(text) if len(text) <= 20 else math.nan
    if not 0 <= value <= 1:
        raise ValueError("expected scores from 0 to 1")
    return round(value, 2)
