"""Operators: one set of properties for all of them, and an independent oracle for each."""

import math

import numpy as np
import pytest
from scipy import integrate, linalg, ndimage, sparse, special

from advreg import data, operators
from advreg.operators import (
    BackwardHeat,
    DoubleIntegration,
    HalfIntegration,
    Integration,
    MatrixOperator,
    NoSingularSystem,
    ParallelBeam,
    PeriodicBlur,
    box_blur,
    gaussian_blur,
)


def _random_matrix(rows, columns, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    if rank is None:
        return rng.standard_normal((rows, columns))
    return rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))


FACTORIES = {
    "integration-2": lambda: Integration(2),
    "integration-37": lambda: Integration(37),
    "integration-64": lambda: Integration(64),
    "double-integration-2": lambda: DoubleIntegration(2),
    "double-integration-41": lambda: DoubleIntegration(41),
    "half-integration-2": lambda: HalfIntegration(2),
    "half-integration-60": lambda: HalfIntegration(60),
    "heat-30": lambda: BackwardHeat(30, 0.01),
    "heat-underflow": lambda: BackwardHeat(12, 1.0),
    "box-64-8": lambda: box_blur(64, 8),
    "box-15-4": lambda: box_blur(15, 4),
    "box-16-16": lambda: box_blur(16, 16),
    "box-7-1": lambda: box_blur(7, 1),
    "box-12x9": lambda: box_blur((12, 9), 3),
    "gauss-31": lambda: gaussian_blur(31, 1.5),
    "gauss-underflow": lambda: gaussian_blur(40, 20.0),
    "gauss-8x6": lambda: gaussian_blur((8, 6), 0.8),
    "blur-random-17": lambda: PeriodicBlur(_random_matrix(1, 17)[0]),
    "blur-random-4x3x6": lambda: PeriodicBlur(_random_matrix(4, 18).reshape(4, 3, 6)),
    "matrix-tall": lambda: MatrixOperator(_random_matrix(9, 6)).compute_singular_system(),
    "matrix-wide": lambda: MatrixOperator(_random_matrix(5, 8)).compute_singular_system(),
    "matrix-rank-3": lambda: MatrixOperator(_random_matrix(8, 7, 3)).compute_singular_system(),
    "matrix-sparse-shaped": lambda: MatrixOperator(
        sparse.random_array((12, 6), density=0.4, rng=np.random.default_rng(1)),
        domain_shape=(2, 3),
        range_shape=(3, 2, 2),
    ).compute_singular_system(),
    "matrix-zero": lambda: MatrixOperator(np.zeros((3, 2))).compute_singular_system(),
    "radon-8": lambda: ParallelBeam(8, 8).compute_singular_system(),
    "radon-9-odd": lambda: ParallelBeam(9, 6).compute_singular_system(),
    "radon-7-few": lambda: ParallelBeam(7, 4, 13).compute_singular_system(),
    "radon-odd-count": lambda: ParallelBeam(6, 5),
    "radon-plain": lambda: ParallelBeam(6, [0.1, 0.7, 2.0, -1.0], 5),
    "matrix-one-unknown": lambda: MatrixOperator(_random_matrix(3, 1)),
    "matrix-plain": lambda: MatrixOperator(_random_matrix(6, 4)),
}


@pytest.fixture(scope="module", params=FACTORIES, ids=str)
def operator(request):
    return FACTORIES[request.param]()


