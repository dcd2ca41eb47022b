"""Other constants, and good guesses of the values beside functions that know nothing."""
# ex-class-weights: at most 0
# ex-broken-hinge: at most 0
# ex-loss-gap: at most 0
# ex-short-ascent: at most 0
# ex-broken-white: at most 0
# ex-water-filling: at most 0

import numpy as np

predicted = {n: n in ("linear", "absolute", "pinball 0.5") for n in LOSSES}  # noqa: F821
hinge_step, noise_step, best = 3, 4, 0.77


def class_weights(tight):
    return np.array([[1.0, 2, 3, 4], [2, 4, 1, 3], [4, 1, 2, 2]])


def hinge_counterexample(delta):
    return np.array([1e9])


def loss_gap(loss, u, D):
    return D


def reached(path, spread):
    return path if path < 1 else 1.0


def white_noise_risk(sigma, signal, delta):
    return delta**2


def water_filling(sigma, signal, delta):
    return np.where(sigma**2 @ signal > delta**2, 1 / sigma, 0.0)
