"""The bridge: nbgrader's own commands, with the sandbox in place of a kernel."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bank import BANK, rows, submission

from coursework.cli import main

pytest.importorskip("nbgrader")
CONFIG = """\
from coursework.nbgrader_bridge import configure
c = get_config()
c.CourseDirectory.root = {course!r}
configure(c, root={root!r}, seed=3)
"""
CHOSEN = (
    "plain",
    "warns_and_prints",
    "half",
    "known_mistake",
    "untouched",
    "copied_cells",
    "deleted_checks",
    "text_cells",
    "always_equal",
    "input_transformer",
)


def test_autograde_and_feedback(wall, tmp_path):
    root = str(BANK / "chapters")
    (tmp_path / "nbgrader_config.py").write_text(CONFIG.format(course=str(tmp_path), root=root))
    assert main(["release", "ch90", "--root", root, "--out", f"{tmp_path}/source/ch90"]) == 0
    chosen = {row["name"]: row for row in rows() if row["name"] in CHOSEN}
    assert len(chosen) == len(CHOSEN)
    for name, row in chosen.items():
        folder = tmp_path / "submitted" / name / "ch90"
        folder.mkdir(parents=True)
        (folder / "ch90.ipynb").write_bytes(submission(row))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # nbgrader calls alembic
    environment = {**os.environ, "PATH": path}
    for command in (
        ["generate_assignment", "ch90"],
        ["autograde", "ch90"],
        ["generate_feedback", "ch90"],
        ["export"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    with (tmp_path / "grades.csv").open(newline="") as file:
        got = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    assert got == {name: row["score"] for name, row in chosen.items()}
    page = (tmp_path / "feedback" / "known_mistake" / "ch90" / "ch90.html").read_text("utf-8")
    assert "not yet" in page
    hidden = (BANK / "chapters/90_small/exercises/checks_hidden.py").read_text("utf-8")
    long = [line.strip() for line in hidden.splitlines() if len(line.strip()) > 40]
    code = [line for line in long if not line.startswith(("@", "from", "import", '"'))]
    assert code and not any(line in page for line in code)


def test_without_the_bridge_nbgrader_is_told(tmp_path):
    """Plain nbgrader would run the public checks only: the notebook refuses."""
    from coursework.release import release
    from coursework.sets import find

    page = release(find("ch90", BANK / "chapters"))
    cell = next(c for c in page["cells"] if c["source"].startswith("# Self-check"))
    source = f"{cell['source']}\ncheck('ex-small-fosc')\n"
    environment = {**os.environ, "NBGRADER_EXECUTION": "autograde"}
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "nbgrader_bridge" in done.stderr
