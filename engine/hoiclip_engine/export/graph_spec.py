"""Specification and metadata of an exported graph.

The specification is the part of the model, its sizes and its operators. The metadata is the JSON beside exported
graphs, with their inputs, outputs and provenance (schema `hoiclip-graph/1`): a runtime needs nothing else to prepare
the inputs of a graph and to read its outputs.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hoiclip import __version__
from hoiclip.core.errors import ModelError, UsageError
from hoiclip.core.foreign_file import read_json
from hoiclip.core.model_file import ModelFile, file_sha256
from hoiclip.core.preprocess import SMALLEST_CELLS, PreprocessConfig
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.model.config import ModelConfig
from hoiclip_kernels.preprocess.reference import CLIP_MEAN, CLIP_STD, DETECTOR_MEAN, DETECTOR_STD

GraphPart = Literal["whole", "detector", "clip", "interaction"]
DETECTED = ("object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh")
INPUTS: dict[GraphPart, tuple[str, ...]] = {
    "whole": ("images", "padding", "clip_images"),
    "detector": ("images", "padding"),
    "clip": ("clip_images",),
    "interaction": ("pairs", "memory", "hidden_cells", "clip_tokens"),
}
OUTPUTS: dict[GraphPart, tuple[str, ...]] = {
    "whole": ("hoi_logits", *DETECTED, "clip_cls"),
    "detector": ("pairs", "memory", "hidden_cells", *DETECTED),
    "clip": ("clip_tokens", "clip_cls"),
    "interaction": ("hoi_logits",),
}
"""The parts run one after the other give the outputs of the whole; split, CLIP may run less often than the detector."""
MODEL_OUTPUTS = OUTPUTS["whole"]
METHODS: dict[GraphPart, str] = {"whole": "forward", "detector": "detect", "clip": "view", "interaction": "interact"}
"""Methods of hoiclip.model.HOICLIP."""
OPSETS = (19, 20)
GRAPH_VERSION = 4
"""Raise it when the exported graph changes for the same model file."""
ABSORB_FROM_CELLS = 300
"""Cells of the detector's memory from which OpenVINO is faster absorbing it (benchmarks/results/kernels.jsonl)."""
MemoryForm = Literal["projected", "absorbed"]
SCHEMA = "hoiclip-graph/1"
METADATA_FILE = "model.json"
EXPORT_AGAIN = "export again"
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """One graph."""

    part: GraphPart = "whole"
    attention: Literal["plain", "plugin"] = "plain"
    """Plain operators, or the node of the TensorRT plugin for the interaction decoder's attention."""
    memory: MemoryForm = "projected"
    """Form of the interaction decoder's attention to the detector's memory; equal up to rounding (docs/kernels.md)."""
    opset: int = 20
    batch: int | None = 1
    """None: any, from the second on."""
    padded_hw: tuple[int, int] | None = None
    """None: any multiple of the stride, from two cells a side on."""

    def to_json(self) -> dict[str, Any]:
        """The entries of graph metadata and cache keys, whose schema calls the padded size `canvas_hw`."""
        return {"canvas_hw" if name == "padded_hw" else name: value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> GraphSpec:
        """Reads the entries of `to_json`; their values are not checked.

        Raises:
            TypeError: an entry has another name than those of a graph.
        """
        if "padded_hw" in entries:
            raise TypeError("expected canvas_hw, got padded_hw")
        return cls(**{"padded_hw" if name == "canvas_hw" else name: value for name, value in entries.items()})

    def require_fit(self, config: ModelConfig) -> None:
        """Raises UsageError: the model cannot have this padded size, batch or opset."""
        if self.opset not in OPSETS:
            raise UsageError(f"expected opset {' or '.join(map(str, OPSETS))}, got {self.opset}")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"expected a batch of at least 1, got {self.batch}")
        stride = config.stride_px
        if self.padded_hw is not None and any(s % stride or s < SMALLEST_CELLS * stride for s in self.padded_hw):
            height, width = self.padded_hw
            least = SMALLEST_CELLS * stride
            raise UsageError(f"expected sides in steps of {stride} px, at least {least}, got {width}x{height}")


