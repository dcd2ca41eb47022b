"""Witnesses of chapter 3, notebook 2: adversarial training of linear models."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog, minimize, minimize_scalar
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.svm import SVC

from advreg import data, linear

NORMS = (1, 2, np.inf)
DUAL = {1: np.inf, 2: 2, np.inf: 1}
SMOOTH = {
    "logistic": lambda u: np.logaddexp(0.0, -u),
    "exponential": lambda u: np.exp(-u),
}
KAPPA = np.sqrt(2 / np.pi)


def ball(norm, dimension):
    """Points of the unit ball among which every convex function has its maximum (l2: a fine
    polygon in the plane, relative error 4e-7)."""
    if norm == np.inf:
        return np.array(list(itertools.product([-1.0, 1.0], repeat=dimension)))
    if norm == 1:
        return np.vstack([np.eye(dimension), -np.eye(dimension)])
    assert dimension == 2
    angle = 2 * np.pi * np.arange(3600) / 3600
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def worst_margin(w, b, X, y, delta, norm):
    """Least margin of each sample over the ball, by enumeration."""
    return (y * (X @ w + b)) + delta * (ball(norm, len(w)) @ w).min()


def attacked(w, b, X, y, delta, norm, loss):
    return loss(worst_margin(w, b, X, y, delta, norm)).mean()


def length(x, norm):
    """The norm itself, as the maximum over the points of the dual ball."""
    return (ball({1: np.inf, 2: 2, np.inf: 1}[norm], len(x)) @ x).max()


# ------------------------------------------------------------------------- collapse


def labelled(rng, count, d):
    """Random classes, and degenerate ones: equal samples, ties among the features, a zero one."""
    for i in range(count):
        y = np.r_[1.0, 1.0, 1.0, -1.0, rng.choice([-1.0, 1.0], 3 + i % 3)]
        X = rng.standard_normal((y.size, d)) + 0.5 * y[:, None]
        if i == 0:
            X[y == 1], X[y == -1] = np.full(d, 1.0), np.full(d, -0.2)
        elif i == 1:
            X[:, 0] = 0.0
        elif i == 2:
            X[:, 1] = X[:, 0]
        elif i == 3:
            X += 10.0  # far from the origin
        yield X, y


def steepest(X, y, delta, norm, loss, b0, directions):
    """Least difference quotient of the attacked risk from (0, b0), over directions and steps."""
    start = loss(y * b0).mean()
    return min(
        (attacked(t * v[:-1], b0 + t * v[-1], X, y, delta, norm, loss) - start) / t
        for v in directions
        for t in (1e-5, 1e-2, 0.5)
    )


def test_collapse(claim):
    c = claim("thm-collapse")
    rng = np.random.default_rng(1)
    for norm, d in ((1, 3), (2, 2), (np.inf, 3)):
        below, above, library, independent = -np.inf, np.inf, 0.0, 0.0
        for X, y in labelled(rng, 8, d):
            points = {
                False: (y[:, None] * X).mean(axis=0),
                True: (X[y == 1].mean(axis=0) - X[y == -1].mean(axis=0)) / 2,
            }
            radius = {k: length(v, norm) for k, v in points.items()}
            lib = linear.collapse_radius(X, y, norm)
            library = max(library, abs(lib - radius[False]) / radius[False])
            for intercept, (name, loss) in itertools.product((False, True), SMOOTH.items()):
                b0 = 0.0
                if intercept:
                    b0 = minimize_scalar(lambda b, g=loss, y=y: g(y * b).mean(), tol=1e-12).x
                w = ball(DUAL[norm], d)
                directed = w[np.argmax(w @ points[intercept])]
                pool = np.vstack([directed, rng.standard_normal((25, d)), w[:: len(w) // 6 + 1]])
                shift = rng.standard_normal((len(pool), 1)) * intercept
                pool = np.hstack([pool, shift])
                pool[0, -1] = 0.0
                r = radius[intercept]
                slopes = [
                    steepest(X, y, f * r, norm, loss, b0, p)
                    for f, p in ((0.97, pool[:1]), (1.03, pool))
                ]
                below, above = max(below, slopes[0]), min(above, slopes[1])
                for f, zero in ((0.97, False), (1.03, True)):
                    try:
                        w_fit = linear.fit(X, y, f * r, norm, name, intercept=intercept).w
                    except ValueError:  # separated under attack: no minimizer, so no collapse
                        assert not zero
                        continue
                    independent += (w_fit == 0).all() != zero
        c.at_most(f"attack norm {norm}, 0.97 x radius: slope, not descending", below, -1e-4)
        c.at_least(f"attack norm {norm}, 1.03 x radius: least slope", above, -1e-8)
        c.at_most(f"attack norm {norm}: library radius, relative error", library, 1e-6)
        c.at_most(f"attack norm {norm}: trained models on the wrong side", independent, 0)
    # Balanced classes: the intercept does not matter; unbalanced and translated: it does.
    X, y = rng.standard_normal((8, 3)), np.r_[np.ones(4), -np.ones(4)]
    half = np.linalg.norm(X[:4].mean(axis=0) - X[4:].mean(axis=0), np.inf) / 2
    c.close("balanced classes", linear.collapse_radius(X, y, np.inf), half, 1e-12)
    X, y = X[:6] + 10, y[:6]
    c.at_least("unbalanced, translated", linear.collapse_radius(X, y, np.inf), 2.0)
    # The hinge: sufficient, but not necessary with unequal classes.
    X, y = np.array([[0.0], [4.0], [0.0]]), np.array([1.0, 1.0, -1.0])
    grid = np.linspace(-3, 3, 121)
    risks = [
        np.maximum(0, 1 - y * (X[:, 0] * w + b) + 0.1 * abs(w)).mean() for w in grid for b in grid
    ]
    c.close("hinge, kink: the constant is optimal below half the distance", min(risks), 2 / 3, 1e-9)


def hull_distance(P, Q, norm):
    """Distance of two convex hulls: minimization over the weights of the points."""
    m, n, d = len(P), len(Q), P.shape[1]
    if norm == 2:

        def goal(z):
            gap = z[:m] @ P - z[m:] @ Q
            return gap @ gap, 2 * np.r_[P @ gap, -Q @ gap]

        sums = [
            {"type": "eq", "fun": lambda z: z[:m].sum() - 1},
            {"type": "eq", "fun": lambda z: z[m:].sum() - 1},
        ]
        start = np.r_[np.full(m, 1 / m), np.full(n, 1 / n)]
        options = {"ftol": 1e-15, "maxiter": 1000}
        found = minimize(
            goal, start, jac=True, bounds=[(0, 1)] * (m + n), constraints=sums, options=options
        )
        return np.sqrt(found.fun)
    gap = np.hstack([P.T, -Q.T])
    equal = np.zeros((2, m + n))
    equal[0, :m] = equal[1, m:] = 1
    if norm == np.inf:
        extra, cost = np.ones((d, 1)), np.r_[np.zeros(m + n), 1.0]
    else:
        extra, cost = np.eye(d), np.r_[np.zeros(m + n), np.ones(d)]
    rows = np.vstack([np.hstack([gap, -extra]), np.hstack([-gap, -extra])])
    equal = np.hstack([equal, np.zeros((2, extra.shape[1]))])
    return linprog(cost, rows, np.zeros(2 * d), equal, np.ones(2)).fun


def separates(X, y, delta, norm):
    """Can a hinge risk of zero be reached under attack?  Feasibility, all corners listed."""
    corners = delta * ball(norm, X.shape[1])
    rows = np.vstack(
        [
            np.hstack([-t * (x + corners), np.full((len(corners), 1), -t)])
            for x, t in zip(X, y, strict=True)
        ]
    )
    free = [(None, None)] * (X.shape[1] + 1)
    return linprog(np.zeros(X.shape[1] + 1), rows, -np.ones(len(rows)), bounds=free).status == 0


def test_separation_radius(claim):
    c = claim("prop-separation-radius")
    rng = np.random.default_rng(2)
    for norm in (1, np.inf):
        wrong, order, trained = 0, -np.inf, 0
        for i in range(12):
            y = np.r_[np.ones(3 + i % 3), -np.ones(4)]
            X = rng.standard_normal((y.size, 3)) + (1.5 if i < 8 else 0.3) * y[:, None]
            if i == 0:
                X[0] = X[-1]  # the hulls touch
            radius = hull_distance(X[y == 1], X[y == -1], norm) / 2
            half = np.linalg.norm(X[y == 1].mean(axis=0) - X[y == -1].mean(axis=0), norm) / 2
            order = max(order, radius - half)
            wrong += not (radius < 1e-9 or separates(X, y, 0.99 * radius, norm))
            wrong += separates(X, y, 1.01 * radius + 1e-3, norm)
            for factor in (0.97, 1.03):
                if radius > 1e-3:
                    try:
                        found = linear.fit(X, y, factor * radius, norm, "logistic")
                        trained += factor < 1 or not np.isfinite(found.w).all()
                    except ValueError:
                        trained += factor > 1
        c.close(f"attack norm {norm}: hulls against feasibility, wrong answers", wrong, 0, 0.5)
        c.at_most(f"attack norm {norm}: half hull distance minus half mean distance", order, 1e-9)
        c.close(
            f"attack norm {norm}: minimizer exists iff beyond the radius, wrong", trained, 0, 0.5
        )
    y, gap = np.r_[np.ones(5), -np.ones(4)], 0.0
    for _ in range(6):
        X = rng.standard_normal((9, 2)) + 3 * y[:, None]
        margin = 1 / np.linalg.norm(SVC(kernel="linear", C=1e8, tol=1e-8).fit(X, y).coef_)
        gap = max(gap, abs(margin / (hull_distance(X[:5], X[5:], 2) / 2) - 1))
    c.at_most("attack norm 2: support vector machine against hulls", gap, 1e-4)


# ------------------------------------------------------------------------- regression


def squares(w, X, y, delta, norm):
    """Adversarial mean square, the two ends of the score listed by the points of the ball."""
    if norm == 2 and len(w) > 2:
        reach = delta * np.sqrt(w @ w)
    else:
        reach = delta * (ball(norm, len(w)) @ w).max()
    r = y - X @ w
    return np.maximum((r + reach) ** 2, (r - reach) ** 2).mean()


def best_interpolator(X, y, norm):
    """Minimum of the dual norm subject to X w = y, by linear programming or normal equations."""
    n, d = X.shape
    if norm == 2:
        return X.T @ np.linalg.solve(X @ X.T, y)
    if norm == np.inf:
        z = linprog(np.ones(2 * d), A_eq=np.hstack([X, -X]), b_eq=y).x
        return z[:d] - z[d:]
    rows = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
    equal = np.hstack([X, np.zeros((n, 1))])
    free = [(None, None)] * d + [(0, None)]
    return linprog(np.r_[np.zeros(d), 1.0], rows, np.zeros(2 * d), equal, y, bounds=free).x[:d]


def steepest_interpolator(w, X, delta, norm):
    """Least of ||X v||_1 / M + delta N'(w; v) over |v_j| <= 1, a linear program in (v, s, t)."""
    n, d = X.shape
    eye = np.eye
    rows = [np.hstack([s * X, -eye(n), np.zeros((n, d))]) for s in (1, -1)]
    cost = np.r_[np.zeros(d), np.full(n, 1 / n), np.zeros(d)]
    size = np.abs(w)
    if norm == 2:
        cost[:d] = delta * w / np.linalg.norm(w)
    elif norm == np.inf:
        on = size > 1e-9
        cost[:d] = np.where(on, delta * np.sign(w), 0)
        cost[n + d :] = np.where(on, 0, delta)
        rows += [np.hstack([s * eye(d), np.zeros((d, n)), -eye(d)]) for s in (1, -1)]
    else:
        cost[n + d] = delta  # one bound for the largest entries
        top = np.flatnonzero(size > size.max() - 1e-9)
        block = np.zeros((len(top), n + 2 * d))
        block[np.arange(len(top)), top] = np.sign(w[top])
        block[:, n + d] = -1
        rows.append(block)
    rows = np.vstack(rows)
    bounds = [(-1, 1)] * d + [(0, None)] * n + [(-1, None)] * d
    found = linprog(cost, rows, np.zeros(len(rows)), bounds=bounds)
    return found.fun, found.x[:d]


