r"""Exact worst cases of a ReLU network near one point, by mixed-integer linear programming.

Two questions about a sample (x, y), with the margin mu = max over j != y of f_j - f_y, which is
positive at an error:

    worst_margin        the largest mu(x') over ||x' - x|| <= radius,
    distance_to_error   the smallest ||x' - x|| with mu(x') >= 0,

both with x' in a box, if there is one.  On the ball every neuron has a range [l, u].  A neuron
that keeps its side, l >= 0 or u <= 0, is affine or zero; for any other one relu(p) = h is the set

    h >= p,  h >= 0,  h <= u z,  h <= p - l (1 - z),  z in {0, 1},

and the maximum of f_j - f_y becomes a mixed-integer linear program (MILP).  Three things keep it
small: ranges from a linear relaxation rather than from interval arithmetic; a target j that this
relaxation already rules out is skipped; and a neuron of the last hidden layer whose weight in
f_j - f_y is negative needs no z, because the maximum pushes its h down onto relu(p).

What is returned brackets the truth: one end belongs to a point, at which the network has been
evaluated; the other is the bound that the solver has proved, plus what its tolerances may hide.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from tqdm.auto import tqdm

from advreg._checks import finite, integer, number
from advreg.relu import Network, _box, _network, evaluate

__all__ = [
    "Distance",
    "Distances",
    "WorstCase",
    "distance_to_error",
    "distances_to_error",
    "worst_margin",
]

Array = NDArray[np.float64]
Ranges = list[tuple[Array, Array]]

NORMS = (1, np.inf)
ROUNDING = 1e-12  # relative to the terms of a sum
SMALL = 1e-8  # entries of a scaled row that the solver might drop
LEEWAY = 1e-10  # of a scaled row, for rounding
COST = 1e3  # sum of the costs handed to the solver, whose tolerances are absolute
STARTS = 8  # of a search, the sample among them
REACH = 100.0  # in units of 1 + ||x||: how far errors are looked for, without box and `within`


class WorstCase(NamedTuple):
    """lower <= largest margin <= upper, the point where `lower` is attained, and the status.

    The status is "solved"; "decided" (no more than the sign was asked for); or "time limit" (the
    bracket reached by then; or the solver gave up).
    """

    lower: float
    upper: float
    point: Array
    status: str


class Distance(NamedTuple):
    """lower <= distance to the nearest error <= upper, and an error at the distance `upper`.

    The status is "solved"; "none within" (no error there: `upper` is infinite and there is no
    point); "time limit"; or "tie" (the solver cannot tell the largest margin from 0, and no point
    was found where the network says so: `upper` is infinite, `lower` holds).
    """

    lower: float
    upper: float
    point: Array | None
    status: str


class Distances(NamedTuple):
    """Brackets of the distances, the errors (NaN where there is none), and the status of each."""

    lower: Array
    upper: Array
    points: Array
    status: list[str]


# ------------------------------------------------------------------------------- the ball


class _Ball(NamedTuple):
    """{x + e: ||e|| <= radius} in a box, as -down <= e <= up and, for norm 1, sum |e| <= radius."""

    x: Array
    radius: float
    norm: float
    down: Array
    up: Array
    box: tuple[Array, Array] | None

    def best(self, g: Array) -> tuple[Array, Array]:
        """Largest g . e of each row g, and the e that attains it."""
        room = np.where(g > 0, self.up, self.down)
        if self.norm == 1:
            order = np.argsort(-np.abs(g), axis=-1, kind="stable")
            sorted_room = np.take_along_axis(room, order, axis=-1)
            before = np.cumsum(sorted_room, axis=-1) - sorted_room
            taken = np.clip(self.radius - before, 0.0, sorted_room)
            room = np.empty_like(room)
            np.put_along_axis(room, order, taken, axis=-1)
        e = np.where(g > 0, room, -room)
        return (g * e).sum(axis=-1), e

    def project(self, points: Array) -> Array:
        """Points of the ball near the given ones, which are in it up to rounding."""
        e = np.clip(points - self.x, -self.down, self.up)
        if self.norm == 1:
            size = np.abs(e).sum(axis=-1, keepdims=True)
            e = e * np.minimum(1.0, self.radius / np.maximum(size, 1e-300))
        return self.x + e if self.box is None else np.clip(self.x + e, *self.box)

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Points of the ball: the center, then corners and others at random."""
        e = np.where(rng.random((count, self.x.size)) < 0.5, -self.down, self.up)
        if self.norm == 1:
            e *= rng.random(e.shape) ** 4
        e[0] = 0.0
        return self.project(self.x + e)


