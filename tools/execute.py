"""Run the notebooks whose code, library or data changed, two at a time, into the book's cache.

jupyter-cache keys a notebook by its own code only.  Here the key also holds the library modules
that the notebook imports (and those they import), the pinned versions, the files beside it and
those in its chapter's ``results/``, so that a page never shows what an older library computed.
The build then finds every notebook in the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "_build" / ".jupyter_cache"
KEYS = ROOT / "_build" / "notebook_keys.json"
SECONDS, MEGABYTES = 60, 1500  # the budget of a notebook
IMPORT = re.compile(
    r"^\s*(?:from\s+advreg(?:\.(\w+))?\s+import\s+([\w, ]+|\()|import\s+advreg\.(\w+))",
    re.MULTILINE,
)


def notebooks_of_the_book() -> list[Path]:
    """Every notebook that ``_toc.yml`` names, in its order."""
    text = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    found: list[Path] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "file" in node:
                path = (ROOT / node["file"]).with_suffix(".ipynb")
                found.extend([path] if path.is_file() else [])
            node = list(node.values())
        for child in node if isinstance(node, list) else ():
            walk(child)

    walk(text)
    return found


def imported(source: str) -> set[str]:
    """Names of the library modules that a piece of Python imports."""
    names: set[str] = set()
    for module, members, direct in IMPORT.findall(source):
        names |= {module or direct} if module or direct else set(re.findall(r"\w+", members))
    return {n for n in names if (ROOT / "lib/advreg" / f"{n}.py").is_file()}


def key_of(path: Path) -> str:
    """Hash of everything that the notebook's outputs depend on."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(c.source for c in cells if c.cell_type == "code")
    todo, modules = imported(code), set()
    while todo:
        name = todo.pop()
        modules.add(name)
        source = (ROOT / "lib/advreg" / f"{name}.py").read_text(encoding="utf8")
        todo |= imported(source) - modules
    files = [ROOT / "constraints.txt", ROOT / "lib/advreg/__init__.py"]
    files += [ROOT / "lib/advreg" / f"{name}.py" for name in sorted(modules)]
    beside = [*path.parent.iterdir(), *path.parent.glob("results/*")]
    beside = sorted(p for p in beside if p.is_file() and p.suffix not in {".ipynb", ".md", ".pyc"})
    files += beside
    if any(p.suffix == ".py" for p in beside):  # the checks of exercises
        files += sorted((ROOT / "lib/coursework").glob("*.py"))
    digest = hashlib.sha256(code.encode())
    for file in files:
        digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()


def run(path: Path) -> tuple[nbformat.NotebookNode, float, float]:
    """Execute one notebook: its outputs, the seconds it took, its peak memory in MB."""
    from nbclient import NotebookClient

    nb = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = NotebookClient(
        nb,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,  # cell metadata is part of the cache's key
    )
    client.execute()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return nb, time.perf_counter() - start, peak / (1024 if sys.platform == "darwin" else 1)


def main(argv: list[str] | None = None) -> int:
    """Bring the cache up to date; exit code 1 if a notebook raised."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ["ADVREG_STATIC"] = "1"
    KEYS.parent.mkdir(exist_ok=True)
    known = json.loads(KEYS.read_text()) if KEYS.is_file() and CACHE.is_dir() else {}
    keys = {p.relative_to(ROOT).as_posix(): key_of(p) for p in notebooks_of_the_book()}
    stale = [name for name, key in keys.items() if known.get(name) != key]
    print(f"{len(keys)} notebooks, {len(stale)} to run", flush=True)
    if args.list:
        print("\n".join(stale))
        return 0
    cache = get_cache(CACHE)
    failed = 0
    pool = ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with pool:
        jobs = {pool.submit(run, ROOT / name): name for name in stale}
        for i, job in enumerate(as_completed(jobs), 1):
            name = jobs[job]
            try:
                nb, seconds, peak = job.result()
            except Exception as error:  # whatever a cell raises: report it, run the others
                failed += 1
                known.pop(name, None)
                print(f"[{i}/{len(stale)}] {name} FAILED\n{error}", flush=True)
                continue
            bundle = CacheBundleIn(nb, str(ROOT / name), data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            known[name] = keys[name]
            over = " (over budget)" if seconds > SECONDS or peak > MEGABYTES else ""
            print(f"[{i}/{len(stale)}] {name} {seconds:.1f} s, {peak:.0f} MB{over}", flush=True)
    KEYS.write_text(json.dumps({k: known[k] for k in keys if k in known}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
