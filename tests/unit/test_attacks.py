"""Attacks: closed forms against linear programmes and duality, PGD against a loop in numpy,
and the promises about modes, gradients, passes and bad input."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from torch import nn

from advreg import linear
from advreg.attacks import (
    Attack,
    Ball,
    cross_entropy,
    evaluating,
    fgsm,
    fosc,
    loss_and_gradient,
    margin,
    pgd,
    worst_of,
)

torch.set_num_threads(1)
NORMS = (1, 2, math.inf)
BOXES = ((0.0, 1.0), (None, None), (0.0, None), (None, 0.7))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SETS = [(norm, box) for norm in NORMS for box in BOXES]


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _uniform(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=_generator(seed), dtype=dtype)


def _normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=_generator(seed), dtype=dtype)


def _network(*layers, seed=0, dtype=torch.float64):
    model = nn.Sequential(*layers).to(dtype)
    generator = _generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel())
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)
    return model


def _mlp(*widths, seed=0, dtype=torch.float64, activation=nn.ReLU):
    layers = [nn.Flatten()]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return _network(*layers[:-1], seed=seed, dtype=dtype)


def _cnn(dtype=torch.float32):
    """With batch normalization and dropout, whose modes differ from each other."""
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)]
    model = _network(*layers, nn.Flatten(), nn.Linear(6 * 36, 4), dtype=dtype)
    model[1].running_var.fill_(0.7)
    return model


def _images(n=8, seed=3, dtype=torch.float32):
    return _uniform(n, 1, 6, 6, seed=seed, dtype=dtype), torch.arange(n) % 4


def _hard_cases(d=5):
    """Centres in the middle, on faces and in corners of [0, 0.7]^d; gradients with zeros, ties."""
    x = _uniform(24, d, seed=1) * 0.7
    x[::3] = (x[::3] > 0.35).double() * 0.7
    x[1::6, :2] = 0.0
    g = _normal(24, d, seed=2)
    g[:6, ::2] = 0.0
    g[6:12] = g[6:12].sign()
    g[12] = 0.0
    return x, g


# ------------------------------------------------------------------------------- oracles


def _support(g, x, radius, norm, box):
    """max of <v - x, g> over the feasible set, by a linear programme or by duality."""
    low = np.maximum((-1e3 if box[0] is None else box[0]) - x, -1e3)
    high = np.minimum((1e3 if box[1] is None else box[1]) - x, 1e3)
    d = len(g)
    if norm == math.inf:
        bounds = np.stack([np.maximum(low, -radius), np.minimum(high, radius)], axis=1)
        return -optimize.linprog(-g, bounds=bounds).fun
    if norm == 1:  # e = p - q with p, q >= 0
        bounds = [(0, h) for h in high] + [(0, -m) for m in low]
        answer = optimize.linprog(
            np.concatenate([-g, g]), A_ub=np.ones((1, 2 * d)), b_ub=[radius], bounds=bounds
        )
        return -answer.fun

    def dual(log_multiplier):  # an upper bound for every multiplier; its minimum is the value
        m = np.exp(log_multiplier)
        e = np.clip(g / m, low, high)
        return g @ e - m / 2 * (e @ e - radius**2)

    grid = np.linspace(-25, 25, 201)
    start = grid[np.argmin([dual(t) for t in grid])]
    return optimize.minimize_scalar(
        dual, bounds=(start - 0.5, start + 0.5), method="bounded", options={"xatol": 1e-12}
    ).fun


@pytest.mark.parametrize("norm, box", SETS)
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.4, 1.5, 30.0])
def test_linear_maximum_meets_the_oracle(norm, box, radius):
    x, g = _hard_cases()
    ball = Ball(radius, norm, *box)
    v = ball.best(g, x)
    assert ball.contains(v, x).all()
    most, least = (
        np.array([_support(b, a, radius, norm, box) for a, b in zip(x.numpy(), h, strict=True)])
        for h in (g.numpy(), -g.numpy())
    )
    scale = 1e-8 * (1 + radius)
    np.testing.assert_allclose(((v - x) * g).sum(1), most, atol=scale)
    np.testing.assert_allclose(ball.range(g, x), most + least, atol=2 * scale)
    z = ball.random(x, _generator(5))
    gap = most - ((z - x) * g).sum(1).numpy()
    np.testing.assert_allclose(ball.fosc(g, z, x), gap, atol=scale)
    assert (v == x)[g == 0].all()


@pytest.mark.parametrize("norm, box", SETS)
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.4, 1.5])
def test_projection_satisfies_its_variational_inequality(norm, box, radius):
    """p is the projection of z exactly if max of <z - p, v - p> over the set is 0."""
    x, direction = _hard_cases()
    z = x + 2 * direction
    p = Ball(radius, norm, *box).project(z, x)
    assert Ball(radius, norm, *box).contains(p, x).all()
    for a, b, c in zip(x.numpy(), (z - p).numpy(), (p - x).numpy(), strict=True):
        assert _support(b, a, radius, norm, box) - b @ c <= 1e-7 * (1 + radius)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_and_maximum_in_the_plane_by_brute_force(norm):
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 1001)] * 2), axis=-1).reshape(-1, 2)
    x, radius = np.array([0.2, 0.9]), 0.3
    feasible = grid[np.linalg.norm(grid - x, ord=norm, axis=1) <= radius + 1e-12]
    ball, centre = Ball(radius, norm), torch.tensor(x)[None]
    for target in ([1.0, 1.0], [-0.5, 0.2], [0.25, 3.0], [0.21, 0.88]):
        z = torch.tensor([target], dtype=torch.float64)
        nearest = np.linalg.norm(feasible - target, axis=1).min()
        assert abs(float((ball.project(z, centre) - z).norm()) - nearest) < 2e-3
        most = (feasible @ target).max()
        assert abs(float((ball.best(z, centre) * z).sum()) - most) < 2e-3 * np.abs(target).sum()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(NORMS),
    st.sampled_from(BOXES[:2]),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0.0, 1e-6, 0.03, 0.5, 4.0]),
    st.sampled_from([1e-12, 1e-3, 1.0, 1e6]),
    st.integers(0, 10**6),
)
def test_points_never_leave_the_set(norm, box, dtype, radius, size, seed):
    for device in DEVICES:
        x = _uniform(4, 3, 5, seed=seed, dtype=dtype).to(device)
        x[0] = (x[0] > 0.5).to(dtype)
        g = (_normal(4, 3, 5, seed=seed + 1, dtype=dtype) * size).to(device)
        g[1] = 0
        g[2, :, :4] = 0
        ball = Ball(radius, norm, *box)
        best, moved = ball.best(g, x), ball.project(x + g, x)
        start = ball.random(x, _generator(seed))
        for z in (best, moved, start, ball.project(x, x)):
            assert z.dtype == dtype and z.shape == x.shape and torch.isfinite(z).all()
            assert ball.contains(z, x).all()
            length = (z.double() - x.double()).flatten(1).norm(p=norm, dim=1)
            slack = z.double().flatten(1).norm(p=norm, dim=1) + radius
            assert (length <= radius + torch.finfo(dtype).eps * slack).all()
            assert box[0] is None or (z.min() >= 0 and z.max() <= 1)
            assert torch.equal(ball.project(z, x), z)
        assert torch.equal(ball.fosc(g, best, x), torch.zeros(4, dtype=dtype, device=device))
        assert torch.equal(best[1], x[1])
        assert (ball.fosc(g, moved, x) >= 0).all() and torch.equal(ball.project(x, x), x)
        beyond = (moved - start).flatten(1).norm(dim=1) - (x + g - start).flatten(1).norm(dim=1)
        assert (beyond <= 1e-5 * (1 + 10 * size)).all()  # projections bring points nearer


def test_gradients_of_extreme_sizes():
    """Squares that would underflow or overflow; and entries 1e-320 times smaller than others."""
    x = torch.full((3, 4), 0.5, dtype=torch.float64)
    g = [[3e-200, -4e-200, 0, 0], [3e200, 4e200, 0, 0], [1e170, 1e-170, 0, 0]]
    g = torch.tensor(g, dtype=torch.float64)
    expected = [[0.3, -0.4, 0, 0], [0.3, 0.4, 0, 0], [0.5, 0, 0, 0]]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(Ball(0.5, 2).best(g, x) - x, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_fosc_is_exactly_zero_at_float32_vertices(norm):
    x, g = _uniform(200, 784, dtype=torch.float32), _normal(200, 784, seed=1, dtype=torch.float32)
    x[:, ::2] = x[:, ::2].round()
    ball = Ball({1: 12.0, 2: 1.5, math.inf: 0.1}[norm], norm)
    v = ball.best(g, x)
    assert (ball.fosc(g, v, x) == 0).all() and torch.equal(ball.project(v, x), v)
    if norm == math.inf:  # so it is where sign steps end
        assert torch.equal(ball.project(x + 0.07 * g.sign() + 0.07 * g.sign(), x), v)


def test_random_points_are_uniform_in_the_ball():
    """(||e|| / radius)^d is uniform on [0, 1]; Kolmogorov-Smirnov at the level 1e-3."""
    x = torch.zeros(4000, 3, dtype=torch.float64)
    for norm in NORMS:
        e = Ball(0.7, norm, None, None).random(x, _generator(8))
        share = (e.norm(p=norm, dim=1) / 0.7).numpy() ** 3
        assert stats.kstest(share, "uniform").pvalue > 1e-3
        corner = (e > 0).double().mean(dim=0)
        assert ((corner - 0.5).abs() < 5 * 0.5 / 4000**0.5).all()
        # the same in polar coordinates: each face of the sphere gets its share
        largest = torch.bincount(e.abs().argmax(dim=1), minlength=3) / 4000
        assert ((largest - 1 / 3).abs() < 5 * (2 / 9 / 4000) ** 0.5).all()


# ------------------------------------------------------------------------------- losses, gradients


def test_losses_are_those_of_the_definition():
    logits, y = 3 * _normal(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    z = logits.numpy()
    own = z[np.arange(7), y]
    np.testing.assert_allclose(cross_entropy(logits, y), special.logsumexp(z, axis=1) - own)
    others = np.where(np.eye(4)[y] == 1, -np.inf, z).max(axis=1)
    np.testing.assert_allclose(margin(logits, y), others - own)


@pytest.mark.parametrize("loss", [cross_entropy, margin])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Softplus])
def test_gradient_against_differences(loss, activation):
    model, z, y = _mlp(6, 9, 8, 3, activation=activation), _normal(5, 6), torch.arange(5) % 3
    losses, g = loss_and_gradient(model, z, y, loss)
    step = 1e-6 * torch.eye(6, dtype=torch.float64)
    up = torch.stack([loss(model(z + e), y) for e in step], dim=1)
    down = torch.stack([loss(model(z - e), y) for e in step], dim=1)
    torch.testing.assert_close(g, ((up - down) / 2e-6).detach(), atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(losses, loss(model(z), y).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_chain_by_hand_equals_autograd(dtype, loss):
    """The subclass has no shortcut; also at exact zeros of a ReLU, and without bias."""

    class Plain(nn.Sequential):
        pass

    layers = [nn.Flatten(), nn.Linear(64, 20, bias=False), nn.ReLU(), nn.Linear(20, 10)]
    fast = _network(*layers, nn.ReLU(), nn.Linear(10, 4), dtype=dtype)
    z, y = _normal(9, 1, 8, 8, dtype=dtype), torch.arange(9) % 4
    z[3] = 0
    for ours, theirs in zip(
        loss_and_gradient(fast, z, y, loss),
        loss_and_gradient(Plain(*fast), z, y, loss),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=8 * torch.finfo(dtype).eps, atol=1e-9)


def test_hooks_are_not_passed_over():
    model, z, y = _mlp(6, 9, 3), _normal(5, 6), torch.arange(5) % 3
    plain = loss_and_gradient(model, z, y)[0]
    handle = model[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    assert not torch.equal(loss_and_gradient(model, z, y)[0], plain)
    handle.remove()
    assert torch.equal(loss_and_gradient(model, z, y)[0], plain)


def test_results_do_not_depend_on_the_batch():
    model, x, y = _mlp(36, 16, 4), *_images(dtype=torch.float64)
    whole = pgd(model, x, y, Ball(0.1))
    for i in range(len(x)):
        alone = pgd(model, x[i : i + 1], y[i : i + 1], Ball(0.1))
        torch.testing.assert_close(alone.points[0], whole.points[i], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.fosc[0], whole.fosc[i], rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------- the attacks


def _softmax_gradient(W, z, y):
    return (special.softmax(z @ W.T, axis=1) - np.eye(len(W))[y]) @ W


@pytest.mark.parametrize("norm", [2, math.inf])
def test_pgd_against_a_loop_in_numpy(norm):
    model = _network(nn.Linear(6, 4, bias=False))
    W, x, y = model[0].weight.detach().numpy(), _uniform(20, 6, seed=4), torch.arange(20) % 4
    attack = pgd(model, x, y, Ball(0.2, norm, None, None), steps=7, step=0.05, trace=True)
    z = x.numpy()
    for k in range(8):
        np.testing.assert_allclose(attack.trajectory[k], z, atol=1e-12)
        g = _softmax_gradient(W, z, y.numpy())
        dual = np.abs(g).sum(1) if norm == math.inf else np.linalg.norm(g, axis=1)
        c = 0.2 * dual - ((z - x.numpy()) * g).sum(1)
        np.testing.assert_allclose(attack.trace_fosc[k], c, atol=1e-12)
        own = (z @ W.T)[np.arange(20), y]
        np.testing.assert_allclose(
            attack.trace_losses[k], special.logsumexp(z @ W.T, axis=1) - own, atol=1e-12
        )
        if norm == math.inf:
            z = np.clip(z + 0.05 * np.sign(g), x.numpy() - 0.2, x.numpy() + 0.2)
        else:
            e = z + 0.05 * g / np.linalg.norm(g, axis=1, keepdims=True) - x.numpy()
            length = np.linalg.norm(e, axis=1, keepdims=True)
            z = x.numpy() + e * np.minimum(1, 0.2 / length)
    assert torch.equal(attack.points, attack.trajectory[-1])
    assert torch.equal(attack.fosc, attack.trace_fosc[-1]) and (attack.passes == 8).all()


@pytest.mark.parametrize("box", BOXES[:2])
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_reaches_the_optimum_of_two_linear_classes(norm, box):
    """The gradient keeps its direction, so the maximum is that of a linear programme."""
    model, x, y = _network(nn.Linear(6, 2)), _uniform(10, 6, seed=4), torch.arange(10) % 2
    ball = Ball(0.5, norm, *box)
    w = (model[0].weight[1] - model[0].weight[0]).detach().numpy()
    lead = _support_leads(w, x, y, 0.5, norm, box) + margin(model(x), y).detach().numpy()
    expected = np.logaddexp(0, lead)
    np.testing.assert_allclose(fgsm(model, x, y, ball).losses, expected, atol=1e-8)
    for generator in (None, _generator(2)):
        attack = pgd(model, x, y, ball, steps=200, generator=generator)
        np.testing.assert_allclose(attack.losses, expected, atol=1e-6)
        assert (attack.fosc < 1e-5).all()
    if norm == math.inf:
        assert (fgsm(model, x, y, ball).fosc == 0).all()


def _support_leads(w, x, y, radius, norm, box):
    signs = 1 - 2 * y.numpy()
    return np.array(
        [_support(s * w, a.numpy(), radius, norm, box) for s, a in zip(signs, x, strict=True)]
    )


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_meets_the_exact_risk_of_chapter_3(norm):
    w, x = _normal(6, seed=7), _normal(30, 6, seed=8)
    y = torch.arange(30) % 2
    model = _network(nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([-w / 2, w / 2]))
        model[0].bias.copy_(torch.tensor([-0.15, 0.15], dtype=torch.float64))
    risk = linear.adversarial_risk(w, 0.3, x, 2 * y - 1, 0.4, norm, "logistic")
    attack = fgsm(model, x, y, Ball(0.4, norm, None, None))
    assert float(attack.losses.mean()) == pytest.approx(risk, abs=1e-10)


def test_fgsm_with_a_random_start_is_one_step_of_pgd():
    model, x, y = _mlp(36, 16, 4), *_images(dtype=torch.float64)
    ball = Ball(0.1)
    one = fgsm(model, x, y, ball, generator=_generator(1), step=0.125)
    start = ball.random(x, _generator(1))
    _, g = loss_and_gradient(model, start, y)
    expected = (start + 0.125 * g.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    torch.testing.assert_close(one.points, expected)
    assert (one.passes == 2).all()
    assert (fgsm(model, x, y, ball, report=False).passes == 1).all()
    assert torch.equal(
        fgsm(model, x, y, ball).points, pgd(model, x, y, ball, steps=1, step=0.1).points
    )


def test_zero_gradients_do_not_move():
    model, x, y = _network(nn.Linear(6, 3)), _uniform(4, 6), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        model[0].weight.zero_()
    for norm in NORMS:
        attack = pgd(model, x, y, Ball(0.3, norm), threshold=None)
        assert torch.equal(attack.points, x) and (attack.fosc == 0).all()
        assert (fosc(model, x, y, x, Ball(0.3, norm), normalized=True) == 0).all()
        assert torch.equal(fgsm(model, x, y, Ball(0.3, norm)).points, x)


def test_targeted_attack_lowers_the_loss_of_its_target():
    model, x, y = _mlp(36, 16, 4), *_images(dtype=torch.float64)
    target, ball = (y + 1) % 4, Ball(0.1)
    attack = pgd(model, x, y, ball, target=target)
    before, _ = loss_and_gradient(model, x, target)
    after, g = loss_and_gradient(model, attack.points, target)
    assert (after < before).all()
    torch.testing.assert_close(attack.losses, -after)
    torch.testing.assert_close(attack.fosc, ball.fosc(-g, attack.points, x))
    plain = pgd(model, x, target, ball, loss=lambda logits, t: -cross_entropy(logits, t))
    assert torch.equal(plain.points, attack.points)


def test_best_iterate_and_restarts_only_help():
    model, x, y = _mlp(36, 64, 4, seed=5), *_images(40, dtype=torch.float64)
    ball = Ball(0.4)
    one = {"steps": 6, "step": 0.3}
    traced = pgd(model, x, y, ball, trace=True, **one)
    best = pgd(model, x, y, ball, keep="best", **one)
    assert torch.equal(best.losses, traced.trace_losses.amax(dim=0))
    assert (best.losses > traced.losses).any()
    again, _ = loss_and_gradient(model, best.points, y)
    torch.testing.assert_close(again, best.losses)
    runs = [pgd(model, x, y, ball, restarts=r, generator=_generator(3), **one) for r in (1, 2, 5)]
    for fewer, more in itertools.pairwise(runs):
        assert (more.losses >= fewer.losses).all() and (more.losses > fewer.losses).any()
    assert (runs[2].passes == 35).all()


def test_the_generator_decides_and_nothing_else():
    model, x, y = _mlp(36, 16, 4), *_images(dtype=torch.float64)
    state = torch.random.get_rng_state()
    for norm in NORMS:
        a, b, c = (
            pgd(model, x, y, Ball(0.1, norm), steps=1, generator=_generator(s), restarts=2).points
            for s in (1, 1, 2)
        )
        assert torch.equal(a, b) and not torch.equal(a, c)
    worst_of(model, x, y, Ball(0.1), steps=2, restarts=1, generator=_generator(1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_start_is_projected_and_traced():
    model, x, y = _mlp(36, 16, 4), *_images(dtype=torch.float64)
    attack = pgd(model, x, y, Ball(0.1), start=x + 0.5, steps=3, trace=True)
    assert torch.equal(attack.trajectory[0], Ball(0.1).project(x + 0.5, x))
    none = pgd(model, x, y, Ball(0.1), steps=0)
    assert torch.equal(none.points, x) and (none.passes == 1).all()
    torch.testing.assert_close(none.fosc, fosc(model, x, y, x, Ball(0.1)))


# ------------------------------------------------------------------------------- stopping


class _RowByRow(nn.Module):
    """A softplus network whose sums never mix samples: the same bits in every batch."""

    def __init__(self, d, hidden, classes, seed=0):
        super().__init__()
        self.V = nn.Parameter(_normal(hidden, d, seed=seed))
        self.W = nn.Parameter(_normal(classes, hidden, seed=seed + 1))
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        h = nn.functional.softplus((x[:, None, :] * self.V).sum(dim=-1))
        return (h[:, None, :] * self.W).sum(dim=-1)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_dropping_samples_equals_masking_them(norm, normalized):
    model, x, y = _RowByRow(6, 8, 4), _uniform(30, 6, seed=2), torch.arange(30) % 4
    ball = Ball({1: 0.6, 2: 0.3, math.inf: 0.1}[norm], norm)
    steps, step = 6, ball.radius / 9
    limit = fosc(model, x, y, x, ball, normalized=normalized) * _uniform(30, seed=9) * 1.2
    limit[:3] = 0
    same = {"step": step, "normalized": normalized, "threshold": limit}
    model.seen.clear()
    attack = pgd(model, x, y, ball, steps=steps, **same)
    seen = list(model.seen)
    # the reference: every sample in every pass, finished ones are held where they are
    z, running, passes = x.clone(), torch.ones(30, dtype=torch.bool), torch.zeros(30, dtype=int)
    sizes = []
    for _ in range(steps):
        losses, g = loss_and_gradient(model, z, y)
        sizes.append(int(running.sum()))
        passes += running
        c = ball.fosc(g, z, x) / (ball.range(g, x) if normalized else 1)
        running = running & ((c > limit) | (limit == 0))
        moved = pgd(model, x, y, ball, start=z, steps=1, step=step).points
        z = torch.where(running[:, None], moved, z)
    sizes.append(int(running.sum()))
    passes += running
    assert 3 < sizes[-1] < sizes[0] and len(set(sizes)) > 3
    assert seen == sizes
    assert torch.equal(attack.passes, passes)
    if norm == math.inf:  # nothing but the loss adds up entries: the same to the last bit
        assert torch.equal(attack.points, z)
    torch.testing.assert_close(attack.points, z, rtol=1e-14, atol=1e-14)
    losses, g = loss_and_gradient(model, z, y)
    torch.testing.assert_close(attack.losses, losses, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(attack.fosc, ball.fosc(g, z, x), rtol=1e-11, atol=1e-13)
    quiet = pgd(model, x, y, ball, steps=steps, report=False, **same)
    assert torch.equal(quiet.points, attack.points)
    assert quiet.losses is None and quiet.fosc is None
    assert torch.equal(quiet.passes, passes.clamp_max(steps))
    traced = pgd(model, x, y, ball, steps=steps, trace=True, **same)
    assert torch.equal(traced.trajectory[-1], attack.points)
    assert len(traced.trajectory) == steps + 1
    assert torch.equal(traced.trace_fosc[-1], attack.fosc)


def test_thresholds_at_the_ends():
    model, x, y = _RowByRow(6, 8, 4), _uniform(30, 6, seed=2), torch.arange(30) % 4
    plain = pgd(model, x, y, Ball(0.1), steps=5)
    never = pgd(model, x, y, Ball(0.1), steps=5, threshold=0.0)
    for name in ("points", "losses", "fosc", "passes"):
        assert torch.equal(getattr(plain, name), getattr(never, name))
    at_once = pgd(model, x, y, Ball(0.1), steps=5, threshold=math.inf, trace=True)
    assert torch.equal(at_once.points, x) and (at_once.passes == 1).all()
    assert at_once.trajectory.shape == (6, 30, 6)
    # a sample with threshold 0 runs on even at FOSC 0, beside others that stop there
    still = _network(nn.Linear(6, 4))
    with torch.no_grad():
        still[0].weight.zero_()
    limit = torch.tensor([0.0, 1e-9, 0.0]).double()
    passes = pgd(still, x[:3], y[:3], Ball(0.1), steps=5, threshold=limit).passes
    assert passes.tolist() == [6, 1, 6]
    # a threshold that is hit exactly stops
    c = fosc(model, x, y, x, Ball(0.1))
    assert (pgd(model, x, y, Ball(0.1), threshold=c).passes == 1).all()


def test_no_sample_stops_before_its_least_steps():
    model, x, y = _RowByRow(6, 8, 4), _uniform(30, 6, seed=2), torch.arange(30) % 4
    for least in range(6):
        stopped = pgd(model, x, y, Ball(0.1), steps=4, threshold=math.inf, least_steps=least)
        plain = pgd(model, x, y, Ball(0.1), steps=min(least, 4), step=0.025)
        assert torch.equal(stopped.points, plain.points)
        assert torch.equal(stopped.passes, plain.passes)
    with pytest.raises(ValueError, match="least_steps must be an integer of at least 0"):
        pgd(model, x, y, Ball(0.1), threshold=1.0, least_steps=-1)


# ------------------------------------------------------------------------------- clean hands


def _state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_model_is_left_as_it_was():
    model, (x, y) = _cnn(), _images()
    model.train()
    model[1].eval()  # a mixture of modes
    model[0].weight.requires_grad_(False)
    model[5].bias.grad = torch.full_like(model[5].bias, 7.0)
    before, modes = _state(model), [m.training for m in model.modules()]
    original = x.clone()
    ball = Ball(0.1)
    loss_and_gradient(model, x, y)
    attack = pgd(model, x, y, ball, generator=_generator(), threshold=0.01, keep="best")
    fgsm(model, x, y, ball)
    fosc(model, attack.points, y, x, ball)
    worst_of(model, x, y, ball, steps=2, restarts=1, generator=_generator())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in _state(model).items())
    assert torch.equal(model[5].bias.grad, torch.full_like(model[5].bias, 7.0))
    assert model[5].weight.grad is None and not model[0].weight.requires_grad
    assert torch.equal(x, original) and not x.requires_grad
    assert not attack.points.requires_grad and attack.points.is_contiguous()

    def broken(logits, y):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        pgd(model, x, y, ball, loss=broken)
    assert [m.training for m in model.modules()] == modes
    with pytest.raises(KeyError), evaluating(model):
        assert not any(m.training for m in model.modules())
        raise KeyError
    assert [m.training for m in model.modules()] == modes


def test_attacks_see_the_eval_mode():
    model, (x, y) = _cnn(), _images()
    model.train()
    losses, _ = loss_and_gradient(model, x, y)
    model.eval()
    torch.testing.assert_close(losses, cross_entropy(model(x), y).detach())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_attacks_work_where_gradients_are_off(context):
    for model, (x, y) in ((_cnn(), _images()), (_mlp(36, 8, 4, dtype=torch.float32), _images())):
        outside = pgd(model, x, y, Ball(0.1)).points
        with context():
            x, y = x + 0, y + 0
            assert torch.equal(pgd(model, x, y, Ball(0.1)).points, outside)


def test_models_that_reshape_with_view():
    class View(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(216, 4)

        def forward(self, x):
            return self.out(self.conv(x).view(len(x), -1))

    model, (x, y) = View(), _images()
    flat = nn.Sequential(model.conv, nn.Flatten(), model.out)
    torch.testing.assert_close(
        pgd(model, x, y, Ball(0.1)).losses, pgd(flat, x, y, Ball(0.1)).losses
    )


def test_mixed_precision_is_up_to_the_model():
    model, (x, y) = _cnn(), _images()
    exact = pgd(model, x, y, Ball(0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attack = pgd(model, x, y, Ball(0.1))
    assert attack.points.dtype == attack.losses.dtype == attack.fosc.dtype == torch.float32
    torch.testing.assert_close(attack.losses, exact.losses, atol=0.05, rtol=0.05)


@pytest.mark.skipif(len(DEVICES) == 1, reason="no CUDA device")
def test_cuda_gives_the_same_attack():
    model, x, y = _mlp(36, 16, 4), *_images(dtype=torch.float64)
    here = pgd(model, x, y, Ball(0.1), generator=_generator())
    there = pgd(model.cuda(), x.cuda(), y.cuda(), Ball(0.1), generator=_generator())
    torch.testing.assert_close(there.points.cpu(), here.points)
    with pytest.raises(ValueError, match="on cuda"):
        pgd(model, x, y, Ball(0.1))


# ------------------------------------------------------------------------------- evaluation


def _digits_model(seed=0):
    """A small network trained for a moment on the digits, and 200 of them that it has not seen."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = torch.tensor(images[order] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels[order])
    model = _mlp(64, 64, 64, 10, dtype=torch.float32, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for step in range(300):
        batch = torch.arange(100 * step, 100 * (step + 1)) % 1500
        points = fgsm(model, x[batch], y[batch], Ball(0.08), report=False).points
        optimizer.zero_grad()
        cross_entropy(model(points), y[batch]).mean().backward()
        optimizer.step()
    return model, x[1500:1700], y[1500:1700]


def test_worst_of_against_autoattack():
    """Of 200 samples AutoAttack may break four (2 %) more: the two are different searches."""
    autoattack = pytest.importorskip("pyautoattack")
    model, x, y = _digits_model()
    ours = worst_of(model, x, y, Ball(0.1), generator=_generator())
    reference = autoattack.AutoAttack(
        model, norm="Linf", eps=0.1, version="custom", attacks=["apgd-ce", "apgd-t"], seed=0
    )
    reference.verbose = False
    points = reference.run_standard_evaluation(x, y, batch_size=200)
    points = points[0] if isinstance(points, tuple) else points
    theirs = float((model(points).argmax(dim=1) == y).double().mean())
    print(ours.accuracy, theirs)
    assert 0.2 < ours.accuracy < ours.clean_accuracy - 0.1
    assert theirs - 0.04 <= ours.accuracy <= theirs + 0.02
    # and what is claimed is shown
    assert Ball(0.1).contains(ours.points, x).all()
    assert torch.equal(model(ours.points).argmax(dim=1) == y, ours.robust)
    torch.testing.assert_close(margin(model(ours.points), y), ours.margins)
    assert ours.accuracy == float(ours.robust.double().mean())


def test_worst_of_is_not_fooled_by_large_logits():
    """Times 1000 the cross-entropy has no gradient left in float32; the answer is the same."""
    model, x, y = _digits_model(1)
    few = {"steps": 20, "restarts": 1}
    honest = worst_of(model, x, y, Ball(0.1), generator=_generator(), **few)
    with torch.no_grad():
        model[-1].weight *= 1000
        model[-1].bias *= 1000
    masked = pgd(model, x, y, Ball(0.1), steps=20)
    accuracy = float((model(masked.points).argmax(dim=1) == y).double().mean())
    again = worst_of(model, x, y, Ball(0.1), generator=_generator(), batch=64, **few)
    assert accuracy > honest.accuracy + 0.2
    assert again.accuracy <= honest.accuracy + 0.02
    assert (masked.fosc == 0).double().mean() > 0.5


def test_worst_of_knows_the_answer_for_linear_models():
    model, x = _network(nn.Linear(6, 2)), _uniform(300, 6, seed=4)
    with torch.no_grad():
        model[0].bias -= model(x).mean(dim=0)
        y = (model(x) + 0.2 * _normal(300, 2, seed=5)).argmax(dim=1)
    w = (model[0].weight[1] - model[0].weight[0]).detach()
    result = worst_of(model, x, y, Ball(0.1, math.inf, None, None), generator=_generator())
    lead = margin(model(x), y).detach() + 0.1 * w.abs().sum()
    assert torch.equal(result.robust, lead < 0) and 0 < result.accuracy < result.clean_accuracy
    torch.testing.assert_close(result.margins[result.robust], lead[result.robust])


# ------------------------------------------------------------------------------- at the door


BALL = Ball(0.1)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"radius": -0.1}, "radius"),
        ({"radius": math.nan}, "radius"),
        ({"radius": math.inf}, "radius"),
        ({"radius": 0.1, "norm": 3}, "norm is one of"),
        ({"radius": 0.1, "norm": math.nan}, "norm is one of"),
        ({"radius": 0.1, "norm": True}, "norm is one of"),
        ({"radius": 0.1, "low": 1.0, "high": 0.0}, "low must be less"),
        ({"radius": 0.1, "low": math.nan}, "low"),
    ],
)
def test_balls_that_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Ball(**arguments)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"x": np.zeros((8, 1, 6, 6))}, TypeError, "torch tensor"),
        ({"x": torch.zeros(8, 1, 6, 6).half()}, TypeError, "float32 or float64"),
        ({"x": torch.zeros(8, 1, 6, 6).bfloat16()}, TypeError, "float32 or float64"),
        ({"x": torch.zeros(8, 1, 6, 6).long()}, TypeError, "float32 or float64"),
        ({"x": torch.zeros(8, 1, 6, 6).double()}, TypeError, "model's parameters"),
        ({"x": torch.zeros(8)}, ValueError, "leading axis"),
        ({"x": torch.full((8, 1, 6, 6), math.nan)}, ValueError, "finite"),
        ({"x": torch.full((8, 1, 6, 6), math.inf)}, ValueError, "finite"),
        ({"x": torch.full((8, 1, 6, 6), 1.01)}, ValueError, "leaves the box"),
        ({"x": torch.full((8, 1, 6, 6), 255.0)}, ValueError, "rescale"),
        ({"y": torch.zeros(7).long()}, ValueError, "one label per sample"),
        ({"y": torch.zeros(8, 1).long()}, ValueError, "one label per sample"),
        ({"y": torch.zeros(8)}, TypeError, "integer"),
        ({"y": [0] * 8}, TypeError, "torch tensor"),
        ({"y": torch.full((8,), 4)}, ValueError, "the label 4"),
        ({"y": torch.full((8,), -1)}, ValueError, "count from 0"),
        ({"y": torch.zeros(8, device="meta").long()}, ValueError, "move one"),
        ({"ball": 0.1}, TypeError, "Ball"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, ValueError, "steps"),
        ({"step": -0.1}, ValueError, "step"),
        ({"step": math.nan}, ValueError, "step"),
        ({"threshold": -0.1}, ValueError, "never negative"),
        ({"threshold": math.nan}, ValueError, "never negative"),
        ({"threshold": torch.zeros(7)}, ValueError, "one per sample"),
        ({"target": torch.full((8,), 9)}, ValueError, "the label 9"),
        ({"restarts": 2}, ValueError, "pass a generator"),
        ({"restarts": 0}, ValueError, "restarts"),
        ({"keep": "first"}, ValueError, "'last' or 'best'"),
        ({"keep": "best", "report": False}, ValueError, "report=True"),
        ({"start": torch.zeros(8, 1, 6, 6), "generator": _generator()}, ValueError, "not both"),
        ({"start": torch.zeros(8, 36)}, ValueError, "shape of x"),
        ({"restarts": 2, "generator": _generator(), "trace": True}, ValueError, "one run"),
        ({"loss": nn.functional.cross_entropy}, ValueError, "mean over the batch"),
        ({"loss": lambda logits, y: cross_entropy(logits, y)[:, None]}, ValueError, "per sample"),
        ({"model": lambda x: x.flatten(1).sum(1)}, ValueError, "one row of logits"),
        ({"model": lambda x: x.flatten(1)[:4]}, ValueError, "one row of logits"),
        ({"model": lambda x: x.flatten(1).detach()}, ValueError, "detached"),
        ({"model": lambda x: x.flatten(1) * math.nan}, FloatingPointError, "step 0"),
    ],
)
def test_inputs_that_are_refused(change, error, words):
    x, y = _images()
    arguments = {"model": _cnn(), "x": x, "y": y, "ball": BALL, **change}
    with pytest.raises(error, match=words):
        pgd(**arguments)


