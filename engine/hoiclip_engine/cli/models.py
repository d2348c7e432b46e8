"""hoiclip models: list, info, fetch and import of official checkpoints, and verification of model files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.core.errors import ModelError, UsageError
from hoiclip.core.torch_extra import require_torch
from hoiclip.core.wall_time import utc_text
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import download_progress, messages, results, say, table, working
from hoiclip_engine.cli.distinct_files import require_distinct

if TYPE_CHECKING:
    from hoiclip.checkpoint.official import Imported
    from hoiclip.checkpoint.released import Released
    from hoiclip.core.model_file import ModelFile


EXAMPLES = """\
  hoiclip models list
  hoiclip models info drawn
  hoiclip models fetch                                    what can be fetched
  hoiclip models fetch hico                               then: hoiclip run clip.mp4 --model hico
  hoiclip models import hico_checkpoint.pth -o hico.safetensors
  hoiclip models verify hico.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=options.Parser)
    options.add_log(actions.add_parser("list", help="models with a name"))
    info = actions.add_parser("info", help="config, vocabulary and provenance of a model file")
    info.add_argument("model", metavar="NAME|FILE")
    options.add_json(info)
    options.add_log(info)
    imported = actions.add_parser("import", help="convert an official checkpoint into a model file")
    imported.add_argument("checkpoint", type=Path, metavar="CKPT.pth")
    imported.add_argument("-o", "--output", type=Path, required=True, metavar="X.safetensors")
    imported.add_argument("--labels", choices=("hico", "vcoco"), help="its dataset (default: by the number of classes)")
    options.add_log(imported)
    fetched = actions.add_parser("fetch", help="download a released checkpoint by name, and import it")
    fetched.add_argument("name", nargs="?", metavar="NAME", help="without a name: show all")
    options.add_json(fetched)
    options.add_log(fetched)
    verify = actions.add_parser("verify", help="check that a model file is complete and undamaged")
    verify.add_argument("model", metavar="NAME|FILE")
    options.add_log(verify)


def run(args: argparse.Namespace) -> int:
    match args.action:
        case "list":
            return list_models()
        case "info":
            return info(args.model, args.json)
        case "import":
            return import_official(args.checkpoint, args.output, args.labels)
        case "fetch":
            return show_released(args.json) if args.name is None else fetch_released(args.name, args.json)
        case _:
            return verify(args.model)


def list_models() -> int:
    """Prints the names that --model understands."""
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.models import known_models, model_folders

    rows = []
    for name, path in known_models().items():
        size = f"{path.stat().st_size / 2**20:.0f} MiB"
        try:
            model = load_model_file(path)
        except ModelError as error:  # one damaged file must not hide the others
            rows.append((name, "", "damaged", size, str(error)))
            continue
        rows.append((name, model.vocabulary.name, model.provenance.get("kind", ""), size, model.notice))
    results.print(table("", ("name", "vocabulary", "kind", "size", "note"), rows))
    messages.print(f"Model files in {model_folders()[1]} are known by their names too.")
    return 0


def info(name: str, as_json: bool) -> int:
    """Prints the header of one model file."""
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.models import find_model

    model = load_model_file(find_model(name))
    facts = {
        "path": str(model.path),
        "sha256": model.sha256(),
        "size_bytes": model.path.stat().st_size,
        "vocabulary": {
            "name": model.vocabulary.name,
            "objects": len(model.vocabulary.objects),
            "verbs": len(model.vocabulary.verbs),
            "hois": len(model.vocabulary.hois),
        },
        "provenance": model.provenance,
        "config": model.config.to_dict(),
    }
    if as_json:
        say(json.dumps(facts))
        return 0
    rows = []
    for key, value in facts.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{key}.{inner}" if inner else key, content) for inner, content in pairs]
    results.print(table("", ("field", "value"), rows))
    return 0


def import_official(checkpoint: Path, target: Path, labels: str | None) -> int:
    """Converts an official .pth into a model file; nothing is written if anything is wrong."""
    from hoiclip_engine.models import SUFFIX

    require_torch("importing a checkpoint", "open_clip")
    if target.suffix != SUFFIX:
        raise UsageError(f"a model file ends in {SUFFIX}, got {target}")
    require_distinct([checkpoint], [target])
    imported = _import(checkpoint, target, labels, {})
    groups: dict[str, int] = {}
    for key in imported.dropped:
        group = ".".join(name for name in key.split(".")[:2] if not name.isdigit())
        groups[group] = groups.get(group, 0) + 1
    messages.print(table("Dropped: never influences a prediction", ("group", "tensors"), sorted(groups.items())))
    kind = "zero-shot" if imported.zero_shot else "default"
    messages.print(f"Wrote {target}: {imported.vocabulary.name}, {kind}, {len(imported.state)} tensors.")
    return 0


