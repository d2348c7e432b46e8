"""8 bits for OpenVINO: NNCF sees what values a layer takes and puts its scales around it, where the policy lets it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hoiclip.errors import BackendMissing, ModelError
from hoiclip_engine.export import quiet
from hoiclip_engine.precision.policy import policy

Inputs = Mapping[str, NDArray[Any]]


def quantised(graph: Path, calibration: Sequence[Inputs], out: Path) -> None:
    """Writes OUT (.xml, its weights beside it as .bin), an OpenVINO model of the graph's inputs and outputs.

    Args:
        graph: fp32 ONNX, nodes named by node_names.
        calibration: inputs of one batch each, all of one size; looked at more than once.

    Raises:
        BackendMissing: nncf or onnx is not installed.
        ModelError: the graph cannot be quantised or written.
    """
    try:
        import nncf
        import onnx
        import openvino
    except ImportError as error:
        raise BackendMissing(
            f"8 bits for openvino need {error.name}; pip install 'hoiclip[quantize]' brings it"
        ) from error
    kept = policy("int8").nodes(onnx.load(graph, load_external_data=False))
    # A convolution with a bias becomes two operations of OpenVINO; the second has the node's name.
    names = [f"{name}{tail}" for name in kept for tail in ("", "/WithoutBiases")]
    try:
        with quiet():
            nncf.set_log_level(logging.ERROR)
            model = nncf.quantize(
                openvino.Core().read_model(graph),
                nncf.Dataset(calibration, dict),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(calibration),
                ignored_scope=nncf.IgnoredScope(names=names, validate=False),
            )
        openvino.save_model(model, out, compress_to_fp16=False)
    except RuntimeError as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{graph} cannot be quantised: {first}; report it") from error
