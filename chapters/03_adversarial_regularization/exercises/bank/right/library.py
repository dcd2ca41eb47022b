"""The book's own package."""

import numpy as np

from advreg import adversarial, linear, spectral


def interpolation_radius(X, y):
    return linear.interpolation_threshold(X, y, 2)


def zero_radius(Z, t, norm, p):
    size = np.abs(t) ** (p - 1)
    return linear.zero_threshold(Z, t, norm) if p == 2 else _ratio(Z, t, norm, size)


def _ratio(Z, t, norm, size):
    return np.linalg.norm((np.copysign(size, t) * (t != 0)) @ Z, ord=norm) / size.sum()


def almost_sure_gain(x, sigma, delta):
    return adversarial.box_fit("almost sure", sigma, delta, x[:, None]).item()


def water_filling(sigma, signal, delta):
    return adversarial.ball_game(sigma, signal, delta).gain


def white_noise_risk(sigma, signal, delta):
    gain = adversarial.ball_game(sigma, signal, delta).gain
    return float(spectral.modal_risk(sigma, signal, delta**2, gain).sum())


def least_lipschitz(sigma, signal, noise, excess):
    def risk(level):
        gain = adversarial.pareto_gain(sigma, signal, noise, level)
        return float(spectral.modal_risk(sigma, signal, noise, gain).sum())

    low, high, allowed = 0.0, 1e3, (1 + excess) * risk(1e3)
    if risk(0.0) <= allowed:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if risk(middle) <= allowed else (middle, high)
    return high


def train_filter(sigma, x, delta):
    return adversarial.ball_game(sigma, np.mean(x**2, axis=0), delta).gain
