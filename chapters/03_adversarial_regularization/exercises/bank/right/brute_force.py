"""Attacks that are carried out, and searches instead of formulas."""

import itertools

import numpy as np
from scipy import optimize

predicted = {
    name: np.bool_(name in ("linear", "absolute", "pinball 0.5"))
    for name in ("pinball 0.9", "pinball 0.5", "insensitive", "huber", "squared", "absolute")
} | {"linear": np.True_}
hinge_step, noise_step, best = np.int64(3), np.int64(4), 0.78


def logistic_risk(w, b, X, y, delta, p):
    """The attack that Hoelder's inequality says is the worst, and the loss at it."""
    if p == np.inf:
        worst = np.sign(w)
    elif p == 1:
        worst = np.sign(w) * (np.abs(w) == np.abs(w).max())
        worst /= np.abs(worst).sum()
    else:
        worst = np.sign(w) * (np.abs(w) / np.abs(w).max()) ** (1 / (p - 1))
        worst /= np.linalg.norm(worst, ord=p)
    attacked = X - delta * y[:, None] * worst
    return float(np.mean(np.logaddexp(0, -y * (attacked @ w + b))))


def squared_gap(w, residuals, C, delta):
    if not w.any():
        return 0
    push = delta * (C @ w) / np.sqrt(w @ C @ w)
    worst = np.abs(residuals) + np.abs(push @ w)
    return np.mean(worst**2) - np.mean(residuals**2)


def loss_gap(loss, u, D):
    grid = [loss(u + v) for v in np.linspace(-D, D, 401)]
    return np.max(grid, axis=0) - loss(u)


def class_weights(tight):
    if tight:
        return [[5.0, 1, 1, 9], [5, 9, 1, 1], [2, 1, 4, 9]]
    return 1 + 2 * np.array([[0.0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]])


def hinge_counterexample(delta):
    return [3 * delta, 5 * delta]


def zero_radius(Z, t, norm, p):
    """The largest correlation over the unit ball of the dual norm, and no norm of it."""
    c = np.mean((np.sign(t) * np.abs(t) ** (p - 1))[:, None] * Z, axis=0)
    d = len(c)
    if norm == 2:
        top = c @ c / np.sqrt(c @ c)
    elif norm == np.inf:  # the dual ball is the cross-polytope
        top = max((s * np.eye(d)[j]) @ c for j in range(d) for s in (1, -1))
    else:
        top = max(np.array(corner) @ c for corner in itertools.product((-1, 1), repeat=d))
    return top / np.mean(np.abs(t) ** (p - 1))


def interpolation_radius(X, y):
    w = np.linalg.pinv(X) @ y
    dual = np.linalg.lstsq(X.T, w / np.linalg.norm(w), rcond=None)[0]
    return [1 / (len(y) * np.abs(dual).max())][0]


def reached(path, spread):
    start = (np.arange(200_000) + 0.5) / 100_000 - 1
    return np.mean(np.minimum(1, spread * start + path))


def almost_sure_gain(x, sigma, delta):
    size = np.abs(x)

    def slope(g):  # of the loss between the kinks, which is convex there
        rest = (1 - sigma * g) * size + delta * g
        return np.mean(rest * (delta - sigma * size))

    if slope(0) >= 0:
        return 0
    return optimize.brentq(slope, 0, 1 / sigma) if slope(1 / sigma) > 0 else 1 / sigma


def water_filling(sigma, signal, delta):
    """The dual function at its kinks."""
    kinks = np.append(0, sigma**-2.0)
    values = [k * delta**2 + np.maximum(1 - k * sigma**2, 0) @ signal for k in kinks]
    return [min(1 / s, kinks[np.argmin(values)] * s) for s in sigma]


def two_mode_decoder(y):
    first = np.clip(y[:, 0], -(1.5**0.5), 1.5**0.5)
    return np.stack([first, 2**0.5 * (1 - first**2)], axis=1).tolist()


def white_noise_risk(sigma, signal, delta):
    """Integrate the noise, mode by mode, over its two-point law."""
    gain = np.array(water_filling(sigma, signal, delta))
    root = np.sqrt(signal)
    return (
        sum(
            ((gain * (sigma * x + e) - x) ** 2).sum()
            for x in (root, -root)
            for e in (delta, -delta)
        )
        / 4
    )


def least_lipschitz(sigma, signal, noise, excess):
    """A fine grid of levels."""
    best = sigma * signal / (sigma**2 * signal + noise)
    levels = np.linspace(0, best.max(), 4001)[:, None]
    gains = np.minimum(best, levels)
    risk = ((1 - sigma * gains) ** 2 * signal + gains**2 * noise).sum(axis=1)
    return levels[np.argmax(risk <= (1 + excess) * risk[-1]), 0]


def dead_zone(y, delta):
    """Zero, then slope 2, then the identity."""
    return (np.sign(y) * np.clip(2 * (np.abs(y) - delta), 0, np.abs(y))).tolist()


def train_filter(sigma, x, delta):
    """Gradients by hand, from another start, for longer."""
    e, q = np.random.default_rng(1).standard_normal(x.shape), np.full(sigma.shape, 0.7)
    mean, square, total, steps = 0.0, 0.0, 0.0, 400
    for t in range(1, steps + 1):
        for _ in range(20):
            e = q / sigma * (q / sigma * (sigma * x + e) - x)
            e *= delta / np.sqrt((e**2).sum(axis=1).mean())
        data = x + e / sigma
        slope = 2 * ((q * data - x) * data).mean(axis=0)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        size = 0.05 * (1 - t / (steps + 1))
        q = q - size * mean / (1 - 0.9**t) / np.sqrt(square / (1 - 0.999**t) + 1e-12)
        total = total + q * (t > steps // 2)
    return (total / (steps // 2) / sigma).tolist()
