"""Tracked pairs as detections of `supervision`, drawn with its annotators: pip install 'hoiclip[supervision]'.

python examples/supervision_interop.py demo/clip.mp4 annotated.mp4
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import supervision as sv

from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine import Engine, TrackedPairs
from hoiclip_engine.sinks.video_encoder import VideoEncoder


def detections(pairs: TrackedPairs, names: Vocabulary) -> sv.Detections:
    """Every human and every object once, under its track id; `data["does"]` holds the activities of humans."""
    first_human = np.unique(pairs.human, return_index=True)[1]
    with_object = np.flatnonzero(pairs.object >= 0)
    first_object = with_object[np.unique(pairs.object[with_object], return_index=True)[1]]
    does: dict[int, list[str]] = {}
    for row, verb in np.argwhere(pairs.verb_active):
        words = f"{names.verb_name(verb)} {names.object_name(int(pairs.label[row]))}".strip()
        does.setdefault(int(pairs.human[row]), []).append(words)
    humans = pairs.human[first_human]
    return sv.Detections(
        xyxy=np.concatenate((pairs.human_boxes_xyxy[first_human], pairs.object_boxes_xyxy[first_object])),
        confidence=np.concatenate((pairs.score[first_human], pairs.score[first_object])),
        class_id=np.concatenate((np.full(len(humans), names.person), pairs.label[first_object])),
        tracker_id=np.concatenate((humans, pairs.object[first_object])),
        data={"does": np.array([", ".join(does.get(int(human), [])) for human in humans] + [""] * len(first_object))},
    )


def main(source: str, target: str) -> None:
    by_track = sv.ColorLookup.TRACK
    boxes, labels = sv.BoxAnnotator(color_lookup=by_track), sv.LabelAnnotator(color_lookup=by_track)
    with Engine.load("drawn") as engine:
        stream = engine.open(source)
        size = stream.header.width_px, stream.header.height_px
        encoder = VideoEncoder(Path(target), *size, Fraction(1, 12_800))
        for result in stream:
            found = detections(result.pairs, engine.vocabulary)
            texts = [
                f"#{track} {does}".strip() for track, does in zip(found.tracker_id, found.data["does"], strict=True)
            ]
            bgr = labels.annotate(boxes.annotate(result.frame.rgb[..., ::-1].copy(), found), found, texts)
            encoder.write(np.ascontiguousarray(bgr[..., ::-1]), result.pts_s)
        encoder.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
