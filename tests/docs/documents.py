"""What the documentation asks a reader to type: found, taken apart, and held to the real grammar."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hoiclip_engine.cli.main import build_parser
from website.commands import Command, commands
from website.links import ROOT

FOREIGN = {
    **dict.fromkeys(("cd", "export", "git", "openssl", "curl", "jq", "mpv", "ffmpeg", "cat", "sudo"), "every system's"),
    **dict.fromkeys(("cmp", "echo"), "every system's"),
    **dict.fromkeys(("docker", "systemctl", "journalctl", "tegrastats", "nvpmodel", "jetson_clocks"), "the platform's"),
    **dict.fromkeys(("trtexec", "tritonserver", "cmake", "tensorboard", "ray", "nvidia-smi"), "another project's"),
}
"""Programs that are not ours to check."""
_SIGNS = frozenset(("|", "||", "&", "&&", ";", ">", ">>", "<"))


def documents() -> list[Path]:
    """README, the texts of the root, and the guides; references hold no commands of their own."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    ]


def blocks(markdown: str, language: str) -> list[str]:
    """Fenced code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)


def shell_lines(markdown: str) -> list[str]:
    """Lines to type, without what is said of them."""
    joined = "".join(blocks(markdown, "sh")).replace("\\\n", " ")
    joined = re.sub(
        r"<<-?\s*(['\"]?)(\w+)\1(.*)\n(?:.*\n)*?\2$", r"\3", joined, flags=re.MULTILINE
    )  # texts for programs
    lines = [re.sub(r"(^|\s)#(\s.*)?$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]


def spans(markdown: str) -> list[str]:
    """Code within sentences and tables."""
    prose = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.replace("\\|", "|").split()) for span in re.findall(r"`([^`]+)`", prose)]


def simple_commands(line: str) -> list[list[str]]:
    """The commands of a line that pipes and the like join, words without quotes; what `>` names is left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[list[str]] = [[]]
    sign = ""
    for word in lexer:
        if word in _SIGNS:
            sign = word
            if word not in (">", ">>", "<"):
                found.append([])
        elif sign in (">", ">>", "<"):
            sign = ""
        else:
            found[-1].append(word)
    return [words for words in found if words]


def complaint(words: Sequence[str]) -> str:
    """What is wrong with a command; the empty string for nothing."""
    words = [word for index, word in enumerate(words) if index or not re.match(r"\w+=", word)]
    match list(words):
        case [program, *rest] if program in ("hoiclip", ".venv/bin/hoiclip"):
            return hoiclip_complaint(rest)
        case ["make", *targets]:
            known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
            wrong = [target for target in targets if "=" not in target and target not in known]
            return f"no target {', '.join(wrong)}" if wrong else ""
        case ["torchrun", *rest] if "hoiclip_engine.cli" in rest:
            return hoiclip_complaint(rest[rest.index("hoiclip_engine.cli") + 1 :])
        case ["python", "-m", module, *_]:
            return "" if importlib.util.find_spec(module) else f"no module {module}"
        case ["python", script, *_] if script.endswith(".py"):
            return "" if (ROOT / script).is_file() else f"no file {script}"
        case ["python", "-c", code]:
            compile(code, "-c", "exec")
            return ""
        case ["pip", "install", *packages]:
            return _unknown_extras(packages)
        case [program, *_]:
            return "" if program in FOREIGN else f"unknown program {program}; name it in tests/docs/documents.py"
    return ""


def hoiclip_complaint(words: Sequence[str], *, whole: bool = True) -> str:
    """Args: whole: False for a part of a command line, as sentences name it: options only have to exist."""
    command, rest = _command(words)
    if command is None:
        return f"no command {' '.join(words[:2])}"
    # argparse takes beginnings of options for the whole, so that a renamed one could go unseen.
    options = {word.split("=")[0] for word in rest if re.match(r"-[a-z-]", word)}
    if wrong := options - set(command.parser._option_string_actions):
        return f"{' '.join(command.words)} has no option {', '.join(sorted(wrong))}"
    if not whole:
        return ""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            build_parser().parse_args(list(words))
        except SystemExit as end:
            return said.getvalue() if end.code else ""
    return ""


def _command(words: Sequence[str]) -> tuple[Command | None, list[str]]:
    """The longest command that the words begin with, and the words behind it."""
    fitting = [one for one in commands() if tuple(words[: len(one.words) - 1]) == one.words[1:]]
    if not fitting:
        return None, list(words)
    command = max(fitting, key=lambda one: len(one.words))
    return command, list(words[len(command.words) - 1 :])


def known_options() -> Iterator[str]:
    """Every option of every command."""
    for command in commands():
        yield from command.parser._option_string_actions


def _unknown_extras(packages: Sequence[str]) -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[project.scripts]")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, flags=re.MULTILINE))
    asked = [
        extra for package in packages for group in re.findall(r"\[([\w,-]+)\]", package) for extra in group.split(",")
    ]
    wrong = [extra for extra in asked if extra not in extras]
    return f"pyproject.toml has no extra {', '.join(wrong)}" if wrong else ""
