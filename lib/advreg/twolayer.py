r"""Two-layer ReLU networks and their adversarial gap: exact values, dead neurons, swap tests.

A network f with ONE output scores a point; its label is y = +1 or -1, its margin y f(x), and its
loss phi(y f(x)) with phi nonincreasing.  In the ball of radius eps around a datum (x, y)

    worst drop   D = y f(x) - min over ||e|| <= eps of y f(x + e),
    gap          a = phi(y f(x) - D) - phi(y f(x)),

and the adversarial gap of a law P is the mean of a: it is linear in P.  All that is here follows:

* :func:`worst_cases`, :func:`worst_drop`, :func:`gap`, :func:`neuron_gap`: exact, never by PGD;
* :func:`circle_sites`, :func:`dead_network`, :func:`radon_weights`, :func:`separating_site`:
  the networks and laws of the impossibility theorems;
* :func:`tails_from_gaps`, :func:`rebuild`: the data, read off the gaps of single neurons;
* :func:`swap_interval`, :func:`linear_control`: what statistics leave open, by linear programs;
* :func:`penalties`, :func:`max_cut_network`.

Throughout, `norm` is the GROUND norm, that of the attack, one of 1, 2 and ``numpy.inf``; weights
are measured in its dual.  All is float64, and "exact" is meant up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr, solve_triangular
from scipy.optimize import linprog, minimize

from advreg import relu, verify
from advreg._checks import finite, ground_norm, integer, number, real
from advreg.linear import dual_norm
from advreg.relu import Network

__all__ = [
    "Atoms",
    "Interval",
    "Separation",
    "Sites",
    "Tails",
    "WorstCases",
    "bounded_sites",
    "by_class",
    "circle_sites",
    "dead_network",
    "gap",
    "kink_free",
    "linear_control",
    "margin_bins",
    "max_cut",
    "max_cut_network",
    "monomials",
    "neuron_gap",
    "penalties",
    "radon_weights",
    "rebuild",
    "separating_site",
    "swap_interval",
    "tails_from_gaps",
    "worst_cases",
    "worst_drop",
]

Array = NDArray[np.float64]
Loss = str | Callable[[Array], ArrayLike]

NORMS = (1, 2, np.inf)
LOSSES: dict[str, Callable[[Array], Array]] = {
    "linear": lambda t: -t,
    "hinge": lambda t: np.maximum(1 - t, 0.0),
    "logistic": lambda t: np.logaddexp(0.0, -t),
}
ROUNDING = 1e-12  # relative to the terms of a sum
INSIDE = 1e-12  # of the radius: a corner that is farther out is not in the ball
CONSTANT = 1e-14  # relative size of a difference that is rounding
RANK = 1e-11  # relative size of what counts as a dependent row
CLOSED = 1e-6  # relative width of a bracket that is called exact
TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
MOST_ENTRIES = 4_000_000  # of an array, where the work is done in parts
SWEEPS = 12  # over all patterns, before programs
CUTS = 200  # of a ball, where its bound is not smooth
MOST_FREE = 12  # neurons whose patterns are listed, 2^12 of them


# ------------------------------------------------------------------------------- the door


def _score(net: Network) -> Network:
    if not isinstance(net, Network):
        raise TypeError(
            f"net must be a relu.Network (see relu.from_torch), got {type(net).__name__}"
        )
    if net.outputs != 1:
        raise ValueError(
            f"this chapter's networks have one output, the score f(x); this one has "
            f"{net.outputs}.  For two classes take the difference of the outputs, f_1 - f_0"
        )
    return net


def _points(X: ArrayLike, d: int) -> Array:
    X = finite(X, "X")
    if X.ndim != 2 or not len(X) or X.shape[1] != d:
        raise ValueError(
            f"X must have one sample per row, one at least, and {d} columns, the inputs of the "
            f"network; got shape {X.shape}"
        )
    return X


def _labels(y: ArrayLike, n: int) -> Array:
    y = finite(y, "y")
    if y.shape != (n,):
        raise ValueError(f"y must have one label per row of X, shape ({n},); got {y.shape}")
    if not (np.abs(y) == 1).all():
        raise ValueError("labels are -1 or +1 here; labels 0 and 1 become 2 * y - 1")
    return y


def _radius(radius: float) -> float:
    return number(radius, "radius", 0.0, strict=True)


def _fraction(tau: float) -> float:
    tau = number(tau, "tau", 0.0, strict=True)
    if tau >= 1:
        raise ValueError(
            f"tau must lie between 0 and 1 (a neuron with tau >= 1 is out of reach of the attack), "
            f"got {tau}"
        )
    return tau


def _statistics(T: ArrayLike, n: int | None = None) -> Array:
    T = finite(T, "statistics")
    if T.ndim == 1:
        T = T[:, None]
    if T.ndim != 2 or not len(T):
        raise ValueError(
            f"statistics must have one row per point, one at least, and one column per statistic; "
            f"got shape {T.shape}"
        )
    if n is not None and len(T) != n:
        raise ValueError(f"statistics must have one row per gap, {n}; got {len(T)}")
    return T


def _law(weights: ArrayLike | None, n: int) -> Array:
    if weights is None:
        return np.full(n, 1 / n)
    weights = finite(weights, "weights", least=0.0)
    if weights.shape != (n,):
        raise ValueError(
            f"weights must have one entry per point, shape ({n},); got {weights.shape}"
        )
    if abs(weights.sum() - 1) > 1e-9:
        raise ValueError(f"the weights of a law sum to 1, these to {weights.sum():.12g}")
    return weights


def _phi(loss: Loss, margins: Array) -> Array:
    """phi at the margins, which has to be nonincreasing there."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(
                f"unknown loss {loss!r}; accepted are {', '.join(LOSSES)}, or a function"
            )
        return LOSSES[loss](margins)
    if not callable(loss):
        raise TypeError(f"loss must be a name or a function of the margin, got {loss!r}")
    values = real(loss(margins), "loss(margins)")
    if values.shape != margins.shape or not np.isfinite(values).all():
        raise ValueError(
            f"loss must return one finite number per margin, shape {margins.shape}; got shape "
            f"{values.shape}"
        )
    order = np.argsort(margins, kind="stable", axis=None)
    rise = np.diff(values.ravel()[order])
    if rise.size and rise.max() > 1e-12 * (1 + np.abs(values).max()):
        raise ValueError(
            "the loss must be a nonincreasing function of the margin y f(x); this one increases "
            "between two of the margins, so that the worst margin is not its worst case"
        )
    return values


# ------------------------------------------------------------------------------- worst cases


class WorstCases(NamedTuple):
    """Worst drops of the margin, with proof.

    drop <= truth <= upper, where `drop` (n,) is attained at `points` (n, d), which lie in the balls
    up to rounding; `method` says how each was found: "kink-free", "kinks" (one input), "plane" or
    "cells" (two), "span" (few directions matter), "patterns", "program" (MILP).
    """

    drop: Array
    upper: Array
    points: Array
    method: list[str]


def _steepest(g: Array, norm: float) -> Array:
    """e with ||e|| = 1 and g . e = ||g||_*, for every row of g."""
    if norm == np.inf:
        return np.sign(g)
    if norm == 2:
        size = np.linalg.norm(g, axis=-1, keepdims=True)
        return g / np.where(size > 0, size, 1.0)
    e = np.zeros_like(g)
    j = np.abs(g).argmax(axis=-1)[..., None]
    np.put_along_axis(e, j, np.sign(np.take_along_axis(g, j, axis=-1)), axis=-1)
    return e


def _first_layer(net: Network) -> tuple[Array, Array, Array]:
    """W, b, a of a network with one hidden layer; a linear model is one neuron that never dies."""
    if not net.hidden:
        raise ValueError("a linear model has no hidden layer")
    return net.weights[0], net.biases[0], net.weights[1][0]


def _reach(W: Array, radius: float, norm: float) -> Array:
    return radius * dual_norm(W, norm)


