"""Losses of logits, and cross-entropy as a maximum of planes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from scipy.special import rel_entr, softmax

from advreg import attacks, losses, relu, wdro

torch.set_num_threads(1)


def logits(seed, n=200, K=4):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, K)) * rng.choice([0.1, 1, 30], (n, 1))
    z[::7] = np.round(z[::7])  # with ties
    return z, rng.integers(K, size=n)


@pytest.mark.parametrize("K", [2, 3, 7])
def test_same_as_torch(K):
    z, y = logits(1, K=K)
    tz, ty = torch.tensor(z), torch.tensor(y)
    assert np.allclose(losses.margin(z, y), attacks.margin(tz, ty), rtol=1e-14, atol=0)
    assert np.allclose(losses.cross_entropy(z, y), attacks.cross_entropy(tz, ty), rtol=1e-12)
    hinge = torch.relu(1 + attacks.margin(tz, ty))
    assert np.allclose(losses.hinge(z, y), hinge, rtol=1e-14, atol=0)


def test_shapes_and_extremes():
    z = np.zeros((2, 3, 4))
    assert losses.margin(z, 1).shape == (2, 3)
    assert losses.dlr(z, np.zeros((2, 3), int)).shape == (2, 3)
    assert losses.cross_entropy(np.zeros(3), 2) == pytest.approx(math.log(3))
    assert losses.cross_entropy([50.0, 0.0], 0) == pytest.approx(math.exp(-50), rel=1e-9)
    assert losses.cross_entropy([-1e4, 0.0], 0) == 1e4
    assert losses.hinge([3.0, 0.0], 0) == 0
    assert losses.margin([[1.0, 5.0, 3.0]], [2]) == [2.0]


def slow_dlr(z, y, floor=None):
    order = sorted(z, reverse=True)
    B = order[0] - order[min(2, len(z) - 1)]
    mu = max(v for j, v in enumerate(z) if j != y) - z[y]
    if floor is not None:
        B = max(B, floor)
    return mu / B


@pytest.mark.parametrize("K", [2, 3, 6])
@pytest.mark.parametrize("floor", [None, 0.5])
def test_dlr(K, floor):
    rng = np.random.default_rng(K)
    z, y = rng.standard_normal((300, K)), rng.integers(K, size=300)
    found = losses.dlr(z, y, floor=floor)
    assert np.allclose(found, [slow_dlr(*pair, floor) for pair in zip(z, y, strict=True)])
    if floor is None:
        assert np.allclose(losses.dlr(3.7 * z - 2, y), found)  # neither scale nor shift
        rank = (z > np.take_along_axis(z, y[:, None], 1)).sum(axis=1)
        assert (np.abs(found[rank <= 2]) <= 1 + 1e-12).all()
        assert (found[rank >= 2] >= 1 - 1e-12).all()
        if K == 2:
            assert set(np.round(found, 12)) == {-1.0, 1.0}


def test_dlr_at_ties():
    """The largest limit at nearby logits, which random neighbours approach from below."""
    rng = np.random.default_rng(5)
    cases = [
        ([0, 0], 0, 1),
        ([2, 2, 2], 1, 1),
        ([2, 2, 2, 0], 0, 1),
        ([2, 2, 2, 0], 3, np.inf),
        ([1, 1, 1, 1], 2, np.inf),
    ]
    for z, y, value in cases:
        assert losses.dlr(np.array(z, float), y) == value
        near = z + 1e-7 * rng.standard_normal((20_000, len(z)))
        most = losses.dlr(near, y).max()
        assert (0.99 < most <= 1 + 1e-6) if value == 1 else most > 20
    assert losses.dlr([2.0, 2, 2, 0], 3, floor=0.1) == pytest.approx(20)
    assert losses.dlr([2.0, 2, 2], 1, floor=0.1) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.margin([1.0], 0), ValueError, "two classes"),
        (lambda: losses.margin(1.0, 0), ValueError, "two classes"),
        (lambda: losses.margin([1.0, 2.0], 2), ValueError, "from 0 to 1"),
        (lambda: losses.margin([1.0, 2.0], -1), ValueError, "from 0 to 1"),
        (lambda: losses.margin([1.0, 2.0], 0.0), TypeError, "integers"),
        (lambda: losses.margin([1.0, 2.0], True), TypeError, "integers"),
        (lambda: losses.hinge([[1.0, 2.0]], [0, 1]), ValueError, "one per point"),
        (lambda: losses.cross_entropy([1.0, np.nan], 0), ValueError, "finite"),
        (lambda: losses.cross_entropy([1.0j, 1], 0), TypeError, "real"),
        (lambda: losses.dlr([1.0, 2.0], 0, floor=0), ValueError, "floor"),
        (lambda: losses.cross_entropy_pieces(1, 0, 3), ValueError, "outputs"),
        (lambda: losses.cross_entropy_pieces(3, 3, 3), ValueError, "label"),
        (lambda: losses.cross_entropy_pieces(3, 0, 0), ValueError, "levels"),
        (lambda: losses.cross_entropy_pieces(10, 0, 20), ValueError, "pieces"),
        (lambda: losses.cross_entropy_value(None, [[0, 0]], [0], 1, 1, 2), TypeError, "Network"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------- tangents


@pytest.mark.parametrize(("K", "levels"), [(2, 1), (2, 4), (2, 10), (3, 1), (3, 4), (4, 3)])
def test_pieces(K, levels):
    """Below the cross-entropy, by the least divergence, at most the gap, touching somewhere."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((4000, K)) * rng.choice([0.2, 1, 4, 20], (4000, 1))
    gap = losses.cross_entropy_gap(K, levels)
    for y in range(K):
        C, e = losses.cross_entropy_pieces(K, y, levels)
        assert C.shape == (math.comb(levels + K - 1, K - 1), K)
        below = losses.cross_entropy(z, y) - (z @ C.T + e).max(axis=1)
        assert -1e-12 <= below.min() and below.max() <= gap + 1e-12
        p = C + np.eye(K)[y]
        divergence = rel_entr(p[None], softmax(z, axis=1)[:, None]).sum(axis=2).min(axis=1)
        assert np.allclose(below, divergence, atol=1e-9)
        inner = p[(p > 0).all(axis=1)]
        touch = np.log(inner)
        at = losses.cross_entropy(touch, y) - (touch @ C.T + e).max(axis=1)
        assert np.abs(at).max(initial=0) < 1e-12


