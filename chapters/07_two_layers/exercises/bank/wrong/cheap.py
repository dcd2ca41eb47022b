# Cheap answers: the actual gap for both ends, the gradient where it is easy, all at full height.
# ex-c7-one-neuron: at most 0
# ex-c7-two-laws: at most 0
# ex-c7-one-site: at most 0
# ex-c7-rebuild: at most 0
# ex-c7-cut: at most 1
# ex-c7-swap: at most 0

import numpy as np


def one_neuron(a, w, b, X, y, eps):
    """Right while the neuron grows; all or nothing while it shrinks."""
    u, s = X @ w + b, eps * np.abs(w).sum()
    grows = np.maximum(u + s, 0) - np.maximum(u, 0)
    return np.abs(a) * np.where(y * a < 0, grows, s * (u > 0))


def two_laws(T):
    """Equal laws: their means are equal."""
    return np.full((2, len(T)), 1 / len(T))


def largest_mass(T):
    return np.ones(len(T))


def rebuild(G, K, h):
    """As if there were label +1 only."""
    n = G.shape[1] - 2 * K - 1
    p = np.zeros((2, n + K))
    for j in range(n - 1, -1, -1):
        p[0, j] = p[0, j + K] + (G[0, j] - 2 * G[0, j + 1] + G[0, j + 2]) / h
    return p[:, :n]


def cut_gap(weights, eps, norm):
    """The largest degree for both norms."""
    return eps * weights.sum(axis=1).max()


def swap_interval(gaps, T, p):
    return np.array([p @ gaps, p @ gaps])
