"""Networks: shapes, counts, initialization, and that nothing global is touched."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advreg import data, networks
from advreg.attacks import Ball, loss_and_gradient, pgd
from advreg.networks import ACTIVATIONS, cnn, mlp, named, wide_resnet
from advreg.training import evaluate, fit, pgd_training, standard

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
        lambda g, **kw: wide_resnet(10, 1, 3, size=8, dropout=0.5, generator=g, **kw),
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
        (lambda: wide(depth=12), "6 n"),
        (lambda: wide(depth=28.0), "depth must be an integer"),
        (lambda: wide(depth=4), "at least 10"),
        (lambda: wide(widen=0), "widen must be an integer of at least 1"),
        (lambda: wide(classes=0), "classes must"),
        (lambda: wide(channels=0), "channels must"),
        (lambda: wide(size=30), "multiple of 4"),
        (lambda: wide(size=0), "size must"),
        (lambda: wide(activation="sine"), "relu, leaky_relu"),
        (lambda: wide(dropout=1), "below 1"),
        (lambda: wide(dropout=-0.1), "dropout must be one number at least 0"),
        (lambda: wide(dropout=math.nan), "dropout must be finite"),
        (lambda: wide(dtype=torch.int64), "floating"),
    ],
)
def test_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match="must be a torch"):
        mlp((3, 2), generator=0)
    with pytest.raises(TypeError, match="must be a torch"):
        wide(generator=0)
    with pytest.raises(TypeError, match="dropout must hold real numbers"):
        wide(dropout="half")


def test_named_networks_are_those_of_the_functions():
    options = {"dtype": torch.float64}
    pairs = [
        ("mlp", mlp((3 * 8 * 8, 128, 128, 7), generator=seeded(), **options)),
        ("cnn", cnn(3, 8, 7, generator=seeded(), **options)),
        ("wrn-16-2", wide_resnet(16, 2, 7, channels=3, size=8, generator=seeded(), **options)),
    ]
    for name, expected in pairs:
        model = named(name, 7, channels=3, size=8, generator=seeded(), **options)
        assert str(model) == str(expected)
        assert torch.equal(weights(model), weights(expected))
        assert model(torch.zeros(2, 3, 8, 8, dtype=torch.float64)).shape == (2, 7)


def test_named_passes_options_on_and_refuses():
    common = {"channels": 1, "size": 8, "generator": seeded()}
    assert any(isinstance(m, nn.BatchNorm2d) for m in named("cnn", 3, batch_norm=True, **common))
    model = named("wrn-10-1", 3, dropout=0.3, **common)
    assert any(isinstance(m, nn.Dropout) for m in model.modules())
    for name in ("resnet", "wrn-16", "wrn-16-4-2", "wrn--16-4", "WRN-16-4", "", None):
        with pytest.raises(ValueError, match="'wrn-DEPTH-WIDENING'"):
            named(name, 3, **common)
    with pytest.raises(ValueError, match="6 n"):
        named("wrn-12-1", 3, **common)
    with pytest.raises(TypeError, match="dropout"):
        named("mlp", 3, dropout=0.1, **common)
    with pytest.raises(TypeError, match="must be a torch"):
        named("mlp", 3, **common | {"generator": 0})


# ----------------------------------------------------------------- wide residual networks


def wide(depth=10, widen=1, classes=10, *, seed=0, **options):
    options = {"channels": 1, "size": 8, "generator": seeded(seed)} | options
    return wide_resnet(depth, widen, classes, **options)


def unsettled(model, seed=0):
    """The model with every batch normalization away from its start, as if trained."""
    generator = seeded(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(0, 0.3, generator=generator)
            layer.running_mean.normal_(0, 0.3, generator=generator)
    return model


def by_hand(state, x, n, phi, training=False, dropout=0.0):
    """Logits from a state dict, which is emptied, with torch's functions and nothing else."""
    state = {k: v.clone() for k, v in state.items() if not k.endswith("num_batches_tracked")}

    def norm(x, name):
        mean, var, weight, bias = (
            state.pop(f"{name}.{k}") for k in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, training)

    x = F.conv2d(x, state.pop("conv.weight"), padding=1)
    for group, block in itertools.product((1, 2, 3), range(n)):
        name, stride = f"group{group}.{block}", 2 if group > 1 and block == 0 else 1
        a = phi(norm(x, f"{name}.norm1"))
        b = F.conv2d(a, state.pop(f"{name}.conv1.weight"), stride=stride, padding=1)
        b = F.dropout(phi(norm(b, f"{name}.norm2")), dropout, training)
        b = F.conv2d(b, state.pop(f"{name}.conv2.weight"), padding=1)
        if b.shape != x.shape:
            x = F.conv2d(a, state.pop(f"{name}.shortcut.weight"), stride=stride)
        x = x + b
    x = phi(norm(x, "norm")).mean(dim=(2, 3))
    logits = x @ state.pop("linear.weight").T + state.pop("linear.bias")
    assert not state  # every weight was used, so there is no other shortcut
    return logits


