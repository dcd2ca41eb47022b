"""The notebook that is handed out: complete, self-contained, the same every time, and no leaks."""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import nbformat
import pytest
from small_chapter import FIRST, HIDDEN, MEAN, PUBLIC, SECRETS, SLOPE, cells, make

from coursework import handout
from coursework import release as releases
from coursework.myst import MystError, References, blocks, plain
from coursework.release import FIRST_LINE, ReleaseError, leaks, release, stub, unpacked, write
from coursework.sets import Set, find

BOOK = Path(__file__).resolve().parents[2] / "chapters"
CHAPTERS = sorted(f.parts[-3][:2] for f in BOOK.glob("[0-9]*/exercises/exercises.ipynb"))
LISTS = ["midterm", "capstone"]


@pytest.fixture
def small(tmp_path: Path) -> Set:
    make(tmp_path / "chapters")
    return find("42", tmp_path / "chapters")


def sources(notebook: dict) -> dict[str, str]:
    return {cell["id"]: cell["source"] for cell in notebook["cells"]}


# -------------------------------------------------------------------------------- the cells


def test_the_cells_of_a_release(small):
    notebook = release(small)
    nbformat.validate(notebook)
    found = sources(notebook)
    assert list(found) == [
        *("about", "self-check", "conventions", "given-1"),
        *("ex-mean-text", "given-2", "ex-mean-code", "ex-mean"),
        *("ex-proof-text", "ex-proof-written", "ex-slope-text", "ex-slope-code", "ex-slope"),
    ]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["coursework"] == {"set": "ch42", "version": small.digest}
    assert "3 exercises, 9 points, about 60 minutes" in found["about"]
    assert "Python 3.11 or newer with numpy;" in found["about"]
    assert "necessary, not sufficient" in found["about"]
    assert "| 2 | A proof | prove | ★★ | 20 | 3 |" in found["about"]
    assert "h>0" in found["conventions"]
    assert found["ex-mean"] == 'check("ex-mean")'
    assert found["ex-proof-written"] == "*Your answer here.*"


def test_statements_in_plain_markdown(small):
    found = sources(release(small))
    assert found["ex-mean-text"] == (
        "## Exercise 1: The mean\n\n"
        "*code · ★ · 10 minutes · 3 points · uses Theorem (On the mean)*\n\n"
        "Write `mean_of(x)` for an array `x` with the weights `WEIGHTS`, see Theorem (On the mean)."
        "\n\n$$\nm=\\sum_iw_ix_i\\tag{1}\n$$\n\n"
        "By (1) it is linear (Body et al. (2020), *The first page*).\n\n"
        "<details><summary>Hint</summary>\n\nIt is $\\langle w,x\\rangle$.\n\n</details>"
    )
    assert "Prove it for Exercise 1." in found["ex-proof-text"]


def test_stubs_keep_signature_and_docstring(small):
    found = sources(release(small))
    assert found["ex-mean-code"] == (
        'def mean_of(x, power: float = 1.0) -> float:\n    """The weighted mean."""\n'
        "    raise NotImplementedError  # your code"
    )
    assert found["ex-slope-code"] == (
        "def slope(f, x):\n    raise NotImplementedError  # your code\n\n\n"
        "sign = None  # your answer"
    )


@pytest.mark.parametrize(
    ("solution", "head"),
    [
        ("def mean_of(x): return 1", "def mean_of(x):"),
        ("def mean_of(\n    x,\n    y=1,\n):\n    return 1", "def mean_of(\n    x,\n    y=1,\n):"),
        ("def mean_of(x):  # by hand\n    # secretly\n    return 1", "def mean_of(x):"),
        ("def mean_of(x):\n    '''Two\n    lines.'''\n    return 1", "def mean_of(x):\n    '''Two"),
        (
            "def f():\n    pass\n\n\n@f\ndef mean_of(x, *, y=2):\n    return 1",
            "def mean_of(x, *, y=2)",
        ),
        ("@cache\ndef mean_of(x):  # why\n    return 1", "def mean_of(x):"),
    ],
)
def test_stubs_of_odd_definitions(small, solution, head):
    text = stub(replace(small.exercises[0], solution=solution))
    assert text.startswith(head) and "secretly" not in text and "@" not in text
    space: dict = {}
    exec(text, space)
    with pytest.raises(NotImplementedError):
        space["mean_of"](1)


