"""Filters, worst cases, iterations and parameter choice, each against an independent oracle."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import lsqr

from advreg import spectral
from advreg.operators import (
    Integration,
    MatrixOperator,
    NoSingularSystem,
    Operator,
    box_blur,
    gaussian_blur,
)
from advreg.spectral import FILTERS

NAMES = list(FILTERS)
SMOOTH = ["tikhonov", "iterated_tikhonov", "showalter", "clip", "l2_game"]


def matrix_operator(shape: tuple[int, int], seed: int = 0, rank: int | None = None) -> Operator:
    """A random operator with sigma_n = 2^-n (zero from `rank` on) and its singular system."""
    rng = np.random.default_rng(seed)
    k = min(shape)
    u, v = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in shape[::-1])
    sigma = 2.0 ** -np.arange(k)
    sigma[k if rank is None else rank :] = 0.0
    operator = MatrixOperator((v * sigma) @ u.T)
    operator.compute_singular_system()
    return operator


# -------------------------------------------------------------------------------- filters


def matrix_solution(name: str, a: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """The method behind each filter, without any singular value decomposition of ours."""
    gram, rhs, eye = a.T @ a, a.T @ y, np.eye(a.shape[1])
    if name == "tikhonov":
        stacked = np.vstack([a, math.sqrt(alpha) * eye])
        return np.linalg.lstsq(stacked, np.concatenate([y, 0 * rhs]), rcond=None)[0]
    if name == "iterated_tikhonov":
        x = np.linalg.solve(gram + alpha * eye, rhs)
        return x + np.linalg.solve(gram + alpha * eye, a.T @ (y - a @ x))
    if name == "landweber":
        x = np.zeros(a.shape[1])
        for _ in range(round(1 / alpha)):
            x = x + a.T @ (y - a @ x)
        return x
    if (
        name == "showalter"
    ):  # x' = A*(y - A x), x(0) = 0, at time 1/alpha, in one matrix exponential
        flow = np.block([[-gram, rhs[:, None]], [np.zeros((1, a.shape[1] + 1))]])
        return expm(flow / alpha)[:-1, -1]
    eigenvalues, vectors = np.linalg.eigh(gram)
    gains_over_sigma = {
        "tsvd": np.where(eigenvalues >= alpha, 1 / eigenvalues, 0.0),
        "clip": 1 / np.maximum(eigenvalues, np.sqrt(alpha * eigenvalues)),
        "l2_game": 1 / np.maximum(eigenvalues, alpha),
    }[name]
    return vectors @ (gains_over_sigma * (vectors.T @ rhs))


@pytest.mark.parametrize("alpha", [0.5, 0.05, 1 / 300])
@pytest.mark.parametrize("name", NAMES)
def test_reconstruct_is_the_method_the_filter_is_named_after(name: str, alpha: float) -> None:
    operator = matrix_operator((9, 6), seed=3)
    y = np.random.default_rng(4).standard_normal(9)
    ours = spectral.reconstruct(operator, y, name, alpha)
    assert_allclose(ours, matrix_solution(name, operator.to_matrix(), y, alpha), atol=1e-10)


@pytest.mark.parametrize("sigma", [1e-9, 1e-3, 0.3, 1.0])
@pytest.mark.parametrize("alpha", [1e-12, 1e-4, 0.7, 1e5])
def test_filters_keep_all_digits(sigma: float, alpha: float) -> None:
    """Against 60-digit decimals, where 1 - power and 1 - exp would cancel in float64."""
    with localcontext(prec=60):
        s, a = Decimal(sigma), Decimal(alpha)
        t = s * s / a
        exact = {
            "tikhonov": t / (1 + t),
            "iterated_tikhonov": 1 - 1 / (1 + t) ** 2,
            "showalter": 1 - (-t).exp(),
            "clip": min(Decimal(1), t.sqrt()),
            "l2_game": min(Decimal(1), t),
        }
        order_three = 1 - 1 / (1 + t) ** 3
        steps = 1 - (1 - s * s) ** 17
    for name, value in exact.items():
        assert FILTERS[name].q(sigma, alpha) == pytest.approx(float(value), rel=1e-14, abs=0)
    third = spectral.iterated_tikhonov(sigma, alpha, order=3)
    assert third == pytest.approx(float(order_three), rel=1e-14, abs=0)
    assert spectral.landweber(sigma, 17) == pytest.approx(float(steps), rel=1e-14, abs=0)


sigmas = st.floats(1e-6, 1.0)
alphas_ = st.floats(1e-9, 1e3)


@given(name=st.sampled_from(NAMES), s=sigmas, factor=st.floats(1e-3, 1.0), a=alphas_)
def test_filters_lie_in_the_unit_interval_and_are_monotone(name, s, factor, a) -> None:
    q = FILTERS[name].q
    here = q(s, a)
    slack = 1e-14  # expm1 and log1p round, and need not round monotonically
    assert 0 <= here <= 1
    assert q(s * factor, a) <= here + slack
    assert q(s, a * factor) >= here - slack


@given(name=st.sampled_from([*SMOOTH, "tsvd"]), s=sigmas, a=alphas_, power=st.integers(-20, 20))
def test_filters_depend_on_sigma_squared_over_alpha_only(name, s, a, power) -> None:
    scale = 2.0**power  # exact in floating point, so that the jump of tsvd is tested too
    q = FILTERS[name].q
    assert q(scale * s, scale**2 * a) == pytest.approx(q(s, a), rel=1e-13, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_filters_vanish_at_zero_and_at_infinite_alpha_and_broadcast(name: str) -> None:
    q = FILTERS[name].q
    sigma = np.array([1.0, 0.5, 1e-3, 0.0])
    alphas = np.array([1e-300, 1e-6, 0.3, 1.0, 1e300, math.inf])
    table = q(sigma, alphas[:, None])
    assert table.shape == (6, 4)
    assert_array_equal(table[:, -1], 0.0)
    assert_array_equal(table[-1], 0.0)
    assert_array_equal(table[0, :3], 1.0)
    assert_array_equal(table[2], q(sigma, 0.3))
    assert q(np.float32(0.5), 1).dtype == np.float64
    assert q([1, 0], 1).dtype == np.float64


def test_tsvd_keeps_ties_and_landweber_counts_exactly() -> None:
    sigma = np.sort(np.random.default_rng(0).uniform(size=50))[::-1]
    for n in range(50):
        assert spectral.tsvd(sigma, sigma[n] ** 2).sum() == n + 1
    assert spectral.tsvd(1.0, np.nextafter(1.0, 2)) == 0
    for k in range(1, 2000):  # alpha = 1/k must mean k iterations, rounding of 1/alpha or not
        assert FILTERS["landweber"].q(0.01, 1 / k) == spectral.landweber(0.01, k)
    assert FILTERS["landweber"].q(0.7, 0.4) == spectral.landweber(0.7, 2)
    assert FILTERS["landweber"].q(0.7, 1.001) == 0


def test_order_and_step_of_the_iterated_filters() -> None:
    sigma = np.array([1.2, 0.7, 0.0])
    assert_allclose(spectral.iterated_tikhonov(sigma, 0.3, 1), spectral.tikhonov(sigma, 0.3))
    for k in range(6):
        expected = [1 - (1 - 1.3 * s**2) ** k for s in sigma]  # 1.3 * 1.44 lies between 1 and 2
        assert_allclose(spectral.landweber(sigma, k, step=1.3), expected, atol=1e-15)
    assert_allclose(spectral.landweber(1.0, [0, 1, 5]), [0, 1, 1])
    assert spectral.landweber(sigma[1:], np.array([[2], [3]])).shape == (2, 2)


SHARP = math.sqrt((math.sqrt(17) - 3) / 2)  # where s (2 + s^2) / (1 + s^2)^2 is largest
RATIOS = np.geomspace(1e-8, 1e8, 160_001)  # sigma^2 / alpha


def sup_constant(name: str) -> float:
    """sup q sqrt(alpha) / sigma; Landweber depends on sigma and alpha separately."""
    if name != "landweber":
        return float((FILTERS[name].q(np.sqrt(RATIOS), 1.0) / np.sqrt(RATIOS)).max())
    sigma = np.linspace(1e-3, 1, 1000)
    k = np.array([1, 2, 3, 5, 10, 100, 1000])
    # At the largest alpha of each k, the least, and beyond 1, where no step is made.
    alphas = np.concatenate([1 / k, 1 / (k + 1) * (1 + 1e-9), [1.5, 1e6]])[:, None]
    return float((FILTERS[name].q(sigma, alphas) * np.sqrt(alphas) / sigma).max())


@pytest.mark.parametrize(
    ("name", "sup"),
    [
        ("tsvd", 1.0),
        ("tikhonov", 0.5),
        ("iterated_tikhonov", SHARP * (2 + SHARP**2) / (1 + SHARP**2) ** 2),
        ("landweber", 1.0),
        ("showalter", 0.6381726863389515),
        ("clip", 1.0),
        ("l2_game", 1.0),
    ],
)  # fmt: skip
def test_constant_bounds_the_gain(name: str, sup: float) -> None:
    measured = sup_constant(name)
    assert measured <= FILTERS[name].constant * (1 + 1e-12)
    assert measured == pytest.approx(sup, rel=1e-6)  # the grid misses the maximum by its step^2


def test_rounding_landweber_up_would_break_the_constant() -> None:
    """Why FILTERS rounds 1/alpha down: two steps just below alpha = 1 exceed the bound 1."""
    s = math.sqrt(2 / 3)
    assert spectral.landweber(s, 2) / s > 1.08


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mu", [0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 4.0])
def test_qualification(name: str, mu: float) -> None:
    """sup over sigma <= 1 of (1 - q) (sigma^2 / alpha)^mu stays bounded iff mu <= mu_0."""
    sigma = np.geomspace(1e-6, 1, 20_001)
    sups = [
        float(((1 - FILTERS[name].q(sigma, a)) * (sigma**2 / a) ** mu).max())
        for a in (0.3, 1e-2, 1e-4, 1e-6)
    ]
    # C_mu <= max(1, mu^mu) holds for all of them: (mu/e)^mu for the exponentials, less for others.
    bound = max(1.0, mu**mu) * (1 + 1e-9)
    if mu <= FILTERS[name].qualification:
        assert max(sups) <= bound
    else:  # grows like alpha^(mu_0 - mu)
        rate = sups[-1] / sups[-2]
        assert rate == pytest.approx(100 ** (mu - FILTERS[name].qualification), rel=1e-2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("sigma", "alpha", "error"),
    [
        ([1.0], 0.0, ValueError),
        ([1.0], -1.0, ValueError),
        ([1.0], math.nan, ValueError),
        ([math.nan], 1.0, ValueError),
        ([math.inf], 1.0, ValueError),
        ([-1.0], 1.0, ValueError),
        ([1j], 1.0, TypeError),
        ([1.0], 1j, TypeError),
        (["a"], 1.0, TypeError),
        ([1.0, 0.5, 0.2], [1.0, 2.0], ValueError),
    ],
)
def test_filters_refuse(name: str, sigma, alpha, error: type[Exception]) -> None:
    with pytest.raises(error):
        FILTERS[name].q(sigma, alpha)


def test_filters_refuse_their_own_parameters() -> None:
    for order in (0, 1.5, True):
        with pytest.raises(ValueError, match="order"):
            spectral.iterated_tikhonov(1.0, 1.0, order)
    for k in (-1, 0.5, math.nan):
        with pytest.raises(ValueError, match="iterations"):
            spectral.landweber(1.0, k)
    for step in (0.0, -1.0, 2.0, math.nan):
        with pytest.raises(ValueError, match="step"):
            spectral.landweber(1.0, 3, step)
    with pytest.raises(ValueError, match="sigma_1 <= 1"):
        FILTERS["landweber"].q([1.1], 0.1)
    with pytest.raises(ValueError, match=r"alpha\[:, None\]"):
        spectral.tikhonov(np.ones(3), np.ones(2))


# ------------------------------------------------------------------------ reconstructions


def test_gain_is_the_pseudo_inverse_convention() -> None:
    sigma = np.array([2.0, 0.5, 0.0])
    assert_array_equal(spectral.gain([[1.0, 0.5, 0.0], [0, 1, 0]], sigma), [[0.5, 1, 0], [0, 2, 0]])
    with pytest.raises(ValueError, match="wherever sigma is 0"):
        spectral.gain([1.0, 1.0, 0.1], sigma)
    with pytest.raises(ValueError, match="fit"):
        spectral.gain([1.0, 1.0], sigma)


def test_reconstruct_shapes_and_kinds_of_filter() -> None:
    operator = gaussian_blur((8, 6), 1.0)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((5, 8, 6))
    alphas = np.array([1e-3, 0.1, math.inf])
    table = spectral.reconstruct(operator, y, "tikhonov", alphas)
    assert table.shape == (3, 5, 8, 6)
    assert_allclose(table[1, 2], spectral.reconstruct(operator, y[2], spectral.tikhonov, 0.1))
    by_hand = spectral.reconstruct(operator, y, lambda s, a: s**2 / (s**2 + a), alphas)
    assert_allclose(by_hand, table, atol=1e-14)
    one = spectral.reconstruct(operator, y[0], FILTERS["tikhonov"], alphas[:1])
    assert_allclose(one, table[:1, 0])
    assert_array_equal(table[2], 0.0)
    fixed = spectral.reconstruct(operator, y[0], lambda s, a: (s > 0.5) * 1.0, 1.0)
    assert_allclose(fixed, spectral.reconstruct(operator, y[0], "tsvd", 0.25), atol=1e-13)


def test_reconstruct_refuses() -> None:
    operator = Integration(8)
    y = np.ones(8)
    with pytest.raises(ValueError, match="known are tsvd"):
        spectral.reconstruct(operator, y, "ridge", 1.0)
    with pytest.raises(TypeError, match="a name"):
        spectral.reconstruct(operator, y, 3, 1.0)
    with pytest.raises(ValueError, match="vector"):
        spectral.reconstruct(operator, y, "tsvd", np.ones((2, 2)))
    with pytest.raises(ValueError, match="positive"):
        spectral.reconstruct(operator, y, "tsvd", [1.0, 0.0])
    with pytest.raises(ValueError, match="filter factors"):
        spectral.reconstruct(operator, y, lambda s, a: s * np.nan, 1.0)
    with pytest.raises(ValueError, match="wherever sigma is 0"):
        spectral.reconstruct(box_blur(8, 4), y, lambda s, a: 0 * s + 1, 1.0)
    with pytest.raises(NoSingularSystem):
        spectral.reconstruct(MatrixOperator(np.eye(3)), np.ones(3), "tsvd", 1.0)


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (7, 7)])
def test_pseudo_inverse_against_numpy(shape: tuple[int, int]) -> None:
    operator = matrix_operator(shape, rank=4)
    y = np.random.default_rng(1).standard_normal((3, shape[0]))
    assert_array_equal(operator.singular_values[4:], 0.0)
    exact = y @ np.linalg.pinv(operator.to_matrix(), rcond=1e-10).T
    assert_allclose(spectral.pseudo_inverse(operator, y), exact, atol=1e-12)


def test_pseudo_inverse_on_data_out_of_range() -> None:
    operator = box_blur(16, 4)
    x = np.random.default_rng(2).standard_normal(16)
    y = operator.forward(x)
    solution = spectral.pseudo_inverse(operator, y, on_zero="error")
    assert_allclose(operator.forward(solution), y, atol=1e-13)
    assert np.linalg.norm(solution) < np.linalg.norm(x)  # least norm: no part in the kernel
    missing = operator.singular_values == 0
    assert missing.any()
    bad = y + 1e-3 * operator.synthesise_range(missing * 1.0)
    assert_allclose(spectral.pseudo_inverse(operator, bad), solution, atol=1e-13)
    with pytest.raises(ValueError, match="not in the range"):
        spectral.pseudo_inverse(operator, np.stack([y, bad]), on_zero="error")
    with pytest.raises(ValueError, match="not in the range"):  # orthogonal to every v_n
        spectral.pseudo_inverse(matrix_operator((9, 6)), np.ones(9), on_zero="error")
    with pytest.raises(ValueError, match="on_zero"):
        spectral.pseudo_inverse(operator, y, on_zero="ignore")
    assert_array_equal(spectral.pseudo_inverse(operator, 0 * y, on_zero="error"), 0.0)


def test_picard() -> None:
    operator = box_blur(16, 4)
    missing = np.flatnonzero(operator.singular_values == 0)
    c = np.linspace(-3, 3, 16)
    sigma, size, quotient = spectral.picard(operator, operator.synthesise_range(c))
    assert_array_equal(sigma, operator.singular_values)
    assert_allclose(size, np.abs(c), atol=1e-13)
    assert_array_equal(quotient[missing], math.inf)
    x = operator.synthesise(np.where(sigma > 0, c / np.where(sigma > 0, sigma, 1), 0))
    assert_allclose(quotient[sigma > 0], np.abs(operator.analyse_domain(x))[sigma > 0])
    assert_array_equal(spectral.picard(operator, np.zeros(16))[2], 0.0)


# --------------------------------------------------------------------------------- errors


def dual_bound(b: np.ndarray, g: np.ndarray, delta: float) -> float:
    """The least of lambda delta^2 + sum lambda b^2 / (lambda - g^2) over lambda >= max g^2.

    Every value of it is an upper bound of the squared error, by Lagrange duality.
    """
    top = float((g**2).max())

    def dual(log_excess: float) -> float:
        lam = top * (1 + math.exp(log_excess))
        # lambda - g^2 without cancellation
        gap = top * math.exp(log_excess) + (math.sqrt(top) - g) * (math.sqrt(top) + g)
        return lam * delta**2 + float((lam * b**2 / gap).sum())

    # The dual is flat to rounding on the far left, so a grid finds the valley first.
    grid = np.linspace(-90, 60, 301)
    start = grid[np.argmin([dual(t) for t in grid])]
    valley = minimize_scalar(dual, bounds=(start - 0.5, start + 0.5), options={"xatol": 1e-10})
    return math.sqrt(min(valley.fun, dual(start)))


nonnegative = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
kept = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
modes = st.lists(
    st.tuples(st.sampled_from([1.0, 0.5, 0.1, 1e-3]), nonnegative, kept),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150)
@given(modes=modes, delta=st.floats(1e-4, 1e4))
def test_worst_case_error_is_the_dual_value_and_beats_every_noise(modes, delta) -> None:
    sigma, x, q = (np.array(column) for column in zip(*modes, strict=True))
    value = spectral.worst_case_error(sigma, x, q, delta)
    b, g = (1 - q) * x, q / sigma
    if g.any():  # the minimum is flat: an error of 1e-10 in log lambda is far below rounding
        assert value == pytest.approx(dual_bound(b, g, delta), rel=1e-11)
    bias, top = spectral.bias(x, q), spectral.noise_amplification(sigma, q)
    assert math.hypot(bias, delta * top) <= value * (1 + 1e-13)
    assert value <= (bias + delta * top) * (1 + 1e-13)
    noise = np.random.default_rng(0).standard_normal((200, len(modes)))
    noise *= delta / np.linalg.norm(noise, axis=1, keepdims=True)
    assert np.linalg.norm(g * noise - b, axis=1).max() <= value * (1 + 1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_worst_case_error_by_brute_force_on_the_whole_operator(seed: int) -> None:
    """In the plane, every direction of the noise: R(Ax + e) - x with dense matrices."""
    rng = np.random.default_rng(seed)
    operator = MatrixOperator(rng.standard_normal((2, 2)))
    operator.compute_singular_system()
    x, alpha, delta = rng.standard_normal(2), 0.3, 0.7
    a = operator.to_matrix()
    angle = np.linspace(0, 2 * np.pi, 200_001)
    e = delta * np.stack([np.cos(angle), np.sin(angle)])
    solution = np.linalg.solve(a.T @ a + alpha * np.eye(2), a.T @ ((a @ x)[:, None] + e))
    brute = np.linalg.norm(solution - x[:, None], axis=0).max()
    sigma = operator.singular_values
    ours = spectral.worst_case_error(
        sigma, operator.analyse_domain(x), spectral.tikhonov(sigma, alpha), delta
    )
    assert ours == pytest.approx(brute, rel=1e-9)  # the angle is off by 1.6e-5, squared


def test_worst_case_error_in_the_hard_case_and_its_neighbourhood() -> None:
    # g = (2, 1), b = (0, 1): lambda = 4, e_2 = 1/3, so ||e|| = delta > 1/3 is hard:
    # 4 (delta^2 - 1/9) + (4/3)^2.  Below 1/3 the weak mode takes all: 1 + delta.
    sigma, q, x = np.array([0.5, 0.5]), np.array([1.0, 0.5]), np.array([7.0, 2.0])
    for delta in (0.35, 1.0, 50.0):
        exact = math.sqrt(4 * (delta**2 - 1 / 9) + 16 / 9)
        value = spectral.worst_case_error(sigma, x, q, delta)
        assert value == pytest.approx(exact, rel=1e-14)
        for tiny in (1e-300, 1e-160, 1e-30, 1e-12):  # nearly hard: continuous
            near = np.array([q[0] - tiny, q[1]]) if tiny >= 1e-12 else q
            assert spectral.worst_case_error(sigma, x, near, delta) == pytest.approx(
                exact, rel=1e-10
            )
    for delta in (1 / 3, 0.3, 1e-5, 1e-300, 0.0):
        value = spectral.worst_case_error(sigma, x, q, delta)
        assert value == pytest.approx(1 + delta, rel=1e-14)


def test_worst_case_direction_near_the_hard_case() -> None:
    """Tiny b at the largest gain, handed to the solver directly."""
    for tiny in (0.0, 5e-324, 1e-200, 1e-150, 1e-100, 1e-20, 1e-9):
        b, g = np.array([tiny, 1.0]), np.array([1.0, 0.5])
        for d in (1e-3, 0.6, 2 / 3, 0.7, 1e6):
            e, rest = spectral._worst_direction(b, g, np.array([d]))
            value = math.hypot(np.linalg.norm(b + d * g * e), rest[0])
            # exact for tiny = 0: e_2 = (1/2) / (3/4 d) <= 1, else the weak mode takes all
            second = min(1.0, 2 / (3 * d))
            exact = math.hypot(1 + d / 2 * second, d * math.sqrt(1 - second**2))
            assert value == pytest.approx(exact, rel=1e-8)
            assert np.linalg.norm(e) <= 1 + 1e-15


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1.0, 1e20, 1e150])
def test_worst_case_error_limits_and_units(scale: float) -> None:
    sigma, q = np.array([1.0, 0.1, 0.0]), np.array([0.9, 0.4, 0.0])
    x = np.array([1.0, -2.0, 0.5])
    value = spectral.worst_case_error(sigma, x, q, 0.1)
    assert spectral.worst_case_error(sigma, scale * x, q, scale * 0.1) == pytest.approx(
        scale * value
    )
    assert spectral.worst_case_error(sigma, 0 * x, q, scale) == pytest.approx(4 * scale, rel=1e-14)
    assert spectral.worst_case_error(sigma, x, 0 * q, scale) == np.linalg.norm(x)
    assert spectral.worst_case_error(sigma, 0 * x, 0 * q, scale) == 0
    assert spectral.worst_case_error(sigma, scale * x, q, 0.0) == pytest.approx(
        scale * spectral.bias(x, q), rel=1e-14
    )
    big = spectral.worst_case_error(sigma, x, q, 1e200)
    assert big == pytest.approx(4e200, rel=1e-14)
    # a small delta: bias + delta ||G b|| / ||b||
    b, g = (1 - q) * x, spectral.gain(q, sigma)
    first_order = np.linalg.norm(g * b) / np.linalg.norm(b)
    slope = (spectral.worst_case_error(sigma, x, q, 1e-6) - spectral.bias(x, q)) / 1e-6
    assert slope == pytest.approx(first_order, rel=1e-5)


def test_worst_case_error_is_vectorised() -> None:
    rng = np.random.default_rng(5)
    sigma, x = np.sort(rng.uniform(size=30))[::-1], rng.standard_normal(30)
    alphas, deltas = np.geomspace(1e-6, 1, 7), np.array([0.0, 1e-8, 0.1, 3.0])
    for filter in (spectral.tsvd, spectral.tikhonov):  # tsvd: b = 0 where g > 0, always hard
        q = filter(sigma, alphas[:, None])
        table = spectral.worst_case_error(sigma, x, q[:, None, :], deltas)
        assert table.shape == (7, 4)
        for i in range(7):
            for j in range(4):
                assert table[i, j] == pytest.approx(
                    spectral.worst_case_error(sigma, x, q[i], deltas[j]), rel=1e-13
                )
    exact = np.hypot(spectral.bias(x, q), 0)
    assert_allclose(spectral.worst_case_error(sigma, x, q, 0.0), exact, rtol=1e-13)


def test_truncated_svd_has_orthogonal_bias_and_noise() -> None:
    sigma, x = 1 / np.arange(1, 9.0), np.ones(8)
    q = spectral.tsvd(sigma, sigma[4] ** 2)
    assert spectral.bias(x, q) == pytest.approx(math.sqrt(3))
    assert spectral.noise_amplification(sigma, q) == pytest.approx(5)
    worst = spectral.worst_case_error(sigma, x, q, 0.1)
    assert worst == pytest.approx(math.hypot(math.sqrt(3), 0.5), rel=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_expected_squared_error_against_monte_carlo(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    operator, level, samples = Integration(12), 0.05, 20_000
    x = rng.standard_normal(12)
    y = operator.forward(x) + level * rng.standard_normal((samples, 12))
    error = ((spectral.reconstruct(operator, y, name, 0.02) - x) ** 2).sum(axis=1)
    sigma = operator.singular_values
    exact = spectral.expected_squared_error(
        sigma, operator.analyse_domain(x), FILTERS[name].q(sigma, 0.02), level
    )
    standard_error = error.std() / math.sqrt(samples)  # about 0.5 % of the mean
    assert abs(error.mean() - exact) < 4.5 * standard_error  # 28 cases: fails once in 5000 suites
    table = spectral.expected_squared_error(
        sigma, x, FILTERS[name].q(sigma, np.ones((3, 1, 1))), np.array([0.0, 1.0])
    )
    assert table.shape == (3, 2)


def test_errors_refuse() -> None:
    sigma, x, q = np.ones(3), np.ones(3), np.full(3, 0.5)
    for function in (spectral.worst_case_error, spectral.expected_squared_error):
        with pytest.raises(ValueError, match="delta"):
            function(sigma, x, q, -1.0)
        with pytest.raises(ValueError, match="delta"):
            function(sigma, x, q, math.nan)
        with pytest.raises(ValueError, match="coefficients"):
            function(sigma, np.ones(2), q, 1.0)
        with pytest.raises(ValueError):
            function(sigma, x, np.tile(q, (4, 1)), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        spectral.bias(x, q * math.nan)
    with pytest.raises(ValueError, match="wherever sigma is 0"):
        spectral.noise_amplification(0 * sigma, q)


# ----------------------------------------------------------------------------- iterations


def test_landweber_iteration_is_the_filter() -> None:
    operator = Integration(40)
    y = np.random.default_rng(0).standard_normal(40)
    x, residual = spectral.landweber_iteration(operator, y, 25, step=3.0)
    assert x.shape == (26, 40)
    q = spectral.landweber(operator.singular_values, np.arange(26)[:, None], step=3.0)
    filtered = operator.synthesise(spectral.gain(q, operator.singular_values) * operator.analyse(y))
    assert_allclose(x, filtered, atol=1e-11)
    assert_allclose(residual, np.linalg.norm(operator.forward(x) - y, axis=1), rtol=1e-12)


def test_landweber_iteration_refuses() -> None:
    operator = Integration(8)
    limit = 2 / operator.norm() ** 2
    for step in (0.0, limit * 1.0001, math.nan):
        with pytest.raises(ValueError, match="step"):
            spectral.landweber_iteration(operator, np.ones(8), 3, step)
    with pytest.raises(ValueError, match="one data array"):
        spectral.landweber_iteration(operator, np.ones((2, 8)), 3)
    with pytest.raises(ValueError, match="iterations"):
        spectral.landweber_iteration(operator, np.ones(8), -1)
    assert spectral.landweber_iteration(operator, np.ones(8), 0).x.shape == (1, 8)


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_cgls_has_the_iterates_of_lsqr(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal(shape) / np.arange(1, shape[1] + 1)
    operator, y = MatrixOperator(a), rng.standard_normal(shape[0])
    x, residual = spectral.cgls(operator, y, 6)
    assert x.shape == (7, shape[1])
    assert_array_equal(x[0], 0)
    for k in range(1, 7):
        reference = lsqr(a, y, iter_lim=k, atol=0, btol=0, conlim=0)[0]
        # Both lose about a digit and a half per iteration; 1e-11 is left of 1e-16 at k = 6.
        assert_allclose(x[k], reference, rtol=0, atol=1e-9 * np.linalg.norm(reference))
        assert residual[k] == pytest.approx(np.linalg.norm(a @ x[k] - y), rel=1e-10)
    assert (np.diff(residual) < 0).all()


def test_cgls_minimizes_the_residual_over_the_krylov_space() -> None:
    operator = Integration(30)
    a = operator.to_matrix()
    y = a @ np.random.default_rng(2).standard_normal(30)
    x = spectral.cgls(operator, y, 4).x
    krylov = [a.T @ y]
    for k in range(1, 5):
        basis = np.linalg.qr(np.array(krylov).T)[0]
        best = basis @ np.linalg.lstsq(a @ basis, y, rcond=None)[0]
        assert_allclose(x[k], best, atol=1e-8 * np.linalg.norm(best))
        krylov.append(a.T @ (a @ krylov[-1]))


def test_cgls_stops_where_nothing_is_left() -> None:
    eye = MatrixOperator(np.eye(5))
    x, residual = spectral.cgls(eye, np.arange(5.0), 10)
    assert len(x) == len(residual) == 2
    assert_allclose(x[1], np.arange(5.0))
    zero = spectral.cgls(eye, np.zeros(5), 10)
    assert zero.x.shape == (1, 5) and zero.residual.shape == (1,)
    column = MatrixOperator(np.array([[1.0], [0.0]]))
    assert_array_equal(spectral.cgls(column, [0.0, 1.0], 10).x, [[0.0]])  # A* y = 0 exactly
    diagonal = MatrixOperator(np.diag([1.0, 1.0, 0.5, 0.5, 0.25]))
    for seed in range(5):  # three steps to the solution, then rounding error only
        y = np.random.default_rng(seed).standard_normal(5)
        x = spectral.cgls(diagonal, y, 50).x
        assert len(x) <= 5
        assert_allclose(diagonal.forward(x[-1]), y, rtol=1e-12)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        # three different singular values: exact after three steps, in exact arithmetic
        operator = matrix_operator((12, 8), seed=seed, rank=3)
        a, y = operator.to_matrix(), rng.standard_normal(12)
        x, residual = spectral.cgls(operator, y, 50)
        assert len(x) <= 6
        assert_allclose(x[-1], np.linalg.pinv(a, rcond=1e-10) @ y, atol=1e-10)
        outside = y - a @ (np.linalg.pinv(a, rcond=1e-10) @ y)
        lost = spectral.cgls(operator, outside, 50)  # A* y is rounding error only
        assert np.abs(lost.x).max() < 1e-12


def test_cgls_stopped_by_discrepancy() -> None:
    operator = Integration(50)
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(50)
    y = operator.forward(np.cos(np.arange(50) / 10)) + 1e-3 * noise / np.linalg.norm(noise)
    x, residual = spectral.cgls(operator, y, 40, stop=1.5e-3)
    assert residual[-1] <= 1.5e-3 < residual[-2]
    assert_array_equal(x, spectral.cgls(operator, y, len(x) - 1).x)
    assert len(spectral.cgls(operator, y, 40, stop=100.0).x) == 1
    with pytest.raises(ValueError, match="above stop"):
        spectral.cgls(operator, y, 1, stop=1e-6)
    with pytest.raises(ValueError, match="above stop"):
        spectral.cgls(matrix_operator((9, 6)), np.ones(9), 100, stop=1e-6)
    with pytest.raises(ValueError, match="stop"):
        spectral.cgls(operator, y, 1, stop=-1.0)


# ----------------------------------------------------------------------- parameter choice


def noisy_problem(
    shape: tuple[int, int] = (30, 20), level: float = 0.05, seed: int = 0, decay: float = 1 / 3
) -> tuple[Operator, np.ndarray, np.ndarray]:
    """Operator with sigma_n = 2^(-decay n), a smooth unknown, data with noise of norm `level`."""
    rng = np.random.default_rng(seed)
    k = min(shape)
    u, v = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in shape[::-1])
    operator = MatrixOperator((v * 2.0 ** (-decay * np.arange(k))) @ u.T)
    operator.compute_singular_system()
    x = u @ (2.0 ** (-np.arange(k) / 4))
    noise = rng.standard_normal(shape[0])
    return operator, x, operator.forward(x) + level * noise / np.linalg.norm(noise)


def true_residual(operator: Operator, y: np.ndarray, filter, alpha: float) -> float:
    return float(
        np.linalg.norm(operator.forward(spectral.reconstruct(operator, y, filter, alpha)) - y)
    )


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (20, 20)])
@pytest.mark.parametrize("name", NAMES)
def test_discrepancy_principle(name: str, shape: tuple[int, int]) -> None:
    operator, _, y = noisy_problem(shape)
    choice = spectral.discrepancy_principle(operator, y, name, 0.05, tau=1.2)
    level = 1.2 * 0.05
    assert choice.value == pytest.approx(true_residual(operator, y, name, choice.alpha), rel=1e-10)
    if name in SMOOTH:
        assert choice.value == pytest.approx(level, rel=1e-9)
    elif name == "tsvd":
        residuals = {s: true_residual(operator, y, name, s) for s in operator.singular_values**2}
        assert choice.alpha == max(s for s, r in residuals.items() if r <= level)
    else:
        runs = spectral.landweber_iteration(operator, y, 500).residual
        assert choice.alpha == 1 / np.flatnonzero(runs <= level)[0]
    assert (np.diff(choice.grid) > 0).all()
    assert (np.diff(choice.score) >= -1e-12).all()
    for i in (0, len(choice.grid) // 2, -1):
        score = true_residual(operator, y, name, choice.grid[i])
        assert choice.score[i] == pytest.approx(score, rel=1e-9)


def test_discrepancy_principle_on_a_grid_and_with_a_function() -> None:
    operator, _, y = noisy_problem()
    alphas = np.geomspace(1e-6, 1, 40)
    on_grid = spectral.discrepancy_principle(operator, y, "tikhonov", 0.05, 1.2, alphas[::-1])
    residuals = [true_residual(operator, y, "tikhonov", a) for a in alphas]
    assert on_grid.alpha == alphas[np.flatnonzero(np.array(residuals) <= 0.06)[-1]]
    assert_allclose(on_grid.score, residuals, rtol=1e-9)
    exact = spectral.discrepancy_principle(operator, y, "tikhonov", 0.05, 1.2)
    assert on_grid.alpha <= exact.alpha <= on_grid.alpha * (1e6 ** (1 / 39))
    by_hand = spectral.discrepancy_principle(
        operator, y, lambda s, a: s**2 / (s**2 + a), 0.05, tau=1.2
    )
    assert by_hand.alpha == pytest.approx(exact.alpha, rel=1e-9)
    given_function = spectral.discrepancy_principle(operator, y, spectral.tsvd, 0.05, tau=1.2)
    assert (
        given_function.alpha == spectral.discrepancy_principle(operator, y, "tsvd", 0.05, 1.2).alpha
    )


@pytest.mark.parametrize("name", NAMES)
def test_discrepancy_principle_at_its_ends(name: str) -> None:
    operator, _, y = noisy_problem()
    nothing = spectral.discrepancy_principle(operator, y, name, 100.0)
    assert nothing.alpha == math.inf
    assert nothing.value == pytest.approx(np.linalg.norm(y))
    assert_array_equal(spectral.reconstruct(operator, y, name, nothing.alpha), 0.0)
    u, _, _ = np.linalg.svd(operator.to_matrix())
    outside = np.linalg.norm(u[:, 20:].T @ y)  # no alpha gets below this
    with pytest.raises(ValueError, match="underestimated"):
        spectral.discrepancy_principle(operator, y, name, 0.99 * outside, tau=1.0)
    just = spectral.discrepancy_principle(operator, y, name, 1.01 * outside, tau=1.0)
    assert outside * (1 - 1e-12) <= just.value <= 1.01 * outside * (1 + 1e-9)
    with pytest.raises(ValueError, match="underestimated"):
        spectral.discrepancy_principle(operator, y, name, 1e-3, 1.1, [1e-2, 0.5])
    for delta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="delta_norm"):
            spectral.discrepancy_principle(operator, y, name, delta)
    with pytest.raises(ValueError, match="tau"):
        spectral.discrepancy_principle(operator, y, name, 0.1, tau=0.9)
    with pytest.raises(ValueError, match="one data array"):
        spectral.discrepancy_principle(operator, np.stack([y, y]), name, 0.1)


def test_discrepancy_principle_refuses_what_is_no_filter() -> None:
    operator, _, y = noisy_problem()
    with pytest.raises(ValueError, match="as alpha grows"):
        spectral.discrepancy_principle(operator, y, lambda s, a: 1.0 * (s > 0) + 0 * a, 0.9)


@pytest.mark.parametrize("name", NAMES)
def test_gcv_against_the_dense_influence_matrix(name: str) -> None:
    operator, _, y = noisy_problem((12, 8))
    alphas = np.geomspace(1e-4, 0.9, 15)
    choice = spectral.gcv(operator, y, name, alphas[::-1])
    for i, alpha in enumerate(alphas):
        columns = spectral.reconstruct(operator, np.eye(12), name, alpha)
        defect = np.eye(12) - operator.forward(columns).T
        expected = np.sum((defect @ y) ** 2) / np.trace(defect) ** 2
        assert choice.score[i] == pytest.approx(expected, rel=1e-8)
    assert choice.alpha == choice.grid[np.argmin(choice.score)]
    assert choice.value == choice.score.min()


@pytest.mark.parametrize("seed", range(3))
def test_gcv_is_leave_one_out_where_all_data_weigh_the_same(seed: int) -> None:
    """For a circulant matrix the influence matrix has a constant diagonal, and D times the
    GCV function is the mean squared error of predicting each datum from the others."""
    operator = gaussian_blur(9, 0.8)
    a = operator.to_matrix()
    y = np.random.default_rng(seed).standard_normal(9)
    alphas = np.array([1e-3, 0.05, 1.0])
    left_out = []
    for alpha in alphas:
        errors = []
        for i in range(9):
            keep = np.arange(9) != i
            m, z = a[keep], y[keep]
            x = np.linalg.solve(m.T @ m + alpha * np.eye(9), m.T @ z)
            errors.append((a[i] @ x - y[i]) ** 2)
        left_out.append(np.mean(errors))
    score = spectral.gcv(operator, y, "tikhonov", alphas).score
    assert_allclose(9 * score, left_out, rtol=1e-9)


def test_gcv_where_the_data_are_reproduced() -> None:
    operator, _, y = noisy_problem((20, 20))
    sigma = operator.singular_values
    choice = spectral.gcv(operator, y, "tsvd", sigma**2)
    assert choice.score[0] == math.inf
    assert np.isfinite(choice.value)
    with pytest.raises(ValueError, match="larger alphas"):
        spectral.gcv(operator, y, "tsvd", sigma[-1] ** 2 / np.array([2.0, 3.0]))


def tikhonov_curvature(operator: Operator, y: np.ndarray, alpha: float) -> float:
    """Curvature of the L-curve from the derivatives of q with respect to t = log alpha.

    With q = 1 / (1 + e^t / sigma^2): q' = -q (1 - q) and q'' = q (1 - q) (1 - 2 q).
    """
    a = operator.to_matrix()
    v, s, _ = np.linalg.svd(a, full_matrices=False)
    c = v.T @ y
    outside = np.sum(y**2) - np.sum(c**2)
    q = s**2 / (s**2 + alpha)
    d1, d2 = -q * (1 - q), q * (1 - q) * (1 - 2 * q)
    derivatives = []
    for f, w, extra in ((1 - q, c, outside), (q, c / s, 0.0)):
        sign = -1 if w is c else 1
        f1, f2 = sign * d1, sign * d2
        z = np.sum(f**2 * w**2) + extra  # squared norm, its first and second derivative
        z1, z2 = 2 * np.sum(f * f1 * w**2), 2 * np.sum((f1**2 + f * f2) * w**2)
        derivatives.append((z1 / (2 * z), (z2 * z - z1**2) / (2 * z**2)))
    (r1, r2), (n1, n2) = derivatives
    return (r1 * n2 - r2 * n1) / (r1**2 + n1**2) ** 1.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(30, 20), (20, 20)])
def test_l_curve_curvature_against_derivatives(shape: tuple[int, int], seed: int) -> None:
    operator, _, y = noisy_problem(shape, level=0.01, seed=seed, decay=1.0)
    alphas = np.geomspace(1e-9, 1, 500)
    choice = spectral.l_curve(operator, y, "tikhonov", alphas)
    exact = np.array([tikhonov_curvature(operator, y, a) for a in choice.grid])
    # second order in the step .04 of log alpha
    assert_allclose(choice.score[1:-1], exact[1:-1], rtol=5e-3, atol=5e-3 * np.abs(exact).max())
    assert_array_equal(choice.score[[0, -1]], -math.inf)
    assert abs(int(np.argmax(choice.score)) - int(np.argmax(exact[1:-1]) + 1)) <= 1


def test_l_curve_finds_a_corner_known_by_symmetry() -> None:
    """Two modes: sigma = (1, s), coefficients (1, c), with alpha between s^2 and 1.

    Then ||r||^2 = alpha^2 + c^2 and ||x||^2 = 1 + (c s / alpha)^2 up to factors 1 + O(alpha) and
    1 + O(s^2 / alpha), and the curve is symmetric under alpha -> c^2 s / alpha: its corner is
    at alpha = c sqrt(s).
    """
    s, c = 1e-3, 1e-3
    operator = MatrixOperator(np.diag([1.0, s]))
    operator.compute_singular_system()
    corner = c * math.sqrt(s)
    grid = corner * np.geomspace(1e-1, 1e1, 801)
    y = np.array([1.0, c])
    choice = spectral.l_curve(operator, y, "tikhonov", grid)
    assert choice.alpha == pytest.approx(corner, rel=0.1)


def test_l_curve_refuses_and_skips() -> None:
    operator, _, y = noisy_problem()
    with pytest.raises(ValueError, match="at least 5"):
        spectral.l_curve(operator, y, "tikhonov", [1e-3, 1e-2, 0.1, 1.0])
    with pytest.raises(ValueError, match="at least 5"):
        spectral.l_curve(operator, y, "tikhonov", [0.1] * 9)
    with pytest.raises(ValueError, match="no corner"):
        spectral.l_curve(operator, y, "tsvd", np.geomspace(10, 100, 9))  # x = 0 throughout
    alphas = np.geomspace(1e-5, 10, 200)
    choice = spectral.l_curve(operator, y, "tsvd", alphas)
    assert np.isfinite(choice.value) and not np.isnan(choice.score).any()
    assert (choice.score[alphas > 1] == -math.inf).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_oracle_is_the_least_true_error(name: str, shape: tuple[int, int]) -> None:
    operator, x, y = noisy_problem(shape)
    x = x + 0.1  # partly in the kernel when there are fewer data than unknowns
    alphas = np.geomspace(1e-4, 0.9, 21)
    choice = spectral.oracle(operator, y, name, alphas, x)
    errors = np.linalg.norm(spectral.reconstruct(operator, y, name, alphas) - x, axis=1)
    assert_allclose(choice.score, errors, rtol=1e-10)
    assert choice.alpha == alphas[np.argmin(errors)] or errors.min() == pytest.approx(choice.value)
    with pytest.raises(ValueError, match="x must have shape"):
        spectral.oracle(operator, y, name, alphas, x[:-1])


@pytest.mark.parametrize(
    "bad", [[], [[1.0, 2.0]], [1.0, math.inf], [1.0, 0.0], [1.0, math.nan], 1.0]
)
def test_rules_refuse_bad_grids(bad) -> None:
    operator, x, y = noisy_problem()
    for rule, extra in (("gcv", ()), ("l_curve", ()), ("oracle", (x,))):
        with pytest.raises(ValueError, match="alphas"):
            getattr(spectral, rule)(operator, y, "tikhonov", bad, *extra)
    with pytest.raises(ValueError, match="alphas"):
        spectral.discrepancy_principle(operator, y, "tikhonov", 0.1, 1.1, bad)


def test_alpha_grid() -> None:
    grid = spectral.alpha_grid([0.5, 0.0, 0.125, 1e-200, 2.0], 5)
    assert grid[0] == 0.125**2 and grid[-1] == 4.0
    assert_allclose(grid[1:] / grid[:-1], grid[1] / grid[0])
    for sigma, points in (([0.0], 3), ([1.0, 1.0], 3), ([1.0, 0.5], 1), ([1.0, 0.5], 2.5), ([], 3)):
        with pytest.raises(ValueError):
            spectral.alpha_grid(sigma, points)


@given(
    exponent=st.floats(-5, 5),
    factor=st.floats(1e-3, 1e3),
    powers=st.lists(st.integers(-600, 600), min_size=2, max_size=20, unique=True),
)
def test_slope_recovers_a_power(exponent: float, factor: float, powers: list[int]) -> None:
    x = 10.0 ** (np.array(powers) / 100)
    assert spectral.slope(x, factor * x**exponent) == pytest.approx(exponent, abs=1e-9)


def test_slope_is_least_squares_and_refuses() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 9, 15), rng.uniform(1, 9, 15)
    assert spectral.slope(x, y) == pytest.approx(np.polyfit(np.log(x), np.log(y), 1)[0])
    for a, b in (([1.0], [1.0]), ([2, 2, 2], [1, 2, 3]), ([1, 2], [1, 0]), ([1, -2], [1, 1]),
                 ([1, 2], [1, 2, 3]), ([1, 2], [1, math.nan]), ([], [])):  # fmt: skip
        with pytest.raises(ValueError):
            spectral.slope(a, b)
