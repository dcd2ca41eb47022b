"""Checks of the exercises of chapter 6 that everybody may see, and the mistakes.

The oracles try all plans that split one sample, walk along rays, search circles, try all masks or
all faces, or take differences of losses; none uses a closed form that is asked for.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from coursework.checks import (
    Check,
    NotYet,
    answers,
    close,
    number_rows,
    numbers,
    right_step,
)


def agree(ask: Callable, cases: Iterable[tuple[tuple, Any]], what: str, rtol: float = 1e-6) -> None:
    """Ask all cases, then compare each answer with what the oracle says."""
    cases = list(cases)
    asked = answers(ask, [case for case, _ in cases])
    for number, ((_, got), (_, want)) in enumerate(zip(asked, cases, strict=True), 1):
        close(got, want, f"{what}, case {number} of {len(cases)}", rtol)


def best_plan(gain: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """The largest mean gain of all plans that split one sample between two points at most.

    Sample i may move to m points, with the gains and costs of row i, or stay for nothing; the
    mean cost is at most the budget.  Of the plans that split more samples none is better.
    """
    if (gain.shape[1] + 1) ** len(gain) > 5000:
        raise ValueError("too many plans to try")
    stay = np.zeros((len(gain), 1))
    total, spent = (
        functools.reduce(np.add.outer, np.hstack([stay, rows]) / len(rows)) for rows in (gain, cost)
    )
    best = total[spent <= budget].max()
    for axis in range(len(gain)):
        g, c = np.moveaxis(total, axis, 0), np.moveaxis(spent, axis, 0)
        with np.errstate(all="ignore"):  # infinite or equal costs: not kept
            part = (budget - c[:, None]) / (c - c[:, None])
            mixed = g[:, None] + part * (g - g[:, None])
        best = max(best, mixed[(c[:, None] <= budget) & (c > budget)].max(initial=0.0))
    return float(best)


# ----------------------------------------------------------------------- worst error rates

robust_error = Check("ex-c6-knapsack", "robust_error")


def error_value(r: np.ndarray, eps: float, p: float) -> float:
    """The best plan if every sample has one point to go to, with the gain 1."""
    return best_plan(np.ones((len(r), 1)), r[:, None] ** p, eps**p)


@robust_error.property("for finite orders no plan makes more samples err", points=2)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n, p in ((7, 1), (8, 2), (8, 3), (5, 2)):
        eps = float(rng.uniform(0.15, 0.35))
        r = eps * np.append(rng.uniform(0.3, 0.7, 2), rng.uniform(1.5, 2.2, n - 2))
        rng.shuffle(r)
        cases.append(((r, eps, p), error_value(r, eps, p)))
    agree(ask, cases, "the worst error rate")


@robust_error.property("for order infinity it is a share of the samples", points=1)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n in (5, 7, 8, 9, 11, 12):
        eps = float(rng.uniform(0.3, 0.7))
        few = int(rng.integers(1, n - 2))
        r = np.concatenate([[0.0, eps], rng.uniform(1.05, 2, n - 2) * eps])
        r[2 : 1 + few] = eps * rng.uniform(0.2, 0.9, max(few - 1, 0))
        rng.shuffle(r)
        cases.append(((r, eps, np.inf), sum(float(t) <= eps for t in r) / n))
    agree(ask, cases, "the worst error rate of order infinity")


def _errors(r, cost, budget):
    """The best plan at other costs or with another budget."""
    return best_plan(np.ones((len(r), 1)), cost[:, None], budget)


@robust_error.mistake(
    "The *mean* of the costs is at most eps^p; the sum, with which you fill the knapsack, may be n "
    "times as large"
)
def forgets_the_mean(r, eps, p):
    return np.mean(r <= eps) if p == np.inf else _errors(r, r**p, eps**p / len(r))


@robust_error.mistake(
    "You compute order 1 for every p: sample i costs r_i^p, the budget is n eps^p"
)
def forgets_the_power(r, eps, p):
    return np.mean(r <= eps) if p == np.inf else _errors(r, r, eps)


@robust_error.mistake("The cost is r_i^p, so the budget is n eps^p, not n eps")
def forgets_half_the_power(r, eps, p):
    return np.mean(r <= eps) if p == np.inf else _errors(r, r**p, eps)


@robust_error.mistake(
    "You move whole samples only; the first one that does not fit can be moved in part"
)
def moves_whole_samples(r, eps, p):
    if p == np.inf:
        return np.mean(r <= eps)
    return np.mean(np.cumsum(np.sort(r) ** p) <= len(r) * eps**p)


@robust_error.mistake(
    "This is order infinity, the certified error of single points: a finite order bounds only the "
    "mean cost, and some samples may go farther than eps"
)
def certifies_points(r, eps, p):
    return np.mean(r <= eps)


@robust_error.mistake(
    "Samples that are wrong already belong to the error as well; they cost nothing"
)
def forgets_the_wrong_ones(r, eps, p):
    n, r = len(r), r[r > 0]
    if p == np.inf:
        return np.sum(r <= eps) / n
    return _errors(r, r**p, n * eps**p / len(r)) * len(r) / n


# ------------------------------------------------------------- growth in steps, any order

worst_gain = Check("ex-c6-stairs", "worst_gain")


def stairs(rng: np.random.Generator, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Increasing distances and gains; the distances are multiples of 1/64."""
    t = np.cumsum(rng.integers(7, 58, (n, m)), axis=1) / 64
    return t, np.cumsum(rng.uniform(0.05, 1.0, (n, m)), axis=1)


def _gains(rng: np.random.Generator, orders: tuple[float, ...]) -> list[tuple[tuple, float]]:
    cases = []
    for p, scale in itertools.product(orders, (0.1, 0.4, 0.9)):
        t, g = stairs(rng, 4, 3)
        eps = scale * float(rng.uniform(0.8, 1.2))
        cases.append(((t, g, eps, p), best_plan(g, t**p, eps**p)))
    t, g = stairs(rng, 3, 4)  # the last budget is enough for everything
    return [*cases, ((t, g, 4.0, orders[0]), best_plan(g, t ** orders[0], 4.0 ** orders[0]))]


@worst_gain.property("for order 1 no plan gains more, and some plan as much", points=1)
def _(ask: Callable) -> None:
    agree(ask, _gains(ask.rng, (1,)), "the largest gain of order 1")


@worst_gain.property("so it is for the orders 2 and 3", points=2)
def _(ask: Callable) -> None:
    agree(ask, _gains(ask.rng, (2, 3)), "the largest gain of order 2 or 3")


@worst_gain.mistake("You move whole samples; a finite order may split one between two points")
def keeps_samples_whole(t, g, eps, p):
    if t.size > 16:
        raise ValueError("too many combinations to try")
    cost, gain = (np.column_stack([np.zeros(len(t)), a]) for a in (t**p, g))
    rows, best = np.arange(len(t)), 0.0
    for choice in itertools.product(range(cost.shape[1]), repeat=len(t)):
        if cost[rows, choice].mean() <= eps**p:
            best = max(best, gain[rows, choice].mean())
    return best


@worst_gain.mistake(
    "You give every sample the same budget; what one sample does not need another may have"
)
def shares_nothing(t, g, eps, p):
    return np.mean([best_plan(b[None], a[None] ** p, eps**p) for a, b in zip(t, g, strict=True)])


@worst_gain.mistake(
    "The hull is taken as a function of the cost, distance^p, and the budget is eps^p; you compute "
    "order 1 for every p"
)
def takes_the_hull_in_distance(t, g, eps, p):
    return best_plan(g, t, eps)


