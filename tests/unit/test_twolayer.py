"""Two-layer networks: exact gaps against brute force, dead neurons, swap tests, the database."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from advreg import relu, twolayer
from advreg.linear import dual_norm
from advreg.relu import Network, evaluate

torch.set_num_threads(1)

NORMS = (1, 2, np.inf)


def network(seed, d, *hidden, bias=1.0):
    rng = np.random.default_rng(seed)
    widths = (d, *hidden, 1)
    return Network(
        tuple(rng.standard_normal((b, a)) for a, b in itertools.pairwise(widths)),
        tuple(bias * rng.standard_normal(b) for b in widths[1:]),
    )


def samples(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n)


def drop_by_patterns(net, x, y, radius, A):
    """Textbook: one linear program over the ball {A e <= radius} for every pattern of neurons."""
    (W, V), b = net.weights, net.biases[0]
    p, best = W @ x + b, -np.inf
    for mask in itertools.product([0.0, 1.0], repeat=len(b)):
        s = 1 - 2 * np.array(mask)
        g = -y * (V[0] * mask) @ W
        answer = linprog(
            -g,
            np.vstack([s[:, None] * W, A]),
            np.append(-s * p, np.full(len(A), radius)),
            bounds=(None, None),
        )
        if answer.status == 0:
            best = max(best, -answer.fun - y * (V[0] * mask) @ p)
    return best + y * (V[0] @ np.maximum(p, 0))


def attained(net, X, y, found):
    """y f(x) - y f(x') at the points that were returned."""
    return y * (evaluate(net, X) - evaluate(net, found.points))[:, 0]


def check_points(net, X, y, radius, norm, found):
    assert (found.upper >= found.drop).all()
    assert (np.linalg.norm(found.points - X, ord=norm, axis=1) <= radius * (1 + 1e-9)).all()
    assert attained(net, X, y, found) == pytest.approx(found.drop, abs=1e-10)


# ------------------------------------------------------------------------------- worst drops


@pytest.mark.parametrize("norm", [1, np.inf])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_drops_against_a_program_for_every_pattern(d, norm):
    A = np.array(list(itertools.product([-1.0, 1.0], repeat=d))) if norm == 1 else np.vstack(
        [np.eye(d), -np.eye(d)]
    )  # fmt: skip
    for seed in range(3):
        net, (X, y) = network(seed, d, 5), samples(seed + 50, 4, d)
        found = twolayer.worst_cases(net, X, y, 0.6, norm)
        check_points(net, X, y, 0.6, norm, found)
        brute = [drop_by_patterns(net, x, label, 0.6, A) for x, label in zip(X, y, strict=True)]
        assert found.drop == pytest.approx(brute, abs=1e-7)
        assert found.upper == pytest.approx(found.drop, abs=1e-8)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_round_balls_against_a_local_search_from_many_starts(d):
    """The proved end against the best of 12 ascents; the attained end is checked at its point."""
    rng = np.random.default_rng(d)
    for seed in range(3):
        net, (X, y) = network(seed, d, 5), samples(seed + 20, 3, d)
        found = twolayer.worst_cases(net, X, y, 0.7, 2)
        check_points(net, X, y, 0.7, 2, found)
        assert found.upper == pytest.approx(found.drop, rel=1e-7, abs=1e-9)
        for i in range(len(X)):
            best = 0.0
            for start in rng.standard_normal((12, d)):

                def score(e, i=i, net=net, X=X, y=y):
                    return y[i] * evaluate(net, X[i] + 0.7 * e / max(1.0, np.linalg.norm(e)))[0]

                best = max(best, score(np.zeros(d)) - minimize(score, start, method="Powell").fun)
            assert best <= found.upper[i] + 1e-9


@pytest.mark.parametrize("norm", NORMS)
def test_a_worst_case_inside_of_the_ball(norm):
    """f = |x_1| + |x_2| + |x_3|, y = +1: the minimum is at 0, where the bound has a kink."""
    W = np.vstack([np.eye(3), -np.eye(3)])
    net = Network((W, np.ones((1, 6))), (np.zeros(6), np.zeros(1)))
    X = np.array([[0.3, 0.2, 0.1], [0.3, -0.2, 0.0], [2.0, 1.0, 0.5]])
    found = twolayer.worst_cases(net, X, np.ones(3), 0.7, norm)
    check_points(net, X, np.ones(3), 0.7, norm, found)
    # from (2, 1, 1/2) the way to the origin is longer
    far = {1: 0.7, 2: 0.7 * math.sqrt(3), np.inf: 0.7 + 0.7 + 0.5}[norm]
    assert found.drop == pytest.approx([0.6, 0.5, far], rel=1e-9)
    assert found.upper == pytest.approx(found.drop, rel=1e-9)


@pytest.mark.parametrize("d", [3, 5, 10])
def test_brackets_of_round_balls_close(d):
    for seed in range(4):
        net, (X, y) = network(seed, d, 12), samples(seed + 30, 6, d)
        for radius in (0.3, 1.0, 3.0):
            found = twolayer.worst_cases(net, X, y, radius, 2)
            check_points(net, X, y, radius, 2, found)
            assert found.upper == pytest.approx(found.drop, rel=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_the_plane_against_a_fine_grid(norm):
    t = np.linspace(-1, 1, 401)
    e = np.stack(np.meshgrid(t, t), axis=-1).reshape(-1, 2)
    e = e[np.linalg.norm(e, ord=norm, axis=1) <= 1]
    for seed in range(3):
        net, (X, y) = network(seed, 2, 12), samples(seed, 5, 2)
        found = twolayer.worst_cases(net, X, y, 0.5, norm)
        check_points(net, X, y, 0.5, norm, found)
        for i in range(len(X)):
            grid = y[i] * (evaluate(net, X[i]) - evaluate(net, X[i] + 0.5 * e))[:, 0]
            slope = relu.lipschitz(net, norm).upper
            assert found.drop[i] >= grid.max() - 1e-12
            assert found.drop[i] <= grid.max() + slope * 0.5 * (0.01 if norm != 2 else 0.02)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("d", [1, 2])
def test_few_inputs_agree_with_their_embedding_into_more(d, norm):
    """A dead input more: the same drops by patterns or programs as by kinks or in the plane."""
    net, (X, y) = network(3, d, 8), samples(4, 12, d)
    more = Network((np.pad(net.weights[0], ((0, 0), (0, 3 - d))), net.weights[1]), net.biases)
    flat = twolayer.worst_drop(net, X, y, 0.4, norm)
    space = twolayer.worst_cases(more, np.pad(X, ((0, 0), (0, 3 - d))), y, 0.4, norm)
    assert space.drop == pytest.approx(flat, rel=1e-8, abs=1e-10)
    assert space.upper == pytest.approx(flat, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("norm", [1, np.inf])
def test_patterns_agree_with_programs(norm):
    net, (X, y) = network(5, 8, 14), samples(6, 10, 8)
    radius = 0.3 if norm == np.inf else 1.0
    ours = twolayer.worst_cases(net, X, y, radius, norm)
    programs = twolayer._by_programs(net, X, y, radius, norm, None)
    assert "patterns" in ours.method
    check_points(net, X, y, radius, norm, ours)
    assert ours.drop == pytest.approx(programs.drop, rel=1e-6)
    assert ours.upper == pytest.approx(ours.drop, rel=1e-8)


def test_many_neurons_that_hurt_take_a_program(monkeypatch):
    net, (X, y) = network(7, 4, 12), samples(8, 6, 4)
    patterns = twolayer.worst_cases(net, X, y, 0.4)
    monkeypatch.setattr(twolayer, "MOST_FREE", 1)
    programs = twolayer.worst_cases(net, X, y, 0.4)
    assert set(programs.method) >= {"program"}
    assert programs.drop == pytest.approx(patterns.drop, rel=1e-6)
    with pytest.raises(ValueError, match="out of reach"):
        twolayer.worst_cases(net, X, y, 0.4, 2)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("d", [1, 2])
def test_depth(d, norm):
    """Deeper networks by cells: against a grid, and against a two-layer network in disguise."""
    net, (X, y) = network(9, d, 5, 4), samples(10, 3, d)
    found = twolayer.worst_cases(net, X, y, 0.4, norm)
    check_points(net, X, y, 0.4, norm, found)
    t = np.linspace(-1, 1, 301)
    e = np.stack(np.meshgrid(*[t] * d), axis=-1).reshape(-1, d)
    e = 0.4 * e[np.linalg.norm(e, ord=norm, axis=1) <= 1]
    for i in range(3):
        grid = (y[i] * (evaluate(net, X[i]) - evaluate(net, X[i] + e))[:, 0]).max()
        assert grid - 1e-12 <= found.drop[i] <= grid + 0.1
    shallow = network(11, d, 6)
    (W, V), (b, c) = shallow.weights, shallow.biases
    deep = Network((W, np.eye(6), V), (b, np.zeros(6), c))
    expected = twolayer.worst_drop(shallow, X, y, 0.4, norm)
    assert twolayer.worst_drop(deep, X, y, 0.4, norm) == pytest.approx(expected, rel=1e-9)


def test_depth_in_space():
    net, (X, y) = network(12, 4, 4, 3), samples(13, 2, 4)
    found = twolayer.worst_cases(net, X, y, 0.2)
    check_points(net, X, y, 0.2, np.inf, found)
    assert found.upper == pytest.approx(found.drop, abs=1e-5)
    with pytest.raises(ValueError, match="one hidden layer"):
        twolayer.worst_cases(net, X, y, 0.2, 2)


@pytest.mark.parametrize("norm", NORMS)
def test_kink_free_balls_have_the_closed_form(norm):
    net, (X, y) = network(14, 5, 6, bias=3.0), samples(15, 400, 5)
    safe = twolayer.kink_free(net, X, 0.1, norm)
    assert 0 < safe.sum() < len(X)
    X, y = X[safe][:20], y[safe][:20]
    masks = X @ net.weights[0].T + net.biases[0] > 0
    slopes = (masks * net.weights[1][0]) @ net.weights[0]
    found = twolayer.worst_cases(net, X, y, 0.1, norm)
    assert set(found.method) == {"kink-free"}
    assert found.drop == pytest.approx(0.1 * dual_norm(slopes, norm), rel=1e-12)
    check_points(net, X, y, 0.1, norm, found)


@pytest.mark.parametrize("norm", NORMS)
def test_linear_models(norm):
    rng = np.random.default_rng(0)
    w, (X, y) = rng.standard_normal(4), samples(1, 7, 4)
    net = Network((w[None],), (np.array([0.3]),))
    found = twolayer.worst_cases(net, X, y, 0.2, norm)
    check_points(net, X, y, 0.2, norm, found)
    assert found.drop == pytest.approx(np.full(7, 0.2 * dual_norm(w, norm)))
    assert twolayer.kink_free(net, X, 0.2).all()
    m = y * (X @ w + 0.3)
    hinge = np.maximum(1 - m + found.drop, 0) - np.maximum(1 - m, 0)
    assert twolayer.gap(net, X, y, 0.2, norm, "hinge") == pytest.approx(hinge)


def test_dead_columns_parallel_lines_and_corners():
    """Coincident kinks, zero weights, a datum on a corner of lines, data on kinks."""
    W = np.array([[1, 0], [1, 0], [-1, 0], [0, 0], [0, 1], [2, 0.0]])
    net = Network((W, np.array([[1, -2, 1, 5, 1, 0.5]])), (np.zeros(6), np.zeros(1)))
    X, y = np.array([[0.0, 0.0], [0.5, 0.0], [2.0, 2.0]]), np.array([1.0, -1.0, 1.0])
    for norm in NORMS:
        found = twolayer.worst_cases(net, X, y, 0.5, norm)
        check_points(net, X, y, 0.5, norm, found)
        e = np.random.default_rng(0).uniform(-0.5, 0.5, (20000, 2))
        e = e[np.linalg.norm(e, ord=norm, axis=1) <= 0.5]
        for i in range(3):
            grid = (y[i] * (evaluate(net, X[i]) - evaluate(net, X[i] + e))[:, 0]).max()
            assert grid - 1e-12 <= found.drop[i] <= grid + 0.05
    constant = Network((np.zeros((2, 2)), np.ones((1, 2))), (np.ones(2), np.zeros(1)))
    for norm in NORMS:
        assert not twolayer.worst_drop(constant, X, y, 0.5, norm).any()


def test_chunks(monkeypatch):
    net, (X, y) = network(16, 2, 7), samples(17, 30, 2)
    whole = [twolayer.worst_drop(net, X, y, 0.5, norm) for norm in NORMS]
    line = twolayer.worst_drop(network(1, 1, 6), X[:, :1], y, 0.5)
    monkeypatch.setattr(twolayer, "MOST_ENTRIES", 500)
    for norm, expected in zip(NORMS, whole, strict=True):
        assert twolayer.worst_drop(net, X, y, 0.5, norm) == pytest.approx(expected, rel=1e-12)
    again = twolayer.worst_drop(network(1, 1, 6), X[:, :1], y, 0.5)
    assert again == pytest.approx(line, rel=1e-12)


# ------------------------------------------------------------------------------- gaps


def test_gaps_of_all_losses():
    net, (X, y) = network(18, 2, 6), samples(19, 9, 2)
    drop = twolayer.worst_drop(net, X, y, 0.3)
    m = y * evaluate(net, X)[:, 0]
    losses = {"linear": lambda t: -t, "hinge": lambda t: np.maximum(0, 1 - t),
              "logistic": lambda t: np.log1p(np.exp(-t))}  # fmt: skip
    for name, phi in losses.items():
        expected = phi(m - drop) - phi(m)
        assert twolayer.gap(net, X, y, 0.3, loss=name) == pytest.approx(expected, abs=1e-12)
        assert twolayer.gap(net, X, y, 0.3, loss=phi) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="nonincreasing"):
        twolayer.gap(net, X, y, 0.3, loss=lambda t: t**2)
    with pytest.raises(ValueError, match="unknown loss"):
        twolayer.gap(net, X, y, 0.3, loss="squared")
    with pytest.raises(ValueError, match="one finite number per margin"):
        twolayer.gap(net, X, y, 0.3, loss=lambda t: t[:1])
    with pytest.raises(TypeError, match="name or a function"):
        twolayer.gap(net, X, y, 0.3, loss=3)


@pytest.mark.parametrize("norm", NORMS)
def test_one_neuron(norm):
    rng = np.random.default_rng(2)
    (X, y), w = samples(3, 6, 3), rng.standard_normal(3)
    law = rng.dirichlet(np.ones(6))
    for a in (1.5, -0.7):
        for loss in ("linear", "hinge", "logistic"):
            b = np.linspace(-2, 2, 5)
            found = twolayer.neuron_gap(X, y, w, b, 0.4, norm, a=a, loss=loss, weights=law)
            for shift, value in zip(b, found, strict=True):
                net = Network((w[None], [[a]]), (np.array([shift]), np.zeros(1)))
                assert value == pytest.approx(
                    law @ twolayer.gap(net, X, y, 0.4, norm, loss), abs=1e-12
                )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": [0, 1, 1]}, ValueError, "labels are -1 or"),
        ({"y": [1, 1]}, ValueError, "one label per row"),
        ({"radius": 0}, ValueError, "radius"),
        ({"radius": np.nan}, ValueError, "radius"),
        ({"norm": 3}, ValueError, "norm is that of the attack"),
        ({"X": np.ones((3, 3))}, ValueError, "2 columns"),
        ({"X": np.full((3, 2), np.nan)}, ValueError, "finite"),
        ({"net": "f"}, TypeError, "relu.Network"),
        ({"net": Network((np.ones((2, 2)),), (np.zeros(2),))}, ValueError, "one output"),
    ],
)
def test_the_door(change, error, words):
    good = {"net": network(0, 2, 3), "X": np.zeros((3, 2)), "y": [1, -1, 1], "radius": 0.1}
    with pytest.raises(error, match=words):
        twolayer.worst_drop(**(good | change))
    twolayer.worst_drop(**good)


