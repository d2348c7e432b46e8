"""Distillation: what of a teacher is kept on disk, what a student learns from it, and exact resume."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hoiclip.core.array_types import RGB
from hoiclip.core.errors import DataError, UsageError
from hoiclip.core.model_file import ModelFile, load_model_file
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor
from hoiclip.data.samples import SampleConfig
from hoiclip.data.targets import Targets
from hoiclip.evaluation.agreement import TripletAgreement, triplet_agreement
from hoiclip.model import HOICLIP, ModelConfig
from hoiclip.training import student
from hoiclip.training.distillation import (
    TEMPERATURE,
    FrameSamples,
    bernoulli_divergence,
    clip_losses,
    flip_targets,
    flip_tokens,
)
from hoiclip.training.run_folder import read_log
from hoiclip.training.student import (
    SIZES,
    DistillConfig,
    agreement_with_teacher,
    distill_model,
    initial_student,
    split_frames,
    student_config,
)
from hoiclip.training.teacher import (
    FRAME_MAX_PX,
    FRAME_SHORT_PX,
    TeacherCache,
    infer_frame,
    read_frame,
    soft_targets,
    write_frame,
)
from tests.hoiclip.small_datasets import FRUIT
from tests.hoiclip.tiny_students import TEACHER, TINY, noise, sure_frame, tiny_teacher, write_sure_frames

CPU = torch.device("cpu")
STEPS = 24
CONFIG = DistillConfig(steps=STEPS, batch_size=4)
RULE = Postprocessor(FRUIT, PostprocessConfig())


@dataclass(frozen=True)
class Distilled:
    """A run, its teacher and its result."""

    teacher: ModelFile
    frames: student.Frames
    folder: Path
    output: Path
    agreement: TripletAgreement


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def _tiny_sizes() -> Iterator[None]:
    """Students of the smallest size are smaller still, and save often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "nano", TINY)  # type: ignore[arg-type]
        patch.setattr(student, "SAVE_EVERY", 5)
        yield


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    folder = tmp_path_factory.mktemp("distilled")
    teacher = tiny_teacher(folder / "teacher.safetensors")
    frames = split_frames([[path] for path in write_sure_frames(folder, 5)])
    output = folder / "student.safetensors"
    agreement = distill_model(teacher, frames, folder / "run", output, CONFIG)
    return Distilled(teacher, frames, folder / "run", output, agreement)


def test_student_has_the_teachers_vocabulary_text_embeddings_and_classifiers(distilled: Distilled) -> None:
    made = load_model_file(distilled.output)
    assert made.vocabulary == distilled.teacher.vocabulary
    assert made.config == student_config("nano", TEACHER)
    classifiers = [f"heads.{kind}_classifier.weight" for kind in ("hoi", "object", "verb")]
    for name in ("hoi_rows", "object_rows", "verb_rows", *classifiers):
        np.testing.assert_array_equal(made.tensor(name), distilled.teacher.tensor(name))
    provenance = made.provenance
    assert (provenance["kind"], provenance["teacher"], provenance["steps"]) == ("distilled", "teacher", STEPS)
    assert provenance["teacher_sha256"] == distilled.teacher.sha256()
    assert (provenance["sources"], provenance["frames"]) == (5, 4)
    assert provenance["agreement"] == distilled.agreement.to_json()
    assert made.notice == "random weights"


def test_loss_falls(distilled: Distilled) -> None:
    lines = [line for line in read_log(distilled.folder) if line["kind"] == "train"]
    assert len(lines) == STEPS
    for name in ("total", "distill_hois", "distill_objects", "distill_clip"):
        values = [line[name] for line in lines]
        assert sum(values[-4:]) < 0.9 * sum(values[:4]), name


def test_resumed_run_ends_with_the_student_of_an_uninterrupted_one(distilled: Distilled, tmp_path: Path) -> None:
    def interrupt(step: int, numbers: Mapping[str, float]) -> None:
        if step == 13:
            raise Interrupted

    output, run = tmp_path / "student.safetensors", tmp_path / "run"
    with pytest.raises(Interrupted):
        distill_model(distilled.teacher, distilled.frames, run, output, CONFIG, progress=interrupt)
    assert not output.exists()
    steps: list[int] = []
    distill_model(
        distilled.teacher, distilled.frames, run, output, CONFIG, progress=lambda step, numbers: steps.append(step)
    )
    assert steps == list(range(11, STEPS + 1))
    whole, resumed = load_file(distilled.output), load_file(output)
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_run_of_other_frames_or_another_teacher_is_refused(distilled: Distilled, tmp_path: Path) -> None:
    other = tiny_teacher(tmp_path / "teacher.safetensors", seed=1)
    fewer = student.Frames(training=distilled.frames.training[:2], held_out=distilled.frames.held_out, sources=3)
    for teacher, frames in ((other, distilled.frames), (distilled.teacher, fewer)):
        with pytest.raises(UsageError, match="holds a run of another recipe"):
            distill_model(teacher, frames, distilled.folder, tmp_path / "student.safetensors", CONFIG)


