"""The identity metrics on a real tracker's output, against what TrackEval and motmetrics said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hoiclip.evaluation.video import measure_identities, mot_moments

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tracking.json").read_text())["TUD-Campus"]


def test_tud_campus_is_measured_as_elsewhere(shared: Path) -> None:
    folder = shared / "data" / "mot" / "TUD-Campus"
    got = measure_identities([mot_moments(folder / "gt.txt", folder / "test.txt")]).summary
    assert {name: got[name] for name in GOLDEN} == pytest.approx(GOLDEN, abs=1e-6)
    assert [round(100 * got[name], 1) for name in ("HOTA", "AssA", "MOTA", "IDF1")] == [39.1, 36.9, 52.6, 55.8]
    assert (got["IDSW"], got["FP"], got["FN"]) == (7, 13, 150)
