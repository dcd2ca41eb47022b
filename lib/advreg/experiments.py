r"""The experiments of chapter 5, each with one command; what takes minutes is run here once.

    python -m advreg.experiments NAME --data digits --seeds 0-7 --out FILE

NAME is one of::

    methods      training methods against one another, at one radius
    early-late   weak and strong attacks swapped at half time, under several learning rates
    lengths      plain and dynamic training, for trainings of several lengths
    fragile      radii at which training itself is in danger
    overfitting  one-step training whose attack stops working

Every run is one *setting* (a method with its learning rate and so on) with one seed.  For a seed,
data split, initial weights and order of the samples are the same in every setting, so settings
are compared in pairs.  A finished run is kept at once in the folder ``FILE.partial``: the same
command, interrupted, goes on where it stopped.  :func:`load` reads a result and checks that it is
what was written; :func:`column` picks one number per seed from it.

A seed fixes everything but rounding, which a training run amplifies: the same arithmetic in
another order, as on another machine, moved the accuracies of single seeds by up to 1.3 percentage
points where it was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from advreg import attacks, data, networks, training
from advreg import device as devices

__all__ = [
    "EXPERIMENTS",
    "Setting",
    "autoattack",
    "column",
    "load",
    "main",
    "schedule",
    "settings",
]

#: What the thresholds of dynamic training are compared with in the result `methods`, in nats.
LEVELS = (0.05, 0.1, 0.2, 0.5, 2.0)
#: Levels of the quantiles of FOSC over samples.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WATCHED = 300  # samples that are looked at after every epoch


@dataclasses.dataclass(frozen=True)
class Setting:
    """One line of an experiment: everything about a run but its seed.

    `radius` is in grey values, of [0, 1]; `size` is the side of the digits, 0 for other data;
    `milestones` are epochs at which the learning rate is multiplied by `decay`; `watch` asks for
    a look at FOSC after every epoch.
    """

    name: str
    method: str
    radius: float
    epochs: int
    network: str
    size: int = 0
    lr: float = 0.1
    momentum: float = 0.9
    decay: float = 0.1
    milestones: tuple[int, ...] = ()
    batch: int = 50
    weight_decay: float = 0.0
    init: str = "he"
    watch: bool = False

    def schedule(self) -> training.Schedule:
        """The training method, a schedule of :mod:`advreg.training`."""
        return schedule(self.method, self.epochs)


# What a data set needs by default; the command line changes epochs and network.
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {"radius": 0.15, "epochs": 60, "batch": 50, "network": "mlp", "size": 8},
    "mnist": {"radius": 0.3, "epochs": 20, "batch": 100, "network": "cnn", "lr": 0.02},
    "cifar10": {
        "radius": 8 / 255,
        "epochs": 30,
        "batch": 128,
        "network": "cnn",
        "lr": 0.02,
        "weight_decay": 5e-4,
    },
}


def schedule(method: str, epochs: int) -> training.Schedule:
    """The schedule of a method's name, such as "pgd-10", "dynamic-0.5" or "LH".

    Thresholds fall to 0, and the curriculum reaches ten steps, at 5/6 of the epochs.  L is one
    step of a quarter of the radius and H ten of them, both from a random start.

    Parameters
    ----------
    method : str
        "standard", "fgsm", "fgsm-rs", "pgd-K", "curriculum", "switch", "warm-up",
        "warm-up-short", "dynamic-C", "stepped-C" and "normalized-C" (dynamic training; the first
        step is always taken; thresholds of the normalised FOSC), "gradient-penalty-W", or two of
        the letters L and H, one for each half; K is a number of steps, C a threshold (nats; of
        the normalised FOSC a number between 0 and 1), W a weight.
    epochs : int
        Length of the training, at least 1.

    Returns
    -------
    callable, epoch -> advreg.training.Inner

    Raises
    ------
    ValueError
        If the name is unknown or its number out of range.
    """
    ramp = max(1, round(epochs * 5 / 6))
    kind, _, value = method.rpartition("-")
    if method == "standard":
        return training.standard()
    if method == "fgsm":
        return training.fgsm_training()
    if method == "fgsm-rs":
        return training.fgsm_training(random_start=True)
    if method == "curriculum":
        return training.curriculum(10, ramp)
    if method in ("warm-up", "warm-up-short"):
        part = 2 if method == "warm-up" else 6
        return training.warm_up(training.pgd_training(10), max(1, round(epochs / part)))
    if method == "switch":
        return training.switch(
            training.pgd_training(1), training.pgd_training(10), max(1, round(epochs / 3))
        )
    if len(method) == 2 and set(method) <= {"L", "H"}:
        first, second = (training.pgd_training(1 if c == "L" else 10) for c in method)
        return training.switch(first, second, epochs // 2)
    build: dict[str, Callable[[str], training.Schedule]] = {
        "pgd": lambda text: training.pgd_training(int(text)),
        "dynamic": lambda text: training.dynamic(float(text), ramp, 10),
        "stepped": lambda text: training.dynamic(float(text), ramp, 10, least_steps=1),
        "normalized": lambda text: training.dynamic(float(text), ramp, 10, normalized=True),
        "gradient-penalty": lambda text: training.gradient_penalty(float(text)),
    }
    try:
        return build[kind](value)
    except (KeyError, ValueError) as error:
        why = f": {error}" if kind in build else ""
        raise ValueError(
            f"unknown method {method!r}{why}; methods are standard, pgd-10, dynamic-0.5, "
            "gradient-penalty-1 (with other numbers as well), fgsm, fgsm-rs, curriculum, switch, "
            "warm-up, warm-up-short, stepped-0.1, normalized-0.1, LH, HL, HH, LL"
        ) from None


# -------------------------------------------------------------------------- the experiments


def _marks(epochs: int) -> tuple[int, int]:
    """After half and after 85 % of the epochs the learning rate falls."""
    return max(1, round(epochs * 0.5)), min(epochs - 1, round(epochs * 0.85))


def _methods(base: dict[str, Any]) -> list[Setting]:
    names = ["standard", "fgsm", "fgsm-rs", "pgd-4", "pgd-7", "pgd-10", "curriculum"]
    names += [f"dynamic-{c:g}" for c in LEVELS] + ["normalized-0.1", "normalized-0.25"]
    names += ["stepped-0.1", "stepped-0.5"]  # dynamic, but the first step is always taken
    watched = {"standard", "pgd-10", "dynamic-0.1", "dynamic-0.5"}
    marks = _marks(base["epochs"])
    return [Setting(name, name, watch=name in watched, milestones=marks, **base) for name in names]


def _early_late(base: dict[str, Any]) -> list[Setting]:
    half = (base["epochs"] // 2,)
    lr = base.pop("lr", 0.1)
    plan = [(0.0, rate, decay) for decay in (1.0, 0.1) for rate in (lr, lr / 2)]
    plan += [(0.9, rate, decay) for decay in (1.0, 0.1) for rate in (lr, lr / 2)]
    four = set(plan)
    plan += [(0.0, rate, decay) for decay in (0.3, 0.5, 0.03) for rate in (lr, lr / 2)]
    return [
        Setting(
            f"{method} lr={rate:g} decay={decay:g} momentum={momentum:g}",
            method,
            lr=rate,
            momentum=momentum,
            decay=decay,
            milestones=half,
            **base,
        )
        for momentum, rate, decay in plan
        for method in ("LH", "HL", *(("HH", "LL") if (momentum, rate, decay) in four else ()))
    ]


def _lengths(base: dict[str, Any]) -> list[Setting]:
    full = base.pop("epochs")
    lengths = sorted({max(2, round(full * share)) for share in (0.1, 0.2, 0.4, 1, 2)})
    return [
        Setting(
            f"{method} {epochs} epochs",
            method,
            epochs=epochs,
            milestones=_marks(epochs),
            **base,
        )
        for epochs in lengths
        for method in ("pgd-10", "dynamic-0.1")
    ]


def _fragile(base: dict[str, Any]) -> list[Setting]:
    epochs, radius = base.pop("epochs"), base.pop("radius")
    base.pop("network")
    # the long warm-up ends when the learning rate falls, the short one well before
    plan = [("mlp", 2.0, epochs, "he", ("pgd-10", "dynamic-0.5", "warm-up", "warm-up-short"))]
    short = max(2, epochs // 2)
    methods = ("pgd-10", "dynamic-0.5", "switch", "warm-up")
    plan += [("cnn", 4 / 3, short, init, methods) for init in ("torch", "he")]
    return [
        Setting(
            f"{network} {init} {method}",
            method,
            network=network,
            radius=radius * scale,
            epochs=length,
            init=init,
            milestones=_marks(length),
            **base,
        )
        for network, scale, length, init, names in plan
        for method in names
    ]


def _overfitting(base: dict[str, Any]) -> list[Setting]:
    epochs, radius, lr = base.pop("epochs"), base.pop("radius"), base.pop("lr", 0.1)
    base |= {"network": "cnn", "watch": True}
    if base.get("size"):
        base["size"] = 16
    # radius, learning rate and length at which one-step training breaks down gradually, and
    # larger ones at which some networks die at once
    plan = [(name, name, 4 / 3, lr / 2, 3 / 4) for name in ("fgsm", "pgd-3")]
    plan.append(("fgsm hot", "fgsm", 5 / 3, lr, 1 / 4))
    return [
        Setting(
            name,
            method,
            radius=radius * scale,
            lr=rate,
            epochs=max(2, round(epochs * part)),
            **base,
        )
        for name, method, scale, rate, part in plan
    ]


EXPERIMENTS: dict[str, tuple[str, Callable[[dict[str, Any]], list[Setting]]]] = {
    "methods": ("training methods against one another, at one radius", _methods),
    "early-late": ("weak and strong attacks swapped at half time", _early_late),
    "lengths": ("plain and dynamic training, trainings of several lengths", _lengths),
    "fragile": ("radii at which training itself is in danger", _fragile),
    "overfitting": ("one-step training whose attack stops working", _overfitting),
}


def settings(
    name: str, dataset: str = "digits", *, epochs: int | None = None, network: str | None = None
) -> list[Setting]:
    """The settings of an experiment, in the order in which they are run.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    dataset : "digits", "mnist" or "cifar10"
    epochs : int, optional
        Length of the longest ordinary run; everything that depends on it (decay of the learning
        rate, thresholds, half time) scales along.
    network : "mlp" or "cnn", optional

    Raises
    ------
    ValueError
        If a name is unknown, or `epochs` is below 4.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    if dataset not in DEFAULTS:
        raise ValueError(f"unknown data {dataset!r}; accepted are {', '.join(DEFAULTS)}")
    base = dict(DEFAULTS[dataset])
    if epochs is not None:
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 4:
            raise ValueError(f"epochs must be an integer of at least 4, got {epochs!r}")
        base["epochs"] = epochs
    if network is not None:
        if network not in ("mlp", "cnn"):
            raise ValueError(f"network must be 'mlp' or 'cnn', got {network!r}")
        base["network"] = network
    return EXPERIMENTS[name][1](base)


