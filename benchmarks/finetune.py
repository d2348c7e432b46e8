"""Fine-tuning measured: a model that never saw five verbs, and 100 images that show them.

    python -m benchmarks.finetune --runs runs/finetune --seeds 0 1 2

A model is trained on synthetic images from which every interaction of HIDDEN_VERBS was taken out of annotations and
vocabulary, from the detector of drawn_detector_rf_uc.toml and the bundled model's CLIP. Then, for each seed, 100 other
images, each with one of those verbs and annotated in full, and three ways to a model of all words:

- rows: that model with the vocabulary of all words, without training;
- finetuned: finetune.toml on the 100 images;
- scratch: the same 100 images for a model with random weights, the same CLIP and the same evaluations to stop by.

A line each with the mAP of HOIs with new and with old verbs on the fixed synthetic test set. Killed, it resumes.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clip_knowledge import RECIPE, bundled_clip, spread
from benchmarks.harness import RESULTS, append, provenance
from hoiclip.checkpoint.open_vocabulary import embedder, swap_vocabulary
from hoiclip.core.atomic_write import write_file
from hoiclip.core.model_file import ModelFile, load_model_file, write_tensors
from hoiclip.core.vocabulary import Vocabulary, vocabulary_from_words
from hoiclip.data.annotations import ImageAnnotation, keep_rows
from hoiclip.data.formats.hoia import read_hoia, write_hoia
from hoiclip.evaluation.image_loop import evaluate_module
from hoiclip.evaluation.splits import Split
from hoiclip.synthetic.fixed_sets import synthetic_set
from hoiclip.synthetic.vocabulary import synthetic_vocabulary
from hoiclip.synthetic.world import WorldConfig
from hoiclip.training.recipe import BUNDLED, read_recipe
from hoiclip_engine.cli.console import results, table
from hoiclip_engine.cli.draw import ANNOTATIONS, IMAGES, draw_images
from hoiclip_engine.evaluation.training import train_model
from hoiclip_engine.models import find_model

NAME = "finetune"
HIDDEN_VERBS = frozenset({"inspect", "stand_on", "talk_on", "fly", "read"})
WORLD = WorldConfig(stream="train", seed=91, frequencies="equal", video_fraction=0.5)
"""Of the images without the hidden verbs; those to fine-tune on have the next seeds."""
DRAWN_FOR_ONE = 8
"""Images drawn for one to fine-tune on: some have none of the verbs."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/finetune"), help="folder of images and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=20_000, help="images without the hidden verbs")
    parser.add_argument("--steps", type=int, default=2000, help="steps on them")
    parser.add_argument("--few", type=int, default=100, help="images with the hidden verbs")
    parser.add_argument("--tune-steps", type=int, default=1500, help="steps on those, at most")
    parser.add_argument("--max-test", type=int, help="images of the test set (default: all)")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print mean and spread over seeds, and end")
    args = parser.parse_args()
    if args.table:
        show()
        return 0
    pretrained = pretrain(args.runs, args.images, args.steps, args.workers)
    for seed in args.seeds:
        few = images_with_hidden_verbs(args.runs / f"few-{args.few}-{seed}", args.few, seed)
        for way, model in _ways(pretrained, few, seed, args).items():
            append(
                NAME,
                {
                    "benchmark": NAME, "way": way, "seed": seed, "hidden_verbs": sorted(HIDDEN_VERBS),
                    "images": args.few, "pretrained": {"images": args.images, "steps": args.steps},
                    "set": "synthetic test", "evaluated": args.max_test or "all", "metric": "hico",
                    "mAP": mean_precisions(model, args.max_test), "threads": torch.get_num_threads(),
                    **provenance("torch"),
                },
            )  # fmt: skip
    return 0


