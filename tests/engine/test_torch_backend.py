"""The torch backend on a GPU gives what the module gives on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip_engine.backends.torch_backend import TorchBackend
from hoiclip_engine.preprocess import PreprocessConfig, preprocess
from tests.engine.untrained import untrained_model
from tests.golden.rule import PUBLIC_SALT, golden_photo


def difference() -> float:
    """Largest difference of a logit between the backend and the module on the CPU."""
    model = load_model_file(untrained_model())
    photo = golden_photo("backend", 90, 130, PUBLIC_SALT)
    picture = preprocess(photo, PreprocessConfig(short_side_px=96, clip_side_px=64, canvas_hw=(96, 160)))
    ours = TorchBackend(model, (96, 160))(picture)
    arrays = (picture.detector_bchw, picture.mask_bhw, picture.clip_bchw)
    with torch.inference_mode():
        reference = model.build()(*map(torch.from_numpy, arrays))
    return float(np.abs(ours.hoi_logits - reference.hoi_logits.numpy()).max())


@pytest.mark.gpu
def test_on_a_gpu_the_logits_are_those_of_the_cpu() -> None:
    assert difference() < 2e-4  # fp32 on another summation order


def test_the_backend_adds_nothing_to_the_module() -> None:
    if torch.cuda.is_available():
        pytest.skip("the backend runs on the GPU here")
    assert difference() == 0
