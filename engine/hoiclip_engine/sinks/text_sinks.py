"""Sinks of plain text: CSV, MOTChallenge text, WebVTT cues, and event lines on standard output."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import TextIO

import numpy as np

from hoiclip.core.errors import SinkError
from hoiclip.core.printable import printable, spreadsheet_text
from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.rule_hits import RuleHit
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

_BOX = ("x1", "y1", "x2", "y2")
COLUMNS = (
    *("frame", "pts_s", "detected", "pair", "human", "object", "label", "score", "verb", "verb_score"),
    *(f"human_{corner}_px" for corner in _BOX),
    *(f"object_{corner}_px" for corner in _BOX),
)
"""Columns of CSV. `frame` counts from 0; the score is the pair's, the verb's own stands beside it."""
SHORTEST_CUE_S = 0.001
"""A WebVTT cue must end after it starts."""


class CsvSink(Sink):
    """CSV for spreadsheets and data frames: a row per pair, frame and active verb.

    A pair without an active verb has one row without a verb. Text as in RFC 4180 with "\\n" at the ends of lines,
    numbers with a point, empty fields where there is no object or no number. Names that a spreadsheet would compute
    begin with an apostrophe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, header: RunHeader) -> None:
        self._vocabulary = header.vocabulary
        self._file = TextFile(self._path)
        self._put([COLUMNS])

    def write(self, result: FrameResult) -> None:
        frame = (result.index, _number(result.pts_s, 6), int(result.detected))
        pairs = result.pairs
        self._put([(*frame, *row) for index in range(len(pairs)) for row in self._rows(pairs, index)])

    def finish(self, summary: RunSummary) -> None:
        self._file.close()

    def _rows(self, pairs: TrackedPairs, index: int) -> Iterator[tuple[object, ...]]:
        has_object = int(pairs.object[index]) >= 0
        names = (int(pairs.pair[index]), int(pairs.human[index]), int(pairs.object[index]) if has_object else "")
        label = spreadsheet_text(self._vocabulary.objects[int(pairs.label[index])]) if pairs.label[index] >= 0 else ""
        human = [_number(float(value), 1) for value in pairs.human_boxes_xyxy[index]]
        object_box = [_number(float(value), 1) if has_object else "" for value in pairs.object_boxes_xyxy[index]]
        active = np.flatnonzero(pairs.verb_active[index])
        scores = pairs.verb_scores[index]
        best_first = active[np.argsort(-scores[active], kind="stable")]
        verbs = [
            (spreadsheet_text(self._vocabulary.verbs[verb]), _number(float(scores[verb]), 4)) for verb in best_first
        ]
        for verb in verbs or [("", "")]:
            yield (*names, label, _number(float(pairs.score[index]), 4), *verb, *human, *object_box)

    def _put(self, rows: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue())


def _number(value: float, digits: int) -> float | str:
    return round(value, digits) + 0.0 if math.isfinite(value) else ""


class MotSink(Sink):
    """MOTChallenge text: one line per visible human and object per frame.

    Columns: frame (from 1), id, left, top, width, height (pixels), score, -1, -1, -1. The format has no pairs; JSON
    lines do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, header: RunHeader) -> None:
        self._file = TextFile(self._path)

    def write(self, result: FrameResult) -> None:
        lines = [
            f"{result.index + 1},{entity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},-1,-1,-1\n"
            for entity, ((x1, y1, x2, y2), score) in sorted(entities(result.pairs).items())
        ]
        self._file.write("".join(lines))

    def finish(self, summary: RunSummary) -> None:
        self._file.close()


def entities(pairs: TrackedPairs) -> dict[int, tuple[list[float], float]]:
    """Box and best pair score of every human and object, by identity."""
    found: dict[int, tuple[list[float], float]] = {}
    for row in range(len(pairs)):
        score = float(pairs.score[row])
        for entity, boxes in ((pairs.human, pairs.human_boxes_xyxy), (pairs.object, pairs.object_boxes_xyxy)):
            identity = int(entity[row])
            if identity >= 0 and (identity not in found or found[identity][1] < score):
                found[identity] = (boxes[row].tolist(), score)
    return found


class VttSink(Sink):
    """WebVTT: one cue per interaction, from its start to its end, in order of the starts; kept until the end.

    Times count from the first frame, as players do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first_s: float | None = None
        self._open: dict[tuple[int, int], Event] = {}
        self._cues: list[tuple[float, float, str]] = []

    def start(self, header: RunHeader) -> None:
        self._vocabulary = header.vocabulary
        self._file = TextFile(self._path)
        self._file.write("WEBVTT\n\n")

    def write(self, result: FrameResult) -> None:
        if self._first_s is None:
            self._first_s = result.pts_s
        self._take(result.events)

    def finish(self, summary: RunSummary) -> None:
        self._take(summary.closing_events)
        for start_s, end_s, text in sorted(self._cues):
            self._file.write(f"{timestamp(start_s)} --> {timestamp(end_s)}\n{escape(text, quote=False)}\n\n")
        self._file.close()

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            key = (event.pair, event.verb_index)
            if event.event == "start":
                self._open[key] = event
            elif key in self._open:
                start_s = self._open.pop(key).pts_s - (self._first_s or 0.0)
                end_s = max(event.pts_s - (self._first_s or 0.0), start_s + SHORTEST_CUE_S)
                self._cues.append((start_s, end_s, event_sentence(event, self._vocabulary)))


