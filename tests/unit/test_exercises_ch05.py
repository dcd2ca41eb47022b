"""The exercises of chapter 5: what their statements, solutions and sentences assert."""

import itertools
import math
import runpy
import types

import numpy as np
import pytest
import torch
from exercise_suite import CHAPTERS, ExerciseSuite, load_checks, rejected, run_notebook
from torch import nn

from advreg import attacks

FOLDER = "05_inner_problem"
checks = load_checks(FOLDER)
bank = CHAPTERS / FOLDER / "exercises" / "bank" / "right"
library = types.SimpleNamespace(**runpy.run_path(str(bank / "library.py")))
SCHEDULES = checks.schedules()
PREDICTED = dict.fromkeys(SCHEDULES, "late") | {"divided by 10": "early"}
FURTHER = {"fosc_values": (64,), "critical_m": (PREDICTED,)}


class TestChapter5(ExerciseSuite):
    folder = FOLDER
    least = 16


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


def test_the_schedules_of_the_statement_are_those_of_the_checks(answers):
    assert list(answers["SCHEDULES"]) == list(SCHEDULES)
    for name, eta in SCHEDULES.items():
        np.testing.assert_array_equal(answers["SCHEDULES"][name], eta)
    assert answers["predicted"] == PREDICTED


# ------------------------------------------------------------------ further answers of the checks

STEPS = [1, 2, 3, 4, 5, 0, 6, -1, 3.0, "3", None, True, [3]]


@pytest.mark.parametrize(
    ("name", "function"),
    [("broken_relu", "relu_counterexample"), ("broken_average", "malicious_point")],
)
@pytest.mark.parametrize("step", STEPS)
def test_the_step_of_a_broken_proof(name, function, step, answers):
    bad = rejected(getattr(checks, name)(answers[function], step))
    assert (bad == []) == (type(step) is int and step == 3)
    if type(step) is int and 1 <= step <= 5 and step != 3:
        assert all(f"Step {step}" in sentence for sentence in bad) and len(bad) == 2


@pytest.mark.parametrize(
    ("predicted", "words"),
    [
        ({**PREDICTED, name: "late" if side == "early" else "early"}, checks.WRONG_SCHEDULES[name])
        for name, side in PREDICTED.items()
    ]
    + [
        ({"cosine": "late"}, "keys"),
        ({**PREDICTED, "linear": "never"}, "'early' or 'late'"),
        ({**PREDICTED, "linear": np.array([1, 2])}, "'early' or 'late'"),
        (["late"] * 5, "dict"),
        (None, "dict"),
    ],
)
def test_wrong_predictions_of_schedules(predicted, words):
    named = rejected(checks.critical_m(library.critical_m, predicted))
    assert len(named) == 2 and all(words in sentence for sentence in named)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (0.5, "128 times"),
        (0.5 / 128, "other way round"),
        (32, "not the level"),
        (math.nan, "NaN"),
        ("64", "Real numbers"),
        (None, "not set yet"),
        ([64], "shape"),
    ],
)
def test_wrong_levels(level, words):
    named = rejected(checks.fosc_values(library.fosc_values, level))
    assert len(named) == 2 and all(words in sentence for sentence in named)


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_a_factor_is_seen(factor, answers):
    names = ["flip_share", "smoothness", "sparse_fosc", "zero_losses", "fosc_values"]
    for name in [*names, "critical_m", "attack_steps", "update_penalty"]:
        right, further = answers[name], FURTHER.get(name, ())
        bad = rejected(getattr(checks, name)(lambda *a, f=right: factor * f(*a), *further))
        assert bad, name


def _leaves_eval(model, *args):
    out = library.fosc_values(model, *args)
    model.eval()
    return out


def _leaves_gradients(model, x, y, z, eps):
    out = library.fosc_values(model, x, y, z, eps)
    model.eval()
    nn.functional.cross_entropy(model(z), y).backward()
    model.train()
    return out


def _moves_statistics(model, x, y, z, eps):
    out = library.fosc_values(model, x, y, z, eps)
    model(z)
    return out


