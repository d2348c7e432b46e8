"""Start and end scores verb by verb: fitted, kept in the model file, and taken by the engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from benchmarks.fit_verbs import TrackedFrame, fit
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import load_model_file, save_model_file
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.models import find_model
from hoiclip_engine.track import VerbConfig

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


def test_no_fitted_scores_change_nothing() -> None:
    assert VerbConfig().fitted({}, VERBS) == VerbConfig()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"hold": [0.3, 0.1]}',
        '{"hold": [0.1, 0.3], "VERBS": 0}',
        "{VERB: [0.1, 0.3]}",
        "{VERB: [0.1]}",
        "{VERB: [NaN, NaN]}",
        "{VERB: null}",
    ],
)
def test_damaged_scores_of_a_model_file_are_one_error(tmp_path: Path, text: str) -> None:
    drawn = load_model_file(find_model("drawn"))
    every = ", ".join(f"{json.dumps(verb)}: {text[7:-1]}" for verb in drawn.vocabulary.verbs)
    path = tmp_path / "model.safetensors"
    with safe_open(drawn.path, "numpy") as file:
        metadata = {**file.metadata(), "verb_scores": f"{{{every}}}" if text.startswith("{VERB:") else text}
    save_file(drawn.tensors(), path, metadata=metadata)
    with pytest.raises(ModelError, match="fit them again") as caught:
        load_model_file(path)
    assert "\n" not in str(caught.value)


def test_bundled_model_has_scores_of_all_its_verbs() -> None:
    with Engine.load("drawn", EngineConfig(backend="torch")) as engine:
        fitted, scores = engine.config.track.verb, engine.model.verb_scores
        assert dict(zip(engine.vocabulary.verbs, fitted.start_scores, strict=True)) == {
            verb: start for verb, (start, _) in scores.items()
        }
        assert len({start for start, _ in scores.values()}) > 1


def test_engine_takes_the_scores_of_its_model_file(tmp_path: Path) -> None:
    drawn, path = load_model_file(find_model("drawn")), tmp_path / "model.safetensors"
    for scores in ({}, {verb: (0.6 - 0.01 * row, 0.2) for row, verb in enumerate(drawn.vocabulary.verbs)}):
        save_model_file(path, drawn.tensors(), drawn.config, drawn.vocabulary, drawn.provenance, scores)
        with Engine.load(path, EngineConfig(backend="torch")) as engine:
            assert engine.config.track.verb.start_scores == tuple(start for start, _ in scores.values())


def test_verb_with_low_scores_gets_low_thresholds_and_a_rare_one_the_default() -> None:
    vocabulary = load_vocabulary("vcoco")
    low, rare = 0, 1
    video = []
    for index in range(300):
        done = 50 <= index % 100 < 100
        averages = np.zeros((1, len(vocabulary.verbs)))
        averages[0, low], averages[0, rare] = (0.25, 0.2) if done else (0.02, 0.0)
        gt = np.zeros_like(averages, bool)
        gt[0, low], gt[0, rare] = done, done and index < 60
        nothing = np.zeros(len(vocabulary.verbs), np.int64)
        video.append(
            TrackedFrame(pts_s=index / 10, lasts_s=0.1, rows=np.zeros(1, int), averages=averages, gt=gt, missed=nothing)
        )
    scores = fit([video], vocabulary)
    usual = VerbConfig()
    assert 0.02 < scores[vocabulary.verbs[low]][1] < scores[vocabulary.verbs[low]][0] <= 0.25
    assert scores[vocabulary.verbs[rare]] == (usual.start_score, usual.end_score)
