"""hoiclip vocab: the names a model speaks, and text rows for prompts."""

from __future__ import annotations

from pathlib import Path

from hoiclip.errors import SinkError, UsageError
from hoiclip.torch_extra import require_torch
from hoiclip.vocabulary import VOCABULARIES, Vocabulary, load_vocabulary
from hoiclip_engine.commands.console import messages, results, say, table, working
from hoiclip_engine.commands.distinct_files import require_distinct


def vocabulary_file(name: str) -> Path | None:
    """The file that find_vocabulary reads; None: a bundled vocabulary, or none at all."""
    if name in VOCABULARIES or name.endswith(".json"):
        return None if name in VOCABULARIES else Path(name)
    from hoiclip_engine.models import find_model

    return find_model(name)


def find_vocabulary(name: str) -> Vocabulary:
    """A bundled one by name, a JSON file of the same form, or the one inside a model.

    Raises:
        ModelError: none of these.
    """
    if name in VOCABULARIES or name.endswith(".json"):
        return load_vocabulary(name)
    from hoiclip.checkpoint.model_file import load_model_file
    from hoiclip_engine.models import find_model

    return load_model_file(find_model(name)).vocabulary


def show(name: str, as_json: bool) -> int:
    """All HOIs with their prompts."""
    vocabulary = find_vocabulary(name)
    if as_json:
        say(vocabulary.to_json())
        return 0
    rows = [
        (index, vocabulary.verb_name(verb), vocabulary.object_name(obj) or "-", prompt)
        for index, ((verb, obj), prompt) in enumerate(zip(vocabulary.hois, vocabulary.hoi_prompts, strict=True))
    ]
    results.print(table("", ("hoi", "verb", "object", "prompt"), rows))
    messages.print(
        f"{vocabulary.name}: {len(vocabulary.objects)} objects, {len(vocabulary.verbs)} verbs, "
        f"{len(vocabulary.hois)} interactions"
    )
    return 0


def build(name: str, target: Path, clip: str, weights: str) -> int:
    """Prompts of a vocabulary to unit text rows in a .safetensors file.

    Args:
        clip: open_clip's model name, used with a download.
        weights: a local CLIP state dict, or a name open_clip downloads.
    """
    require_torch("making text rows", "open_clip")
    from safetensors.numpy import save_file

    from hoiclip.text import load_tower, text_rows

    require_distinct([vocabulary_file(name), weights], [target])
    vocabulary = find_vocabulary(name)
    if target.suffix != ".safetensors":
        raise UsageError(f"text rows are written as .safetensors, got {target}")
    with working(f"Encoding {len(vocabulary.hoi_prompts)} prompts"):
        tower = load_tower(clip, weights)
        rows = {name: text_rows(texts, tower) for name, texts in vocabulary.prompts_by_rows.items()}
    part = target.with_name(f".{target.name}.part")
    try:
        save_file(rows, part, metadata={"vocabulary": vocabulary.to_json(), "weights": Path(weights).name})
        part.replace(target)
    except Exception as error:
        part.unlink(missing_ok=True)
        raise SinkError(f"cannot write {target} ({error}); choose a folder that exists and is writable") from error
    shapes = ", ".join(f"{key} {value.shape[0]} × {value.shape[1]}" for key, value in rows.items())
    messages.print(f"Wrote {target}: {shapes}")
    return 0
