"""Self-checks of the exercises of chapter 6.

``checks.tell(checks.robust_error(f))`` asks the function `f` for answers and prints one sentence
per property: ``ok`` or ``not yet`` with the reason.  The oracles send masses to many points by
linear programs, walk along rays, try all masks or all faces, or take differences of losses; none
uses a closed form that is asked for.  The checks are necessary, not sufficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize, sparse

from advreg import relu
from coursework.checks import (
    Check,
    NotYet,
    answers,
    close,
    number_rows,
    numbers,
    right_step,
    tell,
)

__all__ = ["tell"]  # beside the checks themselves

SEED = 20260906


def _rng(more: int = 0) -> np.random.Generator:
    return np.random.default_rng([SEED, more])


def _number(value: Any) -> float:
    return float(numbers(value, ()))


def _agree(
    ask: Callable, cases: Iterable[tuple[tuple, Any]], what: Callable, rtol: float = 1e-6
) -> None:
    """Ask all cases, then compare each answer with what the oracle says."""
    cases = list(cases)
    asked = answers(ask, [case for case, _ in cases])
    for (case, got), (_, want) in zip(asked, cases, strict=True):
        close(got, want, what(*case), rtol)


def _program(gain: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """The largest mean gain: sample i may send mass, 1/n in all, to each point j.

    `gain` and `cost` have the shape (n, m); unused mass gains nothing.  The unknowns are the
    amounts of budget spent (masses where the cost is zero), so that far points do no harm.
    """
    n, m = gain.shape
    finite = np.isfinite(cost).ravel()
    unit = np.where(cost > 0, cost, 1.0).ravel()[finite]
    spent = (cost > 0).ravel()[finite]
    owner = np.repeat(np.arange(n), m)[finite]
    rows = sparse.coo_array((1 / unit, (owner, np.arange(len(unit)))), shape=(n, len(unit)))
    found = optimize.linprog(
        -gain.ravel()[finite] / unit,
        A_ub=sparse.vstack([rows, sparse.coo_array(spent[None].astype(float))]),
        b_ub=np.append(np.full(n, 1 / n), budget),
        method="highs",
    )
    return float(-found.fun)


# ----------------------------------------------------------------------- worst error rates

robust_error = Check()


@cache
def _error_cases(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(1), []
    for n, eps, p in ((7, 0.2, 1), (6, 0.3, 2), (8, 0.25, 3), (5, 0.15, 2)):
        r = rng.uniform(0.1, 1.2, n)
        if kind == "odd ones":
            r[:2], r[-2] = 0.0, np.inf
        rng.shuffle(r)
        if kind == "infinity":
            r[0] = 0.0
            cases.append(((r, eps + 0.2, np.inf), sum(float(t) <= eps + 0.2 for t in r) / n))
        else:
            cases.append(((r, eps, p), _program(np.ones((n, 1)), r[:, None] ** p, eps**p)))
    return cases


def _errors(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _error_cases(kind), lambda r, eps, p: f"the value for eps = {eps}, p = {p}"
    )


robust_error.property("for finite orders it is the value of a linear program")(_errors("plain"))
robust_error.property("also if samples are wrong already, or can never be made wrong")(
    _errors("odd ones")
)
robust_error.property("for order infinity it is a share of the samples")(_errors("infinity"))


def _fill(r, cost, budget):
    """Fill the budget with the samples in increasing order of cost; parts are allowed."""
    total, left = 0.0, budget
    for c in np.sort(cost):
        part = 1.0 if c <= left else left / c
        total, left = total + part, left - part * c if part else 0.0
        if part < 1:
            break
    return total / len(r)


@robust_error.mistake(
    "The *mean* of the costs is at most eps^p; the sum, with which you fill the knapsack, may be n "
    "times as large"
)
def forgets_the_mean(r, eps, p):
    return np.mean(r <= eps) if p == np.inf else _fill(r, r**p, eps**p)


@robust_error.mistake(
    "You compute order 1 for every p: sample i costs r_i^p, the budget is n eps^p"
)
def forgets_the_power(r, eps, p):
    return np.mean(r <= eps) if p == np.inf else _fill(r, r, len(r) * eps)


@robust_error.mistake("The cost is r_i^p, so the budget is n eps^p, not n eps")
def forgets_half_the_power(r, eps, p):
    return np.mean(r <= eps) if p == np.inf else _fill(r, r**p, len(r) * eps)


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
    return _fill(r, r**p, n * eps**p) * len(r) / n


# ------------------------------------------------------------- growth in steps, any order

worst_gain = Check()


def _stairs(rng: np.random.Generator, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    t = np.cumsum(rng.uniform(0.1, 0.9, (n, m)), axis=1)
    return t, np.cumsum(rng.uniform(0.05, 1.0, (n, m)), axis=1)


@cache
def _stair_cases(orders: tuple[float, ...]) -> list[tuple[tuple, float]]:
    rng, cases = _rng(2), []
    for p, eps in itertools.product(orders, (0.1, 0.4, 0.9)):
        t, g = _stairs(rng, 4, 3)
        cases.append(((t, g, eps, p), _program(g, t**p, eps**p)))
    t, g = _stairs(rng, 3, 4)  # enough for everything
    cases.append(((t, g, 4.0, orders[0]), _program(g, t ** orders[0], 4.0 ** orders[0])))
    return cases


def _worst(*orders: float) -> Callable:
    return lambda ask: _agree(
        ask, _stair_cases(orders), lambda t, g, eps, p: f"the gain for eps = {eps}, p = {p}"
    )


worst_gain.property("for order 1 it is the value of a linear program")(_worst(1))
worst_gain.property("so it is for the orders 2 and 3")(_worst(2, 3))


def _by_dual(cost, gain, budget, floor=0.0):
    """min over lam >= floor of lam * budget + mean max(0, gain - lam * cost), at the kinks."""
    cost, gain = (np.column_stack([np.zeros(len(a)), a]) for a in (cost, gain))
    rise, run = gain[:, :, None] - gain[:, None], cost[:, :, None] - cost[:, None]
    slopes = rise[run > 0] / run[run > 0]
    return min(
        lam * budget + (gain - lam * cost).max(axis=1).mean()
        for lam in np.append(slopes[slopes > floor], floor)
    )


@worst_gain.mistake("You move whole samples; a finite order may split one between two points")
def keeps_samples_whole(t, g, eps, p):
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
    return np.mean([_by_dual(t[i : i + 1] ** p, g[i : i + 1], eps**p) for i in range(len(t))])


@worst_gain.mistake(
    "The hull is taken as a function of the cost, distance^p, and the budget is eps^p; you compute "
    "order 1 for every p"
)
def takes_the_hull_in_distance(t, g, eps, p):
    return _by_dual(t, g, eps)


@worst_gain.mistake(
    "You use one point per sample, that of the best gain per cost; with more budget a sample goes "
    "on to the next corner of its hull"
)
def stops_at_the_best_ratio(t, g, eps, p):
    cost, rows = t**p, np.arange(len(t))
    best = (g / cost).argmax(axis=1)
    return _by_dual(cost[rows, best][:, None], g[rows, best][:, None], eps**p)


@worst_gain.mistake(
    "This is order infinity, where nobody goes farther than eps; a finite order bounds the mean"
)
def moves_all_by_eps(t, g, eps, p):
    return np.max(g * (t <= eps), axis=1).mean()


@worst_gain.mistake(
    "The mean of the costs is at most eps^p, so that all samples together may spend n eps^p"
)
def spends_one_share(t, g, eps, p):
    return _by_dual(t**p, g, eps**p / len(t))


# ------------------------------------------------------------------- the mixture attack

best_mixture = Check(rtol=1e-5)


@cache
def _mixture_cases(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(3), []
    if kind == "staircase":
        t, g = np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]])
        tasks = [(t, g, 2.0, 1), (t, g, 0.5, 1), (t, g, 2.0, 2)]
    else:
        orders = (1,) if kind == "order 1" else (2, 3)
        # radii that are powers of two: (t / eps) * eps is t, also in floating point
        tasks = [(*_stairs(rng, 4, 3), e, p) for p in orders for e in (1 / 16, 0.25, 0.5)]
    for t, g, eps, p in tasks:
        factor = np.geomspace(1, max(10.0, t.max() / eps * 1.001), 30_001)
        reached = t <= (factor * eps)[:, None, None]
        mean = np.where(reached, g, 0).max(axis=2).mean(axis=1)
        cases.append(((t, g, eps, p), float((mean / factor**p).max())))
    return cases


def _mixtures(kind: str) -> Callable:
    return lambda ask: _agree(
        ask,
        _mixture_cases(kind),
        lambda t, g, eps, p: f"the gain for eps = {eps}, p = {p}",
        2e-3,
    )


best_mixture.property("for order 1 no factor of a fine grid gains more, and some gains as much")(
    _mixtures("order 1")
)
best_mixture.property("so it is for the orders 2 and 3")(_mixtures("higher"))
best_mixture.property("it is right for one sample with two steps")(_mixtures("staircase"))


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
    return _by_dual(s[None] ** p, mean[None], eps**p)


@best_mixture.mistake(
    "You forget the factor 1, at which the mixture is the ordinary attack of radius eps"
)
def forgets_the_plain_attack(t, g, eps, p):
    return max([(eps / v) ** p * _mean_growth(t, g, v) for v in t[t > eps]], default=0.0)


# ----------------------------------------------------------------- least squares, order 2

worst_inputs = Check()


@cache
def _square_cases(kind: str) -> list[tuple[tuple, float]]:
    """Data, and V_2 by minimizing the dual function over its one variable."""
    rng, cases = _rng(4), []
    for n, d, eps in ((6, 3, 0.3), (5, 2, 1.0), (8, 4, 0.05)):
        X, w, b = rng.standard_normal((n, d)), rng.standard_normal(d), 0.4
        y = X @ w + b + (0 if kind == "no residual" else rng.standard_normal(n))
        if kind == "plain":
            y[0] = X[0] @ w + b
        residual, W = np.abs(y - X @ w - b), np.abs(w).sum()

        def dual(log, residual=residual, W=W, eps=eps):
            lam = W**2 + np.exp(log)  # sup over t of (|r| + t W)^2 - lam t^2
            t = residual * W / (lam - W**2)
            return lam * eps**2 + np.mean((residual + t * W) ** 2 - lam * t**2)

        found = optimize.minimize_scalar(
            dual, bounds=(-30, 15), method="bounded", options={"xatol": 1e-10}
        )
        want = min(found.fun, dual(-30.0))
        cases.append(((X, y, w, b, eps), float(want)))
    return cases


def _moved(case: tuple, got: Any) -> tuple[np.ndarray, float, float]:
    """The new inputs, their cost relative to eps^2, and their mean square residual."""
    X, y, w, b, eps = case
    new = numbers(got, X.shape)
    cost = np.mean(np.abs(new - X).max(axis=1) ** 2) / eps**2
    return new, float(cost), float(np.mean((y - new @ w - b) ** 2))


@worst_inputs.property("the moves use up the budget, and no more")
def _(ask: Callable) -> None:
    for case, got in answers(ask, [case for case, _ in _square_cases("plain")]):
        cost = _moved(case, got)[1]
        if abs(cost - 1) > 1e-5:
            raise NotYet(f"The mean squared distance is {cost:.6g} times eps^2.")


def _reaches(kind: str) -> Callable:
    def test(ask: Callable) -> None:
        cases = _square_cases(kind)
        asked = answers(ask, [case for case, _ in cases])
        for (case, got), (_, want) in zip(asked, cases, strict=True):
            _, cost, loss = _moved(case, got)
            if cost > 1 + 1e-5:
                raise NotYet(f"The mean squared distance is {cost:.6g} times eps^2.")
            if loss < want * (1 - 1e-5):
                raise NotYet(f"The mean square reaches {loss:.6g}; {want:.6g} is possible.")

    return test


worst_inputs.property("the mean square reaches the least value of the dual")(_reaches("plain"))
worst_inputs.property("so it does if the model fits the data exactly")(_reaches("no residual"))


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

label_value = Check()


def _logistic(m: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, -m)


@cache
def _label_cases(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(5), []
    tasks = {
        "dear": ((0.8, 0.3, 6.0), (1.5, 1.0, 3.0)),
        "cheap": ((0.8, 0.3, 1.0), (1.5, 0.6, 0.4), (0.3, 0.15, 2.0)),
        "rich": ((0.8, 3.0, 1.0), (0.5, 2.0, 0.5)),
    }[kind]
    far = np.concatenate([np.geomspace(0.01, 30, 40), np.geomspace(100, 1e7, 6)])
    for norm, eps, kappa in tasks:
        m = np.append(rng.uniform(0.3, 3.5, 4), -0.7)
        keep = _logistic(m[:, None] - norm * far) - _logistic(m)[:, None]
        flip = _logistic(-m[:, None] - norm * np.append(0, far)) - _logistic(m)[:, None]
        cost = np.tile(np.concatenate([far, kappa + np.append(0, far)]), (5, 1))
        gain = np.column_stack([keep, flip])
        cases.append(((m, norm, eps, kappa), _logistic(m).mean() + _program(gain, cost, eps)))
    return cases


def _labels(kind: str) -> Callable:
    return lambda ask: _agree(
        ask,
        _label_cases(kind),
        lambda m, norm, eps, kappa: f"the value for eps = {eps}, label cost {kappa}",
        1e-4,
    )


label_value.property("where flips are dear, it is the value of a linear program")(_labels("dear"))
label_value.property("where some flips pay, too")(_labels("cheap"))
label_value.property("and where the budget exceeds all flips that pay")(_labels("rich"))


def _flips(m, norm, eps, cost, floor, rest=True):
    """Flip the largest gains above the floor at the given cost; the rest earns the norm."""
    value, left = _logistic(m).mean(), eps
    for gain in sorted((g for g in m if g > floor), reverse=True):
        part = min(1.0, left * len(m) / cost)
        value, left = value + part * gain / len(m), left - part * cost / len(m)
    return value + rest * left * norm


@label_value.mistake(
    "You charge twice the label cost: it is paid once for a changed label, although y changes by 2"
)
def charges_twice(m, norm, eps, kappa):
    return _flips(m, norm, eps, 2 * kappa, 2 * kappa * norm)


@label_value.mistake(
    "You never flip a label; a flip pays if m_i is larger than the cost times ||w||*"
)
def never_flips(m, norm, eps, kappa):
    return _logistic(m).mean() + eps * norm


@label_value.mistake(
    "You flip all labels that gain anything; the same budget may earn more by moving inputs"
)
def flips_everything(m, norm, eps, kappa):
    return _flips(m, norm, eps, kappa, 0.0)


@label_value.mistake("After the flips the rest of the budget still earns ||w||* per unit")
def wastes_the_rest(m, norm, eps, kappa):
    return _flips(m, norm, eps, kappa, kappa * norm, rest=False)


@label_value.mistake(
    "You spend the whole budget at the best rate; but a label can be flipped only once, which "
    "costs kappa / n"
)
def flips_again_and_again(m, norm, eps, kappa):
    return _logistic(m).mean() + eps * max(norm, m.max() / kappa)


# --------------------------------------------------------------- three slopes on the line

three_slopes = Check()


def _units(a, w, b, x):
    return np.maximum(np.multiply.outer(x, w) + b, 0) @ a


@cache
def _line_cases() -> list[tuple[tuple, tuple[float, float, float]]]:
    rng, cases = _rng(6), []
    running = (
        np.array([1.0, -2.0, 3.0, -3.0]),
        np.array([1.0, -1.0, 1.0, 1.0]),
        np.array([0.0, 0.0, -1.0, -4.0]),
    )
    tasks = [(*running, np.array([0.0])), (*running, np.array([-1.3, 0.2]))]
    for _ in range(3):
        kinks = np.sort(rng.uniform(-4, 4, 5)) + 0.1 * np.arange(5)
        w = rng.uniform(0.5, 2, 5) * rng.choice([-1, 1], 5)
        tasks.append((rng.standard_normal(5), w, -w * kinks, rng.uniform(-3, 3, 4)))
    grid = np.linspace(-20, 20, 40_001) + 1e-4
    for a, w, b, x in tasks:
        h = _units(a, w, b, grid)
        lipschitz = np.abs(np.diff(h) / np.diff(grid)).max()
        far = np.array([-1e8, 1e8])
        end = max(0.0, _units(a, w, b, far).max() / 1e8)
        points = np.concatenate([grid, np.outer([-1, 1], np.geomspace(20, 1e8, 200)).ravel()])
        rise = _units(a, w, b, points) - _units(a, w, b, x)[:, None]
        run = np.abs(points - x[:, None])
        secant = max(0.0, (rise[run > 1e-3] / run[run > 1e-3]).max())
        cases.append(((a, w, b, x), (end, secant, lipschitz)))
    return cases


def _entry(index: int) -> Callable:
    def test(ask: Callable, predicted: Any) -> None:
        cases = _line_cases()
        asked = answers(ask, [case for case, _ in cases])
        for (_, got), (_, want) in zip(asked, cases, strict=True):
            got = numbers(got, (3,))
            if abs(got[index] - want[index]) > 3e-3 * max(want[index], 0.1):
                raise NotYet(f"Your answer is {got[index]:.4g}, a search finds {want[index]:.4g}.")

    return test


three_slopes.property("the slope at infinity is that of the loss far away")(_entry(0))
three_slopes.property("no secant from a sample to a grid is steeper than L_data, some is as steep")(
    _entry(1)
)
three_slopes.property("the Lipschitz constant is the steepest slope on a grid")(_entry(2))


@three_slopes.property("the predictions for smaller biases are right")
def _(ask: Callable, predicted: Any) -> None:
    names = set(SHRINKING)
    if not isinstance(predicted, dict) or set(predicted) != names:
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(SHRINKING)}.")
    if any(not isinstance(v, str) or v not in ("same", "changes") for v in predicted.values()):
        raise NotYet("Every prediction should be 'same' or 'changes'.")
    for name, (right, why) in SHRINKING.items():
        if predicted[name] != right:
            raise NotYet(f"{name}: {why}")


SHRINKING = {
    "L_inf": ("same", "far away biases do not matter, whatever their size."),
    "L_data": (
        "changes",
        "the picture shrinks and the data do not: a sample sees the slopes at other distances.",
    ),
    "L_glob": ("same", "the pieces of the loss become shorter, but keep their slopes."),
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

slope_at_infinity = Check()


def _circle(angle: np.ndarray, norm: float) -> np.ndarray:
    u = np.column_stack([np.cos(angle), np.sin(angle)])
    return u / np.linalg.norm(u, norm, axis=1)[:, None]


@cache
def _far_cases(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(7), []
    angle = np.linspace(0, 2 * np.pi, 400_001)
    for norm in (2,) if kind in ("euclidean", "falling") else (1, np.inf):
        for n in (3, 6, 9) if kind == "euclidean" else (4, 7):
            a, W, b = rng.standard_normal(n), rng.standard_normal((n, 2)), rng.standard_normal(n)
            if kind == "falling":
                a = -np.abs(a)
                a[0] = 6.0 if n == 7 else a[0]
                W[-1] = -W[:-1].sum(axis=0)  # some neuron is on, whatever the direction
            far = 1e8 * _circle(angle, norm)
            growth = (np.maximum(far @ W.T + b, 0) @ a).max() / 1e8
            cases.append(((a, W, b, norm), float(max(growth, 0.0))))
    return cases


def _far(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _far_cases(kind), lambda a, W, b, norm: f"the slope in the norm {norm}", 5e-4
    )


slope_at_infinity.property("in the Euclidean norm it is the growth at a distance of 100 million")(
    _far("euclidean")
)
slope_at_infinity.property("so it is in the norms 1 and infinity")(_far("polyhedral"))
slope_at_infinity.property("also where the loss falls in most directions, or in all")(
    _far("falling")
)


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
def takes_absolute_values(a, W, b, norm):
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

recession_slope = Check()


def _by_faces(A: np.ndarray, g: np.ndarray) -> float:
    """Project g onto every face {A_S u = 0}; the longest projection inside the cone wins."""
    best = 0.0
    for size in range(len(A) + 1):
        for rows in itertools.combinations(range(len(A)), size):
            S = A[list(rows)]
            u = g - np.linalg.pinv(S) @ (S @ g) if size else g
            if (A @ u <= 1e-9).all():
                best = max(best, float(np.linalg.norm(u)))
    return best


@cache
def _cone_cases(kind: str) -> list[tuple[tuple, float]]:
    if kind == "plane":
        strip = np.array([[1.0, 0.0], [-1.0, 0.0]])
        return [
            ((np.array([[1.0, 0.0]]), np.array([3.0, 4.0])), 4.0),
            ((np.array([[1.0, 0.0]]), np.array([-3.0, 4.0])), 5.0),
            ((strip, np.array([1.0, 0.3])), 0.3),
            ((np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -0.7])), 0.7),
            ((np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, 1.0])), 0.0),
        ]
    rng, cases = _rng(8), []
    for d, m in ((2, 2), (3, 2), (3, 4), (4, 5), (5, 6)):
        for _ in range(3):
            A, g = rng.standard_normal((m, d)), rng.standard_normal(d)
            cases.append(((A, g), _by_faces(A, g)))
    return cases


def _cones(kind: str) -> Callable:
    def test(ask: Callable) -> None:
        cases = _cone_cases(kind)
        asked = answers(ask, [case for case, _ in cases])
        for ((A, g), got), (_, want) in zip(asked, cases, strict=True):
            if abs(_number(got) - want) > 1e-3 * np.linalg.norm(g):
                raise NotYet(f"A = {A.round(2).tolist()}, g = {g.round(2).tolist()}: {want:.4g}.")

    return test


recession_slope.property("it is right for half-planes, strips and quadrants")(_cones("plane"))
recession_slope.property("a search over all faces of the cone finds the same")(_cones("random"))


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
    return optimize.nnls(-A.T, g)[1]


@recession_slope.mistake(
    "This is the length of the part that is thrown away; the projection is the residual"
)
def keeps_the_wrong_part(A, g):
    return np.linalg.norm(A.T @ optimize.nnls(A.T, g)[0])


@recession_slope.mistake("This is the square of it")
def forgets_the_root(A, g):
    return optimize.nnls(A.T, g)[1] ** 2


# --------------------------------------------------------------------------- all the masks

mask_bound = Check()


@cache
def _mask_cases(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(9), []
    if kind == "few":
        for n, d in ((5, 2), (8, 3), (7, 5)):
            a, W = rng.standard_normal(n), rng.standard_normal((n, d))
            masks = np.array(list(itertools.product((0, 1), repeat=n)))
            cases.append(((a, W), float(np.abs(masks * a @ W).sum(axis=1).max())))
        return cases
    for n in (40, 60):  # the corners of a zonotope, one after the other
        a, W = rng.standard_normal(n), rng.standard_normal((n, 2))
        V = a[:, None] * W
        angle = np.sort(np.arctan2(V[:, 0], -V[:, 1]) % np.pi)
        angle = np.concatenate([angle, angle + np.pi])
        middle = (angle + np.append(angle[1:], angle[0] + 2 * np.pi)) / 2
        corners = (_circle(middle, 2) @ V.T > 0) @ V
        cases.append(((a, W), float(np.abs(corners).sum(axis=1).max())))
    return cases


def _masks(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _mask_cases(kind), lambda a, W: f"the bound for {W.shape[0]} neurons"
    )


mask_bound.property("for few neurons it is the largest of all masks")(_masks("few"))
mask_bound.property("for many neurons and two inputs it is that of all corners of a zonotope")(
    _masks("many")
)


def _signs(d: int) -> np.ndarray:
    return np.array(list(itertools.product((-1, 1), repeat=d)))


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
    return np.abs(_signs(W.shape[1]) @ (a[:, None] * W).T).sum(axis=1).max()


@mask_bound.mistake(
    "You take the largest entry of the gradient; inputs move in the maximum norm, and the dual "
    "norm is the sum"
)
def takes_the_largest_entry(a, W):
    V = a[:, None] * W
    return max(np.maximum(V, 0).sum(axis=0).max(), np.maximum(-V, 0).sum(axis=0).max())


# ------------------------------------------------------------ the distance to the next error

distance_to_error = Check()


def _line(knots, values, left, right, x):
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    return np.interp(x, knots, values) + outside


@cache
def _line_errors(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(10), []
    tasks = []
    if kind == "outside":
        k, v = np.array([-1.0, 0.5, 2.0]), np.array([1.0, 2.0, 0.5])
        tasks = [
            (k, v, 0.5, 0.2, 0.3, 1),  # falls to the left of -1, error at -3
            (k, v, -0.2, -0.25, 0.3, 1),  # on the right, at 4
            (k, v, -0.2, 0.2, 0.3, 1),  # nowhere
            (-k[::-1], -v[::-1], -0.2, -0.5, -0.4, -1),  # the mirror image
            (k, v, -0.2, 0.2, 0.3, -1),  # wrong already
        ]
    else:
        while len(tasks) < 8:
            k = np.cumsum(rng.uniform(0.2, 1.0, 6)) - 2
            v = rng.standard_normal(6)
            x = rng.uniform(k[0], k[-1])
            y = int(rng.choice([-1, 1]))
            wrong = y * _line(k, v, 0.3, -0.4, x) <= 0
            if wrong == (kind == "wrong" and len(tasks) % 2 == 0):
                tasks.append((k, v, 0.3, -0.4, float(x), y))
    for k, v, left, right, x, y in tasks:
        step = 1e-3
        reach = np.arange(0, 60, step)
        nearest = np.inf
        for side in (-1, 1):
            m = y * _line(k, v, left, right, x + side * reach)
            hit = np.flatnonzero(m <= 0)
            if len(hit):
                j = hit[0]
                back = step * m[j] / (m[j] - m[j - 1]) if j else 0.0
                nearest = min(nearest, reach[j] - back)
        cases.append(((k, v, left, right, x, y), float(nearest)))
    return cases


def _nearest(kind: str) -> Callable:
    def test(ask: Callable) -> None:
        cases = _line_errors(kind)
        asked = answers(ask, [case for case, _ in cases])
        for (case, got), (_, want) in zip(asked, cases, strict=True):
            where = f"x = {case[4]:.3g}, y = {case[5]}"
            if np.isinf(want):
                one = np.shape(got) == () and np.asarray(got).dtype.kind == "f"
                if not (one and got == np.inf):
                    raise NotYet(f"{where}: no input is an error; the distance is inf.")
            elif abs(_number(got) - want) > 1e-3:
                raise NotYet(f"{where}: a walk finds {want:.4g}, you {_number(got):.4g}.")

    return test


distance_to_error.property("between the knots a walk in both directions finds the same")(
    _nearest("inside")
)
distance_to_error.property("samples that are wrong already have the distance 0")(_nearest("wrong"))
distance_to_error.property("beyond the knots, too, and it is infinite where there is no error")(
    _nearest("outside")
)


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

dlr_gradient = Check(rtol=1e-5)


def _dlr(z: np.ndarray, y: int) -> float:
    top = np.sort(z)[::-1]
    return float((np.delete(z, y).max() - z[y]) / (top[0] - top[2]))


@cache
def _dlr_cases(kind: str) -> list[tuple[tuple, np.ndarray]]:
    rng, cases, h = _rng(11), [], 1e-5
    ranks = {"first": (0, 0), "second": (1, 2, 1), "low": (3, 4)}[kind]
    for rank in ranks:
        z, J = np.cumsum(rng.uniform(0.3, 1, 5)), rng.standard_normal((5, 3))
        rng.shuffle(z)
        y = int(np.argsort(-z)[rank])
        want = [(_dlr(z + h * J[:, k], y) - _dlr(z - h * J[:, k], y)) / (2 * h) for k in range(3)]
        cases.append(((z, J, y), np.array(want)))
    return cases


def _ratios(kind: str) -> Callable:
    def test(ask: Callable) -> None:
        cases = _dlr_cases(kind)
        asked = answers(ask, [case for case, _ in cases])
        for (_, got), (_, want) in zip(asked, cases, strict=True):
            got = numbers(got, want.shape)
            if np.abs(got - want).max() > 1e-6 * max(1, np.abs(want).max()):
                raise NotYet(f"Differences give {want.round(4)}, you {got.round(4)}.")

    return test


dlr_gradient.property("differences of the loss agree where the label has the largest logit")(
    _ratios("first")
)
dlr_gradient.property("where it has the second or the third")(_ratios("second"))
dlr_gradient.property("and where it has a lower one")(_ratios("low"))


def _quotient(z, J, y, third=2, whole=True, sign=1.0):
    order = np.argsort(-z)
    other = order[0] if order[0] != y else order[1]
    mu, B = z[other] - z[y], z[order[0]] - z[order[third]]
    grad = (J[other] - J[y]) / B
    if whole:
        grad = grad - mu / B**2 * (J[order[0]] - J[order[third]])
    return sign * grad


@dlr_gradient.mistake("You treat the denominator as a constant; it depends on the input, too")
def freezes_the_denominator(z, J, y):
    return _quotient(z, J, y, whole=False)


@dlr_gradient.mistake("The sign is wrong: the loss is large where another logit exceeds that of y")
def turns_the_sign(z, J, y):
    return _quotient(z, J, y, sign=-1.0)


@dlr_gradient.mistake("The denominator is the largest minus the *third* logit, not the smallest")
def divides_by_the_range(z, J, y):
    return _quotient(z, J, y, third=-1)


@dlr_gradient.mistake(
    "The rival is the largest logit among the *other* classes, also where y itself is the largest"
)
def is_its_own_rival(z, J, y):
    order = np.argsort(-z)
    mu, B = z[order[0]] - z[y], z[order[0]] - z[order[2]]
    return (J[order[0]] - J[y]) / B - mu / B**2 * (J[order[0]] - J[order[2]])


# ------------------------------------------------------------- order 1, exactly, on the line

first_order_value = Check()


@cache
def _value_cases(kind: str) -> list[tuple[tuple, float]]:
    rng, cases = _rng(12), []
    radii = {"small": (0.01, 0.02), "large": (0.6, 2.0, 9.0), "falling": (0.3, 1.5, 5.0)}[kind]
    for eps in radii:
        knots = np.cumsum(rng.uniform(0.3, 1.5, 6)) - 3
        values = rng.standard_normal(6)
        values[rng.integers(6)] += 4.0
        left, right = (0.5, -1.5) if kind == "falling" else (1.6, 0.7)
        x = rng.uniform(knots[0], knots[-1], 4)
        far = np.concatenate([np.linspace(-12, 12, 97), -np.geomspace(15, 1e7, 8)])
        points = np.concatenate([knots, far, np.geomspace(15, 1e7, 8)])
        clean = _line(knots, values, left, right, x)
        gain = _line(knots, values, left, right, points) - clean[:, None]
        value = clean.mean() + _program(gain, np.abs(points - x[:, None]), eps)
        cases.append(((knots, values, left, right, x, eps), float(value)))
    return cases


def _values(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _value_cases(kind), lambda k, v, s, t, x, eps: f"the value for eps = {eps}", 2e-6
    )


first_order_value.property("for small radii it is the value of a linear program")(_values("small"))
first_order_value.property("for larger radii, where mass escapes to infinity, too")(
    _values("large")
)
first_order_value.property("and where the loss falls at both ends, so that nothing escapes")(
    _values("falling")
)


def _hulls(knots, values, left, right, x):
    clean = _line(knots, values, left, right, x)
    return clean.mean(), np.abs(knots - x[:, None]), values - clean[:, None]


@first_order_value.mistake(
    "You stop at the outer knots: mass that goes ever farther earns the slope at infinity"
)
def lets_nothing_escape(knots, values, left, right, x, eps):
    clean, cost, gain = _hulls(knots, values, left, right, x)
    return clean + _by_dual(cost, gain, eps)


@first_order_value.mistake("On one of the two rays the loss falls; nothing is earned there")
def escapes_downhill(knots, values, left, right, x, eps):
    clean, cost, gain = _hulls(knots, values, left, right, x)
    return clean + _by_dual(cost, gain, eps, max(abs(left), abs(right)))


@first_order_value.mistake(
    "This is the certificate with the largest secant slope; it is exact for small radii only"
)
def extends_the_first_piece(knots, values, left, right, x, eps):
    clean, cost, gain = _hulls(knots, values, left, right, x)
    return clean + eps * max((gain / cost).max(), -left, right)


@first_order_value.mistake("This is the certificate with the Lipschitz constant, an upper bound")
def uses_the_lipschitz_constant(knots, values, left, right, x, eps):
    slopes = np.concatenate([[left], np.diff(values) / np.diff(knots), [right]])
    return _hulls(knots, values, left, right, x)[0] + eps * np.abs(slopes).max()


@first_order_value.mistake(
    "You give every sample the same budget; order 1 spends it where it gains most"
)
def divides_the_budget_evenly(knots, values, left, right, x, eps):
    floor = max(-left, right, 0.0)
    return np.mean(
        [
            clean + _by_dual(cost, gain, eps, floor)
            for clean, cost, gain in (_hulls(knots, values, left, right, x[[i]]) for i in range(4))
        ]
    )


# ------------------------------------------------- the largest gradient that runs away, broken

broken_unbounded = Check()

UNBOUNDED_STEPS = {
    1: "Step 1 is right: a bounded cell contains no inputs far away.",
    2: "Step 2 is right: on a cell f is affine, and an affine function grows at most so fast.",
    3: "Step 3 is right: in finite dimensions the maximum that defines a dual norm is attained.",
    5: "Step 5 is right if step 4 is.",
}


@broken_unbounded.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, UNBOUNDED_STEPS)


def _steepest_unbounded(rows: np.ndarray) -> float:
    """The longest gradient of a cell with interior that contains a ray."""
    a, W, b = rows[:, 0], rows[:, 1:3], rows[:, 3]
    keep = np.abs(W).max(axis=1) > 0
    a, W, b = a[keep], W[keep], b[keep]
    if not len(a):
        return 0.0
    rays = np.concatenate([W, -W])[:, ::-1] * [1, -1]
    net = relu.Network((W, a[None]), (b, np.zeros(1)))
    best = 0.0
    for on in relu.activations(net):
        side = np.where(on, 1.0, -1.0)
        if (((rays @ W.T) * side).min(axis=1) >= -1e-9 * np.abs(W).max() ** 2).any():
            best = max(best, float(np.linalg.norm((on * a) @ W)))
    return best


@broken_unbounded.property("your function has a steep unbounded cell and a small slope at infinity")
def _(ask: Callable, step: Any) -> None:
    for (c,), got in answers(ask, [(2.0,), (10.0,)]):
        rows = number_rows(got, 4, 100.0)
        longest = _steepest_unbounded(rows)
        if longest < c * (1 - 1e-9):
            raise NotYet(f"c = {c:g}: the longest gradient of an unbounded cell is {longest:.4g}.")
        angle = np.linspace(0, 2 * np.pi, 20_001)
        far = 1e9 * _circle(angle, 2)
        slope = (np.maximum(far @ rows[:, 1:3].T + rows[:, 3], 0) @ rows[:, 0]).max() / 1e9
        if slope > 1 + 1e-3:
            raise NotYet(f"c = {c:g}: far away your function still grows with slope {slope:.4g}.")


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

broken_local = Check()

LOCAL_STEPS = {
    1: "Step 1 is right: every multiplier gives an upper bound.",
    2: "Step 2 is right: near x_i the loss rises more slowly than the price of moving.",
    4: "Step 4 is right if step 3 is: insert the suprema in step 1.",
    5: "Step 5 is right if step 4 is: the bound holds for every such multiplier.",
}


@broken_local.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, LOCAL_STEPS)


@broken_local.property("on your function order 1 gains more than the gradient promises")
def _(ask: Callable, step: Any) -> None:
    for (eps,), got in answers(ask, [(0.1,), (1.0,), (3.0,)]):
        rows = number_rows(got, 3, 100.0)
        a, w, b = rows.T
        near = np.array([-1e-6, 0.0, 1e-6])
        slopes = np.diff(_units(a, w, b, near)) / 1e-6
        if abs(slopes[1] - slopes[0]) > 1e-4:
            raise NotYet(f"eps = {eps:g}: your function has a kink at 0.")
        if abs(slopes[0]) > 1 + 1e-4:
            raise NotYet(f"eps = {eps:g}: the derivative at 0 is {slopes[0]:.4g}.")
        kinks = -b[w != 0] / w[w != 0]
        far = np.geomspace(1e-3, 1e10, 400)
        points = np.concatenate([kinks, far, -far])
        points = points[points != 0]
        gain = _units(a, w, b, points) - _units(a, w, b, np.zeros(1))
        value = _program(gain[None], np.abs(points)[None], eps)
        if value < 2 * eps * (1 - 1e-6):
            raise NotYet(f"eps = {eps:g}: order 1 gains {value:.4g}, less than twice the radius.")


@broken_local.mistake("Your function is steep at 0 itself; there the gradient tells the truth")
def is_steep_at_the_sample(eps):
    return np.array([[3.0, 1.0, 50.0]])


@broken_local.mistake("Your function is affine; no secant is steeper than its gradient")
def is_affine(eps):
    return np.array([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])
