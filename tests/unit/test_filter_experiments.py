"""The experiments of chapter 4: their parts, the command, and the stored results."""

from pathlib import Path

import numpy as np
import pytest

from advreg import experiments, filter_experiments, variational

RESULTS = Path(__file__).parents[2] / "chapters" / "04_frames_and_filters" / "results"


# ------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("kind", ["jumps", "smooth", "rectangles", "disks"])
def test_pairs_differ_by_the_noise_and_repeat(kind):
    x, y = filter_experiments.pairs(kind, 60, 24, 3, noise=0.2)
    assert x.shape == y.shape == ((60, 24) if kind in ("jumps", "smooth") else (60, 24, 24))
    again = filter_experiments.pairs(kind, 60, 24, 3, noise=0.2)
    np.testing.assert_array_equal(again, (x, y))
    assert np.std(y - x) == pytest.approx(0.2, rel=4 / np.sqrt(2 * x.size))
    silent = filter_experiments.pairs(kind, 4, 24, 3, noise=0.0)
    np.testing.assert_array_equal(*silent)


@pytest.mark.parametrize("kind", ["jumps", "disks"])
def test_an_offset_is_one_number_per_sample(kind):
    x, y = filter_experiments.pairs(kind, 400, 16, 5)
    moved, data = filter_experiments.pairs(kind, 400, 16, 5, offset=3.0)
    change = (moved - x).reshape(400, -1)
    np.testing.assert_allclose(np.ptp(change, axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(data - moved, y - x, atol=1e-12)
    assert change[:, 0].std() == pytest.approx(3.0, rel=4 / np.sqrt(800))


def test_pairs_refuse_in_a_sentence():
    with pytest.raises(ValueError, match="kind must be one of jumps, smooth, rectangles, disks"):
        filter_experiments.pairs("photographs", 2, 8, 0)
    with pytest.raises(ValueError, match="seed"):
        filter_experiments.pairs("jumps", 2, 8, -1)


def test_a_disk_is_round_and_wraps_around():
    rng = np.random.default_rng(1)
    for image in filter_experiments.disks(30, 40, rng, pieces=1):
        inside = image != 0
        assert 0.6 * np.pi * 5**2 < inside.sum() < 1.4 * np.pi * 10**2
        assert np.ptp(image[inside]) == 0
        # the same disk, moved to the middle, has the same width in both directions
        middle = inside
        for axis in (0, 1):
            empty = np.flatnonzero(~middle.any(axis=1 - axis))
            gap = empty[np.flatnonzero(np.diff(np.r_[empty, empty[0] + 40]) > 1)[0]]
            middle = np.roll(middle, -gap - 1, axis=axis)
        rows, columns = (np.flatnonzero(middle.any(axis=a)) for a in (1, 0))
        assert np.ptp(rows) == rows.size - 1 and np.ptp(columns) == columns.size - 1
        assert abs(rows.size - columns.size) <= 1


def test_the_error_of_filters_is_that_of_the_minimizers():
    x, y = filter_experiments.pairs("jumps", 5, 16, 0)
    k = np.array([[-0.5, 0.4]])
    end = variational.denoise(y, k, filter_experiments.POTENTIAL, tol=1e-10).x
    assert filter_experiments.test_error(x, y, k) == pytest.approx(
        np.mean((end - x) ** 2), rel=1e-4
    )


def test_tuning_agrees_with_trying_every_weight():
    x, y = filter_experiments.pairs("jumps", 8, 32, 2)
    tv = variational.tv_filters(1)
    errors = [filter_experiments.test_error(x, y, w * tv) for w in filter_experiments.WEIGHTS]
    found = filter_experiments.tuned(x, y, tv)
    assert found.error == min(errors)
    assert found.weight == filter_experiments.WEIGHTS[int(np.argmin(errors))]
    with pytest.raises(ValueError, match="last of its grid"):
        filter_experiments.tuned(x, y, tv, weights=np.geomspace(0.05, 0.2, 9))
    with pytest.raises(ValueError, match="last of its grid"):
        filter_experiments.tuned(x, y, tv, weights=np.geomspace(1.0, 2.0, 9))


def test_isotropic_total_variation_is_periodic_and_that_of_a_dense_solver():
    rng = np.random.default_rng(4)
    y = rng.standard_normal((1, 8, 8))
    out = filter_experiments._isotropic(y, 0.2)
    moved = filter_experiments._isotropic(np.roll(y, (3, 5), axis=(1, 2)), 0.2)
    np.testing.assert_allclose(moved, np.roll(out, (3, 5), axis=(1, 2)), atol=0.03)

    def value(x):  # periodic, forward differences
        slopes = [np.roll(x, -1, axis) - x for axis in (1, 2)]
        return 0.5 * ((x - y) ** 2).sum() + 0.2 * np.hypot(*slopes).sum()

    trials = [out + s * rng.standard_normal(y.shape) for s in (0.02, 0.1) for _ in range(200)]
    assert min(map(value, trials)) > value(out)
    assert value(out) < min(value(y), value(np.full(y.shape, y.mean())))


def test_a_filter_is_described_without_regard_to_shift_sign_and_order():
    k = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, -3.0, 4.0, 0.0], [0.03, 0.0, 0.04, 0.0]])
    shape = filter_experiments.describe(k)
    np.testing.assert_array_equal(shape.order, [1, 2, 0])
    np.testing.assert_allclose(shape.norm, [5, 0.05, 0])
    np.testing.assert_allclose(shape.offset, [1 / 7, 1, 0])
    np.testing.assert_allclose(shape.two_taps, [1, 1, 0])
    np.testing.assert_array_equal(shape.dead, [False, True, True])
    same = filter_experiments.describe(-np.roll(k, 1, axis=1)[[2, 0, 1]])
    for one, other in zip(shape[:4], same[:4], strict=True):
        np.testing.assert_allclose(one, other)
    three = filter_experiments.describe([[[1.0, 2.0], [-2.0, 0.0]]])
    assert three.two_taps[0] == pytest.approx(8 / 9) and three.offset[0] == pytest.approx(1 / 5)
    assert not filter_experiments.describe(np.zeros((2, 3))).dead.any()


