"""Grade one submission: its cells run behind the wall, the checks run here.

Names are the interface.  All cells are executed, and then the checks ask for the functions and
values that the exercises name; so the order, identity and metadata of cells do not matter.  A cell
or a call that brings its process down is left out, the process is started again, and the other
exercises keep their points.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coursework import notebook
from coursework.checks import Check, StudentError
from coursework.notebook import PLACEHOLDER, SELF_CHECK
from coursework.sandbox import Gone, Limits, Sandbox, problem
from coursework.sets import library

if TYPE_CHECKING:
    from coursework.sets import Set

__all__ = ["Graded", "Remote", "Result", "grade", "versions", "zero"]

WRITTEN_LIMIT = 50_000  # characters of an answer in words
KILLS = 2  # so often may a function bring its process down
NOTES = 30  # sentences at most
GRADER = ("checks", "grade", "notebook", "protocol", "sandbox", "worker")  # files of this package


@dataclass
class Graded:
    """What became of one property.

    Attributes
    ----------
    label, title, public, points
        The exercise, and the property.
    score
        The points that it earned.
    status
        ``"passed"``, ``"failed"``, ``"error"``, ``"todo"``, ``"not run"``, ``"grader-error"``.
    message, mistake
        A sentence for the student; the name of the known mistake.
    """

    label: str
    title: str
    public: bool
    points: int
    score: int = 0
    status: str = "not run"
    message: str = ""
    mistake: str | None = None


@dataclass
class Result:
    """What became of a submission.

    Attributes
    ----------
    status
        ``"graded"``; ``"review"``: graded, and somebody should look at it; ``"unreadable"``,
        ``"missing"``, ``"grader-error"``: no points.
    notes
        Sentences for the student.
    checks
        One entry per property.
    written
        Answers in words by label of the exercise: empty where nothing was written, None where
        they could not be found.
    sha256, seed, isolation, versions
        What was graded, and how: the same four give the same result.
    found
        Sentences about what was handed in; they stand in the notes, too.
    seconds, memory_mb
        What it took.
    """

    status: str = "graded"
    notes: list[str] = field(default_factory=list)
    checks: list[Graded] = field(default_factory=list)
    written: dict[str, str | None] = field(default_factory=dict)
    sha256: str = ""
    seed: int = 0
    isolation: str = "bubblewrap"
    versions: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory_mb: int = 0

    @property
    def score(self) -> int:
        """The points of all checks together."""
        return sum(one.score for one in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Result:
        """The result that was stored."""
        return cls(**{**stored, "checks": [Graded(**one) for one in stored["checks"]]})


def zero(
    the_set: Set, status: str, notes: Sequence[str], *, seed: int = 0, sha256: str = ""
) -> Result:
    """The result of a submission that could not be run: every exercise is there, with 0 points."""
    checks = [
        Graded(check.label, known.title, known.public, known.points)
        for check in the_set.checks
        for known in check.properties
        if not known.local
    ]
    written = {one.label: None for one in the_set.written}
    return Result(
        status,
        list(notes),
        checks,
        written,
        sha256,
        seed,
        isolation="none",
        versions=versions(the_set),
    )


def grade(data: bytes, the_set: Set, *, seed: int, limits: Limits | None = None) -> Result:
    """Grade a notebook.

    Parameters
    ----------
    data
        The bytes of the file.
    the_set
        What it answers.
    seed
        The grading seed: it draws the inputs of all checks.
    limits
        What the submission may use.

    Raises
    ------
    RuntimeError
        If there is no sandbox here; nothing is run without one.
    """
    started = time.monotonic()
    digest = hashlib.sha256(data).hexdigest()
    try:
        cells, language = notebook.read(data)
    except notebook.Unreadable as error:
        return zero(the_set, "unreadable", [str(error)], seed=seed, sha256=digest)
    if reason := problem():
        raise RuntimeError(reason)
    remote = Remote(cells, the_set, limits or Limits())
    try:
        remote.notice_language(language)
        remote.run()
        checks = [one for check in the_set.checks for one in _checked(check, remote, seed)]
    finally:
        remote.sandbox.stop()
    broken = [one for one in checks if one.status == "grader-error"]
    for one in broken:
        remote.note(f"The check “{one.title}” could not run; this is not your fault.")
    titles = {one.label: one.title for one in the_set.exercises}
    return Result(
        status="review" if broken or remote.doubtful else "graded",
        notes=remote.notes,
        checks=checks,
        written={one.label: _written(cells, one.label, titles) for one in the_set.written},
        sha256=digest,
        seed=seed,
        versions=versions(the_set),
        seconds=round(time.monotonic() - started, 2),
        memory_mb=remote.sandbox.peak_mb,
    )


def versions(the_set: Set) -> dict[str, str]:
    """What a result depends on besides notebook and seed: programs, checks, and the grader."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "coursework": the_set.digest,
        "grader": _grader(tuple(page.folder for page in the_set.pages)),
    }


