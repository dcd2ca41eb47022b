"""Grade the bank of submissions and keep what came out, for the table in the book.

``python tests/coursework/bank/measure.py`` writes ``chapters/appendix/bank.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bank import QUICK, rows, small_set, submission
from tqdm import tqdm

from coursework.grade import Result, grade
from coursework.sandbox import Limits, problem

TABLE = Path(__file__).parents[3] / "chapters" / "appendix" / "bank.json"
SEED = 7


def graded(row: dict) -> Result:
    """What the grader gives to one submission."""
    limits = QUICK if row.get("quick") else Limits()
    return grade(submission(row), small_set(), seed=SEED, limits=limits)


def bounds(row: dict) -> tuple[int, int]:
    """The least and the most that a fair grader gives."""
    least, most = row["score"] if isinstance(row["score"], list) else [row["score"]] * 2
    return least, most


def right(row: dict) -> str:
    """The same in words."""
    least, most = bounds(row)
    return str(least) if least == most else f"{least} to {most}"


def as_expected(row: dict, score: int, status: str) -> bool:
    """Whether a fair grader gives this."""
    least, most = bounds(row)
    return least <= score <= most and status == row["status"]


def described(row: dict) -> dict[str, str]:
    """What the table says of a submission before it is graded."""
    return {**{key: row[key] for key in ("kind", "name", "what")}, "right": right(row)}


def main() -> int:
    """Grade everything, write the table, and name what is not as expected."""
    if reason := problem():
        print(reason, file=sys.stderr)
        return 1
    measured, wrong = [], []
    for row in tqdm(rows(), unit="submission"):
        result = graded(row)
        measured.append({**described(row), "measured": result.score, "status": result.status})
        if not as_expected(row, result.score, result.status):
            wrong.append(f"{row['kind']} {row['name']}: {result.score}, {result.status}")
    table = {
        "set": small_set().name,
        "points": sum(check.points for check in small_set().checks),
        "seed": SEED,
        "rows": measured,
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf8")
    print("\n".join(["Not as expected:", *wrong]) if wrong else "Everything is as expected.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
