"""Spectral regularization: filters, worst cases, iterations, parameter choice, learned filters.

With the singular system A u_n = sigma_n v_n of an operator, every method of this module is

    R_alpha y = sum_n g_n <y, v_n> u_n,    q_n = sigma_n g_n,

a *filter* q_n = q(sigma_n, alpha) in [0, 1]: the share of the coefficient x_n = <x, u_n> that
survives in R_alpha A x.  The rest, (1 - q_n) x_n, is the bias, and g_n amplifies the noise.
Chapter 1 chooses q; the last part of the module (chapter 2) learns g from signals and noise.
Everything is float64; integers and other floating types are converted, complex numbers refused.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.optimize import brentq
from scipy.special import zeta

from advreg._checks import finite, integer, modes, number, positive
from advreg.operators import Operator

__all__ = [
    "FILTERS",
    "Choice",
    "Filter",
    "Iterates",
    "alpha_grid",
    "bias",
    "cgls",
    "clip",
    "critic_gain",
    "critic_weights",
    "discrepancy_principle",
    "expected_squared_error",
    "fit_gain",
    "fit_plug_in",
    "gain",
    "gcv",
    "iterated_tikhonov",
    "l2_game",
    "l_curve",
    "landweber",
    "landweber_iteration",
    "lmmse",
    "modal_risk",
    "model_problem",
    "modulus",
    "mse_exponent",
    "mse_gain",
    "noise_amplification",
    "oracle",
    "picard",
    "pnp_gain",
    "post_gain",
    "pseudo_inverse",
    "rate_constant",
    "reconstruct",
    "showalter",
    "slope",
    "tikhonov",
    "train_gain",
    "tsvd",
    "worst_case_error",
]

Array = NDArray[np.float64]
FilterFunction = Callable[[ArrayLike, ArrayLike], Array]

EPS = float(np.finfo(np.float64).eps)


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a))


def _sigma_and(sigma: ArrayLike, other: Array, name: str) -> tuple[Array, Array]:
    s = finite(sigma, "sigma", least=0.0)
    try:
        np.broadcast_shapes(s.shape, other.shape)
    except ValueError:
        raise ValueError(
            f"sigma of shape {s.shape} and {name} of shape {other.shape} do not fit together; "
            f"for a grid of p values give {name} the shape (p, 1), as in {name}[:, None]"
        ) from None
    return s, other


# ------------------------------------------------------------------------------- filters


def tsvd(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """Truncated singular value decomposition: q = 1 if sigma^2 >= alpha, else 0.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0.
    alpha : array
        Regularization parameter in the units of sigma^2, positive; infinity means q = 0.
        One number, or shape (p, 1) for a grid: whatever broadcasts with `sigma`.

    Returns
    -------
    array, float64
        The filter factors q in [0, 1], of the broadcast shape; exactly 0 where sigma = 0.
        A tie sigma^2 = alpha keeps the mode.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If sigma is negative or not finite, alpha is not positive or NaN, or shapes clash.

    Notes
    -----
    Source: Proposition ``prop-filter-zoo`` (chapter 1).
    """
    s, a = _sigma_and(sigma, positive(alpha, "alpha"), "alpha")
    return (s**2 >= a).astype(np.float64)


def tikhonov(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """Tikhonov's filter q = sigma^2 / (sigma^2 + alpha), the minimizer of
    ||A x - y||^2 + alpha ||x||^2.

    Parameters, result, errors and source as for :func:`tsvd`.
    """
    s, a = _sigma_and(sigma, positive(alpha, "alpha"), "alpha")
    return s**2 / (s**2 + a)


def iterated_tikhonov(sigma: ArrayLike, alpha: ArrayLike, order: int = 2) -> Array:
    """Tikhonov's method applied `order` times, each time to what is left of the residual:
    q = 1 - (alpha / (sigma^2 + alpha))^order.

    Parameters, result, errors and source as for :func:`tsvd`; `order` is an integer of at
    least 1, and 1 is :func:`tikhonov`.
    """
    m = integer(order, "order", 1)
    # expm1 and log1p: for sigma^2 << alpha the difference "1 - power" would lose every digit.
    return -np.expm1(-m * np.log1p(_quotient(sigma, alpha)))


def landweber(sigma: ArrayLike, iterations: ArrayLike, step: float = 1.0) -> Array:
    """Landweber's filter after k iterations, q = 1 - (1 - step sigma^2)^k.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0.
    iterations : array of int
        Number of iterations, at least 0; one number, or shape (p, 1) for a grid.
    step : float
        Step length, 0 < step < 2 / sigma_1^2.  Up to 1 / sigma_1^2 the factors stay in
        [0, 1]; beyond, those of odd k can exceed 1.

    Returns
    -------
    array, float64
        The filter factors, of the broadcast shape; exactly 0 where sigma = 0.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If `iterations` is not a whole number of at least 0, or `step` is outside its range.

    Notes
    -----
    Source: Proposition ``prop-landweber`` (chapter 1).
    """
    count = finite(iterations, "iterations", least=0.0)
    if (count != np.floor(count)).any():
        raise ValueError(f"iterations must be whole numbers, got {iterations!r}")
    s, count = _sigma_and(sigma, count, "iterations")
    t = number(step, "step", 0.0, strict=True) * s**2
    if t.size and t.max() >= 2.0:
        raise ValueError(
            f"step = {step:g} is too long: for sigma_1 = {s.max():g} the iteration converges "
            f"only for 0 < step < 2 / sigma_1^2 = {2 / s.max() ** 2:g}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):  # log1p(-t) is used where t < 1
        below = -np.expm1(count * np.log1p(-t))
    return np.where(t < 1, below, 1 - (1 - t) ** count)


def showalter(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """Showalter's filter q = 1 - exp(-sigma^2 / alpha), gradient flow stopped at time 1/alpha.

    Parameters, result, errors and source as for :func:`tsvd`.
    """
    return -np.expm1(-_quotient(sigma, alpha))


def clip(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """The clipped inverse q = min(1, sigma / sqrt(alpha)): a gain of at most 1/sqrt(alpha).

    Parameters, result, errors and source as for :func:`tsvd`.
    """
    s, a = _sigma_and(sigma, positive(alpha, "alpha"), "alpha")
    return np.minimum(1.0, s / np.sqrt(a))


def l2_game(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """The filter q = min(1, sigma^2 / alpha) of the game against an l2 adversary (chapter 3).

    Parameters, result, errors and source as for :func:`tsvd`.
    """
    return np.minimum(1.0, _quotient(sigma, alpha))


def _quotient(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    s, a = _sigma_and(sigma, positive(alpha, "alpha"), "alpha")
    with np.errstate(over="ignore"):  # an infinite quotient means q = 1, as it should
        return s**2 / a


def _landweber_alpha(sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """Landweber with unit step, stopped after k = floor(1 / alpha) iterations.

    Rounding *down* keeps q <= sigma / sqrt(alpha) for every alpha > 0, because then
    q <= min(1, k sigma^2) <= sqrt(k) sigma.  Rounding up would break it: for alpha > 1 one
    iteration would remain, and sigma^2 <= sigma / sqrt(alpha) fails as alpha grows.
    """
    s, a = _sigma_and(sigma, positive(alpha, "alpha"), "alpha")
    if s.size and s.max() > 1 + 1e-12:
        raise ValueError(
            f"the Landweber filter needs sigma_1 <= 1, got {s.max():g}: divide the operator and "
            "the data by its norm, or use landweber(sigma, iterations, step)"
        )
    with np.errstate(over="ignore"):
        # The factor undoes the rounding of 1 / (1 / k), which may fall just short of k.
        count = np.minimum(np.floor((1 + 2 * EPS) / a), 1e300)
    return landweber(np.minimum(s, 1.0), count)


@dataclass(frozen=True)
class Filter:
    r"""A filter with the constants of its bounds.

    Attributes
    ----------
    name : str
        Key in :data:`FILTERS`.
    q : callable
        ``q(sigma, alpha)``, the filter factors in [0, 1].
    constant : float
        c with q <= c sigma / sqrt(alpha) for all sigma and alpha, that is |g| <= c / sqrt(alpha).
    qualification : float
        The largest mu_0 such that sup (1 - q) sigma^(2 mu) / alpha^mu is finite for every
        mu <= mu_0; infinite for a filter that never saturates.
    label : str
        Name for legends.
    style : str
        Key in ``plotting.STYLES``.

    Notes
    -----
    Source: Definition ``def-filter`` and Proposition ``prop-filter-zoo`` (chapter 1).
    """

    name: str
    q: FilterFunction
    constant: float
    qualification: float
    label: str
    style: str


FILTERS: dict[str, Filter] = {
    f.name: f
    for f in (
        Filter("tsvd", tsvd, 1.0, math.inf, "truncated SVD", "tsvd"),
        Filter("tikhonov", tikhonov, 0.5, 1.0, "Tikhonov", "tikhonov"),
        Filter(
            "iterated_tikhonov",
            iterated_tikhonov,
            1.0,
            2.0,
            "iterated Tikhonov (order 2)",
            "iterated_tikhonov",
        ),
        Filter("landweber", _landweber_alpha, 1.0, math.inf, "Landweber", "landweber"),
        Filter("showalter", showalter, 1.0, math.inf, "Showalter", "showalter"),
        Filter("clip", clip, 1.0, math.inf, "clip", "clip"),
        Filter("l2_game", l2_game, 1.0, math.inf, r"$\ell^2$ game", "l2_game"),
    )
}
r"""The filters of chapter 1, by name.

