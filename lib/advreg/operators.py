"""Forward operators with their exact singular systems.

Every operator A maps arrays of shape ``domain_shape`` to arrays of shape ``range_shape``;
leading axes are a batch.  Inner products are the plain Euclidean ones of the arrays, and

    A u_n = sigma_n v_n,    A* v_n = sigma_n u_n,    sigma_1 >= sigma_2 >= ... >= 0

with orthonormal u_n and orthonormal v_n, also where sigma_n = 0.  All arrays are real and
float64.  Operators on (0, 1) act on samples; the step h of the grid is the weight of the
squared L2 norm on both sides, so it drops out of the singular values.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike, NDArray
from scipy import fft, sparse
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.special import eval_chebyu, eval_jacobi, roots_legendre

__all__ = [
    "DENSE_LIMIT",
    "BackwardHeat",
    "DoubleIntegration",
    "HalfIntegration",
    "Integration",
    "MatrixOperator",
    "NoSingularSystem",
    "Operator",
    "ParallelBeam",
    "PeriodicBlur",
    "box_blur",
    "double_integration_singular_values",
    "gaussian_blur",
    "half_integration_singular_values",
    "integration_singular_values",
    "radon_disc_singular_functions",
    "radon_disc_singular_values",
]

Array = NDArray[np.float64]

DENSE_LIMIT = 2**25
"""Largest number of entries that ``to_matrix`` writes out (256 MiB in float64)."""


SPARSE_LIMIT = 2**28
"""Largest number of entries of the whole matrix of :class:`ParallelBeam` (3 GiB)."""


class NoSingularSystem(ValueError):
    """Raised when the singular system of an operator is asked for that has none (yet)."""


class Operator(ABC):
    """A real linear operator between finite-dimensional Euclidean spaces.

    Attributes
    ----------
    domain_shape, range_shape : tuple of int
        Shapes of one unknown x and of its data A x.

    Notes
    -----
    A subclass fills `domain_shape`, `range_shape`, and the methods with a leading
    underscore; those may trust their input, because the public ones have checked it.
    The k singular values contain every positive one.  In general k is the number of unknowns,
    and then the u_n are a complete basis; where data are fewer, in all or in one symmetry
    block of :class:`ParallelBeam`, k is smaller, and what is missing lies in the null space.

    Source: Definition ``def-compact-operator`` and Theorem ``thm-svd`` (chapter 1).
    """

    domain_shape: tuple[int, ...]
    range_shape: tuple[int, ...]
    _sigma: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """Apply the operator: y = A x.

        Parameters
        ----------
        x : array, shape (..., *domain_shape)
            Real and finite.

        Returns
        -------
        array, shape (..., *range_shape), float64

        Raises
        ------
        TypeError
            If `x` is complex or not numeric.
        ValueError
            If its last axes are not `domain_shape`, or an entry is not finite.
        """
        return self._forward(_checked(x, self.domain_shape, "x", "domain"))

    def adjoint(self, y: ArrayLike) -> Array:
        """Apply the adjoint: x = A* y, so that <A x, y> = <x, A* y>.

        Parameters
        ----------
        y : array, shape (..., *range_shape)
            Real and finite.

        Returns
        -------
        array, shape (..., *domain_shape), float64

        Raises
        ------
        TypeError
            If `y` is complex or not numeric.
        ValueError
            If its last axes are not `range_shape`, or an entry is not finite.
        """
        return self._adjoint(_checked(y, self.range_shape, "y", "range"))

    @property
    def has_singular_system(self) -> bool:
        """Whether `singular_values` and the four transforms below are available."""
        return self._sigma is not None

    @property
    def singular_values(self) -> Array:
        """The singular values, shape (k,), decreasing; zeros are exactly 0.0.

        Raises
        ------
        NoSingularSystem
            If the operator has no singular system (yet).
        """
        if self._sigma is None:
            hint = (
                "; call compute_singular_system() first"
                if hasattr(self, "compute_singular_system")
                else ""
            )
            raise NoSingularSystem(f"{type(self).__name__} has no singular system{hint}")
        return self._sigma.copy()

    def analyse(self, y: ArrayLike) -> Array:
        """Return the coefficients <y, v_n> of data, shape (..., k); errors as `adjoint`."""
        self._require_system()
        return self._analyse_range(_checked(y, self.range_shape, "y", "range"))

    def synthesise(self, c: ArrayLike) -> Array:
        """Return the unknown sum_n c_n u_n, shape (..., *domain_shape), from c of (..., k)."""
        return self._synthesise_domain(_checked(c, self._require_system(), "c", "coefficient"))

    def analyse_domain(self, x: ArrayLike) -> Array:
        """Return the coefficients <x, u_n> of an unknown, shape (..., k); errors as `forward`."""
        self._require_system()
        return self._analyse_domain(_checked(x, self.domain_shape, "x", "domain"))

    def synthesise_range(self, c: ArrayLike) -> Array:
        """Return the data sum_n c_n v_n, shape (..., *range_shape), from c of (..., k)."""
        return self._synthesise_range(_checked(c, self._require_system(), "c", "coefficient"))

    def norm(self) -> float:
        """Return the operator norm, the largest singular value.

        Where there is no singular system, the Lanczos method finds the largest eigenvalue of
        A*A to machine precision, from a fixed starting vector.
        """
        if self._sigma is not None:
            return float(self._sigma[0])
        size = int(np.prod(self.domain_shape))
        if size == 1:
            return float(np.linalg.norm(self._forward(np.ones(self.domain_shape))))

        def normal(x: Array) -> Array:
            return self._adjoint(self._forward(x.reshape(self.domain_shape))).ravel()

        start = np.random.default_rng(0).standard_normal(size)
        if not normal(start).any():
            return 0.0
        gram = LinearOperator((size, size), matvec=normal, dtype=np.float64)
        return float(np.sqrt(eigsh(gram, k=1, v0=start, return_eigenvectors=False)[0]))

    def to_matrix(self) -> Array:
        """Return the dense matrix of A on flattened arrays, shape (data, unknowns).

        Raises
        ------
        ValueError
            If it had more than ``DENSE_LIMIT`` entries.
        """
        rows, columns = int(np.prod(self.range_shape)), int(np.prod(self.domain_shape))
        if rows * columns > DENSE_LIMIT:
            raise ValueError(
                f"the dense matrix would have {rows} x {columns} entries; to_matrix accepts at "
                f"most {DENSE_LIMIT}: use forward and adjoint instead"
            )
        return self._dense(rows, columns)

    def _dense(self, rows: int, columns: int) -> Array:
        units = np.eye(columns).reshape(columns, *self.domain_shape)
        return np.ascontiguousarray(self._forward(units).reshape(columns, rows).T)

    def _require_system(self) -> tuple[int]:
        return self.singular_values.shape

    @abstractmethod
    def _forward(self, x: Array) -> Array: ...

    @abstractmethod
    def _adjoint(self, y: Array) -> Array: ...

    def _analyse_domain(self, x: Array) -> Array:
        raise NotImplementedError

    def _synthesise_domain(self, c: Array) -> Array:
        raise NotImplementedError

    def _analyse_range(self, y: Array) -> Array:
        raise NotImplementedError

    def _synthesise_range(self, c: Array) -> Array:
        raise NotImplementedError


# ---------------------------------------------------------------------------- integration


class Integration(Operator):
    r"""Integration from the left end, (A x)(t) = \int_0^t x, by the right-endpoint rule.

    ``y_j = h (x_1 + ... + x_j)`` with h = 1/N: the matrix is h times the lower triangle of
    ones.  Its singular system is known in closed form, for n = 1, ..., N,

        sigma_n = h / (2 sin(theta_n / 2)),    theta_n = (2n - 1) pi / (2N + 1),
        u_n(j) = c cos(theta_n (j - 1/2)),     v_n(j) = c sin(theta_n j),   c = 2 / sqrt(2N + 1),

    and tends to that of the continuous operator, 2 / ((2n - 1) pi) with
    sqrt(2) cos((n - 1/2) pi t) and sqrt(2) sin((n - 1/2) pi t).

    Parameters
    ----------
    size : int
        Number N of samples, at least 2.

    Attributes
    ----------
    grid : array, shape (N,)
        The points j/N, j = 1, ..., N: `y_j` lives at the point, `x_j` on the cell to its left.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 2.

    Notes
    -----
    Source: Propositions ``prop-integration-discrete`` and ``prop-integration-svd`` (chapter 1).
    """

    def __init__(self, size: int) -> None:
        self.size = _size(size)
        self.domain_shape = self.range_shape = (self.size,)
        self.grid = np.arange(1, self.size + 1) / self.size
        half_angles = (2 * np.arange(1, self.size + 1) - 1) * np.pi / (4 * self.size + 2)
        self._sigma = 1 / (2 * self.size * np.sin(half_angles))

    def _forward(self, x: Array) -> Array:
        return np.cumsum(x, axis=-1) / self.size

    def _adjoint(self, y: Array) -> Array:
        return np.cumsum(y[..., ::-1], axis=-1)[..., ::-1] / self.size

    # u_n and v_n are the odd members of the cosine and sine bases of 2N + 1 and 2N points,
    # cut to the first N points: a cosine or sine transform of padded data has them all.

    def _analyse_domain(self, x: Array) -> Array:
        return np.sqrt(2) * fft.dct(_padded(x, 2 * self.size + 1), norm="ortho")[..., 1::2]

    def _synthesise_domain(self, c: Array) -> Array:
        odd = np.zeros((*c.shape[:-1], 2 * self.size + 1))
        odd[..., 1::2] = c
        return np.sqrt(2) * fft.idct(odd, norm="ortho")[..., : self.size]

    def _analyse_range(self, y: Array) -> Array:
        return np.sqrt(2) * _sine(_padded(y, 2 * self.size))[..., ::2]

    def _synthesise_range(self, c: Array) -> Array:
        odd = np.zeros((*c.shape[:-1], 2 * self.size))
        odd[..., ::2] = c
        return np.sqrt(2) * _sine(odd)[..., : self.size]


class _SineDiagonal(Operator):
    """Self-adjoint with u_n(j) = v_n(j) = sqrt(2h) sin(n pi t_j) at t_j = j h, h = 1/(N + 1)."""

    def __init__(self, size: int) -> None:
        self.size = _size(size)
        self.domain_shape = self.range_shape = (self.size,)
        self.grid = np.arange(1, self.size + 1) / (self.size + 1)

    def _forward(self, x: Array) -> Array:
        return _sine(self._sigma * _sine(x))

    def _adjoint(self, y: Array) -> Array:
        return self._forward(y)

    def _analyse_domain(self, x: Array) -> Array:
        return _sine(x)

    _synthesise_domain = _analyse_range = _synthesise_range = _analyse_domain  # _sine: own inverse


class DoubleIntegration(_SineDiagonal):
    r"""Integrate twice with zero boundary values: y solves -y'' = x, y(0) = y(1) = 0.

    The inverse of the matrix of second differences on N inner points, h = 1/(N + 1),

        sigma_n = h^2 / (4 sin^2(n pi h / 2)),    u_n(j) = v_n(j) = sqrt(2h) sin(n pi j h),

    which tends to (n pi)^-2 and sqrt(2) sin(n pi t).

    Parameters
    ----------
    size : int
        Number N of inner points, at least 2.

    Attributes
    ----------
    grid : array, shape (N,)
        The inner points j h, j = 1, ..., N.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 2.

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        step = 1 / (self.size + 1)
        self._sigma = (step / (2 * np.sin(np.pi * self.grid / 2))) ** 2

    def _forward(self, x: Array) -> Array:
        twice = np.cumsum(np.cumsum(x, axis=-1), axis=-1) / (self.size + 1) ** 2
        chord = twice[..., -1:] * self.grid  # the straight line that makes y vanish at both ends
        chord[..., 1:] -= twice[..., :-1]
        return chord


