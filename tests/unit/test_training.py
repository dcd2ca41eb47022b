"""Training: against loops written out here, closed forms of chapter 3, and its own promises."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advreg import linear, training
from advreg.attacks import Ball, fgsm
from advreg.networks import cnn, mlp
from advreg.training import (
    QUANTILES,
    Inner,
    crop_and_flip,
    curriculum,
    dynamic,
    evaluate,
    fgsm_training,
    fit,
    gradient_penalty,
    pgd_training,
    standard,
    switch,
    warm_up,
)

torch.set_num_threads(1)
PLAIN = {"device": "cpu", "progress": False}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(model):
    return torch.cat([p.detach().flatten().double() for p in model.state_dict().values()])


def problem(n=37, d=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(n, d))
    return x.astype(np.float32), np.argmax(x @ rng.normal(size=(d, classes)), axis=1)


def network(seed=0, dtype=torch.float32, activation="relu"):
    return mlp((6, 8, 3), activation=activation, generator=seeded(seed), dtype=dtype)


class Recorder(nn.Module):
    """Passes on to a model and keeps the points that the updates are made at."""

    def __init__(self, model):
        super().__init__()
        self.model, self.points = model, []

    def forward(self, z):
        if self.training:
            self.points.append(z.detach().clone())
        return self.model(z)


# ------------------------------------------------------------------- against written-out loops


def by_hand(model, batches, radius, steps, step, lr, milestones, decay, momentum, weight_decay):
    """PGD training from clean starts, in the box [0, 1], with nothing but autograd."""
    parameters = [p.detach().clone().requires_grad_(True) for p in model.parameters()]
    velocity = [torch.zeros_like(p) for p in parameters]

    def loss(z, y):
        a, b, c, d = parameters
        logits = F.softplus(z @ a.T + b) @ c.T + d
        return -torch.log_softmax(logits, 1)[torch.arange(len(y)), y]

    for epoch, batches_of_epoch in enumerate(batches):
        if epoch in milestones:
            lr = lr * decay
        for x, y in batches_of_epoch:
            z = x.clone()
            for _ in range(steps):
                z.requires_grad_(True)
                (g,) = torch.autograd.grad(loss(z, y).sum(), z)
                z = z.detach() + step * g.sign()
                z = torch.minimum(torch.maximum(z, x - radius), x + radius).clamp(0, 1)
            gradients = torch.autograd.grad(loss(z, y).mean(), parameters)
            with torch.no_grad():
                for p, v, g in zip(parameters, velocity, gradients, strict=True):
                    v.mul_(momentum).add_(g + weight_decay * p)
                    p.sub_(lr * v)
    return torch.cat([p.detach().flatten() for p in parameters])


@pytest.mark.parametrize(("steps", "step_scale"), [(0, 0.25), (1, 1.0), (3, 0.4)])
def test_training_is_the_loop_written_out(steps, step_scale):
    x, y = problem()
    x64 = torch.tensor(x, dtype=torch.float64)
    recorder = Recorder(network(dtype=torch.float64))
    settings = PLAIN | {"epochs": 5, "batch": 8, "seed": 3}
    fit(recorder, x, y, Ball(0.1), standard(), **settings)  # shows the order of the samples
    rows = [(x64[None] == p[:, None]).all(2).int().argmax(1) for p in recorder.points]
    assert [len(r) for r in rows] == [8, 8, 8, 8, 5] * 5
    assert all(sorted(torch.cat(rows[k : k + 5])) == list(range(37)) for k in range(0, 25, 5))
    batches = [[(x64[r], torch.tensor(y)[r]) for r in rows[k : k + 5]] for k in range(0, 25, 5)]

    schedule = pgd_training(steps, step_scale=step_scale, random_start=False)
    options = {"lr": 0.3, "decay": 0.2, "momentum": 0.8, "weight_decay": 1e-2}
    model = network(dtype=torch.float64, activation="softplus")
    start = network(dtype=torch.float64, activation="softplus")
    history = fit(model, x, y, Ball(0.1), schedule, milestones=(0.4, 3), **settings, **options)
    reference = by_hand(start, batches, 0.1, steps, step_scale * 0.1, milestones=(2, 3), **options)
    torch.testing.assert_close(weights(model), reference, rtol=0, atol=1e-12)
    np.testing.assert_allclose(history.lr, [0.3, 0.3, 0.06, 0.012, 0.012], rtol=1e-12)
    assert history.passes == [steps + 1] * 5


@pytest.mark.parametrize(
    ("epochs", "milestones", "falls"),
    [
        (1, (0.5, 0.85), []),
        (3, (0.5, 0.85), [2]),
        (10, (0.5, 0.85), [5, 9]),
        (4, (0.1, 2), [1, 2]),
        (3, (), []),
        (3, (2, 2, 9), [2, 2]),
    ],
)
def test_milestones(epochs, milestones, falls):
    """Fractions become epochs, halves up; never does the rate fall before the first epoch."""
    x, y = problem()
    arguments = (network(), x, y, Ball(0.1), standard())
    history = fit(*arguments, epochs=epochs, milestones=milestones, lr=1.0, **PLAIN)
    expected = [0.1 ** sum(epoch >= fall for fall in falls) for epoch in range(epochs)]
    np.testing.assert_allclose(history.lr, expected)


@pytest.mark.parametrize(
    ("nesterov", "annealing"), [(True, "cosine"), (True, "steps"), (False, "cosine")]
)
def test_nesterov_and_cosine_written_out(nesterov, annealing):
    """All samples in one batch, so that their order does not matter; a linear model."""
    x, y = problem()
    model = mlp((6, 3), generator=seeded(), dtype=torch.float64)
    parameters = [p.detach().clone().requires_grad_(True) for p in model.parameters()]
    velocity = [torch.zeros_like(p) for p in parameters]
    rates = [0.3] * 4
    if annealing == "cosine":
        rates = [0.3, 0.15 * (1 + math.sqrt(0.5)), 0.15, 0.15 * (1 - math.sqrt(0.5))]
    for lr in rates:
        logits = torch.tensor(x, dtype=torch.float64) @ parameters[0].T + parameters[1]
        loss = -torch.log_softmax(logits, 1)[torch.arange(37), torch.tensor(y)].mean()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, velocity, gradients, strict=True):
                v.mul_(0.8).add_(g)
                p.sub_(lr * (g + 0.8 * v if nesterov else v))
    history = fit(
        model, x, y, Ball(0.1), standard(), epochs=4, batch=37, lr=0.3, momentum=0.8,
        milestones=(), nesterov=nesterov, annealing=annealing, **PLAIN,
    )  # fmt: skip
    reference = torch.cat([p.detach().flatten() for p in parameters])
    torch.testing.assert_close(weights(model), reference, rtol=0, atol=1e-14)
    np.testing.assert_allclose(history.lr, rates, rtol=1e-14)


def test_update_points_are_those_of_the_attack():
    x, y = problem()
    recorder, start = Recorder(network()), network()
    fit(recorder, x, y, Ball(0.1), fgsm_training(), epochs=1, batch=len(y), **PLAIN)
    (points,) = recorder.points
    tensors = torch.tensor(x), torch.tensor(y)
    expected = fgsm(start, *tensors, Ball(0.1)).points
    assert torch.equal(points.sort(0).values, expected.sort(0).values)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_linear_model_reaches_the_optimum_of_chapter_3(norm):
    """Cross-entropy of two logits is the logistic loss of their difference."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 4))
    signs = np.sign(X @ [1.0, -2.0, 0.5, 0.0] + rng.normal(size=60))
    ball = Ball(0.2, norm, low=None, high=None)
    model = mlp((4, 2), generator=seeded(), dtype=torch.float64)

    def difference():
        weight, bias = (p.detach().numpy() for p in model.parameters())
        return weight[1] - weight[0], bias[1] - bias[0]

    at_first = linear.adversarial_risk(*difference(), X, signs, 0.2, norm, "logistic")
    history = fit(
        model, X, (signs > 0).astype(int), ball, fgsm_training(), epochs=400, batch=60, lr=0.2,
        **PLAIN,
    )  # fmt: skip
    assert history.loss[0] == pytest.approx(at_first, abs=1e-12)
    reached = linear.adversarial_risk(*difference(), X, signs, 0.2, norm, "logistic")
    best = linear.fit(X, signs, 0.2, norm, "logistic")
    assert -1e-9 < reached - best.risk < 1e-4
    assert reached < at_first - 0.1
    worst = linear.adversarial_risk(*difference(), X, signs, 0.0, norm, "logistic")
    assert reached > worst + 0.05  # the attack does something


