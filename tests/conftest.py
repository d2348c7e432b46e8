"""Where fixtures and real files are, and what happens where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.models import GoldenModels

ROOT = Path(__file__).resolve().parent.parent


def _needed(path: Path, what: str) -> Path:
    if path.is_dir():
        return path
    message = f"{what} is not at {path}"
    if os.environ.get("HOICLIP_REQUIRE_SHARED") == "1":
        pytest.fail(f"{message}, and HOICLIP_REQUIRE_SHARED=1")
    pytest.skip(message)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked gpu run where there is one; a GPU machine that lost its GPU must not pass by skipping."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("HOICLIP_REQUIRE_GPU") == "1":
            pytest.fail("torch sees no GPU, and HOICLIP_REQUIRE_GPU=1")
        pytest.skip("torch sees no GPU")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real files that are not part of the project."""
    return _needed(Path(os.environ.get("HOICLIP_SHARED", ROOT / ".." / "shared")).resolve(), "the shared folder")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of recorded numbers of the official model (one salt, one set of sizes)."""
    default = ROOT / ".." / "shared" / "parity" / "public"
    return _needed(Path(os.environ.get("HOICLIP_PARITY_DIR", default)).resolve(), "the parity folder")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither use nor fill the cache of whoever runs them."""
    os.environ["HOICLIP_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def golden_models(tmp_path_factory: pytest.TempPathFactory) -> GoldenModels:
    """Models of golden weights by layout and salt."""
    return GoldenModels(tmp_path_factory.mktemp("golden"))
