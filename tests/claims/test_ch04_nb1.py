"""Witnesses of chapter 4, notebook 1: diagonal frame decompositions and vaguelettes."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import pywt

from advreg import frames, operators

# Halving down to one sample is meant: the filters then wind around the signal.
pytestmark = pytest.mark.filterwarnings("ignore:Level value")

# ------------------------------------------------------------------------- the definition


def random_decomposition(rng, rows, columns, rank, redundancy):
    """A matrix of the given rank, and u, v, kappa by dense linear algebra alone."""
    left, _ = np.linalg.qr(rng.standard_normal((rows, rank)))
    right, _ = np.linalg.qr(rng.standard_normal((columns, rank)))
    matrix = left * np.geomspace(1, 0.02, rank) @ right.T
    u = rng.standard_normal((rank + redundancy, rank)) @ right.T
    v = u @ np.linalg.pinv(matrix, rcond=1e-10)  # rows (A*)^+ u
    norms = np.linalg.norm(v, axis=1)
    return matrix, right @ right.T, u, v / norms[:, None], 1 / norms


def squared_extremes(rows):
    values = np.linalg.svd(rows, compute_uv=False)
    values = values[values > 1e-10 * values[0]]
    return values[-1] ** 2, values[0] ** 2


def test_dfd(claim):
    c = claim("prop-dfd")
    rng = np.random.default_rng(4101)
    coefficient, inversion, picard, forward, excess = 0.0, 0.0, 0.0, 0.0, -np.inf
    for rows, columns, rank, redundancy in [
        (9, 7, 5, 6), (5, 8, 5, 0), (9, 7, 5, 0), (6, 6, 3, 1), (4, 4, 1, 3), (12, 10, 10, 15),
    ]:  # fmt: skip
        matrix, projection, u, v, kappa = random_decomposition(rng, rows, columns, rank, redundancy)
        frame = frames.Frame(u, v, kappa)
        x = rng.standard_normal(columns)
        coefficient = max(coefficient, np.abs(v @ (matrix @ x) - kappa * (u @ x)).max())
        back = frame.reconstruct(matrix @ x, 1 / kappa)
        inversion = max(inversion, np.abs(back - projection @ x).max())
        # Another dual frame: the canonical one plus anything that annihilates coefficients.
        other = np.linalg.pinv(u) + rng.standard_normal((columns, len(u))) @ (
            np.eye(len(u)) - u @ np.linalg.pinv(u)
        )
        inversion = max(
            inversion,
            np.abs(projection @ other @ ((v @ (matrix @ x)) / kappa) - projection @ x).max(),
        )
        gains = rng.uniform(-2, 3, len(u)) * (rng.random(len(u)) < 0.8)
        bound = np.max(gains**2) * squared_extremes(v)[1] / squared_extremes(u)[0]
        passed = np.linalg.norm(frame.reconstruct(np.eye(rows), gains), 2) ** 2
        excess = max(excess, passed - bound)
        y = rng.standard_normal(rows)  # part 4; with rank < rows not in the range
        pseudo = np.linalg.pinv(matrix, rcond=1e-10) @ y
        total = np.sum((v @ y) ** 2 / kappa**2)
        low, high = squared_extremes(u)
        forward = max(forward, total / (high * np.sum(pseudo**2)))
        forward = max(forward, low * np.sum(pseudo**2) / total)
        if redundancy == 0:
            picard = max(picard, np.abs(frame.reconstruct(y, 1 / kappa) - pseudo).max())
    c.at_most("part 1: <Ax, v> - κ<x, u>", coefficient, 1e-11)
    c.at_most("part 2: inversion, canonical and other duals", inversion, 1e-9)
    c.at_most("part 3: noise minus its bound", excess, 1e-10)
    c.at_most("part 4: A^+ y by the frame", picard, 1e-9)
    c.at_most("part 4: Picard's sum within B1, B2 times |A^+ y|^2", forward, 1 + 1e-9)

    # Part 3 is attained: v orthonormal, u a multiple of an orthonormal basis, equal gains.
    for scale in (0.3, 1.0, 4.0):
        basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        frame = frames.Frame(scale * basis, np.eye(6), np.full(6, 0.7))
        e = rng.standard_normal(6)
        share = np.sum(frame.reconstruct(e, np.full(6, 2.0)) ** 2) / np.sum(e**2)
        c.close(f"part 3 is attained, B1 = {scale**2:g}", share, 4 / scale**2, 1e-10)

    # The counterexample of part 4, cut off after D entries.
    for size in (50, 800):
        n = np.arange(1, size + 1)
        matrix = np.vstack([1 / n, np.diag(1 / n)])
        u = np.vstack([1 / n, np.eye(size)])
        kappa = np.concatenate([[1.0], 1 / n])
        c.at_most("A* v = κ u", np.abs(matrix.T - (kappa[:, None] * u).T).max(), 1e-15)
        low, high = squared_extremes(u)
        c.close("lower bound of u", low, 1, 1e-10)
        c.close("upper bound of u", high, 1 + np.sum(1 / n**2), 1e-10)
        datum = np.eye(size + 1)[0]
        best, *_ = np.linalg.lstsq(matrix, datum, rcond=None)
        c.close(
            "distance of v_0 to the range",
            np.sum((matrix @ best - datum) ** 2),
            1 / (size + 1),
            1e-9,
        )
        c.close("Picard's sum", np.sum((datum / kappa) ** 2), 1, 1e-12)
        # The nearest preimages grow without bound: sum n^2 / (D + 1)^2.
        c.close("their size", np.sum(best**2), np.sum(n**2) / (size + 1) ** 2, 1e-6)


# ------------------------------------------------------------------ wavelets on the line


@cache
def symbols(name):
    bank = pywt.Wavelet(name)
    return tuple(np.array(taps) / np.sqrt(2) for taps in (bank.rec_lo, bank.rec_hi))


def transform(name, omega):
    """Fourier transform of psi at ordinary frequencies, by the infinite product."""
    low, high = symbols(name)
    n = np.arange(len(low))

    def symbol(taps, w):
        return np.exp(-2j * np.pi * np.multiply.outer(w, n)) @ taps

    value = symbol(high, omega / 2)
    for k in range(2, 24):
        value = value * symbol(low, omega / 2**k)
    return value


def connection(name):
    """||psi'||^2 and minus the second derivative of r_phi at the integers (Beylkin 1992).

    Solved as a linear system, not by iteration: 4 T d = d, sum m^2 d_m = -2, sum d_m = 0.
    """
    low, high = (np.sqrt(2) * taps for taps in symbols(name))
    a, b = (np.correlate(taps, taps, "full") for taps in (low, high))
    reach = len(low) - 1
    m = np.arange(-reach, reach + 1)
    position = 2 * m[:, None] - m
    inside = np.abs(position) <= reach
    matrix = np.where(inside, a[np.clip(position, -reach, reach) + reach], 0.0)
    system = np.vstack([4 * matrix - np.eye(len(m)), m**2, np.ones(len(m))])
    right = np.zeros(len(system))
    right[-2] = -2
    d, *_ = np.linalg.lstsq(system, right, rcond=None)
    assert np.abs(system @ d - right).max() < 1e-9  # solvable only if psi has a derivative
    return 4 * b @ d, m, d


def fourier_wavelets(name, scales, cut):
    """Fourier coefficients of the periodized wavelets, n = -cut, ..., cut without 0."""
    n = np.concatenate([np.arange(-cut, 0), np.arange(1, cut + 1)])
    rows, labels = [], []
    for j in range(scales):
        profile = 2 ** (-j / 2) * transform(name, n / 2**j)
        for k in range(2**j):
            rows.append(profile * np.exp(-2j * np.pi * n * k / 2**j))
            labels.append(j)
    return np.array(rows), np.array(labels), n


def sampled_vaguelettes(name, size):
    """v on samples, by one FFT per wavelet of PyWavelets, and the quasi-singular values."""
    levels = int(np.log2(size))
    start = pywt.wavedec(np.zeros(size), name, mode="periodization", level=levels)
    rows = []
    for band in range(1, levels + 1):
        for k in range(len(start[band])):
            unit = [np.zeros_like(part) for part in start]
            unit[band][k] = 1
            rows.append(pywt.waverec(unit, name, mode="periodization"))
    k = np.fft.fftfreq(size, 1 / size)
    factor = -2j * np.pi * k  # of v = -u'
    factor[size // 2] = np.pi * size  # the Nyquist wave, as the statement says
    v = np.fft.ifft(np.fft.fft(np.array(rows), axis=1) * factor, axis=1).real
    norms = np.linalg.norm(v, axis=1)
    return v / norms[:, None], 1 / norms


# ---------------------------------------------------------------------- vaguelettes exist


def test_vaguelette_range(claim):
    c = claim("prop-vaguelette-range")
    rng = np.random.default_rng(4102)

    # Part 1 on an odd grid (no Nyquist wave), where smooth functions are trigonometric sums.
    size = 63
    t = np.arange(size) / size
    matrix = frames.periodic_integration(size).to_matrix()
    worst = 0.0
    for _ in range(5):
        p, q = rng.standard_normal((2, 20)) / np.arange(1, 21)
        k = 2 * np.pi * np.arange(1, 21)[:, None]
        u = p @ np.cos(k * t) + q @ np.sin(k * t)
        slope = -(p * k[:, 0]) @ np.sin(k * t) + (q * k[:, 0]) @ np.cos(k * t)
        kappa = np.sqrt(size) / np.linalg.norm(slope)
        v = -kappa * slope
        worst = max(worst, np.abs(matrix.T @ v - kappa * u).max())
        least, *_ = np.linalg.lstsq(matrix.T, kappa * u, rcond=1e-12)
        worst = max(worst, np.abs(least - v).max())  # mean zero is least norm
    c.at_most("part 1: A* v = κu for v = -κu', the only one of mean zero", worst, 1e-9)
    norms = []
    for n in (63, 255):
        grid = np.arange(n) / n
        jump = (grid < 0.4) - np.mean(grid < 0.4)
        matrix = frames.periodic_integration(n).to_matrix()
        least, *_ = np.linalg.lstsq(matrix.T, jump, rcond=1e-12)
        norms.append(np.sum(least**2) / n)
    c.at_least("a step is not in the range: preimages grow with N", norms[1] / norms[0], 3.5)

    # Part 2: norms of u' from Fourier coefficients of periodized wavelets.
    for name, scales in (("db4", (3, 4)), ("sym8", (4, 5)), ("db5", (4,))):
        limit, *_ = connection(name)
        for j in scales:
            n = np.arange(1, 40_000)
            power = 2 * np.sum(
                (2 * np.pi * n) ** 2 * 2.0**-j * np.abs(transform(name, n / 2**j)) ** 2
            )
            c.close(f"κ of {name}, j = {j}", power**-0.5 * 2**j * limit**0.5, 1, 2e-3)
    n = np.arange(1, 40_000)
    power = 2 * np.sum((2 * np.pi * n) ** 2 * np.abs(transform("db4", n)) ** 2)
    limit, *_ = connection("db4")
    c.at_least("wound around the circle (2^j < S) the formula fails", abs(limit / power - 1), 0.1)
    # Without a derivative: energy of u' per octave of frequencies, of u_{3,0}, for 2^3 > S.
    for name, growth in (("haar", 2.0), ("db2", 1.0), ("db3", 0.5625)):
        octaves = []
        for low in (512, 1024, 2048, 4096):
            n = np.arange(low, 2 * low)
            octaves.append(np.sum(n**2 * np.abs(transform(name, n / 8)) ** 2))
        ratio = (octaves[3] / octaves[1]) ** 0.5
        c.close(f"energy of u' per octave, {name}", ratio, growth, 0.01)
    frame_kappa = sampled_vaguelettes("db4", 512)[1][2**4 - 1]
    c.close("κ on samples", frame_kappa * 2**4 * limit**0.5, 1, 5e-3)

    unit = frames.Frame.from_basis(
        frames.periodic_integration(512), frames.wavelet_basis(512, "db4", wrap=True)[0][1:]
    )
    gap = np.abs(unit.kappa / sampled_vaguelettes("db4", 512)[1] - 1).max()
    c.at_most("κ of the library", gap, 1e-8)
    c.at_most("v of the library has norm 1", np.abs(np.sum(unit.v**2, axis=1) - 1).max(), 1e-10)

    # Part 3: E_h by integration over frequencies, and the increments.
    omega = (np.arange(160_000) + 0.5) / 400
    xi = 2 * np.pi * omega
    for name in ("db3", "sym5", "coif2"):
        power = np.abs(transform(name, omega)) ** 2
        for level in (1, 3):
            h = 2.0**-level
            value = 2 * np.sum((2 * np.sin(xi * h / 2) / h) ** 2 * power) / 400
            found = frames.derivative_energy(name, level)
            c.close(f"E_h of {name}, level {level}", found, value, 2e-3 * value)
            rise = 2 * np.sum(16 / h**2 * np.sin(xi * h / 4) ** 4 * power) / 400
            step = frames.derivative_energy(name, level + 1) - found
            c.close(f"increment of {name}, level {level}", step, rise, 5e-3 * rise)
        limit, *_ = connection(name)
        c.close(f"limit for {name}", frames.derivative_energy(name, 120), limit, 1e-6 * limit)

    # Part 4: the ratio of increments is the decay of octaves of xi^2 |psi^|^2.
    for name in ("db3", "db4", "coif1"):
        steps = np.diff([frames.derivative_energy(name, k) for k in (18, 19, 20)])
        octaves = []
        for low in (64, 256):
            w = low * (1 + (np.arange(40_000) + 0.5) / 40_000)
            octaves.append(low * np.mean(w**2 * np.abs(transform(name, w)) ** 2))
        ratio = np.sqrt(octaves[1] / octaves[0])
        c.close(f"decay per octave, {name}", ratio, steps[1] / steps[0], 0.01)
    # E by a matrix: on even vectors 4T has the eigenvalues 4 and 1 of every wavelet in H^1
    # (no part in the increments), and the next one is the rate.
    for name, rate in (("db2", 1.0), ("coif1", 0.9703), ("db3", 0.5625), ("db4", 0.3412)):
        taps = np.sqrt(2) * symbols(name)[0]
        a, reach = np.correlate(taps, taps, "full"), len(taps) - 1
        matrix = np.zeros((reach + 1, reach + 1))
        for m in range(reach + 1):
            for k in range(-reach, reach + 1):
                if abs(2 * m - k) <= reach:
                    matrix[m, abs(k)] += 4 * a[2 * m - k + reach]
        values = np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1]
        gap = np.abs(values[:3] - [4, 1, rate]).max()
        c.at_most(f"eigenvalues 4, 1, {rate} of 4T, {name}", gap, 1e-4)


# ---------------------------------------------------------------------------- the theorem


def periodized_energy(name, t):
    grid = np.concatenate([[1e-5], np.arange(1, 32) / 32])  # has all r / 2^j, j <= 5, but 0
    omega = grid[:, None] + np.arange(-900, 901)
    power = np.abs(transform(name, omega)) ** 2
    return (np.abs(2 * np.pi * omega) ** (2 * t) * power).sum(axis=1).max()


CASES = (("db3", 0.25), ("db4", 0.5), ("sym5", 0.7), ("sym8", 1.0))


def test_vaguelette(claim):
    c = claim("thm-vaguelette")
    rng = np.random.default_rng(4103)
    for name, s in CASES:
        energy = {t: periodized_energy(name, t) for t in (-2.0, 0.0, 1 - s, 1 + s)}
        c.close(f"{name}: E^(0)", energy[0.0], 1, 1e-6)
        above = np.sqrt(energy[1 + s] * energy[1 - s]) * (1 + 2**-s) / (1 - 2**-s)
        below = 3 * np.sqrt(energy[-2.0])

        # The Gram matrix of the functions themselves, without sampling: the matrix of d/dt in
        # the space of the scaling functions is circulant with the connection coefficients.
        limit, lags, d = connection(name)
        measured = []
        for size in (8, 64, 512):
            row = np.zeros(size)
            np.add.at(row, lags % size, size**2 * d)  # a filter longer than the signal winds
            units = np.eye(size)
            parts = pywt.wavedec(
                units, name, mode="periodization", level=int(np.log2(size)), axis=1
            )
            basis = np.concatenate(parts[1:], axis=1).T
            circulant = row[(np.arange(size)[:, None] - np.arange(size)) % size]
            scale = np.repeat(2.0 ** np.arange(len(parts) - 1), [p.shape[1] for p in parts[1:]])
            gram = (basis / scale[:, None]) @ circulant @ (basis / scale[:, None]).T
            values = np.linalg.eigvalsh(gram)
            norms = np.diag(gram)  # of 2^-j u', so that 2^j κ = 1 / sqrt(norms)
            unit = np.linalg.eigvalsh(gram / np.sqrt(np.outer(norms, norms)))
            measured.append((values[0], values[-1], unit[0], unit[-1], 1 / norms))
            if size == 512:
                c.close(f"{name}: 2^-j u' at j = 6", norms[2**6], limit, 1e-7 * limit)
        low, high = measured[-1][:2]
        c.at_least(f"{name}: lower bound over 1/C_w", min(m[0] for m in measured) * below, 1)
        c.at_most(f"{name}: upper bound over C_v", max(m[1] for m in measured) / above, 1)
        c.at_most(f"{name}: constants too large by at most", above * below / (high / low), 60)
        c.at_least(f"{name}: B1' times C_v C_w", min(m[2] for m in measured) * above * below, 1)
        c.at_most(f"{name}: B2' over C_v C_w", max(m[3] for m in measured) / (above * below), 1)
        squares = np.concatenate([m[4] for m in measured])
        c.at_least(f"{name}: least (2^j κ)^2 C_v", squares.min() * above, 1)
        c.at_most(f"{name}: largest (2^j κ)^2 / C_w", squares.max() / below, 1)
        c.at_least(
            f"{name}: bounds do not drift, B1' from 64 to 512",
            measured[2][2] / measured[1][2],
            0.95,
        )

    # Every inequality of the proof, on Fourier coefficients.
    for name, s in (("db4", 0.5), ("sym8", 1.0)):
        u, scale, n = fourier_wavelets(name, 5, 900)  # no further than the grid of E
        omega = 2 * np.pi * n
        energy = {t: periodized_energy(name, t) for t in (-2.0, 0.0, 1 - s, 1 + s)}
        c.at_most(f"{name}: orthonormal", np.abs(u @ u.conj().T - np.eye(len(u))).max(), 1e-5)
        tilde = -2j * np.pi * n * u / 2.0 ** scale[:, None]
        w = u / (2j * np.pi * n) * 2.0 ** scale[:, None]
        c.at_most(f"{name}: biorthogonal", np.abs(tilde @ w.conj().T - np.eye(len(u))).max(), 1e-5)
        largest = np.linalg.eigvalsh(w @ w.conj().T)[-1]
        c.at_most(f"{name}: antiderivatives over C_w", largest / (3 * np.sqrt(energy[-2.0])), 1)
        bernstein, couple, couple_w = 0.0, 0.0, 0.0
        for j in range(5):
            for ell in range(j + 1):
                f = rng.standard_normal(2**j) @ u[scale == j]
                for t, value in energy.items():
                    size = np.linalg.norm(np.abs(omega) ** t * f)
                    bernstein = max(
                        bernstein, size / (2 ** (j * t) * np.sqrt(value) * np.linalg.norm(f))
                    )
                bound = np.sqrt(energy[1 - s] * energy[1 + s]) * 2.0 ** (-s * (j - ell))
                block = tilde[scale == j] @ tilde[scale == ell].conj().T
                couple = max(couple, np.linalg.norm(block, 2) / bound)
                block = w[scale == j] @ w[scale == ell].conj().T
                bound = np.sqrt(energy[-2.0]) * 2.0 ** (ell - j)
                couple_w = max(couple_w, np.linalg.norm(block, 2) / bound)
        c.at_most(f"{name}: one scale", bernstein, 1 + 1e-9)
        c.at_most(f"{name}: two scales of derivatives", couple, 1)
        c.at_most(f"{name}: two scales of antiderivatives", couple_w, 1)

    # Up to the smoothness of the wavelet the decay 2^-s is real: db3 against 2^-0.415 per scale.
    _, lags, d = connection("db3")
    size = 512
    row = np.zeros(size)
    np.add.at(row, lags % size, size**2 * d)
    circulant = row[(np.arange(size)[:, None] - np.arange(size)) % size]
    parts = pywt.wavedec(np.eye(size), "db3", mode="periodization", level=9, axis=1)
    fine = parts[9].T / 2**8
    norms = [np.linalg.norm(fine @ circulant @ (parts[j + 1].T / 2**j).T, 2) for j in (0, 2)]
    rate = np.log2(norms[1] / norms[0]) / 2
    c.close("coupling of db3, exponent per scale", rate, 0.415, 0.02)


# --------------------------------------------------------------------- what was measured


def deslauriers_dubuc(p):
    """Autocorrelation of the db-p filter in fractions: interpolation of degree 2p - 1 at 1/2."""
    nodes = [2 * i + 1 for i in range(-p, p)]
    a = {0: Fraction(1)}
    for node in nodes:
        value = Fraction(1)
        for other in nodes:
            if other != node:
                value *= Fraction(-other, node - other)
        a[node] = value
    return a


def exact_energies(p, count):
    a = deslauriers_dubuc(p)
    lags = range(1 - 2 * p, 2 * p)
    d = {m: Fraction(2 * (m == 0) - (abs(m) == 1)) for m in lags}
    found = []
    for _ in range(count):
        found.append(4 * sum((-1) ** m * a.get(m, 0) * d[m] for m in lags))
        d = {m: 4 * sum(a.get(2 * m - k, 0) * d[k] for k in lags) for m in lags}
    return found


def test_derivative_energy(claim):
    c = claim("obs-derivative-energy")
    haar, db2, db3, db4 = (exact_energies(p, 12) for p in (1, 2, 3, 4))
    c.close("Haar: exactly 6 2^L", max(abs(e - 6 * 2**k) for k, e in enumerate(haar, 1)), 0, 1e-12)
    # The energies obey a linear recurrence of order 7, so that 12 equalities are all of them.
    off = max(abs(e - 2 - Fraction(21, 2) * k) for k, e in enumerate(db2, 1))
    c.close("db2: exactly 2 + 21 L / 2", off, 0, 1e-12)
    for name, exact in (("haar", haar), ("db2", db2), ("db3", db3), ("db4", db4)):
        for level in (2, 7, 12):
            value = float(exact[level - 1])
            c.close(f"library, {name}", frames.derivative_energy(name, level), value, 1e-8 * value)
    for name, limit, tol in (("db3", 36.875, 1e-6), ("db4", 29.16, 5e-3), ("sym8", 24.88, 5e-3),
                             ("coif1", 362.2, 0.05)):  # fmt: skip
        c.close(f"limit for {name}", connection(name)[0], limit, tol)
    steps = np.diff([float(e) for e in db3])
    c.close("db3: increments shrink by", steps[-1] / steps[-2], 0.5625, 1e-3)
    steps = np.diff([float(e) for e in db4])
    c.close("db4: increments shrink by", steps[-1] / steps[-2], 0.34, 0.006)
    steps = np.diff([frames.derivative_energy("sym8", k) for k in (8, 9, 10)])
    c.close("sym8: increments shrink by", steps[1] / steps[0], 0.25, 0.002)
    steps = np.diff([frames.derivative_energy("coif1", k) for k in (50, 51, 52)])
    c.close("coif1: increments shrink by", steps[1] / steps[0], 0.97, 0.003)


def test_vaguelette_condition(claim):
    c = claim("obs-vaguelette-condition")
    sizes = (64, 128, 256, 512, 1024)
    printed = {
        "haar": (99, 510, 2473), "db2": (19.4, 34.1, 52.9), "coif1": (18.2, 30.9, 46.5),
        "db3": (8.7, 10.6, 12.0), "db4": (6.0, 6.4, 6.7), "sym8": (4.38, 4.38, 4.38),
    }  # fmt: skip
    low, high = {}, {}
    for name, table in printed.items():
        found = []
        for size in sizes:
            v, _ = sampled_vaguelettes(name, size)
            found.append(np.linalg.eigvalsh(v @ v.T)[[0, -1]])
        low[name], high[name] = np.array(found).T
        rounding = 0.5 if name == "haar" else 0.005 if name == "sym8" else 0.05
        for size, value in zip((64, 256, 1024), table, strict=True):
            i = sizes.index(size)
            c.close(f"{name}, N = {size}", high[name][i] / low[name][i], value, 1.05 * rounding)

    def spread(values):
        return values.max() / values.min()

    grid = np.log2(sizes)
    c.at_most("Haar: spread of 1/(N B1')", spread(1 / (low["haar"] * sizes)), 1.07)
    c.at_most("Haar: spread of B2' increments", spread(np.diff(high["haar"])), 1.05)
    c.at_least(
        "Haar: condition over N grows", np.diff(high["haar"] / low["haar"] / sizes).min(), 0.1
    )
    c.at_most("db2: spread of increments of 1/B1'", spread(np.diff(1 / low["db2"])), 1.05)
    c.at_most("db2: spread of increments of B2'", spread(np.diff(high["db2"])), 1.05)
    c.at_most("db2: spread of condition / log^2", spread(high["db2"] / low["db2"] / grid**2), 1.05)
    for name in ("db3", "db4"):
        steps = np.diff(high[name] / low[name])
        c.at_least(f"{name}: increments shrink", -np.diff(steps).max(), 0.01)
    c.at_most("sym8: spread", spread(high["sym8"] / low["sym8"]), 1.002)
    c.at_most("operator of the library", np.abs(
        frames.condition(frames.Frame.from_basis(
            frames.periodic_integration(128), frames.wavelet_basis(128, "db5", wrap=True)[0][1:]
        ).v) / np.linalg.cond(sampled_vaguelettes("db5", 128)[0]) ** 2 - 1), 1e-8)  # fmt: skip
    # On Break it: with a weak Nyquist wave the condition number goes like 4 / factor^2.
    k = np.fft.fftfreq(64, 1 / 64)
    symbol = np.divide(-1j, 2 * np.pi * k, out=np.zeros(64, complex), where=k != 0)
    symbol[32] = 0.05 / (np.pi * 64)
    weak = operators.PeriodicBlur(np.fft.ifft(symbol).real, symbol=symbol)
    frame = frames.Frame.from_basis(weak, frames.wavelet_basis(64, "db5", wrap=True)[0][1:])
    c.close("weak Nyquist wave", frames.condition(frame.v) * 0.05**2, 4, 0.01)