def test_fosc_by_hand():
    """Without box and at the clean points: c = radius times the l1 norm of the gradient."""
    x, y = problem()
    ball = Ball(0.05, low=None, high=None)
    z, labels = torch.tensor(x).requires_grad_(True), torch.tensor(y)
    (g,) = torch.autograd.grad(F.cross_entropy(network()(z), labels, reduction="sum"), z)
    expected = 0.05 * g.abs().sum(1)
    history = fit(network(), x, y, ball, standard(), epochs=1, batch=37, monitor_fosc=True, **PLAIN)
    assert history.fosc_mean[0] == pytest.approx(expected.mean().item(), rel=1e-5)
    np.testing.assert_allclose(
        history.fosc_quantiles[0], np.quantile(expected.numpy(), QUANTILES), rtol=1e-4
    )
    assert history.passes == [1.0]


def test_looking_at_fosc_changes_nothing_else():
    x, y = problem()
    for schedule in (pgd_training(3), dynamic(0.05, 4, 3), fgsm_training(True)):
        seen, unseen = network(), network()
        one = fit(seen, x, y, Ball(0.1), schedule, epochs=3, monitor_fosc=True, **PLAIN)
        two = fit(unseen, x, y, Ball(0.1), schedule, epochs=3, **PLAIN)
        assert torch.equal(weights(seen), weights(unseen))
        assert one.inner_passes == two.inner_passes and one.loss == two.loss
        assert two.fosc_mean == two.fosc_quantiles == [None] * 3


# ---------------------------------------------------------------------------- gradient penalty


def penalised_risk(vector, like, x, y, weight, norm):
    """Mean of loss + weight ||grad||_* by hand: a network of softplus, its gradient written out."""
    a, b, c, d = (p.numpy() for p in split(vector, like))
    inner = x @ a.T + b
    logits = np.logaddexp(0, inner) @ c.T + d
    losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y]
    slope = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    slope[np.arange(len(y)), y] -= 1
    g = (slope @ c / (1 + np.exp(-inner))) @ a
    dual = {1: np.inf, 2: 2, math.inf: 1}[norm]
    return np.mean(losses + weight * np.linalg.norm(g, dual, axis=1))


