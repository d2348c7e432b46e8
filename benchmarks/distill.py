"""Distillation measured: a student of the bundled model without labels, against the same student trained with labels.

    python -m benchmarks.distill --steps 6000 --images 4000 --seeds 0 1 2
    python -m benchmarks.distill --golden --steps 50

Both students have the same size, initial weights, images, flips and steps; one learns from the teacher's outputs, the
other from the annotations. For each seed one line with the mAP of teacher and students on the fixed synthetic sets, the
agreement with the teacher, and how many times as fast as the teacher the student runs in OpenVINO fp32, timed side by
side. --golden: a teacher of the official layout with random weights on real photos and clips, for the speed alone: what
such a teacher says means nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import append, provenance, side_by_side, statistics
from hoiclip.core.array_types import RGB
from hoiclip.core.model_file import ModelFile, load_model_file, save_model_file
from hoiclip.core.preprocess import PreprocessConfig, padded_size_for, preprocess
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import person_label
from hoiclip.data.augment import AugmentConfig
from hoiclip.data.dataset import ImageSamples
from hoiclip.data.formats.hoia import read_hoia
from hoiclip.data.image_file import read_rgb
from hoiclip.data.samples import SampleConfig
from hoiclip.evaluation.image_loop import evaluate_module
from hoiclip.model import HOICLIP
from hoiclip.synthetic.fixed_sets import synthetic_set
from hoiclip.synthetic.world import WorldConfig
from hoiclip.training.loop import RunContext, Trainer
from hoiclip.training.student import (
    SIZES,
    DistillConfig,
    distill_model,
    initial_student,
    split_frames,
    student_config,
    student_recipe,
)
from hoiclip.training.tasks import HoiTask
from hoiclip.training.teacher import TeacherCache
from hoiclip_engine.backends.registry import load_backend
from hoiclip_engine.cli.distill import teach
from hoiclip_engine.cli.draw import ANNOTATIONS, IMAGES, draw_images
from hoiclip_engine.models import find_model
from hoiclip_engine.sources.source_list import expand_sources
from tests.golden.models import GoldenModels
from tests.golden.rule import PUBLIC_SALT

NAME = "distill"
SETS = ("validation", "test")
PHOTOS_AND_CLIPS = ("images/vcoco", "videos/dog_person_trail.mp4", "videos/chaplin.mp4")
WORLD = WorldConfig(stream="train", seed=77, frequencies="equal", video_fraction=0.5)
"""Scenes that the teacher has not seen: it was trained with other seeds."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="nano", choices=tuple(SIZES))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--max-test", type=int, help="images of each fixed set (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="timed inferences of each model")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--golden", action="store_true", help="speed on the official layout")
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs: an interrupted one resumes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in args.seeds:
            config = DistillConfig(size=args.size, steps=args.steps, seed=seed)
            line = golden(config, folder, args) if args.golden else synthetic(config, folder, args)
            append(NAME, {"benchmark": NAME, "size": config.size, **line, **provenance("torch", "openvino")})
    return 0


