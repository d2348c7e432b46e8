"""Golden weights come from a rule: if numpy's stream or our implementation changes, this test says so first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden.rule import golden_tensor, official_keys, verb_to_hoi
from tests.parity.golden import salt


@pytest.mark.parametrize("labels", ["hico", "vcoco"])
def test_generated_tensors_agree_with_their_probes(labels: str, parity_dir: Path) -> None:
    probes = json.loads((parity_dir / f"weights_probe_{labels}.json").read_text())
    keys = official_keys(labels)
    assert set(probes) == set(keys)
    for key, (total, *first) in probes.items():
        if np.prod(keys[key], dtype=int) > 1_000_000 and not key.startswith(("backbone", "clip_model.visual.t")):
            continue  # the big ones follow the same branches of the rule
        value = verb_to_hoi(labels) if key.startswith("verb2hoi") else golden_tensor(key, keys[key], salt(parity_dir))
        np.testing.assert_allclose(value.ravel()[: len(first)], first, rtol=1e-6, err_msg=key)
        np.testing.assert_allclose(value.astype(np.float64).sum(), total, rtol=1e-5, atol=1e-4, err_msg=key)
