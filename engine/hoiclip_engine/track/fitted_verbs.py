"""Thresholds verb by verb that were fitted to a model, in a file beside it: drawn.safetensors, drawn.verbs.json.

How they are fitted: benchmarks/fit_verbs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hoiclip.errors import ModelError
from hoiclip.foreign_file import read_json
from hoiclip_engine.track.pair_tracker import TrackConfig
from hoiclip_engine.track.verbs import VerbConfig

SCHEMA = "hoiclip-verbs/1"


def file_beside(model: Path) -> Path:
    """Where the thresholds of a model file are, if it has any."""
    return model.with_suffix(".verbs.json")


def fitted(config: TrackConfig, model: Path, verbs: tuple[str, ...]) -> TrackConfig:
    """The config with the thresholds of the model.

    A config that has thresholds of its own keeps them, and thresholds fitted for other verbs are passed over.

    Raises:
        ModelError: the file is none of thresholds.
    """
    path, usual = file_beside(model), VerbConfig()
    chosen = config.verb
    if chosen.start_scores or (chosen.start_score, chosen.end_score) != (usual.start_score, usual.end_score):
        return config
    scores = read_thresholds(path) if path.is_file() else {}
    if set(scores) != set(verbs):
        return config
    start, end = zip(*(scores[verb] for verb in verbs), strict=True)
    return replace(config, verb=replace(chosen, start_scores=start, end_scores=end))


def read_thresholds(path: Path) -> dict[str, tuple[float, float]]:
    """Start and end score by verb.

    Raises:
        ModelError: the file is none of thresholds.
    """
    try:
        told = read_json(path)
        right = told["schema"] == SCHEMA
        scores = {str(verb): (float(start), float(end)) for verb, (start, end) in told["verbs"].items()}
        right = right and all(0 <= end <= start <= 1 for start, end in scores.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error
    if not right:
        raise _damaged(path)
    return scores


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"expected start and end scores of verbs ({SCHEMA}) in {path}, found something else; "
        "fit them again (python -m benchmarks.fit_verbs) or delete the file"
    )


def write_thresholds(path: Path, scores: Mapping[str, tuple[float, float]], facts: Mapping[str, Any]) -> None:
    """Args: facts: how they were fitted, for those who read the file."""
    told = {"schema": SCHEMA, "verbs": {verb: list(both) for verb, both in scores.items()}, **facts}
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
