"""Witnesses of chapter 7, notebook 3: the gap is a database; no common minimizers."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from sklearn.datasets import make_moons

from advreg import relu, twolayer

NORMS = (1, 2, np.inf)

# ------------------------------------------------------------------------------- oracles


def ball(radius, norm, d, rng):
    """Points of the ball that contain a maximizer of every linear function, or nearly so."""
    if norm == np.inf:
        return radius * np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    if norm == 1:
        return radius * np.vstack([np.eye(d), -np.eye(d)])
    e = rng.standard_normal((2000, d))
    return radius * e / np.linalg.norm(e, axis=1, keepdims=True)


def unit(w, norm):
    """w scaled to dual norm 1."""
    return w / {1: np.abs(w).max(), 2: np.sqrt(w @ w), np.inf: np.abs(w).sum()}[norm]


def brute_gap(f, phi, X, y, weights, moves):
    """Mean gap of a score f by trying every move: nothing is known of f."""
    moved = f(X[:, None] + moves)
    worst = phi(y[:, None] * moved).max(axis=1)
    clean = phi(y * f(X))
    return weights @ (np.maximum(worst, clean) - clean)


LOSSES = {  # and -phi'(0)
    "linear": (lambda t: -t, 1.0),
    "hinge": (lambda t: np.maximum(1 - t, 0), 1.0),
    "logistic": (lambda t: np.logaddexp(0, -t), 0.5),
    "squared hinge": (lambda t: np.maximum(1 - t, 0) ** 2, 2.0),
    "exponential": (lambda t: np.exp(-t), 1.0),
}


def ramp(t):
    return np.maximum(t, 0.0)


def problem(rng, d, n=5, ties=False):
    X, y = rng.uniform(-1, 1, (n, d)), np.sign(rng.standard_normal(n))
    if ties:  # one place with both labels, and a repeated sample
        X[1], X[3] = X[0], X[2]
        y[:4] = [1, -1, 1, 1]
    return X, y, rng.dirichlet(np.ones(n))


def oracle(X, y, p, w, biases, moves, loss, size, sigma=ramp, scale=1.0):
    """G_+ and G_- by brute force, from output weights +-size."""
    phi, slope = LOSSES[loss]
    curves = []
    for a in (size, -size):
        gaps = [
            brute_gap(lambda x, a=a, b=b: a * sigma(scale * (x @ w + b)), phi, X, y, p, moves)
            for b in biases
        ]
        curves.append(np.array(gaps) / (slope * size))
    return curves


def inversion(same, other, k):
    """H of the class that 'same' belongs to, on a grid of step radius / k."""
    H = np.zeros(len(same))
    for i in range(len(H)):
        for n in range(1, i // k + 1):
            H[i] += -(-n // 2) * other[i - n * k] - (n // 2) * same[i - n * k]
    return H


# ------------------------------------------------------------------------------- the database


def test_gap_database(claim):
    c, rng = claim("thm-gap-database"), np.random.default_rng(1)
    worst = {name: 0.0 for name in LOSSES}
    for case, (name, norm) in enumerate(itertools.product(LOSSES, NORMS)):
        d = (2, 1, 3)[case % 3] if norm != 2 else 2
        X, y, p = problem(rng, d, ties=case % 2 == 1)
        w, radius, k = unit(rng.standard_normal(d), norm), 0.3, 3
        moves = ball(radius, norm, d, rng)
        if norm == 2:
            moves = np.vstack([moves, radius * w, -radius * w])
        biases = -1.9 - 2 * radius + radius / k * np.arange(int(3 * k * 1.9 / radius))
        size = 1.0 if name == "linear" else 1e-6
        G = oracle(X, y, p, w, biases, moves, name, size)
        for label, pair in ((1, G), (-1, G[::-1])):
            exact = ramp(X @ w + biases[:, None])[:, y == label] @ p[y == label]
            error = np.abs(inversion(*pair, k) - exact).max()
            worst[name] = max(worst[name], error)
    c.at_most("inversion = mean of hinges, linear loss, brute-force gaps", worst["linear"], 1e-10)
    for name in ("hinge", "logistic", "squared hinge", "exponential"):
        c.at_most(f"the same, {name} loss, output weight 1e-6", worst[name], 1e-4)
    # the limit is approached linearly in the output weight
    X, y, p = problem(rng, 2)
    w, moves = unit(rng.standard_normal(2), 1), ball(0.3, 1, 2, rng)
    biases = np.linspace(-1, 1, 21)
    exact = oracle(X, y, p, w, biases, moves, "linear", 1.0)
    errors = []
    for size in (1e-2, 1e-3):
        found = oracle(X, y, p, w, biases, moves, "logistic", size)
        errors.append(np.abs(np.array(found) - exact).max())
    c.close(
        "error of the limit, ratio for output weights 0.01, 0.001", errors[0] / errors[1], 10, 1
    )
    # part 3: w and -w with positive output weights
    worst = 0.0
    for case, norm in enumerate(NORMS * 2):
        X, y, p = problem(rng, 2, ties=case % 2 == 1)
        w, radius = unit(rng.standard_normal(2), norm), 0.25
        moves = np.vstack([ball(radius, norm, 2, rng)])
        if norm == 2:
            moves = np.vstack([moves, radius * w, -radius * w])
        b = -2.5 + radius * np.arange(20)
        ahead = oracle(X, y, p, w, b, moves, "linear", 1.0)[0]
        back = oracle(X, y, p, -w, radius - b, moves, "linear", 1.0)[0]
        rise = ahead + back - radius  # F_-(b + eps) - F_-(b - eps)
        F = np.zeros(len(b) + 1)
        for i in range(1, len(b)):
            F[i + 1] = F[i - 1] + rise[i]
        exact = np.clip(X @ w + b[:, None], 0, radius)[:, y < 0] @ p[y < 0]
        worst = max(worst, np.abs(F[: len(b)] - exact).max())
    c.at_most("F_- from positive output weights alone", worst, 1e-10)
    # part 1: different laws on common sites differ in some gap; the map has full rank
    X = np.repeat(rng.uniform(-1, 1, (5, 2)), 2, axis=0)
    y = np.tile([1.0, -1.0], 5)
    w, moves, biases = unit(np.array([1.0, 0.37]), np.inf), ball(0.3, np.inf, 2, rng), []
    biases = np.linspace(-1.7, 1.7, 60)
    columns = [
        np.concatenate(oracle(X[[i]], y[[i]], np.ones(1), w, biases, moves, "linear", 1.0))
        for i in range(10)
    ]
    sizes = np.linalg.svd(np.array(columns), compute_uv=False)
    c.at_least("5 sites x 2 labels: smallest singular value of law -> gaps", sizes[-1], 1e-3)
    # Break it: one direction and one sign
    one, other = np.array([[0.2, 0.5]]), np.array([[0.2 - 0.3, 0.5]])
    e, law = np.array([1.0, 0.0]), np.ones(1)
    A = oracle(one, np.array([1.0]), law, e, biases, moves, "linear", 1.0)
    B = oracle(other, np.array([-1.0]), law, e, biases, moves, "linear", 1.0)
    c.at_most("w fixed, a > 0: two laws with one curve", np.abs(A[0] - B[0]).max(), 1e-12)
    c.close("w fixed, a < 0: they differ by the radius", np.abs(A[1] - B[1]).max(), 0.3, 1e-9)


def separated(seed, step):
    rng = np.random.default_rng(seed)
    while True:
        X, y = rng.uniform(-1.5, 1.5, (6, 2)), np.array([1, 1, 1, -1, -1, -1])
        p = rng.dirichlet(np.full(6, 3.0))
        near = [np.diff(np.sort(X[y == s, j])).min() for s in (1, -1) for j in (0, 1)]
        if min(near) >= 3 * step and p.min() > 0.01:
            return X, y, p


def test_rebuilt_data(claim):
    c, step, radius = claim("obs-rebuilt-data"), 0.005, 0.25
    biases = -2 + step * np.arange(721)
    exact, small, labels = 0.0, 0.0, True
    for seed in range(10, 16):
        X, y, p = separated(seed, step)
        for j, (loss, size) in itertools.product((0, 1), (("linear", 1.0), ("logistic", 1e-6))):
            phi, slope = LOSSES[loss]
            G = []
            for a in (size, -size):  # the adversary works at one of two ends of the interval
                u = X[:, j] + biases[:, None]
                ends = [phi(y * a * ramp(u + e)) for e in (-radius, radius)]
                G.append((np.maximum(*ends) - phi(y * a * ramp(u))) @ p / (slope * size))
            threshold = 1e-7 if loss == "linear" else 1e-3
            tails = twolayer.tails_from_gaps(*G, biases[0], step, radius)
            atoms = twolayer.rebuild(tails, threshold)
            order = np.argsort(X[:, j])
            error = max(
                np.abs(atoms.locations - X[order, j]).max(), np.abs(atoms.weights - p[order]).max()
            )
            labels &= bool((atoms.labels == y[order]).all())
            if loss == "linear":
                exact = max(exact, error)
            else:
                small = max(small, error)
    c.at_most("linear loss: locations and weights, 6 data sets", exact, 1e-9)
    c.at_most("logistic loss, output weight 1e-6", small, 1e-3)
    c.at_least("labels agree", float(labels), 1)


# ------------------------------------------------------------------------------- its size


def test_statistic_size(claim):
    c, rng = claim("cor-statistic-size"), np.random.default_rng(3)
    N, d, radius = 3, 2, 0.4
    y = np.array([1.0, -1.0, 1.0])
    moves = ball(radius, np.inf, d, rng)
    neurons = [(unit(rng.standard_normal(d), np.inf), rng.uniform(-1, 1)) for _ in range(80)]

    def gaps(x):
        X = x.reshape(N, d)
        phi, law = LOSSES["linear"][0], np.full(N, 1 / N)
        return np.array(
            [
                brute_gap(lambda z, w=w, b=b, s=s: s * ramp(z @ w + b), phi, X, y, law, moves)
                for w, b in neurons
                for s in (1, -1)
            ]
        )

    def jacobian(F, x, h=1e-6):
        return np.column_stack([(F(x + h * e) - F(x - h * e)) / (2 * h) for e in np.eye(len(x))])

    x = rng.uniform(-1, 1, N * d)
    sizes = np.linalg.svd(jacobian(gaps, x), compute_uv=False)
    c.at_least("rank of data -> 160 gaps is Nd: smallest singular value", sizes[-1], 1e-2)
    # a random continuous statistic with Nd - 1 coordinates: follow its level curve
    A, B = rng.standard_normal((N * d - 1, d)), rng.uniform(0, 6, (N * d - 1, 2))

    def T(x):
        X = x.reshape(N, d)
        shifts = B[:, (y < 0).astype(int)].T  # another one for each label
        return np.sin(X @ A.T + shifts).mean(axis=0)

    least = np.inf
    for _ in range(4):
        x = rng.uniform(-1, 1, N * d)
        target, z, direction = T(x), x.copy(), None
        for _ in range(60):
            null = np.linalg.svd(jacobian(T, z))[2][-1]
            direction = null if direction is None or null @ direction > 0 else -null
            z = z + 0.01 * direction
            for _ in range(4):
                z = z - np.linalg.pinv(jacobian(T, z)) @ (T(z) - target)
        c.at_most("equal means of 5 random features", np.abs(T(z) - target).max(), 1e-10)
        least = min(least, np.abs(gaps(z) - gaps(x)).max())
    c.at_least("and a neuron whose gaps differ by", least, 1e-3)
    # mean and covariance: the curve of the notebook, all labels +1
    X = rng.standard_normal((3, 2))
    U, S, Vt = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    Z = X.mean(axis=0) + U @ [[0, -1], [1, 0]] @ np.diag(S) @ Vt
    same = np.abs(np.cov(Z.T) - np.cov(X.T)).max() + np.abs(Z.mean(0) - X.mean(0)).max()
    c.at_most("rotated triple: mean and covariance", same, 1e-12)
    y = np.ones(3)
    c.at_least("and its gaps differ by", np.abs(gaps(Z.ravel()) - gaps(X.ravel())).max(), 1e-2)
    y = np.array([1.0, -1.0, 1.0])

    # linear models with the linear loss: a constant statistic is enough
    def linear_gaps(x):
        law, phi = np.full(N, 1 / N), LOSSES["linear"][0]
        return np.array(
            [
                brute_gap(lambda z, w=w: z @ w, phi, x.reshape(N, d), y, law, moves)
                for w, _ in neurons[:20]
            ]
        )

    rank = np.abs(jacobian(linear_gaps, x)).max()
    c.at_most("linear models: derivative of the gaps by the data", rank, 1e-8)


def erf_gelu(t):
    return t * 0.5 * (1 + torch.erf(torch.as_tensor(t) / 2**0.5).numpy())


def test_smooth_database(claim):
    c, rng = claim("cor-smooth-database"), np.random.default_rng(4)
    with np.errstate(over="ignore"):
        cases = {
            "softplus": lambda t: np.logaddexp(0, t),
            "GELU": erf_gelu,
            "SiLU": lambda t: t / (1 + np.exp(-t)),
            "ELU": lambda t: np.where(t > 0, t, np.expm1(np.minimum(t, 0))),
        }
        dense = np.linspace(-40, 40, 40001)
        radius, k, inner = 0.3, 3, np.linspace(-1, 1, 61)
        for name, sigma in cases.items():
            X, y, p = problem(rng, 1)
            biases = np.linspace(-1.5, 1.5, 31)
            moves = radius * inner[:, None]
            C = np.abs(sigma(dense) - ramp(dense)).max()
            exact = np.array(oracle(X, y, p, np.ones(1), biases, moves, "linear", 1.0))
            worst = 0.0
            for s in (3.0, 30.0, 300.0):
                args = (X, y, p, np.ones(1), biases, moves, "linear", 1.0)
                found = np.array(oracle(*args, sigma, s)) / s
                worst = max(worst, np.abs(found - exact).max() / (2 * C / s))
            c.at_most(f"{name}: gaps differ by at most 2C/s, ratio", worst, 1)
            c.at_least(f"{name}: and not by much less, ratio", worst, 0.05)
    # sigmoidal: tails by one telescope, with the hinge and a small output weight
    squash = {"tanh": (np.tanh, 2.0), "sigmoid": (lambda t: 0.5 + 0.5 * np.tanh(t / 2), 1.0)}
    for name, (sigma, jump) in squash.items():
        X, y, p = problem(rng, 1, ties=name == "tanh")
        moves, scale = radius * np.array([[-1.0], [1.0]]), 1e5
        biases = -2.2 + radius / k * np.arange(34) + 0.0123
        G = oracle(X, y, p, np.ones(1), biases, moves, "hinge", 1e-3, sigma, scale)
        F = np.zeros((2, len(biases)))
        for i in range(k, len(biases)):
            F[0, i] = G[1][i - k] - F[1, i - k]
            F[1, i] = G[0][i - k] - F[0, i - k]
        tails = F / jump
        for i in range(k, len(biases)):
            tails[:, i] += tails[:, i - k]
        above = X[:, 0] > -biases[:, None]
        exact = np.array([above[:, y == s] @ p[y == s] for s in (1, -1)])
        c.at_most(f"{name}: tails", np.abs(tails - exact).max(), 1e-9)
    # any width: a sum of steps approximates relu, and its gaps follow
    X, y, p = problem(rng, 1)
    moves, args = radius * inner[:, None], (np.ones(1), np.linspace(-1, 1, 11))
    exact = np.array(oracle(X, y, p, *args, moves, "linear", 1.0))
    errors = []
    for width in (25, 100):
        knots = 3 * (np.arange(width) + 0.5) / width

        def stairs(t, knots=knots, width=width):
            steps = 0.5 + 0.5 * np.tanh((t[..., None] - knots) * width)
            return 3 / width * steps.sum(axis=-1)

        found = np.array(oracle(X, y, p, *args, moves, "linear", 1.0, stairs))
        errors.append(np.abs(found - exact).max())
    c.at_most("tanh networks of width 25 and 100: ratio of errors", errors[1] / errors[0], 0.35)


# ------------------------------------------------------------------------------- minimizers


def best_penalty(score, robust, big=30.0):
    """Largest margin by which some Omega has exactly the robust models as minimizers."""
    n, k = score.shape
    size = k + 2 * n + 1
    A, low = [], []
    for i, j in np.ndindex(n, k):
        row = np.zeros(size)
        row[j], row[k + i] = 1, -1  # Omega_j - mu_i
        if robust[i, j]:
            A.append(-row)  # 1 - f + Omega <= mu
            low.append(1 - score[i, j])
            tight = row.copy()
            tight[k + n + i] = -big  # 1 - f + Omega >= mu, unless mu = 0
            A.append(tight)
            low.append(score[i, j] - 1 - big)
        else:
            row[-1] = -1
            A.append(row)
            low.append(score[i, j] - 1)
    for i in range(n):
        row = np.zeros(size)
        row[k + i], row[k + n + i] = -1, big
        A.append(row)
        low.append(0.0)
    lower = np.r_[np.full(k, -9.0), np.zeros(2 * n), -9.0]
    upper = np.r_[np.full(k, 9.0), np.full(n, 9.0), np.ones(n), 1.0]
    found = milp(
        -np.eye(size)[-1],
        constraints=LinearConstraint(np.array(A), low),
        bounds=Bounds(lower, upper),
        integrality=np.r_[np.zeros(k + n), np.ones(n), 0],
    )
    assert found.status == 0
    return found.x[-1]


def added_penalty(score, robust):
    """The same for a penalty added to the clean risk: a linear program."""
    n, k = score.shape
    equal, value, above, free = [], [], [], []
    for i, j in np.ndindex(n, k):
        row = np.zeros(k + n + 1)
        row[j], row[k + i] = 1, -1
        loss = max(0.0, 1 - score[i, j])
        if robust[i, j]:
            equal.append(row)
            value.append(-loss)
        else:
            row = -row
            row[-1] = 1
            above.append(row)
            free.append(loss)
    cost = np.r_[np.zeros(k + n), -1.0]
    bounds = [(-9, 9)] * (k + n) + [(-9, 1)]
    found = linprog(cost, above, free, equal, value, bounds)
    assert found.status == 0
    return found.x[-1]


def table(models, spots, eps):
    """Scores, and robustness at level 1 by dense sampling of the ball."""
    score = np.column_stack([f(spots) for f in models])
    inner = eps * np.linspace(-1, 1, 401)
    worst = np.column_stack([f(spots[:, None] + inner).min(axis=1) for f in models])
    return score, worst >= 1 - 1e-12


def tent(s1, s2, left, right):
    return lambda t: 1 + np.minimum(s1 * (t - left), s2 * (right - t))


def common(rng):
    slope = rng.uniform(0.5, 2)
    return [lambda t: 2 + 0 * t, lambda t: 1 + ramp(slope * t + 9)]


def test_no_common_minimizer(claim):
    c, rng = claim("thm-no-common-minimizer"), np.random.default_rng(5)
    margin = {"neuron": -9.0, "tents": -9.0, "linear": 9.0, "symmetric": 9.0}
    for _ in range(6):
        eps, spots = rng.uniform(0.3, 0.6), np.sort(rng.uniform(-2, 2, 10))
        shift = rng.uniform(-1, 1, 4)
        # a robust spot, and one in the slab: part 2 needs two sites of each kind
        spots = np.r_[spots, shift - 0.3 * eps, shift - 0.6 * eps]
        neurons = [lambda t, b=b, e=eps: 1 + e / 2 - ramp(t - b) for b in shift]
        s1, s2 = 1.0, rng.uniform(2.5, 4)
        tents = [tent(s1, s2, b - 2, b + 1) for b in shift]
        steep = s2 * 0.95 * eps  # high spots that are not robust, beside the gentle end
        ends = np.r_[shift - 2 + 1.01 * eps, shift + 1 - steep / s2]
        linear = [
            lambda t, b=b, s=s: 1 + s * (t - b)
            for b, s in zip(shift, (2, -1, 0.5, -3), strict=True)
        ]
        even = [tent(2, 2, b - 2, b + 1) for b in shift]
        base = common(rng)
        found = best_penalty(*table([*base, *neurons], spots, eps))
        margin["neuron"] = max(margin["neuron"], found)
        found = best_penalty(*table([*base, *tents], np.r_[spots, ends], eps))
        margin["tents"] = max(margin["tents"], found)
        found = best_penalty(*table([*base, *linear], spots[:10], eps))
        margin["linear"] = min(margin["linear"], found)
        found = best_penalty(*table([*base, *even], spots[:10], eps))
        margin["symmetric"] = min(margin["symmetric"], found)
    c.at_most("best margin of a penalty inside the hinge, one neuron", margin["neuron"], 1e-4)
    c.at_most("unequal tents", margin["tents"], -0.1)
    c.at_least("linear models: a penalty exists", margin["linear"], 1e-3)
    c.at_least("symmetric tents: a penalty exists", margin["symmetric"], 1e-3)
    # parts 2 and 3: eroded against level sets, on a fine grid, by brute force
    t = np.linspace(-3, 3, 12001)
    h = t[1] - t[0]
    worst_ratio, attained, slab = np.inf, 0.0, np.inf
    for case in range(20):
        eps = (0.2, 0.45, 0.9)[case % 3]
        k = round(eps / h)
        eps = k * h
        s1, ratio, left = rng.uniform(0.5, 2), (1.0, 1.5, 3.0, 8.0)[case % 4], -1.0
        right = left + rng.uniform(2 * eps + 0.02, 2.5)
        f = tent(s1, s1 * ratio, left, right)(t)
        inside = f >= 1 - 1e-12
        sums = np.r_[0, np.cumsum(~inside)]
        lo, hi = np.maximum(np.arange(len(t)) - k, 0), np.minimum(np.arange(len(t)) + k + 1, len(t))
        eroded = sums[hi] == sums[lo]
        levels = np.r_[np.linspace(-0.5, f.max() - 1 + 0.01, 400), s1 * eps]
        lengths = np.array([h * np.sum(eroded != (f >= 1 + v - 1e-12)) for v in levels])
        bound = min(eps * (1 - 1 / ratio), right - left - 2 * eps)
        worst_ratio = min(worst_ratio, lengths.min() - bound)
        attained = max(attained, abs(lengths[-1] - eps * (1 - 1 / ratio)))
        g = 1 + eps / 2 - ramp(t)
        lowest = np.minimum.reduce([1 + eps / 2 - ramp(t + e) for e in (-eps, 0, eps)])
        for v in np.linspace(-1, 1, 81):
            difference = h * np.sum((lowest >= 1 - 1e-12) != (g >= 1 + v - 1e-12))
            slab = min(slab, difference / (eps / 2))
    c.at_least("tent: length of the difference minus the bound", worst_ratio, -3 * h)
    c.at_most("tent: at omega = s_1 eps it is eps (1 - s_1/s_2)", attained, 4 * h)
    c.at_least("one neuron: difference over eps / 2", slab, 0.99)
    c.at_most("and the slab alone is possible", slab, 1.01)


def test_additive_minimizer(claim):
    c, rng = claim("prop-additive-minimizer"), np.random.default_rng(6)
    linear, neuron, none = -9.0, -9.0, 9.0
    for _ in range(6):
        eps, shift = rng.uniform(0.2, 0.8), rng.uniform(-1, 1, 3)
        spots = np.r_[shift - 1.5 * eps, shift, rng.uniform(-2, 2, 4)]
        base = common(rng)[:1]
        lines = [lambda t, b=b: 1 - (t - b) for b in shift]
        neurons = [lambda t, b=b, e=eps: 1 + e / 2 - ramp(t - b) for b in shift]
        linear = max(linear, added_penalty(*table([*base, *lines], spots, eps)))
        neuron = max(neuron, added_penalty(*table([*base, *neurons], spots, eps)))
        # without the points at which the clean loss is zero but the model is not robust
        score, robust = table([*base, *lines], spots, eps)
        keep = (robust | (score < 1 - 1e-6)).all(axis=1)
        none = min(none, added_penalty(score[keep], robust[keep]))
    c.at_most("best margin of an added penalty, linear models", linear, 1e-5)
    c.at_most("one neuron", neuron, 1e-5)
    c.at_least("it exists where no model is clean without being robust", none, 1e-3)


def train(seed, radius, steps=400):
    g = torch.Generator().manual_seed(seed)
    points, label = make_moons(200, noise=0.15, random_state=seed)
    x, label = torch.tensor(points), torch.tensor(2.0 * label - 1)
    shapes = ((16, 2), (16,), (1, 16), (1,))
    P = [torch.randn(s, generator=g, dtype=x.dtype) / s[-1] ** 0.5 for s in shapes]
    optimizer = torch.optim.Adam([p.requires_grad_() for p in P], 0.02)
    for _ in range(steps):
        z = x.clone().requires_grad_()
        for attack in (radius > 0) * [True] + [False]:
            margins = label * ((z @ P[0].T + P[1]).relu() @ P[2].T + P[3])[:, 0]
            if attack:
                z = x - radius * torch.autograd.grad(margins.sum(), z)[0].sign()
        optimizer.zero_grad()
        (1 - margins).relu().mean().backward()
        optimizer.step()
    W, b, a, bias = (p.detach().numpy() for p in P)
    return relu.Network((W, a), (b, bias))


def level_errors(score, robust):
    """Errors of the best level by trying every score, relative to the robust points."""
    wrong = [np.sum((score >= v) != robust) for v in np.r_[np.unique(score), np.inf]]
    return min(wrong) / robust.sum()


def test_erode_shift(claim):
    c = claim("obs-erode-shift")
    torch.set_num_threads(1)
    X, Y = np.meshgrid(np.linspace(-1.5, 2.5, 61), np.linspace(-1, 1.5, 41))
    field = np.stack([X, Y], axis=-1).reshape(-1, 2)
    inner = 0.2 * np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 2), axis=-1).reshape(-1, 2)
    shares, excess, short = {0.0: [], 0.2: []}, -np.inf, -np.inf
    for radius, seed in itertools.product(shares, range(20, 25)):
        net = train(seed, radius)
        score = relu.evaluate(net, field)[:, 0]
        drop = twolayer.worst_drop(net, field, np.ones(len(field)), 0.2)
        dense = np.array([score - relu.evaluate(net, field + e)[:, 0] for e in inner]).max(axis=0)
        excess = max(excess, (dense - drop).max())
        short = max(short, (drop - dense).max() / drop.max())
        shares[radius].append(level_errors(score, score - drop >= 1))
    c.at_most("a dense search of the balls finds no larger drop", excess, 1e-9)
    c.at_most("and comes near, relative to the largest drop", short, 0.05)
    c.at_least("standard training: smallest share of errors", min(shares[0.0]), 0.005)
    c.at_least("adversarial training: smallest share of errors", min(shares[0.2]), 0.005)
    c.at_most("largest share of errors", max(map(max, shares.values())), 0.4)
    c.close("standard training: median", np.median(shares[0.0]), 0.11, 0.09)
    c.close("adversarial training: median", np.median(shares[0.2]), 0.11, 0.09)
    score = field @ [1.0, -0.5]
    c.at_most("linear model", level_errors(score, score - 0.2 * 1.5 >= 1), 0)
