"""Read the built pages without a browser: no other host, and no link that leads nowhere."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

pytestmark = pytest.mark.site

REMOTE = re.compile(r"^\s*([a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
# Attributes that hold an address but load nothing.
NAVIGATION = {("a", "href"), ("form", "action"), ("meta", "content"), ("svg", "xmlns")}
NAVIGATION |= {(tag, name) for tag in ("svg", "use", "image") for name in ("xmlns:xlink", "xmlns")}


@cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf8"), "html.parser")


@cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(t["id"] for t in parsed(path).find_all(id=True))


def css_addresses(css: str) -> list[str]:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return re.findall(r"""url\(\s*["']?([^"')\s]+)|@import\s+["']([^"']+)""", css)


def test_no_page_names_another_host(site: Path, address: str) -> None:
    """Of all attributes only links hold the address of another host."""
    found = [
        f"<{tag.name} {name}={value}>"
        for tag in parsed(site / address).find_all(True)
        for name, values in tag.attrs.items()
        for value in (values if isinstance(values, list) else [values])
        if REMOTE.match(value) and (tag.name, name) not in NAVIGATION
    ]
    styles = [t.get_text() for t in parsed(site / address).find_all("style")]
    styles += [t["style"] for t in parsed(site / address).find_all(style=True)]
    found += [u for css in styles for pair in css_addresses(css) for u in pair if REMOTE.match(u)]
    assert found == []


def test_no_style_sheet_names_another_host(site: Path) -> None:
    """Nor do the style sheets; what they name on this site is there."""
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        for url in filter(None, sum(css_addresses(sheet.read_text("utf8")), ())):
            if url.startswith(("data:", "#")):
                continue
            assert not REMOTE.match(url), f"{sheet.name}: {url}"
            assert (sheet.parent / unquote(urlsplit(url).path)).is_file(), f"{sheet.name}: {url}"


def test_the_icon_font_holds_every_icon(site: Path) -> None:
    """Style sheets write icons as characters; the small font inside the theme's has them all."""
    from fontTools.ttLib import TTFont

    sheets = "".join(p.read_text("utf8") for p in site.rglob("*.css"))
    written = {ord(c) for c in re.findall("[\ue000-\uf8ff]", sheets)}
    written |= {
        int(code, 16) for code in re.findall(r"""content:\s*["']\\(f[0-9a-f]{3})\b""", sheets)
    }
    fonts = re.findall(r"data:font/woff;base64,([A-Za-z0-9+/=]+)", sheets)
    held = {c for f in fonts for c in TTFont(io.BytesIO(base64.b64decode(f))).getBestCmap()}
    assert len(written) > 20
    assert {hex(c) for c in written - held} == set()


def test_links_lead_somewhere(site: Path, address: str) -> None:
    """Every link and every loaded file on this site exists, with its anchor."""
    page = site / address
    lost = []
    for tag in parsed(page).find_all(True):
        for url in filter(None, (tag.get("href"), tag.get("src"))):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file():
                lost.append(url)
            elif parts.fragment and unquote(parts.fragment) not in anchors(target):
                lost.append(url)
    assert sorted(set(lost)) == []


def test_ids_are_unique(site: Path, address: str) -> None:
    """An id names one element, or links and labels meet the wrong one."""
    ids = [t["id"] for t in parsed(site / address).find_all(id=True)]
    assert sorted({i for i in ids if ids.count(i) > 1}) == []


def test_notebooks_can_be_downloaded(site: Path, address: str) -> None:
    """A page made from a notebook offers it, and Binder and Colab."""
    page = parsed(site / address)
    links = {a["href"] for a in page.select(".article-header-buttons a[href]")}
    sources = [u for u in links if "_sources/" in u]
    if (site / "_sources" / address).with_suffix(".ipynb").is_file():
        assert any(u.endswith(".ipynb") for u in sources)
        assert any("mybinder.org" in u for u in links)
        assert any("colab.research.google.com" in u for u in links)
    elif address != "search.html":
        assert sources
