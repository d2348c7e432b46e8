"""Models of golden weights, made the way a user makes one: official checkpoint, import, model file."""

from __future__ import annotations

import argparse
import json
from functools import cache
from importlib import resources
from pathlib import Path

import torch

from hoiclip.checkpoint.model_file import ModelFile, load_model_file, save_model_file
from hoiclip.checkpoint.official import import_checkpoint
from hoiclip.model import HOICLIP
from tests.golden.rule import golden_state

ZERO_SHOT = "hico_zeroshot_rare_first"


class GoldenModels:
    """Made once per layout and salt, in a folder that goes away with the test run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = cache(self._file)
        self.module = cache(self._module)

    def checkpoint(self, layout: str, salt: str) -> Path:
        """An official-looking .pth of about 870 MB; the caller deletes it."""
        path = self._folder / f"{layout}.pth"
        state = {key: torch.from_numpy(value) for key, value in golden_state(layout, salt, _unseen(layout)).items()}
        arguments = argparse.Namespace(num_queries=64, verb_weight=0.1 if layout == "vcoco" else 0.5, lr=1e-4)
        torch.save({"model": state, "optimizer": {}, "epoch": 89, "args": arguments}, path)
        return path

    def _file(self, layout: str, salt: str) -> ModelFile:
        checkpoint = self.checkpoint(layout, salt)
        imported = import_checkpoint(checkpoint)
        checkpoint.unlink()
        path = checkpoint.with_suffix(".safetensors")
        save_model_file(path, imported.state, imported.config, imported.vocabulary, {"kind": "golden", "salt": salt})
        return load_model_file(path)

    def _module(self, layout: str, salt: str) -> HOICLIP:
        return self.file(layout, salt).build()


def _unseen(layout: str) -> list[int] | None:
    """HOI classes a zero-shot training left out."""
    if layout != ZERO_SHOT:
        return None
    text = (resources.files("hoiclip") / "vocabularies/hico.json").read_text(encoding="utf-8")
    unseen: list[int] = json.loads(text)["unseen_hois"]["rare_first"]
    return unseen
