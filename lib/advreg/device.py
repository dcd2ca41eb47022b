"""Where tensors live: CUDA where it is present, the CPU elsewhere.

``ADVREG_DEVICE=cpu`` or ``cuda`` (or ``cuda:1``) overrides the choice.  In chapters 1-4 only
gradient-based training asks, in double precision; everything else there is numpy.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["choose", "seeded"]


def choose(name: str | None = None) -> torch.device:
    """The device that tensors of this run live on.

    Parameters
    ----------
    name
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.  Default: the environment variable
        ``ADVREG_DEVICE``, and without it CUDA where it is present.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is none of the accepted ones.
    RuntimeError
        If CUDA is asked for and torch finds no such device.
    """
    import torch

    name = (
        name or os.environ.get("ADVREG_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    )
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdigit())):
        raise ValueError(f"device {name!r}: accepted are 'cpu', 'cuda' and 'cuda:N'")
    if kind == "cuda" and torch.cuda.device_count() <= int(index or 0):
        raise RuntimeError(
            f"device {name!r} was asked for, but torch {torch.__version__} finds "
            f"{torch.cuda.device_count()} CUDA devices; unset ADVREG_DEVICE to run on the CPU"
        )
    return torch.device(name)


def seeded(
    seed: int, device: torch.device | None = None
) -> tuple[np.random.Generator, torch.Generator]:
    """Two generators that a run passes on explicitly: one for numpy, one for torch.

    Python's own ``random`` is seeded too, for libraries that use it.

    Parameters
    ----------
    seed
        A non-negative integer.
    device
        Device of the torch generator; :func:`choose` by default.

    Raises
    ------
    ValueError
        If the seed is negative or not an integer.
    """
    import torch

    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"a seed is a non-negative integer, got {seed!r}")
    random.seed(int(seed))
    device = device or choose()
    return np.random.default_rng(seed), torch.Generator(device=device).manual_seed(int(seed))
