"""Answers that call the package of the book, or scipy."""

import numpy as np
from scipy import optimize

from advreg import relu, wdro


def robust_error(r, eps, p):
    return wdro.knapsack(r, eps, p).value


def worst_gain(t, g, eps, p):
    points = [np.vstack([[0.0, 0.0], np.column_stack(rows)]) for rows in zip(t, g, strict=True)]
    return wdro.allocate(points, eps, p).value


def best_mixture(t, g, eps, p):
    def growth(s):
        return np.where(t <= s * (1 + 1e-12), g, 0).max(axis=1)

    return wdro.mixture_attack(growth, eps, p, factors=np.maximum(t.ravel() / eps, 1)).value


def label_value(m, norm, eps, kappa):
    X = (m / norm)[:, None]
    return wdro.linear_value(
        [norm], 0.0, X, np.ones(len(m)), eps, 1, 2, loss="logistic", label_cost=kappa
    )


def slope_at_infinity(a, W, b, norm):
    net = relu.Network((W, np.vstack([0 * a, a])), (b, np.zeros(2)))
    return relu.slope_at_infinity(net, norm, labels=[0])


def recession_slope(A, g):
    """Maximize <g, u> over the cone and the ball, with the default tolerances of a solver."""
    limits = (lambda u: -A @ u, lambda u: 1 - u @ u)
    found = optimize.minimize(
        lambda u: -g @ u,
        np.zeros(len(g)),
        constraints=[{"type": "ineq", "fun": f} for f in limits],
    )
    return -found.fun


def mask_bound(a, W):
    net = relu.Network((W, np.vstack([0 * a, a])), (0 * a, np.zeros(2)))
    return relu.mask_bound(net, np.inf, pairs=[(1, 0)])


def first_order_value(knots, values, left, right, x, eps):
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    clean = np.interp(x, knots, values) + outside
    points = [
        np.vstack([[0.0, 0.0], np.column_stack([np.abs(knots - t), values - v])])
        for t, v in zip(x, clean, strict=True)
    ]
    rate = max(-left, right, 0.0)
    return clean.mean() + wdro.allocate(points, eps, 1, slopes=np.full(len(x), rate)).value
