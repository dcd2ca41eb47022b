"""Witnesses of chapter 4, notebook 6: plug-and-play with a learned denoiser."""

from __future__ import annotations

import numpy as np
from scipy import linalg, ndimage
from scipy.integrate import quad
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import ortho_group
from skimage.restoration import denoise_nl_means

from advreg import adversarial, operators, spectral, variational


def circulants(filters, size):
    """Convolution matrices, stacked."""
    rows = [linalg.circulant(np.pad(k, (0, size - len(k)))) for k in filters]
    return np.concatenate(rows)


def potential_minimizer(matrix, y, maps, nu, weight=1.0):
    """argmin 1/2 ||Ax - y||² + weight Σ sqrt((Kx)² + nu²) for a batch, by L-BFGS and Newton."""
    y = np.atleast_2d(y)

    def objective(x):
        x = x.reshape(len(y), -1)
        misfit, out = x @ matrix.T - y, x @ maps.T
        size = np.hypot(out, nu)
        return (misfit**2).sum() / 2 + weight * size.sum(), (
            misfit @ matrix + weight * (out / size) @ maps
        ).ravel()

    options = {"maxiter": 5000, "maxfun": 6000, "ftol": 1e-14, "gtol": 1e-9}
    start = np.zeros((len(y), matrix.shape[1]))
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    x = found.x.reshape(len(y), -1)
    for b in range(len(y)):  # a few Newton steps, with the gradient as the judge
        for _ in range(5):
            out = maps @ x[b]
            size = np.hypot(out, nu)
            slope = matrix.T @ (matrix @ x[b] - y[b]) + weight * maps.T @ (out / size)
            bend = matrix.T @ matrix + weight * maps.T @ ((nu**2 / size**3)[:, None] * maps)
            x[b] -= np.linalg.lstsq(bend, slope, rcond=1e-13)[0]
    return x


def soft(z, threshold):
    return np.sign(z) * np.maximum(np.abs(z) - threshold, 0)


# ------------------------------------------------------------------------------- convergence


def random_averaged(rng, n, theta, kind):
    """(1 - θ) I + θ N for a nonexpansive N with N(0) = 0."""
    rotation = ortho_group.rvs(n, random_state=rng)
    if kind == "linear":
        return lambda z: (1 - theta) * z + theta * rotation @ z
    return lambda z: (1 - theta) * z + theta * rotation @ np.clip(z, -0.3, 0.5)


