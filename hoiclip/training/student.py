"""A small student of any model, distilled from unlabelled frames: its size, initial weights, training and agreement.

The losses are in distillation.py, the loop is that of every recipe, and what the teacher says is read from files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hoiclip import __version__
from hoiclip.core.atomic_write import make_folder
from hoiclip.core.errors import DataError
from hoiclip.core.model_file import ModelFile, save_model_file
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.core.wall_time import utc_text
from hoiclip.data.annotations import person_label
from hoiclip.data.samples import SampleConfig
from hoiclip.evaluation.agreement import TripletAgreement, triplet_agreement
from hoiclip.evaluation.image_loop import module_detector
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.training.distillation import TEMPERATURE, WEIGHTS, DistillTask, FrameSamples
from hoiclip.training.initial_weights import init_from_scratch, select_weights
from hoiclip.training.loop import Progress, RunContext, Trainer
from hoiclip.training.losses import LossConfig
from hoiclip.training.optimization import Schedule, unfreeze_batch_norm
from hoiclip.training.recipe import AuxiliaryConfig, OptimizerConfig, Recipe
from hoiclip.training.run_folder import draw_curves, seed_everything
from hoiclip.training.tasks import HoiTask
from hoiclip.training.teacher import MIN_SCORE, MIN_VERB_SCORE, confident, read_frame

SizeName = Literal["nano", "small", "medium"]
SIZES: Mapping[SizeName, Mapping[str, Any]] = {
    "nano": {
        "short_side_px": 192, "max_side_px": 320,
        "backbone_depths": (1, 1, 1, 1), "backbone_widths": (16, 32, 64, 128), "backbone_stem": "light",
        "hidden": 128, "heads": 4, "feedforward": 512, "fine_memory": False,
        "encoder_layers": 2, "instance_layers": 3, "queries": 16,
        "clip_image_px": 96, "clip_patch_px": 16, "clip_stem": (32, 64, 96),
        "clip_width": 192, "clip_layers": 3, "clip_heads": 4,
        "interaction_layers": 2, "interaction_heads": 4, "interaction_feedforward": 256,
    },
    "small": {
        "short_side_px": 320, "max_side_px": 544,
        "backbone_depths": (1, 2, 2, 2), "backbone_widths": (32, 64, 128, 256), "backbone_stem": "resnet",
        "hidden": 128, "heads": 4, "feedforward": 512, "fine_memory": True,
        "encoder_layers": 3, "instance_layers": 3, "queries": 32,
        "clip_image_px": 128, "clip_patch_px": 16, "clip_stem": (32, 64, 96),
        "clip_width": 192, "clip_layers": 4, "clip_heads": 4,
        "interaction_layers": 2, "interaction_heads": 4, "interaction_feedforward": 384,
    },
    "medium": {
        "short_side_px": 480, "max_side_px": 800,
        "backbone_depths": (2, 2, 2, 2), "backbone_widths": (64, 128, 256, 512), "backbone_stem": "resnet",
        "hidden": 192, "heads": 6, "feedforward": 768, "fine_memory": True,
        "encoder_layers": 4, "instance_layers": 3, "queries": 48,
        "clip_image_px": 160, "clip_patch_px": 16, "clip_stem": (48, 96, 128),
        "clip_width": 256, "clip_layers": 6, "clip_heads": 8,
        "interaction_layers": 3, "interaction_heads": 4, "interaction_feedforward": 512,
    },
}  # fmt: skip
"""Settings of the model file by size; the rest is the teacher's."""
_AT_MOST_TEACHERS = (
    "short_side_px", "max_side_px", "queries", "feedforward", "encoder_layers", "instance_layers",
    "clip_layers", "interaction_layers", "interaction_feedforward",
)  # fmt: skip
"""A student does not learn from its teacher to see more than that does, and begins with its layers."""
_FROZEN = ("heads.hoi_classifier.", "heads.object_classifier.", "heads.verb_classifier.")
"""The student learns features for its teacher's classifiers: words can be exchanged as in the teacher."""
_HELD_OUT = 10
"""Of so many images one, and of so many frames of a video the last one, is kept apart."""
_WARMUP = 0.05
"""Fraction of the steps."""
SAVE_EVERY = 200
"""Steps between checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """Size of the student and length of its training."""

    size: SizeName = "nano"
    steps: int = 6000
    seed: int = 0
    batch_size: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Files of taught frames (hoiclip.training.teacher)."""

    training: tuple[Path, ...]
    held_out: tuple[Path, ...]
    """For the agreement of teacher and student."""
    sources: int
    """Images and videos that they are of."""


