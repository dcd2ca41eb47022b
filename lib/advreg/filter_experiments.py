r"""The experiments of chapter 4, each with one command; what takes minutes is run here once.

    python -m advreg.filter_experiments NAME --seeds 0-4 --out FILE

NAME is one of::

    images       filters of 3 x 3 learned on images of rectangles or of disks, two or four of them,
                 with and without a push to sparsity; beside two kinds of total variation
    adversarial  a filter of five taps learned on attacked signals, beside one that is learned on
                 clean data and one that is learned with noise of the length of the attack

Every row belongs to one seed and one method (entry "method").  For a seed, images and noise are the
same for all methods, so methods are compared in pairs.  A finished seed is kept at once in the
folder ``FILE.partial``: the same command, interrupted, goes on where it stopped.  Results are
written and read like those of chapter 5 (:mod:`advreg.experiments`): :func:`load` checks that a
result is what was written, :func:`advreg.experiments.column` picks one number, or list, per seed.

The parts of the experiments are public, because the notebooks of the chapter use them as well:
pairs of truths and data (:func:`pairs`), total variation with a tuned weight (:func:`tuned`), what
a filter looks like in numbers (:func:`describe`) and in a picture (:func:`aligned`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import correlate
from skimage.restoration import denoise_tv_chambolle

from advreg import experiments, variational
from advreg._checks import finite, integer

__all__ = [
    "ADVERSARIAL",
    "DEAD",
    "EXPERIMENTS",
    "IMAGES",
    "MIXED",
    "NOISE",
    "POTENTIAL",
    "RADII",
    "SHARP",
    "Setting",
    "Shape",
    "Tuned",
    "aligned",
    "describe",
    "disks",
    "likeness",
    "load",
    "main",
    "pairs",
    "test_error",
    "tuned",
    "tuned_isotropic",
]

Array = NDArray[np.float64]

MODULE = "advreg.filter_experiments"

#: Standard deviation of the noise, per sample or pixel.
NOISE = 0.3
#: The smoothed absolute value sqrt(t^2 + nu^2) with nu = .05.
POTENTIAL = variational.SmoothedL1(0.05)
#: The smoothed absolute value with nu = .01, for images, where nu = .05 is too smooth.
SHARP = variational.SmoothedL1(0.01)
#: The mixed second difference x_(i-1, j-1) - x_(i-1, j) - x_(i, j-1) + x_(i, j), one filter.
MIXED = np.array([[[1.0, -1.0], [-1.0, 1.0]]])
#: A filter is dead if its l2 norm is below this part of the largest of its set.
DEAD = 0.02
#: Weights among which total variation is tuned: 5 per cent apart.
WEIGHTS = tuple(float(w) for w in np.geomspace(0.05, 2.0, 76))


class Setting(NamedTuple):
    """How filters are learned on images: `count` of them, and the weight of sum |k|."""

    count: int
    sparsity: float


#: The learned filters of experiment "images"; on images of disks only two at a time, without the
#: weight 3e-4.
IMAGES = {
    f"K{count}-mu{sparsity:g}": Setting(count, sparsity)
    for count in (2, 4)
    for sparsity in (0.0, 3e-4, 1e-3)
}
DISKS = ("K2-mu0", "K2-mu0.001")

#: Lengths of the attacks of experiment "adversarial", in the l2 norm of a whole signal.
RADII = (0.0, 0.5, 1.0, 2.0, 4.0)
#: How its filters are trained: on what, and with which radius.
ADVERSARIAL = {"clean": ("clean", 0.0)} | {
    f"{training}-{radius:g}": (training, radius)
    for training in ("attack", "jitter")
    for radius in RADII[1:]
}


# ------------------------------------------------------------------------------------ parts


def disks(count: int, size: int, rng: np.random.Generator, *, pieces: int = 3) -> Array:
    """Return periodic square images, each the sum of random disks.

    Parameters
    ----------
    count, size : int
        Number of images and their height and width.
    rng : numpy.random.Generator
    pieces : int
        Number of disks.  Their centres are uniform, and they may wrap around; diameters are
        uniform from size / 4 to size / 2, levels standard normal.

    Returns
    -------
    array, shape (count, size, size), float64
        Without grey values at the edges: a pixel belongs to a disk if its centre does.
    """
    centre = size * rng.random((2, count, pieces, 1))
    radius = rng.uniform(size / 8, size / 4, (count, pieces, 1, 1))
    level = rng.standard_normal((count, pieces))
    apart = np.abs((np.arange(size) - centre + size / 2) % size - size / 2) ** 2
    inside = apart[0][..., :, None] + apart[1][..., None, :] <= radius**2
    return np.einsum("cp,cphw->chw", level, inside)


def pairs(
    kind: str, count: int, size: int, seed: int, *, noise: float = NOISE, offset: float = 0.0
) -> tuple[Array, Array]:
    """Return truths x and data y = x + noise.

    Parameters
    ----------
    kind : str
        "jumps" (piecewise constant signals with four jumps), "smooth" (four lowest frequencies),
        "rectangles" or "disks" (images, three of them in each).
    count, size : int
        Their number, and their length or height and width.
    seed : int
        At least 0.
    noise : float
        Its standard deviation.
    offset : float
        Standard deviation of a number that is added to all samples of a truth.

    Returns
    -------
    x, y : arrays, shape (count, size) or (count, size, size), float64

    Raises
    ------
    ValueError
        If `kind` is unknown or a number is out of its range.
    """
    rng = np.random.default_rng(integer(seed, "seed", 0))
    makers = {
        "jumps": partial(variational.piecewise_constant, count, size, 4, rng),
        "smooth": partial(variational.smooth, count, size, rng),
        "rectangles": partial(variational.rectangles, count, size, rng),
        "disks": partial(disks, count, size, rng),
    }
    if kind not in makers:
        raise ValueError(f"kind must be one of {', '.join(makers)}, got {kind!r}")
    x = makers[kind]()
    error = noise * rng.standard_normal(x.shape)
    x = x + offset * rng.standard_normal((count, *[1] * (x.ndim - 1)))
    return x, x + error


def test_error(
    x: ArrayLike,
    y: ArrayLike,
    filters: ArrayLike,
    potential: variational.Potential = POTENTIAL,
    *,
    tol: float = 1e-5,
) -> float:
    """Return the mean squared error per sample of :func:`advreg.variational.denoise` on pairs."""
    estimate = variational.denoise(y, filters, potential, tol=tol).x
    return float(((estimate - np.asarray(x)) ** 2).mean())


test_error.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


class Tuned(NamedTuple):
    """A tuned weight, and the mean squared error it was tuned for."""

    weight: float
    error: float


def _least(weights: Sequence[float], error: Any) -> Tuned:
    """The best weight of a grid along which the error falls and rises again."""
    low, high = 0, len(weights) - 1
    known: dict[int, float] = {}

    def at(i: int) -> float:
        if i not in known:
            known[i] = error(weights[i])
        return known[i]

    while high - low > 2:  # bisection of the slope
        middle = (low + high) // 2
        if at(middle) <= at(middle + 1):
            high = middle + 1
        else:
            low = middle
    best = min(range(low, high + 1), key=at)
    if best in (0, len(weights) - 1):
        raise ValueError(f"the best weight, {weights[best]:g}, is the last of its grid: widen it")
    return Tuned(float(weights[best]), at(best))


def tuned(
    x: ArrayLike,
    y: ArrayLike,
    filters: ArrayLike,
    potential: variational.Potential = POTENTIAL,
    *,
    weights: Sequence[float] = WEIGHTS,
) -> Tuned:
    """Return the factor of fixed filters that denoises given pairs best.

    Parameters
    ----------
    x, y : arrays, shape (count, ...)
        Truths and data.
    filters : array
        For example ``variational.tv_filters(1)`` for total variation.
    potential : Potential
    weights : sequence of float
        Increasing grid of factors.

    Returns
    -------
    Tuned
        The factor of `filters`; for l1-type potentials the weight of sum |k * x|.

    Notes
    -----
    The mean squared error is taken to fall and then to rise along the grid; if the best weight is
    the first or last one, a ValueError says so.
    """
    k = finite(filters, "filters")
    return _least(weights, lambda w: test_error(x, y, w * k, potential))


def _isotropic(y: Array, weight: float) -> Array:
    """Isotropic total variation of scikit-image, made periodic by a margin of half an image."""
    margin = y.shape[-1] // 2
    wide = np.pad(y, ((0, 0), (margin, margin), (margin, margin)), mode="wrap")
    out = [denoise_tv_chambolle(image, weight, eps=1e-6, max_num_iter=1000) for image in wide]
    return np.array(out)[:, margin:-margin, margin:-margin]


def tuned_isotropic(x: Array, y: Array, *, weights: Sequence[float] = WEIGHTS) -> Tuned:
    """Return scikit-image's weight of isotropic total variation that denoises images best."""
    return _least(weights, lambda w: float(((_isotropic(y, w) - x) ** 2).mean()))


