r"""Attacks on classifiers inside a ball, and how nearly they solved their problem (FOSC).

The inner problem of adversarial training is max f(z) over the feasible set B(x): the ball
||z - x|| <= radius, or its part in a box [low, high] of admissible inputs (:class:`Ball`).
Here f(z) = loss(model(z), y) is the loss of ONE sample, in nats for the cross-entropy, and
g(z) its gradient.  How far z is from a stationary point of that problem is

    c(z) = max over v in B(x) of <v - z, g(z)>   >= 0,

the first-order stationary condition (FOSC).  It is the Frank-Wolfe gap of the problem.

Conventions, for every function below:

* the leading axis numbers the samples, and everything is per sample: no result depends on
  which other samples share the batch, but for rounding;
* inputs are float32 or float64, on the device of the model; float16 and bfloat16 are refused
  (under ``torch.autocast`` the model may compute in them, the attack does not);
* the model is in eval mode while it is attacked, and every module gets its mode back, also
  after an error; no parameter, no ``.grad``, no running statistic and no input is changed;
* randomness comes from the generator that is passed, and from nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advreg._checks import integer, number

__all__ = [
    "Attack",
    "Ball",
    "Evaluation",
    "cross_entropy",
    "evaluating",
    "fgsm",
    "fosc",
    "loss_and_gradient",
    "margin",
    "pgd",
    "worst_of",
]

Loss = Callable[[Tensor, Tensor], Tensor]
Model = Callable[[Tensor], Tensor]


# ------------------------------------------------------------------------------- feasible sets


@dataclass(frozen=True)
class Ball:
    r"""The feasible set B(x) = {z : ||z - x|| <= radius, low <= z <= high}.

    Parameters
    ----------
    radius : float
        Radius, at least 0, in the units of x.
    norm : 1, 2 or math.inf
        Norm of the attack; over all entries of a sample, whatever its shape.
    low, high : float or None
        Box of admissible inputs, [0, 1] for images; None for no bound on that side.

    Notes
    -----
    The methods take samples along the leading axis, and x has to lie in the box.  Points that
    they return never leave the box, and leave the ball by no more than rounding: their distance
    from x exceeds the radius by at most eps (||z|| + radius), eps the spacing of floating-point
    numbers at 1 (1.2e-7 in float32).  Projecting a point of B(x) changes nothing, to the bit.

    Source: Definition ``def-fosc`` and Proposition ``prop-fosc-closed-forms`` (chapter 5).
    """

    radius: float
    norm: float = math.inf
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        number(self.radius, "radius", 0.0)
        if isinstance(self.norm, bool) or self.norm not in (1, 2, math.inf):
            raise ValueError(f"norm is one of 1, 2 and math.inf, got {self.norm!r}")
        for side in ("low", "high"):
            if getattr(self, side) is not None:
                number(getattr(self, side), side, -math.inf)
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low} and {self.high}")

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest admissible value of each entry, given that no other entry moves."""
        place = _Place(self, _sample(x, "x"))
        radius = self.radius
        return place.clip(x - radius), place.clip(x + radius)

    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """Nearest point of B(x) in the Euclidean distance, whatever the norm of the attack.

        For inf two clips.  For 2 the point clip(x + t (z - x)) with the largest t <= 1 inside
        the ball, for 1 the clipped soft thresholding x + sign(z - x) (|z - x| - t)_+ with the
        least such t >= 0; t is found exactly, by the active set and by sorting.
        """
        return _Place(self, x, z=z).project(z)

    def best(self, g: Tensor, x: Tensor) -> Tensor:
        """A maximizer of <v, g> over v in B(x); entries with g_i = 0 stay where x is.

        For inf the vertex that the signs of g point to.  For 1 the entries of largest |g_i|
        move as far as the box and what is left of the radius allow (the first of equal ones).
        For 2 the point clip(x + t g) on the sphere, or the end of that path inside of it.
        """
        return _Place(self, x, g=g).best(g)

    def range(self, g: Tensor, x: Tensor) -> Tensor:
        """Largest minus smallest value of <v, g> over B(x): shape (B,)."""
        return _Place(self, x, g=g).range(g)

    def fosc(self, g: Tensor, z: Tensor, x: Tensor) -> Tensor:
        r"""FOSC c(z) = max over v in B(x) of <v - z, g>, where g is the gradient at z.

        A sum over the entries: for norm inf g_i (hi_i - z_i) where g_i > 0 plus
        g_i (lo_i - z_i) where g_i < 0, with the very numbers `lo` and `hi` that
        :meth:`project` clips to; for norms 1 and 2 the sum of g_i (v_i - z_i), v = :meth:`best`.
        So it is exactly 0 at the point :meth:`best`, projected or not, also in float32.

        Parameters
        ----------
        g, z, x : tensors of one shape (B, ...)
            Gradient at z, the point, and the centre.  z is taken to lie in B(x): this method
            does not look (the function :func:`fosc` does).

        Returns
        -------
        tensor, shape (B,)
            Not negative: what rounding alone brings below 0 (norms 1 and 2) is set to 0.
        """
        return _Place(self, x, g=g, z=z).fosc(g, z)

    def contains(self, z: Tensor, x: Tensor, tol: float | None = None) -> Tensor:
        """Whether z lies in B(x), up to `tol`: boolean, shape (B,).

        `tol` is added to the radius and to both sides of the box.  Default: what rounding the
        entries can do, four units in the last place of ||z|| + radius.
        """
        place = _Place(self, x, z=z)
        slack = 4 * place._rounding(z) if tol is None else z.new_full((len(z),), tol)
        inside = place._length(z) <= self.radius + slack
        low, high = place.low - _over(slack, z), place.high + _over(slack, z)
        return inside & _flat((z >= low) & (z <= high)).all(dim=1)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A random point of B(x): uniform in the ball, then projected onto the box.

        Drawn on the generator's device, so that a CPU generator gives the same starts
        everywhere.
        """
        return _Place(self, _sample(x, "x")).random(generator)


class _Place:
    """A ball around given samples: its methods are those of :class:`Ball`, without checks."""

    def __init__(self, ball: Ball, x: Tensor, **others: Tensor) -> None:
        for name, other in others.items():
            if other.shape != x.shape:
                raise ValueError(
                    f"{name} must have the shape of x, {tuple(x.shape)}; got {tuple(other.shape)}"
                )
        self.ball, self.x = ball, x
        self.low = -math.inf if ball.low is None else ball.low
        self.high = math.inf if ball.high is None else ball.high
        self.boxed = ball.low is not None or ball.high is not None
        if ball.norm == math.inf:
            self.lo, self.hi = self.clip(x - ball.radius), self.clip(x + ball.radius)

    def clip(self, z: Tensor) -> Tensor:
        return z.clamp(self.low, self.high) if self.boxed else z

    def keep(self, index: Tensor) -> None:
        """Forget all samples but those of `index`."""
        self.x = self.x[index]
        if self.ball.norm == math.inf:
            self.lo, self.hi = self.lo[index], self.hi[index]

    def project(self, z: Tensor) -> Tensor:
        if self.ball.norm == math.inf:
            return torch.clamp(z, self.lo, self.hi)
        d, clipped = z - self.x, self.clip(z)
        outside = _over(self._length(clipped) > self.ball.radius + self._rounding(clipped), z)
        if not outside.any():
            return clipped
        return torch.where(outside, self._ray(d) if self.ball.norm == 2 else self._soft(d), clipped)

    def best(self, g: Tensor) -> Tensor:
        if self.ball.norm == math.inf:
            return torch.where(g > 0, self.hi, torch.where(g < 0, self.lo, self.x))
        return self._ray(g) if self.ball.norm == 2 else self._greedy(g)

    def range(self, g: Tensor) -> Tensor:
        if self.ball.norm == math.inf:
            return _flat(g.abs() * (self.hi - self.lo)).sum(dim=1)
        return _flat(g * (self.best(g) - self.best(-g))).sum(dim=1)

    def fosc(self, g: Tensor, z: Tensor) -> Tensor:
        if self.ball.norm == math.inf:
            # one of the two terms is 0; written so, because torch.where is slow on a CPU
            terms = torch.addcmul(g.clamp_min(0) * (self.hi - z), g.clamp_max(0), self.lo - z)
            return _flat(terms).sum(dim=1).clamp_min(0)
        return _flat(g * (self.best(g) - z)).sum(dim=1).clamp_min(0)

    def random(self, generator: torch.Generator) -> Tensor:
        shape = (len(self.x), math.prod(self.x.shape[1:]))
        like = {"dtype": self.x.dtype, "device": generator.device}
        if self.ball.norm == math.inf:
            e = torch.rand(shape, generator=generator, **like) * 2 - 1
        elif self.ball.norm == 2:
            e = torch.randn(shape, generator=generator, **like)
            length = torch.rand((shape[0], 1), generator=generator, **like) ** (1 / shape[1])
            e = e * (length / e.norm(dim=1, keepdim=True))
        else:
            # d + 1 exponentials over their sum are uniform on the simplex; drop one, add signs
            e = torch.empty((shape[0], shape[1] + 1), **like).exponential_(generator=generator)
            e = (e / e.sum(dim=1, keepdim=True))[:, :-1]
            e = e * (torch.randint(2, shape, generator=generator, **like) * 2 - 1)
        e = e.to(self.x.device).reshape(self.x.shape)
        return self.project(self.x + self.ball.radius * e)

    def step(self, z: Tensor, g: Tensor, size: float) -> Tensor:
        """One step of length `size` in the norm of the attack, projected."""
        if self.ball.norm == math.inf:
            return self.project(torch.add(z, g.sign(), alpha=size))
        if self.ball.norm == 2:
            return self.project(z + size * _unit(g))
        v = self.best(g)
        share = size / _flat(v - z).norm(p=1, dim=1).clamp_min(1e-30)
        share = _over(share.masked_fill((_flat(g) == 0).all(dim=1), 0.0), z)
        return self.project(torch.where(share >= 1, v, z + share * (v - z)))

    def _length(self, z: Tensor) -> Tensor:
        return _flat(z.double() - self.x.double()).norm(p=self.ball.norm, dim=1)

    def _rounding(self, z: Tensor) -> Tensor:
        """What the length of z - x can change by when each entry of z is rounded."""
        size = _flat(z).norm(p=self.ball.norm, dim=1, dtype=torch.float64)
        return torch.finfo(z.dtype).eps * (size + self.ball.radius)

    # where a direction d has to stop: rooms, and three one-dimensional problems, in float64

    def _rooms(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """|d| and the way to the box in the direction of d, one row per sample."""
        room = torch.where(d > 0, self.high - self.x, self.x - self.low).clamp_min(0)
        return _flat(d).double().abs(), _flat(room).double().masked_fill(_flat(d) == 0, 0.0)

    def _move(self, d: Tensor, amount: Tensor, full: Tensor | None = None) -> Tensor:
        """x + sign(d) amount, and exactly the side of the box where `full`."""
        e = amount.reshape(d.shape).to(d.dtype)
        z = self.clip(self.x + torch.where(d < 0, -e, e))
        if full is None or not self.boxed:
            return z
        side = torch.where(d > 0, d.new_full((), self.high), d.new_full((), self.low))
        return torch.where(full.reshape(d.shape) & (d != 0), side, z)

    def _ray(self, d: Tensor) -> Tensor:
        """The point clip(x + t d), t >= 0, at distance radius from x, or the end of that path.

        With the entries known that have met the box, t solves sum (t d_i)^2 = radius^2 - (their
        lengths)^2 over the others.  From none, this t grows and so do they, until both stay.
        """
        length, room = self._rooms(d)
        length = length / length.amax(dim=1, keepdim=True).clamp_min(1e-300)
        still = length == 0  # also where dividing by the largest entry underflows
        full, room = still, room.masked_fill(still, 0.0)
        while True:
            used = room.masked_fill(~full, 0.0).square().sum(dim=1, keepdim=True)
            free = length.masked_fill(full, 0.0).square().sum(dim=1, keepdim=True)
            t = ((self.ball.radius**2 - used).clamp_min(0) / free).sqrt().nan_to_num(nan=math.inf)
            met = full | (length * t >= room)
            if torch.equal(met, full):
                amount = torch.where(full, room, length * t.nan_to_num(posinf=0.0))
                return self._move(d, amount, full & ~still)
            full = met

    def _soft(self, d: Tensor) -> Tensor:
        """x + sign(d) min((|d| - t)_+, room), t >= 0 such that the entries add up to the radius.

        That sum is piecewise linear in t, with corners at |d_i| and |d_i| - room_i: sort them
        downward, add up the slopes, and interpolate where the radius is passed.
        """
        length, room = self._rooms(d)
        room = torch.minimum(room, length)
        corners, order = torch.cat([length, length - room], dim=1).sort(dim=1, descending=True)
        slopes = torch.where(order < length.shape[1], 1.0, -1.0).to(corners).cumsum(dim=1)
        totals = (slopes[:, :-1] * -corners.diff(dim=1)).cumsum(dim=1)
        k = (totals < self.ball.radius).sum(dim=1, keepdim=True).clamp_max(totals.shape[1] - 1)
        over = totals.gather(1, k) - self.ball.radius
        t = corners.gather(1, k + 1) + over.clamp_min(0) / slopes.gather(1, k).clamp_min(1)
        amount = torch.minimum((length - t).clamp_min(0), room)
        # t is as accurate as |d|, which may be far larger than the radius
        total = amount.sum(dim=1, keepdim=True).clamp_min(1e-300)
        return self._move(d, amount * (self.ball.radius / total).clamp_max(1))

    def _greedy(self, g: Tensor) -> Tensor:
        """Spend the radius on the entries in the order of |g|, each as far as the box allows."""
        size, room = self._rooms(g)
        room = room.clamp_max(self.ball.radius)
        order = size.argsort(dim=1, descending=True, stable=True)
        sorted_room = room.gather(1, order)
        left = self.ball.radius - (sorted_room.cumsum(dim=1) - sorted_room)
        amount = torch.zeros_like(room)
        amount.scatter_(1, order, torch.minimum(left.clamp_min(0), sorted_room))
        return self._move(g, amount, (amount >= room) & (room < self.ball.radius))


def _flat(z: Tensor) -> Tensor:
    return z if z.ndim == 2 else z.reshape(len(z), math.prod(z.shape[1:]))


def _over(values: Tensor, z: Tensor) -> Tensor:
    """Reshape one number per sample so that it broadcasts over the samples of z."""
    return values.reshape((-1,) + (1,) * (z.ndim - 1))


def _unit(g: Tensor) -> Tensor:
    """g over its Euclidean length, per sample; zero stays zero.  Divides by the largest entry
    first: squares of small gradients would underflow."""
    largest = _flat(g).abs().amax(dim=1)
    g = g / _over(largest.masked_fill(largest == 0, 1.0), g)
    return g / _over(_flat(g).norm(dim=1).clamp_min(1.0), g)


# ------------------------------------------------------------------------------- losses


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each sample, in nats: log sum_j exp(z_j - z_y); shape (B,)."""
    return nn.functional.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max over j != y of z_j, minus z_y: positive where the sample is misclassified; shape (B,)."""
    own = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -math.inf)
    return others.amax(dim=1) - own[:, 0]


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put every module of `model` into eval mode, and give each its own mode back at the end."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        if any(modes):
            model.eval()
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


# ------------------------------------------------------------------------------- checks


def _sample(x: Tensor, name: str) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(x).__name__}")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {x.dtype}")
    if x.ndim < 2:
        raise ValueError(
            f"{name} must have one sample per entry of its leading axis, shape (B, ...); "
            f"got shape {tuple(x.shape)}"
        )
    return x


def _labels(y: Tensor, x: Tensor, name: str = "y") -> Tensor:
    if not isinstance(y, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(y).__name__}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"{name} must hold class numbers, an integer tensor; got {y.dtype}")
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"{name} must hold one label per sample, shape ({len(x)},); got {tuple(y.shape)}"
        )
    if y.device != x.device:
        raise ValueError(f"x is on {x.device} and {name} on {y.device}: move one of them")
    if len(y) and int(y.min()) < 0:
        raise ValueError(f"labels in {name} count from 0, got {int(y.min())}")
    return y.long()


def _inputs(model: Model, x: Tensor, y: Tensor, ball: Ball | None, name: str = "x") -> Tensor:
    """Check one attack's inputs, and return the labels."""
    _sample(x, name)
    if not bool(torch.isfinite(x.sum())):
        raise ValueError(f"every entry of {name} must be finite")
    if ball is not None and x.numel():
        least, most = float(x.min()), float(x.max())
        tol = 4 * torch.finfo(x.dtype).eps * max(1.0, abs(least), abs(most))
        low = -math.inf if ball.low is None else ball.low
        high = math.inf if ball.high is None else ball.high
        if least < low - tol or most > high + tol:
            raise ValueError(
                f"{name} leaves the box [{low:g}, {high:g}] of the ball: its entries run from "
                f"{least:g} to {most:g}; rescale {name}, or give the ball other low and high"
            )
    parameter = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    if parameter is not None and parameter.device != x.device:
        raise ValueError(f"{name} is on {x.device} and the model on {parameter.device}")
    casting = torch.is_autocast_enabled(x.device.type)
    if parameter is not None and parameter.dtype != x.dtype and not casting:
        raise TypeError(
            f"{name} is {x.dtype} and the model's parameters are {parameter.dtype}: "
            f"convert one of them, as in model.double()"
        )
    return _labels(y, x)


