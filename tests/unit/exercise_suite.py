"""What every chapter's exercises must pass: the tests that ``test_exercises_chNN.py`` inherit.

A chapter subclasses :class:`ExerciseSuite`, names its folder and its right answers, and adds the
tests of what its own statements and solutions assert.
"""

from __future__ import annotations

import importlib.util
import math
import re
import types
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import numpy as np
import pytest

from advreg import operators

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"


@cache
def load_checks(folder: str) -> types.ModuleType:
    """The module ``checks`` of a chapter, under a name of its own."""
    path = CHAPTERS / folder / "exercises" / "checks.py"
    spec = importlib.util.spec_from_file_location(f"checks_{folder}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def load_notebook(folder: str) -> nbformat.NotebookNode:
    return nbformat.read(CHAPTERS / folder / "exercises" / "exercises.ipynb", as_version=4)


@cache
def run_notebook(folder: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What the solution cells of the notebook define, and what its checks say of them."""
    code = [c for c in load_notebook(folder).cells if c.cell_type == "code"]
    space, said = {}, {}
    exec(code[0].source.replace("import checks", ""), space)
    space["checks"] = types.SimpleNamespace(**vars(load_checks(folder)))
    for cell in code:
        if "solution" in cell.metadata.get("tags", []):
            exec(cell.source, space)
        elif cell.source.startswith("checks.tell("):
            name = re.match(r"checks\.tell\(checks\.(\w+)\(", cell.source)[1]
            space["checks"].tell = lambda sentences, name=name: said.update({name: sentences})
            exec(cell.source, space)
    return space, said


def rejected(sentences: list[str]) -> list[str]:
    return [s for s in sentences if s.startswith("not yet: ")]


class Hostile:
    """Neither a number nor convertible to one."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array here")


def _raise(*args):
    raise ZeroDivisionError("oh no")


def _exit(*args):
    raise SystemExit(3)


def _unwritten(*args):
    raise NotImplementedError


def _shape(args):
    """The shape of an answer: that of the first array or of the operator's unknown."""
    for a in args:
        if isinstance(a, np.ndarray):
            return a.shape
        if isinstance(a, operators.ParallelBeam):
            return a.range_shape
        if isinstance(a, operators.Operator):
            return a.domain_shape
    return ()


ODD = {
    "none": lambda *args: None,
    "zero": lambda *args: 0.0,
    "one": lambda *args: 1.0,
    "nan": lambda *args: math.nan,
    "zeros": lambda *args: np.zeros(_shape(args)),
    "ones": lambda *args: np.ones(_shape(args)),
    "nans": lambda *args: np.full(_shape(args), np.nan),
    "infinity": lambda *args: np.full(_shape(args), np.inf),
    "huge": lambda *args: np.full(_shape(args), 1e300),
    "huge-number": lambda *args: 1e300,
    "negative": lambda *args: np.full(_shape(args), -1.0),
    "negative-number": lambda *args: -1.0,
    "tiny-number": lambda *args: 1e-300,
    "wrong-shape": lambda *args: np.ones((3, 1, 2)),
    "empty": lambda *args: np.array([]),
    "string": lambda *args: "0.5",
    "list-of-strings": lambda *args: ["a", "b"],
    "ragged": lambda *args: [[1.0], [1.0, 2.0]],
    "complex": lambda *args: np.ones(_shape(args)) * 1j,
    "boolean": lambda *args: True,
    "object": lambda *args: object(),
    "hostile": lambda *args: Hostile(),
    "raises": _raise,
    "exits": _exit,
    "unwritten": _unwritten,
    "too-few-arguments": lambda: 1.0,
    "echo": lambda *args: args[0],
    "not-a-function": 0.5,
    "an-array": np.ones(3),
}


class ExerciseSuite:
    """Right answers pass, every known wrong answer gets its sentence, nothing ends in a traceback.

    Attributes
    ----------
    folder
        The chapter's folder.
    right
        Name of a check -> (the notebook's further answers, other right answers).
    allowed
        Name of a check -> how many properties an odd function may pass, because a prediction or a
        step number is right when the function is not.
    least
        The least number of exercises.
    first_round
        Least and most minutes of the exercises marked for a first round.
    """

    folder: ClassVar[str]
    right: ClassVar[dict[str, tuple[tuple, list]]]
    allowed: ClassVar[dict[str, int]] = {}
    least: ClassVar[int] = 8
    first_round: ClassVar[tuple[int, int]] = (150, 210)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        wanted, right = set(metafunc.fixturenames), self.right
        checks = load_checks(self.folder)
        if "wrong" in wanted:
            pairs = [(n, w) for n in right for w in getattr(checks, n).mistakes]
            metafunc.parametrize(
                ("name", "wrong"), pairs, ids=[f"{n}-{w[1].__name__}" for n, w in pairs]
            )
        elif "other" in wanted:
            pairs = [(n, other) for n, (_, others) in right.items() for other in others]
            metafunc.parametrize(("name", "other"), pairs)
        elif "name" in wanted:
            metafunc.parametrize("name", right)
        if "odd" in wanted:
            metafunc.parametrize("odd", ODD)

    def check(self, name: str) -> Any:
        return getattr(load_checks(self.folder), name)

    @property
    def page(self) -> nbformat.NotebookNode:
        return load_notebook(self.folder)

    # ------------------------------------------------------------------- the checks

    def test_every_check_is_tested(self):
        module = load_checks(self.folder)
        found = {name for name, value in vars(module).items() if isinstance(value, module.Check)}
        assert found == set(self.right)

    def test_the_solution_passes(self, name):
        sentences = run_notebook(self.folder)[1][name]
        assert len(sentences) == len(self.check(name).properties)
        assert rejected(sentences) == []

    def test_other_right_answers_pass(self, name, other):
        assert rejected(self.check(name)(other, *self.right[name][0])) == []

    def test_known_mistakes_are_named(self, name, wrong):
        check, (sentence, mistake) = self.check(name), wrong
        sentences = check(mistake, *self.right[name][0])
        assert any(sentence in s for s in rejected(sentences)), sentences
        others = {other for other, _ in check.mistakes} - {sentence}
        assert not any(other in s for s in sentences for other in others), sentences

    def test_every_code_exercise_knows_two_mistakes(self, name):
        assert len(self.check(name).mistakes) >= 2

    def test_odd_answers_get_a_sentence(self, name, odd):
        check = self.check(name)
        sentences = check(ODD[odd], *self.right[name][0])
        assert len(sentences) == len(check.properties)
        assert all(isinstance(s, str) and s.startswith(("ok: ", "not yet: ")) for s in sentences)
        passed = len(sentences) - len(rejected(sentences))
        assert passed <= self.allowed.get(name, 0), sentences

    def test_answers_cannot_change_the_question(self, name):
        """A function that spoils its arguments is judged by its result all the same."""
        further, others = self.right[name]

        def spoils(*args):
            copies = [np.copy(a) if isinstance(a, np.ndarray) else a for a in args]
            for a in args:
                if isinstance(a, np.ndarray):
                    a[...] = 0
            return others[0](*copies)

        assert rejected(self.check(name)(spoils, *further)) == []

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
        checked = [c for c in code if c.source.startswith("checks.tell(")]
        assert len(checked) == len(self.right)
        for cell in checked:
            before = code[code.index(cell) - 1]
            assert cell.metadata["tags"] == ["nbval-check-output"]
            assert before.metadata["tags"] == ["hide-input", "solution"]
            assert before.metadata["mystnb"]["code_prompt_show"] == "Show the solution"
            assert before.metadata["mystnb"]["code_prompt_hide"] == "Hide the solution"
            printed = "".join(o["text"] for o in cell.outputs)
            assert "not yet" not in printed
            assert printed.endswith("These checks are necessary, not sufficient.\n")
