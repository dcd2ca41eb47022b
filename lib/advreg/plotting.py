"""House style of the figures: :func:`show` for one, :func:`explore` for one with sliders.

Figures are inline SVG whose ink is ``currentColor``: they take the colour of the text around
them and so follow the light and the dark theme.  Figures never compute; computations never plot.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import itertools
import json
import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import textpath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

__all__ = [
    "COLOURS",
    "SIZE_ONE",
    "SIZE_TWO",
    "STYLES",
    "explore",
    "figure",
    "glue",
    "picard_plot",
    "show",
    "use_style",
]

# Two reserved colours that no figure uses for anything else; they become CSS on the page.
_INK, _PAPER = "#010203", "#fefdfc"
_CSS = {_INK: "currentColor", _PAPER: "var(--advreg-paper, transparent)"}

#: Role of an object -> its colour.  It keeps it through the book.  Every colour has a contrast
#: of at least 3:1 against the light and the dark page (a test holds that).
COLOURS: dict[str, str] = {
    "truth": _INK,
    "data": "#7d8590",
    "regularized": "#1f7fc4",
    "adversarial": "#d55e00",
    "certificate": "#00916a",
    "attack": "#b565a7",
    "extra": "#b07a00",
}

#: Role -> keyword arguments of ``Axes.plot``: never colour alone, always a line style too.
STYLES: dict[str, dict[str, Any]] = {
    "truth": {"color": COLOURS["truth"], "linestyle": "-"},
    "data": {"color": COLOURS["data"], "linestyle": "-", "linewidth": 1.0},
    "regularized": {"color": COLOURS["regularized"], "linestyle": "--"},
    "adversarial": {"color": COLOURS["adversarial"], "linestyle": "-."},
    "certificate": {"color": COLOURS["certificate"], "linestyle": (0, (6, 2, 1, 2, 1, 2))},
    "attack": {"color": COLOURS["attack"], "linestyle": ":"},
    "extra": {"color": COLOURS["extra"], "linestyle": (0, (1, 1))},
    "tsvd": {"color": COLOURS["data"], "linestyle": "-", "marker": "s"},
    "tikhonov": {"color": COLOURS["regularized"], "linestyle": "--", "marker": "o"},
    "iterated_tikhonov": {"color": COLOURS["regularized"], "linestyle": ":", "marker": "^"},
    "landweber": {"color": COLOURS["certificate"], "linestyle": "-", "marker": "v"},
    "showalter": {"color": COLOURS["extra"], "linestyle": "-.", "marker": "D"},
    "clip": {"color": COLOURS["attack"], "linestyle": (0, (6, 2, 1, 2)), "marker": "P"},
    "l2_game": {"color": COLOURS["adversarial"], "linestyle": (0, (3, 1)), "marker": "X"},
    "learned": {"color": COLOURS["extra"], "linestyle": "-"},
}

#: Width and height in inches of a figure with one panel, and with panels side by side.
SIZE_ONE, SIZE_TWO = (6.4, 3.6), (8.6, 3.4)

_MAX_FRAMES = 40
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


def use_style() -> None:
    """Set matplotlib's defaults to the house style; call it once, in the set-up cell."""
    # matplotlib gives every renderer its own parser of formulas, with a cache that dies with it;
    # sharing one draws the frames of a slider almost three times as fast.
    if isinstance(textpath.MathTextParser, type):
        textpath.MathTextParser = functools.cache(textpath.MathTextParser)
    ink = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
    )
    mpl.rcParams.update(
        ink
        | {
            "figure.facecolor": "none",
            "figure.figsize": SIZE_ONE,
            "figure.constrained_layout.use": True,
            "axes.facecolor": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.8,
            "axes.prop_cycle": mpl.cycler(
                color=[COLOURS[k] for k in ("regularized", "adversarial", "certificate")]
                + [COLOURS[k] for k in ("attack", "extra", "data")],
                linestyle=["-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 1))],
            ),
            "lines.linewidth": 2.0,
            "lines.markersize": 5.0,
            "font.size": 11,
            "axes.labelsize": 11,
            "legend.fontsize": 9.5,
            "legend.facecolor": _PAPER,
            "legend.edgecolor": "none",
            "legend.framealpha": 0.85,
            "savefig.facecolor": "none",
            "mathtext.fontset": "dejavusans",
            "svg.fonttype": "path",
            "svg.hashsalt": "advreg",
        }
    )


def figure(kind: str = "one", ncols: int = 1, nrows: int = 1, **kwargs: Any) -> tuple[Figure, Any]:
    """Make a figure of one of the two sizes of the book.

    Parameters
    ----------
    kind
        ``"one"`` (6.4 by 3.6 inches) or ``"two"`` (8.6 by 3.4 inches, panels side by side).
    ncols, nrows, **kwargs
        As in :func:`matplotlib.pyplot.subplots`; ``figsize`` overrides ``kind``.

    Returns
    -------
    fig, axes
        ``axes`` is one ``Axes`` or an array of them, as from ``subplots``.

    Raises
    ------
    ValueError
        If ``kind`` is neither ``"one"`` nor ``"two"``.
    """
    sizes = {"one": SIZE_ONE, "two": SIZE_TWO}
    if kind not in sizes:
        raise ValueError(f"kind must be 'one' or 'two', got {kind!r}")
    kwargs.setdefault("figsize", sizes[kind])
    kwargs.setdefault("layout", "constrained")
    return plt.subplots(nrows, ncols, **kwargs)


def picard_plot(
    ax: Axes,
    sigma: np.ndarray,
    coefficients: np.ndarray,
    *,
    noise_level: float | None = None,
) -> Axes:
    r"""Draw the three curves of Picard's condition against the mode number :math:`n`.

    Parameters
    ----------
    ax
        Where to draw; the axes become log--log.
    sigma : array, shape (k,)
        Singular values :math:`\sigma_n`.
    coefficients : array, shape (k,)
        Data coefficients :math:`\langle y, v_n\rangle`; their absolute values are drawn.
    noise_level
        If given, a horizontal line at the noise floor :math:`\delta`.

    Returns
    -------
    Axes
        ``ax``.

    Raises
    ------
    ValueError
        If ``sigma`` and ``coefficients`` differ in shape.

    Notes
    -----
    Modes with :math:`\sigma_n=0` have no quotient and leave a gap there.
    Source: Theorem ``thm-picard`` (chapter 1).
    """
    sigma, size = np.asarray(sigma, float), np.abs(np.asarray(coefficients, float))
    if sigma.shape != size.shape or sigma.ndim != 1:
        raise ValueError(
            f"sigma and coefficients must be vectors of one length, got {sigma.shape}, {size.shape}"
        )
    n = np.arange(1, sigma.size + 1)
    quotient = np.divide(size, sigma, out=np.full(sigma.size, np.nan), where=sigma > 0)
    ax.loglog(n, np.where(sigma > 0, sigma, np.nan), label=r"$\sigma_n$", **STYLES["truth"])
    marks = {"linestyle": "none", "markersize": 3.5}
    ax.loglog(n, size, "o", color=COLOURS["data"], label=r"$|\langle y,v_n\rangle|$", **marks)
    ax.loglog(
        n,
        quotient,
        "^",
        color=COLOURS["regularized"],
        label=r"$|\langle y,v_n\rangle|/\sigma_n$",
        **marks,
    )
    if noise_level is not None:
        ax.axhline(noise_level, label=r"noise level $\delta$", **STYLES["attack"])
    ax.set_xlabel("mode $n$")
    return ax


def show(fig: Figure, *, alt: str) -> None:
    """Display a figure with its text alternative; the last call of a figure cell.

    Parameters
    ----------
    fig
        The figure; it is closed afterwards.
    alt
        Chart type, what is plotted, what to take away; at least 20 characters.

    Raises
    ------
    TypeError
        If ``fig`` is not a matplotlib figure.
    ValueError
        If ``alt`` is missing or too short to say anything.
    """
    from IPython.display import publish_display_data

    svg, defs = _svg_of([fig], [_checked_alt(alt)])
    data = {
        "text/html": f'<figure class="advreg-figure">{defs}{svg[0]}</figure>',
        "text/plain": f"[figure] {alt}",
    }
    if not _static():  # PDF export and viewers without HTML
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=144, facecolor="white")
        data["image/png"] = buffer.getvalue()
    publish_display_data(data)
    plt.close(fig)


