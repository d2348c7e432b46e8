"""Records the metrics of TrackEval for synthetic scenarios and for real files in tracking.json.

TrackEval pulls another OpenCV than ours, so it is not among the packages of development. In an environment of its own:

    pip install trackeval==1.3.0
    python -m tests.golden.make_tracking GT.txt RESULTS.txt      (TUD-Campus of the shared folder)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.hoiclip.tracking_scenarios import SCENARIOS, Frame, scenario

HERE = Path(__file__).parent


def main(ground_truth: Path, results: Path) -> None:
    recorded: dict[str, Any] = {name: _numbers(*scenario(name)) for name in SCENARIOS}
    recorded["TUD-Campus"] = _numbers(_read(ground_truth), _read(results))
    (HERE / "tracking.json").write_text(json.dumps(recorded, indent=1) + "\n")


def _numbers(ground_truth: list[Frame], found: list[Frame]) -> dict[str, float]:
    from trackeval.metrics import CLEAR, HOTA, Identity

    data = _data(ground_truth, found)
    alone = HOTA().eval_sequence(data)
    means = {name: float(np.mean(alone[name])) for name in ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr")}
    means["LocA"] = float(np.mean(alone["LocA"]))
    mot, identity = (metric({"PRINT_CONFIG": False}).eval_sequence(data) for metric in (CLEAR, Identity))
    counts = {"IDSW": "IDSW", "FP": "CLR_FP", "FN": "CLR_FN", "MT": "MT", "PT": "PT", "ML": "ML", "Frag": "Frag"}
    return {
        **means,
        **{name: float(identity[name]) for name in ("IDF1", "IDP", "IDR")},
        **{name: float(mot[name]) for name in ("MOTA", "MOTP")},
        **{name: int(mot[theirs]) for name, theirs in counts.items()},
    }


def _data(ground_truth: list[Frame], found: list[Frame]) -> dict[str, Any]:
    """As TrackEval's dataset classes hand it over: identities from 0 on."""
    from trackeval.datasets._base_dataset import _BaseDataset

    rows = []
    for frames in (ground_truth, found):
        known = np.unique(np.concatenate([ids for ids, _ in frames] or [np.zeros(0, int)]))
        rows.append((len(known), [np.searchsorted(known, ids) for ids, _ in frames]))
    (num_true, true_ids), (num_found, found_ids) = rows
    overlaps = [
        _BaseDataset._calculate_box_ious(true, seen, box_format="x0y0x1y1")
        for (_, true), (_, seen) in zip(ground_truth, found, strict=True)
    ]
    return {
        "num_timesteps": len(ground_truth),
        "num_gt_ids": num_true,
        "num_tracker_ids": num_found,
        "num_gt_dets": sum(map(len, true_ids)),
        "num_tracker_dets": sum(map(len, found_ids)),
        "gt_ids": true_ids,
        "tracker_ids": found_ids,
        "similarity_scores": overlaps,
    }


def _read(path: Path) -> list[Frame]:
    rows = np.loadtxt(path, delimiter=",")
    boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    return [(rows[rows[:, 0] == at, 1].astype(int), boxes[rows[:, 0] == at]) for at in range(1, int(rows[-1, 0]) + 1)]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