def test_other_doors():
    with pytest.raises(TypeError, match=r"relu\.Network"):
        twolayer.kink_free("f", np.ones((1, 2)), 0.1)
    with pytest.raises(ValueError, match="deeper"):
        twolayer.kink_free(network(0, 2, 3, 3), np.ones((1, 2)), 0.1)
    with pytest.raises(ValueError, match="w must be a vector"):
        twolayer.neuron_gap(np.ones((1, 2)), [1], np.ones((1, 2)), 0.0, 0.1)
    with pytest.raises(ValueError, match="one hidden layer"):
        twolayer.penalties(network(0, 2, 3, 3))


def test_an_open_bracket_is_refused(monkeypatch):
    net, (X, y) = network(7, 4, 12), samples(8, 3, 4)
    found = twolayer.worst_cases(net, X, y, 0.4)
    monkeypatch.setattr(
        twolayer, "worst_cases", lambda *a, **k: found._replace(upper=found.upper * 1.1)
    )
    with pytest.raises(ValueError, match="bracket open"):
        twolayer.worst_drop(net, X, y, 0.4)


# ------------------------------------------------------------------------------- dead neurons


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("N", [1, 2, 3, 4, 11])
@pytest.mark.parametrize("d", [2, 5])
def test_dead_networks(d, N, norm):
    sites, tau = twolayer.circle_sites(N, 0.3, d, norm), 0.6
    assert len(sites) == N
    assert np.allclose((sites.directions * sites.points).sum(axis=1), sites.levels)
    active = np.arange(N) % 2 == 0
    drops = 1.0 + np.arange(active.sum())
    for sign in (-1, 1):
        net = twolayer.dead_network(sites, active, tau, drop=drops, sign=sign, bias=0.25)
        y = np.full(N, -float(sign))
        expected = np.zeros(N)
        expected[active] = drops
        assert twolayer.worst_drop(net, sites.points, y, 0.3, norm) == pytest.approx(
            expected, rel=1e-9
        )
        # nothing helps, and nothing is seen within tau * radius
        assert np.all(evaluate(net, sites.points)[:, 0] == 0.25)
        for label in (y, -y):
            near = twolayer.worst_drop(net, sites.points, label, 0.3 * tau * (1 - 1e-9), norm)
            assert not near.any()
        assert not twolayer.worst_drop(net, sites.points, -y, 0.3, norm).any()