def interpolation_problems(rng):
    d = 6
    for n in (1, 2, 3, 3, 4, 6):
        yield rng.standard_normal((n, d)), rng.standard_normal(n)
    yield np.diag([1.0, 0.1]), np.array([1.0, 0.0])  # the dual is not unique
    yield np.array([[1.0, 0.0], [0.3, 1.0]]), np.array([1.0, 1.0])
    X = rng.standard_normal((3, d))
    X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]  # equal features
    yield X, np.array([1.0, -1.0, 0.0])


def test_interpolation_threshold(claim):
    c = claim("thm-interpolation-threshold")
    rng = np.random.default_rng(3)
    for norm in NORMS:
        flat, falls, real, order, zero, rise, fall, bound, trained = (
            0.0,
            -1.0,
            -1.0,
            9.0,
            0.0,
            9.0,
            -9.0,
            9.0,
            0.0,
        )
        for X, y in interpolation_problems(rng):
            n, d = X.shape
            w = best_interpolator(X, y, norm)
            bar = linear.interpolation_threshold(X, y, norm)
            start = np.abs(np.linalg.lstsq(X, y, rcond=None)[0]).max()
            flat = min(flat, steepest_interpolator(w, X, 0.98 * bar, norm)[0])
            slope, v = steepest_interpolator(w, X, 1.02 * bar, norm)
            falls = max(falls, slope)
            best, now = np.inf, squares(w, X, y, 1.02 * bar, norm)
            for t in np.geomspace(1e-7, 1, 57) * start:
                best = min(best, squares(w + t * v, X, y, 1.02 * bar, norm))
            real = max(real, (best - now) / now * 1e6)
            fitted = linear.fit(X, y, 0.98 * bar, norm, "squared", intercept=False).w
            trained = max(trained, np.abs(X @ fitted - y).max())
            # the certificate: no w does better, with slack proportional to the residual
            tau = np.linalg.norm(w, DUAL[norm])
            for _ in range(20):
                u = w + rng.standard_normal(d) * rng.choice([0.01, 0.3])
                factor = rng.uniform(0.1, 1)
                left = np.sqrt(squares(u, X, y, factor * bar, norm))
                right = factor * bar * tau + (1 - factor) * np.abs(y - X @ u).sum() / n
                bound = min(bound, left - right)
            # w = 0
            size = np.linalg.norm(X.T @ y) if norm == 2 else length(X.T @ y, norm)
            top = size / np.abs(y).sum()
            zero = max(zero, abs(linear.zero_threshold(X, y, norm) / top - 1))
            corners = X.T @ y if norm == 2 else ball(DUAL[norm], d)
            v = corners if norm == 2 else corners[np.argmax(corners @ (X.T @ y))]
            v = v / (np.abs(X).max() * np.linalg.norm(v) * 1e4)
            fall = max(fall, squares(v, X, y, 0.98 * top, norm) / (y @ y / n) - 1)
            for u in np.vstack([v, rng.standard_normal((20, d)) * 0.1]):
                rise = min(rise, squares(u, X, y, 1.02 * top, norm) / (y @ y / n) - 1)
            order = min(order, top * np.abs(y).sum() ** 2 / (n * (y @ y)) - bar)
        c.at_least(f"attack norm {norm}, 0.98 x threshold: steepest slope", flat, -1e-8)
        c.at_most(f"attack norm {norm}, 1.02 x threshold: steepest slope", falls, -1e-6)
        c.at_most(f"attack norm {norm}, 1.02 x threshold: change of risk, ppm", real, -1e-3)
        c.at_most(f"attack norm {norm}, 0.98 x threshold: residual after training", trained, 1e-4)
        c.at_least(f"attack norm {norm}: certificate", bound, -1e-6)
        c.at_most(f"attack norm {norm}: zero threshold, relative error", zero, 1e-6)
        c.at_most(f"attack norm {norm}, 0.98 x zero threshold: change of risk", fall, -1e-7)
        c.at_least(f"attack norm {norm}, 1.02 x zero threshold: change of risk", rise, 1e-8)
        c.at_least(f"attack norm {norm}: order of the two thresholds", order, -1e-5)
    X, y = np.diag([1.0, 0.1]), np.array([1.0, 0.0])
    c.close("not unique: threshold", linear.interpolation_threshold(X, y, 2), 0.5, 1e-9)
    X, y = rng.standard_normal((1, 5)), np.array([2.0])
    one = [linear.interpolation_threshold(X, y, 1), linear.zero_threshold(X, y, 1)]
    c.close("one sample: the thresholds agree", one[0] / one[1], 1.0, 1e-9)


