"""Witnesses of chapter 2, notebook 3: four ways to learn a regularizer."""

from __future__ import annotations

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.special import zeta

from advreg import data, operators, spectral

# ------------------------------------------------------------------- what each paradigm learns


def atoms(rng, power):
    """A law on three points, not centred and not symmetric, with the given second moment."""
    weights = rng.dirichlet(np.ones(3))
    values = rng.standard_normal(3)
    return values * np.sqrt(power / (weights @ values**2)), weights


def least(loss, scale):
    """The minimizer of a parabola, by Brent's method on a scaled axis."""
    return scale * minimize_scalar(lambda v: loss(scale * v), tol=1e-12).x


def trained(sigma, signal, noise, eta, tau, beta, rng):
    """Gains of the paradigms in one mode, found by minimizing the losses of a discrete law."""
    (x, px), (eps, pe), (zeta_, pz) = (
        (v.reshape(shape), w.reshape(shape))
        for (v, w), shape in zip(
            (atoms(rng, signal), atoms(rng, noise), atoms(rng, eta)),
            ((3, 1), (1, 3), (1, 3)),
            strict=True,
        )
    )
    eps, zeta_ = eps - (pe * eps).sum(), zeta_ - (pz * zeta_).sum()  # uncorrelated with x
    if noise:
        eps = eps * np.sqrt(noise / (pe * eps**2).sum())
    if eta:
        zeta_ = zeta_ * np.sqrt(eta / (pz * zeta_**2).sum())
    joint = px * pe
    y = sigma * x + eps
    supervised = least(lambda g: (joint * (g * y - x) ** 2).sum(), 1 / sigma)
    denoiser = least(lambda d: (px * pz * (d * (x + zeta_) - x) ** 2).sum(), 1.0)
    fixed = 1.7  # any start
    for _ in range(4000):
        fixed = denoiser * (fixed - tau * sigma * (sigma * fixed - 1))
    t = np.array([0.5 - np.sqrt(3 / 20), 0.5, 0.5 + np.sqrt(3 / 20)])[:, None, None]
    pt = np.array([5, 8, 5])[:, None, None] / 18  # Gauss, exact for polynomials of degree 5
    naive = y / sigma
    between = t * x + (1 - t) * naive

    def critic(w):
        gradient = 2 * w * between
        return (joint * w * (x**2 - naive**2)).sum() + beta * (pt * joint * gradient**2).sum()

    def source(w):
        size = 2 * w * x / sigma
        return (joint * (w * (x**2 - naive**2) + beta * size**2)).sum()

    def regularized(w):  # the minimizer for the datum 1
        return least(lambda v: (sigma * v - 1) ** 2 + w * v**2, 1 / sigma)

    found = {
        "supervised": supervised,
        "pnp": fixed,
        "post": denoiser / sigma,
        "critic": regularized(least(critic, 1 / beta)),
    }
    if signal:
        scale = noise / (beta * signal) or 1.0
        found["source"] = regularized(least(source, scale))
    return found