The constants c of truncated SVD, Tikhonov, clip and the l2 game are attained at
sigma = sqrt(alpha).  That of iterated Tikhonov of order 2 is the simple bound order / 2, because q
is at most order times Tikhonov's; the supremum is .787...  Showalter's supremum is .638..., and
Landweber attains 1 only with a single iteration and sigma_1 = 1.  Landweber runs
k = floor(1 / alpha) iterations with unit step and needs sigma_1 <= 1.
"""


def _resolve(filter: Filter | str | FilterFunction) -> Filter:
    if isinstance(filter, Filter):
        return filter
    if isinstance(filter, str):
        if filter not in FILTERS:
            raise ValueError(f"unknown filter {filter!r}; known are {', '.join(FILTERS)}")
        return FILTERS[filter]
    if not callable(filter):
        raise TypeError(f"filter must be a name, a Filter or a function, got {filter!r}")
    known = [f for f in FILTERS.values() if f.q is filter]
    return known[0] if known else Filter("custom", filter, math.nan, math.nan, "custom", "extra")


def _factors(filter: Filter, sigma: Array, alpha: Array) -> Array:
    """Filter factors of shape (*alpha.shape, k), checked."""
    shape = (*alpha.shape, sigma.size)
    q = finite(filter.q(sigma, alpha[..., None]), "the filter factors")
    return np.broadcast_to(q, shape)


def gain(q: ArrayLike, sigma: ArrayLike) -> Array:
    """Return the gains g = q / sigma, with g = 0 where sigma = 0 (as in the pseudo-inverse).

    Parameters
    ----------
    q : array, shape (..., k)
        Filter factors.
    sigma : array, shape (k,)
        Singular values, at least 0.

    Returns
    -------
    array, shape (..., k), float64

    Raises
    ------
    ValueError
        If q is not 0 at a zero singular value: no gain g gives sigma g = q there.

    Notes
    -----
    Source: Definition ``def-filter`` (chapter 1).
    """
    s, q = _sigma_and(sigma, finite(q, "q"), "q")
    s, q = np.broadcast_arrays(s, q)
    if (q[s == 0] != 0).any():
        raise ValueError("q must be 0 wherever sigma is 0: there is nothing to invert")
    return np.divide(q, s, out=np.zeros(q.shape), where=s > 0)


# ------------------------------------------------------------------------ reconstructions


def reconstruct(
    operator: Operator,
    y: ArrayLike,
    filter: Filter | str | FilterFunction,
    alpha: ArrayLike,
) -> Array:
    """Return the regularized solution x_alpha = sum_n g_n <y, v_n> u_n.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape (..., *range_shape)
        Data; leading axes are a batch.
    filter : Filter, str or callable
        An entry of :data:`FILTERS`, its name, or any function ``q(sigma, alpha)`` that
        broadcasts sigma of shape (k,) with alpha of shape (p, 1).
    alpha : float or array, shape (p,)
        Regularization parameters, positive; infinity gives the zero solution.

    Returns
    -------
    array, shape (..., *domain_shape), or (p, ..., *domain_shape) for an array `alpha`

    Raises
    ------
    NoSingularSystem
        If `operator` has no singular system.
    ValueError
        If `alpha` is not positive, has more than one axis, or `filter` is unknown.

    Notes
    -----
    Source: Definition ``def-filter`` (chapter 1).
    """
    a = positive(alpha, "alpha")
    if a.ndim > 1:
        raise ValueError(f"alpha must be a number or a vector, got shape {a.shape}")
    sigma, c = operator.singular_values, operator.analyse(y)
    g = gain(_factors(_resolve(filter), sigma, a), sigma)
    return operator.synthesise(g.reshape(*a.shape, *(1,) * (c.ndim - 1), sigma.size) * c)


def pseudo_inverse(operator: Operator, y: ArrayLike, *, on_zero: str = "project") -> Array:
    """Return the least-squares solution of least norm, sum over sigma_n > 0 of
    <y, v_n> / sigma_n u_n.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape (..., *range_shape)
        Data; leading axes are a batch.
    on_zero : {"project", "error"}
        What to do with the part of y that A does not reach (along v_n with sigma_n = 0, or
        orthogonal to all v_n): drop it, or refuse when its norm exceeds 1e-10 ||y||.

    Returns
    -------
    array, shape (..., *domain_shape)

    Raises
    ------
    ValueError
        If y is out of reach and `on_zero` is ``"error"``, or a quotient overflows.

    Notes
    -----
    Source: Definition ``def-pseudo-inverse`` and Theorem ``thm-picard`` (chapter 1).
    """
    if on_zero not in ("project", "error"):
        raise ValueError(f'on_zero must be "project" or "error", got {on_zero!r}')
    sigma, c = operator.singular_values, operator.analyse(y)
    if on_zero == "error":
        reached = operator.synthesise_range(np.where(sigma > 0, c, 0.0))
        axes = tuple(range(-len(operator.range_shape), 0))
        outside = np.sqrt(np.sum((np.asarray(y) - reached) ** 2, axis=axes))
        if (outside > 1e-10 * np.sqrt(np.sum(np.asarray(y) ** 2, axis=axes))).any():
            raise ValueError(
                f"y is not in the range of the operator: its distance to it is "
                f'{np.max(outside):.3g}; on_zero="project" drops that part'
            )
    with np.errstate(over="ignore"):
        quotient = np.divide(c, sigma, out=np.zeros(c.shape), where=sigma > 0)
    if not np.isfinite(quotient).all():
        raise ValueError("a coefficient divided by its singular value overflows: use a filter")
    return operator.synthesise(quotient)


def picard(operator: Operator, y: ArrayLike) -> tuple[Array, Array, Array]:
    """Return what Picard's condition compares: sigma_n, |<y, v_n>| and their quotient.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape (..., *range_shape)
        Data.

    Returns
    -------
    sigma : array, shape (k,)
    size : array, shape (..., k)
        |<y, v_n>|.
    quotient : array, shape (..., k)
        |<y, v_n>| / sigma_n; where sigma_n = 0, infinity if the coefficient is not 0, else 0.

    Notes
    -----
    Source: Theorem ``thm-picard`` (chapter 1).
    """
    sigma, size = operator.singular_values, np.abs(operator.analyse(y))
    with np.errstate(over="ignore"):
        quotient = np.divide(size, sigma, out=np.where(size > 0, np.inf, 0.0), where=sigma > 0)
    return sigma, size, quotient


# --------------------------------------------------------------------------------- errors


def bias(x: ArrayLike, q: ArrayLike) -> Array | float:
    """Return the error without noise, ||R A x - x|| = (sum_n (1 - q_n)^2 x_n^2)^(1/2).

    Parameters
    ----------
    x : array, shape (k,)
        Coefficients x_n = <x, u_n>.
    q : array, shape (..., k)
        Filter factors.

    Returns
    -------
    float, or array of shape (...)

    Notes
    -----
    Source: Theorem ``thm-filter-convergence`` (chapter 1).
    """
    return _unwrap(np.linalg.norm(_bias_coefficients(x, q), axis=-1))


def noise_amplification(sigma: ArrayLike, q: ArrayLike) -> Array | float:
    """Return the norm of R, max_n |g_n|: the largest error that noise of norm 1 causes.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values.
    q : array, shape (..., k)
        Filter factors, 0 where sigma is.

    Returns
    -------
    float, or array of shape (...)

    Notes
    -----
    Source: Proposition ``prop-noise-amplification`` (chapter 1).
    """
    return _unwrap(np.abs(gain(q, sigma)).max(axis=-1))


def expected_squared_error(
    sigma: ArrayLike, x: ArrayLike, q: ArrayLike, delta: ArrayLike
) -> Array | float:
    """Return E ||R(A x + e) - x||^2 = sum (1 - q_n)^2 x_n^2 + delta^2 sum g_n^2 for white noise.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values.
    x : array, shape (k,)
        Coefficients x_n = <x, u_n>.
    q : array, shape (..., k)
        Filter factors, 0 where sigma is.
    delta : float or array
        Standard deviation of *each* coefficient <e, v_n> (not of the norm of e), at least 0;
        its shape broadcasts with the leading axes of `q`.

    Returns
    -------
    float, or array of the broadcast shape

    Notes
    -----
    Source: Proposition ``prop-white-noise`` (chapter 1).
    """
    d = finite(delta, "delta", least=0.0)
    b, g = _bias_coefficients(x, q), gain(q, sigma)
    return _unwrap((b**2).sum(axis=-1) + d**2 * (g**2).sum(axis=-1))


def worst_case_error(
    sigma: ArrayLike, x: ArrayLike, q: ArrayLike, delta: ArrayLike
) -> Array | float:
    r"""Return sup ||R(A x + e) - x|| over all e with ||e|| <= delta, exactly.

    In coefficients the error is b + G e with b_n = -(1 - q_n) x_n and G = diag(g_n); parts of e
    orthogonal to all v_n do nothing.  A convex function is maximal on the sphere, and there

        e_n = g_n b_n / (lambda - g_n^2),    lambda >= max g^2,    ||e|| = delta,

    the *secular equation* for lambda.  In the hard case, where b vanishes at every mode of
    largest gain and the other modes do not use up delta even at lambda = max g^2, the rest of
    delta goes into one of those modes, with either sign.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values.
    x : array, shape (k,)
        Coefficients x_n = <x, u_n>.
    q : array, shape (..., k)
        Filter factors, 0 where sigma is.
    delta : float or array
        Noise level, at least 0; its shape broadcasts with the leading axes of `q`
        (``q[:, None, :]`` against a vector of deltas gives the full table).

    Returns
    -------
    float, or array of the broadcast shape
        It lies between (bias^2 + delta^2 max g^2)^(1/2) and bias + delta max |g|.

    Raises
    ------
    ValueError
        If shapes clash, an entry is not finite, or `delta` is negative.

    Notes
    -----
    Source: Definition ``def-convergent-regularization`` (chapter 1).
    """
    d = finite(delta, "delta", least=0.0)
    b, g = np.broadcast_arrays(np.abs(_bias_coefficients(x, q)), np.abs(gain(q, sigma)))
    shape = np.broadcast_shapes(b.shape[:-1], d.shape)
    b, g = (np.broadcast_to(a, (*shape, a.shape[-1])) for a in (b, g))
    d = np.broadcast_to(d, shape)[..., None]

    # In the units max b = 1, max g = 1 nothing over- or underflows.  A bias below 1e-100 of the
    # noise is as good as none, and where everything is 0 the unit does not matter.
    top = g.max(-1, keepdims=True)
    unit = np.maximum(b.max(-1, keepdims=True), 1e-100 * d * top)
    unit, top = np.where(unit > 0, unit, 1.0), np.where(top > 0, top, 1.0)
    b, g, d = b / unit, g / top, d * (top / unit)
    e, rest = _worst_direction(b, g, d)
    return _unwrap(unit[..., 0] * np.hypot(np.linalg.norm(b + d * g * e, axis=-1), rest[..., 0]))


def _worst_direction(b: Array, g: Array, d: Array) -> tuple[Array, Array]:
    """Maximize ||b + d g e|| over ||e|| <= 1, for 0 <= b <= 1 and 0 <= g <= max g = 1 (or g = 0).

    Returns e and, for the hard case, the error ``rest`` in a mode of largest gain, where b = 0.
    With nu = (lambda - 1) / d the secular equation reads ||e|| = 1, e = g b / (nu + d (1 - g^2)).
    """
    gb, gap = g * b, d * (1 - g) * (1 + g)
    gb = np.where(gb > 1e-140, gb, 0.0)  # smaller ones change nothing, but their squares underflow

    def norm(a: Array) -> Array:
        return np.linalg.norm(a, axis=-1, keepdims=True)

    # 1/||e|| is concave in nu, so Newton's method, started left of the root, climbs to it.
    # Two points left of the root: only the modes of largest gain, or every gap set to d.
    nu = np.maximum(norm(np.where(g == 1, gb, 0.0)), norm(gb) - d)
    for _ in range(50):  # seven were enough in thousands of trials
        e = np.divide(gb, nu + gap, out=np.zeros(gb.shape), where=gb > 0)
        length = norm(e)
        bend = norm(np.divide(e, np.sqrt(nu + gap), out=np.zeros(e.shape), where=gb > 0)) ** 2
        climb = (length > 1) & (bend > 0)
        rise = np.divide((length - 1) * length**2, bend, out=np.zeros(nu.shape), where=climb)
        if (rise <= 4 * EPS * nu).all():
            break
        nu = nu + rise
    # Put e on the sphere: it is feasible then, and where the error is maximal it is flat, so
    # that the last digits of nu do not matter.
    hard = (nu == 0) & (length < 1)
    rest = np.where(
        hard & (g.max(-1, keepdims=True) > 0), d * np.sqrt(np.maximum(1 - length**2, 0)), 0.0
    )
    return e / np.where(hard, 1.0, length), rest


def _bias_coefficients(x: ArrayLike, q: ArrayLike) -> Array:
    x, q = finite(x, "x"), finite(q, "q")
    if x.ndim != 1 or q.shape[-1:] != x.shape:
        raise ValueError(
            f"x must be the vector of k coefficients and q of shape (..., k); got {x.shape} and "
            f"{q.shape}"
        )
    return (1 - q) * x


def _unwrap(value: Array) -> Array | float:
    return float(value) if np.ndim(value) == 0 else value


# ----------------------------------------------------------------------------- iterations


class Iterates(NamedTuple):
    """Iterates of an iterative method: `x` of shape (m + 1, *domain_shape), starting with 0,
    and `residual` of shape (m + 1,), the norms ||A x_k - y||."""

    x: Array
    residual: Array


def landweber_iteration(
    operator: Operator, y: ArrayLike, iterations: int, step: float = 1.0
) -> Iterates:
    """Run Landweber's iteration x_{k+1} = x_k + step A*(y - A x_k) from x_0 = 0.

    Parameters
    ----------
    operator : Operator
        Needs no singular system.
    y : array, shape range_shape
        Data.
    iterations : int
        Number m of iterations, at least 0.
    step : float
        Step length, 0 < step < 2 / ||A||^2.

    Returns
    -------
    Iterates
        ``(x, residual)`` with m + 1 entries each, number 0 included.

    Raises
    ------
    ValueError
        If `step` is outside its range, or y is not one data array.

    Notes
    -----
    Source: Proposition ``prop-landweber`` (chapter 1).
    """
    y, m = _data(operator, y), integer(iterations, "iterations", 0)
    step, norm = number(step, "step", 0.0, strict=True), operator.norm()
    if step * norm**2 >= 2:
        raise ValueError(
            f"step = {step:g} is too long: the iteration converges only for "
            f"0 < step < 2 / ||A||^2 = {2 / norm**2:g}"
        )
    x = np.zeros((m + 1, *operator.domain_shape))
    residual = np.empty(m + 1)
    for k in range(m + 1):
        r = y - operator.forward(x[k])
        residual[k] = _norm(r)
        if k < m:
            x[k + 1] = x[k] + step * operator.adjoint(r)
    return Iterates(x, residual)


def cgls(
    operator: Operator, y: ArrayLike, iterations: int, *, stop: float | None = None
) -> Iterates:
    """Run the conjugate gradient method on A*A x = A*y, from x_0 = 0.

    Iterate k minimizes ||A x - y|| over the Krylov space of A*y, ..., (A*A)^(k-1) A*y.

    Parameters
    ----------
    operator : Operator
        Needs no singular system.
    y : array, shape range_shape
        Data.
    iterations : int
        Largest number m of iterations, at least 0.
    stop : float, optional
        Stop at the first iterate with ||A x_k - y|| <= stop: the discrepancy principle, if
        stop is tau times a bound of the noise.

    Returns
    -------
    Iterates
        ``(x, residual)``, number 0 included: m + 1 entries, or fewer if `stop` was reached or
        the iteration had nothing left to do, because the residual, or the part of it that A*
        sees, had shrunk to rounding error (a least-squares solution is reached).

    Raises
    ------
    ValueError
        If `stop` was not reached, or y is not one data array.

    Notes
    -----
    Source: Proposition ``prop-cgls`` (chapter 1).
    """
    y, m = _data(operator, y), integer(iterations, "iterations", 0)
    level = -1.0 if stop is None else number(stop, "stop", 0.0)
    x, r = [np.zeros(operator.domain_shape)], y
    s = p = operator.adjoint(r)
    residual, norm, rounding = [_norm(y)], 0.0, 10 * EPS
    for _ in range(m):
        gradient = _norm(s)
        if gradient == 0 or residual[-1] <= max(level, rounding * residual[0]):
            break
        image = operator.forward(p)
        norm = max(norm, _norm(image) / _norm(p))  # a lower bound of ||A||, soon a good one
        if gradient <= rounding * norm * residual[-1] or not image.any():
            break
        length = (gradient / _norm(image)) ** 2
        x.append(x[-1] + length * p)
        r = r - length * image
        residual.append(_norm(r))
        s = operator.adjoint(r)
        p = s + (_norm(s) / gradient) ** 2 * p
    if stop is not None and residual[-1] > level:
        raise ValueError(
            f"after {len(x) - 1} iterations the residual {residual[-1]:.4g} is still above stop = "
            f"{level:.4g}: allow more iterations, or check whether the noise is underestimated"
        )
    return Iterates(np.stack(x), np.array(residual))


def _data(operator: Operator, y: ArrayLike) -> Array:
    y = finite(y, "y")
    if y.shape != operator.range_shape:
        raise ValueError(f"y must be one data array of shape {operator.range_shape}, got {y.shape}")
    return y


# ----------------------------------------------------------------------- parameter choice


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of a parameter choice rule.

    Attributes
    ----------
    alpha : float
        The chosen parameter.
    value : float
        The rule's score at `alpha`.
    grid : array, shape (p,)
        Parameters in increasing order.
    score : array, shape (p,)
        The rule's score on `grid`, for plotting.
    """

    alpha: float
    value: float
    grid: Array
    score: Array


