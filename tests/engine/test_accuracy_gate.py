"""The accuracy gate passes builds that find the same triplets, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hoiclip.core.model_file import load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.quantization.accuracy_gate import (
    ACCURACY_LIMITS,
    AccuracyComparison,
    MeanPrecisions,
    compare_backends,
    gate_verdict,
)
from tests.engine.untrained import untrained_model

SAME = AccuracyComparison(
    num_images=1, max_abs_error={"hoi_logits": 0.1}, mean_abs_error={"hoi_logits": 0.01}, agreement=1.0
)


class Fixed:
    """A backend with the same output for every image, a little off."""

    name, padded_hw = "fixed", (64, 64)

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


def image() -> ModelInput:
    return preprocess(np.zeros((64, 64, 3), np.uint8), PreprocessConfig(short_side_px=64, padded_hw=(64, 64)))


def test_agreement_is_full_for_equal_engines_and_falls_with_noise() -> None:
    vocabulary = load_model_file(untrained_model()).vocabulary
    same, near, far = (compare_backends(Fixed(), Fixed(off), [image()], vocabulary) for off in (0.0, 0.02, 2.0))
    assert same.agreement == 1
    assert set(same.max_abs_error.values()) == {0.0}
    assert 1 >= near.agreement > 0.8 > far.agreement
    assert 0 < near.mean_abs_error["hoi_logits"] < near.max_abs_error["hoi_logits"] < far.max_abs_error["hoi_logits"]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_map_decides_where_it_is_known(precision: str) -> None:
    most = ACCURACY_LIMITS[precision].map_points  # type: ignore[index]
    for lost, passes in ((0.0, True), (most - 0.01, True), (most + 0.01, False), (-3.0, True)):
        maps = MeanPrecisions(num_images=100, reference=60.0, engine=60.0 - lost)
        found = gate_verdict(precision, replace(SAME, agreement=0.1), maps)  # type: ignore[arg-type]
        assert found.passed is passes
        assert passes == (found.failed_by == "")
    assert "points of mAP" in found.failed_by or passes


def test_accuracy_limits_are_those_of_the_documents() -> None:
    assert ACCURACY_LIMITS["fp16"].map_points == 0.2
    assert ACCURACY_LIMITS["int8"].map_points == 1.0


def test_agreement_decides_where_the_model_knows_no_benchmark() -> None:
    assert gate_verdict("int8", SAME).passed
    refused = gate_verdict("int8", replace(SAME, agreement=0.5))
    assert refused.failed_by == "50.0% of the best 100 triplets are the same in int8, expected at least 75%"


def test_outputs_that_are_not_finite_never_pass() -> None:
    broken = replace(SAME, max_abs_error={"hoi_logits": float("nan")})
    assert (
        "not finite"
        in gate_verdict("int8", broken, MeanPrecisions(num_images=9, reference=60.0, engine=60.0)).failed_by
    )
