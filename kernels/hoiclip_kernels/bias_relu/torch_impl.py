"""bias_relu with torch's own operators, on any device. In a half type it rounds after each of them."""

from __future__ import annotations

from torch import Tensor


def bias_relu(x: Tensor, bias: Tensor, added: Tensor | None, valid: Tensor | None) -> Tensor:
    """See reference.bias_relu."""
    x.add_(bias[:, None, None])
    if added is not None:
        x.add_(added)
    x.relu_()
    return x if valid is None else x.mul_(valid)
