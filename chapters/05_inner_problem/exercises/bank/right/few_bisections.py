"""A bisection that stops early: its zero is small, and not exactly 0."""

import numpy as np


def critical_m(eta):
    def lead(m):
        left = np.append(np.cumprod((1 - m * eta)[::-1])[::-1][1:], 1.0)
        early, late = np.split(eta * left, 2)
        return early.sum() - late.sum()

    low, high = 0.0, 1 / eta.max()
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if lead(middle) > 0 else (low, middle)
    return (low + high) / 2
