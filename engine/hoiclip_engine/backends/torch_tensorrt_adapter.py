"""An exported model to TensorRT by torch_tensorrt, for those who have it. Not run yet: it needs a GPU.

Types are those of the program, as everywhere (strong typing): export what `hoiclip.model.fast.fast_module` made, from
inputs of the same type.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hoiclip.errors import BackendMissing, ModelError
from hoiclip_kernels.dual_attention.graph import decompositions


def compile_exported(program: torch.export.ExportedProgram, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """What the program does, compiled for the sizes of `inputs`; parts TensorRT does not know stay torch's.

    Args:
        inputs: examples of what the program takes, on the GPU.

    Raises:
        BackendMissing: torch_tensorrt or the libraries it loads are not installed.
        ModelError: the program cannot be compiled.

    Source: docs.pytorch.org/TensorRT, "Compiling Exported Programs with Torch-TensorRT"; use_explicit_typing since 2.5.
    """
    try:
        torch_tensorrt = importlib.import_module("torch_tensorrt")
    except (ImportError, OSError) as error:
        raise BackendMissing(
            f"torch_tensorrt cannot be imported ({_first_line(error)}); pip install torch-tensorrt"
        ) from error
    plain = program.run_decompositions(decompositions("plain"))
    try:
        compiled: Callable[..., Any] = torch_tensorrt.dynamo.compile(plain, list(inputs), use_explicit_typing=True)
    except Exception as error:  # of its own and of TensorRT's classes
        raise ModelError(f"torch_tensorrt cannot compile the model: {_first_line(error)}") from error
    return compiled


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
