"""Non-maximum suppression of human-object pairs; see reference.py for the meaning."""

from hoiclip_kernels.pair_nms.numba_impl import pair_nms
from hoiclip_kernels.pair_nms.reference import example_inputs

__all__ = ["example_inputs", "pair_nms"]