class BackwardHeat(_SineDiagonal):
    r"""The heat equation on (0, 1) with ends held at 0, from time 0 to time T.

    Forward is diffusion, u_t = u_xx; the inverse problem runs it backward.  With samples at
    the N inner points j/(N + 1), for trigonometric polynomials of degree N exactly,

        sigma_n = exp(-n^2 pi^2 T),    u_n(j) = v_n(j) = sqrt(2h) sin(n pi j h),   h = 1/(N + 1).

    Values below the smallest float64 number, about 5e-324, are exactly 0.0.

    Parameters
    ----------
    size : int
        Number N of inner points, at least 2.
    time : float
        Final time T > 0, in units of (length of the rod)^2 / diffusivity.

    Attributes
    ----------
    grid : array, shape (N,)
        The inner points j h, j = 1, ..., N.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 2, or `time` is not positive and finite.

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).
    """

    def __init__(self, size: int, time: float) -> None:
        super().__init__(size)
        self.time = _positive(time, "time")
        modes = np.arange(1, self.size + 1)
        self._sigma = np.exp(-(modes**2) * np.pi**2 * self.time)


def integration_singular_values(n: ArrayLike) -> Array:
    r"""Return the singular values 2 / ((2n - 1) pi) of integration on L2(0, 1).

    Parameters
    ----------
    n : int or array of int
        Index, from 1.

    Returns
    -------
    array of the shape of `n`

    Notes
    -----
    Source: Proposition ``prop-integration-svd`` (chapter 1).
    """
    return 2 / ((2 * _index(n, 1) - 1) * np.pi)