def test_pnp_convergence(claim):
    c = claim("thm-pnp-convergence")
    rng = np.random.default_rng(4601)

    # Part 1: the averagedness constant, on pairs, and its sharpness.
    worst, loose = -np.inf, np.inf
    for _ in range(60):
        n, kind = int(rng.integers(2, 7)), rng.choice(["linear", "clip"])
        matrix = rng.standard_normal((int(rng.integers(1, 9)), n))
        big = np.linalg.norm(matrix, 2) ** 2
        tau, theta = rng.uniform(0.05, 1.95) / big, rng.uniform(0.05, 0.95)
        denoiser = random_averaged(rng, n, theta, kind)
        data = rng.standard_normal(len(matrix))
        a = theta / (1 - theta) + tau * big / (2 - tau * big)
        for _ in range(20):
            ends = rng.standard_normal((2, n)) * 10 ** rng.uniform(-2, 1)
            images = [denoiser(x - tau * matrix.T @ (matrix @ x - data)) for x in ends]
            u, v = ends[0] - ends[1], images[0] - images[1]
            gap = v @ v + (u - v) @ (u - v) / a - u @ u
            worst = max(worst, gap / (u @ u))
    # In one dimension: G = 1 - τL and a firmly nonexpansive D = 0; the constant is attained
    # when p / a_1 = q / a_2 (equality in Cauchy-Schwarz): here with rotations of the plane.
    c.at_most("averaged: largest violation of the inequality, 1200 pairs", worst, 1e-12)
    for share in (0.3, 1.0, 1.7):  # G = (1 - τL) I, D = (1 - θ) I + θ N, worst N by angle
        theta, tau_big = 0.5, share
        a = theta / (1 - theta) + tau_big / (2 - tau_big)

        def slack(t, theta=theta, tau_big=tau_big, a=a):
            # complex numbers are planar linear maps: G averaged, with a rotation for its N
            g = 1 - tau_big / 2 + tau_big / 2 * np.exp(1j * t[0])
            d = 1 - theta + theta * np.exp(1j * t[1])
            move = abs(1 - d * g) ** 2
            return (1 - abs(d * g) ** 2) / max(move, 1e-300) * a - 1

        grid = np.geomspace(1e-3, 3, 60)
        loose = min(loose, min(slack((s, t)) for s in grid for t in grid))
    c.close("no smaller constant serves all averaged maps: slack", loose, 0.0, 1e-2)

    # Part 3, with firmly nonexpansive denoisers that are proximal maps: soft, clip, subspace, 0.
    subspace = np.diag([1.0, 1, 0, 0, 1])
    proxes = {
        "soft": lambda z: soft(z, 0.2),
        "box": lambda z: np.clip(z, -0.4, 0.7),
        "subspace": lambda z: subspace @ z,
        "zero": np.zeros_like,
        "identity": lambda z: z,
    }
    ratio, rise, moved, sums = 0.0, 0.0, 0.0, 0.0
    for name, denoiser in proxes.items():
        for rows in (1, 3, 5):
            matrix = rng.standard_normal((rows, 5))
            big = np.linalg.norm(matrix, 2) ** 2
            tau = rng.uniform(0.2, 1.9) / big
            data = rng.standard_normal(rows)
            start = 3 * rng.standard_normal(5)
            x, r = start, []
            for _ in range(8000):
                new = denoiser(x - tau * matrix.T @ (matrix @ x - data))
                r.append(np.linalg.norm(new - x))
                x = new
            r, a = np.array(r), 2 / (2 - tau * big)
            distance = np.linalg.norm(start - x)
            k = np.arange(1, len(r) + 1)
            if name == "identity" and rows == 5:
                continue  # converges too slowly to know the limit
            ratio = max(ratio, (r[:200] * np.sqrt(k[:200] / a) / distance).max())
            # the distance to the nearest fixed point is at most the distance to the limit
            sums = max(sums, (r**2).sum() / (a * distance**2))
            rise = max(rise, np.diff(r).max())
            moved = max(moved, r[-1] * np.sqrt(len(r)))
    c.at_most("residual over its bound", ratio, 1 + 1e-9)
    c.at_most("sum of squares over its bound", sums, 1 + 1e-9)
    c.at_most("the residual rises by", rise, 1e-12)
    c.at_most("sqrt(k) r_k at k = 8000", moved, 1e-6)

    # The bound on the first residual is attained: D = 0 moves by d, and a tends to 1 with τL.
    line = operators.MatrixOperator(np.eye(2))
    run = variational.plug_and_play(
        line, [0.0, 0.0], np.zeros_like, step=1e-3, iterations=2, start=[1.0, 2.0]
    )
    share = (run.residuals**2).sum() / (2 / (2 - 1e-3) * 5.0)
    c.close("sum of squares over its bound for D = 0", share, 1.0, 1e-3)

    # Part 4: the limit minimizes, against brute force (soft threshold: LASSO with weight / τ).
    matrix = rng.standard_normal((3, 2))
    data = matrix @ np.array([3.0, -2.0]) + rng.standard_normal(3)
    gap, least = 0.0, np.inf
    for share in (0.2, 0.9, 1.8):
        tau = share / np.linalg.norm(matrix, 2) ** 2
        operator = operators.MatrixOperator(matrix)
        run = variational.plug_and_play(
            operator, data, lambda z: soft(z, 0.2), step=tau, iterations=20_000, tol=1e-13
        )

        def objective(x, tau=tau):
            return ((matrix @ x - data) ** 2).sum() / 2 + 0.2 / tau * np.abs(x).sum()

        options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 5000}
        found = minimize(objective, [0.1, 0.1], method="Nelder-Mead", options=options)
        gap, least = max(gap, np.abs(found.x - run.x).max()), min(least, np.abs(run.x).max())
    c.at_most("soft threshold: limit against brute force", gap, 1e-5)
    c.at_least("soft threshold: the limits are not 0", least, 0.5)

    # Part 2: a nonlinear D with bounded range, A blind; and the drift without a fixed point.
    blind = operators.MatrixOperator(np.array([[1.0, -1.0]]))
    run = variational.plug_and_play(
        blind, [0.3], lambda z: np.clip(z + 0.1, -1, 1), step=0.5, iterations=3000, tol=1e-12
    )
    c.at_least("bounded range: converged", float(run.converged), 1)
    run = variational.plug_and_play(blind, [0.3], lambda z: z + 0.1, step=0.5, iterations=500)
    c.at_least("no fixed point: the orbit leaves every ball", np.linalg.norm(run.x), 60.0)


