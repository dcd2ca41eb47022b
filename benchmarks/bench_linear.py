"""Adversarial training of a linear model, solved, against search and against a generic solver.

Run ``make bench``.  Each test first asserts what accuracy both sides reach: `fit` stops at a
certified gap of 1e-10 of the risk of the best constant model, the generic solver at 1e-8 or so,
and projected gradient adversarial training (PGD) gets as many epochs as it needs for a gap of
1e-3, found in advance with the learning rate that served it best.
"""

import numpy as np
import pytest

from advreg import linear

DELTA = 0.05


@pytest.fixture(scope="module")
def problem():
    """1000 samples, 100 features of which 10 matter, labels and targets."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 100))
    t = X[:, :10].sum(axis=1) + 2 * rng.standard_normal(1000)
    return X, {"logistic": np.sign(t), "squared": t}


@pytest.mark.parametrize(
    ("loss", "lr", "accuracy"), [("logistic", 0.003, 1e-3), ("squared", 0.01, 1e-3)]
)
def test_fit_against_pgd(compare, problem, loss, lr, accuracy):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    X, targets = problem
    y = targets[loss]

    def ours():
        return linear.fit(X, y, DELTA, np.inf, loss)

    def search(epochs):
        return linear.pgd_fit(X, y, DELTA, np.inf, loss, epochs=epochs, lr=lr)

    best, epochs = ours(), 100
    while search(epochs).risk - best.risk > accuracy * best.risk and epochs < 1600:
        epochs *= 2
    low, high = epochs // 2, epochs
    while high - low > 25:
        middle = (low + high) // 2
        enough = search(middle).risk - best.risk <= accuracy * best.risk
        low, high = (low, middle) if enough else (middle, high)
    name = f"1000 x 100, {loss}, attack inf"
    peer = f"PGD-10, {high} epochs, Adam, gap {accuracy:g}"
    compare(name, ours, peer, lambda: search(high), goal=500, rounds=3)


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_fit_against_a_conic_solver(compare, problem, loss, norm):
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    X, targets = problem
    y = targets[loss]
    w, b = cp.Variable(X.shape[1]), cp.Variable()
    penalty = DELTA * cp.norm(w, 1 if norm == np.inf else 2)
    if loss == "logistic":
        risk = cp.sum(cp.logistic(-cp.multiply(y, X @ w + b) + penalty)) / y.size
    else:
        risk = cp.sum_squares(cp.abs(y - X @ w - b) + penalty) / y.size
    program = cp.Problem(cp.Minimize(risk))

    def ours():
        return linear.fit(X, y, DELTA, norm, loss)

    def generic():
        # what it did before is forgotten: the work of the first solve counts
        w.value = b.value = None
        program.solve(solver=cp.CLARABEL)
        return linear.adversarial_risk(w.value, float(b.value), X, y, DELTA, norm, loss)

    assert generic() == pytest.approx(ours().risk, rel=1e-6)
    compare(f"1000 x 100, {loss}, attack {norm}", ours, "cvxpy, Clarabel", generic, 100, rounds=3)
