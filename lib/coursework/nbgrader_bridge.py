"""Grade with this package inside nbgrader: its gradebook, forms and feedback stay as they are.

In ``nbgrader_config.py`` of the course::

    from coursework.nbgrader_bridge import configure
    configure(get_config())

The name of an assignment is the name of a set, with ``-`` for ``:`` (``ch01-first``).  nbgrader
then never starts a kernel on a student's notebook: the points and sentences of the checks are
written into the check cells, where its gradebook looks for them.  Needs the extra ``nbgrader``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)

from coursework import sandbox
from coursework.grade import Result, grade
from coursework.sets import Set, find

__all__ = ["configure"]

_settings: dict[str, Any] = {"root": None, "seed": 0}


class DropDuplicateIds(NbGraderPreprocessor):
    """A copied cell keeps its text and loses its nbgrader metadata; the last one is the answer."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Go through the cells from the end."""
        seen = set()
        for cell in reversed(nb.cells):
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if "nbgrader" in cell.metadata and (name is None or name in seen):
                del cell.metadata["nbgrader"]
            seen.add(name)
        return nb, resources


class RestoreCells(OverwriteCells):
    """nbgrader's own repair of changed check cells, deleted ones included."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Repair."""
        self.add_missing_cells = True
        return super().preprocess(nb, resources)


class SandboxExecute(NbGraderPreprocessor):
    """In place of a kernel: grade behind the wall, and write the points into the check cells."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Grade the notebook."""
        if problem := sandbox.problem():
            raise RuntimeError(f"Students' code is not run without a sandbox. {problem}")
        the_set = _find(resources["nbgrader"]["assignment"])
        result = grade(json.dumps(nb).encode(), the_set, seed=_settings["seed"])
        for cell in nb.cells:
            data = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and data.get("grade") and not data.get("solution"):
                cell.outputs = _outputs(result, data["grade_id"])
        return nb, resources


def _find(assignment: str) -> Set:
    """The set of an assignment: nbgrader allows no colon in its name."""
    name = assignment.removesuffix("-first")
    return find(assignment if name == assignment else f"{name}:first", _settings["root"])


def _outputs(result: Result, label: str) -> list[NotebookNode]:
    """Sentences, then the points as nbgrader's partial credit."""
    checks = [check for check in result.checks if check.label == label]
    lines = [
        f"{'ok' if c.status == 'passed' else 'not yet'} ({c.score} of {c.points}): {c.title}. "
        f"{c.message}".strip()
        for c in checks
    ]
    points = float(sum(check.score for check in checks))
    return [
        new_output("stream", name="stdout", text="\n".join([*result.notes, *lines]) + "\n"),
        new_output("execute_result", data={"text/plain": str(points)}, execution_count=1),
    ]


def configure(config: Any, root: str | Path | None = None, seed: int = 0) -> Any:
    """Set nbgrader's ``Autograde`` up to use the sandbox.

    Parameters
    ----------
    config
        nbgrader's configuration, ``get_config()``.
    root
        Folder of the chapters, if the sets are private variants.
    seed
        The grading seed.
    """
    _settings.update(root=Path(root).expanduser() if root else None, seed=seed)
    config.Autograde.sanitize_preprocessors = [
        ClearOutput,
        DropDuplicateIds,
        OverwriteKernelspec,
        RestoreCells,
        CheckCellMetadata,
    ]
    config.Autograde.autograde_preprocessors = [
        SandboxExecute,
        LimitOutput,
        SaveAutoGrades,
        AssignLatePenalties,
        CheckCellMetadata,
    ]
    return config
