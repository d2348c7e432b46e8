"""Pictures that scales are found with and engines are checked on, from whatever the product can read.

Chosen by a seed: the same source gives the same pictures in the same order, and what was taken is told by a hash.
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
from numpy.typing import NDArray

from hoiclip.checkpoint.model_file import ModelFile
from hoiclip.data.drawn.vocabulary import drawn_vocabulary
from hoiclip.data.drawn.world import DrawnWorld, WorldConfig
from hoiclip.errors import SourceError, UsageError
from hoiclip_engine.video.redact import redact
from hoiclip_engine.video.source import open_video

MOST_BYTES = 2 << 30
"""Of pictures kept at a time; of 4K frames that is 86."""
RGB = NDArray[np.uint8]
_log = logging.getLogger("hoiclip")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationConfig:
    """Which pictures."""

    source: str | None = None
    """A video or picture, or a folder of them; None: scenes of the drawn world, as models train on."""
    count: int = 300
    checked: int = 16
    """More pictures of the same source, for the gate to compare on; not calibrated on, unless there is just one."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.checked < 1:
            raise UsageError(f"expected pictures to calibrate and to check on, got {self.count} and {self.checked}")


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    calibrated: list[RGB]
    checked: list[RGB]
    about: dict[str, Any]
    """For the record: source without credentials, seed, counts, hash of the pixels."""


def knows_drawn(model: ModelFile) -> bool:
    """Whether it speaks of what drawn scenes show."""
    return model.vocabulary.hois == drawn_vocabulary().hois


def require_source(model: ModelFile, config: CalibrationConfig) -> None:
    """Raises UsageError: drawn scenes tell nothing of this model, and no other pictures are named."""
    if config.source is None and not knows_drawn(model):
        raise UsageError(f"{model.name} was not made for drawn scenes; name pictures like yours: --calibrate SRC")


def calibration_set(config: CalibrationConfig, on_picture: Callable[[], None] = lambda: None) -> CalibrationSet:
    """Looks through the source once.

    Args:
        on_picture: called after each picture that was looked at.

    Raises:
        SourceError: nothing can be read from the source.
    """
    wanted = config.count + config.checked
    chooser = random.Random(config.seed)
    kept: list[RGB] = []
    for seen, rgb in enumerate(_pictures(config, wanted)):
        on_picture()
        if not seen:
            wanted = max(2, min(wanted, MOST_BYTES // rgb.nbytes))
        if seen < wanted:
            kept.append(rgb)
        elif (place := chooser.randint(0, seen)) < wanted:  # every picture is as likely to stay
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


def _pictures(config: CalibrationConfig, wanted: int) -> Iterator[RGB]:
    if config.source is None:
        world = DrawnWorld(
            WorldConfig(stream="train", seed=config.seed, frequencies="equal", video_fraction=0.5, optics=True)
        )
        yield from (world.picture(index).rgb for index in range(wanted))
        return
    path = Path(config.source)
    if not path.is_dir():
        yield from _frames(path)
        return
    files = [one for one in sorted(path.iterdir()) if one.is_file() and not one.name.startswith(".")]
    random.Random(config.seed).shuffle(files)
    readable, unreadable = 0, [path.name for path in path.iterdir() if path.is_dir()]
    for file in files:
        if readable == wanted:
            break
        try:
            with open_video(file) as video:
                yield next(iter(video)).rgb  # of a film its first frame: many films are better than many frames
        except (SourceError, StopIteration):
            unreadable.append(file.name)
            continue
        readable += 1
    if not readable:
        raise SourceError(f"expected pictures or films in {path}, found none that can be read; name another folder")
    if unreadable:
        _log.warning("left out of %s: %d files or folders, first %s", path, len(unreadable), ascii(unreadable[0])[1:-1])


def _frames(path: Path) -> Iterator[RGB]:
    with open_video(path) as video:
        for frame in video:
            yield frame.rgb
