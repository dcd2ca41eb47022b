"""Grade a whole class: many submissions, several processes, nobody lost.

The work is spread by joblib: over processes of this computer, or, if a Dask scheduler is named,
over a cluster.  What was graded before with the same notebook, seed and checks is not run again.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import joblib

from coursework.errors import CourseworkError
from coursework.grade import Result, grade, zero
from coursework.sets import Set, find
from coursework.submissions import Submission

__all__ = ["grade_all"]


@cache
def _set(name: str, root: str | None) -> Set:
    """The set, read once per process."""
    return find(name, Path(root) if root else None)


def _one(name: str, root: str | None, submission: Submission, seed: int) -> tuple[str, Result]:
    """Grade one submission; whatever happens, there is a result."""
    the_set = _set(name, root)
    notes = list(submission.notes)
    try:
        if submission.file is None:
            status = _status_without_notebook(submission)
            return submission.student, zero(the_set, status, notes, seed=seed)
        result = grade(submission.read(), the_set, seed=seed)
    except OSError as error:
        notes.append(f"The file cannot be read: {error.strerror}.")
        return submission.student, zero(the_set, "unreadable", notes, seed=seed)
    except Exception as error:
        notes.append(f"The grader stopped with {type(error).__name__}: {error}")
        return submission.student, zero(the_set, "grader-error", notes, seed=seed)
    result.found = notes
    result.notes[:0] = notes
    if submission.unsure and result.status == "graded":
        result.status = "review"
    return submission.student, result


def _status_without_notebook(submission: Submission) -> str:
    if not submission.there:
        return "missing"
    return "review" if submission.unsure else "unreadable"


@contextlib.contextmanager
def _backend(dask: str | None) -> Iterator[dict]:
    if dask is None:
        yield {"backend": "loky"}
        return
    try:
        from distributed import Client
    except ImportError:
        message = "--dask needs the package `distributed` (pip install distributed)"
        raise CourseworkError(message) from None
    try:
        client = Client(dask, timeout="20s")
    except (OSError, ValueError) as error:
        raise CourseworkError(f"no Dask scheduler answers at {dask} ({error})") from None
    with client, joblib.parallel_config(backend="dask"):
        yield {}


def grade_all(
    submissions: Sequence[Submission],
    the_set: Set,
    *,
    root: Path | None,
    seed: int,
    jobs: int = 1,
    dask: str | None = None,
    known: Mapping[str, Result] | None = None,
    say: Callable[[str, Result], None] = lambda who, result: None,
) -> dict[str, Result]:
    """Student -> result, for every submission.

    Parameters
    ----------
    submissions
        Who handed in what.
    the_set, root
        The set and the folder it was found in; every process reads it for itself.
    seed
        The grading seed.
    jobs
        How many processes grade at the same time.
    dask
        Address of a Dask scheduler; then `jobs` is up to the cluster.
    known
        Results that are taken over instead of grading.
    say
        Called with every result as it comes.
    """
    results = dict(known or {})
    todo = [s for s in submissions if s.student not in results]
    where = (the_set.source, str(root) if root else None)

    def keep(who: str, result: Result) -> None:
        results[who] = result
        say(who, result)

    try:
        with _backend(dask) as how, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*worker stopped while some jobs.*")
            work = (joblib.delayed(_one)(*where, s, seed) for s in todo)
            parallel = joblib.Parallel(
                n_jobs=jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs", **how
            )
            for who, result in parallel(work):
                keep(who, result)
    except CourseworkError:
        raise
    except Exception:  # a grader process died; its neighbours must not suffer: one at a time
        for submission in todo:
            if submission.student not in results:
                keep(*_alone(*where, submission, seed))
    return results


def _alone(name: str, root: str | None, submission: Submission, seed: int) -> tuple[str, Result]:
    """Grade one submission in a process of its own, so that its death is its own."""
    try:
        return joblib.Parallel(n_jobs=2)([joblib.delayed(_one)(name, root, submission, seed)])[0]
    except Exception as error:
        note = f"The grader's process ended: {type(error).__name__}."
        return submission.student, zero(_set(name, root), "grader-error", [note], seed=seed)
