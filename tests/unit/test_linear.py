"""Linear models under attack: formulas against corners, training against other solvers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp

from advreg import data, linear
from advreg.linear import LOSSES, MARGIN_LOSSES

NORMS = [1, 2, np.inf]
RESIDUAL_LOSSES = LOSSES[3:]


def corners(norm: float, d: int, rng=None) -> np.ndarray:
    """Points whose convex hull is the unit ball; for norm 2 random points of the sphere."""
    if norm == 1:
        return np.vstack([np.eye(d), -np.eye(d)])
    if norm == np.inf:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    points = (rng or np.random.default_rng(0)).standard_normal((4000, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def loss_of(output, y, loss):
    """Losses as in a textbook, one number in, one number out."""
    m, r = y * output, y - output
    return {
        "hinge": np.maximum(0, 1 - m),
        "logistic": np.log1p(np.exp(-m)),
        "exponential": np.exp(-m),
        "squared": r**2,
        "absolute": np.abs(r),
    }[loss]


def problem(n, d, loss, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) + 0.3
    t = X @ rng.standard_normal(d) / np.sqrt(d) + noise * rng.standard_normal(n) + 0.2
    return X, np.where(t > 0, 1.0, -1.0) if loss in MARGIN_LOSSES else t


# ------------------------------------------------------------------------------- risks


@pytest.mark.parametrize("norm", NORMS)
def test_dual_norm_and_worst_perturbation_against_the_ball(norm):
    rng = np.random.default_rng(1)
    for w in [rng.standard_normal(6), np.round(rng.standard_normal(6)), np.zeros(6), np.ones(6)]:
        best = (corners(norm, 6) @ w).max()
        dual = linear.dual_norm(w, norm)
        if norm == 2:
            assert best <= dual + 1e-12
        else:
            assert dual == pytest.approx(best, abs=1e-14)
        eta = linear.worst_perturbation(w, norm)
        assert w @ eta == pytest.approx(dual, abs=1e-12)
        assert np.linalg.norm(eta, ord=norm) == pytest.approx(float(w.any()), abs=1e-12) or (
            norm == np.inf and np.abs(eta).max() <= 1
        )
    stack = rng.standard_normal((2, 3, 4))
    assert_allclose(
        linear.dual_norm(stack, norm),
        [[linear.dual_norm(w, norm) for w in row] for row in stack],
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", NORMS)
def test_risk_is_the_mean_of_the_worst_losses_over_the_ball(norm, loss):
    rng = np.random.default_rng(2)
    X, y = problem(7, 6, loss)
    ball = corners(norm, 6)
    for w, b, delta in [(rng.standard_normal(6), 0.4, 0.3), (np.zeros(6), -1.0, 2.0)]:
        if norm == 2:  # the two best points of the sphere join the random ones
            best = linear.worst_perturbation(w, 2)
            ball = np.vstack([corners(norm, 6, rng), best, -best])
        moved = X[:, None, :] + delta * ball
        worst = loss_of(moved @ w + b, y[:, None], loss).max(axis=1)
        assert linear.adversarial_risk(w, b, X, y, delta, norm, loss) == pytest.approx(
            worst.mean(), rel=1e-12
        )
    grid = linear.adversarial_risk(w + 1, b, X, y, [[0.0, 0.1], [0.2, 3.0]], norm, loss)
    assert grid.shape == (2, 2) and grid.dtype == np.float64
    assert grid[1, 1] == linear.adversarial_risk(w + 1, b, X, y, 3.0, norm, loss)


def test_risk_of_huge_margins_neither_overflows_nor_loses_digits():
    X, y = np.array([[1e3], [-1e3]]), np.array([1.0, 1.0])
    risk = linear.adversarial_risk(np.ones(1), 0.0, X, y, 0.0, 2, "logistic")
    assert risk == pytest.approx(500.0, rel=1e-14)
    assert linear.adversarial_risk(np.ones(1), 0.0, X, y, 0.0, 2, "exponential") == np.inf


def test_aggregate_hinge_against_splits_of_the_budget():
    """Exact dynamic programme over a fine grid of budgets; the optimum is on the grid."""
    rng = np.random.default_rng(3)
    for margins in [rng.normal(1, 1, 4), np.array([2.0, 3.0, 1.5]), np.ones(3), np.zeros(2)]:
        for dual, budget in [(0.7, 2.0), (2.0, 0.0), (0.0, 1.0), (0.5, 0.4)]:
            units = np.linspace(0, budget, 41)
            best = np.zeros(41)
            for m in margins:
                gains = np.maximum(1 - m + dual * units, 0)
                best = np.array(
                    [max(best[i - j] + gains[j] for j in range(i + 1)) for i in range(41)]
                )
            assert linear.aggregate_hinge(margins, dual, budget) == pytest.approx(best[-1])
    assert linear.aggregate_hinge(np.ones((5, 3)), 1.0, 2.0).shape == (5,)


# ------------------------------------------------------------------------------- several classes


def cross_entropy_by_corners(W, b, X, y, delta, ball):
    z = (X[:, None, :] + delta * ball) @ W.T + b
    losses = logsumexp(z, axis=-1) - z[np.arange(len(y)), :, y]
    return losses.max(axis=1).mean()


@pytest.mark.parametrize(
    ("K", "norm"), [(2, 1), (3, 1), (5, 1), (2, np.inf), (3, np.inf), (4, np.inf), (5, np.inf)]
)
def test_cross_entropy_against_all_corners(K, norm):
    rng = np.random.default_rng(K)
    for case in range(6):
        W, b = rng.standard_normal((K, 7)), rng.standard_normal(K)
        if case == 1:
            W = np.round(W)  # parallel and zero sides of the polygon
        if case == 2:
            W[:, 3:] = W[:1, 3:]  # columns that move no difference
        if case == 3:
            W = np.zeros_like(W)
        if case == 4:
            W[1] = W[0]
        X, y = rng.standard_normal((9, 7)), rng.integers(0, K, 9)
        exact = cross_entropy_by_corners(W, b, X, y, 0.4, corners(norm, 7))
        assert linear.cross_entropy_risk(W, b, X, y, 0.4, norm) == pytest.approx(exact, abs=1e-12)
        assert linear.pairwise_bound(W, b, X, y, 0.4, norm) >= exact - 1e-12


def test_three_classes_are_exact_in_784_dimensions():
    """Above every random corner, and attained: the polygon's corners are images of corners."""
    rng = np.random.default_rng(5)
    W, b = rng.standard_normal((3, 784)) / 28, np.zeros(3)
    X, y = rng.standard_normal((4, 784)), np.array([0, 1, 2, 1])
    exact = linear.cross_entropy_risk(W, b, X, y, 0.1, np.inf)
    random = np.sign(rng.standard_normal((500, 784)))
    directions = rng.standard_normal((2000, 3))
    aimed = np.sign((directions - directions.mean(axis=1, keepdims=True)) @ W)
    found = cross_entropy_by_corners(W, b, X, y, 0.1, np.vstack([random, aimed]))
    assert found <= exact + 1e-12
    assert exact - found < 1e-3 * exact
    assert exact <= linear.pairwise_bound(W, b, X, y, 0.1, np.inf)


