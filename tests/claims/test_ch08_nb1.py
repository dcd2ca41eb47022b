"""Witnesses of chapter 8, notebook 1: orders of sums, few bits, vanished losses, trainings."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from advreg import attacks, data, networks, training

torch.set_num_threads(1)

# ------------------------------------------------------------------------------------- sums


def tree_sum(x, rng):
    """Sum in a random order, computed in the format of x, and the depth of the deepest term."""
    terms = [(v, 0) for v in x]
    while len(terms) > 1:
        i, j = rng.choice(len(terms), 2, replace=False)
        (a, deep), (b, other) = terms[i], terms[j]
        terms = [t for k, t in enumerate(terms) if k not in (i, j)]
        terms.append((a + b, max(deep, other) + 1))
    return terms[0]


def halves_sum(x):
    """Pairwise summation by recursion, and its depth."""
    if len(x) == 1:
        return x[0], 0
    middle = 2 ** (math.ceil(math.log2(len(x))) - 1)
    (a, deep), (b, other) = halves_sum(x[:middle]), halves_sum(x[middle:])
    return a + b, max(deep, other) + 1


def test_sum_order(claim):
    c = claim("prop-sum-order")
    rng = np.random.default_rng(8101)
    used, pair, deepest = [], [], 0
    for dtype, u in ((np.float32, Fraction(1, 2**24)), (np.float16, Fraction(1, 2**11))):
        for n in (1, 2, 3, 7, 40):
            for kind in range(12):
                scale = 10.0 ** rng.uniform(-3, 0, n) if kind % 2 else 1.0
                x = (rng.standard_normal(n) * scale).astype(dtype)
                x = abs(x) if kind % 3 == 0 else x
                exact = sum(map(Fraction, x.tolist()), Fraction(0))
                size = sum((abs(Fraction(v)) for v in x.tolist()), Fraction(0))
                found = []
                for total, h in (tree_sum(list(x), rng), halves_sum(list(x))):
                    gamma = h * u / (1 - h * u)
                    error = abs(Fraction(float(total)) - exact)
                    used.append(float(error / (gamma * size)) if gamma else float(error))
                    found.append((Fraction(float(total)), gamma))
                    deepest = max(deepest, h - (n - 1))
                apart, room = abs(found[0][0] - found[1][0]), found[0][1] + found[1][1]
                pair.append(float(apart / (room * size)) if room else float(apart))
                ceiling = math.ceil(math.log2(n))
                c.close(f"depth of halving {n} terms", halves_sum(list(x))[1], ceiling, 0.5)
    c.at_most("error in units of gamma_h sum |x|, 240 sums", max(used), 1.0)
    c.at_most("two orders in units of the sum of both bounds", max(pair), 1.0)
    c.at_most("depth beyond n - 1", deepest, 0)
    # Part 3: the first order is attained.
    u = 2.0**-24
    x = np.append(np.float32(1), np.full(2000, u, np.float32))
    total = np.float32(0)
    for v in x:
        total = np.float32(total + v)
    error = math.fsum(x.tolist()) - float(total)
    c.close("1, u, ..., u: error over (n - 1) u", error / (2000 * u), 1, 1e-9)
    bound = 2000 * u / (1 - 2000 * u) * math.fsum(x.tolist())
    c.close("the same over gamma_h sum |x|", error / bound, 1, 1e-3)


# ------------------------------------------------------------------------------------- FOSC


def polytope(rng, d, kind):
    """Vertices of a box, of an l1 ball, or of a cloud in a ball of radius 1, and its norm."""
    if kind == "box":  # an l-inf ball of radius 1 cut by a box around the centre 0
        ends = np.stack([-rng.random(d), rng.random(d)])
        return np.array(list(itertools.product(*ends.T))), np.inf
    if kind == "l1":
        return np.concatenate([np.eye(d), -np.eye(d)]), 1
    if kind == "full":
        return np.array(list(itertools.product([-1.0, 1.0], repeat=d))), np.inf
    cloud = rng.standard_normal((9, d))
    return cloud / np.linalg.norm(cloud, axis=1).max(), 2


def test_fosc_rounding(claim):
    c = claim("prop-fosc-rounding")
    rng = np.random.default_rng(8102)
    dual = {np.inf: 1, 1: np.inf, 2: 2}
    worst = {"upper": -np.inf, "lower": -np.inf, "length": 0.0, "dual": 0.0, "normal": 0.0}
    worst["full"] = 0.0
    for trial, kind in itertools.product(range(60), ("box", "l1", "full", "cloud")):
        vertices, p = polytope(rng, 4, kind)
        weights = rng.dirichlet(np.full(len(vertices), 0.3))
        z = vertices[0] if trial % 4 == 0 else weights @ vertices
        g = np.zeros(4) if trial % 5 == 0 else rng.standard_normal(4)
        if trial % 7 == 0:
            g[:2] = g[0]  # ties
        d = rng.standard_normal(4) * 10 ** rng.uniform(-5, 1)
        d = np.zeros(4) if trial == 1 else d

        def top(v, z=z, vertices=vertices):
            return (vertices @ v).max() - z @ v

        def width(v, vertices=vertices):
            return np.ptp(vertices @ v)

        moved = top(g + d) - top(g)
        worst["upper"] = max(worst["upper"], moved - top(d))
        worst["lower"] = max(worst["lower"], -moved - top(-d))
        worst["length"] = max(worst["length"], abs(top(d) + top(-d) - width(d)))
        worst["dual"] = max(worst["dual"], width(d) - 2 * np.linalg.norm(d, dual[p]))
        if width(g) > 0 and width(g + d) > 0:
            normal = abs(top(g + d) / width(g + d) - top(g) / width(g))
            worst["normal"] = max(worst["normal"], normal - width(d) / width(g))
            if kind in ("l1", "full"):
                ratio = np.linalg.norm(d, dual[p]) / np.linalg.norm(g, dual[p])
                worst["full"] = max(worst["full"], normal - ratio)
    for what, excess in worst.items():
        c.at_most(f"excess over the bound: {what}", excess, 1e-12)
    # Part 3, both examples, with FOSC over vertices.
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]])
    g = np.array([0.3, -2.0])
    z = square[(square @ g).argmin()]
    c.close("g = 0: computed FOSC", (square @ g).max() - z @ g, 2 * abs(g).sum(), 1e-12)
    z = np.array([1.0, -1.0])
    for eta in (1e-3, 0.1, 2.0):
        v = np.array([1.0, eta])
        computed = ((square @ v).max() - z @ v) / np.ptp(square @ v)
        c.close(f"normalised FOSC, eta = {eta}", computed, eta / (1 + eta), 1e-12)
        c.close("from", (square[:, 0].max() - z[0]) / 2, 0, 1e-12)
    # Part 4, in float32 and float16 against rational numbers, terms added from the left.
    used = []
    for dtype, u in ((np.float32, 2.0**-24), (np.float16, 2.0**-11)):
        for n in (1, 2, 30):
            for _ in range(20):
                low = np.sort(rng.random((3, n)).astype(dtype), axis=0)
                low[1] = np.where(rng.random(n) < 0.2, low[0], low[1])
                v = rng.standard_normal(n).astype(dtype)
                exact, total = Fraction(0), dtype(0)
                for gi, (left, mid, right) in zip(v, low.T, strict=True):
                    end = right if gi > 0 else left
                    term = dtype(gi * dtype(end - mid))
                    total = dtype(total + term) if total != 0 else term
                    exact += Fraction(float(gi)) * (Fraction(float(end)) - Fraction(float(mid)))
                gamma = (n + 1) * u / (1 - (n + 1) * u)  # depth n - 1, plus 2
                if exact:
                    used.append(float(abs(Fraction(float(total)) - exact) / exact) / gamma)
    c.at_most("relative error of the sum in units of gamma_(h+2)", max(used), 1.0)


# ------------------------------------------------------------------------------- sign steps


def test_sign_steps(claim):
    c = claim("prop-sign-steps")
    rng = np.random.default_rng(8103)
    worst = dict.fromkeys(("outside", "within", "size", "sign", "lost", "min", "l1"), -np.inf)
    smooth = [-np.inf, -np.inf]
    for trial in range(400):
        n, eps = 5, 10 ** rng.uniform(-2, 0)
        x = rng.random(n)
        lo, hi = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
        z = np.where(rng.random(n) < 0.3, hi, rng.uniform(lo, hi))
        hessian = rng.standard_normal((n, n)) * (trial % 2)
        hessian, slope = hessian + hessian.T, rng.standard_normal(n)
        slope[0] = 0 if trial % 3 == 0 else slope[0]
        centre = z * (trial % 2)  # the gradient at z is `slope`
        g = slope + hessian @ (z - centre)
        d = rng.standard_normal(n) * 10 ** rng.uniform(-3, 1)
        computed = np.where(rng.random(n) < 0.2, 0, g + d)
        d, step = computed - g, 10 ** rng.uniform(-2, 0.3)
        there, here = (np.clip(z + step * np.sign(v), lo, hi) for v in (g, computed))
        turned = np.sign(g) != np.sign(computed)
        apart, lost = abs(there - here), g @ (there - here)
        worst["outside"] = max(worst["outside"], apart[~turned].max(initial=0))
        worst["within"] = max(worst["within"], (apart - 2 * step).max())
        worst["size"] = max(worst["size"], (abs(g) - abs(d))[turned].max(initial=-1))
        worst["sign"] = max(worst["sign"], -lost)
        chain = (abs(g)[turned].sum(), np.minimum(abs(g), abs(d)).sum(), abs(d).sum())
        chain = [lost, *(2 * step * v for v in chain)]
        for name, (a, b) in zip(("lost", "min", "l1"), itertools.pairwise(chain), strict=True):
            worst[name] = max(worst[name], a - b)

        def f(v, slope=slope, hessian=hessian, centre=centre):
            return slope @ v + 0.5 * (v - centre) @ hessian @ (v - centre)

        beta, drop = abs(hessian).sum(), f(there) - f(here)
        smooth[0] = max(smooth[0], drop - chain[1] - beta * step**2)
        smooth[1] = max(smooth[1], -drop - beta * step**2)
    for what, excess in worst.items():
        c.at_most(f"excess over the bound: {what}", excess, 1e-12)
    c.at_most("excess, smooth loss, above", smooth[0], 1e-12)
    c.at_most("excess, smooth loss, below", smooth[1], 1e-12)
    g, t, step = rng.standard_normal(6), 1e-3, 0.1
    lost = g @ (step * np.sign(g) - step * np.sign(-t * g))
    c.close("sharp: loss over 2 step ||d||_1", lost / (2 * step * abs(-t * g - g).sum()), 1, 2e-3)


# -------------------------------------------------------------------------- low precision


def to_bits(t, bits):
    """Round to so many explicit mantissa bits by adding and taking away a large number."""
    t = t.double()
    large = torch.exp2(torch.floor(torch.log2(t.abs().clamp_min(1e-300))) + (52 - bits))
    large = 1.5 * large  # its last place is the last bit wanted
    return torch.where(t == 0, t, (t + large) - large).float()


class _Product(torch.autograd.Function):
    """A convolution or a linear layer whose products have few bits, backwards as well."""

    @staticmethod
    def forward(ctx, x, weight, bias, layer, bits):
        ctx.layer, ctx.bits, ctx.weight, ctx.size = layer, bits, to_bits(weight, bits), x.shape
        x = to_bits(x, bits)
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(x, ctx.weight, bias)
        return nn.functional.conv2d(x, ctx.weight, bias, layer.stride, layer.padding)

    @staticmethod
    def backward(ctx, g):
        g = to_bits(g, ctx.bits)
        if isinstance(ctx.layer, nn.Linear):
            return g @ ctx.weight, None, None, None, None
        options = (ctx.layer.stride, ctx.layer.padding)
        back = torch.nn.grad.conv2d_input(ctx.size, ctx.weight, g, *options)
        return back, None, None, None, None


def few_bits(net, bits):
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.forward = lambda x, m=layer: _Product.apply(x, m.weight, m.bias, m, bits)
    return net


def climb(model, x, y, radius, steps):
    """PGD from x by hand: the points, in the type of x."""
    lo, hi, z = (x - radius).clamp(0, 1), (x + radius).clamp(0, 1), x
    for _ in range(steps):
        z = torch.clamp(z + radius / 4 * slope(model, z, y).sign(), lo, hi)
    return z


def slope(model, z, y):
    z = z.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(z), y, reduction="sum")
    return torch.autograd.grad(loss, z)[0]


def test_lowprecision_attack(claim):
    c = claim("obs-lowprecision-attack")
    probe = torch.as_tensor(np.random.default_rng(8104).standard_normal(1000)).float()
    c.close(
        "oracle rounds as bfloat16", (to_bits(probe, 7) - probe.bfloat16()).abs().max(), 0, 1e-9
    )
    for seed in (8101, 8102):
        images = data.digits(np.random.default_rng(seed), size=16)
        generator = torch.Generator().manual_seed(seed)
        net = networks.wide_resnet(10, 1, 10, channels=1, size=16, generator=generator)
        options = {"epochs": 4, "milestones": (0.75,), "seed": seed, "device": "cpu"}
        plan = training.fgsm_training(random_start=True)
        ball = attacks.Ball(0.1)
        training.fit(net, images.train_x, images.train_y, ball, plan, progress=False, **options)
        net.eval()
        x, y = torch.as_tensor(images.test_x[100:148]), torch.as_tensor(images.test_y[100:148])
        exact = copy.deepcopy(net).double()

        def half(z, net=net):
            with torch.autocast("cpu", torch.bfloat16):
                return net(z).float()

        def losses(z, exact=exact, y=y):
            with torch.no_grad():
                return nn.functional.cross_entropy(exact(z.double()), y, reduction="none")

        best = climb(exact, x.double(), y, 0.1, 10)
        g, clean = slope(exact, x.double(), y), losses(x)
        for name, model in (("float32", net), ("TF32", few_bits(net, 10)), ("bfloat16", half)):
            found = climb(model, x, y, 0.1, 10)
            low = slope(model, x, y).double()
            moved = ((found - best).abs() > 1e-3).double().mean().item()
            turned = (low.sign() != g.sign()).double().mean().item()
            gain = ((losses(found) - clean).mean() / (losses(best) - clean).mean()).item()
            who = f"seed {seed}, {name}"
            if name == "bfloat16":
                off = ((low - g).abs().sum() / g.abs().sum()).item()
                c.close(f"{who}: error of the gradient", off, 0.085, 0.065)
                c.close(f"{who}: share of turned signs", turned, 0.0325, 0.0275)
                c.close(f"{who}: share of pixels elsewhere", moved, 0.2, 0.15)
                c.close(f"{who}: gain", gain, 1.0, 0.03)
            elif name == "TF32":
                c.at_most(f"{who}: share of turned signs", turned, 0.01)
                c.at_least(f"{who}: share of pixels elsewhere", moved, 0.03)
                c.close(f"{who}: gain", gain, 1.0, 0.01)
            else:
                c.at_most(f"{who}: share of pixels elsewhere", moved, 0.01)
                c.close(f"{who}: gain", gain, 1.0, 1e-3)


# --------------------------------------------------------------------------- vanished losses


def test_loss_underflow(claim):
    c = claim("prop-loss-underflow")
    rng = np.random.default_rng(8105)
    label = torch.zeros(1, dtype=torch.long)
    for dtype, bits in ((torch.float32, 24), (torch.float64, 53)):
        gamma = 10 * 2.0**-bits
        wrong = 0
        for trial in range(300):
            classes = (2, 3, 10)[trial % 3]
            margin = bits * math.log(2) + rng.uniform(-1, 3)
            others = -margin - rng.random(classes - 1) * (trial % 4)
            q = torch.as_tensor(np.append(0.0, others)[None], dtype=dtype)
            t = [Fraction(float(v)) for v in torch.exp(q[0, 1:])]
            u = Fraction(1, 2**bits)
            for loss in (
                nn.functional.cross_entropy(q, label),
                attacks.cross_entropy(q, label)[0],
                (q - 0).exp().sum().log(),
            ):
                if sum(t) <= u * Fraction(1 - 2 * gamma):
                    wrong += loss.item() != 0
                if max(t) > u * Fraction(1 + 8 * 2.0**-bits):  # exp of torch may differ by its lane
                    wrong += loss.item() <= 0
        c.close(f"{dtype}: losses on the wrong side", wrong, 0, 0.5)
        # Two classes: bisection.
        low, high = 1.0, 100.0
        for _ in range(60):
            m = (low + high) / 2
            q = torch.tensor([[m, 0.0]], dtype=dtype)
            low, high = (m, high) if nn.functional.cross_entropy(q, label) > 0 else (low, m)
        c.close(f"{dtype}: largest margin with a loss", low, bits * math.log(2), 1e-5)
    # Parts 2 and 3: autograd, in the logits and in the input.
    for m, share in ((20.0, 1.0), (60.0, 1.0), (80.0, 1.0), (106.0, 0.0)):
        q = torch.tensor([[m, 0.0]], requires_grad=True)
        nn.functional.cross_entropy(q, label).backward()
        c.close(f"margin {m}: gradient of the true class", q.grad[0, 0].item(), 0.0, 1e-60)
        ratio = q.grad[0, 1].item() / (1 / (1 + math.exp(m)))
        c.close(f"margin {m}: that of the other over the exact one", ratio, share, 1e-4)
    q = torch.tensor([[12.0, 0.0]], dtype=torch.float32, requires_grad=True)
    nn.functional.cross_entropy(q, label).backward()
    c.at_least("margin 12: the true class has a gradient", -q.grad[0, 0].item(), 5e-6)
    for a, b, share in ((1.0, 0.0, 0.0), (0.5, -0.5, 0.5), (0.0, -1.0, 1.0)):
        w = torch.tensor([0.5, -2.0])
        x = torch.tensor([8.0, -8.0], requires_grad=True)  # m = w x = 20
        nn.functional.cross_entropy(torch.stack([a * (w @ x), b * (w @ x)])[None], label).backward()
        true = -w / (1 + math.exp(20))
        c.close(f"logits ({a} m, {b} m)", (x.grad / true).mean().item(), share, 1e-5)
    # Part 4, in double precision; random labels.
    worst, reached = 0.0, 0.0
    for _ in range(400):
        q = rng.standard_normal(rng.integers(2, 8)) * 10 ** rng.uniform(-1, 1.3)
        omega, y = 2.0 ** -rng.integers(4, 12), rng.integers(len(q))
        signs = rng.choice([-1, 1], len(q))
        signs = -np.sign(q) if rng.random() < 0.3 else signs
        rounded = q * (1 + omega * signs)
        a, b = (math.log(np.log1p(np.exp(np.delete(v - v[y], y)).sum())) for v in (q, rounded))
        worst = max(worst, abs(a - b) / (2 * omega * abs(q).max()))
    q, omega = np.array([16.0, -16.0]), 2.0**-8
    a, b = (math.log(math.log1p(math.exp(v[1] - v[0]))) for v in (q, q * (1 + omega)))
    reached = abs(a - b) / (2 * omega * 16)
    c.at_most("change of ln loss in units of the bound", worst, 1 + 1e-9)
    c.close("confident and opposite logits attain it", reached, 1.0, 1e-9)


# --------------------------------------------------------------------------------- training


def test_descent_rounding(claim):
    c = claim("prop-descent-rounding")
    rng = np.random.default_rng(8106)
    used = {1: 0.0, 2: 0.0, 3: 0.0, "forgotten": 0.0}
    for trial in range(60):
        beta, part = 10 ** rng.uniform(-1, 1), 1 + trial % 3
        basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
        mu = beta * rng.uniform(0.05, 0.9)
        least = {1: -beta, 2: 0.0, 3: mu}[part]
        eigen = np.append(rng.uniform(least, beta, 2), [least, beta])
        hessian = basis @ np.diag(eigen) @ basis.T
        most = {1: 3 / beta, 2: 2 / beta, 3: 2 / (beta + mu)}[part]
        eta = most * (1.0 if trial % 4 == 0 else rng.random())
        kappa = {1: 1 + eta * beta, 2: 1.0, 3: 1 - eta * mu}[part]

        def gradient(v, hessian=hessian, waves=trial % 2, least=least, beta=beta):
            # half of the losses are not quadratic: a cosine of the same curvature at most
            middle, half = (least + beta) / 2, (beta - least) / 2
            return middle * v - half * np.sin(v) if waves else hessian @ v

        a = b = 3 * rng.standard_normal(4)
        b = b + rng.standard_normal(4) * 10 ** rng.uniform(-6, 0)
        r = 10 ** rng.uniform(-6, -1)
        start, total = np.linalg.norm(a - b), 0.0
        for t in range(1, 25):
            noise = rng.standard_normal((2, 4))
            noise *= r / np.linalg.norm(noise, axis=1, keepdims=True)
            a, b = a - eta * gradient(a) + noise[0], b - eta * gradient(b) + noise[1]
            total = 1 + kappa * total
            apart = np.linalg.norm(a - b)
            used[part] = max(used[part], apart / (kappa**t * start + 2 * r * total))
            if part == 3:
                limit = start + 2 * r / (eta * mu)
                used["forgotten"] = max(used["forgotten"], apart / limit)
    for part, share in used.items():
        c.at_most(f"distance in units of the bound, {part}", share, 1 + 1e-9)
    for curvature, kappa in ((-2.0, 1.2), (0.0, 1.0), (1.5, 0.85)):  # part 4, eta = 0.1
        a, b, bound = 0.7, 0.2, 0.5
        for _ in range(20):
            a, b = a - 0.1 * curvature * a + 0.01, b - 0.1 * curvature * b - 0.01
            bound = kappa * bound + 0.02
        c.close(f"attained, curvature {curvature}", (a - b) / bound, 1.0, 1e-9)
    a, b = 1e-9, -1e-9
    for _ in range(30):
        a, b = a + 0.1 * np.sign(a), b + 0.1 * np.sign(b)
    c.close("-|theta|: distance after 30 steps", a - b, 2 * 1e-9 + 2 * 0.1 * 30, 1e-10)


def attacked_training(seed, change=0.0, dtype=torch.float64, steps=200):
    """PGD-3 training by hand: weights, attacked points, units that are on, predictions."""
    images = data.digits(np.random.default_rng(seed))
    x, y = torch.as_tensor(images.train_x).to(dtype), torch.as_tensor(images.train_y)
    generator = torch.Generator().manual_seed(seed)
    net = networks.mlp((64, 64, 64, 10), generator=generator).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1 + change * (2 * torch.rand(p.shape, generator=generator).to(dtype) - 1))
    descent = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    order = np.random.default_rng(seed)
    path, points, units = [], [], []
    for _ in range(steps):
        rows = torch.as_tensor(order.choice(len(y), 50, replace=False))
        lo, hi = (x[rows] - 0.15).clamp(0, 1), (x[rows] + 0.15).clamp(0, 1)
        z = x[rows]
        for _ in range(3):
            z = torch.clamp(z + 0.15 / 4 * slope(net, z, y[rows]).sign(), lo, hi)
        seen, v = [], z.flatten(1)
        layers = list(net.parameters())[:-2]
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            v = (v @ weight.T + bias).clamp_min(0)
            seen.append(v > 0)
        units.append(torch.cat(seen, dim=1))
        descent.zero_grad()
        nn.functional.cross_entropy(net(z), y[rows]).backward()
        descent.step()
        path.append(nn.utils.parameters_to_vector(net.parameters()).detach().double())
        points.append(z.double())
    x = torch.as_tensor(images.test_x).to(dtype)
    z = climb(net, x, torch.as_tensor(images.test_y), 0.15, 10)
    with torch.no_grad():
        guesses = torch.cat([net(x).argmax(1), net(z).argmax(1)])
    return (*map(torch.stack, (path, points, units)), guesses, torch.as_tensor(images.test_y))


def test_amplification(claim):
    c = claim("obs-amplification")
    for seed in (8101, 8102):
        path, points, units, guesses, y = attacked_training(seed)
        relative = {}
        for name, change in (("1e-5", 1e-5), ("float32", 0.0), ("1e-9", 1e-9), ("1e-13", 1e-13)):
            dtype = torch.float32 if name == "float32" else torch.float64
            other, there, on, said, _ = attacked_training(seed, change, dtype)
            relative[name] = ((path - other).norm(dim=1) / path.norm(dim=1)).numpy()
            turned = ((points - there).abs().flatten(1).amax(dim=1) > 1e-3).numpy()
            either = turned | (units != on).flatten(1).any(dim=1).numpy()
            who, d = f"seed {seed}, {name}", relative[name]
            if name in ("1e-9", "1e-13"):
                c.close(f"{who}: steps with a turned decision", either.sum(), 0, 0.5)
                c.at_most(f"{who}: largest distance over the change", d.max() / change, 20.0)
                c.close(f"{who}: images classified otherwise", (said != guesses).sum(), 0, 0.5)
            else:
                c.at_most(f"{who}: distance after 200 steps", d[-1], 0.5)
            if name == "float32":
                first = int(either.argmax()) if either.any() else len(d)
                c.at_most(f"{who}: largest distance before", d[:first].max(initial=0), 1e-5)
            if name == "1e-5":
                c.at_least(f"{who}: steps with a turned pixel", turned.sum(), 1)
                c.at_least(f"{who}: distance after 200 steps", d[-1], 0.05)
                right = [(v[len(y) :] == y).double().mean().item() for v in (said, guesses)]
                shift = 100 * abs(right[0] - right[1])
                c.at_least(f"{who}: shift of the robust accuracy, in points", shift, 1.0)
        quotient = relative["1e-13"] / relative["1e-9"] * 1e4
        c.close(f"seed {seed}: in proportion", abs(quotient - 1).max(), 0.0, 0.02)


# ----------------------------------------------------------------------------------- digits


def test_printed_digits(claim):
    c = claim("prop-printed-digits")
    rng = np.random.default_rng(8107)
    wrong = calls = 0
    for _ in range(8_000):
        k = int(rng.integers(0, 4))
        unit = Fraction(1, 10**k)
        near = Fraction(int(rng.integers(-7, 8)), 2) * unit
        x = float(near) + rng.choice([-1.0, 0.0, 1.0]) * 10 ** -rng.uniform(k, k + 5)
        e = 10 ** -rng.uniform(k, k + 5)
        shifted = [x, x - e, x + e, x + e * rng.uniform(-1, 1)]
        exact = [Fraction(v) for v in shifted]
        reach = max(abs(v - exact[0]) for v in exact)
        # distance from the boundaries, in rational arithmetic
        j = math.floor(exact[0] / unit)
        gap = min(abs(exact[0] - (Fraction(2 * i + 1, 2)) * unit) for i in (j - 1, j, j + 1))
        if min(gap, abs(exact[0])) > reach:
            calls += 1
            wrong += len({f"{v:.{k}f}" for v in shifted}) > 1
    c.close("called safe, but printed differently", wrong, 0, 0.5)
    c.at_least("numbers called safe", calls, 1500)
    c.close("-0.00 and 0.00 are different texts", f"{-1e-3:.2f}" == f"{1e-3:.2f}", 0, 0.5)
    n = 10_000
    for k, e in ((1, 0.03), (2, 1e-3), (3, 9e-4)):
        for law in ("fixed", "uniform"):
            x = rng.uniform(1, 2, n) * rng.choice([-1, 1], n)
            delta = e * (rng.choice([-1, 1], n) if law == "fixed" else rng.uniform(-1, 1, n))
            differ = np.mean(
                [f"{a:.{k}f}" != f"{a + s:.{k}f}" for a, s in zip(x, delta, strict=True)]
            )
            target = 10**k * e * (1.0 if law == "fixed" else 0.5)
            error = 4 * math.sqrt(target / n)  # four standard errors
            c.close(f"k = {k}, e = {e}, {law}: share that differs", differ, target, error)
    # Part 3: pages of 20 numbers that share one error each.
    pages, e, k = 1000, 2e-5, 2
    x = rng.uniform(1, 2, (pages, 20))
    delta = e * rng.uniform(-1, 1, (pages, 1))
    failed = np.mean(
        [any(f"{a:.2f}" != f"{a + s[0]:.2f}" for a in row) for row, s in zip(x, delta, strict=True)]
    )
    c.at_most("share of pages that fail", failed, 20 * 10**k * e)
    for k, e in ((0, 1e-12), (3, 1e-6)):  # part 4
        x, other = (0.5 * (10.0**-k + s * e) for s in (-1, 1))
        c.close(f"k = {k}: boundary, same text", f"{x:.{k}f}" == f"{other:.{k}f}", 0, 0.5)
