"""Learning a filter: one pass over the training data, against the cheapest pass there is.

Run ``make bench``.  Each test first asserts that both sides give the same answer, or, where the
peer only reads, that the answer is right.
"""

import numpy as np
import pytest

from advreg import spectral


@pytest.fixture(scope="module")
def training_pairs():
    """10,000 pairs of 4,096 coefficients: 655 MB."""
    rng = np.random.default_rng(0)
    n = np.arange(1.0, 4097)
    x = rng.standard_normal((10_000, 4096)) / n
    return x, x / n + 1e-3 * rng.standard_normal(x.shape)


def test_fit_gain_against_reading_the_data_once(compare, training_pairs):
    x, y = training_pairs

    def read():
        return np.add.reduce(x, axis=0), np.add.reduce(y, axis=0)

    def ours():
        return spectral.fit_gain(x, y)

    few = np.arange(0, 4096, 512)
    peer = [np.linalg.lstsq(y[:, [n]], x[:, n], rcond=None)[0][0] for n in few]
    np.testing.assert_allclose(ours()[few], peer, rtol=1e-9)
    # the goal: at most 1.2 times the time of the peer
    compare("10,000 x 4,096: fit_gain", ours, "numpy sums x and y", read, goal=1 / 1.2, rounds=5)


def test_fit_gain_against_the_formula(compare, training_pairs):
    x, y = training_pairs

    def formula():
        return (x * y).sum(axis=0) / (y**2).sum(axis=0)

    def ours():
        return spectral.fit_gain(x, y)

    np.testing.assert_allclose(ours(), formula(), rtol=1e-9)
    compare("10,000 x 4,096: fit_gain", ours, "numpy, with temporaries", formula, rounds=5)


def test_fit_plug_in_against_reading_the_data_once(compare, training_pairs):
    x, _ = training_pairs
    sigma = 1 / np.arange(1.0, 4097)

    def read():
        return np.add.reduce(x, axis=0)

    def ours():
        return spectral.fit_plug_in(x, sigma, 1e-6)

    power = (x**2).mean(axis=0)
    np.testing.assert_allclose(ours(), sigma * power / (sigma**2 * power + 1e-6), rtol=1e-9)
    compare("10,000 x 4,096: fit_plug_in", ours, "numpy sums x", read, rounds=5)


def test_gains_on_a_grid_against_the_formula(compare):
    sigma, signal = spectral.model_problem(1.0, 1.0, 10_000)
    noise = np.geomspace(1e-8, 1e-2, 100)[:, None]

    def formula():
        return sigma * signal / (sigma**2 * signal + noise)

    def ours():
        return spectral.mse_gain(sigma, signal, noise)

    np.testing.assert_allclose(ours(), formula(), rtol=1e-12)
    compare("10,000 modes, 100 noise levels: mse_gain", ours, "numpy formula", formula)
