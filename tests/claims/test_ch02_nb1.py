"""Witnesses of chapter 2, notebook 1: learned filters."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from advreg import operators, spectral


def discrete_law(rng, atoms, modes):
    """Weights p and coefficients x, e of shape (atoms, modes): expectations are finite sums."""
    p = rng.dirichlet(np.ones(atoms))
    x = rng.standard_normal((atoms, modes)) * 10 ** rng.uniform(-1, 1, modes)
    e = rng.standard_normal((atoms, modes)) * 10 ** rng.uniform(-1, 1, modes)
    return p, x, e + rng.uniform(-1, 1, modes) * x


def second_moments(p, x, e):
    return p @ x**2, p @ e**2, p @ (x * e)


def rotation(rng, size):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


# ------------------------------------------------------------------------- the learned gain


def test_learned_gain(claim):
    c = claim("thm-learned-gain")
    rng = np.random.default_rng(210)
    gain_gap, risk_gap, square_gap = [], [], []
    for _ in range(60):
        p, x, e = discrete_law(rng, int(rng.integers(2, 7)), 3)
        s = 10 ** rng.uniform(-2, 1, 3)
        y = s * x + e
        signal, noise, cross = second_moments(p, x, e)
        data = s**2 * signal + 2 * s * cross + noise
        least = (signal * noise - cross**2) / data  # the formula of the statement
        g = spectral.mse_gain(s, signal, noise, cross=cross)
        for k in range(3):

            def loss(h, k=k, p=p, x=x, y=y):
                return p @ (h * y[:, k] - x[:, k]) ** 2

            found = minimize_scalar(loss, method="brent", tol=1e-12)
            # Brent finds a minimizer to the root of the rounding error, relative to its size and
            # to the width sqrt(loss / curvature) of the valley.
            width = abs(found.x) + np.sqrt(signal[k] / data[k])
            gain_gap.append(abs(found.x - g[k]) / width)
            risk_gap.append(abs(found.fun - least[k]) / signal[k])
            h = 3 * rng.standard_normal() * width
            excess = least[k] + data[k] * (h - g[k]) ** 2
            square_gap.append(abs(loss(h) / excess - 1))
    c.at_most("gain against numerical minimization, relative", max(gain_gap), 1e-6)
    c.at_most("r_n against the minimum found, in units of Pi_n", max(risk_gap), 1e-10)
    c.at_most("completed square, relative", max(square_gap), 1e-8)

    # All modes at once: least squares over the diagonal maps, as one stacked regression.
    x, e = rng.standard_normal((2, 50, 6))
    y = np.linspace(1, 0.1, 6) * x + e
    design = np.concatenate([np.diag(row) for row in y])
    g, residual, *_ = np.linalg.lstsq(design, x.ravel(), rcond=None)
    c.at_most("empirical law: fit_gain", np.abs(spectral.fit_gain(x, y) - g).max(), 1e-12)
    moments = (np.mean(x**2, axis=0), np.mean(e**2, axis=0), np.mean(x * e, axis=0))
    least = (moments[0] * moments[1] - moments[2] ** 2) / np.mean(y**2, axis=0)
    c.close("total risk", least.sum(), residual[0] / 50, 1e-12)
    c.at_most("total risk / power", least.sum() / moments[0].sum(), 1.0)

    # Degenerate modes: no signal, no noise, neither, noise that cancels the signal.
    s = np.array([0.5, 0.5, 0.5, 2.0])
    signal, noise = np.array([0.0, 3.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0, 4.0])
    g = spectral.mse_gain(s, signal, noise, cross=np.array([0, 0, 0, -2.0]))
    c.at_most("degenerate gains", np.abs(g - [0, 2, 0, 0]).max(), 1e-15)
    for h in (-3.0, 0.0, 7.0):  # S = 0: y = 2 x - 2 x vanishes, whatever the gain
        c.close(f"no data, gain {h:g}", spectral.modal_risk(2.0, 1.0, 4.0, h, -2.0), 1.0, 1e-12)

    # Part 3, from Bayes' rule: the posterior of Gaussians by quadrature, its mean and variance.
    mean_gap, precision_gap = [], []
    for _ in range(20):
        s, signal, noise = 10 ** rng.uniform(-1, 1, 3)
        y = rng.standard_normal() * np.sqrt(s**2 * signal + noise)
        t = np.linspace(-14, 14, 40001) * np.sqrt(signal)
        density = np.exp(-((y - s * t) ** 2) / (2 * noise) - t**2 / (2 * signal))
        density /= density.sum()
        mean = density @ t
        g = spectral.mse_gain(s, signal, noise)
        mean_gap.append(abs(g * y - mean) / np.sqrt(signal))
        precision_gap.append(abs((density @ (t - mean) ** 2) * (1 / signal + s**2 / noise) - 1))
        risk = spectral.modal_risk(s, signal, noise, g)
        precision_gap.append(abs(risk * (1 / signal + s**2 / noise) - 1))
    c.at_most("posterior mean", max(mean_gap), 1e-9)
    c.at_most("posterior variance and risk, relative", max(precision_gap), 1e-9)


# ------------------------------------------------------------------------------- all linear maps


def joint_moments(rng, size, kind):
    """C_x, C_eps, C_x,eps of a law that satisfies the condition of the statement, or not."""
    if kind == "uncorrelated":
        cx, ce = np.diag(rng.uniform(0, 2, size)), np.diag(rng.uniform(0.01, 2, size))
        return cx, ce, np.diag(rng.uniform(-0.9, 0.9, size) * np.sqrt(np.diag(cx) * np.diag(ce)))
    half = rng.standard_normal((2 * size, 2 * size))
    joint = half @ half.T
    if kind == "shared":  # with A = I the two need only be proportional
        return joint[:size, :size], 0.7 * joint[:size, :size], np.zeros((size, size))
    return joint[:size, :size], joint[size:, size:], joint[:size, size:]


def test_lmmse(claim):
    c = claim("prop-lmmse")
    rng = np.random.default_rng(211)
    # Part 2: weighted least squares over all matrices; with few atoms C_y is singular.
    map_gap, risk_gap = [], []
    for atoms in (3, 4, 5, 12, 12, 40):
        p, x, e = discrete_law(rng, atoms, 4)
        s = rng.uniform(0.2, 1, 4)
        y, root = s * x + e, np.sqrt(p)[:, None]
        fitted = np.linalg.lstsq(root * y, root * x, rcond=None)[0].T
        cx, ce, cross = ((p * u.T) @ v for u, v in ((x, x), (e, e), (x, e)))
        best = spectral.lmmse(np.diag(s), cx, ce, cross)
        least = p @ np.sum((y @ fitted.T - x) ** 2, axis=1)
        cxy = cx * s + cross
        cy = (s * (cx * s).T).T + s[:, None] * cross + cross.T * s + ce
        formula = np.trace(cx - cxy @ np.linalg.pinv(cy, rcond=1e-12) @ cxy.T)
        reached = p @ np.sum((y @ best.T - x) ** 2, axis=1)
        risk_gap += [abs(formula - least) / np.trace(cx), abs(reached - least) / np.trace(cx)]
        if atoms > 4:
            map_gap.append(np.abs(best - fitted).max() / np.abs(fitted).max())
    c.at_most("best matrix against least squares", max(map_gap), 1e-8)
    c.at_most("least risk, in units of E||x||^2", max(risk_gap), 1e-9)

    # Part 1: what diagonal loses is the size of the violated condition, exactly.
    excess_gap, holds, fails = [], [], []
    for kind in ("uncorrelated", "shared", "general") * 20:
        size = int(rng.integers(2, 6))
        cx, ce, cross = joint_moments(rng, size, kind)
        s = np.ones(size) if kind == "shared" else rng.uniform(0.2, 2, size)
        cy = np.outer(s, s) * cx + s[:, None] * cross + (s[:, None] * cross).T + ce
        cxy = cx * s + cross
        g = spectral.mse_gain(s, np.diag(cx), np.diag(ce), cross=np.diag(cross))
        risk = spectral.modal_risk(s, np.diag(cx), np.diag(ce), g, cross=np.diag(cross)).sum()
        least = np.trace(cx - cxy @ np.linalg.solve(cy, cxy.T))
        violated = cxy - g[:, None] * cy  # E (x_m - g_m y_m) y_n, zero on the diagonal
        excess = np.trace(violated @ np.linalg.solve(cy, violated.T))
        excess_gap.append(abs(risk - least - excess) / np.trace(cx))
        (fails if kind == "general" else holds).append((np.abs(violated).max(), risk / least - 1))
    c.at_most("lost = size of the violation", max(excess_gap), 1e-8)
    c.at_most("condition violated, where it holds", max(v for v, _ in holds), 1e-12)
    c.at_most("relative loss, where it holds", max(v for _, v in holds), 1e-10)
    c.at_least("condition violated, where it fails", min(v for v, _ in fails), 1e-2)
    c.at_least("relative loss, where it fails", min(v for _, v in fails), 1e-4)

    # Diagonal C_x and C_eps are not enough: E x_1 eps_2 = .9, by Monte Carlo (s.e. below .004).
    x, z = rng.standard_normal((2, 400_000, 2))
    e = np.stack([z[:, 0], 0.9 * x[:, 0] + np.sqrt(1 - 0.81) * z[:, 1]], axis=1)
    y = x + e
    full = np.linalg.lstsq(y, x, rcond=None)[0]
    c.close("best linear risk", np.mean(np.sum((y @ full - x) ** 2, axis=1)), 2 - 4 / 3.19, 0.015)
    c.close("diagonal risk", np.mean(np.sum((y / 2 - x) ** 2, axis=1)), 1.0, 0.015)


# ------------------------------------------------------------------------ stability, smoothness


def test_learned_stability(claim):
    c = claim("prop-learned-stability")
    rng = np.random.default_rng(212)
    s, signal, noise = 10 ** rng.uniform(-4, 4, (3, 20000))
    signal[:50] = 0.0
    g = spectral.mse_gain(s, signal, noise)
    c.at_least("smallest gain", g.min(), 0.0)
    c.at_most("g sigma", (g * s).max(), 1.0 + 1e-15)
    c.at_most(
        "g / (sqrt(Pi/Delta)/2)", (g[50:] / (np.sqrt(signal / noise) / 2)[50:]).max(), 1 + 1e-14
    )
    tied = spectral.mse_gain(s[50:], noise[50:] / s[50:] ** 2, noise[50:])
    c.close("equality at sigma^2 Pi = Delta", np.ptp(tied * 2 * s[50:]) + 1, 1.0, 1e-12)
    off = spectral.mse_gain(s[50:], 1.1 * noise[50:] / s[50:] ** 2, noise[50:])
    c.at_most("10 % off the tie", (off * 2 * s[50:] / np.sqrt(1.1)).max(), 0.999)

    share, norms = [], []
    for _ in range(100):
        size = int(rng.integers(1, 30))
        s, signal, noise = 10 ** rng.uniform(-2, 2, (3, size))
        signal[rng.uniform(size=size) < 0.1] = 0.0
        q = s * spectral.mse_gain(s, signal, noise)
        passed = (spectral.mse_gain(s, signal, noise) ** 2 * noise).sum()
        assert abs(passed - (q * (1 - q) * signal).sum()) <= 1e-10 * (1 + signal.sum())
        if signal.any():
            share.append(passed / signal.sum())
            # The map itself, as a matrix in a basis where nothing is diagonal.
            u, v = rotation(rng, size), rotation(rng, size)
            matrix = (u * spectral.mse_gain(s, signal, 0.3**2)) @ v.T
            norms.append(np.linalg.norm(matrix, 2) * 2 * 0.3 / np.sqrt(signal.max()))
            norms.append(np.sum(matrix**2) * 4 * 0.3**2 / signal.sum())
    c.at_most("noise that passes / signal power", max(share), 0.25)
    single = spectral.mse_gain(1.0, 1.0, 1.0) ** 2
    c.close("and a quarter is reached", single, 0.25, 1e-14)
    c.at_most("white noise: norms / bounds", max(norms), 1.0 + 1e-12)

    # Part 3: block sums over n..2n far out grow like n^p; the series converges iff p < 0.
    wrong, bounded = [], []
    far = 2.0 ** np.arange(100, 141, 20)
    for a, b in ((0.25, 0.55), (1, 1), (2, 0.75), (0.1, 2)):
        edge, sup_edge = a / 2 + b - 0.25, a / 2 + b
        for shift in (-1.0, -0.1, -0.02, 0.02, 0.1, a / 2 + 0.25, a + 1):
            g = spectral.mse_gain(far**-a, far ** (-2 * b), 0.25 * far ** (-2 * (edge + shift)))
            growth = np.diff(np.log2(far * g**2)) / 20
            wrong.append(np.any(np.sign(growth) != np.sign(shift)))
        for shift in (-0.3, -0.02, 0.0, 0.02, 0.3):
            g = spectral.mse_gain(far**-a, far ** (-2 * b), 0.25 * far ** (-2 * (sup_edge + shift)))
            growth = np.diff(np.log2(g)) / 20
            expected = np.sign(shift)
            bounded.append(np.any(np.where(np.abs(growth) < 1e-3, 0, np.sign(growth)) != expected))
    c.at_most("wrong sides of the threshold, series", float(np.sum(wrong)), 0.0)
    c.at_most("wrong sides of the threshold, supremum", float(np.sum(bounded)), 0.0)


def test_output_smoothness(claim):
    c = claim("prop-output-smoothness")
    rng = np.random.default_rng(213)
    draws = 200_000
    deviation = []
    for law in ("normal", "laplace"):
        s, signal, noise = 10 ** rng.uniform(-1, 0.5, (3, 6))
        signal[0] = 0.0
        x = getattr(rng, law)(size=(draws, 6))
        x *= np.sqrt(signal / (1 if law == "normal" else 2))
        y = s * x + np.sqrt(noise) * rng.choice([-1.0, 1.0], (draws, 6))
        g = spectral.mse_gain(s, signal, noise)
        q = s**2 * signal / (s**2 * signal + noise)
        square = (g * y) ** 2
        error = square.std(axis=0) / np.sqrt(draws)
        gap = square.mean(axis=0) - q * signal
        deviation += list(np.abs(gap[1:]) / error[1:])
        assert square[:, 0].max() == 0.0  # no signal power: no output
        lost = ((g * y - x) ** 2).sum(axis=1)
        balance = (x**2).sum(axis=1) - lost - square.sum(axis=1)
        deviation.append(abs(balance.mean()) / (balance.std() / np.sqrt(draws)))
    c.at_most("Monte Carlo, in standard errors (12 values)", max(deviation), 4.0)

    gap, slopes = [], []
    for a, b, d in ((1, 1, 0.1), (0.25, 0.55, 0.01), (2, 0.75, 0.03), (0.5, 2, 0.3)):
        n = np.unique(np.round(np.geomspace(1, 1e4, 200)))
        s, signal, cut = n**-a, n ** (-2 * b), d ** (-1 / (a + b))
        x_hat = spectral.mse_gain(s, signal, d**2) ** 2 * (s**2 * signal + d**2)
        gap.append(np.abs(x_hat * n ** (2 * b) * (1 + (n / cut) ** (2 * (a + b))) - 1).max())
        # The series of n^(2s) power converges iff the power falls faster than n^(-1-2s).
        far = cut * np.array([1e4, 1e5])
        s, signal = far**-a, far ** (-2 * b)
        learned = spectral.mse_gain(s, signal, d**2) ** 2 * (s**2 * signal + d**2)
        slopes.append(abs(spectral.slope(far, learned) + 2 * (a + 2 * b)))
        far = 10.0 ** (4 / min(a, b)) * far
        s, signal = far**-a, far ** (-2 * b)
        classical = (s / (s**2 + 0.1)) ** 2 * (s**2 * signal + d**2)
        slopes.append(abs(spectral.slope(far, classical) + 2 * a))
    c.at_most("output power in MP(a, b), relative", max(gap), 1e-10)
    c.at_most("slopes -2(a + 2b), learned, and -2a, Tikhonov", max(slopes), 1e-3)


# ---------------------------------------------------------------------------------- convergence


def mean_square(u, v, s, g, x, noise, p):
    """E ||R (A x + eps) - x||^2 for a discrete noise law, with matrices and not coefficients."""
    matrix, inverse = (v * s) @ u.T, (u * g) @ v.T
    errors = (matrix @ (u @ x) + noise @ v.T) @ inverse.T - u @ x
    return p @ np.sum(errors**2, axis=1)


def test_learned_convergence(claim):
    c = claim("thm-learned-convergence")
    rng = np.random.default_rng(214)
    tight, loose, shifted, average = [], [], [], []
    for _ in range(60):
        size = int(rng.integers(1, 8))
        s, signal, trained = 10 ** rng.uniform(-1, 1, (3, size))
        dead = rng.uniform(size=size) < 0.2
        signal[dead] = 0.0
        x = np.where(dead, 0.0, rng.standard_normal(size))
        u, v = rotation(rng, size), rotation(rng, size)
        g = spectral.mse_gain(s, signal, trained)
        p = rng.dirichlet(np.ones(9))
        raw = rng.standard_normal((9, size))
        centred = raw - p @ raw
        top = 10 ** rng.uniform(-1, 1)  # C
        q = s**2 * signal / (s**2 * signal + trained)
        bound = ((1 - q) ** 2 * x**2).sum() + top * (q * (1 - q) * signal).sum()
        met = centred * np.sqrt(top * trained / (p @ centred**2))
        if bound > 0:
            tight.append(abs(mean_square(u, v, s, g, x, met, p) / bound - 1))
            loose.append(mean_square(u, v, s, g, x, rng.uniform(0, 1, size) * met, p) / bound)
            biased = raw * np.sqrt(top * trained / (p @ raw**2))
            shifted.append(mean_square(u, v, s, g, x, biased, p) / (2 * bound))
            # Part 2: x depends on the noise, but the sign makes E x_n eps_n vanish; no mean zero.
            sign = np.repeat([1.0, -1.0], 9)[:, None]
            random_x = np.where(dead, 0.0, sign * np.tile(rng.standard_normal((9, size)), (2, 1)))
            both = np.concatenate([p, p]) / 2
            noise = np.tile(biased, (2, 1))
            errors = (random_x * s + noise) * g - random_x  # modes: the basis was tested above
            power = both @ random_x**2
            bound = ((1 - q) ** 2 * power).sum() + top * (q * (1 - q) * signal).sum()
            average.append(abs(both @ np.sum(errors**2, axis=1) / bound - 1))
    c.at_most("bound attained for noise C Delta, relative gap", max(tight), 1e-9)
    c.at_most("random x, noise with a mean: bound attained, relative gap", max(average), 1e-9)
    c.at_most("less noise / bound", max(loose), 1.0)
    c.at_most("noise with a mean / twice the bound", max(shifted), 1.0)
    one = np.ones((1, 1))
    worse = mean_square(
        one, one, np.ones(1), np.array([0.5]), np.ones(1), np.array([[-0.5]]), one[0]
    )
    c.at_least("a mean can break the bound itself (.3125)", worse, 0.5625)

    # The limit: white, rough and smooth training noise; x rougher than the training signal;
    # the noise that is met three times as strong.  The last entry holds all later modes.
    for a, b, tilt, rough in ((1, 1, 0, 0.7), (0.25, 0.8, -0.25, 0.6), (0.5, 1.2, 0.4, 1.2)):
        s, signal = spectral.model_problem(a, b, 200_000)
        x2 = spectral.model_problem(a, rough, 200_000)[1]
        n = np.arange(1.0, s.size + 1)
        levels = 10.0 ** -np.arange(0, 7 if a < 1 else 8)
        errors = []
        for d in levels:
            noise = d**2 * n ** (-2 * tilt)
            g = spectral.mse_gain(s, signal, noise)
            errors.append(spectral.modal_risk(s, x2, 3 * noise, g).sum())
        label = f"(a, b) = ({a:g}, {b:g}), noise n^{-2 * tilt:g}"
        c.at_most(f"{label}: steepest rise", np.diff(errors).max(), 0.0)
        c.at_most(f"{label}: last / first error", errors[-1] / errors[0], 0.16)

    s, signal = spectral.model_problem(1, 1, 3000)
    x = np.sqrt(spectral.model_problem(1, 0.8, 3000)[1])
    worst = []
    for d in (1e-1, 1e-2, 1e-3, 1e-4):
        q = s * spectral.mse_gain(s, signal, d**2)
        worst.append(spectral.worst_case_error(s, x, q, d))
        exact = np.sum((1 - q) ** 2 * x**2) ** 0.5 + np.sqrt(np.sum(q * (1 - q) * signal))
        assert worst[-1] <= exact
    c.at_most(
        "worst case, white training noise: largest ratio",
        max(np.divide(worst[1:], worst[:-1])),
        0.75,
    )

    # (H3): what has no power in training is never reconstructed, from any data.
    least = []
    for _ in range(20):
        s, trained = 10 ** rng.uniform(-1, 1, (2, 5))
        signal = np.array([1.0, 0.0, 2.0, 0.0, 1.0])
        x, y = rng.standard_normal((2, 5))
        g = spectral.mse_gain(s, signal, trained * rng.integers(0, 2, 5))
        least.append(np.sum((g * y - x) ** 2) / (x[1] ** 2 + x[3] ** 2))
    c.at_least("error / unseen power", min(least), 1.0)


# ----------------------------------------------------------------------------------- experiments


def test_learned_from_samples(claim):
    c = claim("obs-learned-from-samples")
    s = operators.Integration(256).singular_values
    signal = s**2
    signal[19:24] += 0.02
    optimum = np.sum(1 / (1 / signal + s**2 / 1e-6))

    def risk(g):
        return np.sum((1 - s * g) ** 2 * signal + 1e-6 * g**2, axis=-1)

    alphas = np.geomspace(1e-7, 1, 4000)[:, None]
    c.at_least("best Tikhonov / least risk", risk(s / (s**2 + alphas)).min() / optimum, 2.5)
    cuts = np.arange(257)[:, None] > np.arange(256)
    c.at_least("best TSVD / least risk", risk(cuts / s).min() / optimum, 1.6)
    learned = []
    for seed in range(1000, 1020):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, np.sqrt(signal), (200, 256))
        y = s * x + rng.normal(0, 1e-3, (200, 256))
        learned.append(risk(np.einsum("mn,mn->n", x, y) / np.einsum("mn,mn->n", y, y)) / optimum)
    c.at_least("learned / least risk, smallest of 20", min(learned), 1.0)
    c.at_most("learned / least risk, largest of 20", max(learned), 1.015)


def test_correlation(claim):
    c = claim("obs-correlation")
    n = np.arange(1.0, 51)
    for rho, expected in ((0.0, 1.0), (0.3, 1.02), (0.6, 1.11), (0.9, 1.62)):
        # Gaussian posterior covariance from precisions: no product with C_y anywhere.
        cx = np.outer(1 / n, 1 / n) * rho ** np.abs(n[:, None] - n)
        least = np.trace(np.linalg.inv(np.linalg.inv(cx) + np.diag(n**-2) / 0.01))
        diagonal = np.sum(1 / (n**2 + n**-2 / 0.01))
        c.close(f"diagonal / best linear, rho = {rho:g}", diagonal / least, expected, 0.01)


def test_break_convergence(claim):
    c = claim("obs-break-convergence")
    n = np.arange(1.0, 100_001)
    tail = 1 / (n[-1] + 0.5)  # sum of n^-2 beyond, to 1e-15

    def error(power, trained, met):
        q = n**-2 * power / (n**-2 * power + trained)
        return np.sum((1 - q) ** 2 / n**2 + met * (n * q) ** 2) + tail

    levels = np.geomspace(1e-4, 1e-3, 7)
    unseen = np.where(n == 3, 0.0, n**-2)
    good = [error(n**-2, d**2, d**2) for d in levels]
    fixed = [error(n**-2, 0.03**2, d**2) for d in levels]
    smooth = [error(n**-2, d**2 * n**-1.2, d**2) for d in levels]
    blind = [error(unseen, d**2, d**2) for d in levels]
    c.close("all hypotheses: slope", spectral.slope(levels, good), 0.5, 0.01)
    c.at_most("fixed training level: largest / smallest", max(fixed) / min(fixed), 1.02)
    c.close("too smooth training noise: slope", spectral.slope(levels, smooth), -0.14, 0.02)
    c.at_least("mode 3 unseen: error / x_3^2", 9 * min(blind), 1.0)
    c.at_most("mode 3 unseen: error / x_3^2", 9 * max(blind), 1.4)
