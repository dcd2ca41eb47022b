"""Checks of the exercises of chapter 8 that only the grader runs, and what a marker looks for.

Ties, limits and degenerate inputs; the oracles are the number formats of numpy, the layers of the
library's networks, linear programs, and sorted sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import checks_public as public
import numpy as np
import torch
from checks_public import whole
from scipy import optimize
from torch import nn

from advreg import networks
from coursework.checks import NotYet, Written, answers, close, numbers

# ----------------------------------------------------------------------------- rounding by hand


@public.round_bits.hidden("with 24 and 11 bits it is what float32 and float16 store", 2)
def _(ask: Callable) -> None:
    x = ask.rng.uniform(0.5, 100, 50) * ask.rng.choice([-1, 1], 50)
    cases = [(x, 24), (x, 11)]
    for ((_, p), got), kind in zip(answers(ask, cases), (np.float32, np.float16), strict=True):
        if not np.array_equal(numbers(got, x.shape), x.astype(kind).astype(float)):
            raise NotYet(f"With {p} bits it is not what numpy stores as {kind.__name__}.")


@public.round_bits.hidden("ties go to the even neighbour, and zero and exact numbers stay", 2)
def _(ask: Callable) -> None:
    n = ask.rng.integers(8, 16, 6).astype(float)  # four bits
    scale = 2.0 ** np.append(ask.rng.integers(-5, 5, 5), -9)
    ties = (n + 0.5) * scale
    even = np.where(n % 2 == 0, n, n + 1) * scale
    cases = [(np.append(ties, [0.0, 1.0]), 4), (-n * scale, 4)]
    wanted = [np.append(even, [0.0, 1.0]), -n * scale]
    for (_, got), want in zip(answers(ask, cases), wanted, strict=True):
        if not np.array_equal(numbers(got, want.shape), want):
            raise NotYet("A tie, zero, or a number that needs no rounding is not right.")


@public.round_bits.mistake(
    "You keep one bit more: p significant bits are the leading one and p - 1 after it"
)
def one_bit_more(x, p):
    m, e = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(m, p + 1)), e - p - 1)


@public.round_bits.mistake(
    "A number in the middle goes to the neighbour whose last bit is 0, not always away from zero"
)
def ties_away(x, p):
    m, e = np.frexp(x)
    return np.ldexp(np.trunc(np.ldexp(m, p) + np.copysign(0.5, m)), e - p)


# ----------------------------------------------------------------------------- safe digits


@public.safe_digits.hidden("next to a change of the digits a small error costs many of them", 3)
def _(ask: Callable) -> None:
    public.judge_digits(ask, public._near_a_boundary(ask.rng) + public._measured(ask.rng, 20))


@public.safe_digits.hidden("where nothing is safe it is -1, and one decimal can be safer than none")
def _(ask: Callable) -> None:
    wide = [(float(v), float(e)) for v, e in ask.rng.uniform([1, 0.6], [9, 0.9], (4, 2))]
    halves = [(n + 0.5 + float(t), 0.01) for n, t in enumerate(ask.rng.uniform(-4e-3, 4e-3, 4), 1)]
    exact = [(float(ask.rng.uniform(1, 9)), 1e-17)]  # smaller than the last bit: 12 decimals
    rest = [case for case in halves if public._robust(*case)] + public._measured(ask.rng, 20)
    public.judge_digits(ask, wide + exact + rest)


@public.safe_digits.mistake(
    "More decimals can be safe where fewer are not: 0.5004 and 0.4996 agree with one, not with none"
)
def stops_early(value, error):
    k = -1
    while k < 12 and f"{value - error:.{k + 1}f}" == f"{value + error:.{k + 1}f}":
        k += 1
    return k


# ----------------------------------------------------------------------------- FOSC, not exactly


@public.fosc_interval.hidden("so it is where the box cuts the ball", 2)
def _(ask: Callable) -> None:
    public.judge_interval(ask, public.gradients(ask.rng, 0.0, 1.0))


@public.fosc_interval.hidden("without an error it is FOSC; with a large one it begins at 0", 2)
def _(ask: Callable) -> None:
    g, _, x, z, eps = public.gradients(ask.rng, 0.0, 1.0)[0]
    exact = public._true_fosc(g, x, z, eps)
    none, large = np.zeros_like(g), np.abs(g) * ask.rng.uniform(1, 2)
    worst = max(
        public._true_fosc(g + large * s, x, z, eps)
        for s in np.array(np.meshgrid(*[[-1, 1]] * len(g))).reshape(len(g), -1).T
    )
    cases = [(g, none, x, z, eps), (g, large, x, z, eps)]
    wanted = [[exact, exact], [0.0, worst]]
    for (_, got), want in zip(answers(ask, cases), wanted, strict=True):
        close(numbers(got, (2,)), np.array(want), "the ends of the interval")


@public.fosc_interval.mistake("You ignore the box [0, 1]: where it cuts, there is less room")
def ignores_box(g, error, x, z, eps):
    ends = [eps * np.abs(t) - (z - x) * t for t in (g - error, g + error)]
    least = np.where(np.abs(g) <= error, 0.0, np.minimum(*ends))
    return np.array([least.sum(), np.maximum(*ends).sum()])


# ----------------------------------------------------------------------------- counting


def layers(depth: int, widen: int, size: int, channels: int, classes: int) -> list[tuple]:
    """Every convolution (inputs, outputs, kernel, side of the result), then the linear layer."""
    found, inputs, side = [(channels, 16, 3, size)], 16, size
    for group in range(3):
        outputs = 16 * 2**group * widen
        for block in range((depth - 4) // 6):
            stride = 2 if group and not block else 1
            side //= stride
            found += [(inputs, outputs, 3, side), (outputs, outputs, 3, side)]
            if inputs != outputs or stride > 1:
                found.append((inputs, outputs, 1, side))
            inputs = outputs
    return [*found, (inputs, classes, 1, 1)]


def _hooked(depth: int, widen: int, size: int, channels: int, classes: int) -> int:
    """Run the library's network on no data, and count what its layers compute."""
    counts: list[int] = []

    def count(layer: nn.Module, _: tuple, result: torch.Tensor) -> None:
        counts.append(result[0].numel() * layer.weight[0].numel())

    model = networks.wide_resnet(
        depth,
        widen,
        classes,
        channels=channels,
        size=size,
        generator=torch.Generator().manual_seed(0),
    ).to("meta")
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    model(torch.empty(2, channels, size, size, device="meta"))
    return sum(counts)


