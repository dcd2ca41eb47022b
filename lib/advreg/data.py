"""Signals, images and noise of the book, without a download.

Everything is float64, but for the labelled images on which networks are trained
(:class:`Images`): these are float32.  :func:`mnist` and :func:`cifar10` read the published files
from a folder; nothing here fetches them.

Everything random takes an explicit ``numpy.random.Generator``: two calls with generators
in the same state give the same numbers, and nothing depends on hidden global state.
"""

from __future__ import annotations

import gzip
import io
import numbers
import os
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

__all__ = [
    "Images",
    "bounded_noise",
    "breast_cancer",
    "cifar10",
    "coloured_noise",
    "diabetes",
    "digits",
    "digits_pair",
    "ecg",
    "mnist",
    "photograph",
    "photographs",
    "shepp_logan",
    "shepp_logan_sinogram",
    "white_noise",
]

Array = NDArray[np.float64]


class Images(NamedTuple):
    """Labelled images, split into a training and a test part.

    Images have the shape (n, channels, rows, columns), float32, grey values or colours in
    [0, 1]; labels have the shape (n,), int64, 0 to 9.
    """

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]


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


def photographs(size: int = 128) -> dict[str, Array]:
    """Return eleven real photographs in grey, by name, in alphabetical order.

    They ship with scikit-image (astronaut, camera, chelsea, coffee, coins, moon, motorcycle), with
    PyWavelets (aero, ascent) and with scikit-learn (china, by danielbuechele, and flower, by
    vultilion, both CC BY 2.0): nothing is downloaded.  Of each we take the largest square around
    the centre; colours become the luminance 0.2125 R + 0.7154 G + 0.0721 B; each pixel of the
    result is the mean grey value of the area it covers, which also averages away some of the
    noise of the camera.  ``camera`` is :func:`photograph`.

    Parameters
    ----------
    size : int
        Number of rows and of columns, 2 to 300, the side of the smallest square.

    Returns
    -------
    dict of arrays, shape (size, size), float64
        Grey values in [0, 1], 0 black.

    Raises
    ------
    ValueError
        If `size` is not an integer from 2 to 300.
    """
    import pywt.data
    import skimage.data
    from skimage.transform import resize_local_mean
    from sklearn.datasets import load_sample_image

    size = _integer(size, "size", 2, 300)
    pictures = {
        "aero": pywt.data.aero(),
        "ascent": pywt.data.ascent(),
        "astronaut": skimage.data.astronaut(),
        "camera": skimage.data.camera(),
        "chelsea": skimage.data.chelsea(),
        "china": load_sample_image("china.jpg"),
        "coffee": skimage.data.coffee(),
        "coins": skimage.data.coins(),
        "flower": load_sample_image("flower.jpg"),
        "moon": skimage.data.moon(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
    }
    return {
        name: np.clip(resize_local_mean(_central_square(_grey(picture)), (size, size)), 0.0, 1.0)
        for name, picture in pictures.items()
    }


def _grey(picture: NDArray[np.uint8]) -> Array:
    """Grey values in [0, 1] of a picture of 8 bits, with or without colours."""
    values = picture / 255.0
    return values if values.ndim == 2 else values @ np.array([0.2125, 0.7154, 0.0721])


def _central_square(picture: Array) -> Array:
    side = min(picture.shape)
    top, left = (np.array(picture.shape) - side) // 2
    return picture[top : top + side, left : left + side]


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


def digits(rng: np.random.Generator, train: int = 1000, size: int = 8) -> Images:
    r"""Return the 1797 handwritten digits of scikit-learn, split at random.

    The images ship with scikit-learn as ``sklearn.datasets.load_digits``: 8 x 8 pixels, grey
    values 0 to 16, here divided by 16.  Larger images are interpolated linearly in each
    direction between the centres of the pixels (constant beyond the outermost ones): each new
    pixel is a weighted mean of old ones, so the values stay in [0, 1].  The new images carry
    no new information; they make the same problem larger.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the split, uniformly over all of them.  The split does not depend on `size`.
    train : int
        Number of training images, 1 to 1796; the rest is the test part.
    size : 8, 16 or 32
        Number of rows and of columns.

    Returns
    -------
    Images
        One channel; the parts hold `train` and 1797 - `train` images.

    Raises
    ------
    TypeError
        If `rng` is not a ``numpy.random.Generator``.
    ValueError
        If `train` or `size` is none of the accepted numbers.
    """
    from sklearn.datasets import load_digits

    rng = _generator(rng)
    x, y = load_digits(return_X_y=True)
    train = _integer(train, "train", 1, len(y) - 1)
    if isinstance(size, bool) or size not in (8, 16, 32):
        raise ValueError(f"size must be 8, 16 or 32; got {size!r}")
    images = x.reshape(-1, 8, 8) / 16
    if size > 8:
        places = np.clip((np.arange(size) + 0.5) * 8 / size - 0.5, 0, 7)  # new centres, old units
        weights = np.maximum(1 - np.abs(places[:, None] - np.arange(8)), 0)
        images = weights @ images @ weights.T
    images = images[:, None].astype(np.float32)
    order = rng.permutation(len(y))
    first, rest = order[:train], order[train:]
    return Images(images[first], y[first].astype(np.int64), images[rest], y[rest].astype(np.int64))


def mnist(folder: str | os.PathLike[str]) -> Images:
    """Read the MNIST digits (28 x 28 pixels, one channel) from the four published files.

    The files are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, plain or compressed (``.gz``),
    from the data set's home page or any copy of it.  Other sets in the same format and under
    the same names (Fashion-MNIST) are read as well.

    Parameters
    ----------
    folder : path
        The folder that holds them, or one in which they lie in ``MNIST/raw`` or ``raw``.

    Returns
    -------
    Images
        60000 and 10000 images in the published files; the counts are those that the files state.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is not there; the message says which.
    ValueError
        If a file is damaged, cut short, or not of this format.
    """
    folder = _folder(folder, ("MNIST/raw", "raw"), MNIST_FILES[0], "MNIST")
    parts = []
    for images, labels in (MNIST_FILES[:2], MNIST_FILES[2:]):
        x, y = _idx(_path(folder, images, "MNIST"), 3), _idx(_path(folder, labels, "MNIST"), 1)
        parts += _labelled(x[:, None], y, folder / images)
    return Images(*parts)


def cifar10(folder: str | os.PathLike[str]) -> Images:
    """Read the CIFAR-10 pictures (32 x 32 pixels, three channels) from the published files.

    Either of two published versions, from the data set's home page or any copy of it:

    * binary: ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, as unpacked
      into ``cifar-10-batches-bin``;
    * python: the same names without ``.bin``, as unpacked into ``cifar-10-batches-py``.  These are
      pickles, a format that can run any code; they are read by an unpickler that admits numbers,
      bytes, lists, dicts and numpy arrays, and refuses everything else.

    Parameters
    ----------
    folder : path
        The folder that holds them, or the one in which they were unpacked.  Where both versions
        are present, the binary one is read.

    Returns
    -------
    Images
        50000 and 10000 images in the published files; the counts are those of the files.
        Channels in the order red, green, blue.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is not there; the message says which.
    ValueError
        If a file is damaged, cut short, not of this format, or holds anything but data.
    """
    names = ("test_batch.bin", "test_batch")
    folder = _folder(folder, ("cifar-10-batches-bin", "cifar-10-batches-py"), names, "CIFAR-10")
    end, read = (".bin", _cifar_binary) if (folder / names[0]).exists() else ("", _cifar_python)
    batches = [
        read(_path(folder, f"{name}{end}", "CIFAR-10"))
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    ]
    x, y = (np.concatenate(part) for part in zip(*batches[:-1], strict=True))
    return Images(*_labelled(x, y, folder), *_labelled(*batches[-1], folder))


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


MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then red, green and blue row by row


def _folder(
    folder: str | os.PathLike[str],
    inside: tuple[str, ...],
    wanted: str | tuple[str, ...],
    name: str,
) -> Path:
    """The folder that holds a wanted file: the given one or a known place inside it."""
    folder = Path(folder).expanduser()
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    for place in (folder, *(folder / sub for sub in inside)):
        if any((place / f"{file}{end}").is_file() for file in wanted for end in ("", ".gz")):
            return place
    there = "holds no such file" if folder.is_dir() else "is not a folder"
    raise FileNotFoundError(
        f"{name}: looked for {' or '.join(wanted)} in {folder} and its folders "
        f"{', '.join(inside)}, but {folder} {there}.  Download the data from the data set's home "
        "page, unpack the archive, and give the folder; this book fetches nothing by itself."
    )


def _path(folder: Path, file: str, name: str) -> Path:
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{name}: {folder} holds other files of the data set, but not {file}; it comes with them "
        "from the data set's home page"
    )


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or not gzip-compressed: {error}") from None


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Unsigned bytes in the IDX format: magic number, the lengths of the axes, the values."""
    content = _content(path)
    magic = bytes((0, 0, 8, axes))
    if content[:4] != magic:
        raise ValueError(
            f"{path} does not begin like an IDX file of bytes with {axes} "
            f"axes: expected {magic.hex()}, found {content[:4].hex() or 'nothing'}"
        )
    start = 4 * (1 + axes)
    if len(content) < start:
        raise ValueError(f"{path} is cut short: it ends inside its header")
    shape = [int(n) for n in np.frombuffer(content, ">u4", axes, 4)]
    expected = start
    if 0 not in shape:
        expected += int(np.prod(shape, dtype=object))
    if len(content) != expected or 0 in shape:
        raise ValueError(
            f"{path} is damaged: its header promises the shape {tuple(shape)}, {expected} bytes in "
            f"all, and it has {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _cifar_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    content = np.frombuffer(_content(path), np.uint8)
    if not content.size or content.size % CIFAR_RECORD:
        raise ValueError(
            f"{path} is damaged: {content.size} bytes are not a whole number of records of "
            f"{CIFAR_RECORD} bytes (a label and 3 x 32 x 32 values)"
        )
    records = content.reshape(-1, CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numbers, bytes, lists, dicts and numpy arrays; nothing that could run code."""

    ADMITTED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how protocol 2 writes bytes
        }
    )

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data")
        # numpy renamed this module; the old name would warn
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _cifar_python(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        batch = _ArraysOnly(io.BytesIO(_content(path)), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path} was refused: {error}") from None
    batch = batch if isinstance(batch, dict) else {}
    x, y = (batch.get(key, batch.get(key.encode())) for key in ("data", "labels"))
    good = isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 2 and x.size
    good = good and x.shape[1] == CIFAR_RECORD - 1 and isinstance(y, list) and len(y) == len(x)
    if not good or not all(type(label) is int and 0 <= label < 10 for label in y):
        raise ValueError(
            f"{path} is not a batch of CIFAR-10: expected 'data', bytes of shape (n, 3072), and "
            "'labels', a list of n integers 0 to 9"
        )
    return x.reshape(-1, 3, 32, 32), np.array(y, np.uint8)


def _labelled(
    x: NDArray[np.uint8], y: NDArray[np.uint8], source: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if len(x) != len(y):
        raise ValueError(f"{source}: {len(x)} images, but {len(y)} labels")
    if y.max() > 9:
        raise ValueError(f"{source}: the label {y.max()} is none of 0 to 9")
    return x.astype(np.float32) / np.float32(255), y.astype(np.int64)


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
