"""Films looked at once, tracked as often as one likes: detections are recorded, trackers replay them.

Whether smoothing helps is a question of trackers; asking it by running the model again would only make it slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hoiclip.evaluation.video import Aligned, FilmFrame, VideoReport, aligned, measure_films, read_truth
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.engine import Engine
from hoiclip_engine.evaluate_films import film_frame
from hoiclip_engine.pairs import Pairs
from hoiclip_engine.track.pair_tracker import PairTracker, TrackConfig
from hoiclip_engine.video.source import open_video
from hoiclip_engine.video.timestamps import nominal_step_s


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One film: its truth, and what the model found in each frame."""

    name: str
    step_s: float
    times_s: tuple[float, ...]
    pairs: tuple[Pairs, ...]
    truth: tuple[FilmFrame, ...]


def record(engine: Engine, film: Path) -> Recording:
    """Looks at every frame."""
    with open_video(film) as source:
        seen = [(frame.pts_s, engine.detect(frame.rgb)) for frame in source]
        step_s = nominal_step_s(source.info.average_rate)
    return Recording(
        name=film.name,
        step_s=step_s,
        times_s=tuple(pts_s for pts_s, _ in seen),
        pairs=tuple(pairs for _, pairs in seen),
        truth=tuple(read_truth(film.with_suffix(".jsonl"), engine.vocabulary)),
    )


def without_smoothing(config: TrackConfig) -> TrackConfig:
    """Verbs as each look has them: no average, no hysteresis, no waiting."""
    chosen = config.verb
    verb = replace(
        chosen,
        half_life_s=0.0,
        min_duration_s=0.0,
        end_score=chosen.start_score,
        end_scores=chosen.start_scores,
    )
    return replace(config, verb=verb)


def replayed(films: Sequence[Recording], vocabulary: Vocabulary, config: TrackConfig) -> VideoReport:
    """What a stream that looks at every frame would show with this tracker."""
    return measure_films([tracked(film, vocabulary, config) for film in films], vocabulary)


def tracked(film: Recording, vocabulary: Vocabulary, config: TrackConfig) -> Aligned:
    """One film through a tracker, beside its truth."""
    tracker = PairTracker.for_vocabulary(vocabulary, config.for_looks_every(film.step_s))
    found = [
        film_frame(index, pts_s, tracker.update(pairs, pts_s))
        for index, (pts_s, pairs) in enumerate(zip(film.times_s, film.pairs, strict=True))
    ]
    return aligned(film.name, film.truth, found, len(vocabulary.verbs))
