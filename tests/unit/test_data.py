"""Signals, images and noise: ranges, exact identities, and statistics with their errors."""

import numpy as np
import pytest
from scipy import integrate

from advreg import data

NOISES = {
    "white": lambda shape, level, rng: data.white_noise(shape, level, rng),
    "smooth": lambda shape, level, rng: data.coloured_noise(shape, level, -2.0, rng),
    "rough": lambda shape, level, rng: data.coloured_noise(shape, level, 0.5, rng),
    "bounded": lambda shape, level, rng: data.bounded_noise(shape, level, rng),
}


def test_ecg_is_the_record():
    import pywt.data

    signal = data.ecg()
    assert signal.dtype == np.float64 and signal.shape == (1024,)
    np.testing.assert_array_equal(signal, pywt.data.ecg())
    assert (signal.min(), signal.max()) == (-112, 250)  # as the docstring says
    np.testing.assert_array_equal(data.ecg(100), signal[:100])
    signal[:] = 0  # the next caller gets the record again
    assert data.ecg().any()


def test_photograph_is_the_mean_grey_value_of_each_area():
    from skimage.data import camera

    full = camera() / 255.0
    np.testing.assert_allclose(data.photograph(512), full, atol=1e-14)
    for size in (256, 32):
        block = 512 // size
        expected = full.reshape(size, block, size, block).mean(axis=(1, 3))
        np.testing.assert_allclose(data.photograph(size), expected, atol=1e-12)
    assert data.photograph().shape == (256, 256)
    odd = data.photograph(100)
    assert odd.shape == (100, 100) and odd.min() >= 0 and odd.max() <= 1
    assert odd.mean() == pytest.approx(full.mean(), abs=1e-10)


def test_photographs_are_those_of_the_packages():
    pictures = data.photographs(96)
    assert list(pictures) == sorted(pictures) and len(pictures) == 11
    for name, picture in pictures.items():
        assert picture.shape == (96, 96) and picture.dtype == np.float64, name
        assert picture.min() >= 0 and picture.max() <= 1, name
        assert picture.std() > 0.03, name
    # no two of them are the same picture, upside down or not
    flat = np.array([p - p.mean() for p in pictures.values()])
    for view in (flat, flat[:, ::-1], flat[:, :, ::-1]):
        scaled = [v.reshape(11, -1) for v in (flat, view)]
        scaled = [v / np.linalg.norm(v, axis=1)[:, None] for v in scaled]
        likeness = np.abs(scaled[0] @ scaled[1].T) - np.eye(11)
        assert likeness.max() < 0.9
    np.testing.assert_allclose(pictures["camera"], data.photograph(96), atol=1e-14)


