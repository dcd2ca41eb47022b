"""Self-checks of the exercises of chapter 1.

``checks.tell(checks.tikhonov_solve(f))`` asks the function `f` for answers and prints one sentence
per property: ``ok`` or ``not yet`` with the reason.  The oracles are brute force, a dense solve, or
a closed form in a special case.  The checks are necessary, not sufficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, lsqr

from advreg import data, operators, spectral
from advreg.operators import MatrixOperator, Operator
from coursework.checks import Check, NotYet, answers, close, numbers, right_step, tell

__all__ = ["tell"]  # beside the checks themselves

SEED = 20260801


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _matrix(rows: int, columns: int, sigma: np.ndarray) -> tuple[np.ndarray, ...]:
    """A matrix with prescribed singular values (so that every right algorithm is accurate), with
    the singular vectors as columns of u and v."""
    rng, rank = _rng(), len(sigma)
    u, v = (np.linalg.qr(rng.standard_normal((k, rank)))[0] for k in (columns, rows))
    return (v * sigma) @ u.T, u, v


def _dense_tikhonov(operator: Operator, y: np.ndarray, alpha: float) -> np.ndarray:
    """Tikhonov by the dense normal equations: the oracle without a singular system."""
    a = operator.to_matrix()
    return np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T @ y.ravel())


# ------------------------------------------------------- the pseudo-inverse of a box blur

blur_pseudo_inverse = Check()
DIVIDES_BY_ZERO = (
    "You divide by 'zeros': where the transform of the kernel is exactly 0 the computer stores "
    "about 1e-17, and a test `!= 0` lets it pass"
)
ADDS_EPS = (
    "You add a small number to the denominator: that is a regularization, it changes every mode; "
    "the pseudo-inverse leaves the modes that A transmits alone and drops the others"
)


def _blur_cases(ask: Callable) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Kernel, data with noise in every mode, and the answer, after a look at its spectrum."""
    kernels = [operators.box_blur(*sizes).kernel for sizes in ((64, 8), (36, 6), (15, 4))]
    asked = answers(ask, ((k, _rng().standard_normal(k.size)) for k in kernels))
    for (kernel, y), x in asked:
        x = numbers(x, y.shape)
        lam, gain = np.fft.fft(kernel), np.fft.fft(x) / np.fft.fft(y)
        blind = np.abs(lam) < 1e-12
        if np.abs(gain[blind]).max(initial=0) > 1e10:
            raise NotYet(f"{DIVIDES_BY_ZERO}.")
        q = (gain * lam)[~blind]
        with np.errstate(all="ignore"):  # which eps would explain the answer: one and the same?
            added = (1 / gain)[blind], (np.abs(lam[~blind]) ** 2) * (1 - q) / q
        for eps in added:
            if eps.size and 1e-14 < np.abs(eps[0]) < 1 and np.allclose(eps, eps[0], rtol=0.01):
                raise NotYet(f"{ADDS_EPS}.")
        yield kernel, y, x


@blur_pseudo_inverse.property("A x is the point of the range nearest to y")
def _(ask: Callable) -> None:
    for kernel, y, x in _blur_cases(ask):
        a = linalg.circulant(kernel)
        close(a.T @ (a @ x), a.T @ y, "A*A x against A*y")


@blur_pseudo_inverse.property("x has no part that A does not see")
def _(ask: Callable) -> None:
    for kernel, y, x in _blur_cases(ask):
        invisible = linalg.null_space(linalg.circulant(kernel), rcond=1e-12)
        part = np.linalg.norm(invisible.T @ x)
        if part > 1e-8 * np.linalg.norm(y):
            raise NotYet(f"The part of x in the null space of A has norm {part:.2g}.")
    best = np.linalg.lstsq(linalg.circulant(kernel), y, rcond=1e-12)[0]
    close(x, best, "x for a kernel without zeros")  # so that x = 0 does not pass


@blur_pseudo_inverse.mistake(DIVIDES_BY_ZERO)
def divides_by_zero(kernel, y):
    lam = np.fft.fft(kernel)
    gain = np.divide(1, lam, out=np.zeros_like(lam), where=lam != 0)
    return np.fft.ifft(gain * np.fft.fft(y)).real


@blur_pseudo_inverse.mistake(ADDS_EPS)
def adds_eps(kernel, y):
    return np.fft.ifft(np.fft.fft(y) / (np.fft.fft(kernel) + 1e-6)).real


@blur_pseudo_inverse.mistake(ADDS_EPS)
def adds_eps_to_squares(kernel, y):
    lam = np.fft.fft(kernel)
    return np.fft.ifft(np.fft.fft(y) * lam.conj() / (np.abs(lam) ** 2 + 1e-8)).real


@blur_pseudo_inverse.mistake(
    "You divide by |lambda_k|: the phase of lambda_k is lost, and with it the position of x; "
    "divide by lambda_k itself"
)
def loses_the_phase(kernel, y):
    lam = np.abs(np.fft.fft(kernel))
    gain = np.divide(1, lam, out=np.zeros_like(lam), where=lam > 1e-12)
    return np.fft.ifft(gain * np.fft.fft(y)).real


