# ex-c6-stairs: at most 0
# ex-c6-mixture: at most 0
# ex-c6-square-root: at most 0
# ex-c6-far-away: at most 0
# ex-c6-recession: at most 0
# ex-c6-masks: at most 0
# ex-c6-dlr: at most 0
"""Sums over the wrong axis, transposed matrices, products in the wrong order."""

import numpy as np


def worst_gain(t, g, eps, p):
    stay = np.zeros((len(t), 1))
    cost, gain = np.hstack([stay, t**p]), np.hstack([stay, g])
    rise, run = gain[:, :, None] - gain[:, None], cost[:, :, None] - cost[:, None]
    prices = np.append(rise[run > 0] / run[run > 0], 0.0)
    return min(v * eps**p + (gain - v * cost).max(axis=0).mean() for v in prices)


def best_mixture(t, g, eps, p):
    reach = np.append(t[t > eps], eps)
    growth = np.where(t <= reach[:, None, None], g, 0).max(axis=1).mean(axis=1)
    return ((eps / reach) ** p * growth).max()


def worst_inputs(X, y, w, b, eps):
    residual = y - X @ w - b
    length = eps * residual / np.sqrt(np.mean(residual**2))
    return X - np.outer(np.sign(w), length).reshape(X.shape)


def slope_at_infinity(a, W, b, norm):
    kinks = np.concatenate([W, -W])  # the normals, not the kinks
    u = kinks / np.linalg.norm(kinks, norm, axis=1)[:, None]
    return max((np.maximum(u @ W.T, 0) @ a).min(), 0.0)


def recession_slope(A, g):
    return np.linalg.norm(np.maximum(A @ g, 0))


def mask_bound(a, W):
    return np.maximum(a[:, None] * W, 0).sum(axis=1).max()


def dlr_gradient(z, J, y):
    first, second, third = np.argsort(-z)[:3]
    rival = second if y == first else first
    G = J.reshape(J.shape[::-1]).T if J.shape[0] == J.shape[1] else J.T.reshape(J.shape)
    mu, B = z[rival] - z[y], z[first] - z[third]
    return (G[rival] - G[y]) / B - mu / B**2 * (G[first] - G[third])