def test_paradigms(claim):
    c = claim("prop-paradigms")
    rng = np.random.default_rng(2301)
    gaps = dict.fromkeys(("supervised", "pnp", "post", "critic", "source"), 0.0)
    cases = [
        (*10 ** rng.uniform([-0.7, -1, -1.5, -1.5], [0.3, 0.5, 0.5, 0.5]), rng.uniform(0.2, 1.0))
        for _ in range(60)
    ]
    cases += [(0.5, 0.0, 0.3, 0.3, 1.0), (0.5, 1.0, 0.3, 0.0, 0.7), (1.0, 1.0, 1.0, 1.0, 1.0)]
    for sigma, signal, noise, eta, share in cases:
        tau, beta = share * 1.9 / sigma**2, 10 ** rng.uniform(-1.5, 1)
        found = trained(sigma, signal, noise, eta, tau, beta, rng)
        one = np.array([sigma])
        formula = {
            "supervised": spectral.mse_gain(one, signal, noise),
            "pnp": spectral.pnp_gain(one, signal, eta, tau),
            "post": spectral.post_gain(one, signal, eta),
            "critic": spectral.critic_gain(one, signal, noise, beta),
            "source": spectral.critic_gain(one, signal, noise, beta, source_condition=True),
        }
        # What the statement prints, typed once more and not taken from the library.
        typed = {
            "supervised": sigma * signal / (sigma**2 * signal + noise),
            "pnp": sigma * tau * signal / (sigma**2 * tau * signal + eta),
            "post": signal / (sigma * (signal + eta)),
            "critic": sigma / (sigma**2 + 3 * noise / (8 * beta * (3 * sigma**2 * signal + noise))),
            "source": sigma * 8 * beta * signal / (sigma**2 * 8 * beta * signal + noise),
        }
        for name, gain in found.items():
            off = max(abs(gain - formula[name].item()), abs(gain - typed[name])) * sigma
            gaps[name] = max(gaps[name], off)
    for name, gap in gaps.items():
        c.at_most(f"{name}: trained against formula, 63 laws", gap, 2e-6)
    g = spectral.critic_gain(np.array([0.5]), 0.0, 0.3, 2.0).item()
    c.close("critic without signal", g, 0.5 / (0.25 + 3 / 16), 1e-12)

    # The third column: equality where it says so, inequality elsewhere.
    s, p = np.array([0.9, 0.4, 0.1]), np.array([1.0, 0.2, 0.01])
    best = spectral.mse_gain(s, p, 0.01)
    pairs = [
        spectral.pnp_gain(s, p, 0.6 * 0.01, 0.6),
        spectral.post_gain(s, p, 0.01 / s**2),
        spectral.critic_gain(s, p, 0.01, 1 / 8, source_condition=True),
        [
            spectral.critic_gain(s[i : i + 1], p[i], 0.01, b).item()
            for i, b in enumerate(3 * p / (3 * s**2 * p + 0.01) / 8)
        ],
    ]
    c.at_most("the conditions for equality", max(np.abs(v / best - 1).max() for v in pairs), 1e-12)
    c.at_least(
        "PnP with a step other than 1, τ = 0.9 and 1.1: least gap over modes",
        min(np.abs(spectral.pnp_gain(s, p, 0.01, t) / best - 1).min() for t in (0.9, 1.1)),
        1e-3,
    )
    same = spectral.pnp_gain(s, p, 0.01, 0.8) - spectral.critic_gain(
        s, p, 0.01, 0.1, source_condition=True
    )
    c.at_most("critic with source condition = PnP with τ = 8β", np.abs(same).max(), 1e-12)
    sigma, signal = (v[:-1] for v in spectral.model_problem(1, 1, 300))
    best, grid = spectral.mse_gain(sigma, signal, 1e-4), np.geomspace(1e-4, 1e6, 101)
    far = [np.abs(spectral.critic_gain(sigma, signal, 1e-4, b) / best - 1).max() for b in grid]
    c.at_least("plain critic: least over β of the largest relative gap", min(far), 0.5)


# ----------------------------------------------------------------------------- plug-and-play


def test_pnp(claim):
    c = claim("prop-pnp")
    rng = np.random.default_rng(2302)

    # Part 1: geometric convergence in all modes at once.
    sigma, signal = (v[:-1] for v in spectral.model_problem(0.7, 0.8, 400))
    denoiser = signal / (signal + 0.01)
    y = rng.standard_normal(400)
    for tau in (0.3, 1.0, 1.99):
        factor = np.abs(denoiser * (1 - tau * sigma**2)).max()
        assert factor < 1
        x, limit = 100 * rng.standard_normal(400), spectral.pnp_gain(sigma, signal, 0.01, tau) * y
        start = np.linalg.norm(x - limit)
        for _ in range(1000):
            x = denoiser * (x - tau * sigma * (sigma * x - y))
        shrunk = np.linalg.norm(x - limit) / start
        c.at_most(f"distance after 1000 steps, τ = {tau}", shrunk, factor**1000 + 1e-12)

    # Part 2: the threshold, from both sides.
    for s, ratio in ((1.0, 0.3), (0.6, 2.0), (2.0, 0.0)):
        d = 1 / (1 + ratio)
        edge = (2 + ratio) / s**2

        def after(tau, s=s, d=d):
            x = 1.0
            for _ in range(3000):
                x = d * (x - tau * s * s * x)
            return abs(x)

        found = brentq(lambda t: np.log(after(t) + 1e-300) - 0.0, edge * 0.97, edge * 1.03)
        c.close(f"largest step, σ = {s}, η/Π = {ratio}", found / edge, 1.0, 1e-3)
        assert spectral.pnp_gain(np.array([s]), 1.0, ratio, 0.999 * edge).size == 1
        try:
            spectral.pnp_gain(np.array([s]), 1.0, ratio, 1.001 * edge)
        except ValueError:
            pass
        else:
            raise AssertionError("the library accepts a step that diverges")

    # Part 3: matrices that do not commute; the limit minimizes a quadratic, by least squares.
    off, bayes = [], []
    for m, k in ((6, 6), (4, 7), (9, 5)):
        a = rng.standard_normal((m, k))
        root = rng.standard_normal((k, k)) + 0.5 * np.eye(k)
        cov, eta = root @ root.T, 0.4
        d = np.linalg.solve(cov + eta * np.eye(k), cov).T
        y = rng.standard_normal(m)
        for share in (0.2, 0.95):
            tau = share * 2 / np.linalg.norm(a, 2) ** 2
            x = rng.standard_normal(k)
            for _ in range(20_000):
                x = d @ (x - tau * a.T @ (a @ x - y))
            stacked = np.vstack([a, np.sqrt(eta / tau) * np.linalg.inv(root)])
            limit = np.linalg.lstsq(stacked, np.append(y, np.zeros(k)), rcond=None)[0]
            off.append(np.linalg.norm(x - limit) / np.linalg.norm(limit))
            best = spectral.lmmse(a, cov, eta / tau * np.eye(m)) @ y
            bayes.append(np.linalg.norm(x - best) / np.linalg.norm(best))
    c.at_most("limit against least squares, six cases", max(off), 1e-6)
    c.at_most("limit against the best linear map for noise η/τ", max(bayes), 1e-6)


