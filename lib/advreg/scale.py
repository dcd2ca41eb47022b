r"""Adversarial training of a wide residual network: one documented command per configuration.

::

    python -m advreg.scale train --data cifar10 --folder DIR --network wrn-16-4 \
        --method pgd-10 --precision bfloat16 --channels-last --out pgd.json
    torchrun --nproc-per-node 8 -m advreg.scale train ...        the same on eight GPUs
    python -m advreg.scale throughput --network wrn-16-4 --out speed.json
    python -m advreg.scale price --throughput speed.json --epochs 110 --seeds 3

``train`` runs a :class:`Recipe` with one seed.  The last training images are held out: after
every epoch it prints the accuracies there, clean and under ten steps of projected gradient
descent (PGD), the images per second, and the time left.  At the end it evaluates the network on
the test part and writes the result, which :func:`load` reads.  Until then the state after the
last epoch is kept in ``FILE.checkpoint``: the same command, interrupted, goes on from there.  It
exits with 0 when the result is written, 1 when something went wrong on the way (no room, loss
not finite, memory full), 2 for arguments or files that do not fit, and 130 after Ctrl-C.

``throughput`` measures images per second on this device; ``price`` turns what it measured into
hours, and gives no hours for what was not measured.

The recipe for CIFAR-10 is that of the field, cf. Madry et al. (2018), Rice et al. (2020) and
Pang et al. (2021).  Those for the digits of scikit-learn and for MNIST are this book's; that of
MNIST has not been run on the published files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import functools
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from tqdm import tqdm

from advreg import attacks, data, experiments, networks, training
from advreg import device as devices
from advreg._checks import integer, number

__all__ = [
    "DEFAULTS",
    "Recipe",
    "Stopped",
    "images",
    "load",
    "main",
    "multiply_adds",
    "price",
    "recipe",
    "schedule",
    "throughput",
    "train",
    "two_classes",
]

schedule = experiments.schedule

#: What a recipe needs for each data set: keywords of :class:`Recipe`; see :func:`recipe`.
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {
        "data": "digits",
        "radius": 0.15,
        "epochs": 30,
        "batch": 50,
        "crop": 2,  # 2 pixels of 32: half a pixel of the original 8 x 8
        "held_out": 100,
    },
    "mnist": {
        "data": "mnist",
        "radius": 0.3,
        "epochs": 20,
        "lr": 0.02,  # as in chapter 5: a large radius makes training fragile
        "size": 28,
        "crop": 2,
        "held_out": 1000,
    },
    "cifar10": {
        "data": "cifar10",
        "radius": 8 / 255,
        "epochs": 110,
        "milestones": (100 / 110, 105 / 110),
        "crop": 4,
        "flip": True,
        "held_out": 1000,
    },
}
_SIZES = {"digits": (8, 16, 32), "mnist": (28,), "cifar10": (32,)}
_ANIMALS = (2, 3, 4, 5, 6, 7)  # of CIFAR-10: bird, cat, deer, dog, frog, horse
_TASKS = ("all", "two")
#: A waiting process gives up on the others after this time; torchrun sees a dead one at once.
_PATIENCE = datetime.timedelta(hours=3)


# -------------------------------------------------------------------------------- recipes


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything about a training run but its seed, the folder of the data and the device.

    Parameters
    ----------
    data : "digits", "mnist" or "cifar10"
    radius : float
        Of the maximum-norm ball, in grey values of [0, 1].
    epochs : int
    network : str
        A name that :func:`advreg.networks.named` knows; looked up by :meth:`build`.
    method : str
        A name that :func:`advreg.experiments.schedule` knows.
    batch : int
        Samples per step, those of all processes together.
    lr, momentum, nesterov, weight_decay, annealing, milestones, decay
        As in :func:`advreg.training.fit`.
    crop : int
        Training images are shifted by at most this many pixels in each direction.
    flip : bool
        Training images are mirrored, left to right, with probability 1/2.
    size : int
        Side of the images: 8, 16 or 32 for digits, 28 for MNIST, 32 for CIFAR-10.
    precision, channels_last, compiled
        As in :func:`advreg.training.fit`.
    task : str
        "all": the ten classes; "two": odd digits 1 and even ones 0, or animals 1 and vehicles 0.
    images : int, optional
        Training images in use, those held out included: for digits the size of the training
        part (1000 by default), for other data the first ones (all by default).
    held_out : int
        The last of these images are not trained on, but looked at after every epoch.

    Raises
    ------
    ValueError
        If a name (but that of the network) is unknown or a number out of range.
    """

    data: str
    radius: float
    epochs: int
    _: dataclasses.KW_ONLY
    network: str = "wrn-16-4"
    method: str = "pgd-10"
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    annealing: str = "steps"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    crop: int = 0
    flip: bool = False
    size: int = 32
    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False
    task: str = "all"
    images: int | None = None
    held_out: int = 0

    def __post_init__(self) -> None:
        if self.data not in _SIZES:
            raise ValueError(f"unknown data {self.data!r}; accepted are {', '.join(_SIZES)}")
        if self.task not in _TASKS:
            raise ValueError(f"unknown task {self.task!r}; accepted are {', '.join(_TASKS)}")
        if self.precision not in training.PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}; accepted are "
                f"{', '.join(training.PRECISIONS)}"
            )
        if self.annealing not in training.ANNEALINGS:
            raise ValueError(
                f"unknown annealing {self.annealing!r}; accepted are "
                f"{', '.join(training.ANNEALINGS)}"
            )
        if self.size not in _SIZES[self.data]:
            sizes = ", ".join(map(str, _SIZES[self.data]))
            raise ValueError(f"the side of {self.data} images is {sizes}; got {self.size!r}")
        plain: dict[str, Any] = {"milestones": tuple(self.milestones)}
        for name, least in (("epochs", 1), ("batch", 1), ("crop", 0), ("held_out", 0)):
            plain[name] = integer(getattr(self, name), name, least)
        for name in ("radius", "lr", "momentum", "weight_decay", "decay"):
            strict = name in ("radius", "lr", "decay")
            plain[name] = number(getattr(self, name), name, 0.0, strict=strict)
        if self.images is not None:
            plain["images"] = integer(self.images, "images", 1)
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        schedule(self.method, self.epochs)  # an unknown method is told here
        training._milestones(self.milestones, self.epochs)

    @property
    def channels(self) -> int:
        """Channels of an image: 3 for CIFAR-10, otherwise 1."""
        return 3 if self.data == "cifar10" else 1

    @property
    def classes(self) -> int:
        """Number of classes of the task."""
        return 2 if self.task == "two" else 10

    def ball(self) -> attacks.Ball:
        """The feasible set of the attack: maximum norm, pixels in [0, 1]."""
        return attacks.Ball(self.radius)

    def build(self, seed: int, device: torch.device | str = "cpu") -> nn.Module:
        """The network with the weights that the seed draws, on the device."""
        generator = torch.Generator().manual_seed(seed)
        shape = {"channels": self.channels, "size": self.size}
        return networks.named(
            self.network, self.classes, **shape, generator=generator, device=device
        )

    def options(self) -> dict[str, Any]:
        """Keywords of :func:`advreg.training.fit` that follow from the recipe."""
        names = ("epochs", "batch", "lr", "momentum", "nesterov", "weight_decay", "annealing")
        names += ("milestones", "decay", "precision", "channels_last", "compiled")
        crop = training.crop_and_flip(self.crop, self.flip) if self.crop or self.flip else None
        return {name: getattr(self, name) for name in names} | {"augment": crop}

    def command(self, seed: int = 0, *, processes: int = 1, out: str = "FILE", **more: Any) -> str:
        """The command line that repeats the run; `more` are further options of ``train``."""
        start = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
        words = [start, "-m advreg.scale train --data", self.data]
        words += [] if self.data == "digits" else ["--folder DIR"]
        usual = dataclasses.replace(
            recipe(self.data, size=self.size), size=DEFAULTS[self.data].get("size", Recipe.size)
        )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            shown = field.name in ("network", "method", "epochs")
            if field.name != "data" and (shown or value != getattr(usual, field.name)):
                words.append(_option(field.name, value))
        words.append(f"--seed {seed}")
        words += [_option(name, value) for name, value in more.items()]
        return " ".join([*words, f"--out {shlex.quote(out)}"])


