"""Reads films from JSON lines of schema hoiclip/1: the truth somebody is sure of, or what a run wrote.

Both are the same schema; `hoiclip data draw --video` writes truth, `hoiclip run --jsonl` results. Hand-made truth needs
"frame" lines only; events are derived from frames, so that both sides have them by one rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.data import untrusted
from hoiclip.errors import DataError
from hoiclip.evaluation.video.film import FilmFrame, still_frame
from hoiclip.foreign_file import decode_text, open_regular, parse_json, read_text
from hoiclip.vocabulary import NO_OBJECT, Vocabulary

_SCHEMA = "expected JSON lines of schema hoiclip/1"
_LARGEST = 1 << 32
"""Bytes of a file; a day of many pairs has one of them."""
_LONGEST_HEADER = 1 << 24
_LATEST_S = 1e9
_LARGEST_ID = 1 << 62


def read_truth(path: Path, vocabulary: Vocabulary) -> list[FilmFrame]:
    """Every frame of a film, in order: frame lines count from 0 without a gap.

    Raises:
        DataError: no such file, or a line is not of the schema; names line and field.
    """
    frames: list[FilmFrame] = []
    for frame, where in _frames(path, vocabulary):
        if frame.index != len(frames):
            raise DataError(
                f"{where}: index must count frames from 0, expected {len(frames)}, found {frame.index}; {_SCHEMA}"
            )
        frames.append(frame)
    if not frames:
        raise DataError(f"{path} has no frame lines; {_SCHEMA}")
    return frames


def read_results(path: Path, vocabulary: Vocabulary) -> list[FilmFrame]:
    """What a run found; frames may be missing, and a last line that a killed run did not finish is passed over.

    Raises:
        DataError: as above, or frames do not come in order.
    """
    frames: list[FilmFrame] = []
    for frame, where in _frames(path, vocabulary, may_end_early=True):
        if frames and frame.index <= frames[-1].index:
            raise DataError(
                f"{where}: index must grow from frame to frame, found {frame.index} after {frames[-1].index}"
            )
        frames.append(frame)
    return frames


def read_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the frames in pixels, as a header line says; None where there is none that does."""
    try:
        with open_regular(path) as lines:
            header = untrusted.fields(parse_json(decode_text(lines.readline(_LONGEST_HEADER))), "a line")
        width_px, height_px = (untrusted.size_px(header[name], name) for name in ("width_px", "height_px"))
    except (OSError, KeyError, ValueError, RecursionError):
        return None
    return width_px, height_px


def _frames(path: Path, vocabulary: Vocabulary, *, may_end_early: bool = False) -> Iterator[tuple[FilmFrame, str]]:
    """Frames and where each is written."""
    try:
        text = read_text(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}); {_SCHEMA}") from error
    lines = text.split("\n")
    unfinished = lines.pop() if may_end_early else ""
    if unfinished:
        try:
            parse_json(unfinished)
            lines.append(unfinished)
        except ValueError:
            pass
    reader = _Reader(vocabulary)
    for number, line_text in enumerate(lines, 1):
        if not line_text.strip():
            continue
        where = f"{path}, line {number}"
        try:
            line = untrusted.fields(parse_json(line_text), "a line")
            if line.get("type") == "frame":
                yield reader.frame(line), where
        except ValueError as error:
            raise DataError(f"{where}: {error}; {_SCHEMA}") from error


@dataclass(frozen=True, slots=True)
class _Pair:
    """One pair of a line."""

    pair: int
    human: int
    object: int
    label: int
    human_box: untrusted.Box
    object_box: untrusted.Box
    said: dict[int, tuple[float, bool]]
    """Verb to its score and whether it is active."""


