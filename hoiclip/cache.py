"""Where things that can be made again are kept: text rows, exported graphs, compiled engines."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """A folder only this user can read, below $HOICLIP_CACHE, else $XDG_CACHE_HOME/hoiclip, else ~/.cache/hoiclip."""
    chosen = os.environ.get("HOICLIP_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hoiclip"
    folder = base / kind
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