class _Problem:
    """One filter on one data array, everything expressed in coefficients."""

    def __init__(self, operator: Operator, y: ArrayLike, filter: Filter | str | FilterFunction):
        y = _data(operator, y)
        self.filter = _resolve(filter)
        self.sigma, self.c = operator.singular_values, operator.analyse(y)
        self.size = y.size
        # What no v_n sees stays in every residual.  Subtract vectors, not squared norms: the
        # difference of squares would be wrong by 1e-8 ||y||.
        complete = self.sigma.size == y.size
        self.outside = 0.0 if complete else _norm(y - operator.synthesise_range(self.c))

    def factors(self, alpha: ArrayLike) -> Array:
        return _factors(self.filter, self.sigma, np.asarray(alpha, dtype=np.float64))

    def residual(self, alpha: ArrayLike) -> Array:
        """Norms ||A x_alpha - y||, of the shape of alpha."""
        left = np.linalg.norm((1 - self.factors(alpha)) * self.c, axis=-1)
        return np.hypot(left, self.outside)

    def coefficients(self, alpha: ArrayLike) -> Array:
        return gain(self.factors(alpha), self.sigma) * self.c


def _grid(alphas: ArrayLike, least: int) -> Array:
    grid = np.unique(positive(alphas, "alphas"))
    if np.ndim(alphas) != 1 or grid.size < least or not np.isfinite(grid).all():
        raise ValueError(
            f"alphas must be a vector of at least {least} different positive finite numbers, got "
            f"{grid.size} of them in shape {np.shape(alphas)}"
        )
    return grid