@worst_gain.mistake(
    "You use one point per sample, that of the best gain per cost; with more budget a sample goes "
    "on to the next corner of its hull"
)
def stops_at_the_best_ratio(t, g, eps, p):
    cost, rows = t**p, np.arange(len(t))
    best = (g / cost).argmax(axis=1)
    return best_plan(g[rows, best][:, None], cost[rows, best][:, None], eps**p)


@worst_gain.mistake(
    "This is order infinity, where nobody goes farther than eps; a finite order bounds the mean"
)
def moves_all_by_eps(t, g, eps, p):
    return np.max(g * (t <= eps), axis=1).mean()


@worst_gain.mistake(
    "The mean of the costs is at most eps^p, so that all samples together may spend n eps^p"
)
def spends_one_share(t, g, eps, p):
    return best_plan(g, t**p, eps**p / len(t))


# ------------------------------------------------------------------- the mixture attack

best_mixture = Check("ex-c6-mixture", "best_mixture", rtol=1e-5)


def mixture_case(
    rng: np.random.Generator, n: int, m: int, eps: float, p: float
) -> tuple[tuple, float]:
    """The best radius u * eps of a grid that contains all distances, and the radius eps.

    The grid is stretched, so that no other grid contains the distances.  The radius is a power of
    two, so that (t / eps) * eps is t, also in floating point.
    """
    stretch = 1 + int(rng.integers(1, 2**18)) / 2**20
    t, g = stairs(rng, n, m)
    radius = np.maximum(np.arange(64 * t.max() + 1) / 64 * stretch, eps)
    t = t * stretch
    mean = np.where(t <= radius[:, None, None], g, 0).max(axis=2).mean(axis=1)
    return (t, g, eps, p), float((mean * (eps / radius) ** p).max())


def _mixtures(rng: np.random.Generator, orders: tuple[float, ...]) -> list[tuple[tuple, float]]:
    cases = [mixture_case(rng, 4, 3, eps, p) for eps in (1 / 16, 0.25, 0.5) for p in orders]
    return [*cases, mixture_case(rng, 4, 3, 4.0, orders[0])]  # beyond all steps


@best_mixture.property("for order 1 no factor gains more, and some factor as much", points=1)
def _(ask: Callable) -> None:
    agree(ask, _mixtures(ask.rng, (1,)), "the gain of the best mixture of order 1")


@best_mixture.property("so it is for the orders 2 and 3", points=1)
def _(ask: Callable) -> None:
    agree(ask, _mixtures(ask.rng, (2, 3)), "the gain of the best mixture of order 2 or 3")


def _mean_growth(t, g, s):
    return np.where(t <= s, g, 0).max(axis=1).mean()


@best_mixture.mistake(
    "The share that moves is factor^(-p): with 1 / factor the distribution leaves the ball"
)
def weighs_without_the_order(t, g, eps, p):
    s = np.append(t[t > eps], eps)
    return max(eps / v * _mean_growth(t, g, v) for v in s)


@best_mixture.mistake(
    "You choose a factor for every sample; the mixture attack has one for all of them"
)
def chooses_per_sample(t, g, eps, p):
    values = []
    for a, b in zip(t, g, strict=True):
        s = np.append(a[a > eps], eps)
        values.append(max((eps / v) ** p * _mean_growth(a[None], b[None], v) for v in s))
    return np.mean(values)


@best_mixture.mistake("A factor below 1 would move more mass than there is")
def moves_too_much_mass(t, g, eps, p):
    return max((eps / v) ** p * _mean_growth(t, g, v) for v in t.ravel())


@best_mixture.mistake(
    "This is the hull of the mean growth; the mixture has only two places for each sample, and one "
    "of them is its own: its chords start at the distance 0"
)
def takes_the_hull(t, g, eps, p):
    s = np.sort(t.ravel())
    mean = np.array([_mean_growth(t, g, v) for v in s])
    return best_plan(mean[None], s[None] ** p, eps**p)


@best_mixture.mistake(
    "You forget the factor 1, at which the mixture is the ordinary attack of radius eps"
)
def forgets_the_plain_attack(t, g, eps, p):
    return max([(eps / v) ** p * _mean_growth(t, g, v) for v in t[t > eps]], default=0.0)


# ----------------------------------------------------------------- least squares, order 2

worst_inputs = Check("ex-c6-square-root", "worst_inputs")


def largest_square(X: np.ndarray, y: np.ndarray, w: np.ndarray, b: float, eps: float) -> float:
    """V_2: the dual function, a function of one variable, is minimized by zooming in."""
    residual, W = np.abs(y - X @ w - b), np.abs(w).sum()

    def dual(log: np.ndarray) -> np.ndarray:
        price = np.exp(log)[:, None]  # lam - W^2, in (|r| + t W)^2 - lam t^2, largest at t
        t = residual * W / price
        square = residual**2 + 2 * residual * t * W - price * t**2
        return (W**2 + price[:, 0]) * eps**2 + square.mean(axis=1)

    low, high = -40.0, 25.0
    for _ in range(12):
        log = np.linspace(low, high, 101)
        value = dual(log)
        k = int(value.argmin())
        low, high = log[max(k - 1, 0)], log[min(k + 1, 100)]
    return float(value.min())


