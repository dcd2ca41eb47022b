"""Witnesses of chapter 5, notebook 2: what FOSC says, and what it does not."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from scipy.optimize import linprog, root

from advreg import attacks, data, networks, training

torch.set_num_threads(1)

# ------------------------------------------------------------------------------- oracles


def signs(d):
    return np.array(list(itertools.product([-1.0, 1.0], repeat=d)))


def linear_max(g, vertices):
    """Maximum of a linear function over a polytope given by its vertices."""
    return (vertices @ g).max()


def fosc_by_vertices(g, z, vertices):
    return linear_max(g, vertices) - z @ g


def box_vertices(lo, hi):
    return (lo + hi) / 2 + signs(len(lo)) * (hi - lo) / 2


def quadratic_max(b, A, lo, hi):
    """Exact maximum of b·z + z·Az/2 over a box: every stationary point of every face."""
    best, d = -np.inf, len(b)
    for state in itertools.product((-1, 0, 1), repeat=d):
        state = np.array(state)
        z, free = np.where(state < 0, lo, hi).astype(float), state == 0
        if free.any():
            rhs = -(b[free] + A[np.ix_(free, ~free)] @ z[~free])
            try:
                z[free] = np.linalg.solve(A[np.ix_(free, free)], rhs)
            except np.linalg.LinAlgError:
                continue  # such a face has its maximum on a smaller face too
            if (z < lo).any() or (z > hi).any():
                continue
        best = max(best, b @ z + z @ A @ z / 2)
    return best


def random_box(rng, d, radius, case):
    """The ball of the maximum norm around 0, cut by a box; x = 0 may sit on faces and corners."""
    lo, hi = np.full(d, -radius), np.full(d, radius)
    if case % 3:
        lo, hi = -radius * rng.uniform(0, 1, d), radius * rng.uniform(0, 1, d)
    if case % 3 == 2:
        lo[0] = 0.0  # x on a face
        lo[1] = hi[1] = 0.0  # a coordinate of zero width
    return lo, hi


def symmetric(rng, d):
    A = rng.standard_normal((d, d))
    return (A + A.T) / 2 * rng.choice([0.1, 1.0, 5.0])


# --------------------------------------------------------------------- conservation law


def test_conservation(claim):
    c = claim("thm-conservation")
    rng = np.random.default_rng(1)
    worst, d = 0.0, 5
    for case in range(400):
        b, A, eps = rng.standard_normal(d) * (case % 5 > 0), symmetric(rng, d), 0.7
        beta = np.abs(signs(d) @ A).sum(axis=1).max()  # from the maximum to the one-norm
        lo, hi = random_box(rng, d, eps, case)
        V = box_vertices(lo, hi)
        e = rng.uniform(lo, hi) if case % 2 else V[rng.integers(len(V))]
        gain = b @ e + e @ A @ e / 2
        drop = fosc_by_vertices(b, np.zeros(d), V) - fosc_by_vertices(b + A @ e, e, V)
        size = np.abs(e).max()
        if size > 0:
            worst = max(worst, abs(gain - drop) / (beta * size * (eps + size / 2)))
    c.at_most("cube, boxes: |gain - drop| / bound, 400 quadratics", worst, 1 + 1e-9)
    for norm, dual in ((1, np.inf), (2, 2)):
        worst = 0.0
        for _ in range(300):
            b, A, eps = rng.standard_normal(d), symmetric(rng, d), 0.7
            beta = np.abs(A).max() if norm == 1 else np.linalg.norm(A, 2)
            e = rng.standard_normal(d)
            e *= eps * rng.choice([0.1, 0.9, 1.0]) / np.linalg.norm(e, norm)
            if norm == 1:
                V = np.vstack([eps * np.eye(d), -eps * np.eye(d)])
                drop = fosc_by_vertices(b, 0 * e, V) - fosc_by_vertices(b + A @ e, e, V)
            else:
                far = [eps * np.linalg.norm(u, dual) for u in (b, b + A @ e)]
                drop = far[0] - (far[1] - e @ (b + A @ e))
            gain, size = b @ e + e @ A @ e / 2, np.linalg.norm(e, norm)
            worst = max(worst, abs(gain - drop) / (beta * size * (eps + size / 2)))
        c.at_most(f"ball of the {norm}-norm: |gain - drop| / bound", worst, 1 + 1e-9)
    # No quadratic: waves with a known constant, in a box of [0, 1]^d, with the library's FOSC.
    worst, eps = 0.0, 0.2
    for _ in range(100):
        w, a, x = 4 * rng.standard_normal((3, d)), rng.standard_normal(3), rng.uniform(0, 1, d)
        x[0], beta = 1.0, np.sum(np.abs(a) * np.abs(w).sum(axis=1) ** 2)
        z = np.clip(x + rng.uniform(-eps, eps, d), 0, 1)
        f = [a @ np.sin(w @ p) for p in (x, z)]
        g = [(a * np.cos(w @ p)) @ w for p in (x, z)]
        t = [torch.tensor(v)[None] for v in (*g, x, z)]
        ball = attacks.Ball(eps)
        drop = float(ball.fosc(t[0], t[2], t[2]) - ball.fosc(t[1], t[3], t[2]))
        size = np.abs(z - x).max()
        worst = max(worst, abs(f[1] - f[0] - drop) / (beta * size * (eps + size / 2)))
    c.at_most("waves, pixels in [0, 1], library's FOSC", worst, 1)
    # Equality, both signs, for every size t of the perturbation and each of the three norms.
    for s, t in itertools.product((-1, 1), (0.1, 0.5, 1.0)):
        beta, eps, b = 1.7, 0.3, 0.0 if s < 0 else -0.6  # 0.6 is more than beta * eps
        V, z = np.array([[-eps], [eps]]), np.array([t * eps])
        gain = b * z[0] + s * beta * z[0] ** 2 / 2
        start = fosc_by_vertices(np.array([b]), 0 * z, V)
        left = fosc_by_vertices(np.array([b + s * beta * z[0]]), z, V)
        bound = beta * t * eps * (eps + t * eps / 2)
        c.close(f"sharp, sign {s}, t = {t}", (gain - (start - left)) / bound, -s, 1e-9)


def test_remark_without_smoothness():
    """The form with integrals holds for a function with kinks, along a path that crosses them."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        W, a, eps = rng.standard_normal((8, 3)), rng.standard_normal(8), 0.8
        b = rng.standard_normal(8)

        def f(p, W=W, a=a, b=b):
            return a @ np.maximum(W @ p + b, 0)

        def grad(p, W=W, a=a, b=b):
            return (a * (W @ p + b > 0)) @ W

        V, e = eps * signs(3), rng.uniform(-eps, eps, 3)
        drop = fosc_by_vertices(grad(0 * e), 0 * e, V) - fosc_by_vertices(grad(e), e, V)
        crossings = np.sort([r for r in -b / (W @ e) if 0 < r < 1])
        knots = np.concatenate([[0], crossings, [1]])  # exact integral of a step function
        middle = [(p + q) / 2 for p, q in itertools.pairwise(knots)]
        path = sum(
            (q - p) * np.abs(grad(m * e) - grad(e)).sum()
            for (p, q), m in zip(itertools.pairwise(knots), middle, strict=True)
        )
        bound = eps * np.abs(grad(e) - grad(0 * e)).sum() + np.abs(e).max() * path
        assert abs(f(e) - f(0 * e) - drop) <= bound + 1e-9


