"""Witnesses of chapter 5, notebook 3: convergence with an inexact attack."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize, minimize_scalar

RNG = np.random.default_rng


def vertices(lo, hi):
    return np.array(list(itertools.product(*np.stack([lo, hi], axis=1))))


def stationarity(g, z, corners):
    """FOSC of a polytope from its definition: the best vertex, by enumeration."""
    return float(((corners - z) @ g).max())


class Waves:
    """A sum of cosines, neither convex nor concave, and its smoothness constants."""

    def __init__(self, rng, d, terms=6):
        self.w = rng.standard_normal((terms, d))
        self.a, self.shift = rng.standard_normal(terms), rng.uniform(0, 6, terms)
        self.one = float(np.abs(self.a) @ np.abs(self.w).sum(axis=1) ** 2)  # l-inf to l-1
        self.two = float(np.abs(self.a) @ (self.w**2).sum(axis=1))  # l-2 to l-2

    def value(self, z):
        return float(self.a @ np.cos(self.w @ z + self.shift))

    def gradient(self, z):
        return -(self.a * np.sin(self.w @ z + self.shift)) @ self.w


class Quadratic:
    def __init__(self, rng, d, kind="mixed"):
        root = rng.standard_normal((d, d))
        self.H = {"mixed": root + root.T, "concave": -root @ root.T / d}[kind]
        self.p = rng.standard_normal(d)
        signs = vertices(-np.ones(d), np.ones(d))
        self.one = float(np.abs(signs @ self.H).sum(axis=1).max())
        self.two = float(np.abs(np.linalg.eigvalsh(self.H)).max())

    def value(self, z):
        return float(z @ self.H @ z / 2 + self.p @ z)

    def gradient(self, z):
        return self.H @ z + self.p


# ------------------------------------------------------------------------- inner solvers


def sign_run(f, z, lo, hi, gammas):
    corners, c, start = vertices(lo, hi), [], f.value(z)
    for gamma in gammas:
        g = f.gradient(z)
        c.append(stationarity(g, z, corners))
        z = np.clip(z + gamma * np.sign(g), lo, hi)
    return np.array(c), f.value(z) - start


def test_sign_pgd(claim):
    c = claim("thm-sign-pgd")
    rng, mean, least = RNG(11), [], []
    for i in range(300):
        d = 4
        f = (Waves if i % 2 else Quadratic)(rng, d)
        eps, K = rng.uniform(0.05, 2), int(rng.integers(1, 40))
        lo, hi = -eps * rng.uniform(0, 1, d), eps * rng.uniform(0, 1, d)
        z = rng.uniform(lo, hi)
        if i % 5 == 0:
            lo[0] = hi[0] = z[0]  # a coordinate without room
        if i % 7 == 0:
            z = np.where(rng.random(d) < 0.5, lo, hi)  # start at a corner
        if i % 11 == 0 and isinstance(f, Quadratic):
            f.p = -f.H @ z  # start where the gradient is zero
        gamma = 2 * eps * (1.0 if i % 13 == 0 else rng.uniform(0.01, 1))
        values, gain = sign_run(f, z, lo, hi, [gamma] * K)
        mean.append(values.mean() / (2 * eps * gain / (gamma * K) + eps * f.one * gamma))
        gammas = 2 * eps / np.sqrt(np.arange(1, K + 1))
        values, gain = sign_run(f, z, lo, hi, gammas)
        above = 2 * eps * (gain + f.one / 2 * (gammas**2).sum()) / gammas.sum()
        least.append(values.min() - above)
    c.at_most("mean FOSC over the bound, 300 problems", max(mean), 1 + 1e-9)
    c.at_most("least FOSC minus the bound, decreasing steps", max(least), 1e-9)
    # Equality: the first term for a linear f and one full step, the floor for the cycle.
    linear = Quadratic(rng, 3)
    linear.H[:] = 0
    values, gain = sign_run(
        linear, np.where(linear.p > 0, -0.5, 0.5), *np.full((2, 3), 0.5) * [[-1], [1]], [1.0]
    )
    c.close("linear f, one full step: FOSC over the first term", values[0] / gain, 1.0, 1e-12)
    for gamma in (0.02, 0.5, 1.4, 2.0):
        cycle = Quadratic(rng, 1)
        cycle.H[:], cycle.p[:] = -3.0, 0.0
        values, _ = sign_run(cycle, np.array([gamma / 2]), -np.ones(1), np.ones(1), [gamma] * 50)
        floor = 2 * 3.0 / 2 * (50 * gamma**2) / (50 * gamma)  # part 3, without the gain
        c.at_most(f"cycle, step {gamma}: least FOSC over part 3", values.min() / floor, 1 + 1e-12)
        c.close(f"cycle, step {gamma}: FOSC", values.max(), 1.5 * (1 + gamma / 2) * gamma, 1e-9)
        c.close(f"cycle, step {gamma}: the same at all steps", np.ptp(values), 0.0, 1e-9)
        c.at_least(f"cycle, step {gamma}: over the floor", values.min() / (3 * gamma), 0.5)
    # Part 2 against a search over the step.
    for _ in range(20):
        eps, beta, gap, K = rng.uniform(0.1, 2), rng.uniform(0.1, 5), rng.uniform(0, 1), 50
        best = minimize_scalar(
            lambda u, e=eps, b=beta, s=gap, n=K: 2 * e * s / (np.exp(u) * n) + e * b * np.exp(u),
            bounds=(-12, 3),
            method="bounded",
        )
        c.close("optimal step", np.exp(best.x), np.sqrt(2 * gap / (beta * K)), 1e-4)
        c.close("its bound", best.fun, 2 * eps * np.sqrt(2 * beta * gap / K), 1e-6)


def inner_run(method, f, z, K, shape, beta, line_search=False, tau=None):
    """FOSC of iterates 0..K, values, and moves; on the unit cube or the unit ball of R^d."""
    d, c, values, moves = z.size, [], [], []
    D = 2 * np.sqrt(d) if shape == "cube" else 2.0
    for k in range(K + 1):
        g = f.gradient(z)
        norm = np.linalg.norm(g)
        if shape == "cube":
            v = np.where(g >= 0, 1.0, -1.0)
        else:
            v = g / norm if norm else np.zeros(d)
        c.append(max(float((v - z) @ g), 0.0))
        values.append(f.value(z))
        if method == "pg":
            new = z + g / beta
            new = np.clip(new, -1, 1) if shape == "cube" else new / max(1, np.linalg.norm(new))
        else:
            step = min(1.0, c[-1] / (beta * D**2)) if tau is None else tau(k)
            if line_search:
                grid = np.linspace(0, 1, 201)
                step = grid[np.argmax([f.value(z + t * (v - z)) for t in grid])]
                step = max(
                    step, min(1.0, c[-1] / (beta * D**2)), key=lambda t: f.value(z + t * (v - z))
                )
            new = z + step * (v - z)
        moves.append(np.linalg.norm(new - z))
        z = new
    return np.array(c), np.array(values), np.array(moves), D


def test_inner_solvers(claim):
    c = claim("prop-inner-solvers")
    rng = RNG(12)
    worst = dict.fromkeys(("pg", "pg concave", "fw", "fw line search", "fw concave"), 0.0)
    worst |= {"pg gain": 0.0, "pg stationarity": 0.0, "fw gain": 0.0}
    for i in range(160):
        d, shape = 5, ("cube", "ball")[i % 2]
        f = Waves(rng, d) if i % 3 else Quadratic(rng, d)
        start, K = rng.uniform(-1, 1, d) / np.sqrt(d), 2 * int(rng.integers(1, 30))
        b = f.two
        s, v, q, D = inner_run("pg", f, start, K, shape, b)
        rate = D * np.sqrt(2 * b * (v[K] - v[0]) / K)
        worst["pg"] = max(worst["pg"], s[1:].mean() / (2 * rate))
        worst["pg gain"] = max(worst["pg gain"], (b / 2 * q[:-1] ** 2 - np.diff(v)).max())
        over = s[1:] - 2 * b * D * q[:-1]
        worst["pg stationarity"] = max(worst["pg stationarity"], over.max())
        for name, search in (("fw", False), ("fw line search", i % 8 == 0)):
            s, v, _, _ = inner_run("fw", f, start, K, shape, b, search)
            rate = max(2 * (v[K] - v[0]) / K, D * np.sqrt(2 * b * (v[K] - v[0]) / K))
            worst[name] = max(worst[name], s[:K].min() / rate)
            step = np.minimum(s[:-1] / 2, s[:-1] ** 2 / (2 * b * D**2))
            worst["fw gain"] = max(worst["fw gain"], (step - np.diff(v)).max())
        f = Quadratic(rng, d, "concave")
        s, _, _, D = inner_run("pg", f, start, K, shape, f.two)
        worst["pg concave"] = max(worst["pg concave"], s[1:].min() * K / (4 * f.two * D**2))
        s, _, _, D = inner_run("fw", f, start, K, shape, f.two, tau=lambda k: 2 / (k + 2))
        bound = 27 * f.two * D**2 / (4 * (K + 2))
        worst["fw concave"] = max(worst["fw concave"], s[1:].min() / bound)
    for name in ("pg", "pg concave", "fw", "fw line search", "fw concave"):
        c.at_most(f"{name}: FOSC over the bound", worst[name], 1 + 1e-9)
    for name in ("pg gain", "pg stationarity", "fw gain"):
        c.at_most(f"{name}: violation of the inequality in the proof", worst[name], 1e-9)
    # The inequalities of one step are sharp, on [-1, 1] (D = 2), with beta = 2.
    one = Quadratic(rng, 1)
    one.H[:], one.p[:] = -2.0, 0.0
    _, v, q, D = inner_run("pg", one, np.array([0.3]), 1, "cube", 2.0)
    c.close("sharp: gain of a projected step", v[1] - v[0], q[0] ** 2, 1e-12)
    s, v, _, _ = inner_run("fw", one, np.array([-1.0]), 1, "cube", 2.0)
    c.close("sharp: gain of a Frank-Wolfe step", v[1] - v[0], s[0] ** 2 / (4 * D**2), 1e-12)
    one.H[:], one.p[:] = 2.0, 2.0
    s, _, q, _ = inner_run("pg", one, np.array([-1 + 1e-4]), 1, "cube", 2.0)
    c.close("sharp: FOSC after a projected step", s[1] / (4 * D * q[0]), 1.0, 1e-3)
    one.H[:], one.p[:] = 0.0, 0.7  # linear, one step of Frank-Wolfe: everything is gained
    s, v, _, D = inner_run("fw", one, np.array([-1.0]), 1, "cube", 1e-9)
    c.close("linear: FOSC over its gain", s[0] / (v[1] - v[0]), 1.0, 1e-12)


# ------------------------------------------------------------------------- the game


class Game:
    """f_i = theta.A theta/2 + kappa sum cos - b_i.theta + theta.C_i e - e.M e/2 on a box."""

    def __init__(self, rng, n=6, d=2, kappa=0.3):
        self.A, self.kappa = np.diag([1.0, 0.2]), kappa
        self.b = rng.normal(0, 0.7, (n, 2))
        self.C = rng.normal(0, 0.5, (n, 2, d))
        self.M = np.diag(rng.uniform(0.6, 1.5, d))  # diagonal: the maximizer is a clip
        self.mu = self.M.diagonal().min()
        self.lo, self.hi = -rng.uniform(0.1, 0.6, (n, d)), rng.uniform(0.1, 0.6, (n, d))
        self.lo[0, 0] = 0.0  # a clean point on the border of the pixel range
        self.L_tz = max(np.linalg.norm(C, 2) for C in self.C)
        self.L_tt = 1.0 + kappa
        self.L = self.L_tt + self.L_tz**2 / self.mu

    def best(self, theta):
        return np.clip(theta @ self.C / self.M.diagonal(), self.lo, self.hi)  # (n, d)

    def inner(self, theta, e):
        return theta @ self.C - e @ self.M

    def gradients(self, theta, e):
        common = self.A @ theta - self.kappa * np.sin(theta)
        return common - self.b + np.einsum("npd,nd->np", self.C, e)

    def values(self, theta, e):
        common = theta @ self.A @ theta / 2 + self.kappa * np.cos(theta).sum()
        linear = -self.b @ theta + np.einsum("p,npd,nd->n", theta, self.C, e)
        return common + linear - ((e @ self.M) * e).sum(axis=1) / 2

    def phi(self, theta):
        return self.values(theta, self.best(theta)).mean()

    def fosc(self, theta, e):
        g, corners = (
            self.inner(theta, e),
            [vertices(*x) for x in zip(self.lo, self.hi, strict=True)],
        )
        return np.array([stationarity(a, z, v) for a, z, v in zip(g, e, corners, strict=True)])

    def lowest(self):
        starts = itertools.product((-3.0, 0.0, 3.0), repeat=2)
        return min(minimize(self.phi, s, tol=1e-10).fun for s in starts)

    def inexact(self, theta, w, tolerance):
        """From the maximizers towards the corners that push the gradient along w."""
        e, g = self.best(theta), w @ self.C
        corner = np.where(g > 0, self.hi, self.lo)
        low, high = np.zeros(len(e)), np.ones(len(e))
        for _ in range(25):
            mid = (low + high) / 2
            z = e + mid[:, None] * (corner - e)
            h = self.inner(theta, z)
            c = (np.maximum(h, 0) * (self.hi - z) - np.minimum(h, 0) * (z - self.lo)).sum(axis=1)
            low, high = np.where(c <= tolerance, mid, low), np.where(c <= tolerance, high, mid)
        return e + low[:, None] * (corner - e)


def test_inner_error(claim):
    c = claim("lem-inner-error")
    rng = RNG(13)
    near = gap = far = smooth = error = wrong = 0.0
    for _ in range(12):
        game = Game(rng)
        for _ in range(12):
            theta, other = rng.normal(0, 2, (2, 2))
            best = game.best(theta)
            e = rng.uniform(game.lo, game.hi)
            i = int(rng.integers(len(e)))
            solved = minimize(
                lambda x, i=i, t=theta, s=game: -(t @ s.C[i] @ x) + x @ s.M @ x / 2,
                np.zeros(2),
                jac=lambda x, i=i, t=theta, s=game: -(t @ s.C[i]) + s.M @ x,
                bounds=np.stack([game.lo[i], game.hi[i]], axis=1),
                method="L-BFGS-B",
                options={"ftol": 1e-15, "gtol": 1e-10},
            )
            wrong = max(wrong, np.abs(solved.x - best[i]).max())
            fosc = game.fosc(theta, e)
            near = max(near, (game.mu * ((e - best) ** 2).sum(axis=1) / fosc).max())
            short = game.values(theta, best) - game.values(theta, e)
            assert short.min() >= -1e-12
            gap = max(gap, (short - fosc).max())
            moved = np.linalg.norm(game.best(other) - best, axis=1).max()
            size = np.linalg.norm(theta - other)
            far = max(far, moved / (game.L_tz / game.mu * size))
            change = game.gradients(theta, best) - game.gradients(other, game.best(other))
            smooth = max(smooth, np.linalg.norm(change.mean(axis=0)) / (game.L * size))
            batch = rng.integers(len(e), size=3)
            off = (game.gradients(theta, e) - game.gradients(theta, best))[batch].mean(axis=0)
            error = max(error, off @ off / (game.L_tz**2 / game.mu * fosc[batch].mean()))
    c.at_most("maximizer against a bounded optimizer", wrong, 1e-6)
    c.at_most("mu |z - z*|^2 over FOSC", near, 1 + 1e-9)
    c.at_most("value gap minus FOSC", gap, 1e-12)
    c.at_most("motion of the maximizer over its bound", far, 1 + 1e-9)
    c.at_most("change of the gradient of phi over its bound", smooth, 1 + 1e-9)
    c.at_most("squared error of the batch gradient over its bound", error, 1 + 1e-9)
    # Sharp cases: a vertex maximizer with zero gradient; an interior maximizer.
    ends, mu = np.array([[-1.0], [1.0]]), 0.7
    for z in (-1.0, 0.2, 0.9):
        fosc = stationarity(np.array([-mu * (z - 1)]), np.array([z]), ends)
        c.close(f"sharp: mu (1 - z)^2 at z = {z}", mu * (1 - z) ** 2, fosc, 1e-12)
    a, k = 0.5, 0.8  # f = a theta^2/2 + k theta z - mu z^2/2, phi'' by differences of max f
    grid = np.linspace(-1, 1, 200001)
    phi = [np.max(a * t**2 / 2 + k * t * grid - mu * grid**2 / 2) for t in (-0.1, 0.0, 0.1)]
    c.close(
        "sharp: curvature of phi is L", (phi[0] + phi[2] - 2 * phi[1]) / 0.01, a + k**2 / mu, 1e-4
    )


def step_bound(phi, G2, eta, L, b2, sigma2):
    return phi - eta / 2 * G2 + eta / 2 * max(1, 2 * L * eta) * b2 + L * eta**2 * sigma2


def test_biased_step(claim):
    c = claim("lem-biased-step")
    rng, worst = RNG(14), -np.inf
    for i in range(400):  # a finite probability space: expectations are sums
        atoms, L = 5, 2.0
        prob = rng.dirichlet(np.ones(atoms))
        phase, theta = rng.uniform(0, 6, 2), rng.normal(0, 2, 2)

        def phi(t, phase=phase):  # second derivatives between -L and L
            return 2.0 * np.cos(t + phase).sum(axis=-1)

        G = -2.0 * np.sin(theta + phase)
        noise = rng.standard_normal((atoms, 2)) * rng.uniform(0, 1)
        noise -= prob @ noise
        e = [noise * rng.normal(), np.tile(-G, (atoms, 1)), rng.standard_normal((atoms, 2))][i % 3]
        e = e * rng.uniform(0, 1)
        eta = (1.0 if i % 10 == 0 else rng.uniform(0, 1)) / L
        sigma2, b2 = prob @ (noise**2).sum(axis=1), prob @ (e**2).sum(axis=1)
        left = prob @ phi(theta - eta * (G + noise + e))
        worst = max(worst, left - step_bound(phi(theta), G @ G, eta, L, b2, sigma2))
    c.at_most("expected value minus the bound, 400 laws", worst, 1e-12)
    # Equality for a parabola: error against the gradient; error equal to the noise, eta = 1/L.
    L, theta, xi = 2.0, 1.5, np.array([-0.7, 0.7])
    G = L * theta
    for eta in (0.1, 0.25):
        left = L / 2 * (theta - eta * (G - G)) ** 2
        right = step_bound(L / 2 * theta**2, G**2, eta, L, G**2, 0.0)
        c.close(f"equality, error against the gradient, step {eta}", right, left, 1e-12)
    left = np.mean(L / 2 * (theta - (G + 2 * xi) / L) ** 2)
    right = step_bound(L / 2 * theta**2, G**2, 1 / L, L, 0.49, 0.49)
    c.close("equality, error equal to the noise, step 1/L", right, left, 1e-12)


def training_bound(L, gap, sigma, T, L_tz, mu, tolerance):
    noise = 4 * sigma * np.sqrt(L * gap / T) if sigma else 0.0
    return noise + 2 * L * gap / T + 2 * L_tz**2 * tolerance / mu


def train(game, start, T, batch, tolerance, direction, rng, gap, sigma):
    eta = min(1 / game.L, np.sqrt(gap / (game.L * T)) / sigma) if sigma else 1 / game.L
    n, theta = len(game.b), np.array(start)
    total = fosc = 0.0
    for t in range(T):
        picked = rng.integers(n, size=batch) if batch else np.arange(n)
        exact = game.gradients(theta, game.best(theta))
        G, g = exact.mean(axis=0), exact[picked].mean(axis=0)
        w = {"gradient": -G, "batch": -g, "noise": g - G, "fixed": np.array([1.0, -1.0])}[direction]
        # All of the tolerance in every other step, on some of the samples: only means count.
        now = np.where(np.arange(n) % 3 == 0, 3.0, 0.0) * tolerance * 2 * (t % 2)
        z = game.inexact(theta, w, now)
        total += G @ G / T
        fosc += game.fosc(theta, z)[picked].mean() / T
        theta = theta - eta * game.gradients(theta, z)[picked].mean(axis=0)
        assert np.abs(theta).max() <= 4
    return total, fosc


def test_approximate_training(claim):
    c = claim("thm-approximate-training")
    rng, ratios, T = RNG(15), {"full batch": [], "batches of 2": []}, 60
    grid = np.stack(np.meshgrid(*[np.linspace(-4, 4, 21)] * 2), axis=-1).reshape(-1, 2)
    for _ in range(2):
        game, start = Game(rng), np.array([2.5, -2.0])
        gap = game.phi(start) - game.lowest()
        spread = [game.gradients(t, game.best(t)).var(axis=0).sum() for t in grid]
        sigma = 1.02 * np.sqrt(max(spread) / 2)
        for direction, tolerance in itertools.product(
            ("gradient", "batch", "noise", "fixed"), (0.0, 0.02, 0.3)
        ):
            for name, batch, s, runs in (("full batch", 0, 0.0, 1), ("batches of 2", 2, sigma, 3)):
                out = [
                    train(game, start, T, batch, tolerance, direction, rng, gap, s)
                    for _ in range(runs)
                ]
                value, fosc = np.mean(out, axis=0)
                bound = training_bound(game.L, gap, s, T, game.L_tz, game.mu, fosc)
                ratios[name].append(value / bound)
    for name, values in ratios.items():
        c.at_most(f"{name}: mean squared gradient over the bound", max(values), 1.0)
    # Without 2 L gap / T the bound is 0 for exact attacks and the full batch.
    value, _ = train(game, start, T, 0, 0.0, "fixed", rng, gap, 0.0)
    c.at_least("exact, full batch: mean squared gradient", value, 0.01)
    # T = 1, phi = L theta^2 / 2, no attack: the term 2 L gap / T is attained.
    c.close(
        "one step: squared gradient",
        (1.7 * 3) ** 2,
        training_bound(1.7, 1.7 * 4.5, 0, 1, 0, 1, 0),
        1e-9,
    )
    # The noise term within a factor of 3: phi = t^2/2, exact attacks, exact second moments.
    T, gap, var, mean, total = 10**5, 0.02, 0.0, 0.2, 0.0
    eta = np.sqrt(gap / T)  # L = sigma = 1
    for _ in range(T):
        total += (mean**2 + var) / T
        mean, var = (1 - eta) * mean, (1 - eta) ** 2 * var + eta**2
    used = total / training_bound(1.0, gap, 1.0, T, 0.0, 1.0, 0.0)
    c.at_most("noise alone: mean squared gradient over the bound", used, 1.0)
    c.at_least("noise alone: share of the bound that is attained", used, 0.3)
    # At rest, f = a t^2/2 - p t + k t z - mu (z - eps)^2/2, z = eps - tau: gradient = bias.
    a, k, mu, eps, tau = 0.6, 0.9, 0.8, 0.5, 0.2
    p = k * (eps - tau)
    fosc = stationarity(np.array([mu * tau]), np.array([eps - tau]), np.array([[-eps], [eps]]))
    c.close("at rest: inexact gradient at 0", k * (eps - tau) - p, 0.0, 1e-12)
    z = np.linspace(-eps, eps, 100001)

    def phi(t):
        return np.max(a * t**2 / 2 - p * t + k * t * z - mu * (z - eps) ** 2 / 2)

    slope = (phi(1e-4) - phi(0.0)) / 1e-4
    L = a + k**2 / mu
    gap = phi(0.0) - minimize_scalar(phi, bounds=(-2, 2), method="bounded").fun
    part1 = 2 * gap / (1e6 / (2 * L)) + k**2 * fosc / mu  # eta = 1/(2L), T = 10^6
    c.close(
        "at rest for ever: squared gradient over the bound of part 1", slope**2 / part1, 1.0, 1e-3
    )
    part2 = training_bound(L, gap, 0.0, 1e6, k, mu, fosc)
    c.at_most("at rest for ever: squared gradient over the bound of part 2", slope**2 / part2, 1.0)
    # Edge cases: at a minimizer, with noise (step 0) and without (step 1/L, exact attack).
    bottom = minimize(game.phi, min(grid, key=game.phi), tol=1e-12).x
    value, _ = train(game, bottom, 5, 2, 0.3, "gradient", rng, 0.0, 1.0)
    c.at_most("start at a minimizer, step 0", value, 1e-7)
    value, _ = train(game, bottom, 5, 0, 0.0, "fixed", rng, 0.0, 0.0)
    c.at_most("start at a minimizer, no noise", value, 1e-7)


# ------------------------------------------------------------------------- discount


def weights(m, rates):
    return np.array([rates[t] * np.prod(1 - m * rates[t + 1 :]) for t in range(len(rates))])


def parabola(m, rates, errors, theta=0.0):
    for eta, e in zip(rates, errors, strict=True):
        theta = theta - eta * (m * theta + e)
    return theta


def discount_bound(m, L, rates, b2, sigma2, gap):
    source = np.maximum(1, 2 * L * rates) * b2 / 2 + L * rates * sigma2
    return np.prod(1 - m * rates) * gap + weights(m, rates) @ source


def test_discount(claim):
    c = claim("thm-discount")
    rng, worst = RNG(16), 0.0
    for i in range(60):  # exact second moments of a quadratic with noise and given errors
        h = np.sort(rng.uniform(0.05, 2, 3))
        m, L = h[0], h[-1]
        rates = rng.uniform(0.05, 1, 40) / L
        if i % 4 == 0:
            rates[rng.integers(40)] = 1 / L
        size, sd = rng.uniform(0, 1, 40), rng.uniform(0, 0.5)
        # From outside: along the softest direction, or along the gradient of the mean.
        mean, var = rng.standard_normal(3) * 2, np.zeros(3)
        gap = h @ mean**2 / 2
        for t, eta in enumerate(rates):
            e = np.array([-1.0, 0, 0]) if i % 2 else -h * mean / np.linalg.norm(h * mean)
            mean = mean - eta * (h * mean + size[t] * e)
            var = (1 - eta * h) ** 2 * var + eta**2 * sd**2 / 3
            bound = discount_bound(m, L, rates[: t + 1], size[: t + 1] ** 2, sd**2, gap)
            worst = max(worst, h @ (mean**2 + var) / 2 / bound)
    c.at_most("loss over the bound at all steps, 60 quadratics", worst, 1 + 1e-9)
    # b_t^2 in the mean only: one noisy step, then errors in one of its two outcomes, exactly.
    m, L, rates, sd, worst = 0.4, 1.0, np.full(30, 0.4), 0.8, 0.0
    for start, when in itertools.product((0.0, 2.0), (1.0, -1.0)):
        pair = np.tile([[start], [0.5]], 2)  # (coordinate, outcome): curvatures m and L
        size = np.where(np.arange(30) == 0, 0.0, 0.6)
        source = sd**2 * (np.arange(30) == 0)
        for t, eta in enumerate(rates):
            e = np.zeros((2, 2))
            e[0] = -np.sqrt(2) * size[t] * (np.array([1.0, -1.0]) == when)
            noise = np.array([[1.0, -1.0], [0, 0]]) * np.sqrt(source[t])
            pair = pair - eta * (np.array([[m], [L]]) * pair + noise + e)
            now = slice(t + 1)
            gap = m * start**2 / 2 + L * 0.125
            bound = discount_bound(m, L, rates[now], size[now] ** 2, source[now], gap)
            loss = (m * pair[0] ** 2 + L * pair[1] ** 2).mean() / 2
            worst = max(worst, loss / bound)
    c.at_most("errors in one outcome only: loss over the bound", worst, 1 + 1e-9)
    # A nonconvex function with the PL inequality: t^2 + 3 sin^2 t, m = 1/32, L = 8.
    t_grid = np.linspace(-20, 20, 40001)
    slope, height = 2 * t_grid + 3 * np.sin(2 * t_grid), t_grid**2 + 3 * np.sin(t_grid) ** 2
    pl = slope[height > 0] ** 2 / (2 * height[height > 0])
    c.at_least("t^2 + 3 sin^2 t: PL constant", pl.min(), 1 / 32)
    theta, rates, worst = 3.0, np.full(200, 1 / 16), 0.0
    for t in range(200):
        size = 0.5 * (t % 50 < 25)
        e = -size * np.sign(2 * theta + 3 * np.sin(2 * theta))
        theta -= rates[t] * (2 * theta + 3 * np.sin(2 * theta) + e)
        b2 = 0.25 * (np.arange(t + 1) % 50 < 25)
        bound = discount_bound(1 / 32, 8, rates[: t + 1], b2, 0, 9 + 3 * np.sin(3) ** 2)
        worst = max(worst, (theta**2 + 3 * np.sin(theta) ** 2) / bound)
    c.at_most("t^2 + 3 sin^2 t: loss over the bound", worst, 1.0)
    # The weights are the response of the parabola to one error; telescoping; exponential.
    m, rates = 0.4, rng.uniform(0.05, 1 / 0.8, 30)
    w = weights(m, rates)
    pulse = [parabola(m, rates, -np.eye(30)[t]) for t in range(30)]
    c.close("weights against the response to a pulse", np.abs(w - pulse).max(), 0.0, 1e-12)
    left = 1 - np.prod(1 - m * rates)
    c.close("m times the sum of the weights", m * np.sum(pulse), left, 1e-12)
    rest = np.array([rates[t + 1 :].sum() for t in range(30)])
    c.at_most(
        "weight over its exponential bound", (w / (rates * np.exp(-m * rest))).max(), 1 + 1e-12
    )
    # Equality for a constant error that balances the gradient.
    size, start = 0.3, 0.3 / m
    end = m * parabola(m, rates, np.full(30, -size), start) ** 2 / 2
    bound = discount_bound(m, m, rates, np.full(30, size**2), 0, m * start**2 / 2)
    c.close("balanced error: the bound is the truth", bound, end, 1e-12)
    # Equality for one step 1/L and an error equal to the noise, by enumeration (m = L = 2).
    xi = np.array([-0.7, 0.7])
    end = np.mean((1.5 - 0.5 * (2 * 1.5 + xi + xi)) ** 2)
    bound = discount_bound(2.0, 2.0, np.array([0.5]), np.array([0.49]), 0.49, 1.5**2)
    c.close("one full step, error equal to the noise: the bound is the truth", bound, end, 1e-12)
    # Which half: the parabola itself against the criterion.
    wrong = count = 0
    for m, q in itertools.product(np.geomspace(0.005, 0.6, 25), (0.03, 0.1, 0.5, 1.0, 2.0)):
        rates = np.repeat([0.5, 0.5 * q], 60)
        early = abs(parabola(m, rates, np.repeat([1.0, 0.0], 60)))
        late = abs(parabola(m, rates, np.repeat([0.0, 1.0], 60)))
        if abs(early - late) > 1e-12 * late:
            first, second = np.prod(1 - m * rates[:60]), np.prod(1 - m * rates[60:])
            wrong += (early > late) != (second * (2 - first) > 1)
            wrong += q >= 1 and early > late
            count += 1
    c.at_most(f"halves: criterion wrong in {count} parabolas", wrong, 0)

    def difference(u, q):  # first minus second half, by quadrature of the discount
        early = quad(lambda s: np.exp(-u * (1 + q - s)), 0, 1, epsabs=1e-13)[0]
        return early - quad(lambda s: np.exp(-u * (1 + q - s)), 1, 1 + q, epsabs=1e-13)[0]

    c.close(
        "threshold of mS for a tenth of the rate",
        brentq(difference, 1, 20, args=(0.1,)),
        6.927,
        5e-4,
    )
    for q in (0.02, 0.3, 0.8):
        grid = np.geomspace(1e-3, 200, 300)
        signs = np.sign([difference(u, q) for u in grid if abs(difference(u, q)) > 1e-14])
        c.close(f"rate times {q}: sign changes", np.abs(np.diff(signs)).sum() / 2, 1.0, 0.1)
        c.at_least(f"rate times {q}: early first", signs[0], 1.0)


# ------------------------------------------------------------------------- no concavity


class Ripples:
    """f_i(t, z) = 0.1 t^2 + u_i t sin 3z - v_i cos(z + 2 t + a_i) on [-1, 1], on a grid."""

    def __init__(self, rng):
        self.z, n = np.linspace(-1, 1, 61), 3
        self.u, self.v = rng.uniform(0.3, 1, (n, 1)), rng.uniform(0.3, 1, (n, 1))
        self.a = rng.uniform(0, 6, (n, 1))
        self.ell = 0.2 + 4 * self.v.max()
        self.grid = np.linspace(-8, 8, 1601)
        self.coarse = np.array([self.phi(t) for t in self.grid])

    def f(self, t):
        return (
            0.1 * t**2 + self.u * t * np.sin(3 * self.z) - self.v * np.cos(self.z + 2 * t + self.a)
        )

    def slope(self, t):
        wave = np.sin(self.z + 2 * t + self.a)
        return 0.2 * t + self.u * np.sin(3 * self.z) + 2 * self.v * wave

    def phi(self, t):
        return self.f(t).max(axis=1).mean()

    def envelope(self, t):
        """Value and minimizer: a grid, then a search; the objective is strongly convex."""
        near = self.grid[np.argmin(self.coarse + self.ell * (self.grid - t) ** 2)]
        found = minimize_scalar(
            lambda s: self.phi(s) + self.ell * (s - t) ** 2,
            bounds=(near - 0.03, near + 0.03),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return found.fun, found.x


@pytest.fixture(scope="module")
def ripples():
    rng = RNG(17)
    return [Ripples(rng) for _ in range(3)]


def test_weakly_convex(claim, ripples):
    c = claim("thm-weakly-convex")
    rng, ratios, step_over, formula = RNG(18), [], -np.inf, 0.0
    for r, shortfall, batch in itertools.product(ripples, (0.0, 0.05, 0.4), (0, 1)):
        T, theta, M = 60, 2.0, 0.2 * 4 + r.u.max() + 2 * r.v.max()  # M for |theta| <= 4
        inf = r.coarse.min() - 1e-3
        Phi, total = r.envelope(theta)[0] - inf, 0.0
        eta = np.sqrt(Phi / (r.ell * M**2 * T))
        for _ in range(T):
            value, near = r.envelope(theta)
            slope = 2 * r.ell * (theta - near)
            total += slope**2 / T
            f, g = r.f(theta), r.slope(theta)
            allowed = f >= f.max(axis=1, keepdims=True) - shortfall
            pick = np.where(allowed, g * np.sign(near - theta), -np.inf).argmax(axis=1)
            steps = g[np.arange(3), pick]
            short = (f.max(axis=1) - f[np.arange(3), pick]).mean()
            new = [r.envelope(theta - eta * s)[0] for s in (steps if batch else [steps.mean()])]
            size = (steps**2).mean() if batch else steps.mean() ** 2
            right = value - eta / 2 * slope**2 + 2 * r.ell * eta * short + r.ell * eta**2 * size
            step_over = max(step_over, np.mean(new) - right)
            theta -= eta * (steps[rng.integers(3)] if batch else steps.mean())
            assert abs(theta) <= 4
        ratios.append(total / (4 * M * np.sqrt(r.ell * Phi / T) + 4 * r.ell * shortfall))
    c.at_most("mean squared envelope gradient over the bound", max(ratios), 1.0)
    c.at_most("descent of the envelope: violation", step_over, 1e-7)
    for r in ripples:
        for t in (-1.7, 0.4, 2.2):
            ahead, behind = r.envelope(t + 1e-4)[0], r.envelope(t - 1e-4)[0]
            by_formula = 2 * r.ell * (t - r.envelope(t)[1])
            formula = max(formula, abs((ahead - behind) / 2e-4 - by_formula))
    c.at_most("gradient of the envelope against differences", formula, 1e-2)
    # The factor eta/2 is sharp: phi = -ell t^2/2 (near t = 1), whose envelope is -ell t^2.
    ell, eta = 1.3, 1e-5
    env = [
        minimize_scalar(
            lambda s, t=t: -ell * s**2 / 2 + ell * (s - t) ** 2,
            bounds=(0, 5),
            method="bounded",
            options={"xatol": 1e-10},
        ).fun
        for t in (1.0, 1.0 + eta * ell)
    ]
    slope = 2 * ell * (1 - 2.0)
    c.close(
        "concave parabola: descent over eta/2 slope^2",
        (env[0] - env[1]) / (eta / 2 * slope**2),
        1.0,
        1e-3,
    )

    # ReLU: no lower bound of the second difference; softplus: bounded by its constant.
    def bend(activation, h):
        loss = [np.log1p(np.exp(-activation(w))) for w in (-h, 0.0, h)]
        return (loss[0] + loss[2] - 2 * loss[1]) / h**2

    for h in (0.1, 0.01, 1e-3):
        kink = bend(lambda w: max(w, 0.0), h) * h
        c.close(f"ReLU: h times the second difference, h = {h}", kink, -0.5, 0.02)
        c.at_least(
            f"softplus: second difference, h = {h}", bend(lambda w: np.logaddexp(0, w), h), -0.5
        )
