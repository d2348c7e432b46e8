"""What differs between PyAV 17, the last for Python 3.10, and 19. Names of colour matrices are in color.py."""

from __future__ import annotations

from fractions import Fraction
from numbers import Rational
from typing import Any

import av

READS_ANY_METADATA: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Of av.open: metadata that is not UTF-8 stops nothing. From 19 on it never does, and cannot be asked for."""


def fraction(value: Rational | None) -> Fraction | None:
    """A rate, an aspect or a time base; None where it is not known: None up to PyAV 18, from 19 on nought or x/0."""
    return Fraction(int(value.numerator), int(value.denominator)) if value else None
