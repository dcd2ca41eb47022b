"""Witnesses of chapter 8, notebook 5: two curves from one list of distances, deep networks."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linprog

from advreg import attacks, scale_experiments, wdro, wdro_attacks

RESULT = Path(__file__).parents[2] / "chapters/08_at_scale/results/wasserstein.json"

# ------------------------------------------------------------------------------- oracles


def program(r, budget):
    """Largest share of the mass that can be made wrong: each sample sits at 0 of a line, errors
    are the points from r_i on, and mass may go to any point of a grid (HiGHS)."""
    n, far = len(r), np.max(r[np.isfinite(r)], initial=1.0)
    t = np.union1d(r[np.isfinite(r)], np.linspace(0, 2 * far, 21))
    wrong = (t >= r[:, None]).astype(float).ravel()
    masses = np.kron(np.eye(n), np.ones(len(t)))
    found = linprog(-wrong, np.tile(t, n)[None], [budget], masses, np.full(n, 1 / n))
    assert found.status == 0
    return -found.fun


def share(r, t):
    """F(t), by counting."""
    return np.mean(r[:, None] <= np.atleast_1d(t), axis=0)


def area(r, t):
    """The integral of F over [0, t], rectangle by rectangle."""
    corners = np.union1d(r[(r > 0) & (r < t)], [0.0, t])
    return float(share(r, corners[:-1]) @ np.diff(corners))


def price(r, v):
    """The integral of the quantile function over [0, v]: what the nearest share v costs."""
    r, n = np.sort(r), len(r)
    part = np.clip(v * n - np.arange(n), 0, 1)
    return float(np.where(part > 0, part * np.where(part > 0, r, 0.0), 0.0).sum() / n)


def lists(rng, n, infinite=True):
    """Distances with zeros, ties and, if wanted, samples without an error."""
    r = rng.choice([0.0, 0.5, 1.0, *rng.uniform(0.05, 3, 6)], n)
    if infinite and rng.random() < 0.5:
        r[rng.integers(n)] = math.inf
    return r


# ------------------------------------------------------------------------------- statements


def test_two_curves(claim):
    c, rng = claim("prop-two-curves"), np.random.default_rng(80)
    cases = [lists(rng, int(rng.integers(1, 8))) for _ in range(7)]
    cases += [np.zeros(3), np.full(2, math.inf), np.array([0.7]), np.full(4, 1.5)]
    dual, change, below, markov, between, reach, strict = (0.0,) * 7
    for r in cases:
        finite = r[np.isfinite(r)]
        everything = np.sum(finite) / len(r)
        for eps in (0.03, 0.2, 0.6, everything / 2 + 0.01, everything + 0.1, 5.0):
            best = program(r, eps)
            # 1: the minimum over t; on the flat pieces of F a fraction is monotone in t, so that
            # corners suffice, and a grid can only be larger
            corners = [(eps + area(r, t)) / t for t in finite if t > 0] + [share(r, 1e9)[0]]
            grid = [(eps + area(r, t)) / t for t in np.geomspace(0.01, 50, 40)]
            dual = max(dual, abs(min(corners) - best), best - min(grid))
            # 3: F(eps) <= H(eps) <= F(t) + eps / t
            below = max(below, share(r, eps)[0] - best)
            markov = max(markov, max(best - share(r, t)[0] - eps / t for t in (0.1, 0.7, 2.0, 9.0)))
            more = bool(np.any(finite > eps))
            strict += (best > share(r, eps)[0] + 1e-9) != more
            # 3: the largest distance that is used is at least eps / H(eps)
            if best < share(r, 1e9)[0] - 1e-9:
                used = np.sort(r)[min(math.ceil(best * len(r) - 1e-9), len(r)) - 1]
                reach = max(reach, eps / best - used)
        for t in (*np.unique(finite), 0.3, 4.0):  # 2: the change of radius
            cost = t * share(r, t)[0] - area(r, t)
            paid = np.sum(finite[finite <= t]) / len(r)
            change = max(change, abs(cost - paid))
            if cost > 1e-12:
                change = max(change, abs(program(r, cost) - share(r, t)[0]))
        steps = np.unique(finite[finite > 0])
        for a, b in itertools.pairwise(steps):  # 2: straight in between
            left, right = (t * share(r, t)[0] - area(r, t) for t in (a, b))
            for w in (0.25, 0.6):
                here = program(r, left + w * (right - left))
                line = (1 - w) * share(r, a)[0] + w * share(r, b)[0]
                between = max(between, abs(here - line))
    c.close("minimum over t against linear programs", dual, 0.0, 1e-7)
    c.close("equal values at t and at the mean cost e(t)", change, 0.0, 1e-7)
    c.close("straight between the corners", between, 0.0, 1e-7)
    c.at_most("F(eps) minus H(eps)", below, 1e-9)
    c.at_most("H(eps) minus F(t) + eps / t", markov, 1e-9)
    c.at_most("eps / H(eps) minus the largest distance used", reach, 1e-7)
    c.close("cases in which strictness is not as stated", strict, 0, 0.5)


def order_one(r, eps):
    return wdro.knapsack(r, eps, 1).value  # its values are those of linear programs: test above


def test_curves_cross(claim):
    c, rng = claim("prop-curves-cross"), np.random.default_rng(81)
    radii = np.geomspace(1e-3, 6, 160)
    for r in (lists(rng, 5) for _ in range(10)):
        c.close("knapsack against a linear program", order_one(r, 0.3), program(r, 0.3), 1e-7)
    wrong, ordered, undominated = 0, 0, 0
    for _ in range(70):  # 1: order of the areas, order of the curves
        a, b = (lists(rng, 4, infinite=False) for _ in range(2))
        if rng.random() < 0.6:
            a = np.sort(a) + rng.uniform(-0.3, 0.6, 4).clip(-np.sort(a))
        t = np.union1d(np.union1d(a, b), [9.0])
        areas = np.array([area(a, s) - area(b, s) for s in t])
        if np.min(np.abs(areas[np.abs(areas) > 1e-12]), initial=1) < 2e-3:
            continue  # a grid of radii does not see so small a difference
        curves = np.array([order_one(a, e) - order_one(b, e) for e in radii])
        least, most = share(a, t) - share(b, t), areas.max() <= 1e-12
        wrong += most != (curves.max() <= 1e-9)
        ordered += most
        undominated += most and least.max() > 0
    c.close("area order and order of the curves disagree", wrong, 0, 0.5)
    c.at_least("pairs in order", ordered, 5)
    c.at_least("pairs in order at order 1 and not at order infinity", undominated, 1)
    a, b = np.array([2.0, 2.0]), np.array([1.0, 3.0])  # the example of the text
    c.at_least("example: F_a(2.5) - F_b(2.5)", float((share(a, 2.5) - share(b, 2.5))[0]), 0.5)
    worst = max(order_one(a, e) - order_one(b, e) for e in radii)
    c.at_most("example: H_a - H_b", worst, 1e-12)
    wrong = 0
    for _ in range(60):  # 2: one radius
        a, b, eps = lists(rng, 5), lists(rng, 6), rng.uniform(0.01, 1.5)
        h = order_one(b, eps)
        cost = price(a, h)
        if h > 0 and abs(cost - eps) > 1e-9:
            wrong += (program(a, eps) < h - 1e-9) != (cost > eps)
    c.close("the price of the other's error rate decides: exceptions", wrong, 0, 0.5)
    turns, early, crossed = 0, 0.0, 0
    for _ in range(70):  # 3: one crossing
        n = int(rng.integers(3, 8))
        b = np.sort(rng.uniform(0, 2, n))
        at = rng.uniform(0.3, 1.7)
        push = rng.uniform(0, 1, n) * rng.uniform(0, 1)
        a = np.where(b < at, b * (1 - push), b + push)
        gap = np.array([order_one(a, e) - order_one(b, e) for e in radii])
        signs = np.sign(np.where(np.abs(gap) < 1e-9, 0, gap))
        signs = signs[signs != 0]
        turns += np.any(np.diff(signs) > 0)  # from better to worse: must not happen
        if np.any(signs > 0) and np.any(signs < 0):
            crossed += 1
            k = np.flatnonzero(gap < -1e-9)[0]  # the first radius at which a is better
            early = max(early, np.mean(a < at) - order_one(b, radii[k]))
    c.at_least("pairs whose curves cross", crossed, 10)
    c.close("curves that turn back", turns, 0, 0.5)
    c.at_most("F_a(t*-) minus the error rate after the crossing", early, 1e-9)


# ------------------------------------------------------------------------------- networks

JOB = scale_experiments.Job(size=8, epochs=6, images=600, test=300)
COUNT = 30


@functools.cache
def network(method, seed):
    """A network of another seed and another size than those of the page, and its images."""
    torch.set_num_threads(1)
    model = scale_experiments.trained(JOB, method, seed).model
    parts = scale_experiments.images(JOB, seed)
    return model, parts.test_x[:COUNT], parts.test_y[:COUNT]


@functools.cache
def fresh(method, seed):
    """The same with its distances to error."""
    model, x, y = network(method, seed)
    options = {"low": 0.0, "high": 1.0, "targets": 3, "steps": 20, "polish": 10}
    found = wdro_attacks.nearest_errors(model, x, y, math.inf, **options)
    return model, x, y, found.distances


@functools.cache
def stored():
    result = scale_experiments.load(RESULT)
    return {(row["method"], row["seed"]): row for row in result["rows"]}, result["seeds"]


METHODS = ("standard", "gradient-penalty-1", "pgd-10")


def both(r, radius):
    """Errors of order infinity and of order 1, the latter by the area formula's own program."""
    r = np.asarray(r)
    return float((r <= radius).mean()), program(r, radius)