# ------------------------------------------------------------------------- budgets


def shared_minimum(X, y, c, robust):
    """Least value of the regularized (or the robust) hinge problem, l-infinity: linear programs.

    Variables: u, v (w = u - v), b, xi (hinges), zeta (hinge of the sample that gets everything), t.
    """
    n, d = X.shape
    total = 2 * d + 1 + 2 * n + 1
    margin = np.hstack([-y[:, None] * X, y[:, None] * X, -y[:, None]])
    first = np.hstack([margin, -np.eye(n), np.zeros((n, n + 1))])
    size = np.r_[np.ones(2 * d), np.zeros(total - 2 * d)]
    second = np.hstack([margin, np.zeros((n, n)), -np.eye(n), np.zeros((n, 1))]) + c * size
    third = np.zeros((n, total))
    third[:, 2 * d + 1 : 2 * d + 1 + n] = 1 - np.eye(n)
    third[:, 2 * d + 1 + n : -1] = np.eye(n)
    third[:, -1] = -1
    bounds = [(0, None)] * (2 * d) + [(None, None)] + [(0, None)] * (2 * n + 1)
    if robust:
        rows, right = np.vstack([first, second, third]), np.r_[-np.ones(2 * n), np.zeros(n)]
        cost = np.eye(total)[-1]
    else:
        rows, right, cost = first, -np.ones(n), c * size
        cost = cost + np.r_[np.zeros(2 * d + 1), np.ones(n), np.zeros(n + 1)]
    return linprog(cost, rows, right, bounds=bounds).fun