@pytest.mark.parametrize("taps", [2, 3, 5, 6])
def test_aligned_filters_denoise_alike_and_do_not_depend_on_shift_and_sign(taps):
    rng = np.random.default_rng(taps)
    k = np.zeros((3, taps))
    k[0, :2], k[1], k[2, -1] = [-1.0, 1.02], rng.standard_normal(taps), 0.3
    shown = filter_experiments.aligned(k)
    assert shown.shape == (3, 2 * taps - 1)
    for one, other in zip(k, shown, strict=True):  # the same filter up to shift and sign
        products = np.correlate(other, one, "full")
        assert np.abs(products).max() == pytest.approx(one @ one)
        assert np.sum(other**2) == pytest.approx(one @ one)
    moved = -np.roll(k[:1], taps - 2, axis=1)
    np.testing.assert_allclose(filter_experiments.aligned(moved), shown[:1])
    np.testing.assert_allclose(shown[0, taps - 1 : taps + 1], [-1.0, 1.02])
    assert not filter_experiments.aligned(np.zeros((1, taps))).any()


def test_likeness():
    mixed, tv = filter_experiments.MIXED[0], variational.tv_filters(2)
    k = np.zeros((4, 3, 3))
    k[0, 1:, :2], k[1, 0, 1:], k[2, 1, 1] = -2 * mixed, [0.1, -0.1], 5
    like = filter_experiments.likeness(k, mixed)
    np.testing.assert_allclose(like, [1, 2 / np.sqrt(8), 1 / 2, 0])
    np.testing.assert_allclose(
        filter_experiments.likeness(k, tv[0])[:3], [2 / np.sqrt(8), 1, 0.5**0.5]
    )
    np.testing.assert_allclose(filter_experiments.likeness([[0, 1, -1]], [-1, 1]), [1])
    np.testing.assert_allclose(filter_experiments.likeness([[1, -2, 1]], [-1, 1]), [3 / 12**0.5])


# ------------------------------------------------------------------------------ the command


def run(folder, *words):
    return filter_experiments.main(["images", "--out", str(folder / "r.json"), *words])


def test_a_small_run_from_end_to_end(tmp_path, capsys):
    assert run(tmp_path, "--seeds", "3", "--epochs", "2", "--images", "2") == 0
    result = filter_experiments.load(tmp_path / "r.json")
    assert len(result["rows"]) == 14 and result["noise"] == 0.3
    x, y = filter_experiments.pairs("disks", 2, 20, 6)
    new_x, new_y = filter_experiments.pairs("disks", 48, 20, 7)
    for row in result["rows"]:
        if row["data"] != "disks" or "filters" not in row:
            continue
        k = np.array(row["filters"])
        assert row["iterations"] <= 2
        for key, (a, b) in {"train": (x, y), "test": (new_x, new_y)}.items():
            error = filter_experiments.test_error(a, b, k, filter_experiments.SHARP)
            assert row[key] == pytest.approx(error, rel=1e-3)
        push = row["sparsity"] * np.abs(k).sum()
        assert row["losses"][-1] == pytest.approx(row["train"] / 2 + push, rel=0.05)
    where = {"data": "rectangles", "method": "tv"}
    weight = experiments.column(result, "weight", **where)[0]
    x, y = filter_experiments.pairs("rectangles", 2, 20, 6)
    tv = variational.tv_filters(2)
    near = [
        filter_experiments.test_error(x, y, f * weight * tv, filter_experiments.SHARP)
        for f in (0.94, 1, 1.06)
    ]
    assert (
        min(near)
        == near[1]
        == pytest.approx(experiments.column(result, "train", **where)[0], rel=1e-6)
    )
    assert run(tmp_path, "--seeds", "3", "--epochs", "2", "--images", "2") == 0
    assert "holds this result already" in capsys.readouterr().out


