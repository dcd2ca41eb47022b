"""Labelled images: the digits of scikit-learn, and files in the formats of MNIST and CIFAR-10."""

import gzip
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from advreg import data

# ------------------------------------------------------------------------------- digits


def _rows(images):
    return {row.tobytes() for row in images.reshape(len(images), -1)}


def test_digits_is_a_split_of_the_whole_set():
    parts = data.digits(np.random.default_rng(0))
    assert [len(part) for part in parts] == [1000, 1000, 797, 797]
    assert parts.train_x.shape[1:] == (1, 8, 8)
    assert parts.train_x.dtype == np.float32 and parts.train_y.dtype == np.int64
    x, y = load_digits(return_X_y=True)
    everything = np.concatenate([parts.train_x, parts.test_x])
    assert _rows(everything) == _rows((x / 16).astype(np.float32))
    assert everything.min() == 0 and everything.max() == 1
    # every image keeps its label: compare as multisets of (image, label)
    table = {
        row.tobytes(): label for row, label in zip((x / 16).astype(np.float32), y, strict=True)
    }
    for images, labels in ((parts.train_x, parts.train_y), (parts.test_x, parts.test_y)):
        assert [table[i.reshape(-1).tobytes()] for i in images] == labels.tolist()


def test_digits_are_drawn_by_the_generator_alone():
    first, again, other = (data.digits(np.random.default_rng(s)) for s in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.train_y != other.train_y).any()


@pytest.mark.parametrize("size", [16, 32])
def test_larger_digits_are_interpolated_linearly(size):
    import torch

    small = data.digits(np.random.default_rng(3), train=40)
    large = data.digits(np.random.default_rng(3), train=40, size=size)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(small.train_x), size=(size, size), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(large.train_x, expected, atol=1e-6)  # float32 rounding
    assert large.train_x.min() >= 0 and large.train_x.max() <= 1
    np.testing.assert_array_equal(large.train_y, small.train_y)


@pytest.mark.parametrize("bad", [{"train": 0}, {"train": 1797}, {"size": 7}, {"size": True}])
def test_digits_refuses(bad):
    with pytest.raises(ValueError, match=r"train|size"):
        data.digits(np.random.default_rng(0), **bad)


def test_digits_wants_a_generator():
    with pytest.raises(TypeError, match="default_rng"):
        data.digits(0)


# -------------------------------------------------------------------------------- MNIST


def _idx(values):
    """An IDX file written from the published description: 0, 0, type, axes, lengths, values."""
    head = bytes([0, 0, 8, values.ndim])
    return head + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


def _write_mnist(folder, rng, counts=(6, 3), pack=False):
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, n in zip(("train", "t10k"), counts, strict=True):
        x = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        y = rng.integers(0, 10, n, dtype=np.uint8)
        parts += [x, y]
        for kind, values in (("images-idx3", x), ("labels-idx1", y)):
            content, path = _idx(values), folder / f"{name}-{kind}-ubyte"
            if pack:
                content, path = gzip.compress(content), path.with_name(f"{path.name}.gz")
            path.write_bytes(content)
    return parts


@pytest.mark.parametrize("inside", ["", "MNIST/raw", "raw"])
@pytest.mark.parametrize("pack", [False, True])
def test_mnist_reads_what_was_written(tmp_path, inside, pack):
    x, y, test_x, test_y = _write_mnist(tmp_path / inside, np.random.default_rng(0), pack=pack)
    parts = data.mnist(tmp_path)
    assert parts.train_x.shape == (6, 1, 28, 28) and parts.train_x.dtype == np.float32
    np.testing.assert_array_equal(np.rint(parts.train_x[:, 0] * 255), x)
    np.testing.assert_array_equal(np.rint(parts.test_x[:, 0] * 255), test_x)
    np.testing.assert_array_equal(parts.train_y, y)
    np.testing.assert_array_equal(parts.test_y, test_y)
    assert 0 <= parts.train_x.min() and parts.train_x.max() <= 1


def _cut(content):
    return content[:-1]


def _head(content):
    return content[:6]


def _magic(content):
    return b"\x00\x00\x0d" + content[3:]


@pytest.mark.parametrize("damage", [_cut, _head, _magic, lambda c: b"", lambda c: c + b"\x00"])
def test_mnist_refuses_a_damaged_file(tmp_path, damage):
    _write_mnist(tmp_path, np.random.default_rng(0))
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="t10k-images"):
        data.mnist(tmp_path)


def test_mnist_refuses_a_header_that_promises_too_much(tmp_path):
    _write_mnist(tmp_path, np.random.default_rng(0))
    path = tmp_path / "train-images-idx3-ubyte"
    lengths = b"".join(n.to_bytes(4, "big") for n in (2**22, 2**21, 2**21))
    path.write_bytes(bytes([0, 0, 8, 3]) + lengths)  # 2^64 values, which must not count as 0
    with pytest.raises(ValueError, match="promises"):
        data.mnist(tmp_path)


