"""The exercises of chapter 7: the form of the page, the sentences, what the statements assert."""

import itertools
import math

import numpy as np
import pytest
from exercise_suite import ExerciseSuite, load_checks, rejected, run_notebook
from scipy import optimize

from advreg import relu, twolayer

FOLDER = "07_two_layers"
checks = load_checks(FOLDER)
LABELS = {name: right for name, (right, _) in checks.ESCAPES.items()}


class TestChapter7(ExerciseSuite):
    folder = FOLDER
    least = 15


@pytest.fixture(scope="module")
def answers():
    return run_notebook(FOLDER)[0]


# ------------------------------------------------------------------ further answers of the checks

STEPS = [1, 2, 3, 4, 5, 0, 6, -1, 4.0, "4", None, True, [4]]


@pytest.mark.parametrize(
    ("name", "function", "right"),
    [("broken_sign", "twin_laws", 4), ("broken_erosion", "uneven_tent", 4)],
)
@pytest.mark.parametrize("step", STEPS)
def test_the_step_of_a_broken_proof(name, function, right, step, answers):
    bad = rejected(getattr(checks, name)(answers[function], step))
    assert len(bad) == (0 if type(step) is int and step == right else 2)
    if type(step) is int and 1 <= step <= 5 and step != right:
        assert all(f"Step {step}" in sentence for sentence in bad)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({**LABELS, name: "neither" if right == "both" else "both"}, why)
        for name, (right, why) in checks.ESCAPES.items()
    ]
    + [
        ({"relu": "both"}, "keys"),
        ({**LABELS, "relu": "yes"}, "'both', '+1'"),
        ({**LABELS, "relu": np.array([1, 2])}, "'both', '+1'"),
        (["both"] * 8, "dict"),
        (None, "not set yet"),
    ],
)
def test_wrong_labels(labels, words, answers):
    named = rejected(checks.line_drop(answers["line_drop"], labels))
    assert len(named) == 2 and all(words in sentence for sentence in named)


@pytest.mark.parametrize("factor", [0.999, 1.001])
@pytest.mark.parametrize(
    "name",
    [
        *("one_neuron", "two_laws", "largest_mass", "rebuild"),
        *("collapse_radius", "cut_gap", "swap_interval"),
    ],
)
def test_a_factor_is_seen(name, factor, answers):
    def scaled(*args):
        return factor * np.asarray(answers[name](*args))

    check = getattr(checks, name)
    assert len(rejected(check(scaled))) == len(check.properties)


@pytest.mark.parametrize(
    ("laws", "words"),
    [
        (lambda eps: [[[0.0, 1.0, 1.0]]], "two laws"),
        (lambda eps: ([[0.0, 2.0, 1.0]], [[0.0, 1.0, 1.0]]), "label"),
        (lambda eps: ([[0.0, 1.0, 0.5]], [[0.0, 1.0, 1.0]]), "sum to 1"),
        (lambda eps: ([[0.0, 1.0, 2.0], [1, 1, -1]], [[0.0, 1.0, 1.0]]), "nonnegative"),
        (lambda eps: ([[0.0, 1.0, 1.0]], [[200.0, 1.0, 1.0]]), "between -100 and 100"),
        (lambda eps: ([[0.0, 1.0, 1.0]], [[0.0, 1.0, 0.5], [0.0, 1.0, 0.5]]), "the same"),
        (lambda eps: ([[0.0, 1.0, 1.0]], np.zeros((0, 3))), "1 and 20"),
        (lambda eps: ([[0.0, 1.0, 1.0]], [[0.0, 1.0]]), "shape"),
    ],
)
def test_answers_that_are_no_twins(laws, words):
    named = rejected(checks.broken_sign(laws, 4))
    assert len(named) == 2 and all(words in sentence for sentence in named)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda eps: [[2.0, 0.0, 1.0]], "constant"),
        (lambda eps: [[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]], "concave"),
        (lambda eps: [[5.0, 0, 1], [-1, 1, -1.0], [-3, -1, -1.0]], "plateau"),
        (lambda eps: [[0.5, 0, 1], [-1, 1, 0.0], [-3, -1, 0.0]], "exceeds"),
        (lambda eps: [[1 + 3 * eps, 0, 1], [-1, 1, 0.0], [-1.1, -1, 0.0]], "ends of the robust"),
    ],
)
def test_answers_that_are_no_uneven_tents(rows, words):
    named = rejected(checks.broken_erosion(rows, 4))
    assert len(named) == 2 and all(words in sentence for sentence in named)


