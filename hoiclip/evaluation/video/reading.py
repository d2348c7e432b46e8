"""Readers of ground truth and results of videos: JSON lines of schema hoiclip/1, and MOTChallenge text.

JSON lines: `hoiclip data draw --video` writes ground truth, `hoiclip run --jsonl` results, in one schema. Hand-made
ground truth needs "frame" lines only; events are derived from frames, so that both sides have them by one rule.

MOTChallenge text: 'frame, id, left, top, width, height, score, ...', one box a line. Frames count from 1. Ground truth
whose seventh column is 0 need not be found. Ground truth of MOT16 and later has nine columns, the eighth a class:
pedestrians count, and found boxes on persons who are no pedestrians (sitting in cars, statues, reflections) are neither
right nor wrong. That is TrackEval's rule for both kinds of files. Of results, columns after the box are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.array_types import F64, I64
from hoiclip.core.errors import DataError
from hoiclip.core.foreign_file import decode_text, open_regular, parse_json, read_text
from hoiclip.core.untrusted_values import LARGEST_PX, shown
from hoiclip.core.vocabulary import NO_OBJECT, Vocabulary
from hoiclip.evaluation.video.frames import VideoFrame, empty_frame
from hoiclip.evaluation.video.identity import EPSILON, IdentityFrame
from hoiclip_kernels.box_iou import box_iou

_SCHEMA = "expected JSON lines of schema hoiclip/1"
_LARGEST = 1 << 32
"""Bytes of a file; enough for a day of many pairs."""
_LONGEST_HEADER = 1 << 24
_LATEST_S = 1e9
_LARGEST_ID = 1 << 62


def read_ground_truth(path: Path, vocabulary: Vocabulary) -> list[VideoFrame]:
    """Reads every frame of a video, in order: frame lines count from 0 without a gap.

    Raises:
        DataError: no such file, or a line is not of the schema; names line and field.
    """
    frames: list[VideoFrame] = []
    for frame, where in _frames(path, vocabulary):
        if frame.index != len(frames):
            raise DataError(
                f"{where}: index must count frames from 0, expected {len(frames)}, found {frame.index}; {_SCHEMA}"
            )
        frames.append(frame)
    if not frames:
        raise DataError(f"{path} has no frame lines; {_SCHEMA}")
    return frames


def read_results(path: Path, vocabulary: Vocabulary) -> list[VideoFrame]:
    """Reads the frames of a run; some may be missing, and a last line that a killed run did not finish is passed over.

    Raises:
        DataError: as above, or frames do not come in order.
    """
    frames: list[VideoFrame] = []
    for frame, where in _frames(path, vocabulary, may_end_early=True):
        if frames and frame.index <= frames[-1].index:
            raise DataError(
                f"{where}: index must grow from frame to frame, found {frame.index} after {frames[-1].index}"
            )
        frames.append(frame)
    return frames


def read_size(path: Path) -> tuple[int, int] | None:
    """Reads the width and height of the frames in pixels from a header line; None where no header has them."""
    try:
        with open_regular(path) as lines:
            header = untrusted.fields(parse_json(decode_text(lines.readline(_LONGEST_HEADER))), "a line")
        width_px, height_px = (untrusted.size_px(header[name], name) for name in ("width_px", "height_px"))
    except (OSError, KeyError, ValueError, RecursionError):
        return None
    return width_px, height_px


def _frames(path: Path, vocabulary: Vocabulary, *, may_end_early: bool = False) -> Iterator[tuple[VideoFrame, str]]:
    """Yields frames and the line of each."""
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
    verbs: dict[int, tuple[float, bool]]
    """Verb to its score and whether it is active."""


class _Reader:
    """Converts lines to arrays, and names to numbers."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._objects = vocabulary.objects
        self._labels = {name: i for i, name in enumerate(vocabulary.objects)}
        self._verbs = {name: i for i, name in enumerate(vocabulary.verbs)}
        self._person = vocabulary.person
        self._unnumbered: dict[tuple[int, int], int] = {}

    def frame(self, line: dict[str, Any]) -> VideoFrame:
        index = untrusted.whole(line.get("index"), "index")
        pts_s = _time(line["pts_s"]) if line.get("pts_s") is not None else math.nan
        pairs: dict[int, _Pair] = {}
        for item in untrusted.items(line.get("pairs"), "pairs"):
            self._add_pair(self._pair(untrusted.fields(item, "a pair")), pairs)
        self._check_labels(pairs.values())
        return _frame(index, pts_s, list(pairs.values()), len(self._verbs))

    def _pair(self, item: dict[str, Any]) -> _Pair:
        human = _identity(item.get("human"), "human or object")
        human_box = untrusted.box(item.get("human_box_xyxy"), "box")
        obj, label, box = -1, NO_OBJECT, human_box
        if item.get("object") is not None:
            obj = _identity(item["object"], "human or object")
            label = _known(item.get("label"), self._labels, "label")
            box = untrusted.box(item.get("object_box_xyxy"), "box")
        if item.get("pair") is None:  # hand-made ground truth may leave it out
            own = self._unnumbered.setdefault((human, obj), -len(self._unnumbered) - 1)
        else:
            own = _identity(item["pair"], "pair")
        return _Pair(own, human, obj, label, human_box, box, self._read_verbs(item))

    def _read_verbs(self, item: dict[str, Any]) -> dict[int, tuple[float, bool]]:
        verbs = {}
        for entry in untrusted.items(item.get("verbs"), "verbs"):
            verb = untrusted.fields(entry, "a verb")
            active = untrusted.flag(verb.get("active"), "active")
            score = _score(verb["score"]) if "score" in verb else float(active)
            verbs[_known(verb.get("verb"), self._verbs, "verb")] = score, active
        return verbs

    @staticmethod
    def _add_pair(pair: _Pair, pairs: dict[int, _Pair]) -> None:
        """Adds a pair; one that is listed once for each of its verbs is one pair."""
        known = pairs.setdefault(pair.pair, pair)
        if (known.human, known.object) != (pair.human, pair.object):
            raise ValueError(f"pair {untrusted.shown(pair.pair)} is listed with two humans or objects, expected one")
        known.verbs.update(pair.verbs)

    def _check_labels(self, pairs: Iterable[_Pair]) -> None:
        labels: dict[int, int] = {}
        for pair in pairs:
            for identity, is_a in ((pair.human, self._person), (pair.object, pair.label)):
                if identity >= 0 and (known := labels.setdefault(identity, is_a)) != is_a:
                    raise ValueError(
                        f"{untrusted.shown(identity)} is a {self._objects[known]} and a {self._objects[is_a]}; humans "
                        "and objects of a video share one range of numbers"
                    )


