"""A run that torchrun can start: torchrun --nproc-per-node 2 -m tests.hoiclip.two_processes FOLDER."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from hoiclip.training.loop import RunContext, Trainer
from hoiclip.training.recipe import AuxiliaryConfig
from tests.hoiclip.tiny_run import RECIPE, NoiseSamples, task

# Without batch norm and means over cells, which depend on the other images of a process, and without random dropout.
SHARED = replace(
    RECIPE,
    schedule=replace(RECIPE.schedule, steps=3, warmup_steps=1),
    optimizer=replace(RECIPE.optimizer, accumulate=1, dropout=0.0),
    auxiliary=AuxiliaryConfig(query_groups=2),
)


def run(folder: Path, batch_size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    here = RunContext.of_this_process(folder, workers=0)
    recipe = replace(SHARED, optimizer=replace(SHARED.optimizer, batch_size=batch_size))
    made = task(recipe)
    Trainer(recipe, made, NoiseSamples(), here).train()
    torch.save(made.kept.state_dict(), folder / f"rank{here.rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]))