# ------------------------------------------------------------------------------- one run


@dataclasses.dataclass(frozen=True)
class _Job:
    """What a process needs to know to do any run of a command."""

    name: str
    dataset: str
    folder: str | None
    train: int | None
    test: int | None
    autoattack: int
    device: str
    precision: str
    partial: str
    threads: int


def _images(job: _Job, size: int, seed: int) -> tuple[Tensor, ...]:
    """Training and test part on the device; only the digits are split anew for each seed."""
    return _read(job, size, seed if job.dataset == "digits" else 0)


@functools.lru_cache(maxsize=16)
def _read(job: _Job, size: int, seed: int) -> tuple[Tensor, ...]:
    if job.dataset == "digits":
        parts = data.digits(np.random.default_rng(seed), train=job.train or 1000, size=size or 8)
    elif job.dataset == "mnist":
        parts = data.mnist(job.folder)
    else:
        parts = data.cifar10(job.folder)
    limits = (None if job.dataset == "digits" else job.train,) * 2 + (job.test,) * 2
    return tuple(
        torch.from_numpy(part[:limit]).to(job.device)
        for part, limit in zip(parts, limits, strict=True)
    )


def _network(setting: Setting, shape: Sequence[int], seed: int, device: str) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    common = {"init": setting.init, "generator": generator, "device": device}
    if setting.network == "mlp":
        return networks.mlp((math.prod(shape), 128, 128, 10), **common)
    return networks.cnn(shape[0], shape[1], 10, **common)


