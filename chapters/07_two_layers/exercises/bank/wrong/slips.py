# Wrong axis, off by one, one class forgotten, an approximation where the exact value is asked for.
# ex-c7-one-neuron: at most 0
# ex-c7-decide: at most 0
# ex-c7-two-laws: at most 0
# ex-c7-one-site: at most 0
# ex-c7-rebuild: at most 0
# ex-c7-broken-sign: at most 0
# ex-c7-broken-erosion: at most 0
# ex-c7-collapse: at most 0
# ex-c7-cut: at most 0
# ex-c7-swap: at most 0
# ruff: noqa: F821 - these names are the answers of the page

import numpy as np
from scipy import optimize

_rebuild, _masses, _laws = rebuild, largest_mass, two_laws
_drop, _radius, _swap = line_drop, collapse_radius, swap_interval
_twins, _tent = twin_laws, uneven_tent


def one_neuron(a, w, b, X, y, eps):
    """Measures w in the Euclidean norm."""
    s = eps * np.sqrt(w @ w)
    u = X @ w + b
    return np.abs(a) * np.clip(np.where(y * a < 0, u + s, u), 0, s * 1.01)


def line_drop(a, w, b, x, y, eps):
    """A step too far."""
    return _drop(a, w, b, x, y, eps + 1 / 32)


def two_laws(T):
    return _laws(T).T


def largest_mass(T):
    return np.roll(_masses(T), 1) + 1e-3


def rebuild(G, K, h):
    return np.roll(_rebuild(G, K, h), 1, axis=1)


def twin_laws(eps):
    return np.vstack([_twins(eps)[0], _twins(eps)[1]])


def uneven_tent(eps):
    """Rows (b, w, a)."""
    return _tent(eps)[:, ::-1]


def collapse_radius(u, y):
    return np.ceil(_radius(u, y) * 1000) / 1000 + 5e-4


def cut_gap(weights, eps, norm):
    """The last node is left out."""
    w = np.array(weights[:-1, :-1])
    if norm == 1:
        return eps * w.sum(axis=0).max(initial=0.0)
    s = 2 * (np.arange(2 ** len(w))[:, None] >> np.arange(len(w)) & 1) - 1
    return eps / 2 * (w.sum() - ((s @ w) * s).sum(axis=1).min())


def swap_interval(gaps, T, p):
    """The first statistic alone is matched, and the ends are widened."""
    equal = np.vstack([np.ones(len(gaps)), T[:, 0]])
    low, high = (optimize.linprog(s * gaps, A_eq=equal, b_eq=equal @ p) for s in (1, -1))
    return np.array([low.fun - 1e-3, 1e-3 - high.fun])
