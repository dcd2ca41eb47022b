# ex-broken-truncation: at most 0
# ex-broken-saturation: at most 0
# ex-boundary-rates: at most 0
# ex-discrepancy-saturates: at most 0
"""Steps and predictions are right, the functions are guesses: no points for a lucky number."""

import numpy as np

truncation_step = 4
saturation_step = 3
predicted = {"t": 1 / 3, "t(1-t)": 3 / 5, "(1-t)^3": 3 / 5, "1-3t^2+2t^3": 5 / 7}
exponent = 1 / 2


def truncation_noise(sigma, delta):
    return np.full(sigma.size, delta / np.sqrt(sigma.size))


def saturation_noise(sigma, delta):
    return np.full(sigma.size, delta / np.sqrt(sigma.size))


def best_error(sigma, x, delta):
    return delta ** (1 / 3)


def discrepancy_error(sigma, delta, tau):
    return delta
