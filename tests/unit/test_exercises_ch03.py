"""The exercises of chapter 3: what statements, solutions and sentences assert."""

import itertools
import math

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook
from scipy import optimize
from scipy.special import logsumexp

from advreg import adversarial, linear, spectral

FOLDER = "03_adversarial_regularization"
checks = load_checks(FOLDER)


# ------------------------------------------------------------- answers that are needed below


def gap_by_attack(w, residuals, C, delta):
    push = delta * (C @ w) / np.sqrt(w @ C @ w)
    worst = np.abs(residuals) + np.abs(push @ w)
    return np.mean(worst**2) - np.mean(residuals**2)


def loss_gap_loop(loss, u, radius):
    grid = [loss(u + v) for v in np.linspace(-radius, radius, 401)]
    return np.max(grid, axis=0) - loss(u)


def gain_library(x, sigma, delta):
    return adversarial.box_fit("almost sure", sigma, delta, x[:, None]).item()


def decoder_clipped(y):
    first = np.clip(y[:, 0], -(1.5**0.5), 1.5**0.5)
    return np.stack([first, 2**0.5 * (1 - first**2)], axis=1)


def white_library(sigma, signal, delta):
    g = adversarial.ball_game(sigma, signal, delta).gain
    return float(spectral.modal_risk(sigma, signal, delta**2, g).sum())


PREDICTED = dict(checks.DATA_FREE)


class TestChapter3(ExerciseSuite):
    folder = FOLDER
    least = 18


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


# ------------------------------------------------------------------ further answers of the checks

STEPS = [1, 2, 3, 4, 5, 0, 6, -1, 4.0, 3.0, "4", None, True, [4]]


@pytest.mark.parametrize(
    ("name", "function", "right"),
    [
        ("broken_hinge", "hinge_counterexample", 3),
        ("broken_white", "white_noise_risk", 4),
    ],
)
@pytest.mark.parametrize("step", STEPS)
def test_the_step_of_a_broken_proof(name, function, right, step, answers):
    bad = rejected(getattr(checks, name)(answers[function], step))
    assert (bad == []) == (type(step) is int and step == right)
    if type(step) is int and 1 <= step <= 5 and step != right:
        assert f"Step {step}" in bad[0]


@pytest.mark.parametrize(
    ("predicted", "words"),
    [({**PREDICTED, name: not PREDICTED[name]}, checks.WRONG_LOSSES[name]) for name in PREDICTED]
    + [
        (dict.fromkeys(PREDICTED, True), checks.WRONG_LOSSES["all convex"]),
        ({"linear": True}, "keys"),
        ({**PREDICTED, "huber": "no"}, "True or False"),
        (["linear", "absolute"], "dict"),
        (None, "dict"),
    ],
)
def test_wrong_predictions_of_losses(predicted, words):
    named = rejected(checks.loss_gap(loss_gap_loop, predicted))
    assert len(named) == 1 and words in named[0]


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (0.75, checks.WRONG_BEST["mean"]),
        (0.79, checks.WRONG_BEST["large"]),
        (0.97, checks.WRONG_BEST["large"]),
        (1, checks.WRONG_BEST["large"]),
        (0.5, checks.WRONG_BEST["small"]),
        (math.nan, "NaN"),
        ("0.77", "Real numbers"),
        (None, "not set yet"),
        ([0.77], "shape"),
    ],
)
def test_wrong_predictions_of_restarts(best, words, answers):
    named = rejected(checks.reached(answers["reached"], best))
    assert len(named) == 1 and words in named[0]


@pytest.mark.parametrize("best", [0.76, 0.77, 0.775, 0.78])
def test_rough_estimates_of_the_restarts_are_accepted(best, answers):
    assert rejected(checks.reached(answers["reached"], best)) == []


@pytest.mark.parametrize("factor", [0.96, 1.04])
def test_radii_must_be_right_on_both_sides(factor, answers):
    for name in ("zero_radius", "interpolation_radius", "least_lipschitz"):
        right = answers[name]
        bad = rejected(getattr(checks, name)(lambda *args, f=right: factor * f(*args)))
        assert any("Slightly" in s or "slightly" in s or "matrix" in s for s in bad), (name, bad)


