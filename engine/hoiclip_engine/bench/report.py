"""Reports: a measurement as one JSON object, schema hoiclip-bench/1 (report.schema.json), as Markdown and as a plot."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip import __version__
from hoiclip.core.errors import BackendMissing, SinkError
from hoiclip.core.wall_time import utc_text
from hoiclip_engine.backends.cpu import cpu_count, cpu_flags, cpu_name
from hoiclip_engine.bench.load import BenchPlan, Block, MeasuredLoad, percentiles, stage_percentiles
from hoiclip_engine.bench.machine import PROBE_DESCRIPTION, Nvml

SCHEMA = "hoiclip-bench/1"
_IMAGES = "pictures"
"""Key of the number of images behind an accuracy."""
_DOTS, _LINES = "#1b6ca8", {"p50": "#3c8d53", "p90": "#b8860b", "p99": "#c8553d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchInput:
    """Videos of a measurement."""

    sources: Sequence[str]
    """Printable, without credentials."""
    image_px: tuple[int, int]
    """Width and height of the first source."""
    padded_px: tuple[int, int]
    """Width and height that the model was compiled for."""
    fps: float | None
    """Frame rate of each stream (open load)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything of a report but its times, as JSON."""

    artefact: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    clock: Mapping[str, Any]
    memory: Mapping[str, Any]
    energy_per_frame_j: Mapping[str, Any]
    clocks: Mapping[str, Any]
    throttling: Mapping[str, Any]
    cold_start_ms: Mapping[str, Any]
    accuracy: Mapping[str, Any]


def make_report(
    plan: BenchPlan, measured_input: BenchInput, measured: MeasuredLoad, surroundings: Surroundings
) -> dict[str, Any]:
    """Report object; every field is present, and an unavailable measurement gives the reason."""
    samples = measured.samples
    latency_ms = percentiles([sample.latency_ms for sample in samples])
    answered = sum(sample.frames for sample in samples)
    dropped = sum(sample.dropped for sample in samples)
    throughput = round(answered / measured.seconds, 4)
    return {
        "schema": SCHEMA,
        "made": utc_text(),
        "scenario": _scenario(plan, measured_input),
        "headline": {
            "metric": plan.headline,
            "value": throughput if plan.headline == "throughput" else latency_ms[plan.headline],
            "unit": "frames/s" if plan.headline == "throughput" else "ms",
        },
        "latency_ms": {"meaning": _MEANINGS[plan.subject][plan.load], **latency_ms},
        "throughput_per_s": throughput,
        "frames": {"answered": answered, "dropped": dropped, "seconds": round(measured.seconds, 4)},
        "stage_ms": stage_percentiles(samples),
        "queue_age_ms": percentiles([sample.queue_ms for sample in samples]),
        "warm_up": measured.warm_up.to_json(),
        **asdict(surroundings),
        "probe": _probe(measured.blocks),
        "blocks": [_block(block, measured.blocks[0].begun_s) for block in measured.blocks],
    }


_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "model": {
        "closed": "from a prepared image of each stream to the scored triplets of all",
        "open": "from the moment a prepared image arrives to its scored triplets, waiting included",
    },
    "pipeline": {
        "closed": "from asking for a frame of each stream, still encoded, to the tracked pairs of all",
        "open": "capture to result, from the moment a frame was due to its tracked pairs, decoding and waiting too",
        "offline": "from a decoded frame to its tracked pairs, waiting behind those before it included",
    },
}


def _scenario(plan: BenchPlan, measured_input: BenchInput) -> dict[str, Any]:
    return {
        "subject": plan.subject,
        "load": plan.load,
        "mode": plan.mode,
        "streams": plan.streams,
        "seconds": plan.seconds,
        "fps": measured_input.fps,
        "times_rate": plan.times_rate,
        "clip_every": plan.clip_every,
        "injected_slowdown": plan.slowed_by,
        "sources": list(measured_input.sources),
        "picture_px": list(measured_input.image_px),
        "canvas_px": list(measured_input.padded_px),
    }


def _probe(blocks: Sequence[Block]) -> dict[str, Any]:
    known = [block.probe_ms for block in blocks if block.probe_ms is not None]
    if len(known) < len(blocks):
        return {"what": None, "reason": "a probe of the processor says nothing about a GPU", "p50_ms": None}
    return {"what": PROBE_DESCRIPTION, "reason": None, "p50_ms": percentiles(known)["p50"]}


def _block(block: Block, zero_s: float) -> dict[str, Any]:
    return {
        "at_s": round(block.begun_s - zero_s, 4),
        "seconds": round(block.seconds, 6),
        "frames": block.frames,
        "probe_ms": None if block.probe_ms is None else round(block.probe_ms, 5),
        "done_s": [round(sample.done_s - zero_s, 4) for sample in block.samples],
        "latency_ms": [round(sample.latency_ms, 4) for sample in block.samples],
    }


def schema() -> dict[str, Any]:
    """JSON Schema of a report."""
    text = resources.files("hoiclip_engine.bench").joinpath("report.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def as_line(report: Mapping[str, Any]) -> str:
    return json.dumps(report, allow_nan=False, separators=(",", ":"))


def markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """Reports as Markdown for a pull request, a section for each."""
    return "\n".join("\n".join(_section(report)) + "\n" for report in reports)


def _section(report: Mapping[str, Any]) -> Iterator[str]:
    scenario, artefact, headline = report["scenario"], report["artefact"], report["headline"]
    streams = "1 stream" if scenario["streams"] == 1 else f"{scenario['streams']} streams"
    yield f"## {scenario['subject']}, {scenario['load']} load, {streams} ({scenario['mode']})"
    yield ""
    meaning = report["latency_ms"]["meaning"]
    yield f"**{headline['metric']} {_number(headline['value'])} {headline['unit']}**. Latency is timed {meaning}."
    yield ""
    yield from _table(("latency, ms", *_PERCENTILES), [("", *(_number(report["latency_ms"][p]) for p in _PERCENTILES))])
    yield ""
    stages = [
        (name, *(_number(ms[p]) for p in ("p50", "p90", "p99", "mean"))) for name, ms in report["stage_ms"].items()
    ]
    yield from _table(("stage, ms", "p50", "p90", "p99", "mean"), stages)
    yield ""
    yield from _table(("", ""), _facts(report, artefact, scenario))


_PERCENTILES = ("p50", "p90", "p99", "p99.9", "mean", "min", "max")


def _facts(
    report: Mapping[str, Any], artefact: Mapping[str, Any], scenario: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    frames, machine, warm_up = report["frames"], report["machine"], report["warm_up"]
    yield "throughput", f"{_number(report['throughput_per_s'])} frames/s"
    yield "frames", f"{frames['answered']} answered, {frames['dropped']} dropped in {_number(frames['seconds'])} s"
    if scenario["fps"] is not None:
        yield "pace", f"{_number(scenario['fps'])} frames/s of each stream"
    if scenario["injected_slowdown"]:
        yield "slowed on purpose", f"by {scenario['injected_slowdown']:.0%} of every inference"
    yield (
        "cold start",
        _value_or_reason(
            report["cold_start_ms"], lambda v: f"{_number(v['median'])} ms, median of {len(v['samples'])}"
        ),
    )
    yield "peak memory", _value_or_reason(report["memory"]["peak_rss_mib"], lambda v: f"{_number(v)} MiB")
    yield "GPU memory", _value_or_reason(report["memory"]["gpu_mib"], lambda v: f"{_number(v)} MiB")
    yield "energy of a frame", _value_or_reason(report["energy_per_frame_j"], _joules)
    yield "accuracy", _value_or_reason(report["accuracy"], lambda v: f"{v['mAP']:.2f} mAP on {v[_IMAGES]} images")
    graph = (artefact["graph_sha256"] or artefact["model_sha256"])[:16]
    yield "artefact", f"{artefact['model']}, {artefact['backend']} {artefact['precision']}, sha256 {graph}…"
    width, height = scenario["canvas_px"]
    yield "padded size", f"{width}x{height}"
    yield "warm-up", f"{_number(warm_up['seconds'])} s, {'stable' if warm_up['stable'] else 'NOT stable'}"
    for name, measurement in report["throttling"].items():
        yield (
            name.replace("_", " "),
            _value_or_reason(measurement, lambda v: ", ".join(v) or "nothing" if isinstance(v, list) else _number(v)),
        )
    yield (
        "clock of the CPU",
        _value_or_reason(report["clocks"]["cpu_mhz"], lambda v: f"{v['before']:.0f} → {v['after']:.0f} MHz"),
    )
    yield "clock of the GPU", _value_or_reason(report["clocks"]["gpu_mhz"], lambda v: f"{v} MHz")
    yield "machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    yield "commit", report["commit"] or "none: not run from a checkout"


def _table(heads: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"


def _value_or_reason(measurement: Mapping[str, Any], shown: Any) -> str:
    value = measurement["value"]
    return f"not available: {measurement['reason']}" if value is None else str(shown(value))


def _joules(value: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(joules)} J" for name, joules in value.items())


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def require_matplotlib() -> None:
    """Checks for matplotlib before minutes of measuring, rather than after.

    Raises:
        BackendMissing: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendMissing("--plot needs matplotlib; pip install 'hoiclip[bench]' brings it") from error


