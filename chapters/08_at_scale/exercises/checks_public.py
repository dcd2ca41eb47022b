"""Checks of the exercises of chapter 8 that everybody may see, and the mistakes they know.

The oracles search, count what a program does, compare answers with each other, or solve a dual
problem; none uses a closed form that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from coursework.checks import Check, NotYet, answers, close, numbers, right_step


def number(value: Any) -> float:
    """The answer as one finite number, or NotYet."""
    return float(numbers(value, ()))


def whole(value: Any) -> int:
    """The answer as a whole number, or NotYet."""
    got = number(value)
    if got != round(got):
        raise NotYet(f"A whole number is expected, not {got!r}.")
    return round(got)


# ----------------------------------------------------------------------------- rounding by hand

round_bits = Check("ex-c8-rounding", "round_bits")


def judge_rounding(ask: Callable, cases: list[tuple[np.ndarray, int]]) -> None:
    """NotYet unless every answer is the nearest number of p significant bits."""
    for (x, p), got in answers(ask, cases):
        rounded = numbers(got, x.shape)
        for t, r in zip(x.tolist(), rounded.tolist(), strict=True):
            if not _few_bits(r, p):
                raise NotYet(f"{r!r} needs more than {p} significant bits.")
            unit = _spacing(t, p)
            if not abs(Fraction(r) - Fraction(t)) <= unit / 2:
                raise NotYet(f"{t:.17g} with {p} bits: {r:.17g} is not the nearest.")


def _few_bits(r: float, p: int) -> bool:
    n = abs(Fraction(r).numerator)
    while n and n % 2 == 0:
        n //= 2
    return n.bit_length() <= p


def _spacing(t: float, p: int) -> Fraction:
    """Distance of neighbours with p bits around t, found by doubling and halving."""
    size, power = abs(Fraction(t)), Fraction(1)
    if not size:
        return Fraction(0)
    while power > size:
        power /= 2
    while 2 * power <= size:
        power *= 2
    return power / 2 ** (p - 1)


def _spread(rng: np.random.Generator, n: int = 12) -> np.ndarray:
    return rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)


@round_bits.property("it is the nearest number of p bits, small or large, of either sign")
def _(ask: Callable) -> None:
    judge_rounding(ask, [(_spread(ask.rng), p) for p in (2, 8, 11)])


@round_bits.mistake("You cut the other bits off; rounding goes to the nearest number")
def cuts_off(x, p):
    bits = np.asarray(x, float).view(np.int64)  # sign, exponent, and 52 bits after the leading one
    return (bits & -(1 << (53 - p))).view(float)


@round_bits.mistake(
    "Your grid is the same for small and for large numbers: that is fixed point; in floating point "
    "the spacing grows with the number"
)
def fixed_point(x, p):
    return np.rint(np.asarray(x) * 2.0**p) / 2.0**p


# ----------------------------------------------------------------------------- safe digits

safe_digits = Check("ex-c8-digits", "safe_digits")


def judge_digits(ask: Callable, cases: list[tuple[float, float]]) -> None:
    """NotYet unless k decimals are safe and k + 1 are not."""
    for (value, error), got in answers(ask, cases):
        k = whole(got)
        if not -1 <= k <= 12:
            raise NotYet(f"Between -1 and 12, please; got {k}.")
        points = np.linspace(value - error, value + error, 41).tolist()

        def printed(decimals: int, points: list[float] = points) -> int:
            return len({f"{t:.{decimals}f}" for t in points})

        if k >= 0 and printed(k) > 1:
            raise NotYet(f"{value!r} +- {error!r}: {k} decimals are not the same for all.")
        for more in range(k + 1, 13):
            if printed(more) == 1:
                raise NotYet(f"{value!r} +- {error!r}: {more} decimals would be safe, too.")


def _measured(rng: np.random.Generator, n: int) -> list[tuple[float, float]]:
    """Values with errors, none nearer to a change of what is printed than rounding can see."""
    cases = []
    while len(cases) < n:
        value, error = float(rng.uniform(0.1, 9)), float(10.0 ** rng.uniform(-6, -2))
        if _robust(value, error):
            cases.append((value, error))
    return cases


def _robust(value: float, error: float) -> bool:
    for k in range(13):
        for t in (value - error, value + error):
            u = t * 10**k + 0.5
            if abs(u - round(u)) < 1e-3 * min(1.0, error * 10**k):
                return False
    return True


@safe_digits.property("one digit more would not be safe, one less would be given away")
def _(ask: Callable) -> None:
    judge_digits(ask, _measured(ask.rng, 30))


def _near_a_boundary(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Values next to a change of the last decimal that the size of the error would allow."""
    cases = []
    while len(cases) < 20:
        k = int(rng.integers(2, 4))
        error = float(rng.uniform(1, 4)) / 10 ** (k + 1)
        value = (int(rng.integers(10, 900)) + 0.5) / 10**k + error * float(rng.uniform(-0.5, 0.5))
        if _robust(value, error):
            cases.append((value, error))
    return cases


