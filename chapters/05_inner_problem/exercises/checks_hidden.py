"""Checks of the exercises of chapter 5 that only the grader runs, and what a marker looks for.

Further sizes, limits and degenerate inputs; the oracles are linear programs, minimizers, another
library, or what a statement is about, computed in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import checks_public as public
import numpy as np
import torch
from checks_public import (
    Defenceless,
    attack_case,
    coupled,
    efforts,
    judge_attack,
    logits_of,
    number,
    small_batch,
    small_network,
    symmetric,
)
from scipy import optimize
from torch import nn

from advreg import attacks, data, networks
from coursework.checks import NotYet, Written, answers, close, numbers, right_step

# ----------------------------------------------------------------------- which coordinates flip


@public.flip_share.hidden("so it is where some entries of the first gradient are zero", 2)
def _(ask: Callable) -> None:
    cases = public.two_gradients(ask.rng, 0.4, 0.6, 3) + public.two_gradients(ask.rng, 0, 1, 4)
    for _, _, after, _ in cases:
        after[0] = 0.0  # and one entry of both
    public.judge_shares(ask, cases)


@public.flip_share.hidden("with 500 pixels it is 0 if no sign flips, 1 if all do, and a share else")
def _(ask: Callable) -> None:
    d, rng = 500, ask.rng
    x, g = rng.uniform(0, 1, d), rng.standard_normal(d)
    flipped = np.where(np.arange(d) < rng.integers(50, 450), -1.0, 1.0)
    asked = [(x, s * np.sign(g) * rng.uniform(0.1, 9, d), g, 0.05) for s in (1, -1, flipped)]
    got = [number(value) for _, value in answers(ask, asked)]
    width = np.abs(g) * (np.minimum(x + 0.05, 1) - np.maximum(x - 0.05, 0))
    close(np.array(got), np.array([0, 1, width[flipped < 0].sum() / width.sum()]), "the share")


# ------------------------------------------------------------------------------- which constant


@public.smoothness.hidden("with eight coordinates a search over all corners finds the same", 2)
def _(ask: Callable) -> None:
    root = ask.rng.standard_normal((8, 3))
    public.judge_constant(ask, [symmetric(ask.rng, 8), -root @ root.T])


@public.smoothness.hidden("with twelve coordinates and a known direction of steepest change")
def _(ask: Callable) -> None:
    """If S H S has no negative entry, S a diagonal of signs, the direction is that of S."""
    signs = ask.rng.choice([-1, 1], 12)
    H = np.abs(symmetric(ask.rng, 12)) * np.outer(signs, signs)
    v = ask.rng.standard_normal(12)
    wanted = [np.abs(H).sum(), np.abs(v).sum() ** 2]
    for (_, got), want in zip(answers(ask, [(H,), (-np.outer(v, v),)]), wanted, strict=True):
        close(got, want, "the constant")


# ----------------------------------------------------------------------------- a sparse attacker


def _sparse_by_program(g, x, z, eps, k) -> float:
    """The linear program: e = up - down, both at least 0, sums at most k eps."""
    d = len(g)
    bounds = [(0, min(eps, max(1 - t, 0))) for t in x] + [(0, min(eps, t)) for t in x]
    found = optimize.linprog(
        np.concatenate([-g, g]), A_ub=np.ones((1, 2 * d)), b_ub=[k * eps], bounds=bounds
    )
    return float(-found.fun - g @ (z - x))


@public.sparse_fosc.hidden("with twenty pixels the value is that of a linear program", 2)
def _(ask: Callable) -> None:
    public.judge_sparse(ask, public.sparse_cases(ask.rng, True, 20), _sparse_by_program)


@public.sparse_fosc.hidden("with a budget for all pixels it is a sum over the pixels")
def _(ask: Callable) -> None:
    cases = []
    for d in (1, 30):
        x, g = ask.rng.uniform(0, 1, d), ask.rng.standard_normal(d)
        z = np.clip(x + ask.rng.uniform(-0.1, 0.1, d), 0, 1)
        cases.append((g, x, z, 0.1, d + float(ask.rng.uniform(0, 2))))
    for (g, x, z, eps, _), got in answers(ask, cases):
        rooms = [np.minimum(x + eps, 1) - z, np.maximum(x - eps, 0) - z]
        close(got, np.maximum(g * rooms[0], g * rooms[1]).sum(), "FOSC with a budget for all")


@public.sparse_fosc.hidden("it is zero at the best point of the set, and only there")
def _(ask: Callable) -> None:
    d, eps, k = 6, 0.2, 2
    x, g = ask.rng.uniform(0.3, 0.7, d), ask.rng.standard_normal(d)
    e = np.zeros(d)
    best = np.argsort(np.abs(g))[-k:]
    e[best] = eps * np.sign(g[best])
    got = [number(v) for _, v in answers(ask, [(g, x, x + s * e, eps, k) for s in (1, 0.5, -1)])]
    want = eps * np.abs(g[best]).sum() * np.array([0, 0.5, 2])
    close(np.array(got), want, "FOSC on the way to the best point")


# -------------------------------------------------------------------------- every zero of FOSC


def _by_definition(H: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of all points with zero slope in some coordinates: those that no corner of the cube beats."""
    corners, losses = public.corners_of(-np.ones(len(b)), np.ones(len(b))), []
    for state in np.ndindex(*[3] * len(b)):
        ends = np.array(state) - 1.0
        rows = np.where((ends == 0)[:, None], H, np.eye(len(b)))
        z = np.linalg.solve(rows, np.where(ends == 0, -b, ends))
        if np.abs(z).max() <= 1 + 1e-12 and ((corners - z) @ (H @ z + b)).max() < 1e-9:
            losses.append(z @ H @ z / 2 + b @ z)
    return np.sort(losses)


