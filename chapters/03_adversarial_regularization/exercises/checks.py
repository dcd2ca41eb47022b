"""Self-checks of the exercises of chapter 3.

``checks.tell(checks.water_filling(f))`` asks the function `f` for answers and prints one sentence
per property: ``ok`` or ``not yet`` with the reason.  The oracles try attacks, minimize losses
numerically, or solve a linear program; none uses the formula that is asked for.  The checks are
necessary, not sufficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize

from advreg import adversarial, linear, spectral
from coursework.checks import Check, NotYet, answers, close, numbers, right_step, tell

__all__ = ["LOSSES", "tell"]  # beside the checks themselves

SEED = 20260803


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _circle(p: float, count: int = 14400) -> np.ndarray:
    """Points on the boundary of the unit ball of the p-norm in the plane, corners included."""
    angle = 2 * np.pi * np.arange(count) / count
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points / np.linalg.norm(points, ord=p, axis=1)[:, None]


def _dual(w: np.ndarray, p: float) -> float:
    return float(np.linalg.norm(w, ord=1 if p == np.inf else np.inf if p == 1 else p / (p - 1)))


# --------------------------------------------------------------- the logistic risk under attack

logistic_risk = Check()


def _classifier(size: int, dimension: int) -> tuple:
    rng = _rng()
    y = np.where(rng.random(size) < 0.5, -1.0, 1.0)
    return rng.standard_normal(dimension), 0.3, rng.standard_normal((size, dimension)), y


def _attacked_risk(w, b, X, y, delta, ball) -> float:
    """The mean of the largest logistic loss over the points of a ball: plain search."""
    margin = y[:, None] * (X @ w + b)[:, None] + delta * y[:, None] * (ball @ w)
    return float(np.logaddexp(0, -margin).max(axis=1).mean())


@logistic_risk.property("walking around the ball in the plane finds nothing worse, nor less")
def _(ask: Callable) -> None:
    w, b, X, y = _classifier(7, 2)
    cases = [(w, b, X, y, 0.4, p) for p in (1.0, 1.5, 3.0, np.inf)]
    for case, got in answers(ask, cases):
        want = _attacked_risk(*case[:5], _circle(case[5]))
        close(got, want, f"the risk for p = {case[5]:g}", 1e-5)


@logistic_risk.property("in the cube every corner has been tried")
def _(ask: Callable) -> None:
    w, b, X, y = _classifier(9, 6)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    for case, got in answers(ask, [(w, b, X, y, d, np.inf) for d in (0.0, 0.2)]):
        close(got, _attacked_risk(*case[:5], corners), f"the risk for delta = {case[4]:g}", 1e-6)


def _logistic(margin: np.ndarray) -> float:
    return float(np.logaddexp(0, -margin).mean())


@logistic_risk.mistake(
    "You shift the margins by delta times the *attack* norm of w: what an attack of norm p does to "
    "w.x is measured by the dual norm, whose exponent q has 1/p + 1/q = 1"
)
def takes_the_attack_norm(w, b, X, y, delta, p):
    return _logistic(y * (X @ w + b) - delta * np.linalg.norm(w, ord=p))


@logistic_risk.mistake(
    "You add the norm to the average loss; it belongs inside, where it is subtracted from every "
    "margin"
)
def adds_outside(w, b, X, y, delta, p):
    return _logistic(y * (X @ w + b)) + delta * _dual(w, p)


@logistic_risk.mistake("Your adversary helps: the attack must lower the margins")
def helps(w, b, X, y, delta, p):
    return _logistic(y * (X @ w + b) + delta * _dual(w, p))


@logistic_risk.mistake("The intercept is not an input: the attack changes x, not b")
def attacks_the_intercept(w, b, X, y, delta, p):
    return _logistic(y * (X @ w + b) - delta * _dual(np.append(w, b), p))


# ------------------------------------------------------------------ the gap of least squares

squared_gap = Check()


def _regression() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    C = np.array([[2.0, 0.6], [0.6, 0.5]])
    return np.array([0.8, -0.5]), 0.7 * _rng().standard_normal(9), C


@squared_gap.property("walking around the ellipse finds the same gap")
def _(ask: Callable) -> None:
    w, r, C = _regression()
    ellipse = _circle(2) @ np.linalg.cholesky(C).T
    for (*_, delta), got in answers(ask, [(w, r, C, d) for d in (0.1, 0.5, 2.0)]):
        worst = ((r[:, None] - delta * ellipse @ w) ** 2).max(axis=1)
        close(got, np.mean(worst - r**2), f"the gap for delta = {delta}", 1e-5)


@squared_gap.property("a round ball in five dimensions moves each residual by delta times |w|")
def _(ask: Callable) -> None:
    rng = _rng()
    w, r = rng.standard_normal(5), rng.standard_normal(20)
    push = 0.3 * w / np.linalg.norm(w)
    worst = np.maximum((r - push @ w) ** 2, (r + push @ w) ** 2)
    close(ask(w, r, np.eye(5), 0.3), np.mean(worst - r**2), "the gap for C = I")


def _terms(w, r, C, delta):
    size = np.sqrt(w @ C @ w)
    return 2 * delta * size * np.mean(np.abs(r)), (delta * size) ** 2


@squared_gap.mistake(
    "This is the ridge term alone: the product of the norm with the mean absolute residual is "
    "missing, and for a small delta it is nearly everything"
)
def keeps_the_ridge_only(w, r, C, delta):
    return _terms(w, r, C, delta)[1]


@squared_gap.mistake(
    "You measure w in the norm of the attack, with the inverse of C; the dual norm has C itself"
)
def takes_the_inverse(w, r, C, delta):
    return sum(_terms(w, r, np.linalg.inv(C), delta))


@squared_gap.mistake(
    "The root of the mean *squared* residual belongs to an adversary with a budget in mean; here "
    "each sample has its own budget, and the mean absolute residual counts"
)
def lets_the_budget_move(w, r, C, delta):
    return 2 * delta * np.sqrt((w @ C @ w) * np.mean(r**2)) + delta**2 * (w @ C @ w)


@squared_gap.mistake("The factor 2 of the binomial formula is missing")
def forgets_the_two(w, r, C, delta):
    product, ridge = _terms(w, r, C, delta)
    return product / 2 + ridge


@squared_gap.mistake("The dual norm is the *root* of w.Cw")
def forgets_the_root(w, r, C, delta):
    size = w @ C @ w
    return 2 * delta * size * np.mean(np.abs(r)) + (delta * size) ** 2


# ------------------------------------------------------------- losses whose gap has no data

LOSSES: dict[str, Callable] = {
    "linear": lambda u: u,
    "absolute": np.abs,
    "squared": np.square,
    "huber": lambda u: np.where(np.abs(u) < 1, u**2 / 2, np.abs(u) - 0.5),
    "insensitive": lambda u: np.maximum(np.abs(u) - 0.5, 0),
    "pinball 0.5": lambda u: np.maximum(0.5 * u, -0.5 * u),
    "pinball 0.9": lambda u: np.maximum(0.9 * u, -0.1 * u),
}
DATA_FREE = {name: name in ("linear", "absolute", "pinball 0.5") for name in LOSSES}

loss_gap = Check(rtol=5e-3)  # any search grid


def _gap_of(loss: Callable, u: np.ndarray, radius: float) -> np.ndarray:
    v = radius * np.linspace(-1, 1, 8001)
    return loss(u[:, None] + v).max(axis=1) - loss(u)


@loss_gap.property("for seven convex losses the gap is what a search over all shifts finds")
def _(ask: Callable, predicted: Any) -> None:
    u = np.linspace(-2, 2, 17)
    cases = [(loss, u, d) for loss in LOSSES.values() for d in (0.3, 1.0)]
    names = [name for name in LOSSES for _ in range(2)]
    for name, (case, got) in zip(names, answers(ask, cases), strict=True):
        close(got, _gap_of(*case), f"the gap of the loss '{name}' for D = {case[2]}", 5e-3)


def _wavy(u):
    return u + np.sin(2 * np.pi * u)


@loss_gap.property("a loss that is not convex is no exception")
def _(ask: Callable, predicted: Any) -> None:
    u = np.linspace(-1, 1, 21)
    for case, got in answers(ask, [(_wavy, u, d) for d in (0.4, 1.0)]):
        close(got, _gap_of(*case), f"the gap of u + sin(2 pi u) for D = {case[2]}", 5e-3)


@loss_gap.property("the predictions are right")
def _(ask: Callable, predicted: Any) -> None:
    if not isinstance(predicted, dict) or set(predicted) != set(LOSSES):
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(LOSSES)}.")
    if any(not isinstance(value, (bool, np.bool_)) for value in predicted.values()):
        raise NotYet("Every prediction should be True or False.")
    wrong = [name for name in LOSSES if bool(predicted[name]) != DATA_FREE[name]]
    if wrong:
        every = all(predicted.values())
        raise NotYet(WRONG_LOSSES["all convex"] if every else WRONG_LOSSES[wrong[0]])


WRONG_LOSSES = {
    "all convex": "Convexity is not enough: the gap of u^2 is D^2 + 2 D |u|, and u is data.",
    "linear": "A straight line rises by the same amount everywhere.",
    "absolute": "|u + v| is at most |u| + D, and one of the two ends reaches it, whatever u is.",
    "squared": "(|u| + D)^2 - u^2 contains |u|.",
    "huber": "Outside [-1, 1] the gap of Huber's loss is D; compare it with the gap at u = 0.",
    "insensitive": "At u = 0 a small D changes nothing, and at u = 1 it costs D.",
    "pinball 0.5": "This loss is |u|/2 under another name.",
    "pinball 0.9": "Two slopes: far to the right the gap is 0.9 D, far to the left 0.1 D.",
}


@loss_gap.mistake(
    "You try the left end u - D only: that is the worst shift of a *nonincreasing* loss"
)
def tries_the_left_end(loss, u, radius):
    return loss(u - radius) - loss(u)


@loss_gap.mistake(
    "You try the two ends of the interval: enough for a convex loss, not for every loss"
)
def tries_both_ends(loss, u, radius):
    return np.maximum(loss(u - radius), loss(u + radius)) - loss(u)


@loss_gap.mistake("This is the largest loss; the gap is what it exceeds the clean loss by")
def forgets_the_clean_loss(loss, u, radius):
    return loss(u[:, None] + radius * np.linspace(-1, 1, 2001)).max(axis=1)


# --------------------------------------------------------------------- three classes, one norm

class_weights = Check()
SAME_SIGN = (
    "Weights of one sign do not make the bound tight: what counts are the differences of rows, "
    "and one attack must be the worst for every difference at once"
)
TWO_ROWS = "Two of your rows are equal: those two classes cannot be told apart by any input"


def _excess(W: np.ndarray, z: np.ndarray, delta: float) -> np.ndarray:
    """Pairwise bound minus exact worst cross-entropy, for the three labels."""
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))
    moved = z + delta * corners @ W.T
    size = np.logaddexp.reduce(moved, axis=1)
    excess = []
    for k in range(3):
        lead = z - z[k] + delta * np.abs(W - W[k]).sum(axis=1)
        excess.append(np.logaddexp.reduce(lead) - (size - moved[:, k]).max())
    return np.array(excess)


def _weights(ask: Callable, tight: bool) -> np.ndarray:
    W = numbers(ask(tight), (3, 4))
    if np.abs(W).max() > 10:
        raise NotYet("Keep every weight between -10 and 10.")
    return W


@class_weights.property("with tight=True the pairwise bound is exact for every label")
def _(ask: Callable) -> None:
    W = _weights(ask, True)
    if min(np.abs(W[i] - W[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) < 0.1:
        raise NotYet(TWO_ROWS + ".")
    worst = max(_excess(W, z, d).max() for z in _rng().standard_normal((4, 3)) for d in (0.1, 0.5))
    if worst > 1e-9:
        same = (W > 0).all() or (W < 0).all()
        raise NotYet(f"{SAME_SIGN if same else f'The bound is too large by {worst:.2g}'}.")


@class_weights.property("with tight=False all weights are positive and the bound is not exact")
def _(ask: Callable) -> None:
    W = _weights(ask, False)
    if not (W > 0).all():
        raise NotYet("All weights should be positive here.")
    excess = _excess(W, np.zeros(3), 0.5).mean()
    if excess < 0.1:
        raise NotYet(
            f"At x = 0, b = 0, delta = 1/2 the bound exceeds the truth by {excess:.2g} on average."
        )


_POSITIVE = np.array([[1.0, 2, 3, 4], [2, 4, 1, 3], [4, 1, 2, 2]])


@class_weights.mistake(SAME_SIGN)
def trusts_the_signs(tight):
    return _POSITIVE


@class_weights.mistake(TWO_ROWS)
def repeats_a_row(tight):
    return np.array([[1.0, 0, 2, 1], [1, 0, 2, 1], [0, 3, 1, 1]]) if tight else _POSITIVE


@class_weights.mistake(
    "Columns with two different values only: then one corner of the cube is the worst for all "
    "rivals, and the bound is exact"
)
def keeps_two_values(tight):
    return np.ones((3, 4)) + 2 * np.eye(3, 4)


# ---------------------------------------------------------- the hinge loss, a broken proof

broken_hinge = Check()

HINGE_STEPS = {
    1: "Step 1 is right: the hinge is nonincreasing, so the smallest margin is the worst.",
    2: "Step 2 is right: a sum of two numbers has a positive part of at most the sum of theirs.",
    4: "Step 4 is right if step 3 is: it only takes the average.",
    5: "Step 5 is right if step 4 is: equal functions have equal minimizers.",
}


@broken_hinge.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, HINGE_STEPS)


@broken_hinge.property("on your data the two minima differ by more than a factor of 2")
def _(ask: Callable, step: Any) -> None:
    for (delta,), got in answers(ask, [(0.1,), (0.5,), (2.0,)]):
        try:
            size = len(got)
        except Exception:
            size = 1
        x = numbers(got, (min(max(size, 1), 1000),))
        inside, outside = _hinge_minima(x, delta)
        if not inside < outside / 2:
            raise NotYet(
                f"For delta = {delta} the least adversarial risk is {inside:.3g}, the least "
                f"penalized risk {outside:.3g}."
            )


def _hinge_minima(x: np.ndarray, delta: float) -> tuple[float, float]:
    """Both functions of one weight are convex and piecewise linear: try every kink."""
    with np.errstate(divide="ignore"):
        kinks = np.concatenate([[0.0], 1 / x, 1 / (x - delta), 1 / (x + delta)])
    w = kinks[np.isfinite(kinks)][:, None]
    inside = np.maximum(1 - w * x + delta * np.abs(w), 0).mean(axis=1)
    outside = np.maximum(1 - w * x, 0).mean(axis=1) + delta * np.abs(w[:, 0])
    return inside.min(), outside.min()


@broken_hinge.mistake(
    "Your point is so close to 0 that the attack can move it across: then w = 0 minimizes both "
    "functions"
)
def stays_within_reach(delta):
    return np.array([delta / 2])


@broken_hinge.mistake(
    "No w has a positive margin at both of your points: such data leave a margin below 1, where "
    "the hinge does have slope -1"
)
def contradicts_itself(delta):
    return np.array([4 * delta, -4 * delta])


# ------------------------------------------------------------------- when zero is the best model

zero_radius = Check()


def _zero_cases() -> list[tuple]:
    rng = _rng()
    Z = rng.standard_normal((12, 2)) * [1.0, 0.6]
    t = Z @ [1.0, -0.7] + 0.5 * rng.standard_normal(12) + 0.3
    return [(Z, t, norm, p) for p in (2.0, 1.5, 4.0) for norm in (1, 2, np.inf)]


def _steepest(Z: np.ndarray, t: np.ndarray, norm: float, p: float, delta: float) -> float:
    """The least slope of the adversarial risk from w = 0 outwards, over 3600 directions."""
    v = 1e-6 * _circle(2, 3600)
    size = np.linalg.norm(v, ord={1: np.inf, 2: 2, np.inf: 1}[norm], axis=1)
    risk = ((np.abs(t - v @ Z.T) + delta * size[:, None]) ** p).mean(axis=1)
    return float(((risk - np.mean(np.abs(t) ** p)) / size).min())


@zero_radius.property("above this radius w = 0 is optimal, below it is not")
def _(ask: Callable) -> None:
    for (Z, t, norm, p), got in answers(ask, _zero_cases()):
        delta = float(numbers(got, ()))
        name = f"attack norm {norm}, p = {p:g}"
        if delta <= 0 or delta > 1e6:
            raise NotYet(f"A radius of {delta:.3g} cannot be right ({name}).")
        if _steepest(Z, t, norm, p, 1.01 * delta) < 0:
            raise NotYet(f"Slightly above your radius w = 0 is not yet optimal ({name}).")
        if _steepest(Z, t, norm, p, 0.99 * delta) >= 0:
            raise NotYet(f"Slightly below your radius w = 0 is optimal already ({name}).")


@zero_radius.property("with one feature and one sample the radius is that feature")
def _(ask: Callable) -> None:
    cases = [(np.array([[z]]), np.array([t]), np.inf, 3.0) for z, t in ((0.7, 2.0), (-0.2, -5.0))]
    for (Z, *_), got in answers(ask, cases):
        close(got, abs(Z[0, 0]), f"the radius for z = {Z[0, 0]}")


def _norms(Z, t, p):
    power = np.abs(t) ** (p - 1)
    return (np.sign(t) * power) @ Z / len(t), power.mean()


@zero_radius.mistake(
    "You measure the correlation in the *dual* norm: w.E[...] is compared with the dual norm of w, "
    "and the dual of the dual is the attack norm"
)
def takes_the_dual_norm(Z, t, norm, p):
    correlation, size = _norms(Z, t, p)
    return np.linalg.norm(correlation, ord={1: np.inf, 2: 2, np.inf: 1}[norm]) / size


@zero_radius.mistake(
    "The denominator is that of an adversary with a budget in *mean* (for p = 2 the root of "
    "E t^2); here each sample has its own budget"
)
def lets_the_adversary_save(Z, t, norm, p):
    correlation, _ = _norms(Z, t, p)
    return np.linalg.norm(correlation, ord=norm) / np.mean(np.abs(t) ** p) ** ((p - 1) / p)


@zero_radius.mistake("This is the radius for p = 2, whatever p is")
def takes_p_2(Z, t, norm, p):
    correlation, size = _norms(Z, t, 2)
    return np.linalg.norm(correlation, ord=norm) / size


# ------------------------------------------------------------------- how long it interpolates

interpolation_radius = Check()


def _wide(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = _rng()
    return rng.standard_normal((rows, columns)), rng.standard_normal(rows)


@interpolation_radius.property("below this radius the data are interpolated, above it they are not")
def _(ask: Callable) -> None:
    for (X, y), got in answers(ask, [_wide(3, 5), _wide(6, 9)]):
        delta = float(numbers(got, ()))
        if not 1e-4 < delta < 1e2:
            raise NotYet(f"A radius of {delta:.3g} cannot be right.")
        below, above = (_residual(X, y, factor * delta) for factor in (0.97, 1.03))
        if below > 1e-4:
            raise NotYet(
                f"With {len(y)} samples, slightly below your radius the best model leaves "
                "residuals."
            )
        if above < 1e-4:
            raise NotYet(
                f"With {len(y)} samples, slightly above your radius the best model interpolates "
                "still."
            )


def _residual(X: np.ndarray, y: np.ndarray, delta: float) -> float:
    found = linear.fit(X, y, delta, 2, "squared", intercept=False)
    return float(np.abs(y - X @ found.w).max())


@interpolation_radius.property("one sample is interpolated until zero takes over")
def _(ask: Callable) -> None:
    cases = [(np.array([[3.0, 4.0]]), np.array([y])) for y in (1.0, -7.0)]
    for _, got in answers(ask, cases):
        close(got, 5.0, "the radius for the sample (3, 4)", 1e-3)


def _interpolator(X, y):
    beta = np.linalg.solve(X @ X.T, y)
    return X.T @ beta, beta


@interpolation_radius.mistake(
    "You take the largest entry of the primal solution w; the residuals are held at 0 by the "
    "*dual* variables, one for each sample"
)
def takes_the_primal(X, y):
    w, _ = _interpolator(X, y)
    return np.linalg.norm(w) / (len(y) * np.abs(w).max())


@interpolation_radius.mistake("The number of samples is forgotten: the risk is a mean, not a sum")
def forgets_n(X, y):
    w, beta = _interpolator(X, y)
    return np.linalg.norm(w) / np.abs(beta).max()


@interpolation_radius.mistake(
    "Your dual vector solves X X^T alpha = y, but X^T alpha must have norm 1: divide by the norm "
    "of w"
)
def forgets_to_normalize(X, y):
    _, beta = _interpolator(X, y)
    return 1 / (len(y) * np.abs(beta).max())


@interpolation_radius.mistake("This is the radius from which on w = 0 is optimal, the *other* end")
def takes_the_other_end(X, y):
    return np.linalg.norm(X.T @ y) / np.abs(y).sum()


# ----------------------------------------------------------------- what a random start costs

reached = Check()


def _ascend(path: float, spread: float, steps: int = 50) -> float:
    """Projected gradient ascent of one coordinate in [-1, 1], from evenly spaced starts."""
    e = np.linspace(-spread, spread, 20001)
    e = (e[1:] + e[:-1]) / 2
    for _ in range(steps):
        e = np.minimum(e + path / steps, 1)
    return float(e.mean())


@reached.property("simulated ascents reach this share")
def _(ask: Callable, best: Any) -> None:
    cases = list(itertools.product((0.0, 0.25, 0.7, 1.0, 1.4, 2.0, 3.0), (0.0, 0.4, 1.0)))
    for (path, spread), got in answers(ask, cases):
        if abs(float(numbers(got, ())) - _ascend(path, spread)) > 2e-3:
            raise NotYet(
                f"For a path of length {path:g} and a start of spread {spread:g} the ascents reach "
                "another share."
            )


@reached.property("twenty restarts reach what you predicted")
def _(ask: Callable, best: Any) -> None:
    value = float(numbers(best, ()))
    error = value - _best_of_twenty()
    if abs(error) < 0.013:  # 0.78 is what the estimate sqrt(2 log 20) of the maximum gives
        return
    if error < 0 and value >= 0.74:
        raise NotYet(WRONG_BEST["mean"])
    raise NotYet(WRONG_BEST["large" if error > 0 else "small"])


@cache
def _best_of_twenty(trials: int = 100) -> float:
    start = _rng().uniform(-1, 1, (trials, 20, 1000))
    return float(np.minimum(1, start + 1).mean(axis=-1).max(axis=-1).mean())


WRONG_BEST = {
    "mean": "That is the mean; the best of twenty is a little above it.",
    "large": "Restarts choose among means of 1000 coordinates, and such means hardly differ.",
    "small": "That is less than a single ascent reaches.",
}


@reached.mistake("You start at e = 0; a random start is on the wrong side half of the time")
def starts_at_zero(path, spread):
    return min(1.0, path)


@reached.mistake("You let every start be uniform in the whole cube, whatever its spread is")
def starts_everywhere(path, spread):
    return path - path**2 / 4 if path < 2 else 1.0


@reached.mistake(
    "A long path leads into the corner from everywhere, and a short one from nowhere: your formula "
    "holds in between"
)
def forgets_the_ends(path, spread):
    if spread == 0:
        return min(1.0, path)
    return path - (path + spread - 1) ** 2 / (4 * spread)


# ------------------------------------------------------------------ the three regimes, learned

almost_sure_gain = Check(rtol=1e-5)


def _laws() -> list[tuple[np.ndarray, float, float]]:
    """Samples, sigma, delta: three laws, relative attacks on both sides of every threshold."""
    rng, cases = _rng(), []
    for x in (rng.standard_normal(60), rng.uniform(-1, 1, 40), np.r_[3.0, -3.0, 0.2 * np.ones(7)]):
        power, kappa = np.mean(x**2), np.mean(np.abs(x)) / np.sqrt(np.mean(x**2))
        for sigma, s in ((1.3, 0.6 * kappa), (1.3, 0.9), (0.4, 1.1), (0.4, 0.95 / kappa), (2.0, 4)):
            cases.append((x, sigma, s * sigma * np.sqrt(power)))
    return cases


@cache
def _best_gains() -> list[float]:
    best = []
    for x, sigma, delta in _laws():
        size = np.abs(x)

        def loss(g, size=size, sigma=sigma, delta=delta):
            return np.mean((np.abs(g * sigma - 1) * size + delta * np.abs(g)) ** 2)

        found = optimize.minimize_scalar(
            loss, bounds=(-0.5 / sigma, 2 / sigma), method="bounded", options={"xatol": 1e-10}
        )
        best.append(min((float(found.x), 0.0, 1 / sigma), key=loss))
    return best


@almost_sure_gain.property("no other gain has a smaller adversarial loss")
def _(ask: Callable) -> None:
    asked = answers(ask, _laws())
    got = [sigma * float(numbers(g, ())) for (_, sigma, _), g in asked]
    want = [sigma * g for (_, sigma, _), g in zip(_laws(), _best_gains(), strict=True)]
    close(np.array(got), np.array(want), "sigma times the gain", 1e-4)


@almost_sure_gain.property("samples of one size are kept or erased, nothing in between")
def _(ask: Callable) -> None:
    x = np.array([2.0, -2.0, 2.0])
    cases = [(x, 0.5, d) for d in (0.3, 0.99, 1.01, 3.0)]
    for (_, _, delta), got in answers(ask, cases):
        close(got, 2.0 if delta < 1 else 0.0, f"the gain for delta = {delta}", 1e-4)


def _moments(x, sigma, delta):
    power, m = np.mean(x**2), np.mean(np.abs(x))
    soft = (sigma * power - delta * m) / (sigma**2 * power - 2 * delta * sigma * m + delta**2)
    return power, m, soft


@almost_sure_gain.mistake(
    "You keep or erase the mode at delta = sigma sqrt(E x^2): that is the adversary with a budget "
    "in mean"
)
def truncates(x, sigma, delta):
    return 1 / sigma if delta < sigma * np.sqrt(np.mean(x**2)) else 0.0


@almost_sure_gain.mistake(
    "This is the oblivious adversary's filter, the one of training with white noise"
)
def trains_with_noise(x, sigma, delta):
    power = np.mean(x**2)
    return sigma * power / (sigma**2 * power + delta**2)


@almost_sure_gain.mistake(
    "The plateau is missing: up to delta = sigma E|x| the best gain is 1/sigma"
)
def misses_the_plateau(x, sigma, delta):
    power, m, soft = _moments(x, sigma, delta)
    return soft if delta * m < sigma * power else 0.0


@almost_sure_gain.mistake(
    "The zero is missing: from delta = sigma E x^2 / E|x| on the mode is given up"
)
def misses_the_zero(x, sigma, delta):
    _, m, soft = _moments(x, sigma, delta)
    return 1 / sigma if delta <= sigma * m else soft


@almost_sure_gain.mistake("This is the filter factor q = sigma g; the gain g was asked for")
def returns_the_factor(x, sigma, delta):
    power, m, soft = _moments(x, sigma, delta)
    if delta <= sigma * m:
        return 1.0
    return sigma * soft if delta * m < sigma * power else 0.0


# ----------------------------------------------------------------------------- water-filling

water_filling = Check()


def _spectra() -> list[tuple[np.ndarray, np.ndarray, float]]:
    n = np.arange(1, 7)
    return [
        (np.array([1, 0.5, 0.25]), np.ones(3), np.sqrt(0.2)),
        (1 / n, 1.0 / n, 0.15),
        (np.array([0.3, 1.0, 0.7, 0.7, 0.2]), np.array([0.5, 0.1, 2.0, 1.0, 0.8]), 0.9),
    ]


def _knapsack(sigma: np.ndarray, signal: np.ndarray, delta: float) -> float:
    """What erasing modes with probabilities can achieve: a linear program."""
    cost = sigma**2 * signal
    found = optimize.linprog(-signal, A_ub=[cost], b_ub=[delta**2], bounds=(0, 1))
    return -float(found.fun)


def _moderate(got: Any, sigma: np.ndarray) -> np.ndarray:
    gains = numbers(got, sigma.shape)
    if np.abs(gains).max() > 1e6:
        raise NotYet("A gain of your filter exceeds a million.")
    return gains


@cache
def _values() -> list[float]:
    return [_knapsack(*case) for case in _spectra()]


@water_filling.property("no attack of this energy makes the filter worse than the value")
def _(ask: Callable) -> None:
    for (case, got), value in zip(answers(ask, _spectra()), _values(), strict=True):
        sigma, signal, delta = case
        risk = adversarial.ball_risk(_moderate(got, sigma), sigma, signal, delta)
        if risk > value * (1 + 1e-6):
            raise NotYet(
                f"For sigma = {np.round(sigma, 2)} and delta = {delta:.3g} an attack makes the "
                f"error {risk / value:.3f} times the value of the game."
            )


@water_filling.property("an attack of more energy than Ax leaves nothing, one of less something")
def _(ask: Callable) -> None:
    sigma, signal = np.array([1, 0.5]), np.array([1.0, 2.0])
    (_, more), (_, less) = answers(ask, [(sigma, signal, d) for d in (1.3, 1.2)])
    if np.abs(numbers(more, (2,))).max() > 1e-9:
        raise NotYet("E||Ax||^2 is 1.5 here, less than delta^2; the gains should be 0.")
    if not np.abs(numbers(less, (2,))).max() > 1e-3:
        raise NotYet("E||Ax||^2 is 1.5 here, more than delta^2; the gains should not be 0.")


def _level(sigma, signal, delta, reverse=False):
    """1 / lambda: sigma^2 of the mode at which the budget runs out; infinite if it does not."""
    order = np.argsort(sigma)[::-1] if reverse else np.argsort(sigma)
    spent = np.cumsum((sigma**2 * signal)[order])
    if delta**2 >= spent[-1]:
        return np.inf
    return sigma[order][np.searchsorted(spent, delta**2, side="right")] ** 2


@water_filling.mistake("This is the inverse: the small singular values are an invitation")
def inverts(sigma, signal, delta):
    return 1 / sigma


@water_filling.mistake(
    "You drop the modes that the adversary erases; but *how* you treat them binds the adversary: "
    "with the gain 0 the budget is free for the others"
)
def drops_the_erased(sigma, signal, delta):
    return np.where(sigma**2 >= _level(sigma, signal, delta), 1 / sigma, 0.0)


@water_filling.mistake("The budget is delta^2, not delta")
def spends_delta(sigma, signal, delta):
    return np.minimum(1 / sigma, sigma / _level(sigma, signal, np.sqrt(delta)))


@water_filling.mistake(
    "Your adversary erases the modes with the *largest* singular values first, the most expensive "
    "ones"
)
def erases_the_large(sigma, signal, delta):
    return np.minimum(1 / sigma, sigma / _level(sigma, signal, delta, reverse=True))


@water_filling.mistake(
    "This is the filter against an *oblivious* ball, clipped at a level; an adversary who sees the "
    "data does better against it"
)
def clips(sigma, signal, delta):
    return adversarial.ball_oblivious(sigma, signal, delta)[0]


@water_filling.mistake(
    "You treat every mode by itself, as against a box: keep it if sigma^2 Pi exceeds delta^2"
)
def plays_the_box(sigma, signal, delta):
    return np.where(sigma**2 * signal > delta**2, 1 / sigma, 0.0)


# ----------------------------------------------------- uncorrelated, and yet one tells the other

two_mode_decoder = Check()
TRUTHS = np.array([[-(1.5**0.5), -(0.5**0.5)], [0.0, 2**0.5], [1.5**0.5, -(0.5**0.5)]])
OPERATOR = np.array([1.0, 0.1])
RADIUS = 0.12
VALUE = 1.0044  # of the game among filters, from the knapsack


@cache
def _attacks() -> tuple[np.ndarray, np.ndarray]:
    """All attacked data of the three truths on a grid of attacks, and the price of each attack."""
    axes = np.meshgrid(np.linspace(-6, 6, 481), np.linspace(-0.6, 0.6, 17))
    e = np.stack(axes, axis=-1).reshape(-1, 2)
    return (OPERATOR * TRUTHS)[:, None] + e, (e**2).sum(axis=1)


def _worst_of(decode: Callable) -> float:
    """The worst mean squared error under a budget in mean: for each price of the budget every
    truth buys its best attack, and the least total is the supremum (duality)."""
    data, cost = _attacks()
    errors = ((decode(data) - TRUTHS[:, None]) ** 2).sum(axis=-1)

    def dual(log_price: float) -> float:
        price = np.exp(log_price)
        return price * RADIUS**2 + (errors - price * cost).max(axis=-1).mean()

    return float(optimize.minimize_scalar(dual, bounds=(-3, 7), method="bounded").fun)


@two_mode_decoder.property("under every attack on a grid the error is less than half of V")
def _(ask: Callable) -> None:
    def decode(data: np.ndarray) -> np.ndarray:
        rows = data.reshape(-1, 2)
        return numbers(ask(rows), rows.shape).reshape(data.shape)

    worst = _worst_of(decode)
    if worst > VALUE / 2:
        size = f"{worst:.2f}" if worst < 100 else "more than 100"
        raise NotYet(f"An attack with this budget makes your error {size}; V is 1.0044.")


@two_mode_decoder.mistake("This is the inverse: mode 2 pays for its small singular value")
def divides(y):
    return y / OPERATOR


@two_mode_decoder.mistake(
    "This is the filter of the theorem, the best of all *linear* maps; its worst error is V"
)
def plays_the_filter(y):
    return y * [1.0, 0.1]


@two_mode_decoder.mistake(
    "You set the second coefficient to 0, and so does linear regression on the first datum: they "
    "are uncorrelated, but not independent"
)
def gives_up_mode_two(y):
    return y * [1.0, 0.0]


@two_mode_decoder.mistake(
    "Your formula fits the three truths, but it is unbounded: a rare, huge e_1 makes it explode, "
    "and a budget in mean allows rare and huge attacks"
)
def extrapolates(y):
    return np.stack([y[:, 0], np.sqrt(2) * (1 - y[:, 0] ** 2)], axis=-1)


# ---------------------------------------------------- worst case and white noise, a broken proof

broken_white = Check()

WHITE_STEPS = {
    1: "Step 1 is right: it is what the value of the game means.",
    2: "Step 2 is right: the exponent of the value is positive for every b > 1/2.",
    3: "Step 3 is right: this is what white noise of level delta means.",
    5: "Step 5 is right if step 4 is.",
}


@broken_white.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, WHITE_STEPS)


@broken_white.property("the error is that of applying the trained filter to noisy data")
def _(ask: Callable, step: Any) -> None:
    for (sigma, signal, delta), got in answers(ask, _spectra()):
        close(got, _white_by_design(sigma, signal, delta), f"the error for delta = {delta:.3g}")


def _white_by_design(sigma: np.ndarray, signal: np.ndarray, delta: float) -> float:
    """Signals and noises that run through +- the axes: their second moments are the right ones."""
    prices = 1 / sigma**2
    worst = [p * delta**2 + np.maximum(1 - p * sigma**2, 0) @ signal for p in prices]
    gain = np.minimum(1 / sigma, prices[int(np.argmin(worst))] * sigma)
    axes = np.sqrt(sigma.size) * np.vstack([np.eye(sigma.size), -np.eye(sigma.size)])
    x, e = np.sqrt(signal) * axes, delta * axes
    errors = gain * (sigma * x[:, None] + e) - x[:, None]
    return float((errors**2).sum(axis=-1).mean())


@broken_white.property("in MP(1, 3/4) the error at least doubles while the noise falls tenfold")
def _(ask: Callable, step: Any) -> None:
    sigma, signal = (part[:-1] for part in spectral.model_problem(1.0, 0.75, 3000))
    large, small = (float(numbers(ask(sigma, signal, d), ())) for d in (1e-2, 1e-3))
    if not small > 2 * large > 0:
        raise NotYet(f"With 3000 modes your errors are {large:.3g} and {small:.3g}.")


def _trained(sigma, signal, delta):
    gain = np.minimum(1 / sigma, sigma / _level(sigma, signal, delta))
    return gain, np.sum((1 - sigma * gain) ** 2 * signal)


@broken_white.mistake("This is the value of the game, what the broken proof promises")
def believes_the_proof(sigma, signal, delta):
    price = 1 / _level(sigma, signal, delta)
    return price * delta**2 + np.maximum(1 - price * sigma**2, 0) @ signal


@broken_white.mistake("This is the bias; the noise is missing")
def forgets_the_noise(sigma, signal, delta):
    return _trained(sigma, signal, delta)[1]


@broken_white.mistake(
    "You pass the noise through the largest gain once, as if its whole energy were delta^2; it has "
    "delta^2 in every mode"
)
def bounds_the_energy(sigma, signal, delta):
    gain, bias = _trained(sigma, signal, delta)
    return bias + delta**2 * gain.max() ** 2


@broken_white.mistake(
    "You sum the noise over the inverted modes only; the modes below the cut have the gain "
    "lambda sigma_n and pass noise, too"
)
def stops_at_the_cut(sigma, signal, delta):
    gain, bias = _trained(sigma, signal, delta)
    return bias + delta**2 * np.sum(gain[sigma * gain > 1 - 1e-9] ** 2)


# ------------------------------------------------------------------ accuracy, Lipschitz constant

least_lipschitz = Check(rtol=5e-3)  # any search grid


def _priors() -> list[tuple]:
    return [
        (np.array([1, 0.6, 0.3]), np.array([1, 0.5, 0.25]), np.array([0.02, 0.02, 0.02]), 0.3),
        (np.array([1, 0.6, 0.3]), np.array([1, 0.5, 0.25]), np.array([0.02, 0.02, 0.02]), 1.0),
        (np.array([0.8, 0.5]), np.array([0.4, 1.0]), np.array([0.05, 0.01]), 0.5),
    ]


def _least_risk(sigma, signal, noise, bound: float) -> float:
    """The least risk over all matrices of norm at most `bound`: projected gradient, accelerated."""
    data, cross = np.diag(sigma**2 * signal + noise), np.diag(sigma * signal)
    r = _rng().standard_normal(data.shape)
    step, ahead, t = 1 / data.max(), r, 1.0
    for _ in range(250):
        u, s, v = np.linalg.svd(ahead - step * (ahead @ data - cross))
        new, t_new = (u * np.minimum(s, bound)) @ v, (1 + np.sqrt(1 + 4 * t**2)) / 2
        ahead, r, t = new + (t - 1) / t_new * (new - r), new, t_new
    return float(np.trace(r @ data @ r.T) - 2 * np.trace(r @ cross) + signal.sum())


@cache
def _allowed(index: int) -> float:
    sigma, signal, noise, excess = _priors()[index]
    return (1 + excess) * _least_risk(sigma, signal, noise, 1e6)


@least_lipschitz.property("some matrix of slightly larger norm is accurate enough, none of smaller")
def _(ask: Callable) -> None:
    for index, ((*prior, _), got) in enumerate(answers(ask, _priors())):
        bound = float(numbers(got, ()))
        if not 0 < bound < 1e3:
            raise NotYet(f"A Lipschitz constant of {bound:.3g} cannot be right.")
        if _least_risk(*prior, 1.02 * bound) > _allowed(index):
            raise NotYet(f"In case {index + 1} no matrix of this norm is accurate enough.")
        if _least_risk(*prior, 0.98 * bound) < _allowed(index):
            raise NotYet(f"In case {index + 1} a matrix of smaller norm is accurate enough, too.")


@least_lipschitz.property("the answer is 0 if the zero map is accurate enough, and only then")
def _(ask: Callable) -> None:
    prior = (np.array([1.0, 0.5]), np.ones(2), 10 * np.ones(2))
    asked = answers(ask, [(*prior, excess) for excess in (0.5, 0.01)])
    enough, demanding = (float(numbers(got, ())) for _, got in asked)
    if not abs(enough) < 1e-6:
        raise NotYet("Here the noise is large, and R = 0 has less than 1.5 times the least risk.")
    if not demanding > 1e-3:
        raise NotYet("Here R = 0 has more than 1.01 times the least risk.")


def _first(risk: Callable, bound: Callable, allowed: float) -> float:
    """The least bound along a family whose parameter runs through powers of ten."""
    good = [bound(t) for t in np.geomspace(1e-8, 1e6, 40001) if risk(t) <= allowed]
    return min(good) if good else np.nan


def _risk(sigma, signal, noise, g):
    return np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise, axis=-1)


@least_lipschitz.mistake(
    "You stay in Tikhonov's family; it is not the best one for a bounded Lipschitz constant"
)
def stays_with_tikhonov(sigma, signal, noise, excess):
    alphas = np.geomspace(1e-8, 1e6, 200001)[:, None]
    g = sigma / (sigma**2 + alphas)
    wiener = sigma * signal / (sigma**2 * signal + noise)
    good = _risk(sigma, signal, noise, g) <= (1 + excess) * _risk(sigma, signal, noise, wiener)
    return float(g.max(axis=1)[good].min())


@least_lipschitz.mistake("This is the largest gain of the most accurate filter; less is enough")
def keeps_the_optimum(sigma, signal, noise, excess):
    return float(np.max(sigma * signal / (sigma**2 * signal + noise)))


@least_lipschitz.mistake("The excess is relative: the risk may be (1 + excess) times the least one")
def adds_the_excess(sigma, signal, noise, excess):
    wiener = sigma * signal / (sigma**2 * signal + noise)
    allowed = _risk(sigma, signal, noise, wiener) + excess
    if allowed >= signal.sum():
        return 0.0
    return optimize.brentq(
        lambda level: _risk(sigma, signal, noise, np.minimum(wiener, level)) - allowed,
        0,
        wiener.max(),
        xtol=1e-14,
    )


# ------------------------------------------------------------------------------ the dead zone

dead_zone = Check()
_STEP = 0.025  # divides both radii
_X = _STEP * np.arange(-240, 241)
_WEIGHT = np.exp(-(_X**2) / 2) / np.exp(-(_X**2) / 2).sum()
BEST_LINEAR = {1.0: 0.8989, 1.25: 0.9999}


def _almost_sure_loss(values: np.ndarray, width: int) -> float:
    """E max over |e| <= delta of (f(x + e) - x)^2 for values of f on the grid of all data."""
    windows = np.lib.stride_tricks.sliding_window_view(values, 2 * width + 1)
    worst = np.maximum(windows.max(axis=1) - _X, _X - windows.min(axis=1))
    return float(_WEIGHT @ worst**2)


def _data_grid(delta: float) -> tuple[np.ndarray, int]:
    width = round(delta / _STEP)
    return _STEP * np.arange(-240 - width, 241 + width), width


@dead_zone.property("for delta = 1 and 1.25 the loss is 3 % below that of every linear decoder")
def _(ask: Callable) -> None:
    for (y, delta), got in answers(ask, [(_data_grid(d)[0], d) for d in BEST_LINEAR]):
        loss = _almost_sure_loss(numbers(got, y.shape), _data_grid(delta)[1])
        if loss > 0.97 * BEST_LINEAR[delta]:
            size = f"{loss:.3f}" if loss < 100 else "more than 100"
            raise NotYet(
                f"For delta = {delta} your loss is {size}, the best linear one "
                f"{BEST_LINEAR[delta]:.3f}."
            )


@dead_zone.mistake(
    "This is the best *linear* decoder; add a function of y that is not linear and look at the loss"
)
def stays_linear(y, delta):
    kappa = np.sqrt(2 / np.pi)
    if delta <= kappa:
        return y
    return max((1 - kappa * delta) / (1 - 2 * kappa * delta + delta**2), 0.0) * y


@dead_zone.mistake("This is the posterior mean for *noise* of variance delta^2, a linear decoder")
def averages_noise(y, delta):
    return y / (1 + delta**2) + 0 * y


@dead_zone.mistake(
    "Soft thresholding is a good idea, but the threshold delta is too large: the adversary need "
    "not use the whole of delta"
)
def thresholds_at_delta(y, delta):
    return np.sign(y) * np.maximum(np.abs(y) - delta, 0)


@dead_zone.mistake(
    "Hard thresholding jumps by delta, and everybody near the jump is pushed across it"
)
def jumps(y, delta):
    return y * (np.abs(y) > delta)


# ------------------------------------------------------------------------- training the filter

train_filter = Check(rtol=0.05)  # training is never exact


@cache
def _training() -> list[tuple[np.ndarray, np.ndarray, float]]:
    rng, n = _rng(), np.arange(1, 9)
    return [
        (1 / n, rng.standard_normal((200, 8)) / n, 0.15),
        (n**-0.5, rng.uniform(-1, 1, (150, 8)) / n, 0.3),
    ]


@train_filter.property("the worst error of the filter is within 2 % of the best possible")
def _(ask: Callable) -> None:
    for (sigma, x, delta), got in answers(ask, _training()):
        power = np.mean(x**2, axis=0)
        risk = adversarial.ball_risk(_moderate(got, sigma), sigma, power, delta)
        ratio = risk / _knapsack(sigma, power, delta)
        if ratio > 1.02:
            size = f"{ratio:.2f}" if ratio < 100 else "more than 100"
            raise NotYet(f"For delta = {delta} the worst error is {size} times the best possible.")


@train_filter.mistake("You trained without an attack: what is learned is the inverse")
def trains_clean(sigma, x, delta):
    return 1 / sigma


@train_filter.mistake(
    "You trained with white noise of the same energy; noise that does not look at the data is not "
    "the worst"
)
def trains_on_noise(sigma, x, delta):
    power = np.mean(x**2, axis=0)
    return sigma * power / (sigma**2 * power + delta**2 / sigma.size)


@train_filter.mistake(
    "You gave every mode the whole budget: that is a box, and its energy is too large"
)
def trains_on_a_box(sigma, x, delta):
    return np.where(sigma**2 * np.mean(x**2, axis=0) > delta**2, 1 / sigma, 0.0)


@train_filter.mistake(
    "Your attack is one vector for all samples, fixed before they are seen: the oblivious ball"
)
def trains_obliviously(sigma, x, delta):
    return adversarial.ball_oblivious(sigma, np.mean(x**2, axis=0), delta)[0]
