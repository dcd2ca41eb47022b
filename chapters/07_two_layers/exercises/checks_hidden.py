"""Checks of the exercises of chapter 7 that only the grader tests, and the rubrics.

New sizes, data without a second label, statistics that repeat each other, samples on a kink; and
oracles that the public checks do not have: linear programs, the exact gap of a network, and cases
that are solved by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import checks_public as public
import numpy as np
from checks_public import (
    broken_erosion,
    broken_sign,
    collapse_radius,
    cut_gap,
    largest_mass,
    line_drop,
    one_neuron,
    rebuild,
    swap_interval,
    two_laws,
)
from scipy import optimize

from advreg import relu, twolayer
from coursework.checks import NotYet, Written, answers

# ------------------------------------------------------------------ the gaps of one neuron


@one_neuron.hidden(
    "also for a single datum, a single label, weights that are zero, and on the kink"
)
def _(ask: Callable) -> None:
    rng, case = ask.rng, public.neuron_case
    sparse = rng.standard_normal(5) * np.array([1, 0, 1, 0, 0])
    cases = [
        *(case(rng, 3, 1, sign, y=np.array([y])) for sign in (1.0, -1.0) for y in (1.0, -1.0)),
        *(case(rng, 3, 12, sign, y=np.full(12, y)) for sign in (1.0, -1.0) for y in (1.0, -1.0)),
        *(case(rng, 5, 12, sign, w=sparse) for sign in (1.0, -1.0)),
        *(case(rng, 2, 6, sign, on_the_kink=True) for sign in (1.0, -1.0)),
        case(rng, 2, 6, -1.0, w=np.zeros(2)),
    ]
    public.agree(ask, cases, lambda a, w, b, X, y, eps: f"the gaps for n = {len(X)}")


@one_neuron.hidden("for thirty inputs it is the gap of the network", points=2)
def _(ask: Callable) -> None:
    rng, cases = ask.rng, []
    for sign in (1.0, -1.0):
        a, w, b = sign * rng.uniform(0.5, 2), rng.standard_normal(30), rng.standard_normal()
        X, y = rng.standard_normal((15, 30)), rng.permutation([1.0] * 8 + [-1.0] * 7)
        eps = rng.uniform(0.02, 0.3)
        sides = np.repeat([-1, 1], 4) * rng.uniform(0.2, 0.8, 8) * eps * np.abs(w).sum()
        y[:8] = np.tile([1.0, -1.0], 4)
        X[:8] = public.onto(X[:8], w, b, sides)
        net = relu.Network((w[None], np.array([[a]])), (np.array([b]), np.zeros(1)))
        cases.append(((a, w, b, X, y, eps), twolayer.gap(net, X, y, eps)))
    public.agree(ask, cases, lambda a, w, b, X, y, eps: f"the gaps for d = {len(w)}")


# ---------------------------------------------------------- worst drops on a line, and escapes


@line_drop.hidden("also for many neurons, and kinks that coincide", points=2)
def _(ask: Callable, labels: Any) -> None:
    rng, cases = ask.rng, []
    for y, _ in itertools.product((1.0, -1.0), range(3)):
        a, w = public.valley(rng, 40, y)
        few = -w * rng.choice(rng.integers(-64, 65, 5) / 32, 40)  # at most five kinks
        many = -w * rng.integers(-64, 65, 40) / 32
        x, n = float(rng.integers(-32, 33)) / 32, int(rng.integers(20, 80))
        cases += [
            public.lattice_drop(a, w, few, x, y, n),
            public.lattice_drop(a, w, many, x, y, n),
            public.lattice_drop(a, w, many, (-many / w)[0] - n / 32, y, n),  # a kink at the end
            public.lattice_drop(a, w, many, 4.0 + x, y, 32),  # no kink in reach
            public.lattice_drop(a[:1], np.ones(1), np.zeros(1), -2.0, y, 32),  # dead in the ball
        ]
    public.agree(ask, cases, public.said)


#: the functions of x_1 among the eight, as networks: a, w, b
ON_THE_LINE = {
    "leaky": ([1.0, -0.1], [1.0, -1.0], [0.0, 0.0]),
    "relu": ([1.0], [1.0], [0.0]),
    "abs": ([1.0, 1.0], [1.0, -1.0], [0.0, 0.0]),
    "step": ([1.0, -1.0], [1.0, 1.0], [0.0, -1.0]),
}


@line_drop.hidden("the labels are right, and `line_drop` shows it on the line", points=2)
def _(ask: Callable, labels: Any) -> None:
    public.right_labels(labels)
    cases = []
    for a, w, b in ON_THE_LINE.values():
        net, n = (np.array(a), np.array(w), np.array(b)), int(ask.rng.integers(8, 30))
        left, right = ask.rng.integers(0, n, 2) / 32
        for x, y in itertools.product((-left, right, 1 + left), (1.0, -1.0)):
            cases.append(public.lattice_drop(*net, float(x), y, n))
    public.agree(ask, cases, public.said)


# ------------------------------------------------------------------- two laws, equal means


@two_laws.hidden("also if statistics repeat each other, are constant, or two sites look alike")
def _(ask: Callable) -> None:
    rng = ask.rng
    twice, alike, flat = (rng.standard_normal((m + 2, m)) for m in (4, 5, 3))
    twice[:, 3] = twice[:, 0]
    alike[-1] = alike[0]
    flat[:, 0] = 1.0
    scaled = rng.standard_normal((22, 20)) * rng.uniform(0.1, 10, 20)
    for (T,), got in answers(ask, [(T,) for T in (twice, alike, flat, scaled, np.zeros((4, 2)))]):
        public.few_points(public.pair(got, T), T.shape[1])


@two_laws.hidden("three sites on a line, and equidistant ones on a circle, as by hand", points=2)
def _(ask: Callable) -> None:
    rng, cases, wanted = ask.rng, [], []
    for _ in range(3):  # the middle one against both ends
        t = np.cumsum(rng.uniform(0.2, 2, 3)) + rng.standard_normal()
        order, s = rng.permutation(3), (t[2] - t[1]) / (t[2] - t[0])
        cases.append((t[order, None],))
        wanted.append(np.array([[0.0, 1.0, 0.0], [s, 0.0, 1 - s]])[:, order])
    for r in (1, 2, 3):  # the highest wave: even against odd sites
        N = 2 * r + 2
        t = 2 * np.pi * np.arange(N) / N + rng.uniform(0, 1)
        cases.append(
            (np.column_stack([f(k * t) for k in range(1, r + 1) for f in (np.cos, np.sin)]),)
        )
        even = (np.arange(N) % 2 == 0) * 2 / N
        wanted.append(np.array([even, 2 / N - even]))
    for ((T,), got), want in zip(answers(ask, cases), wanted, strict=True):
        laws, m = public.pair(got, T), T.shape[1]
        public.few_points(laws, m)
        off = min(np.abs(laws - w).max() for w in ([want] if m == 1 else [want, want[::-1]]))
        if off > 1e-5:
            raise NotYet(f"For m = {m}, solved by hand, a weight is off by {off:.1e}.")


@two_laws.mistake("The two parts have the same mass, but it is not one yet")
def forgets_to_normalize(T):
    return public.halves(public.null_vector(public.with_ones(T)))


@two_laws.mistake("Take the part with fewer points first")
def takes_the_longer_part(T):
    parts = public.halves(public.null_vector(public.with_ones(T)))[::-1]
    return parts / parts.sum(axis=1, keepdims=True)


# ------------------------------------------------------------ how much mass one site can get


def _mass_by_program(T: np.ndarray) -> np.ndarray:
    """A program for both laws, site by site."""
    N, m = T.shape
    one, zero = np.ones(N), np.zeros(N)
    equal = np.vstack([np.append(one, zero), np.append(zero, one), np.hstack([T.T, -T.T])])
    right, want = np.append([1.0, 1.0], np.zeros(m)), np.empty(N)
    for i, e in enumerate(np.eye(N)):
        upper = np.append(np.full(N, np.inf), np.where(e, 0.0, np.inf))
        bounds = np.column_stack([np.zeros(2 * N), upper])
        want[i] = -optimize.linprog(np.append(-e, zero), None, None, equal, right, bounds).fun
    return want


@largest_mass.hidden("also if a statistic marks one site, and two sites look alike", points=2)
def _(ask: Callable) -> None:
    cases = []
    for N, m in ((5, 1), (7, 2), (9, 4)):
        T = ask.rng.standard_normal((N, m))
        T[:, 0] = np.arange(N) == 1  # an indicator
        T[-1] = T[0]
        cases.append(((T,), _mass_by_program(T)))
    public.agree(ask, cases, public.sites)


@largest_mass.hidden("on a line and on a circle it is as by hand; few sites leave nothing free", 2)
def _(ask: Callable) -> None:
    rng, cases = ask.rng, []
    for N in (3, 5, 8):  # the ends: the other law begins at their neighbours
        t = np.cumsum(rng.uniform(0.3, 2, N))
        want = np.ones(N)
        want[[0, -1]] = np.array([t[-1] - t[1], t[-2] - t[0]]) / (t[-1] - t[0])
        cases.append(((t[:, None],), want))
    for r in (1, 3):
        N = 2 * r + 2
        t = 2 * np.pi * np.arange(N) / N + rng.uniform(0, 1)
        T = np.column_stack([f(k * t) for k in range(1, r + 1) for f in (np.cos, np.sin)])
        cases.append(((T,), np.full(N, 2 / N)))
    for N, m in ((2, 1), (3, 2), (4, 6)):
        cases.append(((rng.standard_normal((N, m)),), np.zeros(N)))
    public.agree(ask, cases, public.sites)


# --------------------------------------------------------------- masses, rebuilt from gaps


@rebuild.hidden("also for one place, for a small radius, and for a radius beyond all places", 2)
def _(ask: Callable) -> None:
    rng = ask.rng
    one = np.array([[0.3], [0.7]])
    ends = np.zeros((2, 7))
    ends[0, 0] = ends[1, -1] = 0.5
    public.rebuilt(
        ask,
        [
            (one, 1, 0.5),
            (one[::-1].copy(), 4, 0.3),
            (public.some_masses(rng, 25), 1, rng.uniform(0.1, 0.3)),
            (public.some_masses(rng, 25, "-1"), 2, rng.uniform(0.1, 0.3)),
            (public.some_masses(rng, 6), 20, 0.05),
            (ends, 3, 1.0),
        ],
    )


@rebuild.hidden("a data set comes back, number by number", points=3)
def _(ask: Callable) -> None:
    cases, wanted = [], []
    for n, K, h in ((8, 2, 0.25), (15, 4, 0.1)):
        data = int(ask.rng.integers(20, 60))
        x, y = ask.rng.integers(0, n, data), ask.rng.permutation(np.arange(data) % 3 > 0)
        t = h * (np.arange(n + 2 * K + 1) - 1)
        G = [
            twolayer.neuron_gap(h * x[:, None], np.where(y, 1, -1), [1.0], -t, K * h, a=a)
            for a in (1.0, -1.0)
        ]
        cases.append((np.array(G), K, h))
        wanted.append(np.array([np.bincount(x[y == c], minlength=n) for c in (True, False)]) / data)
    public.agree(
        ask,
        zip(cases, wanted, strict=True),
        lambda G, K, h: f"the masses of a data set for K = {K}, h = {h:g}",
    )


# ------------------------------------------------------------------------- broken proofs


@broken_sign.hidden("the step is right, and the twins are refuted by no radius", points=3)
def _(ask: Callable, step: Any) -> None:
    public.right_step(step, 4, public.SIGN_STEPS)
    public.twins(ask, ask.rng.uniform([0.1, 0.7, 1.5, 3.0], [0.15, 0.8, 3.0, 5.0]))


@broken_erosion.hidden("the step is right, and the tent is uneven for every radius", points=3)
def _(ask: Callable, step: Any) -> None:
    public.right_step(step, 4, public.EROSION_STEPS)
    public.uneven(ask, ask.rng.uniform([0.1, 0.7, 3.0], [0.15, 0.8, 5.0]))


# --------------------------------------------------- when the frozen network collapses


@collapse_radius.hidden("also if all neurons are asleep, the classes agree, or one never wakes", 2)
def _(ask: Callable) -> None:
    rng = ask.rng
    y = np.array([1.0, 1, 1, -1, -1, -1])
    awake, far = rng.integers(4, 24, 3) / 8, rng.uniform(-20, -9, 3)  # sums without rounding
    public.collapses(
        ask,
        [
            (np.append(awake, far), y),
            (np.append(awake, far), -y),
            (-rng.uniform(0.1, 2, 6), y),
            (np.append(awake, awake), y),
            (np.array([2.0, 0, 0, -1, 0, -3]) * rng.uniform(0.5, 2), y),
            (np.array([1.0, 1, 1, 3, 3, -2]) * rng.uniform(0.5, 2), y),
            (np.array([2.0, -rng.uniform(0.5, 1.5)]), y[[0, 3]]),
            (np.array([2.0, -9.0]), y[[3, 0]]),
        ],
    )


@collapse_radius.hidden("also for larger data sets, with values that repeat", points=2)
def _(ask: Callable) -> None:
    cases = []
    for n, sign in ((30, 1.0), (40, -1.0), (24, 1.0), (24, -1.0)):
        u, y = public.some_features(ask.rng, n, sign)
        cases.append((np.round(u, 1) if n == 24 else u * ask.rng.uniform(0.3, 5), y))
    public.collapses(ask, cases)


# ---------------------------------------------------------------------- the largest cut


def _graphs(rng: np.random.Generator) -> list[tuple[str, np.ndarray, float, float]]:
    """Name, weights, largest cut and largest degree of graphs whose cut is known."""
    c = rng.uniform(0.5, 2, 6)
    ring = np.roll(np.eye(9), 1, axis=1)
    halves = np.zeros((7, 7))
    halves[:3, 3:] = rng.uniform(0.2, 2, (3, 4))
    halves = halves + halves.T
    order = rng.permutation(7)
    star = np.zeros((6, 6))
    star[0, 1:] = rng.uniform(0.2, 2, 5)
    path = np.diag(np.ones(9), 1)
    return [
        ("a graph without edges", np.zeros((3, 3)), 0.0, 0.0),
        ("a single node", np.zeros((1, 1)), 0.0, 0.0),
        ("a complete graph", c[0] * (1 - np.eye(10)), c[0] * 25, c[0] * 9),
        ("an odd ring", c[1] * (ring + ring.T), c[1] * 8, c[1] * 2),
        (
            "a bipartite graph",
            halves[np.ix_(order, order)],
            halves.sum() / 2,
            halves.sum(axis=1).max(),
        ),
        ("a star", star + star.T, star.sum(), star.sum()),
        ("a path", c[2] * (path + path.T), c[2] * 9, c[2] * 2),
    ]


@cut_gap.hidden("graphs whose largest cut is known, for both norms", points=2)
def _(ask: Callable) -> None:
    cases, names = [], []
    for name, w, cut, degree in _graphs(ask.rng):
        eps = ask.rng.uniform(0.1, 1.5)
        cases += [((w, eps, np.inf), 2 * eps * cut), ((w, eps, 1), eps * degree)]
        names += [name] * 2
    title = iter(names)
    public.agree(ask, cases, lambda w, eps, norm: f"the gap of {next(title)}")


# ---------------------------------------------------------------------- the swap test


def _by_multipliers(gaps: np.ndarray, T: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The dual: the smallest s with s + l . (T_i - mean) >= sign gap_i, for both signs."""
    n, m = T.shape
    ends = []
    for sign in (-1.0, 1.0):
        found = optimize.linprog(
            np.append(np.zeros(m), 1.0),
            A_ub=-np.column_stack([T - p @ T, np.ones(n)]),
            b_ub=-sign * gaps,
            bounds=[(None, None)] * (m + 1),
        )
        ends.append(sign * found.fun)
    return np.array(ends)