@cache
def _grader(folders: tuple[Path, ...]) -> str:
    """A hash of the files that grade, and of the modules that are the oracles of the checks."""
    here = Path(__file__).parent
    files = [here / f"{name}.py" for name in GRADER]
    checks = [f / f"checks_{n}.py" for f in folders for n in ("public", "hidden")]
    texts = [file.read_text("utf-8") for file in files]
    texts += library(file.read_text("utf-8") for file in checks).values()
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _checked(check: Check, remote: Remote, seed: int) -> list[Graded]:
    return [
        Graded(
            check.label,
            verdict.what.title,
            verdict.what.public,
            verdict.what.points,
            verdict.points,
            verdict.status,
            verdict.message,
            verdict.mistake,
        )
        for verdict in check.run(remote, seed)
    ]


# ---------------------------------------------------------------------------- the answers


class Remote:
    """The answers of one submission, in a process behind the wall.

    It has the two methods of :class:`coursework.checks.Answers`.

    Parameters
    ----------
    cells
        All cells of the submission.
    the_set
        The set that it answers.
    limits
        What it may use.

    Attributes
    ----------
    notes
        Sentences about what happened, for the student.
    doubtful
        Whether somebody should look at the submission.
    """

    local = False

    def __init__(
        self, cells: Sequence[tuple[str, str, dict]], the_set: Set, limits: Limits
    ) -> None:
        self.limits = limits
        self.cells = cells
        self.notes: list[str] = []
        self.doubtful = False
        self.functions = [check.function for check in the_set.checks]
        self.wanted = {*self.functions, *(v for check in the_set.checks for v in check.values)}
        self.code = [("a given cell", source) for source in the_set.given]
        self.code += [(f"cell {i}", source) for i, source in self._code()]
        self.sandbox = Sandbox(limits, [exercise.folder for exercise in the_set.exercises])
        self._skipped: set[int] = set()
        self._kills: dict[str, int] = {}
        self._starts = 0
        self._values: dict[str, Any] = {}
        self._deadline = time.monotonic() + limits.total_seconds

    def call(self, name: str, args: tuple) -> Any:
        """The answer of a student's function; StudentError if there is none."""
        if self._kills.get(name, 0) >= KILLS:
            raise StudentError(
                "GivenUp",
                f"`{name}` was not called again after it had to be stopped {KILLS} times.",
            )
        self._alive()
        seconds = min(self.limits.call_seconds, self._left())
        try:
            return self.sandbox.call(name, args, seconds)
        except StudentError as error:
            self._kills[name] = self._kills.get(name, 0) + (error.kind == "Timeout")
            raise
        except Gone as reason:
            self._kills[name] = self._kills.get(name, 0) + 1
            raise StudentError("Gone", f"`{name}` was stopped: {reason}.") from None

    def value(self, name: str) -> Any:
        """What a name stands for, or None; asked for once, unless its process is just dying."""
        for _ in range(2):
            if name in self._values:
                break
            try:
                self._alive()
                self._values[name] = self.sandbox.value(name)
            except Gone:
                continue
            except StudentError:  # too late, or too often stopped: calls will say so
                break
        return self._values.setdefault(name, None)

    def note(self, sentence: str, doubtful: bool = False) -> None:
        """Say something to the student, once."""
        self.doubtful = self.doubtful or doubtful
        if sentence not in self.notes and len(self.notes) < NOTES:
            self.notes.append(sentence)

    def notice_language(self, language: str) -> None:
        """Other languages than Python are not graded by a machine."""
        if language not in ("", "python", "ipython", "python3"):
            self.note(
                f"The notebook says that its language is {language}; it was run as Python.", True
            )

    def run(self) -> None:
        """Execute the cells, and then text cells that hold an answer that is missing."""
        try:
            self._alive()
            for i, source in self._text_cells():
                self.code.append((f"cell {i}", source))
                self.sandbox.cell(source, f"cell {i}", self._cell_seconds())
                self.note(f"Cell {i} is a text cell that holds code; it was run.", True)
        except (StudentError, Gone) as error:
            self.note(f"Not every cell could be run: {str(error).rstrip('.')}.", True)

    # ------------------------------------------------------------------------ its process

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise StudentError(
                "OutOfTime",
                f"The {self.limits.total_seconds:g} seconds of this submission were used up.",
            )
        return max(left, 0.1)

    def _cell_seconds(self) -> float:
        return min(self.limits.cell_seconds, self._left())

    def _alive(self) -> None:
        """Start the process where there is none, and execute the cells that do not kill it."""
        while not self.sandbox.running:
            self._left()
            if self._starts > self.limits.restarts:
                raise StudentError(
                    "Gone", "The notebook had to be stopped too often; the rest was not run."
                )
            self._starts += 1
            try:
                self.sandbox.start()
                self._execute()
            except Gone as reason:
                self.note(f"The notebook was stopped: {reason}.")

    def _execute(self) -> None:
        for i, (name, source) in enumerate(self.code):
            if i in self._skipped:
                continue
            try:
                error = self.sandbox.cell(source, name, self._cell_seconds())
            except Gone as reason:
                self._skipped.add(i)
                self.note(f"{name.capitalize()} was left out: {reason}. The others were run.")
                return
            if error is not None:
                if error[0] == "Timeout":
                    self._skipped.add(i)
                text = ": ".join(part for part in error if part)[:300]
                self.note(f"{name.capitalize()} stopped with {text}.")

    # ------------------------------------------------------------------------- its cells

    def _code(self) -> list[tuple[int, str]]:
        """Code cells with their numbers, without the release's own self-check."""
        found = []
        for i, (kind, source, _) in enumerate(self.cells, 1):
            if kind != "code" or not source.strip() or _only_checks(source):
                continue
            if source.startswith(SELF_CHECK) and not self.wanted & _defined(source):
                continue
            if magic := re.match(r"\s*%%(\w+)", source):
                self.note(f"Cell {i} begins with %%{magic[1]}; please look at it.", True)
            found.append((i, source))
        return found

    def _text_cells(self) -> list[tuple[int, str]]:
        """Text cells that define a function that no code cell defines, or only as a stub."""
        have = set().union(*(_defined(source, stubs=False) for _, source in self.code))
        missing = set(self.functions) - have
        found = []
        for i, (kind, source, _) in enumerate(self.cells, 1):
            if kind == "code" or "def " not in source:
                continue
            code = re.sub(r"^\s*(```|~~~).*$", "", source, flags=re.M)
            if missing & _defined(code):
                found.append((i, code))
        return found


