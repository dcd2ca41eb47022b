"""The exercises of chapter 2: what statements, solutions and sentences of the checks assert."""

import itertools
import math

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook
from scipy import integrate, optimize, special, stats

from advreg import data, spectral

FOLDER = "02_spectral_regularizers"
checks = load_checks(FOLDER)


# ------------------------------------------------ the same numbers, computed differently


def price_by_stacking(sigma, covariance, delta):
    """Precisions add: C^(1/2) (1 + C^(1/2) Sigma^2 C^(1/2) / delta^2)^-1 C^(1/2)."""
    values, w = np.linalg.eigh(covariance)
    root = w * np.sqrt(np.maximum(values, 0))
    inner = np.eye(sigma.size) + root.T @ (sigma[:, None] ** 2 * root) / delta**2
    least = np.trace(root @ np.linalg.solve(inner, root.T))
    return np.sum(1 / (1 / np.diag(covariance) + sigma**2 / delta**2)) / least


def risk_by_zeta(a, b, delta):
    """zeta(2b) minus the power of the reconstruction."""
    n = np.arange(1, 200_001.0)
    return special.zeta(2 * b) - np.sum(n ** (-2 * b) / (1 + delta**2 * n ** (2 * (a + b))))


def risk_by_midpoint(a, b, delta):
    """Terms one by one, then the midpoint rule on the tail, here without any substitution."""
    cut, last = delta ** (-1 / (a + b)), 3000
    n = np.arange(1, last + 1.0)
    q = 1 / (1 + (n / cut) ** (2 * (a + b)))
    tail = (last + 0.5) ** (1 - 2 * b) / (2 * b - 1)
    tail -= integrate.quad(
        lambda v: np.exp(v * (1 - 2 * b)) / (1 + np.exp(2 * (a + b) * (v - np.log(cut)))),
        np.log(last + 0.5),
        np.log(1e9),
    )[0]
    return np.sum(n ** (-2 * b) * (1 - q)) + tail


def level_by_cutoff(delta, a, b, b_test):
    """Through the cut-off, with another constant."""
    aim = b_test if 2 * b_test - 1 < 4 * (a + b) else 2 * (a + b) + 0.5
    return 1.7 * (delta ** (-1 / (a + aim))) ** -(a + b)


def critic_by_search(x, z, beta):
    def loss(w, n):
        return checks.critic_loss(w, x[:, n], z[:, n], beta)

    # a parabola through three points
    out = []
    for n in range(x.shape[1]):
        low, mid, high = loss(-1.0, n), loss(0.0, n), loss(1.0, n)
        out.append((low - high) / (2 * (low - 2 * mid + high)))
    return np.array(out)


def pnp_by_solving(a, d, y, rho):
    q = np.linalg.inv(d) - np.eye(len(d))
    return np.linalg.solve(a.T @ a + rho * q, a.T @ y)


def beta_on_a_grid(sigma, signal, delta):
    betas = np.geomspace(1e-4, 1e8, 600)
    risks = [
        spectral.modal_risk(
            sigma, signal, delta**2, spectral.critic_gain(sigma, signal, delta**2, b)
        ).sum()
        for b in betas
    ]
    return betas[np.argmin(risks)]


def break_even_by_counting(sigma, signal, delta):
    theta = sigma**2 * signal / delta**2
    least = np.sum(signal / (1 + theta))

    def risk(log_alpha):
        q = sigma**2 / (sigma**2 + np.exp(log_alpha))
        return np.sum((1 - q) ** 2 * signal + (q * delta / sigma) ** 2)

    grid = np.linspace(-25, 5, 301)
    start = grid[np.argmin([risk(v) for v in grid])]
    best = optimize.minimize_scalar(risk, bounds=(start - 0.2, start + 0.2), method="bounded").fun
    pairs = 3
    while 1 + 1 / (pairs - 2) > best / least:
        pairs += 1
    return pairs


def loo_by_refitting(x, y):
    errors = []
    for m in range(len(x)):
        keep = np.arange(len(x)) != m
        errors.append(np.sum((spectral.fit_gain(x[keep], y[keep]) * y[m] - x[m]) ** 2))
    return np.mean(errors)


def loo_by_downdating(x, y):
    cross, power = np.sum(x * y, axis=0), np.sum(y**2, axis=0)
    gains = (cross - x * y) / (power - y**2)
    return np.mean(np.sum((gains * y - x) ** 2, axis=1))


def nearly_equal_signs(sigma):
    return np.array([(2 * x, 1.8 * sigma * e, 0.25) for x in (1, -1) for e in (1, -1)])


PREDICTED = (1 / 3, 1 / 2)

FUNCTION = {"broken_post": "post_noise", "broken_price": "law"}


class TestChapter2(ExerciseSuite):
    folder = FOLDER
    least = 15


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


@pytest.mark.parametrize("modes", [10, 1000, 30_000])
def test_the_number_of_modes_summed_is_named(modes):
    def answer(a, b, delta):
        n = np.arange(1, modes + 1.0)
        return np.sum(n ** (-2 * b) / (1 + n ** (-2 * (a + b)) / delta**2))

    named = rejected(checks.least_risk(answer))
    assert named and checks.STOPS_EARLY in named[0]
    assert int(named[0].split("about ")[1].split()[0]) == pytest.approx(modes, rel=0.1, abs=1)


