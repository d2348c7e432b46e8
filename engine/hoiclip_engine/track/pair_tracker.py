"""Follows human-object pairs through a stream: identities, smoothed scores, and start and end of each verb.

A pair is the meeting of two entity tracks, so its identity is as good as theirs: the cup stays the same cup when it
passes from hand to hand, and each hand makes a pair of its own. The stream decides on which frames to detect.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.array_types import F64, I64, Bool
from hoiclip.core.detections import HOIDetections
from hoiclip.core.vocabulary import NO_INTERACTION, NO_OBJECT, Vocabulary
from hoiclip_engine.track.consolidate import Scene, consolidate, precompile
from hoiclip_engine.track.entities import NO_TRACK, EntityConfig, EntityTracker, check_time
from hoiclip_engine.track.partners import DetectedPairs
from hoiclip_engine.track.score_levels import VerbScale
from hoiclip_engine.track.verbs import RunningAverage, VerbConfig, VerbHistory, VerbSwitch
from hoiclip_engine.types.tracked_pairs import Event, TrackedPairs

if TYPE_CHECKING:
    from hoiclip.core.model_file import FittedTracking
    from hoiclip_engine.track.camera_motion import CameraMotion

_MOST_VERBS = 4096
"""Limit of a tracker that learns their number from its detections: a wrong index must not fill the memory."""

_STAYS_S = 2.0
"""Seconds after which half of the pairs have left or are hidden."""
_USUALLY_FOUND, _OF_INFERENCES = 4.0, 5.0
"""Prior for a detector of which nothing is known: inferences that find a pair, of so many that show it."""
_LIKE_OTHERS = 2.0
"""Weight, in inferences, of the prior that a pair is found as often as others."""

_OF_TRIPLETS = EntityConfig(
    sure_score=0.5,
    high_score=0.3,
    low_score=0.1,
    min_overlap_low=0.4,
    reach=2.0,
    lost_after_s=2.0,
    confirm_within_s=0.5,
    doubtful_ratio=0.2,  # triplets are chosen by their score already, and missed as a whole
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackConfig:
    """Parameters of the pair tracker."""

    min_score: float = 0.3
    """Score of its best triplet from which a pair counts as seen."""
    min_verb_score: float = 0.0
    """Score of its best verb from which a pair begins to be followed; doing nothing is a verb here."""
    same_overlap: float = 0.75
    """IoU from which two boxes of one label in one image are one object, whose scores are equal."""
    faint_overlap: float = 0.5
    """IoU from which they are, if one has hardly any score beside the other: detectors repeat an object with loose,
    faint boxes."""
    confused_overlap: float = 0.8
    """IoU from which two object boxes with different labels are one object; the better label stays."""
    hold_s: float = 0.3
    """Seconds that a pair is still shown at most after an inference that missed it: as long as it is more probable that
    the detector missed it, which it may do often or hardly ever, than that it has left."""
    lost_after_s: float = 2.0
    """Seconds without being seen after which a pair ends."""
    entity: EntityConfig = _OF_TRIPLETS
    """Humans and objects, whose scores are those of triplets and so lower than a detector's; a score above min_score or
    a time below lost_after_s gives way to those."""
    verb: VerbConfig = field(default_factory=VerbConfig)
    camera_motion: bool = False
    """Whether `see` estimates the camera's motion; a few milliseconds per frame, worth it for a shaken camera."""
    num_verbs: int | None = None
    """V of the vocabulary; where it is not known, there are as many as have been seen."""
    person_label: int = 0
    """Index of "person" among the vocabulary's objects, -1 if it has none."""
    quiet_verbs: tuple[int, ...] = ()
    """Verbs that are scored but never active, such as "no interaction"."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be in [0, 1], got {self.min_score}")
        if not 0 <= self.min_verb_score <= 1:
            raise ValueError(f"min_verb_score must be in [0, 1], got {self.min_verb_score}")
        if not self.faint_overlap <= self.same_overlap:
            raise ValueError(
                f"faint_overlap must be at most same_overlap, got {self.faint_overlap} and {self.same_overlap}"
            )
        for name in ("same_overlap", "faint_overlap", "confused_overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if not self.hold_s >= 0:
            raise ValueError(f"hold_s must be 0 or more, got {self.hold_s}")
        if not self.lost_after_s > 0:
            raise ValueError(f"lost_after_s must be positive, got {self.lost_after_s}")
        if self.num_verbs is not None and not self.num_verbs >= 0:
            raise ValueError(f"num_verbs must be 0 or more, got {self.num_verbs}")
        if not all(verb >= 0 for verb in self.quiet_verbs):
            raise ValueError(f"quiet_verbs must be 0 or more, got {self.quiet_verbs}")

    def fitted(self, tracking: FittedTracking, verbs: tuple[str, ...]) -> TrackConfig:
        """The config with what was fitted to a model; what was chosen otherwise than by default stays."""
        usual = TrackConfig()
        is_usual = (self.same_overlap, self.faint_overlap) == (usual.same_overlap, usual.faint_overlap)
        faint_overlap = tracking.faint_overlap if is_usual else self.faint_overlap
        return replace(self, faint_overlap=faint_overlap, verb=self.verb.fitted(tracking.verb_scores, verbs))

    def for_detection_interval(self, interval_s: float) -> TrackConfig:
        """The config for a detection interval: a pair that one inference missed is shown, and known, until the next."""
        return replace(
            self, hold_s=max(self.hold_s, 2 * interval_s), lost_after_s=max(self.lost_after_s, 2.5 * interval_s)
        )

    def for_photos(self) -> TrackConfig:
        """The config for single images: there is no second inference to wait for."""
        return replace(self, verb=replace(self.verb, min_duration_s=0.0))

    def for_entities(self) -> EntityConfig:
        """`entity`, widened so that no pair worth showing fails for want of a box with an identity."""
        return replace(
            self.entity,
            low_score=min(self.entity.low_score, self.min_score),
            high_score=min(self.entity.high_score, self.min_score),
            lost_after_s=max(self.entity.lost_after_s, self.lost_after_s),
        )


class PairTracker:
    """Assigns identities to pairs. Ids count from 1 and are never used again. Call it from one thread."""

    def __init__(self, config: TrackConfig | None = None) -> None:
        self.config = config = config or TrackConfig()
        self._num_verbs = config.num_verbs or 0  # so far, where the config gives none
        self._entities = EntityTracker(config.for_entities())
        self._average = RunningAverage(1 + self._num_verbs, config.verb.half_life_s)  # column 0: the pair's own score
        self._switch = VerbSwitch(self._num_verbs, config.verb)
        self._scale = VerbScale()
        self._presence = _Presence()
        self._table = np.empty((0, 4), np.int64)  # pair, human, object, label; ordered by pair
        self._seen_s = np.empty(0)
        self._inferred_s = self._now_s = -np.inf
        self._last_pair = 0
        self._events: list[Event] = []
        self._camera = _camera() if config.camera_motion else None
        precompile()

    @staticmethod
    def for_vocabulary(vocabulary: Vocabulary, config: TrackConfig | None = None) -> PairTracker:
        """The tracker of a model with this vocabulary."""
        return PairTracker(
            replace(
                config or TrackConfig(),
                num_verbs=len(vocabulary.verbs),
                person_label=vocabulary.person,
                quiet_verbs=tuple(index for index, verb in enumerate(vocabulary.verbs) if verb == NO_INTERACTION),
            )
        )

    @property
    def pair_count(self) -> int:
        """Distinct pairs seen so far."""
        return self._last_pair

    def update(self, pairs: HOIDetections, pts_s: float) -> TrackedPairs:
        """Takes the triplets found in a frame; its events wait in `take_events`.

        Raises:
            ValueError: time is not finite or runs backwards, or a verb is not in the vocabulary.
        """
        check_time(pts_s, self._now_s)
        config = self.config
        scene = consolidate(
            pairs,
            num_verbs=self._verbs_with(pairs),
            person_label=config.person_label,
            same_overlap=config.same_overlap,
            faint_overlap=config.faint_overlap,
            confused_overlap=config.confused_overlap,
        )
        self._widen(scene.verb_scores.shape[1])
        self._drop_lost(pts_s)
        ids = self._entities.update(scene.boxes_xyxy, scene.scores, scene.labels, pts_s, self._detected(scene))
        self._now_s = self._inferred_s = pts_s
        rows, scene_rows = self._recognise(scene, ids)
        scores = np.concatenate([scene.pair_scores[:, None], scene.verb_scores], axis=1)[scene_rows]
        if config.verb.adapt:
            self._scale.learn(scores[:, 1:])
        averages = self._average.observe(rows, scores, pts_s, self._scale.doubt)
        self._seen_s[rows] = pts_s
        self._presence.observe(rows, pts_s)
        self._switch_verbs(rows, averages[:, 1:], pts_s)
        return self._alive(pts_s)

    def predict(self, pts_s: float) -> TrackedPairs:
        """Predicts the pairs of a frame without inference; ends those not seen for too long.

        Raises:
            ValueError: time is not finite or runs backwards.
        """
        check_time(pts_s, self._now_s)
        self._drop_lost(pts_s)
        self._now_s = pts_s
        return self._alive(pts_s)

    def take_events(self) -> tuple[Event, ...]:
        """Events since the last call, in the order in which they were noticed; each is returned once."""
        events, self._events = tuple(self._events), []
        return events

    def finish(self) -> tuple[Event, ...]:
        """Ends the stream: returns the end of every active verb, at the time its pair was last seen."""
        return self._drop(np.ones(len(self._table), bool))

    @property
    def follows_camera(self) -> bool:
        """Whether `see` uses the image."""
        return self._camera is not None

    def see(self, rgb: NDArray[np.uint8]) -> None:
        """Follows the camera, where the config asks for it: call it with every frame (H, W, 3), before `update` or
        `predict` of that frame."""
        if self._camera is not None:
            known = self._entities.predict(self._now_s).boxes_xyxy if len(self._table) else np.empty((0, 4))
            self._entities.move_camera(self._camera.see(rgb, known))

    def rescale(self, sx: float, sy: float) -> None:
        """Continues with sx times as many pixels across and sy times as many down."""
        self._entities.rescale(sx, sy)

    def _detected(self, scene: Scene) -> DetectedPairs:
        """Pairs of two boxes that count as seen."""
        seen = (scene.object >= 0) & (scene.pair_scores >= self.config.min_score)
        return DetectedPairs(human=scene.human[seen], object=scene.object[seen], scores=scene.pair_scores[seen])

    def _verbs_with(self, pairs: HOIDetections) -> int:
        """V, at least that of the pairs where the config names none."""
        if self.config.num_verbs is not None or not len(pairs):
            return self._num_verbs
        most = int(pairs.verb.max())
        if most >= _MOST_VERBS:
            raise ValueError(f"verbs must be below {_MOST_VERBS} where num_verbs is not given, got {most}")
        return max(self._num_verbs, most + 1)

    def _widen(self, num_verbs: int) -> None:
        if num_verbs > self._num_verbs:
            self._num_verbs = num_verbs
            self._average.widen(1 + num_verbs)
            self._switch.widen(num_verbs)

    def _switch_verbs(self, rows: I64, verb_averages: F64, pts_s: float) -> None:
        """Switches verbs of the rows on and off."""
        changes = self._switch.observe(rows, self._without_quiet(self._scaled(verb_averages)), pts_s, self._scale.doubt)
        self._events += [
            self._event(change.row, change.verb, change.starts, change.pts_s, change.history) for change in changes
        ]

    def _scaled(self, verb_scores: F64) -> F64:
        """(N, V) scores on the scale of the thresholds; fitted thresholds are on the model's own scale."""
        return verb_scores if self.config.verb.start_scores else self._scale(verb_scores)

    def _without_quiet(self, verb_scores: F64) -> F64:
        """(N, V) scores of the verbs that can be active, 0 for the quiet ones; a copy."""
        audible: F64 = verb_scores.copy()
        audible[:, [verb for verb in self.config.quiet_verbs if verb < audible.shape[1]]] = 0
        return audible

    def _recognise(self, scene: Scene, ids: I64) -> tuple[I64, I64]:
        """Rows of the table and the pairs of the scene that they are; new pairs get new rows."""
        human = ids[scene.human]
        object_ = np.where(scene.object >= 0, np.append(ids, NO_TRACK)[scene.object], NO_TRACK)
        named = (human != NO_TRACK) & ((scene.object < 0) | (object_ != NO_TRACK))
        found = np.flatnonzero(named & (scene.pair_scores >= self.config.min_score))
        label = np.where(scene.object >= 0, np.append(scene.labels, NO_OBJECT)[scene.object], NO_OBJECT)

        known = {key: row for row, key in enumerate(zip(*self._table[:, 1:3].T.tolist(), strict=True))}
        keys = list(zip(human[found].tolist(), object_[found].tolist(), strict=True))
        begins = self._scaled(scene.verb_scores).max(axis=1, initial=0.0) >= self.config.min_verb_score
        kept = [key in known or begins[n] for n, key in zip(found.tolist(), keys, strict=True)]
        found, keys = found[kept], [key for key, stays in zip(keys, kept, strict=True) if stays]
        new = [n for n, key in zip(found.tolist(), keys, strict=True) if key not in known]
        if new:
            known |= {(int(human[n]), int(object_[n])): len(known) + row for row, n in enumerate(new)}
            self._add(np.stack([human[new], object_[new], label[new]], axis=1))
        return np.array([known[key] for key in keys], np.int64), found

    def _add(self, members: I64) -> None:
        """New rows from (N, 3) human, object and label."""
        pair = self._last_pair + 1 + np.arange(len(members))
        self._last_pair += len(members)
        self._table = np.concatenate([self._table, np.concatenate([pair[:, None], members], axis=1)])
        self._seen_s = np.append(self._seen_s, np.full(len(members), self._now_s))
        self._presence.add(len(members))
        self._average.add(len(members))
        self._switch.add(len(members))

    def _drop_lost(self, pts_s: float) -> None:
        self._events += self._drop(pts_s - self._seen_s > self.config.lost_after_s)

    def _drop(self, rows: Bool) -> tuple[Event, ...]:
        """Forgets pairs and returns the ends of their verbs."""
        if not rows.any():
            return ()
        events = tuple(
            self._event(row, verb, False, float(self._seen_s[row]), self._switch.history(row, verb))
            for row in np.flatnonzero(rows).tolist()
            for verb in self._switch.active_verbs(row)
        )
        self._table, self._seen_s = self._table[~rows], self._seen_s[~rows]
        self._presence.keep(~rows)
        self._average.keep(~rows)
        self._switch.keep(~rows)
        return events

    def _event(self, row: int, verb: int, starts: bool, pts_s: float, history: VerbHistory) -> Event:
        pair, human, object_, label = self._table[row].tolist()
        return Event(
            event="start" if starts else "end",
            pair=pair,
            human=human,
            object=object_,
            label_index=label,
            verb_index=verb,
            pts_s=pts_s,
            start_s=history.start_s,
            peak_score=history.peak_score,
            evidence_s=history.evidence_s,
        )

    def _alive(self, pts_s: float) -> TrackedPairs:
        """Pairs that the last inference found, or that are probably still present and were seen at most hold_s ago."""
        entities = self._entities.predict(pts_s)
        held = (pts_s - self._seen_s <= self.config.hold_s) & (self._presence.probability >= 0.5)
        rows = np.flatnonzero((self._seen_s >= self._inferred_s) | held)
        pair, human, object_, label = self._table[rows].T
        where_human = np.searchsorted(entities.ids, human)
        where_object = np.searchsorted(entities.ids, np.where(object_ == NO_TRACK, human, object_))
        return TrackedPairs(
            pair=pair,
            human=human,
            object=object_,
            human_boxes_xyxy=entities.boxes_xyxy[where_human],
            object_boxes_xyxy=entities.boxes_xyxy[where_object],
            label=label,
            score=self._average.mean[rows, 0].astype(np.float32),
            verb_scores=self._average.mean[rows, 1:].astype(np.float32),
            verb_active=self._switch.active[rows],
        )


