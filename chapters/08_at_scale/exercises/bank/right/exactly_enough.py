"""Splitting, interpolating and updating instead of sorting sums; margins that are just met."""

import math
from fractions import Fraction

import numpy as np


def round_bits(x, p):
    """Veltkamp's splitting."""
    large = (2.0 ** (53 - p) + 1) * x
    return (large - (large - x)).tolist()


def safe_digits(value, error):
    half = Fraction(1, 2)
    ends = Fraction(value) - Fraction(error), Fraction(value) + Fraction(error)
    same = [k for k in range(13) if len({math.floor(t * 10**k + half) for t in ends}) == 1]
    return np.array(max(same, default=-1))


def fosc_interval(g, error, x, z, eps):
    """FOSC of the gradient of least size, and of the two of largest."""
    down, up = z - np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1) - z
    nearest = np.sign(g) * np.maximum(np.abs(g) - error, 0)
    least = np.where(nearest > 0, up * nearest, -down * nearest).sum()
    most = np.maximum(up * np.maximum(g + error, 0), down * np.maximum(error - g, 0)).sum()
    return np.array([least, most], dtype=np.float32)


def multiply_adds(depth, widen, size, channels, classes):
    n = (depth - 4) // 6
    per_pixel = 144 * channels + 2560 * widen + (13824 * n - 4352) * widen**2
    return np.float64((per_pixel - 256 * (widen == 1)) * size**2 + 64 * widen * classes)


def combine(means, counts):
    return np.average(means, axis=0, weights=counts).astype(np.float32)


def pool(means, variances, counts):
    """One share after the other."""
    n, mean, squares = 0, 0.0, 0.0
    for m, v, k in zip(means, variances, counts, strict=True):
        step = m - mean
        squares += v * k + step**2 * n * k / (n + k)
        mean += step * k / (n + k)
        n += k
    return [mean, squares / n]


resume_step = 3


def twins(lr, momentum):
    return np.array([[1, 0], [1 + lr * momentum / (1 - lr), 1]], dtype=np.float32)


def error_curves(distances, eps):
    """The curve of order one is piecewise linear between the mean sums of the smallest."""
    r = np.sort(distances)
    sums = np.append(0, np.cumsum(r)) / len(r)
    k = np.searchsorted(sums, eps, side="right") - 1
    inside = (eps - sums[k]) / (sums[k + 1] - sums[k]) if k < len(r) else 0.0
    return np.searchsorted(r, eps, side="right") / len(r), (k + inside) / len(r)


def two_networks(eps):
    return [eps / 2] * 2 + [1.01 * eps] * 18, [eps] * 3 + [1000 * eps] * 17
