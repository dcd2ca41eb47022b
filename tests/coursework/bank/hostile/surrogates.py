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
# text that has no encoding


def tikhonov_solve(A, y, alpha):
    return ["\ud800" * 10]
