"""Loops, lists, numbers of Python and of numpy, one array without axes, single precision."""

import itertools
import math

import numpy as np


def robust_error(r, eps, p):
    if math.isinf(p):
        return sum(1 for t in r if t <= eps) / len(r)
    left, count = len(r) * eps**p, 0.0
    for cost in sorted(float(t) ** p for t in r):
        if cost > left:
            return (count + left / cost) / len(r)
        left, count = left - cost, count + 1
    return 1.0


def worst_gain(t, g, eps, p):
    rows = [
        [(0.0, 0.0), *((a**p, b) for a, b in zip(*row, strict=True))]
        for row in zip(t.tolist(), g.tolist(), strict=True)
    ]
    prices = [0.0]
    for row in rows:
        prices += [(b - d) / (a - c) for (a, b), (c, d) in itertools.combinations(row, 2)]
    duals = [
        v * eps**p + sum(max(b - v * a for a, b in row) for row in rows) / len(rows) for v in prices
    ]
    return np.float64(min(duals))


def best_mixture(t, g, eps, p):
    best = 0.0
    for s in sorted({eps, *t[t > eps]}):
        growth = [
            max((b for a, b in zip(*rows, strict=True) if a <= s), default=0)
            for rows in zip(t, g, strict=True)
        ]
        best = max(best, s**-p * sum(growth))
    return np.array(best * eps**p / len(t))


def worst_inputs(X, y, w, b, eps):
    residuals = [
        yi - sum(u * v for u, v in zip(row, w, strict=True)) - b
        for row, yi in zip(X.tolist(), y, strict=True)
    ]
    rms = math.sqrt(sum(r * r for r in residuals) / len(residuals))
    moved = []
    for row, r in zip(X.tolist(), residuals, strict=True):
        length = eps * abs(r) / rms if rms > 1e-10 else eps
        side = -1 if r > 0 else 1
        moved.append(
            [u + side * length * (1 if v >= 0 else -1) for u, v in zip(row, w, strict=True)]
        )
    return moved


def label_value(m, norm, eps, kappa):
    """Flips and moves, sorted by what they earn per unit of budget."""
    value = sum(math.log1p(math.exp(-t)) for t in m) / len(m)
    for rate in sorted(m / kappa, reverse=True):
        if rate <= norm or eps <= 0:
            break
        spent = min(eps, kappa / len(m))
        value, eps = value + rate * spent, eps - spent
    return float(value + eps * norm)


def three_slopes(a, w, b, x):
    def h(s):
        return sum(c * max(v * s + d, 0.0) for c, v, d in zip(a, w, b, strict=True))

    kinks = sorted({-d / v for v, d in zip(w, b, strict=True)})
    left = h(kinks[0] - 1) - h(kinks[0])
    right = h(kinks[-1] + 1) - h(kinks[-1])
    ends = max(left, right, 0.0)
    steep = [abs(left), abs(right)]
    steep += [abs((h(t) - h(s)) / (t - s)) for s, t in itertools.pairwise(kinks)]
    secants = [(h(t) - h(s)) / abs(t - s) for s in x for t in kinks if t != s]
    return [ends, max([ends, *secants]), max(steep)]


def slope_at_infinity(a, W, b, norm):
    """The two arcs beside every kink, and all stationary points on them."""
    best = 0.0
    candidates = [(-v, u) for u, v in W] + [(v, -u) for u, v in W]
    for mask_at in candidates:
        for turn in (1e-7, -1e-7):
            u = (mask_at[0] - turn * mask_at[1], mask_at[1] + turn * mask_at[0])
            on = [row[0] * u[0] + row[1] * u[1] > 0 for row in W]
            candidates = [*candidates, tuple((np.array(on) * a) @ W)]
    for u in [*candidates, (1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
        size = float(np.linalg.norm(u, norm))
        if size > 0:
            growth = sum(c * max(float(row @ u), 0.0) for c, row in zip(a, W, strict=True))
            best = max(best, growth / size)
    return best


def recession_slope(A, g):
    """Coordinate descent for the multipliers; single precision."""
    mu, rest = np.zeros(len(A)), g.copy()
    for _ in range(4000):
        before = mu.copy()
        for k, row in enumerate(A):
            new = max(0.0, mu[k] + row @ rest / (row @ row))
            rest = rest - (new - mu[k]) * row
            mu[k] = new
        if np.abs(mu - before).max() < 1e-10:
            break
    return np.float32(np.linalg.norm(rest))


def mask_bound(a, W):
    best = 0.0
    for u in itertools.product((-1.0, 1.0), repeat=W.shape[1]):
        pushes = [
            c * sum(p * q for p, q in zip(u, row, strict=True)) for c, row in zip(a, W, strict=True)
        ]
        best = max(best, sum(t for t in pushes if t > 0))
    return float(best)


def distance_to_error(knots, values, left, right, x, y):
    def f(s):
        if s < knots[0]:
            return y * (values[0] + left * (s - knots[0]))
        if s > knots[-1]:
            return y * (values[-1] + right * (s - knots[-1]))
        return y * float(np.interp(s, knots, values))

    if f(x) <= 0:
        return 0
    found = [abs(t - x) for t, v in zip(knots, values, strict=True) if v == 0]
    for k in range(len(knots) - 1):
        u, v = values[k], values[k + 1]
        if u * v < 0:
            zero = knots[k] - u * (knots[k + 1] - knots[k]) / (v - u)
            found.append(abs(zero - x))
    if y * left > 0 and y * values[0] > 0:
        found.append(abs(knots[0] - values[0] / left - x))
    if y * right < 0 and y * values[-1] > 0:
        found.append(abs(knots[-1] - values[-1] / right - x))
    if y * left < 0 and y * values[0] < 0:
        found.append(abs(knots[0] - values[0] / left - x))
    if y * right > 0 and y * values[-1] < 0:
        found.append(abs(knots[-1] - values[-1] / right - x))
    return min(found, default=math.inf)


def dlr_gradient(z, J, y):
    """A derivative by complex steps: no subtraction of nearby numbers."""
    out, order = [], np.argsort(-z)
    label = int(np.flatnonzero(order == y)[0])
    for column in J.T:
        w = (z + 1e-30j * column)[order]
        out.append(float(((w[1 if label == 0 else 0] - w[label]) / (w[0] - w[2])).imag / 1e-30))
    return out


def first_order_value(knots, values, left, right, x, eps):
    """Greedy: the segments of the hulls that are steeper than the rays, then the rays."""
    floor, segments, clean = max(-left, right, 0.0), [], []
    for s in x:
        outside = left * min(s - knots[0], 0) + right * max(s - knots[-1], 0)
        here = float(np.interp(s, knots, values)) + outside
        clean.append(here)
        at, level = 0.0, here
        points = sorted((abs(k - s), v) for k, v in zip(knots, values, strict=True))
        while True:
            rates = [((v - level) / (c - at), c, v) for c, v in points if c > at]
            if not rates or max(rates)[0] <= floor:
                break
            rate, c, v = max(rates)
            segments.append((rate, c - at))
            at, level = c, v
    total, left_over = sum(clean) / len(x), eps
    for rate, width in sorted(segments, reverse=True):
        part = min(width / len(x), left_over)
        total, left_over = total + rate * part, left_over - part
    return total + floor * left_over


def unbounded_counterexample(c):
    """One function for all c: it falls, and nowhere rises."""
    return [[-100, 1, 0, 0]]


def local_counterexample(eps):
    """The slope 2 is reached in the limit only."""
    return [[2, 1, -100]]
