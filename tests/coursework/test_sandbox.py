"""The wall: what is behind it, what it keeps out, and what is left when it is taken down."""

from __future__ import annotations

import ast
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from bank import BANK, QUICK, Namespaces

from advreg.operators import MatrixOperator, PeriodicBlur
from coursework import sandbox
from coursework.checks import StudentError
from coursework.sandbox import Gone, Limits, Sandbox

pytestmark = pytest.mark.usefixtures("wall")


@pytest.fixture
def box(namespaces: Namespaces) -> Iterator[Sandbox]:
    """A sandbox that leaves nothing behind."""
    one = Sandbox(QUICK)
    one.start()
    assert namespaces.held
    yield one
    one.stop()


def run(box: Sandbox, source: str) -> tuple[str, str] | None:
    return box.cell(source, "cell", 20)


def test_numbers_go_in_and_come_out(box: Sandbox) -> None:
    assert (
        run(box, "import numpy as np\ndef f(a, b, g):\n    return {'sum': a + b, 'g': g(a)}")
        is None
    )
    got = box.call("f", (np.arange(3), 2.0, np.square), 5)
    np.testing.assert_array_equal(got["sum"], [2, 3, 4])
    np.testing.assert_array_equal(got["g"], [0, 1, 4])


def test_operators_and_models_go_in(box: Sandbox) -> None:
    import torch

    assert (
        run(box, "def f(op, y):\n    return op.adjoint(y)\ndef h(m, x):\n    return m(x)") is None
    )
    a = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(box.call("f", (MatrixOperator(a), np.ones(3)), 20), a.sum(0))
    blur = PeriodicBlur(np.array([0.5, 0.25, 0.0, 0.25]))
    np.testing.assert_array_equal(box.call("f", (blur, np.eye(4)[0]), 20), blur.kernel)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    x = torch.ones(4, 3)
    assert torch.allclose(box.call("h", (model, x), 20), model(x))


def test_errors_have_the_words_of_the_same_process(box: Sandbox) -> None:
    from coursework.checks import Answers

    source = """
def todo(): raise NotImplementedError
def wrong(): return 1 / 0
def leaves(): raise SystemExit
"""
    names: dict = {}
    exec(source, names)
    assert run(box, source) is None
    for name in ("todo", "wrong", "missing"):
        with pytest.raises(StudentError) as here:
            Answers(names).call(name, ())
        with pytest.raises(StudentError) as there:
            box.call(name, (), 5)
        assert str(there.value) == str(here.value)
        assert there.value.kind == here.value.kind
    with pytest.raises(StudentError, match="SystemExit"):
        box.call("leaves", (), 5)
    run(box, "number = 3\ndef inner(): return not_there")
    with pytest.raises(StudentError, match="should be a function"):
        box.call("number", (), 5)
    with pytest.raises(StudentError) as inner:
        box.call("inner", (), 5)
    assert inner.value.kind != "NameError"  # written, but broken


def test_an_error_of_a_function_that_was_passed_is_the_students(box: Sandbox) -> None:
    source = """
def f(g):
    try:
        return g("text")
    except ValueError as error:
        return str(error)
"""
    assert run(box, source) is None
    assert "TypeError" in box.call("f", (lambda a: a + 1,), 5)


def test_values(box: Sandbox) -> None:
    run(box, "a = {'t': 0.5}\ndef f(): pass\nb = object()\nc = [1, (2, 'x')]")
    assert [box.value(name) for name in "afbcz"] == [{"t": 0.5}, None, None, [1, (2, "x")], None]


def test_the_notebooks_own_syntax(box: Sandbox) -> None:
    assert run(box, "%matplotlib inline\n!echo hello\nx = 1\n%time y = x + 1") is None
    assert box.value("y") == 2
    assert run(box, "%%time\nz = 3") is None
    assert box.value("z") == 3
    assert run(box, "from __future__ import annotations\nassert __name__ == '__main__'") is None
    assert run(box, "def f(:")[0] == "SyntaxError"


