"""TensorRT and TensorRT-RTX on an NVIDIA GPU; engines are built once and kept in the cache of engines.

Running needs no torch. `compile_model` is the other way, by torch_tensorrt where that is installed; it has not run
yet for want of a GPU. Types are those of the program, as everywhere (strong typing): export a model of
`hoiclip.model.gpu_inference.prepare_for_gpu` with inputs of the same type.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.cache_dirs import cache_folder
from hoiclip.core.errors import BackendMissing, ModelError
from hoiclip.core.model_file import ModelFile, file_sha256
from hoiclip.core.preprocess import ModelInput
from hoiclip.core.raw_output import RawOutput
from hoiclip_engine.backends.base import SINGLE_IMAGE, Capacity, Precision
from hoiclip_engine.backends.tensorrt.build_process import build_in_subprocess
from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest
from hoiclip_engine.backends.tensorrt.library import TensorRtLibrary, load_library
from hoiclip_engine.backends.tensorrt.runtime import EngineRefused, TensorRtRuntime, gpu_name, load_cuda
from hoiclip_engine.cache.artifacts import (
    EngineKey,
    KernelCache,
    cached_engine,
    exported_graph,
    forget_engine,
    graph_sha256,
)
from hoiclip_engine.export.graph_spec import MODEL_OUTPUTS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_log = logging.getLogger("hoiclip")


class TensorRtModule:
    """A BackendModule for either library."""

    def __init__(self, name: TensorRtLibrary) -> None:
        self.name: TensorRtLibrary = name

    def library(self) -> str:
        return f"{self.name} {load_library(self.name).__version__}"

    def device(self) -> str:
        return gpu_name(load_cuda())

    def fast_precisions(self) -> tuple[Precision, ...]:
        """Every GPU that these libraries know has tensor cores for both. fp16 is built first: of models with attention,
        int8 is the slower one as often as not."""
        return ("fp16", "int8")

    def load(
        self,
        model: ModelFile,
        padded_hw: tuple[int, int],
        precision: Precision,
        graph: Path | None,
        capacity: Capacity = SINGLE_IMAGE,
    ) -> TensorRtBackend:
        """Loads a build, whose graph is of one image, or the exported graph."""
        batch = capacity.batch if graph is None else 1
        graph = graph or exported_graph(model, padded_hw, batch)
        return TensorRtBackend(model, padded_hw, precision, self.name, graph, batch=batch)


class TensorRtBackend:
    """An engine for one padded size and batch."""

    def __init__(
        self,
        model: ModelFile,
        padded_hw: tuple[int, int],
        precision: Precision,
        library: TensorRtLibrary,
        graph: Path,
        plugins: Sequence[Path] = (),
        batch: int = 1,
    ) -> None:
        """
        Args:
            graph: holds the precision in its types; `precision` is its name.
            plugins: libraries of the operators in it, where they are not TensorRT's own.

        Raises:
            BackendMissing: the library, cuda-bindings, a plugin or a GPU is missing.
            ModelError: the engine cannot be built, or does not run here.
        """
        self.name: str = library
        self.padded_hw, self.capacity = padded_hw, Capacity(batch=batch)
        trt, cuda = load_library(library), load_cuda()
        device, clip = gpu_name(cuda), model.config.clip_image_px
        shapes = {
            "images": (batch, 3, *padded_hw),
            "padding": (batch, *padded_hw),
            "clip_images": (batch, 3, clip, clip),
        }
        request = EngineBuildRequest(
            library=library,
            graph=graph,
            profile={name: (shape,) * 3 for name, shape in shapes.items()},
            plugins=tuple(plugins),
            timing_cache=_timing_cache_path(library, trt, device),
        )
        key = EngineKey(
            graph_sha256=graph_sha256(graph),
            library=f"{library} {trt.__version__}",
            device=device,
            precision=precision,
            shapes=shapes,
            options={"optimization_level": str(request.optimization_level), "tf32": str(request.tf32)},
            plugin_sha256=hashlib.sha256("".join(map(file_sha256, plugins)).encode()).hexdigest() if plugins else "",
        )
        self._runtime = _load_runtime(trt, cuda, request, key)

    def __call__(self, model_input: ModelInput) -> RawOutput:
        outputs = self._runtime(model_input.arrays())
        return RawOutput(**{name: outputs[name] for name in MODEL_OUTPUTS})

    def close(self) -> None:
        self._runtime.close()


def _load_runtime(trt: Any, cuda: Any, request: EngineBuildRequest, key: EngineKey) -> TensorRtRuntime:
    """Loads the engine onto the GPU; a cached engine that does not load is built again."""
    is_new = False

    def make() -> bytes:
        nonlocal is_new
        is_new = True
        _log.info("building the %s engine, which takes minutes once", key.library)
        return build_in_subprocess(request).engine

    engine = cached_engine(key, make)
    kernels = KernelCache(key) if request.library == "tensorrt-rtx" else None
    try:
        return TensorRtRuntime(trt, cuda, engine, plugins=request.plugins, kernels=kernels)
    except EngineRefused as error:  # a dependency that the key does not hold
        if is_new:
            raise
        _log.warning("the %s engine is built again: %s", key.library, error)
        forget_engine(key)
        return TensorRtRuntime(trt, cuda, cached_engine(key, make), plugins=request.plugins, kernels=kernels)


def _timing_cache_path(library: TensorRtLibrary, trt: Any, device: str) -> Path | None:
    """The file of TensorRT's measurements of layers, for one version and one GPU; None where it cannot be kept."""
    if library == "tensorrt-rtx":
        return None
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{library}-{trt.__version__}-{device}")
    try:
        return cache_folder("timings") / f"{name}.cache"
    except OSError:
        return None


def compile_model(model: torch.nn.Module, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """The model compiled for the sizes of `inputs`; operators that TensorRT lacks stay in torch.

    Args:
        model: as hoiclip.model.gpu_inference prepares it.
        inputs: examples of its inputs, on the GPU.

    Raises:
        BackendMissing: torch_tensorrt or the libraries it loads are not installed.
        ModelError: the model cannot be compiled.

    Source: docs.pytorch.org/TensorRT, "Compiling Exported Programs with Torch-TensorRT"; use_explicit_typing since 2.5.
    """
    import torch

    from hoiclip_kernels.dual_attention.graph import exported_as

    try:
        torch_tensorrt = importlib.import_module("torch_tensorrt")
    except (ImportError, OSError) as error:
        raise BackendMissing(
            f"torch_tensorrt cannot be imported ({_first_line(error)}); pip install torch-tensorrt"
        ) from error
    try:
        with torch.no_grad(), exported_as("plain"):
            program = torch.export.export(model, tuple(inputs), strict=False)
        compiled: Callable[..., Any] = torch_tensorrt.dynamo.compile(program, list(inputs), use_explicit_typing=True)
    except Exception as error:  # of its own and of TensorRT's classes
        raise ModelError(f"torch_tensorrt cannot compile the model: {_first_line(error)}") from error
    return compiled


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