def bare_risk(sigma, signal, delta, parameter):
    """Risk of sigma / (sigma^2 + parameter), the filter that is off where sigma = 0."""
    q = np.divide(sigma**2, sigma**2 + parameter)
    noise = np.divide(q**2, sigma**2, out=np.zeros_like(q), where=sigma > 0)
    return ((1 - q) ** 2 * signal + delta**2 * noise).sum()


def power_law(a, b, size):
    """MP(a, b) without the library: the modes, and their tail as one entry."""
    n = np.arange(1.0, size + 1)
    return np.append(n**-a, 0.0), np.append(n ** (-2 * b), zeta(2 * b, size + 1))


def price(tau, theta):
    return (1 - theta + theta * tau) / tau**theta


def test_pnp_price(claim):
    c = claim("prop-pnp-price")
    for a, b in ((1, 1), (0.25, 0.8), (2, 1.5), (0.5, 3)):
        theta = (2 * b - 1) / (2 * (a + b))

        def integral(tau, a=a, b=b):
            def f(t):
                u = t ** (2 * (a + b))
                return t ** (-2 * b) * (u + u * u / tau**2) / (1 + u / tau) ** 2

            return quad(f, 0, 1)[0] + quad(lambda s: f(1 / s) / s**2, 0, 1, limit=200)[0]

        for tau in (0.05, 3.0):
            ratio = integral(tau) / integral(1.0)
            c.close(f"limit, ({a}, {b}), τ = {tau}", ratio / price(tau, theta), 1.0, 1e-5)
        sigma, signal = power_law(a, b, 300_000)
        delta = 100.0 ** -(a + b)  # cut-off at n = 100
        ratio = bare_risk(sigma, signal, delta, delta**2 / (0.3 * signal))
        ratio /= bare_risk(sigma, signal, delta, delta**2 / signal)
        c.close(f"sums, ({a}, {b}), τ = 0.3", ratio / price(0.3, theta), 1.0, 2e-3)
    c.at_least("price over 1, least over τ ≠ 1", min(price(t, 0.3) for t in (0.9, 1.1)), 1 + 1e-4)


def test_pnp_step(claim):
    c = claim("obs-pnp-step")
    gaps = []
    for a, b in ((1, 1), (0.25, 1), (1, 2)):
        sigma, signal = power_law(a, b, 60_000)
        base = bare_risk(sigma, signal, 0.01, 1e-4 / signal)
        for tau in np.geomspace(0.02, 2, 14):
            ratio = bare_risk(sigma, signal, 0.01, 1e-4 / (tau * signal)) / base
            gaps.append(abs(ratio / price(tau, (2 * b - 1) / (2 * (a + b))) - 1))
    c.at_most("measured price against the limit, δ = 0.01", max(gaps), 0.02)


# ---------------------------------------------------------------------------- post-processing


def post(n, a, b, delta):
    """Denoise the inverted datum, for data 1: D_n / sigma_n with D_n from its definition."""
    signal = n ** (-2.0 * b)
    return signal / (signal + delta**2) * n**a


