"""The JSON beside exported graphs: what they are, what goes in and comes out, and where they come from.

Schema `hoiclip-graph/1`. Whoever runs a graph needs nothing else to prepare its inputs and to read its outputs.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hoiclip import __version__
from hoiclip.checkpoint.model_file import ModelFile, file_sha256
from hoiclip.errors import ModelError
from hoiclip.foreign_file import read_json
from hoiclip.vocabulary import Vocabulary
from hoiclip_engine.graph_form import GRAPH_VERSION, INPUTS, OUTPUTS, GraphForm
from hoiclip_engine.preprocess import PreprocessConfig
from hoiclip_kernels.preprocess.reference import CLIP_MEAN, CLIP_STD, DETECTOR_MEAN, DETECTOR_STD

SCHEMA = "hoiclip-graph/1"
NAME = "model.json"
AGAIN = "export again"
_LARGEST = 16 << 20


def graph_entry(path: Path, form: GraphForm, errors: Mapping[str, float]) -> dict[str, Any]:
    """One graph.

    Args:
        errors: largest difference to eager torch, by output.
    """
    outside = {file.name: file_sha256(file) for file in path.parent.glob(f"{path.name}.*")}
    return {
        "file": path.name,
        "sha256": file_sha256(path),
        **({"data": outside} if outside else {}),
        "form": asdict(form),
        "inputs": _tensors(path, "input", INPUTS[form.part]),
        "outputs": _tensors(path, "output", OUTPUTS[form.part]),
        "checked": {
            "against": "eager torch, fp32",
            "by": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
            "graph": "itself" if form.attention == "plain" else "the same program with plain attention",
            "max_abs_error": dict(errors),
        },
    }


def sidecar(model: ModelFile, graphs: list[dict[str, Any]], *, with_model: bool = False) -> dict[str, Any]:
    """All graphs of one model.

    Args:
        with_model: its file lies in the same folder.
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
                "resize": "from the resized picture: PIL bicubic, short side, middle square",
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


def write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(folder: Path, again: str = AGAIN) -> dict[str, Any]:
    """What was written into a folder, which may come from anywhere: sure to be of this schema with a model.

    Args:
        again: what to do where it is not.

    Raises:
        ModelError: it is not there, or is something else.
    """
    path = folder / NAME
    try:
        told = read_json(path, _LARGEST)
    except FileNotFoundError as error:
        raise ModelError(f"expected a folder with {NAME}, found none in {folder}; {again}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror}); {again}") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}); {again}") from error
    if not (isinstance(told, dict) and told.get("schema") == SCHEMA and isinstance(told.get("model"), dict)):
        raise ModelError(f"{path} is no description of graphs ({SCHEMA}); {again}")
    return told


def preprocess_config(said: Mapping[str, Any]) -> PreprocessConfig:
    """How pictures become inputs of its graphs."""
    images, canvas_hw = said["preprocessing"]["images"], said["graphs"][0]["form"]["canvas_hw"]
    return PreprocessConfig(
        short_side_px=images["short_side_px"],
        max_side_px=images["max_side_px"],
        clip_side_px=said["preprocessing"]["clip_images"]["side_px"],
        canvas_hw=None if canvas_hw is None else (canvas_hw[0], canvas_hw[1]),
    )


def vocabulary(said: Mapping[str, Any]) -> Vocabulary:
    """Raises ModelError: it is none."""
    return Vocabulary.from_dict(said["vocabulary"]["labels"])


def _tensors(path: Path, which: str, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    found = {one.name: one.type.tensor_type for one in getattr(graph, which)}
    types = onnx.TensorProto.DataType
    return {
        name: {
            "type": types.Name(found[name].elem_type).lower(),
            "shape": [d.dim_param or d.dim_value for d in found[name].shape.dim],
        }
        for name in names
    }
