"""Checks of the exercises of chapter 5 that everybody may see, and the mistakes they know.

The oracles try every corner of a box and every order of the pixels, take differences of losses, or
run the training that a statement is about; none uses a closed form that is asked for.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coursework.checks import Check, NotYet, answers, close, number_rows, numbers, right_step


def corners_of(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """All corners of a box, shape (2**d, d)."""
    return np.array(list(itertools.product(*zip(low, high, strict=True))))


def number(value: Any) -> float:
    """The answer as one finite number, or NotYet."""
    return float(numbers(value, ()))


# ----------------------------------------------------------------------- which coordinates flip

flip_share = Check("ex-flip-share", "flip_share")


def two_gradients(
    rng: np.random.Generator, low: float, high: float, dead: int, d: int = 8
) -> list[tuple]:
    """Clean inputs in [low, high], gradients at x and at the point of FGSM."""
    cases = []
    for eps in rng.uniform([0.1, 0.25], [0.15, 0.35]):
        x = np.clip(rng.uniform(low - 0.3, high + 0.3, d), low, high)
        if low == 0:
            x[-2:] = 0.0, 1.0  # the box always cuts somewhere
        before, after = rng.standard_normal((2, d))
        before[:dead] = 0.0
        cases.append((x, before, after, float(eps)))
    return cases


def share_by_corners(x: np.ndarray, before: np.ndarray, after: np.ndarray, eps: float) -> float:
    """Normalized FOSC at the best corner for `before`; where that is zero, x stays."""
    corners = corners_of(np.maximum(x - eps, 0), np.minimum(x + eps, 1))
    point = np.where(before == 0, x, corners[(corners @ before).argmax()])
    values = corners @ after
    return float((values.max() - point @ after) / (values.max() - values.min()))


def judge_shares(ask: Callable, cases: list[tuple]) -> None:
    """Compare the answers with a search over all corners."""
    for case, got in answers(ask, cases):
        close(got, share_by_corners(*case), f"the normalized FOSC for eps = {case[3]:.3g}")


@flip_share.property("far from the box the value is that of a search over all corners")
def _(ask: Callable) -> None:
    judge_shares(ask, two_gradients(ask.rng, 0.4, 0.6, 0))


@flip_share.property("so it is where the box cuts the ball")
def _(ask: Callable) -> None:
    judge_shares(ask, two_gradients(ask.rng, 0.0, 1.0, 0))


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

smoothness = Check("ex-which-constant", "smoothness")


def judge_constant(ask: Callable, matrices: list[np.ndarray]) -> None:
    """Compare the answers with quotients |H e|_1 / |e|_inf for many e, corners included."""
    for (H,), got in answers(ask, [(H,) for H in matrices]):
        beta, d = number(got), len(H)
        apart = np.concatenate(
            [ask.rng.uniform(-1, 1, (500, d)), 2 * corners_of(-np.ones(d), np.ones(d))]
        )
        least = (np.abs(apart @ H).sum(axis=1) / np.abs(apart).max(axis=1)).max()
        if beta < least * (1 - 1e-6):
            raise NotYet(f"Some two points need {least:.4g}; your constant is {beta:.4g}.")
        if beta > least * (1 + 1e-6):
            raise NotYet(f"{least:.4g} is enough; your constant is {beta:.4g}.")


def symmetric(rng: np.random.Generator, d: int) -> np.ndarray:
    """A symmetric matrix without a preferred sign."""
    root = rng.standard_normal((d, d))
    return root + root.T


@smoothness.property("no two points violate it, and some two points attain it", 2)
def _(ask: Callable) -> None:
    judge_constant(ask, [symmetric(ask.rng, d) for d in (3, 4, 5)])


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

sparse_fosc = Check("ex-sparse-fosc", "sparse_fosc")


def sparse_cases(rng: np.random.Generator, boxed: bool, d: int) -> list[tuple]:
    """Gradients, clean inputs and feasible points; with `boxed` the pixel range matters."""
    cases = []
    for eps, k in ((0.2, 1.0), (0.2, 2.5), (0.4, d / 2), (0.3, d + 2.0), (0.3, 0.5)):
        x = np.clip(rng.uniform(-0.3, 1.3, d), 0, 1) if boxed else rng.uniform(0.45, 0.55, d)
        g = rng.standard_normal(d)
        if boxed:
            g[rng.integers(d)] = 0.0
        e = rng.uniform(-eps, eps, d)
        e *= min(1, 0.9 * k * eps / np.abs(e).sum())
        cases.append((g, x, np.clip(x + e, 0, 1), eps, k))
    if boxed:  # the pixels with the largest gradients have hardly any room
        x, g = rng.uniform(0.4, 0.6, d), rng.uniform(0.05, 0.3, d)
        x[:3], g[:3] = [0.97, 0.7, 0.02], [1.0, 0.9, -0.8]
        cases.append((g, x, x, 0.4, rng.uniform(1.4, 1.6)))
    g, x, z, eps, k = cases[0]
    return [*cases, (g, x, x, eps, k), (0 * g, x, z, eps, k)]


def pour(g: np.ndarray, room: np.ndarray, budget: float, order: Any) -> float:
    """What a budget of movement gains if the pixels take what they can in this order."""
    total = 0.0
    for i in order:
        amount = min(room[i], budget)
        total, budget = total + np.abs(g[i]) * amount, budget - amount
    return total


def _by_gain(g):
    return np.argsort(-np.abs(g))


def _room(g, x, eps):
    return np.minimum(eps, np.where(g > 0, 1 - x, x))


def _sparse_by_orders(g, x, z, eps, k) -> float:
    orders = itertools.permutations(range(len(g)))
    return max(pour(g, _room(g, x, eps), k * eps, order) for order in orders) - g @ (z - x)


def judge_sparse(ask: Callable, cases: list[tuple], oracle: Callable) -> None:
    """Compare the answers with another way to find the maximum."""
    for case, got in answers(ask, cases):
        close(got, oracle(*case), f"FOSC for eps = {case[3]}, k = {case[4]:.3g}")


@sparse_fosc.property("away from the box no order of spending the budget does better")
def _(ask: Callable) -> None:
    judge_sparse(ask, sparse_cases(ask.rng, False, 5), _sparse_by_orders)


@sparse_fosc.property("with pixels at 0 and 1 and a zero in the gradient, too")
def _(ask: Callable) -> None:
    judge_sparse(ask, sparse_cases(ask.rng, True, 5), _sparse_by_orders)


@sparse_fosc.mistake(
    "You forget to subtract <z - x, g>: FOSC is what z still misses, not what x does"
)
def starts_from_x(g, x, z, eps, k):
    return pour(g, _room(g, x, eps), k * eps, _by_gain(g))


@sparse_fosc.mistake("You ignore the box: a white pixel has no room upwards")
def ignores_white_pixels(g, x, z, eps, k):
    return pour(g, np.full(len(g), eps), k * eps, _by_gain(g)) - g @ (z - x)


@sparse_fosc.mistake("You let one pixel take the whole budget k eps; each may move by at most eps")
def spends_it_on_one(g, x, z, eps, k):
    return pour(g, np.where(g > 0, 1 - x, x), k * eps, _by_gain(g)) - g @ (z - x)


@sparse_fosc.mistake(
    "You rank the pixels by all that they can gain; a unit of the budget gains |g_i|: rank by this"
)
def ranks_by_the_whole_gain(g, x, z, eps, k):
    room = _room(g, x, eps)
    return pour(g, room, k * eps, _by_gain(g * room)) - g @ (z - x)


@sparse_fosc.mistake("You use the budget eps for all pixels together; it is k eps")
def forgets_k(g, x, z, eps, k):
    return pour(g, _room(g, x, eps), eps, _by_gain(g)) - g @ (z - x)


@sparse_fosc.mistake(
    "You pick the k best pixels and drop the rest of the budget: what the box keeps a pixel from "
    "using, the next one may have"
)
def drops_the_rest(g, x, z, eps, k):
    best = np.sort(np.abs(g) * _room(g, x, eps))[::-1]
    whole = int(k)
    return best[:whole].sum() + (k - whole) * best[whole : whole + 1].sum() - g @ (z - x)


# -------------------------------------------------------------------------- every zero of FOSC

zero_losses = Check("ex-every-zero", "zero_losses")


def _separable(rng: np.random.Generator) -> list[tuple]:
    h = rng.uniform(1, 3, 7)
    small = rng.uniform(0.2, 0.6, 7) * h * rng.choice([-1, 1], 7)
    mixed = np.array([small[2], small[3], 1.5 * h[4]])  # the third slope has one sign
    steep = np.array([1.7 * h[5], small[6]])
    return [
        (np.diag(h[:2]), small[:2]),
        (np.diag(h[2:5] * [-1, 1, 1]), mixed),
        (np.diag(-h[5:]), steep),
    ]


def _line_zeros(h: float, b: float) -> list[float]:
    """Where FOSC vanishes for h t^2 / 2 + b t on [-1, 1]: look at the sign of the slope."""
    t = np.linspace(-1, 1, 4000)
    slope = h * t + b
    change = np.flatnonzero(slope[:-1] * slope[1:] < 0)
    inside = [t[i] - slope[i] * (t[i + 1] - t[i]) / (slope[i + 1] - slope[i]) for i in change]
    return [-1.0] * int(slope[0] < 0) + inside + [1.0] * int(slope[-1] > 0)


@zero_losses.property("for separate variables the zeros on the lines combine to those in the cube")
def _(ask: Callable) -> None:
    for (H, b), got in answers(ask, _separable(ask.rng)):
        points = np.array(list(itertools.product(*map(_line_zeros, np.diag(H), b))))
        want = np.sort((points**2 / 2) @ np.diag(H) + points @ b)
        close(numbers(got, want.shape), want, "the sorted losses")


def _stationary(H: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every face: which coordinates are free, and the point of zero slope in those."""
    found = []
    for state in itertools.product((-1, 0, 1), repeat=len(b)):
        z, free = np.array(state, float), np.array(state) == 0
        z[free] = np.linalg.solve(H[np.ix_(free, free)], -(b + H @ z)[free]) if free.any() else 0
        found.append((free, z))
    return found


