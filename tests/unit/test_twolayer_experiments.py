"""The experiments of chapter 7: the command, its interruptions, its results, and its parts."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from sklearn.decomposition import PCA

from advreg import experiments, relu, twolayer
from advreg import twolayer_experiments as runs

RESULTS = Path(__file__).parents[2] / "chapters" / "07_two_layers" / "results"
TINY = ["--epochs", "3", "--images", "24"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(runs, "PLANE_RUNGS", ((0, 0, False), (2, 2, True)))
    monkeypatch.setattr(runs, "DIGITS_RUNGS", ((0, 0, False), (1, 2, True)))
    monkeypatch.setattr(runs, "COLLAPSE_RADII", (0.01, 0.2))
    short = {k: v for k, v in runs.FREEZING.items() if k != "hidden-standard"}
    run, _, *rest = runs.EXPERIMENTS["freezing"]
    monkeypatch.setattr(runs, "FREEZING", short)
    monkeypatch.setitem(runs.EXPERIMENTS, "freezing", (run, short, *rest))
    task = runs.digits_task
    monkeypatch.setattr(runs, "digits_task", lambda seed: task(seed, 100))


def run(folder, name, *words):
    return runs.main([name, "--out", str(folder / "r.json"), *TINY, *words])


# ------------------------------------------------------------------------------ parts


def test_the_twin_has_the_moments_of_the_classes_and_other_points():
    X, y = runs.moons(3, 90)
    Q = runs.gaussian_twin(X, y, np.random.default_rng(0))
    for label in (-1, 1):
        P_part, Q_part = X[y == label], Q[y == label]
        np.testing.assert_allclose(Q_part.mean(0), P_part.mean(0), atol=1e-12)
        np.testing.assert_allclose(np.cov(Q_part.T), np.cov(P_part.T), atol=1e-12)
    assert np.abs(Q - X).max() > 0.5


def test_digits_are_even_or_odd_and_split():
    x, y, z, t = runs.digits_task(4, 200)
    assert x.shape == (200, 64) and z.shape == (1597, 64) and set(y) == set(t) == {-1.0, 1.0}
    assert x.min() >= 0 and x.max() <= 1
    from advreg import data

    split = data.digits(np.random.default_rng(4), 200)
    assert ((y > 0) == (split.train_y % 2 == 0)).all()
    assert ((t > 0) == (split.test_y % 2 == 0)).all()


def test_principal_scores_are_those_of_scikit_learn():
    X = np.random.default_rng(1).normal(size=(40, 7)) * np.arange(1, 8)
    other = PCA(3).fit_transform(X)
    np.testing.assert_allclose(np.abs(runs.principal_scores(X, 3)), np.abs(other), atol=1e-9)


@pytest.mark.parametrize("name", runs.PLANE)
def test_training_repeats_itself_and_learns(name):
    X, y = runs.moons(1, 100, 0.1)
    recipe = runs.PLANE[name]._replace(epochs=80)
    one, two = (runs.fit(X, y, recipe, 5) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one.weights, two.weights, strict=True))
    assert (y * relu.evaluate(one, X)[:, 0] > 0).mean() > 0.8
    assert len(one.hidden) == (name != "linear")


def test_adversarial_training_lowers_the_exact_adversarial_loss():
    X, y = runs.moons(2, 100)
    losses = []
    for radius in (0.0, 0.3):
        net = runs.fit(X, y, runs.Recipe(radius=radius, epochs=150), 2)
        margins = y * relu.evaluate(net, X)[:, 0]
        losses.append(np.logaddexp(0, twolayer.worst_drop(net, X, y, 0.3) - margins).mean())
    assert losses[1] < 0.9 * losses[0]


def test_frozen_parts_stay_and_the_others_move():
    X, y = runs.moons(0, 60)
    start = runs.fit(X, y, runs.Recipe(epochs=5), 0)
    recipe = runs.Recipe(epochs=3, radius=0.1, scale=2.0)
    same = {"output": (1,), "hidden": (0,)}
    for part, kept in same.items():
        net = runs.fit(X, y, recipe._replace(scale=1.0), 1, start=start, frozen=part)
        for k in (0, 1):
            assert (net.weights[k] == start.weights[k]).all() == (k in kept)
        assert (net.biases[0] == start.biases[0]).all() == (part == "hidden")
        assert (net.biases[1] != start.biases[1]).all()
    big = runs.fit(X, y, runs.Recipe(epochs=0, scale=2.0), 1)
    plain = runs.fit(X, y, runs.Recipe(epochs=0), 1)
    np.testing.assert_allclose(big.weights[0], 2 * plain.weights[0])


def test_flips_and_objective():
    X, y = runs.moons(0, 400)
    right = runs.fit(X, y, runs.Recipe(hidden=False, epochs=150), 0)
    wrong = runs.fit(X, y, runs.Recipe(hidden=False, epochs=150, flips=1.0), 0)
    assert (y * relu.evaluate(right, X)[:, 0] > 0).mean() > 0.8
    assert (y * relu.evaluate(wrong, X)[:, 0] > 0).mean() < 0.2
    model = torch.nn.Sequential(torch.nn.Linear(2, 1, dtype=torch.float64))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, -2.0]])
        model[0].bias[:] = 0.5
    m = y * (X @ [1.0, -2.0] + 0.5)
    args = (model, torch.as_tensor(X), torch.as_tensor(y))
    clean = np.log1p(np.exp(-m)).mean()
    slope = (3 / (1 + np.exp(m))).mean()
    assert runs._objective(*args, runs.Recipe()).item() == pytest.approx(clean)
    objective = runs._objective(*args, runs.Recipe(gradient=0.3)).item()
    assert objective == pytest.approx(clean + 0.3 * slope)


def test_slopes_and_local_statistics_against_differences():
    X, y = runs.moons(5, 40)
    net = runs.fit(X, y, runs.Recipe(epochs=40), 3)
    h = 1e-6
    steps = [
        (relu.evaluate(net, X + h * e) - relu.evaluate(net, X - h * e)) / 2 / h for e in np.eye(2)
    ]
    slope = np.abs(steps).sum(0)[:, 0]
    np.testing.assert_allclose(runs.slopes(net, X), slope, rtol=1e-6)
    T = runs.local_statistics(net, X, y, 0.2)
    m = y * relu.evaluate(net, X)[:, 0]
    np.testing.assert_allclose(T[:, 0], np.log1p(np.exp(-m)))
    np.testing.assert_allclose(T[:, 2], slope / (1 + np.exp(m)), rtol=1e-6)
    np.testing.assert_allclose(T[:, 3], twolayer.gap(net, X, y, 0.1, loss="logistic"))
    linear = runs.fit(X, y, runs.Recipe(epochs=5, hidden=False), 3)
    np.testing.assert_allclose(runs.slopes(linear, X), np.abs(linear.weights[0]).sum())


def test_rungs_are_nested_and_hold_what_they_say():
    X, y = runs.moons(6, 80)
    net = runs.fit(X, y, runs.Recipe(epochs=40), 3)
    found = runs.ladder(net, X, y, X, 0.15, runs.PLANE_RUNGS[:8])
    assert [T.shape[1] for T in found] == [1, 5, 11, 19, 29, 61, 69, 101]
    for small_, large in itertools.pairwise(found[:7]):
        span = np.column_stack([np.ones(80), large])
        left = small_ - span @ np.linalg.lstsq(span, small_, rcond=None)[0]
        assert np.abs(left).max() < 1e-8
    assert np.allclose(found[2][y > 0][:, 1:6], twolayer.monomials(X, 2)[y > 0])


def test_a_swap_row_is_what_the_library_finds():
    X, y = runs.moons(7, 60)
    net = runs.fit(X, y, runs.Recipe(epochs=60), 3)
    row = runs.swap_row(net, X, y, X, 0.15, runs.PLANE_RUNGS[:4])
    gaps = twolayer.gap(net, X, y, 0.15, loss="logistic")
    assert row["actual"] == pytest.approx(gaps.mean())
    interval = twolayer.swap_interval(gaps, twolayer.by_class(twolayer.monomials(X, 2), y))
    assert (row["lower"][2], row["upper"][2]) == pytest.approx(interval.relative)
    m, drop = y * relu.evaluate(net, X)[:, 0], twolayer.worst_drop(net, X, y, 0.15)
    assert row["clean"] == (m > 0).mean() and row["robust"] == (m > drop).mean()
    assert 0 < row["share"] < 1 and 0.5 < row["attack"] <= 1 + 1e-12


def test_attacked_points_stay_in_the_ball_and_are_exact_for_linear_models():
    X, y = runs.moons(8, 50)
    net = runs.fit(X, y, runs.Recipe(epochs=60), 3)
    Z = runs.attacked_points(net, X, y, 0.2)
    assert np.abs(Z - X).max() <= 0.2 + 1e-12
    fall = y * (relu.evaluate(net, X) - relu.evaluate(net, Z))[:, 0]
    assert (fall >= 0).all() and (fall <= twolayer.worst_drop(net, X, y, 0.2) + 1e-9).all()
    linear = runs.fit(X, y, runs.Recipe(epochs=5, hidden=False), 3)
    Z = runs.attacked_points(linear, X, y, 0.2)
    fall = y * (relu.evaluate(linear, X) - relu.evaluate(linear, Z))[:, 0]
    np.testing.assert_allclose(fall, 0.2 * np.abs(linear.weights[0]).sum())


def adversarial_optimum(W, b, X, y, radius):
    """Smallest adversarial loss over (a, c), one input: the worst e is at a kink or an end."""
    ends = [X[:, 0] - radius, X[:, 0] + radius]
    kinks = [np.clip(np.full(len(X), t), *ends) for t in -b / W[:, 0]]
    Phi = np.maximum(np.stack([*ends, *kinks])[..., None] * W[:, 0] + b, 0)

    def risk(ac):
        return np.logaddexp(0, -y * (Phi @ ac[:-1] + ac[-1])).max(axis=0).mean()

    k = len(b)
    starts = np.random.default_rng(0).normal(size=(6, k + 1))
    how = {"method": "Nelder-Mead", "options": {"maxiter": 6000, "xatol": 1e-9, "fatol": 1e-12}}
    return min(minimize(risk, s, **how).fun for s in starts)


@pytest.mark.parametrize("seed", range(4))
def test_collapse_agrees_with_minimizing_the_risk(seed):
    rng = np.random.default_rng(seed)
    W, b = rng.choice([-1.0, 1.0], (2, 1)) * rng.uniform(0.5, 2, (2, 1)), rng.normal(size=2)
    y = np.where(rng.random(14) < 0.6, 1.0, -1.0)
    X = rng.normal(size=(14, 1)) + 0.8 * y[:, None]
    p = (y > 0).mean()
    constant = -p * np.log(p) - (1 - p) * np.log(1 - p)
    seen = []
    for radius in (0.05, 0.4, 0.8, 1.2, 3.0):
        answer = runs.collapse(W, b, X, y, radius)
        best = adversarial_optimum(W, b, X, y, radius)
        assert answer.status != "open"
        assert (answer.status == "free") == (best < constant - 1e-7), (radius, best, constant)
        if answer.status == "free":
            assert np.abs(answer.direction).max() <= 1 + 1e-9 and answer.value > 0
        else:
            n = len(answer.cuts)
            rows = np.vstack([answer.cuts.T, np.ones(n)])
            inside = linprog(np.zeros(n), A_eq=rows, b_eq=[0, 0, 1])
            assert inside.status == 0
        seen.append(answer.status)
    assert seen == sorted(seen, reverse=True)  # free, ..., collapse


# ------------------------------------------------------------------------------ the command


@pytest.mark.parametrize("name", runs.EXPERIMENTS)
def test_a_small_run_is_stored_and_read(tmp_path, capsys, small, name):
    assert run(tmp_path, name, "--seeds", "3") == 0
    result = runs.load(tmp_path / "r.json")
    assert [row["method"] for row in result["rows"]] == list(runs.EXPERIMENTS[name][1])
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]
    for row in result["rows"]:
        if name == "regression":
            assert row["gap_p"] > 0 and row["gap_q"] > 0 and len(row["margins_p"]) == 9
        elif name == "freezing":
            assert row["robust"] <= row["clean"]
            assert ("collapse" in row) == row["method"].startswith("hidden")
        else:
            assert all(
                a <= 1 + 1e-9 <= b + 2e-9 for a, b in zip(row["lower"], row["upper"], strict=True)
            )
            assert row["robust"] <= row["clean"]
    assert run(tmp_path, name, "--seeds", "3") == 0
    assert "already" in capsys.readouterr().out
    assert run(tmp_path, name, "--seeds", "4") == 2
    assert "another result" in capsys.readouterr().err


@pytest.mark.parametrize("name", runs.EXPERIMENTS)
def test_the_stored_results_are_those_of_the_default_command(name):
    result = runs.load(RESULTS / f"{name}.json")
    _, methods, seeds, _ = runs.EXPERIMENTS[name]
    assert result["name"] == name and result["seeds"] == experiments.seed_list(seeds)
    assert result["epochs"] is None and result["images"] is None
    assert len(result["rows"]) == len(methods) * len(result["seeds"])
    plain = {k: m._asdict() if hasattr(m, "_asdict") else m for k, m in methods.items()}
    assert json.dumps(result["methods"]) == json.dumps(plain)
    rungs = {"plane": runs.PLANE_RUNGS, "digits": runs.DIGITS_RUNGS}.get(name, ())
    assert result["rungs"] == [list(rung) for rung in rungs]
    if name == "freezing":
        assert result["radii"] == list(runs.COLLAPSE_RADII)
