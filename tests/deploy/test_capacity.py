"""docs/capacity.md computes its tables from the result lines by its own formulas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "7e4b5f3347f7"
FPS, DETECTIONS_PER_S, BUSY, CORES = 25, 5, 0.7, 2


def rows(heading: str) -> dict[str, list[float]]:
    """Numbers of the first table below a heading, by the word in its first column."""
    text = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    return {first.strip(): [float(re.sub(r"[^\d.]", "", cell)) for cell in cells] for first, *cells in lines}


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    lines = (ROOT / "benchmarks" / "results" / "pipeline.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["precision"]: line for line in map(json.loads, lines) if line["commit"] == COMMIT}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_tables_are_what_the_formulas_give(measured: dict[str, Any], precision: str) -> None:
    line = measured[precision]
    c, d = line["cpu_ms_per_frame"], line["stage_ms"]["decode"]["mean"]
    assert rows("Measured")[precision] == [line["frames_per_s"], c, d]
    every, some = FPS * c / 1000, (FPS * d + DETECTIONS_PER_S * (c - d)) / 1000
    follows = rows("Consequences")[precision]
    assert follows == [round(every, 2), round(some, 2), round(BUSY * CORES / some, 1), round(1000 * some / BUSY)]
