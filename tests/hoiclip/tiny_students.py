"""A teacher and students small enough for tests, and frames with outputs of a teacher that is sure of what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hoiclip.core.array_types import F32, RGB
from hoiclip.core.model_file import ModelFile, load_model_file, save_model_file
from hoiclip.core.raw_output import RawOutput
from hoiclip.model import HOICLIP
from hoiclip.training.teacher import TaughtFrame, write_frame
from tests.hoiclip.small_datasets import FRUIT
from tests.hoiclip.test_training_model import SMALL

TEACHER = replace(SMALL, num_object_classes=3, num_verbs=2, num_hois=4, short_side_px=48, max_side_px=64, queries=6)
TINY: dict[str, Any] = {
    "short_side_px": 48, "max_side_px": 64,
    "backbone_depths": (1, 1, 1, 1), "backbone_widths": (16, 16, 16, 16), "backbone_stem": "light",
    "hidden": 16, "heads": 2, "feedforward": 16, "fine_memory": False,
    "encoder_layers": 1, "instance_layers": 2, "queries": 4,
    "clip_image_px": 48, "clip_patch_px": 16, "clip_stem": (4, 8),
    "clip_width": 24, "clip_layers": 1, "clip_heads": 2,
    "interaction_layers": 2, "interaction_heads": 2, "interaction_feedforward": 16,
}  # fmt: skip


def tiny_teacher(path: Path, seed: int = 0) -> ModelFile:
    """A model file of random weights, whose vocabulary is FRUIT."""
    torch.manual_seed(seed)
    state = {key: value.detach().clone() for key, value in HOICLIP(TEACHER).state_dict().items()}
    for name in ("hoi", "object", "verb"):
        state[f"{name}_rows"] = F.normalize(torch.randn_like(state[f"{name}_rows"]), dim=-1)
    for index, (verb, _) in enumerate(FRUIT.hois):
        state["heads.verb_to_hoi"][verb, index] = 1
    save_model_file(path, state, TEACHER, FRUIT, {"kind": "untrained", "notice": "random weights"})
    return load_model_file(path)


def noise(seed: int, height_px: int = 48, width_px: int = 64) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def sure_frame(seed: int) -> TaughtFrame:
    """Query 0 sees a person who eats an apple, query 1 nearly the same; query 2 a thrown person; the others nothing."""
    rng = np.random.default_rng(seed)
    hoi_logits, object_logits = np.full((6, 4), -4, np.float32), np.full((6, 4), -3, np.float32)
    object_logits[3:, 3] = 5
    hoi_logits[[0, 1, 2], [0, 0, 3]] = 3, 2, 1
    object_logits[[0, 1, 2], [0, 0, 1]] = 5
    boxes = rng.uniform(0.3, 0.7, (2, 6, 4)).astype(np.float32)
    boxes[..., 2:] = 0.3
    boxes[:, 1] = boxes[:, 0] + 0.01
    visual: F32 = rng.normal(size=(5, TEACHER.clip_embed)).astype(np.float32)
    raw = RawOutput(
        hoi_logits=hoi_logits[None],
        object_logits=object_logits[None],
        human_boxes_cxcywh=boxes[:1],
        object_boxes_cxcywh=boxes[1:],
        clip_cls=visual[:1],
    )
    return TaughtFrame(rgb=noise(seed), raw=raw, clip_visual=visual)


def write_sure_frames(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.npz" for number in range(count)]
    for number, path in enumerate(paths):
        write_frame(path, sure_frame(number))
    return paths
