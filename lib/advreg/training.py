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
    gradient_penalty()          no attack; the loss plus radius times the dual norm of its gradient

FOSC is the first-order stationary condition of :mod:`advreg.attacks`.  :func:`fit` trains by
stochastic gradient descent on the losses at the attacked points, with checkpoints from which it
goes on bit for bit, in one process or in several that share every batch.  One seed fixes
everything: the order of the samples, the random starts and the augmentation come from three
separate generators, so that methods with the same seed see the same batches.
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
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from advreg import device as devices
from advreg._checks import integer, number
from advreg.attacks import Attack, Ball, _channels_last, cross_entropy, evaluating, pgd

__all__ = [
    "QUANTILES",
    "History",
    "Inner",
    "Schedule",
    "crop_and_flip",
    "curriculum",
    "dynamic",
    "evaluate",
    "fgsm_training",
    "fit",
    "gradient_penalty",
    "pgd_training",
    "standard",
    "switch",
    "warm_up",
]

#: Levels of the FOSC quantiles in a :class:`History`.
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
PRECISIONS = ("float32", "bfloat16")
ANNEALINGS = ("steps", "cosine")
Augmentation = Callable[[Tensor, torch.Generator], Tensor]
_FORMAT = "advreg training checkpoint 1"


# ----------------------------------------------------------------------------- schedules


@dataclasses.dataclass(frozen=True)
class Inner:
    r"""The attack of one epoch, projected gradient ascent on the loss, and what its update adds.

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
    penalty : float
        The update minimises the mean of ``loss + penalty * radius * ||g||_*`` instead of that of
        the loss: g is the gradient of the loss in the input at the attacked point, radius that in
        force, and ||.||_* the dual of the ball's norm (the l1 norm of g for the ball of norm inf,
        2 for 2, the largest entry for 1).  radius * ||g||_* is the FOSC of the centre of the ball
        without its box: what the loss gains in the ball to first order.  The update then
        differentiates twice, which costs about two passes instead of one.
    """

    steps: int
    _: dataclasses.KW_ONLY
    step_scale: float = 0.25
    threshold: float | None = None
    random_start: bool = True
    radius_scale: float = 1.0
    normalized: bool = False
    least_steps: int = 0
    penalty: float = 0.0

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {
            "steps": integer(self.steps, "steps", 0),
            "random_start": bool(self.random_start),
            "normalized": bool(self.normalized),
            "least_steps": integer(self.least_steps, "least_steps", 0),
        }
        for name in ("step_scale", "threshold", "radius_scale", "penalty"):
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


def gradient_penalty(weight: float = 1.0) -> Schedule:
    """No attack; the loss plus `weight` times radius times the dual norm of its input gradient.

    With ``weight = 1`` the first-order expansion of the adversarial loss is minimised: the penalty
    is the FOSC at the clean input in the ball without its box.  See :class:`Inner`.
    """
    inner = Inner(0, random_start=False, penalty=weight)
    return functools.partial(_constant, inner=inner)


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


# --------------------------------------------------------------------------- augmentation


def crop_and_flip(pad: int = 4, flip: bool = True) -> Augmentation:
    """The usual augmentation of small photographs, for the `augment` of :func:`fit`.

    Every image is padded with `pad` zeros on all sides, a window of its own size is cut out at a
    random place, and with `flip` it is mirrored left to right with probability 1/2.

    Parameters
    ----------
    pad : int
        Zeros on each side, at least 0.  Zero must be an admissible value (it is black in [0, 1]).
    flip : bool
        Mirror half of the images.  False for digits and letters, which change their meaning.

    Returns
    -------
    callable, (tensor of shape (B, channels, rows, columns), torch.Generator) -> tensor
        The result has the shape, type and device of the images; the draws are made on the
        generator's device, two integers per image and one for the mirror.
    """
    return _CropAndFlip(integer(pad, "pad", 0), bool(flip))