def test_same_signs_are_named_whatever_they_are():
    def answer(tight):
        return np.array([[1.0, 5, 2, 3], [4, 1, 3, 6], [2, 2, 7, 1]])

    named = rejected(checks.class_weights(answer))
    assert named and all(checks.SAME_SIGN in sentence for sentence in named)


def test_mistakes_are_named_without_the_last_digits():
    """Training and search on a grid never reproduce a formula exactly."""

    def noisy(sigma, x, delta):  # 400 draws of white noise for each sample
        noise = np.random.default_rng(0).standard_normal((400, *x.shape))
        data = sigma * x + delta / np.sqrt(sigma.size) * noise
        return (data * x).sum(axis=(0, 1)) / (data**2).sum(axis=(0, 1))

    def largest(loss, u, radius):
        return np.max([loss(u + v) for v in np.linspace(-radius, radius, 301)], axis=0)

    def tikhonov(sigma, signal, noise, excess):
        alphas = np.geomspace(1e-6, 1e4, 2000)[:, None]
        g = sigma / (sigma**2 + alphas)
        wiener = spectral.mse_gain(sigma, signal, noise)
        risk, best = (spectral.modal_risk(sigma, signal, noise, f).sum(-1) for f in (g, wiener))
        return g.max(axis=1)[risk <= (1 + excess) * best].min()

    assert "white noise" in rejected(checks.train_filter(noisy))[0]
    assert "largest loss" in rejected(checks.loss_gap(largest, PREDICTED))[0]
    assert "Tikhonov" in rejected(checks.least_lipschitz(tikhonov))[0]


def test_a_decoder_that_explodes_far_away_is_found():
    def answer(y):
        return decoder_clipped(y) * np.where(np.abs(y[:, :1]) > 5, 30, 1)

    assert len(rejected(checks.two_mode_decoder(answer))) == 2  # on the grid and far away


# ----------------------------------------------------- what statements and solutions assert


def test_inside_never_exceeds_outside():
    rng = np.random.default_rng(1)
    for _ in range(20):
        w, X = rng.standard_normal(4), rng.standard_normal((9, 4))
        y, shift = np.where(rng.random(9) < 0.5, -1.0, 1.0), 0.3
        margin = y * (X @ w)
        size = shift * np.abs(w).sum()
        clean, inside = (np.logaddexp(0, -m).mean() for m in (margin, margin - size))
        assert clean <= inside <= clean + size


def test_ridge_is_the_smaller_half():
    rng = np.random.default_rng(2)
    w, r, C = rng.standard_normal(3), rng.standard_normal(30), np.diag([0.5, 1.0, 2.0])
    edge = 2 * np.abs(r).mean() / np.sqrt(w @ C @ w)
    for factor, smaller in ((0.9, True), (1.1, False)):
        delta = factor * edge
        ridge = delta**2 * (w @ C @ w)
        assert (ridge < gap_by_attack(w, r, C, delta) - ridge) == smaller


def test_random_noise_gives_ridge():
    """(r - w.e)^2 for noise with covariance delta^2 C: the mean grows by the ridge term."""
    rng = np.random.default_rng(3)
    w, r, C = np.array([0.8, -0.5]), 0.9, np.array([[2.0, 0.6], [0.6, 0.5]])
    e = 0.4 * rng.standard_normal((400_000, 2)) @ np.linalg.cholesky(C).T
    grown = (r - e @ w) ** 2 - r**2
    error = grown.std() / np.sqrt(grown.size)
    assert abs(grown.mean() - 0.16 * (w @ C @ w)) < 4 * error


def test_the_losses_of_the_page_are_those_of_the_checks(answers):
    u = np.linspace(-3, 3, 25)
    assert list(answers["LOSSES"]) == list(checks.LOSSES)
    for name, loss in checks.LOSSES.items():
        np.testing.assert_array_equal(answers["LOSSES"][name](u), loss(u))


