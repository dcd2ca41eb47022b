"""Grading a class, against nbgrader.

Run ``make bench``.  Both sides grade the same 30 notebooks with the same checks and find the same
points, which the test first asserts.  nbgrader runs them in the student's kernel, one after the
other, as it does; ours runs two jobs, each behind its wall.  Timed by a clock on the wall.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from coursework.release import release
from coursework.sets import find

pytest.importorskip("nbgrader")

CHAPTERS = Path(__file__).parents[1] / "tests" / "coursework" / "bank" / "chapters"
STUDENTS = 30
IN_THE_KERNEL = """\
from coursework.checks import Answers
from coursework.sets import load_checks
check = next(c for c in load_checks({folder!r})[0] if c.label == {label!r})
sum(verdict.points for verdict in check.run(Answers(globals()), 1))"""
CONFIG = """\
c = get_config()
c.CourseDirectory.root = {root!r}
"""


def solved(page: dict, exercises: list) -> dict:
    """The notebook with the book's own solutions in it."""
    page = json.loads(json.dumps(page))
    for exercise in exercises:
        for cell in page["cells"]:
            if exercise.check and f"def {exercise.check.function}(" in cell["source"]:
                cell["source"] = exercise.solution
    return page


def in_the_kernel(page: dict, exercises: list) -> dict:
    """The notebook whose check cells run all checks where the answers are."""
    page = json.loads(json.dumps(page))
    labels = {e.label: e for e in exercises}
    for cell in page["cells"]:
        label = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if cell["cell_type"] == "code" and label in labels:
            folder = labels[label].folder
            source = IN_THE_KERNEL.format(folder=folder, label=label)
            cell["source"] = f"from pathlib import Path, PosixPath\n{source}"
        elif label == "self-check":
            cell["source"] = "pass"
    return page


def points(path: Path, student: str, column: str) -> dict[str, float]:
    with path.open(newline="") as file:
        return {row[student]: float(row[column]) for row in csv.DictReader(file)}


def test_thirty_submissions_against_nbgrader(compare, tmp_path):
    the_set = find("ch90", CHAPTERS)
    page = release(the_set)
    course, folder, out = tmp_path / "course", tmp_path / "handed in", tmp_path / "graded"
    (course / "source" / "ch90").mkdir(parents=True)
    folder.mkdir()
    (course / "nbgrader_config.py").write_text(CONFIG.format(root=str(course)))
    source = nbformat.from_dict(in_the_kernel(page, the_set.exercises))
    nbformat.write(source, course / "source" / "ch90" / "ch90.ipynb")
    for i in range(STUDENTS):
        right = i % 3 > 0  # every third leaves it empty
        answer = solved(page, the_set.exercises) if right else page
        nbformat.write(nbformat.from_dict(answer), folder / f"s{i:02d}.ipynb")
        there = course / "submitted" / f"s{i:02d}" / "ch90"
        there.mkdir(parents=True)
        nbformat.write(
            nbformat.from_dict(in_the_kernel(answer, the_set.exercises)), there / "ch90.ipynb"
        )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # nbgrader calls alembic
    environment = {**os.environ, "PATH": path}

    def nbgrader(*arguments: str) -> None:
        command = [sys.executable, "-m", "nbgrader", *arguments]
        subprocess.run(command, cwd=course, env=environment, capture_output=True, check=True)

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)
        where = ["--root", str(CHAPTERS), "--out", str(out), "--jobs", "2"]
        command = [sys.executable, "-m", "coursework", "grade", "ch90", str(folder), *where]
        subprocess.run(command, capture_output=True, check=True)

    def peer() -> None:
        shutil.rmtree(course / "autograded", ignore_errors=True)
        nbgrader("autograde", "ch90", "--force")

    nbgrader("generate_assignment", "ch90")
    ours()
    peer()
    nbgrader("export")
    got = points(out / "grades.csv", "student", "automatic")
    assert got == points(course / "grades.csv", "student_id", "raw_score")
    assert set(got.values()) == {0, sum(check.points for check in the_set.checks)}
    compare(
        "30 submissions, 2 jobs, wall",
        ours,
        "nbgrader",
        peer,
        goal=4,
        rounds=1,
        clock=time.perf_counter,
    )
