"""A model file with other words: the same model whose classifiers know another vocabulary, without training.

Words that the model knows keep their learned rows. A new one gets the text embedding of its prompt, as in the official
zero-shot evaluation (docs/model.md, Classifiers), and the mean bias. A new verb has no row of its own in the verb
classifier, so that its interactions are judged by their own rows alone. The model's other objects stay, without
interactions: an object probability means something only beside those of the objects that it could be confused with.
Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from hoiclip.core.array_types import F32
from hoiclip.core.cache_dirs import cache_folder
from hoiclip.core.errors import HoiclipError, ModelError, SinkError
from hoiclip.core.foreign_file import parse_json
from hoiclip.core.model_file import FittedTracking, ModelFile, load_model_file, save_model_file
from hoiclip.core.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from hoiclip.model.config import ModelConfig

Embed = Callable[[Sequence[str]], F32]
"""n prompts to unit text embeddings (n, E)."""
Tensors = dict[str, NDArray[Any]]
CLIP, CLIP_WEIGHTS, CLIP_EMBED = "ViT-B-32-quickgelu", "openai", 512
"""The CLIP of the official models, by open_clip's names, and the width of its embeddings."""
_SAME_TOWER = 0.98
"""Cosine from which two embeddings of a prompt come from one text tower: half precision costs less than 0.001."""
_FOLLOWS_TEXT = 0.5
"""Mean cosine of classifier rows and text embeddings from which new text embeddings may stand beside the rows: frozen
rows have 1, rows that never were text embeddings 0."""
_RULES = 2
"""Version of what is done here; part of the name of every file."""


def find_with_vocabulary(path: Path, vocabulary: str | Path) -> Path:
    """The file of a model with another vocabulary, made in the cache unless it is there.

    Args:
        path: a model file.
        vocabulary: "hico" or "vcoco", a vocabulary's .json, or the .safetensors that `hoiclip vocab build` made of it.

    Raises:
        ModelError: not a model, not a vocabulary, or text embeddings are missing or come from another text tower.
        SinkError: the cache cannot be written.
    """
    model = load_model_file(path)
    words, given = read_vocabulary(vocabulary)
    key = f"{_RULES} {model.sha256()} {words.sha256} {_digest(given)}"
    name = re.sub(r"[^\w-]+", "_", f"{model.name}-{words.name}")[:80]
    try:
        folder = cache_folder("vocabularies") / sha256(key.encode()).hexdigest()[:24]
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"cannot write the cache ({error}); set HOICLIP_CACHE to a folder that can be written"
        ) from error
    target = folder / f"{name}.safetensors"
    if not target.is_file():
        command = f"hoiclip vocab build {vocabulary} -o X.safetensors"
        advice = f"make text embeddings with its tower ({command}) and give that file"
        swap_vocabulary(model, words, embedder(model, given, advice)).save(target)
    return target


def read_vocabulary(source: str | Path) -> tuple[Vocabulary, Tensors]:
    """A vocabulary, and its text embeddings by prompt if the file has them."""
    if Path(source).suffix != ".safetensors":
        return load_vocabulary(str(source)), {}
    try:
        with safe_open(str(source), framework="numpy") as file:
            metadata = file.metadata() or {}
            words = Vocabulary.from_dict(parse_json(metadata["vocabulary"], finite=True))
            if set(file.keys()) != set(words.prompts_by_tensor):
                raise ValueError("other tensors")
            rows = {name: np.asarray(file.get_tensor(name), np.float32) for name in words.prompts_by_tensor}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"expected the text embeddings of a vocabulary in {source}, found something else ({error}); "
            "make them: hoiclip vocab build"
        ) from error
    prompts = words.prompts_by_tensor
    if any(rows[name].ndim != 2 or len(rows[name]) != len(texts) for name, texts in prompts.items()):
        raise ModelError(f"{source} has not one text embedding for each prompt; make it again: hoiclip vocab build")
    if not all(np.isfinite(row).all() for row in rows.values()):
        raise ModelError(f"{source} has text embeddings that are not finite; make it again: hoiclip vocab build")
    return words, {text: row for name, texts in prompts.items() for text, row in zip(texts, rows[name], strict=True)}


def _digest(rows: Tensors) -> str:
    digest = sha256()
    for text in sorted(rows):
        digest.update(text.encode() + b"\0" + np.ascontiguousarray(rows[text]).tobytes())
    return digest.hexdigest()


def embedder(model: ModelFile, given: Tensors, advice: str) -> Embed:
    """Text embeddings of prompts that a model does not know.

    Args:
        given: by prompt; where there are none, CLIP's text tower makes them.
        advice: what to do where it cannot.

    Raises:
        ModelError: the given ones come from another text tower than the model's.
    """
    _require_same_tower(model, given)

    def embed(prompts: Sequence[str]) -> F32:
        if given:
            return np.stack([given[prompt] for prompt in prompts])
        shown = ", ".join(repr(prompt) for prompt in prompts[:2]) + (", ..." if len(prompts) > 2 else "")
        if model.config.clip_embed != CLIP_EMBED:
            raise ModelError(f"{model.name} does not know {shown}, and its text tower is not CLIP's {CLIP}; {advice}")
        try:
            from hoiclip.checkpoint.text_embeddings import load_tower, unit_text_embeddings

            known, tower = model.vocabulary.hoi_prompts[:1], load_tower(CLIP, CLIP_WEIGHTS)
            _require_same_tower(model, dict(zip(known, unit_text_embeddings(known, tower), strict=True)))
            return unit_text_embeddings(prompts, tower)
        except (HoiclipError, ImportError) as error:
            raise ModelError(f"{model.name} does not know {shown}, and {error}; or {advice}") from error

    return embed


