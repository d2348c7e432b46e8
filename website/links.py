"""Links between the repository's Markdown files: what they point at, and the anchors that headings give.

Paths are relative to the repository's root, with slashes. Knows nothing of MkDocs, so that the tests need none.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_CODE = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^()\s#]*)(#[^()\s]*)?(?=\))")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_ADDRESS = re.compile(r"[a-z]+:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Link:
    """A link to something of the repository."""

    path: str
    """A file or folder, which need not be there; it starts with ".." if it lies outside."""
    anchor: str
    """Without its #; empty for the whole page."""


def links(markdown: str, page: str) -> list[Link]:
    """Links of a page to files, folders and headings, in order; addresses of other hosts are left out.

    Args:
        page: where the text stands.
    """
    prose = _CODE.sub("", markdown)
    return [_resolved(page, found) for found in _LINK.finditer(prose) if not _ADDRESS.match(found[1])]


def with_links(markdown: str, page: str, changed: Callable[[Link], str]) -> str:
    """The text with other link targets; code is left alone."""

    def change(found: re.Match[str]) -> str:
        return found[0] if _ADDRESS.match(found[1]) else changed(_resolved(page, found))

    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(change, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(change, markdown[end:])])


def anchors(markdown: str) -> list[str]:
    """What headings are called in an address, as GitHub and MkDocs both have it."""
    return [_slug(heading[1]) for heading in _HEADING.finditer(re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))]


def _resolved(page: str, found: re.Match[str]) -> Link:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), found[1])) if found[1] else page
    return Link(path, (found[2] or "").removeprefix("#"))


def _slug(heading: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