def test_the_step_of_a_number_that_is_not_finite_is_named():
    def model(x):
        return x.flatten(1) / (x.max() < 0.54)

    x, y = torch.full((2, 3), 0.5), torch.tensor([0, 1])
    with pytest.raises(FloatingPointError, match="step 2"):
        pgd(model, x, y, Ball(0.1))


def test_fosc_refuses_points_outside_of_the_set():
    model, (x, y) = _cnn(), _images()
    inside = Ball(0.1).project(x + 1, x)
    fosc(model, inside, y, x, Ball(0.1))
    with pytest.raises(ValueError, match="8 of 8 points z lie outside"):
        fosc(model, inside, y, x, Ball(0.05))
    with pytest.raises(ValueError, match="shape of x"):
        Ball(0.1).project(x, x[:2])
    with pytest.raises(ValueError, match="no sample"):
        worst_of(model, x[:0], y[:0], Ball(0.1), generator=_generator())
    with pytest.raises(TypeError, match="Generator"):
        worst_of(model, x, y, Ball(0.1), generator=0)


def test_an_empty_batch_is_an_empty_attack():
    model, (x, y) = _cnn(), _images()
    attack = pgd(model, x[:0], y[:0], Ball(0.1), threshold=0.1)
    assert isinstance(attack, Attack) and attack.points.shape == (0, 1, 6, 6)
