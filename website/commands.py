"""The command line reference: every command, argument and option, as the grammar itself has them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from hoiclip_engine.cli.main import build_parser


@dataclass(frozen=True, slots=True)
class Command:
    """A command that can be given: `hoiclip run`, `hoiclip models info`."""

    words: tuple[str, ...]
    about: str
    parser: argparse.ArgumentParser


def commands(parser: argparse.ArgumentParser | None = None) -> Iterator[Command]:
    """All commands, in the order of the grammar."""
    yield from _below(parser or build_parser(), ("hoiclip",), "")


def command_reference() -> str:
    """The page, in Markdown."""
    sections = [f"# Command line\n\n{build_parser().description}"]
    for command in commands():
        title = " ".join(command.words)
        sections.append(f"## {title}\n\n{_sentence(command.about)}\n\n```text\n{_usage(command)}\n```")
        sections += [_table(group) for group in command.parser._action_groups if _shown(group)]
    return "\n\n".join(sections) + "\n"


def _below(parser: argparse.ArgumentParser, words: tuple[str, ...], about: str) -> Iterator[Command]:
    branch = next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)
    if branch is None or not branch.required:
        yield Command(words, about, parser)
    if branch is not None:
        helps = {choice.dest: choice.help or "" for choice in branch._choices_actions}
        for name, child in branch.choices.items():
            yield from _below(child, (*words, name), helps[name])


def _shown(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    return [
        action
        for action in group._group_actions
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction | argparse._VersionAction)
    ]


def _usage(command: Command) -> str:
    """The shape of it; what the options are says the table."""
    words = list(command.words)
    options = [action for action in command.parser._actions if action.option_strings]
    words += [f"{_name(action)}" for action in options if action.required]
    for group in command.parser._mutually_exclusive_groups:
        if group.required:
            words.append("(" + " | ".join(_name(action) for action in group._group_actions) + ")")
    words.append("[options]")
    for action in command.parser._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            words.append(
                {"+": f"{_value(action)} ...", "?": f"[{_value(action)}]"}.get(str(action.nargs), _value(action))
            )
    return " ".join(words)


def _table(group: argparse._ArgumentGroup) -> str:
    title = "" if group.title in ("positional arguments", "options", "optional arguments") else f"{group.title}"
    what = "option" if any(action.option_strings for action in _shown(group)) else "argument"
    lead = f"{_sentence(': '.join(text for text in (title, group.description) if text))}\n\n" if title else ""
    rows = [f"| `{_name(action)}` | {_meaning(action)} |" for action in _shown(group)]
    return lead + "\n".join([f"| {what} | |", "|---|---|", *rows])


def _name(action: argparse.Action) -> str:
    """As in a usage line: `-o, --output OUT.mp4|URL`."""
    value = "" if action.nargs == 0 else _value(action)
    return " ".join(word for word in (", ".join(action.option_strings), value) if word)


def _value(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    return "|".join(map(str, action.choices)) if action.choices is not None else action.dest.upper()


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "").replace("|", "\\|")
    choices = ", ".join(f"`{choice}`" for choice in action.choices or ()) if action.metavar is not None else ""
    default = "" if "default" in text or action.default in (None, False, [], argparse.SUPPRESS) else action.default
    sentences = [text, f"one of {choices}" if choices else "", f"default: {default}" if default not in ("", 0) else ""]
    return _sentence("; ".join(sentence for sentence in sentences if sentence))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith(".") else ".")
