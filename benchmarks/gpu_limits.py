"""Limits of GPUs by name: bytes moved, and operations in half precision on dense matrices."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch


class GpuLimits(NamedTuple):
    bytes_per_s: float
    half_operations_per_s: float
    """fp16 or bf16 in tensor cores, a product and a sum being two."""


GPU_LIMITS = {
    # NVIDIA's data sheets; where they count with sparsity, half of it.
    "H100 PCIe": GpuLimits(2.0e12, 756e12),
    "H100 NVL": GpuLimits(3.9e12, 835e12),
    "H100": GpuLimits(3.35e12, 989e12),  # SXM
    "H200 NVL": GpuLimits(4.8e12, 835e12),
    "H200": GpuLimits(4.8e12, 989e12),  # SXM
    "A100": GpuLimits(2.039e12, 312e12),  # SXM, 80 GB; others move less
    "L4": GpuLimits(0.3e12, 121e12),
    # AGX Orin 64 GB in MAXN: 170 sparse int8 TOPS of its GPU are 42.5 dense halves. NX and Nano have the same name.
    "Orin": GpuLimits(0.2048e12, 42.5e12),
}
"""By a word of the device's name; the first that fits counts."""


def gpu_limits(device: str | None = None) -> GpuLimits | None:
    """Limits of this machine's GPU, or of the device of that name; None where they are unknown."""
    name = torch.cuda.get_device_name() if device is None else device
    return next((limit for short_name, limit in GPU_LIMITS.items() if re.search(rf"\b{short_name}\b", name)), None)
