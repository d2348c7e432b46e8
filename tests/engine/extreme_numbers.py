"""Extreme numbers for hypothesis: not finite, or finite and so large or small that arithmetic fails."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

_LARGEST, _SMALLEST = float(np.finfo(np.float64).max), float(np.finfo(np.float64).smallest_subnormal)
_LARGEST_32, _SMALLEST_32 = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal)


def _numbers(*sizes: float) -> st.SearchStrategy[float]:
    return st.sampled_from([*sizes, *(-size for size in sizes), 0.0, -0.0, np.inf, -np.inf, np.nan])


extreme_64 = _numbers(_LARGEST, 1e200, _LARGEST_32, 1e12, 1e-200, _SMALLEST)
extreme_32 = _numbers(_LARGEST_32, 2.0**100, 2.0**40, 2.0**-100, _SMALLEST_32)
