"""A report as Markdown, for a person or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """One section for each report."""
    return "\n".join("\n".join(_section(one)) + "\n" for one in reports)


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
        yield "slowed on purpose", f"by {scenario['injected_slowdown']:.0%} of every look"
    yield (
        "cold start",
        _told(report["cold_start_ms"], lambda v: f"{_number(v['median'])} ms, median of {len(v['samples'])}"),
    )
    yield "peak memory", _told(report["memory"]["peak_rss_mib"], lambda v: f"{_number(v)} MiB")
    yield "GPU memory", _told(report["memory"]["gpu_mib"], lambda v: f"{_number(v)} MiB")
    yield "energy of a frame", _told(report["energy_per_frame_j"], _joules)
    yield "accuracy", _told(report["accuracy"], lambda v: f"{v['mAP']:.2f} mAP on {v['pictures']} pictures")
    graph = (artefact["graph_sha256"] or artefact["model_sha256"])[:16]
    yield "artefact", f"{artefact['model']}, {artefact['backend']} {artefact['precision']}, sha256 {graph}…"
    width, height = scenario["canvas_px"]
    yield "canvas", f"{width}x{height}"
    yield "warm-up", f"{_number(warm_up['seconds'])} s, {'stable' if warm_up['stable'] else 'NOT stable'}"
    for name, told in report["throttling"].items():
        yield (
            name.replace("_", " "),
            _told(told, lambda v: ", ".join(v) or "nothing" if isinstance(v, list) else _number(v)),
        )
    yield "clock of the CPU", _told(report["clocks"]["cpu_mhz"], lambda v: f"{v['before']:.0f} → {v['after']:.0f} MHz")
    yield "clock of the GPU", _told(report["clocks"]["gpu_mhz"], lambda v: f"{v} MHz")
    yield "machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    yield "commit", report["commit"] or "none: not run from a checkout"


def _table(heads: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"


def _told(told: Mapping[str, Any], shown: Any) -> str:
    return f"not told: {told['reason']}" if told["value"] is None else str(shown(told["value"]))


def _joules(value: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(joules)} J" for name, joules in value.items())


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
