"""Open every page of the built site in a browser and check what a reader meets."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import pytest

pytestmark = [pytest.mark.site, pytest.mark.browser]

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
PAGE_BYTES, VISIT_BYTES = 1_000_000, 1_500_000  # the HTML of a page; a first visit, compressed
ALT_CHARACTERS = 20
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

SETTLE = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  await new Promise((done) => setTimeout(done, 150)); // what scripts ask for late
}"""


@dataclass
class Visit:
    """An open page, and what its loading gave rise to."""

    page: Any
    root: str
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    state: tuple[dict[str, int], str] = (WIDE, "light")  # size of the window, theme

    def open(self, address: str, keep_bodies: bool) -> Visit:
        """Load a page from a cold cache and wait until it is at rest."""
        responses = []
        on = self.page.on
        on("request", lambda r: self.requests.append(r.url))
        on("requestfailed", lambda r: self.failures.append(f"{r.url} ({r.failure})"))
        on("response", lambda r: responses.append(r))
        on("pageerror", lambda e: self.errors.append(f"exception: {e}"))
        on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.goto(self.root + address, wait_until="load")
        self.page.evaluate(SETTLE)
        self.failures += [f"{r.url} ({r.status})" for r in responses if r.status >= 400]
        if keep_bodies:
            self.bodies = {urldefrag(r.url).url: r.body() for r in responses if r.ok}
        return self

    def problems(self) -> list[str]:
        """Requests to other hosts, failed requests, script errors."""
        local = (self.root, "data:", "blob:", "about:")
        foreign = [u for u in self.requests if not u.startswith(local)]
        return [
            *(f"asks another host: {u}" for u in foreign),
            *(f"request failed: {f}" for f in self.failures),
            *(f"script error: {e}" for e in self.errors),
        ]


UNFOLD = """() => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  document.querySelectorAll(".toggle-hidden button.toggle-button").forEach((b) => b.click());
  return document.querySelectorAll(".toggle-hidden").length;
}"""


# The theme marks what scrolls 0.3 s after a resize, and colours fade from one theme to the other:
# what axe would see on the way is no state that stays.
REST = """async () => {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 400)));
  const ends = (a) => a.effect.getComputedTiming().endTime < Infinity;
  await Promise.allSettled(document.getAnimations().filter(ends).map((a) => a.finished));
}"""


@pytest.fixture(scope="module")
def visit(browser: Any, server: str, address: str) -> Iterator[Visit]:
    """The page over HTTP, its proofs and solutions unfolded."""
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    opened = Visit(context.new_page(), server).open(address, keep_bodies=True)
    assert opened.page.evaluate(UNFOLD) == 0, "something cannot be unfolded"
    opened.page.evaluate(REST)
    yield opened
    context.close()


def at(visit: Visit, size: dict[str, int] = WIDE, theme: str = "light") -> Any:
    """The page, at rest, in a window of this size and in this theme."""
    page = visit.page
    if visit.state != (size, theme):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size(size)
        page.wait_for_function("t => document.documentElement.dataset.theme === t", arg=theme)
        page.evaluate(REST)
        visit.state = (size, theme)
    return page


def test_loads_alone(visit: Visit) -> None:
    """Over HTTP: nothing from another host, nothing missing, no script error."""
    assert visit.problems() == []


def test_loads_from_disk(browser: Any, site: Path, address: str) -> None:
    """From ``file://``: the same, and the formulas are there."""
    context = browser.new_context(viewport=WIDE)
    opened = Visit(context.new_page(), f"{site.as_uri()}/").open(address, keep_bodies=False)
    left, problems = opened.page.evaluate(UNTYPESET), opened.problems()
    context.close()
    assert problems == []
    assert left == []


UNTYPESET = r"""() => [...document.querySelectorAll(".math")]
  .filter((m) => !m.querySelector("mjx-container > svg, mjx-container mjx-math"))
  .map((m) => m.textContent.trim())"""

MATH_ERRORS = """() => [
  ...document.querySelectorAll('[data-mml-node="merror"], mjx-merror'),
  // an undefined command is no error to MathJax: it prints it in red
  ...document.querySelectorAll('mjx-container [data-mml-node="mtext"][fill="red"]'),
].map((m) => m.closest("mjx-container").parentElement.textContent.trim())"""

