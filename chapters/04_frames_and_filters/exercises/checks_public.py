"""The public checks of the exercises of chapter 4: some properties, and the known mistakes.

The oracles solve small problems densely, walk around discs, carry out attacks, or iterate; none
uses the formula that is asked for.  The checks are necessary, not sufficient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coursework.checks import Check, NotYet, answers, close, numbers, right_step


def _orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def _conditioned(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A matrix of full rank with singular values between 0.4 and 2."""
    least = min(rows, columns)
    values = rng.uniform(0.4, 2, least)
    return (_orthogonal(rng, rows)[:, :least] * values) @ _orthogonal(rng, columns)[:least]


# ----------------------------------------------------------------------------- vaguelettes

vaguelettes = Check("ex-c4-vaguelettes", "vaguelettes", rtol=1e-5)


def _must_be_vaguelettes(A: np.ndarray, u: np.ndarray, got: Any) -> None:
    v = numbers(got, (len(u), len(A)))
    close(np.linalg.norm(v, axis=1), np.ones(len(v)), "the norms of your vectors", 1e-5)
    seen = v @ A
    kappa = np.sum(seen * u, axis=1) / np.sum(u**2, axis=1)
    if not (kappa > 0).all():
        raise NotYet("A quasi-singular value <A* v, u> / |u|^2 is not positive.")
    close(seen / kappa[:, None], u, "A* v / kappa is not u", 1e-5)
    inside = (v @ np.linalg.pinv(A.T, rcond=1e-9)) @ A.T
    close(inside, v, "the part of v inside the range of A is not all of v", 1e-5)


@vaguelettes.property("A* v is a positive multiple of u, and v has norm 1", 1)
def _(ask: Callable) -> None:
    cases = [
        (_conditioned(ask.rng, n, n), _orthogonal(ask.rng, n)[:k]) for n, k in ((3, 3), (5, 4))
    ]
    for case, got in answers(ask, cases):
        _must_be_vaguelettes(*case, got)


def _integration(size: int) -> np.ndarray:
    """Integration of periodic samples: divide the k-th wave by 2 pi i k, drop the mean."""
    k = np.fft.fftfreq(size, 1 / size)
    k[0] = np.inf
    return np.fft.ifft(
        np.fft.fft(np.eye(size), axis=0) * (-1j / (2 * np.pi * k))[:, None], axis=0
    ).real


@vaguelettes.property("for integration, which loses the mean, v has mean 0", 1)
def _(ask: Callable) -> None:
    u = ask.rng.standard_normal((3, 9))
    u -= u.mean(axis=1, keepdims=True)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    A = _integration(9)
    _must_be_vaguelettes(A, u, ask(A, u))


def _unit_rows(v):
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@vaguelettes.mistake(
    "You send u *forward* through A: that gives v only for singular functions. The equation is "
    "A* v = kappa u, so A* must be inverted"
)
def goes_forward(A, u):
    return _unit_rows(u @ A.T)


@vaguelettes.mistake("You invert A; it is the adjoint of A that maps v to a multiple of u")
def forgets_the_adjoint(A, u):
    return _unit_rows(u @ np.linalg.pinv(A, rcond=1e-9).T)


@vaguelettes.mistake("A* v = u is solved, but v is to have norm 1: that is what fixes kappa")
def forgets_to_normalize(A, u):
    return u @ np.linalg.pinv(A, rcond=1e-9)


# -------------------------------------------------------------------- energy of the derivative

difference_energy = Check("ex-c4-difference-energy", "difference_energy", ("growth",))
GROWTH = {"haar": "doubles", "db2": "constant steps", "db3": "converges"}
WRONG_GROWTH = {
    "haar": "Haar's function jumps, and across a jump the difference is 1 at every step: over 4^-j "
    "times a set of length 2^-j.",
    "db2": "Continuous is not enough. Measure the increments of db2 from level to level: do they "
    "shrink?",
    "db3": "Measure the increments of db3: each is a fraction of the one before.",
}


