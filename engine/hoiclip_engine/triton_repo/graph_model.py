"""The graph in onnxruntime, for a Triton Inference Server that was built without its ONNX Runtime backend.

`hoiclip export --triton-repo DIR --triton-backend python` copies this file. Computes on the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from hoiclip.errors import ModelError
from hoiclip_engine.graph_form import INPUTS, OUTPUTS
from hoiclip_engine.triton_repo.serving import Arrays, failed, responded, sidecar_of, tensors_of


class TritonPythonModel:
    """Takes what the server has put together, always of one size, and computes it as one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Raises ModelError: the graph is missing or cannot be loaded."""
        graph = Path(args["model_repository"]) / args["model_version"] / sidecar_of(args)["graphs"][0]["file"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: its warnings speak of graph details
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # pybind exceptions of its own module
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"ONNX Runtime cannot load {graph}: {first}; export the repository again") from error

    def execute(self, requests: list[Any]) -> list[Any]:
        try:
            return [responded(one) for one in self._outputs([tensors_of(request) for request in requests])]
        except Exception as error:  # of ONNX Runtime, which knows best what is wrong with a shape
            first = (str(error).splitlines() or [type(error).__name__])[0]
            return [failed(f"the graph cannot be computed: {first}") for _ in requests]

    def _outputs(self, sent: list[Arrays]) -> list[Arrays]:
        ends = np.cumsum([len(one["images"]) for one in sent])[:-1]
        together = {name: np.concatenate([one[name] for one in sent]) for name in INPUTS["whole"]}
        found = self._session.run(OUTPUTS["whole"], together)
        rows = [np.split(value, ends) for value in found]
        return [dict(zip(OUTPUTS["whole"], one, strict=True)) for one in zip(*rows, strict=True)]
