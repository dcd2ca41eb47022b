r"""Adversarial training, in which the attack on every batch follows a *schedule*.

A training method is a schedule: a callable that maps the epoch j = 0, 1, ... to an
:class:`Inner`, the attack of that epoch.  All methods of the book differ in nothing else::

    standard()                  no attack
    fgsm_training()             one step of the length of the radius
    pgd_training(10)            ten steps of a quarter of the radius, from a random start
    curriculum(10, 50)          a number of steps that grows with the epochs
    dynamic(0.5, 50)            ten steps at most, stopped sample by sample where the FOSC is
                                small: c_j = max(0, c_max (1 - j / T')), in nats
    switch(first, second, 30)   one schedule before epoch 30, another from there on
    warm_up(schedule, 10)       the radius grows linearly over the first ten epochs

FOSC is the first-order stationary condition of :mod:`advreg.attacks`.  :func:`fit` trains by
stochastic gradient descent on the losses at the attacked points, with checkpoints from which it
goes on bit for bit.  One seed fixes everything: the order of the samples and the random starts
come from two separate generators, so that methods with the same seed see the same batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from tqdm.auto import tqdm

from advreg import device as devices
from advreg._checks import integer, number
from advreg.attacks import Ball, cross_entropy, evaluating, pgd

__all__ = [
    "QUANTILES",
    "History",
    "Inner",
    "Schedule",
    "curriculum",
    "dynamic",
    "evaluate",
    "fgsm_training",
    "fit",
    "pgd_training",
    "standard",
    "switch",
    "warm_up",
]

#: Levels of the FOSC quantiles in a :class:`History`.
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
PRECISIONS = ("float32", "bfloat16")
_FORMAT = "advreg training checkpoint 1"


# ----------------------------------------------------------------------------- schedules


@dataclasses.dataclass(frozen=True)
class Inner:
    """The attack of one epoch: projected gradient ascent on the loss.

    Parameters
    ----------
    steps : int
        Steps at most; 0 is no attack (with a random start: training on random noise).
    step_scale : float
        Length of a step, in units of the radius in force.
    threshold : float, optional
        A sample's attack stops at its first iterate, the start included, whose FOSC is at most
        this number of nats; None or 0: all steps are taken.
    random_start : bool
        Start at a random point of the feasible set instead of the clean input.
    radius_scale : float
        The radius in force is this multiple of the ball's.
    normalized : bool
        Compare the normalised FOSC, a number between 0 and 1, with the threshold instead.
    least_steps : int
        Steps that every sample takes before the threshold may stop it.
    """

    steps: int
    _: dataclasses.KW_ONLY
    step_scale: float = 0.25
    threshold: float | None = None
    random_start: bool = True
    radius_scale: float = 1.0
    normalized: bool = False
    least_steps: int = 0

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {
            "steps": integer(self.steps, "steps", 0),
            "random_start": bool(self.random_start),
            "normalized": bool(self.normalized),
            "least_steps": integer(self.least_steps, "least_steps", 0),
        }
        for name in ("step_scale", "threshold", "radius_scale"):
            value = getattr(self, name)
            if name != "threshold" or value is not None:
                plain[name] = number(value, name, 0.0)
        for name, value in plain.items():  # numpy's numbers become Python's
            object.__setattr__(self, name, value)


Schedule = Callable[[int], Inner]


def standard() -> Schedule:
    """Training on the clean inputs: no attack."""
    return functools.partial(_constant, inner=Inner(0, random_start=False))


def fgsm_training(random_start: bool = False, step_scale: float | None = None) -> Schedule:
    """One step of the fast gradient sign method (FGSM).

    Parameters
    ----------
    random_start : bool
        Start at a random point of the ball.
    step_scale : float, optional
        Length of the step in units of the radius: 1 by default, which from the clean input ends
        on the boundary, and 1.25 with a random start, cf. Wong, Rice and Kolter (2020).
    """
    if step_scale is None:
        step_scale = 1.25 if random_start else 1.0
    return pgd_training(1, step_scale=step_scale, random_start=random_start)


def pgd_training(
    steps: int = 10, *, step_scale: float = 0.25, random_start: bool = True
) -> Schedule:
    """The same number of steps in every epoch, cf. Madry et al. (2018); see :class:`Inner`."""
    inner = Inner(steps, step_scale=step_scale, random_start=random_start)
    return functools.partial(_constant, inner=inner)


def curriculum(
    steps: int = 10, epochs: int = 50, *, step_scale: float = 0.25, random_start: bool = True
) -> Schedule:
    """A number of steps that grows linearly, cf. curriculum training of Cai et al. (2018).

    Epoch j takes steps * j / epochs steps, rounded to the next integer (halves up), and `steps`
    from j = `epochs` on.  (In Cai et al. the accuracy under attack decides when the number
    grows; here the epoch does, so that the cost is known.)
    """
    inner = Inner(steps, step_scale=step_scale, random_start=random_start)
    return functools.partial(_growing, inner=inner, epochs=integer(epochs, "epochs", 1))


def dynamic(
    c_max: float,
    ramp: int,
    steps: int = 10,
    *,
    step_scale: float = 0.25,
    random_start: bool = True,
    normalized: bool = False,
    least_steps: int = 0,
) -> Schedule:
    """Dynamic training (def-dynamic): every sample's attack stops where its FOSC is small.

    Parameters
    ----------
    c_max : float
        Threshold of the first epoch, in nats; 0 is plain PGD training.
    ramp : int
        T': the threshold is c_j = max(0, c_max (1 - j / ramp)), thus 0 from epoch `ramp` on.
    steps : int
        Steps at most.
    step_scale, random_start, normalized, least_steps
        As in :class:`Inner`; the implementation that the method's authors released takes the
        first step always, ``least_steps=1``.
    """
    inner = Inner(
        steps,
        step_scale=step_scale,
        threshold=number(c_max, "c_max", 0.0),
        random_start=random_start,
        normalized=normalized,
        least_steps=least_steps,
    )
    return functools.partial(_falling, inner=inner, ramp=integer(ramp, "ramp", 1))


def switch(first: Schedule, second: Schedule, at: int) -> Schedule:
    """`first` before epoch `at`, `second` from it on (both are asked for the same epoch)."""
    _callable(first, "first"), _callable(second, "second")
    return functools.partial(_switched, first=first, second=second, at=integer(at, "at", 0))


def warm_up(schedule: Schedule, epochs: int) -> Schedule:
    """`schedule` with the radius of epoch j multiplied by min(1, (j + 1) / epochs)."""
    _callable(schedule, "schedule")
    return functools.partial(_warmed, schedule=schedule, epochs=integer(epochs, "epochs", 1))


# Module-level functions, so that a schedule can be printed and sent to another process.
def _constant(epoch: int, inner: Inner) -> Inner:
    return inner


def _growing(epoch: int, inner: Inner, epochs: int) -> Inner:
    steps = (2 * inner.steps * min(epoch, epochs) + epochs) // (2 * epochs)
    return dataclasses.replace(inner, steps=steps)


def _falling(epoch: int, inner: Inner, ramp: int) -> Inner:
    return dataclasses.replace(inner, threshold=max(0.0, inner.threshold * (1 - epoch / ramp)))


def _switched(epoch: int, first: Schedule, second: Schedule, at: int) -> Inner:
    return first(epoch) if epoch < at else second(epoch)


def _warmed(epoch: int, schedule: Schedule, epochs: int) -> Inner:
    inner = schedule(epoch)
    scale = min(1.0, (epoch + 1) / epochs)
    return dataclasses.replace(inner, radius_scale=inner.radius_scale * scale)


def _callable(schedule: Schedule, name: str) -> None:
    if not callable(schedule):
        raise TypeError(f"{name} must be a schedule (epoch -> Inner), as pgd_training(10)")


# ------------------------------------------------------------------------------- history


@dataclasses.dataclass
class History:
    """What :func:`fit` saw, one entry per epoch in every list; numbers are plain Python.

    ``dataclasses.asdict`` makes it JSON.  Losses are in nats, per sample.

    Attributes
    ----------
    epoch : list of int
        0, 1, ...
    loss, accuracy : list of float
        Mean loss, and share of right answers, at the points the updates are made at (attacked;
        clean in standard training), each batch at the weights just before its update and in
        training mode: a by-product of the update.
    passes : list of float
        Forward and backward passes per training sample: gradient evaluations of the attack plus
        one for the update.  Looks at FOSC and monitors are not counted.
    inner_passes : list of list of int
        Entry k: how many samples had an attack of k gradient evaluations, k = 0, ..., steps.
        Under a positive threshold and with at least two steps, those of entry 1 were left at
        their start.
    lr : list of float
        Learning rate of the epoch.
    steps, threshold, radius : list
        Of the attack in force; the threshold is None where the schedule has none.
    fosc_mean, fosc_quantiles : list
        FOSC, in nats, of the attacked points of all training samples, each at the weights just
        before its batch's update and in evaluation mode; the quantiles are at the levels
        `QUANTILES`.  None without ``monitor_fosc=True``.
    monitored : list
        What the caller's `monitor` returned.
    """

    epoch: list[int] = dataclasses.field(default_factory=list)
    loss: list[float] = dataclasses.field(default_factory=list)
    accuracy: list[float] = dataclasses.field(default_factory=list)
    passes: list[float] = dataclasses.field(default_factory=list)
    inner_passes: list[list[int]] = dataclasses.field(default_factory=list)
    lr: list[float] = dataclasses.field(default_factory=list)
    steps: list[int] = dataclasses.field(default_factory=list)
    threshold: list[float | None] = dataclasses.field(default_factory=list)
    radius: list[float] = dataclasses.field(default_factory=list)
    fosc_mean: list[float | None] = dataclasses.field(default_factory=list)
    fosc_quantiles: list[list[float] | None] = dataclasses.field(default_factory=list)
    monitored: list[Any] = dataclasses.field(default_factory=list)


# ------------------------------------------------------------------------------- training


def fit(
    model: nn.Module,
    x: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    ball: Ball,
    schedule: Schedule,
    *,
    epochs: int,
    batch: int = 50,
    lr: float = 0.1,
    milestones: Sequence[float] = (0.5, 0.85),
    decay: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    device: str | torch.device | None = None,
    precision: str = "float32",
    monitor_fosc: bool = False,
    monitor: Callable[[int, nn.Module], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    r"""Train `model` in place on the points that the attacks of `schedule` find.

    Every epoch goes once through the samples in a new random order.  For every batch the attack
    of the epoch, an :class:`Inner`, moves the inputs (model in evaluation mode), and the weights
    take one step of stochastic gradient descent on the mean loss at the points reached (model in
    training mode); the points do not move along with the weights, as in Danskin's theorem
    (thm-danskin).

    Parameters
    ----------
    model : torch.nn.Module
        Maps a batch (B, ...) to logits (B, classes).  Moved to `device`, trained in place; every
        submodule ends in the mode it came in.
    x : array or tensor, shape (n, ...)
        Clean inputs, inside the ball's box; converted to the type of the weights and moved to
        the device batch by batch.
    y : array or tensor of integers, shape (n,)
        Labels 0, ..., classes - 1.
    ball : advreg.attacks.Ball
        The feasible set, around every sample.
    schedule : callable, epoch -> Inner
        The training method.
    epochs, batch : int
        Passes over the data, and samples per step; the last batch of an epoch may be smaller.
    lr, momentum, weight_decay : float
        Of ``torch.optim.SGD``.  The defaults are those of the book's experiments with digits.
    milestones : sequence
        Where the learning rate is multiplied by `decay`: numbers strictly between 0 and 1 are
        fractions of `epochs` (rounded to an epoch, halves up, at least 1), integers of at least
        1 are epochs.
    decay : float
        The factor, positive.
    seed : int
        Fixes the order of the samples and the random starts, through two generators of its own.
        torch's global random numbers are not touched; a model with dropout uses them, so seed
        them yourself then (the checkpoint keeps their state).
    loss : callable
        (logits, labels) -> one loss per sample, in the attack and in the update.
    device : str or torch.device, optional
        :func:`advreg.device.choose` by default.
    precision : str
        "bfloat16" runs the model, in attack and update, under ``torch.autocast``: faster on
        recent GPUs.  Weights, losses, FOSC and projections stay in float32.
    monitor_fosc : bool
        Look at the FOSC of every attacked point, which costs one pass more per sample and
        changes nothing else.
    monitor : callable, optional
        ``monitor(epoch, model)`` is called at the end of every epoch with the model in
        evaluation mode; what it returns, which must be something that JSON can hold, goes to
        ``History.monitored``.
    checkpoint : path, optional
        File to which the state is written before training and after every epoch.  If it exists,
        training goes on from there, on the same CPU bit for bit; if it is of a finished run, fit
        returns at once.  When training breaks off with an error or by Ctrl-C, the model is given
        the weights of the last checkpoint, so that the same call goes on.
    progress : bool
        A progress bar with the time left, in interactive runs; never if the environment variable
        ADVREG_STATIC is set.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an argument is out of its range, labels or inputs do not fit the model or the box, or
        the checkpoint is damaged or of other settings, other data or another model.
    TypeError
        If labels are not integers, or `schedule` is not callable or returns no :class:`Inner`.
    FloatingPointError
        If loss or logits stop being finite; the message names epoch and batch.
    OSError
        If the checkpoint cannot be written; this is tried before training.
    """
    where = device if isinstance(device, torch.device) else devices.choose(device)
    epochs, batch = integer(epochs, "epochs", 1), integer(batch, "batch", 1)
    seed, decay = integer(seed, "seed", 0), number(decay, "decay", 0.0, strict=True)
    marks = _milestones(milestones, epochs)
    options = {
        "lr": number(lr, "lr", 0.0, strict=True),
        "momentum": number(momentum, "momentum", 0.0),
        "weight_decay": number(weight_decay, "weight_decay", 0.0),
    }
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; accepted are {', '.join(PRECISIONS)}")
    inners = _inners(schedule, epochs)
    model.to(where)
    dtype = _dtype(model)
    x, y = _data(model, x, y, ball, where, dtype)

    optimizer = torch.optim.SGD(model.parameters(), **options)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, marks, decay)
    seeds = np.random.SeedSequence(seed).generate_state(2)
    order = torch.Generator().manual_seed(int(seeds[0]))
    starts = torch.Generator(where).manual_seed(int(seeds[1]))
    run = _Run(model, optimizer, scheduler, order, starts, History())
    keep = None
    if checkpoint is not None:
        settings = options | {
            "epochs": epochs,
            "batch": batch,
            "milestones": marks,
            "decay": decay,
            "seed": seed,
            "precision": precision,
            "device": where.type,
            "monitor_fosc": bool(monitor_fosc),
            "loss": getattr(loss, "__qualname__", type(loss).__qualname__),
            "ball": repr(ball),
            "schedule": [dataclasses.asdict(inner) for inner in inners],
            "model": str(model),
            "data": [list(x.shape), _digest(x, y)],
        }
        keep = _Checkpoint(Path(checkpoint), _plain(settings, "the settings"))
        keep.open(run)

    forward = model if precision == "float32" else _LowPrecision(model, where.type)
    modes = [(module, module.training) for module in model.modules()]
    bar = tqdm(
        total=epochs,
        initial=len(run.history.epoch),
        desc="training",
        unit="epoch",
        leave=False,
        disable=not (progress and _interactive()),
    )
    try:
        for epoch in range(len(run.history.epoch), epochs):
            model.train()
            lines = _epoch(
                run, forward, x, y, ball, inners[epoch], epoch, batch, loss, where, monitor_fosc
            )
            if monitor is not None:
                with evaluating(model):
                    lines["monitored"] = _plain(monitor(epoch, model), "what monitor returns")
            scheduler.step()
            for name, value in lines.items():
                getattr(run.history, name).append(value)
            if keep is not None:
                keep.write(run)
            bar.set_postfix(loss=f"{lines['loss']:.3f}", passes=f"{lines['passes']:.2f}")
            bar.update()
    except BaseException:
        if keep is not None:
            keep.restore(model)
        raise
    finally:
        bar.close()
        for module, mode in modes:
            module.training = mode
        optimizer.zero_grad()
    return run.history


def evaluate(
    model: nn.Module, x: Tensor | ArrayLike, y: Tensor | ArrayLike, batch: int = 1000
) -> float:
    """Share of the samples that the model classifies correctly, without attack.

    Parameters
    ----------
    model : torch.nn.Module
        Used in evaluation mode, where its weights live; it ends in the mode it came in.
    x, y : arrays or tensors
        Inputs (n, ...) and integer labels (n,).
    batch : int
        Samples at a time.

    Raises
    ------
    ValueError, TypeError
        If inputs and labels do not fit each other or the model.
    """
    batch, dtype = integer(batch, "batch", 1), _dtype(model)
    where = next(model.parameters()).device
    x, y = _data(model, x, y, None, where, dtype)
    right = 0
    with torch.no_grad(), evaluating(model):
        for points, labels in zip(x.split(batch), y.split(batch), strict=True):
            answers = model(points.to(where, dtype)).argmax(1)
            right += int((answers == labels.to(where)).sum())
    return right / len(y)


@dataclasses.dataclass
class _Run:
    """Everything that a training in progress consists of."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    order: torch.Generator
    starts: torch.Generator
    history: History


