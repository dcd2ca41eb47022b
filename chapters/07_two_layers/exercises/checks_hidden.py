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
    for N, m in ((1, 1), (3, 2), (4, 6)):
        cases.append(((rng.standard_normal((N, m)),), np.zeros(N)))
    public.agree(ask, cases, public.sites)


# --------------------------------------------------------------- masses, rebuilt from gaps


@rebuild.hidden("also for one place, for a small radius, and for a radius beyond all places")
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


@rebuild.hidden("a data set comes back, number by number", points=2)
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
    public.twins(ask, ask.rng.uniform([0.1, 0.7, 5.0, 15.0], [0.15, 0.8, 10.0, 20.0]))


@broken_erosion.hidden("the step is right, and the tent is uneven for every radius", points=3)
def _(ask: Callable, step: Any) -> None:
    public.right_step(step, 4, public.EROSION_STEPS)
    public.uneven(ask, ask.rng.uniform([0.1, 0.7, 3.0], [0.15, 0.8, 4.0]))


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
                "two data sets of label -1, equal mean and variance, with two different gaps given",
                1,
            ),
            ("says which of (R1) to (R3) fall, and gives points of one score for (R3)", 2),
        ],
    ),
    Written(
        "ex-c7-decide",
        [
            (
                "the line: points of equal score, and why each flat piece spoils one label",
                1,
            ),
            ("the plane: drops at a kink and far from it are compared, at equal scores", 2),
            ("part 3: no, with one of the two Euclidean examples that escape for -1 alone", 1),
        ],
    ),
    Written(
        "ex-c7-same-function",
        [
            (
                "part 1: same function, so same gap; all values from the minimum on, with the case "
                "of equality",
                2,
            ),
            ("part 2: f and 2f at equal weight decay; uses A > 0 and a neuron with w != 0", 2),
            (
                "part 3: a cancelling pair of neurons that makes both path norms equal; "
                "counts the width",
                2,
            ),
            (
                "part 4: two networks of width one, and why no other network of the same function "
                "has a smaller path norm (Lipschitz constant)",
                2,
            ),
        ],
    ),
    Written(
        "ex-c7-two-laws",
        [
            ("part 2: dead neurons at the points of P only, at most m // 2 + 1 of them", 1),
            ("part 3: in general not, because then only the zero vector is orthogonal", 1),
        ],
    ),
    Written(
        "ex-c7-one-site",
        [
            (
                "part 2: the alternating signs are orthogonal to all lower waves, and by dimension "
                "they are the only vector",
                2,
            ),
            (
                "part 3: inner sites 1, ends (N - 2) / (N - 1), with the argument for the upper "
                "bound at the ends",
                2,
            ),
        ],
    ),
    Written(
        "ex-c7-primes",
        [
            ("part 1: exponential, different sizes n and n' handled, unique factorization", 3),
            ("part 2: two real laws with equal means, checked", 1),
            ("part 3: 6188 counted, pigeonhole in an interval of length log 6.5", 2),
            ("part 4: n of the order of 120, by counting against 1e8 digits", 1),
        ],
    ),
    Written(
        "ex-c7-squares",
        [
            (
                "part 1: r = ||Pi x||; both drops as functions of s, with max(r - eps, 0)",
                2,
            ),
            (
                "part 2: two points of score 1; equality in the triangle inequality at one of them",
                2,
            ),
            ("part 2: strict inequality at the other, and that the maximum is attained", 2),
            ("part 3: the theorem is about piecewise affine functions", 1),
        ],
    ),
    Written(
        "ex-c7-tanh",
        [
            (
                "part 1: strictly monotone in w . x, and the drop depends on w . x only (loses the "
                "point if the score is not shown to determine w . x)",
                2,
            ),
            ("part 2: both numbers, 0.924 and 0.0116", 1),
            (
                "part 3: neither equals the penalty; true to first order, with the remainder "
                "of the proposition",
                2,
            ),
        ],
    ),
    Written(
        "ex-c7-broken-sign",
        [
            ("says what fails: equal functions of b may come from different points", 1),
            ("names neurons that tell the twins apart, and shows that they do", 2),
        ],
    ),
    Written(
        "ex-c7-broken-erosion",
        [
            ("says what fails: equal distance, but levels differ with the slopes", 1),
            ("repairs it: true if and only if the two slopes agree", 2),
        ],
    ),
    Written(
        "ex-c7-order-one",
        [
            (
                "part 1: mass p moves by eps / p and gains almost eps; Lipschitz bound from above",
                2,
            ),
            ("part 2: upper bound by concavity (Jensen), and that it is attained", 2),
            ("part 3: mass 0.1 eps / T, distance 10 T", 1),
            (
                "part 4: laws that charge label -1; for label +1 the slope at infinity is not the "
                "Lipschitz constant",
                2,
            ),
        ],
    ),
    Written(
        "ex-c7-collapse",
        [
            (
                "part 1: reduces to v = +1 and v = -1 by homogeneity, and uses that the classes "
                "are equally large",
                2,
            ),
            ("part 1: the minimum over e uses that the feature is monotone in u", 1),
            (
                "part 3: 3/2, 3/2 and 1; for (2, -9): 2 and 11/2; a sleeping neuron hides",
                1,
            ),
        ],
    ),
    Written(
        "ex-c7-cut",
        [
            ("part 2: 0 for label +1; the same gap for hinge and -1", 1),
            ("part 3: zero, all neurons on their kinks", 1),
        ],
    ),
    Written(
        "ex-c7-swap",
        [
            (
                "part 2: a point without any statistics; the hinge gap is a function of the margin",
                1,
            ),
            ("part 3: the report has the control of a linear model, pool size and constraints", 1),
            ("part 4: both ends are lower bounds; nothing follows about the width", 1),
        ],
    ),
]
