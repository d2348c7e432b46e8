"""Entity tracks against those of PyPI `trackers`, on real detections and for speed: python -m benchmarks.tracker.

Needs the extra `peers` in an environment of its own (its OpenCV clashes with the headless one) and HOICLIP_SHARED.
Quality is TrackEval's, on ../shared/data/mot as tests/shared/test_real_tracks.py reads it: identical detections, scores
and frames for all; peers as they come, given the frame rate, one per class. KITTI's scores are logits, and thresholds
of trackers are between 0 and 1, so that all is measured twice: through a sigmoid, and stretched linearly. Speed is
compared with ByteTrack's.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import append, provenance, side_by_side, statistics
from hoiclip_engine.track import EntityTracker
from tests.shared.test_real_tracks import (
    KITTI_CLASSES,
    KITTI_FPS,
    TUD_FPS,
    Boxes,
    chosen,
    kitti,
    overlaps,
    sigmoid,
    stretched,
    tud_campus,
)

COUNTS = (10, 30, 100)
ROUNDS = 30
FRAMES = 300
Measures = dict[str, float]
Tracker = Callable[[list[Boxes], float], list[Boxes]]


def ours(detections: list[Boxes], fps: float) -> list[Boxes]:
    tracker = EntityTracker()
    return [
        chosen(found, tracker.update(found.boxes_xyxy, found.scores, found.labels, index / fps))
        for index, found in enumerate(detections)
    ]


def peer(name: str) -> Tracker:
    """A tracker of PyPI `trackers` by the name of its class: one per class of objects, as peers ignore classes;
    identities are numbered apart."""

    def follow(detections: list[Boxes], fps: float) -> list[Boxes]:
        import supervision

        labels = sorted({int(label) for found in detections for label in found.labels})
        trackers = {label: made(name, fps) for label in labels}
        results = []
        for found in detections:
            ids = np.full(len(found.labels), -1)
            for row, (label, tracker) in enumerate(trackers.items()):
                here = np.flatnonzero(found.labels == label)
                tracked = tracker.update(
                    supervision.Detections(
                        xyxy=found.boxes_xyxy[here], confidence=found.scores[here], class_id=here
                    )  # class_id carries the place in the list, which peers change
                )
                if len(tracked):
                    ids[tracked.class_id] = np.where(
                        tracked.tracker_id >= 0, 1 + tracked.tracker_id * len(trackers) + row, -1
                    )
            results.append(chosen(found, ids))
        return results

    return follow


def made(name: str, fps: float) -> Any:
    """A peer as it comes, given the frame rate; BoT-SORT without images, so without its camera motion."""
    import trackers

    without_images = {"enable_cmc": False} if name == "BoTSORTTracker" else {}
    return getattr(trackers, name)(frame_rate=fps, **without_images)


PEERS = {
    "SORT": "SORTTracker",
    "ByteTrack": "ByteTrackTracker",
    "OC-SORT": "OCSORTTracker",
    "BoT-SORT": "BoTSORTTracker",
    "C-BIoU": "CBIoUTracker",
}
TRACKERS: dict[str, Tracker] = {"hoiclip": ours} | {name: peer(cls) for name, cls in PEERS.items()}
SCORES = {"sigmoid": sigmoid, "linear": stretched}


def measure(ground_truth: list[Boxes], results: list[Boxes]) -> Measures:
    """Percent; switches are counted."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    data: dict[str, Any] = {"num_timesteps": len(ground_truth)}
    for name, frames in (("gt", ground_truth), ("tracker", results)):
        known = {identity: row for row, identity in enumerate(sorted({int(i) for frame in frames for i in frame.ids}))}
        data[f"{name}_ids"] = [np.array([known[int(i)] for i in frame.ids], int) for frame in frames]
        data[f"num_{name}_ids"] = len(known)
        data[f"num_{name}_dets"] = sum(len(frame.ids) for frame in frames)
    data["similarity_scores"] = [overlaps(*both).astype(float) for both in zip(ground_truth, results, strict=True)]
    quiet = {"PRINT_CONFIG": False}
    return {
        "HOTA": 100 * float(HOTA().eval_sequence(data)["HOTA"].mean()),
        "IDF1": 100 * float(Identity(quiet).eval_sequence(data)["IDF1"]),
        "IDSW": float(CLEAR(quiet).eval_sequence(data)["IDSW"]),
    }


