"""PGD against other libraries, against its floor, and stopped early by FOSC.

Run ``make bench``.  Each test first asserts that both sides give comparable answers: points in
the ball, and the same robust accuracy within 3 % of the samples (random starts differ).  Time is
that of PGD with 10 steps of radius / 4 from a random start, on float32 tensors, one thread.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from advreg.attacks import Ball, cross_entropy, fgsm, fosc, loss_and_gradient, pgd

torch.set_num_threads(1)
BALL = Ball(0.1)


def _blocks(channels, widths, convolutions):
    """`convolutions` of each width, then a pooling that halves the side."""
    layers = []
    for width in widths:
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


def _case(name):
    """Network, inputs and labels; the labels are the network's own, up to some noise."""
    layers, shape = {
        "digits CNN, B = 128": ("digits", (128, 1, 8, 8)),
        "digits CNN, B = 512": ("digits", (512, 1, 8, 8)),
        "MLP 64-128-128-10, B = 512": ("mlp", (512, 1, 8, 8)),
        "6 convolutions at 32 x 32, B = 64": ("six", (64, 3, 32, 32)),
    }[name]
    torch.manual_seed(0)
    if layers == "digits":
        body = [*_blocks(1, (16, 32), 1), nn.Flatten(), nn.Linear(128, 10)]
    elif layers == "six":
        body = _blocks(3, (32, 64, 128), 2)
        body += [nn.Flatten(), nn.Linear(2048, 10)]
    else:
        body = [nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        body += [nn.Linear(128, 10)]
    model = nn.Sequential(*body).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
    x = torch.rand(shape)
    with torch.no_grad():
        logits = model(x)
        y = (logits + 0.3 * logits.std() * torch.randn_like(logits)).argmax(dim=1)
    return model, x, y


CASES = [
    "digits CNN, B = 128",
    "digits CNN, B = 512",
    "MLP 64-128-128-10, B = 512",
    "6 convolutions at 32 x 32, B = 64",
]


def _accuracy(model, points, y):
    with torch.no_grad():
        return float((model(points).argmax(dim=1) == y).double().mean())


def _ours(model, x, y, generator):
    return lambda: pgd(model, x, y, BALL, generator=generator, report=False).points


def _same(model, x, y, *attacks):
    accuracies = []
    for points in attacks:
        assert BALL.contains(points, x, 1e-6).all()
        accuracies.append(_accuracy(model, points, y))
    assert max(accuracies) - min(accuracies) <= 0.03 + 1 / len(x)


@pytest.mark.parametrize("name", CASES)
def test_against_torchattacks(compare, name):
    torchattacks = pytest.importorskip("torchattacks")
    model, x, y = _case(name)
    ours = _ours(model, x, y, torch.Generator().manual_seed(1))
    attack = torchattacks.PGD(model, eps=0.1, alpha=0.025, steps=10)
    _same(model, x, y, ours(), attack(x, y))
    goal = 1 / 0.85 if name.startswith("MLP") else 1 / 0.67
    compare(f"{name}: pgd", ours, "torchattacks", lambda: attack(x, y), goal=goal, rounds=7)


@pytest.mark.parametrize("name", CASES)
def test_against_foolbox(compare, name):
    foolbox = pytest.importorskip("foolbox")
    model, x, y = _case(name)
    ours = _ours(model, x, y, torch.Generator().manual_seed(1))
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.025, steps=10)

    def peer():
        return attack(wrapped, x, y, epsilons=0.1)[1]

    _same(model, x, y, ours(), peer())
    compare(f"{name}: pgd", ours, "foolbox", peer, goal=1, rounds=5)


@pytest.mark.parametrize("name", CASES)
def test_against_art(compare, name):
    pytest.importorskip("art")
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    model, x, y = _case(name)
    ours = _ours(model, x, y, torch.Generator().manual_seed(1))
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), x.shape[1:], 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier, eps=0.1, eps_step=0.025, max_iter=10, num_random_init=1,
        batch_size=len(x), verbose=False,
    )  # fmt: skip
    images, labels = x.numpy(), np.eye(10, dtype=np.float32)[y.numpy()]

    def peer():
        return attack.generate(images, labels)

    _same(model, x, y, ours(), torch.from_numpy(peer()))
    compare(f"{name}: pgd", ours, "ART", peer, goal=1, rounds=5)


@pytest.mark.parametrize("name", CASES)
def test_against_the_floor(compare, name):
    """Ten forward and input-backward passes, and nothing else: what the model alone costs."""
    model, x, y = _case(name)

    def floor():
        for _ in range(10):
            z = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(nn.functional.cross_entropy(model(z), y), z)
        return g

    _, g = loss_and_gradient(model, x, y)
    gap = (floor() * len(x) - g).flatten(1).norm(dim=1) / g.flatten(1).norm(dim=1)
    assert gap.median() < 1e-4  # a few samples sit at a kink of a ReLU or of the pooling
    ours = _ours(model, x, y, torch.Generator().manual_seed(1))
    compare(f"{name}: pgd", ours, "10 bare passes", floor, goal=0.9, rounds=5)