@pytest.mark.parametrize("name", list(checks.LOSSES))
def test_data_free_losses(name):
    u, spread = np.linspace(-4, 4, 41), []
    for radius in (0.2, 0.7, 1.5):
        gap = loss_gap_loop(checks.LOSSES[name], u, radius)
        spread.append(np.ptp(gap) / radius)
        if name == "pinball 0.9":
            assert gap[-1] == pytest.approx(0.9 * radius) and gap[0] == pytest.approx(0.1 * radius)
        if name in ("huber", "insensitive"):
            assert gap[0] == pytest.approx(radius) == gap[-1] and gap[20] < radius
    assert (max(spread) < 1e-9) == PREDICTED[name] and (min(spread) > 0.05) != PREDICTED[name]


def test_two_values_in_every_column_and_no_sign():
    rng = np.random.default_rng(4)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=5)))

    def excess(W, z, k):
        moved = z + 0.3 * corners @ W.T
        exact = (logsumexp(moved, axis=1) - moved[:, k]).max()
        return logsumexp(z - z[k] + 0.3 * np.abs(W - W[k]).sum(axis=1)) - exact

    for _ in range(20):
        low, high = rng.standard_normal((2, 5))
        W = np.where(rng.random((3, 5)) < 0.5, low, high)
        z = rng.standard_normal(3)
        assert max(abs(excess(W, z, k)) for k in range(3)) < 1e-12
        V = rng.standard_normal((3, 5))  # three values: strict for the label in the middle
        assert excess(V, z, int(np.argsort(V[:, 0])[1])) > 1e-6
        shift = 10 + rng.standard_normal(5)  # one vector added to all rows
        for k in range(3):
            assert excess(V + shift, z, k) == pytest.approx(excess(V, z, k), abs=1e-9)


@pytest.mark.parametrize("delta", [0.1, 0.5, 2.0])
def test_broken_hinge(delta):
    x, w = 2 * delta, np.linspace(-5, 5, 200_001) / delta
    inside = np.maximum(1 - w * x + delta * np.abs(w), 0)
    outside = np.maximum(1 - w * x, 0) + delta * np.abs(w)
    assert inside.min() == pytest.approx(0, abs=1e-12)
    assert w[inside < 1e-9].min() == pytest.approx(1 / delta, rel=1e-3)
    assert outside.min() == pytest.approx(0.5, abs=1e-4)
    assert w[outside.argmin()] == pytest.approx(1 / (2 * delta), rel=1e-3)
    rng = np.random.default_rng(5)
    margins, size = rng.normal(0.5, 1, 1000), rng.uniform(0, 3, 1000)
    before, after = np.maximum(1 - margins, 0), np.maximum(1 - margins + size, 0)
    assert (after <= before + size + 1e-12).all()
    np.testing.assert_allclose((after - before)[margins <= 1], size[margins <= 1], atol=1e-12)
    assert ((after - before)[margins > 1] < size[margins > 1]).all()


def test_zero_radius_in_mean_is_smaller():
    rng = np.random.default_rng(6)
    Z, t = rng.standard_normal((15, 2)), rng.standard_normal(15) + 0.4
    ball = checks._circle(2, 3600)
    for norm, dual in ((1, np.inf), (2, 2), (np.inf, 1)):
        radius = np.linalg.norm(t @ Z / 15, ord=norm) / np.sqrt(np.mean(t**2))
        v = 1e-6 * ball
        size = np.linalg.norm(v, ord=dual, axis=1)
        root = np.sqrt(((t - v @ Z.T) ** 2).mean(axis=1))

        def slope(delta, root=root, size=size):
            return (((root + delta * size) ** 2 - np.mean(t**2)) / size).min()

        assert slope(1.01 * radius) > 0 > slope(0.99 * radius)
        assert radius < linear.zero_threshold(Z, t, norm)


def test_budget_in_mean_of_a_regression():
    """sup over E||e||^2 <= delta^2 of E(r - w.e)^2: for each price every sample buys its best."""
    rng = np.random.default_rng(7)
    r, size, delta = rng.standard_normal(12), 0.7, 0.4
    prices = np.geomspace(size**2 * (1 + 1e-9), 1e4, 200_001)
    bought = np.mean(r**2) * prices / (prices - size**2)
    assert (prices * delta**2 + bought).min() == pytest.approx(
        (np.sqrt(np.mean(r**2)) + delta * size) ** 2, rel=1e-6
    )