def test_pnp_linear_rate(claim):
    c = claim("prop-pnp-linear-rate")
    rng = np.random.default_rng(4602)
    excess, certificate = 0.0, 0.0
    for _ in range(30):
        matrix = rng.standard_normal((6, 4))
        values = np.linalg.svd(matrix, compute_uv=False) ** 2
        tau = rng.uniform(0.1, 1.9) / values[0]
        q = max(abs(1 - tau * values[0]), abs(1 - tau * values[-1]))
        rotation, data = ortho_group.rvs(4, random_state=rng), rng.standard_normal(6)

        def step(x, matrix=matrix, tau=tau, rotation=rotation, data=data):
            return rotation @ np.clip(x - tau * matrix.T @ (matrix @ x - data), -1, 2)

        limit = np.zeros(4)
        for _ in range(3000):
            limit = step(limit)
        if np.linalg.norm(step(limit) - limit) > 1e-10:
            continue
        x = 3 * rng.standard_normal(4)
        for _ in range(15):
            new = step(x)
            before, after = np.linalg.norm(x - limit), np.linalg.norm(new - limit)
            if before > 1e-7:
                excess = max(excess, after / before - q)
                bound = q / (1 - q) * np.linalg.norm(new - x)
                certificate = max(certificate, after / bound)
            x = new
    c.at_most("part 1: contraction factor minus q", excess, 1e-8)
    c.at_most("part 1: distance over its certificate", certificate, 1 + 1e-7)

    # Part 2, sharp: D = (1 ± ε) I attains it, and the threshold 2s / (L - s) is that of slope 1.
    s, big = 0.3, 2.0
    best = minimize_scalar(
        lambda t: max(abs(1 - t * s), abs(1 - t * big)), bounds=(0, 1), options={"xatol": 1e-12}
    )
    c.close("the best step", best.x, 2 / (s + big), 1e-6)
    for factor, side in ((0.999, -1), (1.001, 1)):
        epsilon = factor * 2 * s / (big - s)
        slope = (1 + epsilon) * max(abs(1 - best.x * s), abs(1 - best.x * big))
        c.at_least(f"part 2 at {factor} of the threshold", side * (slope - 1), 1e-5)

    # Part 3: derivative of T by differences, on injective, blind and mixed operators.
    off, rates, largest = 0.0, 0.0, 0.0
    n, nu = 8, 0.3
    maps = circulants(0.6 * np.array([[-1.0, 1.0]]), n)
    potential = variational.SmoothedL1(nu)
    for rows in (2, 5, 8):
        matrix = rng.standard_normal((rows, n)) + 0.3
        big = np.linalg.norm(matrix, 2) ** 2
        tau, data = 1.3 / big, rng.standard_normal(rows)
        x = potential_minimizer(matrix, data, maps, nu, 1 / tau)[0]

        def step(x, matrix=matrix, tau=tau, data=data):
            z = x - tau * (x @ matrix.T - data) @ matrix
            filters = 0.6 * np.array([[-1.0, 1.0]])
            return variational.denoise(z, filters, potential, tol=1e-13).x

        off = max(off, np.linalg.norm(step(x) - x))
        h = 1e-4
        numeric = (step(x + h * np.eye(n)) - step(x - h * np.eye(n))).T / (2 * h)
        bend = maps.T @ ((nu**2 / np.hypot(maps @ x, nu) ** 3)[:, None] * maps)
        exact = np.linalg.solve(np.eye(n) + bend, np.eye(n) - tau * matrix.T @ matrix)
        rates = max(rates, np.abs(numeric - exact).max())
        values = np.linalg.eigvals(exact)
        largest = max(largest, np.abs(values).max())
        off = max(off, np.abs(values.imag).max())
    c.at_most("part 3: fixed point, and eigenvalues real", off, 1e-7)
    c.at_most("part 3: derivative by differences", rates, 1e-5)
    c.at_most("part 3: spectral radius where the null spaces do not meet", largest, 1 - 1e-4)
    blind = np.array([[1.0, -1.0] + [0.0] * 6, [0.0, 0, 1, -1, 0, 0, 0, 0]])
    x = potential_minimizer(blind, [0.5, -0.2], maps, nu, 1.0)[0]
    bend = maps.T @ ((nu**2 / np.hypot(maps @ x, nu) ** 3)[:, None] * maps)
    exact = np.linalg.solve(np.eye(n) + bend, np.eye(n) - 0.5 * blind.T @ blind)
    c.close("part 3: both blind to constants", np.linalg.eigvals(exact).real.max(), 1.0, 1e-9)


