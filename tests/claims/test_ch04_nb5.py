"""Witnesses of chapter 4, notebook 5: filters under attack."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from advreg import experiments, filter_experiments, variational
from advreg.variational import LogCosh, Quadratic, SmoothedL1, denoise

STORED = Path(__file__).parents[2] / "chapters/04_frames_and_filters/results/adversarial.json"
CASES = [  # shape of the filters, grid
    ((1, 2), (6,)),
    ((2, 3), (7,)),
    ((1, 5), (5,)),
    ((2, 2, 2), (3, 4)),
    ((1, 3, 3), (3, 3)),
]
POTENTIALS = [SmoothedL1(0.1), LogCosh(0.2), Quadratic()]


def dense(filters, grid):
    """All K_j on top of each other, entry by entry."""
    rows = []
    for k in filters:
        for i in itertools.product(*map(range, grid)):
            row = np.zeros(grid)
            for m in itertools.product(*map(range, k.shape)):
                row[tuple((a - b) % n for a, b, n in zip(i, m, grid, strict=True))] += k[m]
            rows.append(row.ravel())
    return np.array(rows)


def newton(y, rows, potential, start=None):
    """The minimizer and the Hessian there, with dense matrices; y is one flat signal."""
    x = (y if start is None else start).copy()

    def slope(z):
        return z - y + rows.T @ potential.first(rows @ z)

    g, goal = slope(x), 1e-13 * (1 + np.linalg.norm(y))
    for _ in range(200):
        hessian = np.eye(y.size) + rows.T @ (potential.second(rows @ x)[:, None] * rows)
        size = np.linalg.norm(g)
        if size <= goal:
            break
        step, t = np.linalg.solve(hessian, g), 1.0
        # the norm of the gradient falls along Newton's direction
        while np.linalg.norm(slope(x - t * step)) >= (1 - 0.1 * t) * size and t > 1e-6:
            t /= 2
        if t <= 1e-6:  # rounding
            break
        x = x - t * step
        g = slope(x)
    return x, hessian


def worst(y, target, rows, potential, radius, starts):
    """The largest error found by BFGS on the sphere, from constants, random and residual starts."""

    def minus(u):
        size = np.linalg.norm(u)
        x, hessian = newton(y + radius * u / size, rows, potential)
        slope = 2 * np.linalg.solve(hessian, x - target)
        slope = radius / size * (slope - slope @ u * u / size**2)
        return -((x - target) ** 2).sum(), -slope

    ones = np.ones(y.size)
    every = [ones, -ones, *starts, newton(y, rows, potential)[0] - target + 1e-9]
    return max(-minimize(minus, u, jac=True, method="BFGS").fun for u in every)


def lost(filters, size):
    """beta of the theorem, for slopes of at most 1."""
    return 2 * math.sqrt(size) * np.abs(filters.reshape(len(filters), -1).sum(axis=1)).sum()


def drawn(shape, grid, rng, zero_sum=True):
    k = 0.6 * rng.standard_normal(shape)
    if zero_sum:
        k -= k.mean(axis=tuple(range(1, len(shape))), keepdims=True)
    return k, rng.standard_normal(grid), rng.standard_normal(grid)


# ------------------------------------------------------------------------------- the proximal map


GAPS = ("minimizer", "firm", "lipschitz", "jacobian", "low", "high", "ones", "gradient")


def test_prox(claim):
    c = claim("prop-prox")
    rng = np.random.default_rng(4501)
    gaps = dict.fromkeys(GAPS, 0.0)
    least = math.inf
    for (shape, grid), potential in itertools.product(CASES, POTENTIALS):
        k, y, z = drawn(shape, grid, rng, zero_sum=False)
        z *= 10 ** rng.uniform(-2, 1)
        for filters in (k, 0 * k, k - k.mean(axis=tuple(range(1, k.ndim)), keepdims=True)):
            rows = dense(filters, grid)
            u, v = (denoise(s, filters, potential, tol=1e-12).x.ravel() for s in (y, z))
            other, hessian = newton(y.ravel(), rows, potential)
            gaps["minimizer"] = max(gaps["minimizer"], np.abs(u - other).max())
            inner = (u - v) @ (y - z).ravel()
            gaps["firm"] = max(gaps["firm"], ((u - v) ** 2).sum() - inner)
            gaps["lipschitz"] = max(
                gaps["lipschitz"], np.linalg.norm(u - v) - np.linalg.norm(y - z)
            )
            size, h = y.size, 1e-5
            columns = [
                newton(y.ravel() + h * e, rows, potential, u)[0]
                - newton(y.ravel() - h * e, rows, potential, u)[0]
                for e in np.eye(size)
            ]
            jacobian = np.array(columns).T / (2 * h)
            inverse = np.linalg.inv(hessian)
            gaps["jacobian"] = max(gaps["jacobian"], np.abs(jacobian - inverse).max())
            values = np.linalg.eigvalsh((jacobian + jacobian.T) / 2)
            smoothness = 1 + potential.curvature * variational.spectrum(filters, grid).max()
            gaps["low"] = max(gaps["low"], 1 / smoothness - values.min())
            gaps["high"] = max(gaps["high"], values.max() - 1)
            if filters is not k:  # sum zero, zero filters among them
                gaps["ones"] = max(gaps["ones"], np.abs(jacobian @ np.ones(size) - 1).max())
            else:
                if isinstance(potential, Quadratic):
                    least = min(least, 1 - values.max())
                    gaps["low"] = max(gaps["low"], abs(1 / smoothness - values.min()))
                slope = inverse @ (other - z.ravel())
                moved = [
                    ((newton(y.ravel() + h * e, rows, potential)[0] - z.ravel()) ** 2).sum() / 2
                    - ((newton(y.ravel() - h * e, rows, potential)[0] - z.ravel()) ** 2).sum() / 2
                    for e in np.eye(size)
                ]
                off = np.abs(np.array(moved) / (2 * h) - slope).max()
                gaps["gradient"] = max(gaps["gradient"], off / (1 + np.linalg.norm(slope)))
    c.at_most("minimizer: library against dense Newton", gaps["minimizer"], 1e-10)
    c.at_most("firm: largest excess of |Dy - Dz|^2 over <Dy - Dz, y - z>", gaps["firm"], 1e-10)
    c.at_most("Lipschitz: largest |Dy - Dz| - |y - z|", gaps["lipschitz"], 1e-10)
    c.at_most("Jacobian: finite differences against the inverse Hessian", gaps["jacobian"], 1e-6)
    c.at_most("eigenvalues below 1 / (1 + max Lambda max phi'')", gaps["low"], 1e-6)
    c.at_most("eigenvalues above 1", gaps["high"], 1e-6)
    c.at_most("sum zero: the Jacobian leaves constants alone", gaps["ones"], 1e-6)
    c.at_least("quadratic, sums not zero: least distance of the eigenvalues to 1", least, 1e-5)
    c.at_most("gradient of half the squared error in e", gaps["gradient"], 1e-6)


# ----------------------------------------------------------------------------------- the sandwich


def test_attacked_sandwich(claim):
    c = claim("thm-attacked-sandwich")
    rng = np.random.default_rng(4502)
    low = high = shift = mean = constant = 0.0
    for (shape, grid), potential in itertools.product(CASES, POTENTIALS):
        k, y, x = drawn(shape, grid, rng)
        rows, y, x = dense(k, grid), y.ravel(), x.ravel()
        radius = 10 ** rng.uniform(-1, 0.7)
        d = newton(y, rows, potential)[0]
        r, eta = np.linalg.norm(d - x), abs((y - x).sum()) / math.sqrt(y.size)
        moved = newton(y + 1.7, rows, potential)[0]
        shift = max(shift, np.abs(moved - d - 1.7).max())
        mean = max(mean, abs(d.mean() - y.mean()))
        both = [
            ((newton(y + s * radius / math.sqrt(y.size), rows, potential)[0] - x) ** 2).sum()
            for s in (-1, 1)
        ]
        lower = r**2 + radius**2 + 2 * radius * eta
        constant = max(constant, abs(max(both) / lower - 1))
        found = worst(y, x, rows, potential, radius, rng.standard_normal((1, y.size)))
        low = max(low, lower - found)
        high = max(high, found - (r + radius) ** 2)
    c.at_most("D(y + c) = D(y) + c", shift, 1e-10)
    c.at_most("mean of D(y) = mean of y", mean, 1e-10)
    c.at_most("worse of the two constants = the lower bound, 15 cases", constant, 1e-9)
    c.at_most("lower bound above the worst error found", low, 1e-9)
    c.at_most("worst error found above the upper bound", high, 1e-9)

    # Equality above: without filters D is the identity; below: with strong ones, it is the mean.
    y, x, strong = rng.standard_normal(8), rng.standard_normal(8), 40 * np.array([[-1.0, 1.0]])
    starts = rng.standard_normal((3, 8))
    r = np.linalg.norm(y - x)
    found = worst(y, x, np.zeros((8, 8)), Quadratic(), 0.8, starts)
    c.close("no filters: the upper bound is attained", found, (r + 0.8) ** 2, 1e-9)
    rows = dense(strong, (8,))
    r = np.linalg.norm(newton(y, rows, Quadratic())[0] - x)
    eta = abs((y - x).sum()) / math.sqrt(8)
    found = worst(y, x, rows, Quadratic(), 0.8, starts)
    c.close("strong filters: the lower one", found, r**2 + 0.64 + 1.6 * eta, 1e-2)

    # Sums that are not zero.
    low = loss = step = 0.0
    for (shape, grid), size in itertools.product(CASES, (1e-3, 0.1, 1.0)):
        k, y, x = drawn(shape, grid, rng)
        k += size * rng.standard_normal((len(k), *[1] * len(grid)))
        rows, y, x, potential = dense(k, grid), y.ravel(), x.ravel(), SmoothedL1(0.05)
        radius, d = 10 ** rng.uniform(-1, 1), newton(y, rows, potential)[0]
        r = np.linalg.norm(d - x)
        beta = lost(k, y.size)
        gap = math.sqrt(radius * min(radius, beta))
        errors = []
        for sign in (-1, 1):
            e = np.full(y.size, sign * radius / math.sqrt(y.size))
            new = newton(y + e, rows, potential)[0]
            errors.append(np.linalg.norm(new - x))
            t = (new - d) @ e / radius
            step = max(step, radius - min(radius, beta) - t, t - radius)
            off = np.linalg.norm(new - d - e) ** 2 - radius * (radius - t)
            step = max(step, off)
        low = max(low, math.sqrt(r**2 + radius**2) - gap - max(errors))
        loss = max(loss, math.sqrt(r**2 + radius**2) - max(errors))
        high = max(high, max(errors) - r - radius)
    c.at_most("sums not zero: the weaker lower bound above the constants", low, 1e-9)
    c.at_most("the two steps of its proof: largest violation", step, 1e-9)
    c.at_most("the upper bound stays", high, 1e-9)
    c.at_least("and r^2 + delta^2 itself is violated", loss, 0.1)
    # beta is sharp: soft thresholding of one sample, from -1 to 1
    soft = newton(np.array([1.0]), np.array([[0.3]]), SmoothedL1(1e-6))[0][0]
    c.close("soft thresholding loses beta", 2 - 2 * soft, lost(np.array([[0.3]]), 1), 1e-5)

    # Averages over pairs, three threat models.
    k = np.array([[0.4, -0.6, 0.2]])
    pairs_x, pairs_y = rng.standard_normal((2, 3, 6))
    for rows, name in ((dense(k, (6,)), "filter"), (np.zeros((6, 6)), "no filter")):
        potential, radius = SmoothedL1(0.1), 0.9
        residual = np.array(
            [newton(y, rows, potential)[0] - x for x, y in zip(pairs_x, pairs_y, strict=True)]
        )
        r = np.linalg.norm(residual, axis=1)
        eta = np.abs((pairs_y - pairs_x).sum(axis=1)) / math.sqrt(6)
        rms = math.sqrt((r**2).mean())
        starts = rng.standard_normal((2, 6))
        sure = np.mean(
            [
                worst(y, x, rows, potential, radius, starts)
                for x, y in zip(pairs_x, pairs_y, strict=True)
            ]
        )
        share = radius * r / rms  # E share^2 = radius^2
        mean = np.mean(
            [
                worst(y, x, rows, potential, s, starts)
                for x, y, s in zip(pairs_x, pairs_y, share, strict=True)
            ]
        )

        def minus(u, rows=rows, potential=potential, radius=radius):
            e = radius * u / np.linalg.norm(u)
            out = [
                ((newton(y + e, rows, potential)[0] - x) ** 2).sum()
                for x, y in zip(pairs_x, pairs_y, strict=True)
            ]
            return -np.mean(out)

        ones = np.ones(6)
        fixed = max(-minimize(minus, u, method="BFGS").fun for u in (ones, -ones, starts[0]))
        floor, roof = rms**2 + radius**2, (rms + radius) ** 2
        below = rms**2 + 2 * radius * eta.mean() + radius**2
        above = rms**2 + 2 * radius * r.mean() + radius**2
        c.at_least(f"{name}: oblivious - (E r^2 + delta^2)", fixed - floor, -1e-6)
        c.at_least(f"{name}: almost sure - its lower bound", sure - below, -1e-6)
        c.at_least(f"{name}: its upper bound - almost sure", above - sure, -1e-6)
        c.at_least(f"{name}: almost sure - oblivious", sure - fixed, -1e-6)
        c.at_least(f"{name}: the upper bound - in mean", roof - mean, -1e-6)
        if name == "no filter":
            c.close("no filter: almost sure, upper bound attained", sure, above, 1e-6)
            c.close("no filter: in mean, upper bound attained", mean, roof, 1e-6)


def test_no_gain(claim):
    c = claim("cor-no-gain")
    rng = np.random.default_rng(4503)
    x = variational.piecewise_constant(4, 10, 3, rng)
    y = x + 0.3 * rng.standard_normal(x.shape)
    potential = SmoothedL1(0.05)
    filters = [w * variational.tv_filters(1) for w in (0.0, 0.2, 0.5, 1.0, 3.0)]
    for _ in range(3):
        k = 0.5 * rng.standard_normal((1, 3))
        filters.append(k - k.mean())
    starts = rng.standard_normal((1, 10))
    residual = []
    for k in filters:
        rows = dense(k, (10,))
        residual.append(
            [np.linalg.norm(newton(b, rows, potential)[0] - a) for a, b in zip(x, y, strict=True)]
        )
    r = np.array(residual)
    clean, eta = (r**2).mean(axis=1), np.abs((y - x).sum(axis=1)) / math.sqrt(10)
    star = int(clean.argmin())
    for radius in (0.2, math.sqrt(clean[star]), 5.0):
        risk = np.array(
            [
                np.mean(
                    [
                        worst(b, a, dense(k, (10,)), potential, radius, starts)
                        for a, b in zip(x, y, strict=True)
                    ]
                )
                for k in filters
            ]
        )
        rms = math.sqrt(clean[star])
        factor = (rms + radius) ** 2 / (rms**2 + radius**2)
        sharper = (clean[star] + 2 * radius * r[star].mean() + radius**2) / (
            clean[star] + 2 * radius * eta.mean() + radius**2
        )
        name = f"delta = {radius:.2f}"
        c.at_most(f"{name}: factor", factor, 2 + 1e-12)
        c.at_most(f"{name}: sharper factor / factor", sharper / factor, 1.0)
        c.at_most(
            f"{name}: risk of the clean minimizer / (sharper factor x least)",
            risk[star] / (sharper * risk.min()),
            1 + 1e-9,
        )
        bound = clean[:, None] - clean[None] - 2 * radius * np.sqrt(clean)[None]
        wrong = (bound >= 0) & (risk[:, None] < risk[None])
        c.at_most(f"{name}: pairs with the margin, ranked otherwise", int(wrong.sum()), 0)
        best = int(risk.argmin())
        price = clean[best] - clean[star] - 2 * radius * rms
        c.at_most(f"{name}: clean price of the robust minimizer - bound", price, 1e-9)

    # Sharp: no filter against a very strong one, at r = delta, noise without a mean.
    x, noise = rng.standard_normal((2, 12))
    x, noise = x - x.mean(), noise - noise.mean()
    noise *= 0.999 * np.linalg.norm(x) / np.linalg.norm(noise)
    radius = float(np.linalg.norm(noise))
    risks = [
        worst(x + noise, x, dense(k, (12,)), Quadratic(), radius, rng.standard_normal((2, 12)))
        for k in (np.zeros((1, 2)), 300 * variational.tv_filters(1))
    ]
    strong = newton(x + noise, dense(300 * variational.tv_filters(1), (12,)), Quadratic())[0]
    c.at_least(
        "clean error of the strong filter - that without", ((strong - x) ** 2).sum() - radius**2, 0
    )
    c.close("risk without filters / with the strong one", risks[0] / risks[1], 2.0, 0.01)


# --------------------------------------------------------------------------------- what is measured


@functools.cache
def retrained():
    """One more seed: clean, attack-trained (delta = 4), and with noise of length 2."""
    rng = np.random.default_rng(4504)
    potential = SmoothedL1(0.05)
    x, new = (variational.piecewise_constant(n, 64, 4, rng) for n in (32, 48))
    y, new_y = (v + 0.3 * rng.standard_normal(v.shape) for v in (x, new))
    learn = functools.partial(
        variational.learn_filters, count=1, taps=5, potential=potential, seed=11
    )
    clean = learn(x, y).filters
    robust = variational.learn_under_attack(
        x, y, clean, potential=potential, radius=4.0, steps=40
    ).filters
    noise = rng.standard_normal((4, *x.shape))
    noise /= np.linalg.norm(noise, axis=2, keepdims=True)
    many = np.tile(x, (4, 1))
    two, four = (learn(many, np.concatenate(y + s * noise), start=clean).filters for s in (2, 4))
    out = {}
    for name, k in {"clean": clean, "attack-4": robust, "jitter-2": two, "jitter-4": four}.items():
        found = variational.attack(new_y, new, k, potential, 4.0, steps=15, tol=1e-6)
        plain = denoise(new_y, k, potential, tol=1e-6).x
        r = np.linalg.norm(plain - new, axis=1)
        eta = np.abs((new_y - new).sum(axis=1)) / 8
        out[name] = {
            "lower": (r**2 + 16 + 8 * eta).mean() / 64,
            "upper": ((r + 4) ** 2).mean() / 64,
            "k": k,
            "clean": ((plain - new) ** 2).mean(),
            "attacked": found.error.mean() / 64,
            "e": found.y - new_y,
        }
    return out


def two_taps(k):
    squares = np.sort(k.ravel() ** 2)
    return squares[-2:].sum() / squares.sum()


def stored(name, method):
    return experiments.column(filter_experiments.load(STORED), name, method=method)


def relative(name, method):
    return stored(name, method) / stored(name, "clean") - 1


def test_attacked_filters(claim):
    c = claim("obs-attacked-filters")
    run = retrained()
    clean, robust = run["clean"], run["attack-4"]
    gain = 1 - robust["attacked"] / clean["attacked"]
    c.at_least("another seed, delta = 4: gain under attack", gain, 0.005)
    c.at_most("the same, at most", gain, 0.035)
    price = robust["clean"] / clean["clean"] - 1
    c.at_least("its clean price", price, 0.02)
    c.at_most("the same, at most", price, 0.15)
    growth = np.abs(robust["k"]).sum() / np.abs(clean["k"]).sum() - 1
    c.at_least("its strength grows by", growth, 0.12)
    c.at_most("the same, at most", growth, 0.45)
    for name, k in (("clean", clean["k"]), ("attack-trained", robust["k"])):
        c.at_least(f"{name}: energy of the two largest taps", two_taps(k), 0.96)
        first, second = np.argsort(-np.abs(k.ravel()))[:2]
        c.at_most(f"{name}: distance of the two", abs(first - second), 1)
        c.at_most(f"{name}: their product", k.ravel()[first] * k.ravel()[second], 0)
        c.at_most(f"{name}: |S| / l1 norm", abs(k.sum()) / np.abs(k).sum(), 0.015)

    # The stored five seeds: every number of the statement.
    for radius in filter_experiments.RADII:
        method, i = f"attack-{radius:g}", filter_experiments.RADII.index(radius)
        method = method if radius else "clean"
        for k in stored("filters", method)[:, 0]:
            first, second = np.argsort(-np.abs(k))[:2]
            good = abs(first - second) == 1 and k[first] * k[second] < 0 and two_taps(k) >= 0.97
            c.at_least(f"stored, {method}: shape", good and abs(k.sum()) <= 0.01 * abs(k).sum(), 1)
        growth, change = relative("strength", method), relative("attacked", method)
        if radius == 4:
            c.at_least("stored, delta = 4: strength, least growth", growth.min(), 0.15)
            c.at_least("stored, delta = 4: least gain", -change[:, 4].max(), 0.01)
            c.at_least("stored, delta = 4: least clean price", change[:, 0].min(), 0.03)
            c.at_most("stored, delta = 4: largest clean price", change[:, 0].max(), 0.12)
        c.at_most(f"stored, {method}: strength", growth.max(), 0.4 if radius == 4 else 0.15)
        c.at_most(f"stored, {method}: largest gain anywhere", -change.min(), 0.03)
        if radius <= 1:
            c.at_most(f"stored, {method}: gain at its radius", -change[:, i].min(), 0.01)
            c.at_most(f"stored, {method}: clean change", np.abs(change[:, 0]).max(), 0.01)
    # Filters made zero in sum; the best strength of [-1, 1], with hindsight.
    moved, tv = 0.0, variational.tv_filters(1)
    for seed in range(5):
        x, y = filter_experiments.pairs("jumps", 64, 64, 101 + 2 * seed)

        def risk(k, radius, x=x, y=y):
            found = variational.attack(y, x, k, SmoothedL1(0.05), radius, tol=1e-5)
            return found.error.mean() / 64

        for method in ("clean", "attack-4"):
            k, known = stored("filters", method)[seed], stored("attacked", method)[seed]
            for i in (0, 4):
                other = risk(k - k.mean(), filter_experiments.RADII[i])
                moved = max(moved, abs(other / known[i] - 1))
        plain, trained = (stored("attacked", m)[seed, 4] for m in ("clean", "attack-4"))
        best = min(risk(w * tv, 4.0) for w in (0.7, 0.8, 0.9, 1.0))
        c.at_least(f"seed {seed}: gain of the best strength", 1 - best / plain, 0.015)
        c.at_most(f"seed {seed}: the same, at most", 1 - best / plain, 0.04)
        c.at_most(f"seed {seed}: more than training", (trained - best) / plain, 0.01)
    c.at_most("stored filters, sum made zero: change of the errors", moved, 0.003)
    # The stored filters give the stored errors on the signals of their seed.
    x, y = filter_experiments.pairs("jumps", 64, 64, 103)
    for method in ("clean", "attack-4"):
        rows = dense(stored("filters", method)[1], (64,))
        outputs = [newton(b, rows, SmoothedL1(0.05))[0] for b in y[:8]]
        library = denoise(y[:8], stored("filters", method)[1], SmoothedL1(0.05), tol=1e-9).x
        c.at_most(f"{method}: dense Newton - library", np.abs(outputs - library).max(), 1e-6)
        every = denoise(y, stored("filters", method)[1], SmoothedL1(0.05)).x
        error = ((every - x) ** 2).mean()
        c.close(f"{method}: clean error", error, stored("attacked", method)[1, 0], 1e-4)


def test_attack_direction(claim):
    c = claim("obs-attack-direction")
    run = retrained()["clean"]
    power = np.abs(np.fft.fft(run["e"])) ** 2
    power /= power.sum(axis=1, keepdims=True)
    low = power[:, [0, 1, 2, 3, 4, -1, -2, -3, -4]].sum(axis=1).mean()
    c.at_least("another seed, delta = 4: share of the constant", power[:, 0].mean(), 0.08)
    c.at_most("the same, at most", power[:, 0].mean(), 0.25)
    c.at_least("another seed: share of the frequencies 0 to 4", low, 0.6)
    c.at_most("the same, at most", low, 0.88)
    place = (run["attacked"] - run["lower"]) / (run["upper"] - run["lower"])
    c.at_least("another seed: place in the sandwich", place, 0.45)
    c.at_most("the same, at most", place, 0.75)
    constant, low = (stored(n, "clean")[:, 1:] for n in ("constant", "low"))
    c.at_least("stored: share of the constant, least", constant.min(), 0.08)
    c.at_most("stored: share of the constant, largest", constant.max(), 0.2)
    c.at_least("stored: share of the frequencies 0 to 4, least", (constant + low).min(), 0.6)
    c.at_most("stored: share of the frequencies 0 to 4, largest", (constant + low).max(), 0.85)
    low, found, high = (stored(n, "clean")[:, 1:] for n in ("lower", "attacked", "upper"))
    x, y = filter_experiments.pairs("jumps", 64, 64, 103)
    r = np.linalg.norm(denoise(y, stored("filters", "clean")[1], SmoothedL1(0.05)).x - x, axis=1)
    eta = np.abs((y - x).sum(axis=1)) / 8
    c.close("stored lower bound, delta = 4", low[1, -1], (r**2 + 16 + 8 * eta).mean() / 64, 1e-4)
    c.close("stored upper bound, delta = 4", high[1, -1], ((r + 4) ** 2).mean() / 64, 1e-4)
    place = (found - low) / (high - low)
    c.at_least("stored: place in the sandwich, least", place.min(), 0.5)
    c.at_most("stored: place in the sandwich, largest", place.max(), 0.8)
    c.at_most("stored: and it falls with the radius", np.diff(place, axis=1).max(), 0)
    again = stored("random_start", "clean")[:, 1:] / found - 1
    c.at_most("stored: random starts find more", again.max(), 1e-4)
    c.at_most("stored: random starts find less", -again.min(), 0.01)


def test_jitter_filters(claim):
    c = claim("obs-jitter-filters")
    run = retrained()
    attacked = {name: r["attacked"] for name, r in run.items()}
    strength = {name: np.abs(r["k"]).sum() for name, r in run.items()}
    clean = {name: r["clean"] / run["clean"]["clean"] - 1 for name, r in run.items()}
    gap = abs(attacked["jitter-2"] / attacked["attack-4"] - 1)
    c.at_most("another seed: noise 2 against attacks 4, under attack 4", gap, 0.01)
    c.at_most("another seed: clean price of noise 2", clean["jitter-2"], 0.1)
    c.at_least("another seed: clean price of noise 4", clean["jitter-4"], 0.15)
    c.at_least(
        "another seed: strength, noise 4 / clean", strength["jitter-4"] / strength["clean"], 1.8
    )
    gap = attacked["jitter-4"] / attacked["jitter-2"] - 1
    c.at_least("another seed: noise 4 / noise 2 - 1, under attack 4", gap, -0.01)

    last = {m: stored("attacked", m)[:, 4] for m in ("attack-4", "jitter-2", "jitter-4")}
    c.at_most(
        "stored: noise 2 / attack 4", np.abs(last["jitter-2"] / last["attack-4"] - 1).max(), 0.01
    )
    c.at_least("stored: noise 4 / noise 2", (last["jitter-4"] / last["jitter-2"]).min(), 0.99)
    two, four = (relative("attacked", m)[:, 0] for m in ("jitter-2", "jitter-4"))
    c.at_least("stored: clean price of noise 2, least", two.min(), -0.02)
    c.at_most("stored: clean price of noise 2, largest", two.max(), 0.08)
    c.at_least("stored: clean price of noise 4, least", four.min(), 0.15)
    c.at_most("stored: clean price of noise 4, largest", four.max(), 0.5)
    growth = relative("strength", "jitter-4")
    c.at_least("stored: strength of noise 4, least growth", growth.min(), 0.9)
    c.at_most("stored: strength of noise 4, largest growth", growth.max(), 1.3)
