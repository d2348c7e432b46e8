"""The Python models of a repository. They run inside Triton Inference Server, whose module they import.

An error of a request is one line in its own response; the requests beside it are answered.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from hoiclip.core.array_types import RGB
from hoiclip.core.errors import HoiclipError, ModelError
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.preprocess import padded_size_for, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.export.graph_spec import INPUTS, OUTPUTS, preprocess_config, read_metadata, vocabulary
from hoiclip_engine.export.triton.repository import ENCODED, IMAGE, IMAGE_HW
from hoiclip_engine.sources.base import SourceConfig
from hoiclip_engine.sources.file import decode_image
from hoiclip_engine.sources.frame_conversion import check_size

Arrays = Mapping[str, NDArray[Any]]


class PreprocessModel:
    """Turns an image, raw or encoded, into the inputs of the graph, by the runtime's own preprocessing."""

    def initialize(self, args: dict[str, str]) -> None:
        metadata = _metadata(args)
        self._config = preprocess_config(metadata)
        self._stride_px = int(metadata["preprocessing"]["images"]["stride_px"])
        self._max_pixels = SourceConfig().max_pixels

    def execute(self, requests: list[Any]) -> list[Any]:
        return _respond_to_all(requests, self._inputs)

    def _inputs(self, tensors: Arrays) -> Arrays:
        rgb = self._image(tensors)
        height, width = rgb.shape[:2]
        padded_hw = self._config.padded_hw or padded_size_for(height, width, self._config, self._stride_px)
        model_input = preprocess(rgb, replace(self._config, padded_hw=padded_hw))
        return {**model_input.arrays(), IMAGE_HW: np.array([height, width], np.int64)}

    def _image(self, tensors: Arrays) -> RGB:
        if (IMAGE in tensors) == (ENCODED in tensors):
            raise ValueError(f"expected one of {IMAGE} and {ENCODED}, got {'both' if tensors else 'neither'}")
        if ENCODED in tensors:
            return decode_image(tensors[ENCODED].tobytes(), self._max_pixels)
        rgb = tensors[IMAGE]
        if 0 in rgb.shape:
            raise ValueError(f"expected an RGB image (H, W, 3) uint8, got {rgb.shape}")
        check_size(rgb.shape[1], rgb.shape[0], self._max_pixels)
        return rgb


class GraphModel:
    """Computes the graph in onnxruntime on the CPU, for a server that was built without its ONNX Runtime backend.

    Requests that the server has joined, always of one size, are computed as one batch.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Raises ModelError: the graph is missing or cannot be loaded."""
        import onnxruntime

        graph = _version_folder(args) / _metadata(args)["graphs"][0]["file"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: its warnings are about graph details
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # pybind exceptions of its own module
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"ONNX Runtime cannot load {graph}: {first}; export the repository again") from error

    def execute(self, requests: list[Any]) -> list[Any]:
        try:
            return [_response(outputs) for outputs in self._outputs([_tensors(request) for request in requests])]
        except Exception as error:  # of ONNX Runtime, which knows best what is wrong with a shape
            first = (str(error).splitlines() or [type(error).__name__])[0]
            return [_error_response(f"the graph cannot be computed: {first}") for _ in requests]

    def _outputs(self, requests: list[Arrays]) -> list[Arrays]:
        ends = np.cumsum([len(tensors["images"]) for tensors in requests])[:-1]
        batch = {name: np.concatenate([tensors[name] for tensors in requests]) for name in INPUTS["whole"]}
        by_output = [np.split(value, ends) for value in self._session.run(OUTPUTS["whole"], batch)]
        return [dict(zip(OUTPUTS["whole"], values, strict=True)) for values in zip(*by_output, strict=True)]


class PostprocessModel:
    """Turns the graph's outputs into the fields of HOIDetections by the runtime's own rules, with names of labels."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: parameter["string_value"] for name, parameter in parameters.items()}
        config = PostprocessConfig(top_k=int(values["top_k"]), min_score=float(values["min_score"]))
        self._vocabulary = vocabulary(_metadata(args))
        self._postprocess = Postprocessor(self._vocabulary, config)

    def execute(self, requests: list[Any]) -> list[Any]:
        return _respond_to_all(requests, self._triplets)

    def _triplets(self, tensors: Arrays) -> Arrays:
        raw = RawOutput(**{name: tensors[name] for name in OUTPUTS["whole"]})
        height, width = tensors[IMAGE_HW].tolist()
        detections = self._postprocess(raw, (height, width))
        names = self._vocabulary
        return {
            **asdict(detections),
            "label_name": np.array([names.object_name(label) for label in detections.label], np.object_),
            "verb_name": np.array([names.verb_name(verb) for verb in detections.verb], np.object_),
        }


def _version_folder(args: Mapping[str, str]) -> Path:
    """The folder of the model's code.

    Args:
        args: the server's argument of `initialize`.
    """
    return Path(args["model_repository"]) / args["model_version"]


def _metadata(args: Mapping[str, str]) -> dict[str, Any]:
    """Raises ModelError: the metadata beside the model's code is missing or of another schema."""
    return read_metadata(_version_folder(args))


def _respond_to_all(requests: Sequence[Any], answer: Callable[[Arrays], Arrays]) -> list[Any]:
    """One response for each request."""
    return [_respond(request, answer) for request in requests]


def _respond(request: Any, answer: Callable[[Arrays], Arrays]) -> Any:
    try:
        return _response(answer(_tensors(request)))
    except (HoiclipError, ValueError) as error:
        return _error_response(str(error))
    except Exception as error:
        pb_utils.Logger.log_error(traceback.format_exc())
        return _error_response(f"internal error, {type(error).__name__}: {error}; the server's log has more")


def _tensors(request: Any) -> Arrays:
    """The tensors of a request by name."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _response(arrays: Arrays) -> Any:
    return pb_utils.InferenceResponse(
        output_tensors=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in arrays.items()]
    )


def _error_response(message: str) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(" ".join(message.split())))
