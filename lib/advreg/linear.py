r"""Linear models f(x) = w . x + b under attack: exact risks, exact training, exact thresholds.

An attack replaces x by x + eta with ||eta|| <= delta (the notebooks write e for eta, and b_0
for the intercept b).  For a linear model the worst case is known in closed form, so nothing of
this module searches for perturbations (:func:`pgd_fit`, the usual search, is here to be
compared with):

    margin losses     sup l(y f(x + eta))    = l(y f(x) - delta ||w||_*),
    residual losses   sup |y - f(x + eta)|^k = (|y - f(x)| + delta ||w||_*)^k,   k = 1, 2.

Throughout, `norm` is the norm of the ATTACK, one of 1, 2 and ``numpy.inf``; the weights are
measured in its dual ||w||_* (max |w_j|, Euclidean, sum |w_j|).  X has one sample per row.
Everything is float64; integers and other floating types are converted, complex numbers refused.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.optimize import linprog, minimize
from scipy.special import entr, expit, log_expit, logsumexp

from advreg._checks import finite, ground_norm, integer, number
from advreg._interior_point import InteriorPoint

__all__ = [
    "LOSSES",
    "Fit",
    "adversarial_risk",
    "aggregate_hinge",
    "collapse_radius",
    "crammer_singer_risk",
    "cross_entropy_risk",
    "dual_norm",
    "fit",
    "interpolation_threshold",
    "min_norm_interpolator",
    "pairwise_bound",
    "pgd_fit",
    "worst_perturbation",
    "zero_threshold",
]

Array = NDArray[np.float64]

LOSSES = ("hinge", "logistic", "exponential", "squared", "absolute")
MARGIN_LOSSES = LOSSES[:3]  # functions of y f(x), labels -1 and 1; the others of y - f(x)
SMOOTH = ("logistic", "exponential")
DUAL = {1: np.inf, 2: 2, np.inf: 1}


class Fit(NamedTuple):
    """A trained model: weights, intercept, its adversarial risk, and how far from optimal.

    No model has a risk below `risk` - `gap`; `gap` is NaN where nothing is certified
    (:func:`pgd_fit`).
    """

    w: Array
    b: float
    risk: float
    gap: float


# ------------------------------------------------------------------------------- checks


def _loss(loss: str) -> str:
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; accepted are {', '.join(LOSSES)}")
    return loss


def _matrix(X: ArrayLike) -> Array:
    matrix = finite(X, "X")
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(
            f"X must have one row per sample and one column per feature, got shape {matrix.shape}"
        )
    return matrix


def _vector(values: ArrayLike, name: str, size: int, per: str) -> Array:
    vector = finite(values, name)
    if vector.shape != (size,):
        raise ValueError(
            f"{name} must have one entry per {per}, shape ({size},); got {vector.shape}"
        )
    return vector


def _data(X: ArrayLike, y: ArrayLike, labels: bool) -> tuple[Array, Array]:
    X = _matrix(X)
    y = _vector(y, "y", X.shape[0], "row of X")
    if labels and not (np.abs(y) == 1).all():
        raise ValueError("for a loss of the margin every label in y must be -1 or 1")
    return X, y


# ------------------------------------------------------------------------------- risks


def dual_norm(w: ArrayLike, norm: float) -> Array:
    r"""Dual of the attack norm: ||w||_* = max of w . eta over ||eta|| <= 1.

    Parameters
    ----------
    w : array, shape (..., d)
        Weights; leading axes are kept.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.  The dual is max |w_j| for 1, Euclidean for 2, sum |w_j| for inf.

    Returns
    -------
    array, shape (...), float64
        A number of type float64 if w has one axis.

    Raises
    ------
    TypeError
        If `w` is complex or not numeric.
    ValueError
        If an entry of `w` is not finite, or `norm` is not one of the three.
    """
    return np.linalg.norm(finite(w, "w"), ord=DUAL[ground_norm(norm)], axis=-1)


def worst_perturbation(w: ArrayLike, norm: float) -> Array:
    r"""Direction eta of length ||eta|| = 1 with w . eta = ||w||_*.

    The worst perturbation of a sample with label y is -delta y eta, and for a loss of the
    residual r = y - f(x) it is -delta sign(r) eta (either sign if r = 0).

    Parameters
    ----------
    w : array, shape (d,)
        Weights.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.

    Returns
    -------
    array, shape (d,), float64
        sign(w) for inf; w / ||w|| for 2; one signed unit vector, of the first largest |w_j|,
        for 1.  All zeros if w = 0, which no perturbation moves.

    Raises
    ------
    TypeError
        If `w` is complex or not numeric.
    ValueError
        If `w` is not a vector of finite numbers, or `norm` is not one of the three.
    """
    w = finite(w, "w")
    if w.ndim != 1:
        raise ValueError(f"w must be a vector, got shape {w.shape}")
    if ground_norm(norm) == np.inf:
        return np.sign(w)
    if norm == 2:
        length = np.linalg.norm(w)
        return w / length if length else np.zeros_like(w)
    eta = np.zeros_like(w)
    if w.any():
        j = int(np.argmax(np.abs(w)))
        eta[j] = np.sign(w[j])
    return eta


def _values(a: Array, y: Array, penalty: float | Array, loss: str) -> Array:
    """Worst loss of each sample, from the model's outputs a and penalty = delta ||w||_*."""
    if loss == "squared":
        return (np.abs(y - a) + penalty) ** 2
    if loss == "absolute":
        return np.abs(y - a) + penalty
    z = y * a - penalty
    if loss == "hinge":
        return np.maximum(1 - z, 0)
    if loss == "logistic":
        return -log_expit(z)
    with np.errstate(over="ignore"):
        return np.exp(-z)


