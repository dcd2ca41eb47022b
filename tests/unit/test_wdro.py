"""Wasserstein robust values: growth form and formulas against linear programs and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linprog, minimize_scalar

from advreg import linear, wdro

NORMS = [1, 2, np.inf]
ORDERS = [1, 1.5, 2, 4, np.inf]
FINITE = ORDERS[:-1]


def program(lists, radius, p, slopes=None):
    """V_p - E as a linear program over plans on the given points, and the price of the budget.

    One variable per sample and point, and one per sample for the cost that escapes.
    """
    n = len(lists)
    rows = [np.vstack([[0.0, 0.0], np.reshape(r, (-1, 2))]) for r in lists]
    sample = np.repeat(np.arange(n), [len(r) for r in rows])
    points = np.vstack(rows)
    gain, cost = points[:, 1], points[:, 0] ** p
    if slopes is not None:
        gain, cost = np.append(gain, slopes), np.append(cost, np.ones(n))
    equal = np.zeros((n, gain.size))
    equal[sample, np.arange(sample.size)] = 1
    answer = linprog(
        -gain, A_ub=cost[None], b_ub=[radius**p], A_eq=equal, b_eq=np.full(n, 1 / n), method="highs"
    )
    assert answer.status == 0
    return -answer.fun, -answer.ineqlin.marginals[0]


def audit(lists, radius, p, answer, slopes=None):
    """The atoms are a distribution within the radius that has the value."""
    n, atoms = len(lists), answer.atoms
    assert_allclose(np.bincount(atoms.sample, atoms.mass, minlength=n), 1 / n, rtol=1e-14)
    assert (atoms.mass >= 0).all()
    there = np.isfinite(atoms.distance)
    assert atoms.mass[~there].sum() == 0 and (~there).sum() == (answer.escaping > 0)
    value = 0.0
    for i, k, d, mass in zip(*(a[there] for a in atoms), strict=True):
        distance, gain = lists[i][k] if k >= 0 else (0.0, 0.0)
        assert d == distance
        value += mass * gain
    if answer.escaping:
        value += answer.escaping * slopes[atoms.sample[~there][0]]
    assert value == pytest.approx(answer.value, rel=1e-12, abs=1e-14)
    if p == np.inf:
        assert len(atoms.mass) == n and atoms.distance.max() <= radius
        return
    spent = (atoms.mass * np.where(there, atoms.distance, 0.0) ** p).sum() + answer.escaping
    assert spent <= radius**p * (1 + 1e-12)
    assert answer.shares.sum() == pytest.approx(spent, rel=1e-12)
    assert there.sum() <= n + 1  # at most one sample is split


def grid_problem(loss, rng, n=4):
    """Samples and a loss on a grid of the line: lists of (distance, gain)."""
    grid = np.linspace(-3, 3, 61)
    values = {
        "sine": np.sin(2 * grid) + 0.3 * grid,
        "jump": (grid > 0.4) * 1.0 + 0.5 * (grid < -1.7),
        "kinks": np.abs(np.abs(grid) - 1) - 2 * np.maximum(grid - 2, 0),
        "noise": rng.standard_normal(grid.size),
    }[loss]
    at = rng.integers(0, grid.size, n)
    at[-1] = at[0]  # a duplicate
    return [np.column_stack([np.abs(grid - grid[i]), values - values[i]]) for i in at]


# ------------------------------------------------------------------------------- growth form


@pytest.mark.parametrize("loss", ["sine", "jump", "kinks", "noise"])
@pytest.mark.parametrize("p", FINITE)
def test_allocation_is_the_linear_program_and_the_dual_is_above_it(loss, p):
    rng = np.random.default_rng(1)
    for radius in (0.02, 0.3, 1.0, 7.0):
        lists = grid_problem(loss, rng)
        answer = wdro.allocate(lists, radius, p)
        value, price = program(lists, radius, p)
        assert answer.value == pytest.approx(value, abs=1e-9)
        audit(lists, radius, p, answer)

        def suprema(multiplier, lists=lists):
            return np.mean([(r[:, 1] - multiplier * r[:, 0] ** p).max() for r in lists])

        bound = wdro.dual_value(suprema, radius, p)
        assert bound.value >= answer.value - 1e-13
        assert bound.value == pytest.approx(value, abs=1e-9)
        # the price of the budget is a best multiplier too, up to the solver's accuracy
        assert price * radius**p + suprema(price) == pytest.approx(value, abs=1e-6)
        assert bound.value == bound.multiplier * radius**p + suprema(bound.multiplier)


@pytest.mark.parametrize("p", FINITE)
def test_allocation_with_escaping_mass_is_the_linear_program(p):
    rng = np.random.default_rng(2)
    escaped = 0
    for radius in (0.05, 0.5, 2.0, 20.0):
        lists, slopes = grid_problem("sine", rng), rng.uniform(-0.5, 0.5, 4)
        answer = wdro.allocate(lists, radius, p, slopes)
        kept = np.maximum(slopes, 0)
        assert answer.value == pytest.approx(program(lists, radius, p, kept)[0], abs=1e-8)
        audit(lists, radius, p, answer, kept)
        escaped += answer.escaping > 0
        if not answer.escaping:
            continue
        # the same value by a distribution whose escaping mass is small but there
        far = radius * 1e3
        i = answer.atoms.sample[-1]
        lists[i] = np.vstack([lists[i], [far, kept[i] * far**p]])
        near = wdro.allocate(lists, radius, p)
        assert near.escaping == 0
        assert near.value <= answer.value + 1e-12
        assert near.value == pytest.approx(answer.value, rel=0.05)
    assert escaped >= 2


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.integers(-2, 6)), max_size=7),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 9.0]),
    st.sampled_from([1, 2, 3]),
)
@settings(max_examples=80)
def test_allocation_of_points_with_ties_duplicates_and_empty_lists(lists, radius, p):
    lists = [np.array(rows, dtype=float).reshape(-1, 2) for rows in lists]
    answer = wdro.allocate(lists, radius, p)
    assert answer.value == pytest.approx(program(lists, radius, p)[0], abs=1e-8)
    audit(lists, radius, p, answer)
    shuffled = [rows[::-1] for rows in lists]
    assert wdro.allocate(shuffled, radius, p).value == pytest.approx(answer.value, abs=1e-13)
    pointwise = wdro.allocate(lists, radius, np.inf)
    audit(lists, radius, np.inf, pointwise)
    best = [max([0.0, *(g for d, g in rows if d <= radius)]) for rows in lists]
    assert pointwise.value == pytest.approx(np.mean(best))
    values = [wdro.allocate(lists, radius, q).value for q in (1, p, 5, np.inf)]
    assert (np.diff(values) <= 1e-13).all()  # V_1 >= V_p >= V_5 >= V_inf


def test_one_sample_against_all_mixtures_of_two_points():
    rng = np.random.default_rng(3)
    for p, radius in itertools.product(FINITE, (0.2, 0.7, 1.5)):
        rows = np.vstack([np.zeros(2), rng.uniform(0, 2, (12, 2))])
        best = 0.0
        for (d, g), (e, h) in itertools.permutations(rows, 2):
            if d <= radius:
                share = 1.0 if e <= radius else (radius**p - d**p) / (e**p - d**p)
                best = max(best, (1 - share) * g + share * h)
        assert wdro.allocate([rows], radius, p).value == pytest.approx(best, abs=1e-12)


def test_two_samples_against_all_splits_of_the_budget():
    rng = np.random.default_rng(4)
    for p, radius in itertools.product(FINITE, (0.3, 0.8)):
        lists = [rng.uniform(0, 2, (6, 2)) for _ in range(2)]
        value = wdro.allocate(lists, radius, p).value
        splits = [
            sum(
                wdro.allocate([rows], (2 * share * radius**p) ** (1 / p), p).value / 2
                for rows, share in zip(lists, (s, 1 - s), strict=True)
            )
            for s in np.linspace(0, 1, 201)
        ]
        assert max(splits) <= value + 1e-12
        assert max(splits) == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("p", ORDERS)
def test_scaling_distances_and_gains(p):
    rng = np.random.default_rng(5)
    lists = [rng.uniform(0, 2, (9, 2)) for _ in range(5)]
    slopes = None if p == np.inf else rng.uniform(0, 1, 5)
    for a, b in [(1e-8, 1e5), (3.0, 0.1), (1e6, 1.0)]:
        scaled = [rows * [a, b] for rows in lists]
        rates = None if slopes is None else slopes * b / a**p
        value = wdro.allocate(lists, 0.7, p, slopes).value
        assert wdro.allocate(scaled, 0.7 * a, p, rates).value == pytest.approx(b * value, rel=1e-11)


@pytest.mark.parametrize("p", ORDERS)
def test_curve_is_allocate_at_every_radius(p):
    rng = np.random.default_rng(6)
    lists = [rng.uniform(0, 2, (9, 2)) for _ in range(5)] + [np.zeros((0, 2))]
    lists[0][0] = [0.0, 0.3]  # a jump at the datum
    radii = np.array([[0.0, 0.01, 0.3], [1.0, 2.0, 5.0]])
    for slopes in (None, np.array([0.1, 0.3, 0, 0, 0.2, -1.0])):
        if p == np.inf and slopes is not None:
            continue
        values = wdro.curve(lists, radii, p, slopes)
        expected = [[wdro.allocate(lists, r, p, slopes).value for r in row] for row in radii]
        assert_allclose(values, expected, rtol=1e-12)
        if p < np.inf:
            steps = np.linspace(0.001, 4, 50)
            inside = wdro.curve(lists, steps ** (1 / p), p, slopes)
            assert (np.diff(inside, 2) < 1e-12).all() and (np.diff(inside) > -1e-12).all()
    assert wdro.curve(lists, 0.0, p) == pytest.approx(0.05)
    assert wdro.curve(lists, [], p).shape == (0,)


def test_a_high_order_neither_overflows_nor_makes_moves_free():
    rows = [np.array([[1e-3, 1.0], [0.5, 2.0], [2.0, 100.0]])]
    for p in (60.0, 400.0, 3000.0):
        assert wdro.allocate(rows, 1.0, p).value == pytest.approx(2.0, abs=1e-12)
    assert wdro.allocate(rows, 1e-4, 400.0).value < 1e-300
    assert wdro.allocate(rows, 0.0, 400.0).value == 0.0


def test_nothing_to_gain():
    for p in ORDERS:
        answer = wdro.allocate([[], np.array([[1.0, -3.0]]), np.zeros((0, 2))], 2.0, p)
        assert answer.value == 0 and answer.escaping == 0 and not answer.shares.any()
        assert (answer.atoms.point == -1).all() and len(answer.atoms.mass) == 3


# ------------------------------------------------------------------------------- worked examples


def test_three_slopes_of_one_function():
    """h = relu(x) - 2 relu(-x) + 3 relu(x - 1) - 3 relu(x - 4), datum 0: slopes 4, 3.25, 1."""

    def h(x):
        relu = lambda t: np.maximum(t, 0)  # noqa: E731
        return relu(x) - 2 * relu(-x) + 3 * relu(x - 1) - 3 * relu(x - 4)

    x = np.array([-5.0, 0.0, 1.0, 4.0])  # all kinks
    points, slopes = [np.column_stack([np.abs(x), h(x)])], [1.0]
    radii = np.array([2.0, 4.0, 10.0])
    assert_allclose(wdro.curve(points, radii, 1, slopes), [6.5, 13, 19])
    answer = wdro.allocate(points, 10.0, 1, slopes)
    assert answer.escaping == pytest.approx(6.0) and answer.atoms.distance[-1] == np.inf
    # the dual by brute force on a long grid; below the slope at infinity it is infinite
    line = np.linspace(-50, 1000, 10501)

    def suprema(multiplier):
        return np.inf if multiplier < 1 else (h(line) - multiplier * np.abs(line)).max()

    for radius, value in zip(radii, [6.5, 13, 19], strict=True):
        assert wdro.dual_value(suprema, radius, 1).value == pytest.approx(value, rel=1e-9)
        bound = wdro.dual_value(suprema, radius, 1, least=1.0)
        assert bound.value == pytest.approx(value, rel=1e-9)
    assert bound.multiplier == pytest.approx(1.0)


def test_knapsack_by_hand():
    assert [wdro.knapsack([0.5], 0.1, p).value for p in (1, 2, np.inf)] == pytest.approx(
        [0.2, 0.04, 0.0]
    )
    values = [wdro.knapsack([0.6, 0.1, 0.3], 0.2, p).value for p in (1, 2, np.inf)]
    # p = 2: budget .12, .01 + .09 leave .02 of .36
    assert values == pytest.approx([7 / 9, (2 + 0.02 / 0.36) / 3, 1 / 3])
    assert wdro.knapsack([0.1, 1.0], 0.05, 1).value == pytest.approx(0.5)
    # every sample certified at .2, and still 1/2 of them wrong
    assert wdro.knapsack(np.full(8, 0.2), 0.1, 1).value == pytest.approx(0.5)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("label_cost", [np.inf, 0.3, 0.0])
def test_knapsack_is_a_linear_program(p, label_cost):
    rng = np.random.default_rng(7)
    for radius in (0.0, 0.1, 0.4, 3.0):
        r = np.round(rng.uniform(0, 1, 9), 1)
        r[:3] = 0.0, np.inf, 0.4
        answer = wdro.knapsack(r, radius, p, label_cost=label_cost)
        d = np.minimum(r, label_cost)
        lists = [[[x, 1.0]] if x < np.inf else [] for x in d]
        if p == np.inf:
            assert answer.value == pytest.approx((d <= radius).mean())
        else:
            assert answer.value == pytest.approx(program(lists, radius, p)[0], abs=1e-8)
        goals = [np.array([[x, 1.0], [label_cost, 1.0]]) for x in r]
        audit(goals, radius, p, answer)
        assert answer.value == pytest.approx(wdro.allocate(lists, radius, p).value)


def test_knapsack_of_a_linear_classifier_against_its_ramp_losses():
    """A ramp (1 - m / s)_+ <= 1 lies above the 0-1 loss; below all positive margins s is free."""
    margins = np.array([0.4, 0.9, 1.3, -0.2])
    exact = wdro.knapsack(np.maximum(margins, 0), 0.3, 1).value
    assert exact == pytest.approx((1 + 1 + 0.8 / 0.9) / 4)
    for s, value in [(0.01, exact), (0.39, exact), (2.0, 0.825)]:
        clean = np.clip(1 - margins / s, 0, 1)
        kinks = [
            [[max(m - s, 0), 0], [max(m, 0), 1 - c]] for m, c in zip(margins, clean, strict=True)
        ]
        assert clean.mean() + wdro.allocate(kinks, 0.3, 1).value == pytest.approx(value)


def test_bounded_loss_leaves_the_norm_formula_at_a_finite_radius():
    """Ramp min(1, (1 - t)_+), margins 1 and 1.5: equal to the radius up to .5, then below."""
    points = [np.array([[1.0, 1.0]]), np.array([[0.5, 0.0], [1.5, 1.0]])]
    radii = [0.1, 0.4, 0.5, 0.6, 1.0]
    values = wdro.curve(points, radii, 1)
    assert_allclose(values, [0.1, 0.4, 0.5, 0.5 + 0.1 * 2 / 3, 0.5 + 0.5 * 2 / 3])


# ------------------------------------------------------------------------------- mixtures


def test_common_mixture_is_a_chord_from_zero_and_falls_short():
    def stairs(s):  # 0 on [0, 1), 1 on [1, 3), 2 on [3, inf)
        return np.array([float(s >= 1) + float(s >= 3)])

    factors = np.append(np.linspace(1, 10, 901), 1.5)
    mixture = wdro.mixture_attack(stairs, 2.0, 1, factors)
    assert mixture.value == pytest.approx(4 / 3) and mixture.factor == 1.5
    assert mixture.mass == pytest.approx(2 / 3)
    assert wdro.allocate([[[1.0, 1.0], [3.0, 2.0]]], 2.0, 1).value == pytest.approx(1.5)

    def two(s):  # distances .1 and 1 to misclassification: each needs its own factor
        return np.array([s >= 0.1, s >= 1.0]) * 1.0

    factors = np.append(np.linspace(1, 40, 391), [2.0, 20.0])
    assert wdro.mixture_attack(two, 0.05, 1, factors).value == pytest.approx(0.25)
    assert wdro.knapsack([0.1, 1.0], 0.05, 1).value == pytest.approx(0.5)


def test_mixture_pays_the_mean_slope_and_the_value_the_largest():
    slopes = np.array([1.0, 3.0])

    def growth(s):
        return slopes * np.maximum(s - 1, 0)

    mixture = wdro.mixture_attack(growth, 0.5, 1, slopes=slopes)
    assert mixture == (1.0, np.inf, 0.0)
    assert wdro.mixture_attack(growth, 0.5, 1).value == pytest.approx(1.0, rel=0.01)
    assert wdro.allocate([[], []], 0.5, 1, slopes).value == pytest.approx(1.5)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("loss", ["sine", "jump", "noise"])
def test_mixture_lies_between_the_pointwise_value_and_the_exact_one(loss, p):
    rng = np.random.default_rng(8)
    for radius in (0.05, 0.35, 1.0):
        lists = grid_problem(loss, rng)

        def growth(s, lists=lists):
            return np.array([r[r[:, 0] <= s, 1].max() for r in lists])

        mixture = wdro.mixture_attack(growth, radius, p)
        pointwise = wdro.allocate(lists, radius, np.inf).value
        exact = wdro.allocate(lists, radius, p).value
        assert pointwise - 1e-14 <= mixture.value <= exact + 1e-13
        # the mixture itself, atom by atom: its own lists of one point give no more
        assert mixture.mass == pytest.approx(mixture.factor**-p)
        if p == np.inf:
            assert mixture.value == pytest.approx(pointwise)


def test_a_failing_attack_never_lowers_the_value():
    mixture = wdro.mixture_attack(lambda s: np.array([-5.0, 1.0]), 0.5, 2)
    assert mixture == (0.5, 1.0, 1.0)
    assert wdro.mixture_attack(lambda s: np.array([-5.0]), 0.5, 2).value == 0.0


# ------------------------------------------------------------------------------- dual


def test_dual_value_where_it_is_known():
    # sup of a s - lambda s^2 is a^2 / (4 lambda): value a r, multiplier a / (2 r)
    for a, r in [(3.0, 0.2), (1e-4, 5.0), (1e5, 1e-3)]:
        bound = wdro.dual_value(lambda m, a=a: a * a / (4 * m) if m else np.inf, r, 2)
        assert bound.value == pytest.approx(a * r, rel=1e-12)
        assert bound.multiplier == pytest.approx(a / (2 * r), rel=1e-5)
    # a bounded loss and a large radius: lambda = 0
    assert wdro.dual_value(lambda m: max(1 - m, 0), 5.0, 1) == (1.0, 0.0)
    # linear growth 2 s: infinite below 2, known or not
    slope = lambda m: 0.0 if m >= 2 else np.inf  # noqa: E731
    assert wdro.dual_value(slope, 0.3, 1).value == pytest.approx(0.6, rel=1e-12)
    assert wdro.dual_value(slope, 0.3, 1, least=2.0) == (0.6, 2.0)
    assert wdro.dual_value(lambda m: np.inf, 0.3, 1) == (np.inf, np.inf)


def test_dual_value_is_a_bound_whatever_the_callable_does():
    rng = np.random.default_rng(9)
    lists = grid_problem("sine", rng)
    exact = wdro.allocate(lists, 0.4, 1).value

    def sloppy(multiplier):  # larger than the suprema, and not convex
        return np.mean([(r[:, 1] - multiplier * r[:, 0]).max() for r in lists]) + rng.uniform(0, 1)

    assert wdro.dual_value(sloppy, 0.4, 1).value >= exact


# ------------------------------------------------------------------------------- linear models


def model(loss, seed=0, n=12, d=3):
    rng = np.random.default_rng(seed)
    X, w, b = rng.standard_normal((n, d)), rng.standard_normal(d), 0.3
    y = X @ w + b + 1.5 * rng.standard_normal(n)
    if loss in linear.MARGIN_LOSSES:
        y = np.where(y > 0, 1.0, -1.0)
    return w, b, X, y


def losses(output, y, loss):
    """One number in, one number out, as in a textbook."""
    return {
        "hinge": np.maximum(0, 1 - y * output),
        "logistic": np.logaddexp(0, -y * output),
        "exponential": np.exp(np.minimum(-y * output, 700)),
        "squared": (y - output) ** 2,
        "absolute": np.abs(y - output),
    }[loss]


def moved(w, b, X, y, s, norm, loss):
    """Losses of all samples moved by s >= 0 in their worst direction: growth of each sample."""
    reach = np.multiply.outer(s, [linear.dual_norm(w, norm)])
    output = X @ w + b
    sign = -y if loss in linear.MARGIN_LOSSES else -np.where(y > output, 1.0, -1.0)
    return losses(output + reach * sign, y, loss)


@pytest.mark.parametrize("loss", linear.LOSSES)
@pytest.mark.parametrize("p", [1, 1.2, 2, 3, 8, np.inf])
@pytest.mark.parametrize("norm", NORMS)
def test_linear_value_against_the_growth_form_on_a_fine_grid(loss, p, norm):
    """Growth functions on a grid give a lower bound, and one that is nearly attained."""
    for seed, radius in [(0, 0.05), (1, 0.6), (2, 2.0)]:
        w, b, X, y = model(loss, seed)
        w = w * [0.1, 1.0, 3.0][seed]
        value = wdro.linear_value(w, b, X, y, radius, p, norm, loss)
        clean = losses(X @ w + b, y, loss)
        far = {1: 1e5, 1.2: 1e4}.get(p, 30.0)
        if value == np.inf:
            far = 1e12 if loss == "squared" else 600 / linear.dual_norm(w, norm)
        s = np.append(np.geomspace(radius / 20, far, 500), radius)
        gains = moved(w, b, X, y, s, norm, loss) - clean
        points = [np.column_stack([s, column]) for column in gains.T]
        lower = clean.mean() + wdro.allocate(points, radius, p).value
        if value == np.inf:
            assert lower > 1e4
            continue
        assert lower <= value * (1 + 1e-12)
        assert lower == pytest.approx(value, rel=2e-3 if p < 1.3 else 2e-4)


@pytest.mark.parametrize("loss", linear.LOSSES)
def test_linear_value_falls_with_the_order_and_is_the_clean_risk_at_radius_zero(loss):
    w, b, X, y = model(loss, 3)
    clean = losses(X @ w + b, y, loss).mean()
    orders = [1, 1.01, 1.5, 2, 2.01, 3, 10, 100, np.inf]
    for radius in (1e-6, 0.3, 4.0):
        values = [wdro.linear_value(w, b, X, y, radius, p, 2, loss) for p in orders]
        for above, below in itertools.pairwise(values):
            assert above == np.inf or above >= below * (1 - 1e-11)
        assert values[-2] == np.inf or values[-2] == pytest.approx(values[-1], rel=0.2)
    for p in orders:
        assert wdro.linear_value(w, b, X, y, 0.0, p, 2, loss) == pytest.approx(clean)
        still = wdro.linear_value(0 * w, b, X, y, 5.0, p, 2, loss)
        assert still == pytest.approx(losses(b + 0 * y, y, loss).mean())


@pytest.mark.parametrize("p", [1, 1.3, 2, 4, np.inf])
def test_affine_losses_give_the_same_value_for_every_order(p):
    """Hinge with all margins at most 1 is affine in the move: E + radius ||w||_*, all p."""
    X, y, radius = np.array([[1.0], [0.3]]), np.ones(2), 0.4
    for radius, value in [(0.1, 0.45), (0.5, 0.85), (1.0, 1.35)]:
        assert wdro.linear_value([1.0], 0.0, X, y, radius, p, 2, "hinge") == pytest.approx(
            value, rel=1e-12
        )
    one_beyond = np.array([[2.0], [0.3]])
    value = wdro.linear_value([1.0], 0.0, one_beyond, y, 0.4, p, 2, "hinge")
    assert value == pytest.approx(0.75) if p == 1 else value < 0.75 - 1e-3
    w, b, X, y = model("absolute", 4)
    assert wdro.linear_value(w, b, X, y, 0.4, p, np.inf, "absolute") == pytest.approx(
        losses(X @ w + b, y, "absolute").mean() + 0.4 * np.abs(w).sum()
    )


def hull_of_hinge(m, p):
    """The concave majorant of (s - (m - 1)_+)_+ in the cost s^p: tangent, then the growth."""
    d = max(m - 1, 0.0)
    s = d * p / (p - 1) + np.geomspace(1e-6, 100, 20000)
    return np.column_stack([s, s - d])


@pytest.mark.parametrize("p", [1.3, 2, 5])
def test_hinge_value_to_many_digits(p):
    margins = np.array([0.2, 1.0, 1.7, 1.7, 3.0, -1.0])
    for radius in (0.01, 0.2, 1.0, 6.0):
        value = wdro.linear_value([1.0], 0.0, margins[:, None], np.ones(6), radius, p, 2, "hinge")

        # the dual with suprema by a bounded search of each sample
        def suprema(multiplier, p=p):
            t = (1 / (p * multiplier)) ** (1 / (p - 1))  # d/ds (s - multiplier s^p) = 0
            gains = np.maximum(1 - margins + t, 0) - multiplier * t**p
            return np.maximum(gains, np.maximum(1 - margins, 0)).mean()

        search = minimize_scalar(
            lambda u, r=radius: math.exp(u) * r**p + suprema(math.exp(u)),
            bounds=(-25, 25),
            method="bounded",
            options={"xatol": 1e-12},
        )
        assert value <= search.fun + 1e-13
        assert value == pytest.approx(search.fun, rel=1e-8)
        lower = wdro.allocate([hull_of_hinge(m, p) for m in margins], radius, p).value
        clean = np.maximum(1 - margins, 0).mean()
        assert clean + lower <= value + 1e-13
        assert clean + lower == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("p", [1.5, 2, 6])
def test_logistic_suprema_find_the_global_maximum(p):
    """The function has up to two local maxima; a fine grid cannot be fooled."""
    m = np.arange(-3.0, 40.0)
    t = np.append(0.0, np.geomspace(1e-4, 5000, 20_000))
    both = np.zeros(2)
    for multiplier in (0.01, 0.03, 0.06, 0.11, 0.2, 0.6, 3.0):
        gains = np.logaddexp(0, t - m[:, None]) - multiplier * t**p
        best, where = gains.max(axis=1), t[gains.argmax(axis=1)]
        got = [wdro._logistic_suprema(m[k : k + 1], 1.0, p)(multiplier) for k in range(m.size)]
        assert_allclose(got, best, rtol=1e-5, atol=1e-7)  # the grid is that fine
        assert (got >= best - 1e-12).all()
        both += (where < 1).sum(), (where > 3).sum()
    assert (both > 5).all() or p == 6  # the near and the far maximum, each best for some


@pytest.mark.parametrize("norm", NORMS)
def test_logistic_of_order_one_is_approached_by_far_and_small_masses(norm):
    w, b, X, y = model("logistic", 5, n=6)
    radius = 0.5
    value = wdro.linear_value(w, b, X, y, radius, 1, norm, "logistic")
    clean = losses(X @ w + b, y, "logistic")
    assert value == pytest.approx(clean.mean() + radius * linear.dual_norm(w, norm))
    for part, short in [(1.0, 0.5), (0.01, 0.02), (1e-3, 0.002)]:
        away = X[0] - y[0] * (6 * radius / part) * linear.worst_perturbation(w, norm)
        mass = np.append(np.full(6, 1 / 6), part / 6)
        mass[0] -= part / 6
        assert wdro.wasserstein(X, np.vstack([X, away]), 1, norm, Q_mass=mass) == pytest.approx(
            radius
        )
        attack = mass @ np.append(clean, losses(away @ w + b, y[0], "logistic"))
        assert value - short <= attack <= value


@pytest.mark.parametrize("norm", NORMS)
def test_least_squares_of_order_two_is_attained(norm):
    w, b, X, y = model("squared", 6)
    r, radius = y - X @ w - b, 0.3
    mse = np.mean(r**2)
    value = wdro.linear_value(w, b, X, y, radius, 2, norm, "squared")
    steps = radius * np.abs(r) / math.sqrt(mse)
    Z = X - np.outer(steps * np.sign(r), linear.worst_perturbation(w, norm))
    assert np.mean((y - Z @ w - b) ** 2) == pytest.approx(value, rel=1e-12)
    assert math.sqrt(np.mean(steps**2)) == pytest.approx(radius)
    assert wdro.wasserstein(X, Z, 2, norm) <= radius * (1 + 1e-6)
    # the pointwise value has the mean absolute residual in its cross term
    reach = radius * linear.dual_norm(w, norm)
    assert wdro.linear_value(w, b, X, y, radius, np.inf, norm, "squared") == pytest.approx(
        mse + 2 * reach * np.abs(r).mean() + reach**2
    )


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
@pytest.mark.parametrize("label_cost", [0.05, 0.5, 2.0, 20.0])
def test_label_cost_against_the_growth_form(loss, label_cost):
    """Convex growths: their majorant has the vertices (0, 0) and the flip, and the ray ||w||_*."""
    for seed, radius in itertools.product(range(3), (0.02, 0.3, 3.0)):
        w, b, X, y = model(loss, seed)
        clean, flipped = losses(X @ w + b, y, loss), losses(X @ w + b, -y, loss)
        value = wdro.linear_value(w, b, X, y, radius, 1, 2, loss, label_cost=label_cost)
        points = [[[label_cost, g]] for g in flipped - clean]
        slopes = np.full(len(y), np.linalg.norm(w))
        lower = clean.mean() + wdro.allocate(points, radius, 1, slopes).value
        assert value == pytest.approx(lower, rel=1e-12)
        assert value >= wdro.linear_value(w, b, X, y, radius, 1, 2, loss) - 1e-12
    assert wdro.linear_value(w, b, X, y, 0.0, 1, 2, loss, label_cost=1.0) == clean.mean()


def test_label_cost_of_a_constant_model_and_of_the_exponential_loss():
    X, y = np.zeros((4, 1)), np.array([1.0, 1.0, 1.0, -1.0])
    value = wdro.linear_value([0.0], 2.0, X, y, 0.1, 1, 2, "exponential", label_cost=0.4)
    clean, gain = 0.75 * math.exp(-2) + 0.25 * math.exp(2), math.exp(2) - math.exp(-2)
    assert value == pytest.approx(clean + 0.1 / 0.4 * gain)
    args = ([1.0], 0.0, X, y, 0.1, 1, 2, "exponential")
    assert wdro.linear_value(*args, label_cost=0.4) == np.inf
    # margin 5, flips at .1: the fixed-label formula E + radius ||w||_* is no bound
    flip = wdro.linear_value([1.0], 0, [[5.0]], [1.0], 0.01, 1, 2, "hinge", label_cost=0.1)
    assert flip == pytest.approx(0.6) and flip > 0.01


def test_one_dimension_against_a_linear_program_over_a_grid_of_points():
    """Plans between samples and all points of a grid that holds the kinks: hinge, order 1 and 2."""
    x, y = np.array([-1.0, 0.5, 2.0, 3.0]), np.array([1.0, 1.0, 1.0, -1.0])
    grid = np.linspace(-20, 20, 2001)
    loss = losses(grid[None, :], y[:, None], "hinge")
    clean = losses(x, y, "hinge")
    lists = [
        np.column_stack([np.abs(grid - a), row - c])
        for a, row, c in zip(x, loss, clean, strict=True)
    ]
    for p, radius in itertools.product((1, 2, 4), (0.2, 1.0)):
        value = wdro.linear_value([1.0], 0.0, x[:, None], y, radius, p, 2, "hinge")
        lower = clean.mean() + program(lists, radius, p)[0]
        assert lower <= value + 1e-9
        assert lower == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_cross_entropy_pays_the_farthest_pair_with_a_label_that_occurs(norm):
    rng = np.random.default_rng(13)
    W, b, X = rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal((6, 3))
    W[:2], W[3], y, radius = (
        0.1 * W[:2],
        -W[2],
        np.array([0, 1, 0, 0, 1, 1]),
        0.7,
    )  # labels 2 and 3 are absent

    def entropy(x, label):
        z = x @ W.T + b
        return np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1) - z[..., label]

    clean = np.array([entropy(x, k) for x, k in zip(X, y, strict=True)])
    value = wdro.linear_cross_entropy_value(W, b, X, y, radius, norm)
    slope = max(linear.dual_norm(W[j] - W[k], norm) for j in range(4) for k in (0, 1))
    assert slope < linear.dual_norm(W[3] - W[2], norm) - 1
    assert value == pytest.approx(clean.mean() + radius * slope, rel=1e-12)
    lists, steepest = [], 0.0
    for x, k, c in zip(X, y, clean, strict=True):
        for j in set(range(4)) - {k}:
            ray = linear.worst_perturbation(W[j] - W[k], norm)
            d = np.geomspace(0.1, 1e4, 60)
            lists.append(np.column_stack([d, entropy(x + d[:, None] * ray, k) - c]))
        away = rng.standard_normal((300, 3)) * rng.uniform(0.1, 50, (300, 1))
        secants = (entropy(x + away, k) - c) / np.linalg.norm(away, ord=norm, axis=1)
        steepest = max(steepest, secants.max())
    assert steepest <= slope
    lists = [np.vstack(lists[i : i + 3]) for i in range(0, 18, 3)]
    lower = clean.mean() + wdro.allocate(lists, radius, 1).value
    assert value * (1 - 1e-3) <= lower <= value


# ------------------------------------------------------------------------------- transport


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("p", ORDERS)
def test_transport_of_equal_masses_is_the_best_matching(norm, p):
    rng = np.random.default_rng(10)
    P, Q = rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
    distance = np.linalg.norm(P[:, None] - Q[None], ord=norm, axis=2)
    matchings = [distance[range(5), list(s)] for s in itertools.permutations(range(5))]
    if p == np.inf:
        best = min(m.max() for m in matchings)
    else:
        best = min((m**p).mean() for m in matchings) ** (1 / p)
    assert wdro.wasserstein(P, Q, p, norm) == pytest.approx(best, rel=1e-9)
    assert wdro.wasserstein(P, P[::-1], p, norm) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("p", ORDERS)
def test_transport_on_the_line_matches_quantiles(p):
    rng = np.random.default_rng(11)
    x, z = rng.standard_normal(4), rng.standard_normal(6)
    a, c = np.array([2, 5, 4, 1]) / 12, np.array([1, 3, 0, 2, 2, 4]) / 12
    apart = np.abs(np.sort(np.repeat(x, [2, 5, 4, 1])) - np.sort(np.repeat(z, [1, 3, 0, 2, 2, 4])))
    expected = apart.max() if p == np.inf else np.mean(apart**p) ** (1 / p)
    got = wdro.wasserstein(x[:, None], z[:, None], p, 2, a, c)
    assert got == pytest.approx(expected, rel=1e-9)
    assert wdro.wasserstein(1e6 * x[:, None], 1e6 * z[:, None], p, 1, a, c) == pytest.approx(
        1e6 * expected, rel=1e-9
    )


def test_transport_audits_an_allocation():
    """Moves on the line: the worst distribution is within the radius, also by its own distance."""
    rng = np.random.default_rng(12)
    grid = np.linspace(-3, 3, 61)
    values, at = np.sin(2 * grid) + 0.3 * grid, rng.integers(0, 61, 6)
    lists = [np.column_stack([np.abs(grid - grid[i]), values - values[i]]) for i in at]
    for p, radius in itertools.product(ORDERS, (0.1, 0.5)):
        atoms = wdro.allocate(lists, radius, p).atoms
        ends = np.where(atoms.point >= 0, grid[atoms.point], grid[at[atoms.sample]])
        away = wdro.wasserstein(grid[at][:, None], ends[:, None], p, 2, Q_mass=atoms.mass)
        assert away <= radius * (1 + 1e-6)


# ------------------------------------------------------------------------------- wrong input

LISTS = [np.array([[1.0, 2.0]]), np.array([[0.5, 1.0]])]
GOOD = {"w": [1.0], "b": 0.0, "X": [[1.0], [2.0]], "y": [1, -1], "radius": 0.1, "p": 1, "norm": 2}


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: wdro.allocate([], 1.0, 1), "at least one sample"),
        (lambda: wdro.allocate([[1.0, 2.0]], 1.0, 1), r"points\[0\].*shape \(k, 2\)"),
        (lambda: wdro.allocate([[[-1.0, 2.0]]], 1.0, 1), "must not be negative"),
        (lambda: wdro.allocate([[[np.inf, 2.0]]], 1.0, 1), "finite"),
        (lambda: wdro.allocate(LISTS, -1.0, 1), "radius must be"),
        (lambda: wdro.allocate(LISTS, np.inf, 1), "radius must be"),
        (lambda: wdro.allocate(LISTS, 1.0, 0.5), "order of the distance"),
        (lambda: wdro.allocate(LISTS, 1.0, np.nan), "order of the distance"),
        (lambda: wdro.allocate(LISTS, 1.0, True), "order of the distance"),
        (lambda: wdro.allocate(LISTS, 1.0, 1, [1.0]), "one entry per sample"),
        (lambda: wdro.allocate(LISTS, 1.0, 1, [1.0, np.inf]), "slopes must be finite"),
        (lambda: wdro.allocate(LISTS, 1.0, np.inf, [1.0, 1.0]), "no mass escapes"),
        (lambda: wdro.curve(LISTS, [-1.0], 1), "radii"),
        (lambda: wdro.knapsack([], 1.0, 1), "vector"),
        (lambda: wdro.knapsack([-0.1], 1.0, 1), "at least 0"),
        (lambda: wdro.knapsack([np.nan], 1.0, 1), "at least 0"),
        (lambda: wdro.knapsack([1.0], 1.0, 1, label_cost=-1.0), "label_cost"),
        (lambda: wdro.dual_value(lambda m: 0.0, 0.0, 1), "greater than 0"),
        (lambda: wdro.dual_value(lambda m: 0.0, 1.0, np.inf), "no dual"),
        (lambda: wdro.dual_value(lambda m: np.nan, 1.0, 1), "NaN"),
        (lambda: wdro.dual_value(lambda m: 0.0, 1.0, 1, least=-1.0), "least"),
        (lambda: wdro.mixture_attack(lambda s: [1.0], 0.0, 1), "greater than 0"),
        (lambda: wdro.mixture_attack(lambda s: [1.0], 1.0, 1, [0.5]), "at least 1"),
        (lambda: wdro.mixture_attack(lambda s: 1.0, 1.0, 1), "one gain per sample"),
        (lambda: wdro.mixture_attack(lambda s: [np.nan], 1.0, 1), "finite"),
        (
            lambda: wdro.mixture_attack(lambda s: [1.0], 1.0, np.inf, slopes=[1.0]),
            "no mass escapes",
        ),
        (lambda: wdro.wasserstein([1.0], [[1.0]], 1, 2), "one point per row"),
        (lambda: wdro.wasserstein([[1.0, 2.0]], [[1.0]], 1, 2), "equally many columns"),
        (lambda: wdro.wasserstein([[1.0]], [[1.0]], 1, 3), "norm is"),
        (lambda: wdro.wasserstein([[1.0]], [[1.0]], 1, 2, [0.5]), "P_mass.*sum 1"),
        (lambda: wdro.wasserstein([[1.0]], [[1.0]], 1, 2, None, [0.5, 0.5]), "Q_mass"),
        (lambda: wdro.linear_value(**GOOD, loss="ramp"), "unknown loss"),
        (lambda: wdro.linear_value(**GOOD | {"radius": -1.0}, loss="hinge"), "radius"),
        (lambda: wdro.linear_value(**GOOD | {"y": [0, 1]}, loss="hinge"), "-1 or 1"),
        (lambda: wdro.linear_value(**GOOD | {"norm": 3}, loss="hinge"), "norm"),
        (lambda: wdro.linear_value(**GOOD | {"p": 0}, loss="hinge"), "order"),
        (lambda: wdro.linear_value(**GOOD, loss="hinge", label_cost=0.0), "positive"),
        (lambda: wdro.linear_value(**GOOD, loss="squared", label_cost=1.0), "losses of the margin"),
        (lambda: wdro.linear_value(**GOOD | {"p": 2}, loss="hinge", label_cost=1.0), "p = 1"),
    ],
)
def test_wrong_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_complex_input_is_refused():
    with pytest.raises(TypeError):
        wdro.allocate([[[1j, 1.0]]], 1.0, 1)
    with pytest.raises(TypeError):
        wdro.knapsack([1j], 1.0, 1)
