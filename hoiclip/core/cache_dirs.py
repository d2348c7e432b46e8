"""Cache directories of results that can be recomputed: text embeddings, exported graphs, compiled engines."""

from __future__ import annotations

import os
from pathlib import Path


def cache_base() -> Path:
    """$HOICLIP_CACHE, else $XDG_CACHE_HOME/hoiclip, else ~/.cache/hoiclip; no folder is made."""
    cache = os.environ.get("HOICLIP_CACHE")
    return Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hoiclip"


def cache_folder(kind: str) -> Path:
    """A folder below cache_base() that only this user can read, made where it is missing.

    Raises:
        OSError: it cannot be made.
    """
    base = cache_base()
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = base / kind
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder
