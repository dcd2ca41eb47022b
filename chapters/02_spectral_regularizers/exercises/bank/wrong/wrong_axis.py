# ex-diagonal-price: at most 0
# ex-critic-weights: at most 2
# ex-pnp-admm: at most 2
# ex-loo-risk: at most 0
# ex-broken-price: at most 0
# ex-learn: at most 0
"""Sums and means over the wrong axis, and transposes."""

import numpy as np


def diagonal_price(sigma, covariance, delta):
    power = covariance.sum(axis=0)
    return np.sum(power * delta**2 / (sigma**2 * power + delta**2)) / delta**2


def critic_weights(x, z, beta):
    return 3 * np.mean(z**2 - x**2, axis=1) / (8 * beta * np.mean(x**2 + x * z + z**2, axis=1))


def pnp_admm(A, D, y, rho):
    q = np.linalg.inv(D) - np.eye(len(D))
    return np.linalg.solve(A @ A.T + rho * q, A @ y)


def loo_risk(x, y):
    gains = np.sum(x * y, axis=1) / np.sum(y**2, axis=1)
    h = y**2 / np.sum(y**2, axis=1, keepdims=True)
    return np.mean(np.sum(((gains[:, None] * y - x) / (1 - h)) ** 2, axis=1))


def law(sigma):
    return np.array([(x, sigma * e, 0.25) for x in (1, -1) for e in (1, -1)]).T


def learn(past, basis, sigma, level):
    power = np.mean((np.lib.stride_tricks.sliding_window_view(past, 64) @ basis) ** 2, axis=1)[:64]
    return sigma * power / (sigma**2 * power + level**2)
