"""What a GPU could do at most, by its name: bytes moved, and operations in half precision on dense matrices."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch


class Limits(NamedTuple):
    bytes_per_s: float
    half_operations_per_s: float
    """fp16 or bf16 in tensor cores, a product and a sum being two."""


LIMITS = {
    # NVIDIA's data sheets; where they count with sparsity, half of it.
    "H100 PCIe": Limits(2.0e12, 756e12),
    "H100 NVL": Limits(3.9e12, 835e12),
    "H100": Limits(3.35e12, 989e12),  # SXM
    "H200 NVL": Limits(4.8e12, 835e12),
    "H200": Limits(4.8e12, 989e12),  # SXM
    "A100": Limits(2.039e12, 312e12),  # SXM, 80 GB; others move less
    "L4": Limits(0.3e12, 121e12),
    # AGX Orin 64 GB in MAXN: 170 sparse int8 TOPS of its GPU are 42.5 dense halves. NX and Nano have the same name.
    "Orin": Limits(0.2048e12, 42.5e12),
}
"""The first name that is part of the device's counts."""


def limits(device: str | None = None) -> Limits | None:
    """Of this machine's GPU, or of the device of that name; None where they are not known."""
    name = torch.cuda.get_device_name() if device is None else device
    return next((limit for part, limit in LIMITS.items() if re.search(rf"\b{part}\b", name)), None)
