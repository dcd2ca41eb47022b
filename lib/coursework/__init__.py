"""Coursework: what the exercises of every chapter share, and three commands for who assigns them.

``python -m coursework prove SET`` asks whether a set can be graded, ``release SET`` writes the one
file that students get, ``grade SET FOLDER`` grades what they hand in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["practice"]


def practice(
    names: Mapping[str, Any], folder: str | Path = "."
) -> tuple[Callable[[str], None], Callable[[], None]]:
    """The functions ``check(label)`` and ``progress()`` of an exercise page of the book.

    Parameters
    ----------
    names
        The names of the notebook, ``globals()``.
    folder
        Where ``checks_public.py`` and ``checks_hidden.py`` lie.
    """
    from coursework.checks import selfcheck
    from coursework.sets import load_checks

    return selfcheck(load_checks(Path(folder))[0], names, hidden=True)
