"""Benchmark of the bundled model on the fixed synthetic test images and videos, with a summary of its training.

    python -m benchmarks.drawn_model [--model drawn] [--runs runs]

Appends a line to results/drawn_model.jsonl: mAP of the images, and all numbers of `hoiclip eval video`. For the bundled
model it renews results/drawn_model/: the evaluation report and, where `make model` left its runs, their recipes, logs
(every fiftieth step and all evaluations), curves and last contact sheet.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.harness import RESULTS, append, provenance
from hoiclip.core.model_file import load_model_file
from hoiclip.synthetic.fixed_sets import FIXED_VIDEOS, VIDEO_CONFIG, committed_fingerprints, fixed_set
from hoiclip.training.run_folder import read_log
from hoiclip_engine.cli.draw import ANNOTATIONS, IMAGES, draw_images, draw_test_videos
from hoiclip_engine.cli.eval import EvalRequest, evaluate_model
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.videos import evaluate_videos, videos_in
from hoiclip_engine.models import find_model
from hoiclip_engine.streaming.stream import StreamConfig

NAME = "drawn_model"
RUNS = ("clip", "detector", "drawn", "further")
EVERY = 50


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the bundled model on the fixed synthetic test sets.")
    parser.add_argument("--model", default="drawn")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    model = load_model_file(find_model(args.model))
    test = fixed_set("test")
    bundled = args.model == "drawn"
    with tempfile.TemporaryDirectory() as folder:
        report = RESULTS / NAME if bundled else Path(folder) / "report"
        images, videos = Path(folder) / "pictures", Path(folder) / "films"
        draw_images(images, test.count, test.world, ".jpg")
        draw_test_videos(videos, FIXED_VIDEOS, VIDEO_CONFIG)
        data, image_files = images / ANNOTATIONS, images / IMAGES
        evaluate_model(model, EngineConfig(), EvalRequest(data=data, images=image_files, report=report))
        found = json.loads((report / "evaluation.json").read_text(encoding="utf-8"))
        with Engine(model, EngineConfig()) as engine:
            video_numbers = evaluate_videos(engine, videos_in(videos), config=StreamConfig(policy="lossless")).to_json()
        runs = {
            name: copy_run(args.runs / name, report / name)
            for name in RUNS
            if bundled and (args.runs / name / "log.jsonl").is_file()
        }
    append(
        NAME,
        {
            "benchmark": NAME,
            "metric": "hico",
            "model_sha256": model.sha256(),
            "world": test_world(),
            **{key: found[key] for key in ("summaries", "pictures", "backend")},
            "videos": video_numbers,
            "training": runs,
            **provenance("torch", "openvino"),
        },
    )
    return 0


def test_world() -> str:
    """Fingerprint of the synthetic test images."""
    return str(committed_fingerprints()["test"]["scenes_sha256"])[:12]


def copy_run(folder: Path, target: Path, contact_sheet: bool = True) -> dict[str, Any]:
    """Copies recipe, thinned log, curves and, where wanted, the last contact sheet of a run, and summarises it."""
    target.mkdir(parents=True, exist_ok=True)
    lines = read_log(folder)
    thin = [line for line in lines if line["kind"] != "train" or line["step"] % EVERY == 0]
    (target / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in thin), encoding="utf-8")
    for name in ("recipe.json", "curves.png"):
        shutil.copy(folder / name, target / name)
    for path in sorted(folder.glob("sheet_*.png"))[-1:] if contact_sheet else ():
        with Image.open(path) as image:
            image.reduce(2).save(target / "sheet.jpg", quality=85)
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    steps = [line for line in lines if line["kind"] == "train"]
    images = recipe["optimizer"]["batch_size"] * recipe["optimizer"]["accumulate"]
    return {
        "steps": len(steps),
        "pictures": images * len(steps),
        "step_minutes": round(sum(images / line["pictures_per_s"] for line in steps) / 60, 1),
        "evaluations": [
            {key: line[key] for key in ("step", "mAP", "top1", "top5") if key in line}
            for line in lines
            if line["kind"] == "evaluation"
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
