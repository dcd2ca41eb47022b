"""Run the pages that use torch on another device and compare what they print with the CPU.

``python tools/on_device.py [--device cuda] [notebook ...]``, one notebook after another.  The
text of every checked cell (tag ``nbval-check-output``) is stored in the notebook, as the CPU
printed it; nbval runs the notebook on the device and compares.  So the tolerance is the printed
digit.  A record is written: versions, card, driver, and per notebook its seconds, the number of
cells compared and the lines that differ.

``--pretend`` runs them on the pretend device of ``tests/pretend_cuda.py``, which needs no GPU and
finds mistakes of device handling only; ``--rounding`` lets it round differently, too.

Exit code: 0 if everything agrees, 1 if a notebook differs or fails, 2 if nothing could be run.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import execute  # noqa: E402

RESULTS = ROOT / "chapters/appendix/results"
TAG = "nbval-check-output"
TORCH = re.compile(r"^\s*(?:import|from) torch\b|\btrain_(?:gain|filter|layers)\b", re.MULTILINE)
LIBRARY = re.compile(r"^(?:import torch|from torch\b)", re.MULTILINE)  # at the top: not lazily
COLOUR = re.compile(r"(?:\x1b|#x1B)\[[0-9;]*m")  # as printed, and as JUnit writes it
# IPython goes on after an error at its start; without the double a run would prove nothing
STARTUP = """
import os, sys, traceback
sys.path.insert(0, {tests!r})
try:
    __import__("pretend_cuda").Pretend(rounding={rounding}).__enter__()
except BaseException:
    traceback.print_exc()
    os._exit(1)
del sys.path[0], os, sys, traceback
"""


def uses_torch(path: Path) -> bool:
    """Whether a notebook computes with torch: itself, or through a module that is built on it."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    if TORCH.search(code):
        return True
    # a page that only loads stored results computes nothing
    names = (name for name in execute.imported(code) if not name.endswith("experiments"))
    files = (ROOT / "lib/advreg" / f"{name}.py" for name in names)
    return any(LIBRARY.search(file.read_text(encoding="utf8")) for file in files)


def differing(report: ElementTree.Element) -> list[dict[str, Any]]:
    """Cells that failed in a JUnit report: number, and lines stored and found, or the error."""
    found = []
    for case in report.iter("testcase"):
        for failure in (*case.findall("failure"), *case.findall("error")):
            text = COLOUR.sub("", failure.text or failure.get("message", ""))
            cell = (re.findall(r"\d+", case.get("name", "")) or ["?"])[-1]
            if "reference_output == test_output failed" in text:  # pytest's diff: - new, + stored
                lines = text.partition("test_output failed:")[2].splitlines()
                lost, more = (
                    [line[4:] for line in lines if line.startswith(f"  {sign} ")] for sign in "+-"
                )
                found.append({"cell": cell, "stored": lost, "found": more})
            else:
                lines = [line.strip() for line in text.splitlines() if line.strip()]
                errors = [line for line in lines if re.match(r"\w*(Error|Exception|Timeout)", line)]
                found.append({"cell": cell, "error": (errors or lines or ["failed"])[-1][:300]})
    return found


def run(path: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run one notebook by nbval: a row of the record."""
    cells = nbformat.read(path, as_version=4).cells
    checked = sum(TAG in cell.metadata.get("tags", []) for cell in cells)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # no conftest: its time limit is one for readers' machines, and here time is a result
        command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
        command += ["-p", "no:xdist", "-c", str(ROOT / "pyproject.toml"), f"--junitxml={report}"]
        command += ["--nbval-cell-timeout=600", str(path.resolve())]
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        differences = differing(ElementTree.parse(report).getroot()) if report.is_file() else []
    if done.returncode and not differences:
        last = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        differences = [{"cell": "?", "error": last[-1][:300]}]
    name = path.resolve()
    return {
        "notebook": name.relative_to(ROOT).as_posix() if ROOT in name.parents else name.name,
        "seconds": round(seconds, 1),
        "compared": checked,
        "agreed": not differences,
        "differences": differences,
    }


def described(device: str) -> dict[str, Any]:
    """The device in words: its name, and for CUDA the driver and the libraries."""
    import torch

    if not device.startswith("cuda"):
        return {"kind": "cpu", "name": platform.machine(), "threads": torch.get_num_threads()}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        answer = []
    return {
        "kind": "cuda",
        "name": torch.cuda.get_device_name(device),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "driver": answer[0] if answer else "unknown",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run notebooks on a device, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all that use torch")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: ADVREG_DEVICE, or cuda)")
    parser.add_argument("--pretend", action="store_true", help="the test double: placement only")
    parser.add_argument("--rounding", action="store_true", help="with --pretend: round otherwise")
    parser.add_argument("--out", type=Path, help="record (default: results/on_device_<card>.json)")
    parser.add_argument("--list", action="store_true", help="only say which notebooks would run")
    args = parser.parse_args(argv)
    if args.rounding and not args.pretend:
        parser.error("--rounding belongs to --pretend: a real device rounds as it does")
    if missing := [str(p) for p in args.notebooks if not p.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    paths = args.notebooks or [p for p in execute.notebooks_of_the_book() if uses_torch(p)]
    if args.list:
        print("\n".join(str(p) for p in paths))
        return 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    device = "cuda" if args.pretend else args.device or os.environ.get("ADVREG_DEVICE") or "cuda"
    card = {"kind": "pretend", "name": "pretend", "rounding": args.rounding}
    if not args.pretend:
        from advreg.device import choose

        try:
            card = described(str(choose(device)))
        except (ValueError, RuntimeError) as error:
            print(f"on_device: {error}\n--pretend tests device handling without a GPU")
            return 2
    environment["ADVREG_DEVICE"] = device
    with tempfile.TemporaryDirectory() as folder:
        if args.pretend:
            startup = Path(folder) / "profile_default" / "startup"
            startup.mkdir(parents=True)
            code = STARTUP.format(tests=str(ROOT / "tests"), rounding=args.rounding)
            (startup / "00-pretend.py").write_text(code, encoding="utf8")
            environment["IPYTHONDIR"] = folder
        rows = []
        for path in paths:
            row = run(path, environment)
            rows.append(row)
            verdict = "agrees" if row["agreed"] else "DIFFERS"
            print(
                f"{row['notebook']}: {verdict}, {row['compared']} cells compared, "
                f"{row['seconds']:.0f} s",
                flush=True,
            )
            for difference in row["differences"]:
                for key, value in difference.items():
                    print(f"    {key}: {value}", flush=True)
    bad = sum(not row["agreed"] for row in rows)
    print(f"{len(rows)} notebooks on {card['name']}, {bad} differ or fail")
    if args.out or not args.pretend:
        from advreg import experiments

        slug = re.sub(r"\W+", "-", card["name"].lower()).strip("-")
        out = args.out or RESULTS / f"on_device_{slug}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        names = ("torch", "numpy", "scipy")
        content = {
            "name": "on_device",
            "command": "python tools/on_device.py --device " + device.partition(":")[0],
            "device": card,
            "versions": {"python": platform.python_version()}
            | {name: metadata.version(name) for name in names},
            "whole book": not args.notebooks,
            "rows": rows,
        }
        experiments.store(out, content)
        print(f"record: {out}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
