"""Self-checks of the exercises of chapter 5.

``checks.tell(checks.flip_share(f))`` asks the function `f` for answers and prints one sentence per
property: ``ok`` or ``not yet`` with the reason.  The oracles try every corner of a box, solve
linear programs, take differences of losses, or run the training that a statement is about; none
uses a closed form that is asked for.  The checks are necessary, not sufficient.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor, nn

from advreg import data, networks
from coursework.checks import Check, NotYet, answers, close, numbers, right_step, tell

__all__ = ["SCHEDULES", "tell"]  # beside the checks themselves

SEED = 20260905


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """All corners of a box, shape (2**d, d)."""
    return np.array(list(itertools.product(*zip(low, high, strict=True))))


def _number(value: Any) -> float:
    return float(numbers(value, ()))


# ----------------------------------------------------------------------- which coordinates flip

flip_share = Check()


def _two_gradients(low: float, high: float, dead: int) -> list[tuple]:
    """Clean inputs in [low, high], gradients at x and at the point of FGSM."""
    rng, cases = _rng(), []
    for eps in (0.1, 0.3):
        x = np.clip(rng.uniform(low - 0.3, high + 0.3, 8), low, high)
        before, after = rng.standard_normal((2, 8))
        before[:dead] = 0.0
        cases.append((x, before, after, eps))
    return cases


def _share_by_corners(x: np.ndarray, before: np.ndarray, after: np.ndarray, eps: float) -> float:
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    corners = _corners(low, high)
    top = corners[(corners @ before).argmax()]
    point = np.where(before == 0, x, top)
    values = corners @ after
    return float((values.max() - point @ after) / (values.max() - values.min()))


@flip_share.property("far from the box the value is that of a search over all corners")
def _(ask: Callable) -> None:
    for case, got in answers(ask, _two_gradients(0.4, 0.6, 0)):
        close(got, _share_by_corners(*case), f"the normalized FOSC for eps = {case[3]}")


@flip_share.property("so it is where the box cuts the ball")
def _(ask: Callable) -> None:
    for case, got in answers(ask, _two_gradients(0.0, 1.0, 0)):
        close(got, _share_by_corners(*case), f"the normalized FOSC for eps = {case[3]}")


@flip_share.property("so it is where some entries of the first gradient are zero")
def _(ask: Callable) -> None:
    for case, got in answers(ask, _two_gradients(0.4, 0.6, 3)):
        close(got, _share_by_corners(*case), f"the normalized FOSC for eps = {case[3]}")


def _flip_terms(x, before, after, eps, boxed=True):
    low, high = (np.maximum(x - eps, 0), np.minimum(x + eps, 1)) if boxed else (x - eps, x + eps)
    point = np.where(before > 0, high, np.where(before < 0, low, x))
    terms = np.abs(after) * np.where(after > 0, high - point, point - low)
    return terms, np.abs(after) * (high - low)


@flip_share.mistake(
    "You count the coordinates whose sign has flipped; they have to be weighted with the size of "
    "the gradient there"
)
def counts_the_flips(x, before, after, eps):
    return float(np.mean(before * after < 0))


@flip_share.mistake("You ignore the box: where it cuts, a coordinate has less room than 2 eps")
def ignores_the_box(x, before, after, eps):
    terms, widths = _flip_terms(x, before, after, eps, boxed=False)
    return terms.sum() / widths.sum()


@flip_share.mistake(
    "Where the first gradient is zero, FGSM does not move: such a coordinate is no flip, but it "
    "has room left in the direction of the second gradient"
)
def forgets_the_dead(x, before, after, eps):
    terms, widths = _flip_terms(x, before, after, eps)
    return terms[before != 0].sum() / widths.sum()


@flip_share.mistake("This is FOSC; divide by the width, the largest minus the smallest value")
def does_not_normalize(x, before, after, eps):
    return _flip_terms(x, before, after, eps)[0].sum()


# ------------------------------------------------------------------------------- which constant

smoothness = Check()


def _hessians() -> list[np.ndarray]:
    rng = _rng()
    mixed = rng.standard_normal((6, 6))
    bowl = rng.standard_normal((5, 3))
    return [mixed + mixed.T, -bowl @ bowl.T]


@smoothness.property("no two points violate it, and some two points attain it")
def _(ask: Callable) -> None:
    rng = _rng()
    for (H,), got in answers(ask, [(H,) for H in _hessians()]):
        beta = _number(got)
        d = len(H)
        apart = np.concatenate(
            [rng.uniform(-1, 1, (500, d)), 2 * _corners(-np.ones(d), np.ones(d))]
        )
        ratios = np.abs(apart @ H).sum(axis=1) / np.abs(apart).max(axis=1)
        if beta < ratios.max() * (1 - 1e-6):
            raise NotYet(f"Some two points need {ratios.max():.4g}; your constant is {beta:.4g}.")
        if beta > ratios.max() * (1 + 1e-6):
            raise NotYet(f"{ratios.max():.4g} is enough; your constant is {beta:.4g}.")


@smoothness.property("for f = -beta z^2 / 2 in one dimension it is beta")
def _(ask: Callable) -> None:
    close(ask(np.array([[-3.0]])), 3.0, "the constant")


@smoothness.mistake(
    "This is the constant of the Euclidean norm; an attack bounded in every coordinate sees more"
)
def takes_the_euclidean(H):
    return np.linalg.norm(H, 2)


@smoothness.mistake("This bound is safe but too large: no one sign vector suits all rows at once")
def adds_all_entries(H):
    return np.abs(H).sum()


@smoothness.mistake(
    "This is the constant with the largest entry of the gradient; the dual of the maximum norm is "
    "the sum of the absolute values"
)
def takes_the_row_sum(H):
    return np.abs(H).sum(axis=1).max()


@smoothness.mistake("d times the spectral norm is an upper bound only")
def multiplies_by_d(H):
    return len(H) * np.linalg.norm(H, 2)


# ----------------------------------------------------------------------------- a sparse attacker

sparse_fosc = Check()


def _sparse_cases(boxed: bool) -> list[tuple]:
    rng, cases = _rng(), []
    for eps, k in ((0.2, 1.0), (0.2, 2.5), (0.4, 3.0), (0.3, 7.0), (0.3, 0.5)):
        x = np.clip(rng.uniform(-0.3, 1.3, 7), 0, 1) if boxed else rng.uniform(0.45, 0.55, 7)
        g = rng.standard_normal(7)
        if boxed:
            g[rng.integers(7)] = 0.0
        e = rng.uniform(-eps, eps, 7)
        e *= min(1, 0.9 * k * eps / np.abs(e).sum())
        cases.append((g, x, np.clip(x + e, 0, 1), eps, k))
    if boxed:  # the pixels with the largest gradients have hardly any room
        x = np.array([0.97, 0.5, 0.02, 0.4, 0.6, 0.5, 0.5])
        g = np.array([1.0, 0.9, -0.8, 0.3, -0.2, 0.1, 0.05])
        cases.append((g, x, x, 0.4, 1.5))
    g, x, z, eps, k = cases[0]
    return [*cases, (g, x, x, eps, k), (0 * g, x, z, eps, k)]


def _sparse_by_program(g, x, z, eps, k) -> float:
    """The linear program: e = up - down, both at least 0, sums at most k eps."""
    d = len(g)
    bounds = [(0, min(eps, max(1 - t, 0))) for t in x] + [(0, min(eps, t)) for t in x]
    found = optimize.linprog(
        np.concatenate([-g, g]), A_ub=np.ones((1, 2 * d)), b_ub=[k * eps], bounds=bounds
    )
    return float(-found.fun - g @ (z - x))


@sparse_fosc.property("away from the box the value is that of a linear program")
def _(ask: Callable) -> None:
    for case, got in answers(ask, _sparse_cases(False)):
        close(got, _sparse_by_program(*case), f"FOSC for eps = {case[3]}, k = {case[4]}")


@sparse_fosc.property("with pixels at 0 and 1 and a zero in the gradient, too")
def _(ask: Callable) -> None:
    for case, got in answers(ask, _sparse_cases(True)):
        close(got, _sparse_by_program(*case), f"FOSC for eps = {case[3]}, k = {case[4]}")


def _pour(g, room, budget, worth=None):
    total = 0.0
    for i in np.argsort(-np.abs(g) if worth is None else -worth):
        amount = min(room[i], budget)
        total, budget = total + np.abs(g[i]) * amount, budget - amount
    return total


def _room(g, x, eps):
    return np.minimum(eps, np.where(g > 0, 1 - x, x))


@sparse_fosc.mistake(
    "You forget to subtract <z - x, g>: FOSC is what z still misses, not what x does"
)
def starts_from_x(g, x, z, eps, k):
    return _pour(g, _room(g, x, eps), k * eps)


@sparse_fosc.mistake("You ignore the box: a white pixel has no room upwards")
def ignores_white_pixels(g, x, z, eps, k):
    return _pour(g, np.full(len(g), eps), k * eps) - g @ (z - x)


@sparse_fosc.mistake("You let one pixel take the whole budget k eps; each may move by at most eps")
def spends_it_on_one(g, x, z, eps, k):
    return _pour(g, np.where(g > 0, 1 - x, x), k * eps) - g @ (z - x)


@sparse_fosc.mistake(
    "You rank the pixels by all that they can gain; a unit of the budget gains |g_i|: rank by this"
)
def ranks_by_the_whole_gain(g, x, z, eps, k):
    room = _room(g, x, eps)
    return _pour(g, room, k * eps, np.abs(g) * room) - g @ (z - x)


@sparse_fosc.mistake("You use the budget eps for all pixels together; it is k eps")
def forgets_k(g, x, z, eps, k):
    return _pour(g, _room(g, x, eps), eps) - g @ (z - x)


@sparse_fosc.mistake(
    "You pick the k best pixels and drop the rest of the budget: what the box keeps a pixel from "
    "using, the next one may have"
)
def drops_the_rest(g, x, z, eps, k):
    best = np.sort(np.abs(g) * _room(g, x, eps))[::-1]
    whole = int(k)
    return best[:whole].sum() + (k - whole) * best[whole : whole + 1].sum() - g @ (z - x)


# -------------------------------------------------------------------------- every zero of FOSC

zero_losses = Check()


def _separable() -> list[tuple]:
    return [
        (np.diag([1.0, 2.0]), np.array([0.3, -0.5])),
        (np.diag([-2.0, 1.0, 3.0]), np.array([0.7, 0.2, 4.0])),
        (np.diag([-1.0, -3.0]), np.array([2.0, 0.6])),
    ]


def _line_zeros(h: float, b: float) -> list[float]:
    """Where FOSC vanishes for h t^2 / 2 + b t on [-1, 1]: look at the sign of the slope."""
    t = np.linspace(-1, 1, 4000)  # no round number inside
    slope = h * t + b
    change = np.flatnonzero(slope[:-1] * slope[1:] < 0)
    inside = [t[i] - slope[i] * (t[i + 1] - t[i]) / (slope[i + 1] - slope[i]) for i in change]
    return [-1.0] * int(slope[0] < 0) + inside + [1.0] * int(slope[-1] > 0)


@zero_losses.property("for separate variables the zeros on the lines combine to those in the cube")
def _(ask: Callable) -> None:
    for (H, b), got in answers(ask, _separable()):
        points = np.array(list(itertools.product(*map(_line_zeros, np.diag(H), b))))
        want = np.sort((points**2 / 2) @ np.diag(H) + points @ b)
        close(numbers(got, want.shape), want, "the sorted losses")


def _coupled() -> list[tuple]:
    return [
        (np.array([[1.0, 0.8], [0.8, 2.0]]), np.array([0.1, -0.3])),
        (np.array([[1.0, -1.5], [-1.5, -2.0]]), np.array([0.4, 0.3])),
        (np.array([[-2.0, 1.2], [1.2, -1.0]]), np.array([1.5, 0.2])),
    ]


def _square_losses(H: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In the square: walk along the four edges, and look into the inside."""
    found = [z for z in np.linalg.lstsq(H, -b, rcond=None)[:1] if np.abs(z).max() < 1]
    t = np.linspace(-1, 1, 4000)
    for axis, side in itertools.product((0, 1), (-1.0, 1.0)):
        edge = np.empty((4000, 2))
        edge[:, axis], edge[:, 1 - axis] = side, t
        slopes = edge @ H + b
        along, out = slopes[:, 1 - axis], side * slopes[:, axis]
        for i in np.flatnonzero(along[:-1] * along[1:] < 0):
            part = along[i] / (along[i] - along[i + 1])
            if out[i] > 0:
                found.append(edge[i] + part * (edge[i + 1] - edge[i]))
        if axis == 0:  # each corner once
            ends = [(0, -along[0]), (3999, along[-1])]
            found += [edge[i] for i, push in ends if out[i] > 0 and push > 0]
    return np.sort([z @ H @ z / 2 + b @ z for z in found])


