"""The same answer to every question, beside good guesses of the values."""
# ex-c4-vaguelettes: at most 0
# ex-c4-difference-energy: at most 0
# ex-c4-broken-union: at most 0
# ex-c4-correlated-noise: at most 0
# ex-c4-prediction-filter: at most 0
# ex-c4-flipped-zeros: at most 0
# ex-c4-offset-bias: at most 0
# ex-c4-certificate: at most 0
# ex-c4-implicit-gradient: at most 0
# ex-c4-broken-nonexpansive: at most 0
# ex-c4-sandwich: at most 0
# ex-c4-oscillation: at most 0
# ex-c4-unsafe-denoiser: at most 0

import numpy as np

growth = {"haar": "doubles", "db2": "constant steps", "db3": "converges"}
zero_sum = dict.fromkeys(PROCESSES, True)  # noqa: F821
union_step, prox_step, limit, factor, matching_step = 4, 4, -0.3, 2**0.5, 4.0


def vaguelettes(A, u):
    return np.eye(len(u), len(A))


def difference_energy(h, level):
    return 64.0


def union_example(first, second, noise):
    return np.eye(len(first)) / len(first)


def correlated_gains(kappa, u, v, signal, noise, cross):
    return np.ones(len(kappa))


def denoising_taps(a, s, delta, taps):
    return np.zeros(taps)


def same_spectrum(k):
    return np.ones((2, len(k)))


def mean_shift(x, filters, slope):
    return 0.0


def loss_interval(x, target, gradient):
    return np.array([0.0, 1.0])


def filter_gradient(k, y, target):
    return np.zeros(len(k))


def attack_matters(delta):
    return np.array([[1.0, 1.0]])


def attack_bounds(residual, delta):
    return np.array([1.0, 2.0])


def oscillating_denoiser(A, clean):
    return np.eye(A.shape[1])


def pnp_gains(sigma, d, tau):
    return np.ones(len(sigma))
