"""Models of golden weights, made the way a user makes one: official checkpoint, import, model file."""

from __future__ import annotations

import argparse
import json
import tempfile
import zlib
from functools import cache
from importlib import resources
from pathlib import Path

import torch

from hoiclip.checkpoint.official import Imported, import_checkpoint
from hoiclip.core.model_file import ModelFile, load_model_file, save_model_file
from hoiclip.model import HOICLIP
from tests.golden.rule import golden_state

ZERO_SHOT = "hico_zeroshot_rare_first"


class GoldenModels:
    """Made once per layout and salt, in a folder that goes away with the test run; its workers may share one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = cache(self._file)
        self.module = cache(self._module)

    def _imported(self, layout: str, salt: str) -> Imported:
        """By way of an official-looking .pth of about 870 MB."""
        state = {key: torch.from_numpy(value) for key, value in golden_state(layout, salt, _unseen(layout)).items()}
        arguments = argparse.Namespace(num_queries=64, verb_weight=0.1 if layout == "vcoco" else 0.5, lr=1e-4)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / f"{layout}.pth"
            torch.save({"model": state, "optimizer": {}, "epoch": 89, "args": arguments}, path)
            del state
            return import_checkpoint(path)

    def _file(self, layout: str, salt: str) -> ModelFile:
        path = self._folder / f"{layout}-{zlib.crc32(salt.encode()):08x}.safetensors"
        if not path.is_file():
            made, provenance = self._imported(layout, salt), {"kind": "golden", "salt": salt}
            save_model_file(path, made.state, made.config, made.vocabulary, provenance)
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
