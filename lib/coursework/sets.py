"""Sets: the exercises of a chapter, or some of them, with their checks.

A chapter's page ``chapters/NN_slug/exercises/exercises.ipynb`` is the only source of its exercises;
``checks_public.py`` and ``checks_hidden.py`` beside it hold the checks and the rubrics.  A set is
a whole page (``ch03``), the exercises that its table marks for a first round (``ch03:first``), or
what a small TOML file lists, from as many chapters as it likes.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import json
import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from coursework.checks import Check, Written
from coursework.errors import CourseworkError
from coursework.myst import Block, blocks

__all__ = [
    "KINDS",
    "Exercise",
    "Page",
    "Set",
    "SetError",
    "default_root",
    "find",
    "imports",
    "library",
    "load_checks",
    "load_modules",
    "read_page",
]

KINDS = ("prove", "code", "investigate", "broken proof")
_META = re.compile(
    r"^\*(?P<kind>[a-z ]+?) · (?P<stars>★+) · (?P<minutes>\d+) min(?P<rest>.*?)\*[ ]*$", re.M
)
_CHECK = re.compile(r"^check\(\s*[\"']([\w-]+)[\"']\s*\)", re.M)


class SetError(CourseworkError):
    """There is no such set, or it is not complete; the text says what was found."""


@dataclass(frozen=True)
class Exercise:
    """One exercise, as its page has it.

    Attributes
    ----------
    label, title
        Label and title of the directive.
    kind
        ``"prove"``, ``"code"``, ``"investigate"`` or ``"broken proof"``.
    stars, minutes
        Difficulty, and minutes for a first attempt.
    uses
        Labels of the statements that it uses.
    first
        Whether the table of the page marks it for a first round.
    folder
        Where the page lies.
    statement, hints
        Markdown of the book, without the line that says kind, stars and minutes.
    solution
        The code of its solution cell; empty if it has none.
    given
        The cells that are handed out with it, in order.
    check, written
        What is tested, and what is marked by hand.
    """

    label: str
    title: str
    kind: str
    stars: int
    minutes: int
    uses: tuple[str, ...]
    first: bool
    folder: Path
    statement: str
    hints: tuple[str, ...] = ()
    solution: str = ""
    given: tuple[str, ...] = ()
    check: Check | None = None
    written: Written | None = None

    @property
    def points(self) -> int:
        """What a right and complete answer earns."""
        return sum(part.points for part in (self.check, self.written) if part)


@dataclass(frozen=True)
class Page:
    """The exercises of one chapter.

    Attributes
    ----------
    folder
        Where it lies.
    title
        Its heading.
    conventions
        What its first cell says about the letters of the chapter (markdown of the book).
    exercises
        All of them, in order.
    secrets
        What stands in solutions, measurements and figures: never handed out.
    setup
        The cell of imports that its solutions and figures use.
    """

    folder: Path
    title: str
    conventions: str
    exercises: list[Exercise]
    secrets: list[str] = field(repr=False)
    setup: str = field(default="", repr=False)


@dataclass(frozen=True)
class Set:
    """Exercises that are handed out and graded together.

    Attributes
    ----------
    name, title
        ``"ch03:first"``, and the title in words.
    exercises
        In the order in which they are handed out.
    pages
        The pages that they come from.
    needs
        The packages that a student needs: ``["numpy", "scipy"]``.
    digest
        SHA-256 of the pages and check files that the set is made of.
    source
        What :func:`find` finds it by: its name, or its file.
    """

    name: str
    title: str
    exercises: list[Exercise]
    pages: list[Page] = field(repr=False)
    needs: list[str]
    digest: str
    source: str = ""

    @property
    def checks(self) -> list[Check]:
        """All checks, in order."""
        return [exercise.check for exercise in self.exercises if exercise.check]

    @property
    def written(self) -> list[Written]:
        """All answers in words, in order."""
        return [exercise.written for exercise in self.exercises if exercise.written]

    @property
    def given(self) -> list[str]:
        """The cells that are handed out as they are, in order, each one once."""
        cells = [cell for exercise in self.exercises for cell in exercise.given]
        return list(dict.fromkeys([self.first_cell, *cells]))

    @property
    def first_cell(self) -> str:
        """The imports that every exercise may use."""
        return "import numpy as np" + ("\nimport torch" if "torch" in self.needs else "")

    @property
    def points(self) -> int:
        """The points of the whole set."""
        return sum(exercise.points for exercise in self.exercises)

    @property
    def minutes(self) -> int:
        """The minutes of the whole set."""
        return sum(exercise.minutes for exercise in self.exercises)


# ------------------------------------------------------------------------------ finding a set


def default_root() -> Path:
    """The folder of the chapters: ``COURSEWORK_ROOT``, or that of the book beside the package."""
    named = os.environ.get("COURSEWORK_ROOT")
    return Path(named).expanduser() if named else Path(__file__).resolve().parents[2] / "chapters"


def find(name: str, root: Path | None = None) -> Set:
    """The set with a name.

    Parameters
    ----------
    name
        A chapter (``"ch03"``, ``"3"``, or the name of its folder), its first round
        (``"ch03:first"``), a TOML file with ``title`` and ``exercises``, or the name of such a
        file in the folder ``sets`` beside the chapters (``"midterm"``).
    root
        The folder of the chapters; by default that of :func:`default_root`.

    Raises
    ------
    SetError
        If there is no such set, or it is not complete.
    """
    root = Path(root) if root is not None else default_root()
    if not root.is_dir():
        raise SetError(f"The folder of the chapters, {root}, does not exist.")
    name = str(name).strip()
    file = Path(name) if name.endswith(".toml") else root / "sets" / f"{name}.toml"
    if file.is_file():
        return replace(_listed(file, root), source=str(file.resolve()))
    if name.endswith(".toml"):
        raise SetError(f"There is no file {name}.")
    return replace(_chapter(name, root), source=name)


def _pages(root: Path) -> dict[str, Path]:
    """Names of chapters, ``ch03``, and the folders of their exercises."""
    folders = sorted(root.glob("[0-9]*_*/exercises/exercises.ipynb"))
    return {f"ch{file.parts[-3].split('_')[0]}": file.parent for file in folders}


def _chapter(name: str, root: Path) -> Set:
    known = _pages(root)
    chapter, colon, part = name.partition(":")
    number = re.fullmatch(r"(?:ch)?0*(\d+)", chapter)
    found = f"ch{int(number[1]):02d}" if number else ""
    found = next((key for key, f in known.items() if f.parent.name == chapter), found)
    if found not in known:
        there = ", ".join([*known, *(file.stem for file in sorted(root.glob("sets/*.toml")))])
        raise SetError(f"There is no set {name!r} in {root}. There are: {there or 'none'}.")
    if colon and part != "first":
        raise SetError(f"The set {name!r} does not exist; a chapter has the part {found}:first.")
    page = read_page(known[found])
    exercises = [e for e in page.exercises if e.first or not colon]
    title = f"Exercises of chapter {int(found[2:])}"
    if heading := _heading(known[found].parent):
        title += f": {heading}"
    if colon:
        return _complete(f"{found}:first", f"{title}, first round", exercises, [page])
    return _complete(found, title, exercises, [page])


def _listed(file: Path, root: Path) -> Set:
    try:
        listed = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetError(f"{file} is no TOML file: {error}.") from None
    labels, title = listed.get("exercises"), listed.get("title")
    listed_well = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not isinstance(title, str) or not (listed_well and labels):
        raise SetError(f"{file} should have a `title` and a list `exercises` of labels.")
    pages = [read_page(folder) for folder in _pages(root).values()]
    known = {e.label: (e, page) for page in pages for e in page.exercises}
    unknown = [label for label in labels if label not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 3, 0.4) or sorted(known)[:3]
        raise SetError(
            f"{file} lists exercises that no chapter has: {', '.join(unknown)}. "
            f"Similar to the first: {', '.join(near)}."
        )
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise SetError(f"{file} lists exercises twice: {', '.join(twice)}.")
    exercises = [known[label][0] for label in labels]
    concerned = [page for page in pages if any(known[label][1] is page for label in labels)]
    return _complete(file.stem, title, exercises, concerned)


def _heading(folder: Path) -> str:
    index = folder / "index.md"
    heading = re.search(r"^# +(.+)", index.read_text("utf-8"), re.M) if index.is_file() else None
    return heading[1].strip() if heading else ""


# ---------------------------------------------------------------------------- reading a page


def read_page(folder: Path) -> Page:
    """The exercises of the page in a folder, without their checks."""
    file = folder / "exercises.ipynb"
    try:
        cells = [
            (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", []))
            for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetError(f"{file} is not a notebook ({type(error).__name__}).") from None
    reader = _Reader(folder)
    for cell in cells:
        reader.cell(*cell)
    try:
        return reader.page()
    except SyntaxError as error:
        raise SetError(f"{file} has a cell that is no Python: {error.text or error}") from None


class _Reader:
    """Reads cell after cell: each one belongs to an exercise, is given, or is a secret."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exercises: list[Exercise] = []
        self.given: list[tuple[int, str]] = []  # the number of the exercise, and the cell
        self.solutions: list[str] = []
        self.secrets: list[str] = []
        self.setup, self.intro = "", ""
        self.open = False  # has the last exercise met its solution or its check?

    def cell(self, kind: str, source: str, tags: Sequence[str]) -> None:
        if kind == "markdown":
            self.intro = self.intro or source
            self.markdown(source)
        elif kind != "code":
            return
        elif "setup" in tags:
            self.setup = source
        elif "given" in tags:
            self.given.append((len(self.exercises) - self.open, source))
        elif "solution" in tags:
            self.solutions.append(source)
        elif checked := _CHECK.search(source):
            self.close(checked[1])
        else:
            self.secrets.append(source)

    def markdown(self, source: str) -> None:
        for block in blocks(source):
            if block.name == "exercise":
                self.exercises.append(_exercise(block, self.first, self.folder))
                self.open = True
            elif block.name == "admonition" and block.argument.startswith("Hint"):
                if self.exercises:
                    last = self.exercises[-1]
                    self.exercises[-1] = replace(last, hints=(*last.hints, block.body))
            elif block.name == "solution":
                self.secrets.append(block.body)
                self.open = False

    def close(self, label: str) -> None:
        """A check cell: the solution cells before it are those of its exercise."""
        for i, exercise in enumerate(self.exercises):
            if exercise.label == label and not exercise.solution:
                self.exercises[i] = replace(exercise, solution="\n\n".join(self.solutions))
                self.solutions = []
        self.open = False

    @property
    def first(self) -> set[str]:
        """Labels in the rows of the table that begin with a dot."""
        rows = re.findall(r"^\| *• *\|[^|]*?\{numref\}`([^`<]*<)?([\w-]+)>?`", self.intro, re.M)
        return {label for _, label in rows}

    def page(self) -> Page:
        self.secrets += [e.solution for e in self.exercises] + self.solutions
        title = re.search(r"^# +(.+)", self.intro, re.M)
        return Page(
            self.folder,
            title[1].strip() if title else self.folder.parent.name,
            _conventions(self.intro),
            [replace(e, given=self.needed(i, e)) for i, e in enumerate(self.exercises)],
            [secret for secret in self.secrets if secret],
            self.setup,
        )

    def needed(self, number: int, exercise: Exercise) -> tuple[str, ...]:
        """The given cells of one exercise: its own, and those whose names it uses."""
        spans = re.findall(r"`([^`]+)`", "\n".join([exercise.statement, *exercise.hints]))
        names = {word for span in spans for word in re.findall(r"[^\W\d]\w*", span)}
        names |= _loaded(exercise.solution)
        last = max(len(self.exercises) - 1, 0)
        kept: list[str] = []
        for place, cell in reversed(self.given):
            if min(place, last) == number or (place <= number and names & set(_bound(cell))):
                kept.insert(0, cell)
                names |= _loaded(cell)
        return tuple(kept)


