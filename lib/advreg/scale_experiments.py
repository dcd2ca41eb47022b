r"""The experiments of chapter 8, each with one command: chapters 5 to 7 on wide residual networks.

    python -m advreg.scale_experiments NAME --data digits --seeds 0-3 --out FILE

NAME is one of::

    methods      training methods against one another: accuracies, cost, FOSC
    early-late   weak and strong attacks swapped at half time, under two rates and two decays
    swap         how far the mean gap moves while summaries of the data stay what they are
    freezing     adversarial training of the last groups of a network, the first ones frozen
    wasserstein  worst-case errors of order 1 and infinity, from distances to the nearest error

By default they run on enlarged digits with the smallest wide residual network, on a CPU.  The same
command with ``--data cifar10 --folder DIR --network wrn-16-4 --device cuda`` runs the same code on
CIFAR-10 and a GPU; :data:`DEFAULTS` holds what each data set gets where nothing else is said.

Every row belongs to one seed and one "method".  Within a seed, data split, initial weights and
order of the samples are the same for all methods, so methods are compared in pairs.  A finished
seed, and every epoch of a training, is kept at once in the folder ``FILE.partial``: the same
command, interrupted, goes on where it stopped.  Results are written and read like those of chapter
5 (:mod:`advreg.experiments`).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq, linprog
from torch import Tensor, nn

from advreg import (
    attacks,
    data,
    experiments,
    networks,
    scale,
    training,
    twolayer,
    wdro,
    wdro_attacks,
)
from advreg import device as devices
from advreg.twolayer_experiments import principal_scores

__all__ = ["DEFAULTS", "EXPERIMENTS", "Images", "Job", "Trained", "images", "load", "main"]
__all__ += ["certified_radii", "feature_bound", "network", "trained"]

#: What a data set needs where the command line says nothing: settings of a training, test images
#: that are looked at, and images that AutoAttack attacks.
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {
        "network": "wrn-10-1",
        "size": 16,
        "radius": 0.15,
        "epochs": 12,
        "batch": 50,
        "lr": 0.1,
        "weight_decay": 0.0,
        "images": 1000,
        "test": 300,
        "autoattack": 50,
    },
    "mnist": {
        "network": "wrn-10-1",
        "size": 28,
        "radius": 0.3,
        "epochs": 20,
        "batch": 100,
        "lr": 0.1,
        "weight_decay": 0.0,
        "images": 60000,
        "test": 10000,
        "autoattack": 1000,
    },
    "cifar10": {
        "network": "wrn-16-4",
        "size": 32,
        "radius": 8 / 255,
        "epochs": 30,
        "batch": 128,
        "lr": 0.1,
        "weight_decay": 5e-4,
        "images": 50000,
        "test": 10000,
        "autoattack": 1000,
    },
}
#: What an experiment on a data set has otherwise.  The swap test needs attacks without a box: with
#: one, the gap of a linear model, its control, is no function of the margin.
_SCORE = {"box": False, "radius": 0.08, "epochs": 8, "lr": 0.05, "weight_decay": 5e-4}
OTHERWISE: dict[tuple[str, str], dict[str, Any]] = {
    ("swap", "digits"): _SCORE | {"test": 797},
    ("wasserstein", "digits"): {"autoattack": 20},
    ("swap", "mnist"): {"box": False, "radius": 0.1},
    ("swap", "cifar10"): {"box": False},
    ("freezing", "digits"): _SCORE | {"images": 600, "test": 400},
    ("freezing", "mnist"): {"box": False, "radius": 0.1},
    ("freezing", "cifar10"): {"box": False},
}
_CLASSES = {"all": 10, "two": 2}


# ------------------------------------------------------------------------------- the frame


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything about the runs of a command but the seed; what an experiment is handed.

    Attributes
    ----------
    data : "digits", "mnist" or "cifar10"
    folder : str or None
        Where the files of mnist and cifar10 are.
    network : str
        As :func:`advreg.networks.named` takes it.
    size : int
        Side of the images.
    radius : float
        Of the l-infinity ball, in grey values of [0, 1].
    epochs, batch, lr, weight_decay
        Of every training; momentum is 0.9.
    images, test, autoattack : int
        Training images, test images that are looked at, and those that AutoAttack attacks (of
        these the first; 0 for none).
    device, precision : str
        Where it runs, and "float32" or "bfloat16" of training (see `advreg.training.fit`).
    channels_last : bool
        Memory format of training.
    box : bool
        Whether attacked images stay in [0, 1].
    partial : str
        Folder of checkpoints; empty for none.
    """

    data: str = "digits"
    folder: str | None = None
    network: str = "wrn-10-1"
    size: int = 16
    radius: float = 0.15
    epochs: int = 12
    batch: int = 50
    lr: float = 0.1
    weight_decay: float = 0.0
    images: int = 1000
    test: int = 300
    autoattack: int = 50
    device: str = "cpu"
    precision: str = "float32"
    channels_last: bool = False
    box: bool = True
    partial: str = ""

    @property
    def ball(self) -> attacks.Ball:
        """The feasible set: l-infinity, with the box [0, 1] or without."""
        return (
            attacks.Ball(self.radius)
            if self.box
            else attacks.Ball(self.radius, high=None, low=None)
        )


