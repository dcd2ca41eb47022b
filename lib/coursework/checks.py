"""The engine of the self-checks: properties, known mistakes, one sentence for each.

A chapter's ``exercises/checks.py`` makes one :class:`Check` per exercise and registers properties
and mistakes with it; ``tell(check(answer))`` prints what it found.  Properties are tested against
oracles that do not use the formula asked for.  Every known mistake is a function that computes the
wrong answer, with the sentence that names it: if an answer fails and a known mistake reproduces it,
the reader gets that sentence.  Nothing that an answer does ends in a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

__all__ = [
    "Check",
    "NotYet",
    "answers",
    "close",
    "described",
    "number_rows",
    "numbers",
    "right_step",
    "tell",
]


class NotYet(Exception):
    """The answer misses a property; the text is what the reader sees."""


class Check:
    """Properties of one exercise and the mistakes it knows.

    Calling it with a function (and further answers, if the exercise asks for them) returns a list
    of sentences, one per property, each beginning with ``ok: `` or ``not yet: ``.
    """

    def __init__(self, rtol: float = 1e-6) -> None:
        self.rtol = rtol  # how closely a known mistake must reproduce an answer
        self.properties: list[tuple[str, Callable]] = []
        self.mistakes: list[tuple[str, Callable]] = []

    def property(self, title: str) -> Callable:
        """Register ``test(ask, *further_answers)``, which raises NotYet."""
        return lambda test: self.properties.append((title, test)) or test

    def mistake(self, sentence: str) -> Callable:
        """Register a function that computes a known wrong answer."""
        return lambda wrong: self.mistakes.append((sentence, wrong)) or wrong

    def __call__(self, answer: Any, *further: Any) -> list[str]:
        sentences = []
        for title, test in self.properties:
            asked: list[tuple[tuple, Any]] = []
            try:
                with np.errstate(all="ignore"):  # absurd answers overflow; a sentence says so
                    test(lambda *args, log=asked: self._ask(answer, args, log), *further)
                sentences.append(f"ok: {title}")
            except NotYet as reason:
                known = self._diagnose(asked)
                sentences.append(f"not yet: {title}. {f'{known}.' if known else reason}")
        return sentences

    @staticmethod
    def _ask(answer: Any, args: tuple, log: list) -> Any:
        if not callable(answer):
            raise NotYet(f"Give the function itself, not {described(answer)}.")
        try:
            out = answer(*(np.copy(a) if isinstance(a, np.ndarray) else a for a in args))
        except NotImplementedError:
            raise NotYet("The function is not written yet.") from None
        except (Exception, SystemExit) as error:  # whatever the reader's code does: a sentence
            text = f"{type(error).__name__}: {error}".strip(": ")
            raise NotYet(f"Your function stopped with {text}.") from None
        log.append((args, out))
        return out

    def _diagnose(self, asked: list[tuple[tuple, Any]]) -> str | None:
        """The first known mistake that reproduces every answer given."""
        for sentence, wrong in self.mistakes:
            try:
                with np.errstate(all="ignore"):
                    pairs = [(np.asarray(out), np.asarray(wrong(*a))) for a, out in asked]
            except Exception:  # the answer is not numeric, or the mistake has none here
                continue
            if pairs and all(
                got.dtype.kind in "fiu"
                and got.shape == w.shape
                and np.allclose(got, w, rtol=self.rtol, atol=1e-12, equal_nan=True)
                for got, w in pairs
            ):
                return sentence
        return None


def tell(sentences: Iterable[str]) -> None:
    """Print the sentences of a check."""
    print("\n".join(sentences), "These checks are necessary, not sufficient.", sep="\n")


def numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The answer as a finite real array of the given shape, or NotYet."""
    try:
        array = np.asarray(value)
    except Exception:
        raise NotYet(f"Numbers are expected, but the answer is {described(value)}.") from None
    if array.dtype.kind not in "fiu":
        raise NotYet(f"Real numbers are expected, but the answer is {described(value)}.")
    if array.shape != shape:
        wanted = f"an array of shape {shape}" if shape else "one number"
        raise NotYet(f"The answer should be {wanted}, but it has shape {array.shape}.")
    if not np.isfinite(array).all():
        raise NotYet("The answer contains NaN or infinity.")
    return array.astype(np.float64)


def number_rows(value: Any, width: int, limit: float) -> np.ndarray:
    """The answer as 1 to 20 rows of `width` numbers of size at most `limit`, or NotYet."""
    try:
        count = len(value)
    except TypeError:
        raise NotYet(f"The answer should be an array with rows of {width} numbers.") from None
    array = numbers(value, (count, width))
    if not 1 <= count <= 20:
        raise NotYet("Between 1 and 20 rows, please.")
    if np.abs(array).max() > limit:
        raise NotYet(f"All numbers should be between -{limit:g} and {limit:g}.")
    return array


def close(got: Any, want: np.ndarray | float, what: str, rtol: float = 1e-6) -> None:
    """NotYet unless `got` agrees with `want`, in units of the largest entry of `want`."""
    want = np.asarray(want, float)
    got = numbers(got, want.shape)
    scale = np.abs(want).max() or 1.0
    error = np.abs(got - want).max() / scale
    if error > rtol:
        raise NotYet(f"{what}: off by {error:.1e} relative to the largest entry.")


def described(value: Any) -> str:
    """What an answer is, for a sentence that says what it should be."""
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"of type {type(value).__name__}"


def answers(ask: Callable, cases: Iterable[tuple]) -> list[tuple[tuple, Any]]:
    """Ask everything before judging anything: the more answers, the surer the diagnosis."""
    return [(case, ask(*case)) for case in cases]


def right_step(step: Any, right: int, why: dict[int, str]) -> None:
    """NotYet unless `step` is the false step of a broken proof; `why` says why others are right."""
    last = max(right, *why)
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not 1 <= step <= last:
        raise NotYet(f"Give the number of a step, 1 to {last}; got {step!r}.")
    if step != right:
        raise NotYet(why[int(step)])
