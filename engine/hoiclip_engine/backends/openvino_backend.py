"""OpenVINO on the CPU; compiled engines are cached."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
import openvino.opset13
from numpy.typing import NDArray

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import ModelFile
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import SINGLE_IMAGE, Capacity, ClipView, Precision
from hoiclip_engine.backends.cpu import cpu_flags
from hoiclip_engine.cache.artifacts import EngineKey, cached_engine, exported_graph, forget_engine, graph_sha256
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS

_log = logging.getLogger("hoiclip")


def library() -> str:
    return f"openvino {openvino.__version__}"


def device() -> str:
    """Name of the CPU, and the precisions that OpenVINO uses on it."""
    core = openvino.Core()
    return ", ".join((core.get_property("CPU", "FULL_DEVICE_NAME"), *_capabilities(core)))


def fast_precisions() -> tuple[Precision, ...]:
    """Precisions that this CPU has instructions for; OpenVINO itself computes int8 on any x86."""
    found: list[Precision] = []
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(cpu_flags()):
        found.append("int8")
    if "BF16" in _capabilities(openvino.Core()):
        found.append("bf16")
    return tuple(found)


def load(
    model: ModelFile,
    padded_hw: tuple[int, int],
    precision: Precision,
    graph: Path | None,
    capacity: Capacity = SINGLE_IMAGE,
) -> OpenVinoBackend | ClipKeepingOpenVinoBackend:
    """bf16 computes the exported graph in half precision; int8 has a graph of its own, for one image."""
    one_image = graph is not None or capacity.keeps_clip
    offered = replace(capacity, batch=1) if one_image else capacity
    backend = ClipKeepingOpenVinoBackend if capacity.keeps_clip else OpenVinoBackend
    return backend(model, padded_hw, precision, graph or exported_graph(model, padded_hw, offered.batch), offered)


class OpenVinoBackend:
    """One network."""

    def __init__(
        self,
        model: ModelFile,
        padded_hw: tuple[int, int],
        precision: Precision,
        graph: Path,
        capacity: Capacity = SINGLE_IMAGE,
    ) -> None:
        self.name = "openvino"
        self.padded_hw, self.capacity = padded_hw, capacity
        source = _NetworkSource(graph, _shapes(model, padded_hw, capacity))
        self._whole = _NetworkByPadding(source, precision, capacity)

    def __call__(self, model_input: ModelInput) -> RawOutput:
        return RawOutput(**self._whole(model_input.arrays(), MODEL_OUTPUTS))

    def close(self) -> None:
        self._whole.close()


class ClipKeepingOpenVinoBackend:
    """Two networks, cut from one: what follows from the CLIP image alone, and the rest."""

    def __init__(
        self, model: ModelFile, padded_hw: tuple[int, int], precision: Precision, graph: Path, capacity: Capacity
    ) -> None:
        self.name = "openvino"
        self.padded_hw, self.capacity = padded_hw, capacity
        shapes = _shapes(model, padded_hw, capacity)
        self._clip = _CompiledNetwork(_NetworkSource(graph, shapes, "clip"), precision, capacity)
        self._rest = _NetworkByPadding(_NetworkSource(graph, shapes, "rest"), precision, capacity)

    def __call__(self, model_input: ModelInput) -> RawOutput:
        return self.infer(model_input, self.view(model_input))

    def view(self, model_input: ModelInput) -> ClipView:
        return self._clip({_CLIP_INPUT: model_input.clip_bchw}, None)

    def infer(self, model_input: ModelInput, view: ClipView) -> RawOutput:
        kept = {name: values for name, values in view.items() if name.startswith(_KEPT)}
        inputs = {name: values for name, values in model_input.arrays().items() if name != _CLIP_INPUT}
        found = self._rest(inputs | kept, None)
        return RawOutput(**{name: found[name] if name in found else view[name] for name in MODEL_OUTPUTS})

    def close(self) -> None:
        self._clip.close()
        self._rest.close()


_CLIP_INPUT, _PADDING_INPUT = "clip_images", "padding"
_KEPT = "kept_"
"""Begin of the names of what the rest takes from CLIP."""
_PARTS: tuple[Literal["clip", "rest"], ...] = ("clip", "rest")


@dataclass(frozen=True, slots=True)
class _NetworkSource:
    """A graph with static shapes, or a part of it."""

    graph: Path
    shapes: Mapping[str, tuple[int, ...]]
    part: Literal["whole", "clip", "rest"] = "whole"
    padded: bool = True
    """Whether it takes images with padding; else its mask is a constant without any."""

    def read(self, core: Any) -> Any:
        network = core.read_model(self.graph)
        network.reshape({name: list(shape) for name, shape in self.shapes.items()})
        if not self.padded:
            mask = network.input(_PADDING_INPUT).get_node()
            nothing = openvino.opset13.constant(np.zeros(self.shapes[_PADDING_INPUT], np.bool_))
            mask.output(0).replace(nothing.output(0))
            network.remove_parameter(mask)
        return network if self.part == "whole" else _cut(network)[_PARTS.index(self.part)]

    def options(self) -> dict[str, str]:
        """What its engine's key has beside the compiler options."""
        part: dict[str, str] = {} if self.part == "whole" else {"part": self.part}
        return part if self.padded else {**part, "padding": "none"}


