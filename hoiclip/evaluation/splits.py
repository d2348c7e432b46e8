"""Groups of HOI classes that are averaged on their own: rare and non-rare, unseen and seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hoiclip.data.untrusted import fields, index, items
from hoiclip.errors import UsageError
from hoiclip.foreign_file import read_json
from hoiclip.vocabulary import VOCABULARIES, Vocabulary, load_vocabulary

DRAWN = "drawn"
RARE = "default"
"""Name of the split by number of training instances, as upstream calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """HOI classes inside, and all others."""

    name: str
    inside: frozenset[int]
    inside_name: str = "unseen"
    outside_name: str = "seen"


def split_of(name: str, hois: Iterable[int]) -> Split:
    """A split whose two sides are called as upstream calls them."""
    sides = {
        RARE: ("rare", "non-rare"),
        "rare": ("rare", "non-rare"),
        "unseen_object": ("unseen-obj", "seen-obj"),
    }.get(name, ("unseen", "seen"))
    return Split(name=name, inside=frozenset(hois), inside_name=sides[0], outside_name=sides[1])


def bundled_splits(vocabulary: Vocabulary) -> dict[str, Split]:
    """By name, the rare one first: the paper's for HICO, our own for the drawn world, none for others."""
    if vocabulary.name == DRAWN:
        return _drawn_splits(vocabulary)
    if vocabulary.name not in VOCABULARIES or vocabulary.hois != load_vocabulary(vocabulary.name).hois:
        return {}
    data = json.loads(resources.files("hoiclip").joinpath(f"vocabularies/{vocabulary.name}.json").read_text("utf-8"))
    lists = {RARE: data.get("rare_hois", ()), **{k: v for k, v in data.get("unseen_hois", {}).items() if v}}
    return {name: split_of(name, hois) for name, hois in lists.items() if hois}


def _drawn_splits(vocabulary: Vocabulary) -> dict[str, Split]:
    from hoiclip.data.drawn.splits import SPLIT_NAMES, split_named
    from hoiclip.data.drawn.vocabulary import drawn_vocabulary

    if vocabulary.hois != drawn_vocabulary().hois:
        return {}
    named = [split_named(name) for name in SPLIT_NAMES]
    return {one.name: split_of(one.name, one.rare_hois if one.name == RARE else one.unseen_hois) for one in named}


def read_splits(path: Path, vocabulary: Vocabulary) -> dict[str, Split]:
    """Splits of an own vocabulary: {"rare": [HOI index, ...], "any name of unseen ones": [...]}.

    Raises:
        UsageError: not readable, or not of that form.
    """
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"expected a JSON file of splits, {path} is none ({error})") from error
    try:
        return {
            name: split_of(name, [index(hoi, "an HOI", len(vocabulary.hois)) for hoi in items(hois, ascii(name)[:40])])
            for name, hois in fields(data, "a file of splits").items()
        }
    except ValueError as error:
        raise UsageError(f"{path} must map names to lists of HOI indices: {error}") from error