def split(vector, like):
    return [
        v.reshape(p.shape)
        for v, p in zip(vector.split([p.numel() for p in like]), like, strict=True)
    ]


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_penalised_update_is_the_gradient_of_the_penalised_risk(norm, scaled):
    """One step without momentum, against central differences of a formula without autograd."""
    x, y = problem()
    x = x.astype(float)
    model = network(dtype=torch.float64, activation="softplus")
    before, like = weights(model), [p.detach() for p in model.parameters()]
    schedule = gradient_penalty(0.7)
    schedule = warm_up(schedule, 4) if scaled else schedule  # a quarter of the radius
    history = fit(model, x, y, Ball(0.2, norm), schedule, epochs=1, batch=37, lr=0.5,
                  momentum=0.0, milestones=(), **PLAIN)  # fmt: skip
    weight = 0.7 * 0.2 * (0.25 if scaled else 1)
    step, expected = 1e-6, torch.zeros_like(before)
    for k in range(len(before)):
        e = torch.zeros_like(before)
        e[k] = step
        ends = [penalised_risk(before + s * e, like, x, y, weight, norm) for s in (1, -1)]
        expected[k] = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close((before - weights(model)) / 0.5, expected, rtol=0, atol=1e-8)
    assert history.loss[0] == pytest.approx(penalised_risk(before, like, x, y, 0, norm), abs=1e-12)
    assert history.passes == [2.0] and history.inner_passes == [[37]]


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_the_penalty_is_the_fosc_of_the_centre_without_the_box(norm):
    """Seen by a learning rate so small that one step shows the gradient in the scale alone."""
    x, y = problem()
    ball = Ball(0.3, norm, low=None, high=None)
    model = network(dtype=torch.float64, activation="softplus")
    fosc = fit(network(dtype=torch.float64, activation="softplus"), x, y, ball, standard(),
               epochs=1, batch=37, monitor_fosc=True, **PLAIN).fosc_mean[0]  # fmt: skip
    like = [p.detach() for p in model.parameters()]
    risks = [penalised_risk(weights(model), like, x.astype(float), y, w, norm) for w in (0.3, 0)]
    assert fosc == pytest.approx(risks[0] - risks[1], rel=1e-9)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_zero_gradients_are_no_trouble_for_the_penalty(norm):
    """A network whose last layer is 0: every input gradient is 0, and so is the penalty's."""
    x, y = problem()
    one, two = network(), network()
    for model in (one, two):
        for parameter in (model[-1].weight, model[-1].bias):
            nn.init.zeros_(parameter)
    run = PLAIN | {"epochs": 1, "batch": 37}
    fit(one, x, y, Ball(0.2, norm), gradient_penalty(), **run)
    fit(two, x, y, Ball(0.2, norm), standard(), **run)
    assert torch.isfinite(weights(one)).all()
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=1e-7)


def test_penalty_at_attacked_points_and_in_bfloat16():
    x, y = problem()
    ball = Ball(0.1)
    both = lambda _: Inner(2, penalty=0.5)  # noqa: E731
    models = [network() for _ in range(3)]
    runs = [(both, "float32"), (both, "bfloat16"), (pgd_training(2), "float32")]
    seen = [
        fit(m, x, y, ball, schedule, epochs=2, precision=kind, lr=0.05, **PLAIN)
        for m, (schedule, kind) in zip(models, runs, strict=True)
    ]
    assert [h.passes for h in seen] == [[4.0] * 2, [4.0] * 2, [3.0] * 2]
    np.testing.assert_allclose(seen[1].loss, seen[0].loss, rtol=0.02)
    assert not torch.equal(weights(models[0]), weights(models[2]))
    one = fit(network(), x, y, ball, lambda _: Inner(2, penalty=0), epochs=2, lr=0.05, **PLAIN)
    assert one.loss == seen[2].loss


def test_batch_normalization_couples_the_penalty():
    """What is differentiated is the sum of the batch's losses in training mode."""
    x, y = problem(9)
    x64 = torch.tensor(x, dtype=torch.float64)

    def build():
        model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Softplus(), nn.Linear(4, 3))
        vector = torch.randn(51, generator=seeded(), dtype=torch.float64)
        nn.utils.vector_to_parameters(vector, model.double().parameters())
        return model

    model, reference = build(), build()
    fit(model, x, y, Ball(0.2, 2), gradient_penalty(), epochs=1, batch=9, lr=1.0, momentum=0.0,
        milestones=(), **PLAIN)  # fmt: skip
    reference.train()
    z = x64.requires_grad_(True)
    losses = F.cross_entropy(reference(z), torch.tensor(y), reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), z, create_graph=True)
    (losses + 0.2 * g.square().sum(1).sqrt()).mean().backward()
    expected = torch.cat([(p - p.grad).detach().flatten() for p in reference.parameters()])
    got = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------- augmentation


def numbered(n=40, channels=2, height=5, width=7):
    """Images whose entries are all different, and none is 0."""
    count = n * channels * height * width
    return torch.arange(1, count + 1, dtype=torch.float64).reshape(n, channels, height, width)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("pad", [0, 2])