def test_the_library_is_there_and_the_checks_are_not(box: Sandbox) -> None:
    assert run(box, "import advreg.operators, advreg.spectral, protocol") is None
    for name in ("coursework", "coursework.checks", "checks_public", "checks_hidden"):
        assert run(box, f"import {name}")[0] == "ModuleNotFoundError"
    package = str(sandbox.HERE / "checks.py")
    assert run(box, f"open({package!r})")[0] == "FileNotFoundError"
    assert run(box, f"open({str(BANK / 'expected.toml')!r})")[0] == "FileNotFoundError"


def test_a_folder_is_hidden_even_below_one_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the book is installed into the environment that runs it."""
    shown = Path(sys.prefix) / "bin"
    one = Sandbox(QUICK, [shown])
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).resolve()))
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(one.stop)
        one.start()
        assert run(one, f"import os; assert os.listdir({str(shown)!r}) == []") is None
        assert run(one, f"open({str(shown / 'x')!r}, 'w')")[0] == "OSError"


def test_the_process_is_nobody_on_the_outside_too(box: Sandbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("the grader is an ordinary user, and so are its children")
    for one in psutil.Process(box._process.pid).children(recursive=True):
        assert set(one.uids()) == {65534}
        assert set(one.gids()) == {65534}


def test_a_listening_port_of_the_machine_is_unreachable(box: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=2).close()  # it is reachable here
        source = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1)"
        assert run(box, source)[0] in ("ConnectionRefusedError", "OSError")


def test_nothing_of_the_grader_is_inherited(box: Sandbox) -> None:
    os.environ["COURSEWORK_SECRET"] = "secret"
    try:
        box.start()
    finally:
        del os.environ["COURSEWORK_SECRET"]
    source = """
import os
assert "secret" not in str(os.environ) + open("/proc/self/environ").read()
assert "secret" not in open("/proc/1/environ").read()
files = []
for number in os.listdir("/proc/self/fd"):
    try:
        files.append(os.readlink(f"/proc/self/fd/{number}"))
    except FileNotFoundError:  # the list itself
        pass
assert all(f.startswith("pipe:") or f == "/dev/null" for f in files), files
assert len(files) == 5, files
assert os.sched_getaffinity(0) and os.getuid() == 65534 and os.getgroups() in ([], [65534])
status = open("/proc/self/status").read()
assert "CapEff:\\t0000000000000000" in status and "CapBnd:\\t0000000000000000" in status
assert "NoNewPrivs:\\t1" in status and "Seccomp:\\t2" in status
"""
    assert run(box, source) is None


@pytest.mark.parametrize("calls", ["memfd_create", "shmget", "ptrace", "unshare"])
def test_forbidden_system_calls(box: Sandbox, calls: str) -> None:
    arguments = {"memfd_create": "b'x', 0", "shmget": "0, 4096, 0o1600", "ptrace": "0, 0, 0, 0"}
    source = (
        f"import ctypes\nc = ctypes.CDLL(None)\nassert c.{calls}({arguments.get(calls, 0)}) == -1"
    )
    assert run(box, source) is None


def test_the_filter_is_a_program_of_whole_instructions() -> None:
    for machine in sandbox.FORBIDDEN:
        program = sandbox.forbidden(machine)
        assert len(program) % 8 == 0
        assert len(program) // 8 == len(sandbox.FORBIDDEN[machine]) - 1 + 7
    assert len({len(numbers) for numbers in sandbox.FORBIDDEN.values()}) == 1
    assert sandbox.forbidden("unknown") == b""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os._exit(3)", "ended"),
        ("import ctypes; ctypes.string_at(0)", "ended"),
        (
            "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
            "in time",
        ),
        ("import itertools; any(itertools.repeat(False))", "in time"),
        ("x = []\nwhile True: x.append(b'x' * (20 << 20))", "MB of memory"),
    ],
)
def test_a_lost_process_has_a_reason_and_can_be_started_again(
    box: Sandbox, source: str, reason: str
) -> None:
    with pytest.raises(Gone, match=reason):
        box.cell(source, "cell", 20 if "memory" in reason else 0.5)
    assert not box.running
    with pytest.raises(Gone):
        box.cell("1", "cell", 1)
    box.start()
    assert run(box, "1") is None


def test_too_many_processes(namespaces: Namespaces) -> None:
    one = Sandbox(Limits(processes=8))
    one.start()
    source = "import os, time\nfor _ in range(20): os.fork() or time.sleep(99)\ntime.sleep(20)"
    with pytest.raises(Gone, match="8 processes"):
        one.cell(source, "cell", 10)
    assert not one.running


def test_the_sandbox_ends_with_the_grader() -> None:
    """A grader that is killed leaves no student's process behind."""
    code = """
import sys, time
from coursework.sandbox import Sandbox
one = Sandbox()
one.start()
print(one.pid, flush=True)
time.sleep(100)
"""
    grader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    seen = Namespaces()
    seen.hold(int(grader.stdout.readline()))
    grader.kill()
    grader.wait()
    grader.stdout.close()
    assert seen.held
    found = seen.survivors()
    seen.close()
    assert found == []