def _freezes(model, x, y, z, eps):
    out = library.fosc_values(model, x, y, z, eps)
    for p in model.parameters():
        p.requires_grad_(False)
    return out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_leaves_eval, "training mode"),
        (_leaves_gradients, "gradients at the parameters"),
        (_moves_statistics, "running"),
        (_freezes, "switched off"),
    ],
)
def test_the_model_has_to_come_back(answer, words):
    named = [s for s in rejected(checks.fosc_values(answer, 64)) if "comes back" in s]
    assert len(named) == 1 and words in named[0]


def test_sums_that_do_not_cancel_are_found():
    def subtracts(model, x, y, z, eps):
        g = checks.gradient_of(model, y, z)
        room = torch.where(g > 0, 1 - x, x).clamp(max=eps)
        return (g.abs() * room).sum(dim=1) - (g * (z - x)).sum(dim=1)

    named = rejected(checks.fosc_values(subtracts, 64))
    assert len(named) == 1 and "one by one" in named[0]


def test_an_answer_may_carry_its_graph():
    """And the arguments are copies: whoever spoils them is judged by the answer."""

    def with_graph(model, x, y, z, eps, reduction="sum"):
        with attacks.evaluating(model):
            z.requires_grad_()
            loss = nn.functional.cross_entropy(model(z), y, reduction=reduction)
            (g,) = torch.autograd.grad(loss, z)
            low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
            out = (g.clamp(min=0) * (high - z) + g.clamp(max=0) * (low - z)).sum(dim=1)
            x.zero_()
            return out

    assert rejected(checks.fosc_values(with_graph, 64)) == []
    bad = rejected(checks.fosc_values(lambda *args: with_graph(*args, "mean"), 64))
    assert all("*mean* loss" in s for s in bad) and len(bad) == 4


def test_an_extra_look_at_the_whole_batch_is_forgiven_once():
    def looks_first(model, x, y, *rest):
        with attacks.evaluating(model), torch.no_grad():
            model(x)
        return library.dynamic_attack(model, x, y, *rest)

    def looks_twice(model, x, y, *rest):
        with attacks.evaluating(model), torch.no_grad():
            model(x)
        return looks_first(model, x, y, *rest)

    assert rejected(checks.dynamic_attack(looks_first)) == []
    assert len(rejected(checks.dynamic_attack(looks_twice))) == 1


def test_masking_is_right_and_saves_nothing():
    """No grader behind a wall sees the rows; the student's own notebook does."""

    def masks(model, x, y, eps, level, steps, step):
        low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        z, moving = x.clone(), torch.ones(len(x), dtype=torch.bool)
        for _ in range(steps):
            part = z.clone().requires_grad_()
            with attacks.evaluating(model):
                loss = nn.functional.cross_entropy(model(part), y, reduction="sum")
            (g,) = torch.autograd.grad(loss, part)
            moving &= torch.maximum(g * (high - z), g * (low - z)).sum(dim=1) > level
            z = (z + step * g.sign() * moving[:, None]).clamp(low, high)
        return z

    bad = rejected(checks.dynamic_attack(masks))
    assert len(bad) == 1 and "by zero saves nothing" in bad[0]


@pytest.mark.parametrize("seed", range(5))
def test_some_stop_early_and_some_late(seed):
    """Otherwise the exercise on dropping the finished would test nothing."""
    case = checks.attack_case(np.random.default_rng(seed), 12)
    points, rows = checks.one_by_one(*case)
    assert 12 * 1.5 < rows < 12 * 8 * 0.95
    assert 3 <= (points == case[1].numpy()).all(axis=1).sum() <= 6


# ----------------------------------------------------- what statements and solutions assert


def test_how_much_larger_the_constant_is():
    rng = np.random.default_rng(1)
    for d in (2, 5, 8):
        assert library.smoothness(np.eye(d)) == pytest.approx(d)
        assert library.smoothness(np.ones((d, d))) == pytest.approx(d * d)  # a sign eigenvector
        signs = np.diag((-1.0) ** np.arange(d))  # no sign eigenvector, and attained
        assert library.smoothness(signs) == pytest.approx(d)
        for _ in range(20):
            H = rng.standard_normal((d, d))
            H = H + H.T
            spectral = np.linalg.norm(H, 2)
            assert spectral * (1 - 1e-12) <= library.smoothness(H) < d * spectral


