"""The exercises of chapter 6: right answers pass, every known wrong answer gets its sentence."""

import itertools

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook
from scipy import optimize

from advreg import relu, wdro

FOLDER = "06_wdro"
checks = load_checks(FOLDER)


# ------------------------------------------------------------- right answers, done differently


def error_library(r, eps, p):
    return wdro.knapsack(r, eps, p).value


def error_quantiles(r, eps, p):
    """The dual: a price per unit of cost, at each of the kinks."""
    if p == np.inf:
        return np.mean(r <= eps)
    prices = [0.0] + [t**-p for t in r if 0 < t < np.inf]
    cost = np.where(np.isinf(r), 1e300, r**p)
    return min(v * eps**p + np.maximum(1 - v * cost, 0).mean() for v in prices)


def gain_library(t, g, eps, p):
    points = [np.vstack([[0.0, 0.0], np.column_stack(rows)]) for rows in zip(t, g, strict=True)]
    return wdro.allocate(points, eps, p).value


def gain_greedy(t, g, eps, p):
    """Corners of the hulls, then the segments by decreasing slope."""
    segments = []
    for cost, gain in zip(t**p, g, strict=True):
        c, v = 0.0, 0.0
        while len(cost):
            ratio = (gain - v) / (cost - c)
            k = ratio.argmax()
            if ratio[k] <= 0:
                break
            segments.append((ratio[k], cost[k] - c))
            c, v, cost, gain = cost[k], gain[k], cost[k + 1 :], gain[k + 1 :]
    left, total = len(t) * eps**p, 0.0
    for slope, width in sorted(segments, reverse=True):
        part = min(width, left)
        total, left = total + slope * part, left - part
    return total / len(t)


def mixture_library(t, g, eps, p):
    def growth(s):
        return np.where(t <= s * (1 + 1e-12), g, 0).max(axis=1)

    return wdro.mixture_attack(growth, eps, p, factors=np.maximum(t.ravel() / eps, 1)).value


def mixture_sorted(t, g, eps, p):
    best = 0.0
    for s in sorted({eps, *t[t > eps]}):
        growth = [
            max((b for a, b in zip(*rows, strict=True) if a <= s), default=0)
            for rows in zip(t, g, strict=True)
        ]
        best = max(best, s**-p * sum(growth))
    return best * eps**p / len(t)


def mixture_factors(t, g, eps, p):
    factors = [1.0, *(u for u in t.ravel() / eps if u > 1)]
    return max(u**-p * np.where(t <= u * eps, g, 0).max(axis=1).mean() for u in factors)


def inputs_ascent(X, y, w, b, eps):
    """Repeat: the best linear step on the sphere of lengths; the fixed point is the maximum."""
    r = y - X @ w - b
    side = np.where(r < 0, 1.0, -1.0)
    size = np.abs(r) + 1e-13
    length = np.full(len(r), eps)
    for _ in range(300):
        gradient = size + length * np.abs(w).sum()
        length = eps * gradient / np.sqrt(np.mean(gradient**2))
    return X + np.outer(length * side, np.sign(w))


def label_library(m, norm, eps, kappa):
    X = (m / norm)[:, None]
    return wdro.linear_value(
        [norm], 0.0, X, np.ones(len(m)), eps, 1, 2, loss="logistic", label_cost=kappa
    )


def label_dual(m, norm, eps, kappa):
    """A convex function of the multiplier."""

    def dual(lam):
        return lam * eps + np.maximum(np.logaddexp(0, -m), np.logaddexp(0, m) - lam * kappa).mean()

    top = norm + m.max() / kappa + 1
    found = optimize.minimize_scalar(
        dual, bounds=(norm, top), method="bounded", options={"xatol": 1e-12}
    )
    return min(found.fun, dual(norm))


def slopes_at_kinks(a, w, b, x):
    def h(t):
        return np.maximum(np.multiply.outer(t, w) + b, 0) @ a

    far = 1e6
    points = np.concatenate([-b / w, [-far, far]])
    ends = max(
        h(np.array([far]))[0] - h(np.array([far - 1]))[0],
        h(np.array([-far]))[0] - h(np.array([1 - far]))[0],
        0,
    )
    rise, run = h(points) - h(x)[:, None], np.abs(points - x[:, None])
    order = np.unique(points)
    return (
        ends,
        max((rise[run > 0] / run[run > 0]).max(), ends),
        np.abs(np.diff(h(order)) / np.diff(order)).max(),
    )