def test_shared_budget(claim):
    c = claim("prop-shared-budget")
    rng = np.random.default_rng(4)
    gap, above, exact = 0.0, -np.inf, 0
    steps = np.array([s for s in itertools.product(range(9), repeat=5) if sum(s) == 8]) / 8
    for i in range(200):
        m = rng.normal(rng.choice([0.0, 1.5, 3.0]), 0.7, 5)
        if i < 5:
            m[:] = (1.0, 0.0, 2.0, 1.0 + 1e-3, -1.0)[i]
        size, budget = rng.uniform(0, 2) * (i != 7), rng.uniform(0, 2) * (i != 8)
        searched = np.maximum(0, 1 - m + size * budget * steps).sum(axis=1).max()
        formula = linear.aggregate_hinge(m, size, budget)
        gap = max(gap, abs(formula - searched))
        mixed = rng.dirichlet(np.full(5, 0.5), 200)
        above = max(above, np.maximum(0, 1 - m + size * budget * mixed).sum(axis=1).max() - formula)
        svm = np.maximum(0, 1 - m).sum() + size * budget
        exact += (abs(svm - formula) < 1e-12) != (m.min() <= 1 or size * budget == 0)
    c.at_most("formula against all splits in eighths", gap, 1e-12)
    c.at_most("random splits exceed the formula by", above, 1e-12)
    c.close("equality iff a margin is at most 1, wrong answers", exact, 0, 0.5)
    same, less = 0.0, np.inf
    for i in range(10):
        y = np.r_[np.ones(4), -np.ones(3)]
        X = rng.standard_normal((7, 3)) + (1.6 if i < 7 else 0.0) * y[:, None]
        radius = hull_distance(X[:4], X[4:], np.inf) / 2
        for factor in (0.5, 0.95, 1.0, 1.05, 3.0):
            budget = factor * radius if radius > 1e-6 else factor
            values = [shared_minimum(X, y, budget, robust) for robust in (False, True)]
            if budget >= radius - 1e-12:
                same = max(same, abs(values[0] - values[1]))
            else:
                less = min(less, values[0] - values[1])
                same = max(same, abs(values[1]))  # the robust problem reaches zero
    c.at_most("budget at least the separation radius: difference of the minima", same, 1e-7)
    c.at_least("smaller budget: difference of the minima", less, 0.02)


