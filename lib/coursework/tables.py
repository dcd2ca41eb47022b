"""Tables that people edit in a spreadsheet: CSV, as spreadsheets really write it.

Commas, semicolons or tabs; UTF-8, with or without a mark, UTF-16, or the old Windows encoding.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coursework.errors import CourseworkError

__all__ = ["printable", "read_table", "table", "unsafe"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """One line that a terminal can show: no control characters, no half characters."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """The text of a CSV file; no cell of it is a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([[_safe(value) for value in row] for row in rows])
    return text.getvalue()


def _safe(value: Any) -> str:
    """A cell that begins like a formula would be run by a spreadsheet."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def unsafe(text: str) -> str:
    """The text that was made safe."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA) else text


def read_table(path: Path, what: str, needed: Sequence[str]) -> Iterator[tuple[int, dict]]:
    """The rows of a CSV file that are not empty, with the numbers of their lines.

    Parameters
    ----------
    path
        The file.
    what
        What it is, for a sentence.
    needed
        Columns that it must have; capital letters do not matter, and their order does not either.

    Yields
    ------
    line : int
        Number of the last line of the row.
    row : dict
        Column -> text, without spaces around it; the needed columns are named as in `needed`.

    Raises
    ------
    CourseworkError
        If it is no such file, or a row has more cells than there are columns.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"PK"):
            raise CourseworkError(f"{what} {path} is a workbook; save it as CSV")
        text = _text(data)
        head = text.lstrip("\r\n").partition("\n")[0]
        comma = max(",;\t", key=head.count)  # the first of them if there is none
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CourseworkError(f"{what} {path} cannot be read: {reason}") from None
    rows = [(line, row) for line, row in rows if any(row)]
    wanted = {name.casefold(): name for name in needed}
    header = [wanted.get(name.casefold(), name) for name in (rows[0][1] if rows else [])]
    if missing := [name for name in needed if name not in header]:
        there = ", ".join(filter(None, header)) or "none"
        raise CourseworkError(
            f"{what} {path} has no column {' and no column '.join(missing)}; its columns are: "
            f"{there}"
        )
    for line, row in rows[1:]:
        if any(row[len(header) :]):
            raise CourseworkError(
                f"{what} {path}, line {line}: more cells than columns. A number with a decimal "
                "comma, or a text with a comma, needs quotation marks around it."
            )
        yield line, dict(zip(header, [*row, *[""] * len(header)], strict=False))


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:  # what spreadsheets on Windows call CSV
            text = data.decode("cp1252", errors="replace")
    return unicodedata.normalize("NFC", text)
