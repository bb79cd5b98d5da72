"""Making values fit for strict JSON: paths, numpy numbers and arrays, infinities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def to_plain(value: Any) -> Any:
    """`value` as dicts, lists, text, finite numbers, truth values and None.

    Not finite numbers become "nan", "inf" or "-inf", as strict JSON has no others. Raises TypeError
    for what has no plain form.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): to_plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(entry) for entry in value]
    # numpy numbers and arrays, by duck typing: this module must not load numpy for a dict.
    listed = getattr(value, "tolist", None)
    if callable(listed):
        return to_plain(listed())
    raise TypeError(f"no plain form of {type(value).__name__}: {value!r}")
