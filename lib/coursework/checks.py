"""The engine of the checks: properties, known mistakes, one sentence for each.

A chapter's ``exercises/checks_public.py`` makes one :class:`Check` per exercise and registers with
it the properties that everybody may see, and the mistakes; ``checks_hidden.py`` beside it adds the
properties that only the grader tests.  Properties are tested against oracles that do not use the
formula asked for.  Every known mistake is a function that computes the wrong answer, with the
sentence that names it: if an answer fails and a known mistake reproduces it, the reader gets that
sentence.  Nothing that an answer does ends in a traceback.

This file is part of every notebook that is handed out: standard library and numpy only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Answers",
    "Check",
    "NotYet",
    "Property",
    "StudentError",
    "Verdict",
    "Written",
    "answers",
    "close",
    "described",
    "margins",
    "number_rows",
    "numbers",
    "right_step",
    "selfcheck",
]

margins: list[float] = []  # error / tolerance of every comparison: `prove` reads the largest


class NotYet(Exception):
    """The answer misses a property; the text is what the reader sees."""


class StudentError(Exception):
    """The student's code raised, ran too long, or returned nothing that can be read.

    Attributes
    ----------
    kind
        ``"NotImplementedError"`` if it is not written yet; otherwise the name of what happened.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Property:
    """One thing that a right answer does.

    Attributes
    ----------
    title
        A statement, true of every right answer; the reader sees it.
    test
        ``test(ask, *values)`` raises :class:`NotYet` where the answer misses it.
    points
        What it is worth at grading.
    public
        Whether the student's own notebook tests it too.
    local
        Whether it looks at more than numbers (at a model that was passed, say).  Such a property
        is tested where the answer runs in the same process, and is worth no points.
    """

    title: str
    test: Callable
    points: int
    public: bool
    local: bool


@dataclass(frozen=True)
class Verdict:
    """What the test of one property found.

    Attributes
    ----------
    what
        The property.
    status
        ``"passed"``, ``"failed"``, ``"error"`` (the student's code stopped), ``"todo"`` (not
        written yet), or ``"grader-error"`` (the check itself is broken).
    message
        One sentence for the student; empty if it passed.
    mistake
        Name of the known mistake that was recognised, or None.
    """

    what: Property
    status: str
    message: str = ""
    mistake: str | None = None

    @property
    def points(self) -> int:
        """The points that it earned."""
        return self.what.points if self.status == "passed" else 0

    @property
    def sentence(self) -> str:
        """``ok: `` or ``not yet: ``, the title, and the reason."""
        if self.status == "passed":
            return f"ok: {self.what.title}"
        return f"not yet: {self.what.title}. {self.message}"


@dataclass(frozen=True)
class Written:
    """An answer in words, marked by hand.

    Attributes
    ----------
    label
        Label of the exercise.
    rubric
        What to look for, and the points for it.
    """

    label: str
    rubric: Sequence[tuple[str, int]]

    @property
    def points(self) -> int:
        """The most that the answer can earn."""
        return sum(points for _, points in self.rubric)


class Answers:
    """The answers of one reader, in this process: names and what they stand for.

    The grader has another class with the same two methods, which asks a process behind a wall.
    """

    local = True

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def value(self, name: str) -> Any:
        """What the name stands for, or None."""
        return self.names.get(name)

    def call(self, name: str, args: tuple) -> Any:
        """The answer of the function `name`; it gets copies, so that it cannot spoil the question.

        Raises
        ------
        StudentError
            If there is no such function or it stopped.
        """
        function = self.names.get(name)
        if function is None:
            raise StudentError("NameError", f"`{name}` is not defined yet.")
        if not callable(function):
            raise StudentError(
                "TypeError", f"`{name}` should be a function, but it is {described(function)}."
            )
        try:
            out = function(*(_copy(a) for a in args))
        except NotImplementedError:
            raise StudentError(
                "NotImplementedError", f"The function `{name}` is not written yet."
            ) from None
        except (Exception, SystemExit) as error:  # whatever the reader's code does: a sentence
            text = f"{type(error).__name__}: {error}".strip(": ")[:500]
            raise StudentError(
                type(error).__name__, f"Your function stopped with {text}."
            ) from None
        return out.detach() if _is_tensor(out) else out


class _Ask:
    """``ask(*args)`` calls the student's function; ``ask.rng`` draws the inputs of this check."""

    def __init__(self, answers: Answers, function: str, rng: np.random.Generator) -> None:
        self._answers, self._function = answers, function
        self.rng = rng
        self.log: list[tuple[tuple, Any]] = []

    def __call__(self, *args: Any) -> Any:
        out = self._answers.call(self._function, args)
        self.log.append((args, out))
        return out


