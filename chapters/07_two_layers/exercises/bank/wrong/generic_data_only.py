# Works for data in general position, or is nearly right; breaks in the special cases.
# ex-c7-one-neuron: at most 4
# ex-c7-decide: at most 4
# ex-c7-two-laws: at most 5
# ex-c7-one-site: at most 4
# ex-c7-broken-sign: at most 2
# ex-c7-broken-erosion: at most 2
# ex-c7-collapse: at most 5
# ex-c7-cut: at most 1
# ex-c7-swap: at most 5
# ruff: noqa: F821 - these names are the answers of the page

import itertools

import numpy as np

_swap = swap_interval

escape_labels = {**escape_labels, "sum, l2": "both"}
sign_step = 3
erosion_step = 5


def one_neuron(a, w, b, X, y, eps):
    """Divides by w."""
    s = eps * (w * w / np.abs(w)).sum()
    u = X @ w + b
    return np.abs(a) * np.clip(np.where(y * a < 0, u + s, u), 0, s)


def two_laws(T):
    """Sets the last weight to -1 and solves for the others."""
    A = np.vstack([np.ones(len(T)), T.T])
    mu = np.append(np.linalg.solve(A[:, :-1], A[:, -1]), -1)
    parts = np.array([np.maximum(mu, 0), np.maximum(-mu, 0)])
    order = np.argsort((parts > 0).sum(axis=1))
    return (parts / parts.sum(axis=1, keepdims=True))[order]


def largest_mass(T):
    """Tries all sets of m + 2 sites, each with one vector."""
    A = np.vstack([np.ones(len(T)), T.T])
    best = np.zeros(len(T))
    for s in itertools.combinations(range(len(T)), len(A) + 1):
        s = list(s)
        mu = np.abs(np.append(np.linalg.solve(A[:, s[:-1]], -A[:, s[-1]]), 1))
        best[s] = np.maximum(best[s], 2 * mu / mu.sum())
    return best


def collapse_radius(u, y):
    """The last radius at which nothing is lost, if there are several."""
    mean = np.mean(y * np.maximum(u, 0))
    side = y * np.sign(mean)
    low, high = 0.0, 2 * np.abs(u).max()
    for _ in range(60):
        middle = (low + high) / 2
        left = np.mean(side * np.maximum(u - side * middle, 0))
        low, high = (middle, high) if left >= 0 else (low, middle)
    return low


def cut_gap(weights, eps, norm):
    """Node by node from every single node."""
    if norm == 1:
        return eps * weights.sum(axis=1).max()
    best = 0.0
    for i in range(len(weights)):
        s = np.ones(len(weights))
        s[i] = -1
        for _ in range(3):
            for j in range(len(s)):
                s[j] *= -1 if s[j] * (weights[j] @ s) > 0 else 1
        best = max(best, weights[np.ix_(s > 0, s < 0)].sum())
    return 2 * eps * best * (1 - 1e-4)


def swap_interval(gaps, T, p):
    """Leaves out the data of weight zero."""
    some = p > 0
    return _swap(gaps[some], T[some], p[some])
