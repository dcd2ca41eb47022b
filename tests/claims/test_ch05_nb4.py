"""Witnesses of chapter 5, notebook 4: FOSC-controlled stopping and dynamic training.

FOSC is the first-order stationary condition c(z) = max over the feasible set of <v - z, g(z)>.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from advreg import attacks, data, experiments, networks, training

NORMS = (1, 2, np.inf)
RESULTS = Path(__file__).parents[2] / "chapters" / "05_inner_problem" / "results"


def vertices(lo, hi):
    """All corners of a box; enough for the maximum of a linear function."""
    return np.array(list(itertools.product(*zip(lo, hi, strict=True))))


def fosc_by_definition(corners, z, g):
    """Largest first-order gain over a list of points that contains a maximizer."""
    return max(0.0, float(((corners - z) @ g).max()))


# ------------------------------------------------------------- the gain of a stopped attack


def sign_flow(gradient, start, lo, hi, level, h):
    """Euler's method for the sign flow, held at the faces, until FOSC first is at most ``level``.

    Returns the point and the time.
    """
    corners, z, time = vertices(lo, hi), start.copy(), 0.0
    for _ in range(400_000):
        g = gradient(z)
        if fosc_by_definition(corners, z, g) <= level:
            return z, time
        z, time = np.clip(z + h * np.sign(g), lo, hi), time + h
    raise AssertionError("the flow has not reached its level")


def quadratics(rng, count, size):
    """f(z) = z'Qz/2 + b'z around a clean x, a box with x in it, and the constant of f.

    Odd cases: x in a corner, a coordinate of width zero, no gradient at x.
    """
    for i in range(count):
        root = rng.standard_normal((2, 2))
        q = size * (root + root.T) * rng.uniform(0.1, 1)
        x, eps = rng.uniform(0, 1, 2), rng.uniform(0.1, 0.6)
        b = rng.standard_normal(2) - q @ x
        if i == 0:
            x = np.array([0.0, 1.0])
        lo, hi = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
        if i == 1:
            lo[0] = hi[0] = x[0]
        if i == 2:
            b = -q @ x
        # l-infinity to l1 norm of Q, over all signs
        beta = max(np.abs(q @ s).sum() for s in vertices([-1, -1], [1, 1]))
        yield q, b, x, eps, lo, hi, beta


def highest(q, b, lo, hi):
    """Maximum of a quadratic over a box in the plane, on a fine grid that has the corners."""
    axes = [np.linspace(a, z, 401) for a, z in zip(lo, hi, strict=True)]
    z = np.stack(np.meshgrid(*axes), axis=-1)
    return float((0.5 * np.einsum("...i,ij,...j->...", z, q, z) + z @ b).max())


def test_stopped_gain(claim):
    c = claim("prop-stopped-gain")
    rng = np.random.default_rng(5401)
    worst_gain, worst_time, unattacked, flat = 0.0, 0.0, 0.0, 0.0
    for size in (0.01, 0.3, 3.0):
        for q, b, x, eps, lo, hi, beta in quadratics(rng, 25, size):

            def f(z, q=q, b=b):
                return 0.5 * z @ q @ z + b @ z

            def gradient(z, q=q, b=b):
                return q @ z + b

            at_x = fosc_by_definition(vertices(lo, hi), x, gradient(x))
            share, h = rng.uniform(0.05, 0.95), eps / 2000
            level = share * at_x if at_x > 0 else 0.1
            z, time = sign_flow(gradient, x, lo, hi, level, h)
            gain, hinge = f(z) - f(x), max(0.0, at_x - level)
            slack = 3 * h * (np.abs(b).sum() + np.abs(q).sum() * 2)  # one step of Euler
            worst_gain = max(worst_gain, abs(gain - hinge) - 1.5 * beta * eps**2 - slack)
            bound = 2 * eps * (highest(q, b, lo, hi) - f(x)) / level
            worst_time = max(worst_time, time - bound - h)
            if size == 0.01 and at_x > 0.05:  # nearly linear: the hinge itself
                flat = max(flat, abs(gain / hinge - 1) - 2 * slack / hinge)
            # Level exactly equal to FOSC at the clean point: no attack.
            still, _ = sign_flow(gradient, x, lo, hi, at_x, h)
            unattacked = max(unattacked, float(np.abs(still - x).max()))
    c.at_most("gain beyond the hinge by more than 3/2 beta eps^2", worst_gain, 0.0)
    c.at_most("time beyond its bound", worst_time, 0.0)
    c.at_most("nearly linear losses: relative distance to the hinge", flat, 0.15)
    c.at_most("level equal to FOSC: moved", unattacked, 0.0)
    # The factor 2 eps of the time is sharp: start at a face, f' = 1 for a short way, then
    # a fast fall; the level is FOSC at the end of that way.
    eps, way = 1.0, 0.02
    grid = np.linspace(-eps, eps, 2_000_001)
    slope = np.clip(1 - (grid + eps - way) / (0.01 * way), 0, 1)
    rise = slope.sum() * (grid[1] - grid[0])
    fosc = slope * (eps - grid)
    level = (2 * eps - way) * (1 - 1e-9)
    time = grid[np.argmax(fosc <= level)] + eps
    c.close("time over bound in the extremal case", time / (2 * eps * rise / level), 1.0, 0.03)


# ---------------------------------------------------------------- what the update follows


def psi(u, eps, level):
    """The update penalty as printed, for a scalar tensor u."""
    if float(u.detach()) <= level / eps:
        return 0.0 * u
    return eps * u - level - level * torch.log(eps * u / level)


def dual(g, norm):
    return {1: g.abs().max(), 2: g.norm(), np.inf: g.abs().sum()}[norm]


def steepest(g, norm):
    if norm == np.inf:
        return torch.sign(g)
    if norm == 2:
        return g / g.norm()
    v = torch.zeros_like(g)
    k = int(g.abs().argmax())
    v[k] = torch.sign(g[k])
    return v


def best_point(g, norm, eps):
    """A maximizer of <v, g> over the ball, by search over its points (not by the dual norm)."""
    d = len(g)
    if norm == np.inf:
        points = torch.tensor(vertices([-1.0] * d, [1.0] * d))
    elif norm == 1:
        points = torch.cat([torch.eye(d), -torch.eye(d)]).double()
    else:  # d = 2: a fine polygon
        angle = 2 * torch.pi * torch.arange(200_000, dtype=torch.float64) / 200_000
        points = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    return eps * points[int((points @ g).argmax())]


def softplus_loss(theta, z):
    """Logistic loss of a net with six softplus units; theta is one flat vector."""
    d, h = len(z), 6
    w = theta[: h * d].reshape(h, d)
    b, a = theta[h * d : h * d + h], theta[h * d + h : h * d + 2 * h]
    return torch.nn.functional.softplus(-(a @ torch.nn.functional.softplus(w @ z + b)))


def stopped_update(theta, x, norm, eps, level):
    """Gradient in theta at the point where FOSC along the straight line first equals level."""
    z = x.clone().requires_grad_(True)
    g = torch.autograd.grad(softplus_loss(theta, z), z)[0]
    v = steepest(g, norm)

    def fosc(tau):
        z = (x + tau * v).requires_grad_(True)
        gz = torch.autograd.grad(softplus_loss(theta, z), z)[0]
        return float((best_point(gz, norm, eps) - tau * v) @ gz)

    taus = np.linspace(0, eps, 41)
    hit = next((i for i, t in enumerate(taus) if fosc(t) <= level), None)
    if hit is None:
        tau = eps
    elif hit == 0:
        tau = 0.0
    else:
        low, high = taus[hit - 1], taus[hit]
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if fosc(middle) <= level else (middle, high)
        tau = high
    t = theta.clone().requires_grad_(True)
    return torch.autograd.grad(softplus_loss(t, x + tau * v), t)[0], tau


def penalized(theta, x, norm, penalty):
    t, z = theta.clone().requires_grad_(True), x.clone().requires_grad_(True)
    value = softplus_loss(t, z)
    g = torch.autograd.grad(value, z, create_graph=True)[0]
    return torch.autograd.grad(value + penalty(dual(g, norm)), t)[0]


def test_update_penalty(claim):
    c = claim("prop-update-penalty")
    # psi is the integral of the effective radius, by quadrature; zero and flat at the onset.
    eps, level = 0.3, 0.2
    u = np.linspace(0, 5, 500_001)
    radius = np.clip(eps - level / np.maximum(u, 1e-12), 0, None)
    area = np.cumsum(radius) * (u[1] - u[0])
    formula = [float(psi(torch.tensor(t), eps, level)) for t in u[::5000]]
    c.at_most("psi against quadrature", float(np.abs(area[::5000] - formula).max()), 1e-5)
    rng = torch.Generator().manual_seed(5402)
    for norm, d in ((1, 4), (2, 2), (np.inf, 4)):
        theta = torch.randn(6 * d + 12, generator=rng, dtype=torch.float64)
        x = torch.randn(d, generator=rng, dtype=torch.float64)
        plain = penalized(theta, x, norm, lambda u: 0.0 * u)
        error, hinge_error = {}, {}
        for share, eps in itertools.product((0.3, 0.6, 0.9), (0.02, 0.01, 0.005)):
            z = x.clone().requires_grad_(True)
            u = dual(torch.autograd.grad(softplus_loss(theta, z), z)[0], norm).detach()
            level = share * eps * float(u)
            update, _ = stopped_update(theta, x, norm, eps, level)
            ours = penalized(theta, x, norm, lambda u, e=eps, q=level: psi(u, e, q)) - plain
            hinge = penalized(theta, x, norm, lambda u, e=eps, q=level: e * u - q) - plain
            size = float(hinge.norm())
            error[share, eps] = float((update - plain - ours).norm()) / size
            hinge_error[share, eps] = float((update - plain - hinge).norm()) / size
        c.at_most(
            f"l{norm}: error of psi at eps = 0.005",
            max(error[s, 0.005] for s in (0.3, 0.6, 0.9)),
            0.03,
        )
        for share in (0.3, 0.6, 0.9):
            c.close(
                f"l{norm}: error of the hinge, c_j/c(x) = {share}",
                hinge_error[share, 0.005],
                share,
                0.03,
            )
            halved = error[share, 0.005] / max(error[share, 0.02], 1e-9)
            c.at_most(f"l{norm}: error of psi falls with eps (factor 4), {share}", halved, 0.4)
        # At and below the onset nothing is attacked: the plain gradient.
        for level in (0.01 * float(u), 0.02 * float(u)):
            update, tau = stopped_update(theta, x, norm, 0.01, level)
            c.at_most(f"l{norm}: no attack", tau + float((update - plain).norm()), 1e-12)
    _update_penalty_bound(c)


def _update_penalty_bound(c):
    """The remainder, constant by constant, for logistic regression with the l-infinity ball."""
    rng = np.random.default_rng(5403)
    used, radius_used = 0.0, 0.0
    for _ in range(200):
        d, eps = 5, rng.uniform(0.01, 0.4)
        w, x = rng.standard_normal(d), rng.standard_normal(d)
        share = rng.uniform(0.05, 0.99)
        a, v = np.abs(w).sum(), -np.sign(w)

        taus = np.linspace(0, eps, 4001)
        points = x + taus[:, None] * v
        slope = 1 / (1 + np.exp(points @ w))  # minus the derivative of the loss in the margin
        u = slope[0] * a
        level = share * eps * u
        fosc = slope * a * (eps - taus)  # the gradient keeps its direction along the line
        tau = taus[np.argmax(fosc <= level)]
        curve = -slope[:, None] * points  # gradient in w along the line
        target = curve[0] + max(0.0, eps - level / u) * (curve[1] - curve[0]) / taus[1]
        second = np.abs(np.diff(curve, 2, axis=0)).sum(axis=1).max() / taus[1] ** 2
        beta = a**2 / 4
        along = np.abs((curve[1] - curve[0]) / taus[1]).sum()
        bound = 2 * beta * eps**2 / u * along + 0.5 * second * eps**2
        used = max(used, np.abs(curve[np.argmax(fosc <= level)] - target).sum() / bound)
        radius_used = max(radius_used, abs(tau - (eps - level / u)) / (2 * beta * eps**2 / u))
    c.at_most("share of the bound on the update that is used", used, 1.0)
    c.at_most("share of the bound on the radius that is used", radius_used, 1.0)


# ----------------------------------------------------------------------- the squared loss


@pytest.mark.parametrize("norm", NORMS)
def test_stopped_squared(claim, norm):
    c = claim("prop-stopped-squared")
    rng = np.random.default_rng(5404)
    residual, jump = 0.0, 0.0
    for i in range(60):
        d = 2 if norm == 2 else 4
        w, x, eps = rng.standard_normal(d), rng.standard_normal(d), rng.uniform(0.1, 2)
        r = rng.standard_normal()
        if i == 0:
            w[1:] = 0.0
        if i == 1:
            r = 1e-3
        g_dir = torch.tensor(-np.sign(r) * w)
        v = best_point(g_dir, norm, 1.0).numpy()
        a = float({1: np.abs(w).max(), 2: np.sqrt(w @ w), np.inf: np.abs(w).sum()}[norm])
        level = rng.uniform(0.02, 1.3) * eps * a * abs(r)
        if i == 2:
            level = eps * a * abs(r)  # exactly at the threshold
        taus = np.linspace(0, eps, 20_001)
        res = r - taus * (w @ v)  # residual y - w.(x + tau v)
        # FOSC by its definition: g = -res w, best point from a search over the ball
        best = eps * (v @ w)  # extreme value of <v, w>; the sign of g does not change on the way
        fosc = -res * (best - taus * (v @ w))
        hit = taus[np.argmax(fosc <= level * (1 + 1e-12))]
        total = abs(r) + eps * a
        formula = (
            0.5 * (total + np.sqrt(total**2 - 4 * level)) if level < eps * a * abs(r) else abs(r)
        )
        residual = max(residual, abs(abs(r - hit * (w @ v)) - formula) / (eps * a))
        if eps * a > abs(r):
            just = taus[np.argmax(fosc <= 0.999999 * eps * a * abs(r))]
            gain = 0.5 * ((r - just * (w @ v)) ** 2 - r**2)
            jump = max(jump, abs(gain - 0.5 * ((eps * a) ** 2 - r**2)) / (eps * a) ** 2)
    # FOSC at random feasible points of a ball or a box, by search, against s (U - s).
    law = 0.0
    for _ in range(60):
        w, x, r = rng.standard_normal(3), rng.uniform(0, 1, 3), rng.standard_normal()
        lo, hi = np.maximum(x - 0.3, 0), np.minimum(x + 0.3, 1)
        points = vertices(lo, hi)
        if norm == 1:
            points = x + 0.3 * np.vstack([np.eye(3), -np.eye(3)])
        far = max(-np.sign(r) * (points - x) @ w)
        z = rng.dirichlet(np.ones(len(points))) @ points
        now = r - (z - x) @ w
        if now * r > 0:
            size = abs(now)
            direct = fosc_by_definition(points, z, -now * w)
            law = max(law, abs(direct - size * (abs(r) + far - size)))
    c.at_most(f"l{norm}: FOSC at random points of a box or a cross-polytope", law, 1e-12)
    c.at_most(f"l{norm}: residual where a scan first meets the level (grid 5e-5)", residual, 2e-4)
    c.at_most(f"l{norm}: gain just below the onset, small residuals", jump, 2e-3)


# ------------------------------------------------------------------------ measured: the hinge


def test_stopped_hinge(claim):
    """Other seeds than the notebook's; the clean penalty and the flow in plain torch."""
    c = claim("obs-stopped-hinge")
    for seed in (5405, 5406):
        split = data.digits(np.random.default_rng(seed))
        train_x, x = (torch.tensor(part, dtype=torch.float64) for part in split[::2])
        train_y, y = map(torch.tensor, split[1::2])
        x, y = x[:150], y[:150]
        generator = torch.Generator().manual_seed(seed)
        options = {"activation": "softplus", "generator": generator, "dtype": torch.float64}
        model = networks.mlp((64, 64, 10), **options)
        kept = {"epochs": 10, "lr": 0.2, "milestones": (), "seed": seed}
        kept |= {"device": "cpu", "progress": False}
        training.fit(model, train_x, train_y, attacks.Ball(0.1), training.fgsm_training(), **kept)

        def loss_and_gradient(z, model=model, y=y):
            z = z.clone().requires_grad_(True)
            losses = torch.nn.functional.cross_entropy(model(z), y, reduction="none")
            return losses.detach(), torch.autograd.grad(losses.sum(), z)[0]

        off, more = {}, {}
        for eps in (0.01, 0.03, 0.15):
            low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
            z, moving = x.clone(), torch.ones(len(x), dtype=torch.bool)
            for k in range(400):
                losses, g = loss_and_gradient(z)
                fosc = (g.clamp(min=0) * (high - z) - g.clamp(max=0) * (z - low)).sum((1, 2, 3))
                if k == 0:
                    clean, penalty = losses, fosc
                moving &= fosc > 0.1
                if not moving.any():
                    break
                stepped = torch.minimum(torch.maximum(z + eps / 100 * g.sign(), low), high)
                z = torch.where(moving[:, None, None, None], stepped, z)
            assert not moving.any()
            gain, hinge = loss_and_gradient(z)[0] - clean, (penalty - 0.1).clamp(min=0)
            off[eps] = float((gain - hinge).abs().mean() / hinge.mean())
            more[eps] = float(gain.mean() / hinge.mean())
        c.at_most(f"eps = 0.01: distance from the hinge, seed {seed}", off[0.01], 0.25)
        c.at_least(f"eps = 0.03 over eps = 0.01, seed {seed}", off[0.03] / off[0.01], 2)
        c.at_least(f"eps = 0.15: distance from the hinge, seed {seed}", off[0.15], 1)
        c.at_least(f"eps = 0.15: gain over hinge, seed {seed}", more[0.15], 2)


