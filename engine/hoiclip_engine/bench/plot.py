"""Latency over time and its distribution, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.errors import BackendMissing, SinkError

_DOTS, _LINES = "#1b6ca8", {"p50": "#3c8d53", "p90": "#b8860b", "p99": "#c8553d"}


def require_matplotlib() -> None:
    """Before minutes of measuring, rather than after.

    Raises:
        BackendMissing: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendMissing("--plot needs matplotlib; pip install 'hoiclip[bench]' brings it") from error


def plot(reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A row for each report: every answer at its time on the left, how many took how long on the right.

    Raises:
        BackendMissing: matplotlib is not installed.
        SinkError: the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6 * len(reports)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(reports), 2, squeeze=False, gridspec_kw={"width_ratios": (2, 1)})
    for (over_time, spread), report in zip(axes, reports, strict=True):
        _over_time(over_time, report)
        _spread(spread, report)
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
