"""The command of chapter 8: every exit, killed runs that go on, and what the results say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from advreg import data, experiments, networks, scale, training

SMALL = "--network cnn --method pgd-2 --size 8 --epochs 3 --images 80 --held-out 20 --test 30"
SMALL += " --steps 2 --restarts 0 --device cpu"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LIMIT = 900  # seconds of wall time, on a machine that does other things as well


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("ADVREG_STATIC", "1")  # no progress bar: pytest looks like a notebook
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder, words="", out="r.json", small=SMALL):
    """The command in this process, on digits unless the words say otherwise."""
    return scale.main(["train", *small.split(), *words.split(), "--out", str(folder / out)])


def one_line(capsys):
    text = capsys.readouterr().err
    assert text.endswith("\n") and text.count("\n") == 1
    return text


# ------------------------------------------------------------------------------- recipes


def test_the_recipe_of_the_field():
    r = scale.recipe("cifar10")
    assert (r.network, r.method, r.radius) == ("wrn-16-4", "pgd-10", 8 / 255)
    assert (r.lr, r.batch, r.momentum, r.nesterov, r.weight_decay) == (0.1, 128, 0.9, True, 5e-4)
    assert (r.crop, r.flip, r.size, r.channels, r.classes) == (4, True, 32, 3, 10)
    assert training._milestones(r.milestones, r.epochs) == [100, 105]
    for name in ("digits", "mnist"):  # a mirrored 2 is no 2
        other = scale.recipe(name)
        assert not other.flip and other.crop <= 2 and other.channels == 1
    assert [scale.recipe("digits", size=s).crop for s in (8, 16, 32)] == [0, 1, 2]
    assert scale.recipe("digits", size=8, crop=1).crop == 1
    inner = r.options() | {"augment": None}
    assert inner["nesterov"] and inner["epochs"] == 110
    assert scale.recipe("digits", size=8).options()["augment"] is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("digits", {}),
        ("digits", {"size": 8, "epochs": 4, "task": "two", "nesterov": False}),
        ("digits", {"size": 16, "crop": 0, "held_out": 0, "milestones": (3, 0.75)}),
        ("mnist", {"annealing": "cosine", "milestones": (), "lr": 1 / 3, "images": 500}),
        ("cifar10", {"flip": False, "precision": "bfloat16", "channels_last": True}),
        ("cifar10", {"network": "wrn-34-10", "method": "dynamic-0.5", "compiled": True}),
    ],
)
def test_the_command_of_a_recipe_repeats_it(name, changes):
    recipe = scale.recipe(name, **changes)
    words = shlex.split(recipe.command(7, out="a b.json", steps=5))
    assert words[:4] == ["python", "-m", "advreg.scale", "train"]
    args = scale._parser().parse_args(words[3:])
    fields = {f.name for f in dataclasses.fields(recipe)} - {"data"}
    again = {k: v for k, v in vars(args).items() if k in fields}
    assert scale.recipe(args.data, **again) == recipe
    assert (args.seed, args.steps, args.out.name) == (7, 5, "a b.json")
    assert recipe.command(processes=8).startswith("torchrun --nproc-per-node 8 -m advreg.scale")


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 12},
        {"task": "three"},
        {"method": "pgd"},
        {"precision": "float16"},
        {"epochs": 0},
        {"batch": 0},
        {"radius": 0.0},
        {"lr": float("nan")},
        {"images": 0},
        {"held_out": -1},
        {"annealing": "linear"},
        {"milestones": (1.5,)},
    ],
)
def test_recipes_refuse(bad):
    with pytest.raises(ValueError, match=r"must be|unknown|the side|an entry of milestones is"):
        scale.recipe("digits", **bad)
    with pytest.raises(ValueError, match="unknown data 'x'"):
        scale.recipe("x")


# ------------------------------------------------------------------- files of published format


def write_mnist(folder, rng, count=60):
    folder.mkdir()
    for name, n in (("train", count), ("t10k", 20)):
        for kind, shape, most in (("images-idx3", (n, 28, 28), 256), ("labels-idx1", (n,), 10)):
            head = bytes([0, 0, 8, len(shape)]) + b"".join(k.to_bytes(4, "big") for k in shape)
            values = rng.integers(0, most, shape, dtype=np.uint8)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + values.tobytes())


def write_cifar10(folder, rng, count=12):
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (count, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())


WRITE = {"mnist": write_mnist, "cifar10": write_cifar10}


@pytest.mark.parametrize("name", WRITE)
def test_images_of_a_recipe(name, tmp_path):
    WRITE[name](tmp_path / "d", np.random.default_rng(0))
    ten = scale.images(scale.recipe(name, held_out=10, batch=16), tmp_path / "d")
    assert len(ten.train_y) == 60 and set(ten.train_y) == set(range(10))
    less = scale.recipe(name, held_out=10, batch=16, images=40, task="two")
    two = scale.images(less, tmp_path / "d")
    np.testing.assert_array_equal(two.train_x, ten.train_x[:40])
    odd = {1, 3, 5, 7, 9}
    ones = odd if name == "mnist" else {2, 3, 4, 5, 6, 7}
    assert two.train_y.tolist() == [int(y in ones) for y in ten.train_y[:40]]
    assert two.test_y.tolist() == [int(y in ones) for y in ten.test_y]
    for changes, words in (({"images": 61}, "60 training images"), ({"batch": 51}, "batch of 51")):
        with pytest.raises(ValueError, match=words):
            scale.images(
                scale.recipe(name, **{"held_out": 10, "batch": 16} | changes), tmp_path / "d"
            )
    with pytest.raises(ValueError, match="needs --folder"):
        scale.images(less)


def test_digits_are_split_by_the_seed():
    recipe = scale.recipe("digits", size=8, images=200)
    parts = [scale.images(recipe, seed=s) for s in (0, 0, 1)]
    np.testing.assert_array_equal(parts[0].train_x, parts[1].train_x)
    assert (parts[0].train_y != parts[2].train_y).any() and len(parts[0].test_y) == 1597
    expected = data.digits(np.random.default_rng(1), train=200)
    np.testing.assert_array_equal(parts[2].test_x, expected.test_x)


@pytest.mark.parametrize("name", WRITE)
def test_the_same_command_reads_published_files(name, tmp_path, capsys):
    WRITE[name](tmp_path / "d", np.random.default_rng(1))
    words = f"--data {name} --folder {tmp_path / 'd'} --held-out 10 --test 8 --epochs 2 "
    words += "--batch 20 --method pgd-1 --network wrn-10-1 --steps 1 --restarts 0 --device cpu"
    assert run(tmp_path, words, small="") == 0
    found = scale.load(tmp_path / "r.json")
    assert found["data"] == {
        "name": name,
        "train": 50,
        "held_out": 10,
        "test": 8,
        "sha256": found["data"]["sha256"],
    }
    assert found["command"].count("--folder DIR") == 1 and str(tmp_path) not in json.dumps(found)
    # a file of another content, or a damaged one, is told
    assert run(tmp_path, f"{words} --checkpoint {tmp_path / 'c'}", "s.json", small="") == 0
    file = next(p for p in (tmp_path / "d").iterdir() if p.name[:5] in ("train", "data_"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    capsys.readouterr()
    assert run(tmp_path, f"{words} --checkpoint {tmp_path / 'c'}", "t.json", small="") == 2
    assert one_line(capsys).startswith("wrong checksum: the data are not those of the checkpoint")
    assert run(tmp_path, words, small="") == 2
    assert "holds another result (data differ)" in one_line(capsys)
    file.write_bytes(whole[:-1])
    assert run(tmp_path, words, "u.json", small="") == 2
    assert file.name in one_line(capsys)
    file.unlink()
    assert run(tmp_path, words, "u.json", small="") == 2
    assert file.name in one_line(capsys)
    assert run(tmp_path, words.replace(str(tmp_path), "/nowhere"), "u.json", small="") == 2
    assert "/nowhere" in one_line(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "d", "r.json", "s.json"]


# -------------------------------------------------------------------------------- results


def test_the_result_is_what_the_weights_give(tmp_path, capsys):
    words = f"--weights {tmp_path / 'w.pt'} --checkpoint {tmp_path / 'c.pt'} --method standard"
    assert run(tmp_path, words) == 0
    lines = capsys.readouterr().out.splitlines()
    found = scale.load(tmp_path / "r.json")
    assert [line.split()[1] for line in lines[:3]] == ["1/3", "2/3", "3/3"]
    assert all("images/s  elapsed 0:0" in line for line in lines[:3])
    assert lines[2].endswith("left 0:00:00")
    assert [row["epoch"] for row in found["rows"]] == [0, 1, 2]
    assert found["processes"] == 1 and found["device"]["type"] == "cpu"
    assert found["versions"]["torch"] == torch.__version__

    recipe = scale.Recipe(**found["recipe"])
    assert recipe == scale.recipe(
        "digits", network="cnn", method="standard", size=8, epochs=3, images=80, held_out=20
    )
    model = recipe.build(0)
    state = torch.load(tmp_path / "w.pt", weights_only=True)
    model.load_state_dict(state)
    assert training._weights_digest(state) == found["weights_sha256"]
    assert found["parameters"] == sum(value.numel() for value in state.values())
    parts = scale.images(recipe)
    with torch.no_grad():
        right = model(torch.from_numpy(parts.test_x[:30])).argmax(1).numpy() == parts.test_y[:30]
        logits = model(torch.from_numpy(parts.train_x[60:]))
    assert found["test"]["clean"] == right.mean()
    assert found["test"]["robust"] <= found["test"]["clean"]
    last = found["rows"][-1]
    assert last["held_out_clean"] == (logits.argmax(1).numpy() == parts.train_y[60:]).mean()
    assert f"clean {last['held_out_clean']:.4f}, PGD-10 {last['held_out_pgd10']:.4f}" in lines[2]
    clean_loss = nn.functional.cross_entropy(logits, torch.from_numpy(parts.train_y[60:]))
    assert last["held_out_loss"] >= clean_loss.item()  # of the attacked images

    # the images held out and the test part are not trained on: fit by hand gives the same weights
    other = recipe.build(0)
    training.fit(
        other,
        parts.train_x[:60],
        parts.train_y[:60],
        recipe.ball(),
        training.standard(),
        **recipe.options(),
        seed=0,
        device="cpu",
    )
    assert training._weights_digest(other) == found["weights_sha256"]

    text = (tmp_path / "r.json").read_text()
    (tmp_path / "r.json").write_text(text.replace('"clean": ', '"clean": 0', 1))
    with pytest.raises(ValueError, match=r"damaged|checksum"):
        scale.load(tmp_path / "r.json")
    with pytest.raises(FileNotFoundError, match=r"python -m advreg.scale train"):
        scale.load(tmp_path / "nothing.json")


def test_a_result_is_not_overwritten(tmp_path, capsys):
    assert run(tmp_path, "--epochs 1") == 0
    before = (tmp_path / "r.json").read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]  # its checkpoint is gone
    capsys.readouterr()
    assert run(tmp_path, "--epochs 1") == 0
    assert "holds this result already" in capsys.readouterr().out
    assert run(tmp_path, f"--epochs 1 --weights {tmp_path / 'w.pt'}") == 2
    assert "its weights were not kept" in one_line(capsys)
    with pytest.raises(ValueError, match="test must be"):  # not after hours of training
        scale.train(scale.recipe("digits", size=8, images=200), tmp_path / "t.json", test=0)
    for words, what in (
        ("--epochs 2", "recipe differ"),
        ("--epochs 1 --seed 1", "seed, data differ"),
        ("--epochs 1 --restarts 1", "evaluation differ"),
    ):
        assert run(tmp_path, words) == 2
        assert what in one_line(capsys)
    (tmp_path / "r.json").write_bytes(before[:-9])
    assert run(tmp_path, "--epochs 1") == 2
    assert "damaged" in one_line(capsys)
    assert (tmp_path / "r.json").read_bytes() == before[:-9]


def test_autoattack_is_run_or_said_to_be_missing(tmp_path, monkeypatch):
    pytest.importorskip("pyautoattack")
    assert run(tmp_path, "--epochs 1 --autoattack 10") == 0
    found = scale.load(tmp_path / "r.json")["test"]["autoattack"]
    assert found in [k / 10 for k in range(11)]
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    assert run(tmp_path, "--epochs 1 --autoattack 10", "s.json") == 0
    assert scale.load(tmp_path / "s.json")["test"]["autoattack"] == "not installed"


def test_every_method_runs_and_without_images_held_out(tmp_path, capsys):
    for method in ("dynamic-0.5", "gradient-penalty-1"):
        words = f"--method {method} --epochs 1 --held-out 0 --network mlp"
        assert run(tmp_path, words, f"{method}.json") == 0
        assert "held out" not in capsys.readouterr().out
        (row,) = scale.load(tmp_path / f"{method}.json")["rows"]
        assert "held_out_clean" not in row and row["loss"] > 0
    assert row["passes"] == 2


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--network resnet", "unknown network 'resnet'"),
        ("--network wrn-11-1", "depth must be 6 n + 4"),
        ("--method trades", "unknown method 'trades'"),
        ("--data mnist --size 28", "--data mnist needs --folder DIR"),
        ("--data cifar10", "the side of cifar10 images is 32; got 8"),
        ("--batch 61", "a batch of 61 images is more than the 60 to train on"),
        ("--images 1797", "train must be an integer 1 to 1796"),
        ("--lr 0", "lr must be one number greater than 0"),
        ("--momentum 0", "nesterov"),
        ("--device tpu", "accepted are 'cpu', 'cuda'"),
        ("--checkpoint /nowhere/c", "the folder /nowhere of c does not exist"),
        ("--weights .", "is a folder: name a file in it"),
        ("--weights w --checkpoint w", "need a file each"),
    ],
)
def test_what_does_not_fit_is_told_before_training(words, message, tmp_path, capsys):
    assert run(tmp_path, words) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "r.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path, capsys):
    assert run(tmp_path, "--device cuda") == 2
    assert "'cuda' was asked for, but torch" in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data imagenet", "invalid choice"),
        ("--epochs 0", "is not an integer of at least 1"),
        ("--radius 8/0", "is not a number of at least 0"),
        ("--lr -1", "is not a number of at least 0"),
        ("--milestones a,b", "fractions as 0.5,0.75"),
        ("--precision float16", "invalid choice"),
    ],
)
def test_words_that_cannot_be_read(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        run(tmp_path, words)
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_checkpoints_of_others_are_refused_and_left(tmp_path, capsys):
    keep = tmp_path / "c.pt"
    assert run(tmp_path, f"--epochs 1 --checkpoint {keep}") == 0
    before = keep.read_bytes()
    capsys.readouterr()
    assert run(tmp_path, f"--epochs 1 --lr 0.2 --checkpoint {keep}", "s.json") == 2
    assert "belongs to another run; these differ: lr" in one_line(capsys)
    assert keep.read_bytes() == before
    keep.write_bytes(before[:-1])
    assert run(tmp_path, f"--epochs 1 --checkpoint {keep}", "s.json") == 2
    assert "damaged" in one_line(capsys)
    assert keep.read_bytes() == before[:-1] and not (tmp_path / "s.json").exists()


def test_a_loss_that_is_not_finite_names_epoch_and_batch(tmp_path, capsys):
    assert run(tmp_path, "--lr 1e30 --epochs 2") == 1
    text = one_line(capsys)
    assert "epoch 0, batch 1" in text and "r.json.checkpoint" in text
    assert not (tmp_path / "r.json").exists()


def test_an_evaluation_that_fails_keeps_the_training(tmp_path, capsys, monkeypatch):
    def fail(*args, **options):
        raise FloatingPointError("a logit is not finite")

    with monkeypatch.context() as patch:
        patch.setattr(scale.attacks, "worst_of", fail)
        assert run(tmp_path, "--epochs 1") == 1
    assert "a logit is not finite" in (text := one_line(capsys)) and "is kept in" in text
    assert [p.name for p in tmp_path.iterdir()] == ["r.json.checkpoint"]
    assert run(tmp_path, "--epochs 1") == 0
    assert "epoch" not in capsys.readouterr().out  # nothing was trained again


def start(folder, words="", out="r.json", before="", **options):
    """The command in a process of its own; `before` is Python that runs first."""
    code = f"{textwrap.dedent(before)}\nfrom advreg import scale\nraise SystemExit(scale.main())"
    words = ["train", *SMALL.split(), *words.split(), "--out", str(folder / out)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def no_room(size):
    """For a process: no file may become longer than this, as on a full disk."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_no_room_for_the_checkpoint(tmp_path):
    _, text = (process := start(tmp_path, preexec_fn=no_room(9999))).communicate(timeout=LIMIT)
    assert process.returncode == 1 and text.count("\n") == 1
    assert "r.json.checkpoint cannot be written" in text and "training has not begun" in text
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_no_room_for_the_result(tmp_path):
    words = f"--epochs 1 --checkpoint {tmp_path / 'c'}"
    assert run(tmp_path, words) == 0
    digest = scale.load(tmp_path / "r.json")["weights_sha256"]
    process = start(tmp_path, words, "s.json", preexec_fn=no_room(500))
    _, text = process.communicate(timeout=LIMIT)
    assert process.returncode == 1 and text.count("\n") == 1
    assert "the result could not be written" in text and f"is kept in {tmp_path / 'c'}" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "r.json"]
    assert run(tmp_path, words, "s.json") == 0  # there is room again
    assert scale.load(tmp_path / "s.json")["weights_sha256"] == digest


