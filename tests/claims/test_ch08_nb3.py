"""Witnesses of chapter 8, notebook 3: the inner problem of a deep network."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from advreg import attacks, experiments, networks, training
from advreg import scale_experiments as runs

RESULTS = Path(__file__).parents[2] / "chapters" / "08_at_scale" / "results"
JOB = runs.Job(size=8, epochs=4, images=600, test=150, device="cpu")
TINY = 1e-30  # torch asks for a positive constant
torch.set_num_threads(1)


# ------------------------------------------------------------------- normalization, exactly


def norm_jacobian(z, gamma, e):
    """The formula of the proposition."""
    n, root = z.size, np.sqrt(z.var() + e)
    hat = (z - z.mean()) / root
    return gamma / root * (np.eye(n) - 1 / n - np.outer(hat, hat) / n)


def norm_numbers(z, gamma, beta, e):
    """One channel in training mode, written out for differences."""
    return gamma * (z - z.mean()) / np.sqrt(((z - z.mean()) ** 2).mean() + e) + beta


def distance(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def differences(call, z, h=1e-5):
    steps = h * np.eye(z.size)
    return np.array([(call(z + d) - call(z - d)) / (2 * h) for d in steps]).T


def deep(seed, e=TINY):
    net = networks.wide_resnet(
        10,
        1,
        10,
        channels=1,
        size=8,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = e
    return net


def test_eval_mode(claim):
    c = claim("prop-eval-mode")
    rng = np.random.default_rng(8301)
    for n, gamma, beta, e in ((2, 1.3, 0.2, 0.7), (3, -0.8, 0.0, 0.0), (9, 2.0, -1.0, 1e-5)):
        z = rng.normal(size=n) * 2 + 1
        numeric = differences(functools.partial(norm_numbers, gamma=gamma, beta=beta, e=e), z)
        J = norm_jacobian(z, gamma, e)
        c.at_most(f"part 2, differences, n = {n}", distance(J, numeric), 1e-7)
        root, hat = np.sqrt(z.var() + e), (z - z.mean()) / np.sqrt(z.var() + e)
        c.close("J 1", np.abs(numeric @ np.ones(n)).max(), 0, 1e-8)
        stretched = gamma / root * e / (z.var() + e) * hat
        c.at_most("J hat", distance(numeric @ hat, stretched), 1e-7)
        if n > 2:
            w = np.linalg.svd(np.array([np.ones(n), hat]))[2][-1]  # orthogonal to both
            c.at_most("J w", distance(numeric @ w, gamma / root * w), 1e-7)
    # Part 3: no gradient for a pair, whatever stands behind the layer; part 4 in numbers.
    for gap in (0.3, 5.0):
        z = torch.tensor([[0.1], [0.1 + gap]], dtype=torch.float64, requires_grad=True)
        layer = nn.BatchNorm1d(1, eps=TINY, dtype=torch.float64)
        losses = attacks.cross_entropy(
            torch.cat([layer(z), -3 * layer(z)], 1), torch.tensor([0, 1])
        )
        (g,) = torch.autograd.grad(losses.sum(), z)
        c.close("gradient of a pair, e = 0", float(g.abs().max()), 0, 1e-12)
        layer.eval()
        (g,) = torch.autograd.grad(
            attacks.cross_entropy(
                torch.cat([layer(z), -3 * layer(z)], 1), torch.tensor([0, 1])
            ).sum(),
            z,
        )
        c.at_least("gradient of the same pair in evaluation mode", float(g.abs().min()), 1e-3)
        e, pair = 0.4, np.array([0.1, 0.1 + gap])
        numeric = differences(functools.partial(norm_numbers, gamma=1.5, beta=0.0, e=e), pair)
        size = 1.5 * e / (2 * (gap**2 / 4 + e) ** 1.5)
        c.at_most("part 4", distance(numeric, size * np.array([[1, -1], [-1, 1]])), 1e-8)
    single = differences(
        functools.partial(norm_numbers, gamma=1.5, beta=0.3, e=0.2), np.array([0.7])
    )
    c.close("gradient of one sample", float(np.abs(single).max()), 0, 1e-12)
    # Part 1 for a wide residual network, and its failure in training mode.
    net = deep(3, 1e-5)
    x = torch.rand((5, 1, 8, 8), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y = torch.arange(5)
    together = attacks.loss_and_gradient(net, x, y)[1]
    apart = torch.cat(
        [attacks.loss_and_gradient(net, x[i : i + 1], y[i : i + 1])[1] for i in range(5)]
    )
    c.close("part 1", float((together - apart).abs().max()), 0, 1e-12)

    def cross(mode):  # gradient of the first sample's loss in the inputs of the others
        z = x.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(attacks.cross_entropy(net.train(mode)(z), y)[0], z)
        return float(g[1:].abs().max())

    c.at_most("evaluation mode: gradient in other samples", cross(False), 0.0)
    c.at_least("training mode: gradient in other samples", cross(True), 1e-4)


def groups(net):
    """The sets of convolutions that the proposition names, by what they are in a block."""
    named = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    sets = {name: [m] for name, m in named.items() if name.endswith("conv1")}
    for name, m in named.items():
        if not name.endswith("conv1"):
            sets.setdefault("group1" if name == "conv" else name.split(".")[0], []).append(m)
    return sets


def descend(net, x, y, s, decay=1e-3, share=None):
    """Twenty steps; filters times s, with s^2 times the rate and 1 / s^2 times the decay."""
    with torch.no_grad():
        for members in groups(net).values():
            for m in members:
                m.weight.mul_(s)
    ours = [m.weight for members in groups(net).values() for m in members]
    known = set(map(id, ours))
    rest = [p for p in net.parameters() if id(p) not in known]
    shrunk = decay / s**2 if share is None else share
    sgd = torch.optim.SGD(
        [{"params": ours, "lr": 0.05 * s**2, "weight_decay": shrunk}, {"params": rest}],
        lr=0.05,
        momentum=0.9,
    )
    for _ in range(20):
        sgd.zero_grad()
        attacks.cross_entropy(net(x), y).mean().backward()
        sgd.step()
    return net(x).detach(), torch.cat([w.detach().flatten() for w in ours])


def test_effective_rate(claim):
    c = claim("prop-effective-rate")
    draws = torch.Generator().manual_seed(8302)
    x = torch.rand((12, 1, 8, 8), generator=draws, dtype=torch.float64)
    y = torch.arange(12) % 10
    for depth, seed in ((10, 1), (16, 2)):
        net = networks.wide_resnet(
            depth,
            1,
            10,
            channels=1,
            size=8,
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
        ).train()
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = TINY
        logits, sets = net(x).detach(), groups(net)
        c.close(f"sets, depth {depth}", len(sets), 3 * (depth - 4) // 6 + 3, 0.5)
        for name, members in sets.items():
            weights = [m.weight for m in members]
            loss = attacks.cross_entropy(net(x), y).mean()
            g = torch.autograd.grad(loss, weights)
            flow = sum(float((a * b).detach().sum()) for a, b in zip(g, weights, strict=True))
            c.close(f"<gradient, w>, {name}", flow, 0, 1e-9)
            c.at_least("while the gradient is not 0", float(g[0].abs().max()), 1e-6)
            with torch.no_grad():
                for w in weights:
                    w.mul_(2.5)
            c.at_most(f"logits, {name} times 2.5", distance(net(x).detach(), logits), 1e-8)
            scaled = torch.autograd.grad(attacks.cross_entropy(net(x), y).mean(), weights)
            c.close("gradient", float((2.5 * scaled[0] - g[0]).abs().max()), 0, 1e-8)
            with torch.no_grad():
                for w in weights:
                    w.div_(2.5)
        half = sets["group2"][:1]  # one convolution of a set alone is not of this kind
        with torch.no_grad():
            half[0].weight.mul_(2.5)
        c.at_least("a part of a set alone", distance(net(x).detach(), logits), 1e-2)
    # Part 2: one step, any loss of the direction alone.
    rng = np.random.default_rng(8303)
    M, r, eta = rng.normal(size=(6, 6)), 2.3, 0.7
    w = torch.tensor(rng.normal(size=6))
    w = (r * w / w.norm()).requires_grad_(True)

    def loss(v):
        u = v / v.norm()
        return torch.sin(u @ torch.tensor(M) @ u) + u[0]

    (g,) = torch.autograd.grad(loss(w), w)
    after = (w - eta * g).detach()
    c.close("squared length", float(after @ after), r**2 + eta**2 * float(g @ g), 1e-12)
    u = (w / r).detach().requires_grad_(True)
    (gu,) = torch.autograd.grad(loss(u), u)
    on_sphere = (u - eta / r**2 * gu).detach()
    c.at_most("direction", distance(after / after.norm(), on_sphere / on_sphere.norm()), 1e-12)
    # Part 3, with momentum and decay; and without rescaled decay it fails.
    plain, w = descend(deep(5).train(), x, y, 1.0)
    for s in (3.0, 0.25):
        logits, scaled = descend(deep(5).train(), x, y, s)
        c.close(f"logits after 20 steps, s = {s}", float((logits - plain).abs().max()), 0, 1e-6)
        c.close("weights", float((scaled / s - w).abs().max()), 0, 1e-6)
    wrong, _ = descend(deep(5).train(), x, y, 3.0, share=1e-3)
    c.at_least("decay not rescaled", float((wrong - plain).abs().max()), 1e-2)


# -------------------------------------------------------------------------------- measured


@functools.cache
def small(method, seed):
    return runs.trained(JOB, method, seed).model


def in_training_mode(model, x, y, ball, batch):
    model, found = copy.deepcopy(model).train(), []
    for a, labels in zip(x.split(batch), y.split(batch), strict=True):
        z = a.clone()
        for _ in range(10):
            z = z.detach().requires_grad_(True)
            attacks.cross_entropy(model(z), labels).sum().backward()
            z = ball.project(z.detach() + ball.radius / 4 * z.grad.sign(), a)
        found.append(z)
    return torch.cat(found)


@pytest.mark.parametrize("seed", [8311])
def test_attack_mode(claim, seed):
    c = claim("obs-attack-mode")
    x, y = (part[:100] for part in runs.images(JOB, seed)[2:])
    for method, least in (("standard", 0.15), ("pgd-10", 0.05)):
        model = small(method, seed)
        exact = attacks.pgd(model, x, y, JOB.ball, steps=10).points
        accuracy = float((model(exact).argmax(1) == y).double().mean())
        for batch in (2, 8, 50) if method == "standard" else (2,):
            z = in_training_mode(model, x, y, JOB.ball, batch)
            more = float((model(z).argmax(1) == y).double().mean()) - accuracy
            c.at_least(f"{method}, parts of {batch}", more, least if batch == 2 else 1e-9)


def robust(model, x, y, seed):
    draws = torch.Generator().manual_seed(seed)
    return attacks.worst_of(model, x, y, JOB.ball, steps=10, restarts=0, generator=draws).accuracy


def halves(order, q, seed):
    """Weak and strong attacks swapped at half time, without the experiment's code."""
    parts = runs.images(JOB, seed)
    model = runs.network(JOB, seed)
    quality = {"L": training.pgd_training(1), "H": training.pgd_training(10)}
    training.fit(
        model,
        parts.train_x,
        parts.train_y,
        JOB.ball,
        training.switch(quality[order[0]], quality[order[1]], 2),
        epochs=4,
        milestones=(2,),
        decay=q,
        seed=seed,
        device="cpu",
        progress=False,
    )
    return robust(model, parts.test_x, parts.test_y, seed)


