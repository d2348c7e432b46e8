"""Formats of annotation files, one module each: HOI-A (ours), COCO, HICO-DET, V-COCO; of tools: CVAT, Label Studio."""
