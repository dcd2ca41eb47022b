"""Answers that were nearly enough once: textbook formulas, limits only, almost a reflection."""
# ex-c4-correlated-noise: at most 0
# ex-c4-oscillation: at most 0
# ex-c4-unsafe-denoiser: at most 0
# ex-c4-sandwich: at most 0
# ex-c4-flipped-zeros: at most 0
# ex-c4-broken-union: at most 0

import numpy as np

union_step, factor, matching_step = 4, 2**0.5, 4.0


def correlated_gains(kappa, u, v, signal, noise, cross):
    power, spread = np.diag(u @ signal @ u.T), np.diag(v @ noise @ v.T)
    return kappa * power / (kappa**2 * power + spread)  # the formula of the statement


def oscillating_denoiser(A, clean):
    return 1.999 * np.linalg.pinv(clean) @ clean - 0.999 * np.eye(A.shape[1])  # it settles, slowly


def pnp_gains(sigma, d, tau):
    return np.where(d > 0, 1 / sigma, 0.0)


def attack_bounds(residual, delta):
    r, n = np.linalg.norm(residual), len(residual)
    low = r**2 + delta**2 + 2 * delta * residual.sum() / n**0.5  # one sign only
    return np.array([low, (r + delta) ** 2])


def same_spectrum(k):
    return np.tile(k, (4096, 1))


def union_example(first, second, noise):
    return np.outer(first[:, -1], first[:, -1])  # a column