class Images(NamedTuple):
    """Training and test part on the device: x (n, channels, size, size), y (n,) integers."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def images(job: Job, seed: int, task: str = "all") -> Images:
    """The data of a seed; only the digits are split anew for each, the others stay as published.

    Parameters
    ----------
    job : Job
    seed : int
        Of the split.
    task : "all" or "two"
        All ten classes, or two: odd digits are 1 and even ones 0, animals are 1 and vehicles 0.

    Raises
    ------
    ValueError
        If `task` is unknown.
    """
    if task not in _CLASSES:
        raise ValueError(f"task must be 'all' or 'two', got {task!r}")
    return _read(dataclasses.replace(job, partial=""), seed if job.data == "digits" else 0, task)


@functools.lru_cache(maxsize=4)
def _read(job: Job, seed: int, task: str) -> Images:
    if job.data == "digits":
        whole = data.digits(np.random.default_rng(seed), train=job.images, size=job.size)
    else:
        whole = getattr(data, job.data)(job.folder)
    parts = []
    for x, y, limit in ((*whole[:2], job.images), (*whole[2:], job.test)):
        labels = scale.two_classes(y[:limit], job.data) if task == "two" else y[:limit]
        parts += [torch.from_numpy(part).to(job.device) for part in (x[:limit], labels)]
    return Images(*parts)


def network(job: Job, seed: int, task: str = "all") -> nn.Sequential:
    """The untrained network of a seed, on the device."""
    return networks.named(
        job.network,
        _CLASSES[task],
        channels=3 if job.data == "cifar10" else 1,
        size=job.size,
        generator=torch.Generator().manual_seed(seed),
        device=job.device,
    )


class Trained(NamedTuple):
    """A trained network and the history of its training."""

    model: nn.Module
    history: training.History


def trained(
    job: Job,
    method: str,
    seed: int,
    task: str = "all",
    *,
    model: nn.Module | None = None,
    name: str = "",
    **options: Any,
) -> Trained:
    """Train a network, or go on from what `job.partial` keeps of that training.

    Parameters
    ----------
    job : Job
    method : str
        As :func:`advreg.experiments.schedule` takes it, for example "pgd-10".
    seed : int
        Of split, weights, order and random starts.
    task : "all" or "two"
    model : torch.nn.Module, optional
        What is trained instead of :func:`network`; trained in place.
    name : str
        What tells two trainings of one method, task and seed apart, in the name of the checkpoint.
    **options
        Other arguments of :func:`advreg.training.fit` than the job's.

    Returns
    -------
    Trained
        A second call with the same arguments reads the finished checkpoint.
    """
    parts = images(job, seed, task)
    model = network(job, seed, task) if model is None else model
    keep = "-".join(word for word in (method, name, task, str(seed)) if word).replace("/", "_")
    settings: dict[str, Any] = {
        "epochs": job.epochs,
        "batch": job.batch,
        "lr": job.lr,
        "weight_decay": job.weight_decay,
        "seed": seed,
        "device": job.device,
        "precision": job.precision,
        "checkpoint": Path(job.partial) / f"{keep}.pt" if job.partial else None,
        "progress": False,
    }
    if job.channels_last:
        settings["channels_last"] = True
    if job.data == "cifar10":
        settings["augment"] = training.crop_and_flip()
    settings |= options
    history = training.fit(
        model,
        parts.train_x,
        parts.train_y,
        job.ball,
        experiments.schedule(method, settings["epochs"]),
        **settings,
    )
    return Trained(model.eval(), history)


# ------------------------------------------------------------------------- the experiments


#: What `methods` compares; the numbers are thresholds of dynamic training in nats.
METHODS = (
    "standard",
    "gradient-penalty-1",
    "dynamic-0.5",
    "dynamic-0.1",
    "pgd-10",
)
#: What `early-late` compares: rates, factors on them at half time, and for each the orders; L is
#: one step of a quarter of the radius and H ten of them.
EARLY_LATE = {
    f"{order} lr={scale:g} decay={decay:g}": {"order": order, "scale": scale, "decay": decay}
    for scale in (1.0, 0.5)
    for decay in (1.0, 0.1)
    for order in (("HH", "LH", "HL", "LL") if scale == 1 else ("LH", "HL"))
}
LEVELS = (0.1, 0.5)  # nats: shares of clean points whose FOSC is at most this
WATCHED = 100  # training images that are looked at after every epoch


def _generator(seed: int) -> torch.Generator:
    """Of random starts; on the CPU, so that every device sees the same."""
    return torch.Generator().manual_seed(seed)


def _robust(job: Job, model: nn.Module, parts: Images, seed: int) -> attacks.Evaluation:
    """Four attacks of 20 long and 20 short steps each, on the test images that are looked at."""
    return attacks.worst_of(
        model,
        parts.test_x,
        parts.test_y,
        job.ball,
        steps=20,
        restarts=1,
        generator=_generator(seed),
    )


def _quantiles(values: Tensor) -> list[float]:
    return np.quantile(values.double().cpu().numpy(), experiments.QUANTILES).tolist()


def _look(epoch: int, model: nn.Module, *, job: Job, seed: int) -> dict[str, list[float]]:
    """FOSC of some training images, at x and after PGD-10 from x."""
    x, y = (part[:WATCHED] for part in images(job, seed)[:2])
    found = attacks.pgd(model, x, y, job.ball, steps=10)
    clean = attacks.fosc(model, x, y, x, job.ball)
    return {"clean": _quantiles(clean), "pgd10": _quantiles(found.fosc)}


def _methods(job: Job, seed: int) -> list[dict[str, Any]]:
    """Train with every method; accuracies, cost, FOSC, and what PGD-10 misses."""
    parts, rows = images(job, seed), []
    x, y = parts.test_x, parts.test_y
    for method in METHODS:
        watch = functools.partial(_look, job=job, seed=seed)
        model, history = trained(job, method, seed, monitor=watch)
        worst = _robust(job, model, parts, seed)
        ten, long = (_climbed(job, model, x, y, steps) for steps in (10, 60))
        row = {
            "method": method,
            "seed": seed,
            "clean": worst.clean_accuracy,
            "pgd10": float((ten.margins < 0).double().mean()),
            "robust": worst.accuracy,
            "passes": float(np.mean(history.passes)),
            "fosc_clean": _quantiles(ten.clean),
            "fosc_pgd10": _quantiles(ten.fosc),
            "below": [float((ten.clean <= level).double().mean()) for level in LEVELS],
            "gain": float((ten.losses - ten.start).mean()),
            **_missed(ten, long),
        }
        if job.autoattack:
            count = min(job.autoattack, len(y))
            row["autoattack"] = experiments.autoattack(model, x, y, job.radius, count, seed)
            row["robust_same"] = float(worst.robust[:count].double().mean())
        row["passes_by_epoch"] = history.passes
        row["loss_by_epoch"] = history.loss
        for key in ("clean", "pgd10"):
            row[f"fosc_{key}_by_epoch"] = [line[key] for line in history.monitored]
        rows.append(experiments.rounded(row))
    return rows


class _Points(NamedTuple):
    """Losses and FOSC at x, and losses, FOSC and margins at the points that an attack reached."""

    start: Tensor
    clean: Tensor
    losses: Tensor
    fosc: Tensor
    margins: Tensor


def _climbed(job: Job, model: nn.Module, x: Tensor, y: Tensor, steps: int) -> _Points:
    """PGD from x: ten steps of the length radius / 4, and what is left of `steps` a tenth of it."""
    found = []
    for a, b in zip(x.split(500), y.split(500), strict=True):
        start, g = attacks.loss_and_gradient(model, a, b)
        run = attacks.pgd(model, a, b, job.ball, steps=min(steps, 10))
        if steps > 10:
            more = {"step": job.radius / 40, "start": run.points, "keep": "best"}
            run = attacks.pgd(model, a, b, job.ball, steps=steps - 10, **more)
        with torch.no_grad(), attacks.evaluating(model):
            lead = attacks.margin(model(run.points), b)
        found.append((start, job.ball.fosc(g, a, a), run.losses, run.fosc, lead))
    return _Points(*map(torch.cat, zip(*found, strict=True)))


def _missed(ten: _Points, long: _Points) -> dict[str, float | None]:
    """What PGD-10 misses of the loss that 50 shorter steps more find, and how FOSC ranks it."""
    missed = (long.losses - ten.losses).double().cpu().numpy()
    fosc = ten.fosc.double().cpu().numpy()
    ties = len(set(missed)) < 2 or len(set(fosc)) < 2
    rank = None if ties else float(stats.spearmanr(fosc, missed).statistic)
    return {
        "missed": float(missed.mean()),
        "bound_ratio": float(missed.mean() / fosc.mean()) if fosc.mean() > 0 else None,
        "above": float((missed > fosc).mean()),
        "rank": rank,
    }


def _early_late(job: Job, seed: int) -> list[dict[str, Any]]:
    """Swap weak and strong attacks at half time, together with the learning rate."""
    parts, rows = images(job, seed), []
    for name, setting in EARLY_LATE.items():
        order, lr, decay = setting["order"], setting["scale"] * job.lr, setting["decay"]
        model, history = trained(
            job,
            order,
            seed,
            name=f"{lr:g}-{decay:g}",
            lr=lr,
            decay=decay,
            milestones=(max(1, job.epochs // 2),),
        )
        worst = _robust(job, model, parts, seed)
        row = {
            "method": name,
            "seed": seed,
            "order": order,
            "lr": lr,
            "decay": decay,
            "clean": worst.clean_accuracy,
            "robust": worst.accuracy,
            "passes": float(np.mean(history.passes)),
            "loss_by_epoch": history.loss,
            "accuracy_by_epoch": history.accuracy,
        }
        rows.append(experiments.rounded(row))
    return rows


# ------------------------------------------------------------------------------- swap tests

#: What the swap tests match in each class, rung by rung: leading principal components of the
#: pixels and of the features, bins of the scores, and whether losses and slopes are matched.
SWAP_RUNGS = (
    (0, 0, 0, False),
    (10, 0, 0, False),
    (10, 10, 0, False),
    (10, 10, 10, False),
    (10, 10, 10, True),
    (10, 10, 40, True),
    (10, 10, 80, True),
)
#: The rung at whose two laws a stronger attack looks again.
LOOK_AGAIN = 4
SWAP_METHODS = ("standard", "gradient-penalty-1", "pgd-10")


def in_parts(call: Callable[..., Tensor], *tensors: Tensor, batch: int = 200) -> NDArray:
    """Concatenated values of `call` on parts of the samples, as a float64 array."""
    parts = zip(*(tensor.split(batch) for tensor in tensors), strict=True)
    return np.concatenate([call(*part).detach().cpu().numpy() for part in parts]).astype(float)


def scores(model: nn.Module, x: Tensor) -> NDArray:
    """Scores f = second logit minus first, shape (n,), float64; the model in evaluation mode."""
    with torch.no_grad(), attacks.evaluating(model):
        return in_parts(lambda z: model(z).double().diff(dim=1)[:, 0], x)


def score_slopes(model: nn.Module, x: Tensor) -> NDArray:
    """The l1 norm of the input gradient of the score, shape (n,): dual to an l-infinity attack."""

    def norms(z: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        (g,) = torch.autograd.grad(model(z).diff(dim=1).sum(), z)
        return g.abs().flatten(1).sum(dim=1)

    with attacks.evaluating(model):
        return in_parts(norms, x)


def signed(y: Tensor) -> NDArray:
    """Labels 0, 1 as -1.0, 1.0."""
    return 2.0 * y.cpu().numpy() - 1


def gap_at_margin(margins: NDArray, drop: float) -> NDArray:
    """Pointwise gap of the logistic loss where every margin t falls by `drop`, in nats:
    log(1 + exp(drop - t)) - log(1 + exp(-t)); exact for linear models and last-layer adversaries.
    """
    return np.logaddexp(0, drop - margins) - np.logaddexp(0, -margins)


def found_gaps(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: attacks.Ball,
    *,
    steps: int = 40,
    restarts: int = 1,
    step: float | None = None,
    seed: int = 0,
) -> NDArray:
    """Pointwise gaps of the logistic loss that projected gradients find: LOWER bounds of the gaps.

    Parameters
    ----------
    model : torch.nn.Module
        Two logits; the loss is log(1 + exp(-margin)), in nats.
    x, y : tensors, shapes (n, ...) and (n,)
        Inputs; labels 0 or 1.
    ball : advreg.attacks.Ball
    steps, restarts, step, seed
        One attack from the clean inputs and `restarts` from random points; `step` as in
        :func:`advreg.attacks.pgd`.

    Returns
    -------
    array, shape (n,), float64
        Not negative: the clean input is one of the points compared.
    """
    generator = torch.Generator().manual_seed(seed)
    options = {"steps": steps, "step": step, "loss": attacks.margin, "keep": "best"}

    def worst(z: Tensor, labels: Tensor) -> Tensor:
        found = attacks.pgd(model, z, labels, ball, **options).points
        lost = attacks.margin(model(found), labels)
        if restarts:
            more = attacks.pgd(
                model, z, labels, ball, generator=generator, restarts=restarts, **options
            )
            lost = torch.maximum(lost, attacks.margin(model(more.points), labels))
        return torch.stack([lost, attacks.margin(model(z), labels)], dim=1)

    with attacks.evaluating(model), torch.no_grad():
        lost, clean = in_parts(worst, x, y).T
    return np.logaddexp(0, np.maximum(lost, clean)) - np.logaddexp(0, clean)


def swap_statistics(
    f: NDArray,
    y: NDArray,
    slope: NDArray,
    pixels: NDArray,
    features: NDArray,
    rungs: Sequence[tuple[int, int, int, bool]] = SWAP_RUNGS,
) -> list[NDArray]:
    """Statistics T of every rung, shapes (n, m): class masses, components, score bins, local ones.

    Parameters
    ----------
    f, y, slope : arrays, shape (n,)
        Scores, labels -1 or 1, and norms of the score's gradient.
    pixels, features : arrays, shape (n, at least what the rungs ask for)
        Principal components.
    rungs : sequence
        As `SWAP_RUNGS`.  "Local": the loss and the norms of the gradients of score and loss.
    """
    losses = np.logaddexp(0, -y * f)
    near = np.column_stack([losses, slope, slope * -np.expm1(-losses)])
    found = []
    for p, q, bins, local in rungs:
        T = np.hstack([pixels[:, :p], features[:, :q], near[:, : 3 * local]])
        T = twolayer.by_class(T, y) if T.shape[1] else (y > 0)[:, None] * 1.0
        found.append(np.hstack([T, twolayer.margin_bins(f, y, bins)]) if bins else T)
    return found


def matching_drop(margins: NDArray, mean: float) -> float:
    """The drop of all margins whose mean :func:`gap_at_margin` is `mean`, positive."""
    high = 1.0
    while gap_at_margin(margins, high).mean() < mean:
        high *= 2
    return brentq(lambda drop: gap_at_margin(margins, drop).mean() - mean, 0.0, high, xtol=1e-13)


def swap_row(
    model: nn.Module,
    linear: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: attacks.Ball,
    *,
    seed: int = 0,
    steps: int = 40,
    again: tuple[int, int] = (60, 3),
    rungs: Sequence[tuple[int, int, int, bool]] = SWAP_RUNGS,
) -> dict[str, Any]:
    """Swap intervals on the pool (x, y) of a network, and of its two controls, rung by rung.

    Parameters
    ----------
    model, linear : torch.nn.Module
        Two logits each; all but the last child of `model` are its features, and the last child
        of `linear` is a linear layer on the pixels.
    x, y : tensors
        The pool; labels 0 or 1.
    ball : advreg.attacks.Ball
        l-infinity without a box (with one, the gap of a linear model is no function of margins).
    seed, steps
        Of the attack: from the clean input and from one random start.
    again : (int, int)
        Steps and random starts of the stronger attack on the atoms of the two laws of rung
        `LOOK_AGAIN`, with steps of a tenth of the radius.
    rungs : sequence
        As `SWAP_RUNGS`.

    Returns
    -------
    dict
        "actual": mean gap found, nats.  "lower" and "upper", per rung, as multiples of it; the
        same with the prefixes ``features_`` for the adversary of the last layer that has the same
        mean gap, and ``linear_`` for the linear model, as multiples of its own.  "again": mean gaps
        of the stronger attack at the two laws of rung `LOOK_AGAIN`, as multiples of "actual".
        "statistics": numbers of statistics; "slack": the largest of the network's programs;
        "clean", "robust": accuracies (robust: against the attack found).
    """
    if ball.norm != np.inf or ball.low is not None or ball.high is not None:
        raise ValueError("the swap test needs an l-infinity ball without a box (low=high=None)")
    labels, f, g = signed(y), scores(model, x), scores(linear, x)
    gaps = found_gaps(model, x, y, ball, steps=steps, seed=seed)
    with torch.no_grad(), attacks.evaluating(model):
        phi = in_parts(lambda z: model[:-1](z).flatten(1), x)
    pixels = principal_scores(x.flatten(1).cpu().numpy().astype(float), 10)
    features = principal_scores(phi, 10)
    levels = swap_statistics(f, labels, score_slopes(model, x), pixels, features, rungs)
    drop = matching_drop(labels * f, gaps.mean())
    weight = linear[-1].weight.detach().double().cpu().numpy()
    steep = np.abs(weight[1] - weight[0]).sum()
    theirs = swap_statistics(g, labels, np.full(len(g), steep), pixels, features, rungs)
    found = [twolayer.swap_interval(gaps, T) for T in levels]
    last = [twolayer.swap_interval(gap_at_margin(labels * f, drop), T) for T in levels]
    flat = gap_at_margin(labels * g, ball.radius * steep)
    control = [twolayer.swap_interval(flat, T) for T in theirs]
    row: dict[str, Any] = {"actual": float(gaps.mean()), "drop": drop}
    for name, intervals in (("", found), ("features_", last), ("linear_", control)):
        for k, end in enumerate(("lower", "upper")):
            row[name + end] = [interval.relative[k] for interval in intervals]
    one = found[min(LOOK_AGAIN, len(found) - 1)]
    atoms = np.flatnonzero((one.weights_lower > 0) | (one.weights_upper > 0))
    where = torch.as_tensor(atoms, device=x.device)
    more = gaps.copy()
    stronger = {"steps": again[0], "restarts": again[1], "step": ball.radius / 10}
    tried = found_gaps(model, x[where], y[where], ball, seed=seed + 1, **stronger)
    more[atoms] = np.maximum(gaps[atoms], tried)
    return row | {
        "again": [float(p @ more) / row["actual"] for p in (one.weights_lower, one.weights_upper)],
        "statistics": [T.shape[1] for T in levels],
        "slack": max(interval.slack for interval in found),
        "clean": float((labels * f > 0).mean()),
        "robust": float((np.logaddexp(0, -labels * f) + gaps < np.log(2)).mean()),
        "linear_clean": float((labels * g > 0).mean()),
    }


def _swap(job: Job, seed: int) -> list[dict[str, Any]]:
    parts = images(job, seed, "two")
    pixels = parts.train_x[0].numel()
    start = networks.mlp((pixels, 2), generator=torch.Generator().manual_seed(seed))
    linear = trained(job, "standard", seed, "two", model=start, name="linear").model
    rows = []
    for method in SWAP_METHODS:
        model = trained(job, method, seed, "two").model
        row = swap_row(model, linear, parts.test_x, parts.test_y, job.ball, seed=seed)
        rows.append({"method": method, "seed": seed, **row})
    return rows


# --------------------------------------------------------------------------- partial freezing

SOURCES = ("random", "standard", "pgd-5")
#: Radii, as multiples of that of training, at which frozen features are asked for collapse.
COLLAPSE_SCALES = (0.5, 1.0)
FREEZING = ("standard", "pgd-5", *(f"{s}|{j}" for j in range(4) for s in SOURCES))


class Frozen(nn.Sequential):
    """A network whose first part stays as it is: its weights, and its batch normalizations in
    evaluation mode, whatever mode the whole is put into.

    Parameters
    ----------
    frozen, rest : torch.nn.Module
        The network is rest(frozen(x)); the parameters of `frozen` no longer require gradients.
    """

    def __init__(self, frozen: nn.Module, rest: nn.Module) -> None:
        super().__init__(OrderedDict(frozen=frozen.requires_grad_(False), rest=rest))
        self.train(self.training)

    def train(self, mode: bool = True) -> Frozen:
        """As ``torch.nn.Module.train``, but the frozen part is in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self


