"""Ways in which a notebook is damaged between the student and the grader.

Every function takes a notebook with right answers, as a dictionary, and returns the bytes of what
arrives.  Its name is that of a row of ``expected.toml``.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable


def _bytes(notebook: dict) -> bytes:
    return json.dumps(notebook).encode()


def _code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _answers(notebook: dict) -> list[dict]:
    return [
        cell for cell in _code(notebook) if "\ndef " in "\n" + _source(cell) and not _setup(cell)
    ]


def _source(cell: dict) -> str:
    return "".join(cell["source"])


def _setup(cell: dict) -> bool:
    return _source(cell).startswith("# Self-check")


# --------------------------------------------------------------------- nothing to be graded


def truncated(notebook: dict) -> bytes:
    return _bytes(notebook)[:-500]


def empty(notebook: dict) -> bytes:
    return b" \n"


def pdf(notebook: dict) -> bytes:
    return b"%PDF-1.7\n" + bytes(range(256)) * 10


def zipped(notebook: dict) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("answers.ipynb", _bytes(notebook))
    return file.getvalue()


def other_json(notebook: dict) -> bytes:
    return b'{"version": 1, "items": [1, 2, 3]}'


def json_list(notebook: dict) -> bytes:
    return _bytes(notebook["cells"])


def deep_json(notebook: dict) -> bytes:
    return b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def web_page(notebook: dict) -> bytes:
    return b"<!DOCTYPE html><html><body>Please log in</body></html>"


def noise(notebook: dict) -> bytes:
    return bytes(range(128, 256)) * 50


def no_cells(notebook: dict) -> bytes:
    return _bytes({**notebook, "cells": []})


def too_large(notebook: dict) -> bytes:
    return _bytes(notebook) + b" " * (31 << 20)


# ------------------------------------------------------------------ everything can be graded


def format_3(notebook: dict) -> bytes:
    cells = []
    for cell in notebook["cells"]:
        name = "input" if cell["cell_type"] == "code" else "source"
        cells.append({"cell_type": cell["cell_type"], name: cell["source"], "metadata": {}})
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}
    return _bytes(old)


def no_kernelspec(notebook: dict) -> bytes:
    return _bytes({**notebook, "metadata": {}})


def other_kernel(notebook: dict) -> bytes:
    notebook["metadata"]["kernelspec"] = {"name": "my-env", "display_name": "conda: my env"}
    return _bytes(notebook)


def duplicate_ids(notebook: dict) -> bytes:
    for cell in notebook["cells"]:
        cell["id"] = "same"
    return _bytes(notebook)


def copied_cells(notebook: dict) -> bytes:
    notebook["cells"] += notebook["cells"]
    return _bytes(notebook)


def deleted_checks(notebook: dict) -> bytes:
    notebook["cells"] = [c for c in notebook["cells"] if not _source(c).startswith("check(")]
    return _bytes(notebook)


def deleted_setup(notebook: dict) -> bytes:
    notebook["cells"] = [c for c in notebook["cells"] if not _setup(c)]
    return _bytes(notebook)


def deleted_given(notebook: dict) -> bytes:
    notebook["cells"] = [*_answers(notebook), _cell("assert EXAMPLE.shape == (3, 3)")]
    return _bytes(notebook)


def lost_metadata(notebook: dict) -> bytes:
    for cell in notebook["cells"]:
        cell["metadata"] = {}
    return _bytes(notebook)


def text_cells(notebook: dict) -> bytes:
    for cell in _answers(notebook):
        cell["cell_type"] = "markdown"
    return _bytes(notebook)


def fenced_text_cells(notebook: dict) -> bytes:
    for cell in _answers(notebook):
        cell["cell_type"] = "markdown"
        cell["source"] = f"```python\n{_source(cell)}\n```\n"
    return _bytes(notebook)


def raw_cells(notebook: dict) -> bytes:
    for cell in _answers(notebook):
        cell["cell_type"] = "raw"
    return _bytes(notebook)


def text_beside_stub(notebook: dict) -> bytes:
    """The answers stand in text cells, and the stubs are still there."""
    for cell in _answers(notebook):
        notebook["cells"].append({**cell, "cell_type": "markdown"})
        name = _source(cell).split("def ")[1].split("(")[0]
        cell["source"] = f"def {name}(*args):\n    raise NotImplementedError  # your code"
    return _bytes(notebook)


def other_language(notebook: dict) -> bytes:
    notebook["metadata"] = {"language_info": {"name": "julia"}}
    return _bytes(notebook)


def r_notebook(notebook: dict) -> bytes:
    notebook["metadata"] = {"kernelspec": {"name": "ir", "language": "R"}}
    notebook["cells"] = [_cell("tikhonov_solve <- function(A, y, alpha) solve(A, y)")]
    return _bytes(notebook)


def byte_order_mark(notebook: dict) -> bytes:
    return b"\xef\xbb\xbf" + _bytes(notebook)


def utf_16(notebook: dict) -> bytes:
    return json.dumps(notebook).encode("utf-16")


def windows_lines(notebook: dict) -> bytes:
    for cell in notebook["cells"]:
        cell["source"] = _source(cell).replace("\n", "\r\n")
    return _bytes(notebook)


def huge_output(notebook: dict) -> bytes:
    text = {"output_type": "stream", "name": "stdout", "text": "x" * (20 << 20)}
    _code(notebook)[-1]["outputs"] = [text]
    return _bytes(notebook)


def reversed_cells(notebook: dict) -> bytes:
    notebook["cells"].reverse()
    return _bytes(notebook)


def one_cell(notebook: dict) -> bytes:
    whole = "\n\n".join(_source(cell) for cell in _code(notebook) if not _setup(cell))
    notebook["cells"] = [_cell(whole)]
    return _bytes(notebook)


def wrong_types(notebook: dict) -> bytes:
    notebook["metadata"] = None
    notebook["cells"] += [
        None,
        7,
        {},
        {"cell_type": 3, "source": {"a": 1}, "metadata": []},
        {"cell_type": "code", "source": [1, None, "x = 1"], "metadata": None},
        {"cell_type": "markdown", "source": "text", "metadata": {"nbgrader": "?", "tags": 1}},
        {"cell_type": "markdown", "source": "text", "metadata": {"nbgrader": {"grade_id": []}}},
    ]
    return _bytes(notebook)


def source_strings(notebook: dict) -> bytes:
    for cell in notebook["cells"]:
        cell["source"] = _source(cell)
    return _bytes(notebook)


def answer_in_setup(notebook: dict) -> bytes:
    """Answers typed under the self-check, in its cell."""
    answers = _answers(notebook)
    setup = next(cell for cell in _code(notebook) if _setup(cell))
    setup["source"] = "\n\n".join(_source(cell) for cell in [setup, *answers])
    notebook["cells"] = [cell for cell in notebook["cells"] if cell not in answers]
    return _bytes(notebook)


def _cell(source: str) -> dict:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }


WAYS: dict[str, Callable[[dict], bytes]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and not name.startswith("_") and value.__module__ == __name__
}