def of_class(frames: Iterable[Boxes], label: int) -> list[Boxes]:
    """Only the boxes of a class."""
    return [
        Boxes(*(column[frame.labels == label] for column in (frame.boxes_xyxy, frame.ids, frame.scores, frame.labels)))
        for frame in frames
    ]


def compare(shared: Path, scores: str) -> dict[str, dict[str, Measures]]:
    """Metrics of each tracker for each sequence and class; with their mean at the end.

    Args:
        scores: key of SCORES, the map from KITTI's logits to scores; TUD's are between 0 and 1 as they come.
    """
    table: dict[str, dict[str, Measures]] = {}
    sequences = [("TUD-Campus", TUD_FPS, tud_campus(shared), {"Pedestrian": 1})]
    sequences += [
        (f"KITTI {name}", KITTI_FPS, kitti(shared, name, SCORES[scores]), KITTI_CLASSES)
        for name in ("0012", "0013", "0015")
    ]
    for name, fps, (ground_truth, detections), classes in sequences:
        results = {tracker: track(detections, fps) for tracker, track in TRACKERS.items()}
        for label, row in classes.items():
            table[f"{name} {label}"] = {
                tracker: measure(of_class(ground_truth, row), of_class(found, row))
                for tracker, found in results.items()
            }
    table["mean"] = {
        tracker: {
            metric: float(np.mean([line[tracker][metric] for line in table.values()]))
            for metric in ("HOTA", "IDF1", "IDSW")
        }
        for tracker in TRACKERS
    }
    return table


def moving_boxes(count: int, frames: int = FRAMES, seed: int = 0) -> list[Boxes]:
    """Boxes that go straight and bounce, one in ten missed, one false in twenty."""
    rng = np.random.default_rng(seed)
    world = np.array([1900.0, 1000.0])
    place, speed = rng.uniform(0, world, (count, 2)), rng.uniform(-80, 80, (count, 2))
    size = rng.uniform(30, 120, (count, 2))
    video = []
    for frame in range(frames):
        centre = np.abs((place + speed * frame / 30) % (2 * world) - world)
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) + rng.normal(0, 2, (count, 4))
        seen = np.flatnonzero(rng.random(count) > 0.1)
        false = rng.poisson(0.05 * count)
        corners = rng.uniform(0, world, (false, 2))
        nothing = np.concatenate([corners, corners + rng.uniform(30, 100, (false, 2))], axis=1)
        video.append(
            Boxes(
                boxes_xyxy=np.concatenate([boxes[seen], nothing]),
                ids=np.concatenate([seen, np.full(false, -1)]),
                scores=np.concatenate([rng.beta(6, 2, len(seen)), rng.beta(2, 4, false)]),
                labels=np.zeros(len(seen) + false, int),
            )
        )
    return video


def time_both(count: int, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Milliseconds per update of either tracker on the same video."""
    import supervision

    video = moving_boxes(count)
    detections = [
        supervision.Detections(xyxy=frame.boxes_xyxy, confidence=frame.scores, class_id=frame.labels) for frame in video
    ]

    def run_ours() -> None:
        tracker = EntityTracker()
        for index, frame in enumerate(video):
            tracker.update(frame.boxes_xyxy, frame.scores, frame.labels, index / 30)

    def run_byte_track() -> None:
        tracker = made("ByteTrackTracker", 30)
        for frame in detections:
            tracker.update(frame)

    times = side_by_side({"hoiclip": run_ours, "ByteTrack": run_byte_track}, rounds)
    return {name: [value / len(video) for value in values] for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="passes over the video of 300 frames that are timed")
    args = parser.parse_args()
    origin = provenance("numpy", "scipy", "numba", "trackers", "trackeval")
    for scores in SCORES:
        for name, line in compare(Path(os.environ.get("HOICLIP_SHARED", "../shared")), scores).items():
            rounded = {
                tracker: {metric: round(value, 2) for metric, value in found.items()} for tracker, found in line.items()
            }
            facts: dict[str, object] = {"benchmark": "tracker_quality", "sequence": name, "scores": scores}
            append("tracker", {**facts, **rounded, **origin})
    for count in COUNTS:
        for name, samples in time_both(count, args.rounds).items():
            facts = {"benchmark": "tracker_speed", "entities": count, "tracker": name, "per": "update, mean of 300"}
            append("tracker", {**facts, **statistics(samples), **origin})


if __name__ == "__main__":
    main()
