"""Right answers that overwrite their arguments when they are done, or before."""

import numpy as np


def robust_error(r, eps, p):
    if p == np.inf:
        return float(np.mean(r <= eps))
    r.sort()
    r **= p
    left, count = len(r) * eps**p, 0.0
    for cost in r:
        part = 1.0 if cost <= left else left / cost
        count, left = count + part, left - (cost if part == 1 else left)
    value = count / len(r)
    r[:] = 0
    return value


def worst_inputs(X, y, w, b, eps):
    y -= X @ w + b
    side, size = np.where(y > 0, -1.0, 1.0), np.abs(y)
    rms = np.sqrt(np.mean(size**2))
    length = eps * size / rms if rms > 1e-12 else np.full(len(size), eps)
    X += np.outer(length * side, np.sign(w))
    y[:] = 0
    return X


def mask_bound(a, W):
    W *= a[:, None]
    d = W.shape[1]
    signs = np.stack(np.meshgrid(*[[-1, 1]] * d), axis=-1).reshape(-1, d)
    value = float(np.maximum(W @ signs.T, 0).sum(axis=0).max())
    W[:], a[:] = 0, 0
    return value
