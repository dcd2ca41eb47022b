"""The device is chosen on purpose, and refused in plain words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from advreg import device


def test_environment_overrides_and_argument_wins(monkeypatch):
    monkeypatch.setenv("ADVREG_DEVICE", "cpu")
    assert device.choose() == torch.device("cpu")
    monkeypatch.setenv("ADVREG_DEVICE", "nonsense")
    assert device.choose("cpu") == torch.device("cpu")


def test_default_is_cuda_where_present(monkeypatch):
    monkeypatch.delenv("ADVREG_DEVICE", raising=False)
    monkeypatch.setattr(device, "_settled", True)  # leaves torch's precision as it is
    for present, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda p=present: p)
        monkeypatch.setattr(torch.cuda, "device_count", lambda p=present: int(p))
        assert device.choose().type == name


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="accepted are"):
        device.choose(name)


def test_cuda_that_is_absent_is_an_error_and_no_fallback(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="finds 1 CUDA devices"):
        device.choose("cuda:1")


def test_the_first_choice_of_cuda_makes_float32_exact_and_later_settings_stand():
    """In a process of its own; read through both of torch's interfaces, which must agree."""
    import subprocess
    import sys

    code = """
import warnings
warnings.simplefilter("error")
import torch
from advreg import device
conv, matmul, cudnn = torch.backends.cudnn.conv, torch.backends.cuda.matmul, torch.backends.cudnn
torch.cuda.device_count = lambda: 1
matmul.allow_tf32 = cudnn.benchmark = True
assert cudnn.allow_tf32 and not cudnn.deterministic  # torch's default, and what is wrong with it
assert device.choose("cpu").type == "cpu" and matmul.allow_tf32  # the CPU touches nothing
assert device.choose("cuda").type == "cuda"
assert not matmul.allow_tf32 and not cudnn.allow_tf32
assert {p.fp32_precision for p in (conv, cudnn.rnn, matmul)} == {"ieee"}
assert torch.get_float32_matmul_precision() == "highest"
assert cudnn.deterministic and not cudnn.benchmark
conv.fp32_precision = "tf32"
device.choose("cuda:0")
assert conv.fp32_precision == "tf32"  # asked for after the choice
device.exact_float32(deterministic=False)
assert conv.fp32_precision == "ieee" and not cudnn.deterministic
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_seeds_repeat():
    first, second = device.seeded(3, torch.device("cpu")), device.seeded(3, torch.device("cpu"))
    np.testing.assert_array_equal(first[0].normal(size=5), second[0].normal(size=5))
    assert torch.equal(torch.rand(5, generator=first[1]), torch.rand(5, generator=second[1]))


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="non-negative integer"):
        device.seeded(seed)


def test_importing_the_package_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, advreg.operators, advreg.spectral, advreg.plotting, advreg.device; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