# --------------------------------------------------------------------- first-order penalty


def test_first_order_penalty(claim):
    c = claim("cor-first-order-penalty")
    rng = np.random.default_rng(3)
    gap, fgsm, d, eps = 0.0, 0.0, 4, 0.6
    for case in range(150):
        b, A = rng.standard_normal(d) * (case % 5 > 0), symmetric(rng, d)
        beta = np.abs(signs(d) @ A).sum(axis=1).max()
        lo, hi = random_box(rng, d, eps, case)
        best, V = quadratic_max(b, A, lo, hi), box_vertices(lo, hi)
        start = fosc_by_vertices(b, np.zeros(d), V)
        gap = max(gap, abs(best - start) / (beta * eps**2 / 2))
        v = V[np.argmax(V @ b)]
        fgsm = max(fgsm, (best - b @ v - v @ A @ v / 2) / (beta * eps**2))
    c.at_most("|f* - f(x) - c(x)| / bound, exact maxima of 150 quadratics", gap, 1 + 1e-9)
    c.at_most("(f* - f at the linear maximizer) / bound", fgsm, 1 + 1e-9)
    beta, grid = 2.0, np.linspace(-eps, eps, 4001)
    up = (beta * grid**2 / 2).max() - 0
    down = (3 * grid - beta * grid**2 / 2).max() - 3 * eps
    c.close("equality from above", up / (beta * eps**2 / 2), 1, 1e-9)
    c.close("equality from below", down / (beta * eps**2 / 2), -1, 1e-9)
    b = 1e-4  # convex to the left, concave to the right, almost flat at x
    f = b * grid - np.sign(grid) * beta * grid**2 / 2
    c.at_least("equality for the linear maximizer", (f.max() - f[-1]) / (beta * eps**2), 0.999)
    # Any ball: the start FOSC of the full ball is radius times dual norm.
    g = torch.tensor(rng.standard_normal((5, 7)))
    for norm, dual in ((1, np.inf), (2, 2), (np.inf, 1)):
        ball = attacks.Ball(0.3, norm=norm, low=None, high=None)
        lib = ball.fosc(g, 0 * g, 0 * g).numpy()
        formula = 0.3 * np.linalg.norm(g.numpy(), dual, axis=1)
        c.at_most(f"c(x) = radius × dual norm, {norm}", np.abs(lib - formula).max(), 1e-12)