@zero_losses.property("for coupled variables a walk along the edges of the square finds the same")
def _(ask: Callable) -> None:
    for (H, b), got in answers(ask, _coupled()):
        want = _square_losses(H, b)
        close(numbers(got, want.shape), want, "the sorted losses")


def _faces(H, b, kinds, sign=1.0):
    """Losses at the stationary points of the faces with so many free coordinates as `kinds`."""
    losses = []
    for state in itertools.product((-1, 0, 1), repeat=len(b)):
        z, free = np.array(state, float), np.array(state) == 0
        if free.sum() not in kinds:
            continue
        z[free] = np.linalg.solve(H[np.ix_(free, free)], -(b + H @ z)[free]) if free.any() else 0
        pushes = sign * (z * (H @ z + b))[~free]
        if np.abs(z[free]).max(initial=0) <= 1 and (pushes >= 0).all():
            losses.append(z @ H @ z / 2 + b @ z)
    return np.sort(losses)


@zero_losses.mistake(
    "You look at the corners and at g = 0 only; a point may have some coordinates at the boundary "
    "and a zero gradient in the others"
)
def misses_the_edges(H, b):
    return _faces(H, b, (0, len(b)))


@zero_losses.mistake(
    "A sign is wrong: at the boundary the gradient has to point *outwards*, or the attack could "
    "still go inwards and gain"
)
def looks_for_minima(H, b):
    return _faces(H, b, range(len(b) + 1), -1.0)