def coupled(rng: np.random.Generator, d: int, sign: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A loss in which nothing is a tie; with a sign, the eigenvalues of H have it."""
    while True:
        H = symmetric(rng, d)
        H += sign * (np.abs(np.linalg.eigvalsh(H)).max() + 0.5) * np.eye(d)
        b = rng.uniform(-0.6, 0.6, d)
        blocks = [
            H[np.ix_(part, part)]
            for n in range(1, d + 1)
            for part in itertools.combinations(range(d), n)
        ]
        if min(abs(np.linalg.eigvalsh(block)).min() for block in blocks) < 0.2:
            continue
        gaps = [
            np.append(np.abs(z[free]) - 1, ((H @ z + b) * z)[~free])
            for free, z in _stationary(H, b)
        ]
        if np.abs(np.concatenate(gaps)).min() > 0.01:
            return H, b


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
            if out[i] + part * (out[i + 1] - out[i]) > 0:
                found.append(edge[i] + part * (edge[i + 1] - edge[i]))
        if axis == 0:  # each corner once
            ends = [(0, -along[0]), (3999, along[-1])]
            found += [edge[i] for i, push in ends if out[i] > 0 and push > 0]
    return np.sort([z @ H @ z / 2 + b @ z for z in found])


@zero_losses.property("for coupled variables a walk along the edges of the square finds the same")
def _(ask: Callable) -> None:
    for (H, b), got in answers(ask, [coupled(ask.rng, 2) for _ in range(3)]):
        want = _square_losses(H, b)
        close(numbers(got, want.shape), want, "the sorted losses")


def _faces(H, b, kinds, sign=1.0):
    """Losses at the stationary points of the faces with so many free coordinates as `kinds`."""
    losses = []
    for free, z in _stationary(H, b):
        pushes = sign * (z * (H @ z + b))[~free]
        inside = np.abs(z[free]).max(initial=0) <= 1
        if free.sum() in kinds and inside and (pushes >= 0).all():
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
    for free, z in _stationary(H, b):
        block = H[np.ix_(free, free)]
        concave = not free.any() or np.linalg.eigvalsh(block).max() < 0
        push = (z * (H @ z + b))[~free]
        if concave and np.abs(z[free]).max(initial=0) <= 1 and (push >= 0).all():
            losses.append(z @ H @ z / 2 + b @ z)
    return np.sort(losses)


# ------------------------------------------------------ a network without curvature, broken proof

broken_relu = Check("ex-broken-relu", "relu_counterexample", ("relu_step",))

RELU_STEP = 3
RELU_STEPS = {
    1: "Step 1 is right: with all signs of the units fixed, the margin is an affine function.",
    2: "Step 2 is right: faces of finitely many polyhedra have no volume.",
    4: "Step 4 is right if step 3 is: the corollary allows every beta, also 0.",
    5: "Step 5 is right if step 4 is: nothing in the ball has a larger loss.",
}
KINK_AT_X = "Your function has a kink at x = 0 itself: there is no gradient to follow"
NO_KINK = "No kink in the ball: there the loss is affine, and FGSM is exact"


def relu_loss(units: np.ndarray, z: np.ndarray) -> np.ndarray:
    """f(z) = sum of a max(w z + b, 0) over the rows (a, w, b), for an array of inputs."""
    return np.maximum(np.multiply.outer(z, units[:, 1]) + units[:, 2], 0) @ units[:, 0]


def judge_relu(ask: Callable, radii: list[float]) -> None:
    """NotYet unless, for every radius, some point beats FGSM by at least the radius."""
    for (eps,), got in answers(ask, [(eps,) for eps in radii]):
        units = number_rows(got, 3, 10)
        live = units[(units[:, 0] != 0) & (units[:, 1] != 0)]
        kinks = -live[:, 2] / live[:, 1]
        here = np.abs(kinks) < 1e-6 * eps
        if abs(live[here, 0] @ np.abs(live[here, 1])) > 1e-9:  # max(z, 0) - max(-z, 0) has none
            raise NotYet(f"{KINK_AT_X}.")
        kinks = kinks[~here]
        h = min(0.5 * np.abs(kinks).min(initial=1.0), 1e-3)
        ahead, behind = relu_loss(units, np.array([h, -h]))
        slope = 0.0 if abs(ahead - behind) < 1e-12 else ahead - behind
        inside = kinks[np.abs(kinks) < eps]
        best = relu_loss(units, np.concatenate([[-eps, eps], inside])).max()
        more = best - relu_loss(units, np.array([eps * np.sign(slope)]))[0]
        if not more >= eps * (1 - 1e-9):
            known = "" if len(inside) else f" {NO_KINK}."
            raise NotYet(
                f"For eps = {eps:.3g} the largest loss exceeds that of FGSM by {more:.3g}.{known}"
            )


@broken_relu.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, RELU_STEP, RELU_STEPS)


@broken_relu.property("on your function a point of the ball beats FGSM by eps or more", 2)
def _(ask: Callable, step: Any) -> None:
    judge_relu(ask, [0.1, float(ask.rng.uniform(0.3, 0.8)), 2.0])


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

three_classes = Check("ex-three-classes", "three_classes")


def softmax_loss(W: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Cross-entropy of the logits W z with the label 0."""
    logits = z @ W.T
    return np.logaddexp.reduce(logits, axis=-1) - logits[..., 0]


def differences(f: Callable, z: np.ndarray, h: float) -> np.ndarray:
    """The gradient of `f` at `z`, from central differences."""
    return (f(z + h * np.eye(z.size)) - f(z - h * np.eye(z.size))) / (2 * h)


def one_step(W: np.ndarray, eps: float) -> tuple[float, float]:
    """Normalized FOSC of the point of FGSM, and what the best corner has more."""
    gradient = differences(lambda z: softmax_loss(W, z), np.zeros(2), 1e-5 * eps)
    point = eps * np.sign(gradient) * (np.abs(gradient) > 1e-7)
    after = differences(lambda z: softmax_loss(W, z), point, 1e-5 * eps)
    corners = corners_of(-eps * np.ones(2), eps * np.ones(2))
    values = corners @ after
    width = np.ptp(values)
    share = (values.max() - point @ after) / width if width > 1e-9 else 0.0
    return share, softmax_loss(W, corners).max() - softmax_loss(W, point)


def three_rows(ask: Callable, radii: list[float]) -> list[tuple[float, np.ndarray]]:
    """The weights given for each radius."""
    asked = [(eps, numbers(got, (3, 2))) for (eps,), got in answers(ask, [(r,) for r in radii])]
    if any(np.abs(W).max() > 1000 for _, W in asked):
        raise NotYet("Keep every weight between -1000 and 1000.")
    return asked


def _radii(rng: np.random.Generator) -> list[float]:
    return [0.1, float(rng.uniform(0.5, 1.5)), 3.0]


@three_classes.property("at the point of FGSM the normalized FOSC is at least 0.1")
def _(ask: Callable) -> None:
    for eps, W in three_rows(ask, _radii(ask.rng)):
        share = one_step(W, eps)[0]
        if not share >= 0.1:
            raise NotYet(f"For eps = {eps:.3g} it is {share:.2g}.")


@three_classes.property("another corner has a loss that is at least half a nat larger")
def _(ask: Callable) -> None:
    for eps, W in three_rows(ask, _radii(ask.rng)):
        more = one_step(W, eps)[1]
        if not more >= 0.5:
            raise NotYet(f"For eps = {eps:.3g} the best corner has {more:.2g} nats more than FGSM.")


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

fosc_values = Check("ex-batch-fosc", "fosc_values", ("effective",))

LEVEL = 64.0  # half of a batch of 128


def small_network(rng: np.random.Generator, inputs: int = 6, classes: int = 3) -> nn.Sequential:
    """A small network with batch normalization that has seen data, in training mode, float64."""
    model = nn.Sequential(
        nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Softplus(), nn.Linear(8, classes)
    ).double()
    with torch.no_grad():
        for part in model.state_dict().values():
            if part.is_floating_point():
                part.copy_(torch.as_tensor(rng.standard_normal(part.shape)))
        model[1].running_var.copy_(0.2 + model[1].running_var ** 2)
        model[1].weight.copy_(1 + model[1].weight.abs())
        model[3].weight.mul_(0.25)
    return model.train()


def small_batch(
    rng: np.random.Generator, size: int, inputs: int = 6, classes: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean inputs, some at 0 and 1, labels, and points in the ball of radius 0.2 and the box."""
    x = np.clip(rng.uniform(-0.4, 1.4, (size, inputs)), 0, 1)
    z = np.clip(x + rng.uniform(-0.2, 0.2, x.shape), 0, 1)
    return torch.as_tensor(x), torch.as_tensor(rng.integers(classes, size=size)), torch.as_tensor(z)


def _loss_of_one(model: nn.Module, z: np.ndarray, label: int) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.as_tensor(z)).numpy()
    return np.logaddexp.reduce(logits, axis=-1) - logits[..., label]


def fosc_by_corners(model: nn.Module, x: Tensor, y: Tensor, z: Tensor) -> np.ndarray:
    """Each sample alone: the gradient from differences of the loss, the maximum from corners."""
    model, out = copy.deepcopy(model).eval(), []
    for clean, label, point in zip(*(t.numpy() for t in (x, y, z)), strict=True):
        g = differences(lambda p, k=label: _loss_of_one(model, p, int(k)), point, 1e-5)
        corners = corners_of(np.maximum(clean - 0.2, 0), np.minimum(clean + 0.2, 1))
        out.append(((corners - point) @ g).max())
    return np.array(out)


def unchanged(model: nn.Module, fresh: nn.Module) -> None:
    """NotYet unless `model`, which came in training mode, is still like its copy `fresh`."""
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


def judge_fosc(ask: Callable, size: int) -> tuple[nn.Module, nn.Module]:
    """Compare the values of a batch with the oracle; the model, and a copy from before."""
    model, batch = small_network(ask.rng), small_batch(ask.rng, size)
    before = copy.deepcopy(model)
    got = numbers(ask(model, *batch, 0.2), (size,))
    close(got, fosc_by_corners(before, *batch), "FOSC")
    return model, before


@fosc_values.property("sample by sample it is what differences of the loss and all corners give", 2)
def _(ask: Callable, effective: Any) -> None:
    judge_fosc(ask, 12)


@fosc_values.property("the model comes back as it was", local=True)
def _(ask: Callable, effective: Any) -> None:
    unchanged(*judge_fosc(ask, 5))


def _vertices(rng: np.random.Generator) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Two classes, single precision, every sample at the corner that its gradient points to."""
    model = nn.Sequential(nn.Linear(400, 2))
    weights = rng.uniform(-0.1, 0.1, 400)
    gap = rng.uniform(0.05, 0.1, 400) * rng.choice([-1, 1], 400)  # no sign is in doubt
    with torch.no_grad():
        model[0].weight.copy_(torch.as_tensor(np.stack([weights, weights + gap])))
        model[0].bias.zero_()
    x, y = rng.uniform(0, 1, (20, 400)), rng.integers(2, size=20)
    x, y = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    direction = torch.as_tensor(np.sign(gap), dtype=torch.float32)
    return model.train(), x, y, (x + 0.1 * direction * (1 - 2 * y[:, None])).clamp(0, 1)


@fosc_values.property("in single precision it is exactly 0 at vertices, and not elsewhere")
def _(ask: Callable, effective: Any) -> None:
    model, x, y, z = _vertices(ask.rng)
    got = numbers(ask(model, x, y, z, 0.1), (len(x),))
    centre = numbers(ask(model, x, y, x, 0.1), (len(x),))
    if not (centre > 1e-4).all():
        raise NotYet("At the clean inputs FOSC is positive.")
    if (got != 0).any():
        raise NotYet(
            f"At a vertex you find {got[np.abs(got).argmax()]:.1e}: a difference of two large sums "
            "does not cancel. Sum terms that are zero one by one."
        )


def right_level(effective: Any) -> None:
    """NotYet unless `effective` is the level in force, with the reason."""
    level = number(effective)
    if level == 0.5:
        raise NotYet(
            "The *signs* of a mean loss are those of the losses, FOSC is not: each sample's "
            "gradient is 128 times too small."
        )
    if abs(level - 0.5 / 128) < 1e-6:
        raise NotYet("The other way round: what is compared with 0.5 is FOSC divided by 128.")
    if abs(level - LEVEL) > 1e-6:
        raise NotYet(f"{level:g} is not the level.")


@fosc_values.property("the level in force is right", 0)
def _(ask: Callable, effective: Any) -> None:
    right_level(effective)


def gradient_of(model, y, z, reduction="sum", training=False):
    """The gradient of the loss at `z`, of a copy of the model."""
    model = copy.deepcopy(model).train(training)
    model._forward_pre_hooks.clear()  # whoever counts rows counts those of the answer
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
    return _terms(gradient_of(model, y, z, "mean"), *_boxed(x, eps), z)


@fosc_values.mistake(
    "You left the model in training mode: batch normalization then mixes the samples of the batch"
)
def trains_while_attacking(model, x, y, z, eps):
    return _terms(gradient_of(model, y, z, training=True), *_boxed(x, eps), z)


@fosc_values.mistake("You ignore the box [0, 1]: a black pixel cannot become darker")
def leaves_the_box(model, x, y, z, eps):
    return _terms(gradient_of(model, y, z), x - eps, x + eps, z)


@fosc_values.mistake("A sign is wrong: this measures how far the loss could still *fall*")
def goes_down(model, x, y, z, eps):
    return _terms(-gradient_of(model, y, z), *_boxed(x, eps), z)


# --------------------------------------------------------------- a loss that cannot be masked

scale_free_loss = Check("ex-scale-free", "scale_free_loss")

SCALES = (1.0, 100.0, 1e4)
RADIUS = 0.1

#: Weights and biases of a network with one hidden layer, inputs that it gets right, their labels.
Defenceless = tuple[list[np.ndarray], np.ndarray, np.ndarray]


def _patterns(rng: np.random.Generator, count: int) -> Defenceless:
    """A classifier of ten noisy patterns: the logits are those of the nearest pattern."""
    patterns = 0.5 + 0.07 * rng.choice([-1, 1], (10, 64))
    y = rng.integers(10, size=count)
    x = np.clip(patterns[y] + 0.05 * rng.standard_normal((count, 64)), 0, 1)
    weights = [np.eye(64), np.zeros(64), 20 * patterns, -10 * (patterns**2).sum(axis=1)]
    right = logits_of(weights, x)[0].argmax(axis=1) == y
    return weights, x[right], y[right]


def logits_of(weights: list[np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logits, and which of the hidden units are on."""
    hidden = z @ weights[0].T + weights[1]
    return np.maximum(hidden, 0) @ weights[2].T + weights[3], hidden > 0


def _ascent(z: np.ndarray, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.clip(np.clip(z + RADIUS / 4 * np.sign(g), x - RADIUS, x + RADIUS), 0, 1)


def survivors(loss: Callable, scale: float, defenceless: Defenceless, steps: int = 10) -> float:
    """Accuracy after an attack with this loss on the network with all logits times `scale`."""
    weights, x, y = defenceless
    z, labels, h = x.copy(), np.repeat(y, 20), 1e-4 * scale
    moves = h * np.concatenate([np.eye(10), -np.eye(10)])
    for _ in range(steps):
        logits, on = logits_of(weights, z)
        values = loss((scale * logits[:, None] + moves).reshape(-1, 10), labels)
        values = numbers(values, (len(labels),)).reshape(-1, 2, 10)
        slopes = values[:, 0] - values[:, 1]  # by the logits, up to a positive factor
        z = _ascent(z, x, ((slopes @ weights[2]) * on) @ weights[0])
    return float(np.mean(logits_of(weights, z)[0].argmax(axis=1) == y))


def _least_accuracy(defenceless: Defenceless) -> float:
    """The best of attacks that push one rival's logit each: no loss is involved but differences."""
    weights, x, y = defenceless
    broken = np.zeros(len(x), bool)
    for rival in range(10):
        z = x.copy()
        for _ in range(10):
            on = logits_of(weights, z)[1]
            z = _ascent(z, x, ((weights[2][rival] - weights[2][y]) * on) @ weights[0])
            broken |= logits_of(weights, z)[0].argmax(axis=1) != y
    return float(1 - broken.mean())


def judge_attack(ask: Callable, defenceless: Defenceless, slack: float) -> None:
    """NotYet unless an attack with the loss breaks the network, whatever the scale."""
    left = [survivors(ask, scale, defenceless) for scale in SCALES]
    limit = _least_accuracy(defenceless) + slack
    for scale, share in zip(SCALES, left, strict=True):
        if not share <= limit:
            raise NotYet(
                f"With the logits times {scale:g} the accuracy after the attack is {share:.2f}; "
                f"{limit:.2f} or less is possible."
            )


@scale_free_loss.property("the loss of a sample does not depend on the others in the batch")
def _(ask: Callable) -> None:
    rng = ask.rng
    logits = 4 * rng.standard_normal((6, 10)) * np.array([1.0, 1, 10, 1, 100, 1])[:, None]
    y = rng.integers(10, size=6)
    together = numbers(ask(logits, y), (6,))
    for i in range(6):
        alone = numbers(ask(logits[i : i + 1], y[i : i + 1]), (1,))
        close(alone, together[i : i + 1], "a sample alone and in the batch", 1e-9)
    if not np.ptp(together) > 1e-9:
        raise NotYet("Your loss is the same for all samples.")


@scale_free_loss.property(
    "an attack with it breaks a classifier of ten patterns, whatever the scale of its logits"
)
def _(ask: Callable) -> None:
    judge_attack(ask, _patterns(ask.rng, 30), 0.5)  # a mistake leaves all


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

step_sizes = Check("ex-coming-to-rest", "step_sizes")

REST = 0.1


def summits(rng: np.random.Generator, count: int = 30) -> list[tuple]:
    """Concave quadratics in the cube [-1, 1]^5, with coupled coordinates, and starts."""
    out = []
    for _ in range(count):
        turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
        H = turn @ np.diag(rng.uniform(0.5, 3, 5)) @ turn.T
        starts = np.concatenate([rng.uniform(-1, 1, (20, 5)), [-np.ones(5), np.ones(5)]])
        out.append((H, rng.uniform(-1.2, 1.2, 5), starts))
    return out


def last_fosc(steps: np.ndarray, losses: list[tuple]) -> np.ndarray:
    """FOSC of the last point of sign ascent with these steps, for all losses and starts."""
    last = []
    corners = corners_of(-np.ones(5), np.ones(5))
    for H, m, z in losses:
        for gamma in steps:
            z = np.clip(z - gamma * np.sign((z - m) @ H), -1, 1)
        g = -(z - m) @ H
        last.append((g @ corners.T).max(axis=1) - (g * z).sum(axis=1))
    return np.concatenate(last)


def judge_rest(ask: Callable, count: int, losses: list[tuple]) -> None:
    """NotYet unless `count` steps come to rest on all losses, from all starts."""
    steps = numbers(ask(count), (count,))
    if (steps < 0).any() or (steps > 2).any():
        raise NotYet("Steps between 0 and 2, the width of the cube.")
    if steps.sum() < 2:
        raise NotYet("Together your steps are shorter than the cube is wide.")
    worst = last_fosc(steps, losses).max()
    if not worst < REST:
        same = np.ptp(steps) == 0
        known = " Steps of one length end in a cycle around the maximizer." if same else ""
        raise NotYet(f"The largest FOSC at the end is {worst:.2g}.{known}")


@step_sizes.property(
    "on 30 concave losses, from 22 starts each, FOSC of the last point is below 0.1", 2
)
def _(ask: Callable) -> None:
    judge_rest(ask, 50, summits(ask.rng))


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

broken_average = Check("ex-broken-average", "malicious_point", ("average_step",))

AVERAGE_STEP = 3
AVERAGE_STEPS = {
    1: "Step 1 is right: it is Danskin's theorem, with a maximizer that is Lipschitz in theta.",
    2: "Step 2 is right: FOSC bounds the distance to the maximizer under strong concavity.",
    4: "Step 4 is right: Minkowski's inequality in the mean square, whatever e depends on.",
    5: "Step 5 is right if steps 3 and 4 are.",
}


def judge_points(asked: list[tuple[float, float, Any]]) -> np.ndarray:
    """NotYet unless all points are feasible and within their tolerances, but not exact."""
    left = []
    for theta, tolerance, got in asked:
        z = number(got)
        if abs(z) > 1 + 1e-12:
            raise NotYet(f"z = {z:.3g} is not in [-1, 1].")
        left.append(max((v - z) * (theta - z) for v in (-1, 1)) / tolerance)
        if not left[-1] <= 1 + 1e-6:
            raise NotYet(
                f"For theta = {theta:.3g} and the tolerance {tolerance:.3g} you reach FOSC "
                f"{left[-1] * tolerance:.4g}."
            )
    if not max(left) >= 0.01:
        raise NotYet("Your attack is exact; it may be worse than that.")
    return np.array([number(got) for _, _, got in asked])


def judge_training(ask: Callable, tolerance: float) -> None:
    """NotYet unless training with these points comes to rest away from the minimum."""
    theta, asked = 0.5, []
    for _ in range(40):
        asked.append((theta, tolerance, ask(theta, tolerance)))
        theta -= 0.1 * (theta + number(asked[-1][2]))
        if abs(theta) > 0.5:
            raise NotYet(f"theta runs away, to {theta:.3g}.")
    judge_points(asked)
    size = np.mean([(2 * theta) ** 2 for theta, _, _ in asked[30:]])
    if not size >= tolerance**2 / 5:
        raise NotYet(f"For the tolerance {tolerance:.3g} it falls to {size:.1e}.")


@broken_average.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, AVERAGE_STEP, AVERAGE_STEPS)


@broken_average.property("the points are feasible, and their FOSC never exceeds the tolerance")
def _(ask: Callable, step: Any) -> None:
    cases = list(zip(ask.rng.uniform(-0.5, 0.5, 12), np.geomspace(0.01, 0.1, 12), strict=True))
    cases = [(float(theta), float(tolerance)) for theta, tolerance in cases]
    judge_points([(*case, got) for case, got in answers(ask, cases)])


@broken_average.property("in the long run the squared gradient stays above tolerance^2 / 5")
def _(ask: Callable, step: Any) -> None:
    judge_training(ask, float(ask.rng.uniform(0.05, 0.1)))


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

critical_m = Check("ex-early-or-late", "critical_m", ("predicted",), rtol=2e-3)


def schedules(count: int = 1200, top: float = 0.1, factor: float = 10) -> dict[str, np.ndarray]:
    """The schedules of the statement, or their like with other numbers."""
    half, part = np.arange(count) < count // 2, (np.arange(count) + 0.5) / count
    return {
        "constant": np.full(count, top),
        "divided by 10": np.where(half, top, top / factor),
        "cosine": top / 2 * (1 + np.cos(np.pi * part)),
        "linear": top * (1 - part),
        "warm-up": top * np.minimum(1, 3 * part),
    }


def _other_schedules(rng: np.random.Generator) -> dict[str, np.ndarray]:
    count = 2 * int(rng.integers(150, 300))
    return schedules(count, float(rng.uniform(0.05, 0.3)), float(rng.uniform(3, 8)))


def excess(eta: np.ndarray, m: float) -> tuple[float, float]:
    """What unit errors in the first half, or in the second, leave in the end: plain recursion."""
    early = late = 0.0
    for t, step in enumerate(eta):
        first = 2 * t < len(eta)
        early = (1 - m * step) * early + step * first
        late = (1 - m * step) * late + step * (not first)
    return early, late


@critical_m.property("slightly below this m early errors weigh more, slightly above late ones", 2)
def _(ask: Callable, predicted: Any) -> None:
    cases, found = ["divided by 10", "cosine", "linear"], _other_schedules(ask.rng)
    for name, (_, got) in zip(cases, answers(ask, [(found[n],) for n in cases]), strict=True):
        m, eta = number(got), found[name]
        if not 0 < m < 1 / eta.max():
            raise NotYet(f"For a schedule of the kind '{name}', m = {m:.3g} cannot be right.")
        early, late = excess(eta, 0.995 * m)
        if not early > late:
            raise NotYet(f"For the kind '{name}' late errors weigh more already below your m.")
        early, late = excess(eta, 1.005 * m)
        if not early < late:
            raise NotYet(f"For the kind '{name}' early errors still weigh more above your m.")


@critical_m.property("the answer is 0 where late errors weigh more for every m, and only there")
def _(ask: Callable, predicted: Any) -> None:
    cases, found = ["constant", "warm-up", "divided by 10"], _other_schedules(ask.rng)
    got = [number(m) for _, m in answers(ask, [(found[name],) for name in cases])]
    for name, m in zip(cases, got, strict=True):
        if not (abs(m) > 1e-6) == (name == "divided by 10"):
            raise NotYet(f"For a schedule of the kind '{name}' your answer is {m:.3g}.")


WRONG_SCHEDULES = {
    "constant": "with equal steps early errors are forgotten like the others, only longer.",
    "divided by 10": "hardly any optimization time passes in the second half: little is forgotten.",
    "cosine": "the second half has more optimization time than with the sudden division, and m is "
    "large enough to forget in it.",
    "linear": "a third as much time in the second half as in the first is enough to forget here.",
    "warm-up": "the early steps are the short ones here: early errors enter with less weight, and "
    "are forgotten as well.",
}


def right_predictions(predicted: Any) -> None:
    """NotYet unless `predicted` says for every schedule which half weighs more for m = 0.1."""
    known = schedules()
    if not isinstance(predicted, dict) or set(predicted) != set(known):
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(known)}.")
    if any(not isinstance(v, str) or v not in ("early", "late") for v in predicted.values()):
        raise NotYet("Every prediction should be 'early' or 'late'.")
    for name, eta in known.items():
        early, late = excess(eta, 0.1)
        if predicted[name] != ("early" if early > late else "late"):
            raise NotYet(f"'{name}': {WRONG_SCHEDULES[name]}")


@critical_m.property("the predictions for m = 0.1 are right", 0)
def _(ask: Callable, predicted: Any) -> None:
    right_predictions(predicted)


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

attack_steps = Check("ex-spend-budget", "attack_steps", rtol=1e-5)


def budgets(rng: np.random.Generator) -> list[tuple]:
    """Step sizes, constants m with m eta < 1, and total efforts."""
    m, total = rng.uniform(0.5, 0.9, 3), rng.uniform(30, 120, 3)
    eta = [np.full(12, 0.3), np.repeat([0.5, 0.05], 8), np.linspace(1.0, 0.1, 10)]
    return list(
        zip((rng.uniform(0.8, 1) * e for e in eta), m.tolist(), total.tolist(), strict=True)
    )


def final_excess(eta: np.ndarray, m: float, effort: np.ndarray) -> float:
    """The excess after training with squared errors 1 / effort."""
    a = 0.0
    for step, k in zip(eta, effort, strict=True):
        a = (1 - m * step) * a + step / k
    return a


def efforts(ask: Callable, cases: list[tuple]) -> list[tuple[tuple, np.ndarray]]:
    """The efforts given; NotYet unless they are positive and add up."""
    out = []
    for (eta, m, total), got in answers(ask, cases):
        effort = numbers(got, eta.shape)
        if (effort <= 0).any():
            raise NotYet("Without any steps an attack leaves an infinite error in this model.")
        if abs(effort.sum() - total) > 1e-5 * total:
            raise NotYet(f"The efforts add up to {effort.sum():.4g} instead of {total:.4g}.")
        out.append(((eta, m, total), effort))
    return out


@attack_steps.property("the budget is spent, and every attack gets some of it", 0)
def _(ask: Callable) -> None:
    efforts(ask, budgets(ask.rng))


@attack_steps.property("one step more would gain the same everywhere", 2)
def _(ask: Callable) -> None:
    for (eta, m, _total), effort in efforts(ask, budgets(ask.rng)):
        gains = []
        for t, k in enumerate(effort):
            less, more = effort.copy(), effort.copy()
            less[t], more[t] = k * (1 - 1e-4), k * (1 + 1e-4)
            gains.append((final_excess(eta, m, less) - final_excess(eta, m, more)) / (2e-4 * k))
        close(np.array(gains), np.full(len(eta), np.mean(gains)), "what one step more gains", 1e-3)


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

update_penalty = Check("ex-stopping-rules", "update_penalty")


def stops(slope: np.ndarray, z: np.ndarray, eps: float, rule: str, level: float) -> np.ndarray:
    """Whether the attack on f(z) = slope z, from 0, has stopped at z."""
    left = eps * slope - slope * z
    if rule == "fosc":
        return left <= level
    if rule == "normalized":
        return left <= level * (eps * slope - (-eps) * slope)
    return slope * z >= level


def penalty_by_training(u: np.ndarray, eps: float, rule: str, level: float) -> np.ndarray:
    """f = u z on [-eps, eps], x = 0: walk until the rule stops the attack, then integrate the
    training gradient, which is the end point, over u."""
    grid = np.linspace(0, u.max(), 4001)[1:] - u.max() / 8000  # midpoints
    low, high = np.zeros_like(grid), np.full_like(grid, eps)
    stops_at_once = stops(grid, low, eps, rule, level)
    for _ in range(40):
        middle = (low + high) / 2
        done = stops(grid, middle, eps, rule, level)
        low, high = np.where(done, low, middle), np.where(done, middle, high)
    area = np.append(0, np.cumsum(np.where(stops_at_once, 0, high)) * u.max() / 4000)
    return np.interp(u, np.linspace(0, u.max(), 4001), area)


def judge_penalty(ask: Callable, rule: str, cases: list[tuple]) -> None:
    """Compare the answers for (u, eps, level) with the integral of the end point."""
    asked = answers(ask, [(u, eps, rule, level) for u, eps, level in cases])
    for (u, eps, _, level), got in asked:
        want = penalty_by_training(u, eps, rule, level)
        what = f"the penalty for eps = {eps:.3g}, level = {level:.3g}"
        close(numbers(got, u.shape), want, what, 1e-4)


def _rule(rule: str, low: float, high: float) -> Callable:
    def test(ask: Callable) -> None:
        u = np.append(ask.rng.uniform(0.05, 1, 3), ask.rng.uniform(1, 3, 3))
        levels = ask.rng.uniform([low, (low + high) / 2], [(low + high) / 2, high])
        judge_penalty(ask, rule, [(u, eps, float(v)) for eps in (0.5, 2.0) for v in levels])

    return test


update_penalty.property("stopping at a level of FOSC")(_rule("fosc", 0.1, 0.4))
update_penalty.property("stopping at a level of normalized FOSC")(_rule("normalized", 0.1, 0.4))
update_penalty.property("stopping when the loss has risen")(_rule("gain", 0.1, 0.4))


@update_penalty.mistake(
    "This hinge is what the *loss* grows by; training differentiates it at a frozen point, and "
    "follows another penalty"
)
def takes_the_hinge(u, eps, rule, level):
    if rule == "fosc":
        return np.maximum(eps * u - level, 0)
    return penalty_by_training(u, eps, rule, level)


@update_penalty.mistake(
    "Normalized FOSC is divided by the whole width, 2 eps u: at x it is 1/2, not 1"
)
def divides_by_half_the_width(u, eps, rule, level):
    if rule == "normalized":
        return (1 - level) * eps * u
    return penalty_by_training(u, eps, rule, level)


@update_penalty.mistake(
    "The gain itself, at most the level, is the value of the loss, not the penalty that the update "
    "follows: the radius is level / u, not 0, where the attack stops early"
)
def caps_the_gain(u, eps, rule, level):
    if rule == "gain":
        return np.minimum(eps * u, level)
    return penalty_by_training(u, eps, rule, level)


@update_penalty.mistake(
    "No attack leaves the ball: if the gain does not reach the level, the radius is eps"
)
def leaves_the_ball(u, eps, rule, level):
    if rule == "gain":
        return level * (1 + np.log(eps * u / level))
    return penalty_by_training(u, eps, rule, level)


# -------------------------------------------------------------- an attack that drops the finished

dynamic_attack = Check("ex-drop-finished", "dynamic_attack")


def attack_case(rng: np.random.Generator, size: int, steps: int = 8) -> tuple:
    """Arguments for which a quarter of the samples stop at the clean point, some later."""
    while True:
        model, (x, y, _) = small_network(rng), small_batch(rng, size)
        at_x = np.sort(_terms(gradient_of(model, y, x), *_boxed(x, 0.2), x).numpy())
        level = float(at_x[size // 4 : size // 4 + 2].mean()) if size > 1 else float(at_x[0] / 2)
        case = model, x, y, 0.2, level, steps, 0.03
        if size == 1:
            return case
        mixed = _terms(gradient_of(model, y, x, training=True), *_boxed(x, 0.2), x)
        if (mixed > level).any():  # two of the mistakes differ
            return case


def one_by_one(model, x, y, eps, level, steps, step) -> tuple[np.ndarray, int]:
    """Every sample attacked alone, FOSC from all corners; and how many rows that takes."""
    points, rows = [], 0
    for clean, label in zip(x, y, strict=True):
        z = clean.clone()
        low, high = _boxed(clean, eps)
        corners = corners_of(low.numpy(), high.numpy())
        for _ in range(steps):
            g = gradient_of(model, label[None], z[None])[0]
            rows += 1
            if ((corners - z.numpy()) @ g.numpy()).max() <= level:
                break
            z = torch.maximum(torch.minimum(z + step * g.sign(), high), low)
        points.append(z.numpy())
    return np.array(points), rows


@dynamic_attack.property("the points are those of attacking every sample alone", 2)
def _(ask: Callable) -> None:
    case = attack_case(ask.rng, 12)
    got = numbers(ask(*case), tuple(case[1].shape))
    close(got, one_by_one(*case)[0], "the points", 1e-7)


@dynamic_attack.property("the model sees the samples that still move, and no others", local=True)
def _(ask: Callable) -> None:
    case, seen = attack_case(ask.rng, 12), []
    before = copy.deepcopy(case[0])
    case[0].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    got = numbers(ask(*case), tuple(case[1].shape))
    want, rows = one_by_one(before, *case[1:])
    close(got, want, "the points", 1e-7)
    if sum(seen) > rows + len(want):
        raise NotYet(
            f"Your attack sent {sum(seen)} rows through the model; {rows} are enough. Multiplying "
            "the step of those that have stopped by zero saves nothing."
        )


@dynamic_attack.property("the model comes back as it was", local=True)
def _(ask: Callable) -> None:
    case = attack_case(ask.rng, 12)
    before = copy.deepcopy(case[0])
    got = numbers(ask(*case), tuple(case[1].shape))
    close(got, one_by_one(before, *case[1:])[0], "the points", 1e-7)
    unchanged(case[0], before)


def masked(model, x, y, eps, level, steps, step, *, first=0, box=True, **how):
    """The attack on the whole batch, in which those that have stopped get steps of length 0."""
    low, high = _boxed(x, eps) if box else (x - eps, x + eps)
    z, moving = x.clone(), torch.ones(len(x), dtype=torch.bool)
    for k in range(steps):
        g = gradient_of(model, y, z, **how)
        if k >= first:
            moving &= _terms(g, low, high, z) > level
        z = z + step * g.sign() * moving[:, None]
        z = torch.maximum(torch.minimum(z, high), low)
    return z


@dynamic_attack.mistake(
    "You left the model in training mode: then the batch statistics, and with them the attack on "
    "each sample, depend on who else is still in the batch"
)
def attacks_in_training_mode(*args):
    return masked(*args, training=True)


@dynamic_attack.mistake(
    "You compare the level with FOSC of the *mean* loss: it is too small by the batch size, and "
    "everybody stops too early"
)
def stops_too_early(*args):
    return masked(*args, reduction="mean")


@dynamic_attack.mistake(
    "You look at FOSC only after the first step: samples that need no attack are moved all the same"
)
def always_steps_once(*args):
    return masked(*args, first=1)


@dynamic_attack.mistake("You left the box [0, 1], with the points and with FOSC")
def paints_outside(*args):
    return masked(*args, box=False)