def double_integration_singular_values(n: ArrayLike) -> Array:
    """Return the singular values (n pi)^-2 of Dirichlet double integration, n from 1.

    Source: Proposition ``prop-operators`` (chapter 1).
    """
    return (_index(n, 1) * np.pi) ** -2


def half_integration_singular_values(n: ArrayLike) -> Array:
    """Return the singular values (n - 1/2)^-1/2 of half-integration, n from 1.

    They belong to the spaces named in :class:`HalfIntegration`.
    Source: Proposition ``prop-operators`` (chapter 1).
    """
    return (_index(n, 1) - 0.5) ** -0.5


class HalfIntegration(Operator):
    r"""Abel's operator, integration of order one half.

        (A f)(t) = 1/Gamma(1/2) \int_0^t f(s) / sqrt(t - s) ds,
        A: L2((0, 1), dt)  ->  L2((0, 1), dt / sqrt(t (1 - t))).

    With t = cos^2(phi/2) the norm of the range is that of L2((0, pi), dphi), and for
    n = 1, 2, ... and the Legendre polynomials P_n the exact singular system is

        sigma_n = 1 / sqrt(n - 1/2),
        u_n(t) = sqrt(2n - 1) P_{n-1}(2t - 1),    v_n(t) = sqrt(2/pi) cos((n - 1/2) phi).

    Vectors hold values at Gauss nodes times the root of the Gauss weight, so that the
    Euclidean inner product *is* that of the space: ``x_j = sqrt(w_j) f(t_j)`` at the N
    Gauss-Legendre nodes `grid`, ``y_j = sqrt(pi/N) g(t_j)`` at the N Gauss-Chebyshev nodes
    `range_grid`.  On polynomials f of degree below N the operator is exact.

    Parameters
    ----------
    size : int
        Number N of nodes and of modes, at least 2.  A dense N x N matrix is kept.

    Attributes
    ----------
    grid, range_grid : array, shape (N,)
        Nodes of the unknown and of the data, increasing, inside (0, 1).
    weights, range_weights : array, shape (N,)
        The Gauss weights w_j, and pi/N.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 2.

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).  It rests on the identity
    A P_n(2 . - 1) = cos((n + 1/2) phi) / (sqrt(pi) (n + 1/2)) of Mehler and Dirichlet.
    """

    def __init__(self, size: int) -> None:
        self.size = _size(size)
        self.domain_shape = self.range_shape = (self.size,)
        nodes, _ = roots_legendre(self.size)
        legendre = legvander(nodes, self.size - 1) * np.sqrt(2 * np.arange(self.size) + 1)
        # Christoffel's formula for the Gauss weights; it makes u_n orthonormal to rounding
        self.grid, self.weights = (1 + nodes) / 2, 1 / np.sum(legendre**2, axis=1)
        self._u = np.sqrt(self.weights)[:, None] * legendre
        phi = (2 * np.arange(self.size, 0, -1) - 1) * np.pi / (2 * self.size)
        self.range_grid = np.cos(phi / 2) ** 2
        self.range_weights = np.full(self.size, np.pi / self.size)
        self._sigma = half_integration_singular_values(np.arange(1, self.size + 1))

    def _forward(self, x: Array) -> Array:
        return self._synthesise_range(self._sigma * self._analyse_domain(x))

    def _adjoint(self, y: Array) -> Array:
        return self._synthesise_domain(self._sigma * self._analyse_range(y))

    def _analyse_domain(self, x: Array) -> Array:
        return x @ self._u

    def _synthesise_domain(self, c: Array) -> Array:
        return c @ self._u.T

    # v_n at the nodes is the fourth cosine transform, in the order of increasing phi.

    def _analyse_range(self, y: Array) -> Array:
        return fft.dct(y[..., ::-1], type=4, norm="ortho")

    def _synthesise_range(self, c: Array) -> Array:
        return fft.dct(c, type=4, norm="ortho")[..., ::-1]


# ----------------------------------------------------------------------------------- blur