def test_crop_and_flip_cuts_windows(pad, flip):
    """Every result is one of the windows of its own image, and all of them occur."""
    images = numbered(400)
    results = crop_and_flip(pad, flip)(images, seeded())
    seen = set()
    for image, result in zip(images.numpy(), results.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        found = [
            (i, j, mirrored)
            for i in range(2 * pad + 1)
            for j in range(2 * pad + 1)
            for mirrored in (False, True)
            if np.array_equal(
                padded[:, i : i + 5, j : j + 7][:, :, :: -1 if mirrored else 1], result
            )
        ]
        assert len(found) == 1
        seen |= set(found)
    assert len(seen) == (2 * pad + 1) ** 2 * (1 + flip)
    assert results.dtype == images.dtype and results.shape == images.shape
    if not pad and not flip:
        assert torch.equal(results, images)


def test_crop_and_flip_mirrors_half_and_refuses():
    images = numbered(1000)
    mirrored = (crop_and_flip(0)(images, seeded()) != images).flatten(1).any(1).double().mean()
    assert abs(mirrored - 0.5) < 4 * 0.5 / math.sqrt(1000)
    with pytest.raises(ValueError, match="images of shape"):
        crop_and_flip()(torch.zeros(3, 6), seeded())
    with pytest.raises(ValueError, match="pad must"):
        crop_and_flip(-1)
    again = pickle.loads(pickle.dumps(crop_and_flip(1, False)))
    assert again == crop_and_flip(1, False) and repr(again) == repr(crop_and_flip(1, False))


def test_augmentation_draws_from_a_generator_of_its_own():
    """Drawing and changing nothing leaves order and random starts as they are."""
    x, y = problem()

    def idle(points, generator):
        torch.rand(99, generator=generator)
        return points

    one, two = network(), network()
    a = fit(one, x, y, Ball(0.1), pgd_training(2), epochs=2, batch=10, augment=idle, **PLAIN)
    b = fit(two, x, y, Ball(0.1), pgd_training(2), epochs=2, batch=10, **PLAIN)
    assert torch.equal(weights(one), weights(two)) and a == b


def test_augmented_inputs_are_the_centres_of_the_attack():
    x, y = problem()
    recorder, centres = Recorder(network()), []

    def shift(points, generator):
        centres.append(points * 0.5 + 0.25 * torch.rand(points.shape, generator=generator))
        return centres[-1]

    fit(recorder, x, y, Ball(0.01), pgd_training(3), epochs=2, batch=20, augment=shift, **PLAIN)
    assert len(centres) == 4
    assert not torch.equal(centres[0].sort(0).values, centres[2].sort(0).values)
    for points, centre in zip(recorder.points, centres, strict=True):
        assert 0.005 < (points - centre).abs().max() < 0.01 + 1e-6


# --------------------------------------------------------------------------------- schedules


def test_schedules_by_value():
    assert standard()(7) == Inner(0, random_start=False)
    assert fgsm_training()(0) == Inner(1, step_scale=1.0, random_start=False)
    assert fgsm_training(True)(0) == Inner(1, step_scale=1.25, random_start=True)
    assert pgd_training(7)(5) == Inner(7, step_scale=0.25, threshold=None, random_start=True)
    assert [curriculum(10, 50)(j).steps for j in (0, 2, 3, 7, 8, 47, 48, 50, 90)] == [
        0, 0, 1, 1, 2, 9, 10, 10, 10,
    ]  # fmt: skip
    assert sum(curriculum(10, 50)(j).steps + 1 for j in range(60)) / 60 == 6.75
    assert [curriculum(4, 1)(j).steps for j in range(3)] == [0, 4, 4]
    assert [curriculum(3, 4)(j).steps for j in range(5)] == [0, 1, 2, 2, 3]  # halves up
    thresholds = [dynamic(0.5, 50)(j).threshold for j in (0, 10, 49, 50, 51, 1000)]
    np.testing.assert_allclose(thresholds, [0.5, 0.4, 0.01, 0, 0, 0], atol=1e-15)
    assert thresholds[-3:] == [0.0, 0.0, 0.0]
    assert dynamic(0.2, 5, 7, normalized=True)(0) == Inner(7, threshold=0.2, normalized=True)
    switched = switch(pgd_training(1), dynamic(1.0, 10), 4)
    assert [switched(j).steps for j in (0, 3, 4)] == [1, 1, 10]
    assert switched(4).threshold == pytest.approx(0.6)  # the epoch of the whole run
    assert switch(pgd_training(1), pgd_training(2), 0)(0).steps == 2
    warmed = warm_up(pgd_training(2), 4)
    assert [warmed(j).radius_scale for j in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warm_up(warmed, 2)(0).radius_scale == 0.125
    assert gradient_penalty(0.3)(5) == Inner(0, random_start=False, penalty=0.3)
    assert gradient_penalty()(0).penalty == 1.0 and standard()(0).penalty == 0.0


def test_schedules_travel_to_other_processes():
    for schedule in (dynamic(0.5, 50), warm_up(switch(standard(), curriculum(), 3), 2)):
        assert pickle.loads(pickle.dumps(schedule))(4) == schedule(4)


def test_dynamic_with_threshold_zero_is_pgd_training_bit_for_bit():
    x, y = problem()
    one, two = network(), network()
    a = fit(one, x, y, Ball(0.1), dynamic(0.0, 3, 5), epochs=4, **PLAIN)
    b = fit(two, x, y, Ball(0.1), pgd_training(5), epochs=4, **PLAIN)
    assert torch.equal(weights(one), weights(two))
    assert a.loss == b.loss and a.passes == b.passes == [6.0] * 4
    assert a.threshold == [0.0] * 4 and b.threshold == [None] * 4


def test_dynamic_with_a_huge_threshold_is_standard_training_bit_for_bit():
    x, y = problem()
    one, two = network(), network()
    a = fit(one, x, y, Ball(0.1), dynamic(1e9, 9, 5, random_start=False), epochs=3, **PLAIN)
    fit(two, x, y, Ball(0.1), standard(), epochs=3, **PLAIN)
    assert torch.equal(weights(one), weights(two))
    assert a.passes == [2.0] * 3 and a.inner_passes == [[0, 37, 0, 0, 0, 0]] * 3


def test_dynamic_that_must_take_its_first_step_and_stops_then_is_one_step_training():
    x, y = problem()
    one, two = network(), network()
    a = fit(one, x, y, Ball(0.1), dynamic(1e9, 9, 5, least_steps=1), epochs=3, **PLAIN)
    fit(two, x, y, Ball(0.1), pgd_training(1), epochs=3, **PLAIN)
    assert torch.equal(weights(one), weights(two))
    assert a.passes == [3.0] * 3 and a.inner_passes == [[0, 0, 37, 0, 0, 0]] * 3


def test_dynamic_spends_less_and_approaches_full_cost():
    x, y = problem(200)
    history = fit(
        network(), x, y, Ball(0.1), dynamic(0.1, 6, 8), epochs=8, monitor_fosc=True, **PLAIN
    )
    assert max(history.passes) <= 9 and history.passes[-2:] == [9.0, 9.0]
    assert history.passes[0] < 8
    for counts, passes in zip(history.inner_passes, history.passes, strict=True):
        assert sum(counts) == 200 and counts[0] == 0
        assert passes == pytest.approx(1 + sum(k * c for k, c in enumerate(counts)) / 200)
    for j in range(6):  # who stopped early has a FOSC below the threshold
        early = sum(history.inner_passes[j][:-1]) / 200
        below = [q for q, level in zip(history.fosc_quantiles[j], QUANTILES, strict=True)
                 if level < early - 0.01]  # fmt: skip
        assert all(q <= history.threshold[j] for q in below)


def test_normalized_threshold_does_not_see_the_scale_of_the_loss():
    x, y = problem(120)
    small, large = network(), network()

    def tenfold(logits, labels):
        return 1024.0 * F.cross_entropy(logits, labels, reduction="none")

    schedule = dynamic(0.3, 9, 6, normalized=True)
    a = fit(small, x, y, Ball(0.1), schedule, epochs=1, batch=120, **PLAIN)
    b = fit(large, x, y, Ball(0.1), schedule, epochs=1, batch=120, loss=tenfold, **PLAIN)
    assert a.inner_passes == b.inner_passes and a.passes[0] < 7
    raw = dynamic(0.3, 9, 6)
    b = fit(network(), x, y, Ball(0.1), raw, epochs=1, batch=120, loss=tenfold, **PLAIN)
    assert b.inner_passes != a.inner_passes


def test_warm_up_scales_radius_and_step():
    x, y = problem()
    recorder = Recorder(network())
    ball = Ball(0.08, low=None, high=None)
    history = fit(
        recorder, x, y, ball, warm_up(fgsm_training(), 4), epochs=5, batch=37, momentum=0.0,
        lr=1e-9, **PLAIN,
    )  # fmt: skip
    assert history.radius == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.08])
    for points, radius in zip(recorder.points, history.radius, strict=True):
        shift = (torch.tensor(x)[None] - points[:, None]).abs().amax(2).min(1).values
        assert shift.max().item() == pytest.approx(radius, rel=1e-4)