def _pick(grid: Array, score: Array, best: int) -> Choice:
    return Choice(float(grid[best]), float(score[best]), grid, score)


def discrepancy_principle(
    operator: Operator,
    y: ArrayLike,
    filter: Filter | str | FilterFunction,
    delta_norm: float,
    tau: float = 1.1,
    alphas: ArrayLike | None = None,
) -> Choice:
    """Choose the largest alpha with ||A x_alpha - y|| <= tau delta_norm (Morozov).

    Without `alphas` the answer is exact: a root of the (increasing) residual for a continuous
    filter, the largest breakpoint alpha = sigma_n^2 for ``"tsvd"``, alpha = 1/k with the first
    such iteration k for ``"landweber"``.  With `alphas` it is the largest one of them.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape range_shape
        Data.  A part of y orthogonal to all v_n counts: it stays in every residual.
    filter : Filter, str or callable
        As for :func:`reconstruct`; a function is taken to be continuous in alpha.
    delta_norm : float
        Bound of the *norm* ||e|| of the noise, positive.  White noise with standard deviation
        s per datum and D data has norm about s sqrt(D).
    tau : float
        Factor, at least 1.
    alphas : array, shape (p,), optional
        Restrict the choice to these.

    Returns
    -------
    Choice
        `value` and `score` are norms of residuals.  If ||y|| <= tau delta_norm already, the
        data are explained by noise alone: without `alphas` the choice is alpha = infinity, for
        which every filter gives x = 0.

    Raises
    ------
    ValueError
        If no alpha reaches tau delta_norm, which says that the noise is underestimated.

    Notes
    -----
    Source: Lemma ``lem-discrepancy`` and Theorem ``thm-discrepancy-rate`` (chapter 1).
    """
    problem = _Problem(operator, y, filter)
    level = number(tau, "tau", 1.0) * number(delta_norm, "delta_norm", 0.0, strict=True)
    if alphas is not None:
        grid = _grid(alphas, 1)
        score = problem.residual(grid)
        reached = np.flatnonzero(score <= level)
        if reached.size == 0:
            raise _unreached(level, score.min())
        return _pick(grid, score, reached[-1])

    size = math.hypot(_norm(problem.c), problem.outside)
    if size <= level:
        return Choice(math.inf, size, np.array([math.inf]), np.array([size]))
    if problem.filter.name in ("tsvd", "landweber"):
        return _discrepancy_on_steps(problem, level)

    def excess(log_alpha: float) -> float:
        return float(problem.residual(math.exp(log_alpha))) - level

    low = high = 2 * math.log(problem.sigma.max() or 1.0)
    while excess(high) <= 0 and high < 600:
        high += 3
    while excess(low) > 0 and low > -600:
        low -= 3
    if excess(low) > 0:
        raise _unreached(level, float(problem.residual(math.exp(low))))
    if excess(high) <= 0:
        raise ValueError("the residual does not reach tau * delta_norm as alpha grows: no filter?")
    alpha = math.exp(brentq(excess, low, high, xtol=1e-12))
    grid = np.exp(np.linspace(low, high, 101))
    return Choice(alpha, float(problem.residual(alpha)), grid, problem.residual(grid))


def _discrepancy_on_steps(problem: _Problem, level: float) -> Choice:
    """Discrepancy principle for a filter that jumps, at a decreasing sequence of alphas."""
    if problem.filter.name == "tsvd":
        positive = problem.sigma[problem.sigma**2 > 0]
        steps = np.unique(positive**2)[::-1]
        last = steps.size
    else:
        last = 10**12

    def alpha(j: int) -> float:
        return float(steps[j - 1]) if problem.filter.name == "tsvd" else 1.0 / j

    indices = range(1, last + 1)  # bisect asks for only a few of them
    j = 1 + bisect_left(indices, True, key=lambda i: bool(problem.residual(alpha(i)) <= level))
    if j > last:
        raise _unreached(level, float(problem.residual(alpha(last))) if last else math.inf)
    shown = np.unique(np.geomspace(1, min(2 * j, last), 101).round().astype(np.int64))
    grid = np.array([alpha(int(i)) for i in shown[::-1]])
    return Choice(alpha(j), float(problem.residual(alpha(j))), grid, problem.residual(grid))


def _unreached(level: float, least: float) -> ValueError:
    return ValueError(
        f"no alpha brings the residual down to tau * delta_norm = {level:.4g} (the least is "
        f"{least:.4g}): the noise level is underestimated, or the data contain a part that the "
        "operator cannot produce; raise delta_norm (it bounds the norm of the noise, not its "
        "standard deviation), or project the data first"
    )


