"""A folder of chapters that is made for a test, with a marked line wherever nothing may leak."""

from __future__ import annotations

import json
from pathlib import Path

SECRETS = {
    "solution": "planted_in_the_solution = 'PLANTED-IN-SOLUTION-CODE'",
    "text": "The planted sentence PLANTED-IN-SOLUTION-TEXT stands here.",
    "measurement": "measured = 'PLANTED-IN-A-MEASUREMENT-CELL'",
    "hidden": "PLANTED = 'PLANTED-IN-THE-HIDDEN-CHECKS'",
    "rubric": "says PLANTED-IN-A-RUBRIC, and why",
    "right": "    planted = 'PLANTED-IN-A-RIGHT-ANSWER'",
    "wrong": "    planted = 'PLANTED-IN-A-WRONG-ANSWER'",
}

INTRO = """# Exercises of chapter 42

Three exercises.

All of them together take an hour; a first round takes the exercises marked •.
The letters are those of the chapter: $h>0$ is a step.

| first | exercise | kind | stars | minutes | uses |
|---|---|---|---|---|---|
| • | {numref}`ex-mean` the mean | code | ★ | 10 | {prf:ref}`thm-mean` |
| | {numref}`ex-proof` a proof | prove | ★★ | 20 | {prf:ref}`thm-mean` |
| | {numref}`ex-slope` a slope | investigate | ★ | 30 | {prf:ref}`thm-mean` |
"""

FIRST = """
## The first half

````{exercise} The mean
:label: ex-mean

*code · ★ · 10 min · uses {prf:ref}`thm-mean`*

Write `mean_of(x)` for an array `x` with the weights `WEIGHTS`, see {prf:ref}`thm-mean`.

```{math}
:label: eq-of-the-mean
m=\\sum_iw_ix_i
```

By {eq}`eq-of-the-mean` it is linear ({cite}`somebody`, {doc}`../01_page`).
````

```{admonition} Hint
:class: tip, dropdown

It is $\\langle w,x\\rangle$.
```
"""

BETWEEN = f"""
```{{solution}} ex-mean
:class: dropdown

{SECRETS["text"]}
```

```{{exercise}} A proof
:label: ex-proof

*prove · ★★ · 20 min · uses {{prf:ref}}`thm-mean`*

Prove it for {{numref}}`ex-mean`.
```

```{{admonition}} Hint
:class: tip, dropdown

Convexity.
```

```{{solution}} ex-proof
It is clear.
```

```{{exercise}} A slope
:label: ex-slope

*investigate · ★ · 30 min · uses {{prf:ref}}`thm-mean`*

Write `slope(f, x)` and predict the sign.
```
"""

SETUP = (
    "import numpy as np\n\nfrom coursework import practice\n\ncheck, progress = practice(globals())"
)
MEAN = f'''def mean_of(x, power: float = 1.0) -> float:
    """The weighted mean."""
    {SECRETS["solution"]}
    return float(WEIGHTS @ x) ** power'''
SLOPE = '''def slope(f, x):
    step = 1e-6
    return (f(x + step) - f(x - step)) / (2 * step)


sign = "it is positive for every increasing function"'''

PUBLIC = """
import numpy as np

from coursework.checks import Check, NotYet, answers, close

mean = Check("ex-mean", "mean_of")
slope = Check("ex-slope", "slope", ("sign",))


@mean.property("it weights")
def _(ask):
    for (x,), got in answers(ask, [(ask.rng.standard_normal(3),) for _ in range(3)]):
        close(got, float(np.dot([0.2, 0.3, 0.5], x)), "the mean")


@mean.mistake("You took the plain mean")
def plain_mean(x):
    return float(np.mean(x))


@slope.property("it is right for sines")
def _(ask, sign):
    x = ask.rng.uniform(0.1, 1)
    close(ask(np.sin, x), np.cos(x), "the slope", 1e-3)
    if not isinstance(sign, str):
        raise NotYet("Predict the sign.")
"""

HIDDEN = f'''
import numpy as np
from checks_public import mean, slope

from coursework.checks import Written, close

{SECRETS["hidden"]}
WRITTEN = [Written("ex-proof", [("{SECRETS["rubric"]}", 3)])]


@mean.hidden("it is linear", 2)
def _(ask):
    x = ask.rng.standard_normal(3)
    close(ask(2 * x), 2 * ask(x), "it")


@slope.hidden("it is right for exponentials", 2)
def _(ask, sign):
    close(ask(np.exp, 0.5), np.exp(0.5), "the slope", 1e-3)
'''

PAGE = """# The first page

```{prf:theorem} On the mean
:label: thm-mean

It is.
```
"""


def cell(kind: str, source: str, *tags: str) -> dict:
    found = {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": source}
    return found | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def cells() -> list[dict]:
    return [
        cell("markdown", INTRO),
        cell("code", SETUP, "setup"),
        cell("markdown", FIRST),
        cell("code", "WEIGHTS = np.array([0.2, 0.3, 0.5])", "given"),
        cell("code", MEAN, "hide-input", "solution"),
        cell("code", 'check("ex-mean")', "nbval-check-output"),
        cell("markdown", BETWEEN),
        cell("code", SLOPE, "hide-input", "solution"),
        cell("code", 'check("ex-slope")', "nbval-check-output"),
        cell("code", SECRETS["measurement"], "hide-cell"),
        cell("markdown", "```{solution} ex-slope\nIt is what it is.\n```"),
    ]


def write_notebook(file: Path, content: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"cells": content, "metadata": {}, "nbformat": 4}))


def make(root: Path, number: int = 42, **files: str | list[dict]) -> Path:
    """A chapter below `root`; its files, or the cells of its page, may be given.

    Returns
    -------
    Path
        The folder of its exercises.
    """
    folder = root / f"{number:02d}_small" / "exercises"
    write_notebook(folder / "exercises.ipynb", files.get("page", cells()))
    write_notebook(folder.parent / "01_page.ipynb", [cell("markdown", PAGE)])
    (folder.parent / "index.md").write_text("# Small things\n")
    (folder / "checks_public.py").write_text(files.get("public", PUBLIC))
    (folder / "checks_hidden.py").write_text(files.get("hidden", HIDDEN))
    for kind in ("right", "wrong"):
        (folder / "bank" / kind).mkdir(parents=True, exist_ok=True)
        text = f"# ex-mean: at most 0\ndef mean_of(x):\n{SECRETS[kind]}\n    return 1.0\n"
        (folder / "bank" / kind / "constant.py").write_text(text)
    (root.parent / "references.bib").write_text(
        '@misc{somebody,\n  author = {Body, Some and {\\"O}ktem, O. and Third, T.},\n'
        "  year = {2020}\n}\n"
    )
    return folder