@blur_pseudo_inverse.mistake(
    "You apply the adjoint, x = A*y: multiplying by the conjugate of lambda_k undoes the phase "
    "but damps a second time"
)
def applies_the_adjoint(kernel, y):
    return np.fft.ifft(np.fft.fft(kernel).conj() * np.fft.fft(y)).real


# ---------------------------------------------------------------------- the inverse crime

honest_sinogram = Check()


def _sinograms(ask: Callable) -> Iterable[tuple[operators.ParallelBeam, np.ndarray, np.ndarray]]:
    """Scanner, exact data and the answer."""
    scanners = [(operators.ParallelBeam(*sizes),) for sizes in ((32, 48), (24, 30))]
    for (scanner,), y in answers(ask, scanners):
        exact = data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid)
        yield scanner, exact, numbers(y, exact.shape)


def _far(y: np.ndarray, exact: np.ndarray) -> None:
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    if error > 0.15:
        raise NotYet(f"Relative to the true line integrals they are off by {error:.0%}.")


@honest_sinogram.property("the values are the line integrals of the head, in the right units")
def _(ask: Callable) -> None:
    for _, exact, y in _sinograms(ask):
        _far(y, exact)


@honest_sinogram.property("rays that miss the head have the value 0")
def _(ask: Callable) -> None:
    for scanner, exact, y in _sinograms(ask):
        outside = np.abs(scanner.detector_grid) > 0.92 + 2 * scanner.step
        if np.abs(y[:, outside]).max() > 1e-12:
            raise NotYet("Data without noise are asked for, in the geometry of the scanner.")
        _far(y, exact)


@honest_sinogram.property("no image on the pixel grid explains the data exactly")
def _(ask: Callable) -> None:
    for scanner, exact, y in _sinograms(ask):
        matrix = LinearOperator(
            (y.size, scanner.size**2),
            matvec=lambda x, op=scanner: op.forward(x.reshape(op.domain_shape)).ravel(),
            rmatvec=lambda r, op=scanner: op.adjoint(r.reshape(op.range_shape)).ravel(),
        )
        rest = lsqr(matrix, y.ravel(), atol=1e-13, btol=1e-13, iter_lim=400)[3]
        if rest < 0.003 * np.linalg.norm(exact):
            raise NotYet("An image of pixels fits them: the inverse crime in disguise.")
        _far(y, exact)


@honest_sinogram.mistake(
    "This is the inverse crime: the data come from the very matrix that is then inverted, so its "
    "modelling error cannot show"
)
def commits_the_crime(scanner):
    return scanner.forward(data.shepp_logan(scanner.size))


@honest_sinogram.mistake(
    "These are the line integrals in units of pixels; the scanner measures lengths on the square "
    "[-1, 1]^2"
)
def counts_pixels(scanner):
    return data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid) / scanner.step


@honest_sinogram.mistake(
    "Adding noise to the data of the crime does not undo it: the modelling error is not noise, it "
    "is the same for every scan"
)
def hides_the_crime(scanner):
    noise = data.white_noise(scanner.range_shape, 0.01, np.random.default_rng(0))
    return commits_the_crime(scanner) + noise


# ------------------------------------------------------------------ Tikhonov without SVD

tikhonov_solve = Check()


def _tikhonov_cases() -> Iterable[tuple[Operator, np.ndarray, float]]:
    for rows, columns, alpha in ((12, 8, 0.3), (8, 12, 0.05), (10, 10, 2.0)):
        a, _, _ = _matrix(rows, columns, np.geomspace(2, 0.1, min(rows, columns)))
        yield MatrixOperator(a), _rng().standard_normal(rows), alpha


def _solved(got: Any, operator: Operator, y: np.ndarray, alpha: float) -> None:
    x = numbers(got, operator.domain_shape)
    slope = operator.adjoint(operator.forward(x) - y) + alpha * x
    error = np.linalg.norm(slope) / np.linalg.norm(operator.adjoint(y))
    if 1e-6 < error < 1e-3:
        raise NotYet(
            f"Nearly: the gradient is {error:.0e} of its size at x = 0. Stop the iteration later."
        )
    if error > 1e-6:
        raise NotYet(f"At your x the gradient is {error:.1g} of its size at x = 0.")


@tikhonov_solve.property("the gradient of ||Ax - y||^2 + alpha ||x||^2 vanishes at x")
def _(ask: Callable) -> None:
    for case, x in answers(ask, _tikhonov_cases()):
        _solved(x, *case)


@tikhonov_solve.property("single modes are multiplied by the gain of Tikhonov's filter")
def _(ask: Callable) -> None:
    sigma = np.array([1.5, 0.5, 0.1])
    a, u, v = _matrix(6, 5, sigma)
    cases = [(MatrixOperator(a), v[:, n], alpha) for n in range(3) for alpha in (0.02, 1.0)]
    for (n, alpha), (_, x) in zip(
        itertools.product(range(3), (0.02, 1.0)), answers(ask, cases), strict=True
    ):
        gain = sigma[n] / (sigma[n] ** 2 + alpha)
        close(x, gain * u[:, n], "x for y = v_n", 1e-5)