# --------------------------------------------------------------- measured: dynamic training


@pytest.fixture(scope="module")
def stored():
    """The stored result; loading it verifies its checksum."""
    return experiments.load(RESULTS / "methods.json")


@pytest.fixture(scope="module")
def ninth_seed():
    """Seed 8, which the stored result does not have, 40 epochs instead of 60."""
    split, ball = data.digits(np.random.default_rng(8)), attacks.Ball(0.15)
    train_x, train_y, x, y = map(torch.from_numpy, split)
    schedules = {
        "pgd-10": training.pgd_training(10),
        "dynamic-0.1": training.dynamic(0.1, 33),
        "dynamic-0.5": training.dynamic(0.5, 33),
        "stepped-0.5": training.dynamic(0.5, 33, least_steps=1),
    }
    options = {"epochs": 40, "milestones": (20, 34), "momentum": 0.9, "seed": 8}
    found = {}
    for name, schedule in schedules.items():
        model = networks.mlp((64, 128, 128, 10), generator=torch.Generator().manual_seed(8))
        history = training.fit(
            model, train_x, train_y, ball, schedule, device="cpu", progress=False, **options
        )
        seeds = torch.Generator().manual_seed(8)
        worst = attacks.worst_of(model, x, y, ball, steps=40, restarts=1, generator=seeds)
        z = train_x.clone().requires_grad_(True)  # FOSC at the clean point, by hand
        losses = torch.nn.functional.cross_entropy(model(z), train_y, reduction="sum")
        g = torch.autograd.grad(losses, z)[0]
        room = torch.where(g > 0, (1 - train_x).clamp(max=0.15), train_x.clamp(max=0.15))
        below = float(((g.abs() * room).sum((1, 2, 3)) <= 0.5).double().mean())
        found[name] = {
            "robust": 100 * worst.accuracy,
            "passes": float(np.mean(history.passes)),
            "below": below,
        }
    return found


