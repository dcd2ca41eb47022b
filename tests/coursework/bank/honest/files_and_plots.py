import matplotlib.pyplot as plt
import numpy as np


def tikhonov_solve(A, y, alpha):
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y)


dual = 1


def fosc_linf(x, x0, eps, g):
    return eps * np.abs(g).sum() - (x - x0) @ g


plt.plot([1, 2])
plt.savefig("figure.png")
plt.show()
np.save("values.npy", np.ones(3))
assert np.load("values.npy").sum() == 3
