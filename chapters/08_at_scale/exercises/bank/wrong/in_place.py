"""Answers that spoil their arguments, and are wrong because of it."""

# ex-c8-rounding: at most 0
# ex-c8-interval: at most 0
# ex-c8-shares: at most 0
# ex-c8-statistics: at most 0
# ex-c8-curves: at most 0

import numpy as np


def round_bits(x, p):
    x *= 2.0**p
    return np.rint(x)


def fosc_interval(g, error, x, z, eps):
    g -= error
    return np.array([np.abs(g).sum() * eps, np.abs(g).sum() * 2 * eps])


def combine(means, counts):
    means *= counts[:, None]
    return means.mean(axis=0)


def pool(means, variances, counts):
    means -= means.mean()
    return np.array([means.mean(), variances.mean()])


def error_curves(distances, eps):
    distances.sort()
    distances.cumsum(out=distances)
    return np.array([np.mean(distances <= eps), np.mean(distances <= eps * len(distances))])