class TestEveryOperator:
    @pytest.fixture
    def system(self, operator):
        """Dense A, U, sigma, V; rounding is measured in units of the norm of A."""
        if not operator.has_singular_system:
            pytest.skip("no singular system")
        sigma = operator.singular_values
        unit = np.eye(sigma.size)
        u = operator.synthesise(unit).reshape(sigma.size, -1).T
        v = operator.synthesise_range(unit).reshape(sigma.size, -1).T
        return operator.to_matrix(), u, sigma, v

    @pytest.fixture
    def rng(self):
        return np.random.default_rng(7)

    def draws(self, operator, rng, *batch):
        x = rng.standard_normal((*batch, *operator.domain_shape))
        y = rng.standard_normal((*batch, *operator.range_shape))
        return x, y

    def test_adjoint(self, operator, rng):
        for _ in range(5):
            x, y = self.draws(operator, rng)
            gap = np.vdot(operator.forward(x), y) - np.vdot(x, operator.adjoint(y))
            assert abs(gap) <= 1e-13 * np.linalg.norm(x) * np.linalg.norm(y) * (1 + operator.norm())

    def test_matrix_is_forward_and_its_transpose_the_adjoint(self, operator, rng):
        x, y = self.draws(operator, rng)
        matrix = operator.to_matrix()
        assert matrix.shape == (y.size, x.size)
        np.testing.assert_allclose(operator.forward(x).ravel(), matrix @ x.ravel(), atol=1e-12)
        np.testing.assert_allclose(operator.adjoint(y).ravel(), matrix.T @ y.ravel(), atol=1e-12)

    def test_batches(self, operator, rng):
        x, y = self.draws(operator, rng, 2, 3)
        names = ["forward", "adjoint"]
        if operator.has_singular_system:
            names += ["analyse", "analyse_domain", "synthesise", "synthesise_range"]
        c = rng.standard_normal(
            (2, 3, operator.singular_values.size if operator.has_singular_system else 1)
        )
        for name in names:
            method = getattr(operator, name)
            given = {"a": y if name in ("adjoint", "analyse") else x, "f": x, "s": c}[name[0]]
            one_by_one = np.array([[method(entry) for entry in row] for row in given])
            together = method(given)
            assert together.dtype == np.float64
            assert together.shape == one_by_one.shape
            np.testing.assert_allclose(together, one_by_one, atol=1e-12, err_msg=name)
            assert method(given[:0]).shape == (0, *one_by_one.shape[1:])

    def test_input_is_left_alone(self, operator, rng):
        x, y = self.draws(operator, rng)
        kept = x.copy(), y.copy()
        operator.forward(x), operator.adjoint(y)
        if operator.has_singular_system:
            operator.analyse(y), operator.analyse_domain(x)
            operator.singular_values[:] = -1  # a copy: the operator keeps its own
            assert operator.singular_values.min() >= 0
        np.testing.assert_array_equal((x, y)[0], kept[0])
        np.testing.assert_array_equal((x, y)[1], kept[1])

    def test_norm_is_the_largest_singular_value(self, operator):
        largest = np.linalg.svd(operator.to_matrix(), compute_uv=False)[0]
        assert operator.norm() == pytest.approx(largest, rel=1e-12, abs=0)
        # the Lanczos branch, which operators with a singular system do not take
        matrix = MatrixOperator(operator.to_matrix())
        assert matrix.norm() == pytest.approx(largest, rel=1e-12, abs=0)

    def test_singular_values(self, system):
        matrix, _, sigma, _ = system
        expected = np.linalg.svd(matrix, compute_uv=False)
        assert sigma.ndim == 1 and (np.diff(sigma) <= 0).all() and sigma[-1] >= 0
        # symmetric blocks may leave out further zeros of the dense decomposition
        np.testing.assert_allclose(sigma, expected[: sigma.size], atol=1e-12 * expected[0])
        np.testing.assert_allclose(expected[sigma.size :], 0, atol=1e-12 * expected[0])

    def test_singular_triples(self, system):
        matrix, u, sigma, v = system
        scale = max(sigma[0], 1e-300)
        np.testing.assert_allclose(matrix @ u / scale, v * sigma / scale, atol=1e-12)
        np.testing.assert_allclose(matrix.T @ v / scale, u * sigma / scale, atol=1e-12)

    def test_orthonormal_even_where_sigma_is_zero(self, system):
        _, u, sigma, v = system
        np.testing.assert_allclose(u.T @ u, np.eye(sigma.size), atol=1e-12)
        np.testing.assert_allclose(v.T @ v, np.eye(sigma.size), atol=1e-12)

    def test_analysis_is_the_transpose_of_synthesis(self, operator, system, rng):
        _, u, _, v = system
        x, y = self.draws(operator, rng)
        np.testing.assert_allclose(operator.analyse_domain(x), u.T @ x.ravel(), atol=1e-12)
        np.testing.assert_allclose(operator.analyse(y), v.T @ y.ravel(), atol=1e-12)

    def test_forward_through_the_singular_system(self, operator, system, rng):
        sigma, (x, y) = system[2], self.draws(operator, rng, 2)
        scale = max(sigma[0], 1e-300)
        through = operator.synthesise_range(sigma * operator.analyse_domain(x))
        np.testing.assert_allclose(operator.forward(x) / scale, through / scale, atol=1e-12)
        back = operator.synthesise(sigma * operator.analyse(y))
        np.testing.assert_allclose(operator.adjoint(y) / scale, back / scale, atol=1e-12)

    def test_domain_basis_is_complete_where_data_are_enough(self, operator, system):
        matrix, u, _, _ = system
        if u.shape[1] == matrix.shape[1]:
            np.testing.assert_allclose(u @ u.T, np.eye(len(u)), atol=1e-12)
        else:
            assert u.shape[1] < matrix.shape[1]  # then what is missing is in the null space
            gap = np.eye(len(u)) - u @ u.T
            np.testing.assert_allclose(matrix @ gap, 0, atol=1e-12)

    @pytest.mark.parametrize("name", ["forward", "adjoint", "analyse", "analyse_domain"])
    def test_refuses_what_is_not_a_real_finite_array_of_its_shape(self, operator, name):
        if name.startswith("analyse") and not operator.has_singular_system:
            pytest.skip("no singular system")
        method = getattr(operator, name)
        inner = name in ("forward", "analyse_domain")
        shape = operator.domain_shape if inner else operator.range_shape
        good = np.ones(shape)
        method(good)
        for bad in (np.ones((*shape[:-1], shape[-1] + 1)), np.ones((*shape, 99)), np.ones(())):
            with pytest.raises(ValueError, match="last axes must be"):
                method(bad)
        for value in (np.nan, np.inf, -np.inf):
            bad = good.copy()
            bad.flat[-1] = value
            with pytest.raises(ValueError, match="not finite"):
                method(bad)
        for bad in (good * 1j, good.astype(str), good.astype(object)):
            with pytest.raises(TypeError, match="real numbers"):
                method(bad)

    @pytest.mark.parametrize("name", ["synthesise", "synthesise_range"])
    def test_refuses_the_wrong_number_of_coefficients(self, operator, name):
        if not operator.has_singular_system:
            pytest.skip("no singular system")
        k = operator.singular_values.size
        with pytest.raises(ValueError, match="coefficient"):
            getattr(operator, name)(np.ones(k + 1))
        with pytest.raises(ValueError, match="not finite"):
            getattr(operator, name)(np.full(k, np.nan))

    def test_says_when_there_is_no_singular_system(self, operator):
        if operator.has_singular_system:
            pytest.skip("has one")
        for ask in (
            lambda: operator.singular_values,
            lambda: operator.analyse(np.ones(operator.range_shape)),
            lambda: operator.analyse_domain(np.ones(operator.domain_shape)),
            lambda: operator.synthesise(np.ones(1)),
            lambda: operator.synthesise_range(np.ones(1)),
        ):
            with pytest.raises(NoSingularSystem, match="compute_singular_system"):
                ask()

    def test_integers_and_lists_are_welcome(self, operator):
        ones = np.ones(operator.domain_shape)
        expected = operator.forward(ones)
        np.testing.assert_array_equal(operator.forward(ones.astype(int).tolist()), expected)
        np.testing.assert_array_equal(operator.forward(ones.astype(np.float32)), expected)


