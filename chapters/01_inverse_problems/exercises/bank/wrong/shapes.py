# ex-blur-pseudo-inverse: at most 0
# ex-inverse-crime: at most 0
# ex-tikhonov-solve: at most 4
# ex-landweber-factors: at most 0
# ex-broken-truncation: at most 0
# ex-broken-saturation: at most 0
# ex-discrepancy-alpha: at most 0
# ex-heartbeat: at most 0
"""The right numbers in the wrong place: an axis too many, flat images, a transposed sinogram."""

import numpy as np

from advreg import data

_solve, _factors, _alpha = tikhonov_solve, landweber_factors, discrepancy_alpha  # noqa: F821
_truncation, _saturation = truncation_noise, saturation_noise  # noqa: F821
_inverse, _deblur = blur_pseudo_inverse, deblur  # noqa: F821


def blur_pseudo_inverse(kernel, y):
    return _inverse(kernel, y)[:, None]


def honest_sinogram(scanner):
    return data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid)[:, ::-1].T


def tikhonov_solve(operator, y, alpha):
    return _solve(operator, y, alpha).ravel()


def landweber_factors(sigma, iterations, step):
    return np.append(0.0, _factors(sigma, iterations, step))


def truncation_noise(sigma, delta):
    return np.flatnonzero(_truncation(sigma, delta))


def saturation_noise(sigma, delta):
    return _saturation(sigma, delta)[None]


def discrepancy_alpha(operator, y, std, tau):
    return [_alpha(operator, y, std, tau)]


def deblur(operator, y):
    return _deblur(operator, y).reshape(2, -1)
