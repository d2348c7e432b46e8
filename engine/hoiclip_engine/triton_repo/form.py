"""Which model repository is wanted, and what it can hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from hoiclip.errors import UsageError
from hoiclip_engine.graph_form import GraphForm

GraphBackend = Literal["onnxruntime", "tensorrt", "python"]
"""What computes the graph: the server's ONNX Runtime, the same with TensorRT inside, or our Python with onnxruntime."""
GRAPH_BACKENDS: tuple[GraphBackend, ...] = get_args(GraphBackend)
MOST_AT_ONCE = 8
"""Pictures that the server may put together, where the graph takes any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryForm:
    """One repository."""

    backend: GraphBackend = "onnxruntime"

    def require_fit(self, form: GraphForm, split: bool, reduced_for: str | None) -> None:
        """Raises UsageError: a repository cannot hold such a graph.

        Args:
            reduced_for: the runtime of a graph in fewer bits; None: it is in fp32.
        """
        if split or form.attention == "plugin":
            raise UsageError("expected one plain graph for --triton-repo; leave out --split and --attention plugin")
        if form.batch not in (1, None):
            raise UsageError(f"expected --batch 1 or dynamic for --triton-repo, got {form.batch}")
        if self.backend == "tensorrt" and (form.canvas_hw is None or form.batch is None):
            raise UsageError(
                "expected --size WxH and --batch 1 for --triton-backend tensorrt: of every new size and batch it would "
                "build an engine amid a request"
            )
        if reduced_for is not None and (self.backend, reduced_for) != ("tensorrt", "tensorrt"):
            raise UsageError("expected --triton-backend tensorrt and --for tensorrt for a graph in fewer bits")


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The four models of one repository. Clients call the ensemble; it calls the others one after the other."""

    ensemble: str

    @staticmethod
    def of(model: str) -> ModelNames:
        """The names that a model file's makes; what may not be in a URL becomes an underscore."""
        return ModelNames(re.sub(r"[^A-Za-z0-9_.-]", "_", model))

    @property
    def preprocess(self) -> str:
        return f"{self.ensemble}_preprocess"

    @property
    def graph(self) -> str:
        return f"{self.ensemble}_graph"

    @property
    def postprocess(self) -> str:
        return f"{self.ensemble}_postprocess"

    @property
    def all(self) -> tuple[str, str, str, str]:
        """The ensemble last: it needs the others."""
        return self.preprocess, self.graph, self.postprocess, self.ensemble
