# Zeroes its arguments and answers zero, which would be right for arguments that are zero.
# ex-c7-one-neuron: at most 0
# ex-c7-decide: at most 0
# ex-c7-one-site: at most 0
# ex-c7-rebuild: at most 0
# ex-c7-collapse: at most 0
# ex-c7-cut: at most 0
# ex-c7-swap: at most 0

import numpy as np


def _zeros(shape):
    def wrong(*args):
        out = np.zeros(shape(*args))
        for a in args:
            if isinstance(a, np.ndarray):
                a[...] = 0
        return out

    return wrong


one_neuron = _zeros(lambda a, w, b, X, y, eps: len(X))
line_drop = _zeros(lambda *args: ())
largest_mass = _zeros(len)
rebuild = _zeros(lambda G, K, h: (2, G.shape[1] - 2 * K - 1))
collapse_radius = _zeros(lambda u, y: ())
cut_gap = _zeros(lambda weights, eps, norm: ())
swap_interval = _zeros(lambda gaps, T, p: 2)