@swap_interval.hidden("multipliers prove both ends of larger pools", points=2)
def _(ask: Callable) -> None:
    pools = [public.some_pool(ask.rng, n, m) for n, m in ((12, 2), (15, 1), (14, 3))]
    public.swaps(ask, pools, _by_multipliers)


@swap_interval.hidden("also for one datum, weights that are zero, and statistics that repeat", 2)
def _(ask: Callable) -> None:
    rng = ask.rng
    n = 7
    gaps, half = rng.uniform(0.2, 1, n), np.where(np.arange(n) < 3, 1 / 3, 0.0)
    place = np.arange(1.0, n + 1)[:, None]
    full = np.linalg.qr(np.column_stack([np.ones(n), rng.standard_normal((n, n - 1))]))[0][:, 1:]
    T = rng.uniform(0.5, 2, (n, 2))
    public.swaps(
        ask,
        [
            (np.array([0.7]), np.array([[1.5]]), np.ones(1)),
            (gaps, place, np.eye(n)[0]),  # all mass at an end: nothing can move
            (gaps, place, np.eye(n)[3]),
            (gaps, place, half),
            (gaps, np.column_stack([T, T[:, 0]]), rng.dirichlet(np.ones(n))),
            (gaps, np.ones((n, 1)), rng.dirichlet(np.ones(n))),  # says nothing
            (gaps, full, rng.dirichlet(np.ones(n))),  # says all
        ],
        _by_multipliers,
    )