@public.zero_losses.hidden("with three coupled variables the points are those with FOSC zero", 2)
def _(ask: Callable) -> None:
    for (H, b), got in answers(ask, [coupled(ask.rng, 3) for _ in range(6)]):
        want = _by_definition(H, b)
        close(numbers(got, want.shape), want, "the sorted losses")


@public.zero_losses.hidden("a concave loss has one such point, the maximum over a fine grid")
def _(ask: Callable) -> None:
    h = float(ask.rng.uniform(1, 2))
    cases = [(np.array([[-h]]), np.array([2 * h])), *(coupled(ask.rng, d, -1.0) for d in (2, 3))]
    for (H, b), got in answers(ask, cases):
        z = np.zeros(len(b))
        for _ in range(2000):  # projected gradient ascent: the step is below 1 / |H|
            z = np.clip(z + (H @ z + b) / np.abs(H).sum(), -1, 1)
        close(numbers(got, (1,)), [z @ H @ z / 2 + b @ z], "the loss at the maximum")


@public.zero_losses.hidden("a convex loss that is flat in the middle has all 3^d")
def _(ask: Callable) -> None:
    cases = []
    for d in (1, 2, 3):
        h = ask.rng.uniform(1, 2, d)
        cases.append((np.diag(h), 0.3 * h * ask.rng.uniform(-1, 1, d)))
    for (H, b), got in answers(ask, cases):
        d = len(b)
        ends = [[-b[i] / H[i, i], 1.0, -1.0] for i in range(d)]
        points = np.array(np.meshgrid(*ends)).reshape(d, -1).T
        want = np.sort(((points @ H) * points).sum(axis=1) / 2 + points @ b)
        close(numbers(got, (3**d,)), want, "the sorted losses")


# ------------------------------------------------------ a network without curvature, broken proof


@public.broken_relu.hidden("so it does for other radii, and the step is right", 2)
def _(ask: Callable, step: Any) -> None:
    right_step(step, public.RELU_STEP, public.RELU_STEPS)
    public.judge_relu(ask, ask.rng.uniform(0.1, 2, 5).tolist())


# ------------------------------------------------------------------- linear, with three classes


