"""Witnesses of chapter 6, notebook 7: projections, ladders, and what was measured in practice."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from advreg import attacks, data, networks, relu, training, verify, wdro, wdro_attacks
from advreg import experiments as stored
from advreg import wdro_experiments as experiments
from advreg.wdro_networks import planar

RESULTS = Path(__file__).parents[2] / "chapters" / "06_wdro" / "results"
ORDERS = {"1": 1, "2": 2, "inf": math.inf}
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plane():
    return experiments.load(RESULTS / "plane.json")


# ------------------------------------------------------------------------------ projections


def composed(net, axes, mean):
    """The network on R^d: first layer W U^T, bias b - W U^T m."""
    W, b = net.weights[0] @ axes.T, net.biases[0] - net.weights[0] @ axes.T @ mean
    layers = zip([W, *net.weights[1:]], [b, *net.biases[1:]], strict=True)
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.as_tensor(weight))
            layer.bias.copy_(torch.as_tensor(bias))
        modules += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def test_principal_plane(claim):
    c = claim("prop-principal-plane")
    rng = np.random.default_rng(6701)
    low, high, lifted, far = np.inf, -np.inf, 0.0, 0.0
    for trial in range(3):
        d, K = 4 + trial, 2 + trial
        axes, mean = np.linalg.qr(rng.normal(size=(d, 2)))[0], rng.normal(size=d)
        g = networks.mlp((2, 6, K), generator=torch.Generator().manual_seed(trial)).double()
        with torch.no_grad():
            for layer in g[1::2]:
                layer.bias.copy_(torch.as_tensor(rng.normal(size=layer.bias.shape)))
        X, y = rng.normal(size=(5, d)), rng.integers(K, size=5)
        X[0] = mean  # projected to the origin
        net = relu.from_torch(g)
        P = planar(net, (X - mean) @ axes, y, 2)
        f = composed(net, axes, mean)
        x, labels = torch.as_tensor(X), torch.as_tensor(y)
        radii = np.array([0.1, 0.5, 2.0, 6.0])
        grown = wdro_attacks.growth_points(  # in R^d, which knows nothing of the plane
            f, x, labels, 2, radii, loss=experiments.hinge, steps=60, restarts=8,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        found = np.array([points[:, 1] for points in grown.lists]).T
        exact = P.growth(radii)
        high = max(high, (found - exact).max())
        some = exact > 1e-9
        low = min(low, np.median(found[some] / exact[some]))
        value = P.value(0.4, 2)
        atoms = value.allocation.atoms
        u = np.where(np.isnan(value.points), 0, value.points)
        Z = X[atoms.sample] + (u - ((X - mean) @ axes)[atoms.sample]) @ axes.T
        moved = np.linalg.norm(Z - X[atoms.sample], axis=1)
        far = max(far, math.sqrt((atoms.mass * moved**2).sum()))
        loss = experiments.hinge(f(torch.as_tensor(Z)), labels[atoms.sample.tolist()])
        lifted = max(lifted, abs(loss.detach().numpy() @ atoms.mass - value.lower))
    c.at_most("gain of an attack in R^d above the growth in the plane", high, 1e-6)
    c.at_least("median of their ratio", low, 0.999)
    c.at_most("mean loss of the lifted distribution against V_2", lifted, 1e-9)
    c.at_most("its stated cost, radius 0.4", far, 0.4 + 1e-9)


# ------------------------------------------------------------------------------ ladders


def by_linear_program(clean, ladder, worst, radius, p):
    """Growth form of a step function by brute force: masses at the steps, one budget."""
    n, R = worst.shape
    gains, costs = (worst - clean[:, None]).ravel() / n, np.tile(ladder**p, n) / n
    masses = np.kron(np.eye(n), np.ones(R))
    A = np.vstack([masses, costs])
    answer = linprog(-gains, A_ub=A, b_ub=[1.0] * n + [radius**p], method="highs")
    return clean.mean() - answer.fun


def test_ladder(claim):
    c = claim("prop-ladder")
    rng = np.random.default_rng(6702)
    inside, agree, ratio, slope = -np.inf, 0.0, -np.inf, -np.inf
    under = -np.inf
    for trial in range(4):
        net = relu.from_torch(
            networks.mlp((2, 7, 3), generator=torch.Generator().manual_seed(trial)).double()
        )
        X, y = rng.uniform(-1, 1, (6, 2)), rng.integers(3, size=6)
        X[0] = (1, -1)  # a corner of the box
        P = planar(net, X, y, 2, low=-1.0, high=1.0)
        rho = rng.uniform(1.2, 2.0)
        ladder = 2.9 / rho ** np.arange(7)[::-1]  # 2.9 > 2 sqrt 2: the whole box
        worst = (P.clean + P.growth(ladder)).T
        below = worst - rng.uniform(0, 0.1, worst.shape) * (worst - P.clean[:, None])
        above = worst + rng.uniform(0, 0.1, worst.shape)
        for p in ORDERS.values():
            for radius in (0.02, 0.3, 1.0, 4.0):
                exact = P.value(radius, p).lower
                ends = experiments.ladder_bracket(P.clean, ladder, worst, worst, radius, p)
                wide = experiments.ladder_bracket(P.clean, ladder, below, above, radius, p)
                inside = max(inside, ends[0] - exact, exact - ends[1])
                inside = max(inside, wide[0] - ends[0], ends[1] - wide[1])
                if p < math.inf:
                    before = np.append(0.0, ladder[:-1])
                    for end, steps in zip(ends, (ladder, before), strict=True):
                        other = by_linear_program(P.clean, steps, worst, radius, p)
                        agree = max(agree, abs(end - other))
                    first = (worst[:, 0] - P.clean).mean()
                    ratio = max(ratio, ends[1] - P.value(rho * radius, p).lower - first)
                    under = max(under, P.value(radius / rho, p).lower - first - ends[0])
            E = P.clean.mean()
            one = P.value(0.2, 1).lower - E
            slope = max(slope, P.value(0.2 * rho, 1).lower - E - rho * one)
    c.at_most("distance by which a bracket misses the value", inside, 1e-9)
    c.close("bracket against a linear program over steps", agree, 0.0, 1e-7)
    c.at_most("upper bound above V_p(rho eps) + first rung", ratio, 1e-9)
    c.at_most("V_p(eps / rho) - first rung above the lower bound", under, 1e-9)
    c.at_most("V_1(rho eps) - E above rho (V_1(eps) - E)", slope, 1e-9)
    # one sample on a line, loss min(x, 1) on [-1, 1]: all numbers by hand
    clean, ladder, worst = np.zeros(1), np.array([0.5, 2.0]), np.array([[0.5, 1.0]])
    low, high = experiments.ladder_bracket(clean, ladder, worst, worst, 0.25, 1)
    c.close("by hand, below: half the mass to the first rung", low, 0.25, 1e-12)
    c.close("by hand, above: 0.5 for nothing, then half of 0.5", high, 0.75, 1e-12)


# ------------------------------------------------------------------------------ two moons


def numbers(result, key, method):
    return stored.column(result, key, method=method)


def wins(result, key, method, other):
    return (numbers(result, key, method) < numbers(result, key, other)).sum(axis=0)


FRESH = range(900, 904)
NAMES = ("standard", "adversarial-0.25", "product-0.1", "decay-0.01")
FACTORS = np.geomspace(0.02, 2, 5)


def rescaled(net, factor):
    """The network with all logits times the factor."""
    W, b = list(net.weights), list(net.biases)
    W[-1], b[-1] = factor * W[-1], factor * b[-1]
    return dataclasses.replace(net, weights=tuple(W), biases=tuple(b))


@pytest.fixture(scope="module")
def fresh():
    """Four other seeds: exact values at 0.2, held out, slopes, and V_1 with the best scale."""
    rows = {name: [] for name in NAMES}
    for seed in FRESH:
        X, y = experiments.moons(seed)
        for name in NAMES:
            model = experiments.fit((2, 16, 2), X[:40], y[:40], experiments.PLANE[name], seed)
            net = relu.from_torch(model)
            out, own = planar(net, X[40:], y[40:], 2), planar(net, X[:40], y[:40], 2)
            values = [out.value(0.2, p).lower for p in (1, 2, math.inf)]
            product = relu.norm_product(net, 2) / own.secant_slopes.max()
            best = min(
                planar(rescaled(net, c), X[40:], y[40:], 2).value(0.2, 1).lower for c in FACTORS
            )
            rows[name].append([*values, own.slopes_at_infinity.max(), product, best])
    return {name: np.array(row) for name, row in rows.items()}


def test_training_distributional(claim, plane, fresh):
    c = claim("obs-training-distributional")
    radii = np.array(plane["radii"])
    kept = radii <= 1
    c.close("radii", radii[kept].tolist() == [0.05, 0.1, 0.2, 0.5, 1.0], True, 0.5)
    at, st = "adversarial-0.25", "standard"
    for p in "12":
        least = wins(plane, f"test_v_{p}", at, st)[kept].min()
        c.at_least(f"seeds of 16 with a lower V_{p} after AT 0.25", least, 15)
    count = wins(plane, "test_v_inf", at, st)
    c.at_least("seeds with a lower V_inf, eps >= 0.2", count[kept & (radii >= 0.2)].min(), 15)
    c.at_least("seeds with a lower V_inf, eps < 0.2", count[radii < 0.2].min(), 11)
    count = wins(plane, "test_v_1", "adversarial-0.1", st)[kept]
    c.at_least("seeds with a lower V_1 after AT 0.1", count.min(), 11)
    c.at_most("most such seeds", count.max(), 13)
    two = radii == 0.2
    for other in ("decay-0.01", "product-0.1"):
        count = wins(plane, "test_v_1", other, at)[kept]
        c.at_least(f"seeds with V_1 of {other} below AT 0.25", count.min(), 14)
        count = wins(plane, "train_v_inf", at, other)[two]
        c.close(f"seeds with V_inf(0.2) of AT 0.25 below {other}, training", count[0], 16, 0.5)
    small = radii <= 0.2
    c.at_least(
        "0-1, order 1: seeds below standard", wins(plane, "test_e_1", at, st)[small].min(), 14
    )
    gap = (numbers(plane, "test_e_1", st) - numbers(plane, "test_e_1", at)).mean(axis=0)[small]
    c.at_least("0-1, order 1: mean difference", gap.min(), 0.03)
    c.at_most("0-1, order 1: mean difference, at most", gap.max(), 0.1)
    for one, other in ((at, "decay-0.01"), ("decay-0.01", at)):
        count = wins(plane, "test_e_1", one, other)[small].max()
        c.at_most(f"0-1: seeds with {one} below {other}", count, 11)
    for k, p in enumerate(ORDERS):  # other seeds, eps = 0.2
        lower = fresh[at][:, k] < fresh[st][:, k]
        c.at_least(f"other seeds, V_{p} lower after AT 0.25, of 4", lower.sum(), 3)
        c.at_most(
            f"other seeds, ratio of mean V_{p}",
            fresh[at][:, k].mean() / fresh[st][:, k].mean(),
            0.95,
        )
    for other in ("decay-0.01", "product-0.1"):
        lower = fresh[other][:, 0] < fresh[at][:, 0]
        c.at_least(f"other seeds, V_1 of {other} below AT 0.25, of 4", lower.sum(), 3)
        ratio = fresh[other][:, 0].mean() / fresh[at][:, 0].mean()
        c.at_most(f"other seeds, mean V_1 of {other} against AT 0.25", ratio, 0.9)
    # the caption of the ratios, and the price in clean errors
    places = (radii == 0.1) | two
    for other in plane["methods"]:
        if other != st:
            count = wins(plane, "test_e_1", other, st)[places].min()
            c.at_least(f"0-1, order 1, eps = 0.1, 0.2: seeds with {other} below", count, 12)
    for name, clean in ((st, 0.12), (at, 0.12), ("decay-0.01", 0.14), ("product-0.1", 0.225)):
        c.close(f"clean error, {name}", numbers(plane, "test_error", name).mean(), clean, 0.005)
    # scale: the best factor for the logits of each network
    best = np.array([fresh[name][:, 5] for name in NAMES])
    c.at_least("other seeds, V_1 with the best scale", best.min(), 0.6)
    c.at_most("other seeds, V_1 with the best scale, at most", best.max(), 1.05)
    trained = fresh[st][:, 0].mean() / fresh["product-0.1"][:, 0].mean()
    c.at_least("other seeds, mean V_1 as trained, standard over product", trained, 4)
    zero = rescaled(
        relu.from_torch(
            networks.mlp((2, 16, 2), generator=torch.Generator().manual_seed(0)).double()
        ),
        0.0,
    )
    P = planar(zero, np.zeros((3, 2)), np.array([0, 1, 1]), 2)
    ones = [P.value(5.0, p).lower for p in ORDERS.values()]
    c.close("values of zero logits", np.abs(np.subtract(ones, 1)).max(), 0, 1e-12)


def test_training_slopes(claim, plane, fresh):
    c = claim("obs-training-slopes")
    expected = {"standard": 4, "adversarial-0.25": 12, "product-0.1": 0, "decay-0.01": 0}
    means = {"standard": 24, "adversarial-0.25": 14, "product-0.1": 0.97, "decay-0.01": 5.0}
    for method in plane["methods"]:
        last, first = (numbers(plane, k, method) for k in ("l_inf", "train_l_data"))
        whole = numbers(plane, "l_glob", method)
        c.at_most(f"{method}: L_inf above L_data", (last / first).max(), 1 + 1e-6)
        c.close(f"{method}: seeds with L_inf = L_glob", (whole / last - 1 < 1e-5).sum(), 0, 0.5)
        higher = (last > numbers(plane, "l_inf", "standard")).sum()
        if method in ("adversarial-0.1", "adversarial-0.25"):  # in the closing table
            most = {"adversarial-0.1": 7, "adversarial-0.25": 0}[method]
            c.close(f"{method}: seeds with a higher L_inf than standard", higher, most, 0.5)
        if method in expected:
            count = (first / last - 1 < 1e-5).sum()
            c.close(f"{method}: seeds with L_inf = L_data", count, expected[method], 0.5)
            mean = last.mean()
            c.close(f"{method}: mean of L_inf", mean, means[method], 0.05 * means[method])
        loose = numbers(plane, "l_product", method) / first
        if method == "product-0.1":
            c.at_most("product penalty: L_prod / L_data", loose.max(), 1.05)
        elif method in ("standard", "adversarial-0.1", "adversarial-0.25"):
            c.at_least(f"{method}: L_prod / L_data", loose.min(), 1.5)
        # where the slopes agree the stored curve is the line, exactly
        line = numbers(plane, "train_hinge", method)[:, None] + np.outer(last, plane["radii"])
        off = np.abs(numbers(plane, "train_v_1", method) / line - 1).max(axis=1)
        same = off[first / last - 1 < 1e-7]
        c.at_most(f"{method}: V_1 off the line where slopes agree", same.max(initial=0), 1e-5)
    c.at_most(
        "other seeds, product penalty: L_prod / L_data", fresh["product-0.1"][:, 4].max(), 1.05
    )
    for method in ("standard", "adversarial-0.25"):
        c.at_least(f"other seeds, {method}: L_prod / L_data", fresh[method][:, 4].min(), 1.3)
    order = [fresh[m][:, 3].mean() for m in ("product-0.1", "decay-0.01", "adversarial-0.25")]
    order.append(fresh["standard"][:, 3].mean())
    c.at_least("other seeds, steps between means of L_inf", np.diff(order).min(), 0.0)


# ------------------------------------------------------------------------------ digits


def test_digits_plane(claim):
    c = claim("obs-digits-plane")
    result = experiments.load(RESULTS / "digits-plane.json")
    st, at = "standard", "adversarial-0.1"
    small = np.array(result["radii"]) <= 0.1
    for p in ORDERS:
        count = wins(result, f"test_v_{p}", at, st).min()
        c.close(f"seeds of 8 with a lower V_{p}", count, 8, 0.5)
    for p in "12":
        count = wins(result, f"test_e_{p}", at, st)[small].min()
        c.close(f"seeds of 8 with a lower 0-1 value, order {p}", count, 8, 0.5)
        gap = (numbers(result, f"test_e_{p}", st) - numbers(result, f"test_e_{p}", at)).mean(0)
        c.at_most(f"mean difference of 0-1 values, order {p}", gap[small].max(), 0.05)
    for method in (st, at):
        last, first = (numbers(result, k, method) for k in ("l_inf", "train_l_data"))
        c.close(f"{method}: seeds with L_inf = L_data", (first / last - 1 < 1e-5).sum(), 7, 0.5)
        error = numbers(result, "error", method)
        c.at_least(f"{method}: least clean error", error.min(), 0.33)
        c.at_most(f"{method}: largest clean error", error.max(), 0.40)
        full = numbers(result, "test_e_1", method)[:, result["radii"].index(0.2)]
        c.close(f"{method}: least order-1 error rate at 0.2", full.min(), 1.0, 1e-9)
    c.close("seeds with a lower L_inf", wins(result, "l_inf", at, st), 8, 0.5)
    for seed in (90,):
        split = data.digits(np.random.default_rng(seed))
        onto = experiments.principal_plane(split.train_x.reshape(1000, 64).astype(float))
        X, T = onto(split.train_x.reshape(1000, 64)), onto(split.test_x[:40].reshape(40, 64))
        found = []
        for name in (st, at):
            model = experiments.fit(
                (2, 16, 10), X, split.train_y, experiments.PLANE[name], seed, lr=0.02
            )
            P = planar(relu.from_torch(model), T, split.test_y[:40], 2)
            values = [P.value(0.2, p).lower for p in ORDERS.values()]
            found.append([*values, P.slopes_at_infinity.max()])
        ratio = np.array(found[1]) / found[0]
        c.at_most(f"seed {seed}: largest ratio of values and L_inf", ratio.max(), 1.0)


def bends(distances, p):
    """Radii at which the knapsack's value, as a function of eps^p, has a bend or a jump."""
    r = np.sort(distances)
    return r if p == math.inf else (np.cumsum(r**p) / r.size) ** (1 / p)


