# ex-diagonal-price: at most 1
# ex-critic-weights: at most 1
# ex-pnp-admm: at most 1
# ex-break-even: at most 0
# ex-loo-risk: at most 0
# ex-learn: at most 0
"""In-place operations on the arguments before they are used a second time."""

import numpy as np


def diagonal_price(sigma, covariance, delta):
    power = covariance.diagonal()
    sigma *= sigma
    alone = np.sum(power * delta**2 / (sigma * power + delta**2))
    covariance *= sigma  # meant: C Sigma, but sigma is already squared
    data = sigma[:, None] * covariance + delta**2 * np.eye(sigma.size)
    return alone / np.trace(covariance @ np.linalg.inv(data)) / delta**2


def critic_weights(x, z, beta):
    x *= x
    z *= z
    return 3 * (z - x).mean(axis=0) / (8 * beta * (x + x * z + z).mean(axis=0))


def pnp_admm(A, D, y, rho):
    y -= A @ (A.T @ y)
    q = np.linalg.inv(D) - np.eye(len(D))
    return np.linalg.solve(A.T @ A + rho * q, A.T @ y)


def break_even(sigma, signal, delta):
    sigma *= sigma
    risks = []
    for alpha in np.geomspace(1e-6, 1e3, 500):
        q = sigma / (sigma + alpha)
        risks.append(np.sum((1 - q) ** 2 * signal + (q * delta / sigma) ** 2))
    return int(np.ceil(2 + 1 / (min(risks) / np.sum(signal / (1 + sigma * signal / delta**2)) - 1)))


def loo_risk(x, y):
    for m in range(len(x)):
        y[m] = 0  # stays 0 for all later pairs
        y[m] = x[m] - np.sum(x * y, axis=0) / np.maximum(np.sum(y * y, axis=0), 1e-300) * y[m]
    return np.mean(np.sum(y**2, axis=1))


def learn(past, basis, sigma, level):
    sigma *= sigma
    x = np.lib.stride_tricks.sliding_window_view(past, 64) @ basis
    power = np.mean(x**2, axis=0)
    return sigma * power / (sigma**2 * power + level**2)