def test_a_signature_may_only_use_what_is_handed_out(small):
    one = replace(small.exercises[0], solution="def mean_of(x: np.ndarray, w=WEIGHTS): pass")
    stub(one)
    with pytest.raises(ReleaseError, match="`mean_of` uses Tensor"):
        stub(replace(one, solution="def mean_of(x: Tensor): pass"))
    with pytest.raises(ReleaseError, match="should say `def mean_of"):
        stub(replace(one, solution="mean_of = len"))


def test_the_metadata_of_nbgrader(small):
    found = {c["id"]: c["metadata"] for c in release(small)["cells"]}
    want = {"grade": True, "locked": True, "solution": False, "points": 3, "task": False}
    assert found["ex-mean"]["nbgrader"] == want | {"grade_id": "ex-mean", "schema_version": 3}
    assert found["ex-proof-written"]["nbgrader"]["grade_id"] == "ex-proof-written"
    assert found["ex-proof-written"]["nbgrader"]["solution"] is True
    assert found["ex-mean-code"]["nbgrader"]["locked"] is False
    locked = [name for name, data in found.items() if data.get("editable") is False]
    assert {"about", "self-check", "given-1", "given-2", "ex-mean", "ex-mean-text"} < set(locked)
    assert found["self-check"]["jupyter"] == {"source_hidden": True}
    assert found["self-check"]["cellView"] == "form"


# -------------------------------------------------------------------------------- the file


def test_the_same_file_every_time(small, tmp_path):
    file = write(small, tmp_path / "a")
    assert file.name == "ch42.ipynb" and write(small, tmp_path / "a") == file
    other = write(small, tmp_path / "b" / "c")
    assert other.read_bytes() == file.read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["ch42.ipynb"]


def test_an_edited_file_is_not_overwritten(small, tmp_path):
    file = write(small, tmp_path)
    right = file.read_bytes()
    file.write_bytes(b"my work")
    with pytest.raises(ReleaseError, match="exists and differs"):
        write(small, tmp_path)
    assert file.read_bytes() == b"my work"
    assert write(small, tmp_path, force=True).read_bytes() == right