def test_post(claim):
    c = claim("prop-post")
    n = np.arange(1.0, 2_000_001)
    lib = spectral.post_gain(n[:1000] ** -0.8, n[:1000] ** -1.4, 1e-4)
    c.at_most("library", np.abs(lib / post(n[:1000], 0.8, 0.7, 0.01) - 1).max(), 1e-12)

    # 1. Boundedness: growth from mode 1e12 to 1e15, and the norm.
    grows = {
        (a, b): float(post(1e15, a, b, 0.01) / post(1e12, a, b, 0.01))
        for a, b in ((1.2, 0.6), (1.3, 0.6), (1.1, 0.6), (2, 1), (3, 1))
    }
    c.close("a = 2b = 1.2: the tail is level", grows[1.2, 0.6], 1.0, 1e-6)
    c.close("a = 2b = 2: the tail is level", grows[2, 1], 1.0, 1e-6)
    c.at_least("a > 2b: the tail grows by a thousand modes", min(grows[1.3, 0.6], grows[3, 1]), 1.9)
    c.at_most("a < 2b: the tail falls", grows[1.1, 0.6], 0.6)
    for a, b, delta in ((1, 1, 1e-3), (0.5, 0.6, 1e-3), (1.5, 1, 1e-3)):
        top = -minimize_scalar(
            lambda r, a=a, b=b: -(r**a) / (1 + r ** (2 * b)), bounds=(1e-3, 50), method="bounded"
        ).fun
        norm = post(n, a, b, delta).max() * delta ** (a / b)
        c.close(f"norm, ({a}, {b})", norm / top, 1.0, 1e-3)

    # 2. Worst case for one unknown: the exact supremum (chapter 1) falls iff a < b.
    modes = n[:200_000]
    fall = {}
    for a, b in ((0.8, 1.0), (1.0, 1.0), (1.2, 1.0)):
        x = modes**-1.1  # any fixed element of l2
        errors = []
        for delta in (1e-2, 1e-3):
            q = post(modes, a, b, delta) * modes**-a
            errors.append(float(spectral.worst_case_error(modes**-a, x, q, delta)))
        fall[a] = errors[1] / errors[0]
    c.at_most("a < b: error at δ = 1e-3 over that at 1e-2", fall[0.8], 0.75)
    c.at_least("a > b: the same", fall[1.2], 1.0)
    stuck = [d * post(modes, 1, 1, d).max() for d in (1e-2, 1e-3, 1e-4)]
    c.close("a = b: δ‖R‖ stays at 1/2", max(abs(v - 0.5) for v in stuck), 0.0, 1e-3)

    # 3. Finite risk iff 4b > 2a + 1, and the constant.
    for a, b in ((1, 1), (0.25, 0.75), (1, 2), (1.5, 1.4)):
        delta = 1000.0**-b
        g = post(n, a, b, delta)
        tail = delta**-2 * n[-1] ** (2 * a - 4 * b + 1) / (4 * b - 2 * a - 1)
        total = ((1 - g * n**-a) ** 2 * n ** (-2 * b)).sum() + delta**2 * (g**2).sum() + tail
        total += n[-1] ** (1 - 2 * b) / (2 * b - 1)  # the signal beyond
        k = quad(lambda r, a=a, b=b: r ** (2 * a) / (1 + r ** (2 * b)) ** 2, 0, 1)[0]
        k += quad(lambda s, a=a, b=b: s ** (4 * b - 2 * a - 2) / (1 + s ** (2 * b)) ** 2, 0, 1)[0]
        # the squared bias is smaller by a power of the cut-off, here 1000^(-2a)
        order = delta ** ((2 * b - 2 * a - 1) / b)
        c.close(f"constant, ({a}, {b})", total / (k * order), 1.0, 3e-3 + 4 * 1000.0 ** (-2 * a))
    for a, b, ends in ((1, 0.75, False), (1, 0.8, True), (0.5, 0.55, True), (1.5, 0.9, False)):
        decades = [(post(np.arange(k, 2 * k), a, b, 0.3) ** 2).sum() for k in (1e4, 1e5, 1e6)]
        if ends:
            c.at_most(f"({a}, {b}): variance of later octaves", decades[2] / decades[1], 0.9)
        else:
            c.at_least(f"({a}, {b}): variance of later octaves", decades[2] / decades[1], 0.99)

    # 4. Average for one fixed unknown: falls iff a < b - 1/2.
    for a, b, falls in ((0.4, 1, True), (0.5, 1, False), (0.6, 1, False)):
        risks = []
        for delta in (1e-2, 1e-3, 1e-4):
            g = post(n, a, b, delta)
            bias = ((1 - g * n**-a) ** 2 * n**-2.2).sum()
            risks.append(bias + delta**2 * (g**2).sum())
        ratio = risks[2] / risks[1]
        if falls:
            c.at_most(f"a = {a}, b = {b}: risk at 1e-4 over 1e-3", ratio, 0.75)
        else:
            c.at_least(f"a = {a}, b = {b}: risk at 1e-4 over 1e-3", ratio, 0.93)


# -------------------------------------------------------------------------------- the critic


def critic_parameter(sigma, signal, delta, beta):
    return 3 * delta**2 / (8 * beta * (3 * sigma**2 * signal + delta**2))


