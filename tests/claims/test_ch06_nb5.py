"""Witnesses of chapter 6, notebook 5: other losses, other activations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.optimize import linprog, minimize, minimize_scalar
from scipy.special import entr, rel_entr, softmax

from advreg import losses, relu, smooth, wdro, wdro_networks

torch.set_num_threads(1)

NORMS = (1, 2, np.inf)
DUAL = {1: np.inf, 2: 2, np.inf: 1}
UNITS = {
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}

# ------------------------------------------------------------------------------- oracles


def network(rng, widths, scale=1.0):
    pairs = list(itertools.pairwise(widths))
    return relu.Network(
        tuple(scale * rng.standard_normal((b, a)) for a, b in pairs),
        tuple(rng.standard_normal(b) for _, b in pairs),
    )


def forward(net, x, units="relu"):
    """Logits by torch, for autograd."""
    for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        if k:
            x = UNITS[units](x)
        x = x @ torch.tensor(W).T + torch.tensor(b)
    return x


def slopes(function, x):
    """Gradients by autograd, one row per point."""
    x = torch.tensor(x, requires_grad=True)
    (g,) = torch.autograd.grad(function(x).sum(), x)
    return g.numpy()


def cross_entropy_slopes(net, x, label, norm):
    y = torch.full((len(x),), label)
    g = slopes(lambda t: torch.nn.functional.cross_entropy(forward(net, t), y, reduction="sum"), x)
    return np.linalg.norm(g, ord=DUAL[norm], axis=1)


def transport(cost, gain, radius, rays=()):
    """Largest mean gain on lists of points: a linear program.  cost, gain (n, m); rays (n,)."""
    n, m = cost.shape
    rays = np.asarray(rays, dtype=float)
    rows = np.kron(np.eye(n), np.ones((1, m)))
    rows = np.hstack([rows, np.zeros((n, rays.size))])
    answer = linprog(
        -np.append(gain.ravel() / n, rays),
        np.append(cost.ravel() / n, np.ones(rays.size))[None],
        [radius],
        rows,
        np.ones(n),
        method="highs",
    )
    assert answer.status == 0, answer.message
    return -answer.fun


def plain_dlr(z, label, floor=0.0):
    """From the definition, by sorting; torch or numpy logits of shape (..., K)."""
    t = torch.as_tensor(z)
    order = torch.sort(t, dim=-1, descending=True).values
    own = t[..., label]
    rest = torch.cat([t[..., :label], t[..., label + 1 :]], dim=-1).amax(dim=-1)
    lead = order[..., 0] - order[..., 2]
    return (rest - own) / torch.clamp(lead, min=floor)


# ------------------------------------------------------------------------------- cross-entropy


def corner_points(box, share=1e-6):
    """Points inside of every cell, next to each of its corners."""
    sizes = np.diff(box.start)
    middle = np.repeat(box.points, sizes, axis=0)
    return box.vertices + share * (middle - box.vertices), np.repeat(np.arange(len(box)), sizes)


def test_cross_entropy_slope(claim):
    c = claim("prop-cross-entropy-slope")
    cross_entropy_slope_examples(c)
    rng = np.random.default_rng(1)
    worst = 0.0
    for case in range(9):
        norm = NORMS[case % 3]
        net = network(rng, (2, 6, 2) if case % 2 else (2, 4, 3, 2))
        box = relu.cells(net, -2, 2)
        inside, _ = corner_points(box)
        found = max(cross_entropy_slopes(net, inside, k, norm).max() for k in (0, 1))
        g = np.linalg.norm(box.gradients[:, 1] - box.gradients[:, 0], ord=DUAL[norm], axis=1)
        z = relu.evaluate(net, box.vertices)
        m = z[:, 1] - z[:, 0]
        top = [np.maximum.reduceat(s * m, box.start[:-1]) for s in (1, -1)]
        formula = max((g / (1 + np.exp(-t))).max() for t in top)
        worst = max(worst, abs(found / formula - 1))
        # bounded cells: strictly less than the slope of the margin
        c.at_most(f"box, net {case}: Lip(CE) / L_glob", formula / g.max(), 1 - 1e-9)
    c.close("two classes: formula / gradients by autograd, 9 nets", 1 + worst, 1, 1e-4)
    worst = strict = 0.0
    for case in range(9):
        norm = NORMS[case % 3]
        net = network(rng, (2, 7, 4))
        box = relu.cells(net, -3, 3)
        inside, cell = corner_points(box)
        p = softmax(relu.evaluate(net, inside), axis=1)
        for y in (0, 2):
            rows = box.gradients - box.gradients[:, y : y + 1]
            largest = np.linalg.norm(rows, ord=DUAL[norm], axis=2).max(axis=1)[cell]
            seen = cross_entropy_slopes(net, inside, y, norm)
            # where y is almost certain both sides are rounding errors
            worst = max(worst, (seen - (1 - p[:, y]) * largest).max())
            strict = max(strict, seen.max() / largest.max())
    c.at_most("four classes: gradient above (1 - p_y) times the largest row", worst, 1e-9)
    c.at_most("four classes, box: Lip(CE) / L_glob", strict, 1)
    for case in range(6):  # the plane: between the slope at infinity and that of the margins
        norm, net = NORMS[case % 3], network(rng, (2, 5, 3))
        u = rng.standard_normal((4000, 2))
        far = 1e4 * u / np.linalg.norm(u, ord=norm, axis=1, keepdims=True)
        near = 3 * rng.standard_normal((4000, 2))
        steep = max(
            cross_entropy_slopes(net, np.vstack([far, near]), y, norm).max() for y in range(3)
        )
        c.at_most(
            f"plane, net {case}: Lip(CE) / L_glob", steep / relu.lipschitz(net, norm).upper, 1
        )
        ratio = relu.slope_at_infinity(net, norm) / steep
        c.at_most(f"plane, net {case}: L_inf / Lip(CE)", ratio, 1.01)


def cross_entropy_slope_examples(c):
    ramp = np.array([[1.0], [1.0]])
    for a in (1.0, 4.0):  # a kink, no ray
        net = relu.Network(
            (ramp, np.array([[0.0, 0], [a, -a]])), (np.array([0.0, -1]), np.array([0, -a / 2]))
        )
        x = np.linspace(-3, 3, 60_001)[:, None] + 1e-9
        seen = cross_entropy_slopes(net, x, 0, 2).max()
        c.close(f"clip, c = {a:g}", seen, a / (1 + math.exp(-a / 2)), 1e-3)
    W = np.array([[1.0, 0], [-1, 0], [0, 1], [0, 1]])
    strip = relu.Network(
        (W, np.array([[0.0, 0, 0, 0], [1, -1, 3, -3]])), (np.array([0.0, 0, 0, -1]), np.zeros(2))
    )
    seen = [cross_entropy_slopes(strip, np.array([[t, 0.5]]), 0, 2)[0] for t in (1.0, 8.0, 30.0)]
    c.close("strip, limit", seen[-1], math.sqrt(10), 1e-9)
    c.at_most("strip, approached from below", seen[1], math.sqrt(10) * (1 - 1e-5))
    c.close("strip, L_glob", relu.lipschitz(strip, 2).upper, math.sqrt(10), 1e-9)
    c.close("strip, slope at infinity", relu.slope_at_infinity(strip, 2, [0]), 1, 1e-9)
    shared = relu.Network((np.array([[0.0, 0], [1, 0], [0, 1]]),), (np.zeros(3),))
    x = np.array([[40.0, 40.0]])
    c.close("two rows share the slope", cross_entropy_slopes(shared, x, 0, np.inf)[0], 1, 1e-9)
    c.at_most("not for the Euclidean norm", cross_entropy_slopes(shared, x, 0, 2)[0], 0.8)
    # A row that attains L_glob only on a bounded cell of the plane: a steep ramp of height 1.
    steep = relu.Network(
        (ramp, np.array([[0.0, 0], [9.0, -8.5]])), (np.array([0.0, -1]), np.array([0, -5.0]))
    )
    x = np.concatenate([np.linspace(-2, 2, 40_001), [1e4]])[:, None] + 1e-9
    seen = cross_entropy_slopes(steep, x, 0, 2).max()
    c.at_most("bounded steepest cell: Lip(CE) / L_glob", seen / 9, 0.99)
    c.close("and its value", seen, 9 / (1 + math.exp(-4)), 1e-2)


def simplex_grid(K, N):
    rows = [r for r in itertools.product(range(N + 1), repeat=K) if sum(r) == N]
    return np.array(rows) / N


def lost(z, P):
    """Cross-entropy of label 0 minus the largest tangent, from the definition."""
    m = z - z[..., :1]
    below = (m @ P.T + entr(P).sum(axis=1)).max(axis=-1)
    return np.log(np.exp(m - m.max(-1, keepdims=True)).sum(-1)) + m.max(-1) - below


def test_cross_entropy_bracket(claim):
    c = claim("prop-cross-entropy-bracket")
    cross_entropy_bracket_of_values(c)
    rng = np.random.default_rng(2)
    worst = 0.0
    for K, N in ((2, 3), (3, 4), (5, 3)):
        P = simplex_grid(K, N)
        z = rng.standard_normal((1000, K)) * rng.choice([0.3, 3, 10], (1000, 1))
        q = softmax(z, axis=1)
        divergence = rel_entr(P[None], q[:, None]).sum(axis=2).min(axis=1)
        worst = max(worst, np.abs(lost(z, P) - divergence).max())
        C, e = losses.cross_entropy_pieces(K, 0, N)
        if K > 2:
            ours = (z - z[:, :1]) @ P.T + entr(P).sum(axis=1)
            worst = max(worst, np.abs((z @ C.T + e).max(axis=1) - ours.max(axis=1)).max())
    c.at_most("difference minus least divergence", worst, 1e-9)
    for K in (2, 3, 6):  # unit vectors only; and one of them missing
        z = np.vstack([np.zeros(K), 3 * rng.standard_normal((2000, K))])
        c.close(f"unit vectors, K = {K}", lost(z, np.eye(K)).max(), math.log(K), 1e-12)
        mu = (z[:, 1:] - z[:, :1]).max(axis=1)
        C, e = losses.cross_entropy_pieces(K, 0, 1)
        c.close(
            f"they make max(0, mu), K = {K}",
            np.abs((z @ C.T + e).max(axis=1) - np.maximum(mu, 0)).max(),
            0,
            1e-12,
        )
        P = np.vstack([np.eye(K)[1:], np.full((1, K), 1 / K), 0.9 * np.eye(K)[:1] + 0.1 / K])
        growing = [lost(t * np.eye(K)[:1], P)[0] for t in (10, 100, 1000)]
        c.at_least(f"one missing, K = {K}: at logit 1000", growing[-1], 5 * growing[-2])
    for s in ([0, 1], [0, 0.5, 1], [0, 0.02, 0.3, 0.35, 1]):
        s = np.array(s)
        P = np.stack([1 - s, s], axis=1)
        m = np.linspace(-12, 12, 1_200_001)
        seen = lost(np.stack([0 * m, m], axis=1), P).max()
        H = entr(P).sum(axis=1)
        cross = -np.diff(H) / np.diff(s)
        q = softmax(np.stack([0 * cross, cross], axis=1), axis=1)
        formula = rel_entr(P[1:], q).sum(axis=1).max()
        c.close(f"two classes, {len(s)} tangents: crossings", seen / formula, 1, 1e-3)
    for R in (1, 4, 10):
        s = np.sin(np.pi / 2 * np.arange(R + 1) / R) ** 2
        m = np.linspace(-12, 12, 240_001)
        seen = lost(np.stack([0 * m, m], axis=1), np.stack([1 - s, s], axis=1)).max()
        c.close(f"library, {R + 1} tangents", losses.cross_entropy_gap(2, R) / seen, 1, 2e-3)
    for K, N in ((3, 3), (3, 7), (4, 4), (4, 6)):
        P, best = simplex_grid(K, N), 0.0
        for _ in range(12):
            start = rng.normal(0, 3, K - 1)
            best = max(
                best,
                -minimize(
                    lambda t, P=P: -lost(np.append(0, t), P), start, method="Nelder-Mead"
                ).fun,
            )
        bound = min(math.log(K), (K - 1) / (math.e * N) + 1 / (8 * N * (N // K)))
        c.at_most(f"grid, K = {K}, N = {N}: largest loss / bound", best / bound, 1)
        c.at_least(f"grid, K = {K}, N = {N}: and not far from it", best / bound, 0.4)
        c.close("library's bound", losses.cross_entropy_gap(K, N), bound, 1e-12)


def cross_entropy_bracket_of_values(c):
    rng = np.random.default_rng(3)
    side = np.linspace(-2, 2, 33)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    worst_low, worst_high = -np.inf, -np.inf
    for case in range(6):
        norm, K, p = NORMS[case % 3], 2 + case % 2, 1 + case // 3
        net, X, y = network(rng, (2, 5, K)), rng.uniform(-1, 1, (4, 2)), rng.integers(K, size=4)
        P = np.vstack([grid, X])
        z = relu.evaluate(net, P)
        ce = np.log(np.exp(z).sum(axis=1))[None] - z[:, y].T
        cost = np.linalg.norm(P[None] - X[:, None], ord=norm, axis=2) ** p
        value = transport(cost, ce, 0.3**p)
        step = np.linalg.norm(np.full(2, 1 / 16), norm)  # to the nearest point of the grid
        slack = relu.lipschitz(net, norm, low=-2, high=2).upper * step * 1.5
        for levels in (1, 4):
            found = losses.cross_entropy_value(
                net, X, y, 0.3, p, norm, levels=levels, low=-2, high=2
            )
            worst_high = max(worst_high, value - found.upper)
            worst_low = max(worst_low, (found.lower - value) / slack)
    c.at_most("value on a grid above the upper end", worst_high, 1e-9)
    c.at_most("lower end above the value, in units of the grid's error", worst_low, 1)
    # Exact values in the plane: a linear model, whose V_1 is mean loss + radius * norm.
    w, b = np.array([1.3, -0.4]), 0.2
    net = relu.Network((np.array([[0, 0], w]),), (np.array([0, b]),))
    X, y = rng.standard_normal((7, 2)), rng.integers(2, size=7)
    margins = (1 - 2 * y) * (X @ w + b)
    for norm in NORMS:
        exact = np.logaddexp(0, margins).mean() + 0.5 * np.linalg.norm(w, ord=DUAL[norm])
        for levels in (1, 6):
            found = losses.cross_entropy_value(net, X, y, 0.5, 1, norm, levels=levels)
            c.at_most(f"linear, norm {norm}, {levels}: lower", found.lower, exact + 1e-7)
            c.at_least(f"linear, norm {norm}, {levels}: upper", found.upper, exact - 1e-7)
            c.close("width", found.upper - found.lower, losses.cross_entropy_gap(2, levels), 1e-6)
    # The same slope at infinity.
    net = network(rng, (2, 6, 3))
    for levels in (1, 3):
        plane = wdro_networks.planar(
            net,
            np.zeros((3, 2)),
            np.arange(3),
            2,
            loss=lambda label, k=levels: losses.cross_entropy_pieces(3, label, k),
        )
        for y in range(3):
            t = np.linspace(0, 2 * np.pi, 20_001)
            z = relu.evaluate(net, 1e5 * np.stack([np.cos(t), np.sin(t)], axis=1))
            ce = (z - z[:, [y]]).max(axis=1)
            seen = max(0, ce.max() / 1e5)
            c.close(f"slope at infinity, label {y}", plane.slopes_at_infinity[y], seen, 2e-3)


# ------------------------------------------------------------------------------- DLR


def test_dlr_gradient(claim):
    c = claim("prop-dlr-gradient")
    rng = np.random.default_rng(4)
    worst, above, met = 0.0, 0.0, [0] * 4
    for case in range(600):
        K, d = 3 + case % 4, 4
        J, x = rng.standard_normal((K, d)), rng.standard_normal(d)
        y = int(rng.integers(K))
        g = slopes(lambda t, J=J, y=y: plain_dlr(t @ torch.tensor(J).T, y), x[None])[0]
        z = J @ x
        a, b, e = (int(k) for k in np.argsort(-z)[:3])
        B, rho = z[a] - z[e], float(plain_dlr(z, y))
        r, rank = (z[a] - z[b]) / B, int((z > z[y]).sum())
        case_one = ((1 - r) * (J[a] - J[b]) + r * (J[e] - J[b])) / B
        formula = {
            0: -case_one,
            1: case_one,
            2: 0 * g,
            3: ((J[e] - J[y]) - (rho - 1) * (J[a] - J[e])) / B,
        }[min(rank, 3)]
        met[min(rank, 3)] += 1
        value = {0: -r, 1: r, 2: 1, 3: (z[a] - z[y]) / B}[min(rank, 3)]
        worst = max(worst, abs(value - rho), np.abs(formula - g).max() / (1 + np.abs(g).max()))
        worst = max(worst, abs(float(losses.dlr(z, y)) - rho))
        involved = {a, b, e} if rank <= 2 else {a, e, y}
        for norm in NORMS:
            pairs = itertools.combinations(involved, 2)
            size = max(np.linalg.norm(J[i] - J[j], ord=DUAL[norm]) for i, j in pairs)
            bound = size / B * max(1, rho)
            above = max(above, np.linalg.norm(g, ord=DUAL[norm]) / bound)
    c.at_least("each of the four ranks met", min(met), 20)
    c.at_most("formula against autograd, 600 cases", worst, 1e-9)
    c.at_most("norm over bound", above, 1 + 1e-9)


def triple_ties(net, reach=4.0):
    """Points where three logits of a ReLU network with three outputs tie, in the plane."""
    box = relu.cells(net, -reach, reach)
    for J, b, i in zip(box.gradients, box.offsets, range(len(box)), strict=True):
        A, rhs = J[:2] - J[2], b[2] - b[:2]
        if abs(np.linalg.det(A)) < 1e-3:
            continue
        x = np.linalg.solve(A, rhs)
        corners = box.polygon(i)
        edge = np.roll(corners, -1, axis=0) - corners
        side = edge[:, 0] * (x - corners)[:, 1] - edge[:, 1] * (x - corners)[:, 0]
        if (side > 1e-3).all():
            yield x


def test_dlr_no_certificate(claim):
    c = claim("prop-dlr-no-certificate")
    rng = np.random.default_rng(5)
    z = rng.standard_normal((500, 2))
    z[:50, 1] = z[:50, 0]  # ties: errors
    expected = 2.0 * (z[:, 1] >= z[:, 0]) - 1
    c.close("two classes", np.abs(losses.dlr(z, 0) - expected).max(), 0, 1e-15)
    # Three classes: values near the triple ties of random networks.
    found = 0
    lowest, highest = [], []
    while found < 10:
        net = network(rng, (2, 6, 3))
        for x in triple_ties(net):
            near = x + 1e-6 * rng.standard_normal((4000, 2))
            rho = plain_dlr(relu.evaluate(net, near), 0).numpy()
            lowest.append(rho.min())
            highest.append(rho.max())
            gaps = np.diff(np.sort(rho[np.abs(rho) < 1]))
            c.at_most(f"tie {found}: gaps between values", gaps.max(), 0.1)
            found += 1
    c.at_most("least value near every tie", max(lowest), -0.9)
    c.close("largest value near every tie", min(highest), 1, 1e-6)
    wide = losses.dlr(relu.evaluate(net, 100 * rng.standard_normal((5000, 2))), 1)
    c.at_most("three classes: |DLR|", np.abs(wide).max(), 1 + 1e-12)
    # Four classes: the value passes every level, at every radius and order.
    lift = np.array([[1.0, 0], [0, 1], [0, 0], [0, 0]])
    offset, start = np.array([0.0, 0, 0, -1]), np.array([3.0, 1.0])
    for p, radius in itertools.product((1, 2, 5), (1e-3, 0.1)):
        values = []
        for r in (1e-3, 1e-6, 1e-9):
            end = r * np.array([0.4, 1.0])
            gain = plain_dlr(lift @ end + offset, 3) - plain_dlr(lift @ start + offset, 3)
            move = [[(np.linalg.norm(end - start), float(gain))]]
            values.append(wdro.allocate([*move, []], radius, p).value)
        c.close(f"p = {p}, radius {radius}: growth", values[2] / values[1], 1000, 20)
    # Floors.
    for b in (0.05, 0.5):
        above = 0.0
        for K in (3, 5):
            for norm in NORMS:
                net = network(rng, (2, 5, K))
                if norm == 2:  # two logits that tie everywhere
                    net.weights[1][1], net.biases[1][1] = net.weights[1][0], net.biases[1][0]
                x = rng.uniform(-2, 2, (20_000, 2))
                steep = relu.lipschitz(net, norm, low=-2, high=2).upper
                box = relu.cells(net, -2, 2)
                for y in range(K):
                    mu = losses.margin(relu.evaluate(net, box.vertices), y).max()
                    factor = 1 if K == 3 else max(1, mu / b)
                    g = slopes(lambda t, y=y, b=b, n=net: plain_dlr(forward(n, t), y, b), x)
                    seen = np.linalg.norm(g, ord=DUAL[norm], axis=1).max()
                    above = max(above, seen / (factor * steep / b))
                    z = relu.evaluate(net, x)
                    c.at_most(
                        "floored loss minus margin / floor",
                        (losses.dlr(z, y, floor=b) - np.maximum(losses.margin(z, y), 0) / b).max(),
                        1e-9,
                    )
        c.at_most(f"floor {b}: slope over bound", above, 1 + 1e-9)
    tight = 0.0  # the constant Λ/b is not an artefact: three linear classes attain it
    J = np.array([[1.0, 0], [0, 1], [0, 0]])
    x = rng.uniform(-0.2, 0.2, (20_000, 2))
    g = slopes(lambda t: plain_dlr(t @ torch.tensor(J).T, 0, 0.1), x)
    tight = np.linalg.norm(g, axis=1).max() * 0.1 / math.sqrt(2)
    c.close("floor, three linear classes: slope / (Λ/b)", tight, 1, 1e-9)
    J = torch.tensor([[0.0], [-0.5], [-1], [0]], dtype=torch.float64)  # nor is M Λ/b^2
    low = torch.tensor([0.0, 0, 0, -7], dtype=torch.float64)
    g = slopes(lambda t: plain_dlr(t @ J.T + low, 3, 0.1), np.array([[0.1 + 1e-9]]))[0, 0]
    c.close("floor, four classes: slope / (M Λ/b^2)", abs(g) / (7 / 0.01), 1, 1e-6)
    rho = float(plain_dlr(J.numpy()[:, 0] * 0.3 + low.numpy(), 3))
    g = slopes(lambda t: plain_dlr(t @ J.T + low, 3), np.array([[0.3]]))[0, 0]
    c.close("without a floor: slope / (ρ Λ/B)", abs(g) / (rho / 0.3), 1, 1e-9)
    M = torch.tensor([[0.0, 1], [0, 0], [0, -1], [-1, 0]], dtype=torch.float64)
    for x1 in (1e2, 1e4):
        g = slopes(lambda t: plain_dlr(t @ M.T, 3, 0.1), np.array([[x1, 0.05 + 1e-9]]))[0]
        c.close(f"four classes on the plane, x_1 = {x1:g}", g[1] / (-2 * x1 / 0.01), 1, 1e-3)


# ------------------------------------------------------------------------------- activations


def test_smooth_infinity(claim):
    c = claim("prop-smooth-infinity")
    rng = np.random.default_rng(6)
    apart = {}
    for name in ("gelu", "silu", "softplus"):
        t = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
        apart[name] = float((UNITS[name](t) - torch.relu(t)).abs().max())
    c.close("GELU - ReLU", apart["gelu"], 0.170, 5e-4)
    c.close("SiLU - ReLU", apart["silu"], 0.278, 5e-4)
    c.close("softplus - ReLU", apart["softplus"], math.log(2), 1e-9)
    for name in apart:
        one = relu.Network((np.ones((1, 1)), np.ones((1, 1))), (np.zeros(1), np.zeros(1)))
        x = torch.linspace(-40, 40, 80_001, dtype=torch.float64)[:, None]
        distance = float((forward(one, x, name) - forward(one, x)).abs().max())
        c.close(f"{name}, one unit: the bound is attained", distance / apart[name], 1, 1e-4)
    angle = np.linspace(0, 2 * np.pi, 20_001)
    for case, name in enumerate(("gelu", "silu", "softplus", "gelu", "silu", "softplus")):
        net = network(rng, (2, 6, 3) if case < 3 else (2, 5, 5, 3), 1.0)
        free = relu.without_biases(net)
        bound = 0.0
        for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
            last = k == len(net.weights) - 1
            bound = np.abs(W).sum(axis=1).max() * bound + np.abs(b).max()
            bound += 0 if last else apart[name]
        x = np.vstack([R * rng.standard_normal((3000, 2)) for R in (0.1, 1, 10, 1e4)])
        with torch.no_grad():
            distance = forward(net, torch.tensor(x), name) - forward(free, torch.tensor(x))
        c.at_most(f"{name}, net {case}: distance / bound", float(distance.abs().max()) / bound, 1)
        for norm, y in itertools.product(NORMS, range(3)):
            u = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            u /= np.linalg.norm(u, ord=norm, axis=1, keepdims=True)
            with torch.no_grad():
                z = forward(net, torch.tensor(1e5 * u), name).numpy() / 1e5
            seen = max(0.0, (np.delete(z, y, 1) - z[:, [y]]).max())
            found = smooth.slope_at_infinity(net, name, norm, [y])
            c.close(f"{name}: slope at infinity", found, seen, 2e-3)
    for name in ("tanh", "sigmoid"):
        net = network(rng, (2, 6, 3))
        with torch.no_grad():
            z = forward(net, torch.tensor(1e6 * rng.standard_normal((5000, 2))), name)
        limit = np.abs(net.weights[-1]).sum(axis=1).max() + np.abs(net.biases[-1]).max()
        c.at_most(f"{name}: logits / bound", float(z.abs().max()) / limit, 1)
        c.close(f"{name}: slope at infinity", smooth.slope_at_infinity(net, name, 2), 0, 1e-15)


def test_smooth_lipschitz(claim):
    c = claim("prop-smooth-lipschitz")
    rng = np.random.default_rng(7)

    def autograd_slope(name, t):
        return slopes(lambda s: UNITS[name](s), np.array([t]))[0]

    options = {"bounds": (0.5, 5), "method": "bounded", "options": {"xatol": 1e-12}}
    peak = minimize_scalar(lambda t: -autograd_slope("gelu", t), **options)
    phi = math.exp(-1) / math.sqrt(2 * math.pi)
    value = 0.5 * (1 + math.erf(1)) + math.sqrt(2) * phi
    c.close("sup GELU'", -peak.fun, value, 1e-9)
    c.close("sup GELU', printed", value, 1.1289, 5e-5)
    c.close("attained at sqrt 2", peak.x, math.sqrt(2), 1e-5)
    c.close("largest and smallest sum to 1", autograd_slope("gelu", -peak.x) - peak.fun, 1, 1e-9)
    peak = minimize_scalar(lambda t: -autograd_slope("silu", t), **options)
    c.close("sup SiLU'", -peak.fun, 1.0998, 5e-5)
    c.close("t tanh(t/2) there", peak.x * math.tanh(peak.x / 2), 2, 1e-4)
    for name in smooth.ACTIVATIONS:
        t = 20 * rng.standard_normal(100_000)
        g = slopes(lambda s, n=name: UNITS[n](s), t)
        least, most = smooth.derivative_range(name, -np.inf, np.inf)
        c.at_least(f"{name}: least derivative", g.min(), least - 1e-12)
        c.at_most(f"{name}: largest derivative", g.max(), most + 1e-12)
    side = np.linspace(-1.5, 1.5, 151)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    bound_ratio, low_ratio, single = 0.0, 0.0, 0.0
    for case, (name, norm) in enumerate(itertools.product(smooth.ACTIVATIONS, NORMS)):
        net = network(rng, (2, 5, 2), 1 + case % 3)
        seen = np.linalg.norm(
            slopes(
                lambda t, n=net, u=name: forward(n, t, u) @ torch.tensor([-1.0, 1.0]).double(), grid
            ),
            ord=DUAL[norm],
            axis=1,
        )
        run = smooth.lipschitz(net, name, norm, -1.5, 1.5, tol=1e-3)
        bound_ratio = max(bound_ratio, seen.max() / run.upper)
        low_ratio = max(low_ratio, run.lower / seen.max())
        c.at_most(f"{name}, {norm}: width of the bracket", run.upper / run.lower, 1.0011)
        # One box, from the formula, with ranges by brute force.
        W, b, a = net.weights[0], net.biases[0], net.weights[1][1] - net.weights[1][0]
        reach = 1.5 * np.abs(W).sum(axis=1)
        t = b + reach * np.linspace(-1, 1, 4001)[:, None]
        s = slopes(lambda t, u=name: UNITS[u](t), t)
        low, high = s.min(axis=0), s.max(axis=0)
        v = np.abs((a * (low + high) / 2) @ W) + (np.abs(a) * (high - low) / 2) @ np.abs(W)
        first = smooth.lipschitz(net, name, norm, -1.5, 1.5, most_boxes=1).upper
        single = max(single, abs(first / np.linalg.norm(v, ord=DUAL[norm]) - 1))
        c.at_least(f"{name}, {norm}: one box is a bound", first / seen.max(), 1 - 1e-9)
    c.at_most("grid slope / upper end", bound_ratio, 1)
    c.at_most("lower end / grid slope", low_ratio, 1.02)
    c.at_most("one box: formula with brute-force ranges", single, 1e-5)
    # f = GELU, datum 0: the value is the radius, the largest slope is more.
    s = np.concatenate([-np.geomspace(1e-3, 1e3, 200), np.geomspace(1e-3, 1e6, 400)])
    f = torch.nn.functional.gelu(torch.tensor(s)).numpy()
    c.at_most("secant slopes from 0", (f / np.abs(s)).max(), 1)
    for radius in (0.01, 1, 7):
        value = transport(np.abs(np.append(0, s))[None], np.append(0, f)[None], radius)
        c.close(f"V_1({radius}) / radius", value / radius, 1, 1e-5)


# ------------------------------------------------------------------------------- label cost


def line_network(rng, n, K):
    """A network of one input, and the same one of two inputs that ignores the second."""
    W, b = rng.standard_normal((n, 1)), rng.standard_normal(n)
    A, e = rng.standard_normal((K, n)), rng.standard_normal(K)
    wide = relu.Network((np.hstack([W, np.zeros((n, 1))]), A), (b, e))
    return relu.Network((W, A), (b, e)), wide


def line_hinge(net, x, y):
    return losses.hinge(relu.evaluate(net, np.asarray(x, float)[:, None]), y)


def break_points(net, K):
    """All points of the line where the hinge of some label may bend, and their outer neighbours."""
    W, b = net.weights[0][:, 0], net.biases[0]
    knots = np.sort(-b / W)
    ends = np.concatenate([[knots[0] - 50], knots, [knots[-1] + 50]])
    points = [ends]
    z = relu.evaluate(net, ends[:, None])
    for y, j in itertools.permutations(range(K), 2):
        for other in [y, *(k for k in range(K) if k not in (y, j))]:
            # zero of z_j - z_y + 1 (other = y), or where two wrong classes tie
            d = z[:, j] - z[:, other] + (1 if other == y else 0)
            flip = np.flatnonzero(d[:-1] * d[1:] < 0)
            t = d[flip] / (d[flip] - d[flip + 1])
            points.append(ends[flip] + t * (ends[flip + 1] - ends[flip]))
    return np.unique(np.concatenate(points))


def test_network_label_cost(claim):
    c = claim("prop-network-label-cost")
    network_label_cost_linear(c)
    rng = np.random.default_rng(8)
    dual_error = planar_error = certificate_error = equality = 0.0
    broken, tested, wrong = 0, 0, 0
    for case in range(12):
        K, n = 2 + case % 2, 5
        net, wide = line_network(rng, 4, K)
        x, y = rng.uniform(-2, 2, n), rng.integers(K, size=n)
        kappa, radius = rng.choice([0.05, 0.4, 3.0]), rng.choice([0.05, 0.5])
        P = np.concatenate([break_points(net, K), x])
        # Primal: mass of each sample to the bends of each label, and two rays per label.
        loss = np.concatenate([line_hinge(net, P, k) for k in range(K)])
        extra = np.repeat(np.arange(K), len(P))
        cost = np.abs(np.tile(P, K)[None] - x[:, None]) + kappa * (extra[None] != y[:, None])
        far = [
            (line_hinge(net, [2e3 * s], k) - line_hinge(net, [1e3 * s], k))[0] / 1e3
            for k in range(K)
            for s in (1, -1)
        ]
        value = transport(cost, np.tile(loss, (n, 1)), radius, np.maximum(far, 0))
        # Dual: the formula, with suprema over the bends.
        L_inf = max(0.0, *far)

        def dual(multiplier, loss=loss, cost=cost):
            return (loss[None] - multiplier * cost).max(axis=1).mean()

        found = wdro.dual_value(dual, radius, 1, least=L_inf).value
        dual_error = max(dual_error, abs(found - value) / (1 + abs(value)))
        # The library, in the plane.
        X = np.stack([x, np.zeros(n)], axis=1)
        planes = [wdro_networks.planar(wide, X, np.full(n, k), 2) for k in range(K)]
        hinges = np.stack([plane.clean for plane in planes], axis=1)
        flips = kappa * (np.arange(K)[None] != y[:, None])

        def by_planes(multiplier, planes=planes, hinges=hinges, flips=flips):
            best = np.stack([plane.suprema(multiplier, 1) for plane in planes], axis=1)
            return (hinges + best - multiplier * flips).max(axis=1).mean()

        found = wdro.dual_value(by_planes, radius, 1, least=L_inf * (1 + 1e-12)).value
        planar_error = max(planar_error, abs(found - value) / (1 + abs(value)))
        # The certificate, its cruder form, and the one that forgets the labels.
        steep = relu.lipschitz(net, 2).upper
        own = hinges[np.arange(n), y]

        def bound(multiplier, hinges=hinges, flips=flips):
            return (hinges - multiplier * flips).max(axis=1).mean()

        U = wdro.dual_value(bound, radius, 1, least=steep).value
        crude = own.mean() + radius * max(steep, (hinges - own[:, None]).max() / kappa)
        certificate_error = max(certificate_error, value - U, U - crude)
        broken += value > own.mean() + radius * steep + 1e-9
        dear = kappa * steep >= (hinges - own[:, None]).max()
        small = 0.5 * kappa / n  # the budget flips half a sample: "only if"
        least = transport(cost, np.tile(loss, (n, 1)), small, np.maximum(far, 0))
        wrong += dear == (least > own.mean() + small * steep + 1e-9)
        if dear:
            tested += 1
            equality = max(equality, abs(U - own.mean() - radius * steep))
    c.at_most("dual formula against the primal program, 12 nets", dual_error, 1e-7)
    c.at_most("planar suprema against the primal program", planar_error, 1e-6)
    c.at_most("value above U, or U above its simple bound", certificate_error, 1e-9)
    c.at_least("nets on which the plain Lipschitz certificate fails", broken, 2)
    c.at_least("nets with dear labels", tested, 1)
    c.at_most("small radius: bound exactly if labels are dear, exceptions", wrong, 0)
    c.at_most("dear labels: U = E + radius L_glob", equality, 1e-9)


def network_label_cost_linear(c):
    rng = np.random.default_rng(9)
    for norm, loss in itertools.product(NORMS, ("hinge", "logistic")):
        w, b = rng.standard_normal(2), rng.standard_normal()
        X, y = rng.standard_normal((8, 2)), rng.integers(2, size=8)
        net = relu.Network((np.array([[0, 0], w]),), (np.array([0, b]),))
        z = relu.evaluate(net, X)
        kind = losses.hinge if loss == "hinge" else losses.cross_entropy
        both = np.stack([kind(z, k) for k in (0, 1)], axis=1)
        for kappa in (0.1, 1.0):
            flips = kappa * (np.arange(2)[None] != y[:, None])
            steep = np.linalg.norm(w, ord=DUAL[norm])
            U = wdro.dual_value(
                lambda m, both=both, flips=flips: (both - m * flips).max(axis=1).mean(),
                0.2,
                1,
                least=steep,
            ).value
            exact = wdro.linear_value(w, b, X, 2 * y - 1, 0.2, 1, norm, loss, label_cost=kappa)
            c.close(f"{loss}, norm {norm}, label cost {kappa}: U / V_1", U / exact, 1, 1e-9)
    # the example: margin -5, slope 1, a tenth of the mass changes its label
    value = transport(np.array([[0, 0.1]]), np.array([[0.0, 6]]), 0.01, [1.0])
    c.close("example: V_1(0.01)", value, 0.6, 1e-9)
    c.at_least("example: above the Lipschitz certificate", value, 0.01)
