"""The backend and the build that auto takes, by measured speed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hoiclip.core.errors import BackendMissing
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip_engine.backends.base import BACKENDS, BackendName, Precision
from hoiclip_engine.backends.registry import BACKEND_PRECISIONS
from hoiclip_engine.bench.turns import blocks_in_turns, speed_beside
from hoiclip_engine.quantization import builds
from hoiclip_engine.quantization.builds import MeasuredSpeed, publish_build, publish_speeds, select, select_build
from tests.engine.untrained import untrained_model

BASE: BackendName = "openvino"
PRECISIONS: tuple[Precision, ...] = ("int8", "bf16", "fp16")


class Machine:
    """Every backend runs here, in versions that a test may change."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.versions: dict[str, int] = dict.fromkeys(BACKENDS, 1)
        self.patch = patch
        patch.setattr(builds, "backend_module", self.module)
        patch.setattr(builds, "select_backend", self.select_backend)

    def module(self, name: str) -> Any:
        return SimpleNamespace(library=lambda: f"{name} {self.versions[name]}", device=lambda: "a processor")

    def select_backend(self, name: str) -> str:
        if name != "auto" and name not in self.versions:
            raise BackendMissing(f"backend {name} is not installed; pip install {name}")
        return BASE if name == "auto" else name


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def model(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    found = load_model_file(untrained_model())
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))
    return found


def speed_of(ratio: float, spread: float = 0.02) -> MeasuredSpeed:
    return MeasuredSpeed(median_ms=8 * ratio, ratio=ratio, low=ratio - spread, high=ratio + spread)


def publish(
    model: ModelFile, precision: Precision, ratio: float, *, forced: bool = False, backend: BackendName = BASE
) -> None:
    publish_build(model, backend, precision, None, {"forced": forced, "speed": asdict(speed_of(ratio))})


def publish_others(model: ModelFile, ratios: dict[tuple[BackendName, Precision], float]) -> None:
    """Speeds of other backends, in the order given; builds are published, too."""
    speeds: dict[BackendName, dict[Precision, MeasuredSpeed]] = {}
    for (backend, precision), ratio in ratios.items():
        speeds.setdefault(backend, {})[precision] = speed_of(ratio)
        if precision != "fp32":
            publish(model, precision, ratio, backend=backend)
    publish_speeds(model, BASE, speeds, {})


def taken(model: ModelFile) -> tuple[BackendName, Precision]:
    selection = select(model)
    return selection.backend, selection.build.precision


@pytest.mark.parametrize("seed", range(20))
def test_auto_takes_the_fastest_measured_build_whatever_the_order(seed: int, model: ModelFile) -> None:
    order = random.Random(seed)
    ratios = dict(zip(PRECISIONS, order.sample([0.4, 0.6, 0.8, 0.95, 1.1, 1.5], 3), strict=True))
    for precision in order.sample(PRECISIONS, 3):
        publish(model, precision, ratios[precision])
    fastest = min(ratios, key=lambda precision: ratios[precision])
    build = select_build(model, BASE, "auto")
    assert build.precision == (fastest if ratios[fastest] < 1 else "fp32")
    if build.speed is not None:
        assert build.speed.ratio == ratios[fastest]


def simulated_order(seed: int) -> Iterator[tuple[BackendName, Precision, float, bool]]:
    """All candidates of all backends in a random order, with ratios and whether the gate passed them."""
    order = random.Random(seed)
    candidates = [(backend, precision) for backend in BACKENDS for precision in ("fp32", *BACKEND_PRECISIONS[backend])]
    candidates.remove((BASE, "fp32"))
    slowest = order.choice([0.9, 1.5, 3.0])
    for backend, precision in order.sample(candidates, len(candidates)):
        yield backend, precision, order.uniform(0.3, slowest), precision == "fp32" or order.random() < 0.6


@pytest.mark.parametrize("seed", range(20))
def test_auto_takes_the_fastest_backend_and_precision_in_simulated_orders(seed: int, model: ModelFile) -> None:
    measured = list(simulated_order(seed))
    speeds: dict[BackendName, dict[Precision, MeasuredSpeed]] = {}
    for backend, precision, ratio, passed in measured:
        if backend != BASE:
            speeds.setdefault(backend, {})[precision] = speed_of(ratio)
        if precision != "fp32":
            publish(model, precision, ratio, forced=not passed, backend=backend)
    publish_speeds(model, BASE, speeds, {})
    allowed = {
        (backend, precision): ratio for backend, precision, ratio, passed in measured if passed and ratio + 0.02 < 1
    }
    best = min(allowed, key=lambda candidate: allowed[candidate], default=(BASE, "fp32"))
    assert taken(model) == best
    selection = select(model)
    assert not selection.build.forced
    assert (selection.speed.ratio if selection.speed else 1.0) == allowed.get(best, 1.0)


