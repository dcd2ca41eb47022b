import numpy as np


def tikhonov_solve(A, y, alpha):
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y)
