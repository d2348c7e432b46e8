"""Exports a model file to ONNX graphs in fp32.

The text embeddings are constants of the classifiers, the text tower is left out. Padding never changes a result, so one
graph serves every padded size.

Nodes are named by their place in the model, module/operation/Operator. The exporter's own names number them over the
whole graph and change with every layer; by ours a policy can name layers, and a viewer of a graph or the profile of an
engine leads to the line of the model.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip.core.preprocess import SMALLEST_CELLS
from hoiclip.core.torch_extra import require_torch
from hoiclip.model.config import ModelConfig
from hoiclip_engine.export.graph_spec import INPUTS, METHODS, OUTPUTS, GraphSpec, graph_entry

if TYPE_CHECKING:
    from torch import Tensor

    from hoiclip.model import HOICLIP

EXPORT_ELSEWHERE = ", or on another machine hoiclip export MODEL -o DIR --with-model, and run DIR here"
LARGEST_ERROR = 1e-3
"""On logits of up to ten and boxes of up to one, through 35 layers in fp32; a wrong graph is off by much more."""
_LARGEST_IN_ONE_FILE = 1 << 30
"""Bytes of weights; a protobuf ends at two gigabytes."""
_ANY_SIZE = 1 << 40
_SCOPES = "pkg.torch.onnx.name_scopes"


def build_module(model: ModelFile, alternative: str = EXPORT_ELSEWHERE) -> HOICLIP:
    """The torch module of a model file.

    Args:
        alternative: end of the error message, what to do without torch.

    Raises:
        BackendMissing: torch, onnx or onnxscript is not installed.
        ModelError: the file makes no model.
    """
    require_torch(f"exporting {model.name}", "onnx", "onnxscript", otherwise=alternative)
    return model.build()


def write_graph(model: HOICLIP, spec: GraphSpec, path: Path) -> None:
    """Exports one graph.

    Raises:
        ModelError: the exporter fails, or the file cannot be written.
    """
    import torch
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants

    from hoiclip.model.hoiclip import MethodModule
    from hoiclip_kernels.dual_attention.graph import exported_as

    model.interaction_decoder.form = spec.memory
    module = MethodModule(model, METHODS[spec.part]).eval()
    names = INPUTS[spec.part]
    example, dynamic = example_inputs(model.config, spec), _dynamic_shapes(model.config, spec)
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    with quiet_libraries():
        try:
            with torch.no_grad(), exported_as(spec.attention):
                program = torch.export.export(
                    module, tuple(example[name] for name in names), dynamic_shapes=(dynamic,), strict=False
                )
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=spec.opset,
                input_names=names,
                output_names=OUTPUTS[spec.part],
                verbose=False,
            )
            if exported is None:
                raise RuntimeError("the exporter returned nothing")
            # Weights that are sliced out of larger ones become constants, where quantizers expect weights.
            fold_constants(exported.model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
            RemoveUnusedNodesPass()(exported.model)
            _name_nodes(exported.model.graph)
            exported.save(str(path), external_data=size_bytes > _LARGEST_IN_ONE_FILE)
        except OSError as error:
            raise ModelError(f"cannot write the exported graph {path}: {error.strerror}; is the disk full?") from error
        except Exception as error:  # the exporter raises its own classes of every kind
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"the model could not be exported to ONNX: {first}") from error


def example_inputs(config: ModelConfig, spec: GraphSpec, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of every part by name: an image of noise, padded on the right, and outputs of the parts before."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    batch = spec.batch or 2
    height, width = spec.padded_hw or (3 * config.stride_px, 4 * config.stride_px)
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


def export_checked_graph(module: HOICLIP, spec: GraphSpec, path: Path) -> dict[str, Any]:
    """Exports one graph and returns its entry of the metadata.

    Raises:
        ModelError: the graph does not give the outputs of the model.
    """
    import onnx

    write_graph(module, spec, path)
    onnx.checker.check_model(str(path))
    if spec.attention == "plain":
        errors = max_output_errors(module, spec, path)
    else:  # nothing here runs the plugin's node
        twin = path.with_name("twin.onnx")
        write_graph(module, replace(spec, attention="plain"), twin)
        errors = max_output_errors(module, spec, twin)
        for file in path.parent.glob("twin.onnx*"):
            file.unlink()
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= LARGEST_ERROR:
        found = f"{worst} is off by {errors[worst]:.2g}, expected at most {LARGEST_ERROR}"
        raise ModelError(f"{path.name} computes something else than the model, {found}; it is not kept; report it")
    return graph_entry(path, spec, errors)


def max_output_errors(module: HOICLIP, spec: GraphSpec, path: Path) -> dict[str, float]:
    """Largest difference of each output to eager torch, on noise with padding.

    Raises:
        BackendMissing: ONNX Runtime is not installed.
    """
    import torch

    session = graph_session(path)
    inputs = example_inputs(module.config, spec, seed=1)
    names = INPUTS[spec.part]
    with torch.inference_mode():
        expected = getattr(module, METHODS[spec.part])(*(inputs[name] for name in names))
    expected = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
    found = session.run(OUTPUTS[spec.part], {name: inputs[name].numpy() for name in names})
    return {
        name: float((torch.from_numpy(ours).float() - theirs.float()).abs().max())
        for name, ours, theirs in zip(OUTPUTS[spec.part], found, expected, strict=True)
    }


def interaction_inputs(module: HOICLIP, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of the interaction part, computed by the other parts from the inputs of the whole model."""
    import torch

    images, padding, clip_images = (torch.from_numpy(inputs[name]) for name in INPUTS["whole"])
    with torch.inference_mode():
        found, (tokens, _) = module.detect(images, padding), module.view(clip_images)
    tensors = (found.pairs, found.memory, found.hidden_cells, tokens)
    return {name: tensor.numpy() for name, tensor in zip(INPUTS["interaction"], tensors, strict=True)}


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps messages of libraries about their own internals away from standard output, which belongs to results.

    Some libraries add handlers to the root logger or change its levels; an importing program gets back its own.
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


