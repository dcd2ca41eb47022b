"""Checks of the exercises of chapter 1 that everybody may see, and the mistakes they know.

The oracles are brute force, a dense solve, or a closed form in a special case.  The checks are
necessary, not sufficient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from advreg import data, operators, spectral
from advreg.operators import MatrixOperator, Operator
from coursework.checks import Check, NotYet, answers, close, numbers, right_step


def random_matrix(
    rng: np.random.Generator, rows: int, columns: int, sigma: np.ndarray
) -> tuple[np.ndarray, ...]:
    """A matrix with prescribed singular values (so that every right algorithm is accurate), with
    the singular vectors as columns of u and v."""
    rank = len(sigma)
    u, v = (np.linalg.qr(rng.standard_normal((k, rank)))[0] for k in (columns, rows))
    return (v * sigma) @ u.T, u, v


def dense_tikhonov(operator: Operator, y: np.ndarray, alpha: float) -> np.ndarray:
    """Tikhonov by the dense normal equations: the oracle without a singular system."""
    a = operator.to_matrix()
    x = np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T @ y.ravel())
    return x.reshape(operator.domain_shape)


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """The exponent of a power law, by least squares in the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def positive(value: Any, what: str) -> float:
    """The answer as one positive number, or NotYet."""
    number = float(numbers(value, ()))
    if not number > 0:
        raise NotYet(f"{what} must be positive, but it is {number:g}.")
    return number


# ------------------------------------------------------- the pseudo-inverse of a box blur

blur_pseudo_inverse = Check("ex-blur-pseudo-inverse", "blur_pseudo_inverse")
DIVIDES_BY_ZERO = (
    "You divide by 'zeros': where the transform of the kernel is exactly 0 the computer stores "
    "about 1e-17, and a test `!= 0` lets it pass"
)
ADDS_EPS = (
    "You put a small number into the denominator: that is a regularization; the pseudo-inverse "
    "inverts every mode that A transmits exactly, and drops the others"
)


def circulant(kernel: np.ndarray) -> np.ndarray:
    """The matrix of the blur, column by column."""
    return np.stack([np.roll(kernel, shift) for shift in range(kernel.size)], axis=1)


