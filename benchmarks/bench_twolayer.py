"""Exact worst cases of two-layer networks, against plain mixed-integer programs.

Run ``make bench``.  Both sides find the same worst drops, to the accuracy of the peer, which each
test first asserts.
"""

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from advreg import twolayer
from advreg.relu import Network


def plain_drop(net, x, y, radius):
    """Big M for every neuron that changes its side in the l_inf ball, one program, HiGHS."""
    W, b, gains = net.weights[0], net.biases[0], -y * net.weights[1][0]
    p, reach, d = W @ x + b, radius * np.abs(W).sum(axis=1), net.inputs
    crossing = np.abs(p) < reach
    lo, hi = (p - reach)[crossing], (p + reach)[crossing]
    k, A, q = len(lo), W[crossing], p[crossing]
    # columns: e, h, z
    rows = np.vstack([
        np.hstack([A, -np.eye(k), np.zeros((k, k))]),
        np.hstack([-A, np.eye(k), -np.diag(lo)]),
        np.hstack([np.zeros((k, d)), np.eye(k), -np.diag(hi)]),
    ])  # fmt: skip
    active = (p > 0) & ~crossing
    answer = milp(
        -np.concatenate([(gains * active) @ W, gains[crossing], np.zeros(k)]),
        constraints=LinearConstraint(rows, -np.inf, np.concatenate([-q, q - lo, np.zeros(k)])),
        integrality=np.repeat([0, 0, 1], [d, k, k]),
        bounds=Bounds(
            np.concatenate([np.full(d, -radius), np.zeros(2 * k)]),
            np.concatenate([np.full(d, radius), hi, np.ones(k)]),
        ),
        options={"mip_rel_gap": 1e-9},
    )
    return -answer.fun - gains[crossing] @ np.maximum(q, 0)


@pytest.fixture(scope="module")
def digits():
    """Odd against even, width 16, trained; and the images."""
    X, digit = load_digits(return_X_y=True)
    X, y = X / 16, np.where(digit % 2, 1.0, -1.0)
    model = MLPClassifier((16,), max_iter=60, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    (W, V), (b, c) = model.coefs_, model.intercepts_
    return Network((W.T, V.T), (b, c)), X, y


@pytest.mark.parametrize("radius", [0.04, 0.08, 0.12])
def test_digits_against_a_plain_milp(compare, digits, radius):
    net, X, y = digits
    X, y = X[:20], y[:20]

    def ours():
        found = twolayer.worst_cases(net, X, y, radius)
        assert (found.upper - found.drop).max() < 1e-8
        return found.drop

    def peer():
        return [plain_drop(net, x, label, radius) for x, label in zip(X, y, strict=True)]

    assert ours() == pytest.approx(np.array(peer()), abs=1e-5)
    name = f"worst drops, 20 digits, 64: 16: 1, l_inf, radius {radius}"
    compare(name, ours, "plain MILP, HiGHS", peer, goal=5, rounds=3)


def test_the_plane_against_a_plain_milp(compare):
    rng = np.random.default_rng(0)
    net = Network(
        (rng.standard_normal((16, 2)), rng.standard_normal((1, 16))),
        (rng.standard_normal(16), np.zeros(1)),
    )
    X, y = rng.standard_normal((50, 2)), rng.choice([-1.0, 1.0], 50)

    def ours():
        return twolayer.worst_drop(net, X, y, 0.3)

    def peer():
        return [plain_drop(net, x, label, 0.3) for x, label in zip(X, y, strict=True)]

    assert ours() == pytest.approx(np.array(peer()), abs=1e-5)
    name = "worst drops, 50 points, 2: 16: 1, l_inf, radius 0.3"
    compare(name, ours, "plain MILP, HiGHS", peer, goal=100, rounds=3)
