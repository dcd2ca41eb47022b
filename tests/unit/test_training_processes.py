"""Training in several processes: real ones, over gloo on this machine.

One launch of W processes runs many cases, because starting them costs seconds; every case writes
what it found to a file, and the tests compare it with one process, or with a loop written here.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from advreg.attacks import Ball
from advreg.networks import mlp, named
from advreg.training import (
    Inner,
    crop_and_flip,
    dynamic,
    evaluate,
    fit,
    gradient_penalty,
    pgd_training,
    standard,
    switch,
)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
torch.set_num_threads(1)
BALL = Ball(0.1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(model):
    return torch.cat([p.detach().flatten().double() for p in model.state_dict().values()])


def problem(n=37, size=4):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(n, 1, size, size)).astype(np.float32)
    return x, np.argmax(x.reshape(n, -1) @ rng.normal(size=(size * size, 3)), axis=1)


def network(dtype=torch.float64, seed=0):
    return mlp((16, 8, 3), activation="softplus", generator=seeded(seed), dtype=dtype)


# name -> schedule, what is changed; 37 samples: with batches of 9 the last one has one sample,
# fewer than there are processes, and the others have uneven shares
CASES = {
    "standard": (standard(), {}),
    "pgd": (pgd_training(3), {}),
    "norm 2": (pgd_training(2), {"ball": Ball(0.3, 2)}),
    "dynamic": (dynamic(0.2, 3, 4), {"monitor_fosc": True}),
    "penalty": (gradient_penalty(0.5), {"nesterov": True, "annealing": "cosine"}),
    "augmented": (pgd_training(2), {"augment": crop_and_flip(1), "batch": 36}),
    "all": (
        switch(dynamic(0.2, 4, 2), lambda _: Inner(1, penalty=0.3), 1),
        {"augment": crop_and_flip(1), "monitor_fosc": True, "batch": 8},
    ),
}


def run(name, model=None, **more):
    schedule, changes = CASES[name]
    model = network() if model is None else model
    x, y = problem()
    options = {"epochs": 3, "batch": 9, "seed": 2, "device": "cpu", "progress": False}
    options |= {"ball": BALL, "schedule": schedule} | changes | more
    return model, fit(model, x, y, **options)


# ------------------------------------------------------------------- what the processes do


def refusal(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def stop_at(epoch_to_stop):
    def monitor(epoch, model):
        if epoch == epoch_to_stop:
            raise KeyboardInterrupt
        x, y = problem()
        return evaluate(model, x, y)

    return monitor


def explode(points, generator):
    """Not finite on the last process only, from the second epoch on."""
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    explode.calls += 1
    if rank == size - 1 and explode.calls > 5:
        points = points.clone()
        points[rank] = math.nan
    return points


def scenario_cases(rank, size, folder):
    found = {}
    for name in CASES:
        model, history = run(name)
        found[name] = (weights(model), dataclasses.asdict(history))
    again, _ = run("all")
    found["again"] = weights(again)
    single = network(torch.float32)
    run("pgd", single)
    found["float32"] = weights(single)
    return found


def scenario_checkpoints(rank, size, folder):
    path = folder / "run.pt"
    straight, history = run("all", monitor=stop_at(None))
    broken = network()
    try:
        run("all", broken, monitor=stop_at(1), checkpoint=path)
    except KeyboardInterrupt:
        pass
    torch.distributed.barrier()
    resumed, again = run("all", monitor=stop_at(None), checkpoint=path)
    finished, once_more = run("all", monitor=stop_at(0), checkpoint=path)
    torch.distributed.barrier()
    return {
        "straight": (weights(straight), dataclasses.asdict(history)),
        "resumed": (weights(resumed), dataclasses.asdict(again)),
        "finished": (weights(finished), dataclasses.asdict(once_more)),
        "files": sorted(p.name for p in folder.glob("run*")),
        "damaged": refusal(run, "all", checkpoint=folder / "damaged.pt"),
        "missing": refusal(run, "all", checkpoint=folder / "missing" / "run.pt"),
    }


def scenario_dropout(rank, size, folder):
    """Masks are drawn by each process; the checkpoint keeps the state of every one."""

    def build():
        generator = seeded()
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.4), nn.Linear(8, 3))
        size = sum(p.numel() for p in model.parameters())
        nn.utils.vector_to_parameters(torch.randn(size, generator=generator), model.parameters())
        return model.double()

    torch.manual_seed(rank)
    straight, _ = run("pgd", build())
    torch.manual_seed(rank)
    try:
        run("pgd", build(), monitor=stop_at(1), checkpoint=folder / "dropout.pt")
    except KeyboardInterrupt:
        pass
    torch.manual_seed(99)
    torch.distributed.barrier()
    resumed, _ = run("pgd", build(), checkpoint=folder / "dropout.pt")
    return {"straight": weights(straight), "resumed": weights(resumed)}


def scenario_refusals(rank, size, folder):
    x, y = problem()
    other = rank == size - 1  # this process does something else
    explode.calls = 0
    found = {
        "lr": refusal(run, "pgd", lr=0.2 if other else 0.1),
        "seed": refusal(run, "pgd", seed=rank),
        "epochs": refusal(run, "pgd", epochs=2 + other),
        "weights": refusal(run, "pgd", network(seed=int(other))),
        "data": refusal(
            fit, network(), x, y[::-1].copy() if other else y, BALL, standard(),
            epochs=1, device="cpu", progress=False,
        ),
        "invalid": refusal(run, "pgd", lr=-1.0 if other else 0.1),
        "overflow": refusal(run, "standard", network(torch.float32), lr=1e25, epochs=9),
        "one": refusal(run, "standard", augment=explode),
    }  # fmt: skip
    run("pgd")  # nothing is left out of step
    return found


def scenario_normalized(rank, size, folder):
    """Batch normalization: statistics of a share, averaged at the end of the epoch."""
    x, y = problem()
    shares, model = [], nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)).double()
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(3, 16, generator=seeded()))
        model[2].bias.zero_()
    hook = model[1].register_forward_pre_hook(
        lambda module, inputs: shares.append(inputs[0].clone()) if module.training else None
    )
    fit(model, x, y, BALL, standard(), epochs=1, batch=37, device="cpu", progress=False)
    hook.remove()
    wide = named("wrn-10-1", 3, channels=1, size=4, generator=seeded())
    history = fit(
        wide, *problem(40), BALL, pgd_training(1), epochs=1, batch=20, lr=0.02, device="cpu",
        precision="bfloat16", channels_last=True, progress=False,
    )  # fmt: skip
    return {
        "shares": shares, "mean": model[1].running_mean, "var": model[1].running_var,
        "wide": weights(wide), "loss": history.loss,
    }  # fmt: skip


def scenario_lost(rank, size, folder):
    """A process that dies between batches: the others must not wait for ever."""

    def die(points, generator):
        if rank == size - 1:
            os._exit(7)
        return points

    run("standard", augment=die)
    return {}


# ---------------------------------------------------------------------------------- launching


def launch(folder, size, *scenarios, check=True):
    """Run scenarios in `size` processes; returns what each of them found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
    command += ["--nnodes", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command += ["--local-addr", "127.0.0.1", __file__, str(folder), *scenarios]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment.pop("PYTEST_CURRENT_TEST", None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    if not check:
        return done
    assert done.returncode == 0, done.stderr[-4000:]
    return [
        [torch.load(folder / f"{name} {rank}.pt", weights_only=False) for rank in range(size)]
        for name in scenarios
    ]


def main():
    folder, scenarios = Path(sys.argv[1]), sys.argv[2:]
    torch.distributed.init_process_group("gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for name in scenarios:
        found = globals()[f"scenario_{name}"](rank, size, folder)
        torch.save(found, folder / f"{name} {rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    (folder / "damaged.pt").write_bytes(b"no checkpoint")
    names = ("cases", "checkpoints", "dropout", "refusals", "normalized")
    return folder, dict(zip(names, launch(folder, 2, *names), strict=True))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("three"), 3, "cases")[0]


# -------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("processes", ["two", "three"])
def test_several_processes_are_one_up_to_rounding(request, processes, name):
    found = request.getfixturevalue(processes)
    found = found[1]["cases"] if processes == "two" else found
    model, history = run(name)
    assert len(found) == {"two": 2, "three": 3}[processes]
    for theirs, columns in (part[name] for part in found):
        torch.testing.assert_close(theirs, weights(model), rtol=0, atol=1e-12)
        assert torch.equal(theirs, found[0][name][0])  # the same bits on every process
        for key, ours in dataclasses.asdict(history).items():
            if key in ("loss", "fosc_mean", "fosc_quantiles") and ours[0] is not None:
                np.testing.assert_allclose(columns[key], ours, rtol=1e-10, atol=1e-12)
            elif key == "loss":
                raise AssertionError("a loss is missing")
            else:
                assert columns[key] == ours


def test_the_weights_moved(two):
    """What the comparison above is worth: the cases train, and differ from one another."""
    found = [two[1]["cases"][0][name][0] for name in CASES]
    for k, one in enumerate(found):
        assert (one - weights(network())).abs().max() > 1e-2
        assert all((one - other).abs().max() > 1e-4 for other in found[:k])


def test_run_to_run_bit_for_bit(two, three):
    for part in (*two[1]["cases"], *three):
        assert torch.equal(part["again"], part["all"][0])


def test_float32(two):
    model, _ = run("pgd", network(torch.float32))
    torch.testing.assert_close(two[1]["cases"][0]["float32"], weights(model), rtol=0, atol=1e-5)


def test_checkpoints(two):
    folder, found = two
    for part in found["checkpoints"]:
        for name in ("resumed", "finished"):
            assert torch.equal(part[name][0], part["straight"][0])
            assert part[name][1] == part["straight"][1]
        assert part["files"] == ["run.pt"]
        assert "move it away" in part["damaged"] and "training has not begun" in part["missing"]
    with pytest.raises(ValueError, match=r"these differ: processes \(2 then\)"):
        run("all", monitor=stop_at(None), checkpoint=folder / "run.pt")


def test_dropout_goes_on_bit_for_bit(two):
    for part in two[1]["dropout"]:
        assert torch.equal(part["resumed"], part["straight"])


@pytest.mark.parametrize("key", ["lr", "seed", "epochs", "weights", "data"])
def test_different_arguments_are_refused_everywhere(two, key):
    names = {"epochs": "epochs, milestones, schedule", "weights": "initial weights"}
    for part in two[1]["refusals"]:
        assert part[key].startswith("ValueError: all processes must call fit with the same")
        assert part[key].endswith(f"of process 1 and process 0 these differ: {names.get(key, key)}")


def test_an_error_on_one_process_stops_all(two):
    first, last = two[1]["refusals"]
    assert last["invalid"].startswith("ValueError: lr must be")
    assert first["invalid"].startswith("RuntimeError: process 1 of 2 stopped: ValueError: lr must")
    assert last["one"].startswith("ValueError: every entry of x must be finite")
    assert first["one"].startswith("FloatingPointError: epoch 1, batch 0: the training loss is nan")
    for part in (first, last):
        assert part["overflow"].startswith("FloatingPointError: epoch")
    where = first["overflow"].split(":")[1], last["overflow"].split(":")[1]
    assert where[0] == where[1]


def test_batch_normalization_of_shares(two):
    """Mean 0.1 times that of the shares' means, variance 0.9 + 0.1 of theirs, by numpy."""
    first, last = two[1]["normalized"]
    shares = [part["shares"][0].numpy() for part in (first, last)]
    assert sorted(map(len, shares)) == [18, 19]
    mean = np.mean([0.1 * share.mean(0) for share in shares], axis=0)
    variance = np.mean([0.9 + 0.1 * share.var(0, ddof=1) for share in shares], axis=0)
    for part in (first, last):
        np.testing.assert_allclose(part["mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(part["var"], variance, rtol=1e-12)
        assert torch.equal(part["wide"], first["wide"]) and part["loss"] == first["loss"]
        assert torch.isfinite(part["wide"]).all()


def test_a_lost_process_ends_the_run(tmp_path):
    done = launch(tmp_path, 2, "lost", check=False)
    assert done.returncode != 0 and "exitcode" in done.stderr


if __name__ == "__main__":
    main()
