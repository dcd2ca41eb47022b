"""What every test run shares: the ledger's recorder, a time limit per notebook, the sandbox."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from advreg.claims import Recorder
from coursework import sandbox

# Threads do not help arrays of this size, and contended threads slow small networks tenfold.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# The same cases on every run, however busy the machine is.
hypothesis.settings.register_profile("book", deadline=None, derandomize=True)
hypothesis.settings.load_profile("book")

ROOT = Path(__file__).parent
RESULTS = ROOT / "_build" / "claims.json"
NOTEBOOK_LIMIT = 300.0  # seconds; the budget is 30, the rest is for slow and busy machines

_recorded: dict[str, dict] = {}
_spent: dict[Path, float] = defaultdict(float)


@pytest.fixture
def claim(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Recorder]]:
    """``claim(label)`` returns the recorder of a ledger row; recording nothing is a failure."""
    recorders: dict[str, Recorder] = {}

    def recorder(label: str) -> Recorder:
        return recorders.setdefault(label, Recorder(label))

    yield recorder
    request.node.user_properties.append(
        (
            "claims",
            {k: [dataclasses.asdict(c) for c in r.comparisons] for k, r in recorders.items()},
        )
    )
    empty = [label for label, r in recorders.items() if not r.comparisons]
    if empty or not recorders:
        pytest.fail(f"this witness asserts nothing for {', '.join(empty) or 'any claim'}")


@pytest.fixture(scope="session")
def wall() -> None:
    """There is a sandbox.  CI fails without one; a reader without bubblewrap is told and skips."""
    if reason := sandbox.problem():
        if os.environ.get("CI") or "cannot be found" not in reason:
            pytest.fail(reason)
        pytest.skip(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect margins (on the controller when tests run in parallel)."""
    node = report.nodeid.partition("[")[0]
    if report.failed:
        _recorded.setdefault(node, {"outcome": "failed", "claims": {}})["outcome"] = "failed"
    for key, value in report.user_properties if report.when == "teardown" else ():
        if key == "claims":
            entry = _recorded.setdefault(node, {"outcome": "passed", "claims": {}})
            for label, comparisons in value.items():
                entry["claims"].setdefault(label, []).extend(comparisons)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Merge this run's margins into the results that the ledger page shows."""
    if hasattr(session.config, "workerinput"):
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results = {k: r for k, r in results.items() if r["witness"] not in _recorded}
    for node, entry in _recorded.items():
        for label, comparisons in entry["claims"].items():
            results[label] = {
                "outcome": entry["outcome"],
                "witness": node,
                "comparisons": comparisons,
            }
    if _recorded:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a notebook that has used up its time, with a sentence that says so."""
    if item.path.suffix == ".ipynb" and _spent[item.path] > NOTEBOOK_LIMIT:
        pytest.fail(
            f"{item.path.name} has run for {_spent[item.path]:.0f} s; a notebook may take "
            f"{NOTEBOOK_LIMIT:.0f} s (its budget is 30 s on two cores)",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Add up the time of a notebook's cells."""
    start = time.perf_counter()
    try:
        return (yield)
    finally:
        if item.path.suffix == ".ipynb":
            _spent[item.path] += time.perf_counter() - start
