"""Imports point one way: kernels ← hoiclip ← engine; and the tracker's side needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "hoiclip_kernels": ROOT / "kernels" / "hoiclip_kernels",
    "hoiclip": ROOT / "hoiclip",
    "hoiclip_engine": ROOT / "engine" / "hoiclip_engine",
}
MAY_IMPORT = {
    "hoiclip_kernels": {"hoiclip_kernels"},
    "hoiclip": {"hoiclip", "hoiclip_kernels"},
    "hoiclip_engine": {"hoiclip", "hoiclip_kernels", "hoiclip_engine"},
}


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names & PACKAGES.keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_what_it_may(package: str) -> None:
    files = list(PACKAGES[package].rglob("*.py"))
    assert files
    for path in files:
        assert imported_packages(path) <= MAY_IMPORT[package], path


def test_no_module_lies_in_the_root_and_no_package_hides_another() -> None:
    assert list(ROOT.glob("*.py")) == []
    assert not (ROOT / "engine" / "__init__.py").exists()
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize(
    "module",
    [
        "hoiclip",
        "hoiclip.core.vocabulary",
        "hoiclip_engine.track",
        "hoiclip.core.postprocess",
        "hoiclip.core.preprocess",
        "hoiclip_engine.sources.file",
        "hoiclip_engine.sinks.video_sink",
        "hoiclip_engine.backends",
        "hoiclip_engine.engine",
        "hoiclip_engine.cli",
        "hoiclip_engine.cli.build",
        "hoiclip_engine.cli.eval",
        "hoiclip_engine.cli.export",
    ],
)
def test_runtime_imports_without_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_finding_a_model_by_its_name_loads_no_tracker() -> None:
    """It takes half a second, which every command with a model would pay."""
    code = "import sys, hoiclip_engine.models as m; m.find_model('drawn'); sys.exit('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
