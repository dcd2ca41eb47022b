# ex-c6-knapsack: at most 0
# ex-c6-square-root: at most 0
# ex-c6-masks: at most 0
# ex-c6-dlr: at most 0
# ex-c6-escape: at most 0
"""Arguments are overwritten, and needed afterwards; or nothing is returned."""

import numpy as np


def robust_error(r, eps, p):
    r *= 0
    return np.mean(r <= eps)


def worst_inputs(X, y, w, b, eps):
    X += eps * np.sign(w)
    y -= X @ w + b


def mask_bound(a, W):
    W *= a[:, None]
    np.maximum(W, 0, out=W)
    return np.abs(W.sum(axis=0)).max() + W.min()


def dlr_gradient(z, J, y):
    z.sort()
    return (J[-1] - J[y]) / (z[-1] - z[-3])


def first_order_value(knots, values, left, right, x, eps):
    x.fill(0.0)
    return np.interp(x, knots, values).mean() + eps * max(-left, right, 0)