def gaussian_risk(v, size, delta):
    """E (|r| + delta size)^2, r normal with variance v, by quadrature."""
    s = np.sqrt(v)

    def density(r):
        return 2 * (r + delta * size) ** 2 * np.exp(-(r**2) / (2 * v)) / (s * np.sqrt(2 * np.pi))

    return quad(density, 0, 12 * s, epsabs=1e-13, epsrel=1e-13)[0]


def test_ridge_link(claim):
    c = claim("thm-ridge-link")
    rng = np.random.default_rng(5)
    # 1. All attacks e = a_i e*, mean a^2 <= delta^2; the best one by an optimizer.
    low, high = np.inf, -np.inf
    for i in range(12):
        X, y, w = rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(3)
        if i == 0:
            y = X @ w  # no residual
        if i == 1:
            w = np.zeros(3)
        delta, norm = 0.4, (1, np.inf)[i % 2]
        r, reach = y - X @ w, (ball(norm, 3) @ w).max()

        def loss(a, r=r, reach=reach, delta=delta):
            a = delta * np.sqrt(5) * a / np.linalg.norm(a)
            return -np.mean((r + reach * a) ** 2)

        found = max(-minimize(loss, rng.standard_normal(5)).fun for _ in range(4))
        value = (np.sqrt(np.mean(r**2)) + delta * np.linalg.norm(w, DUAL[norm])) ** 2
        low, high = min(low, found - value), max(high, found - value)
        e = rng.standard_normal((2000, 5, 3))
        e *= delta / np.sqrt(np.mean(np.linalg.norm(e, norm, axis=2) ** 2, axis=1))[:, None, None]
        high = max(high, np.mean((r - e @ w) ** 2, axis=1).max() - value)
    c.at_least("budget in mean: best attack found minus formula", low, -1e-6)
    c.at_most("budget in mean: best attack found minus formula", high, 1e-9)

    # 2. Minimizers on the ridge path, with the stated multiplier, both ways.
    X, y = rng.standard_normal((40, 5)), rng.standard_normal(40)
    there = back = 0.0
    for delta in (0.05, 0.1, 0.2):

        def goal(w, delta=delta):
            return np.sqrt(np.mean((y - X @ w) ** 2)) + delta * np.linalg.norm(w)

        w = minimize(goal, np.full(5, 0.1), options={"gtol": 1e-10}).x
        lam = delta * np.sqrt(np.mean((y - X @ w) ** 2)) / np.linalg.norm(w)
        ridge = Ridge(alpha=40 * lam, fit_intercept=False, tol=1e-12).fit(X, y).coef_
        there = max(there, np.abs(ridge - w).max())
        ridge = Ridge(alpha=40 * 0.7 * delta, fit_intercept=False).fit(X, y).coef_
        size = np.linalg.norm(ridge)
        radius = 0.7 * delta * size / np.sqrt(np.mean((y - X @ ridge) ** 2))
        best = min(
            goal(ridge + s * rng.standard_normal(5), radius) for s in np.geomspace(1e-4, 1, 400)
        )
        back = min(back, best - goal(ridge, radius))
    c.at_most("budget in mean, l2: distance to the ridge solution", there, 1e-5)
    c.at_least("ridge solutions: no better point found", back, -1e-12)

    # 3. Gaussian law: quadrature and a general optimizer.
    root = rng.standard_normal((3, 3))
    sigma, cross, top = root @ root.T, np.array([0.8, -0.3, 0.5]), 2.0
    top = 1.5 * cross @ np.linalg.solve(sigma, cross) + 0.5
    worst = formula = 0.0
    for delta in (0.05, 0.3, 0.8):

        def risk(w, delta=delta):
            v = top - 2 * cross @ w + w @ sigma @ w
            return gaussian_risk(v, np.linalg.norm(w), delta)

        w = minimize(risk, np.full(3, 0.1), options={"gtol": 1e-9}).x
        v, size = top - 2 * cross @ w + w @ sigma @ w, np.linalg.norm(w)
        closed = v + 2 * delta * KAPPA * np.sqrt(v) * size + (delta * size) ** 2
        formula = max(formula, abs(closed - risk(w)))
        if size > 1e-3:
            lam = (delta * KAPPA * np.sqrt(v) / size + delta**2) / (
                1 + delta * KAPPA * size / np.sqrt(v)
            )
            ridge = np.linalg.solve(sigma + lam * np.eye(3), cross)
            worst = max(worst, np.abs(ridge - w).max())
            assert (lam > delta**2) == (v > (delta * size) ** 2)
    c.at_most("Gaussian law: risk by quadrature", formula, 1e-9)
    c.at_most("Gaussian law: distance to the ridge solution", worst, 1e-4)
    # one feature of variance 1 and correlation 1: lambda = delta^2 where v = (delta w)^2
    delta = 0.7
    w = 1 / (1 + delta**2)
    second = (delta * w) ** 2 - w**2 + 2 * w  # then v = (delta w)^2

    def scalar(u):
        return gaussian_risk(second - 2 * u + u * u, abs(u), delta)

    found = minimize_scalar(scalar, bounds=(0.1, 0.99), method="bounded", options={"xatol": 1e-10})
    c.close("v = (delta w)^2: ridge with delta^2", found.x, w, 1e-5)

    # 4. Thresholds with a budget in mean: the ridge path as lambda tends to 0 and to infinity.
    X, y = rng.standard_normal((4, 9)), rng.standard_normal(4)
    ends = []
    for lam in (1e-8, 1e8):
        w = np.linalg.solve(X.T @ X / 4 + lam * np.eye(9), X.T @ y / 4)
        rest = lam * 4 * np.linalg.solve(X @ X.T + 4 * lam * np.eye(4), y)
        ends.append(lam * np.linalg.norm(w) / np.sqrt(np.mean(rest**2)))
    hat = best_interpolator(X, y, 2)
    alpha = np.linalg.solve(X @ X.T, y) / np.linalg.norm(hat)
    c.close("interpolation, budget in mean", ends[0] * 2 * np.linalg.norm(alpha), 1.0, 1e-6)
    zero = np.linalg.norm(X.T @ y) / (2 * np.linalg.norm(y))
    c.close("zero, budget in mean", ends[1] / zero, 1.0, 1e-6)
    # l-infinity: the objective moves off the interpolator just beyond the threshold, not before
    hat = best_interpolator(X, y, np.inf)
    on = np.abs(hat) > 1e-9

    def longest(z):  # squared length of alpha on the face of maximizers, by a constrained solver
        return z @ z

    face = [
        {"type": "eq", "fun": lambda a: X[:, on].T @ a - np.sign(hat[on])},
        {"type": "ineq", "fun": lambda a: 1 - np.abs(X[:, ~on].T @ a)},
    ]
    alpha = minimize(
        longest, np.linalg.lstsq(X[:, on].T, np.sign(hat[on]), rcond=None)[0], constraints=face
    )
    threshold = 1 / (2 * np.sqrt(alpha.fun))
    change = {}
    for factor in (0.97, 1.03):

        def value(u, factor=factor):
            return np.linalg.norm(y - X @ u) / 2 + factor * threshold * np.abs(u).sum()

        pool = [hat + s * rng.standard_normal(9) * on for s in np.geomspace(1e-4, 1, 50)]
        descent = np.linalg.lstsq(X, -alpha.x, rcond=None)[0]
        pool += [hat + t * descent for t in np.geomspace(1e-4, 1e-1, 20)]
        exact = np.linalg.solve(X[:, on].T @ X[:, on], np.sign(hat[on])) if on.sum() <= 4 else None
        if exact is not None:
            step = np.zeros(9)
            step[on] = -exact
            pool += [hat + t * step for t in np.geomspace(1e-4, 1e-1, 20)]
        change[factor] = min(value(u) for u in pool) - value(hat)
    c.at_least("l-infinity, 0.97 x threshold in mean: best change", change[0.97], -1e-10)
    c.at_most("l-infinity, 1.03 x threshold in mean: best change", change[1.03], -1e-7)


