"""The one exception that a command turns into a sentence and an exit code."""

from __future__ import annotations

__all__ = ["CourseworkError"]


class CourseworkError(Exception):
    """Something that was given cannot be used; the text says what, and what can."""
