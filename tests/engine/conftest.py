"""What the command line tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from hoiclip.errors import BackendMissing
from hoiclip.torch_extra import EXTRA
from hoiclip_engine.cli import main
from hoiclip_engine.tensorrt_library import Library
from tests.engine.making_videos import write_clip
from tests.engine.saying import Cli, Said
from tests.engine.untrained import untrained_model
from tests.without_torch import THERE


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*argv: object) -> Said:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        said = Said(code, *capsys.readouterr())
        if not THERE and code == BackendMissing.exit_code and EXTRA in said.err:
            pytest.skip(said.err)
        return said

    return call


@pytest.fixture(scope="module")
def model() -> Path:
    return untrained_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [0, 40, 80])


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT-RTX, whose builder needs no GPU."""
    _installed("tensorrt_rtx")
    return "tensorrt-rtx"


@pytest.fixture(scope="session")
def modelopt() -> None:
    """What makes graphs of lower precision for TensorRT."""
    for package in ("modelopt", "onnx_graphsurgeon", "polygraphy"):
        _installed(package)


def _installed(package: str) -> None:
    """Wheels that only some machines have; where they are said to be there, nothing passes by skipping."""
    if importlib.util.find_spec(package) is not None:
        return
    if os.environ.get("HOICLIP_REQUIRE_TRT") == "1":
        pytest.fail(f"{package} is not installed, and HOICLIP_REQUIRE_TRT=1; make setup")
    pytest.skip(f"{package} is not installed; pip install 'hoiclip[dev-trt]'")
