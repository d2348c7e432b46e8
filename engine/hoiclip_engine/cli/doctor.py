"""hoiclip doctor: what is installed here, what "auto" would take, and the command that brings what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import results, say, table

if TYPE_CHECKING:
    from hoiclip_engine.backends.base import BackendName


EXAMPLES = """\
  hoiclip doctor
  hoiclip doctor --json | jq .
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    return doctor(args.json)


PACKAGES = {
    "numpy": "numpy",
    "numba": "numba",
    "scipy": "scipy",
    "av": "av",
    "opencv": "opencv-python-headless",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
EXTRAS = {
    "torch": "torch",
    "open_clip_torch": "torch",
    "onnx": "torch",
    "onnxscript": "torch",
    "nncf": "quantize",
    "nvidia-modelopt": "quantize-trt",
    "tensorrt": "tensorrt",
    "tensorrt-rtx-cu13": "tensorrt-rtx",
    "torch-tensorrt": "torch-tensorrt",
    "tensorboard": "tensorboard",
    "gdown": "fetch",
    "aiohttp": "serve",
    "prometheus_client": "serve",
    "paho-mqtt": "mqtt",
    "matplotlib": "bench",
    "nvidia-ml-py": "bench",
}
"""Packages that not everybody needs, to the extra that brings them."""

DECODERS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mjpeg")


def doctor(as_json: bool) -> int:
    """Prints the report; always succeeds, because nothing it reports is its own failure."""
    facts = {**_machine(), **_packages(), **_choices()}
    if as_json:
        say(json.dumps(facts))
    else:
        results.print(table("", ("what", "found"), facts.items()))
    return 0


def _machine() -> dict[str, str]:
    from hoiclip import __version__
    from hoiclip.core.cache_dirs import cache_base
    from hoiclip_engine.backends.cpu import cpu_flags, cpu_name

    return {
        "hoiclip": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cpu": ", ".join(filter(None, (cpu_name(), f"{os.cpu_count()} cores", " ".join(cpu_flags())))),
        "cuda": _cuda(),
        "cache": str(cache_base()),
    }


def _cuda() -> str:
    try:
        import torch
    except ImportError:
        return "not known: torch is not installed"
    if not torch.cuda.is_available():
        return f"none (torch {torch.__version__})"
    return f"{torch.cuda.get_device_name()} (torch {torch.__version__}, CUDA {torch.version.cuda})"


def _packages() -> dict[str, str]:
    found = {
        name: _version(distribution, f"missing; pip install {distribution}") for name, distribution in PACKAGES.items()
    }
    for name, extra in EXTRAS.items():
        found[name] = _version(name, f"not installed; pip install 'hoiclip[{extra}]' brings it")
    return {**found, **_codecs()}


def _version(distribution: str, otherwise: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return otherwise


def _codecs() -> dict[str, str]:
    import av
    from av.codec.hwaccel import hwdevices_available

    missing = [name for name in DECODERS if name not in av.codecs_available]
    encoder = "libx264" if "libx264" in av.codecs_available else "missing; annotated video falls back to mpeg4"
    return {
        "decoders": ", ".join(name for name in DECODERS if name not in missing)
        + (f"; not in this build of av: {', '.join(missing)}" if missing else ""),
        "hardware decoders": ", ".join(hwdevices_available()) or "none in this build of av",
        "h264 encoder": encoder,
    }


def _choices() -> dict[str, str]:
    from hoiclip_engine.backends.base import BACKENDS
    from hoiclip_engine.backends.registry import select_backend
    from hoiclip_engine.models import known_models
    from hoiclip_kernels.dispatch import implementations, named

    report = {}
    for name in BACKENDS:
        try:
            report[f"backend {name}"] = _ready(name)
        except BackendMissing as error:
            report[f"backend {name}"] = str(error)
    models = known_models()
    report["models"] = ", ".join(models)
    try:
        taken = select_backend("auto")
        report["auto takes"] = taken
        report |= {f"auto takes for {name}": _taken(path) for name, path in models.items()}
    except BackendMissing as error:
        report["auto takes"] = str(error)
    for operator, known in implementations().items():
        report[f"kernel {operator}"] = f"{named(operator, None, 'its own choice')} of {', '.join(known)}"
    return report


def _ready(name: BackendName) -> str:
    """Raises BackendMissing: its library does not load, or finds no device."""
    from hoiclip_engine.backends.registry import backend_module, require_runnable

    require_runnable(name)
    fast = ", ".join(backend_module(name).fast_precisions())
    return f"ready; faster than fp32 here: {fast}" if fast else "ready"


def _taken(path: Path) -> str:
    """Backend and precision, the reason for them, and what would make it faster."""
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.backends.registry import backend_module, select_backend
    from hoiclip_engine.quantization.builds import build_command, find_build, find_speeds, select

    try:
        model = load_model_file(path)
    except ModelError as error:
        return str(error)
    ranked = select_backend("auto")
    if importlib.util.find_spec("torch") is None:
        return f"{ranked}, fp32, once it is exported: hoiclip export {model.name} -o DIR --with-model, where torch is"
    taken, all_backends = select(model), build_command(model, "all")
    if taken.speed is not None:
        reason = f"measured, {1 / taken.speed.ratio:.2f} times as fast as fp32 with {ranked}"
    elif find_speeds(model, ranked) is not None:
        reason = "measured, nothing else is faster"
    else:
        reason = f"by rank, {all_backends} measures the others"
    fast = backend_module(taken.backend).fast_precisions()
    is_complete = all(find_build(model, taken.backend, precision) is not None for precision in fast)
    faster = "" if is_complete else f"; faster: {build_command(model, taken.backend)}"
    return f"{taken.backend}, {taken.build.precision}: {reason}{faster}"
