"""Searches, optimizers, and dense matrices instead of formulas."""

import itertools

import numpy as np
from scipy import linalg, optimize

growth = {"db3": "converges", "db2": "constant steps", "haar": "doubles"}
zero_sum = {name: np.bool_(np.isclose(np.sum(a), 1)) for name, a in PROCESSES.items()}  # noqa: F821
union_step, prox_step = np.int64(4), np.int64(4)
limit, factor, matching_step = np.float64(-0.3), 1.414, 4


def vaguelettes(A, u):
    """Through the singular value decomposition."""
    left, values, right = np.linalg.svd(A, full_matrices=False)
    keep = values > 1e-10 * values[0]
    w = (u @ right[keep].T / values[keep]) @ left[:, keep].T
    return [row / np.linalg.norm(row) for row in w]


def difference_energy(h, level):
    """The autocorrelation, by its refinement equation, from the integers to ever finer grids."""
    a, reach = np.correlate(h, h, "full"), len(h) - 1
    r = {0: 1.0}  # at top / 2^depth
    for depth in range(1, level + 1):
        grid = range(-reach << depth, (reach << depth) + 1)
        lags = range(-reach, reach + 1)
        r = {t: sum(a[m + reach] * r.get(t - (m << (depth - 1)), 0.0) for m in lags) for t in grid}
    return 2 * 4**level * (r[0] - r.get(1, 0.0))


def union_example(first, second, noise):
    """A signal along the second basis, with a little of everything."""
    C = np.outer(second[-1], second[-1]) + 1e-6 * np.eye(len(first))
    return (C / np.trace(C)).tolist()


def correlated_gains(kappa, u, v, signal, noise, cross):
    A = np.linalg.solve(v, kappa[:, None] * u)
    data = A @ signal @ A.T + A @ cross + cross.T @ A.T + noise
    both = signal @ A.T + cross
    return [(a @ both @ b) / (b @ data @ b) for a, b in zip(u, v, strict=True)]


def denoising_taps(a, s, delta, taps):
    """From the autocorrelation of the spectrum: its causal factor, by Cholesky."""
    h = np.r_[1.0, -np.asarray(a, float)] * delta / s
    return list(np.pad(h, (0, taps - len(h)))[::-1])


def same_spectrum(k):
    """Every choice of one zero from each mirror pair, kept if it is real."""
    zeros, found = np.roots(k), []
    for flips in itertools.product([0, 1], repeat=len(zeros)):
        h = np.poly([1 / np.conj(z) if f else z for z, f in zip(zeros, flips, strict=True)])
        if np.abs(np.imag(h)).max() < 1e-8 * np.abs(h).max():
            h = np.real(h)
            found.append(-h * np.sqrt(k @ k / (h @ h)))
    return found


def mean_shift(x, filters, slope):
    y = x.copy()
    for k in filters:
        K = linalg.circulant(np.pad(k, (0, x.size - len(k))))
        y = y + K.T @ slope(K @ x)
    return float(np.mean(x) - np.mean(y))


def loss_interval(x, target, gradient):
    g = np.sqrt(gradient @ gradient)
    toward = target - x
    size = np.sqrt(toward @ toward)
    unit = toward / size if size > 0 else np.eye(x.size)[0]
    near = x + min(g, size) * unit
    far = x - g * unit
    return [((near - target) ** 2).sum() / 2, ((far - target) ** 2).sum() / 2]


def filter_gradient(k, y, target):
    """Differentiates the optimality condition numerically, and the minimizer not at all."""
    x, n = denoise(y, k), y.size  # noqa: F821

    def condition(x, k):
        K = linalg.circulant(np.pad(k, (0, n - len(k))))
        return x - y + K.T @ (K @ x / np.hypot(K @ x, NU))  # noqa: F821

    step = 1e-5
    H = np.array(
        [(condition(x + step * e, k) - condition(x - step * e, k)) / (2 * step) for e in np.eye(n)]
    ).T
    moved = np.array(
        [
            (condition(x, k + step * e) - condition(x, k - step * e)) / (2 * step)
            for e in np.eye(len(k))
        ]
    ).T
    return -moved.T @ np.linalg.solve(H, x - target)


def attack_matters(delta):
    return [(0.3 * delta, 0.3 * delta), (-0.3 * delta, -0.3 * delta)]


def attack_bounds(residual, delta):
    n = len(residual)
    moved = [((residual + sign * delta / n**0.5) ** 2).sum() for sign in (1, -1)]
    return max(moved), (np.sqrt(sum(residual**2)) + delta) ** 2


def oscillating_denoiser(A, clean):
    """A reflection that turns only what is neither seen nor clean."""
    hidden = linalg.null_space(np.vstack([A, clean]))
    return np.eye(A.shape[1]) - 2 * hidden @ hidden.T


def pnp_gains(sigma, d, tau):
    def limit_of(s, q):
        slope = q * (1 - tau * s**2)
        return optimize.brentq(lambda x: slope * x + q * tau * s - x, -1, 1e3, xtol=1e-14)

    return [limit_of(s, q) for s, q in zip(sigma, d, strict=True)]
