"""Checks of the exercises of chapter 7 that everybody may see, and the mistakes they know.

The oracles try all corners of a cube, all points of a lattice, all laws on few sites, or all
vertices of a program; none uses a closed form that is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from coursework.checks import (
    Check,
    NotYet,
    answers,
    close,
    margins,
    number_rows,
    numbers,
    right_step,
)

Rng = np.random.Generator


def agree(ask: Callable, cases: Iterable[tuple[tuple, Any]], what: Callable) -> None:
    """Ask all cases, then compare each answer with what the oracle says."""
    cases = list(cases)
    asked = answers(ask, [case for case, _ in cases])
    for (case, got), (_, want) in zip(asked, cases, strict=True):
        close(got, want, what(*case), 1e-5)


def cube(d: int) -> np.ndarray:
    """The corners of the cube, in few dimensions."""
    if d > 12:
        raise ValueError(f"a cube in {d} dimensions has too many corners")
    return np.array(list(itertools.product((-1.0, 1.0), repeat=d)))


def units(a: np.ndarray, w: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """sum_j a_j relu(w_j t + b_j) at an array of numbers t."""
    return np.maximum(np.multiply.outer(t, w) + b, 0) @ a


def relu(t: np.ndarray) -> np.ndarray:
    """The positive part."""
    return np.maximum(t, 0)


def subsets(n: int, largest: int) -> Iterable[np.ndarray]:
    """For every size up to `largest`: all subsets of n indices, one per row."""
    for size in range(1, min(n, largest) + 1):
        yield np.array(list(itertools.combinations(range(n), size)))


# ------------------------------------------------------------------ the gaps of one neuron

one_neuron = Check("ex-c7-one-neuron", "one_neuron")


def neuron_case(
    rng: Rng, d: int, n: int, sign: float, **given: np.ndarray
) -> tuple[tuple, np.ndarray]:
    """A neuron and data, and the gaps by trying all corners of the cube."""
    w = given.get("w", rng.standard_normal(d))
    b, eps = 0.3 * rng.standard_normal(), rng.uniform(0.1, 0.6)
    a = sign * rng.uniform(0.5, 2.0)
    X = rng.standard_normal((n, d))
    X[: n // 3] *= 4.0  # some far from the kink
    y = given.get("y", np.where(np.arange(n) % 2, 1.0, -1.0))
    if given.get("on_the_kink"):
        X = onto(X, w, b, np.zeros(n))
    elif n > 8 and w.any():  # one of each label on each side of the kink, within reach
        sides = np.repeat([-1, 1], 2) * rng.uniform(0.2, 0.8, 4) * eps * np.abs(w).sum()
        X[-4:] = onto(X[-4:], w, b, sides)
    return (a, w, b, X, y, eps), corner_drop(a, X @ w + b, eps * cube(d) @ w, y)


def onto(X: np.ndarray, w: np.ndarray, b: float, u: np.ndarray) -> np.ndarray:
    """The data, moved along w to where w . x + b = u."""
    return X - np.outer(X @ w + b - u, w) / (w @ w)


def corner_drop(a: float, u: np.ndarray, moves: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The worst drops of a relu(u) if u may be shifted by one of the moves."""
    worst = (y[:, None] * a * relu(u[:, None] + moves)).min(axis=1)
    return y * a * relu(u) - worst


def _neuron(sign: float) -> Callable:
    return lambda ask: agree(
        ask,
        [neuron_case(ask.rng, d, 14, sign) for d in (1, 2, 4)],
        lambda a, w, b, X, y, eps: f"the gaps for d = {len(w)}",
    )


one_neuron.property("for a > 0 the worst corner of the cube loses as much")(_neuron(1.0))
one_neuron.property("and so it does for a < 0")(_neuron(-1.0))


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
    largest = np.where(np.abs(w) == np.abs(w).max(), w, 0.0)
    return corner_drop(a, X @ w + b, eps * cube(len(w)) @ largest, y)


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
    return corner_drop(-np.abs(a), X @ w + b, eps * cube(len(w)) @ w, np.ones(len(X)))


@one_neuron.mistake("You decide by the label alone; what counts is the sign of y a")
def forgets_the_sign_of_a(a, w, b, X, y, eps):
    return corner_drop(np.abs(a), X @ w + b, eps * cube(len(w)) @ w, y)