@public.three_classes.hidden("both hold for other radii", 2)
def _(ask: Callable) -> None:
    radii = np.exp(ask.rng.uniform(np.log(0.1), np.log(3), 5)).tolist()
    for eps, W in public.three_rows(ask, radii):
        point = eps * np.sign(_softmax_gradient(W, np.zeros(2)))
        after = _softmax_gradient(W, point)
        if not np.abs(after).sum() > 0:
            raise NotYet(f"For eps = {eps:.3g} the gradient at the point of FGSM is zero.")
        share = 0.5 - point @ after / (2 * eps * np.abs(after).sum())
        if not share >= 0.1:
            raise NotYet(f"For eps = {eps:.3g} the normalized FOSC is {share:.2g}.")
        corners = public.corners_of(-eps * np.ones(2), eps * np.ones(2))
        more = max(public.softmax_loss(W, c) for c in corners) - public.softmax_loss(W, point)
        if not more >= 0.5:
            raise NotYet(f"For eps = {eps:.3g} the best corner has {more:.2g} nats more than FGSM.")


def _softmax_gradient(W: np.ndarray, z: np.ndarray) -> np.ndarray:
    logits = W @ z
    p = np.exp(logits - logits.max())
    g = p[1:] @ (W[1:] - W[0]) / p.sum()
    return np.where(np.abs(g) > 1e-12 * np.abs(W).max(), g, 0.0)


# ---------------------------------------------------------------- FOSC of a batch, with torch


@public.fosc_values.hidden("a small batch is right, and the level in force too")
def _(ask: Callable, effective: Any) -> None:
    public.right_level(effective)
    public.judge_fosc(ask, 4)


@public.fosc_values.hidden("one sample, and a batch of 128, of a network with other sizes", 2)
def _(ask: Callable, effective: Any) -> None:
    model = small_network(ask.rng, 9, 4)
    batches = [small_batch(ask.rng, size, 9, 4) for size in (1, 128)]
    for (x, y, z), got in [(batch, ask(model, *batch, 0.2)) for batch in batches]:
        want = attacks.fosc(model, z, y, x, attacks.Ball(0.2)).detach().numpy()
        close(numbers(got, (len(x),)), want, f"FOSC in a batch of {len(x)}")


# --------------------------------------------------------------- a loss that cannot be masked


@cache
def _digits() -> Defenceless:
    """Weights of a network trained without attacks on digits, and images that it gets right."""
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
    right = np.flatnonzero(logits_of(weights, test)[0].argmax(axis=1) == images.test_y)
    return weights, test[right], np.asarray(images.test_y)[right]


def digits(rng: np.random.Generator | None = None, count: int = 100) -> Defenceless:
    """A network for digits, with its first images, or with some drawn from the generator."""
    weights, x, y = _digits()
    part = np.arange(count) if rng is None else rng.choice(len(y), count, replace=False)
    return weights, x[part], y[part]


@public.scale_free_loss.hidden(
    "an attack with it breaks a network for digits, whatever the scale of its logits", 2
)
def _(ask: Callable) -> None:
    judge_attack(ask, digits(ask.rng, 60), 0.4)  # nearly all survive a masked loss


@public.scale_free_loss.hidden(
    "with three classes it rises when the lead of the label shrinks, whatever the scale"
)
def _(ask: Callable) -> None:
    others = ask.rng.standard_normal((5, 2)) + np.array([-13.0, -10.0])
    y = ask.rng.integers(3, size=5)
    top = others.max(axis=1) + 2
    rivals = np.sort(others, axis=1) + np.array([-1.0, 1.0])  # the sum of the logits is the same
    cases = []
    for scale in (1e-3, 1.0, 1e6):
        far, falls, chased = (
            (scale * np.array([np.insert(r, k, t) for r, k, t in zip(*rows, strict=True)]), y)
            for rows in ((others, y, top), (others, y, top - 1), (rivals, y, top))
        )
        cases += [far, falls, far, chased]
    values = [numbers(got, (5,)) for _, got in answers(ask, cases)]
    for far, near in zip(values[::2], values[1::2], strict=True):
        if not (near - far > 1e-9 * (np.abs(near) + np.abs(far))).all():
            raise NotYet("For some logits your loss does not rise when the label loses its lead.")


# --------------------------------------------------------------------- steps that come to rest


@public.step_sizes.hidden("so it is with more steps, and from every corner of the cube", 2)
def _(ask: Callable) -> None:
    corners = public.corners_of(-np.ones(5), np.ones(5))
    losses = [(H, m, corners) for H, m, _ in public.summits(ask.rng, 20)]
    public.judge_rest(ask, int(ask.rng.integers(50, 80)), losses)


