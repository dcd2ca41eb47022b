"""Witnesses of chapter 1, notebook 1: singular systems, Picard, noise amplification.

The oracles are LAPACK, quadrature, Galerkin matrices in other bases, and exact distributions;
no formula is compared with itself.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest
from scipy import special, stats
from scipy.linalg import circulant

from advreg import data, operators, spectral

NODE, WEIGHT = special.roots_legendre(60)
NODE, WEIGHT = (NODE + 1) / 2, WEIGHT / 2  # Gauss-Legendre on (0, 1), exact to degree 119


def right_endpoint(size: int) -> np.ndarray:
    return np.tril(np.ones((size, size))) / size


def midpoint(size: int) -> np.ndarray:
    return right_endpoint(size) - np.eye(size) / (2 * size)


# ------------------------------------------------------------------ singular systems, Picard


def test_svd(claim):
    claim = claim("thm-svd")
    # the recipe of the proof, on matrices of known rank and with a triple singular value
    gaps = dict.fromkeys(("values", "v orthonormal", "A* v = sigma u", "N(A)", "R(A)"), 0.0)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        left, right = (np.linalg.qr(rng.standard_normal((m, m)))[0] for m in (30, 20))
        known = np.concatenate([[3.0, 3.0, 3.0], np.linspace(2, 0.5, 9)])
        matrix = left[:, :12] * known @ right[:, :12].T
        eigenvalues, vectors = np.linalg.eigh(matrix.T @ matrix)
        sigma, u = np.sqrt(eigenvalues[::-1][:12]), vectors[:, ::-1][:, :12]
        v = matrix @ u / sigma
        inverse = np.linalg.pinv(matrix)
        for what, gap in (
            ("values", sigma - known),
            ("v orthonormal", v.T @ v - np.eye(12)),
            ("A* v = sigma u", matrix.T @ v - sigma * u),
            ("N(A)", u @ u.T - inverse @ matrix),
            ("R(A)", v @ v.T - matrix @ inverse),
        ):
            gaps[what] = max(gaps[what], np.abs(gap).max())
    claim.at_most(f"recipe of the proof: {', '.join(gaps)}", max(gaps.values()), 1e-12)
    # every singular system of the library
    models = [
        operators.Integration(40),
        operators.DoubleIntegration(40),
        operators.HalfIntegration(40),
        operators.BackwardHeat(40, 1e-3),
        operators.box_blur(40, 8),
        operators.gaussian_blur(40, 1.5),
        operators.PeriodicBlur(np.random.default_rng(0).standard_normal(40)),
        operators.ParallelBeam(8, 12).compute_singular_system(),
    ]
    names = ("A u = sigma v", "A* v = sigma u", "u orthonormal", "v orthonormal", "LAPACK")
    gaps = dict.fromkeys(names, 0.0)
    for model in models:
        sigma = model.singular_values
        unit = np.eye(sigma.size)
        u, v = (w(unit).reshape(sigma.size, -1) for w in (model.synthesise, model.synthesise_range))
        matrix, scale = model.to_matrix(), sigma[0]
        lapack = np.linalg.svd(matrix, compute_uv=False)[: sigma.size]
        for what, gap in (
            ("A u = sigma v", (u @ matrix.T - sigma[:, None] * v) / scale),
            ("A* v = sigma u", (v @ matrix - sigma[:, None] * u) / scale),
            ("u orthonormal", u @ u.T - unit),
            ("v orthonormal", v @ v.T - unit),
            ("LAPACK", (lapack - sigma) / scale),
        ):
            gaps[what] = max(gaps[what], np.abs(gap).max())
    what = f"{len(models)} operators of the library: {', '.join(gaps)}"
    claim.at_most(what, max(gaps.values()), 1e-12)


def test_picard(claim):
    claim = claim("thm-picard")
    # part 1: coefficients by quadrature, for data with a cause (t) and without (1)
    fine = np.linspace(0, 1, 201)
    t = (fine[:-1, None] + NODE / 200).ravel()
    weight = np.tile(WEIGHT / 200, 200)
    n = np.arange(1, 201)[:, None]
    v = np.sqrt(2) * np.sin((n - 0.5) * np.pi * t)
    sigma = 2 / ((2 * n[:, 0] - 1) * np.pi)
    cause = np.cumsum(((v * weight) @ t / sigma) ** 2)
    # the remainder of sum 8 / ((2n-1) pi)^2 after K terms lies below 2 / (pi^2 (K - 1/2))
    claim.at_most("y = t: 1 - sum over 200 terms", 1 - cause[-1], 2 / (np.pi**2 * 199.5))
    claim.at_least("y = t: 1 - sum over 200 terms", 1 - cause[-1], 2 / (np.pi**2 * 200.5))
    none = (v * weight).sum(axis=1) / sigma
    claim.at_most("y = 1: largest |quotient - sqrt 2|", np.abs(none - np.sqrt(2)).max(), 1e-10)
    # its truncated inverse is 3 sin(k pi t) / sin(pi t / 2) for y = 3, with squared norm 18 k
    u = np.sqrt(2) * np.cos((n - 0.5) * np.pi * t)
    phantom = 0.0
    for k in (10, 40):
        found = 3 * none[:k] @ u[:k]
        kernel = 3 * np.sin(k * np.pi * t) / np.sin(np.pi * t / 2)
        phantom = max(phantom, np.abs(found - kernel).max())
        phantom = max(phantom, abs((kernel**2) @ weight / k - 18))
    claim.at_most("truncated inverse of y = 3, and its norm", phantom, 1e-8)
    # finite rank: the series is the pseudo-inverse (LAPACK), its norm 1 / sigma_r
    series, norm = 0.0, 0.0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        matrix = rng.standard_normal((15, 6)) @ rng.standard_normal((6, 12))
        model = operators.MatrixOperator(matrix).compute_singular_system()
        y, inverse = rng.standard_normal(15), np.linalg.pinv(matrix)
        series = max(series, np.abs(spectral.pseudo_inverse(model, y) - inverse @ y).max())
        smallest = model.singular_values[5]
        norm = max(norm, abs(np.linalg.norm(inverse, 2) * smallest - 1))
    claim.at_most("rank 6: pseudo-inverse and its norm against LAPACK", max(series, norm), 1e-12)
    # part 3: the amplification of v_n by the inverse matrix, and data without a cause
    model = operators.Integration(200)
    v = model.synthesise_range(np.eye(200))
    solved = np.linalg.solve(model.to_matrix(), v.T)
    ratio = np.linalg.norm(solved, axis=0) * model.singular_values
    claim.at_most("|amplification of v_n * sigma_n - 1|", np.abs(ratio - 1).max(), 1e-10)
    j = np.arange(1, 10_001)
    index = np.ceil(j / np.pi + 0.5).astype(int)
    index = np.maximum.accumulate(index) + np.arange(index.size)  # strictly increasing
    chosen = 2 / ((2 * index - 1) * np.pi)
    assert (chosen * j).max() <= 1
    claim.at_most("data without a cause: squared norm", np.sum(chosen**2), np.pi**2 / 6)


def test_integration_svd(claim):
    claim = claim("prop-integration-svd")
    # Galerkin matrix in Legendre polynomials: Rayleigh-Ritz finds every value, and no other
    size = 80
    n = np.arange(size)
    galerkin = np.zeros((size + 1, size))
    # with p_n = sqrt(2n+1) P_n(2t-1): int_0^t p_n = (p_(n+1) r_n / r_(n+1) - ...) / (2 (2n+1))
    root = np.sqrt(2 * np.arange(size + 1) + 1)
    galerkin[n + 1, n] = root[n] / root[n + 1] / (2 * (2 * n + 1))
    galerkin[n[1:] - 1, n[1:]] = -root[n[1:]] / root[n[1:] - 1] / (2 * (2 * n[1:] + 1))
    galerkin[0, 0] = 0.5
    found = np.linalg.svd(galerkin, compute_uv=False)[:25]
    formula = operators.integration_singular_values(np.arange(1, 26))
    claim.at_most("25 values, Galerkin / formula - 1", np.abs(found / formula - 1).max(), 1e-12)
    t = np.linspace(0, 1, 11)[1:]
    worst = 0.0
    for n in range(1, 16):

        def u(s, n=n):
            return np.sqrt(2) * np.cos((n - 0.5) * np.pi * s)

        def v(s, n=n):
            return np.sqrt(2) * np.sin((n - 0.5) * np.pi * s)

        forward = t * (u(t[:, None] * NODE) @ WEIGHT)
        backward = (1 - t) * (v(t[:, None] + (1 - t[:, None]) * NODE) @ WEIGHT)
        sigma = operators.integration_singular_values(n)
        worst = max(worst, np.abs(forward - sigma * v(t)).max())
        worst = max(worst, np.abs(backward - sigma * u(t)).max())
    claim.at_most("A u = sigma v and A* v = sigma u by quadrature", worst, 1e-13)
    squares = operators.integration_singular_values(np.arange(1, 10**6)) ** 2
    claim.close("sum of squares against the kernel's", squares.sum(), 0.5, 1e-6)


def test_integration_discrete(claim):
    claim = claim("prop-integration-discrete")
    gaps = dict.fromkeys(("values", "A u = sigma v", "u, v orthonormal", "midpoint"), 0.0)
    low, high, second_order, last = np.inf, -np.inf, 0.0, 0.0
    for size in (2, 3, 10, 41, 400):
        n = np.arange(1, size + 1)
        theta = (2 * n - 1) * np.pi / (2 * size + 1)
        sigma = 1 / (2 * size * np.sin(theta / 2))
        u = 2 * np.cos((n[:, None] - 0.5) * theta) / np.sqrt(2 * size + 1)
        v = 2 * np.sin(n[:, None] * theta) / np.sqrt(2 * size + 1)
        matrix = right_endpoint(size)
        eta = (2 * n - 1) * np.pi / (4 * size)
        mid = np.linalg.svd(midpoint(size), compute_uv=False)
        exact = operators.integration_singular_values(n)
        for what, gap in (
            ("values", np.linalg.svd(matrix, compute_uv=False) / sigma - 1),
            ("A u = sigma v", np.stack([matrix @ u - sigma * v, matrix.T @ v - sigma * u])),
            ("u, v orthonormal", np.stack([u.T @ u, v.T @ v]) - np.eye(size)),
            ("midpoint", mid * 2 * size * np.tan(eta) - 1),
        ):
            gaps[what] = max(gaps[what], np.abs(gap).max())
        ratio = np.linalg.svd(matrix, compute_uv=False) / exact
        low, high = min(low, ratio.min()), max(high, (ratio / (1 + 0.5 / size)).max())
        assert (np.diff(mid / exact) < 0).all()
        if size == 400:
            slow = eta[:20]
            second_order = np.abs((1 - mid[:20] / exact[:20]) / (slow**2 / 3) - 1).max()
            last = exact[-1] / mid[-1] / (8 * size / np.pi**2)
    right = max(gaps["values"], gaps["A u = sigma v"], gaps["u, v orthonormal"])
    claim.at_most("right endpoint: values, A u = sigma v, u and v orthonormal", right, 1e-12)
    claim.at_least("right endpoint: smallest ratio to the operator", low, 1)
    claim.at_most("right endpoint: largest ratio / (1 + 1/2N)", high, np.pi / 2)
    claim.at_most("midpoint: LAPACK / formula - 1", gaps["midpoint"], 1e-10)
    claim.at_most("midpoint, N = 400: relative error / (eta^2/3) - 1", second_order, 2e-3)
    claim.close("midpoint, N = 400: last value off by 8N/pi^2 times", last, 1, 2e-3)


# --------------------------------------------------------------------------- the seven operators


def double_integration_gaps() -> tuple[float, float, float]:
    t = np.linspace(0.1, 0.9, 9)[:, None]
    worst = 0.0
    for n in range(1, 11):
        left, right = t * NODE, t + (1 - t) * NODE  # the two sides of the kink of Green's function
        value = (t * left * (1 - t) * np.sin(n * np.pi * left)) @ WEIGHT
        value += ((1 - t) * t * (1 - right) * np.sin(n * np.pi * right)) @ WEIGHT
        sigma = operators.double_integration_singular_values(n)
        worst = max(worst, np.abs(value - sigma * np.sin(n * np.pi * t[:, 0])).max())
    trace = np.sum(operators.double_integration_singular_values(np.arange(1, 10**6)))
    size = 30
    second = (2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)) * (size + 1) ** 2
    n = np.arange(1, size + 1)
    formula = 1 / (2 * (size + 1) * np.sin(n * np.pi / (2 * size + 2))) ** 2
    lapack = np.linalg.svd(np.linalg.inv(second), compute_uv=False)
    library = operators.DoubleIntegration(size).singular_values
    matrix = max(np.abs(lapack / formula - 1).max(), np.abs(library / formula - 1).max())
    return worst, abs(trace - 1 / 6), matrix


def half_integration_gaps() -> tuple[float, float]:
    t = np.linspace(0.05, 0.95, 13)
    phi, modes = 2 * np.arccos(np.sqrt(t)), np.arange(1, 16)
    worst = 0.0
    for n in modes:
        u = np.sqrt(2 * n - 1) * special.eval_legendre(n - 1, 2 * t[:, None] * (1 - NODE**2) - 1)
        value = 2 * np.sqrt(t / np.pi) * (u @ WEIGHT)
        v = np.sqrt(2 / np.pi) * np.cos((n - 0.5) * phi)
        sigma = operators.half_integration_singular_values(n)
        worst = max(worst, np.abs(value - sigma * v).max())
    # orthonormal in the weighted space: Gauss-Chebyshev in t, against the formula in phi
    x, w = special.roots_chebyt(200)
    v = np.sqrt(2 / np.pi) * np.cos((modes[:, None] - 0.5) * 2 * np.arccos(np.sqrt((1 + x) / 2)))
    return worst, np.abs((v * w) @ v.T - np.eye(modes.size)).max()


def blur_gaps() -> dict[str, float]:
    gaps = {"box": 0.0, "box degree": 0.0, "box zeros": 0.0, "Gaussian": 0.0, "circulant": 0.0}
    t = 0.37
    for omega in (0.125, 0.3, 1 / np.sqrt(2)):
        for j in range(1, 9):
            s = t + omega * (NODE - 0.5)
            mean = np.cos(2 * np.pi * j * s) @ WEIGHT
            exact = np.sin(np.pi * omega * j) / (np.pi * omega * j) * np.cos(2 * np.pi * j * t)
            gaps["box"] = max(gaps["box"], abs(mean - exact))
        j = np.arange(1, 200_000)
        values = np.abs(np.sin(np.pi * omega * j)) / (np.pi * omega * j)
        values = np.sort(np.repeat(np.append(1.0, values), 2)[1:])[::-1][:100_000]
        n = np.arange(1, values.size + 1)
        distance = min(omega, 1 - omega)
        below = distance / (np.pi * omega) / (n + 1) / values
        above = values * (n - 1) * np.pi * omega / 2
        gaps["box degree"] = max(gaps["box degree"], below.max(), above.max())
    for size in (8, 12, 15, 64):
        for width in range(1, size + 1):
            kernel = np.zeros(size)
            kernel[:width] = 1 / width
            spectrum = np.sort(np.abs(np.fft.fft(kernel)))[::-1]
            library = operators.box_blur(size, width).singular_values
            k = np.arange(1, size)
            formula = np.abs(np.sin(np.pi * k * width / size) / np.sin(np.pi * k / size)) / width
            formula = np.sort(np.append(formula, 1))[::-1]
            worst = max(np.abs(spectrum - library).max(), np.abs(spectrum - formula).max())
            gaps["box"] = max(gaps["box"], worst)
            zeros = {int((spectrum < 1e-12).sum()), int((library == 0).sum())}
            gaps["box zeros"] += zeros != {gcd(width, size) - 1}
    kernel = np.random.default_rng(0).standard_normal(30)
    values = np.linalg.svd(circulant(kernel), compute_uv=False)
    library = operators.PeriodicBlur(kernel).singular_values
    gaps["circulant"] = np.abs(values - library).max()
    s, j = 0.03, np.arange(0, 12)[:, None]
    x = np.arange(512) / 512  # the trapezoidal rule is exact here to rounding
    density = sum(stats.norm.pdf(x - shift, scale=s) for shift in range(-3, 5))
    values = (density * np.cos(2 * np.pi * j * x)).mean(axis=1)
    gaps["Gaussian"] = np.abs(values - np.exp(-2 * (np.pi * s * j[:, 0]) ** 2)).max()
    library = operators.gaussian_blur(512, 0.03 * 512).singular_values[1:23:2]
    gaps["Gaussian"] = max(gaps["Gaussian"], np.abs(values[1:] - library).max())
    return gaps


def heat_gap() -> float:
    time, worst = 0.01, 0.0
    edges = np.linspace(0, 1, 11)
    s, weight = (edges[:-1, None] + NODE / 10).ravel(), np.tile(WEIGHT / 10, 10)
    t = np.linspace(0.1, 0.9, 9)[:, None]

    def free(distance):
        return np.exp(-(distance**2) / (4 * time)) / np.sqrt(4 * np.pi * time)

    # the kernel by the method of images: odd reflections at both ends
    kernel = sum(free(t - s - 2 * k) - free(t + s - 2 * k) for k in range(-3, 4))
    for n in range(1, 9):
        value = (kernel * np.sin(n * np.pi * s)) @ weight
        sigma = operators.BackwardHeat(16, time).singular_values[n - 1]
        worst = max(worst, np.abs(value - sigma * np.sin(n * np.pi * t[:, 0])).max())
    return worst


def radon_galerkin(degree: int) -> np.ndarray:
    """Singular values of R on all polynomials up to a degree, with no use of Zernike's."""
    powers = [(i, d - i) for d in range(degree + 1) for i in range(d + 1)]
    radius, wr = special.roots_jacobi(20, 0, 1)  # weight r on (0, 1), up to a factor
    radius, wr = (radius + 1) / 2, wr / 4
    angle = np.arange(40) * 2 * np.pi / 40
    x, y = np.outer(radius, np.cos(angle)).ravel(), np.outer(radius, np.sin(angle)).ravel()
    area = np.repeat(wr, 40) * 2 * np.pi / 40
    monomials = np.stack([x**i * y**j for i, j in powers], axis=1)
    factor = np.linalg.qr(np.sqrt(area)[:, None] * monomials, mode="r")
    s, ws = special.roots_chebyu(20)  # weight sqrt(1 - s^2)
    s, theta = s[:, None, None], angle[None, :, None]
    half = np.sqrt(1 - s**2)
    tau = half * (2 * NODE - 1)
    x, y = s * np.cos(theta) - tau * np.sin(theta), s * np.sin(theta) + tau * np.cos(theta)
    lines = np.stack([(2 * half * WEIGHT * x**i * y**j).sum(-1) for i, j in powers], axis=-1)
    # ||Rf||^2 = sum over s, theta of |Rf|^2 / (1 - s^2) * (weight sqrt(1 - s^2)) ds dtheta
    scale = np.sqrt(ws[:, None] / (1 - s[..., 0] ** 2) * 2 * np.pi / 40)
    matrix = (lines * scale[..., None]).reshape(-1, len(powers))
    return np.linalg.svd(np.linalg.solve(factor.T, matrix.T), compute_uv=False)


