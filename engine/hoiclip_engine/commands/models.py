"""hoiclip models: which there are, what is in one, making one from an official checkpoint, checking one."""

from __future__ import annotations

import json
import time
from pathlib import Path

from hoiclip.checkpoint.model_file import ModelFile, file_sha256, load_model_file, save_model_file
from hoiclip.errors import ModelError, UsageError
from hoiclip.torch_extra import require_torch
from hoiclip_engine.commands.console import messages, results, say, table, working
from hoiclip_engine.commands.distinct_files import require_distinct
from hoiclip_engine.models import SUFFIX, find_model, known_models, model_folders


def list_models() -> int:
    """Names that --model understands."""
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
    """Header of one model file."""
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
    """An official .pth into a model file; nothing is written if anything is wrong."""
    require_torch("importing a checkpoint", "open_clip")
    from hoiclip.checkpoint.official import import_checkpoint

    if target.suffix != SUFFIX:
        raise UsageError(f"a model file ends in {SUFFIX}, got {target}")
    require_distinct([checkpoint], [target])
    with working(f"Reading {checkpoint} and making its text rows"):
        imported = import_checkpoint(checkpoint, labels)
        provenance = {
            "kind": "imported",
            "from": checkpoint.name,
            "from_sha256": file_sha256(checkpoint),
            "epoch": imported.epoch,
            "zero_shot": imported.zero_shot,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "dropped": len(imported.dropped),
        }
        save_model_file(target, imported.state, imported.config, imported.vocabulary, provenance)
    groups: dict[str, int] = {}
    for key in imported.dropped:
        group = ".".join(part for part in key.split(".")[:2] if not part.isdigit())
        groups[group] = groups.get(group, 0) + 1
    messages.print(table("Dropped: never influences a prediction", ("group", "tensors"), sorted(groups.items())))
    kind = "zero-shot" if imported.zero_shot else "default"
    messages.print(f"Wrote {target}: {imported.vocabulary.name}, {kind}, {len(imported.state)} tensors.")
    return 0


def verify(name: str) -> int:
    """Whether a model file is whole: every tensor there, well shaped and finite, and a look gives finite results."""
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
        raise ModelError(f"{model.path} gives results that are not finite for a grey picture; import or train it again")