def test_deep_early_late(claim):
    c = claim("obs-deep-early-late")
    stored = runs.load(RESULTS / "early-late.json")
    for lr in (0.1, 0.05):
        for q, sign, least in ((1.0, 1, 7), (0.1, -1, 4)):
            late, early = (
                100 * experiments.column(stored, "robust", order=order, lr=lr, decay=q)
                for order in ("LH", "HL")
            )
            lead = sign * (late - early)
            c.at_least(f"rate {lr}, q = {q}: least over the seeds", lead.min(), 1e-9)
            c.at_least(f"rate {lr}, q = {q}: mean", lead.mean(), least)
            if lr == 0.1:
                strong, weak = (
                    100 * experiments.column(stored, "robust", order=order, lr=lr, decay=q)
                    for order in ("HH", "LL")
                )
                c.at_least("HH ahead", strong.mean() - max(late.mean(), early.mean()), 1e-9)
                c.at_least("LL behind", (np.minimum(late, early) - weak).min(), 1e-9)
                c.at_least("LL behind, mean", min(late.mean(), early.mean()) - weak.mean(), 10)
    seed = 8321
    constant, divided = (halves("LH", q, seed) - halves("HL", q, seed) for q in (1.0, 0.03))
    c.at_least("another seed, LH - HL, constant over divided", constant - divided, 1e-9)


