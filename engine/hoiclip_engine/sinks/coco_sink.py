"""COCO JSON: every frame an image, every visible human and object an annotation with the identity of its track.

Beside COCO's own keys, an annotation has `score` and `track_id`, and a human's has `interactions`: active verbs, each
with the track of its object. One JSON document, and yet memory stays flat: annotations go into the file as
they come, images into a second one beside it, which is appended in the end.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from hoiclip.core.errors import SinkError
from hoiclip.core.vocabulary import PERSON, Vocabulary
from hoiclip_engine.sinks.jsonl_sink import rounded_number
from hoiclip_engine.sinks.text_sinks import TextFile
from hoiclip_engine.sources.source_list import IMAGE_SUFFIXES
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.tracked_pairs import TrackedPairs


class CocoSink(Sink):
    """A file that gets its name when it is whole; until then NAME.part and NAME.images.part exist."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f"{path.name}.part")
        self._unfinished_images = path.with_name(f"{path.name}.images.part")

    def start(self, header: RunHeader) -> None:
        """Creates both files.

        Raises:
            SinkError: they cannot be created.
        """
        self._vocabulary = header.vocabulary
        self._human_category = _human_category(header.vocabulary)
        source = PurePath(header.source)
        self._image = source.name if source.suffix.lower() in IMAGE_SUFFIXES else ""
        self._annotations = self._frames = 0
        self._file, self._images = TextFile(self._unfinished), TextFile(self._unfinished_images)
        info = {"description": f"human-object interactions found by {header.model}", "source": header.source}
        head = {"info": info, "licenses": [], "categories": _categories(header.vocabulary)}
        self._file.write(_json(head)[:-1] + ',"annotations":[')

    def write(self, result: FrameResult) -> None:
        """Adds an image and its annotations.

        Raises:
            SinkError: the disk is full; then both files are removed.
        """
        frame = result.frame
        image = {
            "id": result.index,
            "file_name": self._image or f"{result.index:08d}.jpg",
            "width": frame.width_px,
            "height": frame.height_px,
            "pts_s": rounded_number(result.pts_s, 6),
        }
        lines = []
        for fields in self._entities(result.pairs):
            self._annotations += 1
            fields = {"id": self._annotations, "image_id": result.index, **fields}
            lines.append((",\n" if self._annotations > 1 else "\n") + _json(fields))
        try:
            self._images.write((",\n" if self._frames else "\n") + _json(image))
            self._file.write("".join(lines))
        except SinkError:
            self._discard()
            raise
        self._frames += 1

    def finish(self, summary: RunSummary) -> None:
        """Joins the two files.

        Raises:
            SinkError: the disk is full.
        """
        if not self._unfinished.exists():
            return
        try:
            self._file.write('\n],"images":[')
            self._images.close()
            with self._unfinished_images.open(encoding="utf-8") as images:
                while text := images.read(1 << 20):
                    self._file.write(text)
            self._file.write("\n]}\n")
            self._file.close()
            os.replace(self._unfinished, self._path)
            self._unfinished_images.unlink()
        except OSError as error:
            self._discard()
            raise SinkError(f"cannot write {self._path}: {error.strerror}; choose another place") from None
        except SinkError:
            self._discard()
            raise

    def _discard(self) -> None:
        for path in (self._unfinished, self._unfinished_images):
            path.unlink(missing_ok=True)

    def _entities(self, pairs: TrackedPairs) -> list[dict[str, Any]]:
        """Humans and objects in order of their tracks, each once, with the box of its best pair."""
        found: dict[int, tuple[float, dict[str, Any]]] = {}
        interactions: dict[int, list[dict[str, Any]]] = {}
        for row in range(len(pairs)):
            human, object_id, score = int(pairs.human[row]), int(pairs.object[row]), float(pairs.score[row])
            interactions.setdefault(human, []).extend(self._interactions(pairs, row))
            entities = [(human, self._human_category, pairs.human_boxes_xyxy[row])]
            if object_id >= 0:
                entities.append((object_id, int(pairs.label[row]) + 1, pairs.object_boxes_xyxy[row]))
            for track, category, box in entities:
                if np.isfinite(box).all() and (track not in found or found[track][0] < score):
                    found[track] = score, _annotation(track, category, box, score)
        for track, (_, fields) in found.items():
            if track in interactions:
                fields["interactions"] = interactions[track]
        return [found[track][1] for track in sorted(found)]

    def _interactions(self, pairs: TrackedPairs, row: int) -> list[dict[str, Any]]:
        object_id = int(pairs.object[row])
        return [
            {
                "verb": self._vocabulary.verbs[verb],
                "object_track_id": object_id if object_id >= 0 else None,
                "score": rounded_number(float(pairs.verb_scores[row, verb]), 4),
            }
            for verb in np.flatnonzero(pairs.verb_active[row])
        ]


def _annotation(track: int, category: int, box_xyxy: np.ndarray[Any, Any], score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    width, height = max(0.0, x2 - x1), max(0.0, y2 - y1)
    return {
        "category_id": category,
        "bbox": [round(value, 2) + 0.0 for value in (x1, y1, width, height)],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": rounded_number(score, 4),
        "track_id": track,
    }


def _human_category(vocabulary: Vocabulary) -> int:
    return (vocabulary.person if vocabulary.person >= 0 else len(vocabulary.objects)) + 1


def _categories(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Numbers from 1 in the order of the vocabulary; a vocabulary without a person gets one at its end."""
    names = vocabulary.objects if vocabulary.person >= 0 else (*vocabulary.objects, PERSON)
    return [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(names, 1)]


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))
