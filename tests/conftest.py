"""Where fixtures and real files are, and what happens where they are not."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import without_torch

if TYPE_CHECKING:
    from tests.golden.models import GoldenModels

ROOT = Path(__file__).resolve().parent.parent


def _needed(path: Path, what: str) -> Path:
    if path.is_dir():
        return path
    message = f"{what} is not at {path}"
    if os.environ.get("HOICLIP_REQUIRE_SHARED") == "1":
        pytest.fail(f"{message}, and HOICLIP_REQUIRE_SHARED=1")
    pytest.skip(message)


def pytest_configure(config: pytest.Config) -> None:
    """Several workers share the cores: each computes with one thread, from before it imports anything."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch, MKL, OpenBLAS; workers and their children inherit it
    # A shell starts its background jobs deaf to the first two, nohup to the third, and they hand that on; several tests
    # interrupt processes.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if without_torch.HAS_TORCH or not without_torch.needs_torch(module_path):
        return None
    return without_torch.NeedsTorch.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skipped_without_torch())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Tests marked gpu run where there is one; a GPU machine that lost its GPU must not pass by skipping."""
    if item.get_closest_marker("gpu") is not None:
        _require_gpu()
    return (yield from _skipped_without_torch())


def _skipped_without_torch() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if without_torch.HAS_TORCH or not without_torch.is_about_torch(error):
            raise
        pytest.skip(str(error))


def _sees_gpu() -> bool:
    if not without_torch.HAS_TORCH:
        return False
    import torch

    return torch.cuda.is_available()


def _require_gpu() -> None:
    if not _sees_gpu():
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


@pytest.fixture(scope="session")
def of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that goes away with the test run and is the same for all its workers: what is in it is made once."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(of_the_run: Path) -> None:
    """Tests neither use nor fill the cache of whoever runs them."""
    os.environ["HOICLIP_CACHE"] = str(of_the_run / "cache")


@pytest.fixture(scope="session", autouse=True)
def _exports(of_the_run: Path) -> Generator[None, None, None]:
    if not without_torch.HAS_TORCH:
        yield
        return
    from tests.exports import shared_exports

    folder = of_the_run / "exports"
    folder.mkdir(exist_ok=True)
    with shared_exports(folder):
        yield


@pytest.fixture(scope="session")
def golden_models(of_the_run: Path) -> GoldenModels:
    """Models of golden weights by layout and salt."""
    from tests.golden.models import GoldenModels

    folder = of_the_run / "golden"
    folder.mkdir(exist_ok=True)
    return GoldenModels(folder)