@pytest.mark.parametrize("norm", NORMS)
def test_two_classes_are_a_logistic_risk(norm):
    rng = np.random.default_rng(6)
    W, b = rng.standard_normal((2, 30)), rng.standard_normal(2)
    X, y = rng.standard_normal((8, 30)), rng.integers(0, 2, 8)
    logistic = linear.adversarial_risk(
        W[1] - W[0], b[1] - b[0], X, 2 * y - 1, 0.2, norm, "logistic"
    )
    assert linear.cross_entropy_risk(W, b, X, y, 0.2, norm) == pytest.approx(logistic)
    assert linear.pairwise_bound(W, b, X, y, 0.2, norm) == pytest.approx(logistic)


@pytest.mark.parametrize("norm", NORMS)
def test_crammer_singer_against_corners(norm):
    rng = np.random.default_rng(7)
    W, b = rng.standard_normal((4, 5)), rng.standard_normal(4)
    X, y = rng.standard_normal((6, 5)), rng.integers(0, 4, 6)
    ball = corners(norm, 5, rng)
    if norm == 2:  # the best direction of each pair joins the random ones
        pairs = (W[:, None] - W[None]).reshape(-1, 5)
        pairs = pairs[np.abs(pairs).sum(axis=1) > 0]
        ball = np.vstack([ball, pairs / np.linalg.norm(pairs, axis=1, keepdims=True)])
    z = (X[:, None, :] + 0.4 * ball) @ W.T + b
    lead = z - z[np.arange(6), :, y][:, :, None] + 1
    lead[np.arange(6), :, y] = 0
    worst = lead.max(axis=(1, 2)).mean()
    assert linear.crammer_singer_risk(W, b, X, y, 0.4, norm) == pytest.approx(worst)


