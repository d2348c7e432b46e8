"""Effect of CLIP knowledge on rare and unseen interactions: arms that differ in nothing else, on synthetic scenes.

    python -m benchmarks.clip_knowledge run --arm full --seed 0
    python -m benchmarks.clip_knowledge table

`run` trains one arm, evaluates it on the fixed synthetic test set and appends a line to results/clip_knowledge.jsonl;
killed, it resumes when called again. `table` prints mean and spread over seeds. All start from the bundled model's
CLIP, unless runs/clip holds another, and from runs/detector_rf_uc: hoiclip train drawn_detector_rf_uc.toml.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import RESULTS, append, provenance
from hoiclip.core.model_file import load_model_file
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.evaluation.image_loop import evaluate_module
from hoiclip.synthetic.fixed_sets import synthetic_set
from hoiclip.training.initial_weights import save_clip
from hoiclip.training.recipe import read_recipe
from hoiclip_engine.cli.console import results, table
from hoiclip_engine.evaluation.training import train_model
from hoiclip_engine.models import find_model

NAME = "clip_knowledge"
RECIPE = Path(__file__).with_suffix(".toml")
CLIP = Path("runs/clip/clip.safetensors")
ARMS: dict[str, dict[str, Any]] = {
    "full": {},
    "without_clip": {
        "model.clip_memory": False,
        "init.clip": "",
        "init.freeze_clip": False,
        "init.text_embeddings": False,
        "init.verb_embeddings": False,
    },
    "without_verb_branch": {"model.verb_weight": 0.0},
    "full_clip_blind_to_unseen": {"init.clip": "runs/clip_rf_uc/clip.safetensors"},
}
"""Changes of each arm to the recipe. without_clip: no CLIP memory, classifiers start as random unit vectors. The CLIP
of the last one was trained without the unseen combinations, that of the others with them, as a real CLIP is."""
COLUMNS = ("full", "unseen", "seen", "rare", "non-rare")


def run(arm: str, seed: int, split: str, fraction: int, steps: int, folder: Path) -> None:
    """Trains and evaluates one arm."""
    bundled_clip(CLIP)
    settings = {"seed": seed, "data.split": split, "data.fraction": fraction, "schedule.steps": steps}
    out = folder / f"{arm}-{split}-{fraction}-{steps}-{seed}"
    model_file = train_model(read_recipe(RECIPE, **settings, **ARMS[arm]), out, workers=1)
    append(
        NAME,
        {
            "benchmark": NAME, "arm": arm, "seed": seed, "split": split, "fraction": fraction, "steps": steps,
            "pictures": steps * 16, "set": "drawn test", "metric": "hico", "mAP": _test_map(model_file, split),
            "curve": _curve(out, split), "threads": torch.get_num_threads(), **provenance("torch"),
        },
    )  # fmt: skip


def bundled_clip(path: Path, vocabulary: Vocabulary | None = None) -> Path:
    """Writes the bundled model's CLIP as training begins with it, unless the file exists.

    Args:
        vocabulary: whose text embeddings go with it; the model's own by default.
    """
    if path.is_file():
        return path
    model = load_model_file(find_model("drawn"))
    rows = model.text_embeddings()
    tower = {
        name.removeprefix("clip."): torch.from_numpy(np.asarray(value, np.float32))
        for name, value in model.tensors().items()
        if name.startswith("clip.")
    }
    embeddings = {
        name: torch.from_numpy(np.stack([rows[prompt] for prompt in prompts]))
        for name, prompts in (vocabulary or model.vocabulary).prompts_by_tensor.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_clip(path, tower, embeddings, {"from": model.name, "sha256": model.sha256()})
    return path


def _test_map(path: Path, split: str) -> dict[str, float]:
    """Percent by column of the table, on the whole test set."""
    model = load_model_file(path)
    numbers = evaluate_module(model.build(), model.vocabulary, synthetic_set("test"))
    sides = {"unseen": split, "seen": split, "rare": "default", "non-rare": "default"}
    fractions = {side: numbers.get(f"{name}/mAP {side}") for side, name in sides.items()}
    return {
        "full": numbers["mAP"],
        **{side: round(100 * value, 2) for side, value in fractions.items() if value is not None},
    }


def _curve(out: Path, split: str) -> list[dict[str, float]]:
    """Validation mAP during training, in percent; of 200 images except at the end."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {"step": line["step"], **{k: round(100 * v, 1) for k, v in line.items() if k.startswith(f"{split}/mAP")}}
        for line in lines
        if line["kind"] == "evaluation"
    ]


def show() -> None:
    """Prints mean and sample deviation over seeds, a row per arm and setting."""
    by_setting: dict[tuple[Any, ...], list[dict[str, float]]] = defaultdict(list)
    for text in (RESULTS / f"{NAME}.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        key = (line["split"], line["fraction"], line["steps"], line["arm"])
        by_setting[key].append(line["mAP"])
    rows = []
    for key, seeds in sorted(by_setting.items()):
        cells = [spread([value[column] for value in seeds if column in value]) for column in COLUMNS]
        rows.append((*map(str, key), str(len(seeds)), *cells))
    results.print(
        table("mAP on the synthetic test set, %", ("split", "data %", "steps", "arm", "seeds", *COLUMNS), rows)
    )


def spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare HOICLIP with and without CLIP knowledge on synthetic scenes.")
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="train and evaluate one arm")
    run_parser.add_argument("--arm", choices=ARMS, required=True)
    run_parser.add_argument("--seed", type=int, default=0)
    run_parser.add_argument("--split", default="rf_uc")
    run_parser.add_argument("--fraction", type=int, default=100)
    run_parser.add_argument("--steps", type=int, default=1000)
    run_parser.add_argument("--out", type=Path, default=Path("runs/clip_knowledge"))
    commands.add_parser("table", help="print mean and spread over seeds")
    arguments = parser.parse_args()
    if arguments.command == "table":
        show()
    else:
        run(arguments.arm, arguments.seed, arguments.split, arguments.fraction, arguments.steps, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
