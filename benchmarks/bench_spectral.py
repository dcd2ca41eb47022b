"""A whole grid of parameters at once, against one regularized solve per parameter.

Run ``make bench``.  Each test first asserts that both sides give the same answer.  What the
peers could compute once for all parameters (the Gram matrix, A*y) they have for free.
"""

import numpy as np
import pytest
from scipy import linalg
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.linear_model import RidgeCV

from advreg import data, spectral
from advreg.operators import Integration, gaussian_blur

ALPHAS = np.geomspace(1e-7, 1e-1, 100)


@pytest.fixture(scope="module")
def integration():
    """Operator, matrix, noisy data and a bound of the noise's norm, for 512 samples."""
    operator, rng = Integration(512), np.random.default_rng(0)
    noise = data.bounded_noise((512,), 0.05, rng)
    y = operator.forward(np.cos(np.pi * operator.grid / 2)) + noise
    return operator, operator.to_matrix(), y, 0.05


def test_tikhonov_on_a_grid_against_cholesky(compare, integration):
    operator, matrix, y, _ = integration
    gram, rhs, eye = matrix.T @ matrix, matrix.T @ y, np.eye(512)

    def loop():
        return [linalg.solve(gram + a * eye, rhs, assume_a="pos") for a in ALPHAS]

    def ours():
        return spectral.reconstruct(operator, y, "tikhonov", ALPHAS)

    # The Gram matrix squares the condition: the peer loses digits as alpha decreases.
    np.testing.assert_allclose(ours(), loop(), atol=1e-7)
    compare("integration 512: Tikhonov, 100 alphas", ours, "scipy solve per alpha", loop, rounds=5)


def test_tikhonov_on_a_grid_against_a_dense_svd(compare, integration):
    operator, matrix, y, _ = integration

    def dense():
        v, sigma, ut = linalg.svd(matrix)
        return (spectral.gain(spectral.tikhonov(sigma, ALPHAS[:, None]), sigma) * (v.T @ y)) @ ut

    def ours():
        return spectral.reconstruct(operator, y, "tikhonov", ALPHAS)

    np.testing.assert_allclose(ours(), dense(), atol=1e-9)
    compare("integration 512: Tikhonov, 100 alphas", ours, "one scipy svd, vectorised", dense)


def test_deblurring_on_a_grid_against_conjugate_gradients(compare):
    operator, rng = gaussian_blur((64, 64), 1.5), np.random.default_rng(1)
    y = operator.forward(data.shepp_logan(64)) + data.white_noise((64, 64), 0.01, rng)
    alphas = np.geomspace(1e-4, 1e-1, 20)
    rhs = operator.adjoint(y).ravel()

    def loop():
        images = []
        for a in alphas:

            def normal(x, a=a):
                x = x.reshape(64, 64)
                return (operator.adjoint(operator.forward(x)) + a * x).ravel()

            system = LinearOperator((4096, 4096), matvec=normal, dtype=float)
            images.append(cg(system, rhs, rtol=1e-6)[0].reshape(64, 64))
        return images

    def ours():
        return spectral.reconstruct(operator, y, "tikhonov", alphas)

    np.testing.assert_allclose(ours(), loop(), atol=1e-3)
    compare("image 64 x 64: Tikhonov, 20 alphas", ours, "scipy cg per alpha", loop, rounds=3)


def test_discrepancy_principle(compare, integration):
    operator, matrix, y, noise = integration
    gram, rhs, eye = matrix.T @ matrix, matrix.T @ y, np.eye(512)

    def solve_until():
        def excess(t):
            x = linalg.solve(gram + np.exp(t) * eye, rhs, assume_a="pos")
            return np.linalg.norm(matrix @ x - y) - 1.1 * noise

        return np.exp(brentq(excess, np.log(1e-7), 0.0, xtol=1e-10))

    def ours():
        return spectral.discrepancy_principle(operator, y, "tikhonov", noise).alpha

    assert ours() == pytest.approx(solve_until(), rel=1e-6)
    compare("integration 512: discrepancy principle", ours, "brentq over scipy solves", solve_until)


def test_gcv_against_scikit_learn(compare):
    """All leverages of a circulant matrix are equal, so GCV and leave-one-out are the same."""
    operator, rng = gaussian_blur(512, 4.0), np.random.default_rng(2)
    y = operator.forward(data.ecg(512)) + data.white_noise((512,), 2.0, rng)
    matrix = operator.to_matrix()

    def sklearn():
        return RidgeCV(ALPHAS, fit_intercept=False).fit(matrix, y).alpha_

    def ours():
        return spectral.gcv(operator, y, "tikhonov", ALPHAS).alpha

    assert ours() == sklearn()
    compare("blur 512: cross-validation, 100 alphas", ours, "sklearn RidgeCV", sklearn, rounds=5)


def test_worst_case_error(compare):
    """One vectorised Newton iteration, against a root finder on the secular equation per alpha."""
    n = np.arange(1, 513)
    sigma, x, delta = 1.0 / n, 1.0 / n, 1e-3
    q = spectral.tikhonov(sigma, ALPHAS[:, None])

    def loop():
        values = []
        for row in q:
            b, g = (1 - row) * x, row / sigma
            top = (g**2).max()

            def excess(log_gap, b=b, g=g, top=top):
                lam = top * (1 + np.exp(log_gap))
                return np.log(np.linalg.norm(g * b / (lam - g**2)) / delta)

            lam = top * (1 + np.exp(brentq(excess, -30, 60)))
            values.append(np.linalg.norm(b * lam / (lam - g**2)))
        return values

    def ours():
        return spectral.worst_case_error(sigma, x, q, delta)

    np.testing.assert_allclose(ours(), loop(), rtol=1e-6)
    compare("512 modes: worst-case error, 100 alphas", ours, "brentq per alpha", loop)
