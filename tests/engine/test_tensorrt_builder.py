"""One builder for every version: the calls that each of them has, and TensorRT-RTX for real where it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hoiclip.core.errors import BackendMissing, HoiclipError, ModelError
from hoiclip.core.model_file import load_model_file
from hoiclip_engine.backends.tensorrt.build_process import build_in_subprocess
from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest, build_engine
from hoiclip_engine.backends.tensorrt.library import TensorRtLibrary, engine_layers, load_library
from hoiclip_engine.cache.artifacts import exported_graph
from hoiclip_engine.export.graph_spec import GraphSpec
from hoiclip_engine.export.onnx_export import write_graph
from tests.engine import onnx_graphs
from tests.engine.fake_tensorrt import VERSIONS, fake_tensorrt
from tests.engine.onnx_graphs import BATCHES
from tests.engine.untrained import CONFIG, untrained_model

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parent.parent.parent
DYING = "tests.engine.dying_builder"


def request_of(version: str, graph: Path, **changes: Any) -> EngineBuildRequest:
    library: TensorRtLibrary = "tensorrt-rtx" if version == "rtx" else "tensorrt"
    return replace(EngineBuildRequest(library=library, graph=graph, profile=BATCHES), **changes)


def called(trt: Any, name: str) -> list[Any]:
    return [call[1:] for call in trt.calls if call[0] == name]


@pytest.mark.parametrize("version", VERSIONS)
def test_network_of_every_version_is_strongly_typed(version: str, tmp_path: Path) -> None:
    trt = fake_tensorrt(version)
    built = build_engine(trt, request_of(version, onnx_graphs.convolution(tmp_path / "g.onnx")))
    assert built.engine
    assert built.layers == {"CONVOLUTION": {"float": 1}}
    [(flags,)] = called(trt, "create_network")
    assert flags == (0 if version.startswith("11") else 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    [(flags,)] = called(trt, "build_serialized_network")
    assert flags == (["REQUIRE_USER_ALLOCATION"] if version == "rtx" else [])  # no precision, not even TF32
    [(config,)] = called(trt, "config")
    assert [profile._shapes for profile in config._profiles] == [{"x": [list(shape) for shape in BATCHES["x"]]}]
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.builder_optimization_level == 3


@pytest.mark.parametrize("version", ["10.3.0", "11.0.0.114"])
def test_timing_cache_of_earlier_builds_is_used_and_returned(version: str, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    request = request_of(version, onnx_graphs.convolution(tmp_path / "g.onnx"), timing_cache=cache)
    trt = fake_tensorrt(version)
    assert build_engine(trt, request).timing_cache == b"timings"
    cache.write_bytes(b" of yesterday")
    assert build_engine(trt, request).timing_cache == b"timings of yesterday"
    cache.write_bytes(b"damaged")
    assert build_engine(trt, request).timing_cache == b"timings"
    assert called(trt, "set_timing_cache") == [(b"",), (b" of yesterday",), (b"damaged",), (b"",)]


def test_builder_gets_the_limits(tmp_path: Path) -> None:
    trt = fake_tensorrt("10.16.1.11")
    graph = onnx_graphs.convolution(tmp_path / "g.onnx")
    build_engine(trt, request_of("10.16.1.11", graph, workspace_mb=512, optimization_level=5, tf32=True))
    assert called(trt, "set_memory_pool_limit") == [("WORKSPACE", 512 << 20)]
    assert called(trt, "build_serialized_network") == [(["TF32"],)]
    assert called(trt, "config")[0][0].builder_optimization_level == 5
    for wrong in ({"optimization_level": 6}, {"workspace_mb": 0}, {"profile": {"x": ((2,), (1,), (1,))}}):
        with pytest.raises(ValueError, match="expected"):
            request_of("10.3.0", graph, **wrong)


def test_building_for_other_gpus_needs_tensorrt_rtx(tmp_path: Path) -> None:
    graph = onnx_graphs.convolution(tmp_path / "g.onnx")
    trt = fake_tensorrt("rtx")
    build_engine(trt, request_of("rtx", graph, compute_capabilities=("SM86", "SM89")))
    assert called(trt, "set_compute_capability") == [("SM86",), ("SM89",)]
    with pytest.raises(ModelError, match="cannot build for SM42; it knows NONE, CURRENT, SM75"):
        build_engine(trt, request_of("rtx", graph, compute_capabilities=("SM42",)))
    with pytest.raises(ModelError, match="it knows only the GPU of this machine"):
        build_engine(fake_tensorrt("10.3.0"), request_of("10.3.0", graph, compute_capabilities=("SM89",)))


def test_plugins_are_loaded_before_the_graph_is_read(tmp_path: Path) -> None:
    graph = onnx_graphs.foreign(tmp_path / "g.onnx", "HoiclipDualAttention", "hoiclip")
    library = tmp_path / "libhoiclip_plugin.so"
    request = request_of("10.3.0", graph, plugins=(library,))
    with pytest.raises(BackendMissing, match=r"libhoiclip_plugin.so is missing; build it"):
        build_engine(fake_tensorrt("10.3.0"), request)
    library.touch()
    trt = fake_tensorrt("10.3.0")
    build_engine(trt, request)
    order = [call[0] for call in trt.calls]
    assert order.index("load_library") < order.index("parse_from_file")
    trt = fake_tensorrt("10.3.0")
    trt.trouble["load_library"] = "Unable to load library: wrong ELF class"
    with pytest.raises(BackendMissing, match="cannot be loaded: Unable to load library: wrong ELF class"):
        build_engine(trt, request)
    with pytest.raises(ModelError, match=r"node strange \(HoiclipDualAttention\): Plugin not found; give its plugin"):
        build_engine(fake_tensorrt("10.3.0"), request_of("10.3.0", graph))


def test_plugin_library_is_loaded_once_for_all_engines(tmp_path: Path) -> None:
    graph = onnx_graphs.foreign(tmp_path / "g.onnx", "HoiclipDualAttention", "hoiclip")
    library = tmp_path / "libhoiclip_plugin.so"
    library.touch()
    trt = fake_tensorrt("10.16.1.11")
    request = request_of("10.16.1.11", graph, plugins=(library,))
    assert build_engine(trt, request) == build_engine(trt, request)


def test_error_is_of_this_build_and_not_of_an_earlier_one(tmp_path: Path) -> None:
    trt = fake_tensorrt("11.0.0.114")
    request = request_of("11.0.0.114", onnx_graphs.convolution(tmp_path / "g.onnx"))
    for reason in ("first trouble", "second trouble"):
        trt.trouble["build_serialized_network"] = reason
        with pytest.raises(ModelError, match=reason):
            build_engine(trt, request)


def test_tensorrt_rtx_has_no_plugins(tmp_path: Path) -> None:
    graph = onnx_graphs.foreign(tmp_path / "g.onnx", "HoiclipDualAttention", "hoiclip")
    with pytest.raises(ModelError, match=r"tensorrt-rtx has no plugins; export .* with plain attention"):
        build_engine(fake_tensorrt("rtx"), request_of("rtx", graph, plugins=(tmp_path / "libhoiclip_plugin.so",)))


@pytest.mark.parametrize(
    ("step", "message", "expected"),
    [
        ("Builder", "CUDA initialization failure with error: 35", "cannot start: CUDA initialization failure"),
        ("build_serialized_network", "", "it does not say why"),
        (
            "build_serialized_network",
            "Could not find any\nimplementation for node conv",
            "any implementation for node conv",
        ),
        (
            "build_serialized_network",
            "Requested amount of GPU memory: out of memory",
            "free some, or allow less workspace",
        ),
    ],
)
def test_failed_build_gives_its_reason_in_one_line(step: str, message: str, expected: str, tmp_path: Path) -> None:
    trt = fake_tensorrt("10.3.0")
    trt.trouble[step] = message
    with pytest.raises(ModelError, match=expected) as caught:
        build_engine(trt, request_of("10.3.0", onnx_graphs.convolution(tmp_path / "g.onnx")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {**BATCHES, "other": ((1,), (1,), (1,))},
        {"x": ((1, 3, 8), (1, 3, 8), (1, 3, 8))},
        {"x": ((1, 3, 8, 16), (1, 3, 8, 16), (1, 3, 8, 16))},
    ],
    ids=["missing", "of an unknown input", "of another rank", "against a fixed size"],
)
def test_profile_must_fit_the_graph(profile: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"g\.onnx"):
        build_engine(
            fake_tensorrt("10.3.0"),
            request_of("10.3.0", onnx_graphs.convolution(tmp_path / "g.onnx"), profile=profile),
        )


def test_layers_are_counted_by_kind_and_precision(tmp_path: Path) -> None:
    graph = onnx_graphs.quantized_convolution(tmp_path / "g.onnx")
    layers = build_engine(fake_tensorrt("10.3.0"), request_of("10.3.0", graph)).layers
    assert layers == {"CONVOLUTION": {"int8": 1}, "DEQUANTIZE": {"float": 2}, "QUANTIZE": {"int8": 1}}


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_of_a_finished_engine_are_counted(version: str, tmp_path: Path) -> None:
    trt = fake_tensorrt(version)
    built = build_engine(trt, request_of(version, onnx_graphs.convolution(tmp_path / "g.onnx")))
    engine = trt.Runtime(None).deserialize_cuda_engine(built.engine)
    assert engine_layers(trt, engine) == {"CaskConvolution": {"half": 1}, "NoOp": {"none": 1}}


def test_missing_or_old_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendMissing, match=r"pip install 'hoiclip\[tensorrt\]'"):
        load_library("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.1.0"))
    with pytest.raises(BackendMissing, match=r"expected tensorrt 10\.3 or newer, found 10\.1\.0"):
        load_library("tensorrt")
    for version in VERSIONS[:-1]:
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
        assert load_library("tensorrt").__version__ == version


# The subprocess.


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("crashes", r"crashed \(SIGSEGV\) while building .*; its last line: Compiler backend is used"),
        ("starves", r"crashed \(SIGKILL, perhaps for want of memory\)"),
        ("truncates", "ended without an engine of .*, code 0"),
        ("gives up", "ended without an engine of .*, code 3"),
    ],
)
def test_crash_of_the_builder_ends_only_the_builder(stem: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected) as caught:
        build_in_subprocess(request_of("rtx", tmp_path / f"{stem}.onnx"), module=DYING)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_builder_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"did not build .* within 3 s"):
        build_in_subprocess(request_of("rtx", tmp_path / "hangs.onnx"), limit_s=3, module=DYING)
    assert _has_ended(int((tmp_path / "hangs.pid").read_text()))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_builder_ends_with_its_parent(how: signal.Signals, tmp_path: Path) -> None:
    request = request_of("rtx", tmp_path / "hangs.onnx").to_json()
    code = (
        "import sys; from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest as R;"
        "from hoiclip_engine.backends.tensorrt.build_process import build_in_subprocess;"
        f"build_in_subprocess(R.from_json(sys.argv[1]), module={DYING!r})"
    )
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "engine", ROOT / "kernels"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary)}
    parent = subprocess.Popen([sys.executable, "-c", code, request], env=environment, stderr=subprocess.DEVNULL)
    number = tmp_path / "hangs.pid"
    _until(lambda: number.exists() and number.read_text() != "")
    parent.send_signal(how)
    parent.wait(timeout=20)
    _until(lambda: _has_ended(int(number.read_text())))
    assert not list(temporary.iterdir())


def _has_ended(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"  # ended, and waiting for an init that some containers do not have


def _until(condition: Any) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


# TensorRT-RTX itself.


def test_tensorrt_rtx_builds_the_model(rtx: TensorRtLibrary) -> None:
    padded_hw = (128, 160)
    shapes = {"images": (1, 3, *padded_hw), "padding": (1, *padded_hw), "clip_images": (1, 3, 64, 64)}
    built = build_in_subprocess(
        EngineBuildRequest(
            library=rtx,
            graph=exported_graph(load_model_file(untrained_model()), padded_hw),
            profile={name: (shape,) * 3 for name, shape in shapes.items()},
            compute_capabilities=("SM89",),
        )
    )
    assert len(built.engine) > 1 << 20
    assert set(built.layers["CONVOLUTION"]) == {"float"}
    assert sum(built.layers["NORMALIZATION"].values()) > 10


def test_tensorrt_rtx_builds_a_graph_of_any_batch(rtx: TensorRtLibrary, tmp_path: Path) -> None:
    graph = tmp_path / "interaction.onnx"
    write_graph(load_model_file(untrained_model()).build(), GraphSpec(part="interaction", batch=None), graph)
    rest = {
        "pairs": (CONFIG.queries, CONFIG.clip_width),
        "memory": (20, CONFIG.clip_width),
        "hidden_cells": (20,),
        "clip_tokens": (CONFIG.clip_tokens, CONFIG.clip_width),
    }
    profile = {name: ((1, *shape), (2, *shape), (4, *shape)) for name, shape in rest.items()}
    request = EngineBuildRequest(library=rtx, graph=graph, profile=profile, compute_capabilities=("SM86", "SM89"))
    assert len(build_in_subprocess(request).engine) > 1 << 16


def test_refusal_of_tensorrt_rtx_is_one_line(rtx: TensorRtLibrary, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no graph")
    for graph, expected in (
        (onnx_graphs.foreign(tmp_path / "u.onnx", "Unheard"), r"node strange \(Unheard\): .*Plugin not found"),
        (onnx_graphs.foreign(tmp_path / "p.onnx", "HoiclipDualAttention", "hoiclip"), "export with plain attention"),
        (damaged, "Failed to parse the ONNX model"),
        (tmp_path / "none.onnx", "Input file cannot be found"),
    ):
        with pytest.raises(HoiclipError, match=expected) as caught:
            build_in_subprocess(request_of("rtx", graph, compute_capabilities=("SM89",)))
        assert isinstance(caught.value, ModelError)
        assert "\n" not in str(caught.value)


def test_tensorrt_rtx_makes_our_plugin(rtx: TensorRtLibrary, tmp_path: Path) -> None:
    """It runs none, but has the registry of TensorRT: what it makes fits the interface that our header says."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the plugin with")
    source, contract = ROOT / "kernels/hoiclip_kernels/dual_attention", ROOT / "tests/kernels/nvinfer_contract"
    launcher, library = tmp_path / "launcher.cpp", tmp_path / "libhoiclip_plugin.so"
    launcher.write_text(
        '#include "dual_attention.h"\n'
        'extern "C" int hoiclip_dual_attention(HoiclipDualAttention const*, void*) { return 1; }\n'
    )
    files = [str(source / "plugin.cpp"), str(launcher), "-o", str(library)]
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", f"-I{source}", f"-I{contract}", *files], check=True)
    code = (
        "import sys, numpy as np, tensorrt_rtx as trt;"
        "registry = trt.Builder(trt.Logger(trt.Logger.ERROR)).get_plugin_registry();"
        "assert registry.load_library(sys.argv[1]) is not None;"
        "creator = registry.get_creator('HoiclipDualAttention', '1', 'hoiclip');"
        "heads = lambda n: trt.PluginFieldCollection("
        "[trt.PluginField('heads', np.array([n], np.int32), trt.PluginFieldType.INT32)]);"
        "make = lambda n: creator.create_plugin('', heads(n), trt.TensorRTPhase.BUILD);"
        "print(creator.interface_info.kind, make(2).interface_info.kind, make(0), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(library)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["PLUGIN CREATOR_V3ONE PLUGIN None"], done.stderr