@pytest.mark.parametrize("name", CASES)
def test_fosc_of_every_iterate(compare, name):
    """Ten passes each; the traced attack has nine steps and returns loss and FOSC of all ten."""
    model, x, y = _case(name)

    def traced():
        return pgd(model, x, y, BALL, steps=9, trace=True)

    plain = pgd(model, x, y, BALL, report=False)
    attack = pgd(model, x, y, BALL, trace=True)
    assert torch.equal(plain.points, attack.points)
    torch.testing.assert_close(attack.trace_fosc[-1], fosc(model, attack.points, y, x, BALL))

    def ours():
        return pgd(model, x, y, BALL, report=False)

    compare(f"{name}: trace of FOSC", traced, "without", ours, goal=0.83, rounds=5)


# ------------------------------------------------------------------------------- stopped attacks


def _masked(model, x, y, ball, threshold):
    """The usual way: every sample in every pass, and the finished ones held where they are."""
    z, running = x.clone(), torch.ones(len(x), dtype=torch.bool)
    lo, hi = ball.bounds(x)
    for _ in range(10):
        z.requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(model(z), y).sum(), z)
        z = z.detach()
        c = (g * (torch.where(g > 0, hi, lo) - z)).flatten(1).sum(dim=1)
        running = running & (c > threshold)
        moved = torch.clamp(z + ball.radius / 4 * g.sign(), lo, hi)
        z = torch.where(running[:, None, None, None], moved, z)
    return z


def _early(model, x, y, share):
    """A threshold that `share` of the samples meet at the start."""
    return float(torch.quantile(fosc(model, x, y, x, BALL), share))


@pytest.mark.parametrize("share", [0.75, 0.92])
@pytest.mark.parametrize("name", CASES[1:])
def test_dropping_finished_samples_against_masking_them(compare, name, share):
    model, x, y = _case(name)
    threshold = _early(model, x, y, share)

    def ours():
        return pgd(model, x, y, BALL, threshold=threshold, report=False)

    attack, masked = ours(), _masked(model, x, y, BALL, threshold)
    assert (attack.passes == 1).double().mean() >= share - 2 / len(x)
    losses = [loss_and_gradient(model, z, y)[0] for z in (attack.points, masked)]
    torch.testing.assert_close(losses[0].mean(), losses[1].mean(), rtol=2e-2, atol=1e-3)

    def peer():
        return _masked(model, x, y, BALL, threshold)

    compare(f"{name}: {share:.0%} stop at once", ours, "masking", peer, goal=4, rounds=5)


@pytest.mark.parametrize("name", CASES[1:])
def test_stopping_at_equal_quality(compare, name):
    """A threshold at 10 % of the mean FOSC of the start costs at most 5 % of the gain in loss."""
    model, x, y = _case(name)
    threshold = 0.1 * float(fosc(model, x, y, x, BALL).mean())

    def ours():
        return pgd(model, x, y, BALL, threshold=threshold, report=False)

    def peer():
        return pgd(model, x, y, BALL, report=False)

    clean, stopped, full = (
        float(loss_and_gradient(model, z, y)[0].mean()) for z in (x, ours().points, peer().points)
    )
    assert stopped - clean >= 0.95 * (full - clean)
    compare(f"{name}: threshold 10 %", ours, "pgd without", peer, goal=0.95, rounds=7)


@pytest.mark.parametrize("norm, radius", [(1, 5.0), (2, 0.5), (math.inf, 0.1)])
def test_projection_against_numpy_bisection(compare, norm, radius):
    """The exact one-dimensional search, against forty halvings of the same multiplier."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(256, 784, generator=generator)
    z = x + 0.1 * torch.randn(256, 784, generator=generator)
    ball = Ball(radius, norm)
    d = (z - x).double()

    def move(t):
        if norm == 1:
            return torch.clamp(x + d.sign() * (d.abs() - t).clamp_min(0), 0, 1) - x
        return torch.clamp(x + d / (1 + t), 0, 1) - x

    def bisect():
        if norm == math.inf:
            return torch.clamp(torch.clamp(z, x - radius, x + radius), 0, 1)
        low, high = torch.zeros(256, 1).double(), torch.full((256, 1), 1e3).double()
        for _ in range(40):
            t = (low + high) / 2
            outside = move(t).norm(p=norm, dim=1, keepdim=True) > radius
            low, high = torch.where(outside, t, low), torch.where(outside, high, t)
        return (x + move(high)).float()

    torch.testing.assert_close(ball.project(z, x), bisect(), rtol=0, atol=1e-5)
    compare(f"projection, norm {norm}", lambda: ball.project(z, x), "bisection", bisect, rounds=5)


def test_fgsm_is_one_pass(compare):
    model, x, y = _case("MLP 64-128-128-10, B = 512")

    def floor():
        z = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(model(z), y), z)
        return torch.clamp(x + 0.1 * g.sign(), 0, 1)

    def ours():
        return fgsm(model, x, y, BALL, report=False).points

    torch.testing.assert_close(ours(), floor(), atol=1e-6, rtol=0)
    compare("MLP: fgsm", ours, "the bare lines", floor)
