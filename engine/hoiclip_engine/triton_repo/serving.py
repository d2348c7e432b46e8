"""What the Python models of a repository share. Imported inside the server, whose module it needs; never by the rest.

Whatever is wrong with a request is one line in its own response; the requests beside it are answered.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from hoiclip.errors import HoiclipError
from hoiclip_engine.sidecar import read

Arrays = Mapping[str, NDArray[Any]]


def sidecar_of(args: Mapping[str, str]) -> dict[str, Any]:
    """What lies beside the model's code.

    Args:
        args: what the server hands to `initialize`.

    Raises:
        ModelError: it is missing or of another schema.
    """
    return read(Path(args["model_repository"]) / args["model_version"])


def answers(requests: Sequence[Any], answer: Callable[[Arrays], Arrays]) -> list[Any]:
    """One response for each request."""
    return [_response(request, answer) for request in requests]


def _response(request: Any, answer: Callable[[Arrays], Arrays]) -> Any:
    try:
        return responded(answer(tensors_of(request)))
    except (HoiclipError, ValueError) as error:
        return failed(str(error))
    except Exception as error:
        pb_utils.Logger.log_error(traceback.format_exc())
        return failed(f"internal error, {type(error).__name__}: {error}; the server's log has more")


def tensors_of(request: Any) -> Arrays:
    """Those that were sent, by name."""
    return {one.name(): one.as_numpy() for one in request.inputs()}


def responded(arrays: Arrays) -> Any:
    return pb_utils.InferenceResponse(
        output_tensors=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in arrays.items()]
    )


def failed(message: str) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(" ".join(message.split())))
