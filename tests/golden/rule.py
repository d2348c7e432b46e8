"""The rule that generates the golden weights and inputs from a salt and a name; numpy only.

870 MB of fixtures are too much to ship: every tensor follows from its official state-dict key. Held against probes by
tests/parity/test_weights_rule.py.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hoiclip.core.vocabulary import load_vocabulary

PUBLIC_SALT = "hoi-golden/public-1|"
_QUERIES = ("query_embed_h.weight", "query_embed_o.weight", "pos_guided_embedd.weight")
_EMBEDDINGS = ("inter_guided_embedd.weight", "token_embedding.weight", "positional_embedding", "class_embedding")


def normals(key: str, shape: tuple[int, ...], salt: str) -> NDArray[np.float64]:
    """Standard normals in C order from PCG64(crc32(salt + key))."""
    seed = zlib.crc32((salt + key).encode()) & 0xFFFFFFFF
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def golden_tensor(key: str, shape: tuple[int, ...], salt: str) -> NDArray[np.float32]:
    """One tensor of the official layout; not for the verb2hoi matrices."""
    if shape == ():
        return np.asarray(np.log(1.0 / 0.07), dtype=np.float32)
    n = normals(key, shape, salt)
    if key.endswith("running_var"):
        value = 1.0 + 0.1 * np.abs(n)
    elif key.endswith("running_mean"):
        value = 0.05 * n
    elif key.endswith(_QUERIES):
        value = n
    elif key.endswith(_EMBEDDINGS):
        value = 0.5 * n
    elif key.endswith("bias"):
        value = 0.02 * n
    elif len(shape) == 1:
        value = (1.0 + 0.02 * n) * (0.4 if key.endswith("bn3.weight") else 1.0)
    elif key.endswith(("visual.proj", "text_projection")):
        value = n / np.sqrt(shape[0])
    else:
        value = _filters(key, shape, n)
    return value.astype(np.float32)


def _filters(key: str, shape: tuple[int, ...], n: NDArray[np.float64]) -> NDArray[np.float64]:
    axes = tuple(range(1, len(shape)))
    value = (n - n.mean(axis=axes, keepdims=True)) / np.sqrt(int(np.prod(shape[1:])))
    interaction = "clip_interaction_decoder" in key
    if key.startswith("backbone.") and len(shape) == 4:
        value *= np.sqrt(2.0)
    elif key.endswith("in_proj_weight"):
        value[: 2 * shape[1]] *= 2.5 if interaction else 1.5
    elif key.endswith("multihead_attn.out_proj.weight"):
        value *= 0.5 if interaction else 3.0
    elif interaction and key.endswith(("self_attn.out_proj.weight", "linear2.weight")):
        value *= 0.25
    elif key.endswith("bbox_embed.layers.2.weight"):
        value *= 2.0
    return value


def official_keys(layout: str) -> dict[str, tuple[int, ...]]:
    """Key to shape of an official checkpoint: "hico", "vcoco" or "hico_zeroshot_rare_first"."""
    data = json.loads((Path(__file__).parent / "keys.json").read_text())
    keys = dict(data["hico"])
    if layout != "hico":
        for key in data[layout]["absent"]:
            del keys[key]
        keys.update(data[layout]["changed"])
    return {key: tuple(shape) for key, shape in keys.items()}


def verb_to_hoi(labels: str, columns: list[int] | None = None) -> NDArray[np.float32]:
    """HICO: 1 at [verb, hoi]. V-COCO as released: 1 at [verb, object id], an upstream bug that weights depend on."""
    vocabulary = load_vocabulary(labels)
    matrix = np.zeros((len(vocabulary.verbs), len(vocabulary.hois)), np.float32)
    for index, (verb, obj) in enumerate(vocabulary.hois):
        matrix[verb, obj if labels == "vcoco" else index] = 1
    return matrix if columns is None else matrix[:, columns]


def golden_state(layout: str, salt: str, unseen: list[int] | None = None) -> dict[str, NDArray[np.float32]]:
    """A whole official state dict.

    Args:
        layout: as for official_keys.
        salt: of the fixture set.
        unseen: HOI classes left out of the zero-shot training classifier.
    """
    labels = "vcoco" if layout == "vcoco" else "hico"
    seen = [k for k in range(600) if k not in set(unseen)] if unseen else None
    return {
        key: verb_to_hoi(labels, seen if key == "verb2hoi_proj" else None)
        if key.startswith("verb2hoi_proj")
        else golden_tensor(key, shape, salt)
        for key, shape in official_keys(layout).items()
    }


def golden_image(name: str, h: int, w: int, salt: str) -> NDArray[np.float32]:
    """Normalised network input (3, h, w): 16-pixel blocks of colour and white noise."""
    coarse = normals(f"input:{name}/coarse", (3, -(-h // 16), -(-w // 16)), salt)
    fine = normals(f"input:{name}/fine", (3, h, w), salt)
    blocks = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)[:, :h, :w]
    return (blocks + 0.25 * fine).astype(np.float32)


def golden_photo(name: str, h: int, w: int, salt: str) -> NDArray[np.uint8]:
    """RGB image (h, w, 3) of 24-pixel blocks."""
    coarse = normals(f"input:{name}/coarse", (-(-h // 24), -(-w // 24), 3), salt)
    fine = normals(f"input:{name}/fine", (h, w, 3), salt)
    blocks = np.repeat(np.repeat(coarse, 24, axis=0), 24, axis=1)[:h, :w]
    return np.clip(np.floor(blocks * 55.0 + 127.5 + 8.0 * fine), 0, 255).astype(np.uint8)