def test_nonexpansive_not_enough(claim):
    c = claim("prop-nonexpansive-not-enough")
    # Part 1, for several frequencies; convolution with a kernel that kills the frequency.
    rng = np.random.default_rng(4603)
    gap, settled = 0.0, 0.0
    for size, wave in ((12, 4), (15, 1), (10, 5), (9, 2)):
        omega = 2 * np.pi * wave / size
        kernel = np.convolve([1.0, -2 * np.cos(omega), 1.0], rng.standard_normal(3))
        operator = operators.MatrixOperator(circulants([kernel], size))
        tau = rng.uniform(0.1, 1.9) / operator.norm() ** 2
        start = np.cos(omega * np.arange(size))
        options = {"step": tau, "start": start}
        run = variational.plug_and_play(
            operator, np.zeros(size), lambda z: np.roll(z, 1), iterations=500, **options
        )
        target = 2 * np.sin(omega / 2) * np.linalg.norm(start)
        gap = max(gap, np.abs(run.residuals - abs(target)).max())
        theta = rng.uniform(0.2, 0.8)
        run = variational.plug_and_play(
            operator,
            np.zeros(size),
            lambda z, t=theta: (1 - t) * z + t * np.roll(z, 1),
            iterations=5000,
            **options,
        )
        settled = max(settled, run.residuals[-1])
    c.at_most("shift: all residuals are the stated number", gap, 1e-9)
    c.at_most("averaged shift: last residual", settled, 1e-9)

    # Part 2 by Monte Carlo: relative risks with correlated numerator and denominator.
    x, z = rng.standard_normal(400_000), rng.standard_normal(400_000)
    for power, square, eta in ((1.0, 0.2, 0.0), (4.0, 1.0, 0.3), (9.0, 0.3, 0.05)):
        noisy = np.sqrt(power) * x + np.sqrt(square) * z
        risk = ((1 + eta) * noisy - np.sqrt(power) * x) ** 2
        least = power * square / (power + square)
        target = 1 + (square + eta * (power + square)) ** 2 / (power * square)
        error = risk.std() / least / np.sqrt(len(x))
        c.close(f"risk of 1 + {eta:g} at Π = {power:g}", risk.mean() / least, target, 5 * error)
    line = operators.MatrixOperator(np.array([[1.0, 0.0]]))
    run = variational.plug_and_play(
        line, [0.0], lambda z: 1.01 * z, step=1.0, iterations=100, start=[0.0, 1.0]
    )
    c.close("growth in the unseen mode", np.log(run.x[1]), 100 * np.log(1.01), 1e-9)
    grid = np.linspace(1, 3, 101)
    slopes = np.diff([(1 - d) ** 2 * 2.0 + d**2 * 0.5 for d in grid])
    c.at_least("beyond 1 the risk increases", slopes.min(), 0)

    # Part 3: even sizes, the least and larger ones; Lipschitz constants on random pairs and at
    # the extremal signal.
    def median(z):
        return ndimage.median_filter(z, 3, mode="wrap")

    worst, worst_max, attained = 0.0, 0.0, np.inf
    for size in (6, 8, 20):
        alternating = (-1.0) ** np.arange(size)
        c.at_most(f"N = {size}: D(x) = -x", np.abs(median(alternating) + alternating).max(), 0)
        special = np.zeros(size)
        special[:5] = [1, -1, 0, 1, -1]
        bump = 0.01 * (np.arange(size) == 2)
        moved = np.linalg.norm(median(special + bump) - median(special)) / 0.01
        attained = min(attained, moved)
        for _ in range(500):
            u = rng.standard_normal(size)
            d = rng.standard_normal(size) * 10 ** rng.uniform(-3, 1)
            d *= rng.random(size) < rng.random()
            if d.any():
                change = median(u + d) - median(u)
                worst = max(worst, np.linalg.norm(change) / np.linalg.norm(d))
                worst_max = max(worst_max, np.abs(change).max() / np.abs(d).max())
    c.close("median: the constant is attained", attained, np.sqrt(3), 1e-9)
    c.at_most("median: Euclidean quotients", worst, np.sqrt(3) + 1e-9)
    c.at_most("median: quotients in the maximum norm", worst_max, 1 + 1e-9)
    size = 10
    pair = operators.MatrixOperator(circulants([np.array([0.5, 0.5])], size))
    start = (-1.0) ** np.arange(size)
    run = variational.plug_and_play(
        pair, np.zeros(size), median, step=1.7, iterations=999, start=start
    )
    c.close("the two-cycle: last residual", run.residuals[-1], 2 * np.sqrt(size), 1e-9)


def test_pnp_strength(claim):
    c = claim("prop-pnp-strength")
    rng = np.random.default_rng(4604)
    # Part 1: a MAP reconstruction found by brute force on the negative log-posterior of a
    # nonquadratic prior, P(x) = Σ log cosh, against the fixed point with the MAP denoiser.
    matrix, data = rng.standard_normal((3, 2)), rng.standard_normal(3)
    big = np.linalg.norm(matrix, 2) ** 2

    def map_denoiser(z, square):  # scalar problems, by bisection on the derivative
        low, high = z - square, z + square
        for _ in range(80):
            mid = (low + high) / 2
            up = mid - z + square * np.tanh(mid) > 0
            low, high = np.where(up, low, mid), np.where(up, mid, high)
        return (low + high) / 2

    gap = 0.0
    for square, share in ((0.5, 0.4), (2.0, 1.0), (0.1, 1.8)):
        tau = share / big
        run = variational.plug_and_play(
            operators.MatrixOperator(matrix),
            data,
            lambda z, s=square: map_denoiser(z, s),
            step=tau,
            iterations=20_000,
            tol=1e-13,
        )

        def posterior(x, noise=square / tau):
            return ((matrix @ x - data) ** 2).sum() / (2 * noise) + np.log(np.cosh(x)).sum()

        options = {"xatol": 1e-10, "fatol": 1e-15, "maxiter": 5000}
        found = minimize(posterior, [0.1, 0.2], method="Nelder-Mead", options=options).x
        gap = max(gap, np.abs(found - run.x).max())
    c.at_most("MAP for the noise power s²/τ", gap, 1e-5)

    # Part 2: homogeneous penalties of degree 1, 3/2, 2 on the line, prox by brute force.
    off = 0.0
    for p in (1.0, 1.5, 2.0):
        for scale in (0.25, 3.0):
            for z in (0.0, 0.4, -2.3):

                def prox(z, weight, p=p):
                    return minimize_scalar(
                        lambda x: (x - z) ** 2 / 2 + weight * abs(x) ** p,
                        bounds=(-6, 6),
                        options={"xatol": 1e-12},
                    ).x

                direct = minimize_scalar(
                    lambda x, z=z, s=scale, p=p: (
                        (x - z) ** 2 / 2 + s ** (2 - p) * 0.3 * abs(x) ** p
                    ),
                    bounds=(-6, 6),
                    options={"xatol": 1e-12},
                ).x
                wide = np.clip(z / scale, -6, 6)
                off = max(off, abs(scale * prox(wide, 0.3) - direct) / scale * (z / scale == wide))
    c.at_most("scaled proximal maps", off, 1e-5)
    # Smoothed filters, in plug-and-play: penalty c Σ φ_(c ν)(k * x) / τ, by another solver.
    size, nu, filters = 16, 0.2, np.array([[-0.4, 0.5, 0.1]])
    operator = operators.gaussian_blur(size, 0.6)
    y = operator.forward(rng.standard_normal(size))
    potential = variational.SmoothedL1(nu)
    off = 0.0
    for scale, tau in ((0.3, 1.5), (2.5, 0.7)):
        run = variational.plug_and_play(
            operator,
            y,
            lambda z, s=scale: s * variational.denoise(z / s, filters, potential, tol=1e-12).x,
            step=tau,
            iterations=5000,
            tol=1e-11,
        )
        x = potential_minimizer(
            operator.to_matrix(), y, circulants(filters, size), scale * nu, scale / tau
        )[0]
        off = max(off, np.abs(x - run.x).max())
    c.at_most("scaled filters in plug-and-play", off, 1e-6)