def test_penalty_gradients(claim):
    c = claim("prop-penalty-gradients")
    # A scalar family whose values agree to βε²/2 and whose derivatives do not agree.
    beta, eps, h = 2.0, 0.01, 1e-6
    z = np.linspace(-eps, eps, 20001)

    def maximum(t):
        return (t * z - beta * z**2 / 2).max()

    thetas = np.linspace(0.05, 0.95, 7) * beta * eps
    values = [abs(maximum(t) - eps * t) for t in thetas]
    slopes = [(maximum(t + h) - maximum(t - h)) / (2 * h) for t in thetas]
    c.at_most("values: distance / (βε²/2)", max(values) / (beta * eps**2 / 2), 1 + 1e-9)
    worst = max(abs(s - t / beta) for s, t in zip(slopes, thetas, strict=True))
    c.at_most("derivative of the maximum is θ/β, error / ε", worst / eps, 0.02)
    c.at_least("derivatives differ by (1 - 0.05) ε at θ = 0.05 βε", (eps - slopes[0]) / eps, 0.93)
    # Sign condition: f = θ·sin(z)-type family in R^3 with an exact Lipschitz constant.
    rng = np.random.default_rng(4)
    worst, d, eps, used = 0.0, 3, 0.05, 0
    V = eps * signs(d)
    for _ in range(200):
        W, theta = rng.standard_normal((4, d)), rng.standard_normal(4)

        def f(t, p, W=W):
            return t @ np.sin(p @ W.T).T

        def grad(t, p, W=W):
            return (t * np.cos(W @ p)) @ W

        beta = np.sum(np.abs(theta) * np.abs(W).sum(axis=1) ** 2)
        if (np.abs(grad(theta, np.zeros(d))) <= 1.05 * beta * eps).any():
            continue
        used += 1
        grid = np.stack(np.meshgrid(*[np.linspace(-eps, eps, 9)] * d), -1).reshape(-1, d)

        def gap(t, f=f, grad=grad, grid=grid):
            here = np.zeros(d)
            return f(t, grid).max() - f(t, here[None])[0] - linear_max(grad(t, here), V)

        # ∂_z∂_θ f has rows cos(w·z) w: Lipschitz, from the maximum norm, with this constant.
        M = np.linalg.norm(np.abs(W).sum(axis=1) ** 2)
        slope = [(gap(theta + h * u) - gap(theta - h * u)) / (2 * h) for u in np.eye(4)]
        worst = max(worst, np.linalg.norm(slope) / (M * eps**2 / 2))
    c.at_least("cases in which the sign condition holds", used, 10)
    c.at_most("‖∇(φ - f - c)‖ / (Mε²/2)", worst, 1 + 1e-3)


