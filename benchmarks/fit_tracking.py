"""Fits parameters of tracking to a model, on synthetic validation videos: python -m benchmarks.fit_tracking.

The model detects in every frame once; the rest is replayed. First the overlap from which a faint box beside a better
one is the same object: that with which pairs keep their identities best. Then start and end scores of each verb: of a
small grid those with which it is active in most of the frames that it should, and in few others (F1). Rare verbs share
one pair of scores, and what gains little keeps the usual ones. Test videos are not used. The result goes into the model
file; benchmarks/videos.py measures its effect.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import provenance
from benchmarks.video_replay import Recording, record_detections, replay_recordings, track_recording
from hoiclip.core.model_file import FittedTracking, save_model_file
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.video.frames import acting_pairs
from hoiclip.evaluation.video.identity import pair_overlaps
from hoiclip.synthetic.fixed_sets import VIDEO_CONFIG, VIDEO_SEEDS
from hoiclip_engine.cli.draw import draw_videos
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.videos import videos_in
from hoiclip_engine.track import TrackConfig, VerbConfig
from hoiclip_engine.track.verbs import VerbSwitch

VIDEOS, FPS, SECONDS = 64, 15.0, 10.0
STARTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
END_RATIOS = (0.25, 0.33)
"""End scores as ratios of start scores: far apart, because near ones flicker."""
FAINT_OVERLAPS = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1)
MIN_S, MIN_GAIN = 5.0, 0.02
"""Seconds that a verb must last to have scores of its own, and the gain in F1 for which the usual ones are left."""


@dataclass(frozen=True, kw_only=True)
class TrackedFrame:
    """One frame of a video: P tracked pairs, their averaged scores, and their verbs of the ground truth."""

    pts_s: float
    lasts_s: float
    rows: NDArray[np.int64]
    """(P,) rows of the switch."""
    averages: NDArray[np.float64]
    """(P, V)"""
    gt: NDArray[np.bool_]
    """(P, V)"""
    missed: NDArray[np.int64]
    """(V,) ground-truth pairs that are not tracked; no threshold finds them."""


def track_frames(video: Recording, vocabulary: Vocabulary, config: TrackConfig) -> list[TrackedFrame]:
    """Input of the verb switch for each frame of a video."""
    both = track_recording(video, vocabulary, config)
    row_of: dict[int, int] = {}
    tracked = []
    for gt_frame, found in zip(both.ground_truth, both.found, strict=True):
        ground_truth = acting_pairs(gt_frame, vocabulary)
        overlap = pair_overlaps(ground_truth, found)
        overlap[overlap < 0.5] = 0
        gt = np.zeros_like(found.verb_active)
        if overlap.size:
            hit = overlap.max(axis=0) > 0
            gt[hit] = ground_truth.verb_active[overlap.argmax(axis=0)[hit]]
        seen = overlap.max(axis=1, initial=0) > 0
        tracked.append(
            TrackedFrame(
                pts_s=gt_frame.pts_s,
                lasts_s=video.step_s,
                rows=np.array([row_of.setdefault(pair, len(row_of)) for pair in found.pair.tolist()], np.int64),
                averages=found.verb_scores,
                gt=gt,
                missed=ground_truth.verb_active[~seen].sum(axis=0),
            )
        )
    return tracked


def f1_of(
    videos: Sequence[Sequence[TrackedFrame]], groups: NDArray[np.int64], config: VerbConfig
) -> NDArray[np.float64]:
    """(V,) F1 over all frames and pairs, of each verb's group of verbs.

    Args:
        groups: (V,) number of each verb's group.
    """
    num_verbs = len(groups)
    hit, active_count, done = np.zeros(num_verbs), np.zeros(num_verbs), np.zeros(num_verbs)
    for video in videos:
        switch = VerbSwitch(num_verbs, config)
        switch.add(1 + max((int(tracked.rows.max()) for tracked in video if len(tracked.rows)), default=-1))
        for tracked in video:
            switch.observe(tracked.rows, tracked.averages, tracked.pts_s)
            active = switch.active[tracked.rows]
            hit += (active & tracked.gt).sum(axis=0)
            active_count += active.sum(axis=0)
            done += tracked.gt.sum(axis=0) + tracked.missed
    hits, marks = (np.bincount(groups, counts)[groups] for counts in (hit, active_count + done))
    f1: NDArray[np.float64] = 2 * hits / np.maximum(marks, 1)
    return f1


def fit(videos: Sequence[Sequence[TrackedFrame]], vocabulary: Vocabulary) -> dict[str, tuple[float, float]]:
    """Start and end score by verb."""
    usual, count = VerbConfig(), len(vocabulary.verbs)
    done_s = sum((tracked.lasts_s * tracked.gt.sum(axis=0) for video in videos for tracked in video), np.zeros(count))
    groups = np.where(done_s >= MIN_S, 1 + np.arange(count), 0)
    is_known = np.bincount(groups, done_s)[groups] >= MIN_S
    best = f1_of(videos, groups, usual) + MIN_GAIN
    chosen = [(usual.start_score, usual.end_score)] * count
    for start in STARTS:
        for ratio in END_RATIOS:
            end = round(start * ratio, 3)
            f1 = f1_of(videos, groups, replace(usual, start_score=start, end_score=end))
            for verb in np.flatnonzero((f1 > best) & is_known).tolist():
                best[verb], chosen[verb] = f1[verb], (start, end)
    return dict(zip(vocabulary.verbs, chosen, strict=True))


def fit_faint_overlap(videos: Sequence[Recording], vocabulary: Vocabulary, config: TrackConfig) -> float:
    """The overlap of FAINT_OVERLAPS with the best mean of pair IDF1 and pair HOTA."""

    def identity(overlap: float) -> float:
        pairs = replay_recordings(videos, vocabulary, replace(config, faint_overlap=overlap)).summary["pairs"]
        return float(pairs["IDF1"]) + float(pairs["HOTA"])

    return max(FAINT_OVERLAPS, key=identity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="drawn")
    parser.add_argument("--films", dest="videos", type=int, default=VIDEOS)
    parser.add_argument("-o", "--output", type=Path, help="the model with its scores (default: the model's own file)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engine.load(args.model) as engine:
        config = replace(VIDEO_CONFIG, fps=FPS, duration_s=SECONDS)
        draw_videos(Path(folder), args.videos, config, VIDEO_SEEDS["validation"])
        recordings = [record_detections(engine, video) for video in videos_in(Path(folder))]
        vocabulary, model = engine.vocabulary, engine.model
    usual = EngineConfig().track
    track = replace(usual, faint_overlap=fit_faint_overlap(recordings, vocabulary, usual))
    scores = fit([track_frames(video, vocabulary, track) for video in recordings], vocabulary)
    tracking = FittedTracking(verb_scores=scores, faint_overlap=track.faint_overlap)
    fitted_on = f"{args.videos} synthetic validation videos of {SECONDS:g} s at {FPS:g} fps"
    facts = {"tracking": {"fitted_on": fitted_on, "by": "python -m benchmarks.fit_tracking", **provenance("numpy")}}
    out = args.output or model.path
    save_model_file(out, model.tensors(), model.config, vocabulary, model.provenance | facts, tracking)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
