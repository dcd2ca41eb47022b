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
"""NaN in every place where a number may stand."""

import numpy as np


def diagonal_price(sigma, covariance, delta):
    return np.nan


def least_risk(a, b, delta):
    return np.float64("nan")


def training_level(delta, a, b, b_test):
    return np.nan


def critic_weights(x, z, beta):
    return np.full(x.shape[1], np.nan)


def pnp_admm(A, D, y, rho):
    return np.nan * y[0] * np.ones(A.shape[1])


def post_noise(sigma, signal, delta):
    return np.where(np.arange(sigma.size) == 3, np.nan, 0)


def best_beta(sigma, signal, delta):
    return np.nan


def break_even(sigma, signal, delta):
    return np.nan


def loo_risk(x, y):
    return np.nan


def law(sigma):
    return np.array([[1, sigma, np.nan], [-1, -sigma, np.nan]])


def learn(past, basis, sigma, level):
    return sigma / 0.0 * 0