def test_residuals_leave_zero_with_a_kink(answers):
    rng = np.random.default_rng(8)
    for _ in range(2):
        X, y = rng.standard_normal((5, 8)), rng.standard_normal(5)
        radius = answers["interpolation_radius"](X, y)
        fits = [
            linear.fit(X, y, factor * radius, 2, "squared", intercept=False)
            for factor in (0.99, 1.005, 1.01)
        ]
        left, small, large = (np.sort(np.abs(y - X @ f.w)) for f in fits)
        assert left[-1] < 1e-5 and small[-1] > 1e-4
        assert large[-1] / small[-1] == pytest.approx(2, abs=0.15)
        assert small[-2] < 1e-5  # the others stay


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.005, 1.2, 2.0, 5.0])
def test_the_fit_that_is_handed_out(factor, answers):
    """It agrees with the solver of the package, on both sides of the radius and beyond."""
    rng = np.random.default_rng(14)
    X, y = rng.standard_normal((6, 9)), rng.standard_normal(6)
    delta = factor * answers["interpolation_radius"](X, y)
    w = answers["adversarial_fit"](X, y, delta)
    want = linear.fit(X, y, delta, 2, "squared", intercept=False)
    risk = np.mean((np.abs(y - X @ w) + delta * np.linalg.norm(w)) ** 2)
    assert risk == pytest.approx(want.risk, rel=1e-7)
    np.testing.assert_allclose(w, want.w, atol=1e-5)


def test_one_sample_has_one_threshold(answers):
    X, y = np.array([[0.3, -1.2, 0.5]]), np.array([2.0])
    assert answers["interpolation_radius"](X, y) == pytest.approx(np.linalg.norm(X))
    assert linear.zero_threshold(X, y, 2) == pytest.approx(np.linalg.norm(X))


def test_numbers_of_the_ascent(answers):
    reached, u = answers["reached"], (np.arange(100_000) + 0.5) / 50_000 - 1
    assert reached(1, 0) == 1 and reached(1, 1) == 0.75
    for path in (0.3, 1.0, 1.7):
        assert reached(path, 1) == pytest.approx(path - path**2 / 4)
    for steps in (3, 10, 40):  # the number of steps does not matter
        assert checks._ascend(1.0, 1.0, steps) == pytest.approx(0.75, abs=1e-6)
    assert np.minimum(1, u + 1).var() == pytest.approx(5 / 48, rel=1e-4)
    spread = np.sqrt(5 / 48 / 1000)
    assert round(spread, 3) == 0.010
    largest = np.random.default_rng(12).standard_normal((200_000, 20)).max(axis=1)
    assert largest.mean() == pytest.approx(1.87, abs=0.01)
    assert 0.75 + largest.mean() * spread == pytest.approx(checks.BEST, abs=0.002)
    start = np.random.default_rng(13).uniform(-1, 1, (100, 20, 1000))
    simulated = np.minimum(1, start + 1).mean(axis=-1).max(axis=-1).mean()
    assert simulated == pytest.approx(checks.BEST, abs=0.002)
    assert 14.5 < 0.15 / spread < 15 and math.exp(2 * 1000 * 0.15**2) > 1e19


def test_uniform_thresholds():
    x = (np.arange(20_000) + 0.5) / 10_000 - 1
    for sigma in (0.5, 2.0):
        for delta in sigma * np.array([0.49, 0.51, 0.6, 0.66, 0.67, 0.7]):
            gain = gain_library(x, sigma, delta)
            if delta <= sigma / 2:
                want = 1 / sigma
            elif delta >= 2 * sigma / 3:
                want = 0.0
            else:
                want = (sigma / 3 - delta / 2) / (sigma**2 / 3 - delta * sigma + delta**2)
            assert gain == pytest.approx(want, abs=1e-5)
        for factor, keeps in ((0.999, True), (1.001, False)):
            mean = adversarial.box_in_mean(sigma, 1 / 3, factor * sigma / np.sqrt(3))
            assert (mean.item() > 0) == keeps


