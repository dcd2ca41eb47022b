"""What public functions check at the door, in words a student understands."""

from __future__ import annotations

import math
import numbers

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def real(value: ArrayLike, name: str) -> Array:
    """Return `value` as float64; integers are converted, complex numbers and objects refused."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


def finite(value: ArrayLike, name: str, *, least: float = -math.inf) -> Array:
    """Return `value` as float64 if every entry is finite and at least `least`."""
    array = real(value, name)
    if not np.isfinite(array).all() or (array < least).any():
        what = "finite" if least == -math.inf else f"finite and at least {least:g}"
        raise ValueError(f"every entry of {name} must be {what}")
    return array


def positive(value: ArrayLike, name: str) -> Array:
    """Return `value` as float64 if it is positive; infinity passes (q = 0), NaN does not."""
    array = real(value, name)
    if not (array > 0).all():
        raise ValueError(f"{name} must be positive, got {array[~(array > 0)].flat[0]}")
    return array


def integer(value: int, name: str, least: int) -> int:
    """Return `value` if it is an integer, of Python or numpy, of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def number(value: float, name: str, least: float, *, strict: bool = False) -> float:
    """Return `value` if it is one finite number of at least `least` (or above it: `strict`)."""
    array = finite(value, name)
    if array.ndim or array < least or (strict and array == least):
        bound = f"{'greater than' if strict else 'at least'} {least:g}"
        raise ValueError(f"{name} must be one number {bound}, got {value!r}")
    return float(array)


def ground_norm(norm: float) -> float:
    """Return `norm` if it is one of 1, 2 and numpy.inf."""
    if isinstance(norm, bool) or np.ndim(norm) or norm not in (1, 2, np.inf):
        raise ValueError(
            f"norm is that of the attack, the ground norm of the inputs: one of 1, 2 and "
            f"numpy.inf; got {norm!r}"
        )
    return norm


def wasserstein_order(p: float) -> float:
    """Return `p` as a float if it is the order of a Wasserstein distance, from 1 to infinity."""
    if isinstance(p, bool) or not (real(p, "p").ndim == 0 and p >= 1):
        raise ValueError(f"p is the order of the distance, from 1 to numpy.inf; got {p!r}")
    return float(p)


def modes(**statistics: ArrayLike) -> list[Array]:
    """Return statistics, one number per mode, as float64 if they are finite, not negative (but
    for the cross power and the gain), and fit together."""
    arrays = [
        finite(value, name, least=-math.inf if name in ("cross", "g") else 0.0)
        for name, value in statistics.items()
    ]
    try:
        np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(statistics, arrays, strict=True))
        raise ValueError(
            f"these shapes do not fit together: {shapes}; the last axis is the mode, and a grid "
            "of p values has the shape (p, 1), as in delta[:, None]"
        ) from None
    return arrays