# ----------------------------------------------------- errors that do not average, broken proof


@public.broken_average.hidden("so it does for a smaller tolerance, and the step is right", 2)
def _(ask: Callable, step: Any) -> None:
    right_step(step, public.AVERAGE_STEP, public.AVERAGE_STEPS)
    public.judge_training(ask, float(ask.rng.uniform(0.01, 0.03)))


# ----------------------------------------------------------------------- early or late, again


@public.critical_m.hidden("the predictions are right, and your function agrees with them")
def _(ask: Callable, predicted: Any) -> None:
    public.right_predictions(predicted)
    known = public.schedules()
    pair = float(ask.rng.uniform(0.05, 0.2)) * np.array([1.0, 0.8])  # known numbers are not enough
    *asked, (_, other) = answers(ask, [(eta,) for eta in [*known.values(), pair]])
    close(other, 0.25 / pair[0], "the critical m for two steps", 1e-3)
    for name, (_, got) in zip(known, asked, strict=True):
        if not (number(got) > 0.1) == (predicted[name] == "early"):
            raise NotYet(f"'{name}': your function says {number(got):.3g}.")


@public.critical_m.hidden("for two steps, a > b, it is (a - b) / (a b)", 2)
def _(ask: Callable, predicted: Any) -> None:
    b = ask.rng.uniform(0.6, 0.95, 4)
    scale = np.array([1e-3, 0.1, 1.0, 30.0])
    pairs = [(s * np.array([1.0, t]),) for s, t in zip(scale, b, strict=True)]
    for (eta,), got in answers(ask, pairs):
        close(got, (eta[0] - eta[1]) / (eta[0] * eta[1]), "the critical m for two steps", 1e-3)


@public.critical_m.hidden("the order within the halves does not matter")
def _(ask: Callable, predicted: Any) -> None:
    eta = public.schedules(40, float(ask.rng.uniform(0.1, 0.3)))["linear"]
    mixed = np.concatenate([ask.rng.permutation(half) for half in np.split(eta, 2)])
    (_, first), (_, second) = answers(ask, [(eta,), (mixed,)])
    m = number(first)
    early, late = public.excess(mixed, m)
    close(second, m, "the critical m of the same steps in another order", 2e-3)
    close(early, late, "what early and late errors leave", 2e-3)


# -------------------------------------------------------------------- where to spend the budget


@public.attack_steps.hidden(
    "no other distribution that a minimizer finds ends with a smaller excess", 2
)
def _(ask: Callable) -> None:
    for (eta, m, total), effort in efforts(ask, public.budgets(ask.rng)):

        def spent(logs: np.ndarray, eta=eta, m=m, total=total) -> float:
            parts = np.exp(logs - logs.max())
            return np.log(public.final_excess(eta, m, total * parts / parts.sum()))

        best = np.exp(optimize.minimize(spent, np.zeros(len(eta)), method="BFGS").fun)
        ratio = public.final_excess(eta, m, effort) / best
        if not ratio <= 1.0001:
            raise NotYet(f"The excess is {ratio:.4g} times the least possible.")


@public.attack_steps.hidden("with m = 0 only the lengths of the steps count; one step, and two")
def _(ask: Callable) -> None:
    eta = ask.rng.uniform(0.1, 1, 30) ** 2
    a, b, m = ask.rng.uniform(0.3, 0.9, 3).tolist()
    cases = [(eta, 0.0, 17.0), (eta[:1], 0.5, 3.0), (np.array([a, b]), m, 11.0)]
    (_, many), (_, one), (_, two) = efforts(ask, cases)
    close(many**2 / eta, np.full(30, np.mean(many**2 / eta)), "squared effort over step", 1e-5)
    close(one, [3.0], "the only effort", 1e-5)
    close(two[0] ** 2 / two[1] ** 2, a * (1 - m * b) / b, "the squared quotient of two", 1e-5)


# ----------------------------------------------------------------- penalties of stopping rules


