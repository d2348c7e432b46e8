"""A small model with random weights: everything runs, and its predictions mean nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hoiclip.core.cache_dirs import cache_folder
from hoiclip.core.model_file import load_model_file, save_model_file
from hoiclip.core.vocabulary import Vocabulary, load_vocabulary
from hoiclip.model.config import ModelConfig

CONFIG = ModelConfig(
    short_side_px=192,
    max_side_px=320,
    backbone_depths=(1, 1, 1, 1),
    backbone_widths=(16, 32, 64, 128),
    hidden=64,
    heads=4,
    feedforward=128,
    encoder_layers=1,
    instance_layers=1,
    queries=16,
    clip_image_px=64,
    clip_patch_px=16,
    clip_width=64,
    clip_layers=1,
    clip_heads=2,
    clip_embed=64,
    interaction_layers=2,
    interaction_heads=2,
    interaction_feedforward=128,
)
NOTICE = "this model is untrained: its weights are random and its pairs mean nothing"
FOLDER_VARIABLE = "HOICLIP_TEST_MODEL"
"""Folder made by untrained_folder() on another machine, for tests without torch."""
VERSION = 2
"""Raise it when CONFIG or the layout of the weights changes."""


def config_for(vocabulary: Vocabulary) -> ModelConfig:
    """CONFIG with the sizes of a vocabulary."""
    return replace(
        CONFIG,
        num_object_classes=vocabulary.num_object_classes,
        num_verbs=len(vocabulary.verbs),
        num_hois=len(vocabulary.hois),
    )


def random_state(config: ModelConfig, seed: int) -> dict[str, Any]:
    """Tensors of a model file, with random weights."""
    import torch

    from hoiclip.model import HOICLIP

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = {key: value.detach().clone() for key, value in HOICLIP(config).state_dict().items()}
    for name in ("hoi", "object", "verb"):
        state[f"{name}_rows"] = torch.nn.functional.normalize(state[f"heads.{name}_classifier.weight"], dim=-1)
    return state


def untrained_model(seed: int = 0) -> Path:
    """The file of a small HICO-shaped model with random weights, written once."""
    if folder_name := os.environ.get(FOLDER_VARIABLE):
        return Path(folder_name) / f"untrained-{seed}-v{VERSION}.safetensors"
    path = cache_folder("models-untrained") / f"untrained-{seed}-v{VERSION}.safetensors"
    if path.is_file():
        return path
    vocabulary, state = load_vocabulary("hico"), random_state(CONFIG, seed)
    for index, (verb, _) in enumerate(vocabulary.hois):
        state["heads.verb_to_hoi"][verb, index] = 1
    save_model_file(path, state, CONFIG, vocabulary, {"kind": "untrained", "seed": seed, "notice": NOTICE})
    return path


def untrained_folder() -> Path:
    """That model exported together with its file, for machines without torch; written once."""
    if folder_name := os.environ.get(FOLDER_VARIABLE):
        return Path(folder_name)
    folder = cache_folder("models-untrained") / f"folder-v{VERSION}"
    if not folder.is_dir():
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
        _export(temporary)
        try:
            os.replace(temporary, folder)  # another worker may have been first
        except OSError:
            shutil.rmtree(temporary)
    return folder


def _export(folder: Path) -> None:
    from hoiclip_engine.cli.export import export
    from hoiclip_engine.export.graph_spec import GraphSpec

    export(load_model_file(untrained_model()), folder, GraphSpec(), split=False, with_model=True)


def edited_model(path: Path, edit: Callable[[dict[str, str]], object], tensor_bytes: bytes = b"") -> Path:
    """A copy of the untrained model with other metadata.

    Args:
        edit: changes the metadata in place.
        tensor_bytes: if given, the pattern that every tensor is filled with.
    """
    raw = untrained_model().read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    head, tensors = json.loads(raw[8:start]), raw[start:]
    edit(head["__metadata__"])
    if tensor_bytes:
        tensors = tensor_bytes * (len(tensors) // len(tensor_bytes))
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    return path
