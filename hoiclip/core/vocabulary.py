"""Vocabularies: names and prompts of objects, verbs and the HOIs that combine them.

Plain data without torch, so that the runtime can use it where no torch is installed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from hoiclip.core.errors import ModelError, UsageError
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
    def named_hois(self) -> tuple[tuple[str, str], ...]:
        """Names of verb and object per HOI class; of no object the empty name."""
        objects = (*self.objects, "")
        return tuple((self.verbs[verb], objects[obj]) for verb, obj in self.hois)

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
    return _bundled(name)


@cache
def _bundled(name: str) -> Vocabulary:
    text = resources.files("hoiclip").joinpath(f"vocabularies/{name}.json").read_text(encoding="utf-8")
    return Vocabulary.from_dict(json.loads(text))


def vocabulary_from_words(name: str, lines: Iterable[str]) -> Vocabulary:
    """A vocabulary of one interaction a line: a verb and an object, or a verb alone of people who act without one.

    The last word is the object ("sit on bench"), two of them if HICO-DET knows these ("eat hot dog"); an underscore
    joins others ("push hand_cart"). Prompts of interactions that HICO-DET has are its own. Empty lines, comments (#)
    and repeated lines count for nothing.

    Raises:
        UsageError: a line is no such words, or there is none.
    """
    pairs: dict[tuple[str, str], None] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split("#", 1)[0].lower().split()
        if words:
            pairs[_verb_and_object(words, number)] = None
    if not pairs:
        raise UsageError('expected interactions such as "carry box", one a line, found none')
    hico = load_vocabulary("hico")
    verbs = tuple(sorted({verb for verb, _ in pairs}))
    objects = tuple(dict.fromkeys((PERSON, *sorted({obj for _, obj in pairs if obj}))))
    alone = ("a photo of a person only",) if any(not obj for _, obj in pairs) else ()
    indexed = {**{obj: index for index, obj in enumerate(objects)}, "": len(objects)}
    known, objects_known = _hico_prompts(), dict(zip(hico.objects, hico.object_prompts, strict=False))
    return Vocabulary(
        name=name,
        objects=objects,
        verbs=verbs,
        hois=tuple((verbs.index(verb), indexed[obj]) for verb, obj in pairs),
        hoi_prompts=tuple(known.get(pair) or _hoi_prompt(*pair) for pair in pairs),
        object_prompts=(
            *(objects_known.get(obj) or f"a photo of {_with_article(obj)}" for obj in objects),
            *alone,
            hico.object_prompts[-1],
        ),
        verb_prompts=tuple(_person_doing(verb) for verb in verbs),
    )


_WORD = re.compile(r"[^\W\d_](?:[\w'-]{0,38}[^\W_])?")


def _verb_and_object(words: list[str], number: int) -> tuple[str, str]:
    """Names of the verb and the object of a line; of no object the empty name."""
    if wrong := [word for word in words if not _WORD.fullmatch(word)]:
        raise UsageError(f"line {number}: expected words of at most 40 letters, found {wrong[0]!r:.60}")
    objects = load_vocabulary("hico").objects
    size = min(len(words) - 1, 2 if "_".join(words[-2:]) in objects and len(words) > 2 else 1)
    cut = len(words) - size
    return "_".join(words[:cut]), "_".join(words[cut:])


@cache
def _hico_prompts() -> Mapping[tuple[str, str], str]:
    """Prompts of HICO-DET's interactions by the names of verb and object."""
    hico = load_vocabulary("hico")
    return dict(zip(hico.named_hois, hico.hoi_prompts, strict=True))


@cache
def _hico_gerunds() -> Mapping[str, str]:
    """First words of HICO-DET's verbs to their form in prompts: "sit" to "sitting"."""
    hico = load_vocabulary("hico")
    forms = (prompt.removeprefix("a photo of a person ").split()[0] for prompt in hico.verb_prompts)
    return {verb.split("_")[0]: form for verb, form in zip(hico.verbs, forms, strict=True) if verb != NO_INTERACTION}


def _hoi_prompt(verb: str, obj: str) -> str:
    joint = " and" if verb == NO_INTERACTION else ""
    return f"{_person_doing(verb)}{joint} {_with_article(obj)}" if obj else _person_doing(verb)


def _person_doing(verb: str) -> str:
    person = "a photo of a person"
    return person if verb == NO_INTERACTION else f"{person} {_gerund(verb)}"


def _with_article(name: str) -> str:
    text = name.replace("_", " ")
    return f"{'an' if re.match(r'(?!uni|use|eu|one)[aeiou]|hour|honest', text) else 'a'} {text}"


def _gerund(verb: str) -> str:
    """ "push" to "pushing"; of several words the first changes."""
    first, *rest = verb.split("_")
    form = _hico_gerunds().get(first)
    if form is None and first.endswith("ie"):
        form = f"{first[:-2]}ying"
    elif form is None and re.fullmatch(r".*[^aeoy]e", first):
        form = f"{first[:-1]}ing"
    elif form is None and re.fullmatch(r"[^aeiou]*[aeiou][bdglmnprt]", first):
        form = f"{first}{first[-1]}ing"  # one short syllable: "mop" to "mopping"
    return " ".join((form or f"{first}ing", *rest))