def test_critic(claim):
    c = claim("thm-critic")
    # 1. The constant, by quadrature and by sums.
    for a, b, beta in ((1, 1, 0.375), (0.75, 0.75, 2.0), (2, 1.5, 0.1), (0.6, 3, 1.0)):
        p = 2 * a + b
        theta = (2 * b - 1) / (2 * p)
        stated = (1 - theta) * np.pi / (2 * p * np.sin(np.pi * theta))
        k = quad(lambda t, p=p, b=b: t ** (4 * p - 2 * b) / (1 + t ** (2 * p)) ** 2, 0, 1)[0]
        k += quad(lambda s, p=p, b=b: s ** (2 * b - 2) / (1 + s ** (2 * p)) ** 2, 0, 1)[0]
        c.close(f"integral, ({a}, {b})", stated / k, 1.0, 1e-6)
        cut = 2000.0
        delta = cut**-p * np.sqrt(8 * beta)  # the stated cut-off is at n = 2000
        sigma, signal = power_law(a, b, 1_000_000)
        total = bare_risk(sigma, signal, delta, critic_parameter(sigma, signal, delta, beta))
        order = (8 * beta) ** -theta * delta ** ((2 * b - 1) / p)
        c.close(
            f"risk over prediction, ({a}, {b}), β = {beta}", total / (stated * order), 1.0, 5e-3
        )
        w = critic_parameter(cut**-a, cut ** (-2 * b), delta, beta)
        c.close(f"w = σ² at the stated cut-off, ({a}, {b})", w * cut ** (2 * a), 1.0, 5e-3)

    # 2. a <= 1/2: growth with the number of modes, in the predicted proportion.
    n = np.arange(1.0, 3_000_001)
    for a in (0.25, 0.4, 0.5):
        for beta in (0.375, 5.0):
            w = critic_parameter(n**-a, n**-2.0, 0.05, beta)
            noise = 0.05**2 * np.cumsum((n**-a / (n ** (-2 * a) + w)) ** 2)
            head = 0.05**2 * (8 * beta / 3) ** 2 * np.cumsum(n ** (-2 * a))
            rate = (noise[-1] - noise[300_000]) / (head[-1] - head[300_000])
            c.close(f"noise of late modes over prediction, a = {a}, β = {beta}", rate, 1.0, 0.08)

    # 3. Deterministic noise: the exact supremum for the root mean square unknown.
    for a, b in ((0.25, 1), (1, 1)):
        p, beta = 2 * a + b, 0.375
        theta = (2 * b - 1) / (2 * p)
        stated = (1 - theta) * np.pi / (2 * p * np.sin(np.pi * theta)) * 3.0**-theta
        ratios = []
        for cut in (20.0, 200.0, 2000.0):
            delta = cut**-p * np.sqrt(3.0)
            sigma, signal = power_law(a, b, 100_000)
            q = sigma**2 / (sigma**2 + critic_parameter(sigma, signal, delta, beta))
            # x_n = ±sqrt(Pi_n) has E x_n^2 = Pi_n, and the supremum does not see the signs
            worst = float(spectral.worst_case_error(sigma, np.sqrt(signal), q, delta))
            ratios.append(worst**2 / (stated * delta ** (2 * theta)))
        gaps = np.abs(np.array(ratios) - 1)
        c.at_most(f"‖e‖ ≤ δ, ({a}, {b}): gap at cut-off 2000", gaps[-1], 0.06)
        c.at_most(f"‖e‖ ≤ δ, ({a}, {b}): gap at 2000 over gap at 20", gaps[-1] / gaps[0], 0.5)

    # 4. Tuned: the optimal exponent, white for a > 1/2 and deterministic for every a.
    for a, b in ((1, 1), (2, 1.5), (0.75, 0.75)):
        sigma, signal = power_law(a, b, 1_000_000)
        deltas = np.array([20.0, 60.0, 180.0]) ** -(a + b)
        totals = [
            bare_risk(
                sigma,
                signal,
                d,
                critic_parameter(sigma, signal, d, 0.5 * d ** (-2 * a / (a + b))),
            )
            for d in deltas
        ]
        # the noise of the modes beyond the last one, where the gain is 8 beta sigma / 3
        n_last, beta = 1e6, 0.5 * deltas ** (-2 * a / (a + b))
        tails = deltas**2 * (8 * beta / 3) ** 2 * n_last ** (1 - 2 * a) / (2 * a - 1)
        slope = spectral.slope(deltas, np.array(totals) + tails)
        c.close(f"tuned, white, ({a}, {b}): slope", slope, (2 * b - 1) / (a + b), 0.01)
        fixed = [
            bare_risk(sigma, signal, d, critic_parameter(sigma, signal, d, 0.5)) for d in deltas
        ]
        gap = (2 * b - 1) / (a + b) - spectral.slope(deltas, np.array(fixed))
        c.at_least(f"fixed β, ({a}, {b}): exponent lost", gap, 0.08)
    for a, b in ((0.25, 1), (0.5, 1.5)):
        sigma, signal = power_law(a, b, 1_000_000)
        deltas, worst = np.array([2e3, 2e4]) ** -(a + b), []
        for d in deltas:
            w = critic_parameter(sigma, signal, d, 0.5 * d ** (-2 * a / (a + b)))
            q = sigma**2 / (sigma**2 + w)
            worst.append(float(spectral.worst_case_error(sigma, np.sqrt(signal), q, d)) ** 2)
        slope = spectral.slope(deltas, np.array(worst))
        c.close(f"tuned, ‖e‖ ≤ δ, ({a}, {b}): slope", slope, (2 * b - 1) / (a + b), 0.03)


