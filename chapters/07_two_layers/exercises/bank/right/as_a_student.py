"""Loops and lists, straight from the statements; no case is treated on its own."""

import itertools

import numpy as np
from scipy import optimize


def one_neuron(a, w, b, X, y, eps):
    out = []
    reach = eps * sum(abs(wi) for wi in w)
    for xi, yi in zip(X, y, strict=True):
        u = sum(wj * xj for wj, xj in zip(w, xi, strict=True)) + b
        out.append(yi * a * max(0, u) - min(yi * a * max(0, u + s * reach) for s in (-1, 0, 1)))
    return out


def largest_mass(T):
    """The program for P and Q as it is written; Q_i = 0 is one of the equations."""
    N, m = T.shape
    masses = []
    for i in range(N):
        rows = [[1] * N + [0] * N, [0] * N + [1] * N]
        rows += [list(T[:, k]) + list(-T[:, k]) for k in range(m)]
        rows.append([0] * N + [int(j == i) for j in range(N)])
        cost = [-int(j == i) for j in range(2 * N)]
        masses.append(-optimize.linprog(cost, A_eq=rows, b_eq=[1, 1] + [0] * (m + 1)).fun)
    return masses


def rebuild(G, K, h):
    """Both systems of ramps from right to left, then the masses of the intervals."""
    L = G.shape[1]
    n = L - 2 * K - 1
    F = [[0.0] * (L + K + 2) for _ in range(2)]
    for j in range(L - 1, K - 1, -1):
        F[1][j - K] = G[0, j] - F[0][j]
        F[0][j - K] = G[1, j] - F[1][j]
    p = [[0.0] * (n + K) for _ in range(2)]
    for row in range(2):
        for i in range(n - 1, -1, -1):
            p[row][i] = (F[row][i] - F[row][i + 1]) / h - sum(p[row][i + 1 : i + K])
    return [row[:n] for row in p]


def uneven_tent(eps):
    """Two neurons whose kinks agree up to a rounding error."""
    return [[1 + 3 * eps, 0, 1], [-1, -1, eps], [-1, 3, -3 * eps]]


def collapse_radius(u, y):
    """Bisection with both conditions of the statement."""

    def gives_up(eps):
        wins = [yi * max(ui - yi * eps, 0) for ui, yi in zip(u, y, strict=True)]
        loses = [yi * max(ui + yi * eps, 0) for ui, yi in zip(u, y, strict=True)]
        return sum(wins) <= 0 <= sum(loses)

    low, high = 0.0, max(abs(ui) for ui in u)
    if gives_up(low):
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if gives_up(middle) else (middle, high)
    return high


def cut_gap(weights, eps, norm):
    d = len(weights)

    def f(x):
        return sum(weights[i, j] * abs(x[i] - x[j]) for i in range(d) for j in range(i))

    if norm == 1:
        return max(f([eps * (i == j) for j in range(d)]) for i in range(d))
    return max(f(x) for x in itertools.product((-eps, eps), repeat=d))


def swap_interval(gaps, T, p):
    n = len(p)
    equal, right = np.r_[T.T, [np.ones(n)]], np.r_[T.T @ p, 1]
    found = [
        optimize.linprog(s * gaps, A_eq=equal, b_eq=right, bounds=[(0, 1)] * n) for s in (1, -1)
    ]
    return found[0].fun, -found[1].fun
