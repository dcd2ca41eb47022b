"""Off by one, a wrong axis, a case forgotten, and answers to half of the question."""

# ex-c8-rounding: at most 3
# ex-c8-digits: at most 1
# ex-c8-interval: at most 1
# ex-c8-count: at most 0
# ex-c8-price: at most 1
# ex-c8-shares: at most 2
# ex-c8-statistics: at most 0
# ex-c8-broken-resume: at most 0
# ex-c8-curves: at most 3
# ex-c8-crossing: at most 1

import numpy as np


def round_bits(x, p):
    factor, exponent = np.frexp(x)
    return np.ldexp(np.floor(np.ldexp(factor, p) + 0.5), exponent - p)  # ties upward


def safe_digits(value, error):
    return int(np.floor(-np.log10(error)))  # as if an error of one unit were safe


def fosc_interval(g, error, x, z, eps):
    down, up = np.maximum(x - eps, x - 1) - z, np.minimum(x + eps, 1) - z  # the lower end is wrong
    ends = [np.maximum(down * t, up * t) for t in (g - error, g + error)]
    least = np.where(np.abs(g) <= error, 0, np.minimum(*ends))
    return np.array([least.sum(), np.maximum(*ends).sum()])


def multiply_adds(depth, widen, size, channels, classes):
    total, inputs, side = 9 * channels * 16 * size**2, 16, size
    for group in range(3):
        outputs = 16 * 2**group * widen
        for block in range((depth - 4) // 6):
            side = side // 2 if group and not block else side
            per_pixel = 9 * inputs * outputs + 9 * outputs**2
            per_pixel += 0 if block else inputs * outputs  # also where widen is 1
            total, inputs = total + per_pixel * side**2, outputs
    return total + inputs * classes + classes  # and the bias


def gpu_hours(images, epochs, steps, rate):
    return images * epochs * (2 * max(steps, 1) + 3) / (3 * rate) / 3600


def combine(means, counts):
    busy = counts > 0
    return (counts[busy] @ means[busy]) / counts.sum() * (busy.mean())


def pool(means, variances, counts):
    share = counts / counts.sum()
    return np.array([share @ means, share @ variances + means.var()])


resume_step = 2


def twins(lr, momentum):
    return np.array([[1.0, 0.0], [1.0 + lr * 0.9 / (1 - lr), 1.0]])


def error_curves(distances, eps):
    distances = np.sort(distances)
    left = eps * len(distances) - (np.cumsum(distances) - distances)
    share = np.clip(left / np.maximum(distances, 1e-12), 0, 1)
    return np.array([np.mean(distances < eps), share.mean()])


def two_networks(eps):
    return np.array([[0.101] * 10, [0.05] + [10.0] * 9])  # for eps = 0.1
