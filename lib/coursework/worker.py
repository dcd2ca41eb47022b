"""The student's process: it runs behind the wall, executes cells, and answers calls.

It is started by :mod:`coursework.sandbox` and knows no checks, no answers, and no scores.  It
speaks to the grader over the pipe that was its standard input and output, in the messages of
:mod:`coursework.protocol`.  Whatever a student's code does to this process, the grader sees only
another wrong answer.
"""

from __future__ import annotations

import io
import json
import linecache
import os
import resource
import signal
import sys
import types

sys.path.insert(0, "/worker")
import protocol

sys.path[0] = "/library"  # advreg; not /worker, so that a student's module may be called `protocol`

OUTPUT = 20_000  # characters of what a cell prints
_exit, _alarm, _on = os._exit, signal.setitimer, signal.signal  # a student may replace them


class TimeIsUp(BaseException):
    """Raised in the student's code; not an Exception, so that few handlers catch it."""


class Printed(io.TextIOBase):
    """Keeps the beginning of what is printed."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Keep the text, or what still fits of it."""
        if self.length < OUTPUT:
            self.parts.append(text[: OUTPUT - self.length])
        self.length += len(text)
        return len(text)

    def text(self) -> str:
        """What was kept."""
        return "".join(self.parts)


class Shell:
    """What ``get_ipython()`` gives: magics do nothing, shell commands are not run."""

    def __init__(self, names: dict) -> None:
        self.user_ns = names
        self.input_transformers_post: list = []
        self.ast_transformers: list = []

    def run_line_magic(self, name: str, line: str, **_: object) -> None:
        """``%time`` runs its statement, other magics do nothing."""
        if name == "time":
            exec(compile(line, "<time>", "exec", dont_inherit=True), self.user_ns)

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """Magics that only watch a cell let it run; one in another language does not run."""
        if name in ("time", "timeit", "capture", "prun"):
            exec(compile(transformed(cell), f"<{name}>", "exec", dont_inherit=True), self.user_ns)
        else:
            print(f"[a cell that begins with %%{name} is not run by the grader]")

    def system(self, _: str) -> None:
        """Say that it is not done."""
        print("[shell commands are not run by the grader]")

    def getoutput(self, _: str, **__: object) -> list:
        """Nothing."""
        self.system(_)
        return []


def transformed(source: str) -> str:
    """The cell as Python: magics and ``!`` become calls of `get_ipython`."""
    if not any(mark in source for mark in "%!?"):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def guarded(function, seconds: float) -> tuple[bool, object]:
    """Whether it finished, and what it returned or ``[kind, text]``."""

    def alarm(*_: object) -> None:
        raise TimeIsUp

    try:
        _on(signal.SIGALRM, alarm)
        _alarm(signal.ITIMER_REAL, seconds)
        return True, function()
    except TimeIsUp:
        return False, ["Timeout", f"it did not finish within {seconds:g} s"]
    except MemoryError:
        return False, ["MemoryError", "it asked for more memory than the grader allows"]
    except protocol.Unsendable as error:
        return False, ["Unsendable", str(error)[:500]]
    except BaseException as error:
        return False, [str(type(error).__name__)[:100], text_of(error)]
    finally:
        _alarm(signal.ITIMER_REAL, 0)


def text_of(error: BaseException) -> str:
    """The message of an error, whose own method may fail."""
    try:
        return str(str(error))[:500]
    except BaseException:
        return ""


class Worker:
    """Answers the grader's messages until the pipe ends."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.number = 0  # of the question that is being answered
        self.main = types.ModuleType("__main__")
        self.names = self.main.__dict__
        shell = Shell(self.names)
        self.names.update(
            get_ipython=lambda: shell,
            display=print,
            check=lambda *_: None,
            progress=lambda *_: None,
        )
        sys.modules["__main__"] = self.main

    def read(self, length: int, os_read=os.read) -> bytes:
        """So many bytes; the process ends where the pipe does."""
        data = bytearray()
        while len(data) < length:
            chunk = os_read(self.source, min(1 << 20, length - len(data)))
            if not chunk:
                _exit(0)
            data += chunk
        return bytes(data)

    def receive(self) -> dict:
        """The next message of the grader."""
        return protocol.unpack(self.read(protocol.header(self.read(4))))

    def send(self, message: dict, os_write=os.write) -> None:
        """Send all of it."""
        data = memoryview(protocol.pack({**message, "number": self.number}))
        while data:
            data = data[os_write(self.target, data) :]

    def callback(self, number: int, args: tuple) -> object:
        """Call a function of the grader."""
        self.send({"callback": number, "args": protocol.encode(args)})
        reply = self.receive()
        if "error" in reply:
            raise ValueError(reply["error"])
        return protocol.decode(reply["value"], self.callback)

    def cell(self, source: str, name: str, ms: int) -> dict:
        """Execute a cell.  Plain exec: a shell that keeps every write would need much memory."""

        def run() -> None:
            code = transformed(source)
            linecache.cache[name] = (len(code), None, code.splitlines(True), name)
            exec(compile(code, name, "exec", dont_inherit=True), self.names)

        return self.quietly(run, ms / 1000)

    def call(self, name: str, args: list, ms: int) -> dict:
        """The answer of a function."""
        function = self.names.get(name)
        if function is None:
            return {"error": ["NameError", ""]}
        if not callable(function):
            return {"error": ["NotCallable", type(function).__name__[:100]]}

        def run() -> object:
            given = [protocol.decode(one, self.callback) for one in args]
            return protocol.encode(function(*given))

        return self.quietly(run, ms / 1000)

    def value(self, name: str) -> dict:
        """What a name stands for; None if that is a function."""
        value = self.names.get(name)
        return self.quietly(lambda: None if callable(value) else protocol.encode(value), 5)

    def quietly(self, function, seconds: float) -> dict:
        """Run it with its output kept."""
        printed, before = Printed(), (sys.stdout, sys.stderr)
        sys.stdout = sys.stderr = printed
        try:
            fine, result = guarded(function, seconds)
        finally:
            sys.stdout, sys.stderr = before
        return {"value" if fine else "error": result, "printed": printed.text()}

    def serve(self) -> None:
        """Answer messages for ever."""
        self.send({"ready": True})
        while True:
            message = self.receive()
            self.number = message.pop("number")
            what = getattr(self, message.pop("do"))
            try:
                self.send(what(**message))
            except protocol.Unsendable as error:
                self.send({"error": ["Unsendable", str(error)]})


def main() -> None:
    """Take the pipe away from standard input and output, set limits, and serve."""
    source, target = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    sys.argv, limits = [""], json.loads(sys.argv[1])
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    Worker(source, target).serve()


if __name__ == "__main__":
    main()
