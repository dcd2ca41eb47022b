r"""Wasserstein distributionally robust values: the worst mean loss near the empirical distribution.

For samples z_1 .. z_n and a loss l the distributionally robust value of order p and radius r is

    V_p(r) = sup { E_Q l : W_p(Q, P_n) <= r },      P_n = (1/n) sum of the unit masses at z_i.

With the growth m_i(s) = sup l over the points within distance s of z_i, V_inf(r) is the mean of
m_i(r), the pointwise adversarial risk, and for finite p and r > 0

    V_p(r) = max { (1/n) sum M_i(s_i) : s_i >= 0, (1/n) sum s_i <= r^p }        (growth form)
           = min over lambda >= 0 of  lambda r^p + (1/n) sum sup_z [l(z) - lambda d(z, z_i)^p],

M_i the least concave majorant of m_i as a function of the cost s = distance^p.  A finite order
differs from the pointwise one by two freedoms: the mass of a sample may be split (the majorant),
and the samples share one budget (the allocation).

Gains are measured from the loss at the datum: gain = l(z) - l(z_i).  So the functions that take
gains return V_p(r) - E, E the mean loss on the samples, and the first point of every list, gain 0
at distance 0, is understood.  Everything here is float64 and for the empirical distribution;
:func:`allocate`, :func:`knapsack` and :func:`mixture_attack` return values of distributions
within the radius, so lower bounds for any points and attacks (exact when these are complete), and
:func:`dual_value` an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from scipy.special import expit, log_expit

from advreg import linear
from advreg._checks import finite, number, real, wasserstein_order

__all__ = [
    "Allocation",
    "Atoms",
    "Bound",
    "Mixture",
    "allocate",
    "curve",
    "dual_value",
    "knapsack",
    "linear_cross_entropy_value",
    "linear_value",
    "mixture_attack",
    "wasserstein",
]

Array = NDArray[np.float64]
TINY = np.finfo(np.float64).tiny


class Atoms(NamedTuple):
    """A distribution near the samples: one atom per entry of four arrays of shape (k,).

    `sample` is where the mass comes from and `point` where it goes: a row of the sample's list,
    or -1 for mass that stays at the datum.  `distance` is how far it moves and `mass` how much;
    all masses together are 1.  Distance inf, mass 0 marks the sample whose mass escapes.
    """

    sample: NDArray[np.intp]
    point: NDArray[np.intp]
    distance: Array
    mass: Array


class Allocation(NamedTuple):
    """A budget spent: the value, who spent how much, and the distribution that does it.

    `shares` (n,) is the cost mass * distance^p of what leaves each sample, at most radius^p
    together; for p = inf, where nothing is shared, it is the distance that each sample moves.
    `escaping` is the part of the cost that vanishing masses carry ever farther away: if it is
    positive, no distribution attains the value, though some within the radius come arbitrarily
    near.
    """

    value: float
    shares: Array
    atoms: Atoms
    escaping: float


class Bound(NamedTuple):
    """An upper bound and the multiplier lambda that proves it."""

    value: float
    multiplier: float


class Mixture(NamedTuple):
    """A mixture of clean and attacked samples: its gain, and which mass moves how far.

    `factor` is t: the share `mass` = t^-p of every sample moves to distance t * radius; inf and 0
    if the best value is the limit of ever larger t.
    """

    value: float
    factor: float
    mass: float


# ------------------------------------------------------------------------------- checks


def _lists(points: Sequence[ArrayLike]) -> list[Array]:
    """The lists of (distance, gain), one array (k, 2) per sample."""
    lists = []
    for i, rows in enumerate(points):
        name = f"points[{i}]"
        rows = finite(rows, name)
        if not rows.size:
            rows = np.empty((0, 2))
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise ValueError(
                f"{name} must have one row (distance, gain) per point, shape (k, 2); "
                f"got {rows.shape}"
            )
        if (rows[:, 0] < 0).any():
            raise ValueError(f"the distances in {name} must not be negative")
        lists.append(rows)
    if not lists:
        raise ValueError("points must hold one list per sample, and at least one sample")
    return lists


def _rates(slopes: ArrayLike | None, n: int, p: float) -> Array:
    """The asymptotic slopes, 0 where nothing is to be had at infinity."""
    if slopes is None:
        return np.zeros(n)
    if p == math.inf:
        raise ValueError("for p = inf no mass escapes: leave out slopes")
    rates = finite(slopes, "slopes")
    if rates.shape not in ((), (n,)):
        raise ValueError(f"slopes must have one entry per sample, shape ({n},); got {rates.shape}")
    return np.broadcast_to(np.maximum(rates, 0.0), (n,))


# ------------------------------------------------------------------------------- growth form


def _cost(distance: Array, scale: float, p: float) -> Array:
    """(distance / scale)^p; never 0 for a positive distance, so that nothing becomes free."""
    with np.errstate(over="ignore", under="ignore"):
        return np.where(distance > 0, np.maximum((distance / scale) ** p, TINY), 0.0)


def _hull(cost: Array, gain: Array) -> tuple[list[float], list[float], list[int]]:
    """Vertices (cost, gain, row) of the least concave nondecreasing majorant, from cost 0 on."""
    order = np.lexsort((-gain, cost))
    ahead = np.maximum.accumulate(np.append(0.0, gain[order]))
    order = order[(gain[order] > ahead[:-1]) & (cost[order] < np.inf)]  # more for more
    costs, gains, rows, slopes = [0.0], [0.0], [-1], [math.inf]
    for c, g, k in zip(cost[order].tolist(), gain[order].tolist(), order.tolist(), strict=True):
        if c == 0:  # a jump at the datum itself comes free
            gains, rows = [g], [k]
            continue
        while (slope := (g - gains[-1]) / (c - costs[-1])) >= slopes[-1] and len(costs) > 1:
            for stack in (costs, gains, rows, slopes):
                stack.pop()
        for stack, entry in zip((costs, gains, rows, slopes), (c, g, k, slope), strict=True):
            stack.append(entry)
    return costs, gains, rows


class _Segments(NamedTuple):
    """The pieces of all majorants by falling slope: the order in which a budget is spent."""

    hulls: list
    sample: NDArray[np.intp]
    cost: Array
    rise: Array
    start: float  # total gain at cost 0
    escaper: int  # the sample with the steepest ray, and its slope
    rate: float


def _segments(lists: list[Array], rates: Array, scale: float, p: float) -> _Segments:
    hulls = [_hull(_cost(rows[:, 0], scale, p), rows[:, 1]) for rows in lists]
    sample = np.repeat(np.arange(len(hulls)), [len(hull[0]) - 1 for hull in hulls])
    cost = np.concatenate([np.diff(hull[0]) for hull in hulls])
    rise = np.concatenate([np.diff(hull[1]) for hull in hulls])
    escaper = int(np.argmax(rates))
    rate = rates[escaper] * scale**p if rates[escaper] else 0.0
    with np.errstate(over="ignore"):
        slope = rise / cost
    # the sort is stable, so the pieces of one sample stay in order; flatter than a ray, a piece
    # is never worth its cost
    order = np.argsort(-slope, kind="stable")
    order = order[slope[order] >= rate]
    start = sum(hull[1][0] for hull in hulls)
    return _Segments(hulls, sample[order], cost[order], rise[order], start, escaper, float(rate))


def _fill(cost: Array, budget: float) -> Array:
    """How much, from 0 to 1, of each item is bought if they are bought one after another."""
    before = np.append(0.0, np.cumsum(cost)[:-1])
    spent = np.minimum(cost, np.maximum(budget - before, 0.0))
    return np.divide(spent, cost, out=np.ones_like(cost), where=cost > 0)


def allocate(
    points: Sequence[ArrayLike], radius: float, p: float, slopes: ArrayLike | None = None
) -> Allocation:
    r"""Largest mean gain within the radius, from lists of points that each sample may go to.

    The growth form: per sample the least concave majorant of its points (distance^p, gain) and
    of (0, 0), then the pieces of all majorants by falling slope until the mean cost is radius^p.
    At most one sample is split.  For p = inf every sample goes to its best point within the
    radius.

    Parameters
    ----------
    points : sequence of arrays, shape (k_i, 2)
        For each sample rows (distance, gain): points that its mass may move to, in any order;
        an empty list for a sample that gains nowhere.  Rows that do not help are ignored.
    radius : float
        Wasserstein radius, at least 0, in the units of the distances.
    p : float
        Order of the Wasserstein distance, from 1 to numpy.inf.
    slopes : array, shape (n,), optional
        Per sample the limit of gain / distance^p far away, along a ray; negative ones count
        as 0.  For finite p only: mass escaping to infinity is then possible.  (If a limit is
        infinite, so is the value for every radius > 0.)

    Returns
    -------
    Allocation
        The value is that of the atoms plus the escaping cost times its slope.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If there is no sample, a list has another shape, a number is not finite, a distance or
        the radius is negative, p < 1, or slopes do not fit or are given for p = inf.

    Notes
    -----
    A lower bound of V_p(radius) - E for any points and any slopes that rays attain: it is the
    gain of a distribution within the radius or, with escaping mass, a limit of such gains.  Exact
    if the points contain all vertices of the true majorants, which may lie far beyond the radius,
    and the slopes are exact.  A point at distance 0 with a positive gain stands for points
    arbitrarily near the datum.  Time: a sort of each list.

    Source: Theorem ``thm-growth-form`` and Proposition ``prop-sparse-worst-case`` (chapter 6).
    """
    lists, radius, p = _lists(points), number(radius, "radius", 0.0), wasserstein_order(p)
    n, rates = len(lists), _rates(slopes, len(lists), p)
    if p == math.inf:
        return _pointwise(lists, radius)
    pieces = _segments(lists, rates, radius or 1.0, p)
    budget = float(n) if radius else 0.0
    share = _fill(pieces.cost, budget)
    steps = np.bincount(pieces.sample[share == 1], minlength=n)
    ends = [(i, int(k), 1.0) for i, k in enumerate(steps)]  # sample, vertex, part of its mass
    for j in np.flatnonzero((share > 0) & (share < 1)):  # one at most
        i, k, part = pieces.sample[j], int(steps[pieces.sample[j]]), float(share[j])
        ends[i] = (i, k, 1 - part)
        ends.append((i, k + 1, part))
    sample = np.array([i for i, _, _ in ends], dtype=np.intp)
    point = np.array([pieces.hulls[i][2][k] for i, k, _ in ends], dtype=np.intp)
    mass = np.array([part / n for _, _, part in ends])
    distance, gain = _at(lists, sample, point)
    with np.errstate(over="ignore"):
        shares = np.bincount(sample, mass * distance**p, minlength=n)
    value, escaping = float(mass @ gain), 0.0
    left = budget - pieces.cost.sum()
    if pieces.rate > 0 and left > 1e-15 * n:  # more than rounding
        escaping = left / n * radius**p
        value += left / n * pieces.rate
        shares[pieces.escaper] += escaping
        sample, point = np.append(sample, pieces.escaper), np.append(point, -1)
        distance, mass = np.append(distance, np.inf), np.append(mass, 0.0)
    return Allocation(value, shares, Atoms(sample, point, distance, mass), escaping)


def _at(
    lists: list[Array], sample: NDArray[np.intp], point: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Distances and gains of atoms."""
    rows = [lists[i][k] if k >= 0 else (0.0, 0.0) for i, k in zip(sample, point, strict=True)]
    return tuple(np.array(rows, dtype=np.float64).T)


