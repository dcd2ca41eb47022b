"""The ledger holds every statement, and its machinery notices what is missing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from advreg import claims

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]
ROW = {
    "label": "thm-a", "chapter": 1, "statement": "a", "kind": "theorem", "provenance": "p",
    "witness": "tests/claims/test_a.py::test_a",
}  # fmt: skip


def toml(*rows: dict) -> str:
    return "".join(
        "[[claim]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in row.items()) for row in rows
    )


def test_every_statement_of_the_book_has_a_row_and_a_witness_and_vice_versa():
    pages = sorted((ROOT / "chapters").rglob("*.ipynb")) + sorted((ROOT / "chapters").rglob("*.md"))
    rows = claims.load(ROOT / "claims.toml")
    assert rows
    assert claims.find_problems(rows, pages, ROOT) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROW | {"kind": "lemma"}], "kind 'lemma'"),
        ([{k: v for k, v in ROW.items() if k != "witness"}], "exactly the fields"),
        ([ROW | {"extra": 1}], "exactly the fields"),
        ([ROW, ROW], "repeats a label"),
    ],
)
def test_a_malformed_ledger_is_refused(tmp_path, rows, words):
    (tmp_path / "claims.toml").write_text(toml(*rows))
    with pytest.raises(ValueError, match=words):
        claims.load(tmp_path / "claims.toml")


def test_labels_are_found_in_both_fences_and_definitions_are_not():
    text = (
        "```{prf:theorem} Title $a$\n:label: thm-a\nx\n```\n"
        ":::{prf:lemma}\n:class: tip\n:label: lem-b\n:::\n"
        "````{prf:observation} Measured\n:label: obs-c\n````\n"
        "```{prf:definition}\n:label: def-d\n```\n"
    )
    assert claims.labels_in(text) == {
        "thm-a": "theorem", "lem-b": "lemma", "obs-c": "observation"
    }  # fmt: skip


def test_each_gap_between_page_ledger_and_tests_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```{prf:theorem}\n:label: thm-b\n```\n")
    problems = claims.find_problems([claims.Claim(**ROW)], [page], tmp_path)
    assert problems == [
        "page.md: thm-b has no row in the ledger",
        "ledger: thm-a is the label of no statement",
        "ledger: the witness of thm-a, tests/claims/test_a.py::test_a, does not exist",
    ]


def test_every_answer_rests_on_statements_of_the_ledger():
    answer = tomllib.loads((ROOT / "answer.toml").read_text(encoding="utf8"))
    assert claims.answer_problems(answer, claims.load(ROOT / "claims.toml")) == []


def test_each_gap_between_answer_and_ledger_is_named():
    row = {"model": "m", "adversary": "a", "verdict": "no", "answer": "x", "because": ["thm-b"]}
    rows = [row, {**row, "verdict": "maybe", "because": []}, {"model": "short"}]
    answer = {"verdict": {"no": "No", "yes": "Yes"}, "group": [{"title": "t", "row": rows}]}
    assert claims.answer_problems(answer, [claims.Claim(**ROW)]) == [
        "t, m: thm-b is not in the ledger",
        "t, m: the verdict 'maybe' is not in the table",
        "t, m: no statement is named",
        "t, short: a row has the entries ['adversary', 'answer', 'because', 'model', 'verdict']",
        "no row has the verdict 'yes'",
    ]


def test_rows_without_a_passing_witness_are_named():
    row = claims.Claim(**ROW)
    good = {"outcome": "passed", "witness": row.witness, "comparisons": [{}]}
    assert claims.missing_results([row], {"thm-a": good}) == []
    for result, word in [
        ({}, "recorded nothing"),
        ({"thm-a": good | {"outcome": "failed"}}, "failed"),
        ({"thm-a": good | {"witness": "elsewhere"}}, "not by"),
    ]:
        assert word in claims.missing_results([row], result)[0]


def test_recorder_asserts_and_records():
    r = claims.Recorder("thm-a")
    r.at_most("error", 1.0, 2.0)
    r.at_least("gain", 4.0, 1.0)
    r.close("slope", 0.51, 0.5, 0.1)
    assert [c.used for c in r.comparisons] == pytest.approx([0.5, 0.25, 0.1])
    for call in (
        lambda: r.at_most("error", 3.0, 2.0),
        lambda: r.at_least("gain", 0.5, 1.0),
        lambda: r.close("slope", 0.7, 0.5, 0.1),
        lambda: r.at_most("error", float("nan"), 2.0),
    ):
        with pytest.raises(AssertionError, match="thm-a"):
            call()
    with pytest.raises(ValueError, match="tolerance"):
        r.close("slope", 1.0, 1.0, 0.0)


def test_a_witness_that_asserts_nothing_fails_and_margins_are_kept(pytester):
    pytester.makeconftest((ROOT / "conftest.py").read_text())
    pytester.makepyfile(
        """
        def test_sound(claim):
            claim("thm-a").at_most("error", 1.0, 2.0)

        def test_vacuous(claim):
            pass

        def test_empty_recorder(claim):
            claim("thm-b")

        def test_wrong(claim):
            claim("thm-c").at_most("error", 3.0, 2.0)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1, errors=2)
    assert result.stdout.str().count("this witness asserts nothing") >= 2
    results = json.loads((pytester.path / "_build/claims.json").read_text())
    assert results["thm-a"]["outcome"] == "passed"
    assert results["thm-a"]["comparisons"][0]["used"] == 0.5
    assert results["thm-c"]["outcome"] == "failed"
    assert "thm-b" not in results or results["thm-b"]["outcome"] == "failed"


def test_the_command_says_where_it_wants_to_be_run(tmp_path, capsys):
    assert claims.main(["--ledger", str(tmp_path / "none.toml")]) == 2
    assert "root of the repository" in capsys.readouterr().out
