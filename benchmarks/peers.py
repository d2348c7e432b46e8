"""The model on every CPU backend and precision against eager fp32 torch, side by side in one run.

python -m benchmarks.backends --model golden --size 480x640   the full R50 layout with the golden weights of the tests
python -m benchmarks.backends --model golden --size 800x1066
python -m benchmarks.backends --model drawn                   the bundled model; its builds' gates give the mAP
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.harness import append, provenance, side_by_side, statistics
from benchmarks.split_clip import split_arms
from hoiclip.checkpoint.model_file import ModelFile, load_model_file
from hoiclip_engine.backends import Backend, load_backend
from hoiclip_engine.builds import Build, find_build
from hoiclip_engine.engine_cache import graph_sha256
from hoiclip_engine.export import exported_graph, memory_form
from hoiclip_engine.measured_set import drawn_set
from hoiclip_engine.models import find_model
from hoiclip_engine.precision.nncf_int8 import quantised
from hoiclip_engine.preprocess import ModelInput, PreprocessConfig, preprocess
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT, golden_image, golden_photo

REFERENCE = "torch fp32"
CALIBRATED = 16
"""Golden photos for the golden model: its scales decide its speed no more than its accuracy, which means nothing."""


def golden_input(height_px: int, width_px: int) -> ModelInput:
    """A picture in a canvas of multiples of 32."""
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


def golden_builds(model: ModelFile, hw: tuple[int, int], canvas_hw: tuple[int, int], room: Path) -> dict[str, Build]:
    """The golden model in lower precisions; its weights are random, so that no gate could judge it."""
    size = PreprocessConfig(short_side_px=min(hw), max_side_px=max(canvas_hw), canvas_hw=canvas_hw)
    photos = [preprocess(golden_photo(f"bench{n}", *hw, PUBLIC_SALT), size) for n in range(CALIBRATED)]
    out = room / "model.xml"
    quantised(exported_graph(model, canvas_hw), [one.arrays() for one in photos], out)
    return {"bf16": Build(precision="bf16"), "int8": Build(precision="int8", graph=out)}


def published_builds(model: ModelFile) -> dict[str, Build]:
    """What `hoiclip build` has made and passed on this machine."""
    found = {precision: find_build(model, "openvino", precision) for precision in ("bf16", "int8")}  # type: ignore[arg-type]
    missing = [precision for precision, build in found.items() if build is None]
    if missing:
        raise SystemExit(f"first: hoiclip build {model.name} --backend openvino --precision {missing[0]}")
    return {precision: build for precision, build in found.items() if build is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="golden", choices=("golden", "drawn"))
    parser.add_argument("--size", default="480x640", help="height x width of the golden model's picture")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder) / "int8"
        room.mkdir()
        if asked.model == "golden":
            height_px, width_px = map(int, asked.size.split("x"))
            model = GoldenModels(Path(folder)).file("hico", PUBLIC_SALT)
            picture = golden_input(height_px, width_px)
            builds = golden_builds(model, (height_px, width_px), picture.mask_bhw.shape[1:], room)  # type: ignore[arg-type]
        else:
            model = load_model_file(find_model("drawn"))
            config = PreprocessConfig(
                short_side_px=model.config.short_side_px, max_side_px=model.config.max_side_px,
                clip_side_px=model.config.clip_image_px, canvas_hw=(192, 256),
            )  # fmt: skip
            picture = preprocess(drawn_set("test").pictures.rgb(0), config)
            builds = published_builds(model)
        measure(asked.model, model, picture, builds, asked.rounds, Path(folder))


def measure(
    name: str, model: ModelFile, picture: ModelInput, builds: Mapping[str, Build], rounds: int, room: Path
) -> None:
    canvas_hw = (int(picture.mask_bhw.shape[1]), int(picture.mask_bhw.shape[2]))
    engines: dict[str, Backend] = {
        REFERENCE: load_backend("torch", model, canvas_hw),
        "onnxruntime fp32": load_backend("onnxruntime", model, canvas_hw),
        "openvino fp32": load_backend("openvino", model, canvas_hw),
        **{
            f"openvino {precision}": load_backend("openvino", model, canvas_hw, build)
            for precision, build in builds.items()
        },
    }
    reference = engines[REFERENCE](picture)
    errors = {
        arm: float(np.abs(engine(picture).hoi_logits - reference.hoi_logits).max()) for arm, engine in engines.items()
    }
    calls: dict[str, Callable[[], object]] = {arm: lambda e=engine: e(picture) for arm, engine in engines.items()}
    calls |= split_arms(model, picture.arrays(), canvas_hw, room)
    times = side_by_side(calls, rounds)
    origin = provenance("torch", "openvino", "onnxruntime", "nncf")
    for arm, samples in times.items():
        precision = arm.split()[1]
        build = builds.get(precision)
        append(
            "backends",
            {
                "benchmark": "backends",
                "arm": arm,
                "model": "golden hico, ResNet-50, ViT-B/32" if name == "golden" else model.name,
                "input": "x".join(map(str, picture.image_hw[0])),
                "canvas": "x".join(map(str, canvas_hw)),
                "memory": memory_form(model.config, canvas_hw),
                "batch": 1,
                **statistics(samples),
                "times_as_fast_as_torch": ratio(times[REFERENCE], samples),
                "times_as_fast_as_openvino_fp32": ratio(times["openvino fp32"], samples),
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
