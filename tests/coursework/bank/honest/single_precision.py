import numpy as np


def tikhonov_solve(A, y, alpha):
    A, y = A.astype(np.float32), y.astype(np.float32)
    return np.linalg.solve(A.T @ A + np.float32(alpha) * np.eye(A.shape[1]), A.T @ y)


dual = 1


def fosc_linf(x, x0, eps, g):
    return np.longdouble(eps * np.abs(g).sum() - (x - x0) @ g)