def test_a_germ_of_a_dead_network_is_the_same_everywhere():
    """Autograd in x and in all parameters, at every site."""
    sites = twolayer.circle_sites(7, 0.3)
    net = twolayer.dead_network(sites, [0, 3])
    (W, V), (b, c) = net.weights, net.biases
    params = [torch.tensor(part, requires_grad=True) for part in (W, b, V, c)]
    for point in sites.points:
        x = torch.tensor(point, requires_grad=True)
        f = params[2] @ torch.relu(params[0] @ x + params[1]) + params[3]
        grads = torch.autograd.grad(f[0], [x, *params])
        assert all(not g.any() for g in grads[:-1])
        assert grads[-1] == 1


def test_bounded_sites():
    sites = twolayer.bounded_sites(60, 8 / 255, 100)
    assert np.abs(sites.points).max() == pytest.approx(16 / 255)
    net = twolayer.dead_network(sites, [5, 7], 0.5, drop=2.0)
    found = twolayer.gap(net, sites.points, np.ones(60), 8 / 255)
    assert np.flatnonzero(found).tolist() == [5, 7]
    assert found[[5, 7]] == pytest.approx([2, 2])
    with pytest.raises(ValueError, match="sign vectors of 4 entries"):
        twolayer.bounded_sites(50, 0.1, 4)


