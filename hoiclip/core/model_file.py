"""The model file: one .safetensors with tensors, and config, vocabulary and provenance as JSON in its metadata.

Reading the header needs no torch; tensors become a torch module only in `build`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hoiclip.core.atomic_write import atomic_write
from hoiclip.core.errors import ModelError, SinkError
from hoiclip.core.foreign_file import parse_json
from hoiclip.core.torch_extra import require_torch
from hoiclip.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from hoiclip.model import HOICLIP, ModelConfig

FORMAT = "hoiclip-model/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedTracking:
    """Parameters of tracking that were fitted to a model on videos."""

    verb_scores: Mapping[str, tuple[float, float]]
    """Scores from which each verb starts and below which it ends."""
    faint_overlap: float
    """See consolidate() in hoiclip_engine.track."""

    def __post_init__(self) -> None:
        if not all(0 <= end <= start <= 1 for start, end in self.verb_scores.values()):
            raise ValueError("expected 0 <= end <= start <= 1 of every verb")
        if not 0 < self.faint_overlap <= 1:
            raise ValueError(f"faint_overlap must be in (0, 1], got {self.faint_overlap}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A checked header. Tensors stay on disk until they are asked for."""

    path: Path
    config: ModelConfig
    vocabulary: Vocabulary
    provenance: dict[str, Any]
    """Origin of the weights: kind ("imported", "trained", "untrained"), notice, dates, hashes."""
    tracking: FittedTracking | None = None

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def notice(self) -> str:
        """Limits of the model that a reader of its results must know; empty where there are none."""
        return str(self.provenance.get("notice", ""))

    def sha256(self) -> str:
        """Of the file's bytes."""
        return file_sha256(self.path)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor, e.g. "hoi_rows", as float32 numpy."""
        with _open(self.path, "numpy") as file:
            if name not in file.keys():  # noqa: SIM118 - not a dict
                raise ModelError(f"{self.path} has no tensor {name}; make it again: hoiclip models import")
            values = np.asarray(file.get_tensor(name), dtype=np.float32)
        if not np.isfinite(values).all():
            raise _not_finite(self.path, name)
        return values

    def text_embeddings(self) -> dict[str, NDArray[np.float32]]:
        """The (E,) text embedding of every prompt."""
        return {
            prompt: embedding
            for name, prompts in self.vocabulary.prompts_by_tensor.items()
            for prompt, embedding in zip(prompts, self.tensor(name), strict=True)
        }

    def num_parameters(self) -> int:
        """Numbers in all tensors, from the header alone."""
        with _open(self.path, "numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - not a dict

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All tensors in their own types, unchecked."""
        with _open(self.path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict

    def build(self) -> HOICLIP:
        """The torch module, fp32, in evaluation mode.

        Raises:
            BackendMissing: torch is not installed.
            ModelError: tensors are missing, unknown, not finite, or have other shapes than the config says.
        """
        require_torch(f"computing with {self.name} in torch")
        import torch

        from hoiclip.model import HOICLIP

        try:
            with torch.device("meta"):
                model = HOICLIP(self.config)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{self.path} has a config that makes no model ({first}); make it again") from error
        with _open(self.path, "pt") as file:
            keys = file.keys()
            check_shapes(  # before memory is taken for any of them
                {key: tuple(file.get_slice(key).get_shape()) for key in keys},
                {key: tuple(value.shape) for key, value in model.state_dict().items()},
                str(self.path),
            )
            state = {key: file.get_tensor(key).float() for key in keys}
        for key, value in state.items():
            if not bool(torch.isfinite(value).all()):
                raise _not_finite(self.path, key)
        model.load_state_dict(state, assign=True)
        return model.requires_grad_(False).eval()


def _not_finite(path: Path, tensor: str) -> ModelError:
    return ModelError(f"{path} holds values that are not finite, first in {tensor}; import or train it again")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes; remembered until the file changes."""
    status = path.stat()
    return _sha256(path, status.st_ino, status.st_ctime_ns, status.st_size)


@cache
def _sha256(path: Path, _inode: int, _ctime_ns: int, _size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _open(path: Path, framework: str) -> Any:
    try:
        return safe_open(str(path), framework=framework)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file; it may be truncated ({error})") from error


def check_shapes(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], where: str) -> None:
    """One error that names the first few differences.

    Raises:
        ModelError: a tensor is missing, unknown or misshapen.
    """
    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    misshapen = [
        f"{key} is {list(found[key])}, expected {list(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    problems = [
        f"{len(items)} {problem}: {'; '.join(items[:3])}{' ...' if len(items) > 3 else ''}"
        for problem, items in (("missing", missing), ("misshapen", misshapen), ("unknown", unknown))
        if items
    ]
    if problems:
        raise ModelError(f"{where} does not fit the model: {', '.join(problems)}")


def load_model_file(path: Path) -> ModelFile:
    """Reads and checks the header.

    Raises:
        ModelError: no such file, damaged, or not a model file of this project.
    """
    from hoiclip.model.config import ModelConfig

    if not path.is_file():
        raise ModelError(f"there is no model file {path}; see hoiclip models list")
    with _open(path, "numpy") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{path} is no hoiclip model file (format {metadata.get('format')!r}, expected {FORMAT!r}); "
            "official checkpoints become one by: hoiclip models import"
        )
    try:
        config, vocabulary, provenance = (
            parse_json(metadata[key], finite=True) for key in ("config", "vocabulary", "provenance")
        )
        if not isinstance(config, dict):
            raise ValueError(f"config is a {type(config).__name__}")
        model_config = ModelConfig.from_dict(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has a damaged header ({error}); make it again: hoiclip models import") from error
    names = Vocabulary.from_dict(vocabulary)
    sizes = (model_config.num_object_classes, model_config.num_verbs, model_config.num_hois)
    if sizes != (names.num_object_classes, len(names.verbs), len(names.hois)):
        raise ModelError(f"{path} has classes {sizes} (objects, verbs, HOIs) that its vocabulary does not name")
    tracking = _tracking(metadata["tracking"], names, path) if "tracking" in metadata else None
    return ModelFile(path, model_config, names, provenance if isinstance(provenance, dict) else {}, tracking)


def _tracking(text: str, vocabulary: Vocabulary, path: Path) -> FittedTracking:
    try:
        data = parse_json(text, finite=True)
        scores = {verb: (float(start), float(end)) for verb, (start, end) in data["verb_scores"].items()}
        if set(scores) != set(vocabulary.verbs):
            raise ValueError("scores of other verbs")
        return FittedTracking(verb_scores=scores, faint_overlap=float(data["faint_overlap"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} has damaged parameters of tracking ({error}); fit them again: python -m benchmarks.fit_tracking"
        ) from error


def save_model_file(
    path: Path,
    state: Mapping[str, Tensor] | Mapping[str, NDArray[Any]],
    config: ModelConfig,
    vocabulary: Vocabulary,
    provenance: dict[str, Any],
    tracking: FittedTracking | None = None,
) -> None:
    """Writes a model file whole or not at all.

    Raises:
        SinkError: the folder is missing or cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config.to_dict()),
        "vocabulary": vocabulary.to_json(),
        "provenance": json.dumps(provenance),
        **({"tracking": json.dumps(asdict(tracking))} if tracking else {}),
    }
    write_tensors(path, state, metadata)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor] | Mapping[str, NDArray[Any]], metadata: dict[str, str]
) -> None:
    """Writes a .safetensors file of torch's tensors or numpy's arrays whole or not at all.

    Raises:
        SinkError: the folder is missing or cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            arrays = {key: np.ascontiguousarray(value).reshape(value.shape) for key, value in tensors.items()}
            save_file(arrays, temporary, metadata=metadata)
            temporary.chmod(0o644)  # safetensors makes it readable by its owner only
    except (SafetensorError, OSError) as error:
        raise SinkError(
            f"cannot write {path}: {error}; choose a folder that exists and is writable, on a disk that is not full"
        ) from error