class _Trained(NamedTuple):
    """A trained network, its last loss, and per epoch the passes and what the monitor saw."""

    model: nn.Sequential
    loss: float
    passes: list[float]
    seen: list[Any]


def _train(
    job: _Job, setting: Setting, seed: int, *, init: int | None = None, keep: str = ""
) -> _Trained:
    """Train one network; `init` is the seed of weights and order, `seed` that of the split."""
    x, y, _, _ = _images(job, setting.size, seed)
    init = seed if init is None else init
    model = _network(setting, x.shape[1:], init, job.device)
    history = training.fit(
        model,
        x,
        y,
        attacks.Ball(setting.radius),
        setting.schedule(),
        epochs=setting.epochs,
        batch=setting.batch,
        lr=setting.lr,
        milestones=setting.milestones,
        decay=setting.decay,
        momentum=setting.momentum,
        weight_decay=setting.weight_decay,
        seed=init,
        device=job.device,
        precision=job.precision,
        checkpoint=Path(job.partial) / keep if keep else None,
        monitor=_monitor(job, setting, seed),
        progress=False,
    )
    return _Trained(model, history.loss[-1], history.passes, history.monitored)


class _Stack(nn.Module):
    """Networks of one shape, made of Flatten, Linear and ReLU, that run side by side.

    Maps S B samples, the first B for the first network and so on, to their logits.  Every sample
    meets its own network only, so gradients are those of the single networks.
    """

    def __init__(self, models: Sequence[nn.Sequential]) -> None:
        super().__init__()
        layers = [[part for part in model if isinstance(part, nn.Linear)] for model in models]
        self.weights = nn.ParameterList(
            torch.stack([layer.weight.detach().T for layer in same])
            for same in zip(*layers, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.stack([layer.bias.detach()[None] for layer in same])
            for same in zip(*layers, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        z = x.reshape(self.weights[0].shape[0], -1, self.weights[0].shape[1])
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = torch.baddbmm(bias, torch.relu(z) if k else z, weight)
        return z.flatten(0, 1)

    @torch.no_grad()
    def unstack(self, models: Sequence[nn.Sequential]) -> None:
        """Write the weights back into the networks."""
        for number, model in enumerate(models):
            linear = [part for part in model if isinstance(part, nn.Linear)]
            for layer, weight, bias in zip(linear, self.weights, self.biases, strict=True):
                layer.weight.copy_(weight[number].T)
                layer.bias.copy_(bias[number, 0])


def _fit_many(
    models: Sequence[nn.Sequential],
    parts: Sequence[tuple[Tensor, Tensor]],
    setting: Setting,
    seeds: Sequence[int],
    monitors: Sequence[Callable[[int, nn.Module], Any] | None],
) -> list[_Trained]:
    """`training.fit` of several small networks at once, each with its data and its seed.

    The same numbers but for rounding, and two to three times faster: small networks wait for
    Python and not for arithmetic.  Only for schedules without thresholds, under which no sample
    leaves its batch.
    """
    stack, ball = _Stack(models), attacks.Ball(setting.radius)
    optimizer = torch.optim.SGD(
        stack.parameters(),
        lr=setting.lr,
        momentum=setting.momentum,
        weight_decay=setting.weight_decay,
    )
    decay = torch.optim.lr_scheduler.MultiStepLR(optimizer, setting.milestones, setting.decay)
    x, y = (torch.stack(same) for same in zip(*parts, strict=True))
    where = x.device
    states = [np.random.SeedSequence(seed).generate_state(2) for seed in seeds]  # as fit does
    orders = [torch.Generator().manual_seed(int(state[0])) for state in states]
    starts = [torch.Generator().manual_seed(int(state[1])) for state in states]
    schedule, each = setting.schedule(), torch.arange(len(models), device=where)[:, None]
    passes: list[float] = []
    seen: list[list[Any]] = [[] for _ in models]
    for epoch in range(setting.epochs):
        inner = schedule(epoch)
        around = dataclasses.replace(ball, radius=ball.radius * inner.radius_scale)
        order = torch.stack([torch.randperm(y.shape[1], generator=g) for g in orders])
        total = torch.zeros(len(models), dtype=x.dtype, device=where)
        for rows in order.to(where).split(setting.batch, dim=1):
            points, labels = x[each, rows], y[each, rows].flatten()
            start = points
            if inner.random_start:
                drawn = [around.random(p, g) for p, g in zip(points, starts, strict=True)]
                start = torch.stack(drawn)
            found = attacks.pgd(
                stack,
                points.flatten(0, 1),
                labels,
                around,
                steps=inner.steps,
                step=inner.step_scale * around.radius,
                start=start.flatten(0, 1),
                report=False,
            )
            optimizer.zero_grad()
            losses = attacks.cross_entropy(stack(found.points), labels).unflatten(0, rows.shape)
            losses.mean(1).sum().backward()
            optimizer.step()
            total += losses.detach().sum(1)
        decay.step()
        stack.unstack(models)
        passes.append(1.0 + inner.steps)
        for lines, monitor, model in zip(seen, monitors, models, strict=True):
            lines.append(monitor(epoch, model) if monitor else None)
    losses = (total / y.shape[1]).tolist()
    return [
        _Trained(model, loss, passes, lines)
        for model, loss, lines in zip(models, losses, seen, strict=True)
    ]


def _stackable(job: _Job, setting: Setting) -> bool:
    schedule = setting.schedule()
    plain = setting.network == "mlp" and job.dataset == "digits" and job.precision == "float32"
    inners = [schedule(epoch) for epoch in range(setting.epochs)]
    return plain and not any(inner.threshold or inner.penalty for inner in inners)


def _train_many(job: _Job, setting: Setting, seeds: Sequence[int]) -> list[_Trained]:
    """The networks of several seeds, trained at once."""
    parts = [_images(job, setting.size, seed)[:2] for seed in seeds]
    models = [_network(setting, parts[0][0].shape[1:], seed, job.device) for seed in seeds]
    return _fit_many(models, parts, setting, seeds, [_monitor(job, setting, s) for s in seeds])


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return training.evaluate(model, x, y)


def _in_parts(call: Callable[..., Tensor], *tensors: Tensor, batch: int = 1000) -> Tensor:
    parts = zip(*(t.split(batch) for t in tensors), strict=True)
    return torch.cat([call(*part) for part in parts])


def _pgd_points(model: nn.Module, x: Tensor, y: Tensor, ball: attacks.Ball, steps: int, seed: int):
    generator = torch.Generator().manual_seed(seed)  # the same draws on every device
    return _in_parts(
        lambda a, b: (
            attacks.pgd(model, a, b, ball, steps=steps, generator=generator, report=False).points
        ),
        x,
        y,
    )


def rounded(value: Any, digits: int = 4) -> Any:
    """Numbers to `digits` significant digits (accuracies need no more), through any nesting."""
    if isinstance(value, Mapping):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, digits) for v in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return value


def _quantiles(values: Tensor) -> list[float]:
    return np.quantile(values.double().cpu().numpy(), QUANTILES).tolist()


def _share(values: Tensor, levels: Iterable[float]) -> list[float]:
    return [(values <= level).double().mean().item() for level in levels]


def _fosc(model: nn.Module, z: Tensor, y: Tensor, x: Tensor, ball: attacks.Ball) -> Tensor:
    return _in_parts(lambda a, b, c: attacks.fosc(model, a, b, c, ball), z, y, x)


def _monitor(
    job: _Job, setting: Setting, seed: int
) -> Callable[[int, nn.Module], dict[str, Any]] | None:
    if not setting.watch:
        return None
    return (_watch_overfitting if job.name == "overfitting" else _watch)(job, setting, seed)


def _watch(job: _Job, setting: Setting, seed: int) -> Callable[[int, nn.Module], dict[str, Any]]:
    """After each epoch: FOSC of the first training samples, at x and after PGD-10 from x."""
    x, y, _, _ = _images(job, setting.size, seed)
    x, y, ball = x[:WATCHED], y[:WATCHED], attacks.Ball(setting.radius)

    def look(epoch: int, model: nn.Module) -> dict[str, Any]:
        clean = attacks.fosc(model, x, y, x, ball)
        found = attacks.pgd(model, x, y, ball, steps=10)
        return rounded(
            {
                "fosc_clean": _quantiles(clean),
                "fosc_pgd10": _quantiles(found.fosc),
                "below": _share(clean, LEVELS),
            },
            3,
        )

    return look


def _mean_where(condition: Tensor, values: Tensor) -> float | None:
    """Mean over the samples with a gradient, None if there is none: then nothing is defined."""
    return values[condition].mean().item() if condition.any() else None


def _watch_overfitting(
    job: _Job, setting: Setting, seed: int
) -> Callable[[int, nn.Module], dict[str, Any]]:
    """After each epoch, on test samples: FGSM beside PGD-20, flips and FOSC at the FGSM point."""
    _, _, x, y = _images(job, setting.size, seed)
    x, y, ball = x[:WATCHED], y[:WATCHED], attacks.Ball(setting.radius)

    def look(epoch: int, model: nn.Module) -> dict[str, Any]:
        one = attacks.fgsm(model, x, y, ball).points
        many = _pgd_points(model, x, y, ball, 20, seed)
        losses, before = attacks.loss_and_gradient(model, x, y)
        _, after = attacks.loss_and_gradient(model, one, y)
        fosc = ball.fosc(after, one, x)
        total = after.abs().flatten(1).sum(1)
        flips = (after.abs() * (before * after < 0)).flatten(1).sum(1) / total
        share = fosc / ball.range(after, x)
        return rounded(
            {
                "clean": _accuracy(model, x, y),
                "fgsm": _accuracy(model, one, y),
                "pgd": _accuracy(model, many, y),
                "flips": _mean_where(total > 0, flips),
                "fosc": fosc.mean().item(),
                "normalized": _mean_where(total > 0, share),
                "masked": (total == 0).double().mean().item(),
                "loss": losses.mean().item(),
            }
        )

    return look


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, radius: float, count: int, seed: int
) -> float | None:
    """Robust accuracy of the first `count` samples under AutoAttack, None if not installed.

    The attacks are APGD on the cross-entropy, targeted APGD and Square, as published; FAB is
    left out, which takes longer than the other three together.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (B, channels, rows, columns) to logits; attacked in evaluation mode.
    x, y : tensors
        Inputs in [0, 1] and integer labels, on the device of the model.
    radius : float
        Of the maximum-norm ball around every input, in grey values.
    count, seed : int
        Samples that are attacked, and the seed of the attacks.

    Raises
    ------
    RuntimeError
        If a point that pyautoattack returns lies outside the ball or [0, 1].
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        return None
    x, y = x[:count], y[:count]
    # Square draws from the global generators (seeded inside): leave them as they were
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        state = np.random.get_state()  # noqa: NPY002
        judge = AutoAttack(
            model,
            attacks=["apgd-ce", "apgd-t", "square"],
            device=x.device,
            eps=radius,
            seed=seed,
            version="custom",
        )
        judge.verbose = False
        judge.apgd.n_restarts = 1  # the numbers of the "standard" version
        judge.apgd_targeted.n_restarts, judge.apgd_targeted.n_target_classes = 1, 9
        with attacks.evaluating(model), _quiet():
            points, _ = judge.run_standard_evaluation(x, y)
        np.random.set_state(state)  # noqa: NPY002
    if (points - x).abs().max() > radius + 1e-6 or points.min() < 0 or points.max() > 1:
        raise RuntimeError("AutoAttack left the ball: its robust accuracy is not valid")
    return _accuracy(model, points, y)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        yield


def _surrogate(job: _Job, like: Setting, seed: int) -> tuple[nn.Module, Setting]:
    """A network trained with PGD-10 on the same split, from other weights in another order."""
    setting = dataclasses.replace(like, name="surrogate", method="pgd-10", watch=False)
    keep = f"surrogate {seed}.pt"
    return _train(job, setting, seed, init=1_000_000 + seed, keep=keep).model, setting


@functools.lru_cache(maxsize=16)
def _transfer_points(job: _Job, like: Setting, seed: int) -> Tensor:
    model, setting = _surrogate(job, like, seed)
    _, _, x, y = _images(job, setting.size, seed)
    return _pgd_points(model, x, y, attacks.Ball(setting.radius), 20, seed)


def _judge(job: _Job, setting: Setting, seed: int, trained: _Trained) -> dict[str, Any]:
    """Evaluate a trained network on the test part: the row of the result."""
    model = trained.model
    x, y, test_x, test_y = _images(job, setting.size, seed)
    ball = attacks.Ball(setting.radius)
    worst = attacks.worst_of(
        model,
        test_x,
        test_y,
        ball,
        steps=40,
        restarts=3 if job.name == "methods" else 1,
        generator=torch.Generator().manual_seed(seed),
    )
    row: dict[str, Any] = {
        "setting": setting.name,
        "method": setting.method,
        "seed": seed,
        "clean": worst.clean_accuracy,
        "pgd20": _accuracy(model, _pgd_points(model, test_x, test_y, ball, 20, seed), test_y),
        "robust": worst.accuracy,
        "passes": float(np.mean(trained.passes)),
        "loss": trained.loss,
    }
    if job.name == "early-late":
        row |= {"lr": setting.lr, "decay": setting.decay, "momentum": setting.momentum}
    if job.name == "lengths":
        row |= {"epochs": setting.epochs}
    if job.name == "fragile":
        row |= {"network": setting.network, "init": setting.init, "radius": setting.radius}
    if job.name == "methods":
        plain = dataclasses.replace(setting, name="", method="", watch=False)
        row["transfer"] = _accuracy(model, _transfer_points(job, plain, seed), test_y)
        if job.autoattack:
            found = autoattack(model, test_x, test_y, setting.radius, job.autoattack, seed)
            row["autoattack"] = found
            row["robust_same"] = worst.robust[: job.autoattack].double().mean().item()
        clean = _fosc(model, x, y, x, ball)
        row["below"] = _share(clean, LEVELS)
        row["below_test"] = _share(_fosc(model, test_x, test_y, test_x, ball), LEVELS)
        row["fosc_clean"] = _quantiles(clean)
        points = _pgd_points(model, x, y, ball, 10, seed)
        row["fosc_pgd10"] = _quantiles(_fosc(model, points, y, x, ball))
        row["passes_by_epoch"] = trained.passes
    if setting.watch:
        row |= {f"{key}_by_epoch": [line[key] for line in trained.seen] for key in trained.seen[0]}
    return rounded(row)


# --------------------------------------------------------------------------------- results


def _canonical(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def write(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one, nothing between."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _text(content: Mapping[str, Any]) -> str:
    """The file of a result: JSON with one row a line, so that two results can be compared."""
    head = {key: value for key, value in content.items() if key != "rows"}
    rows = (json.dumps(row, separators=(",", ":"), allow_nan=False) for row in content["rows"])
    lines = ",\n".join(rows)
    return f'{json.dumps(head, indent=1, allow_nan=False)[:-2]},\n "rows": [\n{lines}\n ]\n}}\n'


def store(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result, whose "rows" are a list, so that :func:`load` reads it: with its checksum."""
    write(path, _text({**content, "sha256": _digest(content)}))


def load(path: str | os.PathLike[str], module: str = "advreg.experiments") -> dict[str, Any]:
    """Read a result and check that it is what the command of a module wrote.

    Parameters
    ----------
    path : path
        A file that ``python -m advreg.experiments``, or another module that stores its results
        here, wrote.
    module : str
        Whose command a missing file is made by; for the message only.

    Returns
    -------
    dict
        "name", "command", "data" (name and sizes), "settings" (one dict per :class:`Setting`),
        "seeds", "versions", "levels" and "quantiles" (of FOSC, where rows speak of them), "rows"
        (one dict per setting and seed) and "sha256" of all the rest.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message names the command that writes it.
    ValueError
        If the file is damaged or was edited.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no result at {path}; `python -m {module} {path.stem} --out {path}` makes it"
        )
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        digest = content.pop("sha256")
        good = digest == _digest(content) and isinstance(content["rows"], list)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} is no result of advreg.experiments, or damaged: {error}"
        ) from None
    if not good:
        raise ValueError(
            f"{path} was edited or damaged: its content does not fit the checksum it carries"
        )
    return content | {"sha256": digest}


def column(result: Mapping[str, Any], key: str, **where: Any) -> NDArray[np.float64]:
    """One number per seed: entry `key` of the rows that agree with `where`.

    Parameters
    ----------
    result : dict
        From :func:`load`.
    key : str
        For example "robust".
    **where
        For example ``method="pgd-10"``, ``lr=0.1``.

    Returns
    -------
    array, shape (number of seeds,) or (number of seeds, ...) where entries are lists, float64
        In the order of ``result["seeds"]``; missing entries (null) are NaN.

    Raises
    ------
    ValueError
        If the conditions do not leave one row per seed, or the rows have no such entry.
    """
    rows = [r for r in result["rows"] if all(r.get(k) == v for k, v in where.items())]
    by_seed = {row["seed"]: row for row in rows}
    if len(rows) != len(result["seeds"]) or sorted(by_seed) != sorted(result["seeds"]):
        raise ValueError(
            f"{where} leaves {len(rows)} rows for {len(result['seeds'])} seeds; methods are "
            f"{', '.join(sorted({row['method'] for row in result['rows']}))}"
        )
    if any(key not in row for row in rows):
        raise ValueError(f"no entry {key!r}; there are {', '.join(rows[0])}")
    return np.array([by_seed[seed][key] for seed in result["seeds"]], dtype=np.float64)


# ---------------------------------------------------------------------------- the command


def versions() -> dict[str, str]:
    """Versions of what a result depends on, as results carry them."""
    found = {"python": platform.python_version(), "advreg": importlib.metadata.version("advreg")}
    for name in ("numpy", "torch", "scikit-learn", "pyautoattack"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def seed_list(text: str) -> list[int]:
    """The seeds that a command line names: "0-7", "0,2,5" or a mixture; an argparse type."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(
                f"{text!r}: seeds are written 0-7 (all of them from 0 to 7) or 0,2,5"
            )
        start, stop = int(first), int(last or first) + 1
        if stop > 1_000_000 or stop - start + len(seeds) > 1000:
            raise argparse.ArgumentTypeError(f"{text!r}: at most 1000 seeds, below 1000000")
        seeds += range(start, stop)
    if not seeds or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} names no seed, or one twice")
    return seeds


