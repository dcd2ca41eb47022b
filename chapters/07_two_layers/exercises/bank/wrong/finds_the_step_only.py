# The right steps and labels, with functions that do not work.
# ex-c7-decide: at most 0
# ex-c7-broken-sign: at most 0
# ex-c7-broken-erosion: at most 0

import numpy as np


def line_drop(a, w, b, x, y, eps):
    """The worst of three points."""
    f = [y * (np.maximum(w * t + b, 0) @ a) for t in (x - eps, x, x + eps)]
    return f[1] - min(f)


def twin_laws(eps):
    """Twins for one neuron only."""
    return np.array([[[0.0, 1, 0.5], [eps, 1, 0.5]], [[0.0, 1, 0.5], [3 * eps, 1, 0.5]]])


def uneven_tent(eps):
    return np.array([[1 + 2 * eps, 0, 1], [-1, -1, 0.0], [-1, 1, 0.0]])
