"""Outputs of a teacher on unlabelled frames, inferred once per frame and kept on disk for all epochs of a student.

A file holds the frame together with what the teacher says of it. Its name is made of the hashes of teacher and source:
the outputs of another teacher, or of a source that has changed, are never taken.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hoiclip.core.array_types import F32, I64, RGB
from hoiclip.core.atomic_write import atomic_write, make_folder, write_file
from hoiclip.core.detections import HOIDetections
from hoiclip.core.errors import DataError, SinkError
from hoiclip.core.jpeg import encode_jpeg
from hoiclip.core.model_file import ModelFile
from hoiclip.core.postprocess import PostprocessConfig, Postprocessor, official_boxes
from hoiclip.core.preprocess import PreprocessConfig, preprocess
from hoiclip.core.raw_output import RawOutput
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.targets import Targets
from hoiclip.model import HOICLIP
from hoiclip_kernels.pair_nms import pair_nms
from hoiclip_kernels.preprocess.plan import resized_hw

FRAME_SHORT_PX, FRAME_MAX_PX = 480, 800
"""Sides that frames are stored with at most: those of the largest student."""
MIN_SCORE, MIN_VERB_SCORE = 0.3, 0.4
"""Scores of the triplets that a teacher is confident of: those with which a run tracks a pair and reports its verb.
The score of a triplet alone is high for every verb of an object that is clearly seen."""
_FORMAT = "hoiclip-teacher/1"
_JPEG_QUALITY = 95
_NMS = PostprocessConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtFrame:
    """A frame, and a teacher's outputs for it."""

    rgb: RGB
    """(H, W, 3), shrunk to the largest student's size."""
    raw: RawOutput
    """Of one image."""
    clip_visual: F32
    """(T, E) CLIP's tokens in the space of the text embeddings; row 0 is the image's embedding."""

    def detections(self, postprocess: Postprocessor) -> HOIDetections:
        """The teacher's confident triplets, in pixels of the stored frame."""
        return confident(postprocess(self.raw, (self.rgb.shape[0], self.rgb.shape[1])))