class PeriodicBlur(Operator):
    r"""Convolution with a real kernel on a periodic grid of one or more dimensions.

        (A x)(j) = sum_i kernel(j - i) x(i),    indices modulo the shape.

    A is circulant: a complex wave of integer frequency k is multiplied by the symbol
    lambda_k, the discrete Fourier transform of the kernel.  So the singular values are
    ``|lambda_k|``, the u_n are the real orthonormal waves
    ``(cos + sin)(2 pi <k, j/shape>) / sqrt(D)`` (the Hartley basis), and v_n is u_n with its
    phase shifted by the argument of lambda_k.

    Parameters
    ----------
    kernel : array, one axis or more, each of length 2 or more
        Real; the origin is at index 0, negative offsets wrap around to the end.
    symbol : array of the shape of `kernel`, optional
        The discrete Fourier transform of the kernel where it is known better than by a
        numerical transform, so that tiny or zero singular values keep their exact values.

    Attributes
    ----------
    kernel : array
        As given.
    grid : array
        The points j/N, j = 0, ..., N - 1 of the first axis.

    Raises
    ------
    TypeError
        If `kernel` is complex.
    ValueError
        If the kernel has no axis, an axis shorter than 2, an entry that is not finite, or
        if `symbol` is not the transform of `kernel` to rounding.

    Notes
    -----
    Without `symbol`, values ``|lambda_k|`` below ``8 eps log2(D) sum|kernel|`` are set to
    exactly 0.0: that is the rounding error of the fast Fourier transform, below which a
    computed value has no correct digit.

    Source: Proposition ``prop-operators`` (chapter 1).
    """

    def __init__(self, kernel: ArrayLike, *, symbol: ArrayLike | None = None) -> None:
        kernel = _checked(np.array(kernel), (), "kernel", "kernel")
        if kernel.ndim < 1 or min(kernel.shape) < 2:
            raise ValueError(
                f"kernel must have at least one axis, each of length 2 or more; "
                f"got shape {kernel.shape}"
            )
        self.kernel = kernel
        self.domain_shape = self.range_shape = kernel.shape
        self.grid = np.arange(kernel.shape[0]) / kernel.shape[0]
        self._axes = tuple(range(-kernel.ndim, 0))

        computed = fft.fftn(kernel)
        rounding = 8 * np.finfo(float).eps * np.log2(kernel.size) * np.abs(kernel).sum()
        if symbol is None:
            symbol = np.where(np.abs(computed) > rounding, computed, 0)
        symbol = np.asarray(symbol, dtype=complex)
        if symbol.shape != kernel.shape or np.abs(symbol - computed).max() > 1e3 * rounding:
            raise ValueError("symbol must be the discrete Fourier transform of kernel")

        modulus = np.abs(symbol)
        order = np.argsort(-modulus, axis=None, kind="stable")
        self._order, self._position = order, np.argsort(order)
        self._sigma = modulus.ravel()[order]
        half = (..., slice(kernel.shape[-1] // 2 + 1))
        self._symbol = symbol[half]
        # A = phase |A|, with phase orthogonal: it is 1 where lambda_k = 0
        self._phase = np.exp(1j * np.angle(symbol))[half]

    def _convolve(self, x: Array, symbol: NDArray[np.complexfloating]) -> Array:
        spectrum = fft.rfftn(x, axes=self._axes)
        return fft.irfftn(spectrum * symbol, s=self.domain_shape, axes=self._axes)

    def _forward(self, x: Array) -> Array:
        return self._convolve(x, self._symbol)

    def _adjoint(self, y: Array) -> Array:
        return self._convolve(y, self._symbol.conj())

    def _hartley(self, x: Array) -> Array:
        """The orthonormal Hartley transform, symmetric and its own inverse."""
        spectrum = fft.fftn(x, axes=self._axes, norm="ortho")
        return spectrum.real - spectrum.imag

    def _analyse_domain(self, x: Array) -> Array:
        waves = self._hartley(x)
        return waves.reshape(*waves.shape[: -len(self._axes)], self._sigma.size)[..., self._order]

    def _synthesise_domain(self, c: Array) -> Array:
        return self._hartley(c[..., self._position].reshape(*c.shape[:-1], *self.domain_shape))

    def _analyse_range(self, y: Array) -> Array:
        return self._analyse_domain(self._convolve(y, self._phase.conj()))

    def _synthesise_range(self, c: Array) -> Array:
        return self._convolve(self._synthesise_domain(c), self._phase)


def box_blur(shape: int | Sequence[int], width: int) -> PeriodicBlur:
    r"""Return the mean over a window of `width` samples, centred, periodic.

    In one dimension, with N samples,

        |lambda_k| = |sin(pi k width / N) / (width sin(pi k / N))|,

    which is *exactly* zero where ``width * k`` is a multiple of N and k is not; for several
    dimensions it is the product over the axes.  An even window reaches ``width/2`` samples
    to the left and ``width/2 - 1`` to the right.

    Parameters
    ----------
    shape : int or tuple of int
        Size of the periodic grid, each axis at least 2.
    width : int
        Width of the window in samples, from 1 to the shortest axis.

    Returns
    -------
    PeriodicBlur

    Raises
    ------
    ValueError
        If `shape` or `width` is out of range.

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).
    """
    shape = _grid_shape(shape)
    if not isinstance(width, numbers.Integral) or not 1 <= width <= min(shape):
        raise ValueError(
            f"width must be an integer from 1 to the shortest axis, {min(shape)}; got {width!r}"
        )
    width = int(width)
    left = (width - 1) // 2
    kernels, symbols = [], []
    for size in shape:
        kernel = np.zeros(size)
        kernel[np.arange(-left, width - left)] = 1 / width
        k = np.arange(size)
        # reduced modulo 2 size in integers, and the multiples of size set to zero by hand:
        # sin(pi) in floating point is 1e-16, not 0
        sine = np.where(k * width % size == 0, 0, np.sin(np.pi * (k * width % (2 * size)) / size))
        modulus = np.divide(sine, width * np.sin(np.pi * k / size), where=k > 0, out=np.ones(size))
        kernels.append(kernel)
        symbols.append(modulus * np.exp(1j * np.pi * k * (2 * left + 1 - width) / size))
    return PeriodicBlur(_outer(kernels), symbol=_outer(symbols))


def gaussian_blur(shape: int | Sequence[int], width: float) -> PeriodicBlur:
    r"""Return periodic convolution with a Gaussian of standard deviation `width` samples.

    A wave of frequency k (integer, ``|k| <= N/2``) is damped by

        lambda_k = exp(-2 pi^2 s^2 k^2),    s = width / N,

    the exact value for the periodised continuous Gaussian acting on trigonometric
    polynomials; in several dimensions it is the product over the axes.  Values below the
    smallest float64 number are exactly 0.0.

    Parameters
    ----------
    shape : int or tuple of int
        Size of the periodic grid, each axis at least 2.
    width : float
        Standard deviation in samples, positive, at most the shortest axis.

    Returns
    -------
    PeriodicBlur

    Raises
    ------
    ValueError
        If `shape` or `width` is out of range.

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).
    """
    shape = _grid_shape(shape)
    width = _positive(width, "width")
    if width > min(shape):
        raise ValueError(
            f"width must be at most the shortest axis, {min(shape)} samples; got {width}"
        )
    symbol = _outer([np.exp(-2 * (np.pi * width * fft.fftfreq(size)) ** 2) for size in shape])
    return PeriodicBlur(fft.ifftn(symbol).real, symbol=symbol)


# ------------------------------------------------------------------------------- matrices


@dataclass(frozen=True)
class _Block:
    """One block of a singular system: A (left u_j) = s_j (right v_j), bases left, right."""

    left: sparse.csr_array | None
    right: sparse.csr_array | None
    u: Array
    s: Array
    v: Array


class _Numerical(Operator):
    """An operator whose singular system is computed, block by block."""

    def _install(self, blocks: list[_Block]) -> None:
        values = np.concatenate([block.s for block in blocks])
        order = np.argsort(-values, kind="stable")
        threshold = (
            max(np.prod(self.domain_shape), np.prod(self.range_shape))
            * np.finfo(float).eps
            * values[order[0]]
        )
        self._blocks, self._order, self._position = blocks, order, np.argsort(order)
        self._sigma = np.where(values > threshold, values, 0.0)[order]

    def _analyse_domain(self, x: Array) -> Array:
        return self._analyse_blocks(x, self.domain_shape, [(b.left, b.u) for b in self._blocks])

    def _analyse_range(self, y: Array) -> Array:
        return self._analyse_blocks(y, self.range_shape, [(b.right, b.v) for b in self._blocks])

    def _synthesise_domain(self, c: Array) -> Array:
        return self._synthesise_blocks(c, self.domain_shape, [(b.left, b.u) for b in self._blocks])

    def _synthesise_range(self, c: Array) -> Array:
        return self._synthesise_blocks(c, self.range_shape, [(b.right, b.v) for b in self._blocks])

    def _analyse_blocks(self, x: Array, shape: tuple[int, ...], bases: list) -> Array:
        batch = x.shape[: x.ndim - len(shape)]
        columns = x.reshape(-1, int(np.prod(shape))).T
        parts = [w.T @ (columns if basis is None else basis.T @ columns) for basis, w in bases]
        return np.concatenate(parts)[self._order].T.reshape(*batch, self._sigma.size)

    def _synthesise_blocks(self, c: Array, shape: tuple[int, ...], bases: list) -> Array:
        columns = c[..., self._position].reshape(-1, c.shape[-1]).T
        cuts = np.cumsum([w.shape[1] for _, w in bases])[:-1]
        parts = [
            w @ part if basis is None else basis @ (w @ part)
            for (basis, w), part in zip(bases, np.split(columns, cuts), strict=True)
        ]
        return sum(parts).T.reshape(*c.shape[:-1], *shape)


class MatrixOperator(_Numerical):
    """The operator of a dense or sparse matrix.

    Parameters
    ----------
    matrix : array or scipy sparse array, shape (m, n)
        Real and finite.  A sparse matrix stays sparse.
    domain_shape, range_shape : tuple of int, optional
        Shapes of x and y where they are not plain vectors; default (n,) and (m,).

    Raises
    ------
    TypeError
        If the matrix is complex or not numeric.
    ValueError
        If it is not two-dimensional, is empty, has entries that are not finite, or does not
        fit the shapes.
    """

    def __init__(
        self,
        matrix: ArrayLike | sparse.sparray,
        *,
        domain_shape: Sequence[int] | None = None,
        range_shape: Sequence[int] | None = None,
    ) -> None:
        if sparse.issparse(matrix):
            matrix = sparse.csr_array(matrix, copy=True)
            matrix.data = _checked(matrix.data, (), "matrix", "matrix")
        else:
            matrix = _checked(np.array(matrix), (), "matrix", "matrix")
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"matrix must have two axes and an entry; got shape {matrix.shape}")
        self.range_shape = tuple(range_shape or matrix.shape[:1])
        self.domain_shape = tuple(domain_shape or matrix.shape[1:])
        needed = (int(np.prod(self.range_shape)), int(np.prod(self.domain_shape)))
        if matrix.shape != needed:
            raise ValueError(
                f"a matrix of shape {matrix.shape} does not map {self.domain_shape} "
                f"to {self.range_shape}: that takes shape {needed}"
            )
        self._matrix = matrix

    def compute_singular_system(self) -> MatrixOperator:
        """Compute the singular system numerically (LAPACK) and return the operator itself.

        There are min(m, n) singular values.  Those up to ``max(m, n) * eps * sigma_1`` are
        set to exactly 0.0: the computed values have an absolute error of that order, so
        below it none of their digits is correct.

        Raises
        ------
        ValueError
            If the dense matrix is larger than ``to_matrix`` accepts.
        """
        u, s, v = _svd(self.to_matrix())
        self._install([_Block(None, None, u, s, v)])
        return self

    def _forward(self, x: Array) -> Array:
        return _apply(lambda c: self._matrix @ c, x, self.domain_shape, self.range_shape)

    def _adjoint(self, y: Array) -> Array:
        return _apply(lambda c: self._matrix.T @ c, y, self.range_shape, self.domain_shape)

    def _dense(self, rows: int, columns: int) -> Array:
        return self._matrix.toarray() if sparse.issparse(self._matrix) else self._matrix.copy()


# ----------------------------------------------------------------------------- tomography


class ParallelBeam(_Numerical):
    r"""Computed tomography with parallel beams: line integrals of an image.

    The image covers the square [-1, 1]^2 with size x size pixels of width h = 2/size, the
    first row on top.  The ray (theta, s) is the line x cos(theta) + y sin(theta) = s; the
    sinogram holds its integrals, one row per angle, in the units of the square: a disc of
    radius 1 and value 1 has the integral 2 along a ray through its centre.  Detectors are h
    apart and symmetric about s = 0; outside the square the image is zero.

    Along a ray the image is interpolated by Joseph's rule: one sample in every pixel row (or
    in every column if the ray is closer to horizontal), linear between its two neighbours.
    The weights are kept as a sparse matrix, so the adjoint is its exact transpose.  The eight
    rotations and reflections of the square map pixels to pixels and rays to rays, so one row
    of the matrix out of eight says it all: only these are kept.

    Parameters
    ----------
    size : int
        Number of rows and of columns of the image, at least 2.
    angles : int or array of float
        A number of angles, then theta_j = j pi / angles for j = 0, ..., angles - 1; or the
        angles themselves, in radians.
    detectors : int, optional
        Number of detectors, at least 1.  By default just enough to see the whole square at
        every angle, of the same parity as `size`.

    Attributes
    ----------
    angles : array
        In radians.
    detector_grid : array
        The positions s of the detectors.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    The L2 norms of image and sinogram are h times and sqrt(h pi / angles) times the Euclidean
    ones; the singular values of the operator between the L2 spaces are therefore those of the
    matrix times sqrt(pi / (angles h)).

    Source: Proposition ``prop-operators`` (chapter 1).
    """

    def __init__(
        self, size: int, angles: int | ArrayLike = 180, detectors: int | None = None
    ) -> None:
        self.size = _size(size)
        self.step = 2 / self.size
        self._uniform = np.ndim(angles) == 0
        if self._uniform:
            count = _count(angles, "angles")
            self.angles = np.arange(count) * np.pi / count
        else:
            angles = np.asarray(angles)
            self.angles = _checked(angles, angles.shape[-1:], "angles", "one-axis")
        if self.angles.ndim != 1 or self.angles.size == 0:
            raise ValueError(
                f"angles must be a number or a one-axis array; got shape {self.angles.shape}"
            )
        if detectors is None:
            detectors = int(np.ceil(np.sqrt(2) * self.size))
            detectors += (detectors - self.size) % 2
        self.detectors = _count(detectors, "detectors")
        self.detector_grid = (np.arange(self.detectors) - (self.detectors - 1) / 2) * self.step
        self.domain_shape = (self.size, self.size)
        self.range_shape = (self.angles.size, self.detectors)
        if 2 * self.angles.size * self.detectors * self.size > SPARSE_LIMIT:
            raise ValueError(
                f"{self.angles.size} angles x {self.detectors} detectors x {self.size} rows of "
                f"pixels x 2 neighbours exceeds the {SPARSE_LIMIT} entries accepted: take fewer"
            )
        self._pixels, self._rays = self._symmetries()
        first = _representatives(self._rays)
        angles_needed = first[-1] // self.detectors + 1
        rows = self._joseph(self.angles[:angles_needed])[first]
        self._matrix = _SymmetricMatrix(rows, self._rays, self._pixels)

    def _forward(self, x: Array) -> Array:
        return _apply(self._matrix.forward, x, self.domain_shape, self.range_shape)

    def _adjoint(self, y: Array) -> Array:
        return _apply(self._matrix.adjoint, y, self.range_shape, self.domain_shape)

    def _dense(self, rows: int, columns: int) -> Array:
        return self._joseph(self.angles).toarray()

    def _joseph(self, angles: Array) -> sparse.csr_array:
        """Return the matrix of interpolation weights, rows (angle, detector)."""
        n, h = self.size, self.step
        lines = np.arange(n, dtype=np.int32)  # pixel rows, or columns, crossed by the ray
        centre = (np.arange(n) - (n - 1) / 2) * h
        data, indices, counts = [], [], []
        for c, s in zip(np.cos(angles), np.sin(angles), strict=True):
            steep = abs(c) >= abs(s)
            # steep: x where the ray meets each row, else y where it meets each column
            along, across = (-centre, s / c) if steep else (centre, c / s)
            where = self.detector_grid[:, None] / (c if steep else s) - along * across
            index = (where if steep else -where) / h + (n - 1) / 2
            lower = np.floor(index)
            cell = lower.astype(np.int32)[..., None] + np.arange(2, dtype=np.int32)
            weight = np.stack([lower + 1 - index, index - lower], axis=-1)
            weight *= h / max(abs(c), abs(s))  # length of ray between two samples
            pixel = lines[:, None] * n + cell if steep else cell * n + lines[:, None]
            inside = (cell >= 0) & (cell < n)
            data.append(weight[inside])
            indices.append(pixel[inside])
            counts.append(inside.sum(axis=(1, 2)))
        pointer = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
        shape = (angles.size * self.detectors, n * n)
        return sparse.csr_array(
            (np.concatenate(data), np.concatenate(indices), pointer), shape=shape
        )

    @cached_property
    def _backprojector(self) -> _SymmetricMatrix:
        """Return the matrix of linear interpolation between detectors, rows are pixels.

        The adjoint would do in its place; for images of sharp edges this smears less.
        """
        pixel = _representatives(self._pixels)
        y, x = np.divmod(pixel[:, None], self.size)
        centre = (self.size - 1) / 2
        index = (x - centre) * np.cos(self.angles) + (centre - y) * np.sin(self.angles)
        index += (self.detectors - 1) / 2
        lower = np.floor(index)
        weight = np.stack([lower + 1 - index, index - lower], axis=-1)
        cell = lower.astype(np.int32)[..., None] + np.arange(2, dtype=np.int32)
        weight[(cell < 0) | (cell >= self.detectors)] = 0  # no data outside the detectors
        row = np.arange(self.angles.size, dtype=np.int32)[:, None] * self.detectors
        ray = row + np.clip(cell, 0, self.detectors - 1)
        pointer = np.arange(pixel.size + 1, dtype=np.int32) * (2 * self.angles.size)
        shape = (pixel.size, self.angles.size * self.detectors)
        rows = sparse.csr_array((weight.ravel(), ray.ravel(), pointer), shape=shape)
        return _SymmetricMatrix(rows, self._pixels, self._rays)

    def fbp(self, sinogram: ArrayLike, filter: str = "ramp") -> Array:
        r"""Reconstruct by filtered back-projection.

            x(pixel) = (pi / angles) sum_j (F y)(theta_j, s_j),

        where s_j is the position at which the ray of angle theta_j through the centre of the
        pixel hits the detectors, with linear interpolation between them, and F convolves every
        row with the band-limited ramp of Kak and Slaney: its value is 1/(4h) at 0,
        -1/(pi^2 k^2 h) at odd k, and 0 at even k, times a window in frequency.  (The first
        call builds the interpolation matrix, the later ones use it.)

        Parameters
        ----------
        sinogram : array, shape (..., angles, detectors)
        filter : {"ramp", "shepp-logan", "cosine", "hamming", "hann"}
            The window: none, or one that falls to (nearly) zero at the highest frequency.

        Returns
        -------
        array, shape (..., size, size), float64

        Raises
        ------
        TypeError
            If the sinogram is complex or not numeric.
        ValueError
            If the filter is unknown, the sinogram has the wrong shape or entries that are not
            finite, or the angles were given one by one: the formula needs angles evenly
            spread over half a turn.
        """
        sinogram = _checked(sinogram, self.range_shape, "sinogram", "range")
        if filter not in FBP_WINDOWS:
            raise ValueError(f"filter must be one of {sorted(FBP_WINDOWS)}; got {filter!r}")
        if not self._uniform:
            raise ValueError(
                "fbp needs angles evenly spread over half a turn: build the operator with a "
                "number of angles instead of a list"
            )
        length = fft.next_fast_len(2 * self.detectors, real=True)
        k = np.minimum(np.arange(length), length - np.arange(length))
        ramp = np.zeros(length)
        ramp[0] = 1 / 4
        ramp[k % 2 == 1] = -1 / (np.pi * k[k % 2 == 1]) ** 2
        response = fft.rfft(ramp).real * FBP_WINDOWS[filter](fft.rfftfreq(length))
        filtered = fft.irfft(fft.rfft(sinogram, length) * response, length)
        scale = np.pi / (self.angles.size * self.step)
        return scale * _apply(
            self._backprojector.forward,
            filtered[..., : self.detectors],
            self.range_shape,
            self.domain_shape,
        )

    def compute_singular_system(self) -> ParallelBeam:
        """Compute the singular system by the symmetries of the square; return the operator.

        In coordinates adapted to the eight rotations and reflections (images even or odd
        under each reflection) the matrix falls apart into six blocks: four of about 1/8 of
        the unknowns, and two equal ones of 1/4.  Five small singular value decompositions
        replace the large one.

        Returns
        -------
        ParallelBeam
            The operator itself, now with a singular system.  Values up to
            ``max(m, n) * eps * sigma_1`` are exactly 0.0, as in
            :meth:`MatrixOperator.compute_singular_system`.

        Raises
        ------
        ValueError
            If the angles are not symmetric, that is given one by one or odd in number: a
            quarter turn must map the set of rays to itself.  Or if the largest block would
            have more than ``DENSE_LIMIT`` entries.
        """
        if not self._uniform or self.angles.size % 2:
            raise ValueError(
                "the singular system uses the symmetries of the square, so the rays must "
                "have them too: build the operator with an even number of angles, not a list"
            )
        pixels, rays = self._pixels, self._rays
        if (pixels.shape[1] // 4) * (rays.shape[1] // 4) > DENSE_LIMIT:
            raise ValueError(
                f"the blocks of a {rays.shape[1]} x {pixels.shape[1]} matrix are too large; at "
                f"most {DENSE_LIMIT} entries are accepted: take a smaller image or fewer angles"
            )
        matrix = self._joseph(self.angles)

        def block(*signs: int) -> _Block:
            left = _symmetric_basis(pixels, signs)
            right = _symmetric_basis(rays, signs)
            return _Block(left, right, *_svd((right.T @ (matrix @ left)).toarray()))

        whole = [block(parity, parity, swap) for parity in (1, -1) for swap in (1, -1)]
        mixed = block(1, -1)
        # even in x and odd in y turns into odd in x and even in y by exchanging x and y
        twin = replace(mixed, left=mixed.left[pixels[4]], right=mixed.right[rays[4]])
        self._install([*whole, mixed, twin])
        return self

    def _symmetries(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the group of symmetries as permutations of pixels and of rays, one per row.

        Its generators are x -> -x, y -> -y and (x, y) -> (y, x), in this order.
        """
        pixel = np.arange(self.size**2).reshape(self.size, self.size)
        pixels = [pixel[:, ::-1], pixel[::-1], pixel[::-1, ::-1].T]
        # theta -> pi - theta, -theta, pi/2 - theta; half a turn more means s -> -s
        count = self.angles.size
        ray = np.arange(count * self.detectors).reshape(count, self.detectors)
        rays = []
        for quarter_turns in (2, 0, 1):
            half_turns, angle = np.divmod(quarter_turns * count // 2 - np.arange(count), count)
            turned = ray[angle]
            rays.append(np.where(half_turns[:, None] % 2, turned[:, ::-1], turned))
        # an odd number of angles has no quarter turn, and a list has nothing
        known = 0 if not self._uniform else 2 if count % 2 else 3
        return _group(pixel.size, pixels[:known]), _group(ray.size, rays[:known])


FBP_WINDOWS: dict[str, Callable[[Array], Array]] = {
    "ramp": np.ones_like,
    "shepp-logan": np.sinc,
    "cosine": lambda f: np.cos(np.pi * f),
    "hamming": lambda f: 0.54 + 0.46 * np.cos(2 * np.pi * f),
    "hann": lambda f: 0.5 + 0.5 * np.cos(2 * np.pi * f),
}
"""Windows of :meth:`ParallelBeam.fbp`, functions of the frequency in cycles per detector."""


class _SymmetricMatrix:
    """A matrix with A[g(i), g(j)] = A[i, j] for all g of a group, one row of each orbit kept.

    Vectors are the first axis of arrays; every kept row meets all images of x at once.
    """

    def __init__(
        self, rows: sparse.csr_array, row_group: NDArray[np.intp], column_group: NDArray[np.intp]
    ) -> None:
        self._rows = rows
        self._row_orbits = row_group[:, _representatives(row_group)].T.copy()
        self._column_orbits = column_group.T.copy()
        # a row that some symmetries leave in place appears several times in its orbit
        self._repeats = np.bincount(self._row_orbits.ravel())

    def forward(self, x: Array) -> Array:
        images = x[self._column_orbits].reshape(len(x), -1)
        y = np.empty((self._repeats.size, *x.shape[1:]))
        y[self._row_orbits] = (self._rows @ images).reshape(*self._row_orbits.shape, *x.shape[1:])
        return y

    def adjoint(self, y: Array) -> Array:
        y = (y.T / self._repeats).T
        images = y[self._row_orbits].reshape(len(self._row_orbits), -1)
        parts = (self._rows.T @ images).reshape(*self._column_orbits.shape, *y.shape[1:])
        x = np.zeros((len(self._column_orbits), *y.shape[1:]))
        for image, permutation in enumerate(self._column_orbits.T):
            x[permutation] += parts[:, image]
        return x


def _group(size: int, generators: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the permutations made of the generators, one per row, the identity first.

    Each generator may at most double the group that those before it generate.
    """
    elements = [np.arange(size)]
    for generator in generators:
        elements += [generator.ravel()[element] for element in elements]
    return np.array(elements)


def _representatives(group: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the smallest member of every orbit, increasing."""
    return np.flatnonzero(group.min(axis=0) == group[0])


def _symmetric_basis(group: NDArray[np.intp], signs: Sequence[int]) -> sparse.csr_array:
    """Return orthonormal columns spanning the x with x[g] = sign * x for the first generators."""
    characters = [1]
    for sign in signs:
        characters += [sign * character for character in characters]
    orbits = group[: len(characters)]
    first = _representatives(orbits)
    columns = np.broadcast_to(np.arange(first.size), (len(characters), first.size))
    values = np.repeat(characters, first.size).astype(np.float64)
    basis = sparse.coo_array(
        (values, (orbits[:, first].ravel(), columns.ravel())), shape=(group.shape[1], first.size)
    ).tocsc()
    norms = np.sqrt(basis.power(2).sum(axis=0))
    keep = norms > 0  # the signs of an orbit may cancel: no such vector there
    return sparse.csr_array(basis[:, keep] @ sparse.diags_array(1 / norms[keep]))


def radon_disc_singular_values(degree: ArrayLike) -> Array:
    r"""Return the singular values sqrt(4 pi / (m + 1)) of the Radon transform on the unit disc.

    The operator maps L2(disc) to L2([-1, 1] x [0, 2 pi), (1 - s^2)^(-1/2) ds dtheta); the
    value of degree m belongs to m + 1 singular functions.

    Parameters
    ----------
    degree : int or array of int
        Degree m, from 0.

    Returns
    -------
    array of the shape of `degree`

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).
    """
    return np.sqrt(4 * np.pi / (_index(degree, 0, "degree") + 1))


def radon_disc_singular_functions(
    degree: int, order: int
) -> tuple[Callable[[ArrayLike, ArrayLike], Array], Callable[[ArrayLike, ArrayLike], Array]]:
    r"""Return u(x, y) and v(s, theta) with R u = sigma v for the Radon transform on the disc.

    With x + i y = r e^{i phi}, the Zernike polynomial and the Chebyshev polynomial U_m,

        u = c sqrt((m + 1) / pi) Z_m^{|l|}(r) cos(l phi),
        v = c / pi sqrt(1 - s^2) U_m(s) cos(l theta),     sigma = sqrt(4 pi / (m + 1)),

    where c = 1 for l = 0 and sqrt(2) otherwise, and a negative l has sin(|l| .) for cos.
    Both are zero outside the disc.

    Parameters
    ----------
    degree : int
        Degree m, from 0.
    order : int
        Order l, one of -m, -m + 2, ..., m.

    Returns
    -------
    u, v : callables of two broadcasting arrays

    Raises
    ------
    ValueError
        If `order` is not one of the values above.

    Notes
    -----
    Source: Proposition ``prop-operators`` (chapter 1).
    """
    _index(degree, 0, "degree")
    if abs(order) > degree or (degree - order) % 2:
        raise ValueError(f"order must be one of {list(range(-degree, degree + 1, 2))}; got {order}")
    size = abs(order)
    constant = 1.0 if order == 0 else np.sqrt(2)
    wave = np.sin if order < 0 else np.cos

    def u(x: ArrayLike, y: ArrayLike) -> Array:
        r, phi = np.hypot(x, y), np.arctan2(y, x)
        inside = np.minimum(r, 1)
        zernike = inside**size * eval_jacobi((degree - size) // 2, 0, size, 2 * inside**2 - 1)
        value = constant * np.sqrt((degree + 1) / np.pi) * zernike * wave(size * phi)
        return np.where(r <= 1, value, 0.0)

    def v(s: ArrayLike, theta: ArrayLike) -> Array:
        s = np.clip(s, -1, 1)
        chebyshev = np.sqrt(1 - s**2) * eval_chebyu(degree, s)
        return constant / np.pi * chebyshev * wave(size * np.asarray(theta))

    return u, v


# ---------------------------------------------------------------------------- small helpers


def _checked(value: ArrayLike, shape: tuple[int, ...], name: str, side: str) -> Array:
    """Return a real, finite float64 array whose last axes are `shape`, or say what is wrong."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    array = array.astype(np.float64, copy=False)
    if array.shape[array.ndim - len(shape) :] != shape or array.ndim < len(shape):
        raise ValueError(
            f"{name} has shape {array.shape}; its last axes must be the {side} shape {shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has entries that are not finite (nan or inf)")
    return array


def _size(size: int) -> int:
    if not isinstance(size, numbers.Integral) or isinstance(size, bool) or size < 2:
        raise ValueError(f"size must be an integer of at least 2; got {size!r}")
    return int(size)


def _count(value: int, name: str) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer; got {value!r}")
    return int(value)


def _grid_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, numbers.Integral) else tuple(shape)
    if not sizes:
        raise ValueError("shape must have at least one axis; got ()")
    return tuple(_size(size) for size in sizes)


def _positive(value: float, name: str) -> float:
    if not (isinstance(value, numbers.Real) and np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number; got {value!r}")
    return float(value)


def _index(n: ArrayLike, first: int, name: str = "n") -> Array:
    n = np.asarray(n)
    if n.dtype.kind not in "iu" or (n < first).any():
        raise ValueError(f"{name} must be an integer of at least {first}; got {n}")
    return n.astype(np.float64)


def _sine(x: Array) -> Array:
    """The orthonormal sine transform (DST-I), symmetric and its own inverse."""
    return fft.dst(x, type=1, norm="ortho")


def _padded(x: Array, length: int) -> Array:
    return np.concatenate([x, np.zeros((*x.shape[:-1], length - x.shape[-1]))], axis=-1)


def _outer(factors: list[NDArray]) -> NDArray:
    product = factors[0]
    for factor in factors[1:]:
        product = product[..., None] * factor
    return product


def _svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Return u (unknowns, k), s (k,), v (data, k) of the thin singular value decomposition."""
    v, s, ut = np.linalg.svd(matrix, full_matrices=False)
    return ut.T, s, v


def _apply(
    function: Callable[[Array], Array], x: Array, inner: tuple[int, ...], outer: tuple[int, ...]
) -> Array:
    """Flatten x to a vector, or a batch of x to columns, and shape the result again."""
    batch = x.shape[: x.ndim - len(inner)]
    if not batch:
        return function(x.ravel()).reshape(outer)
    return function(x.reshape(-1, int(np.prod(inner))).T).T.reshape(*batch, *outer)
