"""The self-check inside a notebook that was handed out; it runs where no book is installed.

:mod:`coursework.release` packs this file, the engine, the public checks and the modules of
``advreg`` that they import into one cell.  Standard library only, and old versions of Python must
be able to read it, so that it can say that they are too old.
"""

import importlib.abc
import importlib.util
import os
import sys
import types

__all__ = ["start"]

OLDEST = (3, 11)
INSTALLED_AS = {"sklearn": "scikit-learn", "skimage": "scikit-image", "pywt": "PyWavelets"}
BRIDGE = (
    "This notebook is graded by `coursework`, not by the checks inside it. In nbgrader, load "
    "coursework.nbgrader_bridge in nbgrader_config.py."
)


def start(parts, names):
    """The functions ``check(label)`` and ``progress()`` of a notebook; neither ever raises.

    Parameters
    ----------
    parts : dict
        What was packed: ``engine`` and ``public`` (sources), ``labels`` (of the set), ``library``
        (sources of ``advreg``), ``needs`` (packages).
    names : dict
        The names of the notebook, ``globals()``.
    """
    problem = _problem(parts["needs"])
    if problem:
        print(problem)
        return _guarded(lambda *label: print(problem)), _guarded(lambda: print(problem))
    if parts["library"] and not _installed("advreg"):
        sys.meta_path.append(_Library(parts["library"]))
    engine, checks = _load(parts)
    wanted = {one.label: one for one in checks}
    check, progress = engine.selfcheck(
        [wanted[label] for label in parts["labels"]], names, hidden=False
    )
    if parts["labels"]:
        example = parts["labels"][0]
        print(f'Ready: check("{example}") tests an answer, progress() shows where you are.')
    return _guarded(check), _guarded(progress)


def _problem(needs):
    """A sentence if something is missing, otherwise None."""
    if sys.version_info < OLDEST:
        return "This notebook needs Python {}.{} or newer; this is {}.{}.".format(
            *OLDEST, *sys.version_info[:2]
        )
    missing = [name for name in needs if not _installed(name)]
    if missing:
        packages = " ".join(INSTALLED_AS.get(name, name) for name in missing)
        return (
            "This notebook needs packages that are not installed. "
            f"Run `%pip install {packages}` in a new cell, restart the kernel, and begin again."
        )
    return None


def _installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _load(parts):
    """The engine, and all checks of the public files."""
    shown = {name: sys.modules.get(name) for name in ("coursework", "coursework.checks")}
    try:
        for name in shown:
            sys.modules[name] = types.ModuleType(name)
        engine = sys.modules["coursework.checks"]
        exec(compile(parts["engine"], "<engine of the checks>", "exec"), vars(engine))
        checks = []
        for name, source in parts["public"].items():
            module = types.ModuleType("checks_" + name)
            sys.modules[module.__name__] = module
            exec(compile(source, "<public checks of " + name + ">", "exec"), vars(module))
            checks += [one for one in vars(module).values() if isinstance(one, engine.Check)]
        return engine, checks
    finally:
        for name, module in shown.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def _guarded(function):
    def guarded(*labels):
        if os.environ.get("NBGRADER_EXECUTION") == "autograde":
            raise RuntimeError(BRIDGE)
        try:
            function(*labels)
        except Exception as error:
            print(f"The check could not run: {type(error).__name__}: {error}")

    guarded.__doc__ = function.__doc__
    return guarded


class _Library(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds the modules of a package in a dict of sources."""

    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=self.is_package(name))

    def is_package(self, name):
        return "." not in name

    def get_source(self, name):
        return self.sources[name]
