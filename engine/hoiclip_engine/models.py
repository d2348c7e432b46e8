"""Models by name (bundled or imported), by file, or in an exported folder."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from hoiclip.core.cache_dirs import cache_base
from hoiclip.core.errors import ModelError
from hoiclip_engine.export.bundle import bundled_model

SUFFIX = ".safetensors"


def model_folders() -> tuple[Path, ...]:
    """Folders of models that are known by name, in order of precedence."""
    return Path(str(resources.files("hoiclip"))) / "models", cache_base() / "models"


def known_models() -> dict[str, Path]:
    """Files of all known names."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(path.stem, path)
    return found


def find_model(model: str | Path, vocabulary: str | Path | None = None) -> Path:
    """The model file of a name, the file itself, or the one in a folder of `hoiclip export --with-model`.

    Args:
        vocabulary: other words for the model (docs/own_vocabulary.md): "hico", "vcoco", a vocabulary's .json, or the
            .safetensors of its text embeddings. The file is then one in the cache.

    Raises:
        ModelError: none of them, the folder is incomplete, or the vocabulary does not fit.
    """
    path = _find_model(model)
    if vocabulary is None:
        return path
    from hoiclip.checkpoint.open_vocabulary import find_with_vocabulary

    return find_with_vocabulary(path, vocabulary)


def _find_model(model: str | Path) -> Path:
    path = Path(model)
    with contextlib.suppress(OSError, ValueError):  # too long a name, or one with a zero byte, is no file
        if path.is_file():
            return path
    named = known_models()
    if str(model) in named:
        return named[str(model)]
    with contextlib.suppress(OSError, ValueError):
        if path.is_dir():
            return bundled_model(path)
    raise ModelError(
        f"expected a model file or a known name, found neither for {str(model)!r}; known names: {', '.join(named)}"
    )