def erasing_kernels(rng: np.random.Generator) -> Iterable[np.ndarray]:
    """Two windows that erase waves, and a kernel with random phases that erases some."""
    for low, high in ((3, 5), (6, 9)):
        width = 2 * int(rng.integers(low, high))  # even: not symmetric, so that phases count
        kernel = np.zeros(3 * width)
        kernel[:width] = 1 / width
        yield np.roll(kernel, 1 - width // 2)
    size = int(rng.integers(20, 30))
    half = rng.uniform(0.3, 1, size // 2 + 1) * np.exp(2j * np.pi * rng.uniform(size=size // 2 + 1))
    half[rng.choice(np.arange(1, (size - 1) // 2), 3, replace=False)] = 0
    half[0], half[-1] = 1, np.abs(half[-1])  # real, or half of an even size would be lost
    yield np.fft.irfft(half, size)


def _explain_gains(kernel: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """NotYet with a reason if the spectrum of x shows one of two habits."""
    lam, gain = np.fft.fft(kernel), np.fft.fft(x) / np.fft.fft(y)
    blind = np.abs(lam) < 1e-12 * np.abs(lam).max()
    if np.abs(gain[blind]).max(initial=0) > 1e10:
        raise NotYet(f"{DIVIDES_BY_ZERO}.")
    q = (gain * lam)[~blind]
    # which eps would explain the answer: one and the same?
    for eps in ((1 / gain)[blind], (np.abs(lam[~blind]) ** 2) * (1 - q) / q):
        same = np.allclose(eps, eps[:1], rtol=0.01, atol=0)
        if eps.size and same and 1e-14 < np.abs(eps[0]) < 1:
            raise NotYet(f"{ADDS_EPS}.")


def blurred(ask: Callable, kernels: Iterable[np.ndarray]) -> Iterable[tuple[np.ndarray, ...]]:
    """Kernel, data with noise in every mode, and the answer, after a look at its spectrum."""
    asked = answers(ask, [(k, ask.rng.standard_normal(k.size)) for k in kernels])
    for (kernel, y), x in asked:
        x = numbers(x, y.shape)
        _explain_gains(kernel, y, x)
        yield kernel, y, x


@blur_pseudo_inverse.property("A x is the point of the range nearest to y", 1)
def _(ask: Callable) -> None:
    for kernel, y, x in blurred(ask, erasing_kernels(ask.rng)):
        a = circulant(kernel)
        close(a.T @ (a @ x), a.T @ y, "A*A x against A*y")


@blur_pseudo_inverse.property("x has no part that A does not see, and all that it does see", 2)
def _(ask: Callable) -> None:
    for kernel, y, x in blurred(ask, erasing_kernels(ask.rng)):
        a = circulant(kernel)
        values, waves = np.linalg.eigh(a.T @ a)
        part = np.linalg.norm(waves[:, values < 1e-12].T @ x)
        if not part <= 1e-8 * np.linalg.norm(y):
            raise NotYet(f"The part of x in the null space of A has norm {part:.2g}.")
        close(x, np.linalg.lstsq(a, y, rcond=1e-10)[0], "x")


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
    gain = np.divide(1, lam, out=np.zeros_like(lam), where=lam > 1e-12 * lam.max())
    return np.fft.ifft(gain * np.fft.fft(y)).real


@blur_pseudo_inverse.mistake(
    "You apply the adjoint, x = A*y: multiplying by the conjugate of lambda_k undoes the phase "
    "but damps a second time"
)
def applies_the_adjoint(kernel, y):
    return np.fft.ifft(np.fft.fft(kernel).conj() * np.fft.fft(y)).real


# ---------------------------------------------------------------------- the inverse crime

honest_sinogram = Check("ex-inverse-crime", "honest_sinogram")


@cache
def _head_moments() -> tuple[float, np.ndarray]:
    """Mass of the head and the matrix of its second moments, from a fine image."""
    head = data.shepp_logan(256, oversampling=2)
    axis = (np.arange(256) + 0.5) / 128 - 1
    x, y, weight = axis[None, :], -axis[:, None], head / 128**2
    xx, xy, yy = ((weight * p).sum() for p in (x * x, x * y, y * y))
    return float(weight.sum()), np.array([[xx, xy], [xy, yy]])


def scan(ask: Callable, scanner: operators.ParallelBeam) -> np.ndarray:
    """The answer for one scanner, of the right shape."""
    return numbers(ask(scanner), scanner.range_shape)


def _sees_the_head(scanner: operators.ParallelBeam, y: np.ndarray) -> None:
    mass, second = _head_moments()
    s = scanner.detector_grid
    missing = np.abs(y[:, np.abs(s) > 0.92 + 2 * scanner.step])
    if not missing.max(initial=0) <= 1e-12:
        raise NotYet("Rays that miss the head have the value 0: data without noise are asked for.")
    seen = y.sum(axis=1) * scanner.step
    worst = seen[np.argmax(np.abs(seen - mass))]
    coarse = 2 * scanner.step  # a sum over a few detectors is no integral
    if not abs(worst - mass) <= coarse * mass:
        if abs(worst * scanner.step - mass) <= 2 * coarse * mass:
            raise NotYet("They are measured in pixels; the scanner lies in the square [-1, 1]^2.")
        raise NotYet(
            f"At one angle the values times the distance of the rays sum up to {worst:.3g}; the "
            f"mass of the head is {mass:.3g}, and every angle sees all of it."
        )
    direction = np.stack([np.cos(scanner.angles), np.sin(scanner.angles)], axis=1)
    spread = np.einsum("ai,ij,aj->a", direction, second, direction)
    error = np.abs((y * s**2).sum(axis=1) * scanner.step - spread).max()
    if not error <= 4 * coarse * spread.min():
        raise NotYet("The shadows of the head are too wide or too narrow at some angle.")


@honest_sinogram.property("every angle sees the whole head, as wide as it is", 1)
def _(ask: Callable) -> None:
    for _ in range(2):
        scanner = operators.ParallelBeam(*(int(k) for k in ask.rng.integers((24, 12), (40, 50))))
        _sees_the_head(scanner, scan(ask, scanner))


@honest_sinogram.property("no image on the pixel grid explains the data exactly", 1)
def _(ask: Callable) -> None:
    scanner = operators.ParallelBeam(*(int(k) for k in ask.rng.integers((13, 24), (17, 40))))
    y = scan(ask, scanner)
    matrix = scanner.to_matrix()
    rest = y.ravel() - matrix @ np.linalg.lstsq(matrix, y.ravel(), rcond=None)[0]
    if not np.linalg.norm(rest) >= 0.003 * np.linalg.norm(y):
        raise NotYet("An image of pixels fits them: the inverse crime in disguise.")
    _sees_the_head(scanner, y)


@honest_sinogram.mistake(
    "This is the inverse crime: the data come from the very matrix that is then inverted, so its "
    "modelling error cannot show"
)
def commits_the_crime(scanner):
    return scanner.forward(data.shepp_logan(scanner.size))


# ------------------------------------------------------------------ Tikhonov without SVD

tikhonov_solve = Check("ex-tikhonov-solve", "tikhonov_solve")


def solved(got: Any, operator: Operator, y: np.ndarray, alpha: float) -> None:
    """NotYet unless the gradient of Tikhonov's functional vanishes at the answer."""
    x = numbers(got, operator.domain_shape)
    gradient = operator.adjoint(operator.forward(x) - y) + alpha * x
    error = np.linalg.norm(gradient) / np.linalg.norm(operator.adjoint(y))
    if 1e-6 < error < 1e-3:
        raise NotYet(
            f"Nearly: the gradient is {error:.0e} of its size at x = 0. Stop the iteration later."
        )
    if not error <= 1e-6:
        raise NotYet(f"At your x the gradient is {error:.1g} of its size at x = 0.")


@tikhonov_solve.property("the gradient of ||Ax - y||^2 + alpha ||x||^2 vanishes at x", 2)
def _(ask: Callable) -> None:
    cases = []
    for rows, columns, low, high in ((12, 8, 0.2, 0.5), (8, 12, 0.03, 0.1), (10, 10, 1.5, 3)):
        a, _, _ = random_matrix(ask.rng, rows, columns, np.geomspace(2, 0.1, min(rows, columns)))
        y = ask.rng.standard_normal(rows)
        cases.append((MatrixOperator(a), y, float(ask.rng.uniform(low, high))))
    for case, x in answers(ask, cases):
        solved(x, *case)


@tikhonov_solve.property("unknowns and data may be images", 1)
def _(ask: Callable) -> None:
    rows, columns = (int(k) for k in ask.rng.integers((3, 6), (6, 9)))
    blur = operators.PeriodicBlur(ask.rng.standard_normal((rows, columns)) / 4)
    y, alpha = ask.rng.standard_normal((rows, columns)), float(ask.rng.uniform(0.05, 0.2))
    solved(ask(blur, y, alpha), blur, y, alpha)


@tikhonov_solve.mistake(
    "Your penalty is alpha^2 ||x||^2: stacking alpha I under A (or damp=alpha) squares it, the "
    "root of alpha is what belongs there"
)
def squares_alpha(operator, y, alpha):
    return dense_tikhonov(operator, y, alpha**2)


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
    return dense_tikhonov(operator, y, 2 * alpha)


# ------------------------------------------------------------------- Landweber's factors

landweber_factors = Check("ex-landweber-factors", "landweber_factors")


def iterated(
    rng: np.random.Generator, sigma: np.ndarray, iterations: int, step: float
) -> np.ndarray:
    """Run the iteration on a rotated matrix and read the factors off its result."""
    a, u, v = random_matrix(rng, len(sigma) + 2, len(sigma), sigma)
    y = v.sum(axis=1)  # every data coefficient is 1
    x = np.zeros(len(sigma))
    for _ in range(iterations):
        x = x + step * a.T @ (y - a @ x)
    return sigma * (u.T @ x)


def random_spectrum(rng: np.random.Generator, size: int = 5) -> np.ndarray:
    """Positive singular values in decreasing order, the first near 1."""
    return np.geomspace(1.2, 0.05, size) * rng.uniform(0.8, 1, size)


@landweber_factors.property("after k iterations the factors are those of the iteration itself", 1)
def _(ask: Callable) -> None:
    sigma = random_spectrum(ask.rng)
    cases = [(sigma, k, float(ask.rng.uniform(0.3, 1.1))) for k in (1, 2, 3, 10, 60)]
    for (_, k, step), q in answers(ask, cases):
        want = iterated(ask.rng, sigma, k, step)
        close(q, want, f"the factors for k = {k} and step {step:.3g}")


@landweber_factors.property("the iteration starts at x = 0", 1)
def _(ask: Callable) -> None:
    sigma, step = random_spectrum(ask.rng), float(ask.rng.uniform(0.2, 0.5))
    asked = answers(ask, [(sigma, 0, step), (np.ones(1), 1, step)])
    close(asked[0][1], np.zeros(sigma.size), "the factors for k = 0")
    close(asked[1][1], np.array([step]), "the factor for k = 1 and sigma = 1")


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

broken_truncation = Check("ex-broken-truncation", "truncation_noise", ("truncation_step",))
TRUNCATION_STEPS = {
    1: "Step 1 is right: alpha = delta^2 and sigma^2 >= alpha say sigma >= delta.",
    2: "Step 2 is right: it is linearity, with R_alpha A x = the sum of x_n u_n over kept modes.",
    3: "Step 3 is right: it is the tail of a convergent series, and no noise is in it.",
    5: "Step 5 only adds what the steps before it claim; look for the first false one.",
}


@broken_truncation.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, TRUNCATION_STEPS)


def noise_in_ball(got: Any, sigma: np.ndarray, delta: float) -> np.ndarray:
    """The answer as coefficients of a noise of norm at most delta, or NotYet."""
    e = numbers(got, sigma.shape)
    size = np.linalg.norm(e)
    if not size <= delta * (1 + 1e-6):
        raise NotYet(f"For delta = {delta:.2g} its norm is {size:.3g}, which is not allowed.")
    return e


def truncation_fails(ask: Callable, step: Any, cases: Iterable[tuple]) -> None:
    """NotYet unless the error stays above 1/2 in every case, and the step is the right one."""
    for (sigma, delta), e in answers(ask, cases):
        e = noise_in_ball(e, sigma, delta)
        error = np.linalg.norm((e / sigma)[sigma >= delta])  # x = u_1 is kept: no bias
        if not error >= 0.5:
            raise NotYet(
                f"For delta = {delta:.2g} the error is only {error:.2g}; it has to stay above "
                "1/2 for every delta."
            )
    right_step(step, 4, TRUNCATION_STEPS)


@broken_truncation.property("and a noise in the ball keeps the error away from 0", 2)
def _(ask: Callable, step: Any) -> None:
    n, deltas = np.arange(1, 3001), np.array([0.03, 0.01, 0.001]) * ask.rng.uniform(0.6, 1, 3)
    truncation_fails(ask, step, [(n**-power, float(d)) for power in (1.0, 2.0) for d in deltas])


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

broken_saturation = Check("ex-broken-saturation", "saturation_noise", ("saturation_step",))
SATURATION_STEPS = {
    1: "Step 1 is right: u_1 = (A*A)^mu (sigma_1^(-2 mu) u_1) for every mu > 0.",
    2: "Step 2 is right: sigma / (sigma^2 + alpha) <= 1 / (2 sqrt(alpha)), from (a - b)^2 >= 0.",
    4: "Step 4 is right if the steps before it are: it balances the two bounds.",
    5: "Step 5 only lets mu grow in what step 4 says; look for the first false one.",
}


@broken_saturation.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 3, SATURATION_STEPS)


def saturation_holds(ask: Callable, step: Any, cases: Iterable[tuple]) -> None:
    """NotYet unless no alpha beats the noise in any case, and the step is the right one."""
    alphas = np.r_[np.geomspace(1e-12, 1e3, 400), np.inf][:, None]
    for (sigma, delta), e in answers(ask, cases):
        e = noise_in_ball(e, sigma, delta)
        used = np.flatnonzero(e[1:]) + 1
        rest = 1 / (sigma[0] ** 2 / alphas[:, 0] + 1)  # 1 - q in the mode of x = u_1
        first = (1 - rest) * e[0] / sigma[0] - rest
        others = np.linalg.norm(sigma[used] * e[used] / (sigma[used] ** 2 + alphas), axis=1)
        error = np.hypot(first, others).min()
        if not error >= 0.6 * delta ** (2 / 3):
            raise NotYet(
                f"For delta = {delta:.2g} the best alpha brings the error down to {error:.2g}, "
                "below what saturation allows."
            )
    right_step(step, 3, SATURATION_STEPS)


@broken_saturation.property("and the noise stays in the ball, and no alpha at all beats it", 2)
def _(ask: Callable, step: Any) -> None:
    n, deltas = np.arange(1, 3001), np.array([1e-2, 1e-4, 1e-6]) * ask.rng.uniform(0.6, 1, 3)
    cases = [(1 / n, float(d)) for d in deltas] + [(n**-0.5, float(d)) for d in deltas[:2]]
    saturation_holds(ask, step, cases)


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

boundary_rates = Check("ex-boundary-rates", "best_error", ("predicted",), rtol=1e-3)
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
}
ALPHAS = np.geomspace(1e-7, 1e2, 80)


SOURCE_EXPONENTS = "These are source exponents mu; the rate is 2 mu / (2 mu + 1)"


def best_errors(sigma: np.ndarray, x: np.ndarray, delta: float) -> np.ndarray:
    """Least worst-case error and least sum of the two parts, by brute force: all directions of
    noise in three modes."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 2 * np.pi, 49))
    e = delta * np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1
    ).reshape(-1, 3)

    def worst(alpha: float) -> tuple[float, float]:
        rest = (alpha / (sigma**2 + alpha)) ** 2  # iterated Tikhonov of order 2
        bias, noise = rest * x, (1 - rest) / sigma * e
        both = np.linalg.norm(bias) + np.linalg.norm(noise, axis=1).max()
        return np.linalg.norm(noise - bias, axis=1).max(), both

    return np.array([worst(alpha) for alpha in np.geomspace(1e-5, 1e3, 121)]).min(axis=0)


def as_if_all_noise_were_tried(ask: Callable, deltas: Iterable[float], far: float) -> None:
    """NotYet unless the errors in three modes are right up to the fraction `far`."""
    sigma = np.array([1.0, 0.5, 0.2]) * ask.rng.uniform(0.9, 1.1, 3)
    x = ask.rng.uniform(0.5, 0.9, 3) * ask.rng.choice([-1, 1], 3)
    cases = [(sigma, x, delta * float(ask.rng.uniform(0.8, 1.2))) for delta in deltas]
    for (_, _, delta), got in answers(ask, cases):
        ratios = float(numbers(got, ())) / best_errors(sigma, x, delta)
        if not np.abs(ratios - 1).min() <= far:
            raise NotYet(
                f"In three modes, for delta = {delta:.2g}, your error is {ratios[0]:.3g} times the "
                f"exact one, and {ratios[1]:.3g} times the least sum of bias and noise."
            )


@boundary_rates.property("in three modes the error is the one that trying all noise gives", 2)
def _(ask: Callable, predicted: Any) -> None:
    as_if_all_noise_were_tried(ask, (0.02, 0.1), 0.03)


@cache
def polynomials(size: int = 2000) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Singular values of integration and the coefficients of the four functions."""
    operator = operators.Integration(size)
    t = operator.grid - 0.5 / size
    waves = {name: operator.analyse_domain(f(t)) / np.sqrt(size) for name, f in FUNCTIONS.items()}
    return operator.singular_values, waves


@cache
def measured_rates() -> dict[str, float]:
    """The exponents, from the upper bound bias + delta max g of iterated Tikhonov."""
    sigma, waves = polynomials()
    rest = 1 / (sigma**2 / np.geomspace(1e-6, 10, 120)[:, None] + 1) ** 2
    deltas = np.geomspace(1e-2, 1e-4, 7)
    noise = np.multiply.outer(((1 - rest) / sigma).max(axis=1), deltas)
    return {
        name: slope(deltas, (np.linalg.norm(rest * x, axis=1)[:, None] + noise).min(axis=0))
        for name, x in waves.items()
    }


def rates_named(predicted: Any) -> dict[str, float]:
    """NotYet unless the exponents predicted are right; four numbers if they are."""
    if not isinstance(predicted, dict) or set(predicted) != set(FUNCTIONS):
        raise NotYet(f"`predicted` should be a dict with the keys {', '.join(FUNCTIONS)}.")
    rates = dict(zip(predicted, numbers(list(predicted.values()), (4,)).tolist(), strict=True))
    for sentence, wrong in WRONG_RATES.items():
        if np.allclose([rates[name] for name in FUNCTIONS], wrong, atol=0.02):
            raise NotYet(f"{sentence}.")
    measured = measured_rates()
    if all(abs(2 * mu / (2 * abs(mu) + 1) - measured[name]) <= 0.05 for name, mu in rates.items()):
        raise NotYet(f"{SOURCE_EXPONENTS}.")
    far = [name for name, rate in measured.items() if abs(rate - rates[name]) > 0.05]
    if far:
        raise NotYet(f"Prediction and experiment differ for {' and '.join(far)}.")
    return rates


@boundary_rates.property("the predicted exponents are the ones that your function measures", 2)
def _(ask: Callable, predicted: Any) -> None:
    sigma, waves = polynomials()
    deltas = np.array([1e-2, 1e-4]) * ask.rng.uniform(0.9, 1.1, 2)
    cases = [(sigma, x, float(d)) for x in waves.values() for d in deltas]
    errors = [positive(error, "The error of noisy data") for _, error in answers(ask, cases)]
    as_if_all_noise_were_tried(ask, [0.05], 0.2)  # an exponent alone is no measurement
    rates = rates_named(predicted)
    for i, name in enumerate(waves):
        got = slope(deltas, np.array(errors[2 * i : 2 * i + 2]))
        if not abs(got - rates[name]) <= 0.06:
            raise NotYet(f"For {name} your function measures the exponent {got:.2f}.")


def _grid_error(sigma, x, delta, q, alphas=ALPHAS):
    return spectral.worst_case_error(sigma, x, q(sigma, np.asarray(alphas)[:, None]), delta)


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

discrepancy_alpha = Check("ex-discrepancy-alpha", "discrepancy_alpha", rtol=1e-3)


def noise_of_norm(rng: np.random.Generator, size: int, std: float) -> np.ndarray:
    """Noise with exactly the norm that is typical, so that a solution always exists."""
    e = rng.standard_normal(size)
    return e * (std * np.sqrt(size) / np.linalg.norm(e))


def residual(operator: Operator, y: np.ndarray, alpha: float) -> float:
    """The norm of A x_alpha - y = -alpha (A A* + alpha)^-1 y, without a singular system."""
    a = operator.to_matrix()
    return float(np.linalg.norm(np.linalg.solve(a @ a.T / alpha + np.eye(y.size), y.ravel())))


def fits_the_noise(ask: Callable, cases: Iterable[tuple]) -> None:
    """NotYet unless the residual at every answer has the norm asked for."""
    for (operator, y, std, tau), alpha in answers(ask, cases):
        alpha = positive(alpha, "alpha")
        ratio = residual(operator, y, alpha) / (tau * std * np.sqrt(y.size))
        close(ratio, 1.0, f"with {y.size} data, the residual at your alpha", 1e-4)


def tall_problem(rng: np.random.Generator) -> tuple[Operator, np.ndarray, float, float]:
    """Five times as many data as unknowns."""
    a, u, _ = random_matrix(rng, 60, 12, np.geomspace(2, 0.02, 12))
    std = float(rng.uniform(0.05, 0.1))
    y = a @ u @ rng.choice([-1.0, 1.0], 12) + noise_of_norm(rng, 60, std)
    return MatrixOperator(a).compute_singular_system(), y, std, float(rng.uniform(1.1, 1.3))


@discrepancy_alpha.property("the residual at alpha is tau times the norm that noise has", 2)
def _(ask: Callable) -> None:
    cases = []
    for size, std in ((40, 0.01), (60, 0.003)):
        operator = operators.Integration(size)
        x = np.sin(ask.rng.uniform(2, 4) * operator.grid) + operator.grid
        y = operator.forward(x) + noise_of_norm(ask.rng, size, std)
        cases.append((operator, y, std, float(ask.rng.uniform(1.1, 1.6))))
    fits_the_noise(ask, cases)


@discrepancy_alpha.property("data that A cannot produce count as well", 1)
def _(ask: Callable) -> None:
    fits_the_noise(ask, [tall_problem(ask.rng) for _ in range(2)])


def _alpha_at(operator, y, level, inside_only=False):
    """The alpha whose residual has the norm `level`, by bisection in log alpha."""
    v, s, _ = np.linalg.svd(operator.to_matrix(), full_matrices=False)
    c = v.T @ y
    outside = 0.0 if inside_only else np.linalg.norm(y - v @ c)
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        left = np.hypot(np.linalg.norm(c / (s**2 / np.exp(middle) + 1)), outside)
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

discrepancy_error = Check("ex-discrepancy-saturates", "discrepancy_error", ("exponent",), rtol=1e-4)
WRONG_EXPONENTS = {
    1.0: "Predicting 1 says that u_1 is smooth, so nothing is lost: but Tikhonov saturates.",
    2 / 3: "2/3 is what the best alpha gives; the discrepancy principle takes a smaller one.",
    1 / 3: "1/3 is too pessimistic: alpha is of order delta, not smaller.",
}


def error_at_discrepancy(a: np.ndarray, x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Error of Tikhonov's method at the alpha whose residual is `level`, by dense solves."""
    operator, low, high = MatrixOperator(a), -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        above = residual(operator, y, math.exp(middle)) > level
        low, high = (low, middle) if above else (middle, high)
    return float(np.linalg.norm(dense_tikhonov(operator, y, math.exp(low)) - x))


def largest_error(sigma: np.ndarray, delta: float, tau: float) -> float:
    """Each of the problems by itself, with matrices."""
    first, *others = np.eye(sigma.size)
    return max(
        error_at_discrepancy(np.diag(sigma), first, sigma[0] * first + delta * noise, tau * delta)
        for noise in others
    )


def as_if_one_by_one(ask: Callable, cases: Iterable[tuple], rtol: float = 1e-4) -> None:
    """NotYet unless every answer is the largest of the errors found one by one."""
    for case, got in answers(ask, cases):
        positive(got, "The error of noisy data")
        close(got, largest_error(*case), f"the error for delta = {case[1]:.2g}", rtol)


@discrepancy_error.property("in a few modes the error is that of solving each problem by itself", 2)
def _(ask: Callable, exponent: Any) -> None:
    delta, tau = ask.rng.uniform((0.02, 1.3), (0.06, 1.7))
    steep, tight = ask.rng.uniform((0.005, 1.05), (0.015, 1.2))
    sigma = np.geomspace(2, 0.05, 6) * ask.rng.uniform(0.9, 1, 6)
    as_if_one_by_one(
        ask, [(1 / np.arange(1, 9), float(delta), float(tau)), (sigma, float(steep), float(tight))]
    )


def right_exponent(
    ask: Callable, exponent: Any, sigma: np.ndarray, deltas: np.ndarray, tau: float
) -> None:
    """NotYet unless the answers decay with the exponent predicted."""
    cases = [(sigma, float(delta), tau) for delta in deltas]
    errors = [positive(error, "The error of noisy data") for _, error in answers(ask, cases)]
    # an exponent alone is no measurement: the first modes must have about the right errors
    as_if_one_by_one(ask, [(sigma[:4], float(deltas[0]), tau)], 0.05)
    predicted = float(numbers(exponent, ()))
    if abs(predicted - slope(deltas, np.array(errors))) < 0.04:
        return
    for wrong, sentence in WRONG_EXPONENTS.items():
        if abs(predicted - wrong) < 0.01:
            raise NotYet(sentence)
    raise NotYet(f"You predicted {predicted:.3g}, and your function measures another exponent.")


@discrepancy_error.property("the exponent predicted is the one that your function measures", 1)
def _(ask: Callable, exponent: Any) -> None:
    deltas = np.geomspace(1e-2, 1e-5, 4) * ask.rng.uniform(0.9, 1.1, 4)
    right_exponent(ask, exponent, 1 / np.arange(1, 1501), deltas, float(ask.rng.uniform(1.4, 1.6)))


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
    return _mode_errors(sigma, delta, np.geomspace(1e-9, 1e3, 400)[:, None]).min(axis=0).max()


@discrepancy_error.mistake("You compare the *squared* residual with tau times delta")
def squares_this_residual(sigma, delta, tau):
    return _errors_at(sigma, delta, np.sqrt(tau * delta)).max()


@discrepancy_error.mistake("You took the least error over the modes; the worst case is the largest")
def takes_the_mildest(sigma, delta, tau):
    return _errors_at(sigma, delta, tau * delta).min()


# ----------------------------------------------------------------- generalized cross-validation

gcv_score = Check("ex-gcv-score", "gcv_score")


def hat(operator: Operator, alpha: float) -> np.ndarray:
    """The dense matrix H that maps data to Tikhonov's fit."""
    a = operator.to_matrix()
    return a @ np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T)


def leaves_one_out(ask: Callable, blur: operators.PeriodicBlur, alphas: Iterable[float]) -> None:
    """NotYet unless V is the mean squared error of predicting each datum from the others."""
    a, y = blur.to_matrix(), ask.rng.standard_normal(blur.range_shape)
    data = y.ravel()
    for (_, _, alpha), score in answers(ask, [(blur, y, float(alpha)) for alpha in alphas]):
        missed = []
        for j in range(data.size):
            keep = np.arange(data.size) != j
            gram = a[keep].T @ a[keep] + alpha * np.eye(data.size)
            missed.append(data[j] - a[j] @ np.linalg.solve(gram, a[keep].T @ data[keep]))
        close(score, np.mean(np.square(missed)), "V")


def agrees_with_hat(ask: Callable, cases: Iterable[tuple]) -> None:
    """NotYet unless V is what the dense matrix H gives."""
    for (operator, y, alpha), score in answers(ask, cases):
        rest = np.eye(y.size) - hat(operator, alpha)
        want = np.mean((rest @ y.ravel()) ** 2) / (np.trace(rest) / y.size) ** 2
        rows, columns = math.prod(operator.range_shape), math.prod(operator.domain_shape)
        close(score, want, f"V for a {rows} x {columns} matrix")


def gcv_case(
    rng: np.random.Generator, rows: int, columns: int, sigma: np.ndarray, alpha: float
) -> tuple[Operator, np.ndarray, float]:
    """A matrix with a singular system, random data, and alpha times a random factor."""
    a, _, _ = random_matrix(rng, rows, columns, sigma)
    operator = MatrixOperator(a).compute_singular_system()
    return operator, rng.standard_normal(rows), alpha * float(rng.uniform(0.7, 1.4))


@gcv_score.property("on a circulant matrix, V is the error of leave-one-out prediction", 2)
def _(ask: Callable) -> None:
    left, right = ask.rng.uniform(0.1, 0.3, 2)
    blur = operators.PeriodicBlur(np.r_[0.5, left, np.zeros(int(ask.rng.integers(6, 10))), right])
    leaves_one_out(ask, blur, np.array([0.01, 0.3, 5.0]) * ask.rng.uniform(0.8, 1.2, 3))


@gcv_score.property("with more data than unknowns it agrees with the dense hat matrix", 1)
def _(ask: Callable) -> None:
    sigma = np.geomspace(2, 0.1, 4)
    agrees_with_hat(ask, [gcv_case(ask.rng, 9, 4, sigma, alpha) for alpha in (0.05, 1.0)])


def _parts(operator, y, alpha):
    """D, the norm of (I - H) y, the part of it inside the range of A, and the trace of H."""
    v, s, _ = np.linalg.svd(operator.to_matrix(), full_matrices=False)
    h, flat = hat(operator, alpha), y.ravel()
    inside = np.linalg.norm(v.T @ (flat - h @ flat))
    return y.size, np.linalg.norm(flat - h @ flat), inside, np.trace(h), s.size


@gcv_score.mistake("tr(H) stands in your denominator: it must be the trace of I - H")
def divides_by_the_trace_of_h(operator, y, alpha):
    d, rest, _, trace, _ = _parts(operator, y, alpha)
    return d * (rest / trace) ** 2


@gcv_score.mistake(
    "The number of data is forgotten: the trace of I - H is D minus the sum of all q_n, and D is "
    "the number of data, not of modes"
)
def counts_modes_only(operator, y, alpha):
    d, rest, _, trace, modes = _parts(operator, y, alpha)
    return d * (rest / (modes - trace)) ** 2


@gcv_score.mistake(
    "The residual misses the part of y that is orthogonal to every v_n; the trace counts it"
)
def forgets_the_part_outside(operator, y, alpha):
    d, _, inside, trace, _ = _parts(operator, y, alpha)
    return d * (inside / (d - trace)) ** 2


@gcv_score.mistake("The trace enters squared: this is ||(I - H)y||^2 / tr(I - H)")
def forgets_to_square_the_trace(operator, y, alpha):
    d, rest, _, trace, _ = _parts(operator, y, alpha)
    return rest**2 / (d - trace)


@gcv_score.mistake(
    "D is forgotten: this is V / D, with the same minimizer but another normalization; only V "
    "itself estimates an error of prediction"
)
def forgets_to_normalize(operator, y, alpha):
    d, rest, _, trace, _ = _parts(operator, y, alpha)
    return (rest / (d - trace)) ** 2


# ------------------------------------------------------------------------- the heartbeat

deblur = Check("ex-heartbeat", "deblur")


def made_up_heartbeat(rng: np.random.Generator, size: int = 1024) -> np.ndarray:
    """Beats of five humps each: a small one, a sharp peak between two dips, and a broad one."""
    t, beat = np.arange(size), np.zeros(size)
    period = float(rng.uniform(180, 260))
    humps = ((-0.2, 25, 10), (-0.04, -35, 2), (0, 230, 1.8), (0.04, -60, 2), (0.3, 60, 20))
    for place, height, width in humps:
        height *= rng.uniform(0.8, 1.2)
        distance = (t - period * (0.4 + place) + period / 2) % period - period / 2
        beat += height * np.exp(-((distance / width) ** 2) / 2)
    return beat


def near_the_best(ask: Callable, cases: list[tuple[Operator, np.ndarray, np.ndarray]]) -> None:
    """NotYet unless the errors are at most 1.6 times the least that any alpha gives, but for one:
    every rule that sees only the data has its unlucky recordings."""
    asked = answers(ask, [(operator, y) for operator, _, y in cases])
    missed = []
    for (operator, x, y), (_, got) in zip(cases, asked, strict=True):
        sigma, c, want = operator.singular_values, operator.analyse(y), operator.analyse_domain(x)
        trials = sigma / (sigma**2 + np.geomspace(1e-8, 1, 80)[:, None]) * c
        best = np.linalg.norm(trials - want, axis=1).min()
        error = np.linalg.norm(numbers(got, x.shape) - x)
        if not error <= 1.6 * best:
            ratio = f"{error / best:.1f}" if error < 100 * best else "more than a hundred"
            noise = np.linalg.norm(y - operator.forward(x)) / np.linalg.norm(y)
            missed.append(
                f"Where the noise is {100 * noise:.2g} % of the data, your error is {ratio} times "
                "as large as the best possible."
            )
    if len(missed) > 1:
        raise NotYet(missed[-1])


def recordings(
    rng: np.random.Generator, truths: Iterable[np.ndarray], unit: float = 1.0
) -> list[tuple[Operator, np.ndarray, np.ndarray]]:
    """Blur, truth, and its blurred and noisy data: two blurs, each with weak and strong noise, so
    far apart that no alpha is near the best for both."""
    cases, blurs = [], [(low, high) for low, high in ((4, 5), (5, 7)) for _ in range(2)]
    for k, (x, limits) in enumerate(zip(truths, blurs, strict=True)):
        operator = operators.gaussian_blur(x.size, float(rng.uniform(*limits)))
        std = rng.uniform(20, 30) if k % 2 else rng.uniform(0.02, 0.06)
        y = operator.forward(x) + std * rng.standard_normal(x.size)
        cases.append((operator, unit * x, unit * y))
    return cases


@deblur.property("the error is at most 1.6 times that of the best Tikhonov reconstruction", 2)
def _(ask: Callable) -> None:
    near_the_best(ask, recordings(ask.rng, [made_up_heartbeat(ask.rng) for _ in range(4)]))


@deblur.property("the same for voltages in smaller units, which are larger numbers", 1)
def _(ask: Callable) -> None:
    beats = [made_up_heartbeat(ask.rng) for _ in range(4)]
    near_the_best(ask, recordings(ask.rng, beats, float(ask.rng.uniform(500, 2000))))


@deblur.mistake("You return the data: they are blurred, and their noise is untouched")
def returns_the_data(operator, y):
    return y


@deblur.mistake("This is the pseudo-inverse: it turns the noise into the whole answer")
def inverts_plainly(operator, y):
    sigma = operator.singular_values
    gain = np.divide(1, sigma, out=np.zeros_like(sigma), where=sigma > 0)
    return operator.synthesise(gain * operator.analyse(y))
