"""Witnesses of chapter 7, notebook 1: the adversarial gap, dead neurons, equal statistics."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.special import betainc

from advreg import attacks, relu, twolayer

NORMS = (1, 2, np.inf)
DUAL = {1: np.inf, 2: 2, np.inf: 1}
LOSSES = {
    "linear": lambda t: -t,
    "hinge": lambda t: np.maximum(1 - t, 0),
    "logistic": lambda t: np.logaddexp(0, -t),
}

# ------------------------------------------------------------------------------- oracles


def extreme(d, norm, rng, count=4000):
    """Points of the unit ball: all extreme points (norms 1, inf), a dense sample (norm 2)."""
    if norm == 1:
        return np.vstack([np.eye(d), -np.eye(d)])
    if norm == np.inf:
        return np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    if d == 2:
        t = 2 * np.pi * np.arange(count) / count
        return np.column_stack([np.cos(t), np.sin(t)])
    e = rng.standard_normal((count, d))
    return e / np.linalg.norm(e, axis=1)[:, None]


def by_hand(net, x):
    """f(x) without the library."""
    W, A, b, c = *net.weights, *net.biases
    return np.maximum(x @ W.T + b, 0) @ A[0] + c[0]


def brute_gap(net, X, y, radius, norm, phi, rng):
    """Largest loss at extreme points of the balls, minus the clean loss.

    Exact for norms 1 and inf if y f is concave, as it is here; for norm 2 the centres of the caps,
    radius * w / ||w||, are added, where one neuron alone is largest.
    """
    moves = radius * extreme(X.shape[1], norm, rng, 200)
    if norm == 2:
        W = net.weights[0]
        moves = np.vstack([moves, radius * W / np.linalg.norm(W, axis=1)[:, None]])
    margins = y[:, None] * by_hand(net, X[:, None] + moves)
    return phi(margins).max(axis=1) - phi(y * by_hand(net, X))


def sup_distance(a, T):
    """min over g in span(1, T) of max |a - g|, by HiGHS."""
    V = np.column_stack([np.ones(len(a)), T])
    t = -np.ones((len(a), 1))
    rows = np.block([[V, t], [-V, t]])
    return linprog(np.r_[np.zeros(V.shape[1]), 1], rows, np.r_[a, -a], bounds=(None, None)).fun


def worst_pair(a, T):
    """Laws with equal means of T and the largest difference of the means of a, by HiGHS."""
    n = len(a)
    equal = np.hstack([T.T, -T.T])
    masses = np.kron(np.eye(2), np.ones(n))
    right = np.r_[np.zeros(len(equal)), 1, 1]
    found = linprog(np.r_[-a, a], A_eq=np.vstack([equal, masses]), b_eq=right)
    return -found.fun, found.x[:n], found.x[n:]


def cosines(X, m, rng, scale=1.0):
    omega, beta = rng.standard_normal((m, X.shape[1])) / scale, rng.uniform(0, 2 * np.pi, m)
    return np.cos(X @ omega.T + beta)


def steps(X, m, rng):
    """Discontinuous statistics: random half-planes, and one parity."""
    w = rng.standard_normal((m, X.shape[1]))
    T = (X @ w.T > 0.3 * np.abs(X).max()).astype(float)
    T[:, 0] = np.floor(7 * X[:, 0]) % 2
    return T


def law_faults(P, Q, T):
    """How far P and Q are from laws with disjoint supports and equal means of T."""
    scale = np.abs(T).max() or 1.0
    return max(
        abs(P.sum() - 1),
        abs(Q.sum() - 1),
        -min(P.min(), Q.min()),
        np.minimum(P, Q).max(),
        np.abs((P - Q) @ T).max() / scale,
    )


def torch_score(net):
    W, A, b, c = (torch.as_tensor(part) for part in (*net.weights, *net.biases))
    return lambda z: (torch.relu(z @ W.T + b) @ A.T + c) * torch.tensor([-1.0, 1.0])


def local_views(net, X, radius, norm, rng):
    """Outputs of networks near theta on a grid of offsets, one row per input."""
    offsets = radius * np.vstack([np.zeros(X.shape[1]), extreme(X.shape[1], norm, rng, 40)])
    W, A, b, c = *net.weights, *net.biases
    rows = []
    for _ in range(5):  # nearby parameters; small against the distance to waking up
        size = 1e-9
        near = relu.Network(
            (W + size * rng.standard_normal(W.shape), A + size * rng.standard_normal(A.shape)),
            (b + size * rng.standard_normal(b.shape), c + size * rng.standard_normal(c.shape)),
        )
        rows.append(by_hand(near, X[:, None] + offsets))
    return np.concatenate(rows, axis=1)


# ------------------------------------------------------------------------- one neuron, spans


def test_gap_of_one_neuron(claim):
    c, rng = claim("prop-gap-of-one-neuron"), np.random.default_rng(1)
    wrong, library = 0.0, 0.0
    for case in range(60):
        norm, d = NORMS[case % 3], 2 + case // 3 % 2
        w, b, radius = rng.standard_normal(d), rng.standard_normal(), rng.uniform(0.1, 2)
        if case == 7:
            b = 0.0
        s = radius * np.linalg.norm(w, DUAL[norm])
        best = {1: np.sign(w) * (np.abs(w) == np.abs(w).max()), 2: w / np.linalg.norm(w)}
        best[np.inf] = np.sign(w)
        ray = radius * np.linspace(-1, 1, 2001)[:, None] * best[norm]  # the range of w.e, densely
        X = rng.uniform(-2, 2, (20, d))
        X[0] -= (w @ X[0] + b) * w / (w @ w)  # on the kink
        X[1] -= (w @ X[1] + b + s) * w / (w @ w)  # where the gap starts
        u = X @ w + b
        moved = np.maximum((X[:, None] + ray) @ w + b, 0)
        net = relu.Network((w[None], [[1.0]]), ([b], [0.0]))
        for y in (-1, 1):
            brute = (-y * moved).max(axis=1) + y * np.maximum(u, 0)
            formula = np.clip(u + (s if y < 0 else 0), 0, s)
            wrong = max(wrong, np.abs(brute - formula).max())
            exact = twolayer.gap(net, X, np.full(20, y), radius, norm)
            library = max(library, np.abs(exact - formula).max())
    c.at_most("formula - dense search over the reachable pre-activations", wrong, 4e-3)
    c.at_most("formula - exact gaps of the library", library, 1e-9)
    # (R3) fails: equal score and label, gaps 0 and s/2
    line = relu.Network(([[1.0]], [[1.0]]), ([0.0], [0.0]))
    two = twolayer.gap(line, [[-1.0], [-0.5]], [-1, -1], 1.0)
    c.close("gaps at two points of score 0", two[1] - two[0], 0.5, 1e-12)


def test_span(claim):
    c, rng = claim("lem-span"), np.random.default_rng(2)
    worst, affine, outside = 0.0, 0.0, 0.0
    for case in range(25):
        n, m = rng.integers(4, 15), case % 6
        x = rng.uniform(-3, 0, n)  # dead side of relu(x): all scores are 0
        line = relu.Network(([[1.0]], [[1.0]]), ([0.0], [0.0]))
        a = twolayer.gap(line, x[:, None], -np.ones(n), 1.5)
        T = rng.standard_normal((n, m)) if case % 2 else np.cos(np.outer(x, np.arange(1, m + 1)))
        dist = sup_distance(a, T)
        difference = worst_pair(a, T)[0]
        worst = max(worst, abs(difference - 2 * dist))
        # the affine rule never errs by more, on random laws
        V = np.column_stack([np.ones(n), T])
        t = -np.ones((n, 1))
        rows, right = np.block([[V, t], [-V, t]]), np.r_[a, -a]
        cost = np.r_[np.zeros(V.shape[1]), 1]
        g = linprog(cost, rows, right, bounds=(None, None)).x[:-1]
        laws = rng.dirichlet(np.full(n, 0.3), 200)
        affine = max(affine, (np.abs(laws @ (a - V @ g))).max() - dist)
        # part 1: a gap in the span is a function of the means; a gap outside is not
        inside = V @ rng.standard_normal(m + 1)
        outside = max(outside, worst_pair(inside, T)[0])
    c.at_most("worst pair of laws = twice the distance to the span", worst, 1e-6)
    c.at_most("affine rule: error - distance, 5000 laws", affine, 1e-6)
    c.at_most("functions in the span: no pair of laws differs", outside, 1e-6)
    # part 3: twelve sites, the gaps of dead neurons have rank 12 whatever the loss
    s = twolayer.circle_sites(12, 0.5, norm=2)
    nets = [twolayer.dead_network(s, [i], 0.7) for i in range(12)]
    table = [twolayer.gap(net, s.points, np.ones(12), 0.5, 2, "logistic") for net in nets]
    c.at_least("rank of gaps at points with one local view", np.linalg.matrix_rank(table), 12)


# ------------------------------------------------------------------------------- geometry


def test_dead_sites(claim):
    c, rng = claim("lem-dead-sites"), np.random.default_rng(3)
    peak, inner, cross, radius_rule = 0.0, -np.inf, -np.inf, 0.0
    for norm, d, N in itertools.product(NORMS, (2, 4), (2, 3, 7, 40)):
        eps, r = rng.uniform(0.05, 3), rng.uniform(0, 0.97)  # r in units of eps
        tau = rng.uniform(r, 1)
        s = twolayer.circle_sites(N, eps, d, norm)
        v, x = s.directions, s.points
        reach = eps * np.linalg.norm(v, DUAL[norm], axis=1)
        rho = np.linalg.norm(x, axis=1)
        assert np.abs(np.linalg.norm(v, axis=1) - 1).max() < 1e-12
        assert np.abs(rho - rho[0]).max() < 1e-9 * rho[0]
        need = reach.max() / (1 - math.cos(2 * math.pi / N))
        radius_rule = max(radius_rule, (need - rho[0]) / need, (rho[0] - reach.max() * N**2 / 8))
        # extreme points of the balls; for norm 2 with the best point added
        ends = extreme(d, norm, rng)
        if norm == 2:
            ends = np.vstack([ends, v])
        climb = eps * (ends @ v.T).max(axis=0)
        u = x @ v.T - rho[0] - tau * reach  # site, neuron
        own = np.diag(u) + climb
        peak = max(peak, np.abs(own - (1 - tau) * reach).max() / eps)
        inner = max(inner, (np.diag(u) + r * climb - (r - tau) * reach).max() / eps)
        off = ~np.eye(N, dtype=bool)
        cross = max(cross, ((u + climb) + tau * reach)[off].max() / eps)
    c.at_most("(G1): largest pre-activation - (1 - tau) r_i", peak, 1e-6)
    c.at_most("(G2): inside r, above (r/eps - tau) r_i", inner, 1e-6)
    c.at_most("(G3): other balls, above -tau r_i", cross, 1e-6)
    c.at_most("radius of the circle: least allowed, and at most N^2/8", radius_rule, 1e-9)
    slim = twolayer.circle_sites(300, 1.0, norm=2)
    ratio = np.linalg.norm(slim.points[0]) / (300**2 / (2 * np.pi**2))
    c.close("radius / (N^2 / 2 pi^2) at 300 sites", ratio, 1, 1e-3)
    # a circle of 0.4 of that radius does not do
    small = twolayer.circle_sites(20, 1.0, norm=2)
    near = 0.4 * small.points
    u = near @ small.directions.T - 0.4 * small.levels[0] - 0.5
    c.at_least("a smaller circle: another site wakes the neuron", (u + 1)[0, 1], 0.05)


def test_equal_statistics(claim):
    c, rng = claim("lem-radon-weights"), np.random.default_rng(4)
    fault, size, heavy, mass, dual = 0.0, -np.inf, np.inf, 0.0, 0.0
    for m in (0, 1, 2, 3, 7, 12, 40):
        X = twolayer.circle_sites(m + 2, 1.0, norm=2).points
        for kind in range(3):
            T = [rng.standard_normal((m + 2, m)), cosines(X, m, rng), np.zeros((m + 2, m))][kind]
            if kind == 2 and m:
                T = steps(X, m, rng)
            P, Q = twolayer.radon_weights(T)
            fault = max(fault, law_faults(P, Q, T) if m else abs(P.sum() - Q.sum()))
            size = max(size, np.count_nonzero(P) - (m // 2 + 1), np.count_nonzero(P + Q) - m - 2)
            heavy = min(heavy, P.max() * (m // 2 + 1))
    c.at_most("Radon: laws, disjoint, equal means", fault, 1e-8)
    c.at_most("Radon: atoms beyond floor(m/2) + 1 and m + 2", size, 0)
    c.at_least("Radon: heaviest mass times floor(m/2) + 1", heavy, 1 - 1e-9)
    for m in (1, 3, 6):
        for n in (m + 2, 16):
            T = cosines(twolayer.circle_sites(n, 1.0, norm=2).points, m, rng)
            for i in range(0, n, max(1, n // 5)):
                best = twolayer.separating_site(T, sites=[i])
                fault = max(fault, law_faults(best.P, best.Q, T), best.Q[i])
                # the largest mass with Q_i = 0, found directly
                equal = np.hstack([T.T, -T.T])
                masses = np.kron(np.eye(2), np.ones(n))
                zero = np.zeros(2 * n)
                zero[n + i] = 1
                cost = np.zeros(2 * n)
                cost[i] = -1
                A = np.vstack([equal, masses, zero])
                direct = -linprog(cost, A_eq=A, b_eq=np.r_[np.zeros(m), 1, 1, 0]).fun
                mass = max(mass, abs(best.P[i] - direct))
                dual = max(dual, abs(direct - 2 * sup_distance(np.eye(n)[i], T)))
    c.at_most("duality: mass of the library - direct program", mass, 1e-6)
    c.at_most("duality: direct program - twice the distance", dual, 1e-6)
    # packing, m = 1: more than (1 + 3/eta)^2 points leave a mass of 1 - eta
    short = np.inf
    for eta in (0.3, 0.5, 0.9):
        n = int((1 + 3 / eta) ** 2) + 1
        for T in (rng.standard_normal((n, 1)), np.arange(n)[:, None] ** 2.0, np.ones((n, 1))):
            best = twolayer.separating_site(T, sites=range(n))
            short = min(short, best.P[best.site] - (1 - eta))
    c.at_least("packing: best mass - (1 - eta)", short, 0)
    # sharp for m + 2 points: waves
    angle = 2 * np.pi * np.arange(10) / 10
    waves = np.hstack([f(np.outer(angle, range(1, 5))) for f in (np.cos, np.sin)])
    top = max(twolayer.separating_site(waves, sites=[i]).P[i] for i in range(10))
    c.close("ten sites, eight waves: the best mass is 1/5", top, 0.2, 1e-9)


# ------------------------------------------------------------------------------- theorems


def test_dead_neuron(claim):
    c, rng = claim("thm-dead-neuron"), np.random.default_rng(5)
    fault, shown, other, mismatch, view, over = 0.0, 0.0, 0.0, 0.0, 0.0, -np.inf
    for case, (norm, d) in enumerate(itertools.product(NORMS, (2, 5))):
        eps = (0.1, 1.0)[case % 2]
        s = twolayer.circle_sites(40, eps, d, norm)
        T = (cosines(s.points, 5, rng, eps), steps(s.points, 5, rng))[case % 2]
        best = twolayer.separating_site(T)
        fault = max(fault, law_faults(best.P, best.Q, T))
        tau, bias, y = 0.6, 0.5, np.ones(40)
        net = twolayer.dead_network(s, [best.site], tau, drop=1.0, bias=bias)
        assert net.hidden == (1,)
        views = local_views(net, s.points, 0.59 * eps, norm, rng)
        view = max(view, np.ptp(views, axis=0).max())
        for loss, phi in LOSSES.items():
            G = phi(bias - 1.0) - phi(bias)
            brute = brute_gap(net, s.points, y, eps, norm, phi, rng)
            exact = twolayer.gap(net, s.points, y, eps, norm, loss)
            mismatch = max(mismatch, np.abs(exact - brute).max())
            shown = max(shown, abs(best.P @ brute - best.P[best.site] * G))
            other, over = max(other, abs(best.Q @ brute)), max(over, brute.max() - G)
    c.at_most("laws with equal statistics", fault, 1e-8)
    c.at_most("nearby networks on balls of radius r: spread over the sites", view, 1e-12)
    c.at_most("A(P) = G times the mass of the site, by brute force", shown, 1e-8)
    c.at_most("A(Q), by brute force", other, 1e-8)
    c.at_most("largest pointwise gap - G", over, 1e-8)
    c.at_most("exact gaps of the library - brute force", mismatch, 1e-8)
    # eta -> 0: moments up to order 4, more and more sites
    shares = []
    for n in (30, 60, 120):
        s = twolayer.circle_sites(n, 1.0, norm=2)
        T = twolayer.monomials(s.points / s.levels[0], 4)
        shares.append(twolayer.separating_site(T, sites=[0]).P[0])
    c.at_least("14 moments: share of the gap grows with the sites", np.diff(shares).min(), 0.005)
    c.at_least("14 moments, 120 sites: share of the gap", shares[-1], 0.98)


def test_best_local_penalty(claim):
    c, rng = claim("cor-best-local-penalty"), np.random.default_rng(6)
    excess, below = -np.inf, -np.inf
    for case in range(12):  # upper bound, on random Lipschitz networks
        norm, k = NORMS[case % 3], 1 + case % 4
        W, a = rng.standard_normal((k, 2)), rng.standard_normal(k)
        net = relu.Network((W, a[None]), (rng.standard_normal(k), [0.3]))
        L = sum(abs(t) * np.linalg.norm(w, DUAL[norm]) for t, w in zip(a, W, strict=True))
        X, y = rng.uniform(-2, 2, (30, 2)), rng.choice([-1, 1], 30)
        for r in (0.0, 0.3, 0.7):
            outer = twolayer.gap(net, X, y, 0.8, norm)
            inner = twolayer.gap(net, X, y, 0.8 * r, norm) if r else np.zeros(30)
            excess = max(excess, (outer - inner).max() - L * 0.8 * (1 - r))
            below = max(below, (inner - outer).max())
    c.at_most("a_eps - a_r - L (eps - r)", excess, 1e-9)
    c.at_most("a_r - a_eps", below, 1e-9)
    for norm in NORMS:  # lower bound, approached
        s = twolayer.circle_sites(120, 0.8, norm=norm)
        pair = twolayer.separating_site(twolayer.monomials(s.points / s.levels[0], 2), sites=[0])
        net = twolayer.dead_network(s, [0], 0.505, drop=(1 - 0.505) * 0.8)
        slope = np.linalg.norm(net.weights[0][0], DUAL[norm]) * abs(net.weights[1][0, 0])
        c.close(f"Lipschitz constant of the dead neuron, norm {norm}", slope, 1, 1e-9)
        gaps = twolayer.gap(net, s.points, np.ones(120), 0.8, norm)
        blind = twolayer.gap(net, s.points, np.ones(120), 0.4, norm)
        c.at_most(f"gap of radius r at all sites, norm {norm}", np.abs(blind).max(), 1e-12)
        forced = (pair.P - pair.Q) @ gaps / 2
        c.close(f"forced error, r = eps/2, limit 0.2, norm {norm}", forced, 0.2, 0.003)


def test_radon_network(claim):
    c, rng = claim("thm-radon-network"), np.random.default_rng(7)
    fault, full, nothing, width, partial, view = 0.0, 0.0, 0.0, -np.inf, np.inf, 0.0
    for m, norm in itertools.product((0, 1, 2, 7, 30), NORMS):
        s = twolayer.circle_sites(m + 2, 0.2, norm=norm)
        T = np.zeros((m + 2, 0)) if not m else cosines(s.points, m, rng, 0.2)
        if m == 30 and norm == 2:
            T = steps(s.points, m, rng)
        P, Q = twolayer.radon_weights(T if m else np.zeros((2, 1)))
        fault = max(fault, law_faults(P, Q, T if m else np.zeros((2, 1))))
        on = np.flatnonzero(P)
        width = max(width, len(on) - (m // 2 + 1), np.count_nonzero(P + Q) - m - 2)
        y = np.ones(m + 2)
        net = twolayer.dead_network(s, on, 0.3, drop=2.0, bias=1.0)
        view = max(view, np.ptp(local_views(net, s.points, 0.29 * 0.2, norm, rng), axis=0).max())
        for loss, phi in LOSSES.items():
            G = phi(-1.0) - phi(1.0)
            brute = brute_gap(net, s.points, y, 0.2, norm, phi, rng)
            full, nothing = max(full, abs(P @ brute - G)), max(nothing, abs(Q @ brute))
            exact = twolayer.gap(net, s.points, y, 0.2, norm, loss)
            full = max(full, abs(P @ exact - G))
        for k in range(1, len(on) + 1):
            some = on[np.argsort(-P[on])[:k]]
            fewer = twolayer.dead_network(s, some, 0.3, drop=2.0, bias=1.0)
            share = P @ brute_gap(fewer, s.points, y, 0.2, norm, LOSSES["linear"], rng) / 2
            partial = min(partial, share * (m // 2 + 1) / k)
        radius = np.linalg.norm(s.points[0]) / (s.reach.max() * (m + 2) ** 2 / 8)
        width = max(width, radius - 1 - 1e-9)
    c.at_most("laws with equal statistics", fault, 1e-8)
    c.at_most("width - (m/2 + 1), atoms - (m + 2), radius of the circle", width, 0)
    c.at_most("nearby networks on balls of radius r: spread over the sites", view, 1e-12)
    c.at_most("A(P) - G, brute force and library", full, 1e-8)
    c.at_most("A(Q), brute force", nothing, 1e-8)
    c.at_least("k neurons: share of G times (m/2 + 1) / k", partial, 1 - 1e-9)


def test_injective_statistic(claim):
    c, rng = claim("cor-injective-statistic"), np.random.default_rng(8)
    wrong, view = 0.0, 0.0
    for norm, loss in itertools.product(NORMS, LOSSES):
        phi, N = LOSSES[loss], 6
        s = twolayer.circle_sites(N, 0.5, norm=norm)
        X, y = np.vstack([s.points] * 2), np.repeat([1, -1], N)
        bias, drop = 0.4, 0.9
        G = phi(bias - drop) - phi(bias)
        P = rng.dirichlet(np.ones(2 * N))
        read = []
        for label in (1, -1):
            for i in range(N):
                net = twolayer.dead_network(
                    s, [i], 0.8, drop=drop, sign=-float(label), bias=label * bias
                )
                moves = extreme(2, norm, rng, 200) * 0.5
                moves = np.vstack([moves, np.zeros(2), 0.5 * s.directions[i] * (norm == 2)])
                margins = y[:, None] * by_hand(net, X[:, None] + moves)
                brute = phi(margins).max(axis=1) - phi(y * by_hand(net, X))
                exact = twolayer.gap(net, X, y, 0.5, norm, loss)
                wrong = max(wrong, np.abs(brute - exact).max())
                read.append(P @ brute / G)
                views = local_views(net, s.points, 0.39, norm, rng)
                view = max(view, np.ptp(views, axis=0).max())
        wrong = max(wrong, np.abs(np.array(read) - P).max())
    c.at_most("masses read off the gaps of 2N neurons - true masses", wrong, 1e-9)
    c.at_most("local views: spread over the sites", view, 1e-12)


def test_finite_rank(claim):
    c, rng = claim("cor-finite-rank"), np.random.default_rng(9)
    for norm in NORMS:
        s = twolayer.circle_sites(30, 0.3, norm=norm)
        nets = [twolayer.dead_network(s, [i], 0.5, drop=0.7) for i in range(30)]
        y = np.ones(30)
        rows = [brute_gap(net, s.points, y, 0.3, norm, LOSSES["linear"], rng) for net in nets]
        wrong = np.abs(np.array(rows) - 0.7 * np.eye(30)).max()
        c.at_most(f"gap matrix of 30 neurons - G times the identity, norm {norm}", wrong, 1e-9)
    X, y = rng.standard_normal((40, 3)), rng.choice([-1, 1], 40)
    rows = []
    for _ in range(40):
        w = rng.standard_normal(3)
        moved = (X[:, None] + 0.3 * extreme(3, np.inf, rng)) @ w
        rows.append((-y[:, None] * moved).max(axis=1) + y * (X @ w))
    c.at_most("linear models: rank of the gap matrix", np.linalg.matrix_rank(rows, tol=1e-9), 1)


def test_bounded_sites(claim):
    c, rng = claim("prop-bounded-sites"), np.random.default_rng(10)
    cross, promised, far = -np.inf, [], 0.0
    for d in (16, 32, 64, 100):
        n = int(math.sqrt(2) * math.exp(d / 16))
        s = twolayer.bounded_sites(n, 0.1, d, seed=d)
        signs = np.sign(s.directions)
        assert np.abs(np.abs(s.directions) - np.abs(s.directions[0, 0])).max() == 0
        products = signs @ signs.T - 2 * d * np.eye(n)
        cross, far = max(cross, products.max() / d), max(far, np.abs(s.points).max() / 0.1)
        promised.append(n * (n - 1) / 2 * math.exp(-d / 8))
    c.at_most("largest inner product over d, n = floor(sqrt 2 exp(d/16))", cross, 0.5)
    c.at_most("sites: l_inf distance from the centre over eps", far, 2 + 1e-12)
    c.at_most("union bound", max(promised), 1 - 1e-12)
    # Hoeffding's bound against exact binomial tails: P(sum of d signs > d/2)
    ratio = 0.0
    for d in (8, 16, 32, 64, 100, 200):
        tail = sum(math.comb(d, k) for k in range(d + 1) if 2 * k - d > d / 2) / 2**d
        ratio = max(ratio, tail / math.exp(-d / 8))
    c.at_most("P(s.s' > d/2) over exp(-d/8), exact binomials", ratio, 1)
    # the Radon network, d = 16, brute force over all 65536 corners of the cubes (y f is concave)
    d, eps = 16, 0.1
    s = twolayer.bounded_sites(3, eps, d, seed=1)
    P, Q = twolayer.radon_weights(s.points[:, :1])
    net = twolayer.dead_network(s, np.flatnonzero(P), 0.4)
    corners = eps * extreme(d, np.inf, rng)
    brute = np.array([-by_hand(net, x + corners).min() for x in s.points]) + by_hand(net, s.points)
    c.close("A(P), all corners", P @ brute, 1, 1e-9)
    c.at_most("A(Q), all corners", abs(Q @ brute), 1e-12)
    # d = 64: 75 statistics, gaps by mixed-integer programs
    s = twolayer.bounded_sites(77, 0.08, 64, seed=3)
    T = np.hstack([s.points, cosines(s.points, 11, rng, 0.3)])
    P, Q = twolayer.radon_weights(T)
    c.at_most("77 sites, 75 statistics: laws", law_faults(P, Q, T), 1e-8)
    net = twolayer.dead_network(s, np.flatnonzero(P), 0.5)
    seen = np.flatnonzero(P + Q)
    gaps = np.zeros(77)
    gaps[seen] = twolayer.gap(net, s.points[seen], np.ones(len(seen)), 0.08)
    c.close("77 sites: A(P)", P @ gaps, 1, 1e-6)
    c.at_most("77 sites: A(Q)", abs(Q @ gaps), 1e-6)


# ------------------------------------------------------------------------------- attacks


def minus_score(logits, y):
    return -logits[:, 1]


def ascend(net, start, x, steps=20):
    """Projected gradient ascent with the library's attack, from given starts (l2, radius 1)."""
    ball = attacks.Ball(1.0, norm=2, low=None, high=None)
    y = torch.ones(len(x), dtype=torch.long)
    found = attacks.pgd(torch_score(net), x, y, ball, steps=steps, loss=minus_score, start=start)
    return found.losses.numpy()