@tikhonov_solve.property("unknowns and data may be images")
def _(ask: Callable) -> None:
    blur = operators.PeriodicBlur(_rng().standard_normal((4, 5)) / 4)
    y = _rng().standard_normal((4, 5))
    _solved(ask(blur, y, 0.1), blur, y, 0.1)


@tikhonov_solve.mistake(
    "Your penalty is alpha^2 ||x||^2: stacking alpha I under A (or damp=alpha) squares it, the "
    "root of alpha is what belongs there"
)
def squares_alpha(operator, y, alpha):
    return _dense_tikhonov(operator, y, alpha**2).reshape(operator.domain_shape)


@tikhonov_solve.mistake(
    "A factor sigma is missing: your gains are 1/(sigma^2 + alpha), so you solved with y where the "
    "normal equations have A*y"
)
def forgets_sigma(operator, y, alpha):
    v, s, ut = np.linalg.svd(operator.to_matrix(), full_matrices=False)
    return (ut.T @ (v.T @ y.ravel() / (s**2 + alpha))).reshape(operator.domain_shape)


@tikhonov_solve.mistake(
    "These are filtered data coefficients q<y, v_n>: the division by sigma_n is missing"
)
def forgets_to_divide(operator, y, alpha):
    v, s, ut = np.linalg.svd(operator.to_matrix(), full_matrices=False)
    return (ut.T @ (v.T @ y.ravel() * s**2 / (s**2 + alpha))).reshape(operator.domain_shape)


@tikhonov_solve.mistake("This is the least-squares solution: alpha does not act")
def ignores_alpha(operator, y, alpha):
    a = operator.to_matrix()
    return np.linalg.lstsq(a, y.ravel(), rcond=None)[0].reshape(operator.domain_shape)


@tikhonov_solve.mistake(
    "Your alpha is twice too large: the functional here has no factor 1/2 before ||Ax - y||^2"
)
def doubles_alpha(operator, y, alpha):
    return _dense_tikhonov(operator, y, 2 * alpha).reshape(operator.domain_shape)


# ------------------------------------------------------------------- Landweber's factors

landweber_factors = Check()


def _iterated(sigma: np.ndarray, iterations: int, step: float) -> np.ndarray:
    """Run the iteration on a rotated matrix and read the factors off its result."""
    a, u, v = _matrix(len(sigma) + 2, len(sigma), sigma)
    y = v.sum(axis=1)  # every data coefficient is 1
    x = np.zeros(len(sigma))
    for _ in range(iterations):
        x = x + step * a.T @ (y - a @ x)
    return sigma * (u.T @ x)


SPECTRUM = np.array([1.2, 0.9, 0.5, 0.2, 0.05])


@landweber_factors.property("after k iterations the factors are those of the iteration itself")
def _(ask: Callable) -> None:
    cases = itertools.product((SPECTRUM,), (1, 2, 3, 10, 60), (0.4, 0.6, 1.0))
    for (_, k, step), q in answers(ask, cases):
        error = np.abs(numbers(q, SPECTRUM.shape) - _iterated(SPECTRUM, k, step)).max()
        if error > 1e-8:
            raise NotYet(f"For k = {k} and step {step} the factors are off by {error:.1e}.")


@landweber_factors.property("the iteration starts at x = 0")
def _(ask: Callable) -> None:
    close(ask(SPECTRUM, 0, 0.6), np.zeros(5), "the factors for k = 0")
    close(ask(np.array([1.0]), 1, 0.25), np.array([0.25]), "the first factor, sigma = 1")


@landweber_factors.property("a singular value 0 keeps the factor 0")
def _(ask: Callable) -> None:
    got = numbers(ask(np.array([1.0, 0.3, 0.0]), 5, 0.7), (3,))
    if abs(got[2]) > 1e-12 or not 0 < got[1] < got[0] < 1:
        raise NotYet("For sigma = (1, .3, 0) they should decrease to exactly 0.")


@landweber_factors.mistake(
    "Off by one: you count an iteration too many, as if the start x = 0 were already a result"
)
def one_too_many(sigma, iterations, step):
    return 1 - (1 - step * sigma**2) ** (iterations + 1)


@landweber_factors.mistake("Off by one: you count an iteration too few")
def one_too_few(sigma, iterations, step):
    return 1 - (1 - step * sigma**2) ** (iterations - 1.0)


@landweber_factors.mistake("The step length is missing: your factors are those of step 1")
def forgets_the_step(sigma, iterations, step):
    return 1 - (1 - sigma**2) ** iterations


@landweber_factors.mistake(
    "These are the factors of the bias, 1 - q: what the iteration has *not* yet recovered"
)
def returns_the_bias(sigma, iterations, step):
    return (1 - step * sigma**2) ** iterations


