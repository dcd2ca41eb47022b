"""Canonical notebooks: ``python tools/nb.py check|clean|update [notebook ...]``.

A code cell tagged ``nbval-check-output`` keeps its text outputs and the execution count 1 (nbval
compares nothing in a cell without a count); every other cell has no output and no count.
``check`` exits with 1 if a notebook is not in this form or breaks a rule of the house,
``clean`` rewrites it, ``update`` runs it first and stores fresh outputs for the tagged cells.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TAG = "nbval-check-output"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_KEYS = {"tags", "mystnb", "nbgrader"}
MAX_LINES = 30
BANNED = {
    r"^\s*[%!]\s*(pip|conda|mamba|apt)|\bpip\.main": "installs something",
    r"https?://|\burlopen\b|\brequests\.|\burlretrieve\b": "asks the network",
    r"""["'](/|~/|[A-Za-z]:\\)[\w.-]+/?""": "names an absolute path",
    r"\bnp\.random\.(?!default_rng|Generator|SeedSequence)\w+\(": "uses numpy's global generator",
    r"default_rng\(\s*\)": "makes a generator without a seed",
    r"\btorch\.(manual_seed|rand|randn|randint|randperm)\((?!.*generator=)": "unseeded or global",
    r";\s*$": "ends in a semicolon (assign the value, or call plotting.show)",
    r"\bplt\.show\(": "shows a figure without a text alternative (call plotting.show)",
}


def rule_breaks(source: str) -> list[str]:
    """What a code cell does that no cell of the book may do."""
    lines = [line for line in source.splitlines() if line.strip()]
    code = [line.split("#")[0] for line in lines]
    found = [
        f"{why}: {line.strip()}"
        for pattern, why in BANNED.items()
        for line in code
        if re.search(pattern, line)
    ]
    if len(lines) > MAX_LINES:
        found.append(f"has {len(lines)} lines; the limit is {MAX_LINES}")
    return found


def canonical(nb: nbformat.NotebookNode) -> tuple[nbformat.NotebookNode, list[str]]:
    """The notebook in its one form, and what is wrong with its content."""
    problems = []
    nb.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for i, cell in enumerate(nb.cells):
        cell.id = f"cell-{i:02d}"  # stable ids: no noise in diffs
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in sorted(cell.metadata.items()) if k in CELL_KEYS}
        )
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").splitlines())
        if cell.cell_type != "code":
            cell.pop("attachments", None)
            problems += [
                f"cell {i}: a fence of backticks opens with a backtick in its title: {line}"
                for line in cell.source.splitlines()
                if re.match(r"\s*`{3,}[^`]+`", line)  # MyST would read prose as a code block
            ]
            continue
        problems += [f"cell {i}: {what}" for what in rule_breaks(cell.source)]
        checked = TAG in cell.metadata.get("tags", [])
        kept = []
        for out in cell.outputs if checked else []:
            if out.output_type == "error":
                problems.append(f"cell {i}: stored error {out.ename}")
            elif out.output_type == "stream" and out.name == "stdout":
                kept.append(out)
            elif out.output_type == "execute_result":
                out.data = {k: v for k, v in out.data.items() if k == "text/plain"}
                out.metadata, out.execution_count = nbformat.from_dict({}), 1
                kept.append(out)
        if checked and "glue(" in cell.source:  # nbval would miss the quoted number's output
            problems.append(f"cell {i}: tagged {TAG}, and quotes a number; use two cells")
        if checked and not kept:
            problems.append(f"cell {i}: tagged {TAG}, but no text output is stored")
        cell.outputs, cell.execution_count = kept, 1 if checked else None
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb, problems


def execute(nb: nbformat.NotebookNode, folder: Path) -> None:
    """Run a notebook in place, from a fresh kernel of this very environment."""
    from nbclient import NotebookClient

    os.environ["ADVREG_STATIC"] = "1"
    client = NotebookClient(
        nb, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()


def main(argv: list[str] | None = None) -> int:
    """Check, clean or update notebooks; exit code 0 only if none has a problem."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mode", choices=("check", "clean", "update"))
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in chapters/")
    args = parser.parse_args(argv)
    paths = args.notebooks or sorted((ROOT / "chapters").rglob("*.ipynb"))
    paths = [p for p in paths if ".ipynb_checkpoints" not in p.parts]
    bad = 0
    for path in paths:
        try:
            before = path.read_text(encoding="utf8")
            nb = nbformat.reads(before, as_version=4)
        except (OSError, nbformat.reader.NotJSONError) as error:
            print(f"{path}: cannot be read as a notebook ({error})")
            bad += 1
            continue
        if args.mode == "update":
            execute(nb, path.parent)
        nb, problems = canonical(nb)
        after = nbformat.writes(nb, version=4, sort_keys=True).rstrip("\n") + "\n"
        if args.mode == "check" and after != before:
            problems.append("not in canonical form: run `python tools/nb.py clean`")
        elif args.mode != "check":
            path.write_text(after, encoding="utf8")
        for problem in problems:
            print(f"{path}: {problem}")
        bad += bool(problems)
    print(f"{len(paths)} notebooks, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