def test_a_small_attacked_run(monkeypatch):
    monkeypatch.setattr(filter_experiments, "RADII", (0.0, 1.0))
    few = {"clean": ("clean", 0.0), "attack-1": ("attack", 1.0), "jitter-1": ("jitter", 1.0)}
    monkeypatch.setattr(filter_experiments, "ADVERSARIAL", few)
    rows = filter_experiments._adversarial(2, 3, 4)
    assert [row["method"] for row in rows] == list(few)
    x, y = filter_experiments.pairs("jumps", 64, 64, 105)
    for row in rows:
        k = np.array(row["filters"])
        assert k.shape == (1, 5) and row["strength"] == pytest.approx(np.abs(k).sum() / 2, rel=1e-3)
        clean, attacked = row["attacked"]
        assert clean == pytest.approx(filter_experiments.test_error(x, y, k), rel=1e-3)
        # an attack of length 1 can add 2 |error| + 1 to the square, and does more than nothing
        errors = ((variational.denoise(y, k, filter_experiments.POTENTIAL).x - x) ** 2).sum(axis=1)
        assert clean < attacked < ((np.sqrt(errors) + 1) ** 2).mean() / 64 * 1.001
        assert row["random_start"][1] == pytest.approx(attacked, rel=0.05)
    assert rows[1]["losses"][1] <= rows[1]["losses"][0]  # the best of three steps
    assert np.abs(np.array(rows[0]["filters"]) - rows[2]["filters"]).max() > 1e-3


def test_an_interrupted_command_goes_on(tmp_path, monkeypatch, capsys):
    done = []

    def work(seed, epochs, images):
        if done == [0]:
            done.append("cut")
            raise KeyboardInterrupt
        done.append(seed)
        return [{"method": "a", "seed": seed, "value": seed / 3}]

    monkeypatch.setitem(
        filter_experiments.EXPERIMENTS,
        "images",
        (work, *filter_experiments.EXPERIMENTS["images"][1:]),
    )
    assert run(tmp_path, "--seeds", "0,1") == 130
    assert "finished seeds are kept" in capsys.readouterr().out
    assert run(tmp_path, "--seeds", "0,1") == 0
    assert done == [0, "cut", 1]
    assert filter_experiments.load(tmp_path / "r.json")["rows"][1]["value"] == pytest.approx(1 / 3)


def test_the_command_refuses_in_a_sentence(tmp_path, capsys):
    for words, message in (
        (["nothing", "--out", "x"], "invalid choice"),
        (["images", "--out", "x", "--seeds", "3-1"], "names no seed"),
        (["images", "--out", "x", "--images", "1"], "is not an integer of at least"),
    ):
        with pytest.raises(SystemExit) as error:
            filter_experiments.main(words)
        assert error.value.code == 2 and message in capsys.readouterr().err
    assert run(tmp_path / "no", "--seeds", "0") == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "r.json").mkdir()
    assert run(tmp_path, "--seeds", "0") == 2
    assert "is a folder" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"python -m advreg.filter_experiments images"):
        filter_experiments.load(tmp_path / "images.json")


# ------------------------------------------------------------------------------ stored results


def test_the_stored_images_are_whole_and_small():
    result = filter_experiments.load(RESULTS / "images.json")
    assert len(result["seeds"]) >= 3 and len(result["rows"]) == 14 * len(result["seeds"])
    assert (RESULTS / "images.json").stat().st_size < 100_000
    seed = result["seeds"][-1]  # stored numbers are those of the stored filters
    for kind, method in (("rectangles", "K4-mu0.0003"), ("disks", "K2-mu0")):
        row = next(
            r for r in result["rows"] if (r["seed"], r["data"], r["method"]) == (seed, kind, method)
        )
        x, y = filter_experiments.pairs(kind, 48, 20, 2 * seed + 1)
        error = filter_experiments.test_error(x, y, row["filters"], filter_experiments.SHARP)
        assert row["test"] == pytest.approx(error, rel=2e-3)
        shape = filter_experiments.describe(row["filters"])
        assert np.argsort(shape.order).tolist() == list(range(row["count"]))
        assert row["dead"] == shape.dead.sum()
