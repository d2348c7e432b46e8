"""hoiclip learns: data, model, matching, losses, training, evaluation, checkpoints.

Importing the package costs nothing; torch is loaded when a model is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoiclip.model import HOICLIP

__version__ = "0.1.0"


def load_model(path: str | Path) -> HOICLIP:
    """The torch module of a model file, in evaluation mode, fp32, on the CPU.

    Raises:
        ModelError: the file is missing, damaged or no model file of this project.
    """
    from hoiclip.core.model_file import load_model_file

    return load_model_file(Path(path)).build()
