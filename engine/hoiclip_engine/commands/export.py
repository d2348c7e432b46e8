"""hoiclip export: a model as ONNX graphs for other runtimes, each checked before it is kept."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.checkpoint.model_file import ModelFile, file_sha256
from hoiclip.errors import BackendMissing, ModelError, SinkError, UsageError
from hoiclip_engine import sidecar
from hoiclip_engine.builds import FP32
from hoiclip_engine.calibration import CalibrationConfig, calibration_set, require_source
from hoiclip_engine.commands.console import messages, progress, working
from hoiclip_engine.commands.distinct_files import existing, require_distinct
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.export import build, example_inputs, memory_form, write_graph
from hoiclip_engine.folder import make_folder, put
from hoiclip_engine.graph_form import INPUTS, METHODS, OUTPUTS, GraphForm, Part
from hoiclip_engine.precision import Precision
from hoiclip_engine.precision.reduce import Target, made_by, reduced, require_reducible
from hoiclip_engine.preprocess import preprocess
from hoiclip_engine.track.fitted_verbs import file_beside
from hoiclip_engine.triton_repo import repository
from hoiclip_engine.triton_repo.form import ModelNames, RepositoryForm

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP

LARGEST_ERROR = 1e-3
"""On logits of up to ten and boxes of up to one, through 35 layers in fp32; a wrong graph is off by much more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """A lower precision for another runtime; nothing judges its accuracy, as `hoiclip build` does for this machine."""

    precision: Precision
    target: Target
    calibration: CalibrationConfig


def export(
    model: ModelFile,
    out: Path,
    form: GraphForm,
    split: bool,
    reduction: Reduction | None = None,
    *,
    triton: RepositoryForm | None = None,
    with_model: bool = False,
) -> int:
    """Writes the graphs and their sidecar into a folder; what lies there stays until all of it is checked.

    Args:
        triton: arranges them into a model repository of Triton Inference Server.
        with_model: the model file goes there too, for `hoiclip run --model` of the folder.

    Raises:
        UsageError: the model cannot have this form, or the runtime no graph of this precision.
        ModelError: the exporter fails, or a graph does not compute what the model does.
        SinkError: the folder cannot be written.
    """
    _require_distinct(model, out, reduction, triton is not None, with_model)
    form.require_fit(model.config)
    if reduction is not None:
        _require_fit(model, form, reduction)
    if triton is not None:
        triton.require_fit(form, split, None if reduction is None else reduction.target)
        repository.require_room(out, model.name)
    if with_model and (triton is not None or split or reduction is not None or replace(form, opset=20) != GraphForm()):
        raise UsageError(
            "--with-model is for what run takes: leave out --size, --batch, --split, --attention, --precision and "
            "--triton-repo"
        )
    form = replace(form, memory=memory_form(model.config, form.canvas_hw))
    module = build(model)
    make_folder(out)
    parts: tuple[Part, ...] = ("detector", "clip", "interaction") if split else ("whole",)
    try:
        room = Path(tempfile.mkdtemp(dir=out, prefix=".part-"))
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
    try:
        graphs = []
        exact = room if reduction is None else room / "fp32"
        exact.mkdir(exist_ok=True)
        samples = None if reduction is None else Samples(model, module, form, reduction.calibration)
        for part in parts:
            path = exact / ("model.onnx" if part == "whole" else f"{part}.onnx")
            with working(f"exporting {path.name}"):
                entry = checked(module, replace(form, part=part), path)
            if reduction is not None and samples is not None:
                with working(f"making {path.name} in {reduction.precision}"):
                    entry |= _reduced(path, part, reduction, samples, room)
            graphs.append(entry)
        if reduction is not None:
            shutil.rmtree(exact)
        if with_model:
            for file in (model.path, *filter(Path.is_file, (file_beside(model.path),))):
                shutil.copyfile(file, room / file.name)
        sidecar.write(room / sidecar.NAME, sidecar.sidecar(model, graphs, with_model=with_model))
        last = sidecar.NAME  # when all else is there
        if triton is not None:
            last = repository.arrange(room, model.name, triton)
        for path in sorted(room.iterdir(), key=lambda one: one.name == last):
            put(path, out / path.name)
            messages.print(f"wrote {out / path.name}")
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return 0


