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


logistic_risk = _spoils("logistic_risk")
squared_gap = _spoils("squared_gap")
loss_gap = _spoils("loss_gap")
zero_radius = _spoils("zero_radius")
interpolation_radius = _spoils("interpolation_radius")
almost_sure_gain = _spoils("almost_sure_gain")
water_filling = _spoils("water_filling")
two_mode_decoder = _spoils("two_mode_decoder")
white_noise_risk = _spoils("white_noise_risk")
dead_zone = _spoils("dead_zone")
