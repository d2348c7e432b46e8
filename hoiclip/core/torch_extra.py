"""Check for the extra `torch`, which training, exporting and building need and edge devices leave out."""

from __future__ import annotations

import importlib.util

from hoiclip.core.errors import BackendMissing

EXTRA = "'hoiclip[torch]'"


def require_torch(feature: str, *packages: str, otherwise: str = "") -> None:
    """Checks that torch and other packages of the extra are installed.

    Args:
        feature: that needs them, such as "training".
        packages: of the extra, besides torch.
        otherwise: the end of the message: an alternative without the extra.

    Raises:
        BackendMissing: torch or one of the others is not installed.
    """
    for package in ("torch", *packages):
        if importlib.util.find_spec(package) is None:
            raise BackendMissing(f"{feature} needs {package}, which is not installed; pip install {EXTRA}{otherwise}")
