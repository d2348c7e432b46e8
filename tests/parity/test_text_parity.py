"""Tokens and text embeddings against the recorded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hoiclip.checkpoint.text_embeddings import encode, tokenize, tower_weights
from hoiclip.core.vocabulary import load_vocabulary
from tests.golden.rule import golden_tensor, official_keys
from tests.parity.golden import salt

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def tower(parity_dir: Path) -> dict[str, torch.Tensor]:
    state = {
        key: torch.from_numpy(golden_tensor(key, shape, salt(parity_dir)))
        for key, shape in official_keys("hico").items()
        if key.startswith("clip_model.") and not key.startswith("clip_model.visual.")
    }
    return tower_weights(state, "clip_model.")


@pytest.mark.parametrize("labels", ["hico", "vcoco"])
def test_tokens_and_text_embeddings_are_the_official_ones(
    labels: str, parity_dir: Path, tower: dict[str, torch.Tensor]
) -> None:
    expected = np.load(parity_dir / f"text_{labels}.npz")
    vocabulary = load_vocabulary(labels)
    for kind, prompts in (("hoi", vocabulary.hoi_prompts), ("obj", vocabulary.object_prompts)):
        np.testing.assert_array_equal(tokenize(prompts).numpy(), expected[f"{kind}_tokens"])
        rows = encode(prompts, tower)
        # fp32 through 12 layers on another summation order
        np.testing.assert_allclose(rows.numpy(), expected[f"{kind}_text_embed"], atol=1e-4, rtol=0)
        if kind == "hoi":
            unit = torch.nn.functional.normalize(rows, dim=-1)
            np.testing.assert_allclose(unit.numpy(), expected["hoi_cls"], atol=1e-4, rtol=0)