def far_library(a, W, b, norm):
    net = relu.Network((W, np.vstack([0 * a, a])), (b, np.zeros(2)))
    return relu.slope_at_infinity(net, norm, labels=[0])


def far_sectors(a, W, b, norm):
    """Sector by sector, the recession slope as a small linear program or a projection."""
    best = 0.0
    for signs in itertools.product((0, 1), repeat=len(a)):
        side = 2 * np.array(signs) - 1
        g = (signs * a) @ W
        if norm == 2:
            best = max(best, optimize.nnls(-(W * side[:, None]).T, g)[1])
            continue
        d = 2
        if norm == np.inf:
            bounds, extra = [(-1, 1)] * d, np.zeros((0, d))
        else:
            bounds, extra = [(None, None)] * d, np.array(list(itertools.product((-1, 1), repeat=d)))
        found = optimize.linprog(
            -g,
            A_ub=np.vstack([-(W * side[:, None]), extra]),
            b_ub=np.append(np.zeros(len(a)), np.ones(len(extra))),
            bounds=bounds,
        )
        best = max(best, -found.fun)
    return best


def cone_program(A, g):
    """Maximize <g, u> over the cone and the ball, by a minimizer."""
    found = optimize.minimize(
        lambda u: ((u - g) ** 2).sum(),
        np.zeros(len(g)),
        jac=lambda u: 2 * (u - g),
        constraints={"type": "ineq", "fun": lambda u: -A @ u, "jac": lambda u: -A},
        options={"ftol": 1e-15, "maxiter": 500},
        method="SLSQP",
    )
    return float(np.linalg.norm(found.x))


def cone_ball(A, g):
    """As stated, with the solver's default tolerances."""
    limits = (lambda u: -A @ u, lambda u: 1 - u @ u)
    found = optimize.minimize(
        lambda u: -g @ u,
        np.zeros(len(g)),
        constraints=[{"type": "ineq", "fun": f} for f in limits],
    )
    return -found.fun


def cone_dykstra(A, g):
    """Alternating projections onto the half-spaces, with Dykstra's corrections."""
    u, corrections = g.copy(), np.zeros_like(A)
    for _ in range(1500):
        for k, row in enumerate(A):
            v = u + corrections[k]
            u = v - max(row @ v, 0) / (row @ row) * row
            corrections[k] = v - u
    return float(np.linalg.norm(u))


def masks_library(a, W):
    net = relu.Network((W, np.vstack([0 * a, a])), (0 * a, np.zeros(2)))
    return relu.mask_bound(net, np.inf, pairs=[(1, 0)])


def masks_both_signs(a, W):
    """By symmetry half of the sign vectors decide: the parts of both signs differ by a constant."""
    V = a[:, None] * W
    best = 0.0
    for u in itertools.product((-1, 1), repeat=W.shape[1]):
        t = V @ np.array(u)
        best = max(best, (t.sum() + np.abs(t).sum()) / 2)
    return best


def distance_walk(knots, values, left, right, x, y):
    """From knot to knot, to the right and, in the mirror, to the left."""

    def walk(k, v, before, after, x):
        at, f = x, y * checks._line(k, v, before, after, x)
        if f <= 0:
            return 0.0
        for s, t in zip(k[k > x], y * v[k > x], strict=True):
            if t <= 0:
                return float(at + (s - at) * f / (f - t) - x)
            at, f = s, t
        return float(at - x - f / (y * after)) if y * after < 0 else np.inf

    mirrored = walk(-knots[::-1], values[::-1], -right, -left, -x)
    return min(walk(knots, values, left, right, x), mirrored)


def distance_array(*line):
    """As `np.where` returns it, also where it is infinite: an array without axes."""
    return np.array(distance_walk(*line))


