"""Reads official HOICLIP checkpoints (HICO-DET, V-COCO, zero-shot) and turns them into our model.

They are pickles: only tensors, plain containers and the argparse Namespace of the training run are let through. Keys
that never influence a prediction are listed and dropped, keys nobody knows are refused. Layout: SPEC.md §3.
"""

from __future__ import annotations

import argparse
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hoiclip.checkpoint.model_file import check_shapes
from hoiclip.errors import ModelError
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.text import text_rows, tower_weights
from hoiclip.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a training run left: the model's tensors, and its arguments as far as they are plain values."""

    state: dict[str, Tensor]
    arguments: dict[str, Any]
    epoch: int | None


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


_LAYER_PARTS = (
    (r"self_attn\.out_proj\.", "{self}.out."),
    (r"self_attn\.", "{self}."),
    (r"multihead_attn\.out_proj\.", "cross_attention.out."),
    (r"multihead_attn\.", "cross_attention."),
    (r"(linear[12])\.", r"feedforward.\1."),
    (r"(norm[123])\.", r"\1."),
)


def _layers(official: str, ours: str, self_attention: str) -> list[tuple[str, str]]:
    renamed = []
    for part, new in _LAYER_PARTS:
        name = new.replace(r"\1", r"\2").replace("{self}", self_attention)  # group 1 is the layer's number
        renamed.append((rf"{official}\.layers\.(\d+)\.{part}", rf"{ours}.layers.\1.{name}"))
    return renamed