def test_doors_of_sites():
    sites = twolayer.circle_sites(4, 0.1)
    for tau in (0, 1, 1.5):
        with pytest.raises(ValueError, match="tau"):
            twolayer.dead_network(sites, [0], tau)
    for active in ([], [4], [0, 0], [0.5], [True, False]):
        with pytest.raises(ValueError, match="active must list"):
            twolayer.dead_network(sites, active)
    with pytest.raises(ValueError, match="drop"):
        twolayer.dead_network(sites, [0, 1], drop=[1, 1, 1])
    with pytest.raises(ValueError, match="sign"):
        twolayer.dead_network(sites, [0], sign=2)
    with pytest.raises(TypeError, match="Sites"):
        twolayer.dead_network(np.ones((3, 2)), [0])
    with pytest.raises(ValueError, match="plane"):
        twolayer.circle_sites(4, 0.1, d=1)
    with pytest.raises(ValueError, match="radius"):
        twolayer.circle_sites(4, 0)


# ------------------------------------------------------------------------------- equal statistics


@pytest.mark.parametrize("m", [1, 2, 7, 20, 41])
def test_radon_weights(m):
    rng = np.random.default_rng(m)
    T = rng.standard_normal((m + 2, m)) * 10.0 ** rng.integers(-3, 4, m)
    P, Q = twolayer.radon_weights(T)
    assert P.sum() == pytest.approx(1)
    assert Q.sum() == pytest.approx(1)
    assert (P >= 0).all()
    assert (Q >= 0).all()
    assert not (P * Q).any()
    assert (P > 0).sum() <= m // 2 + 1
    assert np.abs(T.T @ (P - Q) / np.abs(T).max(axis=0)).max() < 1e-13
    # unique up to a factor: the null vector of the singular value decomposition
    null = np.linalg.svd(np.vstack([np.ones(m + 2), T.T / np.abs(T).max(axis=0)[:, None]]))[2][-1]
    c = P / P.max() - Q / P.max()
    k = np.argmax(np.abs(null))
    assert c * null[k] / c[k] == pytest.approx(null, abs=1e-8 * np.abs(null).max() + 1e-9)


