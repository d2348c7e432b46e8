"""Vocabularies: names and prompts of objects, verbs and the HOIs that combine them.

Plain data without torch, so that the runtime can use it where no torch is installed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hoiclip.core.errors import ModelError
from hoiclip.core.foreign_file import read_json
from hoiclip.core.untrusted_values import whole

NO_OBJECT = -1
"""Object index of a person acting without an object (V-COCO)."""

PERSON = "person"

NO_INTERACTION = "no_interaction"
"""HICO's verb for a person and an object that have nothing to do with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Objects, verbs and human-object interactions (HOIs) with the prompts of their text embeddings.

    Object prompts are one more than `objects`: V-COCO has "a person only", and every vocabulary ends with "nothing".
    """

    name: str
    objects: tuple[str, ...]
    verbs: tuple[str, ...]
    hois: tuple[tuple[int, int], ...]
    """(verb index, object index) per HOI class; object index `len(objects)` means no object."""
    hoi_prompts: tuple[str, ...]
    object_prompts: tuple[str, ...]
    verb_prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.objects and self.verbs and self.hois):
            raise ModelError(f"vocabulary {self.name!r} needs at least one object, verb and HOI")
        if len(self.hoi_prompts) != len(self.hois) or len(self.verb_prompts) != len(self.verbs):
            raise ModelError(
                f"vocabulary {self.name!r} needs one prompt per HOI and verb, found {len(self.hoi_prompts)} for "
                f"{len(self.hois)} HOIs and {len(self.verb_prompts)} for {len(self.verbs)} verbs"
            )
        if len(self.object_prompts) - len(self.objects) not in (1, 2):
            raise ModelError(
                f"vocabulary {self.name!r} needs one or two more object prompts than objects (the last is 'nothing'), "
                f"found {len(self.object_prompts)} for {len(self.objects)}"
            )
        for verb, obj in self.hois:
            if not (0 <= verb < len(self.verbs) and 0 <= obj < self.num_object_classes):
                raise ModelError(f"vocabulary {self.name!r} has HOI ({verb}, {obj}) outside its verbs and objects")

    @property
    def num_object_classes(self) -> int:
        """Object logits without the last one ("nothing"): 80 for HICO, 81 for V-COCO."""
        return len(self.object_prompts) - 1

    @property
    def has_no_object_class(self) -> bool:
        """Whether a person can act without an object, as in V-COCO."""
        return self.num_object_classes > len(self.objects)

    @property
    def person(self) -> int:
        """Object index of humans; -1 where the vocabulary has no person."""
        return self.objects.index(PERSON) if PERSON in self.objects else -1

    @property
    def prompts_by_tensor(self) -> dict[str, tuple[str, ...]]:
        """The prompts behind each tensor of text embeddings, by the names these have in files and models."""
        return {"hoi_rows": self.hoi_prompts, "object_rows": self.object_prompts, "verb_rows": self.verb_prompts}

    def object_name(self, index: int) -> str:
        """Readable name; the empty string for no object."""
        return self.objects[index].replace("_", " ") if 0 <= index < len(self.objects) else ""

    def verb_name(self, index: int) -> str:
        """Readable name."""
        return self.verbs[index].replace("_", " ")

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Vocabulary:
        """Checks names and types.

        Raises:
            ModelError: a field is missing or has another form.
        """
        try:
            return Vocabulary(
                name=_texts([data["name"]])[0],
                objects=_texts(data["objects"]),
                verbs=_texts(data["verbs"]),
                hois=tuple((whole(v, "a verb"), whole(o, "an object")) for v, o in data["hois"]),
                hoi_prompts=_texts(data["hoi_prompts"]),
                object_prompts=_texts(data["object_prompts"]),
                verb_prompts=_texts(data["verb_prompts"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"vocabulary is not of the expected form: {type(error).__name__}: {error}") from error


def _texts(values: object) -> tuple[str, ...]:
    """Printable texts: names end up in files and terminals, so control characters and broken Unicode are refused."""
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"expected a list of texts, found {type(values).__name__}")
    for value in values:
        if not (isinstance(value, str) and value.isprintable()):
            raise ValueError(f"expected a printable text, found {value!r:.60}")
    return tuple(values)


OWN_VOCABULARY = "vocabulary.json"
"""A dataset of other labels brings them along under this name."""
VOCABULARIES = ("hico", "vcoco")


def load_vocabulary(name: str) -> Vocabulary:
    """One of the bundled vocabularies, "hico" or "vcoco", or your own by its file, NAME.json.

    Raises:
        ModelError: there is no such vocabulary, or the file is none.
    """
    if name.endswith(".json"):
        try:
            data = read_json(Path(name))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ModelError(f"{name} is no vocabulary JSON ({why}); see hoiclip vocab show hico --json") from error
        return Vocabulary.from_dict(data)
    if name not in VOCABULARIES:
        raise ModelError(f"unknown vocabulary {name!r}; there are {', '.join(VOCABULARIES)}")
    text = resources.files("hoiclip").joinpath(f"vocabularies/{name}.json").read_text(encoding="utf-8")
    return Vocabulary.from_dict(json.loads(text))
