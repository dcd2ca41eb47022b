"""Witnesses of chapter 4, notebook 3: quadratic convolutional regularizers."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.integrate import quad
from scipy.linalg import solve_discrete_lyapunov, solve_toeplitz, toeplitz
from scipy.optimize import least_squares, minimize

from advreg import variational

# ------------------------------------------------------------------- dense linear algebra


def matrix(k, grid):
    """The circular convolution with k as a matrix, entry by entry from the definition."""
    out = np.zeros((np.prod(grid), np.prod(grid)))
    for i in np.ndindex(*grid):
        for m in np.ndindex(*k.shape):
            source = tuple((a - b) % n for a, b, n in zip(i, m, grid, strict=True))
            out[np.ravel_multi_index(i, grid), np.ravel_multi_index(source, grid)] += k[m]
    return out


def gain(filters, grid):
    """The quadratic denoiser as a matrix."""
    maps = [matrix(k, grid) for k in filters]
    return np.linalg.inv(np.eye(np.prod(grid)) + sum(m.T @ m for m in maps))


def circulant(row):
    return np.array([np.roll(row, i) for i in range(row.size)])


def covariance(power):
    """A stationary covariance with E|x^|^2 / N = power."""
    return circulant(np.fft.ifft(power).real)


def dense_risk(g, cov, noise_cov):
    b = np.eye(len(g)) - g
    return (np.trace(b @ cov @ b.T) + np.trace(g @ noise_cov @ g.T)) / len(g)


def even_power(rng, n):
    p = 10 ** rng.uniform(-1.5, 1.5, n)
    return (p + np.roll(p[::-1], 1)) / 2


def transform(k, omega):
    return np.exp(-1j * np.outer(omega, np.arange(len(k)))) @ k


def flips(k):
    """All filters that flips of zeros make of k (k_0 and the last tap not zero)."""
    zeros = np.roots(k)
    groups = [[z] for z in zeros if abs(z.imag) < 1e-9]
    groups += [[z, z.conj()] for z in zeros if z.imag >= 1e-9]
    for choice in itertools.product((False, True), repeat=len(groups)):
        poly = np.array([k[0]], dtype=complex)
        for flip, group in zip(choice, groups, strict=True):
            for z in group:
                poly = np.convolve(poly, [-np.conj(z), 1] if flip else [1, -z])
        yield poly.real


def nearest_flip(k, reference):
    return min(np.abs(sign * f - k).max() for f in flips(reference) for sign in (1, -1))


# -------------------------------------------------------------------------------- spectrum


def test_quadratic_spectrum(claim):
    c = claim("prop-quadratic-spectrum")
    rng = np.random.default_rng(4301)
    solution = first = second = 0.0
    grids = [(1,), (2,), (5,), (8,), (9,), (3, 4), (5, 5)]
    for grid, count in itertools.product(grids, (1, 2)):
        taps = tuple(rng.integers(1, n + 1) for n in grid)
        for filters in (rng.standard_normal((count, *taps)), np.zeros((count, *taps))):
            g = gain(filters, grid)
            y = rng.standard_normal(grid)
            away = (g @ y.ravel()).reshape(grid) - variational.quadratic_denoise(y, filters)
            solution = max(solution, np.abs(away).max())
            if len(grid) == 2:
                continue
            n = grid[0]
            p, d = even_power(rng, n), even_power(rng, n)
            p[0] = [0.0, p[0], 3.0][rng.integers(3)]
            risk = dense_risk(g, covariance(p), covariance(d))
            lam = (np.abs(np.fft.fft(filters, n)) ** 2).sum(axis=0)
            typed = ((lam**2 * p + d) / (1 + lam) ** 2).mean()
            split = p * d / (p + d) + (lam * p - d) ** 2 / ((p + d) * (1 + lam) ** 2)
            for value in (typed, variational.quadratic_risk(filters, p, d)):
                first = max(first, abs(value / risk - 1))
            second = max(second, abs(split.mean() / risk - 1))
    # The risk of an image: N is the number of pixels.
    n, p = (3, 4), rng.uniform(0.1, 10, (3, 4))
    p = (p + np.roll(np.flip(p), 1, axis=(0, 1))) / 2
    lags = np.fft.ifft2(p).real
    cov = np.array([np.roll(lags, i, axis=(0, 1)).ravel() for i in np.ndindex(*n)])
    filters = rng.standard_normal((2, 2, 2))
    risk = dense_risk(gain(filters, n), cov, 0.4 * np.eye(12))
    first = max(first, abs(variational.quadratic_risk(filters, p, 0.4) / risk - 1))
    c.at_most("denoiser: linear system against Fourier, 28 cases", solution, 1e-12)
    c.at_most("risk: dense traces against the formula", first, 1e-12)
    c.at_most("risk: the second form", second, 1e-12)

    # The optimum is the best of all linear maps, and one filter of N taps has it.
    worst = attained = beaten = 0.0
    for n in (1, 2, 7, 8):
        p, d = even_power(rng, n), even_power(rng, n)
        cov, noise_cov = covariance(p), covariance(d)
        best = cov @ np.linalg.inv(cov + noise_cov)
        k = np.fft.ifft(np.sqrt(d / p)).real
        worst = max(worst, np.abs(gain(k[None], (n,)) - best).max())
        least = dense_risk(best, cov, noise_cov)
        attained = max(attained, abs((p * d / (p + d)).mean() / least - 1))
        for _ in range(100):
            g = best + 10 ** rng.uniform(-3, 1) * rng.standard_normal((n, n))
            beaten = max(beaten, least - dense_risk(g, cov, noise_cov))
    c.at_most("Wiener matrix against one filter of N taps", worst, 1e-12)
    c.at_most("least risk against dense linear algebra", attained, 1e-12)
    c.at_most("400 linear maps: gain over the optimum", beaten, 0.0)

    # Infinite and vanishing power, as limits.
    p = even_power(rng, 8)
    zero_sum, other = np.array([[1.0, -0.5, -0.5]]), np.array([[1.0, -0.5]])
    infinite = np.concatenate([[np.inf], p[1:]])
    offset = covariance(np.concatenate([[1e6], p[1:]]))
    value = dense_risk(gain(zero_sum, (8,)), offset, np.eye(8))
    c.close(
        "infinite power, zero sum", variational.quadratic_risk(zero_sum, infinite, 1), value, 1e-6
    )
    c.at_least("infinite power, other sum", dense_risk(gain(other, (8,)), offset, np.eye(8)), 1e3)
    c.at_least(
        "the library says inf", float(variational.quadratic_risk(other, infinite, 1) == np.inf), 1
    )
    lam = 10.0 ** np.arange(-2, 7)
    c.at_most("no power: risk falls in Λ", np.diff(1 / (1 + lam) ** 2).max(), 0.0)

    # Different spectra, different denoisers; equal spectra, equal ones.
    a, b = rng.standard_normal((2, 1, 3))
    c.at_least(
        "two spectra: distance of denoisers", np.abs(gain(a, (6,)) - gain(b, (6,))).max(), 1e-2
    )
    same = np.abs(gain(a, (6,)) - gain(-a[:, ::-1], (6,))).max()
    c.at_most("one spectrum: distance of denoisers", same, 1e-12)


# ----------------------------------------------------------------------------- equivalence


def test_filter_equivalence(claim):
    c = claim("prop-filter-equivalence")
    rng = np.random.default_rng(4302)
    gap = 0.0
    for grid, taps, count, more in [((7,), (3,), 2, 2), ((8,), (8,), 3, 5), ((4, 5), (2, 3), 2, 4)]:
        k = rng.standard_normal((count, *taps))
        mix = np.linalg.qr(rng.standard_normal((more, count)))[0]
        mixed = np.tensordot(mix, k, axes=1)
        mixed = -np.flip(mixed, axis=tuple(range(1, mixed.ndim)))
        gap = max(gap, np.abs(gain(mixed, grid) - gain(k, grid)).max())
    c.at_most("mixed, reversed, negated: distance of denoisers", gap, 1e-12)

    # The grid determines the polynomial: the 2t - 1 waves are independent on 2t - 1 points.
    least = min(
        np.linalg.svd(
            np.exp(2j * np.pi * np.outer(np.arange(2 * t - 1), np.arange(1 - t, t)) / (2 * t - 1))
        )[1].min()
        for t in range(1, 9)
    )
    c.at_least("least singular value of the waves on 2t - 1 points", least, 0.9)

    # Fejer and Riesz, at frequencies off the grid; random, with double zeros, degenerate.
    omega = np.linspace(0, np.pi, 173)
    off = 0.0
    for t in (1, 2, 3, 5, 7):
        banks = [rng.standard_normal((j, t)) for j in (1, 2, 4)] + [np.eye(t)[:1] * 0, np.eye(t)]
        if t > 1:
            banks.append(np.array([np.convolve([1.0, -1.0], rng.standard_normal(t - 1))]))
        for bank in banks:
            lam = sum(np.abs(transform(k, omega)) ** 2 for k in bank)
            one = variational.spectral_factor(variational.spectrum(bank, 2 * t + 3), t)
            assert one.shape == (t,)
            gap = np.abs(np.abs(transform(one, omega)) ** 2 - lam).max() / max(lam.max(), 1)
            off = max(off, gap)
    c.at_most("one filter for many, off the grid", off, 1e-6)
    three = 1 + 1.1 * np.cos(2 * np.pi * np.arange(3) / 3)
    c.at_least("1 + 1.1 cos on three points", three.min(), 0.4)
    found = min(
        least_squares(lambda k: np.abs(np.fft.fft(k, 3)) ** 2 - three, s).cost
        for s in rng.standard_normal((20, 2))
    )
    c.at_least("no filter of two taps has it: least misfit", found, 1e-4)
    k = np.fft.ifft(np.sqrt(three)).real
    c.at_most("one of three taps has", np.abs(np.abs(np.fft.fft(k)) ** 2 - three).max(), 1e-12)

    # Flips, both ways: they keep the modulus, and a blind search finds nothing else.
    kept = missed = 0.0
    distinct = set()
    for taps in ([1.0, -0.8, 0.15], [1.0, 0.3, 0.7, -0.2], [1.0, -2.5, 1.0], [2.0, -1.0]):
        k = np.array(taps)
        lam = np.abs(transform(k, omega)) ** 2
        for f in flips(k):
            kept = max(kept, np.abs(np.abs(transform(f, omega)) ** 2 - lam).max())
        correlation = np.correlate(k, k, "full")
        for start in rng.standard_normal((12, k.size)):
            end = least_squares(
                lambda v, r=correlation: np.correlate(v, v, "full") - r,
                start,
                xtol=1e-15,
                gtol=1e-15,
            )
            if end.cost < 1e-20:
                missed = max(missed, nearest_flip(end.x, k))
                distinct.add((len(taps), *np.round(end.x, 3)))
    c.at_most("flips keep the modulus", kept, 1e-12)
    c.at_most("filters with the same modulus, found blindly: distance to a flip", missed, 1e-5)
    c.at_least("different ones found", len(distinct), 10)
    c.at_most(
        "the pair of the text", nearest_flip(np.array([-0.3, 1.15, -0.5]), [1, -0.8, 0.15]), 1e-12
    )

    # Two dimensions: no one filter, and two do.
    size = 12
    wave = 2 * np.cos(2 * np.pi * np.arange(size) / size)
    target = 4 - wave[:, None] - wave
    for t in (2, 3, 4):
        end = min(
            (
                least_squares(
                    lambda v, t=t: (
                        np.abs(np.fft.fft2(v.reshape(t, t), (size, size))) ** 2 - target
                    ).ravel(),
                    start,
                )
                for start in rng.standard_normal((6, t * t))
            ),
            key=lambda e: e.cost,
        )
        c.at_least(f"one filter of {t} x {t} taps: largest misfit", np.abs(end.fun).max(), 0.05)
    both = np.array([[[1.0, -1.0], [0, 0]], [[1.0, 0], [-1.0, 0]]])
    lam = (np.abs(np.fft.fft2(both, (size, size))) ** 2).sum(axis=0)
    c.at_most("two differences have the spectrum", np.abs(lam - target).max(), 1e-12)
    large = np.fft.ifft2(np.sqrt(np.maximum(target, 0))).real
    away = np.abs(gain(large[None, :6, :6], (12, 12)) - gain(both, (12, 12))).max()
    c.at_least("a filter of all pixels, cut to a quarter: denoiser", away, 1e-3)
    away = np.abs(gain(large[None], (12, 12)) - gain(both, (12, 12))).max()
    c.at_most("a filter of all pixels has it on the grid: denoiser", away, 1e-12)


# ------------------------------------------------------------------------------ prediction


def best_taps(cov, noise, taps, rng, starts=6, count=1):
    """Least dense risk over filters, by a general-purpose optimizer."""
    n = len(cov)
    shifts = [np.roll(np.eye(n), m, axis=0) for m in range(taps)]

    def risk(v):
        maps = np.tensordot(v.reshape(count, taps), shifts, axes=1)
        g = np.linalg.inv(np.eye(n) + np.einsum("jki,jkl->il", maps, maps))
        return dense_risk(g, cov, noise * np.eye(n))

    ends = [
        minimize(risk, v, method="BFGS", options={"gtol": 1e-9})
        for v in rng.standard_normal((starts, count * taps))
    ]
    return min(ends, key=lambda end: end.fun)


def test_prediction_filter(claim):
    c = claim("thm-prediction-filter")
    rng = np.random.default_rng(4303)
    n, noise, s2 = 11, 0.4, 0.6
    for phi, taps, count in [([0.6], 2, 1), ([-0.5], 3, 1), ([0.8, -0.3], 3, 1), ([0.7], 2, 2)]:
        h = np.concatenate([[1.0], -np.array(phi)])
        whiten = matrix(h, (n,))
        inverse = np.linalg.inv(whiten)
        cov = s2 * inverse @ inverse.T  # h * x = e, solved around the circle
        hat = np.abs(np.fft.fft(h, n)) ** 2
        least = dense_risk(cov @ np.linalg.inv(cov + noise * np.eye(n)), cov, noise * np.eye(n))
        typed = (s2 * noise / (s2 + noise * hat)).mean()
        c.close(f"least risk, φ = {phi}", typed, least, 1e-12)
        end = best_taps(cov, noise, taps, rng, count=count)
        c.close(f"risk of {count} x {taps} learned taps, φ = {phi}", end.fun, least, 1e-10)
        found = (np.abs(np.fft.fft(end.x.reshape(count, taps), n)) ** 2).sum(axis=0)
        c.at_most(f"learned spectrum, φ = {phi}", np.abs(found - noise / s2 * hat).max(), 1e-4)
        if count == 1:
            scaled = np.sqrt(noise / s2) * h
            shifted = [
                np.roll(np.pad(f, (0, taps - f.size)), i) * sign
                for f in flips(scaled)
                for i in range(taps - f.size + 1)
                for sign in (1, -1)
            ]
            near = min(np.abs(end.x - v).max() for v in shifted)
            c.at_most(f"distance to a flip, φ = {phi}", near, 1e-4)
    one = [f.round(12).tolist() for f in flips(np.array([1.0, -0.6]))]
    c.at_least(
        "p = 1: the flips are h and its reversal up to sign",
        float(one == [[1, -0.6], [0.6, -1]] or one == [[1, -0.6], [-0.6, 1]]),
        1,
    )

    # A pole, as the limit of a large offset.
    h = np.array([1.0, -1.0])
    power = s2 / np.maximum(np.abs(np.fft.fft(h, n)) ** 2, s2 * 1e-6)
    end = best_taps(covariance(power), noise, 2, rng)
    away = np.abs(np.abs(end.x) - np.sqrt(noise / s2)).max() + abs(end.x.sum())
    c.at_most("random walk: [1, -1]", away, 5e-3)

    # Too few taps.
    phi = np.array([0.5, -0.3, 0.4])
    inverse = np.linalg.inv(matrix(np.concatenate([[1.0], -phi]), (n,)))
    cov = s2 * inverse @ inverse.T
    least = dense_risk(cov @ np.linalg.inv(cov + noise * np.eye(n)), cov, noise * np.eye(n))
    for taps, count in ((2, 1), (3, 1), (3, 2)):
        end = best_taps(cov, noise, taps, rng, starts=4, count=count)
        c.at_least(f"AR(3) with {count} x {taps} taps: excess", end.fun / least - 1, 1e-3)

    # Prediction on the line, from the autocovariances of the stationary solution.
    for trial in range(6):
        p = trial % 3 + 1
        zeros = rng.uniform(-0.8, 0.8, p)
        phi = -np.poly(zeros)[1:]
        companion = np.diag(np.ones(p - 1), -1)
        companion[0] = phi
        drive = np.zeros((p, p))
        drive[0, 0] = s2
        state = solve_discrete_lyapunov(companion, drive)
        lags = [(np.linalg.matrix_power(companion, m) @ state)[0, 0] for m in range(10)]
        for q in (p, p + 3):
            predictor = solve_toeplitz(lags[:q], lags[1 : q + 1])
            c.at_most(f"predictor of AR({p}), q = {q}", np.abs(predictor[:p] - phi).max(), 1e-8)
            g = np.concatenate([[1.0], -predictor])
            c.close("its error", g @ toeplitz(lags[: q + 1]) @ g, s2, 1e-9)
        g = np.column_stack([np.ones(200), rng.standard_normal((200, 6))])
        error = np.einsum("ai,ij,aj->a", g, toeplitz(lags[:7]), g).min()
        c.at_least("200 monic filters: least error", error, s2)

    # Two remarks: an unstable h, and the circle.
    power = s2 / np.abs(transform([1, -2], 2 * np.pi * np.arange(64) / 64)) ** 2
    lags = np.fft.ifft(power).real
    coefficient = lags[1] / lags[0]
    c.close("h = [1, -2]: the predictor", coefficient, 0.5, 1e-12)
    c.close("and its error", lags[0] - coefficient * lags[1], s2 / 4, 1e-12)
    for size, phi in ((3, 0.7), (6, 0.5), (9, -0.8)):
        inverse = np.linalg.inv(matrix(np.array([1.0, -phi]), (size,)))
        cov = inverse @ inverse.T
        typed = phi + phi ** (size - 1) * (1 - phi**2) / (1 + phi**size)
        c.close(f"predictor on a circle of {size}", typed, cov[0, 1] / cov[0, 0], 1e-12)


# ------------------------------------------------------------------------------- zero mean


def test_zero_mean(claim):
    c = claim("cor-zero-mean")
    rng = np.random.default_rng(4304)
    # Sum of squares of the sums, read off the best linear map applied to a constant.
    for n, tau in ((5, 0.0), (8, 0.7), (9, 30.0)):
        power, noise = even_power(rng, n), 0.3
        cov = covariance(power) + tau**2 * np.ones((n, n))
        best = cov @ np.linalg.inv(cov + noise * np.eye(n))
        keep = (best @ np.ones(n)).mean()
        bank = np.fft.ifft(np.sqrt(noise / (power + n * tau**2 * (np.arange(n) == 0)))).real
        mix = np.linalg.qr(rng.standard_normal((3, 1)))[0]  # spread over three filters
        sums = (mix * bank).sum(axis=1)
        c.close(f"sum of squares of sums, offset {tau}", (sums**2).sum(), 1 / keep - 1, 1e-9)
        c.close("the formula", (sums**2).sum(), noise / (power[0] + n * tau**2), 1e-12)
    ar = best_taps(
        np.linalg.inv(matrix(np.array([1.0, -0.6]), (9,)))
        @ np.linalg.inv(matrix(np.array([1.0, -0.6]), (9,))).T,
        0.4,
        2,
        rng,
    )
    c.close("AR(1): learned sum", abs(ar.x.sum()), np.sqrt(0.4) * 0.4, 1e-4)

    # A finite risk needs zero mean, with any number of taps.
    for taps in (1, 2, 5, 8):
        k = rng.standard_normal((2, taps))
        risks = [
            dense_risk(gain(k, (8,)), np.eye(8) + v * np.ones((8, 8)), np.eye(8))
            for v in (1e4, 1e8)
        ]
        c.at_least(f"{taps} taps, random: the risk follows the offset", risks[1] / risks[0], 9e3)
        k -= k.mean(axis=1, keepdims=True)
        risks = [
            dense_risk(gain(k, (8,)), np.eye(8) + v * np.ones((8, 8)), np.eye(8))
            for v in (1e4, 1e8)
        ]
        c.close(f"{taps} taps, zero mean: it does not", risks[1], risks[0], 1e-5)

    # Order of the zero and order of the pole, and its constant.
    omega = np.array([0.01, 0.02])
    for b, count in itertools.product(range(4), (1, 3)):
        bank = rng.standard_normal((count, 3))
        for _ in range(b):
            bank = np.stack([np.convolve(k, [1.0, -1.0]) for k in bank])
        if count == 3:
            bank[0] = np.convolve(bank[0], [1.0, -1.0])[: bank.shape[1]] * 0  # a zero filter, too
        lam = sum(np.abs(transform(k, omega)) ** 2 for k in bank)
        power = 0.3 / lam
        c.close(f"pole of order 2b, b = {b}", -np.log2(power[1] / power[0]) / 2, b, 1e-2)
        places = np.arange(bank.shape[1])
        low = max([np.abs(bank @ places**m).max() for m in range(b)] + [0.0])
        c.at_most(f"moments below b = {b}", low, 1e-10)
        constant = (omega[0] ** (2 * b) * power[0]) * (
            (bank @ places.astype(float) ** b) ** 2
        ).sum()
        target = float(np.prod(np.arange(1, b + 1))) ** 2 * 0.3
        c.close(f"constant, b = {b}", constant / target, 1.0, 1e-2)
    kink = np.abs(2 * np.sin(np.linspace(0, np.pi, 65) / 2))
    misfit = [
        np.abs(
            least_squares(
                lambda r, t=t: np.cos(np.outer(np.linspace(0, np.pi, 65), np.arange(t))) @ r - kink,
                np.zeros(t),
            ).fun
        ).max()
        for t in (2, 7)
    ]
    c.at_least("b = 1/2: misfit of polynomials of degree 1 and 6", min(misfit), 0.02)


# --------------------------------------------------------------------------------- offsets


class Huber:
    """Even, convex, once differentiable."""

    slope = 0.7

    def value(self, t):
        return np.where(np.abs(t) < 0.7, t**2 / 2, 0.7 * np.abs(t) - 0.245)

    def first(self, t):
        return np.clip(t, -0.7, 0.7)


class Power:
    """(t^2 + 1)^(3/4): its slope is infinite, and it is not quadratic."""

    slope = np.inf

    def value(self, t):
        return (t**2 + 1) ** 0.75

    def first(self, t):
        return 1.5 * t * (t**2 + 1) ** -0.25


def minimizer(y, filters, potential):
    """Of the objective, by a general-purpose optimizer and dense matrices."""
    maps = np.concatenate([matrix(k, y.shape) for k in filters])
    data = y.ravel()

    def objective(x):
        r = maps @ x
        value = ((x - data) ** 2).sum() / 2 + potential.value(r).sum()
        return value, x - data + maps.T @ potential.first(r)

    x = data
    for _ in range(5):
        x = minimize(
            objective,
            x,
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 0, "gtol": 1e-11, "maxiter": 5000},
        ).x
    return x.reshape(y.shape)


FINITE = [variational.SmoothedL1(0.2), variational.LogCosh(0.3), Huber()]


def test_offset_bias(claim):
    c = claim("prop-offset-bias")
    rng = np.random.default_rng(4305)
    potentials = [*FINITE, variational.Quadratic(), Power()]
    identity = library = shift = 0.0
    for grid, taps in [((7,), (3,)), ((8,), (8,)), ((4, 3), (2, 3)), ((5,), (1,))]:
        for potential in potentials:
            k = rng.standard_normal((2, *taps))
            y = 2 * rng.standard_normal(grid) + 1
            x = minimizer(y, k, potential)
            slopes = [potential.first(matrix(f, grid) @ x.ravel()).mean() for f in k]
            typed = -sum(f.sum() * s for f, s in zip(k, slopes, strict=True))
            identity = max(identity, abs((x - y).mean() - typed))
            if isinstance(potential, (variational.SmoothedL1, variational.LogCosh)):
                off = variational.offset_bias(
                    variational.denoise(y, k, potential, tol=1e-11).x, k, potential
                )
                library = max(library, abs(off - (x - y).mean()))
            k -= k.mean(axis=tuple(range(1, k.ndim)), keepdims=True)
            x = minimizer(y, k, potential)
            moved = minimizer(y + 5.0, k, potential) - 5.0
            shift = max(shift, abs((x - y).mean()), np.abs(moved - x).max())
    c.at_most("identity, 20 cases, five potentials", identity, 1e-8)
    c.at_most("library against general-purpose minimizer", library, 1e-7)
    c.at_most("zero mean: mean kept, offsets pass through", shift, 1e-6)


def test_offset_limit(claim):
    c = claim("cor-offset-limit")
    rng = np.random.default_rng(4306)
    k = rng.standard_normal((3, 3)) / 2
    k[1] -= k[1].mean()  # one of the three has zero mean
    k[2] *= -np.sign(k[0].sum() * k[2].sum())  # and the other two have opposite sums
    total = np.abs(k.sum(axis=1)).sum()
    y = rng.standard_normal(9)

    # Infinite slope.
    for sign in (1, -1):
        bias = [sign * (minimizer(y + sign * v, k, Power()) - y).mean() - v for v in (10, 1e3, 1e5)]
        c.at_most("slope infinite: the bias falls, ratio", bias[0] / bias[1], 0.2)
        c.at_most("and goes on", bias[2], 8 * bias[1])
    lam0 = (k.sum(axis=1) ** 2).sum()
    for v in (-3.0, 0.0, 20.0):
        bias = (minimizer(y + v, k, variational.Quadratic()) - y).mean() - v
        c.close("quadratic potential", -(v + y.mean()) * lam0 / (1 + lam0), bias, 1e-8)

    # Finite slope: bound, limit, and what is left of the denoiser.
    for potential in FINITE:
        name = type(potential).__name__
        bound = max(
            abs((minimizer(z, k, potential) - z).mean())
            for z in [y + v for v in (-5, 0, 0.5, 2)] + [5 * rng.standard_normal(9)]
        )
        c.at_most(f"{name}: bound for all data", bound, potential.slope * total + 1e-9)
        plain = minimizer(y, k[1:2], potential)
        for sign in (1, -1):
            z = minimizer(y + sign * 300, k, potential) - sign * 300
            limit = -sign * potential.slope * total
            c.close(f"{name}: limit of the bias", (z - y).mean(), limit, 1e-3)
            c.at_most(f"{name}: in every sample", np.abs(z - plain - limit).max(), 1e-3)
        # The risk, for a noise of two equally likely values, exactly centred.
        eps, risks, base = 0.4 * rng.standard_normal(9), [], []
        for e in (eps, -eps):
            risks.append(((minimizer(y + e + 300, k, potential) - y - 300) ** 2).mean())
            base.append(((minimizer(y + e, k[1:2], potential) - y) ** 2).mean())
        target = np.mean(base) + (potential.slope * total) ** 2
        c.close(f"{name}: limit of the risk", np.mean(risks), target, 2e-3)
    # Degenerate: all sums zero, and all filters zero.
    z = minimizer(y + 50, k[1:2], FINITE[1]) - 50
    c.at_most("all sums zero: no bias", abs((z - y).mean()), 1e-8)
    c.at_most("no filters: identity", np.abs(minimizer(y, 0 * k, FINITE[1]) - y).max(), 1e-9)


# ---------------------------------------------------------------------------------- attack


def real_fourier(n):
    """Orthonormal cosines and sines in columns, and the frequency number of each."""
    i, columns, which = np.arange(n), [np.ones(n)], [0]
    for m in range(1, n // 2 + 1):
        columns.append(np.cos(2 * np.pi * m * i / n))
        which.append(m)
        if 2 * m < n:
            columns.append(np.sin(2 * np.pi * m * i / n))
            which.append(m)
    basis = np.array(columns).T
    return basis / np.linalg.norm(basis, axis=0), np.array(which)


def penalty(threat, p, m, delta):
    if threat == "oblivious":
        return delta**2 / p
    if threat == "in mean":
        return 0.0 if p > delta**2 else np.inf
    top, bottom = delta * max(delta - m, 0.0), max(p - delta * m, 0.0)
    return 0.0 if top == 0 else (top / bottom if bottom > 0 else np.inf)


def test_attacked_spectrum(claim):
    c = claim("prop-attacked-spectrum")
    rng = np.random.default_rng(4307)
    grid = np.linspace(0, 1, 2001)
    losses = {
        "oblivious": lambda a, d, g: ((1 - g) ** 2) * np.mean(a**2) + d**2 * g**2,
        "in mean": lambda a, d, g: ((1 - g) * np.sqrt(np.mean(a**2)) + d * g) ** 2,
        "almost sure": lambda a, d, g: np.mean(
            (np.outer(1 - g, np.abs(a)) + d * g[:, None]) ** 2, axis=1
        ),
    }
    worst = dict.fromkeys(losses, 0.0)
    apart = dict.fromkeys(losses, 0.0)
    for trial in range(200):
        a = rng.standard_normal(rng.integers(1, 5)) * 10 ** rng.uniform(-0.5, 0.5)
        a = np.concatenate([a, -a])
        p, m = np.mean(a**2), np.mean(np.abs(a))
        d = [10 ** rng.uniform(-0.7, 0.7) * np.sqrt(p), m, p / m][trial % 3]
        for threat, loss in losses.items():
            if threat == "in mean" and abs(d**2 / p - 1) < 1e-9:
                continue
            g = np.array([1 / (1 + penalty(threat, p, m, d))])
            values = loss(a, d, grid)
            worst[threat] = max(worst[threat], (loss(a, d, g).item() - values.min()) / p)
            if len(set(np.abs(a))) > 1 and trial % 3 == 0:
                apart[threat] = max(apart[threat], abs(grid[values.argmin()] - g.item()))
    for threat in losses:
        c.at_most(f"{threat}: above the best of 2001 gains, 200 laws", worst[threat], 1e-12)
        c.at_most(f"{threat}: distance to it", apart[threat], 6e-4)

    # The whole denoiser, in samples: the attack of the box in the Fourier basis, by hand.
    for n in (6, 7):
        basis, which = real_fourier(n)
        c.at_most("the basis is orthonormal", np.abs(basis.T @ basis - np.eye(n)).max(), 1e-12)
        atoms = rng.standard_normal((40, n // 2 + 1)) * 2.0 ** -np.arange(n // 2 + 1)
        atoms = np.concatenate([atoms, -atoms])
        x = np.stack([rng.permutation(atoms[:, m]) for m in which], axis=1)  # one law per frequency
        p, m = np.mean(atoms**2, axis=0), np.mean(np.abs(atoms), axis=0)
        delta = 0.9 * np.sqrt(p[1])
        lam = np.array([penalty("almost sure", *v, delta) for v in zip(p, m, strict=True)])
        full = np.minimum(lam, 1e12)[np.minimum(np.arange(n), n - np.arange(n))]
        k = np.fft.ifft(np.sqrt(full)).real[None]
        g = 1 / (1 + lam[which])
        sample = x @ basis.T
        for sign in (1, -1):  # the sign of the worst attack; the other must not be worse
            e = sign * delta * np.sign((g - 1) * x + 1e-300)
            attacked = variational.quadratic_denoise(sample + e @ basis.T, k)
            value = ((attacked - sample) ** 2).sum(axis=1).mean()
            total = ((np.abs((1 - g) * x) + delta * g) ** 2).sum(axis=1).mean()
            if sign == 1:
                c.close("worst attack in samples against the sum of losses", value, total, 1e-6)
            else:
                c.at_most("the opposite attack", value, total + 1e-9)
        rival = 1 / (1 + 10 ** rng.uniform(-2, 2, (500, n // 2 + 1)))[:, which]
        rivals = (
            ((np.abs((1 - rival[:, None]) * x) + delta * rival[:, None]) ** 2)
            .sum(axis=2)
            .mean(axis=1)
        )
        c.at_least("500 other spectra: least loss against ours", rivals.min() / total, 1.0)

    # Part 1, with autoregressive power, and the hypothesis for a stationary Gaussian signal.
    n, s2, delta = 8, 0.5, 0.8
    inverse = np.linalg.inv(matrix(np.array([1.0, -0.6]), (n,)))
    cov = s2 * inverse @ inverse.T
    basis, which = real_fourier(n)
    coefficients = basis.T @ cov @ basis
    hat = np.abs(np.fft.fft([1, -0.6], n)) ** 2
    c.at_most(
        "second moments of cosines and sines",
        np.abs(np.diag(coefficients) - s2 / hat[which]).max(),
        1e-12,
    )
    best = np.diag(coefficients) / (np.diag(coefficients) + delta**2)
    c.at_most(
        "oblivious: prediction filter",
        np.abs(best - 1 / (1 + delta**2 / s2 * hat[which])).max(),
        1e-12,
    )

    # Part 2: thresholds of a Gaussian, its mean modulus by quadrature.
    m = 2 * quad(lambda t: t * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi), 0, np.inf)[0]
    for p in (0.3, 2.0):
        mean = m * np.sqrt(p)
        for factor, low in ((np.pi / 2, True), (2 / np.pi, False)):
            d = np.sqrt(p / factor)
            inside, outside = d * (1 - 1e-6), d * (1 + 1e-6)
            if low:
                c.at_most("Λ = 0 up to Π = π δ²/2", penalty("almost sure", p, mean, inside), 0.0)
                c.at_least("and not beyond", penalty("almost sure", p, mean, outside), 1e-7)
            else:
                c.at_least(
                    "Λ = ∞ from Π = 2δ²/π on",
                    float(np.isinf(penalty("almost sure", p, mean, outside))),
                    1,
                )
                c.at_most("and not before", penalty("almost sure", p, mean, inside), 1e7)

    # Part 3: t zeros are too many, and t - 1 are possible.
    for t in (1, 2, 4, 6):
        rows = rng.choice(12, size=t, replace=False)
        waves = np.exp(-2j * np.pi * np.outer(rows, np.arange(t)) / 12)
        c.at_least(
            f"{t} taps, {t} zeros: least singular value", np.linalg.svd(waves)[1].min(), 1e-4
        )
    one = np.poly(np.exp(2j * np.pi * np.array([0, 3, -3]) / 12)).real
    zeros = (np.abs(np.fft.fft(one, 12)) < 1e-12).sum()
    c.close("four taps with three zeros", zeros, 3, 1e-9)


# -------------------------------------------------------------------------------- measured


def test_learned_spectrum(claim):
    c = claim("obs-learned-spectrum")
    n, noise, s2 = 64, 0.3, 0.5
    risk_gap = gap = 0.0
    tap_gap = np.inf
    for phi in ([0.55], [-0.8], [1.1, -0.4], [0.4, 0.2, -0.3, -0.3], [0.5, -0.3, 0.2, -0.4]):
        h = np.concatenate([[1.0], -np.array(phi)])
        hat = np.abs(transform(h, 2 * np.pi * np.arange(n) / n)) ** 2
        power, least = s2 / hat, (s2 * noise / (s2 + noise * hat)).mean()
        for count, extra in itertools.product((1, 2), (0, 1)):
            learned = []
            for seed in (101, 102, 103, 104):
                k = variational.fit_quadratic(power, noise, h.size + extra, count=count, seed=seed)
                lam = (np.abs(np.fft.fft(k, n)) ** 2).sum(axis=0)
                risk = ((lam**2 * power + noise) / (1 + lam) ** 2).mean()
                risk_gap = max(risk_gap, risk / least - 1)
                gap = max(gap, np.abs(lam * s2 / noise / hat - 1).max())
                learned.append(k)
            if count == 2:
                tap_gap = min(tap_gap, max(np.abs(k - learned[0]).max() for k in learned))
    c.at_most("excess risk, 80 fits", risk_gap, 1e-10)
    c.at_most("relative error of the spectrum", gap, 1e-4)
    c.at_least("taps of pairs from different starts, least distance", tap_gap, 0.05)

    phi = [0.5, -0.3, 0.2, -0.4]
    hat = np.abs(transform([1.0, *-np.array(phi)], 2 * np.pi * np.arange(n) / n)) ** 2
    power, least = s2 / hat, (s2 * noise / (s2 + noise * hat)).mean()

    def excess(k):
        lam = np.abs(np.fft.fft(np.ravel(k), n)) ** 2
        return 100 * (((lam**2 * power + noise) / (1 + lam) ** 2).mean() / least - 1)

    rng = np.random.default_rng(4308)
    for taps, percent in ((2, 8.7), (3, 7.1), (4, 7.1)):
        end = min(
            (
                minimize(
                    excess,
                    v,
                    method="Nelder-Mead",
                    options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000},
                )
                for v in rng.standard_normal((4, taps))
            ),
            key=lambda e: e.fun,
        )
        c.close(f"{taps} taps: excess in percent, by Nelder and Mead", end.fun, percent, 0.06)
    # 1/f: no short filter is exact, the one of N taps is.
    wave = 2 * np.sin(np.pi * np.arange(1, n) / n)
    lags = np.fft.ifft(np.concatenate([[0], wave])).real
    c.at_least("1/f: least autocorrelation", np.abs(lags).min(), 1e-5)
    least_f = np.concatenate([[noise], s2 * noise / (s2 + noise * wave)]).mean()

    def excess_f(k):
        lam = np.abs(np.fft.fft(np.ravel(k), n))[1:] ** 2  # the first is 0: zero sum
        risk = (noise + ((lam**2 * s2 / wave + noise) / (1 + lam) ** 2).sum()) / n
        return 100 * (risk / least_f - 1)

    sizes = np.linspace(0.3, 1.5, 2001)
    two = min(excess_f([a, -a]) for a in sizes)
    c.close("1/f, two taps: excess in percent, on a grid of sizes", two, 3.9, 0.06)
    power_f = np.concatenate([[np.inf], s2 / wave])
    seven = variational.fit_quadratic(power_f, noise, 7, seed=77)
    c.at_most("1/f, seven taps: sum", abs(seven.sum()), 1e-12)
    c.close("1/f, seven taps: excess in percent", excess_f(seven), 0.25, 0.006)
    full = np.fft.ifft(np.sqrt(noise / s2 * np.concatenate([[0], wave]))).real
    c.at_most("1/f, all taps: excess in percent", abs(excess_f(full)), 1e-10)
    table = {t: [] for t in (3, 5, 9)}
    for seed in range(7):
        rng = np.random.default_rng([4309, seed])
        e = np.sqrt(s2) * rng.standard_normal((1000, n))
        x = np.fft.ifft(np.fft.fft(e) / np.fft.fft([1.0, *-np.array(phi)], n)).real
        for t, rows in table.items():
            row = []
            for count in (30, 100, 1000):
                estimate = (np.abs(np.fft.fft(x[:count])) ** 2).mean(axis=0) / n
                row.append(excess(variational.fit_quadratic(estimate, noise, t, seed=seed + 50)))
            rows.append(row)
    five, nine = (np.median(table[t], axis=0) * [30, 100, 1000] for t in (5, 9))
    c.at_least("five taps: excess x M, least median", five.min(), 0.5)
    c.at_most("five taps: excess x M, largest median", five.max(), 8.0)
    ratio = np.median(np.array(table[9]) / np.array(table[5]))
    c.at_least("nine taps against five", ratio, 1.1)
    c.at_most("nine taps against five, above", ratio, 3.0)
    c.at_least("nine taps: still M^-1", nine[0] / nine[2], 0.3)
    c.at_least("three taps never fall below their bound", np.min(table[3]), 7.0)
