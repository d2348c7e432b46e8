"""Inputs that differ from run to run, so that a kernel cannot be right by one lucky example."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """Fresh in every run; HOICLIP_TEST_SEED repeats a failed one."""
    chosen = int(os.environ.get("HOICLIP_TEST_SEED") or random.SystemRandom().randrange(2**31))
    print(f"HOICLIP_TEST_SEED={chosen}")  # shown where the test fails
    return chosen
