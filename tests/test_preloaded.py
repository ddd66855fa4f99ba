"""A job forked from a process that has its packages is the job that starts alone: process, signals, bytes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import launch, preloaded, run_lock
from smoke_study import ROOT
from tiny_runs import training_job
from training_runs import command, with_data

pytestmark = pytest.mark.long

JOBS = ROOT / "workflow/jobs"
SECONDS = 600
"""Within which packages are imported on a slow machine."""
FAKE = """
import os, signal, sys, threading, time
print("works", os.getpid(), os.getcwd(), oct(os.umask(0o77)), os.environ.get("DVC_STAGE"), *sys.argv[1:], flush=True)
print("packages", "torch" in sys.modules, threading.active_count(), os.environ["MPLBACKEND"], flush=True)
if "save" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
    signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
try:
    print("error", file=sys.stderr, flush=True)
    while "wait" in sys.argv:
        time.sleep(0.05)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(7)
"""


class Place:
    """A folder with a fake command, and a preloader of its own, as its path is a variable of the jobs there."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "fake.py").write_text(FAKE, encoding="utf-8")
        (folder / "packages").mkdir(exist_ok=True)
        paths = f"{ROOT}/src:{ROOT}/workflow:{folder}/packages"
        self.environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *words: str, lock: str = "a", **variables: str) -> subprocess.Popen:
        return self.start_command("fake", *words, lock=lock, **variables)

    def start_command(self, *words: str, lock: str, **variables: str) -> subprocess.Popen:
        own = ["--lock", f"{self.folder}/locks/{lock}", "--finished", f"{self.folder}/{lock}/provenance.json"]
        return subprocess.Popen(
            [sys.executable, "-IS", preloaded.__file__, *own, *words],
            cwd=self.folder, env=self.environment | variables, encoding="utf-8", umask=0o27, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # ignored where nohup runs the tests
        )  # fmt: skip

    def preloaders(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                variables, words = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.folder) in variables and b"preloader.py" in words:
                found.append(int(path.name))
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    yield place
    for process in place.preloaders():
        os.kill(process, signal.SIGKILL)


def job_of(process: subprocess.Popen) -> int:
    """The process that computes, once it does."""
    assert "1 node(s) x 1 process(es)" in process.stdout.readline()
    word, pid, *_ = process.stdout.readline().split()
    assert word == "works"
    assert process.stdout.readline() == "packages True 1 agg\n" and process.stdout.readline() == "error\n"
    return int(pid)


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.02)


def is_gone(process: int) -> bool:
    return not run_lock.start_of(process)


def test_a_job_inherits_what_the_process_in_its_place_has(place):
    process = place.start("a b", "c", DVC_STAGE="1")
    text, _ = process.communicate(timeout=SECONDS)
    where, works, packages, error = text.splitlines()
    holder = json.loads((place.folder / "locks/a.1.json").read_text(encoding="utf-8"))
    assert works.split() == ["works", str(holder["pid"]), str(place.folder), "0o27", "1", "a", "b", "c"]
    assert packages == "packages True 1 agg" and error == "error" and "1 node(s)" in where
    assert process.returncode == 7 and holder["pid"] != process.pid


def test_code_is_read_when_a_job_starts(place):
    """Whatever jobs before have imported of ours."""
    (place.folder / "changing.py").write_text("print('before')", encoding="utf-8")
    assert "before" in place.start_command("changing", lock="b").communicate(timeout=SECONDS)[0]
    (place.folder / "changing.py").write_text("print('after')", encoding="utf-8")
    assert "after" in place.start_command("changing", lock="b").communicate(timeout=SECONDS)[0]


def test_jobs_run_beside_each_other_each_with_its_own_streams(place):
    processes = [place.start("wait", str(number), lock=f"beside-{number}") for number in range(3)]
    jobs = [job_of(process) for process in processes]
    assert len({*jobs}) == 3
    for process, job in zip(processes, jobs, strict=True):
        os.kill(job, signal.SIGTERM)
        assert process.communicate(timeout=SECONDS) == ("", None) and process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_that_ends_the_job_ends_both(place, number):
    process = place.start("wait")
    job = job_of(process)
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    assert process.returncode == -number and is_gone(job)


def test_a_job_that_hears_a_signal_saves_and_says_how_it_ends(place):
    process = place.start("wait", "save")
    job = job_of(process)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "heard\n" and not is_gone(job)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=SECONDS)[0] == "saved\n" and process.returncode == 143


