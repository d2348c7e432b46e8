"""Calibration images, which scales are found with, and further images that engines are checked on, from any source.

A seed chooses them: the same source gives the same images in the same order, and a hash of the pixels goes on record.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hoiclip.core.array_types import RGB
from hoiclip.core.errors import SourceError, UsageError
from hoiclip.core.model_file import ModelFile
from hoiclip.synthetic.vocabulary import is_synthetic
from hoiclip.synthetic.world import SyntheticWorld, WorldConfig
from hoiclip_engine.sources.file import open_video
from hoiclip_engine.sources.uri import redact

MAX_KEPT_BYTES = 2 << 30
"""Bytes of images kept at a time; of 4K frames that is 86."""
_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationConfig:
    """Source and number of the images."""

    source: str | None = None
    """A video or image, or a folder of them; None: scenes of the synthetic world, as models train on."""
    count: int = 300
    checked: int = 16
    """More images of the same source, for the accuracy gate; not calibrated on, unless there is just one."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.checked < 1:
            raise UsageError(f"expected images to calibrate and to check on, got {self.count} and {self.checked}")


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The images of one source."""

    calibrated: list[RGB]
    checked: list[RGB]
    about: dict[str, Any]
    """For the record: source without credentials, seed, counts, hash of the pixels."""


def require_source(model: ModelFile, config: CalibrationConfig) -> None:
    """Raises UsageError: the model was not made for synthetic scenes, and no other images are named."""
    if config.source is None and not is_synthetic(model.vocabulary):
        raise UsageError(f"{model.name} was not made for synthetic scenes; name images like yours: --calibrate SRC")


def calibration_set(config: CalibrationConfig, on_image: Callable[[], None] = lambda: None) -> CalibrationSet:
    """Reads the source once.

    Args:
        on_image: called after each image that was read.

    Raises:
        SourceError: nothing can be read from the source.
    """
    wanted = config.count + config.checked
    chooser = random.Random(config.seed)
    kept: list[RGB] = []
    for seen, rgb in enumerate(_images(config, wanted)):
        on_image()
        if not seen:
            wanted = max(2, min(wanted, MAX_KEPT_BYTES // rgb.nbytes))
        if seen < wanted:
            kept.append(rgb)
        elif (place := chooser.randint(0, seen)) < wanted:  # every image is as likely to stay
            kept[place] = rgb
    chooser.shuffle(kept)
    checked = kept[-min(config.checked, max(1, len(kept) // 2)) :]
    calibrated = kept[: -len(checked)][: config.count] or checked
    digest = hashlib.sha256()
    for rgb in kept:
        digest.update(np.ascontiguousarray(rgb).data)
    about = {
        **asdict(config),
        "source": "drawn" if config.source is None else Path(redact(config.source)).name,
        "count": len(calibrated),
        "checked": len(checked),
        "pixels_sha256": digest.hexdigest(),
    }
    return CalibrationSet(calibrated, checked, about)


def _images(config: CalibrationConfig, wanted: int) -> Iterator[RGB]:
    if config.source is None:
        world = SyntheticWorld(
            WorldConfig(stream="train", seed=config.seed, frequencies="equal", video_fraction=0.5, optics=True)
        )
        yield from (world.image(index).rgb for index in range(wanted))
        return
    path = Path(config.source)
    if not path.is_dir():
        yield from _frames(path)
        return
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    random.Random(config.seed).shuffle(files)
    readable, unreadable = 0, [folder.name for folder in path.iterdir() if folder.is_dir()]
    for file in files:
        if readable == wanted:
            break
        try:
            with open_video(file) as video:
                yield next(iter(video)).rgb  # of a video its first frame: many videos are better than many frames
        except (SourceError, StopIteration):
            unreadable.append(file.name)
            continue
        readable += 1
    if not readable:
        raise SourceError(f"expected images or videos in {path}, found none that can be read; name another folder")
    if unreadable:
        _log.warning("left out of %s: %d files or folders, first %s", path, len(unreadable), ascii(unreadable[0])[1:-1])


def _frames(path: Path) -> Iterator[RGB]:
    with open_video(path) as video:
        for frame in video:
            yield frame.rgb
