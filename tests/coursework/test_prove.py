"""A set that is not gradable is told so."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from bank import BANK

from coursework.prove import mutants, prove
from coursework.sets import SetError, default_root, find

UNIT = Path(__file__).parents[1] / "unit"
CHAPTERS = sorted(p.parts[-3] for p in default_root().glob("[0-9]*_*/exercises/exercises.ipynb"))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_is_proved(chapter):
    """By the tests of its exercises, one file each, so that they can run side by side."""
    file = UNIT / f"test_exercises_ch{chapter[:2]}.py"
    assert f'FOLDER = "{chapter}"' in file.read_text() and "(ExerciseSuite)" in file.read_text()


@pytest.mark.parametrize("name", ["midterm", "ch07:first"])
def test_a_part_of_the_chapters_is_gradable(wall, name):
    finding = prove(find(name), seeds=1)
    assert finding.problems == [] and finding.counts["mutants"] > 50


# ------------------------------------------------------- what is wrong with a set is noticed


@pytest.fixture
def small(tmp_path):
    """A copy of the small set that a test may spoil: (file, old, new) -> the problems."""
    shutil.copytree(BANK / "chapters", tmp_path / "chapters")
    folder = tmp_path / "chapters" / "90_small" / "exercises"

    def spoil(*changes: tuple[str, str, str], fast: bool = True) -> str:
        for name, old, new in changes:
            path = folder / name
            text = path.read_text() if path.exists() else ""
            assert old in text, f"{name} has no {old!r}"
            path.write_text(text.replace(old, new) if old else text + new)
        finding = prove(find("ch90", tmp_path / "chapters"), seeds=2, fast=fast, say=str)
        return "\n".join(finding.problems)

    return spoil


def test_the_small_set_is_gradable(small):
    assert small() == ""


HIDDEN, PUBLIC = "checks_hidden.py", "checks_public.py"


RIGHT_AFTER_ALL = """
def tikhonov_solve(a, y, alpha):
    return np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T @ y)
"""

# what is wrong -> file, old text, new text, words of the problem
DEFECTS = {
    "a tolerance that is tighter than rounding": (
        PUBLIC, "if not size < 1e-6:", "if not size < 1e-17:",
        "the solution, seed 0",
    ),
    "a tolerance that right answers hardly meet": (
        HIDDEN, 'x for alpha = 1e-9", 1e-5', 'x for alpha = 1e-9", 1e-7',
        "of its tolerance",
    ),
    "a check that fails for some seeds": (
        PUBLIC, "((6, 4), (5, 5))", "((6, 4), (5, 5), (2, int(ask.rng.integers(0, 2))))",
        "the solution, seed",
    ),
    "a mistake that is none": (
        PUBLIC, "alpha**2 * np.eye", "alpha * np.eye",
        "gets full marks",
    ),
    "two mistakes that are the same": (
        PUBLIC, "return np.linalg.lstsq(a, y, rcond=None)[0]", "return squares_alpha(a, y, alpha)",
        "is named",
    ),
    "points for a shape": (
        PUBLIC, "if not numbers(ask(x, x0, eps, g), ()) > 1e-9:",
        "numbers(ask(x, x0, eps, g), ())\n        if False:",
        "`fosc_linf` gives zero",
    ),
    "a wrong answer that is right": (
        "bank/wrong/constant.py", "", RIGHT_AFTER_ALL,
        "at most 0 expected",
    ),
    "all points are public": (
        HIDDEN, 'so it does if the matrix is wide", 2', 'so it does if the matrix is wide", 0',
        "for public properties",
    ),
    "a proof without a rubric": (
        HIDDEN, "WRITTEN = [", "WRITTEN = []\nOTHERS = lambda: [",
        "ex-small-proof",
    ),
    "a check that breaks": (
        HIDDEN, "    a, y = matrix(ask.rng, 7, 4)", "    a, y = undefined, matrix(ask.rng, 7, 4)",
        "undefined",
    ),
    "a mutant that is listed, but noticed": (
        "bank/equivalent_mutants.txt", "", "ex-small-fosc line 99: 1 -> 2 # no reason at all\n",
        "but it is noticed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_is_wrong_is_said(small, defect):
    *change, words = DEFECTS[defect]
    try:
        said = small(tuple(change))
    except SetError as error:  # what is missing altogether is noticed before
        said = str(error)
    assert words in said


def test_a_weak_check_lets_a_mutant_live(small):
    said = small((HIDDEN, "    gradient_vanishes(ask, ((4, 7), (1, 3)))", "    ask.rng.random()"))
    assert "gives" in said or "mutant" in said


def test_mutants_change_one_thing():
    source = "def f(a, b):\n    return max(a.T @ b - 2, -np.sqrt(a)) if a < b else 0.5\n"
    found = dict(mutants(source))
    assert len(found) == len(set(found.values())) and source not in found.values()
    for label in (
        "line 2: a.T @ b - 2 -> other operator",
        "line 2: a.T @ b - 2 -> left operand only",
        "line 2: a < b -> other comparison",
        "line 2: 2 -> 3",
        "line 2: 0.5 -> 1.5",
        "line 2: a.T -> no transpose",
        "line 2: np.sqrt(a) -> no sqrt",
    ):
        assert label in found
    for code in found.values():
        compile(code, "mutant", "exec")


def test_a_mutant_that_loops_is_stopped(small, monkeypatch):
    """A changed constant can make a solution run for ever; that counts as noticed."""
    from coursework import prove as module
    from coursework.checks import Check

    monkeypatch.setattr(module, "CALL_SECONDS", 0.2)
    check = Check("ex-loop", "f")
    check.property("it ends")(lambda ask: ask(1.0))
    names = {"np": np}
    exec("def f(x):\n    while True:\n        pass\n", names)
    assert module._noticed(check, names, (0,))


def test_findings_are_data():
    from coursework.prove import Finding

    finding = Finding()
    finding.count("mutants", 3)
    assert dataclasses.asdict(finding)["counts"] == {"mutants": 3}