def ratio_cases(z, J, y):
    """The three formulas of the text, by the rank of the label."""
    i, j, k = np.argsort(-z)[:3]
    B, r = z[i] - z[k], (z[i] - z[j]) / (z[i] - z[k])
    step = ((1 - r) * (J[i] - J[j]) + r * (J[k] - J[j])) / B
    if y in (i, j):
        return -step if y == i else step
    if y == k:
        return 0 * step
    rho = (z[i] - z[y]) / B
    return ((J[k] - J[y]) - (rho - 1) * (J[i] - J[k])) / B


def ratio_complex(z, J, y):
    """A derivative by complex steps: no subtraction of nearby numbers."""
    out = []
    for column in J.T:
        w = z + 1e-30j * column
        w = w[np.argsort(-z)]
        label = int(np.flatnonzero(np.argsort(-z) == y)[0])
        rival = 1 if label == 0 else 0
        out.append(((w[rival] - w[label]) / (w[0] - w[2])).imag / 1e-30)
    return np.array(out)


def value_library(knots, values, left, right, x, eps):
    clean = checks._line(knots, values, left, right, x)
    points = [
        np.vstack([[0.0, 0.0], np.column_stack([np.abs(knots - t), values - v])])
        for t, v in zip(x, clean, strict=True)
    ]
    rate = max(-left, right, 0.0)
    return clean.mean() + wdro.allocate(points, eps, 1, slopes=np.full(len(x), rate)).value


def strips_tilted(c):
    return np.array([[-c, 0.6, 0.8, 0.0], [c, 0.6, 0.8, -3.0]])


def falls_without_end(c):
    return np.array([[-c, 1.0, 0.0, 0.0]])


def plateau(eps):
    return [[20.0, 1.0, -0.05], [-20.0, 1.0, -1.05]] if eps < 1 else [[50.0, -1.0, -2.0]]


def late_ramp(eps):
    """The slope 2 is reached in the limit only."""
    return [[2.0, 1.0, -100.0]]


PREDICTED = {name: right for name, (right, _) in checks.SHRINKING.items()}

# name of the check -> (the notebook's further answers, other right answers)
RIGHT = {
    "robust_error": ((), [error_library, error_quantiles]),
    "worst_gain": ((), [gain_library, gain_greedy]),
    "best_mixture": ((), [mixture_library, mixture_sorted, mixture_factors]),
    "worst_inputs": ((), [inputs_ascent]),
    "label_value": ((), [label_library, label_dual]),
    "three_slopes": ((PREDICTED,), [slopes_at_kinks]),
    "slope_at_infinity": ((), [far_library, far_sectors]),
    "recession_slope": ((), [cone_program, cone_ball, cone_dykstra]),
    "mask_bound": ((), [masks_library, masks_both_signs]),
    "distance_to_error": ((), [distance_walk, distance_array]),
    "dlr_gradient": ((), [ratio_cases, ratio_complex]),
    "first_order_value": ((), [value_library]),
    "broken_unbounded": ((4,), [strips_tilted, falls_without_end]),
    "broken_local": ((3,), [plateau, late_ramp]),
}


class TestChapter6(ExerciseSuite):
    folder = FOLDER
    right = RIGHT
    allowed = {"three_slopes": 1, "broken_unbounded": 1, "broken_local": 1}  # noqa: RUF012
    least = 17


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


# ------------------------------------------------------------------ further answers of the checks

STEPS = [1, 2, 3, 4, 5, 0, 6, -1, 3.0, "3", None, True, [3]]


@pytest.mark.parametrize(
    ("name", "function", "right"),
    [
        ("broken_unbounded", "unbounded_counterexample", 4),
        ("broken_local", "local_counterexample", 3),
    ],
)
@pytest.mark.parametrize("step", STEPS)
def test_the_step_of_a_broken_proof(name, function, right, step, answers):
    bad = rejected(getattr(checks, name)(answers[function], step))
    assert (bad == []) == (type(step) is int and step == right)
    if type(step) is int and 1 <= step <= 5 and step != right:
        assert f"Step {step}" in bad[0]


