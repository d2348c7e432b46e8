"""A mid-size model learns 30 real photos by heart: the road from annotations to a model, on photographs.

    python -m benchmarks.overfit --runs runs/overfit [--shared ../shared]

`hoiclip train overfit.toml` from random weights on the 30 V-COCO photos beside the checkout, and `hoiclip eval` on the
same photos. It proves that data, augmentation, matching, losses and evaluation work on photographs; what the model
does on others means nothing. A line in results/overfit.jsonl, and in results/overfit/ recipe, thinned log, curves and a
contact sheet of boxes without the photos, which may not be passed on. Killed, it resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.drawn_model import copy_run
from benchmarks.harness import RESULTS, append, provenance
from hoiclip.core.model_file import load_model_file
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.data.formats.coco import read_pairs
from hoiclip.data.formats.hoia import write_hoia
from hoiclip.data.images import EvaluationSet, FolderImages
from hoiclip.training.recipe import read_recipe
from hoiclip_engine.engine import Engine, EngineConfig
from hoiclip_engine.evaluation.training import CONTACT_SHEET_IMAGES, render_contact_sheet

NAME = "overfit"
RECIPE = Path(__file__).with_suffix(".toml")
VOCABULARY = load_vocabulary("vcoco")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/overfit"), help="folder of annotations and run")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/images/vcoco")
    parser.add_argument("--steps", type=int, help="fewer, to try it")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    annotations, images = args.runs / "photos.json", args.shared / "data" / "images" / "vcoco"
    published = args.shared / "data" / "annotations"
    photos = read_pairs(
        published / "vcoco" / "mini30_dev_vcoco_pairs.json",
        VOCABULARY,
        published / "coco" / "mini30_dev_coco_instances.json",
    )
    if not annotations.exists():  # read by a run that is resumed
        write_hoia(annotations, photos, VOCABULARY)
    run, model = args.runs / "run", args.runs / "run" / "model.safetensors"
    settings = {"annotations": annotations, "images": images, "test_annotations": annotations, "test_images": images}
    fewer = {} if args.steps is None else {"steps": args.steps, "warmup_steps": args.steps // 20}
    chosen = {f"data.{key}": value for key, value in settings.items()}
    chosen |= {f"schedule.{key}": value for key, value in fewer.items()}
    _hoiclip("train", RECIPE, "--out", run, *(f"--set={key}={value}" for key, value in chosen.items()))
    found = args.runs / "evaluation.json"
    _hoiclip("eval", "--model", model, "--data", annotations, "--images", images, "--json", found)
    _save_contact_sheet(
        RESULTS / NAME / "sheet.png", model, EvaluationSet(annotations=photos, images=FolderImages(images, photos))
    )
    append(
        NAME,
        {
            "benchmark": NAME,
            "photos": len(photos),
            **{key: value for key, value in json.loads(found.read_text(encoding="utf-8")).items() if key != "classes"},
            "model_sha256": load_model_file(model).sha256(),
            "input": f"{read_recipe(RECIPE).model.short_side_px} px",
            "training": copy_run(run, RESULTS / NAME, contact_sheet=False),
            "threads": torch.get_num_threads(),
            **provenance("torch", "openvino"),
        },
    )
    return 0


def _hoiclip(*arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", "hoiclip_engine.cli", *map(str, arguments)], check=True)


def _save_contact_sheet(path: Path, model: Path, photos: EvaluationSet) -> None:
    """Detected above true boxes, on grey in place of the photos."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = range(min(CONTACT_SHEET_IMAGES, len(photos.annotations)))
    with Engine(load_model_file(model), EngineConfig()) as engine:
        found = iter([engine.detect(photos.images.rgb(i)) for i in shown])
    grey = [(np.full_like(photos.images.rgb(i), 90), photos.annotations[i]) for i in shown]
    Image.fromarray(render_contact_sheet(lambda _: next(found), VOCABULARY, grey)).reduce(2).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
