"""Parity in a bare clone: a compact subset of the recordings, from text embeddings and pixels to the final triplets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hoiclip.checkpoint.text_embeddings import tokenize
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip_engine.backends.registry import load_backend
from tests.golden.make_subset import CLASS_STEP, ROW_STEP
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT, golden_image, golden_photo
from tests.parity.compare import assert_same_triplets

HERE = Path(__file__).parent
LOGITS, BOXES = 2e-4, 2e-5  # fp32 on another summation order than the recording's
PADDED_SIZES = ((320, 416), (384, 480))
"""No padding at all, and padding at both sides."""


def recorded(name: str) -> dict[str, Any]:
    with np.load(HERE / f"{name}.npz") as file:
        return dict(file)


def golden_input(padded_hw: tuple[int, int]) -> ModelInput:
    """The image of case hico_b1, padded."""
    h, w = recorded("model_hico_b1")["image_size"].tolist()
    detector = np.zeros((1, 3, *padded_hw), np.float32)
    mask = np.ones((1, *padded_hw), np.bool_)
    detector[0, :, :h, :w] = golden_image("hico_b1/img0", h, w, PUBLIC_SALT)
    mask[0, :h, :w] = False
    return ModelInput(
        detector_bchw=detector,
        mask_bhw=mask,
        clip_bchw=golden_image("hico_b1/clip0", 224, 224, PUBLIC_SALT)[None],
        image_hw=((h, w),),
        original_hw=(tuple(recorded("model_hico_b1")["original_size"].tolist()),),
    )


@pytest.mark.thorough
@pytest.mark.parametrize("padded_hw", PADDED_SIZES)
@pytest.mark.parametrize("backend", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow), "openvino"])
def test_padded_engines_equal_the_unpadded_official_model(
    backend: Any, padded_hw: tuple[int, int], golden_models: GoldenModels
) -> None:
    pytest.importorskip(backend)
    expected = recorded("model_hico_b1")
    model = golden_models.file("hico", PUBLIC_SALT)
    engine = load_backend(backend, model, padded_hw)
    model_input = golden_input(padded_hw)
    out = engine(model_input)
    engine.close()
    np.testing.assert_allclose(out.hoi_logits[0, :, ::CLASS_STEP], expected["hoi_logits"], atol=LOGITS, rtol=0)
    np.testing.assert_allclose(out.object_logits[0], expected["object_logits"], atol=LOGITS, rtol=0)
    np.testing.assert_allclose(out.human_boxes_cxcywh[0], expected["human_boxes"], atol=BOXES, rtol=0)
    np.testing.assert_allclose(out.object_boxes_cxcywh[0], expected["object_boxes"], atol=BOXES, rtol=0)
    np.testing.assert_allclose(out.clip_cls[0], expected["clip_cls"], atol=1e-3, rtol=0)
    pairs = Postprocessor(model.vocabulary, PostprocessConfig())(out, model_input.original_hw[0])
    columns = [expected[name] for name in ("sub", "obj", "cat", "score")]
    assert_same_triplets(pairs, *columns, num_queries=64, grouped=True, tolerance=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_padding_changes_no_logit_by_more_than_rounding(backend: Any, golden_models: GoldenModels) -> None:
    """Every class this time, against our own unpadded eager model, on a size off the 32 px grid."""
    pytest.importorskip(backend)
    h, w, padded_hw = 203, 310, (256, 352)
    images = golden_image("padding/img", h, w, PUBLIC_SALT)
    clip = golden_image("padding/clip", 224, 224, PUBLIC_SALT)[None]
    detector = np.zeros((1, 3, *padded_hw), np.float32)
    detector[0, :, :h, :w] = images
    mask = np.ones((1, *padded_hw), np.bool_)
    mask[0, :h, :w] = False
    padded = ModelInput(
        detector_bchw=detector, mask_bhw=mask, clip_bchw=clip, image_hw=((h, w),), original_hw=((h, w),)
    )
    engine = load_backend(backend, golden_models.file("hico", PUBLIC_SALT), padded_hw)
    ours = engine(padded)
    engine.close()
    with torch.inference_mode():
        eager = golden_models.module("hico", PUBLIC_SALT)(
            torch.from_numpy(images)[None], torch.zeros(1, h, w, dtype=torch.bool), torch.from_numpy(clip)
        )
    for name, tolerance in (("hoi_logits", LOGITS), ("object_logits", LOGITS), ("human_boxes_cxcywh", BOXES)):
        np.testing.assert_allclose(getattr(ours, name), getattr(eager, name).numpy(), atol=tolerance, rtol=0)


@pytest.mark.thorough
def test_text_embeddings_made_by_the_import(golden_models: GoldenModels) -> None:
    expected = recorded("text_hico")
    prompts = load_vocabulary("hico").hoi_prompts[::ROW_STEP]
    np.testing.assert_array_equal(tokenize(prompts).numpy(), expected["tokens"])
    rows = golden_models.file("hico", PUBLIC_SALT).tensor("hoi_rows")
    np.testing.assert_allclose(rows[::ROW_STEP], expected["rows"], atol=1e-4, rtol=0)


def test_preprocessing_is_exact() -> None:
    expected = recorded("preprocess")
    height, width = expected["photo_hw_2"].tolist()
    made = preprocess(golden_photo("photo2", height, width, PUBLIC_SALT), PreprocessConfig())
    assert made.image_hw == (tuple(expected["resized_hw_2"].tolist()),)
    np.testing.assert_array_equal(made.detector_bchw[0, :, ::16, ::16], expected["det_s16_2"])
    np.testing.assert_array_equal(made.clip_bchw[0, :, ::4, ::4], expected["clip_input_2"])


@pytest.mark.parametrize(("prefix", "nms"), [("final_0", True), ("nonms_0", False)])
def test_postprocessing(prefix: str, nms: bool) -> None:
    expected = recorded("postprocess_hico")
    raw = RawOutput(
        hoi_logits=expected["pred_hoi_logits"],
        object_logits=expected["pred_obj_logits"],
        human_boxes_cxcywh=expected["pred_sub_boxes"],
        object_boxes_cxcywh=expected["pred_obj_boxes"],
        clip_cls=expected["clip_visual_cls"],
    )
    size = tuple(expected["original_size"].tolist())
    pairs = Postprocessor(load_vocabulary("hico"), PostprocessConfig(nms=nms))(raw, size)
    columns = [expected[f"{prefix}_{name}"] for name in ("sub", "obj", "cat", "score")]
    assert_same_triplets(pairs, *columns, num_queries=64, grouped=nms)