def kink_free(net: Network, X: ArrayLike, radius: float, norm: float = np.inf) -> NDArray[np.bool_]:
    r"""Whether no neuron changes its side in the ball around each sample.

    That is |w_j . x + b_j| >= radius ||w_j||_* for all j.

    Parameters
    ----------
    net : Network
        One hidden layer, or none.
    X : array, shape (n, d)
    radius : float
        Of the ball, positive.
    norm : 1, 2 or numpy.inf
        GROUND norm, that of the ball.

    Returns
    -------
    array of booleans, shape (n,)

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or the network is deeper.

    Notes
    -----
    Source: Proposition ``prop-kink-free`` (chapter 7).
    """
    if not isinstance(net, Network):
        raise TypeError(
            f"net must be a relu.Network (see relu.from_torch), got {type(net).__name__}"
        )
    X, radius, norm = _points(X, net.inputs), _radius(radius), ground_norm(norm)
    if len(net.hidden) > 1:
        raise ValueError("kink_free is for one hidden layer; this network is deeper")
    if not net.hidden:
        return np.ones(len(X), bool)
    W, b = net.weights[0], net.biases[0]
    return (np.abs(X @ W.T + b) >= _reach(W, radius, norm)).all(axis=1)


def worst_cases(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    radius: float,
    norm: float = np.inf,
    *,
    time_limit: float | None = None,
) -> WorstCases:
    r"""Largest drop of the margin y f in the ball around each sample, exactly.

    One hidden layer: with one or two inputs by the finitely many points at which a minimum can
    lie; with more of them in closed form where no neuron changes its side; by the patterns of
    the neurons that hurt, -y a_j > 0, where at most 12 of these change sides: a concave maximum
    each, most of which a bound rules out; and by mixed-integer programming otherwise.  Deeper
    networks: by cells in the plane, by programs beyond.

    Parameters
    ----------
    net : Network
        One output, the score.
    X : array, shape (n, d)
    y : array, shape (n,)
        Labels -1 or +1.
    radius : float
        Of the attack, positive.
    norm : 1, 2 or numpy.inf
        GROUND norm, that of the attack.
    time_limit : float, optional
        Seconds for the program of a sample; by default as long as it takes.

    Returns
    -------
    WorstCases

    Raises
    ------
    TypeError
        If `net` is no Network, or numbers are complex or not numeric.
    ValueError
        If an argument is out of its range; or the case is out of reach: norm 2 with three inputs
        or more, where more than 12 neurons that hurt change sides (or the network is deeper).

    Notes
    -----
    Source: Propositions ``prop-gap-of-one-neuron`` and ``prop-kink-free`` (chapter 7).
    """
    net = _score(net)
    X = _points(X, net.inputs)
    y, radius, norm = _labels(y, len(X)), _radius(radius), ground_norm(norm)
    n, d = X.shape
    if not net.hidden:
        w = net.weights[0][0]
        drop = np.full(n, _reach(w, radius, norm))
        points = X - radius * y[:, None] * _steepest(w, norm)
        return WorstCases(drop, drop.copy(), points, ["kink-free"] * n)
    if len(net.hidden) > 1:
        return _deep(net, X, y, radius, norm, time_limit)
    if d <= 2:
        drop, e = (_on_line if d == 1 else _in_plane)(*_first_layer(net), X, y, radius, norm)
        return WorstCases(drop, drop.copy(), X + e, ["kinks" if d == 1 else "plane"] * n)
    return _in_space(net, X, y, radius, norm, time_limit)


def worst_drop(
    net: Network, X: ArrayLike, y: ArrayLike, radius: float, norm: float = np.inf
) -> Array:
    r"""Largest drop of the margin, y f(x) - min over ||e|| <= radius of y f(x + e), per sample.

    The same as ``worst_cases(...).drop``, refused where the bracket is wider than 1e-6 of its size.

    Parameters
    ----------
    net, X, y, radius, norm
        As in :func:`worst_cases`.

    Returns
    -------
    array, shape (n,), float64
        At least 0.

    Raises
    ------
    TypeError, ValueError
        As in :func:`worst_cases`.
    """
    found = worst_cases(net, X, y, radius, norm)
    open_ = found.upper - found.drop > CLOSED * (found.upper + 1e-3 * found.upper.max())
    if open_.any():
        i = int(np.flatnonzero(open_)[0])
        raise ValueError(
            f"the solver left a bracket open at sample {i}: [{found.drop[i]:.9g}, "
            f"{found.upper[i]:.9g}]; worst_cases returns both ends"
        )
    return found.drop


def gap(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    radius: float,
    norm: float = np.inf,
    loss: Loss = "linear",
) -> Array:
    r"""Pointwise adversarial gap, sup over the ball of the loss minus the loss, per sample.

    For a nonincreasing phi it is phi(m - D) - phi(m), with the margin m = y f(x) and its worst
    drop D.  The adversarial gap of a law is ``weights @ gap(...)``.

    Parameters
    ----------
    net, X, y, radius, norm
        As in :func:`worst_cases`.
    loss : {"linear", "hinge", "logistic"} or function
        phi(t) = -t, (1 - t)_+, log(1 + exp(-t)), or a nonincreasing function of arrays of margins.

    Returns
    -------
    array, shape (n,), float64

    Raises
    ------
    TypeError, ValueError
        As in :func:`worst_cases`; or if the loss increases somewhere.

    Notes
    -----
    Source: Definition ``def-adversarial-gap`` (chapter 7).
    """
    drop = worst_drop(net, X, y, radius, norm)
    margins = np.asarray(y) * relu.evaluate(net, X)[:, 0]
    if isinstance(loss, str) and loss == "linear":
        return drop  # without the rounding of two subtractions
    worst, clean = _phi(loss, np.stack([margins - drop, margins]))
    return np.maximum(worst - clean, 0.0)


def neuron_gap(
    X: ArrayLike,
    y: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    radius: float,
    norm: float = np.inf,
    *,
    a: float = 1.0,
    loss: Loss = "linear",
    weights: ArrayLike | None = None,
) -> Array:
    r"""Adversarial gap of one neuron, f(x) = a relu(w . x + b), for many biases: the oracle.

    At y = sign(a) the worst score is a relu(w . x + b - eps ||w||_*), at y = -sign(a) it is
    a relu(w . x + b + eps ||w||_*).

    Parameters
    ----------
    X : array, shape (n, d)
    y : array, shape (n,)
        Labels -1 or +1.
    w : array, shape (d,)
    b : array of any shape
        Biases.
    radius, norm, loss
        As in :func:`gap`.
    a : float
        Output weight, of either sign.
    weights : array, shape (n,), optional
        The law: nonnegative, sum 1; by default 1/n each.

    Returns
    -------
    array, shape of `b`, float64

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Notes
    -----
    Source: Proposition ``prop-gap-of-one-neuron`` and Theorem ``thm-gap-database`` (chapter 7).
    """
    w = finite(w, "w")
    if w.ndim != 1:
        raise ValueError(f"w must be a vector, got shape {w.shape}")
    X = _points(X, len(w))
    y, b, law = _labels(y, len(X)), finite(b, "b"), _law(weights, len(X))
    a = float(finite(a, "a"))
    shift = _reach(w, _radius(radius), ground_norm(norm))
    p = b[..., None] + X @ w
    clean, sign = a * y * np.maximum(p, 0), np.sign(a * y)
    worst = a * y * np.maximum(p - sign * shift, 0)
    after, before = _phi(loss, np.stack([worst, clean]))
    return (after - before) @ law


# ------------------------------------------------------------------------------- few inputs


