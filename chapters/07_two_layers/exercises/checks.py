"""Self-checks of the exercises of chapter 7.

``checks.tell(checks.one_neuron(f))`` asks the function `f` for answers and prints one sentence per
property: ``ok`` or ``not yet`` with the reason.  The oracles try all corners of a cube or all
points of a lattice, send masses by linear programs, minimize the adversarial risk itself, or use
the dual program; none uses a closed form that is asked for.  The checks are necessary, not
sufficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize

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

SEED = 20260907


def _rng(more: int = 0) -> np.random.Generator:
    return np.random.default_rng([SEED, more])


def _agree(
    ask: Callable, cases: Iterable[tuple[tuple, Any]], what: Callable, rtol: float = 1e-5
) -> None:
    """Ask all cases, then compare each answer with what the oracle says."""
    cases = list(cases)
    asked = answers(ask, [case for case, _ in cases])
    for (case, got), (_, want) in zip(asked, cases, strict=True):
        close(got, want, what(*case), rtol)


def _cube(d: int) -> np.ndarray:
    return np.array(list(itertools.product((-1.0, 1.0), repeat=d)))


def _units(a: np.ndarray, w: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """sum_j a_j relu(w_j t + b_j) at an array of numbers t."""
    return np.maximum(np.multiply.outer(t, w) + b, 0) @ a


def _relu(t: np.ndarray) -> np.ndarray:
    return np.maximum(t, 0)


# ------------------------------------------------------------------ the gaps of one neuron

one_neuron = Check()


@cache
def _neuron_cases(sign: float) -> list[tuple[tuple, np.ndarray]]:
    rng, cases = _rng(1), []
    for d in (1, 2, 4):
        w, b, eps = rng.standard_normal(d), 0.3 * rng.standard_normal(), rng.uniform(0.1, 0.6)
        a = sign * rng.uniform(0.5, 2.0)
        X = rng.standard_normal((14, d))
        X[:4] *= 4.0  # some far from the kink
        y = np.where(np.arange(14) % 2, 1.0, -1.0)
        moved = X[:, None] + eps * _cube(d)
        worst = (y[:, None] * a * _relu(moved @ w + b)).min(axis=1)
        cases.append(((a, w, b, X, y, eps), y * a * _relu(X @ w + b) - worst))
    return cases


def _neuron(sign: float) -> Callable:
    return lambda ask: _agree(
        ask, _neuron_cases(sign), lambda a, w, b, X, y, eps: f"the gaps for d = {len(w)}"
    )


one_neuron.property("for a > 0 the worst corner of the cube loses as much")(_neuron(1.0))
one_neuron.property("and so it does for a < 0")(_neuron(-1.0))


def _ramps(a, u, s, y):
    return np.abs(a) * np.clip(u + s * (y * a < 0), 0, s)


@one_neuron.mistake(
    "This is the gradient penalty: it does not see a dead neuron that can be woken, nor a live one "
    "that dies on the way"
)
def trusts_the_gradient(a, w, b, X, y, eps):
    return np.abs(a) * eps * np.abs(w).sum() * (X @ w + b > 0)


@one_neuron.mistake(
    "You measure w in the norm of the attack; the input of the neuron moves by eps times the dual "
    "norm, the sum of the |w_i|"
)
def takes_the_attack_norm(a, w, b, X, y, eps):
    return _ramps(a, X @ w + b, eps * np.abs(w).max(), y)


@one_neuron.mistake(
    "This is the upper bound eps |a| ||w||_1, the same for all data; it is attained only while the "
    "neuron is awake all the way"
)
def charges_the_path(a, w, b, X, y, eps):
    return np.full(len(X), np.abs(a) * eps * np.abs(w).sum())


@one_neuron.mistake(
    "You always let the neuron grow; if y a > 0 the adversary wants it to shrink, and below zero "
    "there is nothing to take"
)
def always_grows(a, w, b, X, y, eps):
    return _ramps(-1.0, X @ w + b, eps * np.abs(w).sum(), np.ones(len(X))) * np.abs(a)


@one_neuron.mistake("You decide by the label alone; what counts is the sign of y a")
def forgets_the_sign_of_a(a, w, b, X, y, eps):
    return np.abs(a) * _ramps(1.0, X @ w + b, eps * np.abs(w).sum(), y)


# ---------------------------------------------------------- worst drops on a line, and escapes

line_drop = Check()

#: network and norm: labels for which the worst drop is a function of the score, and a reason
ESCAPES = {
    "leaky": (
        "both",
        "x_1 -> relu(x_1) - relu(-x_1) / 10 is strictly monotone: the score says x_1.",
    ),
    "relu": (
        "+1",
        "relu(x_1): for label +1 the drop is min(f, eps), for label -1 it depends, at f = 0, on "
        "how dead the neuron is.",
    ),
    "abs": ("both", "|x_1|: the score says |x_1|, and both drops follow."),
    "step": (
        "neither",
        "relu(x_1) - relu(x_1 - 1): it is flat at the bottom and at the top; each flat piece "
        "spoils one label.",
    ),
    "sum, l1": ("both", "|x_1| + |x_2| is the attack norm itself: one moves along the ray."),
    "sum, l2": (
        "-1",
        "|x_1| + |x_2|: upwards all quadrants gain sqrt(2) eps; downwards compare a point on an "
        "axis with one on the diagonal.",
    ),
    "max, l_inf": ("both", "max(x_1, x_2): move both coordinates by eps, up or down."),
    "max, l2": (
        "-1",
        "max(x_1, x_2): upwards it gains eps; downwards compare x_1 = x_2 with x_2 far below x_1.",
    ),
}


@cache
def _line_cases(kind: str) -> list[tuple[tuple, float]]:
    """Kinks, samples and radii on a lattice of step 1/32, so that trying the lattice is exact."""
    rng, cases = _rng(2), []
    for k, y in itertools.product((1, 2, 5, 9), (1.0, -1.0)):
        for _ in range(3):
            a, w = rng.standard_normal(k), rng.choice([-2.0, -1.0, 1.0, 2.0], k)
            kinks = rng.integers(-64, 65, k) / 32
            x, n = rng.integers(-64, 65) / 32, int(rng.integers(4, 80))
            if kind == "on a kink":
                x = kinks[0]
            b = -w * kinks
            f = y * _units(a, w, b, x + np.arange(-n, n + 1) / 32)
            cases.append(((a, w, b, x, y, n / 32), f[n] - f.min()))
    return cases


def _on_lattice(kind: str) -> Callable:
    return lambda ask: _agree(
        ask,
        _line_cases(kind),
        lambda a, w, b, x, y, eps: f"{len(a)} neurons, x = {x:g}, y = {y:+g}, eps = {eps:g}",
    )


@line_drop.property("no point of a fine lattice drops more, and one drops as much")
def _(ask: Callable, predicted: Any) -> None:
    _on_lattice("anywhere")(ask)


@line_drop.property("also for samples that lie on a kink")
def _(ask: Callable, predicted: Any) -> None:
    _on_lattice("on a kink")(ask)


@line_drop.property("the labels are right for all eight networks")
def _(ask: Callable, predicted: Any) -> None:
    if not isinstance(predicted, dict) or set(predicted) != set(ESCAPES):
        raise NotYet(f"Give a dict with the keys {', '.join(map(repr, ESCAPES))}.")
    allowed = ("both", "+1", "-1", "neither")
    for name, (right, why) in ESCAPES.items():
        if not isinstance(predicted[name], str) or predicted[name] not in allowed:
            raise NotYet(f"{name!r}: say 'both', '+1', '-1' or 'neither'.")
        if predicted[name] != right:
            raise NotYet(f"{name!r} is not {predicted[name]!r}. {why}")


@line_drop.mistake("You try the two ends of the interval only; the minimum may lie at a kink")
def sees_the_ends_only(a, w, b, x, y, eps):
    f = y * _units(a, w, b, np.array([x - eps, x, x + eps]))
    return f[1] - min(f[0], f[2])


@line_drop.mistake("You use the slope at x, as if there were no kink in the interval")
def extends_the_slope(a, w, b, x, y, eps):
    f = _units(a, w, b, np.array([x, x - 2.0**-30, x + 2.0**-30])) * 2.0**30
    return eps * max(y * (f[0] - f[1]), y * (f[0] - f[2]), 0.0)


@line_drop.mistake("You try all kinks; those outside the interval are out of reach")
def forgets_the_radius(a, w, b, x, y, eps):
    f = y * _units(a, w, b, np.concatenate([[x, x - eps, x + eps], -b / w]))
    return f[0] - f.min()


@line_drop.mistake("You let the score fall for both labels; for y = -1 it is -f that falls")
def forgets_the_label(a, w, b, x, y, eps):
    inside = (-b / w)[np.abs(-b / w - x) <= eps]
    f = _units(a, w, b, np.concatenate([[x, x - eps, x + eps], inside]))
    return f[0] - f.min()


# ------------------------------------------------------------------- two laws, equal means

two_laws = Check()


@cache
def _statistics() -> list[np.ndarray]:
    rng, cases = _rng(3), []
    for m in (1, 2, 3, 6, 9):
        cases.append(rng.standard_normal((m + 2, m)))
    circle = 2 * np.pi * np.arange(9) / 9
    cases.append(
        np.column_stack([f(k * circle) for k in (1, 2, 3) for f in (np.cos, np.sin)] + [circle**2])
    )
    twice = rng.standard_normal((6, 4))
    twice[:, 3] = twice[:, 0]  # a statistic that says nothing new
    return [*cases, twice]


def _pair(got: Any, T: np.ndarray) -> np.ndarray:
    laws = numbers(got, (2, len(T)))
    if laws.min() < -1e-6:
        raise NotYet("A weight is negative.")
    if np.abs(laws.sum(axis=1) - 1).max() > 1e-6:
        raise NotYet(f"The masses are {laws[0].sum():.4g} and {laws[1].sum():.4g}, not 1.")
    if laws.min(axis=0).max() > 1e-6:
        raise NotYet("A site has mass in both laws.")
    off = np.abs((laws[0] - laws[1]) @ T).max() / np.abs(T).max()
    if off > 1e-6:
        raise NotYet(f"For m = {T.shape[1]} the means of a statistic differ by {off:.1e}.")
    return laws


@two_laws.property("two laws with disjoint supports have the same means")
def _(ask: Callable) -> None:
    for (T,), got in answers(ask, [(T,) for T in _statistics()]):
        _pair(got, T)


@two_laws.property("and a network of width m // 2 + 1 has a neuron for every point of the first")
def _(ask: Callable) -> None:
    for (T,), got in answers(ask, [(T,) for T in _statistics()]):
        m, count = T.shape[1], int((_pair(got, T)[0] > 1e-6).sum())
        if count > m // 2 + 1:
            raise NotYet(f"For m = {m} the first law has {count} points.")


def _null(rows: np.ndarray) -> np.ndarray:
    return np.linalg.svd(rows)[2][-1]


def _halves(c: np.ndarray) -> np.ndarray:
    halves = np.array([np.maximum(c, 0), np.maximum(-c, 0)])
    few = (halves > 1e-12).sum(axis=1)
    return halves if few[0] <= few[1] else halves[::-1]


def _with_ones(T: np.ndarray) -> np.ndarray:
    return np.vstack([np.ones(len(T)), T.T])


@two_laws.mistake(
    "The vector itself is no law: its positive part is one law, its negative part the other"
)
def keeps_the_signs(T):
    c = _null(_with_ones(T))
    return np.array([c, -c]) / np.abs(c).sum()


@two_laws.mistake(
    "One equation is missing: the two parts must have the same mass, or normalizing them spoils "
    "the means"
)
def forgets_the_mass(T):
    halves = _halves(_null(T.T))
    return halves / halves.sum(axis=1, keepdims=True)


@two_laws.mistake("The two parts have the same mass, but it is not one yet")
def forgets_to_normalize(T):
    return _halves(_null(_with_ones(T)))


@two_laws.mistake(
    "Take the part with fewer points first: every point of the first law costs a neuron"
)
def takes_the_longer_part(T):
    halves = _halves(_null(_with_ones(T)))[::-1]
    return halves / halves.sum(axis=1, keepdims=True)


# ------------------------------------------------------------ how much mass one site can get

largest_mass = Check()


@cache
def _mass_cases(kind: str) -> list[tuple[tuple, np.ndarray]]:
    rng, cases = _rng(4), []
    for N, m in ((4, 1), (7, 2), (9, 4)):
        T = rng.standard_normal((N, m))
        if kind == "special":
            T[:, 0] = np.arange(N) == 1  # an indicator
            T[-1] = T[0]  # two sites that look alike
        want = np.empty(N)
        for i in range(N):
            gain = np.zeros(2 * N)
            gain[i] = -1.0
            zero = np.zeros(N)
            equal = np.vstack(
                [np.append(zero + 1, zero), np.append(zero, zero + 1), np.hstack([T.T, -T.T])]
            )
            upper = np.full(2 * N, np.inf)
            upper[N + i] = 0.0
            bounds = np.column_stack([np.zeros(2 * N), upper])
            right = np.append([1.0, 1.0], np.zeros(m))
            want[i] = -optimize.linprog(gain, A_eq=equal, b_eq=right, bounds=bounds).fun
        cases.append(((T,), want))
    return cases


def _masses(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _mass_cases(kind), lambda T: f"the masses for {T.shape[0]} sites, m = {T.shape[1]}"
    )


largest_mass.property("a program that looks for both laws finds the same masses")(_masses("random"))
largest_mass.property("also if a statistic marks one site, and two sites look alike")(
    _masses("special")
)


def _distances(V: np.ndarray) -> np.ndarray:
    """dist_inf(e_i, column space of V) for all i."""
    N, k = V.shape
    cost = np.append(np.zeros(k), 1.0)
    limits = np.block([[V, -np.ones((N, 1))], [-V, -np.ones((N, 1))]])
    free = [(None, None)] * (k + 1)
    return np.array(
        [
            optimize.linprog(cost, A_ub=limits, b_ub=np.append(e, -e), bounds=free).fun
            for e in np.eye(N)
        ]
    )


@largest_mass.mistake(
    "You are off by a factor of 2: P and Q share the vector, each has half of its norm"
)
def forgets_the_two(T):
    return _distances(_with_ones(T).T)


@largest_mass.mistake("The constant is missing among the statistics: both laws have the mass 1")
def forgets_the_constant(T):
    return 2 * _distances(T)


@largest_mass.mistake(
    "You fit by least squares; the dual of a sum of absolute values is a maximum, not a sum of "
    "squares"
)
def fits_least_squares(T):
    V = _with_ones(T).T
    return 2 * np.abs(np.eye(len(T)) - V @ np.linalg.pinv(V)).max(axis=0)


@largest_mass.mistake(
    "You take one null vector; with more than m + 2 sites there are many, and each site has its "
    "best"
)
def takes_one_vector(T):
    c = np.abs(_null(_with_ones(T)))
    return 2 * c / c.sum()


# --------------------------------------------------------------- masses, rebuilt from gaps

rebuild = Check()


@cache
def _rebuild_cases(kind: str) -> list[tuple[tuple, np.ndarray]]:
    rng, cases = _rng(5), []
    for n, K, h in ((5, 2, 0.5), (12, 3, 0.1), (9, 1, 0.25), (4, 6, 1.0)):
        p = rng.uniform(0.1, 1, (2, n)) * (rng.uniform(size=(2, n)) < 0.6)
        p[0, 0] = p[1, -1] = 0.5
        if kind == "one label":
            p[1] = 0.0
            if n % 2:
                p = p[::-1].copy()
        p /= p.sum()
        G = np.zeros((2, n + 2 * K + 1))
        for j, (s, a), k, (r, y) in itertools.product(
            range(G.shape[1]), enumerate((1, -1)), range(n), enumerate((1, -1))
        ):
            near = y * a * _relu(h * (k + np.arange(-K, K + 1) - (j - 1)))
            G[s, j] += p[r, k] * (near[K] - near.min())
        cases.append(((G, K, h), p))
    return cases


def _rebuilt(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _rebuild_cases(kind), lambda G, K, h: f"the masses for K = {K}, h = {h:g}"
    )


rebuild.property("all masses come back, with their labels")(_rebuilt("both labels"))
rebuild.property("also if only one label occurs")(_rebuilt("one label"))


def _masses_from_ramps(F: np.ndarray, K: int, h: float, n: int) -> np.ndarray:
    p = np.zeros(n + K)
    for j in range(n - 1, -1, -1):
        p[j] = p[j + K] + (F[j] - 2 * F[j + 1] + F[j + 2]) / h
    return p[:n]


def _ramps_from_gaps(G: np.ndarray, K: int) -> np.ndarray:
    L = G.shape[1]
    F = np.zeros((2, L))
    for i in range(L - 2 * K - 2, -1, -1):
        F[:, i] = G[::-1, i + K] - G[:, i + 2 * K] + F[:, i + 2 * K]
    return F


@rebuild.mistake(
    "One telescope is missing: the second differences of a ramp function give p_j - p_(j+K), not "
    "p_j"
)
def stops_halfway(G, K, h):
    n = G.shape[1] - 2 * K - 1
    F = _ramps_from_gaps(G, K)
    return (F[:, :n] - 2 * F[:, 1 : n + 1] + F[:, 2 : n + 2]) / h


@rebuild.mistake(
    "You read G_+ as if only label +1 had gaps, and G_- as if only label -1 had; each mixes both"
)
def reads_one_row_per_label(G, K, h):
    n = G.shape[1] - 2 * K - 1
    return np.array([_masses_from_ramps(row, K, h, n) for row in G])


@rebuild.mistake("The labels are exchanged")
def exchanges_the_labels(G, K, h):
    n = G.shape[1] - 2 * K - 1
    return np.array([_masses_from_ramps(F, K, h, n) for F in _ramps_from_gaps(G, K)[::-1]])


@rebuild.mistake("A second difference is h times a mass; divide by h")
def forgets_the_step(G, K, h):
    n = G.shape[1] - 2 * K - 1
    return np.array([_masses_from_ramps(F, K, 1.0, n) for F in _ramps_from_gaps(G, K)])


# ---------------------------------------------------------------- one sign is enough, broken

broken_sign = Check()

SIGN_STEPS = {
    1: "Step 1 is right: it is the proposition, with the unit weight and s = eps.",
    2: "Step 2 is right: the gap is linear in P; sort the points by their labels.",
    3: "Step 3 is right: the ramp is zero on the left, and points are finitely many.",
    5: "Step 5 is right if step 4 is: slopes of a ramp function are masses of intervals.",
}


@broken_sign.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, SIGN_STEPS)


def _two(got: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        first, second = got
    except (TypeError, ValueError):
        raise NotYet("Give two laws, each an array with rows (x, label, mass).") from None
    laws = number_rows(first, 3, 100.0), number_rows(second, 3, 100.0)
    for law in laws:
        if not np.isin(law[:, 1], (-1, 1)).all():
            raise NotYet("The second number of a row is the label, +1 or -1.")
        if law[:, 2].min() < 0 or abs(law[:, 2].sum() - 1) > 1e-6:
            raise NotYet("The third number of a row is a mass; they are nonnegative and sum to 1.")
    return laws


def _gaps_of(law: np.ndarray, b: np.ndarray, eps: float, label: int = 0) -> np.ndarray:
    """Gaps of relu(x + b); those of label +1 alone if a label is given."""
    x, y, mass = law.T
    here = np.add.outer(b, x)
    drop = y * (_relu(here) - _relu(here - y * eps))
    return drop @ (mass * (y == label) if label else mass)


@broken_sign.property("two different laws have the same gaps")
def _(ask: Callable, step: Any) -> None:
    for (eps,), got in answers(ask, [(0.1,), (0.5,), (2.0,)]):
        P, Q = _two(got)
        x = np.concatenate([P[:, 0], Q[:, 0]])
        b = np.concatenate([-x - eps, -x, -x + eps, [300.0]])
        off = np.abs(_gaps_of(P, b, eps) - _gaps_of(Q, b, eps)).max()
        if off > 1e-5 * eps:
            raise NotYet(f"eps = {eps:g}: for some b the gaps differ by {off:.3g}.")
        apart = np.abs(_gaps_of(P, b, eps, 1) - _gaps_of(Q, b, eps, 1)).max()
        if apart < 1e-3 * eps:
            raise NotYet(f"eps = {eps:g}: the two laws are the same, or almost.")


@broken_sign.mistake(
    "You move the point with label -1 to the wrong side: its ramp begins eps earlier, so it has to "
    "lie to the left"
)
def moves_right(eps):
    return np.array([[[0.0, 1.0, 1.0]], [[eps, -1.0, 1.0]]])


@broken_sign.mistake(
    "You leave the point where it is; the two labels have ramps that are eps apart"
)
def flips_the_label(eps):
    return np.array([[[0.0, 1.0, 1.0]], [[0.0, -1.0, 1.0]]])


@broken_sign.mistake(
    "The distance eps is enough: from label to label a ramp moves by eps, not 2 eps"
)
def moves_too_far(eps):
    return np.array([[[0.0, 1.0, 1.0]], [[-2 * eps, -1.0, 1.0]]])


# ------------------------------------------------------------------ erosion is a shift, broken

broken_erosion = Check()

EROSION_STEPS = {
    1: "Step 1 is right: f is concave and falls at both ends.",
    2: "Step 2 is right: a concave function on an interval is smallest at an end.",
    3: "Step 3 is right: both ends of [x - eps, x + eps] have to lie in [l, r].",
    5: "Step 5 is right if step 4 is: f is strictly monotone on both sides of its maximum.",
}


@broken_erosion.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, EROSION_STEPS)


def _tent(rows: np.ndarray, eps: float) -> tuple[float, float]:
    """The ends of {f >= 1} of a concave network with a single maximum, or NotYet."""
    a, w, b = rows.T
    kinks = np.unique(-b[w != 0] / w[w != 0])
    if not len(kinks):
        raise NotYet(f"eps = {eps:g}: your function is constant.")
    ends = np.concatenate([[kinks[0] - 1], kinks, [kinks[-1] + 1]])
    f = _units(a, w, b, ends)
    slopes = np.diff(f) / np.diff(ends)
    size = 1e-7 * (np.abs(a * w).max() + 1)
    if (np.diff(slopes) > size).any():
        raise NotYet(f"eps = {eps:g}: your function is not concave.")
    if slopes[0] <= size or slopes[-1] >= -size:
        raise NotYet(f"eps = {eps:g}: your function does not fall at both ends.")
    if np.abs(slopes).min() <= size:
        raise NotYet(f"eps = {eps:g}: your function has a plateau; one maximum point is wanted.")
    if f.max() <= 1:
        raise NotYet(f"eps = {eps:g}: your function never exceeds 1.")
    low = ends[0] - max(f[0] - 1, 0) / slopes[0]
    high = ends[-1] - max(f[-1] - 1, 0) / slopes[-1]
    xs = np.concatenate([[low], ends, [high]])
    fs, top = _units(a, w, b, xs), int(f.argmax()) + 1
    left = np.interp(1.0, fs[: top + 1], xs[: top + 1])
    return float(left), float(np.interp(-1.0, -fs[top:], xs[top:]))


@broken_erosion.property("the robust set of your function is none of its level sets")
def _(ask: Callable, step: Any) -> None:
    for (eps,), got in answers(ask, [(0.1,), (0.5,), (2.0,)]):
        rows = number_rows(got, 3, 100.0)
        left, right = _tent(rows, eps)
        if right - left < 2 * eps:
            raise NotYet(f"eps = {eps:g}: no point is robust; the set where f >= 1 is too short.")
        f = _units(*rows.T, np.array([left + eps, right - eps]))
        if abs(f[0] - f[1]) < eps * (1 - 1e-5):
            raise NotYet(
                f"eps = {eps:g}: at the two ends of the robust set f is {f[0]:.4g} and {f[1]:.4g}."
            )


def _two_slopes(left: float, right: float, ends: float) -> np.ndarray:
    """1 + min(left (t + ends), right (ends - t)) in neurons: the slopes change at t = top."""
    top = ends * (right - left) / (left + right)
    height = 1 + left * (top + ends)
    return np.array([[height, 0.0, 1.0], [-left, -1.0, top], [-right, 1.0, -top]])


@broken_erosion.mistake("Your tent is symmetric; for that one the claim is true")
def is_symmetric(eps):
    return _two_slopes(1.0, 1.0, 2 * eps)


@broken_erosion.mistake(
    "Your tent is too narrow: no point is robust, and the empty set is a level set of every "
    "function that is bounded above"
)
def is_too_narrow(eps):
    return _two_slopes(1.0, 3.0, eps / 2)


@broken_erosion.mistake("Your function is a half-tent that falls on one side only")
def falls_on_one_side(eps):
    return np.array([[1 + eps, 0.0, 1.0], [-1.0, 1.0, 0.0]])


# --------------------------------------------------- when the frozen network collapses

collapse_radius = Check()


def _best_hinge(u: np.ndarray, y: np.ndarray, eps: float) -> float:
    """min over a, c of the worst mean hinge loss of a relu(u) + c, u moving by eps."""
    n, best = len(u), np.inf
    for sign in (1.0, -1.0):
        feature = _relu(u - sign * y * eps)  # the adversary's best shift for this sign of a
        margins = np.column_stack([y * feature, y])
        found = optimize.linprog(
            np.append(np.zeros(2), np.full(n, 1 / n)),
            A_ub=np.hstack([-margins, -np.eye(n)]),
            b_ub=-np.ones(n),
            bounds=[(0, None) if sign > 0 else (None, 0), (None, None)] + [(0, None)] * n,
        )
        best = min(best, float(found.fun))
    return best


@cache
def _collapse_data(sign: float) -> list[tuple[np.ndarray, np.ndarray]]:
    rng, cases = _rng(6), []
    while len(cases) < 4:
        n = 2 * int(rng.integers(2, 7))
        y = np.where(np.arange(n) < n // 2, 1.0, -1.0)
        u = rng.standard_normal(n) + 0.5 * sign * y
        rng.shuffle(y)
        if sign * np.mean(y * _relu(u)) > 0.1:
            cases.append((u, y))
    return cases


def _collapse(sign: float) -> Callable:
    def test(ask: Callable) -> None:
        for (u, y), got in answers(ask, _collapse_data(sign)):
            radius = float(numbers(got, ()))
            if not 0 <= radius <= 100:
                raise NotYet(f"A radius between 0 and 100 is expected; got {radius:.4g}.")
            if radius == 0 or _best_hinge(u, y, 0.999 * radius) > 1 - 1e-6:
                raise NotYet(
                    f"For n = {len(u)} the constant is optimal below your radius {radius:.4g}, too."
                    if radius
                    else f"For n = {len(u)} some network beats the constant at small radii."
                )
            if _best_hinge(u, y, 1.001 * radius) < 1 - 1e-7:
                raise NotYet(
                    f"For n = {len(u)} a network beats the constant above your radius {radius:.4g}."
                )

    return test


collapse_radius.property(
    "it is where the best hinge risk reaches 1, if label +1 has larger features"
)(_collapse(1.0))
collapse_radius.property("and so it is if label -1 has them")(_collapse(-1.0))


@collapse_radius.mistake(
    "This is the radius for the linear model u, which has no dead zone to hide in"
)
def forgets_the_activation(u, y):
    return np.abs(np.mean(y * u))


@collapse_radius.mistake(
    "This is the radius of the feature-space adversary, who moves every feature by eps, that of "
    "a dead neuron, too"
)
def attacks_the_features(u, y):
    return np.abs(np.mean(y * _relu(u)))


@collapse_radius.mistake(
    "You replace the gap by eps times the mean gradient; within the radius neurons die and wake"
)
def linearizes(u, y):
    return np.abs(np.mean(y * _relu(u))) / np.mean(u > 0)


def _root(u: np.ndarray, y: np.ndarray) -> float:
    """The zero of the nonincreasing function mean y relu(u - y eps), 0 if it starts below."""

    def g(eps):
        return np.mean(y * _relu(u - y * eps))

    return 0.0 if g(0.0) <= 0 else optimize.brentq(g, 0.0, 2 * np.abs(u).sum() + 1, xtol=1e-13)


@collapse_radius.mistake(
    "You try a > 0 only; if the features are larger for label -1, a network with a < 0 wins"
)
def tries_one_sign(u, y):
    return _root(u, y)


# ---------------------------------------------------------------------- the largest cut

cut_gap = Check()


@cache
def _cut_cases(norm: float) -> list[tuple[tuple, float]]:
    rng, cases = _rng(7), []
    for d, eps in ((2, 0.5), (5, 0.3), (7, 1.5), (8, 0.1), (9, 0.7)):
        w = np.triu(rng.uniform(0.2, 2, (d, d)) * (rng.uniform(size=(d, d)) < 0.7), 1)
        w[0, 1] = 1.0
        if d == 5:  # node by node one gets stuck
            w[np.triu_indices(d, 1)] = [2, 1, 4, 1, 1, 1, 0, 3, 4, 2]
        w = w + w.T
        corners = eps * (_cube(d) if norm == np.inf else np.vstack([np.eye(d), -np.eye(d)]))
        values = [(w * np.abs(x[:, None] - x)).sum() / 2 for x in corners]
        cases.append(((w, eps, norm), max(values)))
    return cases


def _cuts(norm: float) -> Callable:
    return lambda ask: _agree(ask, _cut_cases(norm), lambda w, eps, p: f"the gap for d = {len(w)}")


cut_gap.property("for the maximum norm no corner of the cube has more, and one has as much")(
    _cuts(np.inf)
)
cut_gap.property("for the sum norm the corners are few")(_cuts(1))


def _best_cut(w: np.ndarray) -> float:
    return max(w[np.ix_(s > 0, s < 0)].sum() for s in _cube(len(w)))


def _degrees(w: np.ndarray, eps: float) -> float:
    return eps * w.sum(axis=1).max()


@cut_gap.mistake("A factor of 2 is missing: two nodes at opposite corners are 2 eps apart")
def forgets_the_two_sides(w, eps, norm):
    return eps * _best_cut(w) if norm == np.inf else _degrees(w, eps)


@cut_gap.mistake("You count every edge twice; the sum runs over i < j")
def counts_twice(w, eps, norm):
    return 4 * eps * _best_cut(w) if norm == np.inf else 2 * _degrees(w, eps)


@cut_gap.mistake("This is the path norm, an upper bound: no cut contains all edges of a triangle")
def charges_every_edge(w, eps, norm):
    return eps * w.sum()


@cut_gap.mistake(
    "You move one node after the other while this helps, and stop; a set from which no single move "
    "helps need not be a largest cut"
)
def moves_node_by_node(w, eps, norm):
    if norm != np.inf:
        return _degrees(w, eps)
    s = np.ones(len(w))
    while True:
        gain = s * (w @ s)
        if gain.max() <= 1e-12:
            return 2 * eps * w[np.ix_(s > 0, s < 0)].sum()
        s[gain.argmax()] *= -1


@cut_gap.mistake("You cut for both norms; the sum norm lets only one coordinate move all the way")
def takes_the_cube_for_both(w, eps, norm):
    return 2 * eps * _best_cut(w)


# ---------------------------------------------------------------------- the swap test

swap_interval = Check()


@cache
def _swap_cases(kind: str) -> list[tuple[tuple, np.ndarray]]:
    rng, cases = _rng(8), []
    for n, m in ((5, 1), (12, 2), (20, 4), (30, 3)):
        T = rng.uniform(0.5, 2, (n, m))
        gaps = T @ rng.standard_normal(m) + 0.7 if kind == "in the span" else rng.uniform(0, 1, n)
        p = rng.dirichlet(np.ones(n))
        ends = []
        for sign in (-1.0, 1.0):  # dual: the smallest s with s + l . (T_i - mean) >= sign gap_i
            found = optimize.linprog(
                np.append(np.zeros(m), 1.0),
                A_ub=-np.column_stack([T - p @ T, np.ones(n)]),
                b_ub=-sign * gaps,
                bounds=[(None, None)] * (m + 1),
            )
            ends.append(sign * found.fun)
        cases.append(((gaps, T, p), np.array(ends)))
    return cases


def _swaps(kind: str) -> Callable:
    return lambda ask: _agree(
        ask, _swap_cases(kind), lambda g, T, p: f"the ends for n = {len(g)}, m = {T.shape[1]}"
    )


swap_interval.property("multipliers prove both ends")(_swaps("any"))
swap_interval.property("if the gaps are a combination of the statistics, it is a point")(
    _swaps("in the span")
)


def _swap(gaps: np.ndarray, equal: np.ndarray, right: np.ndarray) -> np.ndarray:
    ends = [optimize.linprog(s * gaps, A_eq=equal, b_eq=right).fun * s for s in (1, -1)]
    return np.array(ends)


@swap_interval.mistake("The new weights have to sum to one")
def forgets_the_total(gaps, T, p):
    return _swap(gaps, T.T, p @ T)


@swap_interval.mistake("Match the means under the given weights p, not those of the uniform law")
def matches_the_uniform_law(gaps, T, p):
    return _swap(gaps, _with_ones(T), np.append(1.0, T.mean(axis=0)))


@swap_interval.mistake("This is the range of the gaps; nothing is matched")
def matches_nothing(gaps, T, p):
    return np.array([gaps.min(), gaps.max()])


@swap_interval.mistake(
    "The lower end needs a program of its own; the actual gap is between the two"
)
def maximizes_only(gaps, T, p):
    return np.array([p @ gaps, _swap(gaps, _with_ones(T), np.append(1.0, p @ T))[1]])


@swap_interval.mistake("The lower end comes first")
def exchanges_the_ends(gaps, T, p):
    return _swap(gaps, _with_ones(T), np.append(1.0, p @ T))[::-1]
