"""What the tests of the grader share: the wall, and a look at what survives behind it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coursework import sandbox
from coursework.sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parent / "bank"))
from bank import Namespaces

collect_ignore_glob = ["bank/*"]


@pytest.fixture(scope="session")
def wall() -> None:
    """There is a sandbox.  CI fails without one; a reader without bubblewrap is told and skips."""
    if reason := sandbox.problem():
        if os.environ.get("CI") or "cannot be found" not in reason:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def namespaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespaces]:
    """All sandboxes that a test starts; at its end no process of theirs may live."""
    seen = Namespaces()
    start = Sandbox.start

    def recorded(self: Sandbox) -> None:
        start(self)
        seen.hold(self.pid)

    monkeypatch.setattr(Sandbox, "start", recorded)
    yield seen
    found = seen.survivors()
    seen.close()
    assert found == []
