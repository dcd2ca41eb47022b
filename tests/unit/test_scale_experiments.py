"""The frame of chapter 8's experiments, and the two about the inner problem."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from advreg import attacks, data, scale_experiments

SMALL = ["--data", "digits", "--device", "cpu", "--size", "8", "--epochs", "2", "--images", "24"]
SMALL += ["--test", "12", "--batch", "10"]
JOB = scale_experiments.Job(size=8, epochs=2, images=24, test=12, batch=10, autoattack=0)


def run(folder, *words, name="early-late"):
    return scale_experiments.main([name, "--out", str(folder / "r.json"), *SMALL, *words])


def test_an_interrupted_command_goes_on(tmp_path, monkeypatch, capsys):
    rest, done = scale_experiments.EXPERIMENTS["methods"][1:], []

    def work(job, seed):
        if done == [0]:
            done.append("cut")
            raise KeyboardInterrupt
        done.append(seed)
        return [{"method": "a", "seed": seed, "value": job.epochs * seed / 3}]

    monkeypatch.setitem(scale_experiments.EXPERIMENTS, "methods", (work, *rest))
    assert run(tmp_path, "--seeds", "0,1", name="methods") == 130
    assert "finished seeds are kept" in capsys.readouterr().out
    assert run(tmp_path, "--seeds", "0,1", "--precision", "bfloat16", name="methods") == 2
    assert "settings differ" in capsys.readouterr().err
    assert run(tmp_path, "--seeds", "0,1", name="methods") == 0
    assert done == [0, "cut", 1]
    result = scale_experiments.load(tmp_path / "r.json")
    assert [row["value"] for row in result["rows"]] == [0.0, 0.66666667]
    assert result["settings"]["size"] == 8 and "folder" not in result["settings"]
    words = "methods --data digits --size 8 --test 12 --batch 10 --seeds 0,1 --epochs 2 --images 24"
    assert result["command"] == f"python -m advreg.scale_experiments {words} --out r.json"
    assert run(tmp_path, "--seeds", "0,1", name="methods") == 0
    assert "holds this result already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "cifar10"], "needs --folder"),
        (["--data", "mnist", "--folder", "nowhere", "--size", "8"], "have theirs"),
        (["--data", "mnist", "--folder", "nowhere"], "nowhere"),
        (["--images", "1797"], "1797 digits"),
        (["--network", "resnet-18"], "resnet-18"),
        (["--network", "wrn-11-1"], "depth"),
        (["--size", "12"], "size must be"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_the_command_refuses_in_a_sentence(words, message, tmp_path, capsys):
    out = ["--out", str(tmp_path / "r.json")]
    assert scale_experiments.main(["methods", *out, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_the_two_classes(monkeypatch):
    both, parity = scale_experiments.images(JOB, 3), scale_experiments.images(JOB, 3, "two")
    assert torch.equal(both.train_x, parity.train_x) and len(both.test_y) == 12
    assert torch.equal(parity.train_y, both.train_y % 2)
    assert not torch.equal(both.train_y, scale_experiments.images(JOB, 4).train_y)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    labels = np.arange(10)
    whole = data.Images(*(np.zeros((10, 3, 32, 32), np.float32), labels) * 2)
    monkeypatch.setattr(data, "cifar10", lambda folder: whole)
    job = dataclasses.replace(JOB, data="cifar10", folder="f", images=10, test=9)
    animal = scale_experiments.images(job, 0, "two").train_y
    vehicles = {"airplane", "automobile", "ship", "truck"}
    assert animal.tolist() == [int(name not in vehicles) for name in names]
    assert len(scale_experiments.images(job, 0).test_y) == 9
    with pytest.raises(ValueError, match="'all' or 'two'"):
        scale_experiments.images(JOB, 0, "three")


def test_a_training_is_kept_and_goes_on(tmp_path):
    job = dataclasses.replace(JOB, partial=str(tmp_path))

    def stop(epoch, model):
        raise KeyboardInterrupt

    straight = scale_experiments.trained(JOB, "pgd-2", 0)
    with pytest.raises(KeyboardInterrupt):
        scale_experiments.trained(job, "pgd-2", 0, monitor=stop)
    for _ in range(2):  # goes on, then reads what is finished
        again = scale_experiments.trained(job, "pgd-2", 0)
        assert again.history.loss == straight.history.loss
        for a, b in zip(again.model.parameters(), straight.model.parameters(), strict=True):
            assert torch.equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["pgd-2-all-0.pt"]


def test_rows_of_both_experiments():
    rows = scale_experiments._methods(JOB, 0)
    assert [row["method"] for row in rows] == list(scale_experiments.METHODS)
    passes = {row["method"]: row["passes"] for row in rows}
    assert passes["standard"] == 1 and passes["pgd-10"] == 11 and passes["dynamic-0.5"] <= 11
    for row in rows:
        assert 0 <= row["robust"] <= row["pgd10"] <= 1 and row["missed"] >= 0
        assert len(row["fosc_clean_by_epoch"]) == 2
    halves = scale_experiments._early_late(JOB, 0)
    assert len(halves) == 12
    cost = {"HH": 11, "LH": 6.5, "HL": 6.5, "LL": 2}
    assert all(row["passes"] == cost[row["order"]] for row in halves)


def test_two_processes_give_the_rows_of_one(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    assert run(tmp_path / "a", "--seeds", "0,1", "--jobs", "2") == 0
    assert run(tmp_path / "b", "--seeds", "0,1") == 0
    one, two = (scale_experiments.load(tmp_path / d / "r.json") for d in "ba")
    assert one == two


def test_the_points_of_ten_and_of_sixty_steps():
    model = scale_experiments.network(JOB, 5)
    x, y = scale_experiments.images(JOB, 5)[2:]
    ten, long = (scale_experiments._climbed(JOB, model, x, y, steps) for steps in (10, 60))
    found = attacks.pgd(model, x, y, JOB.ball, steps=10)
    assert torch.equal(ten.losses, found.losses) and torch.equal(ten.fosc, found.fosc)
    assert torch.equal(ten.clean, attacks.fosc(model, x, y, x, JOB.ball))
    assert bool((long.losses >= ten.losses).all()) and bool((long.losses > ten.losses).any())
    wrong = model(found.points).argmax(1) != y
    assert torch.equal(ten.margins >= 0, wrong)


def test_what_is_missed():
    def points(losses, fosc):
        values = torch.tensor(losses), torch.tensor(fosc)
        return scale_experiments._Points(values[0], values[1], *values, values[0])

    ten, long = (
        points([1.0, 1, 1, 1], [0.1, 0.2, 0.4, 0.8]),
        points([1.0, 1.3, 1.5, 1.4], [0.0] * 4),
    )
    seen = scale_experiments._missed(ten, long)
    assert seen["missed"] == pytest.approx(0.3) and seen["above"] == 0.5
    assert seen["bound_ratio"] == pytest.approx(0.3 / 0.375)
    assert seen["rank"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # one pair of neighbours swapped
    same = scale_experiments._missed(ten, ten)
    assert same["missed"] == 0 and same["rank"] is None
    flat = scale_experiments._missed(points([1.0, 2], [0.0, 0]), points([1.0, 3], [0.0, 0]))
    assert flat["bound_ratio"] is None and flat["rank"] is None


def test_a_missing_result_names_its_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m advreg\.scale_experiments swap"):
        scale_experiments.load(tmp_path / "swap.json")
