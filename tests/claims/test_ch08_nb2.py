"""Witnesses of chapter 8, notebook 2: training at scale."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from advreg import attacks, data, networks, scale, training

RESULTS = Path(__file__).parents[2] / "chapters" / "08_at_scale" / "results"
torch.set_num_threads(1)
F64 = torch.float64


def generator(seed):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------- counts


def formulas(depth, k, classes, channels, size):
    """The two closed forms of the statement."""
    n = (depth - 4) // 6
    parameters = 144 * channels + 32 + classes + 64 * k * classes
    parameters += (448 * n + 2560) * k + (96768 * n - 22784) * k**2
    products = size**2 * (144 * channels + 2560 * k + (13824 * n - 4352) * k**2)
    products += 64 * k * classes
    if k == 1:
        parameters, products = parameters - 256, products - 256 * size**2
    return parameters, products


class Counter(TorchDispatchMode):
    """Multiply-adds of every product that torch runs, by torch's own table of formulas.

    (``FlopCounterMode`` itself cannot look into ``torch.autograd.grad``.)
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += (
                flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out) // 2
            )
        return out


def flops(work):
    """Multiply-adds of everything that `work` runs, forward and backward."""
    with Counter() as counter:
        work()
    return counter.total


def by_hooks(net, x):
    """Multiply-adds of one forward pass, from the shapes that pass through the layers."""
    total = 0

    def look(layer, inputs, output):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            kernel = layer.weight.shape[2] * layer.weight.shape[3]
            total += output[0].numel() * layer.in_channels * kernel
        elif isinstance(layer, nn.Linear):
            total += layer.in_features * layer.out_features

    hooks = [layer.register_forward_hook(look) for layer in net.modules()]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return total


def test_wrn_count(claim):
    c = claim("prop-wrn-count")
    cases = [(10, 1, 10, 3, 32), (10, 1, 2, 1, 4), (16, 1, 7, 2, 8), (10, 2, 10, 1, 16)]
    cases += [(22, 2, 3, 3, 12), (16, 4, 10, 3, 32), (28, 3, 5, 1, 20)]
    for case in cases:
        depth, k, classes, channels, size = case
        net = networks.wide_resnet(
            depth, k, classes, channels=channels, size=size, generator=generator(1)
        ).eval()
        x = torch.rand(1, channels, size, size, generator=generator(2))
        parameters, products = formulas(*case)
        c.close(f"parameters of {case}", sum(p.numel() for p in net.parameters()), parameters, 0.5)
        c.close(f"multiply-adds of {case}, hooks", by_hooks(net, x), products, 0.5)
        shape = {"classes": classes, "channels": channels, "size": size}
        found = scale.multiply_adds(depth, k, **shape)
        c.close(f"multiply-adds of {case}, the library", found, by_hooks(net, x), 0.5)
        with torch.no_grad():
            c.close(
                f"multiply-adds of {case}, torch", flops(lambda n=net, z=x: n(z)), products, 0.5
            )
    # The limit of uses per weight: what one more block in each group adds, counted in networks,
    # is the ratio in the limit (both counts are affine in the number of blocks).
    for k in (1, 2, 4):
        nets = [
            networks.wide_resnet(depth, k, 10, channels=3, size=8, generator=generator(1)).eval()
            for depth in (16, 22)
        ]
        x = torch.rand(1, 3, 8, 8, generator=generator(2))
        weights = np.diff([sum(p.numel() for p in net.parameters()) for net in nets])[0]
        uses = np.diff([by_hooks(net, x) for net in nets])[0] / weights
        c.close(f"uses per weight, k {k}", uses / 64, 216 * k / (216 * k + 1) / 7, 1e-9)
        parameters, products = formulas(6 * 10**7 + 4, k, 10, 3, 32)
        c.close(f"its limit, k {k}", products / parameters / 1024 / (uses / 64), 1, 1e-6)
    # The published sizes of the three networks of the field.
    for case, millions in (((16, 4), 2.7), ((28, 10), 36.5), ((34, 10), 46.2)):
        c.close(
            f"millions of parameters of {case}", formulas(*case, 10, 3, 32)[0] / 1e6, millions, 0.05
        )


