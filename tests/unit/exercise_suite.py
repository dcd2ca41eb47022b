"""What every chapter's exercises must pass: the tests that ``test_exercises_chNN.py`` inherit.

A chapter subclasses :class:`ExerciseSuite`, names its folder, and adds the tests of what its own
statements and solutions assert.  That right answers pass and wrong ones are named is what ``prove``
asks of every set.
"""

from __future__ import annotations

import contextlib
import re
import types
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import nbformat

from coursework.checks import Answers
from coursework.prove import prove
from coursework.sets import find, load_modules
from coursework.sets import load_checks as load_all

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"


@cache
def load_checks(folder: str) -> types.SimpleNamespace:
    """The names of a chapter's checks: those of the public file, then those of the hidden one."""
    public, hidden = load_modules(CHAPTERS / folder / "exercises")
    return types.SimpleNamespace(**{**vars(public), **vars(hidden)})


@cache
def load_notebook(folder: str) -> nbformat.NotebookNode:
    return nbformat.read(CHAPTERS / folder / "exercises" / "exercises.ipynb", as_version=4)


@cache
def run_notebook(folder: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What the solution cells of the notebook define, and what its checks say of them."""
    checks = {c.label: c for c in load_all(CHAPTERS / folder / "exercises")[0]}
    space, said = {}, {}
    with contextlib.chdir(CHAPTERS / folder / "exercises"):
        for cell in load_notebook(folder).cells:
            if {"setup", "given", "solution"} & set(cell.metadata.get("tags", [])):
                exec(cell.source, space)
            elif asked := re.match(r"check\(\"(.+)\"\)", cell.source):
                check = checks[asked[1]]
                said[check.label] = [v.sentence for v in check.run(Answers(space))]
    return space, said


def rejected(sentences: list[str]) -> list[str]:
    return [s for s in sentences if s.startswith("not yet: ")]


class ExerciseSuite:
    """The page is complete, its solutions pass, its notebook asks for every check.

    Attributes
    ----------
    folder
        The chapter's folder.
    least
        The least number of exercises.
    first_round
        Least and most minutes of the exercises marked for a first round.
    """

    folder: ClassVar[str]
    least: ClassVar[int] = 8
    first_round: ClassVar[tuple[int, int]] = (150, 210)

    @property
    def page(self) -> nbformat.NotebookNode:
        return load_notebook(self.folder)

    @property
    def checks(self) -> list:
        return load_all(CHAPTERS / self.folder / "exercises")[0]

    def test_the_solutions_pass(self):
        said = run_notebook(self.folder)[1]
        assert set(said) == {check.label for check in self.checks}
        assert [s for sentences in said.values() for s in rejected(sentences)] == []

    def test_the_set_is_gradable(self, wall):
        finding = prove(find(self.folder))
        assert finding.problems == []
        assert finding.counts["mutants"] > 50 and finding.counts["known mistakes"] >= 20

    # ------------------------------------------------------------ the form of the page

    def test_every_exercise_is_complete(self):
        text = "\n".join(c.source for c in self.page.cells if c.cell_type == "markdown")
        found = dict(
            re.findall(r"`{3,}\{exercise\} .*\n:label: (ex-[a-z0-9-]+)\n\n\*(.+)\*\n", text)
        )
        assert len(found) >= self.least and len(found) == text.count("{exercise} ")
        hints = re.findall(r"`{3,}\{admonition\} Hint\n:class: tip, dropdown", text)
        assert len(hints) == len(found)
        kinds = set()
        for label, line in found.items():
            kind, stars, minutes, uses = (part.strip() for part in line.split("·"))
            kinds.add(kind)
            assert "{prf:ref}" in uses and stars in {"★", "★★", "★★★"}
            assert f"```{{solution}} {label}\n:class: dropdown" in text
            row = next(r for r in text.splitlines() if r.startswith("|") and f"`{label}`" in r)
            cells = [c.strip() for c in row.split("|")]
            assert cells[3:6] == [kind, stars, minutes.removesuffix(" min")]
            for statement in re.findall(r"\{prf:ref\}`([a-z0-9-]+)`", cells[6]):
                assert statement in uses
        assert kinds == {"prove", "code", "investigate", "broken proof"}

    def test_the_first_round_has_its_length(self):
        rows = [r for r in self.page.cells[0].source.splitlines() if r.startswith("| •")]
        low, high = self.first_round
        assert low <= sum(int(r.split("|")[5]) for r in rows) <= high

    def test_solutions_are_hidden_and_checks_are_not(self):
        code = [c for c in self.page.cells if c.cell_type == "code"]
        assert code[0].metadata["tags"] == ["setup"]
        checked = [c for c in code if c.source.startswith("check(")]
        assert len(checked) == len(self.checks)
        for cell in checked:
            before = code[code.index(cell) - 1]
            assert cell.metadata["tags"] == ["nbval-check-output"]
            assert before.metadata["tags"] == ["hide-input", "solution"]
            assert before.metadata["mystnb"]["code_prompt_show"] == "Show the solution"
            assert before.metadata["mystnb"]["code_prompt_hide"] == "Hide the solution"
            printed = "".join(o["text"] for o in cell.outputs)
            assert "not yet" not in printed
            assert printed.endswith("These checks are necessary, not sufficient.\n")
