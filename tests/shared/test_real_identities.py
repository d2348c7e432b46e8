"""The identity metrics on a real tracker's output, against what TrackEval and motmetrics said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hoiclip.evaluation.video import measure_identities, read_mot_frames

pytestmark = pytest.mark.thorough

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tracking.json").read_text())["TUD-Campus"]


def test_tud_campus_metrics_equal_the_published_ones(shared: Path) -> None:
    folder = shared / "data" / "mot" / "TUD-Campus"
    got = measure_identities([read_mot_frames(folder / "gt.txt", folder / "test.txt")]).summary
    assert {name: got[name] for name in GOLDEN} == pytest.approx(GOLDEN, abs=1e-6)
    assert [round(100 * got[name], 1) for name in ("HOTA", "AssA", "MOTA", "IDF1")] == [39.1, 36.9, 52.6, 55.8]
    assert (got["IDSW"], got["FP"], got["FN"]) == (7, 13, 150)