@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_a_risk_that_is_nearly_right_is_not_enough(factor):
    named = rejected(checks.least_risk(lambda *args: factor * risk_by_zeta(*args)))
    assert named and checks.STOPS_EARLY not in " ".join(named)


@pytest.mark.parametrize(
    ("predicted", "words"),
    [(wrong, sentence) for sentence, wrong in checks.WRONG_REPAIRS.items()]
    + [
        ((0.3, 0.5), "naive exponent"),
        ((1 / 3, 0.45), "repaired exponent"),
        ((math.nan, 0.5), "NaN"),
        (("1/3", "1/2"), "Real numbers"),
        (0.5, "shape"),
        (None, "not set yet"),
    ],
)
def test_wrong_predictions_of_the_two_exponents(predicted, words):
    named = rejected(checks.training_level(level_by_cutoff, predicted))
    assert len(named) == 2 and words in named[0]  # alone, and together with the function


def test_a_level_that_is_wrong_by_a_power_of_the_logarithm_is_not_noticed_but_a_power_is():
    right = lambda d, *c: level_by_cutoff(d, *c)  # noqa: E731
    assert rejected(checks.training_level(right, PREDICTED)) == []
    for power in (0.8, 1.25):
        wrong = lambda d, *c, p=power: level_by_cutoff(d, *c) ** p  # noqa: E731
        assert len(rejected(checks.training_level(wrong, PREDICTED))) == 3


@pytest.mark.parametrize("penalty", [4, 0.5, 2, 1, 0.3, 0, -1, math.nan, "1/4", None, [0.25]])
def test_wrong_penalties(penalty):
    named = rejected(checks.pnp_admm(pnp_by_solving, penalty))
    assert len(named) == 2
    if isinstance(penalty, int | float) and penalty in checks.WRONG_PENALTIES:
        assert checks.WRONG_PENALTIES[penalty] in named[0]


@pytest.mark.parametrize("digits", [4, 6])
def test_six_digits_of_the_limit_are_enough_and_four_are_not(digits):
    def rounds(*args):
        return np.array([float(f"{v:.{digits}g}") for v in pnp_by_solving(*args)])

    named = " ".join(rejected(checks.pnp_admm(rounds, 0.25)))
    assert ("They move your x" in named) == (digits == 4) and bool(named) == (digits == 4)


@pytest.mark.parametrize("exponent", [0, 4 / 3, -2 / 3, -0.8, -1, math.nan, "-4/3", None, [1.0]])
def test_wrong_exponents_of_beta(exponent):
    named = rejected(checks.best_beta(beta_on_a_grid, exponent))
    assert len(named) == 2
    if isinstance(exponent, int | float) and exponent in checks.WRONG_SLOPES:
        assert checks.WRONG_SLOPES[exponent] in named[0]


@pytest.mark.parametrize(
    "excess", [1e6 / 12, 1 / 12, 1 / 11, 1 / 9, math.inf, 0.11, 10, math.nan, "10 %", None, [1, 2]]
)
def test_wrong_predictions_of_the_excess(excess):
    named = rejected(checks.loo_risk(loo_by_refitting, excess))
    assert len(named) == 2
    if isinstance(excess, float) and excess in checks.WRONG_EXCESS:
        assert checks.WRONG_EXCESS[excess] in named[0]


@pytest.mark.parametrize(("name", "right"), [("broken_post", 4), ("broken_price", 3)])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 0, 6, -1, 4.0, 3.0, "4", None, True, [4]])
def test_the_step_of_a_broken_proof(name, right, step, answers):
    check, function = getattr(checks, name), answers[FUNCTION[name]]
    bad = rejected(check(function, step))
    assert (bad == []) == (type(step) is int and step == right)
    if type(step) is int and 1 <= step <= 5 and step != right:
        assert f"Step {step}" in bad[0]


@pytest.mark.parametrize("power", [0.5, 0.9])
def test_noise_that_is_amplified_too_little_is_no_counterexample(power):
    """Noise in the mode n = delta^-power: the error for a = b = 1 is about delta^(1 - power)."""

    def noise(sigma, signal, delta):
        return delta * np.eye(1, sigma.size, round(delta**-power) - 1)[0]

    assert len(rejected(checks.broken_post(noise, 4))) == 2


@pytest.mark.parametrize(
    ("law", "words"),
    [
        ([[1, 1, 0.5], [-1, 1, 0.5]], "means"),
        ([[1, 1, 0.6], [-1, -1, 0.6]], "sum to 1"),
        ([[1, 1, 1.5], [-1, -1, -0.5]], "sum to 1"),
        ([[1, 0, 0.5], [-1, 0, 0.5]], "Without noise"),
        ([[1, 0.2, 0.5], [-1, -0.2, 0.5]], "uncorrelated"),
        ([[1, 1], [1, 1]], "shape"),
        ([[0, 0, 1 / 13]] * 13, "rows"),
        ("a law", "array"),
    ],
)
def test_laws_that_the_claim_does_not_speak_of(law, words):
    bad = rejected(checks.broken_price(lambda sigma: law, 3))
    assert len(bad) == 2 and words in bad[0], bad


