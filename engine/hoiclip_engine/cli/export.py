"""hoiclip export: a model as ONNX graphs for other runtimes, each checked before it is kept."""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import ModelError, SinkError, UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, progress, working
from hoiclip_engine.cli.distinct_files import existing, model_inputs, require_distinct

if TYPE_CHECKING:
    from hoiclip.core.model_file import ModelFile
    from hoiclip.model import HOICLIP
    from hoiclip_engine.backends.base import Precision
    from hoiclip_engine.export.graph_spec import GraphPart, GraphSpec
    from hoiclip_engine.export.triton.repository import TritonRepositoryConfig
    from hoiclip_engine.quantization.calibration import CalibrationConfig
    from hoiclip_engine.quantization.quantize import TargetRuntime


EXAMPLES = """\
  hoiclip export drawn -o graphs --split --size 256x192   checked ONNX graphs for other runtimes
  hoiclip export drawn -o box --with-model                a folder that runs without torch
  hoiclip export hico.safetensors -o trt --precision fp16 --size 640x480
  hoiclip export drawn --triton-repo models
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME|FILE")
    options.add_vocabulary(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder of the graphs")
    where.add_argument("--triton-repo", type=Path, metavar="DIR", help="model repository of Triton Inference Server")
    parser.add_argument(
        "--triton-backend",
        choices=("onnxruntime", "tensorrt", "python"),
        help="Triton backend of the graph (default: onnxruntime)",
    )
    parser.add_argument(
        "--size",
        default=None,
        type=options.size_or_dynamic,
        metavar="WxH|dynamic",
        help="padded input size (default: dynamic)",
    )
    parser.add_argument(
        "--batch", default=1, type=options.batch_or_dynamic, metavar="N|dynamic", help="batch size (default: 1)"
    )
    parser.add_argument(
        "--attention",
        default="plain",
        choices=("plain", "plugin"),
        help="plugin: one node for the project's TensorRT plugin (default: plain)",
    )
    parser.add_argument("--opset", type=options.integer, default=20, choices=(19, 20), help="ONNX opset (default: 20)")
    parser.add_argument("--split", action="store_true", help="three graphs: detector, CLIP, interaction")
    parser.add_argument(
        "--with-model", action="store_true", help="the model file too: run --model DIR then needs no torch"
    )
    parser.add_argument(
        "--precision", default="fp32", choices=("fp32", "fp16", "int8"), help="of the graphs (default: fp32)"
    )
    parser.add_argument(
        "--for",
        dest="target",
        default="tensorrt",
        choices=("tensorrt", "openvino"),
        help="runtime that fp16 and int8 are for (default: tensorrt)",
    )
    options.add_calibration(parser)


def run(args: argparse.Namespace) -> int:
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.export.graph_spec import GraphSpec
    from hoiclip_engine.export.triton.repository import TritonRepositoryConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.quantization.calibration import CalibrationConfig

    padded_hw = None if args.size is None else (args.size[1], args.size[0])
    spec = GraphSpec(attention=args.attention, opset=args.opset, batch=args.batch, padded_hw=padded_hw)
    images = CalibrationConfig(source=args.calibrate, count=args.calibration_images, seed=args.seed)
    fp32 = args.precision == "fp32"
    quantization = None if fp32 else Quantization(precision=args.precision, target=args.target, calibration=images)
    if args.triton_backend and not args.triton_repo:
        raise UsageError("--triton-backend is for --triton-repo DIR")
    triton = TritonRepositoryConfig(backend=args.triton_backend or "onnxruntime") if args.triton_repo else None
    original, out = find_model(args.model), args.triton_repo or args.out
    model = load_model_file(find_model(original, args.vocabulary))
    copied = [out / model.path.name] if args.with_model else []
    require_distinct(model_inputs(original, args.vocabulary), copied, [out])
    return export(model, out, spec, args.split, quantization, triton=triton, with_model=args.with_model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """A lower precision for another runtime; nothing judges its accuracy, as `hoiclip build` does for this machine."""

    precision: Precision
    target: TargetRuntime
    calibration: CalibrationConfig


def export(
    model: ModelFile,
    out: Path,
    spec: GraphSpec,
    split: bool,
    quantization: Quantization | None = None,
    *,
    triton: TritonRepositoryConfig | None = None,
    with_model: bool = False,
) -> int:
    """Writes the graphs and their metadata into a folder; existing files stay until all graphs are checked.

    Args:
        triton: arranges them into a model repository of Triton Inference Server.
        with_model: copies the model file there too, for `hoiclip run --model` of the folder.

    Raises:
        UsageError: the model cannot have this specification, or the runtime no graph of this precision.
        ModelError: the exporter fails, or a graph does not give the outputs of the model.
        SinkError: the folder cannot be written.
    """
    from hoiclip.core.atomic_write import make_folder, replace_path
    from hoiclip_engine.export.graph_spec import (
        METADATA_FILE,
        GraphSpec,
        graph_metadata,
        select_memory_form,
        write_metadata,
    )
    from hoiclip_engine.export.onnx_export import build_module, export_checked_graph
    from hoiclip_engine.export.triton.repository import arrange_repository, require_replaceable

    _require_distinct(model, out, quantization, triton is not None, with_model)
    spec.require_fit(model.config)
    if quantization is not None:
        _require_fit(model, spec, quantization)
    if triton is not None:
        triton.require_fit(spec, split, None if quantization is None else quantization.target)
        require_replaceable(out, model.name)
    if with_model and (
        triton is not None or split or quantization is not None or replace(spec, opset=20) != GraphSpec()
    ):
        raise UsageError(
            "--with-model is for what run takes: leave out --size, --batch, --split, --attention, --precision and "
            "--triton-repo"
        )
    spec = replace(spec, memory=select_memory_form(model.config, spec.padded_hw))
    module = build_module(model)
    make_folder(out)
    parts: tuple[GraphPart, ...] = ("detector", "clip", "interaction") if split else ("whole",)
    try:
        staging = Path(tempfile.mkdtemp(dir=out, prefix=".part-"))
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
    try:
        graphs = []
        exact = staging if quantization is None else staging / "fp32"
        exact.mkdir(exist_ok=True)
        samples = None if quantization is None else CalibrationInputs(model, module, spec, quantization.calibration)
        for part in parts:
            path = exact / ("model.onnx" if part == "whole" else f"{part}.onnx")
            with working(f"exporting {path.name}"):
                entry = export_checked_graph(module, replace(spec, part=part), path)
            if quantization is not None and samples is not None:
                with working(f"making {path.name} in {quantization.precision}"):
                    entry |= _quantize(path, part, quantization, samples, staging)
            graphs.append(entry)
        if quantization is not None:
            shutil.rmtree(exact)
        if with_model:
            shutil.copyfile(model.path, staging / model.path.name)
        write_metadata(staging / METADATA_FILE, graph_metadata(model, graphs, with_model=with_model))
        last = METADATA_FILE  # complete by then
        if triton is not None:
            last = arrange_repository(staging, model.name, triton)
        for path in sorted(staging.iterdir(), key=lambda file: file.name == last):
            replace_path(path, out / path.name)
            messages.print(f"wrote {out / path.name}")
    except OSError as error:
        raise SinkError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return 0


def _require_distinct(
    model: ModelFile, out: Path, quantization: Quantization | None, in_repository: bool, with_model: bool
) -> None:
    from hoiclip_engine.export.graph_spec import METADATA_FILE
    from hoiclip_engine.export.triton.repository import ModelNames

    if in_repository:  # whole folders are replaced
        names = ModelNames.of(model.name).all
        written = [path for name in names for path in existing(out / name, "**/*")]
    else:
        written = existing(out, METADATA_FILE, "*.onnx", "*.onnx.*", "*.xml", "*.bin")
        written += [out / model.path.name] if with_model else []
    calibration = None if quantization is None else quantization.calibration.source
    require_distinct([model.path, calibration], written, [out])


def _require_fit(model: ModelFile, spec: GraphSpec, quantization: Quantization) -> None:
    """Raises UsageError for wishes that can be refused before anything is exported."""
    from hoiclip_engine.quantization.calibration import require_source
    from hoiclip_engine.quantization.quantize import require_quantizable

    require_quantizable(quantization.target, quantization.precision)
    if spec.attention == "plugin":
        raise UsageError(
            f"expected plain attention in {quantization.precision}: nothing here can run the plugin's node"
        )
    require_source(model, quantization.calibration)


class CalibrationInputs:
    """Inputs of each part of a model on calibration images."""

    def __init__(self, model: ModelFile, module: HOICLIP, spec: GraphSpec, config: CalibrationConfig) -> None:
        from hoiclip.core.preprocess import preprocess
        from hoiclip_engine.engine import Engine, EngineConfig
        from hoiclip_engine.quantization.builds import FP32
        from hoiclip_engine.quantization.calibration import calibration_set

        with progress() as bar:
            task = bar.add_task("images", total=None, rate="")
            images = calibration_set(config, lambda: bar.advance(task))
        engine = Engine(model, EngineConfig(), FP32)
        size = engine.preprocess_config(spec.padded_hw or engine.padded_size_for(*images.calibrated[0].shape[:2]))
        self._inputs = [preprocess(rgb, size).arrays() for rgb in images.calibrated]
        self._module, self._batch = module, spec.batch or 1
        self.about = images.about

    def of(self, part: GraphPart) -> list[dict[str, Any]]:
        """Arrays by input. Those of the interaction part are computed by the other parts."""
        import numpy as np

        from hoiclip_engine.export.graph_spec import INPUTS
        from hoiclip_engine.export.onnx_export import interaction_inputs

        samples = self._inputs
        if part == "interaction":
            samples = [interaction_inputs(self._module, inputs) for inputs in samples]
        return [{name: np.repeat(inputs[name], self._batch, axis=0) for name in INPUTS[part]} for inputs in samples]


def _quantize(
    exact: Path, part: GraphPart, quantization: Quantization, samples: CalibrationInputs, staging: Path
) -> dict[str, Any]:
    """Makes the graph; returns the entries of its metadata that differ from those of the fp32 graph."""
    from hoiclip.core.model_file import file_sha256
    from hoiclip_engine.export.graph_spec import OUTPUTS
    from hoiclip_engine.quantization.quantize import max_errors_to_fp32, quantize_graph, quantizer_version

    inputs = samples.of(part)
    out = quantize_graph(exact, quantization.target, quantization.precision, inputs, staging)
    errors = max_errors_to_fp32(exact, out, inputs[-1], OUTPUTS[part])
    if not all(math.isfinite(error) for error in errors.values()):
        raise ModelError(f"{out.name} in {quantization.precision} gives outputs that are not finite; it is not kept")
    return {
        "file": out.name,
        "sha256": file_sha256(out),
        "precision": {
            "name": quantization.precision,
            "for": quantization.target,
            "by": quantizer_version(quantization.target),
            "calibration": samples.about,
            "max_abs_error_to_fp32": errors,
        },
    }
