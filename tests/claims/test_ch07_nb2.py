"""Witnesses of chapter 7, notebook 2: generic networks, every activation, networks that escape."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.special import erf
from sklearn.datasets import make_moons

from advreg import networks, relu, twolayer

NORMS = (1, 2, np.inf)
DUAL = {1: np.inf, 2: 2, np.inf: 1}


# ------------------------------------------------------------------------------- oracles


def random_network(k, d, rng):
    W, b, a = rng.standard_normal((k, d)), rng.standard_normal(k), rng.standard_normal(k)
    return W, b, a


def score(theta, x):
    W, b, a = theta
    return np.maximum(x @ W.T + b, 0) @ a


def as_network(theta):
    W, b, a = theta
    return relu.Network((W, a[None]), (b, [0.0]))


def far_points(theta, i, turn, level):
    """Points of score `level` far out, on rays just beside the kink of neuron i, or None."""
    W, b, a = theta
    u = turn - W[i] * (turn @ W[i]) / (W[i] @ W[i])
    found = []
    for side in (-1, 1):
        v = u + 1e-3 * side * W[i]
        on = W @ v > 0
        slope, offset = (on * a) @ (W @ v), (on * a) @ b
        if slope * level <= 0:
            return None
        found.append((level - offset) / slope * v)
    return np.array(found)


def ball(norm, d, rng, n=400):
    """Points of the unit ball: its extreme points, or a dense sphere, and points inside."""
    if norm == 1:
        rim = np.vstack([np.eye(d), -np.eye(d)])
    elif norm == np.inf:
        rim = np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    elif d == 2:
        t = np.linspace(0, 2 * np.pi, 2 * n + 1)
        rim = np.column_stack([np.cos(t), np.sin(t)])
    else:
        rim = rng.standard_normal((n, d))
        rim /= np.linalg.norm(rim, axis=1)[:, None]
    return rim


def brute(f, x, radius, norm, steps=160):
    """(drop, rise) of f in the ball around x in the plane, on a dense grid of the ball."""
    t = np.linspace(-1, 1, steps + 1)
    grid = np.stack(np.meshgrid(t, t), axis=-1).reshape(-1, 2)
    size = np.linalg.norm(grid, norm, axis=1)
    rim = grid[size > 0] / size[size > 0, None]
    e = radius * np.vstack([grid[size <= 1], rim])
    values = f(x + e)
    return f(x[None])[0] - values.min(), values.max() - f(x[None])[0]


def preimages(h, value, grid):
    """Points of the line where the piecewise affine h (all kinks in the grid) takes a value."""
    v = h(grid) - value
    hits = [t for t, w in zip(grid, v, strict=True) if w == 0]
    for s, t, p, q in zip(grid[:-1], grid[1:], v[:-1], v[1:], strict=True):
        if p * q < 0:
            hits.append(s + (t - s) * p / (p - q))
    return np.array(hits)


def line_spread(h, kinks, radius, values=60, rng=None):
    """Largest difference of drops, or rises, at points of the line with one value."""
    grid = np.sort(np.unique(np.concatenate([kinks, [-40.0, 40.0]])))
    inner = rng.uniform(kinks.min() - 3, kinks.max() + 3, values)
    worst = 0.0
    for value in np.concatenate([h(inner), h(np.asarray(kinks))]):
        hits = preimages(h, value, grid)
        # flat pieces: all their points
        flat = [
            np.linspace(s, t, 9)
            for s, t in itertools.pairwise(grid)
            if abs(h(np.array([s]))[0] - value) + abs(h(np.array([t]))[0] - value) < 1e-12
        ]
        hits = np.concatenate([hits, *flat])
        hits = hits[np.abs(hits) < 30]
        if len(hits) < 2:
            continue
        near = [np.concatenate([[t - radius, t + radius], kinks[np.abs(kinks - t) < radius]]) for t in hits]  # fmt: skip # noqa: E501
        low = np.array([h(n).min() for n in near])
        high = np.array([h(n).max() for n in near])
        worst = max(worst, np.ptp(low), np.ptp(high))
    return worst


def escapes(slopes, kinks):
    """(E0), (E1) or (E2), read off the slopes of the pieces of h between its kinks."""
    s = np.asarray(slopes)
    if (s == 0).all() or (s > 0).all() or (s < 0).all():
        return True
    turns = np.flatnonzero(s[:-1] * s[1:] <= 0)
    if (s == 0).any() or len(turns) != 1:
        return False
    t0 = kinks[turns[0]]
    left = [(t0 - t, -v) for t, v in zip(kinks[: turns[0]][::-1], s[: turns[0]][::-1], strict=True)]
    right = [(t - t0, v) for t, v in zip(kinks[turns[0] + 1 :], s[turns[0] + 2 :], strict=True)]
    return -s[turns[0]] == s[turns[0] + 1] and left == right


# -------------------------------------------------------------------------------- generic nets


def test_generic_relu(claim):
    c, rng = claim("thm-generic-relu"), np.random.default_rng(1)
    differ, cases, score_error, closed = 0, 0, 0.0, 0.0
    for case in range(150):
        d, k, norm = 2 + case % 3, 2 + case % 6, NORMS[case // 3 % 3]
        theta = random_network(k, d, rng)
        W, b, a = theta
        radius, best = (0.1, 1.0)[case % 2], 0.0
        for i, j in itertools.permutations(range(k), 2):
            pair = far_points(theta, i, W[j], (1e7, -1e7)[(case + i) % 2])
            if pair is None:
                continue
            y = -np.sign(score(theta, pair[:1])[0])
            e = radius * ball(norm, d, rng)
            moved = y * score(theta, pair[:, None] + e)  # affine in the ball: its rim is enough
            drop = y * score(theta, pair) - moved.min(axis=1)
            g = ((pair @ W.T + b > 0) * a) @ W
            slope = np.linalg.norm(g, DUAL[norm], axis=1) * radius
            size = np.abs(pair).max()  # rounding grows with it
            # Euclidean norm: the rim is sampled, and misses the minimum by a little
            error = np.abs(drop - slope) if norm != 2 else drop - slope
            closed = max(closed, error.max() / size)
            score_error = max(score_error, abs(np.diff(score(theta, pair))[0]) / 1e7)
            best = max(best, abs(np.diff(slope)[0]) / slope.max())
        if best > 0:
            cases += 1
            differ += best > 1e-3
    c.at_least("networks for which far points of one score were found", cases, 140)
    c.close("share of them whose drops differ by 0.1 %", differ / cases, 1.0, 1e-12)
    c.at_most("relative difference of the scores", score_error, 1e-12)
    c.at_most("|drop on the rim - eps ||grad||_*| / |x|", closed, 1e-13)
    # width one: all active points have one gradient; one input: monotone networks escape
    W, b, a = random_network(1, 2, rng)
    x = rng.uniform(-5, 5, (200, 2))
    live = np.abs(x @ W.T + b)[:, 0] > np.linalg.norm(W)
    drop = np.array([brute(lambda z: score((W, b, a), z), p, 0.5, 2)[1] for p in x[live][:40]])
    alive = score((W, b, a), x[live][:40]) != 0
    c.at_most("one neuron: spread of the drops of live kink-free points", np.ptp(drop[alive]), 1e-3)


def test_generic_smooth(claim):
    c, rng = claim("thm-generic-smooth"), np.random.default_rng(2)
    pdf = lambda t: np.exp(-t * t / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    acts = {
        "tanh": (np.tanh, lambda t: 1 - np.tanh(t) ** 2, 0.7699),
        "softplus": (lambda t: np.logaddexp(0, t), lambda t: 1 / (1 + np.exp(-t)), 0.25),
        "sine": (np.sin, np.cos, 1.0),
        "square": (np.square, lambda t: 2 * t, 2.0),
        "GELU": (
            lambda t: t * (1 + erf(t / np.sqrt(2))) / 2,
            lambda t: (1 + erf(t / np.sqrt(2))) / 2 + t * pdf(t),
            1.13,
        ),
    }
    for name, (s, ds, bound) in acts.items():
        found, margin = 0, np.inf
        for case in range(18):
            norm, k = NORMS[case % 3], 2 + case % 4
            W, b, a = random_network(k, 2, rng)
            f = lambda x: s(x @ W.T + b) @ a  # noqa: B023, E731
            curvature = np.linalg.norm(W, DUAL[norm], axis=1) ** 2
            beta = bound * np.sum(np.abs(a) * curvature)
            best = (0.0, None)
            for _ in range(12):
                x, p, q = rng.standard_normal((3, 2))
                if (f(p) - f(x)) * (f(q) - f(x)) >= 0:
                    continue
                for _ in range(70):
                    mid = (p + q) / 2
                    if (f(p) - f(x)) * (f(mid) - f(x)) > 0:
                        p = mid
                    else:
                        q = mid
                g = np.array([ds(z @ W.T + b) * a @ W for z in (x, p)])
                split = abs(np.diff(np.linalg.norm(g, DUAL[norm], axis=1))[0])
                if split > best[0]:
                    best = (split, (x, p))
            if best[1] is None:
                continue
            radius = 0.8 * best[0] / beta
            drops = np.array([brute(f, z, radius, norm, 60) for z in best[1]])
            taylor = (1 - 0.8) * best[0] * radius  # what Taylor's formula leaves
            margin = min(margin, (np.abs(np.diff(drops, axis=0)) / taylor).min())
            found += 1
        c.at_least(f"{name}: networks with two points of one score, of 18", found, 12)
        c.at_least(f"{name}: difference of brute-force drops / guaranteed one", margin, 0.97)
    # the minor of the proof, by finite differences; and the exception of round level sets
    worst = 0.0
    for _, ds, _ in acts.values():
        for _ in range(20):
            x, a, h = rng.standard_normal(2), rng.standard_normal(), 1e-5
            grad = lambda z: np.array([ds(z[0]), a * ds(z[1])])  # noqa: B023, E731
            square = lambda z: np.sum(grad(z) ** 2)  # noqa: B023, E731
            steep = [(square(x + h * e) - square(x - h * e)) / (2 * h) for e in np.eye(2)]
            second = [(ds(t + h) - ds(t - h)) / (2 * h) for t in x]
            minor = 2 * a * ds(x[0]) * ds(x[1]) * (a * second[1] - second[0])
            worst = max(worst, abs(grad(x)[0] * steep[1] - grad(x)[1] * steep[0] - minor))
    c.at_most("minor, finite differences - formula", worst, 1e-6)
    turn = np.linspace(0, 2 * np.pi, 30)
    ring = 1.3 * np.column_stack([np.cos(turn), np.sin(turn)])
    bowl = [brute(lambda z: np.sum(z**2, axis=-1), p, 0.4, 2) for p in ring]
    c.at_most("x1^2 + x2^2 escapes: spread of its drops", np.ptp(bowl, axis=0).max(), 1e-3)


def test_every_activation(claim):
    c, rng = claim("thm-every-activation"), np.random.default_rng(3)
    eps, move = 0.5, np.linspace(-0.5, 0.5, 401)
    units = {
        "tanh": np.tanh,
        "relu": lambda t: np.maximum(t, 0),
        "square": np.square,
        "sine": np.sin,
        "logistic": lambda t: 1 / (1 + np.exp(-t)),
    }
    sites = 3.7 * np.arange(-8, 9)
    T = rng.standard_normal((len(sites), 6))  # any statistics of the sites
    V = np.column_stack([np.ones(len(sites)), T])
    for name, F in units.items():
        rows = []
        for b in sites:
            f = lambda x: F(x[..., 0] - b) - F(x[..., 1] - b)  # noqa: B023, E731
            x = np.column_stack([sites, sites])
            assert np.abs(f(x)).max() == 0
            e = np.stack(np.meshgrid(move[::8], move[::8]), axis=-1).reshape(-1, 2)
            rows.append(-f(x[:, None] + e).min(axis=1))
        G = np.array(rows)
        s = np.linalg.svd(G, compute_uv=False)
        rank = int((s > 1e-7 * s[0]).sum())
        c.close(f"{name}, width 2: dimensions spanned at 17 sites", rank, 17, 0.5)
        best = 0.0
        for a in G:  # P, Q with equal means of T and different gaps
            A = np.vstack([np.hstack([V.T, -V.T]), np.kron(np.eye(2), np.ones(len(a)))])
            right = np.r_[np.zeros(V.shape[1]), 1, 1]
            best = max(best, -linprog(np.r_[-a, a], A_eq=A, b_eq=right).fun)
        c.at_least(f"{name}: largest A(P) - A(Q), six statistics", best, 0.05)
    # other norms, monotone activation: drop at (t, t) by brute force tends to 0, positive at 0
    for norm in (1, 2):
        wave = lambda x: np.tanh(x[..., 0]) - np.tanh(x[..., 1])  # noqa: E731
        at = [brute(wave, np.array([t, t]), eps, norm, 60)[0] for t in (0.0, 12.0)]
        c.at_least(f"norm {norm}, tanh: drop at 0", at[0], 0.3)
        c.at_most(f"norm {norm}, tanh: drop at 12", at[1], 1e-9)
    # polynomials: differences lead to a square; its gap, for three norms, is even, convex, kinked
    cubic = lambda t: t**3 - t  # noqa: E731
    t = rng.standard_normal(50)
    lead = np.polyfit(t, cubic(t + 1) - cubic(t), 2)
    c.at_least("first difference of a cubic: leading coefficient", lead[0], 2.99)
    s = np.linspace(-2, 2, 41)
    for norm in NORMS:
        saddle = lambda x: x[..., 0] ** 2 - x[..., 1] ** 2  # noqa: E731
        h = np.array([brute(saddle, np.array([v, v]), eps, norm, 60)[0] for v in s])
        c.at_most(f"norm {norm}, square: |h(s) - h(-s)|", np.abs(h - h[::-1]).max(), 1e-12)
        c.at_least(f"norm {norm}, square: least second difference", np.diff(h, 2).min(), -1e-3)
        c.at_least(f"norm {norm}, square: rise from 0 to 2", h[-1] - h[20], 1.0)
    saddle_max = [(abs(v) + eps) ** 2 - max(abs(v) - eps, 0) ** 2 for v in s]
    c.at_most("maximum norm: h = oscillation of the square", np.abs(h - saddle_max).max(), 1e-12)
    # continuous, not a polynomial, no monotone: a least-squares sine network that climbs once
    t = np.linspace(-4, 4, 801)
    omega, phase = rng.uniform(0, 12, 150), rng.uniform(0, 2 * np.pi, 150)
    climb = np.clip(t / eps, 0, 1)
    A = np.sin(np.outer(t, omega) + phase)
    fit = A @ np.linalg.lstsq(A, climb, rcond=1e-10)[0]
    error = np.abs(fit - climb).max()
    windows = [fit[np.abs(t - site) <= eps + 1e-9] for site in (-3.0, -1.5, 0.0, 1.5, 3.0)]
    gaps = np.array([np.ptp(w) for w in windows])
    c.at_most("sine network: |drops - (0,0,1,0,0)| - 2 x error", np.abs(gaps - [0, 0, 1, 0, 0]).max() - 2 * error, 1e-12)  # fmt: skip # noqa: E501
    c.at_most("sine network: error of the approximation", error, 0.1)


# ------------------------------------------------------------------------------------- escapes


def test_escape(claim):
    c, rng = claim("thm-escape"), np.random.default_rng(4)
    # the line: integer networks, their shape read off the slopes, against brute force
    counts, wrong = {True: 0, False: 0}, 0
    zero, positive = 0.0, np.inf
    for _ in range(280):
        n = int(rng.integers(1, 5))
        kinks = np.sort(rng.choice(np.arange(-6, 7), n, replace=False)).astype(float)
        slopes = rng.integers(-2, 3, n + 1)
        if rng.random() < 0.4:  # symmetric about the middle, so that (E2) occurs
            kinks = np.concatenate([-kinks[kinks > 0][::-1], [0.0], kinks[kinks > 0]])
            half = rng.integers(1, 3, len(kinks) // 2 + 1)
            slopes = np.concatenate([-half[::-1], half])
            if rng.random() < 0.3:
                slopes[-1] += 1
        if (np.diff(slopes) == 0).any():  # not a kink
            keep = np.flatnonzero(np.diff(slopes) != 0)
            kinks, slopes = kinks[keep], slopes[np.append(keep, keep[-1] + 1 if len(keep) else 0)]
            if not len(kinks):
                continue
        h = lambda t: slopes[0] * t + np.maximum(t[..., None] - kinks, 0) @ np.diff(slopes)  # noqa: B023, E731
        spread = max(line_spread(h, kinks, r, rng=rng) for r in (0.1, 0.3))
        expected = escapes(slopes, kinks)
        counts[expected] += 1
        if expected:
            zero = max(zero, spread)
        else:
            positive = min(positive, spread)
        wrong += expected != (spread < 1e-9)
    c.close("line: networks misjudged by (E0) - (E2)", wrong, 0, 0.5)
    c.at_most("line: spread of those that escape", zero, 1e-9)
    c.at_least("line: spread of the others", positive, 0.02)
    c.at_least("line: networks of each kind", min(counts.values()), 40)
    # the plane: dense balls around points of one level set
    turn = np.array([np.cos(0.4), np.sin(0.4)])
    ridge = lambda s, t: lambda x: s * np.maximum(x @ turn, 0) + t * np.maximum(-x @ turn, 0)  # noqa: E731
    shapes = {
        "leaky": (ridge(1.0, -0.3), True),
        "V": (ridge(1.0, 1.0), True),
        "asymmetric V": (ridge(1.0, 0.4), False),
        "max": (lambda x: x.max(axis=-1), False),
        "1-norm": (lambda x: np.abs(x).sum(axis=-1), False),
        "corner": (lambda x: x[..., 0] + 2 * np.maximum(x[..., 1], 0), False),
    }
    for name, (f, expected) in shapes.items():
        worst = 0.0
        for _ in range(4):
            level = f(rng.uniform(-1, 1, (1, 2)))[0]
            rays = rng.uniform(-2, 2, (300, 2, 2))  # bisection on random segments
            p, q = rays[:, 0], rays[:, 1]
            ok = (f(p) - level) * (f(q) - level) < 0
            if not ok.any():  # a level near the bottom
                continue
            p, q = p[ok], q[ok]
            for _ in range(60):
                mid = (p + q) / 2
                left = ((f(p) - level) * (f(mid) - level) > 0)[:, None]
                p, q = np.where(left, mid, p), np.where(left, q, mid)
            drops = np.array([brute(f, x, 0.3, 2, 60) for x in p[:60]])
            worst = max(worst, np.ptp(drops, axis=0).max())
        if expected:
            c.at_most(f"{name}: spread on level sets (sampled disc)", worst, 3e-3)
        else:
            c.at_least(f"{name}: spread on level sets", worst, 0.02)
    # the round part of the dilated corner is no level set: values of f on it
    arc = np.linspace(np.pi, 1.5 * np.pi, 20)[1:-1]  # around the quadrant {x1 > 0, x2 > 0}
    gamma = 0.2 * np.column_stack([np.cos(arc), np.sin(arc)])
    least = lambda x: x.min(axis=-1)  # noqa: E731
    c.at_least("min(x1, x2): variation of f on the round arc", np.ptp(least(gamma)), 0.05)
    grown = [brute(least, x, 0.2, 2, 120)[1] + least(x[None])[0] for x in gamma]
    c.at_most("min(x1, x2): its maximum over the disc is 0 on the arc", np.abs(grown).max(), 2e-3)


def test_escape_norms(claim):
    c, rng = claim("prop-escape-norms"), np.random.default_rng(5)
    for norm in NORMS:
        worst = 0.0
        for _ in range(30):
            x0, x = rng.standard_normal((2, 2))
            r = np.linalg.norm(x - x0, norm)
            H = lambda t: np.tanh(t) + 0.1 * t**3  # noqa: E731
            f = lambda z: H(np.linalg.norm(z - x0, norm, axis=-1))  # noqa: B023, E731
            drop, rise = brute(f, x, 0.5, norm, 100)
            worst = max(worst, abs(H(r) - drop - H(max(r - 0.5, 0))))
            worst = max(worst, abs(H(r) + rise - H(r + 0.5)))
        c.at_most(f"H(norm {norm}): brute force - H(r +- eps)", worst, 0.02)
    corners = 0.4 * np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=3)))
    topical = {
        "max": lambda x: x.max(axis=-1),
        "median": lambda x: np.median(x, axis=-1),
        "soft maximum": lambda x: np.log(np.exp(x).sum(axis=-1)),
    }
    for name, g in topical.items():
        worst = 0.0
        for x in rng.standard_normal((40, 3)):
            inside = rng.uniform(-0.4, 0.4, (300, 3))
            values = g(x + np.vstack([corners, inside])) - g(x)
            worst = max(worst, abs(values.max() - 0.4), abs(values.min() + 0.4))
        c.at_most(f"{name}, maximum norm: |drops - eps|", worst, 1e-12)
    # the networks of the text, by the library (exact) and by brute force
    cross = relu.Network((np.vstack([np.eye(2), -np.eye(2)]), np.ones((1, 4))), (np.zeros(4), [0.0]))  # fmt: skip # noqa: E501
    tip = relu.Network((np.array([[1, 0], [-1, 0], [-1, 1.0]]), np.array([[1, -1, 1.0]])), (np.zeros(3), [0.0]))  # fmt: skip # noqa: E501
    X = rng.uniform(-2, 2, (60, 2))
    c.at_most("relu form of the 1-norm", np.abs(relu.evaluate(cross, X)[:, 0] - np.abs(X).sum(axis=1)).max(), 1e-12)  # fmt: skip # noqa: E501
    c.at_most("relu form of max", np.abs(relu.evaluate(tip, X)[:, 0] - X.max(axis=1)).max(), 1e-12)
    rise = twolayer.worst_drop(cross, X, -np.ones(60), 0.3, 1)
    drop = twolayer.worst_drop(cross, X, np.ones(60), 0.3, 1)
    c.at_most("1-norm under its attack: rise", np.abs(rise - 0.3).max(), 1e-12)
    short = np.minimum(np.abs(X).sum(axis=1), 0.3)
    c.at_most("1-norm under its attack: drop = min(r, eps)", np.abs(drop - short).max(), 1e-12)
    both = [np.abs(twolayer.worst_drop(tip, X, np.full(60, y), 0.3) - 0.3).max() for y in (1, -1)]
    c.at_most("max under the maximum norm: both drops = eps", max(both), 1e-12)
    # the Euclidean attack, small and large radii: two points of one score
    for radius in (0.3, 30.0):
        scale = radius / 0.3
        pair = scale * np.array([[0.0, 0.0], [0.0, -10.0]])
        split = np.ptp(twolayer.worst_drop(tip, pair, np.ones(2), radius, 2)) / scale
        c.close(f"max, Euclidean, {radius}: drops differ", split, 0.3 * (1 - 0.5**0.5), 1e-12)
        pair = scale * np.array([[1.0, 0.0], [0.5, 0.5]])
        split = np.ptp(twolayer.worst_drop(cross, pair, np.ones(2), radius, 2)) / scale
        c.close(f"1-norm, Euclidean, {radius}: drops differ", split, 0.3 * (2**0.5 - 1), 1e-12)


# -------------------------------------------------------------------------------- measured


def test_generic_networks(claim):
    c = claim("obs-generic-networks")
    medians = {}
    for k in (2, 8, 64):
        ratios = []
        for seed in range(60):
            W, _, a = random_network(k, 2, np.random.default_rng([900 + k, seed]))
            t = np.linspace(0, 2 * np.pi, 4001)[:-1]  # a dense circle of directions, far out
            v = np.column_stack([np.cos(t), np.sin(t)])
            g = ((v @ W.T > 0) * a) @ W
            slope, size = np.sum(g * v, axis=1), np.linalg.norm(g, axis=1)
            sides = [size[s] for s in (slope > 1e-6, slope < -1e-6) if s.any()]
            ratios.append(max(s.max() / s.min() for s in sides))
        medians[k] = np.median(ratios)
        c.at_least(f"width {k}: least ratio of 60 networks", min(ratios), 1.02)
    c.at_least("median ratio, width 2", medians[2], 2.0)
    c.at_least("median ratio, width 64 / median ratio, width 2", medians[64] / medians[2], 1.2)


def test_level_sets(claim):
    c = claim("obs-level-sets")
    for how in ("clean", "adversarial"):
        ratios = []
        for seed in (20, 21, 22):
            X, labels = make_moons(120, noise=0.1, random_state=seed)
            X = (X - X.mean(axis=0)) / X.std(axis=0)
            y = 2.0 * labels - 1
            generator = torch.Generator().manual_seed(seed)
            model = networks.mlp((2, 16, 1), init="torch", generator=generator, dtype=torch.float64)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
            for _ in range(200):
                Z = X
                if how == "adversarial":
                    Z = twolayer.worst_cases(relu.from_torch(model), X, y, 0.3).points
                loss = torch.nn.functional.softplus(
                    -torch.as_tensor(y) * model(torch.as_tensor(Z))[:, 0]
                ).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            net = relu.from_torch(model)
            f = lambda x: relu.evaluate(net, x)[:, 0]  # noqa: B023, E731
            # the decision boundary by bisection, drops by a dense grid of the box
            half = np.abs(X).max()
            rng = np.random.default_rng(seed)
            p, q = rng.uniform(-half, half, (2, 250, 2))
            ok = f(p) * f(q) < 0
            p, q = p[ok], q[ok]
            for _ in range(50):
                mid = (p + q) / 2
                left = (f(p) * f(mid) > 0)[:, None]
                p, q = np.where(left, mid, p), np.where(left, q, mid)
            drops = [brute(f, x, 0.3, np.inf, 30)[0] for x in p]
            ratios.append(max(drops) / min(drops))
        c.at_least(f"{how}: least ratio of the drops on the boundary, 3 networks", min(ratios), 1.5)
