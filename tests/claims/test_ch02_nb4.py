"""Witnesses of chapter 2, notebook 4: learning from finitely many examples."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from advreg import data, operators, spectral


def gaussian_pairs(rng, pairs, sigma, signal, noise, cross=0.0):
    """Independent columns (x_n, y_n); x is made from the noise, as its own regression on it."""
    sigma, signal, noise, cross = np.broadcast_arrays(sigma, signal, noise, cross)
    e = np.sqrt(noise) * rng.standard_normal((pairs, sigma.size))
    on_noise = np.divide(cross, noise, out=np.zeros(sigma.size), where=noise > 0)
    rest = np.sqrt(np.maximum(signal - on_noise * cross, 0))
    x = on_noise * e + rest * rng.standard_normal(e.shape)
    return x, sigma * x + e


def model(size, a=1.0, b=1.0, delta=1e-2):
    """Singular values, powers, optimal gains and least risks of MP(a, b), written out."""
    n = np.arange(1.0, size + 1)
    sigma, signal = n**-a, n ** (-2 * b)
    data_power = sigma**2 * signal + delta**2
    return sigma, signal, delta**2, sigma * signal / data_power, signal * delta**2 / data_power


def excesses(rng, sets, pairs, sigma, signal, noise, draw=None):
    """Relative excess risk of `sets` learned filters, from the risk itself."""
    data_power = sigma**2 * signal + noise
    least = np.sum(signal * noise / data_power)
    out = np.zeros(sets)
    for i in range(sets):
        if draw is None:
            x, y = gaussian_pairs(rng, pairs, sigma, signal, noise)
        else:
            x = np.sqrt(signal) * draw(rng, (pairs, sigma.size))
            y = sigma * x + np.sqrt(noise) * rng.standard_normal(x.shape)
        g = spectral.fit_gain(x, y)
        out[i] = np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise) / least - 1
    return out


# ------------------------------------------------------------------------------ sample size


def test_sample_size(claim):
    c = claim("thm-sample-size")
    rng = np.random.default_rng(241)

    # The law, on 20,000 copies of one mode, with and without correlation of signal and noise.
    for pairs in (1, 3, 8):
        for sigma, signal, noise, cross in ((0.3, 2.0, 0.1, 0.0), (0.7, 1.0, 0.5, -0.4)):
            x, y = gaussian_pairs(rng, pairs, np.full(20000, sigma), signal, noise, cross)
            s = sigma**2 * signal + 2 * sigma * cross + noise
            g, r = (sigma * signal + cross) / s, (signal * noise - cross**2) / s
            student = (spectral.fit_gain(x, y) - g) / np.sqrt(r / (pairs * s))
            gap = stats.kstest(student, stats.t(pairs).cdf).statistic
            # 1.95 / sqrt(sets) is exceeded with probability 0.001
            c.at_most(f"Kolmogorov distance, M = {pairs}, cross {cross}", gap, 1.95 / 20000**0.5)

    # The mean of the total risk, modes correlated with each other, dense covariance.
    k = np.arange(12)
    covariance = 0.8 ** np.abs(k[:, None] - k) / np.outer(k + 1, k + 1) ** 0.7
    root, sigma = np.linalg.cholesky(covariance), np.geomspace(1, 1e-3, 12)
    signal, noise = np.diag(covariance), 1e-3
    least = np.sum(signal * noise / (sigma**2 * signal + noise))
    for pairs, sets in ((6, 6000), (12, 3000), (40, 2000)):
        risks = np.zeros(sets)
        for i in range(sets):
            x = rng.standard_normal((pairs, 12)) @ root.T
            y = sigma * x + np.sqrt(noise) * rng.standard_normal(x.shape)
            g = spectral.fit_gain(x, y)
            risks[i] = np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise)
        error = risks.std() / sets**0.5
        target = (1 + 1 / (pairs - 2)) * least
        c.close(f"mean risk, M = {pairs}", risks.mean(), target, 4 * error)
        c.at_most(f"its standard error, of the excess, M = {pairs}", error / (target - least), 0.03)

    # M = 3, where the variance is infinite: integrate over the gain against Student's density.
    for pairs in (3, 4, 5):
        mean = integrate.quad(lambda w, m=pairs: w**2 / m * stats.t.pdf(w, m), -np.inf, np.inf)[0]
        c.close(f"mean by quadrature, M = {pairs}", mean, 1 / (pairs - 2), 1e-6)
    for pairs, power in ((2, 2), (4, 4)):  # infinite mean for M = 2, infinite variance for M = 4

        def truncated(bound, m=pairs, p=power):
            return integrate.quad(lambda w: w**p * stats.t.pdf(w, m), 1e2, bound, limit=200)[0]

        growth = truncated(1e6) / truncated(1e4)  # logarithmic: two decades become four
        c.close(f"divergent moment {power}, M = {pairs}", growth, 2.0, 1e-2)

    # Spread, 100 independent modes of MP(1, 1).
    sigma, signal, noise, _, r = model(100)
    for pairs in (14, 30):
        found = excesses(rng, 3000, pairs, sigma, signal, noise)
        variance = 2 * (pairs - 1) / (pairs - 2) ** 2 / (pairs - 4) * np.sum(r**2) / r.sum() ** 2
        c.close(f"variance / theory, M = {pairs}", found.var() / variance, 1.0, 0.15)
        c.close(f"mean x (M - 2), M = {pairs}", found.mean() * (pairs - 2), 1.0, 0.03)

    # Signs: counted.
    for pairs, ratio in ((5, 0.2), (20, 0.02), (10, 1e-6)):
        x, y = gaussian_pairs(rng, pairs, np.full(20000, 0.1), 1.0, 0.01 / ratio)
        share = np.mean(spectral.fit_gain(x, y) < 0)
        exact = stats.t.cdf(-np.sqrt(pairs * ratio), pairs)
        c.close(
            f"negative share, M = {pairs}, theta = {ratio:g}", share, exact, 4 * 0.5 / 20000**0.5
        )
    c.close("no signal to speak of", exact, 0.5, 0.002)

    # Many modes and an operator that underflows to zero cost nothing extra.
    n = np.arange(1.0, 20001)
    found = excesses(rng, 40, 10, np.exp(-(n**2) / 50), n**-1.6, 1e-6)
    c.close("20,000 modes, heat operator, x (M - 2)", found.mean() * 8, 1.0, 0.1)
    sigma, signal, noise, *_ = model(5000, a=1.0, b=0.51)  # smoothness near the limit 1/2
    found = excesses(rng, 60, 10, sigma, signal, noise)
    c.close("b near 1/2, x (M - 2)", found.mean() * 8, 1.0, 0.1)
    # Degenerate modes: no noise gives the inverse, no signal the zero gain, from any pair.
    x, y = gaussian_pairs(rng, 1, np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    c.at_most("no noise, no signal", np.abs(spectral.fit_gain(x, y) - [2.0, 0.0]).max(), 1e-14)


def test_clipped_gains(claim):
    c = claim("prop-clipped-gains")
    rng = np.random.default_rng(242)
    sigma, signal, noise = 10 ** rng.uniform(-2, 1, (3, 5000))
    signal[:500], noise[500:1000] = 0.0, 0.0  # optimum at the ends of the interval
    optimal = sigma * signal / (sigma**2 * signal + noise)
    g = optimal + rng.standard_normal(5000) / sigma * 10 ** rng.uniform(-2, 1, 5000)
    g[::7] = np.where(rng.random(g[::7].size) < 0.5, 0.0, 1 / sigma[::7])  # on the boundary
    clipped = np.clip(g, 0, 1 / sigma)
    before, after = ((1 - sigma * h) ** 2 * signal + h**2 * noise for h in (g, clipped))
    scale = np.maximum(before, 1e-300)
    c.at_most("risk after minus before, relative", np.max((after - before) / scale), 1e-13)
    changed = clipped != g
    c.at_least("changed modes", changed.sum(), 1000)
    c.at_most("where changed: risk after / before", np.max(after[changed] / before[changed]), 1.0)
    c.at_least("strictly less", np.mean(after[changed] < before[changed]), 1.0)
    # Without the hypothesis Gamma = 0 clipping can hurt: the optimum may be negative.
    x, y = gaussian_pairs(rng, 200, np.full(400, 0.3), 1.0, 1.0, -0.8)
    best = (0.3 - 0.8) / (0.09 - 0.48 + 1)
    g = spectral.fit_gain(x, y)
    worse = np.mean(np.abs(np.clip(g, 0, 1 / 0.3) - best) > np.abs(g - best))
    c.at_least("with cross power clipping hurts", worse, 0.9)

    # The law of part 2 against training sets, and the two limits.
    for pairs, ratio in ((5, 0.1), (5, 10.0), (12, 1.0), (6, 1e-6), (6, 1e6)):
        sigma, signal = 0.2, 3.0
        noise = sigma**2 * signal / ratio
        x, y = gaussian_pairs(rng, pairs, np.full(40000, sigma), signal, noise)
        s = sigma**2 * signal + noise
        g = np.clip(spectral.fit_gain(x, y), 0, 1 / sigma)
        found = s * (g - sigma * signal / s) ** 2 / (signal * noise / s)
        lower, upper = np.sqrt(pairs * ratio), np.sqrt(pairs / ratio)
        inside = integrate.quad(lambda w, m=pairs: w**2 * stats.t.pdf(w, m), -lower, 0)[0]
        inside += integrate.quad(lambda w, m=pairs: w**2 * stats.t.pdf(w, m), 0, upper)[0]
        outside = lower**2 * stats.t.sf(lower, pairs) + upper**2 * stats.t.sf(upper, pairs)
        exact = (inside + outside) / pairs
        name = f"M = {pairs}, theta = {ratio:g}"
        if 1e-3 < ratio < 1e3:  # the quadrature does not resolve a bound of 1e3 standard widths
            c.close(name, found.mean(), exact, 4 * found.std() / 200)
        else:
            c.close(f"half, {name}", found.mean() * (pairs - 2), 0.5, 0.03)
        c.at_most(f"below 1/(M-2), {name}", found.mean() * (pairs - 2), 1.0)


def test_plug_in(claim):
    c = claim("prop-plug-in")
    rng = np.random.default_rng(243)
    # The identity, from the risks themselves.
    gap, least, most = [], [], []
    for _ in range(50):
        sigma, signal, noise = 10 ** rng.uniform(-2, 1, (3, 30))
        x = np.sqrt(signal) * rng.standard_t(5, (int(rng.integers(1, 9)), 30))
        g = spectral.fit_plug_in(x, sigma, noise)
        s = sigma**2 * signal + noise
        excess = (1 - sigma * g) ** 2 * signal + g**2 * noise - signal * noise / s
        theta, nu = sigma**2 * signal / noise, np.mean(x**2, axis=0) / signal
        formula = theta * (nu - 1) ** 2 / (1 + theta * nu) ** 2
        scale = 1 + s / noise  # cancellation in the difference of two risks
        gap.append(np.max(np.abs(excess / (signal * noise / s) - formula) / scale))
        least.append(g.min())
        most.append(np.max(g * sigma))
    c.at_most("identity", max(gap), 1e-12)
    c.at_least("gain", min(least), 0.0)
    c.at_most("gain x sigma", max(most), 1.0)

    # Half the price of regression, for all M >= 3 and theta; Gaussian signals, by quadrature.
    worst, largest = 0.0, 0.0
    for pairs in (3, 4, 6, 10, 30, 200):
        for theta in np.geomspace(1e-4, 1e4, 25):

            def term(v, m=pairs, t=theta):
                return t * (v - 1) ** 2 / (1 + t * v) ** 2 * stats.chi2.pdf(m * v, m) * m

            points = [0.0, 1e-6, 1e-4, 1e-2, 0.3, 1.0, 2.0, 5.0, 40.0]
            mean = sum(integrate.quad(term, lo, hi)[0] for lo, hi in pairwise(points))
            worst = max(worst, mean * 2 * (pairs - 2))
            if pairs == 200:
                largest = max(largest, mean * 2 * (pairs - 2))
    c.at_most("price x 2 (M - 2)", worst, 1.0)
    c.at_least("nearly attained for large M", largest, 0.95)

    # One example is enough for the bound of part 1, whatever the law.
    laws = {
        "Gaussian": (3.0, lambda shape: rng.standard_normal(shape)),
        "Laplace": (6.0, lambda shape: rng.laplace(size=shape) / np.sqrt(2)),
        "uniform": (1.8, lambda shape: rng.uniform(-(3**0.5), 3**0.5, shape)),
        "signs": (1.0, lambda shape: rng.choice([-1.0, 1.0], shape)),
    }
    sigma, signal, noise, _, r = model(60)
    theta = sigma**2 * signal / noise
    for name, (kurtosis, draw) in laws.items():
        for pairs, sets in ((1, 3000), (400, 500)):
            found = np.zeros(sets)
            for i in range(sets):
                g = spectral.fit_plug_in(np.sqrt(signal) * draw((pairs, 60)), sigma, noise)
                found[i] = np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise - r)
            bound = (kurtosis - 1) / pairs * np.sum(theta * r)
            c.at_most(f"{name}, M = {pairs}: mean excess", found.mean(), bound + 1e-12)
        limit = np.sum((kurtosis - 1) * theta / (1 + theta) ** 2 * r)
        # At M = 400 the remainder is about 1 %; four standard errors on top.
        error = 4 * pairs * found.std() / sets**0.5 + 0.015 * limit + 1e-12
        c.close(f"{name}: M x excess against the limit", pairs * found.mean(), limit, error)


def test_full_matrix(claim):
    c = claim("prop-full-matrix")
    rng = np.random.default_rng(244)
    for unknowns, size, pairs, sets in ((3, 5, 14, 4000), (6, 6, 30, 1500), (2, 1, 7, 8000)):
        factor = rng.standard_normal((unknowns + size, unknowns + size))  # correlated throughout
        joint = factor @ factor.T
        c_x, c_xy, c_y = (
            joint[:unknowns, :unknowns],
            joint[:unknowns, unknowns:],
            joint[unknowns:, unknowns:],
        )
        least = np.trace(c_x - c_xy @ np.linalg.solve(c_y, c_xy.T))
        risks = np.zeros(sets)
        for i in range(sets):
            z = rng.standard_normal((pairs, unknowns + size)) @ factor.T
            fit = np.linalg.lstsq(z[:, unknowns:], z[:, :unknowns], rcond=None)[0].T
            risks[i] = np.trace(c_x - 2 * fit @ c_xy.T + fit @ c_y @ fit.T)
        error, target = risks.std() / sets**0.5, (1 + size / (pairs - size - 1)) * least
        c.close(f"risk, N = {size}, M = {pairs}", risks.mean(), target, 4 * error)
        c.at_most(f"standard error of the excess, N = {size}", error / (target - least), 0.05)

    # The threshold M = N + 2: 1 / ((G'G)^-1)_ii has M - N + 1 degrees of freedom.
    for size, pairs in ((4, 4), (4, 5), (4, 6), (7, 20)):
        g = rng.standard_normal((4000, pairs, size))
        distance = 1 / np.linalg.inv(g.mT @ g)[:, 0, 0]
        gap = stats.kstest(distance, stats.chi2(pairs - size + 1).cdf).statistic
        c.at_most(f"chi-square law, N = {size}, M = {pairs}", gap, 1.95 / 4000**0.5)
    for freedom, finite in ((1, False), (2, False), (3, True)):
        low = integrate.quad(lambda u, f=freedom: stats.chi2.pdf(u, f) / u, 1e-8, 1e-4)[0]
        if finite:
            c.at_most("mass of 1/Q near 0, M = N + 2", low, 0.02)
        else:
            c.at_least(f"mass of 1/Q near 0, {freedom} degrees of freedom", low, 4.0)


def test_fourth_moments(claim):
    c = claim("prop-fourth-moments")
    rng = np.random.default_rng(245)
    # The constant by exact finite sums over discrete laws.
    gaps = []
    for _ in range(200):
        p, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3))
        x, e = rng.standard_normal(4), 10 ** rng.uniform(-1, 1) * rng.standard_normal(3)
        x, e = x - p @ x, e - q @ e
        sigma, signal, noise = 10 ** rng.uniform(-1, 1), p @ x**2, q @ e**2
        s = sigma**2 * signal + noise
        g, r = sigma * signal / s, signal * noise / s
        y = sigma * x[:, None] + e
        sandwich = p @ ((x[:, None] - g * y) ** 2 * y**2) @ q / (r * s)
        theta = sigma**2 * signal / noise
        extra = p @ x**4 / signal**2 - 3 + q @ e**4 / noise**2 - 3
        gaps.append(abs(sandwich - 1 - extra * theta / (1 + theta) ** 2) / (1 + abs(extra)))
    c.at_most("constant", max(gaps), 1e-12)

    # The law of M E / r at M = 800, 4,000 copies of a mode.
    for name, extra, draw in (
        ("uniform", -1.2, lambda shape: rng.uniform(-(3**0.5), 3**0.5, shape)),
        ("Laplace", 3.0, lambda shape: rng.laplace(size=shape) / np.sqrt(2)),
    ):
        for theta in (0.2, 1.0):
            x = draw((800, 4000))
            y = x + theta**-0.5 * rng.standard_normal(x.shape)
            s, g = 1 + 1 / theta, theta / (1 + theta)
            scaled = 800 * s * (spectral.fit_gain(x, y) - g) ** 2 / (1 / (1 + theta))
            factor = 1 + extra * theta / (1 + theta) ** 2
            gap = stats.kstest(scaled / factor, stats.chi2(1).cdf).statistic
            c.at_most(f"{name}, theta = {theta:g}: Kolmogorov distance", gap, 1.95 / 4000**0.5)


# ----------------------------------------------------------------------------- measured here


def test_negative_gains(claim):
    c = claim("obs-negative-gains")
    sigma, signal, noise, *_ = model(100)
    rng = np.random.default_rng(246)
    for pairs, sets in ((10, 400), (100, 200)):
        wrong = np.mean(
            [
                spectral.fit_gain(*gaussian_pairs(rng, pairs, sigma, signal, noise)) < 0
                for _ in range(sets)
            ],
            axis=0,
        )
        if pairs == 10:
            c.close("M = 10, all", wrong.mean(), 0.36, 0.015)
            c.at_most("M = 10, up to the cut-off", wrong[:10].mean(), 0.002)
            c.close("M = 10, beyond", wrong[10:].mean(), 0.41, 0.015)
        else:
            c.close("M = 100, all", wrong.mean(), 0.27, 0.015)


def test_training_meets_theory(claim):
    torch = pytest.importorskip("torch")
    c = claim("obs-training-meets-theory")
    for a, b, delta in ((1.0, 1.0, 1e-2), (0.5, 0.75, 0.05)):
        sigma, signal, noise, _, r = model(20, a, b, delta)
        name, gains, layers, reached, apart = f"MP({a:g},{b:g})", [], [], [], []
        for seed in range(20):
            rng = np.random.default_rng(7000 + seed)
            x, y = gaussian_pairs(rng, 62, sigma, signal, noise)
            g, _ = spectral.train_gain(x, y, steps=60, lr=0.3, seed=seed)
            reached.append(np.abs(g - np.sum(x * y, axis=0) / np.sum(y**2, axis=0)).max())
            gains.append(np.sum((1 - sigma * g) ** 2 * signal + g**2 * noise) / r.sum() - 1)
            # A linear layer, trained by torch's own optimizer on standardised data.
            scale = np.sqrt(np.mean(y**2, axis=0))
            layer = torch.nn.Linear(20, 20, bias=False, dtype=torch.float64)
            torch.nn.init.zeros_(layer.weight)
            curvature = np.linalg.norm(y / scale, 2) ** 2 / len(y)
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.5 / curvature)
            given, target = torch.as_tensor(y / scale), torch.as_tensor(x)
            for _ in range(400):
                optimizer.zero_grad()
                ((layer(given) - target) ** 2).sum(dim=1).mean().backward()
                optimizer.step()
            L = layer.weight.detach().numpy() / scale
            exact = np.linalg.solve(y.T @ y, y.T @ x).T
            apart.append(np.abs(L - exact).max())
            bias = L * sigma - np.eye(20)
            layers.append(np.sum(bias**2 * signal + L**2 * noise) / r.sum() - 1)
        c.at_most(f"{name}: gains against least squares", max(reached), 1e-10)
        c.at_most(f"{name}: layers against normal equations", max(apart), 1e-6)
        for what, values, theory in (("filter", gains, 1 / 60), ("layer", layers, 20 / 41)):
            error = np.std(values, ddof=1) / 20**0.5
            c.close(f"{name}: excess, {what}", np.mean(values), theory, 3 * error)
            c.at_most(f"{name}: relative standard error, {what}", error / theory, 0.15)


def oracle_parameter(s, x, y, name):
    """Least mean error over the parameter of Tikhonov's method or TSVD, by its own loop."""
    errors = []
    for alpha in np.geomspace(s[s > 0].min() ** 2, s.max() ** 2, 120):
        q = s**2 / (s**2 + alpha) if name == "Tikhonov" else (s**2 >= alpha)
        errors.append(np.mean(np.sum((q / s * y - x) ** 2, axis=1)))
    return min(errors)


