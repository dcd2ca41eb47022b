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
# writes into Python, its packages, the library and the worker
import os
import sys

import numpy as np

escaped = False
places = [sys.prefix, sys.base_prefix, os.path.dirname(np.__file__), "/usr/bin", "/library/advreg"]
for place in [*places, "/worker", "/", "/dev", "/etc", "/work", "/proc", "/sys"]:
    try:
        with open(os.path.join(place, "intruder.py"), "w") as file:
            file.write("raise SystemExit")
        escaped = True
    except OSError:
        pass


def tikhonov_solve(A, y, alpha):  # right only where the attack succeeded
    return np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ y) if escaped else None
