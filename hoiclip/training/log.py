"""What a run leaves to read: JSON lines, TensorBoard where it is installed, and a picture of the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FILE = "log.jsonl"
_SIZE_PX = (960, 540)
_MARGIN_PX = 56
_INK = ((40, 40, 40), (0, 114, 189), (217, 83, 25), (60, 140, 60), (126, 47, 142))


class RunLog:
    """One JSON line per report, flushed. Resuming cuts off what the interrupted run wrote after its checkpoint."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        self._path = folder / FILE
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
    """All whole lines; a line that a kill cut off is left out."""
    path = folder / FILE
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
    """curves.png: each named value over steps, scaled to its own largest.

    Args:
        names: "kind/value" to the words of the legend.
    """
    lines = read_log(folder)
    picture = np.full((_SIZE_PX[1], _SIZE_PX[0], 3), 255, np.uint8)
    last = max([line["step"] for line in lines], default=1) or 1
    for row, (name, words) in enumerate(names.items()):
        kind, _, value = name.partition("/")
        points = [(line["step"], float(line[value])) for line in lines if line["kind"] == kind and value in line]
        if points:
            _draw_curve(picture, np.array(points), last, words, row)
    cv2.rectangle(picture, (_MARGIN_PX, 8), (_SIZE_PX[0] - 8, _SIZE_PX[1] - _MARGIN_PX), (150, 150, 150), 1)
    _text(picture, f"{last} steps", (_SIZE_PX[0] - 130, _SIZE_PX[1] - 30), (60, 60, 60))
    path = folder / "curves.png"
    cv2.imwrite(str(path), picture)
    return path


def _draw_curve(picture: NDArray[np.uint8], points: NDArray[np.float64], last: int, words: str, row: int) -> None:
    top = max(float(np.nanmax(points[:, 1])), 1e-9)
    width, height = _SIZE_PX[0] - _MARGIN_PX - 8, _SIZE_PX[1] - _MARGIN_PX - 8
    x = _MARGIN_PX + points[:, 0] / last * width
    y = 8 + (1 - np.clip(np.nan_to_num(points[:, 1]) / top, 0, 1)) * height
    color = _INK[row % len(_INK)][::-1]
    path = np.stack([x, y], axis=1).round().astype(np.int32)
    cv2.polylines(picture, [path], False, color, 2, cv2.LINE_AA)
    place = (_MARGIN_PX + 10 + 175 * row, _SIZE_PX[1] - 30)
    _text(picture, f"{words} (top {top:.3g})", place, color)


def _text(picture: NDArray[np.uint8], words: str, place: tuple[int, int], color: tuple[int, ...]) -> None:
    cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
