"""Initial weights of a model: CLIP's image tower and text embeddings, a detector, a whole model, or random ones."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hoiclip.checkpoint.open_vocabulary import embedder, read_vocabulary, swap_vocabulary
from hoiclip.core.cache_dirs import cache_base
from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile, load_model_file, write_tensors
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.model import HOICLIP

CLIP_FORMAT = "hoiclip-clip/1"
DETECTOR = (
    "backbone.",
    "input_projection.",
    "position_projection.",
    "encoder.",
    "fine_projection.",
    "instance_decoder.",
    "heads.human_box.",
    "heads.object_box.",
)
_BUNDLED = Path(__file__).resolve().parents[1] / "models"
TEXT_TENSORS = ("hoi_rows", "object_rows", "verb_rows")


def save_clip(
    path: Path, tower: Mapping[str, Tensor], embeddings: Mapping[str, Tensor], notes: Mapping[str, Any]
) -> None:
    """Writes a CLIP as HOICLIP needs it: tensors of the image tower, and the vocabulary's unit text embeddings.

    Raises:
        SinkError: the file cannot be written.
    """
    tensors = {f"clip.{key}": value.float().contiguous() for key, value in tower.items()}
    tensors.update({name: embeddings[name].float().contiguous() for name in TEXT_TENSORS})
    write_tensors(path, tensors, {"format": CLIP_FORMAT, "notes": json.dumps(dict(notes))})


def initial_model(name: str) -> ModelFile:
    """A model file, or a model by its name: bundled, or fetched into the cache.

    Raises:
        ModelError: there is no such file, or it is none.
    """
    path = Path(name)
    if path.name == name and not path.exists():
        named = (folder / f"{name}.safetensors" for folder in (_BUNDLED, cache_base() / "models"))
        path = next(filter(Path.is_file, named), path)
    if not path.is_file():
        raise ModelError(f"expected a model file with initial weights, there is no file {path}")
    return load_model_file(path)


def load_model_weights(model: HOICLIP, name: str, vocabulary: Vocabulary, embeddings: str = "") -> None:
    """Loads a whole model file into a model of the same sizes, to train it further.

    Where the vocabularies differ, classifiers begin with the rows of known words and the text embeddings of new ones.

    Args:
        name: a model file, or the name of a bundled model.
        embeddings: file of the vocabulary's text embeddings; empty: new words are embedded by CLIP's text tower.

    Raises:
        ModelError: no model file, it is of another size, or its words and the new ones have no text tower in common.
    """
    file = initial_model(name)
    if file.vocabulary.named_hois == vocabulary.named_hois and file.vocabulary.objects == vocabulary.objects:
        state = file.build().state_dict()
    else:
        file.build()  # checks its tensors
        state = _swapped_state(file, vocabulary, embeddings)
    if model.fine_projection is not None and not any(key.startswith("fine_projection.") for key in state):
        # Fine cells begin as copies of the coarse ones, which hardly changes what the decoders find.
        state |= {f"fine_projection.{key}": torch.zeros_like(p) for key, p in model.fine_projection.named_parameters()}
    _replace(model, ("",), state, f"{name} is a model of another size")


def _swapped_state(file: ModelFile, vocabulary: Vocabulary, embeddings: str) -> dict[str, Tensor]:
    given: dict[str, Any] = {}
    if embeddings:
        words, given = read_vocabulary(embeddings)
        if missing := [text for texts in vocabulary.prompts_by_tensor.values() for text in texts if text not in given]:
            raise ModelError(
                f"{embeddings} holds text embeddings of vocabulary {words.name}, none of {missing[0]!r}; make those of "
                f"{vocabulary.name}: hoiclip vocab build"
            )
    advice = "make text embeddings with its tower (hoiclip vocab build), and name their file as init.embeddings"
    embed = embedder(file, given, advice)
    tensors = swap_vocabulary(file, vocabulary, embed, only=True).tensors
    return {key: torch.from_numpy(value.astype(np.float32)) for key, value in tensors.items()}


def load_detector_weights(model: HOICLIP, path: Path) -> None:
    """Loads backbone, encoder, instance decoder and box heads of a model file: nothing that depends on HOI classes.

    Raises:
        ModelError: no model file, or its detector is of another size.
    """
    if not path.is_file():
        raise ModelError(
            f"expected a detector, there is no file {path}; train it first: hoiclip train drawn_detector.toml"
        )
    state = load_model_file(path).build().state_dict()
    found = {key: value for key, value in state.items() if key.startswith(DETECTOR)}
    _replace(model, DETECTOR, found, f"{path} holds a detector of another size")


def load_clip_weights(model: HOICLIP, path: Path, vocabulary: Vocabulary) -> None:
    """Loads a CLIP's image tower and text embeddings.

    Args:
        path: a CLIP made by `hoiclip train`, or CLIP weights with OpenAI's or open_clip's names.

    Raises:
        ModelError: no such file, or it is of another kind or size.
    """
    state = _read_small_clip(path)
    if state is None:
        from hoiclip.checkpoint.official import clip_weights

        state = clip_weights(path, vocabulary)
    _replace(model, ("clip.", *TEXT_TENSORS), state, f"{path} is a CLIP of another size or vocabulary")


def _replace(model: HOICLIP, prefixes: tuple[str, ...], state: Mapping[str, Tensor], problem: str) -> None:
    """Replaces all tensors with these prefixes, or raises a ModelError that begins with `problem`."""
    wanted = {key: value.shape for key, value in model.state_dict().items() if key.startswith(prefixes)}
    found = {key: value.shape for key, value in state.items()}
    if found != wanted:
        other = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise ModelError(f"{problem} than the model, first in {other[0]}; train it with the same [model] section")
    model.load_state_dict(state, strict=False)


def _read_small_clip(path: Path) -> dict[str, Tensor] | None:
    """Tensors of a CLIP made by save_clip; None where the file is of another kind."""
    if not path.is_file():
        raise ModelError(f"expected a CLIP, there is no file {path}; train it first, or name CLIP weights")
    try:
        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}).get("format") != CLIP_FORMAT:
                return None
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError):
        return None


def init_classifiers(model: HOICLIP, vocabulary: Vocabulary, *, text_embeddings: bool, bias: float) -> None:
    """Fills classifiers with text embeddings or random unit vectors, HOI biases with one value, and the verb table."""
    heads = model.heads
    with torch.no_grad():
        if text_embeddings:
            heads.hoi_classifier.weight.copy_(model.hoi_rows)
            heads.object_classifier.weight.copy_(model.object_rows)
        else:
            for weight in (heads.hoi_classifier.weight, heads.object_classifier.weight):
                weight.copy_(F.normalize(torch.randn_like(weight), dim=-1))
        heads.hoi_classifier.bias.fill_(bias)
        heads.object_classifier.bias.zero_()
        heads.verb_to_hoi.zero_()
        for index, (verb, _) in enumerate(vocabulary.hois):
            heads.verb_to_hoi[verb, index] = 1


def init_from_scratch(model: HOICLIP) -> None:
    """Initialises what pretrained weights would bring: a backbone scaled for ReLUs, and queries that differ.

    The instance decoder begins with zeros. With a zero bias its first norm sees exact zeros, whose gradient is 300
    times too large and, clipped by its norm, leaves nothing of all others.
    """
    for module in model.backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    first: Any = model.instance_decoder.layers[0]
    nn.init.normal_(first.self_attention.out.bias, std=0.5)


def select_weights(student: HOICLIP, teacher: Mapping[str, Tensor]) -> None:
    """Copies every second, fourth, ... channel of a larger model's tensors of the same names, first layers first.

    One pair of sizes selects the same channels in every tensor, so that layers which belong together stay so. They are
    selected in pairs because position embeddings alternate sine and cosine. Tensors that the teacher lacks, or that are
    larger than its own, keep their values; so do the norms of a block whose convolutions are of another kind.

    Source: Xu et al., Initializing Models with Larger Ones, ICLR 2024.

    Args:
        teacher: tensors by name.
    """
    selected = {name: _selected(name, own.shape, teacher.get(name)) for name, own in student.state_dict().items()}
    lacking = {_together(name) for name, tensor in selected.items() if tensor is None}
    found = {name: tensor for name, tensor in selected.items() if tensor is not None and _together(name) not in lacking}
    student.load_state_dict(found, strict=False)


def _together(name: str) -> str:
    """The block of a tensor of the backbone, which is selected as a whole or not; elsewhere the tensor."""
    return name.rsplit(".", 2)[0] if name.startswith("backbone.") else name


def _selected(name: str, shape: torch.Size, given: Tensor | None) -> Tensor | None:
    """Channels of a tensor for one of this shape; None where they do not fit."""
    if given is None or given.ndim != len(shape) or shape[2:] != given.shape[2:]:
        return None
    if name == "clip.positional_embedding":
        given = _resized_grid(given, shape[0])
    if any(kept > of for kept, of in zip(shape, given.shape, strict=True)):
        return None
    for axis, size in enumerate(shape):
        given = given.index_select(axis, _spread_pairs(given.shape[axis], size))
    return given


def _spread_pairs(of: int, kept: int) -> Tensor:
    """Indices of `kept` channels of `of`, in pairs at even distances; single ones where a size is odd."""
    step = 2 if of % 2 == kept % 2 == 0 else 1
    first = torch.arange(kept // step) * of // kept * step
    return (first[:, None] + torch.arange(step)).flatten()


def _resized_grid(embedding: Tensor, tokens: int) -> Tensor:
    """Position embeddings (T, W) of the image and its square of patches, for `tokens` in place of T."""
    side, wanted = math.isqrt(len(embedding) - 1), math.isqrt(tokens - 1)
    grid = embedding[1:].T.unflatten(1, (side, side))[None]
    resized = F.interpolate(grid, size=(wanted, wanted), mode="bilinear", align_corners=False)
    return torch.cat((embedding[:1], resized[0].flatten(1).T))
