"""MOTChallenge text files as moments: 'frame, id, left, top, width, height, score, ...', one box a line.

Frames count from 1. Truth whose seventh column is 0 is not to be found. Truth of MOT16 and later has nine columns, the
eighth a class: pedestrians count, and what a tracker finds of persons who are no pedestrians (sitting in cars, statues,
reflections) is neither right nor wrong. That is TrackEval's rule for both kinds of files. Of results, columns after the
box are not looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hoiclip.data.untrusted import LARGEST_PX, shown
from hoiclip.errors import DataError
from hoiclip.evaluation.overlap import iou_matrix
from hoiclip.evaluation.video.moments import EPSILON, F64, I64, Moment
from hoiclip.foreign_file import read_text

PEDESTRIAN = 1
_ALIKE = (2, 7, 8, 12)
"""Person on vehicle, static person, distractor, reflection."""
_SAME = 0.5
"""Overlap from which a found box may be one of those."""
_LEAST_COLUMNS, _COLUMNS_WITH_CLASS = 6, 9
_LARGEST_NUMBER = 1 << 53
"""Beyond it a number written as a decimal is not exact."""
_WANTED = "expected MOTChallenge text, 'frame, id, left, top, width, height, score' a line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """N boxes of one frame, each identity once."""

    ids: I64
    xyxy: F64
    counts: NDArray[np.bool_]
    """(N,) whether it is to be found."""
    alike: NDArray[np.bool_]
    """(N,) whether finding it is no mistake."""


def mot_moments(truth: Path, results: Path) -> list[Moment]:
    """Every frame in which anything is, in order; similarity is the IoU.

    Raises:
        DataError: a file cannot be read or is no MOT text, or an identity is twice in a frame.
    """
    true, found = _by_frame(_lines(truth, is_truth=True)), _by_frame(_lines(results))
    nothing = _boxes([])
    frames = sorted(true.keys() | found.keys())
    return [_moment(true.get(frame, nothing), found.get(frame, nothing)) for frame in frames]


def _moment(true: Boxes, found: Boxes) -> Moment:
    overlap = iou_matrix(true.xyxy, found.xyxy)
    kept = ~_of_somebody_alike(true, overlap)
    return Moment(
        true_ids=true.ids[true.counts], found_ids=found.ids[kept], overlap_gn=overlap[np.ix_(true.counts, kept)]
    )


def _of_somebody_alike(true: Boxes, overlap_gn: F64) -> NDArray[np.bool_]:
    """(N,) which found boxes are matched with such a person when everything is matched with everything."""
    left_out = np.zeros(overlap_gn.shape[1], np.bool_)
    if true.alike.any():
        score = np.where(overlap_gn >= _SAME - EPSILON, overlap_gn, 0.0)
        row, column = linear_sum_assignment(score, maximize=True)
        left_out[column] = (score[row, column] > EPSILON) & true.alike[row]
    return left_out


@dataclass(frozen=True, slots=True)
class _Line:
    frame: int
    identity: int
    xyxy: tuple[float, float, float, float]
    flag: bool
    kind: int | None
    """Class, where truth has a column of it."""


def _lines(path: Path, *, is_truth: bool = False) -> list[_Line]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}); {_WANTED}") from error
    read: list[_Line] = []
    known: set[tuple[int, int]] = set()
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = _line(text, is_truth)
            if (line.frame, line.identity) in known:
                raise ValueError(f"identity {line.identity} is twice in frame {line.frame}, expected once")
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}; {_WANTED}") from error
        known.add((line.frame, line.identity))
        read.append(line)
    return read


def _by_frame(lines: list[_Line]) -> dict[int, Boxes]:
    frames: dict[int, list[_Line]] = {}
    for line in lines:
        frames.setdefault(line.frame, []).append(line)
    return {frame: _boxes(there) for frame, there in frames.items()}


def _boxes(lines: list[_Line]) -> Boxes:
    return Boxes(
        ids=np.array([line.identity for line in lines], np.int64),
        xyxy=np.array([line.xyxy for line in lines], np.float64).reshape(-1, 4),
        counts=np.array([line.flag and line.kind in (None, PEDESTRIAN) for line in lines], np.bool_),
        alike=np.array([line.kind in _ALIKE for line in lines], np.bool_),
    )


def _line(text: str, is_truth: bool) -> _Line:
    words = text.replace(",", " ").split()
    if len(words) < _LEAST_COLUMNS:
        raise ValueError(f"{len(words)} columns")
    left, top, width, height = (_number(word, LARGEST_PX) for word in words[2:_LEAST_COLUMNS])
    return _Line(
        frame=_whole(words[0]),
        identity=_whole(words[1]),
        xyxy=(left, top, left + width, top + height),
        flag=not is_truth or len(words) == _LEAST_COLUMNS or _number(words[6], _LARGEST_NUMBER) != 0,
        kind=_whole(words[7]) if is_truth and len(words) == _COLUMNS_WITH_CLASS else None,
    )


def _number(word: str, largest: float) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not abs(value) <= largest:
        raise ValueError(f"{shown(word)} is no number below {largest:g}")
    return value


def _whole(word: str) -> int:
    value = _number(word, _LARGEST_NUMBER)
    if value != int(value):
        raise ValueError(f"{shown(word)} is no whole number")
    return int(value)