# ---------------------------------------------------------------------------------- deblurring


def test_pnp_deblur(claim):
    c = claim("obs-pnp-deblur")
    size, delta, nu = 64, 0.1, 0.05
    operator = operators.gaussian_blur(size, 1.5)
    matrix = operator.to_matrix()
    symbol = np.exp(-2 * (np.pi * 1.5 * np.fft.fftfreq(size)) ** 2)
    potential = variational.SmoothedL1(nu)
    for seed in (4605, 4606, 4607):
        rng = np.random.default_rng(seed)
        clean = variational.piecewise_constant(32, size, 5, rng)
        noisy = clean + delta * rng.standard_normal(clean.shape)
        learned = variational.learn_filters(
            clean, noisy, count=1, taps=5, potential=potential, seed=seed
        ).filters
        x = variational.piecewise_constant(32, size, 5, rng)
        y = operator.forward(x) + delta * rng.standard_normal(x.shape)

        def solve(filters, scale, y=y):  # c φ_(cν) = weight c and smoothing cν
            maps = circulants(filters, size)

            def objective(x):
                x = x.reshape(y.shape)
                misfit, out = x @ matrix.T - y, x @ maps.T
                smooth = np.hypot(out, scale * nu)
                slope = misfit @ matrix + scale * (out / smooth) @ maps
                return (misfit**2).sum() / 2 + scale * smooth.sum(), slope.ravel()

            options = {"maxiter": 3000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-6}
            start = y.ravel()
            return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x

        def tuned(candidates, x=x):
            squares = [((np.reshape(z, x.shape) - x) ** 2).mean(axis=1) for z in candidates]
            best = int(np.argmin([s[:16].mean() for s in squares]))
            return [s[16:].mean() for s in squares], best

        scales, weights = (1, 0.5, 0.25, 0.125), (0.25, 0.125, 0.06, 0.03)
        errors, best = tuned([solve(learned, s) for s in scales])
        tv_errors, tv_best = tuned([solve(variational.tv_filters(1), w) for w in weights])

        def wiener(ratio, y=y):
            return np.fft.ifft(symbol / (symbol**2 + ratio) * np.fft.fft(y)).real

        alphas, alpha = tuned([wiener(a) for a in np.geomspace(1e-3, 1, 25)])
        power = (np.abs(np.fft.fft(clean)) ** 2).mean(axis=0) / size
        linear = min(alphas[alpha], tuned([wiener(delta**2 / power)])[0][0])
        c.at_least(f"seed {seed}: c = 1 over tuned c", errors[0] / errors[best], 1.3)
        c.at_most(f"seed {seed}: tuned c", scales[best], 0.5)
        c.at_most(f"seed {seed}: tuned c over the better linear one", errors[best] / linear, 0.7)
        c.close(f"seed {seed}: over tuned TV", errors[best] / tv_errors[tv_best], 1.0, 0.25)
    run = variational.plug_and_play(
        operator,
        y[0],
        lambda z: 0.5 * variational.denoise(z / 0.5, learned, potential, tol=1e-9).x,
        step=1.0,
        iterations=2000,
        tol=1e-7,
    )
    same = solve(learned, 0.5).reshape(x.shape)[0]
    c.at_most("plug-and-play has the same limit", np.abs(run.x - same).max(), 2e-3)


# ------------------------------------------------------------------------- adversarial training


def box_denoiser(x, radius, threat):
    """The best factor for |(d - 1) x| + radius |d|, squared and averaged, by brute force."""
    if threat == "almost sure":

        def loss(d):
            return ((np.abs(d - 1) * np.abs(x) + radius * abs(d)) ** 2).mean()

        return minimize_scalar(loss, bounds=(0, 1), options={"xatol": 1e-10}).x
    rms = np.sqrt((x**2).mean())  # in mean: an attack of the mean square radius², aligned
    grid = np.linspace(0, 1, 1001)
    return grid[np.argmin((1 - grid) * rms + radius * grid)]


