"""hoiclip vocab: names and prompts of a vocabulary, and text embeddings of its prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.torch_extra import require_torch
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, results, say, table, working
from hoiclip_engine.cli.distinct_files import require_distinct

if TYPE_CHECKING:
    from hoiclip.core.vocabulary import Vocabulary


EXAMPLES = """\
  hoiclip vocab show hico
  hoiclip vocab show drawn --json > mine.json             a form to fill in
  hoiclip vocab new words.txt -o mine.json                one interaction a line, such as: carry box
  hoiclip vocab build mine.json -o embeddings.safetensors
  hoiclip run clip.mp4 --model hico.safetensors --vocabulary embeddings.safetensors
"""
_NAME = "hico|vcoco|FILE.json|MODEL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=options.Parser)
    show = actions.add_parser("show", help="interactions and prompts of a vocabulary")
    show.add_argument("name", metavar=_NAME)
    options.add_json(show)
    options.add_log(show)
    new = actions.add_parser("new", help="a vocabulary of a list of interactions")
    new.add_argument("words", type=Path, metavar="WORDS.txt", help="a verb and an object a line, such as: carry box")
    new.add_argument("-o", "--output", type=Path, required=True, metavar="V.json")
    options.add_log(new)
    build = actions.add_parser("build", help="text embeddings of its prompts, by CLIP's text tower")
    build.add_argument("name", metavar=_NAME)
    build.add_argument("-o", "--output", type=Path, required=True, metavar="ROWS.safetensors")
    build.add_argument("--clip", default="ViT-B-32-quickgelu", metavar="NAME", help="open_clip's model name")
    build.add_argument(
        "--weights", default="openai", metavar="FILE|TAG", help="local CLIP weights, or a tag that open_clip downloads"
    )
    options.add_log(build)


def run(args: argparse.Namespace) -> int:
    if args.action == "show":
        return show(args.name, args.json)
    if args.action == "new":
        return new(args.words, args.output)
    return build(args.name, args.output, args.clip, args.weights)


def vocabulary_file(name: str) -> Path | None:
    """The file that find_vocabulary reads; None for a bundled vocabulary."""
    from hoiclip.core.vocabulary import VOCABULARIES

    if name in VOCABULARIES or name.endswith(".json"):
        return None if name in VOCABULARIES else Path(name)
    from hoiclip_engine.models import find_model

    return find_model(name)


def find_vocabulary(name: str) -> Vocabulary:
    """A bundled vocabulary by name, a JSON file of the same form, or the vocabulary of a model.

    Raises:
        ModelError: none of these.
    """
    from hoiclip.core.vocabulary import VOCABULARIES, load_vocabulary

    if name in VOCABULARIES or name.endswith(".json"):
        return load_vocabulary(name)
    from hoiclip.core.model_file import load_model_file
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
    messages.print(f"{vocabulary.name}: {_sizes(vocabulary)}")
    return 0


def new(words: Path, target: Path) -> int:
    """Writes the vocabulary of a list of interactions, to be used as it is or to be edited."""
    from hoiclip.core.atomic_write import write_file
    from hoiclip.core.foreign_file import read_text
    from hoiclip.core.vocabulary import vocabulary_from_words

    if target.suffix != ".json":
        raise UsageError(f"a vocabulary is written as .json, got {target}")
    require_distinct([words], [target])
    try:
        text = read_text(words)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read {words} ({why}); expected a text file, one interaction a line") from error
    try:
        vocabulary = vocabulary_from_words(target.stem, text.splitlines())
    except UsageError as error:
        raise UsageError(f"{words}: {error}") from error
    write_file(target, json.dumps(json.loads(vocabulary.to_json()), indent=1, ensure_ascii=False) + "\n")
    messages.print(f"Wrote {target}: {_sizes(vocabulary)}")
    return 0


def _sizes(vocabulary: Vocabulary) -> str:
    return f"{len(vocabulary.objects)} objects, {len(vocabulary.verbs)} verbs, {len(vocabulary.hois)} interactions"


def build(name: str, target: Path, clip: str, weights: str) -> int:
    """Prompts of a vocabulary to unit text embeddings in a .safetensors file.

    Args:
        clip: open_clip's model name, used with a download.
        weights: a local CLIP state dict, or a name open_clip downloads.
    """
    from hoiclip.core.atomic_write import atomic_write

    require_torch("making text embeddings", "open_clip")
    from safetensors.numpy import save_file

    from hoiclip.checkpoint.text_embeddings import load_tower, unit_text_embeddings

    require_distinct([vocabulary_file(name), weights], [target])
    vocabulary = find_vocabulary(name)
    if target.suffix != ".safetensors":
        raise UsageError(f"text embeddings are written as .safetensors, got {target}")
    with working(f"Encoding {len(vocabulary.hoi_prompts)} prompts"):
        tower = load_tower(clip, weights)
        embeddings = {name: unit_text_embeddings(texts, tower) for name, texts in vocabulary.prompts_by_tensor.items()}
    metadata = {"vocabulary": vocabulary.to_json(), "weights": Path(weights).name}
    try:
        with atomic_write(target) as temporary:
            save_file(embeddings, temporary, metadata=metadata)
    except Exception as error:
        raise SinkError(f"cannot write {target} ({error}); choose a folder that exists and is writable") from error
    shapes = ", ".join(f"{key} {value.shape[0]} × {value.shape[1]}" for key, value in embeddings.items())
    messages.print(f"Wrote {target}: {shapes}")
    return 0
