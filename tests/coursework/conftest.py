"""What the tests of the grader share: a look at what survives behind the wall."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coursework.sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parent / "bank"))
from bank import Namespaces

collect_ignore_glob = ["bank/*"]


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