def gcv(
    operator: Operator,
    y: ArrayLike,
    filter: Filter | str | FilterFunction,
    alphas: ArrayLike,
) -> Choice:
    """Choose alpha by generalized cross-validation: the least
    ||(I - H) y||^2 / trace(I - H)^2, where H y = A x_alpha.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape range_shape
        D data; their part orthogonal to all v_n counts in the numerator, and its dimension
        D - k in the trace.
    filter : Filter, str or callable
        As for :func:`reconstruct`.
    alphas : array, shape (p,)
        At least two different parameters.

    Returns
    -------
    Choice
        `score` is infinite where the trace vanishes (to 1e-10 D): there the filter reproduces
        the data, and the quotient is 0/0.

    Raises
    ------
    ValueError
        If the trace vanishes for every alpha.

    Notes
    -----
    The rule knows no noise level, and it relies on white noise.
    Source: Proposition ``prop-gcv`` (chapter 1).
    """
    problem, grid = _Problem(operator, y, filter), _grid(alphas, 2)
    trace = problem.size - problem.factors(grid).sum(axis=-1)
    counts = trace > 1e-10 * problem.size
    if not counts.any():
        raise ValueError("every alpha reproduces the data exactly; larger alphas are needed")
    score = np.divide(
        problem.residual(grid) ** 2, trace**2, out=np.full(grid.size, np.inf), where=counts
    )
    return _pick(grid, score, int(np.argmin(score)))


def l_curve(
    operator: Operator,
    y: ArrayLike,
    filter: Filter | str | FilterFunction,
    alphas: ArrayLike,
) -> Choice:
    """Choose alpha at the corner of the L-curve (log ||A x_alpha - y||, log ||x_alpha||).

    The curvature at a grid point is that of the circle through it and its two neighbours on
    the curve, positive where the curve bends like the corner of an L.  This needs no
    derivative of the filter and does not depend on how the curve is parametrised; its error
    decreases with the square of a fine geometric grid's step.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape range_shape
        Data.
    filter : Filter, str or callable
        As for :func:`reconstruct`.  The curve of ``"tsvd"`` and ``"landweber"`` is a polygon,
        on which the curvature depends on the grid: expect less of it there.
    alphas : array, shape (p,)
        At least five different parameters.

    Returns
    -------
    Choice
        `score` is the curvature, and minus infinity where there is none: at the two ends, where
        the residual or the solution is 0, and where the curve stands still (less than 1e-6).

    Raises
    ------
    ValueError
        If the curve has no corner on the grid: no positive curvature.

    Notes
    -----
    The rule knows no noise level, so no convergence proof for the worst case can exist.
    Source: Theorem ``thm-bakushinskii`` (chapter 1).
    """
    problem, grid = _Problem(operator, y, filter), _grid(alphas, 5)
    residual = problem.residual(grid)
    size = np.linalg.norm(problem.coefficients(grid), axis=-1)
    usable = np.flatnonzero((residual > 0) & (size > 0))
    points = np.log(np.column_stack([residual[usable], size[usable]]))
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6
    usable, points = (a[np.r_[True, moves][: len(a)]] for a in (usable, points))

    score = np.full(grid.size, -np.inf)
    first, second = points[1:-1] - points[:-2], points[2:] - points[1:-1]
    turn = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    sides = [np.linalg.norm(a, axis=1) for a in (first, second, first + second)]
    score[usable[1:-1]] = 2 * turn / (sides[0] * sides[1] * sides[2])
    best = int(np.argmax(score))
    if not score[best] > 0:
        raise ValueError("the L-curve has no corner on this grid; widen it, or use another rule")
    return _pick(grid, score, best)


def oracle(
    operator: Operator,
    y: ArrayLike,
    filter: Filter | str | FilterFunction,
    alphas: ArrayLike,
    x: ArrayLike,
) -> Choice:
    """Choose the alpha with the least true error ||x_alpha - x||: a yardstick, not a method.

    Parameters
    ----------
    operator : Operator
        With a singular system.
    y : array, shape range_shape
        Data.
    filter : Filter, str or callable
        As for :func:`reconstruct`.
    alphas : array, shape (p,)
        At least one parameter.
    x : array, shape domain_shape
        The truth.

    Returns
    -------
    Choice
        `score` is the error, including the part of x that no u_n sees.

    Raises
    ------
    ValueError
        If shapes clash or an entry is not finite.
    """
    problem, grid, x = _Problem(operator, y, filter), _grid(alphas, 1), finite(x, "x")
    if x.shape != operator.domain_shape:
        raise ValueError(f"x must have shape {operator.domain_shape}, got {x.shape}")
    truth = operator.analyse_domain(x)
    unseen = 0.0 if truth.size == x.size else _norm(x - operator.synthesise(truth))
    error = np.hypot(np.linalg.norm(problem.coefficients(grid) - truth, axis=-1), unseen)
    return _pick(grid, error, int(np.argmin(error)))


def alpha_grid(sigma: ArrayLike, points: int) -> Array:
    """Return a geometric grid of parameters, increasing from the least positive sigma_n^2 to
    the greatest.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0.
    points : int
        Number of grid points, at least 2.

    Returns
    -------
    array, shape (points,)

    Raises
    ------
    ValueError
        If sigma does not hold two different positive numbers (whose squares do not underflow).
    """
    squares = finite(sigma, "sigma", least=0.0) ** 2
    squares = squares[squares >= np.finfo(np.float64).tiny]
    if squares.size == 0 or squares.min() == squares.max():
        raise ValueError("a grid needs two different positive singular values")
    return np.geomspace(squares.min(), squares.max(), integer(points, "points", 2))


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Return the least-squares slope of log y against log x: the measured exponent of a rate.

    Parameters
    ----------
    x, y : array, shape (p,)
        Positive and finite; at least two different x.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an entry is not positive and finite, shapes differ, or all x are equal.
    """
    x, y = finite(x, "x"), finite(y, "y")
    if x.ndim != 1 or x.shape != y.shape or (x <= 0).any() or (y <= 0).any():
        raise ValueError("slope needs two vectors of one length with positive entries")
    log_x, log_y = np.log(x), np.log(y)
    log_x = log_x - log_x.mean() if x.size else log_x
    if x.size < 2 or not log_x.any() or (x == x[0]).all():
        raise ValueError("slope needs at least two different x")
    return float(log_x @ log_y / (log_x @ log_x))


# ---------------------------------------------------------- learned filters (chapter 2)
#
# Every statistic is one number per mode: sigma_n, the signal power Pi_n = E x_n^2, the noise
# power Delta_n = E eps_n^2 and their correlation Gamma_n = E x_n eps_n.


def _correlation(signal: Array, noise: Array, cross: Array) -> None:
    # The slack is for moments that were themselves computed from samples.
    if (np.abs(cross) > (1 + 1e-10) * np.sqrt(signal) * np.sqrt(noise)).any():
        raise ValueError(
            "cross^2 must not exceed signal * noise (Cauchy-Schwarz): no random x_n and eps_n "
            "have these second moments"
        )


def _filtered_inverse(sigma: Array, parameter: Array) -> Array:
    """Return sigma / (sigma^2 + parameter), 0 where sigma = 0 or the parameter is infinite.

    Written as 1 / (sigma + parameter / sigma) it is 1 / sigma for parameter 0 even where
    sigma^2 underflows.
    """
    out = _ratio(parameter, sigma)
    out += sigma
    return np.divide(1.0, out, out=out)


def _ratio(top: Array, bottom: Array) -> Array:
    """Return top / bottom, infinite where bottom = 0: no signal, or nothing that tells."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        out = np.asarray(top / bottom)
    if not bottom.all():
        np.copyto(out, np.inf, where=bottom == 0)  # 0 / 0 as well
    return out