# ---------------------------------------------------------- worst drops on a line, and escapes

line_drop = Check("ex-c7-decide", "line_drop", ("escape_labels",))

#: network: labels for which the worst drop is a function of the score, and what to look at
ESCAPES = {
    "leaky": ("both", "Which x_1 have the same score?"),
    "relu": ("+1", "Look at the points with the score 0, and ask for each label what can happen."),
    "abs": ("both", "Which two x_1 have the same score, and does the adversary see a difference?"),
    "step": ("neither", "Look at the points with the lowest score, and at those with the highest."),
    "sum, l1": (
        "both",
        "Far from the origin and near it: how far does one move per unit of score?",
    ),
    "sum, l2": ("-1", "Compare a point on an axis with one on the diagonal, for each label."),
    "max, l_inf": ("both", "Which move changes both coordinates in the best way?"),
    "max, l2": ("-1", "Compare x_1 = x_2 with x_2 far below x_1, for each label."),
}


def lattice_drop(
    a: np.ndarray, w: np.ndarray, b: np.ndarray, x: float, y: float, n: int
) -> tuple[tuple, float]:
    """The worst drop for eps = n / 32 by trying all points of the lattice of step 1/32.

    The kinks and `x` lie on the lattice, so that this is exact.
    """
    f = y * units(a, w, b, x + np.arange(-n, n + 1) / 32)
    drop = f[n] - f.min()
    return (a, w, b, x, y, n / 32), drop if drop > 1e-9 else 0.0  # no rounding errors


