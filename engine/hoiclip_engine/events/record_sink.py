"""Rows of a run, for the record: the run itself, pairs while they are seen, verb events, hits of rules."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoiclip.core.vocabulary import PERSON
from hoiclip_engine.events.databases import stored_time
from hoiclip_engine.events.schema import Row
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink, WallClock
from hoiclip_engine.types.rule_hits import Evidence, RuleHit
from hoiclip_engine.types.tracked_pairs import Event

_BLINK_S = 1.0
"""A pair that never does anything is recorded once it is there for so long: false ones are shorter."""


class RecordSink(Sink):
    """Writes one source's run into a record."""

    def __init__(self, put: Callable[[Iterable[Row]], None], checkpoint_s: float) -> None:
        """
        Args:
            put: takes rows without waiting.
            checkpoint_s: seconds from one writing of the times at which pairs were last seen to the next.
        """
        self._put, self._checkpoint_s = put, checkpoint_s

    def start(self, header: RunHeader) -> None:
        self._header, self._clock = header, WallClock(header)
        self._numbers: dict[tuple[int, str], int] = {}
        """Number of each verb event that has not ended."""
        self._next_number = 0
        self._seen: dict[int, _SeenPair] = {}
        self._checkpoint_at = time.monotonic() + self._checkpoint_s
        self._put(self._run_rows())

    def write(self, result: FrameResult) -> None:
        """Queues events and hits, and pairs that are new; most frames have nothing new."""
        now_s = time.monotonic()
        self._clock.see(result)
        rows = self._see_pairs(result)
        if now_s >= self._checkpoint_at:
            self._checkpoint_at = now_s + self._checkpoint_s
            rows += self._run_rows() + self._checkpoint_rows(result)
        rows += [self._event_row(event) for event in result.events]
        rows += [self._hit_row(hit) for hit in result.rule_hits]
        if rows:
            self._put(rows)

    def finish(self, summary: RunSummary) -> None:
        rows = self._all_pair_rows()
        rows += [self._event_row(event) for event in summary.closing_events]
        rows += [self._hit_row(hit) for hit in summary.closing_hits]
        rows += self._run_rows(summary)
        self._put(rows)

    def _at(self, pts_s: float) -> str:
        return stored_time(self._clock.at(pts_s))

    def _run_rows(self, summary: RunSummary | None = None) -> list[Row]:
        header, now = self._header, stored_time()
        source: dict[str, Any] = {
            "source": header.source,
            "first_at": stored_time(header.started_at),
            "last_at": now,
        }
        run: dict[str, Any] = {
            "run_id": header.run_id,
            "source": header.source,
            "model": header.model,
            "model_sha256": header.model_sha256,
            "vocabulary": header.vocabulary.name,
            "backend": header.backend,
            "precision": header.precision,
            "policy": header.policy,
            "width_px": header.width_px,
            "height_px": header.height_px,
            "started_at": stored_time(header.started_at),
            "last_at": now,
            "ended_at": None,
            "first_s": self._clock.first_s,
        }
        if summary is not None:
            run |= {
                "ended_at": now,
                "decoded": summary.decoded,
                "detected": summary.detected,
                "dropped": summary.dropped,
                "reconnects": summary.reconnects,
                "interrupted": summary.interrupted,
            }
        return [("sources", source), ("runs", run)]

    def _see_pairs(self, result: FrameResult) -> list[Row]:
        """Notes when pairs were seen last, and returns rows of those that are to be recorded from now on.

        Pairs come and go from frame to frame. When they were seen last is written at checkpoints only.
        """
        pairs, objects, rows = result.pairs, self._header.vocabulary.objects, list[Row]()
        ids = pairs.pair, pairs.human, pairs.object, pairs.label, pairs.verb_active.any(axis=1)
        for pair, human, obj, label, acts in zip(*(each.tolist() for each in ids), strict=True):
            seen = self._seen.get(pair)
            if seen is None or seen.human != human or seen.object != obj:
                first_s = result.pts_s if seen is None else seen.first_s
                word = objects[label] if label >= 0 else ""
                self._seen[pair] = seen = _SeenPair(human, obj, word, first_s, result.pts_s)
            seen.last_s = result.pts_s
            if not seen.is_recorded and (acts or seen.last_s - seen.first_s >= _BLINK_S):
                seen.is_recorded = True
                rows += self._pair_rows(pair)
        return rows

    def _checkpoint_rows(self, result: FrameResult) -> list[Row]:
        """Rows of pairs since the last checkpoint; those that are gone are forgotten."""
        rows = self._all_pair_rows()
        present = set(result.pairs.pair.tolist())
        self._seen = {pair: seen for pair, seen in self._seen.items() if pair in present}
        return rows

    def _all_pair_rows(self) -> list[Row]:
        return [row for pair, seen in self._seen.items() if seen.is_recorded for row in self._pair_rows(pair)]

    def _pair_rows(self, pair: int) -> list[Row]:
        """Rows of a pair and of its human and object, which other pairs may have too."""
        seen, run_id = self._seen[pair], self._header.run_id
        span = {
            "first_s": seen.first_s,
            "last_s": seen.last_s,
            "first_at": self._at(seen.first_s),
            "last_at": self._at(seen.last_s),
        }
        both = {"pair": pair, "human": seen.human, "object": _present(seen.object), "label": seen.label}
        human = {"track": seen.human, "kind": "human", "label": PERSON}
        rows: list[Row] = [
            ("pairs", {"run_id": run_id, **both, **span}),
            ("tracks", {"run_id": run_id, **human, **span}),
        ]
        if seen.object >= 0:
            obj = {"track": seen.object, "kind": "object", "label": seen.label}
            rows.append(("tracks", {"run_id": run_id, **obj, **span}))
        return rows

    def _event_row(self, event: Event) -> Row:
        vocabulary, has_ended = self._header.vocabulary, event.event == "end"
        verb = vocabulary.verbs[event.verb_index]
        start_s = event.pts_s if event.start_s is None else event.start_s
        return "events", {
            "run_id": self._header.run_id,
            "pair": event.pair,
            "verb": verb,
            "start_s": start_s,
            "number": self._number_of(event.pair, verb, has_ended),
            "human": event.human,
            "object": _present(event.object),
            "label": vocabulary.objects[event.label_index] if event.label_index >= 0 else "",
            "end_s": event.pts_s if has_ended else None,
            "peak_score": event.peak_score,
            "evidence_s": json.dumps(event.evidence_s) if has_ended else None,
            "start_at": self._at(start_s),
            "end_at": self._at(event.pts_s) if has_ended else None,
        }

    def _number_of(self, pair: int, verb: str, has_ended: bool) -> int:
        number = self._numbers.pop((pair, verb), None) if has_ended else None
        if number is None:
            number, self._next_number = self._next_number, self._next_number + 1
        if not has_ended:
            self._numbers[pair, verb] = number
        return number

    def _hit_row(self, hit: RuleHit) -> Row:
        has_ended = hit.event == "end"
        return "rule_hits", {
            "run_id": self._header.run_id,
            "hit": hit.hit,
            "rule": hit.rule,
            "pair": _present(hit.pair),
            "human": _present(hit.human),
            "object": _present(hit.object),
            "verb": hit.verb,
            "label": hit.label,
            "start_s": hit.start_s,
            "last_s": hit.pts_s,
            "end_s": hit.pts_s if has_ended else None,
            "peak_score": hit.peak_score,
            "peak_s": hit.peak_s,
            "start_at": self._at(hit.start_s),
            "end_at": self._at(hit.pts_s) if has_ended else None,
        }


def evidence_row(evidence: Evidence) -> Row:
    """The paths of evidence of a verb event or a hit."""
    return "evidence", {
        "run_id": evidence.run_id,
        "hit": evidence.hit if evidence.hit is not None else -1,
        "pair": evidence.pair,
        "verb": evidence.verb,
        "start_s": evidence.start_s,
        "rule": evidence.rule,
        "snapshot": _path(evidence.snapshot),
        "clip": _path(evidence.clip),
        "clip_start_s": evidence.clip_start_s,
        "clip_end_s": evidence.clip_end_s,
        "reencoded": evidence.reencoded,
        "recorded_at": stored_time(),
    }


@dataclass(slots=True)
class _SeenPair:
    human: int
    object: int
    label: str
    first_s: float
    last_s: float
    is_recorded: bool = False


def _present(identity: int) -> int | None:
    return identity if identity >= 0 else None


def _path(path: Path | None) -> str | None:
    return None if path is None else os.path.abspath(path)