def test_a_failure_leaves_nothing_behind(small, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("full")

    monkeypatch.setattr(releases.os, "replace", refuse)
    with pytest.raises(OSError):
        write(small, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# -------------------------------------------------------------------------------- the leaks


def test_nothing_planted_is_handed_out(small):
    text = unpacked(release(small))
    assert "PLANTED" not in text and "it is right for sines" in text
    for name, secret in SECRETS.items():
        found = leaks(f"{text}\n  {secret}\n", small)
        assert found and "PLANTED" in found[0], name


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", ["statement", "hint", "docstring", "packed"])
def test_a_leak_is_refused(tmp_path, secret, place):
    """Every kind of secret, copied to every place that is handed out."""
    page, line = cells(), SECRETS[secret].strip()
    if place == "statement":
        page[2]["source"] = FIRST.replace("Write `mean_of(x)`", f"Write\n{line}\n`mean_of(x)`")
    elif place == "hint":
        page[2]["source"] = FIRST.replace("It is $", f"{line}\nIt is $")
    elif place == "docstring":
        page[7]["source"] = page[7]["source"].replace(":\n", f":\n    '''Say {line} here.'''\n", 1)
    make(tmp_path / "chapters", page=page)
    the_set = find("42", tmp_path / "chapters")
    with pytest.MonkeyPatch.context() as patch:
        if place == "packed":  # as if the writer had packed more than the public files
            patch.setattr(releases, "library", lambda _: {"advreg": f"a = {{}}\n{line}\n"})
            patch.setattr(releases, "_open_text", lambda _: PUBLIC)
        with pytest.raises(ReleaseError, match="PLANTED"):
            release(the_set)


def test_a_forgotten_tag_is_no_leak(tmp_path):
    """A solution cell without a tag is a measurement: it is not handed out."""
    page = cells()
    page[9]["metadata"] = {}
    make(tmp_path / "chapters", page=page)
    assert "PLANTED" not in unpacked(release(find("42", tmp_path / "chapters")))


def test_public_lines_are_no_leak(tmp_path):
    line = "    close(ask(np.sin, x), np.cos(x), 'a long line of both files')\n"
    public = PUBLIC + "\n\ndef helper(ask, x):\n" + line
    hidden = HIDDEN + "\n\ndef helper(ask, x):\n" + line
    make(tmp_path / "chapters", public=public, hidden=hidden)
    release(find("42", tmp_path / "chapters"))


def test_one_docstring_of_two_functions_is_no_leak(tmp_path):
    """The exercise with the second one may be in another set."""
    page = cells()
    text = "The weighted mean, or what one takes for it."
    page[4]["source"] = MEAN.replace("The weighted mean.", text)
    page[7]["source"] = SLOPE.replace(":\n", f':\n    """{text}"""\n', 1)
    make(tmp_path / "chapters", page=page)
    release(find("42:first", tmp_path / "chapters"))


# -------------------------------------------------------------------------- plain markdown

REFERENCES = References(
    labels={"thm-a": "Theorem (A)", "ex-x": "Exercise (X)"},
    equations={"eq-a": "Page"},
    papers={"one": "One (2001)", "two": "Two and Three (2002)"},
)


def translated(text: str, folder: Path = BOOK) -> str:
    return plain(text, REFERENCES, {"ex-in": 4}, folder)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("{prf:ref}`thm-a` and {prf:ref}`that <thm-a>`", "Theorem (A) and that"),
        ("{numref}`ex-in`, {ref}`ex-x`", "Exercise 4, Exercise (X)"),
        ("{numref}`No. %s <ex-in>` {numref}`No. {number} <ex-in>`", "No. 4 No. 4"),
        ("{numref}`No. %s <ex-x>`", "Exercise (X)"),
        ("{eq}`eq-a`", "the formula `eq-a` of “Page”"),
        ("{cite}`one,two` {cite:t}`two`", "One (2001), Two and Three (2002) Two and Three (2002)"),
        ("{term}`norm` {term}`norms <norm>` {math}`x^2`", "norm norms $x^2$"),
        ("{abbr}`FOSC (a criterion)`", "FOSC (a criterion)"),
        ("$$\na\n$$ (eq-b)\n\nby {eq}`eq-b`", "$$\na\n\\tag{1}\n$$\n\nby (1)"),
        ("```{note}\nTake $x$.\n```", "> **Note**\n>\n> Take $x$."),
        (":::{admonition} Careful\n:class: tip\n\nIt is.\n:::", "> **Careful**\n>\n> It is."),
        ("````{tip}\n```{math}\na\n```\n````", "> **Tip**\n>\n> $$\n> a\n> $$"),
        ("```{code-block} python\na = 1\n```", "```python\na = 1\n```"),
        ("```python\n'{x}`y`'\n```", "```python\n'{x}`y`'\n```"),
        ("% a comment\n(label)=\nText.", "Text."),
        ("[text](../page.ipynb), [text](#thm-a), [](thm-a)", "text, text, Theorem (A)"),
        ("[text](https://example.org)", "[text](https://example.org)"),
        ("{doc}`words <01_x>`", "words"),
        ("| a | b |\n|---|---|\n| $x$ | 2 |", "| a | b |\n|---|---|\n| $x$ | 2 |"),
    ],
)
def test_plain_forms(text, want):
    assert translated(text) == want


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{unknown}`x`", "unknown"),
        ("```{list-table}\nx\n```", "list-table"),
        ("{prf:ref}`thm-none`", "thm-none"),
        ("{eq}`eq-none`", "eq-none"),
        ("{cite}`none`", "none"),
        ("{doc}`nowhere`", "nowhere"),
        ("{glue:text}`x`", "measured"),
        ("```{figure} none.png\n```", "none.png"),
        ("![](picture.png)", "picture.png"),
        ("```{solution} ex-in\nIt is.\n```", "solution"),
        ("```{exercise} B\n:label: ex-in\n```", "exercise"),
    ],
)
def test_what_has_no_plain_form_is_an_error(text, word):
    with pytest.raises(MystError, match=word):
        translated(text)