def test_digits_sandwich(claim):
    c = claim("obs-digits-sandwich")
    result = experiments.load(RESULTS / "digits.json")
    rates = {}
    for row in result["rows"]:
        who = f"{row['method']}, seed {row['seed']}"
        lower, upper, attack = (np.array(row[k]) for k in ("lower", "upper", "attack"))
        c.close(f"{who}: share of solved programs", row["solved"], 1.0, 1e-9)
        c.at_most(f"{who}: width of the brackets", (upper - lower).max(), 1e-6)
        c.at_least(f"{who}: attack minus proof", (attack - lower).min(), -1e-7)
        ratio = attack[lower > 0] / lower[lower > 0]
        c.at_most(f"{who}: attacks more than 1 % too far", (ratio > 1.01).sum(), 8)
        c.at_most(f"{who}: largest ratio", ratio.max(), 1.25)
        for p, most in ((1, 0.01), (2, 0.02), (math.inf, 0.06)):
            gap = max(  # affine in eps^p between these radii: the gap at every radius
                wdro.knapsack(lower, e, p).value - wdro.knapsack(attack, e, p).value
                for e in np.append(bends(lower, p), bends(attack, p))
                if e > 0
            )
            c.at_most(f"{who}: gap of the 0-1 value, p = {p}", gap, most + 1e-9)
        one = wdro.knapsack(lower, 0.01, 1).value
        reached = [wdro.knapsack(attack, e, 1).value for e in (0.01, 0.05)]
        c.at_least(f"{who}: order-1 error rate at 0.01, reached", reached[0], 0.2)
        c.at_most(f"{who}: order-1 error rate at 0.01, proved", one, 0.3)
        c.at_most(f"{who}: images with an error within 0.01", (lower <= 0.01).mean(), 0.10)
        proved = [one, wdro.knapsack(lower, 0.05, 1).value]
        rates[row["method"], row["seed"]] = reached, proved, row["error"]
        right = lower > 0
        margin = -np.array(row["margin"])[right]
        for key, least, most in (("l_mask", 2, 3), ("l_product", 5, 8)):
            factor = lower[right] * row[key] / margin
            c.at_least(f"{who}: least factor, {key}", factor.min(), 1 - 1e-9)
            c.close(f"{who}: median factor, {key}", np.median(factor), (least + most) / 2,
                    (most - least) / 2)  # fmt: skip
        clean = np.maximum(1 + np.array(row["margin"][:10]), 0)
        low, high = (np.maximum(1 + np.array(row[f"worst_{s}"]), 0) for s in ("lower", "upper"))
        for k, radius in enumerate(result["radii"]):
            ends = experiments.ladder_bracket(clean, result["ladder"], low, high, radius, 1)
            line = clean.mean() + radius * row["l_mask"]
            c.at_most(f"{who}: ladder / Lipschitz at {radius}", ends[1] / line, 1 - 1e-9)
            c.at_least(f"{who}: attack / ladder at {radius}", row["attack_1"][k] / ends[0], 0.9)
            c.at_most(f"{who}: ends of the ladder at {radius}", ends[1] / ends[0], 1.8)
    pairs = [(rates["standard", s], rates["adversarial-0.1", s]) for s in range(4)]
    sure = np.array([np.subtract(st[0], at[1]) for st, at in pairs]).T  # falls at least so much
    most = np.array([np.subtract(st[1], at[0]) for st, at in pairs]).T  # and at most so much
    c.close("seeds with a lower order-1 rate at 0.01", (sure[0] > 0).sum(), 3, 0.5)
    c.close("seeds with a higher one", (most[0] < 0).sum(), 1, 0.5)
    c.at_least("least fall of the order-1 rate at 0.05", sure[1].min(), 0.08)
    c.at_most("largest fall", most[1].max(), 0.22)
    clean = [at[2] - st[2] for st, at in pairs]
    c.at_least("least rise of the clean error", min(clean), 1e-3)
    # another seed, eight epochs, twelve images
    split = data.digits(np.random.default_rng(77))
    model = networks.mlp((64, 16, 10), generator=torch.Generator().manual_seed(77))
    training.fit(
        model, split.train_x, split.train_y, attacks.Ball(0.1, math.inf), training.standard(),
        epochs=8, seed=77, device="cpu", progress=False,
    )  # fmt: skip
    model, X, y = model.double(), split.test_x[:12].reshape(12, 64).astype(float), split.test_y[:12]
    net, x, labels = relu.from_torch(model), torch.as_tensor(X), torch.as_tensor(y)
    exact = verify.distances_to_error(net, X, y, math.inf, low=0, high=1)
    found = wdro_attacks.nearest_errors(
        model, x, labels, math.inf, low=0.0, high=1.0, generator=torch.Generator().manual_seed(1)
    ).distances
    c.at_most("other seed: width of the brackets", (exact.upper - exact.lower).max(), 1e-6)
    c.at_least("other seed: attack minus proof", (found - exact.lower).min(), -1e-7)
    rank = np.linalg.matrix_rank(net.weights[0])
    c.close("other seed: rank of the first weight matrix", rank, 16, 0.5)
    margin = -attacks.margin(model(x), labels).detach().numpy()
    right = margin > 0
    ours = [exact.lower[right] * bound(net, math.inf) / margin[right]
            for bound in (relu.mask_bound, relu.norm_product)]  # fmt: skip
    c.at_least("other seed: least factor of L_mask", ours[0].min(), 1 - 1e-9)
    c.at_least("other seed: median of product over mask", np.median(ours[1] / ours[0]), 1.5)