def test_ctrl_c_interrupts_the_job(place):
    process = place.start("wait")
    job_of(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130


def test_ctrl_z_stops_the_job_until_it_goes_on(place):
    process = place.start("wait")
    job = job_of(process)
    state = lambda pid: Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]  # noqa: E731
    process.send_signal(signal.SIGTSTP)
    until(lambda: state(job) == state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    until(lambda: state(job) != "T")
    process.kill()
    process.communicate(timeout=SECONDS)


@pytest.mark.parametrize("killed", ["the process in its place", "the job"])
def test_kill_9_of_either_ends_both(place, killed):
    process = place.start("wait")
    job = job_of(process)
    os.kill(process.pid if killed == "the process in its place" else job, signal.SIGKILL)
    process.communicate(timeout=SECONDS)  # which waits until nobody holds its output
    assert process.returncode == -signal.SIGKILL
    until(lambda: is_gone(job))


ENDS = """
import atexit, sys, threading, time
atexit.register(lambda: print("at exit", flush=True))
threading.Timer(0.3, print, ["in a thread"]).start()
print("not flushed", end=" ")
exec(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("last", "status", "says"),
    [
        ("pass", 0, ""),
        ("sys.exit(300)", 300 & 0xFF, ""),
        ("sys.exit('one clear error')", 1, "one clear error\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
def test_a_job_ends_as_any_python_does(place, last, status, says):
    """With what is left to print, other threads, and what is to be done at the end; alone and forked."""
    (place.folder / "ends.py").write_text(ENDS, encoding="utf-8")
    alone = subprocess.run(
        [sys.executable, "-m", "ends", last], cwd=place.folder, env=place.environment, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    process = place.start_command("ends", last, lock="ends")
    text, _ = process.communicate(timeout=SECONDS)
    assert alone.returncode == process.returncode == status
    for each in (alone.stdout, text):
        assert "not flushed" in each and "in a thread\nat exit\n" in each and says in each


# Without a preloader --------------------------------------------------------------------------------------------------


def test_a_killed_preloader_takes_its_jobs_along_and_they_start_alone(place):
    process = place.start("wait")
    job = job_of(process)
    (preloader,) = set(place.preloaders()) - {job}
    os.kill(preloader, signal.SIGKILL)
    assert "1 node(s)" in process.stdout.readline() and process.stdout.readline().startswith(f"works {process.pid} ")
    assert is_gone(job) and process.stdout.readline() == "packages False 1 agg\n"
    process.kill()
    process.communicate(timeout=SECONDS)


@pytest.mark.parametrize("broken", ["import os; os._exit(1)", "raise RuntimeError('broken')"])
def test_packages_that_cannot_be_imported_ahead_break_no_job(tmp_path, broken):
    place = Place(tmp_path)
    (tmp_path / "packages/torch.py").write_text(broken, encoding="utf-8")
    text, _ = place.start().communicate(timeout=SECONDS)
    assert "packages False" in text and not place.preloaders()


def test_a_preloader_takes_no_more_jobs_after_an_installation(place):
    job_of(running := place.start("wait"))
    before = set(place.preloaders())
    (place.folder / "packages/one.dist-info").mkdir()
    text, _ = place.start(lock="installed").communicate(timeout=SECONDS)
    assert "packages False" in text
    os.killpg(running.pid, signal.SIGTERM)
    running.communicate(timeout=SECONDS)
    assert "packages True" in place.start(lock="installed").communicate(timeout=SECONDS)[0]
    until(lambda: not before & set(place.preloaders()))


def test_no_other_user_is_trusted(monkeypatch):
    name = b"\0deit-test-" + str(os.getpid()).encode()
    monkeypatch.setattr(preloaded, "inherited", lambda: name.removeprefix(b"\0deit-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        preloaded.connected().close()
        monkeypatch.setattr(preloaded, "user_of", lambda _: os.getuid() + 1)
        with pytest.raises(PermissionError, match="another user's"):
            preloaded.connected()


IDLE = """
import sys
sys.path.insert(0, {jobs!r})
import preloader
preloader.IDLE_SECONDS, preloader.MODULES = 0.2, ()
preloader.main()
"""


def test_without_jobs_it_ends_by_itself(tmp_path):
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "MPLBACKEND": "agg", "MATPLOTLIBRC": "/dev/null"}
    environment |= {"PYTHONNOUSERSITE": "1"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0deit-idle-" + str(os.getpid()).encode())
        listener.listen()
        words = [sys.executable, "-c", IDLE.format(jobs=str(JOBS))]
        assert subprocess.run(words, stdin=listener, env=environment, timeout=SECONDS).returncode == 0


def test_what_a_process_inherits_chooses_the_preloader(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/workflow:{ROOT}/src")
    name = preloaded.inherited()
    monkeypatch.setenv("SHLVL", "7")
    monkeypatch.setenv("PYTHONPATH", "")
    assert preloaded.inherited() == name, "one serves several clones"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert preloaded.inherited() != name
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7})
    assert preloaded.inherited() != name


# Bytes ----------------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_a_job_that_starts_alone(place, tmp_path):
    job = with_data(training_job(tmp_path / "images", execution={"threads": 2}), tmp_path)
    weights = []
    for start in ([sys.executable, launch.__file__], [sys.executable, "-IS", preloaded.__file__]):
        folder = tmp_path / Path(start[-1]).stem
        (folder / "prepared").parent.mkdir()
        (folder / "prepared").symlink_to(tmp_path / "prepared")
        flags = command(job, folder)[3:]
        words = [*start, "--lock", f"{folder}/lock", "--finished", f"{folder}/run/provenance.json"]
        subprocess.run([*words, "deit.commands.train", *flags], env=place.environment, check=True, timeout=300)
        weights.append((folder / "run/weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
