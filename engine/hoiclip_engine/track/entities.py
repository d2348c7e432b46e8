"""Follows single boxes: identities of humans and objects from one frame to the next.

Detections are matched to the boxes that the motion model expects: sure detections first, then faint ones, which may
prolong a track but never start one; the rest is matched once more with larger boxes. Where detections come in pairs,
partners have a say (partners.py). Identities of pairs, verbs and the merging of duplicate boxes are not done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from hoiclip.core.array_types import F32, F64, I64, Bool
from hoiclip.core.boxes import MAX_COORDINATE_PX, usable_boxes
from hoiclip_engine.track.assignment import assign_tracks, overlap_within_label
from hoiclip_engine.track.motion import Motion
from hoiclip_engine.track.partners import DetectedPairs, Partners, Ties
from hoiclip_engine.track.score_levels import ScoreLevels

NO_TRACK = -1
"""Id of a detection that belongs to no track."""
_MAX_TIME_S = 1e12
"""Thirty thousand years. Times beyond it are finite, and still overflow when they are subtracted."""
_FLAT = 1e-6
"""Determinant below which a map leaves nothing of an image; above its inverse, a pixel is larger than an image."""
_MAX_SCALE = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityConfig:
    """Parameters of the entity tracker. Times in seconds, so that 15 and 60 fps behave alike.

    Measured on street scenes of several detectors: benchmarks/tracker.py.
    """

    sure_score: float = np.inf
    """From this score on, one detection is enough to start a track; detectors are seldom that sure."""
    high_score: float = 0.7
    """From this score on, a second detection is needed to start one."""
    low_score: float = 0.0
    """From this score on, a detection may still prolong a track."""
    min_overlap: float = 0.2
    """IoU with the expected box below which a detection is never that track."""
    min_overlap_low: float = 0.5
    """The same for detections below high_score."""
    reach: float = 1.0
    """Standard deviations of doubt by which boxes grow for the rest: small fast objects outrun their size."""
    faint_within_s: float = 0.5
    """Seconds since it was seen after which detections below high_score no longer prolong a track: faint boxes are
    often false, and would keep tracks of people who left."""
    lost_after_s: float = 1.2
    """Seconds without a detection after which a track ends."""
    confirm_within_s: float = 0.15
    """Seconds that a track waits for its second detection; it always gets one more inference."""
    doubtful_ratio: float = 0.6
    """Detections below some score are doubted, whatever the limits above are, if the next inferences find them again
    less often than this fraction of how often they find better ones."""

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= self.sure_score:
            raise ValueError(
                "scores must be 0 <= low_score <= high_score <= sure_score, "
                f"got {self.low_score}, {self.high_score}, {self.sure_score}"
            )
        for name in ("min_overlap", "min_overlap_low"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if not 0 <= self.doubtful_ratio <= 1:
            raise ValueError(f"doubtful_ratio must be in [0, 1], got {self.doubtful_ratio}")
        if not 0 <= self.reach < np.inf:
            raise ValueError(f"reach must be 0 or more, got {self.reach}")
        for name in ("faint_within_s", "lost_after_s", "confirm_within_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """T tracks at one moment, ordered by id."""

    ids: I64
    labels: I64
    boxes_xyxy: F32


class EntityTracker:
    """Assigns identities to detections. Ids count from 1 and are never used again."""

    def __init__(self, config: EntityConfig | None = None) -> None:
        self.config = config or EntityConfig()
        self._motion = Motion()
        self._ids = np.empty(0, np.int64)  # NO_TRACK where a second detection is awaited
        self._labels = np.empty(0, np.int64)
        self._seen_s = np.empty(0)
        self._partners = Partners()
        self._bests = np.empty((0, 2))  # the two best scores of each track so far
        self._now_s = self._before_s = -np.inf
        self._last_id = 0
        self._levels = ScoreLevels(self.config.high_score, self.config.low_score, self.config.doubtful_ratio)
        _compile()

    def update(
        self,
        boxes_xyxy: ArrayLike,
        scores: ArrayLike,
        labels: ArrayLike,
        pts_s: float,
        pairs: DetectedPairs | None = None,
    ) -> I64:
        """Takes the detections of one frame.

        Args:
            boxes_xyxy: (N, 4); boxes that are empty, not finite or far beyond any image are ignored.
            scores: (N,) in [0, 1], as the thresholds of the config; scores below 0 count as 0, detections
                whose score is not finite are ignored.
            labels: (N,) a detection continues only tracks of its own label.
            pts_s: presentation time, not before that of the last update.
            pairs: humans and objects among the detections that belong together: partners are evidence of who is who.

        Returns:
            (N,) track ids, NO_TRACK where a detection is not, or not yet, a track.

        Raises:
            ValueError: shapes do not fit, or time is not finite or runs backwards.
        """
        boxes, score, label = _checked(boxes_xyxy, scores, labels)
        self._advance(pts_s)
        usable = usable_boxes(boxes) & np.isfinite(score)
        score = np.maximum(score, 0.0)
        boxes = np.where(usable[:, None], boxes, 0.0)
        high, low = self._trusted(boxes, score, label, usable)
        ties = None if pairs is None else pairs.ties(len(boxes))
        rows = self._match(boxes, label, high, low, ties)
        found = np.flatnonzero(rows >= 0)
        self._motion.correct(rows[found], boxes[found])
        seen_s = np.append(self._seen_s, pts_s)  # the last one for those that are born
        self._seen_s[rows[found]] = pts_s
        self._remember(rows[found], score[found])
        self._name(rows[found])

        born = np.flatnonzero(high & (rows < 0))
        rows[born] = len(self._ids) + np.arange(len(born))
        self._add(boxes[born], label[born], score[born])
        self._name(rows[born[score[born] >= self.config.sure_score]])

        if ties is not None:
            self._partners.learn(rows, ties, pts_s - seen_s[np.minimum(rows, len(seen_s) - 1)])
        reported = np.where(self._doubtful(), NO_TRACK, self._ids)
        ids: I64 = np.where(rows >= 0, np.append(reported, NO_TRACK)[rows], NO_TRACK)
        self._keep((self._ids != NO_TRACK) | (pts_s - self._seen_s <= self.config.confirm_within_s))
        return ids

    def predict(self, pts_s: float) -> Entities:
        """Predicts the tracks at a time not before the last update; changes nothing.

        Raises:
            ValueError: time is not finite or runs backwards.
        """
        check_time(pts_s, self._now_s)
        alive = (self._ids != NO_TRACK) & (pts_s - self._seen_s <= self.config.lost_after_s)
        rows = np.flatnonzero(alive)
        rows = rows[np.argsort(self._ids[rows])]
        boxes = self._motion.boxes_xyxy(pts_s - self._now_s if len(rows) else 0.0)
        return Entities(ids=self._ids[rows], labels=self._labels[rows], boxes_xyxy=boxes[rows].astype(np.float32))

    def move_camera(self, affine: ArrayLike) -> None:
        """Applies camera motion since the last update: a point at p is now at affine[:, :2] @ p + affine[:, 2].

        Args:
            affine: (2, 3) turn, zoom and shift in pixels, as `camera_motion.CameraMotion` finds it.

        Raises:
            ValueError: of another shape, not finite, flat, or larger than any camera moves.
        """
        matrix = np.asarray(affine, np.float64)
        if matrix.shape != (2, 3) or not _is_motion(matrix):
            raise ValueError(f"expected a finite affine map (2, 3) that keeps areas, got {matrix.tolist()}")
        self._motion.move_camera(matrix)

    def rescale(self, sx: float, sy: float) -> None:
        """Continues with sx times as many pixels across and sy times as many down.

        Raises:
            ValueError: no image is scaled like that.
        """
        if not all(1 / _MAX_SCALE <= scale <= _MAX_SCALE for scale in (sx, sy)):
            raise ValueError(f"scales must be positive, between {1 / _MAX_SCALE:g} and {_MAX_SCALE:g}, got {sx}, {sy}")
        self._motion.rescale(sx, sy)

    def _advance(self, pts_s: float) -> None:
        check_time(pts_s, self._now_s)
        self._keep(pts_s - self._seen_s <= self.config.lost_after_s)
        if len(self._ids):
            self._motion.advance(pts_s - self._now_s)
        self._before_s, self._now_s = self._now_s, pts_s

    def _trusted(self, boxes: F64, score: F64, label: I64, usable: Bool) -> tuple[Bool, Bool]:
        """(N,) True for detections that may start a track, and (N,) True for those that may only prolong one."""
        self._levels.learn(boxes[usable], label[usable], score[usable])
        high_score, low_score = self._levels.levels(label)
        high = usable & (score >= high_score)
        return high, usable & ~high & (score >= low_score)

    def _match(self, boxes: F64, label: I64, high: Bool, low: Bool, ties: Ties | None) -> I64:
        """(N,) row of the track that each detection continues, -1 where none."""
        config = self.config
        rows = np.full(len(boxes), -1, np.int64)
        if not len(self._ids) or not (high | low).any():
            return rows
        expected = self._motion.boxes_xyxy()
        near = overlap_within_label(expected, self._labels, boxes, label)
        named, weighed, far = self._ids != NO_TRACK, near, None
        if ties is not None:
            far = self._grown_overlap(expected, boxes, label)
            evidence = self._partners.evidence(far, self._labels, label, high | low, ties, config.min_overlap)
            weighed, far = evidence.weigh(near), evidence.weigh(far)
        assign_tracks(rows, weighed, named, high, config.min_overlap)
        assign_tracks(rows, weighed, named & self._fresh(), low, config.min_overlap_low)
        assign_tracks(rows, weighed, ~named, high, config.min_overlap)
        if self._any_left(rows, high):
            far = self._grown_overlap(expected, boxes, label) if far is None else far
            assign_tracks(rows, far, named, high, config.min_overlap)
            assign_tracks(rows, far, ~named, high, config.min_overlap)
        if ties is not None:
            self._learn_overlap(rows, near)
            if self._any_left(rows, high):
                reached = self._partners.within_reach(rows, ties, expected, self._labels, boxes, label)
                assign_tracks(rows, reached, named, high, config.min_overlap)
        return rows

    def _learn_overlap(self, rows: I64, near: F64) -> None:
        found = np.flatnonzero(rows >= 0)
        found = found[self._seen_s[rows[found]] >= self._before_s]
        self._partners.learn_overlap(near[rows[found], found])

    def _grown_overlap(self, expected: F64, boxes: F64, label: I64) -> F64:
        """(T, N) overlaps of boxes grown by the doubt of their motion."""
        margin_px = self.config.reach * self._motion.doubt_px()
        return overlap_within_label(expected, self._labels, boxes, label, margin_px)

    def _any_left(self, rows: I64, high: Bool) -> bool:
        """Whether a track and a detection that could start one are both free."""
        free = np.ones(len(self._ids), bool)
        free[rows[rows >= 0]] = False
        return bool(free.any() and (high & (rows < 0)).any())

    def _remember(self, rows: I64, scores: F64) -> None:
        best, second = self._bests[rows].T
        self._bests[rows, 0] = np.maximum(best, scores)
        self._bests[rows, 1] = np.maximum(second, np.minimum(best, scores))

    def _doubtful(self) -> Bool:
        """(T,) True for tracks that the current score levels would not start: they began before those were learned."""
        high_score, _ = self._levels.levels(self._labels)
        best, second = self._bests.T
        doubtful: Bool = (second < high_score) & (best < self.config.sure_score)
        return doubtful

    def _fresh(self) -> Bool:
        """(T,) True for tracks that a faint detection may prolong: seen at the last inference, or recently."""
        fresh: Bool = (self._seen_s >= self._before_s) | (self._now_s - self._seen_s <= self.config.faint_within_s)
        return fresh

    def _name(self, rows: I64) -> None:
        """Assigns ids to those rows that have none."""
        rows = rows[self._ids[rows] == NO_TRACK]
        self._ids[rows] = self._last_id + 1 + np.arange(len(rows))
        self._last_id += len(rows)

    def _add(self, boxes: F64, label: I64, scores: F64) -> None:
        self._motion.add(boxes)
        self._partners.add(len(boxes))
        self._ids = np.append(self._ids, np.full(len(boxes), NO_TRACK))
        self._labels = np.append(self._labels, label)
        self._seen_s = np.append(self._seen_s, np.full(len(boxes), self._now_s))
        self._bests = np.concatenate([self._bests, np.stack([scores, np.full(len(scores), -np.inf)], axis=1)])

    def _keep(self, rows: Bool) -> None:
        if rows.all():
            return
        self._motion.keep(rows)
        self._partners.keep(rows)
        self._ids, self._labels, self._seen_s = self._ids[rows], self._labels[rows], self._seen_s[rows]
        self._bests = self._bests[rows]


def check_time(pts_s: float, now_s: float) -> None:
    """Raises ValueError unless pts_s is a finite, possible time and not before now_s."""
    if not abs(pts_s) <= _MAX_TIME_S:
        raise ValueError(f"time must be finite, at most {_MAX_TIME_S:g} s, got {pts_s}")
    if pts_s < now_s:
        raise ValueError(
            f"time must not run backwards, got {pts_s} s after {now_s} s; start a new tracker for a new clip"
        )


def _checked(boxes_xyxy: ArrayLike, scores: ArrayLike, labels: ArrayLike) -> tuple[F64, F64, I64]:
    boxes, score = np.asarray(boxes_xyxy, np.float64), np.asarray(scores, np.float64)
    label: I64 = np.asarray(labels, np.int64)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not score.shape == label.shape == boxes.shape[:1]:
        raise ValueError(
            f"expected boxes (N, 4), scores (N,) and labels (N,), got {boxes.shape}, {score.shape} and {label.shape}"
        )
    return boxes, score, label


def _is_motion(affine: F64) -> bool:
    """Whether a map (2, 3) is finite, keeps areas and leaves coordinates in range."""
    turn, shift_px = affine[:, :2], affine[:, 2]
    if not ((np.abs(turn) <= _MAX_SCALE).all() and (np.abs(shift_px) < MAX_COORDINATE_PX).all()):
        return False
    return bool(_FLAT <= abs(np.linalg.det(turn)) <= 1 / _FLAT)


@lru_cache(maxsize=1)
def _compile() -> None:
    """Loads or compiles the functions that run per frame, before the first frame."""
    box, label, rows = np.array([[0.0, 0.0, 1.0, 1.0]]), np.zeros(1, np.int64), np.zeros(1, np.int64)
    motion = Motion()
    motion.add(box)
    motion.advance(1.0)
    motion.correct(rows, box)
    partners = Partners()
    partners.add(1)
    ties = DetectedPairs(human=rows, object=rows, scores=np.ones(1)).ties(1)
    partners.evidence(np.ones((1, 1)), label, label, np.ones(1, bool), ties, 0.5)
    partners.learn(rows, ties, np.zeros(1))
    partners.within_reach(rows, ties, box, label, box, label)
    overlap = overlap_within_label(motion.boxes_xyxy(), label, box, label)
    assign_tracks(rows - 1, overlap, np.ones(1, bool), np.ones(1, bool), 0.5)
