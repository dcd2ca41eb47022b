"""Right answers of other types: lists, numpy numbers, tuples."""

import numpy as np


def safe_digits(value, error):
    low, high = value - error, value + error
    return np.float64(max([-1, *(k for k in range(13) if f"{low:.{k}f}" == f"{high:.{k}f}")]))


def gpu_hours(images, epochs, steps, rate):
    return np.array(images * epochs / rate * (1 + 2 * steps / 3) / 3600)


def combine(means, counts):
    return tuple(np.average(means, axis=0, weights=counts).tolist())


def pool(means, variances, counts):
    second = np.average(variances + means**2, weights=counts)
    mean = np.average(means, weights=counts)
    return mean, second - mean**2


def round_bits(x, p):
    spacing = 2.0 ** (np.floor(np.log2(np.abs(np.where(x == 0, 1, x)))) - p + 1)
    return (np.round(x / spacing) * spacing).tolist()
