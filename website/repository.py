"""Hooks of MkDocs that make one site of the repository.

README becomes the first page and the other texts of the root become pages; the command line reference and the page of
examples are made; files that a page links and that are no pages (results, headers) go along, so that no link leads out.
A link to something that is not there fails the build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from website.commands import command_reference
from website.examples import example_page
from website.links import ROOT, Link, links, with_links

PAGES = {
    name: f"{name.removesuffix('.md').lower()}.md" for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
}
PAGES["README.md"] = "index.md"
ELSEWHERE = "repository/"
"""Where the site has what lies outside of docs/."""

_log = logging.getLogger("mkdocs.hooks.repository")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is not in docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "site.css", abs_src_path=str(ROOT / "website" / "site.css")))
    files.append(File.generated(config, "reference/commands.md", content=command_reference()))
    files.append(File.generated(config, "examples.md", content=example_page()))
    left = [_in_repository(file.src_uri) for file in files.documentation_pages()]
    while left:
        for path in _linked_files(left.pop()):
            place = _on_site(path)
            if files.get_file_from_path(place) is None:
                aside = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, place, abs_src_path=str(ROOT / path), inclusion=aside))
                left += [path] if path.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them."""
    here = page.file.src_uri

    def place(link: Link) -> str:
        target = _page_of(link.path)
        if target is None:
            _log.warning("%s links %s, which is not in the repository", _in_repository(here), link.path)
            return link.path
        path = posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".")
        return path + (f"#{link.anchor}" if link.anchor else "")

    return with_links(markdown, _in_repository(here), place)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The site works without a network: fonts, scripts and images are its own."""
    for address in re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"(https?://[^\"]+)\"", output):
        _log.warning("%s loads %s from elsewhere", page.file.src_uri, address)
    return output


def _linked_files(page: str) -> list[str]:
    """Files outside of docs/ that a page links, with all of a folder's."""
    if not (ROOT / page).is_file():
        return []
    found = []
    for link in links((ROOT / page).read_text(encoding="utf-8"), page):
        target = _page_of(link.path)
        if target is not None and _on_site(target).startswith(ELSEWHERE):
            beside = sorted((ROOT / link.path).rglob("*")) if (ROOT / link.path).is_dir() else [ROOT / target]
            found += [PurePosixPath(path.relative_to(ROOT)).as_posix() for path in beside if path.is_file()]
    return found


def _page_of(path: str) -> str | None:
    """The file that a link shows: of a folder its index.html."""
    if path.startswith(".."):
        return None
    if path.split("/")[0] == "examples" and (ROOT / path).exists():
        return "docs/examples.md"
    shown = posixpath.join(path, "index.html") if (ROOT / path).is_dir() else path
    return shown if (ROOT / shown).is_file() else None


def _on_site(path: str) -> str:
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else ELSEWHERE + path


def _in_repository(src_uri: str) -> str:
    """Where a page's text comes from; a page that is made has none."""
    for name, page in PAGES.items():
        if src_uri == page:
            return name
    return src_uri.removeprefix(ELSEWHERE) if src_uri.startswith(ELSEWHERE) else f"docs/{src_uri}"
