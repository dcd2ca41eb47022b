"""Sets: found by name, read from their page, refused if they are not complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_chapter import BETWEEN, HIDDEN, PUBLIC, cell, cells, make, write_notebook

from coursework.sets import SetError, default_root, find, read_page

BOOK = Path(__file__).resolve().parents[2] / "chapters"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "chapters")
    return tmp_path / "chapters"


@pytest.mark.parametrize("name", ["ch42", "42", "042", "42_small"])
def test_a_chapter_by_its_names(root, name):
    found = find(name, root)
    assert (found.name, found.title) == ("ch42", "Exercises of chapter 42: Small things")
    assert [e.label for e in found.exercises] == ["ex-mean", "ex-proof", "ex-slope"]
    assert [c.label for c in found.checks] == ["ex-mean", "ex-slope"]
    assert [w.label for w in found.written] == ["ex-proof"]
    assert (found.points, found.minutes, found.needs) == (9, 60, ["numpy"])
    assert found.given == ["import numpy as np", "WEIGHTS = np.array([0.2, 0.3, 0.5])"]


def test_an_exercise_has_what_its_page_says(root):
    mean, proof, slope = find("42", root).exercises
    assert (mean.title, mean.kind, mean.stars, mean.minutes) == ("The mean", "code", 1, 10)
    assert mean.uses == ("thm-mean",)
    assert mean.statement.startswith("Write `mean_of(x)`") and "★" not in mean.statement
    assert mean.hints == ("It is $\\langle w,x\\rangle$.",)
    assert mean.solution.startswith("def mean_of(x")
    assert [e.first for e in (mean, proof, slope)] == [True, False, False]
    assert (proof.kind, proof.stars, proof.check, proof.solution) == ("prove", 2, None, "")
    assert proof.hints == ("Convexity.",)
    assert slope.solution.startswith("def slope(f, x)") and slope.given == ()


def test_the_first_round(root):
    found = find("ch42:first", root)
    assert [e.label for e in found.exercises] == ["ex-mean"]
    assert found.name == "ch42:first" and found.title.endswith("first round")


def test_the_environment_names_the_folder(root, monkeypatch):
    monkeypatch.setenv("COURSEWORK_ROOT", str(root))
    assert default_root() == root and find("42").title.endswith("Small things")
    monkeypatch.delenv("COURSEWORK_ROOT")
    assert default_root() == BOOK


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("43", ["'43'", "ch42"]),
        ("ch42:last", ["ch42:first"]),
        ("", ["ch42"]),
        ("nothing.toml", ["nothing.toml"]),
        ("../42", ["ch42"]),
    ],
)
def test_what_there_is_not(root, name, words):
    with pytest.raises(SetError) as found:
        find(name, root)
    assert all(word in str(found.value) for word in words)


def test_no_folder():
    with pytest.raises(SetError, match="does not exist"):
        find("1", Path("/nowhere/at/all"))


def other_chapter(root: Path, number: int, label: str, function: str, weights: str) -> Path:
    """A chapter with one exercise, under other names."""
    page = cells()[:6]
    page[2] = page[2] | {"source": page[2]["source"].replace("ex-mean", label)}
    page[3] = page[3] | {"source": weights}
    page[4] = page[4] | {"source": f"def {function}(x):\n    return float(WEIGHTS @ x)"}
    page[5] = page[5] | {"source": f'check("{label}")'}
    public = PUBLIC.replace("ex-mean", label).replace("mean_of", function)
    public = public.replace('slope = Check("ex-slope", "slope", ("sign",))', "")
    hidden = HIDDEN.replace("import mean, slope", "import mean")
    hidden = hidden[: hidden.index('@slope.hidden("')].replace("ex-proof", label)
    return make(root, number, page=page, public=public[: public.index("@slope")], hidden=hidden)


WEIGHTS = "WEIGHTS = np.array([0.2, 0.3, 0.5])"


def test_a_list_from_several_chapters(root):
    other_chapter(root, 43, "ex-other", "other_mean", WEIGHTS)
    (root / "sets").mkdir()
    file = root / "sets" / "mixed.toml"
    file.write_text('title = "A mixture"\nexercises = ["ex-other", "ex-slope", "ex-mean"]\n')
    for name in ("mixed", str(file)):
        found = find(name, root)
        assert (found.name, found.title) == ("mixed", "A mixture")
        assert [e.label for e in found.exercises] == ["ex-other", "ex-slope", "ex-mean"]
        assert [c.function for c in found.checks] == ["other_mean", "slope", "mean_of"]
        assert len(found.pages) == 2 and found.given.count(WEIGHTS) == 1
    with pytest.raises(SetError, match="There are: ch42, ch43, mixed"):
        find("nothing", root)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("title = ", "no TOML"),
        ('title = "A"', "exercises"),
        ('title = "A"\nexercises = []', "exercises"),
        ('title = "A"\nexercises = ["ex-meen"]', "ex-mean"),
        ('title = "A"\nexercises = ["ex-mean", "ex-mean"]', "twice: ex-mean"),
    ],
)
def test_lists_that_are_refused(root, text, word):
    file = root / "list.toml"
    file.write_text(text)
    with pytest.raises(SetError, match=word):
        find(str(file), root)


def test_names_of_two_chapters_that_clash(root):
    other_chapter(root, 43, "ex-other", "mean_of", "WEIGHTS = np.ones(3)")
    file = root / "list.toml"
    file.write_text('title = "A"\nexercises = ["ex-mean", "ex-other"]')
    with pytest.raises(SetError) as found:
        find(str(file), root)
    assert "ex-mean and ex-other both ask for `mean_of`" in str(found.value)
    assert "ex-mean and ex-other are handed out different `WEIGHTS`" in str(found.value)


def broken_page(**changes: dict[int, str]) -> list[dict]:
    return [c | {"source": changes.get(f"cell{i}", c["source"])} for i, c in enumerate(cells())]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"public": PUBLIC.replace('"ex-slope"', '"ex-slip"')},
            "checks of ex-slip, but no exercise",
        ),
        ({"hidden": HIDDEN.replace('"ex-proof"', '"ex-prof"')}, "rubrics of ex-prof, but no exerc"),
        ({"hidden": HIDDEN.replace('"ex-proof"', '"ex-prof"')}, "ex-proof has neither a check nor"),
        ({"public": PUBLIC + '\nmore = Check("ex-mean", "mean_of")\n'}, "ex-mean has 2 checks"),
        ({"page": broken_page(cell5="1 + 1")}, "ex-mean has a check, but no solution cell"),
        ({"page": broken_page(cell7="def slope(f, x):\n    pass")}, "ex-slope lacks `sign`"),
        (
            {"page": broken_page(cell6=BETWEEN.replace("ex-slope", "ex-mean"))},
            "two exercises have the label ex-mean",
        ),
        ({"page": broken_page(cell3="WEIGHTS = sign = 1")}, "`sign` is both given and asked for"),
        ({"public": "import nothing_like_this\n"}, "stop with ModuleNotFoundError"),
    ],
)
def test_incomplete_sets_say_all_that_is_wrong(tmp_path, files, sentence):
    make(tmp_path / "chapters", **files)
    with pytest.raises(SetError) as found:
        find("42", tmp_path / "chapters")
    assert sentence in str(found.value)


def test_code_without_a_check(tmp_path):
    text = BETWEEN.replace("*prove ·", "*code ·")
    make(tmp_path / "chapters", page=broken_page(cell6=text))
    with pytest.raises(SetError, match="ex-proof asks for code, but has no check"):
        find("42", tmp_path / "chapters")


def test_missing_check_files(root):
    (root / "42_small" / "exercises" / "checks_hidden.py").unlink()
    with pytest.raises(SetError, match=r"no checks_hidden\.py"):
        find("42", root)


@pytest.mark.parametrize("meta", ["*prove · 20 min*", "*solve · ★ · 20 min*", "prove · ★ · 2 min"])
def test_the_line_below_the_title(tmp_path, meta):
    text = BETWEEN.replace("*prove · ★★ · 20 min · uses {prf:ref}`thm-mean`*", meta)
    make(tmp_path / "chapters", page=broken_page(cell6=text))
    with pytest.raises(SetError, match="'ex-proof'"):
        find("42", tmp_path / "chapters")


def test_no_notebook(tmp_path):
    folder = make(tmp_path / "chapters")
    (folder / "exercises.ipynb").write_text("[")
    with pytest.raises(SetError, match="not a notebook"):
        find("42", tmp_path / "chapters")


def test_the_digest_follows_the_sources(root):
    before = find("42", root)
    assert before.digest == find("42", root).digest != find("42:first", root).digest
    file = root / "42_small" / "exercises" / "checks_hidden.py"
    file.write_text(file.read_text() + "\n")
    assert before.digest != find("42", root).digest


def test_given_cells_belong_to_the_exercise_that_they_stand_with_or_that_uses_them(tmp_path):
    page = cells()
    page.insert(7, cell("code", "OFFSET = 3", "given"))  # below the statement of the slope
    page.insert(6, cell("code", "UNUSED = WEIGHTS", "given"))  # before the text with two statements
    page[9] = page[9] | {"source": page[9]["source"].replace("2 * step", "2 * step * UNUSED[0]")}
    folder = tmp_path / "exercises"
    write_notebook(folder / "exercises.ipynb", page)
    mean, proof, slope = read_page(folder).exercises
    assert mean.given == (WEIGHTS,)
    assert proof.given == (WEIGHTS, "UNUSED = WEIGHTS")
    assert slope.given == (WEIGHTS, "UNUSED = WEIGHTS", "OFFSET = 3")


def test_magics_in_given_cells_are_survived(tmp_path):
    page = cells()
    page[3] = page[3] | {"source": "%matplotlib inline\nWEIGHTS = np.ones(3)"}
    make(tmp_path / "chapters", page=page)
    assert "%matplotlib" in find("42", tmp_path / "chapters").given[1]


def test_needs(tmp_path):
    page = cells()
    page[1] = page[1] | {"source": "import numpy as np\nfrom scipy import optimize\nimport tqdm\n"}
    page[7] = page[7] | {"source": page[7]["source"] + "\nx = optimize"}
    make(tmp_path / "chapters", page=page, public="import torch\n" + PUBLIC)
    found = find("42", tmp_path / "chapters")
    assert found.needs == ["numpy", "scipy", "torch"]
    assert found.given[0] == "import numpy as np\nimport torch"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ([{"cell_type": "code"}], "not a notebook"),
        ([1], "not a notebook"),
        ([*cells()[:4], cell("code", "def mean_of(:", "solution"), *cells()[5:]], "no Python"),
    ],
)
def test_a_broken_page_is_named(tmp_path, page, words):
    make(tmp_path, page=page)
    with pytest.raises(SetError, match=words) as error:
        find("42", tmp_path)
    assert "exercises.ipynb" in str(error.value)


@pytest.mark.parametrize("labels", ["'ex-mean'", "[['ex-mean']]", "[1]", "[]"])
def test_a_list_of_something_else(root, labels):
    (root / "mine.toml").write_text(f"title = 'Mine'\nexercises = {labels}\n")
    with pytest.raises(SetError, match="list `exercises` of labels"):
        find(str(root / "mine.toml"), root)