class Shape(NamedTuple):
    """What filters look like; one entry per filter, the largest first.

    Attributes
    ----------
    norm : array
        l2 norm of the taps.
    offset : array
        abs(sum of taps) / sum of abs(taps), between 0 and 1; 0 for a filter of zeros.
    two_taps : array
        Share of the two largest taps in the energy, sum of squares; 0 for a filter of zeros.
    dead : array of bool
        Whether the norm is below ``DEAD`` times the largest norm.
    order : array of int
        The places of the filters in the input.
    """

    norm: Array
    offset: Array
    two_taps: Array
    dead: NDArray[np.bool_]
    order: NDArray[np.intp]


def describe(filters: ArrayLike) -> Shape:
    """Return what filters look like, without regard to shifts, signs and their order.

    Parameters
    ----------
    filters : array, shape (J, taps) or (J, h, w)

    Returns
    -------
    Shape
    """
    k = finite(filters, "filters")
    flat = k.reshape(len(k), -1)
    order = np.argsort(-np.linalg.norm(flat, axis=1), kind="stable")
    flat = flat[order]
    norm, size = np.linalg.norm(flat, axis=1), np.abs(flat).sum(axis=1)
    some = norm > 0
    squares = np.sort(flat**2, axis=1)[:, ::-1]
    offset = np.divide(np.abs(flat.sum(axis=1)), size, out=np.zeros(len(k)), where=some)
    share = np.divide(squares[:, :2].sum(axis=1), norm**2, out=np.zeros(len(k)), where=some)
    return Shape(norm, offset, share, norm < DEAD * norm.max(initial=0.0), order)


