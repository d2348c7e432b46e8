"""From a model file to ONNX graphs in fp32.

The text rows are constants of the classifiers, the text tower is gone. Padding never changes a result, so one graph
serves every canvas.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import ModelError
from hoiclip.model.config import ModelConfig
from hoiclip.torch_extra import require_torch
from hoiclip_engine import graph_form
from hoiclip_engine.engine_cache import exported
from hoiclip_engine.graph_folder import graph_beside
from hoiclip_engine.graph_form import GRAPH_VERSION, INPUTS, METHODS, SMALLEST_CELLS, GraphForm
from hoiclip_engine.node_names import name_nodes

if TYPE_CHECKING:
    from torch import Tensor

    from hoiclip.model import HOICLIP

ABSORB_FROM = 300
"""Cells of the detector's memory from which OpenVINO is faster absorbing it (benchmarks/results/kernels.jsonl)."""
OUTPUTS = graph_form.OUTPUTS["whole"]
_GRAPH = "model.onnx"
_LARGEST_IN_ONE_FILE = 1 << 30
"""Bytes of weights; a protobuf ends at two gigabytes."""
_ANY_SIZE = 1 << 40
ELSEWHERE = ", or on another machine hoiclip export MODEL -o DIR --with-model, and run DIR here"


def exported_graph(model: ModelFile, canvas_hw: tuple[int, int], batch: int = 1) -> Path:
    """The model's ONNX file: beside it in a folder of `hoiclip export --with-model`, else in the cache.

    It is exported now if this model has not been before.

    One graph serves every canvas, and another one every batch above 1. Each is there in two forms all the same, equal
    up to rounding: one projects the detector's memory, one absorbs it, and which is the faster depends on the canvas.

    Raises:
        BackendMissing: it has to be exported, and torch or onnxscript, which only the export needs, is not installed.
        ModelError: the export failed, or what lies beside the model is not what it is said to be.
    """
    form = GraphForm(memory=memory_form(model.config, canvas_hw), batch=1 if batch == 1 else None)
    if form.batch == 1 and (beside := graph_beside(model, form.memory)) is not None:
        return beside
    several = "" if batch == 1 else "-batch"
    name = f"{model.sha256()[:32]}-{form.memory}{several}-v{GRAPH_VERSION}-opset{form.opset}"
    key = {"model": model.sha256(), "graph version": GRAPH_VERSION, "form": asdict(form)}

    def make(folder: Path) -> None:
        module = build(model) if form.batch == 1 else build(model, otherwise=", or run without --batch")
        write_graph(module, form, folder / _GRAPH)

    try:
        return exported(name, key, make) / _GRAPH
    except OSError as error:
        said = error.strerror or str(error)
        raise ModelError(f"cannot write the exported graph: {said}; is the disk full?") from error


def memory_form(config: ModelConfig, canvas_hw: tuple[int, int] | None) -> Literal["projected", "absorbed"]:
    """What is faster for a canvas; without one, what is never much slower."""
    if canvas_hw is None:
        return "projected"
    cells = math.prod(side // config.memory_stride_px for side in canvas_hw)
    worth = config.interaction_heads * config.queries < config.clip_width and cells >= ABSORB_FROM
    return "absorbed" if worth else "projected"


def build(model: ModelFile, otherwise: str = ELSEWHERE) -> HOICLIP:
    """The torch module.

    Args:
        otherwise: what is said to be possible without torch.

    Raises:
        BackendMissing: torch, onnx or onnxscript is not installed.
        ModelError: the file makes no model.
    """
    require_torch(f"exporting {model.name}", "onnx", "onnxscript", otherwise=otherwise)
    return model.build()


def write_graph(model: HOICLIP, form: GraphForm, path: Path) -> None:
    """Exports one graph.

    Raises:
        ModelError: the exporter fails, or the file cannot be written.
    """
    import torch
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants

    from hoiclip.model.part import Part
    from hoiclip_kernels.dual_attention.graph import decompositions

    model.interaction_decoder.form = form.memory
    module = Part(model, METHODS[form.part]).eval()
    names = INPUTS[form.part]
    example, dynamic = example_inputs(model.config, form), _dynamic_shapes(model.config, form)
    size = sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))
    with quiet():
        try:
            with torch.no_grad():
                program = torch.export.export(
                    module, tuple(example[name] for name in names), dynamic_shapes=(dynamic,), strict=False
                )
            program = program.run_decompositions(decompositions(form.attention))
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=form.opset,
                input_names=names,
                output_names=graph_form.OUTPUTS[form.part],
                verbose=False,
            )
            if exported is None:
                raise RuntimeError("the exporter returned nothing")
            # Weights that are cut out of larger ones become constants: what quantises looks for its weights there.
            fold_constants(exported.model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
            RemoveUnusedNodesPass()(exported.model)
            name_nodes(exported.model.graph)
            exported.save(str(path), external_data=size > _LARGEST_IN_ONE_FILE)
        except OSError as error:
            raise ModelError(f"cannot write the exported graph {path}: {error.strerror}; is the disk full?") from error
        except Exception as error:  # the exporter raises its own classes of every kind
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"the model could not be exported to ONNX: {first}") from error


def example_inputs(config: ModelConfig, form: GraphForm, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of every part by name: a picture of noise, the right of it padding, and what the parts make of it."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    batch = form.batch or 2
    height, width = form.canvas_hw or (3 * config.stride_px, 4 * config.stride_px)
    rows, columns = height // config.memory_stride_px, width // config.memory_stride_px

    def random(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    padding = torch.zeros(batch, height, width, dtype=torch.bool)
    padding[:, :, width - config.stride_px // 2 :] = True
    hidden = torch.zeros(batch, rows * columns, dtype=torch.bool)
    hidden[:, -1] = True
    return {
        "images": random(3, height, width) * ~padding[:, None],
        "padding": padding,
        "clip_images": random(3, config.clip_image_px, config.clip_image_px),
        "pairs": random(config.queries, config.clip_width),
        "memory": random(rows * columns, config.clip_width),
        "hidden_cells": hidden,
        "clip_tokens": random(config.clip_tokens, config.clip_width),
    }


def _dynamic_shapes(config: ModelConfig, form: GraphForm) -> tuple[dict[int, Any], ...]:
    """Which dimensions of the inputs are not fixed."""
    from torch.export import Dim

    by_name: dict[str, dict[int, Any]] = {name: {} for name in INPUTS[form.part]}
    if form.canvas_hw is None:
        rows, columns = (Dim(name, min=SMALLEST_CELLS, max=256) for name in ("rows", "columns"))
        height, width = config.stride_px * rows, config.stride_px * columns
        cells = Dim("cells", min=SMALLEST_CELLS**2, max=256 * 256)
        sizes = {"images": {2: height, 3: width}, "padding": {1: height, 2: width}}
        sizes |= {"memory": {1: cells}, "hidden_cells": {1: cells}}
        by_name = {name: dict(sizes.get(name, {})) for name in by_name}
    if form.batch is None:
        batch = Dim("batch", min=1, max=1024)
        by_name = {name: {0: batch, **shape} for name, shape in by_name.items()}
    return tuple(by_name.values())


@contextlib.contextmanager
def quiet() -> Any:
    """Standard output belongs to results; what libraries say of their own internals is nobody's business.

    Some of them add handlers to the root logger or change its levels; whoever imports us finds his own again.
    """
    root = logging.getLogger()
    level, handlers = root.level, [(handler, handler.level) for handler in root.handlers]
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = [handler for handler, _ in handlers]
        for handler, before in handlers:
            handler.setLevel(before)
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