def regression(
    rng: np.random.Generator, n: int, d: int, eps: float, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Data, a linear model and a radius; the residuals have the size `noise`."""
    X, w, b = rng.standard_normal((n, d)), rng.uniform(0.3, 2, d), float(rng.uniform(-1, 1))
    w *= rng.choice([-1, 1], d)
    residual = rng.uniform(0.2, 2, n) * rng.choice([-1, 1], n)
    return X, X @ w + b + noise * residual, w, b, eps


def reaches(ask: Callable, cases: list[tuple]) -> None:
    """The moves pay no more than eps, and no other moves reach more."""
    for case, got in answers(ask, cases):
        X, y, w, b, eps = case
        new = numbers(got, X.shape)
        cost = np.mean(np.abs(new - X).max(axis=1) ** 2) / eps**2
        close(max(cost, 1.0), 1.0, "The mean squared distance exceeds eps^2")
        want = largest_square(*case)
        loss = np.mean((y - new @ w - b) ** 2)
        close(min(loss, want), want, f"The mean square reaches {loss:.6g}, {want:.6g} is possible")


@worst_inputs.property("the moves use up the budget, and no more", points=0)
def _(ask: Callable) -> None:
    cases = [regression(ask.rng, n, d, eps) for n, d, eps in ((6, 3, 0.3), (5, 2, 1.0))]
    for (X, *_, eps), got in answers(ask, cases):
        cost = np.mean(np.abs(numbers(got, X.shape) - X).max(axis=1) ** 2) / eps**2
        close(cost, 1.0, f"The mean squared distance is {cost:.6g} times eps^2")


@worst_inputs.property("the mean square reaches the least value of the dual", points=2)
def _(ask: Callable) -> None:
    cases = [
        regression(ask.rng, n, d, eps) for n, d, eps in ((6, 3, 0.3), (5, 2, 1.0), (8, 4, 0.05))
    ]
    for X, y, w, b, _ in cases:
        y[0] = X[0] @ w + b  # one sample is fitted exactly
    reaches(ask, cases)


def _moves(X, y, w, b, eps, lengths, direction=None, sign=-1.0):
    residual = y - X @ w - b
    side = np.where(residual >= 0, 1.0, -1.0)
    direction = np.sign(w) if direction is None else direction
    return X + sign * (side * lengths(np.abs(residual)))[:, None] * direction


def _rms(size, eps):
    top = np.sqrt(np.mean(size**2))
    return eps * size / top if top > 1e-9 else np.full(len(size), eps)


@worst_inputs.mistake(
    "All samples move by eps: this is order infinity; at order 2 a sample with a larger residual "
    "moves farther"
)
def moves_everyone_by_eps(X, y, w, b, eps):
    return _moves(X, y, w, b, eps, lambda size: np.full(len(size), eps))


@worst_inputs.mistake(
    "You move along w itself; in the maximum norm the steepest direction is the vector of signs"
)
def moves_along_w(X, y, w, b, eps):
    return _moves(X, y, w, b, eps, lambda s: _rms(s, eps), w / np.linalg.norm(w))


@worst_inputs.mistake("The moves have the wrong sign: they make the residuals smaller")
def shrinks_the_residuals(X, y, w, b, eps):
    return _moves(X, y, w, b, eps, lambda s: _rms(s, eps), sign=1.0)


@worst_inputs.mistake(
    "You divide by the mean of the absolute residuals; then the mean *square* of the distances "
    "exceeds eps^2"
)
def divides_by_the_mean(X, y, w, b, eps):
    return _moves(
        X, y, w, b, eps, lambda s: eps * s / s.mean() if s.mean() > 1e-9 else np.full(len(s), eps)
    )


@worst_inputs.mistake(
    "You spend all on one sample; at order 2 moving twice as far costs four times as much, so that "
    "many samples move a little"
)
def moves_the_worst_only(X, y, w, b, eps):
    def lengths(size):
        out = np.zeros(len(size))
        out[size.argmax()] = np.sqrt(len(size)) * eps
        return out

    return _moves(X, y, w, b, eps, lengths)


@worst_inputs.mistake(
    "With an exact fit there is no residual to be proportional to: you leave the samples where "
    "they are, although every one of them can move by eps"
)
def stays_without_residual(X, y, w, b, eps):
    return _moves(X, y, w, b, eps, lambda s: _rms(s, eps) * (s.max() > 1e-9))


# ---------------------------------------------------------------------------- label cost

label_value = Check("ex-c6-label-cost", "label_value")


def _logistic(m: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, -m)


def label_points(m: np.ndarray, norm: float, kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Gains and costs: move by some distances, flip, or flip and move."""
    far = np.array([0.5, 3.0, 1e9])
    clean = _logistic(m)[:, None]
    keep = _logistic(m[:, None] - norm * far) - clean
    flip = _logistic(-m[:, None] - norm * np.append(0, far)) - clean
    cost = np.concatenate([far, kappa + np.append(0, far)])
    return np.column_stack([keep, flip]), np.tile(cost, (len(m), 1))


def label_cases(rng: np.random.Generator, tasks: Iterable[tuple]) -> list[tuple[tuple, float]]:
    cases = []
    for norm, eps, share in tasks:
        m = np.append(rng.uniform(0.8, 3.5, 3), -float(rng.uniform(0.2, 1)))
        # a flip pays for margins above share times the largest one
        kappa = share * m.max() / norm
        eps = eps * kappa * float(rng.uniform(0.9, 1.1))
        value = _logistic(m).mean() + best_plan(*label_points(m, norm, kappa), eps)
        cases.append(((m, norm, eps, kappa), value))
    return cases


@label_value.property("where flips are dear, no plan gains more", points=1)
def _(ask: Callable) -> None:
    agree(
        ask, label_cases(ask.rng, ((0.8, 0.3, 1.3), (1.5, 1.0, 2.0))), "the value for dear labels"
    )


@label_value.property("where some flips pay, neither", points=2)
def _(ask: Callable) -> None:
    tasks = ((0.8, 0.3, 0.6), (1.5, 0.6, 0.2), (0.3, 0.1, 0.15))
    agree(ask, label_cases(ask.rng, tasks), "the value for cheap labels")


def _flipped(m, eps, kappa, pays):
    """The clean risk and the best plan with flips only, of the margins that are said to pay."""
    flips = best_plan(np.where(pays, m, 0.0)[:, None], np.full((len(m), 1), kappa), eps)
    return _logistic(m).mean() + flips


@label_value.mistake(
    "You charge twice the label cost: it is paid once for a changed label, although y changes by 2"
)
def charges_twice(m, norm, eps, kappa):
    return _logistic(m).mean() + best_plan(*label_points(m, norm, 2 * kappa), eps)


@label_value.mistake(
    "You never flip a label; a flip pays if m_i is larger than the cost times ||w||*"
)
def never_flips(m, norm, eps, kappa):
    return _logistic(m).mean() + eps * norm


@label_value.mistake(
    "You flip all labels that gain anything; the same budget may earn more by moving inputs"
)
def flips_everything(m, norm, eps, kappa):
    return _flipped(m, eps, kappa, m > 0) + max(eps - kappa * np.mean(m > 0), 0) * norm


@label_value.mistake("After the flips the rest of the budget still earns ||w||* per unit")
def wastes_the_rest(m, norm, eps, kappa):
    return _flipped(m, eps, kappa, m > kappa * norm)


@label_value.mistake(
    "You spend the whole budget at the best rate; but a label can be flipped only once, which "
    "costs kappa / n"
)
def flips_again_and_again(m, norm, eps, kappa):
    return _logistic(m).mean() + eps * max(norm, m.max() / kappa)


# --------------------------------------------------------------- three slopes on the line

three_slopes = Check("ex-c6-three-slopes", "three_slopes", ("predicted",))


def _units(a, w, b, x):
    return np.maximum(np.multiply.outer(x, w) + b, 0) @ a


def searched_slopes(a: np.ndarray, w: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Differences on a grid that contains all kinks, multiples of 1/16 between -16 and 16."""
    grid = np.arange(-320, 321) / 16
    h, far = _units(a, w, b, grid), _units(a, w, b, np.array([-2e8, -1e8, 1e8, 2e8]))
    end = max(0.0, far[0] - far[1], far[3] - far[2]) / 1e8
    points = np.concatenate([grid, np.outer([-1, 1], np.geomspace(20, 1e10, 50)).ravel()])
    rise = _units(a, w, b, points) - _units(a, w, b, x)[:, None]
    run = np.abs(points - x[:, None])
    secant = (rise[run > 1e-3] / run[run > 1e-3]).max(initial=0.0)
    return np.array([end, secant, np.abs(np.diff(h)).max() * 16])


def beside_grid(rng: np.random.Generator, low: float, high: float, n: int) -> np.ndarray:
    """Samples that keep a distance from the grid, so that no secant is very short."""
    return (np.floor(16 * rng.uniform(low, high, n)) + rng.uniform(0.2, 0.8, n)) / 16


def line_losses(rng: np.random.Generator) -> list[tuple]:
    """Losses on a line and samples; the kinks are multiples of 1/8."""
    running = (
        np.array([1.0, -2.0, 3.0, -3.0]),
        np.array([1.0, -1.0, 1.0, 1.0]),
        np.array([0.0, 0.0, -1.0, -4.0]),
    )
    low, high = rng.integers(2, 16, 2) / 8
    small, large = rng.uniform(0.5, 1), rng.uniform(1.5, 3)
    ramps, kinks = np.array([1.0, -1.0]), np.array([-high, -low])
    cases = [
        (*running, beside_grid(rng, -0.9, 0.9, 2)),
        (
            np.array([small, large]),
            ramps,
            kinks,
            beside_grid(rng, -0.2, 0.1, 1),
        ),  # grows on the left
        (np.array([small, -large]), ramps, kinks, beside_grid(rng, -0.2, 0.1, 2)),  # falls there
    ]
    for _ in range(3):
        kinks = np.sort(rng.choice(np.arange(-32, 33), 5, replace=False)) / 8
        w = rng.uniform(0.5, 2, 5) * rng.choice([-1, 1], 5)
        cases.append((rng.standard_normal(5), w, -w * kinks, beside_grid(rng, -3, 3, 4)))
    return cases


def stretched(
    rng: np.random.Generator, a: np.ndarray, w: np.ndarray, b: np.ndarray, x: np.ndarray
) -> tuple:
    """The same slopes, with kinks that lie on no grid; a sample at a kink stays there, exactly."""
    factor = 1 + int(rng.integers(1, 2**18)) / 2**20
    return a, w, factor * b, factor * x


def slope_entry(ask: Callable, index: int, what: str) -> None:
    """One of the three numbers, for all losses."""
    losses = line_losses(ask.rng)
    cases = [stretched(ask.rng, *loss) for loss in losses]
    for loss, (_, got) in zip(losses, answers(ask, cases), strict=True):
        want = searched_slopes(*loss)[index]
        close(numbers(got, (3,))[index], want, f"{what}, which a search finds as {want:.4g}")


@three_slopes.property("the slope at infinity is that of the loss far away", points=1)
def _(ask: Callable, predicted: Any) -> None:
    slope_entry(ask, 0, "The slope at infinity")


@three_slopes.property(
    "no secant from a sample to a grid is steeper than L_data, some is as steep", points=1
)
def _(ask: Callable, predicted: Any) -> None:
    slope_entry(ask, 1, "The largest secant slope")


@three_slopes.property("the Lipschitz constant is the steepest slope on a grid", points=1)
def _(ask: Callable, predicted: Any) -> None:
    slope_entry(ask, 2, "The Lipschitz constant")


def judge_prediction(predicted: Any) -> None:
    """NotYet unless all three predictions are right."""
    if not isinstance(predicted, dict) or set(predicted) != set(SHRINKING):
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(SHRINKING)}.")
    if any(not isinstance(v, str) or v not in ("same", "changes") for v in predicted.values()):
        raise NotYet("Every prediction should be 'same' or 'changes'.")
    for name, (right, why) in SHRINKING.items():
        if predicted[name] != right:
            raise NotYet(f"{name}: {why}")


@three_slopes.property("the predictions for smaller biases are right", points=0)
def _(ask: Callable, predicted: Any) -> None:
    judge_prediction(predicted)


SHRINKING = {
    "L_inf": ("same", "compare some losses at two values of t. Which part of w x + t b counts?"),
    "L_data": ("changes", "try one sample and a loss with two kinks, at several values of t."),
    "L_glob": ("same", "compare some losses at two values of t. What happens to the pieces?"),
}


def _pieces(a, w, b):
    """Kinks and the slopes between them, the outer ones included."""
    kinks = np.unique(-b / w)
    middle = np.concatenate([[kinks[0] - 1], (kinks[1:] + kinks[:-1]) / 2, [kinks[-1] + 1]])
    return kinks, (np.multiply.outer(middle, w) + b > 0) @ (a * w)


def _slopes(a, w, b, x, secant=None, end=None, top=None):
    kinks, slope = _pieces(a, w, b)
    ends = max(-slope[0], slope[-1], 0.0)
    rise = _units(a, w, b, kinks) - _units(a, w, b, x)[:, None]
    run = kinks - x[:, None]
    ratio = rise[run != 0] / np.abs(run[run != 0])
    return np.array(
        [
            ends if end is None else end(slope),
            max(ratio.max(), ends) if secant is None else secant(ratio, run[run != 0], slope, ends),
            np.abs(slope).max() if top is None else top(slope),
        ]
    )


@three_slopes.mistake(
    "On one of the two rays the loss falls: only growth counts for the slope at infinity"
)
def takes_the_size_of_both_ends(a, w, b, x):
    return _slopes(a, w, b, x, end=lambda s: max(abs(s[0]), abs(s[-1])))


@three_slopes.mistake("You look to the right only; on the left the loss may grow as well")
def looks_to_the_right(a, w, b, x):
    return _slopes(a, w, b, x, end=lambda s: max(s[-1], 0.0))


@three_slopes.mistake(
    "L_data is the largest secant slope, not the largest derivative at the samples"
)
def differentiates_at_the_data(a, w, b, x):
    active = np.multiply.outer(x, w) + b > 0
    return _slopes(a, w, b, x, secant=lambda *_: np.abs(active @ (a * w)).max())


@three_slopes.mistake("A secant along which the loss falls is of no use to the adversary")
def takes_falling_secants(a, w, b, x):
    return _slopes(
        a, w, b, x, secant=lambda r, run, s, e: max(np.abs(r).max(), abs(s[0]), abs(s[-1]))
    )


@three_slopes.mistake(
    "The steepest secant may be the one to infinity; do not stop at the last kink"
)
def stops_at_the_last_kink(a, w, b, x):
    return _slopes(a, w, b, x, secant=lambda r, run, s, e: max(r.max(), 0.0))


@three_slopes.mistake("A Lipschitz constant bounds the slopes of both signs")
def takes_rising_slopes_only(a, w, b, x):
    return _slopes(a, w, b, x, top=lambda s: s.max())


# ------------------------------------------------------ slope at infinity of a network, d = 2

slope_at_infinity = Check("ex-c6-far-away", "slope_at_infinity")


def _circle(angle: np.ndarray, norm: float) -> np.ndarray:
    u = np.column_stack([np.cos(angle), np.sin(angle)])
    return u / np.linalg.norm(u, norm, axis=1)[:, None]


def far_growth(a: np.ndarray, W: np.ndarray, b: np.ndarray, norm: float) -> float:
    """The largest growth at the distance 1e10: a search on the circle, and zooms on all peaks."""

    def growth(angle: np.ndarray) -> np.ndarray:
        far = 1e10 * _circle(angle.ravel(), norm)
        return ((np.maximum(far @ W.T + b, 0) @ a) / 1e10).reshape(angle.shape)

    step = np.pi / 2000
    angle = step * np.arange(4000)
    value = growth(angle)
    top = np.flatnonzero((value > np.roll(value, 1)) & (value >= np.roll(value, -1)))
    if not len(top):  # constant
        return max(float(value.max()), 0.0)
    peaks = angle[top[np.argsort(-value[top])][:40]]
    for _ in range(5):
        near = peaks[:, None] + np.linspace(-step, step, 41)
        value = growth(near)
        peaks, step = near[np.arange(len(near)), value.argmax(axis=1)], step / 18
    return max(float(value.max()), 0.0)


def plane_net(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian weights; the directions of the rows differ by angles of at least 0.3 / n."""
    angle = np.pi * (np.arange(n) + rng.uniform(-0.45, 0.45, n)) / n + rng.uniform(0, np.pi)
    W = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.5, 2, (n, 1))
    return rng.standard_normal(n), W * rng.choice([-1, 1], (n, 1)), rng.standard_normal(n)


def sideways(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two steep neurons that nearly cancel: the growth is largest along a kink."""
    u = _circle(rng.uniform(0, 2 * np.pi) + np.array([0.0, 0.2]), 2)
    return rng.uniform(1, 2) * np.array([1.0, -1.0]), u, rng.uniform(1, 2, 2)


def _far(rng: np.random.Generator, norms: tuple[float, ...]) -> list[tuple[tuple, float]]:
    turn, size = rng.uniform(0, 2 * np.pi), rng.uniform(1, 2, 2)
    nets = [plane_net(rng, n) for n in (3, 6)]
    nets.append(sideways(rng))
    for quarter in range(4):  # steepest between the kinks, in every quarter of the plane
        u = _circle(turn + np.pi / 2 * np.array([quarter, quarter + 1]), 2)
        nets.append((size * [1.0, 0.1], u, rng.uniform(1, 2, 2)))
    cases = [(*net, norm) for norm in norms for net in nets]
    return [(case, far_growth(*case)) for case in cases]


@slope_at_infinity.property("in the Euclidean norm it is the growth far away", points=1)
def _(ask: Callable) -> None:
    agree(ask, _far(ask.rng, (2,)), "the slope at infinity, Euclidean norm")


@slope_at_infinity.property("so it is in the norms 1 and infinity", points=1)
def _(ask: Callable) -> None:
    agree(ask, _far(ask.rng, (1, np.inf)), "the slope at infinity, norms 1 and infinity")


def _candidates(W: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Directions: kinks, corners of the balls, and the gradients of the sectors."""
    kinks = np.concatenate([W, -W])[:, ::-1] * [1, -1]
    angle = np.sort(np.arctan2(kinks[:, 1], kinks[:, 0]))
    middle = (angle + np.append(angle[1:], angle[0] + 2 * np.pi)) / 2
    sectors = (_circle(middle, 2) @ W.T > 0) * a @ W
    corners = np.array([u for u in itertools.product((-1, 0, 1), repeat=2) if any(u)])
    return np.concatenate([kinks, corners, sectors[np.abs(sectors).max(axis=1) > 0]])


def _best_ray(a, W, b, norm, floor=0.0):
    u = _candidates(W, a)
    u = u / np.linalg.norm(u, norm, axis=1)[:, None]
    return max((np.maximum(u @ W.T + b, 0) @ a).max(), floor)


@slope_at_infinity.mistake(
    "You keep the biases at distance 1; far away they make no difference: set them to zero"
)
def keeps_the_biases(a, W, b, norm):
    return _best_ray(a, W, b, norm)


@slope_at_infinity.mistake(
    "You take the largest gradient norm of the sectors; a gradient need not point into its sector"
)
def takes_the_largest_gradient(a, W, b, norm):
    kinks = np.concatenate([W, -W])[:, ::-1] * [1, -1]
    angle = np.sort(np.arctan2(kinks[:, 1], kinks[:, 0]))
    middle = (angle + np.append(angle[1:], angle[0] + 2 * np.pi)) / 2
    sectors = (_circle(middle, 2) @ W.T > 0) * a @ W
    dual = {1: np.inf, 2: 2, np.inf: 1}[norm]
    return np.linalg.norm(sectors, dual, axis=1).max()


@slope_at_infinity.mistake("The directions have to be unit vectors of the given norm, not of ℓ2")
def measures_in_l2(a, W, b, norm):
    return _best_ray(a, W, 0 * b, 2)


@slope_at_infinity.mistake(
    "The slope at infinity is the positive part: where the loss falls everywhere, it is 0"
)
def goes_below_zero(a, W, b, norm):
    return _best_ray(a, W, 0 * b, norm, -np.inf)


@slope_at_infinity.mistake("Only growth counts; you take the absolute value of the slope")
def takes_absolutevalue_cases(a, W, b, norm):
    return max(_best_ray(a, W, 0 * b, norm), _best_ray(-a, W, 0 * b, norm))


@slope_at_infinity.mistake(
    "You look along the kinks only; between two of them the best direction may be that of the "
    "gradient, or a corner of the ball"
)
def looks_along_the_kinks(a, W, b, norm):
    kinks = np.concatenate([W, -W])[:, ::-1] * [1, -1]
    u = kinks / np.linalg.norm(kinks, norm, axis=1)[:, None]
    return max((np.maximum(u @ W.T, 0) @ a).max(), 0.0)


# ------------------------------------------------------------------- what a cell contributes

recession_slope = Check("ex-c6-recession", "recession_slope")


def by_faces(A: np.ndarray, g: np.ndarray) -> float:
    """Project g onto every face {A_S u = 0}; the longest projection inside the cone wins."""
    best = 0.0
    for size in range(len(A) + 1):
        for rows in itertools.combinations(range(len(A)), size):
            S = A[list(rows)]
            u = g - np.linalg.pinv(S) @ (S @ g) if size else g
            if (A @ u <= 1e-9).all():
                best = max(best, float(np.linalg.norm(u)))
    return best


def open_cone(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    """Rows of length 1 with A u <= -0.4 for some unit vector u: no solver meets a thin cone."""
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    across = rng.standard_normal((m, d))
    across -= np.outer(across @ u, u)
    across /= np.linalg.norm(across, axis=1)[:, None]
    tilt = rng.uniform(0.4, 0.9, (m, 1))
    return np.sqrt(1 - tilt**2) * across - tilt * u


def cones_agree(ask: Callable, cases: list[tuple[tuple, float]], what: str) -> None:
    """Compare in units of the length of g; a minimizer with usual tolerances is good enough."""
    asked = answers(ask, [case for case, _ in cases])
    for ((_, g), got), (_, want) in zip(asked, cases, strict=True):
        size = np.linalg.norm(g) or 1.0
        close(1 + float(numbers(got, ())) / size, 1 + want / size, what, 1e-3)


@recession_slope.property("it is right for half-planes, strips and quadrants", points=1)
def _(ask: Callable) -> None:
    rng = ask.rng
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(1, 3)
    Q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    quarter = np.eye(2)[:, :: int(rng.choice([-1, 1]))]  # keeps opposite walls exactly parallel
    wall, strip = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]])
    plane = [
        (wall, np.array([3.0, 4.0]), 4.0),
        (wall, np.array([-3.0, 4.0]), 5.0),
        (strip, np.array([1.0, 0.3]), 0.3),
        (np.eye(2), np.array([2.0, -0.7]), 0.7),
        (np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, 1.0]), 0.0),
    ]
    turns = [quarter if A is strip else Q for A, *_ in plane]
    cases = [
        ((A @ turn, size * g @ turn), size * want)
        for (A, g, want), turn in zip(plane, turns, strict=True)
    ]
    cones_agree(ask, cases, "the slope of a plane cell")


