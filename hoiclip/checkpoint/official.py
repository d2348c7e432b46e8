"""Reads official HOICLIP checkpoints (HICO-DET, V-COCO, zero-shot) and turns them into our model.

They are pickles: only tensors, plain containers and the argparse Namespace of the training run are let through. Keys
that never influence a prediction are listed and dropped, keys nobody knows are refused. Layout: SPEC.md §3.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hoiclip.checkpoint.model_file import check_shapes
from hoiclip.checkpoint.official_names import RENAMED, official_name, our_name, renamed
from hoiclip.errors import ModelError
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.text import local_state, text_rows, tower_weights
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


_STATE_KEYS = ("model", "state_dict", "model_state_dict")
"""Where training loops keep the tensors, besides the whole file."""
_WRAPPERS = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
"""What DataParallel and torch.compile put before the names of the module that they wrap."""
_MOST_NUMBERS = 1 << 30
"""Of a checkpoint that is smaller: one tensor may stand for many equal numbers."""

_DETR_LEFT_OUT = re.compile(
    r"class_embed\.|query_embed\.|transformer\.decoder\.layers\.([3-9]|\d\d)\.|.*num_batches_tracked$"
)


def detr_start(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
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
                    f"{path} does not start this model: {key} is {list(value.shape)}, expected "
                    f"{list(wanted.get(name or '', ())) or 'no such tensor'}. Is it DETR with a ResNet-50?"
                )
            state[name] = value.float()
    if "input_projection.weight" not in state:
        raise ModelError(f"{path} is no DETR checkpoint: input_proj.weight is missing")
    return state


def clip_start(path: Path, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """CLIP's image tower and the vocabulary's text rows under our names, from a CLIP state dict.

    Args:
        path: CLIP weights with OpenAI's or open_clip's names, as .safetensors or a state dict saved by torch.

    Raises:
        ModelError: a file of another kind.
    """
    whole = local_state(path)
    state = {
        name: value.float()
        for key, value in whole.items()
        if key.startswith("visual.") and (name := renamed(f"clip_model.{key}", RENAMED)) is not None
    }
    tower = tower_weights(whole)
    for name, texts in vocabulary.prompts_by_rows.items():
        state[name] = torch.from_numpy(text_rows(texts, tower))
    return state


def read_checkpoint(path: Path) -> Checkpoint:
    """Unpickles tensors, plain containers and argparse.Namespace, nothing else.

    Raises:
        ModelError: no such file, not a checkpoint, or it holds objects of another kind.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}; name the file of one")
    _check_archive(path)
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
        if "TorchScript" in str(error) or "legacy .tar" in str(error):
            kind = "a TorchScript program" if "TorchScript" in str(error) else "of torch's oldest format"
            raise ModelError(
                f"{path} is {kind}, which is not read; load it in torch and save its state_dict() with torch.save"
            ) from error
        raise ModelError(
            f"{path} is no readable checkpoint (a .pth written by torch.save); is it truncated?"
        ) from error
    wrapped = data if isinstance(data, dict) else {}
    state = next((wrapped[name] for name in _STATE_KEYS if name in wrapped), data)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict; expected a dict of tensors, or one under the key 'model'")
    _check_tensors(state, path)
    arguments = wrapped.get("args")
    epoch = wrapped.get("epoch")
    return Checkpoint(
        state=unwrapped(state, path),
        arguments=vars(arguments) if isinstance(arguments, argparse.Namespace) else {},
        epoch=epoch if isinstance(epoch, int) else None,
    )


def _check_archive(path: Path) -> None:
    """torch.save compresses nothing, so what an archive holds is never more than its file.

    Raises:
        ModelError: it says that it holds more, and would take the memory for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # older checkpoints are no archives; damaged ones are told by torch's reader
        return
    if declared > path.stat().st_size:
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes but declares {declared}; expected an archive that is not "
            "compressed, as torch.save writes it: load it where you trust it, and save it again"
        )


def _check_tensors(state: dict[Any, Tensor], path: Path) -> None:
    """Raises ModelError: not dense tensors in main memory, or many more numbers than the file holds."""
    for key, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise ModelError(f"{path}: expected dense numbers in {ascii(key)[:80]}, found another kind of tensor")
    numbers = sum(value.numel() for value in state.values())
    if numbers > max(_MOST_NUMBERS, path.stat().st_size):
        raise ModelError(f"{path} declares {numbers} numbers in {path.stat().st_size} bytes; expected a checkpoint")


def unwrapped(state: Mapping[Any, Tensor], path: Path) -> dict[str, Tensor]:
    """A state dict under the names that its tensors had before a module was wrapped.

    Raises:
        ModelError: two names become one.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _WRAPPERS.sub(r"\1", str(key))
        if name in plain:
            raise ModelError(f"{path} holds {ascii(name)[:80]} twice, with and without the prefix of a wrapper")
        plain[name] = value
    return plain


def guess_labels(state: dict[str, Tensor], path: Path) -> str:
    """ "hico" or "vcoco", from the number of object rows.

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

    names = {key: our_name(key, zero_shot) for key in checkpoint.state}
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in HOICLIP(config).state_dict().items()}
    made_here = set(vocabulary.prompts_by_rows) | ({"heads.hoi_classifier.bias"} if zero_shot else set())
    found = {key: tuple(checkpoint.state[key].shape) for key, name in names.items() if name != ""}
    expected = {official_name(key, zero_shot): shape for key, shape in wanted.items() if key not in made_here}
    check_shapes(found, expected, str(path))
    state = {name: checkpoint.state[key].float() for key, name in names.items() if name}
    broken = [key for key, name in names.items() if name and not bool(torch.isfinite(state[name]).all())]
    if broken:
        raise ModelError(f"{path} holds values that are not finite, first in {broken[0]}; the training run diverged")
    if zero_shot:  # the evaluation classifier has no bias
        state["heads.hoi_classifier.bias"] = torch.zeros(config.num_hois)
    tower = tower_weights(checkpoint.state, "clip_model.")
    for name, texts in vocabulary.prompts_by_rows.items():
        state[name] = torch.from_numpy(text_rows(texts, tower))
    dropped = tuple(key for key, name in names.items() if name == "")
    return Imported(state, config, vocabulary, dropped, zero_shot, checkpoint.epoch)