@dataclass(frozen=True, slots=True)
class SwappedModel:
    """What a model file is made of."""

    tensors: Tensors
    config: ModelConfig
    vocabulary: Vocabulary
    provenance: dict[str, Any]
    tracking: FittedTracking | None

    def save(self, path: Path) -> None:
        """Writes the model file; see save_model_file."""
        save_model_file(path, self.tensors, self.config, self.vocabulary, self.provenance, self.tracking)


def swap_vocabulary(model: ModelFile, words: Vocabulary, embed: Embed, *, only: bool = False) -> SwappedModel:
    """The same model with the interactions of other words.

    Args:
        embed: called with the prompts of what the model does not know, if there is any.
        only: without the model's other objects and verbs, for training, which teaches what else there is.

    Raises:
        ModelError: the embeddings come from another text tower, or the classifiers are not made of text embeddings.
    """
    tensors = model.tensors()
    places = _Places.of(words, model.vocabulary, tensors["heads.verb_to_hoi"], only=only)
    by_tensor = {"hoi_rows": places.hois, "object_rows": places.objects, "verb_rows": places.verbs}
    embedded = _embed_new(model, tensors, places.vocabulary, by_tensor, embed)
    for name, classifier in _CLASSIFIERS.items():
        weight, bias = tensors[f"{classifier}.weight"], tensors[f"{classifier}.bias"]
        tensors[f"{classifier}.weight"] = _gather(weight, by_tensor[name], embedded[name])
        tensors[f"{classifier}.bias"] = _gather(bias, by_tensor[name], bias.mean(dtype=np.float64))
    for name, place in by_tensor.items():
        tensors[name] = _gather(tensors[name], place, embedded[name])
    tensors["heads.verb_classifier.weight"] = _gather(tensors["heads.verb_classifier.weight"], places.verbs, 0)
    tensors["heads.verb_to_hoi"] = places.verb_to_hoi(tensors["heads.verb_to_hoi"])
    config = replace(
        model.config,
        num_object_classes=places.vocabulary.num_object_classes,
        num_verbs=len(places.vocabulary.verbs),
        num_hois=len(places.vocabulary.hois),
    )
    tracking = _tracking(model.tracking, places.vocabulary)
    return SwappedModel(tensors, config, places.vocabulary, _provenance(model, places), tracking)


_CLASSIFIERS = {"hoi_rows": "heads.hoi_classifier", "object_rows": "heads.object_classifier"}
"""Text embeddings, and the classifier that is made of them."""


@dataclass(frozen=True, slots=True)
class _Places:
    """A new vocabulary, and where each of its words is in the model's own: indices there, -1 for a new word."""

    vocabulary: Vocabulary
    hois: NDArray[np.int64]
    objects: NDArray[np.int64]
    """One more or two than there are objects, as in object_prompts."""
    verbs: NDArray[np.int64]

    @staticmethod
    def of(words: Vocabulary, own: Vocabulary, verb_to_hoi: NDArray[Any], *, only: bool) -> _Places:
        """The words, and unless `only` the model's other objects and the verbs that known HOIs refer to behind them."""
        own_hois = {hoi: index for index, hoi in enumerate(own.named_hois)}
        hois = np.array([own_hois.get(hoi, -1) for hoi in words.named_hois])
        referred = np.flatnonzero(verb_to_hoi[:, hois[hois >= 0]].any(axis=1))
        vocabulary = words if only else _joined(words, own, [own.verbs[verb] for verb in referred])
        own_objects, own_verbs = _object_words(own), list(own.verbs)
        objects = np.array([own_objects.index(w) if w in own_objects else -1 for w in _object_words(vocabulary)])
        verbs = np.array([own_verbs.index(verb) if verb in own_verbs else -1 for verb in vocabulary.verbs])
        return _Places(vocabulary, hois, objects, verbs)

    def verb_to_hoi(self, own: NDArray[Any]) -> NDArray[Any]:
        """(V, K): columns of known HOIs stay, whatever verbs they refer to; new ones are of their verb."""
        columns = np.zeros((len(self.verbs), len(self.hois)), own.dtype)
        for index, ((verb, _), place) in enumerate(zip(self.vocabulary.hois, self.hois, strict=True)):
            if place >= 0:
                columns[:, index] = np.where(self.verbs >= 0, own[self.verbs, place], 0)
            else:
                columns[verb, index] = 1
        return columns