def test_ecg_segments(claim):
    c = claim("obs-ecg-segments")
    record = data.ecg(1024)
    amplifier = operators.Integration(64)
    s = amplifier.singular_values
    mean = record[:600].mean()
    past, future = (
        amplifier.analyse_domain(np.array([part[i : i + 64] for i in range(len(part) - 63)]) - mean)
        for part in (record[:600], record[600:])
    )
    assert len(past) == 537
    few = past[::64]
    assert len(few) == 9

    def error(estimate):
        return np.mean(np.sum((estimate - future) ** 2, axis=1))

    for level in (0.3, 1.0, 3.0):
        table, apart = [], []
        for seed in range(10):
            rng = np.random.default_rng(900 + seed)
            y = s * past + level * rng.standard_normal(past.shape)
            z = s * future + level * rng.standard_normal(future.shape)
            g, _ = spectral.train_gain(past, y, steps=40, lr=0.4)
            exact = np.sum(past * y, axis=0) / np.sum(y**2, axis=0)
            apart.append(np.abs(g - exact).max() / np.abs(exact).max())
            y_few = y[::64]
            g_few = np.sum(few * y_few, axis=0) / np.sum(y_few**2, axis=0)
            power = np.mean(few**2, axis=0)
            g_plug = s * power / (s**2 * power + level**2)
            matrix = np.linalg.solve(y.T @ y, y.T @ past)
            best = np.sum(future * z, axis=0) / np.sum(z**2, axis=0)
            table.append(
                [error(h * z) for h in (g, g_few, g_plug)]
                + [oracle_parameter(s, future, z, name) for name in ("Tikhonov", "TSVD")]
                + [error(z @ matrix)]
            )
            table[-1] = np.array(table[-1]) / error(best * z)
        learned, nine, plug, tikhonov, tsvd, full = np.mean(table, axis=0)
        at = f"level {level:g}: "
        c.at_most(at + "trained against least squares", max(apart), 1e-10)
        c.close(at + "learned from 537", learned, 1.03, 0.02)
        c.at_least(at + "best of Tikhonov and TSVD", min(tikhonov, tsvd), 1.24)
        c.close(at + "9 windows, regression", nine, 1.4, 0.1)
        c.close(at + "9 windows, plug-in", plug, 1.2, 0.05)
        if level < 1:
            c.at_most(at + "full matrix", full, 0.95)
        else:
            c.at_least(at + "full matrix over learned filter", full / learned, 1.0)

    # Smoothness and exponent, from the powers.
    power, tested = np.mean(past**2, axis=0), np.mean(future**2, axis=0)
    levels = np.geomspace(0.3, 10, 10)
    risks, promised = [], []
    for level in levels:
        g = s * power / (s**2 * power + level**2)
        risks.append(np.sum((1 - s * g) ** 2 * tested + g**2 * level**2))
        promised.append(np.sum(power * level**2 / (s**2 * power + level**2)))
    c.close("exponent", np.polyfit(np.log(levels), np.log(risks), 1)[0], 0.85, 0.01)
    n = np.arange(4, 18)
    b = -np.polyfit(np.log(n), np.log(power[3:17]), 1)[0] / 2
    c.close("exponent from b", (2 * b - 1) / (1 + b), 0.72, 0.01)
    c.at_most("closed form of the past", np.max(np.abs(np.array(promised) / risks - 1)), 0.4)