def aligned(filters: ArrayLike) -> Array:
    """Return one-dimensional filters shifted and signed for comparison by eye.

    Parameters
    ----------
    filters : array, shape (J, taps)

    Returns
    -------
    array, shape (J, 2 taps - 1), float64
        Padded with zeros; the centre of the energy lies in the middle, or half a tap to its
        right, and the first tap of at least a fifth of the largest size is negative.

    Notes
    -----
    Shifts and signs do not matter to :func:`advreg.variational.denoise`.
    """
    k = finite(filters, "filters")
    taps = k.shape[1]
    out = np.zeros((len(k), 2 * taps - 1))
    for row, filt in zip(out, k, strict=True):
        if not filt.any():
            continue
        centre = (np.arange(taps) * filt**2).sum() / (filt**2).sum()
        begin = taps - 1 - math.floor(centre + 0.25)
        first = np.flatnonzero(np.abs(filt) >= 0.2 * np.abs(filt).max())[0]
        row[begin : begin + taps] = -np.sign(filt[first]) * filt
    return out


def likeness(filters: ArrayLike, pattern: ArrayLike) -> Array:
    """Return how much filters look like a pattern: the largest cosine over shifts and signs.

    Parameters
    ----------
    filters : array, shape (J, taps) or (J, h, w)
    pattern : array, shape (t,) or (s, t)
        Not zero.

    Returns
    -------
    array, shape (J,), float64
        Between 0 and 1; 1 for a multiple of the shifted pattern, 0 for a filter of zeros.
    """
    k, p = finite(filters, "filters"), finite(pattern, "pattern")
    out = np.zeros(len(k))
    for j in np.flatnonzero(k.reshape(len(k), -1).any(axis=1)):
        products = correlate(k[j], p, mode="full", method="direct")
        out[j] = np.abs(products).max() / (np.linalg.norm(k[j]) * np.linalg.norm(p))
    return out