def test_starting_takes_little_time(box: Sandbox) -> None:
    started = time.process_time()
    for _ in range(3):
        box.start()
    assert time.process_time() - started < 1.5  # of the grader; much less in fact


def test_why_there_is_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = sandbox.problem.__wrapped__
    assert problem() is None
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    assert "bwrap" in problem()
    assert "apt install bubblewrap" in problem()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "WSL2" in problem()
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "command", lambda *_: ["bwrap", "--no-such-option"])
    assert "no-such-option" in problem()
    monkeypatch.setattr(sandbox, "command", lambda *_: ["/no/such/program"])
    assert "does not start" in problem()


def test_closed_folders_above_what_is_shown_are_emptied() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder) / "closed"
        inner = closed / "a" / "python"
        inner.mkdir(parents=True)
        closed.chmod(0o700)
        assert sandbox._opened([inner, Path("/usr")]) == [
            *("--perms", "0755", "--tmpfs", str(closed)),
            *("--perms", "0755", "--dir", str(closed / "a")),
            *("--ro-bind", str(inner), str(inner)),
        ]


# ------------------------------------------------------------------- the bank guards itself

HOSTILE = sorted((BANK / "hostile").glob("*.py"))


def test_every_hostile_file_begins_with_the_same_guard(tmp_path: Path) -> None:
    """And outside of the sandbox none of them does anything."""
    guards = {ast.unparse(ast.parse(file.read_text()).body[0]) for file in HOSTILE}
    assert len(HOSTILE) >= 60
    assert len(guards) == 1
    (guard,) = guards
    tree = ast.parse(guard).body[0]
    assert isinstance(tree, ast.If)
    assert isinstance(tree.body[0], ast.Raise)
    for word in ("getuid", "Uid:", "/proc/1/comm", "/worker/worker.py", "/etc/passwd", "pyproject"):
        assert word in guard
    for file in HOSTILE:
        command = [sys.executable, "-I", "-S", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=20)
        assert done.returncode != 0, file.name
        assert "only the sandbox may run it" in done.stderr, file.name
        assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_page_says_what_the_limits_are():
    page = (Path(__file__).parents[2] / "chapters" / "appendix" / "grading.md").read_text("utf-8")
    limits = Limits()
    times = (limits.cell_seconds, limits.call_seconds, limits.total_seconds)
    assert "Cells have {:g} seconds, calls {:g}, a submission {:g};".format(*times) in page
    memory, count = limits.memory_mb / 1000, limits.processes
    assert f"the whole tree of processes has {memory:g} GB and {count} processes" in page
    assert "64 MB of scratch space" in page and str(64 * sandbox.MB) in sandbox.command(limits)
