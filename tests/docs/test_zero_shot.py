"""The page on zero-shot names the splits and recipes that exist, and hides what it says."""

from __future__ import annotations

import re

import pytest

from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.evaluation.splits import RARE, bundled_splits
from hoiclip.synthetic.vocabulary import named_vocabulary
from hoiclip.training.recipe import read_recipe
from website.links import ROOT

PAGE = (ROOT / "docs/zero_shot.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| ([\w-]+) \| `(\w+)` \| (\d+) \| `(\w+\.toml)` \|$", PAGE, flags=re.MULTILINE)


def test_page_names_every_bundled_split_once() -> None:
    known = [(split, name) for name in ("hico", "drawn") for split in bundled_splits(named_vocabulary(name))]
    assert sorted((split, name) for split, _, name, *_ in ROWS) == sorted(row for row in known if row[0] != RARE)
    assert set(bundled_splits(load_vocabulary("vcoco"))) <= {RARE}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_split_hides_what_the_page_says(row: tuple[str, ...]) -> None:
    split, setting, name, count, recipe = row
    vocabulary = named_vocabulary(name)
    known = bundled_splits(vocabulary)
    hidden, rare = known[split].inside, known[RARE].inside
    pairs = [(index in hidden, *hoi) for index, hoi in enumerate(vocabulary.hois)]
    only_hidden_verbs, only_hidden_objects = (
        {pair[i] for pair in pairs if pair[0]} - {pair[i] for pair in pairs if not pair[0]} for i in (1, 2)
    )
    assert len(hidden) == int(count)
    assert read_recipe(ROOT / "hoiclip/recipes" / recipe).data.split == split
    match setting:
        case "RF-UC":
            assert hidden <= rare
            assert only_hidden_verbs | only_hidden_objects == set()
        case "NF-UC":
            assert hidden & rare == set()
            assert only_hidden_verbs | only_hidden_objects == set()
        case "UC":
            assert not only_hidden_objects
        case "UO":
            assert {obj for inside, _, obj in pairs if inside} == only_hidden_objects
        case "UV":
            assert {verb for inside, verb, _ in pairs if inside} == only_hidden_verbs
            assert not only_hidden_objects