def model_problem(a: float, b: float, size: int) -> tuple[Array, Array]:
    """Return the model problem MP(a, b): sigma_n = n^-a and Pi_n = n^-2b for n = 1, ..., size,
    and one last entry that stands for all further modes.

    Parameters
    ----------
    a : float
        Degree of ill-posedness, positive.
    b : float
        Decay of the signal, greater than 1/2.
    size : int
        Number of modes, at least 1.

    Returns
    -------
    sigma, signal : array, shape (size + 1,)
        The last sigma is 0 and the last signal power is sum over n > size of n^-2b.  So sums
        over the modes are those of the infinite problem, for a filter that switches the modes
        beyond `size` off.

    Raises
    ------
    ValueError
        If a or b is out of its range, or `size` is not an integer of at least 1.

    Notes
    -----
    The last entry is a sum, not a mode.  A supremum over modes, such as :func:`modulus`, must
    leave it out: ``modulus(sigma[:-1], signal[:-1], delta)``.
    Source: Definition ``def-model-problem`` (chapter 2).
    """
    a, b = _exponents(number(a, "a", -math.inf), number(b, "b", -math.inf))
    k = integer(size, "size", 1)
    n = np.arange(1.0, k + 1)
    return np.append(n**-a, 0.0), np.append(n ** (-2 * b), zeta(2 * b, k + 1))


def _exponents(a: ArrayLike, b: ArrayLike, name: str = "b") -> tuple[Array, Array]:
    a, b = finite(a, "a"), finite(b, name)
    if (a <= 0).any():
        raise ValueError(f"a must be positive, got {a.min():g}: sigma_n = n^-a tends to 0")
    if (b <= 0.5).any():
        raise ValueError(
            f"{name} must be greater than 1/2, got {b.min():g}: otherwise the sum of n^(-2b) is "
            "infinite, and no such random x exists in X"
        )
    return a[()], b[()]


def mse_gain(
    sigma: ArrayLike, signal: ArrayLike, noise: ArrayLike, cross: ArrayLike = 0.0
) -> Array:
    """Return the gain g that minimizes E (g y_n - x_n)^2 for y_n = sigma_n x_n + eps_n:

        g_n = (sigma_n Pi_n + Gamma_n) / (sigma_n^2 Pi_n + 2 sigma_n Gamma_n + Delta_n),

    which is sigma_n / (sigma_n^2 + Delta_n / Pi_n) where signal and noise are uncorrelated.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0.
    signal : array
        Pi_n = E x_n^2, at least 0.
    noise : array
        Delta_n = E eps_n^2, at least 0: one number (white noise), shape (k,), or (p, 1) for a
        grid.  Anything that broadcasts, here and below.
    cross : array
        Gamma_n = E x_n eps_n, with Gamma_n^2 <= Pi_n Delta_n.

    Returns
    -------
    array, float64
        The gains, of the broadcast shape.  Where y_n vanishes almost surely every gain is
        optimal, and the result is 0, the least one.  So a mode with Pi_n = 0 and
        Gamma_n = 0 has gain 0, also for Delta_n = 0; a mode with sigma_n = 0 has gain
        Gamma_n / Delta_n.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If sigma or a power is negative or not finite, Gamma_n^2 > Pi_n Delta_n, or shapes
        clash.

    Notes
    -----
    For Gamma = 0, 0 <= g_n <= min(1 / sigma_n, sqrt(Pi_n / Delta_n) / 2).
    Source: Theorem ``thm-learned-gain``, Proposition ``prop-learned-stability`` and Theorem
    ``thm-learned-convergence`` (chapter 2).
    """
    s, signal, noise, cross = modes(sigma=sigma, signal=signal, noise=noise, cross=cross)
    _correlation(signal, noise, cross)
    plain = _filtered_inverse(s, _ratio(noise, signal))
    if not cross.any():
        return plain + np.zeros(cross.shape)
    data = s**2 * signal + 2 * s * cross + noise
    # Perfect anticorrelation may cancel the data: what is left is rounding.
    seen = data > 8 * EPS * (s**2 * signal + noise)
    top, data, seen = np.broadcast_arrays(s * signal + cross, data, seen)
    g = np.divide(top, data, out=np.zeros(data.shape), where=seen)
    return np.where(cross == 0, plain, g)


def modal_risk(
    sigma: ArrayLike,
    signal: ArrayLike,
    noise: ArrayLike,
    g: ArrayLike,
    cross: ArrayLike = 0.0,
) -> Array:
    """Return the risk E (g_n y_n - x_n)^2 of every mode,

        (1 - sigma_n g_n)^2 Pi_n + g_n^2 Delta_n - 2 (1 - sigma_n g_n) g_n Gamma_n.

    Parameters
    ----------
    sigma, signal, noise, cross : array
        As for :func:`mse_gain`.  They describe the data that the filter is *used* on, and may
        differ from those it was trained on.
    g : array
        Gains, real; their last axis is the mode.

    Returns
    -------
    array, float64
        Of the broadcast shape; sum it over the last axis for the risk E ||R_g y - x||^2.

    Raises
    ------
    TypeError, ValueError
        As for :func:`mse_gain`.

    Notes
    -----
    Source: Theorems ``thm-learned-gain`` and ``thm-learned-convergence`` (chapter 2).
    """
    s, signal, noise, cross, g = modes(sigma=sigma, signal=signal, noise=noise, cross=cross, g=g)
    _correlation(signal, noise, cross)
    bias = 1 - s * g
    return bias**2 * signal + g**2 * noise - 2 * bias * g * cross


def lmmse(
    matrix: ArrayLike,
    signal_covariance: ArrayLike,
    noise_covariance: ArrayLike,
    cross_covariance: ArrayLike | None = None,
) -> Array:
    """Return the matrix R that minimizes E ||R y - x||^2 among all linear maps, y = A x + eps:

        R = (C_x A* + C) (A C_x A* + A C + C* A* + C_eps)^-1,    C = E x eps*.

    Parameters
    ----------
    matrix : array, shape (m, n)
        A.
    signal_covariance : array, shape (n, n)
        C_x = E x x*, the matrix of second moments, symmetric and positive semidefinite.
    noise_covariance : array, shape (m, m)
        C_eps = E eps eps*.
    cross_covariance : array, shape (n, m), optional
        C; zero by default.

    Returns
    -------
    array, shape (n, m)
        Where the second moments of y are singular, R ignores the directions in which y does
        not vary (eigenvalues below m times the rounding unit, after every component of y was
        divided by its root mean square).

    Raises
    ------
    ValueError
        If shapes clash, an entry is not finite, or (x, eps) cannot have these second moments:
        their joint matrix must be symmetric and positive semidefinite.

    Notes
    -----
    Costs O(m^3 + n m^2) and a check of O((m + n)^3).
    Source: Proposition ``prop-lmmse`` (chapter 2).
    """
    a = finite(matrix, "matrix")
    if a.ndim != 2:
        raise ValueError(f"matrix must have the shape (m, n), got {a.shape}")
    m, n = a.shape
    cx = finite(signal_covariance, "signal_covariance")
    ce = finite(noise_covariance, "noise_covariance")
    cross = np.zeros((n, m)) if cross_covariance is None else cross_covariance
    c = finite(cross, "cross_covariance")
    for name, value, shape in (
        ("signal_covariance", cx, (n, n)),
        ("noise_covariance", ce, (m, m)),
        ("cross_covariance", c, (n, m)),
    ):
        if value.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {value.shape}")
    _second_moments(cx, ce, c)

    cross = cx @ a.T + c
    data = a @ cross + c.T @ a.T + ce
    scale = np.sqrt(np.maximum(np.diag(data), 0.0))
    scale = np.divide(1.0, scale, out=np.zeros(m), where=scale > 0)
    inverse = linalg.pinvh((data + data.T) / 2 * np.outer(scale, scale), rtol=m * EPS)
    return (cross * scale) @ inverse * scale


def _second_moments(cx: Array, ce: Array, c: Array) -> None:
    joint = np.block([[cx, c], [c.T, ce]])
    scale = np.sqrt(np.maximum(np.diag(joint), 0.0))
    scale = np.divide(1.0, scale, out=np.ones(scale.size), where=scale > 0)
    joint = joint * np.outer(scale, scale)  # now correlations
    slack = 1e-10 * joint.shape[0]
    if np.abs(joint - joint.T).max(initial=0.0) > slack:
        raise ValueError("a matrix of second moments must be symmetric")
    try:
        np.linalg.cholesky(joint + slack * np.eye(joint.shape[0]))
    except np.linalg.LinAlgError:
        raise ValueError(
            "no random x and eps have these second moments: the joint matrix "
            "[[C_x, C], [C*, C_eps]] is not positive semidefinite"
        ) from None


