r"""ReLU networks as piecewise affine functions: activation cells, exact Lipschitz constants.

A network f(x) = W_L relu(... relu(W_1 x + b_1) ...) + b_L is affine on each *activation cell*,
the set of inputs where every neuron keeps its side.  Only cells with interior points count: a
pattern that occurs on a line, or at a point, or nowhere, says nothing about f and makes every
bound that uses it too large.  With the Jacobian J of a cell,

    largest slope of a logit difference   = max over cells of ||J^T (e_j - e_y)||_*,
    its slope at infinity                 = max over ||u|| <= 1 of (f_j - f_y)(u)_+ without biases.

Throughout, `norm` is the GROUND norm, that of the inputs and of the attack, one of 1, 2 and
``numpy.inf``, as in :mod:`advreg.linear`; gradients are measured in its dual.  Cells are found by

* polygons: two inputs, any depth, in a box; polygons are cut neuron by neuron, all at once;
* vertices: one hidden layer, few inputs; every cell touches a point where d hyperplanes meet;
* lp: any depth, few inputs, few cells; one linear program decides where a witness does not;

and, without cells, one hidden layer in a box by mixed-integer programming ("milp").  All is
float64.  Cells that rounding cannot tell from empty ones are not seen, and "exact" is meant up to
them: thinner than about 1e-10 of the box or of the scale of the arrangement, 1e-9 for "lp".
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp, nnls

from advreg._checks import finite, ground_norm, integer, number
from advreg.linear import dual_norm

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Bracket",
    "Cells",
    "Network",
    "activations",
    "cells",
    "evaluate",
    "from_torch",
    "generic_cell_count",
    "gradients",
    "label_pairs",
    "lipschitz",
    "lipsdp",
    "mask_bound",
    "norm_product",
    "slope_at_infinity",
    "without_biases",
]

Array = NDArray[np.float64]
Masks = NDArray[np.bool_]

METHODS = ("auto", "polygons", "vertices", "lp", "milp")
ROUNDING = 1e-12  # relative to the terms of a sum: what this sum cannot tell from 0
CLOSE = 1e-10  # relative distance at which hyperplanes meet in one point, or are parallel
THIN = 1e-9  # radius of a ball that a cell has to hold, where a linear program looks for one
MOST_POLYGONS = 200_000
MOST_ENTRIES = 500_000_000  # of masks, before equal ones are merged
MOST_LEAVES = 3_000  # cells that are searched by linear programs


# ------------------------------------------------------------------------------- networks


@dataclass(frozen=True, eq=False)
class Network:
    """A fully connected ReLU network: weights and biases of its layers, the last one linear.

    Parameters
    ----------
    weights : sequence of arrays, shapes (n_1, d), (n_2, n_1), ..., (K, n_{L-1})
        One row per neuron; one array alone is a linear model.
    biases : sequence of arrays, shapes (n_1,), ..., (K,)

    Raises
    ------
    TypeError
        If an array is complex or not numeric.
    ValueError
        If shapes do not fit together, or an entry is not finite.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        weights = tuple(finite(W, f"weights[{k}]") for k, W in enumerate(self.weights))
        biases = tuple(finite(b, f"biases[{k}]") for k, b in enumerate(self.biases))
        if not weights or len(weights) != len(biases):
            raise ValueError(
                f"a network has one bias per layer and one layer at least; got {len(weights)} "
                f"weights and {len(biases)} biases"
            )
        for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
            if W.ndim != 2 or not W.size:
                raise ValueError(f"weights[{k}] must be a matrix, got shape {W.shape}")
            if k and W.shape[1] != len(weights[k - 1]):
                raise ValueError(
                    f"weights[{k}] must have one column per neuron below, "
                    f"{len(weights[k - 1])}; got shape {W.shape}"
                )
            if b.shape != (len(W),):
                raise ValueError(
                    f"biases[{k}] must have one entry per row of weights[{k}], "
                    f"shape ({len(W)},); got {b.shape}"
                )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "biases", biases)

    @property
    def inputs(self) -> int:
        """Number of inputs d."""
        return self.weights[0].shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs K."""
        return len(self.weights[-1])

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(len(W) for W in self.weights[:-1])


def from_torch(model: nn.Sequential) -> Network:
    """The network of a ``torch.nn.Sequential`` of Linear and ReLU layers, in float64.

    Parameters
    ----------
    model : torch.nn.Sequential
        Flatten layers (which change nothing here) first, then Linear, ReLU, ..., Linear.

    Returns
    -------
    Network
        A copy; inputs of several axes count in the order in which Flatten reads them.

    Raises
    ------
    TypeError
        If `model` is no Sequential, or holds a layer of another kind.
    ValueError
        If the layers do not alternate.
    """
    from torch import nn

    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model must be a torch.nn.Sequential, got {type(model).__name__}")
    layers = list(model)
    while layers and isinstance(layers[0], nn.Flatten):
        layers.pop(0)
    for layer in layers:
        if not isinstance(layer, (nn.Linear, nn.ReLU)):
            raise TypeError(
                f"only Flatten (at the start), Linear and ReLU layers are piecewise affine in the "
                f"way that is needed here; got {type(layer).__name__}"
            )
    linear, relu = layers[::2], layers[1::2]
    if not (
        len(layers) % 2
        and all(isinstance(layer, nn.Linear) for layer in linear)
        and all(isinstance(layer, nn.ReLU) for layer in relu)
    ):
        raise ValueError("the layers must alternate: Linear, ReLU, ..., Linear")
    weights = [layer.weight.detach().cpu().double().numpy().copy() for layer in linear]
    biases = [
        np.zeros(len(W))
        if layer.bias is None
        else layer.bias.detach().cpu().double().numpy().copy()
        for W, layer in zip(weights, linear, strict=True)
    ]
    return Network(tuple(weights), tuple(biases))


def without_biases(net: Network) -> Network:
    """The same network with all biases zero: f^inf, of which f stays within a bounded distance.

    Raises
    ------
    TypeError
        If `net` is no Network.
    """
    net = _network(net)
    return Network(net.weights, tuple(np.zeros_like(b) for b in net.biases))


def evaluate(net: Network, x: ArrayLike) -> Array:
    """Outputs f(x).

    Parameters
    ----------
    net : Network
    x : array, shape (..., d)

    Returns
    -------
    array, shape (..., K), float64

    Raises
    ------
    TypeError
        If `net` is no Network, or `x` is complex or not numeric.
    ValueError
        If the last axis of `x` is not that of the inputs, or an entry is not finite.
    """
    h = finite(x, "x")
    if not h.ndim or h.shape[-1] != _network(net).inputs:
        raise ValueError(f"x must have {net.inputs} entries per point, got shape {h.shape}")
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        h = np.maximum(h @ W.T + b, 0)
    return h @ net.weights[-1].T + net.biases[-1]


def label_pairs(outputs: int, labels: Iterable[int] | None = None) -> list[tuple[int, int]]:
    """The pairs (j, y), j != y, that matter if every true label y is one of `labels`.

    Parameters
    ----------
    outputs : int
        Number of classes K, at least 2.
    labels : integers, optional
        Labels that are present, repeated or not; all classes by default.

    Raises
    ------
    ValueError
        If a label is not a class number from 0 to K - 1, or there is none.
    """
    K = integer(outputs, "outputs", 2)
    present = range(K) if labels is None else sorted({integer(y, "a label", 0) for y in labels})
    if not len(present) or present[-1] >= K:
        raise ValueError(f"labels must be class numbers from 0 to {K - 1}, one at least")
    return [(j, y) for y in present for j in range(K) if j != y]


def _network(net: Network) -> Network:
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network (see from_torch), got {type(net).__name__}")
    return net


def _differences(K: int, pairs: Sequence[tuple[int, int]] | None) -> Array:
    """Rows e_j - e_y, shape (pairs, K); the output itself if there is only one."""
    if pairs is None:
        if K == 1:
            return np.ones((1, 1))
        pairs = list(itertools.combinations(range(K), 2))  # the sign does not change a norm
    try:
        table = np.array([[integer(j, "an output", 0) for j in pair] for pair in pairs])
    except TypeError:
        raise ValueError(f"pairs must be pairs of outputs (j, y), got {pairs!r}") from None
    if (
        table.ndim != 2
        or table.shape[1] != 2
        or table.max() >= K
        or (table.T[0] == table.T[1]).any()
    ):
        raise ValueError(
            f"pairs must be pairs (j, y) of two different outputs from 0 to {K - 1}, one at least"
        )
    identity = np.eye(K)
    return identity[table[:, 0]] - identity[table[:, 1]]


def _box(net: Network, low: ArrayLike | None, high: ArrayLike | None) -> tuple[Array, Array] | None:
    if (low is None) != (high is None):
        raise ValueError("give both sides of the box, low and high, or neither of them")
    if low is None or high is None:
        return None
    sides = [finite(low, "low"), finite(high, "high")]
    if any(side.shape not in ((), (net.inputs,)) for side in sides):
        raise ValueError(f"low and high are numbers, or have one entry per input ({net.inputs})")
    low, high = (np.broadcast_to(side, (net.inputs,)) for side in sides)
    if not (low < high).all():
        raise ValueError("low must be less than high in every input")
    return low, high


# ------------------------------------------------------------------------------- polygons


@dataclass(frozen=True, eq=False)
class Cells:
    """Activation cells of a network with two inputs in a box, as convex polygons.

    They cover the box and overlap in their sides only.  P is their number.

    Attributes
    ----------
    vertices : array, shape (M, 2)
        Corners of all polygons, one polygon after the other, each counterclockwise; a corner may
        lie inside a side, where a neighbour ends.
    start : array of integers, shape (P + 1,)
        Polygon i has the corners ``vertices[start[i] : start[i + 1]]``.
    masks : array of booleans, shape (P, n)
        Whether each hidden neuron is active, layer after layer.
    gradients : array, shape (P, K, 2)
        Jacobian of the outputs on each cell.
    offsets : array, shape (P, K)
        f(x) = gradients[i] @ x + offsets[i] on polygon i.
    """

    vertices: Array
    start: NDArray[np.intp]
    masks: Masks
    gradients: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.masks)

    def polygon(self, i: int) -> Array:
        """Corners of polygon i, shape (m, 2)."""
        return self.vertices[self.start[i] : self.start[i + 1]]

    @property
    def points(self) -> Array:
        """A point inside of each polygon, the mean of its corners, shape (P, 2)."""
        return _means(self.vertices, np.diff(self.start))

    @property
    def areas(self) -> Array:
        """Area of each polygon, shape (P,)."""
        sizes = np.diff(self.start)
        x, y = (self.vertices - np.repeat(self.points, sizes, axis=0)).T
        after = _next(sizes)
        return np.add.reduceat(x * y[after] - x[after] * y, self.start[:-1]) / 2

    def slopes(self, norm: float, pairs: Sequence[tuple[int, int]] | None = None) -> Array:
        """||J^T (e_j - e_y)||_* of each cell and pair, shape (P, pairs); see :func:`lipschitz`."""
        rows = _differences(self.gradients.shape[1], pairs)
        return dual_norm(np.einsum("pk,ckd->cpd", rows, self.gradients), ground_norm(norm))


def _starts(sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)


def _next(sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Index of the corner after each corner, around its polygon."""
    start = _starts(sizes)
    after = np.arange(1, start[-1] + 1)
    after[start[1:] - 1] = start[:-1]
    return after


