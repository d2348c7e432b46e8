"""hoiclip doctor: what is installed here, what "auto" would take, and the command that brings what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

from hoiclip import __version__
from hoiclip.cache import cache_folder
from hoiclip.errors import BackendMissing
from hoiclip_engine.backends import BACKENDS, PLANNED, choose
from hoiclip_engine.commands.console import results, table
from hoiclip_engine.models import known_models
from hoiclip_kernels.dispatch import implementations, named

PACKAGES = {
    "numpy": "numpy",
    "numba": "numba",
    "scipy": "scipy",
    "av": "av",
    "torch": "torch",
    "open_clip_torch": "open_clip_torch",
    "opencv": "opencv-python-headless",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
EXTRAS = {"tensorboard": "tensorboard"}
"""Packages that nothing misses, to the extra that brings them."""
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")


def doctor(as_json: bool) -> int:
    """Prints the report; always succeeds, because nothing it reports is its own failure."""
    facts = {**_machine(), **_packages(), **_choices()}
    if as_json:
        print(json.dumps(facts))
    else:
        results.print(table("", ("what", "found"), facts.items()))
    return 0


def _machine() -> dict[str, str]:
    cpu, flags = _cpu()
    return {
        "hoiclip": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cpu": f"{cpu}, {os.cpu_count()} cores" + (f", {' '.join(flags)}" if flags else ""),
        "cuda": _cuda(),
        "cache": str(cache_folder("graphs").parent),
    }


def _cpu() -> tuple[str, list[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), []
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    have = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name", platform.machine()), [flag for flag in CPU_FLAGS if flag in have]


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
        found[name] = _version(name, f"not installed, not needed; pip install 'hoiclip[{extra}]' brings it")
    found["h264 encoder"] = _encoder()
    return found


def _version(distribution: str, otherwise: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return otherwise


def _encoder() -> str:
    import av

    return "libx264" if "libx264" in av.codecs_available else "missing; annotated video falls back to mpeg4"


def _choices() -> dict[str, str]:
    report = {}
    for name in (*BACKENDS, *PLANNED):
        try:
            choose(name)
            report[f"backend {name}"] = "ready"
        except BackendMissing as error:
            report[f"backend {name}"] = str(error)
    try:
        report["auto takes"] = f"{choose('auto')}, fp32"
    except BackendMissing as error:
        report["auto takes"] = str(error)
    report["models"] = ", ".join(known_models())
    for operator, known in implementations().items():
        report[f"kernel {operator}"] = f"{named(operator, None, 'its own choice')} of {', '.join(known)}"
    return report
