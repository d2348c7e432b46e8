"""Which implementation of an operator runs: the argument decides, else HOICLIP_KERNELS, else the operator itself.

HOICLIP_KERNELS is a list such as `reference` (every operator that has it) or `pair_nms=reference,preprocess=numba`;
later words win. An operator is a folder; its implementations are `reference.py` and the files `NAME_impl.py` in it.
They are imported when first used, so that a library is needed only by the implementation that uses it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import ModuleType

VARIABLE = "HOICLIP_KERNELS"
used: dict[str, str] = {}
"""The implementation of each operator that ran last in this process."""
_log = logging.getLogger(__name__)


class KernelError(ValueError):
    """An implementation was asked for that does not exist or cannot run here; one line says what to do."""


@lru_cache(maxsize=1)
def implementations() -> dict[str, tuple[str, ...]]:
    """What there is of each operator, installed or not."""
    folders = sorted(path.parent for path in Path(__file__).parent.glob("*/reference.py"))
    return {
        folder.name: ("reference", *sorted(path.stem.removesuffix("_impl") for path in folder.glob("*_impl.py")))
        for folder in folders
    }


def pick(operator: str, asked: str | None, choice: str) -> ModuleType:
    """The module to call.

    Args:
        asked: by the caller; None leaves it to HOICLIP_KERNELS, then to `choice`.
        choice: what the operator would take for these inputs.

    Raises:
        KernelError: the operator has no such implementation, or what it needs is not installed.
    """
    name = named(operator, asked, choice)
    if used.get(operator) != name:
        _log.debug("%s uses %s", operator, name)
        used[operator] = name
    try:
        return importlib.import_module(f"hoiclip_kernels.{operator}.{name if name == 'reference' else f'{name}_impl'}")
    except ImportError as error:
        package = "'hoiclip[torch]'" if error.name == "torch" else error.name
        raise KernelError(f"{operator}: implementation {name} needs {error.name}; pip install {package}") from error


def named(operator: str, asked: str | None, choice: str) -> str:
    """Name of the implementation that pick would take."""
    if asked is None:
        return _chosen(os.environ.get(VARIABLE, "")).get(operator, choice)
    _require(operator, asked, "")
    return asked


@lru_cache(maxsize=1)
def triton_runs() -> bool:
    """Whether Triton is installed and can build its launchers, for which it wants a C compiler and Python's headers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return importlib.util.find_spec("triton") is not None and compiler is not None and headers.is_file()


@lru_cache(maxsize=8)
def _chosen(words: str) -> dict[str, str]:
    """Implementation by operator."""
    chosen: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in words.split(","))):
        operator, equals, implementation = word.rpartition("=")
        having = [name for name, known in implementations().items() if implementation in known]
        if equals:
            _require(operator, implementation, f"{VARIABLE}: ")
            chosen[operator] = implementation
        elif having:
            chosen.update(dict.fromkeys(having, implementation))
        else:
            every = sorted({name for known in implementations().values() for name in known})
            raise KernelError(f"{VARIABLE}: expected OPERATOR=NAME or one of {', '.join(every)}, got {word!r}")
    return chosen


def _require(operator: str, implementation: str, where: str) -> None:
    if operator not in implementations():
        raise KernelError(f"{where}expected one of {', '.join(implementations())}, got operator {operator!r}")
    if implementation not in implementations()[operator]:
        known = ", ".join(implementations()[operator])
        raise KernelError(f"{where}{operator} has the implementations {known}, got {implementation!r}")