def _means(points: Array, sizes: NDArray[np.intp]) -> Array:
    return np.add.reduceat(points, _starts(sizes)[:-1], axis=0) / sizes[:, None]


def cells(net: Network, low: ArrayLike, high: ArrayLike) -> Cells:
    r"""All activation cells, with interior, of a network with two inputs inside a box.

    Layer by layer: on every polygon the neurons of the next layer are affine, and those that
    take both signs at its corners cut it, one after the other.  A corner within rounding of a
    line lies on it, so that coincident lines, lines through a common point and lines along the
    box make no cells of their own.

    Parameters
    ----------
    net : Network
        Two inputs, any depth.
    low, high : float or array, shape (2,)
        The box; low < high.

    Returns
    -------
    Cells

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If the network does not have two inputs, the box is empty or not finite, or there are
        more than 200,000 cells.
    """
    if _network(net).inputs != 2:
        raise ValueError(
            f"polygons need a network with two inputs, this one has {net.inputs}; for few inputs "
            f"activations lists the cells, and lipschitz has other methods"
        )
    box = _box(net, low, high)
    if box is None:
        raise ValueError("polygons live in a box: give low and high")
    (left, bottom), (right, top) = box
    points = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    sizes = np.array([4])
    reach = np.append(np.maximum(*np.abs(box)), 1.0)
    # affine maps of a layer's outputs, shape (polygons, 3, neurons): two slopes and the offset
    below = np.concatenate([np.eye(2), np.zeros((1, 2))])[None]
    masks: list[Masks] = [np.zeros((1, 0), dtype=bool)]
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        size = reach @ np.abs(below).max(axis=0)  # of the terms that W adds up
        tolerance = ROUNDING * (np.abs(W) @ size + np.abs(b))
        above = below @ W.T
        above[:, 2] += b
        points, sizes, owner = _cut(points, sizes, above, tolerance)
        above = above[owner]
        centers = _means(points, sizes)
        active = np.einsum("pi,pin->pn", centers, above[:, :2]) + above[:, 2] > 0
        below = above * active[:, None, :]
        masks = [mask[owner] for mask in masks] + [active]
    out = below @ net.weights[-1].T
    out[:, 2] += net.biases[-1]
    return Cells(
        points,
        _starts(sizes),
        np.concatenate(masks, axis=1),
        np.ascontiguousarray(out[:, :2].transpose(0, 2, 1)),
        out[:, 2].copy(),
    )