def test_radon_needs_points_and_takes_dependent_statistics():
    T = np.random.default_rng(0).standard_normal((5, 4))
    with pytest.raises(ValueError, match="m \\+ 2 = 6"):
        twolayer.radon_weights(T)
    T[:, 3] = T[:, 0] + T[:, 1] + 2  # three statistics only
    P, Q = twolayer.radon_weights(T)
    assert T.T @ P == pytest.approx(T.T @ Q)
    for bad in (np.full((5, 2), np.nan), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="statistics"):
            twolayer.radon_weights(bad)
    P, Q = twolayer.radon_weights(np.full((2, 3), [0.1, 1e9, 1 / 3]))  # constants say nothing
    assert sorted([*P, *Q]) == [0, 0, 1, 1]


def test_separating_site_is_twice_the_distance():
    """P_i = 2 max c_i is twice the distance of e_i from the span, another linear program."""
    T = np.random.default_rng(1).standard_normal((14, 4))
    basis = np.column_stack([np.ones(14), T])
    for i in range(0, 14, 3):
        found = twolayer.separating_site(T, i)
        target = np.eye(14)[i]
        one = np.ones((14, 1))
        answer = linprog(
            np.append(np.zeros(5), 1.0),
            np.vstack([np.hstack([basis, -one]), np.hstack([-basis, -one])]),
            np.append(target, -target),
            bounds=(None, None),
        )
        assert found.site == i
        assert found.P[i] == pytest.approx(2 * answer.fun, rel=1e-7)
        assert not (found.P * found.Q).any()
        assert T.T @ found.P == pytest.approx(T.T @ found.Q, abs=1e-12)
        assert found.P.sum() == pytest.approx(1)
    best = max(twolayer.separating_site(T, i).P[i] for i in range(14))
    everywhere = twolayer.separating_site(T, range(14))
    assert everywhere.P[everywhere.site] == pytest.approx(best)
    some = twolayer.separating_site(T)
    assert some.P[some.site] <= best + 1e-12