# ------------------------------------------------------------------------------- one pass


class _Passes:
    """Forward and backward passes of one attack: per-sample losses and gradients of `model`."""

    def __init__(self, model: Model, loss: Loss, sign: float = 1.0) -> None:
        self.model, self.loss, self.sign = model, loss, sign
        self.layers = _plain_layers(model)
        self.count = 0  # passes so far
        self.channels_last = self.layers is None and isinstance(model, nn.Module)
        self.channels_last &= any(isinstance(m, nn.Conv2d) for m in _modules(model))

    def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not len(z):
            return z.new_zeros(0), torch.zeros_like(z)
        work = self._layers if self.layers is not None else self._autograd
        if self.channels_last and z.ndim == 4:
            try:
                losses, g = work(_channels_last(z), y)
            except RuntimeError:
                if self.count:
                    raise
                self.channels_last = False  # a model that reshapes with .view
                losses, g = work(z.contiguous(), y)
        else:
            losses, g = work(z, y)
        if not math.isfinite(float(losses.sum() + g.sum())):
            raise FloatingPointError(
                f"the loss or its gradient is not finite at step {self.count} of the attack: "
                f"look at the weights of the model and at its logits"
            )
        self.count += 1
        return (losses, g) if self.sign > 0 else (-losses, -g)

    def _autograd(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            logits = self.model(z)
        if not self.count:
            _look(logits, y)
            if not logits.requires_grad:
                raise ValueError("the model's output carries no gradient: it is detached inside")
        losses, slope = self._head(logits.detach(), y)
        (g,) = torch.autograd.grad(logits, z, slope.to(logits.dtype), materialize_grads=True)
        return losses.to(z.dtype), g

    def _layers(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same for a chain of linear layers and ReLUs, by hand: less overhead."""
        outputs = [_flat(z)]
        for layer in self.layers:
            if layer is None:
                outputs.append(outputs[-1].relu_())
            else:
                outputs.append(nn.functional.linear(outputs[-1], *layer))
        if not self.count:
            _look(outputs[-1], y)
        losses, g = self._head(outputs[-1], y)
        for layer, output in zip(self.layers[::-1], outputs[:0:-1], strict=True):
            g = g.mul_(output.sign()) if layer is None else g @ layer[0]
        return losses, g.reshape(z.shape)

    def _head(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses, and their gradients in the logits."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if self.loss is cross_entropy:
            return _cross_entropy_slope(logits, y)
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            losses = self.loss(logits, y)
            if losses.shape != y.shape:
                raise ValueError(
                    f"the loss must return one number per sample, shape ({len(y)},), got "
                    f"{tuple(losses.shape)}: a mean over the batch would shrink every gradient "
                    f"and every FOSC by the batch size (reduction='none' in torch)"
                )
            if not losses.requires_grad:
                raise ValueError("the loss carries no gradient: it is not a function of the logits")
            (slope,) = torch.autograd.grad(losses.sum(), logits)
        return losses.detach(), slope


def _cross_entropy_slope(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and softmax minus the label: for few classes thrice as fast as autograd."""
    index, top = y[:, None], logits.amax(dim=1, keepdim=True)
    slope = (logits - top).exp_()
    total = slope.sum(dim=1, keepdim=True)
    losses = (top - logits.gather(1, index)).add_(total.log())[:, 0]
    slope.div_(total).scatter_add_(1, index, slope.new_full((1, 1), -1.0).expand(index.shape))
    return losses, slope


def _look(logits: Tensor, y: Tensor) -> None:
    """Check the first output of a model."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(y):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model must return one row of logits per sample, shape ({len(y)}, classes); "
            f"got {shape}"
        )
    if logits.shape[1] < 2 or int(y.max()) >= logits.shape[1]:
        raise ValueError(
            f"the model tells {logits.shape[1]} classes apart, numbered from 0; got the label "
            f"{int(y.max())}"
        )


def _channels_last(z: Tensor) -> Tensor:
    """z in the order that convolutions are fastest in; said by the strides also for one channel,
    where .contiguous(memory_format=...) would change nothing."""
    return torch.empty_like(z, memory_format=torch.channels_last).copy_(z)


def _modules(model: Model) -> list[nn.Module]:
    return list(model.modules()) if isinstance(model, nn.Module) else []


def _plain_layers(model: Model) -> list[tuple[Tensor, Tensor | None] | None] | None:
    """(weight, bias) of each linear layer and None for each ReLU, if `model` is a chain of these.

    Flatten may come first.  Anything else (hooks, other layers, autocast) is left to autograd.
    """
    if type(model) is not nn.Sequential or _casting():
        return None
    if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules()):
        return None
    layers: list[tuple[Tensor, Tensor | None] | None] = []
    for place, layer in enumerate(model):
        if type(layer) is nn.Linear:
            layers.append((layer.weight, layer.bias))
        elif type(layer) is nn.ReLU and layers:
            layers.append(None)
        elif not (type(layer) is nn.Flatten and place == 0 and layer.start_dim == 1):
            return None
    return layers if layers and layers[-1] is not None else None


def _casting() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def loss_and_gradient(
    model: Model, z: Tensor, y: Tensor, loss: Loss = cross_entropy
) -> tuple[Tensor, Tensor]:
    """Loss of each sample and its gradient in the input.

    Parameters
    ----------
    model : callable
        Inputs (B, ...) to logits (B, classes); usually a ``torch.nn.Module``.
    z : tensor, shape (B, ...), float32 or float64
        The points, anywhere.
    y : integer tensor, shape (B,)
        Class numbers from 0.
    loss : callable
        (logits, y) to one loss per sample, such as :func:`cross_entropy` or :func:`margin`.

    Returns
    -------
    losses : tensor, shape (B,)
    gradients : tensor, shape (B, ...)
        Both detached.

    Raises
    ------
    TypeError, ValueError
        If an input has the wrong type, shape, device or values, or the loss is not per sample.
    FloatingPointError
        If a loss or a gradient is not finite.
    """
    y = _inputs(model, z, y, None, "z")
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        losses, g = _Passes(model, loss)(_normal(z), _normal(y))
    return losses, g.contiguous()


def _normal(tensor: Tensor) -> Tensor:
    """Detached, and a copy where ``torch.inference_mode`` made the tensor."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def fosc(
    model: Model,
    z: Tensor,
    y: Tensor,
    x: Tensor,
    ball: Ball,
    *,
    loss: Loss = cross_entropy,
    normalized: bool = False,
) -> Tensor:
    r"""First-order stationary condition of z: c(z) = max over v in B(x) of <v - z, g(z)>.

    Parameters
    ----------
    model, y, loss
        As in :func:`loss_and_gradient`.
    z, x : tensors, shape (B, ...)
        The points and their clean inputs.  z = x gives the first-order adversarial penalty.
    ball : Ball
        The feasible set.
    normalized : bool
        Divide by the range of <v, g(z)> over v in B(x): a number in [0, 1] without units, and 0
        where the range is 0 (zero gradient, or a set without room).

    Returns
    -------
    tensor, shape (B,)
        In the unit of the loss (nats for the cross-entropy); 0 exactly at a stationary vertex.

    Raises
    ------
    ValueError
        If z leaves the feasible set by more than rounding, and as in :func:`loss_and_gradient`.

    Notes
    -----
    Source: Definition ``def-fosc`` (chapter 5).
    """
    y = _inputs(model, z, y, None, "z")
    _inputs(model, x, y, ball)
    inside = ball.contains(z, x)
    if not bool(inside.all()):
        raise ValueError(
            f"{int((~inside).sum())} of {len(z)} points z lie outside the feasible set around x, "
            f"where FOSC has no meaning; project them first: ball.project(z, x)"
        )
    _, g = loss_and_gradient(model, z, y, loss)
    place = _Place(ball, x.detach())
    c = place.fosc(g, z.detach())
    return _normalized(c, place.range(g)) if normalized else c


def _normalized(c: Tensor, width: Tensor) -> Tensor:
    return torch.where(width > 0, c / width, 0.0)


# ------------------------------------------------------------------------------- attacks


@dataclass(frozen=True)
class Attack:
    """What an attack returns, detached and on the device of x.

    `losses` are the values that the attack raises: loss(model(z), y), or minus the loss of the
    target.  `losses` and `fosc` belong to `points`; both are None if the attack was told not to
    spend a pass on them.
    """

    points: Tensor
    """(B, ...): the adversarial points."""
    losses: Tensor | None
    """(B,): their losses, per sample."""
    fosc: Tensor | None
    """(B,): their FOSC, not normalized."""
    passes: Tensor
    """(B,), integer: forward and backward passes that each sample took, over all restarts."""
    trajectory: Tensor | None = None
    """(K + 1, B, ...): the iterates, from the start on; a finished sample stays where it is."""
    trace_losses: Tensor | None = None
    """(K + 1, B): their losses."""
    trace_fosc: Tensor | None = None
    """(K + 1, B): their FOSC."""


def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    loss: Loss = cross_entropy,
    generator: torch.Generator | None = None,
    target: Tensor | None = None,
    step: float | None = None,
    report: bool = True,
) -> Attack:
    """Fast gradient sign method: one step to the best point of the linearized loss.

    z = the maximizer of <v, g(x)> over v in B(x); for norm inf the vertex
    clip(x + radius sign g(x)).  With a generator the step starts at a random point of B(x),
    has length `step` (default: the radius) in the attack norm, and is projected; so it does
    from x if `step` is given.

    Parameters, returns and errors as in :func:`pgd`.
    """
    if generator is not None or step is not None:
        step = ball.radius if step is None else step
        options = {"loss": loss, "generator": generator, "target": target, "report": report}
        return pgd(model, x, y, ball, steps=1, step=step, **options)
    y, goal, sign = _task(model, x, y, ball, target)
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        run = _Run(_Passes(model, loss, sign), _Place(ball, _normal(x)), _normal(goal))
        _, g = run.passes(run.place.x, run.y)
        run.spent += 1
        return run.attack(run.place.best(g), report)