class _Presence:
    """Probability that pairs which an inference missed are still present: P rows, owned as those of RunningAverage."""

    def __init__(self) -> None:
        self.probability = np.empty(0)
        # inferences, those while it was lost included once it is found again
        self._found, self._missed = np.empty(0), np.empty(0)
        self._lost = np.empty(0)  # inferences since it was found
        self._all_found, self._all_missed = _USUALLY_FOUND, _OF_INFERENCES - _USUALLY_FOUND
        self._before_s = -np.inf

    def add(self, count: int) -> None:
        """New rows at the end, to be observed next."""
        self.probability = np.append(self.probability, np.ones(count))
        self._found, self._missed = np.append(self._found, np.zeros(count)), np.append(self._missed, np.zeros(count))
        self._lost = np.append(self._lost, np.zeros(count))

    def keep(self, rows: Bool) -> None:
        """Drops the rows where `rows` is False."""
        self.probability, self._lost = self.probability[rows], self._lost[rows]
        self._found, self._missed = self._found[rows], self._missed[rows]

    def observe(self, rows: I64, pts_s: float) -> None:
        """Takes the rows that an inference found; it missed all others.

        Misses count once the pair is found again; without that, they are unknown.
        """
        found = np.zeros(len(self.probability), bool)
        found[rows] = True
        self._all_found += len(rows)
        self._all_missed += self._lost[rows].sum()
        self._found[rows] += 1
        self._missed[rows] += self._lost[rows]
        self._lost = np.where(found, 0, self._lost + 1)
        usual = self._all_found / (self._all_found + self._all_missed)
        finds = (self._found + _LIKE_OTHERS * usual) / (self._found + self._missed + _LIKE_OTHERS)
        still = self.probability * np.exp2(-(pts_s - max(self._before_s, pts_s - _STAYS_S)) / _STAYS_S)
        self.probability = np.where(found, 1.0, still * (1 - finds) / (1 - still * finds))
        self._before_s = pts_s


def _camera() -> CameraMotion:
    """Estimator of camera motion; imported here, as it needs OpenCV, which tracking otherwise does not."""
    from hoiclip_engine.track.camera_motion import CameraMotion

    return CameraMotion()
