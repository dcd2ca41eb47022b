r"""Losses of classifiers as functions of the logits, and cross-entropy as a maximum of planes.

With logits z in R^K, the label y and the margins m_j = z_j - z_y,

    margin         mu = max over j != y of m_j                      (positive: misclassified)
    hinge          (1 + mu)_+                                       ("max-hinge")
    cross-entropy  log sum_j exp(m_j)                               (in nats)
    DLR            mu / (z_(1) - z_(3)),  z_(1) >= z_(2) >= ...      (difference of logits ratio)

These are numpy functions of one point or of many, with the conventions of
:func:`advreg.attacks.margin` and :func:`advreg.attacks.cross_entropy`, which are for torch.

Margin and hinge of a ReLU network are piecewise affine in the input, so that their Wasserstein
values can be computed exactly; cross-entropy is not.  But it is a supremum of affine functions,

    CE = max over probability vectors p of <p, m> + H(p),           H the entropy,

and finitely many p give a piecewise affine function below it: :func:`cross_entropy_pieces`, off
by at most :func:`cross_entropy_gap`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, logsumexp

from advreg import relu, wdro_networks
from advreg._checks import finite, integer, number

__all__ = [
    "ValueBracket",
    "cross_entropy",
    "cross_entropy_gap",
    "cross_entropy_pieces",
    "cross_entropy_value",
    "dlr",
    "hinge",
    "margin",
]

Array = NDArray[np.float64]
MOST_PIECES = 20_000


def _inputs(logits: ArrayLike, label: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """Logits (..., K) and labels of the same leading shape, with a last axis of length 1."""
    z = finite(logits, "logits")
    if not z.ndim or z.shape[-1] < 2:
        raise ValueError(
            f"logits must have one entry per class along the last axis, two classes at least; "
            f"got shape {z.shape}"
        )
    y = np.asarray(label)
    if y.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, class numbers from 0; got dtype {y.dtype}")
    if y.size and (y.min() < 0 or y.max() >= z.shape[-1]):
        raise ValueError(
            f"labels must be class numbers from 0 to {z.shape[-1] - 1}, got {y.min()} to {y.max()}"
        )
    try:
        y = np.broadcast_to(y, z.shape[:-1])
    except ValueError:
        raise ValueError(
            f"there must be one label for all, or one per point, shape {z.shape[:-1]}; "
            f"got shape {y.shape}"
        ) from None
    return z, y[..., None].astype(np.intp)


def margin(logits: ArrayLike, label: ArrayLike) -> Array:
    """mu = max over j != y of z_j, minus z_y: positive where the sample is misclassified.

    Parameters
    ----------
    logits : array, shape (..., K)
    label : integer, or array of integers, shape (...)
        Class numbers from 0; one number stands for all points.

    Returns
    -------
    array, shape (...)

    Raises
    ------
    TypeError
        If logits are complex or not numeric, or labels not integers.
    ValueError
        If shapes clash, a label is no class number, an entry is not finite, or K = 1.
    """
    z, y = _inputs(logits, label)
    others = z.copy()
    np.put_along_axis(others, y, -np.inf, axis=-1)
    return others.max(axis=-1) - np.take_along_axis(z, y, axis=-1)[..., 0]


def hinge(logits: ArrayLike, label: ArrayLike) -> Array:
    """(1 + mu)_+, the hinge of the margin; arguments and errors as :func:`margin`."""
    return np.maximum(1 + margin(logits, label), 0.0)


def cross_entropy(logits: ArrayLike, label: ArrayLike) -> Array:
    """log sum_j exp(z_j - z_y), in nats; arguments and errors as :func:`margin`."""
    z, y = _inputs(logits, label)
    # centred at the label first: a small loss keeps its digits
    return np.asarray(logsumexp(z - np.take_along_axis(z, y, axis=-1), axis=-1))


def dlr(logits: ArrayLike, label: ArrayLike, *, floor: float | None = None) -> Array:
    r"""Difference of logits ratio: mu / B, with B = z_(1) - z_(3) the lead over the third.

    It does not change if the logits are shifted or multiplied by a positive number.  With two
    classes there is no third logit and B = z_(1) - z_(2): the loss is -1 or 1.

    Parameters
    ----------
    logits : array, shape (..., K)
    label : integer, or array of integers, shape (...)
    floor : float, optional
        Divide by max(B, floor) instead, floor > 0: the loss is then finite and continuous.

    Returns
    -------
    array, shape (...)
        In [-1, 1] for K <= 3, at most 1 wherever the label is among the three largest logits; for
        K >= 4 it is unbounded.  Without a floor, where B = 0 the value is the largest limit of
        values at nearby logits: infinite if the label is not among the tied logits or four or
        more are tied, else 1.

    Raises
    ------
    TypeError, ValueError
        As :func:`margin`; or if the floor is not positive.

    Notes
    -----
    Source: Propositions ``prop-dlr-gradient`` and ``prop-dlr-no-certificate`` (chapter 6).
    """
    z, y = _inputs(logits, label)
    mu, ordered = margin(z, y[..., 0]), np.sort(z, axis=-1)
    lead = ordered[..., -1] - ordered[..., max(-3, -z.shape[-1])]
    if floor is not None:
        return mu / np.maximum(lead, number(floor, "floor", 0.0, strict=True))
    ties = np.sum(z == ordered[..., -1:], axis=-1)
    at_tie = np.where((mu > 0) | (ties >= 4), np.inf, 1.0)
    with np.errstate(over="ignore"):
        return np.divide(mu, lead, out=at_tie, where=lead > 0)


# ------------------------------------------------------------------------------- cross-entropy


def _tangents(outputs: int, levels: int) -> Array:
    """The probability vectors at which the planes touch, shape (R, K)."""
    K, levels = integer(outputs, "outputs", 2), integer(levels, "levels", 1)
    count = math.comb(levels + K - 1, K - 1)
    if count > MOST_PIECES:
        raise ValueError(
            f"{levels} levels of {K} probabilities make {count} pieces, more than {MOST_PIECES}"
        )
    if K == 2:
        p = np.sin(np.pi / 2 * np.arange(levels + 1) / levels) ** 2
        p[-1] = 1.0
        return np.stack([1 - p, p], axis=1)
    rows = [(k,) for k in range(levels + 1)]
    for _ in range(K - 2):
        rows = [(*row, k) for row in rows for k in range(levels - sum(row) + 1)]
    table = np.array([(*row, levels - sum(row)) for row in rows], dtype=np.float64)
    return table / levels


def cross_entropy_pieces(outputs: int, label: int, levels: int) -> tuple[Array, Array]:
    r"""Planes below the cross-entropy: CE >= max_r <C_r, z> + e_r, off by the gap at most.

    Plane r touches at logits with softmax p_r: C_r = p_r - e_y and e_r = H(p_r).  All K certain
    vectors p are among them, without which the difference would be unbounded; with levels = 1
    there are no others, and the maximum is max(0, mu).

    Parameters
    ----------
    outputs : int
        Number of classes K, at least 2.
    label : int
        True label y.
    levels : int
        At least 1.  For K = 2 the levels + 1 tangents at the probabilities
        sin^2(pi k / (2 levels)), which lie closer near 0 and 1; for K >= 3 all vectors of
        multiples of 1 / levels, (levels + K - 1 choose K - 1) of them.

    Returns
    -------
    C : array, shape (R, K)
    e : array, shape (R,)

    Raises
    ------
    ValueError
        If an argument is out of its range, or there were more than 20,000 pieces.

    Notes
    -----
    For :func:`advreg.wdro_networks.planar` pass ``loss=lambda y: cross_entropy_pieces(K, y, 10)``.

    Source: Proposition ``prop-cross-entropy-bracket`` (chapter 6).
    """
    p = _tangents(outputs, levels)
    y = integer(label, "label", 0)
    if y >= outputs:
        raise ValueError(f"label must be a class number from 0 to {outputs - 1}, got {label!r}")
    return p - np.eye(outputs)[y], entr(p).sum(axis=1)


def cross_entropy_gap(outputs: int, levels: int) -> float:
    r"""How far the cross-entropy can be above its pieces: sup over z of CE - max_r (...).

    At logits with softmax q the difference is the least Kullback-Leibler divergence KL(p_r, q).

    Parameters
    ----------
    outputs, levels : int
        As for :func:`cross_entropy_pieces`.

    Returns
    -------
    float
        Exact for K = 2, and log K for levels = 1.  Else an upper bound, the smaller one of log K
        and (K - 1) / (e levels) + 1 / (8 levels floor(levels / K)); K / (e levels) if levels < K.

    Raises
    ------
    ValueError
        As :func:`cross_entropy_pieces`.

    Notes
    -----
    For K = 2 the difference is convex between the points where neighbouring tangents cross, and
    largest at one of them.  For K >= 3 round q at random to multiples of 1 / levels, each entry
    to one of the two next to it, with mean q: the least divergence is at most the mean one, which
    is a sum over the entries of what linear interpolation of -t log t misses.

    Source: Proposition ``prop-cross-entropy-bracket`` (chapter 6).
    """
    tangents = _tangents(outputs, levels)
    if levels == 1:
        return math.log(outputs)
    if outputs == 2:
        p = tangents[:, 1]
        height = entr(tangents).sum(axis=1)
        t = -np.diff(height) / np.diff(p)  # where neighbours cross
        return float((np.logaddexp(0.0, t) - p[1:] * t - height[1:]).max())
    first, inner = 1 / (math.e * levels), levels // outputs
    largest = 1 / (8 * levels * inner) if inner else first
    return min(math.log(outputs), (outputs - 1) * first + largest)


class ValueBracket(NamedTuple):
    """lower <= value <= upper, and the gap of the pieces that were used."""

    lower: float
    upper: float
    gap: float


def cross_entropy_value(
    net: relu.Network,
    X: ArrayLike,
    y: ArrayLike,
    radius: float,
    p: float,
    norm: float,
    *,
    levels: int = 10,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> ValueBracket:
    r"""Bracket of the distributionally robust cross-entropy V_p of a ReLU network, two inputs.

    V_p[pieces] <= V_p[CE] <= V_p[pieces] + gap, where V_p[pieces] is computed by
    :func:`advreg.wdro_networks.planar`.

    Parameters
    ----------
    net : relu.Network
        Two inputs.
    X, y : arrays, shapes (n, 2) and (n,)
        Samples and labels.
    radius, p, norm
        Wasserstein radius, order, and norm in which inputs move.
    levels : int
        See :func:`cross_entropy_pieces`.
    low, high : float or array, optional
        A box of admissible inputs; by default the plane.

    Returns
    -------
    ValueBracket
        Mean losses.  `lower` is the value of a distribution, or a limit of such values, `upper`
        a dual bound plus the gap.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy_pieces` and :func:`advreg.wdro_networks.planar`.

    Notes
    -----
    Source: Proposition ``prop-cross-entropy-bracket`` (chapter 6).
    """
    K = relu._network(net).outputs
    gap = cross_entropy_gap(K, levels)
    plane = wdro_networks.planar(
        net,
        X,
        y,
        norm,
        loss=lambda label: cross_entropy_pieces(K, label, levels),
        low=low,
        high=high,
    )
    value = plane.value(radius, p)
    return ValueBracket(float(value.lower), float(value.upper) + gap, gap)
