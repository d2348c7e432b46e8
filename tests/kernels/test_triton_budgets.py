"""Every Triton kernel compiles for Orin, Ada and Hopper without a GPU, and stays within its written budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

pytest.importorskip("triton")

HERE = Path(__file__).parent
KERNELS = HERE.parent.parent / "kernels"
CAPABILITIES = (87, 89, 90)
BUDGETS = {
    # kernel: registers per thread, bytes of shared memory. Ada has 99 KiB per block, the least of the three.
    "bias_relu": (40, 0),
    "dual_attention q16c64": (128, 96 << 10),
    "dual_attention q16c128": (144, 96 << 10),
    "dual_attention q32c64": (200, 96 << 10),
    "dual_attention q64c32": (192, 72 << 10),
    "preprocess rgb": (48, 0),
    "preprocess nv12": (48, 0),
    "pair_decode best_of_query": (128, 4 << 10),
    "pair_decode merge": (64, 8 << 10),
    "pair_decode unpack": (48, 0),
    "pair_nms": (160, 1 << 10),
}


@pytest.fixture(scope="module")
def reports() -> list[dict[str, int | str]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(HERE / "compile_ahead.py"), *map(str, CAPABILITIES)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PYTHONPATH": str(KERNELS)},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_compiles_for_every_target(reports: list[dict[str, int | str]]) -> None:
    assert {(report["kernel"], report["sm"]) for report in reports} == {
        (kernel, capability) for kernel in BUDGETS for capability in CAPABILITIES
    }


def test_nothing_spills(reports: list[dict[str, int | str]]) -> None:
    assert [report for report in reports if report["spilled"] != 0] == []


@pytest.mark.parametrize("kernel", BUDGETS)
def test_registers_and_shared_memory_stay_within_budget(reports: list[dict[str, int | str]], kernel: str) -> None:
    registers, shared = BUDGETS[kernel]
    for report in reports:
        if report["kernel"] == kernel:
            assert int(report["registers"]) <= registers, report
            assert int(report["shared"]) <= shared, report


def test_every_triton_kernel_of_the_project_has_a_budget() -> None:
    operators = {path.parent.name for path in KERNELS.glob("hoiclip_kernels/*/triton_impl.py")}
    assert operators == {name.split()[0] for name in BUDGETS}
