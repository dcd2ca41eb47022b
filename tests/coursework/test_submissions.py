"""Who handed in what: four layouts, bad names, links, archives, rosters."""

import csv
import os

import pytest

from coursework.errors import CourseworkError
from coursework.submissions import collect, file_name, read_roster


def put(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_four_layouts_in_one_folder(tmp_path):
    put(tmp_path / "Ana Lovelace" / "work" / "ps.ipynb")
    put(tmp_path / "grace.ipynb")
    put(tmp_path / "turingalan_4711_815_ps (1).ipynb")
    put(tmp_path / "noetheremmy_LATE_4712_816_ps.ipynb")
    put(tmp_path / "Sofja Kowalewskaja_99_assignsubmission_file_" / "ps.ipynb")
    found = {s.student: s.file.name for s in collect(tmp_path)}
    assert found == {
        "Ana Lovelace": "ps.ipynb",
        "grace": "grace.ipynb",
        "turingalan": "turingalan_4711_815_ps (1).ipynb",
        "noetheremmy": "noetheremmy_LATE_4712_816_ps.ipynb",
        "Sofja Kowalewskaja": "ps.ipynb",
    }
    assert not any(s.unsure or s.notes for s in collect(tmp_path))


def test_canvas_files_are_matched_to_the_roster_by_number(tmp_path):
    put(tmp_path / "turingalan_4711_815_ps.ipynb")
    found = collect(tmp_path, {"Turing, Alan": {"ID": "4711"}, "Gauß, Carl": {"ID": "1"}})
    assert [(s.student, s.file is None) for s in found] == [
        ("Gauß, Carl", True),
        ("Turing, Alan", False),
    ]


def test_a_roster_knows_names_in_both_orders(tmp_path):
    put(tmp_path / "Ada Lovelace" / "ps.ipynb")
    put(tmp_path / "turingalan_4711_815_ps.ipynb")
    put(tmp_path / "jan_1_2_ps.ipynb")
    roster = {"Lovelace, Ada": {}, "Turing, Alan": {}, "Jan, A": {}, "A, Jan": {}}
    found = {s.student: s.file and s.file.name for s in collect(tmp_path, roster)}
    assert found.pop("jan") == "jan_1_2_ps.ipynb"  # nobody guesses
    assert found == {
        "Lovelace, Ada": "ps.ipynb",
        "Turing, Alan": "turingalan_4711_815_ps.ipynb",
        "Jan, A": None,
        "A, Jan": None,
    }


def test_two_students_of_the_same_name_stay_two(tmp_path):
    for name in ("Jan Novak_77_assignsubmission_file_", "Jan Novak_88_assignsubmission_file_"):
        put(tmp_path / name / "ps.ipynb")
    put(tmp_path / "Jan Novak_77_assignsubmission_onlinetext_" / "text.html")
    assert [s.student for s in collect(tmp_path)] == ["Jan Novak (77)", "Jan Novak (88)"]
    assert all(s.file for s in collect(tmp_path))


def test_who_is_not_on_the_roster_is_kept_and_noted(tmp_path):
    put(tmp_path / "someone.ipynb")
    someone = collect(tmp_path, {})[0]
    assert someone.student == "someone" and someone.unsure and "roster" in someone.notes[0]


def test_the_newest_of_several_notebooks_is_taken(tmp_path):
    old, new = put(tmp_path / "a" / "z.ipynb"), put(tmp_path / "a" / "b.ipynb")
    put(tmp_path / "a" / ".ipynb_checkpoints" / "z-checkpoint.ipynb")
    os.utime(old, (1, 1))
    one = collect(tmp_path)[0]
    assert one.file == new and one.unsure and "2 notebooks" in one.notes[0]


def test_links_are_not_followed(tmp_path):
    outside = put(tmp_path / "outside" / "secret.ipynb")
    folder = tmp_path / "in"
    (folder / "eve").mkdir(parents=True)
    (folder / "eve" / "ps.ipynb").symlink_to(outside)
    (folder / "mallory.ipynb").symlink_to(outside)
    (folder / "trent").symlink_to(outside.parent)
    found = collect(folder)
    assert [s.student for s in found] == ["eve", "mallory", "trent"]
    assert all(s.file is None and s.unsure and "link" in s.notes[0] for s in found)


def test_archives_and_other_files_are_said(tmp_path):
    put(tmp_path / "a" / "work.zip")
    put(tmp_path / "b" / "work.pdf")
    put(tmp_path / "c.zip")
    a, b, c = collect(tmp_path)
    assert a.file is None and "archive" in a.notes[0] and a.unsure
    assert b.file is None and "no notebook" in b.notes[0] and not b.unsure
    assert c.file is None and "archive" in c.notes[0]


def test_every_file_is_somebody_but_tables_are_not(tmp_path):
    put(tmp_path / "ada_1_2_work.pdf")
    put(tmp_path / "bob.ipynb.txt")
    put(tmp_path / "roster.csv")
    (tmp_path / "carl").mkdir()
    (tmp_path / "graded").mkdir()
    ada, bob, carl = collect(tmp_path, skip=tmp_path / "graded")
    assert (ada.student, ada.file, ada.there) == ("ada", None, True)
    assert "only ada_1_2_work.pdf" in ada.notes[0]
    assert (bob.student, bob.file.name) == ("bob", "bob.ipynb.txt")
    assert (carl.student, carl.file, carl.there) == ("carl", None, False)


def test_odd_files_neither_block_nor_break(tmp_path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    put(tmp_path / "two\nlines" / "ps.ipynb")
    put(tmp_path / os.fsdecode(b"half\xff.ipynb"))
    (tmp_path / "deep").mkdir()
    at = os.open(tmp_path / "deep", os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    found = {s.student: s for s in collect(tmp_path)}
    assert sorted(found) == ["deep", "half?", "pipe", "two lines"]
    assert "too many" in found["deep"].notes[0] and found["deep"].unsure
    assert found["pipe"].file is None and found["half?"].file is not None
    for who in found:
        who.encode()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "nowhere", "does not exist"),
        (lambda p: put(p / "a.ipynb"), "not a folder"),
        (lambda p: put(p / "all.zip"), "unpack"),
        (lambda p: p, "no submissions"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, make, words):
    with pytest.raises(CourseworkError, match=words):
        collect(make(tmp_path))


@pytest.mark.parametrize(
    ("student", "name"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("Zoë O'Brien", "Zoë O_Brien"),
        ("=1+1", "_1_1"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("a" * 300, "a" * 100),
    ],
)
def test_names_of_pages_are_harmless(student, name):
    assert file_name(student) == name


def test_two_students_never_share_a_page():
    taken = {}
    for who in ("a/b", "a:b", "A_b"):
        taken[file_name(who, taken)] = who
    assert list(taken) == ["a_b", "a_b (2)", "A_b (3)"]


def test_a_roster(tmp_path):
    path = tmp_path / "roster.csv"
    rows = [
        {"Student": "    Points Possible", "ID": ""},
        {"Student": "Gauß, Carl", "ID": "7", "Section": "A"},
    ]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["Student", "ID", "Section"])
        writer.writeheader()
        writer.writerows(rows)
    roster = read_roster(path)
    assert list(roster) == ["Gauß, Carl"] and roster["Gauß, Carl"]["ID"] == "7"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Student\nA\nA\n", "twice"),
        ("Name\nA\n", "no column Student"),
        ("", "no column"),
        ("Student\n", "nobody"),
    ],
)
def test_a_roster_that_cannot_be_used(tmp_path, text, words):
    with pytest.raises(CourseworkError, match=words):
        read_roster(put(tmp_path / "roster.csv", text))
    with pytest.raises(CourseworkError, match="cannot be read"):
        read_roster(tmp_path / "nowhere.csv")
