"""The gate lets through what says the same, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip_engine.gate import LIMITS, Comparison, MeanPrecisions, compare, verdict
from hoiclip_engine.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip_engine.raw_output import RawOutput
from tests.engine.untrained import untrained_model

SAME = Comparison(pictures=1, max_abs_error={"hoi_logits": 0.1}, mean_abs_error={"hoi_logits": 0.01}, agreement=1.0)


class Fixed:
    """A backend that says the same of every picture, a little off."""

    name, canvas_hw = "fixed", (64, 64)

    def __init__(self, off: float = 0.0) -> None:
        rng = np.random.default_rng(0)
        shapes = {
            "hoi_logits": (1, 16, 600), "object_logits": (1, 16, 81), "human_boxes_cxcywh": (1, 16, 4),
            "object_boxes_cxcywh": (1, 16, 4), "clip_cls": (1, 8),
        }  # fmt: skip
        outputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        noise = np.random.default_rng(1)
        self.output = RawOutput(
            **{name: (v + off * noise.normal(size=v.shape)).astype(np.float32) for name, v in outputs.items()}
        )

    def __call__(self, model_input: ModelInput) -> RawOutput:
        return self.output

    def close(self) -> None: ...


def picture() -> ModelInput:
    return preprocess(np.zeros((64, 64, 3), np.uint8), PreprocessConfig(short_side_px=64, canvas_hw=(64, 64)))


def test_equal_engines_agree_and_noise_costs_agreement() -> None:
    vocabulary = load_model_file(untrained_model()).vocabulary
    same, near, far = (compare(Fixed(), Fixed(off), [picture()], vocabulary) for off in (0.0, 0.02, 2.0))
    assert same.agreement == 1
    assert set(same.max_abs_error.values()) == {0.0}
    assert 1 >= near.agreement > 0.8 > far.agreement
    assert 0 < near.mean_abs_error["hoi_logits"] < near.max_abs_error["hoi_logits"] < far.max_abs_error["hoi_logits"]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_map_decides_where_it_is_known(precision: str) -> None:
    most = LIMITS[precision].map_points  # type: ignore[index]
    for lost, passes in ((0.0, True), (most - 0.01, True), (most + 0.01, False), (-3.0, True)):
        maps = MeanPrecisions(pictures=100, reference=60.0, engine=60.0 - lost)
        found = verdict(precision, replace(SAME, agreement=0.1), maps)  # type: ignore[arg-type]
        assert found.passed is passes
        assert passes == (found.failed_by == "")
    assert "points of mAP" in found.failed_by or passes


def test_the_limits_are_those_users_were_promised() -> None:
    assert LIMITS["fp16"].map_points == 0.2
    assert LIMITS["int8"].map_points == 1.0


def test_agreement_decides_where_no_benchmark_is_known() -> None:
    assert verdict("int8", SAME).passed
    refused = verdict("int8", replace(SAME, agreement=0.5))
    assert refused.failed_by == "50.0% of the best 100 triplets are the same in int8, expected at least 75%"


def test_numbers_that_are_none_never_pass() -> None:
    broken = replace(SAME, max_abs_error={"hoi_logits": float("nan")})
    assert "no numbers" in verdict("int8", broken, MeanPrecisions(pictures=9, reference=60.0, engine=60.0)).failed_by