def single(v, tau):
    return relu.Network((v[None], [[-1 / (1 - tau)]]), ([-1 - tau], [0.0]))


def test_random_starts(claim):
    c = claim("prop-random-starts")
    worst, bound, wrong = 0.0, -np.inf, 0
    rng = np.random.default_rng(11)
    for d, tau in itertools.product((2, 3, 10, 50), (0.05, 0.2, 0.5, 0.8)):
        e = rng.standard_normal((20000, d))
        e *= (rng.random(20000) ** (1 / d) / np.linalg.norm(e, axis=1))[:, None]
        v = rng.standard_normal(d)
        v /= np.linalg.norm(v)
        cap = betainc((d + 1) / 2, 0.5, 1 - tau**2) / 2
        error = math.sqrt(cap * (1 - cap) / 20000) + 1 / 20000
        worst = max(worst, abs((e @ v > tau).mean() - cap) / error)
        bound = max(bound, cap / (0.5 * (1 - tau**2) ** ((d + 1) / 2)))
        # per start: success if and only if the start lies in the cap
        start = torch.as_tensor(v + e[:500])
        x = torch.as_tensor(np.tile(v, (500, 1)))
        gain = ascend(single(v, tau), start, x)
        inside = e[:500] @ v > tau
        clear = np.abs(e[:500] @ v - tau) > 1e-9
        wrong += np.count_nonzero((gain > 0)[clear] != inside[clear])
    c.at_most("cap volume - Monte Carlo, 20000 points, in standard errors", worst, 4)
    c.at_most("cap over its bound", bound, 1)
    c.at_most("starts (of 8000) where success and cap disagree", wrong, 0)
    # plain gradient steps of any size stay in the cap
    out, v = 0, np.array([0.6, 0.8, 0.0])
    for _ in range(300):
        tau, e = rng.uniform(0, 0.9), rng.standard_normal(3)
        e *= rng.random() / np.linalg.norm(e)
        if e @ v <= tau:
            continue
        for _ in range(20):
            before, e = e @ v, e + rng.exponential(0.5) * v
            e /= max(1, np.linalg.norm(e))
            out += e @ v < before - 1e-12
    c.at_most("steps of random size that lower v.e", out, 0)