METHODS = ("standard", "gradient-penalty-1", "dynamic-0.5", "dynamic-0.1", "pgd-10")


def stored(key, index=None):
    """Method -> one number per seed."""
    result = runs.load(RESULTS / "methods.json")
    columns = {name: experiments.column(result, key, method=name) for name in METHODS}
    return columns if index is None else {name: v[:, index] for name, v in columns.items()}


def test_deep_methods(claim):
    c = claim("obs-deep-methods")
    strong = stored("robust")
    for name, values in stored("clean").items():
        c.at_least(f"clean accuracy, {name}", values.min(), 0.95)
    c.at_most("standard", strong["standard"].max(), 0.2)
    c.at_least("gradient penalty, least", strong["gradient-penalty-1"].min(), 0.25)
    c.at_most("gradient penalty, most", strong["gradient-penalty-1"].max(), 0.5)
    for name in METHODS[2:]:
        c.at_least(name, strong[name].min(), 0.6)
    judge, same = stored("autoattack"), stored("robust_same")
    for name in METHODS:
        c.at_most(f"AutoAttack, images, {name}", 25 * np.abs(judge[name] - same[name]).max(), 1.001)
    seed = 8311
    x, y = runs.images(JOB, seed)[2:]
    apart = robust(small("pgd-10", seed), x, y, 0) - robust(small("standard", seed), x, y, 0)
    c.at_least("another seed, PGD-10 minus standard", apart, 0.05)


