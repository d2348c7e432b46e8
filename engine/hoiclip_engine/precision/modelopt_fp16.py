"""16 bits for TensorRT: ModelOpt's AutoCast types every tensor of the graph, and the policy's nodes stay in 32.

TensorRT's networks are strongly typed: what the graph says is what runs.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoiclip.errors import BackendMissing, ModelError
from hoiclip_engine.export import quiet

Inputs = Mapping[str, NDArray[Any]]
LARGEST = float(np.finfo(np.float16).max) / 8
"""A node that takes or makes more than this on the sample stays in 32 bits: other pictures may make more."""


def to_fp16(graph: Path, out: Path, keep: Sequence[str], sample: Inputs | None = None) -> None:
    """Writes a graph of the same inputs and outputs, in the same types.

    Args:
        graph: fp32 ONNX, perhaps with int8 quantisation in it.
        keep: names of nodes that stay in 32 bits.
        sample: inputs to look for large values with; None: only weights are looked at.

    Raises:
        BackendMissing: ModelOpt, or what its ONNX parts need, is not installed.
        ModelError: the graph cannot be converted or written.
    """
    with modelopt(graph, "16 bits"), tempfile.TemporaryDirectory(prefix="hoiclip-") as room:
        import onnx
        from modelopt.onnx.autocast import convert_to_mixed_precision

        require_standard(graph)
        inputs = Path(room, "sample.npz")
        if sample is not None:
            np.savez(inputs, allow_pickle=False, **sample)
        made = convert_to_mixed_precision(
            str(graph),
            low_precision_type="fp16",
            nodes_to_exclude=exactly(keep),
            keep_io_types=True,
            data_max=LARGEST if sample is not None else np.inf,
            calibration_data=str(inputs) if sample is not None else None,
            providers=["cpu"],
        )
        onnx.save(made, out)


def exactly(names: Sequence[str]) -> list[str]:
    """ModelOpt takes regular expressions of how a name begins; one for all names, since Python keeps few compiled."""
    return [f"(?:{'|'.join(map(re.escape, names))})$"] if names else []


def require_standard(graph: Path) -> None:
    """Raises ModelError: a node is of no ONNX operator, and ModelOpt would ask TensorRT itself about its types."""
    import onnx

    foreign = {node.op_type for node in onnx.load(graph, load_external_data=False).graph.node if node.domain}
    if foreign:
        raise ModelError(
            f"expected plain operators in {graph}, found {', '.join(sorted(foreign))}; export with plain attention"
        )


@contextlib.contextmanager
def modelopt(graph: Path, what: str) -> Iterator[None]:
    """Imports and runs it quietly; everything it raises becomes one line."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("modelopt.onnx", "modelopt.onnx.autocast"))]
    for logger in loggers:
        logger.addFilter(nothing)
    try:
        with quiet():
            yield
    except ImportError as error:
        raise BackendMissing(f"{what} for TensorRT need {error.name}; pip install 'hoiclip[quantize-trt]'") from error
    except OSError as error:
        raise ModelError(f"{what} of {graph} cannot be written: {error.strerror}; is the disk full?") from error
    except (BackendMissing, ModelError):
        raise
    except Exception as error:  # classes of ModelOpt, onnx, ONNX Runtime and numpy
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{graph} cannot be turned into {what}: {first}; report it") from error
    finally:
        for logger in loggers:
            logger.removeFilter(nothing)