def plot(reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plots a row for each report: latency over time on the left, its histogram on the right.

    Raises:
        BackendMissing: matplotlib is not installed.
        SinkError: the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6 * len(reports)), layout="constrained")
    axes = figure.subplots(len(reports), 2, squeeze=False, gridspec_kw={"width_ratios": (2, 1)})
    for (over_time, spread), report in zip(axes, reports, strict=True):
        _over_time(over_time, report)
        _spread(spread, report)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure of matplotlib as PNG.

    Raises:
        SinkError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose a folder that is writable") from error


def _over_time(axes: Any, report: Mapping[str, Any]) -> None:
    at_s = np.concatenate([block["done_s"] for block in report["blocks"]])
    axes.plot(at_s, _latencies(report), ".", color=_DOTS, markersize=3, alpha=0.6)
    for name, colour in _LINES.items():
        axes.axhline(
            report["latency_ms"][name], color=colour, linewidth=1, label=f"{name} {report['latency_ms'][name]:.4g} ms"
        )
    scenario, artefact = report["scenario"], report["artefact"]
    axes.set_title(
        f"{scenario['subject']}, {scenario['load']}, streams: {scenario['streams']}; {artefact['model']}, "
        f"{artefact['backend']} {artefact['precision']}",
        loc="left",
        fontsize=10,
    )
    axes.set(xlabel="seconds", ylabel="latency, ms", ylim=(0, None))
    axes.legend(loc="upper right", fontsize=8)


