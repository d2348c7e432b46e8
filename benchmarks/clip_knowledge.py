"""Does CLIP knowledge help rare and unseen interactions? Arms that differ in nothing else, on drawn scenes.

    python -m benchmarks.clip_knowledge run --arm full --seed 0
    python -m benchmarks.clip_knowledge table

`run` trains one arm, evaluates it on the fixed drawn test set and appends a line to results/clip_knowledge.jsonl;
killed, it goes on when called again. `table` prints mean and spread over seeds. All start from runs/clip and
runs/detector_rf_uc, which `hoiclip train` makes of the recipes drawn_clip.toml and drawn_detector_rf_uc.toml.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import RESULTS, append, provenance
from hoiclip.checkpoint.model_file import load_model_file
from hoiclip.training.recipe import read_recipe
from hoiclip_engine.commands.console import results, table
from hoiclip_engine.measured_set import drawn_set, measure
from hoiclip_engine.train import train_model

NAME = "clip_knowledge"
RECIPE = Path(__file__).with_suffix(".toml")
ARMS: dict[str, dict[str, Any]] = {
    "full": {},
    "without_clip": {
        "model.clip_memory": False,
        "start.clip": "",
        "start.freeze_clip": False,
        "start.text_rows": False,
        "start.verb_rows": False,
    },
    "without_verb_branch": {"model.verb_weight": 0.0},
    "full_clip_blind_to_unseen": {"start.clip": "runs/clip_rf_uc/clip.safetensors"},
}
"""What each changes of the recipe. without_clip: no CLIP memory, classifiers that learn from random rows. The CLIP of
the last one has never met the unseen combinations; that of the others has, in pictures with captions, as real CLIP."""
COLUMNS = ("full", "unseen", "seen", "rare", "non-rare")


def run(arm: str, seed: int, split: str, fraction: int, steps: int, folder: Path) -> None:
    """One arm, trained and measured."""
    settings = {"seed": seed, "data.split": split, "data.fraction": fraction, "schedule.steps": steps}
    out = folder / f"{arm}-{split}-{fraction}-{steps}-{seed}"
    made = train_model(read_recipe(RECIPE, **settings, **ARMS[arm]), out, workers=1)
    append(
        NAME,
        {
            "benchmark": NAME, "arm": arm, "seed": seed, "split": split, "fraction": fraction, "steps": steps,
            "pictures": steps * 16, "set": "drawn test", "metric": "hico", "mAP": _measured(made, split),
            "curve": _curve(out, split), "threads": torch.get_num_threads(), **provenance("torch"),
        },
    )  # fmt: skip


def _measured(path: Path, split: str) -> dict[str, float]:
    """Percent by column of the table, on the whole test set."""
    model = load_model_file(path)
    numbers = measure(model.build(), model.vocabulary, drawn_set("test"))
    sides = {"unseen": split, "seen": split, "rare": "default", "non-rare": "default"}
    parts = {side: numbers.get(f"{name}/mAP {side}") for side, name in sides.items()}
    return {"full": numbers["mAP"], **{side: round(100 * one, 2) for side, one in parts.items() if one is not None}}


def _curve(out: Path, split: str) -> list[dict[str, float]]:
    """Validation mAP on the way, in percent; of 200 pictures except at the end."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {"step": line["step"], **{k: round(100 * v, 1) for k, v in line.items() if k.startswith(f"{split}/mAP")}}
        for line in lines
        if line["kind"] == "evaluation"
    ]


def show() -> None:
    """Mean and sample deviation over seeds, a row per arm and setting."""
    by_setting: dict[tuple[Any, ...], list[dict[str, float]]] = defaultdict(list)
    for text in (RESULTS / f"{NAME}.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        key = (line["split"], line["fraction"], line["steps"], line["arm"])
        by_setting[key].append(line["mAP"])
    rows = []
    for key, several in sorted(by_setting.items()):
        cells = [_spread([one[column] for one in several if column in one]) for column in COLUMNS]
        rows.append((*map(str, key), str(len(several)), *cells))
    results.print(table("mAP on the drawn test set, %", ("split", "data %", "steps", "arm", "seeds", *COLUMNS), rows))


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare HOICLIP with and without CLIP knowledge on drawn scenes.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="train and measure one arm")
    one.add_argument("--arm", choices=ARMS, required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--split", default="rf_uc")
    one.add_argument("--fraction", type=int, default=100)
    one.add_argument("--steps", type=int, default=1000)
    one.add_argument("--out", type=Path, default=Path("runs/clip_knowledge"))
    commands.add_parser("table", help="mean and spread of what was measured")
    asked = parser.parse_args()
    if asked.command == "table":
        show()
    else:
        run(asked.arm, asked.seed, asked.split, asked.fraction, asked.steps, asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
