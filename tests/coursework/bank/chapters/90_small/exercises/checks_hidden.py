"""What only the grader tests in the small set."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from checks_public import _points, fosc_linf, gradient_vanishes, matrix, same, tikhonov_solve

from coursework.checks import NotYet, Written, answers, close, numbers

WRITTEN = [Written("ex-small-proof", [("bounds the inner product", 3), ("equality", 2)])]


@tikhonov_solve.hidden("so it does if the matrix is wide", 2)
def _(ask: Callable) -> None:
    gradient_vanishes(ask, ((4, 7), (1, 3)))


@tikhonov_solve.hidden("as alpha decreases, x tends to the least-squares solution", 1)
def _(ask: Callable) -> None:
    a, y = matrix(ask.rng, 7, 4), ask.rng.standard_normal(7)
    close(ask(a, y, 1e-9), np.linalg.lstsq(a, y, rcond=None)[0], "x for alpha = 1e-9", 1e-5)


def _vertices(x: np.ndarray, x0: np.ndarray, eps: float, g: np.ndarray) -> float:
    corners = itertools.product((-eps, eps), repeat=x.size)
    return max((x0 + np.array(corner) - x) @ g for corner in corners)


@fosc_linf.hidden("it is the maximum over all corners of the ball", 2)
def _(ask: Callable, dual: Any) -> None:
    for case, value in answers(ask, [_points(ask.rng, size) for size in (1, 3, 5)]):
        same(value, _vertices(*case))


@fosc_linf.hidden("it grows in proportion to the gradient", 1)
def _(ask: Callable, dual: Any) -> None:
    x, x0, eps, g = _points(ask.rng, 4)
    same(ask(x, x0, eps, 10 * g), 10 * _vertices(x, x0, eps, g))


@fosc_linf.hidden("the dual exponent is named, and used", 1)
def _(ask: Callable, dual: Any) -> None:
    case = _points(ask.rng, 3)
    same(ask(*case), _vertices(*case))
    if numbers(dual, ()) != 1:
        raise NotYet(f"The value of `dual` is {dual!r}.")
