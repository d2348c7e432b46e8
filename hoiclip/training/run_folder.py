"""Files of a run: log in JSON lines (and TensorBoard where it is installed), image of the curves, checkpoint.

A checkpoint is written whole or not at all, read without running code, and enough to resume exactly.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hoiclip.core.atomic_write import TEMPORARY_SUFFIX, atomic_write
from hoiclip.core.errors import ModelError

LOG_FILE = "log.jsonl"
CHECKPOINT_FILE = "checkpoint.pt"
_SIZE_PX = (960, 540)
_MARGIN_PX = 56
_INK = ((40, 40, 40), (0, 114, 189), (217, 83, 25), (60, 140, 60), (126, 47, 142))


class RunLog:
    """One JSON line per report, flushed. Resuming removes the lines that were written after the checkpoint."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        self._path = folder / LOG_FILE
        kept = [line for line in read_log(folder) if line["step"] <= resumed_step]
        self._file = self._path.open("w", encoding="utf-8")
        for line in kept:
            self._put(line)
        self._board = _tensorboard(folder, resumed_step)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """kind: "train", "evaluation" or "note"."""
        self._put({"step": step, "kind": kind, **values})
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _put(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All whole lines; the unfinished line of a killed run is left out."""
    path = folder / LOG_FILE
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _tensorboard(folder: Path, resumed_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)


def draw_curves(folder: Path, names: Mapping[str, str]) -> Path:
    """curves.png: each named value over steps, scaled to its own maximum.

    Args:
        names: "kind/value" to its text in the legend.
    """
    lines = read_log(folder)
    image = np.full((_SIZE_PX[1], _SIZE_PX[0], 3), 255, np.uint8)
    last = max([line["step"] for line in lines], default=1) or 1
    for row, (name, legend) in enumerate(names.items()):
        kind, _, value = name.partition("/")
        points = [(line["step"], float(line[value])) for line in lines if line["kind"] == kind and value in line]
        if points:
            _draw_curve(image, np.array(points), last, legend, row)
    cv2.rectangle(image, (_MARGIN_PX, 8), (_SIZE_PX[0] - 8, _SIZE_PX[1] - _MARGIN_PX), (150, 150, 150), 1)
    _text(image, f"{last} steps", (_SIZE_PX[0] - 130, _SIZE_PX[1] - 30), (60, 60, 60))
    path = folder / "curves.png"
    cv2.imwrite(str(path), image)
    return path


def _draw_curve(image: NDArray[np.uint8], points: NDArray[np.float64], last: int, legend: str, row: int) -> None:
    top = max(float(np.nanmax(points[:, 1])), 1e-9)
    width, height = _SIZE_PX[0] - _MARGIN_PX - 8, _SIZE_PX[1] - _MARGIN_PX - 8
    x = _MARGIN_PX + points[:, 0] / last * width
    y = 8 + (1 - np.clip(np.nan_to_num(points[:, 1]) / top, 0, 1)) * height
    color = _INK[row % len(_INK)][::-1]
    path = np.stack([x, y], axis=1).round().astype(np.int32)
    cv2.polylines(image, [path], False, color, 2, cv2.LINE_AA)
    position = (_MARGIN_PX + 10 + 175 * row, _SIZE_PX[1] - 30)
    _text(image, f"{legend} (top {top:.3g})", position, color)


def _text(image: NDArray[np.uint8], legend: str, position: tuple[int, int], color: tuple[int, ...]) -> None:
    cv2.putText(image, legend, position, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Replaces the folder's checkpoint; a kill at any moment leaves the old one or the new one."""
    path = folder / CHECKPOINT_FILE
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        torch.save({**state, "random": _random_state()}, file)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint with all random generators set back, or None.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / CHECKPOINT_FILE
    for unfinished in folder.glob(f".checkpoint*{TEMPORARY_SUFFIX}"):
        unfinished.unlink(missing_ok=True)
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise ModelError(f"{path} is damaged; delete it to start the run again") from error
    _set_random_state(state.pop("random"))
    return state


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that use numpy's global generator
    torch.manual_seed(seed)


def _random_state() -> dict[str, Any]:
    """States of torch's generators, which dropout draws from; data is seeded by sample."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
