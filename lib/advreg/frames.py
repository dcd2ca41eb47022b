r"""Diagonal frame decompositions of an operator, and gains learned on their coefficients.

Families (u_lambda) of unknowns and (v_lambda) of data with

    A* v_lambda = kappa_lambda u_lambda,    kappa_lambda > 0,

do for A what a singular system does, without being orthogonal: <A x, v_lambda> =
kappa_lambda <x, u_lambda>.  With the dual frame (ubar_lambda) of (u_lambda), every method here is

    R_g y = sum_lambda g_lambda <y, v_lambda> ubar_lambda.

Vectors are the *rows* of dense matrices; sizes up to about 1024 are meant.  An unknown or a datum
of several axes is flattened.  Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pywt
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from advreg._checks import finite, integer, number, positive
from advreg.operators import MatrixOperator, Operator, PeriodicBlur
from advreg.spectral import fit_gain, lmmse, mse_gain

__all__ = [
    "Frame",
    "bounds",
    "coefficient_powers",
    "condition",
    "decoupled_gains",
    "derivative_energy",
    "fit_gains",
    "fourier_basis",
    "gain_risk",
    "joint_gains",
    "lmmse_risk",
    "periodic_integration",
    "union",
    "wavelet_basis",
]

Array = NDArray[np.float64]
Integers = NDArray[np.intp]

EPS = float(np.finfo(np.float64).eps)


# --------------------------------------------------------------------------------- bases


def wavelet_basis(
    size: int,
    wavelet: str | pywt.Wavelet,
    levels: int | None = None,
    *,
    wrap: bool = False,
) -> tuple[Array, Integers]:
    """Return the orthonormal basis of periodized wavelets, from the coarsest to the finest.

    Parameters
    ----------
    size : int
        Number N of samples of the periodic signal, at least 2.
    wavelet : str or pywt.Wavelet
        An orthogonal wavelet that PyWavelets knows, such as "haar", "db4" or "sym8".
    levels : int, optional
        How often the signal is halved; N must be a multiple of 2**levels.  By default as often
        as possible.
    wrap : bool
        Accept halvings of a signal shorter than the filter, which then winds around it more
        than once.  The basis stays orthonormal, and each of its vectors is still a periodized
        wavelet, but no longer one bump.  For N a power of 2 this goes down to one scaling
        function, the constant, so that all wavelets have mean zero.

    Returns
    -------
    basis : array, shape (N, N), float64
        One basis vector per row: ``basis @ x`` are the coefficients, ``c @ basis`` is the signal.
    scales : array of int, shape (N,)
        0 for the N / 2**levels scaling functions, 1 for the coarsest wavelets, ..., `levels`
        for the finest.  (PyWavelets counts the levels the other way.)

    Raises
    ------
    ValueError
        If the wavelet is unknown or not orthogonal ("dmey" is not: its filter is cut off), the
        size is not a multiple of 2**levels, or the filter is longer than the signal that is
        halved last, N / 2**(levels - 1), and `wrap` is not set.

    Notes
    -----
    Costs O(N^2 taps).  Source: this book, chapter 4; S. Mallat, A Wavelet Tour of Signal
    Processing, 3rd ed. (2009), section 7.5.1.
    """
    size = integer(size, "size", 2)
    bank = _orthogonal(wavelet)
    shortest = 2 if wrap else bank.rec_len
    most = 0
    while size % 2 ** (most + 1) == 0 and size >> most >= shortest:
        most += 1
    levels = max(most, 1) if levels is None else integer(levels, "levels", 1)
    if levels > most:
        raise ValueError(_too_many(size, bank, levels))
    counts = [size >> levels, *(size >> level for level in range(levels, 0, -1))]
    units = np.split(np.eye(size), np.cumsum(counts)[:-1], axis=1)
    return (
        pywt.waverec(units, bank, mode="periodization", axis=-1),
        np.repeat(np.arange(levels + 1), counts),
    )


def _too_many(size: int, bank: pywt.Wavelet, levels: int) -> str:
    if size % 2**levels:
        return (
            f"a signal of {size} samples cannot be halved {levels} times: size must be a multiple "
            f"of 2**levels = {2**levels}"
        )
    return (
        f"the filter of {bank.name!r} has {bank.rec_len} taps, more than the "
        f"{size >> (levels - 1)} samples left for level {levels} of {size} samples: take fewer "
        "levels, a shorter wavelet, or wrap=True"
    )


def _orthogonal(wavelet: str | pywt.Wavelet) -> pywt.Wavelet:
    """Return the wavelet if its filter really is orthogonal to its even shifts."""
    try:
        bank = wavelet if isinstance(wavelet, pywt.Wavelet) else pywt.Wavelet(wavelet)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"unknown wavelet {wavelet!r}: take one of pywt.wavelist(kind='discrete'), such as "
            "'haar', 'db4' or 'sym8'"
        ) from error
    even = _autocorrelation(bank.rec_lo)[bank.rec_len - 1 :: 2].copy()
    even[0] -= 1
    # PyWavelets stores some filters to 10 digits only; "dmey" is wrong in the third.
    if not bank.orthogonal or np.abs(even).max() > 1e-9:
        raise ValueError(
            f"the wavelet {bank.name!r} is not orthogonal: take a Haar, 'db', 'sym' or 'coif' one"
        )
    return bank


def _autocorrelation(taps: ArrayLike) -> Array:
    """Return sum_n h_n h_(n + m) for m = 1 - L, ..., L - 1."""
    return np.correlate(taps, taps, "full")


def fourier_basis(size: int) -> tuple[Array, Integers]:
    """Return the real orthonormal Fourier basis: constant, cosine, sine, cosine, sine, ...

        1 / sqrt(N),    sqrt(2 / N) cos(2 pi k j / N),    sqrt(2 / N) sin(2 pi k j / N),

    for 1 <= k < N / 2, and for even N the Nyquist wave (-1)^j / sqrt(N), which has no sine.

    Parameters
    ----------
    size : int
        Number N of samples, at least 2.

    Returns
    -------
    basis : array, shape (N, N), float64
        One wave per row, by increasing frequency.
    frequencies : array of int, shape (N,)
        k of every row, from 0 to N // 2.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 2.

    Notes
    -----
    Source: this book, chapter 4.
    """
    size = integer(size, "size", 2)
    row = np.arange(size)
    frequencies = (row + 1) // 2
    # The product is reduced before it becomes an angle: large angles have few correct digits.
    angle = 2 * np.pi / size * (np.outer(frequencies, row) % size)
    sine = ((row % 2 == 0) & (row > 0))[:, None]
    basis = np.sqrt(2 / size) * np.where(sine, np.sin(angle), np.cos(angle))
    basis[2 * frequencies % size == 0] /= np.sqrt(2)
    return basis, frequencies


def periodic_integration(size: int) -> PeriodicBlur:
    r"""Return integration of periodic signals: A x is the antiderivative of mean zero.

    On the waves exp(2 pi i k t), sampled at t = j / N, the symbol is

        1 / (2 pi i k) for 0 < \|k\| < N / 2,    0 for k = 0.

    Means are lost: N(A) holds the constants, R(A) the signals of mean zero.  At the *Nyquist
    frequency* k = N / 2 (even N) the shifted wave vanishes on the grid, so no real operator can
    shift it.  There the symbol keeps its modulus, 1 / (pi N), and drops the phase: the wave is
    multiplied by 1 / (pi N).  Zero would enlarge N(A), and no fine wavelet is orthogonal to it.

    Parameters
    ----------
    size : int
        Number N of samples, at least 2.

    Returns
    -------
    PeriodicBlur
        The singular values are 1 / (2 pi k), each twice (the Nyquist one once), and 0.

    Raises
    ------
    ValueError
        If `size` is not an integer of at least 2.

    Notes
    -----
    Source: this book, chapter 4.
    """
    size = integer(size, "size", 2)
    k = np.fft.fftfreq(size, 1 / size)
    k[0] = np.inf
    symbol = -1j / (2 * np.pi * k)
    if size % 2 == 0:
        symbol[size // 2] = 1 / (np.pi * size)
    return PeriodicBlur(np.fft.ifft(symbol).real, symbol=symbol)


def derivative_energy(wavelet: str | pywt.Wavelet, level: int) -> float:
    """Return the squared norm of the difference quotient of psi, with the step h = 2^-level:

        E_h = || (psi(. + h) - psi) / h ||^2 = 2 (r(0) - r(h)) / h^2,

    where r is the autocorrelation of psi.  Halving h never decreases E_h, and

        E_h -> || psi' ||^2 for h -> 0,

    a finite limit if psi is in the Sobolev space H^1, infinity if not.  The growth tells: Haar
    doubles with every level, E_h = 6 / h; db2 grows by 10.5 with every level without end (its
    Sobolev exponent is exactly 1 and not attained: the wavelet is just outside H^1); db3
    converges, to 36.875.  Slow convergence looks like divergence: the increments of coif1
    shrink by 3% per level.

    Parameters
    ----------
    wavelet : str or pywt.Wavelet
        An orthogonal wavelet.
    level : int
        At least 1 and at most 200.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the wavelet is unknown or not orthogonal, or `level` is out of range.

    Notes
    -----
    With the filters h, g of phi and psi, and their autocorrelations a and b, r is
    sum_m b_m r_phi(2 t - m), and r_phi solves r_phi(t) = sum_m a_m r_phi(2 t - m) with r_phi = 0
    at all integers but 0.  So the second differences
    D_j(m) = 4^j (2 r_phi(m) - r_phi(m + 2^-j) - r_phi(m - 2^-j)) obey D_j = 4 T D_(j-1) with
    T_mk = a_(2m - k), and nothing is sampled or subtracted.

    The limit is that of the squared multiplier, 2 sin(xi h / 2) / h, which increases to xi when
    h is halved.  Source: this book, chapter 4; L. F. Villemoes, Energy moments in time and
    frequency for two-scale difference equation solutions and wavelets, SIAM J. Math. Anal. 23
    (1992).
    """
    bank = _orthogonal(wavelet)
    if integer(level, "level", 1) > 200:
        raise ValueError(f"level must be at most 200, got {level}")
    reach = bank.rec_len - 1
    lags = np.arange(-reach, reach + 1)
    position = 2 * lags[:, None] - lags
    transfer = np.where(
        np.abs(position) <= reach,
        _autocorrelation(bank.rec_lo)[np.clip(position, -reach, reach) + reach],
        0.0,
    )
    differences = 2.0 * (lags == 0) - (np.abs(lags) == 1)
    for _ in range(level - 1):
        differences = 4 * transfer @ differences
        # Even and of sum zero: rounding that is not so would grow fourfold in every step.
        differences = (differences + differences[::-1]) / 2
        differences -= differences.mean()
    return float(4 * _autocorrelation(bank.rec_hi) @ differences)


# -------------------------------------------------------------------------------- frames


def bounds(vectors: ArrayLike) -> tuple[float, float]:
    """Return the frame bounds of vectors on their span, the best constants B1 and B2 in

        B1 ||x||^2 <= sum_lambda <x, u_lambda>^2 <= B2 ||x||^2    for x in the span.

    They are the smallest positive and the largest eigenvalue of the Gram matrix.

    Parameters
    ----------
    vectors : array, shape (L, N)
        One vector per row.

    Returns
    -------
    lower, upper : float
        The dual frame has the bounds 1 / upper and 1 / lower.

    Raises
    ------
    TypeError
        If the vectors are complex or not numeric.
    ValueError
        If there is none, all are zero, or an entry is not finite.

    Notes
    -----
    Singular values of the matrix up to max(L, N) eps times the largest count as zero; bounds
    further apart than (max(L, N) eps)^2 cannot be seen in float64.
    Source: this book, chapter 4.
    """
    matrix = _rows(vectors, "vectors")
    values = linalg.svdvals(matrix)
    if values[0] == 0:
        raise ValueError("all vectors are zero: they span nothing")
    least = values[values > max(matrix.shape) * EPS * values[0]][-1]
    return float(least**2), float(values[0] ** 2)


def condition(vectors: ArrayLike) -> float:
    """Return upper / lower of :func:`bounds`, the condition number of the Gram matrix on its
    range; 1 for a tight frame.  Parameters and errors as there."""
    lower, upper = bounds(vectors)
    return upper / lower


@dataclass(frozen=True, eq=False)
class Frame:
    """A diagonal frame decomposition A* v_lambda = kappa_lambda u_lambda.

    Attributes
    ----------
    u : array, shape (L, N)
        Vectors in the space of the unknowns, one per row; a frame of their span, which should
        be N(A)^perp.
    v : array, shape (L, M)
        Vectors in the space of the data, in R(A).
    kappa : array, shape (L,)
        Quasi-singular values, positive.
    scales : array of int, shape (L,), optional
        What the vectors are grouped by: levels of wavelets, frequencies.  Zero by default.

    Raises
    ------
    TypeError
        If an array is complex or not numeric, or the scales are not integers.
    ValueError
        If shapes clash, an entry is not finite, or kappa is not positive.

    Notes
    -----
    The arrays are copied and can no longer be written to.  In finite dimension every basis of
    N(A)^perp has such a decomposition, see :meth:`from_basis`; whether v is a frame of the
    continuous problem shows in the growth of ``condition(v)`` with the size.

    Source: this book, chapter 4; D. L. Donoho, Nonlinear solution of linear inverse problems by
    wavelet-vaguelette decomposition, Appl. Comput. Harmon. Anal. 2 (1995); A. Ebner, J. Frikel,
    D. Lorenz, J. Schwab, M. Haltmeier, Regularization of inverse problems by filtered diagonal
    frame decomposition, Appl. Comput. Harmon. Anal. 62 (2023).
    """

    u: Array
    v: Array
    kappa: Array
    scales: Integers | None = None

    def __post_init__(self) -> None:
        u, v = _rows(self.u, "u"), _rows(self.v, "v")
        kappa = positive(finite(self.kappa, "kappa"), "kappa")
        scales = np.zeros(len(u), dtype=np.intp) if self.scales is None else self.scales
        scales = np.array(scales)
        if scales.dtype.kind not in "iu":
            raise TypeError(f"scales must be integers, got dtype {scales.dtype}")
        if not len(u) == len(v) or kappa.shape != (len(u),) or scales.shape != (len(u),):
            raise ValueError(
                "u, v, kappa and scales must have one entry per vector, got the shapes "
                f"{u.shape}, {v.shape}, {kappa.shape} and {scales.shape}"
            )
        for name, array in (("u", u), ("v", v), ("kappa", kappa), ("scales", scales)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_basis(
        cls, operator: Operator, basis: ArrayLike, scales: ArrayLike | None = None
    ) -> Frame:
        """Return the decomposition of an operator that belongs to given u_lambda:

            v_lambda = kappa_lambda (A*)^+ u_lambda,    kappa_lambda = 1 / ||(A*)^+ u_lambda||,

        so that ||v_lambda|| = 1.

        Parameters
        ----------
        operator : Operator
            Its singular system is used; where it has none (yet), that of its dense matrix.
        basis : array, shape (L, N)
            The u_lambda, one per row, in N(A)^perp; N is the number of unknowns.
        scales : array of int, shape (L,), optional

        Returns
        -------
        Frame

        Raises
        ------
        TypeError
            If `operator` is not an :class:`~advreg.operators.Operator`.
        ValueError
            If a row is zero, or more than 1e-8 of its norm lies in the null space of A: A* maps
            nothing to it.  Or if A damps it so much that v_lambda overflows.
        """
        if not isinstance(operator, Operator):
            raise TypeError("operator must be an Operator; wrap a matrix in MatrixOperator")
        u = _rows(basis, "basis")
        unknowns = int(np.prod(operator.domain_shape))
        if u.shape[1] != unknowns:
            raise ValueError(
                f"basis has vectors of length {u.shape[1]}, the operator {unknowns} unknowns"
            )
        if not operator.has_singular_system:
            operator = MatrixOperator(operator.to_matrix()).compute_singular_system()
        sigma = operator.singular_values
        c = operator.analyse_domain(u.reshape(len(u), *operator.domain_shape))
        c[:, sigma == 0] = 0.0
        _refuse_null_space(u, operator.synthesise(c).reshape(u.shape))
        with np.errstate(over="ignore"):  # looked at below
            c = np.divide(c, sigma, out=np.zeros_like(c), where=sigma > 0)
            norms = np.linalg.norm(c, axis=1)
        if not np.isfinite(norms).all():
            raise ValueError(
                f"row {np.flatnonzero(~np.isfinite(norms))[0]} of basis: the operator damps it "
                "below the smallest number of float64"
            )
        v = operator.synthesise_range(c / norms[:, None]).reshape(len(u), -1)
        return cls(u, v, 1 / norms, scales)

    @cached_property
    def dual(self) -> Array:
        """The canonical dual frame of u on its span, shape (L, N): x = sum <x, u> ubar."""
        return np.ascontiguousarray(linalg.pinv(self.u, rtol=max(self.u.shape) * EPS).T)

    def analyse(self, y: ArrayLike) -> Array:
        """Return the coefficients <y, v_lambda>, shape (..., L), of data of shape (..., M).

        Raises
        ------
        TypeError, ValueError
            If `y` is complex, has another last axis, or an entry is not finite.
        """
        return _batch(y, self.v.shape[1], "y") @ self.v.T

    def synthesise(self, c: ArrayLike) -> Array:
        """Return sum c_lambda ubar_lambda, shape (..., N), from c of shape (..., L), with the
        dual frame of u.  Errors as for :meth:`analyse`."""
        return _batch(c, len(self.u), "c") @ self.dual

    def reconstruct(self, y: ArrayLike, gains: ArrayLike) -> Array:
        """Return R_g y = sum g_lambda <y, v_lambda> ubar_lambda, shape (..., N).

        For y = A x and the gains 1 / kappa this is the projection of x onto the span of u,
        that is A^+ y if u spans N(A)^perp.

        Parameters
        ----------
        y : array, shape (..., M)
        gains : array, shape (L,)

        Raises
        ------
        TypeError, ValueError
            If an array is complex, has the wrong shape, or an entry is not finite.
        """
        return self.synthesise(_gains(self, gains) * self.analyse(y))


def _refuse_null_space(u: Array, seen: Array) -> None:
    norms = np.linalg.norm(u, axis=1)
    if not norms.all():
        raise ValueError(f"row {np.flatnonzero(norms == 0)[0]} of basis is zero")
    share = np.linalg.norm(u - seen, axis=1) / norms
    if share.max() > 1e-8:
        worst = int(share.argmax())
        raise ValueError(
            f"row {worst} of basis is not in N(A)^perp: the share {share[worst]:.2g} of its norm "
            "lies in the null space, of which the data say nothing; leave the row out, or "
            "subtract that part (where constants are lost: the mean)"
        )


def union(first: Frame, second: Frame) -> Frame:
    """Return both frames together, with u scaled by 1 / sqrt(2).

    The union of two orthonormal bases (or tight frames of bound 1) is then a tight frame of
    bound 1, its own dual.  v stays, so kappa is multiplied by sqrt(2).

    Parameters
    ----------
    first, second : Frame
        Of the same operator, and with the same span of u.

    Returns
    -------
    Frame
        The vectors of `first`, then those of `second`.

    Raises
    ------
    ValueError
        If unknowns or data differ in number.

    Notes
    -----
    For two orthonormal bases, gains chosen coefficient by coefficient give the *mean of the two
    reconstructions*: by convexity its risk is at most the mean of the two risks, so it is never
    worse than the worse basis, but it can be worse than the better one.
    Source: this book, chapter 4.
    """
    if (first.u.shape[1], first.v.shape[1]) != (second.u.shape[1], second.v.shape[1]):
        raise ValueError(
            "the frames must belong to one operator, but their vectors have the lengths "
            f"{first.u.shape[1]} and {first.v.shape[1]}, and {second.u.shape[1]} and "
            f"{second.v.shape[1]}"
        )
    return Frame(
        np.concatenate([first.u, second.u]) / np.sqrt(2),
        np.concatenate([first.v, second.v]),
        np.concatenate([first.kappa, second.kappa]) * np.sqrt(2),
        np.concatenate([first.scales, second.scales]),
    )


# --------------------------------------------------------------------------------- gains
#
# y = A x + eps with uncorrelated x and eps, and covariances (second moments) C_x and C_eps.


def coefficient_powers(
    frame: Frame, signal_covariance: ArrayLike, noise_covariance: ArrayLike
) -> tuple[Array, Array]:
    """Return the powers of the coefficients of signal and noise,

        Pi_lambda = E <x, u_lambda>^2 = <u_lambda, C_x u_lambda>,
        Delta_lambda = E <eps, v_lambda>^2 = <v_lambda, C_eps v_lambda>.

    Parameters
    ----------
    frame : Frame
    signal_covariance : array, shape (N, N), or one number
        C_x = E x x*, symmetric and positive semidefinite; a number s means s times the identity.
    noise_covariance : array, shape (M, M), or one number
        C_eps = E eps eps*, likewise; for white noise of level delta the number delta^2.

    Returns
    -------
    signal, noise : array, shape (L,), float64

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If shapes clash, an entry is not finite, a number is negative, or a matrix is not
        symmetric and positive semidefinite.

    Notes
    -----
    ``spectral.mse_gain`` and ``spectral.modal_risk`` take them, with kappa for sigma.
    Source: this book, chapter 4.
    """
    cx, ce = _covariances(frame, signal_covariance, noise_covariance)
    signal = np.einsum("ln,ln->l", frame.u @ cx, frame.u)
    noise = np.einsum("lm,lm->l", frame.v @ ce, frame.v)
    return np.maximum(signal, 0.0), np.maximum(noise, 0.0)  # rounding can be negative


def decoupled_gains(
    frame: Frame, signal_covariance: ArrayLike, noise_covariance: ArrayLike
) -> Array:
    """Return the gains that are best for every coefficient on its own,

        g_lambda = kappa_lambda Pi_lambda / (kappa_lambda^2 Pi_lambda + Delta_lambda),

    the minimizers of E (g_lambda <y, v_lambda> - <x, u_lambda>)^2.  For orthonormal u they also
    minimize the risk E ||R_g y - x||^2, whether v is orthogonal or not.  For a redundant u they
    only minimize a bound of it: up to the part of x outside the span of u, the risk is at most
    1 / (lower frame bound of u) times the sum of the errors above.

    Parameters and errors as for :func:`coefficient_powers`; where <y, v_lambda> vanishes almost
    surely the gain is 0.

    Returns
    -------
    array, shape (L,), float64

    Notes
    -----
    Assumes E <eps, v_lambda> <x, u_lambda> = 0.  Source: this book, chapter 4.
    """
    signal, noise = coefficient_powers(frame, signal_covariance, noise_covariance)
    return mse_gain(frame.kappa, signal, noise)


def joint_gains(frame: Frame, signal_covariance: ArrayLike, noise_covariance: ArrayLike) -> Array:
    """Return gains that minimize the risk E ||R_g y - x||^2, all together: the solution of

        (G o C) g = b,    G = (<ubar_lambda, ubar_mu>),    C = (E y_lambda y_mu),
                          b_lambda = E y_lambda <ubar_lambda, x>,    y_lambda = <y, v_lambda>,

    where o multiplies entry by entry.

    Parameters and errors as for :func:`coefficient_powers`.

    Returns
    -------
    array, shape (L,), float64
        Where gains can be exchanged without a change of R_g y, those of least
        sum g_lambda^2 ||ubar_lambda||^2 E y_lambda^2.

    Notes
    -----
    Costs O(L^3).  Directions with eigenvalues below L eps, after G o C was scaled to a unit
    diagonal, count as free.  Source: this book, chapter 4.
    """
    cx, ce = _covariances(frame, signal_covariance, noise_covariance)
    half = frame.kappa[:, None] * (frame.u @ cx)  # V A C_x, because V A = diag(kappa) U
    data = (half @ frame.u.T) * frame.kappa + frame.v @ ce @ frame.v.T
    return _normal_solution(frame.dual, data, np.einsum("ln,ln->l", half, frame.dual))


def fit_gains(frame: Frame, x: ArrayLike, y: ArrayLike, *, joint: bool = False) -> Array:
    """Return the gains of :func:`decoupled_gains` or :func:`joint_gains` for the empirical law
    of samples: least squares over the coefficients, or over the reconstructions.

    Parameters
    ----------
    frame : Frame
    x : array, shape (B, N)
        Truths, one per row.
    y : array, shape (B, M)
        Their data.
    joint : bool
        Minimize sum ||R_g y - x||^2 instead of sum (g_lambda <y, v_lambda> - <x, u_lambda>)^2
        for every lambda.  The same for orthonormal u.

    Returns
    -------
    array, shape (L,), float64
        0 where every <y, v_lambda> is 0.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If there is no sample, shapes clash, or an entry is not finite.

    Notes
    -----
    Source: this book, chapter 4.
    """
    x = _samples(x, frame.u.shape[1], "x")
    y = _samples(y, frame.v.shape[1], "y")
    if len(x) != len(y):
        raise ValueError(f"samples come in pairs, got {len(x)} of x and {len(y)} of y")
    coefficients = frame.analyse(y)
    if not joint:
        return fit_gain(x @ frame.u.T, coefficients)
    data = coefficients.T @ coefficients / len(x)
    cross = np.einsum("bl,bl->l", coefficients, x @ frame.dual.T) / len(x)
    return _normal_solution(frame.dual, data, cross)


def gain_risk(
    frame: Frame,
    gains: ArrayLike,
    signal_covariance: ArrayLike,
    noise_covariance: ArrayLike,
) -> float:
    """Return the risk E ||R_g y - x||^2 of gains.

    It is tr (R A - I) C_x (R A - I)* + tr R C_eps R* with R A = sum g kappa ubar u*, and
    includes the part of x outside the span of u, which no gains recover.

    Parameters
    ----------
    frame : Frame
    gains : array, shape (L,)
    signal_covariance, noise_covariance
        As for :func:`coefficient_powers`.  They describe the data that the gains are *used* on.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As for :func:`coefficient_powers`, or if the gains have the wrong shape.

    Notes
    -----
    Source: this book, chapter 4.
    """
    cx, ce = _covariances(frame, signal_covariance, noise_covariance)
    weighted = frame.dual.T * _gains(frame, gains)
    return _risk((weighted * frame.kappa) @ frame.u, weighted @ frame.v, cx, ce)


def lmmse_risk(
    operator: Operator, signal_covariance: ArrayLike, noise_covariance: ArrayLike
) -> float:
    """Return the least risk E ||R y - x||^2 of all linear maps R, that of ``spectral.lmmse``.

    Parameters
    ----------
    operator : Operator
    signal_covariance, noise_covariance
        As for :func:`coefficient_powers`, on flattened arrays.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As for :func:`coefficient_powers`, or if `operator` is not an Operator.

    Notes
    -----
    Source: Proposition ``prop-lmmse`` (chapter 2).
    """
    if not isinstance(operator, Operator):
        raise TypeError("operator must be an Operator; wrap a matrix in MatrixOperator")
    matrix = operator.to_matrix()
    cx = _covariance(signal_covariance, matrix.shape[1], "signal_covariance")
    ce = _covariance(noise_covariance, matrix.shape[0], "noise_covariance")
    best = lmmse(matrix, cx, ce)
    return _risk(best @ matrix, best, cx, ce)


def _risk(through: Array, reconstruction: Array, cx: Array, ce: Array) -> float:
    """E ||R y - x||^2 from R A and R: two sums that are not negative, so nothing cancels."""
    miss = through - np.eye(len(through))
    bias = np.einsum("ij,ij->", miss @ cx, miss)
    noise = np.einsum("ij,ij->", reconstruction @ ce, reconstruction)
    return float(max(bias, 0.0) + max(noise, 0.0))


def _normal_solution(dual: Array, data: Array, cross: Array) -> Array:
    matrix = (dual @ dual.T) * data
    # The coefficients differ by orders of magnitude: only scaled, eigenvalues can be compared.
    diagonal = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    scale = np.divide(1.0, diagonal, out=np.zeros(len(dual)), where=diagonal > 0)
    matrix = (matrix + matrix.T) / 2 * np.outer(scale, scale)
    # Divide and conquer: several times as fast as pinvh where L is 2000.
    values, vectors = linalg.eigh(matrix, driver="evd")
    along = vectors.T @ (scale * cross)
    kept = values > len(dual) * EPS * values[-1]
    along = np.divide(along, values, out=np.zeros_like(along), where=kept)
    return scale * (vectors @ along)


# ---------------------------------------------------------------------------- the door


def _rows(value: ArrayLike, name: str) -> Array:
    matrix = finite(value, name)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must be a matrix with one vector per row, got {matrix.shape}")
    return matrix


def _batch(value: ArrayLike, length: int, name: str) -> Array:
    array = finite(value, name)
    if array.ndim < 1 or array.shape[-1] != length:
        raise ValueError(f"{name} must have the shape (..., {length}), got {array.shape}")
    return array


def _samples(value: ArrayLike, length: int, name: str) -> Array:
    array = _batch(value, length, name)
    if array.ndim != 2 or not len(array):
        raise ValueError(
            f"{name} must have the shape (B, {length}), one row per sample, B >= 1; "
            f"got {array.shape}"
        )
    return array


def _gains(frame: Frame, gains: ArrayLike) -> Array:
    gains = finite(gains, "gains")
    if gains.shape != frame.kappa.shape:
        raise ValueError(
            f"gains must have one entry per vector, {frame.kappa.shape}; got {gains.shape}"
        )
    return gains


def _covariances(
    frame: Frame, signal_covariance: ArrayLike, noise_covariance: ArrayLike
) -> tuple[Array, Array]:
    return (
        _covariance(signal_covariance, frame.u.shape[1], "signal_covariance"),
        _covariance(noise_covariance, frame.v.shape[1], "noise_covariance"),
    )


def _covariance(value: ArrayLike, size: int, name: str) -> Array:
    """Return the matrix, or number times identity, if it is symmetric and semidefinite."""
    matrix = finite(value, name)
    if matrix.ndim == 0:
        return number(matrix, name, 0.0) * np.eye(size)
    if matrix.shape != (size, size):
        raise ValueError(
            f"{name} must be one number or have the shape {(size, size)}, got {matrix.shape}"
        )
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    scale = np.divide(1.0, scale, out=np.ones(size), where=scale > 0)
    correlation = matrix * np.outer(scale, scale)
    slack = 1e-10 * size  # for covariances that were themselves computed
    if np.abs(correlation - correlation.T).max() > slack:
        raise ValueError(f"{name} must be symmetric")
    try:
        np.linalg.cholesky(correlation + slack * np.eye(size))
    except np.linalg.LinAlgError:
        raise ValueError(
            f"{name} must be positive semidefinite: no random vector has a negative variance"
        ) from None
    return (matrix + matrix.T) / 2
