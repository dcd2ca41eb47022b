"""Exact robust values of ReLU networks: segments against programs, grids and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog

from advreg import relu, wdro
from advreg.wdro_networks import cell_program, planar

NORMS = [1, 2, np.inf]
FLAT = [1, np.inf]
ORDERS = [1, 1.5, 2, 3.5, np.inf]
SHAPES = [(2, 4, 2), (2, 5, 3), (2, 3, 3, 2), (2, 1, 2), (2, 6, 2), (2, 5, 5, 3)]


def random_net(seed, *widths):
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.standard_normal((n, k)) / np.sqrt(k) for k, n in shapes)
    return relu.Network(weights, tuple(rng.standard_normal(n) for _, n in shapes))


def integer_net(seed, *widths):
    """Small integer weights: parallel, coincident and concurrent lines, dead neurons, ties."""
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.integers(-1, 2, (n, k)) for k, n in shapes)
    return relu.Network(weights, tuple(rng.integers(-1, 2, n) for _, n in shapes))


def scalar(terms):
    """sum of a relu(w . x + b), one output, from (a, w, b)."""
    a, W, b = (np.array([t[k] for t in terms], dtype=float) for k in range(3))
    return relu.Network((W, a[None]), (b, np.zeros(1)))


def output(label):
    """The loss that is the output itself."""
    return [[1.0]], [0.0]


def problem(seed, n=4, spread=1.0):
    shape = SHAPES[seed % len(SHAPES)]
    rng = np.random.default_rng(1000 + seed)
    X = spread * rng.standard_normal((n, 2))
    return random_net(seed, *shape), X, rng.integers(0, shape[-1], n)


def hinge(net, x, label):
    f = relu.evaluate(net, x)
    margin = np.delete(f, label, axis=-1).max(axis=-1) - f[..., label]
    return np.maximum(1 + margin, 0)


def distance(x, norm):
    return np.linalg.norm(x, ord=norm, axis=-1)


def mesh(low, high, count):
    ticks = np.linspace(low, high, count)
    return np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)


def audit(net, X, y, norm, radius, p, planar_, value, loss=hinge):
    """The atoms are a distribution within the radius whose mean loss is `lower`."""
    atoms, n = value.allocation.atoms, len(X)
    assert_allclose(np.bincount(atoms.sample, atoms.mass, minlength=n), 1 / n, rtol=1e-13)
    there = np.isfinite(atoms.distance)
    moved = distance(value.points[there] - X[atoms.sample[there]], norm)
    assert_allclose(moved, atoms.distance[there], rtol=1e-11, atol=1e-11)
    losses = np.array(
        [loss(net, x, k) for x, k in zip(value.points[there], y[atoms.sample[there]], strict=True)]
    )
    total = atoms.mass[there] @ losses
    if value.allocation.escaping:
        ray = atoms.sample[~there][0]
        total += value.allocation.escaping * planar_.slopes_at_infinity[ray]
        assert distance(value.direction, norm) == pytest.approx(1, rel=1e-12)
        far = X[ray] + 1e7 * value.direction
        assert float(loss(net, far, y[ray])) / 1e7 == pytest.approx(
            planar_.slopes_at_infinity[ray], rel=1e-5
        )
    else:
        assert np.isnan(value.direction).all()
    assert total == pytest.approx(value.lower, rel=1e-9, abs=1e-10)
    if p == np.inf:
        assert moved.max() <= radius * (1 + 1e-12)
    else:
        spent = atoms.mass[there] @ moved**p + value.allocation.escaping
        assert spent <= radius**p * (1 + 1e-9)


# ------------------------------------------------------------------------------- two exact ways


@pytest.mark.parametrize("norm", FLAT)
@pytest.mark.parametrize("seed", range(28))
def test_two_exact_ways_agree(seed, norm):
    """The linear program over cells knows nothing of segments, charts and bisection."""
    net, X, y = problem(seed)
    box = {} if seed % 3 else {"low": -3.0, "high": np.array([3.5, 4.0])}
    P = planar(net, X, y, norm, **box)
    for radius in (0.1, 3.0) if seed % 2 else (0.7,):
        value = P.value(radius, 1)
        program = cell_program(net, X, y, radius, norm, **box)
        assert value.lower == pytest.approx(value.upper, rel=1e-12)
        assert program.value == pytest.approx(value.upper, rel=1e-9)
        assert program.upper == pytest.approx(value.upper, rel=1e-9)
        audit(net, X, y, norm, radius, 1, P, value)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(12))
def test_degenerate_networks(seed, norm):
    """Integer nets and data: data on kinks, duplicates, coincident lines, dead neurons, ties."""
    shape = SHAPES[seed % 5]
    net, rng = integer_net(seed, *shape), np.random.default_rng(seed)
    X, y = rng.integers(-1, 2, (4, 2)).astype(float), rng.integers(0, shape[-1], 4)
    X[3], y[3] = X[0], y[0]
    P = planar(net, X, y, norm)
    for radius in (0.25, 2.0):
        value = P.value(radius, 1)
        assert value.lower == pytest.approx(value.upper, rel=1e-9)
        audit(net, X, y, norm, radius, 1, P, value)
        if norm != 2:
            program = cell_program(net, X, y, radius, norm)
            assert program.value == pytest.approx(value.upper, rel=1e-8)
    for label, slope in zip(y, P.slopes_at_infinity, strict=True):
        assert slope == pytest.approx(relu.slope_at_infinity(net, norm, labels=[label]), abs=1e-12)
    assert P.secant_slopes[0] == P.secant_slopes[3]


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_euclidean_norm_against_a_cone_program(seed, p):
    cp = pytest.importorskip("cvxpy")
    net, X, y = problem(seed, n=3)
    masks, n, radius = relu.activations(net), 3, 0.6
    slopes = relu.gradients(net, masks)
    goal, cost, masses, rules = [], [], [[] for _ in X], []
    for i in range(n):
        for mask, J in zip(masks, slopes, strict=True):
            G, c = np.eye(2), np.zeros(2)  # the cell, layer by layer
            A, b, first = [], [], 0
            for W, shift in zip(net.weights[:-1], net.biases[:-1], strict=True):
                G, c = W @ G, W @ c + shift
                on = mask[first : first + len(shift)]
                A.append(np.where(on, -1, 1)[:, None] * G)
                b.append(np.where(on, 1, -1) * c)
                G, c, first = G * on[:, None], c * on, first + len(shift)
            A, b = np.vstack(A), np.concatenate(b)
            offset = net.weights[-1] @ c + net.biases[-1]
            for j in [k for k in range(net.outputs) if k != y[i]] + [None]:
                a, q = cp.Variable(nonneg=True), cp.Variable(2)
                rules.append(A @ (a * X[i] + q) <= a * b)
                masses[i].append(a)
                cost.append(cp.norm(q) if p == 1 else cp.quad_over_lin(q, a))
                if j is not None:
                    g, e = J[j] - J[y[i]], offset[j] - offset[y[i]] + 1
                    goal.append(g @ (a * X[i] + q) + e * a)
    rules += [cp.sum(cp.hstack(a)) == 1 / n for a in masses]
    rules.append(cp.sum(cp.hstack(cost)) <= radius**p)
    answer = cp.Problem(cp.Maximize(cp.sum(cp.hstack(goal))), rules)
    answer.solve(solver="CLARABEL")
    value = planar(net, X, y, 2).value(radius, p)
    assert value.upper == pytest.approx(answer.value, rel=1e-5)


# ------------------------------------------------------------------------------- brute force


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_growth_and_suprema_against_a_grid(seed, norm):
    net, X, y = problem(seed, n=2, spread=0.5)
    box = {} if seed % 2 else {"low": -2.0, "high": 2.5}
    P = planar(net, X, y, norm, **box)
    offsets = mesh(-1, 1, 401)
    ring = np.linspace(-1, 1, 2001)
    sphere = np.concatenate([np.stack([ring, s], axis=1) for s in (ring * 0 + 1, ring * 0 - 1)])
    sphere = np.concatenate([sphere, sphere[:, ::-1]])
    sphere /= distance(sphere, norm)[:, None]
    size, steepest = distance(offsets, norm), relu.norm_product(net, norm)
    for i in range(2):
        for s in (0.3, 1.7):
            x = X[i] + s * np.concatenate([offsets[size <= 1], sphere])
            if box:
                x = x[((x >= -2) & (x <= 2.5)).all(axis=1)]
            found = hinge(net, x, y[i]).max() - P.clean[i]
            exact = P.growth(s)[i]
            assert found <= exact + 1e-12
            assert exact <= found + 0.012 * s * steepest  # the mesh of the grid
        far = max(P.slopes_at_infinity.max(), 0.1)
        x = X[i] + 12 * offsets
        if box:
            x = np.clip(x, -2, 2.5)
        gain = hinge(net, x, y[i]) - P.clean[i]
        for p, price in itertools.product((1, 1.5, 2, 3), (1.1 * far, 2 * far)):
            exact = P.suprema(price, p)[i]
            found = (gain - price * distance(x - X[i], norm) ** p).max()
            assert found <= exact + 1e-12
            assert exact <= found + 0.2 * steepest
    assert_array_equal(P.growth([0.3, 1.7]), [P.growth(0.3), P.growth(1.7)])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("p", ORDERS)
def test_values_against_transport_on_a_grid(norm, p):
    """A linear program over plans to grid points: below the value, and near it in the box."""
    net, X, y = problem(4, n=3, spread=0.7)
    box = {"low": -2.0, "high": 2.0}
    P = planar(net, X, y, norm, **box)
    grid = np.concatenate([mesh(-2, 2, 41), X])
    for radius in (0.2, 1.0):
        lists = [
            np.column_stack([distance(grid - x, norm), hinge(net, grid, k) - c])
            for x, k, c in zip(X, y, P.clean, strict=True)
        ]
        if p == np.inf:
            found = np.mean([rows[rows[:, 0] <= radius, 1].max() for rows in lists])
        else:
            cost, gain = (np.concatenate([rows[:, k] for rows in lists]) for k in (0, 1))
            equal = np.kron(np.eye(3), np.ones(len(grid)))
            plan = linprog(-gain, cost[None] ** p, [radius**p], equal, np.full(3, 1 / 3))
            found = -plan.fun
        value = P.value(radius, p)
        assert value.lower <= value.upper <= value.lower * (1 + 1e-9)
        assert P.clean.mean() + found <= value.upper + 1e-9
        assert value.lower <= P.clean.mean() + found + 0.07 * P.secant_slopes.max()
        audit(net, X, y, norm, radius, p, P, value)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_orders_bounds_and_curves(seed, norm):
    net, X, y = problem(seed)
    P = planar(net, X, y, norm)
    radii = np.array([0.0, 0.05, 0.3, 1.0, 8.0])
    before = np.full(5, np.inf)
    for p in ORDERS:
        lower, upper = P.curve(radii, p)
        assert (lower <= upper).all() and (upper <= lower * (1 + 1e-10)).all()
        assert (upper <= before * (1 + 1e-12)).all()  # V_p falls as p rises
        assert lower[0] == upper[0] == pytest.approx(P.clean.mean())
        for radius, a, b in zip(radii, lower, upper, strict=True):
            value = P.value(radius, p)
            assert_allclose([value.lower, value.upper], [a, b], rtol=1e-11)
            audit(net, X, y, norm, radius, p, P, value)
        before = upper
    first, _ = P.curve(radii, 1)
    E, slope = P.clean.mean(), P.secant_slopes.max()
    assert (first >= E + radii * P.slopes_at_infinity.max() - 1e-12).all()
    assert (first <= E + radii * slope + 1e-12).all()
    assert P.value(1e-7, 1).lower - E == pytest.approx(1e-7 * slope, rel=1e-6)
    labels = relu.label_pairs(net.outputs, y)
    assert slope <= relu.lipschitz(net, norm, pairs=labels).upper * (1 + 1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_transport_distance_of_worst_distributions(p):
    ot = pytest.importorskip("ot")
    net, X, y = problem(4, n=6)
    for norm, metric in zip(NORMS, ("cityblock", "euclidean", "chebyshev"), strict=True):
        value = planar(net, X, y, norm, low=-4, high=4).value(0.5, p)
        mass = value.allocation.atoms.mass
        ours = wdro.wasserstein(X, value.points, p, norm, None, mass)
        cost = ot.dist(X, value.points, metric=metric) ** p
        assert ours <= 0.5 * (1 + 1e-9)
        assert ot.emd2(np.full(6, 1 / 6), mass, cost) ** (1 / p) == pytest.approx(ours, rel=1e-8)


# ------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("p", ORDERS)
def test_linear_models(norm, p):
    rng = np.random.default_rng(3)
    theta, b, X, y = rng.standard_normal(2), 0.3, rng.standard_normal((5, 2)), np.arange(5) % 2
    net = relu.Network((np.stack([-theta, theta]) / 2,), (np.array([-b, b]) / 2,))
    P = planar(net, X, y, norm)
    for radius in (0.1, 2.0):
        exact = wdro.linear_value(theta, b, X, 2 * y - 1, radius, p, norm, "hinge")
        assert P.value(radius, p).upper == pytest.approx(exact, rel=1e-9)
    margin = (2 * y - 1) * (X @ theta + b)
    assert_allclose(
        P.distances_to_error(),
        np.maximum(margin, 0) / wdro.linear.dual_norm(theta, norm),
        rtol=1e-9,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_running_example_in_the_plane(norm):
    """relu(x) - 2 relu(-x) + 3 relu(x - 1) - 3 relu(x - 4), datum 0: slopes 1, 3.25, 4."""
    e = np.array([1.0, 0.0])
    net = scalar([(1, e, 0), (-2, -e, 0), (3, e, -1), (-3, e, -4)])
    P = planar(net, [[0.0, 0.0]], [0], norm, output)
    assert P.secant_slopes[0] == pytest.approx(3.25, rel=1e-12)
    assert P.slopes_at_infinity[0] == pytest.approx(1, rel=1e-12)
    radii = np.array([0.5, 2, 4, 10, 1000])
    assert_allclose(P.curve(radii, 1), [np.minimum(3.25 * radii, 9 + radii)] * 2, rtol=1e-12)
    growth = np.maximum(radii + 3 * np.maximum(radii - 1, 0) - 3 * np.maximum(radii - 4, 0), 0)
    assert_allclose(P.growth(radii)[:, 0], growth, rtol=1e-12)
    value = P.value(10, 1)
    assert value.multiplier == pytest.approx(1) and value.allocation.escaping == pytest.approx(6)
    assert value.direction[0] == pytest.approx(1)  # for norm inf not the only one


def test_last_piece_in_the_euclidean_norm_is_asymptotic():
    """x_1 + min(x_2, 1), datum 0: sqrt(2) r up to sqrt(2), then 1 + sqrt(r^2 - 1) < 1 + r."""
    e, f = np.eye(2)
    net = scalar([(1, e, 0), (-1, -e, 0), (1, f, 0), (-1, -f, 0), (-1, f, -1)])
    P = planar(net, [[0.0, 0.0]], [0], 2, output)
    radii = np.array([0.5, 1.4, 2, 5, 20, 500])
    exact = np.where(radii**2 <= 2, np.sqrt(2) * radii, 1 + np.sqrt(np.maximum(radii**2 - 1, 0)))
    assert_allclose(P.curve(radii, 1), [exact, exact], rtol=1e-9)
    assert P.suprema(1.0)[0] == pytest.approx(1)  # not attained
    assert P.suprema(0.999)[0] == np.inf


@pytest.mark.parametrize("norm", NORMS)
def test_strip(norm):
    """The ramp relu(x) - relu(x - 1): slope 1 on an unbounded strip, 0 at infinity."""
    e = np.array([1.0, 0.0])
    net = scalar([(1, e, 0), (-1, e, -1)])
    P = planar(net, [[-1.0, 0.3]], [0], norm, output)
    assert P.slopes_at_infinity[0] == 0 and P.secant_slopes[0] == pytest.approx(0.5)
    radii = np.array([0.5, 1.5, 2, 7])
    for p in (1, 2, 3):
        # two masses: at the datum and at distance t in [1, 2], the best chord of a concave piece
        t = np.linspace(1.0, 2.0, 200_001)
        exact = [((t - 1) * np.minimum(1, (r / t) ** p)).max() for r in radii]
        assert_allclose(P.curve(radii, p)[1], np.minimum(exact, 1), rtol=1e-8)
    assert_allclose(P.growth(3.0), [1.0])


def test_mass_goes_where_the_label_is_steepest():
    """Two labels with slopes at infinity 1 and 3: all mass that escapes is of the second."""
    e = np.array([1.0, 0.0])
    net = relu.Network((np.stack([e, -e]), np.array([[3.0, 0.0], [0.0, 1.0]])), (np.zeros(2),) * 2)
    P = planar(net, [[0.0, 0.0], [0.0, 1.0]], [0, 1], 2)
    assert_allclose(P.slopes_at_infinity, [1, 3], rtol=1e-12)
    value = P.value(5, 1)
    assert value.lower == pytest.approx(1 + 15) and value.upper == pytest.approx(16)
    assert value.allocation.atoms.sample[np.isinf(value.allocation.atoms.distance)] == [1]
    only = planar(net, [[0.0, 0.0]], [0], 2)  # label 1 is absent
    assert only.value(5, 1).upper == pytest.approx(1 + 5)


@pytest.mark.parametrize("norm", NORMS)
def test_box_saturates(norm):
    net, X, y = problem(1)
    P = planar(net, X, y, norm, low=[-4, -5], high=[4, 5])
    assert_array_equal(P.slopes_at_infinity, 0)
    box = np.stack(np.meshgrid(np.linspace(-4, 4, 401), np.linspace(-5, 5, 501)), -1).reshape(-1, 2)
    most = np.mean([hinge(net, box, k).max() for k in y])
    for p in ORDERS:
        value = P.value(50, p)
        assert most - 1e-12 <= value.lower <= value.upper <= most + 0.05 * P.secant_slopes.max()
        assert (np.abs(value.points) <= [4 + 1e-9, 5 + 1e-9]).all()


@pytest.mark.parametrize("norm", FLAT)
@pytest.mark.parametrize("tilt", [1e-2, 1e-4, 1e-6])
def test_corners_far_away(norm, tilt):
    """Lines that are nearly parallel meet far outside every reasonable box."""
    W = np.array([[1.0, 0.3], [1.0, 0.3 + tilt], [-0.2, 1.0]])
    net = relu.Network(
        (W, np.array([[3.0, -3.0, 0.5], [0, 0, 0.1]])), (np.zeros(3) + 0.1, np.zeros(2))
    )
    X, y = np.array([[0.0, 0.5], [1.0, -1.0]]), np.array([1, 1])
    P = planar(net, X, y, norm)
    for radius in (0.3, 5.0):
        program = cell_program(net, X, y, radius, norm)
        assert P.value(radius, 1).upper == pytest.approx(program.value, rel=1e-6)
    assert P.slopes_at_infinity[0] == pytest.approx(
        relu.slope_at_infinity(net, norm, labels=[1]), rel=1e-8
    )


def test_constant_networks():
    net = relu.Network((np.zeros((3, 2)), np.zeros((2, 3))), (np.zeros(3), np.array([0.0, 0.25])))
    P = planar(net, [[0.0, 0.0], [0.0, 0.0]], [0, 1], 1)
    assert_allclose(P.clean, [1.25, 0.75])
    for p in ORDERS:
        assert P.value(3.0, p).upper == P.value(3.0, p).lower == pytest.approx(1.0)
    assert_array_equal(P.growth(4.0), 0)
    assert_array_equal(P.secant_slopes, 0)
    assert_array_equal(P.distances_to_error(), [0, np.inf])
    assert cell_program(net, [[0.0, 0.0]], [0], 3.0, 1).value == pytest.approx(1.25)


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(5))
def test_distances_to_error(seed, norm):
    """Against linear programs over cells; and with the growth of the margin on both sides."""
    net, X, y = problem(seed, n=3)
    P = planar(net, X, y, norm, "margin")
    found = P.distances_to_error()
    assert_array_equal(found, planar(net, X, y, norm).distances_to_error())  # of any loss
    assert_array_equal(found == 0, P.clean >= 0)
    for i, r in enumerate(found):
        if 0 < r < np.inf:
            assert P.growth(r * (1 + 1e-9))[i] + P.clean[i] >= -1e-12
            assert P.growth(r * (1 - 1e-6))[i] + P.clean[i] < 0
        elif r:
            assert P.growth(1e6)[i] + P.clean[i] < 0
    if norm == 2:
        return
    cells = relu.cells(net, -60.0, 60.0)
    for i, r in enumerate(found):
        best = math.inf
        for k in range(len(cells)):
            corners = cells.polygon(k)  # convex weights, and the distance by epigraph
            for j in [j for j in range(net.outputs) if j != y[i]]:
                f = corners @ cells.gradients[k].T + cells.offsets[k]
                m, slack = len(corners), 2 if norm == 1 else 1
                moved = (corners - X[i]).T
                eps = np.eye(2) if norm == 1 else np.ones((2, 1))
                rows = np.vstack(
                    [
                        np.column_stack([moved, -eps]),
                        np.column_stack([-moved, -eps]),
                        np.append(f[:, y[i]] - f[:, j], np.zeros(slack)),
                    ]
                )
                answer = linprog(
                    np.append(np.zeros(m), np.ones(slack)),
                    rows,
                    np.zeros(5),
                    np.append(np.ones(m), np.zeros(slack))[None],
                    [1.0],
                )
                best = min(best, answer.fun if answer.status == 0 else math.inf)
        if best < 50:
            assert r == pytest.approx(best, rel=1e-8, abs=1e-10)


def test_ties_are_errors():
    """f_1 - f_0 = -relu(1 - x_1): it is 0 from x_1 = 1 on, and never positive."""
    W = np.array([[-1.0, 0.0]])
    net = relu.Network((W, np.array([[0.0], [-1.0]])), (np.ones(1), np.zeros(2)))
    P = planar(net, [[-2.0, 0.7], [1.0, 0.0], [3.0, 0.0]], [0, 0, 0], 2)
    assert_allclose(P.distances_to_error(), [3, 0, 0], rtol=1e-9)


# ------------------------------------------------------------------------------- the program


@pytest.mark.parametrize("norm", FLAT)
def test_program_in_three_dimensions(norm):
    """An input without influence changes nothing."""
    net, X, y = problem(1)
    wide = relu.Network(
        (np.column_stack([net.weights[0], np.zeros(5)]), net.weights[1]), net.biases
    )
    lifted = np.column_stack([X, np.arange(4.0)])
    value = planar(net, X, y, norm).value(1.5, 1)
    program = cell_program(wide, lifted, y, 1.5, norm)
    assert program.value == pytest.approx(value.upper, rel=1e-9)
    assert program.multiplier == pytest.approx(value.multiplier, rel=1e-6)


@pytest.mark.parametrize("norm", FLAT)
@pytest.mark.parametrize("radius", [0.3, 30.0])
def test_plan_of_the_program(norm, radius):
    net, X, y = problem(5)
    program = cell_program(net, X, y, radius, norm)
    atoms, rays = program.atoms, program.rays
    assert_allclose(np.bincount(atoms.sample, atoms.mass), 0.25, rtol=1e-9)
    assert_allclose(distance(atoms.points - X[atoms.sample], norm), atoms.distance, atol=1e-9)
    assert atoms.mass @ atoms.distance + rays.cost.sum() <= radius * (1 + 1e-9)
    total = sum(
        mass * hinge(net, x, y[i])
        for i, x, mass in zip(atoms.sample, atoms.points, atoms.mass, strict=True)
    )
    for i, u, cost in zip(*rays, strict=True):
        assert distance(u, norm) == pytest.approx(1)
        total += cost * hinge(relu.without_biases(net), 1e9 * u, y[i]) / 1e9
    assert total == pytest.approx(program.value, rel=1e-7)
    assert len(rays.cost) >= (radius > 10)


def test_losses_of_your_own():
    net, X, y = problem(1)

    def same(label):
        C = np.delete(np.eye(3), label, axis=0) - np.eye(3)[label]
        return np.vstack([np.zeros(3), C]), np.array([0.0, 1, 1])

    ours, theirs = planar(net, X, y, 1), planar(net, X, y, 1, same)
    assert_allclose(ours.curve([0.2, 2], 2), theirs.curve([0.2, 2], 2), rtol=1e-12)
    assert_allclose(ours.clean, [hinge(net, x, k) for x, k in zip(X, y, strict=True)])
    assert cell_program(net, X, y, 1, 1, same).value == pytest.approx(ours.value(1, 1).upper)
    margin = planar(net, X, y, 1, "margin")
    program = cell_program(net, X, y, 1, 1, "margin")
    assert margin.value(1, 1).upper == pytest.approx(program.value, rel=1e-9)


# ------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("height", [1e-6, 1.0, 1e6])
def test_units_do_not_matter_to_the_program(length, height):
    # the tolerances of the solver are absolute
    plain = random_net(3, 2, 5, 3)
    (V, W), (a, b) = plain.weights, plain.biases
    net = relu.Network((V / length, W * height), (a, b * height))
    X, y = length * np.random.default_rng(1).normal(size=(5, 2)), np.array([1, 2, 2, 0, 1])
    for norm, radius in itertools.product(FLAT, (1e-3 * length, 0.3 * length, 30 * length)):
        found = cell_program(net, X, y, radius, norm, "margin")
        exact = planar(net, X, y, norm, "margin").value(radius, 1)
        assert found.value == pytest.approx(exact.upper, abs=1e-7 * height, rel=1e-7)
        assert found.upper >= exact.upper - 1e-7 * (height + abs(exact.upper))
        spent = found.atoms.mass @ found.atoms.distance + found.rays.cost.sum()
        assert spent <= radius * (1 + 1e-6)
        assert found.multiplier == pytest.approx(
            exact.multiplier, rel=1e-5, abs=1e-7 * height / length
        )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("norm", NORMS)
def test_orders_near_one_and_huge_ones(norm, scale):
    # the powers of distances leave the range of floats, what is exact stays so
    net, X, y = (
        random_net(7, 2, 6, 3),
        np.random.default_rng(1).normal(size=(5, 2)),
        [1, 2, 2, 0, 1],
    )
    net = relu.Network((net.weights[0] / scale, net.weights[1]), net.biases)
    P, radii = planar(net, scale * X, np.array(y), norm), scale * np.array([1e-6, 0.3, 2.0])
    before, limit = P.curve(radii, 1)[1], P.curve(radii, np.inf)[1]
    for p in (1.0000001, 1.0001, 1.3, 7, 80, 1e3, 1e6):
        lower, upper = P.curve(radii, p)
        assert_allclose(lower, upper, rtol=1e-9)
        assert (upper <= before * (1 + 1e-9)).all()  # values fall in the order
        assert (upper >= limit * (1 - 1e-9)).all()
        values = [P.value(radius, p) for radius in radii]
        assert_allclose([v.lower for v in values], upper, rtol=1e-9)
        assert_allclose([v.upper for v in values], upper, rtol=1e-9)
        assert all(v.multiplier >= 0 for v in values)
        before = upper


def test_no_radii_at_all():
    P = planar(*problem(0), 2)
    assert P.growth([]).shape == (0, 4)
    for p in (1, np.inf):
        assert all(side.shape == (0,) for side in P.curve([], p))


# ------------------------------------------------------------------------------- bad input


def test_bad_input():
    net, X, y = problem(0)
    with pytest.raises(TypeError, match="Network"):
        planar("net", X, y, 1)
    with pytest.raises(ValueError, match=r"42 cells.*cell_program"):
        planar(random_net(0, 3, 6, 2), np.zeros((1, 3)), [0], 1)
    for f in (planar, lambda *a, **k: cell_program(*a[:3], 1.0, *a[3:], **k)):
        with pytest.raises(ValueError, match="ground norm"):
            f(net, X, y, 3)
        with pytest.raises(ValueError, match="one sample per row"):
            f(net, X[:, :1], y, 1)
        with pytest.raises(ValueError, match="one integer label"):
            f(net, X, y[:2], 1)
        with pytest.raises(ValueError, match="one integer label"):
            f(net, X, y + 0.5, 1)
        with pytest.raises(ValueError, match="from 0 to 1"):
            f(net, X, y + 2, 1)
        with pytest.raises(ValueError, match="loss is"):
            f(net, X, y, 1, "ramp")
        with pytest.raises(ValueError, match="must return C"):
            f(net, X, y, 1, lambda label: (np.ones((1, 3)), [0.0]))
        with pytest.raises(ValueError, match="two arrays, C and e; got ndarray"):
            f(net, X, y, 1, lambda label: np.ones((1, 2)))
        with pytest.raises(ValueError, match="ground norm"):
            f(net, X, y, np.array([1, 2]))
        with pytest.raises(ValueError, match="lie in the box"):
            f(net, X, y, 1, low=10, high=11)
        with pytest.raises(ValueError, match="both sides"):
            f(net, X, y, 1, low=-10)
        with pytest.raises(ValueError, match="only one"):
            f(scalar([(1, [1, 0], 0)]), X, y * 0, 1)
        with pytest.raises(ValueError, match="finite"):
            f(net, X * np.nan, y, 1)
    with pytest.raises(ValueError, match="norm 2"):
        cell_program(net, X, y, 1.0, 2)
    with pytest.raises(ValueError, match="radius"):
        cell_program(net, X, y, -1.0, 1)
    P = planar(net, X, y, 1)
    with pytest.raises(ValueError, match="radius"):
        P.value(-0.1, 1)
    with pytest.raises(ValueError, match="order"):
        P.value(0.1, 0.5)
    with pytest.raises(ValueError, match="at most 1e"):
        P.value(0.1, 1e300)
    with pytest.raises(ValueError, match="radii"):
        P.curve([-0.1], 1)
    with pytest.raises(ValueError, match="distance"):
        P.growth(-1)
    with pytest.raises(ValueError, match="multiplier"):
        P.suprema(-1)
    with pytest.raises(ValueError, match="p = inf"):
        P.suprema(1, np.inf)
    one = planar(scalar([(1, [1, 0], 0)]), X, y * 0, 1, output)
    with pytest.raises(ValueError, match="K >= 2"):
        one.distances_to_error()