def _cut(network: Any) -> tuple[Any, Any]:
    """Splits a network into what follows from the CLIP image alone, and the rest, which takes that as inputs.

    So the cut lies behind everything that can be kept: the projections of CLIP's tokens are in the first part. It
    needs no names inside of the graph, which quantization changes.
    """
    ops = openvino.opset13
    of_clip, of_rest = set[str](), set[str]()
    for node in network.get_ordered_ops():
        sources = {value.get_source_output().get_node().get_friendly_name() for value in node.inputs()}
        is_input = node.get_type_name() == "Parameter"
        if sources & of_rest or (is_input and _CLIP_INPUT not in node.output(0).get_names()):
            of_rest.add(node.get_friendly_name())
        elif sources & of_clip or is_input:
            of_clip.add(node.get_friendly_name())
    kept, taken = list[Any](), list[Any]()
    for node in network.get_ordered_ops():
        for output in node.outputs() if node.get_friendly_name() in of_clip else ():
            takers = [each for each in output.get_target_inputs() if each.get_node().get_friendly_name() in of_rest]
            if takers:
                name = f"{_KEPT}{len(kept)}"
                made = ops.result(output)
                made.output(0).set_names({name})
                kept.append(made)
                parameter = ops.parameter(output.get_shape(), output.get_element_type(), name=name)
                parameter.output(0).set_names({name})
                taken.append(parameter)
                for taker in takers:
                    taker.replace_source_output(parameter.output(0))

    def of(names: set[str], nodes: Sequence[Any]) -> list[Any]:
        return [node for node in nodes if node.get_friendly_name() in names]

    parameters, results = network.get_parameters(), network.get_results()
    return (
        openvino.Model([*of(of_clip, results), *kept], of(of_clip, parameters), "clip"),
        openvino.Model(of(of_rest, results), [*of(of_rest, parameters), *taken], "rest"),
    )


def _shapes(model: ModelFile, padded_hw: tuple[int, int], capacity: Capacity) -> dict[str, tuple[int, ...]]:
    clip, b = model.config.clip_image_px, capacity.batch
    return {"images": (b, 3, *padded_hw), _PADDING_INPUT: (b, *padded_hw), _CLIP_INPUT: (b, 3, clip, clip)}


class _CompiledNetwork:
    """A compiled network and its requests."""

    def __init__(self, source: _NetworkSource, precision: Precision, capacity: Capacity) -> None:
        try:
            compiled = _compiled(source, precision, capacity.num_requests)
            self._names = tuple(output.get_any_name() for output in compiled.outputs)
            self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for _ in range(capacity.num_requests):
                self._requests.put(compiled.create_infer_request())
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise ModelError(
                f"OpenVINO cannot compile {source.graph}: {first}; delete that folder to make it again"
            ) from error

    def __call__(self, arrays: Mapping[str, NDArray[Any]], names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
        """Outputs that own their memory. Args: names: of outputs; None: all."""
        request = self._requests.get()
        try:
            request.infer(dict(arrays), share_inputs=True)
            return {name: np.array(request.get_tensor(name).data) for name in names or self._names}
        finally:
            self._requests.put(request)

    def close(self) -> None:
        del self._requests


class _NetworkByPadding:
    """A network for images with padding and one for images that fill the padded size, as 16:9 and 4:3 often do.

    In the latter what follows from the mask alone, above all the position embeddings, is computed when it is compiled.
    Each is compiled when the first image needs it; the warm-up of a session has an image of the padded size.
    """

    def __init__(self, source: _NetworkSource, precision: Precision, capacity: Capacity) -> None:
        self._source, self._precision, self._capacity = source, precision, capacity
        self._compiled: dict[bool, _CompiledNetwork] = {}
        self._compiling = threading.Lock()

    def __call__(self, arrays: Mapping[str, NDArray[Any]], names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
        if arrays[_PADDING_INPUT].any():
            return self._network(padded=True)(arrays, names)
        unmasked = {name: values for name, values in arrays.items() if name != _PADDING_INPUT}
        return self._network(padded=False)(unmasked, names)

    def _network(self, *, padded: bool) -> _CompiledNetwork:
        with self._compiling:
            if padded not in self._compiled:
                source = replace(self._source, padded=padded)
                self._compiled[padded] = _CompiledNetwork(source, self._precision, self._capacity)
            return self._compiled[padded]

    def close(self) -> None:
        for network in self._compiled.values():
            network.close()


def _capabilities(core: Any) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def options(precision: Precision, num_requests: int = 1) -> dict[str, str]:
    """Compiler options. One request is for latency: OpenVINO then takes the physical cores of one socket and pins its
    threads to them. Several requests share the cores: a small model gains more from a second image than from a second
    thread.
    """
    half = precision != "fp32" and "BF16" in _capabilities(openvino.Core())
    hint = (
        {"PERFORMANCE_HINT": "LATENCY"}
        if num_requests == 1
        else {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(num_requests)}
    )
    return {**hint, "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}


def _compiled(source: _NetworkSource, precision: Precision, num_requests: int) -> Any:
    """Static shapes: the plugin then plans memory and picks kernels once."""
    core, compile_options = openvino.Core(), options(precision, num_requests)
    key = EngineKey(
        graph_sha256=graph_sha256(source.graph),
        library=library(),
        device=device(),
        precision=precision,
        shapes=source.shapes,
        options={**compile_options, **source.options()},
    )

    compiled_now: Any = None

    def make() -> bytes:
        nonlocal compiled_now
        compiled_now = core.compile_model(source.read(core), "CPU", compile_options)
        return bytes(compiled_now.export_model().getbuffer())

    cached = cached_engine(key, make)
    if compiled_now is not None:
        return compiled_now
    try:
        return core.import_model(cached, "CPU", compile_options)
    except RuntimeError as error:  # the key holds all that is known to matter; this is for the rest
        _log.warning("the openvino engine is compiled again: %s", str(error).splitlines()[-1].strip())
        forget_engine(key)
        cached_engine(key, make)
        return compiled_now
