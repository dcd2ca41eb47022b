"""Dense matrices wherever they are small enough."""

import numpy as np
from scipy import optimize

from advreg import operators
from advreg.data import shepp_logan


def blur_pseudo_inverse(kernel, y):
    a = np.array([np.roll(kernel, k) for k in range(len(kernel))]).T
    return np.linalg.lstsq(a, y, rcond=1e-10)[0]


def honest_sinogram(scanner, factor=4):
    """Rays of a finer scanner, averaged over each detector."""
    fine = operators.ParallelBeam(
        factor * scanner.size, scanner.angles.size, factor * scanner.detectors
    )
    y = fine.forward(shepp_logan(factor * scanner.size))
    return y.reshape(*scanner.range_shape, factor).mean(axis=-1)


def tikhonov_solve(operator, y, alpha):
    a = operator.to_matrix()
    x = np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T @ np.ravel(y))
    return x.reshape(operator.domain_shape)


def landweber_factors(sigma, iterations, step):
    return step * sigma**2 * sum(((1 - step * sigma**2) ** j for j in range(iterations)), 0.0)


def truncation_noise(sigma, delta):
    """The same mode found by a loop, with the other sign."""
    e = np.zeros(sigma.size)
    n = max(i for i, s in enumerate(sigma) if s >= delta)
    e[n] = -delta
    return e


def saturation_noise(sigma, delta):
    e = np.zeros(sigma.size)
    e[np.flatnonzero(sigma >= delta ** (1 / 3))[-1]] = -delta
    return e


def best_error(sigma, x, delta):
    """The simple bound bias + delta max g in place of the exact supremum."""
    alpha = np.geomspace(1e-8, 1e4, 100)[:, None]
    rest = (alpha / (sigma**2 + alpha)) ** 2
    bias = np.sqrt((rest**2 * x**2).sum(axis=1))
    return (bias + delta * ((1 - rest) / sigma).max(axis=1)).min()


def discrepancy_alpha(operator, y, std, tau):
    a = operator.to_matrix()
    unit = np.linalg.norm(a, 2) ** 2

    def excess(log_alpha):
        shifted = a @ a.T / (unit * np.exp(log_alpha)) + np.eye(y.size)
        return np.linalg.norm(np.linalg.solve(shifted, y)) - tau * std * np.sqrt(y.size)

    return unit * np.exp(optimize.brentq(excess, -30, 30, xtol=1e-10))


def discrepancy_error(sigma, delta, tau):
    errors = []
    for s in sigma[1:]:

        def excess(a, s=s):
            a = np.exp(a)
            return np.hypot(sigma[0] * a / (sigma[0] ** 2 + a), delta * a / (s**2 + a)) - (
                tau * delta
            )

        alpha = np.exp(optimize.brentq(excess, -40, 20))
        errors.append(np.hypot(alpha / (sigma[0] ** 2 + alpha), delta * s / (s**2 + alpha)))
    return max(errors)


def gcv_score(operator, y, alpha):
    a = operator.to_matrix()
    v, s, _ = np.linalg.svd(a, full_matrices=True)
    q = np.zeros(y.size)
    q[: s.size] = s**2 / (s**2 + alpha)
    left = (1 - q) * (v.T @ np.ravel(y))
    return np.mean(left**2) / np.mean(1 - q) ** 2


def deblur(operator, y):
    """Cross-validation by hand, on the waves that the blur does not kill."""
    sigma, c = operator.singular_values, operator.analyse(y)
    alphas = np.geomspace(1e-6, 1, 200)[:, None]
    q = sigma**2 / (sigma**2 + alphas)
    score = (((1 - q) * c) ** 2).sum(axis=1) / (1 - q).sum(axis=1) ** 2
    best = alphas[np.argmin(score)]
    return operator.synthesise(sigma / (sigma**2 + best) * c)