def _four_taps(angle: float) -> np.ndarray:
    """One of all the orthonormal scaling filters with four taps."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([1 - c + s, 1 + c + s, 1 + c - s, 1 - c - s]) / 8**0.5


def _energy(h: np.ndarray, level: int) -> float:
    """By the refinement equation of the autocorrelation: r(t) = sum a_m r(2 t - m)."""
    reach, a = len(h) - 1, np.correlate(h, h, "full")

    def r(top: int, depth: int) -> float:  # at the place top / 2^depth
        if depth == 0:
            return float(top == 0)
        if abs(top) >= reach << depth:
            return 0.0
        if (top, depth) not in known:
            known[top, depth] = sum(
                a[m + reach] * r(top - (m << (depth - 1)), depth - 1)
                for m in range(-reach, reach + 1)
            )
        return known[top, depth]

    known: dict[tuple[int, int], float] = {}
    return 2 * 4**level * (r(0, level) - r(1, level))


@difference_energy.property("for four taps it is what the autocorrelation says", 1)
def _(ask: Callable, growth: Any) -> None:
    cases = [(_four_taps(ask.rng.uniform(0.6, 1.4)), level) for level in (1, 2, 3, 5)]
    for (h, level), got in answers(ask, cases):
        close(got, _energy(h, level), f"the energy at level {level}", 1e-6)


@difference_energy.property(
    "the growth is predicted, and the energies of Haar and of another are right", 1
)
def _(ask: Callable, growth: Any) -> None:
    # zeros behind the filter change nothing
    haar = [np.pad([0.5**0.5, 0.5**0.5], (0, n)) for n in (0, *ask.rng.integers(0, 3, 2))]
    levels = (1, int(ask.rng.integers(2, 5)), int(ask.rng.integers(5, 8)))
    cases = [*zip(haar, levels, strict=True), (_four_taps(ask.rng.uniform(0.6, 1.4)), 2)]
    for (h, level), got in answers(ask, cases):
        want = _energy(h, level) if h.size == 4 and h[-1] else 2.0 * 2**level
        close(got, want, f"the energy of the filter {np.round(h, 2).tolist()}, level {level}", 1e-6)
    if not isinstance(growth, dict) or set(growth) != set(GROWTH):
        raise NotYet(f"`growth` should be a dict with the keys {', '.join(GROWTH)}.")
    if any(not isinstance(v, str) or v not in GROWTH.values() for v in growth.values()):
        raise NotYet(f"Every prediction is one of: {', '.join(GROWTH.values())}.")
    for name, right in GROWTH.items():
        if growth[name] != right:
            raise NotYet(WRONG_GROWTH[name])


def _cascade(h, level):
    c = np.ones(1)
    for _ in range(level):
        spread = np.zeros(2 * len(c) - 1)
        spread[::2] = c
        c = np.convolve(spread, h)
    return c


@difference_energy.mistake(
    "You divide the squared differences by the step; the difference *quotient* is squared, and so "
    "is the step in it"
)
def divides_once(h, level):
    return 2.0**level * np.sum(np.diff(_cascade(h, level), prepend=0, append=0) ** 2)


@difference_energy.mistake(
    "The function also rises from 0 at its left end and falls to 0 at its right end: two "
    "differences are missing"
)
def forgets_the_ends(h, level):
    return 4.0**level * np.sum(np.diff(_cascade(h, level)) ** 2)


@difference_energy.mistake("You are one level short")
def stops_early(h, level):
    return 4.0 ** (level - 1) * np.sum(np.diff(_cascade(h, level - 1), prepend=0, append=0) ** 2)


@difference_energy.mistake(
    "You are a factor 2^level too large: either the filter has the sum 2 instead of the root of 2, "
    "or you sum over samples of the function and forget the length of a cell"
)
def takes_sum_two(h, level):
    c = _cascade(np.sqrt(2) * np.asarray(h), level)
    return 4.0**level * np.sum(np.diff(c, prepend=0, append=0) ** 2)


# ----------------------------------------------------------- more vectors, a broken proof

broken_union = Check("ex-c4-broken-union", "union_example", ("union_step",), rtol=1e-5)

UNION_STEPS = {
    1: "Step 1 is right: every basis gives |x|^2, so together the vectors form a tight frame with "
    "bound 2, and a tight frame is its own dual, up to this factor.",
    2: "Step 2 is right: the half of the dual frame and the factor 2 cancel.",
    3: "Step 3 is right: that is how decoupled gains are learned, each from its own coefficient.",
    5: "Step 5 is right if step 4 is: it exchanges the names of the bases.",
}


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _bases(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two orthonormal bases, rows, no vector of the one close to a vector of the other."""
    first = _orthogonal(rng, size)
    if size == 2:
        # a rotation, because the rows of a reflection of the plane are its columns; and by an
        # angle for which the columns are not those of the other basis
        first, turn = _turn(rng.uniform(0.9, 1.1)), _turn(rng.uniform(0.6, 0.8))
    else:  # a reflection that spreads every vector over all of the others
        turn = np.eye(size) - 2 / size
        if size == 4:
            turn = turn @ np.diag([1.0, -1, 1, -1])
    return first, turn @ first


def _risks(C: np.ndarray, bases: tuple, noise: float) -> tuple[float, float, float]:
    """Risk of the learned gains of either basis, and of the decoupled gains of the union."""
    maps = []
    for rows in bases:
        power = np.einsum("ij,jk,ik->i", rows, C, rows)
        maps.append((rows.T * (power / (power + noise))) @ rows)
    maps.append(sum(maps) / 2)
    left = [np.eye(len(C)) - R for R in maps]
    return tuple(
        np.trace(B @ C @ B.T) + noise * np.trace(R @ R.T) for B, R in zip(left, maps, strict=True)
    )


def _must_hurt(ask: Callable, cases: list[tuple]) -> None:
    for (first, second, noise), got in answers(ask, cases):
        size = len(first)
        C = numbers(got, (size, size))
        close(C, C.T, "the covariance is not symmetric", 1e-5)
        close(np.trace(C), 1.0, "the trace of the covariance is not 1", 1e-5)
        if not np.linalg.eigvalsh((C + C.T) / 2)[0] > -1e-6:
            raise NotYet("A covariance has no negative eigenvalue.")
        one, two, both = _risks(C, (first, second), noise)
        if not both > 1.2 * min(one, two):
            raise NotYet(
                f"With {size} vectors in a basis and the noise {noise:.2g} the risks are {one:.3g} "
                f"and {two:.3g}, and {both:.3g} for the union: not 20 % above the better one."
            )


@broken_union.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, UNION_STEPS)


@broken_union.property("the step is right, and in the plane the union is 20 % worse", 2)
def _(ask: Callable, step: Any) -> None:
    _must_hurt(ask, [(*_bases(ask.rng, 2), ask.rng.uniform(0.005, 0.02)) for _ in range(3)])
    right_step(step, 4, UNION_STEPS)


@broken_union.mistake(
    "For a white signal all bases are alike, and so are both reconstructions: their mean costs "
    "nothing"
)
def takes_white(first, second, noise):
    return np.eye(len(first)) / len(first)


@broken_union.mistake(
    "Your signal lies along a *column*; the vectors of the bases are the rows of the arrays"
)
def takes_a_column(first, second, noise):
    return np.outer(first[:, 0], first[:, 0])


@broken_union.mistake(
    "A signal made of one vector of each basis in equal parts suits neither basis: there the mean "
    "is as good as it gets"
)
def mixes_both(first, second, noise):
    return (np.outer(first[0], first[0]) + np.outer(second[0], second[0])) / 2


# ------------------------------------------------------------ gains when noise knows the signal

correlated_gains = Check("ex-c4-correlated-noise", "correlated_gains", rtol=1e-5)


def _correlated(rng: np.random.Generator, size: int, sign: float) -> tuple[tuple, np.ndarray]:
    """A question, and samples of (x, e) whose second moments are exactly those of the question."""
    u, v = (
        _orthogonal(rng, size),
        _unit_rows(np.eye(size) + 0.25 * rng.standard_normal((size,) * 2)),
    )
    x, fresh = rng.standard_normal((2, size, 3 * size)) / np.sqrt(3 * size)
    e = 0.5 * fresh + sign * rng.uniform(0.2, 0.4) * x
    kappa = rng.uniform(0.5, 1.5, size)
    return (kappa, u, v, x @ x.T, e @ e.T, x @ e.T), np.stack([x, e])


