"""Reading what students hand in: whatever can be read is read, the rest gets a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursework import notebook
from coursework.notebook import Unreadable, read


def data(cells: object, **more: object) -> bytes:
    return json.dumps({"cells": cells, "nbformat": 4, "metadata": {}} | more).encode()


CODE = {"cell_type": "code", "source": ["a = 1\n", "b = 2"], "metadata": {"tags": ["x"]}}
WANT = [("code", "a = 1\nb = 2", {"tags": ["x"]})]
WORKSHEET = [
    {"cells": [{"cell_type": "code", "input": "a = 1\nb = 2", "metadata": {"tags": ["x"]}}]}
]


def test_reads_formats_3_and_4_and_a_byte_order_mark():
    assert read(data([CODE])) == (WANT, "")
    assert read(b"\xef\xbb\xbf" + data([CODE]))[0] == WANT
    assert read(data([CODE]).decode().encode("utf-16"))[0] == WANT
    assert read(json.dumps({"nbformat": 3, "worksheets": WORKSHEET}).encode())[0] == WANT


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"language_info": {"name": "R"}}, "r"),
        ({"kernelspec": {"language": "julia"}}, "julia"),
        ({"language_info": {"name": ""}, "kernelspec": {"language": "python"}}, "python"),
        ({"language_info": 3, "kernelspec": []}, ""),
        (None, ""),
        ([1], ""),
    ],
)
def test_language(metadata, language):
    assert read(data([CODE], metadata=metadata))[1] == language


@pytest.mark.parametrize(
    "cell",
    [
        {},
        {"cell_type": 1, "source": None, "metadata": 4},
        {"cell_type": "code", "source": [1, None, {}], "metadata": []},
        {"cell_type": "code", "source": {"a": 1}},
        {"cell_type": ["code"], "source": 1e300},
    ],
)
def test_wrong_types_are_survived(cell):
    found, _ = read(data([cell, 7, None, "text", CODE]))
    assert found[1:] == WANT
    kind, source, metadata = found[0]
    assert (type(kind), type(source), type(metadata)) == (str, str, dict)


@pytest.mark.parametrize(
    ("file", "word"),
    [
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04...", "zip"),
        (b"\x1f\x8b...", "archive"),
        (b"<!doctype html><html>", "web page"),
        (data([CODE])[:-10], "cut off"),
        (b"\x00\xff\x13", "cut off"),
        (b"[" * 200_000, "cut off"),
        (b"[1, 2]", "not a notebook"),
        (b'"text"', "not a notebook"),
        (b'{"a": 1}', "no cells"),
        (data({"a": 1}), "no cells"),
        (data([]), "no cells"),
        (data([1, 2]), "no cells"),
        (json.dumps({"worksheets": [3, {"cells": 4}]}).encode(), "no cells"),
        (b"1" * 10_000, "cut off"),  # more digits than Python converts
    ],
)
def test_the_rest_gets_a_sentence(file, word):
    with pytest.raises(Unreadable, match=word) as found:
        read(file)
    assert str(found.value).endswith(".")


def test_large_files_and_cells(monkeypatch):
    long = {"cell_type": "code", "source": "a" * (notebook.CELL_LIMIT + 1)}
    assert len(read(data([long]))[0][0][1]) == notebook.CELL_LIMIT
    monkeypatch.setattr(notebook, "FILE_LIMIT", 1 << 20)
    with pytest.raises(Unreadable, match="larger than 1 MB"):
        read(data([CODE]) + b" " * (1 << 20))


@given(st.binary(max_size=300))
def test_any_bytes(noise):
    for file in (noise, data([CODE]) + noise, data([CODE])[: len(noise)] + noise):
        try:
            assert read(file)[0]
        except Unreadable as error:
            assert str(error)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cells", "cell_type", "source", "metadata", "language_info", "name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_any_json(cells, metadata):
    try:
        read(data(cells, metadata=metadata))
    except Unreadable as error:
        assert str(error)
