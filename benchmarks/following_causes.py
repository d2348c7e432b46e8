"""Measures causes of lost identities, by associations from ground truth: python -m benchmarks.following_causes.

Videos are those of benchmarks/following.py, from seeds of their own: constants of tracking may be tuned on them. A
detection goes to the track that last had the ground-truth identity of the detection, for humans, objects or both, as
long as that track was seen within some seconds; everything else is the tracker's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.following import ARMS, found_in, line_of, video
from benchmarks.harness import append, provenance
from benchmarks.video_replay import Recording
from hoiclip.core.array_types import F64, I64, Bool
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.video import VideoReport, align_video, measure_videos
from hoiclip.evaluation.video.frames import VideoFrame, entities
from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip_engine.sinks.hico_sink import video_frame
from hoiclip_engine.track import EntityConfig, EntityTracker, PairTracker, TrackConfig
from hoiclip_engine.track.partners import Ties
from hoiclip_kernels.box_iou import box_iou

FIRST_SEED, VIDEOS = 8_100_000, 24
_SAME, _REPEATED = 0.2, 0.35
"""Overlaps from which a detection is of a ground-truth entity, alone and beside a better one."""
FOREVER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Identities that are taken from ground truth."""

    humans: bool = True
    objects: bool = True
    within_s: float = FOREVER_S
    """Seconds unseen after which an identity is a new one."""


ORACLES: dict[str, tuple[Oracle, float | None]] = {
    "none": (Oracle(humans=False, objects=False), None),
    "all": (Oracle(), FOREVER_S),
    "all, as long as tracks last": (Oracle(), None),
    "all, within 1 s": (Oracle(within_s=1.0), FOREVER_S),
    "all, within 0.5 s": (Oracle(within_s=0.5), FOREVER_S),
    "humans": (Oracle(objects=False), None),
    "objects": (Oracle(humans=False), None),
}
"""Oracle, and lost_after_s unless it is the default."""


class OracleTracker(EntityTracker):
    """Associates by ground truth."""

    def __init__(self, config: EntityConfig, oracle: Oracle, ground_truth: Sequence[VideoFrame], person: int) -> None:
        super().__init__(config)
        self._oracle, self._person = oracle, person
        self._frames = iter(ground_truth)
        self._of_track = np.empty(0, np.int64)  # ground-truth identity, -1 for none
        self._of_born = np.empty(0, np.int64)

    def _match(self, boxes: F64, label: I64, high: Bool, low: Bool, ties: Ties | None) -> I64:
        gt = self._gt_ids(next(self._frames), boxes, label, high | low)
        gt = np.where(np.where(label == self._person, self._oracle.humans, self._oracle.objects), gt, -1)
        by_gt = gt >= 0
        rows = super()._match(boxes, label, high & ~by_gt, low & ~by_gt, ties)
        recent = self._now_s - self._seen_s <= self._oracle.within_s
        for n in np.flatnonzero(by_gt & (high | low)):
            known = np.flatnonzero((self._of_track == gt[n]) & recent)
            if len(known):
                rows[n] = known[-1]
            elif gt[n] in gt[:n]:
                high[n] = False  # repeats one that is born now
        self._of_born = gt[high & (rows < 0)]
        return rows

    def _gt_ids(self, frame: VideoFrame, boxes: F64, label: I64, usable: Bool) -> I64:
        """(N,) ground-truth identity of each detection, -1 for none; several may repeat one."""
        present = entities(frame, self._person)
        found = np.full(len(boxes), -1, np.int64)
        if not len(present.ids) or not len(boxes):
            return found
        overlap = box_iou(boxes, np.asarray(present.boxes_xyxy, np.float64))
        overlap[(label[:, None] != present.labels) | ~usable[:, None]] = 0
        row, column = linear_sum_assignment(np.where(overlap > _SAME, overlap, 0), maximize=True)
        good = overlap[row, column] > _SAME
        found[row[good]] = present.ids[column[good]]
        repeated = (found < 0) & (overlap.max(axis=1) > _REPEATED)
        found[repeated] = present.ids[overlap.argmax(axis=1)[repeated]]
        return found

    def _add(self, boxes: F64, label: I64, scores: F64) -> None:
        super()._add(boxes, label, scores)
        self._of_track = np.append(self._of_track, self._of_born)

    def _keep(self, rows: Bool) -> None:
        self._of_track = self._of_track[rows]
        super()._keep(rows)


def follow_by(
    oracle: Oracle, lost_after_s: float | None, recordings: Sequence[Recording], vocabulary: Vocabulary
) -> VideoReport:
    """The report of all recordings."""
    config = TrackConfig() if lost_after_s is None else replace(TrackConfig(), lost_after_s=lost_after_s)
    aligned = []
    for recording in recordings:
        tracker = PairTracker.for_vocabulary(vocabulary, config)
        limits = config.for_entities()
        tracker._entities = OracleTracker(limits, oracle, recording.ground_truth, vocabulary.person)
        found = [
            video_frame(index, pts_s, tracker.update(pairs, pts_s))
            for index, (pts_s, pairs) in enumerate(zip(recording.times_s, recording.pairs, strict=True))
        ]
        aligned.append(align_video(recording.name, recording.ground_truth, found, len(vocabulary.verbs)))
    return measure_videos(aligned, vocabulary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    args = parser.parse_args()
    vocabulary = synthetic_vocabulary()
    videos = [video(VIDEO_CONFIG, FIRST_SEED + row) for row in range(args.videos)]
    origin = provenance("numpy", "scipy", "numba")
    for name in ("exact", "poor"):
        recordings = [
            found_in(moments, f"video {row}", 1 / VIDEO_CONFIG.fps, ARMS[name], row)
            for row, moments in enumerate(videos)
        ]
        for known, (oracle, lost_after_s) in ORACLES.items():
            report = follow_by(oracle, lost_after_s, recordings, vocabulary)
            facts = {"benchmark": "following_causes", "videos": args.videos, "first seed": FIRST_SEED}
            append("following_causes", {**facts, "detector": name, "oracle": known, **line_of(report), **origin})


if __name__ == "__main__":
    main()