@pytest.mark.parametrize(
    ("predicted", "words"),
    [
        ({**PREDICTED, name: "changes" if right == "same" else "same"}, why)
        for name, (right, why) in checks.SHRINKING.items()
    ]
    + [
        ({"L_inf": "same"}, "keys"),
        ({**PREDICTED, "L_inf": "grows"}, "'same' or 'changes'"),
        ({**PREDICTED, "L_inf": np.array([1, 2])}, "'same' or 'changes'"),
        (["same"] * 3, "dict"),
        (None, "dict"),
    ],
)
def test_wrong_predictions(predicted, words):
    named = rejected(checks.three_slopes(slopes_at_kinks, predicted))
    assert len(named) == 1 and words in named[0]


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_a_factor_is_seen(factor, answers):
    for name in RIGHT:
        if name.startswith("broken"):
            continue
        right, further = answers[name], RIGHT[name][0]

        def scaled(*args, f=right):
            return factor * np.asarray(f(*args))

        assert rejected(getattr(checks, name)(scaled, *further)), name


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda c: np.ones((21, 4)), "1 and 20"),
        (lambda c: np.empty((0, 4)), "1 and 20"),
        (lambda c: [[101.0, 1.0, 0.0, 0.0]], "between -100 and 100"),
        (lambda c: np.ones((2, 3)), "shape"),
        (lambda c: [[1.0, 1.0, 0.0, 0.0]], "longest gradient"),
        (lambda c: [[c, 1.0, 0.0, 0.0], [-c / 2, 1.0, 0.0, -1.0]], "still grows"),
        (lambda c: [[5.0, 0.0, 0.0, 1.0]], "longest gradient"),  # a constant
    ],
)
def test_answers_that_are_no_counterexamples(rows, words):
    named = rejected(checks.broken_unbounded(rows, 4))
    assert len(named) == 1 and words in named[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda eps: [[5.0, 1.0, 0.0]], "kink at 0"),
        (lambda eps: [[1.5, 1.0, 3.0]], "derivative"),
        (lambda eps: [[0.5, 1.0, 3.0]], "less than twice"),
        (lambda eps: [[-3.0, 1.0, -1.0]], "less than twice"),
        (lambda eps: [[1.0, 0.0, 1.0]], "less than twice"),
    ],
)
def test_answers_that_are_no_local_counterexamples(rows, words):
    named = rejected(checks.broken_local(rows, 3))
    assert len(named) == 1 and words in named[0]


@pytest.mark.parametrize("rows", [[[-4.0, 0.3, 0.0, 1.0]], [[4.0, 0.0, 1.0, 0.5]]])
def test_unbounded_cells_are_recognised(rows):
    """One neuron: two half-planes."""
    rows = np.array(rows)
    want = np.linalg.norm(rows[0, 0] * rows[0, 1:3])
    assert checks._steepest_unbounded(rows) == pytest.approx(want)


def test_the_tip_of_three_strips_is_bounded():
    """Three strips that cross: the cell where all rise is bounded, two of them are unbounded."""
    angle = np.arange(3) * np.pi / 3
    W = np.column_stack([np.cos(angle), np.sin(angle)])
    rise, stop = (
        np.column_stack([np.ones(3), W, np.zeros(3)]),
        np.column_stack([-np.ones(3), W, -np.ones(3)]),
    )
    assert checks._steepest_unbounded(np.vstack([rise, stop])) == pytest.approx(1.0)


# ----------------------------------------------------- what statements and solutions assert


def test_the_rates_of_the_knapsack():
    r = np.array([0.1, 0.3, 0.6])
    rates = [error_quantiles(r, 0.2, p) for p in (1, 2, np.inf)]
    assert rates == pytest.approx([7 / 9, 37 / 54, 1 / 3])


@pytest.mark.parametrize("p", [1, 1.5, 2, 4])
def test_one_sample_among_many(p):
    """Growth L min(s, D) of one sample on a fine grid, or of all."""
    L, D, n = 3.0, 2.0, 10
    s = np.linspace(0, D, 2001)
    rich, poor = np.column_stack([s, L * s]), np.zeros((0, 2))
    for eps in (0.01, 0.1, 0.6, 1.5, 2.5):
        alone = wdro.allocate([rich] + [poor] * (n - 1), eps, p).value
        assert alone == pytest.approx(L / n * min(n ** (1 / p) * eps, D), rel=1e-3)
        assert wdro.allocate([rich] * n, eps, p).value == pytest.approx(L * min(eps, D), rel=1e-3)


