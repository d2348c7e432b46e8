"""Text embeddings: prompts through CLIP's tokenizer and text tower, both open_clip's.

Needed when a model file is made, never when a model runs.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hoiclip.checkpoint.state_dict import local_state
from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.cache_dirs import cache_base, cache_folder
from hoiclip.core.errors import ModelError, UsageError
from hoiclip.core.torch_extra import require_torch

_log = logging.getLogger("hoiclip")
_TOWER_PREFIXES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_HEAD_WIDTH = 64
"""Every published CLIP text tower has heads of this width."""
_torchvision_schemas: torch.library.Library | None = None


def open_clip_module() -> ModuleType:
    """open_clip, also beside a torchvision that was built for another torch.

    PyPI's torchvision is built for CUDA; next to a CPU torch its import fails because the schemas of two operators,
    which open_clip never calls, were not registered. Then registering just the schemas is enough. A torchvision that
    works is left alone: its own registration would abort the process.
    """
    global _torchvision_schemas
    require_torch("making text embeddings", "open_clip")
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        if _torchvision_schemas is None:
            _torchvision_schemas = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                _torchvision_schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("open_clip")


def tokenize(prompts: Sequence[str], context: int = 77) -> Tensor:
    """(n, context) int64: start 49406, lower-cased byte pairs, end 49407, zeros."""
    tokenizer = open_clip_module().tokenizer.SimpleTokenizer(context_length=context)
    tokens: Tensor = tokenizer(list(prompts))
    return tokens


def tower_weights(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The text tower's tensors of a CLIP state dict in fp32, `prefix` removed.

    Raises:
        ModelError: it holds no text tower.
    """
    weights = {
        key[len(prefix) :]: value.float()
        for key, value in state.items()
        if key.startswith(prefix) and key[len(prefix) :].startswith(_TOWER_PREFIXES)
    }
    needed = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "text_projection",
              "transformer.resblocks.0.ln_1.weight")  # fmt: skip
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ModelError(f"expected a CLIP text tower, but {', '.join(prefix + name for name in missing)} is missing")
    for name, width_axis in (("token_embedding.weight", 1), ("positional_embedding", 1), ("text_projection", 0)):
        shape = list(weights[name].shape)
        if len(shape) != 2 or 0 in shape or shape[width_axis] % _HEAD_WIDTH:
            raise ModelError(f"expected a CLIP text tower with heads of {_HEAD_WIDTH}, but {prefix}{name} is {shape}")
    return weights


def encode(prompts: Sequence[str], weights: Mapping[str, Tensor]) -> Tensor:
    """Raw text embeddings (n, E) in fp32, not normalised.

    Attention is causal, so the zeros behind the longest prompt change nothing and are left out.

    Args:
        prompts: n texts.
        weights: of the text tower, as `tower_weights` gives them.
    """
    tokens = tokenize(prompts, weights["positional_embedding"].shape[0])
    used = int(tokens.argmax(dim=1).max()) + 1
    tower = _build_tower({**weights, "positional_embedding": weights["positional_embedding"][:used]})
    with torch.inference_mode():
        return torch.cat([tower(batch[:, :used]) for batch in tokens.split(128)])


def _build_tower(weights: Mapping[str, Tensor]) -> torch.nn.Module:
    """open_clip's module, with the sizes of the tensors' shapes."""
    open_clip = open_clip_module()
    context, width = weights["positional_embedding"].shape
    vocabulary = weights["token_embedding.weight"].shape[0]
    layers = {key.split(".")[2] for key in weights if key.startswith("transformer.resblocks.")}
    tower: torch.nn.Module = open_clip.transformer.TextTransformer(
        context_length=context,
        vocab_size=vocabulary,
        width=width,
        heads=width // _HEAD_WIDTH,
        layers=len(layers),
        output_dim=weights["text_projection"].shape[1],
        act_layer=open_clip.transformer.QuickGELU,
    )
    try:
        tower.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelError(f"the CLIP text tower is not of the expected form: {str(error).splitlines()[-1].strip()}")  # noqa: B904
    return tower.eval()


def unit_text_embeddings(prompts: Sequence[str], weights: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """Unit embeddings (n, E), from the cache if these prompts went through these weights before."""
    name = f"{_digest(prompts, weights)}.npy"
    with suppress(OSError, ValueError, EOFError):  # missing or damaged entries are made again
        cached: NDArray[np.float32] = np.load(cache_base() / "text" / name, allow_pickle=False)
        if cached.shape[:1] == (len(prompts),) and np.isfinite(cached).all():
            return cached
    embeddings: NDArray[np.float32] = torch.nn.functional.normalize(encode(prompts, weights), dim=-1).numpy()
    try:
        with atomic_write(cache_folder("text") / name) as temporary, temporary.open("wb") as file:
            np.save(file, embeddings, allow_pickle=False)
    except OSError as error:
        _log.warning("text embeddings are not cached: %s", error)
    return embeddings


def _digest(prompts: Iterable[str], weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256("\n".join(prompts).encode())
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(weights[key].numpy()).tobytes())
    return digest.hexdigest()


def load_tower(model: str, weights: str) -> dict[str, Tensor]:
    """The text tower of an open_clip model.

    Args:
        model: open_clip's name, e.g. "ViT-B-32-quickgelu"; only used with a download.
        weights: a local state dict (.safetensors, .pt, .pth) or a name open_clip downloads, e.g. "openai".

    Raises:
        ModelError: the file is not a CLIP state dict.
        UsageError: neither a file nor something open_clip could download.
    """
    path = Path(weights)
    if path.suffix in (".safetensors", ".pt", ".pth", ".bin"):
        return tower_weights(local_state(path))
    try:
        clip = open_clip_module().create_model(model, pretrained=weights)
    except Exception as error:  # open_clip raises whatever its downloader raises
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"open_clip could not load {model} with weights {weights!r} ({first}); "
            "give a local file with --weights FILE.safetensors"
        ) from error
    return tower_weights(clip.state_dict())
