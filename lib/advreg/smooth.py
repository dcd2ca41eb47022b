r"""Smooth activations: exact ranges of their derivatives, and the Lipschitz constant in a box.

GELU, SiLU and softplus stay within a bounded distance of the ReLU, so that far away a network of
them grows like the ReLU network of the same weights without biases; tanh and sigmoid are bounded.
But the derivatives of GELU and SiLU exceed 1, and a Lipschitz bound for ReLU networks is none for
theirs.  With one hidden layer the gradient of a logit difference is

    g(x) = sum over neurons i of  a_i w_i s(w_i x + b_i),           s the derivative,

and if s is known to lie in an interval for each neuron, on a box, so is every entry of g: an
upper bound of the dual norm.  Cutting the box and discarding parts that cannot hold the maximum
(branch and bound) narrows the bracket to any accuracy.

Weights and biases come in a :class:`advreg.relu.Network`; the activation is named beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from advreg import relu
from advreg._checks import finite, ground_norm, integer, number, real
from advreg.linear import dual_norm

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ACTIVATIONS",
    "Branching",
    "activation",
    "derivative",
    "derivative_range",
    "evaluate",
    "from_torch",
    "gradients",
    "lipschitz",
    "slope_at_infinity",
]

Array = NDArray[np.float64]
BATCH = 1024  # boxes that are cut at once
SLACK = 1e-12  # relative rounding of the bounds


class _Unit(NamedTuple):
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    critical: tuple[float, ...]  # where the slope is extreme
    limits: tuple[float, float]  # the slope at -inf and inf


def _density(t: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def _bell(t: Array) -> Array:
    return expit(t) * expit(-t)


_GELU = math.sqrt(2.0)  # zero of the second derivative (2 - t^2) density(t)
_SILU = float(brentq(lambda t: t * math.tanh(t / 2) - 2, 1.0, 4.0, xtol=1e-15))  # likewise

_UNITS = {
    "gelu": _Unit(
        lambda t: t * ndtr(t),
        lambda t: ndtr(t) + t * _density(t),
        (-_GELU, _GELU),
        (0.0, 1.0),
    ),
    "silu": _Unit(
        lambda t: t * expit(t),
        lambda t: expit(t) + t * _bell(t),
        (-_SILU, _SILU),
        (0.0, 1.0),
    ),
    "softplus": _Unit(lambda t: np.logaddexp(0.0, t), expit, (), (0.0, 1.0)),
    "tanh": _Unit(np.tanh, lambda t: 1 - np.tanh(t) ** 2, (0.0,), (0.0, 0.0)),
    "sigmoid": _Unit(expit, _bell, (0.0,), (0.0, 0.0)),
}

#: Names of the activations.
ACTIVATIONS = tuple(_UNITS)


def _unit(name: str) -> _Unit:
    if name not in _UNITS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return _UNITS[name]


def activation(name: str, t: ArrayLike) -> Array:
    """Values of "gelu" (t Phi(t), not its tanh approximation), "silu", "softplus", ... at t.

    Raises
    ------
    TypeError
        If `t` is complex or not numeric.
    ValueError
        If the name is none of :data:`ACTIVATIONS`, or an entry is not finite.
    """
    return _unit(name).value(finite(t, "t"))


def derivative(name: str, t: ArrayLike) -> Array:
    """Derivatives at t; arguments and errors as :func:`activation`."""
    return _unit(name).slope(finite(t, "t"))


def derivative_range(name: str, low: ArrayLike, high: ArrayLike) -> tuple[Array, Array]:
    r"""Smallest and largest derivative on the intervals [low, high], up to rounding.

    The second derivative changes its sign at finitely many points: +-sqrt(2) for GELU, the
    solutions +-2.399 of t tanh(t/2) = 2 for SiLU, 0 for tanh and sigmoid, nowhere for softplus.
    So the extremes are at the ends or at such a point.

    Parameters
    ----------
    name : str
        One of :data:`ACTIVATIONS`.
    low, high : float or arrays
        low <= high, infinite ends included: there the limits of the derivative count.

    Returns
    -------
    smallest, largest : arrays of the common shape

    Raises
    ------
    TypeError
        If an end is complex or not numeric.
    ValueError
        If the name is unknown, an interval is empty, or an end is NaN.
    """
    unit, low, high = _unit(name), real(low, "low"), real(high, "high")
    if not (low <= high).all():
        raise ValueError("low must be at most high")
    ends = [_at(unit, low), _at(unit, high)]
    least, most = np.minimum(*ends), np.maximum(*ends)
    for point in unit.critical:
        value, inside = unit.slope(np.float64(point)), (low <= point) & (point <= high)
        least = np.where(inside, np.minimum(least, value), least)
        most = np.where(inside, np.maximum(most, value), most)
    return least, most


def _at(unit: _Unit, t: Array) -> Array:
    inner = unit.slope(np.where(np.isfinite(t), t, 0.0))
    return np.where(np.isfinite(t), inner, np.where(t > 0, unit.limits[1], unit.limits[0]))


# ------------------------------------------------------------------------------- networks


def from_torch(model: nn.Sequential) -> tuple[relu.Network, str]:
    """Weights, in float64, and activation of a ``torch.nn.Sequential``.

    Parameters
    ----------
    model : torch.nn.Sequential
        Flatten layers first, then Linear, activation, ..., Linear, with one kind of activation:
        GELU (exact), SiLU, Softplus (beta = 1), Tanh or Sigmoid.

    Raises
    ------
    TypeError
        If `model` is no Sequential, or holds another layer.
    ValueError
        If layers do not alternate, activations differ, or there is none.
    """
    from torch import nn

    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model must be a torch.nn.Sequential, got {type(model).__name__}")
    kinds = {
        nn.GELU: "gelu",
        nn.SiLU: "silu",
        nn.Softplus: "softplus",
        nn.Tanh: "tanh",
        nn.Sigmoid: "sigmoid",
    }
    names, layers = set(), []
    for layer in model:
        if type(layer) not in kinds:
            layers.append(layer)  # relu.from_torch looks at the others
            continue
        if getattr(layer, "approximate", "none") != "none" or getattr(layer, "beta", 1) != 1:
            raise TypeError(f"only the exact GELU and Softplus with beta = 1 are known: {layer}")
        names.add(kinds[type(layer)])
        layers.append(nn.ReLU())
    if len(names) != 1 or any(isinstance(layer, nn.ReLU) for layer in model):
        raise ValueError("the model must have activations, all of one kind, and no ReLU")
    return relu.from_torch(nn.Sequential(*layers)), names.pop()


def evaluate(net: relu.Network, x: ArrayLike, activation: str) -> Array:
    """Outputs f(x) of the network with that activation in place of the ReLU, any depth.

    Parameters
    ----------
    net : relu.Network
    x : array, shape (..., d)
    activation : str
        One of :data:`ACTIVATIONS`.

    Returns
    -------
    array, shape (..., K)

    Raises
    ------
    TypeError, ValueError
        As :func:`advreg.relu.evaluate`, or if the activation is unknown.
    """
    unit, h = _unit(activation), finite(x, "x")
    if not h.ndim or h.shape[-1] != relu._network(net).inputs:
        raise ValueError(f"x must have {net.inputs} entries per point, got shape {h.shape}")
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        h = unit.value(h @ W.T + b)
    return h @ net.weights[-1].T + net.biases[-1]


def gradients(net: relu.Network, x: ArrayLike, activation: str) -> Array:
    """Jacobians of the outputs, shape (..., K, d); arguments and errors as :func:`evaluate`."""
    unit, h = _unit(activation), finite(x, "x")
    if not h.ndim or h.shape[-1] != relu._network(net).inputs:
        raise ValueError(f"x must have {net.inputs} entries per point, got shape {h.shape}")
    J = np.broadcast_to(np.eye(net.inputs), (*h.shape[:-1], net.inputs, net.inputs))
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        t = h @ W.T + b
        h, J = unit.value(t), unit.slope(t)[..., None] * (W @ J)
    return net.weights[-1] @ J


def slope_at_infinity(
    net: relu.Network, activation: str, norm: float, labels: Iterable[int] | None = None
) -> float:
    r"""How fast the largest logit difference grows far away.

    For GELU, SiLU and softplus that of the ReLU network of the same weights, whose biases do not
    matter (:func:`advreg.relu.slope_at_infinity`); for tanh and sigmoid 0, the outputs being
    bounded.

    Parameters
    ----------
    net : relu.Network
        One hidden layer at least.
    activation : str
        One of :data:`ACTIVATIONS`.
    norm : 1, 2 or numpy.inf
        GROUND norm.
    labels : integers, optional
        Labels that are present; all classes by default.

    Raises
    ------
    TypeError, ValueError
        As :func:`advreg.relu.slope_at_infinity`; or if there is no hidden layer or no such
        activation.

    Notes
    -----
    Source: Proposition ``prop-smooth-infinity`` (chapter 6).
    """
    bounded = _unit(activation).limits[1] == 0
    if not relu._network(net).hidden:
        raise ValueError("a network without hidden layers has no activation")
    if not bounded:
        return relu.slope_at_infinity(net, norm, labels)
    ground_norm(norm)
    if labels is not None:
        relu.label_pairs(net.outputs, labels)
    return 0.0


# ------------------------------------------------------------------------------- branch and bound


class Branching(NamedTuple):
    """lower <= Lipschitz constant <= upper; where `lower` is attained, and the boxes visited last.

    `point` (d,) has a gradient of dual norm `lower`.  The box, cut into k parts: corners `low`
    and `high`, shapes (k, d), and an upper bound of the slope on each, `bounds` (k,), not above
    `upper`.  `boxes` is how many were looked at in all.
    """

    lower: float
    upper: float
    point: Array
    low: Array
    high: Array
    bounds: Array
    boxes: int


def lipschitz(
    net: relu.Network,
    activation: str,
    norm: float,
    low: ArrayLike,
    high: ArrayLike,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    tol: float = 1e-3,
    most_boxes: int = 100_000,
) -> Branching:
    r"""Largest slope of the logit differences in a box, one hidden layer, by branch and bound.

    The largest ||a diag(s(W x + b)) W||_* over the box, a = e_j^T W_2 - e_y^T W_2.  On a part
    |x - c| <= r of the box the argument of neuron i lies within |w_i| r of w_i c + b_i, so its
    derivative in the interval of :func:`derivative_range`, and entry k of the gradient within
    sum_i |a_i w_ik| (half width) of its middle.  The dual norm of the largest absolute entries is
    the bound.  The parts with the largest bounds are halved, along the input that contributes
    most to the width, until no bound exceeds the best slope met by more than `tol`, relatively.

    Parameters
    ----------
    net : relu.Network
        Weights and biases of a network with one hidden layer.
    activation : str
        One of :data:`ACTIVATIONS`.
    norm : 1, 2 or numpy.inf
        GROUND norm, that of the inputs; gradients are measured in its dual.
    low, high : float or arrays, shape (d,)
        The box.
    pairs : sequence of (j, y), optional
        Logit differences that count, as in :func:`advreg.relu.lipschitz`; all by default.
    tol : float
        Relative width of the bracket to reach, at least 0.
    most_boxes : int
        Give up after so many boxes, at least 1: the bracket that was reached is returned.

    Returns
    -------
    Branching

    Raises
    ------
    TypeError
        If `net` is no Network.
    ValueError
        If there is not one hidden layer, or an argument is out of its range.

    Notes
    -----
    `upper` is a bound whenever the search stops.  Rounding is covered by a relative 1e-12 on top.
    The number of boxes grows exponentially with the number of inputs.

    Source: Proposition ``prop-smooth-lipschitz`` (chapter 6).
    """
    unit = _unit(activation)
    if len(relu._network(net).hidden) != 1:
        raise ValueError(f"lipschitz needs one hidden layer, this network has {len(net.hidden)}")
    rows, box = relu._differences(net.outputs, pairs), relu._box(net, low, high)
    ground_norm(norm)
    tol, most_boxes = number(tol, "tol", 0.0), integer(most_boxes, "most_boxes", 1)
    if box is None:
        raise ValueError("give both sides of the box, low and high")
    W, b, A = net.weights[0], net.biases[0], rows @ net.weights[1]

    def look(low: Array, high: Array) -> tuple[Array, Array, NDArray[np.intp]]:
        """Slope at the middle, upper bound, and the input to halve, for each of k boxes."""
        centre, reach = (low + high) / 2, (high - low) / 2
        t, spread = centre @ W.T + b, reach @ np.abs(W).T
        edge = SLACK * (np.abs(centre) @ np.abs(W).T + np.abs(b) + spread)
        least, most = derivative_range(activation, t - spread - edge, t + spread + edge)
        middle, half = (least + most) / 2, (most - least) / 2
        slope = dual_norm((unit.slope(t)[:, None] * A) @ W, norm).max(axis=1)
        entries = np.abs((middle[:, None] * A) @ W) + (half[:, None] * np.abs(A)) @ np.abs(W)
        bound = dual_norm(entries, norm).max(axis=1) * (1 + SLACK)
        weight = half * np.abs(A).max(axis=0) * np.abs(W).sum(axis=1)
        return slope, bound, np.argmax(reach * (weight @ np.abs(W) + 1e-9), axis=1)

    lows, highs = box[0][None].copy(), box[1][None].copy()
    slopes, bounds, axes = look(lows, highs)
    best, point, boxes = slopes[0], (lows[0] + highs[0]) / 2, 1
    while bounds.max() > best * (1 + tol) and boxes + 2 <= most_boxes:
        room = min(BATCH, (most_boxes - boxes) // 2)
        chosen = np.argsort(-bounds, kind="stable")[:room]
        chosen = chosen[bounds[chosen] > best * (1 + tol)]
        k, axis = np.arange(len(chosen)), axes[chosen]
        cut = (lows[chosen, axis] + highs[chosen, axis]) / 2
        new_low, new_high = np.repeat(lows[chosen], 2, axis=0), np.repeat(highs[chosen], 2, axis=0)
        new_high[2 * k, axis] = cut
        new_low[2 * k + 1, axis] = cut
        slopes, new_bounds, new_axes = look(new_low, new_high)
        new_bounds = np.minimum(new_bounds, np.repeat(bounds[chosen], 2))
        if slopes.max() > best:
            i = int(slopes.argmax())
            best, point = slopes[i], (new_low[i] + new_high[i]) / 2
        keep = np.ones(len(lows), dtype=bool)
        keep[chosen] = False
        lows, highs = np.vstack([lows[keep], new_low]), np.vstack([highs[keep], new_high])
        bounds = np.append(bounds[keep], new_bounds)
        axes = np.append(axes[keep], new_axes)
        boxes += len(new_low)
    upper = max(float(best), float(bounds.max()))
    return Branching(float(best), upper, point, lows, highs, bounds, boxes)