# ------------------------------------------------------------------------------------- seeds


def test_one_seed_fixes_everything_and_nothing_global_moves():
    x, y = problem()
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    runs = []
    for seed in (0, 0, 1):
        model = network()
        history = fit(model, x, y, Ball(0.1), pgd_training(2), epochs=3, seed=seed, **PLAIN)
        runs.append((weights(model), dataclasses.asdict(history)))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert torch.equal(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]
    assert not torch.equal(runs[0][0], runs[2][0])


def test_methods_of_one_seed_see_the_same_batches():
    x, y = problem()
    seen = []
    for schedule in (standard(), pgd_training(2), dynamic(0.1, 2, 3)):
        recorder = Recorder(network())
        fit(recorder, x, y, Ball(1e-4), schedule, epochs=2, batch=10, seed=5, **PLAIN)
        seen.append(recorder.points)
    for points in seen[1:]:
        assert all((a - b).abs().max() < 1.1e-4 for a, b in zip(seen[0], points, strict=True))


def test_random_starts_follow_the_seed():
    """Training on random points of the ball, all samples in one batch: the noise differs."""
    x, y = problem()
    noise = []
    for seed in (0, 0, 1):
        recorder = Recorder(network())
        fit(recorder, x, y, Ball(1e-3), lambda _: Inner(0), epochs=2, batch=37, seed=seed, **PLAIN)
        for points in recorder.points:
            shifts = torch.tensor(x)[None] - points[:, None]
            noise.append(shifts.flatten(0, 1)[shifts.abs().amax(2).flatten().argsort()[:37]])
    assert torch.equal(noise[0], noise[2]) and torch.equal(noise[1], noise[3])
    for a, b in [(0, 1), (0, 4), (1, 5)]:
        both = torch.cat([noise[a], noise[b]])
        assert len(both.unique(dim=0)) == 74  # no perturbation occurs twice
    assert all(0 < n.abs().max() <= 1.01e-3 for n in noise)


def test_arrays_and_modes_are_left_alone():
    x, y = problem()
    x.flags.writeable = False
    copy = x.copy()
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))
    model.train(), model[1].eval()
    seen = []
    fit(
        model, x, y, Ball(0.1), pgd_training(1), epochs=1,
        monitor=lambda _, model: seen.extend(m.training for m in model.modules()), **PLAIN,
    )  # fmt: skip
    assert seen == [False] * 5
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert (x == copy).all() and all(p.grad is None for p in model.parameters())


def test_batch_norm_sees_the_updates_only():
    """Its running mean after one step is momentum times the mean of the points of the update."""
    x, y = problem()
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))
    recorder = Recorder(model)
    fit(recorder, x, y, Ball(0.1), pgd_training(5), epochs=1, batch=37, monitor_fosc=True,
        monitor=lambda epoch, model: evaluate(model, x, y), **PLAIN)  # fmt: skip
    (points,) = recorder.points
    torch.testing.assert_close(model[0].running_mean, 0.1 * points.mean(0))
    assert model[0].num_batches_tracked == 1


