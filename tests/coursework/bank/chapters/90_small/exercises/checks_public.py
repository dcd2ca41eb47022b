"""What a student's notebook checks in the small set on which the grader is tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coursework.checks import Check, NotYet, answers, close, numbers

Array = np.ndarray

# ------------------------------------------------------------------------------- Tikhonov

tikhonov_solve = Check("ex-small-tikhonov", "tikhonov_solve")


def matrix(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A matrix with prescribed singular values: every right algorithm is accurate."""
    rank = min(rows, columns)
    u, v = (np.linalg.qr(rng.standard_normal((k, rank)))[0] for k in (rows, columns))
    return (u * np.geomspace(2, 0.2, rank)) @ v.T


def gradient_vanishes(ask: Callable, sizes: tuple[tuple[int, int], ...]) -> None:
    """The gradient of the functional is zero at the answers."""
    cases = [(matrix(ask.rng, m, n), ask.rng.standard_normal(m), 0.4) for m, n in sizes]
    for (a, y, alpha), x in answers(ask, cases):
        x = numbers(x, (a.shape[1],))
        size = np.linalg.norm(a.T @ (a @ x - y) + alpha * x) / np.linalg.norm(a.T @ y)
        if not size < 1e-6:
            raise NotYet(f"At your x the gradient is {size:.1g} of its size at x = 0.")


@tikhonov_solve.property("the gradient vanishes at x", 2)
def _(ask: Callable) -> None:
    gradient_vanishes(ask, ((6, 4), (5, 5)))


@tikhonov_solve.mistake("Your penalty is alpha^2 ||x||^2: alpha enters as it is.")
def squares_alpha(a, y, alpha):
    return np.linalg.solve(a.T @ a + alpha**2 * np.eye(a.shape[1]), a.T @ y)


@tikhonov_solve.mistake("This is the least-squares solution: alpha does not act.")
def ignores_alpha(a, y, alpha):
    return np.linalg.lstsq(a, y, rcond=None)[0]


# ------------------------------------------------------------------------------------ FOSC

fosc_linf = Check("ex-small-fosc", "fosc_linf", ("dual",))


def _points(rng: np.random.Generator, size: int) -> tuple[Array, Array, float, Array]:
    x0, g = rng.standard_normal(size), rng.standard_normal(size)
    return x0 + 0.3 * rng.uniform(-1, 1, size), x0, 0.3, g


@fosc_linf.property("it is positive inside, and zero at the best corner of the ball", 2)
def _(ask: Callable, dual: Any) -> None:
    for size in (2, 4):
        x, x0, eps, g = _points(ask.rng, size)
        if not numbers(ask(x, x0, eps, g), ()) > 1e-9:
            raise NotYet("Inside the ball, with a gradient that is not zero, it is positive.")
        if abs(numbers(ask(x0 + eps * np.sign(g), x0, eps, g), ())) > 1e-12:
            raise NotYet("It is zero at x0 + eps sign(g), where the maximum is attained.")


@fosc_linf.mistake("You used ||g||_2; the norm dual to the l-infinity norm is the l1 norm.")
def dual_two(x, x0, eps, g):
    return eps * np.linalg.norm(g) - np.dot(x - x0, g)


@fosc_linf.mistake("The sign of the second term is reversed: <x - x0, g> is subtracted.")
def plus_sign(x, x0, eps, g):
    return eps * np.abs(g).sum() + np.dot(x - x0, g)


def same(got: Any, want: float) -> None:
    """One number, compared."""
    close(got, want, "the value")
