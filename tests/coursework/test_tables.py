"""Tables that went through a spreadsheet, and back."""

import pytest

from coursework.errors import CourseworkError
from coursework.tables import printable, read_table, table, unsafe

ROWS = [("Zoë; Müller", "2,5", "=1+1, and more"), ("bob", "3", "")]


def written(comma: str, quote: str = '"') -> str:
    lines = ["student", "Points", "comment"], ["", "", ""], *ROWS, ["", "", ""]
    return "\r\n".join(
        comma.join(f"{quote}{cell}{quote}" if cell else "" for cell in line) for line in lines
    )


@pytest.mark.parametrize("comma", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_what_spreadsheets_write(tmp_path, comma, encoding):
    path = tmp_path / "marks.csv"
    path.write_bytes(written(comma).encode(encoding))
    rows = list(read_table(path, "the sheet", ("points", "student")))
    assert [(row["student"], row["points"], row["comment"]) for _, row in rows] == ROWS
    assert [line for line, _ in rows] == [3, 4]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no column student"),
        (b"name,points\na,1\n", "no column student; its columns are: name, points"),
        (b"student,points,comment\na,2,5,good\n", "line 2: more cells than columns"),
        (b"PK\x03\x04 a workbook", "save it as CSV"),
        (b'student,points\n"' + b"a" * 200_000, "cannot be read"),
    ],
)
def test_what_cannot_be_used(tmp_path, data, words):
    path = tmp_path / "marks.csv"
    path.write_bytes(data)
    with pytest.raises(CourseworkError, match=words):
        list(read_table(path, "the sheet", ("student", "points")))


def test_formulas_are_text_and_come_back(tmp_path):
    path, texts = tmp_path / "a.csv", ["=1", "+1", "-1", "@a", "\tb", "'c", "d"]
    path.write_text(table(["student"], [[text] for text in texts]), newline="")
    assert "\n=1" not in path.read_text()
    rows = [unsafe(row["student"]) for _, row in read_table(path, "it", ("student",))]
    assert rows == ["=1", "+1", "-1", "@a", "\tb", "'c", "d"]


def test_printable():
    assert printable("a\x1b[31m\n b\ud800\x00é") == "a�[31m b?�é"
