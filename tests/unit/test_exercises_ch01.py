"""The exercises of chapter 1: what statements and solutions assert, and a few sentences."""

import math

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook
from scipy import integrate, stats
from scipy.sparse.linalg import cg

from advreg import data, operators, spectral

FOLDER = "01_inverse_problems"
checks = load_checks(FOLDER)
PREDICTED = {"t": 1 / 3, "t(1-t)": 3 / 5, "(1-t)^3": 3 / 5, "1-3t^2+2t^3": 5 / 7}


class TestChapter1(ExerciseSuite):
    folder = FOLDER
    least = 16


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


def test_early_stop_is_named():
    def early(operator, y, alpha):
        """Right method, stopped at four digits."""
        a = operator.to_matrix()
        n = a.shape[1]
        x = cg(a.T @ a + alpha * np.eye(n), a.T @ np.ravel(y), rtol=2e-5)[0]
        return x.reshape(operator.domain_shape)

    assert any("Nearly" in s for s in rejected(checks.tikhonov_solve(early)))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.6, 3.0])
def test_an_error_of_the_right_exponent_only_is_not_enough(factor, answers):
    def scaled(*args):
        return factor * answers["best_error"](*args)

    assert any("With one mode" in s for s in rejected(checks.boundary_rates(scaled, PREDICTED)))


@pytest.mark.parametrize("power", [0.5, 0.9])
def test_an_error_that_tends_to_0_slowly_is_no_counterexample(power):
    """Noise where sigma is delta^power: the error is delta^(1 - power)."""

    def noise(sigma, delta):
        return delta * np.eye(1, sigma.size, np.flatnonzero(sigma >= delta**power)[-1])[0]

    assert any("has to stay" in s for s in rejected(checks.broken_truncation(noise, 4)))


def test_an_invisible_part_is_seen(answers):
    def answer(kernel, y):
        a = checks.circulant(kernel)
        values, waves = np.linalg.eigh(a.T @ a)
        erased = waves[:, 0] * (values[0] < 1e-12 * values[-1])
        return answers["blur_pseudo_inverse"](kernel, y) + 1e-3 * erased

    named = rejected(checks.blur_pseudo_inverse(answer))
    assert any("null space" in s for s in named)
    assert not any("A x is the point" in s for s in named)


@pytest.mark.parametrize("eps", [1e-12, 1e-9, 1e-4, 1e-2])
@pytest.mark.parametrize("squares", [False, True])
def test_added_eps_is_named_whatever_its_size(eps, squares):
    def answer(kernel, y):
        lam = np.fft.fft(kernel)
        if squares:
            return np.fft.ifft(np.fft.fft(y) * lam.conj() / (np.abs(lam) ** 2 + eps)).real
        return np.fft.ifft(np.fft.fft(y) / (lam + eps)).real

    named = rejected(checks.blur_pseudo_inverse(answer))
    assert any(checks.ADDS_EPS in s or checks.DIVIDES_BY_ZERO in s for s in named), named


@pytest.mark.parametrize(
    ("name", "function", "right"),
    [("broken_truncation", "truncation_noise", 4), ("broken_saturation", "saturation_noise", 3)],
)
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 0, 6, -1, 4.0, 3.0, "4", None, True, [4]])
def test_the_step_of_a_broken_proof(name, function, right, step, answers):
    check = getattr(checks, name)
    bad = rejected(check(answers[function], step))
    # one right number is worth nothing, and without it the noise is worth nothing
    assert len(bad) in (0, len(check.properties))
    assert (bad == []) == (type(step) is int and step == right)
    if type(step) is int and 1 <= step <= 5 and step != right:
        assert all(f"Step {step}" in s for s in bad)


@pytest.mark.parametrize(
    ("predicted", "words"),
    [(dict(zip(PREDICTED, w, strict=True)), s) for s, w in checks.WRONG_RATES.items()]
    + [
        (dict(zip(PREDICTED, (1 / 4, 3 / 4, 3 / 4, 5 / 4), strict=True)), checks.SOURCE_EXPONENTS),
        ({**PREDICTED, "t": 0.5}, "differ for t."),
        ({**PREDICTED, "t": math.nan}, "NaN"),
        ({**PREDICTED, "t": "1/3"}, "Real numbers"),
        ({"t": 1 / 3}, "keys"),
        ([1 / 3, 3 / 5, 3 / 5, 5 / 7], "dict"),
        (None, "dict"),
    ],
)
def test_wrong_predictions_of_rates(predicted, words, answers):
    named = rejected(checks.boundary_rates(answers["best_error"], predicted))
    assert len(named) == 1 and words in named[0]


