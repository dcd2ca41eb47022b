"""The three commands, from beginning to end, on the small set of the bank."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bank import BANK, notebook, small_set

from coursework import batch, cli
from coursework import grade as grading
from coursework.cli import main

ROOT = ["--root", str(BANK / "chapters")]
MARK = "ex-small-proof"


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


def rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def refill(path: Path, **points) -> None:
    """Fill in the marking sheet as an instructor does."""
    table = rows(path)
    for row in table:
        if row["student"] in points:
            row["points"], row["comment"] = points[row["student"]], "=cmd is no formula"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


def answered(text: str, solved: bool = True) -> str:
    page = notebook(solved=solved)
    for cell in page["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == f"{MARK}-written":
            cell["source"] = text
    return json.dumps(page)


@pytest.fixture
def folder(tmp_path):
    """A class of five in four layouts, one of them unreadable."""
    where = tmp_path / "handed in"
    (where / "Zoë Müller" / "work").mkdir(parents=True)
    (where / "Zoë Müller" / "work" / "ps (1).ipynb").write_text(answered("By convexity."))
    (where / "=bob.ipynb").write_text(answered("<b>Obvious.</b>", solved=False))
    (where / "turingalan_4711_815_ps.ipynb").write_text(answered("*Your answer here.*"))
    (where / "Emmy Noether_99_assignsubmission_file_").mkdir()
    shutil.copy(where / "=bob.ipynb", where / "Emmy Noether_99_assignsubmission_file_" / "ps.ipynb")
    (where / "carl.ipynb").write_text('{"cells": [')
    return where


def test_a_class_is_graded_marked_and_graded_again(wall, folder, tmp_path, capsys):
    out, roster = tmp_path / "graded", tmp_path / "roster.csv"
    names = ["Zoë Müller", "=bob", "Turing, Alan", "Emmy Noether", "carl", "Nobody"]
    ids = {"Turing, Alan": "4711"}
    roster.write_text(
        "Student,ID\n" + "".join(f'"{n}",{ids.get(n, "")}\n' for n in names), encoding="utf-8"
    )
    grade = ["grade", "ch90", folder, *ROOT, "--out", out, "--roster", roster, "--jobs", 2]

    assert run(*grade, "--dry-run") == 0 and not out.exists()
    assert run(*grade) == 0
    said = capsys.readouterr().out
    assert "[6/6]" in said
    table = {row["student"]: row for row in rows(out / "grades.csv")}
    assert {who: row["status"] for who, row in table.items()} == {
        "Zoë Müller": "graded",
        "'=bob": "graded",
        "Turing, Alan": "graded",
        "Emmy Noether": "graded",
        "carl": "unreadable",
        "Nobody": "missing",
    }
    checks = sum(check.points for check in small_set().checks)
    assert (
        int(table["Zoë Müller"]["automatic"]) == int(table["Turing, Alan"]["automatic"]) == checks
    )
    assert table["'=bob"]["automatic"] == table["carl"]["automatic"] == "0"
    assert table["Zoë Müller"]["to mark"] == MARK and table["Turing, Alan"]["to mark"] == ""
    assert "\\u003cb" not in (page := (out / "answers.html").read_text("utf-8"))
    assert "&lt;b&gt;Obvious.&lt;/b&gt;" in page and "<b>Obvious" not in page
    typeset = nbformat.read(out / "answers.ipynb", as_version=4)
    nbformat.validate(typeset)
    assert {cell.cell_type for cell in typeset.cells} == {"markdown"}
    assert "By convexity." in [cell.source for cell in typeset.cells]

    before = {p.name: p.read_bytes() for p in (out / "feedback").iterdir()}
    assert len(before) == 6
    refill(out / "marks.csv", **{"Zoë Müller": 4, "'=bob": "1,5"})
    assert run(*grade) == 0
    assert "unchanged and not graded again" in capsys.readouterr().out
    table = {row["student"]: row for row in rows(out / "grades.csv")}
    assert float(table["Zoë Müller"]["total"]) == checks + 4
    assert float(table["'=bob"]["total"]) == 1.5
    assert table["'=bob"]["to mark"] == ""
    canvas = {row["Student"]: row for row in rows(out / "canvas.csv")}
    assert canvas["Turing, Alan"]["ID"] == "4711"
    assert canvas["    Points Possible"][small_set().title] == str(small_set().points)
    after = {p.name: p.read_bytes() for p in (out / "feedback").iterdir()}
    assert [n for n in before if before[n] != after[n]] == sorted(
        ["Zoë Müller.html", "_bob.html"], key=list(before).index
    )
    assert "=cmd is no formula" in after["Zoë Müller.html"].decode()
    sheet = {(r["student"], r["exercise"]): r for r in rows(out / "marks.csv")}
    assert sheet["Zoë Müller", MARK]["comment"] == "'=cmd is no formula"
    assert sheet["Nobody", MARK]["points"] == "0"

    report = json.loads((out / "report.json").read_text("utf-8"))
    zoe = report["results"]["Zoë Müller"]
    data = (folder / "Zoë Müller" / "work" / "ps (1).ipynb").read_bytes()
    assert zoe["sha256"] == hashlib.sha256(data).hexdigest() and zoe["seed"] == report["seed"]
    assert run(*grade, "--fresh") == 0  # an exact regrade: same seed, same points, same words
    again = json.loads((out / "report.json").read_text("utf-8"))
    for who, old in report["results"].items():
        assert again["results"][who]["checks"] == old["checks"], who


@pytest.mark.parametrize(
    ("points", "words"),
    [("99", "from 0 to"), ("-1", "from 0 to"), ("many", "from 0 to"), ("nan", "from 0 to")],
)
def test_marks_that_cannot_be_right_change_nothing(wall, folder, tmp_path, capsys, points, words):
    out = tmp_path / "graded"
    grade = ["grade", "ch90", folder, *ROOT, "--out", out, "--jobs", 1]
    for path in list(folder.iterdir()):  # one is enough here
        if path.name != "carl.ipynb":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(*grade) == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "marks.csv"}
    refill(out / "marks.csv", carl=points)
    assert run(*grade) == 2
    error = capsys.readouterr().err
    assert words in error and "line 2" in error
    assert all(p.read_bytes() == data for p, data in before.items())
    (out / "marks.csv").write_text(f"student,exercise,points\nghost,{MARK},1\ncarl,ex-no,1\n")
    assert run(*grade) == 2
    error = capsys.readouterr().err
    assert "'ghost'" in error and "'ex-no'" in error


def test_bad_input_is_a_sentence_and_exit_code_2(wall, folder, tmp_path, capsys):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text("[]")
    for arguments, words in [
        (["grade", "ch90", tmp_path / "nowhere", *ROOT], "does not exist"),
        (["grade", "ch99", folder, *ROOT], "no set 'ch99'"),
        (["grade", "ch90", folder, "--root", tmp_path / "nowhere"], "does not exist"),
        (["grade", "ch90", folder, *ROOT, "--out", blocked], "cannot be written"),
        (["grade", "ch90", folder, *ROOT, "--out", tmp_path / "other"], "is not a report"),
        (["grade", "ch90", folder, *ROOT, "--roster", tmp_path / "no.csv"], "cannot be read"),
        (["prove", "nothing.toml", *ROOT], "no file"),
        (["release", "ch90:second", *ROOT], "ch90:first"),
    ]:
        assert run(*arguments) == 2, arguments
        said = capsys.readouterr()
        assert words in said.err and "Traceback" not in said.err, (arguments, said.err)
    assert blocked.read_text().startswith("a file")


def test_grades_of_another_set_are_not_overwritten(wall, folder, tmp_path, capsys):
    out = tmp_path / "graded"
    out.mkdir()
    (out / "report.json").write_text('{"set": "ch03", "digest": "", "seed": 1, "results": {}}')
    assert run("grade", "ch90", folder, *ROOT, "--out", out) == 2
    assert "holds the grades of 'ch03'" in capsys.readouterr().err


def test_nothing_is_run_without_a_sandbox(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("coursework.sandbox.problem", lambda: "Install bubblewrap.")
    assert run("grade", "ch90", folder, *ROOT, "--out", tmp_path / "graded") == 2
    assert "Install bubblewrap" in capsys.readouterr().err
    assert not (tmp_path / "graded").exists()


def test_release_and_prove(wall, tmp_path, capsys):
    release = ["release", "ch90", *ROOT, "--out", tmp_path]
    assert run(*release, "--dry-run") == 0 and not list(tmp_path.iterdir())
    said = capsys.readouterr().out
    assert all(exercise.label in said for exercise in small_set().exercises)
    assert run(*release) == 0
    first = (tmp_path / "ch90.ipynb").read_bytes()
    assert run(*release) == 0 and (tmp_path / "ch90.ipynb").read_bytes() == first
    (tmp_path / "ch90.ipynb").write_text("mine")
    assert run(*release) == 2 and (tmp_path / "ch90.ipynb").read_text() == "mine"
    assert run(*release, "--force") == 0 and (tmp_path / "ch90.ipynb").read_bytes() == first
    assert run("prove", "ch90", *ROOT, "--seeds", 2) == 0
    assert "PROVED" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prove", "release", "grade"])
def test_help_suffices(command):
    done = subprocess.run(
        [sys.executable, "-m", "coursework", command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for words in ("ch03:first", "exit codes", "--root"):
        assert words in done.stdout


def test_a_wrong_number_is_a_usage_error():
    done = subprocess.run(
        [sys.executable, "-m", "coursework", "grade", "ch90", ".", "--jobs", "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "1 or more" in done.stderr


# ------------------------------------------------------------------- marks are never lost


@pytest.fixture
def marked(wall, tmp_path):
    """A class of two, graded, and how to grade it again."""
    where, out = tmp_path / "in", tmp_path / "graded"
    where.mkdir()
    (where / "ada.ipynb").write_text(answered("By convexity."))
    (where / "bob.ipynb").write_text(answered("*Your answer here.*"))
    grade = ["grade", "ch90", where, *ROOT, "--out", out, "--jobs", 1]
    assert run(*grade) == 0
    return where, out, grade


def sheet(out: Path) -> dict[str, tuple[str, str]]:
    return {row["student"]: (row["points"], row["comment"]) for row in rows(out / "marks.csv")}


def test_a_mark_belongs_to_the_answer_that_was_marked(marked, capsys):
    where, out, grade = marked
    assert sheet(out) == {"ada": ("", ""), "bob": ("0", "No answer.")}
    refill(out / "marks.csv", ada=4)
    assert run(*grade) == 0
    (where / "ada.ipynb").write_text(answered("By concavity."))
    (where / "bob.ipynb").write_text(answered("Late, but here."))
    capsys.readouterr()
    assert run(*grade) == 1  # somebody has to look
    assert "mark them again: ada\n" in capsys.readouterr().out
    assert sheet(out) == {
        "ada": ("", "[4 points for an earlier answer] =cmd is no formula"),
        "bob": ("", ""),  # the 0 was that of an empty cell
    }
    table = {row["student"]: row for row in rows(out / "grades.csv")}
    assert table["ada"]["to mark"] == table["bob"]["to mark"] == MARK
    assert "earlier answer" not in (out / "feedback" / "ada.html").read_text("utf-8")
    assert run(*grade) == 0 and sheet(out)["ada"][1].startswith("[4 points")


def test_a_sheet_from_a_spreadsheet_is_read_or_refused_and_never_emptied(marked, capsys):
    _, out, grade = marked
    semicolons = f"points;exercise;student;comment\r\n2,5;{MARK};ada;schön\r\n;;;\r\n"
    (out / "marks.csv").write_bytes(semicolons.encode("cp1252"))
    assert run(*grade) == 0 and sheet(out)["ada"] == ("2.5", "schön")
    for text in ("no,columns\n", "", f"student,exercise,points\nada,{MARK},2,5\n"):
        (out / "marks.csv").write_text(text)
        assert run(*grade) == 2
        assert (out / "marks.csv").read_text() == text
        assert "marking sheet" in capsys.readouterr().err


def test_comments_wait_for_points_and_sheets_of_two_markers_add_up(marked, tmp_path):
    _, out, grade = marked
    refill(out / "marks.csv", ada="")
    assert run(*grade) == 0 and sheet(out)["ada"] == ("", "'=cmd is no formula")
    other = tmp_path / "other.csv"
    other.write_text(f"student,exercise,points,comment\nbob,{MARK},3,by word of mouth\n")
    refill(out / "marks.csv", ada=1)
    assert run(*grade, "--marks", other) == 0
    assert run(*grade) == 0
    assert sheet(out) == {"ada": ("1", "'=cmd is no formula"), "bob": ("3", "by word of mouth")}


# --------------------------------------------------------------- interrupted, and side by side


def test_an_interrupted_class_goes_on_where_it_was(wall, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "graded"
    grade = ["grade", "ch90", folder, *ROOT, "--out", out, "--jobs", 1]
    whole = batch.grade_all

    def interrupted(submissions, the_set, **how):
        whole(submissions[:2], the_set, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "grade_all", interrupted)
    assert run(*grade) == 2
    assert "2 of 5 results are kept" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["report.json"]
    monkeypatch.undo()
    assert run(*grade) == 0
    assert "2 of 5 submissions are unchanged" in capsys.readouterr().out
    assert len(rows(out / "grades.csv")) == 5


def test_two_runs_do_not_write_into_one_folder(marked, capsys):
    _, out, grade = marked
    with cli._alone(out):
        assert run(*grade) == 2
    assert "another run" in capsys.readouterr().err
    assert run(*grade) == 0


def test_another_grader_or_set_uses_no_old_results(marked, monkeypatch, capsys):
    _, _, grade = marked
    now = grading.versions(small_set())
    assert set(now) == {"python", "numpy", "coursework", "grader"}
    for name in now:
        monkeypatch.setattr(grading, "versions", lambda _, name=name: now | {name: "another"})
        capsys.readouterr()
        assert run(*grade, "--dry-run") == 0
        said = capsys.readouterr().out
        assert "everything is graded again" in said and "(known)" not in said, name


def test_a_set_of_one_s_own_is_graded_by_its_file(wall, folder, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / "filters.toml").write_text(f'title = "Filters"\nexercises = ["{MARK}"]\n')
    monkeypatch.chdir(own)
    assert run("grade", "filters.toml", folder, *ROOT, "--jobs", 2) == 0
    table = rows(own / "graded" / "grades.csv")
    assert len(table) == 5 and not any(row["status"] == "grader-error" for row in table)


def test_half_characters_do_not_stop_a_class(wall, tmp_path):
    page = notebook("'\ud800'\nraise ValueError('\\ud800 \\x1b[2J')")
    for cell in page["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == f"{MARK}-written":
            cell["source"] = "a half: \ud800"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.ipynb").write_text(json.dumps(page))
    out = tmp_path / "graded"
    assert run("grade", "ch90", tmp_path / "in", *ROOT, "--out", out, "--jobs", 1) == 0
    assert "a half: ?" in (out / "answers.html").read_text("utf-8")


def test_a_broken_check_is_told_to_the_instructor_alone(wall, folder, tmp_path, capsys):
    root = tmp_path / "chapters"
    shutil.copytree(BANK / "chapters", root)
    hidden = next(root.glob("90_*/exercises/checks_hidden.py"))
    check = small_set().checks[0]
    hidden.write_text(
        f"{hidden.read_text()}\n\nimport checks_public as p\n"
        "one = next(c for c in vars(p).values() if getattr(c, 'label', '') == "
        f"{check.label!r})\n\n@one.hidden('it works')\ndef _(ask, *values):\n"
        "    raise KeyError('the secret')\n"
    )
    out = tmp_path / "graded"
    assert run("grade", "ch90", folder, "--root", root, "--out", out, "--jobs", 1) == 1
    assert "a check is broken" in (said := capsys.readouterr().out) and "the secret" in said
    pages = [page.read_text("utf-8") for page in (out / "feedback").iterdir()]
    assert any("not your fault" in page for page in pages)
    assert not any("the secret" in page for page in pages)