def test_ridge_folklore(claim):
    c = claim("obs-ridge-folklore")
    X_all, y_all = data.diabetes()
    folklore, formula, best = [], [], []
    for seed in (70, 71, 72):  # 400 of the 442 patients
        rows = np.random.default_rng(seed).permutation(442)[:400]
        X, y = X_all[rows], y_all[rows]
        value, vectors = np.linalg.eigh(X.T @ X / 400)
        cross = vectors.T @ (X.T @ y) / 400
        for delta in (0.03, 0.15, 0.45, 0.9, 1.1):

            def risk(w, X=X, y=y, delta=delta):
                return np.mean((np.abs(y - X @ w) + delta * np.linalg.norm(w)) ** 2)

            w = linear.fit(X, y, delta, 2, "squared", intercept=False).w
            nearby = [
                risk(w + s * np.random.default_rng(1).standard_normal(10)) for s in (1e-3, 0.1)
            ]
            assert min(nearby) >= risk(w)
            v, size = np.mean((y - X @ w) ** 2), np.linalg.norm(w)
            lam = (delta * KAPPA * np.sqrt(v) / size + delta**2) / (
                1 + delta * KAPPA * size / np.sqrt(v)
            )
            far = [
                np.linalg.norm(vectors @ (cross / (value + q)) - w) / size
                for q in (delta**2, lam, *np.geomspace(1e-4, 1e3, 2000))
            ]
            folklore.append(far[0])
            formula.append(far[1])
            best.append(min(far[2:]))
    c.at_least("ridge with delta^2: least relative distance", min(folklore), 0.2)
    c.at_most("Gaussian formula: largest relative distance", max(formula), 0.1)
    c.at_most("best on the path: largest relative distance", max(best), 0.03)


