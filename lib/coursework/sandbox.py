"""The wall around a student's code, and what can be asked through it.

The code runs in a process of its own inside bubblewrap_: an unprivileged user, without network,
without a view of other processes, in a file system that holds Python, its packages, ``advreg``,
and nothing else.  The checks are not there.  :class:`Sandbox` starts that process, watches its
memory, its processes and its time, and passes calls to it; everything that comes back is plain
data, or a sentence.

There is no option that runs a student's code without the wall.  Docker is not offered, because
nobody has tested it here.

.. _bubblewrap: https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import json
import os
import platform
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from coursework import protocol
from coursework.checks import StudentError

__all__ = ["Gone", "Limits", "Sandbox", "command", "problem"]

HERE = Path(__file__).parent
NOBODY = "65534"
MB = 1 << 20
START = 60.0  # seconds that a process may take to start, on a busy machine
CALLBACKS = 20_000  # of one call

INSTALL = (
    "Student code is graded only inside bubblewrap, on Linux. Debian and Ubuntu: `apt install "
    "bubblewrap`. Ubuntu 24.04 also needs `sysctl -w "
    "kernel.apparmor_restrict_unprivileged_userns=0`. macOS and Windows: grade on a Linux machine "
    "or in WSL2."
)


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes
    ----------
    cell_seconds, call_seconds, total_seconds
        Time for a cell, for one call of a function, and for everything together.
    grace_seconds
        Time between a polite interrupt and the end of the process.
    memory_mb
        Resident memory of all its processes together; looked at ten times a second.
    data_mb
        Memory that a single process can ask for.  The libraries that torch maps do not count.
    processes
        How many processes may run at a time.
    file_mb
        Largest file that can be written; all files together get 64 MB.
    restarts
        How often its process is started anew after it was lost.
    """

    cell_seconds: float = 20
    call_seconds: float = 10
    total_seconds: float = 120
    grace_seconds: float = 2
    memory_mb: int = 1500
    data_mb: int = 4096
    processes: int = 64
    file_mb: int = 50
    restarts: int = 6

    def resources(self) -> dict[str, int]:
        """The limits that the kernel keeps, per process."""
        return {
            "RLIMIT_AS": 24 << 30,
            "RLIMIT_DATA": self.data_mb * MB,
            "RLIMIT_FSIZE": self.file_mb * MB,
            "RLIMIT_NPROC": 1024,  # per user, not per process; the watch counts what is ours
            "RLIMIT_NOFILE": 256,
            "RLIMIT_CORE": 0,
            "RLIMIT_CPU": 2 * int(self.total_seconds) + 10,
        }


class Gone(Exception):
    """The student's process ended or had to be ended; the text says why."""


# --------------------------------------------------------------------------- how it is built


def _python() -> list[Path]:
    """The folders that make up this Python."""
    executable = Path(sys.executable).absolute()
    found = [Path(sys.base_prefix), Path(sys.prefix), executable.resolve().parent.parent]
    return list(dict.fromkeys(p.absolute() for p in found if p != Path("/usr")))


def _library() -> Path | None:
    """The folder of the package advreg, which is not imported for this."""
    spec = importlib.util.find_spec("advreg")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).absolute()


