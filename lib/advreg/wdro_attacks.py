r"""Distributional attacks: distributions near the samples on which a classifier does badly.

An attack with a Wasserstein budget needs two things: points that the mass of each sample may move
to, with what they gain and how far they are; and a way to spend the budget on them.  The second
is solved in :mod:`advreg.wdro`: `allocate` for any loss, `knapsack` for the 0-1 loss.  This module
finds the points, for any classifier in torch:

* :func:`nearest_errors`: the closest misclassified point of each sample, for `knapsack`;
* :func:`growth_points`: points of large loss at a ladder of radii, for `allocate`;
* :func:`mixture`: one common factor for all samples, spent without allocation;
* :func:`attacked`: the distribution itself, whose mean loss (:func:`mean_loss`) and distance
  (:func:`audit`) can be computed without trust in the attack.

Labels are fixed throughout.  Everything that is returned belongs to points that were evaluated,
so every value is a LOWER bound of the distributionally robust value, for the network in the
precision that was attacked.  Conventions are those of :mod:`advreg.attacks`; distances, gains and
masses are numpy arrays in float64, inputs are tensors on the device of the model.

The ideas of a mixture of clean and attacked samples, and of spending the budget on the samples
that are nearest to an error, are those of distributional attacks (WDA and WDA++, cf. arXiv
2510.10000); what is computed here is derived in chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from advreg import wdro
from advreg._checks import finite, integer, number
from advreg.attacks import (
    Ball,
    Loss,
    Model,
    _flat,
    _inputs,
    _look,
    _normal,
    _over,
    cross_entropy,
    evaluating,
    margin,
    pgd,
)

__all__ = [
    "Attacked",
    "Audit",
    "Growth",
    "NearestErrors",
    "attacked",
    "audit",
    "growth_points",
    "mean_loss",
    "mixture",
    "nearest_errors",
    "record",
    "zero_one",
]

Array = NDArray[np.float64]


class NearestErrors(NamedTuple):
    """The nearest errors that were found."""

    distances: Array
    """(B,): distance of each sample to `points`; 0 if it is an error, inf if none was found."""
    points: Tensor
    """(B, ...): misclassified points; the sample itself where none was found."""


class Growth(NamedTuple):
    """Points found for each sample, with distances and gains."""

    lists: list[Array]
    """Per sample rows (distance, gain), shape (R, 2): the `points` of ``wdro.allocate``."""
    inputs: Tensor
    """(R, B, ...): row k of sample i is ``inputs[k, i]``."""
    clean: Array
    """(B,): losses of the samples, from which the gains count."""


@dataclass(frozen=True, eq=False)
class Attacked:
    """A distribution near the samples, one atom per entry of the leading axis."""

    inputs: Tensor
    """(k, ...): where the atoms are."""
    labels: Tensor
    """(k,): their labels, those of the samples they come from."""
    masses: Array
    """(k,): their masses, with sum 1."""
    sample: NDArray[np.intp]
    """(k,): the sample that each atom comes from."""

    @property
    def points(self) -> Array:
        """The inputs as rows of a numpy array in float64, shape (k, d)."""
        return _flat(self.inputs).detach().cpu().double().numpy()


class Audit(NamedTuple):
    """How far a distribution is from the samples."""

    coupling: float
    """Cost of the plan that the attack had in mind, (sum of mass * distance^p)^(1/p)."""
    wasserstein: float
    """W_p, the cost of the best plan that keeps labels (found by a linear program, so an upper
    bound up to its tolerances): at most `coupling`."""


# ------------------------------------------------------------------------------- points and losses


def zero_one(logits: Tensor, y: Tensor) -> Tensor:
    """0-1 loss of each sample: 1 where the largest logit (the first of equal ones) is not y's."""
    return (logits.argmax(dim=1) != y).to(logits.dtype)


def _losses(model: Model, z: Tensor, y: Tensor, loss: Loss, batch: int) -> Array:
    """Losses of the model as it is, in float64."""
    if not callable(loss):
        raise TypeError(f"loss must be a function of logits and labels, got {loss!r}")
    parts = []
    for i in range(0, len(z), batch):
        logits = model(z[i : i + batch])
        _look(logits, y[i : i + batch])
        part = loss(logits, y[i : i + batch])
        if part.shape != y[i : i + batch].shape or not bool(torch.isfinite(part).all()):
            raise ValueError(
                "the loss must return one finite number per sample (reduction='none' in torch)"
            )
        parts.append(part.double().cpu())
    return torch.cat(parts).numpy()


def _lengths(d: Tensor, norm: float) -> Tensor:
    return _flat(d).double().norm(p=norm, dim=1)


