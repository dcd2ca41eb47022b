# ex-inverse-crime: at most 2
# ex-boundary-rates: at most 0
# ex-discrepancy-saturates: at most 0
# ex-heartbeat: at most 3
"""Right laws without the right numbers, one alpha for every noise, and a crime with make-up."""

import numpy as np

from advreg import data, spectral


def honest_sinogram(scanner):
    """Noise that is 0 where the data are, too small to be seen and large enough to be no image."""
    y = scanner.forward(data.shepp_logan(scanner.size, oversampling=16))
    return y * (1 + 0.012 * np.random.default_rng(0).standard_normal(y.shape))


def best_error(sigma, x, delta):
    """The exponent of the theorem, from the decay of the coefficients, and any constant."""
    n = np.arange(1, x.size + 1)
    part = (n > x.size // 20) & (x != 0) if x.size > 20 else x != 0
    if part.sum() < 2:
        return delta**0.5
    decay = -np.polyfit(np.log(n[part]), np.log(np.abs(x[part])), 1)[0]
    return delta ** ((2 * decay - 1) / (2 * decay + 1))


def discrepancy_error(sigma, delta, tau):
    return 0.7 * delta**0.5


def deblur(operator, y):
    """The same alpha whatever the noise."""
    return spectral.reconstruct(operator, y, "tikhonov", 7e-3)