def _parts(n: int, entries: int) -> list[slice]:
    step = max(1, MOST_ENTRIES // max(1, entries))
    return [slice(k, k + step) for k in range(0, n, step)]


def _on_line(
    W: Array, b: Array, a: Array, X: Array, y: Array, radius: float, norm: float
) -> tuple[Array, Array]:
    """Ends of the interval and kinks in it; the shifts e have the shape (n, 1)."""
    w, drops, shifts = W[:, 0], np.empty(len(X)), np.empty((len(X), 1))
    live = w != 0
    for part in _parts(len(X), (len(w) + 3) * len(w)):
        p = X[part] @ W.T + b
        kinks = np.where(live, -p / np.where(live, w, 1.0), 0.0)
        kinks = np.where(np.abs(kinks) <= radius, kinks, 0.0)
        ends = np.broadcast_to([0.0, -radius, radius], (len(p), 3))
        e = np.concatenate([ends, kinks], axis=1)
        change = np.maximum(p[:, None] + e[..., None] * w, 0) - np.maximum(p, 0)[:, None]
        fall = -y[part, None] * (change @ a)
        best = fall.argmax(axis=1)[:, None]
        drops[part] = np.take_along_axis(fall, best, axis=1)[:, 0]
        shifts[part] = np.take_along_axis(e, best, axis=1)
    return drops, shifts


def _corners(W: Array, b: Array) -> Array:
    """Points where two kink lines of the plane meet, shape (pairs, 2)."""
    i, j = np.triu_indices(len(W), 1)
    det = W[i, 0] * W[j, 1] - W[i, 1] * W[j, 0]
    size = np.linalg.norm(W[i], axis=1) * np.linalg.norm(W[j], axis=1)
    meet = np.abs(det) > 1e-14 * size
    i, j, det = i[meet], j[meet], det[meet]
    x = (W[i, 1] * b[j] - W[j, 1] * b[i]) / det
    return np.column_stack([x, (W[j, 0] * b[i] - W[i, 0] * b[j]) / det])


def _in_plane(
    W: Array, b: Array, a: Array, X: Array, y: Array, radius: float, norm: float
) -> tuple[Array, Array]:
    """All points of the ball at which a minimum can lie: corners, where kink lines meet each other
    or its boundary, and on arcs of a disc the points against the gradient."""
    if norm == 1:  # a square in the coordinates x_1 + x_2, x_1 - x_2
        turn = np.array([[1.0, 1.0], [1.0, -1.0]])
        drops, e = _in_plane(W @ turn / 2, b, a, X @ turn, y, radius, np.inf)
        return drops, e @ turn / 2
    W, b, a = (part[W.any(axis=1)] for part in (W, b, a))
    drops, shifts = np.zeros(len(X)), np.zeros((len(X), 2))
    if not len(W):
        return drops, shifts
    meet = _corners(W, b)
    k = len(W)
    for part in _parts(len(X), (4 * k + 8) * (k + 2)):
        p = X[part] @ W.T + b
        e = (_on_disc if norm == 2 else _on_square)(W, a, p, y[part], radius)
        fall = _fall(p[:, None], e, W, a, y[part, None])
        best = fall.argmax(axis=1)
        rows = np.arange(len(p))
        drops[part], shifts[part] = fall[rows, best], e[rows, best]
    order = 2 if norm == 2 else np.inf
    for part in _parts(len(X), len(meet) * (k + 2)):
        away = meet - X[part, None]
        i, v = np.nonzero(np.linalg.norm(away, ord=order, axis=2) <= radius * (1 + INSIDE))
        if not len(i):
            continue
        e = away[i, v]
        p = (X[part] @ W.T + b)[i]
        fall = _fall(p, e, W, a, y[part][i])
        order_ = np.lexsort((fall, i))
        last = np.append(np.flatnonzero(np.diff(i[order_])), len(i) - 1)
        pick = order_[last]
        who = i[pick] + part.start
        better = fall[pick] > drops[who]
        drops[who[better]], shifts[who[better]] = fall[pick[better]], e[pick[better]]
    return drops, shifts


def _fall(p: Array, e: Array, W: Array, a: Array, y: Array) -> Array:
    """y f(x) - y f(x + e), from the inputs p of the neurons at x; zero if these stay dead."""
    return -y * ((np.maximum(p + e @ W.T, 0) - np.maximum(p, 0)) @ a)


def _on_square(W: Array, a: Array, p: Array, y: Array, radius: float) -> Array:
    """Corners of the square and the points where kink lines leave it, shape (n, 5 + 4 k, 2)."""
    corners = radius * np.array([[0, 0], [-1, -1], [-1, 1], [1, -1], [1, 1.0]])
    found = [np.broadcast_to(corners, (len(p), 5, 2))]
    for axis in (0, 1):
        along, other = W[:, axis], W[:, 1 - axis]
        real_ = other != 0
        for side in (-radius, radius):
            t = -(p + along * side) / np.where(real_, other, 1.0)
            inside = real_ & (np.abs(t) <= radius)
            e = np.empty((*p.shape, 2))
            e[..., axis], e[..., 1 - axis] = np.where(inside, side, 0.0), np.where(inside, t, 0.0)
            found.append(e)
    return np.concatenate(found, axis=1)


def _on_disc(W: Array, a: Array, p: Array, y: Array, radius: float) -> Array:
    """Ends of the chords, and against the gradient of every arc between, shape (n, 1 + 4 k, 2)."""
    size = np.linalg.norm(W, axis=1)
    foot = -p / size  # signed distance along w
    cut = np.abs(foot) < radius
    half = np.arccos(np.where(cut, foot / radius, 1.0))
    middle = np.arctan2(W[:, 1], W[:, 0])
    angles = np.where(np.tile(cut, 2), np.concatenate([middle - half, middle + half], axis=1), 0.0)
    ends = radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    angles = np.sort(np.mod(angles, 2 * np.pi), axis=1)
    after = np.concatenate([angles[:, 1:], angles[:, :1] + 2 * np.pi], axis=1)
    between = (angles + after) / 2
    inner = radius * np.stack([np.cos(between), np.sin(between)], axis=-1)
    slopes = ((p[:, None] + inner @ W.T > 0) * a) @ W
    against = -radius * y[:, None, None] * _steepest(slopes, 2)
    return np.concatenate([np.zeros((len(p), 1, 2)), ends, against], axis=1)


def _deep(
    net: Network, X: Array, y: Array, radius: float, norm: float, time_limit: float | None
) -> WorstCases:
    d = X.shape[1]
    if d > 2:
        if norm == 2:
            raise ValueError(
                "norm 2 with three inputs or more is for one hidden layer; deeper networks are "
                "solved by linear programs, whose balls are those of the norms 1 and numpy.inf"
            )
        return _by_programs(net, X, y, radius, norm, time_limit)
    W = net.weights[0]
    flat = np.column_stack([W, np.zeros(len(W))]) if d == 1 else W
    Z = np.column_stack([X, np.zeros(len(X))]) if d == 1 else X
    turn = np.array([[1.0, 1.0], [1.0, -1.0]])
    if d == 1:
        norm = np.inf  # all norms are the same
    if norm == 1:
        flat, Z = flat @ turn / 2, Z @ turn
    drops, shifts = np.empty(len(Z)), np.empty((len(Z), 2))
    for i, z in enumerate(Z):
        # the network of e, so that the ball is around 0
        moved = Network((flat, *net.weights[1:]), (flat @ z + net.biases[0], *net.biases[1:]))
        pieces = relu.cells(moved, -radius, radius)
        e = pieces.vertices
        if norm == 2:
            corners = [pieces.polygon(k) for k in range(len(pieces))]
            ahead = np.concatenate([np.roll(part, -1, axis=0) for part in corners])
            e = np.vstack([e[np.linalg.norm(e, axis=1) <= radius], _crossings(e, ahead, radius),
                           -radius * y[i] * _steepest(pieces.gradients[:, 0], 2)])  # fmt: skip
        e = np.vstack([np.zeros(2), e])
        values = y[i] * relu.evaluate(moved, e)[:, 0]
        fall = values[0] - values
        best = int(fall.argmax())
        drops[i], shifts[i] = fall[best], e[best]
    if norm == 1:
        shifts = shifts @ turn / 2
    return WorstCases(drops, drops.copy(), X + shifts[:, :d], ["cells"] * len(X))


def _crossings(start: Array, end: Array, radius: float) -> Array:
    """Points where segments meet the circle of a radius around 0."""
    step = end - start
    A = (step**2).sum(axis=1)
    B = (start * step).sum(axis=1)
    C = (start**2).sum(axis=1) - radius**2
    root = B**2 - A * C
    ok = (root >= 0) & (A > 0)
    start, step, A, B, root = start[ok], step[ok], A[ok], B[ok], np.sqrt(root[ok])
    found = []
    for sign in (-1, 1):
        t = (-B + sign * root) / A
        inside = (t >= 0) & (t <= 1)
        found.append((start + t[:, None] * step)[inside])
    return np.vstack(found)


# ------------------------------------------------------------------------------- many inputs


def _in_space(
    net: Network, X: Array, y: Array, radius: float, norm: float, time_limit: float | None
) -> WorstCases:
    W, b, a = _first_layer(net)
    n = len(X)
    drops, upper = np.zeros(n), np.zeros(n)
    shifts, method = np.zeros_like(X), ["kink-free"] * n
    P = X @ W.T + b
    reach = _reach(W, radius, norm)
    crossing = (np.abs(P) < reach) & (a != 0)
    for i in range(n):
        c, p, gains = crossing[i], P[i], -y[i] * a  # what an active neuron adds to the drop
        g = ((p > 0) & ~c) * gains @ W
        if not c.any():
            drops[i] = upper[i] = _reach(g, radius, norm)
            shifts[i] = radius * _steepest(g, norm)
            continue
        free = int((gains[c] > 0).sum())
        convex = int(c.sum()) - free
        if norm == 2 and convex:
            basis = _span(np.vstack([W[c], g]))
            if basis.shape[1] <= 2:
                drops[i], e = _reduced(W[c], p[c], a[c], -y[i] * g, basis, y[i], radius)
                upper[i], shifts[i], method[i] = drops[i], e, "span"
                continue
        if free <= MOST_FREE:
            case = _Patterns(W[c], p[c], gains[c], g, radius, norm)
            before = float(gains[c] @ np.maximum(p[c], 0))
            upper[i] = case.solve() - before
            drops[i], shifts[i], method[i] = case.lower - before, case.e, "patterns"
            continue
        if norm == 2:
            raise ValueError(
                f"the exact worst case in norm 2 with {X.shape[1]} inputs is out of reach at "
                f"sample {i}: {free} neurons that hurt change sides in its ball, and 2^{free} "
                f"patterns are too many.  Take norm 1 or numpy.inf, a smaller radius, or two inputs"
            )
        one = _by_programs(net, X[i : i + 1], y[i : i + 1], radius, norm, time_limit)
        drops[i], upper[i], method[i] = one.drop[0], one.upper[0], "program"
        shifts[i] = one.points[0] - X[i]
    return WorstCases(drops, upper, X + shifts, method)


def _span(rows: Array) -> Array:
    """Orthonormal basis of the span of the rows, shape (d, rank)."""
    size = np.linalg.norm(rows, axis=1)
    rows = rows[size > 0] / size[size > 0, None]
    _, s, V = np.linalg.svd(rows, full_matrices=False)
    return V[s > RANK * max(1.0, s[0] if s.size else 0.0)].T


def _reduced(
    W: Array, p: Array, a: Array, slope: Array, basis: Array, y: float, radius: float
) -> tuple[float, Array]:
    """Euclidean ball, all that matters in a plane: f(x + e) = slope . e + sum a relu(p + W e)."""
    if basis.shape[1] == 1:
        basis = np.column_stack([basis, np.zeros(len(basis))])
    live = 2 * radius * np.linalg.norm(slope) + 1.0  # a neuron that is active in all of the ball
    flat = np.vstack([W, slope]) @ basis
    drop, e = _in_plane(
        flat, np.append(p, live), np.append(a, 1.0), np.zeros((1, 2)), np.array([y]), radius, 2
    )
    return float(drop[0]), basis @ e[0]


class _Patterns:
    """max over the ball of F(e) = g . e + sum_j a_j relu(p_j + w_j . e), a_j != 0, by patterns.

    A neuron with a_j > 0 is the larger one of 0 and a_j (p_j + w_j . e): one pattern s for each
    choice.  A neuron with a_j < 0 is at most t_j a_j (p_j + w_j . e), for every t_j in [0, 1].  So

        U(s, t) = sum s a p + sum t a p + radius ||g + sum s a w + sum t a w||_*

    bounds the pattern s, and its minimum over t is exact.  Patterns whose U is below a value of F
    that has been found are out; few are left for a linear program (norm 2: a smooth minimum).
    """

    def __init__(self, W: Array, p: Array, a: Array, g: Array, radius: float, norm: float):
        free = a > 0
        self.W, self.p, self.a, self.g, self.radius, self.norm = W, p, a, g, radius, norm
        self.V, self.q = a[~free, None] * W[~free], a[~free] * p[~free]  # counted with a_j < 0
        m = int(free.sum())
        S = ((np.arange(2**m)[:, None] >> np.arange(m)) & 1) * a[free]
        self.slopes, self.offsets = g + S @ W[free], S @ p[free]
        self.lower, self.e = -math.inf, np.zeros(W.shape[1])
        self.try_(np.zeros((1, W.shape[1])))

    def try_(self, e: Array) -> Array:
        """Inputs of the neurons at points, of which the best is kept."""
        now = self.p + e @ self.W.T
        value = e @ self.g + np.maximum(now, 0) @ self.a
        best = int(value.argmax())
        if value[best] > self.lower:
            self.lower, self.e = float(value[best]), e[best]
        return now

    def bound(self, G: Array, c: Array, t: Array) -> tuple[Array, Array]:
        """U at patterns (slopes G, offsets c) and t, and where the linear bound is attained."""
        r = G + t @ self.V
        e = self.radius * _steepest(r, self.norm)
        return c + t @ self.q + (r * e).sum(axis=-1), e

    def solve(self) -> float:
        """Upper bound of the maximum; `lower` and `e` are set."""
        G, c = self.slopes, self.offsets
        t = np.full((len(c), len(self.q)), 0.5)
        upper = np.full(len(c), math.inf)
        closed = -math.inf  # of patterns that are done
        on = self.a < 0
        for k in range(SWEEPS if len(self.q) else 1):
            value, e = self.bound(G, c, t)
            upper = np.minimum(upper, value)
            now = self.try_(e)
            keep = upper > self.lower + self._tiny()
            if not keep.all():
                closed = max(closed, float(upper[~keep].max()))
                G, c, t, upper, now = G[keep], c[keep], t[keep], upper[keep], now[keep]
            if not len(c):
                return max(closed, self.lower)
            t = t + ((now[:, on] > 0) - t) * 2 / (k + 3)
        for i in np.argsort(-upper):
            best = upper[i]
            if best > self.lower + self._tiny() and len(self.q):
                t_i, e = (_smooth if self.norm == 2 else _linear)(self, G[i], c[i], t[i])
                self.try_(e[None])
                value, e = self.bound(G[i], c[i], t_i)
                self.try_(e[None])
                best = min(best, float(value))
            closed = max(closed, best)
        return max(closed, self.lower)

    def _tiny(self) -> float:
        return ROUNDING * (1 + abs(self.lower))


def _linear(case: _Patterns, G: Array, c: float, t: Array) -> tuple[Array, Array]:
    """max G . e - h over h >= 0, h >= -a (p + w . e), e in the ball: multipliers and maximizer."""
    d, k, radius = len(G), len(case.q), case.radius
    # of e = radius u, every column and row of size 1
    V, q, rows = -case.V * radius, -case.q, np.zeros((1, 0))
    size = np.abs(V).sum(axis=1)
    V, q = V / size[:, None], q / size
    bounds = [(-1.0, 1.0)] * d
    if case.norm == 1:
        V, bounds, rows = np.hstack([V, -V]), [(0.0, 1.0)] * (2 * d), np.ones((1, 2 * d + k))
        rows[:, 2 * d :] = 0.0
        G = np.concatenate([G, -G])
    left = np.hstack([V, -np.eye(k)])
    right = -q
    if case.norm == 1:
        left, right = np.vstack([left, rows]), np.append(right, 1.0)
    unit = float(np.abs(G).max()) * radius or 1.0
    answer = linprog(
        np.concatenate([-G * radius, size]) / unit,
        A_ub=left,
        b_ub=right,
        bounds=bounds + [(0.0, None)] * k,
        options=TIGHT,
    )
    if answer.status != 0:
        return t, np.zeros(d)
    e = answer.x[: len(G)] if case.norm == np.inf else answer.x[:d] - answer.x[d : 2 * d]
    return np.clip(-answer.ineqlin.marginals[:k] * unit / size, 0.0, 1.0), radius * e


def _smooth(case: _Patterns, G: Array, c: float, t: Array) -> tuple[Array, Array]:
    """min over t in [0, 1]^k of U, norm 2: smooth where the slope is not 0.

    Where 0 < t_j < 1 a maximizer is on the kink of neuron j, which gives both to full accuracy.
    """

    def bound(t: Array) -> tuple[float, Array]:
        value, e = case.bound(G, np.float64(c), t)
        return float(value), case.q + case.V @ e

    k = len(t)
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 500}
    answer = minimize(bound, t, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * k, options=options)
    best, value = answer.x, answer.fun
    point, top = case.bound(G, np.float64(c), best)[1], -math.inf
    for margin in (1e-9, 1e-6, 1e-4, 1e-2):
        on = (best > margin) & (best < 1 - margin)
        high = G + (best >= 1 - margin) @ case.V
        V = case.V[on]
        e = -np.linalg.lstsq(V, case.q[on], rcond=RANK)[0] if on.any() else np.zeros(len(G))
        along = high - (np.linalg.lstsq(V.T, high, rcond=RANK)[0] @ V if on.any() else 0.0)
        size, left = float(np.linalg.norm(along)), case.radius**2 - float(e @ e)
        if left < 0:
            continue
        if size > RANK * float(np.linalg.norm(high)):
            e = e + math.sqrt(left) / size * along
        reached = float(G @ e - np.maximum(-case.q - case.V @ e, 0).sum())
        if reached > top:
            point, top = e, reached
        # the slope at the maximum is a multiple of e
        fit = np.linalg.lstsq(np.column_stack([V.T, -e]), -high, rcond=RANK)[0]
        refined = (best >= 1 - margin) * 1.0
        refined[on] = np.clip(fit[:-1], 0.0, 1.0)
        if (now := bound(refined)[0]) < value:
            answer.x, value = refined, now
    if c + top < value - 1e-10 * (1 + abs(value)):
        return _by_cuts(case, G, c, answer.x, point)
    return answer.x, point