def test_operators(claim):
    claim = claim("prop-operators")
    functions, trace, matrix = double_integration_gaps()
    claim.at_most("(b) Green's function on ten sines", functions, 1e-13)
    claim.at_most("(b) trace of Green's function, 1/6", trace, 1e-6)
    claim.at_most("(b) second differences: LAPACK / formula - 1", matrix, 1e-11)
    functions, orthonormal = half_integration_gaps()
    claim.at_most("(c) Abel's integral of 15 Legendre polynomials", functions, 1e-12)
    claim.at_most("(c) v orthonormal in the weighted space", orthonormal, 1e-12)
    gaps = blur_gaps()
    claim.at_most("(d) box: means of waves, and transforms of kernels", gaps["box"], 1e-13)
    claim.at_most("(d) degree 1: share of the proved bounds used", gaps["box degree"], 1 + 1e-12)
    claim.at_most("(d) widths whose zeros are not gcd(w, N) - 1", gaps["box zeros"], 0)
    claim.at_most("convolution matrix: LAPACK against the transform", gaps["circulant"], 1e-12)
    claim.at_most("(e) coefficients of the periodised Gaussian", gaps["Gaussian"], 1e-13)
    claim.at_most("(f) heat kernel of images on eight sines", heat_gap(), 1e-12)
    degree = 8
    staircase = np.repeat(np.sqrt(4 * np.pi / np.arange(1, degree + 2)), np.arange(1, degree + 2))
    found = radon_galerkin(degree)
    claim.at_most(
        "(g) 45 values, Galerkin / formula - 1", np.abs(found / staircase - 1).max(), 1e-10
    )
    worst = 0.0
    s, theta = np.linspace(-0.9, 0.9, 7)[:, None], 1.1
    tau = np.sqrt(1 - s**2) * (2 * NODE - 1)
    x = s * np.cos(theta) - tau * np.sin(theta)
    y = s * np.sin(theta) + tau * np.cos(theta)
    for m in range(7):
        for order in range(-m, m + 1, 2):
            u, v = operators.radon_disc_singular_functions(m, order)
            value = 2 * np.sqrt(1 - s[:, 0] ** 2) * (u(x, y) @ WEIGHT)
            sigma = operators.radon_disc_singular_values(m)
            worst = max(worst, np.abs(value - sigma * v(s[:, 0], theta)).max())
    claim.at_most("(g) line integrals of 28 Zernike polynomials", worst, 1e-12)
    m = np.arange(300)
    values = np.repeat(operators.radon_disc_singular_values(m), m + 1)
    scaled = values * np.arange(1, values.size + 1) ** 0.25
    claim.at_least("(g) smallest sigma_n n^(1/4)", scaled.min(), np.sqrt(2 * np.pi))
    claim.at_most("(g) largest sigma_n n^(1/4)", scaled.max(), np.sqrt(4 * np.pi) * (1 + 1e-12))