def _exercise(block: Block, first: set[str], folder: Path) -> Exercise:
    label = block.options.get("label", "")
    meta = _META.search(block.body)
    if not label or not meta or meta["kind"] not in KINDS:
        raise SetError(
            f"The exercise {label or block.argument!r} in {folder / 'exercises.ipynb'} needs a "
            f"`:label:` and a line `*kind · ★ · 20 min · uses ...*` with a kind of: "
            f"{', '.join(KINDS)}."
        )
    return Exercise(
        label=label,
        title=block.argument,
        kind=meta["kind"],
        stars=len(meta["stars"]),
        minutes=int(meta["minutes"]),
        uses=tuple(re.findall(r"\{prf:ref\}`([\w:-]+)`", meta["rest"])),
        first=label in first,
        folder=folder,
        statement=(block.body[: meta.start()] + block.body[meta.end() :]).strip(),
    )


def _conventions(intro: str) -> str:
    """What stands between the sentence about a first round and the table."""
    start = re.search(r"^.*first round.*$", intro, re.M)
    end = re.search(r"^\| *first *\|", intro, re.M)
    return intro[start.end() : end.start()].strip() if start and end else ""


def _tree(source: str) -> ast.Module:
    """The code of a cell, without lines that only a notebook understands."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
    return ast.parse("\n".join(lines))


def _loaded(source: str) -> set[str]:
    return {
        node.id
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _bound(source: str) -> dict[str, str]:
    """The names that the statements of a cell bind, and each one's statement."""
    found = {}
    for statement in _tree(source).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                origin = getattr(statement, "module", None)
                found[alias.asname or alias.name.split(".")[0]] = f"{origin} {alias.name}"
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            found[statement.name] = ast.unparse(statement)
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    found[node.id] = ast.unparse(statement)
    return found