@landweber_factors.mistake("These are the gains g = q / sigma; the factors are q = sigma g")
def returns_gains(sigma, iterations, step):
    return (1 - (1 - step * sigma**2) ** iterations) / sigma


@landweber_factors.mistake(
    "sigma enters squared: one iteration applies A and A*, so a mode is multiplied by sigma twice"
)
def forgets_the_square(sigma, iterations, step):
    return 1 - (1 - step * sigma) ** iterations


# ------------------------------------------------------------- broken proof: truncation

broken_truncation = Check()
TRUNCATION_STEPS = {
    1: "Step 1 is right: alpha = delta^2 and sigma^2 >= alpha say sigma >= delta.",
    2: "Step 2 is right: it is linearity, with R_alpha A x = the sum of x_n u_n over kept modes.",
    3: "Step 3 is right: it is the tail of a convergent series, and no noise is in it.",
    5: "Step 5 only adds what the steps before it claim; look for the first false one.",
}


@broken_truncation.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, TRUNCATION_STEPS)


def _noise(got: Any, sigma: np.ndarray, delta: float) -> np.ndarray:
    e = numbers(got, sigma.shape)
    size = np.linalg.norm(e)
    if size > delta * (1 + 1e-9):
        raise NotYet(f"For delta = {delta:g} its norm is {size:.3g}, which is not allowed.")
    return e


@broken_truncation.property("the noise stays in the ball, and the error stays away from 0")
def _(ask: Callable, step: Any) -> None:
    n = np.arange(1, 3001)
    cases = itertools.product((1 / n, n**-2.0), (0.03, 0.01, 0.001, 1e-3 / 3))
    for (sigma, delta), e in answers(ask, cases):
        e = _noise(e, sigma, delta)
        error = np.linalg.norm((e / sigma)[sigma >= delta])  # x = u_1 is kept: no bias
        if error < 0.5:
            raise NotYet(
                f"For delta = {delta:.2g} the error is only {error:.2g}; it has to stay above "
                "1/2 for every delta."
            )


@broken_truncation.mistake(
    "You put the noise into the mode with the largest singular value: there it is amplified least"
)
def noise_in_the_first_mode(sigma, delta):
    return delta * np.eye(1, sigma.size)[0]


@broken_truncation.mistake(
    "You put the noise into the mode with the smallest singular value: truncation removes that mode"
)
def noise_in_the_last_mode(sigma, delta):
    return delta * np.eye(1, sigma.size, sigma.size - 1)[0]


@broken_truncation.mistake(
    "Noise of size delta in *every* coefficient has norm delta times the root of the number of "
    "modes: it is outside the ball"
)
def noise_per_coefficient(sigma, delta):
    return np.full(sigma.size, delta)


@broken_truncation.mistake(
    "Spread evenly over all modes, nearly all of the noise falls on modes that truncation removes"
)
def noise_spread_evenly(sigma, delta):
    return np.full(sigma.size, delta / np.sqrt(sigma.size))


# ------------------------------------------------------------- broken proof: saturation

broken_saturation = Check()
SATURATION_STEPS = {
    1: "Step 1 is right: u_1 = (A*A)^mu (sigma_1^(-2 mu) u_1) for every mu > 0.",
    2: "Step 2 is right: sigma / (sigma^2 + alpha) <= 1 / (2 sqrt(alpha)), from (a - b)^2 >= 0.",
    4: "Step 4 is right if the steps before it are: it balances the two bounds.",
    5: "Step 5 only lets mu grow in what step 4 says; look for the first false one.",
}


@broken_saturation.property("the step named is the first that does not follow")
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, SATURATION_STEPS)


@broken_saturation.property("the noise stays in the ball, and no alpha at all beats it")
def _(ask: Callable, step: Any) -> None:
    n = np.arange(1, 3001)
    alphas = np.r_[np.geomspace(1e-12, 1e3, 600), np.inf][:, None]
    cases = itertools.chain(
        itertools.product((1 / n,), (1e-2, 1e-4, 1e-6)), itertools.product((n**-0.5,), (1e-2, 1e-4))
    )
    for (sigma, delta), e in answers(ask, cases):
        e = _noise(e, sigma, delta)
        q = spectral.tikhonov(sigma[:1], alphas)[:, 0]
        first = q * e[0] - (1 - q)  # sigma_1 = 1: error in the mode of x = u_1
        rest = np.linalg.norm(sigma[1:] * e[1:] / (sigma[1:] ** 2 + alphas), axis=1)
        error = np.hypot(first, rest).min()
        if error < 0.6 * delta ** (2 / 3):
            raise NotYet(
                f"For delta = {delta:g} the best alpha brings the error down to {error:.2g}, "
                "below what saturation allows."
            )


broken_saturation.mistake(
    "Noise in the mode of x itself is amplified by 1/sigma_1 only: a tiny alpha makes the error "
    "of order delta"
)(noise_in_the_first_mode)


@broken_saturation.mistake(
    "Your mode has sigma of order delta, where truncation would cut: Tikhonov escapes with an "
    "alpha of order delta. The mode must hurt exactly where the bias is still tolerable"
)
def noise_at_delta(sigma, delta):
    return delta * np.eye(1, sigma.size, np.flatnonzero(sigma >= delta)[-1])[0]


