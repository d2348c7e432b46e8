"""What the tests of the documentation share."""

from __future__ import annotations

import pytest

from hoiclip_engine.quantization import builds
from tests.engine.conftest import cli

__all__ = ["cli"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else was asked for, torch: an exported graph and its compiler take half a minute."""
    select_backend = builds.select_backend
    monkeypatch.setattr(builds, "select_backend", lambda asked: select_backend("torch" if asked == "auto" else asked))