# --------------------------------------------------------------------------- completing a set


def _complete(name: str, title: str, exercises: list[Exercise], pages: list[Page]) -> Set:
    problems: list[str] = []
    if not exercises:
        problems.append("it has no exercises")
    parts: dict[str, list] = {}
    for page in pages:
        _attach(page, parts, problems)
    chosen = [_both(e, parts.get(e.label, [])) for e in exercises]
    problems += [text for exercise in chosen for text in _lacks(exercise)]
    problems += _clashes(chosen)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in dict.fromkeys(problems))
        raise SetError(f"The set {name} is not complete:\n{listed}")
    found = Set(name, title, chosen, pages, _needs(chosen, pages), _digest(pages, chosen))
    known = set(found.first_cell.split("\n"))  # an import that every exercise gets stands once
    trimmed = [
        replace(e, given=tuple(c for c in e.given if not set(c.split("\n")) <= known))
        for e in chosen
    ]
    return replace(found, exercises=trimmed)


def _both(exercise: Exercise, parts: Iterable[Check | Written]) -> Exercise:
    for part in parts:
        key = "check" if isinstance(part, Check) else "written"
        exercise = replace(exercise, **{key: part})
    return exercise


def _attach(page: Page, parts: dict[str, list], problems: list[str]) -> None:
    """Sort the checks and rubrics of a page by label; say what does not fit."""
    missing = [n for n in ("public", "hidden") if not (page.folder / f"checks_{n}.py").is_file()]
    if missing:
        problems += [f"{page.folder} has no checks_{name}.py" for name in missing]
        return
    try:
        checks, written = load_checks(page.folder)
    except (Exception, SystemExit) as error:
        raise SetError(
            f"The check files in {page.folder} stop with {type(error).__name__}: {error}"
        ) from error
    labels = Counter(exercise.label for exercise in page.exercises)
    problems += [f"two exercises have the label {one}" for one, n in labels.items() if n > 1]
    for what, found in (("checks", checks), ("rubrics", written)):
        count = Counter(part.label for part in found)
        problems += [f"{label} has {n} {what}" for label, n in count.items() if n > 1]
        problems += [f"there are {what} of {x}, but no exercise" for x in count if x not in labels]
    for part in [*checks, *written]:
        parts.setdefault(part.label, []).append(part)


