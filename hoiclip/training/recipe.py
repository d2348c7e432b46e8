"""Training recipes: a small TOML file with everything that changes a weight of one run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from hoiclip.core.errors import UsageError
from hoiclip.core.foreign_file import read_text
from hoiclip.model.config import ModelConfig
from hoiclip.synthetic.vocabulary import named_vocabulary
from hoiclip.training.initial_weights import initial_model
from hoiclip.training.losses import LossConfig
from hoiclip.training.optimization import Schedule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""auto: bf16 where the device computes in it, fp32 elsewhere: emulated, it takes nine times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Training images, and the evaluation images during training."""

    kind: Literal["synthetic", "images"] = "synthetic"
    """synthetic: scenes made on the fly; images: annotated image files."""
    split: str = "default"
    """default, or the name of a zero-shot split: its unseen HOIs are taken out of training."""
    frequencies: Literal["long_tail", "equal"] = "long_tail"
    """synthetic: how often each HOI occurs: with a long tail as in real images, or all equally often."""
    video_fraction: float = 0.0
    """synthetic: fraction of the images that are frames of videos."""
    optics: bool = False
    """synthetic: light, blur, noise and compression of cameras."""
    fraction: int = 100
    """Percent of the training images; synthetic at 100: every scene is new."""
    annotations: str = ""
    """images: HOI-A JSON."""
    images: str = ""
    """images: folder of the image files."""
    test_annotations: str = ""
    """images: HOI-A JSON of the evaluation images; empty: no evaluation during training."""
    test_images: str = ""
    validation: int = 0
    """images: percent of the annotated images that are kept apart to evaluate on, in place of test_annotations."""
    flip: float = 0.5
    """images: probability of left for right."""
    jitter: float = 0.4
    """images: brightness, contrast and saturation are multiplied by a number this far from 1 at most."""
    crop: float = 0.5
    """images: probability of a crop."""
    vocabulary: str = "drawn"
    """drawn, hico, vcoco, or the file of your own (hoiclip vocab show drawn --json shows the form)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with decoupled weight decay."""

    lr: float = 1e-4
    backbone_lr: float = 1e-5
    rates: dict[str, float] = field(default_factory=dict)
    """Factors on the learning rate by the beginnings of parameter names, such as "encoder."; the longest that fits
    counts, 0 freezes."""
    weight_decay: float = 1e-4
    clip_norm: float = 0.1
    """Global norm of all gradients; 0 leaves them as they are."""
    batch_size: int = 8
    """Images of one forward pass on one device."""
    accumulate: int = 1
    """Forward passes of one optimiser step."""
    precision: Precision = "fp32"
    ema: float = 0.0
    """Decay of the EMA model that is evaluated and saved; 0: the latest weights."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.batch_size, self.accumulate) < 1:
            raise ValueError(f"batch_size and accumulate must be at least 1, got {self.batch_size}, {self.accumulate}")
        if min(self.lr, self.backbone_lr, self.weight_decay, self.clip_norm, *self.rates.values()) < 0:
            raise ValueError("lr, backbone_lr, weight_decay, clip_norm and rates must be at least 0")
        if not (0 <= self.ema < 1 and 0 <= self.dropout < 1):
            raise ValueError(f"ema and dropout must be in [0, 1), got {self.ema} and {self.dropout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryConfig:
    """Auxiliary queries, heads and norms that the finished model does not have. Official recipes use none."""

    query_groups: int = 1
    dense_heads: bool = False
    batch_norm: bool = False
    """Learn batch norm: for a backbone from scratch."""
    text_rank: int = 0
    """Rank of a change of the HOI classifier's text embeddings that all HOIs share: what it learns from seen HOIs holds
    for unseen ones. The finished model has it in its classifier. 0: none."""

    def __post_init__(self) -> None:
        if self.query_groups < 1 or self.text_rank < 0:
            raise ValueError(
                f"query_groups must be at least 1, text_rank at least 0, got {self.query_groups} and {self.text_rank}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """Initial weights, and those among them that stay frozen."""

    model: str = ""
    """A model file, or the name of a bundled or fetched one, all of whose tensors are taken; other sources are ignored.
    With another vocabulary, classifiers begin with the rows of known words and text embeddings of new ones. What
    [model] does not set is as in the file."""
    share: float = 0.0
    """Weight of the initial model in the evaluated and finished one, which is the mean of start and end: where both are
    good and near each other, better than either (Wortsman et al., 2022, arXiv 2109.01903). For `model` alone."""
    embeddings: str = ""
    """File of the vocabulary's text embeddings (hoiclip vocab build), where it has words that `model` does not know."""
    clip: str = ""
    """A model file whose image tower and text embeddings are taken; empty: random."""
    detr: str = ""
    """DETR-R50 weights for backbone, encoder and instance decoder."""
    detector: str = ""
    """A model trained here whose backbone, encoder, instance decoder and box heads are taken; its classes are not."""
    freeze_clip: bool = True
    freeze_backbone_start: bool = True
    text_embeddings: bool = True
    """Initialise the classifiers with text embeddings."""
    classifier_bias: float = 0.0
    """Of all HOI classifiers, frozen with CLIP; below zero: most HOIs are absent."""
    verb_embeddings: bool = True
    """Initialise the verb classifier by visual semantic arithmetic over the training data."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"init.share must be at least 0 and below 1, got {self.share}")
        if self.share and not self.model:
            raise ValueError(f"init.share is the weight of init.model, which is not given; got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run."""

    name: str
    task: Literal["hoi", "clip"] = "hoi"
    """hoi: HOICLIP; clip: the small CLIP whose image encoder it contains, from scratch."""
    seed: int = 0
    model: ModelConfig
    schedule: Schedule
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    init: InitConfig = field(default_factory=InitConfig)
    evaluate_every: int = 0
    """Optimiser steps between evaluations; 0: only at the end."""
    save_every: int = 200
    """Optimiser steps between checkpoints."""
    half_file: bool = False
    """Write the finished model in fp16: half the size; it is read as fp32 again."""

    def __post_init__(self) -> None:
        if self.seed < 0 or self.evaluate_every < 0 or self.save_every < 1:
            raise ValueError("seed and evaluate_every must be at least 0, save_every at least 1")
        if self.schedule.patience and not self.evaluate_every:
            raise ValueError("patience counts evaluations; set evaluate_every to the steps between them")
        if self.task == "clip" and self.data.kind != "synthetic":
            raise ValueError(
                "the small CLIP learns from synthetic scenes only; for images name a CLIP's weights as init.clip"
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


BUNDLED = Path(__file__).resolve().parents[1] / "recipes"

_SECTIONS: dict[str, type[Any]] = {
    "schedule": Schedule,
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "losses": LossConfig,
    "auxiliary": AuxiliaryConfig,
    "init": InitConfig,
}
_RENAMED_SECTIONS = {"start": "init", "aids": "auxiliary"}
_RENAMED_KEYS = {
    ("init", "text_rows"): "text_embeddings",
    ("init", "verb_rows"): "verb_embeddings",
}
_RENAMED_VALUES = {("data", "kind"): {"drawn": "synthetic", "pictures": "images"}}
"""Names in older recipes, and the current ones."""
T = TypeVar("T")


def read_recipe(path: Path, **overrides: Any) -> Recipe:
    """A recipe file, with top-level or "section.field" values replaced.

    A recipe with `extends = "other.toml"` holds only the differences. A name without a folder that is no file is
    looked up among the bundled recipes, that of `path` too.

    Raises:
        UsageError: no such file, no TOML, an unknown name, or a value that makes no sense.
    """
    data = _read(_or_bundled(path, str(path)))
    for key, value in overrides.items():
        section, _, name = key.rpartition(".")
        (data.setdefault(section, {}) if section else data)[name] = value
    data.setdefault("name", path.stem)
    return recipe_from_dict(data, str(path))


def _or_bundled(path: Path, name: str) -> Path:
    """The bundled recipe of a name without a folder, unless there is such a file here."""
    bundled = BUNDLED / name
    return bundled if Path(name).name == name and not path.exists() and bundled.is_file() else path


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    try:
        data: dict[str, Any] = tomllib.loads(read_text(path))
    except OSError as error:
        names = ", ".join(sorted(recipe.name for recipe in BUNDLED.glob("*.toml")))
        raise UsageError(f"there is no recipe {path} ({error.strerror}); bundled are {names}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no recipe in TOML: {error}") from error
    base = data.pop("extends", None)
    if base is None:
        return data
    if depth > 3 or not isinstance(base, str):
        raise UsageError(f"{path} extends {base!r}, expected the name of a recipe file that does not lead back here")
    merged = _read(_or_bundled(path.parent / base, base), depth + 1)
    for key, value in data.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if nested else value
    return merged


def recipe_from_dict(data: dict[str, Any], where: str) -> Recipe:
    """Checks names and values; see read_recipe."""
    _refuse_old_names(data, where)
    try:
        sections = {name: _section(kind, data[name], name) for name, kind in _SECTIONS.items() if name in data}
        plain = {key: value for key, value in data.items() if key not in _SECTIONS and key != "model"}
        return _section(Recipe, {**plain, **sections, "model": _model_config(data, sections)}, "the recipe")
    except KeyError as error:
        raise UsageError(f"{where} has no section [{error.args[0]}]") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


def _model_config(data: Mapping[str, Any], sections: Mapping[str, Any]) -> ModelConfig:
    """The [model] section, filled up from the initial model and the vocabulary where the recipe names a model."""
    init, values = sections.get("init", InitConfig()), data.get("model")
    if not init.model or "num_hois" in (values or {}):
        return ModelConfig.from_dict(data["model"])
    vocabulary = named_vocabulary(sections.get("data", DataConfig()).vocabulary)
    counts = {
        "num_object_classes": vocabulary.num_object_classes,
        "num_verbs": len(vocabulary.verbs),
        "num_hois": len(vocabulary.hois),
    }
    return ModelConfig.from_dict({**initial_model(init.model).config.to_dict(), **counts, **(values or {})})


def with_current_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a dict, as an older version wrote it into a checkpoint, under the names of this version."""
    current = {_RENAMED_SECTIONS.get(name, name): value for name, value in data.items()}
    for section, values in current.items():
        if isinstance(values, dict):
            current[section] = {
                _RENAMED_KEYS.get((section, key), key): _RENAMED_VALUES.get((section, key), {}).get(value, value)
                if isinstance(value, str)
                else value
                for key, value in values.items()
            }
    return current


def _refuse_old_names(data: Mapping[str, Any], where: str) -> None:
    """Raises UsageError for a section, key or value that has another name now."""
    for old, new in _RENAMED_SECTIONS.items():
        if old in data:
            raise UsageError(f"{where}: [{old}] is called [{new}] now; rename it")
    for (section, old), new in _RENAMED_KEYS.items():
        if old in _table(data, section):
            raise UsageError(f"{where}: {section}.{old} is called {section}.{new} now; rename it")
    for (section, key), renamed in _RENAMED_VALUES.items():
        value = _table(data, section).get(key)
        if isinstance(value, str) and value in renamed:
            raise UsageError(f'{where}: {section}.{key} "{value}" is called "{renamed[value]}" now; rename it')


def _table(data: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """A section of the recipe; empty where the name is of something else."""
    values = data.get(section)
    return values if isinstance(values, dict) else {}


def _section(kind: type[T], values: dict[str, Any], name: str) -> T:
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{name} has no {', '.join(unknown)}; there are {', '.join(known)}")
    hints = get_type_hints(kind)
    for key, value in values.items():
        _check_type(f"{name}.{key}", value, hints[key])
    return kind(**values)


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Raises ValueError for a value of another type than the field has; sections are checked by themselves."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} must be one of {', '.join(get_args(hint))}, got {value!r}")
    elif get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a table of numbers, got {value!r}")
        for key, number in value.items():
            _check_type(f"{name}.{key}", number, float)
    elif hint in _ACCEPTED and (
        isinstance(value, bool) is not (hint is bool) or not isinstance(value, _ACCEPTED[hint])
    ):
        raise ValueError(f"{name} must be {_TYPE_NAMES[hint]}, got {value!r}")


_ACCEPTED: dict[Any, tuple[type[Any], ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