def test_blind_attacks(claim):
    c = claim("obs-blind-attacks")
    ball = attacks.Ball(1.0, norm=2, low=None, high=None)
    clean, off, median = 0.0, 0.0, []
    for d, tau in itertools.product((2, 10, 50), (0.1, 0.3, 0.5, 0.7, 0.9)):
        rng = np.random.default_rng(1000 + d)
        v = rng.standard_normal(d)
        v /= np.linalg.norm(v)
        net, x = single(v, tau), torch.as_tensor(np.tile(v, (4000, 1)))
        clean = max(clean, np.abs(ascend(net, x[:1], x[:1])).max())
        start = ball.random(x, torch.Generator().manual_seed(100 * d + int(10 * tau)))
        gain = ascend(net, start, x)
        cap = betainc((d + 1) / 2, 0.5, 1 - tau**2) / 2
        error = math.sqrt(cap * (1 - cap) / 4000) + 1 / 4000
        off = max(off, abs((gain > 0).mean() - cap) / error)
        if (gain > 0).any():
            median.append(np.median(gain[gain > 0]))
    c.at_most("gap reported from the clean point", clean, 0)
    c.at_most("rate of random starts - cap, in standard errors", off, 4)
    c.at_least("median drop of successful starts (full drop 1)", min(median), 0.9)
    c.at_most("d = 3072, tau = 1/2: log10 of the bound", 1536.5 * math.log10(0.75), -190)


