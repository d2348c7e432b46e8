"""The build that auto takes, by measured speed."""

from __future__ import annotations

import random
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip_engine.backends import openvino_backend
from hoiclip_engine.backends.base import Precision
from hoiclip_engine.bench.turns import speeds_in_turns
from hoiclip_engine.quantization.builds import MeasuredSpeed, publish_build, select_build
from tests.engine.untrained import untrained_model

pytest.importorskip("openvino")
PRECISIONS: tuple[Precision, ...] = ("int8", "bf16", "fp16")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    found = load_model_file(untrained_model())
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino_backend, "fast_precisions", lambda: PRECISIONS)  # whatever this processor has
    return found


def publish(
    model: ModelFile, precision: Precision, ratio: float, spread: float = 0.02, *, forced: bool = False
) -> None:
    speed = MeasuredSpeed(median_ms=8 * ratio, ratio=ratio, low=ratio - spread, high=ratio + spread)
    publish_build(model, "openvino", precision, None, {"forced": forced, "speed": asdict(speed)})


@pytest.mark.parametrize("seed", range(20))
def test_auto_takes_the_fastest_measured_build_whatever_the_order(seed: int, model: ModelFile) -> None:
    order = random.Random(seed)
    ratios = dict(zip(PRECISIONS, order.sample([0.4, 0.6, 0.8, 0.95, 1.1, 1.5], 3), strict=True))
    for precision in order.sample(PRECISIONS, 3):
        publish(model, precision, ratios[precision])
    fastest = min(ratios, key=lambda precision: ratios[precision])
    taken = select_build(model, "openvino", "auto")
    assert taken.precision == (fastest if ratios[fastest] < 1 else "fp32")
    if taken.speed is not None:
        assert taken.speed.ratio == ratios[fastest]


def test_auto_stays_with_fp32_where_a_build_may_be_slower(model: ModelFile) -> None:
    publish(model, "int8", 0.99)
    assert select_build(model, "openvino", "auto").precision == "fp32"
    publish(model, "int8", 0.5, forced=True)
    assert select_build(model, "openvino", "auto").precision == "fp32"
    assert select_build(model, "openvino", "int8").precision == "int8"
    publish(model, "bf16", 0.9)
    assert select_build(model, "openvino", "auto").precision == "bf16"


def test_speed_is_the_ratio_of_times_taken_in_turns() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        if order[-1:] != [name]:
            order.append(name)
        time.sleep(seconds)

    speeds = speeds_in_turns({"fp32": lambda: call("fp32", 0.02), "bf16": lambda: call("bf16", 0.01)}, "fp32", rounds=4)
    assert order == ["fp32", "bf16"] * 4
    assert speeds["fp32"].ratio == 1
    # A sleep is never shorter, and on a busy machine a little longer.
    assert 0.35 < speeds["bf16"].ratio < 0.8
    assert speeds["bf16"].low <= speeds["bf16"].ratio <= speeds["bf16"].high < 1
    assert 10 <= speeds["bf16"].median_ms < 20