# ------------------------------------------------------------------------------------- noise


def test_noise_amplification(claim):
    claim = claim("prop-noise-amplification")
    split = attained = exceeded = secular = signs = deviation = 0.0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        matrix = rng.standard_normal((14, 5 + seed)) @ rng.standard_normal((5 + seed, 12))
        v, sigma, ut = np.linalg.svd(matrix)
        rank, k, delta = 5 + seed, 3 + seed // 2, 0.3
        truncated = ut[:k].T @ np.diag(1 / sigma[:k]) @ v[:, :k].T  # R_k as a matrix
        x = ut[:rank].T @ rng.standard_normal(rank)
        tail = np.sum((ut[k:rank] @ x) ** 2)
        formula = delta**2 / sigma[k - 1] ** 2 + tail
        # parts 1 and 2: random e and the claimed maximiser, through the dense matrices
        e = rng.standard_normal((20_000, 14))
        e *= delta / np.linalg.norm(e, axis=1, keepdims=True)
        error = np.sum(((matrix @ x + e) @ truncated.T - x) ** 2, axis=1)
        right = np.sum((e @ v[:, :k] / sigma[:k]) ** 2, axis=1) + tail
        split = max(split, np.abs(error / right - 1).max())
        exceeded = max(exceeded, error.max() / formula)
        best = np.sum((truncated @ (matrix @ x - delta * v[:, k - 1]) - x) ** 2)
        attained = max(attained, abs(best / formula - 1))
        q = (np.arange(rank) < k).astype(float)
        search = spectral.worst_case_error(sigma[:rank], ut[:rank] @ x, q, delta)
        secular = max(secular, abs(search**2 / formula - 1))
        # part 3: neither independent nor centred noise, but second moments delta^2
        average = delta**2 * np.sum(sigma[:k] ** -2.0) + tail
        common = [v @ np.full(14, sign * delta) for sign in (1.0, -1.0)]
        twins = [np.sum((truncated @ (matrix @ x + c) - x) ** 2) for c in common]
        signs = max(signs, abs(np.mean(twins) / average - 1))
        gauss = rng.normal(0, delta, (20_000, 14))
        error = np.sum(((matrix @ x + gauss) @ truncated.T - x) ** 2, axis=1)
        z = abs(error.mean() - average) / (error.std() / np.sqrt(error.size))
        deviation = max(deviation, z)
    claim.at_most("error split: relative gap", split, 1e-9)
    claim.at_most("largest of 120000 random errors / the maximum", exceeded, 1 + 1e-12)
    at_maximum = max(attained, secular)
    claim.at_most("maximum: at e = -delta v_k, and by the secular equation", at_maximum, 1e-9)
    claim.at_most("average over dependent noise / formula, minus 1", signs, 1e-9)
    claim.at_most("Monte Carlo averages: largest of 6 deviations in standard errors", deviation, 4)
    k = np.arange(1, 2001)
    powers = {a: np.cumsum(k ** (2 * a)) / k ** (2 * a + 1) for a in (0.25, 1.0, 2.0)}
    lowest = min(p.min() * (2 * a + 1) for a, p in powers.items())
    claim.at_least("sums of part 4 / their lower bound", lowest, 1)
    claim.at_most(
        "sums of part 4 / their upper bound", max(p.max() for p in powers.values()), 1 + 1e-12
    )


