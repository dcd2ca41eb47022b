"""Spectral filters under attack: box and ball adversaries, their games, and training.

Mode n of the data is y_n = sigma_n x_n + noise_n, and an adversary adds e_n.  A filter answers
with g_n (y_n + e_n); its residual without attack is r_n = g_n y_n - x_n, with mean square

    v_n = (1 - sigma_n g_n)^2 Pi_n + g_n^2 Delta_n,    Pi_n = E x_n^2,    Delta_n = E noise_n^2,

noise and signal being uncorrelated.  Three threats differ in what the adversary knows:
``"oblivious"``, e is fixed before x and the noise are drawn; ``"in mean"``, e may depend on both
(and on private randomness) and its mean square is bounded; ``"almost sure"``, e may depend on
both and is bounded with probability one.  The *box* bounds |e_n| (or the root of E e_n^2) by
delta_n in every mode, the *ball* bounds ||e||, and then delta is one number.

Two conventions hold throughout.  A mode without signal (Pi_n = 0) or without data
(sigma_n = 0) has gain 0.  Where several gains are optimal the functions of the box return the
one of largest modulus; equality up to rounding counts as equality.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import brentq, linprog

from advreg._checks import finite, integer, modes, number
from advreg.spectral import mse_gain

if TYPE_CHECKING:
    import torch

__all__ = [
    "THREATS",
    "Decoder",
    "Game",
    "almost_sure_decoder",
    "ball_game",
    "ball_in_mean",
    "ball_oblivious",
    "ball_risk",
    "box_almost_sure",
    "box_fit",
    "box_in_mean",
    "box_loss",
    "box_oblivious",
    "box_risk",
    "denoiser_penalty",
    "image_space_gain",
    "pareto_gain",
    "pnp_adversarial_gain",
    "train_gain",
]

Array = NDArray[np.float64]

THREATS = ("oblivious", "in mean", "almost sure")
"""What the adversary knows and how its budget is counted (Definition ``def-threat-models``)."""

EPS = float(np.finfo(np.float64).eps)
TIE = 1 + 16 * EPS  # numbers whose quotient is at most this are equal up to rounding


def _known(threat: str, known: tuple[str, ...] = THREATS) -> str:
    if threat not in known:
        raise ValueError(f"unknown threat {threat!r}; known are {', '.join(map(repr, known))}")
    return threat


def _inverse(sigma: Array) -> Array:
    """1 / sigma, and 0 where sigma = 0."""
    return np.divide(1.0, sigma, out=np.zeros(sigma.shape), where=sigma > 0)


def _shape(signal: Array, mean_abs: ArrayLike) -> tuple[Array, Array]:
    """E|x_n| and kappa_n = E|x_n| / sqrt(Pi_n) <= 1, which is 0 where Pi_n = 0."""
    (m,) = modes(mean_abs=mean_abs)
    root = np.sqrt(signal)
    if (m > root * (1 + 1e-10)).any():
        raise ValueError(
            "mean_abs must be at most sqrt(signal): E|x| <= sqrt(E x^2) for every law; is the "
            "signal a power (the mean of x^2)?"
        )
    m = np.minimum(m, root)
    root = np.broadcast_to(root, m.shape)
    return m, np.divide(m, root, out=np.zeros(m.shape), where=root > 0)


def _mean_square(g: Array, sigma: Array, signal: Array, noise: Array) -> Array:
    return (1 - sigma * g) ** 2 * signal + g**2 * noise


# ----------------------------------------------------------------------------- box attacks


def box_oblivious(
    sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike, noise: ArrayLike = 0.0
) -> Array:
    """Gain trained against an oblivious box adversary: training with more noise.

    g = sigma Pi / (sigma^2 Pi + Delta + delta^2), the minimizer of v + delta^2 g^2, is what noise
    of power Delta + delta^2 would have taught.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0.
    signal : array, shape (k,)
        Signal powers Pi_n = E x_n^2 of centred x_n, at least 0.
    delta : array
        Attack radius, at least 0: one number, one per mode, or shape (p, 1) for a grid.
    noise : array
        Noise powers Delta_n = E noise_n^2, at least 0; centred, uncorrelated with x_n.

    Returns
    -------
    array, float64
        The gains, of the broadcast shape; 0 where sigma or the signal is 0, and 1 / sigma where
        delta and the noise are 0.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If an entry is negative or not finite, or shapes clash.

    Notes
    -----
    Source: Theorems ``thm-box-filters`` and ``thm-box-noise`` (chapter 3).
    """
    s, p, d, n = modes(sigma=sigma, signal=signal, delta=delta, noise=noise)
    return mse_gain(s, p, n + d**2)


def box_in_mean(
    sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike, noise: ArrayLike = 0.0
) -> Array:
    r"""Gain trained against a box adversary with a budget in mean: a data-driven truncated SVD.

    Without noise, g = 1 / sigma where sigma^2 Pi >= delta^2 and 0 elsewhere.  With noise it is a
    soft-thresholded Wiener filter, with S = sigma^2 Pi + Delta

        g = [ sigma Pi / S - delta sqrt(Pi Delta) / (S sqrt(S - delta^2)) ]_+ ,

    and 0 if delta^2 >= S.  It minimizes sqrt(v) + delta |g|; with noise it is 0 exactly where
    delta >= sigma sqrt(Pi), without noise exactly where delta > sigma sqrt(Pi) or Pi = 0.

    Parameters, result, errors as for :func:`box_oblivious`; delta = 0 gives the Wiener filter.

    Notes
    -----
    Computed as sqrt(Pi) (sigma^2 Pi - delta^2)_+ / (t (sigma sqrt(Pi) t + delta sqrt(Delta)))
    with t = sqrt(S - delta^2): the same number without a difference of close ones.
    Source: Theorems ``thm-box-filters`` and ``thm-box-noise`` (chapter 3).
    """
    s, p, d, n = np.broadcast_arrays(*modes(sigma=sigma, signal=signal, delta=delta, noise=noise))
    root = s * np.sqrt(p)  # sigma sqrt(Pi), the threshold of delta
    excess = np.maximum(root - d, 0.0) * (root + d)
    t = np.sqrt(excess + n)
    bottom = t * (root * t + d * np.sqrt(n))
    soft = np.divide(np.sqrt(p) * excess, bottom, out=np.zeros(s.shape), where=bottom > 0)
    keep = (n == 0) & (root > 0) & (d <= root * TIE)
    return np.where(keep, _inverse(s), np.where(n > 0, soft, 0.0))


def box_almost_sure(
    sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike, mean_abs: ArrayLike
) -> Array:
    r"""Gain trained without noise against an almost sure box adversary, in three regimes.

    With s = delta / (sigma sqrt(Pi)) and the shape kappa = E|x| / sqrt(Pi) of the law,

        sigma g = 1                                       for s <= kappa,
        sigma g = (1 - kappa s) / (1 - 2 kappa s + s^2)   for kappa <= s <= 1 / kappa,
        sigma g = 0                                       for s >= 1 / kappa.

    It minimizes E (|r| + delta |g|)^2 for r = (sigma g - 1) x.

    Parameters
    ----------
    sigma, signal, delta
        As for :func:`box_oblivious`.
    mean_abs : array, shape (k,)
        E|x_n|, between 0 and sqrt(Pi_n).  No law has E|x| = 0 < E x^2, but the limit is allowed:
        it gives the filter of :func:`box_oblivious`.

    Returns
    -------
    array, float64
        The gains, of the broadcast shape; 0 where sigma or the signal is 0, and 1 / sigma for
        delta = 0.  If |x| is constant and s = 1, every gain in [0, 1 / sigma] is optimal, and
        the result is 1 / sigma.

    Raises
    ------
    ValueError
        If mean_abs exceeds sqrt(signal) by more than rounding; else as for
        :func:`box_oblivious`.

    Notes
    -----
    Source: Theorem ``thm-box-filters`` (chapter 3).
    """
    s, p, d, m = modes(sigma=sigma, signal=signal, delta=delta, mean_abs=mean_abs)
    _, kappa = _shape(p, m)
    return _three_regimes(s, p, d, kappa)


def _three_regimes(sigma: Array, signal: Array, delta: Array, kappa: Array) -> Array:
    sigma, signal, delta, kappa = np.broadcast_arrays(sigma, signal, delta, kappa)
    root = sigma * np.sqrt(signal)
    with np.errstate(over="ignore"):
        s = np.divide(delta, root, out=np.full(root.shape, np.inf), where=root > 0)
        s = np.minimum(s, 1e150)  # so that s^2 is finite; q is 0, or below 1e-300, anyway
        bottom = (1 - s) ** 2 + 2 * s * (1 - kappa)
    q = np.divide(1 - kappa * s, bottom, out=np.ones(s.shape), where=bottom > 0)
    q = np.where(s <= kappa * TIE, 1.0, np.clip(q, 0.0, 1.0))
    return np.where(root > 0, q, 0.0) * _inverse(sigma)


def box_risk(
    threat: str,
    g: ArrayLike,
    sigma: ArrayLike,
    signal: ArrayLike,
    delta: ArrayLike,
    noise: ArrayLike = 0.0,
) -> Array:
    """Risk per mode under a box attack, from second moments.

    ``"oblivious"``: v + delta^2 g^2.  ``"in mean"``: (sqrt(v) + delta |g|)^2.

    Parameters
    ----------
    threat : str
        ``"oblivious"`` or ``"in mean"``; ``"almost sure"`` needs the law: :func:`box_loss`.
    g : array
        Gains, broadcasting with the others.
    sigma, signal, delta, noise
        As for :func:`box_oblivious`, but of the law at test time.

    Returns
    -------
    array, float64
        Of the broadcast shape; its sum over the modes is the worst mean squared error.

    Raises
    ------
    ValueError
        As for :func:`box_oblivious`, and for another threat.

    Notes
    -----
    Source: Lemma ``lem-box-losses`` (chapter 3).
    """
    if threat == "almost sure":
        raise ValueError(
            "second moments do not determine the loss under an almost sure attack; use box_loss "
            "with samples"
        )
    _known(threat, THREATS[:2])
    gain = finite(g, "g")
    s, p, d, n, _ = modes(sigma=sigma, signal=signal, delta=delta, noise=noise, g=np.abs(gain))
    v = _mean_square(gain, s, p, n)
    if threat == "oblivious":
        return v + (d * gain) ** 2
    return (np.sqrt(v) + d * np.abs(gain)) ** 2


# ------------------------------------------------------------------- box attacks on samples


class _Samples:
    """M weighted samples of k coefficients and of their data y = sigma x + e."""

    def __init__(
        self, sigma: ArrayLike, x: ArrayLike, e: ArrayLike | None, weights: ArrayLike | None
    ):
        self.x = finite(x, "x")
        if self.x.ndim != 2 or 0 in self.x.shape:
            raise ValueError(f"x must have shape (samples, modes), got {self.x.shape}")
        count, k = self.x.shape
        self.sigma = finite(sigma, "sigma", least=0.0)
        if self.sigma.shape not in ((), (k,)):
            raise ValueError(
                f"sigma must have one entry for each of the {k} modes, got {self.sigma.shape}"
            )
        self.noiseless = e is None
        self.y = self.sigma * self.x
        if e is not None:
            e = finite(e, "e")
            if e.shape != self.x.shape:
                raise ValueError(f"e must have the shape {self.x.shape} of x, got {e.shape}")
            self.y = self.y + e
        w = np.ones(count) if weights is None else finite(weights, "weights", least=0.0)
        if w.shape not in ((count,), self.x.shape):
            raise ValueError(f"weights must have shape ({count},) or {self.x.shape}, got {w.shape}")
        w = w[:, None] if w.ndim == 1 else w
        if not (w.sum(axis=0) > 0).all():
            raise ValueError("the weights of a mode must have a positive sum")
        self.w = w / w.sum(axis=0)

    def mean(self, values: Array) -> Array:
        return (self.w * values).sum(axis=0)


def box_loss(
    threat: str,
    g: ArrayLike,
    sigma: ArrayLike,
    delta: ArrayLike,
    x: ArrayLike,
    e: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
) -> Array:
    r"""Exact adversarial loss per mode for the empirical law of samples, under a box attack.

    With r = g (sigma x + e) - x and means over the samples,

        "oblivious"     E r^2 + 2 delta |g| |E r| + delta^2 g^2,
        "in mean"       (sqrt(E r^2) + delta |g|)^2,
        "almost sure"   E (|r| + delta |g|)^2.

    Parameters
    ----------
    threat : str
        One of :data:`THREATS`.
    g : array, shape (..., k)
        Gains; leading axes are a grid.
    sigma : array, shape (k,)
        Singular values, at least 0.
    delta : array
        Attack radius, at least 0; broadcasts with `g`.
    x : array, shape (M, k)
        Samples of the coefficients.
    e : array, shape (M, k), optional
        Samples of the noise, paired with `x`; none by default.
    weights : array, shape (M,) or (M, k), optional
        Weights of the samples, at least 0; equal by default.  They make x a discrete law.

    Returns
    -------
    array, shape (..., k), float64

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If an entry is not finite (or negative, for sigma, delta, weights), or shapes clash.

    Notes
    -----
    The term |E r| of the oblivious loss vanishes for centred x and e, as in chapter 3; a finite
    sample is centred only if its mean is subtracted.
    Source: Lemma ``lem-box-losses`` (chapter 3).
    """
    data = _Samples(sigma, x, e, weights)
    gain, d = np.broadcast_arrays(
        finite(g, "g"), finite(delta, "delta", least=0.0), np.zeros(data.x.shape[1])
    )[:2]
    _known(threat)
    if gain.shape[-1] != data.x.shape[1]:
        raise ValueError(f"x has {data.x.shape[1]} modes, but g and delta have {gain.shape[-1]}")
    rows = zip(gain.reshape(-1, gain.shape[-1]), d.reshape(-1, gain.shape[-1]), strict=True)
    loss = [_loss_row(threat, data, row, radius) for row, radius in rows]
    return np.reshape(loss, gain.shape)


def _loss_row(threat: str, data: _Samples, g: Array, delta: Array) -> Array:
    r = (data.sigma * g - 1) * data.x if data.noiseless else g * data.y - data.x
    a = delta * np.abs(g)
    if threat == "oblivious":
        return data.mean(r**2) + 2 * a * np.abs(data.mean(r)) + a**2
    if threat == "in mean":
        return (np.sqrt(data.mean(r**2)) + a) ** 2
    return data.mean((np.abs(r) + a) ** 2)


def box_fit(
    threat: str,
    sigma: ArrayLike,
    delta: ArrayLike,
    x: ArrayLike,
    e: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
) -> Array:
    """Exact minimizer of :func:`box_loss`, per mode.

    The losses are convex.  In mean the minimizer has a closed form; the other two losses are
    quadratic between breakpoints (the gains g = x_i / y_i, or g = E x / E y), where the
    derivative jumps: sorting them and adding up finds the interval in which it changes sign.

    Parameters
    ----------
    threat, sigma, x, e, weights
        As for :func:`box_loss`.
    delta : array
        Attack radius, at least 0: one number, one per mode, or shape (p, 1) for a grid.

    Returns
    -------
    array, shape (..., k), float64
        The gains; negative ones occur with noise.  Among several minimizers the one of largest
        modulus; 0 where x or y vanishes on all samples.

    Raises
    ------
    TypeError, ValueError
        As for :func:`box_loss`.

    Notes
    -----
    For noise-free centred samples this agrees with :func:`box_oblivious`, :func:`box_in_mean`
    and :func:`box_almost_sure` at the powers and mean moduli of the samples.
    Source: Lemma ``lem-box-losses`` and Theorem ``thm-box-noise`` (chapter 3).
    """
    data = _Samples(sigma, x, e, weights)
    fit = {"oblivious": _fit_oblivious, "in mean": _fit_in_mean, "almost sure": _fit_almost_sure}[
        _known(threat)
    ]
    k = data.x.shape[1]
    d = np.broadcast_arrays(finite(delta, "delta", least=0.0), np.zeros(k))[0]
    if d.shape[-1] != k:
        raise ValueError(f"x has {k} modes, but delta has {d.shape[-1]}")
    return np.reshape([fit(data, radius) for radius in d.reshape(-1, k)], d.shape)


def _fit_in_mean(data: _Samples, delta: Array) -> Array:
    """Minimize sqrt(P - 2 c g + S g^2) + delta |g|."""
    power, c, s = data.mean(data.x**2), data.mean(data.x * data.y), data.mean(data.y**2)
    seen = s > 0
    centre = np.divide(c, s, out=np.zeros(s.shape), where=seen)
    rest = data.mean((data.x - centre * data.y) ** 2)  # the mean square that no gain removes
    rest = np.where(rest <= (64 * EPS) ** 2 * power, 0.0, rest)
    gap = np.maximum(np.sqrt(s) - delta, 0) * (np.sqrt(s) + delta)
    inside = seen & (gap > 0)
    step = np.divide(
        delta * np.sqrt(rest), np.sqrt(s * gap), out=np.full(s.shape, np.inf), where=inside
    )
    step[(rest == 0) & (delta <= np.sqrt(s) * TIE)] = 0.0
    return np.sign(centre) * np.maximum(np.abs(centre) - step, 0.0)


def _fit_oblivious(data: _Samples, delta: Array) -> Array:
    """Minimize E r^2 + 2 delta |g| |E r| + delta^2 g^2 for r = g y - x.

    For g of the sign of E x y the derivative is 2 (a g - n), with a different pair (a, n) before
    and beyond the gain at which E r changes sign.
    """
    c, s, x = data.mean(data.x * data.y), data.mean(data.y**2), data.mean(data.x)
    y = np.sign(c) * data.mean(data.y)
    c, sign = np.abs(c), np.sign(c)
    pull = np.where(y != 0, np.sign(y) * x, np.abs(x))  # y = 0: E r keeps the sign of -x
    turn = np.divide(x, y, out=np.full(c.shape, np.inf), where=y != 0)
    finite_turn = np.where(turn < np.inf, np.maximum(turn, 0.0), 0.0)
    a, n = s + delta**2 - 2 * delta * np.abs(y), c - delta * pull
    passed = (turn < np.inf) & (a * finite_turn - n <= 64 * EPS * (c + delta * np.abs(x)))
    a = np.where(passed, s + delta**2 + 2 * delta * np.abs(y), a)
    n = np.where(passed, c + delta * pull, n)
    g = np.divide(n, a, out=np.zeros(c.shape), where=a > 0)
    low, high = np.where(passed, finite_turn, 0.0), np.where(passed, np.inf, np.maximum(turn, 0.0))
    return sign * np.clip(g, low, high)


def _fit_almost_sure(data: _Samples, delta: Array) -> Array:
    """Minimize E (|g y - x| + delta |g|)^2; its derivative at g > 0 is 2 (a g - n)."""
    w, x = np.broadcast_arrays(data.w, data.x)
    sign = np.sign(data.mean(data.x * data.y))
    y = sign * data.y
    size = np.abs(y)
    at = np.divide(x, y, out=np.full(x.shape, np.inf), where=y != 0)  # r changes sign here
    pull = np.where(y != 0, x * np.sign(y), 0.0)
    at = np.maximum(at, 0.0)
    order = np.argsort(at, axis=0, kind="stable")
    w, size, pull, at, x = (np.take_along_axis(v, order, 0) for v in (w, size, pull, at, x))

    def running(before: Array, after: Array) -> Array:
        """Row j: the sum of `after` over the first j samples and of `before` over the rest."""
        first = np.zeros((1, before.shape[1]))
        done = np.vstack([first, np.cumsum(w * after, axis=0)])
        todo = np.vstack([np.cumsum((w * before)[::-1], axis=0)[::-1], first])
        return done + todo

    blind = -delta * np.abs(x) * (size == 0)
    a = running((size - delta) ** 2, (size + delta) ** 2)
    n = running(pull * (size - delta) + blind, pull * (size + delta) + blind)
    end = np.where(np.isfinite(at), at, 0.0)
    scale = running(*2 * [np.abs(pull) * (size + delta) + delta * np.abs(x)])[:1]
    left = a[:-1] * end - n[:-1]  # half the derivative just before the breakpoint
    passed = np.isfinite(at) & (left <= 64 * EPS * (scale + a[-1:] * end))
    j = passed.sum(axis=0)[None]
    aj, nj = np.take_along_axis(a, j, 0)[0], np.take_along_axis(n, j, 0)[0]
    edges = np.vstack([np.zeros((1, at.shape[1])), at, np.full((1, at.shape[1]), np.inf)])
    root = np.divide(nj, aj, out=np.zeros(aj.shape), where=aj > 0)
    low, high = (np.take_along_axis(edges, i, 0)[0] for i in (j, j + 1))
    return sign * np.clip(root, low, high)


# ---------------------------------------------------------------------------- ball attacks


class Game(NamedTuple):
    r"""A game against a ball adversary with a budget in mean, solved.

    Attributes
    ----------
    gain : array, shape (k,)
        The minimax gains g_n.
    value : float
        The worst mean squared error of that filter, which no filter betters.
    multiplier : float
        The multiplier lambda of the budget: the marginal price of delta^2.  The filter's norm
        is at most sqrt(lambda).  It is 0 if the budget buys everything, infinite for delta = 0.
    cut : int
        The number of modes (with signal) of which the adversary removes at most one half.
        Without noise these are the modes that keep the gain 1 / sigma_n; with noise it counts
        modes that drown in noise too, for the adversary leaves them alone.
    erased : array, shape (k,)
        The share of the signal sigma_n x_n that the optimal adversary removes from the data.
        Without noise it is the probability with which mode n is erased.

    For a vector of p radii every attribute has a leading axis of length p.
    """

    gain: Array
    value: float | Array
    multiplier: float | Array
    cut: int | NDArray[np.int64]
    erased: Array


def ball_game(sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike) -> Game:
    r"""Solve the noise-free game against E ||e||^2 <= delta^2: water-filling.

    The filter is g_n = min(1 / sigma_n, lambda sigma_n) and the value

        V = min over lambda >= 0 of  lambda delta^2 + sum_n (1 - lambda sigma_n^2)_+ Pi_n .

    The optimal adversary erases modes, those of smallest sigma_n first: 1 / lambda = sigma_k^2 for
    the mode k at which the budget runs out,
    sum_{sigma_n < sigma_k} sigma_n^2 Pi_n <= delta^2 < sum_{sigma_n <= sigma_k} sigma_n^2 Pi_n.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0, in any order, with ties if need be.
    signal : array, shape (k,)
        Signal powers Pi_n, at least 0.
    delta : float or array, shape (p,)
        Attack radius, at least 0.

    Returns
    -------
    Game
        If delta^2 is exactly the energy of the modes below a certain one, every lambda between two
        neighbouring values is optimal, and the smallest is returned; so delta^2 >= E ||A x||^2
        gives lambda = 0 and the zero filter.  A mode with Pi_n = 0 has gain 0 (beyond the cut
        lambda sigma_n would be equally minimax).  delta = 0 gives 1 / sigma_n and lambda infinite.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If an entry is negative or not finite, or shapes clash.

    Notes
    -----
    Source: Theorem ``thm-ball-game`` (chapter 3).
    """
    return ball_in_mean(sigma, signal, delta, 0.0)


def ball_in_mean(sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike, noise: ArrayLike) -> Game:
    r"""Solve the game against E ||e||^2 <= delta^2 with noise, among linear filters.

    With S = sigma^2 Pi + Delta and D = sqrt((lambda S - Pi)^2 + 4 lambda Delta Pi) per mode,

        g = 2 lambda sigma Pi / (lambda S + Pi + D),
        V = min over lambda >= 0 of  lambda delta^2 + sum_n (1 - sigma_n g_n) Pi_n ,

    and the budget fixes lambda: delta^2 = sum of 2 sigma^2 Pi^2 t / (lambda S + Pi + D), where
    t = (1 - (lambda S - Pi) / D) / 2 is the erased share.

    Parameters
    ----------
    sigma, signal, delta
        As for :func:`ball_game`.
    noise : array, shape (k,)
        Noise powers Delta_n, at least 0; centred and uncorrelated with x_n.  Zero gives
        :func:`ball_game`; zeros at some modes only are allowed.

    Returns
    -------
    Game
        With the conventions of :func:`ball_game`; delta = 0 gives the Wiener filter.

    Raises
    ------
    TypeError, ValueError
        As for :func:`ball_game`.

    Notes
    -----
    g solves sigma Pi (lambda + g^2) = (lambda S + Pi) g, which minimizes lambda v / (lambda - g^2);
    the minimum is (1 - sigma g) Pi.
    Source: Theorem ``thm-ball-noise`` (chapter 3).
    """
    s, p, n, d = _ball(sigma, signal, noise, delta)
    game = _BallGame(s, p, n)
    if d.ndim == 0:
        return game.solve(float(d))
    return Game(*(np.array(part) for part in zip(*map(game.solve, d.tolist()), strict=True)))


class _BallGame:
    """The modes of a game: those without noise are erased one after the other, at
    lambda = 1 / sigma^2; those with noise respond smoothly to lambda."""

    def __init__(self, sigma: Array, signal: Array, noise: Array):
        self.sigma, self.signal, self.noise = sigma, signal, noise
        self.energy = sigma**2 * signal
        seen = self.energy > 0
        self.noisy, self.sharp = seen & (noise > 0), seen & (noise == 0)
        self.data = self.energy + noise
        with np.errstate(divide="ignore"):
            self.jump = np.where(self.sharp, 1 / sigma**2, np.inf)

    def smooth(self, multiplier: float) -> tuple[Array, Array, Array]:
        """Gain, erased share and cost E e^2 of the modes with noise."""
        at = self.noisy
        s, p, n = self.sigma[at], self.signal[at], self.noise[at]
        top, product = multiplier * self.data[at] - p, multiplier * n * p
        d = np.hypot(top, 2 * np.sqrt(product))
        bottom = top + 2 * p + d
        # (d - top) / 2, without cancellation where top > 0
        rest = np.where(top > 0, 2 * product / (d + np.abs(top)), (d - top) / 2)
        erased = rest / d
        return 2 * multiplier * s * p / bottom, erased, 2 * (s * p) ** 2 * erased / bottom

    def multiplier(self, budget: float) -> float:
        total = float(np.sort(self.energy).sum())
        if budget >= total * (1 - 1e-12):
            return 0.0
        jumps = np.unique(self.jump[self.sharp])
        ranked = np.sort(-self.jump[self.sharp])  # the smallest sigma first
        order = np.argsort(-self.jump[self.sharp], kind="stable")
        sums = np.append(0.0, np.cumsum(self.energy[self.sharp][order]))

        def spent(multiplier: float, side: str) -> float:
            """Cost at lambda, with the modes that are erased just there (right) or without."""
            count = np.searchsorted(ranked, -multiplier, side=side)
            return float(sums[count] + self.smooth(multiplier)[2].sum())

        low, high = 0, jumps.size  # find the first jump after which the budget suffices
        while low < high:
            middle = (low + high) // 2
            if spent(jumps[middle], "left") <= budget * (1 + 1e-12):
                high = middle
            else:
                low = middle + 1
        below = float(jumps[low - 1]) if low else 0.0
        if low == jumps.size:
            above = max(below, 1 / float(self.sigma.max()) ** 2)
            while self.smooth(above)[2].sum() > budget:
                above *= 4
            return self.between(budget, below, above, 0.0)
        above = float(jumps[low])
        if not self.noisy.any() or spent(above, "right") >= budget:
            return above
        erased = np.searchsorted(ranked, -above, side="right")
        return self.between(budget, below, above, float(sums[erased]))

    def between(self, budget: float, below: float, above: float, fixed: float) -> float:
        """The root of the cost, continuous and decreasing between two jumps, in log lambda."""

        def excess(log_multiplier: float) -> float:
            cost = fixed + float(self.smooth(math.exp(log_multiplier))[2].sum())
            return math.log(cost / budget) if cost > 0 else -math.inf

        if below == 0.0:
            below = above
            while excess(math.log(below)) < 0:
                below /= 4
        a, b = math.log(below), math.log(above)
        if excess(b) >= 0:
            return above
        if excess(a) <= 0:
            return below
        return math.exp(brentq(lambda t: max(excess(t), -700.0), a, b, xtol=1e-15, rtol=4 * EPS))

    def solve(self, delta: float) -> Game:
        s, p, sharp, noisy = self.sigma, self.signal, self.sharp, self.noisy
        gain, erased, lost = np.zeros(s.shape), np.zeros(s.shape), p.copy()
        budget = delta**2
        multiplier = self.multiplier(budget) if budget > 0 else math.inf
        kept = sharp & (self.jump <= multiplier)
        if multiplier == math.inf:
            gain = mse_gain(s, p, self.noise)
            lost = (1 - s * gain) * p
            lost[sharp] = 0.0
        elif multiplier > 0:
            gain[sharp] = multiplier * s[sharp]
            gain[kept] = 1 / s[kept]
            lost[sharp] = (1 - multiplier * s[sharp] ** 2) * p[sharp]
            lost[kept] = 0.0
            erased[sharp & ~kept] = 1.0
            gain[noisy], erased[noisy], cost = self.smooth(multiplier)
            lost[noisy] = (1 - s[noisy] * gain[noisy]) * p[noisy]
            last = sharp & (self.jump == multiplier)
            if last.any():
                left = budget - cost.sum() - self.energy[sharp & ~kept].sum()
                erased[last] = np.clip(left / self.energy[last].sum(), 0.0, 1.0)
        else:
            erased[self.energy > 0] = 1.0
        erased[(s == 0) & (p > 0)] = 1.0
        value = float(lost.sum()) + (multiplier * budget if budget > 0 else 0.0)
        cut = int(np.count_nonzero(kept | (noisy & (erased <= 0.5))))
        return Game(gain, value, float(multiplier), cut, erased)


def ball_oblivious(
    sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike, noise: ArrayLike = 0.0
) -> tuple[Array, float | Array]:
    r"""Filter trained against an oblivious ball adversary: the Wiener filter, clipped.

    It minimizes sum_n v_n + delta^2 max_n g_n^2, and is g_n = min(g^mse_n, t) with
    delta^2 t = sum over g^mse_n > t of (sigma_n Pi_n - t S_n), S = sigma^2 Pi + Delta.

    Parameters
    ----------
    sigma, signal
        As for :func:`ball_game`, the coefficients being centred.
    delta : float or array, shape (p,)
        Attack radius, at least 0.
    noise : array, shape (k,)
        Noise powers, at least 0.

    Returns
    -------
    gain : array, shape (k,), or (p, k) for p radii
    level : float, or array of shape (p,)
        The level t; for delta = 0 the largest gain.

    Raises
    ------
    TypeError, ValueError
        As for :func:`ball_game`.

    Notes
    -----
    t is the largest of the quotients sum sigma Pi / (delta^2 + sum S) over the first modes in the
    order of decreasing g^mse.  Without noise the gains tend to t on the whole tail: white noise
    at test time then has infinite variance if there are infinitely many modes.
    Source: Proposition ``prop-ball-oblivious`` (chapter 3).
    """
    s, p, n, d = _ball(sigma, signal, noise, delta)
    mse = mse_gain(s, p, n)
    order = np.argsort(-mse, kind="stable")
    top, data = np.cumsum((s * p)[order]), np.cumsum((s**2 * p + n)[order])
    bottom = d[..., None] ** 2 + data
    level = np.divide(top, bottom, out=np.zeros(bottom.shape), where=bottom > 0).max(
        axis=-1, initial=0.0
    )
    return np.minimum(mse, level[..., None]), (level if d.ndim else float(level))


def _ball(
    sigma: ArrayLike, signal: ArrayLike, noise: ArrayLike, delta: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    s, p, n = np.broadcast_arrays(*modes(sigma=sigma, signal=signal, noise=noise))
    d = finite(delta, "delta", least=0.0)
    if s.ndim != 1 or d.ndim > 1:
        raise ValueError(
            "a ball attack needs sigma, signal and noise of shape (k,) and delta a number or of "
            f"shape (p,), got {s.shape} and {d.shape}"
        )
    return s, p, n, d


def ball_risk(
    g: ArrayLike,
    sigma: ArrayLike,
    signal: ArrayLike,
    delta: ArrayLike,
    noise: ArrayLike = 0.0,
) -> float | Array:
    r"""Worst mean squared error of a linear filter under E ||e||^2 <= delta^2.

    The supremum over all adversaries, equal to the infimum over lambda > max g^2 of

        lambda delta^2 + sum_n lambda v_n / (lambda - g_n^2) .

    Parameters
    ----------
    g : array, shape (k,) or (p, k)
        Gains.
    sigma, signal, noise : array, shape (k,)
        Of the law at test time.
    delta : float or array, shape (p,)
        Attack radius, at least 0.

    Returns
    -------
    float, or array of shape (p,)

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If an entry is not finite (or negative, except in g), shapes clash, or the risk
        is too large for a float (gains above about 1e150).

    Notes
    -----
    The optimal adversary plays e_n = g_n r_n / (lambda - g_n^2); where v_n = 0 for the largest
    gain and budget is left, lambda = max g^2 and the rest goes there (the "hard case" of
    trust-region problems).
    Source: Theorems ``thm-ball-game`` and ``thm-ball-noise`` (chapter 3).
    """
    s, p, n, d = _ball(sigma, signal, noise, delta)
    gain = finite(g, "g")
    if gain.ndim not in (1, 2) or gain.shape[-1] != s.size:
        raise ValueError(f"g must have shape ({s.size},) or (p, {s.size}), got {gain.shape}")
    top, radius = np.abs(gain).max(initial=0.0), d.max(initial=0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        v = _mean_square(gain, s, p, n)
        sizes = np.stack([top**2, radius**2, (top * radius) ** 2, v.sum()])
    if not np.isfinite(sizes).all():
        raise ValueError(f"the risk overflows: largest gain {top:g}, largest delta {radius:g}")
    try:
        shape = np.broadcast_shapes(gain.shape[:-1], d.shape)
    except ValueError:
        raise ValueError(f"g {gain.shape} and delta {d.shape} do not fit together") from None
    rows = (np.broadcast_to(a, (*shape, s.size)).reshape(-1, s.size) for a in (np.abs(gain), v))
    radii = np.broadcast_to(d, shape).ravel()
    worst = [_worst(*row) for row in zip(*rows, radii.tolist(), strict=True)]
    return np.reshape(worst, shape) if shape else worst[0]


def _worst(g: Array, v: Array, delta: float) -> float:
    """inf over m > 0, with lambda = max g^2 + m, of the dual function of ball_risk."""
    top = float(g.max(initial=0.0))
    total = float(v.sum())
    if delta == 0 or top == 0:
        return total
    live = v > 0  # the other modes cost nothing, and count only through max g^2
    if not live.any():
        return top**2 * delta**2
    g, v, gap = g[live], v[live], ((top - g) * (top + g))[live]

    def excess(log_m: float) -> float:
        return float(np.sum(v * (g / (math.exp(log_m) + gap)) ** 2)) - delta**2

    # At `far` the budget is spent at most, at `near` at least, rounding aside.
    far = top * math.sqrt(total) / delta
    near = max(float(np.max(g * np.sqrt(v) / delta - gap)), 1e-18 * far)
    if gap.min() > 0 and np.sum(v * (g / gap) ** 2) <= delta**2:
        m = 0.0
    elif excess(math.log(near)) <= 0:
        m = near
    else:
        m = math.exp(brentq(excess, math.log(near), math.log(far) + 1e-9))
    return (top**2 + m) * (delta**2 + float(np.sum(v / (m + gap))))


def pareto_gain(
    sigma: ArrayLike, signal: ArrayLike, noise: ArrayLike, lipschitz: ArrayLike
) -> Array:
    """The most accurate linear filter with Lipschitz constant at most L: min(g^mse, L).

    Parameters
    ----------
    sigma, signal, noise
        As for :func:`box_oblivious`.
    lipschitz : array
        L, at least 0: one number, or shape (p, 1) for a grid.

    Returns
    -------
    array, float64
        The gains, of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        As for :func:`box_oblivious`.

    Notes
    -----
    No linear map with ||R|| <= L has a smaller risk, diagonal or not, if the coefficients of
    signal and noise are uncorrelated.
    Source: Theorem ``thm-pareto-front`` (chapter 3).
    """
    s, p, n, bound = modes(sigma=sigma, signal=signal, noise=noise, lipschitz=lipschitz)
    return np.minimum(mse_gain(s, p, n), bound)


# --------------------------------------------------------- attacks on the image, denoisers


def image_space_gain(sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike) -> Array:
    """Gain trained without noise against attacks A eta on the image, E eta_n^2 <= delta^2.

    The data are attacked by e_n = sigma_n eta_n, a box in mean of radius sigma_n delta: the mode is
    kept, unregularized, if Pi_n >= delta^2, and dropped otherwise, whatever sigma_n is.

    Parameters, result, errors as for :func:`box_oblivious`.

    Notes
    -----
    Source: Proposition ``prop-image-space`` (chapter 3).
    """
    s, p, d = np.broadcast_arrays(*modes(sigma=sigma, signal=signal, delta=delta))
    return np.where((p > 0) & (d <= np.sqrt(p) * TIE), _inverse(s), 0.0)


def denoiser_penalty(signal: ArrayLike, delta: ArrayLike, mean_abs: ArrayLike) -> Array:
    r"""The penalties of which an adversarially trained denoiser is the proximal map.

    The denoiser is :func:`box_almost_sure` with sigma = 1.  It is the proximal map of
    (1/2) sum_n lambda_n x_n^2 with

        lambda_n = delta (delta - m)_+ / (Pi - delta m)_+ ,    m = E|x_n| :

    0 for delta <= m, and infinite (the constraint x_n = 0) for delta >= Pi / m.

    Parameters
    ----------
    signal, mean_abs
        As for :func:`box_almost_sure`.
    delta : array
        Attack radius of the denoiser's training, at least 0.

    Returns
    -------
    array, float64
        In [0, inf]; infinite where Pi = 0.

    Raises
    ------
    TypeError, ValueError
        As for :func:`box_almost_sure`.

    Notes
    -----
    Source: Proposition ``prop-adversarial-pnp`` (chapter 3).
    """
    p, d, m = modes(signal=signal, delta=delta, mean_abs=mean_abs)
    m, _ = _shape(p, m)
    p, d, m = np.broadcast_arrays(p, d, m)
    free = (p > 0) & (d <= m * TIE)
    with np.errstate(over="ignore"):
        top, bottom = d * np.maximum(d - m, 0.0), np.maximum(p - d * m, 0.0)
    ratio = np.divide(top, bottom, out=np.full(p.shape, np.inf), where=bottom > 0)
    return np.where(free | (p > 0) & (d == 0), 0.0, ratio)


def pnp_adversarial_gain(
    sigma: ArrayLike, signal: ArrayLike, delta: ArrayLike, mean_abs: ArrayLike
) -> Array:
    """Gain of plug-and-play with an adversarially trained denoiser, g = sigma / (sigma^2 + lambda).

    The fixed point of x <- D(x - A*(A x - y)), with the denoiser D and the penalties lambda_n of
    :func:`denoiser_penalty`.

    Parameters, result, errors as for :func:`box_almost_sure`, where delta is now the radius of
    the attack on the denoiser, in the units of x.

    Notes
    -----
    Source: Proposition ``prop-adversarial-pnp`` (chapter 3).
    """
    s, p, d, m = modes(sigma=sigma, signal=signal, delta=delta, mean_abs=mean_abs)
    s, penalty = np.broadcast_arrays(s, denoiser_penalty(p, d, m))
    bottom = s**2 + penalty
    return np.divide(s, bottom, out=np.zeros(s.shape), where=bottom > 0)


# ----------------------------------------------------------------------- nonlinear decoders


class Decoder(NamedTuple):
    """A decoder f of one coefficient, optimal for a law on a grid.

    Attributes
    ----------
    grid : array, shape (q,)
        The attainable data y = x + e.
    decoder : array, shape (q,)
        f(y).
    lower : float
        A lower bound of the least possible loss, from the linear program.
    value : float
        The loss of this f.
    """

    grid: Array
    decoder: Array
    lower: float
    value: float


def almost_sure_decoder(
    delta: float,
    x: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    *,
    spacing: float = 0.05,
    reach: float = 4.0,
    gap: float = 2e-4,
) -> Decoder:
    r"""The best decoder, linear or not, of y = x + e under an almost sure attack |e| <= delta.

    Minimizes E max over |e| <= delta of (f(x + e) - x)^2 over all functions f on a grid.  The
    problem is convex in f.  With t >= |f(y) - x| for all y in reach of x it reads: minimize
    E t^2; the parabola is replaced by tangents (a linear program, hence a lower bound), to which
    the tangents at the last solution are added until the loss of its f is within `gap`.

    Parameters
    ----------
    delta : float
        Attack radius, at least 0.
    x : array, shape (m,), optional
        Equally spaced values of the signal, increasing; delta must be a multiple of the spacing.
        Default: a grid on [-reach, reach] with a spacing that divides delta.
    weights : array, shape (m,), optional
        Their probabilities, up to a factor.  Default: the standard normal density.
    spacing : float
        Largest spacing of the default grid.
    reach : float
        End of the default grid.
    gap : float
        Stop when value - lower <= gap (or after 20 rounds).

    Returns
    -------
    Decoder
        Bounds for the law on the grid; f is odd if the law is symmetric.  Where the law has little
        weight, f is poorly determined.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If the grid is not equally spaced, delta is not a multiple of its spacing, or the linear
        program fails.

    Notes
    -----
    Source: Proposition ``prop-dead-zone`` (chapter 3).
    """
    delta = number(delta, "delta", 0.0)
    gap = number(gap, "gap", 0.0, strict=True)
    if x is None:
        step = number(spacing, "spacing", 0.0, strict=True)
        step = delta / math.ceil(delta / step - 1e-9) if delta > 0 else step
        half = math.ceil(number(reach, "reach", 0.0, strict=True) / step - 1e-9)
        values = step * np.arange(-half, half + 1)
    else:
        values = finite(x, "x")
        if values.ndim != 1 or values.size < 2 or not values[1] > values[0]:
            raise ValueError("x must be an increasing vector of at least two values")
        step = (values[-1] - values[0]) / (values.size - 1)
        if np.abs(np.diff(values) - step).max() > 1e-8 * step:
            raise ValueError("the values x must be equally spaced")
    width = round(delta / step)
    if abs(delta - width * step) > 1e-8 * step:
        raise ValueError(f"delta = {delta:g} must be a multiple of the spacing {step:g} of x")
    w = np.exp(-(values**2) / 2) if weights is None else finite(weights, "weights", least=0.0)
    if w.shape != values.shape or not w.sum() > 0:
        raise ValueError("weights must have the shape of x and a positive sum")
    return _decode(values, w / w.sum(), width, step, gap)


def _decode(x: Array, w: Array, width: int, step: float, gap: float) -> Decoder:
    m, q = x.size, x.size + 2 * width
    grid = x[0] + step * (np.arange(q) - width)
    near = np.arange(2 * width + 1)
    i, j = np.repeat(np.arange(m), near.size), (np.arange(m)[:, None] + near).ravel()
    rows, ones = np.arange(i.size), np.ones(i.size)
    # Unknowns: f (q of them), t (m), and s >= t^2 (m).
    reach = [
        sparse.coo_array(
            (np.r_[sign * ones, -ones], (np.r_[rows, rows], np.r_[j, q + i])),
            shape=(i.size, q + 2 * m),
        )
        for sign in (1, -1)
    ]
    a, b = sparse.vstack(reach).tocsr(), np.r_[x[i], -x[i]]
    cost = np.r_[np.zeros(q + m), w]
    lower, value, decoder = -math.inf, math.inf, grid
    symmetric = np.allclose(x, -x[::-1]) and np.allclose(w, w[::-1])
    at = np.linspace(0, width * step + 1.0, 12)[:, None] * np.ones(m)
    for _ in range(20):
        # tangents: s >= 2 c t - c^2
        k = np.arange(at.size)
        owner = np.tile(np.arange(m), len(at))
        tangent = sparse.coo_array(
            (
                np.r_[2 * at.ravel(), -np.ones(at.size)],
                (np.r_[k, k], np.r_[q + owner, q + m + owner]),
            ),
            shape=(at.size, q + 2 * m),
        )
        a, b = sparse.vstack([a, tangent]).tocsr(), np.r_[b, at.ravel() ** 2]
        result = linprog(
            cost,
            A_ub=a,
            b_ub=b,
            bounds=[(grid[0], grid[-1])] * q + [(0, None)] * (2 * m),
            method="highs",
        )
        if result.status != 0:
            raise ValueError(f"the linear program for the decoder failed: {result.message}")
        lower = max(lower, float(result.fun))
        f = result.x[:q]
        if symmetric:  # by convexity the odd part of f is at least as good
            f = (f - f[::-1]) / 2
        windows = np.lib.stride_tricks.sliding_window_view(f, near.size)
        worst = np.maximum(windows.max(axis=1) - x, x - windows.min(axis=1))
        loss = float(w @ worst**2)
        if loss < value:
            value, decoder = loss, f
        if value - lower <= gap:
            break
        at = worst[None]
    return Decoder(grid, decoder, lower, value)


# --------------------------------------------------------------------------------- training


def train_gain(
    sigma: ArrayLike,
    x: ArrayLike,
    *,
    threat: str,
    delta: ArrayLike,
    geometry: str = "box",
    noise: ArrayLike = 0.0,
    steps: int = 1000,
    lr: float = 0.02,
    attack_steps: int = 10,
    seed: int = 0,
    device: str | None = None,
    progress: bool = False,
) -> tuple[Array, Array]:
    r"""Adversarial training of a spectral filter by gradients, as one trains a network.

    Each step attacks all samples and takes one step of Adam on the shares q = sigma g, with the
    attack held fixed; the learning rate falls to 0 along a cosine.  In the box the attacks are the
    exact maximizers: delta sign(g E r) oblivious, delta r / sqrt(E r^2) in mean,
    delta sign(g r) almost surely.  In the ball they are found by ascent: each of `attack_steps`
    iterations replaces e by the gradient g (r + g e), scaled to the budget, starting from the
    attack of the step before.  (For a convex maximization no such iteration lowers the loss.)
    The oblivious adversary of the ball moves slowly instead, by one step of length 0.03 / max g^2:
    an adversary who jumps to the largest gain makes the training chase one mode after the other.
    Even so that case takes some thousand steps, where the others take some hundred.

    Parameters
    ----------
    sigma : array, shape (k,)
        Singular values, at least 0.
    x : array, shape (M, k)
        Training samples of the coefficients.
    threat : str
        One of :data:`THREATS`.
    delta : float or array, shape (k,)
        Attack radius; one number for the ball.
    geometry : str
        ``"box"`` or ``"ball"``.
    noise : float or array, shape (k,)
        Noise powers; fresh Gaussian noise in every step.
    steps : int
        Number of steps.
    lr : float
        First learning rate, in the units of q.
    attack_steps : int
        Iterations of the ascent in the ball.
    seed : int
        Seed of the noise and of the first attack in the ball, at least 0.  They are drawn on the
        CPU: every device sees the same.
    device : str, optional
        As for :func:`advreg.device.choose`.
    progress : bool
        Print the step and the loss, about twenty times.

    Returns
    -------
    g : array, shape (k,), float64
        The trained gains; 0 where sigma = 0.
    losses : array, shape (steps,)
        The adversarial training loss before each step.

    Raises
    ------
    TypeError
        If an input is complex or not numeric.
    ValueError
        If an entry is not finite, a number is out of range, or shapes clash.

    Notes
    -----
    At the kinks of a game the filter is poorly determined: compare losses, not filters.
    Source: Observation ``obs-training-finds`` (chapter 3).
    """
    import torch

    from advreg.device import choose

    data = _Samples(sigma, x, None, None)
    count, k = data.x.shape
    _known(threat)
    if geometry not in ("box", "ball"):
        raise ValueError(f"geometry must be 'box' or 'ball', got {geometry!r}")
    d, power = modes(delta=delta, noise=noise)
    if d.shape not in (((), (k,)) if geometry == "box" else ((),)) or power.shape not in ((), (k,)):
        raise ValueError(
            f"delta and noise must be numbers or have shape ({k},), and delta one number for the "
            f"ball; got {d.shape} and {power.shape}"
        )
    steps, tries = integer(steps, "steps", 1), integer(attack_steps, "attack_steps", 1)
    number(lr, "lr", 0.0, strict=True)
    place = choose(device)
    generator = torch.Generator().manual_seed(integer(seed, "seed", 0))

    def tensor(array: Array) -> torch.Tensor:
        return torch.as_tensor(np.array(array), dtype=torch.float64, device=place)

    def normal(rows: int) -> torch.Tensor:
        return torch.randn((rows, k), dtype=torch.float64, generator=generator).to(place)

    inverse, truth, clean, radius = map(
        tensor, (_inverse(np.broadcast_to(data.sigma, k)), data.x, data.y, d)
    )
    level = tensor(np.sqrt(power))
    q = torch.full((k,), 0.5, dtype=torch.float64, device=place, requires_grad=True)
    e = normal(1 if threat == "oblivious" else count)
    optimizer = torch.optim.Adam([q], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = np.empty(steps)
    for step in range(steps):
        y = clean + level * normal(count) if power.any() else clean
        with torch.no_grad():
            g = q * inverse
            r = g * y - truth
            if geometry == "box":
                e = _box_attack(torch, threat, g, r, radius)
            else:
                for _ in range(1 if threat == "oblivious" else tries):
                    e = _ball_attack(torch, threat, g, r, e, radius)
        loss = ((q * inverse * (y + e) - truth) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses[step] = loss.item()
        if progress and (step + 1) % max(1, steps // 20) == 0:
            print(f"step {step + 1} of {steps}: loss {losses[step]:.4g}", flush=True)
    return (q.detach() * inverse).cpu().numpy(), losses


def _box_attack(torch, threat, g, r, delta):
    """The worst attack in the box, given the gains and the residuals without attack."""
    if threat == "in mean":
        size = (r**2).mean(dim=0).sqrt()
        return torch.where(size > 0, delta * g.sign() * r / torch.where(size > 0, size, 1.0), delta)
    if threat == "oblivious":
        r = r.mean(dim=0, keepdim=True)
    return torch.where(g * r >= 0, delta, -delta)


def _ball_attack(torch, threat, g, r, e, delta):
    """One ascent step along the gradient of the loss in e, scaled to the budget."""
    if threat == "oblivious":
        rise = g * (r.mean(dim=0, keepdim=True) + g * e)
        top = (g**2).max()
        rise = e + 0.03 * torch.where(top > 0, rise / torch.where(top > 0, top, 1.0), 0.0)
    else:
        rise = g * (r + g * e)
    size = (rise**2).sum(dim=1, keepdim=True)
    if threat == "in mean":
        size = size.mean(dim=0, keepdim=True)
    return torch.where(size > 0, delta * rise / torch.where(size > 0, size, 1.0).sqrt(), e)
