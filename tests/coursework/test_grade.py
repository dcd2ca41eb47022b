"""The bank: every submission, honest, damaged or hostile, gets what a fair grader gives."""

from __future__ import annotations

import json
import time

import pytest
from bank import BANK, QUICK, notebook, rows, small_set, submission
from measure import SEED, TABLE, as_expected, bounds, described, graded

from coursework import grade as grading
from coursework.checks import Check, StudentError
from coursework.grade import Result, grade, zero
from coursework.sandbox import Limits

pytestmark = pytest.mark.usefixtures("wall")

ROWS = rows()
STORED = json.loads(TABLE.read_text(encoding="utf8"))
FULL = 11


def grade_notebook(page: dict, **how: object) -> Result:
    return grade(json.dumps(page).encode(), small_set(), seed=SEED, **how)


def message(result: Result) -> str:
    return "\n".join(one.message for one in result.checks)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['kind']}-{row['name']}" for row in ROWS])
@pytest.mark.usefixtures("namespaces")
def test_the_bank(row: dict) -> None:
    started = time.monotonic()
    result = graded(row)
    assert as_expected(row, result.score, result.status), (
        result.score,
        result.status,
        result.notes,
        message(result),
    )
    least, most = bounds(row)
    if least == most:
        kept = {(one["kind"], one["name"]): one["measured"] for one in STORED["rows"]}
        assert kept[row["kind"], row["name"]] == result.score
    assert all(one.status != "grader-error" for one in result.checks)
    assert result.memory_mb < 3 * Limits().memory_mb or row["name"] == "fork_bomb"
    assert time.monotonic() - started < 100
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_the_bank_is_whole() -> None:
    names = {(row["kind"], row["name"]) for row in ROWS}
    assert len(names) == len(ROWS) >= 60
    for kind in ("honest", "hostile"):
        assert {n for k, n in names if k == kind} == {f.stem for f in (BANK / kind).glob("*.*")}
    assert len({row["what"] for row in ROWS}) == len(ROWS)


def test_the_table_in_the_book_is_that_of_the_bank() -> None:
    keys = ("kind", "name", "what", "right")
    told = [{key: one[key] for key in keys} for one in STORED["rows"]]
    assert told == [described(row) for row in ROWS]
    for row, one in zip(ROWS, STORED["rows"], strict=True):
        assert as_expected(row, one["measured"], one["status"]), one
    assert (STORED["set"], STORED["points"], STORED["seed"]) == (small_set().name, FULL, SEED)


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_the_solutions_get_full_marks_and_the_release_none(seed: int) -> None:
    assert grade(json.dumps(notebook(solved=True)).encode(), small_set(), seed=seed).score == FULL
    blank = grade(json.dumps(notebook()).encode(), small_set(), seed=seed)
    assert blank.score == 0
    assert {one.status for one in blank.checks} == {"todo"}
    assert blank.notes == []


def test_a_known_mistake_is_named() -> None:
    source = (BANK / "honest" / "known_mistake.py").read_text()
    result = grade_notebook(notebook(source))
    assert {one.mistake for one in result.checks if one.status == "failed"} == {"squares_alpha"}


def test_the_same_seed_gives_the_same_result() -> None:
    page = notebook((BANK / "honest" / "known_mistake.py").read_text())
    first, second = (grade_notebook(page) for _ in range(2))
    assert first.checks == second.checks
    assert first.sha256 == second.sha256
    assert first.versions["coursework"] == small_set().digest


def test_markup_in_an_error_stays_text() -> None:
    row = next(row for row in ROWS if row["name"] == "html")
    result = grade(submission(row), small_set(), seed=SEED, limits=QUICK)
    assert "<script>" in message(result)  # the report escapes it; it is cut here
    assert all(len(one.message) < 700 for one in result.checks)


def test_the_time_of_a_submission_ends() -> None:
    loops = "def tikhonov_solve(A, y, alpha):\n    while True: pass\n"
    limits = Limits(call_seconds=1, total_seconds=2, grace_seconds=0.2)
    result = grade_notebook(notebook("import time\ntime.sleep(2.5)", loops), limits=limits)
    assert result.score == 0
    assert "2 seconds of this submission were used up" in message(result) + str(result.notes)
    assert result.seconds < 8


