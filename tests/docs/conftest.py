"""What the tests of the documentation share."""

from __future__ import annotations

import pytest

from hoiclip_engine import engine
from tests.engine.conftest import cli

__all__ = ["cli"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else was asked for, torch: an exported graph and its compiler take half a minute."""
    select_backend = engine.select_backend
    monkeypatch.setattr(engine, "select_backend", lambda asked: select_backend("torch" if asked == "auto" else asked))