@safe_digits.mistake(
    "You look at the size of the error only; next to a number like 0.5, where what is printed "
    "changes, a small error is enough"
)
def size_only(value, error):
    return int(np.floor(-np.log10(2 * error)))


@safe_digits.mistake("The error goes both ways: look below the value, too")
def above_only(value, error):
    same = [k for k in range(13) if f"{value:.{k}f}" == f"{value + error:.{k}f}"]
    return max(same, default=-1)


@safe_digits.mistake("You compare digits that are cut off; printing rounds them")
def truncated(value, error):
    same = [k for k in range(13) if int((value - error) * 10**k) == int((value + error) * 10**k)]
    return max(same, default=-1)


# ----------------------------------------------------------------------------- FOSC, not exactly

fosc_interval = Check("ex-c8-interval", "fosc_interval")


def gradients(rng: np.random.Generator, low: float, high: float, d: int = 6) -> list[tuple]:
    """A computed gradient with its error, a clean input, a point of the ball.

    In every case two entries lie on the sides of the box, if it begins at `low` and ends at
    `high`, with gradients that push outward, and one has an error larger than itself.
    """
    cases = []
    for eps in rng.uniform(0.1, 0.3, 3).tolist():
        x = np.clip(rng.uniform(low - 0.2, high + 0.2, d), low, high)
        g, error = rng.standard_normal(d), rng.uniform(0.05, 0.6, d)
        x[0], x[1], x[2] = low, high, 0.5
        g[0], g[1], error[2] = -abs(g[0]), abs(g[1]), 1.5 * abs(g[2])
        z = np.clip(x + rng.uniform(-eps, eps, d), 0, 1)
        cases.append((g, error, x, z, eps))
    return cases


def _true_fosc(g, x, z, eps) -> float:
    """FOSC as the largest value at a corner of the ball in the box, coordinate by coordinate."""
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    return float(np.maximum((low - z) * g, (high - z) * g).sum())


def judge_interval(ask: Callable, cases: list[tuple]) -> None:
    """NotYet unless random gradients lie inside and the ends are attained."""
    for (g, error, x, z, eps), got in answers(ask, cases):
        low, high = numbers(got, (2,))
        drawn = [g + error * s for s in ask.rng.uniform(-1, 1, (200, len(g)))]
        # every coordinate alone on a grid that holds its ends and, if it is inside, zero
        ends = []
        for i in range(len(g)):
            grid = np.append(np.linspace(g[i] - error[i], g[i] + error[i], 9), 0.0)
            grid = grid[np.abs(grid - g[i]) <= error[i] * (1 + 1e-12)]
            pick = slice(i, i + 1)
            values = [_true_fosc(np.array([t]), x[pick], z[pick], eps) for t in grid]
            ends.append((min(values), max(values)))
        least, most = np.sum(ends, axis=0)
        values = [_true_fosc(t, x, z, eps) for t in drawn]
        if not low <= min(values) + 1e-9 or not high >= max(values) - 1e-9:
            raise NotYet("A gradient within the error has a FOSC outside your interval.")
        close(np.array([low, high]), np.array([least, most]), "the ends of the interval")


@fosc_interval.property("away from the box no gradient leaves it, and the ends are attained")
def _(ask: Callable) -> None:
    judge_interval(ask, gradients(ask.rng, 0.4, 0.6))


@fosc_interval.mistake(
    "If the error is larger than the entry, the true entry may be zero, and then it adds nothing: "
    "the least value need not be at an end"
)
def forgets_zero(g, error, x, z, eps):
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(g))).reshape(len(g), -1).T
    corners = [_true_fosc(g + error * row, x, z, eps) for row in signs]
    return np.array([min(corners), max(corners)])


@fosc_interval.mistake(
    "FOSC plus and minus 2 eps times the sum of the errors is true, but no gradient reaches it"
)
def too_wide(g, error, x, z, eps):
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    middle = np.maximum((low - z) * g, (high - z) * g).sum()
    return np.array([middle - 2 * eps * error.sum(), middle + 2 * eps * error.sum()])


