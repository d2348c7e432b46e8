"""What a model's weights are before the first step: CLIP's tower, text rows, verb rows, DETR."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hoiclip.errors import ModelError
from hoiclip.model import HOICLIP
from hoiclip.model.clip_image import ClipImageTower
from hoiclip.vocabulary import Vocabulary

CLIP_FORMAT = "hoiclip-clip/1"
ROWS = ("hoi_rows", "object_rows", "verb_rows")


def save_clip(path: Path, tower: Mapping[str, Tensor], rows: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """A CLIP as HOICLIP needs it: the image tower's tensors and the vocabulary's unit text rows."""
    tensors = {f"clip.{key}": value.float().contiguous() for key, value in tower.items()}
    tensors.update({name: rows[name].float().contiguous() for name in ROWS})
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata={"format": CLIP_FORMAT, "notes": json.dumps(dict(notes))})
    part.replace(path)


def load_clip(model: HOICLIP, path: Path) -> dict[str, Any]:
    """Puts tower and text rows into a model; returns the file's notes.

    Raises:
        ModelError: no such file, or it is of another kind or size.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ModelError(f"expected a CLIP made by hoiclip train, {path} is none; train it first") from error
    if metadata.get("format") != CLIP_FORMAT:
        raise ModelError(f"{path} is no CLIP made by hoiclip train (format {metadata.get('format')!r}); train it first")
    own = model.state_dict()
    wanted = {key: value.shape for key, value in own.items() if key.startswith("clip.") or key in ROWS}
    found = {key: value.shape for key, value in state.items()}
    if found != wanted:
        other = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise ModelError(
            f"{path} is a CLIP of another size or vocabulary, first in {other[0]}; train it with this model"
        )
    model.load_state_dict(state, strict=False)
    notes: dict[str, Any] = json.loads(metadata.get("notes", "{}"))
    return notes


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
        (V, E) unit rows.

    Source: SPEC.md §3, every instance counted.
    """
    embed = tower.projection.shape[1]
    hoi_sum, object_sum = torch.zeros(len(vocabulary.hois), embed), torch.zeros(vocabulary.num_object_classes, embed)
    for pair, thing, hois, label in crops:
        both, alone = tower.embed(tower(torch.stack([pair, thing]))[:, 0]).float()
        hoi_sum[list(hois)] += both
        object_sum[label] += alone
    seen = hoi_sum.abs().sum(1) > 0
    difference = F.normalize(hoi_sum, dim=-1) - F.normalize(object_sum, dim=-1)[[obj for _, obj in vocabulary.hois]]
    rows = F.normalize(fallback, dim=-1).clone()
    for verb in range(len(vocabulary.verbs)):
        own = [k for k, (v, _) in enumerate(vocabulary.hois) if v == verb and seen[k]]
        if own:
            rows[verb] = F.normalize(difference[own].mean(0), dim=-1)
    return rows


def he_start(module: nn.Module) -> None:
    """Convolutions followed by ReLU, for a backbone from scratch."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