# ---------------------------------------------------------------------- interrupted and killed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of the run that nothing interrupts."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder) == 0
    return scale.load(folder / "r.json")


def same(result, whole):
    """Everything but the times."""
    keys = ("weights_sha256", "recipe", "data", "command", "processes")
    assert {k: result[k] for k in keys} == {k: whole[k] for k in keys}
    assert result["test"]["robust"] == whole["test"]["robust"]
    for key in ("loss", "held_out_clean", "held_out_pgd10", "lr", "passes"):
        assert [row[key] for row in result["rows"]] == [row[key] for row in whole["rows"]]


KILL = """
import os, signal
from advreg import training
def kill_at(owner, name, number, how=signal.SIGKILL):
    function, calls = getattr(owner, name), []
    def counted(*args, **options):
        result = function(*args, **options)
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), how)
        return result
    setattr(owner, name, counted)
"""
# 60 images in batches of 50: two batches an epoch; the checkpoint is written before epoch 0 too
MOMENTS = {
    "between attack and update of a batch": "kill_at(training, 'pgd', 4)",
    "in the write of a checkpoint, all bytes written": "kill_at(os, 'fsync', 3)",
    "in the write of the first checkpoint": "kill_at(os, 'fsync', 1)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_weights(moment, tmp_path, whole, capsys):
    process = start(tmp_path, before=KILL + MOMENTS[moment])
    lines = process.communicate(timeout=LIMIT)[0].splitlines()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "r.json").exists()
    assert run(tmp_path) == 0
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) + len(again) <= 4 and len(again) < 3 + ("first" in moment)
    same(scale.load(tmp_path / "r.json"), whole)


