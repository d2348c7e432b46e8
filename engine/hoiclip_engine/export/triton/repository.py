"""A model repository: the folders of its models, their configurations, and how the ensemble joins them.

A request is always one image. Where the graph takes any batch, the server joins requests that wait at the same time.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from hoiclip.core.errors import UsageError
from hoiclip_engine.export.graph_spec import INPUTS, METADATA_FILE, OUTPUTS, GraphSpec

GraphBackend = Literal["onnxruntime", "tensorrt", "python"]
"""Computes the graph: the server's ONNX Runtime, the same with TensorRT inside, or our Python with onnxruntime."""
GRAPH_BACKENDS: tuple[GraphBackend, ...] = get_args(GraphBackend)
MAX_BATCH = 8
"""Images that the server may join, where the graph takes any batch."""
VERSION = "1"
IMAGE = "image"
"""(H, W, 3) uint8 RGB."""
ENCODED = "encoded"
"""(N,) uint8: the bytes of an image's file."""
IMAGE_HW = "picture_hw"
"""(2,) int64 height and width of the image whose pixels boxes are given in."""
Config = dict[str, Any]
TensorSpecs = Mapping[str, tuple[str, list[int]]]
"""Type and shape by name, in Triton's words; -1 for a side that is not fixed."""
TRIPLET_TENSORS: TensorSpecs = {
    "query": ("INT64", [-1]),
    "human_boxes_xyxy": ("FP32", [-1, 4]),
    "object_boxes_xyxy": ("FP32", [-1, 4]),
    "label": ("INT64", [-1]),
    "verb": ("INT64", [-1]),
    "hoi": ("INT64", [-1]),
    "score": ("FP64", [-1]),
    "verb_score": ("FP64", [-1]),
    "label_name": ("STRING", [-1]),
    "verb_name": ("STRING", [-1]),
}
"""The fields of hoiclip.core.detections.HOIDetections, and the names of labels and verbs in the vocabulary."""
_TYPES = {"float": "FP32", "bool": "BOOL"}
_IMAGE_TENSORS: TensorSpecs = {IMAGE: ("UINT8", [-1, -1, 3]), ENCODED: ("UINT8", [-1])}
_IMAGE_HW_TENSOR: TensorSpecs = {IMAGE_HW: ("INT64", [2])}
_HEAD = "# Written by hoiclip export --triton-repo; docs/triton.md says what may be changed.\n"
_MODEL_CODE = '''\
"""Written by hoiclip export --triton-repo. Needs `pip install hoiclip` in the server's Python, and no torch."""

from hoiclip_engine.export.triton.models import {class_name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonRepositoryConfig:
    """One repository."""

    backend: GraphBackend = "onnxruntime"

    def require_fit(self, spec: GraphSpec, split: bool, quantized_for: str | None) -> None:
        """Raises UsageError: a repository cannot hold such a graph.

        Args:
            quantized_for: the runtime of a graph in a lower precision; None: it is in fp32.
        """
        if split or spec.attention == "plugin":
            raise UsageError("expected one plain graph for --triton-repo; leave out --split and --attention plugin")
        if spec.batch not in (1, None):
            raise UsageError(f"expected --batch 1 or dynamic for --triton-repo, got {spec.batch}")
        if self.backend == "tensorrt" and (spec.padded_hw is None or spec.batch is None):
            raise UsageError(
                "expected --size WxH and --batch 1 for --triton-backend tensorrt: of every new size and batch it would "
                "build an engine amid a request"
            )
        if quantized_for is not None and (self.backend, quantized_for) != ("tensorrt", "tensorrt"):
            raise UsageError("expected --triton-backend tensorrt and --for tensorrt for a graph in fp16 or int8")


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The four models of one repository. Clients call the ensemble; it calls the others one after the other."""

    ensemble: str

    @staticmethod
    def of(model: str) -> ModelNames:
        """The names made of a model file's name; characters that may not be in a URL become underscores."""
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


class EnumValue(str):
    """The name of an enum's value, which is written without quotes."""

    __slots__ = ()


_ON_CPU: Config = {"count": 1, "kind": EnumValue("KIND_CPU")}


def require_replaceable(repository: Path, model: str) -> None:
    """Raises UsageError: a folder that would be replaced was not written by an export."""
    for name in ModelNames.of(model).all:
        folder = repository / name
        if folder.exists() and not (folder / VERSION / METADATA_FILE).is_file():
            raise UsageError(f"{folder} exists and was not written by hoiclip export; choose another repository")


def arrange_repository(folder: Path, model: str, config: TritonRepositoryConfig) -> str:
    """Turns the content of a folder, a whole graph and its metadata, into the folders of models.

    Args:
        model: its name.

    Returns:
        The name of the ensemble, whose folder needs all others.

    Raises:
        OSError: the folder cannot be written.
    """
    metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    names = ModelNames.of(model)
    files = [path for path in folder.iterdir() if path.is_file()]
    for name, model_config in model_configs(names, metadata["graphs"][0], config.backend).items():
        (folder / name / VERSION).mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(_HEAD + config_text(model_config), encoding="utf-8")
        shutil.copyfile(folder / METADATA_FILE, folder / name / VERSION / METADATA_FILE)
    for path in files:
        if path.name != METADATA_FILE:
            path.rename(folder / names.graph / VERSION / path.name)
    (folder / METADATA_FILE).unlink()
    class_names = {names.preprocess: "PreprocessModel", names.postprocess: "PostprocessModel"}
    if config.backend == "python":
        class_names[names.graph] = "GraphModel"
    for name, class_name in class_names.items():
        code = _MODEL_CODE.format(class_name=class_name)
        (folder / name / VERSION / "model.py").write_text(code, encoding="utf-8")
    _write_labels(folder / names.ensemble, metadata["vocabulary"]["labels"])
    return names.ensemble


def model_configs(names: ModelNames, graph: Mapping[str, Any], backend: GraphBackend) -> dict[str, Config]:
    """Configurations by model.

    Args:
        graph: its entry in the graph metadata.
    """
    inputs, outputs = _graph_tensors(graph["inputs"]), _graph_tensors(graph["outputs"])
    return {
        names.preprocess: {
            **_python_model(names.preprocess),
            "input": _image_inputs(),
            "output": _tensor_list({**inputs, **_IMAGE_HW_TENSOR}),
        },
        names.graph: _graph_model(names.graph, inputs, outputs, backend),
        names.postprocess: {
            **_python_model(names.postprocess),
            "input": _tensor_list({**outputs, **_IMAGE_HW_TENSOR}),
            "output": _tensor_list(TRIPLET_TENSORS),
            "parameters": [_parameter("top_k", "100"), _parameter("min_score", "0")],
        },
        names.ensemble: {
            "name": names.ensemble,
            "platform": "ensemble",
            "max_batch_size": 0,
            "input": _image_inputs(),
            "output": _tensor_list(TRIPLET_TENSORS),
            "ensemble_scheduling": {
                "step": [
                    _step(names.preprocess, (IMAGE, ENCODED), (*INPUTS["whole"], IMAGE_HW)),
                    _step(names.graph, INPUTS["whole"], OUTPUTS["whole"]),
                    _step(names.postprocess, (*OUTPUTS["whole"], IMAGE_HW), tuple(TRIPLET_TENSORS)),
                ]
            },
        },
    }


def config_text(fields: Mapping[str, object], indent: str = "") -> str:
    """The text form of protocol buffers: fields in their order, messages as mappings, repeated fields as lists."""
    return "".join(_field(name, value, indent) for name, value in fields.items())


def _write_labels(folder: Path, vocabulary: dict[str, Any]) -> None:
    """A name a line, by index."""
    for key in ("objects", "verbs"):
        text = "".join(f"{name}\n" for name in vocabulary[key])
        (folder / f"{key}.txt").write_text(text, encoding="utf-8")


def _graph_tensors(entries: Mapping[str, Mapping[str, Any]]) -> TensorSpecs:
    """Inputs or outputs of a graph, from its metadata."""
    return {
        name: (_TYPES[entry["type"]], [side if isinstance(side, int) else -1 for side in entry["shape"]])
        for name, entry in entries.items()
    }


def _graph_model(name: str, inputs: TensorSpecs, outputs: TensorSpecs, backend: GraphBackend) -> Config:
    any_batch = any(dims[0] == -1 for _, dims in inputs.values())
    first = 1 if any_batch else 0  # Triton leaves the batch out of a tensor's dimensions
    config: Config = {
        "name": name,
        **({"backend": "python"} if backend == "python" else {"platform": "onnxruntime_onnx"}),
        "max_batch_size": MAX_BATCH if any_batch else 0,
        "input": _tensor_list({tensor: (kind, dims[first:]) for tensor, (kind, dims) in inputs.items()}),
        "output": _tensor_list({tensor: (kind, dims[first:]) for tensor, (kind, dims) in outputs.items()}),
    }
    if any_batch:
        config["dynamic_batching"] = {}
    if backend == "python":
        config["instance_group"] = [_ON_CPU]
    if backend == "tensorrt":
        tensorrt = {"name": "tensorrt", "parameters": [{"key": "precision_mode", "value": "FP32"}]}
        config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [tensorrt]}}
    return config


def _python_model(name: str) -> Config:
    return {"name": name, "backend": "python", "max_batch_size": 0, "instance_group": [_ON_CPU]}


def _image_inputs() -> list[Config]:
    """A raw and an encoded image, of which a request has one."""
    return [{**tensor, "optional": True} for tensor in _tensor_list(_IMAGE_TENSORS)]


def _tensor_list(tensors: TensorSpecs) -> list[Config]:
    return [
        {"name": name, "data_type": EnumValue(f"TYPE_{kind}"), "dims": dims} for name, (kind, dims) in tensors.items()
    ]


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


def _field(name: str, value: object, indent: str) -> str:
    if isinstance(value, Mapping):
        return f"{indent}{name} {{\n{config_text(value, indent + '  ')}{indent}}}\n"
    if isinstance(value, list) and not all(isinstance(item, int) for item in value):
        return "".join(_field(name, item, indent) for item in value)
    return f"{indent}{name}: {_scalar(value)}\n"


def _scalar(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | EnumValue():
            return str(value)
        case str():
            return json.dumps(value)  # its escapes are among those that protocol buffers read
        case list():
            return f"[{', '.join(map(str, value))}]"
        case _:
            raise TypeError(f"a configuration holds no {type(value).__name__}")