def valley(rng: Rng, k: int, y: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights with which y f rises towards both ends, so that it is smallest at a kink."""
    a, w = rng.standard_normal(k), rng.choice([-2.0, -1.0, 1.0, 2.0], k)
    w[:2] = 1.0, -1.0
    a -= w * (a @ w) / (w @ w)  # now the slopes at the two ends are opposite
    return a * np.sign(y * (a @ np.maximum(w, 0))), w


def _line_cases(rng: Rng, on_a_kink: bool) -> Iterable[tuple[tuple, float]]:
    for k, y, _ in itertools.product((1, 2, 5, 9), (1.0, -1.0), range(3)):
        a, w = rng.standard_normal(k), rng.choice([-2.0, -1.0, 1.0, 2.0], k)
        if k > 2:
            a, w = valley(rng, k, y)
        kinks = rng.integers(-64, 65, k) / 32
        x = kinks[0] if on_a_kink else rng.integers(-64, 65) / 32
        yield lattice_drop(a, w, -w * kinks, float(x), y, int(rng.integers(4, 80)))


def said(a, w, b, x, y, eps) -> str:
    """What a case of `line_drop` is, for a sentence."""
    return f"{len(a)} neurons, x = {x:g}, y = {y:+g}, eps = {eps:g}"


@line_drop.property("no point of a fine lattice drops more, and one drops as much")
def _(ask: Callable, labels: Any) -> None:
    agree(ask, _line_cases(ask.rng, False), said)


@line_drop.property("also for samples that lie on a kink")
def _(ask: Callable, labels: Any) -> None:
    agree(ask, _line_cases(ask.rng, True), said)


def right_labels(labels: Any) -> None:
    """NotYet unless the labels are right for all eight networks."""
    if not isinstance(labels, dict) or set(labels) != set(ESCAPES):
        raise NotYet(
            f"`escape_labels` should be a dict with the keys {', '.join(map(repr, ESCAPES))}."
        )
    allowed = ("both", "+1", "-1", "neither")
    for name, (right, why) in ESCAPES.items():
        if not isinstance(labels[name], str) or labels[name] not in allowed:
            raise NotYet(f"{name!r}: say 'both', '+1', '-1' or 'neither'.")
        if labels[name] != right:
            raise NotYet(f"{name!r} is not {labels[name]!r}. {why}")


@line_drop.property("the labels are right for all eight networks", points=0)
def _(ask: Callable, labels: Any) -> None:
    right_labels(labels)


@line_drop.mistake("You try the two ends of the interval only; the minimum may lie at a kink")
def sees_the_ends_only(a, w, b, x, y, eps):
    f = y * units(a, w, b, np.array([x - eps, x, x + eps]))
    return f[1] - min(f[0], f[2])


@line_drop.mistake("You use the slope at x, as if there were no kink in the interval")
def extends_the_slope(a, w, b, x, y, eps):
    f = units(a, w, b, np.array([x, x - 2.0**-30, x + 2.0**-30])) * 2.0**30
    return eps * max(y * (f[0] - f[1]), y * (f[0] - f[2]), 0.0)


@line_drop.mistake("You try all kinks; those outside the interval are out of reach")
def forgets_the_radius(a, w, b, x, y, eps):
    f = y * units(a, w, b, np.concatenate([[x, x - eps, x + eps], -b / w]))
    return f[0] - f.min()


@line_drop.mistake("You let the score fall for both labels; for y = -1 it is -f that falls")
def forgets_the_label(a, w, b, x, y, eps):
    inside = (-b / w)[np.abs(-b / w - x) <= eps]
    f = units(a, w, b, np.concatenate([[x, x - eps, x + eps], inside]))
    return f[0] - f.min()


# ------------------------------------------------------------------- two laws, equal means

two_laws = Check("ex-c7-two-laws", "two_laws")


def pair(got: Any, T: np.ndarray) -> np.ndarray:
    """Two laws on different sites with equal means of the statistics, or NotYet."""
    laws = numbers(got, (2, len(T)))
    if laws.min() < -1e-6:
        raise NotYet("A weight is negative.")
    if np.abs(laws.sum(axis=1) - 1).max() > 1e-6:
        raise NotYet(f"The masses are {laws[0].sum():.4g} and {laws[1].sum():.4g}, not 1.")
    if laws.min(axis=0).max() > 1e-6:
        raise NotYet("A site has mass in both laws.")
    scale = np.abs(T).max(axis=0)
    off = (np.abs((laws[0] - laws[1]) @ T) / np.where(scale > 0, scale, 1.0)).max()
    margins.append(off / 1e-5)
    if off > 1e-5:
        raise NotYet(f"For m = {T.shape[1]} the means of a statistic differ by {off:.1e}.")
    return laws


def few_points(laws: np.ndarray, m: int) -> None:
    """NotYet if the first law has too many points."""
    count = int((laws[0] > 1e-6).sum())
    if count > m // 2 + 1:
        other = int((laws[1] > 1e-6).sum())
        raise NotYet(f"For m = {m} the first law has {count} points, the second {other}.")


def _statistics(rng: Rng) -> list[tuple[np.ndarray]]:
    return [(rng.standard_normal((m + 2, m)),) for m in (1, 1, 2, 3, 5, 6)]


@two_laws.property("two laws with disjoint supports have the same means", points=2)
def _(ask: Callable) -> None:
    for (T,), got in answers(ask, _statistics(ask.rng)):
        pair(got, T)


@two_laws.property("and the first of them has at most m // 2 + 1 points")
def _(ask: Callable) -> None:
    for (T,), got in answers(ask, _statistics(ask.rng)):
        few_points(pair(got, T), T.shape[1])


def null_vector(rows: np.ndarray) -> np.ndarray:
    """A vector orthogonal to all rows."""
    return np.linalg.svd(rows)[2][-1]


def halves(c: np.ndarray) -> np.ndarray:
    """Positive and negative part, that with fewer points first."""
    parts = np.array([np.maximum(c, 0), np.maximum(-c, 0)])
    few = (parts > 1e-12).sum(axis=1)
    return parts if few[0] <= few[1] else parts[::-1]


def with_ones(T: np.ndarray) -> np.ndarray:
    """The equations of equal means: the constant, then the statistics."""
    return np.vstack([np.ones(len(T)), T.T])


@two_laws.mistake(
    "The vector itself is no law: its positive part is one law, its negative part the other"
)
def keeps_the_signs(T):
    c = null_vector(with_ones(T))
    return np.array([c, -c]) / np.abs(c).sum()


@two_laws.mistake(
    "One equation is missing: the two parts must have the same mass, or normalizing them spoils "
    "the means"
)
def forgets_the_mass(T):
    parts = halves(null_vector(T.T))
    return parts / parts.sum(axis=1, keepdims=True)


# ------------------------------------------------------------ how much mass one site can get

largest_mass = Check("ex-c7-one-site", "largest_mass")


def masses_on_few_sites(rows: np.ndarray) -> np.ndarray:
    """Largest masses, tried with every null vector of `rows` on as few sites as possible.

    The vectors of 1-norm at most 1 in the null space form a polytope, and these are its vertices.
    """
    best = np.zeros(rows.shape[1])
    for sets in subsets(rows.shape[1], len(rows) + 1):
        _, s, vectors = np.linalg.svd(rows[:, sets].transpose(1, 0, 2))
        one = (s > 1e-9).sum(axis=1) == sets.shape[1] - 1  # a single vector, up to its length
        mu = np.abs(vectors[one, -1])
        np.maximum.at(best, sets[one], 2 * mu / mu.sum(axis=1, keepdims=True))
    return best


def _mass_case(T: np.ndarray) -> tuple[tuple, np.ndarray]:
    return (T,), masses_on_few_sites(with_ones(T))


def sites(T: np.ndarray) -> str:
    """What a case of `largest_mass` is, for a sentence."""
    return f"the masses for {T.shape[0]} sites, m = {T.shape[1]}"


@largest_mass.property("no two laws on few sites have more, and two have as much", points=2)
def _(ask: Callable) -> None:
    shapes = ((4, 1), (7, 2), (8, 3))
    agree(ask, [_mass_case(ask.rng.standard_normal(shape)) for shape in shapes], sites)


@largest_mass.mistake(
    "You are off by a factor of 2: P and Q share the vector, each has half of its norm"
)
def forgets_the_two(T):
    return masses_on_few_sites(with_ones(T)) / 2


@largest_mass.mistake("The constant is missing among the statistics: both laws have the mass 1")
def forgets_the_constant(T):
    return masses_on_few_sites(T.T)


@largest_mass.mistake(
    "You fit by least squares; the dual of a sum of absolute values is a maximum, not a sum of "
    "squares"
)
def fits_least_squares(T):
    V = with_ones(T).T
    return 2 * np.abs(np.eye(len(T)) - V @ np.linalg.pinv(V)).max(axis=0)


@largest_mass.mistake(
    "You take one null vector; with more than m + 2 sites there are many, and each site has its "
    "best"
)
def takes_one_vector(T):
    c = np.abs(null_vector(with_ones(T)))
    return 2 * c / c.sum()


# --------------------------------------------------------------- masses, rebuilt from gaps

rebuild = Check("ex-c7-rebuild", "rebuild")


def lattice_gaps(p: np.ndarray, K: int, h: float) -> np.ndarray:
    """The gaps of the neurons of both signs, by trying all points of the lattice."""
    n = p.shape[1]
    t = h * (np.arange(n + 2 * K + 1) - 1)
    near = relu(h * (np.arange(n)[:, None] + np.arange(-K, K + 1)) - t[:, None, None])
    G = np.zeros((2, len(t)))
    for (s, a), (r, y) in itertools.product(enumerate((1, -1)), enumerate((1, -1))):
        G[s] += y * a * near[:, :, K] @ p[r] - (y * a * near).min(axis=2) @ p[r]
    return G


def some_masses(rng: Rng, n: int, labels: str = "both") -> np.ndarray:
    """Masses of a law on n places; about two in five are zero."""
    p = rng.uniform(0.1, 1, (2, n)) * (rng.uniform(size=(2, n)) < 0.6)
    p[0, 0] = p[1, -1] = 0.5
    if labels != "both":
        p[0 if labels == "-1" else 1] = 0.0
    return p / p.sum()


def slips(p: np.ndarray, K: int, h: float) -> dict[str, np.ndarray]:
    """What one gets from the masses p by a slip at the end of the way."""
    later = np.pad(p, ((0, 0), (0, K)))[:, K:]
    return {
        "The labels are exchanged": p[::-1],
        "You are off by the factor h: on the lattice, kappa rises by h from point to point": p * h,
        "The second differences of F / h are differences of masses, p_j - p_(j+K), not yet the "
        "masses p_j": p - later,
    }


def rebuilt(ask: Callable, cases: Iterable[tuple[np.ndarray, int, float]]) -> None:
    """NotYet unless all masses come back; a slip is named, without a program that rebuilds."""
    cases = list(cases)
    asked = answers(ask, [(lattice_gaps(p, K, h), K, h) for p, K, h in cases])
    given = [
        np.asarray(numbers(got, p.shape)) for (_, got), (p, _, _) in zip(asked, cases, strict=True)
    ]
    known = [slips(*case) for case in cases]
    for name in known[0]:
        wrong = [one[name] for one in known]
        if not all(map(np.allclose, wrong, (p for p, _, _ in cases))) and all(
            map(np.allclose, given, wrong)
        ):
            raise NotYet(f"{name}.")
    for ((_, K, h), got), (p, _, _) in zip(asked, cases, strict=True):
        close(got, p, f"the masses for n = {p.shape[1]}, K = {K}, h = {h:g}", 1e-5)


_LATTICES = ((5, 2, 0.5), (12, 3, 0.1), (9, 1, 0.25), (4, 6, 1.0))


@rebuild.property("all masses come back, with their labels", points=2)
def _(ask: Callable) -> None:
    rebuilt(ask, [(some_masses(ask.rng, n), K, h) for n, K, h in _LATTICES])


@rebuild.property("also if only one label occurs")
def _(ask: Callable) -> None:
    labels = ("+1", "-1", "+1", "-1")
    rebuilt(
        ask,
        [
            (some_masses(ask.rng, n, y), K, h)
            for (n, K, h), y in zip(_LATTICES, labels, strict=True)
        ],
    )


@rebuild.mistake(
    "You read G_+ as if only label +1 had gaps, and G_- as if only label -1 had; each mixes both"
)
def reads_one_row_per_label(G, K, h):
    n = G.shape[1] - 2 * K - 1
    p = np.zeros((2, n + K))
    for j in range(n - 1, -1, -1):
        p[:, j] = p[:, j + K] + (G[:, j] - 2 * G[:, j + 1] + G[:, j + 2]) / h
    return p[:, :n]


@rebuild.mistake(
    "You take the second differences of the gaps for masses; a gap mixes both labels, and kappa "
    "has two kinks"
)
def takes_second_differences(G, K, h):
    n = G.shape[1] - 2 * K - 1
    return (G[:, :n] - 2 * G[:, 1 : n + 1] + G[:, 2 : n + 2]) / h


# ---------------------------------------------------------------- one sign is enough, broken

broken_sign = Check("ex-c7-broken-sign", "twin_laws", ("sign_step",))

SIGN_STEPS = {
    1: "Step 1 is right: it is the proposition, with the unit weight and s = eps.",
    2: "Step 2 is right: the gap is linear in P; sort the points by their labels.",
    3: "Step 3 is right: kappa is zero on the left, and points are finitely many.",
    5: "Step 5 is right if step 4 is: the slope of F is the mass of an interval.",
}


@broken_sign.property("the step named is the first that does not follow", points=0)
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
    drop = y * (relu(here) - relu(here - y * eps))
    return drop @ (mass * (y == label) if label else mass)


def twins(ask: Callable, radii: Iterable[float]) -> None:
    """NotYet unless the two laws have the same gaps for all biases, and differ."""
    for (eps,), got in answers(ask, [(float(eps),) for eps in radii]):
        P, Q = _two(got)
        x = np.concatenate([P[:, 0], Q[:, 0]])
        b = np.concatenate([-x - eps, -x, -x + eps, [300.0]])  # the kinks, and far right
        off = np.abs(_gaps_of(P, b, eps) - _gaps_of(Q, b, eps)).max()
        margins.append(off / (1e-5 * eps))
        if off > 1e-5 * eps:
            raise NotYet(f"eps = {eps:g}: for some b the gaps differ by {off:.3g}.")
        apart = np.abs(_gaps_of(P, b, eps, 1) - _gaps_of(Q, b, eps, 1)).max()
        if apart < 1e-3 * eps:
            raise NotYet(f"eps = {eps:g}: the two laws are the same, or almost.")


@broken_sign.property("two different laws have the same gaps", points=2)
def _(ask: Callable, step: Any) -> None:
    twins(ask, ask.rng.uniform([0.1, 0.4, 1.0], [0.2, 0.8, 2.0]))


@broken_sign.mistake(
    "You move the point with label -1 to the wrong side: for which b does its gap begin to grow, "
    "and for which b that of the other point?"
)
def moves_right(eps):
    return np.array([[[0.0, 1.0, 1.0]], [[eps, -1.0, 1.0]]])


@broken_sign.mistake(
    "You change the label and leave the point where it is; at one point the gaps of the two labels "
    "do not begin to grow at the same b"
)
def flips_the_label(eps):
    return np.array([[[0.0, 1.0, 1.0]], [[0.0, -1.0, 1.0]]])


@broken_sign.mistake(
    "You move the point too far: compare the arguments of kappa in step 1 for the two labels"
)
def moves_too_far(eps):
    return np.array([[[0.0, 1.0, 1.0]], [[-2 * eps, -1.0, 1.0]]])


# ------------------------------------------------------------------ erosion is a shift, broken

broken_erosion = Check("ex-c7-broken-erosion", "uneven_tent", ("erosion_step",))

EROSION_STEPS = {
    1: "Step 1 is right: f is concave and falls at both ends.",
    2: "Step 2 is right: a concave function on an interval is smallest at an end.",
    3: "Step 3 is right: both ends of [x - eps, x + eps] have to lie in [l, r].",
    5: "Step 5 is right if step 4 is: f is strictly monotone on both sides of its maximum.",
}


@broken_erosion.property("the step named is the first that does not follow", points=0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, EROSION_STEPS)


def _tent(rows: np.ndarray, eps: float) -> tuple[float, float]:
    """The ends of {f >= 1} of a concave network with a single maximum, or NotYet."""
    a, w, b = rows.T
    kinks = np.unique(-b[w != 0] / w[w != 0])
    if not len(kinks):
        raise NotYet(f"eps = {eps:g}: your function is constant.")
    apart = np.diff(kinks) > 1e-6 * (1 + np.abs(kinks[1:]))  # -(3 t) / 3 need not be -t
    kinks = kinks[np.append(True, apart)]
    ends = np.concatenate([[kinks[0] - 1], kinks, [kinks[-1] + 1]])
    f = units(a, w, b, ends)
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
    fs, top = units(a, w, b, xs), int(f.argmax()) + 1
    left = np.interp(1.0, fs[: top + 1], xs[: top + 1])
    return float(left), float(np.interp(-1.0, -fs[top:], xs[top:]))


def uneven(ask: Callable, radii: Iterable[float]) -> None:
    """NotYet unless the robust set is no level set, for every radius."""
    for (eps,), got in answers(ask, [(float(eps),) for eps in radii]):
        rows = number_rows(got, 3, 100.0)
        left, right = _tent(rows, eps)
        if right - left < 2 * eps:
            raise NotYet(f"eps = {eps:g}: no point is robust; the set where f >= 1 is too short.")
        f = units(*rows.T, np.array([left + eps, right - eps]))
        if not abs(f[0] - f[1]) >= eps * (1 - 1e-5):
            raise NotYet(
                f"eps = {eps:g}: at the two ends of the robust set f is {f[0]:.4g} and {f[1]:.4g}."
            )


@broken_erosion.property("the robust set of your function is none of its level sets", points=2)
def _(ask: Callable, step: Any) -> None:
    uneven(ask, ask.rng.uniform([0.1, 0.4, 1.0], [0.2, 0.8, 2.0]))


def _two_slopes(left: float, right: float, ends: float) -> np.ndarray:
    """1 + min(left (t + ends), right (ends - t)) in neurons: the slopes change at t = top."""
    top = ends * (right - left) / (left + right)
    height = 1 + left * (top + ends)
    return np.array([[height, 0.0, 1.0], [-left, -1.0, top], [-right, 1.0, -top]])


@broken_erosion.mistake(
    "Your tent is symmetric, and so is its robust set: both ends have the same level"
)
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

collapse_radius = Check("ex-c7-collapse", "collapse_radius")


def least_hinge(u: np.ndarray, y: np.ndarray, eps: float) -> float:
    """min over a, c of the worst mean hinge loss of a relu(u) + c, u moving by eps.

    For each sign of a it is convex and piecewise linear, so smallest where two kink lines meet.
    """
    best = np.inf
    for sign in (1.0, -1.0):
        m = y * relu(u - sign * y * eps)  # the adversary's best shift for this sign of a
        lines = np.vstack([np.column_stack([m, y, np.ones(len(u))]), [1.0, 0.0, 0.0]])
        i, j = np.triu_indices(len(lines), 1)
        (p, q, r), (s, t, v) = lines[i].T, lines[j].T
        det = p * t - q * s
        meet = np.abs(det) > 1e-9
        a, c = ((r * t - q * v)[meet], (p * v - r * s)[meet]) / det[meet]
        risks = relu(1 - np.outer(a, m) - np.outer(c, y)).mean(axis=1)
        best = min(best, risks[sign * a >= 0].min())
    return float(best)


def collapses(ask: Callable, cases: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """NotYet unless networks beat the constant below every radius given, and none above."""
    for (u, y), got in answers(ask, cases):
        radius, n = float(numbers(got, ())), len(u)
        if not 0 <= radius <= 100:
            raise NotYet(f"A radius between 0 and 100 is expected; got {radius:.4g}.")
        step = max(1e-4 * radius, 1e-6)
        if radius >= step and least_hinge(u, y, radius - step) > 1 - 1e-9:
            raise NotYet(
                f"For n = {n} the constant is optimal below your radius {radius:.4g}, too."
            )
        if least_hinge(u, y, radius + step) < 1 - 1e-9:
            raise NotYet(
                f"For n = {n} a network beats the constant above your radius {radius:.4g}."
            )


def some_features(rng: Rng, n: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a neuron and labels; those of the label `sign` have the larger features."""
    while True:
        y = rng.permutation(np.where(np.arange(n) < n // 2, 1.0, -1.0))
        u = rng.standard_normal(n) + 0.5 * sign * y
        if sign * np.mean(y * relu(u)) > 0.1:
            return u, y


def _collapse(sign: float) -> Callable:
    return lambda ask: collapses(ask, [some_features(ask.rng, n, sign) for n in (2, 4, 6, 8, 12)])


collapse_radius.property(
    "it is where the best hinge risk reaches 1, if label +1 has larger features", points=2
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
    return np.abs(np.mean(y * relu(u)))


@collapse_radius.mistake(
    "You replace the gap by eps times the mean gradient; within the radius neurons die and wake"
)
def linearizes(u, y):
    return np.abs(np.mean(y * relu(u))) / np.mean(u > 0)


@collapse_radius.mistake(
    "You try a > 0 only; if the features are larger for label -1, a network with a < 0 wins"
)
def tries_one_sign(u, y):
    low, high = 0.0, 2 * np.abs(u).sum() + 1
    while high - low > 1e-13:  # a zero of a nonincreasing function
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if np.mean(y * relu(u - y * middle)) > 0 else (low, middle)
    return low


# ---------------------------------------------------------------------- the largest cut

cut_gap = Check("ex-c7-cut", "cut_gap")


def corner_gap(w: np.ndarray, eps: float, norm: float) -> float:
    """The largest value of the network at a corner of the ball."""
    d = len(w)
    corners = eps * (cube(d) if norm == np.inf else np.vstack([np.eye(d), -np.eye(d)]))
    return max(float((w * np.abs(x[:, None] - x)).sum() / 2) for x in corners)


def some_graph(rng: Rng, d: int) -> np.ndarray:
    """Weights of the edges of a graph; for d = 5 node by node one gets stuck."""
    w = np.triu(rng.uniform(0.2, 2, (d, d)) * (rng.uniform(size=(d, d)) < 0.7), 1)
    w[0, 1] = 1.0
    if d == 5:
        w[np.triu_indices(d, 1)] = rng.uniform(0.2, 1) * np.array([3, 0, 1, 4, 2, 5, 3, 3, 2, 1])
    return w + w.T


def _cuts(norm: float) -> Callable:
    def test(ask: Callable) -> None:
        cases = []
        for d in (2, 5, 7, 8, 9):
            case = (some_graph(ask.rng, d), ask.rng.uniform(0.1, 1.5), norm)
            cases.append((case, corner_gap(*case)))
        agree(ask, cases, lambda w, eps, norm: f"the gap for d = {len(w)}")

    return test


cut_gap.property("for the maximum norm no corner of the cube has more, and one has as much")(
    _cuts(np.inf)
)
cut_gap.property("for the sum norm the corners are few")(_cuts(1))


def _best_cut(w: np.ndarray) -> float:
    return max(w[np.ix_(s > 0, s < 0)].sum() for s in cube(len(w)))


def _degrees(w: np.ndarray, eps: float) -> float:
    return eps * w.sum(axis=1).max()


@cut_gap.mistake("A factor of 2 is missing: two nodes at opposite corners are 2 eps apart")
def forgets_the_two_sides(w, eps, norm):
    return eps * _best_cut(w) if norm == np.inf else _degrees(w, eps)


@cut_gap.mistake("You count every edge twice; the sum runs over i < j")
def counts_twice(w, eps, norm):
    return 4 * eps * _best_cut(w) if norm == np.inf else 2 * _degrees(w, eps)


@cut_gap.mistake("You let all edges be cut; no cut contains all three edges of a triangle")
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
def cuts_for_both_norms(w, eps, norm):
    return 2 * eps * _best_cut(w)


# ---------------------------------------------------------------------- the swap test

swap_interval = Check("ex-c7-swap", "swap_interval")


def ends(gaps: np.ndarray, equal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Smallest and largest gaps . q over the vertices of {q >= 0, equal q = right}."""
    found = []
    for sets in subsets(len(gaps), len(equal)):
        rows = equal[:, sets].transpose(1, 0, 2)
        q = np.linalg.pinv(rows) @ right
        off = np.abs(np.einsum("krs,ks->kr", rows, q) - right).max(axis=1)
        allowed = (q.min(axis=1) >= -1e-9) & (off < 1e-9)
        found.append((q * gaps[sets]).sum(axis=1)[allowed])
    values = np.concatenate(found)
    return np.array([values.min(), values.max()])


def ends_said(gaps: np.ndarray, T: np.ndarray, p: np.ndarray) -> str:
    """What a case of `swap_interval` is, for a sentence."""
    return f"the ends for n = {len(gaps)}, m = {T.shape[1]}"


def swaps(ask: Callable, cases: Iterable[tuple], oracle: Callable) -> None:
    """NotYet unless the ends are those of the oracle."""
    agree(ask, [(case, oracle(*case)) for case in cases], ends_said)


def by_vertices(gaps: np.ndarray, T: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The interval by trying all vertices."""
    return ends(gaps, with_ones(T), np.append(1.0, p @ T))


def some_pool(rng: Rng, n: int, m: int, in_the_span: bool = False) -> tuple:
    """Gaps, statistics and weights of a pool."""
    T = rng.uniform(0.5, 2, (n, m))
    gaps = T @ rng.uniform(-0.2, 1, m) + 0.7 if in_the_span else rng.uniform(0, 1, n)
    return gaps, T, rng.dirichlet(np.ones(n))


_POOLS = ((5, 1), (9, 2), (10, 3))


@swap_interval.property("no law on few data with these means has a gap outside", points=2)
def _(ask: Callable) -> None:
    swaps(ask, [some_pool(ask.rng, n, m) for n, m in _POOLS], by_vertices)


@swap_interval.property("also if the gaps are a combination of the statistics, or nearly so")
def _(ask: Callable) -> None:
    pools = [some_pool(ask.rng, n, m, True) for n, m in _POOLS]
    asked = [(pool, np.full(2, pool[2] @ pool[0])) for pool in pools]
    gaps, T, p = pools[1]
    bent = (gaps + 0.3 * ask.rng.uniform(size=len(p)), T, p)
    agree(ask, [*asked, (bent, by_vertices(*bent))], ends_said)


@swap_interval.mistake("The new weights have to sum to one")
def forgets_the_total(gaps, T, p):
    return ends(gaps, T.T, p @ T)


@swap_interval.mistake("Match the means under the given weights p, not those of the uniform law")
def matches_the_uniform_law(gaps, T, p):
    return by_vertices(gaps, T, np.full(len(T), 1 / len(T)))


@swap_interval.mistake("This is the range of the gaps; nothing is matched")
def matches_nothing(gaps, T, p):
    return np.array([gaps.min(), gaps.max()])


@swap_interval.mistake(
    "The lower end needs a program of its own; the actual gap is between the two"
)
def maximizes_only(gaps, T, p):
    return np.array([p @ gaps, by_vertices(gaps, T, p)[1]])


@swap_interval.mistake("The lower end comes first")
def exchanges_the_ends(gaps, T, p):
    return by_vertices(gaps, T, p)[::-1]
