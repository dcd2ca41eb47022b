"""The public checks of the exercises of chapter 3: some properties, and the known mistakes.

The oracles try attacks, minimize losses numerically, or scan a dual function; none uses the formula
that is asked for.  The checks are necessary, not sufficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from coursework.checks import Check, NotYet, answers, close, numbers, right_step


def _circle(p: float, count: int = 14400) -> np.ndarray:
    """Points on the boundary of the unit ball of the p-norm in the plane, corners included."""
    angle = 2 * np.pi * np.arange(count) / count
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points / np.linalg.norm(points, ord=p, axis=1)[:, None]


def _dual(w: np.ndarray, p: float) -> float:
    return float(np.linalg.norm(w, ord=1 if p == np.inf else np.inf if p == 1 else p / (p - 1)))


# --------------------------------------------------------------- the logistic risk under attack

logistic_risk = Check("ex-logistic-risk", "logistic_risk")


def _classifier(rng: np.random.Generator, size: int, dimension: int) -> tuple:
    y = np.where(np.arange(size) % 2, -1.0, 1.0)
    return (
        rng.standard_normal(dimension),
        rng.uniform(0.2, 0.6),
        rng.standard_normal((size, dimension)),
        rng.permutation(y),
    )


def _attacked_risk(w, b, X, y, delta, ball) -> float:
    """The mean of the largest logistic loss over the points of a ball: plain search."""
    margin = y[:, None] * (X @ w + b)[:, None] + delta * y[:, None] * (ball @ w)
    return float(np.logaddexp(0, -margin).max(axis=1).mean())


@logistic_risk.property("walking around the ball in the plane finds nothing worse, nor less", 2)
def _(ask: Callable) -> None:
    w, b, X, y = _classifier(ask.rng, 7, 2)
    cases = [
        (w, b, X, y, ask.rng.uniform(0.3, 0.6), p)
        for p in (1.0, ask.rng.uniform(1.3, 1.7), ask.rng.uniform(2.5, 4), np.inf)
    ]
    for case, got in answers(ask, cases):
        want = _attacked_risk(*case[:5], _circle(case[5]))
        close(got, want, f"the risk for p = {case[5]:.3g}", 1e-5)


@logistic_risk.property("in the cube every corner has been tried", 1)
def _(ask: Callable) -> None:
    w, b, X, y = _classifier(ask.rng, 9, 6)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    for case, got in answers(ask, [(w, b, X, y, d, np.inf) for d in (0.0, 0.2)]):
        close(got, _attacked_risk(*case[:5], corners), f"the risk for delta = {case[4]:g}", 1e-5)


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

squared_gap = Check("ex-squared-gap", "squared_gap")


def _regression(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, residuals, and the matrix of an ellipse that is neither round nor upright."""
    turn = rng.uniform(0.3, 1.2)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    C = axes @ np.diag([rng.uniform(1.5, 3), rng.uniform(0.3, 0.6)]) @ axes.T
    return rng.uniform(0.4, 1, 2) * [1, -1], 0.7 * rng.standard_normal(9), C


@squared_gap.property("walking around the ellipse finds the same gap", 2)
def _(ask: Callable) -> None:
    w, r, C = _regression(ask.rng)
    ellipse = _circle(2) @ np.linalg.cholesky(C).T
    for (*_, delta), got in answers(ask, [(w, r, C, d) for d in (0.1, 0.5, 2.0)]):
        worst = ((r[:, None] - delta * ellipse @ w) ** 2).max(axis=1)
        close(got, np.mean(worst - r**2), f"the gap for delta = {delta}", 1e-5)


@squared_gap.property("for a round ball in five dimensions the attack along w is the worst", 1)
def _(ask: Callable) -> None:
    w, r, delta = ask.rng.standard_normal(5), ask.rng.standard_normal(20), ask.rng.uniform(0.2, 0.5)
    push = delta * w / np.linalg.norm(w)
    worst = np.maximum((r - push @ w) ** 2, (r + push @ w) ** 2)
    close(ask(w, r, np.eye(5), delta), np.mean(worst - r**2), "the gap for C = I", 1e-5)


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

loss_gap = Check("ex-loss-gap", "loss_gap", ("predicted",), rtol=5e-3)  # any search grid


