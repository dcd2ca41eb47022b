"""Checks of the exercises of chapter 6 that only the grader runs, and the answers in words.

The oracles are linear programs over many points, other sizes, limits, and degenerate inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import checks_public as public
import numpy as np
from checks_public import agree
from scipy import optimize, sparse

from coursework.checks import Written, answers, close, numbers


def program(gain: np.ndarray, cost: np.ndarray, budget: float) -> float:
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


# ------------------------------------------------------------------- budgets


@public.robust_error.hidden(
    "also if samples are wrong already, or can never be made wrong", points=2
)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n, p in ((12, 1), (10, 2), (9, 1.5), (30, 1)):
        eps = float(rng.uniform(0.15, 0.35))
        r = rng.uniform(2.5, 5.0, n) * eps
        r[:2], r[-3:] = 0.0, np.inf
        rng.shuffle(r)
        cases.append(((r, eps, p), program(np.ones((n, 1)), r[:, None] ** p, eps**p)))
    agree(ask, cases, "the worst error rate")


@public.robust_error.hidden("for one sample, for equal ones, and if nothing can go wrong", points=1)
def _(ask: Callable) -> None:
    r, eps = ask.rng.uniform(1, 2, 3), float(ask.rng.uniform(0.3, 0.9))
    cases = [
        ((r[:1], eps, 3), (eps / r[0]) ** 3),
        ((r[:1], eps, np.inf), 0.0),
        ((np.full(7, r[1]), eps, 1), eps / r[1]),
        ((np.full(4, np.inf), eps, 2), 0.0),
        ((np.zeros(5), eps, 1), 1.0),
        ((r, 3.0, 2), 1.0),
    ]
    agree(ask, cases, "the worst error rate")


@public.worst_gain.hidden("with more samples and points it is the value of a program", points=3)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n, m, p in ((10, 6, 1), (15, 4, 2), (8, 8, 1.5)):
        (t, g), eps = public.stairs(rng, n, m), float(rng.uniform(0.2, 0.6))
        cases.append(((t, g, eps, p), program(g, t**p, eps**p)))
    agree(ask, cases, "the largest gain")


@public.worst_gain.hidden("for one sample or one point, too", points=1)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n, m, p in ((1, 1, 1), (1, 1, 2), (1, 4, 1), (4, 1, 2), (1, 3, 3)):
        t, g = public.stairs(rng, n, m)
        for eps in (0.5 * t.min(), 5.0):
            cases.append(((t, g, eps, p), public.best_plan(g, t**p, eps**p)))
    agree(ask, cases, "the largest gain")


@public.best_mixture.hidden("it is right for one sample with two steps", points=1)
def _(ask: Callable) -> None:
    rise = float(ask.rng.uniform(0.8, 1.4))
    t, g = np.array([[1.0, 3.0]]), np.array([[rise, 2 * rise]])
    agree(
        ask,
        [
            ((t, g, 2.0, 1), 4 / 3 * rise),
            ((t, g, 0.5, 1), rise / 2),
            ((t, g, 2.0, 2), rise),
            ((t, g, 1.0, 3), rise),
            ((t, g, 3.0, 1), 2 * rise),
        ],
        "the gain of the best mixture",
    )


@public.best_mixture.hidden("it is right for other numbers of samples, steps and orders", points=2)
def _(ask: Callable) -> None:
    sizes = ((1, 1, 1.5), (7, 1, 1), (2, 6, 2.5), (12, 5, 1))
    cases = [
        public.mixture_case(ask.rng, n, m, eps, p)
        for n, m, p in sizes
        for eps in (1 / 32, 0.25, 1.0)
    ]
    agree(ask, cases, "the gain of the best mixture")


@public.worst_inputs.hidden("it is right if the model fits the data exactly", points=1)
def _(ask: Callable) -> None:
    sizes = ((6, 3, 0.3), (5, 2, 1.0), (1, 1, 0.2))
    public.reaches(ask, [public.regression(ask.rng, *size, noise=0.0) for size in sizes])


@public.worst_inputs.hidden(
    "it is right for one sample, one input, weights that are zero, and small residuals", points=2
)
def _(ask: Callable) -> None:
    rng = ask.rng
    cases = [public.regression(rng, n, d, 0.3) for n, d in ((1, 4), (9, 1), (2, 7))]
    X, y, w, b, eps = public.regression(rng, 6, 4, 0.4)
    w = w * [1, 0, 1, 0]
    small = public.regression(rng, 7, 3, 0.5, noise=0.2)
    public.reaches(ask, [*cases, (X, y, w, b, eps), small])


@public.label_value.hidden("where the budget exceeds all flips that pay", points=1)
def _(ask: Callable) -> None:
    tasks = ((0.8, 3.0, 0.4), (0.5, 2.0, 0.3))
    agree(ask, public.label_cases(ask.rng, tasks), "the value for a large budget")


@public.label_value.hidden("with more samples, equal margins, and margins of one sign", points=2)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    many = np.round(rng.uniform(-1, 4, 15), 1)
    for m in (many, np.full(6, many.max()), -np.abs(many) - 0.1, many[:1], np.abs(many) + 0.2):
        norm, eps = (float(v) for v in rng.uniform(0.3, 1.2, 2))
        kappa = float(rng.uniform(0.8, 1.6))
        gain, cost = public.label_points(m, norm, kappa)
        value = np.logaddexp(0, -m).mean() + program(gain, cost, eps)
        cases.append(((m, norm, eps, kappa), value))
    agree(ask, cases, "the value")


# ------------------------------------------------------------------- slopes


@public.three_slopes.hidden("one neuron, samples at kinks, and kinks that coincide", points=2)
def _(ask: Callable, predicted: Any) -> None:
    rng = ask.rng
    c, kink = rng.uniform(0.5, 2, 4), rng.integers(1, 16, 3) / 8
    one, four = np.ones(1), np.array([1.0, -1.0, 2.0, -0.5])
    one_up = np.array([1.0, -1.0, -1.0])
    place = np.array([kink[0], kink[0], -kink[1], kink[0]])
    samples = np.array([kink[0], -kink[1]])
    cases = [
        (c[:1], one, -kink[:1], np.array([kink[0]])),  # at the only kink
        (c[:1], one, -kink[:1], np.array([-5.0])),
        (-c[:1], one, -kink[:1], np.array([-5.0, 5.0])),  # nothing to gain
        (-c[:1], -one, kink[:1], np.array([-5.0])),
        (c * [1, -1, 1, -1], four, -four * place, samples),
        (c[0] * one_up, np.ones(3), -np.cumsum([*kink[:2], 0]), np.zeros(1)),  # a hill
    ]
    asked = answers(ask, [public.stretched(rng, *case) for case in cases])
    for case, (_, got) in zip(cases, asked, strict=True):
        close(numbers(got, (3,)), public.searched_slopes(*case), "the three slopes")


@public.three_slopes.hidden("your function confirms your predictions", points=2)
def _(ask: Callable, predicted: Any) -> None:
    public.judge_prediction(predicted)
    losses = public.line_losses(ask.rng)
    shrunk = [(a, w, t * b, x) for a, w, b, x in losses for t in (0.5, 1.0, 2.0)]
    asked = answers(ask, [public.stretched(ask.rng, *loss) for loss in shrunk])
    for loss, (_, got) in zip(shrunk, asked, strict=True):
        close(numbers(got, (3,)), public.searched_slopes(*loss), "the slopes for other biases")


@public.slope_at_infinity.hidden(
    "also where the loss falls in most directions, or in all", points=1
)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for n in (4, 7):
        a, W, b = public.plane_net(rng, n)
        a = -np.abs(a) - 0.1
        a[0] = 12.0 if n == 7 else a[0]
        W[-1] = -W[:-1].sum(axis=0)  # some neuron is on, whatever the direction
        nets = [(a, W, b), public.sideways(rng)]
        cases += [((*net, p), public.far_growth(*net, p)) for net in nets for p in (2, 1, np.inf)]
    agree(ask, cases, "the slope at infinity")


@public.slope_at_infinity.hidden(
    "for one neuron it is a dual norm, and for many a search", points=2
)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    a, W, b = public.plane_net(rng, 1)
    for norm, dual in ((1, np.inf), (2, 2), (np.inf, 1)):
        cases.append(((np.abs(a), W, b, norm), np.abs(a[0]) * np.linalg.norm(W[0], dual)))
        cases.append(((-np.abs(a), W, b, norm), 0.0))
        for net in (public.plane_net(rng, 12), public.sideways(rng)):
            cases.append(((*net, norm), public.far_growth(*net, norm)))
    agree(ask, cases, "the slope at infinity")


@public.recession_slope.hidden("for orthants it is the length of a part, or zero, or all", points=1)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for d, m in ((1, 1), (2, 1), (3, 3), (5, 4), (6, 6)):
        Q, g = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.standard_normal(d)
        part = Q @ g
        part[:m] = np.minimum(part[:m], 0)
        scale = rng.uniform(0.3, 3, (m, 1))
        cases.append(((scale * Q[:m], g), float(np.linalg.norm(part))))
    A, g = cases[2][0]
    cases.append(((np.vstack([A, 2 * A[:1]]), g), cases[2][1]))  # one inequality twice
    for d, m in ((2, 2), (4, 3), (3, 5)):
        A = np.abs(rng.standard_normal((m, d))) + 0.2
        inside = -rng.uniform(0.5, 2, d)
        cases += [((A, rng.uniform(0.1, 1, m) @ A), 0.0), ((A, inside), np.linalg.norm(inside))]
    public.cones_agree(ask, cases, "the slope of a cell")


@public.recession_slope.hidden("with more inputs, or more inequalities, a search agrees", points=2)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for d, m in ((3, 6), (4, 7), (5, 5), (6, 3)):
        for _ in range(3):
            A, g = public.open_cone(rng, m, d), rng.standard_normal(d)
            cases.append(((A, g), public.by_faces(A, g)))
    public.cones_agree(ask, cases, "the slope of a cell")


@public.mask_bound.hidden(
    "for one input it is a sum, for any number of neurons; for two, a search", points=1
)
def _(ask: Callable) -> None:
    cases = []
    for n in (1, 2, 60):
        a, W = ask.rng.standard_normal(n), ask.rng.standard_normal((n, 1))
        rise = a * W[:, 0]
        cases.append(((a, W), max(rise[rise > 0].sum(), -rise[rise < 0].sum())))
    signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    net = ask.rng.standard_normal(4), signs * ask.rng.uniform(0.2, 2, (4, 2))
    agree(ask, [*cases, (net, public.all_masks(*net))], "the bound for one or two inputs")


@public.mask_bound.hidden("for twelve neurons and weights that are zero it is that of all masks", 2)
def _(ask: Callable) -> None:
    nets = [(ask.rng.standard_normal(n), ask.rng.standard_normal((n, d))) for n, d in MORE]
    nets[0][0][::3] = 0
    nets[1][1][:, 1] = 0
    agree(ask, [(net, public.all_masks(*net)) for net in nets], "the bound")


MORE = ((12, 4), (11, 3), (2, 7), (1, 3))


# ------------------------------------------------------- errors, ratios, the whole curve


@public.distance_to_error.hidden("inputs at knots, margins that touch zero, flat rays", points=2)
def _(ask: Callable) -> None:
    k = np.cumsum(ask.rng.integers(20, 60, 4)) / 64
    v = np.array([1.5, 0.0, 1.0, 2.0]) * float(ask.rng.uniform(0.8, 1.3))
    cases = [
        (k, v, 0.0, 0.0, float(k[2]), 1),  # touches zero at the second knot only
        (k, v, 0.0, 0.0, float(k[1]), 1),  # stands there
        (k, v, 0.0, 0.0, float(k[1]), -1),
        (k, v + 0.5, 0.0, 0.0, float(k[0]), 1),  # never
        (k, v + 0.5, -1.0, 0.0, float(k[0]) - 1, 1),  # never, from outside
        (k, v + 0.5, 1.0, 0.0, float(k[0]), 1),
        (k, v - 3, 0.0, 0.0, float(k[3]) + 1, -1),
        (k, v, 1.5, 0.0, float(k[0]), 1),
        (k, v, 0.0, -0.5, float(k[3]) + 1, 1),
        (k, v, 1.5, 0.0, float(k[0]) - 0.5, 1),
        (k, v, 1.5, 0.0, float(k[0]) - 10, 1),  # wrong, outside
    ]
    public.same_distances(ask, cases)


@public.distance_to_error.hidden("one knot, two knots, and many", points=1)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for m in (1, 2, 15):
        k = np.cumsum(rng.integers(5, 64, m)) / 64
        v = rng.uniform(0.5, 2, m)
        v[m // 2 + 1 :] *= -1
        for y in (1, -1):
            cases.append((k, v, 0.4, 0.5, float(k[0]) + 0.5, y))
            cases.append((k, -v, -0.4, -0.3, float(k[-1]) - 0.25, y))
    public.same_distances(ask, cases)


@public.dlr_gradient.hidden("three classes, many classes, one input", points=2)
def _(ask: Callable) -> None:
    public.ratios(ask, ((3, 1, 0), (3, 4, 1), (3, 2, 2), (12, 1, 1), (12, 6, 7), (10, 2, 0)))


@public.dlr_gradient.hidden("it does not see a common shift of the logits", points=1)
def _(ask: Callable) -> None:
    cases, rng = [], ask.rng
    for rank in (0, 1, 4):
        (z, J, y), want = public.ratio_case(rng, 6, 3, rank)
        shift, turn = float(rng.uniform(5, 9)), rng.standard_normal(3)
        cases += [((z - shift, J + turn, y), want), ((3 * z, 3 * J, y), want)]
    agree(ask, cases, "the gradient of shifted or scaled logits")


@public.first_order_value.hidden(
    "where the loss falls at both ends, so that nothing escapes", points=2
)
def _(ask: Callable) -> None:
    cases = public.value_cases(ask.rng, (0.5, -1.5), (0.3, 1.5, 5.0))
    agree(ask, cases, "the value where nothing escapes")


@public.first_order_value.hidden(
    "with more samples it is the value of a program; and for one knot, or one sample", points=3
)
def _(ask: Callable) -> None:
    rng = ask.rng
    losses = [
        public.line_loss(rng, (0.8, -0.3), peak, m, n) for peak, m, n in ((-1, 9, 12), (2, 4, 1))
    ]
    knots, values, _, right, _ = losses[1]
    losses.append((knots, values, -2.0, right, knots[1:3]))  # samples at knots
    knot = rng.uniform(-1, 1, 1)
    losses.append((knot, rng.uniform(-1, 1, 1), -0.6, 1.2, knot + rng.uniform(-2, 2, 3)))
    losses.append((knot, rng.uniform(-1, 1, 1), 0.6, -1.2, knot + rng.uniform(0.5, 2, 3)))
    cases = []
    for loss, eps in itertools.product(losses, (0.4, 3.0)):
        clean, gain, cost = public.escape_points(*loss)
        cases.append(((*loss, eps), clean + program(gain, cost, eps)))
    agree(ask, cases, "the value")


@public.broken_unbounded.hidden("the counterexample works for other constants c", points=2)
def _(ask: Callable, step: Any) -> None:
    public.judge_unbounded(ask, step, ask.rng.uniform((1.2, 4, 20), (1.8, 8, 50)).round(2))


@public.broken_local.hidden("the counterexample works for other radii", points=2)
def _(ask: Callable, step: Any) -> None:
    public.judge_local(ask, step, ask.rng.uniform((0.06, 0.4, 2.0), (0.09, 0.8, 5.0)).round(3))


# ------------------------------------------------------------------- answers in words

WRITTEN = [
    Written(
        "ex-c6-one-of-many",
        [
            (
                "1: (L/n) min(n^(1/p) eps, D) for p < infinity, (L/n) min(eps, D) for order "
                "infinity",
                1,
            ),
            (
                "1, the reason: L min(s^(1/p), D) is concave, its own hull, and the others gain "
                "nothing; so the first sample gets all the budget",
                1,
            ),
            (
                "2: rises up to n^(-1/p) D; the slope L n^(1/p-1) is free of n for p = 1 only. "
                "Both are needed",
                1,
            ),
            (
                "3: equal shares by concavity (Jensen), L min(eps, D) for every order",
                1,
            ),
            (
                "4: exact up to D / n = D / 10^4 only, an upper bound from there on",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-mixture",
        [
            (
                "2 and 3: 4/3 against 3/2, and 1/4 against 1/2; all four numbers",
                1,
            ),
            (
                "4: in 2 a sample may go to two points other than its own; in 3 the budget may "
                "flow unequally between samples. Both are needed; only “order 1 is larger” earns "
                "nothing",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-mean-or-max",
        [
            (
                "1: only samples of the largest slope move, k of them (all, or one), and with the "
                "share n / (k u) each, which is at most 1 for u >= n / k",
                1,
            ),
            (
                "1: the cost is at most eps, and the gain tends to eps max L_i: one point each",
                2,
            ),
            (
                "2: eps (1 - theta) (L_1 - L_2)",
                1,
            ),
            (
                "3: the mean growth is at most s, with equality at the distances, so the mixture "
                "gains eps (one point); the budget pays for the first sample, so V_1 = 1/n (one "
                "point)",
                2,
            ),
            (
                "4: the ratio is at most n + 1, with the reference or a proof",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-dear-flips",
        [
            (
                "1: log 3 + eps; the pair with the slope 2 has no label among the samples",
                1,
            ),
            (
                "2, lower bound: a mass eps / (kappa + D) gets the second label and goes to -D, or "
                "the third and goes to D (one point); the gain tends to 2 eps as D grows (one "
                "point)",
                2,
            ),
            (
                "2, upper bound: no secant is steeper than 2, with the label kept (one point), and "
                "with the label changed (one point)",
                2,
            ),
            (
                "3: the mass tends to zero and escapes to infinity; the label is paid for once",
                1,
            ),
            (
                "3: at order 2 the value tends to that for fixed labels, as the gain of flips has "
                "a bound that tends to zero, such as eps^2 / (2 kappa). Without a bound: nothing",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-three-slopes",
        [
            (
                "2: the graph shrinks about the origin, which keeps all slopes and moves the kinks "
                "against the samples. Numbers without this reason earn nothing",
                1,
            ),
            (
                "3: L_inf stays, and L_glob stays for t > 0 and may drop at t = 0",
                1,
            ),
            (
                "3: L_data tends to that of the loss without biases; the exception, a sample at 0, "
                "is not asked for",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-broken-unbounded",
        [
            (
                "the rays of a cell are those in the directions of its recession cone",
                1,
            ),
            (
                "u need not be one of them: the gradient may point across the cell, or out of it. "
                "Only “there is a counterexample” earns nothing",
                1,
            ),
            (
                "what is true: the largest gradient is an upper bound (step 2), or the maximum of "
                "<g, u> over the recession cone is right. One of the two is enough",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-broken-local",
        [
            (
                "step 2 is about inputs close to x_i: it gives a local maximizer",
                1,
            ),
            (
                "the supremum is over all inputs, and may be larger far away. Only “there is a "
                "counterexample” earns nothing",
                1,
            ),
            (
                "what is true: the bound with an upper bound of each supremum, such as one from a "
                "Lipschitz constant or the largest secant slope",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-masks",
        [
            (
                "2: with rank N every mask is that of a cell, as W x + b takes every value; so "
                "the largest gradient of a cell is the bound",
                1,
            ),
            (
                "2: in the box W x + b does not take every value, and cells may be missed",
                1,
            ),
        ],
    ),
    Written(
        "ex-c6-dlr",
        [
            (
                "2: then the numerator is the denominator, and the ratio is 1 nearby as well",
                1,
            ),
            (
                "3: the ratio is (3x + 1) / (2x)",
                1,
            ),
            (
                "3: the value is infinite, as a mass such as min(1, eps^p) may go to a small x; "
                "that its cost is at most eps^p has to be said",
                1,
            ),
        ],
    ),
]
