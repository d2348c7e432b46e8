"""Foreign text made harmless for a terminal, a log or a cell of a table.

Names of files, labels and tensors and answers of servers may hold escape sequences that move the cursor or hide text.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Control characters but tab and newline, separators and directions of Unicode, and halves of characters."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: str) -> str:
    """Text with unsafe characters as escapes, which JSON reads as the same characters."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Likewise, with every run of white space as one space."""
    return printable(" ".join(text.split()))


def spreadsheet_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: those begin with an apostrophe, which is not shown."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
