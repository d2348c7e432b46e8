"""Salt of a fixture set and models made of golden weights, for the parity tests."""

from __future__ import annotations

from pathlib import Path

from tests.golden.rule import golden_image, golden_photo

__all__ = ["golden_image", "golden_photo", "salt"]


def salt(parity_dir: Path) -> str:
    """Every set of fixtures has its own."""
    return (parity_dir / "salt.txt").read_text(encoding="utf-8").strip()
