"""What the benchmark of films replays is what the stream shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.film_replay import record, replayed, without_smoothing
from hoiclip.data.drawn.fixed_sets import FILM_CONFIG, FILM_SEEDS
from hoiclip_engine.commands.draw import draw_films
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluate_films import evaluate_films, films_in
from hoiclip_engine.track.pair_tracker import TrackConfig


def test_a_replayed_film_is_the_film(tmp_path: Path) -> None:
    draw_films(tmp_path, 1, replace(FILM_CONFIG, fps=8, duration_s=2.0), FILM_SEEDS["test"])
    films = films_in(tmp_path)
    with Engine.load("drawn", EngineConfig(backend="torch")) as engine:
        streamed = evaluate_films(engine, films).summary
        recording = [record(engine, film) for film in films]
        again = replayed(recording, engine.vocabulary, engine.config.track).summary
        raw = replayed(recording, engine.vocabulary, without_smoothing(TrackConfig()))
    for subject, numbers in streamed.items():
        assert again[subject] == pytest.approx(numbers, nan_ok=True), subject
    assert raw.flicker.changes > 0