# ----------------------------------------------------- what statements and solutions assert


def powers(rng, k):
    """Random singular values, signal and noise powers."""
    return rng.uniform(0.1, 1.5, k), rng.uniform(0.1, 2, k), rng.uniform(0.05, 2, k)


def test_a_filter_that_does_not_shrink():
    rng = np.random.default_rng(1)
    sigma, signal, noise = powers(rng, 200)
    data = sigma**2 * signal + noise
    h = np.sqrt(signal / data)
    q = sigma**2 * signal / data
    risk = spectral.modal_risk(sigma, signal, noise, h)
    least = spectral.modal_risk(sigma, signal, noise, spectral.mse_gain(sigma, signal, noise))
    np.testing.assert_allclose(risk, 2 * signal * (1 - np.sqrt(q)), rtol=1e-12)
    np.testing.assert_allclose(risk / least, 2 / (1 + np.sqrt(q)), rtol=1e-10)
    assert (h**2 * noise <= signal).all() and (risk <= 2 * least).all() and (risk >= least).all()
    for larger in (1.001, 1.5, 10, -1, -1.2):  # as much power in the output, or more
        assert (spectral.modal_risk(sigma, signal, noise, larger * h) > risk).all()


def test_a_filter_that_does_not_shrink_by_simulation():
    """10^6 Gaussian pairs: standard error of the power 0.14 %, of the risk about 0.2 %."""
    rng = np.random.default_rng(2)
    x, e = rng.standard_normal((2, 1_000_000)) * np.array([[1.3], [0.7]])
    y = 0.6 * x + e
    h = np.sqrt(1.69 / (0.36 * 1.69 + 0.49))
    assert np.mean((h * y) ** 2) == pytest.approx(1.69, rel=0.006)
    q = 0.36 * 1.69 / (0.36 * 1.69 + 0.49)
    assert np.mean((h * y - x) ** 2) == pytest.approx(2 * 1.69 * (1 - np.sqrt(q)), rel=0.008)


@pytest.mark.parametrize("delta", [1e-2, 1e-4])
def test_price_of_not_shrinking_in_the_model_problem(delta):
    n, tail = np.arange(1, 1_000_001.0), 1e-6
    root = 1 / np.sqrt(1 + delta**2 * n**4)
    total = 2 * (np.sum((1 - root) / n**2) + tail)
    assert total / risk_by_zeta(1, 1, delta) == pytest.approx(1.53, abs=0.01)


def test_price_of_one_degree_of_freedom_tends_to_its_limit():
    for sigma, v in ((np.array([1, 0.5, 0.1]), np.array([1, 2.0, -1])),):
        limit = np.sum(sigma**-2.0) * np.sum(sigma**2 * v**2) / np.sum(v**2)
        assert price_by_stacking(sigma, np.outer(v, v), 1e-5) == pytest.approx(limit, rel=1e-5)
    v = np.array([1, 1e-3])
    assert price_by_stacking(np.array([1, 0.1]), np.outer(v, v), 1e-6) > 0.1**-2


@pytest.mark.parametrize("power", [0.3, 0.7, 0.95, 1.0, 1.2, 2.0, 7.0])
def test_forgotten_squares_are_admissible_from_1_on(power):
    s = np.geomspace(1e-8, 1e8, 4001)
    # for p = 1 the second conditions are nearly equalities, and 1 - q is a difference
    q, bias = 1 / (1 + s**power), s**power / (1 + s**power)
    slack = 1 + 1e-12
    admissible = (bias <= np.minimum(1, s) * slack).all() and (s * q <= slack).all()
    assert admissible == (power >= 1)


def test_forgotten_squares_cost_at_most_a_factor_two():
    rng = np.random.default_rng(3)
    sigma, signal, _ = powers(rng, 300)
    delta = np.exp(rng.uniform(-8, 8, 300))
    s = delta / (sigma * np.sqrt(signal))
    gains = sigma / (sigma**2 + sigma * delta / np.sqrt(signal))
    np.testing.assert_allclose(sigma * gains, 1 / (1 + s), rtol=1e-12)
    risk = spectral.modal_risk(sigma, signal, delta**2, gains)
    least = spectral.modal_risk(sigma, signal, delta**2, spectral.mse_gain(sigma, signal, delta**2))
    np.testing.assert_allclose(risk / least, 2 * (1 + s**2) / (1 + s) ** 2, rtol=1e-8)
    assert (risk <= 2 * least).all() and (risk / least).max() > 1.9 and (risk / least).min() < 1.01


def power_filter_risk(a, b, delta, power, modes):
    n = np.arange(1, modes + 1.0)
    s = delta * n ** (a + b)
    inside = n ** (-2 * b) * (s ** (2 * power) + s**2) / (1 + s**power) ** 2
    return inside.sum() + special.zeta(2 * b, modes + 1)


def test_forgotten_squares_in_the_model_problem():
    ratio = power_filter_risk(1, 1, 1e-4, 1, 1_000_000) / risk_by_zeta(1, 1, 1e-4)
    assert ratio == pytest.approx(np.sqrt(2), abs=0.002)


