"""Other algorithms: duals, greedy rules, walks, projections, complex steps."""

import itertools

import numpy as np
from scipy import optimize


def robust_error(r, eps, p):
    """The dual: a price per unit of cost, at each of the kinks."""
    if p == np.inf:
        return np.mean(r <= eps)
    prices = [0.0] + [t**-p for t in r if 0 < t < np.inf]
    cost = r[np.isfinite(r)] ** p
    return min(v * eps**p + np.maximum(1 - v * cost, 0).sum() / len(r) for v in prices)


def worst_gain(t, g, eps, p):
    """Corners of the hulls, then the segments by decreasing slope."""
    segments = []
    for cost, gain in zip(t**p, g, strict=True):
        c, v = 0.0, 0.0
        while len(cost):
            ratio = (gain - v) / (cost - c)
            k = ratio.argmax()
            if ratio[k] <= 0:
                break
            segments.append((ratio[k], cost[k] - c))
            c, v, cost, gain = cost[k], gain[k], cost[k + 1 :], gain[k + 1 :]
    left, total = len(t) * eps**p, 0.0
    for slope, width in sorted(segments, reverse=True):
        part = min(width, left)
        total, left = total + slope * part, left - part
    return total / len(t)


def best_mixture(t, g, eps, p):
    factors = [1.0, *(u for u in t.ravel() / eps if u > 1)]
    return max(u**-p * np.where(t <= u * eps, g, 0).max(axis=1).mean() for u in factors)


def worst_inputs(X, y, w, b, eps):
    """Repeat: the best linear step on the sphere of lengths; the fixed point is the maximum."""
    r = y - X @ w - b
    side = np.where(r < 0, 1.0, -1.0)
    size = np.abs(r) + 1e-13
    length = np.full(len(r), eps)
    for _ in range(300):
        gradient = size + length * np.abs(w).sum()
        length = eps * gradient / np.sqrt(np.mean(gradient**2))
    return X + np.outer(length * side, np.sign(w))


def label_value(m, norm, eps, kappa):
    """A convex function of the multiplier, smallest at a kink."""

    def dual(lam):
        return lam * eps + np.maximum(np.logaddexp(0, -m), np.logaddexp(0, m) - lam * kappa).mean()

    return min(dual(v) for v in [norm, *(t / kappa for t in m if t / kappa > norm)])


def three_slopes(a, w, b, x):
    def h(t):
        return np.maximum(np.multiply.outer(t, w) + b, 0) @ a

    far = 1e6
    points = np.concatenate([-b / w, [-far, far]])
    ends = max(
        h(np.array([far]))[0] - h(np.array([far - 1]))[0],
        h(np.array([-far]))[0] - h(np.array([1 - far]))[0],
        0,
    )
    rise, run = h(points) - h(x)[:, None], np.abs(points - x[:, None])
    order = np.unique(points)
    return (
        ends,
        max((rise[run > 0] / run[run > 0]).max(), ends),
        np.abs(np.diff(h(order)) / np.diff(order)).max(),
    )


def slope_at_infinity(a, W, b, norm):
    """Sector by sector, a projection or a small linear program."""
    kinks = np.concatenate([W, -W])[:, ::-1] * [1, -1]
    angle = np.sort(np.arctan2(kinks[:, 1], kinks[:, 0]))
    middle = (angle + np.append(angle[1:], angle[0] + 2 * np.pi)) / 2
    best = 0.0
    for v in middle:
        on = W @ [np.cos(v), np.sin(v)] > 0
        g, A = (on * a) @ W, W * np.where(on, -1, 1)[:, None]
        if norm == 2:
            best = max(best, optimize.nnls(A.T, g)[1])
            continue
        signs = np.array(list(itertools.product((-1, 1), repeat=2)))
        ball = np.vstack([np.eye(2), -np.eye(2)]) if norm == np.inf else signs
        found = optimize.linprog(
            -g,
            A_ub=np.vstack([A, ball]),
            b_ub=np.append(np.zeros(len(A)), np.ones(len(ball))),
            bounds=(None, None),
        )
        best = max(best, -found.fun)
    return best


def recession_slope(A, g):
    """Alternating projections onto the half-spaces, with Dykstra's corrections."""
    u, corrections = g.copy(), np.zeros_like(A)
    for _ in range(3000):
        before = u
        for k, row in enumerate(A):
            v = u + corrections[k]
            u = v - max(row @ v, 0) / (row @ row) * row
            corrections[k] = v - u
        if np.abs(u - before).max() < 1e-9:
            break
    return float(np.linalg.norm(u))


def mask_bound(a, W):
    """By symmetry: the parts of both signs differ by a constant."""
    V = a[:, None] * W
    best = 0.0
    for u in itertools.product((-1, 1), repeat=W.shape[1]):
        t = V @ np.array(u)
        best = max(best, (t.sum() + np.abs(t).sum()) / 2)
    return best


def distance_to_error(knots, values, left, right, x, y):
    """From knot to knot, to the right and, in the mirror, to the left."""

    def walk(k, v, before, after, x):
        outside = before * np.minimum(x - k[0], 0) + after * np.maximum(x - k[-1], 0)
        at, f = x, y * (np.interp(x, k, v) + outside)
        if f <= 0:
            return 0.0
        for s, t in zip(k[k > x], y * v[k > x], strict=True):
            if t <= 0:
                return float(at + (s - at) * f / (f - t) - x)
            at, f = s, t
        return float(at - x - f / (y * after)) if y * after < 0 else np.inf

    mirrored = walk(-knots[::-1], values[::-1], -right, -left, -x)
    return np.array(min(walk(knots, values, left, right, x), mirrored))


def dlr_gradient(z, J, y):
    """The three formulas of the text, by the rank of the label."""
    i, j, k = np.argsort(-z)[:3]
    B, r = z[i] - z[k], (z[i] - z[j]) / (z[i] - z[k])
    step = ((1 - r) * (J[i] - J[j]) + r * (J[k] - J[j])) / B
    if y in (i, j):
        return -step if y == i else step
    if y == k:
        return 0 * step
    rho = (z[i] - z[y]) / B
    return ((J[k] - J[y]) - (rho - 1) * (J[i] - J[k])) / B


def first_order_value(knots, values, left, right, x, eps):
    """The dual function is convex: a search by thirds."""
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    clean = np.interp(x, knots, values) + outside
    cost, gain = np.abs(knots - x[:, None]), values - clean[:, None]

    def dual(price):
        return price * eps + np.maximum((gain - price * cost).max(axis=1), 0).mean()

    low = max(-left, right, 0.0)
    high = low + abs(left) + abs(right) + np.abs(np.diff(values) / np.diff(knots)).sum()
    best = dual(low)
    for _ in range(200):
        third = (high - low) / 3
        if dual(low + third) < dual(high - third):
            high = high - third
        else:
            low = low + third
    return clean.mean() + min(best, dual(low))


def unbounded_counterexample(c):
    return np.array([[-c, 0.6, 0.8, 0.0], [c, 0.6, 0.8, -3.0]])


def local_counterexample(eps):
    return [[20.0, 1.0, -0.05], [-20.0, 1.0, -1.05]] if eps < 1 else [[50.0, -1.0, -2.0]]
