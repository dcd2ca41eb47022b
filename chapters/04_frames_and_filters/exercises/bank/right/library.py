"""The book's own package, and other algorithms of linear algebra."""

import numpy as np

from advreg import variational


def vaguelettes(A, u):
    """By the normal equations of the least-norm solution, w = A z."""
    z = np.linalg.pinv(A.T @ A, rcond=1e-10, hermitian=True) @ u.T
    w = (A @ z).T
    return w / np.sqrt((w**2).sum(axis=1))[:, None]


def denoising_taps(a, s, delta, taps):
    power = variational.autoregressive_power(24, a, s**2)
    return variational.fit_quadratic(power, np.full(24, delta**2), taps)[0]


def mean_shift(x, filters, slope):
    spectra = np.fft.rfft(filters, x.size, axis=1)
    z = np.fft.irfft(spectra * np.fft.rfft(x), x.size, axis=1)
    return np.array(-np.real(spectra[:, 0]) @ slope(z).mean(axis=1))


def filter_gradient(k, y, target):
    potential = variational.SmoothedL1(NU)  # noqa: F821
    _, gradient, _ = variational.filter_gradient(y, target, [k], potential, tol=1e-9)
    return y.size * gradient[0]


def correlated_gains(kappa, u, v, signal, noise, cross):
    """Samples with exactly these moments, and a regression for each coefficient."""
    moments = np.block([[signal, cross], [cross.T, noise]])
    values, axes = np.linalg.eigh(moments)
    x, e = np.split(axes * np.sqrt(np.maximum(values, 0)), 2)
    seen = kappa[:, None] * (u @ x) + v @ e
    return np.array(
        [np.linalg.lstsq(s[:, None], w, rcond=None)[0][0] for s, w in zip(seen, u @ x, strict=True)]
    )


def oscillating_denoiser(A, clean):
    _, values, rows = np.linalg.svd(np.vstack([clean, np.zeros(A.shape[1])]))
    rank = int((values > 1e-10).sum())
    return (rows.T * np.where(np.arange(A.shape[1]) < rank, 1.0, -1.0)) @ rows


def union_example(first, second, noise):
    return np.outer(first[-1], first[-1]).astype(np.float32)