def _pointwise(lists: list[Array], radius: float) -> Allocation:
    n = len(lists)
    point = np.full(n, -1, dtype=np.intp)
    for i, rows in enumerate(lists):
        gain = np.where(rows[:, 0] <= radius, rows[:, 1], -np.inf)
        if gain.size and gain.max() > 0:  # of equally good points the nearest
            point[i] = np.lexsort((rows[:, 0], -gain))[0]
    sample, mass = np.arange(n), np.full(n, 1 / n)
    distance, gain = _at(lists, sample, point)
    return Allocation(float(gain.mean()), distance, Atoms(sample, point, distance, mass), 0.0)


def curve(
    points: Sequence[ArrayLike],
    radii: ArrayLike,
    p: float,
    slopes: ArrayLike | None = None,
) -> Array:
    r"""The values of :func:`allocate` for many radii at once: the majorants are built once.

    For finite p the value is a concave, piecewise affine function of radius^p.

    Parameters
    ----------
    points, p, slopes
        As in :func:`allocate`.
    radii : array
        Wasserstein radii, at least 0, of any shape.

    Returns
    -------
    array, shape of `radii`

    Raises
    ------
    TypeError, ValueError
        As :func:`allocate`.
    """
    lists, radii, p = _lists(points), finite(radii, "radii", least=0.0), wasserstein_order(p)
    n, rates = len(lists), _rates(slopes, len(lists), p)
    if p == math.inf:
        value = np.zeros(radii.shape)
        for rows in lists:
            rows = rows[np.argsort(rows[:, 0], kind="stable")]
            best = np.maximum.accumulate(np.append(0.0, rows[:, 1]))
            value += best[np.searchsorted(rows[:, 0], radii, side="right")]
        return value / n
    scale = float(radii.max(initial=0.0)) or 1.0
    pieces = _segments(lists, rates, scale, p)
    budget = n * (radii / scale) ** p
    cost = np.append(0.0, np.cumsum(pieces.cost))
    gain = pieces.start + np.append(0.0, np.cumsum(pieces.rise))
    return (np.interp(budget, cost, gain) + pieces.rate * np.maximum(budget - cost[-1], 0.0)) / n