def test_one_step_is_enough_if_no_sign_can_change():
    """Quadratics with |g_i(x)| > beta_i eps: FGSM wins at every corner, and FOSC is zero there."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        H = rng.standard_normal((4, 4))
        H, eps = H + H.T, rng.uniform(0.1, 1)
        beta = np.abs(H).sum(axis=1)
        g = rng.choice([-1, 1], 4) * beta * eps * rng.uniform(1.001, 1.5, 4)
        low, high = -eps * rng.uniform(0.1, 1, (2, 4)) * [[1], [-1]]
        grid = np.array(list(itertools.product(*np.linspace(low, high, 5).T)))
        losses = grid @ g + (grid @ H * grid).sum(axis=1) / 2
        fgsm = np.where(g > 0, high, low)
        assert np.allclose(grid[losses.argmax()], fgsm)
        slopes = g + grid @ H
        fosc = np.maximum(slopes * (high - grid), slopes * (low - grid)).sum(axis=1)
        zero = fosc < 1e-12
        assert zero.sum() == 1 and np.allclose(grid[zero], fgsm)


@pytest.mark.parametrize(("a", "zeros"), [(1.2, 1), (1.0, 2), (0.7, 3)])
def test_the_condition_is_sharp_in_one_dimension(a, zeros):
    """f = a z + z^2 / 2 on [-1, 1]: slope a + z."""
    z = np.union1d(np.linspace(-1, 1, 2001), [-a] if a <= 1 else [])
    slope = a + z
    fosc = np.maximum(slope * (1 - z), slope * (-1 - z))
    assert (fosc < 1e-9).sum() == zeros
    concave = 0.5 * z - z**2 / 2
    assert concave.max() > concave[-1] + 0.1  # FGSM goes to 1


def test_regression_and_its_second_face():
    rng = np.random.default_rng(3)
    for r in (0.3, 0.9, 1.1, 2.0):
        w = rng.standard_normal(5)
        w, eps = w / np.abs(w).sum(), 1.0
        corners = checks.corners_of(-np.ones(5), np.ones(5))
        residuals = r + corners @ w
        fosc = (eps * np.abs(residuals)) - residuals * (corners @ w)  # eps |g|_1 - <e, g>
        assert (fosc < 1e-12).sum() == (1 if r > eps else 2)


def test_sparse_hull():
    """Linear functions: the largest value over k-sparse attacks is that over the hull."""
    rng = np.random.default_rng(4)
    g, eps = rng.standard_normal(6), 0.2
    for k in (1, 2, 4):
        sparse = max(
            eps * np.abs(g[list(part)]).sum() for part in itertools.combinations(range(6), k)
        )
        x = np.full(6, 0.5)
        assert library.sparse_fosc(g, x, x, eps, k) == pytest.approx(sparse)


def test_counts_of_zeros():
    H, b = np.diag([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3])
    assert len(library.zero_losses(H, b)) == 27
    assert len(library.zero_losses(-H, b)) == 1


def test_ascent_ends_at_local_maxima():
    """Convex and separable: sign ascent from random starts ends at corners only."""
    rng = np.random.default_rng(5)
    z = rng.uniform(-1, 1, (200, 3))
    for _ in range(100):
        z = np.clip(z + 0.05 * np.sign(z * [1, 2, 3] + [0.1, 0.2, 0.3]), -1, 1)
    assert (np.abs(z) == 1).all()


@pytest.mark.parametrize("eps", [0.1, 0.5, 2.0])
def test_broken_relu(eps, answers):
    units = answers["relu_counterexample"](eps)
    f = checks.relu_loss(units, np.array([-eps, 0.0, eps]))
    np.testing.assert_allclose(f / eps, [2.6, 0.2, 0.3], rtol=1e-9)


@pytest.mark.parametrize("eps", [0.2, 1.0])
def test_three_classes(eps, answers):
    W = answers["three_classes"](eps)
    corners = np.array([[0.0, 0.0], [eps, eps], [-eps, eps]])
    np.testing.assert_allclose(corners @ W.T, [[0, 0, 0], [0, 4.5, 9], [0, -4.5, 15]], atol=1e-9)
    rng = np.random.default_rng(6)
    for _ in range(20):  # two classes: the gradients are parallel, and FGSM is exact
        W = rng.standard_normal((2, 2)) / eps
        share, missed = checks.one_step(W, eps)
        assert share < 1e-6 and missed < 1e-9


def test_a_walk_from_the_wrong_centre():
    """Simulated: half of the attacks stop too early, with FOSC eps |g| / 2 in the mean."""
    rng = np.random.default_rng(7)
    eps, gamma, slope, count = 0.5, 0.05, -1.7, 40_000
    start = rng.uniform(-eps, eps, count)
    z, stopped = start.copy(), np.zeros(count, bool)
    for _ in range(60):
        stopped |= eps * abs(slope) - (z - start) * slope <= 1e-12
        z = np.where(stopped, z, np.clip(z + gamma * np.sign(slope), -eps, eps))
    fosc = eps * abs(slope) - z * slope
    assert abs(stopped.mean() - 0.5) < 4 * 0.5 / np.sqrt(count)
    left = fosc[stopped]
    error = left.std() / np.sqrt(left.size)
    assert abs(left.mean() - eps * abs(slope) / 2) < 4 * error
    assert np.abs(fosc[~stopped]).max() < 1e-9


def test_the_noise_of_the_wrong_centre():
    rng = np.random.default_rng(8)
    for d in (1, 4, 50):
        g, eps = rng.standard_normal(d), 0.3
        noise = rng.uniform(-eps, eps, (40_000, d)) @ g
        want = eps * np.linalg.norm(g) / np.sqrt(3)
        assert abs(noise.mean()) < 4 * want / 200
        assert noise.std() == pytest.approx(want, rel=0.02)
        relative = want / (eps * np.abs(g).sum())
        assert 1 / np.sqrt(3 * d) - 1e-12 <= relative <= 1 / np.sqrt(3) + 1e-12


def test_ranked_differences_do_not_see_scale_and_shift(answers):
    rng = np.random.default_rng(9)
    logits, y = rng.standard_normal((30, 10)), rng.integers(10, size=30)
    loss = answers["scale_free_loss"]
    np.testing.assert_allclose(loss(1e4 * logits + 7, y), loss(logits, y), rtol=1e-7)


def test_the_summits_are_as_described():
    losses = checks.summits(np.random.default_rng(1))
    values = np.concatenate([np.linalg.eigvalsh(H) for H, _, _ in losses])
    assert values.min() >= 0.5 and values.max() <= 3
    assert all(np.abs(H - np.diag(np.diag(H))).max() > 0.05 for H, _, _ in losses)
    assert len(losses) == 30 and len(losses[0][2]) == 22


def test_the_game_of_the_broken_average():
    z = np.linspace(-1, 1, 20_001)
    for theta in (-1.0, -0.4, 0.0, 0.3, 1.0):
        values = theta**2 / 2 + theta * z - z**2 / 2
        assert values.max() == pytest.approx(theta**2, abs=1e-8)  # phi
        assert z[values.argmax()] == pytest.approx(theta, abs=1e-4)
        point = theta - 0.2  # FOSC of a point below the maximizer
        if point >= -1:
            assert ((z - point) * (theta - point)).max() == pytest.approx(0.2 * (1 - point))
    for tolerance in (0.1, 0.02):  # where training comes to rest
        b = np.sqrt(1 + 2 * tolerance) - 1
        assert b * (1 + b / 2) == pytest.approx(tolerance)
        theta = 0.5
        for _ in range(400):
            room = 1 - theta
            theta -= 0.1 * (2 * theta - (np.sqrt(room**2 + 4 * tolerance) - room) / 2)
        assert 2 * theta == pytest.approx(b, rel=1e-6)
        assert tolerance**2 / 5 < b**2 < tolerance
    for b in (0.1, 0.5):  # at theta = 1 FOSC of 1 - b is b^2
        assert ((z - 1 + b) * (1 - (1 - b))).max() == pytest.approx(b**2)


def test_critical_values_of_schedules():
    assert library.critical_m(SCHEDULES["divided by 10"]) == pytest.approx(6.927 / 60, rel=3e-3)
    for name in ("cosine", "linear"):
        assert 0.03 < library.critical_m(SCHEDULES[name]) < 0.1
    halves = {n: e[600:].sum() - e[:600].sum() for n, e in SCHEDULES.items()}
    assert halves["warm-up"] > 0 and halves["constant"] == pytest.approx(0)
    for m in (0.001, 0.01, 0.1, 1.0, 9.0):
        for name in ("constant", "warm-up"):
            early, late = checks.excess(SCHEDULES[name], m)
            assert early <= late * (1 + 1e-9)


@pytest.mark.parametrize("u", [0.1, 1.0, 6.0])
def test_what_an_optimal_budget_gains(u):
    count, m = 20_000, 1.0
    eta = np.full(count, u / count)
    w = eta * np.append(np.cumprod((1 - m * eta)[::-1])[::-1][1:], 1)
    factor = count * w.sum() / np.sqrt(w).sum() ** 2
    assert factor == pytest.approx(u / 4 / np.tanh(u / 4), rel=1e-3)
    if u < 1:
        assert factor - 1 == pytest.approx(u**2 / 48, rel=0.05)


def test_proportional_to_the_weights_is_no_better_than_even():
    for eta, m, total in checks.budgets(np.random.default_rng(0)):
        even, weighted = (
            checks.final_excess(eta, m, f(eta, m, total))
            for f in (checks.spends_evenly, checks.follows_the_weights)
        )
        assert even == pytest.approx(weighted, rel=1e-12)


def test_penalties_are_what_the_frozen_update_follows():
    """f(theta, z) = theta z in one dimension: the update at the stopped point is psi'."""
    eps, level, h = 0.8, 0.3, 1e-5
    for u in (0.2, 0.6, 1.5):
        for rule in ("fosc", "gain", "normalized"):
            psi = [
                library.update_penalty(np.array([v]), eps, rule, level)[0] for v in (u - h, u + h)
            ]
            z = np.linspace(0, eps, 100_001)
            left = u * (eps - z)
            done = {
                "fosc": left <= level,
                "gain": u * z >= level,
                "normalized": left <= level * 2 * eps * u,
            }[rule]
            radius = z[done.argmax()] if done.any() else eps
            assert (psi[1] - psi[0]) / (2 * h) == pytest.approx(radius, abs=1e-4)