@recession_slope.property("a search over all faces of the cone finds the same", points=1)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for d, m in ((3, 2), (3, 4), (4, 5)):
        for _ in range(4):
            A, g = open_cone(rng, m, d), rng.standard_normal(d)
            cases.append(((A, g), by_faces(A, g)))
    cones_agree(ask, cases, "the slope of a cell")


@recession_slope.mistake("This is the norm of the gradient; it need not point into the cell")
def takes_the_norm(A, g):
    return np.linalg.norm(g)


@recession_slope.mistake(
    "The multipliers must not be negative: you project onto the subspace A u = 0, the cone is "
    "larger"
)
def projects_onto_the_subspace(A, g):
    return np.linalg.norm(g - A.T @ np.linalg.lstsq(A.T, g, rcond=None)[0])


@recession_slope.mistake(
    "You make the violated inequalities equalities, once and for all; the result may violate "
    "others, and some equalities may be too much"
)
def repairs_once(A, g):
    S = A[A @ g > 0]
    return np.linalg.norm(g - np.linalg.pinv(S) @ (S @ g)) if len(S) else np.linalg.norm(g)


@recession_slope.mistake("A sign is wrong: this is the projection onto the opposite cone, A u >= 0")
def takes_the_opposite_cone(A, g):
    return by_faces(-A, g)