def split_frames(by_source: Sequence[Sequence[Path]]) -> Frames:
    """Keeps every tenth image and the last tenth of each video apart: neighbours in a video are nearly equal.

    Args:
        by_source: frames of each image or video, in order.

    Raises:
        DataError: fewer than two frames.
    """
    sources = [list(frames) for frames in by_source if frames]
    count = sum(map(len, sources))
    if count < 2:
        raise DataError(f"expected at least two frames, to learn from and to compare on, found {count}; name more")
    stills = [frames[0] for frames in sources if len(frames) == 1]
    videos = [frames for frames in sources if len(frames) > 1]
    kept = [len(frames) - max(1, len(frames) // _HELD_OUT) for frames in videos]
    held_out = [frame for frames, first in zip(videos, kept, strict=True) for frame in frames[first:]]
    training = [frame for frames, first in zip(videos, kept, strict=True) for frame in frames[:first]]
    apart = set(range(_HELD_OUT - 1, len(stills), _HELD_OUT))
    if not held_out and not apart:
        apart = {len(stills) - 1}
    held_out += [frame for number, frame in enumerate(stills) if number in apart]
    training += [frame for number, frame in enumerate(stills) if number not in apart]
    return Frames(training=tuple(training), held_out=tuple(held_out), sources=len(sources))


def student_config(size: SizeName, teacher: ModelConfig) -> ModelConfig:
    """Config of a student of this size: classes, CLIP space and score rule are the teacher's."""
    values = dict(SIZES[size])
    values |= {name: min(values[name], getattr(teacher, name)) for name in _AT_MOST_TEACHERS}
    return replace(teacher, **values, backbone_block="basic", placed_tokens=True)


def initial_student(config: ModelConfig, teacher: ModelFile, seed: int) -> HOICLIP:
    """A student with what fits it of the teacher's weights; text embeddings and classifiers are whole and frozen."""
    seed_everything(seed)
    student = HOICLIP(config)
    init_from_scratch(student)
    select_weights(student, teacher.build().state_dict())
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(not name.startswith(_FROZEN))
    unfreeze_batch_norm(student.backbone)
    return student


def student_recipe(config: DistillConfig, student: ModelConfig, identity: str) -> Recipe:
    """Everything that changes a weight of the student's training.

    Args:
        identity: of teacher and frames: a run is resumed with the same ones only.
    """
    return Recipe(
        name=f"distill-{config.size}-{identity[:16]}",
        seed=config.seed,
        model=student,
        schedule=Schedule(steps=config.steps, warmup_steps=int(_WARMUP * config.steps)),
        optimizer=OptimizerConfig(
            lr=8e-4,
            backbone_lr=8e-4,
            clip_norm=1.0,
            batch_size=config.batch_size,
            precision="auto",
            ema=0.998,
            dropout=0.0,
        ),
        losses=LossConfig(box_l1=5.0, box_giou=2.0),
        auxiliary=AuxiliaryConfig(query_groups=4, dense_heads=True, batch_norm=True),
        save_every=SAVE_EVERY,
    )


def distill_model(
    teacher: ModelFile,
    frames: Frames,
    folder: Path,
    output: Path,
    config: DistillConfig,
    *,
    workers: int = 0,
    progress: Progress = lambda step, numbers: None,
) -> TripletAgreement:
    """Trains a student, or resumes the folder's interrupted run, and writes its model file.

    Args:
        folder: of the run: log, curves and checkpoint.
        output: the student's model file.
        progress: called after each step with its number and losses.

    Returns:
        Agreement with the teacher on the frames held out.

    Raises:
        HoiclipError: the teacher has no humans or is confident of no pair, frames are damaged, the folder holds another
            run, a loss is not finite, or a file cannot be written.
    """
    make_folder(folder)
    _require_confident(frames, teacher.vocabulary)
    model_config = student_config(config.size, teacher.config)
    recipe = student_recipe(config, model_config, _identity(teacher, frames))
    task = DistillTask(initial_student(model_config, teacher, config.seed), recipe, person_label(teacher.vocabulary))
    samples = FrameSamples(frames.training, teacher.vocabulary, SampleConfig.for_model(model_config), config.seed)
    context = RunContext.of_this_process(folder, workers)
    trainer = Trainer(recipe, task, samples, context, progress=progress)
    student = HoiTask.finished(task.kept, trainer.train())
    agreement = agreement_with_teacher(student.to(context.device), teacher.vocabulary, frames.held_out)
    draw_curves(folder, {"train/total": "loss", "train/distill_hois": "HOIs", "train/distill_clip": "CLIP"})
    provenance = _provenance(teacher, frames, config, recipe, agreement)
    save_model_file(output, student.cpu().state_dict(), model_config, teacher.vocabulary, provenance)
    return agreement


def agreement_with_teacher(student: HOICLIP, vocabulary: Vocabulary, held_out: Sequence[Path]) -> TripletAgreement:
    """Compares the confident triplets of student and teacher on taught frames."""
    detect = module_detector(student, vocabulary, PostprocessConfig())
    postprocess = Postprocessor(vocabulary, PostprocessConfig())
    of_teacher, of_student = [], []
    for path in held_out:
        frame = read_frame(path)
        of_teacher.append(frame.detections(postprocess))
        of_student.append(confident(detect(frame.rgb)))
    return triplet_agreement(of_teacher, of_student)


def _require_confident(frames: Frames, vocabulary: Vocabulary) -> None:
    """Raises DataError where the teacher finds nothing to learn."""
    postprocess = Postprocessor(vocabulary, PostprocessConfig())
    if not any(len(read_frame(path).detections(postprocess)) for path in frames.training):
        raise DataError(
            f"expected interactions to learn, the teacher is confident of none in {len(frames.training)} frames; name "
            "images or videos like those it was trained on"
        )


def _identity(teacher: ModelFile, frames: Frames) -> str:
    """Hash of teacher, frames and the weights of the losses; names of frames are made of their sources' hashes."""
    names = [[path.name for path in paths] for paths in (frames.training, frames.held_out)]
    content = json.dumps([teacher.sha256(), names, TEMPERATURE, WEIGHTS, MIN_SCORE, MIN_VERB_SCORE])
    return hashlib.sha256(content.encode()).hexdigest()


def _provenance(
    teacher: ModelFile, frames: Frames, config: DistillConfig, recipe: Recipe, agreement: TripletAgreement
) -> dict[str, Any]:
    return {
        "kind": "distilled",
        **({"notice": teacher.notice} if teacher.notice else {}),
        "made": utc_text(),
        "hoiclip": __version__,
        "teacher": teacher.name,
        "teacher_sha256": teacher.sha256(),
        "sources": frames.sources,
        "frames": len(frames.training),
        **asdict(config),
        "agreement": agreement.to_json(),
        # Its other sections are of annotated data and pretrained weights, which there were none of.
        "recipe": {name: recipe.to_dict()[name] for name in ("schedule", "optimizer", "losses", "auxiliary")},
    }