def _must_be_best(question: tuple, samples: np.ndarray, got: Any) -> None:
    """The risk is a parabola in every gain; three values give its minimum."""
    kappa, u, v = question[:3]
    x, e = samples
    y = np.linalg.solve(v, kappa[:, None] * (u @ x)) + e  # A from A* v = kappa u
    g = numbers(got, kappa.shape)

    def risk(gains: np.ndarray) -> float:
        return float(np.sum((u.T @ (gains[:, None] * (v @ y)) - x) ** 2))

    best = []
    for unit in np.eye(len(g)):
        low, middle, high = (risk(step * unit) for step in (-1, 0, 1))
        best.append((low - high) / (2 * (low + high - 2 * middle)))
    close(g, np.array(best), "the gains that minimize the risk", 1e-6)


@correlated_gains.property("no gain can be changed without raising the risk", 2)
def _(ask: Callable) -> None:
    drawn = [_correlated(ask.rng, size, sign) for size, sign in ((2, 1.0), (4, -1.0))]
    asked = answers(ask, [question for question, _ in drawn])
    for (question, got), (_, samples) in zip(asked, drawn, strict=True):
        _must_be_best(question, samples, got)


def _moments(kappa, u, v, signal, noise, cross):
    parts = ((u, signal, u), (v, noise, v), (u, cross, v))
    return [np.einsum("ij,jk,ik->i", *part) for part in parts]


@correlated_gains.mistake(
    "You take the noise for uncorrelated with the signal; here E x_lambda e_lambda is not 0"
)
def ignores_the_correlation(kappa, u, v, signal, noise, cross):
    P, D, _ = _moments(kappa, u, v, signal, noise, cross)
    return kappa * P / (kappa**2 * P + D)


@correlated_gains.mistake(
    "The correlation enters the power of the datum, too: E (kappa x + e)^2 has a product term"
)
def corrects_the_numerator_only(kappa, u, v, signal, noise, cross):
    P, D, G = _moments(kappa, u, v, signal, noise, cross)
    return (kappa * P + G) / (kappa**2 * P + D)


@correlated_gains.mistake("The product term of a square has the factor 2")
def forgets_the_two(kappa, u, v, signal, noise, cross):
    P, D, G = _moments(kappa, u, v, signal, noise, cross)
    return (kappa * P + G) / (kappa**2 * P + kappa * G + D)


@correlated_gains.mistake("The correlation has the wrong sign in your formula")
def turns_the_sign(kappa, u, v, signal, noise, cross):
    P, D, G = _moments(kappa, u, v, signal, noise, cross)
    return (kappa * P - G) / (kappa**2 * P - 2 * kappa * G + D)


# ------------------------------------------------------------------- prediction-error filters

denoising_taps = Check("ex-c4-prediction-filter", "denoising_taps", ("zero_sum",), rtol=1e-5)
PROCESSES = {
    "AR(1)": [0.7],
    "alternating": [-0.9],
    "AR(2)": [0.5, 0.3],
    "random walk": [1.0],
    "integrated walk": [2.0, -1.0],
    "resonance": [1.0, -1.0],
    "seasonal": [0.0, 0.0, 0.0, 1.0],
}
ZERO_SUM = {name: bool(abs(1 - sum(a)) < 1e-12) for name, a in PROCESSES.items()}
WRONG_SUM = {
    True: "The power at frequency 0 is finite: a filter that vanishes there would let the noise of "
    "that frequency pass unchanged. Zero mean is no law.",
    False: "The power at frequency 0 is infinite: any penalty on the mean costs too much.",
}
ALL_ZERO = "Predicting zero sum for every process makes a law of what is inherited from the data."


def _excess(a: Any, innovation: float, noise: float, k: np.ndarray, size: int = 96) -> tuple:
    """Mean risk of the quadratic denoiser on a grid, and the least one, that of Wiener."""
    h = np.abs(np.fft.fft(np.concatenate([[1.0], -np.asarray(a, float)]), size)) ** 2
    penalty = np.abs(np.fft.fft(k, size)) ** 2
    white = np.maximum(h / innovation**2, 1e-22)  # one over the power; a pole stays finite
    risk = (penalty**2 / white + noise**2) / (1 + penalty) ** 2
    return risk.mean(), (noise**2 / (1 + white * noise**2)).mean()


def _must_denoise(ask: Callable, cases: list[tuple]) -> None:
    for (a, innovation, noise, taps), got in answers(ask, cases):
        risk, least = _excess(a, innovation, noise, numbers(got, (taps,)))
        name = f"coefficients {np.round(a, 2).tolist()}, {taps} taps: the risk"
        close(min(risk, 1e9), least, name, 1e-5)


def _stable(rng: np.random.Generator, order: int) -> np.ndarray:
    """Coefficients of a process whose poles are well inside the circle."""
    return -np.poly(rng.uniform(0.3, 0.8, order) * rng.choice([-1, 1], order))[1:]


@denoising_taps.property("with enough taps the risk is Wiener's", 2)
def _(ask: Callable, zero_sum: Any) -> None:
    rng = ask.rng
    cases = [(_stable(rng, p), rng.uniform(0.6, 0.9), rng.uniform(0.3, 0.5), p + 1) for p in (1, 2)]
    _must_denoise(ask, [*cases, (*cases[0][:3], 5)])


@denoising_taps.property("the sums are predicted, and taps for two processes are right", 1)
def _(ask: Callable, zero_sum: Any) -> None:
    walk, other = ((a, ask.rng.uniform(0.6, 0.9), 0.4, 2) for a in (np.ones(1), np.full(1, -0.5)))
    _must_denoise(ask, [walk, other])
    if not isinstance(zero_sum, dict) or set(zero_sum) != set(ZERO_SUM):
        raise NotYet(f"`zero_sum` should be a dict with the keys {', '.join(ZERO_SUM)}.")
    if any(not isinstance(value, (bool, np.bool_)) for value in zero_sum.values()):
        raise NotYet("Every prediction should be True or False.")
    if all(zero_sum.values()):
        raise NotYet(ALL_ZERO)
    for name, right in ZERO_SUM.items():
        if bool(zero_sum[name]) != right:
            raise NotYet(f"{name}: {WRONG_SUM[bool(zero_sum[name])]}")