def confident(detections: HOIDetections) -> HOIDetections:
    """Triplets with at least MIN_SCORE and MIN_VERB_SCORE."""
    kept = (detections.score >= MIN_SCORE) & (detections.verb_score >= MIN_VERB_SCORE)
    return HOIDetections(**{field.name: getattr(detections, field.name)[kept] for field in fields(HOIDetections)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftTargets:
    """The n pairs of which a teacher is confident, the best first."""

    targets: Targets
    """HOI labels are the teacher's probabilities."""
    object_logits: Tensor
    """(n, O + 1) of the same pairs."""


def soft_targets(frame: TaughtFrame, vocabulary: Vocabulary, postprocess: Postprocessor, max_pairs: int) -> SoftTargets:
    """Pairs with a confident triplet, as a student learns them; of several queries for one pair the best.

    Args:
        postprocess: the score rule of the vocabulary.
        max_pairs: pairs beyond this many, the least confident, are left out.
    """
    query = _confident_queries(frame, postprocess)[:max_pairs]
    raw = frame.raw
    object_logits = torch.from_numpy(raw.object_logits[0, query])
    labels = object_logits[:, :-1].argmax(-1)
    objects = torch.from_numpy(raw.object_boxes_cxcywh[0, query])
    targets = Targets(
        object_labels=labels,
        hoi_labels=torch.from_numpy(raw.hoi_logits[0, query]).sigmoid(),
        human_boxes_cxcywh=torch.from_numpy(raw.human_boxes_cxcywh[0, query]),
        object_boxes_cxcywh=objects * (labels < len(vocabulary.objects))[:, None],
    )
    return SoftTargets(targets=targets, object_logits=object_logits)


def _confident_queries(frame: TaughtFrame, postprocess: Postprocessor) -> I64:
    """Queries by falling score of their best triplet."""
    detections = frame.detections(postprocess)
    by_score = np.argsort(-detections.score, kind="stable")
    _, first = np.unique(detections.query[by_score], return_index=True)
    best = by_score[np.sort(first)]
    query = detections.query[best]
    boxes_xyxy, labels = official_boxes(frame.raw, (frame.rgb.shape[0], frame.rgb.shape[1]))
    objects = query + frame.raw.hoi_logits.shape[1]
    kept = pair_nms(
        boxes_xyxy[query],
        boxes_xyxy[objects],
        labels[objects],
        detections.score[best],
        _NMS.nms_threshold,
        _NMS.sub_power,
        _NMS.obj_power,
    )
    return query[np.sort(kept)]


class TeacherCache:
    """A folder of taught frames, by teacher and source."""

    def __init__(self, folder: Path, teacher: ModelFile, device: torch.device) -> None:
        """
        Raises:
            SinkError: the folder cannot be made.
        """
        make_folder(folder)
        self._folder, self._teacher, self._device = folder, teacher, device
        self._teacher_sha256 = teacher.sha256()

    @cached_property
    def _module(self) -> HOICLIP:
        """Only built where a frame has no outputs yet."""
        return self._teacher.build().to(self._device)

    def frames_of(
        self, source: str, images: Callable[[], Iterable[RGB]], on_frame: Callable[[], None] = lambda: None
    ) -> list[Path]:
        """Files of the frames of one source, in their order. Those that exist are kept, also of an interrupted call.

        Args:
            source: changes whenever the frames do, such as a hash of the source's bytes.
            images: opens the source; not called where all its frames are there.
            on_frame: called after each frame, for progress.

        Raises:
            SinkError: a file cannot be written.
            ModelError: the teacher gives values that are not finite.
        """
        identity = "\n".join((_FORMAT, self._teacher_sha256, source))
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        whole = self._folder / f"{key}.json"
        paths = self._recorded(whole)
        if paths is None:
            paths = []
            for number, rgb in enumerate(images()):
                path = self._folder / frame_name(key, number)
                if not _is_readable(path):
                    write_frame(path, infer_frame(self._module, rgb))
                paths.append(path)
                on_frame()
            write_file(whole, json.dumps({"frames": len(paths)}) + "\n")
        return paths

    def _recorded(self, whole: Path) -> list[Path] | None:
        """Frames of a source that was read to its end; None where it was not, or where a file is missing or damaged."""
        try:
            count = int(json.loads(whole.read_text(encoding="utf-8"))["frames"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        paths = [self._folder / frame_name(whole.stem, number) for number in range(count)]
        return paths if all(map(_is_readable, paths)) else None


def frame_name(source_key: str, number: int) -> str:
    """Name of the file of a source's frame."""
    return f"{source_key}-{number:06}.npz"


def infer_frame(teacher: HOICLIP, rgb: RGB) -> TaughtFrame:
    """Infers one frame on the teacher's device.

    Raises:
        ModelError: the teacher gives values that are not finite.
    """
    size = PreprocessConfig.for_model(teacher.config)
    device = teacher.hoi_rows.device
    images, padding, clip_images = (torch.from_numpy(a).to(device) for a in preprocess(rgb, size).arrays().values())
    with torch.inference_mode():
        detected = teacher.detect(images, padding)
        tokens = teacher.clip(clip_images)
        hoi_logits = teacher.interact(detected.pairs, detected.memory, detected.hidden_cells, tokens)
        clip_visual = teacher.clip.embed(tokens)
    outputs = (hoi_logits, *detected[3:], clip_visual[:, 0])
    names = [field.name for field in fields(RawOutput)]
    raw = RawOutput(**{name: value.float().cpu().numpy() for name, value in zip(names, outputs, strict=True)})
    raw.require_finite()
    return TaughtFrame(rgb=_shrink(rgb), raw=raw, clip_visual=clip_visual[0].float().cpu().numpy())


def _shrink(rgb: RGB) -> RGB:
    height, width = rgb.shape[:2]
    hw = resized_hw(height, width, FRAME_SHORT_PX, FRAME_MAX_PX)
    if hw[0] >= height:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((hw[1], hw[0]), Image.Resampling.BILINEAR))


def write_frame(path: Path, frame: TaughtFrame) -> None:
    """Writes a frame whole or not at all, with logits and tokens in half precision.

    Raises:
        SinkError: the file cannot be written.
    """
    jpeg = np.frombuffer(encode_jpeg(frame.rgb, _JPEG_QUALITY), np.uint8)
    raw = frame.raw
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                jpeg=jpeg,
                hoi_logits=raw.hoi_logits.astype(np.float16),
                object_logits=raw.object_logits.astype(np.float16),
                human_boxes_cxcywh=raw.human_boxes_cxcywh,
                object_boxes_cxcywh=raw.object_boxes_cxcywh,
                clip_visual=frame.clip_visual.astype(np.float16),
            )
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; make room, or choose another --run folder") from error


def read_frame(path: Path) -> TaughtFrame:
    """
    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        bgr = cv2.imdecode(arrays["jpeg"], cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError("no image")
        clip_visual = arrays["clip_visual"].astype(np.float32)
        raw = RawOutput(
            hoi_logits=arrays["hoi_logits"].astype(np.float32),
            object_logits=arrays["object_logits"].astype(np.float32),
            human_boxes_cxcywh=arrays["human_boxes_cxcywh"],
            object_boxes_cxcywh=arrays["object_boxes_cxcywh"],
            clip_cls=clip_visual[:1],
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, cv2.error) as error:
        raise DataError(
            f"expected a teacher's outputs in {path}, found it missing or damaged; delete it and run the command again"
        ) from error
    return TaughtFrame(rgb=cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), raw=raw, clip_visual=clip_visual)


def _is_readable(path: Path) -> bool:
    """Whether the file is a whole archive; its contents have checksums, which reading compares."""
    return path.is_file() and zipfile.is_zipfile(path)