def knapsack(
    distances: ArrayLike, radius: float, p: float, *, label_cost: float = math.inf
) -> Allocation:
    r"""Worst error rate (0-1 loss) from the distances to misclassification: a knapsack.

    max { (1/n) sum a_i : 0 <= a_i <= 1, (1/n) sum a_i d_i^p <= radius^p }, where
    d_i = min(distance_i, label_cost): the nearest samples first, at most one in part.  For
    p = inf the share of samples with d_i <= radius.

    Parameters
    ----------
    distances : array, shape (n,)
        Distance of each sample to the nearest error: 0 if it is one, inf if there is none.
    radius : float
        Wasserstein radius, at least 0.
    p : float
        Order, from 1 to numpy.inf.
    label_cost : float
        Distance between a sample and the same sample with another label, at least 0; inf if
        labels are fixed.

    Returns
    -------
    Allocation
        The value is the error rate itself, not its increase.  Point 0 of an atom is the nearest
        error, point 1 the sample with another label, -1 the datum.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If `distances` is no vector or is empty, a distance, the radius or the label cost is
        negative or NaN, or p < 1.

    Notes
    -----
    Exact for radius > 0 and finite p, also if the distances are infima that no point attains.
    With distances that are too large (an attack) it is a lower bound, with distances that are too
    small (certified radii) an upper bound.  For p = inf or radius 0 it is exact if the distances
    are attained.

    Source: Theorem ``thm-knapsack`` (chapter 6).
    """
    d = real(distances, "distances")
    if d.ndim != 1 or not d.size or not (d >= 0).all():
        raise ValueError("distances must be a vector of numbers of at least 0 (inf is accepted)")
    flip = real(label_cost, "label_cost")
    if flip.ndim or not flip >= 0:
        raise ValueError(f"label_cost must be one number of at least 0, got {label_cost!r}")
    radius, p, n = number(radius, "radius", 0.0), wasserstein_order(p), d.size
    goal, d = np.where(d <= flip, 0, 1), np.minimum(d, flip)
    if p == math.inf:
        part = (d <= radius).astype(np.float64)
    elif radius == 0:
        part = (d == 0).astype(np.float64)
    else:
        part, order = np.empty(n), np.argsort(d, kind="stable")
        part[order] = _fill(_cost(d[order], radius, p), float(n))
    moves, stays = np.flatnonzero(part > 0), np.flatnonzero(part < 1)
    atoms = Atoms(
        np.concatenate([moves, stays]),
        np.concatenate([goal[moves], np.full(stays.size, -1)]),
        np.concatenate([d[moves], np.zeros(stays.size)]),
        np.concatenate([part[moves], 1 - part[stays]]) / n,
    )
    shares = np.zeros(n)
    shares[moves] = d[moves] if p == math.inf else part[moves] / n * d[moves] ** p
    return Allocation(float(part.mean()), shares, atoms, 0.0)