@zero_losses.mistake(
    "You list the stationary points of all faces; at the coordinates that sit at the boundary the "
    "sign of the gradient matters"
)
def takes_every_face(H, b):
    return _faces(H, b, range(len(b) + 1), 0.0)


@zero_losses.mistake(
    "You list the local maxima; FOSC does not tell them from saddle points and minima"
)
def keeps_the_maxima(H, b):
    losses = []
    for state in itertools.product((-1, 0, 1), repeat=len(b)):
        z, free = np.array(state, float), np.array(state) == 0
        block = H[np.ix_(free, free)]
        if free.any():
            z[free] = np.linalg.solve(block, -(b + H @ z)[free])
        concave = not free.any() or np.linalg.eigvalsh(block).max() < 0
        push = (z * (H @ z + b))[~free]
        if concave and np.abs(z[free]).max(initial=0) <= 1 and (push >= 0).all():
            losses.append(z @ H @ z / 2 + b @ z)
    return np.sort(losses)


# ------------------------------------------------------ a network without curvature, broken proof

broken_relu = Check()

RELU_STEPS = {
    1: "Step 1 is right: with all signs of the units fixed, the margin is an affine function.",
    2: "Step 2 is right: faces of finitely many polyhedra have no volume.",
    4: "Step 4 is right if step 3 is: the corollary allows every beta, also 0.",
    5: "Step 5 is right if step 4 is: nothing in the ball has a larger loss.",
}
KINK_AT_X = "Your function has a kink at x = 0 itself: there is no gradient to follow"
NO_KINK = "No kink in the ball: there the loss is affine, and FGSM is exact"


def _relu_loss(units: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.maximum(np.multiply.outer(z, units[:, 1]) + units[:, 2], 0) @ units[:, 0]


@broken_relu.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, RELU_STEPS)


@broken_relu.property("on your function a point of the ball beats FGSM by eps or more")
def _(ask: Callable, step: Any) -> None:
    for (eps,), got in answers(ask, [(0.1,), (0.5,), (2.0,)]):
        try:
            size = len(got)
        except Exception:
            size = 1
        units = numbers(got, (min(max(size, 1), 20), 3))
        if np.abs(units).max() > 10:
            raise NotYet("Keep every number between -10 and 10.")
        live = units[(units[:, 0] != 0) & (units[:, 1] != 0)]
        kinks = -live[:, 2] / live[:, 1]
        here = np.abs(kinks) < 1e-6 * eps
        if abs(live[here, 0] @ np.abs(live[here, 1])) > 1e-9:  # max(z, 0) - max(-z, 0) has none
            raise NotYet(f"{KINK_AT_X}.")
        kinks = kinks[~here]
        h = min(0.5 * np.abs(kinks).min(initial=1.0), 1e-3)
        ahead, behind = _relu_loss(units, np.array([h, -h]))
        slope = 0.0 if abs(ahead - behind) < 1e-12 else ahead - behind
        point = eps * np.sign(slope)
        inside = kinks[np.abs(kinks) < eps]
        best = _relu_loss(units, np.concatenate([[-eps, eps], inside])).max()
        ahead_of = best - _relu_loss(units, np.array([point]))[0]
        if ahead_of < eps:
            known = "" if len(inside) else f" {NO_KINK}."
            raise NotYet(
                f"For eps = {eps} the largest loss exceeds that of FGSM by {ahead_of:.3g}.{known}"
            )


@broken_relu.mistake(KINK_AT_X)
def breaks_at_x(eps):
    return np.array([[1.0, 1.0, 0.0], [4.0, -1.0, 0.0]])


@broken_relu.mistake(NO_KINK)
def stays_affine(eps):
    return np.array([[3.0, 1.0, 2 * eps], [-1.0, 1.0, 3 * eps]])


@broken_relu.mistake(
    "There is a kink, but on the side to which FGSM goes, and the loss still rises behind it: "
    "nothing is missed"
)
def bends_ahead(eps):
    return np.array([[3.0, 1.0, 2 * eps], [-1.0, 1.0, -eps / 2]])


# ------------------------------------------------------------------- linear, with three classes

three_classes = Check()


def _softmax_loss(W: np.ndarray, z: np.ndarray) -> np.ndarray:
    logits = z @ W.T
    return np.logaddexp.reduce(logits, axis=-1) - logits[..., 0]


def _differences(f: Callable, z: np.ndarray, h: float) -> np.ndarray:
    return (f(z + h * np.eye(z.size)) - f(z - h * np.eye(z.size))) / (2 * h)


def _one_step(W: np.ndarray, eps: float) -> tuple[float, float]:
    """Normalized FOSC of the point of FGSM, and what the best corner has more."""
    gradient = _differences(lambda z: _softmax_loss(W, z), np.zeros(2), 1e-5 * eps)
    point = eps * np.sign(gradient) * (np.abs(gradient) > 1e-7)
    after = _differences(lambda z: _softmax_loss(W, z), point, 1e-5 * eps)
    corners = _corners(-eps * np.ones(2), eps * np.ones(2))
    values = corners @ after
    width = np.ptp(values)
    share = (values.max() - point @ after) / width if width > 1e-9 else 0.0
    return share, _softmax_loss(W, corners).max() - _softmax_loss(W, point)