@pytest.mark.parametrize("exponent", [1, 2 / 3, 1 / 3, 0.4, math.nan, "1/2", None, [0.5]])
def test_wrong_predictions_of_the_exponent(exponent, answers):
    named = rejected(checks.discrepancy_error(answers["discrepancy_error"], exponent))
    assert len(named) == 2
    if isinstance(exponent, float | int) and exponent in checks.WRONG_EXPONENTS:
        assert all(checks.WRONG_EXPONENTS[exponent] in s for s in named)


def test_the_functions_handed_out_are_those_of_the_checks(answers):
    t = np.linspace(0, 1, 11)
    assert list(answers["FUNCTIONS"]) == list(checks.FUNCTIONS)
    for name, f in checks.FUNCTIONS.items():
        np.testing.assert_array_equal(answers["FUNCTIONS"][name](t), f(t))


# ----------------------------------------------------- what statements and solutions assert


def cosine(n, t):
    return np.sqrt(2) * np.cos((n - 0.5) * np.pi * t)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_constant_functions(n):
    sigma = 2 / ((2 * n - 1) * np.pi)
    data_side = integrate.quad(lambda t: np.sqrt(2) * np.sin((n - 0.5) * np.pi * t), 0, 1)[0]
    assert data_side == pytest.approx(np.sqrt(2) * sigma, rel=1e-10)
    assert integrate.quad(lambda t: cosine(n, t), 0, 1)[0] == pytest.approx(
        (-1) ** (n + 1) * np.sqrt(2) * sigma, rel=1e-10
    )


def test_constant_functions_have_the_critical_exponent_one_quarter():
    """Each doubling of the number of terms multiplies the tail by 2^(4 mu - 1)."""
    sigma = operators.integration_singular_values(np.arange(1, 2**18 + 1))
    for mu in (0.2, 0.25, 0.3):
        blocks = [np.sum(2 * sigma[2**k : 2 ** (k + 1)] ** (2 - 4 * mu)) for k in (15, 16, 17)]
        assert blocks[1] / blocks[0] == pytest.approx(2 ** (4 * mu - 1), rel=1e-3)
        assert blocks[2] / blocks[1] == pytest.approx(2 ** (4 * mu - 1), rel=1e-3)


@pytest.mark.parametrize("size", [2, 3, 10, 100, 1024])
def test_size_of_white_noise(size):
    chi2 = stats.chi2(size)
    assert chi2.mean() == size and chi2.var() == pytest.approx(2 * size)
    assert chi2.cdf(1) <= 2 * size / (size - 1) ** 2
    for tau in (1.05, 1.1, 2.0):
        assert chi2.sf(tau**2 * size) <= 2 / (size * (tau**2 - 1) ** 2)


def test_size_of_white_noise_number_of_data():
    def bound(size):
        return 2 / (size * (1.1**2 - 1) ** 2)

    assert bound(907) > 0.05 >= bound(908)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_iterated_tikhonov_constants(m):
    t = np.geomspace(1e-9, 1e9, 200_001)
    for mu in (0.25 * m, 0.5 * m, 0.9 * m):
        largest = np.max(t**mu / (1 + t) ** m)
        constant = mu**mu * (m - mu) ** (m - mu) / m**m
        assert largest <= constant * (1 + 1e-12) and largest == pytest.approx(constant, rel=1e-6)
    assert np.max(t**m / (1 + t) ** m) == pytest.approx(1, rel=1e-6)
    sigma = 0.7
    for mu in (m + 0.25, m + 1.0):
        alpha = sigma**2 * np.geomspace(1, 1e-8, 9)
        q = spectral.iterated_tikhonov(np.array([sigma]), alpha[:, None], m)[:, 0]
        quotient = (1 - q) * sigma ** (2 * mu) / alpha**mu
        # 1 - q is a difference: its last digits are lost for the smallest alpha
        exact = (alpha / (sigma**2 + alpha)) ** m * sigma ** (2 * mu) / alpha**mu
        np.testing.assert_allclose(quotient[:3], exact[:3], rtol=1e-8)
        assert (exact >= sigma ** (2 * mu - 2 * m) / 2**m * alpha ** (m - mu) * (1 - 1e-12)).all()


def test_iterated_tikhonov_bias_of_every_unknown():
    rng = np.random.default_rng(3)
    for m, alpha in ((1, 0.1), (2, 0.01), (3, 1.0)):
        sigma = np.sort(rng.uniform(0.05, 1.5, 8))[::-1]
        x = rng.standard_normal(8)
        bias = spectral.bias(x, spectral.iterated_tikhonov(sigma, alpha, m))
        assert bias >= (alpha / (sigma[0] ** 2 + alpha)) ** m * np.linalg.norm(x)


