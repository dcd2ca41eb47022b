"""A graded set in a book: its release is the page, and no secret is in anything that is served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import small_chapter

from coursework.release import write
from coursework.sets import find

CONFIG = """\
title: A course
author: Nobody
only_build_toc_files: true
execute: {execute_notebooks: "off"}
repository: {url: "https://github.com/nobody/course"}
"""
TOC = """\
format: jb-book
root: index
chapters:
  - file: ch42
"""


def site(folder: Path) -> dict[str, str]:
    """Build the book in a folder: every text file of the site, its search index included."""
    (folder / "_config.yml").write_text(CONFIG)
    (folder / "_toc.yml").write_text(TOC)
    (folder / "index.md").write_text("# A course\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("jupyter-book")), "build", str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    html = folder / "_build" / "html"
    assert done.returncode == 0 and (html / "ch42.html").is_file(), done.stderr[-2000:]
    kinds = {".html", ".js", ".txt", ".md", ".ipynb", ".json", ".inv"}
    return {
        str(path.relative_to(html)): path.read_text(encoding="utf-8", errors="replace")
        for path in html.rglob("*")
        if path.is_file() and path.suffix in kinds
    }


def test_nothing_planted_is_served(tmp_path):
    small_chapter.make(tmp_path / "chapters")
    book = tmp_path / "book"
    write(find("ch42", tmp_path / "chapters"), book)
    served = site(book)
    assert "searchindex.js" in served and "_sources/ch42.ipynb" in served
    assert "The mean" in served["ch42.html"]  # it is the page of the set, and not an empty one
    assert [name for name, text in served.items() if "PLANTED" in text] == []


def test_the_planted_lines_would_be_found(tmp_path):
    """The source itself in the book is what the test above is there to notice."""
    folder = small_chapter.make(tmp_path / "chapters")
    book = tmp_path / "book"
    book.mkdir()
    (book / "ch42.ipynb").write_bytes((folder / "exercises.ipynb").read_bytes())
    found = [name for name, text in site(book).items() if "PLANTED" in text]
    assert {"ch42.html", "_sources/ch42.ipynb"} <= set(found)