def test_the_release_says_where(tmp_path):
    page = cells()
    page[2]["source"] = FIRST.replace("see {prf:ref}`thm-mean`", "see {prf:ref}`thm-none`")
    make(tmp_path / "chapters", page=page)
    with pytest.raises(ReleaseError, match="ex-mean: Nothing has the label 'thm-none'"):
        release(find("42", tmp_path / "chapters"))


def test_figures_travel_inside(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    text = translated("```{figure} a.png\n:alt: A curve.\n\nIt bends.\n```", tmp_path)
    assert text == "![A curve.](data:image/png;base64,iVBORw==)\n\nIt bends."


def test_names_of_authors(tmp_path):
    (tmp_path / "references.bib").write_text(
        '@misc{a,\n  author = {{\\"O}ktem, Ozan},\n  year = {2001}\n}\n'
        "@misc{b,\n  author = {Ob{\\l}{\\'o}j, Jan and Fran{\\c{c}}ois, X.},\n  year = 2002\n}\n"
        "@misc{c,\n  author = {H{\\aa}stad, Johan and others},\n  year = {2003}\n}\n"
    )
    (tmp_path / "chapters").mkdir()
    assert References.of(tmp_path / "chapters").papers == {
        "a": "Öktem (2001)",
        "b": "Obłój and François (2002)",
        "c": "Håstad et al. (2003)",
    }


# -------------------------------------------------------------- the self-check, run elsewhere


def run_elsewhere(the_set: Set, folder: Path, answers: list[str], *declared: str) -> dict:
    """Run the release in an empty folder without the book; then with answers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_text(json.dumps(answers))
    file = write(the_set, folder)
    script = Path(__file__).with_name("running.py")
    needs = [",".join(declared or the_set.needs)]
    subprocess.run(
        [sys.executable, "-I", str(script), file.name, "answers.json", "out.json", *needs],
        cwd=folder,
        check=True,
        timeout=600,
    )
    return json.loads((folder / "out.json").read_text())


def imported(source: str) -> list[str]:
    """The imports of a cell, one name each, without those that only the page needs."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                one = copy.copy(node)
                one.names = [alias]
                found.append(ast.unparse(one))
    return [line for line in found if not re.search("practice|plotting", line)]


def solutions(the_set: Set) -> list[str]:
    """The solutions of a set, each page behind the imports of its setup cell."""
    found = []
    for page in the_set.pages:
        found += imported(page.setup)
        found += [e.solution for e in the_set.exercises if e.folder == page.folder and e.check]
    return found


def test_a_small_release_runs_without_the_book(small, tmp_path):
    found = run_elsewhere(small, tmp_path / "empty", solutions(small))
    said = "\n".join(found["blank"])
    assert 'Ready: check("ex-mean") tests an answer' in said and "RAISED" not in said
    assert "not yet: it weights. The function `mean_of` is not written yet." in said
    assert re.search(r"ex-mean +to do", said) and not found["coursework"]
    assert found["answers"] == [""] * len(found["answers"])
    assert [text.startswith("ok: ") for text in found["checks"]] == [True, True]
    assert all("1 of 1 public checks pass" in text for text in found["checks"])


def test_a_missing_package_gets_a_sentence(small, tmp_path):
    parts = replace(small, needs=["numpy", "sklearn"])
    said = "\n".join(run_elsewhere(parts, tmp_path / "empty", [], "numpy")["blank"])
    assert said.count("Run `%pip install scikit-learn` in a new cell") == 4  # and each check
    assert "RAISED" not in said


def test_an_old_python_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(handout.sys, "version_info", (3, 9, 1, "final", 0))
    assert handout._problem([]) == "This notebook needs Python 3.11 or newer; this is 3.9."


def started(the_set: Set, names: dict) -> dict:
    exec(release(the_set)["cells"][1]["source"], names)
    return names


def test_checks_never_raise(small, capsys):
    names = started(small, {"mean_of": 3})
    for label in ("ex-mean", "ex-none", ["ex-mean"], None):
        names["check"](label)
    names["check"]()
    names["progress"](1)
    said = capsys.readouterr().out
    assert "`mean_of` should be a function" in said and "There is no exercise 'ex-none'" in said
    assert said.count("The check could not run") == 3


def test_in_nbgrader_without_the_bridge_the_checks_raise(small, monkeypatch):
    names = started(small, {})
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    for function, args in (("check", ["ex-mean"]), ("progress", [])):
        with pytest.raises(RuntimeError, match=r"coursework\.nbgrader_bridge"):
            names[function](*args)


def test_the_self_check_leaves_the_installed_engine_alone(small):
    import coursework.checks

    before = sys.modules["coursework.checks"], coursework.checks.Check
    started(small, {})
    assert (sys.modules["coursework.checks"], coursework.checks.Check) == before


def test_modules_of_the_library_travel_with_it(tmp_path):
    page = cells()
    page[3]["source"] += "\nfrom advreg import operators"
    make(tmp_path / "chapters", page=page)
    the_set = find("42", tmp_path / "chapters")
    assert the_set.needs == ["numpy", "scipy"]
    found = run_elsewhere(the_set, tmp_path / "empty", [])
    assert "RAISED" not in "\n".join(found["blank"])
    assert found["library"] == ["advreg", "advreg.operators"]


# ----------------------------------------------------------------------------- the real sets


@cache
def real(name: str) -> Set:
    return find(name, BOOK)


@pytest.mark.parametrize("name", [*CHAPTERS, *LISTS])
def test_every_set_of_the_book(name, tmp_path):
    the_set = real(name)
    file = write(the_set, tmp_path / "first")
    assert file.read_bytes() == write(the_set, tmp_path / "second").read_bytes()
    assert file.read_text().count(FIRST_LINE) == 1
    found = run_elsewhere(the_set, tmp_path / "empty", solutions(the_set))
    assert not [text for text in found["blank"] if "RAISED" in text]
    checked = [text for text in found["blank"] if "public checks pass" in text]
    assert len(checked) == len(the_set.checks)
    assert all(re.search(r"^0 of [1-9]\d* public checks pass", text, re.M) for text in checked)
    assert not [text for text in found["answers"] if text]
    assert not [text for text in found["checks"] if "not yet: " in text or "RAISED" in text]


@pytest.mark.parametrize("name", [*CHAPTERS, *sorted(f.stem for f in BOOK.glob("sets/*.toml"))])
def test_what_students_read_is_plain(name):
    for cell in release(real(name))["cells"]:
        if cell["cell_type"] == "markdown":
            assert not blocks(cell["source"])
            assert not re.search(r"\{[\w:]+\}`|^:\w+:|\{#", cell["source"], re.M)


def test_what_is_handed_out_passes_nbval(tmp_path):
    for name in CHAPTERS:
        write(real(name), tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "."], cwd=tmp_path, capture_output=True, text=True
    )
    cells = sum(
        cell["cell_type"] == "code"
        for file in tmp_path.glob("*.ipynb")
        for cell in json.loads(file.read_text())["cells"]
    )
    assert done.returncode == 0 and f"{cells} passed" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize(("name", "hours"), [("midterm", 3), ("capstone", 8)])
def test_the_lists_are_as_long_as_they_say(name, hours):
    the_set = real(name)
    assert abs(the_set.minutes - 60 * hours) <= 20
    kinds = {e.kind for e in the_set.exercises}
    assert kinds == {"prove", "code", "investigate", "broken proof"}
