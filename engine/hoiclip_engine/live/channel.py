"""One source on the live page: the newest result, and pictures and messages made of it for whoever watches.

Writing swaps one reference and wakes the server. Drawing and JPEG happen in the server's own drawing thread, at most
once per frame and setting, only while somebody watches, and never for a frame that is no longer the newest.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any

import cv2

from hoiclip.vocabulary import NO_INTERACTION
from hoiclip_engine.frame import SourceEvent
from hoiclip_engine.live.bell import Bell
from hoiclip_engine.live.metrics import SourceMetrics
from hoiclip_engine.live.shown import Shown
from hoiclip_engine.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.sinks.annotate import Annotator
from hoiclip_engine.sinks.jsonl_sink import event_fields, pair_fields, source_event_fields
from hoiclip_engine.sinks.letterbox import letterbox

MAX_PICTURE_PX = 1280
"""Longest side of a picture that is sent."""
MAX_PICTURES_PER_S = 15.0
JPEG_QUALITY = 80
AGAIN_AFTER_S = 1.0
"""The same picture is sent again: Chromium shows one only when the next begins, and who has left is noticed."""
EVENTS_KEPT = 200
RATE_OVER_FRAMES = 50


class Channel(Sink):
    """A sink for one thread; everything async is for the server's."""

    def __init__(self, name: str, opened: Callable[[Channel, RunHeader], None], closed: Callable[[], None]) -> None:
        """Args: opened, closed: told when the source begins and ends; `opened` calls `attach`."""
        self.name = name
        self._opened, self._closed = opened, closed
        self._slot: tuple[int, FrameResult | None] = (0, None)
        self._arrivals_s: deque[float] = deque(maxlen=RATE_OVER_FRAMES)
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=EVENTS_KEPT)
        self._lock = threading.Lock()
        self._event_number = 0
        self.decoded = self.dropped = self.reconnects = 0
        self.lost_reason: str | None = None
        """Why the source is away; None while it is there."""
        self.is_started = self.ended = False
        self.last_sign_s = time.monotonic()
        """When something last came from the source."""
        self._drawings: dict[Shown, tuple[int, asyncio.Task[bytes]]] = {}
        self._message: tuple[int, str] = (-1, "")

    def attach(self, header: RunHeader, metrics: SourceMetrics, bell: Bell, drawer: Executor) -> None:
        """What the server gives to a source that begins."""
        self.header, self._metrics, self._bell, self._drawer = header, metrics, bell, drawer
        self._annotator = Annotator(header.vocabulary, header.notice)
        self.is_started = True
        bell.ring()

    # From the run's thread.

    def start(self, header: RunHeader) -> None:
        self._opened(self, header)
        self.last_sign_s = time.monotonic()

    def write(self, result: FrameResult) -> None:
        """Never waits: no drawing, no encoding, no network."""
        self._metrics.frame(result)
        self.decoded += 1 + result.dropped_before
        self.dropped += result.dropped_before
        self.last_sign_s = time.monotonic()
        self._arrivals_s.append(self.last_sign_s)
        self._tell([event_fields(event, self.header.vocabulary) for event in result.events])
        self._slot = self._slot[0] + 1, result
        self._bell.ring()

    def source_event(self, event: SourceEvent) -> None:
        self.last_sign_s = time.monotonic()
        if event.event == "source_lost":
            self._metrics.source_lost()
            self.lost_reason = event.reason
        else:
            self._metrics.source_back()
            self.reconnects += 1
            self.lost_reason = None
        self._tell([source_event_fields(event)])
        self._slot = self._slot[0] + 1, self._slot[1]
        self._bell.ring()

    def finish(self, summary: RunSummary) -> None:
        self._metrics.ended(summary)
        self._tell([event_fields(event, self.header.vocabulary) for event in summary.closing_events])
        self.ended = True
        self.last_sign_s = time.monotonic()
        self._slot = self._slot[0] + 1, None  # a thousand films must not leave a thousand pictures in memory
        self._bell.ring()
        self._closed()

    def _tell(self, events: list[dict[str, Any]]) -> None:
        with self._lock:
            for event in events:
                self._event_number += 1
                self._events.append((self._event_number, event))

    # In the server's thread.

    @property
    def sequence(self) -> int:
        """Grows with everything that happens."""
        return self._slot[0]

    def hello(self) -> dict[str, Any]:
        """What does not change."""
        vocabulary = self.header.vocabulary
        return {
            "name": self.name,
            "notice": self.header.notice,
            "policy": self.header.policy,
            "width_px": self.header.width_px,
            "height_px": self.header.height_px,
            "verbs": [verb for verb in vocabulary.verbs if verb != NO_INTERACTION],
        }

    def message(self) -> str:
        """JSON of the newest result and the state of the source, made once for all viewers."""
        sequence, result = self._slot
        if self._message[0] != sequence:
            state = "ended" if self.ended else "live" if self.lost_reason is None else "lost"
            fields: dict[str, Any] = {
                "state": state,
                "reason": self.lost_reason or "",
                "frames_per_s": round(self._rate(), 1),
                "decoded": self.decoded,
                "dropped": self.dropped,
                "reconnects": self.reconnects,
            }
            if result is not None:
                fields |= self._frame(result)
            self._message = sequence, json.dumps(fields, allow_nan=False, separators=(",", ":"))
        return self._message[1]

    def events_after(self, number: int) -> tuple[int, list[dict[str, Any]]]:
        """Those a viewer has not seen yet, as far back as they are kept, and the number of the last."""
        with self._lock:
            return self._event_number, [event for its_number, event in self._events if its_number > number]

    async def pictures(self, shown: Shown, bell: Bell) -> AsyncIterator[bytes]:
        """JPEGs, each the newest at the time the viewer is ready for one."""
        seen, picture = 0, b""
        while True:
            change = bell.next()
            sequence, result = self._slot
            if result is not None and sequence != seen:
                begun_s = time.monotonic()
                picture = await self._picture(shown, sequence, result)
                yield picture
                seen = sequence
                await asyncio.sleep(max(0.0, 1 / MAX_PICTURES_PER_S - (time.monotonic() - begun_s)))
            elif self.ended:
                return
            else:
                try:
                    await asyncio.wait_for(change.wait(), AGAIN_AFTER_S)
                except asyncio.TimeoutError:
                    if seen:
                        yield picture

    async def _picture(self, shown: Shown, sequence: int, result: FrameResult) -> bytes:
        known = self._drawings.get(shown)
        if known is None or (known[0] != sequence and known[1].done()):
            self._drawings = {key: one for key, one in self._drawings.items() if not one[1].done()}
            drawing = asyncio.ensure_future(self._drawn(shown, result))
            known = self._drawings[shown] = sequence, drawing
        # A viewer that leaves must not take the picture of the others along.
        return await asyncio.shield(known[1])

    async def _drawn(self, shown: Shown, result: FrameResult) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._drawer, self._draw, shown, result)

    def _draw(self, shown: Shown, result: FrameResult) -> bytes:
        frame, pairs = result.frame, shown.of(result.pairs)
        longest_px = max(frame.width_px, frame.height_px)
        if longest_px > MAX_PICTURE_PX:
            scale = MAX_PICTURE_PX / longest_px
            size_px = max(1, round(frame.width_px * scale)), max(1, round(frame.height_px * scale))
            fit = letterbox(frame.width_px, frame.height_px, *size_px)
            frame, pairs = fit.frame(frame, *size_px), fit.pairs(pairs)
        bgr = cv2.cvtColor(self._annotator.draw(frame, pairs), cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return bytes(jpeg)

    def _frame(self, result: FrameResult) -> dict[str, Any]:
        pairs, vocabulary = result.pairs, self.header.vocabulary
        return {
            "index": result.index,
            "pts_s": round(result.pts_s, 3),
            "detected": result.detected,
            "age_ms": round(result.age_s * 1e3, 1),
            "stage_ms": {stage: round(took_ms, 2) for stage, took_ms in result.stage_ms.items()},
            "pairs": [pair_fields(pairs, row, vocabulary) for row in range(len(pairs))],
        }

    def _rate(self) -> float:
        arrivals_s = list(self._arrivals_s)
        if len(arrivals_s) < 2 or time.monotonic() - arrivals_s[-1] > 5:
            return 0.0
        return (len(arrivals_s) - 1) / max(arrivals_s[-1] - arrivals_s[0], 1e-9)