# ------------------------------------------------------------------------------- dual


def dual_value(
    suprema: Callable[[float], float], radius: float, p: float, *, least: float = 0.0
) -> Bound:
    r"""Upper bound of V_p(radius) by its dual, a convex function of one number lambda.

    D(lambda) = lambda radius^p + (1/n) sum over i of sup_z [l(z) - lambda d(z, z_i)^p] is an
    upper bound for EVERY lambda >= 0, and its infimum is V_p(radius).  The search brackets the
    minimum by doubling and narrows it by the golden section; the answer is the least D that it
    met, so it is a bound even if the search stops early.

    Parameters
    ----------
    suprema : callable
        lambda -> the mean of the n suprema, or anything larger; inf where a supremum is infinite.
        For losses use l, for gains l - l(z_i): the bound is then of V_p or of V_p - E.
    radius : float
        Wasserstein radius, greater than 0: at 0 the dual value may exceed V_p(0).
    p : float
        Order, at least 1 and finite.
    least : float
        A lambda below which the suprema are known to be infinite, at least 0: for p = 1 the slope
        of the loss at infinity.  It is tried too.

    Returns
    -------
    Bound
        ``value`` and the ``multiplier`` lambda with D(lambda) = value; (inf, inf) if no finite
        value was found.

    Raises
    ------
    TypeError
        If a number is complex or not numeric.
    ValueError
        If radius is not positive, p not in [1, inf), least negative, or `suprema` returns NaN.

    Notes
    -----
    Source: Corollary ``cor-wdro-duality`` (chapter 6).
    """
    radius, p = number(radius, "radius", 0.0, strict=True), wasserstein_order(p)
    least = number(least, "least", 0.0)
    if p == math.inf:
        raise ValueError("p = inf has no dual in one number: the value is the mean of the growths")
    best = Bound(math.inf, math.inf)

    def bound(extra: float) -> float:
        nonlocal best
        multiplier = least + extra
        value = multiplier * radius**p + float(suprema(multiplier))
        if math.isnan(value):
            raise ValueError(f"suprema returned NaN at lambda = {multiplier:g}")
        if value < best.value:
            best = Bound(value, multiplier)
        return value

    bound(0.0)
    low, middle, high = 0.5, 1.0, 2.0
    at_low, at_middle, at_high = bound(low), bound(middle), bound(high)
    while high < 1e290 and (at_high < at_middle or at_middle == math.inf):
        low, middle, high = middle, high, 2 * high
        at_low, at_middle, at_high = at_middle, at_high, bound(2 * middle)
    while low > 1e-290 and at_low < at_middle:
        low, middle, high = low / 2, low, middle
        at_low, at_middle = bound(low), at_low
    golden = (math.sqrt(5) - 1) / 2
    a, b, at_a, at_b = low, high, at_low, at_high
    left, right = b - golden * (b - a), a + golden * (b - a)
    at_left, at_right = bound(left), bound(right)
    # by convexity D falls nowhere in [a, b] below the inner two by more than twice their
    # distance from the outer two
    while b - a > 1e-14 * (least + b) and not (
        max(at_a, at_b) - min(at_left, at_right) <= 4e-16 * abs(at_left)
    ):
        if at_left < at_right:
            b, at_b, right, at_right = right, at_right, left, at_left
            left = b - golden * (b - a)
            at_left = bound(left)
        else:  # also if both are infinite: finite values lie to the right
            a, at_a, left, at_left = left, at_left, right, at_right
            right = a + golden * (b - a)
            at_right = bound(right)
    return best


