"""Prepares a child process, then executes the server: `launcher.py JSON PROGRAM [ARGUMENT …]`.

A separate file for an isolated interpreter, because code between fork and exec
(`preexec_fn`) is unsafe in a process with threads. It uses only the standard library.
"""

import ctypes
import json
import os
import sys

PR_SET_PDEATHSIG = 1


def become(settings: dict[str, int], command: list[str]) -> None:
    if "uid" in settings:
        os.setgroups([])
        os.setgid(settings["gid"])
        os.setuid(settings["uid"])
    if sys.platform == "linux":
        # After setuid, which clears it. Survives exec.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, settings["signal"], 0, 0, 0)
    if os.getppid() != settings["parent"]:
        sys.exit(f"{command[0]}: not started, the parent is gone")
    os.execv(command[0], command)  # noqa: S606 (no shell is what we want)


if __name__ == "__main__":
    try:
        become(json.loads(sys.argv[1]), sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")
