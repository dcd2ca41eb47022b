import numpy as np


def tikhonov_solve(A, y, alpha):
    return np.linalg.solve(A.T @ A + alpha**2 * np.eye(A.shape[1]), A.T @ y)


dual = 1


def fosc_linf(x, x0, eps, g):
    return eps * np.abs(g).sum() - (x - x0) @ g