# --------------------------------------------------------------------------------- images


def _images(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    """Two-dimensional filters on two kinds of images."""
    return [
        {"seed": seed, "data": kind, **row}
        for kind, chosen in (("rectangles", tuple(IMAGES)), ("disks", DISKS))
        for row in _one_kind(kind, chosen, seed, epochs or 150, images or 24)
    ]


def _one_kind(
    kind: str, chosen: Sequence[str], seed: int, iterations: int, images: int
) -> list[dict[str, Any]]:
    """Weights are tuned, and filters learned, on the training images, and judged on others."""
    x, y = pairs(kind, images, 20, 2 * seed)
    new_x, new_y = pairs(kind, 48, 20, 2 * seed + 1)
    rows: list[dict[str, Any]] = []
    for method, fixed in (("tv", variational.tv_filters(2)), ("mixed", MIXED)):
        weight, train = tuned(x, y, fixed, SHARP)
        test = test_error(new_x, new_y, weight * fixed, SHARP)
        rows.append({"method": method, "train": train, "test": test, "weight": weight})
    weight, train = tuned_isotropic(x, y)
    test = float(((_isotropic(new_y, weight) - new_x) ** 2).mean())
    rows.append({"method": "tv-isotropic", "train": train, "test": test, "weight": weight})
    for method in chosen:
        setting = IMAGES[method]
        learned = variational.learn_filters(
            x,
            y,
            count=setting.count,
            taps=(3, 3),
            potential=SHARP,
            seed=seed,
            sparsity=setting.sparsity,
            iterations=iterations,
            tol=1e-5,
        )
        shape = describe(learned.filters)
        row = {
            "method": method,
            "train": test_error(x, y, learned.filters, SHARP),
            "test": test_error(new_x, new_y, learned.filters, SHARP),
            "count": setting.count,
            "sparsity": setting.sparsity,
            "iterations": len(learned.losses) - 1,
            "converged": learned.converged,
            "losses": [float(learned.losses[0]), float(learned.losses[-1])],
            "filters": np.round(learned.filters[shape.order], 5).tolist(),
            "norm": shape.norm.tolist(),
            "offset": shape.offset.tolist(),
            "two_taps": shape.two_taps.tolist(),
            "dead": int(shape.dead.sum()),
        }
        rows.append(row)
    return rows


# ---------------------------------------------------------------------------- adversarial


def _shares(e: Array) -> tuple[float, float]:
    """Mean shares of the frequency 0, and of the four next ones, in the energy of signals."""
    power = np.abs(np.fft.fft(e)) ** 2
    power /= power.sum(axis=1, keepdims=True)
    low = power[:, 1:5].sum(axis=1) + power[:, -4:].sum(axis=1)
    return float(power[:, 0].mean()), float(low.mean())


def _under_attack(x: Array, y: Array, filters: Array) -> dict[str, list[float]]:
    """Mean squared errors per sample under attack, one for each of RADII, and what they tell."""
    clean = ((variational.denoise(y, filters, POTENTIAL, tol=1e-6).x - x) ** 2).sum(axis=1)
    offset = np.abs((y - x).mean(axis=1)) * math.sqrt(x.shape[1])
    out: dict[str, list[float]] = {}
    for radius in RADII:
        found = variational.attack(y, x, filters, POTENTIAL, radius, tol=1e-6)
        again = variational.attack(
            y,
            x,
            filters,
            POTENTIAL,
            radius,
            tol=1e-6,
            start=np.random.default_rng(0).standard_normal(y.shape),
        )
        constant, low = _shares(found.y - y) if radius else (0.0, 0.0)
        numbers = {
            "attacked": found.error.mean() / x.shape[1],
            "random_start": again.error.mean() / x.shape[1],
            "lower": (clean + radius**2 + 2 * radius * offset).mean() / x.shape[1],
            "upper": ((np.sqrt(clean) + radius) ** 2).mean() / x.shape[1],
            "constant": constant,
            "low": low,
        }
        for name, value in numbers.items():
            out.setdefault(name, []).append(float(value))
    return out


def _adversarial(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    """One filter of five taps: learned on clean data, under attack, and with more noise."""
    x, y = pairs("jumps", images or 32, 64, 100 + 2 * seed)
    new_x, new_y = pairs("jumps", 64, 64, 101 + 2 * seed)
    learn = partial(
        variational.learn_filters,
        count=1,
        taps=5,
        potential=POTENTIAL,
        seed=seed,
        iterations=epochs or 200,
    )
    clean = learn(x, y)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for method, (training, radius) in ADVERSARIAL.items():
        k = clean.filters
        more: dict[str, Any] = {}
        if training == "attack":
            robust = variational.learn_under_attack(
                x, y, k, potential=POTENTIAL, radius=radius, steps=epochs or 60
            )
            more = {"losses": [robust.losses[0], robust.losses.min()]}
            k = robust.filters
        elif training == "jitter":  # four copies of the signals, each with noise of that norm
            noise = rng.standard_normal((4, *x.shape))
            noise *= radius / np.linalg.norm(noise, axis=2, keepdims=True)
            k = learn(np.tile(x, (4, 1)), np.concatenate(y + noise), start=k).filters
        shape = describe(k)
        rows.append(
            {
                "seed": seed,
                "method": method,
                "training": training,
                "radius": radius,
                "filters": np.round(k, 5).tolist(),
                "strength": float(np.abs(k).sum()) / 2,
                "two_taps": float(shape.two_taps[0]),
                "offset": float(shape.offset[0]),
                **_under_attack(new_x, new_y, k),
                **more,
            }
        )
    return rows


# ---------------------------------------------------------------------------- the command

#: Experiments: what a seed does, the methods or settings, default seeds, and all in words.
EXPERIMENTS: dict[str, tuple[experiments.Run, Mapping[str, Any], str, str]] = {
    "images": (_images, IMAGES, "0-4", "filters of 3 x 3 on images of rectangles or disks"),
    "adversarial": (_adversarial, ADVERSARIAL, "0-4", "filters learned on attacked signals"),
}


def load(path: str | Path) -> dict[str, Any]:
    """Read a result of this module and check it, as :func:`advreg.experiments.load` does.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message names the command that writes it.
    ValueError
        If the file is damaged or was edited.
    """
    return experiments.load(path, MODULE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run an experiment; see the head of this module.

    Option ``--epochs`` is the largest number of steps of every training, ``--images`` the number of
    training samples.

    Returns
    -------
    int
        0 when the result is written, 2 for arguments that do not fit (argparse exits with it as
        well), 130 after Ctrl-C; then the same command goes on.
    """
    args = experiments.seed_arguments(
        MODULE,
        4,
        EXPERIMENTS,
        argv,
        epochs=(1, "150 L-BFGS iterations (images), 200 and 60 under attack (adversarial)"),
        images=(2, "24 training images (images), 32 signals (adversarial)"),
    )
    run, methods, *_ = EXPERIMENTS[args.name]
    own = {
        "methods": {k: m._asdict() if isinstance(m, Setting) else m for k, m in methods.items()},
        "noise": NOISE,
    }
    return experiments.run_seeds(MODULE, args, run, own)


if __name__ == "__main__":
    raise SystemExit(main())
