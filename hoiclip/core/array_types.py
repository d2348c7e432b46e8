"""Names of numpy array types by element; shapes are part of variable names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
RGB = NDArray[np.uint8]
"""(H, W, 3) image, red first."""
