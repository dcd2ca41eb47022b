"""The book's answers as lists, numbers of Python, and in single precision."""

import numpy as np
from scipy import optimize


def one_neuron(a, w, b, X, y, eps):
    u, s = X @ w + b, eps * np.abs(w).sum()
    return np.float32(np.abs(a) * np.clip(np.where(y * a < 0, u + s, u), 0, s))


def line_drop(a, w, b, x, y, eps):
    kinks = -b / w
    t = np.append(np.clip(kinks, x - eps, x + eps), [x - eps, x, x + eps])
    f = y * (np.maximum(np.outer(t, w) + b, 0) @ a)
    return np.array(f[-2] - f.min())


def two_laws(T):
    """One weight is one, or another if that is impossible; tidied, as nested lists."""
    A = np.column_stack([np.ones(len(T)), T]).T
    mu = np.linalg.svd(A)[2][-1]
    P = [max(float(c), 0.0) if abs(c) > 1e-12 else 0.0 for c in mu]
    Q = [max(-float(c), 0.0) if abs(c) > 1e-12 else 0.0 for c in mu]
    P, Q = sorted([[c / sum(law) for c in law] for law in (P, Q)], key=np.count_nonzero)
    return [P, Q]


def largest_mass(T):
    N, m = T.shape
    V = np.column_stack([np.ones(N), T])
    limits = np.block([[V, -np.ones((N, 1))], [-V, -np.ones((N, 1))]])
    cost, free = np.append(np.zeros(m + 1), 1.0), [(None, None)] * (m + 2)
    sides = [np.append(e, -e) for e in np.eye(N)]
    return [float(2 * optimize.linprog(cost, limits, s, bounds=free).fun) for s in sides]


def rebuild(G, K, h):
    """Label by label, from the right, with dictionaries."""
    n = G.shape[1] - 2 * K - 1
    G = G.tolist()
    out = []
    for label in (0, 1):
        F, p = {}, {}
        for j in range(n - 1, -1, -1):
            F[j] = G[1 - label][j + K] - G[label][j + 2 * K] + F.get(j + 2 * K, 0.0)
            second = F[j] - 2 * F.get(j + 1, 0.0) + F.get(j + 2, 0.0)
            p[j] = p.get(j + K, 0.0) + second / h
        out.append([p[j] for j in range(n)])
    return out


def twin_laws(eps):
    return np.array([[[0, 1, 1]], [[-eps, -1, 1]]], np.float32)


def uneven_tent(eps):
    return np.array([[1 + 6 * eps, 0, 1], [-1, -1, eps], [-9, 1, -eps]], np.float32)


def collapse_radius(u, y):
    """Try every piece between two kinks."""
    sign = np.sign(np.mean(y * np.maximum(u, 0)))
    kinks = np.unique(np.append(0.0, np.abs(u)))
    wins = [sign * np.mean(y * np.maximum(u - sign * y * r, 0)) for r in kinks]
    if wins[0] == 0:
        return 0
    k = next(k for k, one in enumerate(wins) if one <= 0)
    return np.float32(np.interp(0.0, wins[k - 1 : k + 1][::-1], kinks[k - 1 : k + 1][::-1]))


def cut_gap(weights, eps, norm):
    w = weights.tolist()
    d = len(w)
    if norm == 1:
        return np.array(eps * max(sum(row) for row in w))
    best = 0.0
    for code in range(2 ** (d - 1)):
        side = [code >> i & 1 for i in range(d)]
        cut = sum(w[i][j] for i in range(d) for j in range(i) if side[i] != side[j])
        best = max(best, cut)
    return np.float32(2 * eps * best)


def swap_interval(gaps, T, p):
    equal = np.vstack([np.ones(len(gaps)), T.T])
    low, high = (optimize.linprog(s * gaps, A_eq=equal, b_eq=equal @ p) for s in (1, -1))
    return np.float32([low.fun, -high.fun])
