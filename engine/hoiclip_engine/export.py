"""From a model file to an ONNX graph in fp32, any picture size, kept in the cache.

The text rows are constants of the classifiers, the text tower is gone. Padding never changes a result, so one graph
serves every canvas.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

from hoiclip.cache import cache_folder
from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import BackendMissing, ModelError

OPSET = 20
GRAPH_VERSION = 2
"""Raise it when the exported graph changes for the same model file."""
ABSORB_FROM = 300
"""Cells of the detector's memory from which OpenVINO is faster absorbing it (benchmarks/results/kernels.jsonl)."""
INPUTS = ("images", "padding", "clip_images")
OUTPUTS = ("hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh", "clip_cls")


def exported_graph(model: ModelFile, canvas_hw: tuple[int, int]) -> Path:
    """The model's ONNX file, exported now if this model has not been before.

    One graph serves every canvas. There are two all the same, equal up to rounding: one projects the detector's memory,
    one absorbs it, and which is the faster depends on the canvas.

    Raises:
        BackendMissing: torch or onnxscript, which only the export needs, is not installed.
        ModelError: the export failed.
    """
    form = _form(model, canvas_hw)
    folder = cache_folder("graphs") / f"{model.sha256()[:32]}-{form}-v{GRAPH_VERSION}-opset{OPSET}"
    graph = folder / "model.onnx"
    if graph.is_file():
        return graph
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
    try:
        _export(model, part / graph.name, form)
        try:
            os.replace(part, folder)  # two processes may export at once: the first one wins, both files are good
        except OSError as error:
            if not graph.is_file():
                raise ModelError(f"cannot keep the exported graph in {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return graph


def _form(model: ModelFile, canvas_hw: tuple[int, int]) -> Literal["projected", "absorbed"]:
    c = model.config
    cells = math.prod(side // c.stride_px for side in canvas_hw)
    worth = c.interaction_heads * c.queries < c.clip_width and cells >= ABSORB_FROM
    return "absorbed" if worth else "projected"


def _export(model: ModelFile, path: Path, form: Literal["projected", "absorbed"]) -> None:
    try:
        import onnxscript  # noqa: F401 - the exporter's own import error names no package
        import torch

        from hoiclip_kernels.dual_attention.graph import decompositions
    except ImportError as error:
        raise BackendMissing(f"exporting {model.name} needs {error.name}; pip install {error.name}") from error
    module = model.build()
    module.interaction_decoder.form = form
    stride, clip = model.config.stride_px, model.config.clip_image_px
    example = (
        torch.zeros(1, 3, 3 * stride, 4 * stride),
        torch.zeros(1, 3 * stride, 4 * stride, dtype=torch.bool),
        torch.zeros(1, 3, clip, clip),
    )
    # Canvas sides are whole cells of the last feature map, at least two.
    rows, columns = torch.export.Dim("rows", min=2, max=256), torch.export.Dim("columns", min=2, max=256)
    height, width = stride * rows, stride * columns
    with _quiet():
        try:
            with torch.no_grad():
                program = torch.export.export(
                    module, example, dynamic_shapes=({2: height, 3: width}, {1: height, 2: width}, None), strict=False
                )
            program = program.run_decompositions(decompositions("plain"))
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=INPUTS, output_names=OUTPUTS, verbose=False
            )
            if exported is None:
                raise RuntimeError("the exporter returned nothing")
            exported.save(str(path), external_data=True)
        except OSError as error:
            raise ModelError(f"cannot write the exported graph {path}: {error.strerror}; is the disk full?") from error
        except Exception as error:  # the exporter raises its own classes of every kind
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{model.path} could not be exported to ONNX: {first}") from error


@contextlib.contextmanager
def _quiet() -> Any:
    """Standard output belongs to results; the exporter's chatter about its own internals is nobody's business."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
