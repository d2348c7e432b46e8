"""All metrics of videos at once, for running models and for finished results alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.metrics import choose_metric, evaluate
from hoiclip.evaluation.results import Evaluation, mean, number
from hoiclip.evaluation.splits import Split
from hoiclip.evaluation.triplets import PredictedTriplets
from hoiclip.evaluation.video.events import Flicker, Onsets, VideoEvents, event_map, flicker, mean_event_map
from hoiclip.evaluation.video.frames import AlignedVideo, frame_annotation
from hoiclip.evaluation.video.hota import Hota, hota
from hoiclip.evaluation.video.identity import (
    Clear,
    IdentityFrame,
    Idf1,
    clear,
    covered_entities,
    entity_frames,
    idf1,
    pair_frames,
)
from hoiclip.evaluation.video.trajectories import Trajectories, trajectories
from hoiclip.evaluation.video.vidhoi import predicted_triplets, vidhoi

SCHEMA = "hoiclip-eval-video/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The three families of identity metrics over the same frames."""

    hota: Hota
    idf1: Idf1
    clear: Clear

    @property
    def summary(self) -> dict[str, float]:
        """Fractions and counts."""
        return {**self.hota.summary, **self.idf1.summary, **self.clear.summary, **self.clear.counts}


def measure_identities(sequences: Sequence[Sequence[IdentityFrame]]) -> Identities:
    """Measures all three; sequences are independent of each other."""
    return Identities(hota=hota(sequences), idf1=idf1(sequences), clear=clear(sequences))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """Metrics of several videos."""

    frames: Evaluation
    """Evaluation of every frame as an image."""
    vidhoi_map: float
    trajectories: Trajectories
    entities: Identities
    """Humans and objects of pairs that do something."""
    pairs: Identities
    """Pairs that do something."""
    covered_entities: int
    video_entities: int
    """Humans and objects of all ground-truth pairs, over all frames, whatever their verbs."""
    flicker: Flicker
    gt_flicker: Flicker
    """Flicker of a perfect result."""
    onsets: Onsets
    event_map: dict[float, float]
    """Event mAP by the overlap of times that is required."""
    videos: int
    missing_frames: int
    """Ground-truth frames without a result."""
    foreign_frames: int
    """Results that belong to no ground-truth frame."""

    @property
    def at_a_glance(self) -> dict[str, float]:
        """Two numbers for a table beside those of images; fractions."""
        return {"frame mAP": self.frame_map, "entity recall": self.entity_recall}

    @property
    def entity_recall(self) -> float:
        return self.covered_entities / self.video_entities if self.video_entities else math.nan

    @property
    def frame_map(self) -> float:
        return self.frames.mean_ap

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """Numbers by subject. Fractions but for counts, seconds ("... s"), and changes and flicker per pair-minute."""
        return {
            "frames": {**self.at_a_glance, "VidHOI mAP": self.vidhoi_map},
            "trajectories": {
                "mAP": self.trajectories.map_by_video,
                "class mAP": self.trajectories.map_by_class,
                "recall@50": self.trajectories.recall_at_50,
                "recall@100": self.trajectories.recall_at_100,
            },
            "entities": self.entities.summary,
            "pairs": self.pairs.summary,
            "verbs": {
                "changes": self.flicker.changes_per_minute,
                "true changes": self.gt_flicker.changes_per_minute,
                "flicker": self.flicker.per_minute,
                "true flicker": self.gt_flicker.per_minute,
                "onset median s": self.onsets.median_s,
                "onset p90 s": self.onsets.p90_s,
                "onsets found": self.onsets.found,
                "event mAP": mean_event_map(self.event_map),
                **{f"event mAP@{least}": value for least, value in self.event_map.items()},
            },
        }

    @property
    def counts(self) -> dict[str, int]:
        return {
            "films": self.videos,
            "film_frames": len(self.frames.ground_truth),
            "missing_frames": self.missing_frames,
            "foreign_frames": self.foreign_frames,
            "film_entities": self.video_entities,
            "identity_switches": self.entities.clear.switches,
            "true_events": self.onsets.events,
        }

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values: NaN becomes null."""
        numbers = {
            subject: {name: number(value) for name, value in values.items()} for subject, values in self.summary.items()
        }
        return {"schema": SCHEMA, "metric": self.frames.metric, **self.counts, **numbers}


def frame_predictions(videos: Sequence[AlignedVideo], vocabulary: Vocabulary) -> list[PredictedTriplets]:
    """Predictions of every frame of every video, in the form that fits the vocabulary's metric."""
    by_verb = choose_metric("auto", vocabulary) == "vcoco"
    return [predicted_triplets(frame, vocabulary, by_verb=by_verb) for video in videos for frame in video.found]


def frame_annotations(videos: Sequence[AlignedVideo], vocabulary: Vocabulary) -> list[ImageAnnotation]:
    """Ground truth of every frame of every video."""
    return [frame_annotation(frame, vocabulary.person) for video in videos for frame in video.ground_truth]


def measure_videos(videos: Sequence[AlignedVideo], vocabulary: Vocabulary, splits: Iterable[Split] = ()) -> VideoReport:
    """Measures everything.

    Args:
        splits: of the frame mAP.
    """
    metric = choose_metric("auto", vocabulary)
    frames = evaluate(
        metric,
        frame_predictions(videos, vocabulary),
        frame_annotations(videos, vocabulary),
        vocabulary,
        splits=tuple(splits),
    )
    events = [VideoEvents(video, vocabulary) for video in videos]
    covers = [covered_entities(video, vocabulary) for video in videos]
    return VideoReport(
        frames=frames,
        vidhoi_map=mean([frame.ap for frame in vidhoi(videos, vocabulary) if frame.num_gt]),
        trajectories=trajectories(videos, vocabulary),
        entities=measure_identities([entity_frames(video, vocabulary) for video in videos]),
        pairs=measure_identities([pair_frames(video, vocabulary) for video in videos]),
        covered_entities=sum(covered for covered, _ in covers),
        video_entities=sum(present for _, present in covers),
        flicker=sum((flicker(video.found, vocabulary) for video in videos), Flicker()),
        gt_flicker=sum((flicker(video.ground_truth, vocabulary) for video in videos), Flicker()),
        onsets=sum((video.onsets() for video in events), Onsets(delays_s=(), events=0)),
        event_map=event_map(events),
        videos=len(videos),
        missing_frames=sum(video.missing for video in videos),
        foreign_frames=sum(video.foreign for video in videos),
    )
