"""Alternatives of a user and all our backends, on the same input in one run, side by side.

The alternatives are eager fp32 torch, torch.compile and ONNX Runtime by hand; ours are all backends that run here, in
fp32 and in every precision they have a build for. Errors are against eager fp32.

python -m benchmarks.peers                                 the bundled model; its builds' gates give the mAP
python -m benchmarks.peers --model golden --size 480x640   the full R50 layout with the golden weights of the tests
python -m benchmarks.peers --model golden --size 800x1066
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.harness import append, provenance, side_by_side, statistics
from benchmarks.split_clip import split_arms
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.preprocess import ModelInput, PreprocessConfig, preprocess
from hoiclip.synthetic.fixed_sets import synthetic_set
from hoiclip_engine.backends import registry
from hoiclip_engine.backends.base import PRECISIONS, Backend, BackendName, Precision
from hoiclip_engine.backends.registry import load_backend
from hoiclip_engine.cache.artifacts import exported_graph, graph_sha256
from hoiclip_engine.export.graph_spec import select_memory_form
from hoiclip_engine.models import find_model
from hoiclip_engine.quantization.builds import FP32, Build, find_build
from hoiclip_engine.quantization.quantize import to_openvino_int8
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT, golden_image, golden_photo

REFERENCE = "torch fp32"
Builds = dict[tuple[BackendName, Precision], Build]
Call = Callable[[], NDArray[np.float32]]
CALIBRATION_PHOTOS = 16
"""Golden photos for the golden model: its scales do not change its speed, and its accuracy means nothing."""


def golden_input(height_px: int, width_px: int) -> ModelInput:
    """An image padded to multiples of 32."""
    rows, columns = -(-height_px // 32) * 32, -(-width_px // 32) * 32
    detector = np.zeros((1, 3, rows, columns), np.float32)
    detector[0, :, :height_px, :width_px] = golden_image("bench/img", height_px, width_px, PUBLIC_SALT)
    mask = np.ones((1, rows, columns), np.bool_)
    mask[:, :height_px, :width_px] = False
    return ModelInput(
        detector_bchw=detector,
        mask_bhw=mask,
        clip_bchw=golden_image("bench/clip", 224, 224, PUBLIC_SALT)[None],
        image_hw=((height_px, width_px),),
        original_hw=((height_px, width_px),),
    )


def golden_builds(model: ModelFile, hw: tuple[int, int], padded_hw: tuple[int, int], folder: Path) -> Builds:
    """The golden model in lower precisions; its weights are random, so that no accuracy gate could judge it."""
    size = PreprocessConfig(short_side_px=min(hw), max_side_px=max(padded_hw), padded_hw=padded_hw)
    photos = [preprocess(golden_photo(f"bench{n}", *hw, PUBLIC_SALT), size) for n in range(CALIBRATION_PHOTOS)]
    out = folder / "model.xml"
    to_openvino_int8(exported_graph(model, padded_hw), [photo.arrays() for photo in photos], out)
    return {("openvino", "bf16"): Build(precision="bf16"), ("openvino", "int8"): Build(precision="int8", graph=out)}


def published_builds(model: ModelFile) -> Builds:
    """Builds that `hoiclip build` has made and passed on this machine, for backends that run here."""
    builds: Builds = {}
    for backend in runnable_backends():
        for precision in set(PRECISIONS) - {"fp32"}:
            build = find_build(model, backend, precision)
            if build is not None and not build.forced:
                builds[backend, precision] = build
    return builds


@cache
def runnable_backends() -> list[BackendName]:
    return registry.runnable_backends(lambda line: print(line, file=sys.stderr))


def peers(model: ModelFile, image: ModelInput) -> dict[str, Call]:
    """Calls of the alternatives; each returns logits."""
    padded_hw = (int(image.mask_bhw.shape[1]), int(image.mask_bhw.shape[2]))
    session = onnxruntime.InferenceSession(str(exported_graph(model, padded_hw)))
    calls: dict[str, Call] = {"onnxruntime by hand": lambda: session.run(["hoi_logits"], image.arrays())[0]}
    module = model.build()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compiled = torch.compile(module.to(device))

    def run_compiled() -> NDArray[np.float32]:
        with torch.inference_mode():
            out = compiled(*(torch.from_numpy(array).to(device) for array in image.arrays().values()))
        return np.asarray(out.hoi_logits.float().cpu().numpy())

    try:
        run_compiled()
        calls["torch.compile fp32"] = run_compiled
    except Exception as error:  # its compilers have errors of their own
        first = (str(error).splitlines() or [""])[0]
        print(f"torch.compile is not run: {type(error).__name__}: {first}", file=sys.stderr)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drawn", choices=("drawn", "golden"))
    parser.add_argument("--size", default="480x640", help="height x width of the golden model's image")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        int8_folder = Path(folder) / "int8"
        int8_folder.mkdir()
        if arguments.model == "golden":
            height_px, width_px = map(int, arguments.size.split("x"))
            model = GoldenModels(Path(folder)).file("hico", PUBLIC_SALT)
            image = golden_input(height_px, width_px)
            builds = golden_builds(model, (height_px, width_px), image.mask_bhw.shape[1:], int8_folder)
        else:
            model = load_model_file(find_model("drawn"))
            config = PreprocessConfig.for_model(model.config, padded_hw=(192, 256))
            image = preprocess(synthetic_set("test").images.rgb(0), config)
            builds = published_builds(model)
        measure(arguments.model, model, image, builds, arguments.rounds, Path(folder))


def _logits(engine: Backend, image: ModelInput) -> NDArray[np.float32]:
    return engine(image).hoi_logits


def measure(name: str, model: ModelFile, image: ModelInput, builds: Builds, rounds: int, folder: Path) -> None:
    padded_hw = (int(image.mask_bhw.shape[1]), int(image.mask_bhw.shape[2]))
    measured: Builds = {**{(backend, "fp32"): FP32 for backend in runnable_backends()}, **builds}
    build_of = {" ".join(key): build for key, build in measured.items()}
    engines: dict[str, Backend] = {
        f"{backend} {precision}": load_backend(backend, model, padded_hw, build.precision, build.graph)
        for (backend, precision), build in measured.items()
    }
    calls: dict[str, Call] = {arm: partial(_logits, engine, image) for arm, engine in engines.items()}
    calls |= peers(model, image)
    reference = calls[REFERENCE]()
    errors = {arm: float(np.abs(call() - reference).max()) for arm, call in calls.items()}
    timed: dict[str, Callable[[], object]] = {**calls}
    if "openvino fp32" in timed:
        timed |= split_arms(model, image.arrays(), padded_hw, folder)
    times = side_by_side(timed, rounds)
    origin = provenance("torch", "openvino", "onnxruntime", "nncf")
    for arm, samples in times.items():
        build = build_of.get(arm)
        append(
            "backends",
            {
                "benchmark": "peers",
                "arm": arm,
                "model": "golden hico, ResNet-50, ViT-B/32" if name == "golden" else model.name,
                "model_sha256": model.sha256(),
                "input": "x".join(map(str, image.image_hw[0])),
                "canvas": "x".join(map(str, padded_hw)),
                "memory": select_memory_form(model.config, padded_hw),
                "batch": 1,
                **statistics(samples),
                "times_as_fast_as_torch": ratio(times[REFERENCE], samples),
                **(
                    {"times_as_fast_as_openvino_fp32": ratio(times["openvino fp32"], samples)}
                    if "openvino fp32" in times
                    else {}
                ),
                **({"max_abs_logit_difference": errors[arm]} if arm in errors else {}),
                **({"gate": build.about["gate"]} if build is not None and build.about else {}),
                **({"graph_sha256": graph_sha256(build.graph)} if build is not None and build.graph else {}),
                **origin,
            },
        )


def ratio(slower: list[float], faster: list[float]) -> float:
    return round(float(np.median(slower) / np.median(faster)), 3)


if __name__ == "__main__":
    main()