def _ball(x: Array, radius: float, norm: float, box: tuple[Array, Array] | None) -> _Ball:
    room = np.full(x.shape, radius)
    if box is None:
        return _Ball(x, radius, norm, room, room, None)
    down, up = np.minimum(room, x - box[0]), np.minimum(room, box[1] - x)
    return _Ball(x, radius, norm, down, up, box)


# ------------------------------------------------------------------------------- relaxation


def _relaxed(net: Network, ball: _Ball, ranges: Ranges, rows: Array, offsets: Array) -> Array:
    """Upper bounds of rows . h + offsets, h the last layer that has ranges.

    Every relu is replaced by a line above it where it counts positively (the chord) and by one
    below it (0 or the identity) where it counts negatively.  What is left is linear in x.
    """
    size = np.abs(offsets)
    for W, b, (lo, hi) in zip(
        reversed(net.weights[: len(ranges)]),
        reversed(net.biases[: len(ranges)]),
        reversed(ranges),
        strict=True,
    ):
        crossing = (lo < 0) & (hi > 0)
        chord = np.where(crossing, hi / np.where(crossing, hi - lo, 1.0), lo >= 0)
        below = np.where(crossing, hi > -lo, lo >= 0)
        positive, negative = np.maximum(rows, 0), np.minimum(rows, 0)
        offsets = offsets - (positive * chord) @ np.where(crossing, lo, 0.0)
        rows = positive * chord + negative * below
        size = size + np.abs(rows) @ (np.maximum(np.abs(lo), np.abs(hi)) + np.abs(b))
        offsets, rows = offsets + rows @ b, rows @ W
    size += np.abs(rows) @ (np.abs(ball.x) + ball.radius)
    return offsets + rows @ ball.x + ball.best(rows)[0] + ROUNDING * size


def _ranges(net: Network, ball: _Ball) -> Ranges:
    """Range of every hidden neuron before its relu; exact in the first layer."""
    found: Ranges = []
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        if not found:
            center = W @ ball.x + b
            pad = ROUNDING * (np.abs(W) @ (np.abs(ball.x) + ball.radius) + np.abs(b))
            lo, hi = center - ball.best(-W)[0] - pad, center + ball.best(W)[0] + pad
        else:
            low, high = (np.maximum(side, 0) for side in found[-1])
            up, down = np.maximum(W, 0), np.minimum(W, 0)
            pad = ROUNDING * (np.abs(W) @ high + np.abs(b))
            lo, hi = up @ low + down @ high + b - pad, up @ high + down @ low + b + pad
            both = _relaxed(net, ball, found, np.vstack([W, -W]), np.concatenate([b, -b]))
            lo, hi = np.maximum(lo, -both[len(b) :]), np.minimum(hi, both[: len(b)])
        found.append((lo, np.maximum(lo, hi)))
    return found


def _targets(net: Network, label: int) -> tuple[Array, Array]:
    """Rows of f_j - f_y over the last hidden layer, j != y, and their offsets."""
    others = [j for j in range(net.outputs) if j != label]
    W, b = net.weights[-1], net.biases[-1]
    return W[others] - W[label], b[others] - b[label]


# ------------------------------------------------------------------------------- attack


def _margins(net: Network, points: Array, label: int) -> Array:
    logits = evaluate(net, points)
    return np.delete(logits, label, axis=-1).max(axis=-1) - logits[..., label]