def _option(name: str, value: Any) -> str:
    flag = {"compiled": "compile"}.get(name, name).replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if isinstance(value, tuple):
        value = ",".join(map(repr, value)) or "none"
    return f"--{flag} {value!r}" if isinstance(value, float) else f"--{flag} {value}"


def recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of a data set, with changes.

    Parameters
    ----------
    name : "digits", "mnist" or "cifar10"
    **changes
        Fields of :class:`Recipe`.  Digits of another size are cropped by size / 16 pixels, which
        is half a pixel of the original images, unless `crop` is among the changes.

    Raises
    ------
    ValueError
        As :class:`Recipe`.
    """
    if name not in DEFAULTS:
        raise ValueError(f"unknown data {name!r}; accepted are {', '.join(DEFAULTS)}")
    fields = DEFAULTS[name] | changes
    if name == "digits" and "crop" not in changes and fields.get("size") in (8, 16):
        fields["crop"] = fields["size"] // 16
    return Recipe(**fields)


def images(
    recipe: Recipe, folder: str | os.PathLike[str] | None = None, seed: int = 0
) -> data.Images:
    """The labelled images of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Its data, size, task and images count.
    folder : path, optional
        Where the published files of MNIST or CIFAR-10 are.
    seed : int
        Draws the split of the digits; the files of other data come with their split.

    Returns
    -------
    advreg.data.Images
        The images held out are the last `held_out` ones of the training part.

    Raises
    ------
    FileNotFoundError
        If the folder or a file in it is not there.
    ValueError
        If a file is damaged, or there are fewer images than the recipe asks for.
    """
    if recipe.data == "digits":
        count = 1000 if recipe.images is None else recipe.images
        parts = data.digits(np.random.default_rng(seed), train=count, size=recipe.size)
    elif folder is None:
        raise ValueError(f"--data {recipe.data} needs --folder DIR: where its files are")
    else:
        parts = getattr(data, recipe.data)(folder)
        if recipe.images is not None and recipe.images > len(parts.train_y):
            raise ValueError(
                f"{recipe.images} images were asked for, but {folder} holds "
                f"{len(parts.train_y)} training images"
            )
        parts = parts._replace(
            train_x=parts.train_x[: recipe.images], train_y=parts.train_y[: recipe.images]
        )
    if recipe.task == "two":
        train, test = (two_classes(y, recipe.data) for y in (parts.train_y, parts.test_y))
        parts = parts._replace(train_y=train, test_y=test)
    left = len(parts.train_y) - recipe.held_out
    if recipe.batch > left:
        raise ValueError(
            f"a batch of {recipe.batch} images is more than the {max(left, 0)} to train on "
            f"({len(parts.train_y)} images, {recipe.held_out} of them held out): "
            "give a smaller --batch or --held-out"
        )
    return parts


def two_classes(labels: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """Labels of the task "two": odd digits 1, even ones 0; in CIFAR-10 animals 1, vehicles 0.

    Parameters
    ----------
    labels : integer array, any shape
        Labels 0, ..., 9 of the ten classes.
    name : "digits", "mnist" or "cifar10"

    Returns
    -------
    integer array of the same shape
    """
    if name == "cifar10":
        return np.isin(labels, _ANIMALS).astype(np.int64)
    return labels % 2


# ---------------------------------------------------------------------------- one training


@dataclasses.dataclass(frozen=True)
class _Team:
    """The processes of a run; a single one without torchrun."""

    rank: int
    size: int
    device: torch.device

    def share(self, *tensors: Tensor) -> list[Tensor]:
        """Every `size`-th sample, on the device."""
        return [tensor[self.rank :: self.size].to(self.device) for tensor in tensors]

    def sum(self, *values: float) -> list[float]:
        """Sums over the processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            distributed.all_reduce(total)
        return total.tolist()


