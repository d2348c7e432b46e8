"""The best (pair, class) combinations of one image by the score rule. Meaning and shapes: reference.py."""

from __future__ import annotations

import numpy as np

from hoiclip_kernels.dispatch import pick
from hoiclip_kernels.pair_decode.reference import F32, F64, I64, Decoded, example_inputs

__all__ = ["Decoded", "example_inputs", "pair_decode"]


def pair_decode(
    hoi_prob_qk: F32,
    object_prob_qo: F32,
    object_of_hoi_k: I64,
    class_of_hoi_k: I64,
    num_classes: int,
    weight_qc: F64 | None,
    top_k: int,
    *,
    implementation: str | None = None,
) -> Decoded:
    """See reference.pair_decode. Tensors of a GPU are decoded there, and stay there.

    Raises:
        ValueError: shapes that do not belong together, or an object or class out of range (compiled code reads
            memory without checking).
    """
    num_queries, num_hois = hoi_prob_qk.shape
    weights = (num_queries, num_classes) if weight_qc is None else tuple(weight_qc.shape)
    if object_prob_qo.shape[0] != num_queries or weights != (num_queries, num_classes):
        raise ValueError(
            f"expected {num_queries} queries and {num_classes} classes, got objects {tuple(object_prob_qo.shape)} and "
            f"weights {weights}"
        )
    on_host = isinstance(hoi_prob_qk, np.ndarray)
    if on_host:
        _require_indices("object_of_hoi_k", object_of_hoi_k, num_hois, object_prob_qo.shape[1])
        _require_indices("class_of_hoi_k", class_of_hoi_k, num_hois, num_classes)
    module = pick("pair_decode", implementation, "numba" if on_host else "triton")
    found: Decoded = module.pair_decode(
        hoi_prob_qk, object_prob_qo, object_of_hoi_k, class_of_hoi_k, num_classes, weight_qc, top_k
    )
    return found


def _require_indices(name: str, index_k: I64, length: int, stop: int) -> None:
    if index_k.shape != (length,) or (length and not (index_k.min() >= 0 and index_k.max() < stop)):
        raise ValueError(f"{name} must hold {length} indices in 0..{stop - 1}, got shape {tuple(index_k.shape)}")