def _three(ask: Callable) -> list[tuple[float, float, float]]:
    asked = answers(ask, [(eps,) for eps in (0.1, 1.0, 3.0)])
    out = []
    for (eps,), got in asked:
        W = numbers(got, (3, 2))
        if np.abs(W).max() > 1000:
            raise NotYet("Keep every weight between -1000 and 1000.")
        out.append((eps, *_one_step(W, eps)))
    return out


@three_classes.property("at the point of FGSM the normalized FOSC is at least 0.1")
def _(ask: Callable) -> None:
    for eps, share, _missed in _three(ask):
        if share < 0.1:
            raise NotYet(f"For eps = {eps} it is {share:.2g}.")


@three_classes.property("another corner has a loss that is at least half a nat larger")
def _(ask: Callable) -> None:
    for eps, _share, missed in _three(ask):
        if missed < 0.5:
            raise NotYet(f"For eps = {eps} the best corner has {missed:.2g} nats more than FGSM.")


@three_classes.mistake(
    "Two of your rivals have the same weights: this is a problem with two classes, and there one "
    "step is exact"
)
def doubles_a_rival(eps):
    return np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]) / eps


@three_classes.mistake(
    "The rows of your differences are parallel: the gradient changes its length, not its direction"
)
def stays_parallel(eps):
    return np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]) / eps


@three_classes.mistake(
    "Your rivals agree in every column about the sign that they want, so that one corner is the "
    "worst for both"
)
def agrees(eps):
    return np.array([[0.0, 0.0], [3.0, 1.0], [1.0, 4.0]]) / eps


# ---------------------------------------------------------------- FOSC of a batch, with torch


class _TorchCheck(Check):
    """Tensors, too, are handed out as copies, and taken back without their graph."""

    @staticmethod
    def _ask(answer: Any, args: tuple, log: list) -> Any:
        copies = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
        out = Check._ask(answer, copies, log)
        log[-1] = (args, out.detach() if isinstance(out, Tensor) else out)
        return log[-1][1]


fosc_values = _TorchCheck()


def small_network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A small network with batch normalization that has seen data, in training mode."""
    generator = torch.Generator().manual_seed(5)
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Softplus(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        for part in model.state_dict().values():
            if part.is_floating_point():
                part.copy_(torch.randn(part.shape, generator=generator, dtype=dtype))
        layers[1].running_var.copy_(0.2 + layers[1].running_var ** 2)
        layers[1].weight.copy_(1 + layers[1].weight.abs())
        layers[3].weight.mul_(0.25)
    return model.train()


def small_batch(size: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Clean inputs, some at 0 and 1, labels, and points in the ball of radius 0.2 and the box."""
    generator = torch.Generator().manual_seed(6)
    x = (1.8 * torch.rand(size, 6, generator=generator, dtype=torch.float64) - 0.4).clamp(0, 1)
    y = torch.randint(3, (size,), generator=generator)
    e = 0.4 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.2
    return x, y, (x + e).clamp(0, 1)


def _loss_of_one(model: nn.Module, z: np.ndarray, label: int) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.as_tensor(z)).numpy()
    return np.logaddexp.reduce(logits, axis=-1) - logits[..., label]


@cache
def _fosc_by_corners() -> np.ndarray:
    """Each sample alone: the gradient from differences of the loss, the maximum from corners."""
    model, out = small_network().eval(), []
    for x, y, z in zip(*(t.numpy() for t in small_batch()), strict=True):
        g = _differences(lambda p, y=y: _loss_of_one(model, p, int(y)), z, 1e-5)
        corners = _corners(np.maximum(x - 0.2, 0), np.minimum(x + 0.2, 1))
        out.append(((corners - z) @ g).max())
    return np.array(out)


def _unchanged(model: nn.Module, fresh: nn.Module) -> None:
    if not all(part.training for part in model.modules()):
        raise NotYet("The model came in training mode and did not go back to it.")
    pairs = zip(model.state_dict().items(), fresh.state_dict().values(), strict=True)
    moved = [name for (name, got), want in pairs if not torch.equal(got, want)]
    if moved:
        raise NotYet(f"Your function changed {moved[0]} of the model.")
    if any(p.grad is not None for p in model.parameters()):
        raise NotYet(
            "Your function left gradients at the parameters; the optimizer would add them."
        )
    if not all(p.requires_grad for p in model.parameters()):
        raise NotYet("Your function switched off the gradients of the parameters.")


@fosc_values.property("sample by sample it is what differences of the loss and all corners give")
def _(ask: Callable, effective: Any) -> None:
    x, y, z = small_batch()
    got = numbers(ask(small_network(), x, y, z, 0.2), (len(x),))
    close(got, _fosc_by_corners(), "FOSC", 1e-6)


@fosc_values.property("the model comes back as it was")
def _(ask: Callable, effective: Any) -> None:
    model, (x, y, z) = small_network(), small_batch()
    got = numbers(ask(model, x, y, z, 0.2), (len(x),))
    close(got, _fosc_by_corners(), "FOSC", 1e-6)
    _unchanged(model, small_network())


