"""Golden models: made once per test run, through the importer, as a user's checkpoint would be."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from hoiclip.checkpoint.official import import_checkpoint
from hoiclip.model import HOICLIP
from hoiclip.vocabulary import load_vocabulary
from tests.golden.rule import golden_state
from tests.parity.golden import salt


def unseen_of(zero_shot_type: str) -> list[int]:
    """HOI classes a zero-shot training leaves out."""
    from importlib import resources

    text = (resources.files("hoiclip") / "vocabularies/hico.json").read_text(encoding="utf-8")
    unseen: list[int] = json.loads(text)["unseen_hois"][zero_shot_type]
    return unseen


def write_checkpoint(path: Path, layout: str, salt: str) -> Path:
    """An official-looking .pth of golden weights."""
    unseen = unseen_of("rare_first") if "zeroshot" in layout else None
    state = {key: torch.from_numpy(value) for key, value in golden_state(layout, salt, unseen).items()}
    arguments = argparse.Namespace(num_queries=64, verb_weight=0.1 if layout == "vcoco" else 0.5, lr=1e-4)
    torch.save({"model": state, "optimizer": {}, "epoch": 89, "args": arguments}, path)
    return path


@pytest.fixture(scope="session")
def golden_model(parity_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], HOICLIP]:
    """layout → model with the weights of the fixture set's salt."""

    @cache
    def make(layout: str) -> HOICLIP:
        path = tmp_path_factory.mktemp("checkpoint") / f"{layout}.pth"
        imported = import_checkpoint(write_checkpoint(path, layout, salt(parity_dir)))
        path.unlink()  # 870 MB
        assert imported.vocabulary == load_vocabulary("vcoco" if layout == "vcoco" else "hico")
        with torch.device("meta"):
            model = HOICLIP(imported.config)
        model.load_state_dict(imported.state, assign=True)
        return model.requires_grad_(False).eval()

    return make
