# ex-blur-pseudo-inverse: at most 0
# ex-inverse-crime: at most 0
# ex-tikhonov-solve: at most 0
# ex-landweber-factors: at most 0
# ex-broken-truncation: at most 0
# ex-broken-saturation: at most 0
# ex-boundary-rates: at most 0
# ex-discrepancy-alpha: at most 0
# ex-discrepancy-saturates: at most 0
# ex-gcv-score: at most 0
# ex-heartbeat: at most 0
"""Right numbers, but for one NaN; and arguments that are spoiled on the way."""

import numpy as np

predicted = {"t": float("nan"), "t(1-t)": 3 / 5, "(1-t)^3": 3 / 5, "1-3t^2+2t^3": 5 / 7}
exponent = float("nan")


def _spoiled(function):
    def answer(*args):
        out = np.array(function(*args), float)
        for a in args:
            if isinstance(a, np.ndarray):
                a[...] = 0
        out.flat[-1] = np.nan
        return out

    return answer


blur_pseudo_inverse = _spoiled(blur_pseudo_inverse)  # noqa: F821
honest_sinogram = _spoiled(honest_sinogram)  # noqa: F821
tikhonov_solve = _spoiled(tikhonov_solve)  # noqa: F821
landweber_factors = _spoiled(landweber_factors)  # noqa: F821
truncation_noise = _spoiled(truncation_noise)  # noqa: F821
saturation_noise = _spoiled(saturation_noise)  # noqa: F821
best_error = _spoiled(best_error)  # noqa: F821
discrepancy_alpha = _spoiled(discrepancy_alpha)  # noqa: F821
discrepancy_error = _spoiled(discrepancy_error)  # noqa: F821
gcv_score = _spoiled(gcv_score)  # noqa: F821
deblur = _spoiled(deblur)  # noqa: F821
