"""Reader of foreign state dicts, as .safetensors or as pickles, that runs no code of theirs.

Of a pickle only tensors, plain containers and the argparse Namespace of the training run are read.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hoiclip.core.errors import ModelError

_STATE_KEYS = ("model", "state_dict", "model_state_dict")
"""Keys of the tensors in checkpoints that hold more than these."""
_WRAPPERS = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
"""Prefixes of DataParallel and torch.compile in the names of the module that they wrap."""
_MOST_NUMBERS = 1 << 30
"""Of a checkpoint that is smaller: one tensor may stand for many equal numbers."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a training run, and its arguments as far as they are plain values."""

    state: dict[str, Tensor]
    arguments: dict[str, Any]
    epoch: int | None


def local_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, safely.

    Raises:
        ModelError: no such file, or not one.
    """
    if not path.is_file():
        raise ModelError(f"expected a CLIP state dict, but there is no file {path}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return unwrapped(load_file(path), path)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{path} is not a readable safetensors file ({error})") from error
    return read_checkpoint(path).state


def read_checkpoint(path: Path) -> Checkpoint:
    """Unpickles tensors, plain containers and argparse.Namespace, nothing else.

    Raises:
        ModelError: no such file, not a checkpoint, or it holds objects of another kind.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}; name the file of one")
    _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols; errors are handled below
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        content = f"an object of type {found[1]}" if found else "something that is no tensor"
        raise ModelError(
            f"{path} holds {content}; only tensors and argparse arguments are read, anything else could run code"
        ) from error
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        if "TorchScript" in str(error) or "legacy .tar" in str(error):
            kind = "a TorchScript program" if "TorchScript" in str(error) else "of torch's oldest format"
            raise ModelError(
                f"{path} is {kind}, which is not read; load it in torch and save its state_dict() with torch.save"
            ) from error
        raise ModelError(
            f"{path} is no readable checkpoint (a .pth written by torch.save); is it truncated?"
        ) from error
    wrapped = data if isinstance(data, dict) else {}
    state = next((wrapped[name] for name in _STATE_KEYS if name in wrapped), data)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict; expected a dict of tensors, or one under the key 'model'")
    _check_tensors(state, path)
    arguments = wrapped.get("args")
    epoch = wrapped.get("epoch")
    return Checkpoint(
        state=unwrapped(state, path),
        arguments=vars(arguments) if isinstance(arguments, argparse.Namespace) else {},
        epoch=epoch if isinstance(epoch, int) else None,
    )


def _check_archive(path: Path) -> None:
    """Checks that an archive declares no more bytes than its file has: torch.save compresses nothing.

    Raises:
        ModelError: it declares more, and reading it could exhaust the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # older checkpoints are no archives; damaged ones are reported by torch's reader
        return
    if declared > path.stat().st_size:
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes but declares {declared}; expected an archive that is not "
            "compressed, as torch.save writes it: load it where you trust it, and save it again"
        )


def _check_tensors(state: dict[Any, Tensor], path: Path) -> None:
    """Raises ModelError: not dense tensors in main memory, or many more numbers than the file holds."""
    for key, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise ModelError(f"{path}: expected dense numbers in {ascii(key)[:80]}, found another kind of tensor")
    numbers = sum(value.numel() for value in state.values())
    if numbers > max(_MOST_NUMBERS, path.stat().st_size):
        raise ModelError(f"{path} declares {numbers} numbers in {path.stat().st_size} bytes; expected a checkpoint")


def unwrapped(state: Mapping[Any, Tensor], path: Path) -> dict[str, Tensor]:
    """A state dict under the names of the module without wrappers.

    Raises:
        ModelError: two names become one.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _WRAPPERS.sub(r"\1", str(key))
        if name in plain:
            raise ModelError(f"{path} holds {ascii(name)[:80]} twice, with and without the prefix of a wrapper")
        plain[name] = value
    return plain