def _vertices() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Two classes, single precision, every sample at the corner that its gradient points to."""
    generator = torch.Generator().manual_seed(7)
    model = networks.mlp((400, 2), generator=generator).train()
    x = torch.rand(20, 400, generator=generator)
    y = torch.randint(2, (20,), generator=generator)
    direction = (model[-1].weight[1] - model[-1].weight[0]).detach().sign()
    return model, x, y, (x + 0.1 * direction * (1 - 2 * y[:, None])).clamp(0, 1)


@fosc_values.property("in single precision it is exactly 0 at vertices, and not elsewhere")
def _(ask: Callable, effective: Any) -> None:
    model, x, y, z = _vertices()
    got = numbers(ask(model, x, y, z, 0.1), (len(x),))
    centre = numbers(ask(model, x, y, x, 0.1), (len(x),))
    if (centre <= 1e-4).any():
        raise NotYet("At the clean inputs FOSC is positive.")
    if (got != 0).any():
        raise NotYet(
            f"At a vertex you find {got[np.abs(got).argmax()]:.1e}: a difference of two large sums "
            "does not cancel. Sum terms that are zero one by one."
        )


@fosc_values.property("the level in force is right")
def _(ask: Callable, effective: Any) -> None:
    level = _number(effective)
    if level == 0.5:
        raise NotYet(
            "The *signs* of a mean loss are those of the losses, FOSC is not: each sample's "
            "gradient is 128 times too small."
        )
    if abs(level - 0.5 / 128) < 1e-6:
        raise NotYet("The other way round: what is compared with 0.5 is FOSC divided by 128.")
    if abs(level - 64) > 1e-6:
        raise NotYet(f"{level:g} is not the level.")


def _gradient(model, y, z, reduction="sum", training=False):
    model = copy.deepcopy(model).train(training)
    z = z.detach().clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(z), y, reduction=reduction)
    return torch.autograd.grad(loss, z)[0]


def _terms(g, low, high, z):
    return (g.clamp(min=0) * (high - z) + g.clamp(max=0) * (low - z)).sum(dim=1)


def _boxed(x, eps):
    return (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)


@fosc_values.mistake(
    "You differentiate the *mean* loss of the batch: every value is too small by the batch size"
)
def averages_the_batch(model, x, y, z, eps):
    return _terms(_gradient(model, y, z, "mean"), *_boxed(x, eps), z)


@fosc_values.mistake(
    "You left the model in training mode: batch normalization then mixes the samples of the batch"
)
def trains_while_attacking(model, x, y, z, eps):
    return _terms(_gradient(model, y, z, training=True), *_boxed(x, eps), z)


@fosc_values.mistake("You ignore the box [0, 1]: a black pixel cannot become darker")
def leaves_the_box(model, x, y, z, eps):
    return _terms(_gradient(model, y, z), x - eps, x + eps, z)


@fosc_values.mistake("A sign is wrong: this measures how far the loss could still *fall*")
def goes_down(model, x, y, z, eps):
    return _terms(-_gradient(model, y, z), *_boxed(x, eps), z)


# --------------------------------------------------------------- a loss that cannot be masked

scale_free_loss = Check()
SCALES = (1.0, 100.0, 1e4)
_EPS = 0.1


@cache
def _undefended() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights of a network trained without attacks on digits, and 100 images that it gets right."""
    images = data.digits(np.random.default_rng(55))
    generator = torch.Generator().manual_seed(8)
    model = networks.mlp((64, 48, 10), generator=generator, dtype=torch.float64)
    x, y = torch.as_tensor(images.train_x).double(), torch.as_tensor(images.train_y)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    weights = [p.detach().numpy() for p in model.parameters()]
    test = images.test_x.reshape(-1, 64).astype(float)
    right = np.flatnonzero(_logits(weights, test)[0].argmax(axis=1) == images.test_y)[:100]
    return weights, test[right], np.asarray(images.test_y)[right]