def test_a_notebook_that_dies_all_the_time_ends() -> None:
    cells = ["import os\nos._exit(1)"] * 12
    result = grade_notebook(notebook(*cells, solved=True), limits=Limits(restarts=3))
    assert result.score == 0
    assert "too often" in message(result)


def test_a_function_gets_a_second_chance_and_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    call = grading.Sandbox.call

    def counted(self: grading.Sandbox, name: str, *rest: object) -> object:
        asked.append(name)
        return call(self, name, *rest)

    monkeypatch.setattr(grading.Sandbox, "call", counted)
    exits = "import os\ndef tikhonov_solve(A, y, alpha):\n    os._exit(1)\n"
    assert grade_notebook(notebook(exits, solved=True)).score == 6
    assert asked.count("tikhonov_solve") == grading.KILLS


def test_a_broken_check_is_the_graders_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check("ex-small-fosc", "fosc_linf")
    check.property("broken")(lambda ask: 1 / 0)
    monkeypatch.setattr(type(small_set()), "checks", property(lambda self: [check]))
    result = grade_notebook(notebook(solved=True))
    assert result.status == "review"
    assert result.checks[0].status == "grader-error"


def test_properties_that_look_at_more_than_numbers_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = Check("ex-small-fosc", "fosc_linf")
    check.property("local", local=True)(lambda ask: 1 / 0)
    monkeypatch.setattr(type(small_set()), "checks", property(lambda self: [check]))
    assert grade_notebook(notebook()).checks == []
    assert zero(small_set(), "missing", []).checks == []


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "problem", lambda: "there is no sandbox")
    monkeypatch.setattr(grading, "Sandbox", None)
    with pytest.raises(RuntimeError, match="no sandbox"):
        grade_notebook(notebook(solved=True))


def test_zero_has_every_exercise() -> None:
    result = zero(small_set(), "missing", ["Nothing was handed in."], seed=3)
    assert [one.points for one in result.checks] == [2, 2, 1, 2, 2, 1, 1]
    assert {one.status for one in result.checks} == {"not run"}
    assert result.written == {"ex-small-proof": None}
    assert (result.score, result.status, result.seed) == (0, "missing", 3)


# ---------------------------------------------------------------------------- in words

TEXT = "By Hölder's inequality, with equality at a corner."


def proof(page: dict) -> int:
    """The place of the cell for the proof."""
    marks = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in page["cells"]]
    return marks.index("ex-small-proof-written")


def written(page: dict) -> str | None:
    return grade_notebook(page).written["ex-small-proof"]


def text_cell(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def test_answers_in_words_are_found() -> None:
    page = notebook()
    assert written(page) == ""
    page["cells"][proof(page)]["source"] = TEXT
    assert written(page) == TEXT
    page["cells"].reverse()
    assert written(page) == TEXT
    for cell in page["cells"]:
        cell["metadata"] = {}
    page["cells"].reverse()
    assert written(page) == TEXT  # by its heading


def test_answers_in_words_beside_their_cell_are_found() -> None:
    page = notebook()
    page["cells"].insert(proof(page) + 1, text_cell(TEXT))
    assert written(page) == TEXT
    page["cells"].insert(proof(page) + 2, text_cell("And so on."))
    assert written(page) == f"{TEXT}\n\nAnd so on."
    page["cells"].insert(proof(page) + 2, text_cell("## Something else"))
    assert written(page) == TEXT


def test_a_copied_cell_loses_no_words() -> None:
    page = notebook()
    copied = {**page["cells"][proof(page)], "source": TEXT}
    page["cells"].append(copied)
    assert written(page) == TEXT


def test_answers_in_words_that_are_lost_are_marked_so() -> None:
    page = notebook()
    del page["cells"][proof(page)]
    assert written(page) is None
    assert grade_notebook({"cells": [text_cell("x")]}).written == {"ex-small-proof": None}


def test_a_remote_error_is_a_sentence() -> None:
    remote = grading.Remote([], small_set(), Limits(restarts=-1))
    with pytest.raises(StudentError, match="too often"):
        remote.call("fosc_linf", ())
