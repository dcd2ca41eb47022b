"""Witnesses of chapter 4, notebook 2: gains learned on a frame."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.optimize import minimize_scalar

from advreg import adversarial, frames, operators

# ---------------------------------------------------------------------------------- set-up


def matrix_with_kernel(rng, rows, columns, rank):
    """A random matrix of the given rank, and orthonormal bases (rows) of N(A)^perp and N(A)."""
    a = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    right = np.linalg.svd(a)[2]
    return a, right[:rank], right[rank:]


def rotated(rng, basis):
    return np.linalg.qr(rng.standard_normal((len(basis),) * 2))[0] @ basis


def vaguelettes(a, u):
    """v and kappa with A^T v = kappa u and |v| = 1, v in R(A), by least squares."""
    w = np.linalg.lstsq(a.T, u.T, rcond=None)[0].T
    norms = np.linalg.norm(w, axis=1)
    return w / norms[:, None], 1 / norms


def atoms(rng, size, count):
    """A law on a few points of R^size, not centred: points, weights."""
    points = rng.standard_normal((count, size)) * np.exp(rng.normal(size=size))
    return points, rng.dirichlet(np.ones(count))


def centred(law):
    points, weights = law
    return points - weights @ points, weights


def every_pair(signal, noise):
    """All pairs of atoms of two independent laws: x, eps, weights."""
    (x, p), (e, q) = signal, noise
    i, j = (part.ravel() for part in np.indices((len(p), len(q))))
    return x[i], e[j], p[i] * q[j]


def mean_square(w, z):
    return float(w @ np.sum(z**2, axis=-1))


def moments(points, weights):
    return (points.T * weights) @ points


# ------------------------------------------------------------------------ optimal gains


def test_frame_gains(claim):
    c = claim("prop-frame-gains")
    rng = np.random.default_rng(4201)
    gap_risk, gap_gain, gap_least, gap_cross, skew = 0.0, 0.0, 0.0, 0.0, 0.0
    for rows, columns, rank in ((5, 4, 3), (4, 6, 4), (3, 3, 3), (6, 5, 1)):
        for case in ("random", "silent signal", "no noise"):
            a, basis, kernel = matrix_with_kernel(rng, rows, columns, rank)
            u = rotated(rng, basis)
            v, kappa = vaguelettes(a, u)
            skew = max(skew, np.abs(v @ v.T - np.eye(rank)).max())
            signal, noise = atoms(rng, columns, 4), centred(atoms(rng, rows, 3))
            if case == "silent signal":  # the coefficient of u_0 vanishes
                signal = (signal[0] - np.outer(signal[0] @ u[0], u[0]), signal[1])
            if case == "no noise":
                noise = (np.zeros((1, rows)), np.ones(1))
            x, e, w = every_pair(signal, noise)
            y = (x @ a.T + e) @ v.T
            pi, delta = w @ (x @ u.T) ** 2, w @ (e @ v.T) ** 2
            lost = mean_square(w, x @ kernel.T)
            for gain in rng.standard_normal((4, rank)) / kappa:
                found = mean_square(w, (gain * y) @ u - x)
                typed = lost + np.sum((1 - kappa * gain) ** 2 * pi + gain**2 * delta)
                gap_risk = max(gap_risk, abs(found / typed - 1))
            # The least risk by least squares over the reconstructions, all gains together.
            design = (np.sqrt(w)[:, None, None] * y[:, :, None] * u).transpose(0, 2, 1)
            best = np.linalg.lstsq(
                design.reshape(-1, rank), (np.sqrt(w)[:, None] * x).ravel(), rcond=1e-10
            )[0]
            power = kappa**2 * pi + delta
            used = power > 1e-20
            gain = np.where(used, kappa * pi / np.where(used, power, 1), 0)
            gap_gain = max(gap_gain, np.abs(kappa * (gain - best))[used].max())
            least = lost + np.sum(np.where(used, pi * delta / np.where(used, power, 1), 0))
            gap_least = max(gap_least, abs(mean_square(w, (best * y) @ u - x) - least))
            frame = frames.Frame(u, v, kappa)
            code = frames.decoupled_gains(frame, moments(*signal), moments(*noise))
            gap_gain = max(gap_gain, np.abs(kappa * (gain - code)).max())
            # Without (H2): the noise repeats a part of the signal.
            e = e - 0.6 * x @ a.T + 0.1 * x @ rng.standard_normal((columns, rows))
            y, coefficient = (x @ a.T + e) @ v.T, x @ u.T
            cross, delta = w @ (coefficient * (e @ v.T)), w @ (e @ v.T) ** 2
            typed = kappa * pi + cross
            bottom = kappa**2 * pi + 2 * kappa * cross + delta
            for i in np.flatnonzero(bottom > 1e-12):

                def loss(t, i=i, y=y, w=w, coefficient=coefficient, kappa=kappa):
                    return w @ (t / kappa[i] * y[:, i] - coefficient[:, i]) ** 2

                least = minimize_scalar(loss, tol=1e-12).x
                off = abs(least - kappa[i] * typed[i] / bottom[i])
                gap_cross = max(gap_cross, off / (1 + abs(least)))
    c.at_most("risk against its formula, 48 random gains, relative", gap_risk, 1e-10)
    c.at_most("gains against least squares over reconstructions", gap_gain, 1e-8)
    c.at_most("least risk against its formula", gap_least, 1e-9)
    c.at_most("gains with Γ ≠ 0 against a line search", gap_cross, 1e-6)
    c.at_least("largest |<v, v'>|: v was far from orthogonal", skew, 0.5)


def test_joint_gains(claim):
    c = claim("prop-joint-gains")
    rng = np.random.default_rng(4202)
    gaps = dict.fromkeys(("quadratic", "normal", "least", "library", "samples", "moments"), 0.0)
    lowest = np.inf
    for rows, columns, rank, extra in ((5, 4, 3, 4), (4, 6, 4, 2), (3, 3, 2, 7), (4, 4, 4, 0)):
        for correlated in (True, False):
            a, basis, _ = matrix_with_kernel(rng, rows, columns, rank)
            u = rng.standard_normal((rank + extra, rank)) @ basis
            if extra:
                u[-1] = 2 * u[0]  # a vector twice: gains can be exchanged
            v, kappa = vaguelettes(a, u)
            dual = np.linalg.solve(u.T @ u + np.eye(columns) - basis.T @ basis, u.T).T
            signal, noise = atoms(rng, columns, 7), centred(atoms(rng, rows, 6))
            x, e, w = every_pair(signal, noise)
            if correlated:
                e = e + x @ rng.standard_normal((columns, rows))
            y = (x @ a.T + e) @ v.T
            design = (np.sqrt(w)[:, None, None] * y[:, :, None] * dual).transpose(0, 2, 1)
            design = design.reshape(-1, len(u))
            target = (np.sqrt(w)[:, None] * x).ravel()
            best = np.linalg.lstsq(design, target, rcond=1e-11)[0]
            least = np.sum((design @ best - target) ** 2)
            m = (dual @ dual.T) * moments(y, w)
            b = w @ (y * (x @ dual.T))
            lowest = min(lowest, np.linalg.eigvalsh(m)[0] / np.trace(m))
            total = mean_square(w, x)
            for g in rng.standard_normal((3, len(u))):
                found = mean_square(w, (g * y) @ dual - x)
                gap = abs(g @ m @ g - 2 * b @ g + total - found) / found
                gaps["quadratic"] = max(gaps["quadratic"], gap)
            gaps["normal"] = max(gaps["normal"], np.abs(m @ best - b).max() / np.abs(b).max())
            value = total - b @ np.linalg.pinv(m, rcond=1e-11, hermitian=True) @ b
            gaps["least"] = max(gaps["least"], abs(value - least) / total)
            frame = frames.Frame(u, v, kappa)
            drawn = rng.integers(len(x), size=9)
            xs, ys = x[drawn], (x @ a.T + e)[drawn]
            fitted = frames.fit_gains(frame, xs, ys, joint=True)
            flat = ((ys @ v.T)[:, :, None] * dual).transpose(0, 2, 1).reshape(-1, len(u))
            rest = np.linalg.lstsq(flat, xs.ravel(), rcond=1e-11)[0]
            gap = np.sum((flat @ fitted - xs.ravel()) ** 2) - np.sum(
                (flat @ rest - xs.ravel()) ** 2
            )
            gaps["samples"] = max(gaps["samples"], abs(gap) / np.sum(xs**2))
            if not correlated:
                cx, ce = moments(*signal), moments(*noise)
                typed = np.outer(kappa, kappa) * (u @ cx @ u.T) + v @ ce @ v.T
                gap = np.abs(typed - moments(y, w)).max() / np.abs(typed).max()
                cross = kappa * np.sum((u @ cx) * dual, axis=1)
                gap = max(gap, np.abs(cross - b).max() / np.abs(b).max())
                gaps["moments"] = max(gaps["moments"], gap)
                code = frames.joint_gains(frame, cx, ce)
                gap = (mean_square(w, (code * y) @ dual - x) - least) / total
                gaps["library"] = max(gaps["library"], abs(gap))
    c.at_most("risk against the quadratic in g", gaps["quadratic"], 1e-9)
    c.at_most("least squares solve the normal equations", gaps["normal"], 1e-8)
    c.at_most("least risk against |x|^2 - b' M^+ b", gaps["least"], 1e-8)
    c.at_most("moments of uncorrelated noise", gaps["moments"], 1e-10)
    c.at_most("joint_gains reach the least risk", gaps["library"], 1e-9)
    c.at_most("fit_gains reach the least training error", gaps["samples"], 1e-9)
    c.at_least("least eigenvalue of M over its trace", lowest, -1e-13)
    u = rotated(rng, np.eye(4))
    v, kappa = vaguelettes(np.diag([1.0, 0.5, 2.0, 0.1]), u)
    frame, root = frames.Frame(u, v, kappa), rng.standard_normal((4, 4))
    pair = (root @ root.T, 0.3)
    off = frames.joint_gains(frame, *pair) - frames.decoupled_gains(frame, *pair)
    c.at_most("orthonormal u: joint = decoupled", np.abs(kappa * off).max(), 1e-10)


# ---------------------------------------------------------------------- redundant frames


def test_coefficient_bound(claim):
    c = claim("prop-coefficient-bound")
    rng = np.random.default_rng(4203)
    worst, order, tight, sharp, loose = -np.inf, -np.inf, 0.0, 0.0, 0.0
    for case in range(24):
        rows, columns, rank = ((5, 4, 3), (4, 6, 4), (3, 3, 2))[case % 3]
        a, basis, kernel = matrix_with_kernel(rng, rows, columns, rank)
        is_tight = case % 2 == 0
        if is_tight:
            u = np.concatenate([0.8 * rotated(rng, basis), 1.1 * rotated(rng, basis)])
        else:
            u = rng.standard_normal((rank + case % 4, rank)) @ basis
        b1 = np.linalg.eigvalsh(basis @ u.T @ u @ basis.T)[0]
        v, kappa = vaguelettes(a, u)
        dual = np.linalg.pinv(u).T
        signal, noise = atoms(rng, columns, 5), centred(atoms(rng, rows, 4))
        x, e, w = every_pair(signal, noise)
        lost = mean_square(w, x @ kernel.T)
        for correlated in (False, True):
            e_now = e + 0.3 * x @ rng.standard_normal((columns, rows)) * correlated
            y, coefficient = (x @ a.T + e_now) @ v.T, x @ u.T
            for g in rng.standard_normal((4, len(u))) / kappa:
                risk = mean_square(w, (g * y) @ dual - x)
                error = g * y - coefficient
                worst = max(worst, risk / (lost + mean_square(w, error) / b1) - 1)
                if is_tight:
                    hat = u @ np.linalg.pinv(u)  # the projection onto the coefficients
                    typed = lost + mean_square(w, error @ hat) / (0.64 + 1.21)
                    tight = max(tight, abs(risk / typed - 1))
        # What synthesis does to the worst coefficients: the constant 1 / B_1 is attained.
        values, vectors = np.linalg.eigh(basis @ u.T @ u @ basis.T)
        direction = vectors[:, 0] @ basis
        image = (u @ direction) @ dual
        ratio = np.sum(image**2) / np.sum((u @ direction) ** 2)
        sharp = max(sharp, abs(ratio * values[0] - 1))
        pi, delta = w @ (x @ u.T) ** 2, w @ (e @ v.T) ** 2
        y = (x @ a.T + e) @ v.T
        gain = kappa * pi / (kappa**2 * pi + delta)
        frame = frames.Frame(u, v, kappa)
        pair = (moments(*signal), moments(*noise))
        risk = mean_square(w, (gain * y) @ dual - x)
        joint = frames.gain_risk(frame, frames.joint_gains(frame, *pair), *pair)
        bound = lost + np.sum(pi * delta / (kappa**2 * pi + delta)) / b1
        order = max(order, joint / risk - 1, risk / bound - 1)
        loose = max(loose, risk / joint)
    c.at_most("risk over the bound, minus 1, 192 random gains", worst, 1e-9)
    c.at_most("joint <= decoupled <= bound: largest excess", order, 1e-9)
    c.at_most("tight frames: risk against the projected error", tight, 1e-9)
    c.at_most("1/B_1 is attained by synthesis", sharp, 1e-9)
    c.at_least("largest decoupled over joint risk: the order is strict", loose, 1.01)


def test_union_mean(claim):
    c = claim("prop-union-mean")
    rng = np.random.default_rng(4204)
    gap_mean, gap_risk, above, joint_excess, verdicts = 0.0, 0.0, -np.inf, -np.inf, set()
    bound_gap = 0.0
    for case in range(40):
        rows, columns, rank = ((5, 4, 3), (4, 6, 4), (3, 3, 2), (6, 6, 6))[case % 4]
        a, basis, kernel = matrix_with_kernel(rng, rows, columns, rank)
        first = rotated(rng, basis)
        second = first if case % 10 == 9 else rotated(rng, basis)
        spread = 10.0 ** -rng.uniform(0, 3, rank) if case % 2 else np.ones(rank)
        root = (rng.standard_normal((rank, rank)) * spread) @ first
        signal = (np.concatenate([root, -root]), np.full(2 * rank, 0.5 / rank))
        noise = centred(atoms(rng, rows, 4))
        x, e, w = every_pair(signal, noise)
        data = x @ a.T + e
        reconstructions, risks, least = [], [], []
        for u in (first, second):
            v, kappa = vaguelettes(a, u)
            pi, delta = w @ (x @ u.T) ** 2, w @ (e @ v.T) ** 2
            reconstructions.append((kappa * pi / (kappa**2 * pi + delta) * (data @ v.T)) @ u)
            risks.append(mean_square(w, reconstructions[-1] - x))
            least.append(np.sum(pi * delta / (kappa**2 * pi + delta)))
        # The union from scratch: vectors, v, kappa, dual, powers, gains.
        u = np.concatenate([first, second]) / np.sqrt(2)
        v, kappa = vaguelettes(a, u)
        pi, delta = w @ (x @ u.T) ** 2, w @ (e @ v.T) ** 2
        gain = kappa * pi / (kappa**2 * pi + delta)
        union = (gain * (data @ v.T)) @ np.linalg.pinv(u).T
        risk = mean_square(w, union - x)
        apart = mean_square(w, reconstructions[0] - reconstructions[1])
        gap_mean = max(gap_mean, np.abs(union - sum(reconstructions) / 2).max())
        gap_risk = max(gap_risk, abs((sum(risks) / 2 - apart / 4) / risk - 1))
        bound = mean_square(w, x @ kernel.T) + np.sum(pi * delta / (kappa**2 * pi + delta))
        bound_gap = max(bound_gap, abs(bound / (sum(risks) / 2) - 1))
        above = max(above, risk / (sum(risks) / 2) - 1)
        margin = abs(risks[0] - risks[1]) - apart / 2
        if abs(margin) > 1e-9 * risk:
            verdicts.add((bool(margin > 0), bool(risk > min(risks))))
        frame = frames.Frame(u, v, kappa)
        pair = (moments(*signal), moments(*noise))
        joint = frames.gain_risk(frame, frames.joint_gains(frame, *pair), *pair)
        joint_excess = max(joint_excess, joint / min(risks) - 1)
    c.at_most("union = mean of the reconstructions, 40 pairs of bases", gap_mean, 1e-9)
    c.at_most("risk against (r1 + r2)/2 - disagreement/4", gap_risk, 1e-9)
    c.at_most("bound of the coefficient-wise gains = (r1 + r2)/2", bound_gap, 1e-9)
    c.at_most("risk over the mean risk, minus 1", above, 1e-9)
    c.at_most("joint risk over the better basis, minus 1", joint_excess, 1e-8)
    assert verdicts == {(True, True), (False, False)}, verdicts  # both happen, never mixed


# ----------------------------------------------------------------------------- convergence


def frame_in_space(rng, size, redundant):
    """A diagonal frame decomposition of an ill-conditioned matrix, from scratch."""
    a = np.diag(1 / np.arange(1.0, size + 1)) @ np.linalg.qr(rng.standard_normal((size, size)))[0]
    u = rotated(rng, np.eye(size))
    if redundant:
        u = np.concatenate([u, 0.7 * rotated(rng, np.eye(size))[: size // 2]])
    return (a, u, *vaguelettes(a, u))


def trained_gains(name, kappa, pi, delta, rng):
    """Gains that satisfy (H3), with their constant C, typed from the statements."""
    if name == "noise":
        return kappa * pi / (kappa**2 * pi + delta**2), 1.0
    s = delta / (kappa * np.sqrt(np.maximum(pi, 1e-60)))  # very large where there is no power
    if name == "in mean":
        return np.where(s < 1, 1 / kappa, 0), 1.0
    if name == "almost sure":
        k = 0.6
        q = np.clip((1 - k * s) / (1 - 2 * k * s + s**2), 0, 1)
        return np.where(s <= k, 1, np.where(s >= 1 / k, 0, q)) / kappa, 1.0
    low, high = np.maximum(0, 1 - s), np.minimum(1, 1 / s)  # admissible
    return (low + rng.uniform(size=s.size) * (high - low)) / kappa, np.sqrt(2)


def largest_error(reconstruction, a, x_map, delta, rng):
    """Ascent for sup |(RA - I) X w + delta R e| over unit w, e; a true error in each step."""
    p, q = (reconstruction @ a - np.eye(len(a))) @ x_map, delta * reconstruction
    best = 0.0
    for _ in range(4):
        z = rng.standard_normal(len(a))
        for _ in range(150):
            left, right = p.T @ z, q.T @ z
            left, right = left / (np.linalg.norm(left) or 1), right / (np.linalg.norm(right) or 1)
            z = p @ left + q @ right
            best, z = max(best, np.linalg.norm(z)), z / (np.linalg.norm(z) or 1)
    return best


def test_frame_convergence(claim):
    c = claim("thm-frame-convergence")
    rng = np.random.default_rng(4205)
    size, deltas = 24, (3e-1, 3e-2, 3e-3, 3e-5)
    source, squares, norms, average, order, lower = -np.inf, -np.inf, -np.inf, -np.inf, 0.0, -np.inf
    sharp = -np.inf
    for redundant in (False, True):
        a, u, v, kappa = frame_in_space(rng, size, redundant)
        b1 = np.linalg.eigvalsh(u.T @ u)[0]
        b1v, b2v = np.linalg.eigvalsh(v.T @ v)[[0, -1]]
        dual = np.linalg.pinv(u).T
        pi = np.sort(rng.uniform(0.3, 1, len(u)))[::-1] / np.arange(1.0, len(u) + 1) ** 2
        if not redundant:
            pi[[3, 17]] = 0  # no power, so no gain: x has to vanish there
        for name in ("noise", "in mean", "almost sure", "admissible"):
            fixed, white = [], []
            x = rng.standard_normal(size)
            x = x - ((u @ x) * (pi == 0)) @ u if not redundant else x
            for delta in deltas:
                gain, const = trained_gains(name, kappa, pi, delta, rng)
                t = np.minimum(np.sqrt(pi), delta / kappa)
                q = kappa * gain
                h3 = (1 - q) ** 2 * pi + delta**2 * gain**2
                squares = max(squares, np.max(h3 - const**2 * t**2))
                sharp = max(sharp, np.max(h3[pi > 0] / (const * t[pi > 0]) ** 2))
                reconstruction = (dual.T * gain) @ v
                norm = delta * np.linalg.norm(reconstruction, 2)
                norms = max(norms, norm / (const * np.sqrt(b2v / b1) * t.max()) - 1)
                bias = reconstruction @ a @ x - x
                fixed.append(np.linalg.norm(bias) + norm)
                white.append(np.sum(bias**2) + delta**2 * np.sum(reconstruction**2))
                if not redundant:  # the source set is an ellipsoid with axes u
                    for rho in (0.5, 1.0, 2.0):
                        found = largest_error(
                            reconstruction, a, rho * u.T * np.sqrt(pi), delta, rng
                        )
                        bound = const * np.sqrt((rho**2 + b2v) / b1) * t.max()
                        source = max(source, found / bound - 1)
                        floor = min(rho, 1) * np.sqrt(b1v) * t.max()
                        lower = max(lower, floor / found - 1)
                    cx = (u.T * pi) @ u
                    miss = reconstruction @ a - np.eye(size)
                    mean = np.trace(miss @ cx @ miss.T) + delta**2 * np.sum(reconstruction**2)
                    average = max(average, mean / (const**2 / b1 * np.sum(t**2)) - 1)
                else:  # any x with |x_lambda| <= sqrt(Pi) |w|, w and the noise drawn
                    for _ in range(20):
                        z = rng.standard_normal(size)
                        rho = np.linalg.norm(u @ z / np.sqrt(pi))
                        e = rng.standard_normal(size)
                        e *= delta / np.linalg.norm(e)
                        found = np.linalg.norm(reconstruction @ (a @ z + e) - z)
                        bound = const * np.sqrt((rho**2 + b2v) / b1) * t.max()
                        source = max(source, found / bound - 1)
            order = max(order, fixed[-1] / fixed[0], np.sqrt(white[-1] / white[0]))
            assert np.all(np.diff(white) < 0)
        if redundant:
            continue
        # Part 5: the two unknowns that look the same.
        two = 0.0
        for i, delta, rho in product(range(size), deltas, (0.4, 3.0)):
            s = min(rho * np.sqrt(pi[i]), np.sqrt(b1v) * delta / kappa[i])
            two = max(two, np.linalg.norm(a @ (s * u[i])) / delta)
        c.at_most("|A s u| over δ: both unknowns explain the data 0", two, 1 + 1e-9)
        c.at_most("lower frame bound of unit vectors v", b1v, 1 + 1e-12)
    c.at_most("(H3) with the stated constants, excess", squares, 1e-12)
    c.close("(H3) holds with equality somewhere", sharp, 1.0, 1e-9)
    c.at_most("δ|R| over its bound, minus 1", norms, 1e-9)
    c.at_most("error on the source set over the bound, minus 1", source, 1e-9)
    c.at_most("lower bound over an error found, minus 1", lower, 0.0)
    c.at_most("mean risk over its bound, minus 1", average, 1e-9)
    c.at_most("fixed x: error at δ = 3e-5 over that at 0.3", order, 0.03)


# ----------------------------------------------------------------------------- thresholds


def test_frame_thresholds(claim):
    c = claim("prop-frame-thresholds")
    rng = np.random.default_rng(4206)

    # Part 1, almost sure and oblivious: every corner of the box belongs to a datum, so the
    # worst attack on each atom of x is found by trying all of them as vectors e of the data.
    rank = 3
    a, basis, kernel = matrix_with_kernel(rng, 5, 4, rank)
    u = rotated(rng, basis)
    v, kappa = vaguelettes(a, u)
    signs = np.array(list(product((-1, 1), repeat=rank)), dtype=float)
    x, w = centred(atoms(rng, 4, 6))
    coefficient = x @ u.T
    pi, m = w @ coefficient**2, w @ np.abs(coefficient)
    delta = kappa * np.sqrt(pi) * np.array([0.9, 1.1, 0.3])
    corners = np.linalg.lstsq(v, (signs * delta).T, rcond=None)[0].T  # data e, shape (8, 5)
    c.at_most("corners of the box are attained", np.abs(corners @ v.T - signs * delta).max(), 1e-9)

    def attacked(g):
        error = (((x @ a.T)[:, None] + corners) @ v.T * g) @ u - x[:, None]
        return np.sum(error**2, axis=2)

    gap_sure, gap_blind, gap_mean = 0.0, 0.0, -np.inf
    lost = mean_square(w, x @ kernel.T)
    for g in rng.standard_normal((20, rank)) / kappa:
        residual = (kappa * g - 1) * coefficient
        values = attacked(g)
        typed = lost + np.sum(w @ (np.abs(residual) + delta * np.abs(g)) ** 2)
        gap_sure = max(gap_sure, abs(w @ values.max(axis=1) / typed - 1))
        typed = lost + np.sum((1 - kappa * g) ** 2 * pi + delta**2 * g**2)
        gap_blind = max(gap_blind, abs((w @ values).max() / typed - 1))
        # In mean: attacks c(x), built as data, with E c_lambda^2 = delta_lambda^2.
        root = np.sqrt(w @ residual**2)
        typed = lost + np.sum((root + delta * np.abs(g)) ** 2)
        for trial in range(30):
            attack = rng.standard_normal(coefficient.shape)
            if trial == 0:  # the attack of lem-box-losses
                attack = residual * np.sign(g)
            attack *= delta / np.sqrt(w @ attack**2)
            e = np.linalg.lstsq(v, attack.T, rcond=None)[0].T
            found = mean_square(w, (((x @ a.T) + e) @ v.T * g) @ u - x)
            gap_mean = max(gap_mean, found / typed - 1)
            if trial == 0:
                gap_mean = max(gap_mean, abs(found / typed - 1))
    c.at_most("almost sure: corners tried against the sum of losses", gap_sure, 1e-9)
    c.at_most("oblivious: corners tried against the sum of losses", gap_blind, 1e-9)
    c.at_most("in mean: 600 attacks, best attained", gap_mean, 1e-9)

    # The minimizers, by search over the attacked risk, and the thresholds hit from both sides.
    off = 0.0
    k = m / np.sqrt(pi)
    assert k.min() < 0.9
    for factor, name in product((0.9, 1.1), ("keep", "erase", "mean")):
        edge = {"keep": kappa * m, "erase": kappa * pi / m, "mean": kappa * np.sqrt(pi)}[name]
        delta = factor * edge
        for i in range(rank):

            def loss(q, i=i, delta=delta, name=name):
                residual, g = (q - 1) * coefficient[:, i], q / kappa[i]
                if name == "mean":
                    return (np.sqrt(w @ residual**2) + delta[i] * abs(g)) ** 2
                return w @ (np.abs(residual) + delta[i] * abs(g)) ** 2

            grid = np.linspace(-0.5, 1.5, 20_001)
            best = grid[np.argmin([loss(q) for q in grid[::20]]) * 20]
            s = delta[i] / (kappa[i] * np.sqrt(pi[i]))
            if name == "mean":
                typed = float(factor < 1)
                code = adversarial.box_in_mean(kappa[i], pi[i], delta[i])
            else:
                inner = (1 - k[i] * s) / (1 - 2 * k[i] * s + s**2)
                typed = 1.0 if s <= k[i] else 0.0 if s >= 1 / k[i] else inner
                code = adversarial.box_almost_sure(kappa[i], pi[i], delta[i], m[i])
                if (name, factor) == ("keep", 0.9):
                    assert typed == 1.0
                if (name, factor) == ("erase", 1.1):
                    assert typed == 0.0
                if k[i] < 0.9 and (name, factor) in (("keep", 1.1), ("erase", 0.9)):
                    assert 0.0 < typed < 1.0
            off = max(off, abs(best - typed) - 1e-3, abs(kappa[i] * code.item() - typed))
    c.at_most("optimal q against search on both sides of the thresholds", off, 1e-9)

    # Part 2: for orthonormal u the v are linearly independent.
    least = np.inf
    for shape in ((5, 4, 3), (4, 6, 4), (7, 7, 7)):
        b, basis, _ = matrix_with_kernel(rng, *shape)
        least = min(least, np.linalg.svd(vaguelettes(b, rotated(rng, basis))[0])[1][-1])
    c.at_least("least singular value of v for orthonormal u", least, 1e-3)

    # Part 3: the bound for random redundant frames, and the star where it is not attained.
    excess = -np.inf
    for _ in range(20):
        u2 = rng.standard_normal((3, 2))
        v2, k2 = vaguelettes(np.array([[1.0, 0.3], [0.0, 0.4]]), u2)
        b1 = np.linalg.eigvalsh(u2.T @ u2)[0]
        z, p = atoms(rng, 2, 5)
        box, g = rng.uniform(0.2, 1.5, 3), rng.uniform(0, 1.5, 3) / k2
        e = rng.uniform(-3, 3, (20_000, 2))
        e = e / np.maximum(1, np.abs(e @ v2.T / box).max(axis=1))[:, None]
        dual = np.linalg.pinv(u2).T
        pull = (g * (e @ v2.T)) @ dual
        bias = ((k2 * g - 1) * (z @ u2.T)) @ dual
        found = sum(
            q * np.max(np.sum((b + pull) ** 2, axis=1)) for q, b in zip(p, bias, strict=True)
        )
        loss = np.sum(p @ (np.abs((k2 * g - 1) * (z @ u2.T)) + box * g) ** 2) / b1
        excess = max(excess, found / loss - 1)
    c.at_most("redundant: attacks tried against the bound, minus 1", excess, 1e-9)
    angle = 2 * np.pi * np.arange(3) / 3
    star = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    e = rng.uniform(-2, 2, (200_000, 2))
    e = e[np.abs(e @ star.T).max(axis=1) <= 1]
    c.close("star: largest |e|^2 in the box, bound 2", (e**2).sum(axis=1).max(), 4 / 3, 0.02)

    # Part 4: the ball between two balls of coefficients, and both radii are sharp.
    for redundant in (False, True):
        _, _, v3, _ = frame_in_space(rng, 6, redundant)
        low, high = np.linalg.eigvalsh(v3.T @ v3)[[0, -1]]
        e = rng.standard_normal((4000, 6))
        e /= np.linalg.norm(e, axis=1)[:, None]
        norms = np.linalg.norm(e @ v3.T, axis=1)
        c.at_most("|coefficients| of unit data over sqrt(B2')", norms.max() / np.sqrt(high), 1.0)
        c.at_least("|coefficients| of unit data over sqrt(B1')", norms.min() / np.sqrt(low), 1.0)
        for _ in range(400):  # power iteration, forwards and backwards
            norm_up = np.linalg.norm(e[0] @ v3.T)
            e[0] = v3.T @ (v3 @ e[0])
            e[1] = np.linalg.solve(v3.T @ v3, e[1])
            e[:2] /= np.linalg.norm(e[:2], axis=1)[:, None]
        c.close("sqrt(B2') is attained", norm_up / np.sqrt(high), 1.0, 1e-3)
        c.close("sqrt(B1') is attained", np.linalg.norm(e[1] @ v3.T) / np.sqrt(low), 1.0, 1e-3)


# --------------------------------------------------------------------------- measurements


def jump_rows(places, size=256):
    """Steps at the places, scaled so that a difference of two has mean square norm 1."""
    rows = np.array([(np.arange(size) >= p).astype(float) for p in places])
    rows -= rows.mean(axis=1, keepdims=True)
    centre = rows - rows.mean(axis=0)
    return rows / np.sqrt(2 * np.mean(np.sum(centre**2, axis=1)))


def second_moments(rows):
    """E x x' of the difference of two independent rows, from all pairs."""
    total = rows.sum(axis=0)
    return 2 * (rows.T @ rows) / len(rows) - 2 * np.outer(total, total) / len(rows) ** 2