def _import(checkpoint: Path, target: Path, labels: str | None, origin: dict[str, str]) -> Imported:
    """Args: origin: what else the model file says of where its weights come from."""
    from hoiclip.checkpoint.official import import_checkpoint
    from hoiclip.core.model_file import file_sha256, save_model_file

    with working(f"Reading {checkpoint} and making its text embeddings"):
        imported = import_checkpoint(checkpoint, labels)
        provenance = {
            "kind": "imported",
            "from": checkpoint.name,
            "from_sha256": file_sha256(checkpoint),
            "epoch": imported.epoch,
            "zero_shot": imported.zero_shot,
            "made": utc_text(),
            "dropped": len(imported.dropped),
            **origin,
        }
        save_model_file(target, imported.state, imported.config, imported.vocabulary, provenance)
    return imported


def show_released(as_json: bool) -> int:
    """Prints what can be fetched, and what has been."""
    from hoiclip.checkpoint.released import released_checkpoints

    entries = list(released_checkpoints().values())
    if as_json:
        say(json.dumps([{**asdict(entry), "path": str(entry.path), "here": entry.path.exists()} for entry in entries]))
        return 0
    columns = ("name", "what", "published", "licence", "here")
    rows = [(e.name, e.about, e.published_text, e.licence, "yes" if e.path.exists() else "") for e in entries]
    results.print(table("", columns, rows))
    return 0


def fetch_released(name: str, as_json: bool) -> int:
    """Downloads a released checkpoint and makes the file to use of it; does nothing where that is here already."""
    from hoiclip.checkpoint.fetch import fetch, fetched_before
    from hoiclip.checkpoint.released import find_released
    from hoiclip.core.model_file import file_sha256

    entry = find_released(name)
    if fetched_before(entry):
        messages.print(f"{name} is here already, as it was fetched: {entry.path}")
    else:
        try:
            with download_progress() as bar:
                task = bar.add_task(name, total=None)
                fetch(
                    entry,
                    lambda done, size: bar.update(task, completed=done, total=size),
                    lambda released, target: _convert(entry, released, target, bar.stop),
                )
        except KeyboardInterrupt:
            messages.print(f"Stopped. What has arrived is kept; the same command resumes: hoiclip models fetch {name}")
            raise
        messages.print(
            f"Wrote {entry.path}, sha256 {file_sha256(entry.path)}: {entry.about}. Licence: {entry.licence}."
        )
    if as_json:
        say(json.dumps({**asdict(entry), "path": str(entry.path), "here": True}))
    elif entry.kind == "model":
        messages.print(f"Use it by its name: --model {name}")
    else:
        messages.print("Line for [init] in a recipe:")
        say(f"{entry.kind} = {json.dumps(str(entry.path), ensure_ascii=False)}")
    return 0


def _convert(entry: Released, released: Path, target: Path, downloaded: Callable[[], None]) -> None:
    """Makes the file to use, and checks it."""
    from hoiclip.checkpoint.fetch import convert_clip
    from hoiclip.core.model_file import load_model_file

    downloaded()  # two live displays cannot share a terminal
    if entry.kind == "clip":
        convert_clip(released, target)
        return
    origin = {"released": entry.name, "address": entry.address, "licence": entry.licence, "split": entry.split}
    _import(released, target, entry.labels, origin)
    _verify(load_model_file(target))


def verify(name: str) -> int:
    """Checks a model file: every tensor exists with its shape and is finite, and so is an inference."""
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.models import find_model

    model = load_model_file(find_model(name))
    _verify(model)
    messages.print(f"{model.path} is whole: {model.vocabulary.name}, sha256 {model.sha256()}")
    return 0


def _verify(model: ModelFile) -> None:
    module = model.build()
    import torch

    clip = model.config.clip_image_px
    with torch.inference_mode():
        out = module(torch.zeros(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool), torch.zeros(1, 3, clip, clip))
    if not all(bool(torch.isfinite(value).all()) for value in out):
        raise ModelError(f"{model.path} gives results that are not finite for a grey image; import or train it again")
