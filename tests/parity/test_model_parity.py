"""The model against the recorded official one: every stage of every case.

Tolerances: the recordings are fp32 on another summation order; logits 2e-4, boxes 2e-5, unit-scale hidden states 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hoiclip.core.postprocess import PostprocessConfig, Postprocessor, official_boxes
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.model import HOICLIP, LayerOutputs
from tests.golden.models import ZERO_SHOT, GoldenModels
from tests.parity.compare import assert_same_triplets
from tests.parity.golden import golden_image, salt

CASES = {
    "hico_b1": "hico",
    "hico_b2": "hico",
    "hico_b2odd": "hico",
    "vcoco_b1": "vcoco",
    "hico_zs_rf_b1": ZERO_SHOT,
}
LOGITS, BOXES, HIDDEN = 2e-4, 2e-5, 1e-3


def padded_inputs(case: str, sizes: np.ndarray, salt: str) -> tuple[Tensor, Tensor, Tensor]:
    """Zero-padded to the batch maximum, as the official collate does."""
    count, (height, width) = len(sizes), sizes.max(axis=0)
    images = torch.zeros(count, 3, height, width)
    padding = torch.ones(count, height, width, dtype=torch.bool)
    for i, (h, w) in enumerate(sizes.tolist()):
        images[i, :, :h, :w] = torch.from_numpy(golden_image(f"{case}/img{i}", h, w, salt))
        padding[i, :h, :w] = False
    clips = [torch.from_numpy(golden_image(f"{case}/clip{i}", 224, 224, salt)) for i in range(count)]
    return images, padding, torch.stack(clips)


@contextmanager
def recording(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Outputs of each module, call by call."""
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: seen[name].append(output[0] if isinstance(output, tuple) else output)

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def run(model: HOICLIP, case: str, folder: Path) -> tuple[LayerOutputs, dict[str, list[Tensor]]]:
    sizes = np.load(folder / f"{case}_outputs.npz")["image_sizes"]
    watched: dict[str, nn.Module] = {
        "backbone": model.backbone,
        "input_projection": model.input_projection,
        "encoder": model.encoder,
        "instance": model.instance_decoder,
        "memory": model.memory_norm,
        "query": model.query_norm,
        "interaction": model.interaction_decoder,
        "clip": model.clip,
    }
    watched |= {f"encoder{i}": layer for i, layer in enumerate(model.encoder.layers)}
    watched |= {f"interaction{i}": layer for i, layer in enumerate(model.interaction_decoder.layers)}
    with torch.inference_mode(), recording(watched) as seen:
        outputs = model.all_layers(*padded_inputs(case, sizes, salt(folder)), mask_memory=False)
    return outputs, seen


@pytest.fixture(scope="module", params=CASES)
def recorded(request: pytest.FixtureRequest, golden_models: GoldenModels, parity_dir: Path) -> Any:
    case = request.param
    model = golden_models.module(CASES[case], salt(parity_dir))
    outputs, seen = run(model, case, parity_dir)
    expected = {
        **np.load(parity_dir / f"{case}_outputs.npz"),
        **np.load(parity_dir / f"{case}_stages.npz"),
    }
    return model, outputs, seen, expected


def close(ours: Tensor, theirs: np.ndarray, tolerance: float) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=tolerance, rtol=0)


def test_predictions_of_all_layers(recorded: Any) -> None:
    _, out, _, expected = recorded
    close(out.hoi_logits[-1], expected["pred_hoi_logits"], LOGITS)
    close(out.object_logits[-1], expected["pred_obj_logits"], LOGITS)
    close(out.human_boxes_cxcywh[-1], expected["pred_sub_boxes"], BOXES)
    close(out.object_boxes_cxcywh[-1], expected["pred_obj_boxes"], BOXES)
    close(out.hoi_logits[:-1, ..., ::4], expected["aux_hoi_logits"], LOGITS)
    close(out.object_logits[:-1], expected["aux_obj_logits"], LOGITS)
    close(out.human_boxes_cxcywh[:-1], expected["aux_sub_boxes"], BOXES)
    close(out.object_boxes_cxcywh[:-1], expected["aux_obj_boxes"], BOXES)


def test_clip_outputs(recorded: Any) -> None:
    _, out, seen, expected = recorded
    close(out.clip_visual, expected["clip_visual"], HIDDEN)
    close(out.clip_visual[:, 0], expected["clip_cls"], HIDDEN)
    close(torch.nn.functional.normalize(out.clip_visual[:, 0], dim=-1), expected["clip_cls_feature"], LOGITS)
    close(out.clip_logits[:, None], expected["clip_logits"], LOGITS)
    close(out.hoi_feature, expected["hoi_feature"], LOGITS)
    close(seen["clip"][0][..., ::2], expected["clip_tokens_d2"], HIDDEN)