# ------------------------------------------------------------------------------ flip mass


def test_flip_mass(claim):
    c = claim("prop-flip-mass")
    rng = np.random.default_rng(5)
    error = bound = full = 0.0
    d, radius = 6, 0.4
    for case in range(200):
        b, A = rng.standard_normal(d), symmetric(rng, d)
        b[: case % 4] = 0.0  # dead coordinates
        lo, hi = random_box(rng, d, radius, case)
        z = np.where(b > 0, hi, np.where(b < 0, lo, 0.0))
        g, V = b + A @ z, box_vertices(lo, hi)
        width = linear_max(g, V) - (V @ g).min()
        if width <= 0:
            continue
        exact = fosc_by_vertices(g, z, V) / width
        w, room = hi - lo, np.where(g > 0, hi, -lo)  # x = 0
        flipped, dead = b * g < 0, b == 0
        formula = (w * np.abs(g))[flipped].sum() + (room * np.abs(g))[dead].sum()
        error = max(error, abs(exact - formula / (w @ np.abs(g))))
        beta = np.abs(signs(d) @ A).sum(axis=1).max()
        mass = np.abs(g)[flipped | dead].sum() / np.abs(g).sum()
        bound = max(bound, mass / (beta * radius / np.abs(g).sum()))
        if case % 3 == 0:
            half = (np.abs(g)[flipped].sum() + np.abs(g)[dead].sum() / 2) / np.abs(g).sum()
            full = max(full, abs(exact - half))
    c.at_most("boxes: normalised FOSC minus weighted flip mass", error, 1e-12)
    c.at_most("full ball: normalised FOSC minus (flipped + dead / 2)", full, 1e-12)
    c.at_most("flip mass / bound", bound, 1 + 1e-9)
    # f = bz - βz²/2 with b < βε, by the library: FGSM goes to ε, and its only coordinate flips.
    beta, b = 1.0, 1e-3
    ball, x = attacks.Ball(radius, low=None, high=None), torch.zeros(1, 1, dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.long)

    def hill(z):
        return torch.cat([b * z - beta * z**2 / 2, 0 * z], dim=1)  # a loss and a second output

    def height(values, labels):
        return values[:, 0]

    point = attacks.fgsm(hill, x, y, ball, loss=height).points
    c.close("library: FGSM goes to ε", float(point), radius, 1e-12)
    share = attacks.fosc(hill, point, y, x, ball, loss=height, normalized=True)
    c.close("library: all mass flips", float(share), 1, 1e-12)
    _, g = attacks.loss_and_gradient(hill, point, y, height)
    c.close("the bound tends to 1 as b → 0", beta * radius / float(g.abs().sum()), 1, 3e-3)


# ---------------------------------------------------------------------------- certificates


def rule(g, up, down, rho):
    return np.maximum(g * up + rho * up**2 / 2, -g * down + rho * down**2 / 2).sum()