# ------------------------------------------------------------------------------- quantifiers


def test_data_sets(claim):
    c, rng = claim("prop-data-sets"), np.random.default_rng(12)
    # 1: the code of four points by two digits, phi = 2^-(s_1!) + 2^-(s_2!), in exact arithmetic
    phi = []
    for first, second in itertools.product((0, 1), repeat=2):
        s1, s2 = 2 + first, 4 + 2 * first + second  # binary 1t_1 and 1t_1t_2
        phi.append(sum(Fraction(1, 2 ** math.factorial(k)) for k in (s1, s2)))
    whole = [int(value * 2 ** math.factorial(7)) for value in phi]
    vanish = 0
    for q in itertools.product(range(-6, 7), repeat=4):
        vanish += sum(a * b for a, b in zip(q, whole, strict=True)) == 0
    c.close("integer combinations of four codes that vanish (the trivial one)", vanish, 1, 0.5)
    codes = set()
    for counts in itertools.combinations_with_replacement((2, 3, 5, 7, 11, 13), 12):
        codes.add(math.prod(counts))
    c.close("data sets of 12 points on 6 sites with different E log p", len(codes), 6188, 0.5)
    # 2: rounding
    ratio, full, nothing = 0.0, 0.0, 0.0
    for m, n in itertools.product((2, 5, 12), (10, 100, 1000)):
        s = twolayer.circle_sites(m + 2, 1.0, norm=2)
        T = cosines(s.points, m, rng)
        P, Q = twolayer.radon_weights(T)
        rounded = []
        for weights in (P, Q):
            counts = np.floor(n * weights + 1e-9)
            counts[weights.argmax()] += n - counts.sum()
            rounded.append(counts / n)
        P2, Q2 = rounded
        assert np.abs(n * P2 - np.round(n * P2)).max() < 1e-9 and abs(P2.sum() - 1) < 1e-12
        net = twolayer.dead_network(s, np.flatnonzero(P), 0.5)
        gaps = brute_gap(net, s.points, np.ones(m + 2), 1.0, 2, LOSSES["linear"], rng)
        full, nothing = max(full, abs(P2 @ gaps - 1)), max(nothing, abs(Q2 @ gaps))
        miss = np.abs((P2 - Q2) @ T).max()
        ratio = max(ratio, miss / (2 * m / n * np.abs(T).max()))
    c.at_most("rounded weights: mismatch over 2 m max|T| / n", ratio, 1)
    c.at_most("rounded weights: A(P') - 1", full, 1e-9)
    c.at_most("rounded weights: A(Q')", nothing, 1e-9)
    # 3: rational statistics, rational weights, in exact arithmetic
    T = [[1] + [int(t) for t in row] for row in rng.integers(-5, 6, (6, 4))]
    mu = null_vector(T)
    miss = max(abs(sum(m * r[k] for m, r in zip(mu, T, strict=True))) for k in range(5))
    c.at_most("exact null vector: mismatch", float(miss), 0)
    c.at_least("exact null vector: largest entry", float(max(abs(m) for m in mu)), 1e-9)


