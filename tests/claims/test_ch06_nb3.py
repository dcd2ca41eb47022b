"""Witnesses of chapter 6, notebook 3: slopes, and when a Lipschitz certificate is exact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from sklearn.datasets import make_moons

from advreg import networks, relu, wdro, wdro_networks

torch.set_num_threads(1)

DUAL = {1: np.inf, 2: 2, np.inf: 1}

# ------------------------------------------------------------------------------- oracles


def transport(samples, profit, cost, radius, slope=0.0):
    """V_1 - E over plans to finitely many points, and along a ray of that slope: one program."""
    n, k = profit.shape
    rows = np.column_stack([np.kron(np.eye(n), np.ones(k)), np.zeros(n)])  # escaping: no mass
    spent = np.r_[cost.ravel() / n, 1.0]
    answer = linprog(
        -np.r_[profit.ravel() / n, slope],
        A_ub=spent[None],
        b_ub=[radius],
        A_eq=rows,
        b_eq=np.ones(n),
    )
    assert answer.status == 0
    assert n == len(samples)
    return -answer.fun


def forward(net, x, biases=True):
    """The network, written out once more."""
    for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        x = x @ W.T + (b if biases else 0)
        if k < len(net.weights) - 1:
            x = x * (x > 0)
    return x


def margin(logits, label):
    return np.delete(logits, label, axis=-1).max(axis=-1) - logits[..., label]


def hinge(net, x, label):
    return np.maximum(0, 1 + margin(forward(net, x), label))


def cross_entropy(net, x, label):
    f = forward(net, x)
    top = f.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(f - top).sum(axis=-1, keepdims=True)))[..., 0] - f[..., label]


def random_net(rng, widths, scale=1.0):
    pairs = list(itertools.pairwise(widths))
    weights = tuple(rng.standard_normal((n, m)) for m, n in pairs)
    return relu.Network(weights, tuple(scale * rng.standard_normal(n) for _, n in pairs))


def sphere(norm, count=20001):
    angle = np.linspace(0, 2 * np.pi, count)
    u = np.column_stack([np.cos(angle), np.sin(angle)])
    return u / np.linalg.norm(u, ord=norm, axis=1, keepdims=True)


def patterns_with_interior(net, box=None):
    """All 2^N patterns of one hidden layer, each by one linear program for a strict interior."""
    W, b = net.weights[0], net.biases[0]
    keep = []
    for signs in itertools.product([-1.0, 1.0], repeat=len(W)):
        s = np.array(signs)
        A, c = np.column_stack([-s[:, None] * W, np.ones(len(W))]), s * b
        bounds = [(-1e3, 1e3)] * W.shape[1] if box is None else [box] * W.shape[1]
        if box is not None:  # stay off the walls, too
            eye = np.eye(W.shape[1])
            A = np.vstack([A, np.column_stack([eye, np.ones(len(eye))])])
            A = np.vstack([A, np.column_stack([-eye, np.ones(len(eye))])])
            c = np.concatenate([c, np.full(len(eye), box[1]), np.full(len(eye), -box[0])])
        best = linprog([0.0] * W.shape[1] + [-1.0], A_ub=A, b_ub=c, bounds=[*bounds, (0, 1)])
        if best.status == 0 and -best.fun > 1e-8:
            keep.append(s > 0)
    return np.array(keep)


def pattern_slope(net, masks, pairs, norm):
    W, V = net.weights
    best = 0.0
    for j, y in pairs:
        best = max(best, np.linalg.norm((masks * (V[j] - V[y])) @ W, DUAL[norm], axis=1).max())
    return best


def all_masks(n):
    return np.array(list(itertools.product([False, True], repeat=n)))


def recession(g, A, norm):
    """max g.u over A u <= 0 and the unit ball of the 1- or maximum norm, by linear programming."""
    d = len(g)
    if norm == np.inf:
        answer = linprog(-g, A_ub=A, b_ub=np.zeros(len(A)), bounds=[(-1, 1)] * d)
    else:  # u = p - q
        rows = np.vstack([np.column_stack([A, -A]), np.ones((1, 2 * d))])
        answer = linprog(np.r_[-g, g], A_ub=rows, b_ub=np.r_[np.zeros(len(A)), 1.0])
    return -answer.fun


def distance_to_polar(g, A, norm):
    """min over mu >= 0 of the dual norm of g - A^T mu, for the 1- or maximum norm."""
    m, d = A.shape
    if norm == np.inf:  # the 1-norm of g - A^T mu
        rows = np.block([[A.T, -np.eye(d)], [-A.T, -np.eye(d)]])
        cost = np.r_[np.zeros(m), np.ones(d)]
    else:
        rows = np.block([[A.T, -np.ones((d, 1))], [-A.T, -np.ones((d, 1))]])
        cost = np.r_[np.zeros(m), 1.0]
    return linprog(cost, A_ub=rows, b_ub=np.r_[g, -g]).fun


def vertex_lists(net, X, y, norm):
    """Two inputs, one hidden layer, norm 1 or inf: all points that a worst case may need.

    Lines of the network and the kink lines of the distance cut the plane into pieces on which the
    loss is convex and the distance linear, so that the vertices and the rays suffice.
    """
    W, b = net.weights[0], net.biases[0]
    W, b = W[np.abs(W).sum(axis=1) > 0], b[np.abs(W).sum(axis=1) > 0]
    kinks = np.array([[1.0, 0], [0, 1]] if norm == 1 else [[1.0, 1], [1, -1]])
    lists = []
    for x, label in zip(X, y, strict=True):
        rows, right = np.vstack([W, kinks]), np.r_[-b, kinks @ x]
        pairs = np.array(list(itertools.combinations(range(len(rows)), 2)))
        ok = np.abs(np.linalg.det(rows[pairs])) > 1e-12
        z = np.linalg.solve(rows[pairs[ok]], right[pairs[ok]][..., None])[..., 0]
        gain = hinge(net, z, label) - hinge(net, x, label)
        lists.append(np.column_stack([np.linalg.norm(z - x, norm, axis=1), gain]))
    return lists


def far_slopes(net, y, norm):
    """Growth along the rays that matter: the lines of the network and the kinks of the norm."""
    W = net.weights[0]
    kinks = np.array([[1.0, 0], [0, 1]] if norm == 1 else [[1.0, 1], [1, -1]])
    u = np.vstack([np.column_stack([-W[:, 1], W[:, 0]]), kinks])
    u = np.vstack([u, -u])
    u = u[np.abs(u).sum(axis=1) > 0]
    u = u / np.linalg.norm(u, norm, axis=1, keepdims=True)
    return np.array([max(0.0, margin(forward(net, u, biases=False), k).max()) for k in y])


def vertex_values(net, X, y, norm, radii):
    clean = np.mean([hinge(net, x, k) for x, k in zip(X, y, strict=True)])
    slopes = far_slopes(net, y, norm)
    return clean, wdro.curve(vertex_lists(net, X, y, norm), np.array(radii), 1, slopes=slopes)


def vertex_data_slope(net, X, y, norm):
    best = far_slopes(net, y, norm).max()
    for x, label, rows in zip(X, y, vertex_lists(net, X, y, norm), strict=True):
        near = rows[:, 0] > 1e-9
        best = max(best, (rows[near, 1] / rows[near, 0]).max())
        local = hinge(net, x + 1e-6 * sphere(norm, 1001), label) - hinge(net, x, label)
        best = max(best, local.max() / 1e-6 * (1 - 1e-6))
    return best


# ------------------------------------------------------------------- the curve of order one


def spline(rng, kind):
    """A piecewise linear function on the line: kinks and slopes, with f(0) = 0."""
    knots = np.sort(rng.uniform(-3, 3, 4))
    slopes = rng.normal(0, 2, 5)
    if kind == "convex":
        slopes = np.sort(slopes)
    if kind == "constant":
        slopes = np.zeros(5)
    values = np.r_[0, np.cumsum(slopes[1:4] * np.diff(knots))]

    def f(x):
        inner = np.interp(x, knots, values)
        left, right = np.minimum(x - knots[0], 0), np.maximum(x - knots[-1], 0)
        return inner + slopes[0] * left + slopes[-1] * right

    return knots, slopes, f


def test_first_order_curve(claim):
    c = claim("thm-first-order-curve")
    rng = np.random.default_rng(630)
    low = high = start = end = lip = at = 0.0
    beyond, straight, bent = math.inf, 0, 0
    for case in range(60):
        knots, slopes, f = spline(rng, ("any", "any", "convex", "constant")[case % 4])
        x = rng.uniform(-3, 3, rng.integers(1, 5))
        if case % 5 == 0:
            x[0] = knots[1]  # a datum on a kink
        if case % 7 == 0 and len(x) > 1:
            x[1] = x[0]
        eps = 1e-4
        z = np.r_[knots, x, x + eps, x - eps]
        cost, profit = abs(z - x[:, None]), f(z) - f(x)[:, None]
        ratio = np.where(cost > 0, profit / np.where(cost > 0, cost, 1), 0)
        far = max(0.0, slopes[-1], -slopes[0])
        data = max(0.0, ratio.max(), far)

        def value(radius, x=x, profit=profit, cost=cost, far=far):
            return transport(x, profit, cost, radius, far)

        radii = [eps / len(x) / 10, 0.1, 1.0, 5.0, 200.0]
        v = np.array([value(r) for r in radii])
        for r, a in zip(radii, v, strict=True):
            low, high = max(low, (far * r - a) / r), max(high, (a - data * r) / r)
        lip = max(lip, data - abs(slopes).max())
        start = max(start, abs(v[0] / radii[0] - data))
        long = value(200.0) - value(100.0)
        end = max(end, abs(long / 100 - far) / (1 + far))
        if data - far > 0.05:
            # how far each sample attains the data slope (0 if nowhere)
            reached = np.where(ratio > data - 1e-9, cost, 0).max(axis=1)
            limit = reached.mean()
            if limit > 1e-2:
                at = max(at, abs(value(limit) - data * limit) / (data * limit))
                beyond = min(beyond, 1 - value(1.5 * limit) / (1.5 * data * limit))
            bent += value(200.0) < 200 * data * (1 - 1e-4)
        elif data - far < 1e-9:
            line = max(abs(a - data * r) for r, a in zip(radii, v, strict=True))
            straight = max(straight, line)
    c.at_most("E + radius * slope at infinity <= V, per radius", low, 1e-7)
    c.at_most("V <= E + radius * data slope, per radius", high, 1e-7)
    c.at_most("data slope <= Lipschitz constant", lip, 1e-9)
    c.close("slope at 0 minus data slope", start, 0, 1e-6)
    c.close("slope from 100 to 200 minus slope at infinity", end, 0, 1e-6)
    c.close("equal slopes: V - E - radius * slope", straight, 0, 1e-6)
    c.at_least("different slopes: bent, cases", bent, 10)
    c.close("V at the mean of the D*: relative to the line", at, 0, 1e-6)
    c.at_least("half again as far: below the line by", beyond, 1e-3)
    # The slope 1 is reached in the limit of short secants only: no linear piece.
    z = np.linspace(0, 3, 3001)
    profit = np.where(z < 1, z - z**2 / 2, 0.5)
    for radius in (0.01, 0.1, 0.5):
        short = transport(np.zeros(1), profit[None], z[None], radius) / radius
        c.close(f"short secants only, radius {radius}", short, 1 - radius / 2, 1e-6)
    # Flips of the label: parts 1 to 4 with a finite cost, where the Lipschitz constant fails.
    x, kappa = np.array([5.0, 2.0]), 0.1
    z = np.array([5.0, 2.0, 1.0, 0.0])
    plus, minus = np.maximum(0, 1 - z), np.maximum(0, 1 + z)
    profit = np.hstack(
        [plus - np.maximum(0, 1 - x)[:, None], minus - np.maximum(0, 1 - x)[:, None]]
    )
    cost = np.hstack([abs(z - x[:, None]), abs(z - x[:, None]) + kappa])
    c.close("label cost 0.1: slope at 0", transport(x, profit, cost, 1e-3, 1) / 1e-3, 60, 1e-6)
    # Bounded inputs: the last slope is 0.
    x, z = np.array([0.0]), np.array([0.0, 0.5, 1.0])
    for radius in (0.5, 2.0, 50.0):
        bounded = transport(x, z[None], z[None], radius)
        c.close(f"[0, 1], loss x, radius {radius}", bounded, min(radius, 1), 1e-9)


# ----------------------------------------------------------------------------- at infinity


def test_slope_at_infinity(claim):
    c = claim("thm-slope-at-infinity")
    rng = np.random.default_rng(631)
    losses = {"hinge": hinge, "cross-entropy": cross_entropy}
    losses["margin"] = lambda net, x, k: margin(forward(net, x), k)
    worst, growth, far = 0.0, 0.0, 1e7
    for case in range(12):
        widths = ([2, 6, 2], [2, 7, 3], [2, 4, 4, 3])[case % 3]
        net = random_net(rng, widths, scale=3.0)
        labels = range(widths[-1]) if case % 2 else [0]
        for norm in (1, 2, np.inf):
            u = sphere(norm)
            formula = relu.slope_at_infinity(net, norm, labels=labels)
            for loss in losses.values():
                seen = max(loss(net, far * u, k).max() / far for k in labels)
                worst = max(worst, abs(max(seen, 0) - formula) / (1 + formula))
        gaps = [np.abs(forward(net, r * u) - forward(net, r * u, False)).max() for r in (1e3, 1e6)]
        growth = max(growth, gaps[1] / gaps[0])
    c.close("growth of three losses far away, with biases", worst, 0, 2e-3)
    c.at_most("gap to the network without biases, from 10^3 to 10^6", growth, 1.05)
    # A half-plane: only its recession cone counts.  Secants inside of it, against the formula.
    normal, worst, smaller = np.array([1.0, 0.6]), 0.0, 0
    for _ in range(8):
        net, u = random_net(rng, [2, 6, 2], scale=2.0), sphere(2)
        inside = u @ normal <= 0
        formula = max(margin(forward(net, u[inside], False), k).max() for k in (0, 1))
        z = far * u[far * u @ normal <= 2.5]
        seen = max(hinge(net, z, k).max() / far for k in (0, 1))
        worst = max(worst, abs(max(formula, 0) - seen) / (1 + seen))
        smaller += seen < 0.95 * relu.slope_at_infinity(net, 2)
    c.close("half-plane", worst, 0, 2e-3)
    c.at_least("half-plane: cases where the whole plane would be wrong", smaller, 1)
    # Zooming out is fading the biases.
    net, x = random_net(rng, [2, 5, 5, 2]), rng.standard_normal((50, 2))
    t = 0.3
    faded = relu.Network(net.weights, tuple(t * b for b in net.biases))
    c.close("fading", np.abs(forward(faded, x) - t * forward(net, x / t)).max(), 0, 1e-12)


def test_recession_slope(claim):
    c = claim("prop-recession-slope")
    rng = np.random.default_rng(632)
    dual = whole = equal = bounded = 0.0
    wrong_rule = 0
    for case in range(6):
        d = 2 + case % 2
        net = random_net(rng, [d, 5, 2])
        masks = patterns_with_interior(net)
        W, V = net.weights
        A = np.where(masks, -1.0, 1.0)[:, :, None] * W
        axes = np.vstack([np.eye(d), -np.eye(d)])
        spread = {
            mask.tobytes(): max(recession(e, rows, np.inf) for e in axes)
            for mask, rows in zip(masks, A, strict=True)
        }
        for norm in (1, np.inf):
            best, steepest = 0.0, 0.0
            for sign in (1, -1):
                for mask, rows in zip(masks, A, strict=True):
                    g = sign * (mask * (V[1] - V[0])) @ W
                    s = recession(g, rows, norm)
                    dual = max(dual, abs(s - distance_to_polar(g, rows, norm)))
                    size = np.linalg.norm(g, DUAL[norm])
                    equal = max(equal, s - size)
                    if spread[mask.tobytes()] < 1e-9:
                        bounded = max(bounded, s)
                    else:
                        steepest = max(steepest, size)
                    best = max(best, s)
            far = relu.slope_at_infinity(net, norm)
            whole = max(whole, abs(best - far))
            if d == 2:
                seen = max(hinge(net, 1e7 * sphere(norm), k).max() / 1e7 for k in (0, 1))
                whole = max(whole, abs(best - seen) / 3)  # a grid of directions
            wrong_rule += steepest > 1.05 * best
    c.close("linear program minus its dual", dual, 0, 1e-8)
    c.close("best cell minus growth far away", whole, 0, 1e-3)
    c.at_most("contribution minus gradient norm", equal, 1e-9)
    c.close("bounded cells contribute", bounded, 0, 1e-9)
    c.at_least("largest gradient of unbounded cells is wrong, cases of 12", wrong_rule, 3)
    # l2: the residual of nonnegative least squares against the best angle of the cone.
    from scipy.optimize import nnls

    worst, u = 0.0, sphere(2)
    for _ in range(200):
        A, g = rng.standard_normal((rng.integers(1, 4), 2)), rng.standard_normal(2)
        inside = u[(u @ A.T <= 0).all(axis=1)]
        best = max(0.0, (inside @ g).max()) if len(inside) else 0.0
        worst = max(worst, abs(best - nnls(A.T, g)[1]))
    c.close("projection against angles", worst, 0, 2e-3)
    strip = relu.Network(([[1.0, 0.0], [1.0, 0.0]], [[1.0, -1.0]]), ([0.0, -1.0], [0.0]))
    c.close("strip", relu.slope_at_infinity(strip, 2), 0, 1e-12)
    c.close("strip, Lipschitz", relu.lipschitz(strip, 2).upper, 1, 1e-12)


def test_exact_certificate(claim):
    c = claim("cor-exact-certificate")
    rng = np.random.default_rng(633)
    exact, loose, line, below, agree = 0, 0, 0.0, math.inf, True
    for case in range(60):
        net = random_net(rng, [2, 2 + case % 3, 2])
        norm = (1, np.inf)[case % 2]
        X, y = rng.standard_normal((4, 2)), np.array([0, 1, 0, 1])
        masks = patterns_with_interior(net)
        glob = pattern_slope(net, masks, [(1, 0)], norm)
        W, V = net.weights
        third = False
        for sign, mask in itertools.product((1, -1), masks):
            g = sign * (mask * (V[1] - V[0])) @ W
            A = np.where(mask, -1.0, 1.0)[:, None] * W
            if np.linalg.norm(g, DUAL[norm]) > glob - 1e-9:
                third |= recession(g, A, norm) > glob - 1e-7
        second = relu.slope_at_infinity(net, norm) > glob - 1e-7
        radii = np.array([0.01, 1.0, 100.0])
        _, gains = vertex_values(net, X, y, norm, radii)
        first = bool((abs(gains - radii * glob) < 1e-6 * (1 + radii * glob)).all())
        agree &= first == second == third
        if second:
            exact += 1
            line = max(line, np.max(abs(gains / radii - glob)))
        else:
            loose += 1
            below = min(below, 1 - gains[-1] / radii[-1] / glob)
    c.at_least("the three statements agree, 60 networks", float(agree), 1)
    c.at_least("networks with an exact certificate", exact, 5)
    c.at_least("networks without", loose, 5)
    c.close("exact: price minus Lipschitz constant", line, 0, 1e-6)
    c.at_least("not exact: below at radius 100 by", below, 1e-6)
    # A network without biases need not have an exact certificate.
    wedge = relu.Network(([[0.1, 1.0], [-0.1, 1.0]], [[1.0, -1.0]]), ([0.0, 0.0], [0.0]))
    c.close("wedge, Lipschitz", relu.lipschitz(wedge, 2).upper, math.hypot(1, 0.1), 1e-9)
    seen = (forward(wedge, sphere(2))).max()
    c.close("wedge, infinity", seen, 0.2 / math.hypot(1, 0.1), 1e-4)


def test_bias_free_certificate(claim):
    c = claim("cor-bias-free-certificate")
    rng = np.random.default_rng(634)
    worst, constant, rate = -math.inf, -math.inf, 0.0
    for case in range(20):
        net, norm = random_net(rng, [2, 6, 2 + case % 2], scale=2.0), (1, np.inf)[case % 2]
        X, y = 2 * rng.standard_normal((5, 2)), np.array([0, 1, 0, 1, 1])
        pairs = [(j, k) for k in (0, 1) for j in range(net.outputs) if j != k]
        V, (b1, b2) = net.weights[1], net.biases
        c0 = 1 + max(abs(b2[j] - b2[k]) + abs(V[j] - V[k]) @ abs(b1) for j, k in pairs)
        far = far_slopes(net, [0, 1], norm).max()
        radii = np.array([0.01, 1.0, 10.0, 1e4])
        if net.outputs == 2:  # with three outputs the loss has kinks off these lines
            clean, gains = vertex_values(net, X, y, norm, radii)
        else:
            plane = wdro_networks.planar(net, X, y, norm, loss="hinge")
            clean = plane.clean.mean()
            gains = np.array([plane.value(r, 1).upper for r in radii]) - clean
        bound = radii * far + c0 + far * np.linalg.norm(X, norm, axis=1).mean()
        worst = max(worst, (clean + gains - bound).max())
        rate = max(rate, (bound[-1] - clean - gains[-1]) / radii[-1])
        z = rng.standard_normal((20000, 2)) * np.exp(rng.uniform(-2, 6, (20000, 1)))
        for k in (0, 1):
            limit = np.maximum(0, margin(forward(net, z, False), k))
            constant = max(constant, (hinge(net, z, k) - limit).max() - c0)
    c.at_most("V minus the bound, 20 networks", worst, 1e-6)
    c.at_most("loss minus loss without biases minus c", constant, 1e-9)
    c.at_most("bound minus V per radius at 10^4", rate, 1e-2)
    # Equality: f_1 - f_0 = relu(x + beta), a datum x >= 0, one input; the loss is 1 + x + beta.
    beta, x = 0.7, np.array([0.4])
    z = np.array([-beta, 0.4])
    profit = (1 + np.maximum(0, z + beta)) - (1 + x + beta)
    value = 1 + x[0] + beta + transport(x, profit[None], abs(z - x[:, None]), 2.0, 1)
    c.close("sharp example", value, 2.0 * 1 + (1 + beta) + x[0], 1e-6)


# ----------------------------------------------------------------------- Lipschitz constants


def test_lipschitz_cells(claim):
    c = claim("prop-lipschitz-cells")
    rng = np.random.default_rng(635)
    plane = box = secants = 0.0
    for case in range(8):
        net = random_net(rng, [2 + case % 2, 5, 3])
        for norm in (1, 2, np.inf):
            masks = patterns_with_interior(net)
            exact = pattern_slope(net, masks, [(0, 1), (0, 2), (1, 2)], norm)
            plane = max(plane, abs(relu.lipschitz(net, norm).upper - exact))
            inner = patterns_with_interior(net, (-0.5, 0.5))
            exact = pattern_slope(net, inner, [(0, 1), (0, 2), (1, 2)], norm)
            found = relu.lipschitz(net, norm, low=-0.5, high=0.5).upper
            box = max(box, abs(found - exact))
            a, b = rng.uniform(-0.5, 0.5, (2, 20000, net.inputs))
            b = a + (b - a) * rng.choice([1, 1e-3], (20000, 1))
            rise = forward(net, a) - forward(net, b)
            rise = np.abs(rise - np.roll(rise, 1, axis=1)).max(axis=1)
            slopes = rise / np.linalg.norm(a - b, norm, axis=1)
            secants = max(secants, slopes.max() / exact)
            assert slopes.max() > 0.5 * exact
    c.close("all patterns by linear programs, R^d", plane, 0, 1e-9)
    c.close("all patterns by linear programs, box", box, 0, 1e-9)
    c.at_most("secants in the box / constant", secants, 1 + 1e-9)
    # Patterns that occur at kinks only must not count.
    for name, a, slope in (("identity", [1.0, -1.0], 1), ("zero", [1.0, -1.0, -1.0, 1.0], 0)):
        W = np.resize([1.0, -1.0], len(a))[:, None]
        net = relu.Network((W, [a]), (np.zeros(len(a)), [0.0]))
        c.close(f"{name} of the line", relu.lipschitz(net, 2).upper, slope, 1e-12)
        closed = max(abs((mask * a) @ W[:, 0]) for mask in all_masks(len(a)))
        c.close(f"{name}: closed patterns", closed, 2, 1e-12)


def rho(t, a, W):
    v, s = a @ W, np.sum(a**2 / t)
    assert s < 2
    return np.linalg.eigvalsh(0.5 * (W.T * t) @ W + np.outer(v, v) / (4 - 2 * s))[-1]


def semidefinite(a, W):
    """The minimum of rho, by a general minimizer over the share of a^2 / t, from five starts."""

    def value(log):
        tau = np.exp(log - log.max())
        tau /= tau.sum()  # tau_0 = 1 - s / 2 first
        return np.log(rho(a**2 / (2 * tau[1:]), a, W))

    starts = np.random.default_rng(0).normal(0, 0.5, (5, len(a) + 1))
    options = {"maxiter": 20000, "maxfev": 20000, "xatol": 1e-8, "fatol": 1e-11, "adaptive": True}
    runs = [minimize(value, s, method="Nelder-Mead", options=options).fun for s in starts]
    return math.sqrt(math.exp(min(runs)))


def test_lipsdp(claim):
    c = claim("prop-lipsdp")
    rng = np.random.default_rng(636)
    below, middle, lmi, product, ratio = math.inf, 0.0, 0.0, 0.0, 0.0
    for case in range(40):
        n, d = 3 + case % 6, 1 + case % 4
        a, W = rng.standard_normal(n), rng.standard_normal((n, d))
        mask = np.linalg.norm((all_masks(n) * a) @ W, axis=1).max()
        shares = rng.uniform(0, 1, (40, n))
        inside = np.linalg.norm((shares * a) @ W, axis=1).max()
        raw = np.exp(rng.normal(0, 1, (40, n)))
        t = raw * (np.sum(a**2 / raw, axis=1) / rng.uniform(0.05, 1.95, 40))[:, None]
        values = np.array([rho(row, a, W) for row in t])
        below = min(below, values.min() / max(mask, inside) ** 2)
        half = [rho((p + q) / 2, a, W) for p, q in itertools.pairwise(t)]
        middle = max(middle, max((half - (values[1:] + values[:-1]) / 2) / values[1:]))
        for row, value in zip(t[:5], values[:5], strict=True):
            for share, sign in ((1.001, 1), (0.999, -1)):  # feasible above, infeasible below
                T = np.diag(row)
                rows = [[-share * value * np.eye(d), W.T @ T], [T @ W, np.outer(a, a) - 2 * T]]
                lmi = max(lmi, sign * np.linalg.eigvalsh(np.block(rows))[-1])
        net = relu.Network((W, a[None]), (rng.standard_normal(n), np.zeros(1)))
        sdp = relu.lipsdp(net)
        product = max(product, sdp / (np.linalg.norm(a) * np.linalg.norm(W, 2)))
        ratio = max(ratio, sdp / mask)
        assert sdp > mask * (1 - 1e-9)
    c.at_least("random multipliers / largest pattern", below, 1 - 1e-9)
    c.at_most("convexity: middle minus mean", middle, 1e-9)
    c.at_most("matrix inequality: feasible above, not below", lmi, 1e-9)
    c.at_most("SDP / product of norms", product, 1 + 1e-7)
    c.at_most("SDP / largest pattern, root of pi / 2", ratio, math.sqrt(math.pi / 2))
    c.at_least("which is not always 1", ratio, 1.005)
    worst = 0.0
    for _ in range(6):
        a, W = rng.standard_normal(4), rng.standard_normal((4, 2))
        net = relu.Network((W, a[None]), (np.zeros(4), np.zeros(1)))
        worst = max(worst, abs(semidefinite(a, W) / relu.lipsdp(net) - 1))
    c.close("minimum over the multipliers / library - 1", worst, 0, 1e-4)


def test_lipschitz_chain(claim):
    c = claim("prop-lipschitz-chain")
    rng = np.random.default_rng(637)
    steps = {"inf-data": -1.0, "data-glob": -1.0, "glob-mask": -1.0, "mask-prod": -1.0}
    steps |= {"mask-SDP": -1.0, "SDP-prod": -1.0}
    for case in range(12):
        net, norm = random_net(rng, [2, 5, 3]), (1, 2, np.inf)[case % 3]
        y = np.array([0, 2, 0, 2]) if case % 2 else np.array([1, 1, 1, 1])
        X = rng.standard_normal((4, 2))
        pairs = [(j, k) for k in sorted(set(y)) for j in range(3) if j != k]
        far = max(hinge(net, 1e7 * sphere(norm), k).max() / 1e7 for k in set(y))
        data = 0.0
        z = rng.standard_normal((20000, 2)) * np.exp(rng.uniform(-3, 12, (20000, 1)))
        z = np.vstack([z, 1e6 * sphere(norm)])
        for loss in (hinge, cross_entropy):
            for x, k in zip(X, y, strict=True):
                rise = loss(net, z, k) - loss(net, x, k)
                data = max(data, (rise / np.linalg.norm(z - x, norm, axis=1)).max())
        glob = pattern_slope(net, patterns_with_interior(net), pairs, norm)
        mask = pattern_slope(net, all_masks(5), pairs, norm)
        last = max(
            np.linalg.norm(net.weights[1][j] - net.weights[1][k], DUAL[norm]) for j, k in pairs
        )
        prod = last * np.linalg.norm(net.weights[0], norm)
        found = [far * (1 - 1e-4), data, glob, mask, prod]
        for name, below, above in zip(list(steps)[:4], found[:-1], found[1:], strict=True):
            steps[name] = max(steps[name], below / above - 1)
        if norm == 2:
            sdp = relu.lipsdp(net, pairs=pairs)
            steps["mask-SDP"] = max(steps["mask-SDP"], mask / sdp - 1)
            steps["SDP-prod"] = max(steps["SDP-prod"], sdp / prod - 1)
        assert abs(relu.mask_bound(net, norm, pairs=pairs) / mask - 1) < 1e-6
    for name, excess in steps.items():
        c.at_most(f"{name}: ratio - 1, 12 networks", excess, 1e-6)
    # Full row rank and R^d: every pattern occurs.  In a box it need not.
    for d, n in ((3, 3), (4, 2)):
        net = random_net(rng, [d, n, 2])
        found = relu.lipschitz(net, 2).upper / pattern_slope(net, all_masks(n), [(1, 0)], 2)
        c.close(f"{n} neurons, {d} inputs: cells / masks", found, 1, 1e-9)
    dead = relu.Network((np.eye(2), np.ones((1, 2))), (np.full(2, -5.0), np.zeros(1)))
    c.close("box: cells", relu.lipschitz(dead, 2, low=0.0, high=1.0).upper, 0, 1e-12)
    c.close("box: masks", relu.mask_bound(dead, 2), math.sqrt(2), 1e-9)
    # The last two links are for l2, and fixed labels are needed for L_data <= L_glob.
    four = relu.Network((np.eye(4), np.ones((1, 4))), (np.zeros(4), np.zeros(1)))
    ones = forward(four, np.ones((1, 4))) - forward(four, np.zeros((1, 4)))
    c.close("four units: a secant in the maximum norm", ones[0, 0], 4, 1e-12)
    c.close("four units: LipSDP", relu.lipsdp(four), 2, 1e-6)
    c.close("four units: product of spectral norms", relu.norm_product(four, 2), 2, 1e-9)
    # Deep networks: the product of all norms.
    net, u = random_net(rng, [2, 4, 4, 2]), sphere(np.inf)
    rise = np.ptp(forward(net, 1e-3 * u) - forward(net, 0 * u), axis=1).max() / 1e-3
    c.at_most("deep: secant / product", rise / relu.norm_product(net, np.inf), 1)


# --------------------------------------------------------------------------------- measured


def trained(seed, width=8):
    X, y = make_moons(24, noise=0.35, random_state=seed)
    net = networks.mlp([2, width, 2], generator=torch.Generator().manual_seed(seed)).double()
    x, labels = torch.tensor(X), torch.tensor(y)
    opt = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.005)
    for _ in range(400):
        opt.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        opt.step()
    return relu.from_torch(net), X, y


def test_measured_chain(claim):
    c = claim("obs-lipschitz-chain")
    ordered, sdp, wrong, secant = 0.0, 0.0, 0, 0.0
    cases = []
    for seed in range(10, 22):  # the notebook has 0 to 9
        net, X, y = trained(seed)
        for norm in (2, np.inf):
            plane = wdro_networks.planar(net, X, y, norm, loss="hinge")
            far, data = plane.slopes_at_infinity.max(), plane.secant_slopes.max()
            glob = relu.lipschitz(net, norm).upper
            mask = pattern_slope(net, all_masks(8), [(1, 0)], norm)
            last = np.linalg.norm(net.weights[1][1] - net.weights[1][0], DUAL[norm])
            links = [far, data, glob, mask, last * np.linalg.norm(net.weights[0], norm)]
            if norm == 2:
                links.insert(4, relu.lipsdp(net))
                sdp = max(sdp, links[4] / mask)
                cells = relu.cells(net, -1e5, 1e5)
                reach = [np.abs(cells.polygon(i)).max() > 9e4 for i in range(len(cells))]
                wrong += cells.slopes(2, [(1, 0)])[reach].max() > 1.05 * far
            else:
                secant = max(secant, abs(data / vertex_data_slope(net, X, y, norm) - 1))
            ordered = max(ordered, max(p / q - 1 for p, q in itertools.pairwise(links)))
            cases.append(links[:3])
    far, data, glob = np.array(cases).T
    c.at_most("links of the chain: ratio - 1", ordered, 1e-6)
    c.at_least("slope at infinity below 0.99 L_glob, share", np.mean(far < 0.99 * glob), 0.5)
    c.at_least("exact certificate, cases", np.sum(far > (1 - 1e-6) * glob), 1)
    second = (far > (1 - 1e-6) * data) & (data < 0.99 * glob)
    c.at_least("constant price below L_glob, cases", np.sum(second), 1)
    c.at_least("falling price, cases", np.sum(far < 0.99 * data), 1)
    c.at_most("SDP / mask", sdp, 1.05)
    c.at_least("wrong rule off by five per cent, networks of 12", wrong, 6)
    c.close("data slope against vertices, maximum norm", secant, 0, 1e-5)


def test_cell_growth(claim):
    c = claim("obs-cell-growth")
    rng = np.random.default_rng(638)
    full = bare = 0
    for d, n in ((2, 5), (2, 33), (2, 64), (3, 7), (3, 32), (4, 5), (4, 16), (5, 6), (5, 16)):
        net = random_net(rng, [d, n, 2])
        count = sum(math.comb(n, k) for k in range(d + 1))
        full = max(full, abs(len(relu.activations(net)) - count))
        count = 2 * sum(math.comb(n - 1, k) for k in range(d))
        bare = max(bare, abs(len(relu.activations(relu.without_biases(net))) - count))
    c.close("counted minus formula", full, 0, 0.5)
    c.close("without biases: counted minus formula", bare, 0, 0.5)
    ratios = []
    for n in (8, 16, 32):
        for _ in range(5):
            net = random_net(rng, [2, n, n, 2])
            count = len(relu.cells(net, -1e3, 1e3))
            ratios.append(count / sum(math.comb(2 * n, k) for k in range(3)))
            # an independent count from below: patterns of a fine sample
            z = rng.uniform(-1, 1, (20000, 2)) * np.exp(rng.uniform(-2, 6, (20000, 1)))
            h = z @ net.weights[0].T + net.biases[0]
            deep = np.maximum(h, 0) @ net.weights[1].T + net.biases[1]
            seen = len(np.unique(np.hstack([h > 0, deep > 0]), axis=0))
            assert seen <= count
    c.at_most("two layers / one layer", max(ratios), 2)
    c.at_least("two layers / one layer", min(ratios), 0.5)
    c.at_least("two layers may exceed one", max(ratios), 1)