def timestamp(time_s: float) -> str:
    """Time of a WebVTT cue, hh:mm:ss.mmm."""
    ms = round(max(time_s, 0.0) * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


class EventLines(Sink):
    """A line per event for a person to read: the output of a run for which no other is named."""

    def __init__(self, source: str = "") -> None:
        """Args: source: its name at the end of each line, where lines of several sources mix."""
        self._source = f"  {source}" if source else ""

    def start(self, header: RunHeader) -> None:
        self._vocabulary = header.vocabulary
        self._file = TextFile("-")

    def write(self, result: FrameResult) -> None:
        self._write_events(result.events)
        self._write_hits(result.rule_hits)

    def finish(self, summary: RunSummary) -> None:
        self._write_events(summary.closing_events)
        self._write_hits(summary.closing_hits)

    def _write_events(self, events: Iterable[Event]) -> None:
        for event in events:
            text = event_sentence(event, self._vocabulary)
            self._file.write(f"{event.pts_s:9.3f} s  {event.event:<5}  {text}  (pair {event.pair}){self._source}\n")

    def _write_hits(self, hits: Iterable[RuleHit]) -> None:
        for hit in hits:
            if hit.event != "update":
                pair = f", pair {hit.pair}" if hit.pair >= 0 else ""
                text = f"{hit_sentence(hit)}  (hit {hit.hit}{pair})"
                self._file.write(f"{hit.pts_s:9.3f} s  {hit.event:<5}  {text}{self._source}\n")


def event_sentence(event: Event, vocabulary: Vocabulary) -> str:
    """Event in words, for example "person 3 ride bicycle 5"."""
    return f"person {event.human} {interaction_words(event.verb_index, event.label_index, event.object, vocabulary)}"


def hit_sentence(hit: RuleHit) -> str:
    """Hit of a rule in words, for example "rides here: person 3 ride bicycle 5"; of an absent rule its name alone."""
    if hit.human < 0:
        return hit.rule
    name = f" {hit.label.replace('_', ' ')} {hit.object}" if hit.object >= 0 else ""
    return f"{hit.rule}: person {hit.human} {hit.verb.replace('_', ' ')}{name}"


def interaction_words(verb: int, label: int, object_id: int, vocabulary: Vocabulary) -> str:
    """Verb and object in words, for example "ride bicycle 5"; the verb alone where there is no object."""
    name = vocabulary.verb_name(verb)
    return name if object_id < 0 else f"{name} {vocabulary.object_name(label)} {object_id}"


class TextFile:
    """Opened for writing; "-" is standard output. After a failure it takes no more text: one error is reported."""

    def __init__(self, path: str | Path) -> None:
        """Creates the file.

        Raises:
            SinkError: it cannot be created.
        """
        self._name = "standard output" if str(path) == "-" else str(path)
        self._file: TextIO | None = None
        try:
            # An explicit newline: Windows would write another.
            self._file = sys.stdout if str(path) == "-" else Path(path).open("w", encoding="utf-8", newline="\n")  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise self._failure(error) from None

    def write(self, text: str) -> None:
        """Writes and flushes, so that a killed process leaves whole lines.

        Raises:
            SinkError: the disk is full, or the reader of the pipe has exited.
        """
        if self._file is None:
            return
        try:
            self._file.write(printable(text) if self._file is sys.stdout else text)
            self._file.flush()
        except (OSError, ValueError) as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """May be called twice."""
        file, self._file = self._file, None
        if file is not None and file is not sys.stdout:
            try:
                file.close()
            except OSError as error:
                raise self._failure(error) from None

    def _failure(self, error: OSError | ValueError) -> SinkError:
        file, self._file = self._file, None
        with contextlib.suppress(OSError, ValueError):
            if file is not None and file is not sys.stdout:
                file.close()
        _drop_stdout(file)
        if isinstance(error, BrokenPipeError):
            return SinkError(f"cannot write results to {self._name}: its reader has exited; let it read to the end")
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return SinkError(f"cannot write {self._name}: {reason}; choose a place that exists, is writable and has room")


def _drop_stdout(file: TextIO | None) -> None:
    """Redirects a broken stdout: Python flushes it once more at exit, and would complain again."""
    if file is not None and file is sys.stdout:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
