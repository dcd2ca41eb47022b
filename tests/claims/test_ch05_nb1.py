"""Witnesses of chapter 5, notebook 1: the inner problem, and FOSC."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize, minimize_scalar

from advreg import adversarial, attacks, data, spectral

NORMS = (np.inf, 2, 1)


def tensor(a):
    return torch.tensor(np.atleast_2d(a), dtype=torch.float64)


def fosc(ball, g, z, x):
    """FOSC of one point, from the library."""
    return ball.fosc(tensor(g), tensor(z), tensor(x)).item()


def library_ball(radius, norm, box):
    return attacks.Ball(radius, norm) if box else attacks.Ball(radius, norm, None, None)


def programme(g, x, radius, norm, box):
    """max <v - x, g> over the ball (and the box) by a solver that knows no closed form."""
    d = len(x)
    walls = [(-a, 1 - a) for a in x] if box else [(None, None)] * d
    if norm == np.inf:
        bounds = [
            (max(-radius, -np.inf if a is None else a), min(radius, np.inf if b is None else b))
            for a, b in walls
        ]
        return -linprog(-g, bounds=bounds).fun
    if norm == 1:  # variables e, and t >= |e|
        eye = np.eye(d)
        rows = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, d)), np.ones((1, d))]])
        bound = np.r_[np.zeros(2 * d), radius]
        cost = np.r_[-g, np.zeros(d)]
        return -linprog(cost, A_ub=rows, b_ub=bound, bounds=walls + [(0, None)] * d).fun
    if not box:  # Cauchy-Schwarz, attained at radius g / ||g||
        return radius * np.linalg.norm(g)
    # Lagrange duality: the minimum over s >= 0 of
    # max over the box of <e, g> - s (||e||^2 - radius^2) / 2, which is convex in s.

    def dual(log_s):
        s = np.exp(log_s)
        e = np.clip(g / s, -x, 1 - x)
        return s * radius**2 / 2 + g @ e - s * (e @ e) / 2

    inner = minimize_scalar(dual, bounds=(-25, 14), method="bounded", options={"xatol": 1e-10})
    return min(inner.fun, np.maximum(-g * x, g * (1 - x)).sum())


def cases(rng, count, box):
    """Random gradients, clean points and radii; corners, zero entries, ties, g = 0."""
    for i in range(count):
        d = int(rng.integers(2, 8))
        x, g = rng.uniform(0, 1, d), rng.standard_normal(d)
        radius = float(rng.choice([0.01, 0.3, 1.5, 20.0]))
        if i % 4 == 1:
            x = rng.integers(0, 2, d).astype(float)
        if i % 4 == 2:
            g[rng.random(d) < 0.5] = 0.0
        if i % 4 == 3:
            g = rng.choice([-1.0, 1.0], d)  # ties
        if i == 0:
            g = np.zeros(d)
        yield x, g, radius


def inside(rng, x, radius, norm, box):
    """A random point of the feasible set, sometimes on its boundary."""
    e = rng.standard_normal(len(x))
    e *= radius * rng.choice([1.0, rng.random()]) / np.linalg.norm(e, ord=norm)
    return np.clip(x + e, 0, 1) if box else x + e


# ------------------------------------------------------------------------- Danskin


def test_danskin(claim):
    """The maximum over finitely many points, ties forced, against difference quotients."""
    c = claim("thm-danskin")
    rng = np.random.default_rng(1)
    worst = constant = descent = stuck = 0.0
    kink = np.inf
    for trial in range(32):
        n, p, tied = 40, 3, int(rng.integers(1, 6))
        slope, bend = rng.standard_normal((2, n, p))
        if trial % 4 == 0:
            slope[:tied] = slope[0]  # maximizers that agree
        if trial % 4 == 1:  # 0 in the hull of the gradients
            tied = max(tied, 3)
            slope[tied - 1] = -2 * slope[: tied - 1].mean(axis=0)
        height = np.r_[np.ones(tied), rng.uniform(-1, 0.9, n - tied)]

        def phi(theta, height=height, slope=slope, bend=bend):
            return (height + slope @ theta + bend @ theta**2 / 2).max()

        bend_most = 0.0
        for h in rng.standard_normal((20, p)):
            quotient = (phi(1e-6 * h) - phi(0 * h)) / 1e-6
            bend_most = max(bend_most, quotient - (phi(0 * h) - phi(-1e-6 * h)) / 1e-6)
            if trial % 4 == 1:
                stuck = min(stuck, quotient)
            worst = max(worst, abs(quotient - (slope[:tied] @ h).max()))
            if trial % 4 == 0:  # part 2: a gradient, so both signs agree
                backward = (phi(0 * h) - phi(-1e-6 * h)) / 1e-6
                constant = max(constant, abs(quotient - slope[0] @ h), abs(backward - quotient))
        if trial % 4 and tied > 1:  # part 2, the other direction: they disagree
            kink = min(kink, bend_most)
        # part 3: the shortest vector of the hull, by an optimizer
        start = np.full(tied, 1 / tied)
        weights = minimize(
            lambda w, s=slope[:tied]: np.sum((w @ s) ** 2),
            start,
            bounds=[(0, 1)] * tied,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        ).x
        shortest = weights @ slope[:tied]
        quotient = (phi(-1e-6 * shortest) - phi(0 * shortest)) / 1e-6
        descent = max(descent, abs(quotient + shortest @ shortest))
    c.at_most("difference quotient - max over maximizers", worst, 1e-4)
    c.at_most("gradient where maximizers agree", constant, 1e-4)
    c.at_most("descent along the shortest vector of the hull", descent, 1e-3)
    c.at_least("jump of the derivative where maximizers disagree", kink, 0.1)
    c.at_least("0 in the hull: steepest descent to first order", stuck, -1e-4)
    # a continuum of points: f = theta z - z^2/2 on [-1, 1], the Huber function
    z = np.linspace(-1, 1, 200_001)
    for theta in (-2.0, -1.0, -0.3, 0.0, 1.0, 1.7):
        slope = ((theta + 1e-4) * z - z**2 / 2).max() - ((theta - 1e-4) * z - z**2 / 2).max()
        c.close(f"Huber at {theta}", slope / 2e-4, float(np.clip(theta, -1, 1)), 1e-3)
    # maximizers -1/2 and 1/2 that agree, with a gradient that is not zero: a search over z
    phi = lambda t: (t * z**2 + t**2 / 2 - (1 + t**2) * (z**2 - 0.25 - t / 2) ** 2).max()  # noqa: E731
    slope = (phi(1e-4) - phi(-1e-4)) / 2e-4
    c.close("agreeing maximizers", slope, 0.25, 1e-3)


# ------------------------------------------------------------------------- projections


def test_projection_order(claim):
    c = claim("prop-projection-order")
    rng = np.random.default_rng(2)
    mistakes = 0
    for trial in range(4000):
        x, radius = rng.uniform(-1, 2, 3), float(rng.uniform(0.05, 0.6))
        if trial % 3 == 0:
            x = rng.integers(-1, 3, 3) + rng.choice([-radius, 0, radius], 3)  # touching
        x = np.round(x * 64) / 64  # so that touching is exact
        radius = np.round(radius * 64) / 64
        z = rng.uniform(-2, 3, (20, 3))
        one = np.clip(np.clip(z, x - radius, x + radius), 0, 1)
        other = np.clip(np.clip(z, 0, 1), x - radius, x + radius)
        meets = bool(np.all((x - radius <= 1) & (x + radius >= 0)))
        mistakes += bool(np.array_equal(one, other)) != meets
        if meets:
            exact = np.clip(z, np.maximum(x - radius, 0), np.minimum(x + radius, 1))
            mistakes += not np.allclose(one, exact)
    c.close("l-infinity: commuting predicted wrongly", mistakes, 0, 0.5)

    escape, shorter = 0.0, 0.0
    for norm in (2, 1):
        differ = 0
        for trial in range(300):
            d = 3
            x = rng.uniform(0, 1, d) if trial % 2 else rng.integers(0, 2, d).astype(float)
            radius, z = float(rng.choice([0.1, 0.4, 1.2])), rng.uniform(-1, 2, d)
            plain, both = (library_ball(radius, norm, box) for box in (False, True))
            a = plain.project(tensor(z), tensor(x)).numpy()[0].clip(0, 1)
            b = plain.project(tensor(z.clip(0, 1)), tensor(x)).numpy()[0]
            exact = both.project(tensor(z), tensor(x)).numpy()[0]
            for point in (a, b, exact):
                over = np.linalg.norm(point - x, ord=norm) - radius
                escape = max(escape, over, -point.min(), point.max() - 1)
                # the variational inequality, checked on the feasible set by a solver
            gap = programme(z - exact, x, radius, norm, True) - (z - exact) @ (exact - x)
            shorter = max(shorter, gap)
            pairs = itertools.combinations((a, b, exact), 2)
            differ += all(np.abs(u - v).max() > 1e-6 for u, v in pairs)
        c.at_least(f"norm {norm}: orders and projection all differ, cases", differ, 20)
    c.at_most("either order leaves ball or box by", escape, 1e-12)
    c.at_most("the library's projection violates its inequality by", shorter, 1e-7)
    # the example of the text: z = x + (0.4, 0.4), room 0.1 to the right, budget 0.3
    x, z = tensor([0.9, 0.5]), tensor([1.3, 0.9])
    plain, both = (library_ball(0.3, 1, box) for box in (False, True))
    grid = np.stack(np.meshgrid(np.linspace(-0.3, 0.1, 401), np.linspace(-0.3, 0.3, 601)), -1)
    grid = grid.reshape(-1, 2)[np.abs(grid).sum(axis=-1).ravel() <= 0.3 + 1e-9]
    nearest = grid[((grid - 0.4) ** 2).sum(axis=1).argmin()]
    for name, point, target in (
        ("ball, then box", plain.project(z, x).clamp(0, 1), (0.1, 0.15)),
        ("box, then ball", plain.project(z.clamp(0, 1), x), (0.0, 0.3)),
        ("projection", both.project(z, x), (0.1, 0.2)),
        ("projection, by search", x + tensor(nearest), (0.1, 0.2)),
    ):
        error = np.abs((point - x).numpy()[0] - target).max()
        c.at_most(f"l1 example, {name}", error, 1e-9)


# ------------------------------------------------------------------------- what zero means


def test_fosc_zero(claim):
    c = claim("prop-fosc-zero")
    rng = np.random.default_rng(3)
    disagreements = negative = 0
    zeros = 0
    for norm, box in itertools.product(NORMS, (False, True)):
        for x, g, radius in cases(rng, 120, box):
            ball = library_ball(radius, norm, box)
            z = inside(rng, x, radius, norm, box)
            if rng.random() < 0.6:  # a stationary point, found by a solver-free walk
                z = ball.project(tensor(x + 1e5 * g), tensor(x)).numpy()[0]
            by_search = programme(g, x, radius, norm, box) - (z - x) @ g
            negative = min(negative, by_search)
            size = 1 + np.abs(g).sum() * radius
            value = fosc(ball, g, z, x)
            tolerance = 1e-4 * size  # the far projection is a vertex up to about 1e-5
            disagreements += abs(value - by_search) > tolerance
            # projection fixed point, small and large gamma
            moves = [
                np.abs(ball.project(tensor(z + s * g), tensor(x)).numpy()[0] - z).max()
                for s in (0.1, 1.0, 10.0)
            ]
            stationary = by_search < 1e-9 * size
            zeros += stationary
            if stationary:
                disagreements += max(moves) > 1e-3
            elif by_search > 0.02 * size:
                disagreements += min(moves) < 1e-9
            if norm == np.inf and stationary:
                lo = np.maximum(x - radius, 0) if box else x - radius
                hi = np.minimum(x + radius, 1) if box else x + radius
                ok = (g == 0) | ((g > 0) & (z == hi)) | ((g < 0) & (z == lo))
                disagreements += not ok.all()
                for gamma in (0.01, 3.0):
                    step = np.clip(z + gamma * np.sign(g), lo, hi)
                    disagreements += not np.array_equal(step, z)
    c.close("cases in which the characterizations disagree", disagreements, 0, 0.5)
    c.at_least("smallest FOSC of a feasible point", negative, -1e-8)
    c.at_least("stationary cases among them", zeros, 100)
    # a mixed point of a box: on one face, inside in the coordinate with zero gradient, and a
    # coordinate of zero width whose gradient points anywhere
    x = np.array([0.5, 0.5, 1.0])
    c.close(
        "mixed vertex", fosc(attacks.Ball(0.2), [1.0, 0.0, 5.0], [0.7, 0.4, 1.0], x), 0.0, 1e-15
    )
    c.close("zero width", fosc(attacks.Ball(0.0), [1.0, -2.0, 5.0], x, x), 0.0, 1e-15)
    c.close("wrong face", fosc(attacks.Ball(0.2), [-1.0, 0, 5], [0.7, 0.4, 1.0], x), 0.4, 1e-12)
    # balls without box: e / radius is a worst point
    for norm, e in ((2, [0.6, -0.8]), (np.inf, [1.0, -1.0]), (1, [0.0, -1.0])):
        g, x = np.array([0.6, -0.8]), np.zeros(2)
        ball = library_ball(1.0, norm, False)
        c.close(f"worst point, norm {norm}", fosc(ball, g, np.array(e), x), 0.0, 1e-12)
        c.at_least(f"half of it, norm {norm}", fosc(ball, g, np.array(e) / 2, x), 0.1)
    # the three kinds of points
    line = np.linspace(-1, 1, 401)
    gaps = np.array([programme(np.array([2 * z - 0.5]), np.zeros(1), 1.0, np.inf, False)
                     - z * (2 * z - 0.5) for z in line])  # fmt: skip
    found = line[gaps < 1e-12]
    for z, target, loss in zip(found, (-1.0, 0.25, 1.0), (1.5, -0.0625, 0.5), strict=True):
        c.close("place of a zero", z, target, 1e-12)
        c.close("its loss", z**2 - z / 2, loss, 1e-12)
    # concave: zero FOSC is the maximum
    worst = 0.0
    for _ in range(30):
        A = rng.standard_normal((3, 3))
        H, m = A @ A.T + 0.1 * np.eye(3), rng.uniform(-1, 2, 3)
        fun = lambda z, H=H, m=m: 0.5 * (z - m) @ H @ (z - m)  # noqa: E731
        z = minimize(fun, np.full(3, 0.5), bounds=[(0, 1)] * 3, tol=1e-14).x
        gap = fosc(attacks.Ball(2.0), -H @ (z - m), z, np.full(3, 0.5))
        worst = max(worst, gap)
        other = rng.uniform(0, 1, (50, 3))
        values = np.array([fun(v) for v in other])
        c.at_least("concave: maximum - any value + FOSC", (values - fun(z)).min() + gap, -1e-9)
    c.at_most("concave: FOSC at the maximum", worst, 1e-4)


@pytest.mark.parametrize("box", (False, True))
@pytest.mark.parametrize("norm", NORMS)
def test_closed_forms(claim, norm, box):
    c = claim("prop-fosc-closed-forms")
    rng = np.random.default_rng(4)
    worst = beaten = artefact = 0.0
    for x, g, radius in cases(rng, 150, box):
        ball = library_ball(radius, norm, box)
        z = inside(rng, x, radius, norm, box)
        value = fosc(ball, g, z, x)
        scale = 1 + radius * np.abs(g).sum()
        worst = max(worst, abs(value - (programme(g, x, radius, norm, box) - (z - x) @ g)) / scale)
        for _ in range(20):
            v = inside(rng, x, radius, norm, box)
            beaten = max(beaten, (v - z) @ g - value)
        e, s = z - x, np.sign(g)
        if not box:  # the forms of the table, written out
            dual = {np.inf: np.abs(g).sum(), 2: np.linalg.norm(g), 1: np.abs(g).max()}[norm]
            worst = max(worst, abs(value - (radius * dual - e @ g)) / scale)
        elif norm == np.inf:
            room = np.where(g > 0, 1 - x, np.where(g < 0, x, 0))
            excess = np.abs(g) @ np.maximum(radius - room, 0)
            plain = np.sum(np.abs(g) * (radius - s * e))
            artefact = max(artefact, abs(plain - value - excess) / scale)
    c.at_most(f"closed form - solver, norm {norm}, box {box}", worst, 1e-7)
    c.at_most("a feasible point beats it by", beaten, 1e-9)
    c.at_most("artefact of ignoring the box", artefact, 1e-12)


def test_termwise(claim):
    c = claim("obs-termwise")
    rng = np.random.default_rng(510)
    x = rng.uniform(0, 1, (1000, 784)).astype(np.float32)
    g = rng.standard_normal((1000, 784)).astype(np.float32)
    radius = np.float32(0.1)
    lo, hi = x - radius, x + radius
    z = np.clip(x + radius * np.sign(g), lo, hi)
    first = np.where(g > 0, g * (hi - z), g * (lo - z)).sum(axis=1)
    second = (np.abs(g) * (radius - np.sign(g) * (z - x))).sum(axis=1)
    third = radius * np.abs(g).sum(axis=1) - ((z - x) * g).sum(axis=1)
    library = attacks.Ball(0.1, low=None, high=None)
    own = library.fosc(*(torch.from_numpy(a) for a in (g, z, x)))
    c.close("termwise with lo and hi: not zero", np.mean(first != 0), 0.0, 1e-12)
    c.close("library: not zero", (own != 0).double().mean().item(), 0.0, 1e-12)
    c.close("termwise with e: zero", np.mean(second == 0), 0.0, 1e-12)
    c.at_most("subtractive: zero", np.mean(third == 0), 0.5)
    c.at_least("subtractive: negative", np.mean(third < 0), 1e-3)
    scale = radius * np.abs(g).sum(axis=1)
    c.at_most("largest relative error", max(np.abs(a / scale).max() for a in (second, third)), 1e-5)


# ------------------------------------------------------------------------- linear models


def walls(x, radius, norm, box):
    """Extreme scores of w over the feasible set, by a solver: a function of w."""
    return lambda w: (
        programme(w, x, radius, norm, box),
        programme(-w, x, radius, norm, box),
    )


def test_fosc_linear(claim):
    c = claim("prop-fosc-linear")
    rng = np.random.default_rng(5)
    score_form = one_step = exact = wrong_side = faces = 0.0
    wrong = 0
    for norm, box in itertools.product(NORMS, (False, True)):
        for x, w, radius in cases(rng, 60, box):
            if not w.any():
                continue
            ball = library_ball(radius, norm, box)
            up, down = walls(x, radius, norm, box)(w)
            scale = 1 + radius * np.abs(w).sum()
            z = inside(rng, x, radius, norm, box)
            b = rng.standard_normal()
            t = w @ z + b
            # part 1: a loss that is neither monotone nor convex
            slope = np.cos(3 * t)
            predicted = max(slope, 0) * (w @ x + b + up - t) + max(-slope, 0) * (
                t - (w @ x + b - down)
            )
            score_form = max(score_form, abs(fosc(ball, slope * w, z, x) - predicted) / scale)
            # part 2: logistic loss, label 1; a full step from z
            v = ball.best(tensor(-w / (1 + np.exp(t))), tensor(x)).numpy()[0]
            best = np.logaddexp(0, -(w @ x + b - down))
            one_step = max(one_step, abs(np.logaddexp(0, -(w @ v + b)) - best) / scale)
            gap = fosc(ball, -w / (1 + np.exp(w @ v + b)), v, x)
            one_step = max(one_step, gap / scale)
            exact = max(exact, gap) if norm == np.inf else exact
            # part 3: squared loss
            r = float(rng.choice([0.3, 0.7, 1.2]) * rng.choice([-up, down]))
            ends = {}
            for sign in (1, -1):
                end = ball.best(tensor(sign * w), tensor(x)).numpy()[0]
                residual = r + w @ (end - x)
                ends[sign] = (residual**2 / 2, fosc(ball, residual * w, end, x))
                expected = r >= -up if sign > 0 else r <= down
                marginal = min(abs(r + up), abs(r - down)) < 1e-9 * scale
                if not marginal:
                    faces += expected != (ends[sign][1] < 1e-9 * scale * (1 + abs(r)))
                length = (r + up) if sign > 0 else (r - down)
                wrong_side = max(wrong_side, abs(ends[sign][0] - length**2 / 2) / scale**2)
            if abs(r) > 1e-9:
                step = int(np.sign(r))
                worse = ends[step][0] < ends[-step][0] - 1e-9 * scale**2
                predicted = (0 < 2 * r < down - up) or (0 < -2 * r < up - down)
                near = abs(2 * abs(r) - abs(down - up)) < 1e-6 * scale
                wrong += (worse != predicted) and not near
                wrong += worse and not box
    c.at_most("FOSC of a function of the score", score_form, 1e-7)
    c.at_most("logistic: one full step misses", one_step, 1e-7)
    c.at_most("logistic: FOSC after it, l-infinity", exact, 0.0)
    c.close("regression: faces with zero FOSC predicted wrongly", faces, 0, 0.5)
    c.at_most("regression: losses at the two faces", wrong_side, 1e-7)
    c.close("regression: side of the first step predicted wrongly", wrong, 0, 0.5)
    # the box example of the text, by hand: the step goes to 0, loss 0.02; the other end has 0.08
    x, ball = np.array([0.1]), attacks.Ball(0.5)
    v = ball.best(tensor([-0.1]), tensor(x)).item()
    c.close("box example: the step goes to", v, 0.0, 1e-12)
    c.close("box example: the maximum", max((z - 0.2) ** 2 / 2 for z in (0.0, 0.6)), 0.08, 1e-12)
    # r = 0: nothing moves
    w = rng.standard_normal(4)
    plain = library_ball(0.3, 2, False)
    c.close("interpolation: FOSC", fosc(plain, 0.0 * w, np.zeros(4), np.zeros(4)), 0.0, 1e-15)

    # part 4: softmax, every corner of the cube as the referee
    worst_sum, ascent, left, many = -np.inf, np.inf, 0.0, 0
    for trial in range(60):
        W, b = rng.standard_normal((4, 5)), rng.standard_normal(4)
        if trial % 5 == 0:
            W[:, 0] = 0.0
        corners = 0.7 * np.array(list(itertools.product([-1.0, 1.0], repeat=5)))
        loss = lambda e, W=W, b=b: np.log(np.exp(W @ e + b - W[0] @ e - b[0]).sum())  # noqa: E731

        def gradient(e, W=W, b=b):
            p = np.exp(W @ e + b - (W @ e + b).max())
            return W.T @ (p / p.sum()) - W[0]

        top = max(loss(e) for e in corners)
        e, total = np.zeros(5), 0.0
        for k in range(33):
            g = gradient(e)
            gap = np.max(corners @ g) - e @ g
            if gap < 1e-12:
                break
            if k == 1:
                many += 1
            new = corners[np.argmax(corners @ g)]
            ascent = min(ascent, loss(new) - loss(e) - gap)
            total, e = total + gap, new
        left = max(left, gap)
        worst_sum = max(worst_sum, total - (top - loss(np.zeros(5))))
    c.at_least("convex: ascent of a full step - FOSC", ascent, -1e-12)
    c.at_most("convex: sum of FOSC - what there is to gain", worst_sum, 1e-12)
    c.at_most("polytope: FOSC at the end", left, 1e-12)
    c.at_least("softmax models of 60 that need a second step", many, 10)
    # the example of the text
    model = torch.nn.Linear(2, 3, dtype=torch.float64)
    model.weight.data = torch.tensor([[0, 0], [1, 0.5], [3, -1]]).double()
    model.bias.data = torch.tensor([0, 0, -1]).double()
    zero = torch.zeros(1, 2, dtype=torch.float64)
    free = attacks.Ball(1.0, low=None, high=None)
    step = attacks.fgsm(model, zero, torch.tensor([0]), free)
    c.close("three classes: first step, first entry", step.points[0, 0].item(), 1.0, 1e-12)
    c.close("three classes: first step, second entry", step.points[0, 1].item(), 1.0, 1e-12)
    by_hand = 2 * (np.e - np.exp(1.5) / 2) / (1 + np.exp(1.5) + np.e)
    c.close("three classes: FOSC after it", step.fosc.item(), by_hand, 1e-12)
    c.at_least("three classes: it is positive", step.fosc.item(), 0.05)


# ------------------------------------------------------------------------- linear decoders


def test_fosc_spectral(claim):
    c = claim("prop-fosc-spectral")
    rng = np.random.default_rng(6)
    # box: every corner; some residuals and gains are zero
    missed = stationary = 0.0
    for trial in range(100):
        n = 5
        R, r = rng.standard_normal((2, n))
        if trial % 2:
            r[rng.random(n) < 0.4] = 0.0
        if trial % 3 == 0:
            R[rng.random(n) < 0.3] = 0.0
        budget = rng.uniform(0.1, 2, n)
        corners = budget * np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
        top = max(np.sum((r + R * e) ** 2) / 2 for e in corners)
        e = budget * np.sign(R * r)
        g = R * (r + R * e)
        stationary = max(stationary, np.max(corners @ g) - e @ g)
        short = top - np.sum((r + R * e) ** 2) / 2
        missed = max(missed, abs(short - np.sum((r == 0) * (R * budget) ** 2) / 2))
    c.at_most("box: FOSC of the first step", stationary, 1e-12)
    c.at_most("box: what the first step misses", missed, 1e-12)
    R, r, budget = np.array([1.0, -2.0, 0.5]), np.array([0.6, 0.3, -2.0]), np.array([1.0, 0.4, 1.0])
    starts = rng.uniform(-1, 1, (400_000, 3)) * budget
    ends = budget * np.sign(R * (r + R * starts))
    g = R * (r + R * ends)
    exact = np.sum((np.abs(r) + np.abs(R) * budget) ** 2) / 2
    loss = exact - np.sum((r + R * ends) ** 2, axis=1) / 2
    c.at_most("random start: FOSC", np.max(np.abs(g) @ budget - np.sum(g * ends, axis=1)), 1e-12)
    formula = 0.6 * 0.4 + 0.3 * 0.5  # |r_n| (D_n - |r_n|)_+ by hand, D = 1, 0.8, 0.5
    error = loss.std() / len(loss) ** 0.5
    c.close("random start: mean missed", loss.mean(), formula, 4 * error)

    # ball: stationary points of the sphere, found by shooting, against many random points
    mistakes = counted = local = 0
    for trial in range(200):
        m = 3
        R = np.diag(rng.uniform(0.3, 2, m)) if trial % 2 else rng.standard_normal((4, m))
        r = rng.standard_normal(len(R))
        if trial % 4 == 1:
            r[np.argmax(np.abs(np.diag(R)))] = 0.0  # nothing in the strongest mode
        delta, H, b = float(rng.uniform(0.2, 2)), R.T @ R, R.T @ r
        e = delta * b / np.linalg.norm(b)
        if trial % 8 != 1:
            for _ in range(3000):  # repeated full steps converge to a stationary point
                grad = b + H @ e
                e = delta * grad / np.linalg.norm(grad)
        grad = b + H @ e
        gap = delta * np.linalg.norm(grad) - grad @ e
        if gap > 1e-10 * delta * np.linalg.norm(grad):
            continue
        counted += 1
        lam, top = grad @ e / delta**2, np.linalg.eigvalsh(H)[-1]
        sphere = rng.standard_normal((4000, m))
        sphere *= delta / np.linalg.norm(sphere, axis=1, keepdims=True)
        near = e + 0.05 * delta * rng.standard_normal((4000, m))
        near *= delta / np.linalg.norm(near, axis=1, keepdims=True)
        points = np.vstack([sphere, near])
        value = np.sum((r + e @ R.T) ** 2) / 2
        best = (np.sum((r + points @ R.T) ** 2, axis=1) / 2).max()
        if abs(lam - top) > 1e-3 * top:
            mistakes += (best > value + 1e-9) != (lam < top)
            local += lam < top
    c.close("ball: solutions predicted wrongly", mistakes, 0, 0.5)
    c.at_least("ball: stationary points tested", counted, 120)
    c.at_least("ball: of them no solutions", local, 5)
    exact_gap, generic_gap = 0.0, np.inf
    for gains, residual in (
        ([2.0, 0.5, 2.0], [0.3, 0.0, -0.8]),  # one gain in all modes hit
        ([2.0, 0.5, -2.0], [0.3, 0.0, -0.8]),  # the same up to a sign
        ([1.0, 3.0, 1.0], [0.0, 0.7, 0.0]),  # a single mode
    ):
        R, r = np.array(gains), np.array(residual)
        e = R * r / np.linalg.norm(R * r)
        g = R * (r + R * e)
        exact_gap = max(exact_gap, np.linalg.norm(g) - g @ e)
    for _ in range(200):
        R, r = rng.uniform(0.3, 2, 3), rng.standard_normal(3)
        R[0] = R[1] + 0.4
        e = R * r / np.linalg.norm(R * r)
        g = R * (r + R * e)
        gap = (np.linalg.norm(g) - g @ e) / np.linalg.norm(g)
        generic_gap = min(generic_gap, gap)
    c.at_most("ball: FOSC of the first step, equal gains", exact_gap, 1e-12)
    c.at_least("ball: the same, different gains", generic_gap, 1e-12)
    # part 3, a full matrix and the round ball
    worst = -np.inf
    for _ in range(50):
        R, r = rng.standard_normal((4, 3)), rng.standard_normal(4)
        e, total = np.zeros(3), 0.0
        for _ in range(200):
            g = R.T @ (r + R @ e)
            total += np.linalg.norm(g) - g @ e
            e = g / np.linalg.norm(g)
        worst = max(worst, total - np.sum((r + R @ e) ** 2) / 2 + np.sum(r**2) / 2)
    c.at_most("convex: sum of FOSC - ascent", worst, 1e-9)
    # the plateau: the filter that chapter 3 trains has residuals that vanish exactly
    sigma, signal = (part[:-1] for part in spectral.model_problem(1.0, 1.0, 100))
    mean_abs = np.sqrt(2 / np.pi * signal)
    factor = sigma * adversarial.box_almost_sure(sigma, signal, 1e-3, mean_abs)
    s = 1e-3 / (sigma * np.sqrt(signal))
    c.close(
        "plateau: modes with exact inversion", np.sum(np.abs(factor - 1) < 1e-9),
        np.sum(s <= np.sqrt(2 / np.pi)), 0.5,
    )  # fmt: skip


# ------------------------------------------------------------------------- measured


def trained(sizes, x, y, seed):
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for n, m in itertools.pairwise(sizes):
        layer = torch.nn.Linear(n, m, dtype=torch.float64)
        layer.weight.data = (2 / n) ** 0.5 * torch.randn(m, n, generator=generator).double()
        layer.bias.data.zero_()
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def own_fosc(model, z, y, x, radius, box):
    """FOSC of the l-infinity ball from autograd and the definition, coordinate by coordinate."""
    z = z.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(z), y, reduction="sum")
    (g,) = torch.autograd.grad(loss, z)
    lo, hi = x - radius, x + radius
    if box:
        lo, hi = lo.clamp(0, 1), hi.clamp(0, 1)
    ends = torch.stack([g * (hi - z), g * (lo - z)])
    return ends.amax(dim=0).sum(dim=1).detach(), g, lo, hi


@pytest.fixture(scope="module")
def three_sets():
    found = []
    for seed in (5101, 5102, 5103):
        digits = data.digits(np.random.default_rng(seed))
        parts = {}
        for part in ("train", "test"):
            x = torch.from_numpy(getattr(digits, f"{part}_x")).double().flatten(1)
            y = torch.from_numpy(getattr(digits, f"{part}_y")).long()
            keep = (y == 3) | (y == 8)
            parts[part] = {"ten": (x, y), "two": (x[keep], (y[keep] == 8).long())}
        models = {
            "two": trained([64, 2], *parts["train"]["two"], seed),
            "ten": trained([64, 10], *parts["train"]["ten"], seed + 10),
            "network": trained([64, 64, 64, 10], *parts["train"]["ten"], seed + 20),
        }
        found.append((seed, models, parts["test"]))
    return found


def test_inner_steps(claim, three_sets):
    c = claim("obs-inner-steps")
    ball = attacks.Ball(0.1)
    for seed, models, test in three_sets:
        shares = {}
        for name, model in models.items():
            x, y = test["two" if name == "two" else "ten"]
            _, g, lo, hi = own_fosc(model, x, y, x, 0.1, True)
            z = torch.where(g > 0, hi, torch.where(g < 0, lo, x))
            shares[name] = (own_fosc(model, z, y, x, 0.1, True)[0] == 0).double().mean().item()
        c.close(f"{seed}: two classes, zero after one step", shares["two"], 1.0, 1e-12)
        c.at_least(f"{seed}: ten classes, at least", shares["ten"], 0.10)
        c.at_most(f"{seed}: ten classes, at most", shares["ten"], 0.35)
        c.at_most(f"{seed}: network, at most", shares["network"], 0.12)
        x, y = test["ten"]
        model, z = models["network"], x.clone()
        for _ in range(10):
            _, g, lo, hi = own_fosc(model, z, y, x, 0.1, True)
            z = torch.clamp(z + 0.025 * g.sign(), lo, hi)
        share = (own_fosc(model, z, y, x, 0.1, True)[0] == 0).double().mean().item()
        c.at_least(f"{seed}: network, ten steps, at least", share, 0.3)
        c.at_most(f"{seed}: network, ten steps, at most", share, 0.6)
        generator = torch.Generator().manual_seed(seed)
        task = (model, x[:200], y[:200], ball)
        runs = [attacks.pgd(*task, steps=20, step=0.0125, generator=generator) for _ in range(20)]
        points = torch.stack([run.points for run in runs])
        values = torch.stack(
            [torch.nn.functional.cross_entropy(model(p), y[:200], reduction="none") for p in points]
        ).detach()
        gaps = torch.stack([own_fosc(model, p, y[:200], x[:200], 0.1, True)[0] for p in points])
        short = (values.max(dim=0).values - values)[gaps == 0]
        wrong = (short > 0.05).double().mean().item()
        c.at_least(f"{seed}: zero FOSC on a wrong hill, at least", wrong, 0.10)
        c.at_most(f"{seed}: zero FOSC on a wrong hill, at most", wrong, 0.30)


def test_box_artefact(claim, three_sets):
    c = claim("obs-box-artefact")
    for seed, models, test in three_sets:
        (x, y), model = test["ten"], models["network"]
        z = attacks.pgd(model, x, y, attacks.Ball(0.1), steps=10).points
        with_box = own_fosc(model, z, y, x, 0.1, True)[0]
        without = own_fosc(model, z, y, x, 0.1, False)[0]
        share = ((without - with_box) / without).median().item()
        c.at_least(f"{seed}: artefact, share in the median", share, 0.9)
        c.at_least(f"{seed}: least FOSC without the box", without.min().item(), 1e-12)
        zero = (with_box == 0).double().mean().item()
        c.at_least(f"{seed}: FOSC exactly zero, at least", zero, 0.3)
        c.at_most(f"{seed}: FOSC exactly zero, at most", zero, 0.6)
