"""Figures follow the theme, say what they show, and slide without a kernel."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest

from advreg import plotting

ALT = "line plot of a sine wave between zero and six"


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plotting.use_style()
        yield
    plt.close("all")


@pytest.fixture
def published(monkeypatch):
    bundles = []
    monkeypatch.setattr(
        "IPython.display.publish_display_data",
        lambda data, metadata=None, **_: bundles.append((data, metadata)),
    )
    monkeypatch.setenv("ADVREG_STATIC", "1")
    return bundles


def sine(frequency=1.0, shift=0.0):
    fig, ax = plotting.figure()
    t = np.linspace(0, 6, 50)
    ax.plot(t, np.sin(frequency * t) + shift, marker="o", label=r"$\sin\omega t$")
    ax.set(xlim=(0, 6), ylim=(-2, 2))
    ax.legend()
    return fig


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
@pytest.mark.parametrize("role", [r for r in plotting.COLOURS if r != "truth"])
def test_every_colour_stands_out_on_both_pages(role, page):
    pair = sorted([luminance(plotting.COLOURS[role]), luminance(page)])
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3.0  # WCAG 1.4.11


def test_roles_differ_by_more_than_colour():
    looks = [(str(s["linestyle"]), s.get("marker")) for s in plotting.STYLES.values()]
    filters = looks[7:]
    assert len(set(filters)) == len(filters)


def test_show_emits_inline_svg_that_follows_the_theme(published):
    plotting.show(sine(), alt=ALT)
    page = published[0][0]["text/html"]
    ET.fromstring(page)  # well formed
    assert "currentColor" in page and "var(--advreg-paper" in page
    assert "#010203" not in page and "#fefdfc" not in page
    assert f'aria-label="{ALT}"' in page and 'role="img"' in page
    assert "<style" not in page and "<metadata" not in page
    assert not plt.get_fignums()  # closed


def test_every_reference_of_a_figure_resolves_within_it(published):
    plotting.show(sine(), alt=ALT)
    page = published[0][0]["text/html"]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    ids = re.findall(r' id="([^"]+)"', page)
    assert used and used <= set(ids)
    assert len(ids) == len(set(ids))


def test_two_figures_on_a_page_share_no_id(published):
    plotting.show(sine(1.0), alt=ALT)
    plotting.show(sine(2.0), alt=ALT)
    first, second = (set(re.findall(r' id="([^"]+)"', p[0]["text/html"])) for p in published)
    assert first and second and not first & second


def test_output_is_the_same_every_time(published):
    plotting.show(sine(), alt=ALT)
    plotting.show(sine(), alt=ALT)
    assert published[0] == published[1]


def test_explore_writes_one_frame_per_combination(published):
    plotting.explore(
        sine,
        {"frequency (Hz)": [1.0, 2.0, 3.0], "shift": [0.0, 0.5]},
        alt=lambda f, s: f"sine wave of frequency {f:g} shifted by {s:g}",
        start=[1, 0],
    )
    page = published[0][0]["text/html"]
    root = ET.fromstring(re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    frames = [d for d in root.iter("div") if "data-text" in d.attrib]
    assert [f.get("data-text") for f in frames] == [
        "1, 0", "1, 0.5", "2, 0", "2, 0.5", "3, 0", "3, 0.5"
    ]  # fmt: skip
    visible = [f for f in frames if "hidden" not in f.attrib]
    assert [f.get("data-text") for f in visible] == ["2, 0"]
    assert visible[0].find("svg").get("aria-label") == "sine wave of frequency 2 shifted by 0"
    inputs = list(root.iter("input"))
    assert [(i.get("max"), i.get("value")) for i in inputs] == [("2", "1"), ("1", "0")]
    labels = {label.get("for") for label in root.iter("label")}
    assert labels == {i.get("id") for i in inputs}


def test_frames_share_what_they_have_in_common(published):
    plotting.explore(sine, {"frequency": [1.0, 2.0, 3.0]}, alt=ALT)
    plotting.show(sine(), alt=ALT)
    slider, single = (len(p[0]["text/html"]) for p in published)
    assert slider < 2 * single  # three frames cost less than two separate figures


def test_explore_is_a_widget_where_a_kernel_runs(monkeypatch):
    shown = []
    monkeypatch.delenv("ADVREG_STATIC", raising=False)
    monkeypatch.setattr("IPython.display.display", shown.append)
    plotting.explore(sine, {"frequency": [1.0, 2.0]}, alt=ALT, start=[0])
    slider, view = shown[0].children
    before = view.value
    slider.index = 1
    assert view.value != before and ALT in view.value


@pytest.mark.parametrize(
    ("parameters", "options", "words"),
    [
        ({}, {}, "one or two parameters"),
        ({"a": []}, {}, "one or two parameters"),
        ({"a": [1], "b": [1], "c": [1]}, {}, "one or two parameters"),
        ({"a": range(41)}, {}, "41 frames are too many"),
        ({"a": [1, 2]}, {"start": [2]}, "start needs one valid index"),
        ({"a": [1, 2]}, {"alt": "short"}, "alt must say"),
    ],
)
def test_explore_refuses(published, parameters, options, words):
    with pytest.raises(ValueError, match=words):
        plotting.explore(sine, parameters, **({"alt": ALT} | options))


def test_show_refuses_a_figure_without_words_and_what_is_no_figure(published):
    with pytest.raises(ValueError, match="alt must say"):
        plotting.show(sine(), alt="")
    with pytest.raises(TypeError, match="Figure is needed"):
        plotting.show("no figure", alt=ALT)


def test_glue_quotes_numbers_and_refuses_failed_ones(published):
    plotting.glue("n1-error", 0.12345, "{:.2f}")
    data, metadata = published[0]
    assert list(data.values()) == ["'0.12'"]
    assert metadata["scrapbook"]["name"] == "n1-error"
    with pytest.raises(ValueError, match="n1-error"):
        plotting.glue("n1-error", float("nan"))


def test_picard_plot_leaves_gaps_at_zero_singular_values():
    _, ax = plotting.figure()
    plotting.picard_plot(ax, np.array([1.0, 0.5, 0.0]), np.array([1.0, -1.0, 1.0]), noise_level=0.1)
    quotient = ax.lines[2].get_ydata()
    np.testing.assert_array_equal(quotient[:2], [1.0, 2.0])
    assert np.isnan(quotient[2])
    with pytest.raises(ValueError, match="one length"):
        plotting.picard_plot(ax, np.ones(3), np.ones(4))


def test_figure_refuses_an_unknown_size():
    with pytest.raises(ValueError, match="'one' or 'two'"):
        plotting.figure("three")


def test_embedded_images_get_smaller_and_stay_the_same(published):
    import base64
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    for colours, mode in (("gray", "L"), ("viridis", "RGB")):
        fig, ax = plotting.figure()
        picture = ax.imshow(rng.uniform(size=(16, 16)), cmap=colours, interpolation="none")
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg")
        before, after = (
            Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])))
            for text in (buffer.getvalue(), plotting._svg_of([fig], [ALT])[0][0])
        )
        assert picture.get_array().shape == before.size == after.size
        assert before.mode == "RGBA" and after.mode == mode
        np.testing.assert_array_equal(before.convert("RGB"), after.convert("RGB"))