# ----------------------------------------------------------------------------- counting

multiply_adds = Check("ex-c8-count", "multiply_adds")


EXAMPLES = {(28, 10, 32, 3, 10): 5_243_328_768, (10, 1, 16, 1, 10): 3_052_160}


def judge_relations(ask: Callable, depth: int, widen: int, size: int) -> None:
    """NotYet unless the examples are right, and the count grows with its arguments as it must.

    Four times as many pixels need four times as many multiplications in the convolutions, so two
    doublings of the side tell them from the linear layer; every further block costs as much as the
    one before it; and channels and classes occur in one layer each.
    """
    shapes = [(depth, widen, size * k, 2, 7) for k in (1, 2, 4)]
    shapes += [(depth + 6 * k, widen, size, 2, 7) for k in (0, 1, 2)]
    shapes += [(depth, widen, size, c, n) for c, n in ((1, 5), (3, 5), (1, 8), (3, 8))]
    got = [whole(out) for _, out in answers(ask, [*EXAMPLES, *shapes])]
    for (shape, want), value in zip(EXAMPLES.items(), got, strict=False):
        if value != want:
            raise NotYet(f"For {shape} it is {want:,}, not {value:,}.")
    a, b, c, d, e, f, g, h, i, j = got[len(EXAMPLES) :]
    if c - b != 4 * (b - a):
        raise NotYet("Twice the side has to cost four times as much in every convolution.")
    if f - e != e - d:
        raise NotYet("Every further block of a group has to cost the same.")
    if h - g != j - i or not h > g or not i > g:
        raise NotYet("Channels matter to the first layer only, and classes to the last one.")


@multiply_adds.property("two counts that are known, and how the count grows", 0)
def _(ask: Callable) -> None:
    depth, widen = int(6 * ask.rng.integers(1, 6) + 4), int(ask.rng.integers(2, 9))
    judge_relations(ask, depth, widen, int(4 * ask.rng.integers(2, 9)))


@multiply_adds.mistake("The 1x1 convolutions of the shortcuts multiply, too")
def no_shortcuts(depth, widen, size, channels, classes):
    per_pixel = 144 * channels + 2304 * widen + (2304 * depth - 13824) * widen**2
    return per_pixel * size**2 + 64 * widen * classes


@multiply_adds.mistake("These are the weights; every weight is used once for each pixel")
def counts_weights(depth, widen, size, channels, classes):
    entering = 2304 * widen + (256 * widen if widen > 1 else 0)
    return 144 * channels + entering + (16128 * depth - 87296) * widen**2 + 64 * widen * classes


# ----------------------------------------------------------------------------- the price

price = Check("ex-c8-price", "gpu_hours")


def plans(rng: np.random.Generator) -> list[tuple]:
    """Images, epochs, steps and images per second of three trainings, one without attack."""
    return [
        (int(rng.integers(1000, 60_000)), int(rng.integers(2, 60)), k, float(rng.uniform(50, 5000)))
        for k in (int(rng.integers(5, 20)), 0, int(rng.integers(1, 5)))
    ]


def _simulated(images: int, epochs: int, steps: int, rate: float) -> float:
    """Add up the passes, in thirds of a standard step: forward, back to inputs, back to weights."""
    third, seconds = 1 / rate / 3, 0.0
    for _ in range(epochs):
        for _ in range(steps):
            seconds += images * (third + third)
        seconds += images * (third + third + third)
    return seconds / 3600


@price.property("adding up the passes gives the same")
def _(ask: Callable) -> None:
    for plan, got in answers(ask, plans(ask.rng)):
        close(got, _simulated(*plan), "the hours")


@price.mistake("The update after the attack costs a standard step, too")
def no_update(images, epochs, steps, rate):
    return images * epochs * 2 * steps / (3 * rate) / 3600


@price.mistake(
    "A step of the attack goes back to the inputs only: it costs two thirds of a standard step"
)
def full_steps(images, epochs, steps, rate):
    return images * epochs * (steps + 1) / rate / 3600


@price.mistake("These are seconds")
def in_seconds(images, epochs, steps, rate):
    return 3600 * _simulated(images, epochs, steps, rate)


# ----------------------------------------------------------------------------- uneven shares

combine = Check("ex-c8-shares", "combine")


