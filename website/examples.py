"""The page of examples: each program of examples/ with what its docstring says of it."""

from __future__ import annotations

import ast

from website.links import ROOT

ORDER = ("events.py", "webhook.py", "own_sink.py", "supervision_interop.py")


def example_page() -> str:
    """The page, in Markdown."""
    sections = ["# Examples\n\nPrograms of the folder `examples/`. The tests run each of them on a synthetic clip."]
    for name in ORDER:
        code = (ROOT / "examples" / name).read_text(encoding="utf-8")
        sections.append(f"## {name}\n\n{_about(code)}\n\n```python\n{code}```")
    return "\n\n".join(sections) + "\n"


def _about(code: str) -> str:
    """The first paragraph of its docstring."""
    return (ast.get_docstring(ast.parse(code)) or "").split("\n\n")[0]
