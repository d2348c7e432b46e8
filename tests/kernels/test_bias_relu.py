"""bias_relu: every implementation against the reference, in the memory it was given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hoiclip_kernels import dispatch
from hoiclip_kernels.bias_relu import BiasReluArguments, bias_relu, example_inputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMPLEMENTATIONS = ("torch", "triton")
SHAPES: list[dict[str, Any]] = [
    {},
    {"channels": 48, "height": 5, "added": False},
    {"batch": 2, "channels": 3, "height": 1, "width": 1, "padded": None},  # off every power of two
    {"batch": 2, "channels": 256, "height": 4, "width": 3, "added": False, "padded": None},
    {"batch": 0},
]


def check(implementation: str, dtype: torch.dtype, tolerance: float, seed: int, **shape: Any) -> None:
    arguments = example_inputs(dtype=dtype, device=DEVICE, seed=seed, **shape)
    expected = bias_relu(*BiasReluArguments(arguments.x.clone(), *arguments[1:]), implementation="reference")
    found = bias_relu(*arguments, implementation=implementation)
    assert found.data_ptr() == arguments.x.data_ptr()
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_the_reference(implementation: str, shape: dict[str, Any], seed: int) -> None:
    if implementation == "triton":
        pytest.importorskip("triton")
    check(implementation, torch.float32, 1e-6, seed, **shape)
    # fp16 keeps 11 bits; torch rounds after each of two sums of numbers up to 8, Triton once.
    check(implementation, torch.float16, 8e-3 if implementation == "torch" else 1e-3, seed, **shape)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [64, 256, 2048])
def test_of_official_sizes(dtype: torch.dtype, channels: int, seed: int) -> None:
    check("triton", dtype, 1e-3 if dtype == torch.float16 else 8e-3, seed, channels=channels, height=50, width=68)


def test_padding_is_zero_and_what_is_no_number_stays_none() -> None:
    for implementation in ("reference", *IMPLEMENTATIONS):
        x, bias, added, valid = example_inputs(channels=16, device=DEVICE)
        x[0, 3, 2, 1] = float("nan")
        found = bias_relu(x, bias, added, valid, implementation=implementation)
        assert valid is not None
        assert not found[(valid == 0).expand_as(found)].any()
        assert found.isnan().sum() == 1


def test_shapes_that_do_not_belong_together_are_named() -> None:
    x, bias, added, valid = example_inputs()
    with pytest.raises(ValueError, match=r"expected bias \(64,\)"):
        bias_relu(x, bias[1:], added, valid)
    with pytest.raises(ValueError, match=r"expected valid \(1, 1, 9, 7\) torch.float32, got .* torch.bool"):
        bias_relu(x, bias, added, torch.ones(1, 1, 9, 7, dtype=torch.bool))


def test_channels_that_come_first_are_left_to_torch() -> None:
    pytest.importorskip("triton")
    x, bias, added, valid = example_inputs(device=DEVICE)
    bias_relu(x.contiguous(), bias, added, valid)
    assert dispatch.used["bias_relu"] == "torch"
    with pytest.raises(dispatch.KernelError, match=r"channels-last .*; use torch"):
        bias_relu(x.contiguous(), bias, added, valid, implementation="triton")