def test_dropping_and_masking_agree_in_evaluation_mode_only():
    case = checks.attack_case(np.random.default_rng(2), 24)
    masked = checks.masked(*case)
    torch.testing.assert_close(library.dynamic_attack(*case), masked)
    assert (checks.attacks_in_training_mode(*case) - masked).abs().max() > 0.01


def test_the_level_zero_drops_vertices_in_the_solution_and_nobody_in_the_library(answers):
    rng = np.random.default_rng(answers["SEED"])  # the measurement of the solution
    model, (x, y, _), rows = checks.small_network(rng), checks.small_batch(rng, 200), []
    model.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    ours = answers["dynamic_attack"](model, x, y, 0.2, 0.0, 8, 0.05)
    assert 200 * 5 < sum(rows) < 200 * 8
    found = attacks.pgd(
        model, x, y, attacks.Ball(0.2), steps=8, step=0.05, threshold=0.0, report=False
    )
    torch.testing.assert_close(ours, found.points)
    assert (found.passes == 8).all()


@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_large_logits_mask_the_cross_entropy(scale):
    def entropy(logits, y):
        return attacks.cross_entropy(torch.tensor(logits), torch.tensor(y)).numpy()

    assert checks.survivors(entropy, scale, checks.digits()) > 0.95
    assert checks.survivors(library.scale_free_loss, scale, checks.digits()) < 0.5


def test_early_and_late_change_places_at_most_once():
    """The log of pi_2 (2 - pi_1) is concave in m, and zero at m = 0."""
    rng = np.random.default_rng(10)
    for _ in range(20):
        first, second = rng.uniform(0, 1, (2, 6)) ** 3
        m = np.linspace(0, 0.99, 200)[:, None]
        logs = np.log1p(-m * second).sum(axis=1) + np.log(2 - np.prod(1 - m * first, axis=1))
        assert logs[0] == 0 and np.diff(logs, 2).max() < 1e-9
