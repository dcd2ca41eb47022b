# ex-diagonal-price: at most 0
# ex-least-risk: at most 0
# ex-training-level: at most 0
# ex-critic-weights: at most 0
# ex-pnp-admm: at most 0
# ex-broken-post: at most 0
# ex-best-beta: at most 0
# ex-break-even: at most 0
# ex-loo-risk: at most 0
# ex-broken-price: at most 0
# ex-learn: at most 0
"""Constants of a plausible shape, and plausible wrong values."""

import numpy as np

predicted, penalty, post_step, exponent, excess, price_step = (1 / 2, 1 / 2), 1, 3, 0.0, 1 / 12, 4


def diagonal_price(sigma, covariance, delta):
    return 1.0


def least_risk(a, b, delta):
    return 1.0


def training_level(delta, a, b, b_test):
    return 0.01


def critic_weights(x, z, beta):
    return np.full(x.shape[1], 0.375)


def pnp_admm(A, D, y, rho):
    return np.zeros(A.shape[1])


def post_noise(sigma, signal, delta):
    return np.full(sigma.size, 5e-5)


def best_beta(sigma, signal, delta):
    return 0.125


def break_even(sigma, signal, delta):
    return 3


def loo_risk(x, y):
    return 1.0


def law(sigma):
    return np.array([[1, 1, 0.25], [1, -1, 0.25], [-1, 1, 0.25], [-1, -1, 0.25]])


def learn(past, basis, sigma, level):
    return np.full(64, 0.5)