@contextlib.contextmanager
def _team(name: str | None) -> Iterator[_Team]:
    """Join the processes that torchrun started, each with a GPU of its own if there are any."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    where = devices.choose(name)
    if size == 1:
        yield _Team(0, 1, where)
        return
    if where.type == "cuda":
        where = devices.choose(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(where)
    store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        # torchrun on one machine keeps its store when it starts the processes again: without a
        # name of its own the new attempt could read the addresses of the dead processes and wait
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = distributed.PrefixStore(f"attempt {attempt}", store)
    distributed.init_process_group(
        "nccl" if where.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    yield _Team(rank, size, where)
    # after an error it is left alone: the others may wait in it, and torchrun ends them
    distributed.destroy_process_group()


class _Watch:
    """What is looked at and printed after every epoch; a monitor of :func:`training.fit`."""

    def __init__(
        self, recipe: Recipe, team: _Team, count: int, held: list[Tensor], digest: str
    ) -> None:
        self.recipe, self.team, self.count, self.digest = recipe, team, count, digest
        self.held, self.number = team.share(*held), len(held[0])
        self.start = self.last = time.perf_counter()
        self.spent: list[float] = []

    def __call__(self, epoch: int, model: nn.Module) -> dict[str, Any]:
        if self.team.device.type == "cuda":
            torch.cuda.synchronize(self.team.device)
        seconds = time.perf_counter() - self.last
        line = self.look(model) | {
            "images_per_second": self.count / seconds,
            "seconds": seconds,
        }
        now = time.perf_counter()
        self.spent.append(now - self.last)
        line["seconds_held_out"] = now - self.last - seconds
        self.last = now
        if self.team.rank == 0:
            tqdm.write(self.text(epoch, line))  # above the progress bar, if there is one
            sys.stdout.flush()
        return line | {"data": self.digest}

    def look(self, model: nn.Module) -> dict[str, float]:
        """Accuracies on the images held out; the attack starts at the image, without chance."""
        if not self.number:
            return {}
        right = robust = loss = 0.0
        ball = self.recipe.ball()
        with torch.no_grad():
            for x, y in zip(*(part.split(256) for part in self.held), strict=True):
                right += float((model(x).argmax(1) == y).sum())
                z = attacks.pgd(model, x, y, ball, steps=10, report=False).points
                logits = model(z)
                robust += float((logits.argmax(1) == y).sum())
                loss += float(attacks.cross_entropy(logits, y).double().sum())
        sums = self.team.sum(right, robust, loss)
        return dict(zip(("clean", "pgd10", "loss"), (v / self.number for v in sums), strict=True))

    def text(self, epoch: int, line: Mapping[str, float]) -> str:
        elapsed = time.perf_counter() - self.start
        left = (self.recipe.epochs - epoch - 1) * float(np.mean(self.spent))
        words = [f"epoch {epoch + 1:3d}/{self.recipe.epochs}"]
        if self.number:
            words.append(
                f"held out: loss {line['loss']:.4f}, clean {line['clean']:.4f}, "
                f"PGD-10 {line['pgd10']:.4f}"
            )
        words.append(f"{line['images_per_second']:.1f} images/s")
        words.append(f"elapsed {_clock(elapsed)}, left {_clock(left)}")
        return "  ".join(words)


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


class Stopped(Exception):
    """A run that ends early: the exit status, and a sentence that says what is kept.

    Attributes
    ----------
    status : int
        1, 2 or 130, as in the head of this module.
    """

    def __init__(self, status: int, message: object) -> None:
        super().__init__(" ".join(str(message).split()))
        self.status = status


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    test: int | None = None,
    steps: int = 40,
    restarts: int = 1,
    autoattack: int = 0,
) -> dict[str, Any] | None:
    """Train by a recipe, evaluate on the test part, and store the result in a file.

    Parameters
    ----------
    recipe : Recipe
    out : path
        The result.
    folder : path, optional
        Where the files of MNIST or CIFAR-10 are.
    seed : int
        Of the weights, the order of the samples, the random starts and crops; for digits also
        of the split.
    device : str, optional
        "cpu" or "cuda"; by default as :func:`advreg.device.choose`.  Under torchrun every
        process takes the GPU of its own number.
    checkpoint : path, optional
        By default `out` with ``.checkpoint``, which is removed when the result is written.
    weights : path, optional
        File for the weights of the trained network, as ``torch.save`` writes a state_dict.
    test : int, optional
        Only the first `test` test images, at least one.
    steps, restarts : int
        Of :func:`advreg.attacks.worst_of`.
    autoattack : int
        Test images attacked by :func:`advreg.experiments.autoattack`.

    Returns
    -------
    dict or None
        The result, as :func:`load` reads it; None if `out` holds it already.  In the processes
        of a team all but the first get the result without its checksum.  Recipe, seed, data,
        evaluation and number of processes are compared, device and versions are not.

    Raises
    ------
    ValueError, OSError, RuntimeError
        Before training, if an argument, a file or the device does not fit.
    Stopped
        If training stops early; its message says what is kept.
    """
    out = Path(out)
    own = out.with_name(f"{out.name}.checkpoint") if checkpoint is None else None
    keep = own or Path(checkpoint)
    places = [out, keep, *([Path(weights)] if weights else [])]
    if len({path.absolute() for path in places}) < len(places):
        raise ValueError("result, checkpoint and weights need a file each")
    for path in places:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name a file in it")
        if not path.parent.is_dir():
            raise ValueError(f"the folder {path.parent} of {path.name} does not exist")
    seed = integer(seed, "seed", 0)
    if test is not None:
        test = integer(test, "test", 1)
    parts = images(recipe, folder, seed)
    parts = parts._replace(test_x=parts.test_x[:test], test_y=parts.test_y[:test])
    whole = [torch.from_numpy(part) for part in parts]
    count = len(parts.train_y) - recipe.held_out
    with _team(device) as team:
        if recipe.batch < team.size:
            raise ValueError(f"a batch of {recipe.batch} has no image for each of {team.size}")
        content = {
            "name": "train",
            "command": recipe.command(
                seed,
                processes=team.size,
                out=out.name,
                **({} if test is None else {"test": test}),
                **{"steps": steps, "restarts": restarts, "autoattack": autoattack},
            ),
            "recipe": training._plain(dataclasses.asdict(recipe), "a recipe"),
            "seed": seed,
            "data": {
                "name": recipe.data,
                "train": count,
                "held_out": recipe.held_out,
                "test": len(parts.test_y),
                "sha256": training._digest(*whole),
            },
            "evaluation": {
                "steps": integer(steps, "steps", 1),
                "restarts": integer(restarts, "restarts", 0),
                "autoattack": integer(autoattack, "autoattack", 0),
            },
            "processes": team.size,
        }
        if out.exists():
            old = load(out)
            differing = [k for k in content if k != "command" and old.get(k) != content[k]]
            if differing:
                raise ValueError(
                    f"{out} holds another result ({', '.join(differing)} differ): "
                    "give another name, or move it away"
                )
            if weights is not None and not Path(weights).exists():
                raise ValueError(
                    f"{out} holds this result, but its weights were not kept: to train again and "
                    f"keep them in {weights}, move the result away"
                )
            return None
        content |= {"device": _device(team.device), "versions": experiments.versions()}
        if team.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(team.device)
        model = recipe.build(seed, team.device)
        watch = _Watch(
            recipe, team, count, [part[count:] for part in whole[:2]], content["data"]["sha256"]
        )
        history = _fit(recipe, model, [part[:count] for part in whole[:2]], seed, watch, keep)
        try:
            test_part = _judge(recipe, model, whole[2:], seed, team, content["evaluation"])
        except (ArithmeticError, RuntimeError) as error:
            raise Stopped(
                1, f"the evaluation stopped ({error}); the finished training is kept in {keep}"
            ) from error
        content |= {
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights_sha256": training._weights_digest(model),
            "test": test_part,
            "seconds": {
                "training": sum(line["seconds"] for line in history.monitored),
                "held_out": sum(line["seconds_held_out"] for line in history.monitored),
            },
            "images_per_second": float(
                np.median([line["images_per_second"] for line in history.monitored])
            ),
        }
        if team.device.type == "cuda":
            content["peak_bytes"] = torch.cuda.max_memory_allocated(team.device)
        content["rows"] = _rows(history)
        if team.rank == 0:
            _keep(out, content, model, weights, keep)
            if own:
                own.unlink(missing_ok=True)
            content = load(out)
        team.sum(0.0)  # nobody leaves before the result is written
    return content


def _device(where: torch.device) -> dict[str, Any]:
    if where.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(where)}
    return {"type": "cpu", "name": platform.machine(), "threads": torch.get_num_threads()}


def _fit(
    recipe: Recipe,
    model: nn.Module,
    parts: Sequence[Tensor],
    seed: int,
    watch: _Watch,
    keep: Path,
) -> training.History:
    """Train, or go on; errors become sentences that say what is kept."""
    team = watch.team
    who = f"process {team.rank} of {team.size}: " if team.size > 1 else ""
    kept = f"the state after the last finished epoch is kept in {keep}"
    wrong = "wrong checksum: the data are not those of the checkpoint"
    try:
        if keep.exists():  # fit compares what it trains on, this also what is only looked at
            lines = training._Checkpoint(keep, {})._read()["history"]["monitored"]
            if any((line or {}).get("data") != watch.digest for line in lines):
                raise ValueError(f"{wrong} {keep}, or it was made by another command")
        return training.fit(
            model,
            *parts,
            recipe.ball(),
            schedule(recipe.method, recipe.epochs),
            **recipe.options(),
            seed=seed,
            device=team.device,
            monitor=watch,
            checkpoint=keep,
            progress=team.rank == 0,
        )
    except KeyboardInterrupt:
        raise Stopped(130, f"{who}stopped; {kept}: the same command goes on") from None
    except FloatingPointError as error:
        raise Stopped(
            1, f"{who}{error}. {kept}, but it leads here again: give another --lr and another --out"
        ) from error
    except ValueError as error:
        text = str(error)
        if "belongs to another run" in text and "data" in text.partition("differ:")[2]:
            text = f"{wrong}. {text}"
        raise Stopped(2, f"{who}{text}") from error
    except torch.OutOfMemoryError as error:
        raise Stopped(
            1, f"{who}the memory of {team.device} is full: a smaller --batch, or more processes"
        ) from error
    except RuntimeError as error:
        raise Stopped(1, f"{who}{error}") from error
    except OSError as error:  # says itself what is kept
        raise Stopped(1, f"{who}{error.strerror or error}") from error


def _judge(
    recipe: Recipe,
    model: nn.Module,
    test: Sequence[Tensor],
    seed: int,
    team: _Team,
    evaluation: Mapping[str, int],
) -> dict[str, Any]:
    """Accuracies on the test part, of which every process attacks its share."""
    begin, number_ = time.perf_counter(), len(test[1])
    x, y = team.share(*test)
    right = robust = 0.0
    if len(y):
        generator = torch.Generator().manual_seed(seed * 1000 + team.rank)
        options = {k: evaluation[k] for k in ("steps", "restarts")}
        worst = attacks.worst_of(model, x, y, recipe.ball(), **options, generator=generator)
        right, robust = worst.clean_accuracy * len(y), float(worst.robust.sum())
    right, robust = team.sum(right, robust)
    found: dict[str, Any] = {"clean": right / number_, "robust": robust / number_}
    if wanted := min(evaluation["autoattack"], number_):
        x, y = team.share(*(part[:wanted] for part in test))
        share = experiments.autoattack(model, x, y, recipe.radius, wanted, seed) if len(y) else 0.0
        missing, survive = team.sum(float(share is None), (share or 0.0) * len(y))
        found["autoattack"] = "not installed" if missing else survive / wanted
    return found | {"seconds": time.perf_counter() - begin}


def _rows(history: training.History) -> list[dict[str, Any]]:
    """One row per epoch: what training saw, and what was seen on the images held out."""
    names = [f.name for f in dataclasses.fields(history) if f.name != "monitored"]
    rows = []
    for epoch, line in enumerate(history.monitored):
        row = {n: getattr(history, n)[epoch] for n in names}
        seen = {k: v for k, v in line.items() if k != "data"}
        row |= {f"held_out_{k}" if k in ("clean", "pgd10", "loss") else k: seen[k] for k in seen}
        rows.append(experiments.rounded(row, 6))
    return rows


def _keep(
    out: Path,
    content: dict[str, Any],
    model: nn.Module,
    weights: str | os.PathLike[str] | None,
    keep: Path,
) -> None:
    """Write weights and result, each as a whole."""
    try:
        if weights is not None:
            buffer = BytesIO()
            torch.save({k: v.cpu() for k, v in model.state_dict().items()}, buffer)
            experiments.write(Path(weights), buffer.getvalue())
        experiments.store(out, content)
    except OSError as error:
        raise Stopped(
            1,
            f"the result could not be written ({error}); the finished training is kept in {keep}: "
            "make room, and the same command repeats the evaluation only",
        ) from error


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a result of this module and check that it is what the command wrote.

    Parameters
    ----------
    path : path
        A file that ``python -m advreg.scale train`` or ``throughput`` wrote.

    Returns
    -------
    dict
        Of ``train``: "command", "recipe" (the fields of :class:`Recipe`), "seed", "data" (sizes,
        and "sha256" of all images and labels), "device", "processes", "versions", "parameters",
        "weights_sha256", "test" (accuracies: "clean", "robust" against
        :func:`advreg.attacks.worst_of`, and "autoattack" if asked for), "seconds",
        "images_per_second" (median of
        the epochs, without the looks at the images held out), "peak_bytes" (CUDA, of the first
        process), and "rows", one per epoch.  Of ``throughput``:
        see :func:`throughput`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or was edited.
    """
    return experiments.load(path, "advreg.scale train")


