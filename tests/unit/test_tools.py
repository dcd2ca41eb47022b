"""Notebook cleanliness, and the execution cache that knows the library."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str):
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


nb_tool, execute = tool("nb"), tool("execute")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("%pip install numpy", "installs"),
        ("!conda install x", "installs"),
        ("open('/home/me/x.txt')", "absolute path"),
        ("load('~/data/x.npy')", "absolute path"),
        ("x = np.random.rand(3)", "global generator"),
        ("np.random.seed(0)", "global generator"),
        ("rng = np.random.default_rng()", "without a seed"),
        ("torch.manual_seed(0)", "unseeded"),
        ("x = torch.randn(3)", "unseeded"),
        ("urlopen(address)", "network"),
        ("ax.plot(x);", "semicolon"),
        ("plt.show()", "text alternative"),
        ("\n".join(f"x{i} = {i}" for i in range(31)), "31 lines"),
    ],
)
def test_banned_lines_are_named(line, word):
    assert any(word in what for what in nb_tool.rule_breaks(line))


@pytest.mark.parametrize(
    "line",
    [
        "rng = np.random.default_rng(7)",
        "x = torch.randn(3, generator=g)",
        "label = 'error / noise'",
        "def f(rng: np.random.Generator): ...",
        "y = a / b  # see https://example.org",
    ],
)
def test_honest_lines_pass(line):
    assert nb_tool.rule_breaks(line) == []


def notebook(*cells) -> nbformat.NotebookNode:
    return new_notebook(cells=list(cells), metadata={"junk": 1})


def test_a_title_that_breaks_its_fence_is_named():
    sound = new_markdown_cell("```{note} A title\nwords, `code`\n```\n`a` ```b```")
    broken = new_markdown_cell("````{admonition} Proof, see {cite}`jaggi2013`\nwords\n````")
    assert nb_tool.canonical(notebook(sound))[1] == []
    (problem,) = nb_tool.canonical(notebook(sound, broken))[1]
    assert "cell 1: a fence" in problem


def test_clean_strips_outputs_except_of_checked_cells(tmp_path):
    path = tmp_path / "a.ipynb"
    text = [new_output("stream", name="stdout", text="0.5\n")]
    nb = notebook(
        new_markdown_cell("words"),
        new_code_cell("print(1)", outputs=text, execution_count=5),
        new_code_cell(
            "print(0.5)", outputs=text, execution_count=9, metadata={"tags": [nb_tool.TAG], "x": 1}
        ),
    )
    nbformat.write(nb, path)
    assert nb_tool.main(["check", str(path)]) == 1
    assert nb_tool.main(["clean", str(path)]) == 0
    assert nb_tool.main(["check", str(path)]) == 0
    _, plain, checked = nbformat.read(path, as_version=4).cells
    assert plain.outputs == [] and plain.execution_count is None
    assert checked.outputs[0].text == "0.5\n" and checked.execution_count == 1
    assert set(checked.metadata) == {"tags"}


def test_a_checked_cell_without_output_is_an_error(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    nbformat.write(notebook(new_code_cell("1", metadata={"tags": [nb_tool.TAG]})), path)
    assert nb_tool.main(["clean", str(path)]) == 1
    assert "no text output is stored" in capsys.readouterr().out


def test_a_checked_cell_that_quotes_a_number_is_an_error(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    cell = new_code_cell("plotting.glue('a', 1)", metadata={"tags": [nb_tool.TAG]})
    cell.outputs, cell.execution_count = [new_output("stream", name="stdout", text="1\n")], 1
    nbformat.write(notebook(cell), path)
    assert nb_tool.main(["clean", str(path)]) == 1
    assert "quotes a number" in capsys.readouterr().out


def test_an_unreadable_notebook_is_named_and_others_are_still_checked(tmp_path, capsys):
    bad, good = tmp_path / "bad.ipynb", tmp_path / "good.ipynb"
    bad.write_text("no notebook")
    nbformat.write(notebook(new_markdown_cell("words")), good)
    assert nb_tool.main(["clean", str(bad), str(good)]) == 1
    assert "bad.ipynb: cannot be read" in capsys.readouterr().out
    assert nb_tool.main(["check", str(good)]) == 0


def test_all_notebooks_of_the_book_are_clean():
    assert nb_tool.main(["check"]) == 0


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from advreg import operators, spectral", {"operators", "spectral"}),
        ("from advreg.plotting import show", {"plotting"}),
        ("import advreg.data as d", {"data"}),
        ("from advreg import __version__\nimport numpy", set()),
    ],
)
def test_imports_are_found(source, names):
    assert execute.imported(source) == names


def test_the_key_changes_with_code_library_and_files_beside_but_not_with_prose(
    tmp_path, monkeypatch
):
    library = tmp_path / "lib/advreg"
    library.mkdir(parents=True)
    for name, text in {
        "__init__": "", "operators": "from advreg import data", "data": "x = 1", "plotting": "y = 1"
    }.items():  # fmt: skip
        (library / f"{name}.py").write_text(text)
    (tmp_path / "constraints.txt").write_text("")
    folder = tmp_path / "chapter"
    folder.mkdir()
    path = folder / "a.ipynb"

    def key(code="from advreg import operators", prose="words") -> str:
        nbformat.write(notebook(new_markdown_cell(prose), new_code_cell(code)), path)
        return execute.key_of(path)

    monkeypatch.setattr(execute, "ROOT", tmp_path)
    base = key()
    assert key(prose="other words") == base
    assert key(code="from advreg import operators\n1") != base
    (library / "plotting.py").write_text("y = 2")  # not imported by this notebook
    assert key() == base
    (library / "data.py").write_text("x = 2")  # imported by a module that it imports
    assert key() != base
    changed = key()
    (folder / "measurements.csv").write_text("1,2")
    assert key() != changed
    changed = key()
    (folder / "results").mkdir()
    (folder / "results/stored.json").write_text("{}")
    assert key() != changed

    engine = tmp_path / "lib/coursework"
    engine.mkdir()
    (engine / "checks.py").write_text("z = 1")  # no checks beside the notebook: not its business
    changed = key()
    (engine / "checks.py").write_text("z = 2")
    assert key() == changed
    (folder / "checks.py").write_text("from coursework.checks import z")
    changed = key()
    (engine / "checks.py").write_text("z = 3")
    assert key() != changed


def test_the_build_finds_in_the_cache_what_was_executed(tmp_path):
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    path = tmp_path / "a.ipynb"
    nbformat.write(notebook(new_code_cell("print(1 + 1)", metadata={"tags": [nb_tool.TAG]})), path)
    executed, _, peak = execute.run(path)
    assert executed.cells[0].outputs[0].text == "2\n" and peak > 1
    cache = get_cache(tmp_path / "cache")
    cache.cache_notebook_bundle(CacheBundleIn(executed, str(path)), check_validity=False)
    cache.match_cache_notebook(nbformat.read(path, as_version=4))  # raises if there is none