def _closed(path: Path) -> Path | None:
    """The first folder above `path` that other users may not enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def _opened(paths: Iterable[Path]) -> list[str]:
    """Options of bubblewrap that leave of every closed folder only what is needed below it."""
    options: list[str] = []
    made: set[Path] = set()
    for path in sorted(set(paths)):
        closed = _closed(path)
        if closed is None:
            continue
        if closed not in made:
            options += ["--perms", "0755", "--tmpfs", str(closed)]
            made.add(closed)
        for folder in reversed(path.parents):
            if closed in folder.parents and folder not in made:
                options += ["--perms", "0755", "--dir", str(folder)]
                made.add(folder)
        options += ["--ro-bind", str(path), str(path)]
    return options


def command(limits: Limits, hide: Sequence[Path] = (), filter_file: int | None = None) -> list[str]:
    """The command that starts a student's process.

    Parameters
    ----------
    limits
        What it may use.
    hide
        Folders that must not be seen, should they lie below a folder that is shown.
    filter_file
        Number of an open file with the program of :func:`forbidden`.
    """
    worker, library = HERE / "worker.py", _library()
    shown = _python()
    mounts: list[str] = ["--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives"):
        if os.path.islink(name):
            mounts += ["--symlink", os.readlink(name), name]
        elif os.path.exists(name):
            mounts += ["--ro-bind", name, name]
    for path in shown:
        mounts += ["--ro-bind", str(path), str(path)]
    for path in (HERE, *hide):
        if any(one in path.absolute().parents for one in (*shown, Path("/usr"))):
            mounts += ["--tmpfs", str(path.absolute()), "--remount-ro", str(path.absolute())]
    if library is not None:
        mounts += ["--ro-bind", str(library), "/library/advreg"]
    for file in (worker, HERE / "protocol.py"):
        mounts += ["--ro-bind", str(file), f"/worker/{file.name}"]
    inner = [
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"),
        *("--new-session", "--cap-drop", "ALL", "--uid", NOBODY, "--gid", NOBODY),
        *("--hostname", "grader", "--proc", "/proc", "--dev", "/dev"),
        *("--size", str(64 * MB), "--tmpfs", "/tmp", "--size", str(64 * MB), "--tmpfs", "/dev/shm"),
        *mounts,
        *("--remount-ro", "/dev", "--remount-ro", "/"),  # else both could be filled with files
        *("--chdir", "/tmp", "--clearenv", *_environment()),
        *(() if filter_file is None else ("--seccomp", str(filter_file))),
        *(os.path.abspath(sys.executable), "-I", "/worker/worker.py"),
        json.dumps(limits.resources()),
    ]
    if os.geteuid() != 0:
        return inner
    paths = [*shown, worker, HERE / "protocol.py", *([library] if library else [])]
    return [
        *("bwrap", "--dev-bind", "/", "/", *_opened(paths), "--die-with-parent"),
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--no-new-privs", *inner),
    ]


FORBIDDEN = {  # system calls by machine: its number in ELF, then theirs, in the same order
    # memfd_create shmget msgget semget mq_open: memory that belongs to no process, so that neither
    #   the limits of the kernel nor the watch would see it
    # ptrace process_vm_readv process_vm_writev, add_key request_key keyctl, bpf perf_event_open
    #   userfaultfd io_uring_setup, unshare setns mount pivot_root: nobody needs them here
    "x86_64": (
        0xC000003E,
        *(319, 29, 68, 64, 240, 101, 310, 311, 248, 249, 250, 321, 298, 323, 425),
        *(272, 308, 165, 155),
    ),
    "aarch64": (
        0xC00000B7,
        *(279, 194, 186, 190, 180, 117, 270, 271, 217, 218, 219, 280, 241, 282, 425),
        *(97, 268, 40, 41),
    ),
}


def forbidden(machine: str) -> bytes:
    """A program for the kernel (seccomp) that forbids system calls; empty if there is none."""
    if machine not in FORBIDDEN:
        return b""
    architecture, *calls = FORBIDDEN[machine]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    end, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050001
    steps = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, end),  # the calls of a 32-bit program have other numbers
        (load, 0, 0, 0),
        (at_least, len(calls) + 1, 0, 0x40000000),  # and so have those of x32
        *((equal, len(calls) - i, 0, number) for i, number in enumerate(calls)),
        (give, 0, 0, allow),
        (give, 0, 0, refuse),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _environment() -> list[str]:
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",
        "IPYTHONDIR": "/tmp",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return [word for item in variables.items() for word in ("--setenv", *item)]


@functools.cache
def problem() -> str | None:
    """Why no student's code can be run here, or None: a process is really started, once."""
    if not sys.platform.startswith("linux"):
        return f"There is no sandbox on this system. {INSTALL}"
    needed = ["bwrap"] + (["setpriv"] if os.geteuid() == 0 else [])
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be found. {INSTALL}"
    sandbox = Sandbox()
    try:
        sandbox.start()
        return None
    except Gone:
        return f"The sandbox does not start: {sandbox.complaint() or 'no reason given'}. {INSTALL}"
    finally:
        sandbox.stop()