class _Reader:
    """Lines to arrays, names to numbers."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._objects = vocabulary.objects
        self._labels = {name: i for i, name in enumerate(vocabulary.objects)}
        self._verbs = {name: i for i, name in enumerate(vocabulary.verbs)}
        self._person = vocabulary.person
        self._unnumbered: dict[tuple[int, int], int] = {}

    def frame(self, line: dict[str, Any]) -> FilmFrame:
        index = untrusted.whole(line.get("index"), "index")
        pts_s = _time(line["pts_s"]) if line.get("pts_s") is not None else math.nan
        pairs: dict[int, _Pair] = {}
        for item in untrusted.items(line.get("pairs"), "pairs"):
            self._add(self._pair(untrusted.fields(item, "a pair")), pairs)
        self._check_labels(pairs.values())
        return _frame(index, pts_s, list(pairs.values()), len(self._verbs))

    def _pair(self, item: dict[str, Any]) -> _Pair:
        human = _identity(item.get("human"), "human or object")
        human_box = untrusted.box(item.get("human_box_xyxy"), "box")
        thing, label, box = -1, NO_OBJECT, human_box
        if item.get("object") is not None:
            thing = _identity(item["object"], "human or object")
            label = _known(item.get("label"), self._labels, "label")
            box = untrusted.box(item.get("object_box_xyxy"), "box")
        if item.get("pair") is None:  # hand-made truth may leave it out
            own = self._unnumbered.setdefault((human, thing), -len(self._unnumbered) - 1)
        else:
            own = _identity(item["pair"], "pair")
        return _Pair(own, human, thing, label, human_box, box, self._said(item))

    def _said(self, item: dict[str, Any]) -> dict[int, tuple[float, bool]]:
        said = {}
        for one in untrusted.items(item.get("verbs"), "verbs"):
            verb = untrusted.fields(one, "a verb")
            active = untrusted.flag(verb.get("active"), "active")
            score = _score(verb["score"]) if "score" in verb else float(active)
            said[_known(verb.get("verb"), self._verbs, "verb")] = score, active
        return said

    @staticmethod
    def _add(pair: _Pair, pairs: dict[int, _Pair]) -> None:
        """A pair that is listed once for each of its verbs is one pair."""
        known = pairs.setdefault(pair.pair, pair)
        if (known.human, known.object) != (pair.human, pair.object):
            raise ValueError(f"pair {untrusted.shown(pair.pair)} is listed with two humans or objects, expected one")
        known.said.update(pair.said)

    def _check_labels(self, pairs: Iterable[_Pair]) -> None:
        labels: dict[int, int] = {}
        for pair in pairs:
            for identity, is_a in ((pair.human, self._person), (pair.object, pair.label)):
                if identity >= 0 and (known := labels.setdefault(identity, is_a)) != is_a:
                    raise ValueError(
                        f"{untrusted.shown(identity)} is a {self._objects[known]} and a {self._objects[is_a]}; humans "
                        "and objects of a film share one range of numbers"
                    )


def _frame(index: int, pts_s: float, pairs: Sequence[_Pair], num_verbs: int) -> FilmFrame:
    if not pairs:
        return still_frame(index, pts_s, num_verbs)
    scores, active = np.zeros((len(pairs), num_verbs)), np.zeros((len(pairs), num_verbs), np.bool_)
    for row, pair in enumerate(pairs):
        for verb, (score, is_active) in pair.said.items():
            scores[row, verb], active[row, verb] = score, is_active
    return FilmFrame(
        index=index,
        pts_s=pts_s,
        pair=np.array([one.pair for one in pairs], np.int64),
        human=np.array([one.human for one in pairs], np.int64),
        object=np.array([one.object for one in pairs], np.int64),
        human_boxes_xyxy=np.array([one.human_box for one in pairs], np.float64),
        object_boxes_xyxy=np.array([one.object_box for one in pairs], np.float64),
        label=np.array([one.label for one in pairs], np.int64),
        verb_scores=scores,
        verb_active=active,
    )


def _known(value: object, names: dict[str, int], field: str) -> int:
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{field} {untrusted.shown(value)} is not in the model's vocabulary")
    return names[value]


def _identity(value: object, field: str) -> int:
    number = untrusted.whole(value, field)
    if not 0 <= number < _LARGEST_ID:
        raise ValueError(f"{field} must be a number from 0 on, found {untrusted.shown(value)}")
    return number


def _time(value: object) -> float:
    return untrusted.number(value, "pts_s", -_LATEST_S, _LATEST_S)


def _score(value: object) -> float:
    return untrusted.number(value, "score", 0.0, 1.0)