def whole_number(least: int) -> Callable[[str], int]:
    """An argparse type: integers of at least `least`."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
        return int(text)

    return whole


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m advreg.experiments",
        description="Run an experiment of chapter 5 and store its result as JSON.",
        epilog="experiments: " + "; ".join(f"{n}: {t}" for n, (t, _) in EXPERIMENTS.items()),
    )
    add = parser.add_argument
    add("name", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    add("--data", choices=DEFAULTS, default="digits", help="default: %(default)s")
    add("--folder", metavar="DIR", help="where the files of mnist or cifar10 are")
    add("--seeds", type=seed_list, default="0-7", help="0-7 or 0,2,5; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="the result, for example methods.json")
    add("--jobs", type=whole_number(1), default=1, metavar="N", help="processes; default: 1")
    add("--epochs", type=whole_number(4), metavar="N", help="of an ordinary run")
    add("--network", choices=("mlp", "cnn"), help="default: mlp for digits, cnn otherwise")
    add("--train", type=whole_number(10), metavar="N", help="use N training images (digits: 1000)")
    add("--test", type=whole_number(1), metavar="N", help="use the first N test images only")
    add("--device", metavar="cpu|cuda", help="default: CUDA where it is present")
    add("--precision", choices=training.PRECISIONS, default="float32", help="of training")
    add(
        "--autoattack",
        type=whole_number(0),
        default=200,
        metavar="N",
        help="methods only: test images attacked by AutoAttack, 0 for none; default: %(default)s",
    )
    add("--only", metavar="TEXT", help="only settings whose name contains TEXT (see --list)")
    add("--list", "--dry-run", action="store_true", help="print the runs and their cost, and stop")
    return parser


def _estimate(chosen: Sequence[Setting], samples: int) -> list[str]:
    """One line per setting: passes per sample and epoch at most, and in millions per seed."""
    lines = []
    for s in chosen:
        schedule = s.schedule()
        passes = sum(1 + schedule(epoch).steps for epoch in range(s.epochs))
        lines.append(
            f"{s.name:45s} {s.epochs:4d} epochs, at most {passes / s.epochs:5.2f} passes per "
            f"sample and epoch, {passes * samples / 1e6:8.2f} million passes per seed"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run an experiment; see the head of this module.

    Returns
    -------
    int
        0 when the result is written, 2 for arguments that do not fit (argparse exits with it as
        well), 130 after Ctrl-C; then the same command goes on.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    chosen = settings(args.name, args.data, epochs=args.epochs, network=args.network)
    if args.only:
        chosen = [s for s in chosen if args.only in s.name]
    if not chosen:
        parser.error(f"no setting's name contains {args.only!r}; --list shows the names")
    samples = args.train or {"digits": 1000, "mnist": 60000, "cifar10": 50000}[args.data]
    if args.list:
        print("\n".join(_estimate(chosen, samples)))
        print(
            f"{len(chosen)} settings x {len(args.seeds)} seeds; training only, without evaluation"
        )
        return 0
    if args.out is None:
        parser.error("--out FILE is missing: where the result goes")
    if args.data != "digits" and args.folder is None:
        parser.error(f"--data {args.data} needs --folder DIR: where its files are")
    if args.data == "digits" and args.train and args.train > 1796:
        parser.error("there are 1797 digits: --train must leave some for the test")
    try:
        device = str(devices.choose(args.device))
        partial, content = _prepare(args, chosen, device)
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if partial is None:
        print(f"{args.out} holds this result already")
        return 0
    job = _Job(
        args.name,
        args.data,
        args.folder,
        args.train,
        args.test,
        args.autoattack,
        device,
        args.precision,
        str(partial),
        threads=1 if args.data == "digits" or args.jobs > 1 else torch.get_num_threads(),
    )
    try:
        _run_all(job, chosen, args.seeds, args.jobs)
    except KeyboardInterrupt:
        print(f"stopped; finished runs are kept in {partial}: the same command goes on from them")
        return 130
    rows = [_read_row(partial, s, seed) for s in chosen for seed in args.seeds]
    content["rows"] = rows
    store(args.out, content)
    shutil.rmtree(partial)
    print(f"wrote {args.out}: {len(rows)} rows")
    return 0


def _prepare(
    args: argparse.Namespace, chosen: Sequence[Setting], device: str
) -> tuple[Path | None, dict[str, Any]]:
    """The folder of finished runs, and the result without its rows; None if it is there already."""
    if args.data != "digits":  # a wrong folder is told before anything runs
        sizes = _sizes(getattr(data, args.data)(args.folder), args)
    else:
        train = args.train or 1000
        sizes = {"train": train, "test": min(1797 - train, args.test or 1797)}
    content = {
        "name": args.name,
        "command": _command(args),
        "data": {"name": args.data, **sizes},
        "settings": json.loads(json.dumps([dataclasses.asdict(s) for s in chosen])),
        "evaluation": {
            "autoattack": args.autoattack if args.name == "methods" else 0,
            "device": device.partition(":")[0],
            "precision": args.precision,
        },
        "levels": list(LEVELS),
        "quantiles": list(QUANTILES),
        "seeds": args.seeds,
        "versions": versions(),
    }
    return prepare(args.out, content), content


def prepare(out: Path, content: Mapping[str, Any]) -> Path | None:
    """The folder in which finished runs of a result are kept; None if the result is there already.

    Raises
    ------
    ValueError
        If `out` is a folder or holds another result, its folder does not exist, or the runs that
        are kept belong to another command.
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: name a file in it")
    if out.exists():
        old = load(out)
        if all(old.get(k) == v for k, v in content.items() if k not in ("command", "versions")):
            return None
        raise ValueError(f"{out} holds another result: give another name, or move it away")
    if not out.parent.is_dir():
        raise ValueError(f"the folder {out.parent} of --out does not exist")
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(exist_ok=True)
    mark = partial / "command.json"
    known = {k: v for k, v in content.items() if k not in ("seeds", "command")}
    if mark.exists():
        old = json.loads(mark.read_text(encoding="utf8"))
        differing = [k for k in known if old.get(k) != known[k]]
        if differing:
            raise ValueError(
                f"{partial} holds runs of another command ({', '.join(differing)} differ): "
                "give another --out, or remove it"
            )
    write(mark, json.dumps(known))
    return partial