def test_what_no_formula_reaches_is_refused():
    rng = np.random.default_rng(8)
    X, y = rng.standard_normal((3, 17)), np.array([0, 1, 2])
    with pytest.raises(ValueError, match="ellipsoid"):
        linear.cross_entropy_risk(rng.standard_normal((3, 17)), 0.0, X, y, 0.1, 2)
    with pytest.raises(ValueError, match="at most 16 features"):
        linear.cross_entropy_risk(rng.standard_normal((4, 17)), 0.0, X, y, 0.1, np.inf)
    with pytest.raises(ValueError, match="class number"):
        linear.pairwise_bound(rng.standard_normal((2, 17)), 0.0, X, y, 0.1, 2)


# ------------------------------------------------------------------------------- training

CASES = [
    (loss, norm, intercept) for loss in LOSSES for norm in NORMS for intercept in (True, False)
]


@pytest.mark.parametrize(("loss", "norm", "intercept"), CASES)
def test_fit_against_a_simplex_search_in_the_plane(loss, norm, intercept):
    """Nelder-Mead from several starts knows no derivative, no dual and no barrier."""
    X, y = problem(12, 2, loss, seed=4)
    for delta in (0.05, 0.3):
        ours = linear.fit(X, y, delta, norm, loss, intercept=intercept)

        def risk(v, delta=delta):
            b = v[2] if intercept else 0.0
            penalty = delta * np.linalg.norm(v[:2], ord={1: np.inf, 2: 2, np.inf: 1}[norm])
            if loss in MARGIN_LOSSES:
                return loss_of(y * (X @ v[:2] + b) - penalty, 1.0, loss).mean()
            return loss_of(np.abs(y - X @ v[:2] - b) + penalty, 0.0, loss).mean()

        found = np.inf
        for start in [np.zeros(3), np.append(ours.w, ours.b), np.array([1.0, -1.0, 0.5])]:
            options = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 1200, "adaptive": True}
            found = min(found, minimize(risk, start, method="Nelder-Mead", options=options).fun)
        assert ours.risk == pytest.approx(risk(np.append(ours.w, ours.b)), abs=1e-12)
        assert ours.risk <= found + 1e-9  # the search does not beat ours
        assert found - ours.risk < 1e-3  # and comes near it, kinks or not
        assert ours.risk - ours.gap <= found  # nor does it go below the certificate
        assert 0 <= ours.gap < 1e-8