def _by_cuts(case: _Patterns, G: Array, c: float, t: Array, point: Array) -> tuple[Array, Array]:
    """max G . e - sum h, h >= 0, h >= -q - V e, in the Euclidean ball, by linear programs.

    The ball is cut out of the cube by tangents where a program has left it: where the maximum is
    a flat or lies inside of the ball, so that the slope of the bound is 0, few of them do.
    """
    d, k, radius = len(G), len(t), case.radius
    size = np.abs(case.V).sum(axis=1)
    V, q = case.V * radius / size[:, None], case.q / size
    unit = float(np.abs(G).max()) * radius or 1.0
    rows = np.hstack([-V, -np.eye(k)])
    tangents = np.zeros((0, d))
    start = float(np.linalg.norm(point))
    if start > 0:
        tangents = point[None] / start

    def worth(e: Array) -> float:
        return float(G @ e - np.maximum(-case.q - case.V @ e, 0).sum())

    upper, top = float(case.bound(G, np.float64(c), t)[0]) - c, worth(point)
    for _ in range(CUTS):
        answer = linprog(
            np.concatenate([-G * radius, size]) / unit,
            A_ub=np.vstack([rows, np.hstack([tangents, np.zeros((len(tangents), k))])]),
            b_ub=np.concatenate([q, np.ones(len(tangents))]),
            bounds=[(-1.0, 1.0)] * d + [(0.0, None)] * k,
            options=TIGHT,
        )
        if answer.status != 0:
            break
        u = answer.x[:d]
        length = float(np.linalg.norm(u))
        e = radius * u / max(1.0, length)
        if (now := worth(e)) > top:
            point, top = e, now
        tried = np.clip(-answer.ineqlin.marginals[:k] * unit / size, 0.0, 1.0)
        if (now := float(case.bound(G, np.float64(c), tried)[0]) - c) < upper:
            t, upper = tried, now
        if length <= 1 or upper - top <= 1e-12 * (1 + abs(upper)):
            break
        tangents = np.vstack([tangents, u / length])
    return t, point


