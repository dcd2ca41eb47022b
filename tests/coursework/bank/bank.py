"""The bank of submissions: how each is made, and what is left of it afterwards."""

from __future__ import annotations

import copy
import json
import os
import time
import tomllib
from functools import cache
from pathlib import Path

import damaged
import psutil

from coursework.release import release
from coursework.sandbox import Limits
from coursework.sets import Set, find

BANK = Path(__file__).parent

QUICK = Limits(
    cell_seconds=1.5, call_seconds=0.7, total_seconds=30, grace_seconds=0.3, memory_mb=400
)


@cache
def small_set() -> Set:
    """The set that the bank answers."""
    return find("ch90", BANK / "chapters")


@cache
def _release() -> str:
    return json.dumps(release(small_set()))


def notebook(*sources: str, solved: bool = False) -> dict:
    """What was handed out, with right answers in it if `solved`, and with further cells."""
    page = json.loads(_release())
    if solved:
        for exercise in small_set().exercises:
            if exercise.check is not None:
                cell = next(c for c in page["cells"] if _is_stub(c, exercise.check.function))
                cell["source"] = exercise.solution
    blank = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    page["cells"] += [{**blank, "source": source} for source in sources]
    return page


def _is_stub(cell: dict, function: str) -> bool:
    source = "".join(cell["source"])
    return cell["cell_type"] == "code" and f"def {function}(" in source


def submission(row: dict) -> bytes:
    """The bytes of one submission of the bank."""
    if row["kind"] == "damaged":
        return damaged.WAYS[row["name"]](copy.deepcopy(notebook(solved=True)))
    source = next((BANK / row["kind"]).glob(f"{row['name']}.*")).read_text()
    page = notebook(*source.split("\n# %%\n"), solved=row.get("solved", False))
    return json.dumps(page).encode()


def rows() -> list[dict]:
    """The table of the bank."""
    return tomllib.loads((BANK / "expected.toml").read_text())["submission"]


class Namespaces:
    """The process namespaces of sandboxes; holding them open keeps their names unique."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def hold(self, pid: int) -> None:
        """Remember the namespaces of all processes below this one."""
        for one in psutil.Process(pid).children(recursive=True):
            if (name := _namespace(one.pid)) not in ("", _namespace(os.getpid()), *self.held):
                self.held[name] = os.open(f"/proc/{one.pid}/ns/pid", os.O_RDONLY)

    def survivors(self) -> list[int]:
        """Processes that still live in one of them, after three seconds at most."""
        found: list[int] = []
        for _ in range(30):
            found = [pid for pid in psutil.pids() if _namespace(pid) in self.held]
            if not found:
                break
            time.sleep(0.1)
        return found

    def close(self) -> None:
        """Let go of them."""
        for file in self.held.values():
            os.close(file)


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