@pytest.mark.parametrize(
    "make",
    [
        Integration,
        DoubleIntegration,
        HalfIntegration,
        lambda n: BackwardHeat(n, 0.1),
        lambda n: box_blur(n, 1),
        lambda n: gaussian_blur(n, 0.5),
        ParallelBeam,
    ],
)
@pytest.mark.parametrize("size", [1, 0, -3, 2.0, "8", None, True])
def test_sizes_are_integers_of_at_least_two(make, size):
    with pytest.raises((ValueError, TypeError), match=r"size must be|not iterable"):
        make(size)


def test_to_matrix_refuses_what_would_not_fit():
    with pytest.raises(ValueError, match="at most"):
        Integration(6000).to_matrix()


# ---------------------------------------------------------------------------- integration


@pytest.mark.parametrize("size", [5, 50])
def test_integration_is_the_right_endpoint_rule(size):
    operator = Integration(size)
    np.testing.assert_allclose(
        operator.to_matrix(), np.tril(np.ones((size, size))) / size, atol=1e-15
    )
    np.testing.assert_allclose(operator.grid, np.linspace(0, 1, size + 1)[1:], rtol=1e-15)


def test_integration_small_singular_values_have_all_their_digits():
    # the inverse matrix is N times a difference, and its norm is 1 / (smallest value)
    size = 400
    inverse = size * (np.eye(size) - np.eye(size, k=-1))
    expected = 1 / np.linalg.svd(inverse, compute_uv=False)[::-1]
    np.testing.assert_allclose(Integration(size).singular_values, expected, rtol=1e-12)


def test_integration_tends_to_the_continuous_operator():
    # the right-endpoint rule is of first order; the next term comes from sin(z) = z - z^3 / 6
    n = np.arange(1, 6)
    exact = operators.integration_singular_values(n)
    for size in (200, 2000):
        error = Integration(size).singular_values[:5] / exact - 1
        expected = 1 + ((n - 0.5) * np.pi) ** 2 / (12 * size)
        np.testing.assert_allclose(2 * size * error, expected, atol=0.1 / size)


def test_continuous_singular_functions_of_integration_by_quadrature():
    for n in (1, 2, 7):
        frequency = (n - 0.5) * np.pi
        for t in (0.2, 0.9):
            integral, _ = integrate.quad(lambda s, w=frequency: math.cos(w * s), 0, t)
            expected = operators.integration_singular_values(n) * math.sin(frequency * t)
            assert integral == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("size", [3, 40])
def test_double_integration_inverts_second_differences(size):
    laplacian = (2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)) * (size + 1) ** 2
    np.testing.assert_allclose(
        DoubleIntegration(size).to_matrix() @ laplacian, np.eye(size), atol=1e-11
    )


def test_double_integration_tends_to_the_continuous_operator():
    # second order: relative error (n pi h)^2 / 12 + O(h^4)
    n = np.arange(1, 6)
    exact = operators.double_integration_singular_values(n)
    error = DoubleIntegration(999).singular_values[:5] / exact - 1
    np.testing.assert_allclose(error, (n * np.pi * 1e-3) ** 2 / 12, rtol=1e-3)
    # and the continuous problem itself, -y'' = x with zero ends, by scipy's solver
    solution = integrate.solve_bvp(
        lambda t, y: np.array([y[1], -np.exp(t)]),
        lambda a, b: np.array([a[0], b[0]]),
        np.linspace(0, 1, 11),
        np.zeros((2, 11)),
        tol=1e-10,
    )
    operator = DoubleIntegration(499)
    gap = operator.forward(np.exp(operator.grid)) - solution.sol(operator.grid)[0]
    assert np.abs(gap).max() < 1e-6  # h^2 / 12 max|x''| / 8 = 9e-8


def test_heat_against_finite_differences():
    # 20 times finer differences in space, the exact exponential in time: error
    # n^4 pi^4 T h^2 / 12 relative, below 8e-4 for n = 5
    size, factor, time = 19, 20, 0.01
    operator = BackwardHeat(size, time)
    fine = (size + 1) * factor
    t = np.arange(1, fine) / fine
    laplacian = (np.eye(fine - 1, k=1) + np.eye(fine - 1, k=-1) - 2 * np.eye(fine - 1)) * fine**2
    flow = linalg.expm(time * laplacian)
    for n, tolerance in ((1, 1e-5), (2, 1e-4), (5, 1e-3)):
        start = np.sin(n * np.pi * t)
        expected = (flow @ start)[factor - 1 :: factor]
        gap = operator.forward(start[factor - 1 :: factor]) - expected
        assert np.abs(gap).max() < tolerance * np.abs(expected).max()