def _spread(axes: Any, report: Mapping[str, Any]) -> None:
    values = _latencies(report)
    largest = max(report["latency_ms"]["p99"] * 1.3, 1e-3)
    axes.hist(np.minimum(values, largest), bins=60, color=_DOTS, alpha=0.8)
    for name, colour in _LINES.items():
        axes.axvline(report["latency_ms"][name], color=colour, linewidth=1)
    beyond = int((values > largest).sum())
    axes.set(xlabel="latency, ms" + (f" ({beyond} longer ones in the last bar)" if beyond else ""), ylabel="answers")


def _latencies(report: Mapping[str, Any]) -> Any:
    return np.concatenate([block["latency_ms"] for block in report["blocks"]])


PACKAGES = ("numpy", "numba", "av", "openvino", "onnxruntime", "torch", "tensorrt", "tensorrt-rtx-cu13")


def machine(nvml: Nvml) -> dict[str, Any]:
    """Processor, memory, system and GPU."""
    return {
        "cpu": cpu_name(),
        "cores": cpu_count(),
        "flags": list(cpu_flags()),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpu": nvml.name().to_json(),
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python, hoiclip and those packages that are installed."""
    found = {"python": platform.python_version(), "hoiclip": __version__}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Short hash of the checkout this code lies in, with "+" where files differ from it; None outside of one.

    Changed results of benchmarks do not count: measuring writes them.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None  # installed, perhaps inside another repository
    root = _git(here.parent, "rev-parse", "--show-toplevel")
    head = _git(here.parent, "rev-parse", "--short=12", "HEAD")
    if not root or not head:
        return None
    return head + ("+" if _git(Path(root), "status", "--porcelain", "--", ":!benchmarks/results") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