def two_frames(size=256):
    """Fourier and wavelet decompositions, v by least squares."""
    a = frames.periodic_integration(size).to_matrix()
    found = []
    for basis, scales in (
        frames.fourier_basis(size),
        frames.wavelet_basis(size, "db4", wrap=True),
    ):
        found.append((basis[1:], *vaguelettes(a, basis[1:]), scales[1:]))
    return a, found


def test_redundancy(claim):
    c = claim("obs-redundancy")
    a, both = two_frames()
    delta = 1e-3
    inside, anywhere = jump_rows(range(96, 128)), jump_rows(range(256))
    c_in, c_any = second_moments(inside), second_moments(anywhere)
    printed = {
        "anywhere": (c_any, (0.0717, 0.0843, 0.0748, 0.0717, 0.0717)),
        "half and half": ((c_in + c_any) / 2, (0.1470, 0.1397, 0.1328, 0.1256, 0.1098)),
        "window": (c_in, (0.2106, 0.1646, 0.1674, 0.1522, 0.1126)),
    }

    def full_risk(r, cov):
        miss = r @ a - np.eye(256)
        return np.trace(miss @ cov @ miss.T) + delta**2 * np.sum(r**2)

    u = np.concatenate([both[0][0], both[1][0]])
    v = np.concatenate([both[0][1], both[1][1]])
    kappa = np.concatenate([both[0][2], both[1][2]])
    for name, (cov, values) in printed.items():
        maps = []
        for basis, vs, k, _ in both:
            pi = np.sum((basis @ cov) * basis, axis=1)
            maps.append((basis.T * (k * pi / (k**2 * pi + delta**2))) @ vs)
        found = [full_risk(r, cov) for r in (*maps, sum(maps) / 2)]
        # Joint gains for R = sum g v u' from the quadratic itself.
        half = kappa[:, None] * (u @ cov)
        quadratic = (u @ u.T) * (half @ u.T * kappa + delta**2 * v @ v.T)
        scale = 1 / np.sqrt(np.diag(quadratic))
        best = (
            scale
            * np.linalg.lstsq(
                quadratic * np.outer(scale, scale), scale * np.sum(half * u, axis=1), rcond=1e-12
            )[0]
        )
        found.append(full_risk((u.T * best) @ v, cov))
        best = np.linalg.solve(a @ cov @ a.T + delta**2 * np.eye(256), a @ cov).T
        found.append(full_risk(best, cov))
        methods = ("Fourier", "wavelets", "union, decoupled", "union, joint", "best linear")
        for method, value, target in zip(methods, found, values, strict=True):
            c.close(f"{name}: {method}", value, target, 1e-4)

    operator = operators.MatrixOperator(a)
    parts = [frames.Frame.from_basis(operator, basis, scales) for basis, _, _, scales in both]
    union = frames.union(*parts)
    risks = {}
    for size in (2, 3, 4, 8, 32, 64, 256, 1024):
        for seed in range(6 if size < 64 else 2):
            rng = np.random.default_rng([4207, seed, size])
            x = inside[rng.integers(32, size=size)] - inside[rng.integers(32, size=size)]
            y = x @ a.T + delta * rng.standard_normal(x.shape)
            for joint in (False, True):
                gains = frames.fit_gains(union, x, y, joint=joint)
                matrix = (union.u.T * gains) @ union.v
                risks.setdefault((size, joint), []).append(full_risk(matrix, c_in))
    for size in (2, 3, 4, 8):
        ratio = np.min(np.divide(risks[size, True], risks[size, False]))
        c.at_least(f"M = {size}: joint over decoupled, every training set", ratio, 1.0)
    for size in (32, 64, 256, 1024):
        ratio = np.max(np.divide(risks[size, True], risks[size, False]))
        c.at_most(f"M = {size}: joint over decoupled, every training set", ratio, 1.0)
    c.at_least("M = 2: joint risk against 1, the zero map, every set", min(risks[2, True]), 1.0)


