"""ReLU networks as piecewise affine functions: cells and slopes against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog

from advreg import relu
from advreg.relu import (
    Network,
    activations,
    cells,
    evaluate,
    from_torch,
    generic_cell_count,
    gradients,
    label_pairs,
    lipschitz,
    lipsdp,
    mask_bound,
    norm_product,
    slope_at_infinity,
    without_biases,
)

NORMS = [1, 2, np.inf]
DUAL = {1: np.inf, 2: 2, np.inf: 1}


def random_net(seed, *widths, bias=1.0):
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.standard_normal((n, k)) / np.sqrt(k) for k, n in shapes)
    return Network(weights, tuple(bias * rng.standard_normal(n) for _, n in shapes))


def integer_net(seed, *widths, size=1):
    """Small integer weights: parallel, coincident and concurrent lines, zero rows, ties."""
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.integers(-size, size + 1, (n, k)) for k, n in shapes)
    return Network(weights, tuple(rng.integers(-1, 2, n) for _, n in shapes))


def scalar(terms, d=1):
    """sum of a relu(w x + b) from triples (a, w, b); w a number for d = 1."""
    W = np.array([np.broadcast_to(w, (d,)) for _, w, _ in terms], dtype=float)
    b, a = (np.array([t[k] for t in terms], dtype=float) for k in (2, 0))
    return Network((W, a[None]), (b, np.zeros(1)))


ZERO = scalar([(1, 1, 0), (-1, -1, 0), (-1, 1, 0), (1, -1, 0)])
THIN = scalar([(10, 1, 0), (-10, 1, -0.01)])
RAMP = Network(
    (np.array([[1.0, 0], [1.0, 0]]), np.array([[1.0, -1.0]])), (np.array([0.0, -1.0]), np.zeros(1))
)
EXERCISE = scalar([(1, 1, 0), (-2, -1, 0), (3, 1, -1), (-3, 1, -4)])


def slope(matrix, norm):
    """Largest dual norm of a difference of two rows, or of the only one."""
    rows = matrix if len(matrix) == 1 else [a - b for a, b in itertools.combinations(matrix, 2)]
    return max(np.linalg.norm(row, ord=DUAL[norm]) for row in rows)


def largest_ball(A, b):
    """Radius (at most 1) of a ball in {A x <= b}; the definition of a cell with interior."""
    d = A.shape[1]
    answer = linprog(
        np.append(np.zeros(d), -1),
        np.column_stack([A, np.linalg.norm(A, axis=1)]),
        b,
        bounds=[(None, None)] * d + [(None, 1)],
    )
    return answer.x[-1] if answer.status == 0 else -1.0


def all_masks(net, box=None):
    """Every pattern with interior, by one linear program for each of the 2^n patterns."""
    d, found = net.inputs, []
    for mask in itertools.product((False, True), repeat=sum(net.hidden)):
        A, b = np.zeros((0, d)), np.zeros(0)
        if box is not None:
            A = np.vstack([np.eye(d), -np.eye(d)])
            b = np.concatenate([np.full(d, box[1]), np.full(d, -box[0])])
        G, c, at, empty = np.eye(d), np.zeros(d), 0, False
        for W, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
            G, c = W @ G, W @ c + bias
            on = np.array(mask[at : at + len(W)])
            at += len(W)
            for g, h, active in zip(G, c, on, strict=True):
                if np.abs(g).max() < 1e-12:  # a constant: active if positive
                    empty |= bool(active) != (h > 0)
                else:
                    A, b = np.vstack([A, -g if active else g]), np.append(b, h if active else -h)
            G, c = on[:, None] * G, on * c
        if not empty and (not len(A) or largest_ball(A, b) > 1e-7):
            found.append(mask)
    return {tuple(map(bool, mask)) for mask in found}


def jacobian(net, mask):
    """Jacobian of one pattern, layer by layer from the input."""
    G, at = np.eye(net.inputs), 0
    for W in net.weights[:-1]:
        G = np.array(mask[at : at + len(W)], dtype=float)[:, None] * (W @ G)
        at += len(W)
    return net.weights[-1] @ G


def as_set(masks):
    rows = {tuple(map(bool, row)) for row in masks}
    assert len(rows) == len(masks), "a pattern is listed twice"
    return rows


def inside(found, rng, each=3):
    """Random points inside of every polygon: (cell, point)."""
    for i in range(len(found)):
        corners = found.polygon(i)
        weights = rng.dirichlet(np.ones(len(corners)), each)
        yield from ((i, weight @ corners) for weight in weights)


# ------------------------------------------------------------------------------- networks


def test_from_torch_copies_the_network_in_float64():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    net = from_torch(model)
    assert (net.inputs, net.hidden, net.outputs) == (6, (5,), 3)
    x = torch.randn(7, 2, 3)
    assert_allclose(evaluate(net, x.reshape(7, 6).numpy()), model(x).detach().numpy(), atol=1e-6)
    with torch.no_grad():
        model[1].weight.zero_()
    assert net.weights[0].any(), "the network is a copy"
    assert from_torch(nn.Sequential(nn.Linear(2, 1))).hidden == ()
    with pytest.raises(TypeError, match="Tanh"):
        from_torch(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    with pytest.raises(TypeError, match="Sequential"):
        from_torch(nn.Linear(2, 3))
    for layers in ([nn.Linear(2, 3), nn.ReLU()], [nn.Linear(2, 3), nn.Linear(3, 1)], []):
        with pytest.raises(ValueError, match="alternate"):
            from_torch(nn.Sequential(*layers))


def test_networks_that_do_not_fit_together_are_refused():
    W, b = np.ones((3, 2)), np.ones(3)
    for weights, biases, words in [
        ((), (), "one layer"),
        ((W,), (), "one bias"),
        ((b,), (b,), "matrix"),
        ((W, W), (b, b), "one column per neuron"),
        ((W,), (np.ones(2),), "one entry per row"),
        ((W * np.nan,), (b,), "finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            Network(weights, biases)
    with pytest.raises(TypeError, match="real"):
        Network((W * 1j,), (b,))
    net = Network((W,), (b,))
    with pytest.raises(ValueError, match="2 entries per point"):
        evaluate(net, np.ones(3))
    assert_allclose(evaluate(net, np.ones((4, 5, 2))), 3.0)


def test_label_pairs():
    assert label_pairs(3) == [(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2)]
    assert label_pairs(3, [1, 1]) == [(0, 1), (2, 1)]
    for labels in ([3], []):
        with pytest.raises(ValueError, match="class numbers"):
            label_pairs(3, labels)
    with pytest.raises(ValueError, match="at least 2"):
        label_pairs(1)


@pytest.mark.parametrize("widths", [(2, 6, 3), (3, 5, 4, 2)])
def test_the_network_without_biases_stays_within_a_bounded_distance(widths):
    net, rng = random_net(0, *widths), np.random.default_rng(1)
    flat = without_biases(net)
    x = rng.standard_normal((500, widths[0]))
    assert_allclose(evaluate(flat, 7 * x), 7 * evaluate(flat, x), atol=1e-12)
    bound = np.zeros(widths[0])
    for W, b in zip(net.weights, net.biases, strict=True):
        bound = np.abs(W) @ bound + np.abs(b)
    assert (np.abs(evaluate(net, 1e4 * x) - evaluate(flat, 1e4 * x)) <= bound + 1e-8).all()


# ------------------------------------------------------------------------------- polygons


@pytest.mark.parametrize("widths", [(2, 1), (2, 7, 2), (2, 12, 3), (2, 8, 8, 2), (2, 5, 6, 4, 3)])
@pytest.mark.parametrize("make", [random_net, integer_net])
def test_polygons_tile_the_box_and_carry_the_affine_map(widths, make):
    rng = np.random.default_rng(0)
    for seed in range(4):
        net = make(seed, *widths)
        found = cells(net, [-2.0, -1.0], [1.0, 2.0])
        assert_allclose(found.areas.sum(), 9.0, rtol=1e-12)
        assert found.areas.min() > 1e-12
        assert (found.vertices >= [-2, -1]).all() and (found.vertices <= [1, 2]).all()
        for i, x in inside(found, rng):
            value = found.gradients[i] @ x + found.offsets[i]
            assert_allclose(value, evaluate(net, x), atol=1e-11)
        assert_allclose(found.gradients, gradients(net, found.masks), atol=1e-12)
        for i, (mask, center) in enumerate(zip(found.masks, found.points, strict=True)):
            assert_allclose(jacobian(net, mask), gradients(net, mask), atol=1e-12)
            # central differences, which see nothing of the code's activation patterns
            h = 1e-9
            steps = np.array([[h, 0], [0, h]])
            difference = (evaluate(net, center + steps) - evaluate(net, center - steps)) / (2 * h)
            if found.areas[i] > 1e-6:
                assert_allclose(difference.T, gradients(net, mask), atol=1e-4)


def test_polygons_are_convex_and_counterclockwise():
    found = cells(random_net(3, 2, 10, 10, 2), -2, 2)
    for i in range(len(found)):
        sides = np.roll(found.polygon(i), -1, axis=0) - found.polygon(i)
        after = np.roll(sides, -1, axis=0)
        assert (sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0] > -1e-9).all()


@pytest.mark.parametrize("widths", [(2, 6, 1), (2, 3, 3, 2)])
@pytest.mark.parametrize("make", [random_net, integer_net])
def test_polygons_are_the_patterns_with_interior(widths, make):
    for seed in range(3):
        net = make(seed, *widths)
        found = cells(net, -2, 2).masks
        assert {tuple(map(bool, row)) for row in found} == all_masks(net, (-2, 2))


def test_lines_along_the_box_and_coincident_lines_make_no_cells():
    W = np.array([[1.0, 0], [-2.0, 0], [0, 1], [0, 0], [0, 0], [1.0, 0], [1, 1]])
    b = np.array([0.5, -1.0, -1.0, 1.0, 0.0, 0.5, -2.0])  # x = -1/2 thrice, y = 1, corner (1, 1)
    found = cells(Network((W, np.ones((1, 7))), (b, np.zeros(1))), -1, 1)
    assert_allclose(sorted(found.areas), [1.0, 3.0])
    assert_array_equal(
        found.masks[np.argsort(found.areas)],
        [
            [False, True, False, True, False, False, False],
            [True, False, False, True, False, True, False],
        ],
    )


def test_a_hyperplane_that_is_a_wall_has_one_side():
    walls = np.vstack([np.eye(2), -np.eye(2)])
    for sign in (1.0, -1.0):
        W, b = np.vstack([sign * walls[2], walls]), np.array([sign, 1, 1, 1, 1])
        assert_array_equal(relu._affine_sides(W, b, 4), [[sign > 0, True, True, True, True]])


def test_cells_in_general_position_are_as_many_as_the_formula_says():
    assert [generic_cell_count(n, 2) for n in (0, 1, 2, 3, 4)] == [1, 2, 4, 7, 11]
    assert generic_cell_count(3, 5) == 8
    for d, n in [(1, 6), (2, 9), (3, 7), (4, 6), (5, 3)]:
        net = random_net(1, d, n, 2)
        assert len(activations(net)) == generic_cell_count(n, d)
    # a box that holds all vertices meets every cell
    net = random_net(2, 2, 9, 1)
    W, b = net.weights[0], net.biases[0]
    pairs = np.array(list(itertools.combinations(range(9), 2)))
    reach = 2 * np.abs(np.linalg.solve(W[pairs], -b[pairs][..., None])).max()
    assert len(cells(net, -reach, reach)) == generic_cell_count(9, 2)
    # central: twice the cells of a slice
    assert len(activations(random_net(1, 3, 6, 2, bias=0))) == 2 * generic_cell_count(5, 2)


# ------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize("make", [random_net, integer_net])
@pytest.mark.parametrize("widths", [(1, 4, 1), (2, 5, 2), (3, 5, 2), (4, 3, 1)])
@pytest.mark.parametrize("box", [None, (-1, 1)])
def test_patterns_of_one_layer_against_a_program_for_each(make, widths, box):
    for seed in range(2):
        net = make(seed, *widths)
        sides = {} if box is None else {"low": box[0], "high": box[1]}
        assert as_set(activations(net, **sides)) == all_masks(net, box)


@pytest.mark.parametrize("make", [random_net, integer_net])
@pytest.mark.parametrize("widths", [(1, 3, 2, 1), (3, 3, 3, 2)])
@pytest.mark.parametrize("box", [None, (-1, 1)])
def test_patterns_of_two_layers_against_a_program_for_each(make, widths, box):
    net = make(3, *widths)
    sides = {} if box is None else {"low": box[0], "high": box[1]}
    assert as_set(activations(net, **sides)) == all_masks(net, box)


@pytest.mark.parametrize("seed", range(6))
def test_degenerate_patterns_by_vertices_and_by_programs_agree(seed):
    net = integer_net(seed, 3, 8, 1)
    by_vertices = activations(net, -1, 1, method="vertices")
    assert as_set(by_vertices) == as_set(activations(net, -1, 1, method="lp"))
    plane = integer_net(seed, 2, 16, 1, size=3)
    assert as_set(activations(plane, -2, 2)) == as_set(cells(plane, -2, 2).masks)


def test_patterns_of_wide_layers_are_all_different():
    net = random_net(0, 2, 70, 1)  # more than one machine word
    masks = activations(net)
    assert len(as_set(masks)) == generic_cell_count(70, 2)
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((500, 2))
    assert as_set(np.unique(x @ net.weights[0].T + net.biases[0] > 0, axis=0)) <= as_set(masks)


def test_dead_neurons_and_units_change_nothing():
    net = random_net(0, 3, 7, 2)
    (W, A), (b, c) = net.weights, net.biases
    dead = np.array([[1e-9, 0, 1e-9], [0, 0, 0], [0, 0, 0]])
    more = Network((np.vstack([W, dead]), np.hstack([A, A[:, :3]])), (np.append(b, [1, -1, 0]), c))
    for sides in ({}, {"low": -1, "high": 1}):
        count = len(activations(net, **sides))
        # on R^3 the first one is a hyperplane, a thousand million units away
        extra = 0 if sides else generic_cell_count(7, 2)
        assert len(activations(more, **sides)) == count + extra
    # two of five lines nearly coincide, a million units away, and still cross
    lines = np.array([[1.0, 0], [0, 1], [1, 1], [0, 1], [1e-5, 1]])
    far = Network((lines, np.ones((1, 5))), (np.array([0.3, 0.2, -1, -1e6, -1e6 + 1]), np.zeros(1)))
    assert len(activations(far)) == generic_cell_count(5, 2) - 1  # two are parallel
    for unit in (1e-6, 1e6):
        scaled = Network((W / unit, A), (b, c))
        for sides in ({}, {"low": -unit, "high": unit}):
            plain = activations(net, **{k: v / unit for k, v in sides.items()})
            assert as_set(activations(scaled, **sides)) == as_set(plain)
            few = Network((W[:4] / unit, A[:, :4]), (b[:4], c))
            by_lp = as_set(activations(few, method="lp", **sides))
            assert by_lp == as_set(activations(few, **sides))


@pytest.mark.parametrize("norm", NORMS)
def test_neurons_that_cancel_up_to_rounding_make_no_cells(norm):
    rng = np.random.default_rng(0)
    for d in (2, 3):
        w, b = rng.standard_normal((2, d)), rng.standard_normal(2)
        W, b = np.repeat(w, 3, axis=0), np.repeat(b, 3)
        # the second layer adds up copies with weights of sum 0, in numbers that round
        a = rng.standard_normal((6, 2, 2))
        second = np.concatenate([a, -a.sum(axis=2, keepdims=True)], axis=2).reshape(6, 6)
        net = Network((W, second, np.ones((1, 6))), (b, np.zeros(6), np.zeros(1)))
        assert len(activations(net, -1, 1, method="lp")) <= 4
        found = [lipschitz(net, norm, low=-1, high=1, method="lp").upper]
        if d == 2:
            found.append(lipschitz(net, norm, low=-1, high=1).upper)
            assert len(cells(net, -1, 1)) <= 4
        assert max(found) < 1e-13


# ------------------------------------------------------------------------------- Lipschitz


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("widths", [(1, 5, 2), (2, 6, 3), (3, 5, 1), (2, 3, 3, 2), (3, 3, 2, 2)])
def test_lipschitz_against_every_pattern(widths, norm):
    for make in (random_net, integer_net):
        net = make(5, *widths)
        for box in (None, (-1, 1)):
            sides = {} if box is None else {"low": box[0], "high": box[1]}
            exact = max(slope(jacobian(net, mask), norm) for mask in all_masks(net, box))
            found = lipschitz(net, norm, **sides)
            assert found.lower == found.upper
            assert_allclose(found.upper, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_lipschitz_bounds_every_secant_and_is_attained(norm):
    net = random_net(4, 2, 16, 16, 3)
    exact = lipschitz(net, norm, low=-2, high=2)
    assert exact.method == "polygons"
    grid = np.linspace(-2, 2, 401)
    x = np.stack(np.meshgrid(grid, grid), axis=-1)
    values = evaluate(net, x)
    best, h = 0.0, grid[1] - grid[0]
    for step in [(1, 0), (0, 1), (1, 1), (1, -1), (3, 2), (1, 5)]:
        i, j = step
        there = values[i:, j:] if j >= 0 else values[i:, :j]
        here = values[: len(grid) - i, : len(grid) - j] if j >= 0 else values[:-i, -j:]
        change = there - here
        length = np.linalg.norm(h * np.array(step), ord=norm)
        for a, b in itertools.combinations(range(3), 2):
            best = max(best, np.abs(change[..., a] - change[..., b]).max() / length)
    assert 0.9 * exact.upper < best <= exact.upper * (1 + 1e-9)


@pytest.mark.parametrize("norm", [1, np.inf])
@pytest.mark.parametrize("widths", [(2, 8, 3), (3, 9, 2), (4, 6, 1)])
def test_mixed_integer_brackets_hold_the_constant(widths, norm):
    for seed in range(5):
        for make in (random_net, integer_net):
            net = make(seed, *widths)
            box = {"low": -1.0, "high": np.linspace(1, 2, widths[0])}
            exact = lipschitz(net, norm, method="vertices", **box).upper
            found = lipschitz(net, norm, method="milp", **box)
            assert found.lower <= exact * (1 + 1e-9) + 1e-12
            assert exact <= found.upper + 1e-12
            if make is random_net:
                assert found.upper - found.lower <= 1e-4 * exact


def test_a_time_limit_leaves_a_valid_bracket():
    net = random_net(0, 6, 16, 2)
    found = lipschitz(net, np.inf, low=-1, high=1, method="milp", time_limit=1e-9)
    full = lipschitz(net, np.inf, low=-1, high=1, method="milp")
    assert found.lower <= full.lower <= full.upper <= found.upper <= norm_product(net, np.inf)


@pytest.mark.parametrize("norm", NORMS)
def test_counterexamples(norm):
    # closed patterns without interior: the network is 0, a pattern at x = 0 has slope 2
    assert lipschitz(ZERO, norm).upper == lipschitz(ZERO, norm, low=-1, high=1).upper == 0
    assert mask_bound(ZERO, norm) == 2
    # a cell of width 1/100
    assert_allclose(lipschitz(THIN, norm).upper, 10)
    assert_allclose(lipschitz(THIN, norm, low=-5, high=5).upper, 10)
    # the ramp: slope 1 on an unbounded strip, nothing at infinity
    assert lipschitz(RAMP, norm).upper == 1
    assert slope_at_infinity(RAMP, norm) == 0
    # -|x| goes down on both sides: doing nothing is better
    assert slope_at_infinity(scalar([(-1, 1, 0), (-1, -1, 0)]), norm) == 0
    # relu(x) - 2 relu(-x) + 3 relu(x - 1) - 3 relu(x - 4): the left ray decreases
    assert lipschitz(EXERCISE, norm).upper == 4
    assert slope_at_infinity(EXERCISE, norm) == 1
    # as many neurons as inputs: every pattern occurs on R^2, and in [0, 1]^2 only one
    corner = Network((np.eye(2), np.ones((1, 2))), (np.full(2, -5.0), np.zeros(1)))
    assert_allclose(lipschitz(corner, norm).upper, mask_bound(corner, norm))
    assert_allclose(lipschitz(corner, norm).upper, {1: 1, 2: math.sqrt(2), np.inf: 2}[norm])
    assert lipschitz(corner, norm, low=0, high=1).upper == 0


def test_mixed_integer_programs_on_the_counterexamples():
    for norm in (1, np.inf):
        found = lipschitz(ZERO, norm, low=-1, high=1, method="milp")
        assert found.lower == 0
        assert_allclose(found.upper, 2, rtol=1e-4)
        found = lipschitz(THIN, norm, low=-5, high=5, method="milp")
        assert_allclose([found.lower, found.upper], 10, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_upper_bounds_form_a_chain(norm):
    for seed in range(4):
        for widths in [(2, 7, 3), (3, 18, 2), (5, 4, 2)]:
            for make in (random_net, integer_net):
                net = make(seed, *widths)
                chain = [
                    lipschitz(net, norm, low=-1, high=1).upper,
                    lipschitz(net, norm).upper,
                    mask_bound(net, norm),
                    norm_product(net, norm),
                ]
                for smaller, larger in itertools.pairwise(chain):
                    assert smaller <= larger * (1 + 1e-9)
                assert slope_at_infinity(net, norm) <= chain[1] * (1 + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("widths", [(2, 9, 2), (3, 8, 3), (22, 4, 2), (4, 17, 2)])
def test_mask_bound_against_all_patterns(widths, norm):
    net = random_net(2, *widths)
    n = widths[1]
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
    best = 0.0
    for a, b in itertools.combinations(net.weights[1], 2):
        for part in np.array_split(bits, 32):
            sums = part @ ((a - b)[:, None] * net.weights[0])
            best = max(best, np.linalg.norm(sums, ord=DUAL[norm], axis=1).max(initial=0))
    assert_allclose(mask_bound(net, norm), best, rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_norm_product_is_attained_by_linear_and_diagonal_networks(norm):
    W = np.random.default_rng(0).standard_normal((3, 4))
    linear = Network((W,), (np.zeros(3),))
    assert_allclose(norm_product(linear, norm), slope(W, norm))
    found = lipschitz(linear, norm)
    assert found.method == "linear"
    assert_allclose(found.upper, slope(W, norm))
    deep = Network(
        (2 * np.eye(2), 3 * np.eye(2), np.eye(2)[:1]), (np.zeros(2),) * 2 + (np.zeros(1),)
    )
    assert_allclose(norm_product(deep, norm), 6)
    assert_allclose(lipschitz(deep, norm, low=-1, high=1).upper, 6)
    # the spectral norms do not bound the slope against the attack in the largest entry
    total = Network((np.eye(4), np.ones((1, 4))), (np.zeros(4), np.zeros(1)))
    assert lipschitz(total, np.inf).upper == 4 > norm_product(total, 2)


def test_pairs_choose_the_differences():
    net = random_net(0, 2, 6, 3)
    found = cells(net, -1, 1)
    for pair in label_pairs(3):
        value = lipschitz(net, 2, low=-1, high=1, pairs=[pair]).upper
        difference = found.gradients[:, pair[0]] - found.gradients[:, pair[1]]
        assert_allclose(value, np.linalg.norm(difference, axis=1).max())
        assert_allclose(found.slopes(2, [pair])[:, 0], np.linalg.norm(difference, axis=1))
    assert lipschitz(net, 2, low=-1, high=1).upper == found.slopes(2).max()


# ------------------------------------------------------------------------------- semidefinite bound


def differences(net):
    if net.outputs == 1:
        return net.weights[1]
    return np.array([a - b for a, b in itertools.combinations(net.weights[1], 2)])


def eigenvalue(W, a, t):
    """The certificate of one t, as it stands in the docstring."""
    v, s = W.T @ a, (a**2 / t).sum()
    assert s < 2
    return np.linalg.eigvalsh(W.T @ (t[:, None] * W) / 2 + np.outer(v, v) / (4 - 2 * s))[-1]


@pytest.mark.parametrize("widths", [(2, 4, 1), (3, 8, 2), (2, 16, 2), (6, 12, 3), (4, 32, 1)])
def test_semidefinite_bound_against_the_matrix_inequality(widths):
    cp = pytest.importorskip("cvxpy")
    for seed in range(2):
        net = random_net(seed, *widths)
        W, best = net.weights[0], 0.0
        for a in differences(net):
            t, rho = cp.Variable(len(a), nonneg=True), cp.Variable()
            TW = cp.diag(t) @ W
            lmi = cp.bmat(
                [[-rho * np.eye(W.shape[1]), TW.T], [TW, np.outer(a, a) - 2 * cp.diag(t)]]
            )
            problem = cp.Problem(cp.Minimize(rho), [(lmi + lmi.T) / 2 << 0])
            best = max(best, math.sqrt(problem.solve(solver=cp.CLARABEL)))
        assert_allclose(lipsdp(net), best, rtol=1e-5)


@pytest.mark.parametrize("make", [random_net, integer_net])
def test_semidefinite_bound_between_all_patterns_and_the_product(make):
    for seed in range(6):
        for widths in [(2, 9, 2), (3, 8, 3), (5, 4, 2), (2, 40, 2), (4, 3, 1), (1, 6, 2)]:
            net = make(seed, *widths)
            bound, masks = lipsdp(net), mask_bound(net, 2)
            assert masks <= bound * (1 + 1e-12)
            assert bound <= norm_product(net, 2) * (1 + 1e-12)
            assert bound <= math.sqrt(math.pi / 2) * masks * (1 + 1e-6)  # Nesterov's constant
            assert lipschitz(net, 2).upper <= bound * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 4), n=st.integers(1, 6))
def test_no_certificate_is_below_the_semidefinite_bound_or_a_pattern(seed, d, n):
    rng = np.random.default_rng(seed)
    net = Network((rng.standard_normal((n, d)), rng.standard_normal((1, n))), (np.ones(n), [0.0]))
    W, a = net.weights[0], net.weights[1][0]
    t = rng.exponential(size=n) + 1e-3
    t *= (a**2 / t).sum() / rng.uniform(0.05, 1.95)
    value = math.sqrt(eigenvalue(W, a, t))
    assert lipsdp(net) <= value * (1 + 1e-6)
    for D in (*itertools.product((0, 1), repeat=n), *rng.random((20, n))):
        assert np.linalg.norm(W.T @ (np.array(D) * a)) <= value * (1 + 1e-9)
    t = np.full(n, a @ a)
    assert eigenvalue(W, a, t) <= norm_product(net, 2) ** 2 * (1 + 1e-9)


def test_semidefinite_bound_is_a_certificate_even_if_the_search_is_cut_short():
    for seed in range(10):
        net = random_net(seed, 3, 8, 1)
        W, a = net.weights[0], net.weights[1][0]
        G = np.column_stack([W.T @ a, W.T * a]) / 2
        lower, upper = relu._relaxed(G)
        for sweeps in (0, 10):
            early = relu._relaxed(G, sweeps)
            assert early[0] <= lower * (1 + 1e-7) and early[1] >= upper * (1 - 1e-7)
        assert upper <= lower * (1 + 1e-7)


def test_semidefinite_bound_in_closed_form():
    # the weights of orthogonal rows do not interact: sum (a_i |w_i| u_i)_+ over unit vectors u
    diagonal = Network((np.diag([1.0, 2, 3]), [[4.0, -5, 6]]), (np.zeros(3), [0.0]))
    assert_allclose(lipsdp(diagonal), math.hypot(4, 10, 18))
    # relu(u) + relu(-u) = |u|; in relu(u) - relu(-u) = u the pattern of both neurons has slope 2
    for sign, value in ((1.0, 1.0), (-1.0, 2.0)):
        mirror = Network(([[1.0], [-1.0]], [[1.0, sign]]), (np.zeros(2), [0.0]))
        assert_allclose(lipsdp(mirror), value)
    assert lipsdp(ZERO) == pytest.approx(2)  # sees no cells
    assert lipsdp(EXERCISE) == pytest.approx(6)
    assert lipsdp(Network((np.zeros((3, 2)), np.ones((1, 3))), (np.ones(3), [0.0]))) == 0
    dead = Network(([[1.0, 0], [0, 0], [5, 5]], [[2.0, 3, 0]]), (np.zeros(3), [0.0]))
    assert_allclose(lipsdp(dead), 2)
    # biases do not matter, the units do
    net = random_net(0, 3, 7, 2)
    (W, A), _ = net.weights, net.biases
    assert lipsdp(without_biases(net)) == lipsdp(net)
    assert_allclose(lipsdp(Network((1e-9 * W, 1e3 * A), net.biases)), 1e-6 * lipsdp(net))
    three = random_net(0, 2, 6, 3)
    by_pair = [lipsdp(three, pairs=[pair]) for pair in ((0, 1), (0, 2), (2, 1))]
    assert lipsdp(three) == max(by_pair) > min(by_pair)


# ------------------------------------------------------------------------------- slope at infinity


def sampled_slope(net, norm, labels=None, points=40_000):
    """A lower bound of the slope at infinity, from directions at random."""
    u = np.random.default_rng(0).standard_normal((points, net.inputs))
    u /= np.linalg.norm(u, ord=norm, axis=1, keepdims=True)
    values = evaluate(without_biases(net), u)
    if net.outputs == 1:
        return max(values.max(), 0.0)
    pairs = label_pairs(net.outputs, labels)
    return max(max((values[:, j] - values[:, y]).max(), 0.0) for j, y in pairs)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("widths", [(1, 4, 2), (2, 8, 3), (2, 5, 5, 2), (3, 6, 1), (3, 3, 3, 2)])
def test_slope_at_infinity_against_directions_at_random(widths, norm):
    for make in (random_net, integer_net):
        for seed in range(2):
            net = make(seed, *widths)
            exact, sampled = slope_at_infinity(net, norm), sampled_slope(net, norm)
            assert sampled <= exact + 1e-9
            assert exact <= sampled * (1.001 if widths[0] < 3 else 1.05) + 1e-9


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("widths", [(2, 7, 2), (2, 3, 3, 2), (3, 7, 1), (4, 5, 2)])
def test_slope_at_infinity_by_rays_and_by_the_dual_of_every_cone(widths, norm):
    """min over mu >= 0 of ||g - A^T mu||_*, by linear programs that know no direction."""
    for make in (random_net, integer_net):
        net = without_biases(make(7, *widths))
        rows = np.ones((1, 1)) if net.outputs == 1 else np.array([[1.0, -1], [-1, 1]])
        by_cones = relu._by_cones(net, norm, rows)
        assert_allclose(slope_at_infinity(net, norm), by_cones, atol=1e-8)
        if len(widths) > 3 or norm == 2:
            continue
        best = 0.0
        for mask in activations(net):
            A = np.where(mask[:, None], -1.0, 1.0) * net.weights[0]
            m, d = A.shape
            for g in rows @ jacobian(net, mask):
                wide = 1 if norm == 1 else d  # residual |g - A^T mu| <= t: largest, or summed
                spread = np.ones((d, 1)) if wide == 1 else np.eye(d)
                upper = np.vstack([np.hstack([A.T, -spread]), np.hstack([-A.T, -spread])])
                cost = np.concatenate([np.zeros(m), np.ones(wide)])
                best = max(best, linprog(cost, upper, np.concatenate([g, -g])).fun)
        assert_allclose(by_cones, best, atol=1e-8)


def test_slope_at_infinity_counts_the_labels_that_are_present():
    net = random_net(1, 2, 8, 3)
    values = {}
    for labels in ([0], [1], [2], [0, 1], [0, 1, 2]):
        values[tuple(labels)] = slope_at_infinity(net, 2, labels)
        assert_allclose(values[tuple(labels)], sampled_slope(net, 2, labels), rtol=1e-3)
    assert len(set(values.values())) > 2
    assert values[0, 1] == max(values[0,], values[1,])
    assert values[0, 1, 2] == slope_at_infinity(net, 2)
    with pytest.raises(ValueError, match="this network has one"):
        slope_at_infinity(RAMP, 2, [0])


def test_slope_at_infinity_is_not_the_largest_gradient_of_unbounded_cells():
    net = random_net(0, 2, 8, 2)
    central = without_biases(net)
    naive = max(slope(jacobian(net, mask), np.inf) for mask in activations(net))
    assert slope_at_infinity(net, np.inf) == slope_at_infinity(central, np.inf) < naive


# ------------------------------------------------------------------------------- properties


networks = st.builds(
    lambda seed, d, n, K, integers: (integer_net if integers else random_net)(seed, d, n, K),
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 3),
    st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(net=networks, norm=st.sampled_from(NORMS), t=st.floats(0.01, 100), data=st.data())
def test_scaling_and_symmetries(net, norm, t, data):
    (W, A), (b, c) = net.weights, net.biases
    value, far = lipschitz(net, norm, low=-1, high=2).upper, slope_at_infinity(net, norm)

    def check(other, factor=1.0, low=-1.0, high=2.0):
        found = lipschitz(other, norm, low=low, high=high).upper
        assert_allclose(found, factor * value, rtol=1e-9, atol=1e-11)
        assert_allclose(slope_at_infinity(other, norm), factor * far, rtol=1e-8, atol=1e-10)

    check(Network((W, t * A), (b, c)), t)  # larger outputs
    check(Network((t * W, A / t), (t * b, c)))  # a factor moved through the layer
    check(Network((t * W, A), (b, c)), t, -1 / t, 2 / t)  # another unit of the inputs
    order = np.array(data.draw(st.permutations(range(len(W)))))
    check(Network((W[order], A[:, order]), (b[order], c)))
    twice = Network((np.repeat(W, 2, 0), np.repeat(A, 2, 1) / 2), (np.repeat(b, 2), c))
    check(twice)  # coincident neurons
    turn = np.array(data.draw(st.permutations(range(net.inputs))))
    check(Network((W[:, turn], A), (b, c)))
    if net.outputs > 1:
        check(Network((W, A + A[0]), (b, c + 5)))  # the same function added to all outputs


@settings(max_examples=25, deadline=None)
@given(net=networks, norm=st.sampled_from(NORMS), seed=st.integers(0, 1000))
def test_no_secant_is_steeper_than_the_bounds(net, norm, seed):
    x = np.random.default_rng(seed).uniform(-1, 2, (60, net.inputs))
    values, i, j = evaluate(net, x), *np.triu_indices(60, 1)
    change = values[i] - values[j]
    if net.outputs > 1:
        a, b = np.triu_indices(net.outputs, 1)
        change = change[:, a] - change[:, b]
    length = np.linalg.norm(x[i] - x[j], ord=norm, axis=1)
    steepest = (np.abs(change).max(axis=1) / length).max()
    exact = lipschitz(net, norm, low=-1, high=2)
    assert steepest <= exact.upper * (1 + 1e-9) + 1e-11
    if norm != 2:
        bracket = lipschitz(net, norm, low=-1, high=2, method="milp")
        assert bracket.lower <= exact.lower * (1 + 1e-9) + 1e-11
        assert exact.upper <= bracket.upper + 1e-11


# ------------------------------------------------------------------------------- refusals


def test_what_is_refused_and_what_is_said():
    net, deep, wide = random_net(0, 2, 3, 2), random_net(0, 3, 20, 20, 2), random_net(0, 30, 40, 2)
    refused = [
        (lambda: cells(deep, -1, 1), "two inputs"),
        (lambda: cells(net, 1, 1), "low must be less"),
        (lambda: cells(net, None, None), "box"),
        (lambda: cells(net, np.zeros(3), 1), "one entry per input"),
        (lambda: lipschitz(net, 2, low=0), "both sides"),
        (lambda: lipschitz(net, 3), "ground norm"),
        (lambda: lipschitz(net, True), "ground norm"),
        (lambda: lipschitz(net, 2, method="fast"), "one of auto"),
        (lambda: lipschitz(net, 2, method="polygons"), "needs a box"),
        (lambda: lipschitz(net, 2, low=0, high=1, method="milp"), "norm 1 or numpy.inf"),
        (lambda: lipschitz(net, 1, method="milp"), "in a box"),
        (lambda: lipschitz(deep, 2), "1.1e\\+04 cells.*norm_product"),
        (lambda: lipschitz(deep, 2, method="vertices"), "one hidden layer"),
        (lambda: lipschitz(wide, 2), "method='milp'"),
        (lambda: activations(random_net(0, 2, 60, 60, 2)), "polygons are fast"),
        (lambda: activations(net, method="milp"), "'vertices' or 'lp'"),
        (lambda: lipschitz(net, 2, pairs=[(0, 0)]), "two different outputs"),
        (lambda: lipschitz(net, 2, pairs=[(0, 2)]), "two different outputs"),
        (lambda: lipschitz(net, 2, pairs=[]), "pairs"),
        (lambda: lipschitz(net, 2, pairs=[0]), "pairs"),
        (lambda: lipschitz(net, 1, low=0, high=1, method="milp", time_limit=0), "time_limit"),
        (lambda: mask_bound(deep, 2), "one hidden layer"),
        (lambda: lipsdp(deep), "one hidden layer"),
        (lambda: lipsdp(net, pairs=[(1, 1)]), "two different outputs"),
        (lambda: mask_bound(wide, 2), "norm_product"),
        (lambda: mask_bound(wide, np.inf), "2\\^d signs"),
        (lambda: slope_at_infinity(deep, 2), "too many"),
        (lambda: slope_at_infinity(wide, 2), "too many cones"),
        (lambda: slope_at_infinity(wide, 1), "too many to list"),
        (lambda: slope_at_infinity(net, 2, [5]), "class numbers"),
        (lambda: gradients(net, np.ones(3)), "booleans"),
        (lambda: gradients(net, np.ones(4, dtype=bool)), "one per hidden neuron"),
    ]
    for call, words in refused:
        with pytest.raises(ValueError, match=words):
            call()
    for call in (lambda: cells(None, 0, 1), lambda: lipschitz("net", 2), lambda: evaluate(3, [1])):
        with pytest.raises(TypeError, match="Network"):
            call()
    assert mask_bound(wide, 1) <= norm_product(wide, 1)


def test_too_many_polygons_are_refused(monkeypatch):
    monkeypatch.setattr(relu, "MOST_POLYGONS", 100)
    with pytest.raises(ValueError, match="more than 100 cells"):
        cells(random_net(0, 2, 40, 2), -5, 5)


def test_the_module_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, advreg.relu; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