def _gap_of(loss: Callable, u: np.ndarray, radius: float) -> np.ndarray:
    v = radius * np.linspace(-1, 1, 8001)
    return loss(u[:, None] + v).max(axis=1) - loss(u)


@loss_gap.property("for seven convex losses the gap is what a search over all shifts finds", 1)
def _(ask: Callable, predicted: Any) -> None:
    u = np.sort(ask.rng.uniform(-2, 2, 17))
    cases = [(loss, u, ask.rng.uniform(0.4, 1.2)) for loss in LOSSES.values()]
    for name, (case, got) in zip(LOSSES, answers(ask, cases), strict=True):
        close(got, _gap_of(*case), f"the gap of the loss '{name}' for D = {case[2]:.3g}", 5e-3)


def _wavy(u):
    return u + np.sin(2 * np.pi * u)


@loss_gap.property("a loss that is not convex is no exception", 1)
def _(ask: Callable, predicted: Any) -> None:
    u = ask.rng.uniform(-1, 1, 21)
    for case, got in answers(ask, [(_wavy, u, d) for d in (0.4, 1.0)]):
        close(got, _gap_of(*case), f"the gap of u + sin(2 pi u) for D = {case[2]}", 5e-3)


@loss_gap.property("the predictions are right, and so is a measurement", 1)
def _(ask: Callable, predicted: Any) -> None:
    u, radius = ask.rng.uniform(-2, 2, 9), ask.rng.uniform(0.5, 1)
    for case, got in answers(ask, [(f, u, radius) for f in (LOSSES["pinball 0.9"], _wavy)]):
        close(got, _gap_of(*case), f"a gap for D = {radius:.3g}", 5e-3)
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

class_weights = Check("ex-class-weights", "class_weights")
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


def _weights(out: Any) -> np.ndarray:
    W = numbers(out, (3, 4))
    if np.abs(W).max() > 10:
        raise NotYet("Keep every weight between -10 and 10.")
    return W