# ------------------------------------------------------------------------ answers in words

WRITTEN = [
    Written(
        "ex-c7-one-neuron",
        [
            (
                "two data sets of three points, label -1, equal mean and variance, and their two "
                "gaps, which differ",
                1,
            ),
            (
                "(R1) and (R2) fall: the gap changes with the data (for the linear loss the two "
                "say the same)",
                1,
            ),
            (
                "(R3): two points of one score with different gaps; no further example is needed "
                "if the data sets given have equal laws of the score",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-decide",
        [
            (
                "the functions of x_1: for `relu` and `step` points of one score with different "
                "drops; for the other two, that the score says x_1, or x_1 up to its sign",
                1,
            ),
            (
                "`sum`: upwards the same everywhere; downwards, for l2, two points of one score, "
                "one at a kink; for l1 that it is the attack norm, or a computation",
                1,
            ),
            (
                "`max`: upwards eps everywhere; downwards, for l2, two points of one score, one at "
                "the kink; for l_inf eps everywhere",
                1,
            ),
            ("part 3: no, with one of the two Euclidean examples that escape for -1 alone", 1),
        ],
    ),
    Written(
        "ex-c7-same-function",
        [
            ("part 1: positive homogeneity of relu, so the same function and the same gap", 1),
            (
                "part 1: everything above the sum of |a_j| ||w_j||_2 (whether this value itself "
                "is attained, and neurons that are zero, cost no point)",
                1,
            ),
            ("part 2: weights of f and of 2 f with equal weight decay; the gaps A and 2 A", 1),
            ("part 2: this needs A > 0, and that a positive gap gives a neuron with w_j != 0", 1),
            (
                "part 3: f with a cancelling pair of neurons against 2 f, path norms made equal",
                1,
            ),
            ("part 3: both have width k (2 f is padded), and the gaps A and 2 A differ", 1),
            ("part 4: one datum, two networks of width one, their path norms and gaps", 1),
            (
                "part 4: no other network of the same function has a smaller path norm, as it is "
                "at least the Lipschitz constant",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-two-laws",
        [
            (
                "part 2: one neuron of the lemma for each point of P and none for Q, so at most "
                "m // 2 + 1",
                1,
            ),
            (
                "part 3: in general not: m + 1 independent equations for m + 1 weights have only "
                "the solution zero",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-one-site",
        [
            ("part 2: the alternating signs are orthogonal to the constant and all r waves", 1),
            (
                "part 2: by dimension there is no other direction, so the mass is 2 / (m + 2)",
                1,
            ),
            ("part 3: 1 inside, with laws that show it; (N - 2) / (N - 1) at both ends", 1),
            ("part 3: why no law has more mass at an end", 1),
        ],
    ),
    Written(
        "ex-c7-primes",
        [
            ("part 1: exp(n times the mean) is the product of the p_i to the n_i", 1),
            ("part 1: different sizes n and n' are handled, by a common power", 1),
            ("part 1: unique factorization, and so the same law", 1),
            ("part 2: two laws with real weights and equal means; t = 0.44 or its formula", 1),
            ("part 3: the number 6188", 1),
            ("part 3: pigeonhole in an interval of length log 6.5, in 6187 gaps", 1),
            (
                "part 4: the count n^5 / 120 against about 1.9e8 values, so n of about 120 "
                "(anything between 100 and 150, with the count)",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-squares",
        [
            ("part 1, label -1: mu (2 eps r + eps^2) with r = sqrt(s / mu)", 1),
            ("part 1, label +1: mu (r^2 - max(r - eps, 0)^2); without the maximum no point", 1),
            ("part 2: two points of one score, one an eigenvector of the largest eigenvalue", 1),
            (
                "part 2: at this one the triangle inequality is an equality, or the rise is "
                "computed",
                1,
            ),
            ("part 2: at the other it is strict for every single e", 1),
            ("part 2: so is the maximum, because it is attained; or a computation", 1),
            ("part 3: the theorem is about piecewise affine functions, f is none", 1),
        ],
    ),
    Written(
        "ex-c7-tanh",
        [
            ("part 1: f is strictly monotone in w . x, so the score determines w . x", 1),
            ("part 1: both drops depend on w . x only, which moves by eps ||w||_*", 1),
            ("part 2: both numbers, 0.924 and 0.0116 (or their formulas)", 1),
            ("part 3: the penalties are 1 and 0.00987, so neither drop equals its penalty", 1),
            (
                "part 3: true to first order; the difference is at most 0.19, the remainder of the "
                "proposition for eps = 1/2",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-broken-sign",
        [
            ("what fails: equal functions of b may come from points of different labels", 1),
            ("names neurons that tell the twins apart, such as -relu(x + b) or relu(-x + b)", 1),
            ("their gaps on the two laws are computed, and differ", 1),
        ],
    ),
    Written(
        "ex-c7-broken-erosion",
        [
            ("what fails: level is distance times slope, and the slopes differ", 1),
            ("if the two slopes agree, the claim is true", 1),
            ("if they differ, it is false", 1),
        ],
    ),
    Written(
        "ex-c7-order-one",
        [
            ("part 1: a mass p moves by eps / p, and the gain tends to eps (or is eps)", 1),
            ("part 1: not more, the loss is 1-Lipschitz; A = clip(u + eps, 0, eps)", 1),
            ("part 2: the gain is at most min(s, u_+), concave in the distance s: Jensen", 1),
            ("part 2: it is attained, and A is the same", 1),
            ("part 3: mass at most 0.1 eps / T, distance then 10 T", 1),
            ("part 4: exactly the laws that give mass to label -1, with the reason", 1),
            (
                "part 4: for label +1 the slope at infinity is 0 and the Lipschitz constant 1",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-collapse",
        [
            ("part 1: by homogeneity v = 1 and v = -1 are enough", 1),
            ("part 1: says where it uses that the classes are equally large", 1),
            ("part 1: the minimum over e, because the feature is monotone in u", 1),
            (
                "part 3: for (2, -1) 3/2, 3/2 for the linear feature, 1 in feature space; for "
                "(2, -9) 2, 11/2 and 1 (one of the six may be wrong or missing)",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-cut",
        [
            ("part 2: 0 for label +1, as f >= 0 = f(0); the same gap for hinge and -1", 1),
            ("part 3: zero, all neurons are on their kinks", 1),
        ],
    ),
    Written(
        "ex-c7-swap",
        [
            (
                "part 2: linear loss: a point, whatever is matched; hinge loss: statistics that "
                "fix the mean hinge gap, such as it itself, or the law of the margins",
                1,
            ),
            (
                "part 3: the same test for a linear model as a control, or the number of "
                "statistics beside that of the data; at least one of them, with the reason that "
                "the statistics fix q",
                1,
            ),
            ("part 4: both ends are lower bounds of the true ends; nothing on the width", 1),
        ],
    ),
]
