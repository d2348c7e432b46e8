"""The graph's outputs into scored triplets: the runtime's own rules, inside Triton Inference Server.

`hoiclip export --triton-repo` copies this file; the server's Python needs `pip install hoiclip`, and no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from hoiclip_engine import sidecar
from hoiclip_engine.graph_form import OUTPUTS
from hoiclip_engine.postprocess import PostprocessConfig, Postprocessor
from hoiclip_engine.raw_output import RawOutput
from hoiclip_engine.triton_repo.serving import Arrays, answers, sidecar_of
from hoiclip_engine.triton_repo.tensors import PICTURE_HW


class TritonPythonModel:
    """Returns the fields of Pairs, and the names of labels and verbs."""

    def initialize(self, args: dict[str, str]) -> None:
        said = {name: one["string_value"] for name, one in json.loads(args["model_config"])["parameters"].items()}
        config = PostprocessConfig(top_k=int(said["top_k"]), min_score=float(said["min_score"]))
        self._vocabulary = sidecar.vocabulary(sidecar_of(args))
        self._postprocess = Postprocessor(self._vocabulary, config)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answers(requests, self._found)

    def _found(self, sent: Arrays) -> Arrays:
        raw = RawOutput(**{name: sent[name] for name in OUTPUTS["whole"]})
        height, width = sent[PICTURE_HW].tolist()
        pairs = self._postprocess(raw, (height, width))
        words = self._vocabulary
        return {
            **asdict(pairs),
            "label_name": np.array([words.object_name(one) for one in pairs.label], np.object_),
            "verb_name": np.array([words.verb_name(one) for one in pairs.verb], np.object_),
        }