def test_separating_site_needs_points():
    T = np.random.default_rng(2).standard_normal((6, 5))
    with pytest.raises(ValueError, match="m \\+ 2 = 7"):
        twolayer.separating_site(T)
    with pytest.raises(ValueError, match="numbers from 0 to 5"):
        twolayer.separating_site(T[:, :2], 6)
    alone = np.zeros((4, 1))
    alone[2] = 1.0  # the mass of point 2 is a statistic
    with pytest.raises(ValueError, match="determine the mass"):
        twolayer.separating_site(alone, 2)
    assert twolayer.separating_site(alone).site != 2


def test_the_theorem_with_one_dead_neuron():
    sites = twolayer.circle_sites(120, 0.3)
    rng = np.random.default_rng(3)
    T = np.cos(sites.points @ rng.standard_normal((2, 8)) + rng.uniform(0, 6, 8))
    i, P, Q = twolayer.separating_site(T)
    gaps = twolayer.gap(twolayer.dead_network(sites, [i]), sites.points, np.ones(120), 0.3)
    assert P @ gaps > 0.9
    assert Q @ gaps == 0
    assert T.T @ P == pytest.approx(T.T @ Q, abs=1e-12)


# ------------------------------------------------------------------------------- swap test


def test_swap_interval_on_small_pools():
    """All vertices of the polytope of laws: with two equations three atoms at most."""
    rng = np.random.default_rng(4)
    gaps, T = rng.random(7), rng.standard_normal((7, 2))
    law = rng.dirichlet(np.ones(7))
    found = twolayer.swap_interval(gaps, T, law)
    values = []
    for three in itertools.combinations(range(7), 3):
        A = np.vstack([np.ones(3), T[list(three)].T])
        p = np.linalg.solve(A, np.append(1.0, law @ T))
        if (p >= 0).all():
            values.append(p @ gaps[list(three)])
    assert found.lower == pytest.approx(min(values))
    assert found.upper == pytest.approx(max(values))
    assert found.actual == pytest.approx(law @ gaps)
    assert 0 <= found.slack < 1e-9
    for p, value in ((found.weights_lower, found.lower), (found.weights_upper, found.upper)):
        assert p @ gaps == pytest.approx(value)
        assert p.sum() == pytest.approx(1)
        assert p.min() >= 0
        assert p @ T == pytest.approx(law @ T, abs=1e-12)
    assert found.relative == pytest.approx((min(values) / found.actual, max(values) / found.actual))


