from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np


@dataclass
class Tikhonov:
    power: int = 1

    def __call__(self, A: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
        """The answer is an object that can be called."""
        alpha = alpha**self.power
        return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y)


tikhonov_solve = Tikhonov()


def gain(p, x, x0, eps, g):
    return eps * np.linalg.norm(g, p) - (x - x0) @ g


dual = np.array(1)
fosc_linf = partial(gain, 1)
