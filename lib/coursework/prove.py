"""Is a set gradable? The checks are themselves tested, before any student meets them.

Right answers, the book's own and those of ``bank/right``, must get full marks whatever the seed;
every known mistake must lose points and be named; values that are no answers must earn nothing and
break nothing; the answers of ``bank/wrong`` must stay within their limits; and every small change
of a solution (a mutant) must be noticed, unless the bank says why it is right all the same.  All
this is the author's own code and runs in this process.  What students get and hand in takes the
way of a submission: release, sandbox, grade.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import json
import math
import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from coursework import checks as engine
from coursework.checks import Answers, Check, Verdict
from coursework.sets import Exercise, Page, Set

__all__ = ["ODD", "Finding", "mutants", "prove"]

CALL_SECONDS = 10  # a mutant that loops is noticed
MARGIN = 0.1  # a right answer stays this far below every tolerance


@dataclass
class Finding:
    """What was tried, and what is wrong with it.

    Attributes
    ----------
    problems
        Sentences; none if the set is gradable.
    counts
        How many of each kind were tried.
    margin
        The largest error of a right answer, as a fraction of its tolerance.
    """

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    margin: float = 0.0

    def count(self, what: str, number: int = 1) -> None:
        """Add to the count of a kind."""
        self.counts[what] = self.counts.get(what, 0) + number


class _Hostile:
    """Neither a number nor convertible to one."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no array here")

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


def _shape(args: tuple) -> tuple[int, ...]:
    """The shape of an answer, guessed: that of the first array, or of an operator's unknown."""
    for a in args:
        if hasattr(a, "shape"):
            return tuple(a.shape)
        if hasattr(a, "domain_shape"):
            return tuple(a.domain_shape)
    return ()


def _raise(*args: Any) -> None:
    raise ZeroDivisionError("oh no")


def _exit(*args: Any) -> None:
    raise SystemExit(3)


ODD: dict[str, Any] = {
    "None": lambda *args: None,
    "zero": lambda *args: 0.0,
    "one": lambda *args: 1.0,
    "a half": lambda *args: 0.5,
    "NaN": lambda *args: math.nan,
    "zeros": lambda *args: np.zeros(_shape(args)),
    "ones": lambda *args: np.ones(_shape(args)),
    "NaNs": lambda *args: np.full(_shape(args), np.nan),
    "infinity": lambda *args: np.full(_shape(args), np.inf),
    "huge": lambda *args: np.full(_shape(args), 1e300),
    "a huge number": lambda *args: 1e300,
    "a huge integer": lambda *args: 10**400,
    "negative": lambda *args: np.full(_shape(args), -1.0),
    "a negative number": lambda *args: -1.0,
    "a tiny number": lambda *args: 1e-300,
    "a wrong shape": lambda *args: np.ones((3, 1, 2)),
    "empty": lambda *args: np.array([]),
    "a string": lambda *args: "0.5",
    "strings": lambda *args: ["a", "b"],
    "ragged": lambda *args: [[1.0], [1.0, 2.0]],
    "complex": lambda *args: np.ones(_shape(args)) * 1j,
    "True": lambda *args: True,
    "masked": lambda *args: np.ma.masked,
    "a dict": lambda *args: {},
    "an object": lambda *args: object(),
    "hostile": lambda *args: _Hostile(),
    "a function": lambda *args: lambda *more: 0.0,
    "raises": _raise,
    "exits": _exit,
    "too few arguments": lambda: 1.0,
    "its argument": lambda *args: args[0],
    "not a function": 0.5,
    "an array, not a function": np.ones(3),
}


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _run(check: Check, names: dict[str, Any], seed: int = 0) -> list[Verdict]:
    with _time_limit(CALL_SECONDS * len(check.properties)):
        return check.run(Answers(names), seed)


def _noticed(check: Check, names: dict[str, Any], seeds: Sequence[int]) -> bool:
    """Whether some property fails, with some seed; stops at the first."""
    try:
        with _time_limit(CALL_SECONDS):
            return any(
                check.test(known, Answers(names), seed).status != "passed"
                for seed in seeds
                for known in check.properties
            )
    except TimeoutError:
        return True


def _score(verdicts: list[Verdict]) -> int:
    return sum(verdict.points for verdict in verdicts)


# ------------------------------------------------------------------------------ the sources


