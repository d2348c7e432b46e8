"""Models by name, those bundled with the package and those a user has imported; model files and exported folders."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from hoiclip.cache import cache_base
from hoiclip.errors import ModelError
from hoiclip_engine.graph_folder import model_in

SUFFIX = ".safetensors"


def model_folders() -> tuple[Path, ...]:
    """Where names are looked up, in this order."""
    return Path(str(resources.files("hoiclip"))) / "models", cache_base() / "models"


def known_models() -> dict[str, Path]:
    """Name to file."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(path.stem, path)
    return found


def find_model(model: str | Path) -> Path:
    """The file of a name, or the file itself, or that in a folder of `hoiclip export --with-model`.

    Raises:
        ModelError: neither of them, or the folder is not whole.
    """
    path = Path(model)
    with contextlib.suppress(OSError, ValueError):  # too long a name, or one with a zero byte, is no file
        if path.is_file():
            return path
    named = known_models()
    if str(model) in named:
        return named[str(model)]
    with contextlib.suppress(OSError, ValueError):
        if path.is_dir():
            return model_in(path)
    raise ModelError(
        f"expected a model file or a known name, found neither for {str(model)!r}; known names: {', '.join(named)}"
    )
