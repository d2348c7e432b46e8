"""The HOICLIP network as a torch module."""

from hoiclip.model.config import ModelConfig
from hoiclip.model.detector import HOICLIP, LayerOutputs, Prediction

__all__ = ["HOICLIP", "LayerOutputs", "ModelConfig", "Prediction"]