# ------------------------------------------------------------------------- real data


def digits():
    raw = load_digits()
    keep = np.isin(raw.target, (3, 8))
    return raw.data[keep] / 16, np.where(raw.target[keep] == 3, 1.0, -1.0)


def compare(X, y, seeds, delta, norm, standardize):
    """Errors under attack (trained, standard), clean error and weights left; means over splits."""
    classes = set(y) == {-1.0, 1.0}
    rows = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[: 2 * len(y) // 3], order[2 * len(y) // 3 :]
        A = (X - X[train].mean(axis=0)) / X[train].std(axis=0) if standardize else X
        base = (LogisticRegression(max_iter=5000) if classes else LinearRegression()).fit(
            A[train], y[train]
        )
        found = linear.fit(A[train], y[train], delta, norm, "logistic" if classes else "squared")
        errors = []
        for w, b, radius in (
            (found.w, found.b, delta),
            (np.ravel(base.coef_), np.ravel(base.intercept_)[0], delta),
            (found.w, found.b, 0.0),
        ):
            # the attack is carried out, not computed
            step = radius * (np.sign(w) if norm == np.inf else w / np.linalg.norm(w))
            residual = y[test] - A[test] @ w - b
            side = y[test] if classes else -np.sign(residual)
            sign = side if classes else np.where(residual >= 0, 1.0, -1.0)
            scores = (A[test] - sign[:, None] * step) @ w + b
            errors.append(
                np.mean(y[test] * scores <= 0) if classes else np.mean((y[test] - scores) ** 2)
            )
        rows.append([*errors, np.sum(np.abs(found.w) > 1e-6 * np.abs(found.w).max())])
    return np.mean(rows, axis=0)


def test_linear_real_data(claim):
    c = claim("obs-linear-real-data")
    seeds = range(100, 105)
    robust, base, clean, left = compare(*digits(), seeds, 0.15, np.inf, False)
    c.at_most("digits, 0.15: error under attack, adversarial training", robust, 0.30)
    c.at_least("digits, 0.15: error under attack, standard training", base, 0.45)
    c.at_most("digits, 0.15: clean error", clean, 0.10)
    c.at_most("digits, 0.15: weights left of 64", left, 12)
    robust, base, clean, left = compare(*data.breast_cancer(), seeds, 0.3, np.inf, True)
    c.at_most("breast cancer, 0.3: error under attack, adversarial training", robust, 0.22)
    c.at_least("breast cancer, 0.3: error under attack, standard training", base, 0.28)
    c.at_most("breast cancer, 0.3: clean error", clean, 0.09)
    c.at_most("breast cancer, 0.3: weights left of 30", left, 10)
    robust, base, _, left = compare(*data.diabetes(), seeds, 0.3, np.inf, True)
    c.at_least("diabetes, 0.3: gain of squared error", base - robust, 0.3)
    c.at_most("diabetes, 0.3: weights left of 10", left, 5)
    robust, base, _, _ = compare(*digits(), seeds, 0.5, 2, False)
    c.at_most("digits, l2, 0.5: difference of the errors", abs(base - robust), 0.08)


# ------------------------------------------------------------------------- search


def torch_pgd(torch, model, x, y, delta, norm, steps, size, start):
    """Projected gradient ascent of the logistic loss, gradients by automatic differentiation."""
    w, b = model
    e = start
    for _ in range(steps):
        e = e.detach().requires_grad_(True)
        loss = torch.nn.functional.softplus(-y * ((x + e) @ w + b)).sum()
        (slope,) = torch.autograd.grad(loss, e)
        if norm == np.inf:
            e = (e.detach() + size * slope.sign()).clamp(-delta, delta)
        else:
            e = e.detach() + size * slope / slope.norm(dim=1, keepdim=True)
            e = e / (e.norm(dim=1, keepdim=True) / delta).clamp(min=1)
    return e


def test_pgd_short_steps(claim):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    c = claim("prop-pgd-short-steps")
    generator = torch.Generator().manual_seed(6)
    kind = {"generator": generator, "dtype": torch.float64}
    n, d, delta = 4000, 30, 0.3
    w = torch.randn(d, **kind)
    w[3] = 0.0
    y = torch.where(torch.rand(n, **kind) < 0.5, 1.0, -1.0).double()
    x, b = torch.randn((n, d), **kind), 0.2
    size = float(w.abs().sum())

    def shares(t, steps):
        start = delta * (2 * torch.rand((n, d), **kind) - 1)
        e = torch_pgd(torch, (w, b), x, y, delta, np.inf, steps, t * delta / steps, start)
        return (-y * (e @ w) / (delta * size)).numpy(), e

    for t, steps in ((0.3, 3), (1.0, 1), (1.0, 10), (1.6, 7), (2.0, 4), (2.5, 10)):
        found, e = shares(t, steps)
        target = 1 - (1 - t / 2) ** 2 if t < 2 else 1.0
        error = max(5 * found.std() / np.sqrt(n), 1e-9)  # five standard errors
        c.close(f"l-infinity, t = {t}, {steps} steps: mean share", found.mean(), target, error)
        margin = (y * (x @ w + b)).numpy()
        seen = np.logaddexp(0, -(margin - delta * size * found))
        over = seen - np.logaddexp(0, -(margin - target * delta * size))
        slack = max(5 * over.std() / np.sqrt(n), 1e-9)  # five standard errors
        c.at_least(f"t = {t}, {steps} steps: loss above that of radius s", over.mean(), -slack)
        worst = np.logaddexp(0, -(margin - delta * size)).mean()
        c.at_most(f"t = {t}, {steps} steps: loss above the exact one", seen.mean() - worst, 1e-9)
    found, _ = shares(1.0, 10)
    spread = np.sqrt(5 / 48) * float(w.norm()) / size
    c.close("t = 1: standard deviation, relative", found.std() / spread, 1.0, 0.06)
    # l2: from the sphere, orthogonal to w
    start = torch.randn((50, d), **kind)
    start -= (start @ w)[:, None] * w / w.norm() ** 2
    start *= delta / start.norm(dim=1, keepdim=True)
    for t, steps in ((1.0, 10), (2.5, 10), (1.0, 400), (2.5, 400)):
        model = ((w, b), x[:50], y[:50], delta, 2, steps, t * delta / steps, start)
        e = torch_pgd(torch, *model)
        found = (-y[:50] * (e @ w) / (delta * w.norm())).numpy()
        cosine, h = 0.0, t / steps
        for _ in range(steps):
            cosine = (cosine + h) / np.sqrt(1 + 2 * h * cosine + h * h)
        c.at_most(f"l2, t = {t}, {steps} steps: recursion", np.abs(found - cosine).max(), 1e-9)
        if steps == 400:
            c.close(f"l2, t = {t}: limit tanh", found.mean(), np.tanh(t), 0.002)


def trained(torch, x, y, delta, seed, size, steps=600):
    """Adversarial training with ten attack steps (none if size is None: exact attack)."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w, b], lr=0.1, eps=1e-12)
    risks = []
    for k in range(1, steps + 1):
        adam.param_groups[0]["lr"] = 0.1 * (1 - k / (steps + 1))
        fixed = w.detach()
        if size is None:
            e = -delta * y[:, None] * fixed.sign()
        else:
            e = delta * (2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1)
            for _ in range(10):
                slope = -(y * torch.sigmoid(-y * ((x + e) @ fixed + b.detach())))[:, None] * fixed
                e = (e + size * slope.sign()).clamp(-delta, delta)
        loss = torch.nn.functional.softplus(-y * ((x + e) @ w + b)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        exact = y * (x @ w.detach() + b.detach()) - delta * w.detach().abs().sum()
        risks.append(float(torch.nn.functional.softplus(-exact).mean()))
    return w.detach().numpy(), np.array(risks)


@pytest.fixture(scope="module")
def searched():
    """Other splits and other seeds than the notebook's."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    X, y = digits()
    delta, out = 0.12, []
    for split in (50, 51):
        rows = np.random.default_rng(split).permutation(len(y))[:240]
        best, shorter = (
            linear.fit(X[rows], y[rows], f * delta, np.inf, "logistic") for f in (1, 0.75)
        )
        x, t = torch.as_tensor(X[rows]), torch.as_tensor(y[rows])
        runs = {
            "exact": [trained(torch, x, t, delta, 0, None)],
            "long": [trained(torch, x, t, delta, s, delta / 4) for s in (90 + split,)],
            "short": [trained(torch, x, t, delta, s, delta / 10) for s in (90 + split,)],
        }
        out.append((best, shorter, runs))
    return out


def test_pgd_same_solution(claim, searched):
    c = claim("obs-pgd-same-solution")
    excess, far, short, ratio = [], [], [], []
    for best, shorter, runs in searched:
        for w, risks in runs["long"]:
            excess.append(risks[-1] / best.risk - 1)
            far.append(np.abs(w - best.w).max() / np.abs(best.w).max())
        for w, risks in runs["short"]:
            short.append(risks[-1] / best.risk - 1)
            near = [np.abs(w - m.w).max() / np.abs(m.w).max() for m in (best, shorter)]
            ratio.append(near[0] / near[1])
    c.at_most("steps of delta/4: largest excess risk", max(excess), 0.01)
    c.at_least("steps of delta/4: least excess risk", min(excess), -1e-6)
    c.at_most("steps of delta/4: largest distance of the weights", max(far), 0.1)
    c.at_least("steps of delta/10: least excess risk", min(short), 0.025)
    c.at_least("steps of delta/10: how much nearer to 3/4 delta", min(ratio), 2.0)


def test_pgd_cost(claim, searched):
    c = claim("obs-pgd-cost")
    ratios = []
    for best, _, runs in searched:
        first = {k: [np.argmax(r < 1.05 * best.risk) + 1 for _, r in v] for k, v in runs.items()}
        ratios += [11 * s / first["exact"][0] for s in first["long"]]
    c.at_least("passes, PGD over exact: mean ratio", np.mean(ratios), 8)
    c.at_most("passes, PGD over exact: mean ratio", np.mean(ratios), 18)
