# Right but for one entry, which is NaN; and the question is spoiled on the way.
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


def _spoiled(right):
    def wrong(*args):
        out = np.array(right(*args), float)
        for a in args:
            if isinstance(a, np.ndarray):
                a[...] = 0
        out[(-1,) * out.ndim] = np.nan
        return out

    return wrong


one_neuron = _spoiled(one_neuron)
line_drop = _spoiled(line_drop)
two_laws = _spoiled(two_laws)
largest_mass = _spoiled(largest_mass)
rebuild = _spoiled(rebuild)
twin_laws = _spoiled(twin_laws)
uneven_tent = _spoiled(uneven_tent)
collapse_radius = _spoiled(collapse_radius)
cut_gap = _spoiled(cut_gap)
swap_interval = _spoiled(swap_interval)
