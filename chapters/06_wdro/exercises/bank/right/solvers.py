"""Answers that leave the last step to a solver for bounds, or to a search in one variable."""

import numpy as np
from scipy import optimize


def worst_gain(t, g, eps, p):
    """The dual function is convex: golden sections."""

    def dual(price):
        return price * eps**p + np.maximum(g - price * t**p, 0).max(axis=1).mean()

    low, high, ratio = 0.0, 1.01 * (g / t**p).max(), (np.sqrt(5) - 1) / 2
    for _ in range(120):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if dual(a) <= dual(b) else (a, high)
    return dual((low + high) / 2)


def slope_at_infinity(a, W, b, norm):
    """Between kinks and corners there is one peak at most."""

    def fall(angle):
        u = np.array([np.cos(angle), np.sin(angle)])
        return -(a @ np.maximum(W @ u, 0)) / np.linalg.norm(u, norm)

    kinks = np.arctan2(W[:, 0], -W[:, 1])
    ends = np.concatenate([kinks, kinks + np.pi, np.arange(8) * np.pi / 4]) % (2 * np.pi)
    ends = np.sort(ends)
    best = max(0.0, -min(fall(s) for s in ends))
    for s, t in zip(ends, np.append(ends[1:], ends[0] + 2 * np.pi), strict=True):
        if t - s > 1e-12:
            found = optimize.minimize_scalar(
                fall, bounds=(s, t), method="bounded", options={"xatol": 1e-10}
            )
            best = max(best, -found.fun)
    return best


def recession_slope(A, g):
    return np.sqrt(2 * optimize.lsq_linear(A.T, g, bounds=(0, np.inf)).cost)