@dataclass
class _Chapter:
    """A chapter's page, executed: the names that its solutions define."""

    folder: Path
    exercises: list[Exercise]
    setup: str
    whole: bool  # or only some of its exercises are in the set
    names: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        page = nbformat.read(self.folder / "exercises.ipynb", as_version=4)
        with contextlib.chdir(self.folder):
            for cell in page.cells:
                tags = set(cell.metadata.get("tags", []))
                if cell.cell_type != "code" or not tags & {"setup", "given", "solution"}:
                    continue
                exec(
                    compile(cell.source, f"{self.folder.parent.name} {cell.id}", "exec"), self.names
                )

    @property
    def checks(self) -> list[Check]:
        return [e.check for e in self.exercises if e.check]

    def bank(self, kind: str) -> dict[str, str]:
        return {p.stem: p.read_text() for p in sorted((self.folder / "bank" / kind).glob("*.py"))}

    def with_answers(self, source: str, name: str) -> dict[str, Any]:
        """The names after the code `source` was run behind the solutions."""
        names = dict(self.names)
        with contextlib.chdir(self.folder):
            exec(compile(source, name, "exec"), names)
        return names

    def equivalent(self) -> dict[str, str]:
        path = self.folder / "bank" / "equivalent_mutants.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        parts = [line.rpartition(" # ") for line in lines if line.strip()]
        here = {check.label for check in self.checks}
        return {
            label.strip(): reason.strip()
            for label, _, reason in parts
            if label.split()[0] in here or self.whole
        }


def _chapter(page: Page, exercises: list[Exercise]) -> _Chapter:
    return _Chapter(page.folder, exercises, page.setup, len(exercises) == len(page.exercises))


