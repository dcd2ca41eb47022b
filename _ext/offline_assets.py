"""Make the built site self-contained and light, and fail the build where it is not.

Jupyter Book adds a ``<script>`` or ``<link>`` to every page for *every* .js and .css file below
``_static``, so MathJax cannot live there: it is copied after the build, from the wheel of
sphinx-mathjax-offline.  FontAwesome, 0.7 MB of icons on every page, is reduced to the icons that
the pages use.  At last every page is searched for loads from other hosts.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import logging
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# A page loads tex-svg.js.  The rest is loaded on demand, by rare TeX commands and by the menu of
# a formula (speech, another renderer): what the menu offers must be there.
MATHJAX = (
    "tex-svg.js",
    "a11y",
    "input/tex/extensions",
    "output/chtml.js",
    "output/chtml/fonts",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
)
_ICON = re.compile(  # one row of fontawesome.js: name:[width,height,[aliases],"code",path or paths]
    r'(?:"(?P<quoted>[a-z0-9-]+)"|(?P<plain>[a-z0-9]+)):'
    r'\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?'
)
_ICON_CLASS = re.compile(r"\bfa-([a-z0-9-]+)")
_ICON_RULE = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"([^"]*)"\}')
_GLYPH = re.compile(r'(?:--pst-icon-[a-z-]+|content):\s*"(?:\\(f[0-9a-f]{3})|([\uf000-\uf8ff]))"')
_FONT_FACE = re.compile(r"@font-face\{[^}]*?/webfonts/(fa-[a-z]+-\d+)\.woff2[^}]*\}")
_SOURCE_MAP = re.compile(r"\n?(?://# sourceMappingURL=\S+|/\*# sourceMappingURL=[^*]+\*/)\s*$")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ExtensionError(f"the Python package {name} is not installed: run `make book`")
    return Path(spec.origin).parent


# ---------------------------------------------------------------- MathJax


def copy_mathjax(site: Path) -> None:
    """Copy what MathJax needs to draw SVG to ``_static/vendor/mathjax``."""
    source = _package("sphinx-mathjax-offline") / "static" / "mathjax"
    for name in MATHJAX:
        target = site / "_static" / "vendor" / "mathjax" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source / name, target)


# ---------------------------------------------------------------- icons


def icons_used(site: Path) -> set[str]:
    """Names that follow ``fa-`` anywhere in the pages and their scripts."""
    files = [*site.rglob("*.html"), *(site / "_static").glob("*.js")]
    files += [p for p in (site / "_static" / "scripts").glob("*.js") if p.stem != "fontawesome"]
    return {n for p in files for n in _ICON_CLASS.findall(p.read_text("utf8", errors="replace"))}


def subset_icon_script(text: str, used: set[str]) -> str:
    """Drop from fontawesome.js every icon that no page names."""

    def keep(row: re.Match[str]) -> str:
        names = {row["quoted"] or row["plain"], *re.findall(r'"([a-z0-9-]+)"', row["aliases"])}
        return row[0] if names & used else ""

    smaller, rows = _ICON.subn(keep, text)
    if rows < 1000:
        raise ExtensionError(f"fontawesome.js has another form: {rows} icons were recognised")
    return smaller


def subset_icon_styles(text: str, fonts: Path, used: set[str], glyphs: set[str]) -> str:
    """Drop the style rules of unused icons; put the few glyphs that are left into the style sheet.

    ``glyphs`` are the characters that other style sheets show.
    """

    def keep(rule: re.Match[str]) -> str:
        if not {*_ICON_CLASS.findall(rule[1])} & used:
            return ""
        glyphs.update(_character(rule[2]))
        return rule[0]

    text = _ICON_RULE.sub(keep, text)
    glyphs |= glyphs_shown(text)

    def embed(face: re.Match[str]) -> str:
        data = _font_with(fonts / f"{face[1]}.ttf", glyphs)
        url = f'url("data:font/woff;base64,{base64.b64encode(data).decode()}") format("woff")'
        return re.sub(r"src:[^}]*", f"src:{url}", face[0]) if data else ""

    text, faces = _FONT_FACE.subn(embed, text)
    if faces != 3:
        raise ExtensionError(f"the theme's style sheet has another form: {faces} icon fonts in it")
    return text


def glyphs_shown(css: str) -> set[str]:
    """Icon characters that a style sheet writes before or after an element."""
    return {char or chr(int(code, 16)) for code, char in _GLYPH.findall(css)}


def _character(content: str) -> str:
    code = re.fullmatch(r"\\([0-9a-f]+) ?", content)
    return chr(int(code[1], 16)) if code else content


def _font_with(path: Path, characters: set[str]) -> bytes:
    """The part of a font that shows these characters, as WOFF; nothing if it has none of them."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    font = TTFont(path, recalcTimestamp=False)
    wanted = {ord(c) for c in characters} & set(font.getBestCmap())
    if not wanted:
        return b""
    subsetter = Subsetter(Options(flavor="woff", notdef_outline=True, glyph_names=False))
    subsetter.populate(unicodes=wanted)
    subsetter.subset(font)
    font.flavor = "woff"  # WOFF2 would need one more package
    font.save(buffer := io.BytesIO())
    return buffer.getvalue()