def test_swap_interval_closes_exactly_when_the_gap_is_a_statistic():
    rng = np.random.default_rng(5)
    T = rng.standard_normal((40, 5))
    found = twolayer.swap_interval(2 + T @ rng.standard_normal(5), T)
    assert found.lower == pytest.approx(found.upper, rel=1e-9)
    open_ = twolayer.swap_interval(rng.random(40), T)
    assert open_.lower < open_.actual < open_.upper
    small = twolayer.swap_interval(T[:, 0], np.column_stack([1e-12 * T[:, 0], 1e9 * T[:, 1]]))
    assert small.lower == pytest.approx(small.upper, rel=1e-9)
    alone = twolayer.swap_interval(rng.random(4), np.eye(4))  # the statistics are the law
    assert alone.lower == alone.upper == alone.actual
    whole = twolayer.swap_interval([1.0, 2.0, 5.0], np.full((3, 2), [0.1, 1e9]))
    assert (whole.lower, whole.upper) == pytest.approx((1, 5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gaps": [[1.0]]}, "gaps must have"),
        ({"statistics": np.ones((2, 1))}, "one row per gap"),
        ({"statistics": np.full((3, 1), np.inf)}, "finite"),
        ({"weights": [1, 1, 1]}, "sum to 1"),
        ({"weights": [2, -1, 0]}, "at least 0"),
        ({"weights": [1.0]}, "one entry per point"),
    ],
)
def test_door_of_the_swap_test(change, words):
    with pytest.raises(ValueError, match=words):
        twolayer.swap_interval(**({"gaps": [1.0, 2, 3], "statistics": [[1.0], [2], [4]]} | change))


def test_linear_control():
    (X, y) = samples(6, 60, 2)
    y = np.where(X[:, 0] + 0.3 * y > 0, 1.0, -1.0)

    def statistics(net):
        return twolayer.margin_bins(evaluate(net, X)[:, 0], y, 4)

    found = twolayer.linear_control(X, y, 0.2, statistics)
    w = np.linalg.lstsq(np.column_stack([X, np.ones(60)]), y, rcond=None)[0]
    net = Network((w[None, :2],), (w[2:],))
    gaps = twolayer.gap(net, X, y, 0.2, loss="hinge")
    expected = twolayer.swap_interval(gaps, statistics(net))
    assert found.relative == pytest.approx(expected.relative)
    # the linear loss: the gap is the same everywhere
    exact = twolayer.linear_control(X, y, 0.2, statistics, loss="linear", net=net)
    assert exact.lower == exact.upper == pytest.approx(0.2 * np.abs(w[:2]).sum())
    with pytest.raises(ValueError, match="linear model"):
        twolayer.linear_control(X, y, 0.2, statistics, net=network(0, 2, 3))
    with pytest.raises(TypeError, match="function of the network"):
        twolayer.linear_control(X, y, 0.2, np.ones((60, 1)))


def test_statistics():
    X, y = samples(7, 30, 2)
    T = twolayer.monomials(X, 3)
    assert T.shape == (30, 9)
    a, b = X.T
    expected = [a, b, a * a, a * b, b * b, a**3, a * a * b, a * b * b, b**3]
    assert np.allclose(T, np.column_stack(expected))
    both = twolayer.by_class(T, y)
    assert both.shape == (30, 19)
    assert np.allclose(both[:, 1:10] + both[:, 10:], T)
    assert both[:, 0].sum() == (y > 0).sum()
    bins = twolayer.margin_bins(a, y, 4)
    assert bins.shape == (30, 16)
    assert np.allclose(bins[:, ::2].sum(axis=1), 1)
    assert np.allclose(bins[:, 1::2].sum(axis=1), a)
    assert twolayer.margin_bins(np.zeros(5), np.ones(5), 3).shape == (5, 2)
    with pytest.raises(ValueError, match="one entry per sample"):
        twolayer.margin_bins(T, y, 2)
    with pytest.raises(ValueError, match="one sample per row"):
        twolayer.monomials(a, 2)


# ------------------------------------------------------------------------------- the rest


def test_penalties():
    net = network(8, 3, 5)
    W, a = net.weights[0], net.weights[1][0]
    found = twolayer.penalties(net)
    assert found["path_inf"] == pytest.approx(sum(abs(a[j]) * np.abs(W[j]).sum() for j in range(5)))
    assert found["path_1"] == pytest.approx(sum(abs(a[j]) * np.abs(W[j]).max() for j in range(5)))
    assert found["neuron_2"] == pytest.approx(max(abs(a) * np.linalg.norm(W, axis=1)))
    assert found["spectral"] == pytest.approx(np.linalg.svd(W)[1][0] * np.linalg.norm(a))
    X, y = samples(9, 20, 3)
    for norm in NORMS:
        drop = twolayer.worst_drop(net, X, y, 0.3, norm)
        assert (drop <= 0.3 * found[f"path_{norm}"] + 1e-9).all()