def test_two_steps_and_two_samples(answers):
    t, g = np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]])
    assert answers["best_mixture"](t, g, 2.0, 1) == pytest.approx(4 / 3)
    assert answers["worst_gain"](t, g, 2.0, 1) == pytest.approx(3 / 2)
    t, g = np.array([[0.1], [1.0]]), np.ones((2, 1))
    assert answers["best_mixture"](t, g, 0.05, 1) == pytest.approx(0.25)
    assert answers["worst_gain"](t, g, 0.05, 1) == pytest.approx(0.5)


def test_mixtures_lie_between(answers):
    rng = np.random.default_rng(3)
    for p in (1, 2, 3):
        t = np.cumsum(rng.uniform(0.1, 0.9, (5, 4)), axis=1)
        g = np.cumsum(rng.uniform(0.1, 0.9, (5, 4)), axis=1)
        for eps in (0.05, 0.3, 1.0, 3.0):
            plain = np.where(t <= eps, g, 0).max(axis=1).mean()
            mixed, worst = (answers[f](t, g, eps, p) for f in ("best_mixture", "worst_gain"))
            assert plain <= mixed <= worst * (1 + 1e-12)


def test_the_mean_or_the_largest():
    """Hinges of a line with slopes 3 (one sample of four) and 1."""
    slopes, eps = np.array([3.0, 1.0, 1.0, 1.0]), 0.4
    common = [np.mean(np.maximum(slopes * u * eps - 1, 0)) / u for u in (10, 1e3, 1e5)]
    assert np.all(np.diff(common) > 0) and common[-1] == pytest.approx(eps * 1.5, rel=1e-4)
    chosen = 4 / 1e5 * max(3 * 1e5 * eps - 1, 0) / 4
    assert chosen == pytest.approx(eps * 3, rel=1e-4)
    assert chosen - common[-1] == pytest.approx(eps * 0.75 * (3 - 1), rel=1e-3)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_mixture_may_lose_all_but_one_nth(n, answers):
    t, g = np.arange(1, n + 1)[:, None] / n, np.ones((n, 1))
    assert answers["best_mixture"](t, g, 1 / n**2, 1) == pytest.approx(1 / n**2)
    assert answers["worst_gain"](t, g, 1 / n**2, 1) == pytest.approx(1 / n)


@pytest.mark.parametrize("angle", [0.3, 1.2, 2.5])
def test_shares_of_directions(angle):
    """A sector of the given angle: where the recession slope is the norm, and where it is zero."""
    A = np.array([[0.0, -1.0], [-np.sin(angle), np.cos(angle)]])
    phi = (np.arange(4000) + 0.5) * 2 * np.pi / 4000
    found = np.array([checks._by_faces(A, np.array([np.cos(v), np.sin(v)])) for v in phi])
    assert np.mean(found > 1 - 1e-9) == pytest.approx(angle / (2 * np.pi), abs=1e-3)
    assert np.mean(found < 1e-9) == pytest.approx((np.pi - angle) / (2 * np.pi), abs=1e-3)


def test_equal_residuals_make_orders_two_and_infinity_agree():
    X, w = np.random.default_rng(4).standard_normal((6, 3)), np.array([1.0, -2.0, 0.5])
    signs = np.array([1, -1, 1, 1, -1, -1])
    for size, equal in ((np.full(6, 0.7), True), (np.linspace(0.1, 1, 6), False)):
        y = X @ w + signs * size
        two, inf = (wdro.linear_value(w, 0.0, X, y, 0.3, p, np.inf, "squared") for p in (2, np.inf))
        assert (two == pytest.approx(inf, rel=1e-12)) == equal