def test_unsafe_pnp(claim):
    c = claim("prop-unsafe-pnp")
    rng = np.random.default_rng(4608)
    unit = rng.laplace(size=20_000)
    unit /= np.sqrt((unit**2).mean())
    r = np.abs(unit).mean()

    # Part 1 with denoisers trained by brute force on samples, several b, C, γ, τ.
    short, long, norm = 0, 0, 0.0
    for b, big, gamma, radius, tau in (
        (1.0, 1.0, 0.02, 0.13, 1.0),
        (0.75, 2.0, 0.05, 0.3, 0.3),
        (2.0, 5.0, 0.2, 0.2, 1.7),
    ):
        k = np.arange(1, 16)
        sigma = np.exp(-gamma * k**2)
        for threat, shape in (("almost sure", r), ("in mean", 1.0)):
            ends = np.array([box_denoiser(unit * np.sqrt(big) * i**-b, radius, threat) for i in k])
            plateau = (shape * np.sqrt(big) / radius) ** (1 / b)
            on = ends > 1 - 1e-6
            short += int((k <= plateau)[~on].sum())
            long += int((k > plateau)[on].sum())
            # the limit, by linear algebra: x = D (x - τ σ (σ x - 1))
            gain = ends * tau * sigma / (1 - ends * (1 - tau * sigma**2))
            lower = np.exp(gamma * np.floor(plateau) ** 2)
            if threat == "in mean":
                norm = max(norm, abs(gain.max() / lower - 1))
            else:
                norm = max(norm, 1 - gain.max() / lower)
    c.at_most("modes of the plateau without D = 1", short, 0)
    c.at_most("modes beyond the plateau with D = 1", long, 0)
    c.at_most("amplification", norm, 1e-3)

    # Part 2: matched radius; logarithms, the numbers are large.
    for b, gamma, shape in ((0.6, 1e-3, 0.5), (1.0, 0.1, 0.8), (3.0, 1e-2, 1.0)):
        logs = []
        for delta in 10.0 ** -np.arange(6, 40, 4):
            logs.append(np.log(delta) + gamma * np.floor((shape / delta) ** (1 / b)) ** 2)
        c.at_least(f"b = {b:g}: log(δ‖R‖) at the end", logs[-1], 1e3)
    deltas = 10.0 ** -np.arange(2.0, 300, 40)
    k = np.arange(1, 400)
    values = []
    for delta in deltas:
        # radius with γ (1/radius)^(2/b) = log(1/δ) / 2, at b = 1, γ = 0.02
        radius = np.sqrt(0.02 / (0.5 * np.log(1 / delta)))
        factors = adversarial.box_in_mean(np.ones(len(k)), k**-2.0, radius)
        values.append(np.log(delta) + (0.02 * k**2)[factors > 0.5].max())
    c.at_most("logarithmic radius: log(δ‖R‖) falls", np.diff(values).max(), -1.0)

    # Part 3: the bound, sharp to a constant, and δ‖R‖ → 0.
    k, tau = np.arange(1, 60), 0.7
    sigma, ratios, products = np.exp(-0.01 * k**2), [], []
    for delta in (sigma[0] * np.sqrt(tau * 3.0), 1e-1, 1e-3, 1e-6, 1e-9):
        signal = 3.0 * k**-2.0
        best = [
            minimize_scalar(
                lambda d, p=p, s=delta: (1 - d) ** 2 * p + d**2 * s**2,
                bounds=(0, 1),
                options={"xatol": 1e-14},
            ).x
            for p in signal[:5]
        ]
        factors = signal / (signal + delta**2)
        off = np.abs(np.array(best) - factors[:5]).max()
        gains = sigma / (sigma**2 + delta**2 / signal / tau)
        fixed = factors * tau * sigma / (delta**2 / (signal + delta**2) + factors * tau * sigma**2)
        off = max(off, np.abs(fixed / gains - 1).max())
        c.at_most(f"δ = {delta:g}: fixed point of the noise-trained", off, 1e-6)
        ratios.append(gains.max() / (np.sqrt(tau * 3.0) / (2 * delta)))
        products.append(delta * gains.max())
    c.at_most("bound for noise-trained denoisers", max(ratios), 1)
    c.at_least("and attained, at δ = σ_1 √(τ C)", max(ratios), 1 - 1e-9)
    c.at_most("δ‖R‖ decreases", np.diff(products).max(), 0)

    # Part 4: random spectra, and the limit of the ratio by quadrature.
    worst, below = 0.0, 0.0
    for _ in range(40):
        p, delta = 10 ** rng.uniform(-3, 3, 30), 1.0
        shape = rng.uniform(0.05, 1, 30)
        for factors in (
            adversarial.box_almost_sure(np.ones(30), p, delta, shape * np.sqrt(p)),
            adversarial.box_in_mean(np.ones(30), p, delta),
        ):
            risk = (1 - factors) ** 2 * p + factors**2
            below = max(below, (risk / np.minimum(p, 1)).max())
            worst = max(worst, risk.sum() / (p / (p + 1)).sum())
    c.at_most("risk over min(Π, δ²), mode by mode", below, 1 + 1e-9)
    c.at_most("risk over the least risk", worst, 2)
    for b in (0.8, 1.0, 2.0):
        k = np.arange(1.0, 4_000_001)
        p, delta = k ** (-2 * b), 1000.0**-b * 1.0003
        tail = (4_000_000.5) ** (1 - 2 * b) / (2 * b - 1)  # both sums, beyond
        ratio = (np.minimum(p, delta**2).sum() + tail) / (
            (p * delta**2 / (p + delta**2)).sum() + tail
        )
        top = 1 + quad(lambda u, b=b: u ** (-2 * b), 1, np.inf)[0]
        bottom = quad(lambda u, b=b: 1 / (1 + u ** (2 * b)), 0, np.inf)[0]
        formula = 2 * b / (2 * b - 1) * np.sin(np.pi / (2 * b)) / (np.pi / (2 * b))
        c.close(f"b = {b:g}: the limit by quadrature", formula, top / bottom, 1e-6)
        c.close(f"b = {b:g}: the limit by sums", ratio, formula, 3e-3)

    # Part 5, and the fixed point of the library, for a blur on a grid.
    blur = operators.gaussian_blur(64, 1.0)
    sigma = blur.singular_values
    p = (1 + np.arange(64.0)) ** -2
    gains = adversarial.pnp_adversarial_gain(sigma, p, 0.05, 0.8 * np.sqrt(p))
    matrix = blur.synthesise(gains * blur.analyse(np.eye(64))) @ blur.to_matrix()
    c.at_most("‖RA‖", np.linalg.norm(matrix, 2), 1 + 1e-9)


