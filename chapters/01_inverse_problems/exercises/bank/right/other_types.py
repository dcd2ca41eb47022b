"""The same as lists, arrays without axes, single precision and numpy scalars."""

import numpy as np
from scipy.optimize import brentq

from advreg import data

truncation_step = np.int64(4)
saturation_step = np.int32(3)
predicted = {
    "1-3t^2+2t^3": np.float64(5 / 7),
    "(1-t)^3": 0.6,
    "t(1-t)": np.float32(0.6),
    "t": 0.333,
}
exponent = np.array(0.5)


def blur_pseudo_inverse(kernel, y):
    spectrum = [complex(value) for value in np.fft.rfft(kernel)]
    top = max(abs(value) for value in spectrum)
    waves = [
        wave / value if abs(value) > 1e-9 * top else 0
        for value, wave in zip(spectrum, np.fft.rfft(y), strict=True)
    ]
    return np.fft.irfft(waves, len(y)).tolist()


def honest_sinogram(scanner):
    return [
        data.shepp_logan_sinogram([angle], scanner.detector_grid)[0].tolist()
        for angle in scanner.angles
    ]


def tikhonov_solve(operator, y, alpha):
    a = operator.to_matrix()
    stacked = np.vstack([a, np.sqrt(alpha) * np.eye(a.shape[1])])
    right = np.r_[np.ravel(y), np.zeros(a.shape[1])]
    x = np.linalg.lstsq(stacked, right, rcond=None)[0]
    return x.reshape(operator.domain_shape).tolist()


def landweber_factors(sigma, iterations, step):
    return (1 - (1 - step * sigma**2) ** iterations).astype(np.float32)


def truncation_noise(sigma, delta):
    last = int(np.count_nonzero(sigma >= delta)) - 1
    return [delta if n == last else 0 for n in range(len(sigma))]


def saturation_noise(sigma, delta):
    e = np.zeros(sigma.shape, np.float32)
    e[np.argmin(np.abs(np.log(sigma) - np.log(delta) / 3))] = 0.999 * delta
    return e


def best_error(sigma, x, delta):
    least = np.inf
    for alpha in np.geomspace(1e-7, 1e3, 90):
        rest = (alpha / (sigma**2 + alpha)) ** 2
        least = min(least, np.linalg.norm(rest * x) + delta * np.max((1 - rest) / sigma))
    return np.float32(least)


def discrepancy_alpha(operator, y, std, tau):
    v, s, _ = np.linalg.svd(operator.to_matrix(), full_matrices=True)
    sigma = np.zeros(y.size)
    sigma[: s.size] = s
    c = v.T @ y

    def excess(power):
        alpha = 10.0**power
        return np.log(np.linalg.norm(c * alpha / (sigma**2 + alpha)) / (tau * std * y.size**0.5))

    return np.array(10 ** brentq(excess, -25, 25))


def discrepancy_error(sigma, delta, tau):
    def alpha_for(s):
        low, high = 1e-20, 1e8
        while high / low > 1 + 1e-9:
            a = np.sqrt(low * high)
            residual = np.hypot(sigma[0] / (sigma[0] ** 2 / a + 1), delta / (s**2 / a + 1))
            low, high = (low, a) if residual > tau * delta else (a, high)
        return low

    worst = 0.0
    for s in sigma[1:]:
        a = alpha_for(s)
        worst = max(worst, np.hypot(a / (sigma[0] ** 2 + a), delta * s / (s**2 + a)))
    return np.float64(worst)


def gcv_score(operator, y, alpha):
    a = operator.to_matrix()
    hat = a @ np.linalg.inv(a.T @ a + max(alpha, 1e-12) * np.eye(a.shape[1])) @ a.T
    flat = np.ravel(y)
    return np.array(np.mean((flat - hat @ flat) ** 2) / (1 - np.trace(hat) / y.size) ** 2)


def deblur(operator, y):
    spectrum = np.abs(np.fft.rfft(operator.kernel))
    waves = np.fft.rfft(y)
    blind = spectrum < 1e-6
    level = np.sqrt(y.size * np.mean(np.abs(waves[blind]) ** 2 / y.size))

    def excess(power):
        rest = waves / (spectrum**2 * 10.0**-power + 1)
        return np.linalg.norm(np.fft.irfft(rest, y.size)) - level

    alpha = 10 ** brentq(excess, -12, 6)
    return np.fft.irfft(waves * spectrum / (spectrum**2 + alpha), y.size).tolist()
