"""The HOICLIP network as a torch module. Its config needs no torch; the rest is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hoiclip.model.config import ModelConfig

if TYPE_CHECKING:
    from hoiclip.model.hoiclip import HOICLIP, LayerOutputs, Prediction

__all__ = ["HOICLIP", "LayerOutputs", "ModelConfig", "Prediction"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hoiclip.model import hoiclip

        return getattr(hoiclip, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
