"""Three commands for who assigns exercises: prove, release, grade."""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coursework.errors import CourseworkError
from coursework.tables import printable

if TYPE_CHECKING:
    from coursework.grade import Result
    from coursework.sets import Set
    from coursework.submissions import Submission

__all__ = ["main"]

SAVE_SECONDS = 10.0  # while a class is graded, the report is written so often

SETS = """\
SET is one of
  ch03          all exercises of chapter 3
  ch03:first    those marked for a first round of about three hours
  FILE.toml     a list of exercises, from one chapter or several:
                  title = "Midterm"
                  exercises = ["ex-gcv-score", "ex-water-filling"]
Chapters are looked for in --root, else in the environment variable COURSEWORK_ROOT, else in this
book. An instructor's private variants are a folder of the same form.
"""

PROVE = """\
Ask whether a set can be graded: right answers get full marks for every seed, known mistakes are
named, odd and wrong answers earn what they deserve, and no small change of a solution goes
unnoticed. Then the set is handed out and graded once, as a student's submission would be.
"""

RELEASE = """\
Write the one file that students get: a notebook with statements, hints, empty answers and a
self-check. It holds no solution and no hidden check, needs nothing but numpy (and what its first
lines say), opens in Jupyter and Colab, and is the same bytes whenever the command is repeated.
"""

GRADE = """\
Grade everything in FOLDER: a folder or a notebook per student, or a download from Canvas or
Moodle, unpacked. Students' code runs in a sandbox (bubblewrap, Linux); without one the command
refuses.

OUT gets grades.csv, canvas.csv, feedback/*.html, report.json, and, for answers in words,
answers.html and answers.ipynb (with formulas typeset), which show them with the rubric, and
marks.csv, which takes the points. Fill in marks.csv and run the same command again: the marks are
merged, and only what is new is graded. A run that was interrupted goes on in the same way.
"""

EPILOG = "exit codes: 0 done; 1 done, and something needs you; 2 not done, see the message"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m coursework", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    form = argparse.RawDescriptionHelpFormatter

    def command(name: str, text: str, brief: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=brief, description=text, epilog=f"{SETS}\n{EPILOG}", formatter_class=form
        )
        one.add_argument("set", metavar="SET", help="what to take; see below")
        one.add_argument("--root", type=Path, help="folder of the chapters (default: this book)")
        return one

    one = command("prove", PROVE, "ask whether a set can be graded")
    one.add_argument("--seeds", type=_natural, default=5, help="how many seeds (default: 5)")
    one.add_argument("--fast", action="store_true", help="leave out release and sandbox")

    one = command("release", RELEASE, "write the notebook for students")
    one.add_argument("--out", type=Path, default=Path("dist"), help="folder (default: dist)")
    one.add_argument("--force", action="store_true", help="replace a file that differs")
    one.add_argument("--dry-run", action="store_true", help="list the exercises, write nothing")

    one = command("grade", GRADE, "grade a folder of submissions")
    one.add_argument("folder", metavar="FOLDER", type=Path, help="where the submissions are")
    one.add_argument("--out", type=Path, default=Path("graded"), help="folder (default: graded)")
    one.add_argument(
        "--roster",
        type=Path,
        metavar="CSV",
        help="who should have handed in (column Student; the export of Canvas will do)",
    )
    one.add_argument(
        "--marks", type=Path, metavar="CSV", help="a marking sheet, on top of OUT/marks.csv"
    )
    one.add_argument(
        "--jobs", type=_natural, default=None, help="processes (default: one per processor)"
    )
    one.add_argument(
        "--dask", metavar="ADDRESS", help="scheduler of a Dask cluster instead of --jobs"
    )
    one.add_argument(
        "--seed", type=int, help="draw the inputs of an earlier run (default: that of OUT, or new)"
    )
    one.add_argument("--fresh", action="store_true", help="grade everything again")
    one.add_argument("--dry-run", action="store_true", help="say what would be graded")
    return parser