def test_truncation_error_is_at_least_one_over_the_ratio():
    n = np.arange(1, 2001)
    for sigma, ratio in ((1 / n, 2.0), (n**-2.0, 4.0), (0.5 ** n[:40], 2.0)):
        assert (sigma[:-1] <= ratio * sigma[1:] * (1 + 1e-12)).all()
        for delta in np.geomspace(0.3, 2 * sigma[-1], 40):
            assert delta / sigma[sigma >= delta][-1] >= 1 / ratio


def test_saturation_constant():
    a = np.linspace(0, 5, 100_001)
    assert 0.66 < np.min(a**2 + (1 + a) ** -2) < 0.67
    for delta in (1e-4, 1e-6, 1e-8):
        alpha = delta ** (2 / 3) * np.geomspace(1e-3, 1e3, 20_001)
        sigma = delta ** (1 / 3)
        error = np.hypot(alpha / (1 + alpha), delta * sigma / (sigma**2 + alpha)).min()
        assert error / delta ** (2 / 3) == pytest.approx(0.818, abs=0.003)


def test_conjugate_gradients_in_two_modes():
    operator = operators.MatrixOperator(np.diag([1.0, 0.5]))
    first = {
        tuple(y): spectral.cgls(operator, np.array(y), 1).x[-1]
        for y in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (-3.0, -3.0))
    }
    np.testing.assert_allclose(first[1.0, 0.0], [1, 0], rtol=1e-14)
    np.testing.assert_allclose(first[0.0, 1.0], [0, 2], rtol=1e-14)
    np.testing.assert_allclose(first[1.0, 1.0], [20 / 17, 10 / 17], rtol=1e-14)
    np.testing.assert_allclose(first[-3.0, -3.0], -3 * first[1.0, 1.0], rtol=1e-14)


def test_boundary_terms_of_the_four_polynomials():
    """The three terms that the solution prints; what is left is one order smaller."""
    terms = {  # f(1), f'(0), f''(1), and a bound of |f'''(0)|
        "t": (1, 1, 0, 0),
        "t(1-t)": (0, 1, -2, 0),
        "(1-t)^3": (0, -3, 0, 6),
        "1-3t^2+2t^3": (0, 0, 6, 12),
    }
    assert set(terms) == set(checks.FUNCTIONS) == set(PREDICTED)
    for name, (end, slope_at_0, bend_at_1, third) in terms.items():
        for n in (1, 2, 5, 12):
            kappa = (n - 0.5) * np.pi
            exact = integrate.quad(
                lambda t, f=checks.FUNCTIONS[name], n=n: f(t) * cosine(n, t), 0, 1, epsabs=1e-13
            )[0] / np.sqrt(2)
            sine = (-1) ** (n + 1)
            series = end * sine / kappa - slope_at_0 / kappa**2 - bend_at_1 * sine / kappa**3
            assert abs(exact - series) <= third / kappa**4 * (1 + 1e-6) + 1e-12


def test_the_predicted_exponents_follow_from_the_decay():
    for name, decay in {"t": 1, "t(1-t)": 2, "(1-t)^3": 2, "1-3t^2+2t^3": 3}.items():
        mu = (2 * decay - 1) / 4
        assert PREDICTED[name] == pytest.approx(2 * mu / (2 * mu + 1))


def test_discrepancy_forces_alpha_of_order_delta():
    n, tau = np.arange(1, 400), 1.5
    operator = operators.MatrixOperator(np.diag(1 / n)).compute_singular_system()
    for delta in (1e-2, 1e-3, 1e-4):
        for mode in (1, 10, 100, 398):
            y = np.eye(n.size)[0] + delta * np.eye(n.size)[mode]
            alpha = spectral.discrepancy_principle(operator, y, "tikhonov", delta, tau).alpha
            assert (tau - 1) * delta <= alpha * (1 + 1e-9)
            assert alpha / (1 + alpha) <= tau * delta * (1 + 1e-9)


def test_inverse_crime():
    scanner = operators.ParallelBeam(32, 48)
    head = data.shepp_logan(32, oversampling=16)
    exact = data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid)
    crime, honest = (
        np.linalg.norm(spectral.cgls(scanner, y, 50).x - head, axis=(1, 2)) / np.linalg.norm(head)
        for y in (scanner.forward(head), exact)
    )
    assert abs(crime[5] - honest[5]) < 0.05
    assert crime[50] < 0.1 and honest[50] > 1 and np.argmin(honest) < 10
    assert (np.diff(crime) < 0).all()


def test_most_modes_of_the_heartbeat_are_blind():
    for width in (4.0, 6.0):
        assert np.mean(operators.gaussian_blur(1024, width).singular_values < 1e-6) > 0.5