# ------------------------------------------------------------------------- cost of training


def surplus(net, x):
    """What torch wastes in the second derivative of a convolution with stride 2.

    It computes 4x4 numbers of the gradient of a 3x3 kernel, and 2x2 of a 1x1 kernel, and throws
    away all but the kernel.
    """
    total = 0
    wasted = {3: 16 / 9 - 1, 1: 4 - 1}
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            seen = []
            hook = layer.register_forward_hook(lambda m, i, o, s=seen: s.append(o[0].numel()))
            with torch.no_grad():
                net(x)
            hook.remove()
            products = seen[0] * layer.in_channels * layer.weight[0, 0].numel()
            total += wasted[layer.weight.shape[2]] * products
    return total


def linear_model(inputs=12, classes=4):
    return networks.mlp((inputs, classes), generator=generator(3))


def test_training_cost(claim):
    c = claim("prop-training-cost")
    wrn = networks.wide_resnet(10, 2, 5, channels=3, size=8, generator=generator(4))
    cnn = networks.cnn(1, 8, 10, generator=generator(4))
    mlp = networks.mlp((12, 9, 7, 4), generator=generator(4))
    cases = {
        "WRN-10-2": (wrn, (3, 8, 8), 5),
        "cnn": (cnn, (1, 8, 8), 10),
        "mlp": (mlp, (12,), 4),
        "linear model": (linear_model(), (12,), 4),
    }
    images = 3
    for name, (net, shape, classes) in cases.items():
        x = torch.rand(images, *shape, generator=generator(5))
        y = torch.arange(images) % classes
        forward = by_hooks(net.eval(), x[:1])
        first = next(m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
        cut = by_hooks(nn.Sequential(nn.Flatten(), first) if "l" in name[1:] else first, x[:1])
        q = cut / forward

        def update(points, net=net, y=y):
            net.train()
            attacks.cross_entropy(net(points), y).mean().backward()

        def penalised(points, net=net, y=y):
            net.train()
            z = points.clone().requires_grad_()  # a leaf whose own gradient nobody asks for
            losses = attacks.cross_entropy(net(z), y)
            (g,) = torch.autograd.grad(losses.sum(), z, create_graph=True)
            total = (losses + 0.1 * g.flatten(1).abs().sum(1)).mean()
            total.backward(inputs=list(net.parameters()))

        def adversarial(steps, net=net, x=x, y=y, update=update):
            ball = attacks.Ball(0.1)
            found = attacks.pgd(net, x, y, ball, steps=steps, step=0.05, report=False)
            update(found.points)

        once = flops(lambda update=update, x=x: update(x))
        c.close(f"{name}: standard", once / images, (3 - q) * forward, 0.5)
        for steps in (1, 4):
            cost = flops(lambda a=adversarial, k=steps: a(k))
            c.close(f"{name}: {steps} steps", cost / images, (2 * steps + 3 - q) * forward, 0.5)
            c.at_least(f"{name}: ratio, {steps} steps", cost / once, 1 + 2 * steps / 3 - 1e-9)
            c.at_most(f"{name}: ratio, {steps} steps", cost / once, 1 + steps + 1e-9)
        cost = flops(lambda p=penalised, x=x: p(x))
        target = (6 - q) * forward + surplus(net.eval(), x[:1])
        c.close(f"{name}: gradient penalty", cost / images, target, 0.5)
    c.close("linear model: ratio K + 1", q, 1.0, 1e-12)


# -------------------------------------------------------------------------- gradient penalty


def cross_entropy(logits, label):
    return float(np.logaddexp.reduce(logits) - logits[label])


def dual(a, norm):
    return {1: np.abs(a).max(), 2: np.sqrt((a**2).sum()), math.inf: np.abs(a).sum()}[norm]


def ball_points(norm, radius, rng, many=4000):
    """Points of a ball in the plane: a dense mesh of its boundary, corners included."""
    t = np.linspace(0, 2 * np.pi, 8 * (many // 8) + 1)
    points = np.c_[np.cos(t), np.sin(t)]
    length = np.linalg.norm(points, ord=norm, axis=1)
    inside = rng.uniform(-1, 1, (200, 2))
    inside = inside[np.linalg.norm(inside, ord=norm, axis=1) <= 1]
    return radius * np.r_[points / length[:, None], inside, [[0, 0]]]


def test_gradient_penalty(claim):
    c = claim("prop-gradient-penalty")
    rng = np.random.default_rng(8201)
    radius = 0.3
    # Part 1, with ties and a zero gradient.
    for norm in (1, 2, math.inf):
        for g in (rng.standard_normal(2), np.array([1.0, -1.0]), np.zeros(2)):
            best = (ball_points(norm, radius, rng) @ g).max()
            c.close(
                f"linearised loss, norm {norm}, g = {g.round(2)}",
                best,
                radius * dual(g, norm),
                1e-6,
            )
    # Part 2: a smooth network of two inputs; Hessian and maximum over a mesh of the ball.
    net = networks.mlp((2, 12, 3), activation="tanh", generator=generator(7), dtype=F64)

    def f(z):
        return attacks.cross_entropy(net(z[None]), torch.tensor([0]))[0]

    x = torch.tensor([0.4, -0.2], dtype=F64)
    g = torch.func.grad(f)(x).detach().numpy()
    for norm, eps in itertools.product((1, 2, math.inf), (0.02, 0.4)):
        mesh = ball_points(norm, eps, rng, 400)
        mesh = np.concatenate([t * mesh for t in np.linspace(0, 1, 8)])
        z = x + torch.from_numpy(mesh)
        values = torch.func.vmap(f)(z).detach().numpy()
        hessians = torch.func.vmap(torch.func.hessian(f))(z).detach().numpy()
        a = ball_points(norm, 1.0, rng, 400)
        curvature = np.abs(np.einsum("ai,zij,aj->za", a, hessians, a)).max()
        gap = abs(values.max() - f(x).item() - eps * dual(g, norm))
        c.at_most(
            f"error over eps^2 H / 2, norm {norm}, eps {eps}", gap / (curvature * eps**2 / 2), 1.0
        )
    # Part 3: affine logits (random, ties, equal rows), every norm.
    worst, least = 0.0, 0.0
    for trial in range(60):
        norm = (1, 2, math.inf)[trial % 3]
        classes = int(rng.integers(2, 6))
        jacobian = rng.standard_normal((classes, 2)) * rng.choice([0.3, 1.0, 4.0])
        if trial % 7 == 0:
            jacobian[1:] = jacobian[0]
        at = rng.standard_normal(classes) if trial % 5 else np.zeros(classes)
        z = ball_points(norm, radius, rng, 800)
        logits = at + z @ jacobian.T
        value = np.logaddexp.reduce(logits, axis=1) - logits[:, 0]
        p = np.exp(at - np.logaddexp.reduce(at))
        g = (p - np.eye(classes)[0]) @ jacobian
        gap = value.max() - cross_entropy(at, 0) - radius * dual(g, norm)
        spread = max(dual(a - b, norm) for a in jacobian for b in jacobian)
        least = min(least, gap)
        worst = max(worst, (gap - 1e-12) / max(radius**2 * spread**2 / 8, 1e-300))
    c.at_least("adversarial minus penalised loss, affine logits", least, -1e-4)  # the mesh's error
    c.at_most("the same over eps^2 D^2 / 8", worst, 1.0)
    # ... the constant is sharp: two classes, margin 0 at x.
    eps = 1e-3
    gap = np.logaddexp(0, eps) - np.log(2) - eps / 2
    c.close("gap over eps^2 D^2 / 8, two classes", gap / (eps**2 / 8), 1.0, 1e-3)
    # ... and for affine f (the margin of two fixed classes) there is no gap at all.
    a = rng.standard_normal(2)
    best = (ball_points(math.inf, radius, rng) @ a).max()
    c.close("affine loss", best, radius * dual(a, math.inf), 1e-12)
    # Part 4: a correctly classified point with a wrong one in its ball, logits times t.
    jacobian, at = rng.standard_normal((3, 2)), np.array([0.5, 0.0, 0.1])
    z = ball_points(2, 0.8, rng)
    losing = z[np.argmax((at + z @ jacobian.T) @ np.array([-1.0, 0.5, 0.5]))]
    assert (at + jacobian @ losing).argmax() != 0
    penalised, attacked = [], []
    for t in (1.0, 10.0, 100.0, 1000.0):
        p = np.exp(t * at - np.logaddexp.reduce(t * at))
        g = t * (p - np.eye(3)[0]) @ jacobian
        penalised.append(cross_entropy(t * at, 0) + 0.8 * dual(g, 2))
        attacked.append(cross_entropy(t * (at + jacobian @ losing), 0))
    c.at_most("penalised loss, logits times 1000", penalised[-1], 1e-12)
    c.at_least("adversarial loss, logits times 1000", attacked[-1], 100.0)
    m, d = at[0] - at[1:].max(), max(dual(row - jacobian[0], 2) for row in jacobian)
    for t, value in zip((1.0, 10.0, 100.0), penalised, strict=False):
        c.at_most(
            f"penalised loss over its bound, t = {t}",
            value / (2 * (1 + t * 0.8 * d) * math.exp(-t * m)),
            1.0,
        )
    # Numerical optimization agrees with the mesh (a second way to the maximum).
    found = minimize(
        lambda e: -f(x + torch.from_numpy(e)).item(), np.zeros(2), bounds=[(-0.4, 0.4)] * 2
    )
    mesh = torch.from_numpy(ball_points(math.inf, 0.4, rng))
    c.at_most(
        "mesh below the optimizer", -found.fun - torch.func.vmap(f)(x + mesh).max().item(), 1e-4
    )


# ----------------------------------------------------------------------------- data parallel


def gradient(net, x, y, weight=1.0):
    """Gradient of weight times the SUM of the losses, as one vector; zero without samples."""
    net.zero_grad()
    if len(y):
        (weight * attacks.cross_entropy(net(x), y).sum()).backward()
    parts = [
        torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in net.parameters()
    ]
    return torch.cat([part.to(F64) for part in parts])


def test_data_parallel(claim):
    c = claim("prop-data-parallel")
    net = networks.mlp((6, 8, 3), activation="softplus", generator=generator(11), dtype=F64)
    for n, processes in ((7, 2), (10, 4), (12, 3), (1, 1), (2, 3), (5, 5)):
        x = torch.rand(n, 6, generator=generator(n), dtype=F64)
        y = torch.arange(n) % 3
        whole = gradient(net, x, y) / n
        shares = [np.arange(n)[r::processes] for r in range(processes)]
        weighted = sum(gradient(net, x[s], y[s], processes / n) for s in shares) / processes
        c.close(
            f"n {n}, W {processes}: weighted sums", (weighted - whole).abs().max().item(), 0, 1e-14
        )
        if n < processes:
            continue
        means = torch.stack([gradient(net, x[s], y[s], 1 / len(s)) for s in shares])
        sizes = np.array([len(s) for s in shares])
        off = means.mean(0) - whole
        relative = torch.from_numpy(processes * sizes / n - 1)
        spread = means - means.mean(0)
        exact = -(relative[:, None] * spread).mean(0)
        c.close(
            f"n {n}, W {processes}: error of plain means",
            (off - exact).abs().max().item(),
            0,
            1e-14,
        )
        bound = relative.pow(2).mean().sqrt() * spread.pow(2).sum(1).mean().sqrt()
        c.at_most(f"n {n}, W {processes}: its size", off.norm().item(), bound.item() + 1e-14)
        over = n % processes
        c.close(
            f"n {n}, W {processes}: variance of relative sizes",
            relative.pow(2).mean().item(),
            over * (processes - over) / n**2,
            1e-12,
        )
        if over:
            c.at_least(f"n {n}, W {processes}: plain means are wrong", off.norm().item(), 1e-6)
    # Arbitrary, very uneven shares, one of them empty.
    x, y = torch.rand(9, 6, generator=generator(9), dtype=F64), torch.arange(9) % 3
    shares = [[0, 1, 2, 3, 4, 5], [], [6], [7, 8]]
    weighted = sum(gradient(net, x[s], y[s], 4 / 9) for s in shares) / 4
    whole = gradient(net, x, y) / 9
    c.close("uneven shares with an empty one", (weighted - whole).abs().max().item(), 0, 1e-14)
    # Part 3: ten steps with momentum, attacks made share by share.
    c.close("weights after ten steps, W = 3", _distance_of_runs("mlp", 3), 0, 1e-12)
    c.at_least("the same with batch normalization", _distance_of_runs("bn", 3), 1e-4)


def _distance_of_runs(kind, processes):
    x = torch.rand(20, 1, 8, 8, generator=generator(21), dtype=F64)
    y = torch.arange(20) % 3
    found = []
    for parts in (1, processes):
        net = networks.cnn(
            1, 8, 3, width=4, batch_norm=kind == "bn", generator=generator(22), dtype=F64
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        for step in range(10):
            rows = torch.randperm(20, generator=generator(step))[:7]
            total = {p: torch.zeros_like(p) for p in net.parameters()}
            for r in range(parts):
                mine = rows[r::parts]
                points = attacks.pgd(
                    net, x[mine], y[mine], attacks.Ball(0.1), steps=3, step=0.05
                ).points
                net.zero_grad()
                (attacks.cross_entropy(net(points), y[mine]).sum() * parts / 7).backward()
                for p in total:
                    total[p] += p.grad / parts
            for p, value in total.items():
                p.grad = value
            optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    return (found[0] - found[1]).norm().item()


# --------------------------------------------------------------------------- batch statistics


def test_batch_statistics(claim):
    c = claim("prop-batch-statistics")
    rng = np.random.default_rng(8202)
    for n, processes, pixels in ((6, 3, 1), (6, 2, 5), (4, 2, 3), (4, 4, 2), (5, 1, 2)):
        for case in ("random", "equal images"):
            # Channel of n images: different means and deviations, or n copies of one image.
            z = rng.standard_normal((n, pixels)) * rng.uniform(0.5, 2, (n, 1)) + rng.normal(
                0, 2, (n, 1)
            )
            if case != "random":
                z[:] = z[0]
            m = n // processes
            b, v = z.mean(1).var(), z.var()
            kept, law, running = [], [], []
            for order in itertools.permutations(range(n)):
                shares = z[list(order)].reshape(processes, m, pixels)
                means, variances = shares.mean((1, 2)), shares.var((1, 2))
                law.append(variances.mean() + means.var() - v)
                kept.append((variances[0], (means[0] - z.mean()) ** 2, means.mean() - z.mean()))
                if m * pixels > 1:
                    running.append(shares.var((1, 2), ddof=1).mean())
            name = f"n {n}, W {processes}, p {pixels}, {case}"
            bias = b * (processes - 1) / (n - 1)
            c.close(f"{name}: total variance", np.abs(law).max(), 0, 1e-12)
            variance, square, _ = np.mean(kept, axis=0)
            c.close(f"{name}: share variance, all partitions", variance, v - bias, 1e-11)
            c.close(f"{name}: squared share mean", square, bias, 1e-11)
            c.close(f"{name}: mean of share means", np.abs(np.array(kept)[:, 2]).max(), 0, 1e-12)
            if running:
                target = m * pixels / (m * pixels - 1) * (v - bias)
                c.close(f"{name}: running variance", np.mean(running), target, 1e-11)
                if pixels == 1:
                    c.close(
                        f"{name}: equal to one process", np.mean(running), n * v / (n - 1), 1e-11
                    )
    # torch normalizes with exactly these numbers.
    z = torch.from_numpy(rng.standard_normal((6, 1, 2, 2)))
    norm = nn.BatchNorm2d(1, momentum=1.0, dtype=F64).train()
    out = norm(z[:3])
    by_hand = (z[:3] - z[:3].mean()) / (z[:3].var(correction=0) + norm.eps).sqrt()
    c.close("torch's layer on a share", (out - by_hand).abs().max().item(), 0, 1e-12)
    c.close(
        "torch's running variance", norm.running_var.item(), z[:3].var(correction=1).item(), 1e-12
    )
    c.at_least(
        "one image in two shares", (norm(z[:3])[0] - norm(z[[0, 4, 5]])[0]).abs().max().item(), 1e-2
    )


# ------------------------------------------------------------------------------ measured runs


class PowerCut(Exception):
    pass


def small_run(seed, epochs, checkpoint=None, cut=None):
    """WRN-10-1 on digits of 8x8 pixels: model, and history or None if the power was cut."""
    images = data.digits(np.random.default_rng(seed), train=250)
    net = networks.wide_resnet(10, 1, 10, channels=1, size=8, generator=generator(seed))
    calls = 0

    def pull(layer, inputs):
        nonlocal calls
        calls += layer.training
        if calls == cut:
            raise PowerCut

    plug = net.register_forward_pre_hook(pull)
    try:
        history = training.fit(
            net,
            images.train_x[:130],
            images.train_y[:130],
            attacks.Ball(0.15),
            training.pgd_training(2),
            epochs=epochs,
            batch=50,  # the last batch of an epoch has 30 images
            nesterov=True,
            weight_decay=5e-4,
            augment=training.crop_and_flip(1, False),
            seed=seed,
            device="cpu",
            checkpoint=checkpoint,
            progress=False,
        )
    except PowerCut:
        history = None
    plug.remove()
    return net, history


def unequal(a, b):
    """How many entries of the two states are not the same, bit for bit."""
    theirs = b.state_dict()
    return sum(int((v != theirs[k]).sum()) for k, v in a.state_dict().items())


def test_kill_and_resume(claim, tmp_path):
    c = claim("obs-kill-and-resume")
    for seed, cut in ((31, 1), (32, 5), (33, 9)):
        straight, history = small_run(seed, 3)
        file = tmp_path / f"state-{seed}"
        broken, none = small_run(seed, 3, file, cut)
        assert none is None
        c.at_least(f"cut at update {cut}: entries that differ", unequal(straight, broken), 1)
        again, resumed = small_run(seed, 3, file)
        c.close(
            f"cut at update {cut}: entries that differ, at the end",
            unequal(straight, again),
            0,
            0.5,
        )
        c.close(f"cut at update {cut}: equal histories", float(history == resumed), 1, 0.5)
    other, _ = small_run(34, 3)
    c.at_least("another seed: entries that differ", unequal(straight, other), 1000)


def slower(rows, one, other):
    """Median CPU time of `one` over that of `other`; each is (what, method, format)."""
    speed = {(r["what"], r["method"], r["format"]): np.median(r["images_per_second"]) for r in rows}
    return speed[other] / speed[one]


def test_scale_throughput(claim):
    c = claim("obs-scale-throughput")
    stored = scale.load(RESULTS / "throughput.json")
    assert (stored["network"], stored["size"], stored["steps"]) == ("wrn-16-4", 32, 10)
    assert stored["device"] == {"type": "cpu", "name": stored["device"]["name"], "threads": 1}
    assert min(len(row["images_per_second"]) for row in stored["rows"]) >= 3
    for name in scale.FORMATS:
        fit, floor = ("fit", "pgd-10", name), ("floor", "pgd-10", name)
        c.at_most(f"fit over the floor, {name}", slower(stored["rows"], fit, floor), 1.25)
    ordinary = ("fit", "standard", "float32")
    for method, least, most in (("pgd-10", 5.5, 9.5), ("gradient-penalty-1", 1.7, 3.5)):
        cost = slower(stored["rows"], ("fit", method, "float32"), ordinary)
        c.at_least(f"{method} over ordinary training", cost, least)
        c.at_most(f"{method} over ordinary training", cost, most)
    fast, plain = ("fit", "pgd-10", "bfloat16"), ("plain", "pgd-10", "float32")
    c.at_least("bfloat16 against the plain loop", slower(stored["rows"], plain, fast), 1.5)
    options = {"channels": 1, "size": 16, "batch": 32, "batches": 1, "rounds": 3, "steps": 4}
    rows = scale.throughput("wrn-10-1", **options, device="cpu", seed=82)
    fit, floor = ("fit", "pgd-4", "float32"), ("floor", "pgd-4", "float32")
    c.at_most("anew: fit over the floor", slower(rows, fit, floor), 1.5)
    c.at_least("anew: four steps over ordinary training", slower(rows, fit, ordinary), 2.4)
    c.at_most("anew: four steps over ordinary training", slower(rows, fit, ordinary), 5.0)
