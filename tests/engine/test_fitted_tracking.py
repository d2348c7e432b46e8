"""Parameters of tracking: fitted to a model, kept in its file, and taken by the engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from benchmarks.fit_tracking import TrackedFrame, fit
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import FittedTracking, load_model_file, save_model_file
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.models import find_model
from hoiclip_engine.track import TrackConfig, VerbConfig

VERBS = ("hold", "kick")
SCORES = {"kick": (0.6, 0.3), "hold": (0.2, 0.1)}


def test_fitted_scores_are_in_the_order_of_the_vocabulary() -> None:
    verb = VerbConfig().fitted(SCORES, VERBS)
    assert (verb.start_scores, verb.end_scores) == ((0.2, 0.6), (0.1, 0.3))
    assert verb.half_life_s == VerbConfig().half_life_s


@pytest.mark.parametrize(
    "verb", [VerbConfig(start_score=0.5), VerbConfig(end_score=0.1), VerbConfig(start_scores=(0.4,), end_scores=(0.3,))]
)
def test_configured_scores_are_kept(verb: VerbConfig) -> None:
    assert verb.fitted(SCORES, VERBS) == verb


def test_fitted_overlap_gives_way_to_a_chosen_one() -> None:
    fitted = FittedTracking(verb_scores=SCORES, faint_overlap=0.2)
    assert TrackConfig().fitted(fitted, VERBS).faint_overlap == 0.2
    assert TrackConfig(faint_overlap=0.4).fitted(fitted, VERBS).faint_overlap == 0.4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"verb_scores": {}, "faint_overlap": 0.2}',
        '{"verb_scores": {"hold": [0.3, 0.1]}, "faint_overlap": 0.2}',
        '{"verb_scores": {VERB: [0.1, 0.3]}, "faint_overlap": 0.2}',
        '{"verb_scores": {VERB: [0.1]}, "faint_overlap": 0.2}',
        '{"verb_scores": {VERB: [NaN, NaN]}, "faint_overlap": 0.2}',
        '{"verb_scores": {VERB: [0.3, 0.1]}}',
        '{"verb_scores": {VERB: [0.3, 0.1]}, "faint_overlap": 0}',
        '{"verb_scores": {VERB: [0.3, 0.1]}, "faint_overlap": null}',
    ],
)
def test_damaged_parameters_of_a_model_file_are_one_error(tmp_path: Path, text: str) -> None:
    drawn = load_model_file(find_model("drawn"))
    if found := re.search(r"VERB: ([^}]*)", text):
        text = text.replace(found[0], ", ".join(f"{json.dumps(verb)}: {found[1]}" for verb in drawn.vocabulary.verbs))
    path = tmp_path / "model.safetensors"
    with safe_open(drawn.path, "numpy") as file:
        metadata = {**file.metadata(), "tracking": text}
    save_file(drawn.tensors(), path, metadata=metadata)
    with pytest.raises(ModelError, match="fit them again") as caught:
        load_model_file(path)
    assert "\n" not in str(caught.value)


def test_bundled_model_has_parameters_for_all_its_verbs() -> None:
    with Engine.load("drawn", EngineConfig(backend="torch")) as engine:
        track, fitted = engine.config.track, engine.model.tracking
        assert fitted is not None
        assert track.faint_overlap == fitted.faint_overlap != TrackConfig().faint_overlap
        assert track.verb.start_scores == tuple(fitted.verb_scores[verb][0] for verb in engine.vocabulary.verbs)
        assert len(set(track.verb.start_scores)) > 1


def test_engine_tracks_as_its_model_file_says(tmp_path: Path) -> None:
    drawn, path = load_model_file(find_model("drawn")), tmp_path / "model.safetensors"
    scores = {verb: (0.6 - 0.01 * row, 0.2) for row, verb in enumerate(drawn.vocabulary.verbs)}
    for tracking in (None, FittedTracking(verb_scores=scores, faint_overlap=0.3)):
        save_model_file(path, drawn.tensors(), drawn.config, drawn.vocabulary, drawn.provenance, tracking)
        with Engine.load(path, EngineConfig(backend="torch")) as engine:
            track = engine.config.track
        assert track == EngineConfig().track if tracking is None else track.faint_overlap == 0.3
        assert track.verb.start_scores == (() if tracking is None else tuple(start for start, _ in scores.values()))


@pytest.mark.parametrize(("num_rare", "is_fitted"), [(1, False), (7, True)])
def test_verb_with_low_scores_gets_low_thresholds_and_rare_ones_share_theirs(num_rare: int, is_fitted: bool) -> None:
    """Each of the rare verbs lasts for a second."""
    vocabulary = load_vocabulary("vcoco")
    low, rare = 0, slice(1, 1 + num_rare)
    video = []
    for index in range(300):
        done = 50 <= index % 100 < 100
        averages = np.zeros((1, len(vocabulary.verbs)))
        averages[0, low], averages[0, rare] = (0.25, 0.3) if done else (0.02, 0.0)
        gt = np.zeros_like(averages, bool)
        gt[0, low], gt[0, rare] = done, done and index < 60
        nothing = np.zeros(len(vocabulary.verbs), np.int64)
        video.append(
            TrackedFrame(pts_s=index / 10, lasts_s=0.1, rows=np.zeros(1, int), averages=averages, gt=gt, missed=nothing)
        )
    scores = fit([video], vocabulary)
    usual = VerbConfig()
    assert 0.02 < scores[vocabulary.verbs[low]][1] < scores[vocabulary.verbs[low]][0] <= 0.25
    shared = {scores[verb] for verb in vocabulary.verbs[rare]}
    assert len(shared) == 1
    assert (shared != {(usual.start_score, usual.end_score)}) is is_fitted
    assert scores[vocabulary.verbs[-1]] in shared
