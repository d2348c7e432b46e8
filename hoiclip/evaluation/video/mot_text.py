"""MOTChallenge text files as moments: 'frame, id, left, top, width, height, score, ...', one box a line.

Frames count from 1. Truth whose seventh column is 0 is not to be counted and is left out, as MOTChallenge says. Classes
and distractors of MOT16 and later are not known here: every box that counts is one of the same class.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hoiclip.data.untrusted import LARGEST_PX, shown
from hoiclip.errors import DataError
from hoiclip.evaluation.overlap import iou_matrix
from hoiclip.evaluation.video.moments import F64, I64, Moment

_COLUMNS = 6
_LARGEST_NUMBER = 1 << 53
"""Beyond it a number written as a decimal is not exact."""
_WANTED = "expected MOTChallenge text, 'frame, id, left, top, width, height, score' a line"

Boxes = dict[int, tuple[I64, F64]]
"""Frame to identities (N,) and boxes (N, 4) xyxy."""


def mot_moments(truth: Path, results: Path) -> list[Moment]:
    """Every frame in which anything is, in order; similarity is the IoU.

    Raises:
        DataError: a file cannot be read or is no MOT text, or an identity is twice in a frame.
    """
    true, found = read_mot(truth, is_truth=True), read_mot(results)
    nothing = np.zeros(0, np.int64), np.zeros((0, 4))
    moments = []
    for frame in sorted(true.keys() | found.keys()):
        (true_ids, true_boxes), (found_ids, found_boxes) = true.get(frame, nothing), found.get(frame, nothing)
        overlap = iou_matrix(true_boxes, found_boxes)
        moments.append(Moment(true_ids=true_ids, found_ids=found_ids, overlap_gn=overlap))
    return moments


def read_mot(path: Path, *, is_truth: bool = False) -> Boxes:
    """Identities and boxes of each frame.

    Raises:
        DataError: as above; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); {_WANTED}") from error
    frames: dict[int, dict[int, tuple[float, ...]]] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            frame, identity, box, counts = _line(text)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}; {_WANTED}") from error
        if is_truth and not counts:
            continue
        there = frames.setdefault(frame, {})
        if identity in there:
            raise DataError(f"{path}, line {number}: identity {identity} is twice in frame {frame}; expected it once")
        there[identity] = box
    return {
        frame: (np.array(list(there), np.int64), np.array(list(there.values()), np.float64).reshape(-1, 4))
        for frame, there in frames.items()
    }


def _line(text: str) -> tuple[int, int, tuple[float, ...], bool]:
    """Frame, identity, xyxy and whether the box counts."""
    words = text.replace(",", " ").split()
    if len(words) < _COLUMNS:
        raise ValueError(f"{len(words)} columns")
    left, top, width, height = (_number(word, LARGEST_PX) for word in words[2:_COLUMNS])
    counts = len(words) == _COLUMNS or _number(words[_COLUMNS], _LARGEST_NUMBER) != 0
    return _whole(words[0]), _whole(words[1]), (left, top, left + width, top + height), counts


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