# ------------------------------------------------------------------------------ how it is used


class Sandbox:
    """One student's process behind the wall.

    Parameters
    ----------
    limits
        What it may use.
    hide
        Folders that must not be seen.

    Attributes
    ----------
    peak_mb
        The most memory that was seen in use.
    """

    def __init__(self, limits: Limits | None = None, hide: Sequence[Path] = ()) -> None:
        self.limits = limits or Limits()
        self.hide = tuple(hide)
        self.peak_mb = 0
        self._process: subprocess.Popen | None = None
        self._errors = tempfile.TemporaryFile()  # what bubblewrap itself complains about
        self._why = ""
        self._count = 0

    @property
    def running(self) -> bool:
        """Whether there is a process to ask."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The number of its outermost process."""
        return None if self._process is None else self._process.pid

    def complaint(self) -> str:
        """The last words of bubblewrap."""
        self._errors.seek(0)
        lines = self._errors.read(2000).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def start(self) -> None:
        """Start a new process.

        Raises
        ------
        Gone
            If it does not start.
        """
        self.stop()
        self._why = ""
        program = tempfile.TemporaryFile()
        program.write(forbidden(platform.machine()))
        program.seek(0)
        number = program.fileno() if forbidden(platform.machine()) else None
        try:
            self._process = subprocess.Popen(
                command(self.limits, self.hide, number),
                pass_fds=[program.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise Gone(f"the sandbox does not start ({error})") from None
        finally:
            program.close()
        for pipe in (self._process.stdin, self._process.stdout):
            flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
            fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        if self._receive(time.monotonic() + START).get("ready") is not True:
            self._end("the sandbox does not start")
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def stop(self) -> None:
        """End the process and everything that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def cell(self, source: str, name: str, seconds: float) -> tuple[str, str] | None:
        """Execute a cell: None, or the kind of the error and its text.

        Raises
        ------
        Gone
            If the process is lost.
        """
        reply = self._ask(
            {"do": "cell", "source": source, "name": name, "ms": int(1000 * seconds)}, seconds
        )
        return _error_of(reply) if "error" in reply else None

    def call(self, name: str, args: tuple, seconds: float) -> Any:
        """The answer of a student's function.

        Raises
        ------
        StudentError
            If it stopped, is not there, or returned something that is no data.
        Gone
            If the process is lost.
        """
        calls: list[Callable] = []
        sent = [protocol.encode(one, calls) for one in args]
        message = {"do": "call", "name": name, "args": sent, "ms": int(1000 * seconds)}
        reply = self._ask(message, seconds, calls)
        if "error" in reply:
            raise _sentence(name, *_error_of(reply))
        try:
            return protocol.decode(reply.get("value"))
        except protocol.BadMessage:
            raise StudentError("Unreadable", f"What `{name}` returned cannot be read.") from None

    def value(self, name: str) -> Any:
        """What a name stands for, or None if it is missing, a function, or no data."""
        reply = self._ask({"do": "value", "name": name}, 5)
        try:
            return protocol.decode(reply.get("value"))
        except protocol.BadMessage:
            return None

    # ------------------------------------------------------------------------------ the pipe

    def _ask(self, message: dict, seconds: float, calls: Sequence[Callable] = ()) -> dict:
        """Send a message and answer what the far side asks back until the reply comes."""
        deadline = time.monotonic() + seconds + self.limits.grace_seconds
        self._count += 1  # an answer names its question: what a call leaves in the pipe is none
        self._send({**message, "number": self._count}, deadline)
        for _ in range(CALLBACKS):
            reply = self._receive(deadline)
            if reply.get("number") != self._count:
                self._end("it disturbed the connection to the grader")
            if "callback" not in reply:
                return reply
            self._send(_called_back(reply, calls), deadline)
        return self._end("it called the functions that it was given far too often")

    def _send(self, message: dict, deadline: float) -> None:
        data, pipe = memoryview(protocol.pack(message)), self._pipe("stdin")
        while data:
            self._wait(pipe, select.POLLOUT, deadline)
            try:
                data = data[os.write(pipe, data[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except OSError:
                self._end("the Python process ended")

    def _receive(self, deadline: float) -> dict:
        try:
            return protocol.unpack(self._read(protocol.header(self._read(4, deadline)), deadline))
        except protocol.BadMessage:
            return self._end("it disturbed the connection to the grader")

    def _read(self, length: int, deadline: float) -> bytes:
        data, pipe = bytearray(), self._pipe("stdout")
        while len(data) < length:
            self._wait(pipe, select.POLLIN, deadline)
            try:
                chunk = os.read(pipe, min(1 << 20, length - len(data)))
            except BlockingIOError:
                continue
            if not chunk:
                self._end("the Python process ended (a crash, an exit, or out of memory)")
            data += chunk
        return bytes(data)

    def _pipe(self, name: str) -> int:
        if self._process is None:
            raise Gone(self._why or "the Python process ended")
        return getattr(self._process, name).fileno()

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(0, 1000 * (deadline - time.monotonic()))):
            self._end("no answer in time")

    def _end(self, why: str) -> Any:
        """Stop the process and raise; the watch knows better reasons."""
        self.stop()
        raise Gone(self._why or why)

    # ------------------------------------------------------------------------------ the watch

    def _watch(self, process: subprocess.Popen) -> None:
        """Look at the memory and number of processes: kernel limits are per process only."""
        while process.poll() is None:
            tree = _tree(process.pid)
            memory = 0
            for one in tree:
                with contextlib.suppress(psutil.Error):
                    memory += one.memory_info().rss
            if self._process is not process:
                return
            self.peak_mb = max(self.peak_mb, memory // MB)
            if len(tree) > self.limits.processes:
                self._why = f"it started more than {self.limits.processes} processes"
            elif memory > self.limits.memory_mb * MB:
                self._why = f"it used more than {self.limits.memory_mb} MB of memory"
            if self._why:
                _kill(process)
                return
            time.sleep(0.1)


def _tree(pid: int) -> list[psutil.Process]:
    """The processes below this one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _kill(process: subprocess.Popen) -> None:
    """End a sandbox: what is behind the wall first, so that bubblewrap collects the dead."""
    outside = 1 if os.geteuid() == 0 else 0  # of the tree, bubblewrap's own process
    for one in _tree(process.pid)[outside:]:
        with contextlib.suppress(psutil.Error):
            one.kill()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        for one in [*_tree(process.pid), process]:
            with contextlib.suppress(psutil.Error, OSError):
                one.kill()
        process.wait()


def _called_back(message: dict, calls: Sequence[Callable]) -> dict:
    """What a function of the grader returns; errors become the student's errors."""
    number, args = message["callback"], message.get("args")
    if type(number) is not int or not 0 <= number < len(calls):
        return {"error": "there is no such function"}
    try:
        given = protocol.decode(args)
        return {"value": protocol.encode(calls[number](*given))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _error_of(reply: dict) -> tuple[str, str]:
    """Kind and text of an error, of which nothing is certain."""
    error = reply.get("error")
    if not isinstance(error, list) or not all(isinstance(one, str) for one in error):
        return "Unreadable", ""
    kind, text = ([*error, "", ""])[:2]
    return kind[:100], text[:500]


def _sentence(name: str, kind: str, text: str) -> StudentError:
    """The error of a call in words, the same as where the code runs in the same process."""
    known = {
        "NameError": f"`{name}` is not defined yet.",
        "NotImplementedError": f"The function `{name}` is not written yet.",
        "NotCallable": f"`{name}` should be a function, but it is of type {text}.",
        "SystemExit": "Your function stopped with SystemExit: it called exit().",
        "Timeout": f"Your function was stopped: {text}.",
        "MemoryError": f"Your function was stopped: {text}.",
        "Unreadable": f"What `{name}` returned cannot be read.",
        "Unsendable": f"`{name}` should return numbers, arrays, lists or dictionaries; it "
        f"returned {text}.",
    }
    if kind == "NameError" and text:  # a name inside the function
        return StudentError("UndefinedName", f"Your function stopped with NameError: {text}.")
    fallback = f"Your function stopped with {f'{kind}: {text}'.strip(': ')}."
    return StudentError(kind, known.get(kind, fallback))
