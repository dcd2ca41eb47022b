"""The learned part of advreg.spectral: each formula against the loss that it minimizes."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from advreg import spectral

Law = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_law(rng: np.random.Generator, atoms: int = 5) -> Law:
    """Probabilities and values of (x, eps), correlated, of a law with a few atoms."""
    x, e = rng.standard_normal((2, atoms)) * 10.0 ** rng.uniform(-2, 2, (2, 1))
    return rng.dirichlet(np.ones(atoms)), x, e + rng.uniform(-1, 1) * x


def independent_law(rng: np.random.Generator, atoms: int = 4) -> Law:
    """As random_law, with x and eps independent and eps of mean zero: all pairs of atoms."""
    p, q = rng.dirichlet(np.ones(atoms), 2)
    x, e = rng.standard_normal((2, atoms))
    e -= q @ e
    return np.outer(p, q).ravel(), np.repeat(x, atoms), np.tile(e, atoms)


def moments(law: Law) -> tuple[float, float, float]:
    p, x, e = law
    return p @ x**2, p @ e**2, p @ (x * e)


def loss(law: Law, sigma: float, g: float) -> float:
    p, x, e = law
    return p @ (g * (sigma * x + e) - x) ** 2


# ----------------------------------------------------------------------- the learned gain


@pytest.mark.parametrize("seed", range(20))
def test_the_gain_minimizes_the_loss_of_a_law(seed: int) -> None:
    rng = np.random.default_rng(seed)
    law, sigma = random_law(rng), 10.0 ** rng.uniform(-2, 1)
    signal, noise, cross = moments(law)
    g = spectral.mse_gain(sigma, signal, noise, cross)
    best = minimize_scalar(lambda g: loss(law, sigma, g), bracket=(-1.0, 1.0), tol=1e-12)
    assert_allclose(g, best.x, rtol=1e-6, atol=1e-8)
    assert loss(law, sigma, float(g)) <= best.fun * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_modal_risk_is_the_loss_of_a_law_at_any_gain(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    laws, sigma, g = [random_law(rng) for _ in range(6)], rng.uniform(0, 2, 6), rng.normal(size=6)
    signal, noise, cross = np.transpose([moments(law) for law in laws])
    risk = spectral.modal_risk(sigma, signal, noise, g, cross)
    assert_allclose(risk, [loss(*args) for args in zip(laws, sigma, g, strict=True)], rtol=1e-10)


def test_the_risk_of_a_filter_is_its_mean_squared_error() -> None:
    """Monte Carlo in the space of x, with another signal than the filter was trained on."""
    rng = np.random.default_rng(7)
    sigma, signal = spectral.model_problem(1.0, 1.0, 30)
    g = spectral.mse_gain(sigma, signal, 0.01)
    x = rng.standard_normal((40_000, 31)) * np.sqrt(2 * signal)
    y = sigma * x + 0.2 * rng.standard_normal(x.shape)
    errors = ((g * y - x) ** 2).sum(axis=1)
    risk = spectral.modal_risk(sigma, 2 * signal, 0.04, g).sum()
    assert abs(errors.mean() - risk) < 4 * errors.std() / math.sqrt(errors.size)


def test_degenerate_modes() -> None:
    sigma, signal, noise = [1.0, 0.5, 0.0, 0.0, 2.0, 0.0], [1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 0, 0]
    expected = [0.5, 0.0, 0.0, 0.0, 0.5, 0.0]
    assert_array_equal(spectral.mse_gain(sigma, signal, noise), expected)
    assert_array_equal(spectral.mse_gain(sigma, signal, noise, np.zeros(6)), expected)
    assert spectral.mse_gain(0.0, 1.0, 2.0, cross=0.5) == 0.25
    assert spectral.mse_gain(1.0, 0.0, 0.0) == 0.0


def test_data_that_cancel_give_gain_zero() -> None:
    """eps = -sigma x makes y = 0; close to it, the formula stands."""
    sigma = np.array([0.3, 1.0, 7.0])
    signal = np.array([2.0, 0.7, 1e-6])
    noise, cross = sigma**2 * signal, -sigma * signal
    assert_array_equal(spectral.mse_gain(sigma, signal, noise, cross), 0.0)
    near = spectral.mse_gain(sigma, signal, noise * (1 + 1e-6) ** 2, cross * (1 + 1e-6))
    assert_allclose(near * sigma, -1e6, rtol=1e-3)  # y = -1e-6 sigma x: exact recovery


def test_tiny_singular_values_do_not_underflow() -> None:
    sigma = np.array([1e-200, 1e-300])
    assert_allclose(spectral.mse_gain(sigma, 1.0, 0.0), 1 / sigma, rtol=1e-15)
    assert_allclose(spectral.mse_gain(sigma, 1e-200, 1e-250), sigma * 1e50, rtol=1e-14)


positive_numbers = st.floats(1e-6, 1e6)


@settings(max_examples=200, deadline=None)
@given(positive_numbers, positive_numbers, positive_numbers, positive_numbers)
def test_bounds_scaling_and_optimality(s: float, signal: float, noise: float, t: float) -> None:
    g = float(spectral.mse_gain(s, signal, noise))
    assert 0 <= g <= min(1 / s, math.sqrt(signal / noise) / 2) * (1 + 1e-12)
    assert_allclose(spectral.mse_gain(s, t**2 * signal, t**2 * noise), g, rtol=1e-12)
    assert_allclose(spectral.mse_gain(t * s, signal, t**2 * noise), g / t, rtol=1e-12)
    risk = spectral.modal_risk(s, signal, noise, g)
    assert_allclose(risk, signal * noise / (s**2 * signal + noise), rtol=1e-7, atol=1e-9 * signal)
    for other in (0.0, 0.9 * g, 1.1 * g, 1 / s):
        assert risk <= spectral.modal_risk(s, signal, noise, other) * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(positive_numbers, positive_numbers, positive_numbers, st.floats(-1, 1))
def test_optimality_with_correlation(s: float, signal: float, noise: float, r: float) -> None:
    cross = r * math.sqrt(signal) * math.sqrt(noise)
    g = float(spectral.mse_gain(s, signal, noise, cross))
    for other in (g - 1e-3 / s, g + 1e-3 / s, 0.0):
        risk = spectral.modal_risk(s, signal, noise, [g, other], cross)
        size = (1 + (s * g) ** 2) * signal + g**2 * noise
        assert risk[0] <= risk[1] + 1e-12 * size


def test_grids_broadcast() -> None:
    sigma, signal = spectral.model_problem(1.0, 1.0, 10)
    noise = np.array([1e-2, 1e-4])[:, None]
    g = spectral.mse_gain(sigma, signal, noise)
    assert g.shape == (2, 11) and g.dtype == np.float64
    assert_array_equal(g[1], spectral.mse_gain(sigma, signal, 1e-4))
    assert spectral.modal_risk(sigma, signal, noise, g).shape == (2, 11)
    assert spectral.mse_gain(sigma, signal, 1e-2, np.zeros((3, 1))).shape == (3, 11)
    for f in (spectral.pnp_gain, spectral.post_gain):
        assert f(sigma, signal, noise).shape == (2, 11)
    for source_condition in (False, True):
        for f in (spectral.critic_weights, spectral.critic_gain):
            one = f(sigma, 1.0, noise, 0.4, source_condition=source_condition)
            assert one.shape == (2, 11)
            assert f(sigma, 1.0, 0.1, 0.4, source_condition=source_condition).shape == (11,)


# --------------------------------------------------------------------------------- lmmse


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_lmmse_is_least_squares_on_the_samples_of_a_law(seed: int, rank: int | None) -> None:
    """The samples themselves are the law, so that the moments are exact; they correlate."""
    rng = np.random.default_rng(seed)
    m, n, count = 5, 4, 50
    a, mix = rng.standard_normal((m, n)), rng.standard_normal((m + n, m + n))
    if rank is not None:
        mix[rank:] = 0.0  # x and eps depend on `rank` numbers, so y is singular
    both = rng.standard_normal((count, m + n)) @ mix
    x, e = both[:, :n], both[:, n:]
    y = x @ a.T + e
    ours = spectral.lmmse(a, x.T @ x / count, e.T @ e / count, x.T @ e / count)
    peer = np.linalg.lstsq(y, x, rcond=1e-10)[0].T
    if rank is None:
        assert_allclose(ours, peer, atol=1e-8 * np.abs(peer).max())
    assert_allclose(y @ ours.T, y @ peer.T, atol=1e-6)


def test_lmmse_is_the_gain_where_everything_is_diagonal() -> None:
    rng = np.random.default_rng(5)
    sigma, signal = spectral.model_problem(2.0, 1.0, 40)
    noise = rng.uniform(0, 1e-6, 41)
    noise[[3, -1]] = 0.0
    v, u = (np.linalg.qr(rng.standard_normal((41, 41)))[0] for _ in range(2))
    diagonal = spectral.lmmse(np.diag(sigma), np.diag(signal), np.diag(noise))
    g = spectral.mse_gain(sigma, signal, noise)
    assert_allclose(np.diag(diagonal), g, rtol=1e-10)
    assert_allclose(diagonal - np.diag(np.diag(diagonal)), 0, atol=1e-9)
    rotated = spectral.lmmse((v * sigma) @ u.T, (u * signal) @ u.T, 1e-4 * np.eye(41))
    assert_allclose(u.T @ rotated @ v, np.diag(spectral.mse_gain(sigma, signal, 1e-4)), atol=1e-8)


def test_a_filter_is_not_the_best_linear_map_if_modes_correlate() -> None:
    """A = C_x = C_eps = I, E x_1 eps_2 = .9: every Gamma_n is 0, yet noise predicts signal."""
    cross = np.array([[0.0, 0.9], [0.0, 0.0]])
    r = spectral.lmmse(np.eye(2), np.eye(2), np.eye(2), cross)
    data = 2 * np.eye(2) + cross + cross.T
    risk = 2 - np.trace((np.eye(2) + cross) @ np.linalg.inv(data) @ (np.eye(2) + cross).T)
    assert_allclose(risk, 0.746, atol=5e-4)
    error = np.eye(2) - r @ (np.eye(2) + cross).T
    assert_allclose(np.trace(error), risk, rtol=1e-12)  # orthogonality: E (Ry - x) y* = 0
    assert_allclose(spectral.modal_risk(1.0, 1.0, 1.0, spectral.mse_gain(1.0, 1.0, 1.0)), 0.5)


def test_lmmse_refuses_what_no_law_has() -> None:
    eye = np.eye(2)
    with pytest.raises(ValueError, match="symmetric"):
        spectral.lmmse(eye, [[1, 0.5], [0, 1]], eye)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        spectral.lmmse(eye, -eye, eye)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        spectral.lmmse(eye, eye, eye, 1.1 * eye)
    with pytest.raises(ValueError, match=r"noise_covariance must have the shape \(2, 2\)"):
        spectral.lmmse(eye, eye, np.eye(3))
    with pytest.raises(ValueError, match=r"shape \(m, n\)"):
        spectral.lmmse([1.0], eye, eye)


# -------------------------------------------------------------------------- model problem


def test_model_problem_has_all_the_power() -> None:
    for size in (1, 10, 1000):
        sigma, signal = spectral.model_problem(1.5, 1.0, size)
        assert sigma.shape == signal.shape == (size + 1,)
        assert_allclose(signal.sum(), math.pi**2 / 6, rtol=1e-14)
        assert_allclose(spectral.model_problem(1.5, 2.0, size)[1].sum(), math.pi**4 / 90)
    sigma, signal = spectral.model_problem(1.5, 1.0, 4)
    assert_allclose(sigma, [1, 2**-1.5, 3**-1.5, 1 / 8, 0])
    assert_allclose(signal[:-1], [1, 1 / 4, 1 / 9, 1 / 16])


@pytest.mark.parametrize("b", [0.501, 0.55, 0.75, 1.0, 3.0])
@pytest.mark.parametrize("a", [0.05, 0.25, 1.0, 3.0])
def test_rate_constant_is_the_integral(a: float, b: float) -> None:
    """Of t^2a / (1 + t^(2a + 2b)); beyond 1 after t -> 1/t, less its singular part."""
    p = 2 * (a + b)
    below = quad(lambda t: t ** (2 * a) / (1 + t**p), 0, 1)[0]
    above = 1 / (2 * b - 1) - quad(lambda t: t ** (p + 2 * b - 2) / (1 + t**p), 0, 1)[0]
    assert_allclose(spectral.rate_constant(a, b), below + above, rtol=1e-7)


def measured(
    a: float, b: float, c: float, b_test: float, level: float, size: int = 200_000
) -> float:
    """Slope of the risk where the cut-off index runs from 1000 to 3000."""
    sigma, signal = spectral.model_problem(a, b, size)
    _, tested = spectral.model_problem(a, b_test, size)
    n = np.arange(1, size + 2)
    training_levels = np.array([1000.0, 3000.0]) ** -(a + b - c)
    deltas, risks = training_levels ** (1 / level), []
    for trained, delta in zip(training_levels, deltas, strict=True):
        g = spectral.mse_gain(sigma, signal, trained**2 * n ** (-2 * c))
        risks.append(spectral.modal_risk(sigma, tested, delta**2, g).sum())
    return spectral.slope(deltas, risks)


@pytest.mark.parametrize(
    ("a", "b", "c", "b_test", "level", "tolerance"),
    [
        (1, 1, 0, 1, 1, 1e-4),
        (1, 0.75, 0, 0.75, 1, 1e-4),
        (2, 1, 0, 1, 1, 1e-4),
        (0.5, 1.5, 0, 1.5, 1, 1e-4),
        (0.25, 3, 0, 3, 1, 1e-4),
        (1, 1, -0.25, 1, 1, 0.003),
        (1, 1, -1, 1, 1, 1e-4),
        (1, 1, 0.25, 1, 1, 0.02),  # two exponents close to each other: .304 for .286
        (1, 1, 0.4, 1, 1, 0.005),
        (1, 1, 0.6, 1, 1, 0.002),  # negative: divergence
        (2, 1.5, 0.5, 1.5, 1, 0.002),
        (2, 1.5, 1.3, 1.5, 1, 0.002),
        (1, 1, 0, 2, 1, 1e-4),
        (1, 2, 0, 1, 1, 1e-4),
        (1, 0.75, 0, 1.5, 1, 1e-3),
        (1, 1, 0, 2, 2 / 3, 1e-3),  # the level that repairs the mismatch: 1
        (1, 2, 0, 1, 1.5, 1e-3),  # .5
        (0.5, 0.6, 0, 3.5, 1.1 / 4, 2e-3),  # saturation, 4 (a + b) / (a + b_test) = 1.1
        (0.5, 0.6, 0, 3.5, 1.1 / 2, 2e-3),
        (0.5, 0.6, 0, 3.5, 1.1 / 6, 2e-3),
    ],
)
def test_measured_exponents(
    a: float, b: float, c: float, b_test: float, level: float, tolerance: float
) -> None:
    exponent = spectral.mse_exponent(a, b, c=c, b_test=b_test, level=level)
    assert_allclose(measured(a, b, c, b_test, level), exponent, atol=tolerance)


def test_exponents_by_hand() -> None:
    f = spectral.mse_exponent
    assert_allclose(f(1, [1, 0.75, 2]), [1 / 2, 2 / 7, 1])
    assert_allclose(f(1, 1, c=np.array([-0.25, 0.25, 0.4, 0.6])), [4 / 9, 2 / 7, 1 / 8, -1 / 7])
    assert f(1, 1, c=0.5) == 0 and isinstance(f(1, 1), float)
    assert_allclose([f(1, 1, b_test=2), f(1, 2, b_test=1)], [1 / 2, 1 / 3])
    assert_allclose([f(1, 1, b_test=2, level=2 / 3), f(1, 2, b_test=1, level=3 / 2)], [1, 1 / 2])
    assert_allclose(f(0.5, 0.6, b_test=3.5, level=1.1 / 4), 1.1)
    assert f(np.ones((2, 1)), [1.0, 2.0, 3.0]).shape == (2, 3)


def test_infinite_risk_exactly_from_the_threshold_on() -> None:
    """c = a/2 + b - 1/4 = 1.25: the variance of D modes, the tail sum of n^(4c - 2a - 4b),
    grows like log D; a little below it converges."""

    def growth(c: float) -> list[float]:
        risks = []
        for size in (10_000, 100_000, 1_000_000):
            sigma, signal = spectral.model_problem(1.0, 1.0, size)
            g = spectral.mse_gain(sigma, signal, 1e-4 * np.arange(1, size + 2) ** (-2 * c))
            risks.append(spectral.modal_risk(sigma, signal, 1e-4, g).sum())
        return list(np.diff(risks))

    first, second = growth(1.25)
    assert_allclose(second / first, 1.0, atol=0.02)
    first, second = growth(0.9)
    assert second < 0.1 * first
    thresholds = np.nextafter(1.25, [1, 2])
    assert_array_equal(np.isinf(spectral.mse_exponent(1, 1, c=[*thresholds, 1.25])), [0, 1, 1])


# ------------------------------------------------------------------------------- modulus


def test_modulus_is_the_largest_least() -> None:
    rng = np.random.default_rng(0)
    sigma, signal = rng.uniform(0, 1, 50), rng.uniform(0, 1, 50)
    sigma[:5], signal[3:8] = 0.0, 0.0
    for delta in (0.0, 1e-3, 0.1, 10.0):
        values = [
            min(math.sqrt(p), delta / s if s else math.inf)
            for s, p in zip(sigma, signal, strict=True)
        ]
        assert spectral.modulus(sigma, signal, delta) == max(values)
    assert_array_equal(
        spectral.modulus(sigma, signal, [1e-3, 0.1]),
        [spectral.modulus(sigma, signal, 1e-3), spectral.modulus(sigma, signal, 0.1)],
    )
    assert spectral.modulus([1.0, 0.5], [0.0, 0.0], 0.1) == 0


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.25, 0.55), (2.0, 0.75)])
def test_modulus_of_the_model_problem(a: float, b: float) -> None:
    """At delta = N^-(a+b) the mode n = N attains delta^(b / (a + b)) exactly."""
    sigma, signal = spectral.model_problem(a, b, 5000)
    cut = np.array([10.0, 100.0, 1000.0])
    ours = spectral.modulus(sigma[:-1], signal[:-1], cut ** -(a + b))
    assert_allclose(ours, cut**-b, rtol=1e-12)


# ------------------------------------------------------------------------- the paradigms


def iterate(s: float, p: float, d: float, tau: float, steps: int) -> float:
    """Plug-and-play on y = 1: x <- D (x - tau s (s x - y)); noise-free data need no denoiser."""
    denoiser, x = (p / (p + d) if p else 0.0), 0.0
    for _ in range(steps):
        x = denoiser * (x - tau * s * (s * x - 1))
    return x


@pytest.mark.parametrize("step", [0.25, 1.0, 1.9])
def test_pnp_gain_is_where_the_iteration_stops(step: float) -> None:
    sigma, signal = np.array([1.0, 0.7, 0.3, 0.2, 0.0]), np.array([1.0, 0.5, 0.2, 0.0, 1.0])
    for noise in (0.3, 0.01):
        fixed = [iterate(s, p, noise, step, 20_000) for s, p in zip(sigma, signal, strict=True)]
        assert_allclose(spectral.pnp_gain(sigma, signal, noise, step), fixed, rtol=1e-9)
    gains = [spectral.pnp_gain(0.5, 1.0, 0.1, tau) for tau in (0.25, 1.0, 2.0)]
    assert_allclose(gains, [0.5 / 0.65, 0.5 / 0.35, 0.5 / 0.3])
    assert_allclose(gains[1], spectral.mse_gain(0.5, 1.0, 0.1))


def test_pnp_refuses_exactly_the_steps_that_diverge() -> None:
    for noise, limit in ((0.0, 2.0), (0.5, 2.5)):
        assert abs(iterate(1.0, 1.0, noise, 1.001 * limit, 20_000)) > 1e3
        assert abs(iterate(1.0, 1.0, noise, 0.999 * limit, 20_000)) < 10
        spectral.pnp_gain(1.0, 1.0, noise, 0.999 * limit)
        with pytest.raises(ValueError, match="too long: the iteration diverges"):
            spectral.pnp_gain(1.0, 1.0, noise, limit)


def test_post_gain_denoises_the_pseudo_inverse() -> None:
    sigma, signal = np.array([1.0, 0.1, 0.0, 0.5]), np.array([1.0, 0.3, 1.0, 0.0])
    denoiser = spectral.mse_gain(1.0, signal, 0.2)
    inverse = np.diag(np.linalg.pinv(np.diag(sigma)))
    assert_allclose(spectral.post_gain(sigma, signal, 0.2), denoiser * inverse, rtol=1e-14)
    assert_array_equal(spectral.post_gain(sigma, [1, 1, 1, 0], 0.0), [1.0, 10.0, 0.0, 0.0])
    ours = spectral.post_gain(sigma[:2], signal[:2], 0.2 / sigma[:2] ** 2)
    assert_allclose(ours, spectral.mse_gain(sigma[:2], signal[:2], 0.2), rtol=1e-14)


@pytest.mark.parametrize("source_condition", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_critic_weights_minimize_the_loss_of_the_critic(seed: int, source_condition: bool) -> None:
    """The expectation over a law with few atoms and over t by Gauss's rule, both exact."""
    rng = np.random.default_rng(seed)
    p, x, e = law = independent_law(rng)
    signal, noise, _ = moments(law)
    sigma, beta = 10.0 ** rng.uniform(-1.5, 0.5), 10.0 ** rng.uniform(-1, 1)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    inverse = x + e / sigma  # A^+ y

    def critic_loss(w: float) -> float:
        penalty = p @ (2 * w * x / sigma) ** 2
        if not source_condition:
            between = [t * x + (1 - t) * inverse for t in (nodes + 1) / 2]
            penalty = weights / 2 @ [p @ (2 * w * z) ** 2 for z in between]
        return p @ (w * x**2) - p @ (w * inverse**2) + beta * penalty

    kind = {"source_condition": source_condition}
    ours = float(spectral.critic_weights(sigma, signal, noise, beta, **kind))
    best = minimize_scalar(critic_loss, bracket=(0.0, ours), tol=1e-12)
    assert_allclose(ours, best.x, rtol=1e-6)

    def reconstruction_loss(z: float) -> float:  # for the data y = 1
        return (sigma * z - 1) ** 2 + best.x * z**2

    z = minimize_scalar(reconstruction_loss, tol=1e-12).x
    assert_allclose(spectral.critic_gain(sigma, signal, noise, beta, **kind), z, rtol=1e-6)


