"""Numbers that documents quote, and the result lines they come from.

docs/numbers.toml names for each block of a document (a paragraph, a table) which field of which line of
benchmarks/results/ each of its numbers is:

    [[quoted]]
    document = "README.md"
    block = "| backend | times as fast"
    from = "backends.jsonl; model=drawn"
    numbers = '''
    1.4 = times_as_fast_as_torch; arm=onnxruntime fp32
    63.1 = 100 * summaries.default.mAP; set=test
    20.0 ± 0.8 = mean mAP.unseen; arm=full
    1.7 = 20.0 - 18.3
    '''

KEY=VALUE chooses among lines, the last one that fits counts; `mean` takes all that fit, with their deviation after ±.
Values may be scaled by `100 *` or `/ 1000`. Sums and differences may be of numbers quoted in the same document. Numbers
without a measurement, such as limits, stand in `[[given]]` entries: `numbers = ["60 fps"]`, `["table"]` for a whole
table.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SOURCES = ROOT / "docs" / "numbers.toml"
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_CELL = re.compile(rf"(?:{NUMBER})(?: ± (?:{NUMBER}))?(?: ?%| ms| s| MB| MiB| GB| fps)?")
_MEASURED = re.compile(
    rf"(?:{NUMBER})\s+(?:times\s+(?:as\s+(?:fast|well|many)|eager|faster|slower)|ms\b|milliseconds\b|µs\b|fps\b|frames/s\b"
    r"|frames\s+(?:a|per)\s+second|(?:frame\s+)?mAP\b|points\b|HOTA\b|IDF1\b|MiB\s+of\s+RAM)"
    rf"|(?:HOTA|IDF1|mAP\s+of)\s+(?:{NUMBER})"
)
_ARITHMETIC = re.compile(rf"(?:{NUMBER})(?: [-+/*] (?:{NUMBER}))+")


@dataclass(slots=True)
class Block:
    """A paragraph or a table of a document, with what docs/numbers.toml says of it."""

    line: int
    text: str
    quotes: list[Quote] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    @property
    def is_table(self) -> bool:
        return self.text.lstrip().startswith("|")


@dataclass(frozen=True, slots=True)
class Quote:
    """A number, and where it is said to come from."""

    shown: str
    file: str
    origin: str
    chosen: dict[str, str]


def blocks(document: str, sources: str = "", name: str = "") -> list[Block]:
    """Paragraphs and tables of Markdown, code left out.

    Args:
        sources: docs/numbers.toml.
        name: the document's in there; empty: all entries are its own.

    Raises:
        ValueError: an entry names no block or several, or is malformed.
    """
    found = [Block(line, piece.strip()) for piece, line in _pieces(document)]
    entries = tomllib.loads(sources)
    for kind in ("quoted", "given"):
        for entry in entries.get(kind, ()):
            if entry["document"] in (name, ""):
                block = _named(found, entry["block"])
                if kind == "given":
                    block.given += entry["numbers"]
                else:
                    block.quotes += _quotes(entry["from"], entry["numbers"])
    return found


def _named(found: list[Block], words: str) -> Block:
    matching = [block for block in found if " ".join(words.split()) in " ".join(block.text.split())]
    if len(matching) != 1:
        raise ValueError(f"expected one block with {words!r}, found {len(matching)}; mend docs/numbers.toml")
    return matching[0]


def unquoted(block: Block) -> list[str]:
    """Numbers that seem measured, and that docs/numbers.toml does not account for."""
    known = Counter(quote.shown for quote in block.quotes)
    if block.is_table and "table" in block.given:
        return []
    if block.is_table:
        wanted = Counter(cell for cell in _cells(block.text) if not _is_given(cell, block))
        return sorted((wanted - known).elements())
    shown = " ".join(known)
    return [
        found[0]
        for found in _MEASURED.finditer(block.text)
        if not _is_given(found[0], block) and not set(re.findall(NUMBER, found[0])) & set(re.findall(NUMBER, shown))
    ]


def numbers(document: list[Block]) -> frozenset[str]:
    """All quoted numbers."""
    return frozenset(re.findall(NUMBER, " ".join(quote.shown for block in document for quote in block.quotes)))


def is_quoted(quote: Quote, block: Block) -> bool:
    """Whether the number stands in the block, as it is written in the comment."""
    return re.search(rf"(?<![\d.]){re.escape(quote.shown)}(?![\d]|\.\d)", block.text) is not None


def value(quote: Quote, results: Path = RESULTS, known: frozenset[str] = frozenset()) -> list[float]:
    """What the number should be, and its deviation where it has one.

    Args:
        known: numbers that are quoted in the same file, for sums and differences.

    Raises:
        ValueError: no line fits, a line has no such field, or a sum is of numbers that are not quoted.
    """
    if _ARITHMETIC.fullmatch(quote.origin):
        terms = re.findall(NUMBER, quote.origin)
        strangers = [term for term in terms if term not in known]
        if strangers:
            raise ValueError(f"{strangers[0]} is not quoted itself")
        return [float(eval(quote.origin.replace(",", ""), {"__builtins__": {}}))]  # digits and signs only, see above
    mean, factor, path = _origin(quote.origin)
    lines = [json.loads(line) for line in (results / quote.file).read_text(encoding="utf-8").splitlines() if line]
    fitting = [line for line in lines if all(str(_field(line, key)) == text for key, text in quote.chosen.items())]
    if not fitting:
        raise ValueError(f"no line of {quote.file} has {quote.chosen}")
    values = [_number(_field(line, path), path) * factor for line in (fitting if mean else fitting[-1:])]
    return [statistics.fmean(values), *([statistics.stdev(values)] if mean and len(values) > 1 else [])]


def agrees(quote: Quote, values: list[float]) -> bool:
    """Whether the number as it is written is the value, rounded to as many places."""
    written = [number.replace(",", "") for number in re.findall(NUMBER, quote.shown)]
    return len(written) <= len(values) and all(
        abs(float(text) - value) <= 0.5000001 * 10.0 ** -len(text.partition(".")[2])
        for text, value in zip(written, values, strict=False)
    )


def _pieces(document: str) -> list[tuple[str, int]]:
    """Blocks between empty lines with their first line's number; fenced and indented code is left out."""
    pieces: list[tuple[str, int]] = []
    lines: list[str] = []
    fenced = False
    for number, line in enumerate([*document.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        if not fenced and not fence and (not line.strip() or line.startswith("    ")):
            if lines:
                pieces.append(("\n".join(lines), number - len(lines)))
            lines = []
        elif not fenced and not fence:
            lines.append(line)
        fenced ^= fence
    return pieces


def _quotes(head: str, rows: str) -> list[Quote]:
    file, *common = (text.strip() for text in head.split(";"))
    if Path(file).name != file or not file.endswith(".jsonl"):
        raise ValueError(f"expected a file of benchmarks/results, found {file!r}")
    quotes = []
    for row in filter(None, map(str.strip, rows.splitlines())):
        shown, equals, rest = row.partition(" = ")
        origin, *own = (text.strip() for text in rest.split(";"))
        pairs = [text.partition("=") for text in [*common, *own]]
        if not equals or not origin or not all(sign for _, sign, _ in pairs):
            raise ValueError(f"expected NUMBER = FIELD; KEY=VALUE, found {row!r}")
        quotes.append(Quote(shown, file, origin, {key.strip(): text.strip() for key, _, text in pairs}))
    return quotes


def _cells(table: str) -> list[str]:
    """Cells of numbers, the first column and the head left out."""
    rows = [line.strip().strip("|").split("|")[1:] for line in table.splitlines()[2:] if line.lstrip().startswith("|")]
    return [cell.strip() for row in rows for cell in row if _CELL.fullmatch(cell.strip())]


def _is_given(text: str, block: Block) -> bool:
    return any(" ".join(text.split()) in " ".join(given.split()) for given in block.given)


def _origin(text: str) -> tuple[bool, float, str]:
    """Whether of all lines, times how much, which field."""
    mean = text.startswith("mean ")
    text = text.removeprefix("mean ")
    scaled = re.fullmatch(r"(?:(\d+) \* )?(.+?)(?: / (\d+))?", text)
    assert scaled is not None
    return mean, float(scaled[1] or 1) / float(scaled[3] or 1), scaled[2]


def _field(line: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(line, list) and name.isdigit() and int(name) < len(line):
            line = line[int(name)]
        else:
            line = line.get(name) if isinstance(line, dict) else None
    return line


def _number(found: Any, path: str) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise ValueError(f"{path} is {found!r}, expected a number")
    return float(found)
