"""advreg.frames: bases against PyWavelets and the FFT, frames and gains against dense algebra."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import pywt
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg
from scipy.optimize import minimize

from advreg import frames, operators, spectral
from advreg.frames import Frame


def random_frame(rng: np.random.Generator, vectors: int = 9) -> tuple[Frame, np.ndarray]:
    """A decomposition of a 7 x 6 matrix of rank 5, with u of `vectors` >= 5 vectors; the matrix."""
    matrix = rng.standard_normal((7, 5)) @ rng.standard_normal((5, 6))
    u = rng.standard_normal((vectors, 7)) @ matrix
    return Frame.from_basis(operators.MatrixOperator(matrix), u), matrix


def random_covariance(rng: np.random.Generator, size: int, rank: int | None = None) -> np.ndarray:
    factor = rng.standard_normal((size, rank or size)) * rng.uniform(0.3, 2, rank or size)
    return factor @ factor.T


def product_law(rng: np.random.Generator, matrix: np.ndarray, atoms: int = 12) -> tuple:
    """Samples x and y = A x + eps in which x and eps run through all pairs of atoms: their
    second moments are exact, and uncorrelated because the eps have mean zero."""
    x = rng.standard_normal((atoms, matrix.shape[1]))
    e = 0.5 * rng.standard_normal((atoms, matrix.shape[0]))
    e -= e.mean(axis=0)
    pairs = np.repeat(x, atoms, axis=0), np.tile(e, (atoms, 1))
    return (pairs[0], pairs[0] @ matrix.T + pairs[1], x.T @ x / atoms, e.T @ e / atoms)


def integration_frames(size: int, wavelet: str = "db4") -> tuple[Frame, Frame]:
    operator = frames.periodic_integration(size)
    waves, frequencies = frames.fourier_basis(size)
    wavelets, scales = frames.wavelet_basis(size, wavelet, wrap=True)
    return (
        Frame.from_basis(operator, waves[1:], frequencies[1:]),
        Frame.from_basis(operator, wavelets[1:], scales[1:]),
    )


# --------------------------------------------------------------------------------- bases


@pytest.mark.parametrize(
    ("size", "wavelet", "levels"),
    [(64, "haar", 6), (64, "db4", 3), (48, "sym5", 2), (96, "coif1", 5), (32, "db2", 1)],
)
def test_wavelet_coefficients_are_those_of_pywavelets(size: int, wavelet: str, levels: int) -> None:
    basis, scales = frames.wavelet_basis(size, wavelet, levels)
    x = np.random.default_rng(0).standard_normal(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyWavelets warns where every coefficient wraps
        parts = pywt.wavedec(x, wavelet, mode="periodization", level=levels)
    # sym5 is stored to 12 digits
    assert_allclose(basis @ x, np.concatenate(parts), atol=1e-10)
    assert_allclose(basis @ basis.T, np.eye(size), atol=1e-10)
    assert_array_equal(scales, np.repeat(np.arange(levels + 1), [len(p) for p in parts]))


@pytest.mark.parametrize(("size", "wavelet"), [(8, "db4"), (16, "db10"), (64, "coif5")])
def test_wrapped_filters_are_summed_over_the_periods(size: int, wavelet: str) -> None:
    """Brute force: row by row, each filter is written out, upsampled and wrapped."""
    basis, scales = frames.wavelet_basis(size, wavelet, wrap=True)
    assert_allclose(basis @ basis.T, np.eye(size), atol=1e-12)
    assert_allclose(basis[0], 1 / np.sqrt(size), atol=1e-12)
    bank, taps, length = pywt.Wavelet(wavelet), {}, size
    low = np.eye(size)  # rows: the scaling functions of the present level
    while length > 1:
        for name, h in (("low", bank.rec_lo), ("high", bank.rec_hi)):
            step = np.zeros((length // 2, length))
            for k in range(length // 2):
                for n, value in enumerate(h):
                    step[k, (2 * k + n + 1 - len(h) // 2) % length] += value
            taps[name] = step @ low
        assert_allclose(basis[scales == np.log2(length)], taps["high"], atol=1e-12)
        low, length = taps["low"], length // 2


def test_default_levels_stop_where_the_filter_would_not_fit() -> None:
    assert frames.wavelet_basis(64, "db4")[1].max() == 4  # halves 64, 32, 16 and 8
    assert frames.wavelet_basis(64, "db4", wrap=True)[1].max() == 6
    assert frames.wavelet_basis(24, "haar")[1].max() == 3
    assert len(frames.wavelet_basis(2, "haar")[0]) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((64, "db4", 5), "8 taps, more than the 4 samples"),
        ((4, "db4"), "8 taps, more than the 4 samples"),
        ((24, "haar", 4), "multiple"),
        ((9, "haar"), "multiple"),
        ((64, "bior2.2"), "not orthogonal"),
        ((64, "dmey"), "not orthogonal"),
        ((64, "haarr"), "unknown wavelet"),
        ((64, "morl"), "unknown wavelet"),
        ((64, None), "unknown wavelet"),
        ((1, "haar"), "size"),
        ((8.0, "haar"), "size"),
        ((8, "haar", 0), "levels"),
    ],
)
def test_wavelet_basis_refuses(args: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frames.wavelet_basis(*args)


@pytest.mark.parametrize("size", [2, 3, 4, 15, 64])
def test_fourier_coefficients_are_those_of_the_fft(size: int) -> None:
    basis, frequencies = frames.fourier_basis(size)
    assert_allclose(basis @ basis.T, np.eye(size), atol=1e-13)
    x = np.random.default_rng(1).standard_normal(size)
    spectrum = np.fft.rfft(x, norm="ortho")
    c = basis @ x
    for k in range(size // 2 + 1):
        single = k == 0 or 2 * k == size
        expected = [spectrum[k].real]
        if not single:
            expected = [np.sqrt(2) * spectrum[k].real, -np.sqrt(2) * spectrum[k].imag]
        assert_allclose(c[frequencies == k], expected, atol=1e-13)


@pytest.mark.parametrize("size", [2, 3, 8, 31, 64])
def test_periodic_integration_integrates_waves(size: int) -> None:
    operator = frames.periodic_integration(size)
    t = np.arange(size) / size
    assert_allclose(operator.forward(np.ones(size)), 0, atol=1e-15)
    for k in range(1, (size + 1) // 2):
        for phase in (0.0, 0.7):
            x = np.cos(2 * np.pi * k * t + phase)
            y = np.sin(2 * np.pi * k * t + phase) / (2 * np.pi * k)
            assert_allclose(operator.forward(x), y, atol=1e-14)
    if size % 2 == 0:
        nyquist = (-1.0) ** np.arange(size)
        assert_allclose(operator.forward(nyquist), nyquist / (np.pi * size), atol=1e-14)
    assert_array_equal(np.flatnonzero(operator.singular_values == 0), [size - 1])


def test_derivative_energy_of_haar_and_db2_in_closed_form() -> None:
    levels = np.arange(1, 41)
    haar = [frames.derivative_energy("haar", int(j)) for j in levels]
    assert_allclose(haar, 6 * 2.0**levels, rtol=1e-12)
    db2 = [frames.derivative_energy("db2", int(j)) for j in levels]
    # A double eigenvalue splits by the root of the rounding unit.
    assert_allclose(db2, 2 + 10.5 * levels, rtol=1e-8)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db3", "sym4", "coif1"])
def test_derivative_energy_is_that_of_the_cascade_on_the_grid(wavelet: str) -> None:
    for level in (1, 4, 9):
        _, psi, _ = pywt.Wavelet(wavelet).wavefun(level)
        psi = np.concatenate([[0.0], psi, [0.0]])
        energy = (np.diff(psi) ** 2).sum() * 2**level
        assert_allclose(frames.derivative_energy(wavelet, level), energy, rtol=1e-9)


def test_derivative_energy_of_db3_from_its_connection_coefficients() -> None:
    """r'' at the integers: G. Beylkin, SIAM J. Numer. Anal. 29 (1992), Daubechies M = 3."""
    half = [3 / 560, 4 / 35, -92 / 105, 356 / 105]
    second = np.array([0.0, *half, -295 / 56, *half[::-1], 0.0])  # at -5, ..., 5
    g = np.array(pywt.Wavelet("db3").rec_hi)
    limit = -4 * np.correlate(g, g, "full") @ second
    assert_allclose(limit, 36.875, rtol=1e-12)
    assert_allclose(frames.derivative_energy("db3", 100), limit, rtol=1e-9)


def test_derivative_energy_of_db4_by_the_fourier_transform() -> None:
    """The integral of xi^2 |psi^(xi)|^2 / (2 pi).  The trapezoidal rule is exact, because the
    autocorrelation of psi has compact support; only the tail is missing."""
    bank = pywt.Wavelet("db4")
    xi = 0.2 * np.arange(20_000)

    def response(taps: list[float], j: int) -> np.ndarray:
        return np.abs(np.exp(-1j * np.outer(xi / 2**j, np.arange(8))) @ taps) ** 2 / 2

    density = xi**2 * response(bank.rec_hi, 1) / np.pi
    for j in range(2, 30):
        density *= response(bank.rec_lo, j)
    assert_allclose(frames.derivative_energy("db4", 60), 0.2 * density.sum(), rtol=1e-4)


def test_derivative_energy_increases_and_converges_from_db3_on() -> None:
    for wavelet in ("db3", "db4", "sym8", "coif2"):
        e = np.array([frames.derivative_energy(wavelet, j) for j in range(1, 41)])
        assert (np.diff(e) > -1e-8 * e[-1]).all()
        assert e[-1] / e[-2] < 1 + 1e-7
    for bad in (0, 2.0, 201):
        with pytest.raises(ValueError, match="level"):
            frames.derivative_energy("db3", bad)
    with pytest.raises(ValueError, match="not orthogonal"):
        frames.derivative_energy("bior2.2", 3)


# -------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("seed", range(5))
def test_bounds_are_the_extreme_quotients_on_the_span(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((9, 4)) @ rng.standard_normal((4, 6))
    lower, upper = frames.bounds(u)
    assert_allclose([lower, upper], linalg.eigvalsh(u @ u.T)[[-4, -1]], rtol=1e-10)
    x = linalg.orth(u.T) @ rng.standard_normal((4, 2000))
    quotients = ((u @ x) ** 2).sum(axis=0) / (x**2).sum(axis=0)
    assert lower <= quotients.min() and quotients.max() <= upper
    assert_allclose(frames.condition(u), upper / lower)
    dual = Frame(u, u, np.ones(9)).dual
    assert_allclose(frames.bounds(dual), (1 / upper, 1 / lower), rtol=1e-10)


@pytest.mark.parametrize("vectors", [5, 9])
def test_from_basis_solves_the_equations(vectors: int) -> None:
    frame, matrix = random_frame(np.random.default_rng(2), vectors)
    assert_allclose(matrix.T @ frame.v.T, frame.u.T * frame.kappa, atol=1e-12)
    assert_allclose(np.linalg.norm(frame.v, axis=1), 1)
    minimal = np.linalg.pinv(matrix.T, rcond=1e-10) @ frame.u.T
    assert_allclose(frame.v.T, minimal * frame.kappa, atol=1e-12)
    assert_array_equal(frame.scales, np.zeros(vectors))


def test_from_basis_of_singular_vectors_is_the_singular_system() -> None:
    operator = operators.Integration(20)
    frame = Frame.from_basis(operator, operator.synthesise(np.eye(20)), np.arange(20))
    assert_allclose(frame.kappa, operator.singular_values)
    assert_allclose(frame.v, operator.synthesise_range(np.eye(20)), atol=1e-13)
    y, g = np.random.default_rng(3).standard_normal((2, 20))
    assert_allclose(frame.reconstruct(y, g), operator.synthesise(g * operator.analyse(y)))


def test_from_basis_flattens_images() -> None:
    operator = operators.gaussian_blur((8, 4), 0.02)
    basis = np.kron(frames.wavelet_basis(8, "haar")[0], frames.wavelet_basis(4, "haar")[0])
    frame = Frame.from_basis(operator, basis)
    assert_allclose(operator.to_matrix().T @ frame.v.T, basis.T * frame.kappa, atol=1e-12)


@pytest.mark.parametrize("vectors", [5, 9])
def test_gains_one_over_kappa_invert_exactly(vectors: int) -> None:
    rng = np.random.default_rng(4)
    frame, matrix = random_frame(rng, vectors)
    x = rng.standard_normal((3, 2, 6))
    seen = x @ (np.linalg.pinv(matrix, rcond=1e-10) @ matrix)
    assert_allclose(frame.reconstruct(x @ matrix.T, 1 / frame.kappa), seen, atol=1e-11)
    # the canonical dual, from the frame operator
    dual = frame.u @ np.linalg.pinv(frame.u.T @ frame.u, rcond=1e-10)
    assert_allclose(frame.dual, dual, atol=1e-11)
    assert_allclose(frame.analyse(x @ matrix.T), frame.kappa * (x @ frame.u.T), atol=1e-11)


def test_from_basis_refuses_what_the_operator_does_not_see() -> None:
    operator = frames.periodic_integration(16)
    basis, _ = frames.wavelet_basis(16, "haar", 2)
    with pytest.raises(ValueError, match=r"row . of basis is not in N\(A\)\^perp"):
        Frame.from_basis(operator, basis)
    Frame.from_basis(operator, basis[4:])
    with pytest.raises(ValueError, match="row 1 of basis is zero"):
        Frame.from_basis(operator, [basis[5], 0 * basis[5]])
    with pytest.raises(ValueError, match="vectors of length 8"):
        Frame.from_basis(operator, np.eye(8))
    with pytest.raises(TypeError, match="MatrixOperator"):
        Frame.from_basis(np.eye(3), np.eye(3))
    tiny = operators.MatrixOperator(np.eye(3) * 1e-320).compute_singular_system()
    with pytest.raises(ValueError, match="below the smallest number"):
        Frame.from_basis(tiny, np.eye(3))


def test_frame_checks_its_arrays() -> None:
    eye = np.eye(3)
    frame = Frame(eye, eye, np.ones(3), [0, 1, 1])
    assert_array_equal(frame.scales, [0, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        frame.u[0, 0] = 2
    eye[0, 0] = 5.0
    assert frame.u[0, 0] == 1  # a copy
    bad = [
        (eye[:2], eye, np.ones(3)),
        (eye, eye, np.ones(2)),
        (eye, eye, [1, 0, 1]),
        (eye, eye, [1, np.nan, 1]),
        (np.full((3, 3), np.inf), eye, np.ones(3)),
        (eye[0], eye, np.ones(3)),
        (eye, eye, np.ones(3), [0, 1]),
    ]
    for args in bad:
        with pytest.raises(ValueError):
            Frame(*args)
    for args in ((eye * 1j, eye, np.ones(3)), (eye, eye, np.ones(3), [0.0, 1.0, 1.0])):
        with pytest.raises(TypeError):
            Frame(*args)
    for call in (
        lambda: frame.analyse(np.ones(4)),
        lambda: frame.analyse([1, np.nan, 1]),
        lambda: frame.synthesise(np.ones((3, 2))),
        lambda: frame.reconstruct(np.ones(3), 1.0),
        lambda: frames.bounds(np.zeros((2, 2))),
        lambda: frames.bounds(np.ones(2)),
        lambda: frames.union(frame, Frame(eye, np.ones((3, 4)), np.ones(3))),
    ):
        with pytest.raises(ValueError):
            call()


def test_vaguelettes_need_a_wavelet_in_the_sobolev_space() -> None:
    """Orthonormal wavelets on both sizes: only a smooth psi keeps the condition of v bounded."""
    growth = {}
    for wavelet in ("haar", "db2", "db3", "sym8"):
        small, large = (integration_frames(n, wavelet)[1] for n in (64, 256))
        growth[wavelet] = frames.condition(large.v) / frames.condition(small.v)
        ratio = [large.kappa[large.scales == j].mean() for j in (2, 3, 4, 5)]
        steps = np.divide(ratio[:-1], ratio[1:])
        if wavelet == "db2":  # on its way to 2 there is a logarithm
            assert (steps > 1.7).all() and (steps < 1.95).all()
        else:  # 3%: the finest levels feel the grid
            assert_allclose(steps, np.sqrt(2) if wavelet == "haar" else 2.0, rtol=0.03)
    assert growth["haar"] > 4 and growth["db2"] > 1.5
    assert growth["db3"] < 1.25 and growth["sym8"] < 1.01


# --------------------------------------------------------------------------------- gains


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("vectors", [5, 9])
def test_gains_and_risk_against_samples_of_the_law(seed: int, vectors: int) -> None:
    """The formulas with covariances meet least squares over all pairs of atoms."""
    rng = np.random.default_rng(seed)
    frame, matrix = random_frame(rng, vectors)
    x, y, cx, ce = product_law(rng, matrix)
    errors = lambda g: ((frame.reconstruct(y, g) - x) ** 2).sum(axis=1).mean()  # noqa: E731

    decoupled = frames.decoupled_gains(frame, cx, ce)
    for k in range(vectors):
        column = (y @ frame.v[k])[:, None]
        assert_allclose(decoupled[k], np.linalg.lstsq(column, x @ frame.u[k])[0][0], rtol=1e-8)
    assert_allclose(frames.fit_gains(frame, x, y), decoupled, rtol=1e-8)

    joint = frames.joint_gains(frame, cx, ce)
    design = np.einsum("bl,ln->bnl", y @ frame.v.T, frame.dual).reshape(-1, vectors)
    assert_allclose(joint, np.linalg.lstsq(design, x.ravel())[0], rtol=1e-6, atol=1e-8)
    assert_allclose(frames.fit_gains(frame, x, y, joint=True), joint, rtol=1e-6, atol=1e-8)

    for g in (decoupled, joint, rng.standard_normal(vectors)):
        assert_allclose(frames.gain_risk(frame, g, cx, ce), errors(g), rtol=1e-9)
    signal, noise = frames.coefficient_powers(frame, cx, ce)
    assert_allclose(signal, ((x @ frame.u.T) ** 2).mean(axis=0), rtol=1e-9)
    assert_allclose(noise, (((y - x @ matrix.T) @ frame.v.T) ** 2).mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_joint_at_most_decoupled_at_most_the_bound(seed: int) -> None:
    rng = np.random.default_rng(20 + seed)
    frame, matrix = random_frame(rng, int(rng.integers(5, 15)))
    cx, ce = random_covariance(rng, 6), random_covariance(rng, 7) * 10.0 ** rng.uniform(-2, 1)
    seen = np.linalg.pinv(matrix, rcond=1e-10) @ matrix
    cx = seen @ cx @ seen
    g = frames.decoupled_gains(frame, cx, ce)
    decoupled = frames.gain_risk(frame, g, cx, ce)
    joint = frames.gain_risk(frame, frames.joint_gains(frame, cx, ce), cx, ce)
    least = frames.lmmse_risk(operators.MatrixOperator(matrix), cx, ce)
    assert least * (1 - 1e-9) <= joint <= decoupled * (1 + 1e-9)
    signal, noise = frames.coefficient_powers(frame, cx, ce)
    errors = spectral.modal_risk(frame.kappa, signal, noise, g).sum()
    assert decoupled <= errors / frames.bounds(frame.u)[0] * (1 + 1e-9)
    search = minimize(lambda h: frames.gain_risk(frame, h, cx, ce), g, method="BFGS")
    assert joint <= search.fun * (1 + 1e-9)
    assert_allclose(joint, search.fun, rtol=1e-4)


def test_orthonormal_u_decouples_whatever_v_is() -> None:
    rng = np.random.default_rng(5)
    _, frame = integration_frames(32)
    assert frames.condition(frame.v) > 3  # far from orthogonal
    cx, ce = random_covariance(rng, 32), 1e-3 * random_covariance(rng, 32)
    decoupled = frames.decoupled_gains(frame, cx, ce)
    assert_allclose(frames.joint_gains(frame, cx, ce), decoupled, rtol=1e-8)
    signal, noise = frames.coefficient_powers(frame, cx, ce)
    errors = spectral.modal_risk(frame.kappa, signal, noise, decoupled).sum()
    lost = cx.mean(axis=0).sum()  # the power of the constant, which the operator loses
    assert_allclose(frames.gain_risk(frame, decoupled, cx, ce), errors + lost, rtol=1e-9)


def test_lmmse_risk_in_closed_form_and_for_stationary_signals() -> None:
    rng = np.random.default_rng(6)
    matrix = rng.standard_normal((7, 6))
    cx, ce = random_covariance(rng, 6), random_covariance(rng, 7)
    data = matrix @ cx @ matrix.T + ce
    expected = np.trace(cx - cx @ matrix.T @ np.linalg.solve(data, matrix @ cx))
    risk = frames.lmmse_risk(operators.MatrixOperator(matrix), cx, ce)
    assert_allclose(risk, expected, rtol=1e-9)

    operator, (waves, wavelets) = frames.periodic_integration(64), integration_frames(64)
    cx = linalg.circulant(0.9 ** np.minimum(np.arange(64), 64 - np.arange(64)))
    best = frames.lmmse_risk(operator, cx, 1e-4)
    risk = [
        frames.gain_risk(f, frames.decoupled_gains(f, cx, 1e-4), cx, 1e-4)
        for f in (waves, wavelets)
    ]
    assert_allclose(risk[0], best, rtol=1e-9)
    assert risk[1] > 1.01 * best
    assert_allclose(frames.lmmse_risk(operator, cx, 1e-4 * np.eye(64)), best)  # number = white


@pytest.mark.parametrize("stationary", [True, False])
def test_decoupled_gains_of_a_union_average_the_two_reconstructions(stationary: bool) -> None:
    first, second = integration_frames(64)
    both = frames.union(first, second)
    assert_allclose(frames.bounds(both.u), (1, 1))
    assert_allclose(both.dual, both.u, atol=1e-13)
    matrix = frames.periodic_integration(64).to_matrix()
    assert_allclose(matrix.T @ both.v.T, both.u.T * both.kappa, atol=1e-13)
    assert_array_equal(both.scales, np.concatenate([first.scales, second.scales]))

    t = np.arange(64) / 64
    distance = np.abs(t[:, None] - t)
    cx = np.exp(-np.minimum(distance, 1 - distance) / 0.1)
    if not stationary:
        cx *= np.outer(1 + 2 * (t > 0.6), 1 + 2 * (t > 0.6))
    centre = np.eye(64) - 1 / 64
    cx, noise = centre @ cx @ centre, 1e-6
    gains = [frames.decoupled_gains(f, cx, noise) for f in (first, second, both)]
    y = np.random.default_rng(7).standard_normal((5, 64))
    singles = [f.reconstruct(y, g) for f, g in zip((first, second), gains, strict=False)]
    assert_allclose(both.reconstruct(y, gains[2]), sum(singles) / 2, rtol=1e-9, atol=1e-9)

    risks = [
        frames.gain_risk(f, g, cx, noise) for f, g in zip((first, second, both), gains, strict=True)
    ]
    # the parallelogram identity, with the maps written out
    difference = np.subtract(
        *(f.dual.T * g @ f.v for f, g in zip((first, second), gains, strict=False))
    )
    apart = np.trace(difference @ (matrix @ cx @ matrix.T + noise * np.eye(64)) @ difference.T)
    assert_allclose(risks[2], (risks[0] + risks[1]) / 2 - apart / 4, rtol=1e-9)
    joint = frames.gain_risk(both, frames.joint_gains(both, cx, noise), cx, noise)
    assert joint <= min(risks) * (1 + 1e-9)
    best = frames.lmmse_risk(frames.periodic_integration(64), cx, noise)
    assert joint >= best * (1 - 1e-9)
    if stationary:
        assert_allclose(joint, best, rtol=1e-9)
        assert risks[2] > 1.01 * risks[0]  # worse than the better basis


def test_degenerate_gains() -> None:
    rng = np.random.default_rng(8)
    frame, matrix = random_frame(rng, 5)
    cx, zero = random_covariance(rng, 6), np.zeros((6, 6))
    for choose in (frames.decoupled_gains, frames.joint_gains):
        assert_allclose(choose(frame, cx, 0), 1 / frame.kappa, rtol=1e-7)  # no noise
        assert_array_equal(choose(frame, zero, 0.1), np.zeros(5))  # no signal
        assert_array_equal(choose(frame, 0, 0), np.zeros(5))  # no data
    # Every vector twice: the gains are not unique, and joint learning finds the least ones.
    twice = frames.union(frame, frame)
    once = frames.joint_gains(frame, cx, 0.1)
    assert_allclose(frames.joint_gains(twice, cx, 0.1), np.tile(once, 2) / np.sqrt(2), rtol=1e-7)
    x = rng.standard_normal((3, 6))
    assert_array_equal(frames.fit_gains(frame, x, np.zeros((3, 7)), joint=True), np.zeros(5))
    # fewer samples than gains: what is learned fits at least as well as any other gains
    y = x @ matrix.T + 0.1 * rng.standard_normal((3, 7))
    wide, _ = random_frame(np.random.default_rng(8), 30)
    error = lambda g: ((wide.reconstruct(y, g) - x) ** 2).sum()  # noqa: E731
    learned = error(frames.fit_gains(wide, x, y, joint=True))
    assert learned <= error(frames.fit_gains(wide, x, y)) * (1 + 1e-9)


def test_signals_of_one_direction_and_their_rounding() -> None:
    """Powers that are zero up to rounding must not turn negative."""
    _, frame = integration_frames(64)
    cx = np.outer(frame.u[3], frame.u[3])
    signal, _ = frames.coefficient_powers(frame, cx, 1.0)
    assert_allclose(signal, np.arange(63) == 3, atol=1e-12)
    assert (signal >= 0).all()
    assert frames.decoupled_gains(frame, cx, 1e-9)[3] > 0


@pytest.mark.parametrize(
    ("signal", "noise", "message"),
    [
        (np.eye(5), 1.0, r"one number or have the shape \(6, 6\)"),
        (1.0, np.ones(7), r"one number or have the shape \(7, 7\)"),
        (1.0, -0.1, "noise_covariance"),
        (1.0, np.nan, "noise_covariance"),
        (-np.eye(6), 1.0, "positive semidefinite"),
        (np.triu(np.ones((6, 6))), 1.0, "symmetric"),
        (np.full((6, 6), np.inf), 1.0, "finite"),
    ],
)
def test_covariances_are_checked(signal: object, noise: object, message: str) -> None:
    frame, matrix = random_frame(np.random.default_rng(9))
    operator = operators.MatrixOperator(matrix)
    for call in (
        lambda: frames.coefficient_powers(frame, signal, noise),
        lambda: frames.decoupled_gains(frame, signal, noise),
        lambda: frames.joint_gains(frame, signal, noise),
        lambda: frames.gain_risk(frame, np.ones(9), signal, noise),
        lambda: frames.lmmse_risk(operator, signal, noise),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_samples_and_gains_are_checked() -> None:
    frame, matrix = random_frame(np.random.default_rng(10))
    x, y = np.ones((3, 6)), np.ones((3, 7))
    bad = y.copy()
    bad[0, 0] = np.nan
    for args in ((x, y[:2]), (x[:0], y[:0]), (y, x), (x[0], y[0]), (x, bad)):
        for joint in (False, True):
            with pytest.raises(ValueError):
                frames.fit_gains(frame, *args, joint=joint)
    with pytest.raises(TypeError):
        frames.fit_gains(frame, x * 1j, y)
    with pytest.raises(ValueError, match="one entry per vector"):
        frames.gain_risk(frame, np.ones(8), 1.0, 1.0)
    with pytest.raises(TypeError, match="MatrixOperator"):
        frames.lmmse_risk(matrix, 1.0, 1.0)
