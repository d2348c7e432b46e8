"""README and docs quote only numbers with a committed result line behind them, rounded as they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.quoted_numbers import ROOT, SOURCES, Block, agrees, blocks, is_quoted, numbers, unquoted, value

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> list[Block]:
    return quoted(request.param)


def quoted(path: Path) -> list[Block]:
    sources = SOURCES.read_text(encoding="utf-8")
    return blocks(path.read_text(encoding="utf-8"), sources, path.relative_to(ROOT).as_posix())


def test_every_quoted_number_is_what_its_result_line_says(document: list[Block]) -> None:
    known = numbers(document)
    for block in document:
        for quote in block.quotes:
            values = value(quote, known=known)
            assert agrees(quote, values), f"line {block.line}: {quote.shown} is quoted, {quote.file} says {values}"
            assert is_quoted(quote, block), f"line {block.line}: {quote.shown} does not stand in the text before it"


def test_no_measured_number_is_without_a_result_line(document: list[Block]) -> None:
    for block in document:
        found = unquoted(block)
        assert not found, f"line {block.line}: where were {found} measured? Name the result line in docs/numbers.toml"


def test_what_is_given_stands_in_the_text(document: list[Block]) -> None:
    for block in document:
        text = " ".join(block.text.split())
        assert all(number == "table" or number in text for number in block.given), f"line {block.line}: {block.given}"


def test_readme_quotes_numbers() -> None:
    assert sum(len(block.quotes) for block in quoted(DOCUMENTS[0])) >= 10


# The mechanism itself.


@pytest.fixture
def results(tmp_path: Path) -> Path:
    lines = [
        {"arm": "a", "speed": {"up": 1.239}, "n": 1},
        {"arm": "a", "speed": {"up": 1.449}, "n": 2},
        {"arm": "b", "speed": {"up": 3.0}, "n": 3},
    ]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def quote(text: str, rows: str = "", *, given: str = "", head: str = "made.jsonl") -> Block:
    """The only block of a document, with what a file of sources says of it."""
    sources = ""
    if rows:
        sources = f"[[quoted]]\ndocument = ''\nblock = ''\nfrom = '{head}'\nnumbers = '{rows}'\n"
    if given:
        sources += f"[[given]]\ndocument = ''\nblock = ''\nnumbers = ['{given}']\n"
    (block,) = blocks(text, sources)
    return block


@pytest.mark.parametrize(
    ("text", "head", "row", "right"),
    [
        ("It is 1.45 ms.", "made.jsonl", "1.45 = speed.up; arm=a", True),  # the last line that fits
        ("It is 1.4 ms.", "made.jsonl", "1.4 = speed.up; arm=a", True),
        ("It is 1.44 ms.", "made.jsonl", "1.44 = speed.up; arm=a", False),
        ("It is 1.24 ms.", "made.jsonl", "1.24 = speed.up; arm=a; n=1", True),
        ("It is 145 ms.", "made.jsonl; arm=a", "145 = 100 * speed.up", True),
        ("It is 1.34 ± 0.15.", "made.jsonl", "1.34 ± 0.15 = mean speed.up; arm=a", True),
        ("It is 1.34 ± 0.2.", "made.jsonl", "1.34 ± 0.2 = speed.up; arm=a", False),
    ],
)
def test_number_is_right_when_it_is_rounded_from_its_line(
    results: Path, text: str, head: str, row: str, right: bool
) -> None:
    (only,) = quote(text, row, head=head).quotes
    assert agrees(only, value(only, results)) is right


def test_line_or_field_that_does_not_exist_is_an_error(results: Path) -> None:
    for row in ("1 = speed.up; arm=c", "1 = speed; arm=a", "1 = nothing; arm=a"):
        (only,) = quote("It is 1 ms.", row).quotes
        with pytest.raises(ValueError, match=r"no line|expected a number"):
            value(only, results)


def test_difference_is_of_quoted_numbers_only(results: Path) -> None:
    (only,) = quote("Gains 1.7 points.", "1.7 = 20.0 - 18.3").quotes
    assert agrees(only, value(only, results, frozenset(("20.0", "18.3"))))
    with pytest.raises(ValueError, match=r"18\.3 is not quoted"):
        value(only, results, frozenset(("20.0",)))


def test_entry_names_exactly_one_block() -> None:
    for words in ("nowhere", "It"):
        sources = f"[[given]]\ndocument = ''\nblock = '{words}'\nnumbers = ['30 fps']\n"
        with pytest.raises(ValueError, match="expected one block"):
            blocks("It is 30 fps.\n\nIt is more.", sources)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("It is 2.5 times as fast.", ""),
        ("Inference takes 12 ms here.", ""),
        ("At 61.9 mAP it is good.", ""),
        ("It runs at 30 fps.", ""),
        ("That is 1,200 frames a second.", ""),
        ("HOTA 49.95 against 46.48", ""),
        ("| who | times |\n|---|---|\n| we | 2.5 |", ""),
        ("| who | times |\n|---|---|\n| we | 20.0 ± 0.8 |", "2.5 = speed.up; arm=a"),
    ],
)
def test_measured_number_without_a_line_is_found(text: str, row: str) -> None:
    assert unquoted(quote(text, row))


@pytest.mark.parametrize(
    ("text", "row", "given"),
    [
        ("Any camera of 30 fps will do.", "", "30 fps"),
        ("| limit | points |\n|---|---|\n| fp16 | 0.2 |", "", "table"),
        ("| who | times |\n|---|---|\n| we | 2.5 |", "2.5 = speed.up; arm=a", ""),
        ("Version 2.5 of 2026.", "", ""),
    ],
)
def test_number_that_is_accounted_for_or_not_measured_is_let_through(text: str, row: str, given: str) -> None:
    assert not unquoted(quote(text, row, given=given))


def test_code_is_not_read() -> None:
    assert not blocks("```sh\nrun at 30 fps\n```\n\n    another 12 ms\n")
