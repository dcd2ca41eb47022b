"""The three commands, from beginning to end, on the small set of the bank."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bank import BANK, notebook, small_set

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
