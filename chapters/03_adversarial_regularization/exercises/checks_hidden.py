"""The hidden checks of the exercises of chapter 3: other sizes, limits, and second oracles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import checks_public as public
import numpy as np
from scipy import optimize

from advreg import adversarial, linear, spectral
from coursework.checks import NotYet, Written, answers, close, numbers, right_step

# --------------------------------------------------------------- the logistic risk under attack


@public.logistic_risk.hidden("in the cross-polytope every vertex has been tried", 2)
def _(ask: Callable) -> None:
    rng = ask.rng
    vertices = np.vstack([np.eye(5), -np.eye(5)])
    w, b, X, y = public._classifier(rng, 8, 5)
    one_class = (w, 5.0, X, np.ones(8), 0.3, 1.0)  # an intercept above every weight
    sparse = (np.array([0.0, -1.5, 0.4, 1.5, 0.0]), -b, X[:1], y[:1], 0.5, 1.0)
    for case, got in answers(ask, [(w, b, X, y, 0.2, 1), one_class, sparse]):
        close(got, public._attacked_risk(*case[:5], vertices), "the risk for p = 1", 1e-5)


@public.logistic_risk.hidden("margins of plus and minus a thousand do not overflow", 1)
def _(ask: Callable) -> None:
    w, b, X, _ = public._classifier(ask.rng, 6, 2)
    size, y = np.abs(X @ w), np.sign(X @ w)
    y[size.argmax()] *= -1  # one sample is hopelessly wrong
    case = (1500 / size.max() * w, b, X, y, 0.1, 4.0)
    close(ask(*case), public._attacked_risk(*case[:5], public._circle(4.0)), "the risk", 1e-5)


# ------------------------------------------------------------------ the gap of least squares


@public.squared_gap.hidden(
    "in six dimensions one attack reaches the gap, and no other exceeds it", 2
)
def _(ask: Callable) -> None:
    rng = ask.rng
    w, r, delta = rng.standard_normal(6), rng.standard_normal(15), rng.uniform(0.3, 1)
    root = rng.standard_normal((6, 6)) + 2 * np.eye(6)
    ball = np.vstack([rng.standard_normal((200, 6)), root.T @ w])
    e = delta * (ball / np.linalg.norm(ball, axis=1, keepdims=True)) @ root.T
    worst = ((np.abs(r)[:, None] + np.abs(e @ w)) ** 2).max(axis=1)
    close(ask(w, r, root @ root.T, delta), np.mean(worst - r**2), "the gap", 1e-6)


@public.squared_gap.hidden("without residuals ridge remains, without weights nothing", 1)
def _(ask: Callable) -> None:
    w, _, C = public._regression(ask.rng)
    ellipse = public._circle(2) @ np.linalg.cholesky(C).T
    (_, ridge), (_, nothing) = answers(ask, [(w, np.zeros(4), C, 0.7), (0 * w, np.ones(4), C, 0.7)])
    close(ridge, ((0.7 * ellipse @ w) ** 2).max(), "the gap without residuals", 1e-5)
    close(nothing, 0.0, "the gap for w = 0")


# ------------------------------------------------------------- losses whose gap has no data


@public.loss_gap.hidden("other losses, any order of the residuals, and one alone", 3)
def _(ask: Callable, predicted: Any) -> None:
    rng = ask.rng
    u, place = rng.uniform(-3, 3, 11), rng.uniform(-0.5, 0.5)

    def hill(v):
        return np.exp(-3 * (v - place) ** 2)

    def two_valleys(v):
        return (v**2 - 1) ** 2

    cases = [(hill, u, 0.8), (two_valleys, u, 0.9), (np.exp, u[:1], 0.5), (np.cos, u, 4.0)]
    for case, got in answers(ask, cases):
        close(got, public._gap_of(*case), f"the gap for D = {case[2]}", 5e-3)


# --------------------------------------------------------------------- three classes, one norm


@public.class_weights.hidden("both hold for large logits, weak and strong attacks", 2)
def _(ask: Callable) -> None:
    (_, tight), (_, loose) = answers(ask, [(True,), (False,)])
    public._must_be_loose(public._weights(loose))
    logits = ask.rng.standard_normal((3, 3)) * [[0.0], [3.0], [10.0]]
    public._must_be_tight(public._weights(tight), logits, (0.01, 1.0, 3.0))


# ---------------------------------------------------------- the hinge loss, a broken proof


@public.broken_hinge.hidden("the step is right, and your data serve for tiny and for huge delta", 2)
def _(ask: Callable, step: Any) -> None:
    public._must_differ(ask, [ask.rng.uniform(a, 2 * a) for a in (1e-4, 1.0, 1e4)])
    right_step(step, 3, public.HINGE_STEPS)


# ------------------------------------------------------------------- when zero is the best model


@public.zero_radius.hidden("in five dimensions, with targets that are 0, no direction helps", 2)
def _(ask: Callable) -> None:
    rng = ask.rng
    Z = rng.standard_normal((20, 5))
    t = (Z @ rng.uniform(0.5, 1, 5) + rng.standard_normal(20)) * (np.arange(20) > 2)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=5)))
    vertices = np.vstack([np.eye(5), -np.eye(5)])
    known = [(1, corners), (np.inf, vertices)]
    cases = [((Z, t, norm, p), v) for p in (1.7, 5.0) for norm, v in known]
    asked = answers(ask, [case for case, _ in cases])
    for (case, v), (_, got) in zip(cases, asked, strict=True):
        public._must_be_zero_radius(case, got, v)


@public.zero_radius.hidden("training finds w = 0 above the radius and something below", 1)
def _(ask: Callable) -> None:
    Z = ask.rng.standard_normal((15, 4))
    t = Z @ ask.rng.uniform(0.5, 1, 4) + ask.rng.standard_normal(15)
    cases = [(Z, t, norm, 2.0) for norm in (1, 2, np.inf)] + [(100 * Z, 0.01 * t, 2, 2.0)]
    for (X, y, norm, _), got in answers(ask, cases):
        radius = float(numbers(got, ()))
        if not 0 < radius < 1e4:
            raise NotYet(f"A radius of {radius:.3g} cannot be right.")
        scale = np.linalg.norm(y) / np.linalg.norm(X)
        for factor, zero in ((0.97, False), (1.03, True)):
            found = linear.fit(X, y, factor * radius, norm, "squared", intercept=False)
            if (np.linalg.norm(found.w) < 1e-4 * scale) != zero:
                raise NotYet(f"At {factor} times your radius w is {'not ' * zero}0, norm {norm}.")


# ------------------------------------------------------------------- how long it interpolates


@public.interpolation_radius.hidden("training interpolates below the radius and not above", 2)
def _(ask: Callable) -> None:
    X, y = public._wide(ask.rng, 4, 7)
    for (features, targets), got in answers(ask, [(X, y), (10 * X, -3 * y)]):
        radius = float(numbers(got, ()))
        if not 1e-4 < radius < 1e3:
            raise NotYet(f"A radius of {radius:.3g} cannot be right.")
        for factor, exact in ((0.97, True), (1.03, False)):
            found = linear.fit(features, targets, factor * radius, 2, "squared", intercept=False)
            left = np.abs(targets - features @ found.w).max() / np.abs(targets).max()
            if (left < 1e-4) != exact:
                raise NotYet(f"At {factor} times your radius residuals are {'left' * exact or 0}.")


@public.interpolation_radius.hidden(
    "with a sample that is fitted for nothing and with 12 others", 1
)
def _(ask: Callable) -> None:
    X = ask.rng.standard_normal((13, 20))
    y = ask.rng.standard_normal(13) * (np.arange(13) > 0)
    for (features, targets), got in answers(ask, [(X, y), (2 * X, -y)]):
        radius = float(numbers(got, ()))
        lowered = [public._can_be_lowered(features, targets, f * radius) for f in (0.99, 1.01)]
        if not 1e-4 < radius < 1e2 or lowered != [False, True]:
            raise NotYet(f"The radius is not {radius:.3g}.")


# ----------------------------------------------------------------- what a random start costs


@public.reached.hidden("at the ends of every regime and for a start that hardly varies", 3)
def _(ask: Callable, best: Any) -> None:
    spread = ask.rng.uniform(0.2, 0.8)
    ends = [1 - spread, 1 + spread, 1.0, 50.0, 0.0, 1 - spread / 2]
    near = [(0.9, 1e-6), (1.1, 1e-6), (1.0, 0.0), (0.5, 0.0), (2.0, 1.0), (1.9, 1.0)]
    public._must_reach(ask, [(path, spread) for path in ends] + near)


# ------------------------------------------------------------------ the three regimes, learned


@public.almost_sure_gain.hidden("one sample, samples that are 0, large and small units", 3)
def _(ask: Callable) -> None:
    rng = ask.rng
    x = np.r_[rng.uniform(0.5, 2, 9) * rng.choice([-1, 1], 9), np.zeros(6)]
    kappa = np.mean(np.abs(x)) / np.sqrt(np.mean(x**2))
    cases = [
        (unit * x, sigma, s * sigma * unit * np.sqrt(np.mean(x**2)))
        for unit, sigma in ((1e4, 0.7), (1e-4, 30.0))
        for s in (0.9 * kappa, 0.97, 1.03, 1.1 / kappa)
    ]
    cases += [(np.array([-1.5]), 0.5, 0.7), (np.array([-1.5]), 0.5, 0.8)]
    asked = answers(ask, cases)
    got = [case[1] * float(numbers(g, ())) for case, g in asked]
    want = []
    for samples, sigma, delta in cases:
        scale = np.sqrt(np.mean(samples**2))
        want.append(public._best_gain(samples / scale, 1.0, delta / (sigma * scale)))
    close(np.array(got), np.array(want), "sigma times the gain", 1e-4)


# ----------------------------------------------------------------------------- water-filling


def _knapsack(sigma: np.ndarray, signal: np.ndarray, delta: float) -> float:
    """What erasing modes with probabilities can achieve: a linear program."""
    cost = sigma**2 * signal
    found = optimize.linprog(-signal, A_ub=[cost], b_ub=[delta**2], bounds=(0, 1))
    return -float(found.fun)


@public.water_filling.hidden(
    "ties, one mode, a budget that ends in the first or in the last mode", 2
)
def _(ask: Callable) -> None:
    rng = ask.rng
    tied = rng.permutation([0.5, 1.0, 0.5, 0.5, 1.0])
    many = rng.permutation(rng.uniform(0.8, 1.2, 30) / np.arange(1, 31))
    cases = []
    for sigma, shares in (
        (tied, (0.1, 0.7)),
        (np.array([0.4]), (0.3,)),
        (many, (1e-6, 0.5, 0.999)),
    ):
        signal = rng.uniform(0.3, 2, sigma.size)
        cases += [(sigma, signal, float(np.sqrt(s * (sigma**2 @ signal)))) for s in shares]
    for (sigma, signal, delta), got in answers(ask, [*cases, public._spectra(rng)[-1]]):
        risk = adversarial.ball_risk(public._moderate(got, sigma), sigma, signal, delta)
        ratio = risk / _knapsack(sigma, signal, delta)
        if not ratio <= 1 + 1e-4:
            raise NotYet(
                f"With {sigma.size} modes an attack makes the error {ratio:.3g} times the value."
            )


@public.water_filling.hidden("an attack of almost no energy leaves the inverse", 1)
def _(ask: Callable) -> None:
    sigma, signal = ask.rng.permutation([1.0, 0.2, 0.5, 0.7]), ask.rng.uniform(0.5, 2, 4)
    cases = [(sigma, signal, 1e-6), *public._spectra(ask.rng)]
    (_, tiny), *others = answers(ask, cases)
    close(numbers(tiny, (4,)) * sigma, np.ones(4), "sigma times the gains for delta = 1e-6", 1e-5)
    for case, got in others:
        public._must_be_best(case, got)


# ----------------------------------------------------- uncorrelated, and yet one tells the other


@public.two_mode_decoder.hidden("attacks that are rare and huge do no more harm", 3)
def _(ask: Callable) -> None:
    sizes = np.geomspace(1e-3, 1e5, 160) * ask.rng.uniform(0.9, 1.1)
    both = np.r_[-sizes, 0, sizes]
    e = np.vstack([public._grid(both, np.array([0.0])), public._grid(np.zeros(1), both)])
    public._must_be_safe(ask, np.vstack([e, public._grid(both[::8], both[::8])]))


@public.two_mode_decoder.hidden("every row is decoded by itself", 1)
def _(ask: Callable) -> None:
    clean = public.TRUTHS * public.OPERATOR
    data = np.vstack([clean, clean[[2, 0]] + ask.rng.uniform(-0.3, 0.3, (2, 2)), [[0.3, 9.0]]])
    order = ask.rng.permutation(6)
    (_, first), (_, mixed), (_, alone) = answers(ask, [(data,), (data[order],), (data[3:4],)])
    first = numbers(first, (6, 2))
    if not ((first[:3] - public.TRUTHS) ** 2).sum(axis=1).mean() < public.VALUE / 2:
        raise NotYet("Without any attack the error is more than V/2 already.")
    close(mixed, first[order], "the answers in another order", 1e-5)
    close(alone, first[3:4], "the answer for one row alone", 1e-5)


# ---------------------------------------------------- worst case and white noise, a broken proof


@public.broken_white.hidden(
    "in MP(1, 3/4) the error at least doubles while the noise falls tenfold", 2
)
def _(ask: Callable, step: Any) -> None:
    sigma, signal = (part[:-1] for part in spectral.model_problem(1.0, 0.75, 3000))
    order, delta = ask.rng.permutation(3000), ask.rng.uniform(0.8e-2, 1.2e-2)
    cases = [(sigma[order], signal[order], d) for d in (delta, delta / 10)]
    errors = []
    for case, got in answers(ask, cases):
        gain = adversarial.ball_game(*case).gain
        want = spectral.modal_risk(*case[:2], case[2] ** 2, gain).sum()
        close(got, want, f"the error for delta = {case[2]:.3g}", 1e-5)
        errors.append(float(got))
    if not errors[1] > 2 * errors[0]:
        raise NotYet(f"With 3000 modes your errors are {errors[0]:.3g} and {errors[1]:.3g}.")
    right_step(step, 4, public.WHITE_STEPS)


@public.broken_white.hidden("with one mode, and with many equal ones", 1)
def _(ask: Callable, step: Any) -> None:
    sigma, signal = ask.rng.uniform(0.5, 1), ask.rng.uniform(0.5, 2, 5)
    part = sigma * float(np.sqrt(0.3))
    cases = [
        (np.full(n, sigma), signal[:n], part * float(np.sqrt(signal[:n].sum()))) for n in (1, 5)
    ]
    for case, got in answers(ask, [*cases, public._spectra(ask.rng)[1]]):
        close(got, public._white_by_design(*case), f"the error with {case[0].size} modes", 1e-5)
    right_step(step, 4, public.WHITE_STEPS)


# ------------------------------------------------------------------ accuracy, Lipschitz constant


@public.least_lipschitz.hidden("one mode, four modes, and an excess of a hundredth", 3)
def _(ask: Callable) -> None:
    one, four = public._prior(ask.rng, 1), public._prior(ask.rng, 4)
    public._must_be_least(ask, [(*one, 0.5), (*four, 0.01), (*four, ask.rng.uniform(0.5, 1))])


# ------------------------------------------------------------------------------ the dead zone


@public.dead_zone.hidden("for other radii, and data in any order", 2)
def _(ask: Callable) -> None:
    radii = public._STEP * ask.rng.choice(np.arange(40, 51), 3, replace=False)
    public._must_beat_linear(ask, [float(delta) for delta in radii], ask.rng.permutation)


# ------------------------------------------------------------------------- training the filter


@public.train_filter.hidden("it is for other spectra and other laws, too", 4)
def _(ask: Callable) -> None:
    rng, n = ask.rng, np.arange(1, 9)
    order = rng.permutation(8)
    x = rng.uniform(-1, 1, (150, 8)) / n
    public._must_train(ask, [((2 / n)[order], x[:, order], rng.uniform(0.16, 0.24))])


# --------------------------------------------------------------------------- answers in words

WRITTEN = [
    Written(
        "ex-squared-gap",
        [
            ("the two parts of the gap, with |w|_* the root of w.Cw", 1),
            ("ridge is the smaller one as long as delta |w|_* < 2 E|r|", 1),
        ],
    ),
    Written(
        "ex-loss-gap",
        [
            ("pinball: |u|/2 has one slope, up or down; the 90 % quantile has two, so two gaps", 1),
            ("convexity is not enough, with an example: gaps far out and at 0 differ", 1),
        ],
    ),
    Written(
        "ex-broken-hinge",
        [
            ("step 3: slope 0 for margins above 1; what remains is <=, as in step 2", 1),
            ("computes both minima for the counterexample; a plot alone loses the point", 1),
            ("equality if and only if no margin exceeds 1 (or w = 0)", 1),
        ],
    ),
    Written(
        "ex-zero-radius",
        [
            ("one-sided derivative at 0 in direction v, including samples with t = 0", 2),
            ("exchanges mean and derivative with a reason (monotone or dominated quotients)", 1),
            ("convexity: nonnegative in all directions if and only if minimal", 1),
            ("the supremum over the dual ball is the attack norm (bidual)", 1),
            (
                "budget in mean: |E tz| <= delta sqrt(E t^2) (1); the smaller radius, because "
                "E|t| <= sqrt(E t^2) or because this adversary can do more (1)",
                2,
            ),
        ],
    ),
    Written(
        "ex-interpolation-radius",
        [
            ("a prediction, right or wrong, and a measurement that is compared with it", 1),
            ("the residuals grow linearly in delta - radius, no jump", 1),
            ("a plot or a table that shows it on both sides of the radius", 1),
        ],
    ),
    Written(
        "ex-short-ascent",
        [
            ("rho = 0 for c = 1: everybody arrives, or a start on the wrong side is lost", 1),
            ("`best`: fluctuation of a mean of 1000 coordinates, about 0.01, times about 1.9", 1),
            ("90 % is hopeless: 10^19 restarts by Hoeffding, more by the normal law", 1),
        ],
    ),
    Written(
        "ex-uniform-thresholds",
        [
            ("E|x| = 1/2 and E x^2 = 1/3, both thresholds, with 'if and only if'", 2),
            ("the gain in between", 1),
            ("the budget in mean switches at sigma / sqrt 3", 1),
            ("a single point if and only if |x| is constant", 1),
            ("arbitrarily wide: a family with kappa -> 0", 1),
        ],
    ),
    Written(
        "ex-imitate-noise",
        [
            ("oblivious: Delta = delta^2", 1),
            ("almost sure: none or zero on the plateau, the formula between the thresholds", 2),
            ("stronger exactly where s > 1 (1); no finite noise where the filter is 0 (1)", 2),
            ("in mean: zero or none; the case s = 1 need not be mentioned", 1),
            ("N (kappa^(-1/(a+b)) - kappa^(1/(a+b))) modes (1); modes 29 to 35, or 7 (1)", 2),
        ],
    ),
    Written(
        "ex-water-filling",
        [
            ("by hand: mode 3 erased, mode 2 with probability 0.55, lambda = 4", 2),
            ("gains (1, 2, 1) and the value 1.55", 1),
        ],
    ),
    Written(
        "ex-uncorrelated",
        [
            ("moments and V = 1.0044", 1),
            ("every linear map, diagonal or not: second moments decide the worst error", 2),
            ("compares with a law that satisfies (H3); without this the theorem does not apply", 1),
            ("the theorem is not false: (H3) fails although x is uncorrelated", 1),
        ],
    ),
    Written(
        "ex-broken-white",
        [
            ("step 4: E|noise|^2 is D delta^2 or infinite, so it has left the ball", 1),
            (
                "variance of the inverted modes of order delta^2 k^3, k of order delta^(-2/(2b+1))",
                1,
            ),
            ("the claim holds if and only if b > 1; the case b = 1 is decided", 1),
        ],
    ),
    Written(
        "ex-image-and-data",
        [
            ("affordable attacks: Cauchy-Schwarz, and that it is attained (both directions)", 2),
            ("rescaling of the data, which the decoder can undo; the game for the new sigma", 2),
            ("the gains in the old data, min(1/sigma, lambda sigma / (sigma^2 + tau^2))", 1),
            ("convergent: part 5 of the theorem, with all Pi > 0 (1), for the new sigma (1)", 2),
            ("tau -> 0: lambda -> 1 and the inverse (2); the cut k stays bounded, why (1)", 3),
        ],
    ),
    Written(
        "ex-dead-zone",
        [
            ("a prediction, right or wrong, compared with the gain that was computed", 1),
            ("where it comes from: near y = 0 the sign of x is unknown, far out x is large", 1),
        ],
    ),
    Written(
        "ex-train-filter",
        [
            ("the code trains (a formula does not), losses nearly equal, with a number", 1),
            ("filters less similar, and why: near its minimum the worst error is flat", 1),
        ],
    ),
]
