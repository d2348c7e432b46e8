"""The best (pair, class) combinations of one image by the score rule; see reference.py for the meaning."""

from hoiclip_kernels.pair_decode.numba_impl import pair_decode
from hoiclip_kernels.pair_decode.reference import Decoded, example_inputs

__all__ = ["Decoded", "example_inputs", "pair_decode"]
