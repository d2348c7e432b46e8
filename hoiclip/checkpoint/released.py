"""Table of checkpoints that others have released, by name (released.toml), and where a fetched one lies.

Fetching is fetch.py; nothing here opens a connection.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from hoiclip.core.cache_dirs import cache_base
from hoiclip.core.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = Path(__file__).with_name("released.toml")
Kind = Literal["model", "detr", "clip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One released checkpoint."""

    name: str
    about: str
    kind: Kind
    """model: imported, then a name of --model; detr, clip: initial weights of a recipe."""
    address: str
    google_drive: bool = False
    """The address may answer with a page that asks for a confirmation."""
    sha256: str = ""
    """Hex digest of the released file, or its first digits where only they are known; empty: recorded when fetched."""
    labels: str = ""
    """model: hico or vcoco."""
    split: str = ""
    """model: the zero-shot split it was trained on, as in recipes; empty: all HOIs."""
    metric: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    """The authors' numbers by group, of `metric`, in percent."""
    licence: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or (self.kind == "model") != (self.labels in ("hico", "vcoco")):
            raise ValueError(
                f"{self.name}: expected a model with labels, detr or clip, got {self.kind} {self.labels!r}"
            )
        if not re.fullmatch(r"([0-9a-f]{8,64})?", self.sha256):
            raise ValueError(f"{self.name}: expected hex digits of a SHA-256, got {self.sha256!r}")
        if self.kind == "clip" and len(self.sha256) != 64:  # a TorchScript program: its bytes must be known
            raise ValueError(f"{self.name}: a CLIP needs its whole SHA-256, got {self.sha256!r}")

    @property
    def download_path(self) -> Path:
        """Where the released file lies once it has been downloaded."""
        file = f"{self.name}.pth" if self.google_drive else Path(urlsplit(self.address).path).name
        return cache_base() / "fetched" / file

    @property
    def path(self) -> Path:
        """Where the file to use lies once it has been fetched."""
        match self.kind:
            case "model":
                return cache_base() / "models" / f"{self.name}.safetensors"
            case "clip":
                return self.download_path.with_suffix(".safetensors")
            case _:
                return self.download_path

    @property
    def published_text(self) -> str:
        """Such as "unseen 25.53, seen 34.85, full 32.99 (mAP)"; empty where nothing is known."""
        numbers = ", ".join(f"{group} {value:.2f}" for group, value in self.published.items())
        return f"{numbers} ({self.metric})" if numbers else ""


def released_checkpoints() -> dict[str, Released]:
    """All of the table, by name."""
    with TABLE.open("rb") as file:
        return {name: Released(name=name, **fields) for name, fields in tomllib.load(file).items()}


def find_released(name: str) -> Released:
    """
    Raises:
        UsageError: no checkpoint of that name.
    """
    known = released_checkpoints()
    if name not in known:
        raise UsageError(f"expected the name of a released checkpoint, got {name!r}; known names: {', '.join(known)}")
    return known[name]