def graph_session(path: Path, *, optimised: bool = True) -> Any:
    """The graph in ONNX Runtime on the CPU.

    Args:
        optimised: not for int8 amid fp16, which ONNX Runtime's optimiser breaks (docs/tensorrt.md).

    Raises:
        BackendMissing: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendMissing("checking an exported graph needs onnxruntime; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _dynamic_shapes(config: ModelConfig, spec: GraphSpec) -> tuple[dict[int, Any], ...]:
    """Dimensions of the inputs that are not fixed."""
    from torch.export import Dim

    by_name: dict[str, dict[int, Any]] = {name: {} for name in INPUTS[spec.part]}
    if spec.padded_hw is None:
        rows, columns = (Dim(name, min=SMALLEST_CELLS, max=256) for name in ("rows", "columns"))
        height, width = config.stride_px * rows, config.stride_px * columns
        cells = Dim("cells", min=SMALLEST_CELLS**2, max=256 * 256)
        sizes = {"images": {2: height, 3: width}, "padding": {1: height, 2: width}}
        sizes |= {"memory": {1: cells}, "hidden_cells": {1: cells}}
        by_name = {name: dict(sizes.get(name, {})) for name in by_name}
    if spec.batch is None:
        batch = Dim("batch", min=1, max=1024)
        by_name = {name: {0: batch, **shape} for name, shape in by_name.items()}
    return tuple(by_name.values())


def _name_nodes(graph: Any) -> None:
    """Renames all nodes of an onnx_ir graph, e.g. to encoder.layers.0.attention/linear/MatMul; every name is unique.

    A second node of a name gets a number: Add, Add.1.
    """
    used: Counter[str] = Counter()
    for node in graph:
        name = f"{_place(node.metadata_props.get(_SCOPES, ''))}/{node.op_type}".lstrip("/")
        node.name = f"{name}.{used[name]}" if used[name] else name
        used[name] += 1


def _place(scopes: str) -> str:
    """Innermost module and the torch operation; empty for nodes that the exporter added without saying why."""
    try:
        known = [str(scope) for scope in ast.literal_eval(scopes)]
    except (SyntaxError, ValueError):
        return ""
    *modules, operation = known or [""]
    module = modules[-1] if modules else ""
    return f"{module.removeprefix('model').removeprefix('.')}/{re.sub(r'_[0-9]+$', '', operation)}"