@recession_slope.mistake(
    "This is the length of the part that is thrown away; the projection is the residual"
)
def keeps_the_wrong_part(A, g):
    return np.sqrt(max(g @ g - by_faces(A, g) ** 2, 0.0))


@recession_slope.mistake("This is the square of it")
def forgets_the_root(A, g):
    return by_faces(A, g) ** 2


# --------------------------------------------------------------------------- all the masks

mask_bound = Check("ex-c6-masks", "mask_bound")


def all_masks(a: np.ndarray, W: np.ndarray) -> float:
    """The largest dual norm of the gradients of all masks."""
    masks = np.array(list(itertools.product((0, 1), repeat=len(a))))
    return float(np.abs(masks * a @ W).sum(axis=1).max())


@mask_bound.property("for few neurons it is the largest of all masks", points=2)
def _(ask: Callable) -> None:
    nets = [(ask.rng.standard_normal(n), ask.rng.standard_normal((n, d))) for n, d in FEW]
    agree(ask, [(net, all_masks(*net)) for net in nets], "the bound for few neurons")


FEW = ((5, 2), (8, 3), (7, 5), (3, 4))


@mask_bound.property(
    "for many neurons and two inputs it is that of all corners of a zonotope", points=1
)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n in (40, 60):  # the corners, one after the other
        a, W = rng.standard_normal(n), rng.standard_normal((n, 2))
        V = a[:, None] * W
        angle = np.sort(np.arctan2(V[:, 0], -V[:, 1]) % np.pi)
        angle = np.concatenate([angle, angle + np.pi])
        middle = (angle + np.append(angle[1:], angle[0] + 2 * np.pi)) / 2
        corners = (_circle(middle, 2) @ V.T > 0) @ V
        cases.append(((a, W), float(np.abs(corners).sum(axis=1).max())))
    agree(ask, cases, "the bound for many neurons")


