"""launch.py in a process that has torch, timm and the packages of tables imported already: a job starts in no time.

    python -IS workflow/jobs/preloaded.py ARGUMENTS_OF_LAUNCH.PY

To import them takes seconds of CPU, of which a job of a small study is made. So one process (preloader.py) imports them
once and is forked for each job. This one stands for the job where that was started: it hands over its working folder,
variables and standard streams, passes on the signals that it hears, and ends as the job does. Where that process cannot
be had, or is ended, launch.py is started in the ordinary way.

The name of its socket is a digest of all that a process inherits and that may count when packages are imported. The
socket is an abstract one, which leaves no file behind; whoever is at its other end must be the same user.
"""

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from marshal import dumps
from pathlib import Path
from typing import NoReturn

FOLDER = Path(__file__).parent
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
OWN = (b"PWD", b"OLDPWD", b"SHLVL", b"_", b"DVC_STAGE", b"DVC_ROOT", b"COMPUTE_AGAIN")
"""Variables that differ from job to job, and that no package reads when it is imported."""
LENGTH = struct.Struct("=Q")
STATUS = struct.Struct("=i")
"""Of a process, as os.waitpid gives it."""


def main() -> None:
    try:
        preloader = connected()
        hand_over(preloader, sys.argv[1:])
        status = status_of_job(preloader)
    except OSError:
        status = None
    if status is None:
        os.execv(sys.executable, [sys.executable, str(FOLDER / "launch.py"), *sys.argv[1:]])
    end_as(status)


# The preloader --------------------------------------------------------------------------------------------------------


def connected() -> socket.socket:
    """To the process that is forked, which is started where there is none; OSError where that cannot be."""
    name = b"\0deit-" + inherited()
    while True:
        preloader = socket.socket(socket.AF_UNIX)
        try:
            preloader.connect(name)
        except ConnectionRefusedError:
            start(name)
            continue
        if user_of(preloader) != os.getuid():
            raise PermissionError(f"the socket {name!r} is another user's")
        return preloader


def start(name: bytes) -> None:
    """Starts the preloader with its socket as standard input: jobs may connect before it has imported anything."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(name)
        except OSError:  # another job has just started one
            return
        listener.listen(1000)
        words, null = [sys.executable, str(FOLDER / "preloader.py")], subprocess.DEVNULL
        rest = {**os.environb, b"PYTHONPATH": packages_of_others()}
        subprocess.Popen(
            words, env=rest, stdin=listener.fileno(), stdout=null, stderr=null, cwd="/", start_new_session=True
        )


def user_of(connection: socket.socket) -> int:
    """Who stands behind the other end of a connection, as the kernel knows."""
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]


def inherited() -> bytes:
    """A digest of what a process inherits: variables, limits, CPUs, groups, containers, and our own code."""
    variables = {name: value for name, value in os.environb.items() if name not in OWN}
    variables[b"PYTHONPATH"] = packages_of_others()
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid", "user")]
    place = (os.getuid(), os.getgroups(), sorted(os.sched_getaffinity(0)), os.nice(0))
    group = Path("/proc/self/cgroup").read_bytes()
    code = [
        path.read_bytes() for path in (FOLDER / "preloaded.py", FOLDER / "preloader.py", FOLDER / "surroundings.py")
    ]
    everything = (sorted(variables.items()), limits, spaces, place, group, sys.executable, sys.version, code)
    return sha256(repr(everything).encode()).hexdigest().encode()


def packages_of_others() -> bytes:
    """PYTHONPATH without this clone's own folders, as no code of ours is imported before the fork."""
    own = (os.fsencode(FOLDER.parent), os.fsencode(FOLDER.parent.parent / "src"))
    return b":".join(path for path in os.environb.get(b"PYTHONPATH", b"").split(b":") if path not in own)


# The job --------------------------------------------------------------------------------------------------------------


def hand_over(preloader: socket.socket, words: list[str]) -> None:
    """Sends what the job is to inherit from this process."""
    mask = os.umask(0)
    os.umask(mask)
    content = dumps((words, os.getcwdb(), dict(os.environb), mask))
    preloader.sendall(LENGTH.pack(len(content)) + content)
    socket.send_fds(preloader, [b"."], [0, 1, 2])


def status_of_job(preloader: socket.socket) -> int | None:
    """Waits for the end of the job; None where its preloader is gone, and the job with it."""

    def pass_on(number: int, frame: object) -> None:
        try:
            preloader.send(bytes([number]))
        except OSError:  # there is no job to hear it, nor shall there be one
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def stop(number: int, frame: object) -> None:
        """Ctrl-Z, which a terminal says to its own processes alone."""
        preloader.send(bytes([signal.SIGSTOP]))
        os.kill(os.getpid(), signal.SIGSTOP)
        preloader.send(bytes([signal.SIGCONT]))

    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, stop)
    answer = preloader.recv(STATUS.size, socket.MSG_WAITALL)
    return STATUS.unpack(answer)[0] if len(answer) == STATUS.size else None


def end_as(status: int) -> NoReturn:
    """Ends this process by the signal that has ended the job, or with its status, as os.waitpid gives it."""
    if os.WIFSIGNALED(status):
        with suppress(OSError):  # SIGKILL
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