def _padded(h, taps):
    return np.pad(h, (0, taps - len(h)))


@denoising_taps.mistake(
    "You demand that the taps sum to zero; a process whose power at frequency 0 is finite has no "
    "use for that, and it costs risk"
)
def demands_zero_sum(a, innovation, noise, taps):
    h = np.r_[1.0, -np.asarray(a)]
    return _padded(noise / innovation * (h - h.mean()), taps)


@denoising_taps.mistake("[1, -1] belongs to the random walk; other processes have other taps")
def takes_the_walk(a, innovation, noise, taps):
    return _padded(noise / innovation * np.array([1.0, -1.0]), taps)


@denoising_taps.mistake(
    "The shape is right, the size is not: the filter says how strongly to regularize, and that "
    "depends on the noise and on the innovations"
)
def forgets_the_size(a, innovation, noise, taps):
    return _padded(np.r_[1.0, -np.asarray(a)], taps)


@denoising_taps.mistake("Your factor is upside down: more noise asks for a larger penalty")
def inverts_the_size(a, innovation, noise, taps):
    return _padded(innovation / noise * np.r_[1.0, -np.asarray(a)], taps)


@denoising_taps.mistake(
    "Your factor is squared: noise enters as a power, but so does the filter, as |k^|^2"
)
def squares_the_size(a, innovation, noise, taps):
    return _padded((noise / innovation) ** 2 * np.r_[1.0, -np.asarray(a)], taps)


@denoising_taps.mistake("The prediction is to be *subtracted*: the signs of the coefficients")
def adds_the_prediction(a, innovation, noise, taps):
    return _padded(noise / innovation * np.r_[1.0, np.asarray(a)], taps)


# -------------------------------------------------------------------------- flipping of zeros

same_spectrum = Check("ex-c4-flipped-zeros", "same_spectrum", rtol=1e-5)


def _polynomial(rng: np.random.Generator, real: int, pairs: int) -> np.ndarray:
    """A filter with so many real zeros and complex pairs, all apart from each other."""
    size = np.linspace(0.3, 0.75, real + pairs) + rng.uniform(-0.02, 0.02, real + pairs)
    size = np.where(rng.random(size.size) < 0.5, size, 1 / size)
    angle = np.linspace(0.7, 2.4, max(pairs, 2))[:pairs]
    upper = size[real:] * np.exp(1j * angle)
    zeros = np.concatenate([size[:real] * rng.choice([-1, 1], real), upper, upper.conj()])
    k = np.poly(zeros).real
    return rng.choice([-1, 1]) * rng.uniform(0.5, 2) * k / np.linalg.norm(k)


def _must_be_all(k: np.ndarray, got: Any, count: int) -> None:
    try:
        rows = len(got)
    except Exception:
        rows = 1
    found = numbers(got, (min(rows, 64), len(k)))  # more than there are zeros to flip
    want = np.abs(np.fft.fft(k, 64)) ** 2
    for row in found:
        close(np.abs(np.fft.fft(row, 64)) ** 2, want, "the spectrum of one of your filters", 1e-6)
    apart = [
        min(np.abs(a - b).max(), np.abs(a + b).max())
        for i, a in enumerate(found)
        for b in found[:i]
    ]
    if apart and min(apart) < 1e-5:
        raise NotYet("Two of your filters agree up to the sign.")
    if len(found) != count:
        raise NotYet(f"You found {len(found)} filters for {k.size} taps; there are {count}.")


@same_spectrum.property("three taps with two real zeros: four filters", 1)
def _(ask: Callable) -> None:
    cases = [(_polynomial(ask.rng, 2, 0),), (_polynomial(ask.rng, 1, 0),)]
    for ((k,), got), count in zip(answers(ask, cases), (4, 2), strict=True):
        _must_be_all(k, got, count)


@same_spectrum.property("four taps with a complex pair: real filters still", 1)
def _(ask: Callable) -> None:
    k = _polynomial(ask.rng, 1, 1)
    _must_be_all(k, ask(k), 4)


@same_spectrum.mistake(
    "Reversing the taps flips all zeros at once; they can be flipped one by one, too"
)
def only_reverses(k):
    return np.stack([k, k[::-1]])


def _flips(zeros):
    for mask in range(2 ** len(zeros)):
        flip = np.array([bool(mask >> i & 1) for i in range(len(zeros))])
        yield np.where(flip, 1 / np.conj(zeros), zeros)


@same_spectrum.mistake(
    "Flipping a zero changes the size of the filter: the spectrum keeps its shape, but not its "
    "height. Rescale"
)
def forgets_to_rescale(k):
    zeros = np.roots(k)
    upper = zeros[zeros.imag >= 0]
    return np.array([k[0] * np.poly(np.r_[z, z[z.imag > 0].conj()]).real for z in _flips(upper)])


@same_spectrum.mistake(
    "You flip one zero of a complex pair alone: such a filter is complex, and its real part has "
    "another spectrum. Flip both"
)
def splits_pairs(k):
    found = [np.poly(z) for z in _flips(np.roots(k))]
    return np.array([np.linalg.norm(k) / np.linalg.norm(h) * h.real for h in found])


# ------------------------------------------------------------------------------------ offsets

mean_shift = Check("ex-c4-offset-bias", "mean_shift", ("limit",))
FILTER_SUMS = (0.2, -0.1)
WRONG_LIMITS = {
    -0.1: "The two sums have different signs, but so have the arguments of phi'. Which sign has "
    "the product S phi'(S c)?",
    0.3: "The sign: the penalty pulls a large positive offset down.",
    0.1: "The sign: the penalty pulls a large positive offset down, and each filter pulls.",
}


