"""Boxes and scores that make no sense, for hypothesis: an operator must agree with its reference about them too."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal)
_numbers = st.sampled_from(
    [0.0, 1.0, 5.0, -3.0, 100.0, _LARGEST, -_LARGEST, 2.0**70, _SMALLEST, np.nan, np.inf, -np.inf]
)


@st.composite
def nonsense_pairs(draw: st.DrawFn, most: int) -> tuple[Any, Any, Any, Any]:
    """The arrays pair_nms takes, of up to `most` pairs."""
    n = draw(st.integers(1, most))
    humans, objects = (draw(hnp.arrays(np.float32, (n, 4), elements=_numbers)) for _ in range(2))
    classes = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 2)))
    return humans, objects, classes, draw(hnp.arrays(np.float64, n, elements=_numbers))