def test_photographs_are_mean_grey_values_of_the_central_square():
    import skimage.data
    from skimage.color import rgb2gray

    cat = rgb2gray(skimage.data.chelsea())  # 300 x 451
    square = cat[:, 75:375]
    np.testing.assert_allclose(data.photographs(300)["chelsea"], square, atol=1e-12)
    blocks = square.reshape(100, 3, 100, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(data.photographs(100)["chelsea"], blocks, atol=1e-12)
    coins = skimage.data.coins()[:, 40:343] / 255  # 303 x 384, an odd number of columns left over
    assert data.photographs(150)["coins"].mean() == pytest.approx(coins.mean(), abs=1e-10)


def test_photographs_need_no_network(monkeypatch):
    """scikit-image fetches some pictures; these lie in its package, and pooch is not asked."""
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("photographs() opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(data.photographs(2)) == 11


@pytest.mark.parametrize("size", [1, 301, 8.0, "8", None, True])
def test_photographs_of_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="size must be an integer 2 to 300; got"):
        data.photographs(size)


@pytest.mark.parametrize("size", [2, 64, 101])
def test_shepp_logan_range_and_shape(size):
    image = data.shepp_logan(size)
    assert image.shape == (size, size) and image.dtype == np.float64
    assert image.min() >= 0 and image.max() <= 1


def test_shepp_logan_grey_values():
    image = data.shepp_logan(400)

    def at(x, y):
        return image[int((1 - y) * 200), int((1 + x) * 200)]

    assert at(0.9, 0.9) == 0  # outside the head
    assert at(0.0, 0.9) == pytest.approx(1.0)  # skull
    assert at(0.0, -0.4) == pytest.approx(0.2)  # brain
    assert at(0.22, 0.0) == pytest.approx(0.0) and at(-0.22, 0.0) == pytest.approx(0.0)
    assert at(0.0, 0.45) == pytest.approx(0.3)  # the large bright ellipse, near the top
    assert at(-0.32, 0.32) == pytest.approx(0.0)  # the left dark one leans to the left
    assert at(-0.11, 0.32) == pytest.approx(0.3)


def test_shepp_logan_is_that_of_scikit_image():
    from skimage.data import shepp_logan_phantom

    theirs = shepp_logan_phantom()  # 400 x 400
    gap = np.abs(data.shepp_logan(400) - theirs)
    # the same ellipses; only pixels on an edge may differ (about 4 % of them are on one)
    assert gap.mean() < 0.01
    assert np.count_nonzero(gap > 0.02) < 0.05 * gap.size


def test_shepp_logan_area_is_that_of_its_ellipses():
    ellipses = data.SHEPP_LOGAN_ELLIPSES
    exact = np.pi * np.sum(ellipses[:, 0] * ellipses[:, 1] * ellipses[:, 2])
    # edge pixels carry 1/16 steps with errors of random sign
    assert 4 * data.shepp_logan(256).mean() == pytest.approx(exact, rel=2e-3)
    # finer sampling of the pixels, same image
    gap = data.shepp_logan(32, oversampling=16) - data.shepp_logan(32, oversampling=15)
    assert 0 < np.abs(gap).max() < 0.1


def test_shepp_logan_sinogram_by_quadrature_along_lines():
    """The phantom on a line is piecewise constant: sample it 2e5 times and add up."""
    ellipses = data.SHEPP_LOGAN_ELLIPSES
    t = (np.arange(200_000) + 0.5) / 100_000 - 1
    angles, positions = np.array([0.0, 0.4, 1.3, 2.0, 3.0]), np.array([-0.6, -0.1, 0.0, 0.33, 0.95])
    sinogram = data.shepp_logan_sinogram(angles, positions)
    for i, theta in enumerate(angles):
        for j, s in enumerate(positions):
            x = s * np.cos(theta) - t * np.sin(theta)
            y = s * np.sin(theta) + t * np.cos(theta)
            values = np.zeros_like(t)
            for grey, a, b, x0, y0, tilt in ellipses:
                turned = ((x - x0) + 1j * (y - y0)) * np.exp(-1j * np.deg2rad(tilt))
                values[(turned.real / a) ** 2 + (turned.imag / b) ** 2 <= 1] += grey
            # each of at most 20 jumps costs one step of 1e-5
            assert sinogram[i, j] == pytest.approx(values.sum() * 1e-5, abs=2e-4)


def test_shepp_logan_sinogram_keeps_the_mass_at_every_angle():
    ellipses = data.SHEPP_LOGAN_ELLIPSES
    exact = np.pi * np.sum(ellipses[:, 0] * ellipses[:, 1] * ellipses[:, 2])
    s = np.linspace(-1, 1, 4001)
    mass = integrate.trapezoid(data.shepp_logan_sinogram(np.linspace(0, 3, 7), s), s, axis=1)
    np.testing.assert_allclose(mass, exact, rtol=1e-4)
    for bad in ([[0.0]], [np.nan], 1.0, ["a"]):
        with pytest.raises(ValueError, match="one-axis array of finite numbers"):
            data.shepp_logan_sinogram(bad, s)
        with pytest.raises(ValueError, match="one-axis array of finite numbers"):
            data.shepp_logan_sinogram([0.0], bad)


@pytest.mark.parametrize("function", [data.ecg, data.photograph, data.shepp_logan])
@pytest.mark.parametrize("size", [1, 0, -4, 8.0, "8", None, True, 10**4])
def test_sizes_out_of_range_are_refused(function, size):
    if function is data.shepp_logan and size == 10**4:
        pytest.skip("the phantom has no largest size")
    with pytest.raises(ValueError, match=r"must be an integer.*got"):
        function(size)


# ---------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("noise", NOISES, ids=str)
class TestEveryNoise:
    def test_shape_type_and_repeatability(self, noise):
        draw = NOISES[noise]
        for shape, expected in ((5, (5,)), ((4, 3), (4, 3)), ([2, 3, 4], (2, 3, 4))):
            first = draw(shape, 0.3, np.random.default_rng(1))
            assert first.shape == expected and first.dtype == np.float64
            np.testing.assert_array_equal(first, draw(shape, 0.3, np.random.default_rng(1)))
        rng = np.random.default_rng(1)
        assert (draw(6, 0.3, rng) != draw(6, 0.3, rng)).all()

    def test_level_is_a_factor(self, noise):
        draw = NOISES[noise]
        one = draw((3, 4), 1.0, np.random.default_rng(2))
        np.testing.assert_allclose(draw((3, 4), 2.5, np.random.default_rng(2)), 2.5 * one)
        assert not draw((3, 4), 0, np.random.default_rng(2)).any()

    @pytest.mark.parametrize(
        "rng",
        [None, 0, np.random, np.random.RandomState(0)],
        ids=["none", "integer", "module", "legacy"],
    )
    def test_needs_a_generator(self, noise, rng):
        with pytest.raises(TypeError, match="default_rng"):
            NOISES[noise](4, 1.0, rng)

    @pytest.mark.parametrize("level", [-1e-9, np.nan, np.inf, "1", None, 1j])
    def test_needs_a_level(self, noise, level):
        with pytest.raises(ValueError, match="level must be"):
            NOISES[noise](4, level, np.random.default_rng(0))

    @pytest.mark.parametrize("shape", [0, -2, (), (3, 0), (2.0,)])
    def test_needs_a_shape(self, noise, shape):
        with pytest.raises(ValueError, match="shape must"):
            NOISES[noise](shape, 1.0, np.random.default_rng(0))

    def test_mean_is_zero_and_expected_squared_norm_as_promised(self, noise):
        shape, level, draws = (6, 5), 0.7, 4000
        rng = np.random.default_rng(3)
        sample = np.array([NOISES[noise](shape, level, rng) for _ in range(draws)])
        squares = (sample**2).sum(axis=(1, 2))
        expected = level**2 if noise == "bounded" else 30 * level**2
        error = squares.std() / np.sqrt(draws)  # standard error of the mean; 0 when bounded
        assert abs(squares.mean() - expected) <= 4 * error + 1e-12
        # 30 means at once: 4.5 standard errors are passed with probability 2e-4
        deviation = sample.std(axis=0) / np.sqrt(draws)
        assert (np.abs(sample.mean(axis=0)) <= 4.5 * deviation).all()


def test_white_noise_is_independent():
    sample = data.white_noise((20_000, 6), 0.5, np.random.default_rng(4))
    covariance = sample.T @ sample / 20_000
    # standard errors: 0.25 sqrt(2 / 20000) = 2.5e-3 on the diagonal, less beside it
    np.testing.assert_allclose(covariance, 0.25 * np.eye(6), atol=4 * 2.5e-3)


@pytest.mark.parametrize("exponent", [-2.0, -0.5, 1.0])
def test_coloured_noise_has_the_spectrum_it_says(exponent):
    size, draws, rng = 32, 4000, np.random.default_rng(5)
    sample = np.array([data.coloured_noise(size, 1.0, exponent, rng) for _ in range(draws)])
    power = (np.abs(np.fft.rfft(sample)) ** 2).mean(axis=0)
    k = np.maximum(np.arange(17), 1)
    # relative standard error sqrt(2 / draws) = 2.2 % where the coefficient is real, else less
    np.testing.assert_allclose(power / power[1], k ** (2 * exponent), rtol=0.12)


def test_coloured_noise_in_two_dimensions_is_isotropic():
    rng = np.random.default_rng(6)
    sample = np.array([data.coloured_noise((8, 16), 1.0, -1.0, rng) for _ in range(4000)])
    power = (np.abs(np.fft.fft2(sample)) ** 2).mean(axis=0)
    length2 = np.fft.fftfreq(8, 1 / 8)[:, None] ** 2 + np.fft.fftfreq(16, 1 / 16) ** 2
    np.testing.assert_allclose(power * np.maximum(length2, 1) / power[0, 1], 1, rtol=0.13)


def test_coloured_noise_of_exponent_zero_is_white_noise():
    white = data.white_noise((9, 4), 0.3, np.random.default_rng(7))
    coloured = data.coloured_noise((9, 4), 0.3, 0.0, np.random.default_rng(7))
    np.testing.assert_allclose(coloured, white, atol=1e-14)


@pytest.mark.parametrize("exponent", [np.nan, np.inf, None, "2"])
def test_coloured_noise_needs_a_finite_exponent(exponent):
    with pytest.raises(ValueError, match="exponent must be"):
        data.coloured_noise(8, 1.0, exponent, np.random.default_rng(0))


def test_bounded_noise_is_uniform_on_the_sphere():
    rng, level = np.random.default_rng(8), 2.0
    sample = np.array([data.bounded_noise(3, level, rng) for _ in range(20_000)])
    np.testing.assert_allclose(np.linalg.norm(sample, axis=1), level, rtol=1e-14)
    # on the sphere in three dimensions every coordinate is uniform on [-level, level]
    # (Archimedes); the distance of Kolmogorov exceeds 1.95 / sqrt(n) with probability 1e-3
    for coordinate in sample.T:
        empirical = np.arange(1, 20_001) / 20_000
        distance = np.abs(empirical - (np.sort(coordinate) + level) / (2 * level)).max()
        assert distance < 1.95 / np.sqrt(20_000)