def _logits(weights: list[np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = z @ weights[0].T + weights[1]
    return np.maximum(hidden, 0) @ weights[2].T + weights[3], hidden > 0


def survivors(loss: Callable, scale: float, steps: int = 10) -> float:
    """Accuracy after an attack with this loss on the network with all logits times `scale`."""
    weights, x, y = _undefended()
    z, labels, h = x.copy(), np.repeat(y, 20), 1e-4 * scale
    moves = h * np.concatenate([np.eye(10), -np.eye(10)])
    for _ in range(steps):
        logits, on = _logits(weights, z)
        values = loss((scale * logits[:, None] + moves).reshape(-1, 10), labels)
        values = numbers(values, (len(labels),)).reshape(-1, 2, 10)
        slopes = values[:, 0] - values[:, 1]  # by the logits, up to a positive factor
        g = ((slopes @ weights[2]) * on) @ weights[0]
        z = np.clip(np.clip(z + _EPS / 4 * np.sign(g), x - _EPS, x + _EPS), 0, 1)
    return float(np.mean(_logits(weights, z)[0].argmax(axis=1) == y))


@scale_free_loss.property("the loss of a sample does not depend on the others in the batch")
def _(ask: Callable) -> None:
    rng = _rng()
    logits = 4 * rng.standard_normal((6, 10)) * np.array([1.0, 1, 10, 1, 100, 1])[:, None]
    y = rng.integers(10, size=6)
    together = numbers(ask(logits, y), (6,))
    for i in range(6):
        alone = numbers(ask(logits[i : i + 1], y[i : i + 1]), (1,))
        close(alone, together[i : i + 1], "a sample alone and in the batch", 1e-9)
    if np.ptp(together) < 1e-9:
        raise NotYet("Your loss is the same for all samples.")


@scale_free_loss.property("an attack with it breaks the network, whatever the scale of its logits")
def _(ask: Callable) -> None:
    left = [survivors(ask, scale) for scale in SCALES]
    limit = _reference() + 0.1
    for scale, share in zip(SCALES, left, strict=True):
        if share > limit:
            raise NotYet(
                f"With the logits times {scale:g} the accuracy after the attack is {share:.2f}; "
                f"{limit:.2f} or less is possible."
            )


@cache
def _reference() -> float:
    """The best of attacks that push one rival's logit each: no loss is involved but differences."""
    weights, x, y = _undefended()
    broken = np.zeros(len(x), bool)
    for rival in range(10):
        z = x.copy()
        for _ in range(10):
            _, on = _logits(weights, z)
            g = ((weights[2][rival] - weights[2][y]) * on) @ weights[0]
            z = np.clip(np.clip(z + _EPS / 4 * np.sign(g), x - _EPS, x + _EPS), 0, 1)
            broken |= _logits(weights, z)[0].argmax(axis=1) != y
    return float(1 - broken.mean())


def _log_loss(logits, y):
    top = logits.max(axis=1, keepdims=True)
    size = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return size - logits[np.arange(len(y)), y]


@scale_free_loss.mistake(
    "This is the cross-entropy: with large logits its gradient is zero in floating point, and the "
    "attack does not move"
)
def takes_the_cross_entropy(logits, y):
    return _log_loss(logits, y)


@scale_free_loss.mistake(
    "Differences of *probabilities* saturate as well: with large logits they are 1 and flat"
)
def compares_probabilities(logits, y):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    others = p.copy()
    others[rows, y] = -1
    return others.max(axis=1) - p[rows, y]


@scale_free_loss.mistake(
    "A fixed temperature moves the problem to a larger scale; it does not solve it"
)
def cools_down(logits, y):
    return _log_loss(logits / 100, y)


@scale_free_loss.mistake(
    "You divide by the largest logit of the *batch*: one sample spoils the others"
)
def divides_by_the_batch(logits, y):
    return _log_loss(10 * logits / np.abs(logits).max(), y)


@scale_free_loss.mistake("A sign is wrong: the attack would make the label more certain")
def defends(logits, y):
    rows = np.arange(len(y))
    others = logits.copy()
    others[rows, y] = -np.inf
    return logits[rows, y] - others.max(axis=1)


# --------------------------------------------------------------------- steps that come to rest

step_sizes = Check()
STEPS = 50


@cache
def _summits() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Concave quadratics in the cube [-1, 1]^5, with coupled coordinates, and starts."""
    rng, out = np.random.default_rng(SEED), []
    for _ in range(30):
        root = rng.standard_normal((5, 5))
        starts = np.concatenate([rng.uniform(-1, 1, (20, 5)), [-np.ones(5), np.ones(5)]])
        out.append((root @ root.T / 5 + 0.3 * np.eye(5), rng.uniform(-1.2, 1.2, 5), starts))
    return out


def last_fosc(steps: np.ndarray) -> np.ndarray:
    last = []
    for H, m, z in _summits():
        for gamma in steps:
            z = np.clip(z - gamma * np.sign((z - m) @ H), -1, 1)
        g = -(z - m) @ H
        corners = _corners(-np.ones(5), np.ones(5))
        last.append((g @ corners.T).max(axis=1) - (g * z).sum(axis=1))
    return np.concatenate(last)


@step_sizes.property(
    "on 30 concave losses, from 22 starts each, FOSC of the last point is below 0.05"
)
def _(ask: Callable) -> None:
    steps = numbers(ask(STEPS), (STEPS,))
    if (steps < 0).any() or (steps > 2).any():
        raise NotYet("Steps between 0 and 2, the width of the cube.")
    worst = last_fosc(steps).max()
    if steps.sum() < 2:
        raise NotYet("Together your steps are shorter than the cube is wide.")
    if worst >= 0.05:
        same = np.ptp(steps) == 0
        known = " Steps of one length end in a cycle around the maximizer." if same else ""
        raise NotYet(f"The largest FOSC at the end is {worst:.2g}.{known}")


@step_sizes.mistake(
    "Steps of one length end in a cycle around the maximizer, and FOSC stays of the order of the "
    "step; more steps do not help"
)
def never_shrinks(count):
    return np.full(count, 0.25)


@step_sizes.mistake(
    "The shortest steps of one length that still cross the cube: the cycle is smaller, and it is "
    "still a cycle"
)
def creeps(count):
    return np.full(count, 2 / count)


@step_sizes.mistake(
    "Halving is right for one coordinate by itself; with coupled coordinates the signs change on "
    "the way, and what is left of the steps is too short to repair that"
)
def halves(count):
    return 0.5 ** np.arange(count)


@step_sizes.mistake(
    "Steps like 1/k satisfy the condition of the theorem, but after 50 of them they are still "
    "1/50: for a given number of steps one can do better"
)
def shrinks_slowly(count):
    return 1 / (1 + np.arange(count))


# ----------------------------------------------------- errors that do not average, broken proof

broken_average = Check()

AVERAGE_STEPS = {
    1: "Step 1 is right: it is Danskin's theorem, with a maximizer that is Lipschitz in theta.",
    2: "Step 2 is right: FOSC bounds the distance to the maximizer under strong concavity.",
    4: "Step 4 is right: Minkowski's inequality in the mean square, whatever e depends on.",
    5: "Step 5 is right if steps 3 and 4 are.",
}


def _train(ask: Callable, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """FOSC of the points given, and phi'(theta), along 200 steps of length 0.1."""
    theta, v = 0.5, np.linspace(-1, 1, 2001)
    left, slopes = [], []
    for _ in range(200):
        z = _number(ask(theta, tolerance))
        if abs(z) > 1 + 1e-12:
            raise NotYet(f"z = {z:.3g} is not in [-1, 1].")
        left.append(((v - z) * (theta - z)).max())
        slopes.append(theta + np.clip(theta, -1, 1))
        theta -= 0.1 * (theta + z)
    return np.array(left), np.array(slopes)


@broken_average.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, AVERAGE_STEPS)


@broken_average.property("the points are feasible, and their FOSC never exceeds the tolerance")
def _(ask: Callable, step: Any) -> None:
    for tolerance in (0.1, 0.02):
        left, _ = _train(ask, tolerance)
        if left.max() > tolerance * (1 + 1e-6):
            raise NotYet(f"For the tolerance {tolerance} you reach FOSC {left.max():.4g}.")
        if left.max() < tolerance / 100:
            raise NotYet("Your attack is exact; it may be worse than that.")


@broken_average.property("in the long run the squared gradient stays above tolerance^2 / 5")
def _(ask: Callable, step: Any) -> None:
    for tolerance in (0.1, 0.02):
        left, slopes = _train(ask, tolerance)
        if left.max() > tolerance * (1 + 1e-6):
            raise NotYet("This attack is worse than the tolerance allows.")
        size = np.mean(slopes[100:] ** 2)
        if size < tolerance**2 / 5:
            raise NotYet(f"For the tolerance {tolerance} it falls to {size:.1e}.")


def _distance(theta, tolerance, side):
    """How far z may be below (side = 1) or above (-1) theta, for theta in [-1, 1]."""
    room = 1 - side * theta
    return (np.sqrt(room**2 + 4 * tolerance) - room) / 2


@broken_average.mistake("This is the maximizer: training converges, and nothing is shown")
def attacks_exactly(theta, tolerance):
    return float(np.clip(theta, -1, 1))


@broken_average.mistake(
    "You step away from the maximizer by the tolerance; FOSC is that distance times the room in "
    "front of you, and this can be more"
)
def confuses_distance(theta, tolerance):
    return theta - tolerance


@broken_average.mistake(
    "Your error changes its sign with theta and always pushes towards the minimum: this one helps"
)
def helps_training(theta, tolerance):
    side = -np.sign(theta)
    return float(theta - side * _distance(theta, tolerance, side) if side else theta)


# ----------------------------------------------------------------------- early or late, again

critical_m = Check(rtol=2e-3)


def _schedules() -> dict[str, np.ndarray]:
    half = np.arange(1200) < 600
    part = (np.arange(1200) + 0.5) / 1200
    return {
        "constant": np.full(1200, 0.1),
        "divided by 10": np.where(half, 0.1, 0.01),
        "cosine": 0.05 * (1 + np.cos(np.pi * part)),
        "linear": 0.1 * (1 - part),
        "warm-up": 0.1 * np.minimum(1, 3 * part),
    }


SCHEDULES = _schedules()


def _excess(eta: np.ndarray, m: float) -> tuple[float, float]:
    """What unit errors in the first half, or in the second, leave in the end: plain recursion."""
    early = late = 0.0
    for t, step in enumerate(eta):
        first = 2 * t < len(eta)
        early = (1 - m * step) * early + step * first
        late = (1 - m * step) * late + step * (not first)
    return early, late


@critical_m.property("slightly below this m early errors weigh more, slightly above late ones")
def _(ask: Callable, predicted: Any) -> None:
    cases = ["divided by 10", "cosine", "linear"]
    for name, (_, got) in zip(cases, answers(ask, [(SCHEDULES[n],) for n in cases]), strict=True):
        m = _number(got)
        if not 0 < m < 10:
            raise NotYet(f"For the schedule '{name}', m = {m:.3g} cannot be right.")
        early, late = _excess(SCHEDULES[name], 0.98 * m)
        if early <= late:
            raise NotYet(f"For '{name}' late errors weigh more already below your m.")
        early, late = _excess(SCHEDULES[name], 1.02 * m)
        if early >= late:
            raise NotYet(f"For '{name}' early errors still weigh more above your m.")


@critical_m.property("the answer is 0 where late errors weigh more for every m, and only there")
def _(ask: Callable, predicted: Any) -> None:
    cases = ["constant", "warm-up", "divided by 10"]
    got = [_number(m) for _, m in answers(ask, [(SCHEDULES[name],) for name in cases])]
    for name, m in zip(cases, got, strict=True):
        if (abs(m) > 1e-9) != (name == "divided by 10"):
            raise NotYet(f"For the schedule '{name}' your answer is {m:.3g}.")


@critical_m.property("the predictions for m = 0.1 are right")
def _(ask: Callable, predicted: Any) -> None:
    if not isinstance(predicted, dict) or set(predicted) != set(SCHEDULES):
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(SCHEDULES)}.")
    if any(not isinstance(v, str) or v not in ("early", "late") for v in predicted.values()):
        raise NotYet("Every prediction should be 'early' or 'late'.")
    for name, eta in SCHEDULES.items():
        early, late = _excess(eta, 0.1)
        if predicted[name] != ("early" if early > late else "late"):
            raise NotYet(f"'{name}': {WRONG_SCHEDULES[name]}")