@mask_bound.mistake("You switch all neurons on; with some of them off the gradient may be longer")
def switches_all_on(a, W):
    return np.abs(a @ W).sum()


@mask_bound.mistake(
    "You add the norms of the neurons; no one direction suits all of them (this is a larger bound)"
)
def adds_the_norms(a, W):
    return np.abs(a) @ np.abs(W).sum(axis=1)


@mask_bound.mistake("This is the product of the norms of the layers, a larger bound")
def multiplies_the_norms(a, W):
    return np.abs(a).sum() * np.abs(W).sum(axis=1).max()


@mask_bound.mistake(
    "A neuron that would lower the sum is switched off, not turned round: positive parts, not "
    "absolute values"
)
def turns_neurons_round(a, W):
    if len(a) > 12:
        raise ValueError("too many signs to try")
    return np.abs(np.array(list(itertools.product((-1, 1), repeat=len(a)))) * a @ W).sum(1).max()


@mask_bound.mistake(
    "You take the largest entry of the gradient; inputs move in the maximum norm, and the dual "
    "norm is the sum"
)
def takes_the_largest_entry(a, W):
    V = a[:, None] * W
    return max(np.maximum(V, 0).sum(axis=0).max(), np.maximum(-V, 0).sum(axis=0).max())


# ------------------------------------------------------------ the distance to the next error

distance_to_error = Check("ex-c6-nearest-error", "distance_to_error")


def _line(knots, values, left, right, x):
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    return np.interp(x, knots, values) + outside


def walk(knots, values, left, right, x, y) -> float:
    """Walk to both sides in steps of 1/64, up to 64; all knots and x are multiples of 1/64."""
    step, nearest = 1 / 64, np.inf
    reach = step * np.arange(64 * 64)
    for side in (-1, 1):
        m = y * _line(knots, values, left, right, x + side * reach)
        hit = np.flatnonzero(m <= 0)
        if len(hit):
            j = hit[0]
            back = step * m[j] / (m[j] - m[j - 1]) if j else 0.0
            nearest = min(nearest, float(reach[j] - back))
    return nearest


def same_distances(ask: Callable, cases: list[tuple]) -> None:
    """Compare with a walk; where there is no error, the answer is inf."""
    for case, got in answers(ask, cases):
        where, want = f"x = {case[4]:.3g}, y = {case[5]}", walk(*case)
        if np.isfinite(want):
            close(got, want, f"{where}: a walk finds {want:.4g}")
            continue
        one = np.shape(got) == () and np.asarray(got).dtype.kind == "f"
        if not (one and got == np.inf):
            raise NotYet(f"{where}: no input is an error; the distance is inf.")


def line_nets(rng: np.random.Generator, count: int, wrong: bool) -> list[tuple]:
    """Functions on a line and an input between the knots, which is an error or not."""
    cases = []
    while len(cases) < count:
        k, v = np.cumsum(rng.integers(13, 64, 6)) / 64 - 2, rng.standard_normal(6)
        x, y = float(rng.integers(64 * k[0], 64 * k[-1])) / 64, int(rng.choice([-1, 1]))
        margin = y * _line(k, v, 0.3, -0.4, x)
        if (margin < -0.01) if wrong else (margin > 0.01):
            cases.append((k, v, 0.3, -0.4, x, y))
    return cases


def hill(rng: np.random.Generator) -> tuple:
    """Downhill, after a kink, an error is far; uphill, behind the hill, one is closer."""
    k, v = np.array([0.0, 2.0, 3.0, 3.5]), np.array([-2.0, 1.5, 3.0, -1.0])
    place, y = int(rng.integers(-32, 33)) / 64, int(rng.choice([-1, 1]))
    return k + place, y * rng.uniform(0.7, 1.4) * v, 0.0, 0.0, 2.75 + place, y


@distance_to_error.property("between the knots a walk in both directions finds the same", points=1)
def _(ask: Callable) -> None:
    same_distances(ask, [*line_nets(ask.rng, 8, wrong=False), hill(ask.rng)])


@distance_to_error.property("samples that are wrong already have the distance 0", points=1)
def _(ask: Callable) -> None:
    pairs = zip(line_nets(ask.rng, 4, True), line_nets(ask.rng, 4, False), strict=True)
    same_distances(ask, [*itertools.chain(*pairs), hill(ask.rng)])


@distance_to_error.property(
    "beyond the knots, too, and it is infinite where there is no error", points=1
)
def _(ask: Callable) -> None:
    k = np.array([-1.0, 0.5, 2.0]) + int(ask.rng.integers(-64, 65)) / 64
    v = np.array([1.0, 2.0, 0.5]) * ask.rng.uniform(0.8, 1.2, 3)
    x, (s, t) = float(k[1]) - 0.25, ask.rng.uniform(0.8, 1.2, 2)
    cases = [
        (k, v, 0.5 * s, 0.2 * t, x, 1),  # falls to the left of the first knot
        (k, v, -0.2 * s, -0.25 * t, x, 1),  # on the right
        (k, v, -0.2 * s, 0.2 * t, x, 1),  # nowhere
        (-k[::-1], -v[::-1], -0.2 * s, -0.5 * t, -x, -1),  # the mirror image
        (k, v, -0.2 * s, 0.2 * t, x, -1),  # wrong already
    ]
    same_distances(ask, cases)


def _crossings(knots, values, left, right):
    """All zeros of a piecewise linear function."""
    found = list(knots[values == 0])
    for (s, t), (u, v) in zip(itertools.pairwise(knots), itertools.pairwise(values), strict=True):
        if u * v < 0:
            found.append(s + (t - s) * u / (u - v))
    if left and values[0] / left > 0:
        found.append(knots[0] - values[0] / left)
    if right and -values[-1] / right > 0:
        found.append(knots[-1] - values[-1] / right)
    return np.array(found)


def _slope(knots, values, left, right, x):
    slopes = np.concatenate([[left], np.diff(values) / np.diff(knots), [right]])
    return slopes[np.searchsorted(knots, x)]


