# ex-training-level: at most 0
# ex-pnp-admm: at most 0
# ex-broken-post: at most 0
# ex-best-beta: at most 0
# ex-loo-risk: at most 0
# ex-broken-price: at most 0
"""Every predicted value is right, and no function does anything."""

import numpy as np

predicted, penalty, post_step, exponent, excess, price_step = (
    (1 / 3, 1 / 2),
    1 / 4,
    4,
    -4 / 3,
    0.1,
    3,
)


def training_level(delta, a, b, b_test):
    return delta


def pnp_admm(A, D, y, rho):
    return D @ A.T @ y


def post_noise(sigma, signal, delta):
    return np.zeros_like(sigma)


def best_beta(sigma, signal, delta):
    return 1.0


def loo_risk(x, y):
    return np.mean(np.sum((x - y) ** 2, axis=1))


def law(sigma):
    return [(1, 0, 0.5), (-1, 0, 0.5)]
