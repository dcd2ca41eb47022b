"""Filters under attack, each against a brute-force solution of the very game it claims to solve."""

from __future__ import annotations

import inspect
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog, minimize, minimize_scalar

from advreg import adversarial as adv
from advreg.adversarial import THREATS

KAPPA = np.sqrt(2 / np.pi)


# ------------------------------------------------------------------------- brute force


def loss(threat: str, g: float, delta: float, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """The loss of one mode, by letting the adversary choose (no formula of the library)."""
    r = g * y - x
    if threat == "oblivious":  # a convex function of e: an end of the interval is worst
        return max(w @ (r + g * e) ** 2 for e in (-delta, delta))
    if threat == "almost sure":
        return w @ np.maximum((r + g * delta) ** 2, (r - g * delta) ** 2)
    # In mean: all e with E e^2 = delta^2, along the residual or, if there is none, constant.
    size = np.sqrt(w @ r**2)
    e = delta * (r / size if size > 0 else np.ones_like(r))
    return max(w @ (r + g * e) ** 2, w @ (r - g * e) ** 2)


def least(threat: str, delta: float, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """The least loss, by a convex minimization that also tries every kink."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kinks = np.r_[0.0, x / y, (w @ x) / (w @ y), (w @ (x * y)) / (w @ y**2)]
    kinks = np.unique(kinks[np.isfinite(kinks)])
    best = min(loss(threat, g, delta, x, y, w) for g in kinks)
    far = 2 * np.abs(kinks).max() + 1e-3
    ends = np.r_[-far, kinks, far]
    for low, high in itertools.pairwise(ends):
        if high > low:
            found = minimize_scalar(
                lambda g: loss(threat, g, delta, x, y, w),
                bounds=(low, high),
                method="bounded",
                options={"xatol": 1e-12 * far},
            )
            best = min(best, found.fun)
    return best


def laws(count: int, seed: int, *, symmetric: bool, noisy: bool):
    """Random discrete laws (sigma, delta, x, noise, weights), a third of them degenerate."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        m = int(rng.integers(1, 5))
        x = rng.standard_normal(m) * 10.0 ** rng.uniform(-1, 1)
        w = rng.uniform(0.1, 1, m)
        if i % 6 == 0:
            x[0] = 0.0
        if i % 6 == 1:
            x = np.abs(x[0]) * np.sign(rng.standard_normal(m))
        if symmetric:
            x, w = np.r_[x, -x], np.r_[w, w]
        w = w / w.sum()
        sigma = 10.0 ** rng.uniform(-1.5, 0.5)
        e = np.zeros_like(x)
        if noisy:
            e = rng.standard_normal(x.size) * sigma * np.abs(x).max() * rng.uniform(0.0, 1.5)
            j = rng.integers(x.size)
            e[j] = (0.0, -sigma * x[j], e[j])[i % 3]  # no noise, no data, or any
        power, m1 = w @ x**2, w @ np.abs(x)
        root = sigma * np.sqrt(power)
        shape = m1 / np.sqrt(power) if power > 0 else 1.0
        delta = root * 10.0 ** rng.uniform(-1, 1)
        if i % 8 == 2:
            delta = root * (shape, 1 / shape, 1.0, 1 + 1e-9, 1 - 1e-9, 0.0)[i // 8 % 6]
        yield sigma, delta, x, e, w


def powers(x: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    return float(w @ x**2), float(w @ np.abs(x))


# --------------------------------------------------------------------------- box attacks


def test_noise_free_box_filters_minimize_their_losses() -> None:
    """Theorem 'thm-box-filters' on 208 symmetric laws, thresholds hit exactly among them."""
    for sigma, delta, x, _, w in laws(208, 1, symmetric=True, noisy=False):
        power, m1 = powers(x, w)
        filters = {
            "oblivious": adv.box_oblivious(sigma, power, delta),
            "in mean": adv.box_in_mean(sigma, power, delta),
            "almost sure": adv.box_almost_sure(sigma, power, delta, m1),
        }
        for threat, g in filters.items():
            best = least(threat, delta, x, sigma * x, w)
            ours = loss(threat, float(g), delta, x, sigma * x, w)
            assert ours <= best * (1 + 1e-9) + 1e-28, (threat, sigma, delta, x)
            assert ours >= best * (1 - 1e-7) - 1e-28


def test_box_fit_minimizes_every_loss_for_every_law() -> None:
    """Asymmetric laws, correlated noise, atoms: nothing is assumed."""
    for noisy in (False, True):
        for sigma, delta, x, e, w in laws(104, 2 + noisy, symmetric=False, noisy=noisy):
            for threat in THREATS:
                g = adv.box_fit(threat, sigma, delta, x[:, None], e[:, None], weights=w)[0]
                best = least(threat, delta, x, sigma * x + e, w)
                ours = loss(threat, g, delta, x, sigma * x + e, w)
                assert ours <= best * (1 + 1e-9) + 1e-26, (threat, sigma, delta, x, e, w)
                assert_allclose(
                    adv.box_loss(threat, g, sigma, delta, x[:, None], e[:, None], weights=w)[0],
                    ours,
                    rtol=1e-12,
                    atol=1e-28,
                )


def test_loss_in_mean_is_the_supremum_over_adversaries() -> None:
    """The step that `loss` above takes over from the formula: e along r is the worst."""
    rng = np.random.default_rng(3)
    x, e, w = rng.standard_normal((3, 6))
    w = np.abs(w) / np.abs(w).sum()
    sigma, g, delta = 0.7, 0.9, 0.4
    r = g * (sigma * x + e) - x
    found = minimize(
        lambda a: -(w @ (r + g * a) ** 2),
        delta * rng.standard_normal(6),
        constraints={"type": "ineq", "fun": lambda a: delta**2 - w @ a**2},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    ours = adv.box_loss("in mean", g, sigma, delta, x[:, None], e[:, None], weights=w)
    assert_allclose(-found.fun, ours[0], rtol=1e-7)


def test_fit_agrees_with_the_closed_forms_on_centred_samples() -> None:
    rng = np.random.default_rng(4)
    sigma = 1 / np.arange(1, 41.0)
    x = rng.laplace(size=(300, 40)) / np.arange(1, 41)
    x = np.vstack([x, -x])
    x[:, 7], x[:, 8] = 0.0, 0.3 * np.sign(x[:, 8])
    power, m1 = (x**2).mean(axis=0), np.abs(x).mean(axis=0)
    for delta in (0.0, 0.003, sigma[8] * 0.3, 0.2):
        pairs = [
            ("oblivious", adv.box_oblivious(sigma, power, delta)),
            ("in mean", adv.box_in_mean(sigma, power, delta)),
            ("almost sure", adv.box_almost_sure(sigma, power, delta, m1)),
        ]
        for threat, g in pairs:
            assert_allclose(sigma * adv.box_fit(threat, sigma, delta, x), sigma * g, atol=1e-9)
            assert g[7] == 0


def test_a_tie_keeps_the_larger_gain() -> None:
    sigma, power = np.array([0.3, 0.7, 1.0]), np.array([1.7, 0.2, 1.0])
    delta = sigma * np.sqrt(power)
    assert_allclose(adv.box_in_mean(sigma, power, delta), 1 / sigma, rtol=1e-15)
    assert_allclose(adv.box_almost_sure(sigma, power, delta, np.sqrt(power)), 1 / sigma, rtol=1e-15)
    assert_array_equal(adv.box_in_mean(sigma, power, delta * (1 + 1e-12)), 0)
    assert_array_equal(adv.box_almost_sure(sigma, power, delta * (1 + 1e-12), np.sqrt(power)), 0)
    for off in (np.nextafter(delta, 9), np.nextafter(delta, 0)):  # ties up to rounding
        assert_allclose(adv.box_in_mean(sigma, power, off), 1 / sigma, rtol=1e-15)
        assert_allclose(
            adv.box_almost_sure(sigma, power, off, np.sqrt(power)), 1 / sigma, rtol=1e-15
        )
    x = np.sqrt(power) * np.array([[1.0], [-1.0]])
    for threat in THREATS[1:]:
        assert_allclose(adv.box_fit(threat, sigma, delta, x), 1 / sigma, rtol=1e-13)
    # s exactly kappa and 1 / kappa: the ends of the continuous regimes
    kappa = 0.6
    s = np.array([kappa, 1 / kappa, 1 / kappa * (1 - 1e-6), kappa * (1 + 1e-6)])
    q = adv.box_almost_sure(1.0, 1.0, s, kappa)
    assert q[0] == 1 and q[1] == pytest.approx(0, abs=1e-15)
    assert 0 < q[2] < 1e-5 and 1 - 1e-5 < q[3] < 1
    # with noise there is no tie: the threshold of the soft filter belongs to zero
    assert adv.box_in_mean(0.3, 1.7, 0.3 * np.sqrt(1.7), 0.1) == 0


def test_limits_and_degenerate_modes() -> None:
    sigma, power = np.array([0.5, 0.5, 0.0]), np.array([2.0, 0.0, 3.0])
    for delta in (0.0, 0.3, 1e200):
        for g in (
            adv.box_oblivious(sigma, power, min(delta, 1e100)),
            adv.box_in_mean(sigma, power, delta),
            adv.box_almost_sure(sigma, power, delta, KAPPA * np.sqrt(power)),
            adv.image_space_gain(sigma, power, delta),
            adv.pnp_adversarial_gain(sigma, power, delta, KAPPA * np.sqrt(power)),
            adv.ball_oblivious(sigma, power, min(delta, 1e100))[0],
            adv.ball_game(sigma, power, min(delta, 1e100)).gain,
        ):
            assert_array_equal(g[1:], 0)
            assert delta or g[0] == 2
            assert delta < 1 or g[0] < 1e-90
    # E|x| -> 0 at fixed power is the oblivious filter; E|x| = sqrt(power) is the threshold in mean
    s = np.geomspace(0.01, 100, 41)[:, None]
    assert_allclose(
        adv.box_almost_sure(0.5, 2.0, s, 0.0), adv.box_oblivious(0.5, 2.0, s), rtol=1e-13
    )
    assert_allclose(
        adv.box_almost_sure(0.5, 2.0, s, np.sqrt(2)), adv.box_in_mean(0.5, 2.0, s), rtol=1e-13
    )
    # no attack: the Wiener filter
    wiener = 0.5 * 2 / (0.25 * 2 + 0.3)
    assert adv.box_in_mean(0.5, 2, 0, 0.3) == pytest.approx(wiener, rel=1e-15)
    assert adv.box_oblivious(0.5, 2, 0, 0.3) == pytest.approx(wiener, rel=1e-15)


def test_noisy_filters_minimize_their_losses() -> None:
    """Theorem 'thm-box-noise': the oblivious filter and the soft-thresholded Wiener filter."""
    rng = np.random.default_rng(5)
    for i in range(200):
        sigma, power, noise = 10.0 ** rng.uniform(-1, 1, 3)
        delta = sigma * np.sqrt(power) * 10.0 ** rng.uniform(-1, 0.7)
        if i % 10 == 0:
            delta = np.sqrt(sigma**2 * power + noise)  # delta^2 = S
        g = {
            "oblivious": adv.box_oblivious(sigma, power, delta, noise),
            "in mean": adv.box_in_mean(sigma, power, delta, noise),
        }
        p, q = np.array([np.sqrt(power), 0]), np.array([sigma * np.sqrt(power), np.sqrt(noise)])
        risks = {
            "oblivious": lambda h, p=p, q=q, d=delta: np.sum((p - h * q) ** 2) + (d * h) ** 2,
            "in mean": lambda h, p=p, q=q, d=delta: (np.linalg.norm(p - h * q) + d * abs(h)) ** 2,
        }
        for threat, risk in risks.items():
            best = min(
                risk(0.0),
                minimize_scalar(
                    risk, bounds=(0, 1 / sigma), method="bounded", options={"xatol": 1e-13}
                ).fun,
            )
            assert risk(float(g[threat])) <= best * (1 + 1e-10)
            ours = adv.box_risk(threat, g[threat], sigma, power, delta, noise)
            assert ours == pytest.approx(risk(float(g[threat])), rel=1e-12)
        assert (g["in mean"] == 0) == (delta >= sigma * np.sqrt(power))


def test_soft_wiener_formula_of_the_text() -> None:
    s, p, n = 0.4, 1.3, 0.05
    size = s**2 * p + n
    for d in (0.05, 0.2, 0.4):
        text = s * p / size - d * np.sqrt(p * n) / (size * np.sqrt(size - d**2))
        assert adv.box_in_mean(s, p, d, n) == pytest.approx(max(text, 0), rel=1e-12)


def test_box_risk_is_the_loss_of_samples_with_these_moments() -> None:
    rng = np.random.default_rng(6)
    x, e = rng.standard_normal((2, 50, 3))
    x, e = np.vstack([x, x, -x, -x]), np.vstack([e, -e, e, -e])  # centred and uncorrelated
    sigma, delta, g = np.array([1, 0.5, 0.2]), np.array([0.1, 0.2, 0.0]), rng.uniform(-1, 2, (4, 3))
    power, noise = (x**2).mean(axis=0), (e**2).mean(axis=0)
    for threat in THREATS[:2]:
        assert_allclose(
            adv.box_risk(threat, g, sigma, power, delta, noise),
            adv.box_loss(threat, g, sigma, delta, x, e),
            rtol=1e-12,
        )
    order = [
        adv.box_loss(t, g, sigma, delta, x, e) for t in ("oblivious", "almost sure", "in mean")
    ]
    assert (np.diff(np.array(order), axis=0) >= -1e-12).all()
    assert (order[2] <= 2 * order[0] + 1e-12).all()


def test_oblivious_loss_of_a_law_that_is_not_centred() -> None:
    """x in {0, 2}, g = 1/2, delta = 1: 1.25, not the .75 of the centred formula."""
    assert adv.box_loss("oblivious", [0.5], [1.0], 1.0, [[0.0], [2.0]])[0] == pytest.approx(1.25)


@settings(max_examples=200)
@given(kappa=st.floats(0, 1), s=st.floats(1e-6, 1e6))
def test_box_filters_are_admissible(kappa: float, s: float) -> None:
    """0 <= q <= 1, 1 - q <= min(1, s), s q <= 1: what Theorem 'thm-box-regularization' needs."""
    for q in (
        adv.box_oblivious(1.0, 1.0, s),
        adv.box_in_mean(1.0, 1.0, s),
        adv.box_almost_sure(1.0, 1.0, s, kappa),
    ):
        assert 0 <= q <= 1
        assert 1 - q <= min(1, s) + 1e-14
        assert s * q <= 1 + 1e-14


def test_grids_broadcast() -> None:
    sigma, power = 1 / np.arange(1, 6.0), 1 / np.arange(1, 6.0) ** 2
    x = np.random.default_rng(7).standard_normal((20, 5))
    grid = np.array([0.0, 0.01, 0.3])[:, None]
    for make in (
        lambda d: adv.box_oblivious(sigma, power, d),
        lambda d: adv.box_in_mean(sigma, power, d, 0.01),
        lambda d: adv.box_almost_sure(sigma, power, d, KAPPA * np.sqrt(power)),
        lambda d: adv.image_space_gain(sigma, power, d),
        lambda d: adv.pnp_adversarial_gain(sigma, power, d, KAPPA * np.sqrt(power)),
        lambda d: adv.pareto_gain(sigma, power, 0.1, d),
        lambda d: adv.box_fit("almost sure", sigma, d, x),
        lambda d: adv.box_loss("almost sure", np.ones(5), sigma, d, x),
        lambda d: adv.box_loss("in mean", np.ones((3, 1)), sigma, d, x),
    ):
        together = make(grid)
        assert together.shape == (3, 5)
        rows = [np.broadcast_to(make(d), (3, 5))[i] for i, d in enumerate(grid[:, 0])]
        assert_array_equal(together, rows)


# -------------------------------------------------------------------------- ball attacks


def spectra(count: int, seed: int):
    """Unordered spectra with ties, sigma = 0, Pi = 0, and budgets that hit cumulative sums."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        k = int(rng.integers(1, 8))
        sigma, signal = 10.0 ** rng.uniform(-2, 0.5, k), 10.0 ** rng.uniform(-2, 1, k)
        if i % 3 == 0:
            sigma = rng.choice([0.25, 0.5, 1.0, 2.0], k)
        if i % 4 == 0:
            signal[rng.integers(k)] = 0.0
        if i % 5 == 0:
            sigma[rng.integers(k)] = 0.0
        energy = np.cumsum(np.sort(sigma**2 * signal))
        budget = energy[-1] * rng.uniform(0.0, 1.1) ** 3
        if i % 2 == 0:
            budget = energy[rng.integers(k)]
        yield sigma, signal, np.sqrt(budget)


def split_risk(
    g: np.ndarray, sigma: np.ndarray, signal: np.ndarray, delta: float, noise: np.ndarray
) -> float:
    """Worst risk by splitting the budget over the modes (a concave maximization in the squares):
    mode n gets b_n and does (sqrt(v_n) + |g_n| sqrt(b_n))^2."""
    v, h = np.sqrt((1 - sigma * g) ** 2 * signal + g**2 * noise), np.abs(g)

    def risk(a: np.ndarray) -> float:
        return float(np.sum((v + h * np.abs(a)) ** 2))

    best = max(risk(delta * row) for row in np.eye(g.size))
    rng = np.random.default_rng(0)
    for _ in range(4):
        a = np.abs(rng.standard_normal(g.size))
        for _ in range(800):  # ascent of a convex function on a sphere
            a = a / np.linalg.norm(a) * delta
            rise = h * (v + h * a)
            if not rise.any():
                break
            a = rise
        best = max(best, risk(a / (np.linalg.norm(a) or 1) * delta))
    return best


def test_ball_game_is_the_fractional_knapsack() -> None:
    """Theorem 'thm-ball-game': filter, value and adversary on 150 spectra."""
    for sigma, signal, delta in spectra(150, 8):
        game = adv.ball_game(sigma, signal, delta)
        energy = sigma**2 * signal
        bag = linprog(-signal, A_ub=energy[None], b_ub=[delta**2], bounds=(0, 1))
        assert game.value == pytest.approx(-bag.fun, rel=1e-9, abs=1e-15)
        # the adversary: erases with these probabilities, pays at most the budget, forces V
        t = game.erased
        assert ((t >= 0) & (t <= 1)).all()
        assert t @ energy <= delta**2 * (1 + 1e-11)
        assert t @ signal == pytest.approx(game.value, rel=1e-11, abs=1e-15)
        # the filter: no adversary does better against it
        worst = adv.ball_risk(game.gain, sigma, signal, delta)
        assert worst == pytest.approx(game.value, rel=1e-9, abs=1e-13)
        assert_array_equal(game.gain[energy == 0], 0)
        seen = energy > 0
        assert_allclose(
            game.gain[seen],
            np.minimum(1 / sigma[seen], game.multiplier * sigma[seen]),
            rtol=1e-14,
        )
        assert game.cut == np.count_nonzero(np.isclose(sigma * game.gain, 1) & seen)


def test_ball_game_against_random_competitors() -> None:
    rng = np.random.default_rng(9)
    for sigma, signal, delta in spectra(25, 10):
        game = adv.ball_game(sigma, signal, delta)
        for size in (1e-4, 1e-2, 0.3):
            for _ in range(3):
                rival = game.gain * (1 + size * rng.standard_normal(sigma.size))
                assert adv.ball_risk(rival, sigma, signal, delta) >= game.value * (1 - 1e-9)
        if (sigma > 0).all() and delta > 0:
            q = minimize(
                lambda q, s=sigma, p=signal, d=delta: adv.ball_risk(q / s, s, p, d),
                sigma * game.gain,
                method="Nelder-Mead",
                options={"maxfev": 150},
            )
            assert q.fun >= game.value * (1 - 1e-9)


def test_ball_game_conventions() -> None:
    sigma, signal = np.array([1.0, 0.5, 0.25]), np.ones(3)
    energy = sigma**2
    whole = adv.ball_game(sigma, signal, np.sqrt(energy.sum()))
    assert (whole.multiplier, whole.value, whole.cut) == (0.0, 3.0, 0)
    assert_array_equal(whole.gain, 0)
    assert_array_equal(whole.erased, 1)
    none = adv.ball_game(sigma, signal, 0.0)
    assert (none.multiplier, none.value, none.cut) == (np.inf, 0.0, 3)
    assert_array_equal(none.gain, 1 / sigma)
    assert adv.ball_game(sigma, signal, 1e-200).value == 0
    # delta^2 = the energy of the last mode: lambda in [4, 16], the smallest is returned
    tie = adv.ball_game(sigma, signal, sigma[2])
    assert tie.multiplier == 4 and tie.cut == 2 and tie.value == pytest.approx(1.0)
    assert_array_equal(tie.erased, [0, 0, 1])
    # what A does not see is lost, at no cost
    blind = adv.ball_game(np.r_[sigma, 0.0], np.r_[signal, 7.0], 0.3)
    plain = adv.ball_game(sigma, signal, 0.3)
    assert blind.value == pytest.approx(plain.value + 7, rel=1e-15)
    assert blind.erased[3] == 1 and blind.gain[3] == 0 and blind.multiplier == plain.multiplier
    # the game of nothing
    empty = adv.ball_game(sigma, np.zeros(3), 0.1)
    assert empty.value == 0 and empty.multiplier == 0 and not empty.gain.any()
    # a vector of radii is the stack of the single games
    radii = np.array([0.0, 0.1, 0.3, 2.0])
    for noise in (0.0, 0.02):
        together = adv.ball_in_mean(sigma, signal, radii, noise)
        for name in adv.Game._fields:
            single = [getattr(adv.ball_in_mean(sigma, signal, d, noise), name) for d in radii]
            assert_array_equal(getattr(together, name), single)


def test_ball_risk_is_the_supremum() -> None:
    """Against a direct ascent over the split of the budget, hard cases included."""
    rng = np.random.default_rng(11)
    for i, (sigma, signal, delta) in enumerate(spectra(60, 12)):
        g = rng.uniform(-1, 2, sigma.size)
        noise = np.where(rng.random(sigma.size) < 0.5, 0.0, rng.uniform(0, 1, sigma.size))
        if i % 2 == 0 and (sigma > 0).all():  # the largest gain has no error
            n = np.argmin(sigma)
            g, noise[n] = np.minimum(np.abs(g), 1 / sigma[n]), 0.0
            g[n] = 1 / sigma[n]
        ours = adv.ball_risk(g, sigma, signal, delta, noise)
        direct = split_risk(g, sigma, signal, delta, noise)
        assert ours >= direct * (1 - 1e-10)
        assert ours == pytest.approx(direct, rel=2e-4, abs=1e-13)
    assert adv.ball_risk([0.0, 0.0], [1.0, 0.5], [2.0, 3.0], 0.7) == 5.0
    assert adv.ball_risk([1.0, 2.0], [1.0, 0.5], [2.0, 3.0], 0.7) == pytest.approx(4 * 0.49)
    rows = adv.ball_risk(np.ones((3, 2)), [1.0, 0.5], [2.0, 3.0], np.array([0.1, 0.2, 0.3]))
    assert_allclose(rows, [adv.ball_risk([1, 1], [1, 0.5], [2, 3], d) for d in (0.1, 0.2, 0.3)])


def test_noisy_ball_game_in_two_modes() -> None:
    """Against a plain search over the plane of gains, the risk itself by scanning the splits."""
    rng = np.random.default_rng(13)
    part = np.sin(np.linspace(0, np.pi / 2, 2001))
    other = np.cos(np.linspace(0, np.pi / 2, 2001))
    for i in range(12):
        sigma, signal = rng.uniform(0.2, 1, 2), rng.uniform(0.3, 2, 2)
        noise = rng.uniform(0.01, 0.5, 2) * (np.array([1, 0]) if i % 3 == 0 else 1)
        delta = np.sqrt(sigma**2 @ signal * rng.uniform(0.05, 0.9))

        def risk(g: np.ndarray, s=sigma, p=signal, n=noise, d=delta) -> float:
            v, h = np.sqrt((1 - s * g) ** 2 * p + g**2 * n), np.abs(g)
            return np.max((v[0] + h[0] * d * part) ** 2 + (v[1] + h[1] * d * other) ** 2)

        game = adv.ball_in_mean(sigma, signal, delta, noise)
        found = min(
            (
                minimize(risk, start / sigma, method="Nelder-Mead", options={"xatol": 1e-7})
                for start in ([0.5, 0.5], [0.1, 0.9])
            ),
            key=lambda f: f.fun,
        )
        assert game.value == pytest.approx(found.fun, rel=3e-6)
        assert adv.ball_risk(game.gain, sigma, signal, delta, noise) == pytest.approx(
            game.value, rel=1e-9
        )


def test_noisy_ball_game_is_a_saddle() -> None:
    """The attack e = g r / (lambda - g^2) costs the budget, and g is the regression on its data."""
    rng = np.random.default_rng(14)
    for i, (sigma, signal, delta) in enumerate(spectra(150, 15)):
        noise = 10.0 ** rng.uniform(-3, 0, sigma.size)
        if i % 3 == 0:
            noise[rng.random(sigma.size) < 0.5] = 0.0
        game = adv.ball_in_mean(sigma, signal, delta, noise)
        worst = adv.ball_risk(game.gain, sigma, signal, delta, noise)
        assert worst == pytest.approx(game.value, rel=1e-8, abs=1e-13)
        g, price = game.gain, game.multiplier
        energy = sigma**2 * signal
        if delta == 0:
            continue
        if delta**2 >= energy.sum() * (1 - 1e-12):
            assert price == 0 and not g.any() and game.value == pytest.approx(signal.sum())
            continue
        noisy = (noise > 0) & (energy > 0)
        assert (g[noisy] ** 2 < price).all()
        v = (1 - sigma * g) ** 2 * signal + g**2 * noise
        with np.errstate(divide="ignore", invalid="ignore"):
            c = np.where(noisy, g / (price - g**2), 0.0)
        cost = np.where(noisy, c**2 * v, game.erased * energy)
        assert cost.sum() == pytest.approx(delta**2, rel=1e-8)
        xy = sigma * signal + c * (sigma * g - 1) * signal  # E x y* of y* = y + c r
        yy = (1 + c * g) ** 2 * noise + (sigma + c * (sigma * g - 1)) ** 2 * signal
        assert_allclose(xy[noisy] / yy[noisy], g[noisy], rtol=1e-8)
        assert_allclose(
            1 - xy[noisy] / (sigma * signal)[noisy], game.erased[noisy], rtol=1e-6, atol=1e-9
        )


def test_noisy_ball_game_tends_to_the_other_two() -> None:
    sigma, signal = 1 / np.arange(1, 30.0), np.arange(1, 30.0) ** -2
    limit, near = adv.ball_game(sigma, signal, 0.05), adv.ball_in_mean(sigma, signal, 0.05, 1e-14)
    assert near.value == pytest.approx(limit.value, rel=1e-5)
    assert_allclose(near.gain, limit.gain, rtol=1e-4)
    wiener = adv.ball_in_mean(sigma, signal, 0.0, 1e-3)
    assert_allclose(wiener.gain, sigma * signal / (sigma**2 * signal + 1e-3), rtol=1e-14)
    assert wiener.value == pytest.approx(np.sum(signal * 1e-3 / (sigma**2 * signal + 1e-3)))
    small = adv.ball_in_mean(sigma, signal, 1e-7, 1e-3)
    assert_allclose(small.gain, wiener.gain, rtol=1e-4)
    # isotropic: the scalar formula with total energies
    power, noise, d = 2.0, 0.3, 0.8
    total, rest = 5 * power, 5 * noise
    alpha = total / (total + rest) - d * np.sqrt(total * rest) / (
        (total + rest) * np.sqrt(total + rest - d**2)
    )
    same = adv.ball_in_mean(np.ones(5), np.full(5, power), d, noise)
    assert_allclose(same.gain, alpha, rtol=1e-10)


def test_ball_oblivious_minimizes_risk_plus_largest_gain() -> None:
    rng = np.random.default_rng(16)
    for i, (sigma, signal, delta) in enumerate(spectra(60, 17)):
        noise = 0.0 if i % 3 == 0 else rng.uniform(0.0, 1.0, sigma.size)
        g, level = adv.ball_oblivious(sigma, signal, delta, noise)

        def risk(h: np.ndarray, s=sigma, p=signal, n=noise, d=delta) -> float:
            return float(np.sum((1 - s * h) ** 2 * p + h**2 * n) + d**2 * np.max(h**2))

        # epigraph form, smooth: minimize the risk + delta^2 t^2 subject to |g_n| <= t
        k = sigma.size
        found = minimize(
            lambda z, s=sigma, p=signal, n=noise, d=delta: (
                np.sum((1 - s * z[:-1]) ** 2 * p + z[:-1] ** 2 * n) + d**2 * z[-1] ** 2
            ),
            np.r_[np.full(k, 0.1), 0.2],
            constraints={"type": "ineq", "fun": lambda z: z[-1] - z[:-1]},
            options={"ftol": 1e-13, "maxiter": 300},
        )
        assert risk(g) <= risk(found.x[:-1]) + 1e-10
        for size in (1e-5, 1e-2):
            for _ in range(5):
                assert risk(g) <= risk(g + size * rng.standard_normal(k)) + 1e-13
        # the equation of the text
        s2 = sigma**2 * signal + noise
        over = sigma * signal > level * s2 * (1 + 1e-12)
        right = np.sum((sigma * signal - level * s2)[over])
        assert delta**2 * level == pytest.approx(right, rel=1e-9, abs=1e-13)
    radii = np.array([0.0, 0.1, 1.0])
    g, level = adv.ball_oblivious(sigma, signal, radii, 0.1)
    for d, row, t in zip(radii, g, level, strict=True):
        single = adv.ball_oblivious(sigma, signal, d, 0.1)
        assert_array_equal(row, single[0])
        assert t == single[1]
    assert adv.ball_oblivious([1.0], [0.0], 0.0) == (0.0, 0.0)


def test_pareto_gain_is_best_among_all_matrices() -> None:
    """Full 3 x 3 matrices with ||R|| <= L, not only diagonal ones."""
    rng = np.random.default_rng(18)
    for bound in (0.3, 0.8, 2.0):
        sigma, signal, noise = (
            rng.uniform(0.2, 1, 3),
            rng.uniform(0.3, 2, 3),
            rng.uniform(0, 0.5, 3),
        )
        g = adv.pareto_gain(sigma, signal, noise, bound)
        best = np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise)

        def risk(z: np.ndarray, s=sigma, p=signal, n=noise) -> float:
            r = z.reshape(3, 3)
            return np.sum((r * s - np.eye(3)) ** 2 * p) + np.sum(r**2 * n)

        found = minimize(
            risk,
            0.1 * rng.standard_normal(9),
            constraints={
                "type": "ineq",
                "fun": lambda z, b=bound: (
                    b**2 - np.linalg.eigvalsh(z.reshape(3, 3).T @ z.reshape(3, 3))
                ),
            },
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert found.fun == pytest.approx(best, rel=1e-6)
        assert (g <= bound).all()
    assert_array_equal(adv.pareto_gain(sigma, signal, noise, 0.0), 0)


# ------------------------------------------------------------- images, denoisers, decoders


def test_image_space_attacks() -> None:
    rng = np.random.default_rng(19)
    for _ in range(40):
        sigma, power, delta = 10.0 ** rng.uniform(-2, 0.5, 3)
        x, w = np.sqrt(power) * np.array([1.0, -1.0]), np.array([0.5, 0.5])
        g = float(adv.image_space_gain(sigma, power, delta))
        best = least("in mean", sigma * delta, x, sigma * x, w)
        assert loss("in mean", g, sigma * delta, x, sigma * x, w) <= best * (1 + 1e-10)
    assert adv.image_space_gain(0.01, 4.0, 2.0) == 100


def test_denoiser_is_the_proximal_map_of_its_penalty() -> None:
    rng = np.random.default_rng(20)
    for _ in range(60):
        power, kappa = 10.0 ** rng.uniform(-1, 1), rng.uniform(0.05, 1)
        m1, delta = kappa * np.sqrt(power), np.sqrt(power) * 10.0 ** rng.uniform(-1, 1)
        penalty = float(adv.denoiser_penalty(power, delta, m1))
        d = float(adv.box_almost_sure(1.0, power, delta, m1))
        assert d == pytest.approx(1 / (1 + penalty), rel=1e-10)  # minimizes (z-y)^2 + penalty z^2
        sigma = rng.uniform(0.05, 1)
        x, y = 0.0, 1.7
        for _ in range(6000):
            x = d * (x - sigma * (sigma * x - y))
        g = float(adv.pnp_adversarial_gain(sigma, power, delta, m1))
        assert x == pytest.approx(g * y, rel=1e-4, abs=1e-12)
    assert_array_equal(
        adv.denoiser_penalty(
            [1.0, 1.0, 1.0, 0.0, 4.0], [0.0, 0.5, 2.0, 0.0, 2.0], [0.5, 0.5, 0.5, 0.0, 2.0]
        ),
        [0, 0, np.inf, np.inf, 0],
    )


@pytest.mark.parametrize(
    ("delta", "low", "high"),
    [(0.4, 0.1598, 0.1601), (0.8, 0.6127, 0.6131), (1.0, 0.8312, 0.8318), (1.25, 0.9569, 0.9576)],
)
def test_decoder_of_a_gaussian(delta: float, low: float, high: float) -> None:
    """Numbers of an independent linear program, and the linear decoder as a competitor."""
    found = adv.almost_sure_decoder(delta)
    assert low <= found.lower <= found.value <= high
    assert found.value - found.lower <= 2e-4
    x = found.grid[np.abs(found.grid) <= 4 + 1e-9]
    w = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
    width = (found.grid.size - x.size) // 2
    attained = max_loss(found.decoder, x, width, w)
    assert attained == pytest.approx(found.value, rel=1e-9)
    gain = float(adv.box_almost_sure(1.0, 1.0, delta, KAPPA))
    assert max_loss(gain * found.grid, x, width, w) >= found.lower
    assert_array_equal(found.decoder, -found.decoder[::-1])
    if delta == 1.25:  # the dead zone
        f = np.interp([-1.0, 0.0, 1.0, 2.0], found.grid, found.decoder)
        assert_allclose(f, [0, 0, 0, 1.5], atol=0.02)


def max_loss(f: np.ndarray, x: np.ndarray, width: int, w: np.ndarray) -> float:
    """E max (f(x + e) - x)^2, attack by attack."""
    worst = np.zeros_like(x)
    for shift in range(2 * width + 1):
        worst = np.maximum(worst, (f[shift : shift + x.size] - x) ** 2)
    return float(w @ worst)


def test_decoder_of_a_small_law() -> None:
    """Signal values -1, 0, 1 with attack 1: a search over all decoders of five data."""
    w = np.array([0.3, 0.4, 0.3])
    found = adv.almost_sure_decoder(1.0, [-1.0, 0.0, 1.0], w, gap=1e-7)
    axis = np.linspace(-1, 1, 13)
    table = np.stack(np.meshgrid(*[axis] * 5, indexing="ij")).reshape(5, -1)
    x = np.array([-1.0, 0.0, 1.0])
    worst = np.stack([np.max((table[i : i + 3] - x[i]) ** 2, axis=0) for i in range(3)])
    best = (w @ worst).min()
    assert found.lower <= best + 1e-12
    assert found.value == pytest.approx(best, abs=1e-2)
    assert found.value - found.lower <= 1e-7
    exact = adv.almost_sure_decoder(0.0)
    assert exact.value <= 2e-4
    assert_array_equal(exact.grid, np.sort(exact.grid))


# ------------------------------------------------------------------------------ training


def samples(count: int, k: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((count, k)) / np.arange(1, k + 1)
    return np.vstack([x, -x])


def test_training_finds_the_box_filters() -> None:
    sigma, x = 1 / np.arange(1, 21.0), samples(100, 20, 21)
    for threat in THREATS:
        g, losses = adv.train_gain(sigma, x, threat=threat, delta=0.02, steps=700, lr=0.03)
        exact = adv.box_fit(threat, sigma, 0.02, x)
        best = adv.box_loss(threat, exact, sigma, 0.02, x).sum()
        ours = adv.box_loss(threat, g, sigma, 0.02, x).sum()
        assert best * (1 - 1e-12) <= ours <= best * (1 + 1e-4)
        assert losses[-1] == pytest.approx(ours, rel=1e-4)
        assert losses.shape == (700,) and losses[0] > losses[-1]
        if threat != "in mean":  # its threshold is a jump; the loss is nearly flat around it
            assert_allclose(sigma * g, sigma * exact, atol=2e-3)


def test_training_finds_the_ball_filters() -> None:
    sigma, x = 1 / np.arange(1, 16.0), samples(60, 15, 22)
    power = (x**2).mean(axis=0)
    delta = float(np.sqrt(0.03 * np.sum(sigma**2 * power)))
    options = {"geometry": "ball", "delta": delta, "steps": 1000, "lr": 0.02}
    game = adv.ball_game(sigma, power, delta)
    g, losses = adv.train_gain(sigma, x, threat="in mean", **options)
    worst = adv.ball_risk(g, sigma, power, delta)
    assert game.value <= worst * (1 + 1e-12)
    assert worst == pytest.approx(game.value, rel=0.04)
    assert losses[-1] == pytest.approx(worst, rel=0.04)

    def oblivious(h: np.ndarray) -> float:
        return np.sum((1 - sigma * h) ** 2 * power) + delta**2 * np.max(h**2)

    g, _ = adv.train_gain(sigma, x, threat="oblivious", **options | {"steps": 3000})
    best = oblivious(adv.ball_oblivious(sigma, power, delta)[0])
    assert best <= oblivious(g) <= 1.05 * best
    _, losses = adv.train_gain(sigma, x, threat="almost sure", **options)
    assert losses[-1] < 1.02 * game.value  # weaker than the threat in mean


def test_training_is_reproducible_and_learns_noise(capsys: pytest.CaptureFixture[str]) -> None:
    sigma, x = np.array([1.0, 0.5, 0.0]), samples(500, 3, 23)
    power = (x**2).mean(axis=0)
    noise = np.array([0.05, 0.02, 0.01])
    options = {"threat": "oblivious", "delta": 0.1, "noise": noise, "steps": 400, "lr": 0.03}
    first, second = (adv.train_gain(sigma, x, seed=1, **options) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert_array_equal(a, b)
    assert not np.array_equal(first[1], adv.train_gain(sigma, x, seed=2, **options)[1])
    assert_allclose(first[0], adv.box_oblivious(sigma, power, 0.1, noise), atol=0.03)
    assert first[0][2] == 0
    adv.train_gain(sigma, x, threat="in mean", delta=0.1, steps=4, lr=0.1, progress=True)
    assert capsys.readouterr().out.count("step") == 4


def test_attacks_in_training_are_maximizers() -> None:
    """The loss reported before the first step is the exact loss of the first filter, q = 1/2."""
    sigma, x = np.array([1.0, 0.4]), np.random.default_rng(24).standard_normal((40, 2)) + 0.3
    for threat in THREATS:
        _, losses = adv.train_gain(sigma, x, threat=threat, delta=[0.3, 0.2], steps=1, lr=0.1)
        exact = adv.box_loss(threat, 0.5 / sigma, sigma, [0.3, 0.2], x).sum()
        assert losses[0] == pytest.approx(exact, rel=1e-12)
    _, losses = adv.train_gain(
        sigma, x, threat="in mean", geometry="ball", delta=0.3, steps=1, lr=0.1, attack_steps=300
    )
    exact = adv.ball_risk(0.5 / sigma, sigma, (x**2).mean(axis=0), 0.3)
    assert losses[0] == pytest.approx(exact, rel=1e-9)


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adv.box_oblivious(-1.0, 1, 1), ValueError, "sigma must be finite and at least 0"),
        (lambda: adv.box_oblivious(1.0, 1j, 1), TypeError, "signal must hold real numbers"),
        (lambda: adv.box_in_mean(1.0, 1, np.nan), ValueError, "delta must be finite"),
        (lambda: adv.box_in_mean(np.ones(3), 1, np.ones(2)), ValueError, "delta[:, None]"),
        (lambda: adv.box_almost_sure(1, 1, 1, 1.01), ValueError, "at most sqrt(signal)"),
        (lambda: adv.box_almost_sure(1, 1, 1, -0.1), ValueError, "mean_abs must be"),
        (lambda: adv.box_risk("almost sure", 1, 1, 1, 1), ValueError, "use box_loss"),
        (lambda: adv.box_risk("ob", 1, 1, 1, 1), ValueError, "unknown threat 'ob'"),
        (lambda: adv.box_loss("ex", [1], [1], 1, [[1.0]]), ValueError, "unknown threat 'ex'"),
        (lambda: adv.box_loss("in mean", 1, 1, 1, [1.0]), ValueError, "(samples, modes)"),
        (lambda: adv.box_loss("in mean", 1, [1, 2], 1, [[1.0]]), ValueError, "sigma must have one"),
        (lambda: adv.box_loss("in mean", [1, 2], 1, 1, [[1.0]]), ValueError, "x has 1 modes"),
        (lambda: adv.box_fit("in mean", 1, 1, [[1.0]], [[1.0, 2]]), ValueError, "e must have"),
        (lambda: adv.box_fit("in mean", 1, [1, 2], [[1.0]]), ValueError, "delta has 2"),
        (lambda: adv.box_fit("in mean", 1, 1, [[1.0]], weights=[0]), ValueError, "positive sum"),
        (lambda: adv.box_fit("in mean", 1, 1, [[1.0]], weights=[1, 1]), ValueError, "weights must"),
        (lambda: adv.ball_game(1.0, 1.0, 1), ValueError, "shape (k,)"),
        (lambda: adv.ball_game([1.0], [1.0], [[1.0]]), ValueError, "shape (k,)"),
        (lambda: adv.ball_risk([1.0, 2], [1.0], [1.0], 1), ValueError, "g must have shape"),
        (
            lambda: adv.ball_risk(np.ones((2, 1)), [1.0], [1.0], np.ones(3)),
            ValueError,
            "do not fit together",
        ),
        (
            lambda: adv.ball_risk([1e300, 1.0], [1.0, 0.5], [1.0, 0.0], 0.3),
            ValueError,
            "largest gain 1e+300, largest delta 0.3",
        ),
        (lambda: adv.ball_risk([1.0], [1.0], [1.0], 1e200), ValueError, "largest delta 1e+200"),
        (lambda: adv.ball_risk([1e300], [1e300], [0.0], 1), ValueError, "the risk overflows"),
        (lambda: adv.pareto_gain(1, 1, 1, -1), ValueError, "lipschitz"),
        (lambda: adv.denoiser_penalty(1, 1, 2), ValueError, "at most sqrt(signal)"),
        (lambda: adv.almost_sure_decoder(-1), ValueError, "delta must be"),
        (lambda: adv.almost_sure_decoder(1, [0, 1, 3]), ValueError, "equally spaced"),
        (lambda: adv.almost_sure_decoder(1, [1, 0]), ValueError, "increasing"),
        (lambda: adv.almost_sure_decoder(0.5, [0, 1]), ValueError, "multiple of the spacing"),
        (lambda: adv.almost_sure_decoder(1, [0, 1], [0, 0]), ValueError, "positive sum"),
        (lambda: train(threat="pgd"), ValueError, "unknown threat"),
        (lambda: train(geometry="cube"), ValueError, "'box' or 'ball'"),
        (lambda: train(geometry="ball", delta=[0.1, 0.2]), ValueError, "one number for the ball"),
        (lambda: train(steps=0), ValueError, "steps must be"),
        (lambda: train(lr=0), ValueError, "lr must be"),
        (lambda: train(seed=-1), ValueError, "seed must be"),
    ],
)
def test_bad_input_is_refused_at_the_door(call, error: type, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_ball_risk_of_large_gains_is_finite() -> None:
    """Just below the overflow: the adversary of mode 1, whose residual is -1e150 x."""
    worst = adv.ball_risk([1e150, 1.0], [1.0, 0.5], [1.0, 1.0], 0.3)
    assert worst == pytest.approx(1e300 * 1.3**2, rel=1e-9)


def train(**changes):
    options = {"threat": "in mean", "delta": 0.1, "steps": 1, "lr": 0.1} | changes
    return adv.train_gain([1.0, 0.5], np.ones((3, 2)), **options)


def test_everything_public_is_documented() -> None:
    for name in adv.__all__:
        thing = getattr(adv, name)
        if callable(thing):
            text = inspect.getdoc(thing) or ""
            assert len(text) > 60, name
            if inspect.isfunction(thing):
                assert "Source:" in text, name
