"""The exercises of chapter 4: what statements, solutions and sentences assert."""

import math

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook
from scipy import linalg, optimize

from advreg import frames, variational
from advreg.operators import MatrixOperator

FOLDER = "04_frames_and_filters"
checks = load_checks(FOLDER)


class TestChapter4(ExerciseSuite):
    folder = FOLDER
    least = 14


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


# ------------------------------------------------------------------ further answers of the checks

STEPS = [1, 2, 3, 4, 5, 0, 6, -1, 3.0, 4.0, "4", None, True, [4]]


@pytest.mark.parametrize(
    ("name", "function"),
    [("broken_union", "union_example"), ("broken_prox", "attack_matters")],
)
@pytest.mark.parametrize("step", STEPS)
def test_the_step_of_a_broken_proof(name, function, step, answers):
    bad = rejected(getattr(checks, name)(answers[function], step))
    assert (bad == []) == (type(step) is int and step == 4)
    if type(step) is int and 1 <= step <= 5 and step != 4:
        assert f"Step {step}" in bad[0]


@pytest.mark.parametrize("name", checks.GROWTH)
def test_wrong_predictions_of_growth(name, answers):
    for other in set(checks.GROWTH.values()) - {checks.GROWTH[name]}:
        bad = rejected(
            checks.difference_energy(answers["difference_energy"], {**checks.GROWTH, name: other})
        )
        assert len(bad) == 1 and checks.WRONG_GROWTH[name] in bad[0]


@pytest.mark.parametrize(
    ("growth", "words"),
    [
        ({"haar": "doubles"}, "keys"),
        ({**checks.GROWTH, "db2": "slowly"}, "is one of"),
        ({**checks.GROWTH, "db2": ["doubles"]}, "is one of"),
        (["doubles"], "dict"),
    ],
)
def test_predictions_of_growth_that_cannot_be_read(growth, words, answers):
    bad = rejected(checks.difference_energy(answers["difference_energy"], growth))
    assert len(bad) == 1 and words in bad[0]


@pytest.mark.parametrize("name", checks.ZERO_SUM)
def test_wrong_predictions_of_sums(name, answers):
    wrong = {**checks.ZERO_SUM, name: not checks.ZERO_SUM[name]}
    bad = rejected(checks.denoising_taps(answers["denoising_taps"], wrong))
    assert len(bad) == 1 and name in bad[0] and checks.WRONG_SUM[wrong[name]] in bad[0]


def test_a_law_of_zero_sums_is_named(answers):
    bad = rejected(
        checks.denoising_taps(answers["denoising_taps"], dict.fromkeys(checks.ZERO_SUM, True))
    )
    assert len(bad) == 1 and checks.ALL_ZERO in bad[0]


@pytest.mark.parametrize(
    ("check", "function", "value", "words"),
    [
        ("mean_shift", "mean_shift", -0.1, checks.WRONG_LIMITS[-0.1]),
        ("mean_shift", "mean_shift", 0.3, checks.WRONG_LIMITS[0.3]),
        ("mean_shift", "mean_shift", -math.inf, "infinity"),
        ("mean_shift", "mean_shift", 0, "how often"),
        ("attack_bounds", "attack_bounds", 2, checks.WRONG_FACTORS[2.0]),
        ("attack_bounds", "attack_bounds", 1, checks.WRONG_FACTORS[1.0]),
        ("attack_bounds", "attack_bounds", 3.0, checks.WRONG_FACTORS[0.0]),
        ("pnp_gains", "pnp_gains", 0.25, checks.WRONG_MATCH[0.25]),
        ("pnp_gains", "pnp_gains", 2, checks.WRONG_MATCH[2.0]),
        ("pnp_gains", "pnp_gains", 0.5, checks.WRONG_MATCH[0.5]),
        ("pnp_gains", "pnp_gains", 1, checks.WRONG_MATCH[0.0]),
        ("pnp_gains", "pnp_gains", None, "not set yet"),
        ("pnp_gains", "pnp_gains", "4", "Real numbers"),
    ],
)
def test_wrong_numbers(check, function, value, words, answers):
    bad = rejected(getattr(checks, check)(answers[function], value))
    assert len(bad) == 1 and (words in bad[0] or value is None)


# ---------------------------------------------------------------- the given cells and the checks


