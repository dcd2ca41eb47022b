# ex-least-risk: at most 4
# ex-training-level: at most 0
# ex-best-beta: at most 0
# ex-break-even: at most 0
# ex-loo-risk: at most 0
# ex-pnp-admm: at most 1
# ex-broken-post: at most 0
# ex-learn: at most 3
"""Off by one, four digits where six are asked for, a window too short, a mode too early."""

import numpy as np


def least_risk(a, b, delta):
    """The whole power beyond mode 10^4 counted twice over."""
    n = np.arange(1, 10_001.0)
    inside = np.sum(n ** (-2 * b) / (1 + n ** (-2 * (a + b)) / delta**2))
    return inside + 2 * 10_000.5 ** (1 - 2 * b) / (2 * b - 1)


def training_level(delta, a, b, b_test):
    aim = min(b_test, 2 * (a + b) + 0.5)
    return delta ** (0.8 * (a + b) / (a + aim))


def pnp_admm(A, D, y, rho):
    q = np.linalg.inv(D) - np.eye(len(D))
    limit = np.linalg.solve(A.T @ A + rho * q, A.T @ y)
    return np.array([float(f"{v:.3g}") for v in limit])


def post_noise(sigma, signal, delta):
    """The wrong power of the noise level: n = delta^-0.8 for b = 1."""
    n = np.argmin(np.abs(np.log(signal / delta**1.6)))
    return delta * np.eye(1, sigma.size, n)[0]


def best_beta(sigma, signal, delta):
    n = np.argmin(np.abs(np.log(sigma**2 * signal / delta**2)))
    return 3 / (32 * sigma[n] ** 2)


def break_even(sigma, signal, delta):
    q = sigma**2 / (sigma**2 + delta**2 * np.geomspace(1e-3, 1e9, 3000)[:, None] / signal.max())
    best = np.min(np.sum((1 - q) ** 2 * signal + (q * delta / sigma) ** 2, axis=1))
    return np.ceil(1 + 1 / (best / np.sum(signal / (1 + sigma**2 * signal / delta**2)) - 1))


def loo_risk(x, y):
    """The last pair is never left out."""
    cross, power = np.sum(x * y, axis=0), np.sum(y**2, axis=0)
    gains = (cross - x * y) / (power - y**2)
    return np.mean(np.sum((gains * y - x) ** 2, axis=1)[:-1])


def learn(past, basis, sigma, level):
    """Nine windows, and a single mean power for all modes of high frequency."""
    x = np.lib.stride_tricks.sliding_window_view(past, 64)[::64] @ basis
    power = np.mean(x**2, axis=0)
    power[10:] = power[10:].mean()
    return sigma * power / (sigma**2 * power + level**2)