@broken_saturation.mistake(
    "Your mode has sigma^2 of order delta, which is where the discrepancy principle puts alpha: a "
    "better choice, alpha of order delta^(3/4), escapes"
)
def noise_at_root_delta(sigma, delta):
    return delta * np.eye(1, sigma.size, np.flatnonzero(sigma**2 >= delta)[-1])[0]


broken_saturation.mistake(
    "Noise of size delta in *every* coefficient has norm delta times the root of the number of "
    "modes: it is outside the ball"
)(noise_per_coefficient)


# ------------------------------------------------------------------------ boundary rates

boundary_rates = Check(rtol=1e-3)
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "t": lambda t: t,
    "t(1-t)": lambda t: t * (1 - t),
    "(1-t)^3": lambda t: (1 - t) ** 3,
    "1-3t^2+2t^3": lambda t: 1 - 3 * t**2 + 2 * t**3,
}
WRONG_RATES = {
    "All four are smooth, but smoothness inside (0, 1) is not a source condition: the adjoint "
    "imposes boundary conditions, and these functions meet only some of them": (1, 1, 1, 1),
    "You exchanged the ends: A*w is the integral of w from t to 1, so it is f(1) that must vanish "
    "first, then f'(0)": (3 / 5, 3 / 5, 1 / 3, 1 / 3),
    "You counted the order of the zero at t = 1 only: the conditions alternate between the two "
    "ends": (1 / 3, 3 / 5, 7 / 9, 5 / 7),
    "These are source exponents mu; the rate is 2 mu / (2 mu + 1)": (1 / 4, 3 / 4, 3 / 4, 5 / 4),
}


