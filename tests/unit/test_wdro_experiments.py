"""The experiments of chapter 6: the command, its interruptions, its results, and its parts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from advreg import experiments, losses, relu, wdro, wdro_experiments
from advreg.wdro_networks import planar

RESULTS = Path(__file__).parents[2] / "chapters" / "06_wdro" / "results"
TINY = ["--epochs", "4", "--images", "4"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder, name, *words):
    return wdro_experiments.main([name, "--out", str(folder / "r.json"), *TINY, *words])


# ------------------------------------------------------------------------------ parts


def test_the_hinge_of_torch_is_that_of_numpy():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(30, 4)), rng.integers(4, size=30)
    one = wdro_experiments.hinge(torch.as_tensor(logits), torch.as_tensor(y)).numpy()
    other = [losses.hinge(z, int(label)) for z, label in zip(logits, y, strict=True)]
    np.testing.assert_allclose(one, np.ravel(other))


def test_the_objective_of_every_method():
    X, y = wdro_experiments.moons(3, 12)
    model = wdro_experiments.fit((2, 5, 2), X, y, wdro_experiments.Method(), 0, epochs=9)
    net, x, labels = relu.from_torch(model), torch.as_tensor(X), torch.as_tensor(y)
    clean = torch.nn.functional.cross_entropy(model(x), labels).item()

    def objective(**method):
        method = wdro_experiments.Method(**method)
        return wdro_experiments._objective(model, x, labels, method).item()

    def loss(points):
        z = relu.evaluate(net, points)
        return np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]

    h = 1e-6
    slopes = [(loss(X + h * e) - loss(X - h * e)) / (2 * h) for e in np.eye(2)]
    rms = np.sqrt(np.square(slopes).sum(0).mean())
    assert objective() == pytest.approx(clean)
    assert objective(gradient=0.3) == pytest.approx(clean + 0.3 * rms, rel=1e-5)
    assert objective(product=0.3) == pytest.approx(clean + 0.3 * relu.norm_product(net, 2))


@pytest.mark.parametrize("name", wdro_experiments.PLANE)
def test_training_repeats_itself_and_learns(name):
    X, y = wdro_experiments.moons(1, 30, 0.1)
    method = wdro_experiments.PLANE[name]
    one, two = (wdro_experiments.fit((2, 8, 2), X, y, method, 5, epochs=60) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    hit = (one(torch.as_tensor(X)).argmax(1).numpy() == y).mean()
    assert hit > 0.8


def test_the_plane_is_that_of_the_principal_components():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 7)) * np.arange(1, 8)
    onto, other = wdro_experiments.principal_plane(X), PCA(2).fit(X)
    np.testing.assert_allclose(np.abs(onto(X)), np.abs(other.transform(X)), atol=1e-9)
    np.testing.assert_allclose(onto.axes.T @ onto.axes, np.eye(2), atol=1e-12)
    moves = rng.normal(size=(5, 2))
    lifted = onto.lift(moves)
    np.testing.assert_allclose(onto(X[:5] + lifted), onto(X[:5]) + moves, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=1), np.linalg.norm(moves, axis=1))


def test_values_are_those_of_the_library():
    X, y = wdro_experiments.moons(2, 9)
    method = wdro_experiments.PLANE["standard"]
    net = relu.from_torch(wdro_experiments.fit((2, 6, 2), X[:9], y[:9], method, 2, epochs=80))
    row = wdro_experiments.values(net, X[9:], y[9:], (0.1, 1.0))
    P = planar(net, X[9:], y[9:], 2)
    for name, p in (("1", 1), ("2", 2), ("inf", math.inf)):
        assert row[f"v_{name}"][1] == pytest.approx(P.value(1.0, p).lower)
        error = wdro.knapsack(P.distances_to_error(), 0.1, p).value
        assert row[f"e_{name}"][0] == pytest.approx(error)
    wrong = relu.evaluate(net, X[9:]).argmax(1) != y[9:]
    assert row["error"] == wrong.mean()
    slopes = [
        relu.evaluate(net, X[9:])[i, 1 - k] - relu.evaluate(net, X[9:])[i, k]
        for i, k in enumerate(y[9:])
    ]
    assert row["hinge"] == pytest.approx(np.maximum(1 + np.array(slopes), 0).mean())


def test_a_ladder_brackets_the_value():
    X, y = wdro_experiments.moons(4, 12)
    method = wdro_experiments.PLANE["standard"]
    net = relu.from_torch(wdro_experiments.fit((2, 6, 2), X, y, method, 4, epochs=80))
    P = planar(net, X, y, 2, low=-3.0, high=3.0)
    ladder = np.geomspace(0.05, 9.0, 9)
    worst = (P.clean + P.growth(ladder)).T
    for p in (1, 2, math.inf):
        for radius in (0.05, 0.3, 2.0, 9.0, 20.0):
            lower, upper = wdro_experiments.ladder_bracket(P.clean, ladder, worst, worst, radius, p)
            exact = P.value(radius, p).lower
            assert lower <= exact + 1e-12 and exact <= upper + 1e-12
            if radius >= 9:
                assert upper == pytest.approx(lower)


# ------------------------------------------------------------------------------ the command


@pytest.mark.parametrize("name", wdro_experiments.EXPERIMENTS)
def test_a_small_run_is_stored_and_read(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(wdro_experiments, "GROWN", 2)
    monkeypatch.setattr(wdro_experiments, "LADDER", (0.02, 0.1))
    assert run(tmp_path, name, "--seeds", "3") == 0
    result = wdro_experiments.load(tmp_path / "r.json")
    methods = wdro_experiments.EXPERIMENTS[name][1]
    assert [row["method"] for row in result["rows"]] == list(methods)
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]
    for row in result["rows"]:
        if name == "digits":
            assert all(a <= b + 1e-9 for a, b in zip(row["lower"], row["attack"], strict=True))
            for low, high in zip(row["worst_lower"], row["worst_upper"], strict=True):
                assert all(a <= b for a, b in zip(low, high, strict=True))
        else:
            assert row["l_inf"] <= row["train_l_data"] * (1 + 1e-7)
            assert row["train_l_data"] <= row["l_glob"] * (1 + 1e-7)
            for part in ("train", "test"):
                values = [np.array(row[f"{part}_v_{p}"]) for p in ("inf", "2", "1")]
                assert (np.diff(values, axis=0) > -1e-6).all()
    assert run(tmp_path, name, "--seeds", "3") == 0
    assert "already" in capsys.readouterr().out
    assert run(tmp_path, name, "--seeds", "4") == 2
    assert "another result" in capsys.readouterr().err


@pytest.mark.parametrize("name", wdro_experiments.EXPERIMENTS)
def test_the_stored_results_are_those_of_the_default_command(name):
    result = wdro_experiments.load(RESULTS / f"{name}.json")
    _, methods, seeds, _ = wdro_experiments.EXPERIMENTS[name]
    assert result["name"] == name and result["seeds"] == experiments.seed_list(seeds)
    assert result["epochs"] is None and result["images"] is None
    assert list(result["methods"]) == list(methods)
    assert len(result["rows"]) == len(methods) * len(result["seeds"])
    text = json.dumps(result["methods"])
    plain = {k: m._asdict() if hasattr(m, "_asdict") else m for k, m in methods.items()}
    assert text == json.dumps(plain)