class Check:
    """Properties of one exercise and the mistakes it knows.

    Parameters
    ----------
    label
        Label of the exercise, such as ``"ex-logistic-risk"``.
    function
        Name of the function that the exercise asks for.
    values
        Names of further answers (a prediction, the number of a step).
    rtol
        How closely a known mistake must reproduce an answer.
    """

    def __init__(
        self, label: str, function: str, values: Sequence[str] = (), *, rtol: float = 1e-6
    ) -> None:
        if isinstance(values, str):
            raise TypeError(f"values should be a tuple of names, such as ({values!r},)")
        self.label, self.function, self.values, self.rtol = label, function, tuple(values), rtol
        self.properties: list[Property] = []
        self.mistakes: list[tuple[str, Callable]] = []

    @property
    def points(self) -> int:
        """What a right answer earns."""
        return sum(known.points for known in self.properties)

    def property(self, title: str, points: int = 1, *, local: bool = False) -> Callable:
        """Register ``test(ask, *values)``, which raises NotYet; the student can run it too."""
        return self._register(title, 0 if local else points, True, local)

    def hidden(self, title: str, points: int = 1) -> Callable:
        """Register a test that only the grader (and the page of a practice set) runs."""
        return self._register(title, points, False, False)

    def _register(self, title: str, points: int, public: bool, local: bool) -> Callable:
        if any(title == known.title for known in self.properties):
            raise ValueError(f"{self.label} has two properties with the title {title!r}")

        def register(test: Callable) -> Callable:
            self.properties.append(Property(title, test, points, public, local))
            return test

        return register

    def mistake(self, sentence: str) -> Callable:
        """Register a function that computes a known wrong answer."""
        return lambda wrong: self.mistakes.append((sentence, wrong)) or wrong

    def rng(self, title: str, seed: int) -> np.random.Generator:
        """The generator of one property: the same seed draws the same inputs."""
        digest = hashlib.sha256(f"{self.label}/{title}/{seed}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def run(self, answers: Answers, seed: int = 0, *, hidden: bool = True) -> list[Verdict]:
        """Test every property; without `hidden`, the public ones only."""
        return [
            self.test(known, answers, seed)
            for known in self.properties
            if (known.public or hidden) and (answers.local or not known.local)
        ]

    def test(self, known: Property, answers: Answers, seed: int = 0) -> Verdict:
        """Test one property."""
        ask = _Ask(answers, self.function, self.rng(known.title, seed))
        values = {name: answers.value(name) for name in self.values}
        try:
            with np.errstate(all="ignore"):  # absurd answers overflow; a sentence says so
                known.test(ask, *values.values())
            return Verdict(known, "passed")
        except NotYet as reason:
            unset = [name for name, value in values.items() if value is None]
            if unset and not ask.log:  # nothing was given that could be wrong
                return Verdict(known, "todo", f"`{unset[0]}` is not set yet.")
            sentence, name = self._diagnose(ask.log)
            return Verdict(known, "failed", f"{sentence}." if sentence else str(reason), name)
        except StudentError as error:
            status = "todo" if error.kind in ("NotImplementedError", "NameError") else "error"
            return Verdict(known, status, str(error))
        except Exception as error:
            if not ask.log and not self.values:  # then it is no answer that broke the check
                return Verdict(known, "grader-error", f"{type(error).__name__}: {error}")
            if ask.log:
                given = f"the answer of `{self.function}`: it is {described(ask.log[-1][1])}"
            else:
                given = ", ".join(f"`{name}`: it is {described(v)}" for name, v in values.items())
            return Verdict(known, "failed", f"The check cannot use {given}.")

    def __call__(self, answer: Any, *values: Any) -> list[str]:
        """The sentences for a function and further answers that are at hand."""
        given = {self.function: answer, **dict(zip(self.values, values, strict=True))}
        return [verdict.sentence for verdict in self.run(Answers(given))]

    def _diagnose(self, log: list[tuple[tuple, Any]]) -> tuple[str | None, str | None]:
        """The first known mistake that reproduces every answer given: its sentence, its name."""
        for sentence, wrong in self.mistakes:
            try:
                with np.errstate(all="ignore"):
                    pairs = [
                        (np.asarray(out), np.asarray(wrong(*(_copy(a) for a in args))))
                        for args, out in log
                    ]
            except Exception:  # the answer is not numeric, or the mistake has none here
                continue
            if pairs and all(
                got.dtype.kind in "fiu"
                and got.shape == w.shape
                and np.allclose(got, w, rtol=self.rtol, atol=1e-12, equal_nan=True)
                for got, w in pairs
            ):
                return sentence, wrong.__name__
        return None, None


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach")


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.copy(value)
    return value.detach().clone() if _is_tensor(value) else value


def selfcheck(
    checks: Sequence[Check], names: Mapping[str, Any], *, hidden: bool
) -> tuple[Callable[[str], None], Callable[[], None]]:
    """The functions ``check(label)`` and ``progress()`` of a notebook.

    Parameters
    ----------
    checks
        All checks of the set.
    names
        The names of the notebook, ``globals()``.
    hidden
        Whether the hidden properties are tested too: on the page of the book, where they lie
        beside it.
    """
    known = {check.label: check for check in checks}

    def check(label: str) -> None:
        """Print one sentence per property of the exercise."""
        if label not in known:
            print(f"There is no exercise {label!r} to check. Known are: {', '.join(known)}.")
            return
        verdicts = known[label].run(Answers(names), hidden=hidden)
        for verdict in verdicts:
            print(verdict.sentence)
        if hidden:
            print("These checks are necessary, not sufficient.")
        else:
            passed = sum(verdict.status == "passed" for verdict in verdicts)
            print(
                f"{passed} of {len(verdicts)} public checks pass. They are necessary, not "
                "sufficient: more checks run at grading."
            )

    def progress() -> None:
        """Print one line per exercise."""
        for label, one in known.items():
            verdicts = one.run(Answers(names), hidden=hidden)
            passed = sum(verdict.status == "passed" for verdict in verdicts)
            todo = verdicts and all(verdict.status == "todo" for verdict in verdicts)
            print(f"{label:<28}", "to do" if todo else f"{passed} of {len(verdicts)} checks pass")
        print("Answers in words are marked by hand. No check is sufficient.")

    return check, progress


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
    margins.append(float(error / rtol))
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
