"""What comes out of grading: grades, marking sheet, feedback pages, and a report for a regrade.

| file | for whom |
|---|---|
| ``grades.csv`` | one row per student: points per exercise, total, what is still to be marked |
| ``canvas.csv`` | the same total in the form that Canvas imports |
| ``marks.csv`` | the marking sheet: fill in points and comments, run ``grade`` again |
| ``answers.html``, ``answers.ipynb`` | all answers in words, by exercise, with the rubric |
| ``feedback/*.html`` | one page per student |
| ``report.json`` | hashes, seed, versions, every message |

Every file is written beside its place first and then moved, so that none is ever half-written.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coursework.checks import Written
from coursework.errors import CourseworkError
from coursework.grade import Graded, Result
from coursework.sets import Set
from coursework.submissions import ROSTER_COLUMNS, file_name
from coursework.tables import printable, read_table, table, unsafe

__all__ = ["Mark", "read_marks", "read_report", "save", "stale", "write"]

SHOWN = 20_000  # characters of an answer on the page
WORDS = {
    "passed": "passed",
    "failed": "not yet",
    "error": "stopped with an error",
    "todo": "not written",
    "not run": "not run",
    "grader-error": "problem of the grader; your instructor has been told",
}
_STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
td,th{border:1px solid #8888;padding:.4rem;text-align:left;vertical-align:top}
caption{text-align:left;font-weight:bold;padding:.6rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #8888;padding:.6rem}
td,li{overflow-wrap:anywhere}
td:nth-child(2){overflow-wrap:normal}
"""


@dataclass(frozen=True)
class Mark:
    """Points and comment for one answer in words.

    Attributes
    ----------
    points
        None if somebody still has to look.
    comment
        A sentence for the student.
    answer
        Which answer was marked, see :func:`fingerprint`; empty if nobody knows.
    """

    points: float | None
    comment: str = ""
    answer: str = ""


AUTOMATIC = Mark(0.0, "No answer.", "blank")  # what a blank answer gets by itself


def fingerprint(result: Result, label: str) -> str:
    """A short name for an answer in words, that no spreadsheet takes for a number."""
    answer = result.written.get(label)
    if answer == "" or result.status == "missing":
        return "blank"
    return "none" if answer is None else f"a{hashlib.sha256(_bytes(answer)).hexdigest()[:8]}"


def _bytes(text: str, encoding: str = "utf-8") -> bytes:
    """Students write half characters, too: they become question marks."""
    return text.encode(encoding, "replace")


def _number(points: float) -> str:
    return f"{points:g}"


# ------------------------------------------------------------------------------- reading


def read_marks(path: Path, the_set: Set, students: Sequence[str]) -> dict[tuple[str, str], Mark]:
    """The filled-in rows of a marking sheet: (student, exercise) -> mark.

    Raises
    ------
    CourseworkError
        With every row that cannot be used: an unknown student or exercise, points that are no
        number, below 0 or above what the exercise is worth, a pair that occurs twice.
    """
    most = {written.label: written.points for written in the_set.written}
    marks: dict[tuple[str, str], Mark] = {}
    problems = []
    rows = read_table(path, "the marking sheet", ("student", "exercise", "points"))
    for line, row in rows:
        comment, answer = unsafe(row.get("comment", "")), row.get("answer", "")
        if not row["points"] and not comment:
            continue
        key = (unsafe(row["student"]), row["exercise"])
        points = _points(row["points"])
        if Mark(points, comment, answer) == AUTOMATIC:
            continue
        if key[0] not in students:
            problems.append(f"line {line}: no submission of {key[0]!r}; delete the row if so")
        elif key[1] not in most:
            problems.append(f"line {line}: {key[1]!r} is not marked by hand in this set")
        elif points is not None and not 0 <= points <= most[key[1]]:
            problems.append(
                f"line {line}: points should be a number from 0 to {most[key[1]]}, "
                f"not {row['points']!r}"
            )
        elif key in marks:
            problems.append(f"line {line}: {key[0]!r} has a second mark for {key[1]}")
        else:
            marks[key] = Mark(points, comment, answer)
    if len(problems) > 10:
        problems[10:] = [f"and {len(problems) - 10} more rows"]
    if problems:
        raise CourseworkError("\n".join([f"the marking sheet {path} cannot be used:", *problems]))
    return marks