def test_deep_wasserstein(claim):
    c, (rows, seeds) = claim("obs-deep-wasserstein"), stored()
    c.close("seeds stored", len(seeds), 4, 0.5)
    errors = {
        (m, s, radius): both(rows[m, s]["distances"], radius)
        for m in METHODS
        for s in seeds
        for radius in (0.01, 0.02, 0.03, 0.05, 0.15)
    }
    others = METHODS[:2]
    for s in seeds:
        for order, radius in ((0, 0.05), (0, 0.15), (1, 0.02), (1, 0.05)):
            least = min(errors[m, s, radius][order] for m in others)
            c.at_least("others minus PGD-10", least - errors["pgd-10", s, radius][order], 1e-6)
        standard = errors["standard", s, 0.05][1]
        c.at_least("order 1, 0.05: standard - PGD-10", standard - errors["pgd-10", s, 0.05][1], 0.3)
        gap = standard - errors["gradient-penalty-1", s, 0.05][1]
        c.at_least("order 1, 0.05: standard - penalty", gap, 0.1)
        high, low = (errors["gradient-penalty-1", s, 0.03][k] for k in (0, 1))
        c.at_least("order infinity, 0.03: penalty", high - errors["standard", s, 0.03][0], 1e-6)
        c.at_least("order 1, 0.03: penalty", errors["standard", s, 0.03][1] - low, 1e-6)
        for m in METHODS:
            low, high = errors[m, s, 0.05]
            c.at_least("order 1 over order infinity at 0.05", high / low, 2)
            row = rows[m, s]
            c.at_least("gain of the loss, the same", row["grown_1"][0] / row["grown_inf"][0], 4)
            if m != "standard":
                ratio = rows["standard", s]["grown_1"][0] / row["grown_1"][0]
                c.at_least("gain of order 1, standard over other", ratio, 2)

    def ahead(other):  # mean error of order infinity, minus that of standard training
        gaps = [errors[other, s, 0.01][0] - errors["standard", s, 0.01][0] for s in seeds]
        return float(np.mean(gaps))

    for m in METHODS[1:]:
        c.at_least(f"order infinity, 0.01: {m} - standard", ahead(m), 1e-6)
    for seed in (31, 32):
        plain, robust = (fresh(m, seed)[3] for m in ("standard", "pgd-5"))
        for order, radius in ((0, 0.1), (1, 0.03), (1, 0.1)):
            gap = both(plain, radius)[order] - both(robust, radius)[order]
            c.at_least(f"fresh, order {(math.inf, 1)[order]}, {radius}: difference", gap, 1e-6)


