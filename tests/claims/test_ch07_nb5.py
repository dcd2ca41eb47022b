"""Witnesses of chapter 7, notebook 5: swap intervals, their control, collapse, measurements."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linprog

from advreg import experiments, relu, twolayer
from advreg import twolayer_experiments as runs
from advreg.relu import Network

RESULTS = Path(__file__).parents[2] / "chapters" / "07_two_layers" / "results"
NETS = ("standard", "gradient", "adversarial")
torch.set_num_threads(1)


def load(name):
    return runs.load(RESULTS / f"{name}.json")


def ends(result, method):
    return [experiments.column(result, key, method=method) for key in ("lower", "upper")]


def plane_gaps(net, X, y, radius, loss, points=41):
    """Gaps in the l-infinity ball of the plane, from below: a grid, and every kink on its edges."""
    t = np.linspace(-radius, radius, points)
    E = np.stack(np.meshgrid(t, t), axis=-1).reshape(-1, 2)
    W, b, a = net.weights[0], net.biases[0], net.weights[1][0]
    found = []
    for x, label in zip(X, y, strict=True):
        more = [E]
        u = W @ x + b
        for i in range(2):  # where a neuron's line meets an edge
            for side in (-radius, radius):
                other = -(u + W[:, i] * side) / W[:, 1 - i]
                points_ = np.empty((len(other), 2))
                points_[:, i], points_[:, 1 - i] = side, np.clip(other, -radius, radius)
                more.append(points_)
        for j, k in combinations(range(len(b)), 2):  # where two lines meet
            if abs(np.linalg.det(W[[j, k]])) > 1e-9:
                e = np.linalg.solve(W[[j, k]], -u[[j, k]])
                if np.abs(e).max() <= radius:
                    more.append(e[None])
        e = np.vstack(more)
        scores = np.maximum((x + e) @ W.T + b, 0) @ a + net.biases[1][0]
        clean = np.maximum(u, 0) @ a + net.biases[1][0]
        found.append(loss(label * scores).max() - loss(label * clean))
    return np.array(found)


def logistic(t):
    return np.logaddexp(0, -t)


# ------------------------------------------------------------------------------ swap interval


def vertices(T, q):
    """All vertices of {p >= 0, sum p = 1, p T = q T}, by trying supports."""
    n, m = T.shape
    B, c = np.vstack([np.ones(n), T.T]), np.append(1.0, q @ T)
    found = []
    for size in range(1, m + 2):
        for support in combinations(range(n), size):
            columns = B[:, support]
            if np.linalg.matrix_rank(columns) < size:
                continue
            p = np.linalg.lstsq(columns, c, rcond=None)[0]
            if (p >= -1e-12).all() and np.abs(columns @ p - c).max() < 1e-10:
                full = np.zeros(n)
                full[list(support)] = p
                found.append(full)
    return np.array(found)


def test_swap_interval(claim):
    c = claim("prop-swap-interval")
    rng = np.random.default_rng(7501)
    ends_, atoms, agree, half, dual, factor = [], 0, [], [], [], []
    inside = narrower = wider = -np.inf
    for trial in range(12):
        n, m = 8, 1 + trial % 3
        T, a = rng.normal(size=(n, m)), rng.exponential(size=n)
        q = rng.dirichlet(np.ones(n))
        if trial % 4 == 1:  # ties, zero gaps, a reference without full support
            T, a[:3], q = np.round(T), 0.0, np.append(rng.dirichlet(np.ones(n - 3)), np.zeros(3))
        if trial % 4 == 2:  # equal points, dependent statistics
            T[1], a[1], T[:, -1] = T[0], a[0], 2 * T[:, 0] - 1
        found = twolayer.swap_interval(a, T, q)
        values = vertices(T, q) @ a
        ends_ += [found.lower - values.min(), found.upper - values.max()]
        for p in (found.weights_lower, found.weights_upper):
            atoms = max(atoms, (p > 1e-10).sum() - m - 1)
            agree.append(np.abs(np.append(p.sum() - 1, (p - q) @ T)).max())
        agree += [abs(found.weights_lower @ a - found.lower), -min(found.weights_upper.min(), 0.0)]
        inside = max(inside, found.lower - q @ a, q @ a - found.upper)
        # part 2: the worst error of a rule, over all laws that share the statistics
        L, U = found.lower, found.upper
        worst = np.abs(values[:, None] - rng.uniform(L - 1, U + 1, 50)).max(axis=0)
        half += [(U - L) / 2 - worst.min(), np.abs(values - (L + U) / 2).max() - (U - L) / 2]
        if L > 1e-6:
            rules = np.exp(rng.uniform(np.log(L) - 1, np.log(U) + 1, 50))
            worst = np.abs(np.log(values[:, None] / rules)).max(axis=0)
            factor += [math.log(U / L) / 2 - worst.min()]
            factor += [np.abs(np.log(values / math.sqrt(L * U))).max() - math.log(U / L) / 2]
        # part 3: the least affine function of the statistics above all gaps
        rows = -np.column_stack([np.ones(n), T])
        above = linprog(np.append(1.0, q @ T), rows, -a, bounds=(None, None))
        below = linprog(-np.append(1.0, q @ T), -rows, a, bounds=(None, None))
        dual += [above.fun - U, -below.fun - L]
        # part 4: one more statistic, two more points
        more = twolayer.swap_interval(a, np.column_stack([T, rng.normal(size=n)]), q)
        narrower = max(narrower, L - more.lower, more.upper - U)
        larger = twolayer.swap_interval(
            np.append(a, rng.exponential(size=2)),
            np.vstack([T, rng.normal(size=(2, m))]),
            np.append(q, [0, 0]),
        )
        wider = max(wider, larger.lower - L, U - larger.upper)
    c.close("ends against all vertices", np.abs(ends_).max(), 0.0, 1e-8)
    c.at_most("reference law outside", inside, 1e-9)
    c.at_most("atoms beyond m + 1", atoms, 0)
    c.at_most("statistics, masses and values of the two laws", max(agree), 1e-8)
    c.at_most(
        "half the width above the worst error of a rule, or below the midpoint's", max(half), 1e-8
    )
    c.at_most("the same for factors", max(factor), 1e-7)
    c.close("ends against affine bounds", np.abs(dual).max(), 0.0, 1e-7)
    c.at_most("more statistics make it wider", narrower, 1e-9)
    c.at_most("more points make it narrower", wider, 1e-9)
    # by hand: gaps 0, 1, 4 at T = 0, 1, 2, reference at the middle
    by_hand = twolayer.swap_interval([0.0, 1, 4], [[0.0], [1], [2]], [0.0, 1, 0])
    c.close("by hand, lower end", by_hand.lower, 1.0, 1e-10)
    c.close("by hand, upper end", by_hand.upper, 2.0, 1e-10)


def binned_interval(g, t, which, q):
    """The program with masses and means of bins, stated bin by bin."""
    low = high = 0.0
    for bin_ in np.unique(which):
        on = which == bin_
        if not q[on].sum():
            continue
        A = np.vstack([np.ones(on.sum()), t[on]])
        for sign in (1, -1):
            value = sign * linprog(sign * g[on], A_eq=A, b_eq=A @ q[on]).fun
            low, high = (low + value, high) if sign == 1 else (low, high + value)
    return low, high


def test_linear_control(claim):
    c = claim("prop-linear-control")
    rng = np.random.default_rng(7502)
    above, agree, best, constant = -np.inf, 0.0, 0.0, 0.0
    for trial in range(6):
        X, y = rng.normal(size=(60, 3)), rng.choice([-1.0, 1.0], 60)
        net = Network((2 * rng.normal(size=(1, 3)),), (rng.normal(size=1),))
        scores, radius = relu.evaluate(net, X)[:, 0], rng.uniform(0.1, 1.0)
        norm = (1, 2, np.inf)[trial % 3]
        q = rng.dirichlet(np.ones(60))
        T = twolayer.margin_bins(scores, y, 3)
        found = twolayer.swap_interval(twolayer.gap(net, X, y, radius, norm, "logistic"), T, q)
        which = np.argmax(T[:, ::2], axis=1)
        drop = radius * np.linalg.norm(net.weights[0][0], {1: np.inf, 2: 2, np.inf: 1}[norm])
        g = logistic(y * scores - drop) - logistic(y * scores)
        bound = 0.0
        for bin_ in range(T.shape[1] // 2):
            on = which == bin_
            bound += 0.25 / 8 * q[on].sum() * np.ptp(scores[on]) ** 2
        low, high = binned_interval(g, y * scores, which, q)
        agree = max(agree, abs(low - found.lower), abs(high - found.upper))
        above, best = max(above, high - low - bound), max(best, (high - low) / bound)
        flat = twolayer.swap_interval(twolayer.gap(net, X, y, radius, norm), T[:, :1], q)
        constant = max(constant, flat.upper - flat.lower)
    c.at_most("width above the bound", above, 1e-9)
    c.at_least("largest width, in multiples of the bound", best, 0.02)
    c.at_most("interval against the programs of single bins", agree, 1e-7)
    c.at_most("linear loss: width", constant, 1e-10)
    # the constant is attained: curvature kappa on the whole bin, the reference in its middle
    kappa, h = 3.0, 0.7
    t = np.array([0.0, h / 2, h])
    net = Network((np.array([[1.0]]),), (np.zeros(1),))
    gaps = twolayer.gap(
        net, t[:, None], np.ones(3), 1.2, loss=lambda m: kappa / 2 * np.minimum(m, 0) ** 2
    )
    found = twolayer.swap_interval(gaps, twolayer.margin_bins(t, np.ones(3), 1), [0.0, 1, 0])
    c.close(
        "equality, in multiples of kappa h^2 / 8",
        (found.upper - found.lower) * 8 / kappa / h**2,
        1.0,
        1e-9,
    )


# ------------------------------------------------------------------------------ collapse


def least_risk(Phi, y, loss="logistic"):
    """Smallest mean over data of the largest loss over strategies; Phi (n, s, k)."""
    n, _, k = Phi.shape

    def risk(ac):
        margins = y[:, None] * (Phi @ ac[:k] + ac[k])
        worst = margins.argmin(axis=1)
        m = margins[np.arange(n), worst]
        if loss == "logistic":
            values, pull = logistic(m), -y / (1 + np.exp(m)) / n
        else:
            values, pull = np.exp(-m), -y * np.exp(-m) / n
        return values.mean(), np.append(pull @ Phi[np.arange(n), worst], pull.sum())

    p = (y > 0).mean()
    base = np.append(np.zeros(k), math.log(p / (1 - p)) * (1 if loss == "logistic" else 0.5))
    best, center = risk(base)[0], base
    for step in (1.0, 0.3, 0.1, 0.03, 0.01):  # subgradients, with restarts at the best point
        x = center.copy()
        for i in range(400):
            value, g = risk(x)
            if value < best:
                best, center = value, x.copy()
            x = x - step / math.sqrt(1 + i) * g / max(np.linalg.norm(g), 1e-12)
    return best


def test_collapse(claim):
    c = claim("prop-collapse")
    rng = np.random.default_rng(7503)
    wrong = hull = order = 0
    tested = {"free": 0, "collapse": 0}
    for trial in range(5):
        n, k = 12, 2 + trial % 2
        y = np.where(rng.random(n) < (0.5, 0.7)[trial % 2], 1.0, -1.0)
        y[:2] = 1, -1
        X = rng.normal(size=(n, 2)) + 0.7 * y[:, None]
        W, b = rng.normal(size=(k, 2)), rng.normal(size=k)
        p = (y > 0).mean()
        constant = -p * math.log(p) - (1 - p) * math.log(1 - p)
        s = np.where(y > 0, 1 - p, p)
        seen = []
        for radius in (0.1, 0.5, 1.0, 1.6, 3.0):
            t = np.linspace(-radius, radius, 31)
            E = np.stack(np.meshgrid(t, t), -1).reshape(-1, 2)
            Phi = np.maximum((X[:, None] + E) @ W.T + b, 0)
            answer = runs.collapse(W, b, X, y, radius)
            risk = least_risk(Phi, y)
            exponential = least_risk(Phi, y, "exponential") / (2 * math.sqrt(p * (1 - p)))
            # 1 against 2: the grid has fewer strategies, so a smaller least risk
            if answer.status == "collapse":
                hull += not in_hull(answer.cuts)
                wrong += risk < constant - 2e-3
                wrong += exponential < 1 - 4e-3
            else:
                worst = np.max(
                    np.einsum("nsk,k->ns", G0(Phi, s, y), answer.direction), axis=1
                ).sum()
                wrong += not (worst < 0 and risk < constant - 1e-7 and exponential < 1 - 1e-7)
            seen.append(answer.status)
            tested[answer.status] += 1
        order += seen != sorted(seen, reverse=True)
    c.at_most("answers that the risk contradicts", int(wrong), 0)
    c.at_most("collapse without 0 in the hull", int(hull), 0)
    c.at_most("collapse undone by a larger radius", int(order), 0)
    c.at_least("cases of each kind", min(tested.values()), 5)
    # identity features: relu(x + 9) - 9; the radius of chapter 3
    y = np.where(rng.random(30) < 0.6, 1.0, -1.0)
    X = rng.normal(size=(30, 2)) + np.outer(y, [0.5, -0.2])
    p = (y > 0).mean()
    s = np.where(y > 0, 1 - p, p)
    critical = np.abs(np.mean((s * y)[:, None] * X, axis=0)).max() / s.mean()
    before = runs.collapse(np.eye(2), np.full(2, 9.0), X, y, 0.98 * critical).status
    after = runs.collapse(np.eye(2), np.full(2, 9.0), X, y, 1.02 * critical).status
    right = (before, after) == ("free", "collapse")
    c.at_least("identity features: free below the radius, collapse above", int(right), 1)


def G0(Phi, s, y):
    return -(s * y)[:, None, None] * Phi / len(y)


def in_hull(vectors):
    """Whether 0 is a convex combination of the rows."""
    n = len(vectors)
    size = np.abs(vectors).max()
    rows = np.vstack([vectors.T / size, np.ones(n)])
    return (
        linprog(np.zeros(n), A_eq=rows, b_eq=np.append(np.zeros(vectors.shape[1]), 1)).status == 0
    )


# ------------------------------------------------------------------------------ measured


def r2(target, predicted):
    return 1 - np.mean((target - predicted) ** 2) / np.var(target)


def left_out(Z, target):
    """Predictions by quadratic ridge regression, every fifth network left out in turn."""
    Z = (Z - Z.mean(0)) / Z.std(0)
    i, j = np.triu_indices(Z.shape[1])
    F = np.hstack([Z, Z[:, i] * Z[:, j]])
    F = (F - F.mean(0)) / F.std(0)
    guess = np.empty_like(target)
    for fold in range(5):
        out = np.arange(len(target)) % 5 == fold
        A, t = F[~out], target[~out]
        beta = np.linalg.solve(A.T @ A + 3.0 * np.eye(A.shape[1]), A.T @ (t - t.mean()))
        guess[out] = F[out] @ beta + t.mean()
    return guess


def test_regression_fails(claim):
    c = claim("obs-regression-fails")
    rows = load("regression")["rows"]
    Z = np.log([[v + 1e-12 for v in row["penalties"].values()] for row in rows])
    P, Q = (np.log([row[f"gap_{law}"] for row in rows]) for law in "pq")
    path = np.log([row["penalties"]["path_inf"] for row in rows])
    guess, by_path = left_out(Z, P), left_out(path[:, None], P)
    c.at_least("R^2, sixteen penalties, P", r2(P, guess), 0.85)
    c.at_least("R^2, path norm, P", r2(P, by_path), 0.8)
    c.at_least("R^2 of the same predictions, Q", r2(Q, guess), 0.8)
    ratio = np.exp(Q - P)
    c.at_most("smallest A(Q) / A(P)", ratio.min(), 1.0)
    c.at_least("largest A(Q) / A(P)", ratio.max(), 2.0)
    c.at_least("median A(Q) / A(P)", np.median(ratio), 1.15)
    near = np.abs(path - np.median(path)) <= math.log(2)
    c.at_least("networks of similar scale", near.sum(), 51)
    c.at_most("R^2 for these", r2(P[near], guess[near]), 0.6)
    errors = np.abs(P - guess)
    c.at_most(
        "their median error over that of all", np.median(errors[near]) / np.median(errors), 1.0
    )
    # other networks, and gaps by another program
    slope, level = np.polyfit(path, P, 1)
    others = [row for seed in (900, 901) for row in runs._regression(seed, None, None)]
    theirs = np.log([row["penalties"]["path_inf"] for row in others])
    for law in "pq":
        target = np.log([row[f"gap_{law}"] for row in others])
        c.at_least(
            f"R^2 for 20 other networks, {law.upper()}", r2(target, slope * theirs + level), 0.75
        )
    X, y = runs.moons(9000, 100)
    recipe = runs.drawn_recipe(900, 0)
    net = runs.fit(X, y, recipe, 9000)
    points, labels = runs.moons(1000, 400)
    twin = runs.gaussian_twin(points, labels, np.random.default_rng(1000))
    for law, at in (("p", points), ("q", twin)):
        value = plane_gaps(net, at, labels, runs.PLANE_RADIUS, logistic, 5).mean()
        c.close(
            f"one gap again, from a list of corners, {law.upper()}",
            others[0][f"gap_{law}"] / value,
            1.0,
            1e-6,
        )
    differ = max(
        np.abs(np.cov(twin[labels == k].T) - np.cov(points[labels == k].T)).max()
        + np.abs(twin[labels == k].mean(0) - points[labels == k].mean(0)).max()
        for k in (-1, 1)
    )
    c.at_most("class means and covariances of Q and P differ by", differ, 1e-12)


def test_swap_plane(claim):
    c = claim("obs-swap-plane")
    result = load("plane")
    low, high = (
        np.array([ends(result, m)[i] for m in NETS]) for i in (0, 1)
    )  # methods, seeds, rungs
    lo, hi = ends(result, "linear")
    c.at_most("degree 4: largest lower end", low[:, :, 4].max(), 0.77)
    c.at_least("degree 4: smallest upper end", high[:, :, 4].min(), 1.34)
    c.at_most("degree 4: linear", max(1 - lo[:, 4].min(), hi[:, 4].max() - 1), 0.02)
    c.at_most("8 bins: largest lower end", low[:, :, 5].max(), 0.89)
    c.at_least("8 bins: smallest upper end", high[:, :, 5].min(), 1.08)
    c.at_most("8 bins: linear", max(1 - lo[:, 5].min(), hi[:, 5].max() - 1), 0.01)
    c.at_most("8 bins: medians, lower", np.median(low[:, :, 5], axis=1).max(), 0.79)
    c.at_least("8 bins: medians, upper", np.median(high[:, :, 5], axis=1).min(), 1.3)
    ratio = (high - low)[:, :, 5] / (hi - lo)[:, 5]
    c.at_least("8 bins: width over that of the control", ratio.min(), 70)
    c.at_most("local: medians, lower", np.median(low[:, :, 6], axis=1).max(), 0.93)
    c.at_least("local: medians, upper", np.median(high[:, :, 6], axis=1).min(), 1.09)
    near = ((high - low)[:, :, 6] <= 0.3).sum()
    c.at_least("local: half the width at most 0.15, networks", near, 21)
    c.at_least("64 bins: smallest width", (high - low)[:, :, 9].min(), 0.03)
    # again, with gaps from a list of corners and another statement of the program
    X, y = runs.moons(902, 200)
    pool, labels = runs.moons(903, 600)
    found = {}
    for name in ("linear", "standard"):
        net = runs.fit(X, y, runs.PLANE[name], 902)
        scores = relu.evaluate(net, pool)[:, 0]
        if name == "linear":
            drop = runs.PLANE_RADIUS * np.abs(net.weights[0]).sum()
            gaps = logistic(labels * scores - drop) - logistic(labels * scores)
        else:
            gaps = plane_gaps(net, pool, labels, runs.PLANE_RADIUS, logistic, 5)
        powers = [pool[:, 0] ** i * pool[:, 1] ** j for i in range(5) for j in range(5 - i)]
        T = np.array([p * (labels == k) for p in powers for k in (-1, 1)])
        edges = {k: np.quantile(scores[labels == k], np.arange(1, 8) / 8) for k in (-1, 1)}
        bins = [
            (labels == k) & (np.searchsorted(edges[k], scores, "right") == i)
            for k in (-1, 1)
            for i in range(8)
        ]
        finer = np.vstack([T, bins, np.array(bins) * scores])
        for rung, B in (("4", T), ("8 bins", finer)):
            B = B / np.abs(B).max(axis=1, keepdims=True)
            both = [
                s * linprog(s * gaps, A_eq=B, b_eq=B.mean(1)).fun / gaps.mean() for s in (1, -1)
            ]
            found[name, rung] = both
    c.at_most("another network, degree 4, lower", found["standard", "4"][0], 0.77)
    c.at_least("another network, degree 4, upper", found["standard", "4"][1], 1.34)
    c.at_most("another network, 8 bins, lower", found["standard", "8 bins"][0], 0.89)
    c.at_least("another network, 8 bins, upper", found["standard", "8 bins"][1], 1.08)
    c.close(
        "another control, degree 4", max(np.abs(np.subtract(found["linear", "4"], 1))), 0.0, 0.02
    )
    c.close(
        "another control, 8 bins", max(np.abs(np.subtract(found["linear", "8 bins"], 1))), 0.0, 0.01
    )


def test_swap_digits(claim):
    c = claim("obs-swap-digits")
    result = load("digits")
    low, high = (np.array([ends(result, m)[i] for m in NETS]) for i in (0, 1))
    lo, hi = ends(result, "linear")
    c.at_most("10 bins: largest lower end", low[:, :, 2].max(), 0.81)
    c.at_least("10 bins: smallest upper end", high[:, :, 2].min(), 1.19)
    c.at_most("10 bins: linear", max(1 - lo[:, 2].min(), hi[:, 2].max() - 1), 0.01)
    c.at_most("local: largest lower end", low[:, :, 3].max(), 0.93)
    c.at_least("local: smallest upper end", high[:, :, 3].min(), 1.10)
    ratio = (high - low)[:, :, 3] / (hi - lo)[:, 3]
    c.at_least("local: width over that of the control", ratio.min(), 15)
    c.at_most("local: medians, lower", np.median(low[:, :, 3], axis=1).max(), 0.85)
    c.at_least("local: medians, upper", np.median(high[:, :, 3], axis=1).min(), 1.13)
    widest = np.argmax(high[2, :, 3])
    c.at_most("local: the widest, lower", low[2, widest, 3], 0.69)
    c.at_least("local: the widest, upper", high[2, widest, 3], 1.84)
    actual = np.array([experiments.column(result, "actual", method=m) for m in ("linear", *NETS)])
    factor = actual[:3] / actual[3]
    c.at_least("actual gap of the others over adversarial, smallest", factor.min(), 7)
    c.at_most("actual gap of the others over adversarial, largest", factor.max(), 54)
    c.at_least("40 bins: smallest width", (high - low)[:, :, 5].min(), 0.1)
    c.at_most("40 bins: linear", (hi - lo)[:, 5].max(), 0.002)
    share, found = (
        np.array([experiments.column(result, key, method=m) for m in NETS])
        for key in ("share", "attack")
    )
    c.at_least("drop over path bound, smallest", share.min(), 0.14)
    c.at_most("drop over path bound, largest", share.max(), 0.46)
    c.at_least("share found by the attack, smallest", found.min(), 0.81)
    c.at_most("share found by the attack, largest", found.max(), 0.98)
    X, y, pool, labels = runs.digits_task(900)
    net = runs.fit(X, y, runs.DIGITS["gradient"], 900)
    leading = runs.principal_scores(pool, 10)
    worst = twolayer.worst_cases(net, pool, labels, runs.DIGITS_RADIUS)
    margins = labels * relu.evaluate(net, pool)[:, 0]
    at_points = labels * relu.evaluate(net, worst.points)[:, 0]
    gaps = logistic(at_points) - logistic(margins)
    open_ = np.abs(worst.upper - (margins - at_points)).max()
    outside = max(np.abs(worst.points - pool).max() - runs.DIGITS_RADIUS, 0)
    c.close("drops are attained in the balls, and proved", open_ + outside, 0.0, 1e-6)
    T = runs.ladder(net, pool, labels, leading, runs.DIGITS_RADIUS, [runs.DIGITS_RUNGS[2]])[0]
    B = np.vstack([np.ones(len(T)), T.T / np.abs(T).max(axis=0)[:, None]])
    both = [s * linprog(s * gaps, A_eq=B, b_eq=B.mean(1)).fun / gaps.mean() for s in (1, -1)]
    c.at_most("another network, lower", both[0], 0.81)
    c.at_least("another network, upper", both[1], 1.19)


def test_partial_freezing(claim):
    c = claim("obs-partial-freezing")
    result = load("freezing")

    def numbers(method, key):
        return experiments.column(result, key, method=method)

    status = {
        source: [r["collapse"] for r in result["rows"] if r["method"] == f"hidden-{source}"]
        for source in runs.SOURCES
    }
    at = result["radii"].index
    for source, free, collapsed in (("random", 0.02, 0.04), ("standard", 0.04, 0.08)):
        count = sum(s[at(free)] == "free" for s in status[source])
        c.at_least(f"{source}: free at {free}", count, 4)
        count = sum(s[at(collapsed)] == s[at(0.08)] == "collapse" for s in status[source])
        c.at_least(f"{source}: collapse at {collapsed} and 0.08", count, 4)
        c.at_most(f"W {source}: accuracy", numbers(f"hidden-{source}", "clean").max(), 0.7)
        c.at_most(f"W {source}: robust", numbers(f"hidden-{source}", "robust").max(), 0.52)
    trained = [state for s in status["adversarial"] for state in s]
    c.at_least("adversarial: free, seeds times radii", trained.count("free"), 24)
    c.at_least("W adversarial: robust", numbers("hidden-adversarial", "robust").min(), 0.77)
    everything, some = numbers("adversarial", "robust"), numbers("output-random", "robust")
    c.at_least("all weights: robust", everything.min(), 0.77)
    c.at_least("a random: robust", some.min(), 0.76)
    c.at_most("a random: robust accuracy lost", (everything - some).max(), 0.06)
    c.at_least("a standard: robust, smallest", numbers("output-standard", "robust").min(), 0.57)
    c.at_most("a standard: robust, largest", numbers("output-standard", "robust").max(), 0.82)
    robust = [numbers(f"output-{source}", "robust") for source in ("standard", "random")]
    c.at_least("a standard worse than random, seeds", (robust[0] < robust[1]).sum(), 3)
    size = [numbers(f"output-{source}", "output") for source in ("standard", "random")]
    c.at_least("largest entry of a, standard over random", (size[0] / size[1]).min(), 4)
    flat = max(numbers(f"hidden-{source}", "spread").max() for source in ("random", "standard"))
    c.at_most("W random or standard: spread of the scores", flat, 0.04)
    c.at_most("robust accuracy, standard training", numbers("standard", "robust").max(), 0.1)
    # random features of another seed: 0 in the hull, by strategies that are listed here
    X, y, *_ = runs.digits_task(900)
    net = runs.fit(X, y, runs.Recipe(epochs=0), 900)
    W, b = net.weights[0], net.biases[0]
    s = np.where(y > 0, 1 - (y > 0).mean(), (y > 0).mean())
    vectors, v, far = [], np.zeros(16), 0.0
    for _ in range(150):
        z = X.copy()
        for _ in range(12):
            g = -y[:, None] * (((z @ W.T + b > 0) * v) @ W)
            z = np.clip(z + 0.02 * np.sign(g), X - 0.08, X + 0.08)
        far = max(far, np.abs(z - X).max())
        vectors.append(-np.mean((s * y)[:, None] * np.maximum(z @ W.T + b, 0), axis=0))
        if in_hull(np.array(vectors)):
            break
        rows = np.column_stack([np.array(vectors), -np.ones(len(vectors))])
        box = [(-1, 1)] * 16 + [(None, None)]
        v = linprog(np.append(np.zeros(16), 1.0), rows, np.zeros(len(vectors)), bounds=box).x[:16]
    c.at_most("strategies leave the balls by", far - 0.08, 1e-12)
    c.at_least("0 is in the hull of their vectors", int(in_hull(np.array(vectors))), 1)
    net = runs.fit(X, y, runs.FREEZING["hidden-random"], 900, start=net, frozen="hidden")
    accuracy = (y * relu.evaluate(net, X)[:, 0] > 0).mean()
    c.at_most("trained on them: training accuracy", accuracy, 0.6)