# ------------------------------------------------------------------------------ what it costs


def multiply_adds(
    depth: int,
    widen: int,
    *,
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
    steps: int | None = None,
) -> int:
    r"""Multiply-adds that a wide residual network costs per image.

    Forward pass, M: every convolution from c to C channels with a k x k kernel and r x r results
    counts r^2 C c k^2, the zeros of the padding included, and the linear layer 64 k C; with
    n = (depth - 4) / 6, k = `widen`, s = `size`, c channels and C classes::

        M = s^2 (144 c + 2560 k + (13824 n - 4352) k^2) + 64 k C,   for k = 1 less 256 s^2.

    The input gradient of a layer costs as much as its forward pass,
    and so does its weight gradient.  An image of adversarial training with K steps therefore
    costs (2 K + 3) M - M_1: K times forward and back to the image, then once forward, and back to
    all weights but not through the first convolution, which costs M_1.

    Parameters
    ----------
    depth, widen, classes, channels, size : int
        As in :func:`advreg.networks.wide_resnet`.
    steps : int, optional
        K; 0 is ordinary training.  None: the forward pass.

    Returns
    -------
    int
        Normalizations, activations, additions, projections and updates are not counted.  One
        multiply-add is two floating point operations.

    Raises
    ------
    ValueError
        If depth is not 6 n + 4 with n >= 1, size no multiple of 4, or a number not positive.
    """
    depth, widen = integer(depth, "depth", 10), integer(widen, "widen", 1)
    classes, channels = integer(classes, "classes", 1), integer(channels, "channels", 1)
    if depth % 6 != 4 or integer(size, "size", 4) % 4:
        raise ValueError(
            f"depth must be 6 n + 4 and size a multiple of 4, got depth {depth} and size {size}"
        )
    first = size**2 * 144 * channels
    pixel = 2560 * widen + (13824 * (depth // 6) - 4352) * widen**2 - 256 * (widen == 1)
    total = first + size**2 * pixel + 64 * widen * classes
    if steps is None:
        return total
    return (2 * integer(steps, "steps", 0) + 3) * total - first


def price(
    images: int,
    epochs: int,
    steps: int,
    images_per_second: float,
    *,
    measured_steps: int = 10,
) -> float:
    """Hours that a training takes, from a throughput that was measured.

    images x epochs / images_per_second / 3600, times (2 K + 3) / (2 K' + 3) where the throughput
    was measured with another number of steps, K', than the K of the plan (the ratio of the
    multiply-adds of :func:`multiply_adds` but for the first layer).

    Parameters
    ----------
    images, epochs : int
        Training images, and passes over them.
    steps : int
        Of the attack, K; 0 is ordinary training.
    images_per_second : float
        Of adversarial training with `measured_steps` steps, on the device and in the format of
        the plan.  If it was measured in CPU time, the hours are CPU hours.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    images, epochs = integer(images, "images", 1), integer(epochs, "epochs", 1)
    steps, known = integer(steps, "steps", 0), integer(measured_steps, "measured_steps", 0)
    speed = number(images_per_second, "images_per_second", 0.0, strict=True)
    return images * epochs / speed / 3600 * (2 * steps + 3) / (2 * known + 3)


FORMATS: dict[str, dict[str, Any]] = {
    "float32": {},
    "channels_last": {"channels_last": True},
    "bfloat16": {"channels_last": True, "precision": "bfloat16"},
}
_MEASURED = ("standard", "gradient-penalty-1", "pgd-10")


class _Timer:
    """Seconds between two marks: of the CPU, or between two events of the GPU."""

    def __init__(self, where: torch.device) -> None:
        self.where = where

    def mark(self) -> Any:
        if self.where.type == "cpu":
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, first: Any, second: Any) -> float:
        if self.where.type == "cpu":
            return second - first
        torch.cuda.synchronize(self.where)
        return first.elapsed_time(second) / 1000


def throughput(
    network: str,
    *,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
    batch: int = 128,
    batches: int = 4,
    steps: int = 10,
    rounds: int = 3,
    compiled: bool = False,
    device: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure images per second of training, and of what training cannot do without.

    For every format (float32; channels_last; bfloat16 with channels_last; the last one compiled)
    ``floor`` is `steps` times forward and input gradient of the bare model, once forward and
    backward, and nothing else; ``fit`` is :func:`advreg.training.fit`, for standard, PGD and
    gradient penalty training.  ``plain`` is a loop as one writes it down, in float32.  Images are
    random: the time does not depend on what they show.  On a CPU the time is that of the process,
    all threads added up; on a GPU it is taken between events.

    Parameters
    ----------
    network : str
        A name that :func:`advreg.networks.named` knows.
    channels, size, classes, batch, batches : int
        Shape of an image, classes, samples per step and steps per measurement.
    steps : int
        Of the attack.
    rounds : int
        Measurements of each; they take turns.
    compiled : bool
        Measure the compiled model as well.
    device, seed
        As in :func:`train`.

    Returns
    -------
    list of dict
        "what" ("floor", "fit" or "plain"), "method", "format", and "images_per_second", a list of
        one number per round.

    Raises
    ------
    ValueError
        If the name of the network is unknown, or a number out of its range.
    """
    where = devices.choose(device)
    batch, batches = integer(batch, "batch", 1), integer(batches, "batches", 1)
    steps, rounds = integer(steps, "steps", 0), integer(rounds, "rounds", 1)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((batch * batches, channels, size, size), generator=generator)
    y = torch.randint(classes, (len(x),), generator=generator)
    shape = {"channels": channels, "size": size}
    formats = dict(FORMATS)
    if compiled:
        formats["compiled"] = formats["bfloat16"] | {"compiled": True}

    def model() -> nn.Module:
        fresh = torch.Generator().manual_seed(seed)
        return networks.named(network, classes, **shape, generator=fresh, device=where)

    task = _Task(model, x, y, batch, steps, _Timer(where), where)
    plan: list[tuple[str, str, str, Callable[[], float]]] = [
        ("plain", f"pgd-{steps}", "float32", task.plain)
    ]
    for name, options in formats.items():
        plan.append(("floor", f"pgd-{steps}", name, functools.partial(task.floor, **options)))
        for method in dict.fromkeys((f"pgd-{steps}", *_MEASURED[:2])):
            fit = functools.partial(task.fit, method, **options)
            plan.append(("fit", method, name, fit))
    rows = [
        {"what": what, "method": method, "format": name, "images_per_second": []}
        for what, method, name, _ in plan
    ]
    for _ in range(rounds):
        for row, (*_, measure) in zip(rows, plan, strict=True):
            row["images_per_second"].append(float(f"{len(x) / measure():.5g}"))
    return rows


@dataclasses.dataclass
class _Task:
    """What is measured: each method works through all images twice, and times the second time."""

    model: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    batch: int
    steps: int
    timer: _Timer
    where: torch.device
    radius: float = 8 / 255

    def fit(self, method: str, **options: Any) -> float:
        marks: list[Any] = []
        training.fit(
            self.model(),
            self.x,
            self.y,
            attacks.Ball(self.radius),
            schedule(method, 2),
            epochs=2,
            batch=self.batch,
            device=self.where,
            monitor=lambda epoch, model: marks.append(self.timer.mark()),
            progress=False,
            **options,
        )
        return self.timer.between(*marks)

    def floor(
        self, channels_last: bool = False, precision: str = "float32", compiled: bool = False
    ) -> float:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        model = self.model().to(memory_format=layout)
        run = torch.compile(model) if compiled else model

        def loss(z: Tensor, y: Tensor) -> Tensor:
            low = torch.autocast(z.device.type, torch.bfloat16, enabled=precision == "bfloat16")
            with low:
                logits = run(z)
            return attacks.cross_entropy(logits.float(), y).mean()

        def step(x: Tensor, y: Tensor) -> None:
            x = x.to(memory_format=layout)
            model.eval()
            for _ in range(self.steps):
                z = x.detach().requires_grad_()
                torch.autograd.grad(loss(z, y), z)
            model.train()
            loss(x, y).backward()

        return self._timed(step)

    def plain(self) -> float:
        model = self.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        size = self.radius / 4

        def step(x: Tensor, y: Tensor) -> None:
            model.eval()
            z = x + torch.empty_like(x).uniform_(-self.radius, self.radius)
            for _ in range(self.steps):
                z = z.clamp(0, 1).detach().requires_grad_()
                (g,) = torch.autograd.grad(attacks.cross_entropy(model(z), y).mean(), z)
                z = z.detach() + size * g.sign()
                z = torch.min(torch.max(z, x - self.radius), x + self.radius)
            model.train()
            optimizer.zero_grad()
            attacks.cross_entropy(model(z.clamp(0, 1)), y).mean().backward()
            optimizer.step()

        with torch.random.fork_rng(devices=[self.where] if self.where.type == "cuda" else []):
            torch.manual_seed(0)
            return self._timed(step)

    def _timed(self, step: Callable[[Tensor, Tensor], None]) -> float:
        marks = []
        for _ in range(2):
            marks.append(self.timer.mark())
            for x, y in zip(self.x.split(self.batch), self.y.split(self.batch), strict=True):
                step(x.to(self.where), y.to(self.where))
        return self.timer.between(marks[1], self.timer.mark())


def _measure(args: argparse.Namespace) -> int:
    """The command ``throughput``."""
    names = ("network", "channels", "size", "classes", "batch", "batches", "steps", "rounds")
    plan = {name: getattr(args, name) for name in (*names, "compiled")}
    where = devices.choose(args.device)
    words = [_option(k, v) for k, v in plan.items() if k != "compiled" or v]
    if not args.out.parent.is_dir():
        raise ValueError(f"the folder {args.out.parent} of --out does not exist")
    if args.out.exists():
        raise ValueError(f"{args.out} exists: measurements are not overwritten, move it away")
    rows = throughput(**plan, device=str(where), seed=args.seed)
    content = {
        "name": "throughput",
        "command": " ".join(["python -m advreg.scale throughput", *words, "--out", args.out.name]),
        **plan,
        "seed": args.seed,
        "device": _device(where),
        "clock": "CPU seconds, all threads" if where.type == "cpu" else "CUDA events",
        "versions": experiments.versions(),
        "rows": rows,
    }
    try:
        experiments.store(args.out, content)
    except OSError as error:
        raise Stopped(1, f"the result could not be written: {error}") from error
    for row in rows:
        print(
            f"{row['what']:5s} {row['method']:18s} {row['format']:13s} "
            f"{np.median(row['images_per_second']):10.5g} images/s"
        )
    print(f"wrote {args.out}")
    return 0


def _prices(args: argparse.Namespace) -> int:
    """The command ``price``: hours of every plan that was measured, and bounds by the peak."""
    known: dict[tuple[str, str], tuple[float, str, str]] = {}
    kinds: set[str] = set()
    shapes: set[tuple[int, int, int]] = set()
    for path in args.throughput:
        found = load(path)
        if found["name"] != "throughput":
            raise ValueError(f"{path} is no result of the command throughput")
        kinds.add(found["device"]["type"])
        if len(kinds) > 1:
            raise ValueError("measurements of a CPU and of a GPU do not go into one table")
        shapes.add((found["channels"], found["size"], found["classes"]))
        if len(shapes) > 1:
            raise ValueError(
                "measurements of different images (--channels, --size) or numbers of classes do "
                "not go into one table"
            )
        for row in found["rows"]:
            key, speed = (found["network"], row["method"]), np.median(row["images_per_second"])
            if row["what"] == "fit" and speed > known.get(key, (0.0,))[0]:
                known[key] = float(speed), row["format"], found["device"]["name"]
    unit = "CPU-hours" if kinds == {"cpu"} else "GPU-hours"
    ((channels, size, classes),) = shapes
    what = f"images of {channels} x {size} x {size} pixels"
    print(f"{args.images} {what}, {args.epochs} epochs, {args.seeds} seeds; {unit}")
    for network in args.networks:
        for method in ("standard", "gradient-penalty-1", "pgd-10", "dynamic-0.5"):
            like = "pgd-10" if method.startswith("dynamic") else method
            words = [f"{network:10s} {method:18s}"]
            if (network, like) in known:
                speed, name, device = known[network, like]
                hours = args.seeds * price(args.images, args.epochs, 10, speed)
                most = "at most " if like != method else ""
                words.append(f"{most}{hours:.4g} hours ({name}, {speed:.4g} images/s, {device})")
            else:
                words.append(
                    f"not measured: python -m advreg.scale throughput --network {network} "
                    "--out FILE on the device in question"
                )
            if args.peak and network.startswith("wrn-") and method in ("standard", "pgd-10"):
                depth, widen = map(int, network.split("-")[1:])
                shape = {"classes": classes, "channels": channels, "size": size}
                steps = 10 if like == "pgd-10" else 0
                work = 2 * multiply_adds(depth, widen, **shape, steps=steps)
                bound = args.seeds * args.images * args.epochs * work / args.peak / 1e12 / 3600
                words.append(f"direct: at least {bound:.4g} hours at {args.peak:g} TFLOP/s")
            print("; ".join(words))
    return 0


# ---------------------------------------------------------------------------- the commands


def _floats(text: str) -> tuple[float, ...]:
    """An argparse type: "0.5,0.75" are fractions, "100,105" epochs, "none" is empty."""
    if text == "none":
        return ()
    try:
        return tuple(int(v) if v.isdecimal() else float(v) for v in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: fractions as 0.5,0.75, epochs as 100,105, or none"
        ) from None


def _positive(text: str) -> float:
    """An argparse type: a finite number of at least 0, or a fraction such as 8/255."""
    above, slash, below = text.partition("/")
    try:
        value = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def _parser() -> argparse.ArgumentParser:
    whole = experiments.whole_number
    parser = argparse.ArgumentParser(
        prog="python -m advreg.scale", description="Adversarial training at scale."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sub = commands.add_parser(
        "train",
        help="train a network by a recipe, evaluate it, store the result",
        description="Train a network, evaluate it, store the result as JSON. The same command "
        "goes on after an interruption. Options not given are those of the data's recipe.",
    )
    add = functools.partial(sub.add_argument, default=argparse.SUPPRESS)
    sub.add_argument("--data", choices=DEFAULTS, default="digits", help="default: %(default)s")
    sub.add_argument("--folder", metavar="DIR", help="where the files of mnist or cifar10 are")
    add("--network", metavar="NAME", help="wrn-16-4, wrn-34-10, ..., cnn or mlp")
    add("--method", metavar="NAME", help="standard, pgd-10, dynamic-0.5, gradient-penalty-1, ...")
    add("--radius", type=_positive, help="of the attack, in grey values, such as 0.15 or 8/255")
    for name, least, what in (
        ("epochs", 1, "passes over the training images"),
        ("batch", 1, "images per step, of all processes together"),
        ("size", 4, "side of the images: 8, 16 or 32 for digits"),
        ("crop", 0, "random shifts of up to N pixels"),
        ("images", 1, "training images in use"),
        ("held-out", 0, "the last N of them are looked at after every epoch, not trained on"),
    ):
        add(f"--{name}", type=whole(least), metavar="N", help=what)
    for name, what in (
        ("lr", "learning rate"),
        ("momentum", "of the updates"),
        ("weight-decay", "of the updates"),
        ("decay", "factor of the learning rate at each milestone"),
    ):
        add(f"--{name}", type=_positive, metavar="V", help=what)
    add("--annealing", choices=("steps", "cosine"), help="of the learning rate")
    add("--milestones", type=_floats, metavar="LIST", help="0.5,0.75 of the epochs, or epochs")
    add("--precision", choices=training.PRECISIONS, help="of the forward passes")
    add("--task", choices=_TASKS, help="ten classes, or two")
    for flag, dest, what in (
        ("nesterov", "nesterov", "Nesterov's momentum"),
        ("flip", "flip", "mirror training images at random"),
        ("channels-last", "channels_last", "memory layout for tensor cores"),
        ("compile", "compiled", "compile the network; needs a C++ compiler"),
    ):
        add(f"--{flag}", dest=dest, action=argparse.BooleanOptionalAction, help=what)
    add = sub.add_argument
    add("--seed", type=whole(0), default=0, metavar="N", help="default: 0")
    add("--device", metavar="cpu|cuda", help="default: CUDA where it is present")
    add("--out", type=Path, required=True, metavar="FILE", help="the result, such as pgd.json")
    add("--checkpoint", type=Path, metavar="FILE", help="default: the result's name .checkpoint")
    add("--weights", type=Path, metavar="FILE", help="keep the trained weights here")
    add("--test", type=whole(1), metavar="N", help="only the first N test images")
    add("--steps", type=whole(1), default=40, metavar="N", help="of the test's attack; 40")
    add("--restarts", type=whole(0), default=1, metavar="N", help="of the test's attack; 1")
    add("--autoattack", type=whole(0), default=0, metavar="N", help="on N test images; default: 0")

    sub = commands.add_parser("throughput", help="measure images per second on this device")
    add = sub.add_argument
    add("--network", default="wrn-16-4", metavar="NAME", help="default: %(default)s")
    for name, least, usual, what in (
        ("channels", 1, 3, "of an image"),
        ("size", 4, 32, "side of an image"),
        ("classes", 2, 10, "of the network"),
        ("batch", 1, 128, "images per step"),
        ("batches", 1, 4, "per measurement"),
        ("steps", 0, 10, "of the attack"),
        ("rounds", 1, 3, "measurements of each"),
        ("seed", 0, 0, "of weights and images"),
    ):
        text = f"{what}; default: {usual}"
        add(f"--{name}", type=whole(least), default=usual, metavar="N", help=text)
    add("--compile", dest="compiled", action="store_true", help="measure the compiled model too")
    add("--device", metavar="cpu|cuda", help="default: CUDA where it is present")
    add("--out", type=Path, required=True, metavar="FILE", help="the result, such as speed.json")

    sub = commands.add_parser("price", help="hours of a plan, from what throughput measured")
    add = sub.add_argument
    add("--throughput", type=Path, nargs="+", required=True, metavar="FILE", help="measurements")
    add("--networks", nargs="+", default=["wrn-16-4", "wrn-34-10"], metavar="NAME")
    add("--images", type=whole(1), default=50000, metavar="N", help="default: %(default)s")
    add("--epochs", type=whole(1), default=110, metavar="N", help="default: %(default)s")
    add("--seeds", type=whole(1), default=3, metavar="N", help="default: %(default)s")
    peak = "TFLOP/s of the card's data sheet: a bound for direct convolutions, whose algorithm "
    peak += "makes every product (Winograd's makes fewer)"
    add("--peak", type=_positive, metavar="V", help=peak)
    return parser


def _train(args: argparse.Namespace) -> int:
    """The command ``train``."""
    fields = {f.name for f in dataclasses.fields(Recipe)} - {"data"}
    changes = {k: v for k, v in vars(args).items() if k in fields}
    names = ("folder", "seed", "device", "checkpoint", "weights", "test", "steps", "restarts")
    options = {name: getattr(args, name) for name in (*names, "autoattack")}
    found = train(recipe(args.data, **changes), args.out, **options)
    if int(os.environ.get("RANK", "0")):
        return 0
    if found is None:
        print(f"{args.out} holds this result already")
        return 0
    test = found["test"]
    more = f", AutoAttack {test['autoattack']}" if "autoattack" in test else ""
    print(
        f"test part: clean {test['clean']:.4f}, under attack {test['robust']:.4f}{more}\n"
        f"wrote {args.out}"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; see the head of this module.

    Returns
    -------
    int
        0, or 1, 2 or 130, each after one line on standard error.
    """
    args = _parser().parse_args(argv)
    command = {"train": _train, "throughput": _measure, "price": _prices}[args.command]
    try:
        return command(args)
    except Stopped as error:
        print(error, file=sys.stderr, flush=True)
        return error.status
    except KeyboardInterrupt:
        again = "goes on" if args.command == "train" else "starts again"
        print(f"stopped; the same command {again}", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if not int(os.environ.get("RANK", "0")):
            print(" ".join(str(error).split()), file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
