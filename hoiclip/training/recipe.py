"""What a training run is, as a small TOML file. One recipe, one run; everything that changes a weight is in it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from hoiclip.errors import UsageError
from hoiclip.foreign_file import read_text
from hoiclip.losses import LossConfig
from hoiclip.model.config import ModelConfig
from hoiclip.training.schedule import Schedule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""auto: bf16 where the device computes in it, fp32 elsewhere: emulated, it takes nine times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """What is learned from."""

    kind: Literal["drawn", "pictures"] = "drawn"
    """drawn: scenes made on the fly; pictures: annotated images."""
    split: str = "default"
    """default, or the name of a zero-shot split: its unseen HOIs are taken out of training."""
    frequencies: Literal["long_tail", "equal"] = "long_tail"
    """drawn: how often people do what: as in real images, or everything equally often."""
    video_fraction: float = 0.0
    """drawn: of the images that are frames of videos."""
    optics: bool = False
    """drawn: light, blur, noise and compression of cameras."""
    fraction: int = 100
    """Percent of the training pictures; drawn at 100: every scene is new."""
    annotations: str = ""
    """pictures: HOI-A JSON."""
    images: str = ""
    """pictures: folder of the image files."""
    test_annotations: str = ""
    """pictures: HOI-A JSON of what the model is measured on along the way; empty: nothing."""
    test_images: str = ""
    vocabulary: str = "drawn"
    """drawn, hico, vcoco, or the file of an own one (hoiclip vocab show drawn --json shows the form)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecipe:
    """AdamW with decoupled weight decay."""

    lr: float = 1e-4
    backbone_lr: float = 1e-5
    weight_decay: float = 1e-4
    clip_norm: float = 0.1
    """Global norm of all gradients; 0 leaves them as they are."""
    batch_size: int = 8
    """Pictures of one forward pass on one device."""
    accumulate: int = 1
    """Forward passes of one optimiser step."""
    precision: Precision = "fp32"
    ema: float = 0.0
    """Decay of the running model that is evaluated and saved; 0: the latest weights."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.batch_size, self.accumulate) < 1:
            raise ValueError(f"batch_size and accumulate must be at least 1, got {self.batch_size}, {self.accumulate}")
        if min(self.lr, self.backbone_lr, self.weight_decay, self.clip_norm) < 0:
            raise ValueError("lr, backbone_lr, weight_decay and clip_norm must be at least 0")
        if not (0 <= self.ema < 1 and 0 <= self.dropout < 1):
            raise ValueError(f"ema and dropout must be in [0, 1), got {self.ema} and {self.dropout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AidsRecipe:
    """Helps that are left out of the finished model. Official recipes use none."""

    query_groups: int = 1
    dense_heads: bool = False
    batch_norm: bool = False
    """Learn batch norm: for a backbone from scratch."""

    def __post_init__(self) -> None:
        if self.query_groups < 1:
            raise ValueError(f"query_groups must be at least 1, got {self.query_groups}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecipe:
    """What the weights start as, and what of them stays so."""

    model: str = ""
    """A model file, or the name of a bundled model, all of whose tensors are taken; what follows is not looked at."""
    clip: str = ""
    """A model file whose image tower and text rows are taken; empty: random."""
    detr: str = ""
    """DETR-R50 weights for backbone, encoder and instance decoder."""
    detector: str = ""
    """A model trained here whose backbone, encoder, instance decoder and box heads are taken; its classes are not."""
    freeze_clip: bool = True
    freeze_backbone_start: bool = True
    text_rows: bool = True
    """Start the classifiers from text rows."""
    classifier_bias: float = 0.0
    """Of all HOI classifiers, frozen with CLIP; below zero it says from the start that most HOIs are absent."""
    verb_rows: bool = True
    """Start the verb classifier from visual semantic arithmetic over the training data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run."""

    name: str
    task: Literal["hoi", "clip"] = "hoi"
    """hoi: HOICLIP; clip: the small CLIP it looks through, from scratch."""
    seed: int = 0
    model: ModelConfig
    schedule: Schedule
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    losses: LossConfig = field(default_factory=LossConfig)
    aids: AidsRecipe = field(default_factory=AidsRecipe)
    start: StartRecipe = field(default_factory=StartRecipe)
    evaluate_every: int = 0
    """Optimiser steps between evaluations; 0: only at the end."""
    save_every: int = 200
    """Optimiser steps between checkpoints."""
    half_file: bool = False
    """Write the finished model in fp16: half the size; it is read as fp32 again."""

    def __post_init__(self) -> None:
        if self.seed < 0 or self.evaluate_every < 0 or self.save_every < 1:
            raise ValueError("seed and evaluate_every must be at least 0, save_every at least 1")
        if self.task == "clip" and self.data.kind != "drawn":
            raise ValueError(
                "the small CLIP learns from drawn scenes only; for pictures name a CLIP's weights as start.clip"
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


BUNDLED = Path(__file__).resolve().parents[1] / "recipes"

_SECTIONS: dict[str, type[Any]] = {
    "schedule": Schedule,
    "data": DataRecipe,
    "optimizer": OptimizerRecipe,
    "losses": LossConfig,
    "aids": AidsRecipe,
    "start": StartRecipe,
}
T = TypeVar("T")


def read_recipe(path: Path, **overrides: Any) -> Recipe:
    """A recipe file, with top-level or "section.field" values replaced.

    A recipe may say `extends = "other.toml"`: then it holds only what differs. A name without a folder that is
    no file is looked up among the bundled recipes, that of `path` too.

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
    """A mere name that is no file here may be that of a bundled recipe."""
    bundled = BUNDLED / name
    return bundled if Path(name).name == name and not path.exists() and bundled.is_file() else path


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    try:
        data: dict[str, Any] = tomllib.loads(read_text(path))
    except OSError as error:
        names = ", ".join(sorted(one.name for one in BUNDLED.glob("*.toml")))
        raise UsageError(f"there is no recipe {path} ({error.strerror}); bundled are {names}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no recipe in TOML: {error}") from error
    base = data.pop("extends", None)
    if base is None:
        return data
    if depth > 3 or not isinstance(base, str):
        raise UsageError(f"{path} extends {base!r}, expected the name of a recipe file that does not lead back here")
    whole = _read(_or_bundled(path.parent / base, base), depth + 1)
    for key, value in data.items():
        whole[key] = {**whole[key], **value} if isinstance(value, dict) and isinstance(whole.get(key), dict) else value
    return whole


def recipe_from_dict(data: dict[str, Any], where: str) -> Recipe:
    """Checks names and values; see read_recipe."""
    try:
        sections = {name: _section(kind, data[name], name) for name, kind in _SECTIONS.items() if name in data}
        plain = {key: value for key, value in data.items() if key not in _SECTIONS and key != "model"}
        return _section(Recipe, {**plain, **sections, "model": ModelConfig.from_dict(data["model"])}, "the recipe")
    except KeyError as error:
        raise UsageError(f"{where} has no section [{error.args[0]}]") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


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
    elif hint in _ACCEPTED and (
        isinstance(value, bool) is not (hint is bool) or not isinstance(value, _ACCEPTED[hint])
    ):
        raise ValueError(f"{name} must be {_TYPE_NAMES[hint]}, got {value!r}")


_ACCEPTED: dict[Any, tuple[type[Any], ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