def _matrix(k: np.ndarray, size: int) -> np.ndarray:
    """The circular convolution with k."""
    return sum(c * np.roll(np.eye(size), m, axis=0) for m, c in enumerate(k))


def _datum(x: np.ndarray, filters: np.ndarray, slope: Callable) -> np.ndarray:
    """The datum of which x is the minimizer: the optimality condition, solved for y."""
    maps = [_matrix(k, x.size) for k in filters]
    return x + sum(K.T @ slope(K @ x) for K in maps)


POTENTIALS: dict[str, Callable] = {
    "smoothed absolute value": lambda t: t / np.hypot(t, 0.05),
    "square": lambda t: np.array(t, float),
    "logarithm of the hyperbolic cosine": np.tanh,
    "fourth power": lambda t: 4 * t**3,
}


def _shifted(rng: np.random.Generator, size: int, shape: tuple[int, int]) -> tuple:
    """A signal with an offset, and filters that do not sum to 0."""
    filters = rng.uniform(-0.5, 0.5, shape)
    signs = rng.choice([-1, 1]) * (-1.0) ** np.arange(shape[0])  # both occur
    filters += (signs * rng.uniform(0.2, 0.4, shape[0]) - filters.sum(axis=1))[:, None] / shape[1]
    return rng.standard_normal(size) + rng.uniform(0.5, 1), filters


def _must_shift(ask: Callable, cases: list[tuple]) -> None:
    for (x, filters, slope), got in answers(ask, cases):
        want = np.mean(x - _datum(x, filters, slope))
        close(got, want, f"{x.size} samples, {len(filters)} filters: the mean of x - y", 1e-6)


@mean_shift.property("the datum, computed back from the minimizer, has this mean", 2)
def _(ask: Callable, limit: Any) -> None:
    slopes = list(POTENTIALS.values())[:2]
    _must_shift(
        ask,
        [
            (*_shifted(ask.rng, n, (j, 3)), f)
            for n, j, f in zip((8, 5), (1, 2), slopes, strict=True)
        ],
    )


@mean_shift.property("the limit is right, and so is a finite offset", 1)
def _(ask: Callable, limit: Any) -> None:
    x, filters = _shifted(ask.rng, 6, (2, 2))
    _must_shift(ask, [(x + c, filters, np.tanh) for c in (-2.0, 3.0)])
    value = float(numbers(limit, ()))
    if not abs(value + 0.3) < 1e-3:
        raise NotYet(
            next(
                (why for v, why in WRONG_LIMITS.items() if abs(value - v) < 1e-3),
                f"`limit` = {value:.3g}: what is phi' far from 0, and how often is each filter?",
            )
        )


@mean_shift.mistake("The sign: the optimality condition is x - y = *minus* the pull of the penalty")
def turns_the_sign_of_the_pull(x, filters, slope):
    return np.mean(_datum(x, filters, slope) - x)


@mean_shift.mistake("This is the sum over the samples; the mean is asked for")
def takes_the_sum(x, filters, slope):
    return np.sum(x - _datum(x, filters, slope))


@mean_shift.mistake(
    "Each filter comes back through its adjoint, and the sum of K* r is not the sum of r: try a "
    "filter of one tap"
)
def forgets_the_sums(x, filters, slope):
    return -sum(slope(_matrix(k, x.size) @ x).mean() for k in filters)


# -------------------------------------------------------------------------------- certificate

loss_interval = Check("ex-c4-certificate", "loss_interval")


def _disc(x: np.ndarray, target: np.ndarray, radius: float) -> np.ndarray:
    """Least and largest loss over a disc in the plane, by walking around it and across it."""
    angle = 2 * np.pi * np.arange(3600) / 3600
    toward = np.arctan2(*(target - x)[::-1])  # so that the walk meets the extremes
    circle = np.stack([np.cos(angle + toward), np.sin(angle + toward)], axis=1)
    points = x + (np.linspace(0, 1, 2001)[:, None, None] * radius * circle[[0, 1800]]).reshape(
        -1, 2
    )
    points = np.vstack([points, x + radius * circle])
    if np.linalg.norm(target - x) <= radius:
        points = np.vstack([points, target])
    loss = ((points - target) ** 2).sum(axis=1) / 2
    return np.array([loss.min(), loss.max()])


def _approximate(rng: np.random.Generator, ratio: float) -> tuple:
    """x, the target, and a gradient that is `ratio` times as long as their distance."""
    x, target, gradient = rng.standard_normal((3, 2))
    x += np.sign(x - target) * 0.2  # never too close
    gradient *= ratio * np.linalg.norm(x - target) / np.linalg.norm(gradient)
    return x, target, gradient


@loss_interval.property("in the plane it is the range of the loss over all possible minimizers", 1)
def _(ask: Callable) -> None:
    cases = [_approximate(ask.rng, ask.rng.uniform(a, 1.5 * a)) for a in (0.05, 0.3, 0.5)]
    for case, got in answers(ask, cases):
        want = _disc(*case[:2], np.linalg.norm(case[2]))
        close(got, want, "the interval", 1e-5)


@loss_interval.property("when the target may be the minimizer, the loss may be 0", 1)
def _(ask: Callable) -> None:
    cases = [_approximate(ask.rng, ask.rng.uniform(1.3, 2.5)) for _ in range(2)]
    for case, got in answers(ask, cases):
        close(got, _disc(*case[:2], np.linalg.norm(case[2])), "the interval", 1e-5)


def _sizes(x, target, gradient):
    return np.linalg.norm(x - target), np.linalg.norm(gradient)


@loss_interval.mistake(
    "If the target lies within reach of x, the loss may be 0: a negative r - g must not be squared"
)
def squares_the_negative(x, target, gradient):
    r, g = _sizes(x, target, gradient)
    return np.array([(r - g) ** 2, (r + g) ** 2]) / 2


@loss_interval.mistake(
    "The square of the gradient bounds the *objective*; the loss changes in first order"
)
def bounds_the_objective(x, target, gradient):
    r, g = _sizes(x, target, gradient)
    return np.array([max(r**2 - g**2, 0), r**2 + g**2]) / 2


