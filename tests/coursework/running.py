"""Runs a release where neither the book nor anything that it does not declare is installed.

``python -I running.py RELEASE ANSWERS OUT``: ``ANSWERS`` is a list of cells that are run behind the
stubs, one after the other; ``OUT`` gets what was printed before and after.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import io
import json
import sys
from pathlib import Path

HIDEABLE = {"advreg", "coursework", "scipy", "torch", "sklearn", "skimage", "pywt", "matplotlib"}
HIDEABLE |= {"tqdm", "IPython", "pandas", "sympy"}


class Wall(importlib.abc.MetaPathFinder):
    """Nothing behind it can be imported, or found."""

    def __init__(self, hidden: set[str]) -> None:
        self.hidden = hidden

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide(names: set[str]) -> None:
    """Take the editable installation away, and wall off packages that are not declared."""
    book = str(Path(__file__).resolve().parents[2])
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(f"{book}/lib")]
    sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in repr(f)]
    sys.path_hooks[:] = [h for h in sys.path_hooks if "__editable__" not in repr(h)]
    sys.meta_path.insert(0, Wall(names - {"advreg", "coursework"}))


def run(sources: list[str], names: dict) -> list[str]:
    """What each cell prints; an error is part of it."""
    said = []
    for source in sources:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                exec(compile(source, "cell", "exec"), names)
            except BaseException as error:
                print(f"RAISED {type(error).__name__}: {error}")
        said.append(out.getvalue())
    return said


def main(release: str, answers: str, out: str) -> None:
    page = json.loads(Path(release).read_text())
    cells = [c["source"] for c in page["cells"] if c["cell_type"] == "code"]
    needs = {"torch": {"sympy", "tqdm"}}  # what torch itself imports
    declared = set(sys.argv[4].split(",")) if len(sys.argv) > 4 else set()
    hide(HIDEABLE - declared - set().union(*(needs.get(name, set()) for name in declared)))
    names: dict = {"__name__": "__main__"}
    found = {"blank": run([*cells, "progress()"], names)}
    found["library"] = sorted(name for name in sys.modules if name.startswith("advreg"))
    found["coursework"] = "coursework" in sys.modules
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, Wall)]
    lib = Path(__file__).resolve().parents[2] / "lib"  # solutions may use all of the library
    sys.path.append(str(lib))
    if "advreg" in sys.modules:
        sys.modules["advreg"].__path__.append(str(lib / "advreg"))
    found["answers"] = run(json.loads(Path(answers).read_text()), names)
    found["checks"] = run([c for c in cells if c.startswith("check(")], names)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:4])