@pytest.mark.parametrize(
    ("a", "b", "power", "finite"),
    [(2, 0.75, 0.9, False), (2, 0.75, 0.95, True), (1, 1, 0.72, False), (1, 1, 0.8, True)],
)
def test_forgotten_squares_finite_or_not(a, b, power, finite):
    """The variance of a dyadic block of modes grows or falls like 2^(2a + 1 - 2p(a + b))."""
    z = (2 * a + 1) / (2 * (a + b))
    assert (power > z) == finite
    blocks = [power_filter_variance(a, b, power, 2.0**k) for k in (30, 31)]
    quotient = blocks[1] / blocks[0]
    assert quotient == pytest.approx(2 ** (2 * a + 1 - 2 * power * (a + b)), rel=1e-3)
    assert (quotient < 1) == finite


def power_filter_variance(a, b, power, start):
    """Variance of the modes from start to 2 start, by an integral, at delta = 0.01."""
    return integrate.quad(
        lambda v: np.exp(v * (2 * a + 1)) / (1 + (0.01 * np.exp(v * (a + b))) ** power) ** 2,
        np.log(start),
        np.log(2 * start),
    )[0]


@pytest.mark.parametrize(
    ("a", "b", "power", "rate"),
    [(0.25, 3, 0.6, 6 * 0.6 / 3.25 + 0.5 * 0.6 / 3.25), (0.25, 3, 0.9, 5 / 3.25), (1, 2, 0.7, 1)],
)
def test_forgotten_squares_have_the_optimal_order_from_max_z_on(a, b, power, rate):
    """Below 1 - z the bias falls like the power 2p(a + b) of the cut-off, and decides."""
    z = (2 * a + 1) / (2 * (a + b))
    assert power > z
    optimal = (2 * b - 1) / (a + b)
    assert (rate == pytest.approx(optimal)) == (power > max(z, 1 - z))
    if power <= 1 - z:
        assert rate == pytest.approx(2 * power)  # N^(-2p(a+b)), and N = delta^(-1/(a+b))
    deltas = np.geomspace(1e-6, 1e-8, 4)
    risks = [power_filter_risk(a, b, d, power, 1_000_000) for d in deltas]
    assert spectral.slope(deltas, risks) == pytest.approx(rate, abs=0.03)


def test_least_risk_numbers_of_the_solution():
    total = risk_by_midpoint(2, 0.55, 0.05)
    n = np.arange(1, 1_000_001.0)
    missing = total - np.sum(n**-1.1 / (1 + n**-5.1 / 0.05**2))
    assert total == pytest.approx(8.9, abs=0.05) and missing == pytest.approx(2.5, abs=0.02)
    assert missing == pytest.approx(10 * 1e6**-0.1, rel=1e-3)
    assert 10 * 1e40**-0.1 == pytest.approx(1.1e-4 * 9, rel=0.02)  # 10^40 terms: 10^-4 of it
    inside = integrate.quad(lambda t: t**2 / (1 + t**4), 0, 1)[0] / (np.pi / 2**1.5)
    assert 1 - inside == pytest.approx(0.78, abs=0.005)
    assert 1 - checks.stops_at_the_cutoff(1.0, 1.0, 1e-3) / risk_by_zeta(
        1, 1, 1e-3
    ) == pytest.approx(0.78, abs=0.01)


def test_a_hundred_times_the_cutoff_is_enough_from_one_quarter_on():
    for a, b in itertools.product((0.25, 0.5, 1.0), (0.55, 0.75, 1.0)):
        delta = 300 ** -(a + b)
        n = np.arange(1, 30_001.0)
        risk = special.zeta(2 * b) - np.sum(n ** (-2 * b) / (1 + delta**2 * n ** (2 * (a + b))))
        assert risk == pytest.approx(checks.rest(0, a, b, delta), rel=1e-4)


def test_subtracting_from_the_zeta_function_may_cancel():
    exact = checks.rest(0, 1.0, 3.0, 1e-10)
    assert abs(risk_by_zeta(1, 3, 1e-10) / exact - 1) > 1e-4
    solution = run_notebook(FOLDER)[0]["least_risk"](1.0, 3.0, 1e-10)
    assert solution == pytest.approx(exact, rel=1e-6)


def test_limit_law_of_the_solution():
    for a, b, delta, error in ((0.5, 3, 0.2, 0.08), (1, 1, 1e-3, 0.0)):
        limit = checks.takes_the_limit(a, b, delta)
        exact = checks.rest(0, float(a), float(b), delta)
        # 12 digits are lost to rounding in a sum of 20,000 terms, and to the quadrature
        assert limit / exact - 1 == pytest.approx(error, abs=0.005 if error else 1e-10)
        cut = delta ** (-1 / (a + b))
        kappa = (a**a * b**b) ** (1 / (a + b)) / (a + b)
        assert abs(limit - exact) <= kappa * cut ** (-2 * b)
    assert 0.2 ** (-1 / 3.5) == pytest.approx(1.6, abs=0.03) and 1e-3**-0.5 == pytest.approx(
        32, abs=0.5
    )


