# ex-small-tikhonov: at most 0
# ex-small-fosc: at most 0
import numpy as np


def tikhonov_solve(A, y, alpha):
    return np.zeros(A.shape[1])


dual = 1


def fosc_linf(x, x0, eps, g):
    return 1.0
