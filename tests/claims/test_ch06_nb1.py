"""Witnesses of chapter 6, notebook 1: Wasserstein balls, growth form, duality, knapsack."""

from __future__ import annotations

import itertools

import numpy as np
import ot
from scipy import sparse
from scipy.optimize import linprog, minimize_scalar

from advreg import linear, wdro

ORDERS = (1, 1.5, 2, 3)
NORMS = (1, 2, np.inf)

# ------------------------------------------------------------------------------- oracles


def program(losses, distances, radius, p, vertex=False):
    """Best transport plan between n samples and m points, by HiGHS; nothing about growth."""
    n, m = distances.shape
    reachable = np.isfinite(distances)
    if p == np.inf:
        cost, budget = (distances > radius).astype(float), 0.0
    else:
        cost, budget = np.where(reachable, distances, 0.0) ** p / n, radius**p
    bounds = [(0, None if ok else 0) for ok in reachable.ravel()]
    rows = sparse.kron(sparse.eye(n), np.ones((1, m)))
    found = linprog(
        -losses.ravel() / n,
        cost.reshape(1, -1),
        [budget],
        rows,
        np.ones(n),
        bounds,
        method="highs-ds" if vertex else "highs",
    )
    assert found.status == 0
    return -found.fun, found.x.reshape(n, m), -found.ineqlin.marginals[0]