def _lacks(exercise: Exercise) -> list[str]:
    """What one exercise lacks to be handed out and graded."""
    label, found = exercise.label, []
    if exercise.kind == "code" and not exercise.check:
        found.append(f"{label} asks for code, but has no check")
    if not exercise.check and not exercise.written:
        found.append(f"{label} has neither a check nor a rubric, so it earns no points")
    if exercise.check:
        bound = _bound(exercise.solution) if exercise.solution else {}
        if not exercise.solution:
            found.append(f'{label} has a check, but no solution cell followed by check("{label}")')
        else:
            wanted = [exercise.check.function, *exercise.check.values]
            found += [f"the solution of {label} lacks `{n}`" for n in wanted if n not in bound]
    return found


def _clashes(exercises: list[Exercise]) -> list[str]:
    """Names that stand for two things: the grader finds answers by their names."""
    found, asked, given = [], {}, {}
    for exercise in exercises:
        check = exercise.check
        for name in [check.function, *check.values] if check else []:
            if asked.setdefault(name, exercise.label) != exercise.label:
                found.append(f"{asked[name]} and {exercise.label} both ask for `{name}`")
        for cell in exercise.given:
            for name, what in _bound(cell).items():
                before = given.setdefault(name, (what, exercise))
                if before[0] != what and before[1].folder != exercise.folder:
                    found.append(
                        f"{before[1].label} and {exercise.label} are handed out different `{name}`"
                    )
    return found + [f"`{name}` is both given and asked for" for name in asked if name in given]


