"""What the tests of the documentation share."""

from __future__ import annotations

import pytest

from hoiclip_engine import engine
from tests.engine.conftest import cli

__all__ = ["cli"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else was asked for, torch: an exported graph and its compiler take half a minute."""
    choose = engine.choose
    monkeypatch.setattr(engine, "choose", lambda asked: choose("torch" if asked == "auto" else asked))