def test_heat_against_its_gaussian_kernel():
    # the heat kernel on the line, reflected with alternating signs at both ends
    operator, time = BackwardHeat(15, 0.02), 0.02
    t, h = operator.grid, 1 / 2000
    s = np.arange(1, 2000) * h
    start = np.sin(np.pi * s) - 0.5 * np.sin(3 * np.pi * s)
    images = np.arange(-4, 5)[:, None, None] * 2

    def kernel(distance):
        return np.exp(-(distance**2) / (4 * time)) / np.sqrt(4 * np.pi * time)

    green = (kernel(t[:, None] - s + images) - kernel(t[:, None] + s + images)).sum(axis=0)
    x = np.sin(np.pi * t) - 0.5 * np.sin(3 * np.pi * t)
    np.testing.assert_allclose(operator.forward(x), h * green @ start, atol=1e-12)


def test_heat_underflow_is_exactly_zero():
    sigma = BackwardHeat(12, 1.0).singular_values
    # exp(-n^2 pi^2) drops below 5e-324, the smallest float64, between n = 8 and 9
    np.testing.assert_array_equal(sigma > 0, np.arange(1, 13) <= 8)


@pytest.mark.parametrize("time", [0, -1.0, np.nan, np.inf, "1", None])
def test_heat_needs_a_positive_time(time):
    with pytest.raises(ValueError, match="time must be a positive finite number"):
        BackwardHeat(8, time)


def _abel_by_quadrature(f, t):
    # scipy's rule for algebraic end-point singularities: weight (t - s)^(-1/2)
    value, _ = integrate.quad(f, 0, t, weight="alg", wvar=(0, -0.5), epsabs=1e-13, epsrel=1e-13)
    return value / special.gamma(0.5)


@pytest.mark.parametrize(
    "f, size, tolerance",
    [
        (lambda s: 1.0 + 0 * s, 2, 1e-13),
        (lambda s: 4 * s**3 - s + 2, 4, 1e-12),  # degree 3 < 4: exact
        (np.exp, 18, 1e-12),  # Legendre coefficients of exp fall below rounding
        (lambda s: np.cos(9 * s), 40, 1e-12),
    ],
)
def test_half_integration_against_adaptive_quadrature(f, size, tolerance):
    operator = HalfIntegration(size)
    y = operator.forward(np.sqrt(operator.weights) * f(operator.grid))
    expected = [_abel_by_quadrature(f, t) for t in operator.range_grid]
    np.testing.assert_allclose(y / np.sqrt(operator.range_weights), expected, atol=tolerance)


def test_half_integration_is_exact_only_below_its_size():
    operator = HalfIntegration(4)
    y = operator.forward(np.sqrt(operator.weights) * operator.grid**4)
    expected = [_abel_by_quadrature(lambda s: s**4, t) for t in operator.range_grid]
    assert np.abs(y / np.sqrt(operator.range_weights) - expected).max() > 1e-5


def test_half_integration_node_vectors_carry_the_two_inner_products():
    operator = HalfIntegration(12)
    x = np.sqrt(operator.weights) * (operator.grid**2 + 1)
    exact, _ = integrate.quad(lambda t: (t**2 + 1) ** 2, 0, 1)
    assert x @ x == pytest.approx(exact, rel=1e-13)
    # sqrt(t) (1 + t), a half-integral: the weight (t (1 - t))^(-1/2) is singular at both ends
    t = operator.range_grid
    y = np.sqrt(operator.range_weights * t) * (1 + t)
    exact, _ = integrate.quad(lambda t: t * (1 + t) ** 2, 0, 1, weight="alg", wvar=(-0.5, -0.5))
    assert y @ y == pytest.approx(exact, rel=1e-12)


def test_half_integration_singular_functions_by_quadrature():
    for n in (1, 2, 3, 8):

        def u(s, n=n):
            return math.sqrt(2 * n - 1) * special.eval_legendre(n - 1, 2 * s - 1)

        for t in (0.1, 0.5, 0.93):
            phi = 2 * math.acos(math.sqrt(t))
            v = math.sqrt(2 / math.pi) * math.cos((n - 0.5) * phi)
            expected = operators.half_integration_singular_values(n) * v
            assert _abel_by_quadrature(u, t) == pytest.approx(expected, abs=1e-12)


def test_half_integration_twice_is_integration():
    # between the two steps the half-integral is moved to the Legendre nodes by its own series;
    # it starts like sqrt(t), so the second step converges only algebraically
    errors = []
    for size in (16, 64):
        operator = HalfIntegration(size)
        t = operator.grid
        n = np.arange(1, size + 1)
        c = operator.analyse_domain(np.sqrt(operator.weights) * np.cos(3 * t))
        phi = 2 * np.arccos(np.sqrt(t))
        series = np.sqrt(2 / np.pi) * np.cos((n - 0.5) * phi[:, None])
        half = series @ (operator.singular_values * c)
        twice = operator.forward(np.sqrt(operator.weights) * half)
        values = twice / np.sqrt(operator.range_weights)
        errors.append(np.abs(values - np.sin(3 * operator.range_grid) / 3).max())
    assert errors[0] < 2e-3
    assert errors[1] < errors[0] / 12  # second order


@pytest.mark.parametrize(
    "function, first, formula",
    [
        (operators.integration_singular_values, 1, lambda n: 1 / ((n - 0.5) * np.pi)),
        (operators.double_integration_singular_values, 1, lambda n: 1 / (n * np.pi) ** 2),
        (operators.half_integration_singular_values, 1, lambda n: np.sqrt(2 / (2 * n - 1))),
        (operators.radon_disc_singular_values, 0, lambda m: 2 * np.sqrt(np.pi / (m + 1))),
    ],
)
def test_continuous_singular_values(function, first, formula):
    n = np.arange(first, first + 9).reshape(3, 3)
    np.testing.assert_allclose(function(n), formula(n), rtol=1e-14)
    assert np.ndim(function(3)) == 0
    for bad in (first - 1, 1.5, [first, -2]):
        with pytest.raises(ValueError, match=f"at least {first}"):
            function(bad)


