"""Cuts the compact subset in this folder out of the full recordings: python -m tests.golden.make_subset PARITY_DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CLASS_STEP, ROW_STEP = 6, 20


def main(parity_dir: Path) -> None:
    load = lambda name: np.load(parity_dir / f"{name}.npz")  # noqa: E731
    outputs, final, text = load("hico_b1_outputs"), load("hico_b1_final"), load("text_hico")
    np.savez_compressed(
        HERE / "model_hico_b1.npz",
        image_size=outputs["image_sizes"][0],
        original_size=final["orig_sizes"][0],
        hoi_logits=outputs["pred_hoi_logits"][0, :, ::CLASS_STEP],
        object_logits=outputs["pred_obj_logits"][0],
        human_boxes=outputs["pred_sub_boxes"][0],
        object_boxes=outputs["pred_obj_boxes"][0],
        clip_cls=outputs["clip_visual"][0, 0],
        **{name: final[f"final0_{name}"] for name in ("sub", "obj", "cat", "score")},
    )
    np.savez_compressed(HERE / "text_hico.npz", tokens=text["hoi_tokens"][::ROW_STEP], rows=text["hoi_cls"][::ROW_STEP])
    post = load("postprocess_hico")
    kept = {key: post[key][:1] for key in post.files if key.startswith("pred_") or key in ("clip_visual_cls", "boxes")}
    kept |= {key: post[key] for key in post.files if key.startswith(("final_0_", "nonms_0_"))}
    np.savez_compressed(HERE / "postprocess_hico.npz", original_size=post["orig_sizes"][0], **kept)
    pre = load("preprocess")
    names = ("photo_hw_2", "resized_hw_2", "resized_u8_s8_2", "det_s16_2", "clip_input_2")
    np.savez_compressed(HERE / "preprocess.npz", **{name: pre[name] for name in names})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