def _by_programs(
    net: Network, X: Array, y: Array, radius: float, norm: float, time_limit: float | None
) -> WorstCases:
    """Classes 0 and 1 with the logits 0 and f, for :mod:`advreg.verify`."""
    last = net.weights[-1]
    pair = Network(
        (*net.weights[:-1], np.vstack([np.zeros_like(last), last])),
        (*net.biases[:-1], np.append(0.0, net.biases[-1])),
    )
    score = relu.evaluate(net, X)[:, 0]
    found = [
        verify.worst_margin(pair, x, int(label > 0), radius, norm, time_limit=time_limit)
        for x, label in zip(X, y, strict=True)
    ]
    drop = y * score + np.array([f.lower for f in found])
    upper = y * score + np.array([f.upper for f in found])
    points = np.array([f.point for f in found])
    return WorstCases(np.maximum(drop, 0.0), np.maximum(upper, 0.0), points, ["program"] * len(X))


# ------------------------------------------------------------------------------- dead neurons


@dataclass(frozen=True, eq=False)
class Sites:
    """Points x_i, each with a half-space that the attack on x_i reaches, and on no other x_j.

    With v_i a direction: v_i . x_i = level_i, the attack at x_i changes v_i . x by reach_i =
    radius ||v_i||_*, and v_i . x_j <= level_i - reach_i for all other sites.

    Attributes
    ----------
    points, directions : arrays, shape (N, d)
        x_i and v_i.
    levels, reach : arrays, shape (N,)
    radius, norm : float
        Those of the attack.
    """

    points: Array
    directions: Array
    levels: Array
    reach: Array
    radius: float
    norm: float

    def __len__(self) -> int:
        return len(self.points)


def circle_sites(N: int, radius: float, d: int = 2, norm: float = np.inf) -> Sites:
    r"""N equally spaced points on a Euclidean circle in the plane of the first two inputs.

    Its radius is rho = max_i r_i / (1 - cos(2 pi / N)), r_i = radius ||v_i||_*, of the order of
    N^2 / (2 pi^2): the neuron behind one site is out of reach from all others.

    Parameters
    ----------
    N : int
        Number of sites, at least 1.
    radius : float
        Of the attack, positive.
    d : int
        Number of inputs, at least 2.
    norm : 1, 2 or numpy.inf
        GROUND norm, that of the attack.

    Returns
    -------
    Sites

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Source: Lemma ``lem-dead-sites`` (chapter 7).
    """
    N, radius, norm = integer(N, "N", 1), _radius(radius), ground_norm(norm)
    if isinstance(d, bool) or d != int(d) or d < 2:
        raise ValueError(f"a circle needs a plane: d must be an integer of at least 2, got {d!r}")
    angle = 2 * np.pi * np.arange(N) / N
    v = np.zeros((N, int(d)))
    v[:, 0], v[:, 1] = np.cos(angle), np.sin(angle)
    reach = _reach(v, radius, norm)
    rho = float(reach.max()) / (2 * math.sin(math.pi / N) ** 2 if N > 1 else 1.0)
    points = rho * v
    return Sites(points, v, np.einsum("nd,nd->n", v, points), reach, radius, norm)


def bounded_sites(N: int, radius: float, d: int, *, seed: int = 0) -> Sites:
    r"""N sites in ONE ball of radius 2 radius (norm inf): x_i = 2 radius s_i, s_i sign vectors.

    Any two of the s_i have an inner product of at most d / 2, which random ones satisfy for N up
    to about exp(d / 16).

    Parameters
    ----------
    N : int
        Number of sites, at least 1.
    radius : float
        Of the attack in the norm inf, positive.
    d : int
        Number of inputs.
    seed : int
        Of the random signs.

    Returns
    -------
    Sites
        Around 0; they may be moved: add x_0 to `points` and v_i . x_0 to `levels`.

    Raises
    ------
    ValueError
        If an argument is out of its range, or no N sign vectors are found.

    Notes
    -----
    Source: Proposition ``prop-bounded-sites`` (chapter 7).
    """
    N, radius, d = integer(N, "N", 1), _radius(radius), integer(d, "d", 1)
    rng = np.random.default_rng(integer(seed, "seed", 0))
    signs = np.empty((0, d))
    for _ in range(20):
        for s in rng.choice([-1.0, 1.0], (N, d)):
            if len(signs) < N and (not len(signs) or (signs @ s).max() <= d / 2):
                signs = np.vstack([signs, s])
    if len(signs) < N:
        raise ValueError(
            f"found only {len(signs)} sign vectors of {d} entries with inner products of at most "
            f"d / 2; {N} sites need more inputs: about {math.ceil(16 * math.log(N))} always do"
        )
    reach = np.full(N, radius * d)
    return Sites(2 * radius * signs, signs, 2 * reach, reach, radius, np.inf)


