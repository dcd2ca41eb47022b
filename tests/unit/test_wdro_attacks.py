"""Distributional attacks: nothing found may be better than the truth, and all of it is audited."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from advreg import relu, wdro, wdro_networks
from advreg.attacks import Ball, cross_entropy, margin
from advreg.wdro_attacks import (
    Attacked,
    Growth,
    attacked,
    audit,
    growth_points,
    mean_loss,
    mixture,
    nearest_errors,
    record,
    zero_one,
)

NORMS = [1, 2, math.inf]
ORDERS = [1, 2, 3.5, math.inf]


def hinge(logits, y):
    return (1 + margin(logits, y)).clamp_min(0)


def random_model(seed, *widths, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(dtype)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.mul_(2.0)
    return model


def samples(seed, model, n, d=2):
    """Points, and the labels that the model gives them, but for the first and the second one."""
    x = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (n, d)))
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(dim=1)
    y[:2] = (y[:2] + 1) % logits.shape[1]
    return x, y


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def to_segment(P, Q, x, norm):
    """Distance of x from the segment PQ: least at an end or at a kink of the norm."""
    d, r = Q - P, P - x
    with np.errstate(all="ignore"):
        kinks = [-r[0] / d[0], -r[1] / d[1], -(r @ d) / (d @ d)]
        kinks += [-(r[0] - r[1]) / (d[0] - d[1]), -(r[0] + r[1]) / (d[0] + d[1])]
    t = np.array([0.0, 1.0] + [k for k in kinks if 0 < k < 1])
    return np.linalg.norm(r + t[:, None] * d, ord=norm, axis=1).min()


def exact_distances(net, X, y, norm, low, high):
    """Distance to the errors of a planar network in a box, from the polygons of its cells."""
    cells = relu.cells(net, low, high)
    distances = np.where(relu.evaluate(net, X).argmax(axis=1) == y, np.inf, 0.0)
    for i, k in itertools.product(range(len(cells)), np.flatnonzero(distances)):
        corners = cells.polygon(i)
        f = corners @ cells.gradients[i].T + cells.offsets[i]
        for j in set(range(net.outputs)) - {int(y[k])}:
            h, part = f[:, j] - f[:, y[k]], []
            for a, b in zip(range(len(h)), np.roll(range(len(h)), -1), strict=True):
                part += [corners[a]] if h[a] >= 0 else []
                if (h[a] >= 0) != (h[b] >= 0):
                    part.append(corners[a] + (corners[b] - corners[a]) * h[a] / (h[a] - h[b]))
            for P, Q in zip(part, part[1:] + part[:1], strict=True):
                distances[k] = min(distances[k], to_segment(P, Q, X[k], norm))
    return distances


def far(points, x, norm):
    d = (points.double() - x.double()).reshape(len(x), -1).numpy()
    return np.linalg.norm(d, ord=norm, axis=1)


# ------------------------------------------------------------------------------- nearest errors


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("widths", [(2, 8, 2), (2, 12, 3), (2, 6, 6, 2)])
def test_distances_are_never_too_small_and_mostly_right(norm, widths):
    ratios = []
    for seed in range(3):
        model = random_model(seed, *widths)
        x, y = samples(seed, model, 15)
        found = nearest_errors(model, x, y, norm, reach=6.0, generator=generator())
        exact = exact_distances(relu.from_torch(model), x.numpy(), y.numpy(), norm, -8, 8)
        assert (found.distances >= exact * (1 - 1e-9)).all()
        assert_array_equal(found.distances == 0, exact == 0)
        hit = np.isfinite(found.distances)
        assert_array_equal(hit, exact <= 6 * (1 + 1e-9))
        assert_allclose(found.distances[hit], far(found.points[hit], x[hit], norm), rtol=1e-12)
        with torch.no_grad():
            assert (model(found.points[hit]).argmax(dim=1) != y[hit]).all()
        assert torch.equal(found.points[~hit], x[~hit])
        moved = hit & (exact > 0)
        ratios.append(found.distances[moved] / exact[moved])
    ratios = np.concatenate(ratios)
    assert np.median(ratios) < 1 + 1e-6
    assert (ratios < 1.01).mean() > 0.9


@pytest.mark.parametrize("norm", NORMS)
def test_distances_of_a_linear_model_are_those_of_the_formula(norm):
    rng = np.random.default_rng(0)
    model = nn.Linear(5, 4).double()
    x = torch.from_numpy(rng.standard_normal((30, 5)))
    W, b = model.weight.detach().numpy(), model.bias.detach().numpy()
    f = x.numpy() @ W.T + b
    y = f.argmax(axis=1)
    dual = {1: np.inf, 2: 2, np.inf: 1}[norm]
    exact = np.full(30, np.inf)
    for j in range(4):
        lead = f[np.arange(30), y] - f[:, j]
        slope = np.linalg.norm(W[y] - W[j], ord=dual, axis=1)
        exact = np.where(j == y, exact, np.minimum(exact, lead / np.where(j == y, 1, slope)))
    labels = torch.from_numpy(y)
    found = nearest_errors(model, x, labels, norm, reach=100.0)  # no generator, nothing random
    assert_allclose(found.distances, exact, rtol=1e-6)
    assert (found.distances >= exact * (1 - 1e-9)).all()
    few = nearest_errors(model, x, labels, norm, reach=100.0, targets=1)
    assert_allclose(few.distances, exact, rtol=1e-6)  # the nearest looks nearest
    reach = float(np.median(exact))
    short = nearest_errors(model, x, labels, norm, reach=reach)
    assert_array_equal(np.isfinite(short.distances), exact * (1 + 1e-8) <= reach)
    assert torch.equal(short.points[exact > reach], x[exact > reach])


@pytest.mark.parametrize("norm", NORMS)
def test_errors_in_a_box(norm):
    for seed in range(3):
        model = random_model(seed, 2, 10, 3)
        x, y = samples(seed, model, 15)
        found = nearest_errors(model, x, y, norm, low=-1.0, high=1.0, generator=generator())
        assert (found.points.abs() <= 1).all()
        exact = exact_distances(relu.from_torch(model), x.numpy(), y.numpy(), norm, -1, 1)
        assert (found.distances >= exact * (1 - 1e-9)).all()
        assert_array_equal(np.isinf(found.distances), np.isinf(exact))
        hit = np.isfinite(exact) & (exact > 0)
        assert np.median(found.distances[hit] / exact[hit]) < 1 + 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_point_of_a_half_space_in_a_box(norm):
    """`towards` against a linear program, or the projection by bisection of its multiplier."""
    from scipy.optimize import linprog

    from advreg.wdro_attacks import _Search

    rng, d = np.random.default_rng(0), 6
    search = _Search(None, Ball(1.0, norm, -1.0, 1.0), 10.0, None, 1)
    x, g = rng.uniform(-1, 1, (20, d)), rng.standard_normal((20, d))
    g[:, 0], x[:, 1] = 0.0, np.where(g[:, 1] > 0, 1.0, -1.0)  # no slope, and no room
    most = (np.abs(g) * np.where(g > 0, 1 - x, x + 1)).sum(axis=1)
    need = rng.uniform(0.05, 0.95, 20) * most
    x_t, g_t = torch.from_numpy(x), torch.from_numpy(g)
    move = search.towards(x_t, g_t, torch.from_numpy(need)).numpy()
    assert (np.abs(x + move) <= 1 + 1e-12).all()
    assert_allclose((g * move).sum(axis=1), need, rtol=1e-9)
    length = np.linalg.norm(move, ord=norm, axis=1)
    for i in range(20):
        if norm == 2:
            low, high = 0.0, 1e6
            for _ in range(200):
                t = (low + high) / 2
                v = np.clip(x[i] + t * g[i], -1, 1) - x[i]
                low, high = (t, high) if g[i] @ v < need[i] else (low, t)
            best = np.linalg.norm(v)
        else:
            up = np.hstack([np.eye(d), -np.ones((d, 1)) if norm == math.inf else -np.eye(d)])
            down = np.hstack([-np.eye(d), up[:, d:]])
            rows = np.vstack([up, down, np.append(-g[i], np.zeros(up.shape[1] - d))])
            bounds = [*zip(-1 - x[i], 1 - x[i], strict=True)] + [(0, None)] * (up.shape[1] - d)
            cost = np.append(np.zeros(d), np.ones(up.shape[1] - d))
            best = linprog(cost, rows, np.append(np.zeros(2 * d), -need[i]), bounds=bounds).fun
        assert_allclose(length[i], best, rtol=1e-7)
    enough = search.towards(x_t, g_t, torch.from_numpy(2 * most)).numpy()
    assert_allclose((g * enough).sum(axis=1), most)
    assert_array_equal(search.towards(x_t, g_t, torch.full((20,), -1.0)).numpy(), 0.0)


def test_models_without_slope_without_errors_and_errors_from_the_start():
    constant = nn.Linear(2, 2).double()
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([1.0, 0.0]))
    x, y = samples(0, constant, 6)
    found = nearest_errors(constant, x, y, 2, reach=5.0, generator=generator())
    assert_array_equal(found.distances, np.where(y == 0, np.inf, 0.0))
    assert torch.equal(found.points, x)
    value = wdro.knapsack(found.distances, 1.0, 1).value
    assert value == float((y == 1).double().mean())
    # flat around the samples: relu(x - 3) - 1 > 0 beyond x = 4 is found from random starts only
    flat = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        flat[0].weight.copy_(torch.tensor([[1.0, 0.0]]))
        flat[0].bias.fill_(-3.0)
        flat[2].weight.copy_(torch.tensor([[0.0], [1.0]]))
        flat[2].bias.copy_(torch.tensor([0.0, -1.0]))
    right = torch.zeros_like(y)
    assert np.isinf(nearest_errors(flat, x, right, 2, reach=8.0).distances).all()
    found = nearest_errors(flat, x, right, 2, reach=8.0, restarts=40, generator=generator())
    assert_allclose(found.distances, 4 - x[:, 0].numpy(), rtol=1e-4)
    near = nearest_errors(flat, x, right, 2, reach=2.0, restarts=40, generator=generator())
    assert np.isinf(near.distances).all(), "nothing within the reach"
    # nothing to do at all
    wrong = nearest_errors(flat, x, torch.ones_like(y), 1, reach=1.0, generator=generator())
    assert_array_equal(wrong.distances, 0.0)
    growth = growth_points(constant, x, y, 2, [0.5, 1.0], loss=hinge, generator=generator())
    assert_array_equal(np.stack(growth.lists), 0.0)


def test_images_in_single_precision_and_a_generator_that_decides_everything():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 3)
    )
    model.train()
    x = torch.rand(10, 1, 4, 4)
    y = torch.from_numpy(np.arange(10) % 3)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for norm in NORMS:
        box = {"low": 0.0, "high": 1.0}
        few = {**box, "steps": 20, "restarts": 2, "polish": 10}
        found = nearest_errors(model, x, y, norm, **few, generator=generator(3))
        again = nearest_errors(model, x, y, norm, **few, generator=generator(3), batch=7)
        assert found.points.dtype == torch.float32 and found.points.shape == x.shape
        assert_allclose(found.distances, again.distances, rtol=0.05)  # sums round differently
        same = nearest_errors(model, x, y, norm, **few, generator=generator(3))
        assert_array_equal(found.distances, same.distances)
        assert ((found.points >= 0) & (found.points <= 1)).all()
        plan = wdro.knapsack(found.distances, 0.2, 1)
        Q = attacked(x, y, [found.points], plan)
        assert mean_loss(model, Q, loss=zero_one) == pytest.approx(plan.value)
        growth = growth_points(model, x, y, norm, [0.1, 0.5], **box, steps=5, generator=generator())
        assert ((growth.inputs >= 0) & (growth.inputs <= 1)).all()
        assert (np.stack(growth.lists)[..., 0] <= [0.1, 0.5]).all()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# ------------------------------------------------------------------------------- growth points


@pytest.mark.parametrize("norm", NORMS)
def test_growth_points_are_where_they_say_and_gain_what_they_say(norm):
    model = random_model(1, 2, 12, 3)
    x, y = samples(1, model, 12)
    radii = [2.0, 0.1, 0.5]
    for loss in (cross_entropy, hinge):
        growth = growth_points(model, x, y, norm, radii, loss=loss, generator=generator())
        assert growth.inputs.shape == (3, 12, 2)
        rows = np.stack(growth.lists)
        for k, radius in enumerate(sorted(radii)):
            assert_allclose(rows[:, k, 0], far(growth.inputs[k], x, norm), atol=1e-15)
            assert (rows[:, k, 0] <= radius).all()
            with torch.no_grad():
                gain = loss(model(growth.inputs[k]), y) - loss(model(x), y)
            assert_allclose(rows[:, k, 1], gain.numpy(), atol=1e-12)
        assert (rows[..., 1] >= 0).all()
        assert (np.diff(rows[..., 1], axis=1) >= 0).all()
    planar = wdro_networks.planar(relu.from_torch(model), x.numpy(), y.numpy(), norm, "hinge")
    for k, radius in enumerate(sorted(radii)):
        exact = planar.growth(radius)
        assert (rows[:, k, 1] <= exact + 1e-9).all()
        assert rows[:, k, 1].sum() > 0.93 * exact.sum()  # ascent may stop at local maxima


@pytest.mark.parametrize("norm", NORMS)
def test_attacks_stay_below_the_exact_value_and_the_best_comes_near(norm):
    for seed in range(2):
        model = random_model(seed, 2, 8, 2)
        x, y = samples(seed, model, 8)
        planar = wdro_networks.planar(relu.from_torch(model), x.numpy(), y.numpy(), norm, "hinge")
        radii = np.append(np.geomspace(0.02, 30, 16), [0.05, 0.4])
        growth = growth_points(model, x, y, norm, radii, loss=hinge, generator=generator())
        clean = growth.clean.mean()
        assert_allclose(clean, planar.clean.mean())
        for p, radius in itertools.product(ORDERS, (0.05, 0.4)):
            exact = planar.value(radius, p)
            plan = wdro.allocate(growth.lists, radius, p)
            best, spread = mixture(growth, radius, p)
            assert best.value <= plan.value + 1e-12
            assert clean + plan.value <= exact.upper + 1e-9
            assert plan.value >= 0.93 * (exact.lower - clean)
            for allocation in (plan, spread):
                Q = attacked(x, y, growth.inputs, allocation)
                assert_allclose(mean_loss(model, Q, loss=hinge), clean + allocation.value)
                costs = audit(x, Q, p, norm)
                assert costs.wasserstein <= costs.coupling * (1 + 1e-9) <= radius * (1 + 1e-8)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("p", ORDERS)
def test_error_rates_of_attacks_stay_below_the_exact_ones(norm, p):
    model = random_model(3, 2, 8, 2)
    x, y = samples(3, model, 12)
    errors = nearest_errors(model, x, y, norm, reach=10.0, generator=generator())
    planar = wdro_networks.planar(relu.from_torch(model), x.numpy(), y.numpy(), norm)
    exact = planar.distances_to_error()
    assert (errors.distances >= exact * (1 - 1e-8) - 1e-12).all()
    for radius in (0.02, 0.1, 0.5):
        plan = wdro.knapsack(errors.distances, radius, p)
        truth = wdro.knapsack(exact * (1 - 1e-8), radius, p).value
        assert plan.value <= truth + 1e-9
        Q = attacked(x, y, [errors.points], plan)
        assert_allclose(mean_loss(model, Q, loss=zero_one), plan.value)
        assert audit(x, Q, p, norm).coupling <= radius * (1 + 1e-9)
        # what knapsack does is what allocate does with the 0-1 loss
        growth = record(model, x, y, [errors.points], norm, loss=zero_one)
        both = growth.clean.mean() + wdro.allocate(growth.lists, radius, p).value
        assert_allclose(both, plan.value)


def test_the_mixture_is_the_best_over_all_common_factors():
    rng = np.random.default_rng(0)
    for p in (1, 2, 3.5):
        for _ in range(5):
            lists = list(np.abs(rng.standard_normal((6, 9, 2))) * [3.0, 1.0])
            growth = Growth(lists, torch.zeros(9, 6, 2), np.zeros(6))
            best, spread = mixture(growth, 0.5, p)
            rows = np.stack(lists)

            def gain(t, rows=rows, p=p):
                within = np.where(rows[..., 0] <= 0.5 * t, rows[..., 1], 0).max(axis=1)
                return float(t**-p * within.mean())

            tries = np.append(rows[..., 0].ravel() / 0.5 * (1 + 1e-12), 1.0)
            assert_allclose(best.value, max(gain(t) for t in tries[tries >= 1]), rtol=1e-9)
            assert spread.atoms.mass.sum() == pytest.approx(1)
            assert spread.shares.sum() <= 0.5**p * (1 + 1e-12)
            fixed, _ = mixture(growth, 0.5, p, factors=[1.0, 3.0])
            assert_allclose(fixed.value, max(gain(1.0), gain(3.0)))
    alone, spread = mixture(growth, 0.5, math.inf)
    assert alone.factor == 1 and len(spread.atoms.mass) == 6


# ------------------------------------------------------------------------------- audits


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("p", [1, 2])
def test_audits_against_optimal_transport_of_another_library(norm, p):
    ot = pytest.importorskip("ot")
    model = random_model(5, 2, 10, 2)
    x, y = samples(5, model, 12)
    growth = growth_points(
        model, x, y, norm, [0.2, 0.6, 2.0, 6.0], loss=hinge, generator=generator()
    )
    _, spread = mixture(growth, 0.3, p, factors=[3.0])
    for allocation in (wdro.allocate(growth.lists, 0.3, p), spread):
        Q = attacked(x, y, growth.inputs, allocation)
        power = {1: "cityblock", 2: "euclidean", math.inf: "chebyshev"}[norm]
        cost = ot.dist(x.numpy(), Q.points, metric=power) ** p
        cost[y.numpy()[:, None] != Q.labels.numpy()] = 1e6  # labels are fixed
        best = ot.emd2(np.full(12, 1 / 12), Q.masses, cost) ** (1 / p)
        costs = audit(x, Q, p, norm)
        assert_allclose(costs.wasserstein, best, rtol=1e-7)
        assert costs.wasserstein <= 0.3 * (1 + 1e-9)
        plan = (
            Q.masses * np.linalg.norm(Q.points - x.numpy()[Q.sample], ord=norm, axis=1) ** p
        ).sum()
        assert_allclose(costs.coupling, plan ** (1 / p))


def test_the_plan_of_an_attack_can_overcount():
    # two samples that change places
    x, y = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([0, 0])
    swapped = Attacked(x.flip(0), y, np.full(2, 0.5), np.arange(2))
    assert audit(x, swapped, 1, 2) == (1.0, 0.0)
    assert audit(x, swapped, math.inf, 2) == (1.0, 0.0)
    # not so if their labels differ
    other = Attacked(x.flip(0), torch.tensor([0, 1]), np.full(2, 0.5), np.arange(2))
    assert audit(x, other, 2, 1) == pytest.approx((1.0, 1.0))


def test_audits_of_large_orders():
    # the powers of short ways are below what a linear program can see
    x = torch.tensor([[0.0], [1.0], [9.0]], dtype=torch.float64)
    moved = Attacked(x + 0.3, torch.zeros(3, dtype=torch.long), np.full(3, 1 / 3), np.arange(3))
    for p in (300, 3000, math.inf):
        cost = audit(x, moved, p, 2)
        assert cost.coupling == pytest.approx(0.3)
        assert cost.wasserstein <= cost.coupling


@pytest.mark.parametrize("norm", NORMS)
def test_errors_in_a_box_to_the_last_bit(norm):
    low, high = -1 / 3, 0.7  # in single precision x + (z - x) may be beyond z
    for seed in (8, 40, 44):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3))
        x = (torch.rand(30, 3) * (high - low) + low).clamp(low, high)
        y = model(x).argmax(1)
        found = nearest_errors(model, x, y, norm, low=low, high=high, restarts=4,
                               generator=generator())  # fmt: skip
        assert torch.equal(found.points.clamp(low, high), found.points)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from(NORMS),
    p=st.sampled_from(ORDERS),
    radius=st.floats(0.01, 2.0),
    rows=st.integers(1, 4),
)
def test_any_points_make_a_distribution_within_the_radius(seed, norm, p, radius, rows):
    model = random_model(seed % 7, 2, 5, 3)
    x, y = samples(seed, model, 5)
    rng = np.random.default_rng(seed)
    points = x + torch.from_numpy(rng.standard_normal((rows, 5, 2)))
    growth = record(model, x, y, points, norm, loss=hinge)
    plan = wdro.allocate(growth.lists, radius, p)
    best, spread = mixture(growth, radius, p)
    assert 0 <= best.value <= plan.value + 1e-12
    for allocation in (plan, spread):
        Q = attacked(x, y, growth.inputs, allocation)
        assert Q.masses.sum() == pytest.approx(1)
        value = growth.clean.mean() + allocation.value
        assert_allclose(mean_loss(model, Q, loss=hinge), value, rtol=1e-9)
        costs = audit(x, Q, p, norm)
        assert costs.wasserstein <= costs.coupling * (1 + 1e-7) + 1e-12
        assert costs.coupling <= radius * (1 + 1e-9)


# ------------------------------------------------------------------------------- refusals


def test_what_is_refused_and_what_is_said():
    model = random_model(0, 2, 4, 2)
    x, y = samples(0, model, 4)
    growth = growth_points(model, x, y, 2, [1.0], steps=1, generator=generator())
    plan = wdro.allocate(growth.lists, 1.0, 1)
    Q = attacked(x, y, growth.inputs, plan)
    flips = wdro.knapsack(np.ones(4), 1.0, 1, label_cost=0.5)
    escape = wdro.allocate(growth.lists, 1.0, 1, slopes=np.full(4, 1e6))
    refused = [
        (ValueError, lambda: nearest_errors(model, x, y, 2), "give reach"),
        (ValueError, lambda: nearest_errors(model, x, y, 2, low=0.0, reach=1.0), "leaves the box"),
        (ValueError, lambda: nearest_errors(model, x, y, 2, reach=0.0), "reach"),
        (ValueError, lambda: nearest_errors(model, x, y, 3, reach=1.0), "norm"),
        (ValueError, lambda: nearest_errors(model, x, y, 2, reach=1.0, steps=0), "steps"),
        (ValueError, lambda: nearest_errors(model, x, y, 2, reach=1.0, targets=0), "targets"),
        (ValueError, lambda: nearest_errors(model, x[:0], y[:0], 2, reach=1.0), "no sample"),
        (ValueError, lambda: nearest_errors(model, x, y + 7, 2, reach=1.0), "classes apart"),
        (TypeError, lambda: nearest_errors(model, x.numpy(), y, 2, reach=1.0), "torch tensor"),
        (TypeError, lambda: nearest_errors(model, x.float(), y, 2, reach=1.0), "float32"),
        (TypeError, lambda: nearest_errors(model, x, y, 2, reach=1.0, generator=3), "Generator"),
        (ValueError, lambda: growth_points(model, x, y, 2, []), "radii"),
        (ValueError, lambda: growth_points(model, x, y, 2, [0.0, 1.0]), "positive"),
        (ValueError, lambda: growth_points(model, x, y, 2, 1.0), "vector"),
        (ValueError, lambda: growth_points(model, x, y, 2, [1.0], steps=0), "steps"),
        (ValueError, lambda: record(model, x, y, x, 2), "shape of x"),
        (ValueError, lambda: record(model, x, y, [x * np.nan], 2), "finite"),
        (ValueError, lambda: record(model, x, y, [x], 2, loss=lambda f, _: f.mean()), "per sample"),
        (ValueError, lambda: mixture(growth, 0.0, 1), "radius"),
        (ValueError, lambda: mixture(growth, 1.0, 1, factors=[0.5]), "at least 1"),
        (ValueError, lambda: attacked(x, y, [x], flips), "labels are fixed"),
        (ValueError, lambda: attacked(x, y, growth.inputs, escape), "escapes"),
        (ValueError, lambda: attacked(x, y, x, plan), "shape of x"),
        (ValueError, lambda: record(model, x, y, [], 2), "no points"),
        (ValueError, lambda: record(model, x, y, [x, x[:2]], 2), "shape of x"),
        (TypeError, lambda: record(model, x, y, x.numpy()[None], 2), "torch tensors"),
        (TypeError, lambda: record(model, x, y, [x], 2, loss="hinge"), "function of logits"),
        (TypeError, lambda: attacked(x.numpy(), y, growth.inputs, plan), "torch tensors"),
        (ValueError, lambda: attacked(x, y.numpy(), growth.inputs, plan), "one label per sample"),
        (TypeError, lambda: audit(x.numpy(), Q, 1, 2), "torch tensor"),
        (ValueError, lambda: audit(x[:3], Q, 1, 2), "the samples"),
        (ValueError, lambda: audit(x, Q, 0.5, 2), "order"),
        (ValueError, lambda: audit(x, Q, 1, 3), "norm"),
    ]
    for error, call, words in refused:
        with pytest.raises(error, match=words):
            call()
    broken = random_model(0, 2, 4, 2)
    with torch.no_grad():
        broken[0].weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        nearest_errors(broken, x, y, 2, reach=1.0)
