# every function a constant of a plausible shape, every value a plausible wrong one
# ex-c6-knapsack: at most 0
# ex-c6-stairs: at most 0
# ex-c6-mixture: at most 0
# ex-c6-square-root: at most 0
# ex-c6-label-cost: at most 0
# ex-c6-three-slopes: at most 0
# ex-c6-far-away: at most 0
# ex-c6-recession: at most 0
# ex-c6-broken-unbounded: at most 0
# ex-c6-broken-local: at most 0
# ex-c6-masks: at most 0
# ex-c6-nearest-error: at most 0
# ex-c6-dlr: at most 0
# ex-c6-escape: at most 0
import numpy as np

unbounded_step, local_step = 2, 4
predicted = {"L_inf": "same", "L_data": "same", "L_glob": "same"}


def robust_error(r, eps, p):
    return 0.5


def worst_gain(t, g, eps, p):
    return 1.0


def best_mixture(t, g, eps, p):
    return 0.0


def worst_inputs(X, y, w, b, eps):
    return X


def label_value(m, norm, eps, kappa):
    return 0.7


def three_slopes(a, w, b, x):
    return 1.0, 2.0, 4.0


def slope_at_infinity(a, W, b, norm):
    return 0.0


def recession_slope(A, g):
    return 0.0


def unbounded_counterexample(c):
    return np.array([[1.0, 1.0, 0.0, 0.0]])


def local_counterexample(eps):
    return np.array([[1.0, 1.0, 0.0]])


def mask_bound(a, W):
    return 10.0


def distance_to_error(knots, values, left, right, x, y):
    return 0.0


def dlr_gradient(z, J, y):
    return np.zeros(J.shape[1])


def first_order_value(knots, values, left, right, x, eps):
    return 0.0
