"""The field's words: what CONTRIBUTING.md's glossary retires is found nowhere in code, documents or help texts."""

from __future__ import annotations

import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from website.commands import command_reference

ROOT = Path(__file__).resolve().parent.parent
RETIRED = {
    "picture": r"pictures?",
    "film": r"films?",
    "look": r"look(?:s|ed|er|ers|ing)?",
    "told": r"told|untold|tells?|telling",
    "thing": r"things?",
    "truth (without ground)": r"truths?",
    "data set": r"data sets?",
    "web hook": r"web hooks?",
    "key frame": r"key frames?",
    "time stamp": r"time stamps?",
    "text row": r"text rows?",
    "verb row": r"verb rows?",
    "start weights": r"start weights?",
    "running model": r"running model",
    "thaw": r"thaw(?:s|ed)?",
    "culprit": r"culprits?",
    "canvas": r"canvas(?:es)?",
    "lane": r"lanes?",
    "sidecar": r"sidecars?",
    "workplace": r"workplaces?",
    "measured set": r"measured sets?",
    "mistake": r"mistakes?",
}
PHRASES = (
    r"ground[- ]truths?",
    r"look(?:s|ed|ing)? up",  # a name in a table
    r"truth value",
    r"48 lanes",  # of a vector register
    r"looked at\"",  # a field of recorded results
    r"\['pictures'\]|\['film_frames'\]|\"pictures\" in facts",  # fields of evaluations
)
"""Taken out of prose before the words are sought."""
ALLOWED = {
    "look_up": "a table",
    "lookup": "a table",
    "LookupError": "Python's own",
    "Canvas": "HTML's element, in the live page's tests",
    "FigureCanvasAgg": "matplotlib's own",
    "color_lookup": "a table",
    "_LANES": "of a vector register",
    "lanes": "of a vector register",
    "verb_rows": "a tensor of model files",
}
ALLOWED_FILES = {
    "tests/test_plain_words.py": "names the words",
    "CONTRIBUTING.md": "its glossary names the words",
    "CHANGELOG.md": "says what was renamed",
    "benchmarks/results/bench_report/bench.md": "a recorded report",
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SOUGHT = {
    name: re.compile(rf"(?<![\w/.\-`]){pattern}(?![\w/`]|-\w|\.\w)", re.IGNORECASE) for name, pattern in RETIRED.items()
}


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [Path(line) for line in listed.splitlines() if line.endswith(suffixes)]
    return [path for path in paths if str(path) not in ALLOWED_FILES and (ROOT / path).is_file()]


def retired_words(prose: str) -> Iterator[str]:
    for phrase in PHRASES:
        prose = re.sub(phrase, "", prose, flags=re.IGNORECASE)
    for name, pattern in _SOUGHT.items():
        if pattern.search(" ".join(prose.split())):
            yield name


def findings(path: Path) -> Iterator[str]:
    """Line and word of each finding in a Python file: names, comments, docstrings, and strings that are sentences."""
    with (ROOT / path).open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            line = f"{path}:{token.start[0]}"
            if token.type == tokenize.NAME and token.string not in ALLOWED:
                words = " ".join(word.lower() for word in _WORDS.findall(token.string))
                yield from (f"{line}: {word} in {token.string}" for word in retired_words(words))
            elif token.type == tokenize.COMMENT or (
                token.type == tokenize.STRING and " " in token.string.strip("\"' ")
            ):
                yield from (f"{line}: {word}" for word in retired_words(token.string))


def is_sentence(token: tokenize.TokenInfo) -> bool:
    """A docstring or message; keys and names hold no space."""
    return token.type == tokenize.STRING and " " in token.string.strip("\"' ")


def prose_of(markdown: str) -> str:
    """Without code, links' targets and HTML."""
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", text)


def test_code_uses_the_fields_words() -> None:
    found = [finding for path in tracked(".py") for finding in findings(path)]
    assert not found, f"{len(found)} retired words, the first of them:\n" + "\n".join(found[:40])


def test_documents_use_the_fields_words() -> None:
    found = [
        f"{path}: {word}"
        for path in tracked(".md")
        for word in retired_words(prose_of((ROOT / path).read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def test_help_texts_use_the_fields_words() -> None:
    assert list(retired_words(prose_of(command_reference()))) == []


@pytest.mark.parametrize("name", ["draw_pictures", "LookConfig", "truths_in", "FilmFrame"])
def test_retired_word_in_a_name_is_found(name: str) -> None:
    assert list(retired_words(" ".join(word.lower() for word in _WORDS.findall(name))))


@pytest.mark.parametrize(
    "text", ["The ground truth of a video.", "nothing and something", "it is looked up", "`picture_px`"]
)
def test_words_of_the_field_are_let_through(text: str) -> None:
    assert list(retired_words(text)) == []