def percent(stored, key, method):
    return 100 * experiments.column(stored, key, method=method)


def test_dynamic_small(claim, stored, ninth_seed):
    c = claim("obs-dynamic-small")
    robust = {
        m: percent(stored, "robust", m)
        for m in ("pgd-10", "pgd-7", "dynamic-0.1", "dynamic-0.2", "curriculum")
    }
    cost = {m: percent(stored, "passes", m).mean() / 100 for m in robust}
    c.at_most("passes, 0.1 over PGD-10", cost["dynamic-0.1"] / cost["pgd-10"], 0.75)
    lost = float((robust["pgd-10"] - robust["dynamic-0.1"]).mean())
    c.at_least("points lost by 0.1 against PGD-10", lost, 0.0)
    c.at_most("points lost by 0.1 against PGD-10", lost, 2.5)
    better = float((robust["dynamic-0.1"] - robust["pgd-7"]).mean())
    c.at_most("points won by 0.1 against PGD-7", better, 0.5)
    gap = robust["dynamic-0.2"] - robust["curriculum"]
    c.at_least("points won by 0.2 against curriculum, worst seed", float(gap.min()), 1e-9)
    c.at_least("points won by 0.2 against curriculum", float(gap.mean()), 1.5)
    c.at_most("passes, 0.2 against curriculum", cost["dynamic-0.2"], cost["curriculum"])
    ours = ninth_seed
    share = ours["dynamic-0.1"]["passes"] / ours["pgd-10"]["passes"]
    c.at_most("passes, ninth seed", share, 0.75)
    c.close("points, ninth seed", ours["dynamic-0.1"]["robust"], ours["pgd-10"]["robust"], 4.0)