def linear_program(X, y, delta, norm, loss, intercept):
    """Hinge and absolute loss for polyhedral norms, written as one programme for HiGHS."""
    n, d = X.shape
    # unknowns: w (d), b, p, q (d), t (n)
    eye, zero, one = np.eye(n), np.zeros, np.ones
    rows, limits = [], []

    def add(w, b, p, q, t, limit):
        rows.append(np.hstack([w, b, p, q, t]))
        limits.append(limit)

    signs = [-1] if loss == "hinge" else [-1, 1]
    for sign in signs:
        factor = y[:, None] if loss == "hinge" else one((n, 1))
        limit = -one(n) if loss == "hinge" else sign * y
        add(sign * factor * X, sign * factor, delta * one((n, 1)), zero((n, d)), -eye, limit)
    for sign in (-1, 1):
        tie = -np.eye(d) if norm == np.inf else zero((d, d))
        p = zero((d, 1)) if norm == np.inf else -one((d, 1))
        add(sign * np.eye(d), zero((d, 1)), p, tie, zero((d, n)), zero(d))
    if norm == np.inf:
        add(zero((1, d)), zero((1, 1)), -one((1, 1)), one((1, d)), zero((1, n)), zero(1))
    cost = np.concatenate([zero(2 * d + 2), one(n) / n])
    free = [(None, None)] * d + [(None, None) if intercept else (0, 0)]
    bounds = free + [(0, None)] * (1 + d + n)
    return linprog(cost, A_ub=np.vstack(rows), b_ub=np.concatenate(limits), bounds=bounds).fun


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("loss", ["hinge", "absolute"])
@pytest.mark.parametrize("norm", [1, np.inf])
def test_fit_against_linear_programming(norm, loss, intercept):
    for seed, (n, d) in enumerate([(60, 8), (15, 30), (8, 1)]):
        X, y = problem(n, d, loss, seed=seed)
        for delta in (0.0, 0.03, 0.3, 2.0):
            ours = linear.fit(X, y, delta, norm, loss, intercept=intercept)
            best = linear_program(X, y, delta, norm, loss, intercept)
            assert ours.risk == pytest.approx(best, abs=1e-8)
            assert ours.risk - ours.gap <= best + 1e-9


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
@pytest.mark.parametrize("norm", [2, np.inf])
def test_fit_against_a_quasi_newton_method(norm, loss):
    """L-BFGS-B on w = u - v, u, v >= 0, and BFGS away from w = 0: first-order methods."""
    X, y = problem(200, 15, loss, seed=9)
    ours = linear.fit(X, y, 0.05, norm, loss)

    def function(v):
        split = norm == np.inf
        w, b = (v[:15] - v[15:30], v[30]) if split else (v[:15], v[15])
        p = v[:30].sum() if split else np.linalg.norm(w)
        z = y * (X @ w + b) - 0.05 * p
        s = -(1 / (1 + np.exp(z)) if loss == "logistic" else np.exp(-z)) / 200
        value = np.log1p(np.exp(-z)).mean() if loss == "logistic" else np.exp(-z).mean()
        g = X.T @ (s * y)
        push = -0.05 * s.sum()
        if split:
            return value, np.concatenate([g + push, push - g, [(s * y).sum()]])
        return value, np.append(g + push * w / p, (s * y).sum())

    if norm == np.inf:
        bounds = [(0, None)] * 30 + [(None, None)]
        options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}
        found = minimize(function, np.zeros(31), jac=True, bounds=bounds, options=options).fun
    else:
        found = minimize(function, np.ones(16) / 9, jac=True, options={"gtol": 1e-10}).fun
    assert ours.risk == pytest.approx(found, abs=1e-9)
    assert ours.gap < 1e-9


