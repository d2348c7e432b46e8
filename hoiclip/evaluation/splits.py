"""Groups of HOI classes that are averaged on their own: rare and non-rare, unseen and seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hoiclip.core.errors import UsageError
from hoiclip.core.foreign_file import read_json
from hoiclip.core.untrusted_values import fields, index, items
from hoiclip.core.vocabulary import VOCABULARIES, Vocabulary, load_vocabulary

RARE = "default"
"""Name of the split by number of training instances, as upstream calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """HOI classes in two sides: those inside, and all others."""

    name: str
    inside: frozenset[int]
    inside_name: str = "unseen"
    outside_name: str = "seen"


def named_split(name: str, hois: Iterable[int]) -> Split:
    """A split whose sides have upstream's names."""
    sides = {
        RARE: ("rare", "non-rare"),
        "rare": ("rare", "non-rare"),
        "unseen_object": ("unseen-obj", "seen-obj"),
    }.get(name, ("unseen", "seen"))
    return Split(name=name, inside=frozenset(hois), inside_name=sides[0], outside_name=sides[1])


def bundled_splits(vocabulary: Vocabulary) -> dict[str, Split]:
    """Splits by name, the rare one first: the paper's for HICO, our own for the synthetic world, none for others."""
    if vocabulary.name not in VOCABULARIES:
        return _synthetic_splits(vocabulary)
    if vocabulary.hois != load_vocabulary(vocabulary.name).hois:
        return {}
    data = json.loads(resources.files("hoiclip").joinpath(f"vocabularies/{vocabulary.name}.json").read_text("utf-8"))
    lists = {RARE: data.get("rare_hois", ()), **{k: v for k, v in data.get("unseen_hois", {}).items() if v}}
    return {name: named_split(name, hois) for name, hois in lists.items() if hois}


def _synthetic_splits(vocabulary: Vocabulary) -> dict[str, Split]:
    from hoiclip.synthetic.splits import SPLIT_NAMES, synthetic_split
    from hoiclip.synthetic.vocabulary import is_synthetic

    if not is_synthetic(vocabulary):
        return {}
    splits = [synthetic_split(name) for name in SPLIT_NAMES]
    return {
        split.name: named_split(split.name, split.rare_hois if split.name == RARE else split.unseen_hois)
        for split in splits
    }


def read_splits(path: Path, vocabulary: Vocabulary) -> dict[str, Split]:
    """Reads splits of a user's vocabulary: {"rare": [HOI index, ...], "any name of unseen ones": [...]}.

    Raises:
        UsageError: not readable, or not of that form.
    """
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"expected a JSON file of splits, {path} is none ({error})") from error
    try:
        return {
            name: named_split(
                name, [index(hoi, "an HOI", len(vocabulary.hois)) for hoi in items(hois, ascii(name)[:40])]
            )
            for name, hois in fields(data, "a file of splits").items()
        }
    except ValueError as error:
        raise UsageError(f"{path} must map names to lists of HOI indices: {error}") from error
