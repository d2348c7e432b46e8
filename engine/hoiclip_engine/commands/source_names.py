"""File names for the results of several sources: short, safe everywhere, unique, and without credentials."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from hoiclip_engine.video.redact import HIDDEN, is_url

LONGEST = 80


def file_names(sources: Sequence[str]) -> list[str]:
    """One per source, in order, without an ending.

    Args:
        sources: printable names, as Address.name has them. A path gives its file's name, a URL its host and path.
    """
    taken: set[str] = set()
    names = []
    for source in sources:
        plain = _plain(source)
        name, number = plain, 1
        while name.lower() in taken:  # some file systems know no upper case
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _plain(source: str) -> str:
    if is_url(source):
        address = source.partition("://")[2].partition("?")[0].partition("#")[0]
        text = address.replace(HIDDEN, "").replace("/", "_")
    else:
        text = PurePath(source).stem
    text = re.sub(r"[^\w.\-]+", "_", text).strip("._-")[:LONGEST]
    return text or "source"