def explore(
    draw: Callable[..., Figure],
    parameters: Mapping[str, Sequence[Any]],
    *,
    alt: str | Callable[..., str],
    start: Sequence[int] | None = None,
    fmt: str | Callable[[Any], str] = "{:g}",
) -> None:
    """Display a figure behind one or two sliders.

    In Jupyter this is an ipywidgets figure that redraws; in the built page, where no kernel
    runs, the same frames stand behind native sliders that work by mouse and keyboard.

    Parameters
    ----------
    draw
        Takes one value per parameter and returns a new :class:`matplotlib.figure.Figure`.
        Keep the axis limits fixed, or the eye cannot compare frames.
    parameters
        Label of a slider (with its unit) -> its positions.  One or two entries, and at most
        40 combinations.
    alt
        Text alternative of a frame: a function of the same values, or one text for all.
    start
        Index of each slider's first position; the middle by default.
    fmt
        How a value is written beside its slider: a format string or a function.

    Raises
    ------
    TypeError
        If ``draw`` does not return a figure.
    ValueError
        If there are no or too many parameters, positions or frames, if ``start`` is out of
        range, or an alternative text is too short.
    """
    from IPython.display import display, publish_display_data

    labels, grids = list(parameters), [list(v) for v in parameters.values()]
    if not 1 <= len(labels) <= 2 or not all(grids):
        raise ValueError(f"give one or two parameters with their values, got {dict(parameters)!r}")
    count = int(np.prod([len(g) for g in grids]))
    if count > _MAX_FRAMES:
        raise ValueError(f"{count} frames are too many for a page; at most {_MAX_FRAMES}")
    start = list(start) if start is not None else [len(g) // 2 for g in grids]
    if len(start) != len(grids) or not all(
        0 <= s < len(g) for s, g in zip(start, grids, strict=True)
    ):
        raise ValueError(f"start needs one valid index for each of {labels}, got {start}")
    texts = [[_text(fmt, v) for v in g] for g in grids]

    def alternative(values: Sequence[Any]) -> str:
        return _checked_alt(alt(*values) if callable(alt) else alt)

    if _static():
        frames = list(itertools.product(*grids))
        alts = [alternative(values) for values in frames]
        svgs, defs = _svg_of((draw(*values) for values in frames), alts)
        page = _explore_html(labels, texts, start, svgs, defs)
        publish_display_data({"text/html": page, "text/plain": f"[sliders] {', '.join(labels)}"})
        return

    import ipywidgets as w

    sliders = [
        w.SelectionSlider(
            options=[(t, v) for t, v in zip(text, grid, strict=True)],
            index=i,
            description=label,
            style={"description_width": "initial"},
            layout={"width": "32rem"},
        )
        for label, text, grid, i in zip(labels, texts, grids, start, strict=True)
    ]
    view = w.HTML()

    def redraw(_: Any = None) -> None:
        values = [s.value for s in sliders]
        svg, defs = _svg_of([draw(*values)], [alternative(values)])
        view.value = defs + svg[0]

    for slider in sliders:
        slider.observe(redraw, names="value")
    redraw()
    display(w.VBox([*sliders, view]))


def glue(name: str, value: Any, fmt: str = "{:.3g}") -> None:
    """Keep a computed number under ``name``, for the prose to quote it.

    In the text write ``{glue:text}`name```; what is printed there is ``fmt.format(value)``.

    Raises
    ------
    ValueError
        If ``value`` is a number that is not finite: prose must not quote a failed computation.
    """
    from IPython.display import publish_display_data

    if isinstance(value, (int, float, np.number)) and not np.isfinite(value):
        raise ValueError(f"cannot quote {name}: its value is {value}")
    prefix = "application/papermill.record/"  # the format that myst-nb reads
    publish_display_data(
        {prefix + "text/plain": repr(fmt.format(value))},  # unquoted, "0.50" would lose its zero
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )


def _static() -> bool:
    """True while the book is built: no kernel will stand behind the page."""
    return os.environ.get("ADVREG_STATIC") == "1"


def _text(fmt: str | Callable[[Any], str], value: Any) -> str:
    if callable(fmt):
        return fmt(value)
    return value if isinstance(value, str) else fmt.format(value)


def _checked_alt(alt: str) -> str:
    if not isinstance(alt, str) or len(alt.strip()) < 20:
        raise ValueError(
            f"alt must say in a sentence (20 characters or more) what the figure shows, got {alt!r}"
        )
    return alt.strip()


def _svg_of(figs: Any, alts: Sequence[str]) -> tuple[list[str], str]:
    """Inline SVG of every figure, and the definitions (glyphs, clips, axes) they share."""
    roots, shared = [], {}
    for fig in figs:
        if not isinstance(fig, Figure):
            raise TypeError(f"a matplotlib Figure is needed, got {type(fig).__name__}")
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(fig)
        root = ET.fromstring(buffer.getvalue())
        _collect_definitions(root, shared)
        roots.append(root)
    _share_repeated_groups(roots, shared)
    bodies = ["".join(_serialise(child) for child in root) for root in roots]
    definitions = {key: _serialise(element) for key, element in shared.items()}
    digest = hashlib.sha256("".join([*bodies, *definitions.values(), *alts]).encode())
    uid = "f" + digest.hexdigest()[:8]
    names = {key: f"{uid}-{i}" for i, key in enumerate(definitions)}

    def rename(text: str) -> str:
        return re.sub(
            r'(id="|href="#|url\(#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), text
        )

    svgs = []
    for root, body, alt in zip(roots, bodies, alts, strict=True):
        box = root.get("viewBox", "0 0 1 1")
        width = float(box.split()[2]) * 4 / 3  # points to CSS pixels
        svgs.append(
            f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" viewBox="{box}"'
            f' style="width:{width:.0f}px;max-width:100%;height:auto;'
            f'stroke-linejoin:round;stroke-linecap:butt">{rename(body)}</svg>'
        )
    # Zero size and not display:none, in which clip paths would stop working.
    block = (
        '<svg aria-hidden="true" style="position:absolute;width:0;height:0"><defs>'
        + rename("".join(definitions.values()))
        + "</defs></svg>"
    )
    return svgs, block


def _collect_definitions(root: ET.Element, shared: dict[str, ET.Element]) -> None:
    """Move what ``<defs>`` hold to ``shared``, and drop what a page does not need."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (_SVG + "metadata", _SVG + "style"):
                parent.remove(child)
            elif child.tag == _SVG + "defs":
                parent.remove(child)
                for item in child:
                    if item.get("id"):  # same id, same content: matplotlib hashes the content
                        shared.setdefault(item.get("id"), item)
    for element in root.iter():
        element.attrib.pop("id", None)


def _share_repeated_groups(roots: list[ET.Element], shared: dict[str, ET.Element]) -> None:
    """Draw groups that several frames have in common (axes, ticks, labels) only once."""
    axes = [g for root in roots for top in root for g in top if g.tag == _SVG + "g"]
    count = Counter(_serialise(child) for group in axes for child in group)
    keys: dict[str, str] = {}
    for group in axes:
        for i, child in enumerate(list(group)):
            text = _serialise(child)
            if count[text] > 1 and len(text) > 200:
                key = keys.setdefault(text, f"shared-{len(keys)}")
                if key not in shared:
                    shared[key] = ET.Element(_SVG + "g", {"id": key})
                    shared[key].append(child)
                group[i] = ET.Element(_SVG + "use", {_HREF: f"#{key}"})


def _serialise(element: ET.Element) -> str:
    """Compact text of an element: two decimals, theme colours, no namespaces."""
    _hoist_style(element)
    tag = element.tag.removeprefix(_SVG)
    parts = [f"<{tag}"]
    for name, value in element.items():
        if name in ("d", "points", "x", "y", "width", "height", "x1", "x2", "y1", "y2"):
            value = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", value)
            value = " ".join(value.split())
        elif name == "style":
            value = value.replace("; ", ";").replace(": ", ":")
            for reserved, css in _CSS.items():
                value = value.replace(reserved, css)
        elif name == _HREF and value.startswith("data:image/png;base64,"):
            value = _smaller_png(value)
        name = "href" if name == _HREF else name
        parts.append(f' {name}="{html.escape(value, quote=True)}"')
    inner = "".join(_serialise(child) for child in element)
    if element.text and element.text.strip():
        inner = html.escape(element.text.strip()) + inner
    parts.append(f">{inner}</{tag}>" if inner else "/>")
    return "".join(parts)


def _smaller_png(uri: str) -> str:
    """The same image in fewer bytes: no opaque alpha channel, one channel if it is grey."""
    head, _, data = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    if image.mode == "RGB" and len({channel.tobytes() for channel in image.split()}) == 1:
        image = image.getchannel(0)
    image.save(buffer := io.BytesIO(), "PNG", optimize=True)
    return f"{head},{base64.b64encode(buffer.getvalue()).decode()}"


def _hoist_style(group: ET.Element) -> None:
    """Write the style that all markers of a group share once, at the group."""
    styles = {child.get("style") for child in group}
    only_markers = all(child.tag == _SVG + "use" for child in group)
    if group.tag == _SVG + "g" and len(group) > 1 and only_markers and len(styles) == 1:
        style = styles.pop()
        if style and "style" not in group.attrib:
            group.set("style", style)
            for child in group:
                del child.attrib["style"]


_CONTROL = """<div class="explore-controls"><label for="{id}">{label}</label>
<input type="range" id="{id}" min="0" max="{last}" step="1" value="{start}"
 aria-valuetext="{text}"/>
<output for="{id}">{text}</output></div>"""

_SCRIPT = """<script>(() => {{
const root = document.getElementById("{uid}"), texts = {texts};
const inputs = [...root.querySelectorAll("input")];
const frames = [...root.querySelectorAll("[data-text]")];
const update = () => {{
  const at = inputs.map(r => +r.value);
  const k = at.length > 1 ? at[0] * texts[1].length + at[1] : at[0];
  frames.forEach((f, i) => {{ f.hidden = i !== k; }});
  inputs.forEach((r, j) => {{
    r.setAttribute("aria-valuetext", texts[j][at[j]]);
    root.querySelectorAll("output")[j].value = texts[j][at[j]];
  }});
}};
inputs.forEach(r => r.addEventListener("input", update));
update();
}})();</script>"""


def _explore_html(
    labels: list[str], texts: list[list[str]], start: list[int], svgs: list[str], defs: str
) -> str:
    uid = "e" + hashlib.sha256("".join([*labels, *svgs]).encode()).hexdigest()[:10]
    first = start[0] if len(start) == 1 else start[0] * len(texts[1]) + start[1]
    hidden = ' hidden=""'
    frames = "".join(
        f'<div data-text="{html.escape(", ".join(text), quote=True)}"'
        f"{'' if i == first else hidden}>{svg}</div>"
        for i, (text, svg) in enumerate(zip(itertools.product(*texts), svgs, strict=True))
    )
    controls = "".join(
        _CONTROL.format(
            id=f"{uid}-{j}",
            label=html.escape(label),
            last=len(text) - 1,
            start=start[j],
            text=html.escape(text[start[j]], quote=True),
        )
        for j, (label, text) in enumerate(zip(labels, texts, strict=True))
    )
    names = html.escape("figure with sliders: " + ", ".join(labels), quote=True)
    quoted = "[" + ",".join("[" + ",".join(map(_js_string, t)) + "]" for t in texts) + "]"
    return (
        f'<figure class="explore" role="group" id="{uid}" aria-label="{names}">{defs}'
        f'{controls}<div class="explore-frames">{frames}</div>'
        f"<noscript><p>Without JavaScript only one position is shown.</p></noscript>"
        f"{_SCRIPT.format(uid=uid, texts=quoted)}</figure>"
    )


def _js_string(text: str) -> str:
    return json.dumps(text).replace("</", "<\\/")