def test_gain_shrinkage(claim):
    c = claim("obs-gain-shrinkage")
    _, (_, (u, _, kappa, scales)) = two_frames()
    rows = jump_rows(range(256))
    thresholds, shapes = [], []
    for j in range(1, 9):
        at = np.flatnonzero(scales == j)
        at = at[len(at) // 2]  # one coefficient, all 65536 pairs of jumps
        pairs = np.subtract.outer(rows @ u[at], rows @ u[at])
        pi, m = np.mean(pairs**2), np.mean(np.abs(pairs))
        thresholds.append(kappa[at] * np.sqrt(pi))
        shapes.append(m / np.sqrt(pi))
        for s in (0.3, 0.8, 1.0, 1.3, 3.0):
            delta = s * thresholds[-1]

            def loss(q, kind, delta=delta, kappa=kappa[at], pi=pi, m=m):
                g = abs(q) / kappa
                inner = {"noise": 0, "sure": abs(q - 1) * m, "mean": abs(q - 1) * np.sqrt(pi)}
                return (q - 1) ** 2 * pi + 2 * delta * g * inner[kind] + delta**2 * g**2

            grid = np.linspace(0, 1, 2001)
            noise, sure, mean = (
                grid[np.argmin([loss(q, kind) for q in grid])] for kind in ("noise", "sure", "mean")
            )
            if s == 1.0:
                c.close(f"scale {j}: noise training at the threshold", noise, 0.5, 1e-3)
            else:
                assert mean == float(s < 1)
                assert min(noise, mean) - 1e-3 <= sure <= max(noise, mean) + 1e-3
        low, high = shapes[-1], 1 / shapes[-1]  # where the almost sure ramp begins and ends
        ends = []
        for s in (0.9 * low, 1.1 * low, 0.9 * high, 1.1 * high):
            losses = [loss(q, "sure", delta=s * thresholds[-1]) for q in grid]
            ends.append(grid[np.argmin(losses)])
        assert ends[0] == 1 > ends[1] and ends[2] > 0 == ends[3], (j, ends)
    c.close("coarsest threshold", thresholds[0], 8.2e-2, 5e-4)
    c.close("finest threshold", thresholds[-1], 1.3e-5, 5e-7)
    factors = np.divide(thresholds[1:-1], thresholds[2:])
    c.at_least("least factor between scales, from scale 2", factors.min(), 3.1 - 0.01)
    c.at_most("largest factor between scales, from scale 2", factors.max(), 4.5)
    c.close("coarsest shape", shapes[0], 0.81, 5e-3)
    c.close("finest shape", shapes[-1], 0.17, 6e-3)
    c.close("coarsest ramp", shapes[0] ** -2, 1.5, 0.05)
    c.close("finest ramp", shapes[-1] ** -2, 37, 0.6)