def test_fosc_certificate(claim):
    c = claim("prop-fosc-certificate")
    rng = np.random.default_rng(6)
    concave = semi = vertex = -np.inf
    naive, d, radius = 0, 3, 0.8
    for case in range(250):
        b, A = rng.standard_normal(d) * (case % 7 > 0), symmetric(rng, d)
        lo, hi = random_box(rng, d, radius, case)
        z = rng.uniform(lo, hi) if case % 2 else lo + (hi - lo) * rng.integers(0, 2, d)
        up, down, V = hi - z, z - lo, box_vertices(lo, hi)
        g, rho = b + A @ z, max(0.0, np.linalg.eigvalsh(A)[-1])
        gap = quadratic_max(b, A, lo, hi) - (b @ z + z @ A @ z / 2)
        semi = max(semi, gap - rule(g, up, down, rho))
        naive += gap > fosc_by_vertices(g, z, V) + 1e-9
        C = -A @ A  # a concave function
        gap = quadratic_max(b, C, lo, hi) - (b @ z + z @ C @ z / 2)
        concave = max(concave, gap - fosc_by_vertices(b + C @ z, z, V))
        for v in V:  # vertices with zero FOSC
            g = b + A @ v
            if fosc_by_vertices(g, v, V) <= 1e-12:
                gap = quadratic_max(b, A, lo, hi) - (b @ v + v @ A @ v / 2)
                w = hi - lo
                vertex = max(vertex, gap - (w * np.maximum(0, rho * w / 2 - np.abs(g))).sum())
    c.at_most("(a) concave: gap minus FOSC", concave, 1e-9)
    c.at_most("(b) semi-concave: gap minus rule", semi, 1e-9)
    c.at_most("(c) vertices of zero FOSC: gap minus bound", vertex, 1e-9)
    c.at_least("share of cases where the gap exceeds FOSC", naive / 250, 0.1)
    grid = np.linspace(-1, 1, 20001)
    c.close("ρ < 0, true gap", (grid - 5 * grid**2).max(), 0.05, 1e-9)
    c.at_most("ρ < 0, what the rule would say", max(0.0, rule(*map(np.array, (1, 1, 1)), -10)), 0)
    # Equality in (c): the wrong vertex of b·e + ρ‖e‖²/2 on the full ball.
    b, rho, eps = np.array([0.3, -0.2, 0.5]), 2.0, 0.4  # all |b_i| < ρε
    z = -eps * np.sign(b)
    g = b + rho * z
    gap = quadratic_max(b, rho * np.eye(3), -eps * np.ones(3), eps * np.ones(3))
    gap -= b @ z + rho * z @ z / 2
    c.close("(c) sharp", 2 * eps * np.maximum(0, rho * eps - np.abs(g)).sum() / gap, 1, 1e-9)
    # Waves in the plane, the maximum by a fine grid: no quadratic, ρ from the second derivative.
    worst = -np.inf
    P = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 201)] * 2), -1).reshape(-1, 2)
    for _ in range(60):
        W, a = 3 * rng.standard_normal((2, 2)), rng.standard_normal(2)
        rho = np.sum(np.abs(a) * (W**2).sum(axis=1))
        z = P[rng.integers(len(P))]
        g = (a * np.cos(W @ z)) @ W
        gap = (np.sin(P @ W.T) @ a).max() - a @ np.sin(W @ z)
        worst = max(worst, gap - rule(g, 0.5 - z, 0.5 + z, rho))
    c.at_most("(b) waves in the plane", worst, 1e-9)


# -------------------------------------------------------------------------------- ReLU nets


def small_net(rng, slope, d=2, classes=4):
    layers = [rng.standard_normal((7, d)), rng.standard_normal((7, 7)) / 2]
    return [*layers, rng.standard_normal((classes, 7))], 0.5 * rng.standard_normal((2, 7)), slope


def forward(net, z):
    """Cross-entropy for the label 0, its gradient and the activation pattern, by hand."""
    (W1, W2, W3), b, slope = net
    a1 = W1 @ z + b[0]
    d1 = np.where(a1 > 0, 1.0, slope)
    a2 = W2 @ (d1 * a1) + b[1]
    d2 = np.where(a2 > 0, 1.0, slope)
    o = W3 @ (d2 * a2)
    top = o.max()
    p = np.exp(o - top) / np.exp(o - top).sum()
    loss = math.log(np.exp(o - top).sum()) + top - o[0]
    p[0] -= 1
    grad = W1.T @ (d1 * (W2.T @ (d2 * (W3.T @ p))))
    return loss, grad, (*(a1 > 0), *(a2 > 0))


