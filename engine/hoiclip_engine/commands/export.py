"""hoiclip export: a model as ONNX graphs for other runtimes, each checked before it is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.errors import BackendMissing, ModelError, SinkError
from hoiclip_engine import sidecar
from hoiclip_engine.commands.console import messages, working
from hoiclip_engine.export import build, example_inputs, memory_form, write_graph
from hoiclip_engine.folder import make_folder
from hoiclip_engine.graph_form import INPUTS, METHODS, OUTPUTS, GraphForm, Part

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP

LARGEST_ERROR = 1e-3
"""On logits of up to ten and boxes of up to one, through 35 layers in fp32; a wrong graph is off by much more."""


def export(model: ModelFile, out: Path, form: GraphForm, split: bool) -> int:
    """Writes the graphs and their sidecar into a folder; what lies there stays until all of it is checked.

    Raises:
        UsageError: the model cannot have this form.
        ModelError: the exporter fails, or a graph does not compute what the model does.
        SinkError: the folder cannot be written.
    """
    form.require_fit(model.config)
    form = replace(form, memory=memory_form(model.config, form.canvas_hw))
    make_folder(out)
    module = build(model)
    parts: tuple[Part, ...] = ("detector", "clip", "interaction") if split else ("whole",)
    try:
        room = Path(tempfile.mkdtemp(dir=out, prefix=".part-"))
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
    try:
        graphs = []
        for part in parts:
            path = room / ("model.onnx" if part == "whole" else f"{part}.onnx")
            with working(f"exporting {path.name}"):
                graphs.append(checked(module, replace(form, part=part), path))
        sidecar.write(room / sidecar.NAME, sidecar.sidecar(model, graphs))
        for path in sorted(room.iterdir(), key=lambda one: one.name == sidecar.NAME):  # last, when all else is there
            os.replace(path, out / path.name)
            messages.print(f"wrote {out / path.name}")
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return 0


def checked(module: HOICLIP, form: GraphForm, path: Path) -> dict[str, Any]:
    """Exports one graph and returns its entry of the sidecar.

    Raises:
        ModelError: the graph does not compute what the model does.
    """
    import onnx

    write_graph(module, form, path)
    onnx.checker.check_model(str(path))
    if form.attention == "plain":
        errors = difference(module, form, path)
    else:  # nothing here runs the plugin's node
        twin = path.with_name("twin.onnx")
        write_graph(module, replace(form, attention="plain"), twin)
        errors = difference(module, form, twin)
        for file in path.parent.glob("twin.onnx*"):
            file.unlink()
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= LARGEST_ERROR:
        found = f"{worst} is off by {errors[worst]:.2g}, expected at most {LARGEST_ERROR}"
        raise ModelError(f"{path.name} computes something else than the model, {found}; it is not kept; report it")
    return sidecar.graph_entry(path, form, errors)


def difference(module: HOICLIP, form: GraphForm, path: Path) -> dict[str, float]:
    """Largest difference of each output to eager torch, on noise with padding.

    Raises:
        BackendMissing: ONNX Runtime is not installed.
    """
    import torch

    try:
        import onnxruntime
    except ImportError as error:
        raise BackendMissing("checking an exported graph needs onnxruntime; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = example_inputs(module.config, form, seed=1)
    names = INPUTS[form.part]
    with torch.inference_mode():
        expected = getattr(module, METHODS[form.part])(*(inputs[name] for name in names))
    expected = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
    found = session.run(OUTPUTS[form.part], {name: inputs[name].numpy() for name in names})
    return {
        name: float((torch.from_numpy(ours).float() - theirs.float()).abs().max())
        for name, ours, theirs in zip(OUTPUTS[form.part], found, expected, strict=True)
    }