# ------------------------------------------------------------------------------- checkpoints

RUN = PLAIN | {"epochs": 6, "batch": 10, "seed": 2, "monitor_fosc": True}


def dropout_network(seed=0):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    vector = torch.randn(weights(model).shape, generator=seeded(seed)) / 2
    nn.utils.vector_to_parameters(vector, model.parameters())
    return model


def noisy(points, generator):
    return points + 0.1 * (torch.rand(points.shape, generator=generator) - points)


def train(model, path=None, stop=None, **changes):
    x, y = problem()

    def monitor(epoch, model):
        if epoch == stop:
            raise KeyboardInterrupt
        return {"epoch": epoch, "clean": evaluate(model, x, y), "pair": (1, 2)}

    settings = RUN | {"schedule": dynamic(0.2, 5, 4)} | changes
    return fit(model, x, y, Ball(0.1), monitor=monitor, checkpoint=path, **settings)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bfloat16"},
        {"augment": noisy, "nesterov": True, "annealing": "cosine", "schedule": gradient_penalty()},
    ],
)
def test_resumed_bit_for_bit(tmp_path, fresh, changes):
    path = tmp_path / "run.pt"
    torch.manual_seed(0)
    straight = dropout_network()
    history = train(straight, **changes)
    torch.manual_seed(0)
    broken = dropout_network()
    with pytest.raises(KeyboardInterrupt):
        train(broken, path, stop=3, **changes)
    assert all(m.training for m in broken.modules())
    torch.rand(5)  # what happens in between does not matter
    resumed = dropout_network() if fresh else broken
    again = train(resumed, path, **changes)
    assert torch.equal(weights(resumed), weights(straight))
    assert dataclasses.asdict(again) == dataclasses.asdict(history)
    assert again.monitored[0] == {"epoch": 0, "clean": again.monitored[0]["clean"], "pair": [1, 2]}

    written = path.read_bytes()
    finished = dropout_network()
    state = torch.get_rng_state()
    once_more = train(finished, path, stop=0, **changes)  # returns before any epoch
    assert torch.equal(weights(finished), weights(straight)) and once_more == again
    assert torch.equal(torch.get_rng_state(), state)
    assert path.read_bytes() == written and list(tmp_path.iterdir()) == [path]


def test_interrupted_in_the_midst_of_an_epoch(tmp_path):
    """Also before the first epoch ends, and from within the model."""
    straight, broken = network(), network()
    x, y = problem()
    arguments = (x, y, Ball(0.1), pgd_training(2))
    fit(straight, *arguments, **RUN)

    for calls in (3, 7, 11):
        left = [calls]

        def stop(module, inputs, left=left):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        hook = broken[1].register_forward_pre_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            fit(broken, *arguments, checkpoint=tmp_path / "run.pt", **RUN)
        hook.remove()
    fit(broken, *arguments, checkpoint=tmp_path / "run.pt", **RUN)
    assert torch.equal(weights(broken), weights(straight))


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"lr": 0.05}, "lr"),
        ({"epochs": 7, "milestones": (3, 5)}, "epochs"),
        ({"seed": 3, "batch": 11}, "batch, seed"),
        ({"schedule": dynamic(0.21, 5, 4)}, "schedule"),
        ({"precision": "bfloat16"}, "precision"),
        ({"monitor_fosc": False}, "monitor_fosc"),
        ({"annealing": "cosine"}, "annealing"),
        ({"augment": noisy, "nesterov": True}, "augment, nesterov"),
    ],
)
def test_other_settings_are_refused(tmp_path, changes, keys):
    path = tmp_path / "run.pt"
    train(dropout_network(), path, epochs=6)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"these differ: {keys}"):
        train(dropout_network(), path, **changes)
    assert path.read_bytes() == before


def test_other_weights_data_ball_or_model_are_refused(tmp_path):
    x, y = problem()
    path = tmp_path / "run.pt"

    def run(model, x=x, y=y, ball=None):
        ball = ball or Ball(0.1)
        fit(model, x, y, ball, standard(), epochs=1, checkpoint=path, **PLAIN)

    run(network())
    run(network())
    other = x.copy()
    other[3, 2] = 0.123
    for arguments, key in [
        ((network(seed=1),), "initial weights"),
        ((network(), other), "data"),
        ((network(), x, y[::-1].copy()), "data"),
        ((network(), x, y, Ball(0.2)), "ball"),
        ((network(activation="tanh"),), "model"),
    ]:
        with pytest.raises(ValueError, match=f"these differ: .*{key}"):
            run(*arguments)


def test_damaged_files_are_refused_and_kept(tmp_path):
    path = tmp_path / "run.pt"
    train(dropout_network(), path, epochs=1)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", b"hello", whole[:-100], whole[:40], bytes(flipped), whole[32:]):
        path.write_bytes(damaged)
        model = dropout_network()
        with pytest.raises(ValueError, match="move it away"):
            train(model, path, epochs=1)
        assert path.read_bytes() == damaged
        assert torch.equal(weights(model), weights(dropout_network()))


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    buffer = io.BytesIO()
    torch.save({"format": training._FORMAT, "settings": Evil()}, buffer)
    content = buffer.getvalue()
    path = tmp_path / "run.pt"
    path.write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(ValueError, match="move it away"):
        train(dropout_network(), path)
    assert not (tmp_path / "owned").exists()


