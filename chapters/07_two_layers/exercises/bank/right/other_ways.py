"""Other algorithms, none of the package."""

import itertools

import numpy as np
from scipy import optimize


def one_neuron(a, w, b, X, y, eps):
    u, s = X @ w + b, eps * np.abs(w).sum()
    f = [y * a * np.maximum(u + t, 0) for t in (-s, 0, s)]
    return f[1] - np.minimum(f[0], f[2])


def line_drop(a, w, b, x, y, eps):
    """Piece by piece: between neighbouring kinks the network is a straight line."""
    cuts = sorted({x - eps, x + eps, *(float(k) for k in -b / w if x - eps < k < x + eps)})

    def f(t):
        return sum(y * aj * max(wj * t + bj, 0.0) for aj, wj, bj in zip(a, w, b, strict=True))

    return f(x) - min(f(t) for t in cuts)


def two_laws(T):
    """A corner of the polytope of all differences with the 1-norm 1."""
    N, m = T.shape
    rows = np.vstack([np.ones(N), T.T])
    A = np.vstack([np.hstack([rows, -rows]), np.ones(2 * N)])
    cost = np.random.default_rng(1).standard_normal(2 * N)
    x = optimize.linprog(cost + 5, A_eq=A, b_eq=np.append(np.zeros(m + 1), 1.0)).x
    c = x[:N] - x[N:]
    if np.abs(c).sum() < 1e-6:  # the corner P = Q
        c = np.linalg.svd(rows)[2][-1]
    laws = np.array([np.maximum(c, 0), np.maximum(-c, 0)])
    few = (laws > 1e-10).sum(axis=1)
    laws = laws if few[0] <= few[1] else laws[::-1]
    return laws / laws.sum(axis=1, keepdims=True)


def largest_mass(T):
    """Twice the largest entry of a vector orthogonal to the statistics, with the 1-norm 1."""
    N, m = T.shape
    rows = np.vstack([np.ones(N), T.T])
    A = np.vstack([np.hstack([rows, -rows]), np.ones(2 * N)])
    right = np.append(np.zeros(m + 1), 1.0)
    costs = (np.append(-e, e) for e in np.eye(N))
    return np.array([-2 * optimize.linprog(c, A_eq=A, b_eq=right).fun for c in costs])


def rebuild(G, K, h):
    """All gaps of all unit masses, and a linear system."""
    n = G.shape[1] - 2 * K - 1
    t = h * (np.arange(G.shape[1]) - 1)
    u = h * np.arange(n) - t[:, None]
    up, down = np.clip(u, 0, K * h), np.clip(u + K * h, 0, K * h)
    A = np.block([[up, down], [down, up]])
    return np.linalg.lstsq(A, G.ravel(), rcond=None)[0].reshape(2, n)


def twin_laws(eps):
    first = [[1.0, 1.0, 0.3], [2 - eps, -1.0, 0.2], [5.0, 1.0, 0.5]]
    second = [[1 - eps, -1.0, 0.3], [2.0, 1.0, 0.2], [5.0, 1.0, 0.5]]
    return np.array([first, second])


def uneven_tent(eps):
    """Three kinks, and kinks of neurons that point to the left."""
    return np.array([[1 + 4 * eps, 0, 1.0], [-1, -1, 0.0], [-3, 1, 0], [-2, 1, -eps / 2]])


def collapse_radius(u, y):
    """Bisection with what the best weight of sign +1 or -1 wins."""
    sign = np.sign(np.mean(y * np.maximum(u, 0)))
    low, high = 0.0, np.abs(u).max()
    for _ in range(60):
        middle = (low + high) / 2
        wins = sign * np.mean(y * np.maximum(u - sign * y * middle, 0)) > 0
        low, high = (middle, high) if wins else (low, middle)
    return high if low > 0 else 0.0


def cut_gap(weights, eps, norm):
    if norm == 1:
        return eps * np.max(weights @ np.ones(len(weights)))
    signs = (np.array(s) for s in itertools.product((-1, 1), repeat=len(weights) - 1))
    laplace = np.diag(weights.sum(axis=1)) - weights
    return eps / 2 * max(np.append(s, 1) @ laplace @ np.append(s, 1) for s in signs)


def swap_interval(gaps, T, p):
    """How far the weights may move from p, as a program for the change."""
    A = np.vstack([np.ones(len(gaps)), T.T])
    bounds = [(-one, None) for one in p]
    return [
        float(
            p @ gaps + s * optimize.linprog(s * gaps, A_eq=A, b_eq=0 * A[:, 0], bounds=bounds).fun
        )
        for s in (1, -1)
    ]
