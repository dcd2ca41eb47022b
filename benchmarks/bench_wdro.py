"""Certificates of ReLU networks and Wasserstein-DRO values, against generic solvers.

Run ``make bench``.  Both sides solve the same problem, to the accuracy of the peer, which each
test first asserts.  For values of networks both start from the network and the samples, cells and
modelling included; elsewhere cvxpy is handed a model that it has solved before.
"""

import itertools

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from advreg import relu, verify, wdro
from advreg.relu import Network, evaluate


def random_net(seed, *widths, bias=1.0):
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    weights = tuple(rng.standard_normal((n, k)) / np.sqrt(k) for k, n in shapes)
    return Network(weights, tuple(bias * rng.standard_normal(n) for _, n in shapes))


# ------------------------------------------------------------------------------- Lipschitz


def slope_by_patterns(net, norm):
    """Textbook: one linear program for every pattern, each of them a cell with interior or not."""
    W, b = net.weights[0], net.biases[0]
    d, best = net.inputs, 0.0
    size = np.linalg.norm(W, axis=1)
    for mask in itertools.product([0.0, 1.0], repeat=len(b)):
        s = 1 - 2 * np.array(mask)
        answer = linprog(
            np.append(np.zeros(d), -1.0),
            np.column_stack([s[:, None] * W, size]),
            -s * b,
            bounds=[(-1, 1)] * d + [(None, 1)],
        )
        if answer.status == 0 and answer.x[-1] > 1e-9:
            gradient = (net.weights[1] * mask) @ W
            dual = 1 if norm == np.inf else 2
            best = max(best, np.linalg.norm(gradient[0], ord=dual))
    return best


def slope_by_plain_milp(net):
    """Ground norm inf in [-1, 1]^d: max of sum_k |sum_j z_j V_jk|, big M for all, no incumbent."""
    W, b = net.weights[0], net.biases[0]
    (n, d), V = W.shape, net.weights[1].T * W
    reach = np.abs(W).sum(axis=1)
    lo, hi = np.minimum(b - reach, 0), np.maximum(b + reach, 0)
    up, down = np.maximum(V, 0).sum(axis=0), np.maximum(-V, 0).sum(axis=0)
    M = 2 * (up + down)
    # columns: x, z, p_k = |g_k|, its sign
    A = np.vstack([
        np.hstack([W, -np.diag(hi), np.zeros((n, 2 * d))]),
        np.hstack([-W, -np.diag(lo), np.zeros((n, 2 * d))]),
        np.hstack([np.zeros((d, d)), -V.T, np.eye(d), np.diag(M)]),
        np.hstack([np.zeros((d, d)), V.T, np.eye(d), -np.diag(M)]),
    ])  # fmt: skip
    answer = milp(
        np.concatenate([np.zeros(d + n), -np.ones(d), np.zeros(d)]),
        constraints=LinearConstraint(A, -np.inf, np.concatenate([-b, b - lo, M, np.zeros(d)])),
        integrality=np.repeat([0, 1, 0, 1], [d, n, d, d]),
        bounds=Bounds(
            np.concatenate([-np.ones(d), np.zeros(n + 2 * d)]),
            np.concatenate([np.ones(d + n), up + down, np.ones(d)]),
        ),
        options={"mip_rel_gap": 1e-9},
    )
    return -answer.fun


@pytest.mark.parametrize("norm", [2, np.inf])
def test_polygons_against_all_patterns(compare, norm):
    net = random_net(0, 2, 8, 1)

    def ours():
        return relu.lipschitz(net, norm, low=-1, high=1).upper

    def peer():
        return slope_by_patterns(net, norm)

    assert ours() == pytest.approx(peer(), rel=1e-9)
    compare(f"slope, 2: 8, norm {norm}", ours, "2^8 linear programs", peer, goal=100, rounds=3)


@pytest.mark.parametrize(("d", "n", "goal"), [(2, 64, 10), (3, 64, 10), (10, 32, 1)])
def test_slope_against_a_plain_milp(compare, d, n, goal):
    """The two enumerate; with ten inputs ours is a program, too, and should not be slower."""
    net = random_net(1, d, n, 1)

    def ours():
        return relu.lipschitz(net, np.inf, low=-1, high=1).upper

    def peer():
        return slope_by_plain_milp(net)

    assert ours() == pytest.approx(peer(), rel=1e-5)
    compare(f"slope, {d}: {n}, norm inf", ours, "plain MILP, HiGHS", peer, goal=goal, rounds=3)


def lipsdp(net):
    """The semidefinite program of LipSDP-Neuron, for Clarabel."""
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    W, a = net.weights[0], net.weights[1][0]
    n, d = W.shape
    rho, t = cp.Variable(), cp.Variable(n, nonneg=True)
    TW = cp.diag(t) @ W
    block = cp.bmat([[-rho * np.eye(d), TW.T], [TW, np.outer(a, a) - 2 * cp.diag(t)]])
    program = cp.Problem(cp.Minimize(rho), [block << 0])

    def solve():
        program.solve(solver=cp.CLARABEL)
        return float(np.sqrt(rho.value))

    return solve


