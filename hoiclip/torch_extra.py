"""Whether what learning, exporting and building need is installed: the extra `torch`, which an edge box leaves out."""

from __future__ import annotations

import importlib.util

from hoiclip.errors import BackendMissing

EXTRA = "'hoiclip[torch]'"


def require_torch(what: str, *also: str, otherwise: str = "") -> None:
    """
    Args:
        what: needs it, such as "training".
        also: other packages of the extra that it imports.
        otherwise: what can be done without.

    Raises:
        BackendMissing: torch or one of the others is not installed.
    """
    for package in ("torch", *also):
        if importlib.util.find_spec(package) is None:
            raise BackendMissing(f"{what} needs {package}, which is not installed; pip install {EXTRA}{otherwise}")
