"""What every model of a repository says of itself: tensors, what runs it, and how the ensemble joins them.

A request is always one picture. Where the graph takes any number, the server puts together what waits at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoiclip_engine.graph_form import INPUTS, OUTPUTS
from hoiclip_engine.triton_repo.config_text import Word
from hoiclip_engine.triton_repo.form import MOST_AT_ONCE, GraphBackend, ModelNames
from hoiclip_engine.triton_repo.tensors import ENCODED, FOUND, IMAGE, PICTURE_HW

Config = dict[str, Any]
Tensors = Mapping[str, tuple[str, list[int]]]
_TYPES = {"float": "FP32", "bool": "BOOL"}
_PICTURES: Tensors = {IMAGE: ("UINT8", [-1, -1, 3]), ENCODED: ("UINT8", [-1])}
_PICTURE_HW: Tensors = {PICTURE_HW: ("INT64", [2])}


def configs(names: ModelNames, graph: Mapping[str, Any], backend: GraphBackend) -> dict[str, Config]:
    """By model.

    Args:
        graph: its entry in the sidecar.
    """
    inputs, outputs = _tensors(graph["inputs"]), _tensors(graph["outputs"])
    return {
        names.preprocess: {
            **_python(names.preprocess),
            "input": _pictures(),
            "output": _listed({**inputs, **_PICTURE_HW}),
        },
        names.graph: _graph(names.graph, inputs, outputs, backend),
        names.postprocess: {
            **_python(names.postprocess),
            "input": _listed({**outputs, **_PICTURE_HW}),
            "output": _listed(FOUND),
            "parameters": [_parameter("top_k", "100"), _parameter("min_score", "0")],
        },
        names.ensemble: {
            "name": names.ensemble,
            "platform": "ensemble",
            "max_batch_size": 0,
            "input": _pictures(),
            "output": _listed(FOUND),
            "ensemble_scheduling": {
                "step": [
                    _step(names.preprocess, (IMAGE, ENCODED), (*INPUTS["whole"], PICTURE_HW)),
                    _step(names.graph, INPUTS["whole"], OUTPUTS["whole"]),
                    _step(names.postprocess, (*OUTPUTS["whole"], PICTURE_HW), tuple(FOUND)),
                ]
            },
        },
    }


def _tensors(described: Mapping[str, Mapping[str, Any]]) -> Tensors:
    """Those of a graph in Triton's words; -1 for a side that is not fixed."""
    return {
        name: (_TYPES[one["type"]], [side if isinstance(side, int) else -1 for side in one["shape"]])
        for name, one in described.items()
    }


def _graph(name: str, inputs: Tensors, outputs: Tensors, backend: GraphBackend) -> Config:
    several = any(dims[0] == -1 for _, dims in inputs.values())
    first = 1 if several else 0  # Triton leaves the batch out of a tensor's dimensions
    config: Config = {
        "name": name,
        **({"backend": "python"} if backend == "python" else {"platform": "onnxruntime_onnx"}),
        "max_batch_size": MOST_AT_ONCE if several else 0,
        "input": _listed({one: (kind, dims[first:]) for one, (kind, dims) in inputs.items()}),
        "output": _listed({one: (kind, dims[first:]) for one, (kind, dims) in outputs.items()}),
    }
    if several:
        config["dynamic_batching"] = {}
    if backend == "python":
        config["instance_group"] = [_ON_CPU]
    if backend == "tensorrt":
        tensorrt = {"name": "tensorrt", "parameters": [{"key": "precision_mode", "value": "FP32"}]}
        config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [tensorrt]}}
    return config


_ON_CPU: Config = {"count": 1, "kind": Word("KIND_CPU")}


def _python(name: str) -> Config:
    return {"name": name, "backend": "python", "max_batch_size": 0, "instance_group": [_ON_CPU]}


def _pictures() -> list[Config]:
    """Either is enough."""
    return [{**one, "optional": True} for one in _listed(_PICTURES)]


def _listed(tensors: Tensors) -> list[Config]:
    return [{"name": name, "data_type": Word(f"TYPE_{kind}"), "dims": dims} for name, (kind, dims) in tensors.items()]


def _parameter(key: str, value: str) -> Config:
    return {"key": key, "value": {"string_value": value}}


def _step(model: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Config:
    """Tensors of the ensemble have the names that its models give them."""
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": [{"key": name, "value": name} for name in inputs],
        "output_map": [{"key": name, "value": name} for name in outputs],
    }