def _require_distinct(
    model: ModelFile, out: Path, reduction: Reduction | None, in_repository: bool, with_model: bool
) -> None:
    read = (model.path, file_beside(model.path))
    if in_repository:  # whole folders are replaced
        names = ModelNames.of(model.name).all
        written = [path for name in names for path in existing(out / name, "**/*")]
    else:
        written = existing(out, sidecar.NAME, "*.onnx", "*.onnx.*", "*.xml", "*.bin")
        written += [out / path.name for path in read if with_model]
    calibration = None if reduction is None else reduction.calibration.source
    require_distinct([*read, calibration], written, [out])


def _require_fit(model: ModelFile, form: GraphForm, reduction: Reduction) -> None:
    """What can be refused before anything is exported."""
    require_reducible(reduction.target, reduction.precision)
    if form.attention == "plugin":
        raise UsageError(f"expected plain attention in {reduction.precision}: nothing here can run the plugin's node")
    require_source(model, reduction.calibration)


class Samples:
    """What each part of a model takes on calibration pictures."""

    def __init__(self, model: ModelFile, module: HOICLIP, form: GraphForm, config: CalibrationConfig) -> None:
        with progress() as bar:
            task = bar.add_task("pictures", total=None, rate="")
            pictures = calibration_set(config, lambda: bar.advance(task))
        engine = Engine(model, EngineConfig(), FP32)
        size = engine.preprocess_config(form.canvas_hw or engine.canvas_for(*pictures.calibrated[0].shape[:2]))
        self._inputs = [preprocess(rgb, size).arrays() for rgb in pictures.calibrated]
        self._module, self._batch = module, form.batch or 1
        self.about = pictures.about

    def of(self, part: Part) -> list[dict[str, Any]]:
        """By input. What the interaction takes, the other parts are asked for."""
        import numpy as np

        known = self._inputs
        if part == "interaction":
            known = [interaction_inputs(self._module, one) for one in known]
        return [{name: np.repeat(one[name], self._batch, axis=0) for name in INPUTS[part]} for one in known]


def interaction_inputs(module: HOICLIP, one: dict[str, Any]) -> dict[str, Any]:
    """What the other parts make of a picture (the inputs of the whole model) for the interaction part."""
    import torch

    images, padding, clip_images = (torch.from_numpy(one[name]) for name in INPUTS["whole"])
    with torch.inference_mode():
        found, (tokens, _) = module.detect(images, padding), module.view(clip_images)
    made = (found.pairs, found.memory, found.hidden_cells, tokens)
    return {name: value.numpy() for name, value in zip(INPUTS["interaction"], made, strict=True)}


def _reduced(exact: Path, part: Part, reduction: Reduction, samples: Samples, room: Path) -> dict[str, Any]:
    """Makes the graph; what the sidecar says of it besides what it says of the fp32 one."""
    inputs = samples.of(part)
    out = reduced(exact, reduction.target, reduction.precision, inputs, room)
    errors = _errors(exact, out, inputs[-1], OUTPUTS[part])
    if not all(math.isfinite(error) for error in errors.values()):
        raise ModelError(f"{out.name} in {reduction.precision} gives outputs that are no numbers; it is not kept")
    return {
        "file": out.name,
        "sha256": file_sha256(out),
        "precision": {
            "name": reduction.precision,
            "for": reduction.target,
            "by": made_by(reduction.target),
            "calibration": samples.about,
            "max_abs_error_to_fp32": errors,
        },
    }


def _errors(exact: Path, made: Path, inputs: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, float]:
    import numpy as np

    expected = _session(exact).run(outputs, inputs)
    if made.suffix == ".xml":
        import openvino

        answer = openvino.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
        found = [answer[name] for name in outputs]
    else:
        found = _session(made, optimised=False).run(outputs, inputs)
    return {
        name: float(np.abs(ours.astype(np.float32) - theirs).max())
        for name, ours, theirs in zip(outputs, found, expected, strict=True)
        if theirs.dtype == np.float32
    }


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

    session = _session(path)
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


def _session(path: Path, *, optimised: bool = True) -> Any:
    """
    Args:
        optimised: not for 8 bits amid 16, which ONNX Runtime's optimiser breaks (docs/tensorrt.md).

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