def adversarial_risk(
    w: ArrayLike, b: float, X: ArrayLike, y: ArrayLike, delta: ArrayLike, norm: float, loss: str
) -> float | Array:
    r"""Mean over the samples of the worst loss within ||eta|| <= delta, exactly.

    (1/n) sum l(y_i f(x_i) - delta ||w||_*) for the margin losses l(m) = max(1 - m, 0)
    ("hinge"), log(1 + exp(-m)) ("logistic"), exp(-m) ("exponential"), and
    (1/n) sum (|y_i - f(x_i)| + delta ||w||_*)^k for "absolute" (k = 1) and "squared" (k = 2).

    Parameters
    ----------
    w : array, shape (d,)
        Weights.
    b : float
        Intercept.
    X : array, shape (n, d)
        One sample per row.
    y : array, shape (n,)
        Labels -1 and 1 for the margin losses, real targets for the others.
    delta : float or array
        Attack radius in the units of X, at least 0; an array gives one risk per radius.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.
    loss : str
        One of `LOSSES`.

    Returns
    -------
    float, or array of the shape of `delta`

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, delta is negative, a label is not -1 or 1, or
        the norm or the loss is unknown.

    Notes
    -----
    Source: Theorems ``thm-margin-risk`` and ``thm-residual-risk`` (chapter 3).  The loss
    need not be convex for the formula, but those of `LOSSES` are.
    """
    X, y = _data(X, y, _loss(loss) in MARGIN_LOSSES)
    w = _vector(w, "w", X.shape[1], "column of X")
    b, deltas = number(b, "b", -math.inf), finite(delta, "delta", least=0.0)
    penalty = deltas[..., None] * dual_norm(w, norm)
    risk = _values(X @ w + b, y, penalty, loss).mean(axis=-1)
    return risk if deltas.ndim else float(risk)


def aggregate_hinge(margins: ArrayLike, dual_norm: float, budget: float) -> float | Array:
    r"""Largest total hinge loss when the samples share one budget sum ||eta_i|| <= c.

    sum (1 - m_i)_+ + (c ||w||_* - (min_i m_i - 1)_+)_+: all the budget goes to the sample
    with the least margin.

    Parameters
    ----------
    margins : array, shape (..., n)
        Clean margins m_i = y_i f(x_i).
    dual_norm : float
        ||w||_*, at least 0: see :func:`dual_norm`.
    budget : float
        Total length c of all perturbations together, at least 0.

    Returns
    -------
    float, or array of the leading shape of `margins`
        A total, not a mean.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If `margins` is empty or not finite, or the other two are negative.

    Notes
    -----
    Source: Proposition ``prop-shared-budget`` (chapter 3).  The maximum equals the clean loss
    plus c ||w||_* if and only if min m_i <= 1 or c ||w||_* = 0.
    """
    m = finite(margins, "margins")
    if not m.ndim or not m.shape[-1]:
        raise ValueError("margins must hold at least one margin")
    reach = number(budget, "budget", 0.0) * number(dual_norm, "dual_norm", 0.0)
    extra = np.maximum(reach - np.maximum(m.min(axis=-1) - 1, 0), 0)
    total = np.maximum(1 - m, 0).sum(axis=-1) + extra
    return total if m.ndim > 1 else float(total)


# ------------------------------------------------------------------------------- several classes