def local_slope(sigma, signal, delta):
    def risk(d):
        return np.sum(signal / (1 + sigma**2 * signal / d**2))

    return np.log(risk(delta * 1.001) / risk(delta / 1.001)) / np.log(1.001**2)


def test_no_faster_than_the_square_of_the_noise():
    rng = np.random.default_rng(4)
    for _ in range(20):
        sigma, signal, _ = powers(rng, 6)
        signal[0] = 0.0  # a mode without signal plays no part
        for delta in np.geomspace(1e-2, 1e2, 9):
            assert 0 < local_slope(sigma, signal, delta) < 2
        assert local_slope(sigma, signal, 1e-4) == pytest.approx(2, abs=1e-3)
        risk = np.sum(signal / (1 + sigma**2 * signal / 1e-12))
        assert risk / 1e-12 == pytest.approx(np.sum(sigma[1:] ** -2.0), rel=1e-6)


def test_infinitely_many_modes_are_slower():
    """Even for signals that decay exponentially the quotient by delta^2 is unbounded."""
    n = np.arange(1, 400.0)
    sigma, signal = 1 / n, np.exp(-n)
    quotients = [np.sum(signal / (sigma**2 * signal + d**2)) for d in np.geomspace(1e-1, 1e-40, 8)]
    assert (np.diff(quotients) > 0).all() and quotients[-1] > 100 * quotients[1]


def test_exponents_of_the_lie():
    assert (spectral.mse_exponent(1, 2, b_test=1), spectral.mse_exponent(1, 1)) == pytest.approx(
        PREDICTED
    )
    a, b, b_test = 0.5, 0.6, 3.5
    saturated = 2 * (a + b) + 0.5
    assert saturated == pytest.approx(2.7)
    for aim, rate in ((b_test, 1.1), (saturated, 1.375)):
        level = lambda d, aim=aim: d ** ((a + b) / (a + aim))  # noqa: E731
        assert rate == pytest.approx(4 * (a + b) / (a + aim))
        # at b' = saturation bias and variance balance, and both lose a little to the constant
        assert checks.repaired_slope(a, b, b_test, level) == pytest.approx(rate, abs=0.02)
    inverse = checks.repaired_slope(1, 2, 1, lambda d: d ** (2 / 3))
    assert inverse < 0.25  # more cautious than the naive filter, which has 1/3


def test_repair_costs_a_few_percent():
    for delta in (1e-4, 1e-6):
        repaired = checks.mismatched_risk(1, 2, 1, delta**1.5, delta)
        assert 1 < repaired / risk_by_zeta(1, 1, delta) < 1.05


def test_critic_weights_of_the_population():
    """10^6 samples; the weight is a quotient of means with a standard error of 0.4 % or less."""
    rng = np.random.default_rng(5)
    sigma, signal, noise, beta = 0.4, 1.5, 0.3, 0.7
    x = np.sqrt(signal) * rng.standard_normal((1_000_000, 1))
    z = x + np.sqrt(noise) / sigma * rng.standard_normal(x.shape)
    w = critic_by_search(x[:200_000], z[:200_000], beta)
    exact = 3 * noise / (8 * beta * (3 * sigma**2 * signal + noise))
    assert w[0] == pytest.approx(exact, rel=0.02)
    assert run_notebook(FOLDER)[0]["critic_weights"](x, z, beta)[0] == pytest.approx(
        exact, rel=0.01
    )


def test_few_pairs_make_negative_weights():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, 400))
    w = critic_by_search(x, x + 0.3 * rng.standard_normal(x.shape), 1.0)
    assert 0.02 < np.mean(w < 0) < 0.5


@pytest.mark.parametrize("rho", [0.2, 1.0, 5.0])
def test_fixed_points_of_the_two_splittings_agree(rho):
    rng = np.random.default_rng(10)
    a, (_, d) = checks.matrix(rng, 4, 4, 1.0), checks.denoiser(rng, 4, 0.5)
    y = rng.standard_normal(4)
    limit = run_notebook(FOLDER)[0]["pnp_admm"](a, d, y, rho)
    np.testing.assert_allclose(limit, checks.fixed_point(a, d, y, 1 / rho), rtol=1e-8)
    np.testing.assert_allclose(limit, pnp_by_solving(a, d, y, rho), rtol=1e-8)
    tau = 0.9 / np.linalg.norm(a, 2) ** 2  # gradient steps, with their own limit
    x = np.zeros(len(d))
    for _ in range(5000):
        x = d @ (x - tau * a.T @ (a @ x - y))
    np.testing.assert_allclose(x, pnp_by_solving(a, d, y, 1 / tau), rtol=1e-8)


def test_post_processing_is_bounded_and_does_not_converge():
    n = np.arange(1, 400_001.0)
    for delta in (0.1, 0.01, 0.001):
        largest = (n / (1 + delta**2 * n**2)).max()
        assert largest <= 1 / (2 * delta) * (1 + 1e-12)
        assert delta * largest == pytest.approx(0.5, abs=1e-3)
    deltas = np.geomspace(1e-1, 1e-3, 5)
    for a, b in ((1, 2), (1, 0.75), (0.5, 1), (1.2, 1.5)):
        norms = [d * (n**a / (1 + d**2 * n ** (2 * b))).max() for d in deltas]
        assert spectral.slope(deltas, norms) == pytest.approx(1 - a / b, abs=0.03)
    for a, b, rate in ((1, 1, -1), (1, 2, 0.5)):
        risks = [post_risk(a, b, d) for d in np.geomspace(1e-3, 1e-5, 5)]
        assert spectral.slope(np.geomspace(1e-3, 1e-5, 5), risks) == pytest.approx(rate, abs=0.02)


