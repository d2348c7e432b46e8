"""What the command line tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoiclip_engine.cli import main
from tests.engine.making_videos import write_clip
from tests.engine.saying import Cli, Said
from tests.engine.untrained import untrained_model


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*argv: object) -> Said:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def model() -> Path:
    return untrained_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [0, 40, 80])