def _slopes(net: Network, points: Array, rows: Array) -> Array:
    """Gradients of rows . (last hidden layer), row i at the point i."""
    masks, h = [], points
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        p = h @ W.T + b
        masks.append(p > 0)
        h = np.maximum(p, 0)
    for W, mask in zip(net.weights[-2::-1], masks[::-1], strict=True):
        rows = (rows * mask) @ W
    return rows


STEPS = np.array([1.0, 0.6, 0.3, 0.1, 0.03])


def _climb(net: Network, ball: _Ball, label: int, starts: Array, steps: int = 12) -> Array:
    """A point with a large margin: steps towards the best point of the linearization."""
    rows, offsets = _targets(net, label)
    count = len(rows)
    z = np.repeat(starts, count, axis=0)
    aims, shifts = np.tile(rows, (len(starts), 1)), np.tile(offsets, len(starts))

    def values(points: Array) -> Array:
        h = points
        for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
            h = np.maximum(h @ W.T + b, 0)
        return (h * aims).sum(axis=-1) + shifts

    now = values(z)
    for _ in range(steps):
        towards = ball.x + ball.best(_slopes(net, z, aims))[1]
        tried = z + STEPS[:, None, None] * (towards - z)
        gain = values(tried)
        pick = gain.argmax(axis=0), np.arange(len(z))
        better = gain[pick] > now
        if not better.any():
            break
        z = np.where(better[:, None], tried[pick], z)
        now = np.maximum(now, gain[pick])
    z = ball.project(np.vstack([starts, z]))
    return z[_margins(net, z, label).argmax()]


# ------------------------------------------------------------------------------- programs


