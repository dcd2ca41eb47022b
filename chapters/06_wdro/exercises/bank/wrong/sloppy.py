# ex-c6-knapsack: at most 3
# ex-c6-stairs: at most 4
# ex-c6-square-root: at most 4
# ex-c6-label-cost: at most 4
# ex-c6-far-away: at most 0
# ex-c6-masks: at most 2
# ex-c6-nearest-error: at most 4
# ex-c6-dlr: at most 2
# ex-c6-escape: at most 3
"""Right for the usual case, wrong for ties, zeros, equal values, or at another size."""

import itertools

import numpy as np


def robust_error(r, eps, p):
    if p == np.inf:
        return np.mean(r < eps)
    r = r[np.isfinite(r)]
    cost = np.sort(r) ** p
    left = len(r) * eps**p - (np.cumsum(cost) - cost)  # the samples out of reach are forgotten
    part = np.divide(left, cost, out=np.ones_like(cost), where=cost > left)
    return np.maximum(part, 0).sum() / max(len(r), 1)


def worst_gain(t, g, eps, p):
    """All plans that split one sample, as long as there are few samples."""
    n, options = len(t), t.shape[1] + 1
    cost = np.column_stack([np.zeros(n), t**p])
    gain = np.column_stack([np.zeros(n), g])
    if n > 4:
        return gain.max(axis=1).mean()
    best, rows = 0.0, np.arange(n)
    for choice in itertools.product(range(options), repeat=n):
        c, v = cost[rows, choice].mean(), gain[rows, choice].mean()
        if c > eps**p:
            continue
        best = max(best, v)
        for i, j in itertools.product(range(n), range(options)):
            run = (cost[i, j] - cost[i, choice[i]]) / n
            if run > 0:
                part = min(1.0, (eps**p - c) / run)
                best = max(best, v + part * (gain[i, j] - gain[i, choice[i]]) / n)
    return best


def worst_inputs(X, y, w, b, eps):
    residual = y - X @ w - b
    rms = np.sqrt(np.mean(residual**2))
    length = eps * residual / rms if rms > 1e-9 else np.zeros(len(y))
    return X - np.outer(length, np.sign(w))


def label_value(m, norm, eps, kappa):
    """Equal margins are taken for one sample."""
    value, left = np.logaddexp(0, -m).mean(), eps
    for gain in sorted(set(m.tolist()), reverse=True):
        part = min(1.0, left * len(m) / kappa) if gain > kappa * norm else 0.0
        value, left = value + part * gain / len(m), left - part * kappa / len(m)
    return value + left * norm


def slope_at_infinity(a, W, b, norm):
    """Without the positive part, and on a grid of directions."""
    angle = np.linspace(0, 2 * np.pi, 721)
    u = np.column_stack([np.cos(angle), np.sin(angle)])
    u /= np.linalg.norm(u, norm, axis=1)[:, None]
    return (np.maximum(u @ W.T, 0) @ a).max()


def mask_bound(a, W):
    """All masks, as long as there are few neurons; then all neurons on."""
    if len(a) > 10:
        return np.abs(a @ W).sum()
    return max(np.abs(np.array(m) * a @ W).sum() for m in itertools.product((0, 1), repeat=len(a)))


def distance_to_error(knots, values, left, right, x, y):
    """Only true changes of sign count, and the rays are long segments."""
    k = np.concatenate([[knots[0] - 30], knots, [knots[-1] + 30]])
    v = np.concatenate([[values[0] - 30 * left], values, [values[-1] + 30 * right]])
    if y * np.interp(x, k, v) < 0:
        return 0.0
    change = v[1:] * v[:-1] < 0
    zeros = k[:-1] - v[:-1] * np.diff(k) / np.where(change, np.diff(v), 1)
    return np.abs(zeros[change] - x).min(initial=np.inf)


def dlr_gradient(z, J, y):
    """For five classes."""
    order = sorted(range(5), key=lambda k: -z[k])
    first, second, third = order[:3]
    rival = second if y == first else first
    mu, B = z[rival] - z[y], z[first] - z[third]
    return (J[rival] - J[y]) / B - mu / B**2 * (J[first] - J[third])


def first_order_value(knots, values, left, right, x, eps):
    """Three samples, and only knots that are steeper than the rays."""
    steep = max(-left, right)
    clean = np.interp(x, knots, values)
    cost, gain = np.abs(knots - x[:, None]) + 1e-300, values - clean[:, None]
    rise, run = gain[:, :, None] - gain[:, None], cost[:, :, None] - cost[:, None]
    slopes = np.concatenate([(gain / cost).ravel(), rise[run > 0] / run[run > 0]])
    prices = np.append(slopes[slopes > steep], steep)
    duals = [v * eps + np.maximum((gain - v * cost).max(axis=1), 0).sum() / 3 for v in prices]
    return clean.sum() / 3 + min(duals)