class _LowPrecision(nn.Module):
    """The model under autocast: only the forward pass is in bfloat16, logits are float32."""

    def __init__(self, model: nn.Module, kind: str) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, points: Tensor) -> Tensor:
        with torch.autocast(self.kind, torch.bfloat16):
            logits = self.model(points)
        return logits.float()


def _epoch(
    run: _Run,
    forward: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    inner: Inner,
    epoch: int,
    batch: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    where: torch.device,
    monitor_fosc: bool,
) -> dict[str, Any]:
    """One pass over the data; returns the epoch's lines of the history."""
    ball = dataclasses.replace(ball, radius=ball.radius * inner.radius_scale)
    dtype, n = _dtype(run.model), len(y)
    total, right = 0.0, 0
    spent: list[Tensor] = []
    fosc: list[Tensor] = []
    lr = run.optimizer.param_groups[0]["lr"]
    for number_, rows in enumerate(torch.randperm(n, generator=run.order).split(batch)):
        points, labels = x[rows].to(where, dtype), y[rows].to(where)
        try:
            found = _attack(forward, points, labels, ball, inner, loss, run.starts, monitor_fosc)
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {epoch}, batch {number_}: {error}") from error
        spent.append(found.passes.clamp(max=inner.steps))
        if monitor_fosc:
            fosc.append(found.fosc)

        run.optimizer.zero_grad()
        logits = forward(found.points)
        losses = loss(logits, labels)
        mean = losses.mean()
        value = mean.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"epoch {epoch}, batch {number_}: the training loss is {value}; "
                "a smaller learning rate usually helps"
            )
        mean.backward()
        run.optimizer.step()
        total += value * len(rows)
        right += int((logits.argmax(1) == labels).sum())

    inner_passes = torch.bincount(torch.cat(spent), minlength=inner.steps + 1).tolist()
    measured = torch.cat(fosc).double().cpu().numpy() if monitor_fosc else None
    return {
        "epoch": epoch,
        "loss": total / n,
        "accuracy": right / n,
        "passes": 1 + sum(k * count for k, count in enumerate(inner_passes)) / n,
        "inner_passes": inner_passes,
        "lr": float(lr),
        "steps": inner.steps,
        "threshold": inner.threshold,
        "radius": float(ball.radius),
        "fosc_mean": None if measured is None else float(measured.mean()),
        "fosc_quantiles": (None if measured is None else np.quantile(measured, QUANTILES).tolist()),
        "monitored": None,
    }