def _classes(
    W: ArrayLike, b: ArrayLike, X: ArrayLike, y: ArrayLike
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Weights, logits and labels, checked."""
    X, W = _matrix(X), finite(W, "W")
    if W.ndim != 2 or W.shape[0] < 2 or W.shape[1] != X.shape[1]:
        raise ValueError(
            f"W must have one row per class (two at least) and one column per feature, "
            f"shape (K, {X.shape[1]}); got {W.shape}"
        )
    b = finite(b, "b")
    if b.shape not in ((), (W.shape[0],)):
        raise ValueError(f"b must be one number per class, shape ({W.shape[0]},); got {b.shape}")
    y = _vector(y, "y", X.shape[0], "row of X")
    if not np.isin(y, np.arange(W.shape[0])).all():
        raise ValueError(f"every label in y must be a class number from 0 to {W.shape[0] - 1}")
    return W, X @ W.T + b, y.astype(np.intp)


def _shifts(W: Array, norm: float) -> Array:
    """Points whose convex hull is {W eta: ||eta|| <= 1}, up to a common shift of all logits."""
    d = W.shape[1]
    if norm == 1:
        return np.concatenate([W.T, -W.T])
    if norm == 2:
        if W.shape[0] > 2:
            raise ValueError(
                "under the Euclidean attack the worst cross-entropy of three or more classes is a "
                "maximum over an ellipsoid without a closed form; pairwise_bound is an upper bound"
            )
        half = np.linalg.norm(W[1] - W[0]) / 2
        return np.array([[-half, half], [half, -half]])
    relative = W - W[0]  # a common shift of the logits changes no loss
    if W.shape[0] == 2:
        half = np.abs(relative[1]).sum() / 2
        return np.array([[-half, half], [half, -half]])
    if W.shape[0] == 3:
        return _polygon(relative)
    if d > 16:
        raise ValueError(
            f"for four or more classes under the attack in the largest entry the maximum runs "
            f"over the 2^d corners of the cube, so at most 16 features are accepted, got {d}; "
            f"pairwise_bound is an upper bound"
        )
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    return corners @ W.T


def _polygon(relative: Array) -> Array:
    """Corners of {relative @ eta: |eta_j| <= 1}, a polygon with 2 d corners: sort by angle."""
    sides = relative.T
    flip = (sides[:, 1] < 0) | ((sides[:, 1] == 0) & (sides[:, 2] < 0))
    sides = np.where(flip[:, None], -sides, sides)
    sides = sides[np.argsort(np.arctan2(sides[:, 2], sides[:, 1]))]
    half = 2 * np.cumsum(sides, axis=0) - sides.sum(axis=0)
    return np.concatenate([half, -half])


def cross_entropy_risk(
    W: ArrayLike, b: ArrayLike, X: ArrayLike, y: ArrayLike, delta: float, norm: float
) -> float:
    r"""Mean worst cross-entropy of a linear classifier with K classes, where it is computable.

    (1/n) sum over i of the maximum over ||eta|| <= delta of log sum_k exp(z_k - z_{y_i}),
    z = W (x_i + eta) + b.  The maximum of a convex function over a polytope is at a corner:
    2 d corners for the attack norm 1; for inf two classes have a formula, three classes a
    polygon with 2 d corners, and more classes the 2^d corners of the cube, d <= 16.  For 2 two
    classes have a formula, and more are refused.

    Parameters
    ----------
    W : array, shape (K, d)
        One row of weights per class.
    b : array, shape (K,)
        Intercepts; one number for all is accepted.
    X : array, shape (n, d)
        One sample per row.
    y : array of integers, shape (n,)
        Class numbers 0 to K - 1.
    delta : float
        Attack radius, at least 0.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, delta is negative, a label is no class, the
        norm is unknown, or the maximum is out of reach: norm 2 with K > 2, and norm inf with
        K > 3 and d > 16.

    Notes
    -----
    Source: Theorem ``thm-multiclass`` (chapter 3).
    """
    W, z, y = _classes(W, b, X, y)
    delta = number(delta, "delta", 0.0)
    shifts = delta * _shifts(W, ground_norm(norm))
    rows = np.arange(y.size)
    worst = np.full(y.size, -np.inf)
    step = max(1, 2**20 // z.size)  # at most about 8 MB at a time
    for start in range(0, len(shifts), step):
        moved = z + shifts[start : start + step, None, :]
        losses = logsumexp(moved, axis=-1) - moved[:, rows, y]
        worst = np.maximum(worst, losses.max(axis=0))
    return float(worst.mean())


def _pairwise(W: Array, z: Array, y: NDArray[np.intp], delta: float, norm: float) -> Array:
    """z_k - z_y + delta ||w_k - w_y||_*, shape (n, K): the worst lead of each class."""
    lengths = dual_norm(W[:, None, :] - W[None, :, :], norm)
    return z - z[np.arange(y.size), y][:, None] + delta * lengths[y]


def pairwise_bound(
    W: ArrayLike, b: ArrayLike, X: ArrayLike, y: ArrayLike, delta: float, norm: float
) -> float:
    r"""Upper bound of the worst cross-entropy that lets every rival class attack on its own.

    (1/n) sum log sum_k exp(z_k - z_y + delta ||w_k - w_y||_*).  It is exact for two classes,
    and where one perturbation is the worst one for every rival at once.

    Parameters, returns and errors are those of :func:`cross_entropy_risk`, but no case is
    out of reach.

    Notes
    -----
    Source: Theorem ``thm-multiclass`` (chapter 3).
    """
    W, z, y = _classes(W, b, X, y)
    leads = _pairwise(W, z, y, number(delta, "delta", 0.0), ground_norm(norm))
    return float(logsumexp(leads, axis=1).mean())


def crammer_singer_risk(
    W: ArrayLike, b: ArrayLike, X: ArrayLike, y: ArrayLike, delta: float, norm: float
) -> float:
    r"""Mean worst hinge loss of Crammer and Singer, exactly, for every K, d and norm.

    (1/n) sum max(0, max_{k != y} 1 + z_k - z_y + delta ||w_k - w_y||_*): the maxima over the
    rival k and over the perturbation commute, so the pairwise norms are exact.

    Parameters, returns and errors are those of :func:`cross_entropy_risk`, but no case is
    out of reach.

    Notes
    -----
    Source: Theorem ``thm-multiclass`` (chapter 3).
    """
    W, z, y = _classes(W, b, X, y)
    leads = _pairwise(W, z, y, number(delta, "delta", 0.0), ground_norm(norm)) + 1
    leads[np.arange(y.size), y] = 0
    return float(leads.max(axis=1).mean())


# ------------------------------------------------------------------------------- thresholds


def collapse_radius(X: ArrayLike, y: ArrayLike, norm: float) -> float:
    r"""Least radius at which w = 0 minimizes every margin risk without intercept: ||mean y x||.

    For a convex, nonincreasing loss l that is differentiable at 0 with l'(0) < 0 the model
    w = 0 is optimal if and only if delta >= ||(1/n) sum y_i x_i||, in the attack norm.  With an
    intercept the radius is another one: half the distance of the class means, in that norm.

    Parameters
    ----------
    X : array, shape (n, d)
        One sample per row.
    y : array, shape (n,)
        Labels -1 and 1.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, a label is not -1 or 1, or the norm is unknown.

    Notes
    -----
    Source: Theorem ``thm-collapse`` (chapter 3).
    """
    X, y = _data(X, y, True)
    return float(np.linalg.norm(y @ X / y.size, ord=ground_norm(norm)))


def zero_threshold(X: ArrayLike, y: ArrayLike, norm: float) -> float:
    r"""Least radius at which w = 0 minimizes the squared risk without intercept.

    It is ||X^T y|| / ||y||_1, the numerator in the attack norm.

    Parameters
    ----------
    X : array, shape (n, d)
        One sample per row.
    y : array, shape (n,)
        Targets, not all zero.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, y = 0, or the norm is unknown.

    Notes
    -----
    Source: Theorem ``thm-interpolation-threshold`` (chapter 3).
    """
    X, y = _data(X, y, False)
    return float(np.linalg.norm(_nonzero(y) @ X, ord=ground_norm(norm)) / np.abs(y).sum())


def _nonzero(y: Array) -> Array:
    if not y.any():
        raise ValueError("every target in y is zero, so w = 0 interpolates for every radius")
    return y


def _program(cost: Array, **constraints) -> Array:
    solution = linprog(cost, method="highs", **constraints)
    if solution.status:
        raise RuntimeError(f"the linear program was not solved: {solution.message}")
    return solution.x


def _interpolates(X: Array) -> None:
    if np.linalg.matrix_rank(X) < X.shape[0]:
        raise ValueError(
            f"X must have full row rank for every target to be interpolated; its {X.shape[0]} "
            f"rows have rank {np.linalg.matrix_rank(X)}"
        )


def min_norm_interpolator(X: ArrayLike, y: ArrayLike, norm: float) -> Array:
    r"""A vector w with X w = y exactly and the least ||w||_*.

    For the attack norm 2 it is X^T (X X^T)^{-1} y; for inf (least sum |w_j|) and 1 (least
    max |w_j|) a linear program gives one, and there may be others of the same norm.

    Parameters
    ----------
    X : array, shape (n, d)
        One sample per row, of full row rank.
    y : array, shape (n,)
        Targets.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.

    Returns
    -------
    array, shape (d,), float64

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, X is not of full row rank, or the norm is
        unknown.

    Notes
    -----
    Source: Theorem ``thm-interpolation-threshold`` (chapter 3).
    """
    X, y = _data(X, y, False)
    ground_norm(norm)
    _interpolates(X)
    n, d = X.shape
    if norm == 2 or not y.any():
        return np.linalg.lstsq(X, y, rcond=None)[0]
    scale = np.abs(y).max()
    if norm == np.inf:
        parts = _program(np.ones(2 * d), A_eq=np.hstack([X, -X]), b_eq=y / scale)
        return scale * (parts[:d] - parts[d:])
    # 0 <= w_j + p <= 2 p, with p last
    eye, one = np.eye(d), np.ones((d, 1))
    cost = np.append(np.zeros(d), 1.0)
    rows = np.block([[eye, -one], [-eye, -one]])
    free = [(None, None)] * d + [(0, None)]
    equal = np.hstack([X, np.zeros((n, 1))])
    w = _program(cost, A_ub=rows, b_ub=np.zeros(2 * d), A_eq=equal, b_eq=y / scale, bounds=free)
    return scale * w[:d]


def interpolation_threshold(X: ArrayLike, y: ArrayLike, norm: float) -> float:
    r"""Largest radius at which interpolating the data minimizes the squared risk.

    Without intercept, a minimum-norm interpolator (:func:`min_norm_interpolator`) minimizes
    (1/n) sum (|y_i - w . x_i| + delta ||w||_*)^2 if and only if
    delta <= 1 / (n min ||alpha||_inf), the minimum over all solutions alpha of the dual
    problem: maximize alpha . y subject to ||X^T alpha|| <= 1 in the attack norm.

    Parameters
    ----------
    X : array, shape (n, d)
        One sample per row, of full row rank.
    y : array, shape (n,)
        Targets, not all zero.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, y = 0, X is not of full row rank, or the norm
        is unknown.

    Notes
    -----
    Source: Theorem ``thm-interpolation-threshold`` (chapter 3).  The dual may have many
    solutions; they are the alpha with X^T alpha in the subdifferential of ||.||_* at one
    minimum-norm interpolator, whichever, so that a second linear program finds the one with
    the least largest entry.
    """
    X, y = _data(X, y, False)
    w = min_norm_interpolator(X, _nonzero(y), norm)
    n, d = X.shape
    if norm == 2:
        alpha = np.linalg.solve(X @ X.T, y) / np.linalg.norm(w)
        return float(1 / (n * np.abs(alpha).max()))
    size = np.abs(w)
    cost = np.append(np.zeros(n), 1.0)
    bounds = [(None, None)] * n + [(0, None)]
    eye, one = np.eye(n), np.ones((n, 1))
    rows, limits = np.block([[eye, -one], [-eye, -one]]), np.zeros(2 * n)
    if norm == np.inf:
        on = size > 1e-9 * size.max()
        equal, values = X[:, on].T, np.sign(w[on])
        off = X[:, ~on].T
        pad = np.zeros((off.shape[0], 1))
        rows = np.vstack([rows, np.hstack([off, pad]), np.hstack([-off, pad])])
        limits = np.append(limits, np.ones(2 * off.shape[0]))
    else:
        top = size > (1 - 1e-9) * size.max()
        signed = X[:, top].T * np.sign(w[top])[:, None]
        equal = np.vstack([X[:, ~top].T, signed.sum(axis=0)])
        values = np.append(np.zeros(d - signed.shape[0]), 1.0)
        rows = np.vstack([rows, np.hstack([-signed, np.zeros((signed.shape[0], 1))])])
        limits = np.append(limits, np.zeros(signed.shape[0]))
    equal = np.hstack([equal, np.zeros((equal.shape[0], 1))])
    # alpha carries the units of 1 / X: bring its entries near 1
    unit = np.abs(X).max()
    rows, equal = np.copy(rows), equal / unit
    rows[2 * n :] /= unit
    least = _program(cost, A_ub=rows, b_ub=limits, A_eq=equal, b_eq=values, bounds=bounds)[-1]
    return float(unit / (n * least))


# ------------------------------------------------------------------------------- training


def fit(
    X: ArrayLike,
    y: ArrayLike,
    delta: float,
    norm: float,
    loss: str,
    *,
    intercept: bool = True,
    tol: float = 1e-10,
) -> Fit:
    r"""Adversarial training, solved: the w and b of least :func:`adversarial_risk`.

    The problem is convex.  A primal-dual interior-point method solves it for all five losses
    and all three norms in some ten to thirty Newton steps of about n d^2 operations; for the
    smooth margin losses under the attacks 2 and inf, and a `tol` above 1e-9, L-BFGS-B tries first.

    Parameters
    ----------
    X : array, shape (n, d)
        One sample per row.
    y : array, shape (n,)
        Labels -1 and 1 for the margin losses, real targets for the others.
    delta : float
        Attack radius in the units of X, at least 0.
    norm : 1, 2 or numpy.inf
        Norm of the ATTACK.
    loss : str
        One of `LOSSES`.
    intercept : bool
        Whether b is trained; without, b = 0.
    tol : float
        Accuracy wanted of the risk, as a share of the risk of the best constant model.

    Returns
    -------
    Fit
        ``w``, ``b``, the adversarial risk ``risk``, and ``gap``: the least risk possible is
        certified to lie in [risk - gap, risk].

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, delta is negative, tol is not positive, a label
        is not -1 or 1, the norm or the loss is unknown; or if the risk has no minimizer: a
        logistic or exponential loss on data that some model separates even under attack (its
        multiples bring the risk to 0 without end).
    RuntimeError
        If the gap could not be brought below max(tol, 1e-8) times the risk of the best
        constant model.

    Notes
    -----
    Source: Theorems ``thm-margin-risk`` and ``thm-residual-risk`` (chapter 3).

    The certificate is weak duality.  Margin losses: for all s_i >= 0 with

        ||sum s_i y_i x_i|| <= delta sum s_i    and, with an intercept,    sum s_i y_i = 0,

    l(z) >= -s z - l*(-s) makes -(1/n) sum l*(-s_i) a lower bound of every risk, with the
    convex conjugate l*.  Residual losses: for all alpha (with sum alpha_i = 0 if there is an
    intercept) and c_i >= |alpha_i|, sum c_i >= ||X^T alpha|| / delta,

        (1/n) sum (alpha_i y_i - c_i^2 / 4)   (squared),   (1/n) sum alpha_i y_i  (absolute, c = 1)

    is one.  The multipliers of the last Newton steps, moved into these sets, give `gap`; it is
    computed in float64, so rounding errors of about 1e-15 of the risk are not in it.
    """
    X, y = _data(X, y, _loss(loss) in MARGIN_LOSSES)
    delta, norm = number(delta, "delta", 0.0), ground_norm(norm)
    tol = number(tol, "tol", 0.0, strict=True)
    problem = Problem(X, y, delta, norm, loss, intercept)
    return problem.solve(tol)


class Problem:
    """One training problem: exact risks, lower bounds by duality, the best constant model."""

    def __init__(self, X, y, delta, norm, loss, intercept):
        self.X, self.y, self.delta, self.norm = X, y, delta, norm
        self.loss, self.intercept = loss, intercept
        self.margin = loss in MARGIN_LOSSES
        # centred features change b alone, and the Newton matrix for the better
        self.shift = X.mean(axis=0) if intercept else np.zeros(X.shape[1])
        self.Z = X - self.shift
        if delta == 0:  # nothing ties w down: stay in the row space, in orthonormal coordinates
            u, s, vt = np.linalg.svd(self.Z, full_matrices=False)
            keep = s > np.linalg.norm(X) * max(X.shape) * np.finfo(float).eps
            self.Z, self.back = u[:, keep], vt[keep].T / s[keep]
        self.length = np.linalg.norm(self.Z, ord=norm, axis=1) if delta else np.zeros(y.size)
        self.feasible: list[tuple[Array, float]] = []
        self.inside = True

    def penalty(self, w: Array) -> float:
        return self.delta * float(dual_norm(w, self.norm)) if self.delta else 0.0

    def mean_loss(self, outputs: Array, penalty: float) -> float:
        return float(_values(outputs, self.y, penalty, self.loss).mean())

    def risk(self, w: Array, b: float) -> float:
        """Exact risk of a model of the centred features."""
        return self.mean_loss(self.Z @ w + b, self.penalty(w))

    def bound(self, s: Array) -> float:
        """A lower bound of every risk from multipliers s (signed for the residual losses)."""
        return self._bound_margin(s) if self.margin else self._bound_residual(s)

    def _attack(self, alpha: Array) -> float:
        return float(np.linalg.norm(alpha @ self.Z, ord=self.norm))

    def _bound_residual(self, alpha: Array) -> float:
        before = np.abs(alpha).max()
        for _ in range(2):  # the second time for the rounding of the first
            if self.intercept:
                alpha = alpha - alpha.mean()
            if not self.delta:
                alpha = alpha - self.Z @ (alpha @ self.Z)
        gain = alpha @ self.y
        # what is left may be nothing but rounding, which the quotients below would magnify
        if gain <= 0 or np.abs(alpha).max() < 1e-9 * before:
            return 0.0
        need = self._attack(alpha) / self.delta if self.delta else 0.0
        if self.loss == "absolute":
            return float(gain / max(alpha.size * np.abs(alpha).max(), need))
        return float(gain**2 / (alpha.size * (_filled(np.abs(alpha), need) ** 2).sum()))

    def _bound_margin(self, s: Array) -> float:
        y, top = self.y, np.inf if self.loss == "exponential" else 1.0
        s = np.clip(s, 0.0, top)
        if not self.delta:
            s = y * s - self.Z @ ((y * s) @ self.Z)
            s = y * (s - s.mean() if self.intercept else s)
            outside = max(-s.min(), s.max() - top)
            return self._conjugate(np.clip(s, 0.0, top)) if outside < 1e-13 else -np.inf
        if self.intercept:
            plus, minus = s[y > 0].sum(), s[y < 0].sum()
            if not min(plus, minus):
                return 0.0
            s = np.where(y > 0, s * min(1.0, minus / plus), s * min(1.0, plus / minus))
        excess = self._attack(s * y) - self.delta * s.sum()
        self.inside = excess <= 8 * np.finfo(float).eps * (s @ self.length)  # 0 but for rounding
        if self.inside:
            self.feasible = [*self.feasible[-3:], (s, min(excess, 0.0))]
            return self._conjugate(s)
        best = 0.0  # that of s = 0
        for inner, slack in self.feasible:  # the set is convex: mix with a point inside
            share = excess / (excess - slack)
            best = max(best, self._conjugate((1 - share) * s + share * inner))
        return best

    def _conjugate(self, s: Array) -> float:
        """-(1/n) sum l*(-s_i)."""
        if self.loss == "hinge":
            return float(s.mean())
        if self.loss == "logistic":
            return float((entr(s) + entr(1 - s)).mean())
        return float((entr(s) + s).mean())

    def constant(self) -> tuple[float, Array]:
        """Intercept of the best model with w = 0, and its multipliers."""
        y, loss = self.y, self.loss
        if not self.margin:
            b = 0.0
            if self.intercept:
                b = float(np.median(y) if loss == "absolute" else y.mean())
            r = y - b
            if loss == "squared":
                return b, 2 * r
            alpha, ties = np.sign(r), r == 0
            if self.intercept and ties.any():
                alpha[ties] = np.clip(-alpha.sum() / ties.sum(), -1, 1)
            return b, alpha
        if not self.intercept:
            return 0.0, np.full(y.size, 0.5 if loss == "logistic" else 1.0)
        plus = int((y > 0).sum())
        minus = y.size - plus
        if loss == "hinge":
            b = float(np.sign(plus - minus))
            return b, np.where(y == b, min(plus, minus) / max(plus, minus), 1.0)
        if not min(plus, minus):
            raise ValueError(self.endless())
        b = math.log(plus / minus) / (2 if loss == "exponential" else 1)
        return b, expit(-y * b) if loss == "logistic" else np.exp(-y * b)

    def endless(self) -> str:
        return (
            f"the {self.loss} risk has no minimizer: some model classifies every sample "
            f"correctly under every attack of size {self.delta:g}, and its multiples bring the "
            f"risk to 0 without end; take a larger delta"
        )

    def solve(self, tol: float) -> Fit:
        b, s = self.constant()
        w = np.zeros(self.Z.shape[1])
        zero, low = self.risk(w, b), self.bound(s)
        wanted = tol * zero
        if zero - low > wanted:
            start = b
            w, b, low = self._descend(start) if tol > 1e-9 else (w, b, -np.inf)
            if not self.risk(w, b) - low <= wanted:
                w, b, low = InteriorPoint(self, start).run(zero, wanted)
                w = self._snapped(w, b, max(low + wanted, self.risk(w, b)))
        if not self.delta:
            w = self.back @ w
        b = float(b - w @ self.shift) if self.intercept else 0.0
        risk = adversarial_risk(w, b, self.X, self.y, self.delta, self.norm, self.loss)
        if not risk - low <= max(wanted, 1e-8 * zero):
            raise RuntimeError(
                f"the optimum was not certified: the gap is {risk - low:.1e} at a risk of "
                f"{risk:.6g}; rescale the features, or change delta slightly"
            )
        return Fit(w, b, risk, max(risk - low, 0.0))

    def _descend(self, b: float) -> tuple[Array, float, float]:
        """A quick attempt by L-BFGS-B: weights, intercept, and the lower bound that they yield.

        Against the attack inf it runs on w = u - v with u, v >= 0, where ||w||_* is linear, the
        sum of u + v; against the attack 2 on w itself, where ||w||_* is smooth but for w = 0.
        """
        n, k = self.Z.shape
        if not (self.delta and self.norm in (2, np.inf) and self.loss in SMOOTH):
            return np.zeros(k), b, -np.inf
        signed, split = self.y[:, None] * self.Z, self.norm == np.inf

        def weights(v: Array) -> Array:
            return v[:k] - v[k:-1] if split else v[:-1]

        def length(v: Array) -> float:
            return float(v[:-1].sum() if split else np.linalg.norm(v[:-1]))

        def margins(v: Array) -> Array:
            return signed @ weights(v) + v[-1] * self.y - self.delta * length(v)

        def slope(z: Array) -> Array:
            return expit(-z) if self.loss == "logistic" else np.exp(-z)

        def risk_and_gradient(v: Array) -> tuple[float, Array]:
            z = margins(v)
            s = slope(z)
            pull, price = s @ signed, self.delta * s.sum()
            if split:
                pull, growth = np.concatenate([pull, -pull]), np.ones(2 * k)
            else:
                growth = v[:-1] / max(length(v), np.finfo(float).tiny)
            gradient = np.append(price * growth - pull, -(s @ self.y)) / n
            return float(_values(z, np.ones(n), 0.0, self.loss).mean()), gradient

        signs = [(0, None)] * (2 * k) if split else [(None, None)] * k
        v = minimize(
            risk_and_gradient,
            np.append(np.zeros(len(signs)), b),
            jac=True,
            method="L-BFGS-B",
            bounds=[*signs, (None, None) if self.intercept else (0, 0)],
            options={"maxiter": 100, "maxcor": 20, "gtol": 1e-10, "ftol": 1e-16},
        ).x
        z = margins(v)
        if z.min() > 0:
            raise ValueError(self.endless())
        return weights(v), float(v[-1]), self._repaired_bound(slope(z), signed)

    def _repaired_bound(self, s: Array, signed: Array) -> float:
        """Lower bound from multipliers that miss their constraint ||sum s_i y_i x_i|| <=
        delta sum s_i by little: after the least change that meets it where it is tight."""
        pull, most = s @ signed, self.delta * s.sum()
        if self.norm == 2:
            columns = (signed @ pull / (np.linalg.norm(pull) or 1.0) - self.delta)[:, None]
        else:
            tight = np.abs(pull) > 0.999 * most
            columns = np.sign(pull[tight]) * signed[:, tight] - self.delta
        change = np.minimum(-1e-12 * most - s @ columns, 0.0)
        if self.intercept:
            columns, change = np.column_stack([columns, self.y]), np.append(change, -s @ self.y)
        try:
            s = s + columns @ linalg.cho_solve(linalg.cho_factor(columns.T @ columns), change)
        except linalg.LinAlgError:  # two features are copies of each other
            return -np.inf
        return self.bound(s)

    def _snapped(self, w: Array, b: float, allowed: float) -> Array:
        """Interior points end near the kinks of ||w||_*: go there if the risk allows it."""
        size = np.abs(w)
        if not self.delta or self.norm == 2:
            return w
        for share in (1e-3, 1e-5, 1e-7):
            if self.norm == np.inf:
                near = np.where(size > share * size.max(), w, 0.0)
            else:
                near = np.where(size > (1 - share) * size.max(), np.sign(w) * size.max(), w)
            if self.risk(near, b) <= allowed:
                return near
        return w


def _filled(size: Array, total: float) -> Array:
    """The c >= size with sum c >= total and least sum c^2: size raised to a common level."""
    if total <= size.sum():
        return size
    rising = np.sort(size)
    level = (total - size.sum() + np.cumsum(rising)) / np.arange(1, size.size + 1)
    # raise the k smallest to one level: k is right once the next one is above it
    return np.maximum(size, level[np.argmax(np.append(rising[1:], np.inf) >= level)])


def pgd_fit(
    X: ArrayLike,
    y: ArrayLike,
    delta: float,
    norm: float,
    loss: str,
    *,
    attack_steps: int = 10,
    step_size: float | None = None,
    epochs: int = 100,
    lr: float = 0.01,
    batch: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool = False,
) -> Fit:
    r"""Adversarial training by search: projected gradient ascent inside, Adam outside.

    What one does for a network, done to a linear model, whose exact answer :func:`fit` gives.
    For every batch the perturbations start at random points of the ball, uniform in it, and
    take `attack_steps` steps uphill, each followed by a projection; a step has the length
    `step_size` in the attack norm (the sign of the gradient for inf, the normalized gradient
    for 2).  Then (w, b), zero at first, take one step of Adam.

    Parameters
    ----------
    X : array, shape (n, d)
        One sample per row.
    y : array, shape (n,)
        Labels -1 and 1 for the margin losses, real targets for the others.
    delta : float
        Attack radius in the units of X, at least 0.
    norm : 2 or numpy.inf
        Norm of the ATTACK.
    loss : str
        One of `LOSSES`.
    attack_steps : int
        Steps of the attack, at least 0: with 0 the training sees random noise.
    step_size : float, optional
        Length of one step of the attack; 2.5 delta / attack_steps by default, which crosses
        the ball from every start.  Beware of delta / attack_steps: from a random start the
        steps end short of the boundary, and the mean loss in the margin is only about 3/4 of
        delta ||w||_1 for norm inf, although every step points the right way.
    epochs : int
        Passes over the data, at least 1.
    lr : float
        Learning rate of Adam.
    batch : int, optional
        Samples per step; all of them by default.
    seed : int
        Of the random starts and of the order of the samples.
    device : str, optional
        As in :func:`advreg.device.choose`; the CPU by default, as the problems are small.
    progress : bool
        Print the exact adversarial risk ten times during training.

    Returns
    -------
    Fit
        ``w``, ``b`` and the EXACT adversarial risk of this model; ``gap`` is NaN, as search
        certifies nothing.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, a parameter is out of its range, a label is not
        -1 or 1, the loss is unknown, or the norm is not 2 or numpy.inf.
    """
    X, y = _data(X, y, _loss(loss) in MARGIN_LOSSES)
    delta, lr = number(delta, "delta", 0.0), number(lr, "lr", 0.0, strict=True)
    if ground_norm(norm) == 1:
        raise ValueError("pgd_fit takes the attack norms 2 and numpy.inf; for norm 1 use fit")
    attack_steps = integer(attack_steps, "attack_steps", 0)
    epochs, n = integer(epochs, "epochs", 1), y.size
    batch = n if batch is None else min(integer(batch, "batch", 1), n)
    if step_size is None:
        step_size = 2.5 * delta / max(attack_steps, 1)
    step_size = number(step_size, "step_size", 0.0)

    import torch  # imported here: `import advreg.linear` stays light

    from advreg.device import choose

    where = choose(device or "cpu")
    generator = torch.Generator(device=where).manual_seed(integer(seed, "seed", 0))
    inputs = torch.as_tensor(X, device=where)
    targets = torch.as_tensor(y, device=where)
    w = torch.zeros(X.shape[1], dtype=torch.float64, device=where, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, device=where, requires_grad=True)
    optimizer = torch.optim.Adam([w, b], lr=lr)

    def losses(points, labels):
        outputs = points @ w + b
        if loss == "squared":
            return (labels - outputs) ** 2
        if loss == "absolute":
            return (labels - outputs).abs()
        margins = labels * outputs
        if loss == "hinge":
            return (1 - margins).clamp(min=0)
        if loss == "logistic":
            return torch.nn.functional.softplus(-margins)
        return torch.exp(-margins)

    def attacked(points, labels):
        eta = _uniform(points.shape, delta, norm, generator)
        for _ in range(attack_steps):
            eta.requires_grad_(True)
            (slope,) = torch.autograd.grad(losses(points + eta, labels).sum(), eta)
            eta = eta.detach()
            if norm == np.inf:
                eta = (eta + step_size * slope.sign()).clamp(-delta, delta)
            else:
                length = slope.norm(dim=1, keepdim=True)
                eta = eta + step_size * slope / length.clamp(min=1e-300)
                eta = eta * (delta / eta.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1)
        return points + eta

    def exact():
        weights, bias = w.detach().cpu().numpy().copy(), b.item()
        return weights, bias, adversarial_risk(weights, bias, X, y, delta, norm, loss)

    for epoch in range(epochs):
        order = torch.randperm(n, generator=generator, device=where)
        for start in range(0, n, batch):
            rows = order[start : start + batch]
            points, labels = inputs[rows], targets[rows]
            value = losses(attacked(points, labels), labels).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        if progress and (epoch + 1) % max(1, epochs // 10) == 0:
            print(f"epoch {epoch + 1:6d}: adversarial risk {exact()[2]:.6f}")
    return Fit(*exact(), math.nan)


def _uniform(shape, delta: float, norm: float, generator):
    """Random perturbations, one per row, uniform in the ball."""
    import torch

    kind = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    if norm == np.inf:
        return delta * (2 * torch.rand(shape, **kind) - 1)
    direction = torch.randn(shape, **kind)
    direction /= direction.norm(dim=1, keepdim=True)
    return delta * torch.rand((shape[0], 1), **kind) ** (1 / shape[1]) * direction