def test_fit_without_attack_is_ordinary_fitting():
    from sklearn.linear_model import LogisticRegression

    X, y = problem(80, 6, "squared", seed=10)
    design = np.column_stack([X, np.ones(80)])
    theirs = np.linalg.lstsq(design, y, rcond=None)[0]
    ours = linear.fit(X, y, 0.0, 2, "squared")
    assert_allclose(np.append(ours.w, ours.b), theirs, atol=1e-6)
    assert ours.risk == pytest.approx(np.mean((y - design @ theirs) ** 2), rel=1e-9)

    X, y = problem(80, 6, "logistic", seed=10)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000).fit(X, y)
    ours = linear.fit(X, y, 0.0, np.inf, "logistic")
    assert_allclose(np.append(ours.w, ours.b), np.append(model.coef_, model.intercept_), atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", NORMS)
def test_certificate_holds_at_every_accuracy(norm, loss):
    """The optimum of a tight run lies in [risk - gap, risk] of every loose one."""
    X, y = problem(60, 10, loss, seed=11)
    tight = linear.fit(X, y, 0.1, norm, loss)
    for tol in (0.3, 1e-2, 1e-4):
        loose = linear.fit(X, y, 0.1, norm, loss, tol=tol)
        assert loose.risk - loose.gap <= tight.risk <= loose.risk + 1e-9
        assert loose.gap <= tol * max(1.0, y.var() + 1)
    for shift in np.random.default_rng(12).standard_normal((40, 11)) * 0.1:
        near = linear.adversarial_risk(
            tight.w + shift[:10], tight.b + shift[10], X, y, 0.1, norm, loss
        )
        assert near >= tight.risk - tight.gap


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.array([[2.0]]), [1.0]),
        (np.zeros((4, 2)), [1.0, -1.0, 1.0, 1.0]),
        (np.array([[1.0], [1.0], [1.0]]), [1.0, -1.0, 1.0]),
        (np.array([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [0.0, 2.0]]), [1.0, -1.0, -1.0, 1.0]),
        (1e4 * np.array([[1.0, 0.5], [-1.0, 1e-4], [0.3, 2e-4]]), [1.0, -1.0, -1.0]),
        (np.ones((5, 3)), np.ones(5)),
    ],
)
def test_degenerate_data_are_solved_or_refused_in_plain_words(X, y):
    y = np.asarray(y)
    scale = np.abs(X).max() or 1.0
    for (loss, norm, intercept), share in itertools.product(CASES, (0.0, 0.1, 0.5, 1.0, 1.5)):
        try:
            ours = linear.fit(X, y, share * scale, norm, loss, intercept=intercept)
        except ValueError as refusal:
            assert "no minimizer" in str(refusal)
            assert loss in ("logistic", "exponential")
        else:
            assert 0 <= ours.gap < 1e-8
            b = np.median(y) if intercept else 0.0
            zero = linear.adversarial_risk(0 * ours.w, b, X, y, share * scale, norm, loss)
            assert ours.risk <= zero + 1e-8


def test_scaling_changes_the_model_as_it_should():
    """X -> c X with delta -> c delta and y -> k y: w -> k w / c, risk -> k^2 risk."""
    X, y = problem(40, 6, "squared", seed=13)
    for norm in NORMS:
        one = linear.fit(X, y, 0.1, norm, "squared")
        other = linear.fit(1e4 * X, 1e-3 * y, 1e3, norm, "squared")
        assert other.risk == pytest.approx(1e-6 * one.risk, rel=1e-7)
        assert_allclose(1e7 * other.w, one.w, atol=2e-3)


def test_attack_inf_gives_exact_zeros_and_attack_1_equal_weights():
    rng = np.random.default_rng(14)
    X = rng.standard_normal((300, 30))
    y = np.where(X[:, 0] - X[:, 1] + 0.5 * rng.standard_normal(300) > 0, 1.0, -1.0)
    for loss in MARGIN_LOSSES:
        sparse = linear.fit(X, y, 0.2, np.inf, loss)
        assert np.count_nonzero(sparse.w) <= 5 and (sparse.w[:2] != 0).all()
        flat = linear.fit(X, y, 1.0, 1, loss)
        top = np.abs(flat.w).max()
        assert np.count_nonzero(np.abs(flat.w) == top) >= 2


def test_data_separable_under_attack_have_no_logistic_minimizer():
    X, y = np.array([[2.0, 0.0], [-2.0, 0.5]]), np.array([1.0, -1.0])
    for loss in ("logistic", "exponential"):
        with pytest.raises(ValueError, match="no minimizer"):
            linear.fit(X, y, 1.0, 2, loss)
        with pytest.raises(ValueError, match="no minimizer"):
            linear.fit(X, y, 1.0, np.inf, loss, tol=1e-3)
        with pytest.raises(ValueError, match="no minimizer"):  # one class, so b alone does it
            linear.fit(X, np.ones(2), 1.0, 2, loss)
        assert linear.fit(X, y, 2.2, 2, loss).gap < 1e-9
    assert linear.fit(X, y, 1.0, 2, "hinge").risk < 1e-9


