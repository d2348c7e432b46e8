"""What a model's weights are before the first step: CLIP's tower, text rows, verb rows, DETR."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip.errors import ModelError
from hoiclip.model import HOICLIP
from hoiclip.model.clip_image import ClipImageTower
from hoiclip.vocabulary import Vocabulary

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
_NOTHING_LEFT = 1e-4
"""Difference of two unit vectors that are equal up to rounding."""
ROWS = ("hoi_rows", "object_rows", "verb_rows")


def save_clip(path: Path, tower: Mapping[str, Tensor], rows: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """A CLIP as HOICLIP needs it: the image tower's tensors and the vocabulary's unit text rows."""
    tensors = {f"clip.{key}": value.float().contiguous() for key, value in tower.items()}
    tensors.update({name: rows[name].float().contiguous() for name in ROWS})
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata={"format": CLIP_FORMAT, "notes": json.dumps(dict(notes))})
    part.replace(path)


def load_model(model: HOICLIP, path: Path, vocabulary: Vocabulary) -> None:
    """Puts a whole model file into a model of the same sizes, to train it further.

    Args:
        path: a model file, or the name of a bundled model.

    Raises:
        ModelError: no model file, or it is of another size or vocabulary.
    """
    if path.name == str(path) and not path.exists() and (bundled := _BUNDLED / f"{path}.safetensors").is_file():
        path = bundled
    if not path.is_file():
        raise ModelError(f"expected a model file to start from, there is no file {path}")
    file = load_model_file(path)
    if (file.vocabulary.objects, file.vocabulary.hois) != (vocabulary.objects, vocabulary.hois):
        raise ModelError(
            f"{path} is of vocabulary {file.vocabulary.name}, the recipe of {vocabulary.name}; name a model of the same"
        )
    state = file.build().state_dict()
    if model.fine_projection is not None and not any(key.startswith("fine_projection.") for key in state):
        # Fine cells begin as copies of the coarse ones, which hardly changes what the decoders find.
        state |= {f"fine_projection.{key}": torch.zeros_like(p) for key, p in model.fine_projection.named_parameters()}
    _replace(model, ("",), state, f"{path} is a model of another size")


def load_detector(model: HOICLIP, path: Path) -> None:
    """Puts what finds humans and objects into a model, from a model file: no text row, nothing that knows an HOI class.

    Raises:
        ModelError: no model file, or its detector is of another size.
    """
    if not path.is_file():
        raise ModelError(
            f"expected a detector, there is no file {path}; train it first: hoiclip train drawn_detector.toml"
        )
    whole = load_model_file(path).build().state_dict()
    found = {key: value for key, value in whole.items() if key.startswith(DETECTOR)}
    _replace(model, DETECTOR, found, f"{path} holds a detector of another size")


def load_clip(model: HOICLIP, path: Path, vocabulary: Vocabulary) -> None:
    """Puts a CLIP's image tower and text rows into a model.

    Args:
        path: a CLIP made by `hoiclip train`, or CLIP weights with OpenAI's or open_clip's names.

    Raises:
        ModelError: no such file, or it is of another kind or size.
    """
    state = _own_clip(path)
    if state is None:
        from hoiclip.checkpoint.official import clip_start

        state = clip_start(path, vocabulary)
    _replace(model, ("clip.", *ROWS), state, f"{path} is a CLIP of another size or vocabulary")


def _replace(model: HOICLIP, prefixes: tuple[str, ...], state: Mapping[str, Tensor], otherwise: str) -> None:
    """All tensors with these prefixes, or a ModelError that begins with `otherwise`."""
    wanted = {key: value.shape for key, value in model.state_dict().items() if key.startswith(prefixes)}
    found = {key: value.shape for key, value in state.items()}
    if found != wanted:
        other = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise ModelError(f"{otherwise} than the model, first in {other[0]}; train it with the same [model] section")
    model.load_state_dict(state, strict=False)


def _own_clip(path: Path) -> dict[str, Tensor] | None:
    """None where the file is of another kind."""
    if not path.is_file():
        raise ModelError(f"expected a CLIP, there is no file {path}; train it first, or name CLIP weights")
    try:
        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}).get("format") != CLIP_FORMAT:
                return None
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError):
        return None


def start_classifiers(model: HOICLIP, vocabulary: Vocabulary, *, text_rows: bool, bias: float) -> None:
    """Classifier rows from text rows (or left random), biases to one value, the verb-to-HOI table filled in."""
    heads = model.heads
    with torch.no_grad():
        if text_rows:
            heads.hoi_classifier.weight.copy_(model.hoi_rows)
            heads.object_classifier.weight.copy_(model.object_rows)
        else:
            for rows in (heads.hoi_classifier.weight, heads.object_classifier.weight):
                rows.copy_(F.normalize(torch.randn_like(rows), dim=-1))
        heads.hoi_classifier.bias.fill_(bias)
        heads.object_classifier.bias.zero_()
        heads.verb_to_hoi.zero_()
        for index, (verb, _) in enumerate(vocabulary.hois):
            heads.verb_to_hoi[verb, index] = 1


@torch.no_grad()
def verb_rows(
    tower: ClipImageTower,
    crops: Iterable[tuple[Tensor, Tensor, Sequence[int], int]],
    vocabulary: Vocabulary,
    fallback: Tensor,
) -> Tensor:
    """Visual semantic arithmetic: what is left of a pair's picture when its object is taken away.

    Args:
        crops: per training pair: picture of both (3, S, S), picture of the object (3, S, S), its HOIs, its object. They
            must come from training data alone: what a split hides must not be among them.
        fallback: (V, E) rows for verbs of which nothing was seen.

    Returns:
        (V, E) unit rows. An HOI without an object is compared with everybody who does something without one; where
        that is nobody else, nothing is left of it and it tells nothing.

    Source: SPEC.md §3, every instance counted.
    """
    embed = tower.projection.shape[1]
    hoi_sum, object_sum = torch.zeros(len(vocabulary.hois), embed), torch.zeros(vocabulary.num_object_classes, embed)
    source = iter(crops)
    while group := list(itertools.islice(source, 64)):
        pictures = torch.stack([picture for pair, thing, _, _ in group for picture in (pair, thing)])
        embedded = tower.embed(tower(pictures)[:, 0]).float().unflatten(0, (-1, 2))
        for (both, alone), (_, _, hois, label) in zip(embedded, group, strict=True):
            hoi_sum[list(hois)] += both
            object_sum[label] += alone
    difference = F.normalize(hoi_sum, dim=-1) - F.normalize(object_sum, dim=-1)[[obj for _, obj in vocabulary.hois]]
    tells = (hoi_sum.abs().sum(1) > 0) & (difference.norm(dim=1) > _NOTHING_LEFT)
    rows = F.normalize(fallback, dim=-1).clone()
    for verb in range(len(vocabulary.verbs)):
        own = [k for k, (v, _) in enumerate(vocabulary.hois) if v == verb and tells[k]]
        if own:
            rows[verb] = F.normalize(difference[own].mean(0), dim=-1)
    return rows


def start_from_scratch(model: HOICLIP) -> None:
    """What pretrained weights would otherwise bring: a backbone for ReLUs, and queries that begin somewhere.

    The instance decoder begins with zeros. With a zero bias its first norm sees exact zeros, whose gradient is 300
    times too large and, clipped by its norm, leaves nothing of all others.
    """
    for part in model.backbone.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    first: Any = model.instance_decoder.layers[0]
    nn.init.normal_(first.self_attention.out.bias, std=0.5)