@pytest.mark.parametrize("p", [0.01, 0.25, 1.0])
def test_the_zone_of_sparse_data(p):
    """x = 0 with probability 1 - p: kappa is the root of p."""
    x = np.r_[np.full(round(100 * p), p**-0.5), np.zeros(round(100 * (1 - p)))]
    assert np.mean(x**2) == pytest.approx(1)
    assert np.mean(np.abs(x)) == pytest.approx(np.sqrt(p))
    for s, gain in ((0.98 * np.sqrt(p), 1.0), (1.02 / np.sqrt(p), 0.0)):
        assert gain_library(x, 1.0, s) == pytest.approx(gain, abs=1e-12)
    if p < 1:
        assert 0 < gain_library(x, 1.0, 1.0) < 1


def test_imitating_noise_of_the_box():
    rng = np.random.default_rng(9)
    for _ in range(50):
        sigma, signal, kappa = rng.uniform(0.1, 2), rng.uniform(0.1, 2), rng.uniform(0.1, 0.99)
        s = rng.uniform(kappa, 1 / kappa)
        delta = s * sigma * np.sqrt(signal)
        noise = delta**2 * (1 - kappa / s) / (1 - kappa * s)
        learned = spectral.mse_gain(sigma, signal, noise)
        trained = adversarial.box_almost_sure(sigma, signal, delta, kappa * np.sqrt(signal))
        assert learned == pytest.approx(trained, rel=1e-9)
        assert (noise > delta**2) == (s > 1)
        assert spectral.mse_gain(sigma, signal, delta**2) == pytest.approx(
            adversarial.box_oblivious(sigma, signal, delta)
        )


def test_modes_that_a_finite_noise_imitates():
    kappa = np.sqrt(2 / np.pi)
    sigma, signal = (part[:-1] for part in spectral.model_problem(1.0, 1.0, 100))
    q = sigma * adversarial.box_almost_sure(sigma, signal, 1e-3, kappa * np.sqrt(signal))
    assert (np.flatnonzero((q < 1 - 1e-12) & (q > 0)) + 1).tolist() == list(range(29, 36))
    assert round(1e-3**-0.5, 1) == 31.6


def test_water_by_hand(answers):
    sigma, signal, delta = np.array([1, 0.5, 0.25]), np.ones(3), np.sqrt(0.2)
    np.testing.assert_allclose(answers["water_filling"](sigma, signal, delta), [1, 2, 1])
    assert checks._knapsack(sigma, signal, delta) == pytest.approx(1.55)
    assert adversarial.ball_risk([1, 2, 1], sigma, signal, delta) == pytest.approx(1.55)
    assert adversarial.ball_risk([1, 2, 4], sigma, signal, delta) == pytest.approx(16 * 0.2)
    assert adversarial.ball_risk([1, 2, 0], sigma, signal, delta) == pytest.approx(1 + 4 * 0.2)
    game = adversarial.ball_game(sigma, signal, delta)
    np.testing.assert_allclose(game.erased, [0, 0.55, 1], atol=1e-12)
    assert game.multiplier == pytest.approx(4)


def test_uncorrelated_moments_and_value():
    x = checks.TRUTHS
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(x.T @ x / 3, np.eye(2), atol=1e-15)
    assert checks._knapsack(checks.OPERATOR, np.ones(2), 0.12) == pytest.approx(checks.VALUE)


