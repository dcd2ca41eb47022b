"""Where tensors live: CUDA where it is present, the CPU elsewhere.

``ADVREG_DEVICE=cpu`` or ``cuda`` (or ``cuda:1``) overrides the choice.  The notebooks ask once, in
their first cell, and put every tensor and network there; seeds feed generators on the CPU, so
that every device sees the same draws.  Theory checks are in double precision on both.

What a GPU changes then is rounding alone: sums are taken in another order.  It would change more
if it rounded the factors of float32 products to 11 significant bits (TF32, the default of
convolutions there) or took whichever convolution algorithm was fastest today:
:func:`exact_float32` rules out both.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["choose", "exact_float32", "seeded"]

_settled = False  # whether this process has been through exact_float32


def choose(name: str | None = None) -> torch.device:
    """The device that tensors of this run live on.

    The first time that it picks CUDA it calls :func:`exact_float32`; settings that a program
    makes after that stand.

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
    if kind == "cuda" and not _settled:
        exact_float32()
    return torch.device(name)


def exact_float32(*, deterministic: bool = True) -> None:
    """Make float32 on CUDA mean float32, and convolutions repeatable.

    Matrix products and convolutions keep the 24 significant bits of their factors (torch's
    default for convolutions is TF32, 11 bits: a relative error of 2^-11 per factor in place of
    2^-24).  ``bfloat16`` under autocast is not touched: that is asked for on purpose.

    What still differs from the CPU is the order of summation: the last digits.  From run to run
    on one card, sums by atomic additions (``index_add_``, ``scatter_add_``, the gradient of
    indexing with repeated indices) may differ in the last digits too; the library has none on
    the path of a network that it trains.

    Parameters
    ----------
    deterministic
        Whether cuDNN may use only convolution algorithms that give the same bits on every run,
        chosen by rule and not by timing them.  False trades that for speed.

    Notes
    -----
    Both of torch's interfaces are set, and to the same: it refuses to read one after the other
    alone was used.
    """
    global _settled
    import torch

    _settled = True
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    for part in (matmul, cudnn.conv, cudnn.rnn):
        part.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = deterministic, False


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