def test_a_flip_is_never_too_dear():
    """Masses by a linear program: with far points the gain is 2 eps for every label cost."""

    def loss(x, label):
        logits = np.array([0 * x, x, -x])
        return np.logaddexp.reduce(logits) - logits[label]

    x = np.concatenate(
        [np.linspace(-5, 5, 201), -np.geomspace(6, 1e9, 60), np.geomspace(6, 1e9, 60)]
    )
    gain = np.concatenate([loss(x, label) for label in range(3)]) - np.log(3)
    for kappa in (0.5, 10.0, 1e4):
        cost = np.concatenate([np.abs(x) + kappa * (label > 0) for label in range(3)])
        for eps in (0.01, 1.0, 20.0):
            value = checks._program(gain[None], cost[None], eps)
            assert value == pytest.approx(2 * eps, rel=2e-4) and value <= 2 * eps * (1 + 1e-9)
        eps, flips = 1.0, slice(len(x), None)
        at_two = (gain[flips] * np.minimum(1, (eps / cost[flips]) ** 2)).max()
        assert at_two <= eps**2 / (2 * kappa) * (1 + 1e-9) or kappa < 2
    kept = checks._program(gain[None, : len(x)], np.abs(x)[None], 1.0)
    assert kept == pytest.approx(1.0, rel=1e-6)


def test_smaller_biases_keep_two_of_three_slopes():
    rng = np.random.default_rng(5)
    moved = False
    for _ in range(20):
        a, w, b = rng.standard_normal((3, 6))
        x = rng.uniform(-2, 2, 3)
        one, half = (np.array(slopes_at_kinks(a, w, t * b, x)) for t in (1.0, 0.3))
        assert half[[0, 2]] == pytest.approx(one[[0, 2]], rel=1e-4)
        moved |= abs(half[1] - one[1]) > 0.1
        scaled = slopes_at_kinks(a, w, b, x / 0.3)[1]  # h_t(x) = t h(x / t)
        assert half[1] == pytest.approx(scaled, rel=1e-6)
    assert moved


def test_masks_of_full_rank_are_cells():
    """N <= d and full rank: the Lipschitz constant is the mask bound; in a box it need not be."""
    rng = np.random.default_rng(6)
    for _ in range(5):
        W, a, b = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal(3)
        net = relu.Network((W, a[None]), (b, np.zeros(1)))
        assert relu.lipschitz(net, np.inf).lower == pytest.approx(masks_both_signs(a, W))
    net = relu.Network((np.eye(2), np.ones((1, 2))), (-5 * np.ones(2), np.zeros(1)))
    assert relu.lipschitz(net, 2, low=0.0, high=1.0).upper == pytest.approx(0)
    assert relu.mask_bound(net, 2) == pytest.approx(np.sqrt(2))


def test_the_ratio_blows_up_where_three_logits_meet():
    def ratio(x):
        return checks._dlr(np.array([x, 2 * x, 3 * x, -1.0]), 3)

    for x in (1.0, 0.1, 1e-3, 1e-6):
        assert ratio(x) == pytest.approx((3 * x + 1) / (2 * x), rel=1e-6)
    assert ratio(1.0) == pytest.approx(2.0)


def test_the_figure_of_the_last_exercise(answers):
    """Slopes 13/4 up to 2, 17/6 up to 5, then 1."""
    knots, values, x = np.array([0.0, 1.0, 4.0]), np.array([0.0, 1.0, 13.0]), np.array([-2.0, 0.0])

    def curve(eps):
        return answers["first_order_value"](knots, values, 2.0, 1.0, x, eps)

    assert curve(2.0) == pytest.approx(-2 + 6.5) and curve(1.0) == pytest.approx(-2 + 3.25)
    assert curve(5.0) == pytest.approx(4.5 + 8.5) and curve(3.5) == pytest.approx(4.5 + 4.25)
    assert curve(9.0) == pytest.approx(13 + 4) and curve(50.0) == pytest.approx(13 + 45)


def test_the_certificate_of_local_ascent_is_wrong():
    """The local counterexample: every chord has a slope below 4.5, and the value is 4.5 eps."""
    x = np.concatenate([np.linspace(-50, 50, 2001), np.geomspace(60, 1e7, 50)])
    h = 0.5 * np.maximum(x + 5, 0) + 4 * np.maximum(x - 1, 0)
    for eps in (0.1, 1.0, 3.0):
        keep = x != 0
        value = checks._program((h[keep] - 2.5)[None], np.abs(x[keep])[None], eps)
        assert value == pytest.approx(4.5 * eps, rel=1e-4)