def test_dynamic_large(claim, stored, ninth_seed):
    c = claim("obs-dynamic-large")
    robust = {m: percent(stored, "robust", m) for m in ("pgd-10", "fgsm", "dynamic-0.5")}
    lost = robust["pgd-10"] - robust["dynamic-0.5"]
    c.at_least("points lost by 0.5 against PGD-10, best seed", float(lost.min()), 1e-9)
    c.at_least("points lost by 0.5 against PGD-10", float(lost.mean()), 5)
    c.at_most("points won against FGSM", float((robust["dynamic-0.5"] - robust["fgsm"]).mean()), 0)
    cost = percent(stored, "passes", "dynamic-0.5") / percent(stored, "passes", "fgsm")
    c.at_least("cost over that of FGSM", float(cost.mean()), 2)
    ours = ninth_seed
    c.at_least(
        "points lost, ninth seed", ours["pgd-10"]["robust"] - ours["dynamic-0.5"]["robust"], 3
    )


def test_dynamic_first_step(claim, stored, ninth_seed):
    c = claim("obs-dynamic-first-step")
    names = ("pgd-10", "curriculum", "dynamic-0.1", "dynamic-0.5", "stepped-0.1", "stepped-0.5")
    robust = {m: percent(stored, "robust", m) for m in names}
    cost = {m: percent(stored, "passes", m).mean() / 100 for m in names}
    won = robust["stepped-0.5"] - robust["dynamic-0.5"]
    c.at_least("0.5: points won by the first step, worst seed", float(won.min()), 1e-9)
    c.at_least("0.5: points won by the first step", float(won.mean()), 1.5)
    c.at_most("0.5: points won by the first step", float(won.mean()), 4)
    lost = robust["pgd-10"] - robust["stepped-0.5"]
    c.at_least("0.5: points lost against PGD-10, best seed", float(lost.min()), 1e-9)
    c.at_least("0.5: points lost against PGD-10", float(lost.mean()), 4)
    gap = robust["stepped-0.5"] - robust["curriculum"]
    c.at_most("0.5: points won against curriculum", float(gap.mean()), 0.0)
    c.at_most("0.5: passes against curriculum", cost["stepped-0.5"], cost["curriculum"])
    change = abs(float((robust["stepped-0.1"] - robust["dynamic-0.1"]).mean()))
    c.at_most("0.1: change by the first step", change, 1.5)
    lost = float((robust["pgd-10"] - robust["stepped-0.1"]).mean())
    c.at_least("0.1: points lost against PGD-10", lost, 1e-9)
    c.at_most("0.1: points lost against PGD-10", lost, 2)
    c.at_most("0.1: passes over PGD-10", cost["stepped-0.1"] / cost["pgd-10"], 0.75)
    gap = robust["stepped-0.1"] - robust["curriculum"]
    c.at_least("0.1: points won against curriculum, worst seed", float(gap.min()), 1e-9)
    c.at_least("0.1: points won against curriculum", float(gap.mean()), 3)
    c.at_least("0.1: passes against curriculum", cost["stepped-0.1"], cost["curriculum"])
    ours = {m: row["robust"] for m, row in ninth_seed.items()}
    c.at_least("0.5: points lost, ninth seed", ours["pgd-10"] - ours["stepped-0.5"], 2)
    spent = ninth_seed["stepped-0.5"]["passes"] - ninth_seed["dynamic-0.5"]["passes"]
    c.at_least("0.5: passes that the first step costs, ninth seed", spent, 0.1)


