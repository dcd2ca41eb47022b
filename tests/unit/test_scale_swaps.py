"""The swap tests and partial freezing of :mod:`advreg.scale_experiments`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from advreg import attacks, networks, training
from advreg import scale_experiments as runs

torch.set_num_threads(1)
FREE = attacks.Ball(0.05, low=None, high=None)


def wrn(seed=0):
    return networks.wide_resnet(
        10, 1, 2, channels=1, size=8, generator=torch.Generator().manual_seed(seed)
    )


def sample(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 2


def test_scores_and_slopes_of_a_linear_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    x, _ = sample(401)  # more than one part
    w = (model[1].weight[1] - model[1].weight[0]).detach().double()
    b = (model[1].bias[1] - model[1].bias[0]).detach().double()
    f = (x.flatten(1).double() @ w + b).numpy()
    assert np.allclose(runs.scores(model, x), f, atol=1e-5)
    assert np.allclose(runs.score_slopes(model, x), float(w.abs().sum()), rtol=1e-5)


def test_found_gaps_are_exact_for_a_linear_model_and_never_negative():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    x, y = sample()
    gaps = runs.found_gaps(model, x, y, FREE, steps=8)
    drop = 0.05 * float((model[1].weight[1] - model[1].weight[0]).detach().abs().sum())
    expected = runs.gap_at_margin(runs.signed(y) * runs.scores(model, x), drop)
    assert np.allclose(gaps, expected, atol=1e-6)
    none = runs.found_gaps(model, x, y, attacks.Ball(0.0, low=None, high=None), steps=2)
    assert (none >= 0).all() and none.max() < 1e-6


def test_found_gaps_grow_with_restarts_and_leave_the_model_alone():
    model, (x, y) = wrn().train(), sample()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one = runs.found_gaps(model, x, y, FREE, steps=3, restarts=0)
    two = runs.found_gaps(model, x, y, FREE, steps=3, restarts=2)
    assert (two >= one - 1e-7).all()
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("mean", [1e-3, 0.7, 30.0])
def test_matching_drop(mean):
    margins = np.linspace(-4, 9, 50)
    drop = runs.matching_drop(margins, mean)
    assert drop > 0
    assert np.isclose(runs.gap_at_margin(margins, drop).mean(), mean)


def test_swap_statistics_of_every_rung():
    rng = np.random.default_rng(0)
    f, slope, y = rng.normal(size=80), rng.exponential(size=80), np.arange(80) % 2 * 2.0 - 1
    P, Q = rng.normal(size=(2, 80, 10))
    rungs = ((0, 0, 0, False), (10, 0, 0, False), (2, 3, 4, True))
    levels = runs.swap_statistics(f, y, slope, P, Q, rungs)
    assert [T.shape[1] for T in levels] == [1, 21, 2 * (2 + 3 + 3) + 1 + 2 * 2 * 4]
    near = levels[2][y > 0][:, 6:9]  # pixels 2, features 3, then loss, slope, slope of the loss
    loss, g = np.log1p(np.exp(-f[y > 0])), slope[y > 0]
    assert np.allclose(near, np.column_stack([loss, g, g / (1 + np.exp(f[y > 0]))]))


def test_swap_row():
    x, y = sample(60)
    linear = networks.mlp((64, 2), generator=torch.Generator().manual_seed(1))
    rungs = ((0, 0, 0, False), (4, 4, 3, False), (4, 4, 3, True))
    row = runs.swap_row(wrn(), linear, x, y, FREE, steps=3, again=(3, 1), rungs=rungs)
    for who in ("", "features_", "linear_"):
        low, high = np.array(row[who + "lower"]), np.array(row[who + "upper"])
        assert (low <= 1 + 1e-9).all() and (high >= 1 - 1e-9).all()
        assert (np.diff(low) >= -1e-7).all() and (np.diff(high) <= 1e-7).all()
    assert row["again"][0] >= row["lower"][-1] - 1e-9
    assert row["again"][1] >= row["upper"][-1] - 1e-9
    assert row["slack"] < 1e-6 * row["actual"] + 1e-8
    with pytest.raises(ValueError, match="without a box"):
        runs.swap_row(wrn(), linear, x, y, attacks.Ball(0.05))


@pytest.mark.parametrize("groups", range(4))
def test_frozen_part_stays_and_the_rest_is_trained(groups):
    source, fresh = wrn(1), wrn(2)
    x, y = sample(20)
    model = runs.frozen(source, fresh, groups)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    history = training.fit(
        model, x, y, FREE, training.pgd_training(1), epochs=2, batch=10, weight_decay=0.1,
        progress=False, device="cpu",
    )  # fmt: skip
    assert len(history.loss) == 2
    for key, value in model.state_dict().items():
        if key.startswith("frozen"):
            assert torch.equal(value, before[key]), key
        elif key.endswith("weight"):
            assert not torch.equal(value, before[key]), key
    # the sources are copies, and the whole is the one network with the parts of two
    assert all(p.requires_grad for p in source.parameters())
    whole = runs.frozen(source, source, groups).eval()
    assert torch.allclose(whole(x), source.eval()(x), atol=1e-6)


def test_frozen_part_is_in_evaluation_mode_in_every_mode():
    model = runs.frozen(wrn(1), wrn(2), 2)
    for _ in range(2):
        assert not any(m.training for m in model.frozen.modules())
        assert all(m.training for m in model.rest.modules())
        model.train()
    model.eval()
    assert not any(m.training for m in model.modules())


def test_frozen_refuses():
    with pytest.raises(ValueError, match="groups must be"):
        runs.frozen(wrn(), wrn(), 4)
    plain = networks.mlp((64, 2), generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="wide residual"):
        runs.frozen(plain, plain, 1)


def test_calibrated_normalizes_and_changes_no_weight():
    model, (x, _) = wrn(), sample(50)
    new = runs.calibrated(model, 5 * x)
    assert not new.training and model.training
    for a, b in zip(model.parameters(), new.parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        out = new.group1[0].norm1(new.conv(5 * x))
    assert out.mean().abs() < 1e-2
    assert abs(out.var(dim=(0, 2, 3)).mean() - 1) < 0.05
    assert new.norm.momentum == model.norm.momentum


def test_deep_collapse_needs_both_labels():
    x, y = sample(4)
    with pytest.raises(ValueError, match="both labels"):
        runs.deep_collapse(nn.Flatten(), x, 0 * y, FREE)


def test_deep_collapse_of_equal_means_at_once():
    x, y = sample(8)
    x[y == 1] = x[y == 0]
    answer = runs.deep_collapse(nn.Flatten(), x, y, FREE)
    assert answer.status == "collapse" and len(answer.cuts) == 1


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_deep_collapse_weighs_every_cut_when_its_rounds_are_over(rounds):
    x, y = sample(8)
    x[y == 1] = (x[y == 0] + 0.06).clamp(0, 1)
    answer = runs.deep_collapse(nn.Flatten(), x, y, FREE, rounds=rounds, tolerance=0.0)
    assert answer.weights.shape == (len(answer.cuts),)
    assert len(answer.cuts) <= rounds + 1