def _points(text: str) -> float | None:
    """The number, with a point or a comma; NaN if it is none, None if there is no text."""
    if not text:
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return float("nan")


def read_report(path: Path) -> dict[str, Any] | None:
    """The report of an earlier run, or None if there is none.

    Raises
    ------
    CourseworkError
        If the file is there and is no report.
    """
    if not path.exists():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return {
            "set": str(report["set"]),
            "seed": int(report["seed"]),
            "results": {who: Result.from_dict(r) for who, r in report["results"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseworkError(
            f"{path} is not a report of this program ({type(error).__name__}); "
            "move it away or give another folder with --out"
        ) from None


# ------------------------------------------------------------------------------- writing


def write(
    results: Mapping[str, Result],
    the_set: Set,
    out: Path,
    *,
    seed: int,
    marks: Mapping[tuple[str, str], Mark] | None = None,
    roster: Mapping[str, Mapping[str, str]] | None = None,
    sources: Mapping[str, Path | None] | None = None,
) -> None:
    """Write all files of a grading into the folder `out`.

    Parameters
    ----------
    results
        Student -> result.
    the_set
        The set.
    out
        The folder.
    seed
        The grading seed.
    marks
        Marks for answers in words.
    roster
        Student -> further columns for Canvas.
    sources
        Student -> the notebook, for ``answers.html``.
    """
    marks, roster = marks or {}, roster or {}
    to_mark = _to_mark(results, the_set, sources or {})
    pages: dict[str, str] = {}
    for who in sorted(results):
        pages[file_name(who, pages)] = who
    texts = {
        "grades.csv": _grades(results, the_set, marks),
        "canvas.csv": _canvas(results, the_set, marks, roster),
        "marks.csv": _sheet(results, the_set, marks),
        "answers.html": _answers(the_set, to_mark),
        "answers.ipynb": _answers_notebook(the_set, to_mark),
        **{
            f"feedback/{name}.html": _feedback(who, results[who], the_set, marks)
            for name, who in pages.items()
        },
    }
    save(results, the_set, out, seed=seed)
    for name, text in texts.items():
        _put(out / name, text)
    for page in (out / "feedback").glob("*.html"):  # of a name that was corrected since
        if page.stem not in pages:
            page.unlink()


def save(results: Mapping[str, Result], the_set: Set, out: Path, *, seed: int) -> None:
    """Write ``report.json`` alone: what an interrupted run leaves for the next one."""
    report = {
        "set": the_set.name,
        "title": the_set.title,
        "digest": the_set.digest,
        "seed": seed,
        "results": {who: result.to_dict() for who, result in sorted(results.items())},
    }
    _put(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False))


def _put(path: Path, text: str) -> None:
    """Write a file, whole or not at all; a mark at its head tells spreadsheets what UTF-8 is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    encoding = "utf-8-sig" if path.name in ("grades.csv", "marks.csv") else "utf-8"
    try:
        beside.write_bytes(_bytes(text, encoding))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def stale(results: Mapping[str, Result], marks: Mapping[tuple[str, str], Mark]) -> list[str]:
    """The students who have changed an answer since it was marked."""
    changed = {w for (w, label), mark in marks.items() if _is_stale(mark, results[w], label)}
    return sorted(changed)


def _is_stale(mark: Mark, result: Result, label: str) -> bool:
    return mark.points is not None and mark.answer not in ("", fingerprint(result, label))


def _mark(
    who: str, written: Written, result: Result, marks: Mapping[tuple[str, str], Mark]
) -> Mark:
    """The mark of one answer; without points if somebody has to look, 0 if it is blank."""
    now = fingerprint(result, written.label)
    mark = marks.get((who, written.label), Mark(None))
    if _is_stale(mark, result, written.label):
        earlier = f"[{_number(mark.points)} points for an earlier answer] {mark.comment}"
        mark = Mark(None, earlier.strip())
    if mark.points is None and now == "blank":
        mark = replace(AUTOMATIC, comment=mark.comment or AUTOMATIC.comment)
    return replace(mark, answer=now)


def _total(who: str, result: Result, the_set: Set, marks: Mapping[tuple[str, str], Mark]) -> float:
    found = [_mark(who, written, result, marks).points for written in the_set.written]
    return result.score + sum(points or 0 for points in found)


def _grades(results: Mapping[str, Result], the_set: Set, marks: Mapping) -> str:
    labels = [check.label for check in the_set.checks]
    hands = [written.label for written in the_set.written]
    rows = []
    for who, result in sorted(results.items()):
        hand = {w.label: _mark(who, w, result, marks) for w in the_set.written}
        earned = [sum(c.score for c in result.checks if c.label == label) for label in labels]
        rows.append(
            [
                who,
                result.status,
                *earned,
                *(_written_points(hand[label]) for label in hands),
                result.score,
                _number(_total(who, result, the_set, marks)),
                the_set.points,
                " ".join(label for label in hands if hand[label].points is None),
                printable(" ".join(result.notes))[:500],
            ]
        )
    header = ["student", "status", *labels, *(f"{label} by hand" for label in hands)]
    return table([*header, "automatic", "total", "most", "to mark", "notes"], rows)


def _canvas(results: Mapping[str, Result], the_set: Set, marks: Mapping, roster: Mapping) -> str:
    rows: list[list[Any]] = [["    Points Possible", "", "", "", "", the_set.points]]
    for who, result in sorted(results.items()):
        known = roster.get(who, {})
        columns = [known.get(column, "") for column in ROSTER_COLUMNS[1:]]
        rows.append([who, *columns, _number(_total(who, result, the_set, marks))])
    return table([*ROSTER_COLUMNS, the_set.title], rows)


def _sheet(results: Mapping[str, Result], the_set: Set, marks: Mapping) -> str:
    rows = []
    for written in the_set.written:
        for who, result in sorted(results.items()):
            mark = _mark(who, written, result, marks)
            points = _written_points(mark)
            rows.append([who, written.label, written.points, points, mark.comment, mark.answer])
    return table(["student", "exercise", "most", "points", "comment", "answer"], rows)


def _written_points(mark: Mark) -> str:
    return "" if mark.points is None else _number(mark.points)


# --------------------------------------------------------------------------------- pages


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _words(text: str) -> str:
    """Escaped, with ``*stress*`` and ``code`` as the sentences of the checks write them."""
    text = html.escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<em>\1</em>", text)


def _to_mark(
    results: Mapping[str, Result], the_set: Set, sources: Mapping[str, Path | None]
) -> dict[str, list[tuple[str, str, str]]]:
    """Label -> student, file and answer, for everything that somebody has to read."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for written in the_set.written:
        found[written.label] = []
        for who, result in sorted(results.items()):
            answer = result.written.get(written.label)
            if answer == "" or result.status == "missing":
                continue
            file = sources.get(who)
            if answer is None:
                answer = "The answer cell was not found; look at the notebook itself."
            if sources and file is None:
                answer = "There is no notebook; look at what was handed in."
            if len(answer) > SHOWN:
                answer = f"{answer[:SHOWN]}\n[cut off here; the rest is in the notebook]"
            found[written.label].append((who, str(file or ""), answer))
    return found


def _answers(the_set: Set, to_mark: Mapping[str, Sequence[tuple[str, str, str]]]) -> str:
    """The answers as they were typed."""
    titles = {exercise.label: exercise.title for exercise in the_set.exercises}
    parts = [
        "<p>Marks go into <code>marks.csv</code>; then run <code>grade</code> again. "
        "<code>answers.ipynb</code> has the same answers with formulas typeset.</p>"
    ]
    for written in the_set.written:
        rows = "".join(
            f"<tr><td>{_words(what)}</td><td>{points}</td></tr>" for what, points in written.rubric
        )
        parts.append(
            f"<h2>{html.escape(titles[written.label])} ({written.label})</h2>"
            f"<table><caption>What to look for</caption>"
            f'<tr><th scope="col">A right answer</th><th scope="col">Points</th></tr>{rows}</table>'
        )
        for who, file, answer in to_mark[written.label]:
            where = f"<p>{html.escape(file)}</p>" if file else ""
            parts.append(f"<h3>{html.escape(who)}</h3>{where}<pre>{html.escape(answer)}</pre>")
    return _document(f"{the_set.title}: answers to mark", "\n".join(parts))


def _answers_notebook(the_set: Set, to_mark: Mapping[str, Sequence[tuple[str, str, str]]]) -> str:
    """The answers as a notebook of text cells: Jupyter typesets formulas, and runs nothing."""
    titles = {exercise.label: exercise.title for exercise in the_set.exercises}
    texts = [f"# {the_set.title}: answers to mark\n\nMarks go into `marks.csv`."]
    for written in the_set.written:
        rows = "\n".join(f"- {what}: {points}" for what, points in written.rubric)
        texts.append(f"## {titles[written.label]} ({written.label})\n\n{rows}")
        for who, _, answer in to_mark[written.label]:
            texts += [f"### {html.escape(who)}", answer]
    cells = [
        {"cell_type": "markdown", "id": f"cell-{i}", "metadata": {}, "source": text}
        for i, text in enumerate(texts)
    ]
    page = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def _message(check: Graded) -> str:
    """What the student reads; an error of a check is none of that."""
    return "" if check.status == "grader-error" else check.message


def _feedback(who: str, result: Result, the_set: Set, marks: Mapping) -> str:
    titles = {exercise.label: exercise.title for exercise in the_set.exercises}
    hand = {w.label: _mark(who, w, result, marks) for w in the_set.written}
    possible = sum(check.points for check in the_set.checks)
    total = _number(_total(who, result, the_set, marks))
    waiting = " so far" if any(mark.points is None for mark in hand.values()) else ""
    parts = [
        f"<p>{html.escape(who)}: <strong>{total} of {the_set.points} points</strong>{waiting}"
        f" ({result.score} of {possible} by the checks).</p>"
    ]
    if result.status not in ("graded", "missing"):
        parts.append("<p>Your instructor will look at this submission.</p>")
    if result.notes:
        notes = "".join(f"<li>{_words(note)}</li>" for note in result.notes)
        parts.append(f"<h2>While reading and running your notebook</h2><ul>{notes}</ul>")
    for exercise in the_set.exercises:
        if exercise.check is None and exercise.written is None:
            continue
        parts.append(f"<h2>{html.escape(titles[exercise.label])}</h2>")
        found = [c for c in result.checks if c.label == exercise.label]
        if found:
            rows, said = "", ""
            for c in found:
                message = _message(c)
                shown = "as above" if message and message == said else _words(message)
                rows += (
                    f'<tr><th scope="row">{_words(c.title)}</th><td>{WORDS[c.status]}</td>'
                    f"<td>{c.score} of {c.points}</td><td>{shown}</td></tr>"
                )
                said = message
            parts.append(
                "<table><caption>Checks</caption><tr>"
                + "".join(
                    f'<th scope="col">{name}</th>'
                    for name in ("A right answer", "Yours", "Points", "What we saw")
                )
                + f"</tr>{rows}</table>"
            )
        if exercise.written is not None:
            mark = hand[exercise.label]
            marked = mark.points is not None
            earned = f"{_number(mark.points)} of" if marked else "not marked yet, worth"
            text = f"In words: {earned} {exercise.written.points} points."
            comment = html.escape(mark.comment) if marked else ""
            parts.append(f"<p>{text} {comment}</p>")
    parts.append(
        "<p>The checks are necessary, not sufficient. "
        f"<small>Submission SHA-256 {result.sha256[:16] or 'none'}, "
        f"inputs drawn with seed {result.seed}.</small></p>"
    )
    return _document(f"Feedback: {the_set.title}", "\n".join(parts))
