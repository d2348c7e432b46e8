"""Batches and concurrent requests give the same numbers as single images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest

from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess, stack
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import BackendName, Capacity
from hoiclip_engine.backends.registry import load_backend
from tests.engine.untrained import untrained_model

pytestmark = pytest.mark.thorough

PADDED_HW = 128, 160
BACKENDS: tuple[BackendName, ...] = ("torch", "openvino", "onnxruntime")


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model_file(untrained_model())


@pytest.fixture(scope="module")
def inputs(model: ModelFile) -> list[ModelInput]:
    rng = np.random.default_rng(0)
    sizes = ((120, 150), (128, 160), (90, 160), (128, 100))
    config = PreprocessConfig(short_side_px=96, max_side_px=160, clip_side_px=64, padded_hw=PADDED_HW)
    return [preprocess(rng.integers(0, 256, (*size, 3), np.uint8), config) for size in sizes]


def assert_same(found: RawOutput, expected: RawOutput) -> None:
    for field in fields(RawOutput):
        # Another batch is summed in another order by the same kernels; logits here are of the order of 10.
        np.testing.assert_allclose(getattr(found, field.name), getattr(expected, field.name), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_batch_equals_its_images_inferred_alone(name: BackendName, model: ModelFile, inputs: list[ModelInput]) -> None:
    one = load_backend(name, model, PADDED_HW)
    several = load_backend(name, model, PADDED_HW, capacity=Capacity(batch=4))
    assert (one.capacity.batch, several.capacity.batch) == (1, 4)
    raw = several(stack(inputs))
    for row, model_input in enumerate(inputs):
        assert_same(raw.image(row), one(model_input))
    one.close()
    several.close()


@pytest.mark.parametrize("capacity", [Capacity(), Capacity(batch=2), Capacity(keeps_clip=True)])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_images_that_fill_the_padded_size_equal_eager_torch(
    name: BackendName, capacity: Capacity, model: ModelFile
) -> None:
    if (name, capacity.keeps_clip) == ("onnxruntime", True):
        pytest.skip("keeps no CLIP")
    engine = load_backend(name, model, PADDED_HW, capacity=capacity)
    eager = load_backend("torch", model, PADDED_HW, capacity=Capacity(batch=capacity.batch))
    rng = np.random.default_rng(1)
    config = PreprocessConfig(short_side_px=128, max_side_px=160, clip_side_px=64, padded_hw=PADDED_HW)
    filling, other, padded = (
        preprocess(rng.integers(0, 256, (*size, 3), np.uint8), config) for size in ((256, 320), (128, 160), (100, 160))
    )
    assert (filling.mask_bhw.any(), padded.mask_bhw.any()) == (False, True)
    calls = [[filling], [padded], [other]] if capacity.batch == 1 else [[filling, other], [filling, padded]]
    for images in calls:
        assert_same(engine(stack(images)), eager(stack(images)))
    engine.close()
    eager.close()


@pytest.mark.parametrize("name", BACKENDS)
def test_concurrent_requests_keep_their_outputs_apart(
    name: BackendName, model: ModelFile, inputs: list[ModelInput]
) -> None:
    backend = load_backend(name, model, PADDED_HW, capacity=Capacity(num_requests=2))
    assert backend.capacity.num_requests == (1 if name == "torch" else 2)  # torch's threads belong to the whole process
    expected = [backend(model_input) for model_input in inputs]
    with ThreadPoolExecutor(backend.capacity.num_requests) as pool:
        found = list(pool.map(backend, inputs * 8))
    for row, raw in enumerate(found):
        assert_same(raw, expected[row % len(inputs)])
    backend.close()
