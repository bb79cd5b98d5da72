"""Turning what people log into plain numbers: floats, arrays, tensors of any library, nested lists.

Tensors are read by duck typing, so this floor loads no torch. A value on a GPU is copied to the
host, which waits for it: log at your log points, not in each step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import RunError


def as_array(value: Any) -> NDArray[Any]:
    """`value` on the host, in its own shape and dtype; not a view of anything that may change."""
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        # numpy has no bfloat16.
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    elif isinstance(value, (list, tuple)):
        return np.array([as_array(entry) for entry in value])
    return np.array(value)


def flat_numbers(name: str, value: Any) -> NDArray[np.float64]:
    """All numbers in `value` as a flat float64 array, not finite ones included.

    Nested lists may be ragged. Raises RunError, naming the indicator, for what is no number.
    """
    # numpy would read text as a number, and None as not-a-number.
    if value is None or isinstance(value, (str, bytes)):
        raise _no_numbers(name, value)
    try:
        if isinstance(value, (list, tuple, set, frozenset)):
            parts = [flat_numbers(name, entry) for entry in value]
            return np.concatenate(parts) if parts else np.empty(0)
        array = as_array(value)
        if array.dtype.kind not in "biuf":
            # Decimals, fractions and whole numbers beyond 64 bits come as objects.
            array = np.array([float(entry) for entry in array.ravel().tolist()])
        return array.astype(np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_numbers(name, value) from error


def mean_of(numbers: NDArray[np.float64]) -> float:
    """The mean, also where the sum is beyond the largest float64; not-a-number for none."""
    if not len(numbers):
        return float("nan")
    with np.errstate(all="ignore"):
        mean = float(numbers.mean())
        if np.isinf(mean) and np.isfinite(numbers).all():
            mean = float((numbers / len(numbers)).sum())
    return mean


def _no_numbers(name: str, value: Any) -> RunError:
    return RunError(
        f"'{name}' takes numbers",
        got=f"{type(value).__name__}: {str(value)[:80]}",
        expected="a number, an array, a tensor, or a list of these",
    )
