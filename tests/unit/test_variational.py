"""Learned convolutional regularizers, each formula against an independent oracle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import lsq_linear, minimize, minimize_scalar
from skimage.restoration import denoise_tv_chambolle

from advreg import spectral, variational
from advreg.operators import MatrixOperator, gaussian_blur
from advreg.variational import LogCosh, Quadratic, SmoothedL1, denoise, tv_filters

L1 = SmoothedL1(0.05)
POTENTIALS = [SmoothedL1(0.1), LogCosh(0.2), Quadratic()]
SHAPES = [((2, 3), (7,)), ((1, 4), (8,)), ((2, 2, 3), (4, 5)), ((1, 3, 3), (4, 4))]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def matrix(filters: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """All K_j on top of each other, written out entry by entry: no Fourier transform."""
    size = math.prod(grid)
    rows = np.zeros((len(filters), size, size))
    for j, k in enumerate(filters):
        for i in itertools.product(*map(range, grid)):
            for m in itertools.product(*map(range, k.shape)):
                source = tuple((a - b) % n for a, b, n in zip(i, m, grid, strict=True))
                rows[j, np.ravel_multi_index(i, grid), np.ravel_multi_index(source, grid)] += k[m]
    return rows.reshape(-1, size)


def problem(shape: tuple[int, ...], grid: tuple[int, ...], batch: tuple[int, ...] = (3,)):
    r = rng(sum(shape) + sum(grid))
    k, y = 0.6 * r.standard_normal(shape), r.standard_normal((*batch, *grid))
    return k, y, matrix(k, grid)


def jumps(count: int = 32, size: int = 64, seed: int = 100) -> tuple[np.ndarray, np.ndarray]:
    r = rng(seed)
    x = variational.piecewise_constant(count, size, 4, r)
    return x, x + 0.3 * r.standard_normal(x.shape)


# ------------------------------------------------------------------- quadratic regularizers


@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_the_spectrum_holds_the_eigenvalues_of_the_gram_matrix(shape, grid) -> None:
    k, _, dense = problem(shape, grid)
    lam = variational.spectrum(k, grid)
    assert lam.shape == grid
    size = math.prod(grid)
    wave = np.exp(2j * np.pi * (np.arange(grid[0]) / grid[0]))  # frequency 1 along the first axis
    wave = np.multiply.outer(wave, np.ones(grid[1:])).ravel()
    assert_allclose(dense.T @ (dense @ wave), lam[(1, *[0] * (len(grid) - 1))] * wave, atol=1e-12)
    assert_allclose(np.sort(lam.ravel()), np.linalg.eigvalsh(dense.T @ dense), atol=1e-12)
    assert lam.sum() == pytest.approx(size * (k**2).sum(), rel=1e-12)  # Parseval
    assert_array_equal(variational.spectrum([[1, -1]], 4), variational.spectrum([[1.0, -1]], (4,)))


@pytest.mark.parametrize(("shape", "grid"), SHAPES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
def test_quadratic_denoising_solves_the_normal_equations(shape, grid, batch) -> None:
    k, y, dense = problem(shape, grid, batch)
    normal = np.eye(dense.shape[1]) + dense.T @ dense
    expected = np.linalg.solve(normal, y.reshape(-1, dense.shape[1]).T).T.reshape(y.shape)
    assert_allclose(variational.quadratic_denoise(y, k), expected, atol=1e-12)


def test_the_quadratic_risk_is_that_of_dense_matrices() -> None:
    for shape, grid in SHAPES:
        k, _, dense = problem(shape, grid)
        size = math.prod(grid)
        h = 0.5 * rng(3).standard_normal((1, *grid))
        covariance = matrix(h, grid) @ matrix(h, grid).T  # x = h * white noise
        power = variational.spectrum(h, grid)
        m = np.linalg.inv(np.eye(size) + dense.T @ dense)
        error = (np.eye(size) - m) @ covariance @ (np.eye(size) - m).T + 0.3 * m @ m.T
        risk = variational.quadratic_risk(k, power, 0.3)
        assert risk == pytest.approx(np.trace(error) / size, rel=1e-12)
        wiener = covariance @ np.linalg.inv(covariance + 0.3 * np.eye(size))
        least = variational.least_quadratic_risk(power, 0.3)
        assert least == pytest.approx(0.3 * np.trace(wiener) / size, rel=1e-12)
        assert least < risk


def test_an_infinite_power_wants_a_zero_of_the_filter() -> None:
    power = variational.autoregressive_power(16, [1.0])
    assert np.isinf(power[0]) and np.isfinite(power[1:]).all()
    assert variational.quadratic_risk([[1.0, -0.9]], power, 0.2) == math.inf
    k = math.sqrt(0.2) * np.array([[1.0, -1.0]])
    risk = variational.quadratic_risk(k, power, 0.2)
    assert risk == pytest.approx(variational.least_quadratic_risk(power, 0.2), rel=1e-12)
    assert variational.quadratic_risk([[0.3, -0.1, -0.2]], power, 0.2) < math.inf  # sum 2.8e-17


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "phi", [[0.7], [1.0], [2.0, -1.0], [0.5, -0.3, 0.2, -0.4], [0.8, -0.15]], ids=str
)
def test_the_fitted_filter_is_the_prediction_error_filter(phi: list[float], count: int) -> None:
    power, noise = variational.autoregressive_power(64, phi, 0.5), 0.3
    k = variational.fit_quadratic(power, noise, len(phi) + 1, count=count)
    assert k.shape == (count, len(phi) + 1)
    excess = variational.quadratic_risk(k, power, noise) / variational.least_quadratic_risk(
        power, noise
    )
    assert abs(excess - 1) < 1e-12
    h = math.sqrt(noise / 0.5) * np.concatenate([[1.0], -np.array(phi)])
    # the excess is quadratic in the filter; 64-fold flat where the power is infinite
    assert_allclose(variational.spectrum(k, 64), np.abs(np.fft.fft(h, 64)) ** 2, atol=2e-6)
    factor = variational.spectral_factor(variational.spectrum(k, 64), len(phi) + 1)
    assert_allclose(factor, h, atol=1e-3 if phi == [2.0, -1.0] else 1e-6)


def test_too_few_taps_are_used_as_well_as_nelder_and_mead_would() -> None:
    power, noise = variational.autoregressive_power(64, [0.5, -0.3, 0.2, -0.4], 0.5), 0.3
    k = variational.fit_quadratic(power, noise, 3, seed=1)
    found = variational.quadratic_risk(k, power, noise)
    other = min(
        minimize(
            lambda k: variational.quadratic_risk(k[None], power, noise),
            rng(s).standard_normal(3),
            method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-14},
        ).fun
        for s in range(4)
    )
    assert found == pytest.approx(other, rel=1e-9)
    assert found > 1.001 * variational.least_quadratic_risk(power, noise)
    two = variational.fit_quadratic(power, noise, 3, count=2)  # Fejer and Riesz: no gain
    assert variational.quadratic_risk(two, power, noise) == pytest.approx(found, rel=1e-9)


def test_filters_of_images_are_fitted() -> None:
    k = np.array([[[0.8, -0.5], [-0.2, 0.1]]])
    lam = variational.spectrum(k, (8, 9))
    power = 0.2 / lam
    fitted = variational.fit_quadratic(power, 0.2, (2, 2))
    assert_allclose(variational.spectrum(fitted, (8, 9)), lam, rtol=1e-5)


@pytest.mark.parametrize("taps", [1, 2, 3, 5, 8])
def test_the_spectral_factor_reflects_the_zeros_of_a_polynomial(taps: int) -> None:
    for seed in range(10):
        k = rng(seed).standard_normal(taps)
        zeros = np.roots(k)
        outside = np.abs(zeros) > 1
        inside = np.where(outside, 1 / np.where(outside, zeros, 1).conj(), zeros)
        expected = abs(k[0]) * np.prod(np.abs(zeros[outside])) * np.atleast_1d(np.poly(inside)).real
        factor = variational.spectral_factor(variational.spectrum(k[None], 32), taps)
        assert_allclose(factor, expected, atol=1e-7 * np.abs(k).max())


def test_the_spectral_factor_survives_double_zeros_that_rounding_moves() -> None:
    generator = rng(0)
    for _ in range(100):
        taps = int(generator.integers(3, 7))
        k = np.convolve([1.0, -2.0, 1.0], [1.0, *generator.uniform(-0.3, 0.3, taps - 3)])
        k += 1e-12 * generator.standard_normal(taps)
        factor = variational.spectral_factor(variational.spectrum(k[None], 64), taps)
        assert_allclose(factor, k, atol=2e-2)


def test_the_spectral_factor_survives_zeros_on_the_circle_and_degenerate_spectra() -> None:
    for k, atol in [([1, -1], 3e-8), ([1, 0, 1], 3e-8), ([1, -2, 1], 1e-3), ([3], 1e-14)]:
        k = np.array(k, dtype=float)
        factor = variational.spectral_factor(variational.spectrum(k[None], 16), k.size)
        assert_allclose(factor, k, atol=atol)
    assert_array_equal(variational.spectral_factor(np.zeros(8), 3), np.zeros(3))
    # same |h^|: the referee's pair [1, -.8, .15] and [-.3, 1.15, -.5]
    pair = [variational.spectrum([h], 32) for h in ([1, -0.8, 0.15], [-0.3, 1.15, -0.5])]
    assert_allclose(pair[0], pair[1], rtol=1e-12)
    assert_allclose(variational.spectral_factor(pair[1], 3), [1, -0.8, 0.15], atol=1e-12)


# ------------------------------------------------------------------------------ potentials


@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
def test_derivatives_of_potentials_are_those_of_finite_differences(potential) -> None:
    t, h = np.linspace(-2, 2, 81), 1e-5
    slope = (potential.value(t + h) - potential.value(t - h)) / (2 * h)
    assert_allclose(potential.first(t), slope, atol=1e-8)
    curvature = (potential.first(t + h) - potential.first(t - h)) / (2 * h)
    assert_allclose(potential.second(t), curvature, atol=1e-7)
    assert potential.second(t).max() == pytest.approx(potential.curvature, rel=1e-12)
    far = np.array([-1e200, 1e200])
    assert_allclose(potential.first(far), [-potential.first(far)[1], min(potential.slope, 1e200)])
    assert np.isfinite(potential.second(far)).all()


def test_values_of_potentials_keep_their_digits() -> None:
    assert LogCosh(0.5).value(1e-9) == pytest.approx(1e-18, rel=1e-12, abs=0)  # t^2 / (2 scale)
    assert LogCosh(0.5).value(0.7) == pytest.approx(0.5 * math.log(math.cosh(1.4)), rel=1e-14)
    assert LogCosh(0.5).value(1e300) == 1e300
    assert SmoothedL1(0.3).value(0.4) == pytest.approx(0.5, rel=1e-15)
    assert Quadratic().value(3) == 4.5


# ------------------------------------------------------------------------ the lower problem


@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_denoise_finds_the_minimizer_of_dense_newton(shape, grid, potential) -> None:
    k, y, dense = problem(shape, grid)
    solution = denoise(y, k, potential, tol=1e-10)
    assert solution.converged.all() and (solution.gradient_norm <= 1e-10).all()
    loose = denoise(y, k, potential, tol=1e-2)
    for given, x, rough, norm in zip(y, solution.x, loose.x, loose.gradient_norm, strict=True):

        def objective(z: np.ndarray, given: np.ndarray = given) -> float:
            return 0.5 * ((z - given.ravel()) ** 2).sum() + potential.value(dense @ z).sum()

        def gradient(z: np.ndarray, given: np.ndarray = given) -> np.ndarray:
            return z - given.ravel() + dense.T @ potential.first(dense @ z)

        z = minimize(objective, given.ravel(), jac=gradient, method="BFGS").x
        for _ in range(10):
            t = dense @ z
            hessian = np.eye(z.size) + dense.T @ (potential.second(t)[:, None] * dense)
            z = z - np.linalg.solve(hessian, gradient(z))
        assert_allclose(x.ravel(), z, atol=1e-10)
        # the certificate is the gradient of the objective, and bounds the distance
        assert norm == pytest.approx(np.linalg.norm(gradient(rough.ravel())), rel=1e-9)
        assert np.linalg.norm(rough.ravel() - z) <= norm


@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_the_quadratic_potential_is_quadratic_denoising(shape, grid) -> None:
    k, y, _ = problem(shape, grid, (2, 2))
    solution = denoise(y, k, Quadratic(), tol=1e-11)
    assert solution.gradient_norm.shape == solution.iterations.shape == (2, 2)
    assert_allclose(solution.x, variational.quadratic_denoise(y, k), atol=1e-11)


def test_samples_do_not_see_their_batch() -> None:
    _, y = jumps(count=4)
    y[1] *= 20
    k = 0.4 * tv_filters(1)
    together = denoise(y, k, L1)
    for i in range(4):
        alone = denoise(y[i], k, L1)
        assert alone.x.shape == (64,) and alone.iterations == together.iterations[i]
        assert_allclose(alone.x, together.x[i], atol=1e-12)
    assert len(set(together.iterations)) > 1


def test_a_solution_that_ran_out_of_iterations_says_so() -> None:
    _, y = jumps(count=3)
    short = denoise(y, 0.4 * tv_filters(1), L1, max_iterations=5)
    exact = denoise(y, 0.4 * tv_filters(1), L1, tol=1e-11)
    assert not short.converged.any() and (short.iterations == 5).all()
    assert (np.linalg.norm(short.x - exact.x, axis=1) <= short.gradient_norm).all()
    again = denoise(y, 0.4 * tv_filters(1), L1, start=exact.x)
    assert (again.iterations == 1).all() and again.converged.all()
    huge = denoise(1e12 * y, 0.4 * tv_filters(1), L1)  # 1e-8 is below the rounding of such data
    assert huge.converged.all()


def test_constant_signals_and_zero_filters_are_left_alone() -> None:
    assert_allclose(denoise(np.full(8, 3.0), tv_filters(1), L1).x, 3.0, atol=1e-12)
    y = rng().standard_normal((2, 8))
    assert_allclose(denoise(y, np.zeros((2, 3)), L1).x, y, atol=1e-12)
    one = denoise(np.array([[2.0]]), np.array([[1.0]]), SmoothedL1(1e-3))  # soft thresholding
    assert one.x[0, 0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("potential", [L1, LogCosh(0.2)], ids=str)
def test_the_bias_of_offsets_is_what_the_sums_of_the_filters_say(potential) -> None:
    _, y = jumps(count=2)
    k = np.array([[0.4, -0.33, 0.02, 0.05, 0.03], [-0.1, 0.2, 0.0, -0.05, 0.02]])
    for c in (0.0, 3.0, 1e3):
        solution = denoise(y + c, k, potential, tol=1e-10)
        bias = solution.x.mean(axis=1) - (y + c).mean(axis=1)
        assert_allclose(variational.offset_bias(solution.x, k, potential), bias, atol=1e-10)
    assert_allclose(bias, -np.abs(k.sum(axis=1)).sum(), rtol=1e-6)  # the limit at c -> infinity
    images = rng().standard_normal((2, 5, 6))
    x = denoise(images, k[:, :4].reshape(2, 2, 2), potential, tol=1e-10).x
    bias = variational.offset_bias(x, k[:, :4].reshape(2, 2, 2), potential)
    assert_allclose(bias, (x - images).mean(axis=(1, 2)), atol=1e-10)


def test_the_total_variation_of_signals_is_that_of_scikit_image() -> None:
    _, y = jumps(count=1)
    ours = denoise(y[0], 0.4 * tv_filters(1), SmoothedL1(4e-4), max_iterations=50_000, tol=1e-6).x
    # three periods: the free ends of Chambolle's problem are far from the middle one
    theirs = denoise_tv_chambolle(np.tile(y[0], 3), weight=0.4, eps=1e-12, max_num_iter=20_000)
    assert_allclose(ours, theirs[64:128], atol=5e-3)  # smoothing: a few epsilon / weight
    assert np.abs(ours - y[0]).max() > 0.3


def test_the_total_variation_of_images_is_that_of_its_dual() -> None:
    y = variational.rectangles(1, 8, rng(2))[0] + 0.2 * rng(3).standard_normal((8, 8))
    ours = denoise(y, 0.2 * tv_filters(2), SmoothedL1(2e-4), tol=1e-6, max_iterations=50_000).x
    pixels = np.eye(64).reshape(8, 8, 64)
    neighbours = [np.roll(pixels, 1, axis=axis) - pixels for axis in (0, 1)]
    dense = 0.2 * np.concatenate([d.reshape(64, 64) for d in neighbours])
    dual = lsq_linear(dense.T, y.ravel(), bounds=(-1, 1), tol=1e-14, method="bvls").x
    assert_allclose(ours.ravel(), y.ravel() - dense.T @ dual, atol=5e-3)


# --------------------------------------------------------------------- learning the filters


def differences(function, k: np.ndarray, h: float = 1e-5) -> np.ndarray:
    gradient = np.zeros_like(k)
    for i in np.ndindex(k.shape):
        step = np.zeros_like(k)
        step[i] = h
        gradient[i] = (function(k + step) - function(k - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_the_implicit_gradient_is_that_of_finite_differences(shape, grid, potential) -> None:
    k, y, _ = problem(shape, grid, (2,))
    target = y + rng(9).standard_normal(y.shape)

    def loss(k: np.ndarray) -> float:
        x = denoise(y, k, potential, tol=1e-12).x
        return float(((x - target) ** 2).mean()) / 2

    value, gradient, solution = variational.filter_gradient(y, target, k, potential, tol=1e-11)
    assert value == pytest.approx(loss(k), rel=1e-10)
    assert solution.converged.all()
    numeric = differences(loss, k)
    assert np.abs(gradient - numeric).max() <= 1e-6 * np.abs(numeric).max()


def test_the_gradient_vanishes_at_a_perfect_fit() -> None:
    k, y, _ = problem((2, 3), (7,))
    target = denoise(y, k, L1, tol=1e-12).x
    value, gradient, _ = variational.filter_gradient(y, target, k, L1, tol=1e-12)
    assert value < 1e-20 and np.abs(gradient).max() < 1e-10


def test_the_sparse_objective_has_its_gradient() -> None:
    k, y, _ = problem((2, 3), (7,))
    objective = variational._Objective(y, y[::-1], k.shape, L1, 0.1, 1e-12)
    numeric = differences(lambda k: objective(k.ravel())[0], k, 1e-6)
    assert_allclose(objective(k.ravel())[1].reshape(k.shape), numeric, atol=1e-7)
    plain, _, _ = variational.filter_gradient(y, y[::-1], k, L1, tol=1e-12)
    l1 = objective(k.ravel())[0] - plain
    assert 0.1 * (np.abs(k).sum() - 6e-3) <= l1 <= 0.1 * np.abs(k).sum()


@pytest.mark.parametrize("seed", range(3))
def test_signals_with_jumps_teach_total_variation(seed: int) -> None:
    x, y = jumps()
    learned = variational.learn_filters(x, y, count=1, taps=5, potential=L1, seed=seed)
    # every loss is uncertain by tol ||x_hat - x|| / size = 1e-7 * 1.2 / 64, to first order
    assert learned.converged and (np.diff(learned.losses) <= 4e-9).all()
    k = learned.filters[0]
    at = int(np.argmax(np.abs(k[:-1]) + np.abs(k[1:])))
    assert (k[at : at + 2] ** 2).sum() > 0.99 * (k**2).sum()
    assert abs(k.sum()) < 0.01 * np.abs(k).sum()

    def mse(weight: float) -> float:
        return float(((denoise(y, weight * tv_filters(1), L1).x - x) ** 2).mean())

    tuned = minimize_scalar(mse, bounds=(0.01, 2), method="bounded", options={"xatol": 1e-3}).fun
    assert 2 * learned.losses[-1] <= tuned < 0.03


def test_learning_starts_where_it_is_told_and_repeats_itself() -> None:
    x, y = jumps(count=4, size=16)
    settings = {"count": 1, "taps": 2, "potential": L1, "seed": 5, "iterations": 4}
    first, second = (variational.learn_filters(x, y, **settings) for _ in range(2))
    assert_array_equal(first.filters, second.filters)
    assert len(first.losses) <= 5
    start = 0.3 * tv_filters(1)
    warm = variational.learn_filters(x, y, **settings, start=start)
    loss, _, _ = variational.filter_gradient(y, x, start, L1)
    assert warm.losses[0] == pytest.approx(loss, abs=1e-6)
    short = variational.learn_filters(x, y, **(settings | {"iterations": 1}), progress=True)
    assert not short.converged


def test_sparsity_pays_with_the_loss() -> None:
    x, y = jumps(count=8, size=32)
    settings = {"count": 1, "taps": 4, "potential": L1, "seed": 0}
    plain = variational.learn_filters(x, y, **settings)
    sparse = variational.learn_filters(x, y, **settings, sparsity=5e-3, start=plain.filters)
    assert np.abs(sparse.filters).sum() < np.abs(plain.filters).sum()
    none = variational.learn_filters(x, y, **settings, sparsity=1.0)
    assert np.abs(none.filters).max() < 1e-2


def test_images_teach_filters_of_sum_zero() -> None:
    r = rng(4)
    x = variational.rectangles(6, 10, r)
    y = x + 0.3 * r.standard_normal(x.shape)
    learned = variational.learn_filters(
        x, y, count=1, taps=(2, 2), potential=SmoothedL1(0.1), seed=0, iterations=30
    )
    k = learned.filters
    assert k.shape == (1, 2, 2) and abs(k.sum()) < 0.05 * np.abs(k).sum()
    assert 2 * learned.losses[-1] < 0.8 * 0.09


# ------------------------------------------------------------------------- filters under attack


def attacked_error(k, dense, potential, given, truth):
    """||x_hat - truth||^2 and its gradient in the data, by dense Newton steps."""
    z = denoise(given, k, potential, tol=1e-11).x.ravel()
    hessian = np.eye(z.size) + dense.T @ (potential.second(dense @ z)[:, None] * dense)
    return ((z - truth.ravel()) ** 2).sum(), 2 * np.linalg.solve(hessian, z - truth.ravel())


@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_the_ascent_direction_is_the_gradient_of_finite_differences(shape, grid, potential) -> None:
    k, y, dense = problem(shape, grid, (2,))
    truth = rng(8).standard_normal(y.shape)
    inner = variational._Attacked(y, truth, k, potential, 1e-12)
    error, x = inner.evaluate(np.zeros_like(y))
    for i in range(2):
        value, exact = attacked_error(k, dense, potential, y[i], truth[i])
        assert error[i] == pytest.approx(value, rel=1e-9)
        assert_allclose(2 * inner.gradient(x)[i].ravel(), exact, atol=1e-8)

        def moved(z: np.ndarray, i: int = i) -> float:
            return ((denoise(z, k, potential, tol=1e-12).x - truth[i]) ** 2).sum()

        numeric = differences(moved, y[i]).ravel()
        assert np.abs(exact - numeric).max() <= 1e-6 * np.abs(numeric).max()


@pytest.mark.parametrize("radius", [0.3, 2.0])
@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_attacks_find_what_a_general_optimizer_finds(shape, grid, radius) -> None:
    k, y, dense = problem(shape, grid, (1,))
    truth, potential = rng(8).standard_normal(y.shape), SmoothedL1(0.1)
    found = variational.attack(y, truth, k, potential, radius, steps=60)
    axes = tuple(range(1, y.ndim))
    assert (np.sqrt(((found.y - y) ** 2).sum(axis=axes)) <= radius * (1 + 1e-12)).all()
    for i in range(1):

        def minus(u: np.ndarray, i: int = i) -> tuple[float, np.ndarray]:
            size = np.linalg.norm(u)
            e = radius * u / size
            value, slope = attacked_error(k, dense, potential, y[i] + e.reshape(grid), truth[i])
            slope = radius / size * (slope - slope @ u * u / size**2)
            return -value, -slope

        starts = rng(i).standard_normal((3, y[0].size))
        best = max(-minimize(minus, u, jac=True, method="BFGS").fun for u in starts)
        assert found.error[i] >= best * (1 - 1e-4)
        value, _ = attacked_error(k, dense, potential, found.y[i], truth[i])
        assert found.error[i] == pytest.approx(value, rel=1e-6)


def test_the_worst_case_of_a_quadratic_denoiser_is_that_of_its_secular_equation() -> None:
    k, y, dense = problem((2, 3), (7,), (3,))
    truth = rng(8).standard_normal(y.shape)
    found = variational.attack(y, truth, k, Quadratic(), 0.7, steps=200, tol=1e-10)
    gain = np.linalg.inv(np.eye(7) + dense.T @ dense)
    value, basis = np.linalg.eigh(gain @ gain)
    for given, true, error in zip(y, truth, found.error, strict=True):
        residual = gain @ given - true
        b = basis.T @ (gain @ residual)

        def dual(log: float, b: np.ndarray = b, residual: np.ndarray = residual) -> float:
            lam = value.max() + math.exp(log)
            return residual @ residual + lam * 0.49 + (b**2 / (lam - value)).sum()

        exact = minimize_scalar(dual, bounds=(-15, 10), method="bounded").fun
        assert error == pytest.approx(exact, rel=1e-6)


def test_attacks_are_never_weaker_than_constants_and_never_worse_than_their_start() -> None:
    x, y = jumps(count=6)
    k = np.array([[0.3, -0.35, 0.02]])
    for steps in (0, 1, 5):
        found = variational.attack(y, x, k, L1, 3.0, steps=steps)
        start = rng(3).standard_normal(y.shape)
        begun = variational.attack(y, x, k, L1, 3.0, steps=steps, start=start)
        start *= 3 / np.linalg.norm(start, axis=1, keepdims=True)
        floor = ((denoise(y + start, k, L1).x - x) ** 2).sum(axis=1)
        assert (begun.error >= floor - 1e-5).all()
        for c in (-3 / 8, 3 / 8):
            constant = ((denoise(y + c, k, L1).x - x) ** 2).sum(axis=1)
            assert (found.error >= constant - 1e-5).all() and (begun.error >= constant - 1e-5).all()
        again = ((denoise(found.y, k, L1).x - x) ** 2).sum(axis=1)
        assert_allclose(found.error, again, rtol=1e-6)


def test_attacks_of_radius_zero_and_on_perfect_fits() -> None:
    x, y = jumps(count=2)
    k = 0.4 * tv_filters(1)
    none = variational.attack(y, x, k, L1, 0.0)
    assert_array_equal(none.y, y)
    assert_allclose(none.error, ((denoise(y, k, L1).x - x) ** 2).sum(axis=1), rtol=1e-6)
    flat = np.full((1, 8), 2.0)
    found = variational.attack(flat, flat, k, L1, 1.0)  # the residual is 0: a constant is worst
    assert found.error[0] == pytest.approx(1.0, abs=1e-6)
    alone = variational.attack(y[0], x[0], k, L1, 1.0)
    assert alone.y.shape == (64,) and alone.error.shape == ()
    both = variational.attack(y, x, k, L1, 1.0)
    assert alone.error == pytest.approx(both.error[0], rel=1e-9)


def test_training_under_attack_returns_the_best_filters_it_saw() -> None:
    x, y = jumps(count=6, size=32)
    start = 0.2 * tv_filters(1)
    settings = {"potential": L1, "radius": 1.0, "steps": 25}
    robust = variational.learn_under_attack(x, y, start, **settings)
    assert robust.losses.shape == (26,) and robust.filters.shape == (1, 2)
    assert robust.losses.min() < 0.95 * robust.losses[0]

    def loss(k: np.ndarray) -> float:
        return float(variational.attack(y, x, k, L1, 1.0, steps=40).error.mean()) / 64

    assert robust.losses.min() == pytest.approx(loss(robust.filters), rel=1e-3)
    attacked = ((denoise(robust.y, robust.filters, L1).x - x) ** 2).mean() / 2
    assert robust.losses.min() == pytest.approx(attacked, rel=1e-4)
    # a search that knows the adversarial loss only, along the strength of the difference
    strength = minimize_scalar(
        lambda w: loss(w * tv_filters(1)), bounds=(0.05, 1.5), method="bounded"
    )
    assert robust.losses.min() <= strength.fun * (1 + 2e-3)
    assert_array_equal(
        robust.filters, variational.learn_under_attack(x, y, start, **settings).filters
    )
    images = variational.learn_under_attack(
        np.zeros((2, 4, 4)), np.ones((2, 4, 4)), np.ones((1, 2, 2)), potential=L1, radius=1, steps=1
    )
    assert images.y.shape == (2, 4, 4)


# --------------------------------------------------------------------------- plug and play


@pytest.mark.parametrize("step", [0.3, 1.0, 1.7])
def test_plug_and_play_with_a_diagonal_denoiser_has_the_gain_of_chapter_2(step: float) -> None:
    operator = MatrixOperator(
        np.diag([1.0, 0.6, 0.3]) @ np.linalg.qr(rng().standard_normal((3, 3)))[0]
    )
    operator.compute_singular_system()
    power, y = np.array([1.0, 0.5, 0.1]), rng(1).standard_normal((2, 3))
    survive = power / (power + 0.2)
    end = variational.plug_and_play(
        operator,
        y,
        lambda z: operator.synthesise(survive * operator.analyse_domain(z)),
        step=step,
        iterations=2000,
    )
    gain = spectral.pnp_gain(operator.singular_values, power, 0.2, step)
    assert end.converged and end.residuals.shape[1:] == (2,)
    assert_allclose(end.x, operator.synthesise(gain * operator.analyse(y)), atol=1e-8)


def test_plug_and_play_with_a_minimizer_minimizes() -> None:
    blur = gaussian_blur(16, 0.05)
    k, y, step = 0.3 * tv_filters(1), rng(2).standard_normal(16), 1.5
    end = variational.plug_and_play(
        blur, y, lambda z: denoise(z, k, L1, tol=1e-11).x, step=step, iterations=5000, tol=1e-9
    )
    dense, difference = blur.to_matrix(), matrix(k, (16,))

    def objective(x: np.ndarray) -> float:
        return step * ((dense @ x - y) ** 2).sum() / 2 + L1.value(difference @ x).sum()

    gradient = step * dense.T @ (dense @ end.x - y) + difference.T @ L1.first(difference @ end.x)
    assert end.converged and np.linalg.norm(gradient) < 1e-6
    assert objective(end.x) <= minimize(objective, end.x + 0.01, method="BFGS").fun + 1e-9
    again = variational.plug_and_play(
        blur, y, lambda z: denoise(z, k, L1).x, step=step, iterations=1, start=end.x
    )
    assert len(again.residuals) == 1 and again.residuals[0] < 1e-6


def test_plug_and_play_refuses_what_cannot_converge() -> None:
    operator = MatrixOperator(np.diag([2.0, 1.0]))
    for step in (0.5, 0.7):
        with pytest.raises(ValueError, match=r"too long.* 2 / \|\|A\|\|\^2 = 0.5"):
            variational.plug_and_play(operator, [1.0, 1], lambda z: z, step=step, iterations=3)
    with pytest.raises(ValueError, match="diverged"), np.errstate(over="ignore"):
        variational.plug_and_play(operator, [1.0, 1], lambda z: 1e60 * z, step=0.3, iterations=9)
    with pytest.raises(ValueError, match="turned the shape"):
        variational.plug_and_play(operator, [1.0, 1], lambda z: z[:1], step=0.3, iterations=9)
    with pytest.raises(ValueError, match="one shape"):
        variational.plug_and_play(
            operator, [1.0, 1], lambda z: z, step=0.3, iterations=9, start=[[1.0, 1]]
        )


# -------------------------------------------------------------------------- families of data


@pytest.mark.parametrize("number", [0, 2, 5, 8])
def test_piecewise_constant_signals_jump_as_often_as_said(number: int) -> None:
    x = variational.piecewise_constant(200, 8, number, rng())
    assert x.shape == (200, 8)
    assert_array_equal((x != np.roll(x, 1, axis=1)).sum(axis=1), number)
    assert abs(x.mean()) < 5 * math.sqrt(1 / 200)  # five standard errors at least


def test_smooth_signals_have_four_modes_and_unit_power() -> None:
    x = variational.smooth(4000, 32, rng())
    assert np.abs(np.fft.rfft(x)[:, [0, *range(5, 17)]]).max() < 1e-12
    assert (x**2).mean() == pytest.approx(1.0, abs=0.05)  # standard error .012
    power = (np.abs(np.fft.rfft(x)) ** 2).mean(axis=0)
    assert power[1] / power[2] == pytest.approx(4.0, rel=0.1)


def test_rectangles_are_rectangles() -> None:
    one = variational.rectangles(50, 12, rng(), pieces=1)
    assert one.shape == (50, 12, 12)
    for image in one:
        assert np.linalg.matrix_rank(image) == 1 and np.unique(image).size == 2
        sides = (image != 0).sum(axis=0).max(), (image != 0).sum(axis=1).max()
        assert all(3 <= side <= 6 for side in sides)
        assert (image != np.roll(image, 1, axis=0)).any(axis=1).sum() == 2


def test_autoregressive_signals_obey_their_recursion_and_power() -> None:
    phi = [0.5, -0.3]
    x, power = variational.autoregressive(20_000, 12, phi, rng(), innovation=0.5)
    e = x - 0.5 * np.roll(x, 1, axis=1) + 0.3 * np.roll(x, 2, axis=1)
    covariance = e.T @ e / len(e)
    assert_allclose(covariance, 0.5 * np.eye(12), atol=0.03)  # standard error .005
    sample = (np.abs(np.fft.fft(x)) ** 2).mean(axis=0) / 12
    assert_allclose(sample, power, rtol=0.06)  # standard error 1%
    with pytest.raises(ValueError, match="not stationary"):
        variational.autoregressive(2, 8, [1.0], rng())


def test_the_same_generator_gives_the_same_data() -> None:
    for make in (
        lambda r: variational.piecewise_constant(2, 9, 3, r),
        lambda r: variational.smooth(2, 9, r),
        lambda r: variational.rectangles(2, 9, r),
        lambda r: variational.autoregressive(2, 9, [0.5], r)[0],
    ):
        assert_array_equal(make(rng(7)), make(rng(7)))
        assert (make(rng(7)) != make(rng(8))).any()


# ---------------------------------------------------------------------------- what is refused

K, Y = np.array([[1.0, -1.0]]), np.ones((2, 8))
BAD = [
    (lambda: denoise(Y, np.ones((1, 9)), L1), ValueError, "larger than the signal"),
    (lambda: denoise(Y, np.ones((1, 3, 3)), L1), ValueError, "larger than the signal"),
    (lambda: denoise(Y[0], np.ones((1, 3, 3)), L1), ValueError, r"\(\.\.\., H, W\)"),
    (lambda: denoise(Y, K[0], L1), ValueError, r"k\[None\]"),
    (lambda: denoise(Y, np.ones((0, 3)), L1), ValueError, "shape"),
    (lambda: denoise(Y[:0], K, L1), ValueError, "not be empty"),
    (lambda: denoise(Y * np.nan, K, L1), ValueError, "entry of y must be finite"),
    (lambda: denoise(Y, K * np.inf, L1), ValueError, "entry of filters must be finite"),
    (lambda: denoise(Y, K * 1j, L1), TypeError, "real"),
    (lambda: denoise(Y, K, L1, tol=0), ValueError, "tol"),
    (lambda: denoise(Y, K, L1, max_iterations=0), ValueError, "max_iterations"),
    (lambda: denoise(Y, K, L1, start=Y[0]), ValueError, "one shape"),
    (lambda: denoise(Y, K, SmoothedL1), TypeError, "potential"),
    (lambda: denoise(Y, K, "l1"), TypeError, "potential"),
    (lambda: variational.offset_bias(Y, K, abs), TypeError, "potential"),
    (lambda: SmoothedL1(0), ValueError, "epsilon"),
    (lambda: LogCosh(-1), ValueError, "scale"),
    (lambda: variational.spectrum(K, 1), ValueError, "larger than the signal"),
    (lambda: variational.spectrum(K, (8, 8)), ValueError, "act on signals"),
    (lambda: variational.spectrum(K, (8, 8, 8)), ValueError, "pair"),
    (lambda: variational.quadratic_denoise(Y, np.ones((1, 9))), ValueError, "larger"),
    (lambda: variational.quadratic_risk(K, np.ones(8), 0), ValueError, "noise must be positive"),
    (lambda: variational.quadratic_risk(K, np.ones(8), np.nan), ValueError, "noise"),
    (lambda: variational.quadratic_risk(K, np.ones(8), np.ones(7)), ValueError, "noise"),
    (lambda: variational.quadratic_risk(K, -np.ones(8), 1), ValueError, "power"),
    (lambda: variational.fit_quadratic(np.zeros(8), 1, 2), ValueError, "0 everywhere"),
    (lambda: variational.fit_quadratic(np.arange(8.0), 1, 2), ValueError, "real signal"),
    (lambda: variational.fit_quadratic(np.ones(8), 1, 9), ValueError, "larger"),
    (lambda: variational.fit_quadratic(np.ones(8), 1, 2, count=0), ValueError, "count"),
    (lambda: variational.fit_quadratic(np.full(8, np.inf), 1, 2), ValueError, "more taps"),
    (lambda: variational.spectral_factor(np.ones(4), 3), ValueError, "2 taps - 1"),
    (lambda: variational.spectral_factor(np.arange(9.0), 3), ValueError, "no filter of 3 taps"),
    (lambda: variational.spectral_factor(-np.ones(9), 3), ValueError, "negative"),
    (  # 1 + 1.1 cos: nonnegative at the three frequencies of the grid, negative between them
        lambda: variational.spectral_factor(1 + 1.1 * np.cos(2 * np.pi * np.arange(3) / 3), 2),
        ValueError,
        "between",
    ),
    (lambda: variational.filter_gradient(Y, Y[:1], K, L1), ValueError, "one shape"),
    (lambda: variational.attack(Y, Y[:1], K, L1, 1), ValueError, "one shape"),
    (lambda: variational.attack(Y, Y, K, L1, -1), ValueError, "radius"),
    (lambda: variational.attack(Y, Y, K, L1, 1, steps=-1), ValueError, "steps"),
    (lambda: variational.attack(Y, Y, K, L1, 1, start=Y[:1]), ValueError, "one shape"),
    (lambda: variational.attack(Y, Y, K, abs, 1), TypeError, "potential"),
    (lambda: variational.attack(Y, Y, K, L1, 1, tol=0), ValueError, "tol"),
    (
        lambda: variational.learn_under_attack(Y, Y, K, potential=L1, radius=-1),
        ValueError,
        "radius",
    ),
    (
        lambda: variational.learn_under_attack(Y, Y, K, potential=L1, radius=1, rate=0),
        ValueError,
        "rate",
    ),
    (
        lambda: variational.learn_under_attack(Y, Y[:1], K, potential=L1, radius=1),
        ValueError,
        "one shape",
    ),
    (
        lambda: variational.learn_filters(Y, Y, count=1, taps=3, potential=L1, seed=0, start=K),
        ValueError,
        "start must have the shape",
    ),
    (
        lambda: variational.learn_filters(Y, Y, count=1, taps=9, potential=L1, seed=0),
        ValueError,
        "larger",
    ),
    (
        lambda: variational.learn_filters(Y, Y, count=1, taps=3, potential=L1, seed=0, sparsity=-1),
        ValueError,
        "sparsity",
    ),
    (lambda: tv_filters(3), ValueError, "ndim"),
    (lambda: variational.piecewise_constant(1, 8, 1, rng()), ValueError, "jumps back"),
    (lambda: variational.piecewise_constant(1, 8, 9, rng()), ValueError, "jumps must be"),
    (lambda: variational.piecewise_constant(1, 8, 2, 0), TypeError, "default_rng"),
    (lambda: variational.smooth(1, 8, rng()), ValueError, "modes"),
    (lambda: variational.rectangles(1, 1, rng()), ValueError, "size"),
    (lambda: variational.autoregressive_power(3, [1, 2, 3]), ValueError, "p < size"),
    (lambda: variational.autoregressive(1, 8, [0.5], rng(), innovation=0), ValueError, "innov"),
]


@pytest.mark.parametrize(
    ("call", "error", "words"), BAD, ids=[b[2] + str(i) for i, b in enumerate(BAD)]
)
def test_bad_inputs_are_refused_in_words(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()