def frozen(source: nn.Sequential, fresh: nn.Sequential, groups: int) -> Frozen:
    """First part of one wide residual network, which is frozen, and the rest of another one.

    Parameters
    ----------
    source, fresh : as from :func:`advreg.networks.wide_resnet`, of equal shape
        Neither is changed: the parts are copies.
    groups : int, 0 to 3
        How many groups are frozen besides the first convolution; with 3 everything but the linear
        layer is.
    """
    names = [name for name, _ in source.named_children()]
    if not {"group1", "group2", "group3", "linear"} <= set(names):
        raise ValueError("freezing is for wide residual networks (advreg.networks.wide_resnet)")
    if groups not in (0, 1, 2, 3):
        raise ValueError(f"groups must be 0, 1, 2 or 3, got {groups!r}")
    cut = names.index(f"group{groups + 1}" if groups < 3 else "linear")
    return Frozen(copy.deepcopy(source[:cut]), copy.deepcopy(fresh[cut:]))


def calibrated(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy whose batch normalizations have the mean statistics of `x`, the weights as they are.

    Features of random weights without this would be normalized by numbers that fit nothing.
    """
    model = copy.deepcopy(model)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    with torch.no_grad():
        model.train()
        for part in x.split(100):
            model(part)
    for layer, momentum in zip(norms, kept, strict=True):
        layer.momentum = momentum
    return model.eval()


class DeepCollapse(NamedTuple):
    """Whether strategies were found that make the class means of the features equal.

    `status`: "collapse", the constant predictor is optimal over these features, up to `rest`: the
    l1 distance of the class means under the mixture found, over the mean l1 norm of the features;
    or "open": the attack found no such mixture, which proves nothing.  `cuts` (K, k): the class
    mean of label 0 minus that of label 1, per strategy; `weights` (K,): the mixture.
    """

    status: str
    rest: float
    cuts: NDArray
    weights: NDArray


def deep_collapse(
    features: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: attacks.Ball,
    known: ArrayLike = (),
    *,
    steps: int = 6,
    rounds: int = 150,
    tolerance: float = 1e-7,
) -> DeepCollapse:
    r"""Look for a random strategy of the adversary that makes the class means of features equal.

    If there is one, no linear layer on top has a smaller adversarial risk than a constant
    (prop-frozen-head).  Cutting planes: the direction v that separates the means of the
    strategies known so far best, a linear program; then projected gradients against v . Phi, which
    give one strategy more.  Strategies need not be optimal, so the answer "collapse" needs no
    exact attack.

    Parameters
    ----------
    features : torch.nn.Module
        Phi, maps (n, ...) to (n, k); used in evaluation mode.
    x, y : tensors
        Inputs; labels 0 and 1, both present.
    ball : advreg.attacks.Ball
    known : array (K, k), optional
        Cuts of a smaller radius.
    steps, rounds : int
        Of the attack, each a third of the radius long, and cuts at most.
    tolerance : float
        Largest `rest` that counts as equal.

    Returns
    -------
    DeepCollapse
    """
    labels = signed(y)
    if len(set(labels)) < 2:
        raise ValueError("collapse needs samples of both labels")
    share = np.where(labels < 0, 1 / (labels < 0).sum(), -1 / (labels > 0).sum())
    exact = copy.deepcopy(features).double().eval()

    def values(z: Tensor) -> NDArray:
        with torch.no_grad():
            return in_parts(lambda part: exact(part.double()), z)

    clean = values(x)
    size = np.abs(clean).sum(axis=1).mean() or 1.0
    cuts, k = [share @ clean / size, *np.asarray(known, float)], clean.shape[1]
    with attacks.evaluating(features):
        for done in range(rounds + 1):  # one program more than cuts
            G = np.array(cuts)
            box = [(-1, 1)] * k + [(None, None)]
            rows = np.column_stack([G, -np.ones(len(G))])
            answer = linprog(np.append(np.zeros(k), 1.0), rows, np.zeros(len(G)), bounds=box)
            mixture = np.maximum(-answer.ineqlin.marginals, 0)
            mixture /= mixture.sum()
            rest = float(np.abs(mixture @ G).sum())
            if rest <= tolerance:
                return DeepCollapse("collapse", rest, G, mixture)
            if done == rounds:
                break
            v = torch.as_tensor(answer.x[:k], dtype=x.dtype, device=x.device)
            points = attacks.pgd(
                features,
                x,
                y,
                ball,
                steps=steps,
                step=ball.radius / 3,
                loss=lambda phi, label, v=v: (1 - 2 * label) * (phi @ v),
                report=False,
            ).points
            cut = share @ values(points) / size
            if cut @ answer.x[:k] <= 0:
                break
            cuts.append(cut)
    return DeepCollapse("open", rest, np.array(cuts), mixture)


def _freezing(job: Job, seed: int) -> list[dict[str, Any]]:
    parts = images(job, seed, "two")
    fresh = network(job, seed + 1000, "two")
    sources = {"random": calibrated(network(job, seed, "two"), parts.train_x)}
    rows = []
    for name in FREEZING:
        source, _, groups = name.partition("|")
        row: dict[str, Any] = {"method": name, "seed": seed}
        if groups:
            model = frozen(sources[source], fresh, int(groups))
            label = f"frozen-{source}-{groups}"
            model = trained(job, "pgd-5", seed, "two", model=model, name=label).model
        else:
            model = sources[name] = trained(job, name, seed, "two").model
        y = signed(parts.test_y)
        f = scores(model, parts.test_x)
        gaps = found_gaps(model, parts.test_x, parts.test_y, job.ball, steps=20, restarts=0)
        row["clean"] = float((y * f > 0).mean())
        row["robust"] = float((np.logaddexp(0, -y * f) + gaps < np.log(2)).mean())
        row["risk"] = float((np.logaddexp(0, -y * f) + gaps).mean())
        row["spread"] = float(f.std())
        if groups == "3":
            known, row["collapse"], row["rest"] = (), [], []
            few = parts.train_x[:100], parts.train_y[:100]
            for scale in COLLAPSE_SCALES:
                if "collapse" not in row["collapse"]:  # what holds, holds for larger radii
                    ball = dataclasses.replace(job.ball, radius=scale * job.radius)
                    answer = deep_collapse(model.frozen, *few, ball, known)
                    known = answer.cuts[1:]
                row["collapse"].append(answer.status)
                row["rest"].append(answer.rest)
            row["cuts"] = len(answer.cuts)
        rows.append(row)
    return rows


# ------------------------------------------------- worst-case errors of order 1 and infinity

WASSERSTEIN = ("standard", "gradient-penalty-1", "pgd-10")
#: Radii at which fixed-radius attacks run, as multiples of that of training.
WASSERSTEIN_SCALES = (1 / 3, 1.0)
#: Distances at which points of large loss are looked for, as multiples too, as far as the box goes.
WASSERSTEIN_LADDER = (1 / 3, 2 / 3, 1.0, 2.0, 4.0)
MEASURED = 60  # test images whose distance to the nearest error is looked for
GROWN = 20  # of these, images for which points of large loss are looked for
SEARCH: dict[str, int] = {"targets": 3, "steps": 20, "polish": 10}  # of the distance attack


def _row_sum(layer: nn.Conv2d, scale: Tensor | None = None) -> float:
    """Largest l1 norm of a filter of an ungrouped convolution, after the factors of a norm."""
    sums = layer.weight.detach().double().abs().sum(dim=(1, 2, 3))
    return float((sums if scale is None else sums * scale).max())


def _factors(layer: nn.BatchNorm2d) -> Tensor:
    """|weight| / sqrt(var + eps), what a batch normalization multiplies by in evaluation mode."""
    assert layer.running_var is not None
    return layer.weight.detach().double().abs() / (layer.running_var.double() + layer.eps).sqrt()


def feature_bound(model: nn.Sequential) -> float:
    r"""Product bound of the slope of a wide residual network up to its linear layer, in l-infinity.

    max |h(x) - h(x')| <= L max |x - x'| for the features h in evaluation mode.  A convolution
    multiplies distances by the largest l1 norm of its filters at most, a normalization by its
    largest factor |weight| / sqrt(var + eps), ReLU and means by 1; chains multiply, and the two
    branches of a block add.  A normalization right after a convolution is merged with it.

    Parameters
    ----------
    model : torch.nn.Sequential
        As from :func:`advreg.networks.wide_resnet`, with activation "relu" and without dropout.

    Returns
    -------
    float
        L, with rounding of the weights of the model but none of its own beyond float64.

    Raises
    ------
    ValueError
        If the model is no such network.

    Notes
    -----
    Source: Observation ``obs-deep-vacuous`` (chapter 8).
    """
    names = [name for name, _ in model.named_children()]
    known = ["conv", "group1", "group2", "group3", "norm", "act", "mean", "flatten", "linear"]
    if names != known or not isinstance(model.act, nn.ReLU):
        raise ValueError("the bound is for wide residual networks with activation 'relu'")
    bound = _row_sum(model.conv)
    for group in (model.group1, model.group2, model.group3):
        for block in group:
            first = float(_factors(block.norm1).max())
            branch = first * _row_sum(block.conv1, _factors(block.norm2)) * _row_sum(block.conv2)
            straight = 1.0 if block.shortcut is None else first * _row_sum(block.shortcut)
            bound *= straight + branch
    return bound * float(_factors(model.norm).max())


def certified_radii(model: nn.Sequential, x: Tensor, y: Tensor) -> NDArray:
    r"""Distances within which no error is, by :func:`feature_bound`: min_j (z_y - z_j) / L_yj.

    L_yj = L ||w_y - w_j||_1 with the rows w of the linear layer; 0 for errors.  The bound is
    exact mathematics; the logits z are those that the model computes.

    Returns
    -------
    array, shape (n,), float64
    """
    w = model.linear.weight.detach().double()
    slopes = feature_bound(model) * (w[:, None] - w).abs().sum(dim=2)[y]
    with torch.no_grad(), attacks.evaluating(model):
        z = torch.cat([model(part) for part in x.split(500)]).double()
    ahead = (z.gather(1, y[:, None]) - z) / slopes
    own = torch.nn.functional.one_hot(y, z.shape[1]).bool()
    return ahead.masked_fill(own, torch.inf).amin(dim=1).clamp_min(0).cpu().numpy()


def _wasserstein(job: Job, seed: int) -> list[dict[str, Any]]:
    """Distances to the nearest error, what attacks of fixed radius break, and growth of the loss.

    Everything an attack finds belongs to points in [0, 1]^d; the norm is l-infinity.
    """
    parts, rows = images(job, seed), []
    x, y = parts.test_x[:MEASURED], parts.test_y[:MEASURED]
    box: dict[str, float] = {"low": 0.0, "high": 1.0}
    for method in WASSERSTEIN:
        model = trained(job, method, seed).model
        with torch.no_grad():
            wrong = torch.cat([model(part) for part in parts.test_x.split(500)]).argmax(dim=1)
        found = wdro_attacks.nearest_errors(
            model, x, y, np.inf, **box, **SEARCH, generator=None
        ).distances
        row: dict[str, Any] = {
            "method": method,
            "seed": seed,
            "error": float((wrong != parts.test_y).double().mean()),
            "distances": found.tolist(),
            "certified": certified_radii(model, x, y).tolist(),
            "bound": feature_bound(model),
            "radii": [scale * job.radius for scale in WASSERSTEIN_SCALES],
        }
        row["broken"] = []
        for radius in row["radii"]:
            ball = attacks.Ball(radius)
            options = {"steps": 20, "restarts": 1, "generator": _generator(seed)}
            judged = attacks.worst_of(model, x, y, ball, **options)
            row["broken"].append((~judged.robust).long().tolist())
        if job.autoattack:
            answer = experiments.autoattack(model, x, y, job.radius, job.autoattack, seed)
            row["autoattack"] = None if answer is None else 1 - answer
        ladder = np.array(WASSERSTEIN_LADDER) * job.radius
        grown = wdro_attacks.growth_points(
            model, x[:GROWN], y[:GROWN], np.inf, ladder[ladder <= 1], steps=5, **box
        )
        row["grown_clean"] = float(grown.clean.mean())
        for order in (1, np.inf):
            gains = [wdro.allocate(grown.lists, r, order).value for r in row["radii"]]
            row[f"grown_{order}"] = gains
        rows.append(experiments.rounded(row, 6))
    return rows


# --------------------------------------------------------------------------------- the command

MODULE = "advreg.scale_experiments"

#: What an experiment does with a job and a seed, what it compares (stored as "methods"), the
#: default seeds, and all in words.
Experiment = tuple[Callable[[Job, int], list[dict[str, Any]]], Mapping[str, Any], str, str]
EXPERIMENTS: dict[str, Experiment] = {
    "methods": (_methods, dict.fromkeys(METHODS, ""), "0-3", "training methods at one radius"),
    "early-late": (_early_late, EARLY_LATE, "0-3", "weak and strong attacks swapped at half time"),
    "swap": (_swap, dict.fromkeys(SWAP_METHODS, ""), "0-3", "swap tests of deep networks"),
    "freezing": (
        _freezing,
        dict.fromkeys(FREEZING, ""),
        "0-2",
        "adversarial training of the last groups",
    ),
    "wasserstein": (
        _wasserstein,
        dict.fromkeys(WASSERSTEIN, ""),
        "0-3",
        "worst-case errors of order 1 and infinity",
    ),
}


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a result of this module and check it, as :func:`advreg.experiments.load` does.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message names the command that writes it.
    ValueError
        If the file is damaged or was edited.
    """
    return experiments.load(path, MODULE)


def _options(parser: argparse.ArgumentParser) -> None:
    """The options that the other modules of experiments do not have."""
    add, whole = parser.add_argument, experiments.whole_number
    add("--data", choices=DEFAULTS, default="digits", help="default: %(default)s")
    add("--folder", metavar="DIR", help="where the files of mnist or cifar10 are")
    add("--network", metavar="NAME", help="default: wrn-10-1, for cifar10 wrn-16-4")
    add("--size", type=whole(8), metavar="N", help="side of the digits, 8, 16 or 32; default: 16")
    add("--test", type=whole(1), metavar="N", help="test images that are looked at")
    add("--autoattack", type=whole(0), metavar="N", help="of these, images for AutoAttack")
    add("--batch", type=whole(1), metavar="N", help="training images per step")
    add("--jobs", type=whole(1), default=1, metavar="N", help="seeds at a time; default: 1")
    add("--device", metavar="cpu|cuda", help="default: CUDA where it is present")
    add("--precision", choices=training.PRECISIONS, default="float32", help="of training")
    add("--channels-last", action="store_true", help="memory format of training")


def _job(args: argparse.Namespace) -> Job:
    """The job of a command line.

    Raises
    ------
    ValueError
        If options do not fit each other, or the device or the network is none.
    """
    if args.data != "digits" and args.folder is None:
        raise ValueError(f"--data {args.data} needs --folder DIR: where its files are")
    if args.data != "digits" and args.size not in (None, DEFAULTS[args.data]["size"]):
        raise ValueError(f"--size is of the digits; images of {args.data} have theirs")
    if args.data == "digits" and args.images is not None and args.images > 1796:
        raise ValueError("there are 1797 digits: --images must leave some for the test")
    chosen = {k: v for k in DEFAULTS[args.data] if (v := getattr(args, k, None)) is not None}
    job = Job(
        data=args.data,
        folder=args.folder,
        device=str(devices.choose(args.device)),
        precision=args.precision,
        channels_last=args.channels_last,
        partial=str(args.out.with_name(f"{args.out.name}.partial")),
        **(DEFAULTS[args.data] | OTHERWISE.get((args.name, args.data), {}) | chosen),
    )
    if job.data == "digits":  # a wrong size or folder is told before anything runs
        data.digits(np.random.default_rng(0), train=job.images, size=job.size)
    else:
        getattr(data, job.data)(job.folder)
    network(dataclasses.replace(job, device="cpu"), 0)
    return job


def _run(seed: int, epochs: int | None, images: int | None, *, name: str, job: Job):
    """One seed of an experiment (epochs and images are in the job already)."""
    return EXPERIMENTS[name][0](job, seed)


def _words(args: argparse.Namespace) -> list[str]:
    """The options of this module, as the stored command repeats them on any machine."""
    words = [f"--data {args.data}"] + (["--folder DIR"] if args.folder else [])
    for key in ("network", "size", "test", "autoattack", "batch"):
        value = getattr(args, key)
        words += [f"--{key} {value}"] if value is not None else []
    words += [f"--precision {args.precision}"] if args.precision != "float32" else []
    return words + (["--channels-last"] if args.channels_last else [])


def main(argv: Sequence[str] | None = None) -> int:
    """Run an experiment; see the head of this module.

    Returns
    -------
    int
        0 when the result is written, 2 for arguments that do not fit (argparse exits with it as
        well), 130 after Ctrl-C; then the same command goes on.
    """
    args = experiments.seed_arguments(
        MODULE,
        8,
        EXPERIMENTS,
        argv,
        epochs=(2, "12, mnist 20, cifar10 30"),
        images=(10, "1000 digits, all otherwise"),
        more=_options,
    )
    try:
        job = _job(args)
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    _, methods, *_ = EXPERIMENTS[args.name]
    settings = dataclasses.asdict(job) | {"device": job.device.partition(":")[0]}
    own = {
        "methods": dict(methods),
        "settings": {k: v for k, v in settings.items() if k not in ("folder", "partial")},
    }
    return experiments.run_seeds(
        MODULE,
        args,
        functools.partial(_run, name=args.name, job=job),
        own,
        words=_words(args),
        jobs=args.jobs,
        threads=1 if job.data == "digits" or args.jobs > 1 else torch.get_num_threads(),
    )


if __name__ == "__main__":
    raise SystemExit(main())
