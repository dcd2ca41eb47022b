"""Right answers that spoil their arguments on the way."""

import numpy as np

_solutions = dict(globals())


def _spoils(name):
    solution = _solutions[name]

    def answer(*args):
        copies = [np.copy(a) if isinstance(a, np.ndarray) else a for a in args]
        for a in args:
            if isinstance(a, np.ndarray):
                a[...] = 0
        return solution(*copies)

    return answer


vaguelettes = _spoils("vaguelettes")
difference_energy = _spoils("difference_energy")
union_example = _spoils("union_example")
correlated_gains = _spoils("correlated_gains")
denoising_taps = _spoils("denoising_taps")
same_spectrum = _spoils("same_spectrum")
mean_shift = _spoils("mean_shift")
loss_interval = _spoils("loss_interval")
filter_gradient = _spoils("filter_gradient")
attack_bounds = _spoils("attack_bounds")
oscillating_denoiser = _spoils("oscillating_denoiser")
pnp_gains = _spoils("pnp_gains")