def shares(rng: np.random.Generator, counts: list[int], d: int = 5) -> tuple:
    """Gradients of samples, and what the processes hand over: their means and counts."""
    samples = [rng.standard_normal((n, d)) + rng.standard_normal(d) for n in counts]
    means = np.array([part.mean(axis=0) if len(part) else np.zeros(d) for part in samples])
    return means, np.array(counts), np.concatenate(samples)


def judge_shares(ask: Callable, cases: list[tuple]) -> None:
    """NotYet unless every answer is the mean over all samples."""
    got = answers(ask, [case[:2] for case in cases])
    for (_, mean), (_, _, samples) in zip(got, cases, strict=True):
        close(mean, sum(samples) / len(samples), "the gradient of the whole batch")


@combine.property("the mean over all samples, from shares of different sizes")
def _(ask: Callable) -> None:
    judge_shares(ask, [shares(ask.rng, counts) for counts in ([3, 5], [4, 4, 1], [7, 6, 6, 6])])


@combine.mistake("A small share counts as much as a large one in your mean")
def plain_mean(means, counts):
    return means.mean(axis=0)


@combine.mistake("These are sums over the samples, not means")
def sums(means, counts):
    return counts @ means


@combine.mistake("Dividing by the number of processes is right only if each has one sample")
def over_processes(means, counts):
    return counts @ means / len(counts)


# ----------------------------------------------------------------------------- normalization

pool = Check("ex-c8-statistics", "pool")


def statistics(rng: np.random.Generator, counts: list[int]) -> tuple:
    """Means and variances (divided by n) of shares, their counts, and all values."""
    parts = [rng.standard_normal(n) * rng.uniform(0.5, 2) + rng.normal(0, 2) for n in counts]
    means = np.array([np.mean(part) for part in parts])
    variances = np.array([np.var(part) for part in parts])
    return means, variances, np.array(counts), np.concatenate(parts)


def judge_pool(ask: Callable, cases: list[tuple]) -> None:
    """NotYet unless both are those of all values together."""
    got = answers(ask, [case[:3] for case in cases])
    for (_, pair), (*_, values) in zip(got, cases, strict=True):
        differences = values[:, None] - values  # no mean is needed for the variance
        want = [sum(values) / len(values), (differences**2).mean() / 2]
        close(numbers(pair, (2,)), np.array(want), "mean and variance of the whole batch")


@pool.property("mean and variance of all values together")
def _(ask: Callable) -> None:
    judge_pool(ask, [statistics(ask.rng, counts) for counts in ([4, 4], [3, 5, 9], [2, 2, 2, 8])])


@pool.mistake("The mean of the variances leaves out how far the shares are from one another")
def within_only(means, variances, counts):
    w = counts / counts.sum()
    return np.array([w @ means, w @ variances])


@pool.mistake("Shares of different sizes have different weights")
def unweighted(means, variances, counts):
    return np.array([means.mean(), variances.mean() + means.var()])


# ----------------------------------------------------------------------------- broken proof

broken_resume = Check("ex-c8-broken-resume", "twins", ("resume_step",))

RESUME_STEP = 3
RESUME_STEPS = {
    1: "Step 1 is right: whoever knows seed and epoch can draw the same order again.",
    2: "Step 2 is right: with the weights and the batch the gradient is known.",
    4: "Step 4 is right if step 3 is: it is an induction.",
}


def _run(theta: float, velocity: float, lr: float, momentum: float, steps: int) -> list[float]:
    """Weights of SGD with momentum on theta^2 / 2, after every step."""
    weights = []
    for _ in range(steps):
        velocity = momentum * velocity + theta
        theta -= lr * velocity
        weights.append(theta)
    return weights


def judge_twins(ask: Callable, step: Any, cases: list[tuple[float, float]]) -> None:
    """NotYet unless the step is right, and both runs meet after one update and then part."""
    right_step(step, RESUME_STEP, RESUME_STEPS)
    for (lr, momentum), got in answers(ask, cases):
        pairs = numbers(got, (2, 2))
        if np.abs(pairs).max() > 100:
            raise NotYet("Numbers of size at most 100, please.")
        one, two = (_run(*pair, lr, momentum, 2) for pair in pairs.tolist())
        if not abs(one[0] - two[0]) <= 1e-5:  # as float32 computes it
            raise NotYet(f"After one update the weights are {one[0]:.7g} and {two[0]:.7g}.")
        if not abs(one[1] - two[1]) >= 1e-3 * (1 - 1e-6):
            raise NotYet("After two updates the weights differ by less than 0.001.")


@broken_resume.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, RESUME_STEP, RESUME_STEPS)