# ------------------------------------------------------------------------- loading the checks


def load_modules(folder: Path) -> tuple[ModuleType, ModuleType]:
    """``checks_public`` and ``checks_hidden`` of a chapter.

    The two files are loaded afresh, under the names by which they import each other.
    """
    before = {name: sys.modules.pop(name, None) for name in ("checks_public", "checks_hidden")}
    modules = []
    try:
        for name in before:
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            modules.append(module)
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
    return modules[0], modules[1]


def load_checks(folder: Path) -> tuple[list[Check], list[Written]]:
    """The checks of a chapter and its answers in words."""
    found: dict[int, Check | Written] = {}
    for module in load_modules(folder):
        for value in vars(module).values():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(one, (Check, Written)):
                    found[id(one)] = one
    everything = found.values()
    return (
        [one for one in everything if isinstance(one, Check)],
        [one for one in everything if isinstance(one, Written)],
    )


# ------------------------------------------------------------------------- what a set is made of


def imports(source: str) -> set[str]:
    """The modules that code imports, whatever function the import stands in.

    ``from advreg import data`` counts as ``advreg`` and ``advreg.data``.
    """
    return _imports(ast.walk(_tree(source)))


def _imports(nodes: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def library(sources: Iterable[str]) -> dict[str, str]:
    """The modules of ``advreg`` that some sources import, directly or not: name to source."""
    spec = importlib.util.find_spec("advreg")
    if spec is None or spec.origin is None:
        return {}
    folder, found = Path(spec.origin).parent, {}
    todo = set().union(*(imports(source) for source in sources))
    while todo:
        name = todo.pop()
        file = folder / f"{name.removeprefix('advreg.')}.py"
        if name == "advreg":
            file = folder / "__init__.py"
        if name.split(".")[0] == "advreg" and name not in found and file.is_file():
            found[name] = file.read_text(encoding="utf-8")
            todo |= imports(found[name]) | {"advreg"}
    return dict(sorted(found.items()))


def _needs(exercises: list[Exercise], pages: list[Page]) -> list[str]:
    """The packages that a student needs to run what is handed out and to solve it."""
    handed = [cell for e in exercises for cell in e.given]
    handed += [(page.folder / "checks_public.py").read_text("utf-8") for page in pages]
    found = {"numpy"}
    for source in [*handed, *library(handed).values()]:
        found |= _imports(_tree(source).body)  # those inside functions wait until they are used
    setups = {page.folder: page.setup for page in pages}
    for exercise in exercises:
        used = _loaded(exercise.solution)
        for statement in _tree(setups[exercise.folder]).body:
            if used & set(_bound(ast.unparse(statement))):
                found |= _imports([statement])
    names = {name.split(".")[0] for name in found} - {"advreg", "coursework", "checks_public"}
    order = ("numpy", "scipy", "torch")
    third = names - set(sys.stdlib_module_names) - set(order)
    return [name for name in order if name in names] + sorted(third)


def _digest(pages: list[Page], exercises: list[Exercise]) -> str:
    digest = hashlib.sha256(" ".join(exercise.label for exercise in exercises).encode())
    for page in pages:
        for name in ("exercises.ipynb", "checks_public.py", "checks_hidden.py"):
            digest.update(hashlib.sha256((page.folder / name).read_bytes()).digest())
    return digest.hexdigest()