def _attack(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    ball: Ball,
    inner: Inner,
    loss: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator,
    report: bool,
):
    """The attack of the epoch on one batch."""
    return pgd(
        model,
        points,
        labels,
        ball,
        steps=inner.steps,
        step=inner.step_scale * ball.radius,
        loss=loss,
        generator=generator if inner.random_start else None,
        threshold=inner.threshold or None,
        least_steps=inner.least_steps,
        normalized=inner.normalized,
        report=report,
    )


# ---------------------------------------------------------------------------- checkpoints


class _Checkpoint:
    """One file, replaced as a whole after every epoch: a digest, then what torch.save wrote."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings

    def open(self, run: _Run) -> None:
        """Take up the state in the file; without a file, write the state before training."""
        arrived = _weights_digest(run.model)
        if not self.path.exists():
            self.settings["initial weights"] = arrived
            self.write(run)
            return
        state = self._read()
        theirs = state["settings"]
        known = (theirs.get("initial weights"), _weights_digest(state["model"]))
        self.settings["initial weights"] = known[0] if arrived in known else arrived
        differing = [
            key
            for key in sorted(theirs.keys() | self.settings.keys())
            if theirs.get(key) != self.settings.get(key)
        ]
        if differing:
            raise ValueError(
                f"the checkpoint {self.path} belongs to another run; these differ: "
                f"{', '.join(differing)}. Give this run a file of its own, or move that one away"
            )
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.scheduler.load_state_dict(state["scheduler"])
        run.order.set_state(state["order"])
        run.starts.set_state(state["starts"])
        if len(state["history"]["epoch"]) < self.settings["epochs"]:
            torch.set_rng_state(state["global"])
            if state["cuda"]:
                torch.cuda.set_rng_state_all(state["cuda"])
        run.history = History(**state["history"])

    def write(self, run: _Run) -> None:
        """Replace the file; a reader sees the old one or the new one, nothing between."""
        buffer = io.BytesIO()
        torch.save(
            {
                "format": _FORMAT,
                "settings": self.settings,
                "model": run.model.state_dict(),
                "optimizer": run.optimizer.state_dict(),
                "scheduler": run.scheduler.state_dict(),
                "order": run.order.get_state(),
                "starts": run.starts.get_state(),
                "global": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                "history": dataclasses.asdict(run.history),
            },
            buffer,
        )
        content = buffer.getbuffer()
        handle, name = tempfile.mkstemp(prefix=self.path.name, dir=self.path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights of the last checkpoint, if it can still be read."""
        with contextlib.suppress(OSError, ValueError):
            model.load_state_dict(self._read()["model"])

    def _read(self) -> dict[str, Any]:
        content = self.path.read_bytes()
        try:
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                raise ValueError("digest")
            state = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
            if state["format"] != _FORMAT:
                raise ValueError("format")
        except Exception as error:
            raise ValueError(
                f"{self.path} is not a checkpoint of advreg.training, or it is damaged; "
                "it was left as it is: move it away to start afresh"
            ) from error
        return state


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _weights_digest(state: nn.Module | dict[str, Tensor]) -> str:
    if isinstance(state, nn.Module):
        state = state.state_dict()
    return _digest(*(value for _, value in sorted(state.items())))