def _only_checks(source: str) -> bool:
    lines = [line for line in source.splitlines() if line.strip() and line[0] != "#"]
    return all(re.match(r"(check|progress)\(.*\)\s*$", line) for line in lines)


def _defined(source: str, *, stubs: bool = True) -> set[str]:
    """The names that the top level of a cell defines; functions still to be written, if `stubs`."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(re.findall(r"^def\s+(\w+)", source, re.M)) if "%" in source else set()
    body = [s for s in body if stubs or not _is_stub(s)]
    names = {s.name for s in body if isinstance(s, (ast.FunctionDef, ast.ClassDef))}
    assigned = [t for s in body if isinstance(s, ast.Assign) for t in s.targets]
    return names | {t.id for t in assigned if isinstance(t, ast.Name)}


def _is_stub(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef) and (
        ast.unparse(statement.body[-1]) == "raise NotImplementedError"
    )


# ------------------------------------------------------------------------ answers in words


def _written(
    cells: Sequence[tuple[str, str, dict]], label: str, titles: dict[str, str]
) -> str | None:
    """An answer in words: its marked cells and the text cells behind them.

    Without the mark it is what stands below the heading of the exercise; without that, None.
    """
    marked = [
        i for i, (_, _, metadata) in enumerate(cells) if _mark(metadata) == f"{label}-written"
    ]
    if marked:
        parts = [part for i in marked for part in _following(cells, i)]
    else:
        heading = re.compile(rf"^#+ .*{re.escape(titles[label])}\s*$", re.M)
        start = next((i for i, cell in enumerate(cells) if heading.search(cell[1])), None)
        if start is None:
            return None
        parts = _following(cells, start + 1)
        if not parts or parts == [PLACEHOLDER]:
            return None  # lost, or not where it is expected: somebody has to look
    text = "\n\n".join(part for part in parts if part != PLACEHOLDER)
    return text[:WRITTEN_LIMIT]


def _following(cells: Sequence[tuple[str, str, dict]], start: int) -> list[str]:
    """The texts from a cell on, up to the next heading, mark or code."""
    parts = []
    for i, (kind, source, metadata) in enumerate(cells[start:]):
        if i and (kind == "code" or _mark(metadata) or re.match(r"##? ", source)):
            break
        if kind != "code" and source.strip():
            parts.append(source.replace(PLACEHOLDER, "").strip() or PLACEHOLDER)
    return parts


def _mark(metadata: dict) -> str | None:
    nbgrader = metadata.get("nbgrader")
    mark = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return mark if isinstance(mark, str) else None