def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    steps: int = 10,
    step: float | None = None,
    loss: Loss = cross_entropy,
    generator: torch.Generator | None = None,
    start: Tensor | None = None,
    restarts: int = 1,
    target: Tensor | None = None,
    threshold: float | Tensor | None = None,
    least_steps: int = 0,
    normalized: bool = False,
    keep: str = "last",
    trace: bool = False,
    report: bool = True,
) -> Attack:
    r"""Projected gradient ascent (PGD) on the loss of each sample, inside the ball.

    z <- project(z + s) with a step s of length `step` in the norm of the attack, whatever the
    length of the gradient: steepest ascent step * sign(g) for norm inf and step * g / ||g||_2
    for 2.  For norm 1 the steepest step would move one entry, and cycle with the projection; there
    s leads towards the linear maximizer v = ball.best(g, x), at most up to it (the step of
    Frank-Wolfe, which needs no projection).  A sample with zero gradient stays where it is.

    Parameters
    ----------
    model, y, loss
        As in :func:`loss_and_gradient`.
    x : tensor, shape (B, ...), float32 or float64
        Clean inputs, in the box of the ball.
    ball : Ball
        The feasible set.
    steps : int
        At most this many steps, at least 0.
    step : float, optional
        Length of a step, at least 0; default radius / 4.
    generator : torch.Generator, optional
        Start at a random point of the ball, drawn from it; without, start at x.
    start : tensor, shape (B, ...), optional
        Start here, projected; instead of a generator.
    restarts : int
        Independent random starts; the point with the largest loss is kept for each sample.
    target : integer tensor, shape (B,), optional
        Targeted attack: LOWER the loss of these classes.  Losses and FOSC of the result are then
        those of minus that loss, which is what the attack raises.
    threshold : float, or tensor of shape (B,), optional
        Stop a sample at the first iterate with FOSC <= threshold, and drop it from the batch: the
        model sees the others only.  Where the threshold is 0 nothing is ever dropped.
    least_steps : int
        Steps that every sample takes before a threshold may stop it.
    normalized : bool
        Compare the normalized FOSC, in [0, 1], with the threshold.  A sample whose gradient is 0
        counts as 0 and stops: it would not move anyway.
    keep : "last" or "best"
        Which iterate is returned: the last, or the one with the largest loss.
    trace : bool
        Return all iterates with their losses and FOSC; one restart only.
    report : bool
        Spend one more pass on the last point, to return its loss and FOSC.  False, for training:
        both are None.

    Returns
    -------
    Attack
        A sample that ran all K = `steps` steps took K + 1 passes (K without report), one that
        stopped after k steps k + 1.

    Raises
    ------
    TypeError, ValueError
        If an input has the wrong type, shape, device or values; in words.
    FloatingPointError
        If a loss or a gradient is not finite; the message says at which step.
    """
    y, goal, sign = _task(model, x, y, ball, target)
    steps, restarts = integer(steps, "steps", 0), integer(restarts, "restarts", 1)
    step = ball.radius / 4 if step is None else number(step, "step", 0.0)
    limit, least_steps = _threshold(threshold, x), integer(least_steps, "least_steps", 0)
    if keep not in ("last", "best"):
        raise ValueError(f"keep is 'last' or 'best', got {keep!r}")
    if start is not None and (generator is not None or restarts > 1):
        raise ValueError("give either a start or a generator for random starts, not both")
    if restarts > 1 and generator is None:
        raise ValueError("restarts need random starts: pass a generator")
    if trace and restarts > 1:
        raise ValueError("trace shows one run: use restarts=1")
    if not report and (keep == "best" or restarts > 1 or trace):
        raise ValueError("keep='best', restarts and trace compare losses, and need report=True")
    if start is not None:
        _inputs(model, start, y, None, "start")
        _Place(ball, x, start=start)
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        x, goal = _normal(x), _normal(goal)
        best: Attack | None = None
        for _ in range(restarts):
            run = _Run(_Passes(model, loss, sign), _Place(ball, x), goal)
            if generator is not None:
                z = run.place.random(generator)
            else:
                z = x.clone() if start is None else run.place.project(_normal(start))
            options = {"normalized": normalized, "trace": trace, "report": report}
            options["least"] = least_steps
            result = run.climb(z, steps, step, limit, best=keep == "best", **options)
            best = result if best is None else _stronger(best, result)
    return best


