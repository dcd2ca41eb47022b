"""The hidden checks of the exercises of chapter 4: other sizes, limits, and second oracles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import checks_public as public
import numpy as np
from scipy import optimize

from advreg import variational
from coursework.checks import NotYet, Written, answers, close, numbers, right_step

# ----------------------------------------------------------------------------- vaguelettes


@public.vaguelettes.hidden("with more data than unknowns v lies in the range of A", 2)
def _(ask: Callable) -> None:
    A = public._conditioned(ask.rng, 7, 4)
    u = public._unit_rows(ask.rng.standard_normal((6, 4)))  # redundant
    public._must_be_vaguelettes(A, u, ask(A, u))


@public.vaguelettes.hidden("with fewer data, <A x, v> = kappa <x, u> for every x", 2)
def _(ask: Callable) -> None:
    A = public._conditioned(ask.rng, 3, 5)
    u = public._unit_rows(ask.rng.standard_normal((4, 3)) @ A)
    got = ask(A, u)
    public._must_be_vaguelettes(A, u, got)
    x = ask.rng.standard_normal((20, 5))
    data, seen = x @ A.T @ np.asarray(got).T, x @ u.T
    kappa = (data * seen).sum(axis=0) / (seen**2).sum(axis=0)
    close(data / kappa, seen, "the coefficients of the data", 1e-6)


# -------------------------------------------------------------------- energy of the derivative


def _lattice(rng: np.random.Generator, taps: int) -> np.ndarray:
    """An orthonormal scaling filter, by rotations; the last one makes the sum the root of 2."""
    angle = rng.uniform(0.3, 1.2)
    low = np.array([np.cos(angle), np.sin(angle)])
    high = low[::-1] * [-1, 1]
    for place in range(4, taps + 1, 2):
        angle = rng.uniform(-1, 1)
        c, s = np.cos(angle), np.sin(angle)
        if place == taps:
            c, s = low.sum() / 2**0.5, high.sum() / 2**0.5
        left, right = np.pad(low, (0, 2)), np.pad(high, (2, 0))
        low, high = c * left + s * right, c * right - s * left
    return low


@public.difference_energy.hidden("for six and eight taps it is what the autocorrelation says", 2)
def _(ask: Callable, growth: Any) -> None:
    rng = ask.rng
    cases = [(_lattice(rng, taps), level) for taps, level in ((6, 1), (6, 4), (8, 3), (4, 6))]
    for (taps, level), got in answers(ask, cases):
        close(got, public._energy(taps, level), f"the energy at level {level}", 1e-6)


@public.difference_energy.hidden("at level 0 the difference is between whole translates", 1)
def _(ask: Callable, growth: Any) -> None:
    h = public._four_taps(ask.rng.uniform(0.6, 1.4))
    (_, whole), (_, half) = answers(ask, [(h, 0), (h, 1)])
    close(whole, 2.0, "the energy at level 0", 1e-6)
    close(half, public._energy(h, 1), "the energy at level 1", 1e-6)


# ----------------------------------------------------------- more vectors, a broken proof


@public.broken_union.hidden("the step is right, and the union is 20 % worse for larger bases", 2)
def _(ask: Callable, step: Any) -> None:
    public._must_hurt(
        ask, [(*public._bases(ask.rng, n), ask.rng.uniform(0.001, 0.01)) for n in (4, 5, 8)]
    )
    right_step(step, 4, public.UNION_STEPS)


# ------------------------------------------------------------ gains when noise knows the signal


@public.correlated_gains.hidden("noise that cancels the signal asks for a negative gain", 1)
def _(ask: Callable) -> None:
    (kappa, u, v, *_), (x, e) = public._correlated(ask.rng, 3, 1.0)
    e = e - 2 * np.linalg.solve(v, kappa[:, None] * (u @ x))
    question = (kappa, u, v, x @ x.T, e @ e.T, x @ e.T)
    got = ask(*question)
    public._must_be_best(question, np.stack([x, e]), got)
    if not (numbers(got, (3,)) < 0).any():
        raise NotYet("Some gain should be negative here.")


@public.correlated_gains.hidden(
    "for larger frames, and without correlation they are the known ones", 2
)
def _(ask: Callable) -> None:
    rng, n = ask.rng, 8
    kappa, u = rng.uniform(0.1, 2, n), public._orthogonal(rng, n)
    v = public._unit_rows(np.eye(n) + 0.2 * rng.standard_normal((n, n)))
    power, level = rng.uniform(0.1, 2, n), rng.uniform(0.01, 1)
    signal = (u.T * power) @ u
    question, samples = public._correlated(rng, n - 2, 1.0)
    public._must_be_best(question, samples, ask(*question))
    got = ask(kappa, u, v, signal, level * np.eye(n), np.zeros((n, n)))
    best = [
        optimize.minimize_scalar(
            lambda g, k=k, p=p: (g * k - 1) ** 2 * p + g**2 * level, bracket=(0, 1), tol=1e-12
        ).x
        for k, p in zip(kappa, power, strict=True)
    ]
    close(got, np.array(best), "the gains for uncorrelated noise", 1e-5)


# ------------------------------------------------------------------- prediction-error filters


@public.denoising_taps.hidden("for other orders, poles on the circle, and no coefficient", 3)
def _(ask: Callable, zero_sum: Any) -> None:
    rng = ask.rng
    cases = [(public._stable(rng, p), rng.uniform(0.6, 0.9), 0.3, p + 2) for p in (3, 4)]
    cases += [(np.zeros(0), rng.uniform(0.5, 2), 0.4, 1), (np.array([2.0, -1]), 0.8, 0.3, 4)]
    cases += [(np.array([1.0, -1.0]), rng.uniform(1, 2), 0.5, 3)]
    public._must_denoise(ask, cases)


@public.denoising_taps.hidden("tiny and large noise", 1)
def _(ask: Callable, zero_sum: Any) -> None:
    a = public._stable(ask.rng, 2)
    public._must_denoise(ask, [(a, 1.0, noise, 5) for noise in (1e-2, 10.0)])


# -------------------------------------------------------------------------- flipping of zeros


@public.same_spectrum.hidden("zeros of every kind: as many filters as there are free choices", 4)
def _(ask: Callable) -> None:
    kinds = [(3, 0), (0, 1), (2, 1), (0, 2), (1, 2)]
    cases = [(public._polynomial(ask.rng, *kind),) for kind in kinds]
    for ((k,), got), kind in zip(answers(ask, cases), kinds, strict=True):
        public._must_be_all(k, got, 2 ** sum(kind))


@public.same_spectrum.hidden(
    "one of them has all zeros inside the circle, and the largest first tap", 2
)
def _(ask: Callable) -> None:
    k = public._polynomial(ask.rng, 2, 1)
    found = numbers(ask(k), (8, 5))
    inside = [bool((np.abs(np.roots(row)) < 1).all()) for row in found]
    if sum(inside) != 1 or np.abs(found[:, 0]).argmax() != inside.index(True):
        raise NotYet("Exactly one of the filters has all zeros inside the unit circle.")
    close(abs(found[inside.index(True), 0]), _innovation(k), "its first tap", 1e-5)


def _innovation(k: np.ndarray) -> float:
    """The geometric mean of the spectrum is the squared first tap (Szegö, Kolmogorov)."""
    return float(np.exp(np.log(np.abs(np.fft.fft(k, 8192)) ** 2).mean() / 2))


# ------------------------------------------------------------------------------------ offsets


@public.mean_shift.hidden("for every potential, long filters, and the zero filter", 2)
def _(ask: Callable, limit: Any) -> None:
    rng = ask.rng
    cases = [(*public._shifted(rng, n, (2, n)), f) for n, f in ((4, np.tanh), (7, _fourth))]
    x, filters = public._shifted(rng, 9, (3, 2))
    filters[1] -= filters[1].mean()
    cases += [(x, filters, public.POTENTIALS["square"]), (x, 0 * filters[:1], np.tanh)]
    public._must_shift(ask, cases)


def _fourth(t: np.ndarray) -> np.ndarray:
    return 4 * t**3


@public.mean_shift.hidden("a solver of the package ends where you say", 1)
def _(ask: Callable, limit: Any) -> None:
    filters = np.array([[0.5, -0.3, 0.1], [0.2, 0.4, -0.9]])
    y = ask.rng.standard_normal(12) + ask.rng.uniform(0.5, 2)
    x = variational.denoise(y, filters, variational.SmoothedL1(0.2), tol=1e-10).x
    got = ask(x, filters, lambda t: t / np.hypot(t, 0.2))
    close(got, np.mean(x - y), "the mean of x - y", 1e-6)


@public.mean_shift.mistake("The sums S_j enter with their signs")
def takes_absolute_sums(x, filters, slope):
    return -sum(abs(k.sum()) * slope(public._matrix(k, x.size) @ x).mean() for k in filters)


# -------------------------------------------------------------------------------- certificate


@public.loss_interval.hidden("a minimizer anywhere in the ball is allowed for", 1)
def _(ask: Callable) -> None:
    """In five dimensions: a search over the ball finds the two ends."""
    rng = ask.rng
    x, target, gradient = rng.standard_normal((3, 5))
    gradient *= rng.uniform(0.2, 0.6) * np.linalg.norm(x - target) / np.linalg.norm(gradient)
    size = np.linalg.norm(gradient)
    ends = []
    for sign in (1, -1):
        step = rng.standard_normal(5)
        for _ in range(200):  # projected gradient descent, and ascent, on the sphere
            step += 2 * sign * -(x + step - target)
            step *= size / np.linalg.norm(step)
        ends.append(((x + step - target) ** 2).sum() / 2)
    close(ask(x, target, gradient), np.array(ends), "the interval", 1e-5)


@public.loss_interval.hidden("exact, at the target, and both", 1)
def _(ask: Callable) -> None:
    x, target, gradient = ask.rng.standard_normal((3, 4))
    loss, half = ((x - target) ** 2).sum() / 2, (gradient**2).sum() / 2
    near = public._approximate(ask.rng, 0.3)  # or a wrong formula could be right here
    cases = [(x, target, 0 * x), (x, x, gradient), (x, x, 0 * x), near]
    wants = [[loss, loss], [0, half], [0, 0], public._disc(*near[:2], np.linalg.norm(near[2]))]
    for (_, got), want in zip(answers(ask, cases), wants, strict=True):
        close(got, np.array(want), "the interval", 1e-5)


# -------------------------------------------------------------------------- implicit gradient


@public.filter_gradient.hidden("finite differences agree: more samples, as many taps as samples", 3)
def _(ask: Callable) -> None:
    cases = [public._noisy(ask.rng, n, taps) for n, taps in ((12, 5), (5, 5))]
    public._must_differentiate(ask, cases)


@public.filter_gradient.hidden("for the zero filter and for a perfect answer it is zero", 1)
def _(ask: Callable) -> None:
    k, y, target = public._noisy(ask.rng, 6, 2)
    cases = [(0 * k, y, target), (k, y, public._minimizer(y, k)), (k, y, target)]
    (_, zero), (_, perfect), (case, full) = answers(ask, cases)
    close(zero, np.zeros(2), "the gradient at the zero filter", 1e-5)
    close(perfect, np.zeros(2), "the gradient for a perfect answer", 1e-5)
    close(full, public._differences(*case), "the gradient", 1e-4)


# ---------------------------------------------------- nonexpansive, a broken proof


@public.broken_prox.hidden("the step is right, and your data serve for tiny and for huge delta", 2)
def _(ask: Callable, step: Any) -> None:
    public._must_matter(ask, [ask.rng.uniform(a, 2 * a) for a in (1e-4, 1.0, 1e4)])
    right_step(step, 4, public.PROX_STEPS)


# ------------------------------------------------------------------------------- the sandwich


def _denoised(y: np.ndarray, filters: np.ndarray, potential: Any) -> np.ndarray:
    return variational.denoise(y, filters, potential, tol=1e-10).x


@public.attack_bounds.hidden("no attack on a denoiser with zero sums leaves the interval", 2)
def _(ask: Callable, factor: Any) -> None:
    """The worst attack on a smoothed total variation, searched, is between the two."""
    rng, n = ask.rng, 10
    filters, potential = (
        rng.uniform(0.3, 0.6) * np.array([[-1.0, 1.0]]),
        variational.SmoothedL1(0.2),
    )
    y, target = rng.standard_normal(n), np.repeat(rng.standard_normal(2), n // 2)
    residual, delta = _denoised(y, filters, potential) - target, rng.uniform(0.5, 1)
    low, high = numbers(ask(residual, delta), (2,))
    close(ask(-residual, delta), np.array([low, high]), "the bounds after a change of sign", 1e-6)
    e = np.ones(n) * (1 if residual.sum() > 0 else -1)
    for _ in range(15):  # ascent: the loss is driven by its gradient, H^-1 r, here by r itself
        e *= delta / np.linalg.norm(e)
        moved = _denoised(y + e, filters, potential) - target
        if not moved @ moved <= high * (1 + 1e-6):
            raise NotYet(f"An attack reaches {moved @ moved:.4g}, which is more than {high:.4g}.")
        e = e + moved
    constant = delta / n**0.5 * (1 if residual.sum() > 0 else -1)
    moved = _denoised(y + constant, filters, potential) - target
    close(low, moved @ moved, "the lower bound, for smoothed total variation", 1e-6)
    close(high, public._worst_for_identity(residual, delta), "the upper bound", 1e-6)


@public.attack_bounds.hidden("without residual both are delta^2, without attack both are r^2", 1)
def _(ask: Callable, factor: Any) -> None:
    residual = public._residual(ask.rng, 5)
    limits = [(np.zeros(4), 0.7), (residual, 0.0), (-residual[:1], 0.5)]
    public._must_bound(ask, [*limits, (residual, 0.6), (-residual, 0.6)])  # and both signs


# -------------------------------------------------------------- plug-and-play that oscillates


@public.oscillating.hidden(
    "it does not settle in larger spaces either, or without clean signals", 2
)
def _(ask: Callable) -> None:
    cases = [public._blind(ask.rng, n, m, c) for n, m, c in ((9, 4, 3), (4, 1, 1), (3, 2, 0))]
    dependent = public._blind(ask.rng, 7, 3, 1)
    public._must_oscillate(ask, [*cases, (dependent[0], np.vstack([dependent[1]] * 2))])


# -------------------------------------------------------------------------- an unsafe denoiser


@public.pnp_gains.hidden(
    "where the denoiser leaves all, the limit inverts; where it erases, nothing", 2
)
def _(ask: Callable, step: Any) -> None:
    sigma = ask.rng.uniform([0.05, 0.1, 0.3, 0.1, 0.2], [0.2, 0.9, 1, 0.9, 0.5])
    tau, d = float(ask.rng.uniform(1.2, 1.9)), np.array([1.0, 0.0, 1.0, 0.0, 0.9])
    want = np.array([1, 0, 1, 0, 0]) / sigma
    want[4] = public._iterate(sigma[4:], d[4:], tau)[0]  # one mode that is neither
    close(ask(sigma, d, tau), want, "the gains for d = 1, d = 0, and d = 0.9", 1e-6)


@public.pnp_gains.hidden("the limit minimizes the energy with the penalty of the denoiser", 1)
def _(ask: Callable, step: Any) -> None:
    sigma, d, tau = public._modes(ask.rng, 5)
    best = [
        optimize.minimize_scalar(
            lambda x, s=s, p=1 / d_n - 1: (s * x - 1) ** 2 / 2 + p * x**2 / (2 * tau),
            bracket=(0, 1),
            tol=1e-12,
        ).x
        for s, d_n in zip(sigma, d, strict=True)
    ]
    close(ask(sigma, d, tau), np.array(best), "the minimizers for data 1", 1e-5)


# ------------------------------------------------------------------------------- what is written

WRITTEN = [
    Written(
        "ex-c4-vaguelettes",
        [
            ("v is unique: two solutions differ by an element of N(A*), orthogonal to range A", 1),
            (
                "kappa = 1 / |w| with A* w = u; it halves, because the derivative doubles: both",
                1,
            ),
        ],
    ),
    Written(
        "ex-c4-difference-energy",
        [
            ("predictions, right or wrong, compared with a table of increments", 1),
            ("E_j unbounded for haar and db2, so they have no vaguelettes; bounded for db3", 1),
        ],
    ),
    Written(
        "ex-c4-broken-union",
        [
            ("says why: what is minimized is the sum of coefficient errors, and not the risk", 1),
            ("the union's map is the mean of the two, with the decoupled gains", 1),
            ("mean risk minus a quarter of the distance (1); hence at most the worse one (1)", 2),
        ],
    ),
    Written(
        "ex-c4-box-frame",
        [
            ("independent: every c is attained, by biorthogonal vectors or an onto map", 1),
            ("dependent: sum a_i c_i = 0 for every attained c (1); the corner sign(a_i) (1)", 2),
            (
                "a regular polygon, 2K sides, inradius delta (1); corners delta / cos(pi/(2K)) (1)",
                2,
            ),
            ("R_g e = g e: truth g^2 delta^2 / cos^2(pi/(2K)), bound 2 g^2 delta^2", 1),
            ("exact for K = 2, and for large K wrong by a factor that tends to 2", 1),
        ],
    ),
    Written(
        "ex-c4-prediction-filter",
        [
            ("zero sum if and only if the coefficients sum to 1: infinite power at frequency 0", 1),
            (
                "resonance: infinite elsewhere, sum not 0; seasonal: 0 is one of four places: both",
                1,
            ),
        ],
    ),
    Written(
        "ex-c4-offset-bias",
        [
            ("proof: sums the optimality condition; the sum of K* r is S times the sum of r", 1),
            (
                "square: the bias grows with c unless S = 0; absolute value: at most sum |S|",
                1,
            ),
        ],
    ),
    Written(
        "ex-c4-certificate",
        [
            (
                "gradient strongly monotone, why (1); it is 0 at the minimizer, Cauchy-Schwarz (1)",
                2,
            ),
            ("stop rule: (1 + g/r)^2 - 1 <= 1 %, so g about r/200, or a safe variant", 1),
        ],
    ),
    Written(
        "ex-c4-implicit-gradient",
        [
            ("differentiates the optimality condition, product rule with both terms", 1),
            ("why H is invertible, and where the second derivative of phi is needed", 1),
        ],
    ),
    Written(
        "ex-c4-broken-nonexpansive",
        [
            ("says why: between 0 and delta for each denoiser, but not the same number for all", 1),
            ("true: least clean error is within delta of the best under attack, or the like", 1),
        ],
    ),
    Written(
        "ex-c4-sandwich",
        [
            ("zero sums: D(y + c) = D(y) + c, from the objective", 1),
            ("lower bound: expands |r + delta/root(N)|^2 and chooses the sign", 1),
            ("upper bound: nonexpansive, with a reason, and the triangle inequality", 1),
            ("factor root 2: the comparison of two denoisers, and the maximum at r = delta", 1),
        ],
    ),
    Written(
        "ex-c4-oscillation",
        [
            ("nonexpansive: an orthogonal reflection; on what is unseen the step does nothing", 1),
            ("the mean with I is firmly nonexpansive, hence averaged: then it settles", 1),
        ],
    ),
    Written(
        "ex-c4-unsafe-denoiser",
        [
            ("the formula: fixed point, and convergence because |d (1 - tau sigma^2)| < 1", 1),
            ("tau = s^2 / delta^2: penalty s^2 / (tau Pi) against delta^2 / Pi", 1),
            ("1/sigma on the plateau where d = 1; the noise-trained one stays bounded, why", 1),
        ],
    ),
]