class _Program:
    """The MILP of one target on one ball, every column in [-1, 1] or [0, 1].

    Columns: the place in the ball, h of the neurons that take both signs, their z; and t for
    distances.  Rows are A u <= b.
    """

    def __init__(self, net: Network, ball: _Ball, ranges: Ranges, row: Array, offset: float):
        if ball.norm == 1:
            self.move = np.hstack([np.diag(ball.up), -np.diag(ball.down)])
            self.base = ball.x
        else:
            self.move = np.diag((ball.up + ball.down) / 2)
            self.base = ball.x + (ball.up - ball.down) / 2
        self.move = self.move[:, self.move.any(axis=0)]
        places = self.move.shape[1]
        crossing = [(lo < 0) & (hi > 0) for lo, hi in ranges]
        free = [c.copy() for c in crossing]  # those that need z
        if free:
            free[-1] &= row > 0
        n, m = (sum(int(c.sum()) for c in part) for part in (crossing, free))
        columns = places + n + m + 1
        first, binary = places, places + n
        left, right = [], []
        P, q = np.zeros((len(self.base), columns)), self.base
        P[:, :places] = self.move
        for W, b, (lo, hi), c, z in zip(
            net.weights[:-1], net.biases[:-1], ranges, crossing, free, strict=True
        ):
            P, q = W @ P, W @ q + b
            wide = np.where(c, hi - lo, 1.0)
            h = np.zeros_like(P)
            at = first + np.arange(int(c.sum()))
            h[np.flatnonzero(c), at] = hi[c]
            left.append(((P - h) / wide[:, None])[c])  # p <= h
            right.append((-q / wide)[c])
            k = binary + np.arange(int(z.sum()))
            above = (h - P)[z]  # h <= p - l (1 - z)
            above[np.arange(len(k)), k] = -lo[z]
            left.append(above / wide[z, None])
            right.append(((q - lo) / wide)[z])
            below = np.zeros((len(k), columns))  # h <= u z
            below[np.arange(len(k)), at[z[c]]] = 1.0
            below[np.arange(len(k)), k] = -1.0
            left.append(below)
            right.append(np.zeros(len(k)))
            active = ~c & (hi > 0)
            P = np.where(c[:, None], h, np.where(active[:, None], P, 0.0))
            q = np.where(active, q, 0.0)
            first, binary = first + len(at), binary + len(k)
        self.row, self.offset = row @ P, float(row @ q + offset)
        self.scale = float(np.abs(self.row).sum())
        self.left, self.right = left, right
        self.places, self.binaries = places, m
        self.lower = np.zeros(columns)
        self.lower[: places if ball.norm != 1 else 0] = -1.0
        self.ball = ball
        self.budget = np.zeros(columns)
        if ball.norm == 1:
            self.budget[:places] = np.abs(self.move).sum(axis=0) / ball.radius

    def _run(
        self, cost: Array, left: list[Array], right: list[Array], seconds: float
    ) -> tuple[OptimizeResult, float]:
        A, b = np.vstack(left), np.concatenate(right)
        tiny = np.abs(A) < SMALL
        b = b + np.where(tiny, np.abs(A), 0.0).sum(axis=1) + LEEWAY
        A[tiny] = 0.0
        integrality = np.zeros(cost.size)
        integrality[cost.size - 1 - self.binaries : cost.size - 1] = 1
        answer = milp(
            cost,
            constraints=LinearConstraint(A, -np.inf, b),
            integrality=integrality,
            bounds=Bounds(self.lower, np.ones(cost.size)),
            # presolve takes longer here than what it saves
            options={"presolve": False, "mip_rel_gap": 0.0}
            | ({"time_limit": seconds} if seconds < 1e9 else {}),
        )
        return answer, _proved(answer, sum(A.shape))

    def point(self, answer: OptimizeResult) -> Array | None:
        if answer.x is None:
            return None
        return self.ball.project(self.base + self.move @ answer.x[: self.places])

    def largest(self, seconds: float) -> tuple[float, Array | None, bool]:
        """Upper bound of f_j - f_y, where the solver ended, and whether it was done."""
        if not self.scale:
            return self.offset, self.ball.x, True
        if seconds <= 0:
            return math.inf, None, False
        left, right = list(self.left), list(self.right)
        if self.ball.norm == 1:
            left.append(self.budget[None])
            right.append(np.ones(1))
        left.append(np.zeros((1, self.row.size)))
        right.append(np.zeros(1))
        answer, proved = self._run(-self.row * (COST / self.scale), left, right, seconds)
        return self.offset - proved * self.scale, self.point(answer), answer.status == 0

    def nearest(self, seconds: float) -> tuple[float, Array | None, bool]:
        """Lower bound of the distance to f_j - f_y >= 0 in the ball (infinite if there is none),
        where the solver ended, and whether it was done."""
        if seconds <= 0:
            return 0.0, None, False
        columns, radius = self.row.size, self.ball.radius
        left, right = list(self.left), list(self.right)
        if self.ball.norm == 1:
            length = self.budget[None].copy()
            length[0, -1] = -1.0
            left.append(length)
            right.append(np.zeros(1))
        else:
            off = (self.base - self.ball.x) / radius
            length = np.zeros((off.size, columns))
            length[:, : self.places] = self.move / radius
            for sign in (1.0, -1.0):
                signed = sign * length
                signed[:, -1] = -1.0
                left.append(signed)
                right.append(-sign * off)
        size = max(self.scale, abs(self.offset), 1e-300)
        left.append(-self.row[None] / size)
        right.append(np.array([self.offset / size]))
        cost = np.zeros(columns)
        cost[-1] = COST
        answer, proved = self._run(cost, left, right, seconds)
        if answer.status == 2:
            return math.inf, None, True
        return max(0.0, proved) * radius, self.point(answer), answer.status == 0


def _proved(answer: OptimizeResult, size: int) -> float:
    """What the solver has proved, less what its tolerances may hide, in units of the costs.

    It gives up subproblems within 1e-6 of the best value, and its relaxations are optimal up to
    reduced costs of 1e-7; `size` counts columns, of length 2 at most, and rows.
    """
    bound = answer.mip_dual_bound if answer.status in (0, 1) else None
    if bound is None and answer.status == 0:
        bound = answer.fun  # a linear program, without integers
    if bound is None or not np.isfinite(bound):
        return -math.inf
    return (float(bound) - 2e-6 - 2e-7 * size) / COST