def dead_network(
    sites: Sites,
    active: ArrayLike,
    tau: float = 0.5,
    *,
    drop: ArrayLike = 1.0,
    sign: float = -1.0,
    bias: float = 0.0,
) -> Network:
    r"""The network with one neuron behind every active site, dead on all the data.

    f(x) = bias + sign sum_i drop_i / ((1 - tau) r_i) relu(v_i . x - level_i - tau r_i) over the
    active sites.  Within tau * radius of every site all neurons are dead; within the radius of
    an active site f moves by `drop` in the direction of `sign`, and at the others by nothing.

    Parameters
    ----------
    sites : Sites
        See :func:`circle_sites` and :func:`bounded_sites`.
    active : integers, or booleans of shape (N,)
        The sites that have a neuron, one at least.
    tau : float
        Offset as a fraction of the reach, between 0 and 1.
    drop : float or array, one per active site
        How far f moves there, positive.
    sign : 1 or -1
        Sign of the output weights; -1 hurts the label +1.
    bias : float
        Output on all the data.

    Returns
    -------
    Network
        One output; its width is the number of active sites.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Notes
    -----
    Source: Theorems ``thm-dead-neuron`` and ``thm-radon-network`` (chapter 7).
    """
    if not isinstance(sites, Sites):
        raise TypeError(f"sites must be Sites (see circle_sites), got {type(sites).__name__}")
    tau, bias = _fraction(tau), float(finite(bias, "bias"))
    if sign not in (1, -1):
        raise ValueError(f"sign is that of the output weights, 1 or -1; got {sign!r}")
    chosen = np.atleast_1d(np.asarray(active))
    if chosen.dtype == bool and chosen.shape == (len(sites),):
        chosen = np.flatnonzero(chosen)
    if (
        chosen.dtype.kind not in "iu"
        or chosen.ndim != 1
        or not len(chosen)
        or chosen.min() < 0
        or chosen.max() >= len(sites)
        or len(np.unique(chosen)) < len(chosen)
    ):
        raise ValueError(
            f"active must list different sites, numbers from 0 to {len(sites) - 1}, one at least; "
            f"got {active!r}"
        )
    height = finite(drop, "drop")
    if height.shape not in ((), chosen.shape) or not (height > 0).all():
        raise ValueError("drop must be one positive number, or one per active site")
    v, r = sites.directions[chosen], sites.reach[chosen]
    a = sign * height / ((1 - tau) * r)
    return Network((v, a[None]), (-sites.levels[chosen] - tau * r, np.array([bias])))


# ------------------------------------------------------------------------------- equal statistics


def _augmented(T: Array) -> Array:
    """Rows 1 and the statistics, shifted and scaled to at most 1: the same laws have equal ones."""
    return np.vstack([np.ones(len(T)), _scaled(T, T.mean(axis=0)).T])


def _scaled(T: Array, center: Array) -> Array:
    """T - center with columns of size 1, without those that vary by rounding only."""
    size = np.abs(T - center).max(axis=0)
    varies = size > CONSTANT * np.abs(T).max(axis=0)
    return (T - center)[:, varies] / size[varies]


def _polished(c: Array, A: Array) -> Array:
    """c with A c = 0 up to rounding, changed on its support only."""
    on = c != 0
    for _ in range(2):
        c[on] -= np.linalg.lstsq(A[:, on], A @ c, rcond=1e-13)[0]
    return c


def _two_laws(c: Array) -> tuple[Array, Array]:
    P, Q = np.maximum(c, 0), np.maximum(-c, 0)
    return P / P.sum(), Q / Q.sum()


def radon_weights(statistics: ArrayLike) -> tuple[Array, Array]:
    r"""Two laws on the given points with equal statistics and disjoint supports.

    The equations sum c_i = 0, sum c_i T(x_i) = 0 have a solution c != 0 as soon as there are m + 2
    points; P and Q are its positive and negative parts, each divided by its sum.

    Parameters
    ----------
    statistics : array, shape (N, m)
        T(x_i) of the points, N >= m + 2 (fewer do where statistics depend on each other).

    Returns
    -------
    P, Q : arrays, shape (N,)
        With m + 2 atoms together at most, and P has no more than Q: floor(m / 2) + 1 at most.

    Raises
    ------
    TypeError, ValueError
        If the statistics are not finite, or there are too few points.

    Notes
    -----
    Source: Lemma ``lem-radon-weights`` (chapter 7).
    """
    T = _statistics(statistics)
    A = _augmented(T)
    N = len(T)
    R, order = qr(A, mode="r", pivoting=True)
    size = np.abs(np.diag(R))
    rank = int((size > 1e-13 * size[0]).sum())
    if rank == N:
        raise ValueError(
            f"{N} points are too few for {T.shape[1]} statistics: two laws on them that agree in "
            f"these are equal.  m + 2 = {T.shape[1] + 2} points always suffice"
        )
    c = np.zeros(N)
    c[order[rank]] = -1.0
    c[order[:rank]] = solve_triangular(R[:rank, :rank], R[:rank, rank])
    c[np.abs(c) < 1e-13 * np.abs(c).max()] = 0.0
    c = _polished(c, A)
    if (c > 0).sum() > (c < 0).sum():
        c = -c
    return _two_laws(c)


class Separation(NamedTuple):
    """A site, and two laws with equal statistics: P charges it as much as possible, Q does not."""

    site: int
    P: Array
    Q: Array


def separating_site(statistics: ArrayLike, sites: int | Iterable[int] | None = None) -> Separation:
    r"""Two laws with equal statistics that differ as much as possible at one point.

    For every candidate i the linear program max P_i - Q_i over laws with E_P T = E_Q T is solved;
    it is max 2 c_i over c orthogonal to (1, T) with ||c||_1 = 1, twice the distance of the unit
    vector e_i from the span of (1, T) in the maximum norm.

    Parameters
    ----------
    statistics : array, shape (N, m)
        T(x_i) of the points; N >= m + 2.
    sites : integer or integers, optional
        Candidates; by default the 8 at which the statistics are least able to single out a point
        (smallest leverage).

    Returns
    -------
    Separation
        P[site] is the largest found, Q[site] = 0; the supports are disjoint.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or there are too few points.

    Notes
    -----
    Source: Theorem ``thm-dead-neuron`` (chapter 7).
    """
    T = _statistics(statistics)
    N = len(T)
    A = _augmented(T)
    basis = _span(A)
    leverage = (basis**2).sum(axis=1)
    if sites is None:
        chosen = np.argsort(leverage, kind="stable")[:8]
    else:
        chosen = np.atleast_1d(np.asarray(sites if np.isscalar(sites) else list(sites)))
        if (
            chosen.dtype.kind not in "iu"
            or not len(chosen)
            or chosen.min() < 0
            or chosen.max() >= N
        ):
            raise ValueError(
                f"sites must be numbers from 0 to {N - 1}, one at least; got {sites!r}"
            )
    best = None
    for i in chosen:
        if leverage[i] > 1 - 1e-12:  # e_i is a combination of 1 and the statistics
            continue
        cost = np.zeros(2 * N)
        cost[i], cost[N + i] = -1.0, 1.0
        answer = _program(
            cost,
            np.vstack([np.repeat([1.0, 0.0], N), np.hstack([A, -A])]),
            np.append(1.0, np.zeros(len(A))),
        )
        c = answer.x[:N] - answer.x[N:]
        c[np.abs(c) < 1e-12] = 0.0
        P, Q = _two_laws(_polished(c, A))
        if best is None or P[i] > best.P[best.site]:
            best = Separation(int(i), P, Q)
    if best is None or not best.P[best.site]:
        raise ValueError(
            f"{N} points are too few for {T.shape[1]} statistics: these determine the mass of "
            f"every candidate.  m + 2 = {T.shape[1] + 2} points always leave one open "
            f"(sites=range(N) tries all)"
        )
    return best


def _program(cost: Array, A: Array, b: Array):
    """min cost . u over A u = b, u >= 0, by HiGHS."""
    answer = linprog(cost, A_eq=A, b_eq=b, options=TIGHT)
    if answer.status != 0:
        raise ArithmeticError(f"the linear program was not solved: {answer.message}")
    return answer


# ------------------------------------------------------------------------------- swap test


