"""README and docs quote only numbers with a committed result line behind them, rounded as they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.quoted_numbers import Block, agrees, blocks, is_quoted, numbers, unquoted, value

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> list[Block]:
    return blocks(request.param.read_text(encoding="utf-8"))


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
        assert not found, (
            f"line {block.line}: where were {found} measured? "
            "Say it in a comment after the text, as tests/quoted_numbers.py tells"
        )


def test_what_is_given_stands_in_the_text(document: list[Block]) -> None:
    for block in document:
        text = " ".join(block.text.split())
        assert all(one == "table" or one in text for one in block.given), f"line {block.line}: {block.given}"


def test_the_readme_quotes_numbers() -> None:
    assert sum(len(block.quotes) for block in blocks(DOCUMENTS[0].read_text(encoding="utf-8"))) > 30


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


def quote(text: str) -> Block:
    (block,) = blocks(text)
    return block


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("It is 1.45 ms.\n<!-- from: made.jsonl\n1.45 = speed.up; arm=a\n-->", True),  # the last line that fits
        ("It is 1.4 ms.\n<!-- from: made.jsonl\n1.4 = speed.up; arm=a\n-->", True),
        ("It is 1.44 ms.\n<!-- from: made.jsonl\n1.44 = speed.up; arm=a\n-->", False),
        ("It is 1.24 ms.\n<!-- from: made.jsonl\n1.24 = speed.up; arm=a; n=1\n-->", True),
        ("It is 145 ms.\n<!-- from: made.jsonl; arm=a\n145 = 100 * speed.up\n-->", True),
        ("It is 1.34 ± 0.15.\n<!-- from: made.jsonl\n1.34 ± 0.15 = mean speed.up; arm=a\n-->", True),
        ("It is 1.34 ± 0.2.\n<!-- from: made.jsonl\n1.34 ± 0.2 = speed.up; arm=a\n-->", False),
    ],
)
def test_a_number_is_right_when_it_is_rounded_from_its_line(results: Path, text: str, right: bool) -> None:
    (only,) = quote(text).quotes
    assert agrees(only, value(only, results)) is right


def test_a_line_or_field_that_is_not_there_is_an_error(results: Path) -> None:
    for row in ("1 = speed.up; arm=c", "1 = speed; arm=a", "1 = nothing; arm=a"):
        (only,) = quote(f"It is 1 ms.\n<!-- from: made.jsonl\n{row}\n-->").quotes
        with pytest.raises(ValueError, match=r"no line|expected a number"):
            value(only, results)


def test_a_difference_is_of_quoted_numbers_only(results: Path) -> None:
    (only,) = quote("Gains 1.7 points.\n<!-- from: made.jsonl\n1.7 = 20.0 - 18.3\n-->").quotes
    assert agrees(only, value(only, results, frozenset(("20.0", "18.3"))))
    with pytest.raises(ValueError, match=r"18\.3 is not quoted"):
        value(only, results, frozenset(("20.0",)))


@pytest.mark.parametrize(
    "text",
    [
        "It is 2.5 times as fast.",
        "A look takes 12 ms here.",
        "At 61.9 mAP it is good.",
        "It runs at 30 fps.",
        "That is 1,200 frames a second.",
        "HOTA 49.95 against 46.48",
        "| who | times |\n|---|---|\n| we | 2.5 |",
        "| who | times |\n|---|---|\n| we | 20.0 ± 0.8 |\n<!-- from: made.jsonl\n2.5 = speed.up; arm=a\n-->",
    ],
)
def test_a_measured_number_without_a_line_is_found(text: str) -> None:
    assert unquoted(quote(text))


@pytest.mark.parametrize(
    "text",
    [
        "Any camera of 30 fps will do.\n<!-- given: 30 fps -->",
        "| limit | points |\n|---|---|\n| fp16 | 0.2 |\n<!-- given: table -->",
        "| who | times |\n|---|---|\n| we | 2.5 |\n\n<!-- from: made.jsonl\n2.5 = speed.up; arm=a\n-->",
        "Version 2.5 of 2026.",
    ],
)
def test_what_is_accounted_for_or_not_measured_is_let_through(text: str) -> None:
    assert not unquoted(quote(text))


def test_code_is_not_looked_at() -> None:
    assert not blocks("```sh\nrun at 30 fps\n```\n\n    another 12 ms\n")
