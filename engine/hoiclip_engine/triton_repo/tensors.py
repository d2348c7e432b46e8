"""Tensors between a client and the models of a repository, beside those of the graph itself."""

from __future__ import annotations

IMAGE = "image"
"""(H, W, 3) uint8 RGB."""
ENCODED = "encoded"
"""(N,) uint8: the bytes of a picture's file."""
PICTURE_HW = "picture_hw"
"""(2,) int64 height and width of the picture that boxes are told in."""
FOUND: dict[str, tuple[str, list[int]]] = {
    "query": ("INT64", [-1]),
    "human_boxes_xyxy": ("FP32", [-1, 4]),
    "object_boxes_xyxy": ("FP32", [-1, 4]),
    "label": ("INT64", [-1]),
    "verb": ("INT64", [-1]),
    "hoi": ("INT64", [-1]),
    "score": ("FP64", [-1]),
    "verb_score": ("FP64", [-1]),
    "label_name": ("STRING", [-1]),
    "verb_name": ("STRING", [-1]),
}
"""The fields of hoiclip_engine.pairs.Pairs, and their names in the vocabulary: type and shape."""
