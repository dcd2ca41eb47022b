import numpy as np
import torch


def tikhonov_solve(A, y, alpha):
    A, y = torch.tensor(A), torch.tensor(y)
    return torch.linalg.solve(A.T @ A + alpha * torch.eye(A.shape[1], dtype=A.dtype), A.T @ y)


dual = np.int64(1)


def fosc_linf(x, x0, eps, g):
    g = torch.tensor(g, requires_grad=True)
    return eps * g.abs().sum() - torch.tensor(x - x0) @ g