# ------------------------------------------------------------------------------- answers


def _sample(
    net: Network, x: ArrayLike, label: int, norm: float,
    low: ArrayLike | None, high: ArrayLike | None,
) -> tuple[Array, int, tuple[Array, Array] | None]:  # fmt: skip
    K = _network(net).outputs
    if K < 2:
        raise ValueError("the network needs one output per class, two at least; this one has one")
    if isinstance(norm, bool) or np.ndim(norm) or norm not in NORMS:
        raise ValueError(
            f"norm is the ground norm, 1 or numpy.inf, whose balls a linear program can describe; "
            f"got {norm!r}"
        )
    point = finite(x, "x")
    if point.shape != (net.inputs,):
        raise ValueError(f"x must be one point with {net.inputs} entries, got shape {point.shape}")
    if integer(label, "label", 0) >= K:
        raise ValueError(f"label must be a class number from 0 to {K - 1}, got {label}")
    box = _box(net, low, high)
    if box is not None and ((point < box[0]) | (point > box[1])).any():
        raise ValueError("x must lie in the box, low <= x <= high in every input")
    return point, int(label), box


def _deadline(time_limit: float | None) -> float:
    if time_limit is None:
        return math.inf
    return time.monotonic() + number(time_limit, "time_limit", 0.0, strict=True)


def worst_margin(
    net: Network,
    x: ArrayLike,
    label: int,
    radius: float,
    norm: float = np.inf,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    decide: bool = False,
    time_limit: float | None = None,
) -> WorstCase:
    r"""Largest margin, max over j != y of f_j - f_y, in the ball of a radius around x.

    The sample is certified at this radius if `upper` < 0, and attacked if `lower` >= 0.

    Parameters
    ----------
    net : Network
        Two outputs or more, any depth.
    x : array, shape (d,)
    label : int
        The true class y, from 0 to K - 1.
    radius : float
        Of the ball, in `norm`; at least 0.
    norm : 1 or numpy.inf
        GROUND norm, that of the ball.
    low, high : float or array, shape (d,), optional
        A box, which has to hold x: then x' stays in it, too.
    decide : bool
        Stop as soon as the bracket tells the sign of the largest margin, which rarely takes a
        program.
    time_limit : float, optional
        Seconds for all programs together; by default as long as it takes.

    Returns
    -------
    WorstCase
        `lower` is the margin of the network at `point`, which lies in the ball and in the box up
        to rounding; `upper` is proved.  They differ by about 1e-7 of the size of the terms that
        make up the margin when the status is "solved".

    Raises
    ------
    TypeError
        If `net` is no Network, or numbers are complex or not numeric.
    ValueError
        If an argument is out of its range, or x lies outside of the box.
    """
    x, label, box = _sample(net, x, label, norm, low, high)
    radius, end = number(radius, "radius", 0.0), _deadline(time_limit)
    ball = _ball(x, radius, norm, box)
    if radius == 0:
        margin = float(_margins(net, x, label))
        return WorstCase(margin, margin, x, "solved")
    rows, offsets = _targets(net, label)
    ranges = _ranges(net, ball)
    bounds = _relaxed(net, ball, ranges, rows, offsets)
    point = _climb(net, ball, label, ball.sample(np.random.default_rng(0), STARTS))
    lower = upper = float(_margins(net, point, label))
    status, order = "solved", np.argsort(-bounds)
    for i, j in enumerate(order):
        bound = float(bounds[j])
        if bound <= lower or (decide and (lower >= 0 or max(bound, upper) < 0)):
            status = "decided" if bound > lower else status
            upper = max(upper, bound)
            break
        if net.hidden:
            program = _Program(net, ball, ranges, rows[j], float(offsets[j]))
            proved, found, done = program.largest((end - time.monotonic()) / (len(order) - i))
            bound = min(bound, proved)
            status = status if done else "time limit"
            if found is not None and float(_margins(net, found, label)) > lower:
                point = _climb(net, ball, label, found[None])
                lower = float(_margins(net, point, label))
        upper = max(upper, bound)
    return WorstCase(lower, max(lower, upper), point, status)


