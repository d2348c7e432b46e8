"""Every command that README and docs/ show is one that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hoiclip_engine.cli import options
from hoiclip_engine.cli import run as run_command
from tests.docs.documents import (
    complaint,
    documents,
    hoiclip_complaint,
    known_options,
    shell_lines,
    simple_commands,
    spans,
)
from website.commands import command_reference, commands
from website.links import ROOT

OTHERS_OPTIONS = {
    "--build-arg": "docker",
    "--dynamicPlugins": "trtexec",
    "--sub-file": "mpv",
    "--nproc-per-node": "torchrun",
    "--logdir": "tensorboard",
}


def complaints(document: Path) -> list[str]:
    """Of the blocks to type, and of what sentences name."""
    text = document.read_text(encoding="utf-8")
    found = [(line, complaint(words)) for line in shell_lines(text) for words in simple_commands(line)]
    for span in spans(text):
        if re.match(r"hoiclip \w", span):
            words = simple_commands(span)[0][1:]
            found.append((span, hoiclip_complaint([word for word in words if word != "..."], whole=False)))
        elif span.startswith("make ") or span.startswith("python -m "):
            found.append((span, complaint(simple_commands(span)[0])))
    return [f"{line!r}: {wrong}" for line, wrong in found if wrong]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_command_is_known(document: Path) -> None:
    assert complaints(document) == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_option_in_a_sentence_is_known(document: Path) -> None:
    known = {*known_options(), *OTHERS_OPTIONS}
    named = {
        found
        for span in spans(document.read_text(encoding="utf-8"))
        for found in re.findall(r"(?<!\S)--[a-z][\w-]*", span)
    }
    assert named - known == set()


def test_renamed_option_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose old name is the beginning of the new one, which argparse would still take."""
    real = run_command.add_arguments
    guide = ROOT / "docs" / "first_video.md"

    def renamed(parser: options.Parser) -> None:
        real(parser)
        action = parser._option_string_actions.pop("--short-side")
        action.option_strings = ["--short-side-px"]
        parser._option_string_actions["--short-side-px"] = action

    monkeypatch.setattr(run_command, "add_arguments", renamed)
    assert any("--short-side" in wrong for wrong in complaints(guide))


@pytest.mark.parametrize(
    "line",
    [
        "hoiclip archive",
        "hoiclip runs clip.mp4",
        "hoiclip run clip.mp4 --precision int4",
        "hoiclip models import a.pth",
        "cat a | hoiclip run - --detect 5",
        "make supper",
        "python -m benchmarks.nothing",
        "python examples/nothing.py",
        "pip install 'hoiclip[nothing]'",
        "nothing --at all",
    ],
)
def test_wrong_command_is_noticed(line: str) -> None:
    assert any(complaint(words) for words in simple_commands(line))


def test_reference_has_every_command_and_option() -> None:
    page = command_reference()
    for command in commands():
        section = re.split(r"^## ", page.split(f"## {' '.join(command.words)}\n")[1], flags=re.MULTILINE)[0]
        for action in command.parser._actions:
            if action.option_strings and "--help" not in action.option_strings:
                assert f"`{', '.join(action.option_strings)}" in section, (command.words, action.option_strings)