def _natural(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"should be 1 or more, not {text!r}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (something needs you) or 2 (it was not done)."""
    given = _parser().parse_args(arguments)
    for library in ("OMP", "OPENBLAS", "MKL"):  # small arrays: threads contend more than they help
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):  # a name in letters that the terminal does not know
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")
    try:
        from coursework.sets import find

        the_set = find(given.set, given.root)
        return {"prove": _prove, "release": _release, "grade": _grade}[given.command](
            given, the_set
        )
    except CourseworkError as error:
        print(f"coursework: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"coursework: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("coursework: stopped; what was written before is complete", file=sys.stderr)
        return 2


def _prove(given: argparse.Namespace, the_set: Set) -> int:
    from coursework.prove import prove

    print(f"{the_set.title}: {len(the_set.exercises)} exercises, {the_set.points} points")
    if not given.fast:
        _need_sandbox()
    finding = prove(the_set, seeds=given.seeds, fast=given.fast)
    print(", ".join(f"{number} {what}" for what, number in finding.counts.items()))
    print(f"largest error of a right answer: {finding.margin:.1e} of its tolerance")
    if finding.problems:
        print(f"NOT PROVED: {len(finding.problems)} problems")
        return 1
    print("PROVED" if not given.fast else "PROVED, as far as it goes without the sandbox")
    return 0


def _release(given: argparse.Namespace, the_set: Set) -> int:
    from coursework import release

    page = release.target(the_set, given.out)
    if given.dry_run:
        release.release(the_set)
        for one in the_set.exercises:
            size = f"{one.minutes:>3} min {one.points:>3} points"
            print(f"{one.label:<26} {one.kind:<12} {size}  {one.title}")
        state = "would be replaced, if it differs" if page.exists() else "would be written"
        print(f"{page} {state}: {len(the_set.exercises)} exercises, {the_set.points} points")
        return 0
    page = release.write(the_set, given.out, force=given.force)
    print(f"{page}: {len(the_set.exercises)} exercises, {the_set.points} points")
    return 0


def _need_sandbox() -> None:
    from coursework import sandbox

    if problem := sandbox.problem():
        raise CourseworkError(f"students' code is not run without a sandbox. {problem}")


def _grade(given: argparse.Namespace, the_set: Set) -> int:
    from coursework import report
    from coursework.submissions import collect, read_roster

    roster = read_roster(given.roster) if given.roster else None
    submissions = collect(given.folder, roster, skip=given.out)
    students = [submission.student for submission in submissions]
    before = report.read_report(given.out / "report.json")
    if before is not None and before["set"] != the_set.name:
        raise CourseworkError(
            f"{given.out} holds the grades of {before['set']!r}; give another folder with --out"
        )
    seed = given.seed if given.seed is not None else (before or {}).get("seed")
    known = {} if before is None or given.fresh else _known(before, the_set, submissions, seed)
    marks = _marks(given, the_set, students)
    if given.dry_run:
        _say_what(submissions, known, marks)
        return 0
    _need_sandbox()
    _need_folder(given.out)
    if seed is None:
        seed = secrets.randbelow(2**32)
    with _alone(given.out):
        results = _graded(given, the_set, submissions, known, seed)
        report.write(
            results,
            the_set,
            given.out,
            seed=seed,
            marks=marks,
            roster=roster,
            sources={submission.student: submission.file for submission in submissions},
        )
    return _summary(given.out, results, report.stale(results, marks))


def _marks(given: argparse.Namespace, the_set: Set, students: Sequence[str]) -> dict:
    """The marks of the folder, and over them those of a sheet that was given."""
    from coursework.report import read_marks

    kept = given.out / "marks.csv"
    sheets = [kept] * kept.exists() + [given.marks] * (given.marks is not None)
    found: dict = {}
    for sheet in sheets:
        found |= read_marks(sheet, the_set, students)
    return found


def _say_what(submissions: Sequence[Submission], known: Mapping, marks: Mapping) -> None:
    for submission in submissions:
        done = "known" if submission.student in known else "to grade"
        print(f"{submission.student}: {printable(str(submission.file or 'no notebook'))} ({done})")
        for note in submission.notes:
            print(f"    {note}")
    print(f"{len(submissions)} submissions, {len(marks)} marks; nothing was written")


def _graded(
    given: argparse.Namespace,
    the_set: Set,
    submissions: Sequence[Submission],
    known: Mapping[str, Result],
    seed: int,
) -> dict[str, Result]:
    """All results; they are kept in the report as they come, so that a later run goes on there."""
    import joblib

    from coursework import report
    from coursework.batch import grade_all

    results, every, saved = dict(known), len(submissions), time.monotonic()
    if known:
        print(f"{len(known)} of {every} submissions are unchanged and not graded again")

    def say(who: str, result: Result) -> None:
        nonlocal saved
        results[who] = result
        notes = f" ({printable(' '.join(result.notes))[:100]})" if result.notes else ""
        points = f"{result.score} points by the checks"
        print(f"[{len(results)}/{every}] {who}: {result.status}, {points}{notes}", flush=True)
        if time.monotonic() - saved > SAVE_SECONDS:
            report.save(results, the_set, given.out, seed=seed)
            saved = time.monotonic()

    try:
        return grade_all(
            submissions,
            the_set,
            root=given.root,
            seed=seed,
            jobs=given.jobs or joblib.cpu_count(),
            dask=given.dask,
            known=known,
            say=say,
        )
    except BaseException:
        if len(results) > len(known):
            report.save(results, the_set, given.out, seed=seed)
            print(
                f"{len(results)} of {every} results are kept in {given.out}; the same command "
                "goes on from there",
                file=sys.stderr,
            )
        raise


def _summary(out: Path, results: Mapping[str, Result], stale: Sequence[str]) -> int:
    found = collections.Counter(result.status for result in results.values())
    print(", ".join(f"{number} {status}" for status, number in sorted(found.items())))
    broken = {
        f"{one.label}, “{one.title}”: {one.message}"
        for result in results.values()
        for one in result.checks
        if one.status == "grader-error"
    }
    for what in sorted(broken):
        print(f"a check is broken: {printable(what)}")
    if stale:
        print(f"changed since they were marked, mark them again: {', '.join(stale)}")
    print(f"{out}: grades.csv, canvas.csv, marks.csv, answers.html, answers.ipynb, feedback")
    return 1 if found["grader-error"] or broken or stale else 0


def _known(
    before: dict, the_set: Set, submissions: Sequence[Submission], seed: int | None
) -> dict[str, Result]:
    """The results of an earlier run that still hold: same notebook, seed, checks and grader."""
    import hashlib

    from coursework.grade import versions

    if before["seed"] != seed:
        return {}
    known, changed, now = {}, False, versions(the_set)
    for submission in submissions:
        result = before["results"].get(submission.student)
        if result is None or result.status == "grader-error" or submission.file is None:
            continue
        if result.versions != now:
            changed = True
        elif result.found == list(submission.notes):
            with contextlib.suppress(OSError):
                if hashlib.sha256(submission.read()).hexdigest() == result.sha256:
                    known[submission.student] = result
    if changed:
        print("the set or the grader has changed since; everything is graded again")
    return known


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two runs in one folder would each lose what the other one finds."""
    import fcntl

    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise CourseworkError(f"another run is writing into {out}; wait for its end") from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(folder)


def _need_folder(out: Path) -> None:
    """An output folder that cannot be written is noticed before the work, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CourseworkError(f"{out} cannot be written: {error.strerror}") from None
