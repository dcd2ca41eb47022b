"""Witnesses of chapter 7, notebook 4: small radii, bounds, order one, gauges, the largest cut."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.optimize import linprog, minimize

from advreg import relu, twolayer

DUAL = {1: np.inf, 2: 2, np.inf: 1}

# ------------------------------------------------------------------------------- oracles


def by_hand(W, b, a, x):
    """f(x) without the library, c = 0."""
    return np.maximum(x @ W.T + b, 0) @ a


def drop_by_patterns(W, b, a, x, y, radius, norm):
    """Worst drop in the ball (norms 1, inf): one linear program per activation pattern."""
    k, d = W.shape
    u, best = W @ x + b, 0.0
    here = float(np.maximum(u, 0) @ a)
    cube = norm == np.inf
    for pattern in itertools.product([0, 1], repeat=k):
        on = np.array(pattern, bool)
        slope, offset = (on * a) @ W, float((on * a) @ u)
        side = np.where(on, -1.0, 1.0)[:, None] * W  # u + W e >= 0 if on, <= 0 if off
        right = np.where(on, u, -u)
        cost = y * slope
        if cube:
            found = linprog(cost, side, right, bounds=[(-radius, radius)] * d)
        else:
            rows = np.vstack([np.hstack([side, -side]), np.ones(2 * d)])
            bounds = [(0, None)] * (2 * d)
            found = linprog(np.r_[cost, -cost], rows, np.r_[right, radius], bounds=bounds)
        if found.status == 0:
            best = max(best, y * here - (found.fun + y * offset))
    return best


def network(W, b, a):
    return relu.Network((W, np.atleast_2d(a)), (b, np.zeros(1)))


def draw(rng, k, d):
    return rng.standard_normal((k, d)), rng.standard_normal(k), rng.standard_normal(k)


def in_ball(rng, d, norm, n):
    """Random points of the unit ball, many of them on its boundary."""
    if norm == np.inf:
        e = rng.uniform(-1, 1, (n, d))
        return np.vstack([e, np.array(list(itertools.product([-1.0, 1.0], repeat=d)))])
    e = rng.standard_normal((n, d))
    e /= np.linalg.norm(e, norm, axis=1)[:, None]
    return np.vstack([e, e * rng.uniform(0, 1, (n, 1)), np.eye(d), -np.eye(d)])


# ------------------------------------------------------------------------------- small radii


def test_small_radius_gap(claim):
    c = claim("prop-small-radius-gap")
    rng = np.random.default_rng(7401)
    S = 4 / (3 * math.sqrt(3))  # max |tanh''|
    over, under = -np.inf, -np.inf
    for case in range(18):
        norm = (1, 2, np.inf)[case % 3]
        W, b, a = draw(rng, 5, 3)
        x, y, r = rng.standard_normal(3), (-1.0) ** case, (0.05, 0.3, 1.0)[case // 6]
        g = (a * (1 - np.tanh(W @ x + b) ** 2)) @ W
        beta = S * np.abs(a) @ np.linalg.norm(W, DUAL[norm], axis=1) ** 2
        e = r * in_ball(rng, 3, norm, 3000)
        gain = -y * (np.tanh((x + e) @ W.T + b) @ a - np.tanh(W @ x + b) @ a)
        main = r * np.linalg.norm(g, DUAL[norm])
        over = max(over, (gain.max() - main) / (beta * r**2 / 2))
        if norm == np.inf:  # the maximizer of the linear term is among the points
            under = max(under, (main - gain.max()) / (beta * r**2 / 2))
    c.at_most("tanh: gain beyond the gradient over beta eps^2 / 2", over, 1.0)
    c.at_most("tanh, inf: gradient beyond the gain over beta eps^2 / 2", under, 1.0)
    # sigma(u) = u^2 / 2, S = 1, at u = 0 and label -1: the bound is attained
    w, r = np.array([0.7, -1.2]), 0.4
    e = r * in_ball(rng, 2, np.inf, 10)
    attained = ((e @ w) ** 2 / 2).max()
    c.close("square: gap = beta eps^2 / 2", attained, np.abs(w).sum() ** 2 * r**2 / 2, 1e-12)
    # the bracket for ReLU, also on kinks
    slack_low, slack_high = np.inf, np.inf
    for case in range(24):
        norm = (1, np.inf)[case % 2]
        W, b, a = draw(rng, 4, 3)
        x, y, r = rng.standard_normal(3), (-1.0) ** (case // 2), (0.1, 0.5, 2.0)[case % 3]
        if case % 4 == 3:
            b[0] = -W[0] @ x  # exactly on a kink
        u, size = W @ x + b, np.linalg.norm(W, DUAL[norm], axis=1)
        late = np.abs(a) * np.maximum(r * size - np.abs(u), 0)
        main = r * np.linalg.norm(((u > 0) * a) @ W, DUAL[norm])
        truth = drop_by_patterns(W, b, a, x, y, r, norm)
        slack_low = min(slack_low, truth - main + late[y * a > 0].sum())
        slack_high = min(slack_high, main + late[y * a < 0].sum() - truth)
    c.at_least("bracket from below", slack_low, -1e-9)
    c.at_least("bracket from above", slack_high, -1e-9)
    # both ends are attained by one neuron
    one = (np.array([[2.0]]), np.zeros(1), np.ones(1))
    dead = drop_by_patterns(*one, np.array([-0.3]), -1.0, 0.5, np.inf)
    c.close("dead neuron: the upper end", dead, 2 * 0.5 - 2 * 0.3, 1e-9)
    live = drop_by_patterns(*one, np.array([0.3]), 1.0, 0.5, np.inf)
    c.close("live neuron: the lower end", live, 2 * 0.5 - (2 * 0.5 - 2 * 0.3), 1e-9)
    # x uniform on [-3, 3]: u_j has the density 1 / (6 |w_j|) on its range
    worst, x = 0.0, np.linspace(-3, 3, 6001)
    for _ in range(12):
        W, b, a = draw(rng, 5, 1)
        r, y = rng.uniform(0.05, 1), rng.choice([-1.0, 1.0])
        e = np.linspace(-r, r, 401)
        moved = np.maximum((x[:, None, None] + e[:, None]) * W[:, 0] + b, 0) @ a
        f = np.maximum(x[:, None] * W[:, 0] + b, 0) @ a
        drop = (y * (f[:, None] - moved)).max(axis=1)
        g = ((x[:, None] * W[:, 0] + b > 0) * a) @ W[:, 0]
        bound = r**2 * np.sum(np.abs(a) * np.abs(W[:, 0])) / 6
        worst = max(worst, abs((drop - r * np.abs(g)).mean()) / bound)
    c.at_most("mean remainder over its bound", worst, 1.0)
    r = 0.4
    half = np.maximum(np.minimum(x + r, r), 0) - r * (x > 0)  # relu(x), label -1
    c.close("relu: half of the bound", half.mean() / (r**2 / 6), 0.5, 5e-3)


def test_remainder_order(claim):
    c = claim("obs-remainder-order")
    radii = np.geomspace(0.01, 0.16, 5)
    orders = {"tanh": [], "relu": []}
    e = np.linspace(-1, 1, 201)
    for seed in range(12):
        rng = np.random.default_rng([7402, seed])
        W, b, a = draw(rng, 16, 1)
        x, y = rng.standard_normal(300), rng.choice([-1.0, 1.0], 300)
        f = np.tanh(np.outer(x, W[:, 0]) + b) @ a
        g = (1 - np.tanh(np.outer(x, W[:, 0]) + b) ** 2) @ (a * W[:, 0])
        rest = []
        for r in radii:
            moved = np.tanh((x[:, None] + r * e)[..., None] * W[:, 0] + b) @ a
            rest.append(np.abs((y[:, None] * (f[:, None] - moved)).max(1) - r * np.abs(g)).mean())
        orders["tanh"].append(np.polyfit(np.log(radii), np.log(rest), 1)[0])
        W, b, a = draw(rng, 16, 2)
        X, y, rest = rng.standard_normal((3000, 2)), rng.choice([-1.0, 1.0], 3000), []
        g = np.abs(((X @ W.T + b > 0) * a) @ W).sum(1)
        for r in radii:
            rest.append(np.abs(twolayer.worst_drop(network(W, b, a), X, y, r) - r * g).mean())
        orders["relu"].append(np.polyfit(np.log(radii), np.log(rest), 1)[0])
    for kind, found in orders.items():
        c.close(f"median order, {kind}", float(np.median(found)), 2.0, 0.15)
        c.at_least(f"least order, {kind}", float(min(found)), 1.7)


def test_kink_free(claim):
    c = claim("prop-kink-free")
    rng = np.random.default_rng(7403)
    losses = {
        "linear": lambda t: -t,
        "hinge": lambda t: np.maximum(1 - t, 0),
        "logistic": lambda t: np.logaddexp(0, -t),
    }
    worst, seen = 0.0, 0
    for case in range(120):
        norm = (1, np.inf)[case % 2]
        W, b, a = draw(rng, 4, 3)
        x, y = rng.standard_normal(3), (-1.0) ** (case // 2)
        if case % 5 == 4:
            W[3], a[2] = 0, 0  # no input weight; a neuron that does not count
        size = np.linalg.norm(W, DUAL[norm], axis=1)
        count = (a != 0) & (size > 0)
        nearest = np.min(np.abs(W @ x + b)[count] / size[count])
        r = nearest * (1.0 if case % 3 == 0 else rng.uniform(0.3, 1))  # touching, or inside
        e = r * in_ball(rng, 3, norm, 200)  # with all extreme points
        f, m = by_hand(W, b, a, x), y * by_hand(W, b, a, x)
        g = ((W @ x + b > 0) * a) @ W
        name = list(losses)[case % 3]
        phi = losses[name]
        brute = (phi(y * by_hand(W, b, a, x + e)) - phi(y * f)).max()
        formula = phi(m - r * np.linalg.norm(g, DUAL[norm])) - phi(m)
        worst, seen = max(worst, abs(brute - formula)), seen + 1
    c.close(f"{seen} kink-free balls, three losses: error of the formula", worst, 0.0, 1e-10)
    # the line ends at the nearest kink
    one = network(np.array([[1.0, -2.0]]), np.array([0.4]), np.ones(1))
    x = np.array([[0.5, 0.1]])  # u = 0.7, distance 0.7 / 3
    end = 0.7 / 3
    for t, straight in ((0.5, True), (1.0, True), (1.3, False)):
        gap = twolayer.gap(one, x, [1], t * end)[0]
        c.close(f"gap at {t} of the distance", gap, 0.7 * t if straight else 0.7, 1e-12)
        free = twolayer.kink_free(one, x, t * end * (1 - 1e-12))[0]
        c.close("kink_free says so", float(free), float(straight), 1e-12)


# ------------------------------------------------------------------------------- bounds


def test_gap_upper_bound(claim):
    c = claim("prop-gap-upper-bound")
    rng = np.random.default_rng(7404)
    first = second = decay = -np.inf
    for case in range(16):
        norm = (1, np.inf)[case % 2]
        W, b, a = draw(rng, 4, 3)
        y, r = (-1.0) ** (case // 2), (0.2, 2.0)[case // 8]
        X = np.vstack([rng.standard_normal((3000, 3)) * s for s in (0.5, 2, 20)])
        slopes = ((X @ W.T + b > 0) * a) @ W
        L = np.linalg.norm(slopes, DUAL[norm], axis=1).max()
        path = np.abs(a) @ np.linalg.norm(W, DUAL[norm], axis=1)
        truth = drop_by_patterns(W, b, a, rng.standard_normal(3), y, r, norm)
        first, second = max(first, truth / (r * L)), max(second, L / path)
        reported = twolayer.penalties(network(W, b, a))["path_inf" if norm == np.inf else "path_1"]
        c.close("the library's path norm", reported, path, 1e-12)
        euclid = np.abs(a) @ np.linalg.norm(W, axis=1)
        decay = max(decay, euclid / ((W**2).sum() + a @ a) * 2)
        t = np.sqrt(np.linalg.norm(W, axis=1) / np.abs(a))
        balanced = ((W / t[:, None]) ** 2).sum() + ((a * t) ** 2).sum()
        c.close("balanced weight decay = path norm", balanced / 2, euclid, 1e-10)
    c.at_most("drop over eps L", first, 1 + 1e-9)
    c.at_most("L over path norm", second, 1 + 1e-12)
    c.at_most("path norm over weight decay / 2", decay, 1.0)
    # equality: all neurons active and aligned
    w = np.array([1.0, -2.0, 0.5])
    W, a, b = np.outer([1.0, 0.5, 2.0], w), np.array([0.3, 1.0, 0.7]), np.full(3, 99.0)
    truth = drop_by_patterns(W, b, a, np.zeros(3), 1.0, 0.5, np.inf)
    c.close("aligned neurons: eps times path norm", truth, 0.5 * a @ np.abs(W).sum(1), 1e-9)
    # risk inside the loss
    W, b, a = draw(rng, 5, 2)
    X, y = rng.standard_normal((40, 2)), rng.choice([-1.0, 1.0], 40)
    e = 0.3 * in_ball(rng, 2, np.inf, 400)
    worst = np.array([(y_ * by_hand(W, b, a, x + e)).min() for x, y_ in zip(X, y, strict=True)])
    path = np.abs(a) @ np.abs(W).sum(1)
    inside = np.maximum(1 - y * by_hand(W, b, a, X) + 0.3 * path, 0).mean()
    c.at_most("adversarial hinge risk over the bound", np.maximum(1 - worst, 0).mean(), inside)
    # best constant for one neuron, by a program over a grid of points
    x, r = np.linspace(-4, 4, 1601), 0.5
    u = 1.5 * x + 0.2
    gaps = np.r_[np.maximum(u + 0.75, 0) - np.maximum(u, 0),
                 np.maximum(u, 0) - np.maximum(u - 0.75, 0)] * 2  # fmt: skip
    rows = np.column_stack(
        [np.r_[np.ones(len(gaps)), -np.ones(len(gaps))], -np.ones(2 * len(gaps))]
    )
    best = linprog([0, 1], rows, np.r_[gaps, -gaps], bounds=(None, None)).fun
    c.close("best constant of a neuron", best, r * 2 * 1.5 / 2, 1e-9)


def test_feature_adversary(claim):
    c = claim("prop-feature-adversary")
    rng = np.random.default_rng(7405)
    formula = dominate = change = 0.0
    for case in range(20):
        norm = (1, np.inf)[case % 2]
        W, b, a = draw(rng, 4, 3)
        x, y, r = rng.standard_normal(3), (-1.0) ** (case // 2), (0.1, 1.0)[case // 10]
        size = np.linalg.norm(W, DUAL[norm], axis=1)
        features = np.maximum(W @ x + b, 0)
        corners = r * np.array(list(itertools.product([-1.0, 1.0], repeat=4))) * size
        brute = np.maximum(1 - y * (features + corners) @ a, 0).max()
        exact = max(1 - y * features @ a + r * np.abs(a) @ size, 0)
        formula = max(formula, abs(brute - exact))
        truth = drop_by_patterns(W, b, a, x, y, r, norm)
        dominate = max(dominate, truth / (r * np.abs(a) @ size))
        e = r * in_ball(rng, 3, norm, 500)
        moved = np.abs(np.maximum((x + e) @ W.T + b, 0) - features) / size
        change = max(change, moved.max() / r)
        nu = rng.standard_normal((4000, 4))
        nu = np.vstack([nu / np.linalg.norm(nu, axis=1)[:, None], -y * a / np.linalg.norm(a)])
        rho = r * np.linalg.norm(W, 2)
        brute = (-y * rho * nu @ a).max()
        formula = max(formula, abs(brute - rho * np.linalg.norm(a)))
        e = rng.standard_normal((400, 3))
        e *= r / np.linalg.norm(e, axis=1)[:, None]
        moved = np.linalg.norm(np.maximum((x + e) @ W.T + b, 0) - features, axis=1)
        change = max(change, moved.max() / rho)
    c.close("risk of the feature adversary, by corners", formula, 0.0, 1e-12)
    c.at_most("input drop over feature drop", dominate, 1 + 1e-9)
    c.at_most("features move within the ball", change, 1 + 1e-12)


# ------------------------------------------------------------------------------- order one


def order_one(g, atoms, masses, budget, points):
    """sup of E_Q g - E_P g over Q on the points with W_1 <= budget: a transport program."""
    points = np.r_[points, atoms]  # staying is free
    cost = np.abs(points - atoms[:, None])
    gain = g(points) - g(atoms)[:, None]
    scale = 1 + cost.ravel()  # little mass travels far: unknowns are mass times scale
    rows = np.kron(np.eye(len(atoms)), np.ones(len(points))) / scale
    found = linprog(-gain.ravel() / scale, cost.reshape(1, -1) / scale, [budget], rows, masses)
    assert found.status == 0
    return -found.fun


def line(far=1e4):
    return np.r_[-np.geomspace(far, 4, 60), np.linspace(-4, 4, 321), np.geomspace(4, far, 60)]


def test_wasserstein_gap(claim):
    c = claim("prop-wasserstein-gap")
    rng = np.random.default_rng(7406)
    points = line()
    exact, under, chain = 0.0, np.inf, -np.inf
    kinds = {"attained": 0, "not": 0}
    for case in range(24):
        W, b, a = draw(rng, 4, 1)
        if case % 3 == 0:
            a = np.abs(a)  # label -1: a convex loss
        w = W[:, 0]
        kinks = np.sort(-b / w)
        middles = np.r_[kinks[0] - 1, (kinks[1:] + kinks[:-1]) / 2, kinks[-1] + 1]
        slope = ((np.outer(middles, w) + b > 0) * a) @ w
        L = np.abs(slope).max()
        infinity = max(slope[-1], -slope[0], 0)
        grid = np.unique(np.r_[points, kinks, middles])

        def g(x, w=w, b=b, a=a):
            return np.maximum(np.multiply.outer(x, w) + b, 0) @ a

        if case % 3 == 0:
            c.close("convex: slope at infinity = Lipschitz constant", infinity, L, 1e-12)
        attained = infinity > L - 1e-12
        kinds["attained" if attained else "not"] += 1
        atoms, masses = rng.uniform(-3, 3, 3), rng.dirichlet(np.ones(3))
        for budget in (0.1, 1.0, 10.0):
            value = order_one(g, atoms, masses, budget, grid)
            e = np.linspace(-budget, budget, 801)
            local = masses @ (g(atoms[:, None] + e) - g(atoms)[:, None]).max(axis=1)
            chain = max(chain, local - value if budget < 1 else -np.inf, value - budget * L)
            if attained:  # a sliver of the first atom, far away
                places = atoms[0] + np.array([-1e9, 1e9])
                sliver = budget * (g(places) - g(atoms[0])).max() / 1e9
                exact = max(exact, abs(sliver / (budget * L) - 1))
        if not attained:  # a large budget shows it
            value = order_one(g, atoms, masses, 1000.0, grid)
            under = min(under, 1 - value / (1000 * L), L - infinity)
    c.at_least("both kinds occur", min(kinds.values()), 4)
    c.at_most("order inf <= order one <= eps Lip (grid error)", chain, 0.02)
    c.close("attained at infinity: sliver over eps Lip - 1", exact, 0.0, 1e-5)
    c.at_least("not attained: relative deficit at budget 1000", under, 1e-4)

    # the ramp, and the other label of one neuron
    def ramp(x):
        return np.clip(x, 0, 1)

    for budget in (0.3, 2.0, 6.0, 9.0):
        value = order_one(ramp, np.array([-5.0]), [1.0], budget, np.r_[points, -5, 0, 1])
        c.close(f"ramp, budget {budget}", value, min(1, budget / 6), 1e-9)
    for x, budget in ((-1.0, 1.0), (0.5, 0.3), (0.5, 1.0), (2.0, 1.0)):
        value = order_one(lambda t: -np.maximum(t, 0), np.array([x]), [1.0], budget, points)
        c.close(f"label +1, datum {x}", value, min(budget, max(x, 0)), 1e-9)
    sliver = order_one(lambda t: np.maximum(t, 0), np.array([-5.0]), [1.0], 1.0, points)
    c.close("dead neuron: order one", sliver, 1.0, 1e-3)
    neuron = network(np.ones((1, 1)), np.zeros(1), np.ones(1))
    c.close("dead neuron: order inf", twolayer.gap(neuron, [[-5.0]], [-1], 1.0)[0], 0.0, 1e-12)
    # both labels: the whole budget goes to the label whose loss grows; |x| is a penalty twice
    atoms, signs = np.array([-1.0, 0.5]), np.array([-1.0, 1.0])
    places = np.r_[points, atoms]
    cost = np.abs(places - atoms[:, None])
    gain = -signs[:, None] * (np.maximum(places, 0) - np.maximum(atoms, 0)[:, None])
    scale = 1 + cost.ravel()
    found = linprog(
        -gain.ravel() / scale, cost.reshape(1, -1) / scale, [1.0],
        np.kron(np.eye(2), np.ones(len(places))) / scale, [0.5, 0.5],
    )  # fmt: skip
    c.close("one neuron, both labels: order one", -found.fun, 1.0, 1e-3)
    both = network(np.array([[1.0], [-1.0]]), np.zeros(2), np.ones(2))
    values = twolayer.gap(both, [[-2.0], [0.0], [0.3]], [-1] * 3, 0.7)
    c.close("|x|: order inf", np.abs(values - 0.7).max(), 0.0, 1e-12)


def test_infinity_attained(claim):
    c = claim("obs-infinity-attained")
    shares = {}
    for k in (1, 4, 16):
        hits = 0
        for seed in range(100):
            W, b, a = draw(np.random.default_rng([7407, k, seed]), k, 2)
            masks = [np.zeros(k, bool), np.ones(k, bool)]
            for i, j in itertools.combinations(range(k), 2):  # the four cells at each corner
                v = -np.linalg.solve(W[[i, j]], b[[i, j]])
                here = W @ v + b > 0
                for s in itertools.product([False, True], repeat=2):
                    here[[i, j]] = s
                    masks.append(here.copy())
            slopes = (np.array(masks) * a) @ W
            best = np.linalg.norm(slopes, axis=1).argmax()
            g, mask = slopes[best], masks[best]
            # the norming direction g stays in the cell for ever
            hits += bool(np.all((W @ g > 0) == mask)) and bool(g.any())
        shares[k] = hits / 100
    c.close("width 1", shares[1], 0.5, 0.2)
    c.at_most("width 4", shares[4], 0.25)
    c.at_most("width 16", shares[16], 0.03)


# ------------------------------------------------------------------------------- the last layer


def test_frozen_features(claim):
    c = claim("prop-frozen-features")
    rng = np.random.default_rng(7408)
    w, b = np.array([1.0, -0.7]), np.array([0.2, 0.5])
    x = np.r_[rng.uniform(0, 1.5, 3), rng.uniform(-1.5, 0.3, 3)]
    y = np.array([1.0, 1, 1, -1, -1, -1])

    def moves(radius):
        """Phi(x + e) at all e that can matter: the ends and the kinks."""
        found = []
        for t in x:
            kinks = -b / w
            e = np.r_[t, t - radius, t + radius, kinks[np.abs(kinks - t) <= radius]]
            found.append(np.maximum(np.outer(e, w) + b, 0))
        return found

    def p(a, radius):
        parts = zip(moves(radius), y, strict=True)
        return np.mean([(-s * (F - F[0]) @ a).max() for F, s in parts])

    net = relu.Network((w[:, None], np.array([[0.8, -1.1]])), (b, np.zeros(1)))
    library = twolayer.gap(net, x[:, None], y, 0.4).mean()
    c.close("p is the gap", p(np.array([0.8, -1.1]), 0.4), library, 1e-12)
    worst, scale = -np.inf, 0.0
    for _ in range(200):
        s, t = rng.standard_normal((2, 2))
        worst = max(worst, p(s + t, 0.4) - p(s, 0.4) - p(t, 0.4))
        scale = max(scale, abs(p(2.5 * s, 0.4) - 2.5 * p(s, 0.4)))
    c.at_most("subadditive", worst, 1e-12)
    c.close("homogeneous", scale, 0.0, 1e-12)
    both = p(np.array([1.0, 0.3]), 0.4) / p(-np.array([1.0, 0.3]), 0.4)
    c.at_least("not symmetric", abs(both - 1), 0.01)

    def member(radius):
        """Whether the mean of y Phi lies in K, by a program over convex weights."""
        F = [-s * (f - f[0]) / len(x) for f, s in zip(moves(radius), y, strict=True)]
        sizes = [len(f) for f in F]
        rows = np.zeros((len(F), sum(sizes)))
        start = np.cumsum([0, *sizes])
        for i in range(len(F)):
            rows[i, start[i] : start[i + 1]] = 1
        A = np.vstack([rows, np.vstack(F).T])
        clean = np.array([f[0] for f in moves(radius)])
        right = np.r_[np.ones(len(F)), y @ clean / len(x)]
        return linprog(np.zeros(A.shape[1]), A_eq=A, b_eq=right).status == 0

    def least(radius, labels):
        parts = moves(radius)

        def risk(v):
            worst = [(s * (F @ v[:2] + v[2])).min() for F, s in zip(parts, labels, strict=True)]
            return np.logaddexp(0, -np.array(worst)).mean()

        values = [risk(np.zeros(3))]
        for start in np.random.default_rng(0).standard_normal((6, 3)) * 0.5:
            found = minimize(risk, start, method="Nelder-Mead", options={"maxiter": 1500})
            values.append(found.fun)
        middle = [risk((s + t) / 2) - (risk(s) + risk(t)) / 2
                  for s, t in np.random.default_rng(1).standard_normal((50, 2, 3))]  # fmt: skip
        c.at_most("convex in the last layer", max(middle), 1e-12)
        return min(values)

    low, high = 0.01, 5.0
    c.close("criterion false at 0.01, true at 5", member(low) + 2 * member(high), 2, 1e-12)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if member(middle) else (middle, high)
    gain = np.log(2) - least(0.9 * low, y)
    c.at_least("below the critical radius the risk is less than log 2", gain, 1e-4)
    c.close("above it log 2 is the minimum", least(1.05 * high, y), np.log(2), 1e-9)
    unequal = np.array([1.0, 1, 1, 1, -1, -1])
    c.at_most("not for unequal classes", least(1.05 * high, unequal), np.log(2) - 1e-3)


# ------------------------------------------------------------------------------- the radius


def test_radius_shape_proposition(claim):
    c = claim("prop-radius-shape")
    rng = np.random.default_rng(7409)
    radii = np.linspace(0, 2, 9)
    bend = {"convex": np.inf, "concave": np.inf}
    rise, steep = np.inf, -np.inf
    for case in range(8):
        norm, kind = (1, np.inf)[case % 2], ("convex", "concave")[case // 2 % 2]
        W, b, a = draw(rng, 4, 2)
        y = (-1.0) ** (case // 4)
        a = np.abs(a) * (-y if kind == "convex" else y)
        x = rng.standard_normal(2)
        rows = [0.0] + [drop_by_patterns(W, b, a, x, y, r, norm) for r in radii[1:]]
        second = np.diff(rows, 2) * (1 if kind == "convex" else -1)
        bend[kind] = min(bend[kind], second.min())
        rise = min(rise, np.diff(rows).min())
        L = np.abs(a) @ np.linalg.norm(W, DUAL[norm], axis=1)
        X = np.vstack([rng.standard_normal((2000, 2)) * s for s in (0.5, 2, 20)])
        L = min(L, np.linalg.norm(((X @ W.T + b > 0) * a) @ W, DUAL[norm], axis=1).max())
        steep = max(steep, np.diff(rows).max() / (radii[1] * L))
    for kind, value in bend.items():
        c.at_least(f"{kind}: signed second differences", value, -1e-9)
    c.at_least("nondecreasing", rise, -1e-9)
    c.at_most("increments over eps L", steep, 1 + 1e-9)
    w = rng.standard_normal(3)
    linear = relu.Network((w[None],), (np.zeros(1),))
    c.close("linear model", twolayer.gap(linear, np.zeros((1, 3)), [1], 0.7)[0],
            0.7 * np.abs(w).sum(), 1e-12)  # fmt: skip
    # a product would make this table of rank one: radii 1 and 2, data -1.5 and 1
    table = [[max(x + r, 0) - max(x, 0) for x in (-1.5, 1.0)] for r in (1.0, 2.0)]
    neuron = network(np.ones((1, 1)), np.zeros(1), np.ones(1))
    library = [twolayer.gap(neuron, [[-1.5], [1.0]], [-1, -1], r) for r in (1.0, 2.0)]
    c.close("the table", np.abs(np.array(library) - table).max(), 0.0, 1e-12)
    c.at_least("determinant", abs(np.linalg.det(table)), 0.4)


def test_radius_shape(claim):
    c = claim("obs-radius-shape")
    grid = np.linspace(0, 1, 21)
    for width in (1, 16):
        found, single, mean = [], [], []
        for seed in range(10):
            rng = np.random.default_rng([7410, width, seed])
            W, b, a = draw(rng, width, 2)
            net = network(W, b, a / np.sqrt(width))
            X, y = rng.standard_normal((40, 2)), rng.choice([-1.0, 1.0], 40)
            rows = np.vstack([np.zeros(40)] + [twolayer.gap(net, X, y, r) for r in grid[1:]])
            bend = np.diff(rows, 2, axis=0)
            found.extend((bend.max(0) > 1e-9) + 2 * (bend.min(0) < -1e-9))
            some = rows[4] > 1e-9
            single.extend(rows[16, some] / rows[4, some])
            mean.append(rows[16].mean() / max(rows[4].mean(), 1e-9))
        shares = np.bincount(found, minlength=4) / len(found)
        if width == 1:
            c.close("width 1: neither", shares[3], 0.0, 1e-12)
        else:
            c.at_least("width 16: neither", shares[3], 0.45)
            c.at_least("width 16: every kind occurs", shares.min(), 1e-3)
            low, high = np.quantile(single, [0.05, 0.95])
            c.at_most("pointwise ratio, lower end", low, 3.2)
            c.at_least("pointwise ratio, upper end", high, 5.0)
            c.at_most("means spread less", (max(mean) - min(mean)) / (high - low), 0.8)


# ------------------------------------------------------------------------------- the largest cut


def test_max_cut(claim):
    c = claim("thm-max-cut")
    rng = np.random.default_rng(7411)
    triangle = [(0, 1), (0, 2), (1, 2)]
    graphs = [(3, triangle, 2), (6, [(i, 3 + j) for i in range(3) for j in range(3)], 9)]
    for n in (5, 7):
        pairs = list(itertools.combinations(range(n), 2))
        edges = [pairs[i] for i in rng.permutation(len(pairs))[: 2 * n - 1]]
        best = 0
        for size in range(n):
            for side in itertools.combinations(range(n), size):
                best = max(best, sum((i in side) != (j in side) for i, j in edges))
        graphs.append((n, edges, best))
    for n, edges, best in graphs:
        i, j = np.array(edges).T

        def f(x, i=i, j=j):
            return np.abs(x[..., i] - x[..., j]).sum(axis=-1)

        net = twolayer.max_cut_network(edges, n)
        X = rng.standard_normal((50, n))
        same = np.abs(relu.evaluate(net, X)[:, 0] - f(X)).max()
        c.close("the network is f", same, 0.0, 1e-12)
        neurons = [np.asarray(net.weights[0]).shape[0], int(2 * len(edges))]
        c.close("2 |E| neurons, output weights 1", neurons[0], neurons[1], 1e-12)
        c.close("output weights", np.abs(net.weights[1] - 1).max(), 0, 1e-12)
        corners = np.array(list(itertools.product([-0.3, 0.3], repeat=n)))
        c.close("vertices: 2 eps maxcut", f(corners).max(), 0.6 * best, 1e-12)
        c.at_most("inside the cube", f(rng.uniform(-0.3, 0.3, (5000, n))).max(), 0.6 * best)
        exact = twolayer.gap(net, np.zeros((1, n)), [-1], 0.3)[0]
        c.close("mixed-integer program", exact, 0.6 * best, 1e-5)
        Z = X + rng.standard_normal((50, n))
        steep = np.abs(f(X) - f(Z)) / np.abs(X - Z).max(axis=1)
        c.at_most("Lipschitz", steep.max(), 2 * best)
        # order one: a sliver of any size gains eps * 2 maxcut, from homogeneity
        side = corners[f(corners).argmax()] / 0.3
        c.close("sliver of mass 1 / 50", f(50 * 0.3 * side) / 50, 0.6 * best, 1e-12)
        found = twolayer.gap(net, np.zeros((1, n)), [-1], 0.3, norm=1)[0]
        c.close("norm 1: 2 d evaluations", found, f(0.3 * np.eye(n)).max(), 1e-5)


def test_cut_attack(claim):
    c = claim("obs-cut-attack")
    means, hits = [], []
    for seed in range(6):
        rng = np.random.default_rng([7412, seed])
        pairs = list(itertools.combinations(range(10), 2))
        edges = np.array([pairs[i] for i in rng.permutation(45)[:20]])
        i, j = edges.T
        corners = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
        best = (corners[:, i] != corners[:, j]).sum(axis=1).max()
        net = twolayer.max_cut_network([tuple(map(int, e)) for e in edges], 10)
        if seed < 3:
            exact = twolayer.gap(net, np.zeros((1, 10)), [-1], 0.5)[0]
            c.close("exact gap", exact, float(best), 1e-5)
        W, a = net.weights[0], net.weights[1][0]
        x = rng.uniform(-0.5, 0.5, (200, 10))
        for _ in range(20):
            x = np.clip(x + np.sign(((x @ W.T > 0) * a) @ W) / 8, -0.5, 0.5)
        cuts = relu.evaluate(net, x)[:, 0]
        means.append(cuts.mean() / best)
        hits.append((cuts > best - 1e-9).mean())
    c.close("mean share of the gap", float(np.mean(means)), 0.8, 0.08)
    c.at_most("share of starts at the optimum, median", float(np.median(hits)), 0.2)
    clean = np.sign(((np.zeros(10) @ W.T > 0) * a) @ W)
    c.close("from the clean point nothing moves", float(np.abs(clean).max()), 0.0, 1e-12)