def _joined(words: Vocabulary, own: Vocabulary, verbs: Sequence[str]) -> Vocabulary:
    """The words followed by the model's other objects, and by those of the given verbs that are missing."""
    objects = [index for index, name in enumerate(own.objects) if name not in words.objects]
    more_verbs = [verb for verb in verbs if verb not in words.verbs]
    alone = [v.object_prompts[-2] for v in (words, own) if v.has_no_object_class][:1]
    count = len(words.objects) + len(objects)
    return Vocabulary(
        name=words.name,
        objects=(*words.objects, *(own.objects[index] for index in objects)),
        verbs=(*words.verbs, *more_verbs),
        hois=tuple((verb, obj if obj < len(words.objects) else count) for verb, obj in words.hois),
        hoi_prompts=words.hoi_prompts,
        object_prompts=(
            *words.object_prompts[: len(words.objects)],
            *(own.object_prompts[index] for index in objects),
            *alone,
            words.object_prompts[-1],
        ),
        verb_prompts=(*words.verb_prompts, *(own.verb_prompts[own.verbs.index(verb)] for verb in more_verbs)),
    )


_ALONE, _NOTHING = "", "\0"
"""Object classes without a name: no object, and nothing at all."""


def _object_words(vocabulary: Vocabulary) -> list[str]:
    """A word for each object logit."""
    alone = [_ALONE] if vocabulary.has_no_object_class else []
    return [*vocabulary.objects, *alone, _NOTHING]


def _gather(rows: NDArray[Any], places: NDArray[np.int64], new: Any) -> NDArray[Any]:
    """The model's rows by place; for -1 the next of the new ones, or the same one for all."""
    gathered = rows[places]
    gathered[places < 0] = new
    return gathered


def _embed_new(
    model: ModelFile,
    tensors: Tensors,
    vocabulary: Vocabulary,
    places: Mapping[str, NDArray[np.int64]],
    embed: Embed,
) -> dict[str, F32]:
    """Unit text embeddings of the prompts of new words, (n, E) by text tensor; n may be 0."""
    prompts = vocabulary.prompts_by_tensor
    wanted = {name: [prompts[name][index] for index in np.flatnonzero(place < 0)] for name, place in places.items()}
    texts = list(dict.fromkeys(text for group in wanted.values() for text in group))
    if not texts:
        return {name: np.empty((0, model.config.clip_embed), np.float32) for name in places}
    _require_classifiers_of_text(model, tensors)
    width, rows = model.config.clip_embed, embed(texts)
    if rows.shape != (len(texts), width):
        raise ModelError(
            f"{model.name} has text embeddings of width {width}, those of {vocabulary.name} have {rows.shape[-1]}; "
            "make them with the text tower of the same CLIP"
        )
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(min=1e-12)
    by_text = dict(zip(texts, rows, strict=True))
    return {name: np.array([by_text[text] for text in group]).reshape(-1, width) for name, group in wanted.items()}


def _require_classifiers_of_text(model: ModelFile, tensors: Tensors) -> None:
    for name, classifier in _CLASSIFIERS.items():
        if _cosines(tensors[name], tensors[f"{classifier}.weight"]).mean() < _FOLLOWS_TEXT:
            raise ModelError(
                f"{model.name} has a classifier that is not made of text embeddings ({classifier}), so new words mean "
                "nothing to it; train it with [init] text_embeddings = true, or with the new words"
            )


def _require_same_tower(model: ModelFile, given: Tensors) -> None:
    """Checks embeddings by prompt against the model's own of the same prompts.

    Raises:
        ModelError: they come from another text tower.
    """
    own = model.text_embeddings() if given else {}
    shared = [prompt for prompt in given if prompt in own and given[prompt].shape == own[prompt].shape]
    if not shared:
        return
    if _cosines(np.array([own[p] for p in shared]), np.array([given[p] for p in shared])).min() < _SAME_TOWER:
        raise ModelError(
            f"{model.name} has another text embedding of {shared[0]!r}: it was made with another text tower; "
            "make the new ones with the CLIP that the model was made with"
        )


def _cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    a, b = a.astype(np.float32), b.astype(np.float32)
    cosines: NDArray[np.float32] = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)).clip(
        1e-12
    )
    return cosines


def _tracking(fitted: FittedTracking | None, vocabulary: Vocabulary) -> FittedTracking | None:
    """What was fitted, for other verbs: a new one gets the median."""
    if fitted is None:
        return None
    start, end = (float(np.median(scores)) for scores in zip(*fitted.verb_scores.values(), strict=True))
    scores = {verb: fitted.verb_scores.get(verb, (start, end)) for verb in vocabulary.verbs}
    return replace(fitted, verb_scores=scores)


def _provenance(model: ModelFile, places: _Places) -> dict[str, Any]:
    new, total = int((places.hois < 0).sum()), len(places.hois)
    notices = [model.notice] if model.notice else []
    if new:
        notices.append(f"{new} of {total} interactions are known by their words only, from no image")
    swapped = {"from": model.vocabulary.name, "sha256": model.sha256(), "new_hois": new}
    notice = {"notice": "; ".join(notices)} if notices else {}
    return {**model.provenance, **notice, "words": swapped}
