"""Pages on another device: the test double catches mistakes, and the tool compares and records."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from advreg import (
    attacks,
    device,
    experiments,
    networks,
    relu,
    training,
    twolayer,
    wdro_attacks,
    wdro_networks,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import pretend_cuda  # noqa: E402

spec = importlib.util.spec_from_file_location("tools_on_device", ROOT / "tools/on_device.py")
on_device = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = on_device
spec.loader.exec_module(on_device)


@pytest.fixture
def cuda(monkeypatch):
    """The pretend device."""
    monkeypatch.setattr(device, "_settled", True)  # leaves torch's precision as it is
    with pretend_cuda.Pretend():
        yield device.choose("cuda")


def batch(where, n=20, dtype=torch.float32):
    rng = np.random.default_rng(3)
    x = torch.as_tensor(rng.uniform(size=(n, 1, 8, 8)), dtype=dtype, device=where)
    return x, torch.as_tensor(rng.integers(0, 10, n), device=where)


def small(where, dtype=torch.float32):
    start = torch.Generator().manual_seed(0)
    return networks.mlp([64, 16, 10], generator=start, device=where, dtype=dtype)


def cpu_labels(where):
    x, y = batch(where)
    return torch.nn.functional.cross_entropy(small(where)(x), y.cpu())


def cpu_inputs(where):
    return small(where)(batch("cpu")[0])


def cpu_network(where):
    return small("cpu")(batch(where)[0])


def cpu_tensor_added(where):
    return batch(where)[0] + torch.zeros(8)


def written_to_the_cpu(where):
    return torch.zeros(()).add_(batch(where)[0].sum())


def mask_of_the_device(where):
    return torch.arange(20)[batch(where)[1] > 3]


def values_of_the_cpu(where):
    x, y = batch(where)
    x[y > 3] = torch.zeros(1, 8, 8)


def stacked(where):
    return torch.stack([batch(where)[0].sum(), torch.zeros(())])


def numpy_at_once(where):
    return batch(where)[0].numpy()


def numpy_asked(where):
    return np.asarray(batch(where)[0])


def drawn(where):
    from matplotlib.figure import Figure

    return Figure().subplots().plot(batch(where)[1])


def gradient_to_numpy(where):
    x, y = batch(where)
    model = small(where)
    attacks.cross_entropy(model(x), y).mean().backward()
    return model[1].weight.grad.numpy()


def generator_of_the_cpu(where):
    return torch.rand(3, device=where, generator=torch.Generator().manual_seed(0))


def generator_of_the_device(where):
    return torch.rand(3, generator=torch.Generator(where).manual_seed(0))


def order_from_the_device(where):
    return torch.randperm(5, generator=torch.Generator(where).manual_seed(0))


def network_after_the_move(where):
    model = small("cpu")
    model.to(where)
    return torch.cat([p.reshape(-1) for p in model.parameters()]) @ torch.ones(1210)


MIXED = "Expected all tensors to be on the same device"
MISTAKES = {
    cpu_labels: (RuntimeError, MIXED),
    cpu_inputs: (RuntimeError, MIXED),
    cpu_network: (RuntimeError, MIXED),
    cpu_tensor_added: (RuntimeError, MIXED),
    written_to_the_cpu: (RuntimeError, MIXED),
    values_of_the_cpu: (RuntimeError, MIXED),
    stacked: (RuntimeError, MIXED),
    network_after_the_move: (RuntimeError, MIXED),
    mask_of_the_device: (RuntimeError, "indices should be either on cpu"),
    numpy_at_once: (TypeError, "can't convert cuda:0"),
    numpy_asked: (TypeError, "can't convert cuda:0"),
    drawn: (TypeError, "can't convert cuda:0"),
    gradient_to_numpy: (TypeError, "can't convert cuda:0"),
    generator_of_the_cpu: (RuntimeError, "'cuda' device type for generator"),
    generator_of_the_device: (RuntimeError, "'cpu' device type for generator"),
    order_from_the_device: (RuntimeError, "'cpu' device type for generator"),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_a_planted_mistake_is_refused_as_cuda_refuses_it(cuda, mistake):
    error, words = MISTAKES[mistake]
    with pytest.raises(error, match=words):
        mistake(cuda)


def test_the_same_scripts_run_on_the_cpu():
    for mistake in MISTAKES:
        mistake(torch.device("cpu"))


def test_what_cuda_allows_is_allowed(cuda):
    x, y = batch(cuda)
    assert (x * torch.tensor(2.0)).device == cuda or (x * 2).is_cuda
    assert x[torch.arange(3)].is_cuda and x[[0, 2]].is_cuda and x[y > 3].is_cuda
    x[:2] = torch.zeros(2, 1, 8, 8)
    assert x.cpu().numpy()[:2].max() == 0 and x.numpy(force=True).shape == x.shape
    assert float(x.sum()) == x.sum().item() and len(y.tolist()) == 20
    assert not x.cpu().is_cuda and x.to("cpu").to(cuda).is_cuda and x.double().is_cuda
    host = torch.zeros(3)
    host.to(cuda).add_(1)
    assert host.sum() == 0  # a copy, with memory of its own
    assert torch.zeros(2, device=cuda).get_device() == 0


def test_nothing_is_left_behind():
    before = torch.Generator, torch.cuda.is_available, torch.nn.Parameter.__new__, torch.load
    with pretend_cuda.Pretend():
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1
        kept = torch.ones(2, device="cuda")
    after = torch.Generator, torch.cuda.is_available, torch.nn.Parameter.__new__, torch.load
    assert before == after
    assert not torch.cuda.is_available() and kept.numpy().sum() == 2


def test_the_device_has_another_stream_for_the_same_seed(cuda):
    here = torch.rand(5, generator=torch.Generator().manual_seed(1))
    there = torch.rand(5, device=cuda, generator=torch.Generator(cuda).manual_seed(1))
    assert not torch.equal(here, there.cpu())


def chapter_5(where):
    x, y = batch(where, 60)
    model, ball = small(where), attacks.Ball(0.1)
    options = {"epochs": 2, "batch": 16, "seed": 0, "device": where, "progress": False}
    method = training.dynamic(0.5, 3)
    training.fit(model, x.cpu().numpy(), y.cpu().numpy(), ball, method, **options)
    draws = torch.Generator().manual_seed(1)
    worst = attacks.worst_of(model, x, y, ball, steps=3, restarts=1, generator=draws)
    run = attacks.pgd(model, x, y, ball, steps=3, generator=draws, trace=True)
    return run.fosc.cpu().numpy(), run.points.cpu().numpy(), worst.accuracy


def chapter_6(where):
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.standard_normal((12, 2)), device=where)
    y = torch.as_tensor(rng.integers(0, 2, 12), device=where)
    start = torch.Generator().manual_seed(2)
    model = networks.mlp([2, 6, 2], generator=start, device=where, dtype=torch.float64)
    found = wdro_attacks.nearest_errors(model, x, y, 2, reach=20.0, generator=start)
    options = {"loss": attacks.cross_entropy, "steps": 3, "restarts": 2, "generator": start}
    growth = wdro_attacks.growth_points(model, x, y, 2, [0.1, 1.0], **options)
    plane = wdro_networks.planar(relu.from_torch(model), x.cpu().numpy(), y.cpu().numpy(), 2)
    return found.distances, growth.lists[0], plane.value(0.1, 1).upper


def chapter_7(where):
    x, _ = batch(where, dtype=torch.float64)
    start = torch.Generator().manual_seed(3)
    model = networks.mlp([64, 8, 1], generator=start, device=where, dtype=torch.float64)
    signs = torch.where(torch.arange(20, device=where) % 2 == 0, 1.0, -1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.softplus(-signs * model(x)[:, 0]).mean().backward()
        optimizer.step()
    gaps = twolayer.gap(
        relu.from_torch(model), x.flatten(1).cpu().numpy(), signs.cpu().numpy(), 0.1
    )
    return (gaps,)


def chapter_8(where):
    x, y = batch(where, 12)
    start = torch.Generator().manual_seed(4)
    model = networks.wide_resnet(10, 1, classes=10, channels=1, generator=start, device=where)
    options = {"epochs": 1, "batch": 6, "seed": 0, "device": where, "progress": False}
    images, labels = x.cpu().numpy(), y.cpu().numpy()
    training.fit(model, images, labels, attacks.Ball(0.1), training.pgd_training(2), **options)
    return attacks.pgd(
        model, x, y, attacks.Ball(0.1), steps=2
    ).losses.cpu().numpy(), training.evaluate(model, x, y)


@pytest.mark.parametrize("chapter", [chapter_5, chapter_6, chapter_7, chapter_8])
def test_the_library_runs_there_and_draws_the_same(cuda, chapter):
    """Same numbers: seeds feed CPU generators, and values are computed on the CPU."""
    there = chapter(cuda)
    for a, b in zip(chapter(torch.device("cpu")), there, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rounding_moves_last_digits_only_and_repeats():
    def losses(where):
        x, y = batch(where, dtype=torch.float64)
        return attacks.cross_entropy(small(where, torch.float64)(x), y).detach().cpu().numpy()

    exact = losses("cpu")
    with pretend_cuda.Pretend(rounding=True):
        first, again = losses("cuda"), losses("cuda")
        counts = batch("cuda")[1].sum().item()
    np.testing.assert_array_equal(first, again)
    assert 0 < np.abs(first / exact - 1).max() < 1e-13
    assert counts == batch("cpu")[1].sum().item()


def notebook(path, *cells):
    """Write a notebook of (source, stored output or None)."""
    made = []
    for source, stored in cells:
        cell = new_code_cell(source)
        if stored is not None:
            cell.metadata["tags"] = [on_device.TAG]
            cell.outputs = [new_output("stream", name="stdout", text=stored)]
            cell.execution_count = 1
        made.append(cell)
    nb = new_notebook(cells=made, metadata={"kernelspec": KERNEL})
    nbformat.write(nb, path)
    return path


KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
SETUP = "import torch\nfrom advreg.device import choose\ndevice = choose()"


def test_the_tool_compares_records_and_names_what_differs(tmp_path, capsys):
    good = notebook(
        tmp_path / "good.ipynb",
        (SETUP, None),
        ("print(device.type, torch.ones(3, device=device).sum().item())", "cuda 3.0\n"),
    )
    bad = notebook(
        tmp_path / "bad.ipynb",
        (SETUP, None),
        ("print('same')\nprint(f'{torch.ones(2, device=device).sum():.1f}')", "same\n2.5\n"),
        ("torch.ones(2, device=device).numpy()", None),
    )
    out = tmp_path / "record.json"
    arguments = ["--pretend", "--out", str(out), str(good), str(bad)]
    assert on_device.main(arguments) == 1
    record = experiments.load(out)
    first, second = record["rows"]
    assert first["agreed"] and first["compared"] == 1 and first["differences"] == []
    assert not second["agreed"]
    differs, broken = second["differences"]
    assert differs == {"cell": "1", "stored": ["2.5"], "found": ["2.0"]}
    assert broken["cell"] == "2" and "can't convert cuda:0" in broken["error"]
    assert record["device"]["name"] == "pretend" and record["versions"]["torch"]
    said = capsys.readouterr().out
    assert "good.ipynb: agrees" in said and "bad.ipynb: DIFFERS" in said


def test_the_tool_runs_on_the_cpu_too(tmp_path, monkeypatch):
    page = notebook(tmp_path / "page.ipynb", (SETUP + "\nprint(device)", "cpu\n"))
    out = tmp_path / "cpu.json"
    assert on_device.main(["--device", "cpu", "--out", str(out), str(page)]) == 0
    record = experiments.load(out)
    assert record["device"]["kind"] == "cpu" and record["rows"][0]["seconds"] > 0
    assert not record["whole book"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, capsys):
    page = notebook(tmp_path / "page.ipynb", (SETUP, None))
    out = tmp_path / "record.json"
    assert on_device.main(["--device", "cuda", "--out", str(out), str(page)]) == 2
    said = capsys.readouterr().out
    assert "finds 0 CUDA devices" in said and "--pretend" in said and not out.exists()


@pytest.mark.parametrize("arguments", [["--rounding"], ["absent.ipynb"]])
def test_arguments_are_checked(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        on_device.main(arguments)
    assert stop.value.code == 2
    assert "belongs to --pretend" in (said := capsys.readouterr().err) or "no such notebook" in said


# Pages that compute with torch and do not ask for a device, and why
ON_THE_CPU = {
    "03_adversarial_regularization/04_convergence": "asks through advreg.adversarial.train_gain",
    "03_adversarial_regularization/exercises/exercises": "answers are marked on CPU tensors",
    "05_inner_problem/exercises/exercises": "answers are marked on CPU tensors",
    "07_two_layers/05_swap_test": "trains through advreg.twolayer_experiments, float64 and numpy",
    "08_at_scale/02_training_at_scale": "small live runs, beside stored timings of the CPU",
    "08_at_scale/04_deep_gap": "small live runs of advreg.scale_experiments",
    "08_at_scale/05_deep_certificates": "small live runs, compared with numpy",
}


def test_every_page_that_uses_torch_asks_where(capsys):
    assert on_device.main(["--list"]) == 0
    listed = capsys.readouterr().out.split()
    assert len(listed) >= 20
    silent = set()
    for path in map(Path, listed):
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(c.source for c in cells if c.cell_type == "code")
        name = path.relative_to(ROOT / "chapters").with_suffix("").as_posix()
        if "choose()" not in code:
            silent.add(name)
        elif 'device="cpu"' in code or '"device": "cpu"' in code:
            pytest.fail(f"{name} asks where to run and then pins the CPU")
    assert silent <= set(ON_THE_CPU), "ask advreg.device.choose(), or say here why not"