def test_paradigm_table(claim):
    c = claim("obs-paradigm-table")
    deltas, gaps = np.geomspace(1e-4, 1e-2, 4), []
    for a, b in ((1, 1), (2, 0.75), (0.25, 1)):
        sigma, signal = power_law(a, b, 200_000)
        best = (2 * b - 1) / (a + b)
        tuned = 0.375 * deltas ** (-2 * a / (a + b))
        parameters = {
            "supervised": (deltas[:, None] ** 2 / signal, best),
            "pnp": (deltas[:, None] ** 2 / (0.25 * signal), best),
        }
        if a > 0.5:
            w = [critic_parameter(sigma, signal, d, 0.375) for d in deltas]
            v = [critic_parameter(sigma, signal, d, t) for d, t in zip(deltas, tuned, strict=True)]
            parameters |= {"critic": (w, (2 * b - 1) / (2 * a + b)), "tuned": (v, best)}
        for table, theory in parameters.values():
            risks = [bare_risk(sigma, signal, d, w) for d, w in zip(deltas, table, strict=True)]
            gaps.append(abs(spectral.slope(deltas, np.array(risks)) - theory))
        if 4 * b > 2 * a + 1:
            n = np.arange(1.0, 200_001)
            risks = []
            for d in deltas:
                g = post(n, a, b, d)
                bias = ((1 - g * n**-a) ** 2 * n ** (-2 * b)).sum() + signal[-1]
                risks.append(bias + d**2 * (g**2).sum())
            gaps.append(abs(spectral.slope(deltas, np.array(risks)) - (2 * b - 2 * a - 1) / b))
            if (a, b) == (1, 1):
                c.at_least(
                    "post-processing, (1, 1): risk at 1e-4 over 1e-2", risks[0] / risks[-1], 50
                )
    c.at_most("slope against theory, all finite risks", max(gaps), 0.05)
    bounded = [post(1e15, a, b, 0.01) < post(1e14, a, b, 0.01) for a, b in ((1, 1), (0.25, 1))]
    c.at_least("post-processing bounded in (1, 1), (¼, 1)", float(all(bounded)), 1.0)
    c.at_least("and not in (2, ¾)", post(1e15, 2, 0.75, 0.01) / post(1e14, 2, 0.75, 0.01), 2.0)
    n = np.arange(1.0, 1_000_001)
    for name, beta in (("fixed", 0.375), ("tuned", 0.375 * 0.01 ** (-0.5 / 1.25))):
        w = critic_parameter(n**-0.25, n**-2.0, 0.01, beta)
        noise = np.cumsum((n**-0.25 / (n**-0.5 + w)) ** 2)
        growth = noise[-1] / noise[99_999]
        c.at_least(f"critic, {name} β, (¼, 1): variance of 1e6 modes over 1e5", growth, 2.5)
    # The others are bounded: their gains fall from mode 1e12 to 1e15 in all three problems.
    far, falls = np.array([1e12, 1e15]), []
    for a, b in ((1, 1), (2, 0.75), (0.25, 1)):
        s, p = far**-a, far ** (-2.0 * b)
        parameters = [1e-4 / p, 1e-4 / (0.25 * p)]
        tuned = 0.375 * 0.01 ** (-2 * a / (a + b))
        parameters += [critic_parameter(s, p, 0.01, t) for t in (0.375, tuned)]
        falls += [g[1] / g[0] for g in (s / (s**2 + w) for w in parameters)]
    c.at_most("gains of all but post-processing, mode 1e15 over 1e12", max(falls), 0.5)


# ------------------------------------------------------------------------------- tomography

