"""From a set to the one notebook that students get.

Statements, hints, given cells and stubs go into it, and a self-check that needs no installation.
Solutions, measurements, hidden checks, rubrics and the bank stay behind: :func:`leaks` looks for
every line of them, also in what is packed, and :func:`release` refuses to go on if it finds one.
"""

from __future__ import annotations

import ast
import base64
import builtins
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nbformat

from coursework.checks import Check
from coursework.errors import CourseworkError
from coursework.handout import INSTALLED_AS
from coursework.myst import MystError, References, plain
from coursework.notebook import PLACEHOLDER, SELF_CHECK
from coursework.sets import Exercise, Set, default_root, library

__all__ = ["FIRST_LINE", "ReleaseError", "leaks", "release", "stub", "target", "unpacked", "write"]

FIRST_LINE = f"{SELF_CHECK} Nothing to edit here."
LONG = 25  # a line of this many characters that appears twice is no coincidence
_START = """{first}
# @title Self-check
import base64, json, zlib
_parts = json.loads(zlib.decompress(base64.b64decode("{packed}")))
_space = {{"__name__": "handout"}}
exec(_parts["handout"], _space)
check, progress = _space["start"](_parts, globals())"""
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_HERE = Path(__file__).parent


class ReleaseError(CourseworkError):
    """The set cannot be handed out like this; the text says why."""