def select_memory_form(config: ModelConfig, padded_hw: tuple[int, int] | None) -> MemoryForm:
    """The faster form for a padded size; without one, the form that is never much slower."""
    if padded_hw is None:
        return "projected"
    cells = math.prod(side // config.memory_stride_px for side in padded_hw)
    worth = config.interaction_heads * config.queries < config.clip_width and cells >= ABSORB_FROM_CELLS
    return "absorbed" if worth else "projected"


def graph_entry(path: Path, spec: GraphSpec, errors: Mapping[str, float]) -> dict[str, Any]:
    """The entry of one graph.

    Args:
        errors: largest difference to eager torch, by output.
    """
    external = {file.name: file_sha256(file) for file in path.parent.glob(f"{path.name}.*")}
    return {
        "file": path.name,
        "sha256": file_sha256(path),
        **({"data": external} if external else {}),
        "form": spec.to_json(),
        "inputs": _tensor_entries(path, "input", INPUTS[spec.part]),
        "outputs": _tensor_entries(path, "output", OUTPUTS[spec.part]),
        "checked": {
            "against": "eager torch, fp32",
            "by": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
            "graph": "itself" if spec.attention == "plain" else "the same program with plain attention",
            "max_abs_error": dict(errors),
        },
    }


def graph_metadata(model: ModelFile, graphs: list[dict[str, Any]], *, with_model: bool = False) -> dict[str, Any]:
    """The metadata of all graphs of one model.

    Args:
        with_model: the model file lies in the same folder.
    """
    config = model.config
    file = {"file": model.path.name} if with_model else {}
    return {
        "schema": SCHEMA,
        "graph_version": GRAPH_VERSION,
        "model": {"name": model.name, **file, "sha256": model.sha256(), "provenance": model.provenance},
        "vocabulary": {
            "name": model.vocabulary.name,
            "sha256": model.vocabulary.sha256,
            "labels": json.loads(model.vocabulary.to_json()),
        },
        "preprocessing": {
            "images": {
                "short_side_px": config.short_side_px,
                "max_side_px": config.max_side_px,
                "resize": "PIL bilinear, antialiased, uint8; long side truncated",
                "padding": "zeros, right and bottom; sides multiples of stride_px",
                "stride_px": config.stride_px,
                "mean": DETECTOR_MEAN,
                "std": DETECTOR_STD,
            },
            "clip_images": {
                "side_px": config.clip_image_px,
                "resize": "from the resized image: PIL bicubic, short side, middle square",
                "mean": CLIP_MEAN,
                "std": CLIP_STD,
            },
        },
        "graphs": graphs,
        "versions": {
            "hoiclip": __version__,
            **{name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")},
        },
    }


def write_metadata(path: Path, metadata: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def read_metadata(folder: Path, again: str = EXPORT_AGAIN) -> dict[str, Any]:
    """The metadata of a folder, which may come from anywhere: checked to be of this schema and of a model.

    Args:
        again: end of an error message, how to make the folder again.

    Raises:
        ModelError: the metadata is missing or of another schema.
    """
    path = folder / METADATA_FILE
    try:
        metadata = read_json(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise ModelError(f"expected a folder with {METADATA_FILE}, found none in {folder}; {again}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror}); {again}") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}); {again}") from error
    known = isinstance(metadata, dict) and metadata.get("schema") == SCHEMA and isinstance(metadata.get("model"), dict)
    if not known:
        raise ModelError(f"{path} is no description of graphs ({SCHEMA}); {again}")
    return metadata  # type: ignore[no-any-return]


def preprocess_config(metadata: Mapping[str, Any]) -> PreprocessConfig:
    """The sizes of the inputs that the graphs take."""
    images, padded_hw = metadata["preprocessing"]["images"], metadata["graphs"][0]["form"]["canvas_hw"]
    return PreprocessConfig(
        short_side_px=images["short_side_px"],
        max_side_px=images["max_side_px"],
        clip_side_px=metadata["preprocessing"]["clip_images"]["side_px"],
        padded_hw=None if padded_hw is None else (padded_hw[0], padded_hw[1]),
    )


def vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of the model. Raises ModelError: the labels make none."""
    return Vocabulary.from_dict(metadata["vocabulary"]["labels"])


def _tensor_entries(path: Path, field: str, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Types and shapes of the named inputs or outputs.

    Args:
        field: `input` or `output`.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    tensor_types = {value.name: value.type.tensor_type for value in getattr(graph, field)}
    types = onnx.TensorProto.DataType
    return {
        name: {
            "type": types.Name(tensor_types[name].elem_type).lower(),
            "shape": [dim.dim_param or dim.dim_value for dim in tensor_types[name].shape.dim],
        }
        for name in names
    }
