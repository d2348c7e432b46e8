"""Non-maximum suppression of human-object pairs. Meaning and shapes: reference.py."""

from __future__ import annotations

import numpy as np

from hoiclip_kernels.dispatch import pick
from hoiclip_kernels.pair_nms.reference import F32, F64, I64, example_inputs

__all__ = ["example_inputs", "pair_nms"]


def pair_nms(
    human_boxes_xyxy: F32,
    object_boxes_xyxy: F32,
    class_n: I64,
    score_n: F64,
    threshold: float,
    human_power: float,
    object_power: float,
    *,
    implementation: str | None = None,
) -> I64:
    """See reference.pair_nms. Tensors of a GPU are handled there, and stay there.

    Raises:
        ValueError: the arrays are not of one length (compiled code reads memory without checking).
    """
    n = score_n.shape[0]
    if human_boxes_xyxy.shape != (n, 4) or object_boxes_xyxy.shape != (n, 4) or class_n.shape != (n,):
        raise ValueError(
            f"expected boxes ({n}, 4) and classes ({n},) for {n} scores, got {human_boxes_xyxy.shape}, "
            f"{object_boxes_xyxy.shape} and {class_n.shape}"
        )
    module = pick("pair_nms", implementation, "numba" if isinstance(score_n, np.ndarray) else "triton")
    kept: I64 = module.pair_nms(
        human_boxes_xyxy, object_boxes_xyxy, class_n, score_n, threshold, human_power, object_power
    )
    return kept