def _exact_best_error(sigma: np.ndarray, x: np.ndarray, delta: float) -> float:
    """Least worst-case error by brute force: all directions of noise in three modes."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 46), np.linspace(0, 2 * np.pi, 91))
    e = delta * np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1
    ).reshape(-1, 3)

    def worst(alpha: float) -> float:
        rest = (alpha / (sigma**2 + alpha)) ** 2  # iterated Tikhonov of order 2
        return np.linalg.norm((1 - rest) / sigma * e - rest * x, axis=1).max()

    return min(worst(alpha) for alpha in np.geomspace(1e-5, 1e3, 121))


@boundary_rates.property("in three modes the error is the one that trying all noise gives")
def _(ask: Callable, predicted: Any) -> None:
    sigma, x = np.array([1.0, 0.5, 0.2]), np.array([0.8, -0.5, 0.6])
    for (_, _, delta), got in answers(ask, [(sigma, x, 0.02), (sigma, x, 0.1)]):
        ratio = float(numbers(got, ())) / _exact_best_error(sigma, x, delta)
        if not 0.98 < ratio < 1.45:  # the bound "bias plus noise" is at most sqrt(2) larger
            raise NotYet(f"For delta = {delta} your error is {ratio:.2g} times as large.")


@boundary_rates.property("in power laws the error has the exponent of the theorem on rates")
def _(ask: Callable, predicted: Any) -> None:
    n, deltas = np.arange(1, 2001), np.geomspace(1e-2, 1e-4, 5)
    for s in (2.0, 4.0):  # sigma = 1/n and x_n = n^-s: mu < (2s - 1) / 4
        errors = [float(numbers(ask(1 / n, n**-s, d), ())) for d in deltas]
        if min(errors) <= 0:
            raise NotYet("The error of noisy data is not positive.")
        got, want = spectral.slope(deltas, np.array(errors)), (2 * s - 1) / (2 * s + 1)
        if abs(got - want) > 0.05:
            raise NotYet(f"For x_n = n^-{s:g} your errors decay with exponent {got:.2f}.")


@boundary_rates.property("the predicted exponents are the measured ones")
def _(ask: Callable, predicted: Any) -> None:
    if not isinstance(predicted, dict) or set(predicted) != set(FUNCTIONS):
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(FUNCTIONS)}.")
    rates = numbers(list(predicted.values()), (4,))
    rates = dict(zip(predicted, rates, strict=True))
    for sentence, wrong in WRONG_RATES.items():
        if np.allclose([rates[name] for name in FUNCTIONS], wrong, atol=0.02):
            raise NotYet(f"{sentence}.")
    far = [name for name, rate in measured_rates().items() if abs(rate - rates[name]) > 0.05]
    if far:
        raise NotYet(f"Prediction and experiment differ for {' and '.join(far)}.")


@cache
def measured_rates() -> dict[str, float]:
    """The exponents, from the upper bound bias + delta max g of iterated Tikhonov."""
    operator = operators.Integration(2000)
    sigma, t = operator.singular_values, operator.grid - 0.5 / 2000
    q = spectral.iterated_tikhonov(sigma, np.geomspace(1e-6, 10, 120)[:, None])
    deltas = np.geomspace(1e-2, 1e-4, 7)
    noise = np.multiply.outer(spectral.noise_amplification(sigma, q), deltas)
    rates = {}
    for name, f in FUNCTIONS.items():
        bias = spectral.bias(operator.analyse_domain(f(t)) / np.sqrt(2000), q)
        rates[name] = spectral.slope(deltas, (bias[:, None] + noise).min(axis=0))
    return rates


ALPHAS = np.geomspace(1e-7, 1e2, 80)


def _grid_error(sigma, x, delta, q, alphas=ALPHAS):
    factors = q(sigma, np.asarray(alphas)[:, None])
    return spectral.worst_case_error(sigma, x, factors, delta)


@boundary_rates.mistake("This is the squared error: its exponent is twice that of the error")
def squares_the_error(sigma, x, delta):
    return _grid_error(sigma, x, delta, spectral.iterated_tikhonov).min() ** 2


@boundary_rates.mistake("You fixed alpha = delta: the best alpha depends on the smoothness of x")
def fixes_alpha(sigma, x, delta):
    return _grid_error(sigma, x, delta, spectral.iterated_tikhonov, [delta]).min()


@boundary_rates.mistake(
    "You took Tikhonov's filter: it saturates, and rates beyond 2/3 cannot show"
)
def uses_tikhonov(sigma, x, delta):
    return _grid_error(sigma, x, delta, spectral.tikhonov).min()


@boundary_rates.mistake(
    "You averaged over white noise: its exponent is another one, because its norm is not delta"
)
def averages_white_noise(sigma, x, delta):
    q = spectral.iterated_tikhonov(sigma, ALPHAS[:, None])
    return np.sqrt(spectral.expected_squared_error(sigma, x, q, delta).min())


# -------------------------------------------------------------- the discrepancy principle

discrepancy_alpha = Check(rtol=1e-3)


def _discrepancy_square() -> Iterable[tuple[Operator, np.ndarray, float, float]]:
    for size, std, tau in ((40, 0.01, 1.5), (60, 0.003, 1.1)):
        operator = operators.Integration(size)
        x = np.sin(3 * operator.grid) + operator.grid
        yield operator, operator.forward(x) + data.white_noise(size, std, _rng()), std, tau


def _discrepancy_tall() -> Iterable[tuple[Operator, np.ndarray, float, float]]:
    a, u, _ = _matrix(60, 12, np.geomspace(2, 0.02, 12))
    operator = MatrixOperator(a).compute_singular_system()
    y = a @ u.sum(axis=1) + data.white_noise(60, 0.1, _rng())
    yield operator, y, 0.1, 1.2


def _fits_the_noise(ask: Callable, cases: Iterable) -> None:
    for (operator, y, std, tau), alpha in answers(ask, cases):
        alpha = float(numbers(alpha, ()))
        if alpha <= 0:
            raise NotYet(f"alpha must be positive, but it is {alpha:g}.")
        residual = operator.to_matrix() @ _dense_tikhonov(operator, y, alpha) - y
        ratio = np.linalg.norm(residual) / (tau * std * np.sqrt(y.size))
        if abs(ratio - 1) > 1e-4:
            raise NotYet(
                f"With {y.size} data your residual is {ratio:.3g} times as large as it should be."
            )


@discrepancy_alpha.property("the residual at alpha is tau times the norm that noise has")
def _(ask: Callable) -> None:
    _fits_the_noise(ask, _discrepancy_square())


@discrepancy_alpha.property("data that A cannot produce count as well")
def _(ask: Callable) -> None:
    _fits_the_noise(ask, _discrepancy_tall())


def _alpha_at(operator: Operator, y: np.ndarray, level: float, inside_only: bool = False) -> float:
    """The alpha whose residual has the norm `level`, by bisection in log alpha."""
    sigma, c = operator.singular_values, operator.analyse(y)
    outside = 0.0 if inside_only else np.linalg.norm(y - operator.synthesise_range(c))
    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        left = np.hypot(np.linalg.norm(c * (1 - spectral.tikhonov(sigma, np.exp(middle)))), outside)
        low, high = (low, middle) if left > level else (middle, high)
    return float(np.exp(low))


@discrepancy_alpha.mistake(
    "You compare the residual with tau times the deviation of *one* datum: the norm of D of them "
    "is larger by the root of D"
)
def forgets_root_d(operator, y, std, tau):
    return _alpha_at(operator, y, tau * std)


@discrepancy_alpha.mistake(
    "You compare the *squared* residual with tau times the norm of the noise"
)
def squares_the_residual(operator, y, std, tau):
    return _alpha_at(operator, y, np.sqrt(tau * std * np.sqrt(y.size)))


@discrepancy_alpha.mistake("tau is missing: the residual equals the norm of the noise itself")
def forgets_tau(operator, y, std, tau):
    return _alpha_at(operator, y, std * np.sqrt(y.size))


@discrepancy_alpha.mistake(
    "You sum (1 - q_n)^2 <y, v_n>^2 over the modes only: the part of y orthogonal to every v_n "
    "stays in the residual too"
)
def forgets_the_outside(operator, y, std, tau):
    return _alpha_at(operator, y, tau * std * np.sqrt(y.size), inside_only=True)


@discrepancy_alpha.mistake("This is tau multiplied by D instead of by its root")
def multiplies_by_d(operator, y, std, tau):
    return _alpha_at(operator, y, tau * std * y.size)


# ------------------------------------------------------ the discrepancy principle saturates

discrepancy_error = Check(rtol=1e-4)


@discrepancy_error.property("in ten modes the error is that of solving each problem by itself")
def _(ask: Callable, exponent: Any) -> None:
    cases = [(1 / np.arange(1, 11), 0.05, 1.5), (np.geomspace(2, 0.02, 10), 0.01, 1.1)]
    for (sigma, delta, tau), got in answers(ask, cases):
        operator = MatrixOperator(np.diag(sigma)).compute_singular_system()
        errors = []
        for n in range(1, 10):
            y = delta * np.eye(10)[n]
            y[0] += sigma[0]
            choice = spectral.discrepancy_principle(operator, y, "tikhonov", delta, tau)
            errors.append(
                np.linalg.norm(_dense_tikhonov(operator, y, choice.alpha) - np.eye(10)[0])
            )
        close(got, max(errors), f"the error for delta = {delta}", 1e-4)


@discrepancy_error.property("the exponent predicted is the one that your function measures")
def _(ask: Callable, exponent: Any) -> None:
    predicted = float(numbers(exponent, ()))
    deltas, n = np.geomspace(1e-2, 1e-5, 4), np.arange(1, 1501)
    errors = np.array([float(numbers(ask(1 / n, d, 1.5), ())) for d in deltas])
    if (errors <= 0).any():
        raise NotYet("The error of noisy data is not positive.")
    measured = spectral.slope(deltas, errors)
    if abs(predicted - measured) < 0.03:
        return
    for wrong, sentence in WRONG_EXPONENTS.items():
        if abs(predicted - wrong) < 0.01:
            raise NotYet(sentence)
    raise NotYet(f"You predicted {predicted:.3g}, and your function measures another exponent.")


WRONG_EXPONENTS = {
    1.0: "Predicting 1 says that u_1 is smooth, so nothing is lost: but Tikhonov saturates.",
    2 / 3: "2/3 is what the best alpha gives; the discrepancy principle takes a smaller one.",
    1 / 3: "1/3 is too pessimistic: alpha is of order delta, not smaller.",
}


def _mode_errors(sigma, delta, alpha):
    """Errors for x = u_1 and noise delta v_n, n = 2, 3, ...; alpha of shape (..., 1 or k - 1)."""
    rest = alpha / (sigma[1:] ** 2 + alpha)
    return np.hypot(alpha / (sigma[0] ** 2 + alpha), delta * (1 - rest) / sigma[1:])


def _errors_at(sigma, delta, level):
    """The same with the alpha that makes the residual equal to `level`, for every n by itself."""
    low, high = np.full(sigma.size - 1, -60.0), np.full(sigma.size - 1, 60.0)
    for _ in range(100):
        alpha = np.exp((low + high) / 2)
        rest = delta * alpha / (sigma[1:] ** 2 + alpha)
        above = np.hypot(sigma[0] * alpha / (sigma[0] ** 2 + alpha), rest) > level
        low, high = np.where(above, low, np.log(alpha)), np.where(above, np.log(alpha), high)
    return _mode_errors(sigma, delta, np.exp(low))


@discrepancy_error.mistake(
    "You took the best alpha for each noise; the principle does not know the error, only the "
    "residual"
)
def takes_the_best(sigma, delta, tau):
    return _mode_errors(sigma, delta, np.geomspace(1e-9, 1e3, 2000)[:, None]).min(axis=0).max()


@discrepancy_error.mistake("You compare the *squared* residual with tau times delta")
def squares_this_residual(sigma, delta, tau):
    return _errors_at(sigma, delta, np.sqrt(tau * delta)).max()


@discrepancy_error.mistake("You took the least error over the modes; the worst case is the largest")
def takes_the_mildest(sigma, delta, tau):
    return _errors_at(sigma, delta, tau * delta).min()


# ----------------------------------------------------------------- generalized cross-validation

gcv_score = Check()


@gcv_score.property("on a circulant matrix, V is the error of leave-one-out prediction")
def _(ask: Callable) -> None:
    size, rng = 12, _rng()
    blur = operators.PeriodicBlur(np.r_[0.5, 0.3, np.zeros(size - 3), 0.2])
    a, y = blur.to_matrix(), rng.standard_normal(size)
    for (_, _, alpha), score in answers(ask, [(blur, y, alpha) for alpha in (0.01, 0.3, 5.0)]):
        missed = []
        for j in range(size):
            keep = np.arange(size) != j
            gram = a[keep].T @ a[keep] + alpha * np.eye(size)
            missed.append(y[j] - a[j] @ np.linalg.solve(gram, a[keep].T @ y[keep]))
        close(score, np.mean(np.square(missed)), "V")


@gcv_score.property("with other matrices it agrees with the dense hat matrix")
def _(ask: Callable) -> None:
    cases = []
    for rows, columns, alpha in ((9, 4, 0.05), (9, 4, 1.0), (4, 9, 0.3)):
        a, _, _ = _matrix(rows, columns, np.geomspace(2, 0.1, 4))
        operator = MatrixOperator(a).compute_singular_system()
        cases.append((operator, _rng().standard_normal(rows), alpha))
    for (operator, y, alpha), score in answers(ask, cases):
        a = operator.to_matrix()
        hat = a @ np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T)
        rest = np.eye(y.size) - hat
        want = np.mean((rest @ y) ** 2) / (np.trace(rest) / y.size) ** 2
        close(score, want, f"V for a {a.shape[0]} x {a.shape[1]} matrix")


def _residual_and_factors(operator, y, alpha):
    sigma, c = operator.singular_values, operator.analyse(y)
    q = spectral.tikhonov(sigma, alpha)
    inside = np.linalg.norm((1 - q) * c)
    return np.hypot(inside, np.linalg.norm(y - operator.synthesise_range(c))), inside, q


@gcv_score.mistake("tr(H) stands in your denominator: it must be the trace of I - H")
def divides_by_the_trace_of_h(operator, y, alpha):
    residual, _, q = _residual_and_factors(operator, y, alpha)
    return y.size * (residual / q.sum()) ** 2


@gcv_score.mistake(
    "The number of data is forgotten: the trace of I - H is D minus the sum of all q_n, and D is "
    "the number of data, not of modes"
)
def counts_modes_only(operator, y, alpha):
    residual, _, q = _residual_and_factors(operator, y, alpha)
    return y.size * (residual / (1 - q).sum()) ** 2


@gcv_score.mistake(
    "The residual misses the part of y that is orthogonal to every v_n; the trace counts it"
)
def forgets_the_part_outside(operator, y, alpha):
    _, inside, q = _residual_and_factors(operator, y, alpha)
    return y.size * (inside / (y.size - q.sum())) ** 2


@gcv_score.mistake("The trace enters squared: this is ||(I - H)y||^2 / tr(I - H)")
def forgets_to_square_the_trace(operator, y, alpha):
    residual, _, q = _residual_and_factors(operator, y, alpha)
    return residual**2 / (y.size - q.sum())


@gcv_score.mistake(
    "D is forgotten: this is V / D, with the same minimizer but another normalization; only V "
    "itself estimates an error of prediction"
)
def forgets_to_normalize(operator, y, alpha):
    residual, _, q = _residual_and_factors(operator, y, alpha)
    return (residual / (y.size - q.sum())) ** 2


# ------------------------------------------------------------------------- the heartbeat

deblur = Check()


def _heartbeats() -> Iterable[tuple[Operator, np.ndarray, np.ndarray]]:
    record, rng = data.ecg(), _rng()
    for width, x in itertools.product((4.0, 6.0), (record, np.roll(record[::-1], 300))):
        operator = operators.gaussian_blur(x.size, width)
        yield operator, x, operator.forward(x) + data.white_noise(x.size, 2.0, rng)


@deblur.property("the error is at most 1.4 times that of the best Tikhonov reconstruction")
def _(ask: Callable) -> None:
    alphas, beats = np.geomspace(1e-6, 1, 60), list(_heartbeats())
    asked = answers(ask, [(operator, y) for operator, _, y in beats])
    for ((operator, y), got), (_, x, _) in zip(asked, beats, strict=True):
        best = spectral.oracle(operator, y, "tikhonov", alphas, x).value
        error = np.linalg.norm(numbers(got, x.shape) - x)
        if error > 1.4 * best:
            ratio = f"{error / best:.1f}" if error < 100 * best else "more than a hundred"
            raise NotYet(f"Your error is {ratio} times as large as the best possible.")


@deblur.property("the answer scales with the data")
def _(ask: Callable) -> None:
    operator, _, y = next(iter(_heartbeats()))
    x = numbers(ask(operator, y), y.shape)
    close(ask(operator, 1000 * y), 1000 * x, "the answer for 1000 y", 0.02)
    if not x.any():
        raise NotYet("The answer is 0.")


@deblur.mistake("You return the data: they are blurred, and their noise is untouched")
def returns_the_data(operator, y):
    return y


@deblur.mistake("This is the pseudo-inverse: it turns the noise into the whole answer")
def inverts_plainly(operator, y):
    return spectral.pseudo_inverse(operator, y)


@deblur.mistake(
    "You smooth a second time: the adjoint of a blur is a blur, and so is every positive weight"
)
def smooths_again(operator, y):
    return operator.adjoint(y)


@deblur.mistake(
    "Your residual has the size of the noise in *one* datum; there are D of them, which makes the "
    "root of D"
)
def fits_one_datum(operator, y):
    blind = operator.analyse(y)[operator.singular_values < 1e-6]
    alpha = _alpha_at(operator, y, float(np.sqrt(np.mean(blind**2))))
    return spectral.reconstruct(operator, y, "tikhonov", alpha)