def _must_be_tight(W: np.ndarray, logits: np.ndarray, deltas: tuple[float, ...]) -> None:
    if min(np.abs(W[i] - W[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) < 0.1:
        raise NotYet(TWO_ROWS + ".")
    worst = max(_excess(W, z, d).max() for z in logits for d in deltas)
    if worst > 1e-9:
        same = (W > 0).all() or (W < 0).all()
        raise NotYet(f"{SAME_SIGN if same else f'The bound is too large by {worst:.2g}'}.")


def _must_be_loose(W: np.ndarray) -> None:
    if not (W > 0).all():
        raise NotYet("All weights should be positive here.")
    excess = _excess(W, np.zeros(3), 0.5).mean()
    if excess < 0.1:
        raise NotYet(
            f"At x = 0, b = 0, delta = 1/2 the bound exceeds the truth by {excess:.2g} on average."
        )


@class_weights.property("with tight=True the pairwise bound is exact for every label", 0)
def _(ask: Callable) -> None:
    _must_be_tight(_weights(ask(True)), ask.rng.standard_normal((4, 3)), (0.1, 0.5))


@class_weights.property("with tight=False all weights are positive and it is not exact", 2)
def _(ask: Callable) -> None:
    (_, tight), (_, loose) = answers(ask, [(True,), (False,)])
    _must_be_loose(_weights(loose))
    _must_be_tight(_weights(tight), ask.rng.standard_normal((2, 3)), (0.3,))


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

broken_hinge = Check("ex-broken-hinge", "hinge_counterexample", ("hinge_step",))

HINGE_STEPS = {
    1: "Step 1 is right: the hinge is nonincreasing, so the smallest margin is the worst.",
    2: "Step 2 is right: a sum of two numbers has a positive part of at most the sum of theirs.",
    4: "Step 4 is right if step 3 is: it only takes the average.",
    5: "Step 5 is right if step 4 is: equal functions have equal minimizers.",
}


@broken_hinge.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, HINGE_STEPS)


def _must_differ(ask: Callable, deltas: list[float]) -> None:
    for (delta,), got in answers(ask, [(delta,) for delta in deltas]):
        try:
            size = len(got)
        except Exception:
            size = 1
        x = numbers(got, (min(max(size, 1), 1000),))
        inside, outside = _hinge_minima(x, delta)
        if not inside <= outside - 0.1 + 1e-9:
            raise NotYet(
                f"For delta = {delta:.3g} the least adversarial risk is {inside:.3g}, the least "
                f"penalized risk {outside:.3g}."
            )


@broken_hinge.property("the step is right, and on your data the two minima differ by 0.1", 2)
def _(ask: Callable, step: Any) -> None:
    _must_differ(ask, [ask.rng.uniform(a, 2 * a) for a in (0.05, 0.5, 5.0)])
    right_step(step, 3, HINGE_STEPS)


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

zero_radius = Check("ex-zero-radius", "zero_radius")


def _zero_cases(rng: np.random.Generator) -> list[tuple]:
    Z = rng.standard_normal((12, 2)) * [1.0, 0.6]
    t = Z @ [1.0, -0.7] + 0.5 * rng.standard_normal(12) + 0.3
    return [(Z, t, norm, p) for p in (2.0, 1.5, 4.0) for norm in (1, 2, np.inf)]


def _steepest(Z: np.ndarray, t: np.ndarray, norm: float, p: float, delta: float, v) -> float:
    """The least slope of the adversarial risk from w = 0 outwards, over the directions v."""
    v = 1e-6 * v
    size = np.linalg.norm(v, ord={1: np.inf, 2: 2, np.inf: 1}[norm], axis=1)
    risk = ((np.abs(t - v @ Z.T) + delta * size[:, None]) ** p).mean(axis=1)
    return float(((risk - np.mean(np.abs(t) ** p)) / size).min())


def _must_be_zero_radius(case: tuple, got: Any, v: np.ndarray) -> None:
    Z, t, norm, p = case
    delta, name = float(numbers(got, ())), f"attack norm {norm}, p = {p:g}"
    if not 0 < delta < 1e6:
        raise NotYet(f"A radius of {delta:.3g} cannot be right ({name}).")
    if _steepest(Z, t, norm, p, 1.01 * delta, v) < 0:
        raise NotYet(f"Slightly above your radius w = 0 is not yet optimal ({name}).")
    if _steepest(Z, t, norm, p, 0.99 * delta, v) >= 0:
        raise NotYet(f"Slightly below your radius w = 0 is optimal already ({name}).")


@zero_radius.property("above this radius w = 0 is optimal, below it is not", 2)
def _(ask: Callable) -> None:
    directions = _circle(2, 3600)
    for case, got in answers(ask, _zero_cases(ask.rng)):
        _must_be_zero_radius(case, got, directions)


@zero_radius.property("with one feature and one sample the radius is the size of that feature", 1)
def _(ask: Callable) -> None:
    sizes = ask.rng.uniform(0.2, 2, 2) * [1, -1]
    cases = [(np.array([[z]]), np.array([-3 * z]), np.inf, 3.0) for z in sizes]
    for (Z, *_), got in answers(ask, cases):
        close(got, abs(Z[0, 0]), f"the radius for z = {Z[0, 0]:.3g}")


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

interpolation_radius = Check("ex-interpolation-radius", "interpolation_radius")


def _wide(rng: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((rows, columns)), rng.standard_normal(rows)


def _can_be_lowered(X: np.ndarray, y: np.ndarray, delta: float) -> bool:
    """Whether a small step away from the interpolating w of least norm lowers the risk.

    The steps give up one residual each, by a little and to either side.
    """
    w = np.linalg.pinv(X) @ y
    size = 1e-7 * np.linalg.norm(w)
    steps = np.linalg.pinv(X).T
    steps = size * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    w = w + np.vstack([np.zeros_like(w), steps, -steps])
    reach = np.abs(y - w @ X.T) + delta * np.linalg.norm(w, axis=1, keepdims=True)
    risk = (reach**2).mean(axis=1)
    return bool(risk[1:].min() < risk[0])


@interpolation_radius.property("below this radius interpolation is optimal, above it is not", 2)
def _(ask: Callable) -> None:
    few, many = _wide(ask.rng, 3, 5), _wide(ask.rng, 6, 9)
    for (X, y), got in answers(ask, [few, many, (many[0], -many[1])]):
        delta, of = float(numbers(got, ())), f"with {len(y)} samples"
        if not 1e-4 < delta < 1e2:
            raise NotYet(f"A radius of {delta:.3g} cannot be right.")
        if _can_be_lowered(X, y, 0.99 * delta):
            raise NotYet(f"Slightly below your radius a model with residuals is better, {of}.")
        if not _can_be_lowered(X, y, 1.01 * delta):
            raise NotYet(f"Slightly above your radius interpolation is optimal still, {of}.")


@interpolation_radius.property("one sample is interpolated until zero takes over", 1)
def _(ask: Callable) -> None:
    cases = [(ask.rng.uniform(1, 4, (1, 2)) * [[1, -1]], np.array([y])) for y in (0.5, -7.0)]
    for (X, _), got in answers(ask, cases):
        close(got, np.linalg.norm(X), f"the radius for the sample {np.round(X[0], 2)}", 1e-2)


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

reached = Check("ex-short-ascent", "reached", ("best",))


def _ascend(path: float, spread: float, steps: int = 50) -> float:
    """Projected gradient ascent of one coordinate in [-1, 1], from evenly spaced starts."""
    e = np.linspace(-spread, spread, 20001)
    e = (e[1:] + e[:-1]) / 2
    for _ in range(steps):
        e = np.minimum(e + path / steps, 1)
    return float(e.mean())


@reached.property("simulated ascents reach this share", 2)
def _(ask: Callable, best: Any) -> None:
    paths = [0.0, *(a + ask.rng.uniform(0, 0.3) for a in (0.1, 0.5, 0.9, 1.3, 1.7, 2.2))]
    spreads = (0.0, ask.rng.uniform(0.3, 0.7), 1.0)
    _must_reach(ask, [(path, spread) for path in paths for spread in spreads])


def _must_reach(ask: Callable, cases: list[tuple]) -> None:
    for (path, spread), got in answers(ask, cases):
        if not abs(float(numbers(got, ())) - _ascend(path, spread)) <= 2e-3:
            raise NotYet(
                f"For a path of length {path:.3g} and a start of spread {spread:.3g} the ascents "
                "reach another share."
            )


BEST = 0.769  # mean of the best of 20 simulated restarts


@reached.property("twenty restarts reach what you predicted, one start what you computed", 1)
def _(ask: Callable, best: Any) -> None:
    if best is None:
        raise NotYet("`best` is not set yet.")
    short = ask.rng.uniform(0.1, 0.4)
    _must_reach(
        ask,
        [
            (1.0, 1.0),
            (1.0, 0.5),
            (short, 0.5),
            (ask.rng.uniform(0.2, 0.4), ask.rng.uniform(0.8, 1)),
        ],
    )
    value = float(numbers(best, ()))
    error = value - BEST
    if abs(error) < 0.013:  # 0.78 is what the estimate sqrt(2 log 20) of the maximum gives
        return
    if error < 0 and value >= 0.74:
        raise NotYet(WRONG_BEST["mean"])
    raise NotYet(WRONG_BEST["large" if error > 0 else "small"])


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

almost_sure_gain = Check("ex-three-regimes", "almost_sure_gain", rtol=1e-5)


def _laws(rng: np.random.Generator) -> list[tuple[np.ndarray, float, float]]:
    """Samples, sigma, delta: three laws, relative attacks on both sides of every threshold."""
    spikes = rng.permutation(np.r_[3.0, -3.0, 0.2 * np.ones(7)])
    cases = []
    for x in (rng.standard_normal(60), rng.uniform(-1, 1, 40), spikes):
        kappa = np.mean(np.abs(x)) / np.sqrt(np.mean(x**2))
        low, high = rng.uniform(0.4, 0.7), rng.uniform(2, 5)
        for sigma, s in (
            (1.3, low * kappa),
            (1.3, 0.94),
            (0.4, 1.06),
            (0.4, 0.97 / kappa),
            (2, high),
        ):
            cases.append((x, sigma, s * sigma * np.sqrt(np.mean(x**2))))
    return cases


def _best_gain(x: np.ndarray, sigma: float, delta: float) -> float:
    """The minimizer of the convex training loss: a search that zooms in, and the two kinks."""

    def loss(g: np.ndarray) -> np.ndarray:
        spent = np.abs(g[:, None] * sigma - 1) * np.abs(x) + delta * np.abs(g[:, None])
        return (spent**2).mean(axis=1)

    low, high = -0.5 / sigma, 2 / sigma
    for _ in range(10):
        g = np.linspace(low, high, 21)
        best = int(loss(g).argmin())
        low, high = g[max(best - 1, 0)], g[min(best + 1, 20)]
    g = np.array([(low + high) / 2, 0.0, 1 / sigma])
    return float(g[loss(g).argmin()])


@almost_sure_gain.property("no other gain has a smaller adversarial loss", 2)
def _(ask: Callable) -> None:
    asked = answers(ask, _laws(ask.rng))
    got = [case[1] * float(numbers(g, ())) for case, g in asked]
    want = [case[1] * _best_gain(*case) for case, _ in asked]
    close(np.array(got), np.array(want), "sigma times the gain", 1e-4)


@almost_sure_gain.property("samples of one size are kept or erased, nothing in between", 1)
def _(ask: Callable) -> None:
    size, sigma = ask.rng.uniform(0.5, 3), ask.rng.uniform(0.3, 0.8)
    x = size * np.array([1.0, -1.0, 1.0])
    for part, (_, got) in zip(
        (0.3, 0.99, 1.01, 3.0),
        answers(ask, [(x, sigma, part * sigma * size) for part in (0.3, 0.99, 1.01, 3.0)]),
        strict=True,
    ):
        want = 1 / sigma if part < 1 else 0.0
        close(got, want, f"the gain for delta = {part:g} sigma |x|", 1e-4)


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
    return sigma * _best_gain(x, sigma, delta)


# ----------------------------------------------------------------------------- water-filling

water_filling = Check("ex-water-filling", "water_filling")


def _spectra(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Singular values, powers, and a radius at which the budget ends in the midst of a mode."""
    cases = []
    for sigma, share in (
        (np.array([1, 0.5, 0.25]) * rng.uniform(0.8, 1.2), rng.uniform(0.1, 0.2)),
        *((rng.uniform(0.8, 1.2, 6) / np.arange(1, 7), rng.uniform(0.1, 0.4)) for _ in range(3)),
    ):
        sigma = rng.permutation(sigma)
        signal = rng.uniform(0.3, 2, sigma.size)
        cases.append((sigma, signal, float(np.sqrt(share * (sigma**2 @ signal)))))
    order = rng.permutation(5)  # powers for which no two known mistakes agree
    sigma = np.array([0.2, 0.3, 0.7, 0.7, 1.0])[order]
    signal = (np.array([1.0, 0.5, 2.0, 0.5, 0.3]) * rng.uniform(0.95, 1.05, 5))[order]
    return [*cases, (sigma, signal, float(np.sqrt(0.04 * (sigma**2 @ signal))))]


def _value(sigma: np.ndarray, signal: np.ndarray, delta: float) -> float:
    """What erasing modes with probabilities achieves: the linear program's dual, at its kinks."""
    prices = np.append(0, 1 / sigma**2)[:, None]
    return float((prices[:, 0] * delta**2 + np.maximum(1 - prices * sigma**2, 0) @ signal).min())


def _worst_error(gain: np.ndarray, sigma: np.ndarray, signal: np.ndarray, delta: float) -> float:
    """The worst error of a filter: every price of the budget gives a bound; search the least."""
    top = np.max(gain**2)
    if top == 0:
        return float(signal.sum())
    low, high = np.log(1e-13), np.log(1e5)
    for _ in range(4):
        extra = np.linspace(low, high, 200)
        price = top * (1 + np.exp(extra))[:, None]
        total = price[:, 0] * delta**2
        total = total + ((1 - sigma * gain) ** 2 * price / (price - gain**2)) @ signal
        best = int(total.argmin())
        low, high = extra[max(best - 1, 0)], extra[min(best + 1, 199)]
    return float(total.min())


def _moderate(got: Any, sigma: np.ndarray) -> np.ndarray:
    gains = numbers(got, sigma.shape)
    if np.abs(gains).max() > 1e6:
        raise NotYet("A gain of your filter exceeds a million.")
    return gains


def _must_be_best(case: tuple, got: Any) -> None:
    sigma, _, delta = case
    ratio = _worst_error(_moderate(got, sigma), *case) / _value(*case)
    if not ratio <= 1 + 1e-4:
        raise NotYet(
            f"For sigma = {np.round(sigma, 2)} and delta = {delta:.3g} an attack makes the error "
            f"{ratio:.3g} times the value of the game."
        )


@water_filling.property("no attack of this energy makes the filter worse than the value", 2)
def _(ask: Callable) -> None:
    for case, got in answers(ask, _spectra(ask.rng)):
        _must_be_best(case, got)


@water_filling.property("an attack of more energy than Ax leaves nothing, one of less something", 1)
def _(ask: Callable) -> None:
    sigma, signal = ask.rng.uniform(0.8, 1.2, 2) * [1, 0.5], ask.rng.uniform(0.8, 2, 2)
    energy = sigma**2 @ signal
    cases = [(sigma, signal, float(np.sqrt(part * energy))) for part in (1.1, 0.9)]
    (_, more), *others = answers(ask, [*cases, *_spectra(ask.rng)])
    if np.abs(numbers(more, (2,))).max() > 1e-9:
        raise NotYet("E||Ax||^2 is less than delta^2 here; the gains should be 0.")
    for case, got in others:
        _must_be_best(case, got)


def _level(sigma, signal, delta, reverse=False):
    """1 / lambda: sigma^2 of the mode at which the budget runs out; infinite if it does not."""
    order = np.argsort(sigma)[::-1] if reverse else np.argsort(sigma)
    spent = np.cumsum((sigma**2 * signal)[order])
    if delta**2 >= spent[-1]:
        return np.inf
    return sigma[order][np.searchsorted(spent, delta**2, side="right")] ** 2


def _oblivious(sigma, signal, delta):
    order = np.argsort(sigma)  # decreasing 1 / sigma
    top = np.cumsum((sigma * signal)[order])
    return np.minimum(1 / sigma, (top / (delta**2 + np.cumsum((sigma**2 * signal)[order]))).max())


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
    return _oblivious(sigma, signal, delta)


@water_filling.mistake(
    "You treat every mode by itself, as against a box: keep it if sigma^2 Pi exceeds delta^2"
)
def plays_the_box(sigma, signal, delta):
    return np.where(sigma**2 * signal > delta**2, 1 / sigma, 0.0)


# ----------------------------------------------------- uncorrelated, and yet one tells the other

two_mode_decoder = Check("ex-uncorrelated", "two_mode_decoder")
TRUTHS = np.array([[-(1.5**0.5), -(0.5**0.5)], [0.0, 2**0.5], [1.5**0.5, -(0.5**0.5)]])
OPERATOR = np.array([1.0, 0.1])
RADIUS = 0.12
VALUE = 1.0044  # of the game among filters, from the knapsack


def _worst_of(decode: Callable, e: np.ndarray) -> float:
    """The worst mean squared error under a budget in mean, over the attacks in the rows of e.

    For each price of the budget every truth buys its best attack; the least total is the supremum
    (duality).
    """
    data, cost = (OPERATOR * TRUTHS)[:, None] + e, (e**2).sum(axis=1)
    errors = ((decode(data) - TRUTHS[:, None]) ** 2).sum(axis=-1)
    low, high = -3.0, 7.0
    for _ in range(5):
        prices = np.exp(np.linspace(low, high, 15))
        total = [p * RADIUS**2 + (errors - p * cost).max(axis=-1).mean() for p in prices]
        best = int(np.argmin(total))
        low, high = np.log(prices[max(best - 1, 0)]), np.log(prices[min(best + 1, 14)])
    return float(min(total))


def _must_be_safe(ask: Callable, e: np.ndarray) -> None:
    def decode(data: np.ndarray) -> np.ndarray:
        rows = data.reshape(-1, 2)
        return numbers(ask(rows), rows.shape).reshape(data.shape)

    worst = _worst_of(decode, e)
    if not worst <= VALUE / 2:
        size = f"{worst:.2f}" if worst < 100 else "more than 100"
        raise NotYet(f"An attack with this budget makes your error {size}; V is 1.0044.")


def _grid(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)


@two_mode_decoder.property("under every attack on a grid the error is less than half of V", 2)
def _(ask: Callable) -> None:
    shift = ask.rng.uniform(-0.01, 0.01, 2)
    e = _grid(np.linspace(-6, 6, 401) + shift[0], np.linspace(-0.6, 0.6, 9) + shift[1])
    _must_be_safe(ask, np.vstack([np.zeros((1, 2)), e]))


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

broken_white = Check("ex-broken-white", "white_noise_risk", ("noise_step",))

WHITE_STEPS = {
    1: "Step 1 is right: it is what the value of the game means.",
    2: "Step 2 is right: the exponent of the value is positive for every b > 1/2.",
    3: "Step 3 is right: this is what white noise of level delta means.",
    5: "Step 5 is right if step 4 is.",
}


@broken_white.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, WHITE_STEPS)


@broken_white.property("the step is right, the error that of applying the filter to noisy data", 2)
def _(ask: Callable, step: Any) -> None:
    for (sigma, signal, delta), got in answers(ask, _spectra(ask.rng)):
        close(
            got, _white_by_design(sigma, signal, delta), f"the error for delta = {delta:.3g}", 1e-5
        )
    right_step(step, 4, WHITE_STEPS)


def _white_by_design(sigma: np.ndarray, signal: np.ndarray, delta: float) -> float:
    """Signals and noises that run through +- the axes: their second moments are the right ones."""
    prices = 1 / sigma**2
    worst = [p * delta**2 + np.maximum(1 - p * sigma**2, 0) @ signal for p in prices]
    gain = np.minimum(1 / sigma, prices[int(np.argmin(worst))] * sigma)
    axes = np.sqrt(sigma.size) * np.vstack([np.eye(sigma.size), -np.eye(sigma.size)])
    x, e = np.sqrt(signal) * axes, delta * axes
    errors = gain * (sigma * x[:, None] + e) - x[:, None]
    return float((errors**2).sum(axis=-1).mean())


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

least_lipschitz = Check("ex-least-lipschitz", "least_lipschitz", rtol=1e-2)  # any search grid


def _prior(rng: np.random.Generator, modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular values, powers and noise, in no order."""
    sigma = np.geomspace(1, 0.3, modes) * rng.uniform(0.9, 1.1, modes)
    noise = rng.uniform(0.01, 0.05, modes)
    return rng.permutation(sigma), rng.uniform(0.3, 1, modes), noise


def _least_risk(sigma, signal, noise, bound: float) -> float:
    """The least risk over all matrices of norm at most `bound`: projected gradient, accelerated."""
    data, cross = np.diag(sigma**2 * signal + noise), np.diag(sigma * signal)
    r = np.ones(data.shape)  # not diagonal
    step, ahead, t = 1 / data.max(), r, 1.0
    for _ in range(200):
        u, s, v = np.linalg.svd(ahead - step * (ahead @ data - cross))
        new, t_new = (u * np.minimum(s, bound)) @ v, (1 + np.sqrt(1 + 4 * t**2)) / 2
        ahead, r, t = new + (t - 1) / t_new * (new - r), new, t_new
    return float(np.trace(r @ data @ r.T) - 2 * np.trace(r @ cross) + signal.sum())


def _must_be_least(ask: Callable, cases: list[tuple]) -> None:
    for index, ((*prior, excess), got) in enumerate(answers(ask, cases)):
        bound = float(numbers(got, ()))
        if not 0 < bound < 1e3:
            raise NotYet(f"A Lipschitz constant of {bound:.3g} cannot be right.")
        allowed = (1 + excess) * _least_risk(*prior, 1e6)
        if _least_risk(*prior, 1.02 * bound) > allowed:
            raise NotYet(f"In case {index + 1} no matrix of this norm is accurate enough.")
        if _least_risk(*prior, 0.98 * bound) < allowed:
            raise NotYet(f"In case {index + 1} a matrix of smaller norm is accurate enough, too.")


@least_lipschitz.property(
    "some matrix of slightly larger norm is accurate enough, none of smaller", 2
)
def _(ask: Callable) -> None:
    first, second = _prior(ask.rng, 3), _prior(ask.rng, 2)
    excesses = ask.rng.uniform(0.2, 0.5), ask.rng.uniform(0.8, 1.2), ask.rng.uniform(0.3, 0.6)
    priors = (first, first, second)
    _must_be_least(ask, [(*p, e) for p, e in zip(priors, excesses, strict=True)])


@least_lipschitz.property("the answer is 0 if the zero map is accurate enough, and only then", 1)
def _(ask: Callable) -> None:
    prior = (ask.rng.uniform(0.5, 1, 2), np.ones(2), ask.rng.uniform(8, 12, 2))
    (_, enough), (demanding, other) = answers(ask, [(*prior, excess) for excess in (0.5, 0.01)])
    if not abs(float(numbers(enough, ()))) < 1e-4:
        raise NotYet("Here the noise is large, and R = 0 has less than 1.5 times the least risk.")
    _must_be_least(lambda *_: other, [demanding])


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
    allowed = _least_risk(sigma, signal, noise, 1e6) + excess
    if allowed >= signal.sum():
        return 0.0
    low, high = 0.0, keeps_the_optimum(sigma, signal, noise, excess)
    for _ in range(12):
        middle = (low + high) / 2
        enough = _least_risk(sigma, signal, noise, middle) <= allowed
        low, high = (low, middle) if enough else (middle, high)
    return high


# ------------------------------------------------------------------------------ the dead zone

dead_zone = Check("ex-dead-zone", "dead_zone")
_STEP = 0.025  # divides the radii
_X = _STEP * np.arange(-240, 241)


def _almost_sure_loss(values: np.ndarray, x: np.ndarray, width: int) -> float:
    """E max over |e| <= delta of (f(x + e) - x)^2 for values of f on the grid of all data."""
    windows = np.lib.stride_tricks.sliding_window_view(values, 2 * width + 1)
    worst = np.maximum(windows.max(axis=1) - x, x - windows.min(axis=1))
    weight = np.exp(-(x**2) / 2)
    return float(weight @ worst**2 / weight.sum())


def _data_grid(x: np.ndarray, delta: float) -> tuple[np.ndarray, int]:
    width = round(delta / _STEP)
    return x[0] + _STEP * np.arange(-width, len(x) + width), width


def _best_linear(delta: float) -> float:
    """The least loss of a linear decoder: a quadratic function of the gain, tried everywhere."""
    y, width = _data_grid(_X, delta)
    return min(_almost_sure_loss(g * y, _X, width) for g in np.linspace(0, 1, 101))


def _must_beat_linear(ask: Callable, radii: list[float], order: Callable) -> None:
    """Loss at most 97 % of the best linear one; the data are asked in the given order."""
    x = _X + ask.rng.uniform(0, _STEP)
    grids = [_data_grid(x, delta) for delta in radii]
    orders = [order(y.size) for y, _ in grids]
    cases = [(y[i], delta) for (y, _), i, delta in zip(grids, orders, radii, strict=True)]
    for (y, width), i, (_, delta), got in zip(
        grids, orders, cases, [ask(*case) for case in cases], strict=True
    ):
        values = np.empty(y.shape)
        values[i] = numbers(got, y.shape)
        loss, best = _almost_sure_loss(values, x, width), _best_linear(delta)
        if not loss <= 0.97 * best:
            size = f"{loss:.3f}" if loss < 100 else "more than 100"
            raise NotYet(
                f"For delta = {delta:g} your loss is {size}, the best linear one {best:.3f}."
            )


@dead_zone.property("the loss is 3 % below that of every linear decoder", 2)
def _(ask: Callable) -> None:
    radii = [1.0, _STEP * float(ask.rng.integers(42, 48)), 1.25]
    _must_beat_linear(ask, radii, np.arange)


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

train_filter = Check("ex-train-filter", "train_filter", rtol=0.05)  # training is never exact


def _must_train(ask: Callable, cases: list[tuple]) -> None:
    for (sigma, x, delta), got in answers(ask, cases):
        power = np.mean(x**2, axis=0)
        risk = _worst_error(_moderate(got, sigma), sigma, power, delta)
        ratio = risk / _value(sigma, power, delta)
        if not ratio <= 1.03:
            size = f"{ratio:.2f}" if ratio < 100 else "more than 100"
            raise NotYet(f"For delta = {delta:.2g} the worst error is {size} times the best one.")


@train_filter.property("the worst error of the filter is within 3 % of the best possible", 3)
def _(ask: Callable) -> None:
    n = np.arange(1, 9)
    x = ask.rng.standard_normal((200, 8)) / n
    _must_train(ask, [(1 / n, x, ask.rng.uniform(0.13, 0.17))])


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
    return _oblivious(sigma, np.mean(x**2, axis=0), delta)