def post_risk(a, b, delta):
    n = np.arange(1, 2_000_001.0)
    variance = delta**2 * np.sum((n**a / (1 + delta**2 * n ** (2 * b))) ** 2)
    start = n[-1] + 0.5  # beyond, the gains are n^(a - 2b) / delta^2, up to small terms
    rest = integrate.quad(
        lambda v: np.exp(v * (2 * a + 1)) / (1 + delta**2 * np.exp(2 * b * v)) ** 2,
        np.log(start),
        np.log(1e16),
    )[0]
    bias = np.sum(n ** (-2 * b) * (1 + 1 / (delta**2 * n ** (2 * b))) ** -2.0)
    return variance + delta**2 * rest + bias + start ** (1 - 2 * b) / (2 * b - 1)


def critic_factor(a, b, delta, modes):
    sigma, signal = checks.model(a, b, modes)
    beta = checks.search_beta(sigma, signal, delta)
    least = np.sum(signal / (1 + sigma**2 * signal / delta**2))
    return checks.critic_risk(sigma, signal, delta, beta) / least


def test_the_best_critic_is_nearly_as_good():
    for modes, delta in itertools.product((300, 3000), (1e-2, 1e-4)):
        assert 1 < critic_factor(2, 1, delta, modes) < 1.01
        assert 1.03 < critic_factor(1, 2, delta, modes) < 1.04
    assert critic_factor(0.25, 1, 1e-2, 3000) > 1.1 > critic_factor(0.25, 1, 1e-2, 300)


def test_the_weight_at_the_supervised_cutoff():
    sigma, signal, delta, beta = 0.3, 4.0, 0.6, 2.0  # sigma^2 Pi = delta^2
    assert spectral.critic_weights(sigma, signal, delta**2, beta) == pytest.approx(3 / (32 * beta))


def test_optimism_of_the_training_loss():
    """200,000 training sets: standard errors 0.2 % (train), 0.5 % (test, M = 8)."""
    rng = np.random.default_rng(7)
    sigma, signal, noise = 0.7, 1.3, 0.4
    data = sigma**2 * signal + noise
    g = sigma * signal / data
    least = signal * noise / data
    for pairs in (1, 4, 8):
        x = np.sqrt(signal) * rng.standard_normal((200_000, pairs))
        y = sigma * x + np.sqrt(noise) * rng.standard_normal(x.shape)
        learned = np.sum(x * y, axis=1) / np.sum(y**2, axis=1)
        train = np.mean((learned[:, None] * y - x) ** 2)
        assert train / least == pytest.approx(1 - 1 / pairs, abs=0.01)
        if pairs == 8:
            test = least + data * np.mean((learned - g) ** 2)
            assert test / train == pytest.approx(pairs / (pairs - 2), rel=0.02)


def test_optimism_of_a_full_matrix():
    """2,000 training sets of a 3-dimensional problem that is not diagonal."""
    rng = np.random.default_rng(8)
    root, pairs = rng.standard_normal((3, 3)), 9
    train, test = [], []
    best, data = full_problem(root)
    for _ in range(2000):
        x = rng.standard_normal((pairs, 3)) @ root.T
        y = x * SIGMA + 0.5 * rng.standard_normal(x.shape)
        learned = np.linalg.lstsq(y, x, rcond=None)[0].T
        train.append(np.mean(np.sum((y @ learned.T - x) ** 2, axis=1)))
        test.append(np.trace((learned - best) @ data @ (learned - best).T))
    least = np.trace(root @ root.T) - np.trace(best @ data @ best.T)
    assert np.mean(train) / least == pytest.approx(1 - 3 / pairs, rel=0.04)
    quotient = (np.mean(test) + least) / np.mean(train)
    assert quotient == pytest.approx(pairs * (pairs - 1) / ((pairs - 3) * (pairs - 4)), rel=0.06)
    assert 100 * 99 / ((100 - 64) * (100 - 65)) == pytest.approx(7.9, abs=0.05)
    assert 100 / 98 == pytest.approx(1.02, abs=0.001)


SIGMA = np.array([1.0, 0.5, 0.2])


def full_problem(root):
    covariance = root @ root.T
    data = SIGMA[:, None] * covariance * SIGMA + 0.25 * np.eye(3)
    return covariance * SIGMA @ np.linalg.inv(data), data