def test_relu_convex(claim):
    c = claim("prop-relu-convex")
    rng = np.random.default_rng(7)
    bend, eig, pairs = -np.inf, np.inf, 0
    for _ in range(400):
        net = small_net(rng, rng.choice([0.0, 0.2]))
        z = rng.standard_normal(2)
        y = z + 0.05 * rng.standard_normal(2)
        (fz, _, pz), (fy, _, py) = forward(net, z), forward(net, y)
        fm, _, pm = forward(net, (z + y) / 2)
        if pz == py == pm:
            pairs += 1
            bend = max(bend, fm - (fz + fy) / 2)
            step = 1e-5
            H = [
                (forward(net, z + s)[1] - forward(net, z - s)[1]) / (2 * step)
                for s in step * np.eye(2)
            ]
            if all(forward(net, z + s)[2] == pz for s in step * np.vstack([np.eye(2), -np.eye(2)])):
                eig = min(eig, np.linalg.eigvalsh((H + np.transpose(H)) / 2)[0])
    c.at_least("pairs in one region", pairs, 100)
    c.at_most("loss at the middle minus mean of the ends, one region", bend, 1e-12)
    c.at_least("smallest second derivative inside a region", eig, -1e-6)
    lowest, found = np.inf, 0
    for _ in range(700):
        net = small_net(rng, 0.3)
        start = rng.standard_normal(2)
        result = root(lambda p, net=net: forward(net, p)[1], start, tol=1e-12)
        f0, g0, p0 = forward(net, result.x)
        if not result.success or np.abs(g0).max() > 1e-9:
            continue
        found += 1
        for s in rng.standard_normal((40, 2)):
            for r in (1e-2, 0.3):
                f1, _, p1 = forward(net, result.x + r * s)
                if p1 == p0:
                    lowest = min(lowest, f1 - f0)
    c.at_least("interior points of zero gradient found", found, 20)
    c.at_least("loss in the same region minus loss at such a point", lowest, -1e-9)


# ------------------------------------------------------------------------------ invariances


def lp_fosc(g, z, rows, low, high):
    """FOSC and normalised FOSC over {v: low <= rows v <= high}, by an LP solver."""
    A, b = np.vstack([rows, -rows]), np.concatenate([high, -low])
    bottom, top = (
        s * linprog(s * g, A_ub=A, b_ub=b, bounds=(None, None), method="highs").fun for s in (1, -1)
    )
    return top - g @ z, (top - g @ z) / (top - bottom)


