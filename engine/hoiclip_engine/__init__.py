"""hoiclip_engine runs: frames to tracked human-object pairs.

from hoiclip_engine import Engine
for result in Engine.load("model.safetensors").stream("clip.mp4"):
    result.pts_s, result.pairs, result.events
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hoiclip_engine.engine import Engine, EngineConfig

__all__ = ["Engine", "EngineConfig"]


def __getattr__(name: str) -> Any:
    """Imports the engine when it is asked for: `hoiclip_engine.track` alone needs neither av nor a backend."""
    if name in __all__:
        from hoiclip_engine import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
