"""The process that has imported packages and is forked for each job: `python workflow/jobs/preloader.py <&SOCKET`.

It imports packages of others alone, so that a job reads our code as it is then; it starts no thread and looks for no
GPU. It tells each job's end to the process that has asked for it (preloaded.py), ends the job where that process is
gone, and takes its jobs along where it is ended itself. Without jobs it ends after a minute; where packages were
installed or removed meanwhile it takes no more of them.
"""

import atexit
import ctypes
import gc
import os
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from marshal import loads
from typing import NamedTuple

from preloaded import LENGTH, PASSED_ON, STATUS, end_as, user_of  # pyrefly: ignore[missing-import]

IDLE_SECONDS = 60
ASKING_SECONDS = 10
"""Within which a request is there as a whole."""
MODULES = ("torch", "timm", "timm.optim", "torchvision.transforms", "safetensors.torch", "numpy.ctypeslib")
MODULES += ("pydantic.main", "pandas", "pyarrow.parquet", "pyarrow.pandas_compat", "matplotlib.pyplot", "jinja2.ext")
MODULES += ("papermill", "black", "nbconvert.exporters", "IPython.core.interactiveshell", "IPython.lib.lexers")
PR_SET_PDEATHSIG = 1


def main() -> None:
    from surroundings import surroundings  # pyrefly: ignore[missing-import]

    if surroundings(os.environ) != os.environ:  # packages are to see those of a job
        os.execve(sys.executable, [sys.executable, *sys.argv], surroundings(os.environ))
    del sys.path[0]  # this folder
    status: list[int] = []
    atexit.register(end_at_once, status)  # before all others, and so called after them
    preloader = Preloader()
    gc.disable()  # or a third of the time goes into looking for garbage, of which imports leave little
    for name in MODULES:
        with suppress(ImportError):  # the job that needs it says so
            import_module(name)
    gc.freeze()  # a job need not look for garbage in all that
    gc.enable()
    if job := preloader.next_job():
        try:
            job.run()
        except BaseException as error:
            status.append(status_of(error))
            raise
        status.append(0)


def status_of(error: BaseException) -> int:
    """What os.waitpid says of a python that ends with it."""
    if type(error) is KeyboardInterrupt:
        return signal.SIGINT
    code = error.code if isinstance(error, SystemExit) else 1
    return (code if isinstance(code, int) else int(code is not None)) % 256 << 8


def end_at_once(status: list[int]) -> None:
    """Ends a job before python takes leave of each object, which would copy all the memory that a fork shares."""
    if not status:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            if not stream.closed:
                stream.flush()
    except OSError:  # nobody reads it, or the disk is full: python's own end says so
        return
    ctypes.CDLL(None).fflush(None)  # what libraries have printed
    end_as(status[0])


class Job(NamedTuple):
    """What a process is to do, and what it is to inherit from the one that stands for it."""

    words: list[str]
    """Arguments of launch.py."""
    folder: bytes
    variables: dict[bytes, bytes]
    mask: int
    """Of the permissions of new files."""

    def run(self) -> None:
        os.chdir(self.folder)
        os.umask(self.mask)
        os.environ.clear()
        os.environb.update(self.variables)
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # pyrefly: ignore[missing-attribute]
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:] = dict.fromkeys(sys.path)
        from jobs import launch

        sys.argv = [launch.__file__, *self.words]
        launch.main(become)


def become(command: list[str], variables: dict[str, str]) -> None:
    """What os.execvpe does with the words of a python, in this process, which keeps what it has imported."""
    os.environ.clear()
    os.environ.update(variables)
    _, first, *arguments = command
    if first == "-m":
        sys.argv = ["-m", *arguments[1:]]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *arguments]
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        runpy.run_path(first, run_name="__main__")


class Preloader:
    """Waits for requests, for the ends of jobs, and for signals to them."""

    def __init__(self) -> None:
        self.places = {place: changed(place) for place in sys.path}
        self.listener = socket.socket(fileno=os.dup(0))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # or it stayed open behind the listener
        self.ended, self.end = socket.socketpair()  # a byte comes out of the first one when a job ends
        self.jobs: dict[socket.socket, int] = {}
        self.selector = selectors.DefaultSelector()
        for source in (self.listener, self.ended):
            self.selector.register(source, selectors.EVENT_READ)

    def next_job(self) -> Job | None:
        """Returns in the process of each job; and in this one without any, when there has long been none."""
        for end in (self.ended, self.end):
            end.setblocking(False)
        signal.set_wakeup_fd(self.end.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while (ready := self.selector.select(self.patience())) or self.jobs:
            for source in (key.fileobj for key, _ in ready):
                if source is self.ended:
                    self.ended.recv(4096)
                    self.tell_ends()
                elif source in self.jobs:
                    self.pass_on(source)
                elif source is self.listener and (job := self.fork()):
                    return job
        return None

    def patience(self) -> float | None:
        """Seconds to wait for something to do; for the end of a job without limit."""
        if self.jobs:
            return None
        return 0 if self.listener.fileno() < 0 else IDLE_SECONDS

    def fork(self) -> Job | None:
        """Takes a request; gives its job in the new process."""
        if any(changed(place) != before for place, before in self.places.items()):
            self.selector.unregister(self.listener)
            self.listener.close()  # who has asked starts in the ordinary way
            return None
        connection, _ = self.listener.accept()
        try:
            job, streams = received(connection)
            me, process = os.getpid(), os.fork()
        except (OSError, EOFError):  # and the job starts in the ordinary way
            connection.close()
            return None
        if not process:
            self.leave(connection, streams, me)
            return job
        for stream in streams:
            os.close(stream)
        self.jobs[connection] = process
        self.selector.register(connection, selectors.EVENT_READ)
        return None

    def leave(self, connection: socket.socket, streams: list[int], preloader: int) -> None:
        """Makes a new process a job's own."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != preloader:  # which was gone before that
            os._exit(1)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *PASSED_ON):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for own in (self.selector, self.listener, self.ended, self.end, connection, *self.jobs):
            own.close()

    def pass_on(self, connection: socket.socket) -> None:
        """Sends a job the signals that the process which stands for it was sent; kills it where that one is gone."""
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        for number in numbers or [signal.SIGKILL]:
            os.kill(self.jobs[connection], number)
        if not numbers:
            self.selector.unregister(connection)

    def tell_ends(self) -> None:
        """Tells who waits for a job how it has ended."""
        for connection, process in list(self.jobs.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                with suppress(OSError):  # nobody waits
                    connection.sendall(STATUS.pack(status))
                if connection.fileno() in self.selector.get_map():
                    self.selector.unregister(connection)
                connection.close()
                del self.jobs[connection]


def received(connection: socket.socket) -> tuple[Job, list[int]]:
    """A request and the standard streams of its job; EOFError where it is cut, OSError where it is not this user's."""
    if user_of(connection) != os.getuid():
        raise PermissionError("another user asks")
    connection.settimeout(ASKING_SECONDS)
    length = connection.recv(LENGTH.size, socket.MSG_WAITALL)
    content = connection.recv(LENGTH.unpack(length)[0], socket.MSG_WAITALL) if len(length) == LENGTH.size else b""
    job = Job(*loads(content))
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)  # last, so that none is left open of a request that is cut
    if len(streams) < 3:
        raise EOFError
    return job, streams


def changed(place: str) -> int:
    """When a package was last installed into a folder, or removed from it."""
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return 0


if __name__ == "__main__":
    main()