def test_fosc_invariances(claim):
    c = claim("prop-fosc-invariances")
    rng = np.random.default_rng(8)
    affine = 0.0
    for _ in range(30):
        M, shift = rng.standard_normal((3, 3)), rng.standard_normal(3)
        lo, hi = -rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
        z, g = rng.uniform(lo, hi), rng.standard_normal(3)
        here = fosc_by_vertices(g, z, box_vertices(lo, hi))
        z2 = np.linalg.solve(M, z - shift)
        there, share = lp_fosc(M.T @ g, z2, M, lo - shift, hi - shift)
        affine = max(affine, abs(here - there), abs(share - here / (np.abs(g) @ (hi - lo))))
    c.at_most("(i) affine change of variables, LP in the new ones", affine, 1e-6)

    x = torch.tensor(rng.uniform(0, 1, (6, 12)))
    x[0], y = 1.0, torch.tensor([0, 1, 2, 0, 1, 2])
    net = networks.mlp([12, 9, 3], activation="gelu", generator=torch.Generator().manual_seed(3))
    net = net.double()
    ball, z = attacks.Ball(0.2), (x + 0.2 * torch.sin(50 * x)).clamp(0, 1)
    z = torch.minimum(torch.maximum(z, x - 0.2), x + 0.2)

    def measured(loss, normalized=False):
        return attacks.fosc(net, z, y, x, ball, loss=loss, normalized=normalized)

    base = attacks.cross_entropy
    value = base(net(z), y).detach()
    squared = measured(lambda o, t: base(o, t) ** 2) / (2 * value * measured(base))
    c.close("(ii) φ(f) = f²: ratio to φ'(f) c", float(squared.mean()), 1, 1e-9)
    change = measured(lambda o, t: base(o, t) ** 2, True) - measured(base, True)
    c.at_most("(ii) normalised FOSC unchanged", float(change.abs().max()), 1e-12)
    falling = measured(lambda o, t: -base(o, t)) + measured(base)
    c.at_least("(ii) a falling φ does not multiply", float(falling.abs().min()), 1e-3)

    leaf = z.clone().requires_grad_(True)
    (mean_gradient,) = torch.autograd.grad(base(net(leaf), y).mean(), leaf)
    lo, hi = (x - 0.2).clamp(min=0), (x + 0.2).clamp(max=1)
    by_hand = (
        mean_gradient.clamp(min=0) * (hi - z) + (-mean_gradient).clamp(min=0) * (z - lo)
    ).sum(1)
    c.close("(iii) batch mean of 6 divides by", float((measured(base) / by_hand).mean()), 6, 1e-9)

    worst, start, tight = 0.0, 0.0, 0.0
    for case in range(300):
        W = torch.tensor(rng.standard_normal((2 if case % 3 == 0 else 4, 12))) * 3
        t = torch.tensor([0])
        P, Q = x[case % 6][None], z[case % 6][None]
        spread = (W - W[0]).abs().sum(1).max()
        for point, factor in ((P, 1), (Q, 2)):
            others = torch.softmax(W @ point[0], 0)[1:].sum()  # 1 - p_y
            if others < 1e-6:  # the gradient p - e_y itself loses its digits there
                continue
            bound = float(factor * 0.2 * others * spread)
            whole = attacks.Ball(0.2, low=None, high=None)
            c_here = float(attacks.fosc(lambda u, W=W: u @ W.T, point, t, P, whole))
            worst = max(worst, c_here / bound)
            if factor == 1:
                start = max(start, c_here / bound)
                if case % 3 == 0:
                    tight = max(tight, abs(c_here / bound - 1))
    c.at_most("(iv) FOSC / confidence bound", worst, 1 + 1e-8)
    c.at_most("(iv) two classes, linear: distance of the ratio at x from 1", tight, 1e-8)
    # The logit scale: s times the logits, correct with margin m: c <= 2 ε s (C-1) Λ exp(-s m).
    worst = 0.0
    for s in (1.0, 5.0, 20.0):
        W = torch.tensor(rng.standard_normal((4, 12)))
        for point in (x, z):
            o = point @ W.T
            label = o.argmax(1)
            top = o.sort(1).values
            m, spread = top[:, -1] - top[:, -2], torch.cdist(W, W, p=1)[label].max(1).values
            whole = attacks.Ball(0.2, low=None, high=None)
            here = attacks.fosc(lambda u, W=W, s=s: s * (u @ W.T), point, label, x, whole)
            worst = max(worst, float((here / (0.4 * s * 3 * spread * torch.exp(-s * m))).max()))
    c.at_most("(iv) logits times s: FOSC / exponential bound", worst, 1)


# --------------------------------------------------------------------------- measurements
# Other splits, initializations and batch orders than the notebook's 0, ..., 4.

SCHEDULES = {
    "standard": training.standard(),
    "FGSM": training.fgsm_training(),
    "PGD-7": training.pgd_training(7),
}
LOSSES = {"cross-entropy": attacks.cross_entropy, "margin": attacks.margin}


@functools.cache
def trained(seed, method, units):
    images = data.digits(np.random.default_rng(seed))
    start = torch.Generator().manual_seed(seed)
    net = networks.mlp([64, 64, 64, 10], activation=units, generator=start)
    options = {"epochs": 15, "seed": seed, "device": "cpu", "progress": False}
    ball = attacks.Ball(0.15)
    training.fit(net, images.train_x, images.train_y, ball, SCHEDULES[method], **options)
    return net, torch.tensor(images.test_x[:200]), torch.tensor(images.test_y[:200])


def climb(net, x, y, radius, loss):
    """FOSC at x, gain and FOSC of the best of 40 steps: plain torch, no attack of the library."""
    lo, hi = (x - radius).clamp(min=0), (x + radius).clamp(max=1)
    z, best = x, torch.full((len(x),), -math.inf)
    net.eval()
    for k in range(41):
        leaf = z.clone().requires_grad_(True)
        value = loss(net(leaf), y)
        (g,) = torch.autograd.grad(value.sum(), leaf)
        left = ((g > 0) * g * (hi - z) - (g < 0) * g * (z - lo)).flatten(1).sum(1)
        value = value.detach()
        if k == 0:
            first, start, kept = value, left, left
        better = value > best
        best, kept = torch.where(better, value, best), torch.where(better, left, kept)
        z = torch.minimum(torch.maximum(z + radius / 6 * g.sign(), lo), hi)
    return [t.double().numpy() for t in (start, best - first, kept)]