def test_inequalities_of_training_and_test_loss_for_any_law():
    """Discrete pairs that are far from Gaussian: all training sets of 3 pairs, one by one."""
    rng = np.random.default_rng(9)
    for _ in range(10):
        x, y, p = rng.standard_normal(5), rng.standard_normal(5), rng.dirichlet(np.ones(5))
        best = (p @ (x * y)) / (p @ y**2)
        least, train, test = p @ (best * y - x) ** 2, 0.0, 0.0
        for chosen in itertools.product(range(5), repeat=3):
            i, weight = list(chosen), np.prod(p[list(chosen)])
            g = (x[i] @ y[i]) / (y[i] @ y[i])
            train += weight * np.mean((g * y[i] - x[i]) ** 2)
            test += weight * (p @ (g * y - x) ** 2)
        assert train <= least <= test


@pytest.mark.parametrize(("pairs", "sets"), [(6, 800), (12, 400)])
def test_leave_one_out_is_unbiased(pairs, sets):
    """Other seeds than on the page; standard errors of the means 0.8 % (6 pairs) and 0.3 %."""
    n, rng = np.arange(1, 201.0), np.random.default_rng(pairs)
    sigma, signal, least = 1 / n, n**-2.0, risk_of_200_modes()
    found = []
    for _ in range(sets):
        x = rng.standard_normal((pairs, n.size)) / n
        y = sigma * x + 0.01 * rng.standard_normal(x.shape)
        g = spectral.fit_gain(x, y)
        train = np.mean(np.sum((g * y - x) ** 2, axis=1))
        true = spectral.modal_risk(sigma, signal, 1e-4, g).sum()
        found.append([train, loo_by_downdating(x, y), true])
    mean, spread = np.mean(found, axis=0) / least, np.std(found, axis=0) / least
    theory = [1 - 1 / pairs, 1 + 1 / (pairs - 3), 1 + 1 / (pairs - 2)]
    np.testing.assert_allclose(mean, theory, rtol=0.015 if pairs > 6 else 0.03)
    if pairs == 12:
        assert 2.4 < spread[1] / spread[2] < 3.6


def risk_of_200_modes():
    n = np.arange(1, 201.0)
    return np.sum(n**-2.0 / (1 + n**-4.0 / 1e-4))


def test_break_even_numbers_of_the_solution():
    for a, b, delta, counts in ((1, 1, 1e-2, (7, 7)), (1, 2, 1e-2, (3, 3)), (2, 1, 1e-3, (27, 28))):
        for modes, pairs in zip((400, 1000), counts, strict=True):
            k = np.arange(1, modes + 1.0)
            assert break_even_by_counting(k ** -float(a), k ** (-2.0 * b), delta) == pairs
    k = np.arange(1, 20_001.0)
    assert break_even_by_counting(k**-0.25, k**-2, 0.1) == 3
    few, many = (checks.tikhonov_excess(k[:m] ** -0.25, k[:m] ** -2, 0.1) for m in (200, 2000))
    assert many > few + 1


def test_tikhonov_in_ever_more_modes_is_driven_to_zero():
    """For a = 1/4 its excess approaches that of the zero filter from below: it is bounded."""
    excess, best = [], []
    for modes in (200, 5_000, 100_000, 2_000_000):
        sigma, signal = checks.model(0.25, 1, modes)
        least = np.sum(signal / (1 + sigma**2 * signal / 0.01))
        alphas = np.geomspace(0.1, 100, 30)
        q = (sigma**2 / (sigma**2 + alpha) for alpha in alphas)
        risks = [np.sum((1 - f) ** 2 * signal + (0.1 * f / sigma) ** 2) for f in q]
        excess.append(min(risks) / least - 1)
        best.append(alphas[np.argmin(risks)])
        zero = signal.sum() / least - 1
    assert (np.diff(excess) > 0).all() and (np.diff(best) > 0).all() and best[-1] > 15
    assert 0.95 * zero < excess[-1] < zero == pytest.approx(6.93, abs=0.01)


def test_break_even_where_tikhonov_has_the_wrong_or_the_right_shape():
    n = np.arange(1, 401.0)
    assert checks.tikhonov_excess(n**-1, n**-4, 1e-2) > 1
    flat = checks.tikhonov_excess(1 / n, np.full(400, 0.5), np.sqrt(0.5e-4))  # alpha = 1e-4
    assert abs(flat) < 1e-4  # a grid point is within half a percent of alpha


def test_prices_of_two_random_signs():
    """Excess over r for M = 4, from the probabilities of how many pairs have opposite signs."""
    for quotient in (0.1, 0.5, 0.9, 1.1, 2.0):
        law = np.array([(x, quotient * e, 0.25) for x in (1, -1) for e in (1, -1)])
        power = 1 + quotient**2
        best, least = 1 / power, quotient**2 / power
        price = 0.0
        for opposite in range(5):
            agree = 4 - opposite
            top = agree * (1 + quotient) + opposite * (1 - quotient)
            g = top / (agree * (1 + quotient) ** 2 + opposite * (1 - quotient) ** 2)
            price += math.comb(4, opposite) / 16 * power * (g - best) ** 2 / least
        assert checks.law_excess(law, 1.0, 4) == pytest.approx(price, rel=1e-9)
        assert (price > 20) == (0.8 < quotient < 1.2)
    assert checks.law_excess(np.array(nearly_equal_signs(1.0)), 1.0, 4) == pytest.approx(
        22.6, abs=0.05
    )
    assert 1 / (1 + 0.81) == pytest.approx(0.55, abs=0.003)
    for sigma, pairs in itertools.product((1.0, 0.3), (1, 2, 3, 4, 6)):
        law = run_notebook(FOLDER)[0]["law"](sigma)
        assert checks.law_excess(law, sigma, pairs) == pytest.approx(0.5**pairs, rel=1e-9)


