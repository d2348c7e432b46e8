"""Every number of films at once: the one place that films are measured in, whoever looked at them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hoiclip.data.annotations import ImageAnnotation
from hoiclip.evaluation.metrics import choose_metric, evaluate
from hoiclip.evaluation.predictions import PredictedPairs
from hoiclip.evaluation.results import Evaluation, mean, number
from hoiclip.evaluation.splits import Split
from hoiclip.evaluation.video.align import Aligned
from hoiclip.evaluation.video.clear import Clear, clear
from hoiclip.evaluation.video.events import Events, Onsets, event_map, mean_event_map
from hoiclip.evaluation.video.film import annotation
from hoiclip.evaluation.video.film_identities import covered_entities, entity_moments, pair_moments
from hoiclip.evaluation.video.flicker import Flicker, flicker
from hoiclip.evaluation.video.hota import Hota, hota
from hoiclip.evaluation.video.identity import Idf1, idf1
from hoiclip.evaluation.video.moments import Moment
from hoiclip.evaluation.video.trajectories import Trajectories, trajectories
from hoiclip.evaluation.video.triplets import predicted_triplets, vidhoi
from hoiclip.vocabulary import Vocabulary

SCHEMA = "hoiclip-eval-video/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The three families of identity metrics over the same moments."""

    hota: Hota
    idf1: Idf1
    clear: Clear

    @property
    def summary(self) -> dict[str, float]:
        """Fractions and counts."""
        return {**self.hota.summary, **self.idf1.summary, **self.clear.summary, **self.clear.counts}


def measure_identities(sequences: Sequence[Sequence[Moment]]) -> Identities:
    """All three; sequences have nothing to do with each other."""
    return Identities(hota=hota(sequences), idf1=idf1(sequences), clear=clear(sequences))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """Numbers of several films."""

    frames: Evaluation
    """Every frame a picture."""
    vidhoi_map: float
    trajectories: Trajectories
    entities: Identities
    """Of pairs that do something."""
    pairs: Identities
    """That do something."""
    covered_entities: int
    film_entities: int
    """Humans and objects of true pairs, over all frames, whatever is believed of their verbs."""
    flicker: Flicker
    true_flicker: Flicker
    """What a perfect result flickers."""
    onsets: Onsets
    event_map: dict[float, float]
    """By the overlap of times that is asked for."""
    films: int
    missing_frames: int
    """True frames without a result."""
    foreign_frames: int
    """Results that belong to no true frame."""

    @property
    def at_a_glance(self) -> dict[str, float]:
        """For a table beside those of pictures; fractions."""
        return {"frame mAP": self.frame_map, "entity recall": self.entity_recall}

    @property
    def entity_recall(self) -> float:
        return self.covered_entities / self.film_entities if self.film_entities else math.nan

    @property
    def frame_map(self) -> float:
        return self.frames.mean_ap

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """By subject. Fractions but for counts, seconds ("... s"), and changes and flicker per pair-minute."""
        return {
            "frames": {**self.at_a_glance, "VidHOI mAP": self.vidhoi_map},
            "trajectories": {
                "mAP": self.trajectories.map_by_film,
                "class mAP": self.trajectories.map_by_class,
                "recall@50": self.trajectories.recall_at_50,
                "recall@100": self.trajectories.recall_at_100,
            },
            "entities": self.entities.summary,
            "pairs": self.pairs.summary,
            "verbs": {
                "changes": self.flicker.changes_per_minute,
                "true changes": self.true_flicker.changes_per_minute,
                "flicker": self.flicker.per_minute,
                "true flicker": self.true_flicker.per_minute,
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
            "films": self.films,
            "film_frames": len(self.frames.truths),
            "missing_frames": self.missing_frames,
            "foreign_frames": self.foreign_frames,
            "film_entities": self.film_entities,
            "identity_switches": self.entities.clear.switches,
            "true_events": self.onsets.events,
        }

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values: NaN becomes null."""
        numbers = {
            subject: {name: number(value) for name, value in values.items()} for subject, values in self.summary.items()
        }
        return {"schema": SCHEMA, "metric": self.frames.metric, **self.counts, **numbers}


def frame_predictions(films: Sequence[Aligned], vocabulary: Vocabulary) -> list[PredictedPairs]:
    """Every frame of every film as an image, in the form that fits the vocabulary's metric."""
    by_verb = choose_metric("auto", vocabulary) == "vcoco"
    return [predicted_triplets(one, vocabulary, by_verb=by_verb) for film in films for one in film.found]


def frame_annotations(films: Sequence[Aligned], vocabulary: Vocabulary) -> list[ImageAnnotation]:
    """The ground truth of every frame of every film."""
    return [annotation(one, vocabulary.person) for film in films for one in film.truth]


def measure_films(films: Sequence[Aligned], vocabulary: Vocabulary, splits: Iterable[Split] = ()) -> VideoReport:
    """Counts everything.

    Args:
        splits: of the frame mAP.
    """
    metric = choose_metric("auto", vocabulary)
    frames = evaluate(
        metric,
        frame_predictions(films, vocabulary),
        frame_annotations(films, vocabulary),
        vocabulary,
        splits=tuple(splits),
    )
    events = [Events(film, vocabulary) for film in films]
    covers = [covered_entities(film, vocabulary) for film in films]
    return VideoReport(
        frames=frames,
        vidhoi_map=mean([one.ap for one in vidhoi(films, vocabulary) if one.num_gt]),
        trajectories=trajectories(films, vocabulary),
        entities=measure_identities([entity_moments(film, vocabulary) for film in films]),
        pairs=measure_identities([pair_moments(film, vocabulary) for film in films]),
        covered_entities=sum(covered for covered, _ in covers),
        film_entities=sum(there for _, there in covers),
        flicker=sum((flicker(film.found, vocabulary) for film in films), Flicker()),
        true_flicker=sum((flicker(film.truth, vocabulary) for film in films), Flicker()),
        onsets=sum((film.onsets() for film in events), Onsets(delays_s=(), events=0)),
        event_map=event_map(events),
        films=len(films),
        missing_frames=sum(film.missing for film in films),
        foreign_frames=sum(film.foreign for film in films),
    )
