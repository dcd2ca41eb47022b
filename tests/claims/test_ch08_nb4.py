"""Witnesses of chapter 8, notebook 4: gaps from an attack, controls, frozen networks."""

from __future__ import annotations

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from torch import nn

from advreg import attacks, experiments, networks, relu, twolayer
from advreg import scale_experiments as runs
from advreg import twolayer_experiments as small
from advreg.relu import Network

RESULTS = Path(__file__).parents[2] / "chapters" / "08_at_scale" / "results"
torch.set_num_threads(1)


def load(name):
    return runs.load(RESULTS / f"{name}.json")


def logistic(t):
    return np.logaddexp(0, -t)


def vertices(T, q):
    """All vertices of {p >= 0, sum p = 1, p T = q T}, by trying supports."""
    n, m = T.shape
    B, c = np.vstack([np.ones(n), T.T]), np.append(1.0, q @ T)
    found = []
    for size in range(1, m + 2):
        for support in combinations(range(n), size):
            columns = B[:, support]
            if np.linalg.matrix_rank(columns) < size:
                continue
            p = np.linalg.lstsq(columns, c, rcond=None)[0]
            if (p >= -1e-12).all() and np.abs(columns @ p - c).max() < 1e-10:
                full = np.zeros(n)
                full[list(support)] = p
                found.append(full)
    return np.array(found)


def test_found_gap(claim):
    c = claim("prop-found-gap")
    rng = np.random.default_rng(8401)
    worst, ends, tight, width = -np.inf, -np.inf, [], -np.inf
    for trial in range(12):
        n, m = 8, 1 + trial % 3
        T, a = rng.normal(size=(n, m)), rng.exponential(size=n)
        low = a * rng.uniform(size=n)
        if trial % 4 == 1:  # an attack that finds nothing, or everything
            low = np.where(np.arange(n) < 4, 0.0, a)
        if trial % 4 == 2:  # a gap that is a function of the statistics; ties
            T = np.round(T)
            a = 3 + T @ rng.uniform(-0.5, 0.5, size=m)
            low = a * rng.uniform(size=n)
        q = np.full(n, 1 / n)
        laws = vertices(T, q)
        A, found = laws @ a, laws @ low
        for i, j in product(range(len(laws)), repeat=2):
            for psi in (*rng.uniform(A.min() - 1, A.max() + 1, 3), (A[i] + A[j]) / 2):
                eta = max(abs(A[i] - psi), abs(A[j] - psi))
                worst = max(worst, found[j] - found[i] - 2 * eta - (A[i] - found[i]))
        one = twolayer.swap_interval(low, T)
        missed = one.weights_lower @ (a - low)
        width = max(width, found.max() - found.min() - missed - (A.max() - A.min()))
        ends = max(ends, found.max() - A.max())
        if trial % 4 == 2:  # then the attack misses the width at the law of the lower end
            c.at_least(
                "miss over width, the gap a function", missed - (one.upper - one.lower), -1e-7
            )
            c.close("true interval is a point", A.max() - A.min(), 0.0, 1e-9)
        # equality: exact at the upper law, the best psi of two laws
        i, j = np.argmin(A), np.argmax(A)
        exact_there = np.where(laws[j] > 1e-12, a, low)
        eta = (A[j] - A[i]) / 2
        tight.append(laws[j] @ exact_there - laws[i] @ exact_there - 2 * eta)
        tight[-1] -= A[i] - laws[i] @ exact_there
    c.at_most("found(p') - found(p) - 2 eta - miss(p)", worst, 1e-9)
    c.close("equality where the attack is exact at p'", np.abs(tight).max(), 0.0, 1e-9)
    c.at_most("upper end found above the true one", ends, 1e-9)
    c.at_most("width found - miss above the true width", width, 1e-7)


