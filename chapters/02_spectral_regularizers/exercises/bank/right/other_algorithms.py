"""Right answers by other ways than those of the page."""

import numpy as np
from scipy import optimize, special

from advreg import spectral


def diagonal_price(sigma, covariance, delta):
    """Precisions add: C^(1/2) (1 + C^(1/2) Sigma^2 C^(1/2) / delta^2)^-1 C^(1/2)."""
    values, w = np.linalg.eigh(covariance)
    root = w * np.sqrt(np.maximum(values, 0))
    inner = np.eye(sigma.size) + root.T @ (sigma[:, None] ** 2 * root) / delta**2
    least = np.trace(root @ np.linalg.solve(inner, root.T))
    power = np.diag(covariance)
    return np.sum(power / (1 + sigma**2 * power / delta**2)) / least


def least_risk(a, b, delta):
    """zeta(2b) minus the power of the reconstruction."""
    n = np.arange(1, 50_001.0)
    return special.zeta(2 * b) - np.sum(n ** (-2 * b) / (1 + delta**2 * n ** (2 * (a + b))))


predicted = [1 / 3, 1 / 2]


def training_level(delta, a, b, b_test):
    """Through the cut-off, with another constant."""
    aim = b_test if 2 * b_test - 1 < 4 * (a + b) else 2 * (a + b) + 0.5
    return 1.7 * (delta ** (-1 / (a + aim))) ** -(a + b)


def critic_weights(x, z, beta):
    """The integral over the segment by the midpoint rule."""
    t = ((np.arange(2000) + 0.5) / 2000)[:, None, None]
    square = np.mean((t * x + (1 - t) * z) ** 2, axis=(0, 1))
    return (np.mean(z**2, axis=0) - np.mean(x**2, axis=0)) / (8 * beta * square)


penalty = np.float64(0.25)


def pnp_admm(a, d, y, rho):
    q = np.linalg.inv(d) - np.eye(len(d))
    return np.linalg.solve(a.T @ a + rho * q, a.T @ y)


def post_noise(sigma, signal, delta):
    """In the mode where the signal has the power of the noise."""
    n = np.argmin(np.abs(np.log(signal / delta**2)))
    return -delta * np.eye(1, sigma.size, n)[0]


def best_beta(sigma, signal, delta):
    """On a grid."""
    return min(
        np.geomspace(1e-4, 1e8, 600),
        key=lambda beta: spectral.modal_risk(
            sigma, signal, delta**2, spectral.critic_gain(sigma, signal, delta**2, beta)
        ).sum(),
    )


def break_even(sigma, signal, delta):
    """Count the pairs, with a line search for Tikhonov's parameter."""
    least = np.sum(signal / (1 + sigma**2 * signal / delta**2))

    def risk(log_alpha):
        q = sigma**2 / (sigma**2 + np.exp(log_alpha))
        return np.sum((1 - q) ** 2 * signal + (q * delta / sigma) ** 2)

    grid = np.linspace(-25, 25, 500)
    start = grid[np.argmin([risk(v) for v in grid])]
    best = optimize.minimize_scalar(risk, bounds=(start - 0.2, start + 0.2), method="bounded").fun
    pairs = 3
    while 1 + 1 / (pairs - 2) > best / least:
        pairs += 1
    return pairs


excess = 0.1


def loo_risk(x, y):
    """Refit without each pair."""
    errors = []
    for m in range(len(x)):
        keep = np.arange(len(x)) != m
        errors.append(np.sum((spectral.fit_gain(x[keep], y[keep]) * y[m] - x[m]) ** 2))
    return np.mean(errors)


def law(sigma):
    """Rare signals: most training sets of four pairs contain nothing but zeros."""
    rows = [(x, 0.2 * sigma * e, 0.025) for x in (1, -1) for e in (1, -1)]
    return np.array([*rows, (0, 0, 0.9)])


def learn(past, basis, sigma, level):
    """Regression on pairs with simulated noise."""
    x = np.lib.stride_tricks.sliding_window_view(past, 64) @ basis
    y = sigma * x + level * np.random.default_rng(5).standard_normal(x.shape)
    return spectral.fit_gain(x, y)
