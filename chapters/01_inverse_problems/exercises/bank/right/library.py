"""What the library offers, and iterative methods; the answers of broken proofs are shared."""

import math

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsqr

from advreg import operators, spectral
from advreg.data import shepp_logan


def blur_pseudo_inverse(kernel, y):
    """Eigenvectors of A*A, with a threshold in the units of the kernel."""
    scale = np.abs(kernel).max() or 1.0
    a = np.array([np.roll(kernel / scale, k) for k in range(len(kernel))]).T
    values, w = np.linalg.eigh(a.T @ a)
    keep = values > 1e-11 * max(values.max(), 1e-11)
    return w[:, keep] @ ((w[:, keep].T @ (a.T @ y)) / values[keep]) / scale


def honest_sinogram(scanner):
    fine = operators.ParallelBeam(2 * scanner.size, scanner.angles.size, 2 * scanner.detectors)
    y = fine.forward(shepp_logan(2 * scanner.size))
    return y.reshape(*scanner.range_shape, 2).mean(axis=-1)


def tikhonov_solve(operator, y, alpha):
    if not np.any(y):
        return np.zeros(operator.domain_shape)
    m, n = math.prod(operator.range_shape), math.prod(operator.domain_shape)
    a = LinearOperator(
        (m, n),
        matvec=lambda x: operator.forward(x.reshape(operator.domain_shape)).ravel(),
        rmatvec=lambda r: operator.adjoint(r.reshape(operator.range_shape)).ravel(),
        dtype=float,
    )
    x = lsqr(a, np.ravel(y), damp=np.sqrt(alpha), atol=1e-12, btol=1e-12, iter_lim=10_000)[0]
    return x.reshape(operator.domain_shape)


def landweber_factors(sigma, iterations, step):
    x = np.zeros_like(sigma)
    for _ in range(iterations):
        x += step * sigma * (1 - sigma * x)
    return sigma * x


def truncation_noise(sigma, delta):
    """Shared between the last two modes kept."""
    e = np.zeros(sigma.size)
    n = np.count_nonzero(sigma >= delta)
    e[n - 2 : n] = delta / np.sqrt(2)
    return e


def saturation_noise(sigma, delta):
    """A mode just below, not above."""
    e = np.zeros(sigma.size)
    e[np.flatnonzero(sigma <= delta ** (1 / 3))[0]] = delta
    return e


def best_error(sigma, x, delta):
    alphas = np.geomspace(1e-7, 1e3, 70)[:, None]
    return spectral.worst_case_error(
        sigma, x, spectral.iterated_tikhonov(sigma, alphas), delta
    ).min()


def discrepancy_alpha(operator, y, std, tau):
    level = std * np.sqrt(y.size)
    return spectral.discrepancy_principle(operator, y, "tikhonov", level, tau).alpha


def gcv_score(operator, y, alpha):
    choice = spectral.gcv(operator, y, "tikhonov", [alpha, 1e3 * alpha])
    return y.size * choice.score[0]  # the library leaves out the factor D


def deblur(operator, y):
    """Conjugate gradients stopped by a noise level that is estimated from the blind modes."""
    blind = operator.analyse(y)[operator.singular_values < 1e-6]
    level = np.sqrt(y.size) * np.median(np.abs(blind)) / 0.6745
    return spectral.cgls(operator, y, 1000, stop=1.01 * level).x[-1]