@pytest.mark.parametrize("scale", [1, 40])
def test_the_ends_of_a_tent(scale):
    """Tents whose feet are far from their kinks, or between them."""
    rows = checks._two_slopes(1.0, 3.0, 1.0 * scale)
    assert checks._tent(rows, 0.1) == pytest.approx((-scale, scale))


@pytest.mark.parametrize(
    ("laws", "words"),
    [
        (lambda T: np.full((2, len(T)), 1 / len(T)), "both laws"),
        (lambda T: np.eye(len(T))[:2], "means"),
        (lambda T: np.eye(len(T))[:2] * 2, "masses"),
        (lambda T: -np.eye(len(T))[:2], "negative"),
    ],
)
def test_answers_that_are_no_pair(laws, words):
    assert all(words in s for s in rejected(checks.two_laws(laws)))


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        (lambda p, K, h: p[::-1], "labels are exchanged"),
        (lambda p, K, h: h * p, "factor h"),
        (lambda p, K, h: p - np.pad(p, ((0, 0), (0, K)))[:, K:], "differences of masses"),
    ],
)
def test_slips_at_the_end_of_the_rebuilding(slip, words, answers):
    named = rejected(checks.rebuild(lambda G, K, h: slip(answers["rebuild"](G, K, h), K, h)))
    assert len(named) == 4 and all(words in sentence for sentence in named[:3])


def test_a_missed_second_label_is_no_exchange(answers):
    """A wrong answer that no slip explains keeps its own sentence."""
    named = rejected(checks.rebuild(lambda G, K, h: 0.5 * answers["rebuild"](G, K, h)))
    assert len(named) == 4 and all("off by" in sentence for sentence in named)


@pytest.mark.parametrize("eps", np.random.default_rng(0).uniform(0.1, 5, 40))
def test_kinks_that_agree_up_to_rounding(eps):
    """-(-3 eps) / 3 need not be eps; this is no plateau."""
    rows = np.array([[1 + 3 * eps, 0, 1], [-1, -1, eps], [-1, 3, -3 * eps]])
    assert checks._tent(rows, eps) == pytest.approx((-2 * eps, 2 * eps))


# ----------------------------------------------------- what statements and solutions assert


def test_the_laws_fool_a_network(answers):
    """Sites on a circle, a network on the first law: full gap there, none on the second."""
    rng = np.random.default_rng(2)
    for m in (1, 4, 7):
        sites = twolayer.circle_sites(m + 2, 0.3)
        P, Q = answers["two_laws"](rng.standard_normal((m + 2, m)))
        net = twolayer.dead_network(sites, np.flatnonzero(P > 1e-12), tau=0.5)
        drops = twolayer.worst_drop(net, sites.points, np.ones(m + 2), 0.3)
        assert len(net.weights[0]) <= m // 2 + 1
        assert P @ drops == pytest.approx(1.0) and Q @ drops == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("r", [1, 2, 3])
def test_fourier_moments_share_the_mass_evenly(r, answers):
    """m = 2 r moments on m + 2 points of a circle: all sites get 2 / (m + 2)."""
    N = 2 * r + 2
    t = 2 * np.pi * np.arange(N) / N
    T = np.column_stack([f(k * t) for k in range(1, r + 1) for f in (np.cos, np.sin)])
    assert answers["largest_mass"](T) == pytest.approx(np.full(N, 2 / N))


@pytest.mark.parametrize("N", [2, 3, 6])
def test_the_mean_alone(N, answers):
    """m = 1, sites 0, ..., N - 1 on a line: masses of the ends and of the others."""
    want = np.ones(N) if N > 2 else np.zeros(2)
    if N > 2:
        want[[0, -1]] = (N - 2) / (N - 1)
    assert answers["largest_mass"](np.arange(N)[:, None].astype(float)) == pytest.approx(want)


