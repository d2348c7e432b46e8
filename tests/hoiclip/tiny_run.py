"""A training run small enough for tests: python -m tests.hoiclip.tiny_run FOLDER SECONDS_PER_SAMPLE THREADS."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from hoiclip.data.samples import Sample
from hoiclip.data.targets import Targets
from hoiclip.model import HOICLIP
from hoiclip.training.loop import RunContext, Trainer
from hoiclip.training.optimization import Schedule, freeze, unfreeze_batch_norm
from hoiclip.training.recipe import AuxiliaryConfig, OptimizerConfig, Recipe
from hoiclip.training.tasks import HoiTask
from tests.hoiclip.test_training_model import SMALL

STEPS = 12
RECIPE = Recipe(
    name="tiny",
    model=SMALL,
    schedule=Schedule(kind="cosine", steps=STEPS, warmup_steps=2),
    optimizer=OptimizerConfig(lr=1e-3, backbone_lr=1e-3, clip_norm=1.0, batch_size=2, accumulate=2, ema=0.9),
    auxiliary=AuxiliaryConfig(query_groups=2, dense_heads=True, batch_norm=True),
    save_every=4,
)


@dataclass
class NoiseSamples:
    """Random images with one pair each; the pair's position depends on the image."""

    slow_s: float = 0.0
    poisoned_at: int = -1

    def __getitem__(self, number: int) -> Sample:
        time.sleep(self.slow_s)
        generator = torch.Generator().manual_seed(number)
        image = torch.randn(3, 48, 64, generator=generator)
        if number == self.poisoned_at:
            image[:] = torch.nan
        x, y = torch.rand(2, generator=generator).mul(0.5).add(0.25).tolist()
        targets = Targets(
            object_labels=torch.tensor([number % 3]),
            hoi_labels=torch.eye(5)[number % 5][None],
            human_boxes_cxcywh=torch.tensor([[x, y, 0.4, 0.4]]),
            object_boxes_cxcywh=torch.tensor([[y, x, 0.2, 0.2]]),
        )
        return Sample(detector_chw=image, clip_chw=torch.randn(3, 32, 32, generator=generator), targets=targets)


def task(recipe: Recipe = RECIPE) -> HoiTask:
    torch.manual_seed(3)
    model = HOICLIP(SMALL)
    freeze(model, clip=True, backbone_start=False)
    if recipe.auxiliary.batch_norm:
        unfreeze_batch_norm(model.backbone)
    return HoiTask(model, recipe)


def context_of(folder: Path) -> RunContext:
    return RunContext(folder=folder, device=torch.device("cpu"), workers=0)


def run(folder: Path, samples: NoiseSamples | None = None) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(RECIPE, task(), samples or NoiseSamples(), context_of(folder)).train()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))  # sums depend on the number of threads
    run(Path(sys.argv[1]), NoiseSamples(slow_s=float(sys.argv[2])))