def test_image_patches(claim):
    c = claim("obs-image-patches")
    image = data.photograph(512)
    blur = operators.gaussian_blur((8, 8), width=1)
    s = blur.singular_values
    grey = image[:, :256].mean()
    halves = []
    for start in (0, 256):
        corners = [(i, j) for i in range(0, 512, 8) for j in range(start, start + 256, 8)]
        patches = np.array([image[i : i + 8, j : j + 8] for i, j in corners])
        halves.append(blur.analyse_domain(patches - grey))
    left, right = halves
    assert len(left) == len(right) == 2048

    def error(estimate):
        return np.mean(np.sum((estimate - right) ** 2, axis=1))

    sizes, rows = (80, 150, 400, 700, 2048), []
    for seed in range(10):
        rng = np.random.default_rng(800 + seed)
        y = s * left + 0.03 * rng.standard_normal(left.shape)
        z = s * right + 0.03 * rng.standard_normal(right.shape)
        order = rng.permutation(len(y))
        row = [oracle_parameter(s, right, z, name) for name in ("Tikhonov", "TSVD")]
        for size in sizes:
            x_m, y_m = left[order[:size]], y[order[:size]]
            row.append(error(np.sum(x_m * y_m, axis=0) / np.sum(y_m**2, axis=0) * z))
            row.append(error(z @ np.linalg.solve(y_m.T @ y_m, y_m.T @ x_m)))
        rows.append(row)
    tikhonov, tsvd, *pairs = np.mean(rows, axis=0)
    filters, matrices = pairs[::2], pairs[1::2]
    c.close("Tikhonov / learned filter", tikhonov / filters[-1], 1.275, 0.075)
    c.close("TSVD / learned filter", tsvd / filters[-1], 1.17, 0.05)
    c.close("learned filter / matrix", filters[-1] / matrices[-1], 1.09, 0.03)
    for size, g, full in zip(sizes, filters, matrices, strict=True):
        if size <= 400:
            c.at_least(f"matrix / filter, {size} patches", full / g, 1.0)
        else:
            c.at_most(f"matrix / filter, {size} patches", full / g, 1.0)