def release(the_set: Set) -> dict:
    """The notebook that is handed out.

    Parameters
    ----------
    the_set
        The set.

    Returns
    -------
    dict
        A valid notebook of format 4.5; the same for the same sources.

    Raises
    ------
    ReleaseError
        If something has no form that every notebook viewer shows, or if a line of a solution, a
        hidden check, a rubric or the bank would be handed out.
    """
    notebook = {
        "cells": list(_Writer(the_set).cells()),
        "metadata": {
            "coursework": {"set": the_set.name, "version": the_set.digest},
            "kernelspec": _KERNEL,
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    nbformat.validate(notebook)
    found = leaks(unpacked(notebook), the_set)
    if found:
        shown = "\n".join(f"- {line}" for line in found[:5])
        raise ReleaseError(
            f"The release of {the_set.name} would hand out {len(found)} lines of solutions, "
            f"hidden checks, rubrics or the bank:\n{shown}"
        )
    return notebook


def target(the_set: Set, out: Path) -> Path:
    """The file that :func:`write` writes: the name of the set, without what file names dislike."""
    return Path(out) / f"{the_set.name.replace(':', '-')}.ipynb"


def write(the_set: Set, out: Path, *, force: bool = False) -> Path:
    """Write the release into the folder `out`, whole or not at all.

    Parameters
    ----------
    the_set
        The set.
    out
        A folder; it is made if there is none.
    force
        Whether a file of this name with another content may be replaced.

    Returns
    -------
    Path
        The file, named after the set.
    """
    text = json.dumps(release(the_set), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    file = target(the_set, out)
    if file.exists():
        if file.read_bytes() == text.encode():
            return file
        if not force:
            raise ReleaseError(
                f"{file} exists and differs from the release: it was edited, or made from other "
                "sources. Move it away, or replace it with --force."
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-", suffix=".part")
    try:
        with open(handle, "wb") as part:
            part.write(text.encode())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return file


# -------------------------------------------------------------------------------- the cells


class _Writer:
    """Writes the cells of one release."""

    def __init__(self, the_set: Set) -> None:
        self.set = the_set
        self.numbers = {e.label: n for n, e in enumerate(the_set.exercises, 1)}
        roots = [page.folder.parents[1] for page in the_set.pages]
        self.references = References.of(*dict.fromkeys([default_root(), *roots]))
        self.handed: set[str] = set()

    def cells(self) -> Iterator[dict]:
        yield _markdown("about", self.about())
        yield _code("self-check", self_check(self.set), collapsed=True)
        if conventions := self.conventions():
            yield _markdown("conventions", conventions)
        yield from self.given([self.set.first_cell])
        for exercise in self.set.exercises:
            try:
                yield from self.exercise(exercise)
            except MystError as error:
                raise ReleaseError(f"{exercise.label}: {error}") from error

    def exercise(self, exercise: Exercise) -> Iterator[dict]:
        label, check, written = exercise.label, exercise.check, exercise.written
        yield _markdown(f"{label}-text", self.statement(exercise))
        yield from self.given(exercise.given)
        if check:
            yield _code(f"{label}-code", stub(exercise), solution=True)
            yield _code(label, f'check("{label}")', points=check.points)
        if written:
            grading = {"grade": True, "solution": True, "points": written.points}
            yield _markdown(f"{label}-written", PLACEHOLDER, **grading)

    def given(self, sources: list[str] | tuple[str, ...]) -> Iterator[dict]:
        for source in sources:
            if source not in self.handed:
                self.handed.add(source)
                yield _code(f"given-{len(self.handed)}", source)

    def plain(self, text: str, folder: Path) -> str:
        return plain(text, self.references, self.numbers, folder)

    def conventions(self) -> str:
        parts = []
        for page in self.set.pages:
            if page.conventions:
                text = self.plain(page.conventions, page.folder)
                parts.append(text if len(self.set.pages) == 1 else f"**{page.title}.** {text}")
        return "\n\n".join(parts)

    def statement(self, exercise: Exercise) -> str:
        about = [exercise.kind, "★" * exercise.stars, f"{exercise.minutes} minutes"]
        about.append(_counted(exercise.points, "point"))
        if exercise.uses:
            uses = "; ".join(f"{{prf:ref}}`{label}`" for label in exercise.uses)
            about.append(self.plain(f"uses {uses}", exercise.folder))
        title = self.plain(exercise.title, exercise.folder)
        text = f"## Exercise {self.numbers[exercise.label]}: {title}\n\n*{' · '.join(about)}*\n\n"
        text += self.plain(exercise.statement, exercise.folder)
        for hint in exercise.hints:  # empty lines: formulas inside are shown as formulas
            inner = self.plain(hint, exercise.folder)
            text += f"\n\n<details><summary>Hint</summary>\n\n{inner}\n\n</details>"
        return text

    def about(self) -> str:
        the_set = self.set
        names = [INSTALLED_AS.get(name, name) for name in the_set.needs]
        needs = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        time = f"about {round(the_set.minutes / 30) / 2:g} hours"
        if the_set.minutes < 100:
            time = f"about {the_set.minutes} minutes"
        rows = [
            f"| {self.numbers[e.label]} | {self.plain(e.title, e.folder)} | {e.kind} "
            f"| {'★' * e.stars} | {e.minutes} | {e.points} |"
            for e in the_set.exercises
        ]
        lines = [
            f"# {the_set.title}",
            "",
            f"{_counted(len(the_set.exercises), 'exercise')}, "
            f"{_counted(the_set.points, 'point')}, {time}.",
            "",
            f"**What you need.** Python 3.11 or newer with {needs}; nothing of the book has to be "
            "installed. Numbers are in double precision unless an exercise says otherwise.",
            "",
            "**What to do.** Run the self-check cell below once. "
            "Write code where it says `# your code`, and keep the names of functions and answers: "
            "they are how your answers are found. "
            + (
                f"Write proofs and explanations into the cells {PLACEHOLDER} "
                if the_set.written
                else ""
            )
            + "What an exercise asks beyond its answer cells is for yourself and earns no points. "
            "Add cells wherever you like.",
            "",
            '**Check yourself.** Run `check("…")` below an exercise as often as you like, and '
            "`progress()` for an overview. "
            "The checks look at properties, and if they recognise a mistake, they say which. "
            "They are necessary, not sufficient: more checks run at grading, with other numbers, "
            "and no check ever sees your reasoning.",
            "",
            "**Submit.** Restart the kernel, run all cells, save, and hand in this one file. "
            "Its name does not matter.",
            "",
            "| | exercise | kind | stars | minutes | points |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
        return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _markdown(name: str, source: str, **grading: object) -> dict:
    if not grading:
        return _cell("markdown", name, source, {"deletable": False, "editable": False})
    return _cell("markdown", name, source, {"nbgrader": _nbgrader(name, **grading)})


def _code(
    name: str,
    source: str,
    *,
    points: int | None = None,
    solution: bool = False,
    collapsed: bool = False,
) -> dict:
    locked = {} if solution else {"deletable": False, "editable": False}
    grading = _nbgrader(name, grade=points is not None, solution=solution, points=points)
    metadata = {"nbgrader": grading, **locked}
    if collapsed:  # JupyterLab, Colab
        metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    cell = _cell("code", name, source, metadata)
    return {**cell, "execution_count": None, "outputs": []}


def _cell(kind: str, name: str, source: str, metadata: dict) -> dict:
    name = re.sub(r"[^\w-]", "-", name, flags=re.ASCII)[:64]
    return {"cell_type": kind, "id": name, "metadata": metadata, "source": source}


def _nbgrader(
    name: str, *, grade: bool = False, solution: bool = False, points: object = None
) -> dict:
    found = {"grade": grade, "grade_id": name, "locked": not solution, "schema_version": 3}
    found |= {"solution": solution, "task": False}
    return {**found, "points": points} if grade else found


# -------------------------------------------------------------------------------- the stubs


def stub(exercise: Exercise) -> str:
    """What is handed out instead of a solution: signature and docstring, and names of values."""
    check = exercise.check
    parts = [f"{name} = None  # your answer" for name in check.values]
    function = _function(exercise.solution, check)
    if function is None:
        raise ReleaseError(f"{exercise.label}: the solution should say `def {check.function}(...)`")
    free = _free_names(function) - _handed_names(exercise)
    if free:
        raise ReleaseError(
            f"{exercise.label}: the signature of `{check.function}` uses "
            f"{', '.join(sorted(free))}, which nobody hands out; import it in a given cell"
        )
    head = _head(exercise.solution, function)
    return "\n\n\n".join([f"{head}\n    raise NotImplementedError  # your code", *parts])


def _head(source: str, function: ast.FunctionDef) -> str:
    """Signature and docstring, as they were written if no comment stands between them."""
    docstring, first = ast.get_docstring(function, clean=False), function.body[0]
    end = first.end_lineno if docstring else first.lineno - 1
    written = source.split("\n")[function.lineno - 1 : end]
    if first.lineno > function.lineno and "#" not in "".join(written):
        return "\n".join(written).rstrip()
    function.body = [ast.Expr(ast.Constant(docstring)) if docstring else ast.Pass()]
    function.decorator_list = []
    return ast.unparse(function).removesuffix("\n    pass")


def _function(source: str, check: Check) -> ast.FunctionDef | None:
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return next((node for node in reversed(nodes) if node.name == check.function), None)


def _free_names(function: ast.FunctionDef) -> set[str]:
    """The names that are looked up when the stub is defined."""
    arguments = function.args
    parts = [*arguments.defaults, *arguments.kw_defaults, function.returns]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    parts += [a.annotation for a in [*every, arguments.vararg, arguments.kwarg] if a]
    nodes = [node for part in parts if part for node in ast.walk(part)]
    return {node.id for node in nodes if isinstance(node, ast.Name)} - set(vars(builtins))


def _handed_names(exercise: Exercise) -> set[str]:
    found = {"np", "torch"}
    for cell in exercise.given:
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
    return found


# --------------------------------------------------------------------- the self-check, packed


def self_check(the_set: Set) -> str:
    """The source of the self-check cell."""
    public = {
        f"public_{page.folder.parent.name.split('_')[0]}": (
            page.folder / "checks_public.py"
        ).read_text(encoding="utf-8")
        for page in the_set.pages
    }
    parts = {
        "handout": (_HERE / "handout.py").read_text(encoding="utf-8"),
        "engine": (_HERE / "checks.py").read_text(encoding="utf-8"),
        "public": public,
        "labels": [check.label for check in the_set.checks],
        "library": library([*public.values(), *the_set.given]),
        "needs": the_set.needs,
    }
    data = zlib.compress(json.dumps(parts, sort_keys=True).encode(), 9)
    text = base64.b64encode(data).decode()  # one line: not every viewer folds the cell
    return _START.format(first=FIRST_LINE, packed=text)


def unpacked(notebook: dict) -> str:
    """Everything that one can read in a release, also in what is packed."""
    texts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        texts.append(source)
        if source.startswith(FIRST_LINE):
            packed = re.search(r'b64decode\("(.*?)"', source, re.S)
            parts = json.loads(zlib.decompress(base64.b64decode(packed[1])))
            texts += [parts["handout"], parts["engine"], *parts["library"].values()]
            texts += [*parts["public"].values(), *parts["labels"], *parts["needs"]]
    return "\n".join(texts)


# -------------------------------------------------------------------------------- the leaks


def leaks(text: str, the_set: Set) -> list[str]:
    """The lines of solutions, hidden checks, rubrics and the bank that appear in a text.

    Signatures, imports, short lines, docstrings of stubs, and what stands in the public checks, in
    given cells, in the engine, or in the modules of ``advreg`` that are handed out, are no secret.

    Parameters
    ----------
    text
        What is handed out, see :func:`unpacked`.
    the_set
        The set.

    Returns
    -------
    list of str
        Each line once; none if nothing leaks.
    """
    allowed, shown = _squeezed(_open_text(the_set)), _squeezed(text)
    lines = (_squeezed(line) for line in _secret_lines(the_set))
    secret = dict.fromkeys(line for line in lines if len(line) > LONG)
    return [line for line in secret if line in shown and line not in allowed]


def _open_text(the_set: Set) -> str:
    public = [(page.folder / "checks_public.py").read_text("utf-8") for page in the_set.pages]
    texts = [*public, *the_set.given, *library([*public, *the_set.given]).values()]
    texts += [(_HERE / name).read_text("utf-8") for name in ("checks.py", "handout.py")]
    return "\n".join(texts)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _secret_lines(the_set: Set) -> Iterator[str]:
    declared = {check.function for check in the_set.checks}
    functions = [_function(e.solution, e.check) for e in the_set.exercises if e.check]
    declared |= {ast.get_docstring(function) for function in functions if function}
    for page in the_set.pages:
        for secret in page.secrets:
            yield from _body_lines(secret, declared)
        files = [page.folder / "checks_hidden.py", *sorted(page.folder.glob("bank/*/*.py"))]
        for file in files:
            if file.is_file():
                yield from _body_lines(file.read_text(encoding="utf-8"), declared)
    for written in the_set.written:
        for what, _ in written.rubric:
            yield from what.split("\n")


def _body_lines(source: str, declared: set[str | None]) -> Iterator[str]:
    """The lines of a text; of code without imports, signatures, and docstrings that are shown.

    `declared` has names and docstrings of the functions that are asked for.
    """
    lines = source.split("\n")
    try:
        tree = ast.parse(source)
    except SyntaxError:  # it is a text
        yield from lines
        return
    dropped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            dropped |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node)
            shown = docstring and (node.name in declared or docstring in declared)
            first = node.body[0]
            dropped |= set(range(node.lineno, first.end_lineno + 1 if shown else first.lineno))
    yield from (line for number, line in enumerate(lines, 1) if number not in dropped)
