"""A broken book must not build, and must say why.

Each test breaks a sound miniature in one place and builds it with the book's own settings
(``_config.yml``) and the command of the Makefile.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINI = Path(__file__).parent / "mini"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def flags_of_the_makefile() -> list[str]:
    """What follows ``jupyter-book build .`` in the rule of the site."""
    rule = re.search(r"jupyter-book build \.(.*)", (ROOT / "Makefile").read_text("utf8"))
    assert rule, "the Makefile builds no book"
    return shlex.split(rule[1])


def build(book: Path) -> tuple[int, str]:
    """Exit code and log of a build with the book's settings."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "jupyter-book"), "build", "."),
            *("--config", str(ROOT / "_config.yml"), *flags_of_the_makefile()),
        ],
        cwd=book,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, COLOURS.sub("", done.stdout + done.stderr)


def warnings_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL):", line)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature, built once; the others start from its execution cache."""
    book = tmp_path_factory.mktemp("sound")
    shutil.copytree(MINI, book, dirs_exist_ok=True)
    shutil.copytree(ROOT / "_static", book / "_static")
    code, log = build(book)
    assert code == 0, log
    assert warnings_in(log) == []
    return book


@pytest.fixture
def book(sound: Path, tmp_path: Path) -> Path:
    """A fresh copy of the sound miniature that has run its cell, but built no page."""
    only_cache = shutil.ignore_patterns("html", ".doctrees", "jupyter_execute")
    return Path(shutil.copytree(sound, tmp_path / "book", ignore=only_cache))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf8")
    assert text.count(old) == 1, f"{old!r} is not in {path.name} once"
    path.write_text(text.replace(old, new), "utf8")


def test_the_sound_miniature_builds(sound: Path) -> None:
    """The control: with nothing broken there is a site, without a warning."""
    site = sound / "_build" / "html"
    page = (site / "statements.html").read_text("utf8")
    assert "Definition 1.1" in page  # one counter for all statements, by chapter
    assert "Theorem 1.2" in page
    assert (site / "_static/vendor/mathjax/tex-svg.js").is_file()
    assert "<span" in (site / "cells.html").read_text("utf8")


def test_a_cell_that_raises(book: Path) -> None:
    edit(book / "cells.md", "print(1 + 1)", 'raise ValueError("on purpose")')
    code, log = build(book)
    assert code != 0
    assert "ValueError: on purpose" in log
    assert "cells" in log


def test_a_cell_that_writes_to_stderr(book: Path) -> None:
    edit(book / "cells.md", "print(1 + 1)", 'import sys\nprint("oh", file=sys.stderr)')
    code, log = build(book)
    assert code != 0
    (warning,) = warnings_in(log)
    assert re.search(r"cells\.md.*stderr was found in the cell outputs", warning)


REFERENCES = {  # the reference -> what the log says of it
    "{prf:ref}`thm-none`": "label 'thm-none' not found",
    "{eq}`eq-none`": "equation not found: eq-none",
    "{numref}`fig-none`": "undefined label: 'fig-none'",
    "{ref}`sec-none`": "undefined label: 'sec-none'",
    "{term}`no such term`": "term not in glossary: 'no such term'",
    "[text](none.md)": "'none.md'",
}


def test_references_that_lead_nowhere(book: Path) -> None:
    edit(book / "statements.md", "The {term}`gain` is finite.", "\n\n".join(REFERENCES))
    code, log = build(book)
    assert code != 0
    warnings = "\n".join(warnings_in(log))
    for reference, message in REFERENCES.items():
        assert message in warnings, f"nothing is said of {reference}"


def test_a_page_that_is_missing(book: Path) -> None:
    edit(book / "_toc.yml", "file: cells", "file: cells\n      - file: forgotten")
    code, log = build(book)
    assert code != 0
    (warning,) = warnings_in(log)
    assert "nonexisting document" in warning and "'forgotten'" in warning


def test_a_citation_without_an_entry(book: Path) -> None:
    edit(book / "index.md", "{cite}`engl1996`", "{cite}`nobody2000` after {cite}`engl1996`")
    code, log = build(book)
    assert code != 0
    (warning,) = warnings_in(log)
    assert "could not find bibtex key" in warning and "nobody2000" in warning


def test_a_label_used_twice(book: Path) -> None:
    again = "\n```{prf:theorem}\n:label: thm-bound\n\nAgain.\n```\n"
    (book / "cells.md").write_text((book / "cells.md").read_text("utf8") + again, "utf8")
    code, log = build(book)
    assert code != 0
    (warning,) = warnings_in(log)
    assert "duplicate theorem label 'thm-bound'" in warning


LEDGER = """[[claim]]
label = "{label}"
chapter = 1
statement = "the gain is bounded"
kind = "theorem"
provenance = "proof in the text"
witness = "tests/test_gain.py::test_bound"
"""


def test_a_statement_that_the_ledger_does_not_hold(book: Path) -> None:
    edit(book / "statements.md", "The {term}`gain` is finite.", "```{claims}\n:all:\n```")
    (book / "claims.toml").write_text(LEDGER.format(label="thm-bound"), "utf8")
    code, log = build(book)
    assert code != 0  # there is a row, but no such test, and nothing was recorded
    first, second = warnings_in(log)
    assert "the witness of thm-bound, tests/test_gain.py::test_bound, does not exist" in first
    assert "thm-bound: its witness recorded nothing" in second


def test_a_page_that_asks_another_host(book: Path) -> None:
    image = '<img src="https://example.org/plot.png" alt="a plot from elsewhere">'
    edit(book / "index.md", "It has what", f"{image}\n\nIt has what")
    code, log = build(book)
    assert code != 0
    assert warnings_in(log) == []
    assert "not self-contained: index.html loads https://example.org/plot.png" in log


REMOTE = "https://example.org/x"


@pytest.mark.parametrize(
    "markup",
    [
        f'<script src="{REMOTE}"></script>',
        f'<script src="{REMOTE[6:]}"></script>',
        f'<link rel="stylesheet" href="{REMOTE}">',
        f'<link rel="preconnect" href="{REMOTE}">',
        f'<img srcset="a.png 1x, {REMOTE} 2x">',
        f'<iframe src="{REMOTE}"></iframe>',
        f'<video poster="{REMOTE}"></video>',
        f'<object data="{REMOTE}"></object>',
        f'<p style="background: url({REMOTE})"></p>',
        f'<style>@import "{REMOTE}";</style>',
        f'<svg><image href="{REMOTE}"/></svg>',
    ],
)
def test_every_kind_of_load_is_seen(
    tmp_path: Path, markup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "_ext")
    import offline_assets

    (tmp_path / "page.html").write_text(f"<html><body>{markup}</body></html>", "utf8")
    (found,) = offline_assets.foreign_loads(tmp_path)
    assert found.startswith("page.html loads") and "example.org/x" in found


def test_links_are_no_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "_ext")
    import offline_assets

    markup = f'<a href="{REMOTE}">x</a><link rel="canonical" href="{REMOTE}"><img src="x.png">'
    (tmp_path / "page.html").write_text(markup, "utf8")
    (tmp_path / "page.css").write_text("p { background: url(data:image/png;base64,AA) }", "utf8")
    assert offline_assets.foreign_loads(tmp_path) == []
