"""A measurement as one JSON object, schema hoiclip-bench/1 (report.schema.json)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hoiclip.errors import SinkError
from hoiclip_engine.bench.loops import Measured
from hoiclip_engine.bench.plan import BenchPlan
from hoiclip_engine.bench.sample import Block, percentiles, stage_percentiles
from hoiclip_engine.bench.speed_probe import WHAT

SCHEMA = "hoiclip-bench/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What was looked at."""

    sources: Sequence[str]
    """Printable, without credentials."""
    picture_px: tuple[int, int]
    """Width and height of the first source."""
    canvas_px: tuple[int, int]
    """Width and height the model was compiled for."""
    fps: float | None
    """At which frames of each stream came (open)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything of a report that no clock tells, as JSON."""

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


def report(plan: BenchPlan, looked_at: Input, measured: Measured, around: Surroundings) -> dict[str, Any]:
    """The object; every field is there, and what could not be told says why."""
    samples = measured.samples
    latency_ms = percentiles([one.latency_ms for one in samples])
    answered = sum(one.frames for one in samples)
    dropped = sum(one.dropped for one in samples)
    throughput = round(answered / measured.seconds, 4)
    return {
        "schema": SCHEMA,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scenario": _scenario(plan, looked_at),
        "headline": {
            "metric": plan.headline,
            "value": throughput if plan.headline == "throughput" else latency_ms[plan.headline],
            "unit": "frames/s" if plan.headline == "throughput" else "ms",
        },
        "latency_ms": {"meaning": _MEANINGS[plan.subject][plan.load], **latency_ms},
        "throughput_per_s": throughput,
        "frames": {"answered": answered, "dropped": dropped, "seconds": round(measured.seconds, 4)},
        "stage_ms": stage_percentiles(samples),
        "queue_age_ms": percentiles([one.queue_ms for one in samples]),
        "warm_up": measured.warm_up.to_json(),
        **asdict(around),
        "probe": _probe(measured.blocks),
        "blocks": [_block(block, measured.blocks[0].begun_s) for block in measured.blocks],
    }


_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "model": {
        "closed": "from a prepared picture of each stream to the scored triplets of all",
        "open": "from the moment a prepared picture arrives to its scored triplets, waiting included",
    },
    "pipeline": {
        "closed": "from asking for a frame of each stream, still encoded, to the tracked pairs of all",
        "open": "capture to result, from the moment a frame was due to its tracked pairs, decoding and waiting too",
        "offline": "from a decoded frame to its tracked pairs, waiting behind those before it included",
    },
}


def _scenario(plan: BenchPlan, looked_at: Input) -> dict[str, Any]:
    return {
        "subject": plan.subject,
        "load": plan.load,
        "mode": plan.mode,
        "streams": plan.streams,
        "seconds": plan.seconds,
        "fps": looked_at.fps,
        "times_rate": plan.times_rate,
        "injected_slowdown": plan.slowed_by,
        "sources": list(looked_at.sources),
        "picture_px": list(looked_at.picture_px),
        "canvas_px": list(looked_at.canvas_px),
    }


def _probe(blocks: Sequence[Block]) -> dict[str, Any]:
    known = [block.probe_ms for block in blocks if block.probe_ms is not None]
    if len(known) < len(blocks):
        return {"what": None, "reason": "a probe of the processor says nothing of a GPU", "p50_ms": None}
    return {"what": WHAT, "reason": None, "p50_ms": percentiles(known)["p50"]}


def _block(block: Block, zero_s: float) -> dict[str, Any]:
    return {
        "at_s": round(block.begun_s - zero_s, 4),
        "seconds": round(block.seconds, 6),
        "frames": block.frames,
        "probe_ms": None if block.probe_ms is None else round(block.probe_ms, 5),
        "done_s": [round(one.done_s - zero_s, 4) for one in block.samples],
        "latency_ms": [round(one.latency_ms, 4) for one in block.samples],
    }


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    text = resources.files("hoiclip_engine.bench").joinpath("report.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def as_line(made: Mapping[str, Any]) -> str:
    return json.dumps(made, allow_nan=False, separators=(",", ":"))


def write_text(path: Path, text: str) -> None:
    """
    Raises:
        SinkError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose a folder that is writable") from error