# ------------------------------------------------------------------------------- linear models


def linear_value(
    w: ArrayLike,
    b: float,
    X: ArrayLike,
    y: ArrayLike,
    radius: float,
    p: float,
    norm: float,
    loss: str,
    *,
    label_cost: float = math.inf,
) -> float:
    r"""V_p(radius) of a linear model f(x) = w . x + b on all of R^d, exactly.

    With c = radius ||w||_*, the clean risk E, margins m_i = y_i f(x_i) and residuals
    r_i = y_i - f(x_i), and with fixed labels:

    ===========  ==================  =========================================================
    loss         order               value
    ===========  ==================  =========================================================
    any          inf                 :func:`advreg.linear.adversarial_risk`
    absolute     any                 E + c
    hinge        1                   E + c
    hinge        1 < p < inf         min over t > 0 of c^p t^(1-p) / p
                                     + (1/n) sum (1 - m_i + (1 - 1/p) t)_+
    logistic     1                   E + c
    logistic     1 < p < inf         by the dual, to rounding
    squared      2                   (sqrt(E) + c)^2
    squared      2 < p < inf         by the dual, to rounding
    squared      p < 2               inf
    exponential  p < inf             inf
    ===========  ==================  =========================================================

    (The last two for c > 0.)  If a label can be changed at the cost `label_cost` = k, for a loss
    phi of the margin and p = 1,

        V_1 = min over lambda >= ||w||_* of
              lambda radius + (1/n) sum max(phi(m_i), phi(-m_i) - lambda k).

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
    radius : float
        Wasserstein radius, at least 0, in the units of X.
    p : float
        Order, from 1 to numpy.inf.
    norm : 1, 2 or numpy.inf
        Norm in which the samples move.
    loss : str
        One of ``advreg.linear.LOSSES``.
    label_cost : float
        Added to the distance where the label differs, greater than 0; inf for fixed labels.  A
        finite one is accepted for p = 1 and losses of the margin.

    Returns
    -------
    float
        The mean loss, not its increase; inf where it is infinite.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, the radius is negative, a label is not -1 or 1,
        p, the norm or the loss is unknown, or the label cost is not positive or not accepted.

    Notes
    -----
    For p = 1 the slope of these losses at infinity is their Lipschitz constant; a bounded loss has
    no such formula.  "By the dual" means a search of one number, whose result never lies below the
    exact value by more than rounding.

    Source: Theorems ``thm-linear-wdro`` and ``thm-square-root`` and Proposition
    ``prop-linear-label-cost`` (chapter 6).
    """
    p = wasserstein_order(p)
    at = radius if p == math.inf else 0.0
    risk = linear.adversarial_risk(w, b, X, y, at, norm, loss)  # looks at all inputs
    reach = number(radius, "radius", 0.0) * float(linear.dual_norm(w, norm))
    cost = real(label_cost, "label_cost")
    if cost.ndim or not cost > 0:
        raise ValueError(f"label_cost must be one positive number, got {label_cost!r}")
    output, y = np.asarray(X, np.float64) @ np.asarray(w, np.float64) + b, np.asarray(y, np.float64)
    if cost < math.inf:
        if p != 1 or loss not in linear.MARGIN_LOSSES:
            raise ValueError("a finite label_cost is accepted for p = 1 and losses of the margin")
        return _label_value(y * output, radius, reach, loss, float(cost)) if radius else risk
    if p == math.inf or reach == 0:
        return risk
    if loss == "exponential" or (loss == "squared" and p < 2):
        return math.inf
    if loss == "squared" and p == 2:
        return (math.sqrt(risk) + reach) ** 2
    if loss == "absolute" or p == 1:
        return risk + reach
    if loss == "hinge":
        return _hinge_value(y * output, reach, p)
    if loss == "logistic":
        return dual_value(_logistic_suprema(y * output, reach, p), 1.0, p).value
    return dual_value(_squared_suprema(np.abs(y - output), reach, p), 1.0, p).value