def null_vector(rows):
    """A nonzero rational mu with sum mu_i rows_i = 0, by elimination; one more row than columns."""
    n, k = len(rows), len(rows[0])
    A = [[Fraction(rows[i][j]) for i in range(n)] for j in range(k)]
    pivots, line = [], 0
    for col in range(n):
        pick = next((i for i in range(line, k) if A[i][col] != 0), None)
        if pick is None:
            continue
        A[line], A[pick] = A[pick], A[line]
        A[line] = [entry / A[line][col] for entry in A[line]]
        for i in range(k):
            if i != line and A[i][col] != 0:
                A[i] = [a - A[i][col] * b for a, b in zip(A[i], A[line], strict=True)]
        pivots.append(col)
        line += 1
        if line == k:
            break
    free = next(col for col in range(n) if col not in pivots)
    mu = [Fraction(0)] * n
    mu[free] = Fraction(1)
    for i, col in enumerate(pivots):
        mu[col] = -A[i][free]
    return mu


def test_one_neuron_moments(claim):
    c = claim("prop-one-neuron-moments")
    line = relu.Network(([[1.0]], [[1.0]]), ([0.0], [0.0]))
    worst, least, limit, library = 0.0, np.inf, 0.0, 0.0
    for eps, D, m in itertools.product((0.3, 2.0), (3.0, 30.0, 400.0), (0, 1, 3, 8, 16)):
        alpha = np.append(np.linspace(0, np.pi, 300), 2 * np.arcsin(np.sqrt(eps / D)))
        x = -D * np.sin(alpha / 2) ** 2
        a = twolayer.gap(line, x[:, None], -np.ones(len(x)), eps)
        library = max(library, np.abs(a - np.maximum(x + eps, 0)).max())
        T = np.cos(np.outer(alpha, np.arange(1, m + 1)))  # Chebyshev polynomials of x
        delta = worst_pair(a, T)[0]
        worst = max(worst, delta / min(eps, np.pi * math.sqrt(eps * D) / (m + 1)))
        least = min(least, delta / eps)
    for m in (1, 4, 8):
        D = 1e5
        alpha = np.append(np.linspace(0, np.pi, 400), 2 * np.arcsin(np.sqrt(1 / D)))
        a = np.maximum(1 - D * np.sin(alpha / 2) ** 2, 0)
        limit = max(limit, 1 - worst_pair(a, np.cos(np.outer(alpha, np.arange(1, m + 1))))[0])
    c.at_most("worst pair over its bound", worst, 1 + 1e-6)
    c.at_least("worst pair over eps: never zero", least, 1e-3)
    c.at_most("D = 1e5 eps, up to 8 moments: 1 - discrepancy/eps", limit, 0.01)
    c.at_most("gap on the dead side", library, 1e-12)