def test_the_given_cells_are_those_of_the_checks(answers):
    assert answers["PROCESSES"] == checks.PROCESSES
    assert answers["NU"] == checks.NU
    np.testing.assert_allclose(answers["KERNELS"].sum(axis=1), checks.FILTER_SUMS)
    rng = np.random.default_rng(1)
    for taps in (1, 3, 9):
        y, k = 2 * rng.standard_normal(9), rng.standard_normal(taps)
        x = answers["denoise"](y, k)
        np.testing.assert_allclose(x, checks._minimizer(y, k), atol=1e-9)
        want = variational.denoise(y, [k], variational.SmoothedL1(checks.NU), tol=1e-11)
        np.testing.assert_allclose(x, want.x, atol=1e-9)


@pytest.mark.parametrize("name", ["haar", "db2", "db3"])
def test_scaling_filters_and_energies(name, answers):
    """The filters are those of PyWavelets, and the wavelet has sevenfold the energy."""
    h = answers["SCALING_FILTERS"][name]
    bank = frames._orthogonal(name).rec_lo
    assert min(np.abs(h - bank).max(), np.abs(h[::-1] - bank).max()) < 1e-10
    energy = [answers["difference_energy"](h, j) for j in range(13)]
    steps = np.diff(energy)
    if name == "haar":
        np.testing.assert_allclose(energy, 2.0 * 2 ** np.arange(13))
    elif name == "db2":
        np.testing.assert_allclose(steps[4:], 1.5, atol=1e-3)
        assert frames.derivative_energy("db2", 12) - frames.derivative_energy("db2", 11) == (
            pytest.approx(7 * 1.5, rel=1e-3)
        )
    else:
        assert 7 * (energy[-1] + steps[-1] / (1 - 0.56)) == pytest.approx(36.875, rel=1e-3)
        assert (steps[1:] < 0.7 * steps[:-1]).all()


def test_the_kinds_of_growth_follow_from_the_coefficients():
    """Zero sum if and only if the power is infinite at frequency 0; resonance is elsewhere."""
    infinite = {}
    for name, a in checks.PROCESSES.items():
        power = variational.autoregressive_power(96, a)
        infinite[name] = bool(np.isinf(power[0]))
        assert np.isinf(power).sum() == {"resonance": 2, "seasonal": 4}.get(name, infinite[name])
    assert infinite == checks.ZERO_SUM
    assert np.isinf(variational.autoregressive_power(96, [1.0, -1.0])[16])


# ----------------------------------------------------------------- what the solutions assert


def test_quasi_singular_values_halve(answers):
    A = frames.periodic_integration(256).to_matrix()
    u, scale = frames.wavelet_basis(256, "sym8")
    v = answers["vaguelettes"](A, u[scale > 0])
    np.testing.assert_allclose(v.mean(axis=1), 0, atol=1e-12)
    kappa = np.sum((v @ A) * u[scale > 0], axis=1)
    coarse, fine = (kappa[scale[scale > 0] == j].mean() for j in (2, 3))
    assert coarse / fine == pytest.approx(2, abs=0.05)


def test_the_union_is_the_mean_of_the_reconstructions():
    """The package's union, against the identity of the solution."""
    rng = np.random.default_rng(2)
    first, second = checks._bases(rng, 6)
    root = rng.standard_normal((6, 6))
    C, noise = root @ root.T / 36, 0.1
    one, two, both = checks._risks(C, (first, second), noise)
    parts = []
    for rows in (first, second):
        power = np.diag(rows @ C @ rows.T)
        parts.append((rows.T * (power / (power + noise))) @ rows)
    apart = parts[0] - parts[1]
    distance = np.trace(apart @ (C + noise * np.eye(6)) @ apart.T)
    assert both == pytest.approx((one + two) / 2 - distance / 4)
    assert both < max(one, two)
    coefficients = np.vstack([first, second])
    pair = np.concatenate([np.diag(rows @ C @ rows.T) for rows in (first, second)])
    gains = pair / (pair + noise)
    identity = frames.Frame(coefficients, coefficients, np.ones(12), np.repeat([0, 1], 6))
    risk = frames.gain_risk(identity, gains, C, noise * np.eye(6))
    assert both == pytest.approx(risk)
    joint = frames.joint_gains(identity, C, noise * np.eye(6))
    assert frames.gain_risk(identity, joint, C, noise * np.eye(6)) <= min(one, two) + 1e-12