def test_feature_control(claim):
    c = claim("prop-feature-control")
    rng = np.random.default_rng(8402)
    # 1: all sign vectors (inf); all signed unit vectors (1); projected gradients (2)
    differ, inexact = [], []
    for trial in range(6):
        k, n, rho = 6, 9, rng.uniform(0.05, 1)
        w, b = rng.normal(size=k) * (trial != 5), rng.normal()
        phi, y = rng.normal(size=(n, k)), rng.choice([-1, 1], size=n)
        phi[0] = 0.0
        margins = y * (phi @ w + b)
        corners = rho * np.array(list(product((-1, 1), repeat=k)))
        spikes = rho * np.vstack([np.eye(k), -np.eye(k)])
        for dual, moves in ((np.abs(w).sum(), corners), (np.abs(w).max(), spikes)):
            brute = np.max([logistic(y * ((phi + u) @ w + b)) for u in moves], axis=0)
            formula = runs.gap_at_margin(margins, rho * dual)
            differ.append(np.abs(formula - (brute - logistic(margins))).max())
        head = nn.Linear(k, 2).double()
        with torch.no_grad():
            head.weight.copy_(torch.as_tensor(np.stack([0.3 * w, 1.3 * w])))
            head.bias.copy_(torch.as_tensor([0.0, b]))
        ball = attacks.Ball(rho, norm=2, low=None, high=None)
        found = runs.found_gaps(
            head, torch.as_tensor(phi), torch.as_tensor((y > 0) * 1), ball, restarts=0
        )
        formula = runs.gap_at_margin(margins, rho * np.linalg.norm(w))
        inexact.append(np.abs(formula - found).max())
    c.close("closed form against all corners", max(differ), 0.0, 1e-9)
    c.close("closed form against projected gradients, norm 2", max(inexact), 0.0, 1e-6)
    # 2: the width, by another program; bins by sorting
    over = -np.inf
    for trial in range(6):
        n, D, bins = 60, rng.uniform(0.2, 3), 3 + trial
        f, y = rng.normal(size=n) * 2, np.sign(rng.normal(size=n) + 0.2)
        if trial == 2:
            f[: n // 2] = 0.5  # ties
        a = np.logaddexp(0, D - y * f) - np.logaddexp(0, -y * f)
        rows, bound = [], 0.0
        for s in (-1, 1):
            for part in np.array_split(np.flatnonzero(y == s)[np.argsort(f[y == s])], bins):
                inside = np.isin(np.arange(n), part) * 1.0
                rows += [inside, inside * f]
                bound += len(part) / n * np.ptp(f[part]) ** 2 / 32
        B = np.array(rows)
        low, high = (s * linprog(s * a, A_eq=B, b_eq=B.mean(1)).fun for s in (1, -1))
        over = max(over, (high - low) - bound)
    c.at_most("width of the interval above its bound", over, 1e-8)
    h, D = 1.4, 2.0  # equality: a quadratic loss, kappa = 1, scores 0, h / 2 and h in one bin
    f = np.array([0.0, h / 2, h])
    a = (np.minimum(f - D, 0) ** 2 - np.minimum(f, 0) ** 2) / 2
    B = np.array([np.ones(3), f])
    low, high = (s * linprog(s * a, A_eq=B, b_eq=[1, h / 2]).fun for s in (1, -1))
    c.close("a width that attains the bound", (high - low) / (h**2 / 8), 1.0, 1e-9)
    # 3: one drop for every mean gap
    margins = np.append(rng.normal(size=40) * 3, [0.0, 0.0, -30.0, 30.0])
    for alpha in (1e-6, 0.1, 2.0, 50.0):
        drop = runs.matching_drop(margins, alpha)
        grid = np.array([0.99, 1.0, 1.01]) * drop
        means = np.array([np.mean(logistic(margins - d) - logistic(margins)) for d in grid])
        c.close(f"mean gap {alpha:g} is met", means[1] / alpha, 1.0, 1e-6)
        c.at_least("increasing in the drop", np.diff(means).min(), 0.0)
    # 4: dominates the exact gap of two-layer networks; K = max_j ||w_j||_1
    slack = np.inf
    for _ in range(3):
        W, b = rng.normal(size=(5, 3)), rng.normal(size=5)
        a_, c_ = rng.normal(size=5), rng.normal()
        net, eps = Network((W, a_[None]), (b, np.array([c_]))), 0.3
        X, y = rng.normal(size=(20, 3)), rng.choice([-1.0, 1.0], size=20)
        inner = twolayer.gap(net, X, y, eps, loss="logistic")
        D = eps * np.abs(W).sum(axis=1).max() * np.abs(a_).sum()
        margins = y * relu.evaluate(net, X)[:, 0]
        slack = min(slack, (logistic(margins - D) - logistic(margins) - inner).min())
    c.at_least("feature gap minus exact input gap", slack, -1e-9)
    W, X, y = np.array([[0.5, -1.0, 2.0]]), rng.normal(size=(9, 3)), np.sign(rng.normal(size=9))
    net = Network((W, np.array([[0.7]])), (np.array([50.0]), np.array([-35.0])))  # always active
    inner = twolayer.gap(net, X, y, 0.3, loss="logistic")
    margins = y * (0.7 * (X @ W[0] + 50) - 35)
    outer = logistic(margins - 0.3 * 3.5 * 0.7) - logistic(margins)
    c.close("one active neuron: equal", np.abs(outer - inner).max(), 0.0, 1e-9)


# --------------------------------------------------------------------------- the last layer


def grid_features(rng, n, k, radius, points=41):
    """Features (n, points, k) of a random smooth map of the line, along every ball."""
    A, B = rng.normal(size=(2, k)) * 2
    x = rng.normal(size=n)
    z = x[:, None] + np.linspace(-radius, radius, points)
    return np.tanh(z[..., None] * A + B)


def risk(P, y, a, c):
    return logistic(y[:, None] * (P @ a + c)).max(axis=1).mean()


def test_frozen_head(claim):
    c = claim("prop-frozen-head")
    rng = np.random.default_rng(8403)
    # 1: midpoints, three classes
    worst = -np.inf
    for _ in range(40):
        P, label = grid_features(rng, 10, 4, 0.8), rng.integers(3, size=10)
        W, V = rng.normal(size=(2, 5, 3)) * 2

        def J(M, P=P, label=label):
            logits = P @ M[:4] + M[4]
            own = np.take_along_axis(logits, label[:, None, None], axis=2)[..., 0]
            return (np.log(np.exp(logits).sum(axis=2)) - own).max(axis=1).mean()

        worst = max(worst, J((W + V) / 2) - (J(W) + J(V)) / 2)
    c.at_most("risk at a midpoint above the mean of the risks", worst, 1e-12)
    # 2: the certificate, for random strategies and mixtures
    over, rate = -np.inf, []
    for trial in range(12):
        n, k = 12, 3
        P = grid_features(rng, n, k, 0.0 if trial % 4 == 3 else 1.0)
        y = np.where(np.arange(n) < 3 + trial % 5, 1.0, -1.0)
        share = (y > 0).mean()
        base = -share * math.log(share) - (1 - share) * math.log(1 - share)
        picks = rng.integers(P.shape[1], size=(6, n))
        g = []
        for pick in picks:
            at = P[np.arange(n), pick]
            g.append(at[y < 0].mean(0) - at[y > 0].mean(0))
        r = np.abs(rng.dirichlet(np.ones(6)) @ np.array(g)).sum()
        best = minimize(
            lambda u, P=P, y=y: risk(P, y, u[:3], u[3]), np.zeros(4), method="Nelder-Mead"
        )
        tries = [*rng.normal(size=(20, 4)) * 3, best.x, np.zeros(4)]
        small_step = -1e-3 * np.sign(rng.dirichlet(np.ones(6)) @ np.array(g))
        tries.append(np.append(small_step, math.log(share / (1 - share))))
        for u in tries:
            bound = base - share * (1 - share) * r * np.abs(u[:3]).max()
            over = max(over, bound - risk(P, y, u[:3], u[3]))
        if trial % 4 == 3:  # no attack: to first order the bound is attained
            v, t = -np.sign(g[0]), 1e-5
            fall = base - risk(P, y, t * v, math.log(share / (1 - share)))
            rate.append(fall / (t * np.abs(g[0]).sum() * share * (1 - share)))
    c.at_most("bound above the risk", over, 1e-9)
    c.close("rate of the bound, no attack", np.abs(np.array(rate) - 1).max(), 0.0, 1e-3)
    # the search, against the exact answers for one hidden layer
    wrong, seen, monotone = 0, set(), 0
    for _ in range(3):
        X, y = rng.normal(size=(24, 2)), np.where(np.arange(24) < 11, 1.0, -1.0)
        X += 0.5 * y[:, None]
        W, b = rng.normal(size=(4, 2)), rng.normal(size=4)
        layer = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
        with torch.no_grad():
            layer[0].weight.copy_(torch.as_tensor(W)), layer[0].bias.copy_(torch.as_tensor(b))
        W, b = (p.detach().double().numpy() for p in layer.parameters())
        x32, labels = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor((y > 0) * 1)
        X, states = x32.double().numpy(), []
        for radius in (0.02, 0.6, 2.0):
            ball = attacks.Ball(radius, low=None, high=None)
            mine = runs.deep_collapse(layer, x32, labels, ball, steps=12)
            exact = small.collapse(W, b, X, y, radius).status
            wrong += mine.status == "collapse" and exact == "free"
            seen |= {mine.status, exact}
            states.append(mine.status == "collapse")
            if mine.status == "collapse":  # the mixture, again
                rest = np.abs(mine.weights @ mine.cuts).sum() + abs(mine.weights.sum() - 1)
                c.at_most("mixture of the cuts", max(rest, -mine.weights.min()), 1e-6)
        monotone += states != sorted(states)
    c.at_most("collapse claimed where a direction disproves it", wrong, 0)
    c.at_least("both answers occur", len(seen & {"collapse", "free"}), 2)
    c.at_most("undone by a larger radius", monotone, 0)
    # 3: the threshold of the identity, half the distance of the class means
    y = np.where(np.arange(30) < 17, 1.0, -1.0)
    X = rng.normal(size=(30, 3)) * 0.3 + 0.4 * y[:, None] + 3  # class means, not E[y x]
    edge = np.abs(X[y > 0].mean(0) - X[y < 0].mean(0)).max() / 2
    answers = []
    for scale in (0.97, 1.03):
        ball = attacks.Ball(scale * edge, low=None, high=None)
        x32, labels = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor((y > 0) * 1)
        answers.append(runs.deep_collapse(nn.Flatten(), x32, labels, ball).status)
    c.at_least("identity: open below, collapse above", int(answers == ["open", "collapse"]), 1)


# --------------------------------------------------------------------------------- measured


def test_deep_swap(claim):
    c = claim("obs-deep-swap")
    result = load("swap")

    def ends(key):
        return np.array([
            [experiments.column(result, key + end, method=m) for m in runs.SWAP_METHODS]
            for end in ("lower", "upper")
        ])  # fmt: skip

    (low, high), *controls = (
        ends(""),
        ends("features_"),
        ends("linear_"),
    )  # 2, methods, seeds, rungs
    c.at_least("networks", low[..., 0].size, 9)
    c.at_most("10 bins: largest lower end", low[..., 3].max(), 0.75)
    c.at_least("10 bins: smallest upper end", high[..., 3].min(), 1.29)
    c.at_most("40 bins: largest lower end", low[..., 5].max(), 0.87)
    c.at_least("40 bins: smallest upper end", high[..., 5].min(), 1.13)
    c.at_least("80 bins: smallest width", (high - low)[..., 6].min(), 0.15)
    for name, (least, most) in zip(("last layer", "linear"), controls, strict=True):
        c.at_least(f"10 bins: {name}, lower", least[..., 3].min(), 0.96)
        c.at_most(f"10 bins: {name}, upper", most[..., 3].max(), 1.03)
        c.at_least(f"40 bins: {name}, lower", least[..., 5].min(), 0.99)
        c.at_most(f"40 bins: {name}, upper", most[..., 5].max(), 1.01)
        ratio = (high - low)[..., 5] / (most - least)[..., 5]
        c.at_least(f"40 bins: width over {name}", ratio.min(), 100)
    again = np.array([experiments.column(result, "again", method=m) for m in runs.SWAP_METHODS])
    k = runs.LOOK_AGAIN
    c.at_most("stronger attack: lower law rises by", (again[..., 0] - low[..., k]).max(), 0.04)
    left = (again[..., 1] - again[..., 0]) / (high - low)[..., k]
    c.at_least("stronger attack: share of the width left", left.min(), 0.9)
    actual = np.array([experiments.column(result, "actual", method=m) for m in runs.SWAP_METHODS])
    c.at_least("gap of standard training over that of PGD-10", (actual[0] / actual[2]).min(), 10)
    width = (high - low)[..., 5]
    c.at_least("40 bins: PGD-10 over the others, width", (width[2] / width[:2]).min(), 1.0)
    slack = np.array([experiments.column(result, "slack", method=m) for m in runs.SWAP_METHODS])
    c.at_most("slack of the programs over the gap", (slack / actual).max(), 1e-5)
    # another network, at 8 x 8 pixels; bins and programs of its own
    job = runs.Job(size=8, radius=0.08, box=False, epochs=5, lr=0.05, weight_decay=5e-4, test=797)
    parts = runs.images(job, 900, "two")
    model = runs.trained(job, "standard", 900, "two").model
    x, y = parts.test_x, 2.0 * parts.test_y.numpy() - 1
    with torch.no_grad():
        f = model(x).double().diff(dim=1)[:, 0].numpy()
    z = attacks.pgd(model, x, parts.test_y, job.ball, steps=20, keep="best").points
    with torch.no_grad():
        after = model(z).double().diff(dim=1)[:, 0].numpy()
    gaps = np.maximum(logistic(y * after) - logistic(y * f), 0)
    inside = (z - x).abs().max().item()
    c.at_most("the attack stays in the ball", inside, 0.08 + 1e-6)
    flat = x.flatten(1).double().numpy()
    flat = flat - flat.mean(0)
    lead = flat @ np.linalg.eigh(flat.T @ flat)[1][:, -10:]
    rows = [lead.T[i] * (y == s) for i in range(10) for s in (-1, 1)]
    for s in (-1, 1):
        for part in np.array_split(np.flatnonzero(y == s)[np.argsort(f[y == s])], 10):
            member = np.isin(np.arange(len(y)), part) * 1.0
            rows += [member, member * f]
    B = np.array(rows)
    B /= np.abs(B).max(axis=1, keepdims=True)
    grid = np.linspace(0, 20, 20001)
    means = np.array([np.mean(logistic(y * f - d) - logistic(y * f)) for d in grid[::100]])
    drop = np.interp(gaps.mean(), means, grid[::100])
    flat_gap = logistic(y * f - drop) - logistic(y * f)
    widths = []
    for a in (gaps, flat_gap):
        both = [s * linprog(s * a, A_eq=B, b_eq=B.mean(1)).fun / a.mean() for s in (1, -1)]
        widths.append(both[1] - both[0])
    c.at_most("another network: width of the last-layer adversary", widths[1], 0.05)
    c.at_least("another network: width over it", widths[0] / widths[1], 5)


def test_deep_freezing(claim):
    c = claim("obs-deep-freezing")
    result = load("freezing")

    def numbers(method, key):
        return experiments.column(result, key, method=method)

    c.at_least("seeds", len(result["seeds"]), 3)
    for source, expected in (("random", (1, 1)), ("standard", (0, 1)), ("pgd-5", (0, 0))):
        rows = [row for row in result["rows"] if row["method"] == f"{source}|3"]
        for k, proved in enumerate(expected):
            right = [(row["collapse"][k] == "collapse") == proved for row in rows]
            scale = runs.COLLAPSE_SCALES[k]
            c.at_least(f"{source} at {scale}: as stated, share of seeds", np.mean(right), 1.0)
            if proved:
                c.at_most(f"{source} at {scale}: r", max(row["rest"][k] for row in rows), 1e-7)
    everything = numbers("pgd-5", "robust")
    for source in ("random", "standard"):
        c.at_most(f"{source}, 3 groups: robust", numbers(f"{source}|3", "robust").max(), 0.53)
        c.at_most(f"{source}, 3 groups: spread", numbers(f"{source}|3", "spread").max(), 0.05)
    trained = numbers("pgd-5|3", "robust")
    c.at_least("adversarial, 3 groups: robust", trained.min(), 0.7)
    c.at_most("adversarial, 3 groups: distance", np.abs(trained - everything).max(), 0.06)
    c.at_most("random, 1 group: robust", numbers("random|1", "robust").max(), 0.53)
    c.at_most("standard, 1 group: robust", numbers("standard|1", "robust").max(), 0.63)
    c.at_least("standard, 1 group: clean", numbers("standard|1", "clean").min(), 0.75)
    c.at_least("adversarial, 1 group: robust", numbers("pgd-5|1", "robust").min(), 0.7)
    below = numbers("standard|2", "robust") - numbers("random|3", "robust")
    c.at_most("standard, 2 groups: robust, minus that of a constant", below.max(), 0.0)
    for groups in (1, 2):
        risk = numbers(f"standard|{groups}", "risk")
        c.at_least(f"standard, {groups} groups: risk over log 2", risk.min() / math.log(2), 1.0)
    for source in runs.SOURCES:
        lost = np.abs(everything - numbers(f"{source}|0", "robust")).max()
        c.at_most(f"{source}, stem: distance", lost, 0.07)
    # two standard groups, again: the risk on the images it was trained on, two attacks
    job = runs.Job(**{k: v for k, v in result["settings"].items() if k != "task"})
    parts = runs.images(job, 0, "two")
    source = runs.trained(job, "standard", 0, "two").model
    model = runs.frozen(source, runs.network(job, 1000, "two"), 2)
    kept = {k: v.clone() for k, v in model.frozen.state_dict().items()}
    model = runs.trained(job, "pgd-5", 0, "two", model=model).model
    changed = sum(not torch.equal(v, kept[k]) for k, v in model.frozen.state_dict().items())
    c.at_most("frozen tensors that training changed", changed, 0)
    risks = []
    for steps, generator in ((20, None), (5, torch.Generator().manual_seed(1))):
        x, labels = parts.train_x, parts.train_y
        z = attacks.pgd(model, x, labels, job.ball, steps=steps, generator=generator).points
        with torch.no_grad():
            f = model(z).double().diff(dim=1)[:, 0].numpy()
        risks.append(logistic(f * (2 * labels.numpy() - 1)).mean())
    c.at_least("training images, 20 steps: risk over log 2", risks[0] / math.log(2), 1.0)
    c.at_least("above that under the attack of training", risks[0] - risks[1], 0.02)
    # random features of another seed, 8 x 8 pixels: strategies of its own, hull by its own program
    job = runs.Job(size=8, radius=0.08, box=False)
    parts = runs.images(job, 901, "two")
    x, y = parts.train_x[:40], 2.0 * parts.train_y[:40].numpy() - 1
    start = networks.wide_resnet(
        10, 1, 2, channels=1, size=8, generator=torch.Generator().manual_seed(901)
    )
    features = runs.calibrated(start, parts.train_x)[:-1].double()
    vectors, v, far, rest = [], np.zeros(64), 0.0, np.inf
    for _ in range(150):
        z = x.double().clone()
        for _ in range(5):
            z.requires_grad_()
            score = (torch.as_tensor(y) * (features(z) @ torch.as_tensor(v))).sum()
            (g,) = torch.autograd.grad(score, z)
            shift = (z.detach() - 0.03 * g.sign() - x).clamp(-0.08, 0.08)
            z = x + shift
        far = max(far, (z - x).abs().max().item())
        with torch.no_grad():
            phi = features(z).numpy()
        vectors.append(phi[y < 0].mean(0) - phi[y > 0].mean(0))
        G = np.array(vectors)
        rows = np.column_stack([G, -np.ones(len(G))])
        box = [(-1, 1)] * 64 + [(None, None)]
        answer = linprog(np.append(np.zeros(64), 1.0), rows, np.zeros(len(G)), bounds=box)
        v, rest = answer.x[:64], -answer.fun
        if rest < 1e-8:
            break
    c.at_most("strategies leave the balls by", far - 0.08, 1e-9)
    c.at_most("random features: l1 distance of the class means", rest, 1e-7)