def _frame(index: int, pts_s: float, pairs: Sequence[_Pair], num_verbs: int) -> VideoFrame:
    if not pairs:
        return empty_frame(index, pts_s, num_verbs)
    scores, active = np.zeros((len(pairs), num_verbs)), np.zeros((len(pairs), num_verbs), np.bool_)
    for row, pair in enumerate(pairs):
        for verb, (score, is_active) in pair.verbs.items():
            scores[row, verb], active[row, verb] = score, is_active
    return VideoFrame(
        index=index,
        pts_s=pts_s,
        pair=np.array([pair.pair for pair in pairs], np.int64),
        human=np.array([pair.human for pair in pairs], np.int64),
        object=np.array([pair.object for pair in pairs], np.int64),
        human_boxes_xyxy=np.array([pair.human_box for pair in pairs], np.float64),
        object_boxes_xyxy=np.array([pair.object_box for pair in pairs], np.float64),
        label=np.array([pair.label for pair in pairs], np.int64),
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


PEDESTRIAN = 1
_NOT_PEDESTRIAN = (2, 7, 8, 12)
"""Person on vehicle, static person, distractor, reflection."""
_MIN_IOU = 0.5
"""IoU from which a found box may be one of those."""
_LEAST_COLUMNS, _COLUMNS_WITH_CLASS = 6, 9
_LARGEST_NUMBER = 1 << 53
"""Beyond it a number written as a decimal is not exact."""
_WANTED = "expected MOTChallenge text, 'frame, id, left, top, width, height, score' a line"


@dataclass(frozen=True, slots=True, kw_only=True)
class MotBoxes:
    """N boxes of one frame, each identity once."""

    ids: I64
    xyxy: F64
    counts: NDArray[np.bool_]
    """(N,) whether it must be found."""
    ignored: NDArray[np.bool_]
    """(N,) whether finding it is no error."""


def read_mot_frames(ground_truth: Path, results: Path) -> list[IdentityFrame]:
    """Reads every frame that has boxes, in order; similarity is the IoU.

    Raises:
        DataError: a file cannot be read or is no MOT text, or an identity is twice in a frame.
    """
    gt, found = _mot_by_frame(_mot_lines(ground_truth, is_ground_truth=True)), _mot_by_frame(_mot_lines(results))
    no_boxes = _mot_boxes([])
    frames = sorted(gt.keys() | found.keys())
    return [_mot_frame(gt.get(frame, no_boxes), found.get(frame, no_boxes)) for frame in frames]


def _mot_frame(gt: MotBoxes, found: MotBoxes) -> IdentityFrame:
    overlap = box_iou(gt.xyxy, found.xyxy)
    kept = ~_on_ignored_person(gt, overlap)
    return IdentityFrame(
        gt_ids=gt.ids[gt.counts], found_ids=found.ids[kept], overlap_gn=overlap[np.ix_(gt.counts, kept)]
    )


def _on_ignored_person(gt: MotBoxes, overlap_gn: F64) -> NDArray[np.bool_]:
    """(N,) whether each found box is matched with a person who is no pedestrian, when all boxes are matched."""
    left_out = np.zeros(overlap_gn.shape[1], np.bool_)
    if gt.ignored.any():
        score = np.where(overlap_gn >= _MIN_IOU - EPSILON, overlap_gn, 0.0)
        row, column = linear_sum_assignment(score, maximize=True)
        left_out[column] = (score[row, column] > EPSILON) & gt.ignored[row]
    return left_out


@dataclass(frozen=True, slots=True)
class _MotLine:
    frame: int
    identity: int
    xyxy: tuple[float, float, float, float]
    flag: bool
    kind: int | None
    """Class, where ground truth has a column of it."""


def _mot_lines(path: Path, *, is_ground_truth: bool = False) -> list[_MotLine]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}); {_WANTED}") from error
    read: list[_MotLine] = []
    known: set[tuple[int, int]] = set()
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = _mot_line(text, is_ground_truth)
            if (line.frame, line.identity) in known:
                raise ValueError(f"identity {line.identity} is twice in frame {line.frame}, expected once")
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}; {_WANTED}") from error
        known.add((line.frame, line.identity))
        read.append(line)
    return read