RAW_MARKUP = r"""() => {
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const raw = /\\\(|\\\[|\$[^$]+\$|\\begin\{|\{[a-z:-]+\}`|^\s*(```|:::)/m, found = [];
  while (walk.nextNode()) {
    const text = walk.currentNode;
    if (text.parentElement.closest("pre, code, dt.sig, script, style, mjx-container")) continue;
    if (raw.test(text.data)) found.push(text.data.trim());
  }
  return found;
}"""


def test_formulas_are_typeset(visit: Visit) -> None:
    """Every formula is drawn, without an error, and no markup is left in the text."""
    assert visit.page.evaluate(UNTYPESET) == []
    assert visit.page.evaluate(MATH_ERRORS) == []
    assert visit.page.evaluate(RAW_MARKUP) == []


ICONS = """() => ({
  left: document.querySelectorAll("i[class*='fa-']").length,
  drawn: document.querySelectorAll("svg.svg-inline--fa").length,
  empty: [...document.querySelectorAll("svg.svg-inline--fa")]
    .filter((s) => s.querySelector(".missing") || !s.querySelector("path[d]:not([d=''])"))
    .map((s) => s.outerHTML),
})"""


def test_icons_are_drawn(visit: Visit) -> None:
    """The reduced set of icons holds every icon of the page."""
    icons = visit.page.evaluate(ICONS)
    assert icons["left"] == 0
    assert icons["empty"] == []
    assert icons["drawn"] >= 3  # menu, theme, search


PICTURES = """() => [...document.querySelectorAll("article img, article svg")]
  .filter((p) => !p.closest("mjx-container, button, .svg-inline--fa, [aria-hidden='true']"))
  .filter((p) => !p.parentElement.closest("svg"))
  .map((p) => [p.getAttribute("alt") ?? p.getAttribute("aria-label") ?? "",
               p.outerHTML.slice(0, 120)])"""


def test_pictures_have_text_alternatives(visit: Visit) -> None:
    """Each picture, in every frame of a slider, is described in a sentence."""
    short = [html for alt, html in visit.page.evaluate(PICTURES) if len(alt) < ALT_CHARACTERS]
    assert short == []


FRAMES = """(figure) => ({
  shown: [...figure.querySelectorAll(".explore-frames > [data-text]")]
    .flatMap((f, i) => (f.hidden || !f.getClientRects().length ? [] : [i])),
  names: [...figure.querySelectorAll(".explore-frames > [data-text]:not([hidden])")]
    .map((f) => f.dataset.text),
  texts: [...figure.querySelectorAll("input")].map((r) => r.getAttribute("aria-valuetext")),
  outputs: [...figure.querySelectorAll("output")].map((o) => o.value),
})"""


def test_sliders_move_by_keyboard(visit: Visit) -> None:
    """An arrow key on a slider says another value and shows the frame that belongs to it."""
    page = at(visit)
    for figure in page.query_selector_all("figure.explore"):
        inputs = figure.query_selector_all("input[type=range]")
        assert 1 <= len(inputs) <= 2
        for i, slider in enumerate(inputs):
            assert slider.evaluate("r => r.labels.length === 1 && r.labels[0].innerText.trim()")
            last = slider.evaluate("r => r.value === r.max")
            slider.focus()
            before = figure.evaluate(FRAMES)
            page.keyboard.press("ArrowLeft" if last else "ArrowRight")
            after = figure.evaluate(FRAMES)
            assert len(before["shown"]) == len(after["shown"]) == 1
            assert before["shown"] != after["shown"]
            assert before["texts"][i] != after["texts"][i]
            assert after["texts"] == after["outputs"]
            for state in (before, after):  # the frame of these very values, not just another one
                assert state["names"] == [", ".join(state["texts"])]
    assert visit.errors == []


CARDS = """() => [...document.querySelectorAll(".advreg-figure, .explore")].flatMap((figure) => {
  const found = [];
  for (let e = figure; e && !e.matches("article"); e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)" && !e.matches(".admonition, .sd-card, .sd-tab-content"))
      found.push(`${e.tagName}.${e.className}: ${colour}`);
  }
  return found;
})"""

INKS = """() => [...document.querySelectorAll(".advreg-figure > [role], .explore-frames svg")]
  .map((s) => getComputedStyle(s).color)"""


