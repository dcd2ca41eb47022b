import numpy as np


def tikhonov_solve(A, y, alpha):
    matrix = A.T @ A
    matrix[np.diag_indices_from(matrix)] += alpha
    answer = np.linalg.solve(matrix, A.T @ y)
    A[:], y[:] = 0, 0  # the question is a copy
    return answer


dual = 1


def fosc_linf(x, x0, eps, g):
    x -= x0
    return eps * np.abs(g).sum() - x @ g