class Interval(NamedTuple):
    """What the statistics leave open of the mean gap, on the pool.

    `lower` and `upper` are attained by the laws `weights_lower` and `weights_upper` on the pool;
    `actual` is the mean gap of the reference law.  No law with its statistics is below `lower` or
    above `upper` by more than `slack`, which the dual programs prove.
    """

    lower: float
    upper: float
    weights_lower: Array
    weights_upper: Array
    actual: float
    slack: float

    @property
    def relative(self) -> tuple[float, float]:
        """The ends as multiples of the actual mean gap."""
        return self.lower / self.actual, self.upper / self.actual


def swap_interval(
    gaps: ArrayLike, statistics: ArrayLike, weights: ArrayLike | None = None
) -> Interval:
    r"""Smallest and largest mean gap among the laws on a pool with the reference's statistics.

    min and max of sum_i p_i a_i over p >= 0, sum p = 1, sum_i p_i T(z_i) = sum_i q_i T(z_i), with q
    the reference: two linear programs.  If the mean gap were a function of the statistics (and of
    the network), both would be equal.

    Parameters
    ----------
    gaps : array, shape (n,)
        a(z_i), see :func:`gap`.
    statistics : array, shape (n, m)
        T(z_i); a constant is not needed.
    weights : array, shape (n,), optional
        The reference law on the pool; by default 1/n each.

    Returns
    -------
    Interval

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit together, or entries are not finite.

    Notes
    -----
    Source: Proposition ``prop-swap-interval`` (chapter 7).
    """
    gaps = finite(gaps, "gaps")
    if gaps.ndim != 1 or not len(gaps):
        raise ValueError(f"gaps must have one entry per point of the pool, got shape {gaps.shape}")
    n = len(gaps)
    T, law = _statistics(statistics, n), _law(weights, n)
    A = np.vstack([np.ones(n), _scaled(T, law @ T).T])
    b = np.append(1.0, np.zeros(len(A) - 1))
    unit = float(np.abs(gaps).max()) or 1.0
    actual, ends, laws, slack = float(law @ gaps), [], [], 0.0
    for sign in (1.0, -1.0):
        answer = _program(sign * gaps / unit, A, b)
        p = _settled(answer.x, A, b)
        value = sign * float(p @ gaps)
        if value > sign * actual:  # not better than the reference, up to rounding
            p, value = law, sign * actual
        # any multipliers prove a bound
        proved = float((sign * gaps - unit * (answer.eqlin.marginals[1:] @ A[1:])).min())
        slack = max(slack, value - proved)
        ends.append(sign * value)
        laws.append(p)
    return Interval(ends[0], ends[1], laws[0], laws[1], actual, slack)


def _settled(p: Array, A: Array, b: Array) -> Array:
    """A solution of a program, moved onto its equations as far as rounding allows."""
    p = np.maximum(p, 0.0)
    on = p > 0
    moved = p.copy()
    moved[on] -= np.linalg.lstsq(A[:, on], A @ p - b, rcond=1e-13)[0]
    if (moved >= 0).all() and np.abs(A @ moved - b).max() <= np.abs(A @ p - b).max():
        p = moved
    return p


def linear_control(
    X: ArrayLike,
    y: ArrayLike,
    radius: float,
    statistics: Callable[[Network], ArrayLike],
    norm: float = np.inf,
    loss: Loss = "hinge",
    *,
    net: Network | None = None,
    weights: ArrayLike | None = None,
) -> Interval:
    r"""The swap test of a linear model, whose gap is a function of its margins: the control.

    Its interval shows how much of a network's is due to the coarseness of the statistics.

    Parameters
    ----------
    X : array, shape (n, d)
        The pool.
    y : array, shape (n,)
        Labels -1 or +1.
    radius, norm, loss
        As in :func:`gap`.
    statistics : function
        Of a network, returning an array of shape (n, m): the same recipe as for the network.
    net : Network, optional
        A linear model; by default the least-squares fit of y, with an intercept.
    weights : array, shape (n,), optional
        The reference law on the pool.

    Returns
    -------
    Interval

    Raises
    ------
    TypeError, ValueError
        As in :func:`gap` and :func:`swap_interval`; or if `net` has a hidden layer.

    Notes
    -----
    Source: Proposition ``prop-swap-interval`` (chapter 7).
    """
    X = finite(X, "X")
    if X.ndim != 2 or not X.size:
        raise ValueError(f"X must have one sample per row, got shape {X.shape}")
    y = _labels(y, len(X))
    if net is None:
        w = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
        net = Network((w[None, :-1],), (w[-1:],))
    elif _score(net).hidden:
        raise ValueError("the control is a linear model; this network has hidden layers")
    if not callable(statistics):
        raise TypeError("statistics must be a function of the network, which returns an array")
    return swap_interval(gap(net, X, y, radius, norm, loss), statistics(net), weights)


def monomials(X: ArrayLike, degree: int) -> Array:
    """All monomials of the inputs of degree 1 to `degree`, shape (n, m); the constant is left out.

    Parameters
    ----------
    X : array, shape (n, d)
    degree : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.
    """
    X = finite(X, "X")
    if X.ndim != 2:
        raise ValueError(f"X must have one sample per row, got shape {X.shape}")
    return np.column_stack([
        X[:, list(which)].prod(axis=1)
        for k in range(1, integer(degree, "degree", 1) + 1)
        for which in combinations_with_replacement(range(X.shape[1]), k)
    ])  # fmt: skip


def by_class(statistics: ArrayLike, y: ArrayLike) -> Array:
    """Statistics of each class: [y = 1], T [y = 1] and T [y = -1], shape (n, 2 m + 1).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.
    """
    T = _statistics(statistics)
    positive = (_labels(y, len(T)) > 0)[:, None]
    return np.hstack([positive * 1.0, T * positive, T * ~positive])


def margin_bins(scores: ArrayLike, y: ArrayLike, bins: int) -> Array:
    """Histogram of the scores in each class, with the mean score of every bin.

    Parameters
    ----------
    scores : array, shape (n,)
        f(x_i).
    y : array, shape (n,)
        Labels -1 or +1.
    bins : int
        Per class, with equally many samples each, up to ties.

    Returns
    -------
    array, shape (n, m), m <= 4 bins
        [z in bin] and f [z in bin] of each bin that is not empty.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.
    """
    scores = finite(scores, "scores")
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores must have one entry per sample, got shape {scores.shape}")
    y, bins = _labels(y, len(scores)), integer(bins, "bins", 1)
    columns = []
    for label in (-1, 1):
        in_class = y == label
        if not in_class.any():
            continue
        edges = np.quantile(scores[in_class], np.arange(1, bins) / bins)
        which = np.searchsorted(edges, scores, side="right")
        for k in range(bins):
            inside = in_class & (which == k)
            if inside.any():
                columns += [inside * 1.0, inside * scores]
    return np.column_stack(columns)


# ------------------------------------------------------------------------------- penalties


def penalties(net: Network) -> dict[str, float]:
    r"""Penalties of a network that know nothing of the data.

    Parameters
    ----------
    net : Network
        One hidden layer, one output.

    Returns
    -------
    dict
        "path_q" = sum_j |a_j| ||w_j||_*, "neuron_q" = max_j |a_j| ||w_j||_* and "slope_q" =
        ||sum_j a_j w_j||_* for the ground norms q = 1, 2, inf; "frobenius" = ||W||_F, "spectral" =
        ||W|| ||a||, "products" = ||W||_F ||a||, "decay" = (||W||_F^2 + ||a||^2) / 2, "output_1" =
        ||a||_1, "output_2" = ||a||, "bias" = ||b||.

    Raises
    ------
    TypeError, ValueError
        If the network is not of this kind.

    Notes
    -----
    radius * Lip(phi) * path_q bounds the gap of every law: Proposition ``prop-gap-upper-bound``
    (chapter 7).
    """
    net = _score(net)
    if len(net.hidden) != 1:
        raise ValueError(
            f"these penalties are for one hidden layer, this network has {len(net.hidden)}"
        )
    W, b, a = _first_layer(net)
    found = {}
    for norm in NORMS:
        sizes = np.abs(a) * dual_norm(W, norm)
        found[f"path_{norm}"] = float(sizes.sum())
        found[f"neuron_{norm}"] = float(sizes.max())
        found[f"slope_{norm}"] = float(dual_norm(a @ W, norm))
    size, out = float(np.linalg.norm(W)), float(np.linalg.norm(a))
    return found | {
        "frobenius": size,
        "spectral": float(np.linalg.norm(W, 2)) * out,
        "products": size * out,
        "decay": (size**2 + out**2) / 2,
        "output_1": float(np.abs(a).sum()),
        "output_2": out,
        "bias": float(np.linalg.norm(b)),
    }


