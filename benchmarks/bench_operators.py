"""Operators against their peers: astra-toolbox, scikit-image, and numpy's dense SVD.

Run ``make bench``.  Each test asserts that both sides give the same answer.  The dense
decomposition of the 64 x 64 tomography matrix takes a minute and more: it runs only with
``ADVREG_BENCH_FULL=1``.
"""

import os

import numpy as np
import pytest

from advreg import data
from advreg.operators import Integration, ParallelBeam


@pytest.fixture(scope="module")
def scanner():
    return ParallelBeam(128, 180)


@pytest.fixture(scope="module")
def phantom():
    return data.shepp_logan(128)


@pytest.fixture(scope="module")
def sinogram(scanner):
    return data.shepp_logan_sinogram(scanner.angles, scanner.detector_grid)


class Astra:
    """The leanest use of astra on a CPU: data and algorithms made once, then only run."""

    def __init__(self, astra, scanner, kind):
        self.astra = astra
        volume = astra.create_vol_geom(scanner.size, scanner.size)
        rays = astra.create_proj_geom("parallel", 1.0, scanner.detectors, scanner.angles)
        self.image_id = astra.data2d.create("-vol", volume)
        self.sinogram_id = astra.data2d.create("-sino", rays)
        self.projector = astra.create_projector(kind, rays, volume)
        self.algorithms = {}
        for name, side in (("FP", "VolumeDataId"), ("BP", None), ("FBP", None)):
            config = astra.astra_dict(name)
            config["ProjectorId"] = self.projector
            config["ProjectionDataId"] = self.sinogram_id
            config[side or "ReconstructionDataId"] = self.image_id
            self.algorithms[name] = astra.algorithm.create(config)

    def run(self, name):
        self.astra.algorithm.run(self.algorithms[name])

    def image(self):
        return self.astra.data2d.get(self.image_id)

    def sinogram(self):
        return self.astra.data2d.get(self.sinogram_id)

    def close(self):
        self.astra.algorithm.delete(list(self.algorithms.values()))
        self.astra.projector.delete(self.projector)
        self.astra.data2d.delete([self.image_id, self.sinogram_id])


@pytest.fixture(params=["linear", "line"])
def astra(request, scanner):
    module = pytest.importorskip(
        "astra", reason="astra-toolbox is not installed: pip install 'advreg[bench]'"
    )
    peer = Astra(module, scanner, request.param)
    peer.kind = request.param
    yield peer
    peer.close()


# "linear" is Joseph's rule as ours, in float32; "line" weighs pixels by lengths of intersection
ASTRA_GAP = {"linear": 2e-3, "line": 0.15}


def test_forward_astra(compare, astra, scanner, phantom):
    astra.astra.data2d.store(astra.image_id, phantom)
    astra.run("FP")
    ours = scanner.forward(phantom)
    gap = np.abs(ours - scanner.step * astra.sinogram()).max()
    assert gap < ASTRA_GAP[astra.kind] * ours.max()
    compare(
        "tomography 128, 180 angles: forward",
        lambda: scanner.forward(phantom),
        f"astra-toolbox, {astra.kind}",
        lambda: astra.run("FP"),
        goal=3,
    )


def test_adjoint_astra(compare, astra, scanner, sinogram):
    astra.astra.data2d.store(astra.sinogram_id, sinogram)
    astra.run("BP")
    ours = scanner.adjoint(sinogram)
    gap = np.abs(ours - scanner.step * astra.image()).max()
    assert gap < ASTRA_GAP[astra.kind] * ours.max()
    compare(
        "tomography 128, 180 angles: adjoint",
        lambda: scanner.adjoint(sinogram),
        f"astra-toolbox, {astra.kind}",
        lambda: astra.run("BP"),
        goal=3,
    )


def psnr(image, truth):
    return -10 * np.log10(np.mean((image - truth) ** 2))