def test_pnp_unsafe(claim):
    c = claim("obs-pnp-unsafe")
    blur, level, ones = operators.gaussian_blur(128, 1.5), 0.15, np.ones(128)
    sigma = blur.singular_values
    for seed in (4609, 4610, 4611, 4612):
        rng = np.random.default_rng(seed)
        training = blur.analyse_domain(variational.piecewise_constant(4000, 128, 8, rng))
        power, mean_abs = (training**2).mean(axis=0), np.abs(training).mean(axis=0)
        x = variational.piecewise_constant(200, 128, 8, rng)
        noise = level * rng.standard_normal(x.shape)
        noisy, data = blur.analyse_domain(x + noise), blur.analyse(blur.forward(x) + noise)
        target = blur.analyse_domain(x)
        old = spectral.mse_gain(ones, power, level**2)
        new = adversarial.box_almost_sure(ones, power, level, mean_abs)
        alone, plugged = [], []
        for d in (old, new):
            alone.append(((d * noisy - target) ** 2).mean())
            limit = d * sigma / (1 - d * (1 - sigma**2))  # fixed point, step 1
            plugged.append(((limit * data - target) ** 2).mean())
        c.close(f"seed {seed}: denoising errors, ratio", alone[1] / alone[0], 1.275, 0.075)
        c.at_least(f"seed {seed}: errors of the limits, ratio", plugged[1] / plugged[0], 1000)
        c.at_least(f"seed {seed}: against 0", plugged[1] / (x**2).mean(), 50)


# ------------------------------------------------------------------------------ total variation