def synthetic(config: DistillConfig, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Two students of the bundled model on the same images, without and with labels."""
    teacher, data = load_model_file(find_model("drawn")), folder / f"drawn-{args.images}"
    if not (data / ANNOTATIONS).is_file():
        draw_images(data, args.images, WORLD, ".jpg")
    run = folder / f"{config.size}-{args.images}-{config.steps}-{config.seed}"
    frames = split_frames(_teach(teacher, [str(data / IMAGES)], folder))
    output = run / "distilled.safetensors"
    agreement = distill_model(teacher, frames, run / "distilled", output, config, workers=args.workers)
    learned = {path.stem for path in frames.training}
    labelled = train_with_labels(teacher, data, len(learned), run, config, args.workers)
    models = {"teacher": teacher, "distilled": load_model_file(output), "labelled": labelled}
    return {
        "teacher": teacher.name,
        "teacher_sha256": teacher.sha256(),
        "seed": config.seed,
        "steps": config.steps,
        "images": len(learned),
        "evaluated": args.max_test or "all",
        "mAP": {name: mean_precisions(model, args.max_test) for name, model in models.items()},
        "agreement": agreement.to_json(),
        "speed": speed(teacher, models["distilled"], synthetic_set("test").images.rgb(0), args.rounds),
    }


def train_with_labels(
    teacher: ModelFile, data: Path, count: int, run: Path, config: DistillConfig, workers: int
) -> ModelFile:
    """The student's twin: the same recipe and initial weights, with the annotations of as many images."""
    model_config = student_config(config.size, teacher.config)
    recipe = student_recipe(config, model_config, "labelled")
    vocabulary: Vocabulary = teacher.vocabulary
    task = HoiTask(initial_student(model_config, teacher, config.seed), recipe, person=person_label(vocabulary))
    only_flips = AugmentConfig(
        jitter=0, crop=0, short_sides_px=(model_config.short_side_px,), max_side_px=model_config.max_side_px
    )
    annotations = read_hoia(data / ANNOTATIONS, vocabulary)[:count]
    sizes = replace(SampleConfig.for_model(model_config), augment=only_flips)
    samples = ImageSamples(annotations, data / IMAGES, vocabulary, sizes, config.seed)
    context = RunContext.of_this_process(run / "labelled", workers)
    context.folder.mkdir(parents=True, exist_ok=True)
    student = HoiTask.finished(task.kept, Trainer(recipe, task, samples, context).train())
    path = run / "labelled.safetensors"
    save_model_file(
        path, student.state_dict(), model_config, vocabulary, {"kind": "trained", "recipe": recipe.to_dict()}
    )
    return load_model_file(path)


def golden(config: DistillConfig, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Speed of a student of the official layout, both on the first real photo at their own sizes."""
    shared = Path(os.environ.get("HOICLIP_SHARED", "../shared")) / "data"
    teacher = GoldenModels(folder).file("hico", PUBLIC_SALT)
    by_source = _teach(teacher, [str(shared / name) for name in PHOTOS_AND_CLIPS], folder)
    output = folder / f"golden-{config.size}.safetensors"
    distill_model(
        teacher, split_frames(by_source), folder / f"golden-{config.size}", output, config, workers=args.workers
    )
    photo = np.asarray(read_rgb(min((shared / PHOTOS_AND_CLIPS[0]).glob("*.jpg"))))
    student = load_model_file(output)
    return {
        "teacher": "golden hico, ResNet-50, ViT-B/32",
        "input": "x".join(map(str, photo.shape[:2])),
        "speed": speed(teacher, student, photo, args.rounds),
    }


def _teach(teacher: ModelFile, sources: Sequence[str], folder: Path) -> list[list[Path]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return teach(TeacherCache(folder / "teacher", teacher, device), expand_sources(sources), every_s=1.0)


def mean_precisions(model: ModelFile, max_images: int | None) -> dict[str, float]:
    """mAP in percent on each fixed set."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module: HOICLIP = model.build().to(device)
    return {name: evaluate_module(module, model.vocabulary, synthetic_set(name), max_images)["mAP"] for name in SETS}


def speed(teacher: ModelFile, student: ModelFile, rgb: RGB, rounds: int) -> dict[str, Any]:
    """Inference of one image by each model at its own size in OpenVINO fp32."""
    calls = {name: _call(model, rgb) for name, model in (("teacher", teacher), ("student", student))}
    times = side_by_side(calls, rounds)
    ratio = float(np.median(times["teacher"]) / np.median(times["student"]))
    parameters = {name: model.num_parameters() for name, model in (("teacher", teacher), ("student", student))}
    return {
        "backend": "openvino",
        "precision": "fp32",
        "times_as_fast_as_teacher": round(ratio, 2),
        "times": {name: statistics(samples) for name, samples in times.items()},
        "parameters": parameters,
    }


def _call(model: ModelFile, rgb: RGB) -> Callable[[], object]:
    size = PreprocessConfig.for_model(model.config)
    padded_hw = padded_size_for(rgb.shape[0], rgb.shape[1], size, model.config.stride_px)
    image = preprocess(rgb, replace(size, padded_hw=padded_hw))
    backend = load_backend("openvino", model, padded_hw)
    return lambda: backend(image)


if __name__ == "__main__":
    sys.exit(main())