def rate_constant(a: ArrayLike, b: ArrayLike) -> Array:
    """Return the constant of the optimal learned filter's risk in MP(a, b) with white noise:

        risk ~ rate_constant(a, b) delta^((2b - 1) / (a + b))   as delta -> 0,
        rate_constant = h / sin(h (2a + 1)),    h = pi / (2 (a + b)).

    Parameters
    ----------
    a, b : float or array
        Exponents of the model problem, a > 0 and b > 1/2.

    Returns
    -------
    float64 or array

    Raises
    ------
    ValueError
        If a or b is out of its range.

    Notes
    -----
    The constant is the integral of t^2a / (1 + t^(2a + 2b)) over t > 0.
    Source: Theorem ``thm-learned-rate`` (chapter 2).
    """
    a, b = _exponents(a, b)
    h = np.pi / (2 * (a + b))
    # sin(h (2a + 1)) = sin(h (2b - 1)), and the smaller angle loses no digits near pi
    return h / np.sin(h * np.minimum(2 * a + 1, 2 * b - 1))


def mse_exponent(
    a: ArrayLike,
    b: ArrayLike,
    *,
    c: ArrayLike = 0.0,
    b_test: ArrayLike | None = None,
    level: ArrayLike = 1.0,
) -> Array:
    """Return the exponent of delta in the risk of a filter that was trained in MP(a, b) with
    noise Delta_n = delta^(2 level) n^-2c, and is used on white noise of level delta:

        min{level min(2 b_test - 1, 4 p) / p, 2 - level (2a + 1) / p},    p = a + b - c,

    the exponents of the squared bias and of the variance.  For level = 1 this is
    min{2 b_test - 1, 2b - 2c - 1} / p.

    Parameters
    ----------
    a, b : float or array
        Exponents of the model problem, a > 0 and b > 1/2.
    c : float or array
        Decay of the training noise; 0 is white, negative is rougher, positive smoother.
    b_test : float or array, optional
        Decay of the signal that the filter is used on, greater than 1/2; b by default.
    level : float or array
        The filter is trained at the noise level delta^level, level > 0; 1 is the true level.

    Returns
    -------
    float64 or array
        Positive: the risk tends to 0; zero or negative: it does not.  Minus infinity where
        c >= a/2 + b - 1/4: there the risk of infinitely many modes is infinite for every delta.

    Raises
    ------
    ValueError
        If a, b, b_test or level is out of its range, c is not finite, or shapes clash.

    Notes
    -----
    Where 2 b_test - 1 = 4 p, the squared bias carries a factor log(1/delta) on top.  The best
    exponent for b_test is (2 b_test - 1) / (a + b_test), and level = (a + b) / (a + b_test)
    attains it if c = 0 and 2 b_test - 1 < 4 p.
    Source: Theorem ``thm-learned-rate``, Proposition ``prop-training-noise`` and Theorem
    ``thm-smoothness-mismatch`` (chapter 2).
    """
    a, b = _exponents(a, b)
    _, tested = _exponents(1.0, b if b_test is None else b_test, "b_test")
    c, t = finite(c, "c"), finite(level, "level")
    if (t <= 0).any():
        raise ValueError(f"level must be positive, got {t.min():g}")
    finite_risk = c < a / 2 + b - 0.25
    p = np.where(finite_risk, a + b - c, 1.0)  # positive: greater than a/2 + 1/4
    squared_bias = t * np.minimum(2 * tested - 1, 4 * p) / p
    variance = 2 - t * (2 * a + 1) / p
    return np.where(finite_risk, np.minimum(squared_bias, variance), -np.inf)[()]


def modulus(sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike) -> Array:
    """Return the modulus of the training data,

        omega_Pi(delta) = sup over n of min{sqrt(Pi_n), delta / sigma_n}.

    Parameters
    ----------
    sigma, signal : array, shape (k,)
        Singular values and signal powers, at least 0.  Every entry is one mode: leave the last
        entry of :func:`model_problem`, a sum, out.
    delta : float or array, shape (p,)
        Noise level, at least 0.

    Returns
    -------
    float64, or array of shape (p,)
        Where sigma_n = 0 the data do not tell, and the mode counts with sqrt(Pi_n).

    Raises
    ------
    ValueError
        If an entry is negative or not finite, there is no mode, or shapes clash.

    Notes
    -----
    Source: Theorem ``thm-source-set-game`` (chapter 2).
    """
    d = finite(delta, "delta", least=0.0)
    s, signal, d = modes(sigma=sigma, signal=signal, delta=d[..., None])
    if s.size == 0 or signal.size == 0:
        raise ValueError("the modulus needs at least one mode")
    return np.minimum(np.sqrt(signal), _ratio(d, s)).max(axis=-1)


def pnp_gain(sigma: ArrayLike, signal: ArrayLike, noise: ArrayLike, step: float = 1.0) -> Array:
    """Return the gain of the plug-and-play iteration x <- D (x - step A* (A x - y)) with the
    learned denoiser D_n = Pi_n / (Pi_n + Delta_n), at its fixed point:

        g_n = sigma_n / (sigma_n^2 + Delta_n / (step Pi_n)).

    Parameters
    ----------
    sigma, signal, noise : array
        As for :func:`mse_gain`; `noise` is the level that the denoiser was trained at.
    step : float
        Step length, positive.  The iteration converges where
        step sigma_n^2 < 2 + Delta_n / Pi_n, so step < 2 / sigma_1^2 always suffices.

    Returns
    -------
    array, float64
        0 where sigma_n = 0 or Pi_n = 0.

    Raises
    ------
    TypeError, ValueError
        As for :func:`mse_gain`, and if the iteration diverges.

    Notes
    -----
    Only step = 1 gives :func:`mse_gain`.
    Source: Proposition ``prop-paradigms`` (chapter 2).
    """
    s, signal, noise = modes(sigma=sigma, signal=signal, noise=noise)
    tau, penalty = number(step, "step", 0.0, strict=True), _ratio(noise, signal)
    if (tau * s**2 >= 2 + penalty).any():
        raise ValueError(
            f"step = {tau:g} is too long: the iteration diverges; it converges for every noise "
            f"level if step < 2 / sigma_1^2 = {2 / s.max() ** 2:g}"
        )
    return _filtered_inverse(s, penalty / tau)


def post_gain(sigma: ArrayLike, signal: ArrayLike, noise: ArrayLike) -> Array:
    """Return the gain of post-processing, the denoiser D_n = Pi_n / (Pi_n + Delta_n) applied to
    the pseudo-inverse of the data: g_n = Pi_n / (sigma_n (Pi_n + Delta_n)).

    Parameters, result and errors as for :func:`pnp_gain`, without `step`.

    Notes
    -----
    A denoiser trained with noise Delta_n / sigma_n^2, what the pseudo-inverse makes of Delta_n,
    gives :func:`mse_gain`.  Source: Proposition ``prop-paradigms`` (chapter 2).
    """
    s, signal, noise = modes(sigma=sigma, signal=signal, noise=noise)
    s, rest = np.broadcast_arrays(s, 1 + _ratio(noise, signal))
    with np.errstate(over="ignore"):
        return np.divide(1 / rest, s, out=np.zeros(s.shape), where=s > 0)


def critic_weights(
    sigma: ArrayLike,
    signal: ArrayLike,
    noise: ArrayLike,
    beta: float,
    *,
    source_condition: bool = False,
) -> Array:
    """Return the weights w_n of the quadratic critic J(x) = sum w_n x_n^2 that tells true x
    from naive reconstructions A^+ y, the minimizer of

        E J(x) - E J(A^+ y) + beta E ||grad J(x')||^2,    x' = t x + (1 - t) A^+ y,

    with t uniform on (0, 1):  w_n = 3 Delta_n / (8 beta (3 sigma_n^2 Pi_n + Delta_n)).

    Parameters
    ----------
    sigma, signal, noise : array
        As for :func:`mse_gain`.
    beta : float
        Weight of the penalty, positive.
    source_condition : bool
        Write grad J(x) = A* z at the true x and penalize E ||z||^2 instead:
        w_n = Delta_n / (8 beta Pi_n).

    Returns
    -------
    array, float64
        At least 0; 0 where the noise is 0 and the critic has nothing to tell.  With
        `source_condition`, infinite where Pi_n = 0: nothing stops the critic.

    Raises
    ------
    TypeError, ValueError
        As for :func:`mse_gain`, or if beta is not one positive number.

    Notes
    -----
    For sigma_n = 0 the value is the limit of small sigma_n.
    Source: Proposition ``prop-paradigms`` and Theorem ``thm-critic`` (chapter 2).
    """
    s, signal, noise = modes(sigma=sigma, signal=signal, noise=noise)
    weight = 8 * number(beta, "beta", 0.0, strict=True)
    if source_condition:
        return _ratio(noise, signal) / weight + np.zeros(s.shape)
    noise, total = np.broadcast_arrays(noise, 3 * s**2 * signal + noise)
    return 3 / weight * np.divide(noise, total, out=np.zeros(total.shape), where=noise > 0)