WRONG_SCHEDULES = {
    "constant": "with equal steps early errors are forgotten like the others, only longer.",
    "divided by 10": "hardly any optimization time passes in the second half: little is forgotten.",
    "cosine": "the second half has more optimization time than with the sudden division, and m is "
    "large enough to forget in it.",
    "linear": "a third as much time in the second half as in the first is enough to forget here.",
    "warm-up": "the early steps are the short ones here: early errors enter with less weight, and "
    "are forgotten as well.",
}


def _bisect(eta, more_early):
    low, high = 1e-9, 1 / eta.max()
    if not more_early(eta, low):
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if more_early(eta, middle) else (low, middle)
    return low


@critical_m.mistake(
    "6.927 belongs to a rate that is divided by ten at half time, and to no other schedule"
)
def remembers_seven(eta):
    half = len(eta) // 2
    return 6.927 / eta[:half].sum() if eta[half:].sum() < eta[:half].sum() else 0.0


@critical_m.mistake(
    "You compare the optimization times of the halves alone: that is the limit of a small m, in "
    "which nothing is forgotten"
)
def never_forgets(eta):
    half = len(eta) // 2
    return np.inf if eta[:half].sum() > eta[half:].sum() else 0.0


@critical_m.mistake(
    "The weight of an error is the step times what is left of it; without the step late errors "
    "always win"
)
def forgets_the_step(eta):
    return 0.0


@critical_m.mistake(
    "You ask when half of the *first half's* errors are forgotten, exp(-m S_2) = 1/2; the second "
    "half's own errors are forgotten, too"
)
def takes_the_half_life(eta):
    half = len(eta) // 2
    return np.log(2) / eta[half:].sum() if eta[half:].sum() < eta[:half].sum() else 0.0


# -------------------------------------------------------------------- where to spend the budget

attack_steps = Check(rtol=1e-5)


def _budgets() -> list[tuple]:
    return [
        (np.full(12, 0.3), 0.8, 120.0),
        (np.repeat([0.5, 0.05], 8), 0.6, 40.0),
        (np.linspace(1.0, 0.1, 10), 0.9, 50.0),
    ]


def _final(eta: np.ndarray, m: float, effort: np.ndarray) -> float:
    """The excess after training with squared errors 1 / effort."""
    a = 0.0
    for step, k in zip(eta, effort, strict=True):
        a = (1 - m * step) * a + step / k
    return a


@cache
def _best_final(index: int) -> float:
    eta, m, total = _budgets()[index]

    def spent(logs: np.ndarray) -> float:
        parts = np.exp(logs - logs.max())
        return np.log(_final(eta, m, total * parts / parts.sum()))

    return float(np.exp(optimize.minimize(spent, np.zeros(len(eta)), method="BFGS").fun))


@attack_steps.property("the budget is spent, and every attack gets some of it")
def _(ask: Callable) -> None:
    for (eta, _m, total), got in answers(ask, _budgets()):
        effort = numbers(got, eta.shape)
        if (effort <= 0).any():
            raise NotYet("Without any steps an attack leaves an infinite error in this model.")
        if abs(effort.sum() - total) > 1e-6 * total:
            raise NotYet(f"The efforts add up to {effort.sum():.4g} instead of {total:g}.")


@attack_steps.property("no other distribution that a minimizer finds ends with a smaller excess")
def _(ask: Callable) -> None:
    for index, ((eta, m, total), got) in enumerate(answers(ask, _budgets())):
        effort = numbers(got, eta.shape)
        if (effort <= 0).any() or effort.sum() > total * (1 + 1e-6):
            raise NotYet("Positive efforts that add up to the budget.")
        ratio = _final(eta, m, effort) / _best_final(index)
        if ratio > 1.001:
            raise NotYet(f"In case {index + 1} the excess is {ratio:.3g} times the least possible.")


def _left(eta, m):
    return np.append(np.cumprod((1 - m * eta)[::-1])[::-1][1:], 1.0)


@attack_steps.mistake("The same effort everywhere: late errors weigh more, and deserve more")
def spends_evenly(eta, m, total):
    return np.full(len(eta), total / len(eta))


@attack_steps.mistake(
    "Proportional to the weights is too much of it: the returns diminish, and all terms w_t / K_t "
    "become equal, which is no better than spending evenly"
)
def follows_the_weights(eta, m, total):
    w = eta * _left(eta, m)
    return total * w / w.sum()


@attack_steps.mistake("The length of the step is missing in the weights: a long step learns more")
def ignores_the_rate(eta, m, total):
    w = np.sqrt(_left(eta, m))
    return total * w / w.sum()


# ----------------------------------------------------------------- penalties of stopping rules

update_penalty = Check()
_U = np.array([0.05, 0.3, 0.8, 1.0, 1.7, 3.0])