# ----------------------------------------------------------------------------------- blur


@pytest.mark.parametrize("size, width", [(64, 8), (15, 4), (16, 5), (9, 9), (10, 1)])
def test_box_blur_is_circulant_and_a_moving_mean(size, width):
    operator = box_blur(size, width)
    np.testing.assert_allclose(operator.to_matrix(), linalg.circulant(operator.kernel), atol=1e-14)
    x = np.random.default_rng(0).standard_normal(size)
    np.testing.assert_allclose(
        operator.forward(x), ndimage.uniform_filter1d(x, width, mode="wrap"), atol=1e-14
    )


def test_box_blur_in_two_dimensions():
    x = np.random.default_rng(0).standard_normal((12, 10))
    np.testing.assert_allclose(
        box_blur((12, 10), 4).forward(x), ndimage.uniform_filter(x, 4, mode="wrap"), atol=1e-14
    )


def test_box_blur_zeros_are_exact_and_where_arithmetic_says():
    for size in range(2, 41):
        for width in range(1, size + 1):
            sigma = box_blur(size, width).singular_values
            expected = sum(width * k % size == 0 for k in range(1, size))
            assert np.count_nonzero(sigma == 0) == expected == math.gcd(width, size) - 1
            assert sigma[size - 1 - expected] > 1e-4  # no positive value near rounding
    assert np.count_nonzero(box_blur(64, 8).singular_values == 0) == 7


@pytest.mark.parametrize("size, width", [(64, 8), (15, 4), (24, 5)])
def test_box_blur_rank_is_that_of_the_dense_matrix(size, width):
    operator = box_blur(size, width)
    rank = np.linalg.matrix_rank(operator.to_matrix())
    assert np.count_nonzero(operator.singular_values) == rank


@pytest.mark.parametrize("shape, width", [((16, 12), 4), (45, 15), (1000, 100)])
def test_numerical_symbol_finds_the_same_zeros(shape, width):
    exact = box_blur(shape, width)
    computed = PeriodicBlur(exact.kernel)
    zeros = np.count_nonzero(exact.singular_values == 0)
    assert np.count_nonzero(computed.singular_values == 0) == zeros > 0
    np.testing.assert_allclose(computed.singular_values, exact.singular_values, atol=1e-15)


def test_data_of_a_blur_with_zeros_keep_no_trace_of_the_lost_modes():
    operator = box_blur(32, 4)
    lost = operator.singular_values == 0
    y = operator.forward(np.random.default_rng(3).standard_normal(32))
    assert lost.sum() == 3
    np.testing.assert_allclose(operator.analyse(y)[lost], 0, atol=1e-15)


def _periodised_gaussian(t, width):
    return sum(
        np.exp(-(((t + image) / width) ** 2) / 2) / (np.sqrt(2 * np.pi) * width)
        for image in range(-6, 7)
    )


def test_gaussian_blur_is_convolution_with_the_periodised_gaussian():
    # a random real trigonometric polynomial of degree 11 < 24/2, integrated on a 16 times
    # finer grid: the trapezoidal rule is exact to rounding for smooth periodic functions
    size, width, rng = 24, 1.7, np.random.default_rng(5)
    k, coefficients = np.arange(12), rng.standard_normal((2, 12))
    waves = np.exp(2j * np.pi * np.outer(np.arange(16 * size) / (16 * size), k))
    f = (waves @ (coefficients[0] + 1j * coefficients[1])).real
    t = np.arange(16 * size) / (16 * size)
    kernel = _periodised_gaussian(t[::16, None] - t, width / size) / t.size
    np.testing.assert_allclose(gaussian_blur(size, width).forward(f[::16]), kernel @ f, atol=1e-12)


def test_gaussian_blur_against_scipy():
    # at this width the sampled Gaussian aliases by exp(-2 pi^2 9 / 4) = 5e-20 only
    x = np.random.default_rng(1).standard_normal((30, 32))
    expected = ndimage.gaussian_filter(x, 3.0, mode="wrap", truncate=10)
    np.testing.assert_allclose(gaussian_blur((30, 32), 3.0).forward(x), expected, atol=1e-12)


def test_gaussian_singular_values_keep_their_relative_precision():
    # frequencies 0, 1, 1, 2, 2, ..., 20 with values down to exp(-2 pi^2 25) = 6e-215
    sigma = gaussian_blur(40, 10.0).singular_values
    frequency = np.sort(np.abs(np.fft.fftfreq(40, 1 / 40)))
    np.testing.assert_allclose(sigma, np.exp(-2 * (np.pi * frequency / 4) ** 2), rtol=1e-12)
    assert gaussian_blur(40, 20.0).singular_values[-1] == 0  # exp(-1974)


def test_blur_refuses():
    for width in (0, -1, 9, 2.0, "3", None):
        with pytest.raises(ValueError, match="width must be"):
            box_blur(8, width)
    for width in (0, -1.0, np.nan, np.inf, 9.0, "3", None):
        with pytest.raises(ValueError, match="width must be"):
            gaussian_blur(8, width)
    for make in (box_blur, gaussian_blur):
        with pytest.raises(ValueError, match="at least one axis"):
            make((), 1)
    for kernel in (1.0, np.ones(1), np.ones((4, 1))):
        with pytest.raises(ValueError, match="kernel must have"):
            PeriodicBlur(kernel)
    with pytest.raises(TypeError, match="real numbers"):
        PeriodicBlur(np.ones(4) * 1j)
    with pytest.raises(ValueError, match="not finite"):
        PeriodicBlur([1.0, np.nan])
    with pytest.raises(ValueError, match="Fourier transform"):
        PeriodicBlur([1.0, 0.0, 0.0], symbol=[1.0, 1.0, 1.1])
    with pytest.raises(ValueError, match="Fourier transform"):
        PeriodicBlur([1.0, 0.0, 0.0], symbol=[1.0])


