"""Inputs that differ from run to run, so that a kernel cannot be right by one lucky example; Triton without a GPU."""

from __future__ import annotations

import os
import random

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined: before any module with kernels is imported


@pytest.fixture
def seed() -> int:
    """Fresh in every run; HOICLIP_TEST_SEED repeats a failed one."""
    chosen = int(os.environ.get("HOICLIP_TEST_SEED") or random.SystemRandom().randrange(2**31))
    print(f"HOICLIP_TEST_SEED={chosen}")  # shown where the test fails
    return chosen