def test_killed_from_outside_at_a_random_moment(tmp_path, whole):
    process = start(tmp_path)
    assert process.stdout.readline().startswith("epoch   1/3")
    delay = np.random.default_rng().uniform(0, 0.2)  # any moment will do, so no seed
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    process.kill()
    process.communicate(timeout=LIMIT)
    assert process.returncode in (-signal.SIGKILL, 0)  # 0: on a busy machine it was over before
    assert run(tmp_path) == 0
    same(scale.load(tmp_path / "r.json"), whole)


def test_an_interrupted_run_says_how_to_go_on(tmp_path, whole):
    # the signal of Ctrl-C, in the second batch of the second epoch: it cannot come too late
    process = start(tmp_path, before=f"{KILL}kill_at(training, 'pgd', 4, signal.SIGINT)")
    lines, text = process.communicate(timeout=LIMIT)
    assert process.returncode == 130 and lines.count("epoch") == 1
    assert text.count("\n") == 1 and "the same command goes on" in text
    assert run(tmp_path) == 0
    same(scale.load(tmp_path / "r.json"), whole)


# ------------------------------------------------------------------------------ two processes

NARROW = (
    SMALL.replace("cnn", "wrn-10-1").replace("pgd-2", "pgd-1").replace("--epochs 3", "--epochs 2")
)