_RENAMED: list[tuple[str, str]] = [
    (r"logit_scale$", "heads.log_scale"),
    (r"obj_logit_scale$", "heads.object_log_scale"),
    *_layers(r"transformer\.encoder", "encoder", "attention"),
    *_layers(r"transformer\.instance_decoder", "instance_decoder", "self_attention"),
    *_layers(r"transformer\.clip_interaction_decoder", "interaction_decoder", "self_attention"),
    (r"transformer\.instance_decoder\.norm\.", "instance_decoder.norm."),
    (r"transformer\.clip_interaction_decoder\.norm\.", "interaction_decoder.norm."),
    (r"transformer\.queries2spacial_proj\.", "query_projection."),
    (r"transformer\.queries2spacial_proj_norm\.", "query_norm."),
    (r"transformer\.obj_class_fc\.", "memory_projection."),
    (r"transformer\.obj_class_ln\.", "memory_norm."),
    (r"query_embed_h\.weight$", "instance_decoder.human_queries"),
    (r"query_embed_o\.weight$", "instance_decoder.object_queries"),
    (r"pos_guided_embedd\.weight$", "instance_decoder.pair_queries"),
    (r"hum_bbox_embed\.", "heads.human_box."),
    (r"obj_bbox_embed\.", "heads.object_box."),
    (r"inter2verb\.", "heads.verb_feature."),
    (r"verb_projection\.weight$", "heads.verb_classifier.weight"),
    (r"obj_visual_projection\.", "heads.object_classifier."),
    (r"obj_class_fc\.0\.", "heads.object_feature."),
    (r"obj_class_fc\.1\.", "heads.object_norm."),
    (r"input_proj\.", "input_projection."),
    (r"backbone\.0\.body\.conv1\.", "backbone.conv."),
    (r"backbone\.0\.body\.bn1\.", "backbone.bn."),
    (r"backbone\.0\.body\.layer(\d)\.(\d+)\.downsample\.", r"backbone.stages.\1.\2.shortcut."),
    (r"backbone\.0\.body\.layer(\d)\.", r"backbone.stages.\1."),
    (r"clip_model\.visual\.(class_embedding|positional_embedding)$", r"clip.\1"),
    (r"clip_model\.visual\.proj$", "clip.projection"),
    (r"clip_model\.visual\.conv1\.", "clip.patches."),
    (r"clip_model\.visual\.ln_(pre|post)\.", r"clip.norm_\1."),
    (r"clip_model\.visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"clip.blocks.\1.attention.out."),
    (r"clip_model\.visual\.transformer\.resblocks\.(\d+)\.attn\.", r"clip.blocks.\1.attention."),
    (r"clip_model\.visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.", r"clip.blocks.\1.norm\2."),
    (r"clip_model\.visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"clip.blocks.\1.mlp_in."),
    (r"clip_model\.visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"clip.blocks.\1.mlp_out."),
]

_DROPPED = re.compile(
    r"transformer\.interaction_decoder\.|transformer\.clip_interaction_decoder\.layers\.\d+\.norm4\."
    r"|transformer\.inter_guided_embedd\.weight$|hoi_class_fc\.[01]\."
    r"|clip_model\.(logit_scale$|positional_embedding$|text_projection$|token_embedding\.|ln_final\.|transformer\.)"
    r"|.*\.num_batches_tracked$"
)


def _new_name(key: str, zero_shot: bool) -> str | None:
    """Our name, "" for a key that is dropped, None for one nobody knows."""
    hoi_classifier = {
        "visual_projection.weight": "" if zero_shot else "heads.hoi_classifier.weight",
        "visual_projection.bias": "" if zero_shot else "heads.hoi_classifier.bias",
        "verb2hoi_proj": "" if zero_shot else "heads.verb_to_hoi",
        "eval_visual_projection.weight": "heads.hoi_classifier.weight",
        "verb2hoi_proj_eval": "heads.verb_to_hoi" if zero_shot else "",
    }
    if key in hoi_classifier:
        return hoi_classifier[key]
    for pattern, new in _RENAMED:
        match = re.match(pattern, key)
        if match:
            name = match.expand(new) + key[match.end() :]
            # Stages count from 0, torchvision's layers from 1.
            return re.sub(r"^backbone\.stages\.(\d)", lambda m: f"backbone.stages.{int(m[1]) - 1}", name)
    return "" if _DROPPED.match(key) else None


def read_checkpoint(path: Path) -> Checkpoint:
    """Unpickles tensors, plain containers and argparse.Namespace, nothing else.

    Raises:
        ModelError: no such file, not a checkpoint, or it holds objects of another kind.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of type {found[1]}" if found else "something that is no tensor"
        raise ModelError(
            f"{path} holds {what}; only tensors and argparse arguments are read, anything else could run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} is no readable checkpoint (a .pth written by torch.save); is it truncated?"
        ) from error
    state = data.get("model", data) if isinstance(data, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict; expected a dict of tensors, or one under the key 'model'")
    wrapped = data if "model" in data else {}
    arguments = wrapped.get("args")
    epoch = wrapped.get("epoch")
    return Checkpoint(
        state={str(key): value for key, value in state.items()},
        arguments=vars(arguments) if isinstance(arguments, argparse.Namespace) else {},
        epoch=epoch if isinstance(epoch, int) else None,
    )


def guess_labels(state: dict[str, Tensor], path: Path) -> str:
    """ "hico" or "vcoco", from the number of object rows.

    Raises:
        ModelError: it is neither.
    """
    rows = state["obj_visual_projection.weight"].shape[0] if "obj_visual_projection.weight" in state else None
    for name in ("hico", "vcoco"):
        if rows == load_vocabulary(name).num_object_classes + 1:
            return name
    raise ModelError(
        f"{path} has {rows} object rows (obj_visual_projection.weight); expected 81 (HICO) or 82 (V-COCO). "
        "Is it an official HOICLIP checkpoint?"
    )


def _config(arguments: dict[str, Any], vocabulary: Vocabulary) -> ModelConfig:
    """Official sizes, and what the training run's arguments say about them."""
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
    """Checks every tensor, renames, casts to fp32, and makes the text rows with the checkpoint's own text tower.

    Args:
        path: an official .pth.
        labels: "hico" or "vcoco"; None: told by the number of classes.

    Raises:
        ModelError: not safe, not known, missing or misshapen tensors, or labels of another data set.
    """
    checkpoint = read_checkpoint(path)
    vocabulary = load_vocabulary(labels or guess_labels(checkpoint.state, path))
    zero_shot = "eval_visual_projection.weight" in checkpoint.state
    config = _config(checkpoint.arguments, vocabulary)

    names = {key: _new_name(key, zero_shot) for key in checkpoint.state}
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in HOICLIP(config).state_dict().items()}
    made_here = {"hoi_rows", "object_rows", "verb_rows"} | ({"heads.hoi_classifier.bias"} if zero_shot else set())
    expected = {key: shape for key, shape in wanted.items() if key not in made_here}
    found = {
        key if name is None else name: tuple(checkpoint.state[key].shape) for key, name in names.items() if name != ""
    }
    check_shapes(_official(found, names), _official(expected, names), str(path))
    state = {name: checkpoint.state[key].float() for key, name in names.items() if name}
    broken = [key for key, name in names.items() if name and not bool(torch.isfinite(state[name]).all())]
    if broken:
        raise ModelError(f"{path} holds values that are not finite, first in {broken[0]}; the training run diverged")
    if zero_shot:  # the evaluation classifier has no bias
        state["heads.hoi_classifier.bias"] = torch.zeros(config.num_hois)
    tower = tower_weights(checkpoint.state, "clip_model.")
    prompts = (vocabulary.hoi_prompts, vocabulary.object_prompts, vocabulary.verb_prompts)
    for name, texts in zip(("hoi_rows", "object_rows", "verb_rows"), prompts, strict=True):
        state[name] = torch.from_numpy(text_rows(texts, tower))
    dropped = tuple(key for key, name in names.items() if name == "")
    return Imported(state, config, vocabulary, dropped, zero_shot, checkpoint.epoch)


def _official(shapes: dict[str, tuple[int, ...]], names: dict[str, str | None]) -> dict[str, tuple[int, ...]]:
    """Keyed by the file's own names where it has them: those are what its owner can look for."""
    old = {name: key for key, name in names.items() if name}
    return {old.get(key, key): shape for key, shape in shapes.items()}