def _task(
    model: Model, x: Tensor, y: Tensor, ball: Ball, target: Tensor | None
) -> tuple[Tensor, Tensor, float]:
    """Labels, the labels that the loss is taken at, and the sign of the loss."""
    if not isinstance(ball, Ball):
        raise TypeError(f"ball must be a Ball, such as Ball(0.1); got {ball!r}")
    y = _inputs(model, x, y, ball)
    return (y, y, 1.0) if target is None else (y, _labels(target, x, "target"), -1.0)


def _threshold(threshold: float | Tensor | None, x: Tensor) -> Tensor | None:
    """One threshold per sample, or None if no sample can stop early."""
    if threshold is None:
        return None
    limit = torch.as_tensor(threshold, dtype=x.dtype, device=x.device).detach()
    if limit.shape not in ((), x.shape[:1]):
        raise ValueError(
            f"threshold is one number, or one per sample, shape ({len(x)},); "
            f"got shape {tuple(limit.shape)}"
        )
    if not bool((limit >= 0).all()):
        raise ValueError("threshold must be at least 0: FOSC is never negative")
    limit = limit.expand(len(x))
    return limit if bool((limit > 0).any()) else None


class _Run:
    """One run of an attack: the samples still moving, and what is known of the others."""

    def __init__(self, passes: _Passes, place: _Place, y: Tensor) -> None:
        self.passes, self.place, self.y = passes, place, y
        self.spent = torch.zeros(len(y), dtype=torch.long, device=y.device)

    def attack(self, z: Tensor, report: bool) -> Attack:
        """The result for points that all took the same way."""
        if not report:
            return Attack(z.contiguous(), None, None, self.spent)
        losses, g = self.passes(z, self.y)
        return Attack(z.contiguous(), losses, self.place.fosc(g, z), self.spent + 1)

    def climb(
        self,
        z: Tensor,
        steps: int,
        step: float,
        limit: Tensor | None = None,
        *,
        least: int = 0,
        normalized: bool = False,
        best: bool = False,
        trace: bool = False,
        report: bool = True,
    ) -> Attack:
        place, y = self.place, self.y
        now = (z.clone(), z.new_zeros(len(z)), z.new_zeros(len(z)))  # latest point, loss, FOSC
        top, rows = None, []
        moving: slice | Tensor = slice(None)  # the samples that z, g, y and place are about
        for k in range(steps + report):
            losses, g = self.passes(z, y)
            self.spent[moving] += 1
            if limit is not None or best or trace or k == steps:
                c = place.fosc(g, z)
            if best or trace or k == steps:
                _store(now, moving, (z, losses, c))
            if best:
                top = now if top is None else _larger(top, now)
                now = tuple(t.clone() for t in now)
            if trace:
                rows.append(tuple(t.clone() for t in now))
            if k == steps:
                break
            if limit is not None and k >= least:
                going = (_normalized(c, place.range(g)) if normalized else c) > limit
                going |= limit == 0
                if not bool(going.all()):
                    index, done = going.nonzero()[:, 0], (~going).nonzero()[:, 0]
                    if isinstance(moving, slice):
                        moving = torch.arange(len(z), device=z.device)
                    _store(now, moving[done], (z[done], losses[done], c[done]))
                    moving = moving[index]
                    z, g, y, limit = z[index], g[index], y[index], limit[index]
                    place.keep(index)
                    if not len(index):
                        break
            z = place.step(z, g, step)
        if not report:
            now[0][moving] = z
            return Attack(now[0].contiguous(), None, None, self.spent)
        rows += [rows[-1]] * (steps + 1 - len(rows)) if trace else []
        traces = [torch.stack(row) for row in zip(*rows, strict=True)] if trace else []
        points, losses, c = top if best else now
        return Attack(points.contiguous(), losses, c, self.spent, *traces)


