"""Wrong axes, transposes, off by one, overflow, and cases that were forgotten."""
# ex-logistic-risk: at most 5
# ex-squared-gap: at most 5
# ex-loss-gap: at most 2
# ex-class-weights: at most 0
# ex-broken-hinge: at most 0
# ex-zero-radius: at most 1
# ex-interpolation-radius: at most 0
# ex-short-ascent: at most 1
# ex-three-regimes: at most 2
# ex-water-filling: at most 1
# ex-uncorrelated: at most 2
# ex-broken-white: at most 0
# ex-least-lipschitz: at most 5
# ex-dead-zone: at most 2
# ex-train-filter: at most 0

import numpy as np

noise_step = 5


def logistic_risk(w, b, X, y, delta, p):
    q = {1: np.inf, np.inf: 1}.get(p) or p / (p - 1)
    return np.log(
        1 + np.exp(-y * (X @ w + b) + delta * np.linalg.norm(w, ord=q))
    ).mean()  # overflow


def squared_gap(w, residuals, C, delta):
    push = delta * (C @ w) / np.sqrt(w @ C @ w)  # NaN for w = 0
    return np.mean((np.abs(residuals) + np.abs(push @ w)) ** 2 - residuals**2)


def loss_gap(loss, u, D):
    return loss(u[:, None] + np.linspace(0, D, 2001)).max(axis=1) - loss(u)  # to one side only


def class_weights(tight):
    return np.eye(4, 3)  # transposed


def hinge_counterexample(delta):
    return np.array([20 * delta])  # the difference is too small


def zero_radius(Z, t, norm, p):
    size = np.abs(t) ** p  # off by one in the exponent
    return np.linalg.norm((np.sign(t) * size) @ Z / len(t), ord=norm) / size.mean()


def interpolation_radius(X, y):
    w = np.linalg.pinv(X) @ y
    dual = np.linalg.solve(X @ X.T, y) / np.linalg.norm(w)
    return 1 / (len(y) * dual.max())  # the sign is forgotten


def reached(path, spread):
    return path - max(path + spread - 1, 0) ** 2 / (4 * max(spread, 0.01))  # one end forgotten


def almost_sure_gain(x, sigma, delta):
    x = x[x != 0]  # another law
    power, size = np.mean(x**2), np.mean(np.abs(x))
    if delta <= sigma * size:
        return 1 / sigma
    if delta * size >= sigma * power:
        return 0.01
    return (sigma * power - delta * size) / (sigma**2 * power - 2 * delta * sigma * size + delta**2)


def water_filling(sigma, signal, delta):
    spent = np.cumsum((sigma**2 * signal)[::-1])[::-1]  # sorted only by luck
    kept = np.flatnonzero(spent > delta**2)
    level = sigma[kept[-1]] ** 2 if kept.size else np.inf
    return np.minimum(1 / sigma, sigma / level)


def two_mode_decoder(y):
    truths = np.array([[-(1.5**0.5), -(0.5**0.5)], [0, 2**0.5], [1.5**0.5, -(0.5**0.5)]])
    third = np.argsort(np.argsort(y[:, 0])) * 3 // len(y)  # compares the rows with each other
    return truths[third]


def white_noise_risk(sigma, signal, delta):
    order = np.argsort(sigma)
    spent = np.cumsum((sigma**2 * signal)[order])
    k = min(np.searchsorted(spent, delta**2) + 1, sigma.size - 1)  # off by one
    gain = np.minimum(1 / sigma, sigma / sigma[order][k] ** 2)
    return np.sum((1 - sigma * gain) ** 2 * signal + gain**2 * delta**2)


def least_lipschitz(sigma, signal, noise, excess):
    best = sigma * signal / (sigma**2 * signal + noise)
    levels = np.linspace(0, best.max(), 200)[1:]  # coarse, and never 0
    risk = [
        np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise)
        for g in (np.minimum(best, level) for level in levels)
    ]
    return levels[np.argmax(np.array(risk) <= (1 + excess) * risk[-1])]


def dead_zone(y, delta):
    out = np.sign(y) * np.maximum(np.abs(y) - 0.75, 0)
    return np.where(np.diff(y, prepend=y[0] - 1) > 0, out, 0)  # only for data in order


def train_filter(sigma, x, delta):
    power = np.mean(x**2, axis=1)[: sigma.size]  # the wrong axis
    return sigma * power / (sigma**2 * power + delta**2)
