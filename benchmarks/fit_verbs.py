"""Fits when each verb begins and ends to a model, on drawn validation films: python -m benchmarks.fit_verbs.

The model looks at every frame once and the tracker averages its scores. Then each verb takes, of a small grid of start
and end scores, the pair under which it goes on in most of the frames that it should, and in few others (F1); a verb
that is hardly ever done, or gains little, keeps the usual scores. Test films are never looked at. The result is a file
beside the model (hoiclip_engine/track/fitted_verbs.py); what it is worth tells benchmarks/films.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.film_replay import Recording, record, tracked
from benchmarks.harness import provenance
from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FILM_SEEDS
from hoiclip.evaluation.video.film_identities import pair_overlaps
from hoiclip.evaluation.video.segments import acting
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.commands.draw import draw_films
from hoiclip_engine.engine import Engine
from hoiclip_engine.evaluate_films import films_in
from hoiclip_engine.track import TrackConfig, VerbConfig
from hoiclip_engine.track.fitted_verbs import file_beside, write_thresholds
from hoiclip_engine.track.verbs import VerbSwitch

FILMS, FPS, SECONDS = 32, 15.0, 10.0
STARTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
END_SHARES = (0.25, 0.375, 0.5)
"""End scores, of start scores: wide apart, as what is near flickers."""
LEAST_S, LEAST_GAIN = 5.0, 0.02
"""Seconds that a verb must be done, and what it must gain in F1, to leave the usual scores."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One frame of a film: P pairs that are tracked, their averaged scores, and what they really do."""

    pts_s: float
    lasts_s: float
    rows: NDArray[np.int64]
    """(P,) of the switch."""
    averages: NDArray[np.float64]
    """(P, V)"""
    true: NDArray[np.bool_]
    """(P, V)"""
    missed: NDArray[np.int64]
    """(V,) true pairs that are not tracked; no threshold finds them."""


def listen(film: Recording, vocabulary: Vocabulary, config: TrackConfig) -> list[Heard]:
    """What a switch hears of a film."""
    both = tracked(film, vocabulary, config)
    row_of: dict[int, int] = {}
    heard = []
    for whole, found in zip(both.truth, both.found, strict=True):
        truth = acting(whole, vocabulary)
        overlap = pair_overlaps(truth, found)
        overlap[overlap < 0.5] = 0
        true = np.zeros_like(found.verb_active)
        if overlap.size:
            hit = overlap.max(axis=0) > 0
            true[hit] = truth.verb_active[overlap.argmax(axis=0)[hit]]
        seen = overlap.max(axis=1, initial=0) > 0
        heard.append(
            Heard(
                pts_s=whole.pts_s,
                lasts_s=film.step_s,
                rows=np.array([row_of.setdefault(pair, len(row_of)) for pair in found.pair.tolist()], np.int64),
                averages=found.verb_scores,
                true=true,
                missed=truth.verb_active[~seen].sum(axis=0),
            )
        )
    return heard


def f1_of(films: Sequence[Sequence[Heard]], num_verbs: int, config: VerbConfig) -> NDArray[np.float64]:
    """(V,) over all frames and pairs."""
    hit, said, done = np.zeros(num_verbs), np.zeros(num_verbs), np.zeros(num_verbs)
    for film in films:
        switch = VerbSwitch(num_verbs, config)
        switch.add(1 + max((int(one.rows.max()) for one in film if len(one.rows)), default=-1))
        for one in film:
            switch.observe(one.rows, one.averages, one.pts_s)
            active = switch.active[one.rows]
            hit += (active & one.true).sum(axis=0)
            said += active.sum(axis=0)
            done += one.true.sum(axis=0) + one.missed
    f1: NDArray[np.float64] = 2 * hit / np.maximum(said + done, 1)
    return f1


def fit(films: Sequence[Sequence[Heard]], vocabulary: Vocabulary) -> dict[str, tuple[float, float]]:
    """Start and end score by verb."""
    usual, count = VerbConfig(), len(vocabulary.verbs)
    best = f1_of(films, count, usual) + LEAST_GAIN
    chosen = [(usual.start_score, usual.end_score)] * count
    done_s = sum((one.lasts_s * one.true.sum(axis=0) for film in films for one in film), np.zeros(count))
    for start in STARTS:
        for share in END_SHARES:
            end = round(start * share, 3)
            f1 = f1_of(films, count, replace(usual, start_score=start, end_score=end))
            for verb in np.flatnonzero((f1 > best) & (done_s >= LEAST_S)).tolist():
                best[verb], chosen[verb] = f1[verb], (start, end)
    return dict(zip(vocabulary.verbs, chosen, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="drawn")
    parser.add_argument("--films", type=int, default=FILMS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engine.load(asked.model) as engine:
        config = replace(FILM_CONFIG, fps=FPS, duration_s=SECONDS)
        draw_films(Path(folder), asked.films, config, FILM_SEEDS["validation"])
        recordings = [record(engine, film) for film in films_in(Path(folder))]
        vocabulary, path, sha256 = engine.vocabulary, file_beside(engine.model.path), engine.model.sha256()
    scores = fit([listen(film, vocabulary, TrackConfig()) for film in recordings], vocabulary)
    facts = {"model_sha256": sha256, "films": f"{asked.films} drawn validation films of {SECONDS:g} s at {FPS:g} fps"}
    write_thresholds(path, scores, facts | {"made_by": "python -m benchmarks.fit_verbs", **provenance("numpy")})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
