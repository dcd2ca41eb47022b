"""Loops and definitions instead of formulas."""

import math
from fractions import Fraction

import numpy as np
from scipy import optimize


def round_bits(x, p):
    rounded = []
    for t in np.asarray(x).tolist():
        if t == 0:
            rounded.append(0.0)
            continue
        exact, power = abs(Fraction(t)), Fraction(1)
        while exact >= power * 2**p:
            power *= 2
        while exact < power * 2 ** (p - 1):
            power /= 2
        rounded.append(math.copysign(float(round(exact / power) * power), t))
    return rounded


def safe_digits(value, error):
    best = -1
    for k in range(13):
        if format(value - error, f".{k}f") == format(value + error, f".{k}f"):
            best = k
    return best


def fosc_interval(g, error, x, z, eps):
    least = most = 0.0
    for i in range(len(g)):
        low, high = max(0.0, x[i] - eps), min(1.0, x[i] + eps)
        ends = []
        for t in (g[i] - error[i], g[i] + error[i]):
            ends.append(max((low - z[i]) * t, (high - z[i]) * t))
        most += max(ends)
        least += 0.0 if g[i] - error[i] <= 0 <= g[i] + error[i] else min(ends)
    return [least, most]


def multiply_adds(depth, widen, size, channels, classes):
    n, k = (depth - 4) // 6, widen
    first = 144 * channels * size**2
    one = 9 * (16 * k) ** 2 * size**2  # a convolution inside a group, in all three alike
    inside = 3 * (2 * n - 1) * one
    enter = 9 * 16 * 16 * k * size**2 + one  # into the second and the third: half of one each
    shortcuts = 0 if k == 1 else 16 * 16 * k * size**2
    shortcuts += 2 * (16 * k) * (32 * k) * size**2 // 4
    return first + inside + enter + shortcuts + 64 * k * classes


def gpu_hours(images, epochs, steps, rate):
    per_image = 1 / rate
    return sum(images * (per_image + steps * per_image * 2 / 3) for _ in range(epochs)) / 3600


def combine(means, counts):
    total = np.zeros(means.shape[1])
    for mean, count in zip(means, counts, strict=True):
        total += count * mean
    return total / sum(counts)


def pool(means, variances, counts):
    n = sum(counts)
    mean = sum(c * m for c, m in zip(counts, means, strict=True)) / n
    terms = zip(counts, means, variances, strict=True)
    return [mean, sum(c * (v + (m - mean) ** 2) for c, m, v in terms) / n]


def error_curves(distances, eps):
    distances = np.asarray(distances)
    n = len(distances)
    found = optimize.linprog(-np.ones(n) / n, [distances / n], [eps], bounds=(0, 1))
    return [sum(r <= eps for r in distances) / n, -found.fun]


resume_step = np.int64(3)


def twins(lr, momentum):
    """Two velocities that lead from different places to the origin."""
    return [[lr * momentum / (1 - lr), 1.0], [-lr * momentum / (1 - lr), -1.0]]


def two_networks(eps):
    return [2 * eps / 1.9] * 5, [0.9 * eps] + [500 * eps] * 4
