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
# memory that belongs to no process: shared segments and files without names
import ctypes
import os

import numpy as np

libc = ctypes.CDLL(None)
escaped = libc.shmget(0, 1 << 20, 0o1600) >= 0
try:
    os.memfd_create("hidden")
    escaped = True
except OSError:
    pass


def tikhonov_solve(A, y, alpha):  # right only where the attack succeeded
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y) if escaped else None
