"""Writes results as JSON lines, schema hoiclip/1: a header, frames, events and hits of rules as they happen, a summary.

Every line is complete when it is written, so that a killed run leaves a readable file. Only the summary holds wall
times: the rest of two runs over the same input is the same to the byte. A run that drops frames ("latest") is not
repeatable, and reports with every frame its age and how many were dropped before it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.sinks.text_sinks import TextFile
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

SCHEMA = "hoiclip/1"
MIN_LISTED_SCORE = 0.05
"""Verbs that are neither active nor at least this likely are left out: a line has dozens otherwise."""
_SCORE_DIGITS = 4
_BOX_DIGITS = 1
_TIME_DIGITS = 6
_AGE_DIGITS = 1


class JsonlSink(Sink):
    """A file of JSON lines, or stdout for "-"."""

    def __init__(self, path: str | Path) -> None:
        """Touches no file."""
        self._path = path

    def start(self, header: RunHeader) -> None:
        """Creates the file and writes the header.

        Raises:
            SinkError: the file cannot be created.
        """
        self._file = TextFile(self._path)
        self._vocabulary = header.vocabulary
        self._size_px = header.width_px, header.height_px
        self._reports_age = header.policy == "latest"
        self._put({"type": "header", "schema": SCHEMA, **header_fields(header)})

    def write(self, result: FrameResult) -> None:
        """Writes a frame, then the events and the hits of rules it showed.

        Raises:
            SinkError: the disk is full, or the reader of the pipe has exited.
        """
        frame = result.frame
        line: dict[str, Any] = {
            "type": "frame",
            "index": result.index,
            "pts_s": rounded_time(result.pts_s),
            "detected": result.detected,
        }
        if result.reason is not None:
            line["reason"] = result.reason
        if result.region is not None:
            line["region_xyxy"] = result.region
        if (frame.width_px, frame.height_px) != self._size_px:
            line |= {"width_px": frame.width_px, "height_px": frame.height_px}
        if self._reports_age:
            age_ms = rounded_number(result.age_s * 1e3, _AGE_DIGITS)
            line |= {"dropped_before": result.dropped_before, "age_ms": age_ms}
        line["pairs"] = [pair_fields(result.pairs, row, self._vocabulary) for row in range(len(result.pairs))]
        self._put(line)
        for event in result.events:
            self._put({"type": "event", **event_fields(event, self._vocabulary)})
        self._put_hits(result.rule_hits)

    def source_event(self, event: SourceEvent) -> None:
        """Writes that the source is lost or back.

        Raises:
            SinkError: as in write.
        """
        self._put({"type": "event", **source_event_fields(event)})

    def finish(self, summary: RunSummary) -> None:
        """Writes the closing events, the ends of open hits and the summary, and closes the file.

        Raises:
            SinkError: as in write.
        """
        for event in summary.closing_events:
            self._put({"type": "event", **event_fields(event, self._vocabulary)})
        self._put_hits(summary.closing_hits)
        self._put(_summary(summary))
        self._file.close()

    def _put_hits(self, hits: Iterable[RuleHit]) -> None:
        for hit in hits:
            self._put({"type": "rule", **rule_hit_fields(hit)})

    def _put(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")


def header_fields(header: RunHeader) -> dict[str, Any]:
    """Fields known before the first frame, for JSON lines and Parquet."""
    vocabulary = header.vocabulary
    notice = {"notice": header.notice} if header.notice else {}
    return {
        "model": header.model,
        "model_sha256": header.model_sha256,
        **notice,
        "vocabulary": {
            "name": vocabulary.name,
            "sha256": vocabulary.sha256,
            "objects": len(vocabulary.objects),
            "verbs": len(vocabulary.verbs),
        },
        "backend": header.backend,
        "precision": header.precision,
        "source": header.source,
        "width_px": header.width_px,
        "height_px": header.height_px,
        "time_base": f"{header.time_base.numerator}/{header.time_base.denominator}",
        "policy": header.policy,
    }


def rounded_time(pts_s: float) -> float | None:
    """Seconds as they are written."""
    return rounded_number(pts_s, _TIME_DIGITS)


def pair_fields(pairs: TrackedPairs, row: int, vocabulary: Vocabulary) -> dict[str, Any]:
    """One pair of a frame with its likely verbs, best first."""
    has_object = int(pairs.object[row]) >= 0
    return {
        "pair": int(pairs.pair[row]),
        "human": int(pairs.human[row]),
        "object": int(pairs.object[row]) if has_object else None,
        "human_box_xyxy": _box(pairs.human_boxes_xyxy[row]),
        "object_box_xyxy": _box(pairs.object_boxes_xyxy[row]) if has_object else None,
        "label": _label(int(pairs.label[row]), vocabulary),
        "score": rounded_number(float(pairs.score[row]), _SCORE_DIGITS),
        "verbs": _verbs(pairs, row, vocabulary),
    }


def _verbs(pairs: TrackedPairs, row: int, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    scores, active = pairs.verb_scores[row], pairs.verb_active[row]
    listed = np.flatnonzero((scores >= MIN_LISTED_SCORE) | active)
    best_first = listed[np.argsort(-scores[listed], kind="stable")]
    return [
        {
            "verb": vocabulary.verbs[verb],
            "score": rounded_number(float(scores[verb]), _SCORE_DIGITS),
            "active": bool(active[verb]),
        }
        for verb in best_first
    ]


def event_fields(event: Event, vocabulary: Vocabulary) -> dict[str, Any]:
    """A verb's start or end, for JSON lines, the webhook and the live page; an end sums the event up."""
    fields: dict[str, Any] = {
        "event": event.event,
        "pair": event.pair,
        "human": event.human,
        "object": event.object if event.object >= 0 else None,
        "label": _label(event.label_index, vocabulary),
        "verb": vocabulary.verbs[event.verb_index],
        "pts_s": rounded_number(event.pts_s, _TIME_DIGITS),
    }
    if event.event == "end" and event.start_s is not None and event.peak_score is not None:
        fields |= {
            "start_s": rounded_number(event.start_s, _TIME_DIGITS),
            "peak_score": rounded_number(event.peak_score, _SCORE_DIGITS),
            "evidence_s": [rounded_number(pts_s, _TIME_DIGITS) for pts_s in event.evidence_s],
        }
    return fields


