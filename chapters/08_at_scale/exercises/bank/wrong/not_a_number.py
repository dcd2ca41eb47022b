"""NaN and None, where numbers are asked for."""

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
    return np.full(len(x), np.nan)


def safe_digits(value, error):
    return None


def fosc_interval(g, error, x, z, eps):
    return np.array([np.nan, np.nan])


def multiply_adds(depth, widen, size, channels, classes):
    return float("inf")


def gpu_hours(images, epochs, steps, rate):
    return float("nan")


def combine(means, counts):
    return np.full(means.shape[1], np.nan)


def pool(means, variances, counts):
    return np.array([np.nan, np.nan])


resume_step = float("nan")


def twins(lr, momentum):
    return np.full((2, 2), np.nan)


def error_curves(distances, eps):
    return np.array([np.nan, np.nan])


def two_networks(eps):
    return np.full((2, 5), np.nan)