def test_rescaling_and_the_path_norm():
    """min over t of (a / t)^2 + |t w|^2 is 2 |a| |w|."""
    a, w = -1.7, np.array([0.6, -2.0])
    t = np.geomspace(0.01, 100, 200_001)
    decay = (a / t) ** 2 + (t * np.linalg.norm(w)) ** 2
    assert decay.min() / 2 == pytest.approx(abs(a) * np.linalg.norm(w), rel=1e-8)


def test_cancelling_neurons_change_the_path_norm_only():
    rng = np.random.default_rng(3)
    W, b, a = rng.standard_normal((3, 2)), rng.standard_normal(3), rng.standard_normal(3)
    X, y = rng.standard_normal((20, 2)), rng.choice([-1.0, 1.0], 20)
    net = relu.Network((W, a[None]), (b, np.zeros(1)))
    more = relu.Network(
        (np.vstack([W, W[:1], W[:1]]), np.append(a, [5.0, -5.0])[None]),
        (np.append(b, [b[0], b[0]]), np.zeros(1)),
    )
    gaps = [twolayer.gap(n, X, y, 0.2) for n in (net, more)]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-12)
    paths = [np.abs(n.weights[1][0]) @ np.abs(n.weights[0]).sum(axis=1) for n in (net, more)]
    assert paths[1] == pytest.approx(paths[0] + 10 * np.abs(W[0]).sum())


def test_logarithms_of_primes():
    logs = np.log([2, 3, 5, 7, 11, 13])
    counts = [
        np.diff(np.concatenate([[-1], bars, [17]])) - 1
        for bars in itertools.combinations(range(17), 5)
    ]
    means = np.sort(np.array(counts) @ logs / 12)
    assert len(counts) == 6188 == math.comb(17, 5)
    assert 0 < np.diff(means).min() < np.log(6.5) / 6187 < 3.03e-4
    assert np.diff(means).min() == pytest.approx(1.57e-6, rel=1e-2)
    assert math.comb(118 + 5, 5) > np.log(6.5) * 1e8
    q = np.log(2.5) / np.log(5)  # two laws with real weights: site 2, or sites 1 and 3 ...
    P, Q = np.array([0, 1, 0]), np.array([1 - q, 0, q])
    assert Q.min() >= 0 and q * np.log(5) + (1 - q) * 0 == pytest.approx(np.log(2.5))
    t = (np.log(3) - np.log(2)) / (np.log(5) - np.log(2))
    Q = np.array([1 - t, 0, t])
    assert P @ logs[:3] == pytest.approx(Q @ logs[:3]) and t == pytest.approx(0.4425, abs=1e-4)


@pytest.mark.parametrize("eps", [0.05, 0.4, 2.0])
def test_squares_and_ellipses(eps):
    """The round square escapes, the ellipse does not; largest values on the sphere."""
    angle = np.linspace(0, 2 * np.pi, 20_001)
    e = eps * np.column_stack([np.cos(angle), np.sin(angle)])

    def rise(mu, x):
        return (((x + e) ** 2) @ mu).max() - (x**2) @ mu

    mu = np.array([3.0, 1.0])
    one, two = rise(mu, np.array([1 / np.sqrt(3), 0])), rise(mu, np.array([0, 1.0]))
    assert one == pytest.approx((1 + np.sqrt(3) * eps) ** 2 - 1) and two < one * (1 - 0.01 * eps)
    x = np.random.default_rng(4).standard_normal(2)
    r = np.linalg.norm(x)
    assert rise(np.ones(2), x) == pytest.approx(2 * eps * r + eps**2, rel=1e-6)


def test_two_tanh_neurons():
    grid = np.linspace(-0.5, 0.5, 201)

    def drop(p, q):
        f = np.tanh(p + grid)[:, None] + np.tanh(q + grid)
        return np.tanh(p) + np.tanh(q) - f.min()

    assert drop(0, 0) == pytest.approx(2 * np.tanh(0.5)) == pytest.approx(0.9242, abs=5e-5)
    assert (
        drop(3, -3) == pytest.approx(np.tanh(3.5) - np.tanh(2.5)) == pytest.approx(0.0116, abs=5e-5)
    )
    assert 0.5 * 2 / np.cosh(3) ** 2 == pytest.approx(0.00987, abs=5e-6)