def distance_to_error(
    net: Network,
    x: ArrayLike,
    label: int,
    norm: float = np.inf,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    within: float | None = None,
    time_limit: float | None = None,
) -> Distance:
    r"""Distance from x to the nearest error, where f_j >= f_y for some j != y (a tie is an error).

    Parameters
    ----------
    net : Network
        Two outputs or more, any depth.
    x : array, shape (d,)
    label : int
        The true class y, from 0 to K - 1.
    norm : 1 or numpy.inf
        GROUND norm, in which the distance is measured.
    low, high : float or array, shape (d,), optional
        A box, which has to hold x: only errors in it count.
    within : float, optional
        Only errors at a distance up to this one are looked for.  By default the whole box; without
        a box 100 (1 + ||x||).
    time_limit : float, optional
        Seconds for all programs together; by default as long as it takes.

    Returns
    -------
    Distance
        Zero if x is an error.  "none within": `upper` is infinite, and `lower` is the distance up
        to which there is no error, infinite if this is the whole box.

    Raises
    ------
    TypeError
        If `net` is no Network, or numbers are complex or not numeric.
    ValueError
        If an argument is out of its range, or x lies outside of the box.
    """
    x, label, box = _sample(net, x, label, norm, low, high)
    end = _deadline(time_limit)
    if _margins(net, x, label) >= 0:
        return Distance(0.0, 0.0, x, "solved")
    whole = math.inf
    if box is not None:
        far = np.maximum(x - box[0], box[1] - x)
        whole = float(far.sum() if norm == 1 else far.max())
    reach = REACH * (1 + float(np.linalg.norm(x, ord=norm)))
    if within is not None:
        reach = number(within, "within", 0.0, strict=True)
    elif box is not None:
        reach = whole
    reach = min(reach, whole)
    point = _attack(net, x, label, norm, box, reach)
    if point is not None:
        stages = [_length(point - x, norm)]
    else:
        stages = [reach / 64, reach / 16, reach / 4, reach]
    clear = 0.0  # there is no error at a smaller distance
    for radius in stages:
        lower, point, done = _nearest(net, x, label, norm, box, radius, point, end)
        upper = math.inf if point is None else _length(point - x, norm)
        clear = min(max(clear, lower), upper)
        if point is not None or not done:
            return Distance(clear, upper, point, "solved" if done else "time limit")
        if lower < radius:
            return Distance(clear, upper, None, "tie")
    return Distance(math.inf if reach == whole else reach, math.inf, None, "none within")


def _length(e: Array, norm: float) -> float:
    return float(np.linalg.norm(e, ord=norm))


def _nearest(
    net: Network, x: Array, label: int, norm: float, box: tuple[Array, Array] | None,
    radius: float, point: Array | None, end: float,
) -> tuple[float, Array | None, bool]:  # fmt: skip
    """Lower bound of the distance (at most `radius`), nearest error found, whether all is solved.

    `point` is an error at the distance `radius`, if one is known.
    """
    rows, offsets = _targets(net, label)
    lower, solved, order = radius, True, None
    while True:
        # an error that was found shrinks the ball, and with it the ranges
        ball = _ball(x, radius * (1 + 1e-9), norm, box)
        ranges = _ranges(net, ball)
        bounds = _relaxed(net, ball, ranges, rows, offsets)
        if order is None:
            order = list(np.argsort(-bounds))
        order = [j for j in order if bounds[j] >= 0]
        if not order:
            return min(lower, radius), point, solved
        j = order.pop(0)
        program = _Program(net, ball, ranges, rows[j], float(offsets[j]))
        share = (end - time.monotonic()) / (len(order) + 1)
        bound, found, done = program.nearest(share)
        solved &= done
        lower = min(lower, bound)
        if found is not None:
            error = _settle(net, x, label, norm, box, found)
            if error is not None and (point is None or _length(error - x, norm) < radius):
                point, radius = error, min(radius, _length(error - x, norm))


