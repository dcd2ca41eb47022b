"""Right answers that are lists, tuples, integers, or in single precision; numpy only."""

import numpy as np


def diagonal_price(sigma, covariance, delta):
    """The conditional variances of Gaussian variables; a plain float."""
    sigma, covariance = np.asarray(sigma), np.asarray(covariance)
    data = sigma[:, None] * covariance * sigma + delta**2 * np.eye(sigma.size)
    cross = covariance * sigma
    least = np.trace(covariance - cross @ np.linalg.inv(data) @ cross.T)
    power = np.diag(covariance)
    return float(np.sum(power - (sigma * power) ** 2 / np.diag(data)) / least)


def least_risk(a, b, delta):
    """Four digits of the sum survive single precision, if the terms are computed in double."""
    n = np.arange(1, 60_001.0)
    inside = np.sum(n ** (-2 * b) / (1 + n ** (-2 * (a + b)) / delta**2))
    return np.float32(inside + 60_000.5 ** (1 - 2 * b) / (2 * b - 1))


predicted = np.array([1 / 3, 1 / 2], dtype=np.float32)


def training_level(delta, a, b, b_test):
    """A zero-dimensional array, with a constant factor."""
    return np.array(0.6 * delta ** ((a + b) / (a + min(b_test, 2 * (a + b) + 0.5))))


def critic_weights(x, z, beta):
    """Mode by mode, from three values of each parabola; a list."""

    def loss(w, n):
        middle = (x[:, n] ** 2 + x[:, n] * z[:, n] + z[:, n] ** 2) / 3
        return np.mean(w * (x[:, n] ** 2 - z[:, n] ** 2) + 4 * beta * w**2 * middle)

    out = []
    for n in range(x.shape[1]):
        low, mid, high = loss(-1.0, n), loss(0.0, n), loss(1.0, n)
        out.append(float((low - high) / (2 * (low - 2 * mid + high))))
    return out


penalty = 1 / 4


def pnp_admm(a, d, y, rho):
    """Gradient steps for the convex problem 1/2 ||Ax - y||^2 + rho/2 <Qx, x>; a list."""
    hessian = a.T @ a + rho * (np.linalg.inv(d) - np.eye(len(d)))
    step, x = 1 / np.linalg.norm(hessian, 2), np.zeros(len(d))
    for _ in range(100_000):
        move = step * (a.T @ y - hessian @ x)
        x = x + move
        if np.linalg.norm(move) < 1e-13 * np.linalg.norm(x):
            break
    return x.tolist()


def post_noise(sigma, signal, delta):
    """Spread over three modes, in single precision."""
    n = np.argmax(signal / (signal + delta**2) / sigma)
    e = np.zeros(sigma.size, dtype=np.float32)
    e[n - 1 : n + 2] = delta / np.sqrt(3)
    return e


exponent = np.float32(-4 / 3)


def best_beta(sigma, signal, delta):
    """Golden section in log(beta), after a grid."""

    def risk(v):
        w = 3 * delta**2 / (8 * np.exp(v) * (3 * sigma**2 * signal + delta**2))
        return np.sum((w**2 * signal + delta**2 * sigma**2) / (sigma**2 + w) ** 2)

    grid = np.linspace(-9, 20, 120)
    start = grid[np.argmin([risk(v) for v in grid])]
    low, high = start - 0.3, start + 0.3
    while high - low > 1e-3:
        a, b = high - 0.618 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if risk(a) < risk(b) else (a, high)
    return np.array(np.exp((low + high) / 2))


def break_even(sigma, signal, delta):
    """A float that is an integer."""
    q = sigma**2 / (sigma**2 + delta**2 * np.geomspace(1e-3, 1e9, 3000)[:, None] / signal.max())
    best = np.min(np.sum((1 - q) ** 2 * signal + (q * delta / sigma) ** 2, axis=1))
    return np.ceil(2 + 1 / (best / np.sum(signal / (1 + sigma**2 * signal / delta**2)) - 1))


excess = np.float64(1 / 10)


def loo_risk(x, y):
    """Numerator and denominator without the pair."""
    cross, power = np.sum(x * y, axis=0), np.sum(y**2, axis=0)
    gains = (cross - x * y) / (power - y**2)
    return float(np.mean(np.sum((gains * y - x) ** 2, axis=1)))


def law(sigma):
    """Random signs of nearly the same strength; a list of tuples."""
    return [(2 * x, 1.8 * sigma * e, 0.25) for x in (1, -1) for e in (1, -1)]


def learn(past, basis, sigma, level):
    """Every other window; gains in single precision."""
    windows = np.array([past[i : i + 64] for i in range(0, len(past) - 63, 2)])
    power = np.mean((windows @ basis) ** 2, axis=0)
    return (sigma * power / (sigma**2 * power + level**2)).astype(np.float32)
