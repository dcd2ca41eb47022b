# ex-c6-knapsack: at most 3
# ex-c6-square-root: at most 4
# ex-c6-nearest-error: at most 3
# ex-c6-far-away: at most 0
# ex-c6-escape: at most 0
"""NaN where something is zero, infinite, or missing; or everywhere."""

import numpy as np


def robust_error(r, eps, p):
    if p == np.inf:
        return np.mean(r <= eps)
    cost = np.sort(r) ** p
    left = len(r) * eps**p - (np.cumsum(cost) - cost)
    return np.clip(left / cost, 0, 1).mean()  # 0 / 0 and inf - inf


def worst_inputs(X, y, w, b, eps):
    residual = y - X @ w - b
    length = eps * residual / np.sqrt(np.mean(residual**2))
    length[np.abs(residual) < 1e-9] = np.nan if np.abs(residual).max() < 1e-9 else 0
    return X - np.outer(length, np.sign(w))


def distance_to_error(knots, values, left, right, x, y):
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    if y * (np.interp(x, knots, values) + outside) <= 0:
        return 0.0
    ends = np.concatenate([[-np.inf], knots, [np.inf]])
    slope = np.concatenate([[left], np.diff(values) / np.diff(knots), [right]])
    zeros = np.append(knots[0], knots) - np.append(values[0], values) / slope
    inside = (ends[:-1] <= zeros) & (zeros <= ends[1:])
    return np.abs(zeros[inside] - x).min(initial=np.inf) if inside.any() else np.nan


def slope_at_infinity(a, W, b, norm):
    return np.nan


def first_order_value(knots, values, left, right, x, eps):
    return np.full((), np.nan)