def _phi(margin: Array, loss: str) -> Array:
    if loss == "hinge":
        return np.maximum(1 - margin, 0.0)
    if loss == "logistic":
        return -log_expit(margin)
    with np.errstate(over="ignore"):
        return np.exp(-margin)


def _label_value(margin: Array, radius: float, reach: float, loss: str, cost: float) -> float:
    clean, flipped = _phi(margin, loss), _phi(-margin, loss)
    if (loss == "exponential" and reach > 0) or not np.isfinite(flipped).all():
        return math.inf
    # convex and piecewise affine in lambda: its least value is at a kink or at the left end
    end = reach / radius
    kinks = (flipped - clean) / cost
    lambdas = np.append(end, kinks[kinks > end])
    # the samples whose kink is not yet reached are flipped; totals by prefix sums
    order = np.argsort(-kinks)
    kept = np.append(clean.sum(), clean.sum() - np.cumsum(clean[order]))
    moved = np.append(0.0, np.cumsum(flipped[order]))
    k = np.searchsorted(-kinks[order], -lambdas, side="left")
    totals = kept[k] + moved[k] - k * lambdas * cost
    return float((lambdas * radius + totals / margin.size).min())


def _hinge_value(margin: Array, reach: float, p: float) -> float:
    """Least value of a convex function of lambda = t^(1-p) / p whose pieces are known.

    sup over s of (1 - m + s)_+ - lambda s^p is (1 - m + u)_+ with u = (1 - 1/p) t.  While k
    samples count, the least value is at t^p = n reach^p / k; else it is at a kink, u = m - 1.
    """
    n, q = margin.size, 1 - 1 / p
    kinks = np.sort(margin[margin > 1] - 1) / q
    t = np.append(kinks, reach * (n / np.arange(1, n + 1)) ** (1 / p))
    rising = np.sort(margin)
    k = np.searchsorted(rising, 1 + q * t)
    total = k * (1 + q * t) - np.append(0.0, np.cumsum(rising))[k]
    with np.errstate(over="ignore"):  # a kink very near t = 0 is no candidate
        return float((t / p * (reach / t) ** p + total / n).min())


