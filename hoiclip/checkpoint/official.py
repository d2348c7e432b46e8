"""Reads official HOICLIP checkpoints (HICO-DET, V-COCO, zero-shot) and turns them into our model.

They are pickles: only tensors, plain containers and the argparse Namespace of the training run are let through. Keys
that never influence a prediction are listed and dropped, keys nobody knows are refused. Layout: SPEC.md §3.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
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


_LAYER = (
    ("self_attn.out_proj.", "{self}.out."),
    ("self_attn.", "{self}."),
    ("multihead_attn.out_proj.", "cross_attention.out."),
    ("multihead_attn.", "cross_attention."),
    ("linear1.", "feedforward.linear1."),
    ("linear2.", "feedforward.linear2."),
    ("norm1.", "norm1."),
    ("norm2.", "norm2."),
    ("norm3.", "norm3."),
)


def _layers(official: str, ours: str, self_attention: str) -> list[tuple[str, str]]:
    return [
        (f"{official}.layers.{{n}}.{old}", f"{ours}.layers.{{n}}.{new.replace('{self}', self_attention)}")
        for old, new in _LAYER
    ]


_BLOCK = "clip_model.visual.transformer.resblocks.{n}."
_RENAMED: list[tuple[str, str]] = [
    ("logit_scale", "heads.log_scale"),
    ("obj_logit_scale", "heads.object_log_scale"),
    *_layers("transformer.encoder", "encoder", "attention"),
    *_layers("transformer.instance_decoder", "instance_decoder", "self_attention"),
    *_layers("transformer.clip_interaction_decoder", "interaction_decoder", "self_attention"),
    ("transformer.instance_decoder.norm.", "instance_decoder.norm."),
    ("transformer.clip_interaction_decoder.norm.", "interaction_decoder.norm."),
    ("transformer.queries2spacial_proj.", "query_projection."),
    ("transformer.queries2spacial_proj_norm.", "query_norm."),
    ("transformer.obj_class_fc.", "memory_projection."),
    ("transformer.obj_class_ln.", "memory_norm."),
    ("query_embed_h.weight", "instance_decoder.human_queries"),
    ("query_embed_o.weight", "instance_decoder.object_queries"),
    ("pos_guided_embedd.weight", "instance_decoder.pair_queries"),
    ("hum_bbox_embed.", "heads.human_box."),
    ("obj_bbox_embed.", "heads.object_box."),
    ("inter2verb.", "heads.verb_feature."),
    ("verb_projection.weight", "heads.verb_classifier.weight"),
    ("obj_visual_projection.", "heads.object_classifier."),
    ("obj_class_fc.0.", "heads.object_feature."),
    ("obj_class_fc.1.", "heads.object_norm."),
    ("input_proj.", "input_projection."),
    ("backbone.0.body.conv1.", "backbone.conv."),
    ("backbone.0.body.bn1.", "backbone.bn."),
    *((f"backbone.0.body.layer{k + 1}.{{n}}.downsample.", f"backbone.stages.{k}.{{n}}.shortcut.") for k in range(4)),
    *((f"backbone.0.body.layer{k + 1}.", f"backbone.stages.{k}.") for k in range(4)),
    ("clip_model.visual.class_embedding", "clip.class_embedding"),
    ("clip_model.visual.positional_embedding", "clip.positional_embedding"),
    ("clip_model.visual.proj", "clip.projection"),
    ("clip_model.visual.conv1.", "clip.patches."),
    ("clip_model.visual.ln_pre.", "clip.norm_pre."),
    ("clip_model.visual.ln_post.", "clip.norm_post."),
    (f"{_BLOCK}attn.out_proj.", "clip.blocks.{n}.attention.out."),
    (f"{_BLOCK}attn.", "clip.blocks.{n}.attention."),
    (f"{_BLOCK}ln_1.", "clip.blocks.{n}.norm1."),
    (f"{_BLOCK}ln_2.", "clip.blocks.{n}.norm2."),
    (f"{_BLOCK}mlp.c_fc.", "clip.blocks.{n}.mlp_in."),
    (f"{_BLOCK}mlp.c_proj.", "clip.blocks.{n}.mlp_out."),
]
"""Beginnings of names, official and ours; {n} is a number. The first that fits counts, in both directions."""

# The HOI classifier of a zero-shot model is the one over all classes; a default model has only the other.
_CLASSIFIER = {
    False: [
        ("visual_projection.", "heads.hoi_classifier."),
        ("verb2hoi_proj", "heads.verb_to_hoi"),
    ],
    True: [
        ("eval_visual_projection.weight", "heads.hoi_classifier.weight"),
        ("verb2hoi_proj_eval", "heads.verb_to_hoi"),
    ],
}
_OTHER_CLASSIFIER = {
    False: ("verb2hoi_proj_eval",),
    True: ("visual_projection.weight", "visual_projection.bias", "verb2hoi_proj"),
}

_DROPPED = re.compile(
    r"transformer\.interaction_decoder\.|transformer\.clip_interaction_decoder\.layers\.\d+\.norm4\."
    r"|transformer\.inter_guided_embedd\.weight$|hoi_class_fc\.[01]\."
    r"|clip_model\.(logit_scale$|positional_embedding$|text_projection$|token_embedding\.|ln_final\.|transformer\.)"
    r"|.*\.num_batches_tracked$"
)


def _our_name(key: str, zero_shot: bool) -> str | None:
    """Our name, "" for a key that is dropped, None for one nobody knows."""
    if key in _OTHER_CLASSIFIER[zero_shot] or _DROPPED.match(key):
        return ""
    return _renamed(key, _CLASSIFIER[zero_shot] + _RENAMED)


def _official_name(name: str, zero_shot: bool) -> str:
    """Inverse of _our_name: what the owner of a checkpoint can look for."""
    rules = [(ours, official) for official, ours in _CLASSIFIER[zero_shot] + _RENAMED]
    return _renamed(name, rules) or name


def _renamed(key: str, rules: list[tuple[str, str]]) -> str | None:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\{n\}", r"(\d+)") + ("" if old.endswith(".") else "$")
        match = re.match(pattern, key)
        if match:
            return new.replace("{n}", match[1] if match.groups() else "") + key[match.end() :]
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Unpickles tensors, plain containers and argparse.Namespace, nothing else.

    Raises:
        ModelError: no such file, not a checkpoint, or it holds objects of another kind.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols; what matters is an error
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of type {found[1]}" if found else "something that is no tensor"
        raise ModelError(
            f"{path} holds {what}; only tensors and argparse arguments are read, anything else could run code"
        ) from error
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
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

    names = {key: _our_name(key, zero_shot) for key in checkpoint.state}
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in HOICLIP(config).state_dict().items()}
    made_here = {"hoi_rows", "object_rows", "verb_rows"} | ({"heads.hoi_classifier.bias"} if zero_shot else set())
    found = {key: tuple(checkpoint.state[key].shape) for key, name in names.items() if name != ""}
    expected = {_official_name(key, zero_shot): shape for key, shape in wanted.items() if key not in made_here}
    check_shapes(found, expected, str(path))
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