def _attack(
    net: Network, x: Array, label: int, norm: float, box: tuple[Array, Array] | None, reach: float
) -> Array | None:
    """An error near x, within the distance `reach`, or None."""
    rng = np.random.default_rng(0)

    def error(radius: float) -> Array | None:
        ball = _ball(x, radius, norm, box)
        z = _climb(net, ball, label, ball.sample(rng, STARTS))
        return _shortened(net, x, label, z) if _margins(net, z, label) >= 0 else None

    for k in range(10, -1, -1):
        if (point := error(reach / 2**k)) is not None:
            break
    else:
        return None
    factor = 0.7
    while factor < 0.99:
        closer = error(factor * _length(point - x, norm))
        point, factor = (point, factor**0.5) if closer is None else (closer, factor)
    return point


def _shortened(net: Network, x: Array, label: int, error: Array) -> Array:
    """The first error on the way from x to a given one, as far as a fine search sees."""
    near, far = 0.0, 1.0
    for _ in range(5):
        t = np.linspace(near, far, 300)[1:]
        wrong = _margins(net, x + t[:, None] * (error - x), label) >= 0
        wrong[-1] = True
        k = int(wrong.argmax())
        near, far = (t[k - 1] if k else near), t[k]
    z = np.clip(x + far * (error - x), np.minimum(x, error), np.maximum(x, error))
    return z if _margins(net, z, label) >= 0 else error


def _settle(
    net: Network, x: Array, label: int, norm: float, box: tuple[Array, Array] | None, z: Array
) -> Array | None:
    """An error next to z, which the solver takes for one within its tolerance, or None."""
    if _margins(net, z, label) >= 0:
        return _shortened(net, x, label, z)
    for size in _length(z - x, norm) * 10.0 ** np.arange(-10, 0):
        ball = _ball(z, size, norm, box)
        error = _climb(net, ball, label, ball.sample(np.random.default_rng(0), STARTS))
        if _margins(net, error, label) >= 0:
            return _shortened(net, x, label, _shortened(net, z, label, error))
    return None


def distances_to_error(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    norm: float = np.inf,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    within: float | None = None,
    time_limit: float | None = None,
    progress: bool = False,
) -> Distances:
    r"""Distance to the nearest error of each sample, see :func:`distance_to_error`.

    Parameters
    ----------
    net : Network
    X : array, shape (n, d)
    y : integers, shape (n,)
        True classes, from 0 to K - 1.
    norm, low, high, within
        As in :func:`distance_to_error`.
    time_limit : float, optional
        Seconds per sample.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Distances

    Raises
    ------
    TypeError, ValueError
        As in :func:`distance_to_error`; or if shapes do not fit together.
    """
    X, labels = finite(X, "X"), np.asarray(y)
    if X.ndim != 2 or labels.shape != X.shape[:1]:
        raise ValueError(
            f"X has one sample per row and y one class number per sample; got shapes {X.shape} "
            f"and {labels.shape}"
        )
    samples = list(zip(X, labels, strict=True))
    if progress:
        samples = tqdm(samples, desc="distances", unit="sample")
    found = [
        distance_to_error(net, x, label, norm, low=low, high=high, within=within,
                          time_limit=time_limit)
        for x, label in samples
    ]  # fmt: skip
    nowhere = np.full(X.shape[1], np.nan)
    return Distances(
        np.array([d.lower for d in found]),
        np.array([d.upper for d in found]),
        np.array([nowhere if d.point is None else d.point for d in found]).reshape(X.shape),
        [d.status for d in found],
    )
