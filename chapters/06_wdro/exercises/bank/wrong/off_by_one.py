# ex-c6-knapsack: at most 1
# ex-c6-stairs: at most 0
# ex-c6-mixture: at most 0
# ex-c6-label-cost: at most 1
# ex-c6-three-slopes: at most 1
# ex-c6-nearest-error: at most 0
# ex-c6-dlr: at most 0
# ex-c6-escape: at most 2
# ex-c6-broken-unbounded: at most 0
# ex-c6-broken-local: at most 0
"""One sample, point, kink, knot, rank or step too few or too many."""

import numpy as np

unbounded_step, local_step = 5, 4


def robust_error(r, eps, p):
    if p == np.inf:
        return np.mean(r <= eps)
    total, left = 0.0, (len(r) - 1) * eps**p
    for cost in np.sort(r) ** p:
        part = min(1.0, left / cost) if cost > 0 else 1.0
        total, left = total + part, left - (cost * part if part else 0)
    return total / len(r)


def worst_gain(t, g, eps, p):
    cost, gain = t**p, g  # nobody stays
    rise, run = gain[:, :, None] - gain[:, None], cost[:, :, None] - cost[:, None]
    prices = np.append(rise[run > 0] / run[run > 0], 0.0)
    return min(v * eps**p + (gain - v * cost).max(axis=1).mean() for v in prices)


def best_mixture(t, g, eps, p):
    reach = np.append(t[t > eps], eps)
    growth = np.where(t < reach[:, None, None], g, 0).max(axis=2).mean(axis=1)
    return ((eps / reach) ** p * growth).max()


def label_value(m, norm, eps, kappa):
    value, left = np.logaddexp(0, -m).mean(), eps
    for gain in np.sort(m)[::-1][1:]:
        part = min(1.0, left * len(m) / kappa) if gain > kappa * norm else 0.0
        value, left = value + part * gain / len(m), left - part * kappa / len(m)
    return value + left * norm


def three_slopes(a, w, b, x):
    def h(t):
        return np.maximum(np.multiply.outer(t, w) + b, 0) @ a

    kinks = np.unique(-b / w)
    slope = (np.multiply.outer(kinks - 1e-9, w) + b > 0) @ (a * w)  # the last ray is missing
    ends = max(-slope[0], slope[-1], 0.0)
    rise, run = h(kinks) - h(x)[:, None], np.abs(kinks - x[:, None])
    secant = (rise[run > 0] / run[run > 0]).max(initial=0.0)
    return ends, max(secant, ends), np.abs(slope).max()


def distance_to_error(knots, values, left, right, x, y):
    slope = np.diff(values) / np.diff(knots)
    piece = max(np.searchsorted(knots, x) - 2, 0)
    zero = knots[piece] - values[piece] / slope[piece] if len(slope) else knots[0]
    return abs(zero - x)


def dlr_gradient(z, J, y):
    first, second, third = np.argsort(-z)[[0, 1, min(3, len(z) - 1)]]
    rival = second if y == first else first
    mu, B = z[rival] - z[y], z[first] - z[third]
    return (J[rival] - J[y]) / B - mu / B**2 * (J[first] - J[third])


def first_order_value(knots, values, left, right, x, eps):
    steep = max(-left, right, 0.0)
    outside = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    clean = np.interp(x, knots, values) + outside
    cost, gain = np.abs(knots[1:] - x[:, None]), values[1:] - clean[:, None]
    slopes = (gain / cost)[cost > 0]
    prices = np.append(slopes[slopes > steep], steep)
    duals = [v * eps + np.maximum(gain - v * cost, 0).max(axis=1, initial=0).mean() for v in prices]
    return clean.mean() + min(duals)
