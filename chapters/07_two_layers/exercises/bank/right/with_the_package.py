"""What the package of the book computes."""

import itertools

import numpy as np
from scipy import optimize

from advreg import relu, twolayer


def one_neuron(a, w, b, X, y, eps):
    net = relu.Network((w[None], np.array([[a]])), (np.array([b]), np.zeros(1)))
    return twolayer.gap(net, X, y, eps)


def line_drop(a, w, b, x, y, eps):
    net = relu.Network((w[:, None], a[None]), (b, np.zeros(1)))
    return twolayer.worst_drop(net, np.array([[x]]), np.array([y]), eps)[0]


def two_laws(T):
    laws = np.array(twolayer.radon_weights(T))
    few = (laws > 1e-10).sum(axis=1)
    return laws if few[0] <= few[1] else laws[::-1]


def largest_mass(T):
    def mass(i):
        try:
            return twolayer.separating_site(T, sites=i).P[i]
        except ValueError:  # the statistics determine this mass
            return 0.0

    return np.array([mass(i) for i in range(len(T))])


def rebuild(G, K, h):
    n, eps = G.shape[1] - 2 * K - 1, K * h
    pad = 2 * K  # biases -t in increasing order, from far left
    start = -h * (G.shape[1] - 2 + pad)
    plus, minus = (np.append(np.zeros(pad), row[::-1]) for row in G)
    tails = twolayer.tails_from_gaps(plus, minus, start, h, eps)
    where = np.rint(np.asarray(tails.nodes) / h).astype(int)
    out = np.zeros((2, n))
    for row, mass in enumerate((tails.mass_plus, tails.mass_minus)):
        for j, p in zip(where, mass, strict=True):
            if 0 <= j < n:
                out[row, j] += p
    return out


def twin_laws(eps):
    """Two laws of different lengths, as lists."""
    return [[3.0, 1, 1.0]], [[3 - eps, -1, 0.25], [3.0, 1, 0.75]]


def uneven_tent(eps):
    """1 + min(4 (t + 6 eps), (6 eps - t) / 2), moved to the right by 3."""
    top = -14 / 3 * eps
    return [[1 + 16 / 3 * eps, 0, 1], [-4, -1, top + 3], [-0.5, 1, -top - 3]]


def collapse_radius(u, y):
    """The gap of the network with a = +-1 against the mean of y times the feature."""
    mean = np.mean(y * np.maximum(u, 0))
    if abs(mean) < 1e-12:
        return 0
    net = relu.Network((np.ones((1, 1)), np.array([[np.sign(mean)]])), (np.zeros(1), np.zeros(1)))

    def excess(eps):
        return twolayer.gap(net, u[:, None], y, eps).mean() - abs(mean) + 1e-12

    return optimize.brentq(excess, 1e-9, 100.0, xtol=1e-12)


def cut_gap(weights, eps, norm):
    d = len(weights)
    i, j = np.nonzero(np.triu(weights))
    rows = np.eye(d)[i] - np.eye(d)[j]
    corners = itertools.product((-1, 1), repeat=d) if norm == np.inf else np.eye(d)
    return max(eps * (weights[i, j] * np.abs(rows @ np.array(s))).sum() for s in corners)


def swap_interval(gaps, T, p):
    found = twolayer.swap_interval(gaps, T, weights=p)
    return float(found.lower), float(found.upper)
