"""Denoising by a convolutional regularizer, and learning its filters.

Run ``make bench``.  Each test first asserts that both sides are equally good: the same minimizer,
the same gradient, or the same quality on the same image.
"""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import denoise_tv_bregman, denoise_tv_chambolle

from advreg import data, variational

NOISE = 0.1
WIDTH = 0.05  # of the smoothed absolute value
ACCURACY = 1e-5  # of a minimizer, in the norm of a signal


@pytest.fixture(scope="module")
def signals():
    """32 piecewise constant signals of 64 samples, their data, and one filter of five taps."""
    rng = np.random.default_rng(0)
    x = variational.piecewise_constant(32, 64, 6, rng)
    return x, x + 0.3 * rng.standard_normal(x.shape), 0.3 * rng.standard_normal((1, 5))


class Unrolled:
    """The same accelerated descent, written in torch, circular convolutions in space."""

    def __init__(self, x, y, steps):
        self.x, self.y, self.steps = torch.as_tensor(x), torch.as_tensor(y), steps

    def minimizer(self, k):
        y, taps = self.y[:, None], k.shape[-1]
        kernel = k[:, None].flip(-1)

        def slopes(x):
            r = torch.nn.functional.conv1d(
                torch.nn.functional.pad(x, (taps - 1, 0), mode="circular"), kernel
            )
            r = r / torch.sqrt(r**2 + WIDTH**2)
            return torch.nn.functional.conv1d(
                torch.nn.functional.pad(r, (0, taps - 1), mode="circular"), k[None]
            )

        with torch.no_grad():
            spectrum = (torch.fft.fft(k, n=y.shape[-1]).abs() ** 2).sum(0).max()
            smoothness = 1 + spectrum / WIDTH
            momentum = (1 - smoothness**-0.5) / (1 + smoothness**-0.5)
        point = last = y
        for _ in range(self.steps):
            new = point - (point - y + slopes(point)) / smoothness
            point, last = new + momentum * (new - last), new
        return point[:, 0]

    def gradient(self, k):
        k = torch.as_tensor(k).requires_grad_()
        loss = ((self.minimizer(k) - self.x) ** 2).mean() / 2
        (gradient,) = torch.autograd.grad(loss, k)
        return gradient.numpy()


def test_minimizers_against_torch(compare, signals):
    x, y, k = signals
    potential = variational.SmoothedL1(WIDTH)
    exact = variational.denoise(y, k, potential, tol=1e-12).x

    def ours():
        return variational.denoise(y, k, potential, tol=ACCURACY).x

    def error(found):
        return np.linalg.norm(found - exact, axis=1).max()

    steps = next(
        steps
        for steps in range(5, 2000, 5)
        if error(Unrolled(x, y, steps).minimizer(torch.as_tensor(k)).numpy()) <= error(ours())
    )
    peer = Unrolled(x, y, steps)

    def torch_loop():
        with torch.no_grad():
            return peer.minimizer(torch.as_tensor(k)).numpy()

    assert error(torch_loop()) <= ACCURACY
    compare("32 signals of 64: denoise, certified", ours, f"torch, {steps} steps", torch_loop)


def test_filter_gradient_against_unrolling_in_torch(compare, signals):
    x, y, k = signals
    potential = variational.SmoothedL1(WIDTH)
    exact = variational.filter_gradient(y, x, k, potential, tol=1e-12)[1]

    def ours():
        return variational.filter_gradient(y, x, k, potential, tol=ACCURACY)[1]

    def error(gradient):
        return np.linalg.norm(gradient - exact) / np.linalg.norm(exact)

    steps = next(
        steps
        for steps in range(10, 4000, 10)
        if error(Unrolled(x, y, steps).gradient(k)) <= max(error(ours()), 1e-6)
    )
    peer = Unrolled(x, y, steps)
    assert max(error(ours()), error(peer.gradient(k))) < 1e-4
    name = f"torch, {steps} steps unrolled"
    compare("32 signals of 64: filter_gradient", ours, name, lambda: peer.gradient(k))


def _quality(x, found):
    return peak_signal_noise_ratio(x, found, data_range=1.0)


@pytest.fixture(scope="module")
def photograph():
    x = data.photograph(256)
    return x, x + NOISE * np.random.default_rng(0).standard_normal(x.shape)


def _tuned(denoiser, weights, x, y):
    """The weight of highest quality, and its quality; the same oracle for both sides."""
    return max((_quality(x, denoiser(y, weight)), weight) for weight in weights)


def _ours(y, weight):
    """A smoothing of 0.5 % of the grey scale, and a certificate of 0.004 per pixel."""
    potential = variational.SmoothedL1(0.005 * weight)
    return variational.denoise(y, weight * variational.tv_filters(2), potential, tol=1.0).x


@pytest.mark.parametrize("name", ["chambolle", "bregman"])
def test_total_variation_against_scikit_image(compare, photograph, name):
    """Chambolle's is the isotropic total variation, Bregman's the anisotropic one, as ours is."""
    x, y = photograph

    def chambolle(y, weight):
        return denoise_tv_chambolle(y, weight=weight)

    def bregman(y, weight):
        return denoise_tv_bregman(y, weight=1 / weight, isotropic=False)

    library = {"chambolle": chambolle, "bregman": bregman}[name]
    weights = np.geomspace(0.03, 0.15, 15)
    (our_quality, our_weight), (quality, weight) = (
        _tuned(denoiser, weights, x, y) for denoiser in (_ours, library)
    )
    assert abs(our_quality - quality) < 0.3  # decibels
    compare(
        f"photograph of 256 x 256: total variation, {our_quality:.1f} dB",
        lambda: _ours(y, our_weight),
        f"skimage, {name}, {quality:.1f} dB",
        lambda: library(y, weight),
    )


def test_total_variation_against_pyproximal(compare, photograph):
    """The isotropic total variation of a maintained library of inverse problems."""
    import pyproximal

    x, y = photograph

    def library(y, weight):
        prox = pyproximal.TV(dims=y.shape, sigma=weight, niter=50)
        return prox.prox(y.ravel(), 1.0).reshape(y.shape)

    weights = np.geomspace(0.03, 0.15, 8)
    (our_quality, our_weight), (quality, weight) = (
        _tuned(denoiser, weights, x, y) for denoiser in (_ours, library)
    )
    assert abs(our_quality - quality) < 0.3
    compare(
        f"photograph of 256 x 256: total variation, {our_quality:.1f} dB",
        lambda: _ours(y, our_weight),
        f"pyproximal, {quality:.1f} dB",
        lambda: library(y, weight),
        rounds=5,
    )