def _cut(
    points: Array, sizes: NDArray[np.intp], maps: Array, tolerance: Array
) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """Cut polygons by the zero lines of affine maps: corners, sizes, and whose part each is.

    Polygon p has the maps maps[p], shape (3, neurons).  In round r every part of polygon p is
    cut by the r-th of the lines that cross p; parts without such a line are done.
    """
    start = _starts(sizes)
    step = max(1, 2**21 // (maps.shape[2] * int(sizes.max())))  # at most about 16 MB at a time
    done: list[tuple[Array, NDArray[np.intp], NDArray[np.intp]]] = []
    total = 0
    for first in range(0, len(sizes), step):
        owner = np.arange(first, min(first + step, len(sizes)))
        part, count = points[start[first] : start[owner[-1] + 1]], sizes[owner]
        at = np.repeat(owner, count)
        values = part[:, :1] * maps[at, 0] + part[:, 1:] * maps[at, 1] + maps[at, 2]
        corners = start[owner] - start[first]
        crosses = np.maximum.reduceat(values, corners) > tolerance
        crosses &= np.minimum.reduceat(values, corners) < -tolerance
        lines, many = np.argsort(~crosses, axis=1, kind="stable"), crosses.sum(axis=1)
        for r in range(int(many.max()) + 1):
            ready = many[owner - first] <= r
            if ready.any():
                done.append((part[np.repeat(ready, count)], count[ready], owner[ready]))
                total += int(ready.sum())
                part, count, owner = part[np.repeat(~ready, count)], count[~ready], owner[~ready]
            if total + len(owner) > MOST_POLYGONS:
                raise ValueError(
                    f"there are more than {MOST_POLYGONS:,} cells; take a smaller box, or the "
                    f"bounds mask_bound and norm_product, which need no cells"
                )
            if not len(owner):
                break
            line = lines[owner - first, r]
            map_ = np.repeat(maps[owner, :, line], count, axis=0)
            values = part[:, 0] * map_[:, 0] + part[:, 1] * map_[:, 1] + map_[:, 2]
            values[np.abs(values) <= np.repeat(tolerance[line], count)] = 0.0
            part, count, owner = _halves(part, count, owner, values)
    parts, counts, owners = zip(*done, strict=True)
    return np.concatenate(parts), np.concatenate(counts), np.concatenate(owners)


def _halves(
    points: Array, sizes: NDArray[np.intp], owner: NDArray[np.intp], values: Array
) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """Both halves of every polygon on which the values change sign, and the others whole."""
    start = _starts(sizes)[:-1]
    cut = (np.maximum.reduceat(values, start) > 0) & (np.minimum.reduceat(values, start) < 0)
    if not cut.any():
        return points, sizes, owner
    inside = np.repeat(cut, sizes)
    whole = points[~inside], sizes[~cut], owner[~cut]
    points, sizes, owner, values = points[inside], sizes[cut], owner[cut], values[inside]
    after = _next(sizes)
    crosses = values * values[after] < 0
    share = np.where(crosses, values / np.where(crosses, values - values[after], 1.0), 0.0)
    new = points + share[:, None] * (points[after] - points)
    both = np.stack([points, new], axis=1).reshape(-1, 2)  # each corner, then the cut behind it
    start = _starts(sizes)[:-1]
    halves = [whole]
    for sign in (1.0, -1.0):
        kept = np.stack([sign * values >= 0, crosses], axis=1)
        halves.append((both[kept.ravel()], np.add.reduceat(kept.sum(axis=1), start), owner))
    parts, counts, owners = zip(*halves, strict=True)
    return np.concatenate(parts), np.concatenate(counts), np.concatenate(owners)


# ------------------------------------------------------------------------------- hyperplanes


def generic_cell_count(hyperplanes: int, dimension: int) -> int:
    """Cells of hyperplanes in general position: sum over k <= d of the binomials (n over k).

    No arrangement of n hyperplanes in R^d has more; a central one (no biases) has fewer.
    """
    n, d = integer(hyperplanes, "hyperplanes", 0), integer(dimension, "dimension", 0)
    return sum(math.comb(n, k) for k in range(d + 1))


def _pack(masks: Masks) -> NDArray[np.uint64]:
    """Rows of bits as whole numbers, 64 bits in each."""
    packed = np.packbits(masks, axis=1)
    words = np.zeros((len(packed), max(1, -(-packed.shape[1] // 8)) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64)


def _unpack(words: NDArray[np.uint64], bits: int) -> Masks:
    return np.unpackbits(words.view(np.uint8), axis=1, count=bits).astype(bool)


def _different(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Different rows, in a fixed order."""
    if words.shape[1] == 1:
        words = np.sort(words, axis=0)  # far faster than lexsort
    else:
        words = words[np.lexsort(words.T)]
    new = (words[1:] != words[:-1]).any(axis=1)
    return words[np.concatenate([np.ones(min(len(words), 1), dtype=bool), new])]


def _unique(masks: Masks) -> Masks:
    """Different rows, in a fixed order."""
    return _unpack(_different(_pack(masks)), masks.shape[1])


def _affine_sides(W: Array, b: Array, walls: int = 0) -> Masks:
    """Sides (w_j x + b_j > 0) of all cells with interior of an arrangement of hyperplanes.

    The last `walls` hyperplanes bound the domain: only cells on their positive side count.  W has
    the shape (m, d), the result (cells, m); the unit of length is that of the problem, and what
    is 1e10 units away does not exist.  Every cell of an arrangement whose normals span
    the space has a vertex; around a vertex on exactly d hyperplanes all 2^d combinations of
    their sides occur, around any other the cells of a central arrangement.
    """
    length = np.linalg.norm(W, axis=1)
    flat = length <= CLOSE * np.maximum(np.abs(b), length)
    sides = np.broadcast_to(b > 0, (1, len(b))).copy()  # right for flat ones: they have no side
    rest = np.flatnonzero(~flat)
    if not rest.size:
        return sides if sides[0, len(b) - walls :].all() else sides[:0]
    W, b, fence = W[rest] / length[rest, None], b[rest] / length[rest], rest >= len(b) - walls
    # bring the space to the span of the normals
    _, s, Vt = np.linalg.svd(W, full_matrices=False)
    W = W @ Vt[s > CLOSE * s[0]].T
    first, sign = _merge(W, b)
    keep = np.flatnonzero(first == np.arange(len(first)))
    # a wall asks its side of the hyperplane that it was merged into
    need = np.zeros(len(first))
    need[first[fence]] = sign[fence]
    found = _vertex_sides(W[keep], b[keep], need[keep])
    place = np.searchsorted(keep, first)
    result = np.repeat(sides, len(found), axis=0)
    result[:, rest] = found[:, place] == (sign > 0)
    return result


def _merge(W: Array, b: Array) -> tuple[NDArray[np.intp], Array]:
    """The first hyperplane that each one coincides with, and 1 or -1 for equal or opposite."""
    first, sign = np.arange(len(b)), np.ones(len(b))
    for i in range(len(b)):
        if first[i] < i:
            continue
        for direction in (1.0, -1.0):
            same = np.abs(W[i + 1 :] - direction * W[i]).max(axis=1, initial=0) <= CLOSE
            same &= np.abs(b[i + 1 :] - direction * b[i]) <= CLOSE * (1 + abs(b[i]))
            same &= first[i + 1 :] == np.arange(i + 1, len(b))
            first[i + 1 :][same], sign[i + 1 :][same] = i, direction
    return first, sign


def _vertex_sides(W: Array, b: Array, need: Array) -> Masks:
    """As :func:`_affine_sides`, for different hyperplanes with unit normals that span the space.

    need is 1 or -1 where only that side of a hyperplane counts, 0 elsewhere.
    """
    m, d = W.shape
    bit = _pack(np.eye(m, dtype=bool))
    wall, inner = _pack(np.stack([need != 0, need > 0]))
    step = max(1, 2**21 // (m + 2**d))
    combinations = itertools.combinations(range(m), d)
    found = [bit[:0]]
    knots: list[Masks] = []
    while True:
        chosen = np.fromiter(
            itertools.chain.from_iterable(itertools.islice(combinations, step)), dtype=np.intp
        ).reshape(-1, d)
        if not len(chosen):
            break
        chosen = chosen[np.abs(np.linalg.det(W[chosen])) > CLOSE]
        x = np.linalg.solve(W[chosen], -b[chosen][..., None])[..., 0]
        values = x @ W.T + b
        on = np.abs(values) <= CLOSE * (1 + np.abs(x).max(axis=1))[:, None]
        np.put_along_axis(on, chosen, True, axis=1)
        inside = ((values * need >= 0) | on).all(axis=1)
        chosen, on, base = chosen[inside], on[inside], values[inside] > 0
        simple = on.sum(axis=1) == d
        sides, chosen = _pack((base & ~on)[simple])[:, None], chosen[simple]
        for k in range(d):
            sides = np.concatenate([sides, sides | bit[chosen[:, k], None]], axis=1)
        sides = sides.reshape(-1, bit.shape[1])
        found.append(_different(sides[((sides & wall) == inner).all(axis=1)]))
        # several choices lead to the same knot: tell them by what they lie on, and between
        knots.append(_unique(np.concatenate([on, base & ~on], axis=1)[~simple]))
        if len(found) > 16:
            found = [_different(np.concatenate(found))]
    for knot in _unique(np.concatenate(knots)) if knots else ():
        on = knot[:m]
        local = _central_sides(W[on])
        masks = np.repeat(knot[None, m:], len(local), axis=0)
        masks[:, on] = local
        sides = _pack(masks)
        found.append(sides[((sides & wall) == inner).all(axis=1)])
    return _unpack(_different(np.concatenate(found)), m)


def _central_sides(W: Array) -> Masks:
    """Sides of the cells of hyperplanes through the origin, rows of W not zero.

    A cell lies on one side of the first hyperplane w_1 u = 0.  Those on the positive side meet
    the slice w_1 u = 1, an affine arrangement in one dimension less; the others are opposite.
    """
    W = W / np.linalg.norm(W, axis=1, keepdims=True)
    normal = W[0]
    basis = np.linalg.svd(normal[None])[2][1:]  # of the directions inside the slice
    sides = _affine_sides(W @ basis.T, W @ normal)
    return np.concatenate([sides, ~sides])


# ------------------------------------------------------------------------------- linear programs


class _Leaf(NamedTuple):
    """A cell {x : A x <= b} and a ball inside of it."""

    A: Array
    b: Array
    center: Array
    radius: float
    mask: tuple[bool, ...]


def _ball(A: Array, b: Array) -> tuple[Array, float]:
    """Center and radius (at most 1) of a largest ball in {x : A x <= b}; radius < 0 if empty."""
    d = A.shape[1]
    cost = np.append(np.zeros(d), -1.0)
    rows = np.column_stack([A, np.linalg.norm(A, axis=1)])
    answer = linprog(cost, rows, b, bounds=[(None, None)] * d + [(None, 1)], method="highs")
    if answer.x is None:
        raise RuntimeError(f"a linear program of a cell was not solved: {answer.message}")
    return answer.x[:-1], float(answer.x[-1])


def _scaled(net: Network, box: tuple[Array, Array] | None) -> tuple[Array, Array]:
    """First layer in a unit of length that suits it: tolerances are absolute from there on.

    A box becomes [-1, 1]^d.  On R^d the unit is the median distance of the neurons' hyperplanes
    from the origin; the largest one would say nothing, as a dead neuron is anywhere.
    """
    W, b = net.weights[0], net.biases[0]
    if box is not None:
        return W * (box[1] - box[0]) / 2, W @ (box[0] + box[1]) / 2 + b
    there = W.any(axis=1) & (b != 0)
    unit = np.median(np.abs(b[there]) / np.linalg.norm(W[there], axis=1)) if there.any() else 1.0
    return W * unit, b


def _leaves(net: Network, box: tuple[Array, Array] | None) -> Iterator[_Leaf]:
    """Cells of any depth, one neuron after the other; a linear program where the ball of a cell
    lies on one side of the neuron.  Lengths are as in :func:`_scaled`."""
    d = net.inputs
    leaf = _Leaf(np.zeros((0, d)), np.zeros(0), np.zeros(d), 1.0, ())
    if box is not None:
        leaf = leaf._replace(A=np.vstack([np.eye(d), -np.eye(d)]), b=np.ones(2 * d))
    G, c = _scaled(net, box)
    # slopes, offsets, and the size of the terms that these are sums of
    layer = G, c, np.linalg.norm(G, axis=1) + np.abs(c)
    stack: list[tuple[_Leaf, int, int, tuple[Array, Array, Array]]] = [(leaf, 0, 0, layer)]
    while stack:
        leaf, level, j, (G, c, size) = stack.pop()
        if level == len(net.weights) - 1:
            yield leaf
            continue
        if j == len(c):
            on = np.array(leaf.mask[-j:])
            W, b = net.weights[level + 1] * on, net.biases[level + 1]
            size = np.abs(W) @ (np.linalg.norm(G, axis=1) + np.abs(c)) + np.abs(b)
            stack.append((leaf, level + 1, 0, (W @ G, W @ c + b, size)))
            continue
        for side in _sides(leaf, G[j], c[j], size[j]):
            stack.append((side, level, j + 1, (G, c, size)))


def _sides(leaf: _Leaf, g: Array, c: float, size: float) -> list[_Leaf]:
    """The one or two parts, with interior, of a cell on the sides of g x + c = 0."""
    length = np.linalg.norm(g)
    if length <= ROUNDING * size:  # no slope but rounding
        return [leaf._replace(mask=(*leaf.mask, bool(c > 0)))]
    g, c = g / length, c / length
    height = g @ leaf.center + c
    parts = []
    for sign in (1.0, -1.0):
        A, b = np.vstack([leaf.A, -sign * g]), np.append(leaf.b, sign * c)
        reach = min(sign * height, leaf.radius)  # how far the ball lies on this side
        # a ball between the plane and the far end of the old one
        center = leaf.center + sign * g * (leaf.radius - reach) / 2
        radius = (leaf.radius + reach) / 2
        if radius <= 1e-3 * leaf.radius or radius < 1e3 * THIN:
            center, radius = _ball(A, b)
        if radius > THIN:
            parts.append(_Leaf(A, b, center, radius, (*leaf.mask, sign > 0)))
    return parts


# ------------------------------------------------------------------------------- cells of any kind


def _by_vertices(net: Network, box: tuple[Array, Array] | None) -> Masks:
    """Patterns of one hidden layer."""
    if box is None:
        return _affine_sides(*_scaled(net, None))
    layer, unit = _layer(net, box), np.eye(net.inputs)
    n = len(layer.free)
    W, b = np.vstack([layer.W, unit, -unit]), np.append(layer.b, np.ones(2 * len(unit)))
    return layer.filled(_unique(_affine_sides(W, b, 2 * len(unit))[:, :n]))


def _vertex_work(net: Network, box: tuple[Array, Array] | None) -> int:
    """Entries of the masks that the method of vertices looks at; -1 for two hidden layers."""
    if len(net.hidden) > 1:
        return -1
    m = sum(net.hidden)
    if box is not None and m:
        m = len(_layer(net, box).free) + 2 * net.inputs
    d = min(net.inputs, m)
    return math.comb(m, d) * 2**d * m


def _method(net: Network, box: tuple[Array, Array] | None, method: str) -> str:
    """Which of "vertices" and "lp" lists the cells, or why neither does."""
    d, n = net.inputs, sum(net.hidden)
    work, estimate = _vertex_work(net, box), generic_cell_count(n, min(d, n))
    if method == "auto":
        method = "lp" if work < 0 or (estimate <= 500 and work > MOST_ENTRIES) else "vertices"
    if method == "vertices" and work < 0:
        raise ValueError("method 'vertices' is for one hidden layer; deeper cells need 'lp'")
    if (method == "vertices" and work > MOST_ENTRIES) or (
        method == "lp" and estimate > MOST_LEAVES
    ):
        other = (
            "with two inputs give a box (low, high), where polygons are fast"
            if d == 2 and box is None
            else "lipschitz with method='milp' brackets the constant in a box (norms 1 and inf)"
            if len(net.hidden) == 1
            else "the bound norm_product needs no cells"
        )
        raise ValueError(
            f"{n} neurons in {d} dimensions have about {float(estimate):.1e} cells, too many to "
            f"list by {method}; {other}"
        )
    return method


def activations(
    net: Network,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    *,
    method: str = "auto",
) -> Masks:
    """Which neurons are active, for every activation cell with interior: on R^d or in a box.

    Parameters
    ----------
    net : Network
        One hidden layer and few inputs, or any depth and few cells.
    low, high : float or array, shape (d,), optional
        The box; without it the cells of all of R^d.
    method : "auto", "vertices" or "lp"
        Vertices for one hidden layer, linear programs for more.

    Returns
    -------
    array of booleans, shape (cells, neurons)
        The neurons of all hidden layers, one layer after the other; no row twice.

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If there are too many cells; the message estimates how many, and names another way.

    Notes
    -----
    With two inputs :func:`cells` gives the polygons, too, and takes deep networks.
    """
    box = _box(_network(net), low, high)
    if method not in ("auto", "vertices", "lp"):
        raise ValueError(f"method is 'auto', 'vertices' or 'lp', got {method!r}")
    if not net.hidden:
        return np.zeros((1, 0), dtype=bool)
    if _method(net, box, method) == "lp":
        return _unique(np.array([leaf.mask for leaf in _leaves(net, box)]))
    return _by_vertices(net, box)


def gradients(net: Network, masks: ArrayLike) -> Array:
    """Jacobians of the outputs for given activation patterns, whether or not these occur.

    Parameters
    ----------
    net : Network
    masks : array of booleans, shape (..., neurons)
        As from :func:`activations`.

    Returns
    -------
    array, shape (..., K, d), float64

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If `masks` are not boolean, or do not have one entry per hidden neuron.
    """
    masks = np.asarray(masks)
    n = sum(_network(net).hidden)
    if masks.dtype != bool or not masks.ndim or masks.shape[-1] != n:
        raise ValueError(
            f"masks must hold booleans, one per hidden neuron, shape (..., {n}); got "
            f"{masks.dtype} of shape {masks.shape}"
        )
    return _slopes(net, masks, np.eye(net.outputs))


def _slopes(net: Network, masks: Masks, rows: Array) -> Array:
    """Gradients of rows @ f, shape (..., rows, d)."""
    out = np.broadcast_to(
        rows @ net.weights[-1], (*masks.shape[:-1], len(rows), net.weights[-1].shape[1])
    )
    layers = np.split(masks, np.cumsum(net.hidden)[:-1], axis=-1) if net.hidden else []
    for W, mask in zip(net.weights[-2::-1], layers[::-1], strict=True):
        out = (out * mask[..., None, :]) @ W
    return out


# ------------------------------------------------------------------------------- Lipschitz


class Bracket(NamedTuple):
    """lower <= constant <= upper, and the method; equal where the cells were enumerated."""

    lower: float
    upper: float
    method: str


def lipschitz(
    net: Network,
    norm: float,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    method: str = "auto",
    time_limit: float | None = None,
) -> Bracket:
    r"""Largest slope of the logit differences: max over cells and pairs of ||J^T (e_j - e_y)||_*.

    This is the Lipschitz constant of x -> f_j(x) - f_y(x), the largest over the pairs, on the
    box or on R^d, with distances in `norm`.

    Parameters
    ----------
    net : Network
    norm : 1, 2 or numpy.inf
        GROUND norm, that of the inputs; gradients are measured in its dual.
    pairs : sequence of (j, y), optional
        See :func:`label_pairs`; by default all pairs, or the output itself if there is only one.
    low, high : float or array, shape (d,), optional
        The box; without it R^d.
    method : "auto", "polygons", "vertices", "lp" or "milp"
        "polygons": two inputs, any depth, box.  "vertices": one hidden layer, few inputs.
        "lp": any depth, few cells.  These three enumerate and are exact.  "milp": one hidden
        layer, box, norm 1 or inf, by a mixed-integer program; brackets.
    time_limit : float, optional
        Seconds for "milp", all programs together; by default as long as it takes.

    Returns
    -------
    Bracket
        For "milp" `upper` is the solver's dual bound, over closed cells, and `lower` the slope on
        a cell that a linear program has found to have interior points.  They may differ even
        when the solver is done: relu(x) - relu(-x) - relu(x) + relu(-x) = 0 has the closed
        pattern (x, -x: active, the other two not) at x = 0, with slope 2.

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If an argument is out of its range, the method does not apply, or there are too many
        cells; the message says which method would do.

    Notes
    -----
    Source: Proposition ``prop-lipschitz-cells`` (chapter 6).
    """
    rows, box = _differences(_network(net).outputs, pairs), _box(net, low, high)
    ground_norm(norm)
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}; got {method!r}")
    limit = math.inf if time_limit is None else number(time_limit, "time_limit", 0.0, strict=True)
    one = len(net.hidden) == 1
    if method == "auto" and net.inputs == 2 and box is not None:
        method = "polygons"
    if method == "milp" or (
        method == "auto"
        and one
        and box is not None
        and norm != 2
        and _vertex_work(net, box) > MOST_ENTRIES
    ):
        if not one or box is None or norm == 2:
            raise ValueError(
                "method 'milp' is for one hidden layer, in a box (low, high), with ground norm 1 "
                "or numpy.inf"
            )
        return _milp(net, norm, rows, box, limit)
    if method == "polygons":
        if box is None:
            raise ValueError("method 'polygons' needs a box: give low and high")
        found = cells(net, *box)
        slopes = np.einsum("ck,pkd->pcd", rows, found.gradients)
        value = float(dual_norm(slopes, norm).max())
        return Bracket(value, value, method)
    if net.hidden:
        method = _method(net, box, method)
    masks = activations(net, low, high, method=method)
    value = _steepest(net, masks, rows, norm)
    return Bracket(value, value, method if net.hidden else "linear")


def _steepest(net: Network, masks: Masks, rows: Array, norm: float) -> float:
    step = max(1, 2**21 // (len(rows) * max(net.hidden, default=1)))
    parts = range(0, len(masks), step)
    return max(float(dual_norm(_slopes(net, masks[i : i + step], rows), norm).max()) for i in parts)


def _milp(
    net: Network, norm: float, rows: Array, box: tuple[Array, Array], limit: float
) -> Bracket:
    """Bracket by mixed-integer programs: closed cells from above, cells with interior from below.

    On a closed cell a neuron may count as active or not where w x + b = 0, which lets in patterns
    without interior.  The upper bound may keep them; the lower bound verifies every pattern, and
    where the two differ a second program keeps w x + b away from 0.
    """
    end = time.monotonic() + limit
    layer = _layer(net, box)
    lower = _steepest(net, layer.sample(np.random.default_rng(0), 1024), rows, norm)
    programs = []
    for row in rows:
        V = (row @ net.weights[-1])[:, None] * net.weights[0]  # gradient = sum of active V_j
        if norm == np.inf:
            programs.append(V)  # sum over k of |sum_j z_j V_jk|
        else:  # the largest entry, one program per entry and sign
            programs += [sign * V[:, [k]] for k in range(net.inputs) for sign in (1.0, -1.0)]
    programs.sort(key=layer.crude, reverse=True)
    upper = lower
    for i, V in enumerate(programs):
        for margin in (0.0, 1e-5):
            share = (end - time.monotonic()) / (len(programs) - i)
            bound, mask = layer.best(V, lower, margin, share)
            if margin == 0:
                upper = max(upper, bound)
            if mask is not None and layer.has_interior(mask):
                lower = max(lower, _steepest(net, mask[None], rows, norm))
            if bound <= lower * (1 + 1e-5):
                break
    return Bracket(lower, max(lower, upper), "milp")


class _Layer(NamedTuple):
    """Hidden layer on a box [-1, 1]^d, every neuron in units of half its range there.

    `free` neurons take both signs, w x + b with w of absolute sum 1 and |b| < 1; the others
    have the side `fixed`.
    """

    W: Array
    b: Array
    free: NDArray[np.intp]
    fixed: Masks

    def sample(self, rng: np.random.Generator, points: int) -> Masks:
        """Patterns at random points, which are inside of their cells; at least one."""
        z = rng.uniform(-1, 1, (points, self.W.shape[1])) @ self.W.T + self.b
        z = z[(np.abs(z) > CLOSE).all(axis=1)]
        return self.filled(z > 0)

    def filled(self, masks: Masks) -> Masks:
        """Patterns of all neurons from those of the free ones."""
        whole = np.repeat(self.fixed[None], len(masks), axis=0)
        whole[:, self.free] = masks
        return whole

    def crude(self, V: Array) -> float:
        """Upper bound with every free neuron at its best, for each column and sign by itself."""
        base, rest = self.fixed @ V, V[self.free]
        most = base + np.maximum(rest, 0).sum(axis=0)
        least = base + np.minimum(rest, 0).sum(axis=0)
        return float(np.maximum(most, -least).sum() if V.shape[1] > 1 else most[0])

    def best(
        self, V: Array, known: float, margin: float, seconds: float
    ) -> tuple[float, Masks | None]:
        """Upper bound of the maximum over closed patterns z, and the best pattern found.

        The maximum is that of sum_k |sum_j z_j V_jk|, or of the sum itself if V has one column.
        Nobody asks for less than `known`: if nothing is better, that is the bound.
        """
        crude = self.crude(V)
        if crude <= known or seconds <= 0 or not self.free.size:
            return crude, self.fixed if not self.free.size else None
        n, d = self.W.shape
        base, V, scale = self.fixed @ V, V[self.free], float(np.abs(V).sum())
        # z = 1: w x + b in [margin, 1 + b]; z = 0: in [b - 1, -margin]
        off = [self.W, -np.diag(1 + self.b + margin)]
        on = [self.W, np.diag(self.b - 1 - margin)]
        sides = [-self.b - margin, -np.ones(n)]
        ends = [np.full(d, -1.0), np.zeros(n)], [np.ones(d), np.ones(n)]
        k = V.shape[1] if V.shape[1] > 1 else 0
        extra = np.zeros((n, 2 * k))
        constraints = [
            LinearConstraint(np.hstack([*off, extra]), -np.inf, sides[0]),
            LinearConstraint(np.hstack([*on, extra]), sides[1], np.inf),
        ]
        if k:
            # p = |g|, g = base + z V: p <= g + 2 max(-g) (1 - s), p <= -g + 2 max(g) s, s binary
            up = np.maximum(base + np.maximum(V, 0).sum(axis=0), 0)
            down = np.maximum(-base - np.minimum(V, 0).sum(axis=0), 0)
            none, one = np.zeros((k, d)), np.eye(k)
            positive = np.hstack([none, -V.T, one, 2 * np.diag(down)])
            negative = np.hstack([none, V.T, one, -2 * np.diag(up)])
            constraints += [
                LinearConstraint(positive, -np.inf, base + 2 * down),
                LinearConstraint(negative, -np.inf, -base),
            ]
            ends[0].append(np.zeros(2 * k))
            ends[1].append(np.append(np.maximum(up, down), np.ones(k)))
            gain, start = np.concatenate([np.zeros(d + n), np.ones(k), np.zeros(k)]), 0.0
        else:
            gain, start = np.concatenate([np.zeros(d), V[:, 0]]), float(base[0])
        constraints.append(LinearConstraint(gain[None], known - start, np.inf))
        answer = milp(
            -gain,
            constraints=constraints,
            integrality=np.repeat([0, 1, 0, 1], [d, n, k, k]),
            bounds=Bounds(np.concatenate(ends[0]), np.concatenate(ends[1])),
            options={"mip_rel_gap": 0.0, **({"time_limit": seconds} if seconds < 1e9 else {})},
        )
        slack = 1e-6 * scale  # what the solver's tolerance, 1e-6 in each variable, may hide
        if answer.status == 2:  # nothing is better
            return min(crude, known + slack), None
        bound, mask = answer.mip_dual_bound, None
        if bound is not None and np.isfinite(bound):
            crude = min(crude, max(start - float(bound), known) + slack)
        if answer.x is not None:
            mask = self.filled(answer.x[None, d : d + n] > 0.5)[0]
        return crude, mask

    def has_interior(self, mask: Masks) -> bool:
        """Whether the cell of a pattern holds a ball, small against the box."""
        sign = np.where(mask[self.free], -1.0, 1.0)
        unit = np.eye(self.W.shape[1])
        A = np.vstack([sign[:, None] * self.W, unit, -unit])
        return _ball(A, np.concatenate([-sign * self.b, np.ones(2 * len(unit))]))[1] > 1e-6


def _layer(net: Network, box: tuple[Array, Array]) -> _Layer:
    W, b = _scaled(net, box)
    spread = np.abs(W).sum(axis=1)
    free = np.flatnonzero(np.abs(b) < spread * (1 - CLOSE))
    fixed = b > 0
    fixed[free] = False
    return _Layer(W[free] / spread[free, None], b[free] / spread[free], free, fixed)


def _one_layer(net: Network, name: str) -> None:
    if len(_network(net).hidden) != 1:
        raise ValueError(
            f"{name} is for one hidden layer, this network has {len(net.hidden)}; norm_product "
            f"takes any depth"
        )


def mask_bound(
    net: Network, norm: float, *, pairs: Sequence[tuple[int, int]] | None = None
) -> float:
    r"""Largest slope over ALL patterns of one hidden layer, whether or not they occur.

    max over ||u|| <= 1 and pairs of sum_i (a_i w_i . u)_+, a the difference of two rows of the
    last layer: an upper bound of :func:`lipschitz` that does not see the biases of the network.

    Parameters
    ----------
    net : Network
        One hidden layer.
    norm : 1, 2 or numpy.inf
        GROUND norm.  For 1 any size; for inf up to 20 inputs, for 2 up to 5; or up to 16 neurons.
    pairs : sequence of (j, y), optional
        As in :func:`lipschitz`.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If there is not exactly one hidden layer, or the maximum is out of reach.

    Notes
    -----
    Source: Proposition ``prop-lipschitz-chain`` (chapter 6).
    """
    _one_layer(net, "mask_bound")
    rows = _differences(_network(net).outputs, pairs)
    ground_norm(norm)
    W = net.weights[0]
    n, d = W.shape
    if norm == np.inf and d > 20 and n > 16:
        raise ValueError(
            f"for ground norm inf the maximum runs over 2^d signs: at most 20 inputs (or 16 "
            f"neurons) are accepted, got {d} inputs and {n} neurons; norm_product takes any size"
        )
    if norm == 2 and n > 16 and (d > 5 or _central_work(n, d) > MOST_ENTRIES):
        raise ValueError(
            f"for ground norm 2 with {d} inputs and {n} neurons there are too many patterns to "
            f"compare; norm_product takes any size"
        )
    best = 0.0
    for row in rows:
        V = (row @ net.weights[-1])[:, None] * W
        if norm == 1:
            value = np.maximum(np.maximum(V, 0).sum(axis=0), np.maximum(-V, 0).sum(axis=0)).max()
        elif norm == np.inf and d <= 20:
            value = max(
                np.maximum(part @ V.T, 0).sum(axis=1).max()
                for part in _signs(d, max(1, 2**21 // n))
            )
        else:
            V = V[V.any(axis=1)]
            # the best pattern is {i : v_i u > 0} of some u, a cell of the hyperplanes v_i u = 0
            patterns = np.vstack(list(_signs(len(V), 2**16))) > 0 if n <= 16 else _central_sides(V)
            value = dual_norm(patterns @ V, norm).max(initial=0.0)
        best = max(best, float(value))
    return best


def _signs(d: int, step: int) -> Iterator[Array]:
    """All vectors of signs, `step` rows at a time."""
    for first in range(0, 2**d, step):
        number_of_row = np.arange(first, min(first + step, 2**d))[:, None]
        yield np.where(number_of_row >> np.arange(d) & 1, 1.0, -1.0)


def _central_work(n: int, d: int) -> int:
    return math.comb(n, min(n, d - 1)) * 2**d * n


def lipsdp(net: Network, *, pairs: Sequence[tuple[int, int]] | None = None) -> float:
    r"""Semidefinite bound (LipSDP-Neuron) of the slopes of one hidden layer, ground norm 2.

    With a the difference of two rows of the last layer and v = W^T a, every t > 0 such that
    s = sum_i a_i^2 / t_i < 2 is a certificate,

        ||W^T D a||_2^2 <= lambda_max( (1/2) W^T diag(t) W + v v^T / (4 - 2 s) )

    for all diagonal D with entries from 0 to 1: for the slopes of :func:`lipschitz`, and for all
    patterns of :func:`mask_bound`.  The bound is the root of the least such eigenvalue; it is at
    most sqrt(pi / 2) times `mask_bound`, and at most ||a|| ||W||, `norm_product`.

    Parameters
    ----------
    net : Network
        One hidden layer, any size.
    pairs : sequence of (j, y), optional
        As in :func:`lipschitz`.

    Returns
    -------
    float
        A certificate whether or not the minimum is found: the best t that was met, up to rounding
        upwards.  Within 1e-7 relative of the minimum, but for hard cases.

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If there is not exactly one hidden layer.

    Notes
    -----
    It sees no biases and no domain.  No semidefinite solver is used: in tau_i = a_i^2 / (2 t_i),
    tau_0 = 1 - s / 2 the matrix is G diag(1 / tau) G^T, G = (v, a_1 w_1, ..., a_N w_N) / 2, and
    the least eigenvalue is the dual of the semidefinite relaxation max <G^T G, S>, S_ii = 1, of
    the largest pattern.  S = V V^T with few columns rises under V <- G^T G V, rows normalized;
    the lengths of those rows are the multipliers tau.

    Source: Proposition ``prop-lipsdp`` (chapter 6).
    """
    _one_layer(net, "lipsdp")
    W, best = net.weights[0], 0.0
    for row in _differences(_network(net).outputs, pairs):
        a = row @ net.weights[1]
        product = float(np.linalg.norm(a) * np.linalg.norm(W, ord=2))  # t_i = ||a||^2
        G = np.column_stack([W.T @ a, W.T * a]) / 2
        best = max(best, min(product, math.sqrt(_relaxed(G)[1])))
    return best


def _relaxed(G: Array, sweeps: int = 20_000) -> tuple[float, float]:
    """Bracket of max <G^T G, S> over positive semidefinite S with ones on the diagonal."""
    G = G[:, G.any(axis=0)]
    scale = np.abs(G).max(initial=0.0)
    if not scale:
        return 0.0, 0.0
    G = G / scale
    d, n = G.shape
    square = (G * G).sum(axis=0)
    # at random, as an optimum of so many columns is global but for special starts
    V = np.random.default_rng(0).standard_normal((n, math.isqrt(2 * n) + 2))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    lower, upper = 0.0, np.inf
    for k in range(sweeps + 1):
        Y = G.T @ (G @ V)
        tau = np.maximum(np.linalg.norm(Y, axis=1), square)  # no multiplier is less than that
        if k % 10 == 0:
            lower = max(lower, float((V * Y).sum()))
            A = G / np.sqrt(tau)
            eigenvalue = np.linalg.eigvalsh(A @ A.T if d < n else A.T @ A)[-1]
            upper = min(upper, float(tau.sum() * eigenvalue))
            if upper <= lower * (1 + 2e-8):
                break
        length = np.linalg.norm(Y, axis=1, keepdims=True)
        V = np.divide(Y, length, out=V, where=length > 0)
    slack = 1 + 8 * (n + d) * np.finfo(np.float64).eps
    return lower / slack * scale**2, upper * slack * scale**2


def norm_product(
    net: Network, norm: float, *, pairs: Sequence[tuple[int, int]] | None = None
) -> float:
    r"""Product of operator norms, an upper bound of :func:`lipschitz` for any network.

    max over pairs of ||(e_j - e_y)^T W_L||_* ||W_{L-1}|| ... ||W_1||, every layer in the ground
    norm: spectral norms for 2, largest absolute row sums for inf, column sums for 1.

    Parameters
    ----------
    net : Network
    norm : 1, 2 or numpy.inf
        GROUND norm.
    pairs : sequence of (j, y), optional
        As in :func:`lipschitz`.

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If the norm or a pair is none of those accepted.

    Notes
    -----
    Source: Proposition ``prop-lipschitz-chain`` (chapter 6).
    """
    rows = _differences(_network(net).outputs, pairs)
    last = dual_norm(rows @ net.weights[-1], ground_norm(norm)).max()
    return float(last * math.prod(np.linalg.norm(W, ord=norm) for W in net.weights[:-1]))


# ------------------------------------------------------------------------------- slope at infinity


def slope_at_infinity(net: Network, norm: float, labels: Iterable[int] | None = None) -> float:
    r"""How fast the largest logit difference grows far away: L_inf.

    max over ||u|| <= 1, labels y and j != y of (f_j - f_y)^inf(u)_+, where f^inf is the network
    without biases.  A cell with gradient g contributes the largest g . u over the directions u
    in its recession cone, so it is NOT the largest gradient over unbounded cells: the ramp
    relu(x_1) - relu(x_1 - 1) has slope 1 on an unbounded strip, and slope 0 at infinity.

    Parameters
    ----------
    net : Network
        Two inputs and any depth; or one hidden layer and few inputs; or few cells.
    norm : 1, 2 or numpy.inf
        GROUND norm, that of u.
    labels : integers, optional
        True labels that are present; all classes by default.  Not for a network with one output,
        whose own slope max of f^inf(u)_+ is meant.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If a label or the norm is none of those accepted, or there are too many cells.

    Notes
    -----
    Source: Theorem ``thm-slope-at-infinity`` (chapter 6).
    """
    d, K = _network(net).inputs, net.outputs
    if K == 1 and labels is not None:
        raise ValueError("labels are for two outputs or more, this network has one")
    rows = np.ones((1, 1)) if K == 1 else _differences(K, label_pairs(K, labels))
    ground_norm(norm)
    net = without_biases(net)
    if d == 1:
        u = np.array([[1.0], [-1.0]])
    elif d == 2:
        u = _fan_of_two(net, norm, rows)
    elif len(net.hidden) <= 1 and norm != 2:
        u = _rays(net, norm)
    else:
        return _by_cones(net, norm, rows)
    return max(0.0, float((evaluate(net, u) @ rows.T).max()))


def _unit(u: Array, norm: float) -> Array:
    size = np.linalg.norm(u, ord=norm, axis=1, keepdims=True)
    return u[size[:, 0] > 0] / size[size[:, 0] > 0]


def _fan_of_two(net: Network, norm: float, rows: Array) -> Array:
    """Directions among which the maximum is attained, in the plane.

    On each arc of the fan f^inf is linear: the best direction is an end of the arc, a corner of
    the unit ball, or for norm 2 the gradient of the arc.
    """
    fan = cells(net, -1.0, 1.0)
    ends = fan.vertices[np.abs(fan.vertices).max(axis=1) > 0.5]  # not the center
    directions = [ends, np.eye(2), -np.eye(2)]
    if norm == 2:
        slopes = np.einsum("ck,pkd->cpd", rows, fan.gradients)
        directions.append(slopes.reshape(-1, 2))
    return _unit(np.vstack(directions), norm)


def _rays(net: Network, norm: float) -> Array:
    """Rays of the fan of one hidden layer, refined until the norm is linear on its cones.

    On such a cone, which is pointed, linear / linear is largest on a ray, and a ray lies on
    d - 1 independent hyperplanes.
    """
    d = net.inputs
    unit = np.eye(d)
    if norm == 1:
        kinks = unit
    else:
        pairs = np.array(list(itertools.combinations(range(d), 2)))
        kinks = np.vstack([unit[pairs[:, 0]] + s * unit[pairs[:, 1]] for s in (1, -1)])
    W = np.vstack([*net.weights[:-1], kinks])
    W = W[W.any(axis=1)]
    W = W / np.linalg.norm(W, axis=1, keepdims=True)
    count = math.comb(len(W), d - 1)
    if count > 2_000_000:
        raise ValueError(
            f"the fan of {len(W)} hyperplanes in {d} dimensions has up to {float(count):.1e} rays, "
            f"too many to list; mask_bound and norm_product are upper bounds"
        )
    chosen = np.fromiter(
        itertools.chain.from_iterable(itertools.combinations(range(len(W)), d - 1)), dtype=np.intp
    ).reshape(-1, d - 1)
    # the vector orthogonal to d - 1 others, by its minors (the cross product, for d = 3)
    u = np.stack(
        [(-1) ** k * np.linalg.det(np.delete(W, k, axis=1)[chosen]) for k in range(d)], axis=1
    )
    u = u[np.abs(u).max(axis=1) > CLOSE]
    return _unit(np.vstack([u, -u]), norm)


def _by_cones(net: Network, norm: float, rows: Array) -> float:
    """Largest g . u over ||u|| <= 1 in each cone {A u <= 0} of the fan, one cone at a time.

    For norm 2 this is the distance of g from the polar cone {A^T mu : mu >= 0}.
    """
    if len(net.hidden) <= 1:
        if net.hidden and _central_work(net.hidden[0], net.inputs) > MOST_ENTRIES:
            raise ValueError(
                f"{net.hidden[0]} neurons in {net.inputs} dimensions have too many cones to list; "
                f"mask_bound and norm_product are upper bounds"
            )
        masks = activations(net, method="vertices")
        W = net.weights[0][: masks.shape[1]]  # no rows for a linear model
        cones = [np.where(mask[:, None], -1.0, 1.0) * W for mask in masks]
    else:
        _method(net, None, "lp")
        leaves = list(_leaves(net, None))
        masks, cones = np.array([leaf.mask for leaf in leaves]), [leaf.A for leaf in leaves]
    slopes = _slopes(net, masks, rows)
    size = dual_norm(slopes, norm)
    best = 0.0
    for i, c in zip(*np.unravel_index(np.argsort(-size, axis=None), size.shape), strict=True):
        if size[i, c] <= best:
            break  # no cone that is left can do better
        best = max(best, _best_direction(slopes[i, c], cones[i], norm))
    return best


def _best_direction(g: Array, A: Array, norm: float) -> float:
    d = len(g)
    if not len(A):
        return float(dual_norm(g, norm))
    if norm == 2:
        return float(nnls(A.T, g)[1])
    if norm == 1:
        A, g = np.hstack([A, -A]), np.append(g, -g)
        answer = linprog(-g, np.vstack([A, np.ones(2 * d)]), np.append(np.zeros(len(A)), 1.0))
    else:
        answer = linprog(-g, A, np.zeros(len(A)), bounds=(-1, 1))
    if answer.status:
        raise RuntimeError(f"the linear program of a cone was not solved: {answer.message}")
    return -float(answer.fun)
