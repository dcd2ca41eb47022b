import warnings

import numpy as np


def tikhonov_solve(A, y, alpha):
    warnings.warn("nearly singular", stacklevel=2)
    print("alpha =", alpha)
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y)


# %%
dual = 1


def fosc_linf(x, x0, eps, g):
    print("x" * 1000)
    return eps * np.abs(g).sum() - (x - x0) @ g


print(fosc_linf(np.zeros(2), np.zeros(2), 1.0, np.ones(2)))
