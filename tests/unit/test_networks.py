"""Networks: shapes, counts, initialization, and that nothing global is touched."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from advreg.networks import ACTIVATIONS, cnn, mlp

torch.set_num_threads(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def count(model):
    return sum(p.numel() for p in model.parameters())


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("widths", [(3, 2), (5, 4, 3), (64, 128, 128, 10), (1, 1)])
def test_mlp_counts_and_shapes(widths):
    model = mlp(widths, generator=seeded())
    assert count(model) == sum(a * b + b for a, b in itertools.pairwise(widths))
    assert model(torch.zeros(7, 1, widths[0], 1)).shape == (7, widths[-1])


def test_mlp_is_the_formula():
    model = mlp((4, 6, 3), generator=seeded(), dtype=torch.float64)
    x = np.random.default_rng(0).normal(size=(5, 2, 2))
    a, b, c, d = (p.detach().numpy() for p in model.parameters())
    by_hand = np.maximum(x.reshape(5, 4) @ a.T + b, 0) @ c.T + d
    np.testing.assert_allclose(model(torch.tensor(x)).detach().numpy(), by_hand, atol=1e-14)


@pytest.mark.parametrize(
    ("shape", "parameters", "convolutions"),
    [
        ((1, 8, 10), 9_930, 2),
        ((1, 16, 10), 33_546, 3),
        ((1, 28, 10), 70_474, 4),
        ((3, 32, 10), 70_762, 4),
    ],
)
def test_cnn_counts_and_shapes(shape, parameters, convolutions):
    channels, size, classes = shape
    model = cnn(*shape, generator=seeded())
    assert count(model) == parameters  # the numbers of the docstring
    assert sum(isinstance(layer, nn.Conv2d) for layer in model) == convolutions
    assert model(torch.zeros(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 9, 33])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_cnn_takes_any_side(size, batch_norm):
    model = cnn(2, size, 3, width=4, batch_norm=batch_norm, generator=seeded())
    assert model(torch.rand(4, 2, size, size)).shape == (4, 3)
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in model)
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    assert norms == (len(convolutions) if batch_norm else 0)
    assert all((layer.bias is None) == batch_norm for layer in convolutions)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_he_keeps_the_size_of_the_signal(name):
    """The gain is right if layers neither kill nor blow up the signal; and the spread is exact."""
    model = mlp((400, 300, 300, 10), activation=name, generator=seeded())
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    gain = {"tanh": 5 / 3, "leaky_relu": math.sqrt(2 / 1.0001)}.get(name, math.sqrt(2))
    for layer, expected in zip(linear, (gain, gain, 1.0), strict=True):
        entries = layer.weight.numel()
        target = expected / math.sqrt(layer.in_features)
        error = target / math.sqrt(2 * entries)  # standard error of a normal sample's spread
        assert abs(layer.weight.std().item() - target) < 4 * error
        assert abs(layer.weight.mean().item()) < 4 * target / math.sqrt(entries)
        assert not layer.bias.any()
    if name in ("relu", "leaky_relu"):
        x = torch.randn(50, 400, generator=seeded(1))
        assert 0.7 < (linear[1](model[:3](x)).var() / linear[0](x).var()).item() < 1.4


def test_torch_initialization_is_torchs():
    ours = mlp((50, 200, 10), init="torch", generator=seeded())
    torchs = nn.Sequential(nn.Flatten(), nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 10))
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        bound = 1 / math.sqrt(50 if a.shape[0] == 200 else 200)
        assert a.abs().max() <= bound and b.abs().max() <= bound
        if a.numel() > 1000:
            assert a.abs().max() > 0.99 * bound and b.abs().max() > 0.99 * bound
            assert a.std().item() == pytest.approx(b.std().item(), rel=0.05)


def test_convolutions_count_their_inputs():
    layer = cnn(3, 8, 10, width=512, generator=seeded())[0]
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 27), rel=0.03)


@pytest.mark.parametrize(
    "build",
    [
        lambda g, **kw: mlp((6, 5, 3), generator=g, **kw),
        lambda g, **kw: cnn(1, 8, 3, batch_norm=True, generator=g, **kw),
        lambda g, **kw: cnn(1, 8, 3, init="torch", generator=g, **kw),
    ],
)
def test_only_the_generator_counts(build):
    before = torch.get_rng_state()
    one, same, other = build(seeded(1)), build(seeded(1)), build(seeded(2))
    double = build(seeded(1), dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))
    assert torch.equal(weights(double).float(), weights(one))
    assert all(p.requires_grad for p in one.parameters())


def test_one_generator_gives_different_networks_in_turn():
    generator = seeded()
    assert not torch.equal(
        weights(mlp((3, 2), generator=generator)), weights(mlp((3, 2), generator=generator))
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mlp((3,), generator=seeded()), "two entries"),
        (lambda: mlp((3, 0), generator=seeded()), "at least 1"),
        (lambda: mlp((3, 2.5), generator=seeded()), "at least 1"),
        (lambda: mlp((3, 2), activation="sine", generator=seeded()), "relu, leaky_relu"),
        (lambda: mlp((3, 2), init="zero", generator=seeded()), "he, torch"),
        (lambda: mlp((3, 2), generator=seeded(), dtype=torch.int64), "floating"),
        (lambda: cnn(1, 1, 10, generator=seeded()), "at least 2"),
        (lambda: cnn(0, 8, 10, generator=seeded()), "at least 1"),
        (lambda: cnn(1, 8, 10, activation="sine", generator=seeded()), "relu, leaky_relu"),
    ],
)
def test_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match="must be a torch"):
        mlp((3, 2), generator=0)
