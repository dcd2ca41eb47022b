"""Pages that are generated from the book's own tables: the claims ledger and the notation.

``{claims}`` lists the ledger rows of the statements on its page (``:all:`` lists every row and
checks the whole ledger); ``{answer}`` lays out the answer of the book, each row with the ledger's
statements that prove it; ``{notation}`` lists the symbols, from the table that also feeds MathJax;
``{inline-svg} file`` puts a drawing into the page, so that its ink follows the theme.
"""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from advreg import claims as ledger

logger = logging.getLogger(__name__)


class Claims(SphinxDirective):
    """Ledger rows with what their witnesses measured in the last run."""

    option_spec: ClassVar = {"all": directives.flag}

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        table, results_file = root / "claims.toml", root / "_build" / "claims.json"
        for path in (table, results_file):
            self.env.note_dependency(str(path))
        rows, results = ledger.load(table), ledger.read_results(results_file)
        if "all" in self.options:
            pages = [Path(self.env.doc2path(name)) for name in sorted(self.env.found_docs)]
            problems = ledger.find_problems(rows, pages, root)
        else:
            page = ledger.page_text(Path(self.env.doc2path(self.env.docname)))
            labels = ledger.labels_in(page)
            rows, problems = [c for c in rows if c.label in labels], []
        for problem in problems + ledger.missing_results(rows, results):
            logger.warning(problem, location=self.get_location(), type="claims")
        if not rows:
            logger.warning("no claims on this page", location=self.get_location(), type="claims")
            return []
        lines = ["```{list-table}", ":header-rows: 1", ":class: claims", ":widths: 36 20 44", ""]
        lines += table_row("Claim", "Status and source", "Witness, and what it measured")
        for c in rows:
            margins = _tightest(results.get(c.label, {}).get("comparisons", []))
            lines += table_row(
                f"{{prf:ref}}`{c.label}`: {c.statement}",
                f"**{c.kind}**: {c.provenance}",
                f"`{c.witness.partition('::')[2]}`: {margins}",
            )
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))


def _tightest(checks: list[dict], shown: int = 2) -> str:
    """How many comparisons a witness made, and those that used most of their allowance."""
    by_use = sorted(checks, key=lambda c: 0.0 if math.isnan(c["used"]) else -c["used"])
    head = "; ".join(ledger.describe(check) for check in by_use[:shown])
    return head if len(checks) <= shown else f"{len(checks)} comparisons, the tightest: {head}"


def table_row(*cells: str) -> list[str]:
    """One row of a list-table in Markdown."""
    return [f"{'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(cells)]


class Answer(SphinxDirective):
    """The answer of the book: the rows of ``answer.toml``, each with the statements behind it."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        table, rows = root / "answer.toml", ledger.load(root / "claims.toml")
        for path in (table, root / "claims.toml"):
            self.env.note_dependency(str(path))
        answer = tomllib.loads(table.read_text(encoding="utf8"))
        problems = ledger.answer_problems(answer, rows)
        for problem in problems:
            logger.warning(problem, location=self.get_location(), type="claims")
        if problems:
            return []
        claims = {c.label: c for c in rows}
        lines: list[str] = []
        for group in answer["group"]:
            lines += [f"## {group['title']}", "", group["intro"], "", "```{list-table}"]
            lines += [":header-rows: 1", ":class: claims answer", ":widths: 27 25 30 18", ""]
            lines += table_row("Model and loss", "Adversary", "Is it regularization?", "Because")
            for row in group["row"]:
                because = "; ".join(_because(claims[label]) for label in row["because"])
                verdict = f"**{answer['verdict'][row['verdict']]}.** {row['answer']}"
                lines += table_row(row["model"], row["adversary"], verdict, because)
            lines += ["```", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _because(claim: ledger.Claim) -> str:
    """A link to a statement; what is measured or conjectured says so."""
    return f"{{prf:ref}}`{claim.label}`" + ("" if claim.kind == "theorem" else f" ({claim.kind})")


class Notation(SphinxDirective):
    """The table of symbols."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "notation.toml"
        self.env.note_dependency(str(path))
        lines = ["```{list-table}", ":header-rows: 1", ":widths: 25 55 20", ""]
        lines += table_row("Symbol", "Meaning", "Chapters")
        for symbol in _symbols(path):
            lines += table_row(f"${symbol['show']}$", symbol["meaning"], symbol["chapters"])
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))


class InlineSvg(SphinxDirective):
    """A drawing from the repository as inline SVG with a text alternative."""

    required_arguments = 1
    option_spec: ClassVar = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        alt = self.options.get("alt", "").strip()
        if not path.is_file() or len(alt) < 20:
            raise self.error(f"{self.arguments[0]}: no such file, or no :alt: that describes it")
        svg = re.sub(r"<style>.*?</style>|<\?xml.*?\?>", "", path.read_text("utf8"), flags=re.S)
        label = nodes.unescape(alt).replace("&", "&amp;").replace('"', "&quot;")
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        html = f'<figure class="advreg-figure">{svg.strip()}</figure>'
        return [nodes.raw("", html, format="html")]


def _symbols(path: Path) -> list[dict[str, str]]:
    return tomllib.loads(path.read_text(encoding="utf8"))["symbol"]


def feed_mathjax(app: Sphinx, config: Config) -> None:
    """Give MathJax the macros of the notation table, so that they are written once."""
    path = Path(app.srcdir) / "notation.toml"
    if not path.is_file():
        return
    macros = {
        s["macro"]: [s["tex"], s["args"]] if s.get("args") else s["tex"]
        for s in _symbols(path)
        if "macro" in s
    }
    mathjax = dict(config.mathjax3_config or {})
    mathjax["tex"] = {**mathjax.get("tex", {}), "macros": macros}
    config.mathjax3_config = mathjax


_LABEL = re.compile(
    r"(?:(?:Theorem|Proposition|Lemma|Corollary|Definition|Observation|Remark)s? )?"
    r"``((?:thm|prop|lem|cor|def|obs|rem)-[a-z0-9-]+)``"
)


def adapt_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Let docstrings be written for those who read them in Python.

    ``Theorem ``thm-picard`` `` becomes a link to that theorem.  In plain formulas such as ``|x|``
    and ``(..., *shape)`` a bar and a star would start markup; both are escaped.
    """
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``|`[^`]*`)", _LABEL.sub(r":prf:ref:`\1`", line))
        parts[::2] = [re.sub(r"\||(?<=, )\*", r"\\\g<0>", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directives and the macro table."""
    app.add_directive("claims", Claims)
    app.add_directive("answer", Answer)
    app.add_directive("notation", Notation)
    app.add_directive("inline-svg", InlineSvg)
    app.connect("config-inited", feed_mathjax)
    app.connect("autodoc-process-docstring", adapt_docstring, priority=900)  # after napoleon
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
