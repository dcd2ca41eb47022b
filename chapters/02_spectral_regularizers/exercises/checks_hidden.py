"""Properties of the exercises of chapter 2 that only the grader tests, and what a marker looks for.

Other sizes, limits and degenerate inputs, judged by a second oracle where there is one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import checks_public as public
import numpy as np
from checks_public import answers, close, model, right_step
from scipy import integrate, linalg, special

from advreg import data, operators, spectral
from coursework.checks import Written

# ------------------------------------------------------------ the price of being diagonal


def price_by_conditioning(sigma: np.ndarray, covariance: np.ndarray, delta: float) -> float:
    """The least risks as conditional variances of Gaussian variables, by Schur complements."""
    joint = sigma[:, None] * covariance * sigma + delta**2 * np.eye(sigma.size)
    cross = covariance * sigma
    least = np.trace(covariance) - np.sum(cross * linalg.solve(joint, cross.T, assume_a="pos").T)
    power = np.diag(covariance)
    return np.sum(power - np.diag(cross) ** 2 / np.diag(joint)) / least


@public.diagonal_price.hidden(
    "modes without power or without data, one mode and many modes are no exception", points=2
)
def _(ask: Callable) -> None:
    cases = []
    for k in (1, 4, 12):
        sigma, covariance = public.correlated(ask.rng, k)
        cases.append((sigma, covariance, float(ask.rng.uniform(0.05, 1))))
        silent = np.arange(k) == 1
        cases.append((np.where(silent, 0, sigma), covariance, 0.2))
        cases.append((sigma, covariance * np.outer(~silent, ~silent), 0.2))
    for case, got in answers(ask, cases):
        close(got, price_by_conditioning(*case), f"the price for {case[0].size} modes")


@public.diagonal_price.hidden("two copies of a problem, or other units, have the same price")
def _(ask: Callable) -> None:
    sigma, covariance = public.correlated(ask.rng, 3)
    want = price_by_conditioning(sigma, covariance, 0.1)
    cases = [
        (np.tile(sigma, 2), linalg.block_diag(covariance, covariance), 0.1),
        (sigma, 1e4 * covariance, 10.0),
        (100 * sigma, covariance, 10.0),
    ]
    for (case, got), what in zip(
        answers(ask, cases), ("two copies", "a larger signal", "a larger operator"), strict=True
    ):
        close(got, want, f"the price for {what} ({case[0].size} modes)")


# -------------------------------------------------------------------- the least risk, exactly


def risk_by_zeta(first: int, a: float, b: float, delta: float) -> float:
    """Like `public.rest`, with the values of the zeta function in the place of a quadrature."""
    cut, last = delta ** (-1 / (a + b)), max(first, 1500)
    n = np.arange(first + 1, last + 1.0)
    part = np.sum(n ** (-2 * b) * (1 - 1 / (1 + (n / cut) ** (2 * (a + b)))))
    j = np.arange(6)
    series = (-1.0) ** j * cut ** (2 * j * (a + b))
    return float(part + series @ special.zeta(2 * b + 2 * j * (a + b), last + 1))


@public.least_risk.hidden("rough signals, and noise above the first mode", points=2)
def _(ask: Callable) -> None:
    cases = []
    for cut in ((30, 60), (5, 30), (0.3, 0.9)):
        a, b, cut = ask.rng.uniform((0.25, 0.55, cut[0]), (1, 0.7, cut[1]))
        cases.append((float(a), float(b), public.level(a, b, cut)))
    public.judge_risks(answers(ask, cases), risk_by_zeta)


@public.least_risk.hidden("smooth signals: four digits of a small number")
def _(ask: Callable) -> None:
    cases = []
    for cut in ((30, 60), (5, 30), (0.3, 1.8)):
        a, b, cut = ask.rng.uniform((1, 1.5, cut[0]), (2, 3, cut[1]))
        cases.append((float(a), float(b), public.level(a, b, cut)))
    public.judge_risks(answers(ask, cases))


# ------------------------------------------------------------------ trained on wrong signals


@public.training_level.hidden("the same for other decays, rougher, smoother, saturated", points=2)
def _(ask: Callable, predicted: Any) -> None:
    a, b = (float(v) for v in ask.rng.uniform((0.6, 1.6), (1.2, 2)))
    low, high = (float(v) for v in ask.rng.uniform((0.9, 0.9), (1.2, 1.2)))
    saturated = (float(ask.rng.uniform(0.4, 0.5)), 0.6, float(ask.rng.uniform(3.4, 4)))
    public.judge_levels(ask, [(a, b, low), (a, high, b), saturated])


@public.training_level.hidden("the two exponents predicted, together with a level that works")
def _(ask: Callable, predicted: Any) -> None:
    public.judge_levels(ask, [(1.0, 2.0, 1.0)])
    best = public.repaired_slope(1, 2, 1, lambda d: d ** (3 / 2))  # whatever constant `ask` has
    public.judge_exponents(predicted, public.naive_slope(), best)


# -------------------------------------------------------------------------- training a critic


@public.critic_weights.hidden("one pair or many, one mode or many", points=2)
def _(ask: Callable) -> None:
    cases = []
    for pairs, k in ((1, 1), (1, 5), (300, 12), (40, 1)):
        x = ask.rng.standard_normal((pairs, k))
        z = x + ask.rng.uniform(0.1, 3, k) * ask.rng.laplace(size=(pairs, k))
        cases.append((x, z, float(ask.rng.uniform(0.05, 5))))
    for (x, z, beta), got in answers(ask, cases):
        square = integrate.quad_vec(
            lambda t, x=x, z=z: np.mean((t * x + (1 - t) * z) ** 2, axis=0), 0, 1
        )[0]
        want = np.mean(z**2 - x**2, axis=0) / (8 * beta * square)
        close(got, want, f"the weights for {len(x)} pairs and {x.shape[1]} modes", 1e-5)


@public.critic_weights.hidden("weights for z = x, for z = 0, and in another unit")
def _(ask: Callable) -> None:
    x, z = ask.rng.standard_normal((2, 6, 3))
    cases = [(x, x, 0.5), (x, np.zeros_like(x), 0.5), (1e3 * x, 1e3 * z, 2.0)]
    wants = [np.zeros(3), np.full(3, -3 / 4), public.weights_by_parabola(x, z, 2.0)]
    for (_, got), want, what in zip(
        answers(ask, cases), wants, ("z = x", "z = 0", "a thousand times larger pairs"), strict=True
    ):
        close(got, want, f"the weights for {what}", 1e-5)


# ---------------------------------------------------------------- plug-and-play by splitting


@public.pnp_admm.hidden(
    "with the penalty predicted, it is the best linear reconstruction", points=2
)
def _(ask: Callable, penalty: Any) -> None:
    rho = public.judge_penalty(penalty)
    cases, best = [], []
    for rows, k in ((5, 4), (3, 6)):
        covariance, d = public.denoiser(ask.rng, k, 0.02**2)
        a, y = public.matrix(ask.rng, rows, k, 1.0), ask.rng.standard_normal(rows)
        best.append(public.best_linear(a, covariance, 0.01**2, y))
        cases.append((a, d, y, rho))
    for (_, x), want in zip(answers(ask, cases), best, strict=True):
        close(x, want, "the limit for your rho against the best", 1e-5)


@public.pnp_admm.hidden("no step limit: large matrices, small ones, and matrices with a kernel")
def _(ask: Callable, penalty: Any) -> None:
    cases = []
    for rows, k, size, rho in ((1, 1, 1.0, 0.7), (1, 4, 2.0, 1.5), (7, 3, 8.0, 3.0)):
        a = public.matrix(ask.rng, rows, k, size)
        cases.append((a, public.denoiser(ask.rng, k, 0.5)[1], ask.rng.standard_normal(rows), rho))
    a = np.outer(*ask.rng.uniform(0.3, 1, (2, 4)))  # rank one
    cases.append((a, public.denoiser(ask.rng, 4, 0.5)[1], ask.rng.standard_normal(4), 0.4))
    asked = answers(ask, cases)
    public.judge_limits(asked)
    for (a, d, y, rho), x in asked:
        want = np.linalg.solve(a.T @ a + rho * (np.linalg.inv(d) - np.eye(len(d))), a.T @ y)
        close(x, want, "the limit against the minimizer of the convex problem", 1e-5)


# ------------------------------------------------------------- broken proof: post-processing


@public.broken_post.hidden("the same for other decays, together with the step", points=2)
def _(ask: Callable, step: Any) -> None:
    decays = ask.rng.uniform((0.8, 1.1), (1.1, 1.5))
    deltas = (0.1, *ask.rng.uniform((0.01, 0.0035), (0.08, 0.01)))
    cases = [(*model(b, b, 4000), d) for b, d in itertools.product(decays, deltas)]
    public.judge_noise(answers(ask, cases))
    right_step(step, 4, public.POST_STEPS)


# ------------------------------------------------------------------- the best weight of a critic


@public.best_beta.hidden("any powers will do, and a single mode", points=2)
def _(ask: Callable, exponent: Any) -> None:
    cases = []
    for k in (1, 1, 6, 40):
        sigma, signal = ask.rng.uniform((0.1,), (1,), k), ask.rng.uniform((0.1,), (2,), k)
        cases.append((sigma, signal, float(ask.rng.uniform(0.05, 0.5))))
    sigma, signal, delta = cases[2]
    cases.append((sigma, 1e4 * signal, 100 * delta))
    public.judge_betas(answers(ask, cases))


@public.best_beta.hidden("the exponent predicted, together with a function that works")
def _(ask: Callable, exponent: Any) -> None:
    deltas = np.geomspace(1e-2, 1e-4, 2) * ask.rng.uniform(0.9, 1.1)
    cases = [(*model(2, 1, 600), float(d)) for d in deltas]
    others = [(*model(1, b, 300), float(deltas[0])) for b in (1, 2)]
    public.judge_betas(answers(ask, cases + others))
    # half a percent of risk is many percent of beta: the slope of the best ones, not of the answers
    public.judge_slope(exponent, public.slope(deltas, [public.search_beta(*c) for c in cases]))


# ----------------------------------------------------- when does one parameter per mode pay?


@public.break_even.hidden("signals without a law of decay", points=2)
def _(ask: Callable) -> None:
    def draw(k: int) -> tuple:
        signal = np.exp(ask.rng.uniform(-3, 1, k))
        return ask.rng.uniform(0.05, 1, k), signal, float(ask.rng.uniform(0.05, 0.5))

    cases = [public.clear_case(lambda k=k: draw(k)) for k in (2, 5, 30)]
    cases += [(sigma, 1e4 * signal, 100 * delta) for sigma, signal, delta in cases[:2]]
    public.judge_pairs(answers(ask, cases))


@public.break_even.hidden("three pairs are enough where Tikhonov's filter has the wrong shape")
def _(ask: Callable) -> None:
    def draw(b: float, low: float, high: float) -> tuple:
        return *model(1, b, 300), float(10 ** -ask.rng.uniform(low, high))

    asked = answers(
        ask,
        [
            public.clear_case(lambda: draw(2.5, 2, 3)),  # excess above 1: the answer is 3
            public.clear_case(lambda: draw(1.0, 1, 3)),  # and here it is not
        ],
    )
    public.judge_pairs(asked)


# --------------------------------------------------------------------------- leave one out


@public.loo_risk.hidden("two pairs, many pairs, data that are 0, other units", points=2)
def _(ask: Callable, excess: Any) -> None:
    cases = [public.draw_pairs(ask.rng, pairs, k) for pairs, k in ((2, 1), (40, 2), (3, 30))]
    x, y = public.draw_pairs(ask.rng, 6, 4)
    cases += [(x, np.where(np.arange(6)[:, None] == 2, 0, y)), (1e3 * x, 1e-3 * y)]
    for (x, y), got in answers(ask, cases):
        errors = []
        for m, keep in enumerate(~np.eye(len(x), dtype=bool)):
            gains = spectral.fit_gain(x[keep], y[keep])
            errors.append(np.sum((gains * y[m] - x[m]) ** 2))
        close(got, np.mean(errors), f"the estimate for {len(x)} pairs")


@public.loo_risk.hidden("the excess predicted, together with an estimate that works")
def _(ask: Callable, excess: Any) -> None:
    (case, got), *_ = answers(ask, [public.draw_pairs(ask.rng, 12, 5)])
    close(got, public.loo_by_refitting(*case), "the estimate for 12 pairs")
    public.judge_excess(excess)


# ----------------------------------------------------------- broken proof: the price of pairs


def excess_by_counts(law: np.ndarray, sigma: float, pairs: int) -> float:
    """Like `public.law_excess`, by how often each row of the law occurs in a training set."""
    x, noise, p = law.T
    y = sigma * x + noise
    power, best = p @ y**2, (p @ (x * y)) / (p @ y**2)
    total = 0.0
    for rows in itertools.combinations_with_replacement(range(len(p)), pairs):
        counts = np.bincount(rows, minlength=len(p))
        ways = math.factorial(pairs) / math.prod(math.factorial(c) for c in counts)
        square = counts @ y**2
        gain = counts @ (x * y) / square if square > 1e-12 * power else 0.0
        total += ways * np.prod(p**counts) * power * (gain - best) ** 2
    return float(total / (p @ (best * y - x) ** 2))


@public.broken_price.hidden("the same for weak and strong operators, with the step", points=2)
def _(ask: Callable, step: Any) -> None:
    cases = [(float(s),) for s in np.exp(ask.rng.uniform((-2.9, -1, 0.2), (-1, 0, 2.9)))]
    public.judge_laws(answers(ask, cases), excess_by_counts)
    right_step(step, 3, public.PRICE_STEPS)


# ------------------------------------------------------------------------- the heartbeat


def ecg_systems() -> list[tuple[np.ndarray, np.ndarray]]:
    """The two instruments of the page: singular vectors (columns) and singular values."""
    instruments = operators.Integration(public.WINDOW), operators.gaussian_blur(public.WINDOW, 2.0)
    return [(a.analyse_domain(np.eye(public.WINDOW)), a.singular_values) for a in instruments]


@public.learn.hidden("the same for a recorded heart, played forwards and backwards", points=2)
def _(ask: Callable) -> None:
    cases, futures = [], []
    for record in (data.ecg(), data.ecg()[::-1]):
        past, future = public.halves(record)
        for system, level in itertools.product(ecg_systems(), (3.0, 5.0)):
            cases.append((past, *system, level))
            futures.append(future)
    public.judge_filters(answers(ask, cases), futures)


@public.learn.hidden("the same for other instruments, which may be blind to some modes")
def _(ask: Callable) -> None:
    cases, futures = [], []
    for basis, _ in public.instruments():
        past, future = public.halves(public.heart(ask.rng))
        basis = basis[:, ask.rng.permutation(public.WINDOW)]
        sigma = np.exp(-np.arange(public.WINDOW) / ask.rng.uniform(8, 20))
        sigma[-ask.rng.integers(3, 10) :] = 0
        cases.append((past, basis, sigma, float(ask.rng.uniform(2, 8))))
        futures.append(future)
    public.judge_filters(answers(ask, cases), futures)


# -------------------------------------------------------------------------- marked by hand

WRITTEN = [
    Written(
        "ex-right-size",
        [
            (
                "1: the output power is h^2 S = Pi, and h^2 Delta <= Pi because Delta <= S. A sum "
                "without the bound mode by mode loses the point",
                1,
            ),
            (
                "2: the risk 2 Pi (1 - sqrt q) by expanding the square, and the quotient "
                "2 / (1 + sqrt q). Bounds asserted without using q between 0 and 1: one point",
                2,
            ),
            (
                "3: the condition as |h| >= sqrt(Pi / S), and why the parabola has its minimum "
                "inside. Forgetting negative gains loses a point",
                2,
            ),
            ("4: exponents 2(a + 2b) and 2b; nearly 1 below the cut-off, nearly 2 beyond it", 1),
        ],
    ),
    Written(
        "ex-forgotten-squares",
        [
            (
                "1, p >= 1: both conditions, with the cases s <= 1 and s >= 1. One condition only: "
                "one point",
                2,
            ),
            ("1, p < 1: a limit s -> 0 or s -> infinity in which a condition fails", 1),
            (
                "2: the risk for p = 1 and the quotient, equal to 1 at s = 1 only, close to 2 at "
                "both ends",
                2,
            ),
            (
                "3: finite iff p > z, from the variance alone (the bias is at most the power of "
                "the signal)",
                1,
            ),
            (
                "3: optimal order iff p > max(z, 1 - z), with the squared bias; the logarithm at "
                "equality must be noticed. Treating 2p(a + b) = 2b - 1 as optimal loses a point",
                2,
            ),
        ],
    ),
    Written(
        "ex-least-risk",
        [
            (
                "a hopeless number, from the tail 10 K^-0.1 of b = 0.55: between 10^40 and 10^50, "
                "according to the size of the risk. 'Too many', or a number without the tail: none",
                1,
            )
        ],
    ),
    Written(
        "ex-slope-two",
        [
            ("1: the slope is twice the share of the noise, and both parts are positive", 1),
            (
                "2: the share tends to 1, and the risk over delta^2 to the sum of sigma^-2 over "
                "modes with a signal. Forgetting 'with a signal' loses a point",
                2,
            ),
            (
                "3: r_n / delta^2 increases as delta falls; monotone convergence or a finite "
                "partial sum is named. Exchanging limit and sum without a reason loses a point",
                2,
            ),
            ("4: all modes are above the noise: nothing about the infinite problem", 1),
        ],
    ),
    Written(
        "ex-training-level",
        [
            ("2: the trained level is the smaller one, with the cut-off as the reason", 1),
            (
                "3: the exponent 1.375, since the filter saturates and aims at 2(a + b) + 1/2 = "
                "2.7. A rule that fails, with 1.1 as its exponent and the reason: the point as "
                "well",
                1,
            ),
        ],
    ),
    Written(
        "ex-pnp-admm",
        [
            ("1: u = -A*(Ax - y) / rho from the first step, x = z from the third", 1),
            (
                "1 and 3: rho is the inverse of a step; the claim holds for eta rho = delta^2 only",
                1,
            ),
        ],
    ),
    Written(
        "ex-broken-post",
        [
            (
                "says which hypothesis of the uniform boundedness principle fails: convergence at "
                "every point of a complete space. 'The norms are not bounded' alone is the "
                "counterexample again, and one point",
                2,
            ),
            ("says what would be needed: delta times the norm tends to 0", 1),
        ],
    ),
    Written(
        "ex-best-beta",
        [
            (
                "2: the weight at the supervised cut-off, 3 / (32 beta), compared with sigma^2 "
                "there, or a measured slope that is shown. The bare number: none",
                1,
            ),
            (
                "3: the measured factors (below 1.01 for (2, 1), 1.03 to 1.04 for (1, 2)), at two "
                "noise levels at least: they do not grow",
                1,
            ),
            (
                "3: for a <= 1/2 the variance is infinite, so all depends on the number of modes",
                1,
            ),
        ],
    ),
    Written(
        "ex-optimism",
        [
            ("1: both inequalities, the first by the minimum at g*, the second for every fit", 2),
            (
                "2: independence of zeta and y from the Gaussian law, and the projection of rank "
                "M - 1. Uncorrelated taken for independent without 'Gaussian' loses a point",
                2,
            ),
            ("3: M / (M - 2)", 1),
            ("4: the factor M (M - 1) / ((M - N)(M - N - 1)), and the numbers 1.02 and 7.9", 2),
        ],
    ),
    Written(
        "ex-loo-risk",
        [
            (
                "2: a proof that the residual is divided by 1 - h, or that the pair may be "
                "subtracted from numerator and denominator of the gain. A comparison of numbers, "
                "or refitting: one point",
                2,
            ),
            ("3: the expected risk with M - 1 pairs, not with M", 1),
        ],
    ),
    Written(
        "ex-break-even",
        [("never, if all powers are equal: then the learned filter is Tikhonov's", 1)],
    ),
    Written(
        "ex-broken-price",
        [
            (
                "says that uncorrelated is not independent, so that E[zeta | y] need not be 0, nor "
                "E[zeta^2 | y] constant: one of the two is enough. 'Not independent' alone: one "
                "point",
                2,
            ),
            (
                "names jointly Gaussian, or zeta independent of y, as what repairs the step",
                1,
            ),
        ],
    ),
    Written(
        "ex-learn",
        [
            ("says that only the signal power is unknown, and how it is estimated", 1),
            ("Tikhonov does not pass, by a computation on some record, and why: its shape", 1),
        ],
    ),
]