def test_critic_in_degenerate_modes() -> None:
    sigma, signal = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 1.0]), np.array([1.0, 0, 1, 1, 0, 0])
    noise = np.array([0.5, 0.5, 0, 0.5, 0, 0])
    w = spectral.critic_weights(sigma, signal, noise, 3 / 8)
    assert_allclose(w, [0.5 / 3.5, 1, 0, 1, 0, 0])
    assert_allclose(spectral.critic_gain(sigma, signal, noise, 3 / 8), [7 / 8, 0.5, 1, 0, 0, 1])
    w = spectral.critic_weights(sigma, signal, noise, 1 / 8, source_condition=True)
    assert_array_equal(w, [0.5, math.inf, 0, 0.5, math.inf, math.inf])
    assert_array_equal(
        spectral.critic_gain(sigma, signal, noise, 1 / 8, source_condition=True),
        spectral.mse_gain(sigma, signal, noise),
    )


# -------------------------------------------------------------------------------- learning


def pairs(count: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = np.arange(1, k + 1)
    x = rng.standard_normal((count, k)) / n
    return x, x / n + 0.01 * rng.standard_normal((count, k))


@pytest.mark.parametrize(("count", "k"), [(1, 1), (1, 5), (7, 3), (100, 40), (3000, 100)])
def test_fit_gain_is_least_squares_mode_by_mode(count: int, k: int) -> None:
    x, y = pairs(count, k)
    peer = [np.linalg.lstsq(y[:, [n]], x[:, n], rcond=None)[0][0] for n in range(k)]
    assert_allclose(spectral.fit_gain(x, y), peer, rtol=1e-10, atol=1e-12)


def test_fit_gain_in_any_memory_layout_and_type() -> None:
    x, y = pairs(300, 20)
    ours = spectral.fit_gain(x, y)
    wide = np.zeros((600, 40))
    wide[::2, 1::2] = y
    layouts = (np.asfortranarray(y), wide[::2, 1::2], y[::-1][::-1], y.astype(">f8"), y.tolist())
    for other in layouts:
        assert_allclose(spectral.fit_gain(x, other), ours, rtol=1e-12)
    single = spectral.fit_gain(x.astype(np.float32), y.astype(np.float32))
    assert single.dtype == np.float64
    assert_allclose(single, ours, rtol=1e-4)
    # integers whose squares overflow int8 and float16
    assert_allclose(spectral.fit_gain(np.int8([[100], [50]]), np.int8([[100], [100]])), [0.75])
    assert_allclose(spectral.fit_gain(np.float16([[3e4]]), np.float16([[1e4]])), [3.0], rtol=1e-3)


def test_fit_gain_allocates_nothing_of_the_size_of_its_data() -> None:
    x = np.ones((2000, 1024))  # 16 MiB
    spectral.fit_gain(x, x)
    for data in (x, x.astype(np.float32)):
        tracemalloc.start()
        spectral.fit_gain(data, data)
        spectral.fit_plug_in(data, np.ones(1024), 0.1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20


def test_fit_gain_where_squares_underflow_or_data_vanish() -> None:
    x = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    y = x * np.array([1e-170, 1e-200, 0.0])
    assert_allclose(spectral.fit_gain(x, y), [1e170, 1e200, 0.0], rtol=1e-12)


def test_plug_in_is_the_gain_of_the_estimated_power() -> None:
    x, _ = pairs(10, 6)
    sigma, noise = 1 / np.arange(1, 7), np.array([[1e-2], [0.0]])
    x[:, 2] = 0.0
    power = np.array([np.mean(column**2) for column in x.T])
    g = spectral.fit_plug_in(x, sigma, noise)
    expected = np.divide(sigma * power, sigma**2 * power + noise, where=power > 0, out=0 * g)
    assert_allclose(g, expected, rtol=1e-12)


def test_the_price_of_learning_from_few_gaussian_pairs() -> None:
    """Excess risk 1 / (M - 2), within four standard errors of 4,000 training sets."""
    rng = np.random.default_rng(11)
    sigma, signal, noise = np.array([1.0, 0.1]), np.array([1.0, 0.25]), 0.01
    g = spectral.mse_gain(sigma, signal, noise)
    least = spectral.modal_risk(sigma, signal, noise, g).sum()
    excess = []
    for _ in range(4000):
        x = rng.standard_normal((12, 2)) * np.sqrt(signal)
        fitted = spectral.fit_gain(x, sigma * x + 0.1 * rng.standard_normal((12, 2)))
        excess.append(spectral.modal_risk(sigma, signal, noise, fitted).sum() / least - 1)
    assert abs(np.mean(excess) - 1 / 10) < 4 * np.std(excess) / math.sqrt(len(excess))


def test_training_arrives_at_least_squares(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = pairs(200, 30)
    y[:, 4] = 0.0
    best = spectral.fit_gain(x, y)
    scale = np.sqrt(np.mean(y**2, axis=0))
    for lr in (0.1, 0.3, 0.8):
        g, losses = spectral.train_gain(x, y, steps=10, lr=lr, device="cpu")
        assert_allclose((g - best) * scale, -((1 - 2 * lr) ** 10) * best * scale, atol=1e-12)
        assert losses.shape == (10,) and (np.diff(losses) < 0).all()
        assert_allclose(losses[0], (x**2).sum(axis=1).mean(), rtol=1e-12)
    g, losses = spectral.train_gain(x, y, steps=2, lr=0.5, device="cpu", progress=True)
    assert_allclose(g, best, rtol=1e-11, atol=1e-13)
    assert_allclose(losses[1], ((best * y - x) ** 2).sum(axis=1).mean(), rtol=1e-12)
    assert capsys.readouterr().out.splitlines()[-1].startswith("step 2 of 2: loss ")


def test_training_with_batches_comes_close_and_repeats() -> None:
    x, y = pairs(500, 30, seed=1)
    best = spectral.fit_gain(x, y)
    least = ((best * y - x) ** 2).sum(axis=1).mean()
    options = {"steps": 2000, "lr": 0.1, "batch": 32, "device": "cpu"}
    for seed in range(3):
        g, losses = spectral.train_gain(x, y, seed=seed, **options)
        loss_of_g = ((g * y - x) ** 2).sum(axis=1).mean()
        assert least <= loss_of_g < 1.001 * least  # .003 without the decay of the steps
        assert losses[-100:].mean() < 1.1 * least
    assert_array_equal(spectral.train_gain(x, y, seed=2, **options)[0], g)
    assert (spectral.train_gain(x, y, seed=3, **options)[0] != g).any()


# ------------------------------------------------------------------------------ bad inputs

ONE, PAIR = np.ones(1), np.ones((2, 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spectral.mse_gain(-1, 1, 1), ValueError, "sigma must be finite and at least 0"),
        (lambda: spectral.mse_gain(1, -1, 1), ValueError, "signal must be finite and at least"),
        (lambda: spectral.mse_gain(1, 1, -1), ValueError, "noise must be finite and at least 0"),
        (lambda: spectral.mse_gain(1, 1, math.nan), ValueError, "noise must be finite"),
        (lambda: spectral.mse_gain(1, 1, 1, math.inf), ValueError, "cross must be finite"),
        (lambda: spectral.mse_gain(1, 1, 1, -1.01), ValueError, "Cauchy-Schwarz"),
        (lambda: spectral.mse_gain(1, 1, 0, 1e-9), ValueError, "Cauchy-Schwarz"),
        (lambda: spectral.mse_gain(1j, 1, 1), TypeError, "sigma must hold real numbers"),
        (
            lambda: spectral.mse_gain(np.ones(3), 1, np.ones(2)),
            ValueError,
            r"sigma \(3,\), signal \(\), noise \(2,\)",
        ),
        (lambda: spectral.modal_risk(1, 1, 1, math.nan), ValueError, "g must be finite"),
        (lambda: spectral.modal_risk(1, 1, 1, 1, 2), ValueError, "Cauchy-Schwarz"),
        (lambda: spectral.model_problem(0, 1, 5), ValueError, "a must be positive, got 0"),
        (lambda: spectral.model_problem(1, 0.5, 5), ValueError, "no such random x exists in X"),
        (lambda: spectral.model_problem(1, 1, 0), ValueError, "size must be an integer"),
        (lambda: spectral.model_problem([1, 2], 1, 5), ValueError, "a must be one number"),
        (lambda: spectral.rate_constant(1, 0.5), ValueError, "b must be greater than 1/2"),
        (lambda: spectral.rate_constant(-1, 1), ValueError, "a must be positive"),
        (lambda: spectral.mse_exponent(1, 0.4), ValueError, "b must be greater than 1/2"),
        (lambda: spectral.mse_exponent(1, 1, b_test=0.5), ValueError, "b_test must be greater"),
        (lambda: spectral.mse_exponent(1, 1, c=math.nan), ValueError, "c must be finite"),
        (lambda: spectral.mse_exponent(1, 1, level=0), ValueError, "level must be positive"),
        (lambda: spectral.modulus([], [], 1), ValueError, "at least one mode"),
        (lambda: spectral.modulus(1, 1, -1), ValueError, "delta must be finite and at least 0"),
        (lambda: spectral.modulus(np.ones(2), np.ones(3), 1), ValueError, "do not fit together"),
        (lambda: spectral.pnp_gain(1, 1, 1, 0), ValueError, "step must be one number greater"),
        (lambda: spectral.post_gain(1, 1, -1), ValueError, "noise must be finite"),
        (lambda: spectral.critic_weights(1, 1, 1, 0), ValueError, "beta must be one number"),
        (lambda: spectral.critic_gain(1, 1, 1, -1), ValueError, "beta must be one number"),
        (lambda: spectral.fit_gain(ONE, ONE), ValueError, r"x must have the shape \(M, k\)"),
        (lambda: spectral.fit_gain(PAIR, PAIR[:1]), ValueError, r"x \(2, 1\) and y \(1, 1\)"),
        (lambda: spectral.fit_gain(PAIR[:0], PAIR[:0]), ValueError, "training set is empty"),
        (lambda: spectral.fit_gain(PAIR, PAIR * math.nan), ValueError, "every sample must be"),
        (lambda: spectral.fit_gain(PAIR * math.inf, 0 * PAIR), ValueError, "every sample must be"),
        (lambda: spectral.fit_gain(PAIR, 1e200 * PAIR), ValueError, "and its square too"),
        (lambda: spectral.fit_gain(PAIR, 1j * PAIR), TypeError, "y must hold real numbers"),
        (lambda: spectral.fit_plug_in(PAIR[:0], 1, 1), ValueError, "training set is empty"),
        (lambda: spectral.fit_plug_in(PAIR * math.inf, 1, 1), ValueError, "every sample must be"),
        (lambda: spectral.train_gain(PAIR, PAIR, steps=0, lr=1), ValueError, "steps must be"),
        (lambda: spectral.train_gain(PAIR, PAIR, steps=1, lr=1), ValueError, "lr = 1 is too long"),
        (lambda: spectral.train_gain(PAIR, PAIR, steps=1, lr=0), ValueError, "lr must be one"),
        (
            lambda: spectral.train_gain(PAIR, PAIR, steps=1, lr=0.1, batch=3),
            ValueError,
            "batch = 3 exceeds the 2 training pairs",
        ),
        (
            lambda: spectral.train_gain(PAIR, PAIR, steps=1, lr=0.1, seed=-1),
            ValueError,
            "seed must be an integer",
        ),
        (
            lambda: spectral.train_gain(PAIR, PAIR * math.nan, steps=1, lr=0.1),
            ValueError,
            "y must be finite",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