def test_no_linear_map_beats_the_value():
    """The worst error of a matrix by duality, minimized over all matrices from several starts."""
    a, x, budget = np.diag(checks.OPERATOR), checks.TRUTHS, 0.12**2

    def worst(entries):
        R = entries.reshape(2, 2)
        r = x @ (R @ a - np.eye(2)).T
        top = np.linalg.norm(R, 2) ** 2

        def dual(log_extra):
            price = top + math.exp(log_extra)
            rest = np.linalg.inv(price * np.eye(2) - R.T @ R)
            moved = r @ (np.eye(2) + R @ rest @ R.T).T
            return price * budget + np.mean(np.sum(moved * r, axis=1))

        return optimize.minimize_scalar(dual, bounds=(-16, 4), method="bounded").fun

    rng = np.random.default_rng(10)
    starts = [np.array([1, 0, 0, 0.1]), *rng.uniform(-1, 1.5, (2, 4))]
    options = {"maxfev": 400}
    found = [optimize.minimize(worst, s, method="Nelder-Mead", options=options).fun for s in starts]
    assert min(found) > checks.VALUE - 1e-4
    assert min(found) < checks.VALUE + 0.01  # and the search does come close


def test_worst_error_of_snapping(answers):
    x, decoder = checks.TRUTHS, answers["two_mode_decoder"]
    e = checks._grid(np.linspace(-6, 6, 481), np.linspace(-0.6, 0.6, 17))
    data, cost = (checks.OPERATOR * x)[:, None] + e, (e**2).sum(axis=1)
    errors = ((decoder(data.reshape(-1, 2)).reshape(data.shape) - x[:, None]) ** 2).sum(axis=-1)

    def dual(price):
        return price * 0.12**2 + (errors - price * cost).max(axis=1).mean()

    found = optimize.minimize_scalar(dual, bounds=(0.1, 100), method="bounded").fun
    assert 0.2 < found <= 0.2304
    coarse = checks._worst_of(lambda y: decoder(y.reshape(-1, 2)).reshape(y.shape), e)
    assert coarse == pytest.approx(found, rel=1e-3)
    pairs = {(i, j): ((x[i] - x[j]) ** 2).sum() for i in range(3) for j in range(3) if i != j}
    assert all(v == pytest.approx(6) for v in pairs.values())
    assert (0.5 * 1.5**0.5) ** 2 == pytest.approx(0.375)
    assert 6 * 0.12**2 / 0.375 == pytest.approx(0.2304) and 0.2304 < checks.VALUE / 4
    far = np.array([[60.0, 0.0]])  # a rare attack that the budget allows
    wild = checks.two_mode_decoder.mistakes[3][1](far)
    assert 0.12**2 / 60**2 * ((wild - x[1]) ** 2).sum() > 2


@pytest.mark.parametrize(("b", "want"), [(0.75, -0.4), (1.0, 0.0), (1.5, 0.5)])
def test_white_noise_slopes(b, want):
    """The orders of the solution, measured where 20 000 modes suffice."""
    deltas = np.geomspace(1e-3, 1e-5, 9)
    sigma, signal = (part[:-1] for part in spectral.model_problem(1.0, b, 100_000))
    slope = spectral.slope(deltas, [white_library(sigma, signal, d) for d in deltas])
    assert slope == pytest.approx(want, abs=0.07)
    assert 2 * (2 * b - 2) / (2 * b + 1) == pytest.approx(want)


def test_least_lipschitz_numbers(answers):
    sigma, signal = (part[:-1] for part in spectral.model_problem(1.0, 1.0, 200))
    noise = np.full(200, 1e-4)
    wiener = sigma * signal / (sigma**2 * signal + noise)
    least = np.sum((1 - sigma * wiener) ** 2 * signal + wiener**2 * noise)

    def tikhonov(log_alpha):
        g = sigma / (sigma**2 + math.exp(log_alpha))
        return np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise)

    best = optimize.minimize_scalar(tikhonov, bounds=(-12, 0), method="bounded").fun
    assert best > 1.1 * least  # so no Tikhonov filter takes part
    bound = answers["least_lipschitz"](sigma, signal, noise, 0.1)
    g = np.minimum(wiener, bound)
    assert np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise) == pytest.approx(1.1 * least)
    assert bound < 0.7 * wiener.max()