@pytest.mark.parametrize("quotient", [0.1, 0.3, 0.7])
def test_price_of_random_signs_for_many_pairs(quotient):
    """M times the price tends to 1 - 4 theta / (1 + theta)^2; binomial sums, no simulation."""
    theta, pairs = quotient**-2.0, 2000
    k = np.arange(pairs + 1)
    weight = stats.binom.pmf(k, pairs, 0.5)
    top = (pairs - k) * (1 + quotient) + k * (1 - quotient)
    g = top / ((pairs - k) * (1 + quotient) ** 2 + k * (1 - quotient) ** 2)
    power = 1 + quotient**2
    price = weight @ (power * (g - 1 / power) ** 2) / (quotient**2 / power)
    assert pairs * price == pytest.approx(1 - 4 * theta / (1 + theta) ** 2, rel=0.05)


def test_the_critic_of_the_checks_is_that_of_the_book():
    sigma, signal = checks.model(2, 1, 300)
    gains = spectral.critic_gain(sigma, signal, 1e-4, 0.7)
    risk = spectral.modal_risk(sigma, signal, 1e-4, gains).sum()
    assert checks.critic_risk(sigma, signal, 1e-2, 0.7) == pytest.approx(risk, rel=1e-12)
    several = checks.critic_risk(sigma, signal, 1e-2, [0.1, 0.7])
    assert several.shape == (2,) and several[1] == pytest.approx(risk, rel=1e-12)


def test_the_instruments_of_the_checks_are_those_of_the_book():
    for (basis, sigma), (_, known) in zip(checks.instruments(), checks.ecg_systems(), strict=True):
        np.testing.assert_allclose(basis.T @ basis, np.eye(64), atol=1e-12)
        np.testing.assert_allclose(np.sort(sigma), np.sort(known), atol=1e-3)


def recorded(backwards=False):
    return checks.halves(data.ecg()[::-1] if backwards else data.ecg())


def heartbeat_ratio(gains, backwards, basis, sigma, level):
    """Risks of filters, a row each, divided by the least one, on the future of the record."""
    future = recorded(backwards)[1]
    power = np.mean((checks.windows(future) @ basis) ** 2, axis=0)
    best = spectral.mse_gain(sigma, power, level**2)
    risks = spectral.modal_risk(sigma, power, level**2, gains).sum(axis=-1)
    return risks / checks.future_risk(best, future, basis, sigma, level)


def test_heartbeat_by_regression():
    past, _ = recorded()
    for (basis, sigma), level in itertools.product(checks.ecg_systems(), (3.0, 5.0)):
        for apart, seed in itertools.product((1, 64), range(3)):
            x = checks.windows(past, apart) @ basis
            assert len(x) == {1: 537, 64: 9}[apart]
            noise = level * np.random.default_rng(100 + seed).standard_normal(x.shape)
            gains = spectral.fit_gain(x, sigma * x + noise)
            ratio = heartbeat_ratio(gains, False, basis, sigma, level)
            assert (ratio < 1.1) == (apart == 1)


def test_tikhonov_does_not_pass_on_the_heartbeat():
    for (basis, sigma), level in itertools.product(checks.ecg_systems(), (3.0, 5.0)):
        family = spectral.gain(
            spectral.tikhonov(sigma, np.geomspace(1e-8, 10, 200)[:, None]), sigma
        )
        for backwards in (False, True):
            assert heartbeat_ratio(family, backwards, basis, sigma, level).min() > 1.15


def test_simulated_hearts_are_learned_with_room_to_spare():
    """The threshold is 1.1; the plug-in filter stays below 1.02 for 100 hearts."""
    for seed in range(100):
        past, future = checks.halves(checks.heart(np.random.default_rng(seed)))
        for (basis, sigma), level in itertools.product(checks.instruments(), (2.0, 8.0)):
            gains = checks._plug_in(past, basis, sigma, level)
            power = np.mean((checks.windows(future) @ basis) ** 2, axis=0)
            best = sigma * power / (sigma**2 * power + level**2)
            risk = checks.future_risk(gains, future, basis, sigma, level)
            assert risk < 1.02 * checks.future_risk(best, future, basis, sigma, level)


def test_the_mean_risk_is_that_of_drawn_noise():
    """361 windows with 40 draws of noise each: standard error about 0.2 %."""
    _, future = recorded()
    (basis, sigma), rng = checks.ecg_systems()[0], np.random.default_rng(11)
    gains = 0.7 / sigma * np.exp(-np.arange(64) / 10)
    x = checks.windows(future) @ basis
    noise = 3.0 * rng.standard_normal((40, *x.shape))
    drawn = np.mean(np.sum((gains * (sigma * x + noise) - x) ** 2, axis=-1))
    assert checks.future_risk(gains, future, basis, sigma, 3.0) == pytest.approx(drawn, rel=0.01)
