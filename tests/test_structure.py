"""The house: how many files a room has, and that small modules with one importer live in that importer."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "hoiclip_kernels": ROOT / "kernels" / "hoiclip_kernels",
    "hoiclip": ROOT / "hoiclip",
    "hoiclip_engine": ROOT / "engine" / "hoiclip_engine",
}
MOST_ENGINE_FILES = 165
MOST_AT_ENGINE_ROOT = 4
MOST_FLOORS = 11
MOST_SMALL_WITH_ONE_IMPORTER = 15
SMALL = 80
FAMILIES = (
    "hoiclip_kernels.",  # implementations of operators
    "hoiclip.model.",
    "hoiclip.synthetic.",
    "hoiclip.evaluation.",  # metrics
    "hoiclip_engine.sinks.",
    "hoiclip_engine.backends.",
    "hoiclip_engine.cli.",  # commands
    "hoiclip_engine.export.triton.",  # the files of a model repository
)


def modules() -> dict[str, Path]:
    """Dotted names of all modules of the product, and their files."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path], *, top_level: bool) -> Iterator[str]:
    """Modules of the product that a file imports.

    Args:
        top_level: only those that importing the file imports, neither in functions nor under TYPE_CHECKING.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(tree.body) if top_level else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in known else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def graph(*, top_level: bool) -> dict[str, set[str]]:
    known = modules()
    return {
        name: {found for found in imports(path, known, top_level=top_level) if found in known and found != name}
        for name, path in known.items()
    }


def test_there_are_no_circles_and_few_floors() -> None:
    edges = graph(top_level=True)
    try:
        order = list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        raise AssertionError(f"modules import each other: {' → '.join(error.args[1])}") from None
    floor: dict[str, int] = {}
    for name in order:
        below = [floor[other] for other in edges[name] if other.startswith("hoiclip_engine")]
        if name.startswith("hoiclip_engine"):
            floor[name] = 1 + max(below, default=0)
        else:
            floor[name] = 0
    assert max(floor.values()) <= MOST_FLOORS, sorted(floor.items(), key=lambda item: -item[1])[:5]


def test_engine_has_few_files_and_hardly_any_at_its_root() -> None:
    engine = PACKAGES["hoiclip_engine"]
    assert len(list(engine.rglob("*.py"))) <= MOST_ENGINE_FILES
    assert len(list(engine.glob("*.py"))) <= MOST_AT_ENGINE_ROOT


def test_small_module_with_one_importer_lives_in_it() -> None:
    known, importers = modules(), defaultdict(set)
    for name, found in graph(top_level=False).items():
        for other in found:
            importers[other].add(name)
    small = [
        f"{name} ({len(path.read_text(encoding='utf-8').splitlines())} lines), only for {min(importers[name])}"
        for name, path in known.items()
        if path.name != "__init__.py"
        and len(importers[name]) == 1
        and len(path.read_text(encoding="utf-8").splitlines()) < SMALL
        and not name.startswith(FAMILIES)
    ]
    assert len(small) <= MOST_SMALL_WITH_ONE_IMPORTER, "\n".join(sorted(small))


def test_no_two_classes_share_a_name() -> None:
    owners = defaultdict(set)
    for name, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners[node.name].add(name)
    assert {name: sorted(where) for name, where in owners.items() if len(where) > 1} == {}