@distance_to_error.mistake(
    "You follow the tangent at x to its zero; the function has kinks on the way"
)
def follows_the_tangent(knots, values, left, right, x, y):
    f = _line(knots, values, left, right, x)
    slope = _slope(knots, values, left, right, x)
    return 0.0 if y * f <= 0 else float(np.abs(f / slope))


@distance_to_error.mistake(
    "You go downhill only; the nearest error may lie on the other side of a hill"
)
def goes_downhill(knots, values, left, right, x, y):
    if y * _line(knots, values, left, right, x) <= 0:
        return 0.0
    zeros = _crossings(knots, values, left, right)
    side = -np.sign(y * _slope(knots, values, left, right, x))
    return float(np.abs(zeros - x)[(zeros - x) * side > 0].min(initial=np.inf))


@distance_to_error.mistake(
    "This is the distance to the decision boundary; an input that is wrong already has distance 0"
)
def measures_to_the_boundary(knots, values, left, right, x, y):
    return float(np.abs(_crossings(knots, values, left, right) - x).min(initial=np.inf))


@distance_to_error.mistake("You stop at the outer knots; the function goes on")
def stops_at_the_knots(knots, values, left, right, x, y):
    if y * _line(knots, values, left, right, x) <= 0:
        return 0.0
    return float(np.abs(_crossings(knots, values, 0.0, 0.0) - x).min(initial=np.inf))


@distance_to_error.mistake(
    "The margin divided by the Lipschitz constant is a certificate, a lower bound of the distance"
)
def divides_by_the_constant(knots, values, left, right, x, y):
    margin = y * _line(knots, values, left, right, x)
    slopes = np.concatenate([[left], np.diff(values) / np.diff(knots), [right]])
    return float(max(margin, 0.0) / np.abs(slopes).max())


# ------------------------------------------------------- the gradient of the logits ratio

dlr_gradient = Check("ex-c6-dlr", "dlr_gradient", rtol=1e-5)


def dlr(z: np.ndarray, y: int, third: int = 2, own: bool = False) -> Any:
    """The loss itself, also for complex logits, which are sorted by their real parts.

    Mistakes take another `third` logit, or let the label be its `own` rival.
    """
    top = z[np.argsort(-z.real)]
    others = z if own else np.delete(z, y)
    return (others[others.real.argmax()] - z[y]) / (top[0] - top[third])


def ratio_case(
    rng: np.random.Generator, classes: int, d: int, rank: int
) -> tuple[tuple, np.ndarray]:
    """Logits with gaps of at least 0.3, and differences of the loss."""
    h, z = 1e-5, np.cumsum(rng.uniform(0.3, 1, classes)) - 2
    rng.shuffle(z)
    J, y = rng.standard_normal((classes, d)), int(np.argsort(-z)[rank])
    want = [(dlr(z + h * c, y) - dlr(z - h * c, y)) / (2 * h) for c in J.T]
    return (z, J, y), np.array(want)


def ratios(ask: Callable, tasks: Iterable[tuple[int, int, int]]) -> None:
    """Compare with differences; where the gradient is zero, in units of one."""
    cases = [ratio_case(ask.rng, *task) for task in tasks]
    asked = answers(ask, [case for case, _ in cases])
    for (_, got), (_, want) in zip(asked, cases, strict=True):
        got, size = numbers(got, want.shape), max(1.0, np.abs(want).max())
        close(np.append(got, size), np.append(want, size), "differences of the loss disagree")


@dlr_gradient.property(
    "differences of the loss agree where the label has the largest logit", points=1
)
def _(ask: Callable) -> None:
    ratios(ask, ((5, 3, 0), (5, 3, 0), (4, 2, 0)))


@dlr_gradient.property("where it has the second", points=1)
def _(ask: Callable) -> None:
    ratios(ask, ((5, 3, 1), (6, 2, 1), (4, 3, 1)))


@dlr_gradient.property("and where it has a lower one", points=1)
def _(ask: Callable) -> None:
    ratios(ask, ((5, 3, 3), (5, 3, 2), (5, 3, 4)))


def _rates(ratio, z, J):
    """The derivatives of a function of the logits, by complex steps."""
    return np.array([ratio(z + 1e-30j * column).imag / 1e-30 for column in J.T])


@dlr_gradient.mistake("You treat the denominator as a constant; it depends on the input, too")
def freezes_the_denominator(z, J, y):
    order = np.argsort(-z)
    return _rates(lambda v: dlr(v, y) * (v[order[0]] - v[order[2]]), z, J) / np.ptp(z[order[:3]])


@dlr_gradient.mistake("The sign is wrong: the loss is large where another logit exceeds that of y")
def turns_the_sign(z, J, y):
    return _rates(lambda v: -dlr(v, y), z, J)


@dlr_gradient.mistake("The denominator is the largest minus the *third* logit, not the smallest")
def divides_by_the_range(z, J, y):
    return _rates(lambda v: dlr(v, y, third=-1), z, J)


@dlr_gradient.mistake(
    "The rival is the largest logit among the *other* classes, also where y itself is the largest"
)
def is_its_own_rival(z, J, y):
    return _rates(lambda v: dlr(v, y, own=True), z, J)


# ------------------------------------------------------------- order 1, exactly, on the line

first_order_value = Check("ex-c6-escape", "first_order_value")