@pytest.mark.parametrize("levels", [1, 2, 3, 5, 10, 40])
def test_gap_of_two_classes_is_exact(levels):
    C, e = losses.cross_entropy_pieces(2, 0, levels)
    m = np.linspace(-16, 16, 400_001)
    z = np.stack([0 * m, m], axis=1)
    worst = (np.logaddexp(0, m) - (z @ C.T + e).max(axis=1)).max()
    gap = losses.cross_entropy_gap(2, levels)
    assert worst <= gap + 1e-13 and gap - worst < 1e-3 * gap  # the step of the grid
    assert levels > 1 or gap == pytest.approx(math.log(2), rel=1e-15)


@pytest.mark.parametrize(("K", "levels"), [(3, 2), (3, 6), (4, 2), (4, 5)])
def test_gap_of_more_classes_is_a_bound(K, levels):
    """A search for the largest difference stays below, and not far below."""
    C, e = losses.cross_entropy_pieces(K, 0, levels)
    rng, worst = np.random.default_rng(1), 0.0

    def minus(z):
        z = np.append(0, z)
        return (C @ z + e).max() - losses.cross_entropy(z, 0)

    for _ in range(30):
        found = minimize(minus, rng.normal(0, 3, K - 1), method="Nelder-Mead")
        worst = max(worst, -found.fun)
    assert worst <= losses.cross_entropy_gap(K, levels) <= 4 * worst


def test_gap_shrinks():
    for K in (2, 3, 5):
        gaps = [losses.cross_entropy_gap(K, levels) for levels in (1, 2, 4, 8)]
        assert gaps[0] == pytest.approx(math.log(K)) and (np.diff(gaps) <= 0).all()
    # the spacing sin^2 makes the gap fall as the square
    assert losses.cross_entropy_gap(2, 40) * 1600 == pytest.approx(math.pi**2 / 8, rel=0.02)


# ------------------------------------------------------------------------------- bracket


def transport(cost, gain, radius):
    """V_1 - E on finitely many points, by linear programming: cost and gain (n, points)."""
    n, m = cost.shape
    rows = np.zeros((n, n * m))
    for i in range(n):
        rows[i, i * m : (i + 1) * m] = 1
    answer = linprog(
        -gain.ravel() / n, cost.ravel()[None] / n, [radius], rows, np.ones(n), method="highs"
    )
    return -answer.fun


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("K", [2, 3])
def test_bracket_of_a_value(norm, K):
    """A box, and the transport program on a grid, which is below the value by a Lipschitz step."""
    pytest.importorskip("advreg.wdro_networks")
    rng = np.random.default_rng(8)
    widths = [2, 5, K]
    net = relu.Network(
        tuple(rng.standard_normal((b, a)) for a, b in itertools.pairwise(widths)),
        tuple(rng.standard_normal(b) for b in widths[1:]),
    )
    X, y = rng.uniform(-1, 1, (4, 2)), np.array([0, 1, 1, 0])
    side = np.linspace(-2, 2, 41)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    step = 0.1 / 2 * np.linalg.norm(np.ones(2), norm)
    slope = relu.lipschitz(net, norm, low=-2, high=2).upper
    cost = np.linalg.norm(grid[None] - X[:, None], ord=norm, axis=2)
    clean = losses.cross_entropy(relu.evaluate(net, X), y)
    z = relu.evaluate(net, grid)
    gain = np.stack([losses.cross_entropy(z, int(k)) for k in y]) - clean[:, None]
    cost = np.hstack([cost, np.zeros((4, 1))])
    gain = np.hstack([gain, np.zeros((4, 1))])
    for radius in (0.1, 0.7):
        value = clean.mean() + transport(cost, gain, radius)
        for levels in (1, 4):
            found = losses.cross_entropy_value(
                net, X, y, radius, 1, norm, levels=levels, low=-2, high=2
            )
            assert found.gap == losses.cross_entropy_gap(K, levels)
            assert value <= found.upper + 1e-9
            assert found.lower <= value + 2 * slope * step
            assert found.upper - found.lower <= found.gap + 1e-5


def test_bracket_of_a_linear_model():
    """In the plane, where V_1 of cross-entropy is known: mean loss plus radius times slope."""
    pytest.importorskip("advreg.wdro_networks")
    rng = np.random.default_rng(9)
    W, b = rng.standard_normal((2, 2)), rng.standard_normal(2)
    X, y = rng.standard_normal((6, 2)), np.array([0, 1, 1, 0, 0, 1])
    net = relu.Network((W,), (b,))
    exact = wdro.linear_value(W[1] - W[0], b[1] - b[0], X, 2 * y - 1, 0.3, 1, 2, "logistic")
    for levels in (1, 10, 30):
        found = losses.cross_entropy_value(net, X, y, 0.3, 1, 2, levels=levels)
        assert found.lower <= exact + 1e-6 and exact <= found.upper + 1e-9
        assert found.upper - found.lower <= found.gap + 1e-5