def test_mnist_refuses_what_does_not_fit_together(tmp_path):
    _write_mnist(tmp_path, np.random.default_rng(0))
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(_idx(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match="6 images, but 5 labels"):
        data.mnist(tmp_path)
    path.write_bytes(_idx(np.full(6, 10, np.uint8)))
    with pytest.raises(ValueError, match="label 10"):
        data.mnist(tmp_path)


def test_mnist_refuses_a_damaged_archive(tmp_path):
    _write_mnist(tmp_path, np.random.default_rng(0), pack=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content in (whole[:-20], b"no archive", whole[:30] + b"\xff\xff\xff" + whole[33:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"train-images.*gz"):
            data.mnist(tmp_path)


@pytest.mark.parametrize("read", [data.mnist, data.cifar10])
def test_a_missing_folder_is_named(tmp_path, read):
    for folder, what in ((tmp_path, "no such file"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(FileNotFoundError, match=what) as error:
            read(folder)
        assert str(folder) in str(error.value) and "home page" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    _write_mnist(tmp_path, np.random.default_rng(0))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        data.mnist(tmp_path)


# ----------------------------------------------------------------------------- CIFAR-10


def _batches(rng, n=4):
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {
        name: (
            rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8),
            rng.integers(0, 10, n, dtype=np.uint8),
        )
        for name in names
    }


def _write_binary(folder: Path, batches):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in batches.items():
        records = [bytes([label]) + image.tobytes() for image, label in zip(x, y, strict=True)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))


def _write_python(folder: Path, batches, protocol=2):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in batches.items():
        batch = {
            b"batch_label": b"a batch",
            b"labels": y.tolist(),
            b"data": x.reshape(len(x), -1),
            b"filenames": [b"a.png"] * len(x),
        }
        content = pickle.dumps(batch, protocol=protocol)
        # the published files name numpy's modules as they were called before numpy 2
        (folder / name).write_bytes(content.replace(b"numpy._core", b"numpy.core"))


@pytest.mark.parametrize("inside", ["", "python"])
@pytest.mark.parametrize("write", [_write_binary, _write_python])
def test_cifar10_reads_what_was_written(tmp_path, write, inside):
    batches = _batches(np.random.default_rng(1))
    version = "cifar-10-batches-bin" if write is _write_binary else "cifar-10-batches-py"
    write(tmp_path / (version if inside else ""), batches)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = data.cifar10(tmp_path)
    assert parts.train_x.shape == (20, 3, 32, 32) and parts.test_x.shape == (4, 3, 32, 32)
    assert parts.train_x.dtype == np.float32 and parts.train_y.dtype == np.int64
    expected = [np.concatenate(part) for part in zip(*list(batches.values())[:5], strict=True)]
    np.testing.assert_array_equal(np.rint(parts.train_x * 255), expected[0])
    np.testing.assert_array_equal(parts.train_y, expected[1])
    np.testing.assert_array_equal(np.rint(parts.test_x * 255), batches["test_batch"][0])
    np.testing.assert_array_equal(parts.test_y, batches["test_batch"][1])


@pytest.mark.parametrize("damage", [_cut, lambda c: b"", lambda c: c + b"\x00"])
def test_cifar10_refuses_a_damaged_binary_file(tmp_path, damage):
    _write_binary(tmp_path, _batches(np.random.default_rng(1)))
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"data_batch_3\.bin.*3073"):
        data.cifar10(tmp_path)


def test_cifar10_refuses_a_label_out_of_range(tmp_path):
    _write_binary(tmp_path, _batches(np.random.default_rng(1)))
    path = tmp_path / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(ValueError, match="label 10"):
        data.cifar10(tmp_path)


class _Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path):
    _write_python(tmp_path, _batches(np.random.default_rng(1)))
    target = tmp_path / "ran"
    path = tmp_path / "data_batch_2"
    path.write_bytes(pickle.dumps({b"data": _Malicious(target), b"labels": []}, protocol=2))
    pickle.loads(path.read_bytes())  # the ordinary reader does run it
    assert target.exists()
    target.unlink()
    with pytest.raises(ValueError, match="data_batch_2 was refused"):
        data.cifar10(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    "payload", [b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n."]
)
def test_functions_are_not_data(tmp_path, payload):
    _write_python(tmp_path, _batches(np.random.default_rng(1)))
    (tmp_path / "test_batch").write_bytes(payload)
    with pytest.raises(ValueError, match="no data"):
        data.cifar10(tmp_path)


@pytest.mark.parametrize(
    "batch",
    [
        [],
        {b"labels": [0] * 2},
        {b"data": np.zeros((2, 3072)), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, "1"]},
    ],
)
def test_cifar10_refuses_other_pickles(tmp_path, batch):
    _write_python(tmp_path, _batches(np.random.default_rng(1)))
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(ValueError, match="not a batch of CIFAR-10"):
        data.cifar10(tmp_path)


def test_cifar10_refuses_a_pickle_cut_short(tmp_path):
    _write_python(tmp_path, _batches(np.random.default_rng(1)))
    path = tmp_path / "data_batch_5"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="data_batch_5"):
        data.cifar10(tmp_path)


def test_cifar10_names_the_missing_batch(tmp_path):
    _write_binary(tmp_path, _batches(np.random.default_rng(1)))
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_4\.bin"):
        data.cifar10(tmp_path)