SIZE, ANGLES = 48, 48
FINE = operators.ParallelBeam(4 * SIZE, ANGLES, detectors=8 * SIZE)
SCANNER = operators.ParallelBeam(SIZE, ANGLES, detectors=2 * SIZE)
FREQUENCY = np.fft.rfftfreq(2 * SIZE)


def apply_window(window, sinogram):
    return SCANNER.fbp(np.fft.irfft(np.fft.rfft(sinogram) * window, 2 * SIZE))


def test_fbp_window(claim):
    c = claim("prop-fbp-window")
    # Bias: a Gaussian bump exp(-|x|^2 / (2 r^2)) has the rows sqrt(2 pi) r exp(-s^2 / (2 r^2)).
    width, blur, size = 0.2, 1.2, 96
    many = operators.ParallelBeam(size, 150, detectors=2 * size)
    axis = (2 * np.arange(size) + 1) / size - 1
    truth = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * width**2))
    row = np.sqrt(2 * np.pi) * width * np.exp(-(many.detector_grid**2) / (2 * width**2))
    nu = np.fft.rfftfreq(2 * size) / many.step
    window = np.exp(-((nu / 3 * blur) ** 2))
    filtered = np.fft.irfft(np.fft.rfft(np.tile(row, (150, 1))) * window, 2 * size)
    measured = ((many.fbp(filtered) - truth) ** 2).sum() * many.step**2
    dense = np.linspace(-30, 30, 20_001)
    power = (2 * np.pi * width**2 * np.exp(-2 * (np.pi * width * dense) ** 2)) ** 2
    one_minus = 1 - np.exp(-((dense / 3 * blur) ** 2))
    stated = np.pi * np.trapezoid(np.abs(dense) * one_minus**2 * power, dense)
    c.close("bias of a filtered Gaussian, over π∫|ν|(1-φ)²P", measured / stated, 1.0, 0.03)

    # Noise: the variance of the image of pure noise, low frequencies only (interpolation).
    rng = np.random.default_rng(2303)
    low = np.exp(-((FREQUENCY / 0.06) ** 2))
    image = apply_window(low, 0.7 * rng.standard_normal((1000, ANGLES, 2 * SIZE)))
    step = SCANNER.step
    nu = np.linspace(-0.5, 0.5, 20_001) / step
    integral = np.trapezoid(nu**2 * np.exp(-2 * (nu * step / 0.06) ** 2), nu)
    stated = np.pi**2 / ANGLES * step * 0.7**2 * integral
    inner = image[:, 12:-12, 12:-12]
    # 1000 draws of some four independent pixels each: a standard error of 2.2 percent; linear
    # interpolation between the detectors takes away 1.8 percent
    c.close("variance of the noise image, over (π²/M)hδ²∫ν²φ²", inner.var() / stated, 1.0, 0.06)
    spectrum = np.abs(np.fft.rfft(0.7 * rng.standard_normal((4000, 2 * SIZE)))) ** 2
    power = step**2 * spectrum[:, 1:-1].mean()
    c.close("power of row noise, over hLδ²", power / (step * 4 * 0.7**2), 1.0, 0.02)

    # Both windows minimize their losses: a grid of windows, mode by mode.
    candidates = np.linspace(0, 1, 100_001)
    off = []
    for p, f in ((1.0, 3.0), (0.02, 10.0), (0.0, 5.0), (3.0, 0.1)):
        row_loss = (1 - candidates) ** 2 * p + candidates**2 * step * 4 * 0.01
        image_loss = np.pi * f * (1 - candidates) ** 2 * p
        image_loss += 4 * np.pi**2 / ANGLES * step * 0.01 * f**2 * candidates**2
        off.append(abs(candidates[row_loss.argmin()] - p / (p + step * 4 * 0.01)))
        wanted = p / (p + np.pi * 4 * step * 0.01 * f / ANGLES)
        off.append(abs(candidates[image_loss.argmin()] - wanted))
    c.at_most("windows against a grid search", max(off), 1e-5)


def phantom(rng):
    """Eight ellipses as in the notebook, drawn by testing points; data by a finer scanner."""
    axis = (np.arange(4 * SIZE) + 0.5) / (2 * SIZE) - 1
    x, y = axis[None, :], -axis[:, None]
    image = np.zeros((4 * SIZE, 4 * SIZE))
    for _ in range(8):
        value, a, b = rng.uniform([-0.5, 0.05, 0.05], [0.5, 0.35, 0.35])
        radius, place, tilt = 0.6 * np.sqrt(rng.random()), *(2 * np.pi * rng.random(2))
        z = (x + 1j * y - radius * np.exp(1j * place)) * np.exp(-1j * tilt)
        image += value * ((z.real / a) ** 2 + (z.imag / b) ** 2 <= 1)
    return image


