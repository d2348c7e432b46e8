"""Words that training never showed: python -m benchmarks.open_vocabulary run --split uv --seed 0, and table.

Three ways to a model of all interactions, of which a split hides some:

- rows: a model that knows the seen words only gets the others by `--vocabulary`, without training;
- adapted: the same, after a low-rank change of its text embeddings was learned on seen HOIs (auxiliary.text_rank);
- trained: as many images that show all of them.

`run` trains what is missing in its folder (killed, it resumes), evaluates all three on the fixed synthetic test set,
and appends a line each to results/open_vocabulary.jsonl. Settings, initial CLIP and detector are those of
benchmarks/clip_knowledge.py.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clip_knowledge import CLIP, RECIPE, bundled_clip, spread
from benchmarks.harness import RESULTS, append, provenance
from hoiclip.checkpoint.open_vocabulary import swap_vocabulary
from hoiclip.core.array_types import F32
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.vocabulary import vocabulary_from_words
from hoiclip.evaluation.image_loop import evaluate_module
from hoiclip.evaluation.splits import bundled_splits
from hoiclip.synthetic.fixed_sets import synthetic_set
from hoiclip.training.recipe import read_recipe
from hoiclip_engine.cli.console import results, table
from hoiclip_engine.evaluation.training import train_model

NAME = "open_vocabulary"
SPLITS = ("rf_uc", "uv")
RANK = 8
ONLY_THE_ADAPTER = {"": 0.0, "heads.hoi_classifier.": 1.0}
"""optimizer.rates"""


def run(split: str, seed: int, steps: int, folder: Path) -> None:
    """Trains and evaluates the three ways of one split and seed."""
    bundled_clip(CLIP)
    usual = {"seed": seed, "schedule.steps": steps}
    seen = load_model_file(_trained(folder / f"{split}-{steps}-{seed}", **usual, **{"data.split": split}))
    adapted = load_model_file(
        _trained(
            folder / f"{split}-{steps}-{seed}-adapted",
            **{
                "seed": seed + 1000,
                "schedule.steps": steps // 4,
                "schedule.warmup_steps": 20,
                "data.split": split,
                "init.model": str(seen.path),
                "optimizer.rates": ONLY_THE_ADAPTER,
                "auxiliary.text_rank": RANK,
            },
        )
    )
    everything = load_model_file(_trained(folder / f"default-{steps}-{seed}", **usual, **{"data.split": "default"}))
    ways = {"rows": with_hidden_words(seen, split), "adapted": with_hidden_words(adapted, split), "trained": everything}
    for way, model in ways.items():
        numbers = evaluate_module(model.build(), model.vocabulary, synthetic_set("test"))
        sides = {side: round(100 * numbers[f"{split}/mAP {side}"], 2) for side in ("unseen", "seen")}
        append(
            NAME,
            {
                "benchmark": NAME, "way": way, "split": split, "seed": seed, "steps": steps, "images": steps * 16,
                "set": "synthetic test", "metric": "hico", "mAP": {"all": numbers["mAP"], **sides},
                "threads": torch.get_num_threads(), **provenance("torch"),
            },
        )  # fmt: skip


def _trained(out: Path, **settings: Any) -> Path:
    return train_model(read_recipe(RECIPE, **settings), out, workers=0)


def with_hidden_words(model: ModelFile, split: str) -> ModelFile:
    """The model as if it had known the words of seen HOIs only, and had been given the others afterwards.

    Unseen HOIs get the text embeddings of their prompts, changed as those of seen ones where the model is adapted.
    """
    own = model.vocabulary
    seen = sorted(set(range(len(own.hois))) - bundled_splits(own)[split].inside)
    words = vocabulary_from_words("seen", [" ".join(own.named_hois[index]) for index in seen])
    rows = model.text_embeddings() | dict(
        zip(own.hoi_prompts, model.tensor("heads.hoi_classifier.weight"), strict=True)
    )

    def embed(prompts: Any) -> F32:
        return np.stack([rows[prompt] for prompt in prompts])

    for step, vocabulary in (("seen", words), ("all", own)):
        swapped = swap_vocabulary(model, vocabulary, embed, only=True)
        path = model.path.with_name(f"{step}-{split}.safetensors")
        swapped.save(path)
        model = load_model_file(path)
    return model


def show() -> None:
    """Prints mean and sample deviation over seeds."""
    seeds: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for text in (RESULTS / f"{NAME}.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        seeds[line["split"], line["way"]].append(line["mAP"])
    rows = []
    for (split, way), found in sorted(seeds.items()):
        columns = [[one[side] for one in found] for side in ("unseen", "seen", "all")]
        rows.append((split, way, str(len(found)), *map(spread, columns)))
    results.print(table("mAP on the synthetic test set, %", ("split", "way", "seeds", "unseen", "seen", "all"), rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to words that training never showed.")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="train and evaluate one split and seed")
    runs.add_argument("--split", choices=SPLITS, required=True)
    runs.add_argument("--seed", type=int, default=0)
    runs.add_argument("--steps", type=int, default=1000)
    runs.add_argument("--out", type=Path, default=Path("runs/open_vocabulary"))
    commands.add_parser("table", help="print mean and spread over seeds")
    arguments = parser.parse_args()
    if arguments.command == "table":
        show()
    else:
        run(arguments.split, arguments.seed, arguments.steps, arguments.out)


if __name__ == "__main__":
    main()
