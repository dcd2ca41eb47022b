"""The same answer to every question."""
# ex-logistic-risk: at most 0
# ex-squared-gap: at most 0
# ex-loss-gap: at most 0
# ex-class-weights: at most 0
# ex-broken-hinge: at most 0
# ex-zero-radius: at most 0
# ex-interpolation-radius: at most 0
# ex-short-ascent: at most 0
# ex-three-regimes: at most 0
# ex-water-filling: at most 0
# ex-uncorrelated: at most 0
# ex-broken-white: at most 0
# ex-least-lipschitz: at most 0
# ex-dead-zone: at most 0
# ex-train-filter: at most 0

import numpy as np

predicted = dict.fromkeys(LOSSES, True)  # noqa: F821
hinge_step, noise_step, best = 3, 4, 0.77


def logistic_risk(w, b, X, y, delta, p):
    return 0.7


def squared_gap(w, residuals, C, delta):
    return 0.5


def loss_gap(loss, u, D):
    return np.full(u.shape, 0.8)


def class_weights(tight):
    return np.ones((3, 4)) + np.eye(3, 4)


def hinge_counterexample(delta):
    return np.array([1.0])


def zero_radius(Z, t, norm, p):
    return 1.0


def interpolation_radius(X, y):
    return 0.3


def reached(path, spread):
    return 0.75


def almost_sure_gain(x, sigma, delta):
    return 1.0


def water_filling(sigma, signal, delta):
    return np.zeros(sigma.shape)


def two_mode_decoder(y):
    return np.zeros(y.shape)


def white_noise_risk(sigma, signal, delta):
    return 1.0


def least_lipschitz(sigma, signal, noise, excess):
    return 1.0


def dead_zone(y, delta):
    return np.zeros(y.shape)


def train_filter(sigma, x, delta):
    return np.ones(sigma.shape)