def test_threshold_share(claim, stored, ninth_seed):
    c = claim("obs-threshold-share")
    assert stored["levels"][3] == 0.5 and stored["levels"][1] == 0.1
    assert stored["quantiles"][2] == 0.5
    shares = np.median(experiments.column(stored, "below_by_epoch", method="pgd-10"), axis=0)
    c.at_least("c(x) <= 0.5 at half time", float(shares[30, 3]), 0.9)
    c.at_least("c(x) <= 0.1 at half time", float(shares[30, 1]), 0.6)
    left = np.median(experiments.column(stored, "fosc_pgd10", method="pgd-10")[:, 2])
    c.at_most("median FOSC after PGD-10 (nats)", float(left), 0.05)
    c.at_least("c(x) <= 0.5 at the end, ninth seed", ninth_seed["pgd-10"]["below"], 0.9)


def test_dynamic_evaluation(claim, stored):
    c = claim("obs-dynamic-evaluation")
    methods = sorted({row["method"] for row in stored["rows"]})
    assert len(methods) == 16
    trained = [m for m in methods if m != "standard"]
    spread = {
        key: np.ptp([percent(stored, key, m).mean() for m in trained])
        for key in ("transfer", "pgd20")
    }
    c.at_most("span of transfer over span of PGD-20", spread["transfer"] / spread["pgd20"], 1 / 3)
    gap = np.concatenate(
        [percent(stored, "autoattack", m) - percent(stored, "robust_same", m) for m in methods]
    )
    c.close("AutoAttack against our attack, mean (points)", float(gap.mean()), 0, 1.5)
    c.at_most("AutoAttack against our attack, one network (points)", float(np.abs(gap).max()), 4)
    over = min((percent(stored, "pgd20", m) - percent(stored, "robust", m)).min() for m in trained)
    c.at_least("PGD-20 over our attack, least (points)", float(over), 1e-9)
