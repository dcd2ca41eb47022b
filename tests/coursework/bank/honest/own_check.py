import numpy as np


def tikhonov_solve(A, y, alpha):
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y)


dual = 1


def fosc_linf(x, x0, eps, g):
    return eps * np.abs(g).sum() - (x - x0) @ g


check("ex-small-tikhonov")  # noqa: F821 (notebooks have it)
progress()  # noqa: F821 (notebooks have it)
assert __name__ == "__main__"
