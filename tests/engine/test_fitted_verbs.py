"""Thresholds verb by verb: fitted, kept beside a model, and taken by the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fit_verbs import TrackedFrame, fit
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import file_sha256
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.models import find_model
from hoiclip_engine.track import VerbConfig
from hoiclip_engine.track.verbs import read_thresholds, thresholds_path, with_fitted_thresholds, write_thresholds

VERBS = ("hold", "kick")


def beside(tmp_path: Path, scores: dict[str, tuple[float, float]]) -> Path:
    model = tmp_path / "model.safetensors"
    write_thresholds(thresholds_path(model), scores, {"films": "none"})
    return model


def test_thresholds_are_read_in_the_order_of_the_vocabulary(tmp_path: Path) -> None:
    model = beside(tmp_path, {"kick": (0.6, 0.3), "hold": (0.2, 0.1)})
    verb = with_fitted_thresholds(VerbConfig(), model, VERBS)
    assert (verb.start_scores, verb.end_scores) == ((0.2, 0.6), (0.1, 0.3))
    assert verb.half_life_s == VerbConfig().half_life_s


@pytest.mark.parametrize(
    "verb", [VerbConfig(start_score=0.5), VerbConfig(end_score=0.1), VerbConfig(start_scores=(0.4,), end_scores=(0.3,))]
)
def test_configured_thresholds_are_kept(tmp_path: Path, verb: VerbConfig) -> None:
    assert with_fitted_thresholds(verb, beside(tmp_path, dict.fromkeys(VERBS, (0.6, 0.3))), VERBS) == verb


def test_thresholds_of_other_verbs_or_none_change_nothing(tmp_path: Path) -> None:
    model = beside(tmp_path, {"hold": (0.2, 0.1), "ride": (0.6, 0.3)})
    assert with_fitted_thresholds(VerbConfig(), model, VERBS) == VerbConfig()
    assert with_fitted_thresholds(VerbConfig(), tmp_path / "other.safetensors", VERBS) == VerbConfig()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "other/1", "verbs": {}}',
        '{"schema": "hoiclip-verbs/1", "verbs": {"hold": [0.1, 0.3]}}',
        '{"schema": "hoiclip-verbs/1", "verbs": {"hold": [0.1]}}',
        '{"schema": "hoiclip-verbs/1", "verbs": {"hold": [NaN, NaN]}}',
    ],
)
def test_damaged_thresholds_file_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.verbs.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="fit them again") as caught:
        read_thresholds(path)
    assert "\n" not in str(caught.value)


def test_bundled_thresholds_were_fitted_to_the_bundled_model() -> None:
    path = thresholds_path(find_model("drawn"))
    assert json.loads(path.read_text(encoding="utf-8"))["model_sha256"] == file_sha256(find_model("drawn"))
    with Engine.load("drawn", EngineConfig(backend="torch")) as engine:
        fitted = engine.config.track.verb
        assert dict(zip(engine.vocabulary.verbs, fitted.start_scores, strict=True)) == {
            verb: start for verb, (start, _) in read_thresholds(path).items()
        }


def test_model_takes_thresholds_of_its_own_file(tmp_path: Path) -> None:
    path = Path(shutil.copy(find_model("drawn"), tmp_path))
    with Engine.load(path, EngineConfig(backend="torch")) as engine:
        assert engine.config.track == EngineConfig().track
        verbs = engine.vocabulary.verbs
    write_thresholds(thresholds_path(path), {name: (0.6 - 0.01 * row, 0.2) for row, name in enumerate(verbs)}, {})
    with Engine.load(path, EngineConfig(backend="torch")) as engine:
        verb = engine.config.track.verb
        assert verb.start_scores == pytest.approx([0.6 - 0.01 * row for row in range(len(verbs))])


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
