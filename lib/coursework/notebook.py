"""Reading notebooks that students hand in: damaged ones, too, where anything can be read."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["FILE_LIMIT", "PLACEHOLDER", "SELF_CHECK", "Unreadable", "read"]

SELF_CHECK = "# Self-check: run this cell once."  # the first line of a release's own cell
PLACEHOLDER = "*Your answer here.*"  # what stands in the cells for answers in words
FILE_LIMIT = 30 << 20  # bytes of a file
CELL_LIMIT = 200_000  # characters of a cell: nobody types more
CELL_COUNT = 5_000

_BEGINNINGS = {
    b"%PDF": "This is a PDF, not a notebook; submit the .ipynb file.",
    b"PK\x03\x04": "This is a zip archive, not a notebook; submit the .ipynb file itself.",
    b"\x1f\x8b": "This is a compressed archive, not a notebook; submit the .ipynb file itself.",
    b"<": "This is a web page, not a notebook; submit the .ipynb file.",
}


class Unreadable(Exception):
    """The file is no notebook; the text is a sentence for the student."""


def read(data: bytes) -> tuple[list[tuple[str, str, dict]], str]:
    """The cells of a notebook, whatever else is wrong with it.

    Formats 3 and 4, a byte order mark, missing metadata and values of wrong types are survived.

    Parameters
    ----------
    data
        The file.

    Returns
    -------
    cells : list of (kind, source, metadata)
        ``kind`` is ``"code"``, ``"markdown"`` or whatever stands there.
    language : str
        Name of the language in small letters, or an empty string.

    Raises
    ------
    Unreadable
        If there are no cells to be found.
    """
    notebook = _json(data)
    if not isinstance(notebook, dict):
        raise Unreadable("This file is not a notebook; submit the .ipynb file.")
    cells = _cells(notebook)
    if cells is None:
        raise Unreadable("This file has no cells, so it is not a notebook; submit the .ipynb file.")
    found = [_cell(cell) for cell in cells if isinstance(cell, dict)][:CELL_COUNT]
    if not found:
        raise Unreadable("This notebook has no cells; save your work and submit it again.")
    return found, _language(notebook)


def _json(data: bytes) -> Any:
    if not data.strip():
        raise Unreadable("The file is empty; save the notebook and submit it again.")
    if len(data) > FILE_LIMIT:
        raise Unreadable(
            f"The file is larger than {FILE_LIMIT >> 20} MB; clear the outputs, save the notebook "
            "and submit it again."
        )
    for beginning, sentence in _BEGINNINGS.items():
        if data.startswith(beginning):
            raise Unreadable(sentence)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return json.loads(data.decode(encoding, errors="replace"))
    except (ValueError, RecursionError):
        raise Unreadable(
            "The file is not a complete notebook: it was cut off, or edited by hand. "
            "Open it in Jupyter, save it, and submit it again."
        ) from None


def _cells(notebook: dict) -> list | None:
    cells = notebook.get("cells")
    worksheets = notebook.get("worksheets")  # format 3
    if not isinstance(cells, list) and isinstance(worksheets, list):
        inner = [sheet.get("cells") for sheet in worksheets if isinstance(sheet, dict)]
        cells = [cell for part in inner if isinstance(part, list) for cell in part]
    return cells if isinstance(cells, list) else None


def _cell(cell: dict) -> tuple[str, str, dict]:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    metadata = cell.get("metadata")
    return (
        cell["cell_type"] if isinstance(cell.get("cell_type"), str) else "",
        _whole(source[:CELL_LIMIT]) if isinstance(source, str) else "",
        metadata if isinstance(metadata, dict) else {},
    )


def _language(notebook: dict) -> str:
    metadata = notebook.get("metadata")
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        part = metadata.get(key) if isinstance(metadata, dict) else None
        value = part.get(name) if isinstance(part, dict) else None
        if isinstance(value, str) and value:
            return _whole(value.lower()[:40])
    return ""


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()