# ---------------------------------------------------------------------------------- mutants

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Gt: ast.Lt,
    ast.Lt: ast.Gt,
    ast.GtE: ast.LtE,
    ast.LtE: ast.GtE,
}
_NAMES = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "sum": "mean"}
_DROPPED = ("abs", "sqrt", "log", "exp", "log1p", "square", "sign", "sum", "mean", "max", "min")


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Small changes of a program, one at a time: what was changed, and the changed program.

    Operators and comparisons are exchanged, operands and functions dropped, constants moved by
    one, transposes and minus signs forgotten, ``max`` and ``min`` confused.
    """
    tree = ast.parse(source)
    for i, node in enumerate(ast.walk(tree)):
        for what, edit in _edits(node):
            other = copy.deepcopy(tree)
            edit(list(ast.walk(other))[i])
            text = " ".join(ast.unparse(node).split())[:40]
            label = f"line {node.lineno}: {text} -> {what}"
            yield label, ast.unparse(ast.fix_missing_locations(other))


def _edits(node: ast.AST) -> Iterator[tuple[str, Callable]]:
    if isinstance(node, ast.BinOp) and type(node.op) in _SWAPS:
        yield "other operator", lambda n: setattr(n, "op", _SWAPS[type(n.op)]())
        yield "left operand only", _left_only
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        yield "other comparison", lambda n: n.ops.__setitem__(0, _SWAPS[type(n.ops[0])]())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{node.value + 1}", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "no minus", lambda n: setattr(n, "op", ast.UAdd())
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield "no transpose", lambda n: setattr(n, "attr", "real")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in _NAMES:
            yield _NAMES[node.func.attr], lambda n: setattr(n.func, "attr", _NAMES[n.func.attr])
        if node.func.attr in _DROPPED and len(node.args) == 1 and not node.keywords:
            yield f"no {node.func.attr}", _drop_call


def _left_only(node: ast.BinOp) -> None:
    node.op, node.right = ast.Add(), ast.Constant(0)


def _drop_call(node: ast.Call) -> None:
    node.func = ast.Attribute(ast.Name("np", ast.Load()), "asarray", ast.Load())


# ------------------------------------------------------------------------------ the questions


def _structure(chapter: _Chapter, finding: Finding) -> None:
    for exercise in chapter.exercises:
        check = exercise.check
        if exercise.kind == "prove" and exercise.written is None:
            finding.problems.append(f"{exercise.label}: a proof without a rubric")
        if check is None:
            continue
        public = sum(known.points for known in check.properties if known.public)
        if len(check.mistakes) < 2:
            finding.problems.append(f"{check.label}: fewer than two known mistakes")
        if not any(known.public for known in check.properties):
            finding.problems.append(f"{check.label}: no public property")
        if 2 * public > check.points:
            finding.problems.append(
                f"{check.label}: {public} of {check.points} points are for public properties"
            )


def _right(chapter: _Chapter, seeds: int, finding: Finding) -> None:
    answers = {"the solution": chapter.names}
    for name, source in chapter.bank("right").items():
        answers[f"right/{name}"] = chapter.with_answers(source, name)
    engine.margins.clear()
    for name, names in answers.items():
        changed = [
            c
            for c in chapter.checks
            if names is chapter.names
            or any(names.get(n) is not chapter.names.get(n) for n in (c.function, *c.values))
        ]
        if not changed and chapter.whole:
            finding.problems.append(f"{name} answers no exercise")
        for check in changed:
            finding.count("right answers")
            for seed in range(seeds):
                missed = [v for v in _run(check, names, seed) if v.status != "passed"]
                finding.problems += [
                    f"{check.label}: {name}, seed {seed}: {v.sentence}" for v in missed
                ]
    finding.margin = max(finding.margin, max(engine.margins, default=0.0))
    if not finding.margin <= MARGIN:
        finding.problems.append(
            f"a right answer uses {finding.margin:.2f} of its tolerance; at most {MARGIN} is safe"
        )


def _mistakes(chapter: _Chapter, seeds: int, finding: Finding) -> None:
    for check in chapter.checks:
        in_public = 0
        for _, wrong in check.mistakes:
            finding.count("known mistakes")
            name = f"{check.label}: the mistake `{wrong.__name__}`"
            for seed in range(seeds):
                verdicts = _run(check, {**chapter.names, check.function: wrong}, seed)
                found = {v.mistake for v in verdicts} - {None}
                if _score(verdicts) == check.points:
                    finding.problems.append(f"{name} gets full marks (seed {seed})")
                elif found != {wrong.__name__}:
                    finding.problems.append(f"{name} is named {sorted(found)} (seed {seed})")
                in_public += seed == 0 and any(v.mistake and v.what.public for v in verdicts)
        if not in_public:
            finding.problems.append(f"{check.label}: no public property names a mistake")


def _odd(chapter: _Chapter, finding: Finding) -> None:
    for check in chapter.checks:
        for what, odd in ODD.items():
            finding.count("odd values")
            verdicts = _run(check, {**chapter.names, check.function: odd})
            if _score(verdicts) or any(v.status == "grader-error" for v in verdicts):
                shown = [v.sentence for v in verdicts if v.points or v.status == "grader-error"]
                finding.problems.append(f"{check.label}: `{check.function}` gives {what}: {shown}")
        for value in check.values:
            for odd in (None, math.nan, "1", [], {}, 10**400, True, _Hostile(), np.ones(3)):
                finding.count("odd values")
                verdicts = _run(check, {**chapter.names, value: odd})
                if _score(verdicts) == check.points or any(
                    v.status == "grader-error" for v in verdicts
                ):
                    finding.problems.append(f"{check.label}: `{value}` = {odd!r} passes or breaks")


def _wrong(chapter: _Chapter, seeds: int, finding: Finding) -> None:
    bank = chapter.bank("wrong")
    if "constant" not in bank:
        finding.problems.append(f"{chapter.folder}: bank/wrong/constant.py is missing")
    for name, source in bank.items():
        limits = dict(re.findall(r"^#\s*(ex-[\w-]+):\s*at most (\d+)", source, re.M))
        limits = {label: int(most) for label, most in limits.items()}
        if name == "constant":
            limits = {check.label: 0 for check in chapter.checks} | limits
        names = chapter.with_answers(source, name)
        if not limits and chapter.whole:
            finding.problems.append(f"wrong/{name} names no exercise (# ex-...: at most N)")
        for check in chapter.checks:
            if check.label not in limits:
                continue
            finding.count("wrong answers")
            for seed in range(1, seeds + 1):  # a hard-coded answer knows seed 0
                got = _score(_run(check, names, seed))
                if got > limits[check.label]:
                    finding.problems.append(
                        f"{check.label}: wrong/{name} earns {got} of {check.points}, seed {seed}; "
                        f"at most {limits[check.label]} expected"
                    )


def _mutants(chapter: _Chapter, finding: Finding) -> None:
    equivalent, alive = chapter.equivalent(), set()
    for exercise in chapter.exercises:
        check = exercise.check
        for label, source in mutants(exercise.solution if check else ""):
            finding.count("mutants")
            try:
                with _time_limit(CALL_SECONDS), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # `1 is 2` and the like
                    names = chapter.with_answers(source, label)
            except Exception:  # it does not even run
                continue
            if not _noticed(check, names, (0, 1)):
                alive.add(f"{check.label} {label}")
    for label in sorted(alive - set(equivalent)):
        finding.problems.append(f"a mutant gets full marks: {label}")
    for label in sorted(set(equivalent) - alive):
        finding.problems.append(f"listed as an equivalent mutant, but it is noticed: {label}")
    finding.problems += [
        f"equivalent mutant without a reason: {label}"
        for label, reason in equivalent.items()
        if not reason
    ]
    finding.count("equivalent mutants", len(alive & set(equivalent)))


def _submissions(the_set: Set, chapters: list[_Chapter], finding: Finding) -> None:
    """The way of a submission: what is handed out scores 0, the solutions get full marks."""
    from coursework import release
    from coursework.grade import grade

    page = release.release(the_set)
    if json.dumps(page) != json.dumps(release.release(the_set)):
        finding.problems.append("two releases differ")
    blank = grade(json.dumps(page).encode(), the_set, seed=0)
    if blank.score or any(c.status != "todo" for c in blank.checks):
        shown = [f"{c.label}: {c.title}: {c.status}" for c in blank.checks if c.status != "todo"]
        finding.problems.append(f"the untouched release scores {blank.score}: {shown}")
    sources = [e.solution for c in chapters for e in c.exercises]
    setups = [_without_checks(c.setup) for c in chapters]
    # beside other chapters an answer of the bank could mean another exercise's value by its name
    bank = chapters[0].bank("right") if len(chapters) == 1 else {}
    more = [(f"right/{name}", [source]) for name, source in bank.items()]
    for name, extra in [("the solutions", []), *more]:
        finding.count("graded submissions")
        result = grade(_notebook(setups + sources + extra), the_set, seed=1)
        missed = [c for c in result.checks if c.status != "passed"]
        finding.problems += [
            f"graded, {name}: {c.label}: {c.title}: {c.status} {c.message}" for c in missed
        ]
        if result.status != "graded":
            finding.problems.append(f"graded, {name}: {result.status} {result.notes}")


def _without_checks(setup: str) -> str:
    """The first cell of a page without what the sandbox does not have, the checks."""
    lines = map(ast.unparse, ast.parse(setup).body)
    return "\n".join(line for line in lines if not re.search(r"\bpractice\b|plotting\.", line))


def _notebook(sources: Sequence[str]) -> bytes:
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    return nbformat.writes(page).encode()


def prove(
    the_set: Set, *, seeds: int = 5, fast: bool = False, say: Callable[[str], None] = print
) -> Finding:
    """Try everything; an empty list of problems means that the set is gradable.

    Parameters
    ----------
    the_set
        The set.
    seeds
        How many seeds right answers, mistakes and wrong answers are tried with.
    fast
        Leave out what needs the sandbox: release and grading.
    say
        Where the progress goes, one line per step.
    """
    finding, started = Finding(), time.process_time()
    chapters = [
        _chapter(page, [e for e in the_set.exercises if e.folder == page.folder])
        for page in the_set.pages
    ]
    steps: list[tuple[str, Callable[[_Chapter], None]]] = [
        ("every exercise is complete", lambda c: _structure(c, finding)),
        ("right answers get full marks", lambda c: _right(c, seeds, finding)),
        ("known mistakes are named", lambda c: _mistakes(c, seeds, finding)),
        ("odd values earn nothing", lambda c: _odd(c, finding)),
        ("wrong answers stay within their limits", lambda c: _wrong(c, min(seeds, 2), finding)),
        ("mutants are noticed", lambda c: _mutants(c, finding)),
    ]
    for title, step in steps:
        before = len(finding.problems)
        for chapter in chapters:
            step(chapter)
        _tell(title, finding.problems[before:], started, say)
    if not fast:
        before = len(finding.problems)
        _submissions(the_set, chapters, finding)
        _tell("release and grading", finding.problems[before:], started, say)
    return finding


def _tell(title: str, problems: list[str], started: float, say: Callable[[str], None]) -> None:
    spent = time.process_time() - started
    say(f"{'ok  ' if not problems else 'FAIL'} {title} ({spent:.0f} s so far)")
    for problem in problems:
        say(f"     {problem}")