def test_exact_slope_against_lipsdp(compare):
    """The exact constant in the plane, faster than a bound of it."""
    net = random_net(2, 2, 32, 1)
    peer = lipsdp(net)

    def ours():
        return relu.lipschitz(net, 2, low=-1, high=1).upper

    assert ours() <= peer() * (1 + 1e-6)
    name = "slope, 2: 32, norm 2 (exact)"
    compare(name, ours, "LipSDP, Clarabel (bound)", peer, goal=20, rounds=3)


@pytest.mark.parametrize(("d", "n"), [(10, 24), (30, 24)])
def test_lipsdp_against_clarabel(compare, d, n):
    net = random_net(3, d, n, 1)
    peer = lipsdp(net)

    def ours():
        return relu.lipsdp(net)

    assert ours() == pytest.approx(peer(), rel=1e-5)
    compare(f"LipSDP, {d}: {n}", ours, "cvxpy, Clarabel", peer, goal=100, rounds=3)


# ------------------------------------------------------------------------------- exact V_1


def samples(net, n, seed=0):
    """Samples with the labels of the network, a tenth of them wrong."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, net.inputs))
    y = evaluate(net, X).argmax(axis=1)
    return X, np.where(rng.random(n) < 0.1, 1 - y, y)


def cell_program(net, X, y, radius, norm):
    """The exact program over all cells, hinge loss, two classes, one hidden layer, for Clarabel.

    One mass and one moment for every sample, cell and piece, all constraints in one sparse block.
    """
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    W, b = net.weights[0], net.biases[0]
    masks = relu.activations(net)
    (n, d), K = X.shape, len(masks)
    G = relu.gradients(net, masks)
    offsets = (masks * b) @ net.weights[1].T + net.biases[1]
    signs = np.where(masks, -1.0, 1.0)
    mass, moment = cp.Variable((n, 2 * K), nonneg=True), cp.Variable((n * 2 * K, d))
    gains, slopes, constraints = np.zeros((n, 2 * K)), np.zeros((n, 2 * K, d)), []
    A = sparse.block_diag([s[:, None] * W for s in signs] * 2)
    for i in range(n):
        g = G[:, 1 - y[i]] - G[:, y[i]]
        slopes[i, :K] = g
        gains[i, :K] = 1 + g @ X[i] + offsets[:, 1 - y[i]] - offsets[:, y[i]]
        room = np.tile(-signs * (W @ X[i] + b), (2, 1))  # b - A x_i of each cell
        q = cp.reshape(moment[2 * K * i : 2 * K * (i + 1)], (2 * K * d,), order="C")
        limits = sparse.block_diag([r[:, None] for r in room])
        constraints.append(A @ q <= limits @ mass[i])
    length = cp.norm(moment, 2 if norm == 2 else "inf", axis=1)
    constraints += [cp.sum(mass, axis=1) == 1 / n, cp.sum(length) <= radius]
    value = cp.sum(cp.multiply(gains, mass)) + cp.sum(cp.multiply(slopes.reshape(-1, d), moment))
    program = cp.Problem(cp.Maximize(value), constraints)

    def solve():
        return program.solve(solver=cp.CLARABEL)

    return solve


@pytest.mark.parametrize(("n", "width", "norm"), [(24, 8, 2), (24, 8, np.inf), (50, 16, np.inf)])
def test_curve_against_one_cone_program(compare, n, width, norm):
    from advreg.wdro_networks import planar

    net = random_net(4, 2, width, 2)
    X, y = samples(net, n)
    radii = np.linspace(0.01, 1.0, 100)

    def ours():
        return planar(net, X, y, norm).curve(radii, 1)

    def peer():
        return cell_program(net, X, y, radii[49], norm)()

    lower, upper = ours()
    assert lower[49] == pytest.approx(peer(), rel=1e-5)
    assert upper[49] == pytest.approx(lower[49], rel=1e-6)
    name = f"V_1 at 100 radii, n = {n}, 2: {width}, norm {norm}"
    compare(name, ours, "ONE radius: cvxpy, Clarabel", peer, goal=20, rounds=3)


def test_cell_program_against_cvxpy(compare):
    from advreg import wdro_networks

    net = random_net(4, 2, 8, 2)
    X, y = samples(net, 24)

    def ours():
        return wdro_networks.cell_program(net, X, y, 0.5, np.inf).value

    def peer():
        return cell_program(net, X, y, 0.5, np.inf)()

    assert ours() == pytest.approx(peer(), rel=1e-5)
    compare("V_1, one radius, n = 24, 2: 8", ours, "cvxpy, Clarabel", peer, goal=3, rounds=3)


# ------------------------------------------------------------------------------- linear models


@pytest.mark.parametrize(("p", "cost"), [(1, np.inf), (1, 0.5), (2, np.inf)])
def test_linear_value_against_cvxpy(compare, p, cost):
    """The dual program over the multiplier and one bound per sample, hinge loss."""
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    rng = np.random.default_rng(5)
    n, d, radius = 500, 10, 0.1
    X, w, b = rng.standard_normal((n, d)), rng.standard_normal(d), 0.3
    y = np.sign(X @ w + b + rng.standard_normal(n))
    m, dual = y * (X @ w + b), np.linalg.norm(w, ord=1)
    price, s = cp.Variable(nonneg=True), cp.Variable(n, nonneg=True)
    if p == 1:
        constraints = [s >= 1 - m, price >= dual]
    else:  # sup over t of 1 - m + ||w|| t - price t^2
        constraints = [s >= 1 - m + dual**2 / 4 * cp.inv_pos(price)]
    if cost < np.inf:
        constraints.append(s >= 1 + m - price * cost)
    program = cp.Problem(cp.Minimize(price * radius**p + cp.sum(s) / n), constraints)

    def ours():
        return wdro.linear_value(w, b, X, y, radius, p, np.inf, "hinge", label_cost=cost)

    def peer():
        return program.solve(solver=cp.CLARABEL)

    assert ours() == pytest.approx(peer(), rel=1e-6)
    name = f"V_{p}, linear, n = {n}, label cost {cost}"
    compare(name, ours, "cvxpy, Clarabel", peer, goal=20)


# ------------------------------------------------------------------------------- one sample


def plain_worst_margin(net, x, label, radius):
    """Every neuron with its z and the range that interval arithmetic gives; one program each."""
    d, widths, best = net.inputs, net.hidden, -np.inf
    N = sum(widths)
    columns = d + 2 * N
    rows, ends, tops = [], [], [x + radius]
    low, high = x - radius, x + radius
    first, before = d, slice(0, d)
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        n = len(b)
        up, down = np.maximum(W, 0), np.minimum(W, 0)
        lo, hi = up @ low + down @ high + b, up @ high + down @ low + b
        lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
        P, h, z = np.zeros((n, columns)), np.zeros((n, columns)), np.zeros((n, columns))
        P[:, before] = W
        h[:, first : first + n] = np.eye(n)
        z[:, first + N : first + N + n] = np.eye(n)
        rows += [P - h, h - P - lo[:, None] * z, h - hi[:, None] * z]
        ends += [-b, b - lo, np.zeros(n)]
        low, high, before = np.zeros(n), hi, slice(first, first + n)
        first += n
        tops.append(hi)
    constraints = LinearConstraint(np.vstack(rows), -np.inf, np.concatenate(ends))
    bounds = Bounds(
        np.concatenate([x - radius, np.zeros(2 * N)]), np.concatenate([*tops, np.ones(N)])
    )
    for j in set(range(net.outputs)) - {label}:
        cost = np.zeros(columns)
        cost[before] = net.weights[-1][label] - net.weights[-1][j]
        answer = milp(
            cost,
            constraints=constraints,
            integrality=np.repeat([0, 0, 1], [d, N, N]),
            bounds=bounds,
            options={"mip_rel_gap": 1e-9},
        )
        best = max(best, net.biases[-1][j] - net.biases[-1][label] - answer.fun)
    return best


def worst_cases(widths, radius, count):
    cases = []
    for seed in range(count):
        net = random_net(seed, *widths, bias=0.5)
        x = np.random.default_rng(100 + seed).standard_normal(widths[0])
        cases.append((net, x, int(evaluate(net, x).argmax()), radius))
    return cases


@pytest.mark.parametrize(
    ("widths", "radius", "count"),
    [
        ((20, 64, 2), 0.1, 8),
        ((20, 64, 2), 0.3, 4),
        ((10, 64, 2), 0.3, 8),
        ((20, 32, 10), 0.2, 4),
        ((10, 12, 12, 3), 0.2, 8),
    ],
)
def test_worst_margin_against_a_plain_milp(compare, widths, radius, count):
    cases = worst_cases(widths, radius, count)

    def ours():
        return [verify.worst_margin(*case) for case in cases]

    def peer():
        return [plain_worst_margin(*case) for case in cases]

    for found, value in zip(ours(), peer(), strict=True):
        assert found.lower - 1e-5 <= value <= found.upper + 1e-5
        assert found.upper - found.lower < 1e-5 * (1 + abs(value))
    name = f"{': '.join(map(str, widths))}, radius {radius}"
    compare(f"worst margin, {name}", ours, "plain MILP, HiGHS", peer, goal=5, rounds=3)


@pytest.mark.parametrize(("d", "radius"), [(20, 0.1), (20, 0.3), (10, 0.3)])
def test_deciding_against_a_plain_milp(compare, d, radius):
    """Robust or not?  Most samples need no program."""
    cases = worst_cases((d, 64, 2), radius, 8)

    def ours():
        return [verify.worst_margin(*case, decide=True).upper < 0 for case in cases]

    def peer():
        return [plain_worst_margin(*case) < 0 for case in cases]

    assert ours() == peer()
    name = f"robust or not, {d}: 64: 2, radius {radius}"
    compare(name, ours, "plain MILP, HiGHS", peer, goal=100, rounds=1)