def test_auto_stays_with_fp32_where_a_build_may_be_slower(model: ModelFile) -> None:
    publish(model, "int8", 0.99)
    assert select_build(model, BASE, "auto").precision == "fp32"
    publish(model, "int8", 0.5, forced=True)
    assert select_build(model, BASE, "auto").precision == "fp32"
    assert select_build(model, BASE, "int8").precision == "int8"
    publish(model, "bf16", 0.9)
    assert select_build(model, BASE, "auto").precision == "bf16"


def test_auto_stays_with_the_backend_by_rank_where_another_may_be_slower(model: ModelFile) -> None:
    assert taken(model) == (BASE, "fp32")
    publish_others(model, {("torch", "fp32"): 0.99, ("torch", "bf16"): 1.4, ("onnxruntime", "fp32"): 2.0})
    assert taken(model) == (BASE, "fp32")
    publish_others(model, {("torch", "fp32"): 0.9})
    assert taken(model) == ("torch", "fp32")
    publish(model, "bf16", 0.8)  # a build made later: its ratio is to the same fp32
    assert taken(model) == (BASE, "bf16")


def test_what_is_asked_for_is_not_replaced_by_what_is_faster(model: ModelFile) -> None:
    publish(model, "int8", 0.7)
    publish_others(model, {("torch", "fp16"): 0.4, ("torch", "fp32"): 0.5})
    assert taken(model) == ("torch", "fp16")
    for backend, precision, expected in (
        ("openvino", "auto", ("openvino", "int8")),
        ("torch", "fp32", ("torch", "fp32")),
        ("onnxruntime", "auto", ("onnxruntime", "fp32")),
        ("auto", "fp32", ("openvino", "fp32")),
        ("auto", "int8", ("openvino", "int8")),
    ):
        selection = select(model, backend, precision)
        assert (selection.backend, selection.build.precision) == expected


@pytest.mark.parametrize("changed", ["torch is newer", "torch is removed", "its build is removed"])
def test_measured_backend_that_changed_leaves_the_next_best(
    changed: str, model: ModelFile, machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_others(model, {("onnxruntime", "fp32"): 0.8, ("torch", "fp16"): 0.5})
    assert taken(model) == ("torch", "fp16")
    if changed == "torch is newer":
        machine.versions["torch"] = 2
    elif changed == "torch is removed":
        del machine.versions["torch"]
    else:
        [build] = (tmp_path / "cache" / "builds").glob("*-torch-fp16")
        build.rename(build.with_name("elsewhere"))
    assert taken(model) == ("onnxruntime", "fp32")
    if changed != "its build is removed":
        assert caplog.messages[-1].count("\n") == 0
        assert "was measured with torch 1 on a processor" in caplog.text
        assert "hoiclip build" in caplog.text
        assert "--backend all" in caplog.text


@pytest.mark.parametrize("changed", ["base is newer", "fewer processors", "damaged", "of another user"])
def test_measurement_of_another_machine_is_not_used_and_one_line_gives_the_reason(
    changed: str, model: ModelFile, machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_others(model, {("torch", "fp32"): 0.5})
    assert taken(model) == ("torch", "fp32")
    [entry] = (tmp_path / "cache" / "builds").glob("*-speeds")
    expected = "was not signed by this machine, or changed since"
    if changed == "base is newer":
        machine.versions[BASE] = 2
        expected = "is of another backend by rank (openvino: openvino 1 on a processor, here openvino: openvino 2"
    elif changed == "fewer processors":
        machine.patch.setattr(builds, "cpu_count", lambda: 999)
        expected = "is of another number of processors"
    elif changed == "damaged":
        (entry / "entry.json").write_text("{")
        expected = "is missing or damaged"
    else:
        record = json.loads((entry / "entry.json").read_text())
        record["about"]["backends"]["torch"]["speeds"]["fp32"]["ratio"] = 0.1
        (entry / "entry.json").write_text(json.dumps(record))
    assert taken(model) == (BASE, "fp32")
    assert expected in caplog.text
    assert len(caplog.messages) == 1


def test_speed_is_the_ratio_of_times_taken_in_turns() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        if order[-1:] != [name]:
            order.append(name)
        time.sleep(seconds)

    blocks = blocks_in_turns({"fp32": lambda: call("fp32", 0.02), "bf16": lambda: call("bf16", 0.01)}, rounds=4)
    assert order == ["fp32", "bf16"] * 4
    assert speed_beside(blocks["fp32"], blocks["fp32"]).ratio == 1
    bf16 = speed_beside(blocks["fp32"], blocks["bf16"])
    # A sleep is never shorter, and on a busy machine a little longer.
    assert 0.35 < bf16.ratio < 0.8
    assert bf16.low <= bf16.ratio <= bf16.high
    assert bf16.is_faster
    assert 10 <= bf16.median_ms < 20
