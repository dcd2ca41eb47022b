import numpy as np


def tikhonov_solve(A, y, alpha):
    return A.T @ y


# %%
dual = 2


# %%
def tikhonov_solve(A, y, alpha):  # noqa: F811 (the later cell counts)
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y)


dual = 1


def fosc_linf(x, x0, eps, g):
    return eps * np.abs(g).sum() - (x - x0) @ g