@pytest.mark.parametrize("tau", [0.05, 0.5, 2.0])
def test_attack_on_image_and_data(tau):
    """The filter of the solution, against an adversary that has eta and e by themselves."""
    sigma, signal, delta = 1 / np.arange(1, 6), np.array([1, 0.5, 0.3, 0.1, 0.05]), 0.4
    turned = sigma / np.sqrt(sigma**2 + tau**2)
    value = checks._knapsack(turned, signal, delta)
    price = 1 / checks._level(turned, signal, delta)
    g = np.minimum(1 / sigma, price * sigma / (sigma**2 + tau**2))
    prices = price * np.linspace(0.5, 2, 3001)
    worst = np.zeros(prices.size)
    for s, p, gain in zip(sigma, signal, g, strict=True):
        # max over (eta, e) of (a.z - b)^2 - price |z|^2 with z = (eta, e / tau)
        reach = gain**2 * (s**2 + tau**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            bought = (1 - gain * s) ** 2 * p * prices / (prices - reach)
        bought = np.where(prices > reach * (1 - 1e-12), bought, np.inf)
        worst += np.nan_to_num(bought, nan=0.0, posinf=np.inf)
    risk = (prices * delta**2 + worst).min()
    assert risk == pytest.approx(value, rel=1e-3)
    game = adversarial.ball_game(turned, signal, delta)
    assert game.value == pytest.approx(value)
    np.testing.assert_allclose(game.gain / np.sqrt(sigma**2 + tau**2), g, rtol=1e-9)


def test_without_salt_the_inverse_comes_back():
    sigma, signal, delta = 1 / np.arange(1, 6), np.array([1, 0.5, 0.3, 0.1, 0.05]), 0.6
    for tau, close in ((1e-1, 0.5), (1e-3, 1e-4)):
        price = 1 / checks._level(sigma / np.sqrt(sigma**2 + tau**2), signal, delta)
        g = np.minimum(1 / sigma, price * sigma / (sigma**2 + tau**2))
        assert np.abs(sigma * g - 1).max() < close
        assert price - 1 < 30 * tau**2


def test_dead_zone_numbers(answers):
    loss = answers["almost_sure_loss"]
    for delta, linear_loss in ((1.0, 0.8989), (1.25, 0.9999)):
        best = optimize.minimize_scalar(
            lambda g, d=delta: loss(lambda z: g * z, d), bounds=(0, 1), method="bounded"
        )
        assert best.fun == pytest.approx(linear_loss, abs=2e-4)
        assert checks._best_linear(delta) == pytest.approx(linear_loss, abs=5e-4)
        y, width = checks._data_grid(checks._X, delta)
        assert width * checks._STEP == pytest.approx(delta)
        curved = answers["dead_zone"](y, delta)
        assert checks._almost_sure_loss(curved, checks._X, width) == pytest.approx(
            loss(lambda z, d=delta: answers["dead_zone"](z, d), delta), abs=2e-3
        )
        lower = adversarial.almost_sure_decoder(delta, spacing=0.125, gap=2e-3).lower
        assert (
            lower - 0.01 < checks._almost_sure_loss(curved, checks._X, width) < 1.03 * lower + 0.01
        )
        threshold = np.abs(y[curved == 0]).max()
        assert 0 < threshold < delta
    gain = adversarial.box_almost_sure(1.0, 1.0, 1.25, np.sqrt(2 / np.pi)).item()
    assert round(gain, 3) == 0.005


def test_training_numbers(answers):
    """Other seeds than the notebook's."""
    sigma = 1 / np.arange(1, 9)
    for seed in (1, 2):
        x = np.random.default_rng(seed).standard_normal((200, 8)) * sigma
        power = (x**2).mean(axis=0)
        game = adversarial.ball_game(sigma, power, 0.15)

        def excess(g, power=power, game=game):
            return adversarial.ball_risk(g, sigma, power, 0.15) / game.value - 1

        trained = answers["train_filter"](sigma, x, 0.15)
        each, _ = adversarial.train_gain(
            sigma, x, threat="almost sure", geometry="ball", delta=0.15, steps=300, lr=0.05
        )
        assert excess(trained) < 0.01 < 0.03 < excess(checks.trains_on_noise(sigma, x, 0.15))
        assert excess(each) < 0.03 and np.abs(sigma * (each - game.gain)).max() > 0.08