def test_measured_conservation(claim):
    c = claim("obs-conservation")
    for seed in (10, 11):
        value = {
            (method, radius): np.corrcoef(gain, start - left)[0, 1]
            for method, radius in itertools.product(("standard", "PGD-7"), (0.01, 0.15))
            for start, gain, left in [
                climb(*trained(seed, method, "gelu"), radius, attacks.cross_entropy)
            ]
        }
        c.at_least("standard, radius 0.01", value["standard", 0.01], 0.97)
        c.at_least("PGD-7, radius 0.01", value["PGD-7", 0.01], 0.99)
        c.at_most("standard, radius 0.15", value["standard", 0.15], 0.65)
        c.at_least("PGD-7, radius 0.15", value["PGD-7", 0.15], 0.7)
        c.at_most("PGD-7, radius 0.15", value["PGD-7", 0.15], 0.95)
        for radius in (0.01, 0.15):
            difference = value["PGD-7", radius] - value["standard", radius]
            c.at_least(f"PGD-7 minus standard, radius {radius}", difference, 0)


def test_regularization_ratio(claim):
    c = claim("obs-regularization-ratio")
    for seed, units in ((10, "gelu"), (11, "relu"), (12, "relu")):
        for method in SCHEDULES:
            sample = trained(seed, method, units)
            start, gain, _ = climb(*sample, 0.01, attacks.cross_entropy)
            small = gain.mean() / start.mean()
            c.at_least(f"{method}, {units}, radius 0.01", small, 1)
            c.at_most(f"{method}, {units}, radius 0.01", small, 1.4)
            start, gain, _ = climb(*sample, 0.15, attacks.cross_entropy)
            large = gain.mean() / start.mean()
            c.at_least(f"{method}, {units}, radius 0.15", large, 5 if method == "standard" else 1.6)
            if method == "standard":
                mean_of_ratios = np.mean(gain / np.maximum(start, 1e-30))
                c.at_least("mean of the ratios", mean_of_ratios, 1000)
            else:
                c.at_most(f"{method}, {units}, radius 0.15", large, 4.5)


def test_margin_meter(claim):
    c = claim("obs-margin-meter")
    for (seed, units), method in itertools.product(((10, "gelu"), (11, "relu")), SCHEDULES):
        sample = trained(seed, method, units)
        for radius in (0.01, 0.03, 0.05, 0.1, 0.15):
            start, gain, _ = climb(*sample, radius, attacks.margin)
            c.at_least(f"{method}, {units}, radius {radius}", gain.mean() / start.mean(), 0.95)
            c.at_most(f"{method}, {units}, radius {radius}", gain.mean() / start.mean(), 1.25)


def test_logit_scale(claim):
    c = claim("obs-logit-scale")
    ball = attacks.Ball(0.1)
    for seed in (11, 12, 13):
        net, x, y = trained(seed, "standard", "relu")
        found = {}
        for s, (name, loss) in itertools.product((1, 100), LOSSES.items()):

            def scaled(z, s=s, net=net):
                return s * net(z)

            attack = attacks.pgd(scaled, x, y, ball, steps=20, loss=loss)
            right = (net(attack.points).argmax(1) == y).double().mean()
            found[name, s] = float(right), float((attack.fosc == 0).double().mean())
        rise = found["cross-entropy", 100][0] - found["cross-entropy", 1][0]
        c.at_least("rise under PGD on the cross-entropy", rise, 0.2)
        c.at_least("accuracy under it at s = 100", found["cross-entropy", 100][0], 0.85)
        c.at_least("share of FOSC exactly 0 at s = 100", found["cross-entropy", 100][1], 0.85)
        moved = abs(found["margin", 100][0] - found["margin", 1][0])
        c.at_most("move under PGD on the margin", moved, 0.02)
