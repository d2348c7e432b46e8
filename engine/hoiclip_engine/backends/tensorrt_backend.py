"""TensorRT and TensorRT-RTX on an NVIDIA GPU; engines are built once and kept in the engine cache."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hoiclip.cache import cache_folder
from hoiclip.checkpoint.model_file import ModelFile, file_sha256
from hoiclip_engine.backends.capacity import ONE, Capacity
from hoiclip_engine.cuda_runtime import gpu, load_cuda
from hoiclip_engine.engine_cache import EngineKey, engine, forget, graph_sha256
from hoiclip_engine.export import OUTPUTS, exported_graph
from hoiclip_engine.precision import Precision
from hoiclip_engine.preprocess import ModelInput
from hoiclip_engine.raw_output import RawOutput
from hoiclip_engine.tensorrt_build import BuildRequest
from hoiclip_engine.tensorrt_library import Library, load_library
from hoiclip_engine.tensorrt_process import build_apart
from hoiclip_engine.tensorrt_runtime import EngineRefused, TensorRtRuntime

_log = logging.getLogger("hoiclip")


class TensorRtModule:
    """What backends/__init__.py asks of a backend's module, for either library."""

    def __init__(self, name: Library) -> None:
        self.name: Library = name

    def library(self) -> str:
        return f"{self.name} {load_library(self.name).__version__}"

    def device(self) -> str:
        return gpu(load_cuda())

    def fast_precisions(self) -> tuple[Precision, ...]:
        """Every GPU that these libraries know has tensor cores for both."""
        return ("int8", "fp16")

    def load(
        self,
        model: ModelFile,
        canvas_hw: tuple[int, int],
        precision: Precision,
        graph: Path | None,
        wanted: Capacity = ONE,
    ) -> TensorRtBackend:
        """A build's graph is of one picture."""
        batch = wanted.batch if graph is None else 1
        graph = graph or exported_graph(model, canvas_hw, batch)
        return TensorRtBackend(model, canvas_hw, precision, self.name, graph, batch=batch)


class TensorRtBackend:
    def __init__(
        self,
        model: ModelFile,
        canvas_hw: tuple[int, int],
        precision: Precision,
        library: Library,
        graph: Path,
        plugins: Sequence[Path] = (),
        batch: int = 1,
    ) -> None:
        """
        Args:
            graph: says the precision; `precision` is its name.
            plugins: libraries of the operators in it, where they are not TensorRT's own.

        Raises:
            BackendMissing: the library, cuda-bindings, a plugin or a GPU is missing.
            ModelError: the engine cannot be built, or does not run here.
        """
        self.name: str = library
        self.canvas_hw, self.capacity = canvas_hw, Capacity(batch=batch)
        trt, cuda = load_library(library), load_cuda()
        device, clip = gpu(cuda), model.config.clip_image_px
        shapes = {
            "images": (batch, 3, *canvas_hw),
            "padding": (batch, *canvas_hw),
            "clip_images": (batch, 3, clip, clip),
        }
        request = BuildRequest(
            library=library,
            graph=graph,
            profile={name: (shape,) * 3 for name, shape in shapes.items()},
            plugins=tuple(plugins),
            timing_cache=_timings(library, trt, device),
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
        self._runtime = _loaded(trt, cuda, request, key)

    def __call__(self, model_input: ModelInput) -> RawOutput:
        made = self._runtime(model_input.arrays())
        return RawOutput(**{name: made[name] for name in OUTPUTS})

    def close(self) -> None:
        self._runtime.close()


def _loaded(trt: Any, cuda: Any, request: BuildRequest, key: EngineKey) -> TensorRtRuntime:
    """The engine on the GPU; one that was kept but does not load is built again."""
    made = False

    def make() -> bytes:
        nonlocal made
        made = True
        _log.info("building the %s engine, which takes minutes once", key.library)
        return build_apart(request).engine

    kept = engine(key, make)
    try:
        return TensorRtRuntime(trt, cuda, kept, plugins=request.plugins)
    except EngineRefused as error:  # the key holds what is known to matter; this is for what is not
        if made:
            raise
        _log.warning("the %s engine is built again: %s", key.library, error)
        forget(key)
        return TensorRtRuntime(trt, cuda, engine(key, make), plugins=request.plugins)


def _timings(library: Library, trt: Any, device: str) -> Path | None:
    """Where TensorRT keeps what it measured; it is of one version and one GPU."""
    if library == "tensorrt-rtx":
        return None
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{library}-{trt.__version__}-{device}")
    try:
        return cache_folder("timings") / f"{name}.cache"
    except OSError:
        return None