@cache
def _penalty_by_training(eps: float, rule: str, level: float) -> np.ndarray:
    """f = u z on [-eps, eps], x = 0: walk until the rule stops the attack, then integrate the
    training gradient, which is the end point, over u."""
    z = np.linspace(0, eps, 8001)
    u = np.linspace(0, _U.max(), 6001)
    end = np.empty_like(u)
    for i, slope in enumerate(u):
        best, worst = max(-eps * slope, eps * slope), min(-eps * slope, eps * slope)
        left, gain = best - slope * z, slope * z
        if rule == "fosc":
            done = left <= level
        elif rule == "normalized":
            done = left <= level * (best - worst)
        else:
            done = gain >= level
        end[i] = z[done.argmax()] if done.any() else eps
    area = np.append(0, np.cumsum((end[1:] + end[:-1]) / 2 * np.diff(u)))
    return np.interp(_U, u, area)


def _stops(rule: str, levels: tuple[float, ...]) -> Callable:
    def test(ask: Callable) -> None:
        cases = [(_U, eps, rule, level) for eps in (0.5, 2.0) for level in levels]
        for (_, eps, _, level), got in answers(ask, cases):
            got = numbers(got, _U.shape)
            want = _penalty_by_training(eps, rule, level)
            close(got, want, f"the penalty for eps = {eps}, level = {level}", 2e-3)

    return test


update_penalty.property("stopping at a level of FOSC")(_stops("fosc", (0.1, 0.4)))
update_penalty.property("stopping at a level of normalized FOSC")(_stops("normalized", (0.1, 0.35)))
update_penalty.property("stopping when the loss has risen")(_stops("gain", (0.1, 0.4)))


def _penalties(u, eps, rule, level):
    if rule == "fosc":
        ratio = np.maximum(eps * u / level, 1)
        return level * (ratio - 1 - np.log(ratio))
    if rule == "normalized":
        return max(1 - 2 * level, 0) * eps * u
    ratio = np.maximum(eps * u / level, 1)
    return np.minimum(eps * u, level) + level * np.log(ratio)


@update_penalty.mistake(
    "This hinge is what the *loss* grows by; training differentiates it at a frozen point, and "
    "follows another penalty"
)
def takes_the_hinge(u, eps, rule, level):
    if rule == "fosc":
        return np.maximum(eps * u - level, 0)
    return _penalties(u, eps, rule, level)


@update_penalty.mistake(
    "Normalized FOSC is divided by the whole width, 2 eps u: at x it is 1/2, not 1"
)
def divides_by_half_the_width(u, eps, rule, level):
    if rule == "normalized":
        return (1 - level) * eps * u
    return _penalties(u, eps, rule, level)


@update_penalty.mistake(
    "The gain itself, at most the level, is the value of the loss, not the penalty that the update "
    "follows: the radius is level / u, not 0, where the attack stops early"
)
def caps_the_gain(u, eps, rule, level):
    if rule == "gain":
        return np.minimum(eps * u, level)
    return _penalties(u, eps, rule, level)


@update_penalty.mistake(
    "No attack leaves the ball: if the gain does not reach the level, the radius is eps"
)
def leaves_the_ball(u, eps, rule, level):
    if rule == "gain":
        return level * (1 + np.log(eps * u / level))
    return _penalties(u, eps, rule, level)


# -------------------------------------------------------------- an attack that drops the finished

dynamic_attack = _TorchCheck()
_LEVEL, _RADIUS, _COUNT, _STRIDE = 0.25, 0.2, 8, 0.02


@cache
def _one_by_one() -> tuple[np.ndarray, int]:
    """Every sample attacked alone, FOSC from all corners; and how many rows that takes."""
    model, (x, y, _) = small_network().eval(), small_batch(24)
    points, rows = [], 0
    for clean, label in zip(x, y, strict=True):
        z = clean.clone()
        corners = _corners(
            (clean - _RADIUS).clamp(0, 1).numpy(), (clean + _RADIUS).clamp(0, 1).numpy()
        )
        for _ in range(_COUNT):
            g = _gradient(model, label[None], z[None])[0]
            rows += 1
            if ((corners - z.numpy()) @ g.numpy()).max() <= _LEVEL:
                break
            z = z + _STRIDE * g.sign()
            z = torch.maximum(torch.minimum(z, clean + _RADIUS), clean - _RADIUS).clamp(0, 1)
        points.append(z.numpy())
    return np.array(points), rows


def _attacked(ask: Callable) -> tuple[np.ndarray, nn.Module, int]:
    model, (x, y, _), seen = small_network(), small_batch(24), []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    got = ask(model, x, y, _RADIUS, _LEVEL, _COUNT, _STRIDE)
    handle.remove()
    return numbers(got, tuple(x.shape)), model, sum(seen)


@dynamic_attack.property("the points are those of attacking every sample alone")
def _(ask: Callable) -> None:
    close(_attacked(ask)[0], _one_by_one()[0], "the points", 1e-7)


@dynamic_attack.property("the model sees the samples that still move, and no others")
def _(ask: Callable) -> None:
    got, _, seen = _attacked(ask)
    want, rows = _one_by_one()
    close(got, want, "the points", 1e-7)
    if seen > rows + len(want):
        raise NotYet(f"Your attack sent {seen} rows through the model; {rows} are enough.")


@dynamic_attack.property("the model comes back as it was")
def _(ask: Callable) -> None:
    got, model, _ = _attacked(ask)
    close(got, _one_by_one()[0], "the points", 1e-7)
    _unchanged(model, small_network())


def _masked(model, x, y, eps, level, steps, step, *, first=0, box=True, **how):
    low, high = _boxed(x, eps) if box else (x - eps, x + eps)
    z, moving = x.clone(), torch.ones(len(x), dtype=torch.bool)
    for k in range(steps):
        g = _gradient(model, y, z, **how)
        if k >= first:
            moving &= _terms(g, low, high, z) > level
        z = z + step * g.sign() * moving[:, None]
        z = torch.maximum(torch.minimum(z, high), low)
    return z


@dynamic_attack.mistake(
    "The points are right, but samples that have stopped still go through the model: multiplying "
    "their step by zero saves nothing"
)
def masks_without_saving(*args):
    return _masked(*args)


@dynamic_attack.mistake(
    "You left the model in training mode: then the batch statistics, and with them the attack on "
    "each sample, depend on who else is still in the batch"
)
def attacks_in_training_mode(*args):
    return _masked(*args, training=True)


@dynamic_attack.mistake(
    "You compare the level with FOSC of the *mean* loss: it is too small by the batch size, and "
    "everybody stops too early"
)
def stops_too_early(*args):
    return _masked(*args, reduction="mean")


@dynamic_attack.mistake(
    "You look at FOSC only after the first step: samples that need no attack are moved all the same"
)
def always_steps_once(*args):
    return _masked(*args, first=1)


@dynamic_attack.mistake("You left the box [0, 1], with the points and with FOSC")
def paints_outside(*args):
    return _masked(*args, box=False)