HILBERT_SCHMIDT = ("tikhonov", "iterated_tikhonov", "landweber", "showalter", "l2_game")


def test_white_noise(claim):
    claim = claim("prop-white-noise")
    # part 1: exact distribution against the bound, on the whole range
    share = max(
        stats.chi2.cdf((1 - t) * count, count) / np.exp(-count * t**2 / 4)
        for count in (1, 2, 5, 10, 100, 1000)
        for t in np.linspace(0.02, 0.98, 49)
    )
    claim.at_most("P(energy <= (1-t) D) / bound, largest", share, 1)
    energies = [
        np.sum(data.white_noise((200, 500), 0.3, np.random.default_rng(seed)) ** 2, axis=1)
        for seed in range(5)
    ]
    mean = np.mean(energies) / (500 * 0.09)
    claim.close("mean energy / (D delta^2), 1000 draws", mean, 1, 4 * np.sqrt(2 / 500 / 1000))
    # part 2: the exponential moment in the proof, product formula against simulation
    delta, g = 0.5, np.arange(1, 31.0) ** -0.5
    e = np.random.default_rng(7).normal(0, delta, (50_000, 30))
    sample = np.exp(-((e * g) ** 2).sum(axis=1))
    product = np.prod((1 + 2 * delta**2 * g**2) ** -0.5)
    error = sample.std() / np.sqrt(sample.size)
    claim.close("E exp(-S): simulation", sample.mean(), product, 4 * error)
    assert product <= (1 + 2 * delta**2 * (g**2).sum()) ** -0.5
    second = ((e * g) ** 2).sum(axis=1)
    target = delta**2 * (g**2).sum()
    claim.close("E S: simulation", second.mean(), target, 4 * second.std() / np.sqrt(e.shape[0]))
    # part 3: the energy in (D, 2D] over that in (D/2, D] tends to 2^(1-2a), to 0 or to 2
    top, alpha = 2**20, 0.25
    truncated, clipped, others = [], [], []
    for a in (0.25, 0.5, 0.75, 1.0):
        sigma = np.arange(top // 2 + 1.0, 2 * top + 1) ** -a  # these two octaves
        for name in spectral.FILTERS:
            energy = spectral.gain(spectral.FILTERS[name].q(sigma, alpha), sigma) ** 2
            late, early = energy[top // 2 :].sum(), energy[: top // 2].sum()
            if name == "tsvd":
                truncated.append(late + early)
            elif name == "clip":
                clipped.append(late / early)
            else:
                assert name in HILBERT_SCHMIDT
                others.append(late / early / 2 ** (1 - 2 * a))
    claim.at_most("truncation: energy beyond mode 2^19", max(truncated), 0)
    claim.at_most("clip: |octave ratio - 2|", np.abs(np.array(clipped) - 2).max(), 1e-9)
    worst = np.abs(np.array(others) - 1).max()
    claim.at_most("five filters, four a: |octave ratio / 2^(1-2a) - 1|", worst, 0.01)
    # the two-sided bounds of the proof, for every sigma in (0, 1]
    z = np.geomspace(1e-6, 1, 2000)
    lowest, highest = np.inf, 0.0
    for alpha in (0.03, 0.4, 1.0):
        steps = int(1 / alpha)
        low = z / (1 + alpha)
        for name, lower, upper in (
            ("tikhonov", low, z / alpha),
            ("iterated_tikhonov", low, 2 * z / alpha),
            ("landweber", z, steps * z),
            ("showalter", z * -np.expm1(-1 / alpha), z / alpha),
        ):
            q = spectral.FILTERS[name].q(np.sqrt(z), alpha)
            lowest, highest = min(lowest, (q / lower).min()), max(highest, (q / upper).max())
    claim.at_least("smallest q / lower bound of the proof", lowest, 1 - 1e-12)
    claim.at_most("largest q / upper bound of the proof", highest, 1 + 1e-12)
    # half-integration and Radon are not Hilbert-Schmidt: equal steps at equal logarithms
    square = operators.half_integration_singular_values(np.arange(1, 10**6 + 1)) ** 2
    steps = np.diff(np.cumsum(square)[[99, 9999, 999_999]])
    claim.close("half-integration: sum of squares per factor 100", steps.min(), np.log(100), 0.01)
    m = np.arange(1000)
    each = (m + 1) * operators.radon_disc_singular_values(m) ** 2
    claim.at_most(
        "Radon: |sum of squares per degree - 4 pi|", np.abs(each - 4 * np.pi).max(), 1e-12
    )


# ------------------------------------------------------------------------------- measured claims


def test_inverse_crime(claim):
    claim = claim("obs-inverse-crime")
    size = 40
    edges, middles = np.arange(1, size + 1) / size, (np.arange(size) + 0.5) / size
    step = (middles > 1 / 3).astype(float)
    crime = np.linalg.solve(midpoint(size), midpoint(size) @ step)
    honest = np.linalg.solve(midpoint(size), np.maximum(0, middles - 1 / 3))
    right = np.linalg.solve(right_endpoint(size), np.maximum(0, edges - 1 / 3))
    claim.at_most("midpoint, data from itself: largest error", np.abs(crime - step).max(), 1e-11)
    last = np.abs(honest - step)[-10:]
    claim.close("midpoint, exact data: largest of the last ten errors", last.max(), 2 / 3, 1e-9)
    claim.close("midpoint, exact data: smallest of the last ten errors", last.min(), 2 / 3, 1e-9)
    wrong = int((np.abs(right - step) > 1e-9).sum())
    claim.close("right endpoint, exact data: samples that are wrong", wrong, 1, 0.5)


@pytest.fixture(scope="module")
def tomograph() -> np.ndarray:
    ct = operators.ParallelBeam(32, angles=64, detectors=32)
    centre = ct.detector_grid
    inside = np.add.outer(centre**2, centre**2).ravel() <= 1
    rays = ct.to_matrix().reshape(64, 32, -1)[..., inside]
    rays = rays * (1 - centre[:, None] ** 2) ** -0.25
    # eigenvalues of the Gram matrix: another way than the notebook's
    gram = np.einsum("adp,adq->pq", rays, rays, optimize=True)
    return np.sqrt(np.linalg.eigvalsh(gram)[::-1] * 2 * np.pi / (64 * ct.step))


def test_ct_spectrum(claim, tomograph):
    claim = claim("obs-ct-spectrum")
    staircase = np.repeat(np.sqrt(4 * np.pi / np.arange(1, 41)), np.arange(1, 41))
    deviation = tomograph / staircase[: tomograph.size] - 1
    claim.at_most("largest deviation of 21 values", np.abs(deviation[:21]).max(), 0.04)
    claim.at_least("shortfall of the 400th", -deviation[399], 0.2)
    claim.at_least("factor missing at the last", 1 / (1 + deviation[-1]), 50)


def test_truncation(claim):
    claim = claim("obs-truncation")
    size, delta = 256, 0.1
    t = (np.arange(size) + 0.5) / size
    drive = np.interp(t, [0, 0.08, 0.35, 0.42, 0.55, 0.62, 0.92, 1], [0, 80, 80, 30, 30, 90, 90, 0])
    matrix = right_endpoint(size)
    v, sigma, ut = np.linalg.svd(matrix)  # LAPACK, not the library's transforms
    inside, medians, ratios = [], [], []
    for seed in range(3, 6):
        rng = np.random.default_rng(seed)
        y = matrix @ drive + data.white_noise((100, size), delta, rng)
        steps = (y @ v / sigma)[..., None] * ut  # contributions of the modes, all 100 draws
        errors = np.empty((100, size))
        partial = np.zeros((100, size))
        for k in range(size):
            partial += steps[:, k]
            errors[:, k] = np.sqrt(np.mean((partial - drive) ** 2, axis=1))
        kept = errors.argmin(axis=1) + 1
        best = errors.min(axis=1)
        inside.append(int(((kept >= 15) & (kept <= 30)).sum()))
        medians.append(np.median(best))
        ratios.append((errors[:, -1] / best).min())
    above = np.abs(ut @ drive) * sigma > delta
    claim.at_least("first mode of the clean data below delta", np.argmin(above) + 1, 13)
    claim.at_most("last mode of the clean data above delta", np.flatnonzero(above)[-1] + 1, 21)
    claim.at_least("draws of 100 with the best k in 15..30, least of 3 seeds", min(inside), 95)
    claim.at_most("median of the smallest error (km/h), largest of 3", max(medians), 1.7)
    claim.at_least("full inverse / best truncation, smallest of 300", min(ratios), 10)