def _between(z: Tensor, x: Tensor, norm: float) -> Tensor:
    """Distances in float64 of points as they are stored."""
    return _lengths(z.double() - x.double(), norm)


def _random(generator: torch.Generator | None, count: int) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator is None and count:
        raise ValueError("random starts are drawn from a generator: pass one, or restarts=0")


def _stacked(inputs: Tensor | Sequence[Tensor], x: Tensor) -> Tensor:
    """Points that samples may move to, as one tensor (R, B, ...)."""
    rows = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not all(isinstance(row, Tensor) for row in (x, *rows)):
        raise TypeError("x and inputs must hold torch tensors (torch.from_numpy makes them)")
    if not isinstance(inputs, Tensor) and len({row.shape for row in rows}) == 1:
        inputs = torch.stack(rows)
    if not isinstance(inputs, Tensor) or inputs.shape[1:] != x.shape or not len(inputs):
        shapes = ", ".join(str(tuple(row.shape)) for row in rows) or "no points"
        raise ValueError(
            f"inputs must hold points of the shape of x, (R, {', '.join(map(str, x.shape))}), for "
            f"some R >= 1; got {shapes}"
        )
    return inputs


def _samples(model: Model, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    y = _inputs(model, x, y, ball)
    if not len(x):
        raise ValueError("x holds no sample")
    return _normal(y)


# ------------------------------------------------------------------------------- nearest errors


def nearest_errors(
    model: Model,
    x: Tensor,
    y: Tensor,
    norm: float,
    *,
    reach: float | None = None,
    low: float | None = None,
    high: float | None = None,
    targets: int | None = None,
    steps: int = 50,
    restarts: int = 16,
    polish: int = 40,
    generator: torch.Generator | None = None,
    batch: int = 4096,
) -> NearestErrors:
    r"""Closest misclassified point of each sample, searched by gradients.

    From the sample, once for every other class j, and from random points: Newton steps on
    z_j - z_y, each to the nearest point where its linearization vanishes, until the sample is
    misclassified; nothing is projected onto a ball.  Then the first error on the segment back to
    the sample, by bisection; and from the best of them a walk along the boundary, towards the
    nearest point of its linearization, as long as that comes nearer.

    Parameters
    ----------
    model, x, y
        As in :func:`advreg.attacks.pgd`.
    norm : 1, 2 or math.inf
        Norm of the distances.
    reach : float, optional
        Errors farther away than this are not looked for; required without a box, else the
        diameter of the box by default.  With a finite order of the Wasserstein distance samples
        may move much farther than the radius: too small a reach loses errors.
    low, high : float, optional
        Box of admissible inputs, in which the samples lie.
    targets : int, optional
        Only so many classes, those that look nearest at the sample; all by default.
    steps : int
        Newton steps of each run, at least 1.
    restarts : int
        Random starts per sample; 0 if no generator is given.
    polish : int
        Steps along the boundary, at least 0.
    generator : torch.Generator, optional
        For the random starts and for random steps along the boundary.
    batch : int
        Points that the model sees at a time.

    Returns
    -------
    NearestErrors
        Distances are never too small: every point is misclassified (evaluated at the end), and
        distances are those of the points as stored, in float64.

    Raises
    ------
    TypeError, ValueError
        If an input has the wrong type, shape, device or values; in words.

    Notes
    -----
    ``wdro.knapsack(distances, radius, p)`` is then a lower bound of the worst error rate, and
    exact where the distances are.  :mod:`advreg.verify` finds small distances exactly.

    Source: Proposition ``prop-nearest-error-attack`` (chapter 6).
    """
    ball = Ball(1.0, norm, low, high)
    y = _samples(model, x, y, ball)
    steps, polish, batch = (
        integer(value, name, least)
        for value, name, least in [(steps, "steps", 1), (polish, "polish", 0), (batch, "batch", 1)]
    )
    restarts = integer(restarts, "restarts", 0) if generator is not None else 0
    _random(generator, restarts)
    if reach is None:
        if low is None or high is None:
            raise ValueError("give reach, how far errors are looked for, or both sides of a box")
        reach = (high - low) * x[0].numel() ** (0.0 if norm == math.inf else 1 / norm)
    reach = number(reach, "reach", 0.0, strict=True)
    if targets is not None:
        targets = integer(targets, "targets", 1)
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        x = _normal(x).contiguous()
        search = _Search(model, ball, reach, generator, batch)
        starts = search.starts(x, restarts)
        points, found = search.nearest(x, y, starts, targets, steps, polish)
        distances = torch.where(found, _between(points, x, norm), math.inf)
        far = distances > reach
        points[far], distances[far] = x[far], math.inf
    return NearestErrors(distances.cpu().numpy(), points)


class _Search:
    """The search of :func:`nearest_errors`: runs are (start, class) pairs of samples."""

    def __init__(
        self,
        model: Model,
        ball: Ball,
        reach: float,
        generator: torch.Generator | None,
        batch: int,
    ) -> None:
        self.model, self.ball, self.norm, self.reach = model, ball, ball.norm, reach
        self.generator, self.batch = generator, batch
        self.low = -math.inf if ball.low is None else ball.low
        self.high = math.inf if ball.high is None else ball.high

    # what the model says

    def logits(self, z: Tensor) -> Tensor:
        logits = torch.cat([self.model(part) for part in z.split(self.batch)])
        if not bool(torch.isfinite(logits.sum())):
            raise FloatingPointError("the logits are not finite: look at the weights of the model")
        return logits

    def wrong(self, z: Tensor, y: Tensor) -> Tensor:
        """Misclassified, and by more than what rounding changes in another batch."""
        if not len(z):
            return torch.zeros(0, dtype=torch.bool, device=z.device)
        logits = self.logits(z)
        slack = 100 * torch.finfo(logits.dtype).eps * logits.abs().amax(dim=1)
        return (logits.argmax(dim=1) != y) & (margin(logits, y) > slack)

    def lead(self, z: Tensor, y: Tensor, goal: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """z_j - z_y for the class j of `goal` (the best one by default), gradient, wrong or not."""
        parts = []
        for i in range(0, len(z), self.batch):
            own = y[i : i + self.batch, None]
            with torch.enable_grad():
                here = z[i : i + self.batch].detach().requires_grad_()
                logits = self.model(here)
                if goal is None:
                    j = logits.detach().scatter(1, own, -math.inf).argmax(dim=1, keepdim=True)
                else:
                    j = goal[i : i + self.batch, None]
                ahead = (logits.gather(1, j) - logits.gather(1, own))[:, 0]
            if ahead.requires_grad:
                (g,) = torch.autograd.grad(
                    ahead, here, torch.ones_like(ahead), materialize_grads=True
                )
            else:  # a model that does not look at its input
                g = torch.zeros_like(here)
            parts.append((ahead.detach().double(), g, logits.argmax(dim=1) != own[:, 0]))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    # where a linear function vanishes

    def clip(self, z: Tensor) -> Tensor:
        return z.clamp(self.low, self.high)

    def towards(self, x: Tensor, g: Tensor, need: Tensor) -> Tensor:
        """v - x for the nearest v in the box with <g, v - x> >= need, or with the most there is.

        No entry moves farther than the reach.  In float64, flat, one row per sample.
        """
        x, g = _flat(x).double(), _flat(g).double()
        largest = g.abs().amax(dim=1, keepdim=True)
        size = g.abs() / largest.masked_fill(largest == 0, 1.0)
        need = (need[:, None] / largest.masked_fill(largest == 0, 1.0)).clamp_min(0)
        room = torch.where(g > 0, self.high - x, x - self.low).clamp(0, self.reach)
        room = room.masked_fill(g == 0, 0.0)
        if self.norm == 1:  # the largest entries first
            order = size.argsort(dim=1, descending=True, stable=True)
            wide, slope = room.gather(1, order), size.gather(1, order)
            before = (wide * slope).cumsum(dim=1) - wide * slope
            want = (need - before).clamp_min(0) / slope.clamp_min(1e-300)
            amount = torch.zeros_like(room).scatter_(1, order, torch.minimum(want, wide))
        else:  # all at once, until an entry meets its wall: sum of min(rate t, most) = need
            pace = torch.ones_like(size) if self.norm == math.inf else size
            rate, most = size * pace, size * room
            kink, order = (room / pace.clamp_min(1e-300)).sort(dim=1)
            rate, most = rate.gather(1, order), most.gather(1, order)
            done = most.cumsum(dim=1) - most
            left = rate.flip(1).cumsum(dim=1).flip(1)
            k = (done + kink * left < need).sum(dim=1, keepdim=True)
            last = k.clamp_max(size.shape[1] - 1)
            t = (need - done.gather(1, last)) / left.gather(1, last).clamp_min(1e-300)
            t = t.masked_fill(k == size.shape[1], math.inf)
            amount = torch.minimum((pace * t).nan_to_num(nan=0.0), room)
        return torch.where(g < 0, -amount, amount)

    # the three stages

    def starts(self, x: Tensor, count: int) -> Tensor:
        """Random points (count, B, ...), from near to as far as the reach."""
        ball = Ball(self.reach, self.norm, self.ball.low, self.ball.high)
        starts = []
        for _ in range(count):
            z = ball.random(x, self.generator)
            share = torch.rand(len(x), generator=self.generator, device=self.generator.device)
            share = (10 ** (-2 * share)).to(x)
            starts.append(self.clip(x + _over(share, x) * (z - x)))
        return torch.stack(starts) if count else x.new_zeros((0, *x.shape))

    def nearest(
        self, x: Tensor, y: Tensor, starts: Tensor, targets: int | None, steps: int, polish: int
    ) -> tuple[Tensor, Tensor]:
        """Points and whether they are misclassified."""
        logits = self.logits(x)
        _look(logits, y)
        points, found = x.clone(), logits.argmax(dim=1) != y
        todo = (~found).nonzero()[:, 0]
        if not len(todo):
            return points, found
        x, y = x[todo], y[todo]
        goals = self.goals(x, y, logits.shape[1], targets)
        begin = torch.cat([x.expand(len(goals), *x.shape), starts[:, todo]]).flatten(0, 1)
        there = self.logits(begin[len(goals) * len(x) :]) if len(starts) else logits[:0]
        best = there.scatter(1, y.repeat(len(starts))[:, None], -math.inf).argmax(dim=1)
        goal = torch.cat([goals.flatten(), best])
        runs = len(goals) + len(starts)
        x_run, y_run = x.repeat(runs, *(1,) * (x.ndim - 1)), y.repeat(runs)
        z, hit = self.march(x_run, y_run, begin, goal, steps)
        index = hit.nonzero()[:, 0]
        z[index] = self.back(x_run[index], y_run[index], z[index], 12, scan=8)
        length = _between(z, x_run, self.norm).masked_fill(~hit, math.inf).reshape(runs, -1)
        # the best three of each sample are polished
        order = length.argsort(dim=0, stable=True)[: min(3, runs)]
        chosen = (order * len(x) + torch.arange(len(x), device=x.device)).flatten()
        chosen = chosen[hit[chosen]]
        x_run, y_run, z = x_run[chosen], y_run[chosen], z[chosen]
        z = self.walk(x_run, y_run, z, polish)
        z = self.back(x_run, y_run, z, 26 if x.dtype == torch.float32 else 48, scan=8)
        final = torch.full_like(length, math.inf).flatten()
        final[chosen] = _between(z, x_run, self.norm).masked_fill(~self.wrong(z, y_run), math.inf)
        final, best = final.reshape(runs, -1).min(dim=0)
        where = torch.full((runs * len(x),), 0, device=x.device)
        where[chosen] = torch.arange(len(chosen), device=x.device)
        hit = final < math.inf
        chosen = where[best * len(x) + torch.arange(len(x), device=x.device)][hit]
        points[todo[hit]], found[todo[hit]] = z[chosen], True
        return points, found

    def goals(self, x: Tensor, y: Tensor, classes: int, targets: int | None) -> Tensor:
        """Other classes (count, B), the nearest first by the linearization at the sample."""
        goals = torch.arange(classes - 1, device=y.device)[:, None].expand(-1, len(y))
        goals = goals + (goals >= y)
        if targets is None or targets >= classes - 1:
            return goals
        distances = []
        for goal in goals:
            ahead, g, _ = self.lead(x, y, goal)
            steepness = _lengths(g, {1: math.inf, 2: 2, math.inf: 1}[self.norm])
            distances.append(-ahead / steepness.clamp_min(1e-300))
        order = torch.stack(distances).argsort(dim=0, stable=True)[:targets]
        return goals.gather(0, order)

    def march(
        self, x: Tensor, y: Tensor, z: Tensor, goal: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Newton steps until misclassified; where they end, and whether they got there."""
        z, hit = z.clone(), torch.zeros(len(z), dtype=torch.bool, device=z.device)
        going = torch.arange(len(z), device=z.device)
        for step in range(steps + 1):
            ahead, g, wrong = self.lead(z[going], y[going], goal[going])
            hit[going[wrong]] = True
            move = self.towards(z[going], g, -ahead)
            length = _lengths(move, self.norm)
            far = _between(z[going], x[going], self.norm) > 2 * self.reach
            keep = ~wrong & (length > 0) & ~far
            going, move, length = going[keep], move[keep], length[keep]
            if step == steps or not len(going):
                break
            # a little beyond, at most a quarter of the reach
            size = (1.05 * length + 1e-4 * self.reach).clamp_max(self.reach / 4)
            move = (move * (size / length)[:, None]).reshape(len(move), *z.shape[1:])
            z[going] = self.clip(z[going] + move.to(z.dtype))
        return z, hit

    def back(
        self,
        x: Tensor,
        y: Tensor,
        z: Tensor,
        halvings: int,
        scan: int = 1,
        first: float = 0.5,
    ) -> Tensor:
        """The first error on the segments from x to the errors z, by a scan and bisection."""
        if not len(z):
            return z
        best = z
        left = x.new_zeros(len(x), dtype=torch.float64)
        right = torch.ones_like(left)
        searching = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for k in range(1, scan):
            w = self.clip(x + _over(torch.full_like(left, k / scan), x).to(x.dtype) * (z - x))
            new = searching & self.wrong(w, y)
            best = torch.where(_over(new, z), w, best)
            right[new] = k / scan
            left[searching & ~new] = k / scan
            searching &= ~new
        for k in range(halvings):
            share = first if k == 0 else 0.5
            middle = left + share * (right - left)
            w = self.clip(x + _over(middle, x).to(x.dtype) * (z - x))
            wrong = self.wrong(w, y)
            best = torch.where(_over(wrong, z), w, best)
            right, left = torch.where(wrong, middle, right), torch.where(wrong, left, middle)
        return best

    def walk(self, x: Tensor, y: Tensor, z: Tensor, steps: int) -> Tensor:
        """Nearer errors, along the boundary."""
        z, going = z.clone(), torch.arange(len(z), device=z.device)
        shares = (1.0, 0.5, 0.2, 0.05)
        noise, tries = 0.5, 0 if self.generator is None else 4
        idle = torch.zeros(len(z), dtype=torch.long, device=z.device)
        for _ in range(steps):
            if not len(going):
                break
            x0, y0, z0 = x[going], y[going], z[going]
            ahead, g, _ = self.lead(z0, y0, None)
            need = (_flat(g).double() * _flat(z0 - x0).double()).sum(dim=1) - ahead
            foot = self.towards(x0, g, need).reshape(z0.shape).to(z0.dtype)
            moves = [share * (foot - (z0 - x0)) for share in shares]
            radius = _between(z0, x0, self.norm)
            for _ in range(tries):
                e = torch.randn(z0.shape, generator=self.generator, device=self.generator.device)
                e = e.to(z0)
                size = noise * radius / _lengths(e, self.norm)
                moves.append(_over(size, e).to(e) * e)
            offsets = torch.stack([z0 - x0 + move for move in moves])
            lengths = _lengths(offsets.flatten(0, 1), self.norm).reshape(len(moves), -1)
            shrink = 1 - 8 * torch.finfo(z.dtype).eps
            scale = shrink * radius / lengths.clamp_min(1e-300)
            outer = offsets * scale.reshape(*scale.shape, *(1,) * (z0.ndim - 1)).to(z.dtype)
            outer = self.clip(x0 + outer).flatten(0, 1)
            many = (len(moves), *(1,) * (x0.ndim - 1))
            xs, ys = x0.repeat(many), y0.repeat(len(moves))
            ok = self.wrong(outer, ys)
            ok &= _between(outer, xs, self.norm) < radius.repeat(len(moves))
            length = torch.full_like(lengths, math.inf).flatten()
            index = ok.nonzero()[:, 0]
            outer[index] = self.back(xs[index], ys[index], outer[index], 18, first=0.9)
            length[index] = _between(outer[index], xs[index], self.norm)
            length, k = length.reshape(len(moves), -1).min(dim=0)
            better = length < radius
            new = outer.reshape(len(moves), *z0.shape)[k, torch.arange(len(going), device=z.device)]
            z[going[better]] = new[better]
            slow = ~(length < radius * (1 - 1e-6))
            idle[going] = torch.where(slow, idle[going] + 1, 0)
            going = going[idle[going] < (6 if tries else 1)]
            noise *= 0.75
        return z


# ------------------------------------------------------------------------------- growth points


def growth_points(
    model: Model,
    x: Tensor,
    y: Tensor,
    norm: float,
    radii: ArrayLike,
    *,
    loss: Loss = cross_entropy,
    low: float | None = None,
    high: float | None = None,
    steps: int = 20,
    restarts: int = 4,
    generator: torch.Generator | None = None,
    batch: int = 4096,
) -> Growth:
    r"""Points of large loss within each of a ladder of radii, for every sample.

    At each radius projected gradient ascent (PGD) from the best points at the radius before, from
    the same points moved outward to the new radius, and from random ones: `steps` steps of
    radius / 4 on the loss, before and after as many on the margin (which leads across regions
    where a hinge is flat), then as many of radius / 40 from the best.  The best point is kept, or
    the one at the radius before if nothing is better.

    Parameters
    ----------
    model, x, y
        As in :func:`advreg.attacks.pgd`.
    norm : 1, 2 or math.inf
        Norm of the distances.
    radii : array, shape (R,)
        Positive radii; they are sorted.  A finite order of the Wasserstein distance spends the
        budget far out: go far beyond the Wasserstein radius, up to n times as far for order 1.
    loss : callable
        (logits, y) to one loss per sample, such as ``attacks.cross_entropy`` or
        ``attacks.margin``.
    low, high : float, optional
        Box of admissible inputs, in which the samples lie.
    steps, restarts : int
        Steps of each stage, at least 1, and random starts at each radius; 0 without generator.
    generator : torch.Generator, optional
        For the random starts.
    batch : int
        Points that the model sees at a time.

    Returns
    -------
    Growth
        Row k of each list belongs to the k-th radius, and its distance is at most that radius.
        No gain is negative: (0, 0) is the sample itself.

    Raises
    ------
    TypeError, ValueError
        If an input has the wrong type, shape, device or values; in words.

    Notes
    -----
    ``wdro.allocate(lists, radius, p)`` is then a lower bound of the distributionally robust value
    minus the mean of `clean`, and exact if the points are complete.

    Source: Proposition ``prop-hull-attack`` (chapter 6).
    """
    radii = finite(radii, "radii")
    if radii.ndim != 1 or not radii.size or not (radii > 0).all():
        raise ValueError("radii must be a vector of positive numbers, at least one")
    ball = Ball(1.0, norm, low, high)
    y = _samples(model, x, y, ball)
    steps, batch = integer(steps, "steps", 1), integer(batch, "batch", 1)
    restarts = integer(restarts, "restarts", 0) if generator is not None else 0
    _random(generator, restarts)
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        x = _normal(x).contiguous()
        best, top, lead, inputs, before = x, _losses(model, x, y, loss, batch), x, [], 0.0
        for radius in np.unique(radii).tolist():
            ball = Ball(radius, norm, low, high)
            begin = [best, lead, *(ball.random(x, generator) for _ in range(restarts))]
            if before:
                begin += [x + (z - x) * (radius / before) for z in (best, lead)]
            # the margin leads across regions where the loss is flat
            climb = _Climb(model, x, y, ball, steps, batch)
            ahead = climb(begin, margin, radius / 4)
            lead = climb.best(ahead, margin)[0]
            first = climb([*begin, *ahead], loss, radius / 4)
            last = climb([climb.best(first, loss)[0]], loss, radius / 40)
            z, value = climb.best([*first, *ahead, *last], loss)
            better = torch.from_numpy(value > top).to(x.device)
            best, top = torch.where(_over(better, x), z, best), np.maximum(value, top)
            inputs.append(best)
            before = radius
        order = np.searchsorted(np.unique(radii), np.sort(radii))
        return record(model, x, y, torch.stack([inputs[k] for k in order]), norm, loss=loss)


class _Climb:
    """PGD from several starts at once, to points within the radius to the last bit."""

    def __init__(
        self, model: Model, x: Tensor, y: Tensor, ball: Ball, steps: int, batch: int
    ) -> None:
        self.model, self.x, self.y, self.ball = model, x, y, ball
        self.steps, self.batch = steps, batch

    def __call__(self, starts: list[Tensor], loss: Loss, step: float) -> list[Tensor]:
        many, ball = len(starts), self.ball
        x, y = self.x.repeat(many, *(1,) * (self.x.ndim - 1)), self.y.repeat(many)
        parts = []
        for here, label, z in zip(
            *(t.split(self.batch) for t in (x, y, torch.cat(starts))), strict=True
        ):
            options = {"steps": self.steps, "step": step, "loss": loss, "keep": "best"}
            z = ball.project(z, here)
            parts.append(pgd(self.model, here, label, ball, start=z, **options).points)
        return list(self.inside(torch.cat(parts), x).chunk(many))

    def inside(self, z: Tensor, x: Tensor) -> Tensor:
        for attempt in range(6):
            length = _between(z, x, self.ball.norm)
            over = length > self.ball.radius
            if not over.any():
                return z
            share = (1 - 4.0**attempt * torch.finfo(x.dtype).eps) * self.ball.radius / length
            z = torch.where(_over(over, z), x + _over(share, x).to(x.dtype) * (z - x), z)
        return torch.where(_over(_between(z, x, self.ball.norm) > self.ball.radius, z), x, z)

    def best(self, points: list[Tensor], loss: Loss) -> tuple[Tensor, Array]:
        """Per sample the point of largest loss, and that loss."""
        values = np.stack([_losses(self.model, z, self.y, loss, self.batch) for z in points])
        k = torch.from_numpy(values.argmax(axis=0)).to(self.x.device)
        return torch.stack(points)[k, torch.arange(len(k), device=k.device)], values.max(axis=0)


def record(
    model: Model,
    x: Tensor,
    y: Tensor,
    inputs: Tensor | Sequence[Tensor],
    norm: float,
    *,
    loss: Loss = cross_entropy,
    batch: int = 1024,
) -> Growth:
    """Distances and gains of given points, whoever found them.

    Parameters
    ----------
    model, x, y, norm, loss
        As in :func:`growth_points`; the loss need not have gradients (:func:`zero_one`).
    inputs : tensor, shape (R, B, ...), or a sequence of R tensors of the shape of x
        Points that the samples may move to, R of each.

    Returns
    -------
    Growth
        A point that gains nothing is replaced by the sample itself, with the row (0, 0).

    Raises
    ------
    TypeError, ValueError
        If an input has the wrong type, shape, device or values; in words.
    """
    ball = Ball(1.0, norm, None, None)
    y, batch = _samples(model, x, y, ball), integer(batch, "batch", 1)
    inputs = _stacked(inputs, x)
    for points in inputs:
        _inputs(model, points, y, None, "inputs")
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        x, inputs = _normal(x), _normal(inputs).clone()
        clean = _losses(model, x, y, loss, batch)
        rows = []
        for points in inputs:
            gain = _losses(model, points, y, loss, batch) - clean
            idle = gain <= 0
            points[torch.from_numpy(idle).to(x.device)] = x[torch.from_numpy(idle).to(x.device)]
            distance = _between(points, x, norm).cpu().numpy()
            rows.append(np.column_stack([distance, np.where(idle, 0.0, gain)]))
    return Growth(list(np.stack(rows, axis=1)), inputs, clean)


# ------------------------------------------------------------------------------- spending


def mixture(
    growth: Growth, radius: float, p: float, factors: ArrayLike | None = None
) -> tuple[wdro.Mixture, wdro.Allocation]:
    """Best mixture of clean and attacked samples with one common factor, from recorded points.

    Parameters
    ----------
    growth : Growth
        Points found by :func:`growth_points`, or recorded by :func:`record`.
    radius, p
        As in :func:`advreg.wdro.mixture_attack`.
    factors : array, optional
        The factors t to try; by default those for which t * radius is the distance of a point.

    Returns
    -------
    wdro.Mixture
    wdro.Allocation
        The same as an allocation, for :func:`attacked`.

    Raises
    ------
    TypeError, ValueError
        As :func:`advreg.wdro.mixture_attack`.

    Notes
    -----
    Source: Proposition ``prop-mixture-attack`` (chapter 6).
    """
    radius = number(radius, "radius", 0.0, strict=True)
    rows = np.stack(growth.lists)  # samples, points, (distance, gain)
    distance, gain = rows[..., 0], rows[..., 1]
    if factors is None:
        factors = _best_factor(distance, gain, radius, p)

    def within(s: float) -> Array:
        return np.where(distance <= s, gain, 0.0)

    best = wdro.mixture_attack(lambda s: within(s).max(axis=1), radius, p, factors)
    n = len(rows)
    gains = within(best.factor * radius)
    point = np.where(gains.max(axis=1) > 0, gains.argmax(axis=1), -1)
    far = np.where(point >= 0, distance[np.arange(n), point], 0.0)
    parts = [(point, far, best.mass)]
    if best.mass < 1:
        parts.append((np.full(n, -1), np.zeros(n), 1 - best.mass))
    atoms = wdro.Atoms(
        np.tile(np.arange(n), len(parts)),
        np.concatenate([k for k, _, _ in parts]).astype(np.intp),
        np.concatenate([d for _, d, _ in parts]),
        np.concatenate([np.full(n, mass / n) for _, _, mass in parts]),
    )
    shares = far if p == math.inf else best.mass / n * far**p
    return best, wdro.Allocation(best.value, shares, atoms, 0.0)


def _best_factor(distance: Array, gain: Array, radius: float, p: float) -> Array:
    """The best factor, at which t * radius is the distance of some point; none if t = 1 is."""
    order = np.argsort(distance, axis=1, kind="stable")
    distance = np.take_along_axis(distance, order, axis=1)
    best = np.maximum.accumulate(np.take_along_axis(gain, order, axis=1).clip(0), axis=1)
    rise = np.diff(best, axis=1, prepend=0.0)
    order = np.argsort(distance, axis=None, kind="stable")
    distance, total = distance.ravel()[order], np.cumsum(rise.ravel()[order])
    total = np.where(distance > radius, total, 0.0)
    if p == math.inf or not total.any():
        return np.ones(1)
    k = np.argmax(total * (radius / np.maximum(distance, radius)) ** p)
    return distance[[k]] / radius * (1 + 1e-15)  # upwards, so that the point counts


def attacked(
    x: Tensor, y: Tensor, inputs: Tensor | Sequence[Tensor], allocation: wdro.Allocation
) -> Attacked:
    """The distribution that an allocation describes.

    Parameters
    ----------
    x : tensor, shape (B, ...)
    y : integer tensor, shape (B,)
        The samples.
    inputs : tensor, shape (R, B, ...), or a sequence of R tensors of the shape of x
        The points that the allocation refers to: ``growth.inputs`` for `allocate` and
        :func:`mixture`, ``[errors.points]`` for `knapsack`.
    allocation : wdro.Allocation
        Of these samples.

    Returns
    -------
    Attacked

    Raises
    ------
    ValueError
        If the points do not fit to the samples or to the allocation, or mass escapes: then no
        distribution attains the value.
    TypeError
        If points or samples are no tensors.
    """
    if allocation.escaping > 0:
        raise ValueError("mass escapes to infinity: no distribution attains this value")
    inputs = _stacked(inputs, x)
    sample, point, _, mass = allocation.atoms
    if not isinstance(y, Tensor) or y.shape != x.shape[:1]:
        raise ValueError(
            f"y must be a tensor of one label per sample, shape ({len(x)},); got "
            f"{type(y).__name__} of shape {tuple(np.shape(y))}"
        )
    if sample.max() >= len(x) or point.max() >= len(inputs):
        raise ValueError(
            f"the allocation refers to point {point.max()} of sample {sample.max()}, and inputs "
            f"hold {len(inputs)} points of {len(x)} samples (labels are fixed here)"
        )
    kept = mass > 0
    sample, point, mass = sample[kept], point[kept], mass[kept]
    where = torch.from_numpy(sample).to(x.device)
    rows = torch.cat([x.detach()[None], inputs.detach()])  # row -1 is the sample
    atoms = rows[torch.from_numpy(point + 1).to(x.device), where]
    return Attacked(atoms, y.detach()[where], mass / mass.sum(), sample)


def mean_loss(
    model: Model, distribution: Attacked, *, loss: Loss = cross_entropy, batch: int = 1024
) -> float:
    """Mean loss of the model on a distribution, evaluated atom by atom.

    Parameters
    ----------
    model : callable
        As in :func:`advreg.attacks.pgd`.
    distribution : Attacked
    loss : callable
        As in :func:`record`; :func:`zero_one` gives the error rate.

    Returns
    -------
    float
    """
    y = _samples(model, distribution.inputs, distribution.labels, Ball(1.0, 2, None, None))
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        losses = _losses(model, _normal(distribution.inputs), y, loss, integer(batch, "batch", 1))
    return float(distribution.masses @ losses)


def _mean_power(far: Array, mass: Array, p: float) -> float:
    """(sum of mass far^p)^(1/p), in units of the longest way, whose powers are floats."""
    unit = far.max() or 1.0
    return float(unit * (mass @ (far / unit) ** p) ** (1 / p))


def audit(x: Tensor, distribution: Attacked, p: float, norm: float) -> Audit:
    """Distance of a distribution from the samples: of the plan of the attack, and W_p.

    Parameters
    ----------
    x : tensor, shape (B, ...)
        The samples that the distribution was made from.
    distribution : Attacked
    p : float
        Order, from 1 to numpy.inf.
    norm : 1, 2 or numpy.inf

    Returns
    -------
    Audit
        W_p with labels fixed, by linear programming class by class: the mass of a class does not
        change.  It may be much less than the cost of the plan.

    Raises
    ------
    TypeError
        If x is no tensor.
    ValueError
        If p or the norm is unknown, or the samples are not those of the distribution.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor, got {type(x).__name__}")
    P, Q = _flat(x).detach().cpu().double().numpy(), distribution.points
    sample, mass, n = distribution.sample, distribution.masses, len(P)
    if P.shape[1] != Q.shape[1] or sample.max() >= n:
        raise ValueError("x must hold the samples that the distribution was made from")
    from_sample = np.bincount(sample, mass, minlength=n)
    if np.abs(from_sample - 1 / n).max() > 1e-9:
        raise ValueError("x must hold the samples that the distribution was made from")
    wdro.wasserstein(P[:1], Q[:1], p, norm)  # refuses other orders and norms
    far = np.linalg.norm(Q - P[sample], ord=norm, axis=1)
    labels = distribution.labels.cpu().numpy()
    label_of = np.empty(n, dtype=labels.dtype)
    label_of[sample] = labels
    parts = []
    for label in np.unique(labels):
        here, there = label_of == label, labels == label
        share = mass[there].sum()
        masses = {"Q_mass": mass[there] / share}
        parts.append((share, wdro.wasserstein(P[here], Q[there], p, norm, **masses)))
    if p == math.inf:
        coupling, best = far.max(), max(w for _, w in parts)
    else:
        coupling = _mean_power(far, mass, p)
        best = _mean_power(np.array([w for _, w in parts]), np.array([m for m, _ in parts]), p)
    # the plan of the attack keeps labels, and for a large p it may be better than what the linear
    # program finds within its tolerances
    return Audit(float(coupling), float(min(best, coupling)))