def _bisect(decreasing: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Zeros of decreasing functions in [low, high]; the end that is nearer if there is none."""
    low, high = low.copy(), np.maximum(low, high)
    for _ in range(60):
        middle = (low + high) / 2
        up = decreasing(middle) > 0
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return (low + high) / 2


def _logistic_suprema(m: Array, reach: float, p: float) -> Callable[[float], float]:
    r"""mu -> mean of sup over t >= 0 of log(1 + exp(t - m)) - mu (t / reach)^p, 1 < p < inf.

    (In units of the reach mu stays a floating-point number for every p.)  The derivative has the
    sign of g = log sigma(t - m) - (p - 1) log t - constant, whose own derivative in log t,
    t sigma(m - t) - (p - 1), rises and then falls: g falls before the first of its zeros
    t_1 <= t_2 and after the second, so the best t is the zero of g below t_1 or the one above t_2.
    """
    q, unit, n = p - 1, math.log(reach), m.size
    peak = _bisect(lambda t: 1 - t * expit(t - m), np.ones_like(m), np.maximum(m, 2.0))
    hump = peak * expit(m - peak) > q
    first = _bisect(lambda t: q - t * expit(m - t), np.minimum(q, peak), peak)
    far = 2 * (np.maximum(m, 0.0) + max(-math.log(q), 0.0)) + 4
    second = _bisect(lambda t: t * expit(m - t) - q, peak, far)
    parts = np.log(np.concatenate([np.where(hump, first, peak), np.where(hump, second, peak)]))
    m = np.concatenate([m, m])

    def suprema(multiplier: float) -> float:
        if multiplier == 0:
            return math.inf
        constant = math.log(multiplier) + math.log(p) - p * unit
        low, high = (log_expit(-m) - constant) / q, np.full(2 * n, -constant / q)
        if max(high[0], p * (high[0] - unit)) > 700:
            return math.inf  # beyond the floating-point numbers
        edge = np.clip(parts, low, high)
        low[n:], high[:n] = edge[n:], edge[:n]
        log_t = _bisect(lambda s: log_expit(np.exp(s) - m) - q * s - constant, low, high)
        values = -log_expit(m - np.exp(log_t)) - multiplier * np.exp(p * (log_t - unit))
        return float(np.maximum(values[:n], values[n:]).mean())

    return suprema


def _squared_suprema(a: Array, reach: float, p: float) -> Callable[[float], float]:
    """mu -> mean of sup over t >= 0 of (a + t)^2 - mu (t / reach)^p, for 2 < p < inf."""
    unit = math.log(reach)

    def suprema(multiplier: float) -> float:
        if multiplier == 0:
            return math.inf
        constant = math.log(multiplier) + math.log(p) - p * unit
        low = np.full_like(a, (math.log(2) - constant) / (p - 2))
        with np.errstate(divide="ignore"):
            high = (np.log(4 * a) - constant) / (p - 1)
        high = np.maximum(high, (math.log(4) - constant) / (p - 2))  # a + t <= 2 max(a, t)
        if max(2 * high.max(), p * (high.max() - unit)) > 700:
            return math.inf  # beyond the floating-point numbers
        log_t = _bisect(lambda s: np.log(2 * (a + np.exp(s))) - (p - 1) * s - constant, low, high)
        return float(((a + np.exp(log_t)) ** 2 - multiplier * np.exp(p * (log_t - unit))).mean())

    return suprema


def linear_cross_entropy_value(
    W: ArrayLike, b: ArrayLike, X: ArrayLike, y: ArrayLike, radius: float, norm: float
) -> float:
    r"""V_1(radius) of the cross-entropy of a linear classifier with K classes, labels fixed.

    E + radius * max over the labels k in y and all classes j of ||w_j - w_k||_*: only pairs with
    a label that occurs in the sample.

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
    radius : float
        Wasserstein radius, at least 0.
    norm : 1, 2 or numpy.inf
        Norm in which the samples move.

    Returns
    -------
    float
        Exact, for samples in all of R^d.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, a label is no class, the radius is negative or
        the norm is unknown.

    Notes
    -----
    Source: Theorem ``thm-linear-wdro`` (chapter 6).
    """
    risk = linear.pairwise_bound(W, b, X, y, 0.0, norm)  # exact at radius 0; looks at all inputs
    W, labels = np.asarray(W, np.float64), np.unique(np.asarray(y)).astype(np.intp)
    slope = linear.dual_norm(W[:, None] - W[labels], norm).max()
    return risk + number(radius, "radius", 0.0) * float(slope)


# ------------------------------------------------------------------------------- attacks


def mixture_attack(
    growth: Callable[[float], ArrayLike],
    radius: float,
    p: float,
    factors: ArrayLike | None = None,
    slopes: ArrayLike | None = None,
) -> Mixture:
    r"""Best mixture of clean samples and samples attacked with one common, larger radius.

    For t >= 1 the share t^-p of every sample moves to its worst point within t * radius: that
    costs at most radius^p on average, and gains t^-p (1/n) sum gain_i(t * radius).  The best of
    the given t is returned, or the limit t -> inf, radius^p times the mean slope, if it is better.

    Parameters
    ----------
    growth : callable
        distance s -> array (n,): the gain of each sample at some point within s, exact or found
        by an attack; negative ones count as 0 (the sample stays).
    radius : float
        Wasserstein radius, greater than 0.
    p : float
        Order, from 1 to numpy.inf; for inf only t = 1 counts.
    factors : array, optional
        The t to try, at least 1; 61 from 1 to 1000 by default.  t = 1, the pointwise attack, is
        always among them.
    slopes : array, shape (n,), optional
        As in :func:`allocate`: limits of gain / distance^p.

    Returns
    -------
    Mixture

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If the radius is not positive, p < 1, a factor is less than 1, or `growth` does not
        return a vector of finite numbers.

    Notes
    -----
    A lower bound of V_p(radius) - E whatever the gains, at least V_inf(radius) - E if they are
    exact.  Its supremum over t is radius^p times the largest (mean gain at s) / s^p over
    s >= radius: the chords from s = 0 of the MEAN growth.  It falls short of :func:`allocate`,
    which may start its chords elsewhere and gives each sample its own.

    Source: Propositions ``prop-mixture-attack`` and ``prop-mixture-limit`` (chapter 6).
    """
    radius, p = number(radius, "radius", 0.0, strict=True), wasserstein_order(p)
    tries = np.geomspace(1.0, 1000.0, 61) if factors is None else finite(factors, "factors")
    if (tries < 1).any():
        raise ValueError("every factor must be at least 1")
    tries = np.unique(np.append(1.0, tries)) if p < math.inf else np.ones(1)
    best, n = Mixture(0.0, 1.0, 1.0), 0
    for factor in tries:
        gains = finite(growth(float(factor) * radius), "the result of growth")
        if gains.ndim != 1 or not gains.size:
            raise ValueError(f"growth must return one gain per sample, got shape {gains.shape}")
        n, mass = gains.size, float(factor**-p)
        value = mass * float(np.maximum(gains, 0.0).mean())
        if value > best.value:
            best = Mixture(value, float(factor), mass)
    limit = float(radius**p * _rates(slopes, n, p).mean()) if slopes is not None else 0.0
    return Mixture(limit, math.inf, 0.0) if limit > best.value else best


# ------------------------------------------------------------------------------- transport


def wasserstein(
    P: ArrayLike,
    Q: ArrayLike,
    p: float,
    norm: float,
    P_mass: ArrayLike | None = None,
    Q_mass: ArrayLike | None = None,
) -> float:
    r"""Wasserstein distance W_p of two finite distributions, by linear programming (HiGHS).

    W_p^p = min { sum pi_jk ||P_j - Q_k||^p : pi >= 0, with the masses as row and column sums };
    for p = inf the least t such that no mass has to move farther than t.  Meant to audit attacks:
    the program has one variable per pair of points.

    Parameters
    ----------
    P, Q : arrays, shapes (j, d) and (k, d)
        The points, one per row.
    p : float
        Order, from 1 to numpy.inf.
    norm : 1, 2 or numpy.inf
        Norm of the distances between points.
    P_mass, Q_mass : arrays, shapes (j,) and (k,), optional
        Masses, not negative, with sum 1; equal ones by default.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, masses are negative or do not sum to 1, or p or
        the norm is unknown.
    RuntimeError
        If HiGHS fails.
    """
    p, P, Q = wasserstein_order(p), finite(P, "P"), finite(Q, "Q")
    if P.ndim != 2 or Q.ndim != 2 or not P.size or not Q.size or P.shape[1] != Q.shape[1]:
        raise ValueError(
            f"P and Q must have one point per row and equally many columns, got shapes "
            f"{P.shape} and {Q.shape}"
        )
    linear.dual_norm(P, norm)  # refuses other norms
    masses = [_masses(P_mass, "P_mass", len(P)), _masses(Q_mass, "Q_mass", len(Q))]
    distance = cdist(P, Q, {1: "cityblock", 2: "euclidean", np.inf: "chebyshev"}[norm]).ravel()
    farthest = float(distance.max())
    if farthest == 0:
        return 0.0
    if p < math.inf:
        return farthest * max(_transport((distance / farthest) ** p, masses), 0.0) ** (1 / p)
    steps = np.unique(distance)
    low, high = 0, steps.size - 1  # bisection: steps[high] is far enough
    while low < high:
        middle = (low + high) // 2
        enough = _transport((distance > steps[middle]).astype(np.float64), masses) < 1e-9
        low, high = (low, middle) if enough else (middle + 1, high)
    return float(steps[high])


def _masses(mass: ArrayLike | None, name: str, size: int) -> Array:
    if mass is None:
        return np.full(size, 1 / size)
    mass = finite(mass, name, least=0.0)
    if mass.shape != (size,) or abs(mass.sum() - 1) > 1e-9:
        raise ValueError(f"{name} must have one mass per point, shape ({size},), with sum 1")
    return mass / mass.sum()


def _transport(cost: Array, masses: list[Array]) -> float:
    """Least total cost of a plan with these row and column sums."""
    j, k = (mass.size for mass in masses)
    rows = sparse.kron(sparse.eye(j), np.ones((1, k)))
    columns = sparse.kron(np.ones((1, j)), sparse.eye(k))
    plan = linprog(
        cost, A_eq=sparse.vstack([rows, columns]), b_eq=np.concatenate(masses), method="highs"
    )
    if plan.status != 0:
        raise RuntimeError(f"HiGHS could not solve the transport problem: {plan.message}")
    return float(plan.fun)