def critic_gain(
    sigma: ArrayLike,
    signal: ArrayLike,
    noise: ArrayLike,
    beta: float,
    *,
    source_condition: bool = False,
) -> Array:
    """Return the gain of the method that minimizes ||A x - y||^2 + J(x) with the critic J of
    :func:`critic_weights`: g_n = sigma_n / (sigma_n^2 + w_n).

    Parameters and errors as for :func:`critic_weights`; the fidelity has no factor 1/2.

    Returns
    -------
    array, float64
        0 where sigma_n = 0, and with `source_condition` where Pi_n = 0; 1 / sigma_n where the
        noise is 0 elsewhere.

    Notes
    -----
    With the source condition, beta = 1/8 gives :func:`mse_gain`.
    Source: Proposition ``prop-paradigms`` and Theorem ``thm-critic`` (chapter 2).
    """
    w = critic_weights(sigma, signal, noise, beta, source_condition=source_condition)
    return _filtered_inverse(finite(sigma, "sigma"), w)


# ------------------------------------------------------------------------------- learning


def _samples(**arrays: ArrayLike) -> list[NDArray[np.generic]]:
    """Sample matrices of one shape (M, k), M >= 1, as they are: no copy, no look at entries."""
    out = [np.asarray(value) for value in arrays.values()]
    for name, array in zip(arrays, out, strict=True):
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
        if array.ndim != 2:
            raise ValueError(
                f"{name} must have the shape (M, k), one row per sample and one column per "
                f"mode, got {array.shape}"
            )
        if array.shape != out[0].shape:
            shapes = " and ".join(f"{n} {a.shape}" for n, a in zip(arrays, out, strict=True))
            raise ValueError(f"samples come in pairs, but the shapes differ: {shapes}")
    if out[0].shape[0] == 0:
        raise ValueError("the training set is empty: M = 0 samples")
    return out


def _product_sums(pairs: list[tuple[NDArray, NDArray]]) -> list[Array]:
    """Sums over the samples of u * v for several pairs (u, v), reading the samples once.

    A block of rows stays in the cache while all pairs look at it; nothing of size M x k is
    allocated.
    """
    count, k = pairs[0][0].shape
    rows = max(16, 2**17 // max(k, 1))  # 1 MiB
    sums = [np.zeros(k) for _ in pairs]
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the sums
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            for total, (u, v) in zip(sums, pairs, strict=True):
                total += np.einsum("ij,ij->j", u[part], v[part], dtype=np.float64)
    if not all(np.isfinite(total).all() for total in sums):
        raise ValueError("every sample must be finite, and its square too")
    return sums


def fit_gain(x: ArrayLike, y: ArrayLike) -> Array:
    """Return the least-squares gains g_n = sum x_n y_n / sum y_n^2 over M training pairs.

    Parameters
    ----------
    x, y : array, shape (M, k)
        Coefficients of the truths and of their data, one row per sample.

    Returns
    -------
    array, shape (k,), float64
        0 where every y_n is 0.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If there is no sample, the shapes differ or are not (M, k), or an entry is not finite.

    Notes
    -----
    Reads x and y once, block by block, and allocates nothing of their size.
    Source: Theorem ``thm-sample-size`` (chapter 2).
    """
    x, y = _samples(x=x, y=y)
    top, bottom = _product_sums([(x, y), (y, y)])
    g = np.divide(top, bottom, out=np.zeros(bottom.size), where=bottom > 0)
    for n in np.flatnonzero(bottom < 1e-280):  # squares underflow: these columns once more
        column = y[:, n].astype(np.float64)
        size = np.abs(column).max()
        if size > 0:
            column /= size
            g[n] = (x[:, n] @ column) / (column @ column) / size
    return g


def fit_plug_in(x: ArrayLike, sigma: ArrayLike, noise: ArrayLike) -> Array:
    """Return the gains of :func:`mse_gain` with the signal power replaced by its estimate,
    the mean of x_n^2 over M samples; operator and noise are known.

    Parameters
    ----------
    x : array, shape (M, k)
        Coefficients of the truths, one row per sample.  Their mean is not subtracted.
    sigma : array, shape (k,)
        Singular values, at least 0.
    noise : array
        Delta_n, at least 0: one number, shape (k,), or (p, 1) for a grid.

    Returns
    -------
    array, float64
        Gains in [0, 1 / sigma_n], 0 where every x_n or sigma_n is 0.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fit_gain` and :func:`mse_gain`.

    Notes
    -----
    Source: Proposition ``prop-plug-in`` (chapter 2).
    """
    (x,) = _samples(x=x)
    (squares,) = _product_sums([(x, x)])
    return mse_gain(sigma, squares / x.shape[0], noise)


def train_gain(
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int,
    lr: float,
    batch: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool = False,
) -> tuple[Array, Array]:
    """Minimize the mean of ||g y - x||^2 over M training pairs by gradient descent in torch,
    as one would train a network whose only layer is the filter.

    Parameters
    ----------
    x, y : array, shape (M, k)
        Coefficients of the truths and of their data, one row per sample.
    steps : int
        Number of gradient steps, at least 1.
    lr : float
        Step length, 0 < lr < 1.  With all data, a step multiplies the distance to the
        minimizer by |1 - 2 lr|, the same in every mode: 1/2 arrives at once.
    batch : int, optional
        Number of pairs per step, drawn with replacement; all of them by default.  With
        batches the step length decreases linearly to lr / steps, so that the noise of the
        draws averages out; small batches need lr well below 1/2.
    seed : int
        Seed of the draws, at least 0.  They are made on the CPU: every device sees the same.
    device : str, optional
        As for :func:`advreg.device.choose`.
    progress : bool
        Print the step and the loss, about twenty times.

    Returns
    -------
    g : array, shape (k,), float64
        Trained gains, 0 where every y_n is 0.
    losses : array, shape (steps,), float64
        The mean loss before each step, over the pairs of that step.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fit_gain`, or if a parameter is out of its range.

    Notes
    -----
    The trained parameter is h_n = g_n (mean y_n^2)^(1/2), from h = 0, in double precision: the
    data are standardised first.  In h the Hessian of the loss is twice the identity; in g it
    would have the condition number of the data, max mean y_n^2 / min mean y_n^2, and the
    modes that tell an inverse problem from an easy one would not move.
    Source: Theorem ``thm-learned-gain`` (chapter 2); the minimizer is :func:`fit_gain`.
    """
    import torch

    from advreg.device import choose

    x, y = _samples(x=x, y=y)
    steps = integer(steps, "steps", 1)
    rate = number(lr, "lr", 0.0, strict=True)
    if rate >= 1:
        raise ValueError(f"lr = {rate:g} is too long: gradient descent converges for 0 < lr < 1")
    pairs = x.shape[0]
    if batch is not None and integer(batch, "batch", 1) > pairs:
        raise ValueError(f"batch = {batch} exceeds the {pairs} training pairs")
    generator = torch.Generator().manual_seed(integer(seed, "seed", 0))
    x, y = finite(x, "x"), finite(y, "y")

    scale = np.linalg.norm(y, axis=0) / math.sqrt(pairs)
    scale = np.divide(1.0, scale, out=np.zeros(scale.size), where=scale > 0)
    place = choose(device)
    truth, data = (torch.as_tensor(v, device=place) for v in (x, y * scale))
    h = torch.zeros(x.shape[1], dtype=torch.float64, device=place, requires_grad=True)
    optimizer = torch.optim.SGD([h], lr=rate)
    losses = np.zeros(steps)
    for step in range(steps):
        target, given = truth, data
        if batch is not None:
            chosen = torch.randint(pairs, (batch,), generator=generator).to(place)
            target, given = truth[chosen], data[chosen]
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = ((h * given - target) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[step] = loss.item()
        if progress and (step + 1) % max(1, steps // 20) == 0:
            print(f"step {step + 1} of {steps}: loss {losses[step]:.4g}", flush=True)
    return h.detach().cpu().numpy() * scale, losses