# --------------------------------------------------------------------------------- checks


def _plain(value: Any, name: str) -> Any:
    """The value as JSON gives it back: tuples are lists, numpy's floats are Python's."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be something that JSON can hold: {error}") from error


def _interactive() -> bool:
    """Whether somebody watches: a terminal or a notebook, and not the built page."""
    if os.environ.get("ADVREG_STATIC"):
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()


def _milestones(milestones: Iterable[float], epochs: int) -> list[int]:
    marks = []
    for mark in milestones:
        fraction = number(mark, "every entry of milestones", 0.0, strict=True)
        if fraction < 1:
            marks.append(max(1, math.floor(fraction * epochs + 0.5)))
        elif fraction == int(fraction) and not (isinstance(mark, float) and fraction == 1):
            marks.append(int(fraction))
        else:
            raise ValueError(
                "an entry of milestones is a fraction of the epochs, strictly between 0 and 1, "
                f"or an epoch, an integer of at least 1; got {mark!r}"
            )
    return sorted(marks)


def _inners(schedule: Schedule, epochs: int) -> list[Inner]:
    _callable(schedule, "schedule")
    inners = [schedule(epoch) for epoch in range(epochs)]
    for epoch, inner in enumerate(inners):
        if not isinstance(inner, Inner):
            raise TypeError(
                "a schedule must return an advreg.training.Inner for every epoch, got "
                f"{type(inner).__name__} for epoch {epoch}"
            )
    return inners


def _dtype(model: nn.Module) -> torch.dtype:
    for parameter in model.parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the weights of the model must be float32 or float64, got {parameter.dtype}"
            )
        return parameter.dtype
    raise ValueError("the model has no parameters to train")


def _tensor(value: Tensor | ArrayLike) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    return torch.from_numpy(np.require(np.asarray(value), requirements=["C", "W"]))


def _data(
    model: nn.Module,
    x: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    ball: Ball | None,
    where: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    x, y = _tensor(x), _tensor(y)
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"x must hold real numbers, got {x.dtype}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"labels must be integers 0, ..., classes - 1, got {y.dtype}")
    y = y.long()
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            "x must have one sample per row, shape (n, ...), and y one label per sample, shape "
            f"(n,); got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not len(y):
        raise ValueError("there are no samples")
    if not torch.isfinite(x).all():
        raise ValueError("every entry of x must be finite")
    if ball is not None:
        low = -math.inf if ball.low is None else ball.low
        high = math.inf if ball.high is None else ball.high
        least, most = x.min().item(), x.max().item()
        if least < low - 1e-6 or most > high + 1e-6:
            raise ValueError(
                f"the inputs reach from {least:g} to {most:g}, outside the box "
                f"[{low:g}, {high:g}] of the ball"
            )
    with torch.no_grad(), evaluating(model):
        logits = model(x[:1].to(where, dtype))
    if logits.ndim != 2 or len(logits) != 1:
        raise ValueError(
            "the model must map (B, ...) to logits of shape (B, classes); for one sample it "
            f"returned shape {tuple(logits.shape)}"
        )
    classes = logits.shape[1]
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(
            f"labels must lie in 0, ..., {classes - 1} for a model of {classes} classes; they "
            f"reach from {int(y.min())} to {int(y.max())}"
        )
    return x, y
