"""Checks of the exercises of chapter 1 that only the grader tests, and what markers look for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import checks_public as public
import numpy as np

from advreg import data, operators
from advreg.operators import MatrixOperator
from coursework.checks import NotYet, Written, answers, close, numbers

# ------------------------------------------------------- the pseudo-inverse of a box blur


@public.blur_pseudo_inverse.hidden(
    "waves that are damped to a thousandth, or change their sign, are not erased", 1
)
def _(ask: Callable) -> None:
    size = int(ask.rng.integers(18, 30))
    half = np.exp(2j * np.pi * ask.rng.uniform(size=size // 2 + 1))
    half[0], half[-1], half[[2, 4]] = 1, -1, 0
    half[[3, 6]] *= ask.rng.uniform(0.0011, 0.002, 2)
    spectra = (half, -np.abs(half))  # once with every phase, once with none but the sign
    for kernel, y, x in public.blurred(ask, [np.fft.irfft(s, size) for s in spectra]):
        close(x, np.linalg.pinv(public.circulant(kernel), rcond=1e-8) @ y, "x")


@public.blur_pseudo_inverse.hidden("the kernel comes in any units", 1)
def _(ask: Callable) -> None:
    units = [unit for unit in (1e-13, 1e10) for _ in range(3)]
    kernels = [*public.erasing_kernels(ask.rng), *public.erasing_kernels(ask.rng)]
    cases = [(u * k, ask.rng.standard_normal(k.size)) for u, k in zip(units, kernels, strict=True)]
    for unit, kernel, ((_, y), x) in zip(units, kernels, answers(ask, cases), strict=True):
        want = np.linalg.pinv(public.circulant(kernel), rcond=1e-8) @ y / unit
        close(x, want, f"x for a kernel in units of {unit:g}")


@public.blur_pseudo_inverse.hidden("one sample, and a kernel that erases everything", 1)
def _(ask: Callable) -> None:
    size, factor = int(ask.rng.integers(5, 9)), float(ask.rng.uniform(2, 3))
    y = ask.rng.uniform(1, 2, 1)
    cases = [(np.zeros(size), ask.rng.standard_normal(size)), (np.array([factor]), y)]
    (_, nothing), (_, single) = answers(ask, cases)
    close(nothing, np.zeros(size), "x for the kernel 0")
    close(single, y / factor, "x for one sample")


# ---------------------------------------------------------------------- the inverse crime


def _near_the_truth(scanner: operators.ParallelBeam, y: np.ndarray) -> None:
    """NotYet unless y are line integrals, or their means over the width of a detector."""
    rays = scanner.detector_grid[:, None] + scanner.step * (np.arange(15) - 7) / 15
    exact = data.shepp_logan_sinogram(scanner.angles, rays.ravel())
    exact = exact.reshape(*scanner.range_shape, 15)
    crime = scanner.forward(data.shepp_logan(scanner.size, oversampling=8))
    errors, shares = [], []
    for true in (exact[..., 7], exact.mean(-1)):
        errors.append(np.linalg.norm(y - true) / np.linalg.norm(true))
        # how much of the error of the crime is in the answer: 1 for the crime with any noise, at
        # most 0.4 for a simulation on a grid of half the width
        shares.append(np.sum((y - true) * (crime - true)) / np.sum((crime - true) ** 2))
    if not min(errors) <= 0.1:
        raise NotYet(f"Relative to the true line integrals they are off by {min(errors):.0%}.")
    if not min(shares) <= 0.65:
        raise NotYet("They err where the crime errs: a small change does not make it honest.")


@public.honest_sinogram.hidden("the values are the line integrals of the head", 3)
def _(ask: Callable) -> None:
    for low, high in ((28, 33), (44, 51)):
        scanner = operators.ParallelBeam(
            int(ask.rng.integers(low, high)), int(ask.rng.integers(9)) + 30
        )
        _near_the_truth(scanner, public.scan(ask, scanner))


@public.honest_sinogram.hidden(
    "more detectors than needed: rays that miss the head have value 0", 1
)
def _(ask: Callable) -> None:
    size = int(ask.rng.integers(30, 36))
    scanner = operators.ParallelBeam(size, int(ask.rng.integers(20, 30)), 2 * size)
    y = public.scan(ask, scanner)
    outside = np.abs(scanner.detector_grid) > 0.92 + 2 * scanner.step
    if not np.abs(y[:, outside]).max() <= 1e-12:
        raise NotYet("Data without noise are asked for, in the geometry of the scanner.")
    _near_the_truth(scanner, y)


@public.honest_sinogram.mistake(
    "These are the line integrals in units of pixels; the scanner measures lengths on the square "
    "[-1, 1]^2"
)
def counts_pixels(scanner):
    return data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid) / scanner.step


@public.honest_sinogram.mistake(
    "You exchanged the axes: one row per angle, one column per detector"
)
def exchanges_the_axes(scanner):
    return data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid).T


# ------------------------------------------------------------------ Tikhonov without SVD


@public.tikhonov_solve.hidden("single modes are multiplied by the gain of Tikhonov's filter", 2)
def _(ask: Callable) -> None:
    sigma = np.array([1.5, 0.5, 0.1]) * ask.rng.uniform(0.8, 1.2, 3)
    a, u, v = public.random_matrix(ask.rng, 6, 5, sigma)
    alphas = (float(ask.rng.uniform(0.1, 0.2)), float(ask.rng.uniform(0.8, 1.2)))
    modes = [(n, alpha) for n in range(3) for alpha in alphas]
    asked = answers(ask, [(MatrixOperator(a), v[:, n], alpha) for n, alpha in modes])
    for (n, alpha), (_, x) in zip(modes, asked, strict=True):
        # the accuracy asked for, 1e-6 of the gradient, leaves errors up to 4e-5 in x
        close(x, sigma[n] / (sigma[n] ** 2 + alpha) * u[:, n], "x for y = v_n", 1e-4)


@public.tikhonov_solve.hidden("a scanner, data in tiny units, and data that are 0", 2)
def _(ask: Callable) -> None:
    scanner = operators.ParallelBeam(int(ask.rng.integers(6, 9)), int(ask.rng.integers(5, 8)))
    y, alpha = ask.rng.standard_normal(scanner.range_shape), float(ask.rng.uniform(0.02, 0.05))
    cases = [(scanner, y, alpha), (scanner, 1e-12 * y, alpha), (scanner, 0 * y, alpha)]
    (*few, (_, nothing)) = answers(ask, cases)
    for case, x in few:
        public.solved(x, *case)
    close(nothing, np.zeros(scanner.domain_shape), "x for y = 0")


# ------------------------------------------------------------------- Landweber's factors


@public.landweber_factors.hidden("a long step overshoots in the first mode, and 1 is no limit", 2)
def _(ask: Callable) -> None:
    sigma = public.random_spectrum(ask.rng, 7)
    limit = 2 / sigma[0] ** 2
    counts = (1, 3, 4, int(ask.rng.integers(150, 250)))
    cases = [(sigma, k, float(limit * ask.rng.uniform(0.75, 0.97))) for k in counts]
    for (_, k, step), q in answers(ask, cases):
        close(q, public.iterated(ask.rng, sigma, k, step), f"the factors for k = {k}")


@public.landweber_factors.hidden("a singular value 0 keeps the factor 0", 1)
def _(ask: Callable) -> None:
    large, small = ask.rng.uniform(0.8, 1.1), ask.rng.uniform(0.2, 0.4)
    k, step = int(ask.rng.integers(3, 7)), float(ask.rng.uniform(0.5, 0.7))
    got = numbers(ask(np.array([large, small, 0.0]), k, step), (3,))
    if not (abs(got[2]) <= 1e-12 and 0 < got[1] < got[0] < 1):
        raise NotYet("For decreasing sigma that end in 0 they should decrease to exactly 0.")
    want = [public.iterated(ask.rng, np.array([s]), k, step)[0] for s in (large, small)]
    close(got[:2], np.array(want), "the factors of the positive singular values")


@public.landweber_factors.hidden("the factors have the order and the shape of sigma", 1)
def _(ask: Callable) -> None:
    flat = ask.rng.permutation(public.random_spectrum(ask.rng, 6))
    k, step = int(ask.rng.integers(2, 9)), float(ask.rng.uniform(0.5, 1.0))
    want = public.iterated(ask.rng, flat, k, step)
    for (sigma, _, _), q in answers(ask, [(flat.reshape(2, 3), k, step), (flat[:1], k, step)]):
        close(q, want[: sigma.size].reshape(sigma.shape), f"factors of shape {sigma.shape}")


# ----------------------------------------------------------------------- broken proofs


@public.broken_truncation.hidden("other powers, and levels that are singular values", 2)
def _(ask: Callable, step: Any) -> None:
    n, cases = np.arange(1, 4001), []
    for power in (0.5, float(ask.rng.uniform(0.7, 0.9)), float(ask.rng.uniform(1.3, 1.8)), 2.0):
        sigma = n**-power
        first = int(np.flatnonzero(sigma <= 0.03)[0])
        for index in ask.rng.integers(first, 3900, 2):
            # delta is a singular value: this mode is kept
            cases.append((sigma, float(sigma[index])))
    public.truncation_fails(ask, step, cases)


@public.broken_saturation.hidden("other powers between 1/2 and 1", 3)
def _(ask: Callable, step: Any) -> None:
    n, cases = np.arange(1, 4001), []
    for power in ask.rng.uniform((0.5, 0.7), (0.6, 0.95)):
        # the mode with sigma near delta^(1/3) must be one of 4000
        least = max(1e-7, 3000 ** (-3 * power))
        exponents = ask.rng.uniform(np.log10(least), -2, 3)
        cases += [(n**-power, float(10**exponent)) for exponent in exponents]
    public.saturation_holds(ask, step, cases)


# ------------------------------------------------------------------------ boundary rates


@public.boundary_rates.hidden("in power laws the error has the exponent of the theorem on rates", 2)
def _(ask: Callable, predicted: Any) -> None:
    n, deltas = np.arange(1, 1001), np.geomspace(1e-2, 1e-4, 4)
    public.as_if_all_noise_were_tried(ask, [0.05], 0.2)  # an exponent alone is no measurement
    for s in (float(ask.rng.uniform(1.8, 2.2)), float(ask.rng.uniform(3.6, 4.2))):
        cases = [(1 / n, n**-s, float(d)) for d in deltas]  # mu < (2s - 1) / 4
        errors = [public.positive(e, "The error of noisy data") for _, e in answers(ask, cases)]
        got, want = public.slope(deltas, np.array(errors)), (2 * s - 1) / (2 * s + 1)
        if not abs(got - want) <= 0.05:
            raise NotYet(f"For x_n = n^-{s:.2g} your errors decay with exponent {got:.2f}.")


@public.boundary_rates.hidden("with one mode you trust the data or you answer 0", 2)
def _(ask: Callable, predicted: Any) -> None:
    # the error is linear in 1 - q: (1 - q) |x| + q delta / sigma, least at an end
    cases = [
        (sigma * np.ones(1), x * ask.rng.choice([-1, 1], 1), float(sigma * x * ratio))
        for ratio in (0.02, 0.3, 3.0)
        for sigma, x in [ask.rng.uniform((0.3, 0.5), (0.6, 2.0))]
    ]
    for (sigma, x, delta), got in answers(ask, cases):
        want = min(abs(x[0]), delta / sigma[0])
        ratio = float(numbers(got, ())) / want
        if not 0.99 < ratio < 1.05:
            raise NotYet(f"With one mode your error is {ratio:.3g} times the least possible.")


# -------------------------------------------------------------- the discrepancy principle


@public.discrepancy_alpha.hidden("alpha may be tiny or huge: operators in other units", 2)
def _(ask: Callable) -> None:
    operator, y, std, tau = public.tall_problem(ask.rng)
    cases = [
        (MatrixOperator(unit * operator.to_matrix()).compute_singular_system(), y, std, tau)
        for unit in (1e-3, 1e3)
    ]
    small = operators.Integration(30)
    wave = small.forward(np.ones(30))
    cases.append((small, 1e-9 * (wave + public.noise_of_norm(ask.rng, 30, 0.01)), 1e-11, 1.5))
    public.fits_the_noise(ask, cases)


@public.discrepancy_alpha.hidden("fewer data than unknowns, and singular values that are 0", 2)
def _(ask: Callable) -> None:
    cases = []
    for rows, columns, sigma in ((9, 20, np.geomspace(2, 0.1, 9)), (12, 6, np.r_[2, 1, 0.5, 0.3])):
        a, u, _ = public.random_matrix(ask.rng, rows, columns, sigma)
        y = a @ u @ ask.rng.choice([-1.0, 1.0], len(sigma))
        y += public.noise_of_norm(ask.rng, rows, 0.05)
        tau = float(ask.rng.uniform(1.2, 1.5))
        cases.append((MatrixOperator(a).compute_singular_system(), y, 0.05, tau))
    public.fits_the_noise(ask, cases)


# ------------------------------------------------------ the discrepancy principle saturates


@public.discrepancy_error.hidden("two modes, equal singular values, and a large tau", 2)
def _(ask: Callable, exponent: Any) -> None:
    first, second = ask.rng.uniform((0.8, 0.2), (1.5, 0.6))
    cases = [(np.array([first, second]), float(ask.rng.uniform(0.01, 0.05)), 1.4)]
    cases += [(np.array([first, first, second]), float(0.05 * first), 3.0)]
    cases += [(np.array([first, second, second / 4]), float(0.1 * first), 5.0)]
    public.as_if_one_by_one(ask, cases)


@public.discrepancy_error.hidden("the exponent is the same for other powers and other tau", 2)
def _(ask: Callable, exponent: Any) -> None:
    power, tau = ask.rng.uniform((0.8, 1.2), (1.3, 2.0))
    deltas = np.geomspace(1e-2, 1e-5, 4)
    sigma = np.arange(1, 2001) ** -float(power)
    public.right_exponent(ask, exponent, sigma, deltas, float(tau))


# ----------------------------------------------------------------- generalized cross-validation


@public.gcv_score.hidden("data may be images", 1)
def _(ask: Callable) -> None:
    kernel = np.zeros((3, 4))
    kernel[0, :2], kernel[1, 0] = ask.rng.uniform(0.2, 0.5, 2), ask.rng.uniform(0.1, 0.3)
    public.leaves_one_out(ask, operators.PeriodicBlur(kernel), ask.rng.uniform(0.05, 1, 2))


@public.gcv_score.hidden("fewer data than unknowns, and singular values that are 0", 2)
def _(ask: Callable) -> None:
    cases = [public.gcv_case(ask.rng, 4, 9, np.geomspace(2, 0.1, 4), alpha) for alpha in (0.02, 1)]
    cases.append(public.gcv_case(ask.rng, 7, 6, np.geomspace(2, 0.2, 3), 0.3))
    public.agrees_with_hat(ask, cases)


@public.gcv_score.hidden("a huge alpha leaves the mean square, a tiny one that of the rest", 1)
def _(ask: Callable) -> None:
    operator, y, _ = public.gcv_case(ask.rng, 8, 3, np.geomspace(2, 0.5, 3), 1.0)
    a = operator.to_matrix()
    rest = y - a @ np.linalg.lstsq(a, y, rcond=None)[0]
    (_, huge), (_, tiny) = answers(ask, [(operator, y, 1e12), (operator, y, 1e-12)])
    close(huge, np.mean(y**2), "V for a huge alpha")
    close(tiny, np.mean(rest**2) / (1 - 3 / 8) ** 2, "V for a tiny alpha")


# ------------------------------------------------------------------------- the heartbeat


@public.deblur.hidden("recordings of a patient, whichever way they are shifted or reversed", 2)
def _(ask: Callable) -> None:
    record = data.ecg()
    shifts = ask.rng.integers(record.size, size=4)
    truths = [np.roll(record[::o], int(s)) for o, s in zip((1, -1, -1, 1), shifts, strict=True)]
    public.near_the_best(ask, public.recordings(ask.rng, truths))


@public.deblur.hidden("the same for voltages in larger units, which are tiny numbers", 1)
def _(ask: Callable) -> None:
    beats = [public.made_up_heartbeat(ask.rng) for _ in range(4)]
    unit = float(10 ** ask.rng.uniform(-6, -5))
    public.near_the_best(ask, public.recordings(ask.rng, beats, unit))


# ------------------------------------------------------------------- answers in words

WRITTEN = [
    Written(
        "ex-constant-function",
        [
            ("the coefficients <1, v_n> are computed, and they are sqrt(2) sigma_n", 1),
            ("Picard's sum diverges; no least-squares solution, because the range is dense", 2),
            ("mu < 1/4 with both directions: 2 - 4 mu > 1; 'mu <= 1/4' loses the point", 2),
            ("names the boundary condition at t = 1 that every A*w satisfies", 1),
        ],
    ),
    Written(
        "ex-white-norm",
        [
            ("mean and variance, with the fourth moment and independence named", 2),
            ("the event is a deviation of at least (D - 1) delta^2; Chebyshev applied to it", 1),
            ("says that a level per datum is no bound of the norm, which is near delta sqrt(D)", 1),
            ("the bound in tau, and D = 908 (or any honest rounding of 907.03 upwards)", 2),
        ],
    ),
    Written(
        "ex-inverse-crime",
        [
            ("says what was predicted for 5 and for 50 iterations, be it right or wrong", 1),
            ("honest data: the error falls first and then rises; with the crime it only falls", 1),
            ("the reason: the modelling error acts like noise, although no noise was added", 1),
        ],
    ),
    Written(
        "ex-iterated-qualification",
        [
            ("reduces part 1 to one variable t, finds the maximum at mu / (m - mu), attained", 2),
            ("the case mu = m: a supremum, not attained", 1),
            ("part 2 with sigma_1 fixed and alpha to 0; only sigma_n and alpha <= sigma_1^2", 2),
            ("part 3 for every x: 1 - q decreases in sigma, and the squares are summed", 1),
            ("says who profits: unknowns smoother than mu = 1; 'smaller bias' alone is 0", 1),
        ],
    ),
    Written(
        "ex-broken-truncation",
        [
            ("says what fails in step 4: the limit for each n is not uniform in n", 2),
            ("repairs it: delta^2 / alpha must tend to 0, for instance alpha = delta", 1),
        ],
    ),
    Written(
        "ex-broken-saturation",
        [
            ("says what fails in step 3: t^mu / (1 + t) is unbounded for mu > 1", 2),
            ("a mode near delta^(1/3): for alpha above delta^(2/3) the bias is of this order", 1),
            ("and for alpha below it the noise is; an order without constants is enough", 1),
        ],
    ),
    Written(
        "ex-boundary-rates",
        [
            ("derives the alternating conditions f(1), f'(0), f''(1) from the adjoint", 2),
            ("a reason for what is left: few modes at large delta, or finitely many in all", 1),
        ],
    ),
    Written(
        "ex-cgls-not-linear",
        [
            ("homogeneity, including y with A*y = 0", 1),
            ("the three vectors u_1, 2 u_2 and (20 u_1 + 10 u_2) / 17; hence not additive", 2),
            ("the polynomial depends on y", 1),
        ],
    ),
    Written(
        "ex-discrepancy-saturates",
        [
            ("alpha is at most of the order delta, because its bias is part of the residual", 1),
            ("and at least of this order, because the noise alone leaves at most delta", 1),
            ("noise near sigma^2 = alpha costs delta / (2 sqrt(alpha)), more than the bias", 1),
        ],
    ),
    Written(
        "ex-gcv-score",
        [
            ("replacing y_j by its prediction leaves the minimizer for the other data", 2),
            ("all H_jj of a circulant matrix are equal to tr(H) / D", 1),
        ],
    ),
    Written(
        "ex-no-level",
        [
            ("part 1: same data, two truths, the triangle inequality", 2),
            ("part 2: R(Ax) = x because e = 0 is admissible; the supremum for x = 0 diverges", 2),
            ("part 3: only convergence for fixed x follows, and x' changes with n", 1),
            (
                "part 4: the worst case (the noise is not chosen against R), or infinitely many "
                "data; one is enough",
                1,
            ),
        ],
    ),
    Written(
        "ex-heartbeat",
        [
            (
                "names where the level comes from (modes with sigma near 0), or a rule without one",
                1,
            ),
            ("why this works: the noise is white, so its level is the same in all modes", 1),
            ("says when it would fail: noise that is smooth or correlated", 1),
        ],
    ),
]