def grid(u, radius, K):
    step = radius / K
    start = -u.max() - 2 * radius - 2.5 * step
    count = math.ceil((-u.min() - start) / step) + 4
    return start, step, start + step * np.arange(count)


@pytest.mark.parametrize(
    ("loss", "size", "error"), [("linear", 1.0, 1e-12), ("logistic", 1e-4, 1e-4)]
)
def test_the_gap_is_a_database(loss, size, error):
    u = np.array([-1.31, -0.2, 0.113, 0.7, 1.1, 2.0])
    y = np.array([1, -1, 1, 1, -1, -1.0])
    p = np.array([0.1, 0.2, 0.15, 0.25, 0.2, 0.1])
    start, step, b = grid(u, 0.3, 10)
    unit = size if loss == "linear" else size / 2  # |phi'(0)| = 1/2
    G = [
        twolayer.neuron_gap(u[:, None], y, [1.0], b, 0.3, a=a, loss=loss, weights=p) / unit
        for a in (size, -size)
    ]
    tails = twolayer.tails_from_gaps(*G, start, step, 0.3)
    for label, tail, mass in (
        (1, tails.plus, tails.mass_plus),
        (-1, tails.minus, tails.mass_minus),
    ):
        over = np.clip((u - tails.thresholds[:, None]) / step, 0, 1) @ (p * (y == label))
        assert tail == pytest.approx(over, abs=20 * error)
        assert mass.sum() == pytest.approx(p[y == label].sum(), abs=20 * error)
    found = twolayer.rebuild(tails, 1e-3)
    assert found.locations == pytest.approx(u, abs=error)
    assert found.labels.tolist() == y.tolist()
    assert found.weights == pytest.approx(p, abs=error)
    assert found.nodes.max() <= 2


def test_atoms_too_close_for_the_grid_are_reported():
    u, y = np.array([0.0, 0.02]), np.ones(2)
    start, step, b = grid(u, 0.3, 6)
    G = [twolayer.neuron_gap(u[:, None], y, [1.0], b, 0.3, a=a) for a in (1, -1)]
    found = twolayer.rebuild(twolayer.tails_from_gaps(*G, start, step, 0.3))
    assert found.locations == pytest.approx([0.01], abs=1e-9)
    assert found.weights == pytest.approx([1])


def test_doors_of_the_database():
    g = np.zeros(50)
    with pytest.raises(ValueError, match="divided by an integer"):
        twolayer.tails_from_gaps(g, g, 0, 0.07, 0.3)
    with pytest.raises(ValueError, match="one grid"):
        twolayer.tails_from_gaps(g, g[:-1], 0, 0.1, 0.3)
    with pytest.raises(ValueError, match="at least 2 radius"):
        twolayer.tails_from_gaps(g[:8], g[:8], 0, 0.1, 0.3)
    with pytest.raises(TypeError, match="Tails"):
        twolayer.rebuild(g)
    assert not len(twolayer.rebuild(twolayer.tails_from_gaps(g, g, 0, 0.1, 0.3)).locations)


def test_max_cut():
    rng = np.random.default_rng(10)
    for n in (2, 5, 7):
        pairs = list(itertools.combinations(range(n), 2))
        edges = [pair for pair in pairs if rng.random() < 0.7] or pairs
        best = max(
            sum(s[i] != s[j] for i, j in edges) for s in itertools.product([-1, 1], repeat=n)
        )
        value, side = twolayer.max_cut(edges, n)
        assert value == best == sum(side[i] != side[j] for i, j in edges)
        net = twolayer.max_cut_network(edges, n)
        x = rng.standard_normal(n)
        assert evaluate(net, x)[0] == pytest.approx(sum(abs(x[i] - x[j]) for i, j in edges))
        assert twolayer.gap(net, np.zeros((1, n)), [-1], 0.3) == pytest.approx([0.6 * best])


def test_doors_of_max_cut():
    for edges in ([], [(0,)], [(0, -1)], [(0.5, 1)]):
        with pytest.raises(ValueError, match="edges must be pairs"):
            twolayer.max_cut_network(edges)
    with pytest.raises(ValueError, match="two different nodes"):
        twolayer.max_cut_network([(1, 1)])
    with pytest.raises(ValueError, match="twice"):
        twolayer.max_cut_network([(0, 1), (1, 0)])
    with pytest.raises(ValueError, match="nodes"):
        twolayer.max_cut_network([(0, 4)], 3)
    with pytest.raises(ValueError, match="at most 22"):
        twolayer.max_cut([(0, 30)])
