"""Witnesses of chapter 3, notebook 1: what "is regularization" can mean, linear models."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from advreg import linear

NORMS = (1, 2, np.inf)
MARGIN_LOSSES = {
    "hinge": lambda u: np.maximum(0.0, 1 - u),
    "logistic": lambda u: np.logaddexp(0.0, -u),
    "exponential": lambda u: np.exp(-u),
    "zero-one": lambda u: (u <= 0).astype(float),
    "minus tanh": lambda u: -np.tanh(u),
    "staircase": lambda u: -np.floor(u),
}


def ball(norm, dimension):
    """Points of the unit ball among which every linear function has its maximum.

    The vertices for the l1 and the l-infinity ball; for the round one, in the plane only,
    a regular polygon with 20,000 corners (relative error 1.3e-8).
    """
    if norm == np.inf:
        return np.array(list(itertools.product([-1.0, 1.0], repeat=dimension)))
    if norm == 1:
        return np.vstack([np.eye(dimension), -np.eye(dimension)])
    assert dimension == 2
    angle = 2 * np.pi * np.arange(20000) / 20000
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def problems(rng, count, norm):
    """Random linear models and samples, and degenerate ones: w = 0, ties, equal samples."""
    d = 2 if norm == 2 else 6
    for i in range(count):
        w, x = rng.standard_normal(d), rng.standard_normal((7, d))
        if i == 0:
            w = np.zeros(d)
        elif i == 1:
            w = np.ones(d)  # the worst point of the l1 ball is not unique
        elif i == 2:
            w[0], x[1:] = 0.0, x[0]
        yield w, rng.standard_normal(), x, rng.choice([-1.0, 1.0], 7), rng.uniform(0.05, 2)


# ------------------------------------------------------------------------- the score moves


@pytest.mark.parametrize("norm", NORMS)
def test_dual_norms_of_the_library(norm):
    rng = np.random.default_rng(1)
    for w, *_ in problems(rng, 6, norm):
        top = (ball(norm, len(w)) @ w).max()
        assert abs(linear.dual_norm(w, norm) - top) <= 1e-6 * max(1, top)
        worst = np.asarray(linear.worst_perturbation(w, norm))
        assert np.linalg.norm(worst, norm) <= 1 + 1e-12
        assert abs(worst @ w - top) <= 1e-6 * max(1, top)


def test_dual_norms(claim):
    c = claim("lem-dual-norms")
    rng = np.random.default_rng(2)
    for norm in NORMS:
        gap = 0.0
        for w, *_ in problems(rng, 40, norm):
            formula = {1: np.abs(w).max(), 2: np.sqrt(w @ w), np.inf: np.abs(w).sum()}[norm]
            gap = max(gap, abs((ball(norm, len(w)) @ w).max() - formula))
            gap = max(gap, abs(linear.dual_norm(w, norm) - formula))
        c.at_most(f"attack norm {norm}: formula against the points of the ball", gap, 1e-6)
    # The ellipsoid, by brute force over its boundary, and its worst point.
    circle, gap, outside, short = ball(2, 2), 0.0, 0.0, 0.0
    for _ in range(40):
        root = rng.standard_normal((2, 2)) + 0.1 * np.eye(2)
        cov = root @ root.T
        w = rng.standard_normal(2)
        size = np.sqrt(np.einsum("ni,ij,nj->n", circle, np.linalg.inv(cov), circle))
        formula = np.sqrt(w @ cov @ w)
        gap = max(gap, abs(((circle / size[:, None]) @ w).max() / formula - 1))
        worst = cov @ w / formula
        outside = max(outside, abs(worst @ np.linalg.solve(cov, worst) - 1))
        short = max(short, abs(worst @ w / formula - 1))
    c.at_most("ellipsoid: formula against its boundary (relative)", gap, 1e-3)
    c.at_most("ellipsoid: the worst point lies on the boundary", outside, 1e-7)
    c.at_most("ellipsoid: it attains the dual norm", short, 1e-7)
    # Weights per coordinate, |e_i| <= tau_i: a linear program.
    tau, w = rng.uniform(0, 2, 9), rng.standard_normal(9)
    box = linprog(-w, bounds=np.stack([-tau, tau], 1))
    c.close("weighted box against a linear program", tau @ np.abs(w), -box.fun, 1e-9)


def test_score_interval(claim):
    c = claim("lem-score-interval")
    rng = np.random.default_rng(3)
    for norm in NORMS:
        below = above = hole = 0.0
        for w, b, x, _, delta in problems(rng, 12, norm):
            size = linear.dual_norm(w, norm)
            scores = (x[0] + delta * ball(norm, len(w))) @ w + b
            below = max(below, abs(scores.min() - (x[0] @ w + b - delta * size)))
            above = max(above, abs(scores.max() - (x[0] @ w + b + delta * size)))
            # Every value in between is met on the segment between two worst points.
            end = delta * ball(norm, len(w))[np.argmax(ball(norm, len(w)) @ w)]
            inner = (x[0] + np.linspace(-1, 1, 41)[:, None] * end) @ w + b
            want = x[0] @ w + b + delta * size * np.linspace(-1, 1, 41)
            hole = max(hole, np.abs(inner - want).max())
        c.at_most(f"attack norm {norm}: lower end", below, 1e-6)
        c.at_most(f"attack norm {norm}: upper end", above, 1e-6)
        c.at_most(f"attack norm {norm}: values in between", hole, 1e-6)


def test_margin_risk(claim):
    c = claim("thm-margin-risk")
    rng = np.random.default_rng(4)
    for norm in NORMS:
        gap = dict.fromkeys(MARGIN_LOSSES, 0.0)
        library = universal = 0.0
        for w, b, x, y, delta in problems(rng, 12, norm):
            size = linear.dual_norm(w, norm)
            attacked = (x[:, None] + delta * ball(norm, len(w))) @ w + b
            margins = y[:, None] * attacked
            for name, loss in MARGIN_LOSSES.items():
                brute = loss(margins).max(axis=1)
                formula = loss(y * (x @ w + b) - delta * size)
                scale = np.maximum(1, np.abs(formula))
                gap[name] = max(gap[name], (np.abs(brute - formula) / scale).max())
                if name in linear.LOSSES:
                    risk = linear.adversarial_risk(w, b, x, y, delta, norm, name)
                    library = max(library, abs(risk / brute.mean() - 1) if brute.any() else risk)
            one = -y[:, None] * delta * np.asarray(linear.worst_perturbation(w, norm))
            moved = y * ((x + one) @ w + b)
            universal = max(universal, np.abs(moved - margins.min(axis=1)).max())
        for name, value in gap.items():
            c.at_most(f"{name}, attack norm {norm}: brute force against formula", value, 1e-5)
        c.at_most(f"attack norm {norm}: library against brute force", library, 1e-6)
        c.at_most(f"attack norm {norm}: one attack per label suffices", universal, 1e-6)
    # Zero-one loss with a margin exactly on the threshold: the adversary wins.
    w, x = np.array([1.0, -1.0]), np.array([0.5, 0.0])
    hit = MARGIN_LOSSES["zero-one"]((x + 0.25 * ball(np.inf, 2)) @ w).max()
    c.close("margin equal to delta times the dual norm: error", hit, 1.0, 1e-12)
    # Distance to the decision boundary, by a linear program (l-infinity).
    w, b, x = rng.standard_normal(5), 0.3, rng.standard_normal(5)
    rows = np.vstack([np.c_[np.eye(5), -np.ones(5)], np.c_[-np.eye(5), -np.ones(5)]])
    lp = linprog(
        np.r_[np.zeros(5), 1],
        A_ub=rows,
        b_ub=np.zeros(10),
        A_eq=np.r_[w, 0.0][None],
        b_eq=[-(w @ x + b)],
        bounds=[(None, None)] * 6,
    )
    distance = abs(w @ x + b) / linear.dual_norm(w, np.inf)
    c.close("distance to the boundary against a linear program", distance, lp.fun, 1e-9)
    # The naive formula adds the dual norm outside the loss: an upper bound, and how loose.
    excess, tight = np.inf, np.inf
    for w, b, x, y, delta in problems(rng, 40, np.inf):
        risk = linear.adversarial_risk(w, b, x, y, delta, np.inf, "hinge")
        naive = linear.adversarial_risk(w, b, x, y, 0.0, np.inf, "hinge") + delta * np.abs(w).sum()
        excess = min(excess, naive - risk)
        inside = linear.adversarial_risk(w, b, 0.0 * x, y, delta, np.inf, "hinge")
        if abs(b) <= 1:  # every margin is at most 1
            at_zero = linear.adversarial_risk(w, b, 0.0 * x, y, 0.0, np.inf, "hinge")
            tight = min(tight, inside - at_zero - delta * np.abs(w).sum())
    c.at_least("hinge: naive minus true, never negative", excess, -1e-12)
    c.at_least("hinge: equal if no margin exceeds 1", tight, -1e-12)
    # One margin above 1, however little, and the bound is strict: by brute force.
    hinge, least, most = MARGIN_LOSSES["hinge"], np.inf, 0.0
    for w, b, x, y, delta in problems(rng, 40, np.inf):
        if not w.any():
            continue
        x = x + ((y - x @ w - b) / (w @ w))[:, None] * w  # every margin equals 1
        for lift in (0.0, 0.05):
            x[0] += lift * y[0] * w / (w @ w)
            brute = hinge(y[:, None] * ((x[:, None] + delta * ball(np.inf, 6)) @ w + b))
            rise = brute.max(axis=1) - hinge(y * (x @ w + b))
            short = delta * np.abs(w).sum() - rise.mean()
            if lift:
                least = min(least, short * len(y) / min(lift, delta * np.abs(w).sum()))
            else:
                most = max(most, abs(short))
    c.at_most("hinge: equal if every margin is exactly 1", most, 1e-9)
    c.at_least("hinge: strict by the excess of the one margin above 1", least, 1 - 1e-9)


def test_residual_risk(claim):
    c = claim("thm-residual-risk")
    rng = np.random.default_rng(5)
    for norm in NORMS:
        gap = dict.fromkeys((0.5, 1, 1.5, 2, 3), 0.0)
        squared = absolute = library = minkowski = ends = 0.0
        for w, b, x, y, delta in problems(rng, 12, norm):
            target = 2 * y * rng.random(7)
            target[0] = x[0] @ w + b  # a residual of exactly zero
            size = linear.dual_norm(w, norm)
            residual = target - x @ w - b
            worst = delta * ball(norm, len(w))[np.argmax(ball(norm, len(w)) @ w)]
            signs = np.where(residual >= 0, -1.0, 1.0)
            reached = np.abs(target - (x + signs[:, None] * worst) @ w - b)
            ends = max(ends, np.abs(reached - np.abs(residual) - delta * size).max())
            moved = np.abs(target[:, None] - (x[:, None] + delta * ball(norm, len(w))) @ w - b)
            for p in gap:
                brute, formula = (moved**p).max(axis=1), (np.abs(residual) + delta * size) ** p
                gap[p] = max(
                    gap[p],
                    np.abs(brute / np.maximum(formula, 1e-9) - 1).max()
                    if size
                    else np.abs(brute - formula).max(),
                )
                if p >= 1:
                    left = brute.mean() ** (1 / p)
                    right = (np.abs(residual) ** p).mean() ** (1 / p) + delta * size
                    minkowski = max(minkowski, left - right)
            rise = (moved**2).max(axis=1).mean() - (residual**2).mean()
            want = 2 * delta * size * np.abs(residual).mean() + (delta * size) ** 2
            squared = max(squared, abs(rise - want))
            rise = moved.max(axis=1).mean() - np.abs(residual).mean()
            absolute = max(absolute, abs(rise - delta * size))
            for name, p in (("squared", 2), ("absolute", 1)):
                risk = linear.adversarial_risk(w, b, x, target, delta, norm, name)
                library = max(library, abs(risk - (moved**p).max(axis=1).mean()))
        for p, value in gap.items():
            c.at_most(f"power {p:g}, attack norm {norm}: relative error", value, 1e-6)
        c.at_most(f"attack norm {norm}: where the maximum is attained", ends, 1e-6)
        c.at_most(f"squared loss, attack norm {norm}: gap formula", squared, 1e-5)
        c.at_most(f"absolute loss, attack norm {norm}: gap formula", absolute, 1e-6)
        c.at_most(f"attack norm {norm}: library against brute force", library, 1e-5)
        c.at_most(f"attack norm {norm}: p-th root at most root plus dual norm", minkowski, 1e-6)
    r, d = np.array([-0.7, 0.7, 0.7]), 0.3  # all residuals of one size: equality
    root = ((np.abs(r) + d) ** 3).mean() ** (1 / 3)
    c.close("p-th root, residuals of one size: equality", root, 0.7 + d, 1e-12)
    r = np.array([0.2, 0.7, 1.0])
    loose = (np.abs(r) ** 2).mean() ** 0.5 + d - ((np.abs(r) + d) ** 2).mean() ** 0.5
    c.at_least("p-th root, residuals of several sizes: strict", loose, 0.01)


# ------------------------------------------------------------------------- which losses


def moving_maximum(loss, u, radius, sign=1.0):
    """max over |v| <= radius of sign * loss(u + v), minus sign * loss(u), on a grid of v."""
    v = radius * np.linspace(-1, 1, 4001)
    return np.array([(sign * loss(s + v)).max() - sign * loss(np.array([s]))[0] for s in u])


def oscillation(loss, radius, sign=1.0):
    gap = moving_maximum(loss, np.linspace(-3, 3, 121), radius, sign)
    return gap.max() - gap.min()


V_SHAPED = {
    "affine, falling": (lambda u: 2 - 1.5 * u, 1.5),
    "affine, rising": (lambda u: 0.3 * u, 0.3),
    "constant": (lambda u: 0.0 * u + 4, 0.0),
    "absolute value": (lambda u: np.abs(u), 1.0),
    "shifted V": (lambda u: 2.5 * np.abs(u - 0.7) - 1, 2.5),
}
OTHERS = {
    "square": lambda u: u**2,
    "hinge": MARGIN_LOSSES["hinge"],
    "logistic": MARGIN_LOSSES["logistic"],
    "zero-one": MARGIN_LOSSES["zero-one"],
    "concave tent": lambda u: -np.abs(u),
    "V with two slopes": lambda u: np.maximum(u, -0.8 * u),
    "V with a flat bottom": lambda u: np.maximum(np.abs(u) - 0.2, 0),
    "W": lambda u: np.abs(np.abs(u) - 1),
    "Huber": lambda u: np.where(np.abs(u) < 1, u**2 / 2, np.abs(u) - 0.5),
}


def test_v_shape(claim):
    c = claim("thm-v-shape")
    u = np.linspace(-3, 3, 121)
    for name, (loss, slope) in V_SHAPED.items():
        worst = max(
            np.abs(moving_maximum(loss, u, d) - slope * d).max() for d in (0.1, 0.37, 1, 2.4)
        )
        c.at_most(f"{name}: gap equals slope times D", worst, 1e-12)
    for name, loss in OTHERS.items():
        c.at_least(f"{name}: the gap varies", max(oscillation(loss, d) for d in (0.5, 1)), 0.1)
    # Both gaps constant: affine only.
    for name in ("affine, falling", "affine, rising", "constant"):
        low = oscillation(V_SHAPED[name][0], 0.8, sign=-1.0)
        c.at_most(f"{name}: lower gap constant", low, 1e-12)
    for name in ("absolute value", "shifted V"):
        low = oscillation(V_SHAPED[name][0], 0.8, sign=-1.0)
        c.at_least(f"{name}: lower gap varies", low, 0.5)

    def wiggle(t):
        return t + 0.05 * np.sin(2 * np.pi * t)

    for d in (1, 2, 3):
        c.at_most(f"wiggle, D = {d}: gap constant", oscillation(wiggle, d), 1e-9)
    c.close("wiggle, D = 1/2: oscillation", oscillation(wiggle, 0.5), 0.2, 1e-3)
    # No other loss in a family: continuous piecewise linear on a grid of slopes in {-1, 0, 1}.
    found = 0
    knots = np.array([-1.0, 0.0, 1.0])
    for slopes in itertools.product([-1.0, 0.0, 1.0], repeat=4):

        def loss(t, slopes=slopes):
            steps = np.diff(slopes)
            return slopes[0] * t + sum(
                s * np.maximum(t - k, 0) for s, k in zip(steps, knots, strict=True)
            )

        flat = all(oscillation(loss, d) <= 1e-9 for d in (0.3, 0.5, 0.7, 1.1))
        jumps = np.flatnonzero(np.diff(slopes))
        v_shaped = len(jumps) == 0 or (len(jumps) == 1 and slopes[0] == -1 and slopes[3] == 1)
        found += flat
        assert flat == v_shaped, slopes
    c.close("piecewise linear losses with constant gap, of 81", found, 6, 0.5)
    # Part 2: hinge and square, two one-point laws and one model with two different gaps.
    w, b, delta = np.array([1.0, -2.0]), 0.5, 0.4
    near, far = np.array([[0.2, 0.1]]), np.array([[5.0, -5.0]])
    one = np.ones(1)
    for loss, least in (("hinge", 0.5), ("logistic", 0.3), ("squared", 1.0)):
        rise = [
            linear.adversarial_risk(w, b, x, one, delta, np.inf, loss)
            - linear.adversarial_risk(w, b, x, one, 0.0, np.inf, loss)
            for x in (near, far)
        ]
        c.at_least(f"{loss}: one model, two data sets, two gaps", abs(rise[0] - rise[1]), least)
    rise = [
        linear.adversarial_risk(w, b, x, one, delta, np.inf, "absolute")
        - linear.adversarial_risk(w, b, x, one, 0.0, np.inf, "absolute")
        for x in (near, far)
    ]
    c.close("absolute: one model, two data sets, one gap", rise[0] - rise[1], 0.0, 1e-12)


# ------------------------------------------------------------------------- several classes


def cross_entropy(scores, label):
    s = scores - scores[..., label : label + 1]
    top = s.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(s - top).sum(axis=-1, keepdims=True)))[..., 0]


def exact_and_bound(w, b, x, label, delta, norm):
    """Largest cross-entropy over the ball by enumeration, and the pairwise bound."""
    scores = (x + delta * ball(norm, w.shape[1])) @ w.T + b
    shift = delta * np.linalg.norm(w - w[label], {1: np.inf, 2: 2, np.inf: 1}[norm], axis=1)
    return cross_entropy(scores, label).max(), cross_entropy(x @ w.T + b + shift, label).item()


def test_multiclass(claim):
    c = claim("thm-multiclass")
    rng = np.random.default_rng(7)
    above, two = 0.0, 0.0
    for _ in range(40):
        for norm, d in ((np.inf, 6), (1, 6), (2, 2)):
            for k in (2, 4):
                w, b, x = (
                    rng.standard_normal((k, d)),
                    rng.standard_normal(k),
                    rng.standard_normal(d),
                )
                exact, bound = exact_and_bound(w, b, x, k - 1, 0.3, norm)
                above = max(above, exact - bound)
                two = max(two, abs(exact - bound)) if k == 2 else two
    c.at_most("exact minus pairwise bound, never positive", above, 1e-9)
    c.at_most("two classes: equality", two, 1e-6)

    # (a) Moving x inside the kernel of W changes neither the scores nor the worst loss.
    w, b, x = rng.standard_normal((3, 7)), rng.standard_normal(3), rng.standard_normal(7)
    null = np.linalg.svd(w)[2][3:]
    moved = x + 5 * rng.standard_normal(4) @ null
    worst = [exact_and_bound(w, b, point, 0, 0.2, np.inf)[0] for point in (x, moved)]
    c.close("moving in the kernel: change of the worst loss", worst[1] - worst[0], 0.0, 1e-10)

    # (b) l-infinity: equality for all labels iff every column has at most two values.
    tight, strict = 0.0, np.inf
    for _ in range(40):
        k, d = 4, 6
        values = rng.standard_normal((2, d))
        w = np.where(rng.random((k, d)) < 0.5, values[0], values[1])
        x, b = rng.standard_normal(d), rng.standard_normal(k)
        pairs = [exact_and_bound(w, b, x, label, 0.3, np.inf) for label in range(k)]
        tight = max(tight, *(bound - exact for exact, bound in pairs))
        w[0, 0], w[1, 0], w[2, 0] = -1.0, 0.0, 1.0  # one column with three values
        pairs = [exact_and_bound(w, 0 * b, 0 * x, label, 0.3, np.inf) for label in range(k)]
        strict = min(strict, max(bound - exact for exact, bound in pairs))
    c.at_most("l-infinity, columns of two values: bound minus exact", tight, 1e-12)
    c.at_least("l-infinity, one column of three values: strict for some label", strict, 1e-2)
    w = rng.uniform(0.1, 2, (4, 6))
    pairs = [exact_and_bound(w, 0 * w[:, 0], 0 * w[0], label, 0.3, np.inf) for label in range(4)]
    loose = max(bound - exact for exact, bound in pairs)
    c.at_least("l-infinity, positive rows do not suffice: largest excess", loose, 0.05)

    # The conditions of parts 2 and 3 on small integers, where ties and equal rows abound.
    counts = np.zeros(3, dtype=int)
    for i in range(300):
        k, norm = (3, 4)[i % 2], (np.inf, 1)[i // 2 % 2]
        w, x = rng.integers(0, 3, (k, 3)).astype(float), rng.standard_normal(3)
        equal = []
        for label in range(k):
            exact, bound = exact_and_bound(w, rng.standard_normal(k), x, label, 0.5, norm)
            gains = ball(norm, 3) @ (w - w[label]).T
            aligned = (gains == gains.max(axis=0)).all(axis=1).any()
            assert (bound - exact <= 1e-12) == aligned, (w, label, norm)
            equal.append(aligned)
        if norm == np.inf:
            two_valued = all(len(set(column)) <= 2 for column in w.T)
            assert all(equal) == two_valued, w
            counts += [1, two_valued, any(equal) and not all(equal)]
    c.at_least("integer matrices, l-infinity: columns of two values", counts[1], 10)
    c.at_least("the others", counts[0] - counts[1], 10)
    c.at_least("tight for some labels only", counts[2], 10)

    # l2: never with three different rows; with two different ones always.
    strict, tight, spread = np.inf, 0.0, []
    for _ in range(40):
        w, x, b = rng.standard_normal((3, 2)), rng.standard_normal(2), rng.standard_normal(3)
        pairs = [exact_and_bound(w, b, x, label, 0.5, 2) for label in range(3)]
        strict = min(strict, max(bound - exact for exact, bound in pairs))
        w[2] = w[1]
        pairs = [exact_and_bound(w, b, x, label, 0.5, 2) for label in range(3)]
        tight = max(tight, *(bound - exact for exact, bound in pairs))
    c.at_least("l2, three different rows: strict for some label", strict, 1e-4)
    c.at_most("l2, two different rows: equality", tight, 1e-6)
    direction = np.array([0.6, -0.8])
    w = np.outer([-1.0, 0.5, 2.0], direction)
    spread = [
        float(np.subtract(*exact_and_bound(w, np.zeros(3), np.zeros(2), label, 0.5, 2)[::-1]))
        for label in range(3)
    ]
    c.at_most("l2, rows on a line: the outer labels are tight", max(spread[0], spread[2]), 1e-6)
    c.at_least("l2, rows on a line: the middle label is not", spread[1], 0.05)

    # No other pairwise shift does better: it is forced where class k leads by far.
    w, x = rng.standard_normal((3, 6)), np.zeros(6)
    forced = 0.0
    for k in (1, 2):
        b = np.zeros(3)
        b[k] = 60.0
        exact, _ = exact_and_bound(w, b, x, 0, 0.3, np.inf)
        forced = max(forced, abs(exact - 60 - 0.3 * np.abs(w[k] - w[0]).sum()))
    c.at_most("class k leads by 60: loss minus 60 is the pairwise norm", forced, 1e-9)
    b = np.array([60.0, 0.0, 0.0])
    c.at_most("the label leads by 60: no shift", exact_and_bound(w, b, x, 0, 0.3, np.inf)[0], 1e-9)

    # (c) Crammer-Singer: exact, ties included.
    worst = library = 0.0
    for i in range(60):
        k, d, norm = 4, 5, (np.inf, 1)[i % 2]
        w, b, x = rng.standard_normal((k, d)), rng.standard_normal(k), rng.standard_normal(d)
        if i < 4:
            w[1], b[1] = w[2], b[2]
        label = i % k
        one = 1.0 - np.eye(k)[label]
        scores = (x + 0.3 * ball(norm, d)) @ w.T + b
        exact = (one + scores - scores[:, label : label + 1]).max()
        z = x @ w.T + b
        shift = 0.3 * np.linalg.norm(w - w[label], np.inf if norm == 1 else 1, axis=1)
        worst = max(worst, abs(exact - (one + z - z[label] + shift).max()))
        risk = linear.crammer_singer_risk(w, b, x[None], np.array([label]), 0.3, norm)
        library = max(library, abs(risk - exact))
    c.at_most("Crammer-Singer: enumeration against formula", worst, 1e-12)
    c.at_most("Crammer-Singer: library against enumeration", library, 1e-12)
    gap = 0.0
    for norm in (np.inf, 1):
        w, b = rng.standard_normal((3, 6)), rng.standard_normal(3)
        x, y = rng.standard_normal((5, 6)), rng.integers(0, 3, 5)
        pairs = np.array(
            [exact_and_bound(w, b, p, t, 0.3, norm) for p, t in zip(x, y, strict=True)]
        ).mean(axis=0)
        gap = max(gap, abs(linear.cross_entropy_risk(w, b, x, y, 0.3, norm) - pairs[0]))
        gap = max(gap, abs(linear.pairwise_bound(w, b, x, y, 0.3, norm) - pairs[1]))
    c.at_most("library: exact risk and bound against enumeration", gap, 1e-12)


# ------------------------------------------------------------------------- digits


def three_or_eight():
    raw = load_digits()
    keep = np.isin(raw.target, (3, 8))
    return raw.data[keep] / 16, np.where(raw.target[keep] == 3, 1.0, -1.0)


def split_models(seeds):
    """Logistic regression on 240 images; yields the model and the other 117."""
    x, y = three_or_eight()
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        model = LogisticRegression(max_iter=2000).fit(x[order[:240]], y[order[:240]])
        yield model.coef_[0], model.intercept_[0], x[order[240:]], y[order[240:]]


def test_digits_attack(claim):
    c = claim("obs-digits-attack")
    rows, radii = [], []
    for w, b, x, y in split_models(range(300, 320)):
        margin = y * (x @ w + b)
        attacked = [
            (y * ((x - y[:, None] * 0.2 * np.sign(w)) @ w + b) > 0).mean(),
            (y * ((x - y[:, None] * 0.1 * np.sign(w)) @ w + b) > 0).mean(),
            (y * ((x - y[:, None] * 0.5 * w / np.linalg.norm(w)) @ w + b) > 0).mean(),
        ]
        rows.append([(margin > 0).mean(), *attacked])
        radii.append([np.median(np.abs(x @ w + b)) / np.linalg.norm(w, q) for q in (1, 2, np.inf)])
    clean, large, box, round_ = np.mean(rows, axis=0)
    c.at_most("l-infinity 0.2: accuracy", large, 0.25)
    c.at_least("clean accuracy (20 splits)", clean, 0.96)
    c.at_least("l-infinity 0.1: accuracy", box, 0.62)
    c.at_most("l-infinity 0.1: accuracy", box, 0.82)
    c.at_least("l2 0.5: accuracy", round_, 0.64)
    c.at_most("l2 0.5: accuracy", round_, 0.84)
    box, round_, one = np.mean(radii, axis=0)
    c.at_least("median l-infinity distance", box, 0.10)
    c.at_most("median l-infinity distance", box, 0.20)
    c.at_least("median l2 distance", round_, 0.5)
    c.at_most("median l2 distance", round_, 1.0)
    c.at_least("median l1 distance: more than one pixel can give", one, 1.0)


def pixel_drop(w, x, y, delta):
    """Largest fall of the margin with pixels kept in [0, 1], one linear program per image."""
    low, high = np.maximum(-delta, -x), np.minimum(delta, 1 - x)
    return np.array(
        [
            -linprog(t * w, bounds=np.stack([lo, hi], axis=1)).fun
            for lo, hi, t in zip(low, high, y, strict=True)
        ]
    )


def test_pixel_range(claim):
    c = claim("obs-pixel-range")
    share, accuracy = [], []
    for w, b, x, y in split_models(range(400, 405)):
        drop, free = pixel_drop(w, x, y, 0.15), 0.15 * np.abs(w).sum()
        margin = y * (x @ w + b)
        share.append([drop.min() / free, drop.mean() / free, drop.max() / free])
        accuracy.append([(margin > free).mean(), (margin > drop).mean()])
    low, mean, _ = np.mean(share, axis=0)
    c.at_most("smallest share of the free drop (5 splits)", low, 0.80)
    c.at_least("mean share of the free drop", mean, 0.85)
    c.at_most("mean share of the free drop", mean, 0.92)
    c.at_most("largest share of the free drop", np.max(share), 1.0 + 1e-12)
    free, kept = np.mean(accuracy, axis=0)
    c.at_least("accuracy gained by keeping the range", kept - free, 0.06)
    c.at_most("accuracy gained by keeping the range", kept - free, 0.15)