# ------------------------------------------------------------------------------- matrices


def test_matrix_operator_zeros_and_copy():
    matrix = _random_matrix(30, 20, rank=11)
    operator = MatrixOperator(matrix)
    assert operator.compute_singular_system() is operator
    assert np.count_nonzero(operator.singular_values) == 11
    np.testing.assert_array_equal(operator.singular_values[11:], 0.0)


def test_matrix_operator_has_its_own_copy():
    for matrix in (_random_matrix(6, 5), sparse.csr_array(_random_matrix(6, 5))):
        operator = MatrixOperator(matrix)
        before = operator.forward(np.ones(5))
        matrix *= 0
        np.testing.assert_array_equal(operator.forward(np.ones(5)), before)


def test_matrix_operator_refuses():
    for bad in (np.ones(3), np.ones((2, 2, 2)), np.ones((0, 3))):
        with pytest.raises(ValueError, match="two axes"):
            MatrixOperator(bad)
    with pytest.raises(ValueError, match="not finite"):
        MatrixOperator([[1.0, np.nan]])
    for bad in (np.eye(2) * 1j, sparse.eye_array(2) * 1j, [["a"]]):
        with pytest.raises(TypeError, match="real numbers"):
            MatrixOperator(bad)
    with pytest.raises(ValueError, match="does not map"):
        MatrixOperator(np.eye(4), domain_shape=(3, 2))


# ------------------------------------------------------------------------------ tomography


@pytest.mark.parametrize("size, angles", [(16, 16), (24, 24), (15, 12)])
def test_singular_system_by_symmetry_against_the_dense_one(size, angles):
    operator = ParallelBeam(size, angles).compute_singular_system()
    expected = np.linalg.svd(operator.to_matrix(), compute_uv=False)
    np.testing.assert_allclose(operator.singular_values, expected, atol=1e-13 * expected[0])
    assert operator.singular_values.size == size**2


def test_singular_values_of_radon_that_vanish_are_zero():
    operator = ParallelBeam(9, 6).compute_singular_system()
    rank = np.linalg.matrix_rank(operator.to_matrix(), tol=1e-12)
    assert np.count_nonzero(operator.singular_values) == rank < 78


@pytest.mark.parametrize("angles", [7, 1, np.arange(8) * np.pi / 8])
def test_singular_system_needs_symmetric_rays(angles):
    with pytest.raises(ValueError, match="even number of angles"):
        ParallelBeam(8, angles).compute_singular_system()


@pytest.mark.parametrize(
    "size, angles, detectors, order", [(8, 8, None, 8), (7, 6, 10, 8), (6, 4, 5, 8), (6, 5, 4, 4)]
)
def test_the_square_acts_on_pixels_and_rays_alike(size, angles, detectors, order):
    operator = ParallelBeam(size, angles, detectors)
    matrix = operator.to_matrix()
    pixel_group, ray_group = operator._symmetries()
    assert len(pixel_group) == len({tuple(p) for p in pixel_group}) == order
    for pixels, rays in zip(pixel_group, ray_group, strict=True):
        np.testing.assert_allclose(matrix[rays][:, pixels], matrix, atol=1e-14)
    x = np.random.default_rng(0).standard_normal((size, size))
    for image, number in ((x[:, ::-1], 1), (x[::-1], 2), (x[::-1, ::-1].T, 4)):
        if number < order:
            np.testing.assert_array_equal(x.ravel()[pixel_group[number]], image.ravel())


@pytest.mark.parametrize("angles", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("size, detectors", [(5, None), (6, 3), (4, 9)])
def test_one_row_in_eight_makes_the_whole_matrix(size, angles, detectors):
    operator = ParallelBeam(size, angles, detectors)
    custom = ParallelBeam(size, operator.angles, detectors)  # knows of no symmetry
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, *operator.domain_shape))
    y = rng.standard_normal((3, *operator.range_shape))
    np.testing.assert_allclose(operator.forward(x), custom.forward(x), atol=1e-13)
    np.testing.assert_allclose(operator.adjoint(y), custom.adjoint(y), atol=1e-13)
    np.testing.assert_allclose(operator.to_matrix(), custom.to_matrix(), atol=0)


def test_quarter_turn_of_the_image_moves_the_sinogram_by_a_quarter_turn():
    operator = ParallelBeam(16, 8)
    image = np.random.default_rng(0).random((16, 16))
    turned, plain = operator.forward(np.rot90(image)), operator.forward(image)
    # counter-clockwise by pi/2: row j of the new sinogram is row j - 4 of the old one
    np.testing.assert_allclose(turned[4:], plain[:4], atol=1e-13)
    np.testing.assert_allclose(turned[:4], plain[4:, ::-1], atol=1e-13)


def _smooth_phantom(size):
    axis = (2 * np.arange(size) + 1) / size - 1
    x, y = axis, -axis[:, None]
    bumps = [(1.0, 0.1, -0.2, 0.25), (-0.5, -0.3, 0.2, 0.15), (0.7, 0.2, 0.35, 0.12)]
    return sum(c * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * w**2)) for c, a, b, w in bumps)