def rule_hit_fields(hit: RuleHit) -> dict[str, Any]:
    """Start, update or end of a rule's hit, for JSON lines and others; null for all that an absent rule has not."""
    return {
        "event": hit.event,
        "hit": hit.hit,
        "rule": hit.rule,
        "pair": hit.pair if hit.pair >= 0 else None,
        "human": hit.human if hit.human >= 0 else None,
        "object": hit.object if hit.object >= 0 else None,
        "label": hit.label or None,
        "verb": hit.verb or None,
        "pts_s": rounded_number(hit.pts_s, _TIME_DIGITS),
        "start_s": rounded_number(hit.start_s, _TIME_DIGITS),
        "score": rounded_number(hit.score, _SCORE_DIGITS),
        "peak_score": rounded_number(hit.peak_score, _SCORE_DIGITS),
        "peak_s": rounded_number(hit.peak_s, _TIME_DIGITS),
        "human_box_xyxy": _box(hit.human_box_xyxy) if hit.human_box_xyxy is not None else None,
        "object_box_xyxy": _box(hit.object_box_xyxy) if hit.object_box_xyxy is not None else None,
    }


def rule_event_fields(hit: RuleHit) -> dict[str, Any]:
    """The same among events of verbs and sources, for the webhook and the live page: "event" is "rule_start", ..."""
    return {**rule_hit_fields(hit), "event": f"rule_{hit.event}"}


def source_event_fields(event: SourceEvent) -> dict[str, Any]:
    """A loss of the source or its return, for JSON lines, the webhook and the live page."""
    return {"event": event.event, "pts_s": rounded_number(event.pts_s, _TIME_DIGITS), "reason": event.reason}


def _summary(summary: RunSummary) -> dict[str, Any]:
    return {
        "type": "summary",
        "decoded": summary.decoded,
        "detected": summary.detected,
        "dropped": summary.dropped,
        "decode_errors": summary.decode_errors,
        "pts_repaired": summary.pts_repaired,
        "pairs": summary.pairs,
        "events": summary.events,
        **({"hits": summary.hits} if summary.hits is not None else {}),
        "reconnects": summary.reconnects,
        "interrupted": summary.interrupted,
        **({"notes": list(summary.notes)} if summary.notes else {}),
        "wall_s": rounded_number(summary.wall_s, 3),
        "stage_ms": {
            stage: {name: rounded_number(value, 3) for name, value in times.items()}
            for stage, times in summary.stage_ms.items()
        },
    }


def _label(label: int, vocabulary: Vocabulary) -> str | None:
    return vocabulary.objects[label] if label >= 0 else None


def _box(box_xyxy: Iterable[float]) -> list[float | None]:
    return [rounded_number(float(value), _BOX_DIGITS) for value in box_xyxy]


def rounded_number(value: float, digits: int) -> float | None:
    """Rounded; null for what JSON has no number for."""
    return round(value, digits) + 0.0 if math.isfinite(value) else None  # + 0.0 turns -0.0 into 0.0
