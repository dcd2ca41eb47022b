"""The same answer whatever the question."""

import numpy as np

truncation_step = 3
saturation_step = 2
predicted = {"t": 0.5, "t(1-t)": 0.5, "(1-t)^3": 0.5, "1-3t^2+2t^3": 0.5}
exponent = 2 / 3


def blur_pseudo_inverse(kernel, y):
    return np.zeros(np.shape(y))


def honest_sinogram(scanner):
    return np.full(scanner.range_shape, 0.2)


def tikhonov_solve(operator, y, alpha):
    return np.zeros(operator.domain_shape)


def landweber_factors(sigma, iterations, step):
    return np.full(np.shape(sigma), 0.5)


def truncation_noise(sigma, delta):
    return np.zeros(np.shape(sigma))


def saturation_noise(sigma, delta):
    return np.zeros(np.shape(sigma))


def best_error(sigma, x, delta):
    return 0.1


def discrepancy_alpha(operator, y, std, tau):
    return 0.01


def discrepancy_error(sigma, delta, tau):
    return 0.1


def gcv_score(operator, y, alpha):
    return 1.0


def deblur(operator, y):
    return np.ones(np.shape(y))
