r"""Learned convolutional regularizers on periodic signals and images.

With filters k_1, ..., k_J and an even convex potential psi, the denoisers of this module are

    x_hat(y) = argmin_x  1/2 ||x - y||^2 + sum_j sum_i psi((k_j * x)_i),

where (k * x)_i = sum_m k_m x_(i - m) is the circular convolution, indices modulo the grid, and
m runs from 0: a filter [-1, 1] takes x_(i - 1) - x_i.  Filters have the shape (J, taps) for
signals and (J, h, w) for images; signals have the shape (..., N), images (..., H, W), and
leading axes are a batch.  A quadratic psi depends only on the spectrum

    Lambda(omega) = sum_j |k_j^(omega)|^2

and is solved by one Fourier transform; any other psi by accelerated descent, with a
certificate; and the filters are learned through the minimizer, by implicit differentiation.
Everything is float64; integers and other floating types are converted, complex numbers refused.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, linalg
from scipy.optimize import OptimizeResult, minimize
from tqdm.auto import tqdm

from advreg._checks import finite, integer, number, real
from advreg.operators import Operator

__all__ = [
    "SPARSITY_SMOOTHING",
    "Attack",
    "Learned",
    "LogCosh",
    "PlugAndPlay",
    "Potential",
    "Quadratic",
    "Robust",
    "SmoothedL1",
    "Solution",
    "attack",
    "autoregressive",
    "autoregressive_power",
    "denoise",
    "filter_gradient",
    "fit_quadratic",
    "learn_filters",
    "learn_under_attack",
    "least_quadratic_risk",
    "offset_bias",
    "piecewise_constant",
    "plug_and_play",
    "quadratic_denoise",
    "quadratic_risk",
    "rectangles",
    "smooth",
    "spectral_factor",
    "spectrum",
    "tv_filters",
]

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

EPS = float(np.finfo(np.float64).eps)

SPARSITY_SMOOTHING = 1e-3
"""The s of sqrt(k^2 + s^2) - s, by which :func:`learn_filters` smooths the absolute value."""


# ----------------------------------------------------------------------------- convolution


class _Convolution:
    """All filters at once, between half spectra and the samples of their outputs.

    Spectra are those of the orthonormal real transform.  A convolution then costs one
    transform instead of two, and `inner` is the inner product of the samples, by Parseval.
    """

    def __init__(self, filters: Array, grid: tuple[int, ...]) -> None:
        self.grid, self.axes = grid, tuple(range(-len(grid), 0))
        self.symbol = fft.rfftn(filters, s=grid, axes=self.axes)
        half = np.arange(self.symbol.shape[-1])
        # every frequency of the half spectrum stands for two, unless it is its own mirror image
        self._weight = np.where((half == 0) | (2 * half == grid[-1]), 1.0, 2.0)

    def spectrum_of(self, x: Array) -> Spectrum:
        return fft.rfftn(x, axes=self.axes, norm="ortho")

    def samples_of(self, spectrum: Spectrum) -> Array:
        return fft.irfftn(spectrum, s=self.grid, axes=self.axes, norm="ortho")

    def apply(self, x: Spectrum) -> Array:
        """Return the samples of k_j * x, shape (B, J, *grid), for x of B spectra."""
        return self.samples_of(x[:, None] * self.symbol)

    def adjoint(self, r: Array) -> Spectrum:
        """Return the spectra of sum_j K_j^T r_j."""
        return (self.spectrum_of(r) * self.symbol.conj()).sum(axis=1)

    def inner(self, u: Spectrum, v: Spectrum) -> Array:
        product = (u.real * v.real + u.imag * v.imag) * self._weight
        return product.reshape(len(u), -1).sum(axis=1)

    def norm(self, u: Spectrum) -> Array:
        return np.sqrt(self.inner(u, u))

    def lags(self, x: Spectrum, r: Array, taps: tuple[int, ...]) -> Array:
        """Return sum_b sum_i x_b(i - m) r_(b, j)(i) for the lags m of a filter: (J, *taps)."""
        cross = (x[:, None].conj() * self.spectrum_of(r)).sum(axis=0)
        every = fft.irfftn(cross, s=self.grid, axes=self.axes, norm="forward")
        return every[(slice(None), *(slice(t) for t in taps))]


def _filters(filters: ArrayLike, grid: tuple[int, ...] | None = None) -> Array:
    k = finite(filters, "filters")
    if k.ndim not in (2, 3) or k.size == 0:
        raise ValueError(
            "filters must have the shape (count, taps) for signals or (count, h, w) for images, "
            f"got {k.shape}; a single filter k of one is k[None]"
        )
    if grid is not None:
        _fits(k.shape[1:], grid)
    return k


def _fits(taps: tuple[int, ...], grid: tuple[int, ...]) -> None:
    if len(taps) != len(grid):
        kind = {1: "signals", 2: "images"}
        raise ValueError(
            f"filters of shape {taps} act on {kind[len(taps)]}, but the grid is {grid}"
        )
    if any(t > n for t, n in zip(taps, grid, strict=True)):
        raise ValueError(f"filters of shape {taps} are larger than the signal, {grid}")


def _shape(shape: int | Sequence[int], name: str, least: int = 1) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, numbers.Integral) else tuple(shape)
    if len(sizes) not in (1, 2):
        raise ValueError(f"{name} must be one integer or a pair (h, w), got {shape!r}")
    return tuple(integer(size, name, least) for size in sizes)


def _batch(value: ArrayLike, filters: Array, name: str) -> tuple[Array, tuple[int, ...]]:
    """Return signals as (B, *grid), and the shape of their batch."""
    array, dim = finite(value, name), filters.ndim - 1
    if array.ndim < dim or array.size == 0:
        raise ValueError(
            f"{name} must have the shape {'(..., N)' if dim == 1 else '(..., H, W)'} for filters "
            f"of shape {filters.shape}, and not be empty; got {array.shape}"
        )
    batch, grid = array.shape[: array.ndim - dim], array.shape[array.ndim - dim :]
    _fits(filters.shape[1:], grid)
    return array.reshape(-1, *grid), batch


def _same_shape(**arrays: Array) -> None:
    if len({a.shape for a in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"these must have one shape: {shapes}")


def _mean_square(x: Array) -> Array:
    return (x * x).reshape(len(x), -1).mean(axis=1)


# ------------------------------------------------------------------- quadratic regularizers


def spectrum(filters: ArrayLike, shape: int | Sequence[int]) -> Array:
    """Return Lambda(omega) = sum_j |k_j^(omega)|^2 at the frequencies of a periodic grid.

    Parameters
    ----------
    filters : array, shape (J, taps) or (J, h, w)
    shape : int or tuple
        The grid: N or (H, W).

    Returns
    -------
    array, shape `shape`, float64
        At the frequencies of ``numpy.fft.fftn``: the frequency 0 first.

    Raises
    ------
    TypeError
        If `filters` is complex or not numeric.
    ValueError
        If shapes do not fit, a filter is larger than the grid, or an entry is not finite.

    Notes
    -----
    All that a quadratic regularizer 1/2 sum_j ||k_j * x||^2 depends on; filters whose spectra
    agree denoise alike.  Source: this book, chapter 4.
    """
    grid = _shape(shape, "shape")
    k = _filters(filters, grid)
    return (np.abs(fft.fftn(k, s=grid, axes=tuple(range(1, k.ndim)))) ** 2).sum(axis=0)


def quadratic_denoise(y: ArrayLike, filters: ArrayLike) -> Array:
    """Return argmin_x 1/2 ||x - y||^2 + 1/2 sum_j ||k_j * x||^2, that is y^ / (1 + Lambda).

    Parameters
    ----------
    y : array, shape (..., N) or (..., H, W)
        Data; leading axes are a batch.
    filters : array, shape (J, taps) or (J, h, w)

    Returns
    -------
    array of the shape of `y`, float64

    Raises
    ------
    TypeError, ValueError
        As for :func:`spectrum`.

    Notes
    -----
    Source: this book, chapter 4.
    """
    k = _filters(filters)
    signals, _ = _batch(y, k, "y")
    maps = _Convolution(k, signals.shape[1:])
    gain = 1 / (1 + (np.abs(maps.symbol) ** 2).sum(axis=0))
    return maps.samples_of(gain * maps.spectrum_of(signals)).reshape(np.shape(y))


def _power(power: ArrayLike, noise: ArrayLike) -> tuple[Array, Array]:
    """Return a power spectrum, infinity allowed, and a positive noise of its shape."""
    p, n = real(power, "power"), finite(noise, "noise")
    if p.ndim not in (1, 2) or p.size == 0 or not (p >= 0).all():
        raise ValueError(
            "power must be a spectrum of shape (N,) or (H, W), at least 0 everywhere (infinity "
            f"is allowed), got shape {p.shape}"
        )
    if not (n > 0).all():
        raise ValueError(f"noise must be positive, got {n.min():g}: it is a variance")
    if n.shape not in ((), p.shape):
        raise ValueError(f"noise must be one number or have power's shape {p.shape}, got {n.shape}")
    return p, np.broadcast_to(n, p.shape)


def quadratic_risk(filters: ArrayLike, power: ArrayLike, noise: ArrayLike) -> float:
    """Return the mean squared error per sample of :func:`quadratic_denoise`,

        mean over omega of (Lambda^2 Pi + Delta) / (1 + Lambda)^2.

    Parameters
    ----------
    filters : array, shape (J, taps) or (J, h, w)
    power : array, shape (N,) or (H, W)
        Pi(omega) = E |x^(omega)|^2 / N for a stationary x and the plain transform x^, so that
        white noise of variance s^2 has the power s^2.  May be infinite: where it is, the risk
        is infinite unless Lambda = 0 there, to rounding.
    noise : array
        Delta, the variance of white noise, or a power spectrum like `power`; positive.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes do not fit, a filter is larger than the grid, `power` is negative or NaN, or
        `noise` is not positive and finite.

    Notes
    -----
    Least, :func:`least_quadratic_risk`, at Lambda = Delta / Pi.  Source: this book, chapter 4.
    """
    p, n = _power(power, noise)
    k = _filters(filters, p.shape)
    lam = spectrum(k, p.shape)
    # A zero of the spectrum that rounding missed must not meet an infinite power.
    zero = lam <= (64 * EPS) ** 2 * np.sum(np.abs(k)) ** 2
    shrink = lam / (1 + lam)
    bias = np.where(zero, 0.0, shrink) ** 2 * np.where(zero & np.isinf(p), 0.0, p)
    return float((bias + n / (1 + lam) ** 2).mean())


def least_quadratic_risk(power: ArrayLike, noise: ArrayLike) -> float:
    """Return mean of Pi Delta / (Pi + Delta), the least :func:`quadratic_risk` of any spectrum.

    Attained at Lambda = Delta / Pi: the Wiener filter.  Parameters and errors as there.
    Source: this book, chapter 4.
    """
    p, n = _power(power, noise)
    return float((n * _survival(p, n)).mean())


def _survival(p: Array, n: Array) -> Array:
    """Pi / (Pi + Delta), 1 where Pi is infinite."""
    return np.where(np.isinf(p), 1.0, p / (np.where(np.isinf(p), 0.0, p) + n))


def fit_quadratic(
    power: ArrayLike,
    noise: ArrayLike,
    taps: int | Sequence[int],
    count: int = 1,
    seed: int = 0,
) -> Array:
    """Return `count` filters of `taps` taps whose :func:`quadratic_risk` is least.

    Parameters
    ----------
    power, noise : array
        As for :func:`quadratic_risk`.  Where `power` is infinite, the filters vanish exactly.
    taps : int or (int, int)
        Length of a filter, or its height and width.
    count : int
        Number of filters, at least 1.
    seed : int
        Seed of the random starts, at least 0.

    Returns
    -------
    array, shape (count, taps) or (count, h, w), float64

    Raises
    ------
    TypeError, ValueError
        As for :func:`quadratic_risk`; and if `power` is 0 everywhere, or not that of a real
        signal, Pi(omega) = Pi(-omega), or infinite at more frequencies than the taps can
        cancel.

    Notes
    -----
    L-BFGS with the analytic gradient, the mean over omega of
    2 (Lambda Pi - Delta) / (1 + Lambda)^3 times the gradient of Lambda, from eight random
    starts, of which the best end is returned.  The risk is not convex in the filters, and only
    their spectrum is determined: compare :func:`spectrum`, or :func:`spectral_factor`, and
    never the taps.  For x autoregressive of order p < taps with innovations of variance s^2
    and white noise, Lambda = (Delta / s^2) |h^|^2 with the whitening filter h.
    Source: this book, chapter 4.
    """
    p, n = _power(power, noise)
    size = _shape(taps, "taps")
    _fits(size, p.shape)
    number_of = integer(count, "count", 1)
    rng = np.random.default_rng(integer(seed, "seed", 0))
    mirror = np.roll(np.flip(p), 1, axis=tuple(range(p.ndim)))
    if not np.allclose(p, mirror, rtol=1e-8, atol=0):
        raise ValueError("power must be that of a real signal: the same at omega and -omega")
    least = least_quadratic_risk(p, n)
    if least == 0:
        raise ValueError("power is 0 everywhere: every filter is beaten by a larger one")
    basis = _vanishing(size, p)
    loss = _quadratic_loss(basis, p, n, least, size, number_of)
    scale = math.sqrt(float(np.median(n)) / max(float(np.median(p)), least) / math.prod(size))
    ends = [
        minimize(
            loss,
            scale * rng.standard_normal(number_of * basis.shape[1]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 3000, "maxfun": 6000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-12},
        )
        for _ in range(8)
    ]
    best = min(ends, key=lambda end: end.fun)
    return (best.x.reshape(number_of, -1) @ basis.T).reshape(number_of, *size)


def _vanishing(taps: tuple[int, ...], power: Array) -> Array:
    """An orthonormal basis, in columns, of the filters that are 0 where the power is infinite."""
    if not np.isinf(power).any():
        return np.eye(math.prod(taps))
    axes = tuple(range(1, power.ndim + 1))
    units = np.eye(math.prod(taps)).reshape(-1, *taps)
    waves = fft.fftn(units, s=power.shape, axes=axes)[:, np.isinf(power)].T
    basis = linalg.null_space(np.concatenate([waves.real, waves.imag]))
    if basis.shape[1] == 0:
        raise ValueError(
            f"power is infinite at {int(np.isinf(power).sum())} frequencies, and only the filter "
            f"0 of shape {taps} vanishes there: give it more taps"
        )
    return basis


def _quadratic_loss(
    basis: Array, power: Array, noise: Array, least: float, taps: tuple[int, ...], count: int
) -> Callable[[Array], tuple[float, Array]]:
    """The relative excess risk and its gradient, as a function of coefficients in the basis."""
    axes = tuple(range(1, power.ndim + 1))
    finite_power = np.where(np.isinf(power), 0.0, power)
    inverse = 1 / (finite_power + noise)

    def loss(coefficients: Array) -> tuple[float, Array]:
        k = (coefficients.reshape(count, -1) @ basis.T).reshape(count, *taps)
        symbol = fft.fftn(k, s=power.shape, axes=axes)
        lam = (np.abs(symbol) ** 2).sum(axis=0)
        # (Lambda Pi - Delta)^2 / ((Pi + Delta) (1 + Lambda)^2) is the risk above the least one,
        # without the cancellation of a difference.
        miss = np.where(np.isinf(power), 0.0, (lam * finite_power - noise) / (1 + lam))
        value = (miss**2 * inverse).mean() / least
        slope = 2 * miss / (1 + lam) ** 2 / least
        every = 2 * fft.ifftn(slope * symbol, axes=axes).real
        gradient = every[(slice(None), *(slice(t) for t in taps))].reshape(count, -1)
        return float(value), (gradient @ basis).ravel()

    return loss


def spectral_factor(spectrum: ArrayLike, taps: int) -> Array:
    r"""Return the minimum-phase filter k of `taps` taps with |k^(omega)|^2 = spectrum(omega).

    By Fejer and Riesz, every nonnegative trigonometric polynomial of degree taps - 1 is the
    square of one filter: one filter serves as well as many, in one dimension.  The others
    with this spectrum flip zeros of sum_m k_m z^-m at the unit circle; this one has all of
    them inside or on it, and k_0 >= 0.

    Parameters
    ----------
    spectrum : array, shape (N,)
        Real, at least 0 up to rounding, the same at omega and -omega, with N >= 2 taps - 1.
    taps : int
        At least 1.

    Returns
    -------
    array, shape (taps,), float64
        About 15 digits without zeros on the circle, 8 with simple ones, 4 with double ones
        ([1, -2, 1]), 2 with triple ones.

    Raises
    ------
    TypeError
        If `spectrum` is complex or not numeric.
    ValueError
        If N is too small, an entry is not finite, `spectrum` is not symmetric or not a
        polynomial of degree taps - 1, or that polynomial is negative somewhere (it may be
        between the frequencies of the grid).

    Notes
    -----
    Newton's method for the autocorrelations, sum_i k_i k_(i + m) = r_m; from a minimum-phase
    start it stays there, and it converges quadratically, or by a factor 2 per step if there are
    zeros on the circle.  Source: G. Wilson, SIAM J. Numer. Anal. 6 (1969); this book, chapter 4.
    """
    lam, t = finite(spectrum, "spectrum"), integer(taps, "taps", 1)
    if lam.ndim != 1 or lam.size < 2 * t - 1:
        raise ValueError(
            f"spectrum must have the shape (N,) with N >= 2 taps - 1 = {2 * t - 1}, got {lam.shape}"
        )
    covariance = fft.ifft(lam)
    top = float(np.abs(lam).max())
    if top == 0:
        return np.zeros(t)
    rest = np.concatenate([covariance.real[t : lam.size - t + 1], covariance.imag])
    if np.abs(rest).max() > 1e-8 * top:
        raise ValueError(
            f"no filter of {t} taps has this spectrum: it must be the same at omega and -omega, "
            f"and its autocorrelations must vanish from lag {t} on"
        )
    target = covariance.real[:t] / top
    k = _wilson(target)
    if np.abs(np.abs(fft.fft(k, n=lam.size)) ** 2 - lam / top).max() > 1e-7:
        raise ValueError(
            "spectrum is negative at some frequency, perhaps between those of the grid: it is not "
            "the square of a filter"
        )
    return k * math.sqrt(top)


def _wilson(target: Array) -> Array:
    t = target.size
    lag = np.arange(t)
    k = np.zeros(t)
    k[0] = math.sqrt(2 * np.abs(target).sum())
    error, least, best = math.inf, math.inf, k
    for _ in range(100):
        correlation = np.correlate(k, k, "full")[t - 1 :]
        miss = float(np.abs(correlation - target).max())
        if miss < least:  # a step through a nearly singular system may lose what was reached
            least, best = miss, k
        if miss >= error and miss < 1e-13:  # rounding has the last word
            break
        error = miss
        shifted, mirrored = lag[None] - lag[:, None], lag[None] + lag[:, None]
        jacobian = np.where(shifted >= 0, k[np.abs(shifted)], 0.0)
        jacobian += np.where(mirrored < t, k[np.minimum(mirrored, t - 1)], 0.0)
        # Zeros on the circle make the last systems singular; the step is then of least norm.
        k = k + np.linalg.lstsq(jacobian, target - correlation, rcond=None)[0]
    return best


# ------------------------------------------------------------------------------ potentials


class Potential(Protocol):
    """An even convex function psi with two derivatives, applied entry by entry.

    Attributes
    ----------
    curvature : float
        The supremum of psi'', finite.
    slope : float
        psi'(infinity), possibly infinite.
    """

    @property
    def curvature(self) -> float: ...
    @property
    def slope(self) -> float: ...
    def value(self, t: ArrayLike) -> Array: ...
    def first(self, t: ArrayLike) -> Array: ...
    def second(self, t: ArrayLike) -> Array: ...


@dataclass(frozen=True)
class SmoothedL1:
    """psi(t) = sqrt(t^2 + epsilon^2), a smooth absolute value.

    Parameters
    ----------
    epsilon : float
        Positive, in the units of t.

    Raises
    ------
    ValueError
        If `epsilon` is not positive and finite.

    Notes
    -----
    psi' = t / psi, psi'' = epsilon^2 / psi^3 <= 1 / epsilon.  Source: this book, chapter 4.
    """

    epsilon: float

    def __post_init__(self) -> None:
        number(self.epsilon, "epsilon", 0.0, strict=True)

    @property
    def curvature(self) -> float:
        return 1 / self.epsilon

    @property
    def slope(self) -> float:
        return 1.0

    def value(self, t: ArrayLike) -> Array:
        return np.hypot(t, self.epsilon)

    def first(self, t: ArrayLike) -> Array:
        return t / np.hypot(t, self.epsilon)

    def second(self, t: ArrayLike) -> Array:
        psi = np.hypot(t, self.epsilon)
        return (self.epsilon / psi) ** 2 / psi


@dataclass(frozen=True)
class Quadratic:
    """psi(t) = t^2 / 2.  Source: this book, chapter 4."""

    @property
    def curvature(self) -> float:
        return 1.0

    @property
    def slope(self) -> float:
        return math.inf

    def value(self, t: ArrayLike) -> Array:
        return np.asarray(t, dtype=np.float64) ** 2 / 2

    def first(self, t: ArrayLike) -> Array:
        return np.array(t, dtype=np.float64)

    def second(self, t: ArrayLike) -> Array:
        return np.ones(np.shape(t))


@dataclass(frozen=True)
class LogCosh:
    """psi(t) = scale log cosh(t / scale), quadratic near 0 and |t| - scale log 2 far away.

    Parameters
    ----------
    scale : float
        Positive, in the units of t.

    Raises
    ------
    ValueError
        If `scale` is not positive and finite.

    Notes
    -----
    psi' = tanh(t / scale), psi'' = cosh(t / scale)^-2 / scale.  Source: this book, chapter 4.
    """

    scale: float

    def __post_init__(self) -> None:
        number(self.scale, "scale", 0.0, strict=True)

    @property
    def curvature(self) -> float:
        return 1 / self.scale

    @property
    def slope(self) -> float:
        return 1.0

    def value(self, t: ArrayLike) -> Array:
        size = np.abs(t) / self.scale
        # cosh s = 1 + 2 sinh(s / 2)^2, without the cancellation of cosh s - 1
        small = np.log1p(2 * np.sinh(np.minimum(size, 1) / 2) ** 2)
        return self.scale * np.where(
            size < 1, small, size + np.log1p(np.exp(-2 * size)) - np.log(2)
        )

    def first(self, t: ArrayLike) -> Array:
        return np.tanh(np.asarray(t) / self.scale)

    def second(self, t: ArrayLike) -> Array:
        decay = np.exp(-2 * np.abs(t) / self.scale)
        return 4 * decay / (1 + decay) ** 2 / self.scale


def _known(potential: Potential) -> None:
    if not isinstance(getattr(potential, "curvature", None), float):
        raise TypeError(
            f"potential must be one such as SmoothedL1(0.05), LogCosh(0.05) or Quadratic(), got "
            f"{potential!r}"
        )


# ------------------------------------------------------------------------ the lower problem


class Solution(NamedTuple):
    """Minimizers with their certificates.

    Attributes
    ----------
    x : array of the shape of y
    gradient_norm : array of the shape of the batch
        ||gradient of the objective at x||, at least the distance of x to the exact minimizer,
        because the objective is 1-strongly convex.
    iterations : array of int of the shape of the batch
    converged : array of bool of the shape of the batch
    """

    x: Array
    gradient_norm: Array
    iterations: NDArray[np.intp]
    converged: NDArray[np.bool_]


def denoise(
    y: ArrayLike,
    filters: ArrayLike,
    potential: Potential,
    *,
    tol: float = 1e-8,
    max_iterations: int = 10_000,
    start: ArrayLike | None = None,
) -> Solution:
    """Return argmin_x 1/2 ||x - y||^2 + sum_j sum_i psi((k_j * x)_i), with a certificate.

    Parameters
    ----------
    y : array, shape (..., N) or (..., H, W)
        Data; leading axes are a batch, and every sample is solved for itself.
    filters : array, shape (J, taps) or (J, h, w)
    potential : Potential
        psi, such as ``SmoothedL1(0.05)``.
    tol : float
        A sample is done when ||gradient|| <= tol, and hence ||x - x_hat|| <= tol; positive,
        in the units of ||y||.  Never less than 64 eps ||y||, the rounding of the data.
    max_iterations : int
        At least 1.  A sample that needs more has ``converged = False``; its certificate holds.
    start : array of the shape of `y`, optional
        Where the iteration starts; y by default.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes do not fit, a filter is larger than the signal, an entry is not finite, or
        `tol` or `max_iterations` is out of its range.

    Notes
    -----
    Nesterov's accelerated descent with the constant momentum of a strong convexity of 1 and a
    smoothness of L = 1 + max Lambda max psi'': the error falls at least like
    (1 - L^(-1/2))^(iterations / 2).  Source: Y. Nesterov, Lectures on Convex Optimization
    (2018), section 2.2; this book, chapter 4.
    """
    k = _filters(filters)
    signals, batch = _batch(y, k, "y")
    begin = signals
    if start is not None:
        _same_shape(y=np.asarray(y), start=np.asarray(start))
        begin, _ = _batch(start, k, "start")
    _known(potential)
    maps = _Convolution(k, signals.shape[1:])
    x, *certificate = _descend(
        maps,
        maps.spectrum_of(signals),
        maps.spectrum_of(begin),
        potential,
        number(tol, "tol", 0.0, strict=True),
        integer(max_iterations, "max_iterations", 1),
    )
    shaped = [c.reshape(batch) for c in certificate]
    return Solution(maps.samples_of(x).reshape(np.shape(y)), *shaped)


def _descend(
    maps: _Convolution,
    y: Spectrum,
    start: Spectrum,
    potential: Potential,
    tol: float,
    limit: int,
) -> tuple[Spectrum, Array, NDArray[np.intp], NDArray[np.bool_]]:
    smoothness = 1 + potential.curvature * float((np.abs(maps.symbol) ** 2).sum(axis=0).max())
    rate = math.sqrt(1 / smoothness)
    momentum = (1 - rate) / (1 + rate)
    solution, norms = start.copy(), np.empty(len(y))
    iterations = np.full(len(y), limit)
    converged = np.zeros(len(y), dtype=bool)
    goal = np.maximum(tol, 64 * EPS * maps.norm(y))
    active = np.arange(len(y))  # samples that are done leave the arrays
    point, last = start, start
    for step in range(1, limit + 1):
        gradient = point - y + maps.adjoint(potential.first(maps.apply(point)))
        size = maps.norm(gradient)
        done = size <= goal
        leave = done | (step == limit)
        if leave.any():
            out = active[leave]
            solution[out], norms[out] = point[leave], size[leave]
            iterations[out], converged[out] = step, done[leave]
            stay = ~leave
            if not stay.any():
                break
            active, y, goal = active[stay], y[stay], goal[stay]
            point, last, gradient = point[stay], last[stay], gradient[stay]
        new = point - gradient / smoothness
        point, last = new + momentum * (new - last), new
    return solution, norms, iterations, converged


def offset_bias(x: ArrayLike, filters: ArrayLike, potential: Potential) -> Array:
    """Return -sum_j S_j mean(psi'(k_j * x)) with S_j = sum k_j: mean(x - y) at a minimizer x.

    Parameters
    ----------
    x : array, shape (..., N) or (..., H, W)
        Minimizers of :func:`denoise`.
    filters : array, shape (J, taps) or (J, h, w)
    potential : Potential

    Returns
    -------
    array of the shape of the batch, float64

    Raises
    ------
    TypeError, ValueError
        As for :func:`denoise`.

    Notes
    -----
    The identity sums the optimality condition x - y + sum_j K_j^T psi'(K_j x) = 0; it is off
    by at most ||gradient|| / sqrt(size).  Source: this book, chapter 4.
    """
    k = _filters(filters)
    signals, batch = _batch(x, k, "x")
    _known(potential)
    maps = _Convolution(k, signals.shape[1:])
    slopes = potential.first(maps.apply(maps.spectrum_of(signals)))
    means = slopes.reshape(len(signals), len(k), -1).mean(axis=2)
    return -(means * k.reshape(len(k), -1).sum(axis=1)).sum(axis=1).reshape(batch)


# --------------------------------------------------------------------- learning the filters


class Learned(NamedTuple):
    """Learned filters.

    Attributes
    ----------
    filters : array, shape (count, taps) or (count, h, w)
    losses : array
        The objective, with the sparsity term, at the start and after each iteration.
    converged : bool
        Whether L-BFGS stopped by itself and every denoising problem met its tolerance.
    """

    filters: Array
    losses: Array
    converged: bool


def filter_gradient(
    y: ArrayLike,
    target: ArrayLike,
    filters: ArrayLike,
    potential: Potential,
    *,
    tol: float = 1e-8,
    max_iterations: int = 10_000,
    start: ArrayLike | None = None,
) -> tuple[float, Array, Solution]:
    """Return the loss mean 1/2 ||x_hat - target||^2 / size and its gradient in the filters.

    Parameters
    ----------
    y, target : array, shape (..., N) or (..., H, W)
        Data and truths, of one shape; the mean is over the batch, and size is N or H W.
    filters : array, shape (J, taps) or (J, h, w)
    potential, tol, max_iterations, start
        As for :func:`denoise`.

    Returns
    -------
    loss : float
        Half the mean squared error per sample.
    gradient : array of the shape of `filters`, float64
    solution : Solution
        x_hat, with its certificates.

    Raises
    ------
    TypeError, ValueError
        As for :func:`denoise`.

    Notes
    -----
    The optimality condition F(x, k) = x - y + sum_j K_j^T psi'(K_j x) = 0 defines x_hat(k).
    With H = I + sum_j K_j^T diag psi''(K_j x_hat) K_j and H p = x_hat - target,

        d/dk_j(m) 1/2 ||x_hat - target||^2
            = -sum_i [p(i - m) psi'(k_j * x_hat)_i + x_hat(i - m) psi''(k_j * x_hat)_i (k_j * p)_i].

    The system is solved by conjugate gradients to a relative residual of 1e-11 or, if it is
    larger, tol / ||residual||.  Source: this book, chapter 4.
    """
    k = _filters(filters)
    _same_shape(y=np.asarray(y), target=np.asarray(target))
    truth, _ = _batch(target, k, "target")
    solution = denoise(y, k, potential, tol=tol, max_iterations=max_iterations, start=start)
    x, _ = _batch(solution.x, k, "x")
    maps = _Convolution(k, x.shape[1:])
    spectra = maps.spectrum_of(x)
    outputs = maps.apply(spectra)
    curvature = potential.second(outputs)
    p = _solve_hessian(maps, curvature, spectra - maps.spectrum_of(truth), 0.01 * tol)
    taps = k.shape[1:]
    gradient = maps.lags(p, potential.first(outputs), taps)
    gradient += maps.lags(spectra, curvature * maps.apply(p), taps)
    loss = float(_mean_square(x - truth).mean()) / 2
    return loss, -gradient / x.size, solution


def _solve_hessian(maps: _Convolution, curvature: Array, b: Spectrum, tol: float) -> Spectrum:
    """Conjugate gradients for (I + sum_j K_j^T diag(curvature_j) K_j) p = b, sample by sample."""

    def columns(values: Array) -> Array:
        return values.reshape(-1, *[1] * len(maps.grid))

    p, residual, direction = np.zeros_like(b), b.copy(), b.copy()
    square = maps.inner(b, b)
    goal = np.maximum(1e-22 * square, tol**2)
    for _ in range(1000 + 10 * math.prod(maps.grid)):
        active = square > goal
        if not active.any():
            break
        image = direction + maps.adjoint(curvature * maps.apply(direction))
        # The Hessian is at least the identity: the divisor vanishes only with the direction.
        step = np.divide(square, maps.inner(direction, image), out=np.zeros(len(b)), where=active)
        p += columns(step) * direction
        residual -= columns(step) * image
        new = maps.inner(residual, residual)
        ratio = np.divide(new, square, out=np.zeros(len(b)), where=active)
        direction = residual + columns(ratio) * direction
        square = new
    return p


def learn_filters(
    x: ArrayLike,
    y: ArrayLike,
    *,
    count: int,
    taps: int | Sequence[int],
    potential: Potential,
    seed: int,
    sparsity: float = 0.0,
    iterations: int = 200,
    start: ArrayLike | None = None,
    tol: float = 1e-7,
    progress: bool = False,
) -> Learned:
    """Minimize mean 1/2 ||x_hat(y) - x||^2 / size + sparsity sum |k| over `count` filters.

    Parameters
    ----------
    x, y : array, shape (..., N) or (..., H, W)
        Truths and data, of one shape; leading axes are the samples.
    count : int
        Number of filters, at least 1.
    taps : int or (int, int)
        Length of a filter, for signals, or its height and width, for images.
    potential : Potential
    seed : int
        Seed of the random start, at least 0: independent normal taps of standard deviation .1.
    sparsity : float
        Weight of the l1 norm of all taps, at least 0.  The absolute value is smoothed, to
        sqrt(k^2 + s^2) - s with s = ``SPARSITY_SMOOTHING``.
    iterations : int
        Largest number of L-BFGS iterations, at least 1.
    start : array, shape (count, taps) or (count, h, w), optional
        The first filters, in place of random ones.
    tol : float
        Tolerance of the denoising problems; see :func:`denoise`.  It makes the loss uncertain
        by tol / size times the mean of ||x_hat - x||, at most.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Learned

    Raises
    ------
    TypeError, ValueError
        As for :func:`denoise`, or if a parameter is out of its range.

    Notes
    -----
    L-BFGS with the gradient of :func:`filter_gradient`; each evaluation starts from the last
    minimizers.  The problem is not convex, and shifts, signs and the order of the filters do
    not matter: compare what does not depend on them.  Source: this book, chapter 4.
    """
    size, number_of = _shape(taps, "taps"), integer(count, "count", 1)
    weight = number(sparsity, "sparsity", 0.0)
    limit = integer(iterations, "iterations", 1)
    rng = np.random.default_rng(integer(seed, "seed", 0))
    if start is None:
        first = 0.1 * rng.standard_normal((number_of, *size))
    else:
        first = _filters(start)
        if first.shape != (number_of, *size):
            raise ValueError(f"start must have the shape {(number_of, *size)}, got {first.shape}")
    truth, data = finite(x, "x"), finite(y, "y")
    _same_shape(x=truth, y=data)
    objective = _Objective(data, truth, first.shape, potential, weight, tol)
    losses = [objective(first.ravel())[0]]
    with tqdm(total=limit, disable=not progress, desc="learning filters") as bar:

        def record(intermediate_result: OptimizeResult) -> None:
            losses.append(float(intermediate_result.fun))
            bar.set_postfix(loss=f"{losses[-1]:.5g}", refresh=False)
            bar.update()

        result = minimize(
            objective,
            first.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=record,
            options={"maxiter": limit, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-6},
        )
    objective(result.x)  # is the end certified?
    return Learned(
        result.x.reshape(first.shape),
        np.array(losses),
        bool(result.success and objective.certified),
    )


class _Objective:
    """Loss and gradient as a function of the taps, remembering the last minimizers."""

    def __init__(
        self,
        y: Array,
        target: Array,
        shape: tuple[int, ...],
        potential: Potential,
        sparsity: float,
        tol: float,
    ) -> None:
        self._y, self._target, self._shape = y, target, shape
        self._potential, self._sparsity, self._tol = potential, sparsity, tol
        self._start: Array | None = None
        self.certified = False

    def __call__(self, taps: Array) -> tuple[float, Array]:
        k = taps.reshape(self._shape)
        loss, gradient, solution = filter_gradient(
            self._y, self._target, k, self._potential, tol=self._tol, start=self._start
        )
        self._start = solution.x
        self.certified = bool(solution.converged.all())
        smooth_abs = np.hypot(k, SPARSITY_SMOOTHING)
        loss += self._sparsity * float((smooth_abs - SPARSITY_SMOOTHING).sum())
        return loss, (gradient + self._sparsity * k / smooth_abs).ravel()


def tv_filters(ndim: int) -> Array:
    """Return the filters of periodic total variation: differences of neighbours.

    Parameters
    ----------
    ndim : int
        1 for signals, 2 for images.

    Returns
    -------
    array, shape (1, 2) or (2, 2, 2), float64
        [-1, 1], and for images this filter along the rows and along the columns, in the corner
        of a field of 2 x 2.

    Raises
    ------
    ValueError
        If `ndim` is neither 1 nor 2.

    Notes
    -----
    For images this is the *anisotropic* total variation sum |d_1 x| + |d_2 x|; the isotropic
    one, sum of (|d_1 x|^2 + |d_2 x|^2)^(1/2), couples two filters in one potential and is not
    of this form.  Source: this book, chapter 4.
    """
    if ndim == 1:
        return np.array([[-1.0, 1.0]])
    if ndim == 2:
        return np.array([[[-1.0, 1.0], [0.0, 0.0]], [[-1.0, 0.0], [1.0, 0.0]]])
    raise ValueError(f"ndim must be 1 (signals) or 2 (images), got {ndim!r}")


# ------------------------------------------------------------------------- filters under attack


class Attack(NamedTuple):
    """Attacked data.

    Attributes
    ----------
    y : array, shape (..., N) or (..., H, W)
        The data with their perturbation e, ||e|| <= radius for every sample.
    error : array of the shape of the batch
        ||x_hat(y + e) - target||^2, summed over the grid: of the perturbations that were tried,
        the largest value, and so a lower bound of the maximum.
    """

    y: Array
    error: Array


def attack(
    y: ArrayLike,
    target: ArrayLike,
    filters: ArrayLike,
    potential: Potential,
    radius: float,
    *,
    steps: int = 20,
    start: ArrayLike | None = None,
    tol: float = 1e-7,
) -> Attack:
    """Search the e with ||e|| <= radius that makes ||x_hat(y + e) - target||^2 largest.

    Parameters
    ----------
    y, target : array, shape (..., N) or (..., H, W)
        Data and truths, of one shape; leading axes are a batch, attacked sample by sample.
    filters : array, shape (J, taps) or (J, h, w)
    potential : Potential
    radius : float
        Length of e in the Euclidean norm of the whole signal or image, at least 0.
    steps : int
        Number of ascent steps, at least 0.  With 0 the starts are compared and nothing else.
    start : array of the shape of `y`, optional
        Perturbations where the ascent begins, scaled to the length `radius`; by default, and
        where a sample of `start` is 0, the residual x_hat(y) - target, or if that is 0 as well,
        a constant.
    tol : float
        Tolerance of the denoising problems; see :func:`denoise`.

    Returns
    -------
    Attack

    Raises
    ------
    TypeError, ValueError
        As for :func:`denoise`, or if a parameter is out of its range.

    Notes
    -----
    Ascent along the gradient of 1/2 ||x_hat(y + e) - target||^2 in e, H^-1 (x_hat - target) with
    the Hessian H of :func:`filter_gradient`: the Jacobian of x_hat is H^-1, symmetric.  A step
    has the length s radius in that direction and ends on the sphere; s starts at 1 and, sample
    by sample, doubles if the error grew; else the step is taken back and s is divided by four.
    The end is compared with the two constant perturbations.  So the error is at least that of
    the start and of both constants.  The problem is not concave: the global maximum is not
    guaranteed.  Source: this book, chapter 4.
    """
    k = _filters(filters)
    _same_shape(y=np.asarray(y), target=np.asarray(target))
    data, batch = _batch(y, k, "y")
    truth, _ = _batch(target, k, "target")
    length, limit = number(radius, "radius", 0.0), integer(steps, "steps", 0)
    _known(potential)
    problem = _Attacked(data, truth, k, potential, number(tol, "tol", 0.0, strict=True))
    if start is None:
        begin = problem.residual()
    else:
        _same_shape(y=np.asarray(y), start=np.asarray(start))
        begin, _ = _batch(start, k, "start")
    begin = np.where(_columns(begin.any(axis=tuple(range(1, k.ndim))), begin), begin, 1.0)
    e, stride = length * _unit(begin), np.ones(len(data))
    error, x = problem.evaluate(e)
    for _ in range(limit if length > 0 else 0):
        ascent = _columns(stride, e) * _unit(problem.gradient(x))
        trial = length * _unit(e / length + ascent)
        new, z = problem.evaluate(trial, x)
        better = new > error
        e[better], error[better], x[better] = trial[better], new[better], z[better]
        stride *= np.where(better, 2, 0.25)
    for sign in (-1, 1):
        trial = np.full_like(data, sign * length / math.sqrt(data[0].size))
        new, _ = problem.evaluate(trial)
        better = new > error
        e[better], error[better] = trial[better], new[better]
    return Attack((data + e).reshape(np.shape(y)), error.reshape(batch))


def _columns(values: Array, like: Array) -> Array:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _unit(e: Array) -> Array:
    """Scale every sample to norm 1, except 0."""
    size = np.sqrt((e * e).reshape(len(e), -1).sum(axis=1))
    return e / _columns(np.where(size > 0, size, 1.0), e)


class _Attacked:
    """Errors and their gradients in the perturbation, for fixed filters."""

    def __init__(
        self, data: Array, truth: Array, filters: Array, potential: Potential, tol: float
    ) -> None:
        self._maps = _Convolution(filters, data.shape[1:])
        self._data, self._truth = data, self._maps.spectrum_of(truth)
        self._potential, self._tol = potential, tol

    def residual(self) -> Array:
        _, x = self.evaluate(np.zeros_like(self._data))
        return self._maps.samples_of(x - self._truth)

    def evaluate(self, e: Array, start: Spectrum | None = None) -> tuple[Array, Spectrum]:
        y = self._maps.spectrum_of(self._data + e)
        x, *_ = _descend(
            self._maps, y, y if start is None else start, self._potential, self._tol, 10_000
        )
        return self._maps.norm(x - self._truth) ** 2, x

    def gradient(self, x: Spectrum) -> Array:
        curvature = self._potential.second(self._maps.apply(x))
        residual = x - self._truth
        return self._maps.samples_of(_solve_hessian(self._maps, curvature, residual, self._tol))


class Robust(NamedTuple):
    """Filters trained under attack.

    Attributes
    ----------
    filters : array, shape (count, taps) or (count, h, w)
        Those of the least of `losses`.
    losses : array, shape (steps + 1,)
        Half the mean squared error per sample under the attacks found, at the start and after
        every step: lower bounds of the adversarial loss.
    y : array of the shape of the data
        The attacked data of `filters`.
    """

    filters: Array
    losses: Array
    y: Array


def learn_under_attack(
    x: ArrayLike,
    y: ArrayLike,
    start: ArrayLike,
    *,
    potential: Potential,
    radius: float,
    steps: int = 60,
    rate: float = 0.02,
    attack_steps: int = 5,
    tol: float = 1e-6,
    progress: bool = False,
) -> Robust:
    """Minimize mean max over ||e|| <= radius of 1/2 ||x_hat(y + e) - x||^2 / size over filters.

    Parameters
    ----------
    x, y : array, shape (..., N) or (..., H, W)
        Truths and data, of one shape; every sample is attacked with the same radius.
    start : array, shape (count, taps) or (count, h, w)
        The first filters, such as those of :func:`learn_filters`.
    potential : Potential
    radius : float
        As for :func:`attack`.
    steps : int
        Steps in the filters, at least 1.
    rate : float
        Length of a step in every tap, positive; it falls linearly to 0 over the steps.
    attack_steps : int
        Ascent steps before each step in the filters, at least 1.
    tol : float
        Tolerance of the denoising problems; see :func:`denoise`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Robust

    Raises
    ------
    TypeError, ValueError
        As for :func:`attack`, or if a parameter is out of its range.

    Notes
    -----
    Alternates :func:`attack`, from its default start, and a step of Adam with the gradient of
    :func:`filter_gradient` at the attacked data.  Where the attack is the only maximizer, that
    is the gradient of the adversarial loss (Danskin).  Guaranteed is only that `losses` are
    attained by perturbations of the ball, and that the filters returned have the least of them:
    neither player is proved to be optimal, and a stronger attack may find more.  With few ascent
    steps filters can learn to mislead this attack and no other: judge them by a longer one.
    Filters that are zero stay zero.
    Source: D. Kingma and J. Ba, ICLR 2015 (Adam); this book, chapter 4.
    """
    k = _filters(start).copy()
    truth, data = finite(x, "x"), finite(y, "y")
    _same_shape(x=truth, y=data)
    limit, ascents = integer(steps, "steps", 1), integer(attack_steps, "attack_steps", 1)
    length = number(rate, "rate", 0.0, strict=True)
    mean, square = np.zeros_like(k), np.zeros_like(k)
    losses: list[float] = []
    with tqdm(total=limit, disable=not progress, desc="learning under attack") as bar:
        for step in range(limit + 1):
            attacked = attack(data, truth, k, potential, radius, steps=ascents, tol=tol).y
            loss, gradient, _ = filter_gradient(attacked, truth, k, potential, tol=tol)
            if not losses or loss < min(losses):
                best = k.copy(), attacked
            losses.append(loss)
            if step == limit:
                break
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.99 * square + 0.01 * gradient**2
            slope = mean / (1 - 0.9 ** (step + 1))
            size = np.sqrt(square / (1 - 0.99 ** (step + 1)))
            k -= length * (1 - step / limit) * slope / (size + 1e-12)
            bar.set_postfix(loss=f"{loss:.5g}", refresh=False)
            bar.update()
    return Robust(best[0], np.array(losses), best[1])


# --------------------------------------------------------------------------- plug and play


class PlugAndPlay(NamedTuple):
    """The end of a plug-and-play iteration.

    Attributes
    ----------
    x : array, shape (..., *domain_shape)
    residuals : array, shape (iterations, ...)
        ||x_(k + 1) - x_k|| of every sample.
    converged : bool
        Whether the last residuals are at most `tol`.
    """

    x: Array
    residuals: Array
    converged: bool


def plug_and_play(
    operator: Operator,
    y: ArrayLike,
    denoiser: Callable[[Array], ArrayLike],
    *,
    step: float,
    iterations: int,
    start: ArrayLike | None = None,
    tol: float = 1e-10,
) -> PlugAndPlay:
    """Iterate x <- D(x - step A* (A x - y)), proximal gradient with a denoiser for the prox.

    Parameters
    ----------
    operator : Operator
        A.
    y : array, shape (..., *range_shape)
        Data; leading axes are a batch.
    denoiser : callable
        D, from arrays (..., *domain_shape) to such arrays.  If it is the minimizer of
        1/2 ||x - z||^2 + J(x), as :func:`denoise` is, the fixed point minimizes
        1/2 ||A x - y||^2 + J(x) / step.
    step : float
        0 < step < 2 / ||A||^2.
    iterations : int
        Largest number of iterations, at least 1.
    start : array, shape (..., *domain_shape), optional
        Where to start; 0 by default.
    tol : float
        Stop when every ||x_(k + 1) - x_k|| is at most `tol`, in the units of ||x||; at least 0.

    Returns
    -------
    PlugAndPlay

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes do not fit, `step` is out of its range, the denoiser changes the shape, or
        its values are not finite: then the iteration has diverged.

    Notes
    -----
    Converges for a firmly nonexpansive D (a prox), if there is a fixed point; a small residual
    says nothing about the distance to it.  For a diagonal linear D the limit has the gains of
    :func:`advreg.spectral.pnp_gain`.  Source: this book, chapters 2 and 4.
    """
    tau, limit = number(step, "step", 0.0, strict=True), integer(iterations, "iterations", 1)
    least = number(tol, "tol", 0.0)
    norm = operator.norm()
    if tau * norm**2 >= 2:
        raise ValueError(
            f"step = {tau:g} is too long: the iteration converges for 0 < step < 2 / ||A||^2 = "
            f"{2 / norm**2:g}"
        )
    data = finite(y, "y")
    pulled = operator.adjoint(data)
    x = np.zeros_like(pulled) if start is None else finite(start, "start")
    _same_shape(start=x, x=pulled)
    axes = tuple(range(-len(operator.domain_shape), 0))
    residuals = []
    for _ in range(limit):
        new = _denoised(denoiser, x - tau * (operator.adjoint(operator.forward(x)) - pulled))
        residuals.append(np.sqrt(((new - x) ** 2).sum(axis=axes)))
        x = new
        if (residuals[-1] <= least).all():
            break
    return PlugAndPlay(x, np.array(residuals), bool((residuals[-1] <= least).all()))


def _denoised(denoiser: Callable[[Array], ArrayLike], z: Array) -> Array:
    new = real(denoiser(z), "the denoiser's output")
    if new.shape != z.shape:
        raise ValueError(f"the denoiser turned the shape {z.shape} into {new.shape}")
    if not np.isfinite(new).all():
        raise ValueError(
            "the denoiser's output is not finite: the iteration has diverged, or the denoiser "
            "cannot handle its input"
        )
    return new


# -------------------------------------------------------------------------- families of data


def _sizes(count: int, size: int, least: int, rng: np.random.Generator) -> tuple[int, int]:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, as default_rng(0), got {rng!r}")
    return integer(count, "count", 1), integer(size, "size", least)


def piecewise_constant(count: int, size: int, jumps: int, rng: np.random.Generator) -> Array:
    """Return periodic signals with jumps at random places between random levels.

    Parameters
    ----------
    count, size : int
        Number of signals and their length.
    jumps : int
        Number of jumps around the circle, 0 or from 2 to `size`: the signal is periodic, so
        that a single jump cannot be.  The places are distinct, each choice equally likely.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (count, size), float64
        The level of each piece is an independent standard normal number.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    count, size = _sizes(count, size, 2, rng)
    if integer(jumps, "jumps", 0) == 1 or jumps > size:
        raise ValueError(
            f"jumps must be 0 or from 2 to size = {size}, got {jumps}: a periodic signal jumps back"
        )
    marks = np.zeros((count, size), dtype=np.intp)
    marks[:, :jumps] = 1
    piece = np.cumsum(rng.permuted(marks, axis=1), axis=1)
    levels = rng.standard_normal((count, max(jumps, 1)))
    return np.take_along_axis(levels, piece % levels.shape[1], axis=1)


def smooth(count: int, size: int, rng: np.random.Generator, *, modes: int = 4) -> Array:
    """Return periodic signals of the lowest frequencies with random amplitudes.

        x_i = c sum_k (a_k cos(2 pi k i / N) + b_k sin(2 pi k i / N)) / k,    k = 1, ..., modes,

    with independent standard normal a_k and b_k, and c such that E x_i^2 = 1.

    Parameters
    ----------
    count, size : int
        Number of signals and their length.
    rng : numpy.random.Generator
    modes : int
        Number of frequencies, at least 1 and less than size / 2.

    Returns
    -------
    array, shape (count, size), float64

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    count, size = _sizes(count, size, 3, rng)
    if 2 * integer(modes, "modes", 1) >= size:
        raise ValueError(f"modes must be less than size / 2 = {size / 2:g}, got {modes}")
    k = np.arange(1, modes + 1)
    amplitudes = rng.standard_normal((2, count, modes)) / (k * math.sqrt((1.0 / k**2).sum()))
    angles = 2 * np.pi * k[:, None] * np.arange(size) / size
    waves = np.stack([np.cos(angles), np.sin(angles)])
    return np.einsum("pck,pki->ci", amplitudes, waves)


def rectangles(count: int, size: int, rng: np.random.Generator, *, pieces: int = 3) -> Array:
    """Return periodic square images, each the sum of random rectangles.

    Parameters
    ----------
    count, size : int
        Number of images and their height and width, at least 2.
    rng : numpy.random.Generator
    pieces : int
        Number of rectangles, at least 1.  Their corners are uniform, and they may wrap around;
        height and width are uniform from size / 4 to size / 2, their levels standard normal.

    Returns
    -------
    array, shape (count, size, size), float64

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    count, size = _sizes(count, size, 2, rng)
    pieces = integer(pieces, "pieces", 1)
    corner = rng.integers(size, size=(2, count, pieces, 1))
    extent = rng.integers(-(-size // 4), size // 2 + 1, size=(2, count, pieces, 1))
    level = rng.standard_normal((count, pieces))
    inside = ((np.arange(size) - corner) % size < extent).astype(np.float64)
    return np.einsum("cp,cph,cpw->chw", level, inside[0], inside[1])


def autoregressive_power(size: int, coefficients: ArrayLike, innovation: float = 1.0) -> Array:
    """Return the power spectrum of a circulant autoregressive process, s^2 / |h^(omega)|^2.

    Parameters
    ----------
    size : int
        Length N of the signal.
    coefficients : array, shape (p,)
        phi_1, ..., phi_p of x_i = sum_m phi_m x_(i - m) + e_i, fewer than N; the whitening
        filter is h = [1, -phi_1, ..., -phi_p].
    innovation : float
        The variance s^2 of e_i, positive.

    Returns
    -------
    array, shape (N,), float64
        Infinite where h^ vanishes to rounding, as at omega = 0 for the random walk, phi = [1].

    Raises
    ------
    TypeError, ValueError
        If an input is not real, not finite or out of its range, or shapes do not fit.

    Notes
    -----
    Source: this book, chapter 4.
    """
    variance = number(innovation, "innovation", 0.0, strict=True)
    gain = np.abs(_whitening(integer(size, "size", 1), coefficients)) ** 2
    return np.divide(variance, gain, out=np.full(gain.size, np.inf), where=gain > 0)


def _whitening(size: int, coefficients: ArrayLike) -> Spectrum:
    phi = finite(coefficients, "coefficients")
    if phi.ndim != 1 or phi.size >= size:
        raise ValueError(
            f"coefficients must have the shape (p,) with p < size = {size}, got {phi.shape}"
        )
    h = np.concatenate([[1.0], -phi])
    symbol = fft.fft(h, n=size)
    return np.where(np.abs(symbol) > 64 * EPS * np.abs(h).sum(), symbol, 0)


def autoregressive(
    count: int,
    size: int,
    coefficients: ArrayLike,
    rng: np.random.Generator,
    *,
    innovation: float = 1.0,
) -> tuple[Array, Array]:
    """Return signals x with h * x = e, white noise e and h = [1, -phi_1, ..., -phi_p], and
    their power spectrum.

    Parameters
    ----------
    count : int
        Number of signals.
    size, coefficients, innovation
        As for :func:`autoregressive_power`.
    rng : numpy.random.Generator

    Returns
    -------
    x : array, shape (count, size), float64
        Periodic, Gaussian and stationary, whatever the zeros of h.
    power : array, shape (size,), float64

    Raises
    ------
    TypeError, ValueError
        As for :func:`autoregressive_power`, and if h^ vanishes at a frequency of the grid:
        the random walk has no stationary version.

    Notes
    -----
    The recursion runs around the circle, so that the spectrum is exact for every size.
    Source: this book, chapter 4.
    """
    count, size = _sizes(count, size, 1, rng)
    power = autoregressive_power(size, coefficients, innovation)
    if np.isinf(power).any():
        raise ValueError(
            "the process is not stationary: its whitening filter vanishes at a frequency of the "
            "grid; autoregressive_power gives its power, which is infinite there"
        )
    noise = math.sqrt(innovation) * rng.standard_normal((count, size))
    half = _whitening(size, coefficients)[: size // 2 + 1]
    return fft.irfft(fft.rfft(noise) / half, n=size), power