@pytest.mark.parametrize(
    ("depth", "widen", "parameters"),
    [(16, 4, 2_748_890), (28, 10, 36_479_194), (34, 10, 46_160_474)],
)
def test_wide_resnet_counts_of_the_literature(depth, widen, parameters, monkeypatch):
    monkeypatch.setattr(networks, "_draw", lambda *arguments: None)  # takes no memory, nor time
    assert count(wide_resnet(depth, widen, 10, generator=seeded())) == parameters


@pytest.mark.parametrize(
    ("depth", "widen", "millions"),
    [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (16, 8, 11.0), (22, 8, 17.2)],
)
def test_wide_resnet_counts_of_the_paper(depth, widen, millions, monkeypatch):
    monkeypatch.setattr(networks, "_draw", lambda *arguments: None)
    assert round(count(wide_resnet(depth, widen, 10, generator=seeded())) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("depth", "widen", "classes", "channels"), [(10, 1, 10, 1), (10, 2, 3, 2), (22, 1, 2, 3)]
)
def test_wide_resnet_counts_of_the_docstring(depth, widen, classes, channels):
    model, n, k = wide(depth, widen, classes, channels=channels), (depth - 4) // 6, widen
    expected = 144 * channels + 32 + classes + 64 * k * classes + (448 * n + 2560) * k
    expected += (96768 * n - 22784) * k**2 - (256 if k == 1 else 0)
    assert count(model) == expected
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == depth - (k == 1)  # what "depth" counts
    assert all(layer.bias is None for layer in convolutions)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("depth", "widen", "channels", "size", "name", "phi"),
    [
        (10, 1, 1, 8, "relu", F.relu),
        (10, 2, 3, 12, "softplus", F.softplus),
        (16, 2, 1, 8, "tanh", torch.tanh),
    ],
)
def test_wide_resnet_is_the_formula(depth, widen, channels, size, name, phi, training):
    options = {"channels": channels, "size": size, "activation": name, "dtype": torch.float64}
    model = unsettled(wide(depth, widen, 5, **options)).train(training)
    x = torch.randn(4, channels, size, size, generator=seeded(1), dtype=torch.float64)
    expected = by_hand(model.state_dict(), x, (depth - 4) // 6, phi, training)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-12)


def test_wide_resnet_drops_between_its_convolutions_in_training_only():
    """The masks are torch's own: with its seed, they are the same by hand."""
    model = unsettled(wide(16, dropout=0.3, dtype=torch.float64))
    x = torch.rand(4, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    state = model.state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = by_hand(state, x, 2, F.relu, True, 0.3)
        torch.manual_seed(3)
        torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-12)
    model.eval()
    torch.testing.assert_close(
        model(x), by_hand(model.state_dict(), x, 2, F.relu), rtol=1e-10, atol=0
    )
    plain = wide(16, dtype=torch.float64).state_dict()
    assert list(plain) == list(state)
    assert all(torch.equal(plain[k], state[k]) for k in plain if "conv" in k or "linear" in k)


def test_wide_resnet_halves_the_side_twice():
    model = wide(16, 2, 7, channels=3, size=32).eval()
    sides = []
    for name in ("conv", "group1", "group2", "group3"):
        getattr(model, name).register_forward_hook(lambda _, x, y: sides.append(tuple(y.shape[1:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sides == [(16, 32, 32), (32, 32, 32), (64, 16, 16), (128, 8, 8)]
    assert wide(size=4).eval()(torch.zeros(1, 1, 4, 4)).shape == (1, 10)


def test_wide_resnet_sees_samples_one_by_one_in_evaluation():
    model = unsettled(wide(channels=2, dtype=torch.float64)).eval()
    x = torch.randn(5, 2, 8, 8, generator=seeded(1), dtype=torch.float64)
    logits, order = model(x), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(x[order]), logits[order])
    torch.testing.assert_close(torch.cat([model(one[None]) for one in x]), logits)
    assert model(x[:0]).shape == (0, 10)
    assert not torch.allclose(unsettled(wide(channels=2, dtype=torch.float64))(x), logits)


def test_wide_resnet_is_invariant_under_shifts_of_the_coarsest_pixel():
    """What the mean over all pixels does, for a patch whose trace does not reach the border."""
    model = unsettled(wide(size=80, dtype=torch.float64)).eval()
    patch = torch.randn(5, 5, generator=seeded(1), dtype=torch.float64)
    x = torch.zeros(5, 1, 80, 80, dtype=torch.float64)
    for image, shift in zip(x, (0, 1, 2, 4, 8), strict=True):
        image[0, 34 + shift : 39 + shift, 34 + shift : 39 + shift] = patch
    logits = model(x)
    gap = (logits - logits[0]).abs().amax(dim=1)
    assert (gap[3:] < 1e-12).all() and (gap[1:3] > 1e-6).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_wide_resnet_starts_as_in_the_code_of_its_authors(name):
    model = wide(10, 2, 50, channels=3, activation=name)
    gain = {"tanh": 5 / 3, "leaky_relu": math.sqrt(2 / 1.0001)}.get(name, math.sqrt(2))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            weight, entries = layer.weight, layer.weight.numel()
            target = gain / math.sqrt(layer.out_channels * layer.kernel_size[0] ** 2)
            assert abs(weight.std().item() - target) < 4 * target / math.sqrt(2 * entries)
            assert abs(weight.mean().item()) < 4 * target / math.sqrt(entries)
            fourth = (weight / target).pow(4).mean().item()  # 3 for a normal law
            assert abs(fourth - 3) < 4 * math.sqrt(96 / entries)
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and not layer.bias.any()
            assert (layer.running_var == 1).all() and not layer.running_mean.any()
    bound = 1 / math.sqrt(128)
    assert 0.99 * bound < model.linear.weight.abs().max() <= bound
    assert model.linear.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not model.linear.bias.any()


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_the_gradient_reaches_every_parameter_of_a_wide_resnet(name):
    model = wide(16, 2, activation=name, dropout=0.1, dtype=torch.float64)
    x = torch.rand(8, 1, 8, 8, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    F.cross_entropy(model(x), torch.arange(8)).backward()
    for g in [x.grad, *(p.grad for p in model.parameters())]:
        assert g.isfinite().all() and (g != 0).double().mean() > 0.9


def test_a_wide_resnet_is_attacked_as_any_network():
    model = unsettled(wide(dtype=torch.float64))  # in training mode: attacks switch it
    x = torch.rand(3, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    y, before = torch.tensor([1, 2, 3]), [b.clone() for b in model.buffers()]
    losses, g = loss_and_gradient(model, x, y)
    v = torch.randn(x.shape, generator=seeded(2), dtype=torch.float64)
    up, down = (loss_and_gradient(model, x + h * v, y)[0] for h in (1e-6, -1e-6))
    torch.testing.assert_close((up - down) / 2e-6, (g * v).sum(dim=(1, 2, 3)), rtol=1e-4, atol=0)
    attack = pgd(model, x, y, Ball(0.1), steps=5, generator=seeded())
    assert ((attack.points - x).abs() <= 0.1 + 1e-12).all()
    assert (loss_and_gradient(model, attack.points, y)[0] > losses).all()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


@pytest.mark.parametrize("schedule", [standard(), pgd_training(2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fit_trains_a_wide_resnet_on_digits(schedule, dtype):
    digits = data.digits(np.random.default_rng(0), train=32)
    model = wide(dtype=dtype, dropout=0.1).eval()
    before = weights(model)
    options = {"epochs": 1, "batch": 8, "lr": 0.05, "device": "cpu", "progress": False}
    history = fit(model, digits.train_x, digits.train_y, Ball(0.05), schedule, **options)
    assert np.isfinite(history.loss).all() and not torch.equal(weights(model), before)
    assert not any(module.training for module in model.modules())
    assert model.norm.num_batches_tracked == 4  # of the updates; the attacks leave no trace
    assert 0 <= evaluate(model, digits.test_x[:50], digits.test_y[:50]) <= 1


def test_a_wide_resnet_learns_its_digits():
    digits = data.digits(np.random.default_rng(0), train=32)
    model = wide()
    options = {"epochs": 15, "batch": 16, "lr": 0.1, "device": "cpu", "progress": False}
    history = fit(model, digits.train_x, digits.train_y, Ball(0.05), standard(), **options)
    assert history.loss[-1] < 0.5 < 2 < history.loss[0]  # log 10 = 2.3 where nothing is known
    assert evaluate(model, digits.train_x, digits.train_y) > 0.8
    assert evaluate(model, digits.test_x[:300], digits.test_y[:300]) > 0.3