def test_tv_pnp_safe(claim):
    c = claim("prop-tv-pnp-safe")
    rng = np.random.default_rng(4613)
    offsets, sizes, tight, pairs = 0.0, 0.0, 0.0, 0.0
    for n, beta, nu, tau in ((8, 0.5, 0.1, 1.0), (9, 0.05, 0.01, 1.9), (16, 2.0, 0.3, 0.4)):
        matrix = operators.gaussian_blur(n, 0.9).to_matrix()
        maps = circulants(beta * np.array([[-1.0, 1.0]]), n)
        truth = variational.piecewise_constant(6, n, 3, rng) * 2
        truth[0] = 0  # degenerate: no signal, and no noise in the second
        e = rng.standard_normal(truth.shape)
        e *= 10 ** rng.uniform(-2, 1, (6, 1)) / np.linalg.norm(e, axis=1, keepdims=True)
        e[1] = 0
        y = truth @ matrix.T + e
        x = potential_minimizer(matrix, y, maps, nu, 1 / tau)
        shifted = potential_minimizer(matrix, y + 3.7, maps, nu, 1 / tau)
        offsets = max(offsets, np.abs(x.mean(axis=1) - y.mean(axis=1)).max())
        offsets = max(offsets, np.abs(shifted - x - 3.7).max())
        variation = np.abs(truth - np.roll(truth, 1, axis=1)).sum(axis=1)
        square = (e**2).sum(axis=1)
        bound = np.abs(e.mean(axis=1)) + variation
        bound = bound + tau * square / (4 * beta) + n * nu / (2 * beta)
        quotient = np.abs(x - truth).max(axis=1) / bound
        sizes, tight = max(sizes, quotient.max()), max(tight, quotient.max())
        for i in range(5):
            left = np.linalg.norm(matrix @ (x[i] - x[i + 1]))
            pairs = max(pairs, left / np.linalg.norm(y[i] - y[i + 1]))
    c.at_most("offsets and means", offsets, 1e-6)
    c.at_most("size: error over its bound", sizes, 1)
    c.at_least("the bound is not absurd", tight, 0.05)
    c.at_most("AR nonexpansive", pairs, 1 + 1e-7)

    # The noise term: a step of noise, no signal, almost no blur; by hand, 1/4 of it.
    matrix = operators.gaussian_blur(8, 0.02).to_matrix()
    maps = circulants(0.5 * np.array([[-1.0, 1.0]]), 8)
    step = np.repeat([0.5, -0.5], 4)
    x = potential_minimizer(matrix, step, maps, 1e-3, 1.0)[0]
    noise_term = 1.0 * (step @ step) / (4 * 0.5)
    c.close("step: error over the noise term", np.abs(x).max() / noise_term, 0.25, 0.01)

    # ν = 0 through the dual problem, a quadratic program in a box; zero truths, zero noise.
    def total_variation(matrix, y, weight):
        maps = circulants(np.array([[-1.0, 1.0]]), len(y))
        inverse, b = np.linalg.inv(matrix.T @ matrix), matrix.T @ y

        def dual(p):
            x = inverse @ (b - maps.T @ p)
            return (b - maps.T @ p) @ x / 2, -maps @ x

        options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 20_000, "maxfun": 40_000}
        bounds = [(-weight, weight)] * len(y)
        p = minimize(dual, 0 * y, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
        return inverse @ (b - maps.T @ p)

    worst, means, pairs = 0.0, 0.0, 0.0
    for trial in range(70):
        n, tau, beta = int(rng.integers(3, 12)), rng.uniform(0.1, 1.9), 10 ** rng.uniform(-2, 0)
        matrix = operators.gaussian_blur(n, rng.uniform(0.2, 0.8)).to_matrix()
        truth = np.round(rng.standard_normal(n)) * (trial % 5 > 0)
        e = rng.standard_normal(n) * 10 ** rng.uniform(-2, 0.5) * (trial % 7 > 0)
        y, other = matrix @ truth + e, rng.standard_normal(n)
        x = total_variation(matrix, y, beta / tau)
        bound = abs(e.mean()) + np.abs(truth - np.roll(truth, 1)).sum() + tau * (e @ e) / (4 * beta)
        worst = max(worst, (np.abs(x - truth).max() - 1e-7) / max(bound, 1e-12))
        means = max(means, abs(x.mean() - y.mean()))
        moved = matrix @ (total_variation(matrix, y + other, beta / tau) - x)
        pairs = max(pairs, np.linalg.norm(moved) / np.linalg.norm(other))
    c.at_most("ν = 0: error over its bound", worst, 1)
    c.at_least("ν = 0: the bound is nearly attained", worst, 0.75)
    c.at_most("ν = 0: the means", means, 1e-9)
    c.at_most("ν = 0: AR nonexpansive", pairs, 1 + 1e-6)
    matrix = operators.gaussian_blur(8, 0.9).to_matrix()
    left, values, _ = np.linalg.svd(matrix)
    x = total_variation(matrix, 1e4 * left[:, -1], 0.3)
    c.close("ν = 0: Lipschitz quotient", np.linalg.norm(x) / 1e4 * values[-1], 1.0, 2e-2)

    # Part 3: at large multiples the Lipschitz quotient tends to 1 / σ_min.
    n = 8
    matrix = operators.gaussian_blur(n, 0.9).to_matrix()
    maps = circulants(0.3 * np.array([[-1.0, 1.0]]), n)
    left, values, _ = np.linalg.svd(matrix)
    quotients = []
    for multiple in (1e-2, 1.0, 1e2, 1e5):
        x = potential_minimizer(matrix, multiple * left[:, -1], maps, 0.1, 1.0)[0]
        quotients.append(np.linalg.norm(x) / multiple)
    c.close("Lipschitz quotient at a large multiple", quotients[-1] * values[-1], 1.0, 1e-2)
    c.at_most("and it never exceeds 1/σ_min", max(quotients) * values[-1], 1 + 1e-6)
    c.at_most("small at small multiples", quotients[0] * values[-1], 0.2)


# --------------------------------------------------------------------------- non-local means


def test_pnp_nlm(claim):
    c = claim("obs-pnp-nlm")
    blur = operators.gaussian_blur((24, 24), 1.0)

    def nlm(z):
        wide = np.pad(z, 7, mode="wrap")
        options = {"patch_size": 3, "patch_distance": 5, "h": 0.1, "fast_mode": False}
        return denoise_nl_means(wide, **options)[7:-7, 7:-7]

    for seed in (4614, 4615, 4616):
        rng = np.random.default_rng(seed)
        x = variational.rectangles(1, 24, rng)[0]
        y = blur.forward(x) + 0.1 * rng.standard_normal(x.shape)
        z = x + 0.1 * rng.standard_normal(x.shape)
        base = nlm(z)
        pairs, search = [], []
        for _ in range(20):
            d = rng.standard_normal(x.shape)
            d *= 0.01 / np.linalg.norm(d)
            pairs.append(np.linalg.norm(nlm(z + d) - base) / 0.01)
        for _ in range(40):
            d *= 0.01 / np.linalg.norm(d)
            d = nlm(z + d) - base
            search.append(np.linalg.norm(d) / 0.01)
        run = variational.plug_and_play(blur, y, nlm, step=1.0, iterations=150)
        c.at_most(f"seed {seed}: random pairs", max(pairs), 0.9)
        c.at_least(f"seed {seed}: search", max(search), 1.2)
        last = run.residuals[-1] / run.residuals[0]
        c.at_most(f"seed {seed}: last residual over the first", last, 0.01)
        better = ((run.x - x) ** 2).mean() / ((y - x) ** 2).mean()
        c.at_most(f"seed {seed}: error over that of the data", better, 1)