def _ways(pretrained: ModelFile, few: Path, seed: int, args: argparse.Namespace) -> dict[str, ModelFile]:
    """A model of all words by each way."""
    embeddings = text_embeddings(args.runs / "embeddings.safetensors", synthetic_vocabulary())
    data = {
        "seed": seed,
        "data.annotations": str(few / ANNOTATIONS),
        "data.images": str(few / IMAGES),
        "schedule.steps": args.tune_steps,
        "schedule.warmup_steps": min(20, args.tune_steps // 10),
    }
    finetuned = _trained(
        BUNDLED / "finetune.toml",
        few / "finetuned",
        args.workers,
        **{**data, "init.model": str(pretrained.path), "init.embeddings": str(embeddings)},
    )
    tuning = read_recipe(BUNDLED / "finetune.toml")
    scratch = _trained(
        RECIPE,
        few / "scratch",
        args.workers,
        **data,
        **{
            "data.kind": "images",
            "data.split": "default",
            "data.validation": tuning.data.validation,
            "evaluate_every": tuning.evaluate_every,
            "schedule.patience": tuning.schedule.patience,
            "optimizer.batch_size": tuning.optimizer.batch_size,
            "optimizer.ema": tuning.optimizer.ema,
            "optimizer.backbone_lr": 4e-4,
            "auxiliary.query_groups": tuning.auxiliary.query_groups,
            "init.detector": "",
            "init.clip": str(bundled_clip(args.runs / "clip.safetensors")),
            "init.freeze_backbone_start": False,
        },
    )
    return {"rows": _with_all_words(pretrained), "finetuned": finetuned, "scratch": scratch}


def _with_all_words(pretrained: ModelFile) -> ModelFile:
    own, given = synthetic_vocabulary(), load_model_file(find_model("drawn")).text_embeddings()
    swapped = swap_vocabulary(pretrained, own, embedder(pretrained, given, "train it with that CLIP"), only=True)
    path = pretrained.path.with_name("all_words.safetensors")
    swapped.save(path)
    return load_model_file(path)


def _trained(recipe: Path, out: Path, workers: int, **settings: Any) -> ModelFile:
    return load_model_file(train_model(read_recipe(recipe, **settings), out, workers=workers))


def pretrain(runs: Path, count: int, steps: int, workers: int) -> ModelFile:
    """The model that knows neither images nor words of the hidden verbs."""
    words = vocabulary_without(HIDDEN_VERBS)
    data = runs / f"without-{count}"
    if not (data / "seen.json").is_file():
        draw_images(data, count, WORLD, ".jpg")
        annotations = read_hoia(data / ANNOTATIONS, synthetic_vocabulary())
        seen = [found for one in annotations if (found := without_hidden_verbs(one, words)) is not None]
        write_hoia(data / "seen_annotations.json", seen, words)
        write_file(data / "seen.json", words.to_json())
    return _trained(
        RECIPE,
        runs / f"pretrained-{count}-{steps}",
        workers,
        **{
            "data.kind": "images",
            "data.split": "default",
            "data.annotations": str(data / "seen_annotations.json"),
            "data.images": str(data / IMAGES),
            "data.vocabulary": str(data / "seen.json"),
            "model.num_object_classes": words.num_object_classes,
            "model.num_verbs": len(words.verbs),
            "model.num_hois": len(words.hois),
            "schedule.steps": steps,
            "schedule.warmup_steps": min(100, steps // 10),
            "evaluate_every": 0,
            "init.clip": str(bundled_clip(runs / "clip_seen.safetensors", words)),
        },
    )


def vocabulary_without(hidden: frozenset[str]) -> Vocabulary:
    """The synthetic vocabulary without some verbs, and without objects with which one does nothing else."""
    own = synthetic_vocabulary()
    lines = [f"{verb} {obj}" for verb, obj in own.named_hois if verb not in hidden]
    words = vocabulary_from_words("seen", lines)
    prompts = dict(zip(own.named_hois, own.hoi_prompts, strict=True))
    objects = dict(zip(own.objects, own.object_prompts, strict=False))
    verbs = dict(zip(own.verbs, own.verb_prompts, strict=True))
    return replace(
        words,
        hoi_prompts=tuple(prompts[hoi] for hoi in words.named_hois),
        object_prompts=(*(objects[obj] for obj in words.objects), *own.object_prompts[len(own.objects) :]),
        verb_prompts=tuple(verbs[verb] for verb in words.verbs),
    )


def without_hidden_verbs(annotation: ImageAnnotation, words: Vocabulary) -> ImageAnnotation | None:
    """An annotation in the words of a smaller vocabulary; None where nothing of it is left."""
    own = synthetic_vocabulary()
    shown = np.isin(annotation.labels, [own.objects.index(obj) for obj in words.objects])
    kept = [
        (human, obj, words.verbs.index(own.verbs[verb]))
        for human, obj, verb in annotation.interactions.tolist()
        if own.verbs[verb] in words.verbs and (obj < 0 or shown[obj])
    ]
    if not kept:
        return None
    left = keep_rows(replace(annotation, interactions=np.array(kept, np.int64).reshape(-1, 3)), shown)
    labels = [words.objects.index(own.objects[label]) for label in left.labels]
    return replace(left, labels=np.array(labels, np.int64))


def images_with_hidden_verbs(folder: Path, count: int, seed: int) -> Path:
    """Draws `count` images that show one of the hidden verbs or more, annotated in full."""
    if not (folder / "few.json").is_file():
        draw_images(folder, DRAWN_FOR_ONE * count, replace(WORLD, seed=WORLD.seed + 1 + seed), ".jpg")
        own = synthetic_vocabulary()
        hidden = [own.verbs.index(verb) for verb in sorted(HIDDEN_VERBS)]
        annotations = read_hoia(folder / ANNOTATIONS, own)
        showing = [one for one in annotations if np.isin(one.interactions[:, 2], hidden).any()]
        write_hoia(folder / ANNOTATIONS, showing[:count], own)
        write_file(folder / "few.json", json.dumps({"images": min(count, len(showing))}))
    return folder


def text_embeddings(path: Path, vocabulary: Vocabulary) -> Path:
    """The bundled model's text embeddings of a vocabulary, as `hoiclip vocab build` writes them."""
    rows = load_model_file(find_model("drawn")).text_embeddings()
    tensors = {
        name: torch.from_numpy(np.stack([rows[text] for text in texts]))
        for name, texts in vocabulary.prompts_by_tensor.items()
    }
    write_tensors(path, tensors, {"vocabulary": vocabulary.to_json()})
    return path


def mean_precisions(model: ModelFile, most: int | None) -> dict[str, float]:
    """mAP on the synthetic test set in percent: of all HOIs, and of those with new and with old verbs."""
    own = model.vocabulary
    new = frozenset(index for index, (verb, _) in enumerate(own.named_hois) if verb in HIDDEN_VERBS)
    split = Split(name="verbs", inside=new, inside_name="new", outside_name="old")
    numbers = evaluate_module(model.build(), own, synthetic_set("test"), most, [split])
    return {"all": numbers["mAP"]} | {side: round(100 * numbers[f"verbs/mAP {side}"], 2) for side in ("new", "old")}


def show() -> None:
    """Prints mean and sample deviation over seeds."""
    seeds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for text in (RESULTS / f"{NAME}.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        seeds[line["way"]].append(line["mAP"])
    rows = [
        (way, str(len(found)), *(spread([one[side] for one in found]) for side in ("new", "old", "all")))
        for way, found in seeds.items()
    ]
    results.print(table("mAP on the synthetic test set, %", ("way", "seeds", "new verbs", "old verbs", "all"), rows))


if __name__ == "__main__":
    raise SystemExit(main())
