"""What exactly was timed, by hash, and how right it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hoiclip_engine.backends import backend_module
from hoiclip_engine.bench.told import Told, untold
from hoiclip_engine.engine import Engine
from hoiclip_engine.engine_cache import graph_sha256
from hoiclip_engine.export import exported_graph
from hoiclip_engine.gate import measured_map
from hoiclip_engine.measured_set import MeasuredSet


def artefact(engine: Engine, canvas_hw: tuple[int, int]) -> dict[str, Any]:
    """Model, backend and graph; torch runs the module itself, which the model's hash stands for."""
    module = backend_module(engine.backend_name)
    graph = engine.build.graph
    if graph is None and engine.backend_name != "torch":
        graph = exported_graph(engine.model, canvas_hw)
    return {
        "model": engine.model.name,
        "model_sha256": engine.model.sha256(),
        "backend": engine.backend_name,
        "library": module.library(),
        "device": module.device(),
        "precision": engine.build.precision,
        "graph_sha256": None if graph is None else graph_sha256(graph),
    }


def recorded_accuracy(engine: Engine) -> Told:
    """What the gate measured when it passed this build."""
    if engine.build.about is None:
        return untold("fp32 needs no gate, so none measured it; --accuracy N does")
    maps = engine.build.about.get("gate", {}).get("mean_precisions")
    if not isinstance(maps, Mapping):
        return untold("its gate knew no annotated pictures; --accuracy N with --data and --images measures it")
    return Told(
        value={"mAP": round(float(maps["engine"]), 3), "pictures": int(maps["pictures"])},
        source=f"gate of the build, made {engine.build.about.get('made', 'at an unknown time')}",
    )


def measured_accuracy(engine: Engine, chosen: MeasuredSet, count: int, on_picture: Callable[[], None]) -> Told:
    """mAP in percent of this very engine on the first `count` pictures."""
    some = replace(chosen, annotations=chosen.annotations[:count])
    percent = measured_map(engine.detect, engine.vocabulary, some, on_picture)
    return Told(value={"mAP": round(percent, 3), "pictures": len(some.annotations)}, source="measured by this command")
