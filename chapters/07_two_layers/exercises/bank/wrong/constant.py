# Constants of a plausible shape, and plausible values.
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

import numpy as np

keys = ["leaky", "relu", "abs", "step", "sum, l1", "sum, l2", "max, l_inf", "max, l2"]
escape_labels = dict.fromkeys(keys, "both")
sign_step = 4
erosion_step = 4


def one_neuron(a, w, b, X, y, eps):
    return np.full(len(X), 0.3)


def line_drop(a, w, b, x, y, eps):
    return 0.5


def two_laws(T):
    out = np.zeros((2, len(T)))
    out[0, ::2] = 1 / len(out[0, ::2])
    out[1, 1::2] = 1 / len(out[1, 1::2])
    return out


def largest_mass(T):
    return np.full(len(T), 2 / len(T))


def rebuild(G, K, h):
    n = G.shape[1] - 2 * K - 1
    return np.full((2, n), 1 / (2 * n))


def twin_laws(eps):
    return np.array([[[0.0, 1, 1]], [[-0.5, -1, 1]]])


def uneven_tent(eps):
    return np.array([[1.5, 0, 1], [-1, -1, 0.5], [-3, 1, -0.5]])


def collapse_radius(u, y):
    return 0.8


def cut_gap(weights, eps, norm):
    return 2.0


def swap_interval(gaps, T, p):
    return np.array([0.25, 0.75])