def problem(rng, case, n=4, m=60):
    """Labelled samples in the plane, points that contain them, any losses, one label cost."""
    norm, kappa = NORMS[case % 3], (np.inf, 0.3, 3.0)[case // 3 % 3]
    X, y = rng.uniform(-1, 1, (n, 2)), rng.integers(0, 2, n)
    if case % 4 == 3:
        X[1], y[1] = X[0], y[0]  # a repeated sample
    P = np.vstack([X, X, rng.uniform(-2, 2, (m, 2))])
    label = np.concatenate([y, 1 - y, rng.integers(0, 2, m)])
    gap = np.linalg.norm(P - X[:, None], norm, axis=2)
    flip = np.where(label == y[:, None], 0.0, kappa)
    values = rng.standard_normal(2 * n + m)
    if case % 5 == 4:
        values = np.round(values)  # ties
    return gap + flip, values, values[:n]


def gains(distances, values, home):
    """What wdro.allocate wants: rows (distance, gain) of the points that can be reached."""
    lists = []
    for d, start in zip(distances, home, strict=True):
        ok = np.isfinite(d)
        lists.append(np.column_stack([d[ok], values[ok] - start]))
    return lists


def distance_of_plan(distances, plan, p):
    """Order p of the distances that a plan moves mass, each sample of mass 1/n."""
    mass, far = plan[plan > 1e-12] / len(plan), distances[plan > 1e-12]
    return far.max() if p == np.inf else np.sum(mass * far**p) ** (1 / p)


def on_the_line(P, Q, p):
    """W_p of two uniform distributions with equally many atoms on the line: sort them."""
    d = np.abs(np.sort(P) - np.sort(Q))
    return d.max() if p == np.inf else np.mean(d**p) ** (1 / p)


def wave(x):
    return np.sin(2 * x) + 0.3 * x + (x > 1)


# ------------------------------------------------------------------- order infinity, orders


def test_infinite_order(claim):
    c, rng = claim("thm-infinite-order"), np.random.default_rng(1)
    gap = 0.0
    for case in range(45):
        distances, values, _ = problem(rng, case)
        for radius in (0.0, 0.2, 0.5):
            growth = np.mean([values[d <= radius].max() for d in distances])
            tiled = np.tile(values, (len(distances), 1))
            gap = max(gap, abs(program(tiled, distances, radius, np.inf)[0] - growth))
    c.at_most("mean growth = best plan (HiGHS), 135 cases with labels", gap, 1e-9)
    # any distribution within W_inf <= radius: growth over an interval, by dense sampling
    excess, reached = -np.inf, -np.inf
    for _ in range(300):
        x, move = rng.uniform(-3, 3, 6), rng.uniform(-0.7, 0.7, 6)
        moved = rng.permutation(x + move)
        radius = on_the_line(x, moved, np.inf)
        dense = np.linspace(-1, 1, 4001)
        growth = wave(x[:, None] + radius * dense).max(axis=1).mean()
        excess = max(excess, wave(moved).mean() - growth)
        best = x + radius * dense[wave(x[:, None] + radius * dense).argmax(axis=1)]
        reached = max(reached, on_the_line(x, best, np.inf) - radius)
    c.at_most("random distributions, W_inf by sorting: loss - mean growth", excess, 1e-2)
    c.at_most("the pointwise attack stays in the ball: W_inf - radius", reached, 1e-12)
    # linear models: the closed form of chapter 3
    X, y, w = rng.standard_normal((8, 3)), np.sign(rng.standard_normal(8)), rng.standard_normal(3)
    worst = 0.0
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    sphere = np.vstack([rng.standard_normal((200, 3)), w, -w])
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    ends = {1: np.vstack([np.eye(3), -np.eye(3)]), 2: sphere, np.inf: corners}
    for norm, radius in itertools.product(NORMS, (0.1, 0.8)):
        moved = X + radius * ends[norm][:, None]
        loss = np.maximum(1 - y * (moved @ w), 0).max(axis=0).mean()
        exact = linear.adversarial_risk(w, 0.0, X, y, radius, norm, "hinge")
        worst = max(worst, abs(loss - exact))
    c.at_most("linear hinge: sampled growth against the closed form", worst, 1e-9)
    # from radius kappa on, labels may be rewritten: one sample, right at 0, wrong label costs 0.3
    for radius, target in ((0.29, 0.0), (0.3, 1.0)):
        value = program(np.array([[0.0, 1.0]]), np.array([[0.0, 0.3]]), radius, np.inf)[0]
        c.close(f"label cost 0.3, radius {radius}: error rate", value, target, 1e-12)


def test_order_monotone(claim):
    c, rng = claim("prop-order-monotone"), np.random.default_rng(2)
    drop, clean, radii = np.inf, np.inf, np.inf
    for case in range(24):
        distances, values, home = problem(rng, case)
        tiled = np.tile(values, (len(distances), 1))
        table = np.array(
            [
                [program(tiled, distances, r, p)[0] for p in (np.inf, 3, 2, 1.5, 1)]
                for r in (0.1, 0.4, 1.0)
            ]
        )
        drop, radii = min(drop, np.diff(table).min()), min(radii, np.diff(table, axis=0).min())
        clean = min(clean, table.min() - home.mean())
    c.at_least("values rise as the order falls (HiGHS), least step", drop, -1e-9)
    c.at_least("values rise with the radius, least step", radii, -1e-9)
    c.at_least("values are at least the clean risk", clean, -1e-9)
    # the distances themselves, by a second library
    least = np.inf
    for norm in ("cityblock", "euclidean", "chebyshev"):
        for _ in range(20):
            P, Q = rng.standard_normal((5, 2)), rng.standard_normal((7, 2))
            mass = rng.dirichlet(np.ones(7))
            D = ot.dist(P, Q, metric=norm)
            order = [ot.emd2(np.full(5, 0.2), mass, D**p) ** (1 / p) for p in (1, 1.5, 2, 4, 8)]
            kind = {"cityblock": 1, "euclidean": 2, "chebyshev": np.inf}[norm]
            order.append(wdro.wasserstein(P, Q, np.inf, kind, Q_mass=mass))
            least = min(least, np.diff(order).min())
    c.at_least("W_p by POT, p = 1, 1.5, 2, 4, 8, inf: least step", least, -1e-9)


# ------------------------------------------------------------------------------- growth form


def test_hull_mixture(claim):
    c, rng = claim("lem-hull-mixture"), np.random.default_rng(3)
    worst = 0.0
    for _ in range(60):
        cost = np.append(0, np.sort(rng.uniform(0, 3, 25)))
        growth = np.maximum.accumulate(np.append(0, rng.standard_normal(25).cumsum()))
        for s in rng.uniform(0, 3.5, 4):
            mix = linprog(-growth, cost[None], [s], np.ones((1, 26)), [1.0], method="highs")
            # least concave majorant: least a + b s over the affine majorants
            above = linprog(
                [1, s],
                np.column_stack([-np.ones(26), -cost]),
                -growth,
                bounds=[(None, None), (0, None)],
                method="highs",
            )
            worst = max(worst, abs(-mix.fun - above.fun))
            value = wdro.curve([np.column_stack([cost, growth])], [s], 1)[0]
            worst = max(worst, abs(value - above.fun))
    c.at_most("best mixture = least affine majorant = library's hull, 240 cases", worst, 1e-9)
    # growth that is attained nowhere: mixtures come near, 0 at cost 1 and 1 beyond
    step, near = np.array([[0.0, 0.0, 1.0]]), []
    for t in (1e-1, 1e-3, 1e-6):
        near.append(program(step, np.array([[0.0, 1.0, 1 + t]]), 0.5, 1)[0])
    assert near == sorted(near)
    assert max(near) < 0.5
    c.close("jump behind cost 1, s = 0.5: supremum of the mixtures", max(near), 0.5, 1e-6)


def test_growth_form(claim):
    c, rng = claim("thm-growth-form"), np.random.default_rng(4)
    gap, order, concave = 0.0, np.inf, -np.inf
    for case in range(45):
        distances, values, home = problem(rng, case)
        tiled, lists = np.tile(values, (len(home), 1)), gains(distances, values, home)
        for p, radius in itertools.product(ORDERS, (0.0, 0.15, 0.6)):
            value = home.mean() + wdro.allocate(lists, radius, p).value
            best = program(tiled, distances, radius, p)[0]
            gap = max(gap, abs(value - best))
        # the four corners of the table: neither, split, share, both
        p, radius = ORDERS[case % 4], 0.3
        neither = program(tiled, distances, radius, np.inf)[0]
        split = np.mean([program(values[None], d[None], radius, p)[0] for d in distances])
        both = program(tiled, distances, radius, p)[0]
        few = [np.flatnonzero(d <= 4 ** (1 / p) * radius) for d in distances]
        share = max(
            values[list(ends)].mean()
            for ends in itertools.product(
                *(_frontier(d, values, k) for d, k in zip(distances, few, strict=True))
            )
            if np.mean([d[k] ** p for d, k in zip(distances, ends, strict=True)]) <= radius**p
        )
        chain = [split - neither, share - neither, both - split, both - share]
        order = min(order, *chain)
        budgets = np.linspace(0.01, 1, 6)
        along = [program(tiled, distances, b ** (1 / p), p)[0] for b in budgets]
        concave = max(concave, np.diff(along, 2).max())
    c.at_most("hull and allocation = best plan (HiGHS), 540 cases", gap, 1e-9)
    c.at_least("neither <= split, share <= both: least step (share by enumeration)", order, -1e-9)
    c.at_most("concave in the budget: largest second difference", concave, 1e-8)
    # closed forms of the running example, from its definition on a line with both sides
    x = np.unique(np.append(np.linspace(-10, 12, 4401), [0.0, 0.4, 1.6]))
    h = np.maximum(x, 0) - 2 * np.maximum(-x, 0) + 3 * np.maximum(x - 1, 0)
    h -= 3 * np.maximum(x - 4, 0)
    for p, radius, target in (
        (1, 2, 6.5),
        (1, 4, 13),
        (1, 10, 19),
        (2, 0.3, 0.3),
        (2, 1, 1.45),
        (2, 1.6, 3.4),
        (2, 5, 14),
        (np.inf, 3, 9),
    ):
        best = program(h[None], np.abs(x)[None], radius, p)[0]
        c.close(f"running example, order {p}, radius {radius}", best, target, 2e-5)
    # finite if and only if the loss grows at most like distance^p: l(x) = |x|^1.5
    for p, ratio in ((1, 10.0), (1.5, 1.0), (2, 1.0)):
        near, far = (
            program((x**1.5)[None], x[None], 0.5, p)[0]
            for x in (np.append(0.5, np.geomspace(0.01, reach, 2001)) for reach in (1e2, 1e4))
        )
        c.close(f"|x|^1.5, order {p}: support 100 times wider, ratio", far / near, ratio, 1e-2)


def _frontier(distance, values, some):
    """Of the points `some` those that no nearer one equals or beats."""
    order, kept, best = some[np.argsort(distance[some], kind="stable")], [], -np.inf
    for k in order:
        if values[k] > best:
            kept.append(k)
            best = values[k]
    return kept


# ------------------------------------------------------------------------------- dual


def test_wdro_duality(claim):
    c, rng = claim("cor-wdro-duality"), np.random.default_rng(5)
    gap, slack, price, free = 0.0, np.inf, 0.0, 0
    for case in range(45):
        distances, values, home = problem(rng, case)
        tiled, n = np.tile(values, (len(home), 1)), len(home)
        for p, radius in itertools.product((1, 2, 3), (0.15, 0.6)):
            best, _, marginal = program(tiled, distances, radius, p)

            def suprema(multiplier, distances=distances, values=values, p=p):
                ok = np.isfinite(distances)
                cost = np.where(ok, distances, 0.0) ** p
                return np.where(ok, values - multiplier * cost, -np.inf).max(axis=1).mean()

            def dual(m, radius=radius, p=p, suprema=suprema):
                return m * radius**p + suprema(m)

            top = 2 * np.ptp(values) * n / radius**p  # beyond it the dual only rises
            found = minimize_scalar(
                dual, bounds=(0, top), options={"xatol": 1e-13 * top}, method="bounded"
            )
            least = min(found.fun, dual(0.0), wdro.dual_value(suprema, radius, p).value)
            gap = max(gap, abs(least - best))
            slack = min(slack, *(dual(m) - best for m in top * rng.uniform(0, 1, 20) ** 4))
            # the multiplier is a tangent: two more programs bracket it
            step = 1e-4 * radius**p
            up = program(tiled, distances, (radius**p + step) ** (1 / p), p)[0]
            down = program(tiled, distances, (radius**p - step) ** (1 / p), p)[0]
            right, left = (up - best) / step, (best - down) / step
            tolerance = 1e-5 * (1 + left)
            price = max(price, right - marginal - tolerance, marginal - left - tolerance)
            mine = wdro.dual_value(suprema, radius, p).multiplier
            price = max(price, right - mine - tolerance, mine - left - tolerance)
            free += marginal == 0
    c.at_most("least dual value = best plan, 270 cases", gap, 1e-8)
    c.at_least("every multiplier bounds from above: least slack", slack, -1e-9)
    c.at_most("multipliers lie between the one-sided slopes: excess", price, 0.0)
    c.at_least("degenerate cases with multiplier 0 among them", free, 1)
    # radius 0: a sample on the boundary of an open set of errors
    t = np.append(0, np.logspace(-14, 1, 4000))
    bound = min((np.where(t > 0, 1.0, 0.0) - m * t).max() for m in (0, 1, 1e3, 1e6))
    c.close("radius 0, boundary sample: dual value", bound, 1.0, 1e-6)
    at_zero = program(np.where(t > 0, 1.0, 0.0)[None], t[None] + (t > 0), 0.0, 1)[0]
    c.close("radius 0, boundary sample: primal value", at_zero, 0.0, 1e-12)


# ------------------------------------------------------------------------------- worst cases


def test_sparse_worst_case(claim):
    c, rng = claim("prop-sparse-worst-case"), np.random.default_rng(6)
    atoms, splits, gap, excess, audit, vertices = -9, -9, 0.0, -np.inf, -np.inf, -9
    for case in range(45):
        distances, values, home = problem(rng, case)
        lists, n = gains(distances, values, home), len(home)
        rows = [np.flatnonzero(np.isfinite(d)) for d in distances]
        for p, radius in itertools.product((1, 2), (0.15, 0.4)):
            best, plan, _ = program(np.tile(values, (n, 1)), distances, radius, p, vertex=True)
            vertices = max(vertices, np.count_nonzero(plan > 1e-10) - n)
            worst = wdro.allocate(lists, radius, p).atoms
            atoms = max(atoms, len(worst.mass) - n)
            splits = max(splits, np.bincount(worst.sample).max())
            built = np.zeros_like(distances)
            for i, k, mass in zip(worst.sample, worst.point, worst.mass, strict=True):
                built[i, rows[i][k] if k >= 0 else i] += n * mass
            gap = max(gap, abs((built @ values).mean() - best))
            used = np.where(np.isfinite(distances), distances, 0)
            excess = max(excess, distance_of_plan(used, built, p) - radius)
    c.at_most("constructed worst distribution: atoms beyond n", atoms, 1)
    c.at_most("points that one sample is split between", splits, 2)
    c.at_most("its mean loss = best plan (HiGHS), 180 cases", gap, 1e-9)
    c.at_most("its cost: excess over the radius", excess, 1e-9)
    c.at_most("vertices of the linear program: atoms beyond n", vertices, 1)
    # POT's distance of the constructed distribution, on the line
    grid = np.linspace(-4, 4, 801)
    for _ in range(20):
        x = grid[rng.integers(0, 801, 5)]
        lists = [np.column_stack([np.abs(grid - a), wave(grid) - wave(a)]) for a in x]
        for p in (1, 2):
            worst = wdro.allocate(lists, 0.4, p).atoms
            to = np.where(worst.point < 0, x[worst.sample], grid[worst.point])
            D = np.abs(x[:, None] - to) ** p
            mass = worst.mass / worst.mass.sum()
            audit = max(audit, ot.emd2(np.full(5, 0.2), mass, D) ** (1 / p) - 0.4)
    c.at_most("W_p by POT: excess over the radius", audit, 1e-7)
    # without compactness no worst distribution: sqrt(1 + x^2) - 1, order 1, sample at 0
    last = 0.0
    for reach in (10, 100, 1000):
        x = np.linspace(0, reach, 2001)
        value = program((np.hypot(1, x) - 1)[None], x[None], 0.5, 1)[0]
        assert last < value < 0.5
        last = value
    c.close("escaping mass: value on ever wider supports tends to", last, 0.5, 1e-3)


# ------------------------------------------------------------------------------- knapsack


def brute(r, budget, p):
    """Largest total of 0 <= a <= 1 with sum a r^p <= budget: every set of whole items."""
    best, cost = 0.0, r**p
    for chosen in itertools.product((0, 1), repeat=len(r)):
        chosen = np.array(chosen, dtype=bool)
        left = budget - cost[chosen].sum()
        if left < -1e-12:
            continue
        rest = cost[~chosen & (cost > 0)]
        part = min(1.0, max(left, 0.0) / rest.min()) if rest.size else 0.0
        best = max(best, chosen.sum() + part)
    return best


def test_knapsack(claim):
    c, rng = claim("thm-knapsack"), np.random.default_rng(7)
    gap, quantile, whole, pointwise = 0.0, 0.0, 0.0, 0.0
    for case in range(30):
        # errors of a nonlinear rule on a grid of the plane that contains the samples
        side = np.linspace(-1.5, 1.5, 17)
        P = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        at = rng.integers(0, len(P), 6)
        guess = (P[:, 0] ** 2 + P[:, 1] ** 2 > 0.5 + 0.5 * np.sin(3 * P[:, 0])).astype(int)
        y = guess[at] if case % 4 else rng.integers(0, 2, 6)  # some are wrong already
        norm, kappa = NORMS[case % 3], (np.inf, 0.4)[case % 2]
        d = np.linalg.norm(P - P[at][:, None], norm, axis=2)
        wrong = (guess != y[:, None]).astype(float)
        r = np.where(wrong > 0, d, np.inf).min(axis=1)
        losses, distances = wrong, d
        if kappa < np.inf:  # the same points with the other label
            losses, distances = np.hstack([wrong, 1 - wrong]), np.hstack([d, d + kappa])
        for p, radius in itertools.product((1, 2, 3.5), (0.05, 0.2, 0.5)):
            best = program(losses, distances, radius, p)[0]
            value = wdro.knapsack(r, radius, p, label_cost=kappa).value
            gap = max(gap, abs(best - value))
            s = np.minimum(r, kappa)
            whole = max(whole, abs(brute(s, 6 * radius**p, p) / 6 - best))
            v = np.linspace(0, 1, 6001)
            spent = np.append(0, np.cumsum(np.repeat(np.sort(s) ** p, 1000)) / 6000)
            quantile = max(quantile, abs(v[spent <= radius**p * (1 + 1e-9)].max() - best))
        share = program(losses, distances, 0.3 + 1e-9, np.inf)[0]
        pointwise = max(pointwise, abs(share - (np.minimum(r, kappa) <= 0.3 + 1e-9).mean()))
    c.at_most("greedy knapsack = best plan (HiGHS), 270 cases", gap, 1e-9)
    c.at_most("every set of whole items by enumeration = best plan", whole, 1e-9)
    c.at_most("quantile formula by a Riemann sum", quantile, 2e-4)
    c.at_most("order infinity: share within the radius = best plan", pointwise, 1e-9)
    # infima that are not attained, and samples that never err
    jump = np.append(0, 1 + np.logspace(-9, 1, 200))  # errors beyond distance 1 only
    best = program((jump > 1).astype(float)[None], jump[None], 1.0, 2)[0]
    c.close("open set of errors at distance 1, radius 1, order 2", best, 1.0, 1e-6)
    c.close(
        "r = (0, 1, inf), radius 0.2, order 1",
        wdro.knapsack([0, 1, np.inf], 0.2, 1).value,
        (1 + 0.6) / 3,
        1e-12,
    )
    c.close(
        "r = (.1, .3, .6), radius .2, order 1",
        wdro.knapsack([0.1, 0.3, 0.6], 0.2, 1).value,
        brute(np.array([0.1, 0.3, 0.6]), 0.6, 1) / 3,
        1e-12,
    )


def test_certified_not_distributional(claim):
    c, rng = claim("cor-certified-not-distributional"), np.random.default_rng(8)
    upper, lower, simple, positive = np.inf, np.inf, np.inf, np.inf
    for _ in range(60):
        r = rng.uniform(0.2, 2, 8) * (rng.random(8) > 0.1)
        r[rng.random(8) < 0.2] = np.inf
        certified, found = r * rng.uniform(0.3, 1, 8), r * rng.uniform(1, 2, 8)
        # the truth by a linear program: each sample may stay, or err at its distance
        wrong = np.hstack([np.zeros((8, 1)), np.ones((8, 1))])
        d = np.column_stack([np.zeros(8), r])
        for p, radius in itertools.product((1, 2), (0.05, 0.15, 0.4)):
            best = program(wrong, d, radius, p)[0]
            upper = min(upper, wdro.knapsack(certified, radius, p).value - best)
            lower = min(lower, best - wdro.knapsack(found, radius, p).value)
            if certified.min() > 0:
                simple = min(simple, min(1, (radius / certified.min()) ** p) - best)
            if np.isfinite(r).any():
                positive = min(positive, best)
    c.at_least("knapsack of certificates - value", upper, -1e-9)
    c.at_least("value - knapsack of found errors", lower, -1e-9)
    c.at_least("(radius / c)^p - value", simple, -1e-9)
    c.at_least("never zero: least value at positive radius", positive, 1e-4)
    # equality for equal distances: a disc's centre, errors outside, polar grid
    t = np.linspace(0, 2, 401)
    losses, d = np.tile(t >= 0.5, (3, 1)).astype(float), np.tile(t, (3, 1))
    for p in (1, 2, 3):
        c.close(f"all r = 0.5, radius 0.2, order {p}", program(losses, d, 0.2, p)[0], 0.4**p, 1e-9)
    c.close("order infinity", program(losses, d, 0.2, np.inf)[0], 0.0, 1e-12)


# ------------------------------------------------------------- what the text says besides


def test_chapter_three_budgets():
    """Budget in mean = order 2 with fixed labels; a shared budget = order 1 without splitting."""
    rng = np.random.default_rng(9)
    # least squares on the line, three samples: thm-ridge-link against the growth form
    x, y, w, radius = rng.standard_normal(3), rng.standard_normal(3), 0.8, 0.3
    grid = np.linspace(-15, 15, 6001)
    losses = (y[:, None] - w * grid) ** 2
    lists = [
        np.column_stack([np.abs(grid - a), row - (t - w * a) ** 2])
        for a, t, row in zip(x, y, losses, strict=True)
    ]
    risk = np.mean((y - w * x) ** 2)
    value = risk + wdro.allocate(lists, radius, 2).value
    assert abs(value - (np.sqrt(risk) + radius * w) ** 2) < 1e-3
    # hinge, margins 2 and 3, c = n radius: whole samples gain (c - 1)_+, split ones all of c
    for c in (0.8, 1.5):
        t = np.linspace(0, c, 2001)
        whole = (np.maximum(t - 1, 0) + np.maximum((c - t) - 2, 0)).max()
        assert abs(whole - max(c - 1, 0)) < 1e-12
        far = np.linspace(0, 4000, 4001)
        hinges = [np.column_stack([far, np.maximum(far - m, 0)]) for m in (1, 2)]
        assert abs(wdro.allocate(hinges, c / 2, 1).value - c / 2) < 1e-3 * c
        assert abs(wdro.allocate(hinges, c / 2, 1, slopes=[1, 1]).value - c / 2) < 1e-12
