"""Honest comparisons: ours and a peer on the same work, in turns, in one run.

Absolute times say little on a shared machine, so what is printed at the end is the ratio of
the medians.  Both sides are timed by CPU seconds of this process (what starts others, by a clock
on the wall), one thread each (the Makefile sets ``OMP_NUM_THREADS=1``), and take turns, so that a
slow spell hits both.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Row:
    """One line of the table: medians in seconds, and the ratio that was aimed at."""

    name: str
    peer_name: str
    ours: float
    peer: float
    rounds: int
    goal: float | None

    @property
    def ratio(self) -> float:
        return self.peer / self.ours


_ROWS = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[_ROWS] = []


def pytest_collect_file(file_path, parent):
    """Collect bench_*.py when the folder is named; a file named by hand pytest takes itself."""
    if file_path.match("bench_*.py") and not parent.session.isinitpath(file_path):
        return pytest.Module.from_parent(parent, path=file_path)
    return None


@pytest.fixture
def compare(benchmark, request):
    """Return ``compare(name, ours, peer_name, peer, goal=None, rounds=9, clock=process_time)``.

    `ours` and `peer` are functions without arguments that do the same work; that they give
    the same answer is for the test to assert.  Each is called once to warm up.  One round is
    one timing of the peer followed by one of ours, each repeated until it lasts 5 ms.  `goal`
    is the ratio peer / ours aimed at: it is shown beside the ratio, and asserts nothing.  Work
    that is done in other processes needs a `clock` on the wall, ``time.perf_counter``.
    """

    def measure(
        name: str,
        ours: Callable[[], object],
        peer_name: str,
        peer: Callable[[], object],
        goal: float | None = None,
        rounds: int = 9,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        our_work, our_repeats = _repeated(ours, clock)
        peer_work, peer_repeats = _repeated(peer, clock)
        peer_times = []

        def time_peer():
            start = clock()
            peer_work()
            peer_times.append((clock() - start) / peer_repeats)

        benchmark._timer = clock
        benchmark.pedantic(our_work, setup=time_peer, rounds=rounds, iterations=1)
        if benchmark.stats is None:  # --benchmark-disable: everything ran, nothing was timed
            return
        our_median = statistics.median(benchmark.stats.stats.data) / our_repeats
        row = Row(name, peer_name, our_median, statistics.median(peer_times), rounds, goal)
        benchmark.extra_info.update(peer=peer_name, ratio=row.ratio, repeats=our_repeats)
        request.config.stash[_ROWS].append(row)

    return measure


def _repeated(
    work: Callable[[], object], clock: Callable[[], float]
) -> tuple[Callable[[], None], int]:
    """Return a function that repeats `work` for about 5 ms, and the number of repeats."""

    def once() -> float:
        start = clock()
        work()
        return clock() - start

    # the first call warms up caches and imports; work of seconds needs no second look
    lasts = once()
    if lasts < 0.5:
        lasts = once()
    repeats = max(1, math.ceil(0.005 / max(lasts, 1e-6)))

    def repeat() -> None:
        for _ in range(repeats):
            work()

    return repeat, repeats


def _seconds(value: float) -> str:
    for unit, size in (("s ", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("ratios: time of the peer / ours, medians of interleaved rounds")
    width = max(len(row.name) for row in rows)
    peer_width = max(len(row.peer_name) for row in rows)
    for row in rows:
        goal = "" if row.goal is None else f"  goal {row.goal:g}x"
        missed = " MISSED" if row.goal is not None and row.ratio < row.goal else ""
        terminalreporter.write_line(
            f"{row.name:<{width}}  {_seconds(row.ours):>8}   {row.peer_name:<{peer_width}}  "
            f"{_seconds(row.peer):>8}   {row.ratio:8.1f}x  ({row.rounds} rounds){goal}{missed}"
        )