def test_frames_without_a_confident_pair_are_refused(distilled: Distilled, tmp_path: Path) -> None:
    unsure = replace(sure_frame(0), raw=replace(sure_frame(0).raw, hoi_logits=np.full((1, 6, 4), -4, np.float32)))
    for name in ("a", "b"):
        write_frame(tmp_path / name, unsure)
    frames = split_frames([[tmp_path / "a"], [tmp_path / "b"]])
    with pytest.raises(DataError, match="confident of none in 1 frames"):
        distill_model(distilled.teacher, frames, tmp_path / "run", tmp_path / "student.safetensors", CONFIG)


def test_teacher_agrees_with_itself_and_not_with_an_untrained_student(distilled: Distilled) -> None:
    frames = [read_frame(path) for path in distilled.frames.training]
    detections = [frame.detections(RULE) for frame in frames]
    assert triplet_agreement(detections, detections).f1 == 1
    untrained = initial_student(student_config("nano", TEACHER), distilled.teacher, seed=0)
    f1 = agreement_with_teacher(untrained, FRUIT, distilled.frames.training).f1
    assert f1 is not None
    assert f1 < 0.5


@pytest.mark.parametrize("size", ["small", "medium"])
def test_sizes_make_models_in_the_teachers_space(size: student.SizeName, tmp_path: Path) -> None:
    config = student_config(size, ModelConfig())
    with torch.device("meta"):
        parameters = {key: value.numel() for key, value in HOICLIP(config).state_dict().items()}
    assert sum(parameters.values()) < 30e6
    assert (config.clip_embed, config.num_hois) == (512, 600)
    assert config.short_side_px <= FRAME_SHORT_PX
    assert config.max_side_px <= FRAME_MAX_PX


def test_student_is_never_shown_more_than_its_teacher() -> None:
    config = student_config("medium", TEACHER)
    assert (config.short_side_px, config.max_side_px, config.queries) == (48, 64, 6)


# What a student learns


def test_confident_pairs_are_targets_with_the_teachers_probabilities() -> None:
    frame = sure_frame(3)
    soft = soft_targets(frame, FRUIT, RULE, max_pairs=4)
    assert soft.targets.object_labels.tolist() == [0, 1]  # the second query for the same pair is left out
    torch.testing.assert_close(soft.targets.hoi_labels, torch.from_numpy(frame.raw.hoi_logits[0, [0, 2]]).sigmoid())
    torch.testing.assert_close(soft.object_logits, torch.from_numpy(frame.raw.object_logits[0, [0, 2]]))
    assert len(soft_targets(frame, FRUIT, RULE, max_pairs=1).targets) == 1


def test_mirrored_twice_is_the_same() -> None:
    targets = soft_targets(sure_frame(1), FRUIT, RULE, max_pairs=4).targets
    targets.object_boxes_cxcywh[1] = 0  # acts without an object
    once = flip_targets(targets)
    assert once.object_boxes_cxcywh[1].tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(once.human_boxes_cxcywh[:, 0], 1 - targets.human_boxes_cxcywh[:, 0])
    torch.testing.assert_close(flip_targets(once).human_boxes_cxcywh, targets.human_boxes_cxcywh)
    tokens = torch.arange(5.0)[:, None]
    assert flip_tokens(tokens).flatten().tolist() == [0, 2, 1, 4, 3]


def test_samples_come_once_per_epoch_mirrored_in_half_of_them(tmp_path: Path) -> None:
    samples = FrameSamples(
        write_sure_frames(tmp_path, 3), FRUIT, SampleConfig.for_model(student_config("nano", TEACHER)), 0
    )
    centres = [[_centre(samples[3 * epoch + row].sample.targets) for row in range(3)] for epoch in range(8)]
    upright = {float(sure_frame(number).raw.human_boxes_cxcywh[0, 0, 0]) for number in range(3)}
    folded = sorted(min(x, 1 - x) for x in upright)
    for epoch in centres:
        assert sorted(min(x, 1 - x) for x in epoch) == pytest.approx(folded, abs=1e-6)
    assert 6 <= sum(x not in upright for epoch in centres for x in epoch) <= 18
    in_worker = pickle.loads(pickle.dumps(samples))
    assert torch.equal(in_worker[4].sample.detector_chw, samples[4].sample.detector_chw)


