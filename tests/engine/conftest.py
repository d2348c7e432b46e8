"""Fixtures of the engine's tests."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from hoiclip.core.errors import BackendMissing
from hoiclip.core.torch_extra import EXTRA
from hoiclip_engine.backends.tensorrt.library import TensorRtLibrary
from hoiclip_engine.cli.main import main
from tests.engine.command_output import Cli, CommandOutput
from tests.engine.untrained import untrained_model
from tests.engine.video_files import write_clip
from tests.without_torch import HAS_TORCH


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*argv: object) -> CommandOutput:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        output = CommandOutput(code, *capsys.readouterr())
        if not HAS_TORCH and code == BackendMissing.exit_code and EXTRA in output.err:
            pytest.skip(output.err)
        return output

    return call


@pytest.fixture(scope="module")
def model() -> Path:
    return untrained_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [0, 40, 80])


@pytest.fixture(scope="session")
def rtx() -> TensorRtLibrary:
    """TensorRT-RTX, whose builder needs no GPU."""
    _require_installed("tensorrt_rtx")
    return "tensorrt-rtx"


@pytest.fixture(scope="session")
def modelopt() -> None:
    """Skips where ModelOpt, which makes graphs of lower precision for TensorRT, is not installed."""
    for package in ("modelopt", "onnx_graphsurgeon", "polygraphy"):
        _require_installed(package)


def _require_installed(package: str) -> None:
    """Skips where a wheel is missing that only some machines have; fails where the environment requires it."""
    if importlib.util.find_spec(package) is not None:
        return
    if os.environ.get("HOICLIP_REQUIRE_TRT") == "1":
        pytest.fail(f"{package} is not installed, and HOICLIP_REQUIRE_TRT=1; make setup")
    pytest.skip(f"{package} is not installed; pip install 'hoiclip[dev-trt]'")
