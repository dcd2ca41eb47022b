"""NaN, everywhere or at the last place, where a range check might overlook it."""
# ex-c4-vaguelettes: at most 0
# ex-c4-difference-energy: at most 0
# ex-c4-broken-union: at most 0
# ex-c4-correlated-noise: at most 0
# ex-c4-prediction-filter: at most 0
# ex-c4-flipped-zeros: at most 0
# ex-c4-offset-bias: at most 0
# ex-c4-certificate: at most 0
# ex-c4-implicit-gradient: at most 0
# ex-c4-broken-nonexpansive: at most 0
# ex-c4-sandwich: at most 0
# ex-c4-oscillation: at most 0
# ex-c4-unsafe-denoiser: at most 0

import numpy as np

limit = factor = matching_step = np.nan


def _spoiled(solution):
    def answer(*args):
        out = np.array(solution(*args), dtype=float)
        out.flat[-1] = np.nan
        return out

    return answer


vaguelettes = _spoiled(vaguelettes)  # noqa: F821
difference_energy = _spoiled(difference_energy)  # noqa: F821
union_example = _spoiled(union_example)  # noqa: F821
correlated_gains = _spoiled(correlated_gains)  # noqa: F821
denoising_taps = _spoiled(denoising_taps)  # noqa: F821
same_spectrum = _spoiled(same_spectrum)  # noqa: F821
mean_shift = _spoiled(mean_shift)  # noqa: F821
loss_interval = _spoiled(loss_interval)  # noqa: F821
filter_gradient = _spoiled(filter_gradient)  # noqa: F821
attack_matters = _spoiled(attack_matters)  # noqa: F821
attack_bounds = _spoiled(attack_bounds)  # noqa: F821
oscillating_denoiser = _spoiled(oscillating_denoiser)  # noqa: F821
pnp_gains = _spoiled(pnp_gains)  # noqa: F821