@pytest.mark.parametrize("count", [2, 3, 5, 40])
def test_the_polygon_of_the_box(count):
    """Largest |e| with |<e, v>| <= 1 for evenly spaced v: a linear program in every direction."""
    angle = np.pi * np.arange(count) / count
    v = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(frames.bounds(v), [count / 2] * 2)
    walls, ones = np.vstack([v, -v]), np.ones(2 * count)
    longest = 0.0
    for turn in np.pi * (np.arange(2 * count) + 0.5) / count:
        c = -np.array([np.cos(turn), np.sin(turn)])
        e = optimize.linprog(c, A_ub=walls, b_ub=ones, bounds=(None, None)).x
        longest = max(longest, np.linalg.norm(e))
    assert longest == pytest.approx(1 / np.cos(np.pi / (2 * count)))
    bound = 2 / count * count  # of free coefficients, for g = 1
    assert bound / longest**2 == pytest.approx(2 * np.cos(np.pi / (2 * count)) ** 2)


def test_a_corner_that_is_not_attained():
    """Three vectors at 60 degrees: v_0 - v_1 + v_2 = 0, so the corner (1, -1, 1) is not filled."""
    angle = np.pi * np.arange(3) / 3
    v = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    a = linalg.null_space(v.T)[:, 0]
    corner = np.sign(a)
    e = np.linalg.lstsq(v, corner, rcond=None)[0]
    assert np.abs(v @ e - corner).max() > 0.5
    np.testing.assert_allclose(corner * corner[0], [1, -1, 1])


def test_four_filters_of_the_statement(answers):
    found = answers["same_spectrum"](np.array([1, -0.8, 0.15]))
    assert len(found) == 4
    assert any(
        np.allclose(sign * row, [-0.3, 1.15, -0.5], atol=1e-12) for row in found for sign in (1, -1)
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_of_the_offset(sign, answers):
    """Other potentials with the same slope at infinity have the same limit."""
    y = np.random.default_rng(3).standard_normal(32)
    for potential in (variational.SmoothedL1(0.3), variational.LogCosh(0.5)):
        x = variational.denoise(y + sign * 500, answers["KERNELS"], potential).x
        want = sign * answers["limit"] * potential.slope
        assert np.mean(x - y) - sign * 500 == pytest.approx(want, rel=1e-2)


def test_the_quadratic_offset_grows(answers):
    y, kernels = np.random.default_rng(4).standard_normal(16), answers["KERNELS"]
    for c in (1.0, 100.0):
        x = variational.quadratic_denoise(y + c, kernels)
        shrunk = np.mean(y + c) / (1 + np.sum(kernels.sum(axis=1) ** 2))
        assert np.mean(x) == pytest.approx(shrunk)


def test_one_percent_of_the_loss(answers):
    x, target = np.array([1.0, 0.0, 0.0]), np.zeros(3)
    for size, certain in ((0.00498, True), (0.0051, False)):
        low, high = answers["loss_interval"](x, target, np.array([0, size, 0]))
        assert (max(high - 0.5, 0.5 - low) <= 0.005) == certain


def test_numbers_of_the_broken_proof(answers):
    data = answers["attack_matters"](1.0)
    at_clean, least = checks._scalar_losses(data, 1.0)
    assert at_clean == pytest.approx(1) and least == pytest.approx(0.25)


def test_the_factor_of_the_sandwich(answers):
    r = np.geomspace(1e-3, 1e3, 2001)
    ratio = (r + 1) / np.hypot(r, 1)
    assert ratio.max() == pytest.approx(answers["factor"])
    assert r[ratio.argmax()] == pytest.approx(1)


def test_the_mean_with_the_identity_settles(answers):
    rng = np.random.default_rng(5)
    A, clean = checks._blind(rng, 8, 3, 2)
    D, y = answers["oscillating_denoiser"](A, clean), rng.standard_normal(3)
    tau = 1.9 / np.linalg.norm(A, 2) ** 2
    for matrix, settles in ((D, False), ((np.eye(8) + D) / 2, True)):
        found = variational.plug_and_play(
            MatrixOperator(A),
            y,
            lambda z, M=matrix: M @ z,
            step=tau,
            iterations=20_000,
            start=np.ones(8),
        )
        assert bool(found.converged) == settles


@pytest.mark.parametrize("seed", [6, 7])
def test_the_matching_step_is_wieners(seed, answers):
    rng = np.random.default_rng(seed)
    sigma, power = rng.uniform(0.05, 0.7, 20), rng.uniform(0.01, 3, 20)
    gains = answers["pnp_gains"](sigma, power / (power + 0.2**2), answers["matching_step"])
    np.testing.assert_allclose(gains, sigma * power / (sigma**2 * power + 0.1**2))
    assert (gains <= np.sqrt(4 * power) / (2 * 0.2) * (1 + 1e-12)).all()