def _centre(targets: Targets) -> float:
    return float(targets.human_boxes_cxcywh[0, 0])


def test_divergence_is_zero_where_logits_agree_only() -> None:
    teacher = torch.tensor([-9.0, -1.0, 0.0, 4.0])
    assert float(bernoulli_divergence(teacher, teacher, TEMPERATURE).abs().max()) < 1e-6
    logits = (teacher + 1).requires_grad_()
    divergence = bernoulli_divergence(logits, teacher, TEMPERATURE)
    assert bool((divergence > 0).all())
    (gradient,) = torch.autograd.grad(divergence.sum(), logits)
    assert bool((gradient > 0).all())


def test_clip_losses_compare_on_the_coarser_grid() -> None:
    torch.manual_seed(0)
    fine = torch.randn(2, 17, 8)
    coarse = torch.cat((fine[:, :1], fine[:, 1:].unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)), dim=1)
    for a, b in ((fine, coarse), (coarse, fine), (3 * fine, fine)):
        assert all(float(value) < 1e-6 for value in clip_losses(a, b).values())
    assert all(float(value) > 0.1 for value in clip_losses(fine, coarse.flip(0)).values())


# What is kept of a teacher


def opener(*seeds: int, fails_after: int = 99) -> Iterator[RGB]:
    for number, seed in enumerate(seeds):
        if number == fails_after:
            raise Interrupted
        yield noise(seed)


def never() -> Iterator[RGB]:
    raise AssertionError("the source was opened")


def test_teacher_is_asked_once_per_frame(distilled: Distilled, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, distilled.teacher, CPU)
    with pytest.raises(Interrupted):
        cache.frames_of("video", lambda: opener(1, 2, 3, fails_after=2))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(before) == 2
    frames = cache.frames_of("video", lambda: opener(1, 2, 3))
    assert len(frames) == 3
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert TeacherCache(tmp_path, distilled.teacher, CPU).frames_of("video", never) == frames


def test_outputs_of_another_source_or_teacher_are_not_taken(distilled: Distilled, tmp_path: Path) -> None:
    frames = TeacherCache(tmp_path, distilled.teacher, CPU).frames_of("image", lambda: opener(1))
    other = tiny_teacher(tmp_path / "other.safetensors", seed=1)
    for teacher, source in ((distilled.teacher, "changed"), (other, "image")):
        again = TeacherCache(tmp_path, teacher, CPU).frames_of(source, lambda: opener(1))
        assert set(again).isdisjoint(frames)


def test_damaged_outputs_are_inferred_again(distilled: Distilled, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, distilled.teacher, CPU)
    (path,) = cache.frames_of("image", lambda: opener(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="missing or damaged"):
        read_frame(path)
    assert cache.frames_of("image", lambda: opener(1)) == [path]
    assert path.read_bytes() == whole


def test_kept_outputs_are_those_of_the_model_to_half_precision(distilled: Distilled, tmp_path: Path) -> None:
    (path,) = TeacherCache(tmp_path, distilled.teacher, CPU).frames_of("image", lambda: opener(7))
    module = distilled.teacher.build()
    made, kept = infer_frame(module, noise(7)), read_frame(path)
    for name in ("hoi_logits", "object_logits", "human_boxes_cxcywh", "clip_cls"):
        np.testing.assert_allclose(getattr(kept.raw, name), getattr(made.raw, name), rtol=1e-3, atol=1e-3)
    assert kept.clip_visual.shape == (TEACHER.clip_tokens, TEACHER.clip_embed)
    assert kept.rgb.shape == (48, 64, 3)


def test_large_frames_are_kept_at_the_largest_students_size(distilled: Distilled) -> None:
    module = distilled.teacher.build()
    assert infer_frame(module, noise(0, 720, 1280)).rgb.shape == (450, 800, 3)
    assert infer_frame(module, noise(0, 30, 40)).rgb.shape == (30, 40, 3)


def test_tenth_of_images_and_end_of_each_video_are_held_out(tmp_path: Path) -> None:
    video = [tmp_path / f"v{number}" for number in range(25)]
    stills = [[tmp_path / f"s{number}"] for number in range(20)]
    frames = split_frames([video, *stills, []])
    assert frames.held_out == (*video[23:], stills[9][0], stills[19][0])
    assert len(frames.training) == 23 + 18
    assert frames.sources == 21
    assert split_frames(stills[:2]).held_out == (stills[1][0],)
    with pytest.raises(DataError, match="at least two frames"):
        split_frames(stills[:1])
