import numpy as np

from advreg.operators import MatrixOperator


def tikhonov_solve(A, y, alpha):
    system = MatrixOperator(A).compute_singular_system()
    sigma = system.singular_values
    return system.synthesise(sigma / (sigma**2 + alpha) * system.analyse(y))


dual = 1


def fosc_linf(x, x0, eps, g):
    return eps * np.abs(g).sum() - (x - x0) @ g
