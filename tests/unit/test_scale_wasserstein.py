"""Worst-case errors of order 1 and infinity on wide residual networks (chapter 8, notebook 5)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from advreg import attacks, networks, wdro_attacks
from advreg import scale_experiments as se


def net(depth=10, widen=1, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return networks.wide_resnet(
        depth, widen, 4, channels=1, size=8, generator=generator, dtype=torch.float64, **options
    ).eval()


def scramble(model, seed):
    """Normalizations as after some training: other means, variances, weights and biases."""
    rng = np.random.default_rng(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -1, 1),
                (layer.running_var, 0.1, 3),
                (layer.weight, -2, 2),
                (layer.bias, -1, 1),
            ):
                tensor.data = torch.tensor(rng.uniform(low, high, len(tensor)))
    return model


@pytest.mark.parametrize(("depth", "widen"), [(10, 1), (16, 2)])
def test_the_bound_is_attained_where_nothing_is_lost(depth, widen):
    # filters of one pixel with equal sums, normalizations with equal positive factors, no
    # negative number anywhere: the network is linear, and all of [0, 1]^d moves the features
    rng, model = np.random.default_rng(depth), net(depth, widen)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                taps = torch.tensor(rng.uniform(0.1, 1, layer.weight.shape[:2]))
                k = layer.weight.shape[-1] // 2
                layer.weight.zero_()
                layer.weight[:, :, k, k] = taps / taps.sum(dim=1, keepdim=True) * rng.uniform(1, 2)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.weight.fill_(rng.uniform(0.5, 2))
                layer.running_var.fill_(rng.uniform(0.5, 2))
        features = model[:-1]
        zero, one = (features(torch.full((1, 1, 8, 8), v, dtype=torch.float64)) for v in (0, 1))
    assert se.feature_bound(model) == pytest.approx(float((one - zero).max()), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_above_every_slope(seed):
    model = scramble(net(seed=seed), seed)
    bound = se.feature_bound(model)
    generator = torch.Generator().manual_seed(seed)
    for scale in (0.1, 1.0, 10.0):
        x = scale * torch.randn((1, 1, 8, 8), generator=generator, dtype=torch.float64)
        slopes = torch.autograd.functional.jacobian(model[:-1], x).flatten(2).abs().sum(dim=2)
        assert float(slopes.max()) <= bound


def test_certified_radii_are_distances_over_the_bound():
    model = scramble(net(seed=5), 5)
    generator = torch.Generator().manual_seed(5)
    x = torch.rand((12, 1, 8, 8), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(dim=1)
    y[0] = logits[0].argmin()  # an error
    found = se.certified_radii(model, x, y)
    bound, w = se.feature_bound(model), model.linear.weight.detach()
    for i, label in enumerate(y.tolist()):
        radii = [
            float(logits[i, label] - logits[i, j]) / (bound * float((w[label] - w[j]).abs().sum()))
            for j in range(4)
            if j != label
        ]
        assert found[i] == pytest.approx(max(min(radii), 0.0), rel=1e-12)
    assert found[0] == 0
    errors = wdro_attacks.nearest_errors(model, x, y, math.inf, low=0.0, high=1.0)
    assert (found <= errors.distances).all()


def test_other_networks_are_refused():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="wide residual"):
        se.feature_bound(networks.mlp((4, 3, 2), generator=generator))
    with pytest.raises(ValueError, match="relu"):
        se.feature_bound(net(activation="softplus"))


def test_the_command_stores_distances_of_points_that_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(se, "MEASURED", 6)
    monkeypatch.setattr(se, "GROWN", 3)
    monkeypatch.setattr(se, "WASSERSTEIN", ("standard", "pgd-2"))
    out = tmp_path / "wasserstein.json"
    words = "wasserstein --size 8 --images 150 --test 20 --epochs 2 --autoattack 3 --seeds 3"
    assert se.main([*words.split(), "--device", "cpu", "--out", str(out)]) == 0
    rows = se.load(out)["rows"]
    assert [row["method"] for row in rows] == ["standard", "pgd-2"]
    job = se.Job(size=8, images=150, test=20, epochs=2)
    for row in rows:
        model = se.trained(job, row["method"], 3).model  # trains again, the same weights
        parts = se.images(job, 3)
        with torch.no_grad():
            wrong = (model(parts.test_x).argmax(dim=1) != parts.test_y).numpy()
        assert row["error"] == pytest.approx(wrong.mean())
        d = np.array(row["distances"])
        assert ((d == 0) == wrong[:6]).all()
        assert (np.array(row["certified"]) <= d).all()
        assert row["radii"] == pytest.approx([0.05, 0.15])
        for radius, broken in zip(row["radii"], row["broken"], strict=True):
            ball = attacks.Ball(radius)
            g = torch.Generator().manual_seed(3)
            x, y = parts.test_x[:6], parts.test_y[:6]
            judged = attacks.worst_of(model, x, y, ball, steps=20, restarts=1, generator=g)
            assert broken == (~judged.robust).long().tolist()
        assert len(row["grown_1"]) == len(row["grown_inf"]) == 2
        assert all(a >= b - 1e-6 for a, b in zip(row["grown_1"], row["grown_inf"], strict=True))
        assert row["autoattack"] is None or 0 <= row["autoattack"] <= 1
