"""The exercises of chapter 6: what statements and solutions assert, and a few sentences."""

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook

from advreg import relu, wdro

FOLDER = "06_wdro"
checks = load_checks(FOLDER)
PREDICTED = {name: right for name, (right, _) in checks.SHRINKING.items()}


class TestChapter6(ExerciseSuite):
    folder = FOLDER
    least = 17


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


# ------------------------------------------------------------------ further answers of the checks

SCALED = [
    "robust_error",
    "worst_gain",
    "best_mixture",
    "worst_inputs",
    "label_value",
    "three_slopes",
    "slope_at_infinity",
    "mask_bound",
    "distance_to_error",
    "dlr_gradient",
    "first_order_value",
]
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
    assert len(bad) == (0 if type(step) is int and step == right else 3)
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
def test_wrong_predictions(predicted, words, answers):
    """The prediction is wrong, and so is its confirmation."""
    named = rejected(checks.three_slopes(answers["three_slopes"], predicted))
    assert len(named) == 2 and all(words in sentence for sentence in named)


@pytest.mark.parametrize("factor", [1 - 1e-5, 1 + 1e-5])
@pytest.mark.parametrize("name", SCALED)
def test_a_factor_is_seen(name, factor, answers):
    check = getattr(checks, name)

    def scaled(*args):
        return factor * np.asarray(answers[name](*args))

    assert rejected(check(scaled, *(answers[value] for value in check.values)))


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
    assert named and all(words in sentence for sentence in named)


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
    assert named and all(words in sentence for sentence in named)


@pytest.mark.parametrize("rows", [[[-4.0, 0.3, 0.0, 1.0]], [[4.0, 0.0, 1.0, 0.5]]])
def test_unbounded_cells_are_recognised(rows):
    """One neuron: two half-planes."""
    rows = np.array(rows)
    want = np.linalg.norm(rows[0, 0] * rows[0, 1:3])
    assert checks.steepest_unbounded(rows) == pytest.approx(want)


def test_the_tip_of_three_strips_is_bounded():
    """Three strips that cross: the cell where all rise is bounded, two of them are unbounded."""
    angle = np.arange(3) * np.pi / 3
    W = np.column_stack([np.cos(angle), np.sin(angle)])
    rise, stop = (
        np.column_stack([np.ones(3), W, np.zeros(3)]),
        np.column_stack([-np.ones(3), W, -np.ones(3)]),
    )
    assert checks.steepest_unbounded(np.vstack([rise, stop])) == pytest.approx(1.0)


# ----------------------------------------------------- what statements and solutions assert


def test_the_rates_of_the_knapsack(answers):
    r = np.array([0.1, 0.3, 0.6])
    rates = [answers["robust_error"](r, 0.2, p) for p in (1, 2, np.inf)]
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
    found = np.array([checks.by_faces(A, np.array([np.cos(v), np.sin(v)])) for v in phi])
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
            value = checks.program(gain[None], cost[None], eps)
            assert value == pytest.approx(2 * eps, rel=2e-4) and value <= 2 * eps * (1 + 1e-9)
        eps, flips = 1.0, slice(len(x), None)
        at_two = (gain[flips] * np.minimum(1, (eps / cost[flips]) ** 2)).max()
        assert at_two <= eps**2 / (2 * kappa) * (1 + 1e-9) or kappa < 2
    kept = checks.program(gain[None, : len(x)], np.abs(x)[None], 1.0)
    assert kept == pytest.approx(1.0, rel=1e-6)


def test_smaller_biases_keep_two_of_three_slopes(answers):
    rng = np.random.default_rng(5)
    moved = False
    for _ in range(20):
        a, w, b = rng.standard_normal((3, 6))
        x = rng.uniform(-2, 2, 3)
        one, half = (np.array(answers["three_slopes"](a, w, t * b, x)) for t in (1.0, 0.3))
        assert half[[0, 2]] == pytest.approx(one[[0, 2]], rel=1e-4)
        moved |= abs(half[1] - one[1]) > 0.1
        scaled = answers["three_slopes"](a, w, b, x / 0.3)[1]  # h_t(x) = t h(x / t)
        assert half[1] == pytest.approx(scaled, rel=1e-6)
    assert moved


def test_masks_of_full_rank_are_cells(answers):
    """N <= d and full rank: the Lipschitz constant is the mask bound; in a box it need not be."""
    rng = np.random.default_rng(6)
    for _ in range(5):
        W, a, b = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal(3)
        net = relu.Network((W, a[None]), (b, np.zeros(1)))
        assert relu.lipschitz(net, np.inf).lower == pytest.approx(answers["mask_bound"](a, W))
    net = relu.Network((np.eye(2), np.ones((1, 2))), (-5 * np.ones(2), np.zeros(1)))
    assert relu.lipschitz(net, 2, low=0.0, high=1.0).upper == pytest.approx(0)
    assert relu.mask_bound(net, 2) == pytest.approx(np.sqrt(2))


def test_the_ratio_blows_up_where_three_logits_meet():
    def ratio(x):
        return checks.dlr(np.array([x, 2 * x, 3 * x, -1.0]), 3)

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
        value = checks.program((h[keep] - 2.5)[None], np.abs(x[keep])[None], eps)
        assert value == pytest.approx(4.5 * eps, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_on_the_circle_finds_the_cells_of_random_nets(seed):
    """Two oracles of the checks against the library: unbounded cells, and growth far away."""
    rng = np.random.default_rng(seed)
    a, W, b = checks.plane_net(rng, 5)
    net = relu.Network((W, np.vstack([0 * a, a])), (b, np.zeros(2)))
    for norm in (1, 2, np.inf):
        want = relu.slope_at_infinity(net, norm, labels=[0])
        assert checks.far_growth(a, W, b, norm) == pytest.approx(want, rel=1e-6, abs=1e-9)
    rays = np.concatenate([W, -W])[:, ::-1] * [1, -1]
    longest = 0.0
    for on in relu.activations(relu.Network((W, a[None]), (b, np.zeros(1)))):
        side = np.where(on, 1.0, -1.0)
        if (((rays @ W.T) * side).min(axis=1) >= -1e-9).any():
            longest = max(longest, float(np.linalg.norm((on * a) @ W)))
    assert checks.steepest_unbounded(np.column_stack([a, W, b])) == pytest.approx(longest)


@pytest.mark.parametrize("seed", range(5))
def test_plans_that_split_one_sample_are_the_best(seed):
    """The oracle of the public checks against a linear program."""
    rng = np.random.default_rng(seed)
    gain, cost = rng.uniform(-0.5, 1, (4, 3)), rng.uniform(0, 1, (4, 3))
    cost[0, 0] = np.inf
    for budget in (0.05, 0.2, 2.0):
        want = checks.program(gain, cost, budget)
        assert checks.best_plan(gain, cost, budget) == pytest.approx(want)
