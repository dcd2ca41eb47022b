"""Adversarial training of a linear model, solved, against search and against a generic solver.

Run ``make bench``.  Both sides of a test stop at the same accuracy, which it first asserts: the
generic solver at its own, about 1e-8; projected gradient training (PGD) 1e-3 above the least risk
(logistic, 0.48) or 1 % above it (squared, 5.5), with the best epochs and learning rate that were
found by hand.
"""

import numpy as np
import pytest

from advreg import linear

DELTA = 0.05


def problem(loss, n=1000, d=100):
    """Samples, 10 of whose features matter, and their labels or targets."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    t = X[:, :10].sum(axis=1) + 2 * rng.standard_normal(n)
    return X, t if loss == "squared" else np.sign(t)


@pytest.mark.parametrize(
    ("loss", "lr", "epochs", "accuracy"),
    [("logistic", 0.005, 600, 1e-3), ("squared", 0.02, 500, 1e-2)],
)
def test_fit_against_pgd(compare, loss, lr, epochs, accuracy):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    X, y = problem(loss)

    best = linear.fit(X, y, DELTA, np.inf, loss).risk
    allowed = accuracy * (1 if loss == "logistic" else best)

    def ours():
        return linear.fit(X, y, DELTA, np.inf, loss, tol=accuracy)

    def search():
        return linear.pgd_fit(X, y, DELTA, np.inf, loss, epochs=epochs, lr=lr)

    assert max(search().risk, ours().risk) <= best + allowed
    peer = f"PGD-10, {epochs} epochs of Adam"
    compare(f"1000 x 100, {loss}, attack inf", ours, peer, search, goal=500, rounds=3)


@pytest.mark.parametrize(
    ("loss", "norm", "n", "d"),
    [
        ("logistic", 2, 1000, 100),
        ("logistic", np.inf, 1000, 100),
        ("logistic", np.inf, 2000, 200),
        ("squared", 2, 1000, 100),
        ("squared", np.inf, 1000, 100),
        ("squared", np.inf, 2000, 200),
    ],
)
def test_fit_against_a_conic_solver(compare, loss, norm, n, d):
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    X, y = problem(loss, n, d)
    w, b = cp.Variable(X.shape[1]), cp.Variable()
    penalty = DELTA * cp.norm(w, 1 if norm == np.inf else 2)
    if loss == "logistic":
        risk = cp.sum(cp.logistic(-cp.multiply(y, X @ w + b) + penalty)) / y.size
    else:
        risk = cp.sum_squares(cp.abs(y - X @ w - b) + penalty) / y.size
    program = cp.Problem(cp.Minimize(risk))

    def ours():
        return linear.fit(X, y, DELTA, norm, loss, tol=1e-8)

    def generic():
        program.solve(solver=cp.CLARABEL)
        return linear.adversarial_risk(w.value, float(b.value), X, y, DELTA, norm, loss)

    assert generic() == pytest.approx(ours().risk, rel=1e-6)
    compare(f"{n} x {d}, {loss}, attack {norm}", ours, "cvxpy, Clarabel", generic, 100, rounds=3)