def _mot_by_frame(lines: list[_MotLine]) -> dict[int, MotBoxes]:
    frames: dict[int, list[_MotLine]] = {}
    for line in lines:
        frames.setdefault(line.frame, []).append(line)
    return {frame: _mot_boxes(present) for frame, present in frames.items()}


def _mot_boxes(lines: list[_MotLine]) -> MotBoxes:
    return MotBoxes(
        ids=np.array([line.identity for line in lines], np.int64),
        xyxy=np.array([line.xyxy for line in lines], np.float64).reshape(-1, 4),
        counts=np.array([line.flag and line.kind in (None, PEDESTRIAN) for line in lines], np.bool_),
        ignored=np.array([line.kind in _NOT_PEDESTRIAN for line in lines], np.bool_),
    )


def _mot_line(text: str, is_ground_truth: bool) -> _MotLine:
    words = text.replace(",", " ").split()
    if len(words) < _LEAST_COLUMNS:
        raise ValueError(f"{len(words)} columns")
    left, top, width, height = (_mot_number(word, LARGEST_PX) for word in words[2:_LEAST_COLUMNS])
    return _MotLine(
        frame=_mot_whole(words[0]),
        identity=_mot_whole(words[1]),
        xyxy=(left, top, left + width, top + height),
        flag=not is_ground_truth or len(words) == _LEAST_COLUMNS or _mot_number(words[6], _LARGEST_NUMBER) != 0,
        kind=_mot_whole(words[7]) if is_ground_truth and len(words) == _COLUMNS_WITH_CLASS else None,
    )


def _mot_number(word: str, largest: float) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not abs(value) <= largest:
        raise ValueError(f"{shown(word)} is no number below {largest:g}")
    return value


def _mot_whole(word: str) -> int:
    value = _mot_number(word, _LARGEST_NUMBER)
    if value != int(value):
        raise ValueError(f"{shown(word)} is no whole number")
    return int(value)