@pytest.mark.parametrize("u", [-3.0, -0.2, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("y", [1, -1])
def test_order_one_of_a_single_neuron(u, y):
    """Masses by a program on the line, linear loss -y relu(u)."""
    grid = np.concatenate([np.linspace(-6, 6, 1201), np.geomspace(7, 2e4, 60)])
    grid = np.append(grid, [u, 0.0])
    loss = -y * np.maximum(grid, 0)
    gain, cost = loss + y * max(u, 0), np.abs(grid - u)
    for eps in (0.1, 1.0, 4.0):
        A = np.vstack([np.ones(len(grid)), cost])
        found = optimize.linprog(-gain, A_ub=A[1:], b_ub=[eps], A_eq=A[:1], b_eq=[1.0])
        want = min(eps, max(u, 0)) if y == 1 else eps
        assert -found.fun == pytest.approx(want, rel=1e-3, abs=1e-9)


def test_the_example_of_the_collapse(answers):
    """Features 2 and 0 against a sleeping neuron."""
    u, y = np.array([2.0, -1.0]), np.array([1.0, -1.0])
    assert answers["collapse_radius"](u, y) == pytest.approx(1.5)
    assert np.abs(np.mean(y * u)) == 1.5 and np.mean(np.maximum(u, 0)) == 1.0
    u = np.array([2.0, -9.0])
    assert answers["collapse_radius"](u, y) == pytest.approx(2.0)
    assert np.abs(np.mean(y * u)) == 5.5
    u, y = np.array([2.0, 1.5, -1.0, -3.0]), np.array([1.0, 1.0, -1.0, -1.0])  # the figure
    feature = np.mean(y * np.maximum(u, 0))
    assert answers["collapse_radius"](u, y) == pytest.approx(1.5) and feature == 0.875
    assert feature / np.mean(u > 0) == 1.75


def test_a_triangle(answers):
    w = np.ones((3, 3)) - np.eye(3)
    assert answers["cut_gap"](w, 0.5, np.inf) == pytest.approx(2.0)
    assert answers["cut_gap"](w, 0.5, 1) == pytest.approx(1.0)
    value, _ = twolayer.max_cut([(0, 1), (1, 2), (0, 2)])
    assert value == 2


def test_an_attack_in_the_swap_test(answers):
    """With gaps that are too small both ends are too small; the width may do what it likes."""
    rng = np.random.default_rng(6)
    gaps, T, p = rng.uniform(size=12), rng.uniform(size=(12, 2)), rng.dirichlet(np.ones(12))
    ends = answers["swap_interval"](gaps, T, p)
    for found in (gaps * rng.uniform(0.2, 1, 12), 0 * gaps):
        assert (answers["swap_interval"](found, T, p) <= ends + 1e-9).all()
    flat, some = np.ones(12), np.where(np.arange(12) % 2, 1.0, 0.0)
    widths = [np.ptp(answers["swap_interval"](g, T, p)) for g in (flat, some)]
    assert widths[0] < 1e-7 < 0.1 < widths[1]  # wide, because the attack fails at some points


@pytest.mark.parametrize("slopes", [(1.0, 3.0), (0.5, 6.0), (2.0, 2.0)])
@pytest.mark.parametrize("half", [1.0, 1.1, 2.0])
def test_tents_with_equal_slopes_only(slopes, half):
    """The robust set on a lattice is a level set if and only if the slopes agree."""
    t = np.arange(-4096, 4097) / 1024
    f = 1 + np.minimum(slopes[0] * (t + half), slopes[1] * (half - t))
    robust = (t >= 1 - half - 1e-9) & (t <= half - 1 + 1e-9)  # eps = 1
    assert robust.any()
    is_level = f[robust].min() > f[~robust].max()
    assert is_level == (slopes[0] == slopes[1])


def test_a_swap_that_is_narrow_for_a_bad_reason(answers):
    """n - 1 independent statistics leave nothing open, whatever the gaps are."""
    rng = np.random.default_rng(5)
    gaps, p = rng.uniform(size=8), rng.dirichlet(np.ones(8))
    for m in (1, 4, 7):
        low, high = answers["swap_interval"](gaps, rng.uniform(0.5, 2, (8, m)), p)
        assert low <= p @ gaps + 1e-9 and p @ gaps <= high + 1e-9
        assert (high - low < 1e-7) == (m == 7)
