"""Tables about coursework that are generated from its sources.

``{coursework-sets}`` lists what can be assigned, ``{coursework-syllabus} chapters`` and ``weeks``
lay out a course week by week, ``{coursework-bank}`` shows what the grader gave to the submissions
that it is tested with.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path

from book_directives import table_row
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from coursework import sets

BANK_KINDS = {
    "honest": "Honest submissions",
    "damaged": "Accidents and damaged files",
    "hostile": "Attacks",
}


class CourseworkSets(SphinxDirective):
    """The sets of the chapters: exercises, minutes, points, and the statements that they cover."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir) / "chapters"
        lines = ["```{list-table}", ":header-rows: 1", ":class: claims", ":widths: 16 20 16 48", ""]
        lines += table_row("Set", "All of it", "First round", "Statements that it uses")
        for folder in sorted(root.glob("[0-9]*_*/exercises")):
            self.env.note_dependency(str(folder / "exercises.ipynb"))
            whole = sets.find(folder.parent.name, root)
            count = Counter(e.kind for e in whole.exercises)
            kinds = ", ".join(f"{count[kind]} {kind}" for kind in sets.KINDS)
            uses = dict.fromkeys(label for e in whole.exercises for label in e.uses)
            lines += table_row(
                f"`{whole.name}` {{doc}}`/chapters/{folder.parent.name}/exercises/exercises`; "
                f"needs {', '.join(whole.needs)}",
                f"{_size(whole.exercises)}: {kinds}",
                _size([e for e in whole.exercises if e.first]),
                ", ".join(f"{{prf:ref}}`{label}`" for label in uses),
            )
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))


def _size(exercises: list[sets.Exercise]) -> str:
    """How many, how long, how many points."""
    hours, points = sum(e.minutes for e in exercises) / 60, sum(e.points for e in exercises)
    return f"{len(exercises)} exercises, {hours:.1f} h, {points} points"


class CourseworkSyllabus(SphinxDirective):
    """A table of weeks: what to read, which exercises, and how long both take."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir) / "chapters"
        lines = ["```{list-table}", ":header-rows: 1", ":class: claims", ":widths: 9 51 8 22 10"]
        lines += ["", *table_row("Week", "Read", "min", "Set", "min")]
        if self.arguments[0] == "chapters":
            chapters = sorted(root.glob("[0-9]*_*/exercises/exercises.ipynb"))
            weeks = [
                (f"ch{path.parts[-3][:2]}:first", sorted(path.parents[1].glob("0*.ipynb")))
                for path in chapters
            ]
        else:
            weeks = [
                (file.stem, [root / f"{name}.ipynb" for name in _toml(file)["read"]])
                for file in sorted(root.glob("sets/week*.toml"))
            ]
        for number, (name, notebooks) in enumerate(weeks, 1):
            the_set = sets.find(name, root)
            pages = [path.relative_to(root.parent).with_suffix("") for path in notebooks]
            read = ", ".join(f"{{doc}}`/{page}`" for page in pages)
            minutes = sum(_reading_minutes(path) for path in notebooks)
            lines += table_row(str(number), read, str(minutes), f"`{name}`", str(the_set.minutes))
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))


def _toml(path: Path) -> dict:
    return tomllib.loads(path.read_text(encoding="utf8"))


def _reading_minutes(notebook: Path) -> int:
    """What the first page of the chapter says of a notebook."""
    text = (notebook.parent / "index.md").read_text(encoding="utf8")
    row = re.search(rf"^\| {{doc}}`{notebook.stem}` \|.*\| (\d+) min \|", text, re.M)
    if row is None:
        raise ValueError(f"{notebook.parent.name}/index.md has no minutes for {notebook.stem}")
    return int(row[1])


class CourseworkBank(SphinxDirective):
    """The bank of submissions that the grader was tried with, and what it gave them."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "chapters" / "appendix" / "bank.json"
        self.env.note_dependency(str(path))
        lines: list[str] = []
        bank = json.loads(path.read_text(encoding="utf8"))
        for kind, intro in BANK_KINDS.items():
            rows = [row for row in bank["rows"] if row["kind"] == kind]
            lines += [f"**{intro}** ({len(rows)})", "", "```{list-table}", ":header-rows: 1"]
            lines += [":class: claims", ":widths: 52 12 14 22", ""]
            lines += table_row("Submission", "Right", "Measured", "Status")
            for row in rows:
                lines += table_row(row["what"], row["right"], str(row["measured"]), row["status"])
            lines += ["```", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, object]:
    """Register with Sphinx."""
    app.add_directive("coursework-sets", CourseworkSets)
    app.add_directive("coursework-syllabus", CourseworkSyllabus)
    app.add_directive("coursework-bank", CourseworkBank)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