@dataclasses.dataclass(frozen=True)
class _CropAndFlip:
    pad: int
    flip: bool

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if images.ndim != 4:
            raise ValueError(
                "crop_and_flip takes images of shape (B, channels, rows, columns), got shape "
                f"{tuple(images.shape)}"
            )
        n, channels, height, width = images.shape
        like = {"generator": generator, "device": generator.device}
        corner = torch.randint(2 * self.pad + 1, (n, 2), **like).to(images.device)
        place = functools.partial(torch.arange, device=images.device)
        rows = corner[:, :1] + place(height)
        columns = corner[:, 1:] + place(width)
        if self.flip:
            mirrored = torch.randint(2, (n, 1), **like).to(images.device) == 1
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = nn.functional.pad(images, (self.pad,) * 4)
        which = place(n)[:, None, None, None], place(channels)[:, None, None]
        return padded[*which, rows[:, None, :, None], columns[:, None, None, :]]


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
        training mode: a by-product of the update.  A penalty is not part of the loss.
    passes : list of float
        Forward and backward passes per training sample: gradient evaluations of the attack plus
        one for the update, two for an update with a penalty.  Looks at FOSC and monitors are not
        counted.
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
    nesterov: bool = False,
    annealing: str = "steps",
    augment: Augmentation | None = None,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    device: str | torch.device | None = None,
    precision: str = "float32",
    channels_last: bool = False,
    compiled: bool = False,
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
    nesterov : bool
        Nesterov's momentum, of ``torch.optim.SGD``; needs a momentum above 0.
    annealing : str
        "steps": the learning rate falls at the `milestones`.  "cosine": epoch j has the learning
        rate lr (1 + cos(pi j / epochs)) / 2, and `milestones` and `decay` say nothing.
    augment : callable, optional
        (batch of clean inputs, generator) -> batch of the same shape, as :func:`crop_and_flip`;
        called on every batch, on the device, before the attack, whose ball is around the result.
    milestones : sequence
        Where the learning rate is multiplied by `decay`: numbers strictly between 0 and 1 are
        fractions of `epochs` (rounded to an epoch, halves up, at least 1), integers of at least
        1 are epochs.
    decay : float
        The factor, positive.
    seed : int
        Fixes the order of the samples, the random starts and the augmentation, through three
        generators of its own, on the CPU: a GPU sees the same samples, starts and crops.
        torch's global random numbers are not touched; a model with dropout uses them, so seed
        them yourself then (the checkpoint keeps their state).
    loss : callable
        (logits, labels) -> one loss per sample, in the attack and in the update.
    device : str or torch.device, optional
        :func:`advreg.device.choose` by default.
    precision : str
        "bfloat16" runs the model, in attack and update, under ``torch.autocast``: faster on
        recent GPUs.  Weights, losses, FOSC and projections stay in float32.
    channels_last : bool
        Hold weights and batches of images in the memory format ``torch.channels_last``: faster
        convolutions, on GPUs above all in bfloat16.  The weights come back contiguous.
    compiled : bool
        Run the model through ``torch.compile``, in attack and update (an update with a penalty
        runs the plain model: compiled ones cannot be differentiated twice).  Compiling takes
        from seconds to minutes at the first batches; it needs a C++ compiler on the CPU, Triton
        on CUDA.
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
        A progress bar over all batches with the time left, in interactive runs; never if the
        environment variable ADVREG_STATIC is set.

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
        If the checkpoint cannot be written, as on a full disk; this is tried before training.
        The file then is the one of the epoch before, and the same call goes on from it.
    RuntimeError
        If `compiled` is asked for where torch cannot compile, or another process stopped.

    Notes
    -----
    **Penalty.** With ``Inner.penalty`` the update minimises the mean of loss + penalty * radius *
    ||g||_*, where g is the gradient of the sum of the batch's losses, in training mode, in a
    sample's attacked point.  Without batch normalization that is the gradient of the sample's own
    loss; batch normalization in training mode couples the samples, and g then also holds what the
    sample does to the losses of the others.

    **Several processes.** If ``torch.distributed`` is initialised with W > 1 processes (by the
    caller: gloo on CPUs; nccl on CUDA, each process with its own current device), every process
    calls `fit` with the same arguments and the same weights, which is checked.  `batch` is the
    batch of all together; process r takes samples r, r + W, r + 2 W, ... of every batch.
    ``DistributedDataParallel`` averages the gradients so that the update is that of the mean over
    the whole batch, also if the shares differ; a process without a share takes the first sample
    of the batch with weight 0.  Order, augmentation and random starts are drawn for the whole
    batch on every process, so they do not depend on W: a model without batch normalization and
    dropout follows the same path for every W, but for rounding.  Batch normalizations see the
    share of their process; within an epoch so do their running statistics, which are averaged
    over the processes at its end, before `monitor` (the variance between shares is not in the
    average of the variances).  History is of all samples and the same on every process;
    `monitor` is called on each.  Only process 0 writes the checkpoint; all of them read it, from
    a file system that they share, and W must be the same when training goes on.  A loss that is
    not finite, or an attack that fails, stops all processes at the same batch, and so does an
    error before training or in writing the checkpoint; of any other error on one process the
    others learn by the end of the connection or by the launcher (torchrun ends them).
    """
    team = _Team()
    with team.together():
        where = device if isinstance(device, torch.device) else devices.choose(device)
        epochs, batch = integer(epochs, "epochs", 1), integer(batch, "batch", 1)
        seed, decay = integer(seed, "seed", 0), number(decay, "decay", 0.0, strict=True)
        marks = _milestones(milestones, epochs)
        options = {
            "lr": number(lr, "lr", 0.0, strict=True),
            "momentum": number(momentum, "momentum", 0.0),
            "weight_decay": number(weight_decay, "weight_decay", 0.0),
            "nesterov": bool(nesterov),
        }
        if nesterov and not options["momentum"]:
            raise ValueError("nesterov is a form of momentum: it needs a momentum above 0")
        _one_of(annealing, "annealing", ANNEALINGS), _one_of(precision, "precision", PRECISIONS)
        if augment is not None and not callable(augment):
            raise TypeError("augment must be callable, as crop_and_flip()")
        inners = _inners(schedule, epochs)
        model.to(where)
        dtype = _dtype(model)
        x, y = _data(model, x, y, ball, where, dtype)
        if channels_last and x.ndim != 4:
            raise ValueError(
                "channels_last is a format for images, x of shape (n, channels, rows, columns); "
                f"got shape {tuple(x.shape)}"
            )
        attacked = model if precision == "float32" else _LowPrecision(model, where.type)
        updated = attacked
        if compiled:
            attacked = _compile(attacked, where)
            # what is compiled cannot be differentiated twice
            updated = updated if any(inner.penalty for inner in inners) else attacked

        settings = options | {
            "epochs": epochs,
            "batch": batch,
            "annealing": annealing,
            "milestones": marks,
            "decay": decay,
            "augment": _name(augment),
            "seed": seed,
            "precision": precision,
            "channels_last": bool(channels_last),
            "compiled": bool(compiled),
            "device": where.type,
            "processes": team.size,
            "monitor_fosc": bool(monitor_fosc),
            "loss": getattr(loss, "__qualname__", type(loss).__qualname__),
            "ball": repr(ball),
            "schedule": [dataclasses.asdict(inner) for inner in inners],
            "model": str(model),
        }
        if team.size > 1 or checkpoint is not None:
            settings["data"] = [list(x.shape), _digest(x, y)]
        settings = _plain(settings, "the settings")
    team.agree(settings | {"initial weights": _weights_digest(model)} if team.size > 1 else {})

    with _memory_format(model, channels_last):
        optimizer = torch.optim.SGD(model.parameters(), **options)
        if annealing == "steps":
            scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, marks, decay)
        else:
            scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda j: (1 + math.cos(math.pi * j / epochs)) / 2
            )
        seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
        order, starts, crops = (torch.Generator().manual_seed(s) for s in seeds)
        if team.size > 1:
            places = [where] if where.type == "cuda" and where.index is not None else None
            updated = DistributedDataParallel(
                updated, device_ids=places, forward_sync_buffers=False
            )
        run = _Run(
            model,
            attacked,
            updated,
            _channels_last if channels_last else Tensor.contiguous,
            optimizer,
            scheduler,
            order,
            starts,
            crops,
            History(),
            team,
        )
        keep = None
        if checkpoint is not None:
            keep = _Checkpoint(Path(checkpoint), settings)
            keep.open(run)

        modes = [(module, module.training) for module in model.modules()]
        batches = -(-len(y) // batch)
        bar = tqdm(
            total=epochs * batches,
            initial=len(run.history.epoch) * batches,
            desc="training",
            unit="batch",
            leave=False,
            disable=not (progress and team.rank == 0 and _interactive()),
        )
        try:
            for epoch in range(len(run.history.epoch), epochs):
                model.train()
                clean = _batches(run, x, y, batch, where, augment)
                lines = _epoch(
                    run, clean, len(y), ball, inners[epoch], epoch, loss, monitor_fosc, bar
                )
                team.average(model)
                if monitor is not None:
                    with evaluating(model):
                        lines["monitored"] = _plain(monitor(epoch, model), "what monitor returns")
                scheduler.step()
                for name, value in lines.items():
                    getattr(run.history, name).append(value)
                if keep is not None:
                    keep.write(run)
                bar.set_postfix(
                    epoch=epoch + 1, loss=f"{lines['loss']:.3f}", passes=f"{lines['passes']:.2f}"
                )
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
    attacked: nn.Module  # the model as the attacks call it
    updated: nn.Module  # the model as the updates call it
    layout: Callable[[Tensor], Tensor]  # puts points in the memory format of the run
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    order: torch.Generator
    starts: torch.Generator
    crops: torch.Generator
    history: History
    team: _Team


class _Team:
    """The processes that train together: those of torch.distributed, or this one alone."""

    def __init__(self) -> None:
        on = dist.is_available() and dist.is_initialized()
        self.size, self.rank = (dist.get_world_size(), dist.get_rank()) if on else (1, 0)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """What every process passes, in their order."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do something that can fail: an error on one process becomes an error on all."""
        if self.size == 1:
            yield
            return
        mine = None
        try:
            yield
        except Exception as error:
            mine = error
        errors = self.gather(mine and f"{type(mine).__name__}: {mine}")
        if mine is not None:
            raise mine
        for rank, error in enumerate(errors):
            if error is not None:
                raise RuntimeError(f"process {rank} of {self.size} stopped: {error}")

    def agree(self, settings: dict[str, Any]) -> None:
        """Refuse settings that are not those of process 0."""
        everyone = self.gather(settings)
        for rank, theirs in enumerate(everyone):
            if differing := _differing(everyone[0], theirs):
                raise ValueError(
                    "all processes must call fit with the same arguments and weights; of "
                    f"process {rank} and process 0 these differ: {', '.join(differing)}"
                )

    def average(self, model: nn.Module) -> None:
        """Average the running statistics of batch normalizations over the processes."""
        if self.size == 1:
            return
        for module in model.modules():
            for name in ("running_mean", "running_var"):
                statistic = getattr(module, name, None)
                if isinstance(statistic, Tensor):
                    self.sum(statistic).div_(self.size)