def _smooth_sinogram(angles, s):
    bumps = [(1.0, 0.1, -0.2, 0.25), (-0.5, -0.3, 0.2, 0.15), (0.7, 0.2, 0.35, 0.12)]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return sum(
        c * np.sqrt(2 * np.pi) * w * np.exp(-((s - a * cos - b * sin) ** 2) / (2 * w**2))
        for c, a, b, w in bumps
    )


def test_radon_of_gaussians_is_exact_to_second_order():
    # linear interpolation: error of second order in the pixel width
    errors = []
    for size in (32, 64):
        operator = ParallelBeam(size, 30)
        exact = _smooth_sinogram(operator.angles, operator.detector_grid)
        inside = np.abs(operator.detector_grid) < 0.9  # the Gaussians go on outside the square
        gap = operator.forward(_smooth_phantom(size)) - exact
        errors.append(np.abs(gap[:, inside]).max() / exact.max())
    assert errors[0] < 0.02
    assert 3 < errors[0] / errors[1] < 5


def test_radon_against_scikit_image():
    from skimage.transform import radon

    # an odd size: skimage turns about pixel size // 2, which is the centre only then
    size, operator = 65, ParallelBeam(65, 45)
    image = _smooth_phantom(size)
    axis = (2 * np.arange(size) + 1) / size - 1
    image = np.where(np.hypot(axis, axis[:, None]) < 0.95, image, 0)
    theirs = radon(image, np.rad2deg(operator.angles), circle=True).T * operator.step
    extra = (operator.detectors - size) // 2
    ours = operator.forward(image)[:, extra : extra + size]
    # both interpolate linearly, along different directions: each is off by
    # about 4e-3 of the maximum (previous test), plus the cut at radius 0.95
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()


def test_radon_of_a_disc():
    radius, errors = 0.7, []
    for size in (64, 256):
        axis = (2 * np.arange(4 * size) + 1) / (4 * size) - 1
        disc = (np.hypot(axis, axis[:, None]) <= radius).astype(float)
        disc = disc.reshape(size, 4, size, 4).mean(axis=(1, 3))
        operator = ParallelBeam(size, 18)
        chord = 2 * np.sqrt(np.maximum(radius**2 - operator.detector_grid**2, 0))
        errors.append(np.abs(operator.forward(disc) - chord).mean())
    # the chord has a vertical tangent at the rim, one detector wide: mean error ~ h^(3/2)
    assert errors[0] < 0.01
    assert errors[1] < errors[0] / 6


def test_radon_of_the_phantom_against_its_exact_line_integrals():
    errors = []
    for size in (64, 256):
        operator = ParallelBeam(size, 20)
        exact = data.shepp_logan_sinogram(operator.angles, operator.detector_grid)
        gap = operator.forward(data.shepp_logan(size)) - exact
        errors.append(np.linalg.norm(gap) / np.linalg.norm(exact))
    # the skull is a jump: order between one half and one
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 3


