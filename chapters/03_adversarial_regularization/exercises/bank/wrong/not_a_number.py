"""NaN, everywhere or at the places where a range check might overlook it."""
# ex-logistic-risk: at most 0
# ex-squared-gap: at most 0
# ex-loss-gap: at most 0
# ex-class-weights: at most 0
# ex-broken-hinge: at most 0
# ex-zero-radius: at most 0
# ex-interpolation-radius: at most 0
# ex-short-ascent: at most 0
# ex-three-regimes: at most 0
# ex-water-filling: at most 0
# ex-uncorrelated: at most 0
# ex-broken-white: at most 0
# ex-least-lipschitz: at most 0
# ex-dead-zone: at most 0
# ex-train-filter: at most 0

import numpy as np

best = np.nan


def _spoiled(solution):
    def answer(*args):
        out = np.array(solution(*args), dtype=float)
        out.flat[-1] = np.nan
        return out

    return answer


logistic_risk = _spoiled(logistic_risk)  # noqa: F821
squared_gap = _spoiled(squared_gap)  # noqa: F821
loss_gap = _spoiled(loss_gap)  # noqa: F821
class_weights = _spoiled(class_weights)  # noqa: F821
hinge_counterexample = _spoiled(hinge_counterexample)  # noqa: F821
zero_radius = _spoiled(zero_radius)  # noqa: F821
interpolation_radius = _spoiled(interpolation_radius)  # noqa: F821
almost_sure_gain = _spoiled(almost_sure_gain)  # noqa: F821
water_filling = _spoiled(water_filling)  # noqa: F821
two_mode_decoder = _spoiled(two_mode_decoder)  # noqa: F821
white_noise_risk = _spoiled(white_noise_risk)  # noqa: F821
least_lipschitz = _spoiled(least_lipschitz)  # noqa: F821
dead_zone = _spoiled(dead_zone)  # noqa: F821
train_filter = _spoiled(train_filter)  # noqa: F821


def reached(path, spread):
    return np.nan if spread == 0 else path - (path + spread - 1) ** 2 / (4 * spread)
