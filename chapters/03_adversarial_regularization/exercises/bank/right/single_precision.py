"""Other types: single precision where the tolerance allows it, tensors, 0-dimensional arrays."""

import numpy as np
import torch


def logistic_risk(w, b, X, y, delta, p):
    q = {1: np.inf, np.inf: 1}.get(p) or p / (p - 1)
    margin = y * (X @ w + b) - delta * np.linalg.norm(w, ord=q)
    return torch.nn.functional.softplus(torch.as_tensor(-margin)).mean().numpy()


def squared_gap(w, residuals, C, delta):
    size = np.linalg.norm(np.linalg.cholesky(C).T @ w)
    return np.asarray(np.mean((np.abs(residuals) + delta * size) ** 2 - residuals**2))


def hinge_counterexample(delta):
    return delta * np.linspace(3, 4, 7)


def interpolation_radius(X, y):
    w = np.linalg.lstsq(X, y, rcond=None)[0]
    u, s, v = np.linalg.svd(X, full_matrices=False)
    dual = u @ (v @ w / s) / np.linalg.norm(w)
    return np.float32(1 / (len(y) * np.abs(dual).max()))


def reached(path, spread):
    late = max(0.0, min(path + spread - 1, 2 * spread))  # what the last start would overshoot
    lost = late**2 / (4 * spread) if spread else 0.0
    return np.float32(path - lost - max(path - 1 - spread, 0.0))


def almost_sure_gain(x, sigma, delta):
    power, size = np.mean(x**2), np.mean(np.abs(x))
    if delta <= sigma * size:
        return np.float32(1 / sigma)
    top = max(sigma * power - delta * size, 0.0)
    bottom = sigma**2 * power - 2 * delta * sigma * size + delta**2
    return np.array(top / bottom) if top else 0


def water_filling(sigma, signal, delta):
    """One mode after the other."""
    left, level = delta**2, np.inf
    for s, p in sorted(zip(sigma, signal, strict=True)):
        if left < s**2 * p:
            level = s**2
            break
        left -= s**2 * p
    return torch.as_tensor(np.minimum(1 / sigma, sigma / level))


def two_mode_decoder(y):
    first = np.where(np.abs(y[:, 0]) < 0.5, 0, np.sign(y[:, 0]))
    points = {0.0: (0, 2**0.5), 1.0: (1.5**0.5, -(0.5**0.5)), -1.0: (-(1.5**0.5), -(0.5**0.5))}
    return np.array([points[float(f)] for f in first], dtype=np.float32)


def dead_zone(y, delta):
    """The threshold by interpolation between two that were found by trying."""
    threshold = np.interp(delta, [1, 1.25], [0.5, 1])
    return torch.nn.functional.softshrink(torch.as_tensor(y), threshold)


def least_lipschitz(sigma, signal, noise, excess):
    """Newton's method for the level."""
    best = sigma * signal / (sigma**2 * signal + noise)

    def excess_risk(g):
        return np.sum((sigma**2 * signal + noise) * (g - best) ** 2)

    allowed = excess * (np.sum(signal) - np.sum((sigma**2 * signal + noise) * best**2))
    if excess_risk(0 * best) <= allowed:
        return 0
    level = 0.0
    for _ in range(100):
        low = np.minimum(best, level)
        slope = -2 * np.sum((sigma**2 * signal + noise) * (best - low))
        level -= (excess_risk(low) - allowed) / slope  # convex: from the left, monotonically
    return np.float32(level)