def test_deep_vacuous(claim):
    c, (rows, seeds) = claim("obs-deep-vacuous"), stored()
    for m in METHODS:
        for s in seeds:
            row = rows[m, s]
            certified, found = np.array(row["certified"]), np.array(row["distances"])
            c.at_least("product bound", row["bound"], 1e8)
            right = found > 0
            c.at_most("certified over found", float((certified[right] / found[right]).max()), 1e-7)
    for m in ("standard", "pgd-5"):
        model, x, _, found = fresh(m, 31)
        slopes = [
            torch.autograd.functional.jacobian(model[:-1], x[i : i + 1]).flatten(2).abs().sum(2)
            for i in range(5)
        ]
        bound = scale_experiments.feature_bound(model)
        c.at_least(
            "fresh: bound over slope", bound / max(float(part.max()) for part in slopes), 1e4
        )
        certified = scale_experiments.certified_radii(model, x, fresh(m, 31)[2])
        c.at_most("fresh: certified minus found", float((certified - found).max()), 0.0)


def test_distance_attack(claim):
    c, (rows, seeds) = claim("obs-distance-attack"), stored()
    for m in METHODS:
        for k in (0, 1):
            near = [np.array(rows[m, s]["distances"]) <= rows[m, s]["radii"][k] for s in seeds]
            ball = [np.array(rows[m, s]["broken"][k], dtype=bool) for s in seeds]
            near, ball = np.concatenate(near), np.concatenate(ball)
            c.at_most("distance only", float((near & ~ball).mean()), 0.03)
            c.close("fixed radius only", int((ball & ~near).sum()), 0, 0.5)
        for s in seeds:
            row = rows[m, s]
            first = np.array(row["distances"])[:20] <= row["radii"][1]
            c.close("images that AutoAttack breaks", 20 * row["autoattack"], int(first.sum()), 1e-6)
    for m in ("standard", "pgd-5"):
        for seed in (31, 32):
            model, x, y, found = fresh(m, seed)
            for radius in (0.05, 0.1, 0.15):
                g = torch.Generator().manual_seed(1)
                ball = attacks.Ball(radius)
                judged = attacks.worst_of(model, x, y, ball, steps=20, restarts=1, generator=g)
                near, broken = found <= radius, (~judged.robust).numpy()
                c.at_most("fresh: disagreement", float((near != broken).mean()), 0.05)
                c.close("fresh: fixed radius only", int((broken & ~near).sum()), 0, 0.5)


