"""Tests where torch is not installed: those that need it or another extra are skipped and say so, all others run.

Nothing of this acts where torch is there. tests/fresh counts what has run without it: nothing passes by skipping.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from hoiclip.core.errors import BackendMissing
from hoiclip.core.torch_extra import EXTRA

HAS_TORCH = importlib.util.find_spec("torch") is not None
PACKAGES = {"torch", "onnx", "onnxscript", "open_clip", "nncf", "triton", "pyarrow", "jsonschema", "gdown"}
"""What an edge box lacks: torch and what only works with it, and what the extras `archive` and `dev` bring."""
ROOT = Path(__file__).resolve().parent.parent


class NeedsTorch(pytest.Module):
    """A file of tests that imports torch, or something that does."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("torch or an extra is not installed", allow_module_level=True)


def needs_torch(test_file: Path) -> bool:
    """Whether it cannot be imported for want of torch; other errors are reported by the collection."""
    try:
        importlib.import_module(".".join(test_file.relative_to(ROOT).with_suffix("").parts))
    except pytest.skip.Exception:
        return False  # it says so itself; here it would skip the whole folder
    except Exception as error:
        return is_about_torch(error)
    return False


def is_about_torch(error: Exception) -> bool:
    if isinstance(error, BackendMissing):
        return EXTRA in str(error)
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in PACKAGES