def lighten(site: Path) -> None:
    """Reduce the theme's icons to those in use, and drop source maps."""
    theme = _package("pydata_sphinx_theme") / "theme" / "pydata_sphinx_theme" / "static"
    static = site / "_static"
    used = icons_used(site)
    script = (theme / "scripts" / "fontawesome.js").read_text("utf8")
    (static / "scripts" / "fontawesome.js").write_text(subset_icon_script(script, used), "utf8")
    own = Path("styles") / "pydata-sphinx-theme.css"
    others = [p for p in static.rglob("*.css") if p != static / own]
    glyphs = {g for p in others for g in glyphs_shown(p.read_text("utf8"))}
    fonts = theme / "vendor" / "fontawesome" / "webfonts"
    styles = subset_icon_styles((theme / own).read_text("utf8"), fonts, used, glyphs)
    (static / own).write_text(styles, "utf8")
    shutil.rmtree(static / "vendor" / "fontawesome", ignore_errors=True)
    for path in static.rglob("*.map"):
        path.unlink()
    for path in (*static.glob("scripts/*.js"), *static.glob("styles/*.css")):
        path.write_text(_SOURCE_MAP.sub("\n", path.read_text("utf8")), "utf8")


# ---------------------------------------------------------------- other hosts


class _Loads(HTMLParser):
    """Collect the addresses that a page loads by itself (links to follow are no loads)."""

    BY_TAG: ClassVar = {"object": ("data",), "video": ("src", "poster"), "link": ("href",)}
    LOAD_NOTHING: ClassVar = {"canonical", "alternate", "author", "license", "next", "prev", "up"}

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {k: v or "" for k, v in attrs}
        self.in_style = tag == "style"
        rel = set(values.get("rel", "").split())
        if tag != "link" or not rel & self.LOAD_NOTHING:
            self.found += [values.get(name, "") for name in self.BY_TAG.get(tag, ("src",))]
        self.found += [part.split()[0] for part in values.get("srcset", "").split(",") if part]
        if tag in ("image", "use", "feImage"):  # inside SVG
            self.found += [values.get("href", ""), values.get("xlink:href", "")]
        self.found += loads_of_css(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.found += loads_of_css(data)

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False


def loads_of_css(css: str) -> list[str]:
    """Addresses in ``url(...)`` and ``@import``."""
    return [
        a or b for a, b in re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", css)
    ]


def foreign_loads(site: Path) -> list[str]:
    """One line, ``page loads address``, for every load from another host."""
    problems = []
    for path in sorted((*site.rglob("*.html"), *site.rglob("*.css"))):
        text = path.read_text("utf8", errors="replace")
        if path.suffix == ".html":
            (page := _Loads()).feed(text)
            found = page.found
        else:
            found = loads_of_css(text)
        remote = {u for u in found if re.match(r"\s*(?:[a-z]+:)?//", u, re.IGNORECASE)}
        problems += [f"{path.relative_to(site)} loads {url}" for url in sorted(remote)]
    return problems


# ---------------------------------------------------------------- accessibility


_ARROW = re.compile(
    r'(<a class="[^"]*reference internal" [^>]*>)(.*?)(</a><details[^>]*><summary)>'
)


def repair_markup(site: Path) -> None:
    """Mend what theme and docutils get wrong for screen readers.

    The arrows in the table of contents have no name; the items of the bibliography, inside a
    ``role="list"``, have a role that is deprecated and no list item.
    """

    def name(found: re.Match[str]) -> str:
        title = re.sub(r"<[^>]*>", "", found[2]).replace('"', "&quot;")
        return f'{found[1]}{found[2]}{found[3]} aria-label="Pages of {title}">'

    for path in site.rglob("*.html"):
        text = _ARROW.sub(name, path.read_text("utf8"))
        path.write_text(text.replace('role="doc-biblioentry"', 'role="listitem"'), "utf8")


# ---------------------------------------------------------------- Sphinx


def drop_repeated_ids(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """The inside of every statement and exercise comes with the same id; an id is unique."""
    repeated = {"proof", "proof-content", "exercise-content", "solution-content"}
    for node in doctree.findall(nodes.Element):
        if repeated & set(node.get("ids", ())):
            node["ids"] = []


def finish(app: Sphinx, error: Exception | None) -> None:
    """Complete the site after the pages are written; raise if a page asks another host."""
    if error is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    copy_mathjax(site)
    lighten(site)
    repair_markup(site)
    if problems := foreign_loads(site):
        raise ExtensionError("the site is not self-contained: " + "; ".join(problems))


def setup(app: Sphinx) -> dict[str, object]:
    """Register the hooks; figures learn that no kernel will stand behind the page."""
    os.environ["ADVREG_STATIC"] = "1"
    app.connect("doctree-resolved", drop_repeated_ids)
    app.connect("build-finished", finish, priority=900)  # after the extensions' own files
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
