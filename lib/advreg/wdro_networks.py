r"""Wasserstein distributionally robust values of ReLU networks, exactly: labels fixed, few inputs.

A loss max_r (c_r . f + e_r) of a ReLU network f - the hinge loss, the margin - is affine on each
piece of each activation cell.  So the growth of a sample, the largest gain l(x) - l(x_i) within a
distance s, and all that follows from it (see :mod:`advreg.wdro`) can be computed without a grid:

* :func:`planar`: two inputs, any depth, norms 1, 2 and inf, every order p.  On the plane or in a
  box only finitely many *segments* matter, on which the gain is a + k t and the distance from the
  datum t, or sqrt(h^2 + t^2);
* :func:`cell_program`: few inputs, order 1, norms 1 and inf: one linear program over all cells.

The plane is cut into a square around the samples and four charts x = (1, u) / t, (u, 1) / t, ...
at infinity.  With biases multiplied by t the network is positively homogeneous in (x, t), so in a
chart f(x) = F(u, t) / t with F again a ReLU network of two inputs: its polygons that
touch t = 0 are the unbounded cells, and their points there the directions in which these recede.

All is float64, and "exact" is meant up to rounding and to what :mod:`advreg.relu` says of thin
cells; what is 1e8 times farther away than the samples counts as infinitely far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog

from advreg import relu, wdro
from advreg._checks import finite, ground_norm, number, wasserstein_order

__all__ = ["Planar", "Program", "ProgramAtoms", "Rays", "Value", "cell_program", "planar"]

Array = NDArray[np.float64]
Loss = str | Callable[[int], tuple[ArrayLike, ArrayLike]]

FAR = 1e8  # in units of the square around the samples: what is farther is at infinity
NEAR = 1e-10  # what is nearer to a datum is the datum
ROUNDING = 1e-12
MOST_ENTRIES = 2_000_000  # of an array, where the work is done in parts
MOST_VARIABLES = 2_000_000
MOST_ORDER = 1e6  # of a finite p: the powers of a larger one are rounding


# ------------------------------------------------------------------------------- losses


def _pieces(loss: Loss, label: int, outputs: int) -> tuple[Array, Array]:
    """The loss of a label as max over rows of C f + e."""
    if callable(loss):
        pair = loss(label)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"loss(label) must return two arrays, C and e; got {type(pair).__name__}"
            )
        C, e = finite(pair[0], "C"), finite(pair[1], "e")
        if C.ndim != 2 or C.shape[1] != outputs or not len(C) or e.shape != (len(C),):
            raise ValueError(
                f"loss(label) must return C, one row per piece and one column per output, and e, "
                f"one number per piece; got shapes {C.shape} and {e.shape} for {outputs} outputs"
            )
        return C, e
    identity = np.eye(outputs)
    C = np.delete(identity, label, axis=0) - identity[label]
    if loss == "margin":
        return C, np.zeros(len(C))
    return np.vstack([C, np.zeros(outputs)]), np.append(np.ones(len(C)), 0.0)


def _samples(
    net: relu.Network, X: ArrayLike, y: ArrayLike, loss: Loss
) -> tuple[Array, NDArray[np.intp]]:
    if not isinstance(net, relu.Network):
        raise TypeError(f"net must be a Network (see relu.from_torch), got {type(net).__name__}")
    if not callable(loss) and loss not in ("hinge", "margin"):
        raise ValueError(f"loss is 'hinge', 'margin' or a function of the label, got {loss!r}")
    if net.outputs < 2 and not callable(loss):
        raise ValueError(f"the loss {loss!r} compares outputs, and this network has only one")
    X, labels = finite(X, "X"), np.asarray(y)
    if X.ndim != 2 or X.shape[1] != net.inputs or not len(X):
        raise ValueError(
            f"X must have one sample per row and {net.inputs} columns, one sample at least; "
            f"got shape {X.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (len(X),):
        raise ValueError(
            f"y must hold one integer label per sample, shape ({len(X)},); got {labels.dtype} of "
            f"shape {labels.shape}"
        )
    if labels.min() < 0 or (not callable(loss) and labels.max() >= net.outputs):
        raise ValueError(
            f"labels are class numbers from 0 to {net.outputs - 1}, got {labels.min()} to "
            f"{labels.max()}"
        )
    return X, labels.astype(np.intp)


def _domain(
    net: relu.Network, X: Array, low: ArrayLike | None, high: ArrayLike | None
) -> tuple[Array, Array] | None:
    box = relu._box(net, low, high)
    if box is not None and ((box[0] > X) | (box[1] < X)).any():
        raise ValueError("every sample must lie in the box from low to high")
    return box


def _clean(net: relu.Network, X: Array, y: NDArray[np.intp], loss: Loss) -> Array:
    outputs, clean = relu.evaluate(net, X), np.empty(len(X))
    for label in np.unique(y):
        C, e = _pieces(loss, int(label), net.outputs)
        clean[y == label] = (outputs[y == label] @ C.T + e).max(axis=1)
    return clean


# ------------------------------------------------------------------------------- the plane


class _Edges(NamedTuple):
    """Sides of all polygons, in units in which the samples lie in the square [-1, 1]^2.

    The points of a side are start + s * step with s from 0 to end: 1, or infinity for a ray.
    `value` and `slope` are the outputs at the start and their growth per unit of s.
    """

    start: Array  # (E, 2)
    step: Array  # (E, 2)
    end: Array  # (E,)
    value: Array  # (E, K)
    slope: Array  # (E, K)


class _Plane(NamedTuple):
    """The cells of a network on the plane or in a box: affine maps, half-planes, sides."""

    center: Array
    scale: float
    gradients: Array  # (P, K, 2)
    offsets: Array  # (P, K)
    lines: Array  # (M, 3): the cell is where lines . (x, 1) >= 0 for all its lines
    first: NDArray[np.intp]  # (P,): its first line
    edges: _Edges


def _moved(net: relu.Network, center: Array, scale: float) -> relu.Network:
    """The network as a function of (x - center) / scale."""
    W, b = net.weights[0], net.biases[0]
    return relu.Network((W * scale, *net.weights[1:]), (W @ center + b, *net.biases[1:]))


def _chart(net: relu.Network, along: Array, across: Array) -> relu.Network:
    """(u, t) -> t f((along + u across) / t), t >= 0, as a network; t itself is a neuron."""
    weights, biases = [], []
    last = len(net.weights) - 1
    for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        if k:
            rows, shift = np.column_stack([W, b]), np.zeros(len(b))
        else:
            rows, shift = np.column_stack([W @ across, b]), W @ along
        if k < last:
            rows = np.vstack([rows, np.eye(rows.shape[1])[-1]])
            shift = np.append(shift, 0.0)
        weights.append(rows)
        biases.append(shift)
    return relu.Network(tuple(weights), tuple(biases))


def _plane(net: relu.Network, X: Array, box: tuple[Array, Array] | None) -> _Plane:
    if box is None:
        center = (X.min(axis=0) + X.max(axis=0)) / 2
        W, b = net.weights[0], net.biases[0]
        size = np.linalg.norm(W, axis=1)
        away = np.abs(W @ center + b)[size > 0] / size[size > 0]
        scale = 2 * max(np.abs(X - center).max(), np.median(away) if away.size else 0.0) or 1.0
        low, high = -np.ones(2), np.ones(2)
    else:
        center = (box[0] + box[1]) / 2
        scale = (box[1] - box[0]).max() / 2
        low, high = (box[0] - center) / scale, (box[1] - center) / scale
    net = _moved(net, center, float(scale))
    inner = relu.cells(net, low, high)
    corners = [np.column_stack([inner.vertices, np.ones(len(inner.vertices))])]
    sizes, gradients, offsets = [np.diff(inner.start)], [inner.gradients], [inner.offsets]
    for axis, sign in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)) if box is None else ():
        along, across = sign * np.eye(2)[axis], np.eye(2)[1 - axis]
        part = relu.cells(_chart(net, along, across), [-1.0, 0.0], [1.0, 1.0])
        u, t = part.vertices.T
        t = np.where(t < 1 / FAR, 0.0, t)
        there = np.maximum.reduceat(t, part.start[:-1]) > 0
        count = np.diff(part.start)
        homogeneous = np.column_stack([along + u[:, None] * across, t])
        corners.append(homogeneous[np.repeat(there, count)])
        sizes.append(count[there])
        # F(u, t) / t with u = (across . x) / (along . x) and t = 1 / (along . x)
        G = part.gradients[there]
        gradients.append(part.offsets[there][..., None] * along + G[..., :1] * across)
        offsets.append(G[..., 1])
    return _assemble(
        center,
        float(scale),
        np.concatenate(corners),
        np.concatenate(sizes),
        np.concatenate(gradients),
        np.concatenate(offsets),
    )


def _assemble(
    center: Array,
    scale: float,
    corners: Array,
    sizes: NDArray[np.intp],
    gradients: Array,
    offsets: Array,
) -> _Plane:
    """Sides and half-planes from corners in homogeneous coordinates (x, t), t = 0 at infinity."""
    first = np.append(0, np.cumsum(sizes)[:-1])
    after = np.arange(1, len(corners) + 1)
    after[first + sizes - 1] = first
    cell = np.repeat(np.arange(len(sizes)), sizes)
    inside = np.add.reduceat(corners, first, axis=0) / sizes[:, None]
    lines = np.cross(corners, corners[after])
    side = np.einsum("mi,mi->m", lines, inside[cell])
    length = np.hypot(lines[:, 0], lines[:, 1])
    # sides too short to have a direction, and those at infinity, bound nothing
    real = (length > 1e-13) & (np.abs(side) > 0)
    lines *= np.where(real, np.sign(side), 0.0)[:, None]
    lines[~real] = 0.0, 0.0, 1.0
    lines[real] /= length[real, None]

    P, Q, owner = corners, corners[after], cell
    swap = P[:, 2] == 0  # a ray starts at its finite corner
    P, Q = np.where(swap[:, None], Q, P), np.where(swap[:, None], P, Q)
    keep = P[:, 2] > 0
    P, Q, owner = P[keep], Q[keep], owner[keep]
    start, ray = P[:, :2] / P[:, 2:], Q[:, 2] == 0
    step = np.where(ray[:, None], Q[:, :2], Q[:, :2] / np.where(ray, 1.0, Q[:, 2])[:, None] - start)
    keep = np.abs(step).max(axis=1) > 1e-14 * (1 + np.abs(start).max(axis=1))
    start, step, ray, owner = start[keep], step[keep], ray[keep], owner[keep]
    edges = _Edges(
        start,
        step,
        np.where(ray, np.inf, 1.0),
        np.einsum("ekd,ed->ek", gradients[owner], start) + offsets[owner],
        np.einsum("ekd,ed->ek", gradients[owner], step),
    )
    return _Plane(center, scale, gradients, offsets, lines, first, edges)


# ------------------------------------------------------------------------------- segments


class _Segments(NamedTuple):
    """Segments on which gain = gain0 + slope (t - t0), distance = sqrt(height^2 + t^2).

    t runs from t0 to t1, infinity for a ray, slope >= 0, and the point is point + (t - t0) way.
    Sorted by sample; the first one of every sample is the datum itself.
    """

    sample: NDArray[np.intp]
    height: Array
    t0: Array
    t1: Array
    gain0: Array
    slope: Array
    point: Array
    way: Array

    def take(self, rows: ArrayLike) -> _Segments:
        return _Segments(*(field[rows] for field in self))

    @property
    def near(self) -> Array:
        return np.hypot(self.height, self.t0)

    @property
    def far(self) -> Array:
        return np.hypot(self.height, self.t1)

    @property
    def gain1(self) -> Array:
        return _at(self, self.t1)


def _at(segments: _Segments, t: Array) -> Array:
    """The gain at t; infinite only where the slope is positive."""
    with np.errstate(invalid="ignore", over="ignore"):
        rise = segments.slope * (t - segments.t0)
    return segments.gain0 + np.where(segments.slope > 0, rise, 0.0)


def _segments(plane: _Plane, X: Array, y: NDArray[np.intp], loss: Loss, clean: Array, norm: float):
    """All segments that may matter to some growth function, in the units of the problem."""
    outputs = plane.offsets.shape[1]
    Z = (X - plane.center) / plane.scale
    found: list[_Segments] = []
    for label in np.unique(y):
        C, e = _pieces(loss, int(label), outputs)
        varying = C.any(axis=1)  # a constant piece gains nothing
        C, e = C[varying], e[varying]
        samples = np.flatnonzero(y == label)
        many = max(1, len(plane.lines) * max(1, len(C)) * (4 if norm == 2 else 8))
        step = max(1, MOST_ENTRIES // many)
        for k in range(0, len(samples), step):
            i = samples[k : k + step]
            parts = [_datum(Z[i], i)]
            if len(C):
                make = _round_edges if norm == 2 else _flat_edges
                parts.append(make(plane.edges, Z[i], C, e, clean[i], norm, i))
                parts.append(_inner(plane, Z[i], C, e, clean[i], norm, i))
            found.append(_pruned(_joined(parts), Z))
    all_ = _joined(found)
    all_ = all_.take(np.argsort(all_.sample, kind="stable"))
    R = plane.scale
    return all_._replace(
        height=all_.height * R,
        t0=all_.t0 * R,
        t1=all_.t1 * R,
        slope=all_.slope / R,
        point=plane.center + R * all_.point,
    )


def _joined(parts: list[_Segments]) -> _Segments:
    return _Segments(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _datum(Z: Array, index: NDArray[np.intp]) -> _Segments:
    zero = np.zeros(len(Z))
    return _Segments(index, zero, zero, zero, zero, zero, Z, np.zeros_like(Z))


def _round_edges(
    edges: _Edges, Z: Array, C: Array, e: Array, clean: Array, norm: float, index: NDArray[np.intp]
) -> _Segments:
    """Sides of polygons in the Euclidean norm: t is counted from the foot of the datum."""
    size = np.linalg.norm(edges.step, axis=1)
    v = edges.step / size[:, None]
    away = edges.start - Z[:, None]  # (n, E, 2)
    height = np.abs(away[..., 0] * v[:, 1] - away[..., 1] * v[:, 0])
    at_start = np.einsum("nei,ei->ne", away, v)
    at_end = at_start + edges.end * size
    gain = (edges.value @ C.T + e)[None] - clean[:, None, None]  # (n, E, r), at the start
    slope = edges.slope @ C.T / size[:, None]  # (E, r)
    # walk upwards
    sign = np.where(slope < 0, -1.0, 1.0)
    here = sign * at_start[..., None]
    there = sign * at_end[..., None]
    low, high = np.minimum(here, there), np.maximum(here, there)
    shape = low.shape
    slope = np.broadcast_to(np.abs(slope), shape)
    height = np.broadcast_to(height[..., None], shape)
    behind = high <= 0  # the end is the nearest point, and the best
    t0, t1 = np.where(behind, high, np.maximum(low, 0.0)), np.maximum(high, 0.0)
    flat = behind | (slope == 0)
    gain0 = gain + slope * (t0 - here)
    with np.errstate(invalid="ignore"):
        end = gain + slope * (t1 - here)
    i, j, r = np.nonzero((gain0 > 0) | (~flat & (end > 0)))
    k = i, j, r
    way = sign[j, r, None] * v[j]
    point = edges.start[j] + (t0[k] - here[k])[:, None] * way
    ends = behind[k]
    return _Segments(
        index[i],
        np.where(ends, np.hypot(height[k], t0[k]), height[k]),
        np.where(ends, 0.0, t0[k]),
        np.where(ends, 0.0, np.where(flat[k], t0[k], t1[k])),
        gain0[k],
        np.where(flat[k], 0.0, slope[k]),
        point,
        way,
    )


def _flat_edges(
    edges: _Edges, Z: Array, C: Array, e: Array, clean: Array, norm: float, index: NDArray[np.intp]
) -> _Segments:
    """Sides of polygons in the norms 1 and inf, cut where the distance has a kink; t = distance."""
    away, step = edges.start - Z[:, None], edges.step
    if norm == 1:
        here, rate = away, step
    else:
        here = np.stack([away[..., 0] + away[..., 1], away[..., 0] - away[..., 1]], axis=-1)
        rate = np.stack([step[:, 0] + step[:, 1], step[:, 0] - step[:, 1]], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        kinks = -here / rate
    kinks = np.where(np.abs(kinks) < 1e3 * FAR, kinks, 0.0)
    kinks = np.sort(np.clip(kinks, 0.0, edges.end[:, None]), axis=-1)
    n, E = kinks.shape[:2]
    ends = np.broadcast_to(edges.end[:, None], (n, E, 1))
    s = np.concatenate([np.zeros((n, E, 1)), kinks, ends], axis=-1)  # (n, E, 4)
    value, slope = edges.value @ C.T + e, edges.slope @ C.T
    parts = []
    for k in range(3):
        i, j = np.nonzero(s[..., k + 1] > s[..., k])
        a, b = s[i, j, k], s[i, j, k + 1]
        ray = np.isinf(b)
        stop = np.where(ray, a + 1, b)
        ends_ = [edges.start[j] + t[:, None] * step[j] for t in (a, stop)]
        near, far = (np.linalg.norm(x - Z[i], ord=norm, axis=1) for x in ends_)
        far = np.where(ray, near + np.linalg.norm(step[j], ord=norm, axis=1), far)
        gains = [value[j] + t[:, None] * slope[j] - clean[i, None] for t in (a, stop)]
        swap = far < near
        rise = np.abs(far - near)
        level = rise <= ROUNDING * (near + far)  # as far away everywhere: the better end
        for r in range(len(C)):
            g0, g1 = gains[0][:, r], gains[1][:, r]
            turn = np.where(level, g1 > g0, swap)
            x0, x1 = (np.where(turn[:, None], *(ends_[::o])) for o in (-1, 1))
            g0, g1 = np.where(turn, g1, g0), np.where(turn, g0, g1)
            t0, t1 = np.where(turn, far, near), np.where(turn, near, far)
            with np.errstate(divide="ignore", invalid="ignore"):
                k_ = np.where(level, 0.0, (g1 - g0) / rise)
                way = np.where(level[:, None], 0.0, (x1 - x0) / rise[:, None])
            up = k_ > 0
            keep = (g0 > 0) | (up & ((g1 > 0) | ray))
            t1 = np.where(up, np.where(ray, np.inf, t1), t0)
            parts.append(
                _Segments(
                    index[i[keep]],
                    np.zeros(int(keep.sum())),
                    *(f[keep] for f in (t0, t1, g0, np.where(up, k_, 0.0), x0, way)),
                )
            )
    return _joined(parts)


def _inner(
    plane: _Plane, Z: Array, C: Array, e: Array, clean: Array, norm: float, index: NDArray[np.intp]
) -> _Segments:
    """Straight ways from the datum through the cells: along gradients, or kinks of the norm."""
    slopes = np.einsum("rk,pkd->prd", C, plane.gradients)
    values = plane.offsets @ C.T + e
    cell = np.repeat(np.arange(len(plane.first)), np.diff(np.append(plane.first, len(plane.lines))))
    level = Z @ plane.lines[:, :2].T + plane.lines[:, 2]  # (n, M)
    if norm == 2:
        size = np.linalg.norm(slopes, axis=2)
        ways = slopes / np.where(size > 0, size, 1.0)[..., None]  # (P, r, 2)
        which = [(r, ways[:, r]) for r in range(len(C))]
    else:
        unit = np.eye(2) if norm == 1 else np.array([[1.0, 1.0], [1.0, -1.0]])
        which = [
            (r, np.broadcast_to(sign * u, (len(plane.first), 2)))
            for r in range(len(C))
            for u in unit
            for sign in (1.0, -1.0)
        ]
    parts = [_datum(Z[:0], index[:0])]
    for r, way in which:
        k = np.einsum("pd,pd->p", slopes[:, r], way)
        rate = np.einsum("md,md->m", plane.lines[:, :2], way[cell])  # (M,)
        turns = np.abs(rate) > 1e-13
        with np.errstate(divide="ignore", invalid="ignore"):
            cross = -level / rate
        outside = ~turns & (level < -ROUNDING * (1 + np.abs(plane.lines[:, 2])))
        enter = np.where(turns & (rate > 0), cross, np.where(outside, np.inf, 0.0))
        leave = np.where(turns & (rate < 0), cross, np.inf)
        t0 = np.maximum(np.maximum.reduceat(enter, plane.first, axis=1), 0.0)
        t1 = np.minimum.reduceat(leave, plane.first, axis=1)
        t1 = np.where(t1 > FAR, np.inf, t1)
        base = Z @ slopes[:, r].T + values[:, r] - clean[:, None]
        with np.errstate(invalid="ignore"):
            good = (t1 > t0) & (t0 < FAR) & (k > 0) & (base + k * t1 > 0)
        i, p = np.nonzero(good)
        parts.append(
            _Segments(
                index[i],
                np.zeros(len(i)),
                t0[i, p],
                t1[i, p],
                base[i, p] + k[p] * t0[i, p],
                k[p],
                Z[i] + t0[i, p, None] * way[p],
                way[p],
            )
        )
    return _joined(parts)


def _pruned(segments: _Segments, Z: Array) -> _Segments:
    """Without the segments that are nowhere better than something at least as near."""
    near = segments.near
    close = near <= NEAR
    if close.any():  # they start at the datum, where nothing is gained
        at = segments.sample[close]
        gain = np.minimum(segments.gain0[close], 0.0)
        for field, value in (("height", 0.0), ("t0", 0.0), ("gain0", gain), ("point", Z[at])):
            array = getattr(segments, field).copy()
            array[close] = value
            segments = segments._replace(**{field: array})
    order = np.argsort(segments.sample, kind="stable")
    segments = segments.take(order)
    near, far, low, high = segments.near, segments.far, segments.gain0, segments.gain1
    long = (segments.t1 > segments.t0) & (high > low)
    starts = np.flatnonzero(np.append(True, np.diff(segments.sample) > 0))
    kept = []
    for a, b in zip(starts, np.append(starts[1:], len(near)), strict=True):
        i = np.arange(a, b)  # the datum comes first
        lines, points = i[long[a:b]], i[1:][~long[a + 1 : b]]
        ends = lines[np.isfinite(far[lines])]
        distance = np.concatenate([[0.0], near[lines], far[ends], near[points]])
        gain = np.concatenate([[0.0], low[lines], high[ends], low[points]])
        rank = np.lexsort((np.arange(len(gain)), -gain, distance))
        best = np.maximum.accumulate(gain[rank])
        reached = best[np.searchsorted(distance[rank], near[lines], side="right") - 1]
        lines = lines[high[lines] > reached]
        fresh = np.append(True, gain[rank][1:] > best[:-1])
        first = len(gain) - len(points)
        chosen = rank[fresh & (rank >= first)] - first
        kept.append(np.concatenate([i[:1], lines, points[chosen]]))
    return segments.take(np.concatenate(kept))


# ------------------------------------------------------------------------------- values


class Value(NamedTuple):
    """A robust value between two bounds that prove themselves, and who attains the lower one.

    `lower` is the mean loss of the distribution `allocation` (or a limit of such, if mass escapes)
    and `upper` the dual value at `multiplier`, which is dV_p / d(radius^p), infinite if it is too
    large for a float; they differ by rounding, or are exact.  Without a budget to price the
    multiplier is nan (radius 0), or 0 and without meaning (p = inf).
    `allocation` is a :class:`advreg.wdro.Allocation` of gains; the atom in its row k lies at
    ``points[k]``, nan for mass that has escaped; that one goes in `direction`, of norm 1, nan
    if there is none.
    """

    lower: float
    upper: float
    allocation: wdro.Allocation
    points: Array
    direction: Array
    multiplier: float


class Planar:
    """Exact growth functions of a network with two inputs; made by :func:`planar`.

    Attributes
    ----------
    clean : array, shape (n,)
        Losses of the samples.
    secant_slopes : array, shape (n,)
        sup over x of gain / distance, at least 0; the largest is L_data.
    slopes_at_infinity : array, shape (n,)
        limsup of gain / distance far away, at least 0, which depends on the label only; 0 in a
        box.  The largest is L_inf.
    """

    def __init__(
        self,
        net: relu.Network,
        X: Array,
        y: NDArray[np.intp],
        norm: float,
        loss: Loss,
        box: tuple[Array, Array] | None,
    ) -> None:
        self._net, self._X, self._y, self._norm = net, X, y, norm
        self._plane = _plane(net, X, box)
        self.clean = _clean(net, X, y, loss)
        self._all = _segments(self._plane, X, y, loss, self.clean, norm)
        self._first = _firsts(self._all.sample)
        self.secant_slopes = np.maximum.reduceat(_secants(self._all), self._first)
        self.slopes_at_infinity = np.maximum.reduceat(
            np.where(np.isinf(self._all.t1), self._all.slope, 0.0), self._first
        )
        self._hulls: dict[float, _Segments] = {}
        self._errors: Array | None = None

    # ---------------------------------------------------------------- growth

    def growth(self, distance: ArrayLike) -> Array:
        """Largest gain within a distance, per sample: Gamma_i(distance) - l(z_i).

        Parameters
        ----------
        distance : float or array
            At least 0.

        Returns
        -------
        array, shape (n,), or that of `distance` and one more axis

        Raises
        ------
        TypeError, ValueError
            If a distance is not a real number, not finite, or negative.

        Notes
        -----
        Source: Definition ``def-growth`` (chapter 6).
        """
        s = finite(distance, "distance", least=0.0)
        result = np.empty((s.size, len(self.clean)))
        for row, reach in zip(result, s.ravel(), strict=True):
            part = self._all
            t = np.sqrt(np.maximum(reach - part.height, 0.0) * (reach + part.height))
            gain = _at(part, np.clip(t, part.t0, part.t1))
            row[:] = np.maximum.reduceat(np.where(part.near <= reach, gain, 0.0), self._first)
        return np.maximum(result, 0.0).reshape(*s.shape, len(self.clean))

    def suprema(self, multiplier: float, p: float = 1) -> Array:
        """sup over x of gain - multiplier * ||x - x_i||^p, per sample: the dual's inner problem.

        Parameters
        ----------
        multiplier : float
            The dual variable lambda, at least 0.
        p : float
            Order, at least 1 and finite.

        Returns
        -------
        array, shape (n,)
            At least 0; inf where the gain outgrows the cost.

        Raises
        ------
        TypeError, ValueError
            If the multiplier is not one finite number of at least 0, or p is out of its range.

        Notes
        -----
        Source: Corollary ``cor-wdro-duality`` (chapter 6).
        """
        p = _finite_order(p)
        price = np.array([number(multiplier, "multiplier", 0.0)])
        peaks = _Peaks(self._hull(p), p, np.ones(1), price)
        return np.maximum(peaks.best[0], 0.0)

    def distances_to_error(self) -> Array:
        """Distance of each sample to the nearest input that is not classified as its label.

        A tie counts as an error: the margin max over j != y of f_j - f_y reaches 0 there.  Shape
        (n,); 0 for samples that are wrong already, inf where no input is.

        Raises
        ------
        ValueError
            If labels, for a loss of your own, are no classes of the network.

        Notes
        -----
        Source: Theorem ``thm-knapsack`` (chapter 6), whose radii these are.
        """
        if self._errors is None:
            y, K = self._y, self._net.outputs
            if K < 2 or y.max() >= K:
                raise ValueError(f"errors need labels from 0 to K - 1 of K >= 2 classes, K = {K}")
            margin = _clean(self._net, self._X, y, "margin")
            part = _segments(self._plane, self._X, y, "margin", margin, self._norm)
            # the size of the terms, whose rounding may hide that a margin is 0
            outputs = relu.evaluate(self._net, self._X)
            slack = ROUNDING * (1e-3 + np.abs(outputs).max(axis=1) + np.abs(outputs).max())
            need = np.maximum(-margin - slack, 0.0)[part.sample]
            with np.errstate(divide="ignore", invalid="ignore"):
                t = part.t0 + np.maximum(need - part.gain0, 0.0) / part.slope
            t = np.where(part.gain0 >= need, part.t0, t)
            reached = (part.gain0 >= need) | ((part.slope > 0) & (t <= part.t1))
            distance = np.where(reached, np.hypot(part.height, np.where(reached, t, 0.0)), np.inf)
            self._errors = np.minimum.reduceat(distance, _firsts(part.sample))
            self._errors[margin >= 0] = 0.0
        return self._errors.copy()

    # ---------------------------------------------------------------- values

    def value(self, radius: float, p: float) -> Value:
        """V_p(radius), the worst mean loss within a Wasserstein distance, labels fixed.

        Parameters
        ----------
        radius : float
            At least 0.
        p : float
            Order, from 1 to 1e6, or numpy.inf.

        Returns
        -------
        Value
            lower <= V_p <= upper, equal up to rounding.

        Raises
        ------
        TypeError, ValueError
            If the radius is not one finite number of at least 0, or p is out of its range.

        Notes
        -----
        Source: Theorem ``thm-growth-form`` and Corollary ``cor-wdro-duality`` (chapter 6).
        """
        radius, p = number(radius, "radius", 0.0), _order(p)
        clean = float(self.clean.mean())
        nowhere = np.full(2, np.nan)
        if p == math.inf or radius == 0:
            lists, where = self._reached(radius)
            spent = wdro.allocate(lists, radius, p)
            points = self._points(spent.atoms, where)
            value = float(clean + spent.value)
            return Value(value, value, spent, points, nowhere, math.nan if radius == 0 else 0.0)
        found = self._solve(np.array([radius]), p)
        where = [rows[:, 2:] for rows in found.lists]
        slopes = self.slopes_at_infinity if p == 1 else None
        spent = wdro.allocate([rows[:, :2] for rows in found.lists], radius, p, slopes)
        points = self._points(spent.atoms, where)
        lower = float(clean + spent.value)
        upper = max(lower, clean + float(found.upper[0]))
        if spent.escaping:
            part = self._all
            who = part.sample == spent.atoms.sample[np.isinf(spent.atoms.distance)][0]
            best = np.argmax(np.where(who & np.isinf(part.t1), part.slope, 0.0))
            nowhere = part.way[best] / np.linalg.norm(part.way[best], ord=self._norm)
        with np.errstate(divide="ignore", over="ignore", under="ignore"):
            unit = np.float64(radius) ** p
            multiplier = float(found.price[0] / unit) if found.price[0] > 0 else 0.0
        return Value(lower, upper, spent, points, nowhere, multiplier)

    def curve(self, radii: ArrayLike, p: float) -> tuple[Array, Array]:
        """V_p for many radii at once: arrays (lower, upper) of the shape of `radii`.

        Arguments, errors and source as for :meth:`value`.
        """
        radii, p = finite(radii, "radii", least=0.0), _order(p)
        clean = float(self.clean.mean())
        if p == math.inf:
            value = clean + self.growth(radii).mean(axis=-1)
            return value, value.copy()
        lower, upper = np.full(radii.shape, clean), np.full(radii.shape, clean)
        some = radii > 0
        if some.any():
            found = self._solve(radii[some], p)
            lists = [rows[:, :2] for rows in found.lists]
            slopes = self.slopes_at_infinity if p == 1 else None
            gains = np.empty_like(found.upper)
            for group in _groups(radii[some], p):
                gains[group] = wdro.curve(lists, radii[some][group], p, slopes)
            lower[some] += gains
            upper[some] += found.upper
        return lower, np.maximum(lower, upper)

    # ---------------------------------------------------------------- inside

    def _hull(self, p: float) -> _Segments:
        """The segments that may touch the least concave majorants as functions of distance^p."""
        if p not in self._hulls:
            part, keep = self._all, []
            distances, high = np.stack([part.near, part.far]), part.gain1
            with np.errstate(over="ignore", under="ignore"):
                near, far = powers = distances**p
            # where the power leaves the range of floats, nothing is to be learned from a point
            sound = (distances == 0) | ((powers > 1e-290) & (powers < np.inf))
            for a, b in zip(self._first, np.append(self._first[1:], len(near)), strict=True):
                cost = np.concatenate([near[a:b], far[a:b]])
                gain = np.concatenate([part.gain0[a:b], high[a:b]])
                good = sound[:, a:b].ravel() & np.isfinite(gain)
                costs, gains, _ = wdro._hull(cost[good], gain[good])
                top = np.interp(near[a:b], costs, gains)
                good = high[a:b] >= top * (1 - ROUNDING)
                good[0] = True
                keep.append(a + np.flatnonzero(good))
            self._hulls[p] = part.take(np.concatenate(keep))
        return self._hulls[p]

    def _solve(self, radii: Array, p: float) -> _Solution:
        """Dual values for finite p, and the points that the best multipliers lead to."""
        groups = _groups(radii, p)
        parts = [self._bisected(radii[group], p) for group in groups]
        back = np.argsort(np.concatenate(groups))
        upper, price = (np.concatenate([part[k] for part in parts])[back] for k in (0, 1))
        table = np.concatenate([part[2] for part in parts])
        table = table[np.lexsort(table.T[::-1])]
        table = table[np.append(True, (np.diff(table, axis=0) != 0).any(axis=1))]
        ends = np.searchsorted(table[:, 0], np.arange(1, len(self.clean)))
        return _Solution(upper, price, [rows[:, 1:] for rows in np.split(table, ends)])

    def _bisected(self, radii: Array, p: float) -> tuple[Array, Array, Array]:
        """Best multipliers, between a low one, where the budget is overspent, and a high one.

        Prices are lambda * radius^p, so that the budget is 1.
        """
        part, far = self._hull(p), float(radii.max())
        high = float(self.secant_slopes.max()) * radii * (1 + 1e-9)
        steepest = float(self.slopes_at_infinity.max())
        low = steepest * radii if p == 1 else np.zeros_like(radii)
        if p > 1 and steepest > 0:
            least = high.max()
            while least > 0 and _Peaks(part, p, np.array([far]), np.array([least])).cost[0] < 1:
                least /= 4
            low = least * (radii / far) ** p
        most = float((high * (far / radii) ** p).max())
        part = _competing(part, p, far, float(low[np.argmax(radii)]), most)

        def peaks(price: Array) -> _Peaks:
            return _Peaks(part, p, radii, price)

        at_low, at_high = peaks(low), peaks(high)
        duals = low + at_low.total, high + at_high.total
        upper, price = np.minimum(*duals), np.where(duals[0] <= duals[1], low, high)
        over = at_low.cost > 1  # else nothing more is to be had, or the rest escapes
        high = np.where(over, high, low)
        at_high = at_high.updated(at_low, ~over)
        for k in range(192):
            # two tangents of the dual, a convex function, meet at the worth of the mixture of both
            # plans that spends the budget
            width, steep, flat = high - low, at_low.cost - 1, 1 - at_high.cost
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                step = (low - high + at_low.total - at_high.total + flat * width) / (steep + flat)
                gap = upper - (high + at_high.total - flat * (width - step))
                # the budget is spent there if the cost is a power of the price
                power = np.log(at_low.cost) / (np.log(at_low.cost) - np.log(at_high.cost))
                step = (step, low * ((high / low) ** power - 1), width / 2)[k % 3]
            if ((gap <= 1e-15 * upper) | (width <= 4e-16 * high)).all():
                break
            middle = low + np.where((step > 0) & (step < width), step, width / 2)
            at = peaks(middle)
            dual = middle + at.total
            price, upper = np.where(dual < upper, middle, price), np.minimum(upper, dual)
            over = at.cost > 1
            low, high = np.where(over, middle, low), np.where(over, high, middle)
            at_low, at_high = at_low.updated(at, over), at_high.updated(at, ~over)
        return upper, price, np.concatenate([self._rows(part, at) for at in (at_low, at_high)])

    def _rows(self, part: _Segments, at: _Peaks) -> Array:
        """Rows (sample, distance, gain, point) of the best points."""
        chosen, t = part.take(at.index.ravel()), at.t.ravel()
        good = np.isfinite(t)
        chosen, t = chosen.take(good), t[good]
        point = chosen.point + (t - chosen.t0)[:, None] * chosen.way
        return np.column_stack([chosen.sample, np.hypot(chosen.height, t), _at(chosen, t), point])

    def _reached(self, radius: float) -> tuple[list[Array], list[Array]]:
        """The best point of every sample within the radius, nearest among equally good ones."""
        part = self._all
        t = np.sqrt(np.maximum(radius - part.height, 0.0) * (radius + part.height))
        t = np.clip(t, part.t0, part.t1)
        gain = np.where(part.near <= radius, _at(part, t), -np.inf)
        lists, where = [], []
        for a, b in zip(self._first, np.append(self._first[1:], len(gain)), strict=True):
            k = a + int(np.argmax(gain[a:b]))
            distance = min(radius, float(np.hypot(part.height[k], t[k])))
            lists.append(np.array([[distance, gain[k]]]))
            where.append((part.point[k] + (t[k] - part.t0[k]) * part.way[k])[None])
        return lists, where

    def _points(self, atoms: wdro.Atoms, where: list[Array]) -> Array:
        points = self._X[atoms.sample].copy()
        for row, (i, k) in enumerate(zip(atoms.sample, atoms.point, strict=True)):
            if k >= 0:
                points[row] = where[i][k]
        points[np.isinf(atoms.distance)] = np.nan
        return points


def _order(p: float) -> float:
    if math.inf > wasserstein_order(p) > MOST_ORDER:
        raise ValueError(f"p is at most {MOST_ORDER:.0e}, or numpy.inf, its limit; got {p!r}")
    return float(p)


def _finite_order(p: float) -> float:
    if _order(p) == math.inf:
        raise ValueError("p = inf has no multiplier: growth gives its values")
    return float(p)


def _groups(radii: Array, p: float) -> list[NDArray[np.intp]]:
    """Which radii go together: the costs of radii too far apart do not fit into one scale."""
    order = np.argsort(radii)
    spread = p * np.log(radii[order] / radii[order[0]])
    return np.split(order, np.flatnonzero(np.diff(spread // 200)) + 1)


def _firsts(sample: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.flatnonzero(np.append(True, np.diff(sample) > 0))


def _secants(part: _Segments) -> Array:
    """Largest gain / distance on each segment."""
    near, far, start = part.near, part.far, part.gain0 - part.slope * part.t0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(
            np.where(near > 0, part.gain0 / near, 0.0),
            np.where(np.isinf(far), part.slope, np.where(far > 0, part.gain1 / far, 0.0)),
        )
        t = part.slope * part.height**2 / start
        inside = (start > 0) & (part.t0 < t) & (t < part.t1) & (part.height > 0)
        top = np.hypot(start / part.height, part.slope)
    return np.maximum(np.where(inside, top, ratio), 0.0)


class _Solution(NamedTuple):
    upper: Array
    price: Array
    lists: list[Array]


class _Peaks:
    """max over each sample's segments of gain - price * (distance / unit)^p, for many prices.

    `best`, `index`, `t` (prices, n): the value, the segment that has it and where; `cost` the
    mean of (distance / unit)^p there and `total` the mean of the values.
    """

    def __init__(self, part: _Segments, p: float, unit: Array, price: Array) -> None:
        first, n = _firsts(part.sample), int(part.sample[-1]) + 1
        count = np.diff(np.append(first, len(part.sample)))
        shape = len(price), n
        self.best, self.t, cost = np.empty(shape), np.empty(shape), np.empty(shape)
        self.index = np.empty(shape, dtype=np.intp)
        step = max(1, MOST_ENTRIES // len(part.sample))
        for k in range(0, len(price), step):
            rows = slice(k, k + step)
            t, value, spent = _worth(part, p, unit[rows, None], price[rows, None])
            best = np.maximum.reduceat(value, first, axis=1)
            top = value >= np.repeat(best, count, axis=1)
            spent = np.where(top, spent, np.inf)  # of equally good ones the nearest
            least = np.minimum.reduceat(spent, first, axis=1)
            top &= spent <= np.repeat(least, count, axis=1)
            place = np.where(top, np.arange(len(part.sample)), len(part.sample))
            index = np.minimum.reduceat(place, first, axis=1)
            self.best[rows], self.index[rows], cost[rows] = best, index, least
            self.t[rows] = np.take_along_axis(t, index, axis=1)
        self.costs = cost
        self.cost, self.total = cost.mean(axis=1), self.best.mean(axis=1)

    def updated(self, other: _Peaks, where: NDArray[np.bool_]) -> _Peaks:
        new = object.__new__(_Peaks)
        for name in ("best", "costs", "t", "index"):
            value = np.where(where[:, None], getattr(other, name), getattr(self, name))
            setattr(new, name, value)
        for name in ("cost", "total"):
            setattr(new, name, np.where(where, getattr(other, name), getattr(self, name)))
        return new


def _worth(part: _Segments, p: float, unit: Array, price: Array) -> tuple[Array, Array, Array]:
    """Best t on each segment, gain - price * cost there (or its limit), and the cost."""
    t, distance, gain = _stationary(part, p, unit, price)
    with np.errstate(over="ignore", invalid="ignore"):
        cost = (distance / unit) ** p
        paid = np.where(price > 0, price * cost, 0.0)
        # a gain that overflows, at its best place, outweighs the cost
        return t, np.where(np.isfinite(distance) & (gain < np.inf), gain - paid, gain), cost


def _competing(part: _Segments, p: float, unit: float, low: float, high: float) -> _Segments:
    """Only the segments that may be best at some price between low and high.

    Between two prices a < b the worth of a segment, convex in the price, lies below its chord, and
    the best worth of the sample above its tangents at a and b.
    """
    for size in (8, 32, 128):
        prices = np.geomspace(max(low, 1e-12 * high), high, size) if high > 0 else np.zeros(1)
        prices = np.unique(np.append([low, high], prices))
        first = _firsts(part.sample)
        count = np.diff(np.append(first, len(part.sample)))
        keep = np.zeros(len(part.sample), dtype=bool)
        keep[first] = True
        step = max(1, MOST_ENTRIES // len(part.sample))
        for k in range(0, len(prices), step):
            price = prices[max(k - 1, 0) : k + step]
            unit_ = np.full(len(price), unit)
            worth = _worth(part, p, unit_[:, None], price[:, None])[1]
            at = _Peaks(part, p, unit_, price)
            keep |= (worth >= np.repeat(at.best, count, axis=1)).any(axis=0)
            if len(price) < 2:
                continue
            a, b, A, B = price[:-1, None], price[1:, None], at.best[:-1], at.best[1:]
            steep, flat = at.costs[:-1], at.costs[1:]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                meet = (A - B + steep * a - flat * b) / (steep - flat)
                meet = np.where(np.isfinite(meet), np.clip(meet, a, b), a)
                tangents = np.maximum(
                    np.where(meet > a, A - steep * (meet - a), -np.inf), B + flat * (b - meet)
                )
            share = np.repeat((meet - a) / (b - a), count, axis=1)
            with np.errstate(invalid="ignore"):  # a share of 0 of what is infinitely bad is 0
                chord = np.where(share < 1, (1 - share) * worth[:-1], 0.0)
                chord += np.where(share > 0, share * worth[1:], 0.0)
            slack = ROUNDING * (np.abs(A) + np.abs(B) + a)
            with np.errstate(invalid="ignore"):  # where nothing is finite all may be best
                worse = chord < np.repeat(tangents - slack, count, axis=1)
            keep |= ~worse.all(axis=0)
        part = part.take(keep)
    return part


def _stationary(part: _Segments, p: float, unit: Array, price: Array) -> tuple[Array, Array, Array]:
    """Best t on each segment, the distance there, and the gain; where it is t = inf, the limit of
    gain - cost instead of the gain."""
    h, k = part.height, part.slope
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if p == 1:
            slow = k * unit < price  # the gain does not pay for the distance forever
            root = np.sqrt((price - k * unit) * (price + k * unit))
            t = np.where(slow, np.where(h > 0, k * unit * h / root, 0.0), np.inf)
            t = np.where((k * unit == price) & (h == 0), 0.0, t)
        elif p == 2:
            t = k * unit**2 / (2 * price)
        else:
            t = unit * (k * unit / (p * price)) ** (1 / (p - 1))
            bent = (h > 0) & (k > 0)
            if bent.any():
                t[:, bent] = _bent(t[:, bent], h[bent], k[bent], p, unit, price)
    t = np.clip(np.where(k > 0, t, 0.0), part.t0, part.t1)
    gain = _at(part, t)
    gone = np.isinf(t)
    if gone.any():
        limit = np.where(k * unit > price, np.inf, part.gain0 - k * part.t0) if p == 1 else np.inf
        gain = np.where(gone, limit, gain)
    return t, np.hypot(h, t), gain


def _bent(t: Array, h: Array, k: Array, p: float, unit: Array, price: Array) -> Array:
    """Zero of k - price p t (h^2 + t^2)^(p/2 - 1) / unit^p, by bisection of log t.

    `t` is the zero for h = 0.  While t >= h, h^2 + t^2 lies between t^2 and 2 t^2; else between h^2
    and 2 h^2.
    """
    flat = np.log(t)
    part = abs(p - 2) / 2 * math.log(2)
    straight = np.log(k) - np.log(price * p) + p * np.log(unit) - (p - 2) * np.log(h)
    low = np.minimum(flat - part / (p - 1), straight - part)
    high = np.maximum(flat + part / (p - 1), straight + part)
    low, high = (np.clip(side, -700.0, 700.0) for side in (low, high))
    for _ in range(36):  # an error of t is squared in the worth
        s = (low + high) / 2
        size = np.logaddexp(2 * np.log(h), 2 * s) / 2
        up = s + (p - 2) * size < straight + (p - 2) * np.log(h)
        low, high = np.where(up, s, low), np.where(up, high, s)
    return np.exp((low + high) / 2)


def planar(
    net: relu.Network,
    X: ArrayLike,
    y: ArrayLike,
    norm: float,
    loss: Loss = "hinge",
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> Planar:
    r"""Exact growth functions and robust values of a network with two inputs.

    The plane is cut into the cells of the network, in a square and in four charts at infinity.
    For norm 2 the best points at a given distance lie on sides of cells or on straight ways from
    the datum along a gradient, for 1 and inf on sides or on the lines through the datum where the
    norm has its kinks: segments, on which everything has a closed form.

    Parameters
    ----------
    net : relu.Network
        Two inputs, any depth.
    X : array, shape (n, 2)
        One sample per row.
    y : array of integers, shape (n,)
        Labels, class numbers from 0 to K - 1.
    norm : 1, 2 or numpy.inf
        Ground norm, in which the samples move; their labels are fixed.
    loss : "hinge", "margin" or a function
        max_j (1 + f_j - f_y)_+, max_j (f_j - f_y), both over j != y, or label -> (C, e), arrays of
        shapes (R, K) and (R,), for the loss max_r (C f + e)_r.
    low, high : float or array, shape (2,), optional
        The box in which the samples may move; without it all of the plane.

    Returns
    -------
    Planar

    Raises
    ------
    TypeError
        If `net` is no Network, or an input is complex or not numeric.
    ValueError
        If the network does not have two inputs, shapes clash, a label is no class, the loss or
        the norm is unknown, a sample lies outside the box, or there are more than 200,000 cells.

    Notes
    -----
    For p beyond 1e6 take numpy.inf.  Inputs in units that differ by more than 1e8 are beyond
    float64: rescale them, and with them the norm.

    Source: Propositions ``prop-planar-segments``, ``prop-far-field`` and, in a box,
    ``prop-bounded-domain`` (chapter 6).
    """
    ground_norm(norm)
    X, y = _samples(net, X, y, loss)
    if net.inputs != 2:
        count = relu.generic_cell_count(sum(net.hidden), net.inputs)
        raise ValueError(
            f"planar is for two inputs, this network has {net.inputs}, and up to {count:,} cells "
            f"for one hidden layer; cell_program takes few cells in more dimensions, for p = 1 "
            f"and the norms 1 and inf"
        )
    return Planar(net, X, y, norm, loss, _domain(net, X, low, high))


# ------------------------------------------------------------------------------- the program


class ProgramAtoms(NamedTuple):
    """Atoms of the best distribution of a program: sample, place, distance moved, mass."""

    sample: NDArray[np.intp]
    points: Array
    distance: Array
    mass: Array


class Rays(NamedTuple):
    """Mass that escapes: from which sample, in which direction (of norm 1), at which cost."""

    sample: NDArray[np.intp]
    direction: Array
    cost: Array


class Program(NamedTuple):
    """V_1 by the program over cells: the value of the plan, the solver's dual bound, the plan.

    `value` is the mean loss of the atoms and the gain of the rays; `upper` the dual objective,
    valid up to the solver's feasibility tolerance 1e-7; `multiplier` the slope dV_1/dradius.
    """

    value: float
    upper: float
    multiplier: float
    atoms: ProgramAtoms
    rays: Rays


def _affine(net: relu.Network, mask: NDArray[np.bool_]) -> tuple[Array, Array, Array, Array]:
    """The closed cell A x <= b of a pattern, and the affine map G x + c of the outputs on it."""
    G, c = np.eye(net.inputs), np.zeros(net.inputs)
    rows, sides, first = [], [], 0
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        G, c = W @ G, W @ c + b
        on = mask[first : first + len(b)]
        first += len(b)
        sign = np.where(on, -1.0, 1.0)
        rows.append(sign[:, None] * G)
        sides.append(-sign * c)
        G, c = on[:, None] * G, on * c
    A = np.vstack([np.zeros((0, net.inputs)), *rows])
    b = np.concatenate([np.zeros(0), *sides])
    size = np.linalg.norm(A, axis=1)
    A, b = A[size > 0] / size[size > 0, None], b[size > 0] / size[size > 0]
    return A, b, net.weights[-1] @ G, net.weights[-1] @ c + net.biases[-1]


def _blocks(
    net: relu.Network,
    X: Array,
    y: NDArray[np.intp],
    loss: Loss,
    box: tuple[Array, Array] | None,
) -> Iterator[tuple[int, Array, Array, Array, float]]:
    """(sample, A, b, gradient, offset) for every sample, cell and piece that is not constant."""
    masks = relu.activations(net) if box is None else relu.activations(net, *box)
    cells = [_affine(net, mask) for mask in masks]
    if box is not None:
        unit = np.eye(net.inputs)
        walls, ends = np.vstack([unit, -unit]), np.concatenate([box[1], -box[0]])
        cells = [(np.vstack([A, walls]), np.append(b, ends), G, c) for A, b, G, c in cells]
    pieces = {int(k): _pieces(loss, int(k), net.outputs) for k in np.unique(y)}
    for i, label in enumerate(y):
        for A, b, G, c in cells:
            for row, shift in zip(*pieces[int(label)], strict=True):
                if row.any():
                    yield i, A, b, row @ G, float(row @ c + shift)


def cell_program(
    net: relu.Network,
    X: ArrayLike,
    y: ArrayLike,
    radius: float,
    norm: float,
    loss: Loss = "hinge",
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> Program:
    r"""V_1(radius) as one linear program over all activation cells, labels fixed.

    For sample i, cell {A x <= b} and piece g . x + c of the loss there: mass a >= 0, and the
    moment q of the displacement,

        max sum of (g . x_i + c) a + g . q   subject to   A (a x_i + q) <= a b,
        sum of a over the blocks of i = 1 / n,   sum of ||q|| over all blocks <= radius.

    A block with a > 0 is an atom at x_i + q / a; one with a = 0 and q != 0 is mass that escapes
    in the direction q, less and less of it, ever farther away.

    Parameters
    ----------
    net : relu.Network
        Few inputs and any depth for which :func:`advreg.relu.activations` lists the cells.
    X, y, loss, low, high
        As in :func:`planar`, for any number of inputs.
    radius : float
        Wasserstein radius of order 1, at least 0.
    norm : 1 or numpy.inf
        Ground norm.  (For 2 it would be a second-order cone program: see :func:`planar`.)

    Returns
    -------
    Program

    Raises
    ------
    TypeError
        If `net` is no Network, or an input is complex or not numeric.
    ValueError
        As :func:`planar`, and if the norm is 2, or the program has too many variables.
    RuntimeError
        If HiGHS fails.

    Notes
    -----
    Constant pieces are left out, since mass may stay at its datum.  Exact up to the tolerance of
    the solver, 1e-7 in each constraint, in units of the budget and of the largest loss.

    Source: Theorem ``thm-cell-program`` (chapter 6).
    """
    if ground_norm(norm) == 2:
        raise ValueError(
            "for norm 2 the program is no linear one; planar takes it, for two inputs, and the "
            "norms 1 and inf are accepted here"
        )
    X, y = _samples(net, X, y, loss)
    radius, box = number(radius, "radius", 0.0), _domain(net, X, low, high)
    n, d = X.shape
    clean = _clean(net, X, y, loss)
    blocks = list(_blocks(net, X, y, loss, box))
    wide = 1 + 2 * d + (norm == np.inf)  # a, q+, q-, and the norm of q
    if len(blocks) * wide > MOST_VARIABLES:
        raise ValueError(
            f"{len(blocks):,} blocks of samples, cells and pieces make a linear program of "
            f"{len(blocks) * wide:,} variables, more than {MOST_VARIABLES:,}; take fewer samples "
            f"or a smaller network, or planar, for two inputs"
        )
    owner = np.array([i for i, *_ in blocks], dtype=np.intp)
    columns = n + wide * np.arange(len(blocks))  # the first n: mass that stays
    gain = np.zeros(n + wide * len(blocks))
    gain[:n] = clean
    cost = np.zeros(len(gain))
    matrices, heights = [], []
    # the solver's tolerances are absolute: lengths in units of the budget, if not too small
    unit = max(n * radius, 1e-4 * float(np.abs(X).max())) or 1.0
    for at, (i, A, b, g, c) in zip(columns, blocks, strict=True):
        gain[at], gain[at + 1 : at + 1 + d], gain[at + 1 + d : at + 1 + 2 * d] = (
            g @ X[i] + c,
            unit * g,
            -unit * g,
        )
        off = A @ X[i] - b
        rows = np.column_stack([off, unit * A, -unit * A])
        rows /= np.maximum(np.abs(off), unit)[:, None]
        if norm == np.inf:
            cost[at + wide - 1] = 1.0
            edge = np.column_stack([np.zeros(d), np.eye(d), np.eye(d), -np.ones(d)])
            rows = np.vstack([np.column_stack([rows, np.zeros(len(A))]), edge])
        else:
            cost[at + 1 : at + wide] = 1.0
        matrices.append(rows)
        heights.append(len(rows))
    total = sum(heights)
    upper_rows = [sparse.csr_matrix(cost)]
    if blocks:
        inner = sparse.block_diag(matrices, format="csr")
        upper_rows.append(sparse.hstack([sparse.csr_matrix((total, n)), inner]))
    masses = sparse.csr_matrix(
        (
            np.ones(n + len(blocks)),
            (np.append(np.arange(n), owner), np.append(np.arange(n), columns)),
        ),
        shape=(n, len(gain)),
    )
    # masses in units of 1 / n, and losses in units of the largest, for the same reason
    top = float(np.abs(gain).max()) or 1.0
    answer = linprog(
        -gain / top,
        A_ub=sparse.vstack(upper_rows, format="csr"),
        b_ub=np.append(n * radius / unit, np.zeros(total)),
        A_eq=masses,
        b_eq=np.ones(n),
        method="highs",
    )
    if answer.status:
        raise RuntimeError(f"HiGHS could not solve the program over cells: {answer.message}")
    multiplier = -float(answer.ineqlin.marginals[0]) * top / unit
    dual = n * radius * multiplier - float(answer.eqlin.marginals.sum()) * top
    value = -float(answer.fun) * top / n
    atoms, rays = _plan(answer.x, X, owner, columns, norm, unit)
    return Program(value, max(value, dual / n), multiplier, atoms, rays)


def _plan(
    x: Array,
    X: Array,
    owner: NDArray[np.intp],
    columns: NDArray[np.intp],
    norm: float,
    unit: float,
) -> tuple[ProgramAtoms, Rays]:
    """Atoms and rays of a solution with lengths in `unit`; atoms of one sample in one place are
    one."""
    n, d = X.shape
    stay = x[:n]
    blocks = (
        x[columns[:, None] + np.arange(1 + 2 * d)] if len(columns) else np.zeros((0, 1 + 2 * d))
    )
    mass, q = blocks[:, 0], blocks[:, 1 : 1 + d] - blocks[:, 1 + d :]
    size = np.linalg.norm(q, ord=norm, axis=1) if len(q) else np.zeros(0)
    there = mass > 1e-9
    sample = np.append(np.flatnonzero(stay > 1e-9), owner[there])
    moved = np.vstack([np.zeros((int((stay > 1e-9).sum()), d)), q[there] / mass[there, None]])
    mass_ = np.append(stay[stay > 1e-9], mass[there]) / n
    key = np.column_stack([sample, np.round(moved, 9) + 0.0])
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    total = np.bincount(inverse.ravel(), mass_, minlength=len(first))
    sample, moved = sample[first], unit * moved[first]
    atoms = ProgramAtoms(sample, X[sample] + moved, np.linalg.norm(moved, ord=norm, axis=1), total)
    gone = ~there & (size > 1e-9)
    return atoms, Rays(owner[gone], q[gone] / size[gone, None], unit * size[gone] / n)