@pytest.mark.parametrize("norm", NORMS)
def test_fit_certifies_real_data(norm):
    for (X, y), loss in [
        (data.breast_cancer(), "logistic"),
        (data.digits_pair(), "hinge"),
        (data.diabetes(), "squared"),
        (data.diabetes(), "absolute"),
    ]:
        assert linear.fit(X, y, 0.3, norm, loss).gap < 1e-8


@pytest.mark.parametrize(("seed", "delta"), [(1, 0.2), (3, 0.07), (3, 0.22)])
def test_fit_does_not_run_away_on_grey_values(seed, delta):
    """Digits 3 and 8 in [0, 1], some pixels constant: mu once grew fivefold in each step."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    X, y = raw.data / 16, np.where(raw.target == 3, 1.0, -1.0)
    pair = np.flatnonzero(np.isin(raw.target, (3, 8)))
    rows = pair[np.random.default_rng(seed).permutation(pair.size)[:238]]
    X, y = X[rows], y[rows]
    found = linear.fit(X, y, delta, np.inf, "logistic")
    assert found.gap < 1e-8
    # the conditions of optimality, in b and in w (the soft threshold of the lasso)
    margins = y * (X @ found.w + found.b) - delta * np.abs(found.w).sum()
    slopes = 1 / (1 + np.exp(margins))
    assert y @ slopes / y.size == pytest.approx(0, abs=1e-5)
    price = delta * slopes.sum()
    pull = X.T @ (y * slopes)
    assert np.abs(pull).max() <= price * (1 + 1e-4)
    kept = np.abs(found.w) > 1e-3 * np.abs(found.w).max()
    assert kept.any()
    assert_allclose(pull[kept], price * np.sign(found.w[kept]), rtol=1e-3)


# ------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", MARGIN_LOSSES)
def test_collapse_radius_from_both_sides(norm, loss):
    X, y = problem(30, 5, loss, seed=15)
    radius = linear.collapse_radius(X, y, norm)
    above = linear.fit(X, y, 1.001 * radius, norm, loss, intercept=False)
    below = linear.fit(X, y, 0.98 * radius, norm, loss, intercept=False)
    assert_array_equal(above.w, 0)
    assert below.risk < above.risk - 1e-7 and np.abs(below.w).max() > 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_zero_threshold_from_both_sides(norm):
    X, y = problem(30, 5, "squared", seed=16)
    radius = linear.zero_threshold(X, y, norm)
    above = linear.fit(X, y, 1.001 * radius, norm, "squared", intercept=False)
    below = linear.fit(X, y, 0.98 * radius, norm, "squared", intercept=False)
    assert_array_equal(above.w, 0)
    assert above.risk == pytest.approx(np.mean(y**2))
    assert below.risk < above.risk - 1e-6


def steepest(X, y, w, delta, norm, count=4000):
    """Least one-sided slope of the squared risk at w over random and axis directions."""
    rng = np.random.default_rng(17)
    d, h = w.size, 1e-7
    directions = np.vstack([rng.standard_normal((count, d)), np.eye(d), -np.eye(d), w, -w])
    dual = {1: np.inf, 2: 2, np.inf: 1}[norm]
    moved = w + h * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    penalty = delta * np.linalg.norm(np.vstack([moved, w]), ord=dual, axis=1)
    residuals = np.abs(y - np.vstack([moved, w]) @ X.T)
    risks = ((residuals + penalty[:, None]) ** 2).mean(axis=1)
    return (risks[:-1].min() - risks[-1]) / h


@pytest.mark.parametrize("norm", NORMS)
def test_interpolation_threshold_from_both_sides(norm):
    for seed in range(4):
        rng = np.random.default_rng(20 + seed)
        X, y = rng.standard_normal((4, 12)), rng.standard_normal(4)
        w = linear.min_norm_interpolator(X, y, norm)
        assert_allclose(X @ w, y, atol=1e-9)
        radius = linear.interpolation_threshold(X, y, norm)
        assert steepest(X, y, w, 0.99 * radius, norm) > -1e-5
        for share, interpolates in [(0.95, True), (1.1, False)]:
            ours = linear.fit(X, y, share * radius, norm, "squared", intercept=False)
            error = np.abs(y - X @ ours.w).max()
            assert error < 1e-4 if interpolates else error > 1e-3
            at_w = linear.adversarial_risk(w, 0.0, X, y, share * radius, norm, "squared")
            assert (at_w - ours.risk < 1e-8) == interpolates


def test_interpolation_threshold_takes_the_best_of_many_dual_solutions():
    """X = diag(1, .1), y = (1, 0): alpha = (1, s) is dual optimal for |s| <= 10, so 1/2."""
    X, y = np.diag([1.0, 0.1]), np.array([1.0, 0.0])
    for norm in (np.inf, 2):
        assert linear.interpolation_threshold(X, y, norm) == pytest.approx(0.5)
    for scale in (1e-5, 1e5):
        assert linear.interpolation_threshold(scale * X, y, np.inf) == pytest.approx(0.5 * scale)
    assert linear.fit(X, y, 0.49, np.inf, "squared", intercept=False).w[0] == pytest.approx(1)
    assert linear.fit(X, y, 0.51, np.inf, "squared", intercept=False).w[0] < 0.99


@pytest.mark.parametrize("norm", NORMS)
def test_min_norm_interpolator_is_least(norm):
    rng = np.random.default_rng(18)
    X, y = rng.standard_normal((3, 9)), rng.standard_normal(3)
    w = linear.min_norm_interpolator(X, y, norm)
    null = np.linalg.svd(X)[2][3:]
    others = w + rng.standard_normal((3000, 6)) * np.geomspace(1e-4, 1, 3000)[:, None] @ null
    assert (linear.dual_norm(others, norm) >= linear.dual_norm(w, norm) - 1e-9).all()
    assert_array_equal(linear.min_norm_interpolator(X, np.zeros(3), norm), 0)


# ------------------------------------------------------------------------------- search


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_pgd_comes_near_the_optimum_and_never_below(norm, loss):
    X, y = problem(100, 5, loss, seed=19)
    best = linear.fit(X, y, 0.1, norm, loss)
    found = linear.pgd_fit(X, y, 0.1, norm, loss, attack_steps=5, epochs=150, lr=0.03)
    assert best.risk - 1e-9 <= found.risk <= best.risk + 0.02
    assert np.isnan(found.gap)
    assert found.risk == linear.adversarial_risk(found.w, found.b, X, y, 0.1, norm, loss)
    again = linear.pgd_fit(X, y, 0.1, norm, loss, attack_steps=5, epochs=150, lr=0.03)
    assert_array_equal(found.w, again.w)


def test_pgd_with_short_steps_from_a_random_start_trains_at_three_quarters_of_the_radius():
    """The trap of the docstring: the mean of min(u + delta, delta), u uniform, is 3/4 delta."""
    X, y = problem(400, 4, "logistic", seed=20)
    settings = {"attack_steps": 5, "epochs": 200, "lr": 0.03, "batch": 400}
    short = linear.pgd_fit(X, y, 0.2, np.inf, "logistic", step_size=0.2 / 5, **settings)
    long = linear.pgd_fit(X, y, 0.2, np.inf, "logistic", **settings)
    at = {share: linear.fit(X, y, share * 0.2, np.inf, "logistic").w for share in (0.75, 1.0)}
    assert np.abs(short.w - at[0.75]).sum() < 0.5 * np.abs(short.w - at[1.0]).sum()
    assert np.abs(long.w - at[1.0]).sum() < 0.5 * np.abs(long.w - at[0.75]).sum()


def test_pgd_batches_losses_and_progress(capsys):
    X, y = problem(30, 3, "hinge", seed=21)
    for loss in MARGIN_LOSSES:
        linear.pgd_fit(X, y, 0.1, np.inf, loss, attack_steps=0, epochs=2, batch=7)
    linear.pgd_fit(X, y, 0.0, 2, "absolute", attack_steps=1, epochs=20, progress=True)
    assert capsys.readouterr().out.count("adversarial risk") == 10
    with pytest.raises(ValueError, match="for norm 1 use fit"):
        linear.pgd_fit(X, y, 0.1, 1, "hinge")


# ------------------------------------------------------------------------------- doors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": 3}, "one of 1, 2 and numpy.inf"),
        ({"norm": True}, "one of 1, 2 and numpy.inf"),
        ({"norm": np.nan}, "one of 1, 2 and numpy.inf"),
        ({"loss": "0-1"}, "accepted are hinge"),
        ({"delta": -0.1}, "delta must be one number at least 0"),
        ({"delta": np.nan}, "delta"),
        ({"y": [0.0, 1.0, 1.0]}, "-1 or 1"),
        ({"y": [1.0, 1.0]}, "one entry per row of X"),
        ({"X": np.ones(3)}, "one row per sample"),
        ({"X": np.ones((0, 2))}, "one row per sample"),
        ({"X": [[1.0], [np.inf], [0.0]]}, "finite"),
        ({"tol": 0.0}, "greater than 0"),
    ],
)
def test_bad_input_is_refused_at_the_door(change, message):
    good = {
        "X": [[1.0], [2.0], [0.0]], "y": [1, -1, 1], "delta": 0.1, "norm": 2, "loss": "hinge"
    }  # fmt: skip
    linear.fit(**good)
    with pytest.raises(ValueError, match=message):
        linear.fit(**(good | change))


def test_other_doors():
    X, y = np.eye(3), np.array([1.0, -1.0, 1.0])
    with pytest.raises(TypeError, match="real numbers"):
        linear.dual_norm([1j], 2)
    with pytest.raises(ValueError, match="one entry per column of X"):
        linear.adversarial_risk(np.ones(2), 0.0, X, y, 0.1, 2, "hinge")
    with pytest.raises(ValueError, match="every target in y is zero"):
        linear.zero_threshold(X, 0 * y, 2)
    with pytest.raises(ValueError, match="full row rank"):
        linear.interpolation_threshold(np.ones((2, 3)), y[:2], np.inf)
    with pytest.raises(ValueError, match="must be a vector"):
        linear.worst_perturbation(X, 2)
    with pytest.raises(ValueError, match="at least one margin"):
        linear.aggregate_hinge([], 1.0, 1.0)
    with pytest.raises(ValueError, match="two at least"):
        linear.pairwise_bound(np.ones((1, 3)), 0.0, X, [0, 0, 0], 0.1, 2)


def test_inputs_stay_as_they_were():
    X, y = problem(20, 4, "hinge", seed=22)
    before = X.copy(), y.copy()
    linear.fit(X, y, 0.1, np.inf, "hinge")
    linear.pgd_fit(X, y, 0.1, np.inf, "hinge", epochs=1)
    assert_array_equal(X, before[0])
    assert_array_equal(y, before[1])


# ------------------------------------------------------------------------------- data sets


def test_tables_are_those_of_scikit_learn_standardized():
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
    from sklearn.preprocessing import StandardScaler

    raw = load_breast_cancer()
    X, y = data.breast_cancer()
    assert X.shape == (569, 30) and (np.sum(y == 1), np.sum(y == -1)) == (357, 212)
    assert raw.target_names[raw.target[y == 1]].tolist() == ["benign"] * 357
    assert_allclose(X, StandardScaler().fit_transform(raw.data), atol=1e-10)

    raw = load_diabetes(scaled=False)
    X, y = data.diabetes()
    assert X.shape == (442, 10) and y.shape == (442,)
    assert_allclose(X, StandardScaler().fit_transform(raw.data), atol=1e-10)
    assert_allclose(y, (raw.target - raw.target.mean()) / raw.target.std(), atol=1e-12)

    raw = load_digits()
    X, y = data.digits_pair()
    chosen = np.isin(raw.target, (3, 8))
    assert X.shape == (chosen.sum(), 64)
    assert_array_equal(np.where(y > 0, 8, 3), raw.target[chosen])
    assert_allclose(X, StandardScaler().fit_transform(raw.data[chosen]), atol=1e-10)
    assert (X[:, 0] == 0).all()  # a pixel that is blank in all images
    for a, b in [(3, 3), (0, 10), (1.5, 2)]:
        with pytest.raises(ValueError, match=r"digit|integer"):
            data.digits_pair(a, b)