@broken_resume.property("the step is right, and the runs meet after one update and then part")
def _(ask: Callable, step: Any) -> None:
    judge_twins(ask, step, [(float(lr), 0.9) for lr in ask.rng.uniform(0.05, 0.5, 3)])


@broken_resume.mistake("Both states are the same: from there the weights never part")
def one_run(lr, momentum):
    return np.array([[1.0, 0.0], [1.0, 0.0]])


@broken_resume.mistake(
    "With the same weight and another velocity the runs part in the first update already"
)
def same_start(lr, momentum):
    return np.array([[1.0, 0.0], [1.0, 1.0]])


# ----------------------------------------------------------------------------- two budgets

curves = Check("ex-c8-curves", "error_curves")


def distances_of(rng: np.random.Generator, n: int, wrong: int) -> np.ndarray:
    """Distances to error in no order; the first `wrong` are 0."""
    r = rng.uniform(0.02, 0.5, n)
    r[:wrong] = 0.0
    return rng.permutation(r)


def both_errors(r: np.ndarray, eps: float) -> np.ndarray:
    """W_infinity: count.  W_1: the least value of the dual at its corners, multipliers 1 / r_i."""
    prices = np.append(1 / r[r > 0], 0.0)
    dual = prices * eps + np.maximum(0, 1 - prices[:, None] * r).mean(axis=1)
    return np.array([(r <= eps).mean(), min(1.0, dual.min())])


def judge_curves(ask: Callable, cases: list[tuple[np.ndarray, float]]) -> None:
    """NotYet unless both errors are those of the dual problem."""
    for (r, eps), got in answers(ask, cases):
        close(numbers(got, (2,)), both_errors(r, eps), f"the two errors for eps = {eps:.3g}")


@curves.property("both errors, the second against its dual problem")
def _(ask: Callable) -> None:
    judge_curves(ask, [(distances_of(ask.rng, 12, 0), e) for e in (0.05, 0.1, 0.15)])


@curves.mistake("In the last image only a part of the mass moves: errors need not be whole images")
def no_fraction(r, eps):
    bought = np.searchsorted(np.cumsum(np.sort(r)), eps * len(r), side="right")
    return np.array([np.mean(r <= eps), bought / len(r)])


@curves.mistake("The budget bounds the mean distance over all images, not its sum")
def one_budget(r, eps):
    return np.array([np.mean(r <= eps), both_errors(r, eps / len(r))[1]])


@curves.mistake("An image may move by eps exactly, and at that distance there is an error already")
def open_ball(r, eps):
    return np.array([np.mean(r < eps), both_errors(r, eps)[1]])


# ----------------------------------------------------------------------------- they cross

crossing = Check("ex-c8-crossing", "two_networks")


def judge_crossing(ask: Callable, radii: list[float]) -> None:
    """NotYet unless the first network wins in the ball of order infinity and loses in that of 1."""
    for (eps,), got in answers(ask, [(e,) for e in radii]):
        try:
            count = len(got[0])
        except Exception:
            raise NotYet("Two lists of distances are expected.") from None
        if not 1 <= count <= 50:
            raise NotYet("Between 1 and 50 distances each, please.")
        first, second = numbers(got, (2, count))
        if min(first.min(), second.min()) < 0 or max(first.max(), second.max()) > 1000 * eps * (
            1 + 1e-6
        ):
            raise NotYet("Distances between 0 and 1000 eps, please.")
        a, b = both_errors(first, eps), both_errors(second, eps)
        if not a[0] + 0.05 <= b[0] + 1e-9:
            raise NotYet(f"In the ball of order infinity the errors are {a[0]:.3f} and {b[0]:.3f}.")
        if not b[1] + 0.3 <= a[1] + 1e-9:
            raise NotYet(f"In the ball of order 1 the errors are {a[1]:.3f} and {b[1]:.3f}.")


@crossing.property("one budget prefers the first network, the other the second")
def _(ask: Callable) -> None:
    judge_crossing(ask, ask.rng.uniform([0.05, 0.15, 0.4], [0.1, 0.3, 0.5]).tolist())


@crossing.mistake("Your first network is better in both: whoever is farther from every error is")
def dominated(eps):
    return np.array([[2 * eps] * 10, [eps / 2] * 10])


@crossing.mistake("That is the wrong way round: the first has to win in the ball of order infinity")
def swapped(eps):
    return np.array([[eps / 2] + [100 * eps] * 9, [1.01 * eps] * 10])