@public.update_penalty.hidden("its slope is the radius at which the attack stops")
def _(ask: Callable) -> None:
    eps, h, cases = float(ask.rng.uniform(0.3, 1.5)), 1e-2, []
    for rule in ("fosc", "normalized", "gain"):
        level = float(ask.rng.uniform(0.1, 0.3))
        kink = level / eps
        u = kink * np.append(ask.rng.uniform(0.3, 0.9, 3), ask.rng.uniform(1.1, 5, 4))
        cases += [(u * (1 + s * h), eps, rule, level) for s in (-1, 1)]
    asked = [(case, numbers(got, (7,))) for case, got in answers(ask, cases)]
    for (down, low), (up, high) in zip(asked[::2], asked[1::2], strict=True):
        u, (_, _, rule, level) = (down[0] + up[0]) / 2, down
        walk = np.linspace(0, eps, 20_001)
        stopped = public.stops(u[:, None], walk, eps, rule, level)
        radius = np.where(stopped.any(axis=1), walk[stopped.argmax(axis=1)], eps)
        close((high - low) / (up[0] - down[0]), radius, f"the slope for the rule {rule!r}", 5e-3)


@public.update_penalty.hidden("it is 0 where FOSC is small at once, and eps u where the gain is")
def _(ask: Callable) -> None:
    level = float(ask.rng.uniform(0.5, 1))
    u = np.append(ask.rng.permutation(np.linspace(0.1, 1, 9)) * level, 5.0)
    asked = answers(ask, [(u, 0.9, rule, level) for rule in ("fosc", "gain")])
    for (case, got), want in zip(asked, (np.zeros(9), 0.9 * u[:-1]), strict=True):
        values = numbers(got, u.shape)
        close(values[:-1], want, f"small gradients, rule {case[2]!r}", 1e-5)
        close(values[-1], public.penalty_by_training(*case)[-1], "a large gradient", 1e-4)


@public.update_penalty.hidden("with a level that stops nothing early it is eps u")
def _(ask: Callable) -> None:
    eps = float(ask.rng.uniform(0.2, 2))
    u = ask.rng.uniform(0.5, 2, 1)
    cases = [(u, eps, "fosc", 1e-9), (u, eps, "normalized", 1e-9), (u, eps, "gain", 100.0)]
    for (_, _, rule, level), got in answers(ask, cases):
        close(numbers(got, (1,)), eps * u, f"the penalty for {rule!r}, level {level}", 1e-5)


# -------------------------------------------------------------- an attack that drops the finished


def _library(model, x, y, eps, level, steps, step):
    found = attacks.pgd(
        model, x, y, attacks.Ball(eps), steps=steps, step=step, threshold=level, report=False
    )
    return found.points.numpy()


@public.dynamic_attack.hidden("one sample, and a batch of 60, as another library attacks them", 2)
def _(ask: Callable) -> None:
    cases = [attack_case(ask.rng, 1, 5), attack_case(ask.rng, 60, 12)]
    for case, got in answers(ask, cases):
        want = _library(*case)
        close(numbers(got, want.shape), want, "the points", 1e-7)


@public.dynamic_attack.hidden("with the level 0 nobody stops early, with a huge one nobody moves")
def _(ask: Callable) -> None:
    model, x, y, eps, _, _, step = attack_case(ask.rng, 10)
    cases = [(model, x, y, eps, level, 6, step) for level in (0.0, 1e9)]
    (_, moved), (_, rested) = answers(ask, cases)
    close(numbers(moved, tuple(x.shape)), _library(*cases[0]), "the points for level 0", 1e-7)
    close(numbers(rested, tuple(x.shape)), x.numpy(), "the points for level 1e9", 1e-7)


@public.dynamic_attack.hidden("a single long step ends at the corner of FGSM, inside the box")
def _(ask: Callable) -> None:
    model, x, y, eps, _, _, _ = attack_case(ask.rng, 10)
    got = numbers(ask(model, x, y, eps, 0.0, 1, 3 * eps), tuple(x.shape))
    g = public.gradient_of(model, y, x).numpy()
    low, high = np.maximum(x.numpy() - eps, 0), np.minimum(x.numpy() + eps, 1)
    close(got, np.where(g > 0, high, low), "the points", 1e-7)


