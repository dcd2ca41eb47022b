# ex-blur-pseudo-inverse: at most 4
# ex-inverse-crime: at most 1
# ex-tikhonov-solve: at most 5
# ex-landweber-factors: at most 4
# ex-broken-truncation: at most 0
# ex-boundary-rates: at most 4
# ex-discrepancy-alpha: at most 5
# ex-discrepancy-saturates: at most 3
# ex-gcv-score: at most 6
# ex-heartbeat: at most 1
"""Right for the first examples that come to mind, and wrong for the others."""

import numpy as np
from scipy.optimize import brentq

from advreg import data, spectral


def blur_pseudo_inverse(kernel, y):
    """Zeros are recognised in the wrong units, and small waves are dropped."""
    lam = np.fft.fft(kernel)
    gain = np.divide(1, lam, out=np.zeros_like(lam), where=np.abs(lam) > 1e-2)
    return np.fft.ifft(gain * np.fft.fft(y)).real


def honest_sinogram(scanner):
    """Noise hides the crime."""
    y = scanner.forward(data.shepp_logan(scanner.size))
    return y + 0.01 * np.random.default_rng(0).standard_normal(y.shape)


def tikhonov_solve(operator, y, alpha):
    """Steepest descent with an absolute tolerance."""
    x = np.zeros(operator.domain_shape)
    step = 1 / (operator.norm() ** 2 + alpha)
    for _ in range(20_000):
        gradient = operator.adjoint(operator.forward(x) - y) + alpha * x
        if np.linalg.norm(gradient) < 1e-8:
            break
        x -= step * gradient
    return x


def landweber_factors(sigma, iterations, step):
    """Factors above 1 are cut off."""
    return np.clip(1 - (1 - step * sigma**2) ** iterations, 0, 1)


def truncation_noise(sigma, delta):
    """The error tends to 0, but slowly."""
    e = np.zeros(sigma.size)
    e[np.flatnonzero(sigma >= delta**0.9)[-1]] = delta
    return e


def best_error(sigma, x, delta):
    """Within a tenth of the least error only."""
    alphas = np.geomspace(1e-7, 1e3, 80)[:, None]
    q = spectral.iterated_tikhonov(sigma, alphas)
    return 1.1 * spectral.worst_case_error(sigma, x, q, delta).min()


def discrepancy_alpha(operator, y, std, tau):
    """The bracket is too small."""
    sigma, c = operator.singular_values, operator.analyse(y)
    outside = np.linalg.norm(y - operator.synthesise_range(c))

    def excess(power):
        rest = c / (sigma**2 / 10**power + 1)
        return np.hypot(np.linalg.norm(rest), outside) - tau * std * np.sqrt(y.size)

    return 10 ** brentq(excess, -6, 2)


def discrepancy_error(sigma, delta, tau):
    """A coarse grid of alphas."""
    alphas = np.geomspace(1e-9, 1e3, 2000)[:, None]
    first = sigma[0] / (sigma[0] ** 2 / alphas + 1)
    residual = np.hypot(first, delta / (sigma[1:] ** 2 / alphas + 1))
    best = alphas[np.abs(residual - tau * delta).argmin(axis=0), 0]
    s = sigma[1:]
    return np.hypot(best / (sigma[0] ** 2 + best), delta * s / (s**2 + best)).max()


def gcv_score(operator, y, alpha):
    """The axes of the data are taken for one."""
    sigma, c = operator.singular_values, operator.analyse(y)
    q = sigma**2 / (sigma**2 + alpha)
    left = y - operator.synthesise_range(q * c)
    return len(y) * np.sum(left**2) / (len(y) - q.sum()) ** 2


def deblur(operator, y):
    """One alpha, tuned by hand on one recording."""
    return spectral.reconstruct(operator, y, "tikhonov", 1e-4 if np.ptp(y) < 1e3 else 1e-3)