def judge_count(ask: Callable, cases: list[tuple]) -> None:
    """NotYet unless the library's network computes as many."""
    for shape, got in answers(ask, cases):
        if whole(got) != _hooked(*shape):
            raise NotYet(f"For {shape} it is not {whole(got):,}.")


@public.multiply_adds.hidden("the library's network computes as many, at other sizes", 3)
def _(ask: Callable) -> None:
    rng = ask.rng
    small = (int(4 * rng.integers(2, 9)), int(rng.integers(1, 4)), int(rng.integers(2, 20)))
    judge_count(ask, [(10, 3, *small), (16, int(rng.integers(2, 4)), 28, 1, 10)])


@public.multiply_adds.hidden("so does the narrowest network")
def _(ask: Callable) -> None:
    classes = ask.rng.integers(2, 20, 2).tolist()
    judge_count(ask, [(22, 1, 12, 2, classes[0]), (10, 1, 8, 3, classes[1])])


@public.multiply_adds.mistake(
    "A convolution with stride 2 computes a quarter of the pixels: count at the side of its result"
)
def at_the_input(depth, widen, size, channels, classes):
    total, inputs, side = 9 * channels * 16 * size**2, 16, size
    for group in range(3):
        outputs = 16 * 2**group * widen
        for block in range((depth - 4) // 6):
            new = side // 2 if group and not block else side
            total += 9 * inputs * outputs * side**2 + 9 * outputs**2 * new**2
            if inputs != outputs or new != side:
                total += inputs * outputs * side**2
            side, inputs = new, outputs
    return total + inputs * classes


@public.multiply_adds.mistake("You count multiplications and additions apart; a pair is one")
def counts_twice(*shape):
    return 2 * sum(a * b * k * k * side * side for a, b, k, side in layers(*shape))


@public.multiply_adds.mistake(
    "With widen = 1 the first block has as many filters as its input, and a plain shortcut"
)
def always_a_shortcut(depth, widen, size, channels, classes):
    shape = (depth, widen, size, channels, classes)
    right = sum(a * b * k * k * side * side for a, b, k, side in layers(*shape))
    return right + (256 * size**2 if widen == 1 else 0)


# ----------------------------------------------------------------------------- the price


@public.price.hidden("attacks of any length, on any number of images", 2)
def _(ask: Callable) -> None:
    rng = ask.rng
    cases = [
        (int(rng.integers(1, 10**6)), int(e), int(k), float(rng.uniform(1, 1e4)))
        for e, k in ((1, 0), (3, 1), (120, 20))
    ]
    for plan, got in answers(ask, cases):
        close(got, public._simulated(*plan), "the hours")


# ----------------------------------------------------------------------------- uneven shares


@public.combine.hidden("one process, and processes without a share", 2)
def _(ask: Callable) -> None:
    public.judge_shares(
        ask, [public.shares(ask.rng, counts) for counts in ([4], [3, 0, 2], [1, 0])]
    )


@public.combine.hidden("many processes with one sample more or less", 1)
def _(ask: Callable) -> None:
    public.judge_shares(ask, [public.shares(ask.rng, [9] * 5 + [8] * 11, d=3)])


# ----------------------------------------------------------------------------- normalization


@public.pool.hidden("shares of one sample, whose variance is 0", 2)
def _(ask: Callable) -> None:
    cases = [public.statistics(ask.rng, counts) for counts in ([1, 1], [1, 6], [5], [1] * 7)]
    public.judge_pool(ask, cases)


@public.pool.hidden("a constant that is added to all values moves the mean only")
def _(ask: Callable) -> None:
    means, variances, counts, values = public.statistics(ask.rng, [3, 7, 2])
    shift = float(ask.rng.uniform(5, 9))
    (_, got), (_, moved) = answers(
        ask, [(means, variances, counts), (means + shift, variances, counts)]
    )
    got, moved = numbers(got, (2,)), numbers(moved, (2,))
    close(moved - got, np.array([shift, 0.0]), "what the constant does")
    mean = math.fsum(values) / len(values)
    close(got[0], mean, "the mean")
    close(got[1], math.fsum((values - mean) ** 2) / len(values), "the variance")


@public.pool.mistake("Batch normalization divides by n, not by n - 1")
def unbiased(means, variances, counts):
    w, n = counts / counts.sum(), counts.sum()
    mean = w @ means
    return np.array([mean, (w @ (variances + (means - mean) ** 2)) * n / (n - 1)])


# ----------------------------------------------------------------------------- broken proof


@public.broken_resume.hidden("so they do for other momenta, large and small", 2)
def _(ask: Callable, step: object) -> None:
    momenta = ask.rng.uniform([0.3, 0.5, 0.9], [0.4, 0.8, 0.99]).tolist()
    rates = ask.rng.uniform(0.05, 0.5, 3).tolist()
    ends = [(0.05, 0.3), (0.5, 0.99)]
    public.judge_twins(ask, step, [*zip(rates, momenta, strict=True), *ends])


# ----------------------------------------------------------------------------- two budgets


def _by_program(r: np.ndarray, eps: float) -> float:
    """The largest mean share of moved mass, at a mean cost of at most eps."""
    n = len(r)
    return float(-optimize.linprog(-np.ones(n) / n, [r / n], [eps], bounds=(0, 1)).fun)


@public.curves.hidden("with errors that are free, and against a linear program", 2)
def _(ask: Callable) -> None:
    cases = [(public.distances_of(ask.rng, 20, wrong), eps) for wrong, eps in ((3, 0.05), (8, 0.1))]
    for (r, eps), got in answers(ask, cases):
        want = [np.count_nonzero(r <= eps) / len(r), _by_program(r, eps)]
        close(numbers(got, (2,)), np.array(want), "the two errors")


@public.curves.hidden("ties, the radius 0, and a budget for everything", 2)
def _(ask: Callable) -> None:
    tied = ask.rng.permutation(np.repeat(ask.rng.uniform([0.1, 0.14, 0.18], [0.12, 0.16, 0.2]), 4))
    cases = [
        (tied, float(tied.min())),
        (tied, float(np.median(tied))),
        (public.distances_of(ask.rng, 9, 2), 0.0),
        (tied, 1.0),
    ]
    for (r, eps), got in answers(ask, cases):
        want = [np.count_nonzero(r <= eps) / len(r), _by_program(r, eps)]
        close(numbers(got, (2,)), np.array(want), "the two errors")


@public.curves.mistake("You buy dear errors first: the same budget buys more of others")
def dearest_first(r, eps):
    left, error = eps * len(r), 0.0
    for t in np.sort(r)[::-1]:
        part = min(1.0, left / t) if t > 0 else 1.0
        left, error = left - part * t, error + part
    return np.array([np.mean(r <= eps), error / len(r)])


# ----------------------------------------------------------------------------- they cross


@public.crossing.hidden("at very small and at large radii", 2)
def _(ask: Callable) -> None:
    public.judge_crossing(ask, [float(ask.rng.uniform(1e-4, 1e-3)), float(ask.rng.uniform(2, 9))])


WRITTEN = [
    Written(
        "ex-c8-interval",
        [
            ("where a term is least (0 if the entry may be 0) and largest: it is convex", 1),
            ("each term has an entry of its own, so one gradient attains all extremes at once", 1),
        ],
    ),
    Written(
        "ex-c8-statistics",
        [
            (
                "variance of the batch = mean variance + variance of the means, or the same for "
                "expectations; says that all shares have the same law",
                2,
            ),
            (
                "the variance of a mean of m of n values without replacement, derived from pairs "
                "or cited as known; with replacement, which leads to (m - 1) / m, no points here",
                2,
            ),
            ("the two put together, with the factor of the statement as the result", 1),
        ],
    ),
    Written(
        "ex-c8-broken-resume",
        [
            ("the weight after an update depends on the velocity: a sum of earlier gradients", 1),
            (
                "here the velocity is all that is missing; with attacks and batch normalization "
                "also the state of the random generator and the running statistics",
                1,
            ),
        ],
    ),
    Written(
        "ex-c8-crossing",
        [
            ("order infinity: how many distances are at most eps; order one: the smallest sums", 1),
            ("no: every purchase from the first costs at least as much, in either budget", 1),
        ],
    ),
    Written(
        "ex-c8-feature",
        [
            ("1: the score moves by at most eps times the dual norm of w, which is attained", 2),
            ("1: as the loss does not increase, the formula; it contains t alone", 1),
            ("2: the shares of the margins, or the mean of this function of them, and why", 2),
            (
                "3: an interval remains, at most as wide as the gap varies within the bins; it "
                "closes as they get finer",
                1,
            ),
        ],
    ),
]