def escape_points(
    knots: np.ndarray, values: np.ndarray, left: float, right: float, x: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The clean risk; gains and costs of moving to a knot, or far away on either side."""
    points = np.concatenate([knots, [-1e9, -20.0, 20.0, 1e9]])
    clean = _line(knots, values, left, right, x)
    gain = _line(knots, values, left, right, points) - clean[:, None]
    return float(clean.mean()), gain, np.abs(points - x[:, None])


def line_loss(
    rng: np.random.Generator, rays: tuple[float, float], peak: int, m: int = 6, n: int = 3
) -> tuple:
    """A piecewise linear loss with a peak, and samples between its knots.

    If the peak is at the last knot, there is also a steep piece that no sample sees.
    """
    knots, values = np.cumsum(rng.uniform(0.3, 1.5, m)) - 3, rng.standard_normal(m)
    values[peak] += 4.0
    x = rng.uniform(knots[0], knots[-1], n)
    if peak == -1:
        knots, values = np.append(knots[0] - 0.2, knots), np.append(values[0] - 9, values)
    return knots, values, *rays, x


def value_cases(
    rng: np.random.Generator, rays: tuple[float, float], radii: tuple[float, ...]
) -> list[tuple[tuple, float]]:
    """Losses with their peaks at the first knot, in the middle, and at the last knot."""
    cases = []
    for eps, peak in zip(radii, (0, 2, -1), strict=True):
        case = line_loss(rng, rays, peak)
        clean, gain, cost = escape_points(*case)
        cases.append(((*case, eps), clean + best_plan(gain, cost, eps)))
    return cases


@first_order_value.property("for small radii no plan gains more, and some plan as much", points=1)
def _(ask: Callable) -> None:
    agree(ask, value_cases(ask.rng, (1.6, 0.7), (0.01, 0.02, 0.03)), "the value for a small radius")


@first_order_value.property("so it is for larger radii, where mass escapes to infinity", points=2)
def _(ask: Callable) -> None:
    radii = ((0.2, 0.4, 0.8), (2.0, 5.0, 9.0))
    cases = [case for some in radii for case in value_cases(ask.rng, (1.6, 1.1), some)]
    agree(ask, cases, "the value for a larger radius")


def _reach(knots, values, left, right, x, eps, rate=None):
    """The best plan that moves to knots, and far away if something is earned there."""
    clean = _line(knots, values, left, right, x)
    cost, gain = np.abs(knots - x[:, None]), values - clean[:, None]
    if rate is not None:
        far = np.full((len(x), 1), 1e9)
        cost, gain = np.hstack([cost, far]), np.hstack([gain, rate * far])
    return clean.mean() + best_plan(gain, cost, eps)


@first_order_value.mistake(
    "You stop at the outer knots: mass that goes ever farther earns the slope at infinity"
)
def lets_nothing_escape(knots, values, left, right, x, eps):
    return _reach(knots, values, left, right, x, eps)


@first_order_value.mistake("On one of the two rays the loss falls; nothing is earned there")
def escapes_downhill(knots, values, left, right, x, eps):
    return _reach(knots, values, left, right, x, eps, max(abs(left), abs(right)))


@first_order_value.mistake(
    "This is the certificate with the largest secant slope; it is exact for small radii only"
)
def extends_the_first_piece(knots, values, left, right, x, eps):
    clean = _line(knots, values, left, right, x)
    secants = (values - clean[:, None]) / np.abs(knots - x[:, None])
    return clean.mean() + eps * max(secants.max(), -left, right)


@first_order_value.mistake("This is the certificate with the Lipschitz constant, an upper bound")
def uses_the_lipschitz_constant(knots, values, left, right, x, eps):
    slopes = np.concatenate([[left], np.diff(values) / np.diff(knots), [right]])
    return _line(knots, values, left, right, x).mean() + eps * np.abs(slopes).max()


@first_order_value.mistake(
    "You give every sample the same budget; order 1 spends it where it gains most"
)
def divides_the_budget_evenly(knots, values, left, right, x, eps):
    rate = max(-left, right, 0.0)
    return np.mean([_reach(knots, values, left, right, s[None], eps, rate) for s in x])


# ------------------------------------------------- the largest gradient that runs away, broken

broken_unbounded = Check("ex-c6-broken-unbounded", "unbounded_counterexample", ("unbounded_step",))

UNBOUNDED_STEPS = {
    1: "Step 1 is right: a bounded cell contains no inputs far away.",
    2: "Step 2 is right: on a cell f is affine, and an affine function grows at most so fast.",
    3: "Step 3 is right: in finite dimensions the maximum that defines a dual norm is attained.",
    5: "Step 5 is right if step 4 is.",
}


@broken_unbounded.property("the step named is the first that does not follow", points=0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, UNBOUNDED_STEPS)


def steepest_unbounded(rows: np.ndarray) -> float:
    """The longest gradient of the cells with interior that contain a ray.

    Far away along a kink the neurons whose kinks are not parallel are on or off; the kinks that
    are parallel cut the plane into strips, one cell each.
    """
    a, W, b = rows[:, 0], rows[:, 1:3], rows[:, 3]
    keep = np.abs(W).max(axis=1) > 0
    a, W, b = a[keep], W[keep], b[keep]
    size, best = np.linalg.norm(W, axis=1), 0.0
    for normal in W / size[:, None]:
        along = normal[::-1] * [1, -1]
        parallel = np.abs(W @ along) <= 1e-9 * size
        place = W @ normal
        cuts = np.unique(-b[parallel] / place[parallel])
        strips = np.concatenate([[cuts[0] - 1], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1]])
        for strip, side in itertools.product(strips, (1, -1)):
            on = np.where(parallel, place * strip + b > 0, side * (W @ along) > 0)
            best = max(best, float(np.linalg.norm((on * a) @ W)))
    return best


def judge_unbounded(ask: Callable, step: Any, sizes: Iterable[float]) -> None:
    """The right step and, for every c, a function that contradicts the claim."""
    right_step(step, 4, UNBOUNDED_STEPS)
    for (c,), got in answers(ask, [(float(c),) for c in sizes]):
        rows = number_rows(got, 4, 100.0)
        longest = steepest_unbounded(rows)
        if not longest >= c * (1 - 1e-9):
            raise NotYet(f"c = {c:g}: the longest gradient of an unbounded cell is {longest:.4g}.")
        slope = far_growth(rows[:, 0], rows[:, 1:3], rows[:, 3], 2)
        if not slope <= 1 + 1e-3:
            raise NotYet(f"c = {c:g}: far away your function still grows with slope {slope:.4g}.")


@broken_unbounded.property(
    "the step is right, and your function has a steep unbounded cell and a small slope at infinity",
    points=2,
)
def _(ask: Callable, step: Any) -> None:
    judge_unbounded(ask, step, (2, 10))


@broken_unbounded.mistake(
    "Your function is a single ramp without end: its gradient points into its cell, and the slope "
    "at infinity is its norm"
)
def is_a_half_plane(c):
    return np.array([[c, 1.0, 0.0, 0.0]])


@broken_unbounded.mistake(
    "The steep cell of your function is bounded; the claim is about unbounded ones"
)
def crosses_two_strips(c):
    s = c / np.sqrt(2)
    strips = [[s, 1.0, 0.0, 0.0], [-s, 1.0, 0.0, -1.0], [s, 0.0, 1.0, 0.0], [-s, 0.0, 1.0, -1.0]]
    return np.array(strips)


# -------------------------------------------------------------- a local certificate, broken

broken_local = Check("ex-c6-broken-local", "local_counterexample", ("local_step",))

LOCAL_STEPS = {
    1: "Step 1 is right: every multiplier gives an upper bound.",
    2: "Step 2 is right: near x_i the loss rises more slowly than the price of moving.",
    4: "Step 4 is right if step 3 is: insert the suprema in step 1.",
    5: "Step 5 is right if step 4 is: the bound holds for every such multiplier.",
}


@broken_local.property("the step named is the first that does not follow", points=0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, LOCAL_STEPS)


def judge_local(ask: Callable, step: Any, radii: Iterable[float]) -> None:
    """The right step and, for every eps, a function that contradicts the claim."""
    right_step(step, 3, LOCAL_STEPS)
    for (eps,), got in answers(ask, [(float(eps),) for eps in radii]):
        a, w, b = number_rows(got, 3, 100.0).T
        near = np.array([-1e-6, 0.0, 1e-6])
        slopes = np.diff(_units(a, w, b, near)) / 1e-6
        if not abs(slopes[1] - slopes[0]) <= 1e-4:
            raise NotYet(f"eps = {eps:g}: your function has a kink at 0.")
        if not abs(slopes[0]) <= 1 + 1e-4:
            raise NotYet(f"eps = {eps:g}: the derivative at 0 is {slopes[0]:.4g}.")
        kinks = -b[w != 0] / w[w != 0]
        far = np.geomspace(1e-3, 1e10, 60)
        points = np.concatenate([kinks, far, -far])
        points = points[points != 0]
        gain = _units(a, w, b, points) - _units(a, w, b, np.zeros(1))
        value = best_plan(gain[None], np.abs(points)[None], eps)
        if not value >= 2 * eps * (1 - 1e-6):
            raise NotYet(f"eps = {eps:g}: order 1 gains {value:.4g}, less than twice the radius.")


@broken_local.property(
    "the step is right, and on your function order 1 gains more than the gradient promises",
    points=2,
)
def _(ask: Callable, step: Any) -> None:
    judge_local(ask, step, (0.1, 1, 3))


@broken_local.mistake("Your function is steep at 0 itself; there the gradient tells the truth")
def is_steep_at_the_sample(eps):
    return np.array([[3.0, 1.0, 50.0]])


@broken_local.mistake("Your function is affine; no secant is steeper than its gradient")
def is_affine(eps):
    return np.array([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])
