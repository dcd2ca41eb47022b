"""Exact worst cases near a point: against cells, enumerated patterns, grids, linear programs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from advreg import verify
from advreg.relu import Network, cells, evaluate
from advreg.verify import distance_to_error, distances_to_error, worst_margin

NORMS = [1, np.inf]
WIDTHS = [(2, 6, 2), (2, 8, 3), (2, 5, 5, 2), (2, 4, 4, 4, 3)]


def random_net(seed, *widths, bias=1.0):
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.standard_normal((n, k)) / np.sqrt(k) for k, n in shapes)
    return Network(weights, tuple(bias * rng.standard_normal(n) for _, n in shapes))


def integer_net(seed, *widths):
    """Small integer weights: parallel, coincident and concurrent lines, zero rows, ties."""
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.integers(-1, 2, (n, k)) for k, n in shapes)
    return Network(weights, tuple(rng.integers(-1, 2, n) for _, n in shapes))


def two_class(terms, offset=0.0):
    """f_0 = 0 and f_1 = offset + sum of a relu(w x + b) from triples (a, w, b), d = 1."""
    W = np.array([[w] for _, w, _ in terms], dtype=float)
    b, a = (np.array([t[k] for t in terms], dtype=float) for k in (2, 0))
    return Network((W, np.vstack([np.zeros_like(a), a])), (b, np.array([0.0, offset])))


def margin(net, points, label):
    """Written out again: max over j != y of f_j - f_y."""
    f = evaluate(net, points)
    return np.max([f[..., j] for j in range(net.outputs) if j != label], axis=0) - f[..., label]


def length(e, norm):
    return np.linalg.norm(e, ord=norm, axis=-1)


# ------------------------------------------------------------------------------- oracles in 2-D


def largest_by_cells(net, x, label, radius, norm):
    """The margin is convex on each cell: it is largest at a corner of a cell of the ball.

    For norm 1 the ball is a square in turned coordinates.
    """
    turn = np.array([[0.5, 0.5], [-0.5, 0.5]]) if norm == 1 else np.eye(2)
    first = net.weights[0] @ turn, net.biases[0] + net.weights[0] @ x
    turned = Network((first[0], *net.weights[1:]), (first[1], *net.biases[1:]))
    return margin(turned, cells(turned, -radius, radius).vertices, label).max()


def nearest_by_cells(net, x, label, norm, low, high):
    """Each polygon is cut by f_j >= f_y, and its nearest point found by a linear program."""
    parts = cells(net, low, high)
    best = math.inf
    for i, j in itertools.product(range(len(parts)), range(net.outputs)):
        corners = parts.polygon(i)
        f = evaluate(net, corners)
        v = f[:, j] - f[:, label]
        if j == label or v.max() < 0:
            continue
        points = list(corners[v >= 0])
        for a in range(len(v)):
            b = (a + 1) % len(v)
            if v[a] * v[b] < 0:
                points.append(corners[a] + v[a] / (v[a] - v[b]) * (corners[b] - corners[a]))
        E = (np.array(points) - x).T
        k = E.shape[1]
        bound = np.ones((2, 1)) if norm == np.inf else np.eye(2)
        slack = bound.shape[1]
        answer = linprog(
            np.concatenate([np.zeros(k), np.ones(slack)]),
            np.vstack([np.hstack([E, -bound]), np.hstack([-E, -bound])]),
            np.zeros(4),
            np.concatenate([np.ones(k), np.zeros(slack)])[None],
            [1.0],
        )
        best = min(best, answer.fun)
    return best


@pytest.mark.parametrize("norm", NORMS)
def test_worst_margin_against_cells(norm):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        net = random_net(seed, *WIDTHS[seed % 4])
        x, label = rng.standard_normal(2), int(rng.integers(net.outputs))
        radius = rng.uniform(0.1, 3)
        exact = largest_by_cells(net, x, label, radius, norm)
        found = worst_margin(net, x, label, radius, norm)
        assert found.status == "solved"
        # rounding alone; then: the solver's tolerance, which is what `upper` allows for
        assert found.lower <= exact + 1e-12 * (1 + abs(exact))
        assert exact <= found.upper + 1e-12 * (1 + abs(exact))
        assert found.upper - found.lower <= 2e-6 * (1 + abs(exact))
        assert margin(net, found.point, label) == pytest.approx(found.lower, abs=1e-12)
        assert length(found.point - x, norm) <= radius * (1 + 1e-12)


def test_worst_margin_in_a_box_against_cells():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        net = random_net(seed, *WIDTHS[seed % 4])
        x, label, radius = rng.uniform(0, 1, 2), int(rng.integers(net.outputs)), 0.6
        if seed % 3 == 0:
            x[0] = 0.0  # on a side of the box
        low, high = np.maximum(x - radius, [0.0, -0.2]), np.minimum(x + radius, [1.0, 1.1])
        exact = margin(net, cells(net, low, high).vertices, label).max()
        found = worst_margin(net, x, label, radius, np.inf, low=[0.0, -0.2], high=[1.0, 1.1])
        assert found.lower - 1e-12 <= exact <= found.upper + 1e-12
        assert found.upper - found.lower <= 2e-6 * (1 + abs(exact))
        assert (found.point >= [0.0, -0.2]).all() and (found.point <= [1.0, 1.1]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_distance_against_cells(norm):
    nowhere = 0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        net = random_net(seed, *WIDTHS[seed % 4])
        x = rng.uniform(-1, 1, 2)
        label = int(evaluate(net, x).argmax())
        low, high = -1.5 - rng.random(2), 1.5 + rng.random(2)
        exact = nearest_by_cells(net, x, label, norm, low, high)
        found = distance_to_error(net, x, label, norm, low=low, high=high)
        if math.isinf(exact):
            nowhere += 1
            assert found == (math.inf, math.inf, None, "none within")
            continue
        assert found.status == "solved"
        assert found.lower <= exact * (1 + 1e-9) and exact <= found.upper * (1 + 1e-9)
        assert found.upper - found.lower <= 1e-6 * exact
        assert margin(net, found.point, label) >= 0
        assert length(found.point - x, norm) == found.upper
        assert (found.point >= low).all() and (found.point <= high).all()
    assert 5 < nowhere < 35  # both cases were met


def test_distance_without_a_box():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        net, x = random_net(seed, 2, 6, 3), rng.standard_normal(2)
        label = int(evaluate(net, x).argmax())
        found = distance_to_error(net, x, label)
        if found.point is None:
            assert found.status == "none within"
            assert found.lower == 100 * (1 + np.abs(x).max())
            continue
        r = 1.5 * found.upper
        exact = nearest_by_cells(net, x, label, np.inf, x - r, x + r)
        assert found.lower <= exact * (1 + 1e-9) and exact <= found.upper * (1 + 1e-9)
        assert found.upper - found.lower <= 1e-6 * exact


@pytest.mark.parametrize("norm", NORMS)
def test_against_the_planar_growth(norm):
    """Growth along segments (advreg.wdro_networks) knows no program and no binary."""
    from advreg.wdro_networks import planar

    for seed in range(16):
        build = integer_net if seed % 2 else random_net
        net = build(seed, *[(2, 6, 2), (2, 5, 5, 3)][seed // 2 % 2])
        X = np.random.default_rng(seed).uniform(-1, 1, (2, 2))
        y = evaluate(net, X).argmax(axis=1)
        plane = planar(net, X, y, norm, "margin", low=-1, high=1)
        found = distances_to_error(net, X, y, norm, low=-1, high=1)
        exact = plane.distances_to_error()
        assert (found.lower <= exact * (1 + 1e-9) + 1e-12).all()
        assert (exact <= found.upper * (1 + 1e-8) + 1e-9).all()
        largest = plane.clean + plane.growth(0.37)
        for x, label, value in zip(X, y, largest, strict=True):
            worst = worst_margin(net, x, label, 0.37, norm, low=-1, high=1)
            assert worst.lower - 1e-9 <= value <= worst.upper + 1e-9


# ------------------------------------------------------------------------------- more inputs


def patterns(net, x, radius, norm, low, high):
    """Every pair of patterns of two hidden layers: its affine map, and its rows A v <= b.

    v = (x', s), where s >= |x' - x| for norm 1; all of them, empty or not.
    """
    d = net.inputs
    (W1, W2, _), (b1, b2, _) = net.weights, net.biases
    one, none = np.eye(d), np.zeros((d, d))
    if norm == 1:
        A0 = np.vstack([np.hstack([one, -one]), np.hstack([-one, -one]), np.repeat([0, 1], d)])
        b0 = np.concatenate([x, -x, [radius]])
    else:
        A0, b0 = np.vstack([np.hstack([one, none]), np.hstack([-one, none])]), np.zeros(2 * d)
        b0 = np.concatenate([x + radius, radius - x])
    box = np.vstack([np.hstack([one, none]), np.hstack([-one, none])])
    A0, b0 = np.vstack([A0, box]), np.concatenate([b0, high, -low])
    for first in itertools.product([0.0, 1.0], repeat=len(W1)):
        s = 1 - 2 * np.array(first)
        A1 = np.vstack([A0, np.hstack([s[:, None] * W1, np.zeros_like(W1)])])
        c1 = np.concatenate([b0, -s * b1])
        if linprog(np.zeros(2 * d), A1, c1, bounds=(None, None)).status:
            continue
        G, g = W2 @ (np.array(first)[:, None] * W1), W2 @ (np.array(first) * b1) + b2
        for second in itertools.product([0.0, 1.0], repeat=len(W2)):
            t = 1 - 2 * np.array(second)
            A = np.vstack([A1, np.hstack([t[:, None] * G, np.zeros_like(G)])])
            yield np.array(second)[:, None] * G, np.array(second) * g, A, np.append(c1, -t * g)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_all_patterns_of_a_deep_net(seed, norm):
    net = random_net(seed, 3, 4, 4, 2, bias=0.5)
    rng = np.random.default_rng(seed)
    x, label, radius = rng.uniform(-0.5, 0.5, 3), seed % 2, 0.8
    low, high = np.full(3, -0.7), np.full(3, 0.9)
    a = net.weights[-1][1 - label] - net.weights[-1][label]
    c = net.biases[-1][1 - label] - net.biases[-1][label]
    exact = -math.inf
    for G, g, A, b in patterns(net, x, radius, norm, low, high):
        cost = np.append(-a @ G, np.zeros(3))
        answer = linprog(cost, A, b, bounds=(None, None))
        if answer.status == 0:
            exact = max(exact, a @ g + c - answer.fun)
    found = worst_margin(net, x, label, radius, norm, low=low, high=high)
    assert found.lower - 1e-7 <= exact <= found.upper + 1e-7  # accuracy of the oracle
    assert found.upper - found.lower <= 2e-6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("widths", [(4, 12, 3), (4, 6, 6, 3), (3, 5, 5, 5, 2)])
def test_no_sampled_point_is_worse(norm, widths):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        net, x = random_net(seed, *widths), rng.uniform(0, 1, widths[0])
        label = int(evaluate(net, x).argmax())
        found = worst_margin(net, x, label, 0.5, norm, low=0, high=1)
        e = rng.uniform(-1, 1, (20_000, widths[0]))
        e *= 0.5 * rng.random((20_000, 1)) / length(e, norm)[:, None]
        points = np.clip(x + e, 0, 1)
        assert margin(net, points, label).max() <= found.upper
        nearest = distance_to_error(net, x, label, norm, low=0, high=1)
        everywhere = rng.uniform(0, 1, (20_000, widths[0]))
        wrong = everywhere[margin(net, everywhere, label) >= 0]
        if len(wrong):
            assert length(wrong - x, norm).min() >= nearest.lower
        else:
            assert nearest.lower > 0


@pytest.mark.parametrize("norm", NORMS)
def test_the_two_questions_agree(norm):
    """Just below the distance the largest margin is negative, at the distance it is not."""
    met = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        widths = [(5, 12, 3), (5, 8, 8, 3)][seed % 2]
        net, x = random_net(seed, *widths), rng.uniform(-1, 1, 5)
        label = int(evaluate(net, x).argmax())
        found = distance_to_error(net, x, label, norm, low=-2, high=2)
        if found.point is None:
            assert worst_margin(net, x, label, 20, norm, low=-2, high=2).upper < 0
            continue
        met += 1
        before, at = (
            worst_margin(net, x, label, r, norm, low=-2, high=2)
            for r in (found.lower * (1 - 1e-4), found.upper * (1 + 1e-9))
        )
        assert before.upper < 0 <= at.upper
        assert at.lower >= -1e-6
    assert met > 4


def test_no_attack_exceeds_the_certificate():
    torch = pytest.importorskip("torch")
    from advreg.attacks import Ball, pgd
    from advreg.relu import from_torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)
    ).double()
    with torch.no_grad():
        model[0].weight *= 3
    net = from_torch(model)
    x = torch.rand(12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(dim=1)
    for norm in NORMS:
        radius = 0.3 if norm == np.inf else 1.2
        exact = [worst_margin(net, a, int(b), radius, norm, low=0, high=1)
                 for a, b in zip(x.numpy(), y.numpy(), strict=True)]  # fmt: skip
        attack = pgd(model, x, y, Ball(radius, norm), steps=40, restarts=5,
                     generator=torch.Generator().manual_seed(2))  # fmt: skip
        f = model(attack.points).detach().numpy()
        attacked = np.array([np.delete(row, j).max() - row[j]
                             for row, j in zip(f, y.numpy(), strict=True)])  # fmt: skip
        upper, lower = (np.array([getattr(e, side) for e in exact]) for side in ("upper", "lower"))
        assert (attacked <= upper + 1e-9).all()
        assert np.median(lower - attacked) < 0.05  # and the attack is no straw man
        certified = upper < 0
        distances = distances_to_error(net, x.numpy(), y.numpy(), norm, low=0, high=1)
        assert (certified == (distances.lower > radius)).all()
        assert 0 < certified.sum() < 12


# ------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_linear_maximum_over_the_ball(norm, box):
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, g, radius = rng.uniform(0, 1, 4), rng.standard_normal(4), rng.uniform(0.1, 2)
        sides = None if box is None else (np.zeros(4), np.ones(4))
        ball = verify._ball(x, radius, norm, sides)
        value, e = ball.best(g)
        limits = np.full(4, radius) if norm == np.inf else np.full(4, np.inf)
        up = limits if box is None else np.minimum(limits, 1 - x)
        down = limits if box is None else np.minimum(limits, x)
        answer = linprog(
            np.concatenate([-g, g]),
            np.ones((1, 8)) if norm == 1 else None,
            [radius] if norm == 1 else None,
            bounds=np.column_stack([np.zeros(8), np.concatenate([up, down])]),
        )
        assert value == pytest.approx(-answer.fun, abs=1e-9)
        assert g @ e == pytest.approx(value, abs=1e-12)
        assert length(e, norm) <= radius * (1 + 1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_ranges_and_relaxations_hold_every_sample(norm):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        net = random_net(seed, 4, 7, 6, 5, 3)
        x, radius = rng.uniform(0, 1, 4), rng.uniform(0.05, 1.0)
        ball = verify._ball(x, radius, norm, (np.zeros(4), np.ones(4)) if seed % 2 else None)
        ranges = verify._ranges(net, ball)
        h = ball.sample(rng, 3000)
        for W, b, (lo, hi) in zip(net.weights[:-1], net.biases[:-1], ranges, strict=True):
            p = h @ W.T + b
            assert (p >= lo).all() and (p <= hi).all()
            h = np.maximum(p, 0)
        rows, offsets = verify._targets(net, 1)
        bounds = verify._relaxed(net, ball, ranges, rows, offsets)
        assert (h @ rows.T + offsets <= bounds).all()


def test_ranges_of_the_first_layer_are_exact_and_deeper_ones_beat_intervals():
    net = random_net(0, 3, 8, 8, 2)
    ball = verify._ball(np.zeros(3), 0.5, np.inf, None)
    (lo, hi), (deep_lo, deep_hi) = verify._ranges(net, ball)
    W, b = net.weights[0], net.biases[0]
    assert_allclose(hi, b + 0.5 * np.abs(W).sum(axis=1), atol=1e-10)
    assert_allclose(lo, b - 0.5 * np.abs(W).sum(axis=1), atol=1e-10)
    up, down = np.maximum(net.weights[1], 0), np.minimum(net.weights[1], 0)
    interval = (up - down) @ (np.maximum(hi, 0) - np.maximum(lo, 0))
    assert (deep_hi - deep_lo <= interval + 1e-9).all()
    assert (deep_hi - deep_lo).sum() < 0.95 * interval.sum()


# ------------------------------------------------------------------------------- special cases


@pytest.mark.parametrize("norm", NORMS)
def test_linear_models_have_closed_forms(norm):
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((3, 4)), rng.standard_normal(3)
    net, x = Network((W,), (b,)), rng.standard_normal(4)
    f = W @ x + b
    label = int(f.argmax())
    dual = 1 if norm == np.inf else np.inf
    others = [j for j in range(3) if j != label]
    slopes = np.array([np.linalg.norm(W[j] - W[label], ord=dual) for j in others])
    exact = (f[others] - f[label] + 0.3 * slopes).max()
    found = worst_margin(net, x, label, 0.3, norm)
    assert found.lower == pytest.approx(exact, abs=1e-12)
    assert found.upper == pytest.approx(exact, abs=1e-9)
    nearest = ((f[label] - f[others]) / slopes).min()
    found = distance_to_error(net, x, label, norm)
    assert found.upper == pytest.approx(nearest, rel=1e-7)
    assert found.lower == pytest.approx(nearest, rel=1e-6) and found.lower <= nearest


def test_one_input_by_hand():
    # f_1 - f_0 = -1 + relu(x) + 2 relu(-x): errors are x >= 1 and x <= -1/2
    net = two_class([(1, 1, 0), (2, -1, 0)], offset=-1.0)
    for norm in NORMS:
        found = distance_to_error(net, [0.1], 0, norm)
        assert found.upper == pytest.approx(0.6, abs=1e-9)
        assert found.lower == pytest.approx(0.6, abs=1e-6) and found.lower <= 0.6
        assert found.point[0] == pytest.approx(-0.5, abs=1e-9)
        boxed = distance_to_error(net, [0.1], 0, norm, low=0, high=2)
        assert boxed.upper == pytest.approx(0.9, abs=1e-9)
        assert worst_margin(net, [0.1], 0, 0.5, norm).upper == pytest.approx(-0.2, abs=1e-6)
        assert worst_margin(net, [0.1], 0, 1.0, norm).lower == pytest.approx(0.8, abs=1e-6)
    # the other label: wrong between -1/2 and 1
    assert distance_to_error(net, [3.0], 1).upper == pytest.approx(2.0, abs=1e-9)
    assert distance_to_error(net, [0.5], 1) == (0.0, 0.0, np.array([0.5]), "solved")


def test_neurons_that_do_nothing():
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((4, 2)), np.array([0.3, -50.0, 50.0, -0.2])  # one dead, one linear
    W = np.vstack([W, np.zeros((2, 2)), W[0], -W[0]])  # constants, a copy, a mirror
    b = np.concatenate([b, [1.0, 0.0], b[:1], -b[:1]])
    net = Network((W, rng.standard_normal((3, 8))), (b, rng.standard_normal(3)))
    for norm in NORMS:
        exact = largest_by_cells(net, np.zeros(2), 1, 1.0, norm)
        found = worst_margin(net, np.zeros(2), 1, 1.0, norm)
        assert found.lower - 1e-12 <= exact <= found.upper + 1e-12
        assert found.upper - found.lower < 1e-4 * (1 + abs(exact))


@pytest.mark.parametrize("seed", range(12))
def test_ties_and_coincident_lines(seed):
    net = integer_net(seed, *[(2, 4, 2), (2, 3, 3, 3)][seed % 2])
    x = np.zeros(2)  # on many kinks at once
    for norm, label in itertools.product(NORMS, range(net.outputs)):
        exact = largest_by_cells(net, x, label, 1.0, norm)
        found = worst_margin(net, x, label, 1.0, norm)
        assert found.lower - 1e-12 <= exact <= found.upper + 1e-12
        assert found.upper - found.lower < 1e-5
        nearest = distance_to_error(net, x, label, norm, low=-1, high=1)
        oracle = nearest_by_cells(net, x, label, norm, -1.0, 1.0)
        assert nearest.lower <= oracle + 1e-12
        if nearest.status == "solved":
            assert nearest.upper == pytest.approx(oracle, abs=1e-6)
        else:
            assert math.isinf(oracle) or nearest.status == "tie"


def test_a_constant_network():
    net = Network((np.zeros((3, 2)), np.zeros((2, 3))), (np.ones(3), np.array([1.0, 0.0])))
    assert worst_margin(net, [0.0, 0.0], 0, 5.0)[:2] == pytest.approx((-1.0, -1.0), abs=1e-9)
    assert worst_margin(net, [0.0, 0.0], 1, 5.0)[:2] == pytest.approx((1.0, 1.0), abs=1e-9)
    assert distance_to_error(net, [0.0, 0.0], 0).status == "none within"
    assert distance_to_error(net, [0.0, 0.0], 1).upper == 0
    tie = Network((np.zeros((3, 2)), np.zeros((2, 3))), (np.ones(3), np.zeros(2)))
    assert distance_to_error(tie, [0.0, 0.0], 0).upper == 0  # a tie is an error


def test_a_margin_that_only_touches_zero():
    # f_1 - f_0 = -|x - 1/3| - c: at c = 1e-12 there is no error, and no solver can tell
    net = two_class([(-1, 1, -1 / 3), (-1, -1, 1 / 3)], offset=-1e-12)
    found = distance_to_error(net, [0.0], 0, low=-1, high=1)
    assert found.status == "tie" and found.point is None and math.isinf(found.upper)
    assert 0.333 < found.lower <= 1 / 3
    # far enough from zero it is certain
    net = two_class([(-1, 1, -1 / 3), (-1, -1, 1 / 3)], offset=-1e-3)
    assert distance_to_error(net, [0.0], 0, low=-1, high=1).status == "none within"


def test_within():
    net = two_class([(1, 1, 0), (2, -1, 0)], offset=-1.0)  # the error is at the distance 0.6
    found = distance_to_error(net, [0.1], 0, within=0.5)
    assert found == (0.5, math.inf, None, "none within")
    found = distance_to_error(net, [0.1], 0, within=0.61)
    assert found.status == "solved" and found.upper == pytest.approx(0.6, abs=1e-9)
    # the box ends before `within`
    found = distance_to_error(net, [0.1], 0, low=0, high=0.5, within=3.0)
    assert found == (math.inf, math.inf, None, "none within")


def test_radius_zero():
    net = random_net(0, 2, 5, 3)
    found = worst_margin(net, [0.2, 0.4], 1, 0.0)
    assert found.lower == found.upper == pytest.approx(margin(net, [0.2, 0.4], 1))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(scale):
    """Inputs in other units, and logits in other units."""
    net, x = random_net(3, 3, 8, 3), np.array([0.1, -0.2, 0.3])
    label = int(evaluate(net, x).argmax())
    inputs = Network((net.weights[0] / scale, net.weights[1]), net.biases)
    logits = Network(
        (net.weights[0], scale * net.weights[1]), (net.biases[0], scale * net.biases[1])
    )
    for norm in NORMS:
        margin_of = worst_margin(net, x, label, 0.5, norm)
        other = worst_margin(inputs, scale * x, label, 0.5 * scale, norm)
        assert other[:2] == pytest.approx(margin_of[:2], rel=1e-6)
        other = worst_margin(logits, x, label, 0.5, norm)
        assert np.divide(other[:2], scale) == pytest.approx(margin_of[:2], rel=1e-6)
        distance = distance_to_error(net, x, label, norm).upper
        assert distance_to_error(inputs, scale * x, label, norm, within=1e3 * scale).upper == (
            pytest.approx(scale * distance, rel=1e-6)
        )
        assert distance_to_error(logits, x, label, norm).upper == pytest.approx(distance, rel=1e-6)


def test_time_limit():
    net = random_net(0, 20, 40, 40, 4)
    x = np.random.default_rng(0).uniform(0, 1, 20)
    label = int(evaluate(net, x).argmax())
    found = worst_margin(net, x, label, 0.5, low=0, high=1, time_limit=1e-3)
    assert found.status == "time limit"
    assert found.lower < found.upper < math.inf
    assert margin(net, found.point, label) == pytest.approx(found.lower)
    found = distance_to_error(net, x, label, low=0, high=1, time_limit=1e-3)
    assert found.status == "time limit"
    assert 0 <= found.lower < found.upper
    if found.point is not None:
        assert margin(net, found.point, label) >= 0
    # a program that is cut short, and a bracket that is still right
    small = random_net(1, 6, 14, 14, 3)
    y = int(evaluate(small, x[:6]).argmax())
    exact = worst_margin(small, x[:6], y, 0.3)
    for limit in (0.01, 0.05):
        short = worst_margin(small, x[:6], y, 0.3, time_limit=limit)
        assert short.lower <= exact.upper and exact.lower <= short.upper


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_least_bound_of_all_targets_counts(monkeypatch, order):
    """Two targets, one cut short at 0.01, the other excluded: nothing beyond 0.01 is safe."""
    net = Network((np.array([[1.0], [1.0], [-1.0]]),), (np.array([1.0, 0.0, 0.0]),))
    answers = [(0.01, None, False), (math.inf, None, True)]
    script = iter([answers[i] for i in order])
    monkeypatch.setattr(verify._Program, "nearest", lambda *args: next(script))
    monkeypatch.setattr(verify, "_attack", lambda *args: None)
    monkeypatch.setattr(
        verify, "_relaxed", lambda net, ball, ranges, rows, offsets: np.ones(len(rows))
    )
    found = distance_to_error(net, [0.0], 0, low=-1, high=1)
    assert found == (0.01, math.inf, None, "time limit")


@pytest.mark.parametrize("norm", NORMS)
def test_decide(norm, monkeypatch):
    """The sign of the exact margin, and a bracket of it, with fewer programs."""
    programs = []
    run = verify._Program._run
    monkeypatch.setattr(verify._Program, "_run", lambda *args: programs.append(0) or run(*args))
    signs, counts = [], np.zeros(2, dtype=int)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        net, x = random_net(seed, 4, 10, 3), rng.uniform(0, 1, 4)
        label, radius = int(evaluate(net, x).argmax()), rng.uniform(0.05, 0.6)
        found = []
        for i, decide in enumerate((False, True)):
            before = len(programs)
            found.append(worst_margin(net, x, label, radius, norm, decide=decide))
            counts[i] += len(programs) - before
        exact, short = found
        assert short.lower <= exact.upper and exact.lower <= short.upper
        assert (exact.upper < 0) == (short.upper < 0)
        assert (exact.lower >= 0) == (short.lower >= 0)
        assert margin(net, short.point, label) == pytest.approx(short.lower, abs=1e-12)
        assert short.status == ("decided" if short.upper > exact.upper + 1e-9 else short.status)
        signs.append(exact.upper < 0)
    assert 3 < sum(signs) < 27
    assert counts[1] < counts[0] / 3


# ------------------------------------------------------------------------------- properties


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from(NORMS),
    widths=st.sampled_from([(1, 4, 2), (2, 5, 3), (3, 4, 4, 2), (4, 6, 2)]),
    radius=st.floats(1e-3, 10),
)
def test_properties(seed, norm, widths, radius):
    rng = np.random.default_rng(seed)
    net, x = random_net(seed, *widths), rng.uniform(-1, 1, widths[0])
    label = int(rng.integers(widths[-1]))
    wide = worst_margin(net, x, label, radius, norm, low=-1, high=1)
    narrow = worst_margin(net, x, label, radius / 2, norm, low=-1, high=1)
    free = worst_margin(net, x, label, radius, norm)
    for found in (wide, narrow, free):
        assert found.lower <= found.upper
        assert length(found.point - x, norm) <= radius * (1 + 1e-9)
    assert margin(net, x, label) <= narrow.lower + 1e-12
    assert narrow.lower <= wide.upper and wide.lower <= free.upper
    if norm == np.inf:
        assert worst_margin(net, x, label, radius, 1).lower <= free.upper
    found = distance_to_error(net, x, label, norm, low=-1, high=1)
    assert found.lower <= found.upper
    if wide.lower >= 0:
        assert found.lower <= radius * (1 + 1e-9)
    if wide.upper < 0:
        assert found.upper > radius or found.point is None


# ------------------------------------------------------------------------------- many samples


def test_distances_of_many_samples(capsys):
    net = random_net(0, 3, 8, 3)
    X = np.random.default_rng(0).uniform(-1, 1, (6, 3))
    y = evaluate(net, X).argmax(axis=1)
    y[0] = (y[0] + 1) % 3  # one error
    found = distances_to_error(net, X, y, 1, low=-1, high=1, progress=True)
    assert "sample" in capsys.readouterr().err
    one = [
        distance_to_error(net, x, label, 1, low=-1, high=1) for x, label in zip(X, y, strict=True)
    ]
    assert_allclose(found.lower, [d.lower for d in one])
    assert_allclose(found.upper, [d.upper for d in one])
    assert found.status == [d.status for d in one]
    assert found.lower[0] == found.upper[0] == 0
    assert found.points.shape == (6, 3)
    assert (np.isnan(found.points).all(axis=1) == np.isinf(found.upper)).all()
    empty = distances_to_error(net, np.zeros((0, 3)), np.zeros(0, dtype=int))
    assert empty.lower.shape == (0,) and empty.points.shape == (0, 3) and empty.status == []


# ------------------------------------------------------------------------------- bad input

NET = random_net(0, 2, 4, 3)


@pytest.mark.parametrize("call", [
    lambda **k: worst_margin(**({"net": NET, "x": [0.0, 0.0], "label": 0, "radius": 1.0} | k)),
    lambda **k: distance_to_error(**({"net": NET, "x": [0.0, 0.0], "label": 0} | k)),
])  # fmt: skip
def test_bad_input(call):
    for bad, error, words in [
        ({"net": "net"}, TypeError, "must be a Network"),
        ({"net": random_net(0, 2, 4, 1)}, ValueError, "one output per class"),
        ({"x": [0.0]}, ValueError, "one point with 2 entries"),
        ({"x": [[0.0, 0.0]]}, ValueError, "one point with 2 entries"),
        ({"x": [0.0, math.nan]}, ValueError, "every entry of x must be finite"),
        ({"x": [0.0, 1j]}, TypeError, "real numbers"),
        ({"label": 3}, ValueError, "class number from 0 to 2"),
        ({"label": -1}, ValueError, "integer of at least 0"),
        ({"label": 1.5}, ValueError, "integer"),
        ({"norm": 2}, ValueError, "1 or numpy.inf"),
        ({"norm": True}, ValueError, "1 or numpy.inf"),
        ({"low": 0.0}, ValueError, "both sides of the box"),
        ({"low": 1.0, "high": 0.0}, ValueError, "low must be less than high"),
        ({"low": [0.0] * 3, "high": 1.0}, ValueError, "one entry per input"),
        ({"x": [0.0, 1.1], "low": 0.0, "high": 1.0}, ValueError, "x must lie in the box"),
        ({"time_limit": 0}, ValueError, "time_limit must be one number greater than 0"),
    ]:
        with pytest.raises(error, match=words):
            call(**bad)


def test_bad_radii_and_shapes():
    with pytest.raises(ValueError, match="radius must be one number at least 0"):
        worst_margin(NET, [0.0, 0.0], 0, -1.0)
    with pytest.raises(ValueError, match="every entry of radius must be finite"):
        worst_margin(NET, [0.0, 0.0], 0, math.inf)
    label = int(evaluate(NET, np.zeros(2)).argmax())
    with pytest.raises(ValueError, match="within must be one number greater than 0"):
        distance_to_error(NET, [0.0, 0.0], label, within=0.0)
    with pytest.raises(ValueError, match="one class number per sample"):
        distances_to_error(NET, np.zeros((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="one class number per sample"):
        distances_to_error(NET, np.zeros(2), [0, 1])
