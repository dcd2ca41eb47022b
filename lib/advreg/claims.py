"""The claims ledger: every numbered statement of the book, and the test that witnesses it.

``claims.toml`` holds one row per statement.  A *witness* is a pytest function that takes the
fixture ``claim`` and compares what it computed with a bound; each comparison is recorded with
the margin it passed by.  ``python -m advreg.claims`` runs all witnesses and prints the ledger.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

__all__ = [
    "Claim",
    "Comparison",
    "Recorder",
    "answer_problems",
    "find_problems",
    "labels_in",
    "load",
    "read_results",
]

KINDS = ("theorem", "measured", "conjecture")
#: Environments that assert something, and so need a row.
ASSERTING = ("theorem", "lemma", "proposition", "corollary", "observation", "conjecture")
_LABEL = re.compile(
    r"^(?:`{3,}|:{3,})\{prf:(" + "|".join(ASSERTING) + r")\}[^\n]*\n(?::[^\n]*\n)*?:label: *(\S+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Claim:
    """A row of the ledger.

    Attributes
    ----------
    label
        Label of the statement in its notebook, such as ``thm-picard``.
    chapter
        Number of the chapter.
    statement
        One line, with TeX between dollars.
    kind
        ``"theorem"`` (proved), ``"measured"`` (an experiment of this book) or ``"conjecture"``.
    provenance
        Where it comes from: a reference, or whose proof it is.
    witness
        ``path::function`` of the test.
    """

    label: str
    chapter: int
    statement: str
    kind: str
    provenance: str
    witness: str


@dataclass(frozen=True)
class Comparison:
    """One assertion of a witness: ``value`` stood in ``relation`` to ``bound``.

    ``used`` is the fraction of the allowance that was used up: 0 is perfect, 1 is the limit;
    it is ``nan`` where such a fraction has no meaning (a bound of zero or of another sign).
    """

    what: str
    value: float
    relation: str
    bound: float
    used: float


class Recorder:
    """Compares, records, asserts: what the fixture ``claim`` returns for a label.

    Parameters
    ----------
    label
        The ledger label these comparisons belong to.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.comparisons: list[Comparison] = []

    def at_most(self, what: str, value: float, bound: float) -> None:
        """Assert ``value <= bound``."""
        self._record(what, value, "≤", bound, value / bound if bound > 0 <= value else math.nan)
        assert value <= bound, f"{self.label}: {what} is {value:.6g}, more than {bound:.6g}"

    def at_least(self, what: str, value: float, bound: float) -> None:
        """Assert ``value >= bound``."""
        self._record(what, value, "≥", bound, bound / value if value > 0 <= bound else math.nan)
        assert value >= bound, f"{self.label}: {what} is {value:.6g}, less than {bound:.6g}"

    def close(self, what: str, value: float, target: float, tolerance: float) -> None:
        """Assert ``abs(value - target) <= tolerance`` for a positive tolerance."""
        if not tolerance > 0:
            raise ValueError(f"{self.label}: a tolerance must be positive, got {tolerance}")
        gap = abs(value - target)
        self._record(what, value, f"= {target:.6g} ±", tolerance, gap / tolerance)
        assert gap <= tolerance, (
            f"{self.label}: {what} is {value:.6g}, not within {tolerance:.2g} of {target:.6g}"
        )

    def _record(self, what: str, value: float, relation: str, bound: float, used: float) -> None:
        if not (math.isfinite(value) and math.isfinite(bound)):
            raise AssertionError(f"{self.label}: {what} compares {value} with {bound}")
        self.comparisons.append(Comparison(what, float(value), relation, float(bound), float(used)))


def load(path: str | Path = "claims.toml") -> list[Claim]:
    """Read the ledger.

    Parameters
    ----------
    path
        The TOML file with one ``[[claim]]`` table per row.

    Returns
    -------
    list of Claim
        In the order of the file.

    Raises
    ------
    ValueError
        If a row lacks a field, has an unknown one or an unknown kind, or repeats a label.
    """
    rows = tomllib.loads(Path(path).read_text(encoding="utf8")).get("claim", [])
    names = {f.name for f in fields(Claim)}
    claims: list[Claim] = []
    for i, row in enumerate(rows, 1):
        who = f"{path}: row {i} ({row.get('label', 'no label')})"
        if set(row) != names:
            raise ValueError(f"{who} needs exactly the fields {sorted(names)}, got {sorted(row)}")
        if row["kind"] not in KINDS:
            raise ValueError(f"{who} has kind {row['kind']!r}; accepted are {', '.join(KINDS)}")
        if any(c.label == row["label"] for c in claims):
            raise ValueError(f"{who} repeats a label")
        claims.append(Claim(**row))
    return claims


def labels_in(text: str) -> dict[str, str]:
    """Label -> environment of every asserting statement in the Markdown of a page.

    Definitions, remarks and examples assert nothing and are left out.
    """
    return {label: kind for kind, label in _LABEL.findall(text)}


