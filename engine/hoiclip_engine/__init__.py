"""hoiclip_engine runs: frames to tracked human-object pairs.

from hoiclip_engine import Engine
for result in Engine.load("model.safetensors").stream("clip.mp4"):
    result.pts_s, result.pairs, result.events
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.train import train_model

__all__ = ["Engine", "EngineConfig", "train_model"]
_HOMES = {"Engine": "engine", "EngineConfig": "engine", "train_model": "train"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for: `hoiclip_engine.track` alone needs neither av nor a backend, running no training."""
    if name == "train_model":
        from hoiclip.torch_extra import require_torch

        require_torch("training")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
