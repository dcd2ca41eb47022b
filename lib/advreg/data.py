"""Signals, images and noise of the book, all float64 and all without a download.

Everything random takes an explicit ``numpy.random.Generator``: two calls with generators
in the same state give the same numbers, and nothing depends on hidden global state.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

__all__ = [
    "bounded_noise",
    "breast_cancer",
    "coloured_noise",
    "diabetes",
    "digits_pair",
    "ecg",
    "photograph",
    "shepp_logan",
    "shepp_logan_sinogram",
    "white_noise",
]

Array = NDArray[np.float64]

# Ellipses of the modified Shepp-Logan phantom (Toft 1996, The Radon Transform, table B.1):
# grey value, half axes, centre, all on the square [-1, 1]^2, and the tilt in degrees.
SHEPP_LOGAN_ELLIPSES = np.array(
    [
        [1.0, 0.69, 0.92, 0.0, 0.0, 0.0],
        [-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0],
        [-0.2, 0.11, 0.31, 0.22, 0.0, -18.0],
        [-0.2, 0.16, 0.41, -0.22, 0.0, 18.0],
        [0.1, 0.21, 0.25, 0.0, 0.35, 0.0],
        [0.1, 0.046, 0.046, 0.0, 0.1, 0.0],
        [0.1, 0.046, 0.046, 0.0, -0.1, 0.0],
        [0.1, 0.046, 0.023, -0.08, -0.605, 0.0],
        [0.1, 0.023, 0.023, 0.0, -0.606, 0.0],
        [0.1, 0.023, 0.046, 0.06, -0.605, 0.0],
    ]
)


def ecg(size: int = 1024) -> Array:
    """Return an electrocardiogram: a few heart beats, as recorded.

    Parameters
    ----------
    size : int
        Number of samples, 2 to 1024, taken from the start of the record.

    Returns
    -------
    array, shape (size,), float64
        The voltage in the recorder's own units (a scale proportional to millivolts whose
        factor the source does not state), between -112 and 250.  The record ships with
        PyWavelets as ``pywt.data.ecg``.

    Raises
    ------
    ValueError
        If `size` is not an integer from 2 to 1024.
    """
    import pywt.data  # imported here: `import advreg.data` stays light

    record = np.asarray(pywt.data.ecg(), dtype=np.float64)
    return record[: _integer(size, "size", 2, record.size)]


def photograph(size: int = 256) -> Array:
    """Return a real photograph, a man behind a camera on a tripod, in grey.

    The 512 x 512 picture ships with scikit-image as ``skimage.data.camera`` (public domain,
    CC0); each pixel of the result is the mean grey value of the area it covers.

    Parameters
    ----------
    size : int
        Number of rows and of columns, 2 to 512.

    Returns
    -------
    array, shape (size, size), float64
        Grey values in [0, 1], 0 black.

    Raises
    ------
    ValueError
        If `size` is not an integer from 2 to 512.
    """
    from skimage.data import camera
    from skimage.transform import resize_local_mean

    picture = camera() / 255.0
    size = _integer(size, "size", 2, picture.shape[0])
    return np.clip(resize_local_mean(picture, (size, size)), 0.0, 1.0)


def shepp_logan(size: int = 128, *, oversampling: int = 4) -> Array:
    """Return the modified Shepp-Logan phantom, ten ellipses that imitate a slice of a head.

    Each pixel is the mean of the phantom over ``oversampling**2`` points of the pixel, so
    edges are grey ramps of one pixel and not stairs.

    Parameters
    ----------
    size : int
        Number of rows and of columns, at least 2; the image covers [-1, 1]^2, rows run
        from top to bottom.
    oversampling : int
        Points per pixel in each direction, at least 1.

    Returns
    -------
    array, shape (size, size), float64
        Values in [0, 1].

    Raises
    ------
    ValueError
        If `size` or `oversampling` is not an integer in its range.
    """
    size = _integer(size, "size", 2)
    oversampling = _integer(oversampling, "oversampling", 1)
    fine = size * oversampling
    axis = (2 * np.arange(fine) + 1) / fine - 1
    x, y = axis[None, :], -axis[:, None]
    image = np.zeros((fine, fine))
    for value, a, b, x0, y0, tilt in SHEPP_LOGAN_ELLIPSES:
        c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        along, across = (x - x0) * c + (y - y0) * s, (y - y0) * c - (x - x0) * s
        image[(along / a) ** 2 + (across / b) ** 2 <= 1] += value
    image = image.reshape(size, oversampling, size, oversampling).mean(axis=(1, 3))
    return np.clip(image, 0.0, 1.0)  # 1 - 0.8 - 0.2 leaves a rounding error below zero


def shepp_logan_sinogram(angles: ArrayLike, positions: ArrayLike) -> Array:
    r"""Return the exact line integrals of the Shepp-Logan phantom.

    Data made by the same matrix that is then inverted hide every modelling error (the
    inverse crime); these come from the ellipses themselves.  The line (theta, s) is
    x cos(theta) + y sin(theta) = s, as in :class:`advreg.operators.ParallelBeam`, and cuts
    an ellipse with half axes a, b and tilt phi, s measured from its centre, in the length

        2 a b sqrt(max(r^2 - s^2, 0)) / r^2,
        r^2 = a^2 cos^2(theta - phi) + b^2 sin^2(theta - phi).

    Parameters
    ----------
    angles : array, shape (p,)
        In radians.
    positions : array, shape (d,)
        Positions s of the detectors, in the units of the square [-1, 1]^2.

    Returns
    -------
    array, shape (p, d), float64

    Raises
    ------
    ValueError
        If `angles` or `positions` is not a one-axis array of finite numbers.
    """
    theta = _finite_axis(angles, "angles")[:, None]
    s = _finite_axis(positions, "positions")
    sinogram = np.zeros((theta.size, s.size))
    for value, a, b, x0, y0, tilt in SHEPP_LOGAN_ELLIPSES:
        turned = theta - np.deg2rad(tilt)
        radius2 = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
        offset = s - x0 * np.cos(theta) - y0 * np.sin(theta)
        sinogram += value * 2 * a * b * np.sqrt(np.maximum(radius2 - offset**2, 0)) / radius2
    return sinogram


def breast_cancer() -> tuple[Array, Array]:
    """Return the Wisconsin breast cancer data: 30 features of 569 tumours, and the diagnosis.

    The table ships with scikit-learn as ``sklearn.datasets.load_breast_cancer``.

    Returns
    -------
    X : array, shape (569, 30), float64
        Every feature has mean 0 and deviation 1 over all 569 rows: who splits them into a
        training and a test part has let the latter into these two statistics.
    y : array, shape (569,), float64
        1 benign (357 rows), -1 malignant (212 rows).
    """
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return _standardized(X), 2.0 * y - 1.0


def diabetes() -> tuple[Array, Array]:
    """Return the diabetes data: 10 features of 442 patients, and the disease a year later.

    The table ships with scikit-learn as ``sklearn.datasets.load_diabetes``.

    Returns
    -------
    X : array, shape (442, 10), float64
    y : array, shape (442,), float64
        A measure of the progression.  It and every feature have mean 0 and deviation 1 over
        all 442 rows: who splits them into a training and a test part has let the latter into
        these statistics.
    """
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True, scaled=False)
    return _standardized(X), _standardized(y)


def digits_pair(a: int = 3, b: int = 8) -> tuple[Array, Array]:
    """Return the handwritten digits `a` and `b`, 8 x 8 pixels each, to be told apart.

    The images ship with scikit-learn as ``sklearn.datasets.load_digits``.

    Parameters
    ----------
    a, b : int
        Two different digits 0 to 9.

    Returns
    -------
    X : array, shape (n, 64), float64
        Grey values of the rows of the image, one after the other.  Every pixel has mean 0 and
        deviation 1 over all n rows (a pixel that is the same in all of them is 0): who splits
        them into a training and a test part has let the latter into these two statistics.
    y : array, shape (n,), float64
        -1 for `a`, 1 for `b`.

    Raises
    ------
    ValueError
        If `a` and `b` are not two different integers 0 to 9.
    """
    from sklearn.datasets import load_digits

    a, b = _integer(a, "a", 0, 9), _integer(b, "b", 0, 9)
    if a == b:
        raise ValueError(f"a and b must be different digits; got {a} twice")
    X, digit = load_digits(return_X_y=True)
    rows = (digit == a) | (digit == b)
    return _standardized(X[rows]), np.where(digit[rows] == b, 1.0, -1.0)


def white_noise(shape: int | Sequence[int], level: float, rng: np.random.Generator) -> Array:
    """Draw white noise: independent entries, each normal with mean 0 and deviation `level`.

    The expected squared norm is ``D * level**2`` for D entries: white noise of a fixed level
    leaves every ball as D grows.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result.
    level : float
        Standard deviation of one entry, in the units of the data, at least 0.
    rng : numpy.random.Generator
        For example ``np.random.default_rng(0)``.

    Returns
    -------
    array of the given shape, float64

    Raises
    ------
    TypeError
        If `rng` is not a ``numpy.random.Generator``.
    ValueError
        If `level` is negative or not finite, or `shape` is not made of positive integers.

    Notes
    -----
    Source: Proposition ``prop-white-noise`` (chapter 1).
    """
    shape, level = _shape(shape), _level(level)
    return level * _generator(rng).standard_normal(shape)


def coloured_noise(
    shape: int | Sequence[int], level: float, exponent: float, rng: np.random.Generator
) -> Array:
    """Draw stationary Gaussian noise with amplitude spectrum ``|k|**exponent``.

    The Fourier coefficient at the integer frequency k has a standard deviation proportional
    to ``|k|**exponent`` (Euclidean length of k in several dimensions), and the mean, k = 0,
    is treated like ``|k| = 1``.  Negative exponents give smooth noise, positive ones rough
    noise, and 0 gives white noise.  The constant is chosen so that the expected squared
    norm is ``D * level**2``, as for :func:`white_noise` of the same level.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result; the noise is periodic along every axis.
    level : float
        Root mean square of the expected entry, in the units of the data, at least 0.
    exponent : float
        Exponent of the amplitude spectrum (half that of the power spectrum).
    rng : numpy.random.Generator
        For example ``np.random.default_rng(0)``.

    Returns
    -------
    array of the given shape, float64

    Raises
    ------
    TypeError
        If `rng` is not a ``numpy.random.Generator``.
    ValueError
        If `level` is negative or not finite, `exponent` not finite, or `shape` is not made
        of positive integers.
    """
    shape, level = _shape(shape), _level(level)
    if not (isinstance(exponent, numbers.Real) and np.isfinite(exponent)):
        raise ValueError(f"exponent must be a finite number; got {exponent!r}")
    frequencies = np.meshgrid(*(fft.fftfreq(n, 1 / n) for n in shape), indexing="ij", sparse=True)
    length = np.sqrt(sum(k**2 for k in frequencies))
    amplitude = np.maximum(length, 1.0) ** exponent
    amplitude /= np.sqrt(np.mean(amplitude**2))
    white = _generator(rng).standard_normal(shape)
    return level * fft.ifftn(amplitude * fft.fftn(white)).real


def bounded_noise(shape: int | Sequence[int], level: float, rng: np.random.Generator) -> Array:
    """Draw noise uniformly from the sphere: its Euclidean norm is exactly `level`.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result.
    level : float
        Euclidean norm of the whole result, in the units of the data, at least 0.
    rng : numpy.random.Generator
        For example ``np.random.default_rng(0)``.

    Returns
    -------
    array of the given shape, float64

    Raises
    ------
    TypeError
        If `rng` is not a ``numpy.random.Generator``.
    ValueError
        If `level` is negative or not finite, or `shape` is not made of positive integers.
    """
    shape, level = _shape(shape), _level(level)
    direction = _generator(rng).standard_normal(shape)
    return level * direction / np.linalg.norm(direction)


def _integer(value: int, name: str, low: int, high: int | None = None) -> int:
    accepted = f"an integer of at least {low}" if high is None else f"an integer {low} to {high}"
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be {accepted}; got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {accepted}; got {value}")
    return int(value)


def _finite_axis(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a one-axis array of finite numbers; got {values!r}")
    return array.astype(np.float64)


def _standardized(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    centred = array - array.mean(axis=0)
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, numbers.Integral) else tuple(shape)
    if not sizes:
        raise ValueError("shape must hold at least one positive integer; got ()")
    return tuple(_integer(n, "every entry of shape", 1) for n in sizes)


def _level(level: float) -> float:
    if not (isinstance(level, numbers.Real) and np.isfinite(level) and level >= 0):
        raise ValueError(f"level must be a finite number of at least 0; got {level!r}")
    return float(level)


def _generator(rng: np.random.Generator) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            "rng must be a numpy.random.Generator such as np.random.default_rng(0); "
            f"got {type(rng).__name__}"
        )
    return rng