# ------------------------------------------------------------------------- one run per seed

Run = Callable[[int, int | None, int | None], list[dict[str, Any]]]
#: Per experiment what a seed does, what is compared, the default seeds, and all in words.
Table = Mapping[str, tuple[Run, Mapping[str, Any], str, str]]


def seed_arguments(
    module: str,
    chapter: int,
    table: Table,
    argv: Sequence[str] | None,
    *,
    epochs: tuple[int, str],
    images: tuple[int, str],
    more: Callable[[argparse.ArgumentParser], object] | None = None,
) -> argparse.Namespace:
    """Read the command line of a module whose experiments run seed by seed.

    `epochs` and `images` are the least value and the default, in words, of these two options;
    `more` adds options of the module's own to the parser.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=f"Run an experiment of chapter {chapter} and store its result as JSON.",
        epilog="experiments: " + "; ".join(f"{k}: {v[3]}" for k, v in table.items()),
    )
    add = parser.add_argument
    add("name", choices=table, metavar="NAME", help=", ".join(table))
    defaults = ", ".join(f"{v[2]} for {k}" for k, v in table.items())
    add("--seeds", type=seed_list, help=f"0-7 or 0,2,5; default: {defaults}")
    add("--out", type=Path, required=True, metavar="FILE", help="the result, such as plane.json")
    for name, (least, default), what in (
        ("--epochs", epochs, "of every training"),
        ("--images", images, "number of samples"),
    ):
        add(name, type=whole_number(least), metavar="N", help=f"{what}; default: {default}")
    if more is not None:
        more(parser)
    args = parser.parse_args(argv)
    args.seeds = args.seeds or seed_list(table[args.name][2])
    return args


def run_seeds(
    module: str,
    args: argparse.Namespace,
    run: Run,
    own: Mapping[str, Any],
    *,
    words: Sequence[str] = (),
    jobs: int = 1,
    threads: int = 1,
) -> int:
    """Run an experiment seed by seed and store its rows; finished seeds are kept meanwhile.

    Parameters
    ----------
    module : str
        Whose command it is.
    args : argparse.Namespace
        As from :func:`seed_arguments`.
    run : callable
        (seed, epochs, images) -> the rows of a seed.
    own : dict
        What the result says of its settings, beside the command, seeds and versions.
    words : sequence of str
        The module's own options, as the stored command repeats them.
    jobs, threads : int
        Seeds that are run at a time, each in a process of its own (`run` must then be a function
        that can be sent to one), and threads of torch per process.

    Returns
    -------
    int
        0 when the result is written, 2 if it can't be, 130 after Ctrl-C; then the same command
        goes on.
    """
    words = [f"python -m {module}", args.name, *words]
    words += ["--seeds", ",".join(map(str, args.seeds))]
    for key in ("epochs", "images"):
        words += [f"--{key} {value}"] if (value := getattr(args, key)) else []
    content = {
        "name": args.name,
        "command": " ".join([*words, "--out", args.out.name]),
        **own,
        "epochs": args.epochs,
        "images": args.images,
        "seeds": args.seeds,
        "versions": versions(),
    }
    try:
        partial = prepare(args.out, content)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if partial is None:
        print(f"{args.out} holds this result already")
        return 0
    before = torch.get_num_threads()
    torch.set_num_threads(threads)  # small networks gain nothing from more than one
    todo = [seed for seed in args.seeds if not (partial / f"{seed}.json").exists()]
    tasks = [(run, seed, args.epochs, args.images, partial, threads) for seed in todo]
    try:
        with (
            tqdm(total=len(args.seeds), desc=args.name, unit="seed") as bar,
            _pool(min(jobs, max(1, len(todo)))) as each,
        ):
            bar.update(bar.total - len(todo))
            for done in each(_run_seed, tasks):
                bar.update(done)
    except KeyboardInterrupt:
        print(f"stopped; finished seeds are kept in {partial}: the same command goes on from them")
        return 130
    finally:
        torch.set_num_threads(before)
    parts = [json.loads((partial / f"{seed}.json").read_text("utf8")) for seed in args.seeds]
    rows = [row for part in parts for row in part]
    store(args.out, {**content, "rows": rows})
    shutil.rmtree(partial)
    print(f"wrote {args.out}: {len(rows)} rows")
    return 0


def _run_seed(task: tuple[Run, int, int | None, int | None, Path, int]) -> int:
    """Run one seed, keep its rows, and say that it was one."""
    run, seed, epochs, images, partial, threads = task
    torch.set_num_threads(threads)
    rows = rounded(run(seed, epochs, images), 8)
    write(partial / f"{seed}.json", json.dumps(rows, allow_nan=False))
    return 1


def _sizes(images: data.Images, args: argparse.Namespace) -> dict[str, int]:
    return {
        "train": min(len(images.train_y), args.train or len(images.train_y)),
        "test": min(len(images.test_y), args.test or len(images.test_y)),
    }


def _command(args: argparse.Namespace) -> str:
    """The command that makes this result, without the places of files on this machine."""
    words = ["python -m advreg.experiments", args.name, "--data", args.data]
    if args.folder:
        words.append("--folder DIR")
    words += ["--seeds", ",".join(map(str, args.seeds))]
    for key in ("epochs", "network", "train", "test", "only"):
        value = getattr(args, key)
        words += [f"--{key} {value}"] if value else []
    if args.name == "methods":
        words.append(f"--autoattack {args.autoattack}")
    words += [f"--precision {args.precision}"] if args.precision != "float32" else []
    return " ".join([*words, "--out", args.out.name])


def _row_path(partial: Path, setting: Setting, seed: int) -> Path:
    """One file per finished run; its name knows every field of the setting."""
    return partial / f"{_digest(dataclasses.asdict(setting))[:16]} {seed}.json"


def _read_row(partial: Path, setting: Setting, seed: int) -> dict[str, Any]:
    return json.loads(_row_path(partial, setting, seed).read_text(encoding="utf8"))


def _work(task: tuple[_Job, Setting | None, list[int], Setting]) -> int:
    """Do the runs of one setting with these seeds, keep their rows, and say how many they were."""
    job, setting, seeds, like = task
    if job.device == "cpu":
        torch.set_num_threads(job.threads)
    if setting is None:
        for seed in seeds:
            _surrogate(job, like, seed)
        return len(seeds)
    keep = ""
    if _stackable(job, setting):
        results = _train_many(job, setting, seeds)
    else:
        if setting.epochs > 60 or job.dataset != "digits":  # long: worth a checkpoint of its own
            keep = f"{setting.name} {seeds[0]}.pt"
        results = [_train(job, setting, seeds[0], keep=keep)]
    for seed, trained in zip(seeds, results, strict=True):
        row = _judge(job, setting, seed, trained)
        write(_row_path(Path(job.partial), setting, seed), json.dumps(row, allow_nan=False))
    if keep:
        (Path(job.partial) / keep).unlink(missing_ok=True)
    return len(seeds)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process stops the others


def _run_all(job: _Job, chosen: Sequence[Setting], seeds: Sequence[int], jobs: int) -> None:
    partial = Path(job.partial)
    plain = dataclasses.replace(chosen[0], name="", method="", watch=False)
    todo: list[tuple[_Job, Setting | None, list[int], Setting]] = []
    for setting in chosen:
        missing = [seed for seed in seeds if not _row_path(partial, setting, seed).exists()]
        together = 8 if _stackable(job, setting) else 1
        groups = [missing[i : i + together] for i in range(0, len(missing), together)]
        todo += [(job, setting, group, plain) for group in groups]
    first = []
    if job.name == "methods":  # what several runs of a seed need is made before them
        first = [(job, None, [seed], plain) for seed in seeds if any(seed in t[2] for t in todo)]
    missing = sum(len(task[2]) for task in todo) + len(first)
    with (
        tqdm(total=len(chosen) * len(seeds) + len(first), desc=job.name, unit="run") as bar,
        _pool(jobs) as each,
    ):
        bar.update(bar.total - missing)
        for tasks in (first, todo):
            for done in each(_work, tasks):
                bar.update(done)


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Callable[..., Iterable[int]]]:
    if jobs == 1:
        threads = torch.get_num_threads()
        try:
            yield map
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_ignore_interrupt) as pool:
        yield pool.imap_unordered


if __name__ == "__main__":
    raise SystemExit(main())