def page_text(path: Path) -> str:
    """The Markdown of a page: of its Markdown cells if it is a notebook."""
    text = path.read_text(encoding="utf8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def read_results(path: str | Path = "_build/claims.json") -> dict[str, dict[str, Any]]:
    """Results of the last run: label -> outcome, witness and comparisons; empty if none."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}


def find_problems(
    claims: Iterable[Claim], pages: Iterable[Path], root: Path = Path(".")
) -> list[str]:
    """What is wrong between the ledger, the pages and the tests, one sentence each.

    A labelled statement without a row, a row without a statement, a witness that does not
    exist: each is named.  Whether witnesses *pass* is decided by running them.
    """
    problems: list[str] = []
    rows = {c.label: c for c in claims}
    seen: dict[str, str] = {}
    for page in pages:
        for label in labels_in(page_text(page)):
            if label not in rows:
                problems.append(f"{page.name}: {label} has no row in the ledger")
            seen[label] = page.name
    for label, row in rows.items():
        if label not in seen:
            problems.append(f"ledger: {label} is the label of no statement")
        file, _, function = row.witness.partition("::")
        source = (root / file).read_text(encoding="utf8") if (root / file).is_file() else ""
        if not re.search(rf"^def {re.escape(function)}\(", source, re.MULTILINE):
            problems.append(f"ledger: the witness of {label}, {row.witness}, does not exist")
    return problems


def answer_problems(answer: dict[str, Any], claims: Iterable[Claim]) -> list[str]:
    """What is wrong with ``answer.toml``, in words: no answer may stand without a statement.

    Parameters
    ----------
    answer
        The parsed table: `verdict` maps keys to words, `group` lists groups with a `title`, an
        `intro` and rows with `model`, `adversary`, `verdict`, `answer` and `because` (labels).
    claims
        The ledger.

    Returns
    -------
    list of str
        One sentence per problem: an unknown label or verdict, a row without a statement or with
        another set of entries, a verdict that no row uses.
    """
    known = {c.label for c in claims}
    entries = {"model", "adversary", "verdict", "answer", "because"}
    problems, used = [], set()
    for group in answer.get("group", []):
        for row in group.get("row", []):
            name = f"{group.get('title')}, {row.get('model')}"
            if set(row) != entries:
                problems.append(f"{name}: a row has the entries {sorted(entries)}")
                continue
            used.add(row["verdict"])
            if row["verdict"] not in answer.get("verdict", {}):
                problems.append(f"{name}: the verdict {row['verdict']!r} is not in the table")
            if not row["because"]:
                problems.append(f"{name}: no statement is named")
            problems += [
                f"{name}: {label} is not in the ledger"
                for label in row["because"]
                if label not in known
            ]
    unused = [v for v in answer.get("verdict", {}) if v not in used]
    return problems + [f"no row has the verdict {v!r}" for v in unused]


def missing_results(claims: Iterable[Claim], results: dict[str, dict[str, Any]]) -> list[str]:
    """Rows whose witness did not run, did not pass, or asserted nothing, one sentence each."""
    problems = []
    for c in claims:
        result = results.get(c.label)
        if result is None:
            problems.append(f"{c.label}: its witness recorded nothing (run `make claims`)")
        elif result["outcome"] != "passed":
            problems.append(f"{c.label}: its witness {c.witness} {result['outcome']}")
        elif result["witness"] != c.witness:
            problems.append(f"{c.label}: witnessed by {result['witness']}, not by {c.witness}")
    return problems


def main(argv: list[str] | None = None) -> int:
    """Run every witness of the ledger; exit code 0 only if each row has a passing one."""
    parser = argparse.ArgumentParser(prog="python -m advreg.claims", description=main.__doc__)
    parser.add_argument("--ledger", default="claims.toml", help="default: %(default)s")
    args = parser.parse_args(argv)
    if not Path(args.ledger).is_file():
        print(f"no ledger at {args.ledger}: run this in the root of the repository")
        return 2
    claims = load(args.ledger)
    witnesses = sorted({c.witness.partition("::")[0] for c in claims})
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "load", *witnesses]
    code = subprocess.run(command, check=False).returncode
    results = read_results()
    for c in claims:
        for check in results.get(c.label, {}).get("comparisons", []):
            print(f"{c.label}: {describe(check)}")
    problems = missing_results(claims, results)
    print("\n".join(problems) or f"{len(claims)} claims, each with a passing witness")
    return 1 if problems or code else 0


def describe(check: dict[str, Any]) -> str:
    """A recorded comparison in words, such as ``largest error: 3e-12 ≤ 1e-10 (3 %)``."""
    text = f"{check['what']}: {check['value']:.3g} {check['relation']} {check['bound']:.3g}"
    used = check["used"]
    return text if used is None or math.isnan(used) else f"{text} ({100 * used:.0f} %)"


if __name__ == "__main__":
    raise SystemExit(main())
