"""Smooth activations: derivative ranges, and Lipschitz constants by branch and bound."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from advreg import relu, smooth
from advreg.linear import dual_norm

torch.set_num_threads(1)

LAYERS = {
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "softplus": torch.nn.Softplus,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
}


def network(seed, widths=(2, 5, 2), scale=1.0):
    rng = np.random.default_rng(seed)
    pairs = itertools.pairwise(widths)
    return relu.Network(
        tuple(scale * rng.standard_normal((b, a)) for a, b in pairs),
        tuple(rng.standard_normal(b) for b in widths[1:]),
    )


@pytest.mark.parametrize("name", smooth.ACTIVATIONS)
def test_values_and_derivatives(name):
    t = torch.linspace(-9, 9, 401, dtype=torch.float64, requires_grad=True)
    value = LAYERS[name]()(t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    points = t.detach().numpy()
    assert np.allclose(smooth.activation(name, points), value.detach(), atol=1e-8)
    assert np.allclose(smooth.derivative(name, points), slope, atol=1e-8)
    assert np.isfinite(smooth.derivative(name, [-1e300, 1e300])).all()


@pytest.mark.parametrize("name", smooth.ACTIVATIONS)
def test_ranges_against_grids(name):
    rng = np.random.default_rng(0)
    ends = np.sort(rng.normal(0, 3, (200, 2)), axis=1)
    ends[:4] = [[-1.5, -1.5], [-1, 1], [0, 5], [-30, 30]]
    least, most = smooth.derivative_range(name, *ends.T)
    grid = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * np.linspace(0, 1, 4001)
    slopes = smooth.derivative(name, grid)
    step = (ends[:, 1] - ends[:, 0]) / 4000
    assert (slopes.min(axis=1) >= least - 1e-13).all()
    assert (slopes.max(axis=1) <= most + 1e-13).all()
    assert (slopes.min(axis=1) - least <= step**2 + 1e-13).all()  # a smooth extremum
    assert (most - slopes.max(axis=1) <= step**2 + 1e-13).all()


def test_ranges_of_whole_lines():
    whole = {n: smooth.derivative_range(n, -np.inf, np.inf) for n in smooth.ACTIVATIONS}
    peak = 0.5 * (1 + math.erf(1)) + math.exp(-1) / math.sqrt(math.pi)
    assert whole["gelu"][1] == pytest.approx(peak, rel=1e-14)
    assert whole["gelu"][1] == pytest.approx(1.128904, abs=1e-6)
    assert whole["silu"][1] == pytest.approx(1.099839, abs=1e-6)
    for name in ("gelu", "silu"):  # slope(t) + slope(-t) = 1
        assert sum(whole[name]) == pytest.approx(1, abs=1e-14)
    assert whole["softplus"] == (0, 1)
    assert whole["tanh"] == (0, 1)
    assert whole["sigmoid"] == (0, 0.25)
    assert smooth.derivative_range("gelu", 100, np.inf)[0] == 1


@pytest.mark.parametrize("name", smooth.ACTIVATIONS)
def test_networks_against_torch(name):
    layers = [torch.nn.Linear(3, 4), LAYERS[name](), torch.nn.Linear(4, 5), LAYERS[name]()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(5, 2)).double()
    net, found = smooth.from_torch(model)
    assert found == name
    x = np.random.default_rng(1).standard_normal((6, 3))
    out = model(torch.tensor(x)).detach().numpy()
    assert np.allclose(smooth.evaluate(net, x, name), out, atol=1e-7)
    jacobian = torch.stack([torch.autograd.functional.jacobian(model, p) for p in torch.tensor(x)])
    assert np.allclose(smooth.gradients(net, x, name), jacobian, atol=1e-6)
    assert smooth.gradients(net, x[0], name).shape == (2, 3)


def test_from_torch_refuses():
    linear, gelu = torch.nn.Linear(2, 2), torch.nn.GELU()
    with pytest.raises(TypeError, match="Sequential"):
        smooth.from_torch(linear)
    with pytest.raises(TypeError, match="exact"):
        smooth.from_torch(torch.nn.Sequential(linear, torch.nn.GELU(approximate="tanh"), linear))
    with pytest.raises(TypeError, match="beta"):
        smooth.from_torch(torch.nn.Sequential(linear, torch.nn.Softplus(beta=2), linear))
    for model in (
        [linear, torch.nn.ReLU(), linear],
        [linear, gelu, linear, torch.nn.SiLU(), linear],
        [linear],
    ):
        with pytest.raises(ValueError, match="one kind"):
            smooth.from_torch(torch.nn.Sequential(*model))
    with pytest.raises(ValueError, match="alternate"):
        smooth.from_torch(torch.nn.Sequential(linear, gelu))


# ------------------------------------------------------------------------------- far away


@pytest.mark.parametrize("name", ["gelu", "silu", "softplus"])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("widths", [(2, 6, 3), (2, 4, 4, 3)])
def test_slope_at_infinity(name, norm, widths):
    net = network(3, widths)
    angles = np.linspace(0, 2 * np.pi, 40_001)
    u = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    u /= np.linalg.norm(u, ord=norm, axis=1, keepdims=True)
    R = 1e5
    out = smooth.evaluate(net, R * u, name)
    for y in range(3):
        others = [j for j in range(3) if j != y]
        seen = max((out[:, j] - out[:, y]).max() for j in others) / R
        found = smooth.slope_at_infinity(net, name, norm, labels=[y])
        assert max(seen, 0) == pytest.approx(found, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_bounded_units_have_no_slope_at_infinity(name):
    net = network(4)
    assert smooth.slope_at_infinity(net, name, 2) == 0
    assert np.ptp(smooth.evaluate(net, [[1e6, 2e6], [2e6, 4e6]], name), axis=0).max() < 1e-9
    with pytest.raises(ValueError, match="labels"):
        smooth.slope_at_infinity(net, name, 2, labels=[2])
    with pytest.raises(ValueError, match="hidden"):
        smooth.slope_at_infinity(relu.Network((np.eye(2),), (np.zeros(2),)), name, 2)


# ------------------------------------------------------------------------------- branch and bound


def slope_of(net, x, name, norm, rows):
    return dual_norm(rows @ smooth.gradients(net, x, name), norm).max(axis=-1)


@pytest.mark.parametrize("name", smooth.ACTIVATIONS)
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_brackets_against_grids(name, norm):
    net = network(5, (2, 6, 3))
    rows = np.array([[1.0, -1, 0], [1, 0, -1], [0, 1, -1]])
    low, high = np.array([-2.0, -1.0]), np.array([3.0, 2.0])
    found = smooth.lipschitz(net, name, norm, low, high, tol=1e-4)
    side = [np.linspace(a, b, 301) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*side), axis=-1).reshape(-1, 2)
    seen = slope_of(net, grid, name, norm, rows).max()
    assert seen <= found.upper
    assert seen >= found.lower * (1 - 2e-3)
    assert found.lower <= found.upper <= found.lower * (1 + 1e-4)
    assert slope_of(net, found.point[None], name, norm, rows)[0] == pytest.approx(found.lower)
    # the parts cover the box, and each bound is one
    assert np.prod(found.high - found.low, axis=1).sum() == pytest.approx(15)
    inside = found.low + (found.high - found.low) * np.random.default_rng(0).random(found.low.shape)
    assert (slope_of(net, inside, name, norm, rows) <= found.bounds * (1 + 1e-12)).all()


@pytest.mark.parametrize("most", [1, 2, 3, 40])
def test_stops_early_with_a_bracket(most):
    net = network(6, (2, 8, 2), 2.0)
    exact = smooth.lipschitz(net, "gelu", 2, -3, 3, tol=1e-5)
    found = smooth.lipschitz(net, "gelu", 2, -3, 3, tol=0, most_boxes=most)
    assert found.boxes <= most
    assert found.lower <= exact.upper and found.upper >= exact.lower
    assert found.upper >= exact.upper * (1 - 1e-5)


def test_three_inputs_and_one_output():
    net = network(7, (3, 4, 1))
    found = smooth.lipschitz(net, "silu", 1, -1, 1, tol=5e-3)
    x = np.random.default_rng(1).uniform(-1, 1, (100_000, 3))
    seen = np.abs(smooth.gradients(net, x, "silu")).max()
    assert 0.97 * found.lower <= seen <= found.upper <= found.lower * 1.005


def test_exact_cases():
    one = relu.Network((np.ones((1, 1)), np.ones((1, 1))), (np.zeros(1), np.zeros(1)))
    found = smooth.lipschitz(one, "gelu", 2, -5, 5, tol=1e-9)
    peak = 0.5 * (1 + math.erf(1)) + math.exp(-1) / math.sqrt(math.pi)
    assert peak == pytest.approx(found.upper, rel=2e-9) and found.lower <= peak
    assert abs(found.point[0]) == pytest.approx(math.sqrt(2), abs=1e-3)
    assert smooth.lipschitz(one, "gelu", 2, 0, 1, tol=1e-9).upper == pytest.approx(
        smooth.derivative("gelu", 1.0), rel=1e-8
    )
    # large biases: all units are linear or dead in the box, and the ReLU network is the same
    W = np.random.default_rng(2).standard_normal((6, 2))
    far = relu.Network((W, np.ones((1, 6))), (60.0 * np.array([1, -1, 1, 1, -1, 1]), np.zeros(1)))
    for norm in (1, 2, np.inf):
        a = smooth.lipschitz(far, "silu", norm, -1, 1)
        b = relu.lipschitz(far, norm, low=-1, high=1)
        assert a.lower == pytest.approx(b.lower) and a.upper == pytest.approx(b.upper)
        assert a.boxes == 1
    # units that cancel: where the middles of the ranges do, the widths must not
    W = np.ones((2, 1))
    pair = relu.Network((W, np.array([[1.0, -1]])), (np.array([0.0, -1]), np.zeros(1)))
    x = np.linspace(-6, 6, 100_001)
    seen = np.abs(smooth.derivative("gelu", x) - smooth.derivative("gelu", x - 1)).max()
    for most in (1, 9, 1000):
        run = smooth.lipschitz(pair, "gelu", 2, -6, 6, most_boxes=most)
        assert run.lower <= seen * (1 + 1e-6) and seen <= run.upper
    W = np.random.default_rng(2).standard_normal((6, 2))
    zero = relu.Network((W, np.zeros((2, 6))), (np.zeros(6), np.zeros(2)))
    assert smooth.lipschitz(zero, "tanh", 2, -1, 1).upper == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: smooth.activation("relu", 0.0), ValueError, "activation is one of"),
        (lambda: smooth.activation("gelu", np.inf), ValueError, "finite"),
        (lambda: smooth.derivative_range("gelu", 1, 0), ValueError, "low"),
        (lambda: smooth.derivative_range("gelu", np.nan, 0), ValueError, "low"),
        (lambda: smooth.derivative_range("gelu", 1j, 0), TypeError, "real"),
        (lambda: smooth.evaluate(network(1), np.zeros(3), "gelu"), ValueError, "2 entries"),
        (lambda: smooth.gradients(network(1), np.zeros(3), "gelu"), ValueError, "2 entries"),
        (lambda: smooth.evaluate("net", np.zeros(3), "gelu"), TypeError, "Network"),
        (lambda: smooth.lipschitz(network(1), "gelu", 3, 0, 1), ValueError, "norm"),
        (lambda: smooth.lipschitz(network(1), "gelu", 2, 1, 1), ValueError, "low"),
        (lambda: smooth.lipschitz(network(1), "gelu", 2, None, None), ValueError, "box"),
        (lambda: smooth.lipschitz(network(1), "gelu", 2, 0, 1, tol=-1), ValueError, "tol"),
        (lambda: smooth.lipschitz(network(1), "gelu", 2, 0, 1, most_boxes=0), ValueError, "boxes"),
        (lambda: smooth.lipschitz(network(1, (2, 3, 3, 2)), "gelu", 2, 0, 1), ValueError, "hidden"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