# ------------------------------------------------------------------------------ answers in words

WRITTEN = [
    Written(
        "ex-one-step",
        [
            ("1: g_i keeps its sign, and is not zero, on the whole set; the estimate is shown", 2),
            (
                "1: therefore the loss grows along every coordinate, and the maximizer is unique; "
                "a single step 'FGSM is best for the linearized loss' is a gap",
                2,
            ),
            ("1: the only zero of FOSC, from the characterization of its zeros", 1),
            (
                "2: an example with two zeros at equality, and one in which FGSM misses the "
                "maximum; FOSC or losses are computed, not asserted",
                2,
            ),
            ("3: beta_i = |w_i| |w|_1, so the condition is |r| > eps |w|_1", 1),
        ],
    ),
    Written(
        "ex-which-constant",
        [
            ("the factor d, with a chain of inequalities between the norms that proves it", 1),
            ("an H that attains d, such as I or the matrix of ones, and beta and |H|_2 of it", 1),
        ],
    ),
    Written(
        "ex-every-zero",
        [
            ("at most 3^d zeros, at most 2^d of them local maxima; one number each is enough", 1),
            ("PGD ends at a local maximum, one per start, and not at saddle points or minima", 1),
        ],
    ),
    Written(
        "ex-broken-relu",
        [
            (
                "says that the gradient jumps: second derivatives that vanish almost everywhere do "
                "not bound its change",
                2,
            ),
            (
                "says that no finite beta exists, or what step 3 would need, such as an absolutely "
                "continuous gradient, or no kink in the ball",
                1,
            ),
        ],
    ),
    Written(
        "ex-three-classes",
        [
            (
                "with one rival the gradient is a positive multiple of w_1 - w_0 everywhere, so "
                "that its signs, and the best corner, never change",
                2,
            ),
        ],
    ),
    Written(
        "ex-wrong-centre",
        [
            (
                "1: the identity, the ball around the start, and why z may be outside of it",
                2,
            ),
            ("2: the whole interval from -eps |g|_1 to eps |g|_1", 1),
            ("3: mean 0 and standard deviation eps |g|_2 / sqrt 3, with independence named", 2),
            ("3: both bounds, 1 / sqrt(3 d) and 1 / sqrt 3", 1),
            (
                "4: the length of the walk at which c' = 0, the room, and the two cases with their "
                "probabilities; without the mean eps |g| / 2 one point less",
                3,
            ),
        ],
    ),
    Written(
        "ex-coming-to-rest",
        [
            (
                "predicts for both lengths a cycle around the maximizer with FOSC of the order of "
                "the step; 'it gets small' for 1/25 loses one point",
                2,
            ),
            ("why they have to shrink, and what is left if they do so too slowly", 1),
            ("too fast: the steps that are left are shorter than the way to repair", 1),
        ],
    ),
    Written(
        "ex-broken-average",
        [
            (
                "says that the error is a function of theta and the sample, and nothing makes its "
                "mean zero; 'the attack is biased' alone is half of it",
                2,
            ),
            ("says what random batches do give, E g = grad phi, or repairs the bound", 1),
        ],
    ),
    Written(
        "ex-early-or-late",
        [
            (
                "names the schedules for which late holds whatever m is, the constant and the "
                "warm-up",
                1,
            ),
            (
                "gives the reason: no early step is longer than a late one, or the slope at m = 0",
                2,
            ),
        ],
    ),
    Written(
        "ex-spend-budget",
        [
            ("1: K_t proportional to sqrt(w_t), from the case of equality or a multiplier", 1),
            ("2: the factor T sum w_t / (sum sqrt(w_t))^2", 1),
            ("2: weights like exp(-s) on [0, u], both integrals, and the quotient", 2),
            (
                "3: weak attacks first pays if the weights grow, as for a constant rate, and "
                "next to nothing for small u; one of the two limits is enough",
                1,
            ),
        ],
    ),
    Written(
        "ex-stopping-rules",
        [
            ("normalized FOSC is the smaller radius, (1 - 2 level) eps for every sample", 1),
            ("the gain is the gentle one: its radius level / u decreases with the gradient", 1),
        ],
    ),
]