def test_detector_stages(recorded: Any) -> None:
    _, _, seen, expected = recorded
    close(seen["backbone"][0][:, ::8], expected["backbone_c8"], HIDDEN)
    close(seen["input_projection"][0][:, ::4], expected["input_proj_c4"], HIDDEN)
    layers = [seen[f"encoder{i}"][0].transpose(0, 1)[..., ::16] for i in range(len(expected["encoder_layers_d16"]))]
    close(torch.stack(layers), expected["encoder_layers_d16"], HIDDEN)
    close(seen["encoder"][0].transpose(0, 1), expected["encoder"], HIDDEN)
    instance = seen["instance"][0].transpose(1, 2)
    close(instance[-1], expected["instance_last"], HIDDEN)
    close(instance[..., ::8], expected["instance_d8"], HIDDEN)


def test_interaction_stages(recorded: Any) -> None:
    _, _, seen, expected = recorded
    close(seen["memory"][0].transpose(0, 1)[..., ::8], expected["memory_clip_d8"], HIDDEN)
    close(seen["query"][0][..., ::2], expected["inter_query_d2"], HIDDEN)
    raw = [seen[f"interaction{i}"][0].transpose(0, 1)[..., ::8] for i in range(3)]
    close(torch.stack(raw), expected["interaction_layers_prenorm_d8"], HIDDEN)
    normed = seen["interaction"][0].transpose(1, 2)
    close(normed[-1], expected["interaction_last"], HIDDEN)
    close(normed[..., ::8], expected["interaction_d8"], HIDDEN)


def test_triplets_of_the_models_own_outputs(recorded: Any, parity_dir: Path, request: pytest.FixtureRequest) -> None:
    """From image to final triplets, against the recorded official result."""
    model, out, _, _ = recorded
    case = request.node.callspec.params["recorded"]
    final = np.load(parity_dir / f"{case}_final.npz")
    vocabulary = load_vocabulary("vcoco" if CASES[case] == "vcoco" else "hico")
    raw = RawOutput(
        hoi_logits=out.hoi_logits[-1].numpy(),
        object_logits=out.object_logits[-1].numpy(),
        human_boxes_cxcywh=out.human_boxes_cxcywh[-1].numpy(),
        object_boxes_cxcywh=out.object_boxes_cxcywh[-1].numpy(),
        clip_cls=out.clip_visual[:, 0].numpy(),
    )
    postprocess = Postprocessor(vocabulary, PostprocessConfig())
    for i, size in enumerate(final["orig_sizes"].tolist()):
        columns = [final[f"final{i}_{name}"] for name in ("sub", "obj", "cat", "score")]
        pairs = postprocess(raw, tuple(size), i)
        # The logits' own tolerance of 2e-4 moves a score by at most 1e-4, and may swap triplets that are that close.
        assert_same_triplets(
            pairs,
            *columns,
            num_queries=model.config.queries,
            grouped=not vocabulary.has_no_object_class,
            tolerance=1e-4,
        )
        boxes, labels = official_boxes(raw, tuple(size), i)
        np.testing.assert_allclose(boxes, final["boxes"][i], atol=2e-5 * max(size), rtol=0)
        np.testing.assert_array_equal(labels, final["labels"][i])


def test_whole_tensors_by_their_statistics(recorded: Any) -> None:
    """Mean, standard deviation, largest value and norm of tensors that are too big to record."""
    _, _, seen, expected = recorded
    whole = {
        "backbone": seen["backbone"][0],
        "input_proj": seen["input_projection"][0],
        "encoder": seen["encoder"][0],
        "instance": seen["instance"][0],
        "memory_clip": seen["memory"][0],
        "inter_query": seen["query"][0],
        "interaction": seen["interaction"][0],
        "clip_tokens": seen["clip"][0],
    }
    for name, tensor in whole.items():
        x = tensor.double()
        ours = torch.stack([x.mean(), x.std(correction=0), x.abs().max(), x.norm()]).numpy()
        np.testing.assert_allclose(ours, expected[f"stat_{name}"], rtol=1e-4, atol=1e-4, err_msg=name)


def test_position_encoding_and_feature_mask(parity_dir: Path) -> None:
    from hoiclip.model.position import sine_encoding

    for case in CASES:
        expected = np.load(parity_dir / f"{case}_stages.npz")
        sizes = np.load(parity_dir / f"{case}_outputs.npz")["image_sizes"]
        cells = torch.from_numpy(expected["feat_mask"])
        _, padding, _ = padded_inputs(case, sizes, salt(parity_dir))
        ours = torch.nn.functional.interpolate(padding[None].float(), size=cells.shape[-2:])[0].bool()
        assert torch.equal(ours, cells), case
        position = sine_encoding(cells, 256).unflatten(1, cells.shape[-2:]).permute(0, 3, 1, 2)
        close(position[:, ::8], expected["pos_c8"], 1e-5)
