"""The exported graphs: two forms of one model, the same answers. What runs them is tested with the backends."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip_engine.export import ABSORB_FROM, OUTPUTS, exported_graph
from tests.engine.untrained import CONFIG, untrained_model

SMALL, LARGE = (128, 160), (480, 640)  # 20 and 300 cells


@pytest.fixture(scope="module")
def graphs() -> dict[tuple[int, int], onnxruntime.InferenceSession]:
    model = load_model_file(untrained_model())
    return {
        canvas: onnxruntime.InferenceSession(exported_graph(model, canvas), providers=["CPUExecutionProvider"])
        for canvas in (SMALL, LARGE)
    }


def test_the_canvas_decides_between_two_files() -> None:
    model = load_model_file(untrained_model())
    small, large = exported_graph(model, SMALL), exported_graph(model, LARGE)
    assert LARGE[0] * LARGE[1] // CONFIG.stride_px**2 == ABSORB_FROM
    assert small != large
    assert exported_graph(model, (128, 128)) == small


@pytest.mark.parametrize("canvas", [SMALL, (96, 320)])
def test_both_say_the_same_of_any_picture(
    graphs: dict[tuple[int, int], onnxruntime.InferenceSession], canvas: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    padding = np.zeros((1, *canvas), np.bool_)
    padding[:, :, -40:] = True
    clip_px = CONFIG.clip_image_px
    inputs = {
        "images": rng.normal(size=(1, 3, *canvas)).astype(np.float32) * ~padding[:, None],
        "padding": padding,
        "clip_images": rng.normal(size=(1, 3, clip_px, clip_px)).astype(np.float32),
    }
    projected, absorbed = (graphs[size].run(OUTPUTS, inputs) for size in (SMALL, LARGE))
    for name, ours, theirs in zip(OUTPUTS, absorbed, projected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4, err_msg=name)  # fp32, summed in another order