# ------------------------------------------------------------------------------- the database


class Tails(NamedTuple):
    """Laws of the projection u = w . x in both classes, read off gaps.

    `plus` and `minus` are the tails P(y, u > s) averaged over s in [s_i, s_i + step], s_i =
    `thresholds` (falling); `mass_plus` and `mass_minus` the masses weighted by the hat function of
    width `step` around `nodes`, of which the sums and the first moments are exact.
    """

    thresholds: Array
    plus: Array
    minus: Array
    nodes: Array
    mass_plus: Array
    mass_minus: Array


class Atoms(NamedTuple):
    """Atoms of a law on R x {-1, 1}: locations, labels, weights; and the grid nodes each took."""

    locations: Array
    labels: Array
    weights: Array
    nodes: NDArray[np.intp]


def tails_from_gaps(
    plus: ArrayLike, minus: ArrayLike, start: float, step: float, radius: float
) -> Tails:
    r"""The laws of w . x in both classes from the gaps of the neurons +-relu(w . x + b).

    With F_y(b) = E[clip(w . x + b, 0, eps); y], ||w||_* = 1 and the linear loss (or the limit of
    small output weights of another) the gaps are, for the output weights +1 and -1::

        G_+(b) = F_+(b) + F_-(b + eps),    G_-(b) = F_-(b) + F_+(b + eps).

    So ``F_-(b + 2 eps) = F_-(b) - G_-(b) + G_+(b + eps)``, and F' telescopes again into the tails.

    Parameters
    ----------
    plus, minus : arrays, shape (B,)
        ``G_+`` and ``G_-`` at the biases start + step * (0, 1, ..., B - 1).
    start : float
        The first bias: so small that all data are dead and stay so, w . x + start + 2 radius <= 0.
    step : float
        Of the biases; a fraction 1 / K of the radius, K an integer.
    radius : float
        Of the attack, positive.

    Returns
    -------
    Tails
        What lies above -(the last bias) + step is found.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit together, or the step does not divide the radius.

    Notes
    -----
    Source: Theorem ``thm-gap-database`` (chapter 7).  An error of the gaps of size s makes one of
    the tails of the order s B / K / step.
    """
    G_plus, G_minus = finite(plus, "plus"), finite(minus, "minus")
    radius, step = _radius(radius), number(step, "step", 0.0, strict=True)
    start = float(finite(start, "start"))
    K = round(radius / step)
    if K < 1 or abs(K * step / radius - 1) > 1e-9:
        raise ValueError(
            f"step must be the radius divided by an integer, so that b + radius is on the grid; "
            f"got radius / step = {radius / step:.6g}"
        )
    if G_plus.ndim != 1 or G_plus.shape != G_minus.shape or len(G_plus) < 2 * K + 3:
        raise ValueError(
            f"plus and minus must be gaps on one grid of at least 2 radius / step + 3 = "
            f"{2 * K + 3} biases; got shapes {G_plus.shape} and {G_minus.shape}"
        )
    F_plus, F_minus = np.zeros_like(G_plus), np.zeros_like(G_plus)
    for i in range(2 * K, len(G_plus), K):  # K of them at once: they do not need each other
        now = np.arange(i, min(i + K, len(G_plus)))
        F_minus[now] = F_minus[now - 2 * K] - G_minus[now - 2 * K] + G_plus[now - K]
        F_plus[now] = F_plus[now - 2 * K] - G_plus[now - 2 * K] + G_minus[now - K]
    b = start + step * np.arange(len(G_plus))
    tails, masses = [], []
    for F in (F_plus, F_minus):
        tail = np.diff(F) / step
        for i in range(K, len(tail), K):
            now = np.arange(i, min(i + K, len(tail)))
            tail[now] += tail[now - K]
        tails.append(tail)
        masses.append(np.diff(tail))
    return Tails(-b[1:], tails[0], tails[1], -b[1:-1], masses[0], masses[1])


def rebuild(tails: Tails, threshold: float = 1e-6) -> Atoms:
    r"""The atoms of a law with finitely many, from its tails: locations, labels, weights.

    An atom spreads over two neighbouring nodes at most, in proportion to its distance from the
    other one: the sum is its weight and the mean its location, exactly.  Nodes with more than the
    threshold that follow each other count as one atom; where `nodes` is above 2, several atoms
    have been taken for one, and a finer grid tells them apart.

    Parameters
    ----------
    tails : Tails
        See :func:`tails_from_gaps`.
    threshold : float
        Masses up to this one are noise.

    Returns
    -------
    Atoms
        Sorted by location.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Notes
    -----
    Source: Theorem ``thm-gap-database`` (chapter 7).
    """
    if not isinstance(tails, Tails):
        raise TypeError(f"tails must be Tails (see tails_from_gaps), got {type(tails).__name__}")
    threshold = number(threshold, "threshold", 0.0)
    found = []
    for label, mass in ((1.0, tails.mass_plus), (-1.0, tails.mass_minus)):
        high = np.concatenate([[False], mass > threshold, [False]])
        first, last = np.flatnonzero(np.diff(high)).reshape(-1, 2).T
        for i, j in zip(first, last, strict=True):
            part = mass[i:j]
            found.append((part @ tails.nodes[i:j] / part.sum(), label, part.sum(), j - i))
    found.sort()
    table = np.array(found).reshape(-1, 4)
    return Atoms(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.intp))


# ------------------------------------------------------------------------------- MAX-CUT


def _edges(edges: Sequence[tuple[int, int]], nodes: int | None) -> tuple[NDArray[np.intp], int]:
    table = np.asarray(list(edges))
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu" or table.min() < 0:
        raise ValueError(
            "edges must be pairs of nodes (i, j), numbers from 0 on, one pair at least"
        )
    if (table[:, 0] == table[:, 1]).any():
        raise ValueError("an edge joins two different nodes")
    if len({tuple(sorted(pair)) for pair in table.tolist()}) < len(table):
        raise ValueError("every edge counts once; one of these is listed twice")
    least = int(table.max()) + 1
    n = least if nodes is None else integer(nodes, "nodes", least)
    return table.astype(np.intp), n


def max_cut_network(edges: Sequence[tuple[int, int]], nodes: int | None = None) -> Network:
    r"""f(x) = sum over edges of |x_i - x_j|: 2 |E| neurons with positive output weights.

    At x = 0, y = -1, with the linear loss and the norm inf, its gap is 2 radius times the largest
    cut of the graph.

    Parameters
    ----------
    edges : pairs of integers
        Nodes are numbers from 0 on; no loops, every edge once.
    nodes : int, optional
        Number of nodes, the inputs.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `edges` are no edges of a graph with these nodes.

    Notes
    -----
    Source: Theorem ``thm-max-cut`` (chapter 7).
    """
    table, n = _edges(edges, nodes)
    identity = np.eye(n)
    D = identity[table[:, 0]] - identity[table[:, 1]]
    k = 2 * len(table)
    return Network((np.vstack([D, -D]), np.ones((1, k))), (np.zeros(k), np.zeros(1)))


def max_cut(edges: Sequence[tuple[int, int]], nodes: int | None = None) -> tuple[int, Array]:
    """Largest cut of a graph of at most 22 nodes, by all of them: its size and a side (+-1).

    Raises
    ------
    ValueError
        If there are more nodes, or `edges` are no edges of a graph.
    """
    table, n = _edges(edges, nodes)
    if n > 22:
        raise ValueError(f"this looks at all 2^{n - 1} cuts; at most 22 nodes")
    sides = np.arange(2 ** (n - 1), dtype=np.int64)  # the last node stays on its side
    size = np.zeros(len(sides), np.int64)
    for i, j in table:
        size += (sides >> i ^ sides >> j) & 1
    best = int(size.argmax())
    return int(size[best]), np.where(best >> np.arange(n) & 1, 1.0, -1.0)
