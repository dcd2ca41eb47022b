"""The exercises of chapter 8: what their statements, solutions and sentences assert."""

from pathlib import Path

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook

FOLDER = "08_at_scale"
ROOT = Path(__file__).parents[2]
checks = load_checks(FOLDER)


class TestChapter8(ExerciseSuite):
    folder = FOLDER
    least = 11


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


# ------------------------------------------------------------------ further answers of the checks


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 0, -1, 3.0, "3", None, True, [3]])
def test_the_step_of_the_broken_proof(step, answers):
    bad = rejected(checks.broken_resume(answers["twins"], step))
    assert (bad == []) == (type(step) is int and step == 3)
    if type(step) is int and step in checks.RESUME_STEPS:
        assert any(f"Step {step}" in sentence for sentence in bad)


# ------------------------------------------------------------------------- what solutions assert


def test_an_error_below_a_thousandth_that_no_digit_survives(answers):
    low, high = 0.4996, 0.5004
    assert (f"{low:.0f}", f"{high:.0f}") == ("0", "1")
    assert all(f"{low:.{k}f}" == f"{high:.{k}f}" for k in (1, 2, 3))
    assert answers["safe_digits"](0.5, 0.0004) == 3


def test_ten_steps_cost_eight_times_as_much(answers):
    plain, attacked = (answers["gpu_hours"](1000, 1, k, 50.0) for k in (0, 10))
    np.testing.assert_allclose(attacked / plain, 7 + 2 / 3)


def test_the_counts_that_the_statement_gives(answers):
    page = (ROOT / "chapters" / FOLDER / "exercises" / "exercises.ipynb").read_text("utf-8")
    for shape, count in checks.EXAMPLES.items():
        assert answers["multiply_adds"](*shape) == checks._hooked(*shape) == count
        assert f"WRN-{shape[0]}-{shape[1]} needs {count} for a" in page


@pytest.mark.parametrize(
    ("wrong", "shape"),
    [("no_shortcuts", (22, 3, 8, 2, 7)), ("counts_weights", (16, 1, 12, 1, 4)),
     ("counts_weights", (10, 2, 8, 3, 2))],
)  # fmt: skip
def test_the_closed_forms_of_wrong_counts(wrong, shape):
    layers = checks.layers(*shape)
    if wrong == "no_shortcuts":
        want = sum(a * b * k * k * s * s for a, b, k, s in layers if k == 3 or s == 1)
    else:
        want = sum(a * b * k * k for a, b, k, _ in layers)
    assert getattr(checks, wrong)(*shape) == want


@pytest.mark.parametrize(("widen", "size"), [(2, 8), (4, 32)])
def test_groups_cost_about_the_same(widen, size):
    layers = checks.layers(28, widen, size, 3, 10)
    inside = [9 * a * b * s * s for a, b, k, s in layers if k == 3 and a == b]
    assert len(set(inside)) == 1


def test_the_expected_variance_of_a_share():
    rng = np.random.default_rng(8)
    n, m = 12, 3
    values = rng.standard_normal(n) * 2 + 1
    shares = np.array([rng.permutation(values)[:m] for _ in range(20_000)])
    found, want = shares.var(axis=1), (m - 1) * n / (m * (n - 1)) * values.var()
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - want) < 4 * error
    assert abs(found.mean() - (m - 1) / m * values.var()) > 8 * error


@pytest.mark.parametrize(("lr", "momentum"), [(0.05, 0.3), (0.5, 0.99), (0.2, 0.9)])
def test_by_how_much_the_twins_part(lr, momentum, answers):
    one, two = (checks._run(*pair, lr, momentum, 2) for pair in answers["twins"](lr, momentum))
    np.testing.assert_allclose(one[0], 1 - lr)
    np.testing.assert_allclose(two[0], 1 - lr)
    np.testing.assert_allclose(one[1] - two[1], lr * momentum**2 / (1 - lr))
    assert one[1] - two[1] >= 1e-3


def test_larger_distances_lose_in_neither_budget(answers):
    rng = np.random.default_rng(9)
    for _ in range(50):
        small = np.sort(rng.uniform(0, 1, 9))
        large = small + rng.uniform(0, 0.3, 9)
        for eps in (0.0, 0.1, 0.4):
            near, far = (answers["error_curves"](r, eps) for r in (small, rng.permutation(large)))
            assert (far <= near + 1e-12).all()


def test_the_two_networks_of_the_solution(answers):
    first, second = answers["two_networks"](0.1)
    np.testing.assert_allclose(checks.both_errors(first, 0.1), [0.0, 1 / 1.01])
    np.testing.assert_allclose(checks.both_errors(second, 0.1), [0.1, 0.1 + 0.95 / 100])


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_the_gap_of_an_adversary_of_the_features(order):
    rng, eps = np.random.default_rng(10), 0.3
    w, features = rng.standard_normal(4), rng.standard_normal((20, 4))
    y = rng.choice([-1, 1], 20)
    margins = y * (features @ w)
    dual = np.linalg.norm(w, {1: np.inf, 2: 2, np.inf: 1}[order])
    moved = rng.standard_normal((5000, 4))
    moved *= eps / np.linalg.norm(moved, order, axis=1)[:, None]
    losses = np.logaddexp(0, -(margins[:, None] + y[:, None] * (moved @ w)))
    claimed = np.logaddexp(0, -(margins - eps * dual))
    assert (losses.max(axis=1) <= claimed + 1e-12).all()
    assert np.abs(losses.max(axis=1) - claimed).max() < 0.12
