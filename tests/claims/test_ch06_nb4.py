"""Witnesses of chapter 6, notebook 4: exact values, and the distributions that attain them."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog
from sklearn.datasets import make_moons

from advreg import networks, relu, wdro, wdro_networks

torch.set_num_threads(1)
INF = np.inf
KINKS = {1: np.eye(2), INF: np.array([[1.0, 1.0], [1.0, -1.0]])}

# ------------------------------------------------------------------------------- networks


def random_net(rng, hidden=5, K=2, kind="plain"):
    W, b = rng.standard_normal((hidden, 2)), rng.standard_normal(hidden)
    if kind == "degenerate":
        W[0], b[0] = 0.0, -1.0  # a dead neuron
        W[1] = 2 * W[2]  # parallel lines
        W[3], b[3] = -W[4], -b[4]  # one line twice
    V, c = rng.standard_normal((K, hidden)), rng.standard_normal(K)
    return relu.Network((W, V), (b, c))


def hinge(net, points, label):
    logits = relu.evaluate(net, points)
    return np.maximum(1 + np.delete(logits, label, -1).max(-1) - logits[..., label], 0)


@functools.cache
def moons(seed, n=24, hidden=8):
    X, y = make_moons(n, noise=0.35, random_state=seed)
    start = torch.Generator().manual_seed(seed)
    model = networks.mlp([2, hidden, 2], generator=start, dtype=torch.float64)
    adam = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.005)
    for _ in range(400):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(y)).backward()
        adam.step()
    return relu.from_torch(model), X, y


# ------------------------------------------------------------------------------- oracles


def crossings(net, x, norm, box=None):
    """Corners of the cells refined at x, and other points; one hidden layer."""
    lines = list(zip(net.weights[0], net.biases[0], strict=True))
    lines += [(u, -u @ x) for u in KINKS[norm]]
    if box is not None:
        lines += [(u, -end) for u in np.eye(2) for end in box]
    points = [x]
    for (u, a), (v, b) in itertools.combinations(lines, 2):
        M = np.array([u, v])
        if abs(np.linalg.det(M)) > 1e-12:
            points.append(np.linalg.solve(M, [-a, -b]))
    points = np.array(points)
    if box is not None:
        points = points[((points >= box[0] - 1e-9) & (points <= box[1] + 1e-9)).all(axis=1)]
    return points


def rays(net, norm):
    """Directions among which the steepest one at infinity is found."""
    W = net.weights[0]
    u = np.vstack([np.column_stack([-W[:, 1], W[:, 0]]), [[1, 1], [1, -1], [1, 0], [0, 1]]])
    u = np.vstack([u, -u])
    size = np.linalg.norm(u, ord=norm, axis=1)
    return u[size > 0] / size[size > 0, None]


def steepest(net, label, norm):
    u = rays(net, norm)
    logits = relu.evaluate(relu.without_biases(net), u)
    rate = np.delete(logits, label, -1).max(-1) - logits[:, label]
    best = int(np.argmax(rate))
    return u[best], max(0.0, float(rate[best]))


def lists_of(net, X, y, norm, box=None, far=None):
    """Distances and gains of candidate points, and slopes at infinity."""
    lists, slopes = [], []
    for x, label in zip(X, y, strict=True):
        points = crossings(net, x, norm, box)
        u, slope = steepest(net, label, norm)
        if far is not None:
            points = np.vstack([points, points + far * u])
        distance = np.linalg.norm(points - x, ord=norm, axis=1)
        gain = hinge(net, points, label) - hinge(net, x, label)
        keep = distance > 1e-9
        lists.append(np.column_stack([distance, gain])[keep])
        slopes.append(slope if box is None else 0.0)
    return lists, np.array(slopes)


def master(lists, radius, slopes=None):
    """max of the mean gain by linear programming over the masses of given points."""
    n, gain, cost, owner = len(lists), [], [], []
    for i, rows in enumerate(lists):
        gain += [0.0, *rows[:, 1]]
        cost += [0.0, *rows[:, 0]]
        owner += [i] * (len(rows) + 1)
    m = len(gain)
    if slopes is not None:
        gain, cost = gain + list(slopes), cost + [1.0] * n
    equal = sparse.csr_array((np.ones(m), (owner, np.arange(m))), shape=(n, len(gain)))
    answer = linprog(-np.array(gain), np.array(cost)[None], [radius], equal, np.full(n, 1 / n))
    assert answer.status == 0
    return -answer.fun


def clean_risk(net, X, y):
    return np.mean([hinge(net, x, label) for x, label in zip(X, y, strict=True)])


def pieces_of(net, label, norm=None):
    """(A, b, g, h) for every activation pattern and affine piece of the hinge."""
    W, b, masks = net.weights[0], net.biases[0], relu.activations(net)
    J = np.einsum("kh,ch,hd->ckd", net.weights[1], masks, W)
    c = (masks * b) @ net.weights[1].T + net.biases[1]
    pieces = []
    for mask, g, h in zip(masks, J, c, strict=True):
        sign = np.where(mask, -1.0, 1.0)
        wall = sign[:, None] * W, -sign * b
        pieces.append((*wall, np.zeros(2), 0.0))
        for j in set(range(net.outputs)) - {label}:
            pieces.append((*wall, g[j] - g[label], 1 + h[j] - h[label]))
    return pieces


def program(pieces, X, radius, norm, tangents=None):
    """The statement: a block (alpha, q, s >= |q|, t) for every sample, cell and piece.

    p = 1: t >= s.  p = 2: t >= s^2 / alpha by its tangents 2 tau s - tau^2 alpha.
    """
    (n, d), flat = X.shape, [(i, *piece) for i in range(len(X)) for piece in pieces[i]]
    slots = 2 * d + 2 if norm == 1 else d + 3  # alpha, q, then |q_j| (norm 1) or s, then t
    blocks, gain = [], []
    for i, A, b, g, h in flat:
        rows = [np.column_stack([A @ X[i] - b, A, np.zeros((len(A), slots - d - 1))])]
        unit, zero = np.eye(d), np.zeros((d, 1))
        bound = -unit if norm == 1 else -np.ones((d, 1))
        rows += [np.hstack([zero, s * unit, bound, zero]) for s in (1, -1)]
        size = np.zeros(slots)
        size[d + 1 : -1] = 1.0
        if tangents is None:
            rows.append((size - np.eye(slots)[-1])[None])
        else:
            cut = 2 * tangents[:, None] * size - np.eye(slots)[-1]
            cut[:, 0] = -(tangents**2)
            rows.append(cut)
        blocks.append(np.vstack(rows))
        gain.append([g @ X[i] + h, *g, *np.zeros(slots - d - 1)])
    size = len(flat)
    walls = sparse.block_diag(blocks)
    spent = np.tile(np.eye(slots)[-1], (1, size))
    owner = np.array([i for i, *_ in flat])
    mass = (np.ones(size), (owner, np.arange(size) * slots))
    budget = radius if tangents is None else radius**2
    answer = linprog(
        -np.ravel(gain),
        sparse.vstack([walls, spent]),
        np.append(np.zeros(walls.shape[0]), budget),
        sparse.csr_array(mass, shape=(n, size * slots)),
        np.full(n, 1 / n),
        ([(0, None)] + [(None, None)] * d + [(0, None)] * (slots - d - 1)) * size,
    )
    assert answer.status == 0
    table = answer.x.reshape(size, slots)
    return -answer.fun, owner, table[:, 0], table[:, 1 : d + 1], -answer.ineqlin.marginals[-1]


def transport(P, Q, mass, norm, labels, p=1):
    """W_p^p with labels fixed: by POT if it is there, by the library's linear program otherwise.

    `labels` are those of P and of Q.  A change of label costs more than twice the longest way, so
    that none pays: Q has as much mass of each label as P, hence a change has a counterpart.
    """
    D = np.linalg.norm(P[:, None] - Q[None], ord=norm, axis=2)
    far = 3 * D.max()
    try:
        import ot
    except ImportError:
        P, Q = (np.column_stack([Z, far * k]) for Z, k in zip((P, Q), labels, strict=True))
        return wdro.wasserstein(P, Q, p, norm, Q_mass=mass / mass.sum()) ** p
    D[labels[0][:, None] != labels[1]] = far
    return ot.emd2(np.full(len(P), 1 / len(P)), mass / mass.sum(), D**p)


# ------------------------------------------------------------------------------- the program


def test_cell_program(claim):
    c = claim("thm-cell-program")
    rng = np.random.default_rng(1)
    worst = library = price = 0.0
    blocks = -100
    for case in range(16):
        norm, K = (1, INF)[case % 2], 2 + case // 2 % 2
        net = random_net(rng, 5, K, "degenerate" if case % 4 == 3 else "plain")
        n = 4
        X, y = rng.standard_normal((n, 2)), rng.integers(0, 2, n)  # class 2 never a label
        X[1] = X[0]  # a datum twice
        if case % 4 == 1:
            W, b = net.weights[0][0], net.biases[0][0]
            X[2] -= (W @ X[2] + b) * W / (W @ W)  # a datum on a kink
        E, (lists, slopes) = clean_risk(net, X, y), lists_of(net, X, y, norm)
        for eps in (0.02, 0.3, 4.0):
            value, owner, alpha, q, slope = program([pieces_of(net, k) for k in y], X, eps, norm)
            oracle = E + master(lists, eps, slopes)
            worst = max(worst, abs(value / oracle - 1))
            blocks = max(blocks, int((alpha + np.abs(q).max(axis=1) > 1e-9).sum()) - n - 1)
            right = (master(lists, eps * 1.001, slopes) - master(lists, eps, slopes)) / eps * 1e3
            left = (master(lists, eps, slopes) - master(lists, eps * 0.999, slopes)) / eps * 1e3
            price = max(price, right - slope, slope - left)
            if case < 8:
                found = wdro_networks.cell_program(net, X, y, eps, norm)
                library = max(library, abs(found.value / oracle - 1))
    c.at_most("program against masses on corners, 48 cases, relative", worst, 1e-7)
    c.at_most("nonzero blocks - (n + 1)", blocks, 0)
    c.at_most("price of the budget outside of one-sided slopes", price, 1e-5)
    c.at_most("the library's program, relative", library, 1e-7)
    # Order 2: the cone by tangents (an outer approximation) against the library's segments.
    gaps = []
    tangents = np.linspace(0, 6, 241)
    for _ in range(3):
        net = random_net(rng, 3)
        X, y = rng.standard_normal((2, 2)), np.array([0, 1])
        value, *_ = program([pieces_of(net, k) for k in y], X, 0.4, INF, tangents)
        gaps.append(value - wdro_networks.planar(net, X, y, INF).value(0.4, 2).lower)
    c.at_least("order 2: program by tangents minus exact value, least", min(gaps), -1e-7)
    c.at_most("order 2: ... largest", max(gaps), 5e-3)
    # Reading: atoms have the value and the cost; a ray is a limit.
    read = cost = limit = 0.0
    for _ in range(6):
        net = random_net(rng, 5)
        X, y = rng.standard_normal((4, 2)), rng.integers(0, 2, 4)
        for eps in (0.05, 2.0):
            value, owner, alpha, q, _ = program([pieces_of(net, k) for k in y], X, eps, INF)
            on, ray = alpha > 1e-10, (alpha <= 1e-10) & (np.abs(q).max(axis=1) > 1e-9)
            ends, mass, who = X[owner[on]] + q[on] / alpha[on, None], alpha[on], owner[on]
            eta = 1e-7
            for k in np.flatnonzero(ray):
                mass = mass * np.where(who == owner[k], 1 - 4 * eta, 1.0)
                ends = np.vstack([ends, X[owner[k]] + q[k] / eta])
                mass, who = np.append(mass, eta), np.append(who, owner[k])
            loss = [hinge(net, end, y[i]) for end, i in zip(ends, who, strict=True)]
            if ray.any():
                limit = max(limit, abs(mass @ loss / value - 1))
            else:
                read = max(read, abs(mass @ loss / value - 1))
            cost = max(cost, transport(X, ends, mass, INF, (y, y[who])) / eps)
    c.at_most("mean loss of the atoms against the value", read, 1e-7)
    c.at_most("with a ray of mass 1e-7: relative distance", limit, 1e-5)
    c.at_most("W_1 / ε of what was read", cost, 1 + 1e-6)
    # A void cell breaks it.
    true = (np.zeros((0, 2)), np.zeros(0), np.array([1.0, 0.0]), 0.0)
    void = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.0, -1.0])
    empty = (*void, np.array([0.0, 100.0]), 0.0)
    value, *_ = program([[true, empty]], np.zeros((1, 2)), 1.0, INF)
    c.close("with a void cell, where the truth is 1", value, 100, 1e-6)


# ------------------------------------------------------------------------------- segments


def refined_edges(net, x, norm, R):
    """Edges of the cells in a box, cut by the kink lines through x."""
    cells = relu.cells(net, x - R, x + R)
    edges = []
    for k in range(len(cells)):
        polygon = cells.polygon(k)
        parts = [polygon]
        for u in KINKS.get(norm, np.zeros((0, 2))):
            halves = []
            for part in parts:
                height = (part - x) @ u
                if height.max() <= 1e-12 or height.min() >= -1e-12:
                    halves.append(part)
                    continue
                for sign in (1, -1):
                    out, value = [], sign * height
                    for j in range(len(part)):
                        i = j - 1
                        if value[i] * value[j] < 0:
                            s = value[i] / (value[i] - value[j])
                            out.append(part[i] + s * (part[j] - part[i]))
                        if value[j] >= 0:
                            out.append(part[j])
                    halves.append(np.array(out))
            parts = halves
        for part in parts:
            edges += [(part[j - 1], part[j]) for j in range(len(part))]
    return cells, edges


def growth_by_segments(net, x, label, s, norm, R):
    """Largest loss within distance s over the segments of the statement, ends in closed form."""
    cells, edges = refined_edges(net, x, norm, R)
    ends = [x]
    for P, Q in edges:
        ends += [P, Q]
        if norm == 2:
            a, b, e = (Q - P) @ (Q - P), 2 * (P - x) @ (Q - P), (P - x) @ (P - x) - s * s
            disc = b * b - 4 * a * e
            roots = [(-b + w * np.sqrt(disc)) / (2 * a) for w in (1, -1)] if disc > 0 < a else []
        else:  # the distance is affine on a refined edge
            d0, d1 = (np.linalg.norm(Z - x, ord=norm) for Z in (P, Q))
            roots = [(s - d0) / (d1 - d0)] if abs(d1 - d0) > 1e-14 else []
        ends += [P + t * (Q - P) for t in roots if 0 <= t <= 1]
    if norm == 2:
        rows = np.eye(net.outputs)
        for G, j in itertools.product(cells.gradients, set(range(net.outputs)) - {label}):
            g = G.T @ (rows[j] - rows[label])
            if g.any():
                ends.append(x + s * g / np.linalg.norm(g))  # wherever it lies: a point of X
    ends = np.array(ends)
    near = np.linalg.norm(ends - x, ord=norm, axis=1) <= s * (1 + 1e-12)
    return hinge(net, ends[near], label).max()


def growth_by_programs(net, x, label, s, norm):
    """The same by one linear program per cell and piece."""
    best = hinge(net, x, label)
    for A, b, g, h in pieces_of(net, label):
        if norm == INF:
            answer = linprog(-g, A, b - A @ x, bounds=(-s, s))
        else:
            both = np.hstack([A, -A])
            answer = linprog(
                -np.append(g, -g), np.vstack([both, np.ones(4)]), np.append(b - A @ x, s)
            )
        if answer.status == 0:
            best = max(best, g @ x + h - answer.fun)
    return best


def test_planar_segments(claim):
    c = claim("prop-planar-segments")
    rng = np.random.default_rng(2)
    worst = library = 0.0
    for case in range(10):
        norm, K = (1, INF)[case % 2], 2 + case % 3 // 2
        net = random_net(rng, 5, K, "degenerate" if case % 4 == 0 else "plain")
        X, y = rng.standard_normal((2, 2)), rng.integers(0, K, 2)
        planar = wdro_networks.planar(net, X, y, norm)
        for s in (0.0, 0.1, 0.7, 3.0):
            for i in range(2):
                exact = growth_by_programs(net, X[i], y[i], s, norm)
                here = growth_by_segments(net, X[i], y[i], s, norm, 10.0)
                worst = max(worst, abs(here - exact) / (1 + exact))
                library = max(
                    library, abs(planar.growth(s)[i] + planar.clean[i] - exact) / (1 + exact)
                )
    c.at_most("ℓ1, ℓ∞: growth over segments against programs per cell", worst, 1e-7)
    c.at_most("... the library's growth", library, 1e-7)
    # ℓ2: against a fine polar grid, from below and from above.
    angle, below, above = np.linspace(0, 2 * np.pi, 2001), -INF, -INF
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    disc = np.vstack([circle * r for r in np.linspace(0, 1, 201)])
    for case in range(6):
        net = random_net(rng, 5, 2 + case % 2)
        x, label = rng.standard_normal(2), int(rng.integers(0, 2))
        for s in (0.3, 1.5):
            found = hinge(net, x + s * disc, label).max()
            here = growth_by_segments(net, x, label, s, 2, 5.0)
            scale = relu.norm_product(net, 2) * s
            below, above = max(below, (found - here) / scale), max(above, (here - found) / scale)
    c.at_most("ℓ2: a polar grid exceeds the segments by (relative)", below, 1e-9)
    c.at_most("ℓ2: the segments exceed a polar grid by (relative)", above, 6e-3)
    # Suprema of every order against grids, p = 1 at the corners.
    error = corner = 0.0
    side = np.linspace(-8, 8, 641)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    for case in range(6):
        norm = (1, 2, INF)[case % 3]
        net = random_net(rng, 4)
        X, y = rng.standard_normal((1, 2)), np.array([case % 2])
        planar = wdro_networks.planar(net, X, y, norm)
        distance = np.linalg.norm(grid, ord=norm, axis=1)
        gain = hinge(net, X + grid, y[0]) - planar.clean[0]
        for p in (1, 2, 3):
            price = 1.2 * max(relu.lipschitz(net, norm).upper, 1.0)
            price = price if p == 1 else price / 4
            found = max(0.0, (gain - price * distance**p).max())
            error = max(error, abs(planar.suprema(price, p)[0] - found) / price)
        if norm != 2:
            lists, slopes = lists_of(net, X, y, norm)
            for price in (slopes[0], 1.1 * slopes[0] + 0.1):
                at = max(0.0, (lists[0][:, 1] - price * lists[0][:, 0]).max())
                corner = max(corner, abs(planar.suprema(price + 1e-12, 1)[0] - at))
    c.at_most("suprema of orders 1, 2, 3 against a grid, over λ", error, 0.05)
    c.at_most("order 1, λ from the slope at infinity on: attained at crossings", corner, 1e-7)


# ------------------------------------------------------------------------------- far field


def far_constants(net, X, y, clean, slope, norm):
    delta = np.zeros(net.inputs)
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        delta = np.abs(b) + np.abs(W) @ delta
    W, b = net.weights[-1], net.biases[-1]
    D = max(
        abs(b[j] - b[k]) + np.abs(W[j] - W[k]) @ delta for j, k in relu.label_pairs(net.outputs, y)
    )
    return 1 + D + slope * np.linalg.norm(X, ord=norm, axis=1) - clean, D


def test_far_field(claim):
    c = claim("prop-far-field")
    rng = np.random.default_rng(3)
    used = differ = -INF
    least = INF
    for case in range(12):
        norm = (1, 2, INF)[case % 3]
        net = relu.Network(
            tuple(rng.standard_normal(shape) for shape in ((5, 2), (4, 5), (3, 4))),
            tuple(3 * rng.standard_normal(k) for k in (5, 4, 3)),
        )
        X, y = rng.standard_normal((3, 2)), np.array([0, 1, 1])
        clean = np.array([hinge(net, x, k) for x, k in zip(X, y, strict=True)])
        slope = np.array([relu.slope_at_infinity(net, norm, [k]) for k in y])
        constant, D = far_constants(net, X, y, clean, slope, norm)
        least = min(least, constant.min())
        step = rng.standard_normal((3000, 2)) * 10.0 ** rng.uniform(-2, 5, (3000, 1))
        far = np.linalg.norm(step, ord=norm, axis=1)
        for i, k in enumerate(y):
            gain = hinge(net, X[i] + step, k) - clean[i]
            used = max(used, (gain / (constant[i] + slope[i] * far)).max())
        z = 1e3 * rng.standard_normal((3000, 2))
        rows = np.array([[-1, 1, 0], [-1, 0, 1]])
        shift = (relu.evaluate(net, z) - relu.evaluate(relu.without_biases(net), z)) @ rows.T
        differ = max(differ, np.abs(shift).max() / D)
    c.at_least("c_i, least", least, 0)
    c.at_most("gain / (c + L distance), 12 networks, 108000 points", used, 1)
    c.at_most("|f - f without biases| / D", differ, 1)
    # The bound is sharp: one neuron whose bias counts in full.
    net = relu.Network(
        (np.array([[1.0, 0.0]]), np.array([[0.0], [1.0]])), (np.ones(1), np.zeros(2))
    )
    X, y = np.zeros((1, 2)), np.zeros(1, dtype=int)
    constant, D = far_constants(net, X, y, np.array([2.0]), np.ones(1), INF)
    gain = hinge(net, np.array([5.0, 0.0]), 0) - 2
    c.close("sharp: gain / bound of relu(x + 1) at 5", gain / (constant[0] + 5), 1, 1e-12)
    # ... and a linear model far out, where the norm of the datum counts in full.
    W = np.array([[1.0, 0.0], [-1.0, 0.0]])
    net = relu.Network((W, np.array([[0.0, 0.0], [1.0, -1.0]])), (np.zeros(2), np.zeros(2)))
    X = np.array([[5.0, 0.0]])
    constant, _ = far_constants(net, X, y, np.array([6.0]), np.ones(1), INF)
    gain = hinge(net, np.array([8.0, 0.0]), 0) - 6
    c.close("sharp: gain / bound of x at 8 from 5", gain / (constant[0] + 3), 1, 1e-12)
    # Windows: suprema inside the ball, and the bracket of part 3.
    short = over = -INF
    apart = {1: 0.0, 2: 0.0}
    for case in range(6):
        norm, p = (1, INF)[case % 2], (1, 2)[case // 3]
        net = random_net(rng, 4)
        X, y = rng.standard_normal((3, 2)), np.array([0, 1, 1])
        planar = wdro_networks.planar(net, X, y, norm)
        slope, L = planar.slopes_at_infinity, planar.slopes_at_infinity.max()
        constant, _ = far_constants(net, X, y, planar.clean, slope, norm)
        R, eps = 20.0, 1.0
        start = ((constant + slope * R) / R**p).max()
        ball = ball_suprema(net, X, y, norm, start, p, R)
        away = np.abs(ball - planar.suprema(start, p)) / (1 + ball)
        apart[p] = max(apart[p], away.max())
        prices = start + np.concatenate([[0.0], np.geomspace(1e-4, 30, 60)])
        U = min(
            price * eps**p + (planar.clean + planar.suprema(price, p)).mean() for price in prices
        )
        V = planar.value(eps, p)
        short = max(short, V.lower - U)
        if p == 1:
            over = max(over, (U - V.upper) / ((start - L) * eps))
    c.at_most("order 1: suprema in the ball against the plane, relative", apart[1], 1e-7)
    c.at_most("order 2: the same on a grid of radii, relative", apart[2], 1e-3)
    c.at_most("V - U_R, largest", short, 1e-9)
    c.at_most("order 1: (U_R - V_1) / ((λ_R - L_∞) ε)", over, 1 + 1e-6)


def ball_suprema(net, X, y, norm, price, p, R):
    """sup of gain - price distance^p within R: by crossings, or by the growth at many radii."""
    if p > 1:
        s = np.concatenate([np.linspace(0, 2, 8001), np.linspace(2, R, 2001)])
        planar = wdro_networks.planar(net, X, y, norm, low=X.min(0) - 2 * R, high=X.max(0) + 2 * R)
        return (planar.growth(s) - price * s[:, None] ** p).max(axis=0)
    out = []
    for x, label in zip(X, y, strict=True):
        points = crossings(net, x, norm)
        d = np.linalg.norm(points - x, ord=norm, axis=1)
        gain = hinge(net, points, label) - hinge(net, x, label)
        out.append((gain - price * d)[d <= R].max())
    return np.array(out)


# ------------------------------------------------------------------------------- the curve


def last_line(lists, L):
    """Excess Δ and the mean of least distances T_i, over candidate points."""
    delta, first = 0.0, 0.0
    for rows in lists:
        rows = np.vstack([[0.0, 0.0], rows])
        psi = rows[:, 1] - L * rows[:, 0]
        delta += psi.max() / len(lists)
        first += rows[psi > psi.max() - 1e-9, 0].min() / len(lists)
    return delta, first


def test_polyhedral_curve(claim):
    c = claim("prop-polyhedral-curve")
    rng = np.random.default_rng(4)
    on, before, first, last, bends = 0.0, INF, 0.0, 0.0, 0
    for case in range(20):
        norm, K = (1, INF)[case % 2], 2 + case % 3 // 2
        net = random_net(rng, 5, K)
        X, y = 1.5 * rng.standard_normal((4, 2)), rng.integers(0, 2, 4)
        lists, slopes = lists_of(net, X, y, norm)
        L = slopes.max()
        delta, start = last_line(lists, L)
        for eps in (start, 2 * start + 0.1, 100.0):
            on = max(on, abs(master(lists, eps, slopes) - delta - eps * L) / (1 + eps * L))
        if start > 0.05:
            gap = delta + 0.9 * start * L - master(lists, 0.9 * start, slopes)
            before = min(before, gap)
        steep = max(L, *((rows[:, 1] / rows[:, 0]).max() for rows in lists))
        first = max(first, abs(master(lists, 1e-4, slopes) / 1e-4 / steep - 1) if steep else 0)
        program_value, *_ = program([pieces_of(net, k) for k in y], X, 50.0, norm)
        E = clean_risk(net, X, y)
        last = max(last, abs(program_value / (E + delta + 50 * L) - 1))
        radii = np.linspace(0.01, start + 1, 400)
        values = wdro.curve(lists, radii, 1, slopes)
        second = np.diff(np.diff(values)) / (radii[1] - radii[0])
        assert second.max() < 1e-7  # concave
        bends = max(bends, int((second < -1e-7).sum()))
    c.at_most("from ε_esc on: distance from E + Δ + ε L_∞", on, 1e-7)
    c.at_least("at 0.9 ε_esc: below it by", before, 1e-9)
    c.at_most("first slope against L_data, relative", first, 1e-6)
    c.at_most("the program at ε = 50 against the last line", last, 1e-7)
    c.at_most("of 398 second differences, how many are not 0", bends, 80)
    # Existence: values of distributions inside windows, small losses on the line.
    late, hump = ([(0, 0), (1, 0)], 1.0), ([(0, 0), (1, 4), (2, 1)], 1.0)
    cases = {  # for each sample: corners (x, h), slope of the last piece; then the mean of most
        "relu(x - 1)": ([late], 0.0),
        "hump, then slope 1": ([hump], 1.0),
        "the two together": ([late, hump], 0.5),
        "running example": ([([(0, 0), (1, 1), (4, 13)], 1.0)], INF),
        "relu(x - 1) and one that is attained far out": ([late, ([(0, 0), (1, 2)], 1.0)], INF),
        "a steep datum without the last slope": ([late, ([(0, 0), (1, 4)], 0.0)], 0.5),
        "no slope at infinity": ([([(0, 0), (1, 4), (2, 1)], 0.0)], INF),
    }
    for name, (samples, most) in cases.items():
        tables = [(np.array(corners, float), slope) for corners, slope in samples]
        for eps in (0.4, 0.6, 2.0):
            exact = master([t[1:] for t, _ in tables], eps, [slope for _, slope in tables])
            gaps = []
            for T in (1e2, 1e3, 1e4):
                window = [
                    np.vstack([t[1:], t[-1] + (T - t[-1, 0]) * np.array([1, slope])])
                    for t, slope in tables
                ]
                gaps.append(exact - master(window, eps))
            if eps <= most:
                c.at_most(f"{name}, ε = {eps}: attained in windows", max(map(abs, gaps)), 1e-7)
            else:
                c.at_least(f"{name}, ε = {eps}: never attained", min(gaps), 1e-6)
                c.close(f"{name}, ε = {eps}: gap times window", gaps[1] / gaps[2], 10, 0.5)
    # Round norm, round domain: the examples of the text, by brute force.
    angle = np.linspace(-np.pi, np.pi, 400001)
    for s in (2.0, 5.0, 20.0):
        found = (s * np.cos(angle) + np.minimum(s * np.sin(angle), 1)).max()
        c.close(f"ℓ2 example, ε = {s}", found, 1 + np.sqrt(s * s - 1), 1e-3)
        c.at_least(f"ℓ2 example, ε = {s}: below the line", 1 + s - found, 0.02)
    a = np.linspace(-1, 1, 40001)
    for s in (0.5, 0.75, 0.85, 0.95):
        inside = a[np.abs(a) <= s]
        found = (inside + np.minimum(np.sqrt(1 - inside**2), s) / 2).max()
        formula = 1.5 * s if s <= 0.5**0.5 else s + np.sqrt(1 - s * s) / 2
        formula = np.sqrt(5) / 2 if s >= 2 / np.sqrt(5) else formula
        c.close(f"disc, ε = {s}", found, formula, 1e-4)


# ------------------------------------------------------------------------------- bounded domain


def test_bounded_domain(claim):
    c = claim("prop-bounded-domain")
    rng = np.random.default_rng(5)
    full, early, linear, bent, used = 0.0, INF, 0.0, INF, 0
    for case in range(16):
        norm = (1, INF)[case % 2]
        net = random_net(rng, 5, 2 + case % 2)
        X, y = rng.uniform(-1, 1, (4, 2)), rng.integers(0, 2, 4)
        box = (-2.0, 2.0)
        lists, _ = lists_of(net, X, y, norm, box)
        top, reach = [], []
        for rows in lists:
            rows = np.vstack([[0.0, 0.0], rows])
            top.append(rows[:, 1].max())
            reach.append(rows[rows[:, 1] > rows[:, 1].max() - 1e-9, 0].min())
        S, M = np.mean(reach), np.mean(top)
        full = max(full, abs(master(lists, S, None) - M))
        early = min(early, M - master(lists, 0.98 * S, None)) if S > 0 else early
        planar = wdro_networks.planar(net, X, y, norm, low=box[0], high=box[1])
        full = max(full, abs(planar.value(S, 1).lower - planar.clean.mean() - M))
        steep = max((rows[:, 1] / rows[:, 0]).max() for rows in lists)
        D = np.mean(
            [rows[rows[:, 1] / rows[:, 0] > steep - 1e-9, 0].max(initial=0) for rows in lists]
        )
        if steep > 0 and D > 0:
            used += 1
            linear = max(linear, abs(master(lists, D, None) - D * steep))
            bent = min(bent, 1.05 * D * steep - master(lists, 1.05 * D, None))
    c.at_most("saturated at the mean distance of nearest maximizers", full, 1e-7)
    c.at_least("not before (0.98 of it)", early, 1e-6)
    c.at_least("cases with D* > 0", used, 10)
    c.at_most("linear up to the mean of D*", linear, 1e-7)
    c.at_least("not beyond (1.05 of it)", bent, 1e-7)
    # Two samples that attain the slope: the mean of D*, not D* / n.  h = min(x, 1), data 0 and 0.
    rows = np.array([[1.0, 1.0], [3.0, 1.0]])
    c.close("two samples, ε = 1", master([rows, rows], 1.0), 1.0, 1e-9)
    c.at_most("two samples, ε = 1.1", master([rows, rows], 1.1), 1.0 + 1e-9)
    # Upper semicontinuous: an error at distance 1/2 and beyond, D* = S = 1/2.
    s = np.linspace(0, 1, 1001)
    step = np.column_stack([s, (s >= 0.5).astype(float)])
    for eps, value in ((0.1, 0.2), (0.5, 1.0), (0.7, 1.0)):
        c.close(f"0-1 loss, ε = {eps}", master([step], eps), value, 1e-9)
    # Smooth: h = x - x²/2 on [-1, 1] attains the slope 1 nowhere, D* = 0, S = 1.
    smooth = np.column_stack([s, s - s**2 / 2])
    for eps in (0.01, 0.5):
        c.close(f"smooth, ε = {eps}", master([smooth], eps), eps - eps**2 / 2, 1e-5)
    # An unbounded domain: h of the running example, linear up to 4.
    table = np.array([(1.0, 1.0), (4.0, 13.0)])
    c.close("running example, ε = 4", master([table], 4.0, [1.0]), 13.0, 1e-9)
    c.close("running example, ε = 4.4", master([table], 4.4, [1.0]), 13.4, 1e-9)


# ------------------------------------------------------------------------------- measured


SEEDS = range(10, 18)


def test_worst_distribution(claim):
    c = claim("obs-worst-distribution")
    counts = {1: [], 2: [], INF: []}
    far = {1: [], 2: [], INF: []}
    atoms, cost = 0, 0.0
    for seed in SEEDS:
        net, X, y = moons(seed)
        planar = wdro_networks.planar(net, X, y, INF)
        for p in (1, 2, INF):
            found = planar.value(0.1, p)
            table = found.allocation.atoms
            real = np.isfinite(table.distance)
            moved = real & (table.distance > 1e-9)
            counts[p].append(len(set(table.sample[moved].tolist())))
            size = table.distance[moved].max(initial=0) / 0.1
            far[p].append(INF if found.allocation.escaping > 0 else size)
            if p == 1:
                atoms = max(atoms, len(table.mass))
            if p < INF:
                kept = y[table.sample[real]]
                spent = transport(X, found.points[real], table.mass[real], INF, (y, kept), p)
                cost = max(cost, spent / 0.1**p)
    c.at_most("order 1: samples that move, of 24", max(counts[1]), 8)
    c.at_most("order 1: atoms", atoms, 25)
    c.at_least("order 1: farthest move / ε, or escape", min(far[1]), 4)
    c.at_least("order 2: samples more than at order 1", min(np.subtract(counts[2], counts[1])), 1)
    c.at_most("order 2: farthest move / ε", max(far[2]), 4)
    more = min(np.subtract(counts[INF], counts[1]))
    c.at_least("order ∞: samples more than at order 1", more, 1)
    c.at_most("order ∞: farthest move / ε", max(far[INF]), 1 + 1e-9)
    c.at_most("cost / ε^p of the distributions, by transport", cost, 1 + 1e-6)


def test_escape(claim):
    c = claim("obs-escape")
    with_, without, ratio = 0, 0, 0.0
    for seed in range(10, 25):
        net, X, y = moons(seed)
        lists, slopes = lists_of(net, X, y, INF)
        exact = wdro.curve(lists, [1.0], 1, slopes)[0]
        gaps = []
        for T in (1e2, 1e3):  # distributions on points at most about T away
            window, _ = lists_of(net, X, y, INF, far=T)
            gaps.append(exact - wdro.curve(window, [1.0], 1)[0])
        if abs(gaps[1]) < 1e-9:
            with_ += 1
        elif gaps[1] > 1e-7:  # what lies between is left open
            without += 1
            ratio = max(ratio, abs(gaps[0] / gaps[1] - 10))
    c.at_least("networks with a worst-case distribution at ε = 1, of 15", with_, 8)
    c.at_least("networks without one", without, 1)
    c.at_most("without: gap inverse to the window, |ratio - 10|", ratio, 2)


def test_pieces_are_the_loss():
    """The oracle's pieces agree with the network."""
    rng = np.random.default_rng(6)
    net = random_net(rng, 5, 3)
    for x in rng.standard_normal((50, 2)):
        values = [g @ x + h for A, b, g, h in pieces_of(net, 1) if (A @ x <= b + 1e-12).all()]
        assert max(values) == pytest.approx(hinge(net, x, 1))