def torchrun(folder, *words, before=""):
    script = folder / "run.py"
    script.write_text(
        f"import os\nrank = os.environ['RANK']\n{textwrap.dedent(before)}\n"
        "from advreg import scale\nif __name__ == '__main__':\n    raise SystemExit(scale.main())\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *words]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", str(script), "train"]
    command += [*NARROW.split(), "--weights", str(folder / "w.pt"), "--out", str(folder / "r.json")]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    done = torchrun(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, scale.load(folder / "r.json")


def test_two_processes_share_the_work(pair):
    folder, text, found = pair
    assert found["processes"] == 2 and "torchrun --nproc-per-node 2" in found["command"]
    assert text.count("epoch ") == 2 and text.count("wrote ") == 1  # one of them speaks
    recipe = scale.Recipe(**found["recipe"])
    model, parts = recipe.build(0).eval(), scale.images(scale.Recipe(**found["recipe"]))
    model.load_state_dict(torch.load(folder / "w.pt", weights_only=True))
    for x, y, clean in (
        (parts.test_x[:30], parts.test_y[:30], found["test"]["clean"]),
        (parts.train_x[60:], parts.train_y[60:], found["rows"][-1]["held_out_clean"]),
    ):
        assert clean == pytest.approx(training.evaluate(model, x, y))


DIE = KILL + "if rank == '1' and not os.path.exists('{mark}'):\n    open('{mark}', 'w').close()\n"
DIE += "    kill_at(training, 'pgd', 3)\n"  # in the second epoch


def test_a_killed_process_is_started_again(pair, tmp_path):
    done = torchrun(tmp_path, "--max-restarts", "1", before=DIE.format(mark=tmp_path / "mark"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mark").exists()
    found = scale.load(tmp_path / "r.json")
    assert found["weights_sha256"] == pair[2]["weights_sha256"]
    assert found["rows"][-1]["loss"] == pair[2]["rows"][-1]["loss"]


def test_without_restarts_the_run_ends_and_its_checkpoint_is_whole(pair, tmp_path):
    done = torchrun(tmp_path, "--max-restarts", "0", before=DIE.format(mark=tmp_path / "mark"))
    assert done.returncode != 0
    assert not (tmp_path / "r.json").exists()
    keep = training._Checkpoint(tmp_path / "r.json.checkpoint", {})
    state = keep._read()  # checks the digest
    assert state["history"]["loss"] == pytest.approx([pair[2]["rows"][0]["loss"]], rel=1e-5)


# ------------------------------------------------------------------------------------- costs


def hooked(model, x):
    """Multiply-adds of a forward pass: results times weights of one of them, layer by layer."""
    total = [0]

    def count(layer, inputs, result):
        total[0] += result[0].numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model(x)
    return total[0]


@pytest.mark.parametrize(
    ("depth", "widen", "channels", "size", "classes"),
    [
        (10, 1, 1, 8, 2),
        (10, 2, 3, 4, 10),
        (16, 4, 3, 32, 10),
        (22, 1, 3, 12, 7),
        (16, 3, 1, 28, 10),
    ],
)
def test_multiply_adds_against_hooks(depth, widen, channels, size, classes):
    shape = {"channels": channels, "size": size}
    generator = torch.Generator().manual_seed(0)
    model = networks.wide_resnet(depth, widen, classes, **shape, generator=generator).eval()
    expected = hooked(model, torch.zeros(1, channels, size, size))
    assert scale.multiply_adds(depth, widen, classes=classes, **shape) == expected


class Counter(TorchDispatchMode):
    """Floating point operations by torch's own table, forward and backward.

    (torch's FlopCounterMode hooks modules, and cannot when a leaf's gradient is asked for.)
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if (packet := function._overloadpacket) in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=result)
        return result


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_multiply_adds_of_training_against_torchs_counter(steps):
    def model():
        return networks.named("wrn-10-2", 10, channels=3, size=8, generator=torch.Generator())

    x, y = torch.rand(4, 3, 8, 8), torch.arange(4)
    task = scale._Task(
        model, x, y, 2, steps, scale._Timer(torch.device("cpu")), torch.device("cpu")
    )
    expected = 2 * 4 * scale.multiply_adds(10, 2, size=8, steps=steps)
    for measure in (task.floor, task.plain):
        with Counter() as counter:
            measure()
        assert counter.total == 2 * expected  # works through the images twice
    with Counter() as counter:
        task.fit("standard" if steps == 0 else f"pgd-{steps}")
    look = 2 * scale.multiply_adds(10, 2, size=8)  # fit looks at the logits of one image first
    assert counter.total == 2 * expected + look


@pytest.mark.parametrize("bad", [{"depth": 12}, {"widen": 0}, {"size": 6}, {"steps": -1}])
def test_multiply_adds_refuses(bad):
    with pytest.raises(ValueError, match="must be"):
        scale.multiply_adds(**{"depth": 10, "widen": 1} | bad)


def test_price():
    assert scale.price(36, 100, 10, 1.0) == pytest.approx(1.0)
    assert scale.price(50000, 110, 10, 1000.0) == pytest.approx(5.5e6 / 1000 / 3600)
    assert scale.price(36, 100, 0, 1.0) == pytest.approx(3 / 23)
    assert scale.price(36, 100, 10, 1.0, measured_steps=0) == pytest.approx(23 / 3)
    for bad in ((0, 1, 1, 1.0), (1, 1, -1, 1.0), (1, 1, 1, 0.0), (1, 1, 1, float("inf"))):
        with pytest.raises(ValueError, match="must be"):
            scale.price(*bad)


def test_throughput_is_measured_and_priced(tmp_path, capsys):
    file = tmp_path / "s.json"
    words = ["throughput", "--device", "cpu", "--out", str(file)]
    words += "--network wrn-10-1 --size 4 --batch 2 --batches 1 --rounds 2".split()
    assert scale.main(words) == 0
    found = scale.load(file)
    assert found["clock"] == "CPU seconds, all threads" and found["device"]["type"] == "cpu"
    keys = {(row["what"], row["method"], row["format"]) for row in found["rows"]}
    assert keys == {("plain", "pgd-10", "float32")} | {
        (what, method, name)
        for name in ("float32", "channels_last", "bfloat16")
        for what, method in (
            ("floor", "pgd-10"),
            ("fit", "pgd-10"),
            ("fit", "standard"),
            ("fit", "gradient-penalty-1"),
        )
    }
    for row in found["rows"]:
        assert len(row["images_per_second"]) == 2 and min(row["images_per_second"]) > 0
    capsys.readouterr()
    assert scale.main(words) == 2  # a measurement is not overwritten
    assert "exists" in one_line(capsys)

    words = ["price", "--throughput", str(file), "--networks", "wrn-10-1", "wrn-34-10"]
    assert scale.main([*words, "--peak", "1000", "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CPU-hours" in lines[0] and len(lines) == 9
    speed = max(
        np.median(row["images_per_second"])
        for row in found["rows"]
        if (row["what"], row["method"]) == ("fit", "pgd-10")
    )
    assert f"{2 * 50000 * 110 / speed / 3600:.4g} hours" in lines[3]
    assert lines[4].split("; ")[1].startswith("at most ")
    assert all("not measured" in line and "images/s" not in line for line in lines[5:])
    assert "images of 3 x 4 x 4 pixels" in lines[0]  # the bound is for these, too
    bound = 2 * 50000 * 110 * 2 * scale.multiply_adds(34, 10, size=4, steps=10) / 1e15 / 3600
    assert lines[7].endswith(f"at least {bound:.4g} hours at 1000 TFLOP/s")

    rest = {k: v for k, v in found.items() if k != "sha256"}
    experiments.store(tmp_path / "gpu.json", rest | {"device": {"type": "cuda", "name": "x"}})
    assert scale.main(["price", "--throughput", str(file), str(tmp_path / "gpu.json")]) == 2
    assert "do not go into one table" in one_line(capsys)
    experiments.store(tmp_path / "large.json", rest | {"size": 32})
    assert scale.main(["price", "--throughput", str(file), str(tmp_path / "large.json")]) == 2
    assert "measurements of different images" in one_line(capsys)
    assert scale.main(["price", "--throughput", str(tmp_path / "none.json")]) == 2
    assert "no result at" in one_line(capsys)
