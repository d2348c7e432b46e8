"""Writes a config.pbtxt: the text form of protocol buffers, as far as a model's configuration needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping


class Word(str):
    """The name of an enum's value, which is written without quotes."""

    __slots__ = ()


def config_text(fields: Mapping[str, object], indent: str = "") -> str:
    """Fields in their order: messages as mappings, repeated ones as lists."""
    return "".join(_field(name, value, indent) for name, value in fields.items())


def _field(name: str, value: object, indent: str) -> str:
    if isinstance(value, Mapping):
        return f"{indent}{name} {{\n{config_text(value, indent + '  ')}{indent}}}\n"
    if isinstance(value, list) and not all(isinstance(one, int) for one in value):
        return "".join(_field(name, one, indent) for one in value)
    return f"{indent}{name}: {_scalar(value)}\n"


def _scalar(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | Word():
            return str(value)
        case str():
            return json.dumps(value)  # its escapes are among those that protocol buffers read
        case list():
            return f"[{', '.join(map(str, value))}]"
        case _:
            raise TypeError(f"a configuration holds no {type(value).__name__}")