def survivors(model, z, y):
    with torch.no_grad():
        return float((model(z).argmax(dim=1) == y).double().mean())


def test_masking_checks(claim):
    c = claim("obs-masking-checks")
    for seed in (31, 32):
        plain, x, y = network("standard", seed)
        robust = network("pgd-5", seed)[0]
        models = {
            "standard": (plain, robust),
            "pgd-5": (robust, plain),
            "masked": (lambda z, plain=plain: 1e4 * plain(z), robust),
        }
        for name, (model, other) in models.items():
            ball, everything = attacks.Ball(0.1), attacks.Ball(1.0)
            g = torch.Generator().manual_seed(0)
            one, ten, forty = (
                survivors(model, attacks.pgd(model, x, y, ball, steps=k, keep="best").points, y)
                for k in (1, 10, 40)
            )
            two = attacks.worst_of(model, x, y, ball, steps=10, restarts=1, generator=g).accuracy
            whole = attacks.pgd(model, x, y, everything, steps=40, keep="best").points
            noise = survivors(model, ball.random(x, g), y)
            moved = attacks.pgd(other, x, y, ball, steps=40, keep="best").points
            transfer = survivors(model, moved, y)
            c.at_most(f"{name}: steps, 10 to 40", ten - forty, 0.05)
            c.at_most(f"{name}: steps, 40 against 1", forty - one, 0.0)
            if name == "masked":
                c.at_least("masked: losses", forty - two, 0.11)
                c.at_least("masked: whole box", survivors(model, whole, y), 0.5)
                c.at_most("masked: noise", noise - forty, 0.05)
                c.at_least("masked: transfer", forty - transfer, 1e-6)
            else:
                c.at_most(f"{name}: losses", forty - two, 0.1)
                c.at_most(f"{name}: whole box", survivors(model, whole, y), 0.02)
                c.at_least(f"{name}: noise", noise - forty, 0.0501)
                c.at_least(f"{name}: transfer", transfer - forty, 0.0)