def test_deep_dynamic(claim):
    c = claim("obs-deep-dynamic")
    strong, passes = stored("robust"), stored("passes")
    lost = {name: 100 * (strong["pgd-10"] - strong[name]) for name in METHODS}
    c.at_least("c_max = 0.5, every seed", lost["dynamic-0.5"].min(), 1e-9)
    c.at_least("c_max = 0.5, mean", lost["dynamic-0.5"].mean(), 5)
    c.at_most("c_max = 0.5, passes", (passes["dynamic-0.5"] / passes["pgd-10"]).max(), 0.55)
    c.at_least("c_max = 0.1, mean", lost["dynamic-0.1"].mean(), 1e-9)
    c.at_most("c_max = 0.1, mean", lost["dynamic-0.1"].mean(), 6)
    c.at_most("c_max = 0.1, its best seed", lost["dynamic-0.1"].min(), 0.0)
    c.at_most("c_max = 0.1, passes", (passes["dynamic-0.1"] / passes["pgd-10"]).max(), 0.75)
    c.at_least("FOSC at most 0.1", stored("below", 0)["pgd-10"].min(), 0.6)
    c.at_least("FOSC at most 0.5", stored("below", 1)["pgd-10"].min(), 0.88)
    history = runs.trained(JOB, "dynamic-0.5", 8331).history
    c.at_most("another seed, passes", np.mean(history.passes) / 11, 0.85)


def ranks(values):
    return np.argsort(np.argsort(values))


def test_deep_fosc(claim):
    c = claim("obs-deep-fosc")
    clean, left = stored("fosc_clean", 2), stored("fosc_pgd10", 2)
    strong = stored("robust")
    for name in METHODS[1:]:
        c.at_most(f"clean, standard over {name}", (clean["standard"] / clean[name]).max(), 0.5)
        c.at_most(f"robust, standard over {name}", (strong["standard"] / strong[name]).max(), 1)
    pair = (left["gradient-penalty-1"] / left["dynamic-0.5"]).max()
    c.at_most("PGD-10 points, penalty over dynamic", pair, 1 - 1e-9)
    lost = (strong["dynamic-0.5"] - strong["gradient-penalty-1"]).min()
    c.at_least("and its robust accuracy is lower by", lost, 0.15)
    for name, values in stored("rank").items():
        c.at_least(f"rank, {name}", values.min(), 0.55 if name == "standard" else 0.75)
    for name, values in stored("bound_ratio").items():
        c.at_most(f"mean missed over mean FOSC, {name}", values.max(), 1 - 1e-9)
    for name, values in stored("above").items():
        c.at_least(f"images that miss more, {name}", values.min(), 0.01)
        c.at_most(f"images that miss more, {name}", values.max(), 0.2)
    # Another seed, with one long attack and differences of losses instead of the stored code.
    seed, middle = 8311, {}
    x, y = runs.images(JOB, seed)[2:]
    for method in ("standard", "pgd-10"):
        model = small(method, seed)
        ten = attacks.pgd(model, x, y, JOB.ball, steps=10)
        more = {"step": JOB.radius / 40, "start": ten.points, "keep": "best"}
        long = attacks.pgd(model, x, y, JOB.ball, steps=50, **more)
        with torch.no_grad():
            missed = attacks.cross_entropy(model(long.points), y)
            missed = (missed - attacks.cross_entropy(model(ten.points), y)).numpy()
        g = attacks.loss_and_gradient(model, ten.points, y)[1]
        lo, hi = (x - JOB.radius).clamp(0, 1), (x + JOB.radius).clamp(0, 1)
        ends = torch.maximum(g * (hi - ten.points), g * (lo - ten.points))
        fosc = ends.flatten(1).sum(1).numpy()
        c.at_least(
            f"rank, another seed, {method}", np.corrcoef(ranks(fosc), ranks(missed))[0, 1], 0.3
        )
        c.at_most(f"mean missed over FOSC, {method}", missed.mean() / fosc.mean(), 1)
        middle[method] = float(attacks.fosc(model, x, y, x, JOB.ball).median())
    c.at_most("clean FOSC, standard over PGD-10", middle["standard"] / middle["pgd-10"], 0.9)
