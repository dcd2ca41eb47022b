"""Constants of a plausible shape, and plausible wrong values."""

# ex-c8-rounding: at most 0
# ex-c8-digits: at most 0
# ex-c8-interval: at most 0
# ex-c8-count: at most 0
# ex-c8-price: at most 0
# ex-c8-shares: at most 0
# ex-c8-statistics: at most 0
# ex-c8-broken-resume: at most 0
# ex-c8-curves: at most 0
# ex-c8-crossing: at most 0

import numpy as np


def round_bits(x, p):
    return np.ones(len(x))


def safe_digits(value, error):
    return 2


def fosc_interval(g, error, x, z, eps):
    return np.array([0.0, 1.0])


def multiply_adds(depth, widen, size, channels, classes):
    return 388_000_000


def gpu_hours(images, epochs, steps, rate):
    return 1.5


def combine(means, counts):
    return np.zeros(means.shape[1])


def pool(means, variances, counts):
    return np.array([0.0, 1.0])


resume_step = 2


def twins(lr, momentum):
    return np.array([[1.0, 0.0], [1.5, 1.0]])


def error_curves(distances, eps):
    return np.array([0.25, 0.5])


def two_networks(eps):
    return np.array([[0.2] * 4, [0.1] * 4])
