# ex-c6-mixture: at most 1
# ex-c6-three-slopes: at most 2
# ex-c6-far-away: at most 2
# ex-c6-recession: at most 2
# ex-c6-escape: at most 3
"""Grids that are meant to hit every kink, one projection after the other, two bounds in one."""

import numpy as np


def best_mixture(t, g, eps, p):
    factors = np.linspace(1, 60, 59 * 64 + 1)
    return max(u**-p * np.where(t <= u * eps, g, 0).max(axis=1).mean() for u in factors)


def three_slopes(a, w, b, x):
    grid = np.linspace(-10, 10, 20001)
    h, here = (np.maximum(np.outer(s, w) + b, 0) @ a for s in (grid, x))
    slope = np.diff(h) / np.diff(grid)
    ends = max(-slope[0], slope[-1], 0.0)
    run = np.abs(grid - x[:, None])
    secant = ((h - here[:, None])[run > 1e-6] / run[run > 1e-6]).max()
    return ends, max(ends, secant), np.abs(slope).max()


def slope_at_infinity(a, W, b, norm):
    angle = np.linspace(0, 2 * np.pi, 40001)
    u = np.column_stack([np.cos(angle), np.sin(angle)])
    u /= np.linalg.norm(u, norm, axis=1)[:, None]
    return max(0.0, (np.maximum(u @ W.T, 0) @ a).max())


def recession_slope(A, g):
    """Alternating projections find a point of the cone, but not the nearest one."""
    u = g
    for _ in range(300):
        for row in A:
            u = u - max(0.0, row @ u) / (row @ row) * row
    size = np.linalg.norm(u)
    return max(0.0, g @ u / size) if size > 1e-9 else 0.0


def first_order_value(knots, values, left, right, x, eps):
    """The line of small radii and the line of large radii: right at both ends of the curve."""
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    clean, far = np.interp(x, knots, values) + outside, max(-left, right, 0.0)
    cost = np.abs(knots - x[:, None])
    secant = max(((values - clean[:, None]) / np.maximum(cost, 1e-12)).max(), far)
    top = np.maximum(clean, (values - far * cost).max(axis=1))
    return min(clean.mean() + eps * secant, top.mean() + eps * far)