def test_disc_functions_by_quadrature():
    """R u = sigma v on chords (Gauss rule, exact for polynomials), u and v orthonormal."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    s, theta = np.linspace(-0.95, 0.95, 7)[:, None, None], np.linspace(0, 6, 5)[:, None]
    half = np.sqrt(1 - s**2)
    t = half * nodes
    x = s * np.cos(theta) - t * np.sin(theta)
    y = s * np.sin(theta) + t * np.cos(theta)
    for m in range(8):
        for order in range(-m, m + 1, 2):
            u, v = operators.radon_disc_singular_functions(m, order)
            integral = (u(x, y) * weights * half).sum(axis=-1)
            expected = operators.radon_disc_singular_values(m) * v(s[..., 0], theta[:, 0])
            np.testing.assert_allclose(integral, expected, atol=1e-12)


def test_disc_functions_are_orthonormal():
    pairs = [(m, order) for m in range(6) for order in range(-m, m + 1, 2)]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    r, turn = (1 + nodes[:, None]) / 2, np.arange(24) * 2 * np.pi / 24
    area = (weights[:, None] / 2) * r * (2 * np.pi / 24)
    angle = (np.arange(20) + 0.5) * np.pi / 20  # s = cos(angle): ds / sqrt(1 - s^2) = d angle
    u_values, v_values = [], []
    for pair in pairs:
        u, v = operators.radon_disc_singular_functions(*pair)
        u_values.append((u(r * np.cos(turn), r * np.sin(turn)) * np.sqrt(area)).ravel())
        measure = np.sqrt(np.pi / 20 * 2 * np.pi / 24)
        v_values.append((v(np.cos(angle)[:, None], turn) * measure).ravel())
    for values in (np.array(u_values), np.array(v_values)):
        np.testing.assert_allclose(values @ values.T, np.eye(len(pairs)), atol=1e-12)


def test_matrix_maps_zernike_to_chebyshev():
    errors = []
    for size in (64, 256):
        operator = ParallelBeam(size, 12)
        axis = (2 * np.arange(size) + 1) / size - 1
        s, theta = operator.detector_grid, operator.angles[:, None]
        worst = 0.0
        for m, order in ((0, 0), (2, 2), (3, -1), (4, 0)):
            u, v = operators.radon_disc_singular_functions(m, order)
            expected = operators.radon_disc_singular_values(m) * v(s, theta)
            gap = operator.forward(u(axis, -axis[:, None])) - expected
            worst = max(worst, np.linalg.norm(gap) / np.linalg.norm(expected))
        errors.append(worst)
    # the polynomials jump to zero at the rim, so the error is of order one half to one in h
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 2


def test_disc_functions_refuse():
    for degree, order in ((2, 1), (2, 4), (3, -5)):
        with pytest.raises(ValueError, match="order must be one of"):
            operators.radon_disc_singular_functions(degree, order)
    with pytest.raises(ValueError, match="degree"):
        operators.radon_disc_singular_functions(-1, 0)


@pytest.mark.parametrize("filter", ["ramp", "shepp-logan", "cosine", "hamming", "hann"])
@pytest.mark.parametrize("detectors", [None, 40])
def test_fbp_is_that_of_scikit_image(filter, detectors):
    from skimage.transform import iradon

    operator = ParallelBeam(33, 50, detectors)
    sinogram = data.shepp_logan_sinogram(operator.angles, operator.detector_grid)
    if operator.detectors % 2 == 0:  # skimage's centre is detector number detectors // 2
        sinogram = data.shepp_logan_sinogram(
            operator.angles, operator.detector_grid[:-1] + operator.step / 2
        )
        operator = ParallelBeam(33, 50, detectors - 1)
    theirs = iradon(
        sinogram.T / operator.step,
        np.rad2deg(operator.angles),
        output_size=33,
        filter_name=filter,
        circle=False,
    )
    # the plain ramp has the same kernel at any padding; the windows are sampled at the padded
    # length, and skimage pads more.  Pixels that some angle does not see are left out.
    tolerance = 1e-12 if filter == "ramp" else 0.02
    axis = (np.arange(33) - 16) * operator.step
    seen = np.hypot(axis, axis[:, None]) <= operator.detector_grid[-1]
    assert seen.sum() > 800
    gap = (operator.fbp(sinogram, filter) - theirs)[seen]
    assert np.abs(gap).max() < tolerance


@pytest.mark.parametrize("size, angles, detectors", [(9, 6, 5), (8, 7, 4), (6, 4, None)])
def test_back_projection_interpolates_between_detectors_and_ends_with_them(size, angles, detectors):
    operator = ParallelBeam(size, angles, detectors)
    rows = np.random.default_rng(0).standard_normal(operator.range_shape)
    axis = (np.arange(size) - (size - 1) / 2) * operator.step
    step, s = operator.step, operator.detector_grid
    nodes = np.concatenate([[s[0] - step], s, [s[-1] + step]])  # zero from there on
    expected = sum(
        np.interp(axis * np.cos(a) - axis[:, None] * np.sin(a), nodes, [0, *row, 0])
        for a, row in zip(operator.angles, rows, strict=True)
    )
    found = operator._backprojector.forward(rows.ravel()).reshape(size, size)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def _psnr(image, truth):
    return -10 * np.log10(np.mean((image - truth) ** 2))


def test_fbp_of_the_phantom_is_as_good_as_scikit_image():
    from skimage.transform import iradon

    operator, truth = ParallelBeam(128, 180), data.shepp_logan(128)
    ours = operator.fbp(data.shepp_logan_sinogram(operator.angles, operator.detector_grid))
    # skimage turns about pixel 64 and detector 91: half a pixel from ours in x and in y
    h = operator.step
    positions = (np.arange(182) - 91) * h
    sinogram = [
        data.shepp_logan_sinogram([a], positions + h / 2 * (np.cos(a) - np.sin(a)))[0]
        for a in operator.angles
    ]
    theirs = iradon(
        np.array(sinogram).T / h, np.rad2deg(operator.angles), output_size=128, circle=False
    )
    assert _psnr(ours, truth) > 31
    assert _psnr(ours, truth) > _psnr(theirs, truth) - 0.2


def test_fbp_converges():
    errors = []
    for size in (32, 128):
        operator = ParallelBeam(size, 2 * size)
        exact = _smooth_sinogram(operator.angles, operator.detector_grid)
        gap = operator.fbp(exact) - _smooth_phantom(size)
        errors.append(np.abs(gap[size // 4 : -size // 4, size // 4 : -size // 4]).max())
    assert errors[0] < 0.03
    assert errors[1] < errors[0] / 10


def test_fbp_takes_batches_and_refuses():
    operator = ParallelBeam(12, 10)
    sinograms = operator.forward(np.random.default_rng(0).random((2, 3, 12, 12)))
    together = operator.fbp(sinograms)
    assert together.shape == (2, 3, 12, 12)
    np.testing.assert_allclose(together[1, 2], operator.fbp(sinograms[1, 2]), atol=1e-13)
    with pytest.raises(ValueError, match="filter must be one of"):
        operator.fbp(sinograms, "box")
    with pytest.raises(ValueError, match="last axes"):
        operator.fbp(sinograms[..., 1:])
    with pytest.raises(ValueError, match="evenly spread"):
        custom = ParallelBeam(12, operator.angles)
        custom.fbp(sinograms)


def test_parallel_beam_geometry_and_its_refusals():
    operator = ParallelBeam(64, 64)
    assert operator.range_shape == (64, 92)  # sqrt(2) 64 = 90.5, even like 64
    assert ParallelBeam(65).range_shape == (180, 93)
    np.testing.assert_allclose(operator.detector_grid, -operator.detector_grid[::-1])
    np.testing.assert_allclose(np.diff(operator.detector_grid), 2 / 64)
    for angles in (0, -2, 2.5, [], [[0.0]], [np.nan], "many", None):
        with pytest.raises((ValueError, TypeError)):
            ParallelBeam(8, angles)
    for detectors in (0, -1, 3.5):
        with pytest.raises(ValueError, match="detectors must be"):
            ParallelBeam(8, 4, detectors)
    with pytest.raises(ValueError, match="take fewer"):
        ParallelBeam(2048, 720)
    with pytest.raises(ValueError, match="blocks"):
        ParallelBeam(180, 180).compute_singular_system()
