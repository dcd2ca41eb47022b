"""Loops and sums, the standard library, and other algorithms of linear algebra."""

import math

import numpy as np
from scipy import optimize


def logistic_risk(w, b, X, y, delta, p):
    if p == 1:
        size = max(abs(v) for v in w)
    elif p == np.inf:
        size = sum(abs(v) for v in w)
    else:
        q = p / (p - 1.0)
        size = sum(abs(v) ** q for v in w) ** (1 / q)
    total = 0.0
    for row, label in zip(X, y, strict=True):
        z = delta * size - label * (sum(v * s for v, s in zip(w, row, strict=True)) + b)
        total += max(z, 0.0) + math.log1p(math.exp(-abs(z)))
    return total / len(y)


def squared_gap(w, residuals, C, delta):
    values, axes = np.linalg.eigh(C)
    reach = delta * math.sqrt(sum(v * (a @ w) ** 2 for v, a in zip(values, axes.T, strict=True)))
    return sum((abs(r) + reach) ** 2 - r * r for r in residuals) / len(residuals)


def loss_gap(loss, u, D):
    """A coarse grid for each residual, and a fine one around its best point."""
    v, out = np.linspace(-D, D, 201), []
    for x in u:
        best = loss(x + v).argmax()
        fine = np.linspace(v[max(best - 1, 0)], v[min(best + 1, 200)], 201)
        out.append(loss(x + fine).max())
    return (np.array(out) - loss(u)).astype(np.float32)


def class_weights(tight):
    return [[1, 2, 3, 1], [2, 3, 1, 2], [3, 1, 2, 3]] if not tight else np.eye(3, 4, dtype=int)


def hinge_counterexample(delta):
    return [4 * delta] * 3


def zero_radius(Z, t, norm, p):
    rows = range(len(t))
    c = [sum(np.sign(t[i]) * abs(t[i]) ** (p - 1) * z[i] for i in rows) for z in Z.T]
    tops = {1: sum(map(abs, c)), 2: math.sqrt(sum(v * v for v in c)), np.inf: max(map(abs, c))}
    return tops[norm] / sum(abs(v) ** (p - 1) for v in t)


def interpolation_radius(X, y):
    Q, R = np.linalg.qr(X.T)
    a = np.linalg.solve(R.T, y)
    return np.linalg.norm(Q @ a) / (len(y) * max(abs(np.linalg.solve(R, a))))


def water_filling(sigma, signal, delta):
    """The multiplier by a search that knows nothing of kinks, in single precision."""

    def dual(price):
        terms = zip(sigma, signal, strict=True)
        return price * delta**2 + sum(max(1 - price * s * s, 0) * p for s, p in terms)

    if delta**2 >= sum(s * s * p for s, p in zip(sigma, signal, strict=True)):
        return [0] * len(sigma)
    price = optimize.minimize_scalar(dual, bounds=(0, 1 / min(sigma) ** 2), method="bounded").x
    return np.float32([min(1 / s, price * s) for s in sigma])


def two_mode_decoder(y):
    a, b = math.sqrt(1.5), math.sqrt(0.5)
    return [[0, 2 * b] if abs(v) <= a / 2 else [math.copysign(a, v), -b] for v, _ in y]


def least_lipschitz(sigma, signal, noise, excess):
    """Bisection, no more accurate than it must be."""
    best = sigma * signal / (sigma**2 * signal + noise)

    def risk(level):
        parts = zip(sigma, signal, noise, best, strict=True)
        return sum(
            (1 - s * min(g, level)) ** 2 * p + min(g, level) ** 2 * d for s, p, d, g in parts
        )

    low, high = 0.0, max(best)
    while high - low > 1e-3 * high and high > 1e-5:
        middle = (low + high) / 2
        if risk(middle) <= (1 + excess) * risk(max(best)):
            high = middle
        else:
            low = middle
    return high


def dead_zone(y, delta):
    """Soft thresholding with a slope: two parameters by a search."""
    x = np.linspace(-5, 5, 1001)
    weight = np.exp(-x * x / 2)

    def decoder(z, slope, threshold):
        return slope * np.sign(z) * np.maximum(np.abs(z) - threshold, 0)

    def loss(q):
        return weight @ np.maximum(decoder(x + delta, *q) - x, x - decoder(x - delta, *q)) ** 2

    return decoder(y, *optimize.minimize(loss, [0.8, 0.6], method="Nelder-Mead").x)