def sample(rng, count):
    """Pixel images, and rows sampled (not averaged) at the detectors of the coarse scanner."""
    fine = np.stack([phantom(rng) for _ in range(count)])
    rows = FINE.forward(fine)
    # the coarse detectors lie midway between fine ones 4k + 1 and 4k + 2
    rows = (rows[..., 1::4] + rows[..., 2::4]) / 2
    return fine.reshape(count, SIZE, 4, SIZE, 4).mean(axis=(2, 4)), rows


def learn(images, sinograms):
    """The window with the least error on the training images, by stacked least squares."""
    blocks = []
    for sinogram in sinograms:
        bands = np.eye(FREQUENCY.size)[:, None, :] * np.fft.rfft(sinogram)
        response = SCANNER.fbp(np.fft.irfft(bands, 2 * SIZE))
        blocks.append(response.reshape(FREQUENCY.size, -1).T)
    return np.linalg.lstsq(np.vstack(blocks), images.ravel(), rcond=None)[0]


def formulas(clean, level):
    power = SCANNER.step**2 * np.mean(np.abs(np.fft.rfft(clean)) ** 2, axis=(0, 1))
    nu, h = FREQUENCY / SCANNER.step, SCANNER.step
    row = power / (power + h * (2 * SIZE * h) * level**2)
    return row, power / (power + np.pi * 4 * h * level**2 * nu / ANGLES)


def fixed_windows():
    return {name: window(FREQUENCY) for name, window in operators.FBP_WINDOWS.items()}


def rms(window, sinograms, images):
    return np.sqrt(np.mean((apply_window(window, sinograms) - images) ** 2))


def test_learned_fbp(claim):
    c = claim("obs-learned-fbp")
    gain, image_loss, row_loss = {}, [], {}
    for seed in (71, 72):
        rng = np.random.default_rng([2304, seed])
        train, test = sample(rng, 16), sample(rng, 16)
        for level in (0.01, 0.03, 0.1):
            noisy = [rows + level * rng.standard_normal(rows.shape) for _, rows in (train, test)]
            learned = rms(learn(train[0], noisy[0]), noisy[1], test[0])
            row, image = (rms(w, noisy[1], test[0]) for w in formulas(train[1], level))
            best = min(rms(w, noisy[1], test[0]) for w in fixed_windows().values())
            gain.setdefault(level, []).append(1 - learned / best)
            image_loss.append(image / learned - 1)
            row_loss.setdefault(level, []).append(row / learned - 1)
    c.at_least("least gain over the best fixed window", min(map(min, gain.values())), 0.0)
    c.close("mean gain at δ = 0.01", np.mean(gain[0.01]), 0.06, 0.03)
    c.close("mean gain at δ = 0.03", np.mean(gain[0.03]), 0.02, 0.015)
    c.close("mean gain at δ = 0.1", np.mean(gain[0.1]), 0.35, 0.05)
    c.at_most("image formula: largest loss", max(image_loss), 0.02)
    c.close("row formula: mean loss at δ = 0.01", np.mean(row_loss[0.01]), 0.05, 0.03)
    c.close("row formula: mean loss at δ = 0.03", np.mean(row_loss[0.03]), 0.12, 0.04)
    c.close("row formula: mean loss at δ = 0.1", np.mean(row_loss[0.1]), 0.20, 0.05)


def test_fbp_mismatch(claim):
    c = claim("obs-fbp-mismatch")
    head = data.shepp_logan(SIZE)
    clean = data.shepp_logan_sinogram(SCANNER.angles, SCANNER.detector_grid)
    loss, repaired, where = [], [], []
    for seed in (81, 82):
        rng = np.random.default_rng([2305, seed])
        images, rows = sample(rng, 16)
        noisy = clean + 0.03 * rng.standard_normal((8, *clean.shape))
        best = min(rms(w, noisy, head) for w in fixed_windows().values())
        window = learn(images, rows + 0.03 * rng.standard_normal(rows.shape))
        learned = rms(window, noisy, head)
        levels = np.geomspace(0.1, 3, 15)
        errors = [rms(formulas(rows, 0.03 * v)[1], noisy, head) for v in levels]
        loss.append(learned / best - 1)
        repaired.append((min(errors) / best, 1 - min(errors) / learned))
        where.append(levels[np.argmin(errors)])
    c.close("loss against the best fixed window, mean", np.mean(loss), 0.20, 0.04)
    c.at_most("repaired, over the best fixed window", max(v for v, _ in repaired), 1.0)
    c.close("repaired, gain over the learned window", np.mean([v for _, v in repaired]), 0.19, 0.04)
    c.close("training over true noise level, best", np.mean(where), 0.34, 0.1)