def test_figures_follow_the_theme(visit: Visit) -> None:
    """Their ink is the text's in both themes, and nothing light lies behind them in the dark."""
    ink = "() => getComputedStyle(document.querySelector('main')).color"
    seen = {}
    for theme in ("light", "dark"):
        page = at(visit, WIDE, theme)
        seen[theme] = page.evaluate(ink)
        assert page.evaluate(CARDS) == []
        assert set(page.evaluate(INKS)) <= {seen[theme]}
    assert seen["light"] != seen["dark"]


# What axe need not walk through is taken out meanwhile, tens of thousands of nodes on a long page:
# the insides of drawings, one picture each to a screen reader; MathJax's own MathML; and all
# but the first of the words of code that share a colour.
AXE = """async (options) => {
  const seen = new Set();
  const repeated = [...document.querySelectorAll("pre span")].filter((s) => {
    const { color, backgroundColor } = getComputedStyle(s);
    const key = [color, backgroundColor, s.closest("div[class*=cell_]")?.className].join();
    return s.childElementCount === 0 && (seen.has(key) || !seen.add(key));
  });
  const inside = "svg[aria-label], svg[aria-hidden=true], mjx-assistive-mml";
  const emptied = [...document.querySelectorAll(inside)].map((e) => [e, [...e.childNodes]]);
  emptied.forEach(([e]) => e.replaceChildren());
  repeated.forEach((s) => { s.style.display = "none"; });
  const found = (await axe.run(document, options)).violations;
  repeated.forEach((s) => { s.style.display = ""; });
  emptied.forEach(([e, children]) => e.replaceChildren(...children));
  return found.flatMap((rule) =>
    rule.nodes.map((n) => `${rule.id}: ${n.html.slice(0, 150)} (${n.failureSummary})`));
}"""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_meets_wcag(visit: Visit, theme: str) -> None:
    """No violation of WCAG 2.2, levels A and AA, that axe can find."""
    from axe_playwright_python.sync_playwright import Axe

    page = at(visit, WIDE, theme)
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(Axe().axe_script)
    options = {"runOnly": STANDARDS, "resultTypes": ["violations"], "preload": False}
    assert page.evaluate(AXE, options) == []


CUT_OFF = """() => [...document.querySelectorAll("article *")]
  .filter((e) => !e.closest("svg, mjx-assistive-mml") && e.getClientRects().length)
  .filter((e) => e.scrollWidth > e.clientWidth + 1)
  .filter((e) => ["hidden", "clip"].includes(getComputedStyle(e).overflowX))
  .map((e) => e.outerHTML.slice(0, 120))"""


OUT_OF_REACH = """() => [...document.querySelectorAll("article *")]
  .filter((e) => !e.closest("svg, mjx-assistive-mml") && e.getClientRects().length)
  .filter((e) => e.scrollWidth > e.clientWidth + 1)
  .filter((e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
  .filter((e) => e.tabIndex < 0 && !e.querySelector("a[href], button, input, [tabindex='0']"))
  .map((e) => e.outerHTML.slice(0, 120))"""


def test_fits_a_phone(visit: Visit) -> None:
    """At 400 pixels nothing is cut off; what is wider scrolls in itself, by keyboard too."""
    page = at(visit, NARROW)
    width = page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= NARROW["width"], f"the page is {width} px wide"
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(OUT_OF_REACH) == []


def test_is_light(visit: Visit, site: Path, address: str) -> None:
    """Its HTML, and all that a first visit loads when the server compresses."""
    assert (site / address).stat().st_size <= PAGE_BYTES
    weights = {re.sub(r"\?.*", "", u): len(gzip.compress(b)) for u, b in visit.bodies.items()}
    heaviest = sorted(weights.items(), key=lambda item: -item[1])[:5]
    assert sum(weights.values()) <= VISIT_BYTES, heaviest
    assert len(weights) >= 5  # the measurement has seen the style sheets and scripts


def test_prints_dark_on_white(browser: Any, server: str) -> None:
    """Whoever reads in the dark theme does not print pale ink."""
    context = browser.new_context(color_scheme="dark")
    page = Visit(context.new_page(), server).open("index.html", keep_bodies=False).page
    theme = "document.documentElement.dataset.theme"
    seen = [page.evaluate(theme)]
    for event in ("beforeprint", "afterprint"):
        page.evaluate("name => window.dispatchEvent(new Event(name))", event)
        seen.append(page.evaluate(theme))
    page.pdf()  # a real print: the theme comes back after it
    seen.append(page.evaluate(theme))
    context.close()
    assert seen == ["dark", "light", "dark", "dark"]
