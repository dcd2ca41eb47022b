"""What was handed in: who, and which file.

Four layouts are understood, alone or mixed in one folder: a folder per student, a notebook per
student, and what Canvas and Moodle give when all submissions are downloaded and unpacked.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coursework.errors import CourseworkError
from coursework.notebook import FILE_LIMIT
from coursework.tables import printable, read_table

__all__ = ["Submission", "collect", "file_name", "read_roster"]

_MOODLE = re.compile(r"^(?P<who>.+?)_(?P<id>\d+)_assignsubmission_(file|onlinetext)_?$")
_CANVAS = re.compile(r"^(?P<who>[^_]+?)_(?:LATE_)?(?P<id>\d+)_\d+_.+$")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".ods")  # beside submissions: rosters, grades
_NOISE = ("__MACOSX", "desktop.ini", "Thumbs.db")
ROSTER_COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
DEPTH, ENTRIES = 20, 100_000  # of the folders of one student: somebody hands in an environment


@dataclass(frozen=True)
class Submission:
    """One student's submission.

    Attributes
    ----------
    student
        The name, as the folder or the roster gives it.
    file
        The notebook; None if there is none.
    notes
        Sentences for the student about what was found.
    unsure
        Whether somebody should look: several notebooks, an archive, a link.
    there
        Whether anything was handed in.
    """

    student: str
    file: Path | None
    notes: tuple[str, ...] = ()
    unsure: bool = False
    there: bool = True

    def read(self) -> bytes:
        """The file, or of one that is too large so much that this can be seen."""
        with self.file.open("rb") as file:
            return file.read(FILE_LIMIT + 1)


def file_name(student: str, taken: Mapping[str, str] | None = None) -> str:
    """The name as a file name that no system stumbles over: no separators, no leading dot.

    ``taken`` maps file names to students; a second student of the same name gets a number.
    """
    plain = re.sub(r"[^\w.,@ -]", "_", unicodedata.normalize("NFC", student)).strip(". ")[:100]
    plain = plain or "unnamed"
    name, number = plain, 2
    taken = taken or {}
    lowered = {known.lower(): who for known, who in taken.items()}
    while lowered.get(name.lower(), student) != student:
        name, number = f"{plain} ({number})", number + 1
    return name


def collect(
    folder: Path,
    roster: Mapping[str, Mapping[str, str]] | None = None,
    skip: Path | None = None,
) -> list[Submission]:
    """All submissions of a folder, sorted by student; with a roster, the missing ones too.

    Links are never followed: a link could name any file of this computer.  Files from Canvas are
    matched to the roster by the number in their name (column ``ID``), all others by name, where
    ``Lovelace, Ada``, ``Ada Lovelace`` and ``lovelaceada`` are the same.  Two students of the same
    name stay two if Moodle or Canvas gave them different numbers.  Tables (a roster, say) and what
    systems leave behind are no submissions; every other file is one, even if it is no notebook.

    Parameters
    ----------
    folder
        Where the submissions are.
    roster
        See :func:`read_roster`.
    skip
        A folder that is no submission: the one that the grades go into.

    Raises
    ------
    CourseworkError
        If the folder is not there, is an archive or a file, or holds no submission.
    """
    if folder.suffix.lower() in _ARCHIVES:
        raise CourseworkError(f"{folder} is an archive: unpack it and give the folder")
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise CourseworkError(f"{folder} {what}; give the folder with the submissions")
    try:
        entries = [entry for entry in sorted(os.scandir(folder), key=lambda e: e.name)]
    except OSError as error:
        raise CourseworkError(f"{folder} cannot be read: {error.strerror}") from None
    apart = skip.resolve() if skip is not None else None
    paths = {
        Path(entry.path): _who(entry)
        for entry in entries
        if _is_submission(entry) and Path(entry.path).resolve() != apart
    }
    if not paths:
        raise CourseworkError(
            f"no submissions in {folder}: there should be a folder or a notebook for each student"
        )
    found: dict[str, list[Path]] = {}
    for path, student in _named(paths, roster or {}).items():
        found.setdefault(student, []).append(path)
    submissions = {who: _choose(who, paths) for who, paths in found.items()}
    for who in roster or ():
        if who not in submissions:
            submissions[who] = Submission(who, None, ("Nothing was handed in.",), there=False)
    if roster is not None:
        for who in set(submissions) - set(roster):
            notes = (*submissions[who].notes, "This name is not on the roster.")
            submissions[who] = replace(submissions[who], notes=notes, unsure=True)
    return [submissions[who] for who in sorted(submissions)]


def _is_submission(entry: os.DirEntry) -> bool:
    if entry.name.startswith(".") or entry.name in _NOISE:
        return False
    return entry.is_dir(follow_symlinks=False) or not entry.name.lower().endswith(_TABLES)


def _who(entry: os.DirEntry) -> tuple[str, str]:
    """Name and number of a student, from the name of a folder or a file."""
    name = unicodedata.normalize("NFC", printable(entry.name))
    if not entry.is_dir(follow_symlinks=False):
        name = re.sub(r"(\.ipynb)?\.\w{1,8}$", "", name)
    matched = _MOODLE.match(name) or _CANVAS.match(name)
    return (matched["who"], matched["id"]) if matched else (name, "")


def _named(
    paths: Mapping[Path, tuple[str, str]], roster: Mapping[str, Mapping[str, str]]
) -> dict[Path, str]:
    """The student behind every path: one of the roster, or the name that was found."""
    numbers = {row["ID"]: who for who, row in roster.items() if row.get("ID")}
    forms = {(form, who) for who in roster for form in _forms(who)}
    count = Counter(form for form, _ in forms)
    known = {form: who for form, who in forms if count[form] == 1}
    of_name = Counter(name for name, number in set(paths.values()) if number)
    named = {}
    for path, (name, number) in paths.items():
        canvas = numbers.get(number) if not _MOODLE.match(path.name) else None
        if canvas:
            named[path] = canvas
        elif of_name[name] > 1 and number:  # two of the same name
            named[path] = f"{name} ({number})"
        else:
            named[path] = name if name in roster else known.get(_letters(name), name)
    return named


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name).casefold()


def _forms(name: str) -> set[str]:
    """The letters of a name, with the family name behind and before."""
    family, comma, given = name.partition(",")
    return {_letters(name), _letters(given + family if comma else name)} - {""}


def _files(top: Path, trouble: list[str]) -> Iterator[Path]:
    """Files and links below a folder, not hidden; not too deep, and not too many."""
    todo, seen = [(top, 0)], 0
    while todo:
        folder, depth = todo.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            trouble.append(f"{printable(folder.name)} cannot be read: {error.strerror}.")
            continue
        seen += len(entries)
        if seen > ENTRIES or depth > DEPTH:
            trouble.append("There are too many files or folders; not all were looked at.")
            return
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append((Path(entry.path), depth + 1))
            else:
                yield Path(entry.path)


def _is_notebook(name: str) -> bool:
    """Browsers like to add an ending."""
    return name.lower().endswith((".ipynb", ".ipynb.txt", ".ipynb.json"))


def _choose(who: str, paths: Sequence[Path]) -> Submission:
    """The newest notebook among everything that one student handed in."""
    files: list[tuple[float, str, Path]] = []
    others: list[str] = []
    trouble: list[str] = []
    for path in _everything(paths, trouble):
        name = printable(path.name)
        if path.is_symlink():
            trouble.append(f"{name} is a link; links are not followed.")
        elif path.suffix.lower() in _ARCHIVES:
            trouble.append(f"{name} is an archive; hand in the notebook itself.")
        elif _is_notebook(name) and path.is_file():
            files.append((path.stat().st_mtime, path.name, path))
        else:
            others.append(name)
    if not files:
        only = f", only {', '.join(others[:3])}" if others else ""
        missing = f"There is no notebook (.ipynb){only}."
        there = bool(others or trouble)
        return Submission(who, None, (*trouble, missing), bool(trouble), there)
    newest = max(files)[2]
    if len(files) > 1:
        name = printable(newest.name)
        trouble.append(f"There are {len(files)} notebooks; the newest is graded: {name}.")
    return Submission(who, newest, tuple(trouble), bool(trouble))


def _everything(paths: Sequence[Path], trouble: list[str]) -> Iterator[Path]:
    for top in paths:
        if top.is_symlink() or not top.is_dir():
            yield top
        else:
            yield from _files(top, trouble)


def read_roster(path: Path) -> dict[str, dict[str, str]]:
    """Student -> columns of a roster in CSV, such as Canvas exports with its grades.

    Only the column ``Student`` is needed; names must be unique.

    Raises
    ------
    CourseworkError
        If the file is not there, has no such column, or names a student twice.
    """
    roster: dict[str, dict[str, str]] = {}
    for _, row in read_table(path, "the roster", ("Student",)):
        who = row["Student"]
        if not who or who == "Points Possible":
            continue
        if who in roster:
            raise CourseworkError(
                f"the roster {path} names {who!r} twice; make the names unique (add a number)"
            )
        roster[who] = {key: row.get(key, "") for key in ROSTER_COLUMNS[1:]}
    if not roster:
        raise CourseworkError(f"the roster {path} names nobody")
    return roster