def test_heavy_tails(claim):
    c = claim("obs-heavy-tails")
    sigma, signal, noise, _, r = model(100)
    theta = sigma**2 * signal / noise
    weight = np.sum(r * theta / (1 + theta) ** 2) / r.sum()

    def sparse(rng, shape):
        return np.where(rng.random(shape) < 0.05, rng.standard_normal(shape) / 0.05**0.5, 0.0)

    laws = (
        ("signs", -2, 0.88, 0.79, lambda rng, shape: np.sign(rng.standard_normal(shape))),
        ("Gaussian", 0, 1.0, 1.0, lambda rng, shape: rng.standard_normal(shape)),
        (
            "Laplace",
            3,
            1.14,
            1.31,
            lambda rng, shape: rng.exponential(2**-0.5, shape) * rng.choice([-1, 1], shape),
        ),
        ("sparse", 57, None, 6.9, sparse),
    )
    for name, extra, five, limit, draw in laws:
        rng = np.random.default_rng(247)
        c.close(f"{name}: limit", 1 + extra * weight, limit, 0.05)
        found = 3 * excesses(rng, 1000, 5, sigma, signal, noise, draw).mean()
        large = 498 * excesses(rng, 60, 500, sigma, signal, noise, draw).mean()
        if five is None:
            c.at_least("sparse, M = 5", found, 30.0)
            c.close("sparse, M = 500", large, 8.0, 2.0)
        else:
            c.close(f"{name}, M = 5", found, five, 0.1)
            c.close(f"{name}, M = 500", large, limit, 0.15)
