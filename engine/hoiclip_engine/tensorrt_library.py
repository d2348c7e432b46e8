"""TensorRT and TensorRT-RTX as one library: the same calls on another module, from version 10.3 to 11.

Imports neither until asked. What they log is kept here, so that an error can say what the library said.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from hoiclip.errors import BackendMissing

Library = Literal["tensorrt", "tensorrt-rtx"]
MODULES: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
OLDEST: dict[Library, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 2)}
"""JetPack 6 has 10.3. TensorRT-RTX counts for itself; from 1.2 on its engines can be captured in CUDA graphs."""
_ERROR, _INFO = 1, 3
"""ILogger.Severity of both libraries: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose."""
_LONGEST = 400
_LOGGERS: dict[int, tuple[Any, Any]] = {}
"""By module, which is kept with it so that no other gets its number."""


def load_library(name: Library) -> Any:
    """The module.

    Raises:
        BackendMissing: not installed, not loadable, or too old.
    """
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError as error:
        raise BackendMissing(f"{name} cannot be imported: {one_line(error)}; pip install 'hoiclip[{name}]'") from error
    except (RuntimeError, OSError) as error:  # its wheels load shared libraries on import
        raise BackendMissing(f"{name} is installed but does not load: {one_line(error)}") from error
    if version(module) < OLDEST[name]:
        least = ".".join(map(str, OLDEST[name]))
        raise BackendMissing(f"expected {name} {least} or newer, found {module.__version__}; update it")
    return module


def version(trt: Any) -> tuple[int, int]:
    """Major and minor."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


def messages(trt: Any, say: Callable[[str], None] | None = None) -> Any:
    """The logger of the library; `errors` are the lines it logged as such. One for all: it takes no second one.

    Args:
        say: from now on also gets every line from information on.
    """
    if id(trt) in _LOGGERS:
        _, log = _LOGGERS[id(trt)]
        log.say = say or log.say
        return log

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.say = say

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= _ERROR:
                self.errors.append(one_line(text))
            if self.say is not None and int(severity) <= _INFO:
                self.say(one_line(text))

    log = Messages()
    _LOGGERS[id(trt)] = (trt, log)
    return log


def said_since(log: Any, before: int) -> str:
    """The first error after so many: what follows it is mostly its consequence."""
    return log.errors[before] if len(log.errors) > before else "it does not say why"


def load_plugins(registry: Any, plugins: Iterable[Path], log: Any) -> list[Any]:
    """Registers the operators of plugin libraries; both who builds and who runs an engine with them needs that.

    Returns:
        What the registry needs to let go of them.

    Raises:
        BackendMissing: a library is not there, or the library cannot load it.
    """
    handles = []
    for plugin in plugins:
        if not plugin.is_file():
            raise BackendMissing(f"plugin library {plugin} is missing; build it (docs/kernels.md)")
        before = len(log.errors)
        handle = registry.load_library(str(plugin))
        if handle is None and "exists already" not in said_since(log, before):  # its operators, since an earlier engine
            raise BackendMissing(f"plugin library {plugin} cannot be loaded: {said_since(log, before)}; build it again")
        handles.append(handle)
    return handles


def one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