@loss_interval.mistake(
    "You keep the first order only: near the target the second is not small, and the interval "
    "misses losses that occur"
)
def keeps_the_first_order(x, target, gradient):
    r, g = _sizes(x, target, gradient)
    return np.array([max(r**2 / 2 - r * g, 0), r**2 / 2 + r * g])


@loss_interval.mistake("The loss has the factor 1/2")
def forgets_the_half(x, target, gradient):
    r, g = _sizes(x, target, gradient)
    return np.array([max(r - g, 0) ** 2, (r + g) ** 2])


# -------------------------------------------------------------------------- implicit gradient

filter_gradient = Check("ex-c4-implicit-gradient", "filter_gradient", rtol=1e-4)
NU = 0.3


def _minimizer(y: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Newton's method with halved steps, on the dense matrix."""
    K, x = _matrix(k, y.size), y.copy()

    def objective(x: np.ndarray) -> float:
        return ((x - y) ** 2).sum() / 2 + np.hypot(K @ x, NU).sum()

    for _ in range(60):
        root = np.hypot(K @ x, NU)
        gradient = x - y + K.T @ (K @ x / root)
        if np.linalg.norm(gradient) < 1e-13 * max(np.linalg.norm(y), 1):
            break
        step = np.linalg.solve(np.eye(y.size) + (K.T * (NU**2 / root**3)) @ K, gradient)
        size = 1.0
        while size > 1e-6 and objective(x - size * step) > objective(x) + 1e-12:
            size /= 2
        x = x - size * step
    return x


def _differences(k: np.ndarray, y: np.ndarray, target: np.ndarray) -> np.ndarray:
    def loss(taps: np.ndarray) -> float:
        return ((_minimizer(y, taps) - target) ** 2).sum() / 2

    return np.array(
        [(loss(k + 1e-4 * unit) - loss(k - 1e-4 * unit)) / 2e-4 for unit in np.eye(k.size)]
    )


def _noisy(rng: np.random.Generator, size: int, taps: int) -> tuple:
    target = np.repeat(rng.standard_normal(2), [size // 2, size - size // 2])
    return (
        rng.uniform(0.2, 0.7, taps) * rng.choice([-1, 1], taps),
        (target + 0.4 * rng.standard_normal(size)),
        target,
    )


def _must_differentiate(ask: Callable, cases: list[tuple]) -> None:
    for case, got in answers(ask, cases):
        name = f"{case[1].size} samples, {case[0].size} taps: the gradient"
        close(got, _differences(*case), name, 1e-4)


@filter_gradient.property("finite differences agree: a scalar", 1)
def _(ask: Callable) -> None:
    """One sample, one tap: every part of the formula is a number."""
    cases = []
    for _ in range(3):
        y, k = ask.rng.uniform(0.5, 2), ask.rng.uniform(0.4, 1)
        cases.append((np.array([k]), np.array([y]), np.array([ask.rng.uniform(-1, 0.3)])))
    _must_differentiate(ask, cases)


@filter_gradient.property(
    "finite differences agree: signals of seven samples, two and three taps", 1
)
def _(ask: Callable) -> None:
    _must_differentiate(ask, [_noisy(ask.rng, 7, taps) for taps in (2, 3)])


def _parts(k, y, target):
    x = _minimizer(y, k)
    K, n = _matrix(k, y.size), y.size
    z, P = K @ x, [np.roll(np.eye(n), m, axis=0) for m in range(len(k))]
    root = np.hypot(z, NU)
    first = np.array([p.T @ (z / root) for p in P])
    second = np.array([K.T @ (NU**2 / root**3 * (p @ x)) for p in P])
    return first, second, np.eye(n) + (K.T * (NU**2 / root**3)) @ K, x - target


@filter_gradient.mistake(
    "A term is missing: k stands in the adjoint K* as well, and K*' phi'(K x) is its derivative"
)
def forgets_the_adjoint_of_k(k, y, target):
    _, second, H, r = _parts(k, y, target)
    return -second @ np.linalg.solve(H, r)


@filter_gradient.mistake(
    "A term is missing: k stands in the argument of phi' as well, which brings phi''"
)
def forgets_the_curvature_term(k, y, target):
    first, _, H, r = _parts(k, y, target)
    return -first @ np.linalg.solve(H, r)


@filter_gradient.mistake("You multiply by the Hessian; the implicit function theorem inverts it")
def multiplies_by_h(k, y, target):
    first, second, H, r = _parts(k, y, target)
    return -(first + second) @ (H @ r)


@filter_gradient.mistake(
    "The Hessian is missing: this is the derivative after a single gradient step from the solution"
)
def forgets_h(k, y, target):
    first, second, _, r = _parts(k, y, target)
    return -(first + second) @ r


@filter_gradient.mistake("The sign: H dx = *minus* the derivative of the optimality condition")
def turns_the_sign_of_dx(k, y, target):
    return -_differences(k, y, target)


# ---------------------------------------------------- nonexpansive, a broken proof

broken_prox = Check("ex-c4-broken-nonexpansive", "attack_matters", ("prox_step",))

PROX_STEPS = {
    1: "Step 1 is right: a proximal map is nonexpansive, whatever the filters are.",
    2: "Step 2 is right: the triangle inequality.",
    3: "Step 3 is right: the adversary may do nothing.",
    5: "Step 5 is right if step 4 is: adding a constant moves no minimizer.",
}


def _scalar_losses(data: np.ndarray, delta: float) -> tuple[float, float]:
    """Attacked loss at the clean minimizer, and the least one, for D(y) = d y with d in [0, 1]."""
    x, y = data.T
    d = np.append(np.linspace(0, 1, 2001), np.clip(x @ y / (y @ y), 0, 1))[:, None]
    clean, reach = (d * y - x) ** 2, np.abs(d * y - x) + d * delta
    attacked = (reach**2).mean(axis=1)
    return float(attacked[clean.mean(axis=1).argmin()]), float(attacked.min())


def _must_matter(ask: Callable, deltas: list[float]) -> None:
    for (delta,), got in answers(ask, [(delta,) for delta in deltas]):
        try:
            pairs = np.shape(got)
        except Exception:
            pairs = ()
        if not (len(pairs) == 2 and pairs[1] == 2 and 1 <= pairs[0] <= 1000):
            raise NotYet("The answer should be an array whose rows are pairs (x, y), at most 1000.")
        data = numbers(got, pairs)
        if not np.abs(data[:, 1]).max() > 1e-6 * delta:
            raise NotYet("With y = 0 throughout, all denoisers are alike.")
        at_clean, least = _scalar_losses(data, delta)
        if not at_clean > 1.5 * least:
            raise NotYet(
                f"For delta = {delta:.3g} the attacked loss of the clean minimizer is "
                f"{at_clean:.3g}, the least one {least:.3g}."
            )


@broken_prox.property("the step named is the first that does not follow", 0)
def _(ask: Callable, step: Any) -> None:
    right_step(step, 4, PROX_STEPS)


@broken_prox.property(
    "the step is right, and on your data training under attack lowers the attacked loss", 2
)
def _(ask: Callable, step: Any) -> None:
    _must_matter(ask, [ask.rng.uniform(a, 2 * a) for a in (0.05, 0.5, 5.0)])
    right_step(step, 4, PROX_STEPS)


@broken_prox.mistake(
    "Your data are so large that the attack is small beside them: there the proof's conclusion is "
    "nearly right. Which denoiser is best if the attack is larger than the signal?"
)
def takes_strong_data(delta):
    return np.array([[10 * delta, 20 * delta]])


@broken_prox.mistake("For x = 0 the best denoiser answers 0, attacked or not")
def takes_zero(delta):
    return np.array([[0.0, delta], [0.0, -2 * delta]])


# ------------------------------------------------------------------------------- the sandwich

attack_bounds = Check("ex-c4-sandwich", "attack_bounds", ("factor",))


def _zero_sum(rng: np.random.Generator, size: int) -> Callable:
    """A quadratic denoiser with a filter whose taps sum to 0."""
    k = rng.standard_normal(min(size, 3))
    damping = 1 / (1 + np.abs(np.fft.fft(k - k.mean(), size)) ** 2)
    return lambda y: np.fft.ifft(damping * np.fft.fft(y)).real


def _constant_attack(residual: np.ndarray, delta: float, rng: np.random.Generator) -> float:
    """The worst of the two constant attacks, carried out against a denoiser."""
    n = residual.size
    y, denoiser = rng.standard_normal(n), _zero_sum(rng, n)
    target = denoiser(y) - residual
    push = delta / np.sqrt(n) * np.ones(n)
    return max(float(((denoiser(y + e) - target) ** 2).sum()) for e in (push, -push))


def _worst_for_identity(residual: np.ndarray, delta: float) -> float:
    """The identity is the denoiser of the zero filter; the attack goes along the residual."""
    size = np.linalg.norm(residual)
    along = residual / size if size else np.eye(residual.size)[0]
    return float(((residual + delta * along) ** 2).sum())


def _must_bound(ask: Callable, cases: list[tuple]) -> None:
    for (residual, delta), got in answers(ask, cases):
        want = [_constant_attack(residual, delta, ask.rng), _worst_for_identity(residual, delta)]
        close(got, np.array(want), f"{residual.size} samples: the two bounds", 1e-6)


def _residual(rng: np.random.Generator, size: int, sign: int = 1) -> np.ndarray:
    """A residual whose mean has this sign."""
    residual = rng.standard_normal(size)
    return residual - residual.mean() + sign * rng.uniform(0.3, 0.8)


@attack_bounds.property(
    "a constant attack, carried out, gives the lower one, identity the upper", 2
)
def _(ask: Callable, factor: Any) -> None:
    sizes = ((3, 1), (8, -1), (20, 1))
    _must_bound(ask, [(_residual(ask.rng, *n), ask.rng.uniform(0.3, 2)) for n in sizes])


@attack_bounds.property(
    "the factor is right, and so are bounds with and without a mean residual", 1
)
def _(ask: Callable, factor: Any) -> None:
    first, second = _residual(ask.rng, 6), ask.rng.standard_normal(5)
    delta = ask.rng.uniform(0.5, 2)
    _must_bound(ask, [(first, delta), (-first, delta), (second - second.mean(), 0.8)])
    # some residual with a mean, or a wrong factor would be taken for a forgotten mean
    value = float(numbers(factor, ()))
    if not abs(value - 2**0.5) < 5e-3:
        raise NotYet(WRONG_FACTORS.get(round(value, 2), WRONG_FACTORS[0.0]))


WRONG_FACTORS = {
    2.0: "That is the factor of the squared errors; their roots are asked for.",
    1.0: "1 would say that training under attack can gain nothing at all.",
    0.0: "Divide the upper bound for the first by the lower bound for the second, both as roots: "
    "for which r and delta is the quotient largest?",
}


@attack_bounds.mistake(
    "r^2 + delta^2 is right without a mean residual; of the two signs the adversary takes the one "
    "that adds, not removes, mean error"
)
def forgets_the_mean(residual, delta):
    r = np.linalg.norm(residual)
    return np.array([r**2 + delta**2, (r + delta) ** 2])


@attack_bounds.mistake(
    "A constant attack of norm delta is delta / root(N) on every sample; your product term is that "
    "of a smaller attack"
)
def forgets_the_root(residual, delta):
    r = np.linalg.norm(residual)
    return np.array([r**2 + delta**2 + 2 * delta * abs(residual.mean()), (r + delta) ** 2])


@attack_bounds.mistake("The adversary chooses the sign: the mean residual enters in absolute value")
def forgets_the_sign(residual, delta):
    r, n = np.linalg.norm(residual), len(residual)
    return np.array([r**2 + delta**2 - 2 * delta * residual.sum() / n**0.5, (r + delta) ** 2])


@attack_bounds.mistake("The root errors add up, not the squared ones: the upper bound is too small")
def adds_squares(residual, delta):
    r, n = np.linalg.norm(residual), len(residual)
    low = r**2 + delta**2 + 2 * delta * abs(residual.sum()) / n**0.5
    return np.array([low, r**2 + delta**2])


# -------------------------------------------------------------- plug-and-play that oscillates

oscillating = Check("ex-c4-oscillation", "oscillating_denoiser", rtol=1e-5)


def _blind(rng: np.random.Generator, size: int, seen: int, clean: int) -> tuple:
    """An operator that sees `seen` directions, and clean signals in the rows of an array."""
    return _conditioned(rng, seen, size), rng.standard_normal((clean, size)) + rng.choice([-1, 1])


def _free(A: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Rows: an orthonormal basis of what is neither seen by A nor clean."""
    _, values, rows = np.linalg.svd(np.vstack([A, clean]))
    return rows[int((values > 1e-9 * values[0]).sum()) :]


def _must_oscillate(ask: Callable, cases: list[tuple]) -> None:
    for (A, clean), got in answers(ask, cases):
        n = A.shape[1]
        D = numbers(got, (n, n))
        close(D, D.T, "your matrix is not symmetric", 1e-6)
        if len(clean):
            close(clean @ D.T, clean, "a clean signal is changed", 1e-6)
        if not np.linalg.norm(D, 2) < 1 + 1e-6:
            raise NotYet(f"Your matrix has the norm {np.linalg.norm(D, 2):.3g}: it is expansive.")
        top = np.linalg.norm(A, 2) ** 2
        for tau in (0.5 / top, 1.0 / top, 1.9 / top):
            _must_not_settle(A, D, tau, _free(A, clean), ask.rng.standard_normal(len(A)))


def _must_not_settle(A: np.ndarray, D: np.ndarray, tau: float, starts: np.ndarray, y) -> None:
    """The steps obey d <- D (I - tau A* A) d: a hundred thousand of them, by squaring."""
    pull = np.eye(len(D)) - tau * A.T @ A
    first = (starts @ pull + tau * y @ A) @ D.T - starts
    last = np.linalg.matrix_power(D @ pull, 100_000) @ first.T
    if not np.linalg.norm(last, axis=0).max() > 0.1:
        raise NotYet(
            f"With tau |A|^2 = {tau * np.linalg.norm(A, 2) ** 2:.1f} the iteration settles."
        )


@oscillating.property("nonexpansive, clean signals stay, and plug-and-play does not settle", 2)
def _(ask: Callable) -> None:
    _must_oscillate(ask, [_blind(ask.rng, 5, 2, 1), _blind(ask.rng, 6, 2, 2)])


def _projection(clean):
    return np.linalg.pinv(clean) @ clean


@oscillating.mistake(
    "A projection is firmly nonexpansive: with it the iteration converges. Which map takes a "
    "vector *through* the subspace to the other side?"
)
def projects(A, clean):
    return _projection(clean)


@oscillating.mistake("-I oscillates, but it also turns every clean signal around")
def turns_everything(A, clean):
    return -np.eye(A.shape[1])


@oscillating.mistake(
    "You stretch what is not clean: that diverges, but it is expansive, and no surprise"
)
def stretches(A, clean):
    return 3 * _projection(clean) - 2 * np.eye(A.shape[1])


# -------------------------------------------------------------------------- an unsafe denoiser

pnp_gains = Check("ex-c4-unsafe-denoiser", "pnp_gains", ("matching_step",))


def _iterate(sigma: np.ndarray, d: np.ndarray, tau: float) -> np.ndarray:
    """Four thousand steps of plug-and-play from 0, mode by mode, for data 1."""
    x = np.zeros(sigma.size)
    for _ in range(4000):
        x = d * (x + tau * sigma * (1 - sigma * x))
    return x


def _modes(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    sigma = rng.uniform(0.3, 1, size)
    return sigma, rng.uniform(0.2, 0.99, size), float(rng.uniform(0.4, 0.8) / sigma.max() ** 2)


def _must_be_limits(ask: Callable, cases: list[tuple]) -> None:
    for case, got in answers(ask, cases):
        close(got, _iterate(*case), f"tau = {case[2]:.3g}: the gains", 1e-6)


@pnp_gains.property("four thousand iterations end there", 2)
def _(ask: Callable, step: Any) -> None:
    _must_be_limits(ask, [_modes(ask.rng, n) for n in (3, 6)])


@pnp_gains.property("the step that fits the noise is right, and so are the gains of it", 1)
def _(ask: Callable, step: Any) -> None:
    sigma, power = ask.rng.uniform(0.2, 0.6, 5), ask.rng.uniform(0.1, 2, 5)
    case = (sigma, power / (power + 0.2**2), 4.0)
    close(ask(*case), _iterate(*case), "tau = 4: the gains", 1e-6)
    value = float(numbers(step, ()))
    if not abs(value - 4) < 1e-6:
        raise NotYet(WRONG_MATCH.get(round(value, 2), WRONG_MATCH[0.0]))


WRONG_MATCH = {
    0.25: "Upside down: a larger step trusts the data more, and these data are better than those "
    "of the training.",
    2.0: "Penalties compare *powers* of noise, not levels.",
    0.5: "Upside down, and penalties compare *powers* of noise, not levels.",
    0.0: "The fixed point minimizes |A x - y|^2 / 2 + J(x) / tau; which noise does 1/tau match?",
}


@pnp_gains.mistake(
    "d / sigma inverts the denoised datum; in plug-and-play the gradient steps pull on, and weak "
    "modes with d < 1 are damped much more than by d"
)
def inverts_the_denoised(sigma, d, tau):
    return d / sigma


@pnp_gains.mistake("That is one step from 0; the iteration goes on")
def stops_after_one(sigma, d, tau):
    return tau * sigma * d


@pnp_gains.mistake(
    "This is the point *before* the denoiser, the output of the gradient step: one factor d is "
    "missing"
)
def forgets_the_last_denoising(sigma, d, tau):
    x = _iterate(sigma, d, tau)
    return x + tau * sigma * (1 - sigma * x)


@pnp_gains.mistake("The step tau has disappeared: it does not cancel, it scales the penalty")
def forgets_tau(sigma, d, tau):
    return _iterate(sigma, d, 1.0)