def test_a_folder_that_cannot_be_written_fails_before_training(tmp_path):
    model = network()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing" / "run.pt", tmp_path / "file" / "run.pt"):
        with pytest.raises(OSError):
            train(model, path)
    assert torch.equal(weights(model), weights(network()))


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(dropout_network(), path, stop=1)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        train(dropout_network(), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


FULL = """
    import os, pathlib, resource, sys, torch
    sys.path.insert(0, sys.argv[1])
    from test_training import train, dropout_network, weights

    path = pathlib.Path(sys.argv[2]) / "run.pt"
    torch.manual_seed(0)
    straight = dropout_network()
    train(straight)
    torch.manual_seed(0)
    model = dropout_network()
    try:
        train(model, path, stop=2)
    except KeyboardInterrupt:
        pass
    before = path.read_bytes()
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, most))
    try:
        train(model, path)
    except OSError as error:
        print(type(error).__name__, error)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["run.pt"]
    try:
        train(model, path.with_name("other.pt"))
    except OSError as error:
        print(error)
    assert os.listdir(path.parent) == ["run.pt"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    train(model, path)
    print(torch.equal(weights(model), weights(straight)))
"""


def test_no_room_for_the_checkpoint(tmp_path):
    """Files may not grow beyond half a checkpoint: what the system then says is a real error."""
    pytest.importorskip("resource")
    folder = os.path.dirname(__file__)
    command = [sys.executable, "-c", textwrap.dedent(FULL), folder, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    first, second, same = done.stdout.splitlines()
    assert f"{tmp_path / 'run.pt'} cannot be written" in first and "Errno" in first
    assert "once there is room, the same call goes on from epoch 2" in first
    assert "other.pt" in second and "training has not begun" in second
    assert same == "True"


def test_a_monitor_must_return_what_json_holds():
    x, y = problem()
    with pytest.raises(TypeError, match="JSON"):
        fit(network(), x, y, Ball(0.1), standard(), epochs=1, monitor=lambda *_: x, **PLAIN)


# ------------------------------------------------------------------------ precision, progress


@pytest.mark.parametrize("build", [network, lambda: cnn(1, 8, 3, width=4, generator=seeded())])
def test_bfloat16(build):
    x, y = problem() if build is network else (problem(d=64)[0].reshape(37, 1, 8, 8), problem()[1])
    model, reference = build(), build()
    run = PLAIN | {"epochs": 3, "monitor_fosc": True, "lr": 0.02}
    low = fit(model, x, y, Ball(0.05), pgd_training(3), precision="bfloat16", **run)
    full = fit(reference, x, y, Ball(0.05), pgd_training(3), **run)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not torch.equal(weights(model), weights(reference))
    np.testing.assert_allclose(low.loss, full.loss, rtol=0.02)
    np.testing.assert_allclose(low.fosc_mean, full.fosc_mean, rtol=0.3, atol=2e-3)


IMAGES = {"epochs": 2, "batch": 20, "lr": 0.02} | PLAIN


def images_and_network(seed=0):
    x, y = problem(d=64)
    return cnn(1, 8, 3, width=4, batch_norm=True, generator=seeded(seed)), x.reshape(37, 1, 8, 8), y


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("schedule", [pgd_training(2), gradient_penalty()])
def test_channels_last_is_the_same_in_another_order(tmp_path, precision, schedule):
    (one, x, y), (two, *_), (three, *_) = (images_and_network() for _ in range(3))
    run = IMAGES | {"precision": precision}
    formats = []

    def monitor(epoch, model):
        formats.append(model[0].weight.is_contiguous(memory_format=torch.channels_last))
        formats.append(model[3].weight.is_contiguous(memory_format=torch.channels_last))
        if len(formats) == 4 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt

    a = fit(one, x, y, Ball(0.05), schedule, **run)
    path = tmp_path / "run.pt"
    kept = run | {"channels_last": True, "monitor": monitor}
    with pytest.raises(KeyboardInterrupt):
        fit(two, x, y, Ball(0.05), schedule, checkpoint=path, **kept)
    assert all(p.is_contiguous() for p in two.parameters())
    b = fit(two, x, y, Ball(0.05), schedule, checkpoint=path, **kept)
    c = fit(three, x, y, Ball(0.05), schedule, **kept)
    assert all(formats) and torch.equal(weights(two), weights(three)) and b == c
    tol = 1e-4 if precision == "float32" else 0.05
    np.testing.assert_allclose(a.loss, b.loss, rtol=tol)
    assert all(p.is_contiguous() for p in two.parameters())
    with pytest.raises(ValueError, match="format for images"):
        fit(network(), *problem(), Ball(0.1), standard(), epochs=1, channels_last=True, **PLAIN)


def compiler():
    try:
        from torch._inductor import cpp_builder

        return bool(cpp_builder.get_cpp_compiler())
    except Exception:
        return False


@pytest.mark.skipif(not compiler(), reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_is_the_same_up_to_rounding():
    """About 10 seconds the first time, on two graphs: attack and update."""
    x, y = problem()
    one, two = network(), network()
    before = torch.get_rng_state()
    run = PLAIN | {"epochs": 2, "batch": 37}
    a = fit(one, x, y, Ball(0.05), pgd_training(2), compiled=True, **run)
    b = fit(two, x, y, Ball(0.05), pgd_training(2), **run)
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=1e-5)
    assert a.passes == b.passes and torch.equal(torch.get_rng_state(), before)
    assert list(one.state_dict()) == list(two.state_dict())
    fit(one, x, y, Ball(0.05), gradient_penalty(), compiled=True, **run)
    fit(two, x, y, Ball(0.05), gradient_penalty(), **run)
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=1e-5)


def test_without_a_compiler_the_error_says_so(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match="compiled=False"):
        fit(network(), *problem(), Ball(0.1), standard(), epochs=1, compiled=True, **PLAIN)
    torch.compiler.reset()


def test_history_is_json():
    x, y = problem()
    history = fit(network(), x, y, Ball(0.1), dynamic(np.float64(0.1), 2), epochs=2,
                  lr=np.float32(0.1), monitor_fosc=True, **PLAIN)  # fmt: skip
    columns = dataclasses.asdict(history)
    assert json.loads(json.dumps(columns, allow_nan=False)) == columns
    assert {len(column) for column in columns.values()} == {2}


@pytest.mark.parametrize(("static", "shown"), [(None, True), ("1", False)])
def test_progress_bar(monkeypatch, capsys, static, shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.delenv("ADVREG_STATIC", raising=False)
    if static:
        monkeypatch.setenv("ADVREG_STATIC", static)
    x, y = problem()
    for progress in (True, False):
        run = {"epochs": 2, "batch": 10, "device": "cpu", "progress": progress}
        fit(network(), x, y, Ball(0.1), standard(), **run)
        text = capsys.readouterr().err
        assert ("training" in text) == ("/8 " in text) == (shown and progress)  # 8 batches in all


def test_evaluate():
    x, y = problem()
    model = mlp((6, 3), generator=seeded(), dtype=torch.float64)
    weight, bias = (p.detach().numpy() for p in model.parameters())
    by_hand = np.mean(np.argmax(x.astype(float) @ weight.T + bias, 1) == y)
    for batch in (1, 5, 37, 1000):
        assert evaluate(model, x, y, batch=batch) == by_hand
    model.train()
    evaluate(model, torch.tensor(x), torch.tensor(y))
    assert model.training


# ----------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"epochs": 2.0}, "epochs must be"),
        ({"batch": 0}, "batch must be"),
        ({"lr": 0.0}, "lr must be"),
        ({"lr": -1}, "lr must be"),
        ({"lr": math.nan}, "lr must be"),
        ({"momentum": -0.1}, "momentum must be"),
        ({"decay": 0.0}, "decay must be"),
        ({"seed": -1}, "seed must be"),
        ({"milestones": (1.5,)}, "milestones"),
        ({"milestones": (1.0,)}, "milestones"),
        ({"milestones": (0,)}, "milestones"),
        ({"precision": "float16"}, "bfloat16"),
        ({"annealing": "linear"}, "steps, cosine"),
        ({"nesterov": True, "momentum": 0.0}, "momentum above 0"),
        ({"augment": lambda points, generator: points[:3]}, "augment must return"),
        ({"device": "tpu"}, "cuda"),
        ({"y": np.full(37, 3)}, "0, ..., 2"),
        ({"y": np.full(37, -1)}, "0, ..., 2"),
        ({"y": np.zeros(36, int)}, "one label per sample"),
        ({"y": np.zeros((37, 1), int)}, "one label per sample"),
        ({"x": np.zeros((0, 6)), "y": np.zeros(0, int)}, "no samples"),
        ({"x": np.full((37, 6), 2.0)}, "outside the box"),
        ({"x": np.full((37, 6), -0.1)}, "outside the box"),
        ({"x": np.full((37, 6), np.nan)}, "finite"),
        ({"model": nn.Flatten()}, "no parameters"),
        ({"model": nn.Linear(6, 3).half()}, "float32 or float64"),
        ({"model": nn.Sequential(
            nn.Linear(6, 3), nn.Unflatten(1, (3, 1)))}, "shape \\(B, classes\\)"),
    ],
)  # fmt: skip
def test_refused(changes, message):
    x, y = problem()
    arguments = {"model": network(), "x": x, "y": y, "ball": Ball(0.1), "schedule": standard()}
    with pytest.raises(ValueError, match=message):
        fit(**arguments | {"epochs": 1} | PLAIN | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.zeros(37)}, "integers"),
        ({"x": np.zeros((37, 6), complex)}, "real"),
        ({"schedule": 7}, "schedule"),
        ({"augment": 7}, "augment"),
        ({"schedule": lambda epoch: epoch}, "Inner"),
    ],
)
def test_refused_by_type(changes, message):
    x, y = problem()
    arguments = {"model": network(), "x": x, "y": y, "ball": Ball(0.1), "schedule": standard()}
    with pytest.raises(TypeError, match=message):
        fit(**arguments | {"epochs": 1} | PLAIN | changes)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Inner(-1),
        lambda: Inner(1.5),
        lambda: Inner(1, step_scale=-0.1),
        lambda: Inner(1, threshold=-0.1),
        lambda: Inner(1, threshold=math.nan),
        lambda: Inner(1, radius_scale=-1),
        lambda: Inner(1, penalty=-1),
        lambda: gradient_penalty(math.inf),
        lambda: dynamic(-0.1, 5),
        lambda: dynamic(0.1, 0),
        lambda: curriculum(5, 0),
        lambda: warm_up(standard(), 0),
        lambda: switch(standard(), standard(), -1),
    ],
)
def test_schedules_refuse(build):
    with pytest.raises(ValueError):
        build()


@pytest.mark.parametrize("schedule", [standard(), pgd_training(2)])
def test_a_loss_that_overflows_names_epoch_and_batch(tmp_path, schedule):
    x, y = problem()
    model = network()
    path = tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match=r"epoch \d+, batch \d+"):
        fit(model, x, y, Ball(0.1), schedule, epochs=9, batch=10, lr=1e25, checkpoint=path, **PLAIN)
    assert torch.isfinite(weights(model)).all()  # those of the last checkpoint, which remains
    with pytest.raises(FloatingPointError, match=r"epoch \d+, batch \d+"):
        fit(model, x, y, Ball(0.1), schedule, epochs=9, batch=10, lr=1e25, checkpoint=path, **PLAIN)