def test_fbp_astra(compare, astra, scanner, phantom, sinogram):
    scanner.fbp(sinogram)  # builds the interpolation matrix, kept from then on
    astra.astra.data2d.store(astra.sinogram_id, sinogram / scanner.step)
    astra.run("FBP")
    ours, theirs = psnr(scanner.fbp(sinogram), phantom), psnr(astra.image(), phantom)
    print(f"\nPSNR of filtered back-projection: ours {ours:.2f} dB, astra {theirs:.2f} dB")
    assert ours > theirs - 0.1
    compare(
        "tomography 128, 180 angles: filtered back-projection",
        lambda: scanner.fbp(sinogram),
        f"astra-toolbox, {astra.kind}",
        lambda: astra.run("FBP"),
    )


@pytest.fixture(scope="module")
def odd_scanner():
    """An odd size: skimage turns about pixel size // 2, which is the centre only then."""
    return ParallelBeam(129, 180)


def test_forward_skimage(compare, odd_scanner):
    from skimage.transform import radon

    phantom, degrees = data.shepp_logan(129), np.rad2deg(odd_scanner.angles)
    ours = odd_scanner.forward(phantom)
    gap = odd_scanner.step * radon(phantom, degrees, circle=False).T - ours
    assert np.linalg.norm(gap) < 0.05 * np.linalg.norm(ours)  # two rules of interpolation
    compare(
        "tomography 129, 180 angles: forward",
        lambda: odd_scanner.forward(phantom),
        "skimage.radon",
        lambda: radon(phantom, degrees, circle=False),
        rounds=5,
    )


def test_fbp_skimage(compare, odd_scanner):
    from skimage.transform import iradon

    sinogram = data.shepp_logan_sinogram(odd_scanner.angles, odd_scanner.detector_grid)
    columns, degrees = sinogram.T / odd_scanner.step, np.rad2deg(odd_scanner.angles)

    def theirs():
        return iradon(columns, degrees, output_size=129, circle=False)

    np.testing.assert_allclose(odd_scanner.fbp(sinogram), theirs(), atol=1e-12)
    compare(
        "tomography 129, 180 angles: filtered back-projection",
        lambda: odd_scanner.fbp(sinogram),
        "skimage.iradon",
        theirs,
        rounds=5,
    )


full = pytest.mark.skipif(
    "ADVREG_BENCH_FULL" not in os.environ, reason="takes minutes: set ADVREG_BENCH_FULL=1"
)


@pytest.mark.parametrize("size, rounds", [(32, 3), (48, 2), pytest.param(64, 1, marks=full)])
def test_singular_system(compare, size, rounds):
    scanner = ParallelBeam(size, size)
    matrix = scanner.to_matrix()
    found = {}

    def dense():
        found["dense"] = np.linalg.svd(matrix, full_matrices=False)

    def by_symmetry():
        found["ours"] = scanner.compute_singular_system()

    compare(
        f"singular system of tomography {size}, {size} angles",
        by_symmetry,
        "numpy.linalg.svd (gesdd)",
        dense,
        goal=20 if size == 64 else None,
        rounds=rounds,
    )
    expected = found["dense"].S
    assert np.abs(found["ours"].singular_values - expected).max() < 1e-12 * expected[0]


def test_coefficients_of_integration(compare):
    size = 512
    y = np.random.default_rng(0).standard_normal(size)
    matrix = Integration(size).to_matrix()

    def exact():
        operator = Integration(size)
        return operator.singular_values, operator.analyse(y)

    def dense():
        v, sigma, _ = np.linalg.svd(matrix)
        return sigma, v.T @ y

    for ours, theirs in zip(exact(), dense(), strict=True):
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)
    compare(
        f"singular values, one analysis, integration {size}",
        exact,
        "numpy.linalg.svd (gesdd)",
        dense,
        rounds=5,
    )


@pytest.mark.parametrize("batch", [1, 64])
def test_transform_of_integration(compare, batch):
    size = 1024
    operator = Integration(size)
    y = np.random.default_rng(0).standard_normal((batch, size))
    v = operator.synthesise_range(np.eye(size)).T
    np.testing.assert_allclose(operator.analyse(y), y @ v, atol=1e-11)
    compare(
        f"coefficients of {batch} data vectors, integration {size}",
        lambda: operator.analyse(y),
        "dense y @ V, V given",
        lambda: y @ v,
    )
