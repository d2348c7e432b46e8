"""No link of the documentation leads nowhere, and no guide is forgotten; needs no MkDocs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from website.animation import LARGEST_BYTES, TARGET
from website.links import ROOT, anchors, links, with_links

PAGES = sorted([*ROOT.glob("*.md"), *(page for name in ("docs", "deploy") for page in (ROOT / name).rglob("*.md"))])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    wrong = []
    for link in links(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))):
        target = ROOT / link.path
        there = not link.path.startswith("..") and target.exists()
        if not there or (link.anchor and link.anchor not in anchors(target.read_text(encoding="utf-8"))):
            wrong.append(link)
    assert wrong == []


def test_links_are_found_and_changed_outside_of_code() -> None:
    text = (
        "[a](x.md#some-part) `[b](y.md)`\n\n```sh\n[c](z.md)\n```\n[`d`](../e/f.md) [w](https://host/g.md) [h](#here)\n"
    )
    found = links(text, "docs/page.md")
    assert [(link.path, link.anchor) for link in found] == [
        ("docs/x.md", "some-part"),
        ("e/f.md", ""),
        ("docs/page.md", "here"),
    ]
    changed = with_links(text, "docs/page.md", lambda link: link.path.upper())
    assert "[a](DOCS/X.MD) `[b](y.md)`" in changed
    assert "[c](z.md)" in changed
    assert "(https://host/g.md)" in changed


def test_anchors_are_those_of_github() -> None:
    text = "# JSON lines\n\n## Does CLIP help?\n\n```sh\n# no heading\n```\n\n### `hoiclip run`, twice\n"
    assert anchors(text) == ["json-lines", "does-clip-help", "hoiclip-run-twice"]


def test_every_guide_is_in_the_navigation() -> None:
    config = (ROOT / "website" / "mkdocs.yml").read_text(encoding="utf-8")
    parsed = yaml.safe_load(config)
    listed = {entry for section in parsed["nav"] for value in section.values() for entry in _files(value)}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - listed == set()


def test_readme_is_short_and_its_animation_small() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    assert TARGET.relative_to(ROOT).as_posix() in [link.path for link in links(readme, "README.md")]
    assert TARGET.stat().st_size <= LARGEST_BYTES
    with Image.open(TARGET) as animation:
        assert getattr(animation, "n_frames", 1) > 50


def _files(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    assert isinstance(value, list)
    return [file for entry in value for file in _files(next(iter(entry.values())))]
