"""Reads official HOICLIP checkpoints (HICO-DET, V-COCO, zero-shot) and turns them into our model.

Keys that never influence a prediction are listed and dropped, unknown keys are refused. Layout: docs/model.md, Official
checkpoints. Pickles are read by state_dict.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hoiclip.checkpoint.official_names import RENAMED, official_name, our_name, renamed
from hoiclip.checkpoint.state_dict import local_state, read_checkpoint
from hoiclip.checkpoint.text_embeddings import tower_weights, unit_text_embeddings
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import check_shapes
from hoiclip.core.vocabulary import Vocabulary, load_vocabulary
from hoiclip.model import HOICLIP, ModelConfig


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint in our layout."""

    state: dict[str, Tensor]
    config: ModelConfig
    vocabulary: Vocabulary
    dropped: tuple[str, ...]
    """Official keys that never influence a prediction."""
    zero_shot: bool
    epoch: int | None


_DETR_LEFT_OUT = re.compile(
    r"class_embed\.|query_embed\.|transformer\.decoder\.layers\.([3-9]|\d\d)\.|.*num_batches_tracked$"
)


def detr_weights(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """DETR-R50 weights under our names: backbone, encoder, the first decoder layers, and its box head for both kinds.

    Args:
        path: DETR's released .pth.
        wanted: our names and shapes.

    Raises:
        ModelError: not DETR, or of another size.
    """
    state: dict[str, Tensor] = {}
    for key, value in read_checkpoint(path).state.items():
        if _DETR_LEFT_OUT.match(key):
            continue
        official = re.sub(r"^transformer\.decoder\.", "transformer.instance_decoder.", key)
        heads = ("hum_", "obj_") if key.startswith("bbox_embed.") else ("",)
        for head in heads:
            name = renamed(head + official, RENAMED)
            if name is None or wanted.get(name) != tuple(value.shape):
                raise ModelError(
                    f"{path} does not fit this model: {key} is {list(value.shape)}, expected "
                    f"{list(wanted.get(name or '', ())) or 'no such tensor'}. Is it DETR with a ResNet-50?"
                )
            state[name] = value.float()
    if "input_projection.weight" not in state:
        raise ModelError(f"{path} is no DETR checkpoint: input_proj.weight is missing")
    return state


def clip_weights(path: Path, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """CLIP's image tower and the vocabulary's text embeddings under our names, from a CLIP state dict.

    Args:
        path: CLIP weights with OpenAI's or open_clip's names, as .safetensors or a state dict saved by torch.

    Raises:
        ModelError: a file of another kind.
    """
    clip = local_state(path)
    state = {
        name: value.float()
        for key, value in clip.items()
        if key.startswith("visual.") and (name := renamed(f"clip_model.{key}", RENAMED)) is not None
    }
    tower = tower_weights(clip)
    for name, texts in vocabulary.prompts_by_tensor.items():
        state[name] = torch.from_numpy(unit_text_embeddings(texts, tower))
    return state


def guess_labels(state: dict[str, Tensor], path: Path) -> str:
    """The vocabulary, "hico" or "vcoco", from the number of object rows.

    Raises:
        ModelError: it is neither.
    """
    classifier = state.get("obj_visual_projection.weight")
    if classifier is None or not classifier.ndim:
        raise ModelError(
            f"{path} holds no rows of objects (obj_visual_projection.weight) among its {len(state)} tensors, first "
            f"{ascii(next(iter(state)))[1:-1][:80]}. Is it an official HOICLIP checkpoint?"
        )
    rows = classifier.shape[0]
    for name in ("hico", "vcoco"):
        if rows == load_vocabulary(name).num_object_classes + 1:
            return name
    raise ModelError(
        f"{path} has {rows} object rows (obj_visual_projection.weight); expected 81 (HICO) or 82 (V-COCO). "
        "Is it an official HOICLIP checkpoint?"
    )


def _config(arguments: dict[str, Any], vocabulary: Vocabulary) -> ModelConfig:
    """Official sizes, replaced by those in the training run's arguments."""
    names = {
        "hidden": "hidden_dim",
        "heads": "nheads",
        "feedforward": "dim_feedforward",
        "encoder_layers": "enc_layers",
        "queries": "num_queries",
    }
    sizes = {ours: arguments[theirs] for ours, theirs in names.items() if isinstance(arguments.get(theirs), int)}
    weight = arguments.get("verb_weight")
    default = 0.1 if vocabulary.has_no_object_class else 0.5
    return ModelConfig(
        num_object_classes=vocabulary.num_object_classes,
        num_verbs=len(vocabulary.verbs),
        num_hois=len(vocabulary.hois),
        verb_weight=float(weight) if isinstance(weight, (int, float)) else default,
        **sizes,
    )


def import_checkpoint(path: Path, labels: str | None = None) -> Imported:
    """Checks every tensor, renames, casts to fp32, and makes the text embeddings with the checkpoint's own text tower.

    Args:
        path: an official .pth.
        labels: "hico" or "vcoco"; None: from the number of classes.

    Raises:
        ModelError: not safe, not known, missing or misshapen tensors, or labels of another dataset.
    """
    checkpoint = read_checkpoint(path)
    vocabulary = load_vocabulary(labels or guess_labels(checkpoint.state, path))
    zero_shot = "eval_visual_projection.weight" in checkpoint.state
    config = _config(checkpoint.arguments, vocabulary)

    names = {key: our_name(key, zero_shot) for key in checkpoint.state}
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in HOICLIP(config).state_dict().items()}
    made_here = set(vocabulary.prompts_by_tensor) | ({"heads.hoi_classifier.bias"} if zero_shot else set())
    found = {key: tuple(checkpoint.state[key].shape) for key, name in names.items() if name != ""}
    expected = {official_name(key, zero_shot): shape for key, shape in wanted.items() if key not in made_here}
    check_shapes(found, expected, str(path))
    state = {name: checkpoint.state[key].float() for key, name in names.items() if name}
    non_finite = [key for key, name in names.items() if name and not bool(torch.isfinite(state[name]).all())]
    if non_finite:
        raise ModelError(
            f"{path} holds values that are not finite, first in {non_finite[0]}; the training run diverged"
        )
    if zero_shot:  # the evaluation classifier has no bias
        state["heads.hoi_classifier.bias"] = torch.zeros(config.num_hois)
    tower = tower_weights(checkpoint.state, "clip_model.")
    for name, texts in vocabulary.prompts_by_tensor.items():
        state[name] = torch.from_numpy(unit_text_embeddings(texts, tower))
    dropped = tuple(key for key, name in names.items() if name == "")
    return Imported(state, config, vocabulary, dropped, zero_shot, checkpoint.epoch)