def _store(now: tuple[Tensor, ...], moving: slice | Tensor, new: tuple[Tensor, ...]) -> None:
    for kept, value in zip(now, new, strict=True):
        kept[moving] = value


def _larger(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Points, losses and FOSC of a or b, per sample whichever loss is larger (a if equal)."""
    better = b[1] > a[1]
    return tuple(torch.where(_over(better, v), v, u) for u, v in zip(a, b, strict=True))


def _stronger(a: Attack, b: Attack) -> Attack:
    kept = _larger((a.points, a.losses, a.fosc), (b.points, b.losses, b.fosc))
    return Attack(*kept, a.passes + b.passes)


# ------------------------------------------------------------------------------- evaluation


class Evaluation(NamedTuple):
    """Accuracy under the strongest attack found; see :func:`worst_of`."""

    accuracy: float
    """Share of samples that are classified correctly at every point tried."""
    clean_accuracy: float
    """Share of samples that are classified correctly at x."""
    robust: Tensor
    """(B,), boolean: the samples that `accuracy` counts."""
    points: Tensor
    """(B, ...): a misclassified point where one was found, else that with the largest margin."""
    margins: Tensor
    """(B,): max over j != y of z_j, minus z_y, at `points`."""
    passes: Tensor
    """(B,), integer: forward and backward passes spent on each sample."""


def worst_of(
    model: Model,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    steps: int = 40,
    restarts: int = 5,
    generator: torch.Generator,
    batch: int = 512,
) -> Evaluation:
    """Robust accuracy against PGD on two losses, with restarts, strongest point per sample.

    Every sample is attacked from x, then from `restarts` random starts, each time on the
    cross-entropy and on the margin: `steps` steps of radius / 4, then `steps` of radius / 40 from
    the best point so far.  A sample that has been broken is left alone from then on.

    Parameters
    ----------
    model, x, y, ball
        As in :func:`pgd`.
    steps : int
        Steps of each stage, at least 1.
    restarts : int
        Random starts, at least 0.
    generator : torch.Generator
        For the random starts.
    batch : int
        Samples that are attacked at a time.

    Returns
    -------
    Evaluation

    Notes
    -----
    An upper bound of the true robust accuracy, as with every attack.  Cross-entropy fails where
    the logits are so large that its gradient vanishes; the margin does not, which is why both
    are tried.  A sample counts as broken where the largest logit is not that of y (the first of
    equal ones).
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    y, _, _ = _task(model, x, y, ball, None)
    steps, restarts = integer(steps, "steps", 1), integer(restarts, "restarts", 0)
    if not len(x):
        raise ValueError("x holds no sample: an accuracy needs one at least")
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        size = integer(batch, "batch", 1)
        parts = [
            _worst(
                model,
                _normal(x[i : i + size]),
                _normal(y[i : i + size]),
                ball,
                steps,
                restarts,
                generator,
            )
            for i in range(0, len(x), size)
        ]
    right, robust, points, margins, passes = (torch.cat(part) for part in zip(*parts, strict=True))
    shares = (float(part.double().mean()) for part in (robust, right))
    return Evaluation(*shares, robust, points, margins, passes)


def _worst(
    model: Model,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    logits = model(x)
    _look(logits, y)
    right, robust = logits.argmax(dim=1) == y, logits.argmax(dim=1) == y
    points, margins = x.clone(), margin(logits, y).to(x.dtype)
    passes = torch.zeros_like(y)
    for attempt in range(restarts + 1):
        for loss in (cross_entropy, margin):
            index = robust.nonzero()[:, 0]
            if not len(index):
                break
            place = _Place(ball, x[index])
            z = place.random(generator) if attempt else x[index]
            for length in (ball.radius / 4, ball.radius / 40):
                run = _Run(_Passes(model, loss), place, y[index])
                z = run.climb(z, steps, length, best=True).points
                passes[index] += run.spent
            logits = model(z)
            found, lead = logits.argmax(dim=1) != y[index], margin(logits, y[index]).to(x.dtype)
            better = found | (lead > margins[index])
            points[index[better]], margins[index[better]] = z[better], lead[better]
            robust[index[found]] = False
    return right, robust, points, margins, passes