class _LowPrecision(nn.Module):
    """The model under autocast: only the forward pass is in bfloat16, logits are float32."""

    def __init__(self, model: nn.Module, kind: str) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, points: Tensor) -> Tensor:
        with torch.autocast(self.kind, torch.bfloat16):
            logits = self.model(points)
        return logits.float()


@contextlib.contextmanager
def _memory_format(model: nn.Module, channels_last: bool) -> Iterator[None]:
    """Hold the weights in channels_last meanwhile, if this is asked for."""
    if not channels_last:
        yield
        return
    model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)


def _compile(model: nn.Module, where: torch.device) -> nn.Module:
    """The compiled model, after a look whether anything can be compiled here."""
    try:
        torch.compile(_one_more)(torch.zeros(2, device=where))
    except Exception as error:
        raise RuntimeError(
            "torch.compile does not work here: on the CPU it needs a C++ compiler (g++ or clang), "
            "on CUDA Triton; train with compiled=False, which gives the same up to rounding"
        ) from error
    return torch.compile(model)


def _one_more(values: Tensor) -> Tensor:
    return values + 1


def _batches(
    run: _Run,
    x: Tensor,
    y: Tensor,
    batch: int,
    where: torch.device,
    augment: Augmentation | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The clean batches of an epoch, whole also if several processes share them."""
    dtype = _dtype(run.model)
    for rows in torch.randperm(len(y), generator=run.order).split(batch):
        points = x[rows].to(where, dtype)
        if augment is not None:
            shape = points.shape
            points = augment(points, run.crops)
            if points.shape != shape:
                raise ValueError(
                    f"augment must return a batch of the shape it is given, {tuple(shape)}; "
                    f"got {tuple(points.shape)}"
                )
        yield run.layout(points), y[rows].to(where)


def _epoch(
    run: _Run,
    clean: Iterable[tuple[Tensor, Tensor]],
    n: int,
    ball: Ball,
    inner: Inner,
    epoch: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    monitor_fosc: bool,
    bar: tqdm,
) -> dict[str, Any]:
    """One pass over the data, n samples; returns the epoch's lines of the history."""
    ball = dataclasses.replace(ball, radius=ball.radius * inner.radius_scale)
    team, where = run.team, next(run.model.parameters()).device
    total, done = 0.0, 0
    right = torch.zeros((), dtype=torch.long, device=where)
    spent = torch.zeros(n, dtype=torch.long, device=where)  # in the order of the epoch
    fosc = torch.zeros(n, dtype=_dtype(run.model), device=where)
    lr = run.optimizer.param_groups[0]["lr"]
    for number_, (points, labels) in enumerate(clean):
        size = len(labels)
        start = None
        if team.size > 1:
            if inner.random_start:  # of the whole batch, so that it does not depend on W
                start = ball.random(points, run.starts)
            share = slice(team.rank, None, team.size) if team.rank < size else slice(1)
            points, labels = points[share], labels[share]
            start = None if start is None else start[share]
        own = len(labels) if team.rank < size else 0  # without a share: one sample, weight 0
        places = slice(done + team.rank, done + size, team.size)
        try:
            found = _attack(
                run.attacked, points, labels, ball, inner, loss, run.starts, start, monitor_fosc
            )
        except Exception as error:
            # in the place of the loss below, so that the other processes stop too
            team.sum(torch.full((2,), math.nan, dtype=torch.float64, device=where))
            if not isinstance(error, FloatingPointError):
                raise
            raise FloatingPointError(f"epoch {epoch}, batch {number_}: {error}") from error
        spent[places] = found.passes[:own].clamp(max=inner.steps)
        if monitor_fosc:
            fosc[places] = found.fosc[:own]

        run.optimizer.zero_grad()
        points = run.layout(found.points).requires_grad_(inner.penalty > 0)
        logits = run.updated(points)
        losses = loss(logits, labels)
        goals = losses
        if inner.penalty:
            slopes = _dual_length(losses, points, ball.norm)
            goals = losses + inner.penalty * ball.radius * slopes
        with torch.no_grad():
            if team.size == 1:
                means = torch.stack([losses.mean(), goals.mean()])
            else:
                sums = [values[:own].double().sum() for values in (losses, goals)]
                means = team.sum(torch.stack(sums)) / size
            right += (logits.argmax(1) == labels)[:own].sum()
        value, goal = means.tolist()
        if not math.isfinite(value + goal):
            raise FloatingPointError(
                f"epoch {epoch}, batch {number_}: the training loss is {goal}; "
                "a smaller learning rate usually helps"
            )
        if team.size == 1:
            goals.mean().backward()
        else:  # DistributedDataParallel takes the mean of the gradients over the processes
            (goals.sum() * (team.size / size if own else 0.0)).backward()
        run.optimizer.step()
        total += value * size
        done += size
        bar.update()

    right, spent = int(team.sum(right)), team.sum(spent)
    inner_passes = torch.bincount(spent, minlength=inner.steps + 1).tolist()
    measured = team.sum(fosc).double().cpu().numpy() if monitor_fosc else None
    passes = 2 if inner.penalty else 1
    return {
        "epoch": epoch,
        "loss": total / n,
        "accuracy": right / n,
        "passes": passes + sum(k * count for k, count in enumerate(inner_passes)) / n,
        "inner_passes": inner_passes,
        "lr": float(lr),
        "steps": inner.steps,
        "threshold": inner.threshold,
        "radius": float(ball.radius),
        "fosc_mean": None if measured is None else float(measured.mean()),
        "fosc_quantiles": (None if measured is None else np.quantile(measured, QUANTILES).tolist()),
        "monitored": None,
    }


def _dual_length(losses: Tensor, points: Tensor, norm: float) -> Tensor:
    """||g||_* of every sample, differentiable; where g = 0 its gradient is 0, not NaN."""
    (g,) = torch.autograd.grad(losses.sum(), points, create_graph=True, materialize_grads=True)
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    return torch.linalg.vector_norm(g.flatten(1), ord=dual, dim=1)


def _attack(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    ball: Ball,
    inner: Inner,
    loss: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator,
    start: Tensor | None,
    report: bool,
) -> Attack:
    """The attack of the epoch on one batch, from a given start or one that is drawn."""
    return pgd(
        model,
        points,
        labels,
        ball,
        steps=inner.steps,
        step=inner.step_scale * ball.radius,
        loss=loss,
        generator=generator if inner.random_start and start is None else None,
        start=start,
        threshold=inner.threshold or None,
        least_steps=inner.least_steps,
        normalized=inner.normalized,
        report=report,
    )


# ---------------------------------------------------------------------------- checkpoints


class _Checkpoint:
    """One file, replaced as a whole after every epoch: a digest, then what torch.save wrote."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings, self.epochs = path, settings, None

    def open(self, run: _Run) -> None:
        """Take up the state in the file; without a file, write the state before training."""
        team, arrived = run.team, _weights_digest(run.model)
        if not team.gather(self.path.exists())[0]:
            self.settings["initial weights"] = arrived
            self.write(run)
            return
        with team.together():
            state = self._read()
            theirs = state["settings"]
            known = (theirs.get("initial weights"), _weights_digest(state["model"]))
            self.settings["initial weights"] = known[0] if arrived in known else arrived
            if differing := _differing(theirs, self.settings):
                if "processes" in differing:
                    then = theirs.get("processes")
                    differing[differing.index("processes")] += f" ({then} then)"
                raise ValueError(
                    f"the checkpoint {self.path} belongs to another run; these differ: "
                    f"{', '.join(differing)}. Give this run a file of its own, or move that one "
                    "away"
                )
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.scheduler.load_state_dict(state["scheduler"])
        run.order.set_state(state["order"])
        run.starts.set_state(state["starts"])
        run.crops.set_state(state["crops"])
        self.epochs = len(state["history"]["epoch"])
        if self.epochs < self.settings["epochs"]:
            everywhere, cuda = state["global"][team.rank]
            torch.set_rng_state(everywhere)
            if cuda:
                torch.cuda.set_rng_state_all(cuda)
        run.history = History(**state["history"])

    def write(self, run: _Run) -> None:
        """Replace the file; a reader sees the old one or the new one, nothing between."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        everywhere = run.team.gather((torch.get_rng_state(), cuda))
        with run.team.together():
            if run.team.rank == 0:
                self._write(run, everywhere)
        self.epochs = len(run.history.epoch)

    def _write(self, run: _Run, everywhere: list[tuple[Tensor, list[Tensor]]]) -> None:
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
                "crops": run.crops.get_state(),
                "global": everywhere,
                "history": dataclasses.asdict(run.history),
            },
            buffer,
        )
        content, name = buffer.getbuffer(), None
        try:
            handle, name = tempfile.mkstemp(prefix=self.path.name, dir=self.path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException as error:
            if name is not None:
                Path(name).unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            kept = (
                "training has not begun"
                if self.epochs is None
                else f"the last one that was written is still there: once there is room, the same "
                f"call goes on from epoch {self.epochs}"
            )
            raise OSError(
                error.errno, f"the checkpoint {self.path} cannot be written ({error}); {kept}"
            ) from error

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


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]


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


def _name(function: Callable | None) -> str | None:
    """What a function is called, the same in every process."""
    if function is None:
        return None
    own = getattr(function, "__qualname__", None)
    return own or re.sub(r" at 0x[0-9a-f]+", "", repr(function))


def _one_of(value: str, name: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ValueError(f"unknown {name} {value!r}; accepted are {', '.join(accepted)}")


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
