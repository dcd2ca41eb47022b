"""From the markdown of the book to markdown that every notebook viewer shows.

The book's pages are written in MyST: directives (fenced blocks with a name in braces) and roles
(a name in braces before a code span).  A notebook that is handed out is read in JupyterLab, Colab
and elsewhere, which know neither.  A directive or a role that is not known here is an error:
nothing is handed out half translated.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coursework.errors import CourseworkError

__all__ = ["Block", "MystError", "References", "blocks", "bodies", "plain"]

_FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<argument>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$",
    re.S | re.M,
)
_OPTION = re.compile(r":([\w-]+):[ \t]*(.*)")
_ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
_LINK = re.compile(r"(!?)\[([^\]\n]*)\]\((?!https?://|data:|mailto:)([^)\s]+)\)")
_LABELLED = re.compile(r"^(?P<indent> *)\$\$ \((?P<label>[\w:-]+)\)", re.M)
_CALLOUTS = ("note", "tip", "warning", "important", "hint", "caution", "attention", "seealso")
_WORDS = ("term", "abbr", "math", "code")  # roles that show what stands in them
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303"}
_ACCENTS |= {"c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328"}
_LETTERS = {r"\l": "ł", r"\L": "Ł", r"\o": "ø", r"\O": "Ø", r"\aa": "å", r"\AA": "Å", r"\ss": "ß"}


class MystError(CourseworkError):
    """Something in a page has no plain form; the text says what and where."""


@dataclass(frozen=True)
class Block:
    """A directive of a page.

    Attributes
    ----------
    name, argument, body
        ``exercise``, the rest of its first line, and what is inside.
    options
        The lines ``:key: value`` at its head.
    """

    name: str
    argument: str
    body: str
    options: Mapping[str, str]


def _block(match: re.Match) -> Block:
    options, lines = {}, match["body"].split("\n")
    while lines and (option := _OPTION.fullmatch(lines[0].strip())):
        options[option[1]] = option[2].strip()
        lines.pop(0)
    return Block(match["name"], match["argument"].strip(), "\n".join(lines).strip("\n"), options)


def blocks(text: str) -> list[Block]:
    """The directives of a markdown cell, in order, without those inside others."""
    return [_block(match) for match in _FENCE.finditer(text)]


def bodies(text: str, *names: str) -> list[str]:
    """What stands inside the directives with these names."""
    return [block.body for block in blocks(text) if block.name in names]


@dataclass
class References:
    """What labels, pages and keys stand for.

    Attributes
    ----------
    labels
        Label to words: ``Theorem (Picard's criterion)``.
    equations
        Labels of equations, and the title of the page where each stands.
    papers
        Key to words: ``Burger and Kabri (2023)``.
    """

    labels: dict[str, str] = field(default_factory=dict)
    equations: dict[str, str] = field(default_factory=dict)
    papers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, *roots: Path) -> References:
        """Those of all pages in some folders; ``references.bib`` lies beside the folder."""
        found = cls()
        for root in roots:
            for page in sorted(root.rglob("*.ipynb")):
                if ".ipynb_checkpoints" not in page.parts:
                    found._read(page)
            bibliography = root.parent / "references.bib"
            if bibliography.is_file():
                found.papers |= _papers(bibliography.read_text(encoding="utf-8"))
        return found

    def _read(self, page: Path) -> None:
        cells = json.loads(page.read_text(encoding="utf-8")).get("cells", [])
        title = page.stem
        for cell in cells:
            text = "".join(cell["source"])
            if cell["cell_type"] != "markdown":
                figure = cell["metadata"].get("mystnb", {}).get("figure", {})
                if "name" in figure:
                    self.labels[figure["name"]] = f"a figure of “{title}”"
                continue
            if heading := re.match(r"# +(.+)", text):
                title = heading[1].strip()
            self.equations |= {match["label"]: title for match in _LABELLED.finditer(text)}
            for block in blocks(text):
                label = block.options.get("label", "")
                kind = block.name.removeprefix("prf:").capitalize()
                if block.name == "math" and label:
                    self.equations[label] = title
                elif label:
                    self.labels[label] = f"{kind} ({block.argument})" if block.argument else kind


def _papers(bibliography: str) -> dict[str, str]:
    found = {}
    for entry in re.split(r"^@", bibliography, flags=re.M)[1:]:
        key = re.match(r"\w+\s*\{\s*([^,\s]+)", entry)
        names = re.search(r"\b(?:author|editor)\s*=\s*\{(.*)\}", entry)
        year = re.search(r"\byear\s*=\s*\{?(\d{4})", entry)
        if key:
            who = _family_names(names[1]) if names else key[1]
            found[key[1]] = f"{who} ({year[1]})" if year else who
    return found


def _family_names(authors: str) -> str:
    people = [_untex(name) for name in re.split(r"\s+and\s+", authors)]
    families = [name.split(",")[0] if "," in name else name.split()[-1] for name in people]
    if len(families) > 2 or families[-1] == "others":
        return f"{families[0]} et al."
    return " and ".join(families)


def _untex(text: str) -> str:
    for command, letter in _LETTERS.items():
        text = re.sub(re.escape(command) + r"(?![A-Za-z])\s*", letter, text)
    text = re.sub(
        r"\\([\"'`^~cvuHk])\s*\{?([A-Za-z])\}?",
        lambda match: unicodedata.normalize("NFC", match[2] + _ACCENTS[match[1]]),
        text,
    )
    return text.replace("{", "").replace("}", "").strip()


def plain(text: str, references: References, numbers: Mapping[str, int], folder: Path) -> str:
    """Markdown without directives and roles.

    Parameters
    ----------
    text
        Markdown of the book.
    references
        What labels stand for.
    numbers
        The exercises of the set and their numbers.
    folder
        Where the page lies: figures and documents are named from there.

    Raises
    ------
    MystError
        At the first directive, role or label that has no plain form.
    """
    return _Translation(references, numbers, folder)(text)


class _Translation:
    def __init__(self, references: References, numbers: Mapping[str, int], folder: Path) -> None:
        self.references, self.numbers, self.folder = references, numbers, folder
        self.tags: dict[str, int] = {}  # equations of this very text

    def __call__(self, text: str) -> str:
        labels = [match["label"] for match in _LABELLED.finditer(text)]
        labels += [b.options["label"] for b in blocks(text) if "label" in b.options]
        self.tags |= {label: number for number, label in enumerate(labels, len(self.tags) + 1)}
        return self.translated(text)

    def translated(self, text: str) -> str:
        parts, end = [], 0
        for match in _FENCE.finditer(text):
            parts += [self.prose(text[end : match.start()]), self.directive(_block(match))]
            end = match.end()
        return "".join([*parts, self.prose(text[end:])]).strip("\n")

    def directive(self, block: Block) -> str:
        if block.name in ("admonition", *_CALLOUTS):
            title = block.argument if block.name == "admonition" else block.name.capitalize()
            inner = block.body if block.name == "admonition" else f"{block.argument}\n{block.body}"
            return _quoted(f"**{self.translated(title)}**\n\n{self.translated(inner)}")
        if block.name == "math":
            label = block.options.get("label")
            tag = f"\\tag{{{self.tags[label]}}}" if label else ""
            return f"$$\n{block.argument}\n{block.body}{tag}\n$$".replace("$$\n\n", "$$\n")
        if block.name in ("code-block", "code", "sourcecode"):
            return f"```{block.argument}\n{block.body}\n```"
        if block.name in ("figure", "image"):
            return self.picture(block)
        if block.name == "table":
            return f"**{self.translated(block.argument)}**\n\n{self.translated(block.body)}"
        raise MystError(f"The directive {{{block.name}}} has no plain form.")

    def picture(self, block: Block) -> str:
        file = self.folder / block.argument
        kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg+xml"}.get(file.suffix)
        if kind is None or not file.is_file():
            raise MystError(f"The figure {block.argument!r} is missing, or is no PNG, JPEG or SVG.")
        data = base64.b64encode(file.read_bytes()).decode()
        alt = block.options.get("alt", "").replace("]", "")
        return f"![{alt}](data:image/{kind};base64,{data})\n\n{self.translated(block.body)}"

    def prose(self, text: str) -> str:
        text = re.sub(r"^(%.*|\([\w:-]+\)=|\+\+\+.*)\n?", "", text, flags=re.M)
        parts = re.split(r"(^ *```.*?^ *```[ ]*$)", text, flags=re.S | re.M)  # code stays as it is
        parts[::2] = [self.words(part) for part in parts[::2]]
        return "".join(parts)

    def words(self, text: str) -> str:
        text = _ROLE.sub(lambda match: self.role(match[1], match[2]), text)
        text = _LINK.sub(self.link, text)
        # The number of a labelled formula stands before its closing dollars.
        return _LABELLED.sub(
            lambda match: (
                f"{match['indent']}\\tag{{{self.tags[match['label']]}}}\n{match['indent']}$$"
            ),
            text,
        )

    def link(self, match: re.Match) -> str:
        if match[1]:
            raise MystError(f"The picture {match[3]!r} should be a {{figure}}.")
        return match[2] or self.label(match[3].lstrip("#"), "")

    def role(self, name: str, content: str) -> str:
        explicit = re.fullmatch(r"(.*?)\s*<([^<>]+)>", content, re.S)
        words, target = (explicit[1], explicit[2]) if explicit else ("", content.strip())
        if name in ("prf:ref", "ref", "numref"):
            return self.label(target, words)
        if name == "eq":
            return self.equation(target)
        if name == "doc":
            return words or f"*{self.document(target)}*"
        if name in ("cite", "cite:p", "cite:t"):
            return ", ".join(self.paper(key.strip()) for key in target.split(","))
        if name in _WORDS:
            shown = {"math": f"${content}$", "code": f"`{content}`", "abbr": content}
            return shown.get(name, words or target)
        if name.startswith("glue"):
            raise MystError(f"{content!r} is measured: it cannot stand in a statement or a hint.")
        raise MystError(f"The role {{{name}}} has no plain form (at {content!r}).")

    def label(self, label: str, words: str) -> str:
        if label in self.numbers:
            number = str(self.numbers[label])
            return (words or "Exercise %s").replace("%s", number).replace("{number}", number)
        if words and "%s" not in words and "{number}" not in words:
            return words
        if label in self.references.labels:
            return self.references.labels[label]
        raise MystError(f"Nothing has the label {label!r}.")

    def equation(self, label: str) -> str:
        if label in self.tags:
            return f"({self.tags[label]})"
        if label in self.references.equations:
            return f"the formula `{label}` of “{self.references.equations[label]}”"
        raise MystError(f"No formula has the label {label!r}.")

    def paper(self, key: str) -> str:
        if key not in self.references.papers:
            raise MystError(f"references.bib has no {key!r}.")
        return self.references.papers[key]

    def document(self, target: str) -> str:
        for suffix in (".ipynb", ".md"):
            page = (self.folder / target).with_suffix(suffix)
            if page.is_file():
                text = page.read_text(encoding="utf-8")
                if suffix == ".ipynb":
                    text = "".join(json.loads(text)["cells"][0]["source"])
                if heading := re.search(r"^# +(.+)", text, re.M):
                    return heading[1].strip()
        raise MystError(f"There is no page {target!r}.")


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
